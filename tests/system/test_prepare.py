#!/usr/bin/env python3
"""test_prepare.py: `semindex prepare` as a process: killed at many points and started again it ends with the same bytes; a folder appears whole
or not at all; SIGTERM ends it with 75; the exit codes of the command line.

Usage: test_prepare.py PROGRAM [KILLS]
"""
import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def write_amazon(folder, users=6000, items=1500):
    """Raw files in the owners' form; every hundredth line is odd."""
    draw = random.Random(1)
    with gzip.open(os.path.join(folder, "reviews_Made_5.json.gz"), "wt", compresslevel=1) as f:
        for item in range(items):
            for user in draw.sample(range(users), 40):
                f.write('{"reviewerID": "U%d", "asin": "B%05d", "helpful": [0, 1], "reviewText": "words \\"and\\" more %s", '
                        '"unixReviewTime": %d}\n' % (user, item, "x" * 200, 86400 * draw.randrange(900)))
            if item % 100 == 0:
                f.write('{"reviewerID": "U1"}\n')
    with gzip.open(os.path.join(folder, "meta_Made.json.gz"), "wt", compresslevel=1) as f:
        for item in range(items + 500):
            f.write("%r\n" % {"asin": "B%05d" % item, "title": "It's \"item\" %d &amp; caf\u00e9" % item, "categories": [["A", "B %d" % (item % 7)]],
                              "description": "y" * 300, "related": {"also_viewed": ["B%05d" % i for i in range(40)]}})


def digest(folder):
    out = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            out[os.path.relpath(path, folder)] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return out


def prepare(program, *args):
    return subprocess.run([program, "prepare", *args], capture_output=True, text=True)


def check_kills(program, raw, out, want, kills, whole_s):
    """Kill -9 after a random part of the time of a whole run, again and again; some start from nothing, some go on."""
    draw = random.Random(2)
    landed = 0
    for i in range(kills):
        if i % 3 == 0:
            for name in (out, out + ".work"):
                shutil.rmtree(name, ignore_errors=True)
        p = subprocess.Popen([program, "prepare", "amazon", raw, "--out", out, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            p.wait(draw.uniform(0.02, 0.7) * whole_s)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            landed += 1
        assert p.returncode in (0, -signal.SIGKILL), p.returncode
        assert not os.path.exists(out) or digest(out) == want, "a folder that is not whole"
    done = prepare(program, "amazon", raw, "--out", out)
    assert done.returncode == 0, done.stderr
    assert digest(out) == want, "other bytes after kills"
    assert not os.path.exists(out + ".work"), "work is left"
    return landed


def check_codes(program, raw, out):
    cases = [
        (64, ["amazon"]), (64, ["amazon", raw]), (64, ["amazing", raw, "--out", out + "x"]), (64, ["amazon", raw, "more", "--out", out + "x"]),
        (64, ["amazon", raw, "--out", out + "x", "--bad-lines", "-1"]), (65, ["amazon", raw, "--out", out + "x", "--bad-lines", "3"]),
        (66, ["nq", raw, "--out", out + "x"]), (73, ["amazon", raw, "--out", out, "--seed", "9"]),
    ]
    for status, args in cases:
        r = prepare(program, *args)
        assert r.returncode == status, (args, r.returncode, r.stderr)
    os.rename(os.path.join(raw, "reviews_Made_5.json.gz"), os.path.join(raw, "reviews_Beauty_5.json.gz"))
    os.rename(os.path.join(raw, "meta_Made.json.gz"), os.path.join(raw, "meta_Beauty.json.gz"))
    r = prepare(program, "amazon", raw, "--out", out + "b", "--check")
    assert r.returncode == 65 and "items 1,500, published 12,101" in r.stderr and "| published | 12,101 |" in r.stdout, (r.returncode, r.stderr)


def check_term(program, raw, out):
    p = subprocess.Popen([program, "prepare", "amazon", raw, "--out", out], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(0.05)
    p.terminate()
    _, said = p.communicate()
    assert p.returncode in (0, 75, -signal.SIGTERM), (p.returncode, said)
    assert p.returncode != 75 or "stopped in phase" in said, said


def main():
    program, kills = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12
    with tempfile.TemporaryDirectory() as folder:
        raw, out = os.path.join(folder, "raw"), os.path.join(folder, "out")
        os.mkdir(raw)
        write_amazon(raw)
        began = time.monotonic()
        first = prepare(program, "amazon", raw, "--out", out)
        whole_s = time.monotonic() - began
        assert first.returncode == 0, first.stderr
        assert "| Made | 1,500 |" in first.stdout and "15 bad lines" in first.stdout, first.stdout
        assert "reviews_Made_5.json.gz: line 41: \"asin\" is missing" in first.stderr, first.stderr
        want = digest(out)
        assert sorted(want) == ["histories-train.tsv", "items.jsonl", "prepared.json", "sequences.txt"], sorted(want)
        landed = check_kills(program, raw, out, want, kills, whole_s)
        check_term(program, raw, out + "t")
        check_codes(program, raw, out)
    print(f"prepare: {kills} kills wanted, {landed} landed in a run of {whole_s:.2f} s: same bytes; exit codes as promised")
    print(f"{landed + 12} passed, 0 failed")  # kills, eight exit codes, --check, SIGTERM, the first run's lines and files


if __name__ == "__main__":
    main()
