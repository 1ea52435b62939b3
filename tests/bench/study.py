"""study.py: what the studies share: rows of steps, each step run once, its cost and its commit kept beside its answer.

A row is one trained bundle in FOLDER/ROW/. A step is one `semindex` command; what it printed, its seconds (of the clock and of the processors),
commit, load and arguments lie in ROW/STEP.json when it has ended well, and the next run of the study skips it. A step that was stopped goes on
from the program's own checkpoint; the seconds of all its tries are added up in ROW/STEP.seconds. So a study can be killed at any time, and a row
whose folder is removed is made anew.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time


def read_arguments(what, **more):
    """BINARY DATA and what every study takes, with options of its own: name=(default, help)."""
    p = argparse.ArgumentParser(description=what.split("\n", 1)[0])
    p.add_argument("binary")
    p.add_argument("data")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--folder", default="", help="where the rows lie")
    p.add_argument("--out", default="", help="the file that is written")
    for name, (default, text) in more.items():
        p.add_argument("--" + name, default=default, help=text)
    return p.parse_args()


def open_study(a, name):
    return Study(a.binary, a.folder or "build/%s-%d" % (name, a.seed), a.data.rstrip("/"), a.seed, a.threads)


def finish(a, name, text):
    """Prints what was found and writes it; returns the file."""
    out = a.out or "tests/bench/results/%s-seed%d.txt" % (name, a.seed)
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)
    print(text + "\nwritten: " + out)
    return out


def head(title, seed, command):
    """The first lines of a result file."""
    return ["%s; seed %d" % (title, seed), "command: " + command, "machine: " + machine(), "date: " + time.strftime("%Y-%m-%d", time.gmtime()),
            "[..]: 95 % bootstrap intervals over the test questions", ""]


def cost_of(record):
    """A step's command, and what it took."""
    return "%s\n  seconds=%s cpu_seconds=%s load=%s commit=%s" % tuple(record[k] for k in ("command", "seconds", "cpu_seconds", "load", "commit"))


def machine():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        lines = f.read().splitlines()
    model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown processor")
    flags = next((x for x in lines if x.startswith("flags")), "")
    return "%s, %d processors, %s" % (model, os.cpu_count(), "avx512" if " avx512f " in flags else "avx2" if " avx2 " in flags else "no avx2")


def commit():
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


class Study:
    def __init__(self, binary, folder, data, seed=1, threads=1):
        self.binary, self.folder, self.data, self.seed, self.threads = binary, folder, data, seed, threads
        os.makedirs(folder, exist_ok=True)

    def bundle(self, row):
        return os.path.join(self.folder, row, "bundle")

    def path(self, row, name):
        return os.path.join(self.folder, row, name)

    def load(self, row, step):
        """What a finished step left, or None."""
        try:
            with open(self.path(row, step + ".json"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return None

    def step(self, row, step, *arguments):
        """Runs `semindex arguments --seed --threads` unless it has ended already; returns its record. Ends the study when it fails."""
        done = self.load(row, step)
        if done is not None:
            return done
        os.makedirs(os.path.join(self.folder, row), exist_ok=True)
        shown = " ".join(arguments).replace(self.folder + "/", "").replace(self.data, "DATA").replace(os.path.dirname(self.data) + "/", "DATA/../")
        print("%-24s semindex %s" % (row, shown), flush=True)
        spent = self.spent(row, step)
        began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(self.path(row, step + ".out"), "wb") as out, open(self.path(row, step + ".log"), "ab") as log:
            code = subprocess.run([self.binary, *arguments, "--seed", str(self.seed), "--threads", str(self.threads)], stdout=out,
                                  stderr=log).returncode
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent[0] += time.time() - began
        spent[1] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with open(self.path(row, step + ".seconds"), "w", encoding="utf-8") as f:
            json.dump(spent, f)
        if code != 0:
            with open(self.path(row, step + ".log"), encoding="utf-8", errors="replace") as f:
                sys.stderr.write("".join(f.readlines()[-5:]))
            sys.exit("%s: %s ended with %d; the same command goes on" % (row, step, code))
        return self.keep(row, step, shown, spent)

    def spent(self, row, step):
        try:
            with open(self.path(row, step + ".seconds"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return [0.0, 0.0]

    def keep(self, row, step, shown, spent):
        with open(self.path(row, step + ".out"), encoding="utf-8") as f:
            printed = f.read()
        record = {"command": "semindex %s --seed %d --threads %d" % (shown, self.seed, self.threads), "seconds": round(spent[0], 1),
                  "cpu_seconds": round(spent[1], 1), "load": round(os.getloadavg()[0], 2), "commit": commit(), "out": printed,
                  "notes": self.notes(row, step)}
        with open(self.path(row, step + ".part"), "w", encoding="utf-8") as f:
            json.dump(record, f)
        os.replace(self.path(row, step + ".part"), self.path(row, step + ".json"))
        return record

    def notes(self, row, step):
        """The lines that say something, without progress."""
        with open(self.path(row, step + ".log"), encoding="utf-8", errors="replace") as f:
            lines = f.read().replace("\r", "\n").splitlines()
        return [x for x in lines if x and "/s" not in x and " left" not in x and not x.startswith("device")]


def table(lines):
    """Rows of cells, the first one the head, as aligned text."""
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(str(x).ljust(w) if i == 0 else str(x).rjust(w) for i, (x, w) in enumerate(zip(line, widths))).rstrip()
                     for line in lines)


def ranking(answer, name):
    """One ranking's figures of the first table of `evaluate --json`, or None."""
    for t in answer["tables"]:
        for r in t["rows"]:
            if r["ranking"] == name:
                return r
    return None
