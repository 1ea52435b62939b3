#!/usr/bin/env python3
"""test_pretrain.py BINARY: a T5 is pretrained on the sample's texts, killed and goes on to the same bytes, and is then what every other command may
start from: learn-ids, an indexer of text embeddings, train queries, and train search of IDs from elsewhere, which the daemon serves."""
import filecmp
import json
import os
import shutil
import signal
import sys
import tempfile

from harness import Daemon, Suite, run, stopped

SHAPE = "--d-model 32 --d-ff 64 --d-kv 8 --heads 2 --encoder-layers 1 --decoder-layers 1".split()
PRETRAIN = "--first 300 --max-tokens 48 --batch 32 --epochs 6 --lr 5e-3 --checkpoint-s 0.1 --threads 1".split()


def pretraining(suite, binary, folder, data):
    words = ["pretrain", "--data", data, *SHAPE, *PRETRAIN]
    code, _, err = run(binary, *words, "--out", f"{folder}/base")
    suite.check("pretrain writes a bundle", code == 0 and "validation loss" in err, err[-300:])
    stops, statuses, err = stopped(binary, [*words, "--out", f"{folder}/broken"], f"{folder}/broken.work/pretrain.checkpoint",
                                   (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    suite.check("it was stopped and went on", stops >= 2 and statuses[-1] == 0 and "going on from step" in err, f"{stops} {statuses} {err[-200:]}")
    for name in ("base.safetensors", "base.json", "tokenizer.model", "pretrain.run.json"):
        suite.check(f"{name} is the same", filecmp.cmp(f"{folder}/base/{name}", f"{folder}/broken/{name}", shallow=False))
    code, _, err = run(binary, *words, "--out", f"{folder}/base")
    suite.check("a bundle that is there is not overwritten", code == 65 and "--replace" in err, err)
    code, _, err = run(binary, *words, "--out", f"{folder}/other", "--base", f"{folder}/nothing")
    suite.check("a base that is not there is named", code in (65, 66) and "nothing" in err, err)
    run_record = json.loads(run(binary, "config", "run", "--model", f"{folder}/base", "--json")[1])[0]
    suite.check("the bundle says how", run_record["command"] == "pretrain" and run_record["effective"]["noise_density"] == "0.15", str(run_record)[:200])


def starting(suite, binary, folder, data):
    base = f"{folder}/base"
    common = ["--data", data, "--threads", "1", "--seed", "1"]
    few = "--k 8 --batch 32 --max-tokens 32 --first 200".split()
    code, _, err = run(binary, "learn-ids", *common, "--model", f"{folder}/lm", "--base", base, *few)
    suite.check("learn-ids starts from it", code == 0, err[-300:])
    code, _, err = run(binary, "learn-ids", *common, "--model", f"{folder}/tree", "--base", base, "--indexer", "residual", *few)
    suite.check("its encoder embeds texts for another indexer", code == 0, err[-300:])
    code, _, err = run(binary, "train", "queries", *common, "--model", base, "--epochs", "0.2")
    suite.check("a writer starts from it", code == 0 and json.load(open(f"{base}/queries.json"))["settings"]["start"] == "base", err[-300:])
    code, _, err = run(binary, "train", "search", *common, "--model", f"{folder}/tree", "--start", "base", "--epochs", "0.2")
    suite.check("search starts from the T5 that embeds", code == 0 and json.load(open(f"{folder}/tree/search.json"))["settings"]["start"] == "base", err[-300:])
    code, _, err = run(binary, "train", "search", *common, "--model", f"{folder}/lm", "--base", base, "--epochs", "2")
    suite.check("or from one that is named", code == 0 and json.load(open(f"{folder}/lm/search.json"))["settings"]["start"] == "base", err[-300:])
    code, _, err = run(binary, "train", "search", *common, "--model", f"{folder}/lm", "--base", base, "--start", "random")
    suite.check("two starts are one too many", code == 64 and "leave one out" in err, err)
    code, _, err = run(binary, "learn-ids", *common, "--model", f"{folder}/own", *few, *SHAPE, "--vocab", "300")
    code, _, err = run(binary, "train", "search", *common, "--model", f"{folder}/own", "--base", base)
    suite.check("a base of another tokenizer is refused", code == 65 and "tokenizer" in err, err)
    code, _, err = run(binary, "train", "search", *common, "--model", f"{folder}/own", "--start", "base")
    suite.check("a bundle without a base says so", code == 65 and "semindex pretrain" in err, err)


def serving(suite, binary, folder, data):
    with open(f"{data}/items.jsonl") as f:
        documents = [{k: x[k] for k in ("id", "title", "text") if k in x} for x in map(json.loads, f)][:40]
    for bundle in ("lm", "tree"):
        with Daemon(binary, f"{folder}/{bundle}") as d:
            status, _, body = d.request("POST", "/index", {"documents": documents})
            suite.check(f"{bundle}: indexes", status == 200, str(body)[:300])
            status, _, body = d.request("POST", "/search", {"query": documents[3]["title"], "mode": "generative"})
            suite.check(f"{bundle}: answers", status == 200 and len(body["hits"]) > 0, str(body)[:300])


def main():
    binary, suite = os.path.abspath(sys.argv[1]), Suite("pretrain")
    folder = tempfile.mkdtemp(prefix="semindex-pretrain-")
    try:
        run(binary, "sample", "--out", f"{folder}/data", "--quiet")
        pretraining(suite, binary, folder, f"{folder}/data")
        starting(suite, binary, folder, f"{folder}/data")
        serving(suite, binary, folder, f"{folder}/data")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    suite.end()


if __name__ == "__main__":
    main()
