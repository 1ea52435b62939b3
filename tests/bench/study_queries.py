#!/usr/bin/env python3
"""study_queries.py: written, cut and given pairs: what does their share do to search?

    study_queries.py BINARY DATA [--seed N] [--threads N] [--sets sample,cranfield,cisi] [--folder DIR] [--out FILE]
    usually: make study-queries DATA=../shared/data

For each data set: IDs are learned once, a model that writes queries is trained on the set's training queries, or on cut ones where it has none, and
writes fifteen a document. Then search is trained from the same IDs for the same number of steps with no, half and only written queries among the
cut ones, and with the given ones beside them where there are any. `sample` is the demo's catalogue, whose queries hold words that no document has.
The judged test queries are used by `evaluate` alone. Rows that have ended are skipped (study.py).
"""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from study import cost_of, finish, head, open_study, ranking, read_arguments, table  # noqa: E402

ROWS = (("cut", "0", False), ("half", "0.5", False), ("written", "1", False), ("given", "0", True), ("given-half", "0.5", True))
ABSTRACTS = "--indexer residual --positions 2 --k 128".split()
CATALOGUE = ("--k 64 --d-model 96 --d-ff 256 --d-kv 24 --heads 4 --encoder-layers 2 --decoder-layers 1 --max-tokens 64 --batch 32 --lr 2e-3 "
             "--dropout 0.05 --hints 0.02,0.02 --temperature 24 --target-share 0.5 --continuous-epochs 6 --joint-epochs 4 --kmeans-restarts 3").split()
SEARCH = {"sample": "--pseudo 1 --epochs 45 --batch 128 --lr 4e-3", "cranfield": "--epochs 20", "cisi": "--epochs 20"}
WRITER = "--d-model 128 --d-ff 512 --d-kv 32 --heads 4 --encoder-layers 2 --decoder-layers 2 --start random --max-tokens 96 --pseudo 5".split()
WRITER_EPOCHS = {"sample": "40", "cranfield": "6", "cisi": "6"}


def rows_of(name):
    return [r for r in ROWS if not r[2] or name == "sample"]


def folder_of(s, name):
    if name != "sample":
        return os.path.join(s.data, name)
    folder = s.path("sample-writer", "data")
    if not os.path.exists(folder):
        subprocess.run([s.binary, "sample", "--out", folder, "--seed", str(s.seed), "--quiet"], check=True)
    return folder


def bundle_copy(s, row, source):
    """The set's bundle as this row's own; whole or not there."""
    if os.path.exists(s.bundle(row)):
        return
    os.makedirs(s.path(row, ""), exist_ok=True)
    part = s.bundle(row) + ".part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    os.rename(part, s.bundle(row))


def write(s, name):
    """IDs, a writer, its queries: the set's first row."""
    row, folder = name + "-writer", folder_of(s, name)
    own = CATALOGUE if name == "sample" else [*ABSTRACTS, "--embeddings", os.path.join(folder, "minilm.npy")]
    s.step(row, "learn", "learn-ids", "--data", folder, "--model", s.bundle(row), *own)
    s.step(row, "writer", "train", "queries", "--data", folder, "--model", s.bundle(row), "--epochs", WRITER_EPOCHS[name], *WRITER)
    s.step(row, "queries", "queries", "--data", folder, "--model", s.bundle(row), "--out", s.path(row, "queries.jsonl"), "--replace", "--max-tokens", "32")


def search(s, name, kind, share, given):
    row, first, folder = name + "-" + kind, name + "-writer", folder_of(s, name)
    bundle_copy(s, row, s.bundle(first))
    written = [] if share == "0" else ["--queries", s.path(first, "queries.jsonl"), "--written-share", share]
    s.step(row, "train", "train", "search", "--data", folder, "--model", s.bundle(row), *SEARCH[name].split(), *written,
           *([] if given else ["--cut-queries"]))
    s.step(row, "evaluate", "evaluate", "--task", "search", "--beam", "50", "--intervals", "--data", folder, "--model", s.bundle(row), "--json")


# ---- the table ----

def figure(r, column):
    return "%.4f [%.3f %.3f]" % (r[column], *r[column + "_interval"]) if r else "-"


def found(notes, pattern):
    hits = [m for m in (re.search(pattern, x) for x in notes) if m]
    return hits[-1].groups() if hits else None


def lines_of(s, name):
    lines = [[name, "given", "written", "cut", "validation nDCG@10", "beam nDCG@10", "beam Recall@10", "hybrid nDCG@10", "minutes"]]
    for kind, _, _ in rows_of(name):
        train, evaluate = (s.load(name + "-" + kind, x) for x in ("train", "evaluate"))
        if not evaluate:
            continue
        answer = json.loads(evaluate["out"])
        if len(lines) == 1:
            lines.append(["bm25", "", "", "", "", figure(ranking(answer, "bm25"), "nDCG@10"), figure(ranking(answer, "bm25"), "Recall@10"), "", ""])
        shares = found(train["notes"], r"given ([0-9.]+), written ([0-9.]+), cut ([0-9.]+)")
        best = found(train["notes"], r"kept step \d+ of \d+, validation nDCG@10 ([0-9.]+)")
        beam = ranking(answer, "generative")
        lines.append([kind, *shares, best[0], figure(beam, "nDCG@10"), figure(beam, "Recall@10"), figure(ranking(answer, "hybrid"), "nDCG@10"),
                      "%.1f" % ((train["seconds"] + evaluate["seconds"]) / 60)])
    return lines


def report(s, sets):
    out = head("study-queries: shares of written, cut and given pairs in training search", s.seed, "make study-queries DATA=DATA")
    out += ["validation: held-out given queries where the row has given ones, else cut ones", ""]
    for name in sets:
        lines = lines_of(s, name)
        out += [table(lines), ""] if len(lines) > 1 else []
    out.append("steps:")
    for name in sets:
        steps = [(name + "-writer", ("learn", "writer", "queries"))] + [(name + "-" + k[0], ("train", "evaluate")) for k in rows_of(name)]
        for done in filter(None, (s.load(row, x) for row, names in steps for x in names)):
            out.append(cost_of(done))
            out += ["  " + x for x in done["notes"] if "kept step" in x or "shares" in x or "dropped" in x or "trained on" in x]
        first = s.path(name + "-writer", "queries.jsonl")
        if os.path.exists(first):
            with open(first, encoding="utf-8") as f:
                out += ["written for %s, for example: %s" % (name, " | ".join(json.loads(next(f))["query"] for _ in range(4))), ""]
    return "\n".join(out) + "\n"


def main():
    a = read_arguments(__doc__, sets=("sample,cranfield,cisi", "data sets"))
    sets = a.sets.split(",")
    s = open_study(a, "study-queries")
    for name in sets:
        write(s, name)
        for kind, share, given in rows_of(name):
            search(s, name, kind, share, given)
    finish(a, "study-queries", report(s, sets))


if __name__ == "__main__":
    main()
