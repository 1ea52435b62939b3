#!/usr/bin/env python3
"""study_queries.py: written, cut and given pairs: what does their share do to search?

    study_queries.py BINARY DATA [--seed N] [--threads N] [--sets cranfield,cisi] [--bundle NAME=BUNDLE ..] [--rows WORD,WORD]
                     [--writer-epochs N] [--epochs N] [--folder DIR] [--out FILE]
    usually: make study-queries DATA=../shared/data [MODEL="cranfield=BUNDLE cisi=BUNDLE"]

For each data set: IDs are learned once (or a bundle is taken as it is), a model that writes queries is trained on the set's training queries, or on
cut ones where it has none, and writes fifteen a document. Then search is trained from the same IDs for the same number of steps with no, half and
only written queries among the cut ones, and with the given ones beside them where there are any. All rows of a set are validated on the same
held-out written (and given) queries; the judged test queries are used by `evaluate` alone. Rows that have ended are skipped (study.py).
"""
import argparse
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from study import Study, machine, ranking, table  # noqa: E402

ROWS = (("cut", "0", False), ("half", "0.5", False), ("written", "1", False), ("given", "0.5", True))
LEARN = "--indexer residual --positions 2 --k 128".split()
WRITER = "--d-model 128 --d-ff 512 --d-kv 32 --heads 4 --encoder-layers 2 --decoder-layers 2 --start random --max-tokens 96 --pseudo 5".split()


def has_given(s, name):
    folder = os.path.join(s.data, name)
    return any(os.path.exists(os.path.join(folder, x)) for x in ("qrels-train.tsv", "qrels/train.tsv"))


def bundle_copy(s, row, source):
    """The set's bundle as this row's own; whole or not there."""
    if os.path.exists(s.bundle(row)):
        return
    os.makedirs(s.path(row, ""), exist_ok=True)
    part = s.bundle(row) + ".part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    os.rename(part, s.bundle(row))


def write(s, name, a):
    """IDs, a writer, its queries: the set's first row."""
    row, folder = name + "-writer", os.path.join(s.data, name)
    if name in a.bundles:
        bundle_copy(s, row, a.bundles[name])
    else:
        s.step(row, "learn", "learn-ids", "--data", folder, "--model", s.bundle(row), "--tokenizer", os.path.join(s.data, "t5", "spiece.model"),
               "--embeddings", os.path.join(folder, "minilm.npy"), *LEARN)
    s.step(row, "writer", "train", "queries", "--data", folder, "--model", s.bundle(row), "--epochs", a.writer_epochs, *WRITER)
    s.step(row, "queries", "queries", "--data", folder, "--model", s.bundle(row), "--out", s.path(row, "queries.jsonl"), "--max-tokens", "32")


def search(s, name, a, kind, share, given):
    row, first, folder = name + "-" + kind, name + "-writer", os.path.join(s.data, name)
    bundle_copy(s, row, s.bundle(first))
    s.step(row, "train", "train", "search", "--data", folder, "--model", s.bundle(row), "--epochs", a.epochs, "--queries",
           s.path(first, "queries.jsonl"), "--written-share", share, *([] if given else ["--cut-queries"]))
    s.step(row, "evaluate", "evaluate", "--task", "search", "--beam", "50", "--intervals", "--data", folder, "--model", s.bundle(row), "--json")


# ---- the table ----

def figure(r, column):
    return "%.4f [%.3f %.3f]" % (r[column], *r[column + "_interval"]) if r else "-"


def found(notes, pattern):
    hits = [m for m in (re.search(pattern, x) for x in notes) if m]
    return hits[-1].groups() if hits else None


def lines_of(s, name):
    lines = [[name, "given", "written", "cut", "validation nDCG@10", "beam nDCG@10", "beam Recall@10", "hybrid nDCG@10", "minutes"]]
    for kind, _, _ in ROWS:
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
    out = ["study-queries: shares of written, cut and given pairs in training search; seed %d" % s.seed,
           "command: make study-queries DATA=DATA", "machine: " + machine(), "[..]: 95 % bootstrap intervals over the test queries", ""]
    for name in sets:
        lines = lines_of(s, name)
        out += [table(lines), ""] if len(lines) > 1 else []
    out.append("steps:")
    for name in sets:
        for row, steps in [(name + "-writer", ("learn", "writer", "queries"))] + [(name + "-" + k, ("train", "evaluate")) for k, _, _ in ROWS]:
            for done in filter(None, (s.load(row, x) for x in steps)):
                out.append("%s\n  seconds=%s cpu_seconds=%s load=%s commit=%s" % (done["command"], done["seconds"], done["cpu_seconds"],
                                                                                done["load"], done["commit"]))
                out += ["  " + x for x in done["notes"] if "kept step" in x or "shares" in x or "dropped" in x or "trained on" in x]
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("binary")
    p.add_argument("data")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--sets", default="cranfield,cisi")
    p.add_argument("--bundle", action="append", default=[], help="NAME=BUNDLE: its IDs, instead of learning some; it is copied")
    p.add_argument("--rows", default="", help="only rows whose name holds one of these words")
    p.add_argument("--writer-epochs", default="3")
    p.add_argument("--epochs", default="20")
    p.add_argument("--folder", default="")
    p.add_argument("--out", default="")
    a = p.parse_args()
    a.bundles = dict(x.split("=", 1) for x in a.bundle)
    sets = a.sets.split(",")
    s = Study(a.binary, a.folder or "build/study-queries-%d" % a.seed, a.data.rstrip("/"), a.seed, a.threads)
    for name in sets:
        write(s, name, a)
        for kind, share, given in ROWS:
            if any(w in name + "-" + kind for w in a.rows.split(",")) and (not given or has_given(s, name)):
                search(s, name, a, kind, share, given)
    text = report(s, sets)
    print(text)
    out = a.out or "tests/bench/results/study-queries-seed%d.txt" % a.seed
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)
    print("written: " + out)


if __name__ == "__main__":
    main()
