#!/usr/bin/env python3
"""test_queries.py BINARY: pseudo-queries from end to end: a model that writes them is trained, writes, is killed and goes on, and search learns from
what it wrote; the daemon then answers with that model. Then an imported T5 writes, too, and what is wrong is named."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import FIXTURES, Daemon, Suite

SMALL = "--first 200 --k 8 --d-model 32 --d-ff 64 --d-kv 8 --heads 2 --encoder-layers 1 --decoder-layers 1 --max-tokens 32 --batch 32".split()


def run(binary, *words):
    p = subprocess.run([binary, *words], capture_output=True, text=True, errors="replace")
    return p.returncode, p.stdout, p.stderr


def read(path):
    with open(path, "rb") as f:
        return f.read()


def state_of(out):
    try:
        return read(out + ".part.state")
    except FileNotFoundError:
        return None


def killed(binary, words, out, ends):
    """Writes to `out`, stopped by each signal in turn once a new checkpoint is there, then to its end: (kills, statuses, last standard error)."""
    kills, statuses = 0, []
    for end in [*ends, None]:
        seen = state_of(out)
        p = subprocess.Popen([binary, *words, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        while end and p.poll() is None:
            if state_of(out) not in (None, seen):
                kills += 1
                p.send_signal(end)
                break
            time.sleep(0.005)
        err = p.communicate()[1]
        statuses.append(p.returncode)
        if p.returncode == 0:
            break
    return kills, statuses, err


def writing(suite, binary, folder, data, bundle):
    words = ["queries", "--model", bundle, "--data", data, "--per-document", "8", "--max-tokens", "32", "--batch", "4", "--checkpoint-s", "0.1",
             "--threads", "1", "--temperature", "0.7"]
    whole, part = f"{folder}/whole.jsonl", f"{folder}/part.jsonl"
    code, _, err = run(binary, *words, "--out", whole)
    suite.check("queries writes", code == 0 and "dropped: " in err, err[-300:])
    lines = [json.loads(x) for x in read(whole).splitlines()]
    suite.check("every line names document, sample and text", all(set(x) == {"_id", "sample", "query"} and 1 <= x["sample"] <= 8 for x in lines))
    folded = [(x["_id"], " ".join(x["query"].lower().split())) for x in lines]
    suite.check("no document has a query twice, none is empty", len(set(folded)) == len(folded) and all(q for _, q in folded))
    with open(f"{data}/items.jsonl") as f:
        order = [json.loads(x)["id"] for x in f]
    suite.equal("every document, in corpus order", list(dict.fromkeys(i for i, _ in folded)), order)
    kills, statuses, err = killed(binary, words, part, (signal.SIGKILL, signal.SIGTERM))
    suite.check("killed and stopped, it goes on", kills == 2 and statuses == [-signal.SIGKILL, 75, 0] and "going on behind document" in err,
                f"{kills} {statuses}")
    suite.check("and ends with the same bytes", read(part) == read(whole))
    suite.equal("nothing is left beside the file", sorted(x for x in os.listdir(folder) if x.startswith("part")), ["part.jsonl"])
    run(binary, *words, "--out", part, "--threads", "2", "--batch", "64")
    suite.check("threads and batch change no byte", read(part) == read(whole))
    refused(suite, binary, words, f"{folder}/other.jsonl")
    return whole


def refused(suite, binary, words, out):
    """A part that was begun with other settings is named and stays."""
    p = subprocess.Popen([binary, *words, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and state_of(out) is None:
        time.sleep(0.005)
    p.send_signal(signal.SIGTERM)
    p.wait()
    before = read(out + ".part")
    code, _, err = run(binary, *words, "--out", out, "--seed", "2")
    suite.check("a part of other settings is refused", code == 65 and "seed=" in err and "other.jsonl.part" in err, err)
    suite.check("and left as it is", read(out + ".part") == before and not os.path.exists(out))


def searching(suite, binary, folder, data, bundle, written):
    train = ["train", "search", "--data", data, "--model", bundle, "--threads", "1", "--epochs", "2", "--queries"]
    code, _, err = run(binary, *train, written, "--written-share", "0.4", "--cut-queries", "--validation-share", "0.1")
    suite.check("train search --queries says the shares", code == 0 and "given 0.000, written 0.400, cut 0.600" in err, err[-300:])
    suite.check("written ones never judge", "validation on 200 cut queries" in err, err)
    settings = json.loads(read(f"{bundle}/search.json"))["settings"]
    suite.equal("the shares are kept", settings["shares"], {"given": 0, "written": 0.4, "cut": 0.6})
    with open(f"{folder}/bad.jsonl", "w") as f:
        f.write('{"_id": "sku-0001", "query": "lamp"}\n{"_id": "sku-0001", "query": 3}\n')
    code, _, err = run(binary, *train, f"{written},{folder}/bad.jsonl")
    suite.check("a bad line is named", code == 65 and "bad.jsonl: line 2: " in err, err)
    code, _, err = run(binary, "train", "recommend", "--data", data, "--model", bundle, "--queries", written)
    suite.check("only search reads written queries", code == 64 and "--queries" in err, err)


def serving(suite, binary, data, bundle):
    with open(f"{data}/items.jsonl") as f:
        documents = [{k: x[k] for k in ("id", "title", "text") if k in x} for x in map(json.loads, f)][:20]
    with Daemon(binary, bundle) as d:
        status, _, body = d.request("POST", "/index", {"documents": documents})
        suite.check("the daemon indexes with the trained bundle", status == 200, str(body)[:300])
        status, _, body = d.request("POST", "/search", {"query": documents[3]["title"], "mode": "generative"})
        suite.check("its model that learned from written queries answers", status == 200 and len(body["hits"]) > 0, str(body)[:300])


def imported(suite, binary, folder):
    model, data, out = f"{folder}/model", f"{folder}/texts", f"{folder}/base.jsonl"
    shutil.copytree(os.path.join(FIXTURES, "..", "t5_v11"), model)
    shutil.copy(os.path.join(FIXTURES, "model", "spiece.model"), model)
    os.makedirs(data)
    with open(f"{data}/corpus.jsonl", "w") as f:
        f.write('{"_id": "a", "text": "one two"}\n{"_id": "none", "title": "", "text": " "}\n{"_id": "b", "text": "three"}\n')
    run(binary, "import", model, "--out", f"{folder}/base", "--quiet")
    code, _, err = run(binary, "queries", "--model", f"{folder}/base", "--data", data, "--out", out, "--per-document", "3")
    suite.check("an imported T5 writes", code == 0 and "part base" in err and "1 documents without text" in err, err[-300:])
    suite.equal("for documents with text", {json.loads(x)["_id"] for x in read(out).splitlines()}, {"a", "b"})
    code, _, err = run(binary, "train", "queries", "--model", f"{folder}/base", "--data", data, "--epochs", "1", "--threads", "1")
    suite.check("train queries starts from the base, on any corpus", code == 0 and "cut queries" in err, err[-300:])
    settings = json.loads(read(f"{folder}/base/queries.json"))["settings"]
    suite.check("and says so", settings["start"] == "base" and settings["pairs"] == "cut")


def main():
    binary, suite = os.path.abspath(sys.argv[1]), Suite("queries")
    folder = tempfile.mkdtemp(prefix="semindex-queries-")
    try:
        data, bundle = f"{folder}/data", f"{folder}/bundle"
        run(binary, "sample", "--out", data, "--quiet")
        run(binary, "learn-ids", "--data", data, "--model", bundle, *SMALL, "--threads", "1", "--quiet")
        code, _, err = run(binary, "queries", "--model", bundle, "--data", data, "--out", f"{folder}/x.jsonl")
        suite.check("a bundle without a writer is refused", code == 65 and "train queries" in err, err)
        code, _, err = run(binary, "train", "queries", "--data", data, "--model", bundle, "--epochs", "3", "--lr", "5e-3", "--threads", "1")
        suite.check("train queries", code == 0 and "given pairs" in err and "validation exp(-loss)" in err, err[-300:])
        code, out, _ = run(binary, "config", "run", "--model", bundle, "--json")
        suite.check("the bundle keeps how", any(r["command"] == "train queries" for r in json.loads(out)))
        written = writing(suite, binary, folder, data, bundle)
        searching(suite, binary, folder, data, bundle, written)
        serving(suite, binary, data, bundle)
        imported(suite, binary, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    suite.end()


if __name__ == "__main__":
    main()
