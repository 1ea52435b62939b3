#!/usr/bin/env python3
"""study_indexers.py: four indexers, three data sets, the same task budget: which IDs are worth learning?

    study_indexers.py BINARY DATA [--seed N] [--threads N] [--rows WORD,WORD] [--steps learn,train,evaluate] [--out FILE]
    usually: make study-indexers DATA=../shared/data

DATA holds beauty/, cranfield/ and cisi/. A row is a data set x an indexer: learn-ids, train, evaluate; rows and steps that have ended are skipped
(study.py), so the study can be stopped at any time and made in parts. The embedding indexers read minilm.npy; LMIndexer reads the texts. All rows
of a data set have the same task model and the same number of steps, and the test queries are used by `evaluate` alone. Prints the tables and
writes them, with every command, to FILE (default tests/bench/results/study-indexers-seedN.txt).
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from study import cost_of, finish, head, open_study, ranking, read_arguments, table  # noqa: E402

INDEXERS = ("lmindexer", "rq-vae", "hierarchical", "residual")
# LMIndexer reads the texts: its settings are those of the two evaluation scripts, shortened to a quarter of an hour.
LEARN_TEXT = {
    "beauty": "--k 512 --temperature 16 --target-share 0.25 --max-tokens 64 --warmup-epochs 1 --continuous-epochs 2 --joint-epochs 2",
    "abstracts": "--k 128 --batch 32 --lr 2e-3 --dropout 0 --hints 0,0 --weight-contrastive 0 --weight-commitment 0.2 --max-tokens 64 "
                 "--target-share 0.5 --continuous-epochs 24 --joint-epochs 4",
}
# The other indexers' own defaults; on 1,400 abstracts two positions of 128 codes, as LMIndexer has there.
LEARN_EMBEDDINGS = {"beauty": "", "abstracts": "--positions 2 --k 128"}
TRAIN = {"beauty": "recommend --epochs 8 --dropout 0", "abstracts": "search --epochs 20"}
SETS = (("beauty", "beauty"), ("cranfield", "abstracts"), ("cisi", "abstracts"))


def learn(s, name, kind, indexer):
    folder = os.path.join(s.data, name)
    row = name + "-" + indexer
    arguments = ["learn-ids", "--data", folder, "--model", s.bundle(row), "--tokenizer", os.path.join(s.data, "t5", "spiece.model")]
    if indexer == "lmindexer":
        arguments += LEARN_TEXT[kind].split()
    else:
        arguments += ["--indexer", indexer, "--embeddings", os.path.join(folder, "minilm.npy")]
        arguments += [] if indexer == "hierarchical" else LEARN_EMBEDDINGS[kind].split()
    s.step(row, "learn", *arguments)


def train(s, name, kind, indexer):
    row = name + "-" + indexer
    s.step(row, "train", "train", *TRAIN[kind].split(), "--model", s.bundle(row), "--data", os.path.join(s.data, name))


def evaluate(s, name, kind, indexer):
    row = name + "-" + indexer
    common = ["--model", s.bundle(row), "--data", os.path.join(s.data, name), "--json"]
    s.step(row, "ids", "evaluate", "--task", "ids", *common)
    task, other = ("recommend", "neighbours") if kind == "beauty" else ("search", "bm25")
    s.step(row, "evaluate", "evaluate", "--task", task, "--beam", "50", "--intervals", "--compare", "hybrid," + other, *common)


STEPS = {"learn": learn, "train": train, "evaluate": evaluate}


# ---- tables ----

def figure(r, column):
    if r is None or column not in r:
        return "-"
    interval = r.get(column + "_interval")
    return "%.4f" % r[column] + (" [%.3f %.3f]" % tuple(interval) if interval else "")


def id_cells(facts):
    learned = max(p for p in range(1, 17) if "position_%d_codes_used" % p in facts)
    used = "/".join("%d" % facts["position_%d_codes_used" % p] for p in range(1, learned + 1))
    ami = "%.3f" % facts["category_ami_position_1"] if "category_ami_position_1" in facts else "-"
    return [ami, used, "%d" % facts["position_%d_unique_prefixes" % learned], "%d" % facts["position_%d_largest_bucket" % learned]]


def lines_of(s, name, kind, columns):
    lines = [["%s: indexer" % name, "AMI code 1", "codes used", "prefixes", "largest bucket", "ranking"] + columns + ["minutes", "cpu minutes"]]
    others = ("random", "popularity", "neighbours") if kind == "beauty" else ("random", "bm25")
    for indexer in INDEXERS:
        row = name + "-" + indexer
        steps = [s.load(row, x) for x in ("learn", "train", "ids", "evaluate")]
        if steps[-1] is None:
            continue
        answer, facts = json.loads(steps[3]["out"]), json.loads(steps[2]["out"])["ids"]
        if len(lines) == 1:
            for other in others:
                lines.append([other, "", "", "", "", ""] + [figure(ranking(answer, other), c) for c in columns] + ["", ""])
        took = ["%.1f" % (sum(x[k] for x in steps) / 60) for k in ("seconds", "cpu_seconds")]
        lines.append([indexer, *id_cells(facts), "beam alone"] + [figure(ranking(answer, "generative"), c) for c in columns] + took)
        lines.append(["", "", "", "", "", "hybrid"] + [figure(ranking(answer, "hybrid"), c) for c in columns] + ["", ""])
    return lines


def comparisons(s, name):
    for indexer in INDEXERS:
        done = s.load(name + "-" + indexer, "evaluate")
        for c in json.loads(done["out"]).get("comparisons", []) if done else []:
            for metric in ("Recall@10", "nDCG@10"):
                m = c["metrics"][metric]
                yield "  %-13s %s - %s, %s: %+.4f, 95 %% interval [%+.4f %+.4f]" % (indexer, c["a"], c["b"], metric, m["difference"], *m["interval"])


def report(s):
    out = head("study-indexers: four indexers, the same task budget", s.seed, "make study-indexers DATA=DATA")
    for name, kind in SETS:
        columns = ["Recall@5", "Recall@10", "nDCG@5", "nDCG@10"] if kind == "beauty" else ["Recall@10", "nDCG@10", "MRR@10"]
        lines = lines_of(s, name, kind, columns)
        if len(lines) > 1:
            out += [table(lines), "", "paired differences:", *comparisons(s, name), ""]
    out.append("steps:")
    for row in ("%s-%s" % (name, i) for name, _ in SETS for i in INDEXERS):
        for step in ("learn", "train", "ids", "evaluate"):
            done = s.load(row, step)
            if done:
                out.append(cost_of(done))
                out += ["  " + x for x in done["notes"] if x.startswith(("ids:", "rq-vae:")) or "kept step" in x or "weight" in x]
    return "\n".join(out) + "\n"


def main():
    a = read_arguments(__doc__, rows=("", "only rows whose name holds one of these words"), steps=("learn,train,evaluate", "only these"))
    s = open_study(a, "study-indexers")
    for name, kind in SETS:
        for indexer in INDEXERS:
            if any(w in name + "-" + indexer for w in a.rows.split(",")):
                for step in a.steps.split(","):
                    STEPS[step](s, name, kind, indexer)
    finish(a, "study-indexers", report(s))


if __name__ == "__main__":
    main()
