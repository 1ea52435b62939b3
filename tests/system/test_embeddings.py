"""Indexers over embeddings, served: an rq-VAE of own embeddings (a new document brings its own) and a tree over a T5's (the text alone will do).

    test_embeddings.py BINARY

Learns both on the sample with small settings; trains a small search and recommendation model on the first; then speaks to the daemon.
"""
import json
import os
import random
import struct
import subprocess
import tempfile
import time

from harness import arguments, Daemon, Suite

WIDTH, DOCUMENTS = 24, 400
SMALL = ["--d-model", "32", "--d-ff", "64", "--d-kv", "16", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1", "--quiet"]


def run(binary, *command, status=0):
    done = subprocess.run([binary, *command], capture_output=True, text=True, timeout=600)
    if done.returncode != status:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}: {done.stderr[-1500:]}")
    return done.stderr + done.stdout


def write_npy(path, rows):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}".ljust(117) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for row in rows:
            f.write(struct.pack(f"<{len(row)}f", *row))


def make_data(binary, folder):
    """The sample, and an embedding of each of its documents: its section's direction and noise."""
    run(binary, "sample", "--out", f"{folder}/data", "--seed", "1", "--quiet")
    name = next(n for n in ("corpus.jsonl", "items.jsonl") if os.path.exists(f"{folder}/data/{n}"))
    draw, rows = random.Random(1), []
    centres = [[draw.gauss(0, 1) for _ in range(WIDTH)] for _ in range(20)]
    with open(f"{folder}/data/{name}", encoding="utf-8") as f:
        documents = [json.loads(line) for line in f]
    for i, _ in enumerate(documents):
        rows.append([struct.unpack("<f", struct.pack("<f", c + draw.gauss(0, 0.3)))[0] for c in centres[i % 20]])
    write_npy(f"{folder}/e.npy", rows)
    return documents, rows


def learn(binary, folder, bundle, *flags):
    return run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/{bundle}", "--first", str(DOCUMENTS), "--max-tokens", "32",
               *flags)


def refusals(suite, binary, folder):
    write_npy(f"{folder}/short.npy", [[1.0] * WIDTH] * 7)
    out = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/no", "--indexer", "rq-vae", "--embeddings", f"{folder}/short.npy",
              status=65)
    suite.check("too few rows are refused", "7 rows; the corpus has" in out, out)
    out = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/no", "--indexer", "rq-vae", status=64)
    suite.check("no embeddings and no T5", "--embeddings FILE" in out and "--base BUNDLE" in out, out)
    out = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/no", "--embeddings", f"{folder}/e.npy", status=64)
    suite.check("lmindexer reads no embeddings", "lmindexer reads the texts" in out, out)


def put(d, **document):
    status, _, body = d.request("POST", "/index", {"documents": [document]})
    return status, body


def put_own(suite, d, row, learned_id):
    status, body = put(d, id="new-1", title="zephyrine kettle", embedding=row)
    given = body["results"][0] if status == 200 else {}
    suite.check("a new document with its embedding", status == 200 and given["status"] == "created", f"{status} {body}")
    prefix = given.get("semantic_id", "").rsplit("-", 1)[0]
    suite.equal("its codes are those of the learned document with this embedding", prefix, learned_id.rsplit("-", 1)[0])
    status, body = put(d, id="new-1", title="zephyrine kettle", embedding=row)
    suite.check("unchanged", status == 200 and body["results"][0]["status"] == "unchanged", f"{status} {body}")
    status, body = put(d, id="new-1", title="zephyrine kettle")
    suite.check("unchanged without it, too", status == 200 and body["results"][0]["status"] == "unchanged", f"{status} {body}")
    status, body = put(d, id="new-1", title="zephyrine kettle", embedding=[-x for x in row])
    suite.check("another embedding moves it", status == 200 and body["results"][0]["status"] == "updated"
                and body["results"][0]["semantic_id"].rsplit("-", 1)[0] != prefix, f"{status} {body}")


def refused_own(suite, d, row):
    def wrong(what, words, **document):
        status, body = put(d, id="new-2", title="quixotic kettle", **document)
        error = (body.get("errors") or [{}])[0]
        suite.check(what, status == 422 and "embedding" in error.get("pointer", "") and all(w in error.get("detail", "") for w in words), f"{status} {body}")

    wrong("no embedding", ["missing", str(WIDTH)])
    wrong("too narrow", [str(WIDTH - 1), str(WIDTH)], embedding=row[1:])
    wrong("empty", ["0 numbers", str(WIDTH)], embedding=[])
    wrong("no array", ["a string", "array of numbers"], embedding="0.5")
    wrong("no numbers", ["number 1", "a string"], embedding=[0.5, "x"] + row[2:])
    wrong("beyond single precision", ["number 0"], embedding=[1e300] + row[1:])
    suite.equal("nothing was stored", d.request("GET", "/documents/new-2")[0], 404)


def serve_own(suite, binary, folder, documents, rows):
    first = documents[3]["id"] if "id" in documents[3] else documents[3]["_id"]
    with Daemon(binary, f"{folder}/own") as d:
        learned_id = d.request("GET", f"/documents/{first}")[2]["semantic_id"]
        put_own(suite, d, rows[3], learned_id)
        refused_own(suite, d, rows[3])
        status, _, body = d.request("POST", "/search", {"query": "zephyrine", "mode": "lexical"})
        suite.check("found by its words", status == 200 and [h["id"] for h in body["hits"]] == ["new-1"], f"{status} {body}")
        status, _, body = d.request("POST", "/search", {"query": "kettle", "mode": "generative", "beam_width": 50})
        suite.check("generative search", status == 200 and body["hits"], f"{status} {body}")
        status, _, body = d.request("POST", "/recommend", {"history": [first], "limit": 5})
        suite.check("recommendation", status == 200 and len(body["hits"]) == 5, f"{status} {body}")
        status, _, body = d.request("POST", "/recommend", {"history": [{"text": "a kettle"}], "limit": 5})
        suite.check("a text in a history cannot be read", status == 409, f"{status} {body}")


def serve_texts(suite, binary, folder, documents):
    known = documents[5]
    with Daemon(binary, f"{folder}/tree") as d:
        name = known.get("id", known.get("_id"))
        status, _, body = d.request("GET", f"/documents/{name}")
        learned_id = body["semantic_id"]
        copy = {k: body[k] for k in ("title", "text", "attributes") if body.get(k)}
        status, body = put(d, id="copy", **copy)
        suite.check("a new document is read", status == 200, f"{status} {body}")
        if status == 200:
            suite.equal("an equal text gets equal codes", body["results"][0]["semantic_id"].rsplit("-", 1)[0], learned_id.rsplit("-", 1)[0])
        status, body = put(d, id="other", title="x y", embedding=[1.0])
        suite.check("an embedding is refused here", status == 422 and "reads the texts itself" in body["errors"][0]["detail"], f"{status} {body}")


def stamp(path):
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


def parts(bundle):
    with open(f"{bundle}/bundle.json", encoding="utf-8") as f:
        manifest = json.load(f)
    return {name: manifest["files"][file]["sha256"] for name, file in manifest["parts"].items()}


def killed(suite, binary, folder):
    """An rq-VAE that is killed twice, each time when its checkpoint has just changed, ends with the bytes of one that was not."""
    flags = ["--indexer", "rq-vae", "--embeddings", f"{folder}/e.npy", "--k", "16", "--epochs", "300", "--kmeans-restarts", "1", "--checkpoint-s", "0.1"]
    checkpoint = f"{folder}/broken.work/rq-vae.checkpoint"
    learn(binary, folder, "whole", *flags)
    for _ in range(2):
        before = stamp(checkpoint)
        process = subprocess.Popen([binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/broken", "--first", str(DOCUMENTS),
                                    "--max-tokens", "32", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and stamp(checkpoint) in (0, before):
            time.sleep(0.005)
        process.kill()
        process.wait()
    suite.check("it went on", "going on after epoch" in learn(binary, folder, "broken", *flags))
    suite.equal("equal bytes", parts(f"{folder}/broken"), parts(f"{folder}/whole"))


def main():
    binary = arguments()[0]
    suite = Suite("embeddings")
    with tempfile.TemporaryDirectory(prefix="semindex-embeddings-") as folder:
        documents, rows = make_data(binary, folder)
        refusals(suite, binary, folder)
        killed(suite, binary, folder)
        said = learn(binary, folder, "own", "--indexer", "rq-vae", "--embeddings", f"{folder}/e.npy", "--k", "16", "--epochs", "20",
                     "--kmeans-restarts", "1")
        suite.check("codes used and errors are reported", said.count("reconstruction_error=") == 3 and said.count("codes_used=") >= 3, said)
        for task in ("search", "recommend"):
            run(binary, "train", task, "--model", f"{folder}/own", "--data", f"{folder}/data", "--steps", "20", "--batch", "32", *SMALL)
        run(binary, "evaluate", "--model", f"{folder}/own", "--data", f"{folder}/data", "--task", "ids")
        serve_own(suite, binary, folder, documents, rows)
        learn(binary, folder, "base", "--k", "16", "--continuous-epochs", "1", "--joint-epochs", "1", "--kmeans-restarts", "1", *SMALL)
        learn(binary, folder, "tree", "--indexer", "hierarchical", "--base", f"{folder}/base", "--kmeans-restarts", "1")
        serve_texts(suite, binary, folder, documents)
    suite.end()


if __name__ == "__main__":
    main()
