#!/usr/bin/env python3
"""study_length.py: how long should a semantic ID be? L = 1, 2, 3 learned positions, everything else equal (the paper's Figure 6).

    study_length.py BINARY DATA [--seed N] [--threads N] [--folder DIR] [--out FILE]        usually: make study-length DATA=.../cranfield

For each L: learn-ids, train search (or recommend, where the data has histories), evaluate; steps that have ended are skipped (study.py). Prints a
table, writes it with every command to tests/bench/results/study-length-NAME-seedN.txt, and draws Recall@10 and nDCG@10 of the beam alone over L
as an SVG beside it. Longer IDs tell more documents apart; each position is one more code that the task model has to get right.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from study import finish, Study, cost_of, head, ranking, read_arguments, table  # noqa: E402

LENGTHS = (1, 2, 3)
LEARN = {
    "search": "--k 128 --batch 32 --lr 2e-3 --dropout 0 --hints 0,0,0 --weight-contrastive 0 --weight-commitment 0.2 --max-tokens 64 "
              "--target-share 0.5 --continuous-epochs 16 --joint-epochs 3",
    "recommend": "--k 512 --temperature 16 --target-share 0.25 --max-tokens 64 --warmup-epochs 1 --continuous-epochs 1 --joint-epochs 1",
}
TRAIN = {"search": "--epochs 20", "recommend": "--epochs 6 --dropout 0"}
COLUMNS = ("Recall@10", "nDCG@10")
# The picture: two lines, colours that also differ in lightness, marks of two shapes.
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 560, 376, 64, 66, 24, 56
INK, FAINT, COLOURS = "#24292f", "#d0d7de", ("#0b5cad", "#c2410c")


def task_of(data):
    return "recommend" if os.path.exists(os.path.join(data, "sequences.txt")) else "search"


def run_row(s, task, length):
    row = "length-%d" % length
    tokenizer = os.path.join(os.path.dirname(s.data), "t5", "spiece.model")
    extra = ["--tokenizer", tokenizer] if os.path.exists(tokenizer) else []
    s.step(row, "learn", "learn-ids", "--data", s.data, "--model", s.bundle(row), "--positions", str(length), *LEARN[task].split(), *extra)
    s.step(row, "train", "train", task, *TRAIN[task].split(), "--model", s.bundle(row), "--data", s.data)
    s.step(row, "ids", "evaluate", "--task", "ids", "--model", s.bundle(row), "--data", s.data, "--json")
    s.step(row, "evaluate", "evaluate", "--task", task, "--beam", "50", "--intervals", "--model", s.bundle(row), "--data", s.data, "--json")


def figures(s, length):
    """(facts of the IDs, ranking -> row) of a finished row."""
    row = "length-%d" % length
    answer = json.loads(s.load(row, "evaluate")["out"])
    return json.loads(s.load(row, "ids")["out"])["ids"], {name: ranking(answer, name) for name in ("generative", "hybrid", "bm25", "neighbours")}


def cell(r, column):
    return "-" if r is None else "%.4f [%.3f %.3f]" % (r[column], *r[column + "_interval"])


def table_of(s):
    lines = [["L", "codes used", "prefixes", "largest bucket"] + ["beam " + c for c in COLUMNS] + ["hybrid " + c for c in COLUMNS] + ["minutes"]]
    for length in LENGTHS:
        facts, rows = figures(s, length)
        used = "/".join("%d" % facts["position_%d_codes_used" % p] for p in range(1, length + 1))
        minutes = sum(s.load("length-%d" % length, x)["cpu_seconds"] for x in ("learn", "train", "ids", "evaluate")) / 60
        lines.append([length, used, "%d" % facts["position_%d_unique_prefixes" % length], "%d" % facts["position_%d_largest_bucket" % length]] +
                     [cell(rows["generative"], c) for c in COLUMNS] + [cell(rows["hybrid"], c) for c in COLUMNS] + ["%.1f" % minutes])
    other = next((n for n in ("bm25", "neighbours") if rows[n]), None)
    lines.append([other, "", "", ""] + [cell(rows[other], c) for c in COLUMNS] + ["", "", ""])
    return table(lines)


# ---- the picture ----

def step_of(most):
    """A round distance of ticks: four to eight of them up to `most`."""
    for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        if most / step <= 8:
            return step
    return 0.25


def x_of(length):
    return LEFT + (length - LENGTHS[0]) * (WIDTH - LEFT - RIGHT) / (LENGTHS[-1] - LENGTHS[0]) * 0.9 + 0.05 * (WIDTH - LEFT - RIGHT)


def text(x, y, what, anchor="middle", size=13, colour=INK, weight="normal"):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" font-weight="%s" fill="%s">%s</text>' % (x, y, anchor, size, weight, colour, what)


def picture(s, name):
    found = {length: figures(s, length)[1]["generative"] for length in LENGTHS}
    most = max(found[x][c + "_interval"][1] for x in LENGTHS for c in COLUMNS)
    step = step_of(most)
    top = step * (int(most / step) + 1)

    def y_of(v):
        return HEIGHT - BOTTOM - v / top * (HEIGHT - TOP - BOTTOM)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif">' % (WIDTH, HEIGHT, WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="#ffffff"/>', text(LEFT, 26, "%s: the beam alone, by length of the ID" % name, "start", 16, weight="bold")]
    for i in range(int(round(top / step)) + 1):
        y = y_of(i * step)
        out.append('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>' % (LEFT, y, WIDTH - RIGHT, y, FAINT))
        out.append(text(LEFT - 8, y + 4, "%.3g" % (i * step), "end"))
    for length in LENGTHS:
        out.append(text(x_of(length), HEIGHT - BOTTOM + 20, length))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "learned positions L (the suffix comes behind them)"))
    for k, column in enumerate(COLUMNS):
        shift = 5 * (2 * k - 1)  # so that the two intervals stand side by side
        points = [(x_of(x) + shift, y_of(found[x][column])) for x in LENGTHS]
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2.5"/>' % (" ".join("%.1f,%.1f" % p for p in points), COLOURS[k]))
        for x, (px, py) in zip(LENGTHS, points):
            low, high = (y_of(v) for v in found[x][column + "_interval"])
            out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.5"/>' % (px, low, px, high, COLOURS[k]))
            shape = '<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>' if k == 0 else '<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s"/>'
            out.append(shape % ((px, py, COLOURS[k]) if k == 0 else (px - 5, py - 5, COLOURS[k])))
        lx = WIDTH - RIGHT - 210 + 110 * k
        out.append(('<circle cx="%d" cy="47" r="5" fill="%s"/>' if k == 0 else '<rect x="%d" y="42" width="10" height="10" fill="%s"/>') % (lx, COLOURS[k]))
        out.append(text(lx + 16, 52, column, "start"))
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    a = read_arguments(__doc__)
    data = os.path.abspath(a.data.rstrip("/"))
    name, task = os.path.basename(data), task_of(data)
    s = Study(a.binary, a.folder or "build/study-length-%s-%d" % (name, a.seed), data, a.seed, a.threads)
    for length in LENGTHS:
        run_row(s, task, length)
    steps = [s.load("length-%d" % x, y) for x in LENGTHS for y in ("learn", "train", "ids", "evaluate")]
    said = head("study-length: %s, %s" % (name, task), s.seed, "make study-length DATA=DATA") + [table_of(s), "", "steps:", *map(cost_of, steps)]
    out = finish(a, "study-length-" + name, "\n".join(said) + "\n")
    with open(os.path.splitext(out)[0] + ".svg", "w", encoding="utf-8") as f:
        f.write(picture(s, name))


if __name__ == "__main__":
    main()
