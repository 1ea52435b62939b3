"""The reference model, imported and served: POST /search returns the documents and scores of its expected file, also with 16 clients at once.

    test_beam.py BINARY [BUNDLE|- [FOLDER]] [--device NAME] [--narrow]
                 FOLDER: a fixture folder `beam` (model, codes.json, ids.tsv, queries.txt, expected.safetensors)

--narrow: the device's activations are bf16. Then the score of each document that both name may be off by 4 x 2^-8 of the query's largest
(`parity`, "beam.score", derives it), neighbours within that may change places, hits are in the order of their own scores, and of the expected
documents so many are there as `parity` asks: 0.9 in the mean of the queries, and all where the beam is as wide as the catalogue.
"""
import argparse
import http.client
import json
import os
import struct
import tempfile
import threading
import time

from harness import Daemon, exchange, FIXTURES, import_bundle, Suite

TOLERANCE = 4e-5
NARROW, OVERLAP = 4 / 256, 0.9


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


def compare_narrow(suite, label, answer, docs, scores, names):
    """The share of the expected documents that the answer names."""
    hits, expected = answer["hits"], {names[doc]: score for doc, score in zip(docs, scores)}
    shared = [h for h in hits if h["id"] in expected]
    suite.check(f"{label}: number of hits", len(hits) == len(docs) == len({h["id"] for h in hits}), f"{len(hits)} for {len(docs)}")
    worst = max([abs(h["score"] - expected[h["id"]]) for h in shared], default=0)
    suite.check(f"{label}: scores", worst <= NARROW * max(map(abs, scores)), f"worst {worst:.2e} of {max(map(abs, scores)):.2e}")
    suite.check(f"{label}: order", all(a["score"] >= b["score"] for a, b in zip(hits, hits[1:])))
    return len(shared) / len(docs)


def search(connection, query, limit, width):
    body = {"query": query, "limit": limit, "beam_width": width, "mode": "generative", "fields": ["id"], "timeout_ms": 60000}
    return exchange(connection, "POST", "/search", body)


def ask_all(d, case, width, key, concurrent):
    queries, _, expected = case
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
    return answers


def check_width(suite, d, case, width, key, concurrent, narrow):
    _, names, expected = case
    began, shared = time.time(), 0
    for i, answer in enumerate(ask_all(d, case, width, key, concurrent)):
        suite.equal(f"{key} query {i}: status", answer.get("status", 200), 200)
        shared += (compare_narrow if narrow else compare)(suite, f"{key} query {i}, {concurrent} at once", answer, expected[f"{key}.docs"][i],
                                                          expected[f"{key}.scores"][i], names) or 0
    print(f"{key}, {concurrent} at once: {len(case[0]) / (time.time() - began):.0f} queries/s", end="\n" if not narrow else ", ")
    if narrow:
        shared /= len(case[0])
        print(f"overlap {shared:.3f}")
        suite.check(f"{key}: overlap", shared >= (1 if width > len(names) else OVERLAP), f"{shared:.3f}")


def check_daemon(suite, d, case, end, narrow):
    """`end`: of the names of the expected tensors in this scoring."""
    named = {k[:len(k) - len(end)]: v for k, v in case[2].items() if k.endswith(end)} if end else case[2]
    for width, key in ((5, "beam5"), (20, "beam20"), (len(case[1]) + 9, "beamall")):
        for concurrent in (1, 16):
            check_width(suite, d, (case[0], case[1], named), width, key, concurrent, narrow)
    suite.equal("SIGTERM: exit status", d.terminate(), 0)


def read_arguments():
    p = argparse.ArgumentParser()
    p.add_argument("binary")
    p.add_argument("bundle", nargs="?", default="-")
    p.add_argument("folder", nargs="?", default=FIXTURES)
    p.add_argument("--device", default="auto")
    p.add_argument("--narrow", action="store_true")
    return p.parse_args()


def main():
    a = read_arguments()
    suite, case = Suite("beam"), load(a.folder)
    with tempfile.TemporaryDirectory(prefix="semindex-beam-") as scratch:
        bundle = import_bundle(a.binary, a.folder, os.path.join(scratch, "bundle")) if a.bundle == "-" or a.folder != FIXTURES else a.bundle
        for renormalise in (False, True):
            with Daemon(a.binary, bundle, "--device", a.device, *(["--renormalise"] if renormalise else []), timeout=300) as d:
                print(f"device: {d.request('GET', '/info')[2]['device']}, {'renormalised' if renormalise else 'plain'} scores")
                check_daemon(suite, d, case, ".renormalise" if renormalise else "", a.narrow)
    suite.end()


if __name__ == "__main__":
    main()
