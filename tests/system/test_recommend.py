"""POST /recommend in its three modes: the beam, item neighbours, and both; what a history without known items gets.

    test_recommend.py BINARY

A small model of the sample; neighbours are counted once more here, from the histories that train.
"""
import json
import math
import subprocess
import tempfile

from harness import arguments, Daemon, Suite
from test_embeddings import SMALL, make_data, run

WINDOW, X, DECAY, TOLERANCE = 10, 0.5, 0.5, 1e-5


def read_histories(folder):
    with open(f"{folder}/data/sequences.txt", encoding="utf-8") as f:
        return [line.split()[1:] for line in f]


def count_neighbours(histories):
    """sim(i, j) over all but the last two items of every history (neighbours.h)."""
    popularity, near = {}, {}
    for items in (h[:-2] for h in histories):
        for at, i in enumerate(items):
            popularity[i] = popularity.get(i, 0) + 1
            for distance, j in enumerate(items[at + 1:at + 1 + WINDOW], 1):
                near.setdefault(i, {})[j] = near.get(i, {}).get(j, 0) + 1 / distance
    for i, others in near.items():
        for j in others:
            others[j] /= math.sqrt(popularity[i])
    return near, popularity


def expected_scores(near, history):
    scores = {}
    for age, i in enumerate(reversed(history)):
        for j, s in near.get(i, {}).items():
            scores[j] = scores.get(j, 0) + DECAY ** age * s
    return {j: s for j, s in scores.items() if j not in history}


def ask(suite, d, status=200, **body):
    got, _, answer = d.request("POST", "/recommend", body)
    suite.equal(f"status of {sorted(body)}", got, status)
    return answer


def neighbours(suite, d, near, histories):
    for history in histories[:40]:
        past, wanted = history[:-2], expected_scores(near, history[:-2])
        hits = ask(suite, d, history=past, mode="neighbours", limit=10, explain=True)["hits"]
        suite.equal("as many as there are", len(hits), min(10, len(wanted)))
        best = sorted(wanted.values(), reverse=True)
        for hit, score in zip(hits, best):
            suite.check("neighbours' score", abs(hit["score"] - score) < TOLERANCE * score and abs(wanted.get(hit["id"], 0) - score) < TOLERANCE * score,
                        f"{hit} expected {score}")
        suite.check("what is explained", all(h["explain"]["neighbours"]["rank"] == h["rank"] and h["explain"]["generative"] is None for h in hits))


def mixture(suite, d, weight, histories):
    for history in histories[:20]:
        past = history[:-2]
        beam = ask(suite, d, history=past, mode="generative", limit=20, beam_width=20)["hits"]
        suite.equal("generative is the default", [h["id"] for h in ask(suite, d, history=past, limit=20, beam_width=20)["hits"]], [h["id"] for h in beam])
        mixed = ask(suite, d, history=past, mode="hybrid", limit=20, beam_width=20, explain=True)["hits"]
        near = ask(suite, d, history=past, mode="neighbours", limit=100)["hits"]
        p, q = {h["id"]: math.exp(h["score"]) for h in beam}, {h["id"]: h["score"] for h in near}
        share = {i: (weight * p.get(i, 0) / sum(p.values()) + q.get(i, 0) / (sum(q.values()) or 1)) / (1 + weight) for i in {*p, *q}}
        for hit, wanted in zip(mixed, sorted(share.values(), reverse=True)):
            suite.check("the mixture's share", abs(math.exp(hit["score"]) - wanted) < 1e-3 * wanted, f"{hit} expected {wanted}")
        suite.equal("all of both lists", len(mixed), min(20, len(share)))


def edges(suite, d, popularity, histories):
    past = histories[0][:-2]
    for mode in ("generative", "neighbours", "hybrid"):
        for history in ([], ["nobody-1"]):
            answer = ask(suite, d, history=history, mode=mode, limit=3)
            suite.check(f"{mode} of {history} falls back and says so", answer["fallback_used"] is True and len(answer["hits"]) == 3, f"{answer}")
            suite.equal("to what is popular", popularity[answer["hits"][0]["id"]], max(popularity.values()))
        answer = ask(suite, d, history=past, mode=mode, limit=5)
        suite.check(f"{mode}: no fallback, nothing of the history", not answer["fallback_used"] and not {h["id"] for h in answer["hits"]} & set(past))
        first = answer["hits"][0]["id"]
        suite.check(f"{mode}: exclude", first not in {h["id"] for h in ask(suite, d, history=past, mode=mode, limit=5, exclude=[first])["hits"]})
        second = ask(suite, d, history=past, mode=mode, limit=2, offset=1)["hits"]
        suite.equal(f"{mode}: offset", [h["id"] for h in second], [h["id"] for h in answer["hits"][1:3]])
    refused = ask(suite, d, 422, history=past, mode="lexical")
    suite.check("lexical is no mode of a recommendation", "neighbours" in json.dumps(refused) and "/mode" in json.dumps(refused), f"{refused}")
    status, _, answer = d.request("POST", "/search", {"query": "tent", "mode": "neighbours"})
    suite.check("neighbours is no mode of a search", status == 422 and "/mode" in json.dumps(answer), f"{answer}")


def command_line(suite, binary, folder, d, past):
    wanted = [h["id"] for h in ask(suite, d, history=past, mode="neighbours", limit=5)["hits"]]
    said = subprocess.run([binary, "recommend", "--model", f"{folder}/b", "--catalog", f"{folder}/own.db", "--mode", "neighbours", "--limit", "5", "--json",
                           *past], capture_output=True, text=True, timeout=60)
    suite.equal("the command line says the same", [h["id"] for h in json.loads(said.stdout)["hits"]], wanted)
    run(binary, "search", "--model", f"{folder}/b", "--catalog", f"{folder}/own.db", "--mode", "neighbours", "tent", status=64)


def main():
    binary = arguments()[0]
    suite = Suite("recommend")
    with tempfile.TemporaryDirectory(prefix="semindex-test-") as folder:
        make_data(binary, folder)
        run(binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/b", "--k", "16", "--continuous-epochs", "0.5", "--joint-epochs", "0.5",
            "--kmeans-restarts", "1", "--max-tokens", "16", *SMALL)
        said = run(binary, "train", "recommend", "--model", f"{folder}/b", "--data", f"{folder}/data", "--steps", "30", "--batch", "64")
        suite.check("the weight is chosen beside neighbours", "beam weight" in said and "beside neighbours" in said, said)
        with open(f"{folder}/b/recommend.json", encoding="utf-8") as f:
            weight = json.load(f)["settings"]["beam_weight"]
        suite.check("a beam always counts", weight > 0, f"{weight}")
        histories = read_histories(folder)
        near, popularity = count_neighbours(histories)
        with Daemon(binary, f"{folder}/b", "--threads", "2") as d:
            neighbours(suite, d, near, histories)
            mixture(suite, d, weight, histories)
            edges(suite, d, popularity, histories)
            command_line(suite, binary, folder, d, histories[0][:-2])
    suite.end()


if __name__ == "__main__":
    main()
