#!/usr/bin/env python3
"""check_demo.py EVALUATION.json DATA: holds the demo's printed figures against what the README promises of them."""
import json
import re
import sys


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def spans(data):
    """Every title and text of the catalogue as a padded word string, for containment tests."""
    out = []
    for line in open(f"{data}/items.jsonl"):
        item = json.loads(line)
        out += [" " + " ".join(words(item.get(k) or "")) + " " for k in ("title", "description", "text")]
    return out


def main():
    evaluation, data = json.load(open(sys.argv[1])), sys.argv[2]
    rows = {(t["task"], r["ranking"]): r for t in evaluation["tables"] for r in t["rows"]}

    def recall(task, name):
        return rows[task, name]["Recall@10"]

    checks = [
        ("search: generative Recall@10 >= 0.8", recall("search", "generative") >= 0.8, recall("search", "generative")),
        ("search: BM25 Recall@10 in 0.3 .. 0.9", 0.3 <= recall("search", "bm25") <= 0.9, recall("search", "bm25")),
        ("recommend: Recall@10 >= 3 x popularity", recall("recommend", "generative") >= 3 * recall("recommend", "popularity"),
         recall("recommend", "generative") / max(recall("recommend", "popularity"), 1e-9)),
        ("recommend: Recall@10 >= 0.5 x neighbours", recall("recommend", "generative") >= 0.5 * recall("recommend", "neighbours"),
         recall("recommend", "generative") / max(recall("recommend", "neighbours"), 1e-9)),
    ]
    texts = spans(data)
    copied = [q for q in (json.loads(line)["text"] for line in open(f"{data}/queries.jsonl"))
              if any(" " + " ".join(words(q)) + " " in t for t in texts)]
    checks.append(("no query is a title or a span of a text", not copied, len(copied)))
    failed = 0
    for name, holds, value in checks:
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {value:.4g}")
        failed += not holds
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
