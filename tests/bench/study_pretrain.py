#!/usr/bin/env python3
"""study_pretrain.py: what a T5 that was pretrained on the corpus alone is worth to the IDs and to the task model.

    study_pretrain.py BINARY DATA [--seed N] [--threads N] [--rows WORD,WORD] [--steps pretrain,learn,ids] [--out FILE]
    usually: make study-pretrain DATA=../shared/data

DATA holds beauty/, cranfield/ and cisi/. All IDs are residual k-means over text embeddings; a row says whose: of a T5 with random weights, of the same
T5 after `semindex pretrain` on the set's texts, or MiniLM's (minilm.npy), which was trained on a billion pairs elsewhere. The task models of these rows
begin with random weights; `started` has the IDs of `pretrained`, and its task model begins with the pretrained T5 (search alone reads texts). Rows and
steps that have ended are skipped (study.py). Test queries are used by `evaluate` alone. Prints the table and writes it, with every command, to FILE.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from study import cost_of, finish, head, open_study, ranking, read_arguments, table  # noqa: E402

SETS = (("beauty", "items"), ("cranfield", "abstracts"), ("cisi", "abstracts"))
BASES = ("random", "pretrained", "minilm", "started")
PRETRAIN = {"items": "--steps 2000", "abstracts": "--steps 800"}
UNTRAINED = "--steps 1 --lr 1e-9"  # the random weights as they were drawn, but for one update that rounds away
LEARN = {"items": "", "abstracts": "--positions 2 --k 128"}
TRAIN = {"items": "recommend --epochs 12 --dropout 0", "abstracts": "search --epochs 20"}
STEPS = ("pretrain", "learn", "ids", "train", "evaluate")


def commands(s, name, kind, base):
    """The row's steps: {name: arguments of semindex}."""
    row, folder = name + "-" + base, os.path.join(s.data, name)
    t5 = os.path.join(s.folder, name + ("-random" if base == "random" else "-pretrained"), "t5")
    source = ["--embeddings", os.path.join(folder, "minilm.npy")] if base == "minilm" else ["--base", t5]
    start = [] if kind == "items" else ["--start", "base" if base == "started" else "random"]
    bundle, task = ["--model", s.bundle(row), "--data", folder], "recommend" if kind == "items" else "search"
    steps = {"learn": ["learn-ids", *bundle, "--indexer", "residual", *source, *LEARN[kind].split()],
             "ids": ["evaluate", "--task", "ids", *bundle, "--json"],
             "train": ["train", *TRAIN[kind].split(), *start, *bundle],
             "evaluate": ["evaluate", "--task", task, "--beam", "50", "--intervals", *bundle, "--json"]}
    if base in ("random", "pretrained"):
        steps["pretrain"] = ["pretrain", "--data", folder, "--out", t5, *(UNTRAINED if base == "random" else PRETRAIN[kind]).split()]
    return steps


def cells(s, row):
    steps = {x: s.load(row, x) for x in STEPS}
    if steps["ids"] is None:
        return None
    facts = json.loads(steps["ids"]["out"])["ids"]
    loss = next((x.rsplit("loss ", 1)[1].split()[0] for x in (steps["pretrain"] or {"notes": []})["notes"] if "kept step" in x), "-")
    learned = max(p for p in range(1, 17) if "position_%d_codes_used" % p in facts)
    ami = "%.3f" % facts["category_ami_position_1"] if "category_ami_position_1" in facts else "-"
    figures = ["-"] * 4
    if steps["evaluate"]:
        answer = json.loads(steps["evaluate"]["out"])
        figures = ["%.4f [%.3f %.3f]" % (r[c], *r[c + "_interval"]) for r in (ranking(answer, "generative"), ranking(answer, "hybrid"))
                   for c in ("Recall@10", "nDCG@10")]
    return [loss, ami, "%d" % facts["position_%d_unique_prefixes" % learned], *figures, "%.1f" % (sum(x["cpu_seconds"] for x in steps.values() if x) / 60)]


def report(s):
    out = head("study-pretrain: residual IDs over mean encoder outputs", s.seed, "make study-pretrain DATA=DATA")
    lines = [["", "loss a token", "AMI code 1", "prefixes", "beam Recall@10", "beam nDCG@10", "hybrid Recall@10", "hybrid nDCG@10", "cpu minutes"]]
    rows = ["%s-%s" % (name, base) for name, _ in SETS for base in BASES]
    lines += [[row, *cells(s, row)] for row in rows if cells(s, row)]
    out += [table(lines), "", "steps:"]
    out += [cost_of(done) for row in rows for done in (s.load(row, step) for step in STEPS) if done]
    return "\n".join(out) + "\n"


def main():
    a = read_arguments(__doc__, rows=("", "only rows whose name holds one of these words"), steps=(",".join(STEPS), "only these"))
    s = open_study(a, "study-pretrain")
    for name, kind in SETS:
        for base in BASES:
            if not (kind == "items" and base == "started") and any(w in name + "-" + base for w in a.rows.split(",")):
                todo = commands(s, name, kind, base)
                for step in STEPS:
                    if step in todo and step in a.steps.split(","):
                        s.step(name + "-" + base, step, *todo[step])
    finish(a, "study-pretrain", report(s))


if __name__ == "__main__":
    main()
