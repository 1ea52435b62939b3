"""Bad requests: the status, a message that names field, value and bound, nothing stored.

    test_bad_input.py BINARY [BUNDLE]
"""
import json

from harness import arguments, Daemon, Suite

DOC = {"id": "a", "title": "A title", "text": "some words here"}


def docs(*changes):
    return {"documents": [dict(DOC, **c) for c in changes]}


# name, method, path, body, headers, status, words that the answer must hold
TABLE = [
    ("limit 0", "POST", "/search", {"query": "x", "limit": 0}, {}, 422, ["/limit", "1..1000"]),
    ("limit -1", "POST", "/search", {"query": "x", "limit": -1}, {}, 422, ["/limit", "-1"]),
    ("limit 1e9", "POST", "/search", b'{"query":"x","limit":1e9}', {}, 422, ["/limit", "1000000000"]),
    ("limit 1e300", "POST", "/search", b'{"query":"x","limit":1e300}', {}, 422, ["/limit"]),
    ("limit text", "POST", "/search", {"query": "x", "limit": "10"}, {}, 422, ["/limit", "a string"]),
    ("limit 1.5", "POST", "/search", {"query": "x", "limit": 1.5}, {}, 422, ["/limit", "whole"]),
    ("limit null", "POST", "/search", {"query": "x", "limit": None}, {}, 422, ["/limit", "null"]),
    ("limit true", "POST", "/search", {"query": "x", "limit": True}, {}, 422, ["/limit", "boolean"]),
    ("offset -1", "POST", "/search", {"query": "x", "offset": -1}, {}, 422, ["/offset"]),
    ("beam 0", "POST", "/search", {"query": "x", "beam_width": 0}, {}, 422, ["/beam_width"]),
    ("beam too wide", "POST", "/search", {"query": "x", "beam_width": 100000}, {}, 422, ["/beam_width", "1000"]),
    ("mode", "POST", "/search", {"query": "x", "mode": "Hybrid"}, {}, 422, ["/mode", "generative"]),
    ("empty query", "POST", "/search", {"query": ""}, {}, 422, ["/query", "empty"]),
    ("blank query", "POST", "/search", {"query": " \t\n"}, {}, 422, ["/query", "empty"]),
    ("no query", "POST", "/search", {"limit": 1}, {}, 422, ["/query", "missing"]),
    ("query and queries", "POST", "/search", {"query": "x", "queries": ["y"]}, {}, 422, ["both"]),
    ("no queries", "POST", "/search", {"queries": []}, {}, 422, ["/queries"]),
    ("query in queries", "POST", "/search", {"queries": ["a", "", {"query": "b", "limit": 0}, {"limit": 1}, 5]}, {}, 422,
     ["/queries/1", "/queries/2/limit", "/queries/3", "/queries/4"]),
    ("too many queries", "POST", "/search", {"queries": ["x"] * 65}, {}, 413, ["64"]),
    ("long query", "POST", "/search", {"query": "x" * 70000}, {}, 422, ["/query", "65536"]),
    ("unknown field", "POST", "/search", {"query": "x", "limt": 1}, {}, 422, ["/limt", "unknown_field"]),
    ("field with slash and tilde", "POST", "/search", {"query": "x", "a/b~c": 1}, {}, 422, ["/a~1b~0c"]),
    ("filter is not known yet", "POST", "/search", {"query": "x", "filter": {}}, {}, 422, ["/filter"]),
    ("all errors at once", "POST", "/search", {"query": "", "limit": 0, "offset": -1, "explain": 1, "fields": ["x"]}, {}, 422,
     ["/query", "/limit", "/offset", "/explain", "/fields/0"]),
    ("timeout 0", "POST", "/search", {"query": "x", "timeout_ms": 0}, {}, 422, ["/timeout_ms"]),
    ("array body", "POST", "/search", [1], {}, 422, ["an array"]),
    ("empty body", "POST", "/search", b"", {}, 400, ["empty"]),
    ("empty body index", "POST", "/index", b"", {}, 400, ["empty"]),
    ("form", "POST", "/search", b"query=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415, ["application/json"]),
    ("text", "POST", "/index", b"{}", {"Content-Type": "text/plain"}, 415, []),
    ("charset is fine", "POST", "/search", b"{}", {"Content-Type": "application/json; charset=utf-8"}, 422, []),
    ("parameter", "POST", "/index?partial=true", docs({}), {}, 422, ["parameters"]),
    ("id missing", "POST", "/index", {"documents": [{"text": "a b"}]}, {}, 422, ["/documents/0/id", "missing"]),
    ("id empty", "POST", "/index", docs({"id": ""}), {}, 422, ["/documents/0/id"]),
    ("id number", "POST", "/index", docs({"id": 7}), {}, 422, ["/documents/0/id", "a number"]),
    ("id control", "POST", "/index", docs({"id": "a\u0001b"}), {}, 422, ["/documents/0/id", "invalid_id"]),
    ("id newline", "POST", "/index", docs({"id": "a\n"}), {}, 422, ["/documents/0/id"]),
    ("id C1 control", "POST", "/index", docs({"id": "a\u0085b"}), {}, 422, ["/documents/0/id"]),
    ("id long", "POST", "/index", docs({"id": "x" * 513}), {}, 422, ["/documents/0/id", "512"]),
    ("duplicate ids", "POST", "/index", docs({}, {"id": "b"}, {}), {}, 422, ["/documents/2/id", "documents 0 and 2"]),
    ("no words", "POST", "/index", docs({"title": " ", "text": ""}), {}, 422, ["/documents/0", "no_words"]),
    ("only punctuation", "POST", "/index", docs({"title": "...", "text": "-- !"}), {}, (409, 422), ["/documents/0"]),
    ("text number", "POST", "/index", docs({"text": 5}), {}, 422, ["/documents/0/text"]),
    ("attributes list", "POST", "/index", docs({"attributes": []}), {}, 422, ["/documents/0/attributes"]),
    ("unknown in document", "POST", "/index", docs({"txt": "x"}), {}, 422, ["/documents/0/txt"]),
    ("document text", "POST", "/index", {"documents": ["x"]}, {}, 422, ["/documents/0"]),
    ("no documents", "POST", "/index", {"documents": []}, {}, 422, ["/documents"]),
    ("documents missing", "POST", "/index", {}, {}, 422, ["/documents"]),
    ("too many documents", "POST", "/index", docs(*[{"id": str(i)} for i in range(1001)]), {}, 413, ["1000"]),
    ("every wrong document", "POST", "/index", docs(*[{"id": ""} for _ in range(5)]), {}, 422, [f"/documents/{i}/id" for i in range(5)]),
    ("history missing", "POST", "/recommend", {}, {}, 422, ["/history"]),
    ("history entry", "POST", "/recommend", {"history": ["a", 5, {"txt": "x"}, {"text": ""}]}, {}, 422,
     ["/history/1", "/history/2", "/history/3/text"]),
    ("exclude", "POST", "/recommend", {"history": [], "exclude": "a"}, {}, 422, ["/exclude"]),
    ("no such path", "GET", "/nothing", None, {}, 404, []),
    ("trailing slash", "POST", "/search/", {"query": "x"}, {}, 404, []),
    ("root", "GET", "/", None, {}, 404, []),
    ("no id", "GET", "/documents/", None, {}, 404, []),
    ("no such document", "GET", "/documents/none", None, {}, 404, ["not_found"]),
    ("delete none", "DELETE", "/documents/none", None, {}, 404, ["not_found"]),
    ("id with control in path", "GET", "/documents/a%01b", None, {}, 422, []),
    ("method", "GET", "/search", None, {}, 405, []),
    ("method PUT", "PUT", "/index", b"{}", {}, 405, []),
    ("method POST on document", "POST", "/documents/a", b"{}", {}, 405, []),
    ("v1 alias", "POST", "/v1/search", {"query": ""}, {}, 422, ["/query"]),
    ("v2", "POST", "/v2/search", {"query": "x"}, {}, 404, []),
    ("problem page", "GET", "/problems/invalid_field", None, {}, 200, ["422"]),
    ("no such problem", "GET", "/problems/x", None, {}, 404, []),
]


def check_problem(suite, name, status, headers, body):
    if status < 400:
        return
    suite.check(f"{name}: media type", headers.get("content-type") == "application/problem+json", str(headers))
    if isinstance(body, dict):
        suite.check(f"{name}: members", body["type"] == f"/problems/{body['code']}" and body["status"] == status
                    and body["request_id"] == headers["x-request-id"] and body["title"] and body["detail"], str(body))


def large_bodies(suite, d):
    text = "word " * 2_000_000  # 10 MB
    status, _, _ = d.request("POST", "/index", {"documents": [{"id": "large", "text": text}]}, timeout=120)
    suite.check("a document of 10 MB is taken, or refused with 4xx", status == 200 or 400 <= status < 500, str(status))
    status, _, body = d.request("POST", "/index", {"documents": [{"id": "larger", "text": "x" * 17_000_000}]})
    suite.check("17 MB", status == 413 and "16777216" in body["detail"], f"{status}")
    status, _, _ = d.request("POST", "/search", b'{"query":"' + b"x" * 1_100_000 + b'"}')
    suite.equal("a body of 1.1 MB is read", status, 422)
    values = b'{"query":"x","fields":[' + b",".join([b"1"] * 600_000) + b"]}"
    suite.equal("too many values", d.request("POST", "/search", values)[0], 413)
    raw = d.raw(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
    suite.check("announced 1 TB", b" 413 " in raw[:20], repr(raw[:100]))
    raw = d.raw(b"POST /search HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    suite.check("announced 100 MB and waits", b" 413 " in raw[:20], repr(raw[:100]))


def headers_of_answers(suite, d):
    status, headers, _ = d.request("GET", "/livez", headers={"X-Request-Id": "my-id_1.2"})
    suite.equal("request id is kept", headers.get("x-request-id"), "my-id_1.2")
    _, headers, _ = d.request("GET", "/livez", headers={"X-Request-Id": "bad id"})
    suite.check("bad request id is replaced", headers.get("x-request-id") not in (None, "bad id"))
    suite.check("Server-Timing", "total;dur=" in headers.get("server-timing", ""))
    status, headers, body = d.request("HEAD", "/readyz")
    suite.check("HEAD", status == 200 and body == b"" and int(headers["content-length"]) > 0, f"{status} {headers} {body}")
    suite.equal("HEAD on POST route", d.request("HEAD", "/search")[0], 405)
    suite.equal("Allow", d.request("PUT", "/documents/x")[1].get("allow"), "GET, HEAD, DELETE")
    suite.equal("Allow of search", d.request("GET", "/search")[1].get("allow"), "POST")


def main():
    binary, bundle, _ = arguments()
    suite = Suite("bad_input")
    with Daemon(binary, bundle) as d:
        before = d.request("GET", "/info")[2]["documents"]
        for name, method, path, body, headers, want, words in TABLE:
            status, got, answer = d.request(method, path, body, headers)
            text = json.dumps(answer) if isinstance(answer, (dict, list)) else answer.decode(errors="replace")
            suite.check(name, status in (want if isinstance(want, tuple) else (want,)) and all(w in text for w in words), f"got {status} {text[:400]}")
            check_problem(suite, name, status, got, answer)
        suite.equal("nothing was stored", d.request("GET", "/info")[2]["documents"], before)
        headers_of_answers(suite, d)
        large_bodies(suite, d)
        suite.equal("exit status", d.terminate(), 0)
    suite.end()


if __name__ == "__main__":
    main()
