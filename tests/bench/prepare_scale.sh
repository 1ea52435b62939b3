#!/bin/sh
# prepare_scale.sh: `semindex prepare amazon` on generated reviews of growing size: seconds, lines' bytes a second beside what gzip alone takes
# to decompress them, peak memory and how it grows; at the largest size also killed halfway and started again, to the same bytes.
#
# Usage: prepare_scale.sh PROGRAM [MEGABYTES of review lines, 1000] [FOLDER for the files, a temporary one]
set -eu
program=$1
megabytes=${2:-1000}
folder=${3:-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
python3 - "$program" "$megabytes" "$folder" <<'END'
import gzip, hashlib, os, random, shutil, subprocess, sys, threading, time

program, megabytes, folder = os.path.abspath(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
WORDS = [("word%d" % (i * 7919 % 10007)) for i in range(4096)]


def generate(raw, size):
    """Lines as Amazon's are: about 600 bytes, sorted by item; 11 reviews a user, 30 an item, every 9,973rd line broken."""
    draw, written, lines, broken = random.Random(1), 0, 0, 0
    reviews = size // 600
    users, items = max(reviews // 11, 50), max(reviews // 30, 50)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randrange(10, 90))) for _ in range(2000)]
    with gzip.open(os.path.join(raw, "reviews_Made_5.json.gz"), "wb", compresslevel=1) as f:
        piece = []
        while written < size:
            item = lines * items // (reviews + 1)
            line = ('{"reviewerID": "A%012d", "asin": "B%09d", "reviewerName": "N. %s \\"x\\"", "helpful": [0, 0], "reviewText": "%s", "overall": 5.0, '
                    '"summary": "fine", "unixReviewTime": %d, "reviewTime": "01 2, 2013"}\n'
                    % (int(draw.random() * users), item, WORDS[lines % 4096], texts[lines % 2000], 1300000000 + 86400 * int(draw.random() * 1000)))
            if lines % 9973 == 9972:
                line, broken = line[:40] + "\n", broken + 1
            piece.append(line)
            written += len(line)
            lines += 1
            if len(piece) == 4096:
                f.write("".join(piece).encode())
                piece = []
        f.write("".join(piece).encode())
    with gzip.open(os.path.join(raw, "meta_Made.json.gz"), "wt", compresslevel=1) as f:
        for item in range(items):
            f.write("%r\n" % {"asin": "B%09d" % item, "title": "Item's %d" % item, "categories": [["A", "B"]], "description": texts[item % 2000]})
    return written, lines, broken


def measure(argv, kill_after=None):
    began = time.monotonic()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    timer = threading.Timer(kill_after, p.kill) if kill_after else None
    if timer:
        timer.start()
    said = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if timer:
        timer.cancel()
    return time.monotonic() - began, usage.ru_maxrss / 1024, status, said


def digest(out):
    h = hashlib.sha256()
    for name in sorted(os.listdir(out)):
        h.update(open(os.path.join(out, name), "rb").read())
    return h.hexdigest()


for part in (8, 4, 2, 1):
    raw, out = os.path.join(folder, "raw"), os.path.join(folder, "out")
    shutil.rmtree(raw, ignore_errors=True)
    os.mkdir(raw)
    written, lines, broken = generate(raw, megabytes * 1000000 // part)
    argv = [program, "prepare", "amazon", raw, "--bad-lines", str(broken), "--quiet", "--out"]
    unpack_s, _, _, _ = measure(["sh", "-c", "gzip -dc '%s' > /dev/null" % os.path.join(raw, "reviews_Made_5.json.gz")])
    seconds, peak, status, said = measure(argv + [out])
    assert status == 0 and "%d bad lines" % broken in said.replace(",", ""), said
    mb = written / 1e6
    print("prepare amazon: lines=%d megabytes=%.0f seconds=%.1f peak_mb=%.0f peak_bytes_a_line=%.0f bad=%d | unit=MB/s achieved=%.0f floor=%.0f ratio=%.2f"
          % (lines, mb, seconds, peak, peak * 1048576 / lines, broken, mb / seconds, mb / unpack_s, unpack_s / seconds), flush=True)
    if part == 1:
        again = out + "-killed"
        _, _, status, _ = measure(argv + [again], seconds * 0.7)
        left = sorted(os.listdir(again + ".work")) if os.path.isdir(again + ".work") else []
        rest, _, second, _ = measure(argv + [again])
        assert second == 0 and digest(out) == digest(again), "other bytes after a kill"
        print("killed after %.1f s (status %d, phases done: %s), then %.1f s: same bytes"
              % (seconds * 0.7, status, ", ".join(n[:-5] for n in left if n.endswith(".done")) or "none", rest))
    shutil.rmtree(out)
END
