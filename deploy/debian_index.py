"""debian_index.py: what demo-debian does over HTTP: the daemon, the batches of POST /index, and the figures made from their answers.

The ledger (a JSON line per acknowledged batch: seconds, the daemon's processor seconds, [id, semantic id] of each document) is what a stopped
run goes on from. A batch that was stored but not yet in the ledger is sent again and comes back as `unchanged`. Used by debian_demo.py.
"""
import collections
import http.client
import json
import math
import os
import subprocess
import sys
import time

BATCH, THOUSAND = 100, 1000


class Daemon:
    """semindex serve in folder `home` (its log goes there), on a port that the kernel picks unless `listen` names one."""

    def __init__(self, program, home, listen):
        self.log = open(os.path.join(home, "serve.log"), "a")
        command = [program, "serve", "--model", home + "/bundle", "--catalog", home + "/catalog.db", "--listen", listen]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            sys.exit(f"the daemon did not start (status {self.process.wait()}); see {self.log.name}")
        self.url = line.split()[2]
        self.connection = http.client.HTTPConnection(self.url.split("//")[1], timeout=600)
        self.until_ready()

    def until_ready(self):
        while self.request("GET", "/readyz", wanted=(200, 503))[0] != 200:
            if self.process.poll() is not None:
                sys.exit(f"the daemon ended with {self.process.returncode}; see {self.log.name}")
            time.sleep(0.05)

    def request(self, method, path, body=None, wanted=(200,)):
        """(status, parsed body); a status that is not wanted ends the demo with the daemon's words."""
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self.exchange(method, path, data)
        except (ConnectionError, http.client.BadStatusLine):  # the daemon has closed an idle connection
            self.connection.close()
            answer = self.exchange(method, path, data)
        if answer[0] not in wanted:
            sys.exit(f"{method} {path}: {answer[0]} {answer[1]}")
        return answer

    def exchange(self, method, path, data):
        self.connection.request(method, path, body=data, headers={"Content-Type": "application/json"} if data else {})
        response = self.connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None

    def processor_s(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024

    def stop(self):
        """SIGTERM; the exit status."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(60)
        self.process.stdout.close()
        self.log.close()
        return status


class Ledger:
    def __init__(self, path):
        self.path, self.batches = path, []
        if os.path.exists(path):
            with open(path) as f:
                self.batches = [json.loads(line) for line in f if line.endswith("\n")]
        self.write_whole()

    def write_whole(self):
        """Without the half line that a kill may have left."""
        with open(self.path + ".new", "w") as f:
            f.writelines(json.dumps(b) + "\n" for b in self.batches)
        os.replace(self.path + ".new", self.path)

    def add(self, batch):
        self.batches.append(batch)
        with open(self.path, "a") as f:
            f.write(json.dumps(batch) + "\n")

    def clear(self):
        self.batches = []
        self.write_whole()

    def count(self):
        return sum(len(b["ids"]) for b in self.batches)

    def ids(self):
        return [pair for b in self.batches for pair in b["ids"]]

    def rate(self, batches, clock="seconds"):
        """Documents a second of these batches."""
        return sum(len(b["ids"]) for b in batches) / max(sum(b[clock] for b in batches), 1e-9)


def post(daemon, documents):
    """One POST /index: (answer, what the ledger keeps of it)."""
    began, used = time.monotonic(), daemon.processor_s()
    answer = daemon.request("POST", "/index", {"documents": documents})[1]
    seconds, processor = time.monotonic() - began, daemon.processor_s() - used
    ids = [[r["id"], r["semantic_id"]] for r in answer["results"]]
    return answer, {"seconds": round(seconds, 6), "processor": round(processor, 2), "ids": ids}


def index_rest(daemon, documents, ledger):
    """Sends what the ledger lacks, in batches; a line every thousand, on a terminal over the last one, in a log every ten thousand."""
    done, terminal = ledger.count(), sys.stdout.isatty()
    if done:
        print(f"going on after {done} documents")
    for at in range(done, len(documents), BATCH):
        ledger.add(post(daemon, documents[at:at + BATCH])[1])
        if (at + BATCH) % (THOUSAND if terminal else 10 * THOUSAND) == 0:
            last = ledger.rate(ledger.batches[-THOUSAND // BATCH:])
            print(f"{at + BATCH} of {len(documents)} documents, the last thousand at {last:.0f}/s, {daemon.peak_mib():.0f} MiB ",
                  end="\r" if terminal else "\n", flush=True)


# ---- adjusted mutual information ----

def entropy(sizes, n):
    return -sum(s / n * math.log(s / n) for s in sizes)


def expected_cell(a, b, n, lf):
    """Expected information of one cell when clusters of a and b out of n documents meet by chance."""
    fixed = lf[a] + lf[b] + lf[n - a] + lf[n - b] - lf[n]
    return sum(k / n * math.log(n * k / (a * b)) * math.exp(fixed - lf[k] - lf[a - k] - lf[b - k] - lf[n - a - b + k])
               for k in range(max(1, a + b - n), min(a, b) + 1))


def ami(first, second):
    """AMI of two labelings (arithmetic mean; Vinh, Epps and Bailey 2010, equations 24a and 27). Equal sizes are computed once."""
    n, a, b = len(first), collections.Counter(first), collections.Counter(second)
    cells = collections.Counter(zip(first, second))
    lf = [math.lgamma(i + 1) for i in range(n + 1)]
    mutual = sum(c / n * math.log(n * c / (a[x] * b[y])) for (x, y), c in cells.items())
    kinds = [collections.Counter(c.values()) for c in (a, b)]
    expected = sum(i * j * expected_cell(x, y, n, lf) for x, i in kinds[0].items() for y, j in kinds[1].items())
    room = (entropy(a.values(), n) + entropy(b.values(), n)) / 2 - expected
    return (mutual - expected) / room if room else 1.0
