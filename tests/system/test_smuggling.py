"""Raw-socket probes of the header gate: each is a header that lets two machines disagree about where a request ends, or for whom it is.

    test_smuggling.py BINARY [BUNDLE]
"""
from harness import arguments, Daemon, Suite, statuses

H = b"Host: x\r\n"
J = b"Content-Type: application/json\r\n"
NEXT = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"

# name, bytes, statuses that are right for the FIRST answer; after a refusal nothing may be answered on that connection
REFUSED = [
    ("length and coding", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("coding and length", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + NEXT),
    ("two lengths", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + NEXT),
    ("two equal lengths", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + NEXT),
    ("list of lengths", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 2, 2\r\n\r\n{}" + NEXT),
    ("plus length", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: +2\r\n\r\n{}" + NEXT),
    ("minus length", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: -2\r\n\r\n{}" + NEXT),
    ("hex length", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 0x2\r\n\r\n{}" + NEXT),
    ("huge length", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 99999999999999999999\r\n\r\n{}" + NEXT),
    ("empty length", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length:\r\n\r\n{}" + NEXT),
    ("space before colon", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length : 2\r\n\r\n{}" + NEXT),
    ("tab before colon", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length\t: 2\r\n\r\n{}" + NEXT),
    ("coding with space before colon", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("unknown coding", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: gzip\r\n\r\n{}" + NEXT),
    ("coding list", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("coding twice", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("coding identity then chunked", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("xchunked", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("chunked in 1.0", b"POST /search HTTP/1.0\r\n" + H + J + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT),
    ("two hosts", b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + NEXT),
    ("no host", b"GET /livez HTTP/1.1\r\n\r\n" + NEXT),
    ("empty host", b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n" + NEXT),
    ("host with user", b"GET /livez HTTP/1.1\r\nHost: a@b\r\n\r\n" + NEXT),
    ("host with path", b"GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n" + NEXT),
    ("host with space", b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n" + NEXT),
    ("host with bad port", b"GET /livez HTTP/1.1\r\nHost: a:80x\r\n\r\n" + NEXT),
    ("absolute target", b"GET http://x/livez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("star target", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("connect", b"CONNECT x:80 HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("target with control", b"GET /li\x01vez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("target with high byte", b"GET /li\xffvez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("target with space", b"GET /li vez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("target with fragment", b"GET /livez#x HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("target without slash", b"GET livez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("name no token", b"GET /livez HTTP/1.1\r\n" + H + b"A(b): c\r\n\r\n" + NEXT),
    ("name with space", b"GET /livez HTTP/1.1\r\n" + H + b"A b: c\r\n\r\n" + NEXT),
    ("name with control", b"GET /livez HTTP/1.1\r\n" + H + b"A\x02b: c\r\n\r\n" + NEXT),
    ("value with control", b"GET /livez HTTP/1.1\r\n" + H + b"A: c\x07d\r\n\r\n" + NEXT),
    ("value with delete", b"GET /livez HTTP/1.1\r\n" + H + b"A: c\x7fd\r\n\r\n" + NEXT),
    ("method no token", b"G(T /livez HTTP/1.1\r\n" + H + b"\r\n" + NEXT),
    ("version 2.0", b"GET /livez HTTP/2.0\r\n" + H + b"\r\n" + NEXT),
    ("version 1.2", b"GET /livez HTTP/1.2\r\n" + H + b"\r\n" + NEXT),
    ("lower version", b"GET /livez http/1.1\r\n" + H + b"\r\n" + NEXT),
    ("bad chunk size", b"POST /search HTTP/1.1\r\n" + H + J + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n" + NEXT),
    ("unknown expectation", b"POST /search HTTP/1.1\r\n" + H + J + b"Expect: cake\r\nContent-Length: 2\r\n\r\n{}" + NEXT),
    ("compressed body", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}" + NEXT),
]
TAKEN = [
    ("plain", b"GET /livez HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [200]),
    ("pipelined", b"GET /livez HTTP/1.1\r\n" + H + b"\r\nGET /livez HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [200, 200]),
    ("1.0 without host", b"GET /livez HTTP/1.0\r\n\r\n", [200]),
    ("host with port", b"GET /livez HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n", [200]),
    ("chunked body", b"POST /search HTTP/1.1\r\n" + H + J + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", [422]),
    ("body then next", b"POST /search HTTP/1.1\r\n" + H + J + b"Content-Length: 2\r\n\r\n{}GET /livez HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n",
     [422, 200]),
    ("encoded route", b"GET /%6civez HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [404]),
    ("encoded NUL", b"GET /documents/a%00b HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [400]),
    ("bad escape", b"GET /documents/a%zz HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [400]),
    ("escaped no UTF-8", b"GET /documents/a%ff HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [400]),
    ("encoded slash stays in its segment", b"GET /documents/no%2Fsuch HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [404]),
    ("body on GET", b"GET /livez HTTP/1.1\r\n" + H + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", [400]),
    ("lower-case method", b"get /livez HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n", [405]),
]


def main():
    binary, bundle, _ = arguments()
    suite = Suite("smuggling")
    with Daemon(binary, bundle) as d:
        for name, data in REFUSED:
            got = d.raw(data, timeout=3)
            codes = statuses(got)
            # libmicrohttpd sends its own 400 for a bad Content-Length twice; some breaches it ends unanswered;
            # what counts is that nothing is ever answered with success
            suite.check(name, len(set(codes)) <= 1 and all(400 <= c < 600 for c in codes) and b"smuggled" not in got, f"{codes} {got[:200]!r}")
        for name, data, want in TAKEN:
            suite.equal(name, statuses(d.raw(data, timeout=3)), want)
        suite.equal("alive afterwards", d.request("GET", "/livez")[0], 200)
        suite.equal("exit status", d.terminate(), 0)
    suite.end()


if __name__ == "__main__":
    main()
