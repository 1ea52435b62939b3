"""kill -9 under indexing load, through the daemon: what was acknowledged is there after a restart, what was not is there wholly or not at all.

    test_kill.py BINARY [BUNDLE|- [KILLS [SEED]]]     KILLS: 5 (make soak: 50)

Four clients send batches of three documents; the ledger says which batches got a 200. After each kill the same catalogue is opened again by a
new daemon and every batch of the ledger is looked up, document by document, and searched by its own word.
"""
import random
import threading
import time

from harness import arguments, Daemon, Suite

BATCH, CLIENTS = 3, 4


class Ledger:
    """Batches by number: acknowledged, refused by a dead connection (open), with the IDs they brought."""

    def __init__(self, first):
        self.lock, self.next, self.acknowledged, self.open = threading.Lock(), first, {}, {}

    def take(self):
        with self.lock:
            self.next += 1
            return self.next - 1


def documents_of(number, bring):
    out = []
    for i in range(BATCH):
        d = {"id": f"k{number}-{i}", "title": f"killword{number}x{i}", "text": f"document {i} of batch {number}"}
        if bring:
            d["semantic_id"] = f"{number % 16}-{number // 16 % 16}-{1000 + number // 256 * BATCH + i}"
        out.append(d)
    return out


def client(d, ledger, bring, stop):
    while not stop.is_set():
        number = ledger.take()
        try:
            status, _, _ = d.request("POST", "/index", {"documents": documents_of(number, bring)}, timeout=20)
        except OSError:
            status = None
        except Exception:  # the connection died in the middle of an answer
            status = None
        with ledger.lock:
            (ledger.acknowledged if status == 200 else ledger.open)[number] = True
        if status is None:
            return


def load_and_kill(d, ledger, bring, seconds):
    stop = threading.Event()
    clients = [threading.Thread(target=client, args=(d, ledger, bring, stop)) for _ in range(CLIENTS)]
    for c in clients:
        c.start()
    time.sleep(seconds)
    d.process.kill()
    d.process.wait()
    stop.set()
    for c in clients:
        c.join()


def present(d, number):
    return [d.request("GET", f"/documents/k{number}-{i}")[0] == 200 for i in range(BATCH)]


def check(suite, d, ledger, numbers):
    lost = half = phantom = 0
    for n in numbers:
        found = present(d, n)
        lost += n in ledger.acknowledged and not all(found)
        half += any(found) and not all(found)
        if all(found):
            status, _, body = d.request("POST", "/search", {"query": f"killword{n}x1", "mode": "lexical", "limit": 5})
            phantom += status != 200 or [h["id"] for h in body["hits"]] != [f"k{n}-1"]
    suite.check("nothing acknowledged is lost", lost == 0, f"{lost} lost")
    suite.check("no batch is half there", half == 0, f"{half} half")
    suite.check("rows and word index agree", phantom == 0, f"{phantom} differ")


def main():
    binary, bundle, rest = arguments()
    kills, seed = int(rest[0]) if rest else 5, int(rest[1]) if len(rest) > 1 else 1
    random.seed(seed)
    suite = Suite("kill")
    ledger, checked = Ledger(0), 0
    with Daemon(binary, bundle) as first:
        bring = "indexer" not in {p["name"] for p in first.request("GET", "/info")[2]["model"]["parts"]}
        for _ in range(kills):
            load_and_kill(first, ledger, bring, random.uniform(0.05, 0.8))
            first.start()
            check(suite, first, ledger, range(max(0, checked - 50), ledger.next))
            checked = ledger.next
        check(suite, first, ledger, range(ledger.next))
        suite.equal("a clean end", first.terminate(), 0)
    print(f"kills={kills} batches={ledger.next} acknowledged={len(ledger.acknowledged)} seed={seed}")
    suite.end()


if __name__ == "__main__":
    main()
