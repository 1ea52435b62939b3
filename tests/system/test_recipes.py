#!/usr/bin/env python3
"""test_recipes.py BINARY: a recipe from the listing to the bundle that keeps it.

Lists and prints recipes, shows what a command would run with, learns and trains with a recipe file and a flag over it, kills a search of learning
rates, and reads from the bundle how it was made. The scripts of tests/bench that use a recipe must run the options that their results name.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import Suite, run

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
RECIPE = """# a small one
[learn-ids]
first = 200
k = 8
d-model = 16
d-ff = 32
d-kv = 8
heads = 2
encoder-layers = 1
decoder-layers = 1
max-tokens = 24
batch = 32
micro-batch = 8
kmeans-restarts = 2
search-lr = 2e-3,1e-2
[train recommend]
d-model = 16
d-kv = 8
epochs = 4
search-lr = 1e-3,5e-3
[train search]
epochs = 1
"""


def listing(suite, binary):
    code, out, _ = run(binary, "recipes")
    names = [line.split()[0] for line in out.splitlines()]
    suite.check("recipes lists them", code == 0 and {"beauty", "sports", "toys", "nq", "macro", "trec-dl", "beauty-cpu", "cranfield-cpu"} <= set(names))
    files = {f[:-4] for f in os.listdir(os.path.join(ROOT, "schema/recipes"))}
    suite.check("every file is in the program", files == set(names))
    whole = all(run(binary, "recipes", n)[1] == open(os.path.join(ROOT, f"schema/recipes/{n}.ini")).read() for n in names)
    suite.check("recipes NAME prints the file", whole)
    code, _, err = run(binary, "recipes", "beuty")
    suite.check("an unknown name gets the nearest", code == 64 and "did you mean 'beauty'?" in err)


def shown(suite, binary, path):
    code, out, _ = run(binary, "config", "show", "learn-ids", "--recipe", "macro", "--json", env={"SEMINDEX_BATCH": "64"})
    options = json.loads(out)
    suite.check("config show COMMAND --recipe", code == 0 and options["k"] == {"value": "51200", "origin": "recipe"})
    suite.check("the environment is above a recipe", options["batch"] == {"value": "64", "origin": "environment"})
    code, out, _ = run(binary, "config", "show", "train", "recommend", "--recipe", path)
    suite.check("config show train TASK", code == 0 and bool(re.search(r"^epochs += 4 +# recipe$", out, re.M)))
    code, out, _ = run(binary, "config", "show", "queries", "--recipe", "macro")
    suite.check("config show queries", code == 0 and bool(re.search(r"^per-document += 20 +# recipe$", out, re.M)), out)
    code, _, err = run(binary, "config", "show", "train", "--recipe", "cranfield-cpu", "recommend")
    suite.check("a recipe without the section", code == 64 and "[train search]" in err)


def bench_options(suite, binary):
    """The committed results name flags; the recipe behind the script must be the same options."""
    for name in ("beauty", "cranfield"):
        with open(os.path.join(ROOT, f"tests/bench/results/eval-{name}-seed1.txt")) as f:
            lines = [x[3:].split() for x in f if x.startswith("== semindex ")]
        for words in lines:
            task = words[2] if words[1] == "train" else None
            flags = dict(zip(words, words[1:]))
            if words[1] == "evaluate" and "--beam" not in flags:
                continue
            show = run(binary, "config", "show", words[1], *([task] if task else []), "--recipe", f"{name}-cpu", "--json")
            options = json.loads(show[1])
            mine = {k: v["value"] for k, v in options.items() if v["origin"] == "recipe"}
            given = {k[2:]: flags[k] for k in flags if k.startswith("--") and k[2:] not in
                     ("data", "model", "tokenizer", "seed", "threads", "task", "with-history", "recipe")}
            suite.check(f"{name}: {' '.join(words[1:3])} as in the results", "--recipe" in words or mine == given)


def kill_and_go_on(binary, words, marks):
    """Runs the command, killed as soon as each of the files is there, to its end: (status, kills, standard error)."""
    kills = 0
    for mark in [*marks, None]:
        p = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        while mark and p.poll() is None and not os.path.exists(mark):
            time.sleep(0.002)
        if mark and p.poll() is None:
            p.send_signal(signal.SIGKILL)
            kills += 1
        _, err = p.communicate()
        if p.returncode != -signal.SIGKILL:
            return p.returncode, kills, err


def kept(suite, binary, folder, path):
    data, bundle, other = f"{folder}/data", f"{folder}/bundle", f"{folder}/other"
    run(binary, "sample", "--out", data, "--quiet")
    learn = ["learn-ids", "--data", data, "--recipe", path, "--seed", "3", "--threads", "1", "--checkpoint-s", "0.1"]
    code, _, err = run(binary, *learn, "--model", bundle)
    suite.check("learn-ids --recipe with a search", code == 0 and "(kept)" in err)
    marks = [f"{other}.work/checkpoint.lr-1", f"{other}.work/checkpoint.lr-1.previous", f"{other}.work/checkpoint.lr-2"]
    code, kills, err = kill_and_go_on(binary, [*learn, "--model", other], marks)
    same = code == 0 and all(open(f"{bundle}/{n}", "rb").read() == open(f"{other}/{n}", "rb").read() for n in os.listdir(bundle) if n != "bundle.lock")
    suite.check("a search killed in both trials ends with the same bundle", same and kills >= 2, f"status {code}, {kills} kills, {err[-200:]}")
    code, _, err = run(binary, "train", "recommend", "--data", data, "--model", bundle, "--recipe", path, "--batch", "64", "--threads", "1",
                       "--adam-beta1", "0", "--adam-beta2", "0.99", "--weight-decay", "0.01", "--clip", "0", "--lr-warmup", "0.2")
    suite.check("train recommend --recipe with a search", code == 0 and "(kept)" in err)
    code, out, _ = run(binary, "config", "run", "--model", bundle, "--json")
    runs = {r["command"]: r for r in json.loads(out)}
    learned, trained = runs["learn-ids"], runs["train recommend"]
    suite.check("the bundle keeps recipe, seed and data", learned["given"]["recipe"] == path and learned["seed"] == 3
                and learned["data"]["documents"] == 200 and len(learned["data"]["sha256"]) == 64)
    suite.check("every option with its origin", learned["given"]["options"]["k"] == {"value": "8", "origin": "recipe"}
                and learned["given"]["options"]["seed"]["origin"] == "flag" and trained["given"]["options"]["batch"] == {"value": "64", "origin": "flag"})
    suite.check("and what was in effect", trained["effective"]["batch"] == "64" and learned["effective"]["micro_batch"] == "8"
                and trained["effective"]["adam_eps"] == "1e-06")
    adam = [trained["effective"][x] for x in ("adam_beta1", "adam_beta2", "weight_decay", "clip", "lr_warmup")]
    suite.equal("the optimiser's settings", adam, ["0", "0.99", "0.01", "0", "0.2"])
    suite.check("rates that were tried", [x["lr"] for x in learned["search"]] == [2e-3, 1e-2] and [x["lr"] for x in trained["search"]] == [1e-3, 5e-3])
    best = max(trained["search"], key=lambda x: x["validation"])["lr"]
    suite.check("the best rate is the one in effect", float(trained["effective"]["lr"]) == best)
    code, out, _ = run(binary, "doctor", "--model", bundle)
    suite.check("doctor says how it was made", "learn-ids of semindex" in out and "train recommend of semindex" in out)
    with open(f"{bundle}/recommend.run.json", "a") as f:
        f.write(" ")
    code, out, _ = run(binary, "doctor", "--model", bundle)
    suite.check("a changed run file is found", code != 0 and "recommend.run.json" in out)


def main():
    binary, suite = os.path.abspath(sys.argv[1]), Suite("recipes")
    folder = tempfile.mkdtemp(prefix="semindex-recipes-")
    try:
        path = f"{folder}/mine.ini"
        with open(path, "w") as f:
            f.write(RECIPE)
        listing(suite, binary)
        shown(suite, binary, path)
        bench_options(suite, binary)
        kept(suite, binary, folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    suite.end()


if __name__ == "__main__":
    main()
