#!/usr/bin/env python3
"""debian_demo.py PROGRAM HOME [--check] [...]: corpus, IDs, search model, daemon, POST /index of the rest, answers; all of it in HOME.

Usually started by demo-debian.sh, which sees to the packages and the build. A finished step is not done again; a stopped one goes on where it
was. state.json counts the seconds and the peak memory of every step over all runs, so the figures of the check hold for interrupted runs too.
--check ends with `N passed, N failed` and status 0 or 1. Python's standard library only.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

import debian_corpus
import debian_index

LEARN = ("--k 256 --d-model 96 --d-ff 256 --d-kv 24 --heads 4 --encoder-layers 2 --decoder-layers 1 --max-tokens 40 --batch 64 --lr 2e-3"
         " --dropout 0.05 --hints 0.02,0.02 --temperature 24 --target-share 0.5 --continuous-epochs 6 --joint-epochs 4"
         " --weight-contrastive 0.3 --kmeans-restarts 3").split()
TRAIN = "--pseudo 2 --epochs 50 --batch 128 --lr 4e-3".split()
QUERIES = ["web server", "image editor", "compiler for the C language", "play chess against the computer", "relational database server",
           "read and send mail in the terminal", "python library for plotting", "spell checker dictionary for German"]
MINUTES, MIB, RATIO, SPOTS, AGAIN, SYNOPSES = 20, 2048, 0.8, 500, 1000, 200


class Terminated(KeyboardInterrupt):
    """SIGTERM came to this process alone; Ctrl-C on a terminal reaches its children too."""


def on_terminate(*_):
    raise Terminated


class State:
    """Seconds and MiB by step, kept in HOME/state.json."""

    def __init__(self, path):
        self.path, self.value = path, {"seconds": {}, "mib": {}, "done": []}
        if os.path.exists(path):
            with open(path) as f:
                self.value = json.load(f)

    def save(self):
        with open(self.path + ".new", "w") as f:
            json.dump(self.value, f, indent=1)
        os.replace(self.path + ".new", self.path)

    def spend(self, step, seconds):
        self.value["seconds"][step] = self.value["seconds"].get(step, 0) + seconds
        self.save()

    def memory(self, step, mib):
        self.value["mib"][step] = round(max(self.value["mib"].get(step, 0), mib), 1)

    def run(self, step, title, work):
        """Does the step unless it is done, and counts its time also when it is stopped."""
        if step in self.value["done"]:
            return
        print(f"\n== {title}", flush=True)
        began = time.monotonic()
        try:
            work()
            self.value["done"].append(step)
        finally:
            self.spend(step, time.monotonic() - began)


def child(state, step, *command):
    """A command of the program; its notes and progress go to the terminal. Ctrl-C reaches it too, and it is waited for."""
    process, stopped = subprocess.Popen(command), False
    while True:
        try:
            _, status, usage = os.wait4(process.pid, 0)
            break
        except KeyboardInterrupt as e:
            stopped = True
            if isinstance(e, Terminated):
                process.terminate()
    process.returncode = os.waitstatus_to_exitcode(status)
    state.memory(step, usage.ru_maxrss / 1024)
    if stopped:
        raise KeyboardInterrupt
    if process.returncode:
        sys.exit(f"{' '.join(command[:3])} ended with status {process.returncode}")


def read_lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def learned_documents(home):
    """The learned packages as POST /index takes them."""
    out = []
    for line in read_lines(home + "/data/learn/corpus.jsonl"):
        d = {"id": line["_id"], "title": line["title"], "text": line["text"]}
        out.append(dict(d, attributes={"section": line["section"]}) if "section" in line else d)
    return out


# ---- learn ----

def learn(o, state):
    folder = os.path.dirname(os.path.abspath(__file__))
    data, bundle = o.home + "/data", o.home + "/bundle"
    state.run("corpus", "package lists", lambda: child(
        state, "corpus", sys.executable, folder + "/debian_corpus.py", data, "--learn", str(o.learn), "--first", str(o.first), "--seed", str(o.seed)))
    common = ["--model", bundle, "--data", data + "/learn", "--seed", str(o.seed)]
    state.run("learn", "semantic IDs", lambda: child(state, "learn", o.program, "learn-ids", *common, *LEARN))
    state.run("train", "search model", lambda: child(state, "train", o.program, "train", "search", *common, *TRAIN))


def print_ids(o):
    """Figures of the learned IDs, beside their yardsticks."""
    command = [o.program, "evaluate", "--task", "ids", "--model", o.home + "/bundle", "--data", o.home + "/data/learn", "--json", "--quiet"]
    facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["ids"]
    print(f"learned: position 1 uses {facts['position_1_codes_used']:.0f} codes; AMI with the section"
          f" {facts['category_ami_position_1']:.3f} (k-means over token embeddings {facts['category_ami_kmeans_embeddings']:.3f},"
          f" random codes {facts['category_ami_random_codes']:.3f}); the section is not in the text that the indexer reads")


# ---- index ----

def index(o, state, daemon, ledger, rest):
    have = daemon.request("GET", "/info")[1]["documents"]
    if have < o.learn + ledger.count():
        print(f"the catalogue holds {have} documents, the ledger names more: indexing from the start")
        ledger.clear()
    try:
        debian_index.index_rest(daemon, rest, ledger)
    finally:
        state.memory("serve", daemon.peak_mib())


def print_rates(ledger):
    """Documents/s over all, and how the last thousand compares with the first: the ratio by the clock and by processor time."""
    step = debian_index.THOUSAND // debian_index.BATCH
    first, last = ledger.batches[:step], ledger.batches[-step:]
    ratio = ledger.rate(last) / ledger.rate(first)
    print(f"\nindexed {ledger.count()} documents in batches of {debian_index.BATCH}: {ledger.rate(ledger.batches):.0f} documents/s;"
          f" first thousand {ledger.rate(first):.0f}/s, last thousand {ledger.rate(last):.0f}/s, ratio={ratio:.2f}")
    used = [ledger.rate(b, "processor") for b in (first, last)]
    print(f"by the daemon's processor time: first {used[0]:.0f}/s, last {used[1]:.0f}/s, ratio={used[1] / used[0]:.2f}")
    return ratio, used[1] / used[0]


def check_ratio(ratio, used):
    """Between two thousands the clock also shows what other programs did: where they keep the processors busy, processor time decides."""
    load, processors = os.getloadavg()[0], os.cpu_count()
    busy = load > processors + 1
    decides = f"; load average {load:.1f} on {processors} processors, so processor time decides: {used:.2f}" if busy and ratio < RATIO else ""
    return f"the last thousand's rate >= {RATIO} x the first's", (used if decides else ratio) >= RATIO, f"{ratio:.2f}{decides}"


def print_ami(documents, ids):
    """AMI of position 1 with the section over all documents that have both."""
    section = {d["id"]: d["attributes"]["section"] for d in documents if "attributes" in d}
    pairs = [(code.split("-")[0], section[name]) for name, code in ids if name in section]
    value = debian_index.ami(*zip(*pairs))
    print(f"AMI of position 1 with the section over the {len(pairs)} documents that were indexed after learning: {value:.3f}")
    return value


# ---- answers ----

def recall(daemon, documents, mode):
    """Share of documents that are among the first ten answers to their own synopsis (the title without the package's name)."""
    found = 0
    for d in documents:
        query = {"query": d["title"].split(": ", 1)[-1], "mode": mode, "limit": 10}
        found += d["id"] in [h["id"] for h in daemon.request("POST", "/search", query)[1]["hits"]]
    return found / len(documents)


def print_recall(daemon, learned, rest):
    """Are documents that came after learning found as well as the others?"""
    print(f"\nRecall@10 of {SYNOPSES} packages each, the query being their synopsis:")
    for name, documents in (("learned", learned), ("indexed later", rest)):
        sample = documents[::max(1, len(documents) // SYNOPSES)][:SYNOPSES]
        print(f"  {name:14}" + "  ".join(f"{mode} {recall(daemon, sample, mode):.2f}" for mode in ("generative", "lexical", "hybrid")))


def print_answers(daemon):
    """A few queries in both modes."""
    for query in QUERIES:
        print(f"\n  {query}")
        for mode in ("hybrid", "generative"):
            hits = daemon.request("POST", "/search", {"query": query, "mode": mode, "limit": 4})[1]["hits"]
            for i, h in enumerate(hits):
                d = h["document"]
                print(f"    {mode if i == 0 else '':11}{h['semantic_id']:>12}  {d['title'][:78]} [{(d['attributes'] or {}).get('section')}]")


def check(o, state, daemon, ledger, rest, ratios):
    """Holds the run against what is promised; the number of failures."""
    whole = learned_documents(o.home) + rest
    every = max(1, len(whole) // SPOTS)
    lost = [d["id"] for d in whole[::every] if daemon.request("GET", "/documents/" + d["id"], wanted=(200, 404))[1].get("title") != d["title"]]
    wrong = {i: s for i, s in ledger.ids()[::every] if daemon.request("GET", "/documents/" + i)[1]["semantic_id"] != s}
    again = [debian_index.post(daemon, whole[at:at + debian_index.BATCH])[0] for at in range(0, min(AGAIN, o.learn), debian_index.BATCH)]
    changed = sum(r["status"] != "unchanged" for a in again for r in a["results"])
    documents = daemon.request("GET", "/info")[1]["documents"]
    total, mib = sum(state.value["seconds"].values()), max(state.value["mib"].values())
    status = daemon.stop()
    checks = [(f"at most {MINUTES} minutes in all", total <= MINUTES * 60, f"{total / 60:.1f} min"),
              (f"at most {MIB} MiB in any process", mib <= MIB, f"{mib:.0f} MiB"),
              check_ratio(*ratios),
              ("every document is counted", documents == len(whole), f"{documents} of {len(whole)}"),
              ("every document looked up is there", not lost, f"{len(whole[::every])} looked up, {len(lost)} lost {lost[:5]}"),
              ("with the ID that it was given", not wrong, f"{len(ledger.ids()[::every])} looked up, {len(wrong)} others"),
              ("learned documents sent again are unchanged", changed == 0, f"{changed} changed"),
              ("the daemon ends with 0", status == 0, f"{status}")]
    for name, holds, value in checks:
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {value}")
    failed = sum(not holds for _, holds, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed


def serve(o, state):
    rest, ledger = read_lines(o.home + "/data/rest.jsonl"), debian_index.Ledger(o.home + "/indexed.jsonl")
    began = time.monotonic()
    daemon = debian_index.Daemon(o.program, o.home, "127.0.0.1:0" if o.check else o.listen)
    try:
        print(f"\n== index the other {len(rest)} packages", flush=True)
        index(o, state, daemon, ledger, rest)
        ratios = print_rates(ledger)
        print_ami(rest, ledger.ids())
        print("\n== answers")
        print_answers(daemon)
        print_recall(daemon, learned_documents(o.home), rest)
        state.spend("serve", time.monotonic() - began)
        began = time.monotonic()
        print_totals(state)
        if o.check:
            return check(o, state, daemon, ledger, rest, ratios)
        print(f"\ncurl -s {daemon.url}/search -H 'Content-Type: application/json' -d '{{\"query\": \"{QUERIES[0]}\", \"limit\": 3}}'")
        print(f"The daemon runs at {daemon.url}; Ctrl-C stops it.", flush=True)
        return daemon.process.wait()
    except BaseException:
        state.spend("serve", time.monotonic() - began)
        raise
    finally:
        daemon.stop()


def print_totals(state):
    seconds, mib = state.value["seconds"], state.value["mib"]
    print("\nseconds: " + ", ".join(f"{k} {v:.0f}" for k, v in seconds.items()) + f"; total {sum(seconds.values()):.0f}")
    print("peak MiB: " + ", ".join(f"{k} {v:.0f}" for k, v in mib.items()))


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("home")
    parser.add_argument("--check", action="store_true", help="stop after the answers and hold the figures against their bounds")
    parser.add_argument("--learn", type=int, default=5000, help="packages that IDs are learned on (5000)")
    parser.add_argument("--first", type=int, default=0, help="only so many packages in all (0 = all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--listen", default="127.0.0.1:8080", help="without --check (127.0.0.1:8080)")
    parser.add_argument("--before-s", type=float, default=0, help="seconds that packages and build took")
    return parser.parse_args()


def main():
    o = options()
    signal.signal(signal.SIGTERM, on_terminate)
    os.makedirs(o.home, exist_ok=True)
    state = State(o.home + "/state.json")
    state.spend("build", o.before_s)
    try:
        learn(o, state)
        began = time.monotonic()
        print_ids(o)
        state.spend("learn", time.monotonic() - began)
        return 1 if serve(o, state) else 0
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
