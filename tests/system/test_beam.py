"""The reference model, imported and served: POST /search returns the documents and scores of its expected file, also with 16 clients at once.

    test_beam.py BINARY [BUNDLE|- [FOLDER]]     FOLDER: a fixture folder `beam` (model, codes.json, ids.tsv, queries.txt, expected.safetensors)
"""
import http.client
import json
import os
import struct
import subprocess
import tempfile
import threading
import time

from harness import arguments, Daemon, exchange, FIXTURES, Suite

TOLERANCE = 4e-5


def read_safetensors(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    kinds = {"F32": "f", "F64": "d", "I32": "i", "I64": "q"}
    out = {}
    for name, t in header.items():
        if name != "__metadata__" and t["dtype"] in kinds:
            begin, end = t["data_offsets"]
            kind = kinds[t["dtype"]]
            flat = struct.unpack(f"<{(end - begin) // struct.calcsize(kind)}{kind}", data[begin:end])
            width = t["shape"][-1] if len(t["shape"]) > 1 else len(flat)
            out[name] = [flat[i:i + width] for i in range(0, len(flat), max(width, 1))]
    return out


def load(folder):
    with open(os.path.join(folder, "queries.txt"), encoding="utf-8") as f:
        queries = f.read().split("\n")
    queries = queries[:-1] if queries[-1] == "" else queries
    with open(os.path.join(folder, "ids.tsv"), encoding="utf-8") as f:
        names = [line.split("\t")[0] for line in f]
    return queries, names, read_safetensors(os.path.join(folder, "expected.safetensors"))


def compare(suite, label, answer, docs, scores, names):
    """Scores rank by rank; documents rank by rank, but where the reference's scores differ by < 1e-9 and ours differ."""
    hits = answer["hits"]
    if not suite.check(f"{label}: number of hits", len(hits) == len(docs), f"{len(hits)} for {len(docs)}"):
        return
    worst = max(abs(h["score"] - s) for h, s in zip(hits, scores))
    suite.check(f"{label}: scores", worst <= TOLERANCE, f"worst {worst:.2e}")
    for i, (hit, doc) in enumerate(zip(hits, docs)):
        if hit["id"] == names[doc]:
            continue
        tied = [k for k in range(len(docs)) if abs(scores[k] - scores[i]) < 1e-9 and names[docs[k]] == hit["id"]]
        suite.check(f"{label}: rank {i + 1}", bool(tied) and hits[tied[0]]["score"] != hit["score"], f"{hit['id']} for {names[doc]}")


def search(connection, query, limit, width):
    body = {"query": query, "limit": limit, "beam_width": width, "mode": "generative", "fields": ["id"], "timeout_ms": 60000}
    return exchange(connection, "POST", "/search", body)


def check_width(suite, d, case, width, key, concurrent):
    queries, names, expected = case
    answers = [None] * len(queries)

    def work(first, step):
        connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=120)
        for i in range(first, len(queries), step):
            status, _, answer = search(connection, queries[i], len(expected[f"{key}.docs"][i]), width)
            answers[i] = answer if status == 200 else {"status": status, "hits": []}
        connection.close()

    threads = [threading.Thread(target=work, args=(k, concurrent)) for k in range(concurrent)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i, answer in enumerate(answers):
        suite.equal(f"{key} query {i}: status", answer.get("status", 200), 200)
        compare(suite, f"{key} query {i}, {concurrent} at once", answer, expected[f"{key}.docs"][i], expected[f"{key}.scores"][i], names)


def main():
    binary, bundle, rest = arguments()
    suite = Suite("beam")
    folder = rest[0] if rest else FIXTURES
    case = load(folder)
    every = len(case[1])
    with tempfile.TemporaryDirectory(prefix="semindex-beam-") as scratch:
        if rest:
            bundle = os.path.join(scratch, "bundle")
            subprocess.run([binary, "import", os.path.join(folder, "model"), "--codes", os.path.join(folder, "codes.json"), "--ids",
                            os.path.join(folder, "ids.tsv"), "--out", bundle, "--quiet"], check=True)
        for renormalise in (False, True):
            with Daemon(binary, bundle, *(["--renormalise"] if renormalise else [])) as d:
                end = ".renormalise" if renormalise else ""
                named = {k[:len(k) - len(end)]: v for k, v in case[2].items() if k.endswith(end)} if end else case[2]
                one = (case[0], case[1], named)
                for width, key in ((5, "beam5"), (20, "beam20"), (every + 9, "beamall")):
                    for concurrent in (1, 16):
                        began = time.time()
                        check_width(suite, d, one, width, key, concurrent)
                        print(f"{key}{end}, {concurrent} at once: {len(case[0]) / (time.time() - began):.0f} queries/s")
                suite.equal("SIGTERM: exit status", d.terminate(), 0)
    suite.end()


if __name__ == "__main__":
    main()
