"""The daemon on a device, under load, with reloads: 16 clients ask for what the beam fixture expects, while documents come and go.

    check_device.py BINARY DEVICE [exact|narrow [SECONDS]]     DEVICE: as --device; narrow (default): activations are bf16

Each document that comes or goes makes a new trie, swapped in between two searches. A trie only removes, so the scores of the others stay: an answer
as wide as the catalogue must name every document of the fixture, each with its reference score, whatever came or went meanwhile. exact: 4e-5;
narrow: 4 x 2^-8 of the largest score (as `parity`, where it is derived), and of 20 hits so many as there: 0.9 in the mean.
"""
import http.client
import threading
import time
import sys

from harness import Daemon, exchange, import_beam, in_threads, Suite
from test_beam import load, search, FIXTURES

CLIENTS, OVERLAP = 16, 0.9


class Case:
    def __init__(self, narrow):
        self.queries, self.names, self.expected = load(FIXTURES)
        self.narrow = narrow
        every = self.expected["beamall.docs"]
        self.scores = [{self.names[doc]: s for doc, s in zip(every[q], self.expected["beamall.scores"][q])} for q in range(len(self.queries))]
        self.top = [{self.names[doc] for doc in self.expected["beam20.docs"][q]} for q in range(len(self.queries))]

    def tolerance(self, q):
        return 4 / 256 * max(map(abs, self.scores[q].values())) if self.narrow else 4e-5

    def faults(self, q, hits):
        """What is wrong with an answer as wide as the catalogue; the worst error of a score."""
        own = [(h["id"], h["score"]) for h in hits if not h["id"].startswith("churn-")]
        if {name for name, _ in own} != set(self.scores[q]) or len(own) != len(self.scores[q]):
            return f"query {q}: {len(own)} of {len(self.scores[q])} documents", 0.0
        worst = max(abs(score - self.scores[q][name]) for name, score in own)
        if worst > self.tolerance(q):
            return f"query {q}: a score is off by {worst:.2e}, allowed {self.tolerance(q):.2e}", worst
        if any(a < b for (_, a), (_, b) in zip(own, own[1:])):
            return f"query {q}: hits are not in order", worst
        return None, worst


def churn(d, stop, counts):
    """One document after the other comes and goes."""
    connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
    i = 0
    while not stop.is_set():
        name = f"churn-{i}"
        for suffix in range(40):
            document = {"id": name, "title": "comes and goes", "text": "soon", "semantic_id": f"{i % 16}-{i // 16 % 16}-{suffix}"}
            status = exchange(connection, "POST", "/index", {"documents": [document]})[0]
            if status != 409:
                break
        gone = exchange(connection, "DELETE", f"/documents/{name}")[0]
        counts["swaps"] += 2
        counts["bad"] += (status != 200) + (gone not in (200, 204))
        i += 1


def ask(d, case, first, end, found):
    """Full-width searches one after the other, until `end`."""
    connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=120)
    q = first
    while time.time() < end or found["answers"] == 0:
        status, _, answer = search(connection, case.queries[q], 400, 400)
        fault, worst = case.faults(q, answer["hits"]) if status == 200 else (f"query {q}: status {status}", 0.0)
        found["answers"] += 1
        found["worst"] = max(found["worst"], worst)
        if fault:
            found["faults"].append(fault)
        q = (q + 1) % len(case.queries)


def overlap_of_twenty(suite, d, case):
    shared, got, lock = 0.0, [], threading.Lock()

    def work(i):
        connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=120)
        for q in range(i, len(case.queries), CLIENTS):
            status, _, answer = search(connection, case.queries[q], 20, 20)
            with lock:
                got.append((q, {h["id"] for h in answer["hits"]} if status == 200 else set()))

    for t in in_threads(CLIENTS, work):
        t.join()
    shared = sum(len(ids & case.top[q]) / len(case.top[q]) for q, ids in got) / len(case.queries)
    suite.check("20 hits: overlap with the reference", shared >= (OVERLAP if case.narrow else 1), f"{shared:.3f}")
    print(f"20 hits: overlap with the reference {shared:.3f}")


def load_with_reloads(suite, d, case, seconds):
    stop, swaps = threading.Event(), {"swaps": 0, "bad": 0}
    found = [{"answers": 0, "worst": 0.0, "faults": []} for _ in range(CLIENTS)]
    end = time.time() + seconds
    writer = in_threads(1, lambda _: churn(d, stop, swaps))
    for t in in_threads(CLIENTS, lambda i: ask(d, case, i % len(case.queries), end, found[i])):
        t.join()
    stop.set()
    writer[0].join()
    answers, faults = sum(f["answers"] for f in found), [x for f in found for x in f["faults"]]
    print(f"{CLIENTS} clients, {seconds:.0f} s: {answers} answers ({answers / seconds:.0f}/s), {swaps['swaps']} reloads, "
          f"worst error of a score {max(f['worst'] for f in found):.2e}")
    suite.check("under reloads: every answer is right", not faults, f"{len(faults)} of {answers}: {faults[:3]}")
    suite.check("documents come and go", swaps["swaps"] > 0 and swaps["bad"] == 0, str(swaps))


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: check_device.py BINARY DEVICE [exact|narrow [SECONDS]]")
    binary, device = sys.argv[1:3]
    narrow = sys.argv[3:4] != ["exact"]
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 30
    suite, case = Suite("device"), Case(narrow)
    with Daemon(binary, import_beam(binary), "--device", device, timeout=300) as d:
        print("device:", d.request("GET", "/info")[2]["device"])
        overlap_of_twenty(suite, d, case)
        load_with_reloads(suite, d, case, seconds)
        suite.equal("ready to the end", d.request("GET", "/readyz")[0], 200)
        suite.equal("SIGTERM: exit status", d.terminate(), 0)
    suite.end()


if __name__ == "__main__":
    main()
