"""trec_check.py: do our figures agree with trec_eval's on our own run files?

usage: trec_check.py EVALUATION.json QRELS.tsv PREFIX

Reads the tables of `semindex evaluate --json --run-out PREFIX`, gives every PREFIX.RANKING.run to pytrec_eval (trec_eval's own code) and compares
the averages over the judged queries. Queries without a line count as 0 on both sides (trec_eval -c). trec_eval's reciprocal rank has no cut, so
for MRR@10 it gets the first ten lines of each query. Exit 1 when a figure differs by more than 1e-6.
"""
import collections
import json
import os
import sys

import pytrec_eval

MEASURES = {"Recall@%d": ("recall", (1, 5, 10, 20, 100)), "nDCG@%d": ("ndcg_cut", (5, 10, 20)), "Hit@%d": ("success", (10,))}


def read_qrels(path):
    qrels = collections.defaultdict(dict)
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f):
            query, document, grade = line.rstrip("\n").split("\t")
            if number or grade.lstrip("-").isdigit():
                qrels[query][document] = int(grade)
    return {q: d for q, d in qrels.items() if any(g > 0 for g in d.values())}


def read_run(path, cut=None):
    run = collections.defaultdict(dict)
    with open(path, encoding="utf-8") as f:
        for line in f:
            query, _, document, rank, score, _ = line.split()
            if cut is None or int(rank) <= cut:
                run[query][document] = float(score)
    return run


def averages(qrels, run, measures):
    values = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    names = {name for query in values.values() for name in query}
    return {name: sum(query[name] for query in values.values()) / len(qrels) for name in names}


def main():
    table = next(t for t in json.load(open(sys.argv[1], encoding="utf-8"))["tables"] if t["task"] == "search")
    qrels, worst, checked = read_qrels(sys.argv[2]), 0.0, 0
    for row in table["rows"]:
        path = "%s.%s.run" % (sys.argv[3], row["ranking"])
        if not os.path.exists(path):
            continue
        theirs = averages(qrels, read_run(path), {"%s.%s" % (m, ",".join(map(str, k))) for m, k in MEASURES.values()})
        theirs["mrr"] = averages(qrels, read_run(path, 10), {"recip_rank"})["recip_rank"]
        pairs = [(name % k, "%s_%d" % (measure, k)) for name, (measure, cuts) in MEASURES.items() for k in cuts]
        pairs = [(ours, name) for ours, name in pairs + [("MRR@10", "mrr")] if ours in row]
        for ours, name in pairs:
            difference = abs(row[ours] - theirs[name])
            worst, checked = max(worst, difference), checked + 1
            if difference > 1e-6:
                print("%s %s: %.9f, trec_eval %.9f" % (row["ranking"], ours, row[ours], theirs[name]))
        print("%-12s %d queries, %d figures, nDCG@10 %.6f" % (row["ranking"], row["queries"], len(pairs), row.get("nDCG@10", -1)))
    print("%d figures, largest difference %.3g" % (checked, worst))
    sys.exit(not checked or worst > 1e-6)


main()
