"""Documents over HTTP: created, updated, unchanged, deleted; all or nothing; read-your-writes; many writers and readers at once; a restart keeps all.

    test_index.py BINARY [BUNDLE]
"""
import threading

from harness import arguments, Daemon, Suite


def free_ids(d):
    """Semantic IDs that no document of the catalogue has yet, for bundles without indexer: (first, second, ..) suffixes of a prefix."""
    _, _, info = d.request("GET", "/info")
    codes = info["model"]["codes"]
    for first in range(codes[0]):
        for suffix in range(codes[-1]):
            yield "-".join(map(str, [first] + [0] * (len(codes) - 2) + [suffix]))


class Writer:
    """Puts documents, bringing a semantic ID where the model cannot make one."""

    def __init__(self, d):
        self.d, self.lock, self.free = d, threading.Lock(), free_ids(d)
        parts = {p["name"] for p in d.request("GET", "/info")[2]["model"]["parts"]}
        self.bring = "indexer" not in parts

    def put(self, document):
        while True:
            if self.bring and "semantic_id" not in document:
                with self.lock:
                    document = dict(document, semantic_id=next(self.free))
            status, _, body = self.d.request("POST", "/index", {"documents": [document]})
            taken = status == 409 and any(e["code"] == "semantic_id_taken" for e in body.get("errors", []))
            if not taken:
                return status, body
            del document["semantic_id"]


def lexical(d, word, limit=100):
    status, _, body = d.request("POST", "/search", {"query": word, "mode": "lexical", "limit": limit})
    return [h["id"] for h in body["hits"]] if status == 200 else status


def one_document(suite, d, w):
    path = "/documents/new%20one%2F%C3%A9"
    document = {"id": "new one/\u00e9", "title": "A zephyrine kettle", "text": "boils water", "attributes": {"price": 12345678901234567890, "n": [1.10]}}
    status, body = w.put(document)
    suite.check("created", status == 200 and body["results"][0]["status"] == "created" and body["generation"] > 0, f"{status} {body}")
    given = body["results"][0]["semantic_id"]
    same = dict(document, semantic_id=given) if w.bring else document
    suite.equal("found at once", lexical(d, "zephyrine"), [document["id"]])
    status, body = w.put(same)
    suite.check("unchanged keeps its ID", status == 200 and (body["results"][0]["status"], body["results"][0]["semantic_id"]) == ("unchanged", given),
                f"{status} {body}")
    status, _, got = d.request("GET", path)
    suite.check("read back", status == 200 and got["id"] == document["id"] and got["title"] == document["title"] and got["text"] == document["text"]
                and got["attributes"]["price"] == document["attributes"]["price"] and got["semantic_id"] == given, f"{status} {got}")
    status, body = w.put(dict(same, title="A quixotic kettle"))
    suite.check("updated", status == 200 and body["results"][0]["status"] == "updated", f"{status} {body}")
    suite.equal("old words are gone", lexical(d, "zephyrine"), [])
    suite.equal("new words are found", lexical(d, "quixotic"), [document["id"]])
    suite.equal("HEAD", d.request("HEAD", path)[0], 200)
    status, _, body = d.request("DELETE", path)
    suite.check("deleted", status == 200 and body["status"] == "deleted", f"{status} {body}")
    suite.equal("gone", (d.request("GET", path)[0], d.request("DELETE", path)[0], lexical(d, "quixotic")), (404, 404, []))


def all_or_nothing(suite, d, w):
    free = next(w.free) if w.bring else None
    good = {"id": "good", "text": "perspicacious words", **({"semantic_id": free} if free else {})}
    status, _, body = d.request("POST", "/index", {"documents": [good, {"id": "bad", "text": " ", "title": ""}]})
    suite.check("one bad document refuses the batch", status in (409, 422) and body["errors"][0]["pointer"].startswith("/documents/1"), f"{status} {body}")
    suite.equal("nothing of it was stored", (d.request("GET", "/documents/good")[0], lexical(d, "perspicacious")), (404, []))


def many_at_once(suite, d, w):
    wrong, lock = [], threading.Lock()

    def write(k):
        for i in range(6):
            status, body = w.put({"id": f"w{k}-{i}", "title": f"crowd number{k}x{i}"})
            seen = lexical(d, f"number{k}x{i}")
            if status != 200 or seen != [f"w{k}-{i}"]:
                with lock:
                    wrong.append((k, i, status, body, seen))

    def read(_):
        for _ in range(20):
            status, _, body = d.request("POST", "/search", {"query": "crowd", "mode": "lexical", "limit": 100})
            ids = [h["id"] for h in body["hits"]] if status == 200 else None
            if ids is None or len(set(ids)) != len(ids):
                with lock:
                    wrong.append(("read", status, body))

    threads = [threading.Thread(target=write, args=(k,)) for k in range(6)] + [threading.Thread(target=read, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    suite.check("6 writers read their own writes while 3 read", not wrong, str(wrong[:2])[:600])
    suite.equal("all are there", len(lexical(d, "crowd")), 36)


def main():
    binary, bundle, _ = arguments()
    suite = Suite("index")
    with Daemon(binary, bundle) as d:
        w = Writer(d)
        one_document(suite, d, w)
        all_or_nothing(suite, d, w)
        many_at_once(suite, d, w)
        before = d.request("GET", "/info")[2]
        suite.equal("exit status", d.terminate(), 0)
        d.process.stdout.close()
        d.log.close()
        d.start()
        after = d.request("GET", "/info")[2]
        suite.equal("a restart keeps documents and generation", (after["documents"], len(lexical(d, "crowd"))), (before["documents"], 36))
        suite.check("the generation does not go back", after["generation"] >= before["generation"], f"{after['generation']} {before['generation']}")
        suite.equal("exit status again", d.terminate(), 0)
    suite.end()


if __name__ == "__main__":
    main()
