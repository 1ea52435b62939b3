"""Cold start: what `evaluate --cold-start` says of documents indexed after training is what a client of the daemon gets.

    test_cold.py BINARY

Learns IDs for the sample with a fifth left out, trains small models, evaluates; then sends the left-out documents to a daemon, asks every
question, judges the answers here, and compares figure by figure.
"""
import json
import subprocess
import tempfile

from harness import arguments, Daemon, Suite
from test_embeddings import SMALL, make_data, run

BEAM, TOLERANCE = 20, 1e-9


def read_ids(bundle):
    with open(f"{bundle}/ids.tsv", encoding="utf-8") as f:
        return [line.split("\t")[0] for line in f]


def evaluate(binary, folder, bundle, *flags):
    done = subprocess.run([binary, "evaluate", "--cold-start", "--model", f"{folder}/{bundle}", "--data", f"{folder}/data", "--beam", str(BEAM),
                           "--threads", "2", "--json", "--quiet", *flags], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"evaluate: status {done.returncode}: {done.stderr[-1500:]}")
    result = json.loads(done.stdout)
    rows = {(t["task"], "left out" if "after" in t["title"] else "learned", r["ranking"]): r for t in result["tables"] for r in t["rows"]}
    return rows, result["ids"]


def as_document(item):
    attributes = {k: v for k, v in item.items() if k not in ("id", "title", "text")}
    return {"id": item["id"], "title": item["title"], "attributes": attributes}


def read_questions(folder):
    """[(query, relevant ids)] and [(history, last item)]"""
    relevant = {}
    with open(f"{folder}/data/qrels.tsv", encoding="utf-8") as f:
        for line in list(f)[1:]:
            query, document, grade = line.split()
            if int(grade) > 0:
                relevant.setdefault(query, set()).add(document)
    with open(f"{folder}/data/queries.jsonl", encoding="utf-8") as f:
        queries = [(q["text"], relevant[q["_id"]]) for q in map(json.loads, f) if q["_id"] in relevant]
    with open(f"{folder}/data/sequences.txt", encoding="utf-8") as f:
        histories = [(items[1:-1], items[-1]) for items in map(str.split, f) if len(items) > 2]
    return queries, histories


def put_all(suite, d, documents):
    ids = {}
    for at in range(0, len(documents), 100):
        status, _, body = d.request("POST", "/index", {"documents": documents[at:at + 100]})
        suite.check("indexed", status == 200, f"{status} {body}")
        ids.update((r["id"], r["semantic_id"]) for r in body["results"])
    return ids


class Means:
    """Recall@10 of each group."""

    def __init__(self, left_out):
        self.left_out, self.sums = left_out, {"learned": [0, 0.0], "left out": [0, 0.0]}

    def add(self, hits, relevant):
        top = {h["id"] for h in hits[:10]}
        for group, mine in (("learned", relevant - self.left_out), ("left out", relevant & self.left_out)):
            if mine:
                self.sums[group][0] += 1
                self.sums[group][1] += len(top & mine) / len(mine)

    def compare(self, suite, rows, task, ranking):
        for group, (count, total) in self.sums.items():
            row = rows[(task, group, ranking)]
            suite.equal(f"{task}, {ranking}, {group}: questions", row["queries"], count)
            suite.check(f"{task}, {ranking}, {group}: Recall@10 as the daemon ranks", abs(row["Recall@10"] - total / count) < TOLERANCE,
                        f"{row['Recall@10']} and {total / count}")


def searches(suite, d, rows, queries, left_out, mode):
    means = Means(left_out)
    for at in range(0, len(queries), 50):
        some = queries[at:at + 50]
        body = {"queries": [{"query": text, "limit": BEAM, "beam_width": BEAM, "mode": mode} for text, _ in some]}
        status, _, answer = d.request("POST", "/search", body)
        suite.check(f"search, {mode}", status == 200, f"{status} {answer}")
        for (_, relevant), result in zip(some, answer["results"]):
            means.add(result["hits"], relevant)
    means.compare(suite, rows, "search", "bm25" if mode == "lexical" else mode)
    return means


def recommendations(suite, d, rows, histories, left_out):
    means, found = Means(left_out), 0
    for history, target in histories:
        status, _, answer = d.request("POST", "/recommend", {"history": history, "limit": BEAM, "beam_width": BEAM, "mode": "hybrid", "explain": True})
        if status != 200:
            suite.check("recommendation", False, f"{status} {answer}")
            return
        scores = [h["score"] for h in answer["hits"]]
        if scores != sorted(scores, reverse=True):
            suite.check("recommendations stand in the order of their scores", False, f"{scores}")
        found += any(h["explain"]["lexical"] and not h["explain"]["suffix_trained"] for h in answer["hits"])
        means.add(answer["hits"], {target})
    suite.check("newcomers are recommended by the newest entry's words", found > len(histories) / 10, f"{found} of {len(histories)}")
    means.compare(suite, rows, "recommend", "hybrid")


def serve(suite, binary, folder, documents, left_out, rows):
    queries, histories = read_questions(folder)
    with Daemon(binary, f"{folder}/cold", "--threads", "2") as d:
        given = put_all(suite, d, [as_document(x) for x in documents if x["id"] in left_out])
        suite.equal("every document that was left out is indexed", set(given), left_out)
        with open(f"{folder}/cold/ids.tsv", encoding="utf-8") as f:
            learned = {line.split()[1] for line in f}
        suite.check("no ID is given out twice", len(set(given.values())) == len(given) and not learned & set(given.values()))
        for mode in ("generative", "hybrid", "lexical"):
            searches(suite, d, rows, queries, left_out, mode)
        recommendations(suite, d, rows, histories[:400], left_out)


def refusals(suite, binary, folder, bundle):
    out = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/no", "--hold-out", "0.6", status=64)
    suite.check("more than half cannot be left out", "hold-out" in out and "0.5" in out, out)
    out = run(binary, "evaluate", "--cold-start", "--data", f"{folder}/data", status=64)
    suite.check("a cold start needs a model", "--cold-start needs --model" in out, out)
    out = run(binary, "evaluate", "--cold-start", "--model", bundle, "--data", f"{folder}/data", "--embeddings", f"{folder}/none.npy", status=66)
    suite.check("embeddings that are not there", "none.npy" in out, out)


def own_embeddings(suite, binary, folder):
    """Documents that bring their vectors: rows of left-out documents take no part in learning, and evaluate brings them."""
    flags = ["--indexer", "residual", "--embeddings", f"{folder}/e.npy", "--k", "16", "--kmeans-restarts", "1"]
    said = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/own", "--hold-out", "0.2", "--max-tokens", "32", *flags)
    suite.check("held out", "documents are held out" in said, said)
    run(binary, "train", "search", "--model", f"{folder}/own", "--data", f"{folder}/data", "--steps", "10", "--batch", "32", *SMALL)
    rows, _ = evaluate(binary, folder, "own", "--embeddings", f"{folder}/e.npy")
    suite.check("found by their words", rows[("search", "left out", "bm25")]["Recall@10"] > 0.1, str(rows))
    out = run(binary, "evaluate", "--cold-start", "--model", f"{folder}/own", "--data", f"{folder}/data", status=65)
    suite.check("without their embeddings they cannot be indexed", "embedding" in out, out)


def main():
    binary = arguments()[0]
    suite = Suite("cold")
    with tempfile.TemporaryDirectory(prefix="semindex-cold-") as folder:
        documents, _ = make_data(binary, folder)
        said = run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/cold", "--hold-out", "0.2", "--max-tokens", "32", "--k", "16",
                   "--continuous-epochs", "1", "--joint-epochs", "1", "--kmeans-restarts", "1", *[x for x in SMALL if x != "--quiet"])
        learned = read_ids(f"{folder}/cold")
        left_out = {x["id"] for x in documents} - set(learned)
        suite.check("about a fifth is left out", 0.15 < len(left_out) / len(documents) < 0.25, str(len(left_out)))
        suite.check("and said so", f"{len(left_out)} of {len(documents)} documents are held out" in said, said)
        for task in ("search", "recommend"):
            run(binary, "train", task, "--model", f"{folder}/cold", "--data", f"{folder}/data", "--steps", "40", "--batch", "64", *SMALL)
        with open(f"{folder}/cold/popular.tsv", encoding="utf-8") as f:
            suite.check("training met none of them", not left_out & {line.split("\t")[0] for line in f})
        rows, facts = evaluate(binary, folder, "cold", "--task", "search")
        more, _ = evaluate(binary, folder, "cold", "--task", "recommend", "--queries", "400")
        words = [rows[("search", group, "bm25")]["Recall@10"] for group in ("left out", "learned")]
        suite.check("the ratio is said", abs(facts["search_cold_start_ratio_bm25"] - words[0] / words[1]) < 1e-6, f"{facts} {words}")
        serve(suite, binary, folder, documents, left_out, rows | more)
        refusals(suite, binary, folder, f"{folder}/cold")
        own_embeddings(suite, binary, folder)
    suite.end()


if __name__ == "__main__":
    main()
