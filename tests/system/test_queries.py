#!/usr/bin/env python3
"""test_queries.py BINARY: pseudo-queries from end to end.

On the sample: a model that writes them is trained, writes, is killed and goes on, shares come out as asked, and what is wrong is named. On a small
catalogue whose questions hold words that no document has: search learns these words from written queries alone, the daemon answers with that
model, takes new documents and ends well. An imported T5 writes, too."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import FIXTURES, Daemon, Suite, run, stopped, version_of

SMALL = "--first 200 --k 8 --d-model 32 --d-ff 64 --d-kv 8 --heads 2 --encoder-layers 1 --decoder-layers 1 --max-tokens 32 --batch 32".split()


def read(path):
    with open(path, "rb") as f:
        return f.read()


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
    stops, statuses, err = stopped(binary, [*words, "--out", part], part + ".part.state", (signal.SIGKILL, signal.SIGTERM))
    suite.check("killed and stopped, it goes on", stops == 2 and statuses == [-signal.SIGKILL, 75, 0] and "going on behind document" in err,
                f"{stops} {statuses}")
    suite.check("and ends with the same bytes", read(part) == read(whole))
    suite.equal("nothing is left beside the file", sorted(x for x in os.listdir(folder) if x.startswith("part")), ["part.jsonl"])
    finished(suite, binary, folder, words, part)
    refused(suite, binary, words, f"{folder}/other.jsonl")
    return whole


def finished(suite, binary, folder, words, out):
    """A file that is there, whole, is only replaced when that is asked for, and what a kill behind its renaming leaves is no hindrance."""
    whole = read(out)
    code, _, err = run(binary, *words, "--out", out, "--seed", "2")
    suite.check("a file that is there is kept", code == 65 and "--replace" in err and read(out) == whole, err)
    with open(f"{out}.part.state", "wb") as f:
        f.write(b"SEMICKPT: of a part that was renamed")
    code, _, err = run(binary, *words, "--out", out, "--threads", "2", "--batch", "64", "--replace")
    suite.check("and replaced by --replace; threads and batch change no byte", code == 0 and read(out) == whole, err[-300:])
    suite.check("nothing is left beside it", not [x for x in os.listdir(folder) if x.startswith(os.path.basename(out) + ".")])
    code, _, err = run(binary, *words, "--out", folder)
    suite.check("a folder is refused before the work", code == 64 and "is a folder" in err, err)
    code, _, err = run(binary, *words, "--out", f"{folder}/none/x.jsonl")
    suite.check("a folder that is not there is named", code == 73 and "none/x.jsonl.part" in err, f"{code} {err}")
    code, _, err = run(binary, *words, "--out", f"{folder}/x.jsonl", "--batch", "4096", "--per-document", "1000")
    suite.check("more at once than can be is refused", code == 64 and "65536" in err, err)


def refused(suite, binary, words, out):
    """A part that was begun with other settings is named and stays."""
    p = subprocess.Popen([binary, *words, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and version_of(out + ".part.state") is None:
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


# ---- words that no document has ----

KINDS = {"teapot": "brewer", "lamp": "glow", "rug": "mat", "chair": "seat", "knife": "blade", "basket": "carrier", "mirror": "reflector", "clock": "timer"}
MAKERS = "altera norvik kestrel juno breeze ilex atlas lumen orchid pascal".split()
COLOURS = "red green blue white black grey amber".split()
TINY = "--k 8 --d-model 64 --d-ff 128 --d-kv 16 --heads 4 --encoder-layers 1 --decoder-layers 1 --max-tokens 32 --batch 16".split()
THOROUGH = "--start random --lr 4e-3 --patience 100".split()


def put(folder, name, rows):
    with open(f"{folder}/{name}", "w") as f:
        f.writelines((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)


def catalogue(folder):
    """Eighty documents; a question names its document's kind by another word. Three quarters of the questions are for training, the rest for judging.
    Some documents have no text, the first one among them. Returns {question: document} of the judged ones."""
    documents, asked, learned = [{"_id": "blank", "title": "", "text": "  "}], [], []
    for k, (kind, other) in enumerate(KINDS.items()):
        for m, maker in enumerate(MAKERS):
            name = f"{kind}-{maker}"
            documents.append({"_id": name, "title": f"{maker} {kind}", "text": f"a {COLOURS[(3 * k + 5 * m) % 7]} {kind} made by {maker}, for every house"})
            (asked if (k + m) % 4 == 0 else learned).append((f"{other} {maker}", name))
    documents.append({"_id": "marks", "title": "", "text": "\u00a0 \u3000"})
    os.makedirs(folder)
    put(folder, "corpus.jsonl", documents)
    for end, pairs in (("", asked), ("-train", learned)):
        put(folder, f"queries{end}.jsonl", [{"_id": f"{end}{i}", "text": q} for i, (q, _) in enumerate(pairs)])
        put(folder, f"qrels{end}.tsv", ["query-id\tcorpus-id\tscore"] + [f"{end}{i}\t{d}\t1" for i, (_, d) in enumerate(pairs)])
    return dict(asked)


def first_hits(binary, data, bundle):
    """{ranking: Recall@1} over the judged questions."""
    _, out, _ = run(binary, "evaluate", "--task", "search", "--data", data, "--model", bundle, "--json", "--threads", "1")
    return {r["ranking"]: r["Recall@1"] for t in json.loads(out)["tables"] for r in t["rows"]}


def learned_words(suite, binary, folder):
    data, bundle, written = f"{folder}/catalogue", f"{folder}/words", f"{folder}/words.jsonl"
    asked, use = catalogue(data), ["--threads", "1", "--quiet"]
    run(binary, "learn-ids", "--data", data, "--model", bundle, *TINY, *use)
    code, _, err = run(binary, "train", "queries", "--data", data, "--model", bundle, *THOROUGH, "--epochs", "300", "--batch", "16", *use)
    suite.check("a writer learns the questions' words", code == 0, err[-300:])
    code, _, err = run(binary, "queries", "--data", data, "--model", bundle, "--out", written, "--per-document", "5", "--temperature", "0.5",
                       "--max-tokens", "16", "--threads", "1")
    suite.check("documents without text, the first one too, get no query", code == 0 and "2 documents without text" in err, err[-300:])
    lines = [json.loads(x) for x in read(written).splitlines()]
    suite.check("and stand in no line", not {x["_id"] for x in lines} & {"blank", "marks"} and len({x["_id"] for x in lines}) == 80)
    foreign = sum(x["query"].split()[0] in KINDS.values() for x in lines)
    suite.check("it writes words that no document has", foreign > 0.9 * len(lines), f"{foreign} of {len(lines)}")
    shutil.copytree(bundle, f"{folder}/cut")
    for b, more in ((bundle, ["--queries", written, "--written-share", "1"]), (f"{folder}/cut", [])):
        code, _, err = run(binary, "train", "search", "--data", data, "--model", b, *THOROUGH, "--cut-queries", "--epochs", "30", "--batch", "32",
                           "--pseudo", "5", *more, "--threads", "1")
        suite.check(f"train search {' '.join(more[2:])}", code == 0 and "written 1.000" * bool(more) in err, err[-300:])
    mine, cut = first_hits(binary, data, bundle), first_hits(binary, data, f"{folder}/cut")
    suite.check("search learned them from written queries alone", mine["generative"] >= 0.8 > 0.4 > max(mine["bm25"], mine["random"], cut["generative"]),
                f"{mine} {cut}")
    few_at_a_time(suite, binary, folder, data)
    answering(suite, binary, bundle, asked)


def few_at_a_time(suite, binary, folder, data):
    """A file of many queries a document, of which an epoch takes one a document: every epoch has all documents in it."""
    bundle, written = f"{folder}/cut", f"{folder}/many.jsonl"
    put(folder, "many.jsonl", [{"_id": f"{kind}-{maker}", "query": f"{other} {maker}" + " please" * (k % 2)}
                               for kind, other in KINDS.items() for maker in MAKERS for k in range(15)])
    run(binary, "train", "search", "--data", data, "--model", bundle, *THOROUGH, "--cut-queries", "--epochs", "150", "--batch", "32", "--pseudo", "1",
        "--queries", written, "--written-share", "1", "--threads", "1", "--quiet")
    hits = first_hits(binary, data, bundle)
    suite.check("few queries at a time teach all documents", hits["generative"] >= 0.8, hits)


def answering(suite, binary, bundle, asked):
    """The daemon, over HTTP: beam and hybrid, a new document, and a calm end."""
    with Daemon(binary, bundle) as d:
        tops = {mode: 0 for mode in ("generative", "hybrid", "lexical")}
        for query, name in asked.items():
            for mode in tops:
                status, _, body = d.request("POST", "/search", {"query": query, "mode": mode, "limit": 10})
                tops[mode] += status == 200 and name in [h["id"] for h in body["hits"]][:1 if mode == "generative" else 10]
        suite.check("the beam puts documents first that share one word with the question", tops["generative"] >= 0.8 * len(asked), tops)
        suite.check("hybrid has them, too", tops["hybrid"] >= 0.8 * len(asked), tops)
        new = {"id": "new", "title": "vesta teapot", "text": "a pink teapot made by vesta"}
        status, _, body = d.request("POST", "/index", {"documents": [new]})
        suite.check("a new document gets an ID", status == 200 and body["results"][0]["status"] == "created", str(body)[:300])
        for mode in ("hybrid", "lexical"):
            status, _, body = d.request("POST", "/search", {"query": "pink vesta teapot", "mode": mode})
            suite.check(f"and is found at once, {mode}", status == 200 and body["hits"][0]["id"] == "new", str(body)[:300])
        suite.equal("SIGTERM ends the daemon well", d.terminate(), 0)


# ---- an imported T5 ----

def imported(suite, binary, folder):
    model, data, out = f"{folder}/model", f"{folder}/texts", f"{folder}/base.jsonl"
    shutil.copytree(os.path.join(FIXTURES, "..", "t5_v11"), model)
    shutil.copy(os.path.join(FIXTURES, "model", "spiece.model"), model)
    os.makedirs(data)
    with open(f"{data}/corpus.jsonl", "w") as f:
        f.write('{"_id": "a", "text": "one two"}\n{"_id": "none", "title": "", "text": " "}\n{"_id": "b", "text": "three"}\n')
    run(binary, "import", model, "--out", f"{folder}/base", "--quiet")
    code, _, err = run(binary, "queries", "--model", f"{folder}/base", "--data", data, "--out", out, "--per-document", "3")
    suite.check("an imported T5 writes", code == 0 and "part base" in err and "1 documents without text" in err and "warning" not in err, err[-300:])
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
        learned_words(suite, binary, folder)
        imported(suite, binary, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    suite.end()


if __name__ == "__main__":
    main()
