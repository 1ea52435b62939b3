#!/usr/bin/env python3
"""device_overlap.py: does a device find what the cpu finds? Two daemons of one program, one bundle, the same held-out questions.

    device_overlap.py BINARY BUNDLE DATA [--device NAME] [--narrow] [--queries N]         usually: make device-overlap BUNDLE=.. DATA=..

Each task model of the bundle answers N questions (default 100) on both devices: search those of DATA/queries.jsonl, recommend the histories of
DATA/sequences.txt without their last item; 20 hits by a beam of 20, eight clients at once so that batches form. Prints for each model the share
of the cpu's ten best that the device's ten best name, the worst error of a score (of a document that both name) with its bound, and the hits
that stand at another rank. Exit status 1 when a limit fails:

  f32        lists are the same rank by rank; two documents may be exchanged only where the cpu's scores are nearer than the error of a score,
             EXACT of the largest; scores that tie exactly on both devices stand in the same order
  --narrow   (activations are bf16) the ten best share 0.95 in the mean; the root mean square of a score's error is within 4 x 2^-8 of that of
             the scores (`parity` derives it for models of this depth); the worst of thousands is some four times a root mean square, so
             any single one is within 4 x 4 x 2^-8 of its question's largest score
"""
import argparse
import http.client
import json
import math
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import Daemon, exchange, in_threads  # noqa: E402

CLIENTS, HITS, TOP = 8, 20, 10
EXACT, NARROW, SINGLE, OVERLAP = 1e-5, 4 / 256, 4, 0.95


def read_arguments():
    p = argparse.ArgumentParser()
    p.add_argument("binary")
    p.add_argument("bundle")
    p.add_argument("data")
    p.add_argument("--device", default="cuda")
    p.add_argument("--narrow", action="store_true")
    p.add_argument("--queries", type=int, default=100)
    return p.parse_args()


def spread(rows, n):
    """n of the rows, evenly from first to last."""
    return [rows[i * len(rows) // n] for i in range(n)] if len(rows) > n else rows


def searches(data, n):
    with open(os.path.join(data, "queries.jsonl"), encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    return [("/search", {"query": t, "mode": "generative", "limit": HITS, "beam_width": HITS}) for t in spread(texts, n)]


def recommendations(data, n):
    with open(os.path.join(data, "sequences.txt"), encoding="utf-8") as f:
        histories = [line.split()[1:-1] for line in f]
    return [("/recommend", {"history": h, "exclude_history": False, "limit": HITS, "beam_width": HITS}) for h in spread(histories, n)]


def answers_of(d, questions):
    out = [None] * len(questions)

    def work(first):
        connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=600)
        for i in range(first, len(questions), CLIENTS):
            path, body = questions[i]
            status, _, answer = exchange(connection, "POST", path, dict(body, fields=["id"], timeout_ms=60000))
            if status != 200:
                print(f"FAILED {path} says {status}: {answer}")
            out[i] = [(h["id"], h["score"]) for h in answer["hits"]] if status == 200 else []
        connection.close()

    for t in in_threads(CLIENTS, work):
        t.join()
    return out


class Comparison:
    """Sums over the questions of one model."""

    def __init__(self, narrow):
        self.narrow, self.limit, self.single = narrow, NARROW if narrow else EXACT, SINGLE * NARROW if narrow else EXACT
        self.questions = self.hits = self.exchanged = self.ties = self.ties_apart = self.wrong = 0
        self.shared = self.squares = self.scale = self.worst = self.worst_single = self.largest = 0.0
        self.least = 1.0

    def add(self, reference, mine):
        score = dict(mine)
        both = [(abs(score[name] - s), s) for name, s in reference if name in score]
        top = {name for name, _ in mine[:TOP]}
        shared = len([name for name, _ in reference[:TOP] if name in top]) / max(min(TOP, len(reference)), 1)
        largest = max([abs(s) for _, s in reference], default=0)
        self.questions += 1
        self.hits += len(reference)
        self.shared += shared
        self.least = min(self.least, shared)
        self.squares += sum(e * e for e, _ in both)
        self.scale += sum(s * s for _, s in both)
        self.worst = max([self.worst] + [e for e, _ in both])
        self.worst_single = max([self.worst_single] + [e / largest for e, _ in both if largest])
        self.largest = max(self.largest, largest)
        self.add_ranks(reference, mine, self.single * largest)

    def add_ranks(self, reference, mine, near):
        score = dict(reference)
        last = reference[-1][1] if reference else 0
        for i, (name, s) in enumerate(reference):
            other = mine[i][0] if i < len(mine) else None
            self.exchanged += other != name
            self.wrong += other != name and (other is None or abs(score.get(other, last) - s) > near)
        self.wrong += len(mine) != len(reference)
        place = {name: i for i, (name, _) in enumerate(mine)}
        own = dict(mine)
        for (a, s), (b, t) in zip(reference, reference[1:]):
            if s == t and a in place and b in place:
                self.ties += 1
                self.ties_apart += own[a] == own[b] and place[a] > place[b]

    def verdict(self):
        share, rms = self.shared / max(self.questions, 1), math.sqrt(self.squares / self.scale) if self.scale else 0
        print(f"  overlap of the {TOP} best: {share:.4f} in the mean, {self.least:.2f} at least; limit {OVERLAP if self.narrow else 'rank by rank'}")
        print(f"  score: worst error {self.worst:.2e} of scores to {self.largest:.2f}; worst / largest of its question {self.worst_single:.2e}, "
              f"limit {self.single:.2e}; rms error / rms score {rms:.2e}, limit {self.limit:.2e}")
        print(f"  ranks: {self.exchanged} of {self.hits} hits stand elsewhere, {self.wrong} of them further than the limit of a score; "
              f"{self.ties} exact ties, {self.ties_apart} in another order")
        ranks = share >= OVERLAP if self.narrow else self.wrong == 0
        return ranks and self.ties_apart == 0 and rms <= self.limit and self.worst_single <= self.single


def main():
    a = read_arguments()
    with open(os.path.join(a.bundle, "bundle.json"), encoding="utf-8") as f:
        parts = json.load(f)["parts"]
    tasks = [(name, make(a.data, a.queries)) for name, part, file, make in
             (("search", "search.json", "queries.jsonl", searches), ("recommend", "recommend.json", "sequences.txt", recommendations))
             if part in parts and os.path.exists(os.path.join(a.data, file))]
    found = {}
    with tempfile.TemporaryDirectory(prefix="semindex-overlap-") as folder:
        for device in ("cpu", a.device):
            with Daemon(a.binary, a.bundle, "--device", device, catalog=os.path.join(folder, "catalog.db"), timeout=600) as d:
                names = d.request("GET", "/info")[2]["device"]
                found[device] = [answers_of(d, questions) for _, questions in tasks]
    print(f"cpu and {a.device}: {names}; activations {'bf16' if a.narrow else 'f32'}")
    failed = 0 if tasks else 1
    for k, (name, questions) in enumerate(tasks):
        c = Comparison(a.narrow)
        pairs = list(zip(found["cpu"][k], found[a.device][k]))
        for reference, mine in pairs:
            c.add(reference, mine)
        print(f"{name}: {len(questions)} questions")
        failed += not (c.verdict() and all(reference and mine for reference, mine in pairs))
    print(f"device_overlap: {len(tasks) - failed if tasks else 0} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
