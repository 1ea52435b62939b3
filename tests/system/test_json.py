"""JSON over HTTP: what RFC 8259 forbids is answered with 400, what it allows never with 5xx.

    test_json.py BINARY [BUNDLE|- [FOLDER]]     FOLDER: n_*.json (invalid), y_*.json (valid), i_*.json (either), sent as they are
"""
import glob
import os

from harness import arguments, Daemon, Suite

INVALID = [
    b"", b" ", b"{", b"}", b"[", b"]", b"{]", b"[1,]", b"[,1]", b"[1 2]", b"{\"a\":1,}", b"{\"a\"}", b"{\"a\":}", b"{a:1}", b"{'a':1}", b"{\"a\" 1}",
    b"[01]", b"[-]", b"[+1]", b"[1.]", b"[.5]", b"[1e]", b"[1e+]", b"[0x1]", b"[NaN]", b"[Infinity]", b"[1e400]", b"[-1e999]", b"tru", b"[True]", b"nul",
    b"[\"\\x41\"]", b"[\"\\u12\"]", b"[\"\\u00zz\"]", b"[\"a]", b"[\"\t\"]", b"[\"\n\"]", b"[\"\x00\"]", b"\x00", b"[\"\xff\"]", b"[\"\xc0\xaf\"]",
    b"[\"\xed\xa0\x80\"]", b"[\"\xf4\x90\x80\x80\"]", b"[\"\xe2\x82\"]", b"\xef\xbb\xbf{}", b"{} {}", b"[]]", b"{}x", b"{}\x00", b"/* c */{}", b"[1]//",
    b"[" * 33 + b"]" * 33, b"[" * 100000, b"{\"a\":" * 50000,
    # stricter than the RFC, on purpose
    b"[\"\\u0000\"]", b"{\"a\\u0000b\":1}", b"[\"\\ud800\"]", b"[\"\\udc00\"]", b"[\"\\ud800\\u0041\"]", b"{\"a\":1,\"a\":2}", b"{\"a\":1,\"\\u0061\":2}",
    b"{\"x\":{\"b\":1,\"c\":2,\"b\":3}}",
]
VALID = [
    b"{}", b"[]", b"null", b"1", b"\"a\"", b" {} \n", b"[1,2.5,-0,1e3,1E-2,0.1]", b"{\"a\":{\"a\":{\"a\":1}}}", b"[\"\\u00e9\\ud83d\\ude00\\n\\/\"]",
    b"[\"\xc3\xa9\xf0\x9f\x98\x80\"]", b"[" * 32 + b"]" * 32, b"{\"\":0}", b"{\"a\":[],\"b\":{}}", b"[123456789012345678901234567890]", b"[1e-400]",
]
PATHS = ["/search", "/index", "/recommend"]


def send(d, path, data):
    return d.request("POST", path, data)[0]


def main():
    binary, bundle, rest = arguments()
    suite = Suite("json")
    with Daemon(binary, bundle) as d:
        for path in PATHS:
            for data in INVALID:
                suite.equal(f"{path} {data[:40]!r}", send(d, path, data), 400)
            for data in VALID:
                status = send(d, path, data)
                suite.check(f"{path} {data[:40]!r}", 400 < status < 500, f"got {status}")  # valid JSON, but no such request: never 400
        status, _, body = d.request("POST", "/search", b"{\"query\": \"a\", \"x\": 01}")
        suite.check("the byte offset is named", status == 400 and "byte 20" in body["detail"], f"{status} {body}")
        for folder in rest[:1]:
            files(suite, d, folder)
        suite.equal("exit status", d.terminate(), 0)
    suite.end()


def files(suite, d, folder):
    counts = {"n": [0, 0], "y": [0, 0], "i": [0, 0]}
    for name in sorted(glob.glob(os.path.join(folder, "*.json"))):
        kind = os.path.basename(name)[0]
        with open(name, "rb") as f:
            data = f.read()
        for path in PATHS[:2]:
            status = send(d, path, data)
            good = status == 400 if kind == "n" else 200 <= status < 500
            counts[kind][0 if good else 1] += 1
            suite.check(f"{path} {os.path.basename(name)}", good, f"got {status}")
    for kind, (good, bad) in counts.items():
        print(f"json files {kind}_: {good} right, {bad} wrong (two endpoints each)")


if __name__ == "__main__":
    main()
