#!/usr/bin/env python3
"""Span corruption from noise masks, which core/learn/span_corruption.c must reproduce.

    spans.py FIXTURES           writes FIXTURES/spans/expected.json

Here a mask is a row of booleans, and both texts come from it by one rule, as in the paper: in the input the first token of every masked run becomes a
sentinel and its others are dropped; the target is the same with the mask turned round, without the sentinel of what is behind the last masked run, since
there the input has no gap to name. The product knows no masks, only sizes of parts. `counts` are the published ones, in single precision as
TensorFlow reckons them: for each (density, mean span) a string of noise tokens and one of spans, by length from 2 on. Masks are PCG64 draws.
"""
import json
import os
import sys

import numpy as np

KINDS, LONGEST, FIRST, EOS = ((0.15, 3.0), (0.5, 3.0), (0.15, 8.0), (0.3, 2.0)), 700, 32099, 1


def counts(density, mean):
    n = np.arange(2, LONGEST + 1)
    noise = np.clip(np.round(n.astype(np.float32) * np.float32(density)).astype(int), 1, n - 1)
    return noise, np.maximum(np.round(noise.astype(np.float32) / np.float32(mean)).astype(int), 1)


def run_starts(mask):
    return mask & ~np.concatenate(([False], mask[:-1]))


def hide(tokens, mask):
    """tokens with every run of the mask as one sentinel"""
    starts = run_starts(mask)
    return np.where(starts, FIRST + 1 - np.cumsum(starts), tokens)[~mask | starts].tolist()


def pair(tokens, mask):
    spans = int(run_starts(mask).sum())
    named = ~mask  # what the target hides: each run stands for the sentinel of the noise behind it
    target = hide(tokens, named)
    if not mask[-1]:
        assert target.pop() == FIRST - spans
    return hide(tokens, mask) + [EOS], target + [EOS], spans


def sizes(mask):
    """(kept parts, the last of which may be 0; lost parts)"""
    edges = np.flatnonzero(np.diff(np.concatenate(([~mask[0]], mask, [~mask[-1]]))))
    parts = np.diff(edges).tolist()
    kept, lost = parts[0::2], parts[1::2]
    return kept + [0] * (len(kept) == len(lost)), lost


def random_mask(rng, n, spans, noise):
    """True in `spans` runs of `noise` tokens together, none at the front, some at the very end"""
    while True:
        mask = np.zeros(n, bool)
        mask[1 + rng.choice(n - 1, noise, replace=False)] = True
        if run_starts(mask).sum() == spans:
            return mask


def main():
    rng, cases = np.random.Generator(np.random.PCG64(17)), []
    for n, spans, noise in ((2, 1, 1), (3, 1, 1), (3, 1, 2), (4, 2, 2), (9, 1, 3), (12, 3, 5), (20, 4, 8), (33, 6, 10), (60, 9, 20), (120, 18, 30)):
        for _ in range(4):
            mask, tokens = random_mask(rng, n, spans, noise), rng.integers(3, 32000, n)
            source, target, found = pair(tokens, mask)
            kept, lost = sizes(mask)
            assert found == spans and len(kept) == spans + 1 and sum(kept) + sum(lost) == n
            cases.append({"tokens": tokens.tolist(), "kept": kept, "lost": lost, "input": source, "target": target})
    assert any(c["kept"][-1] == 0 for c in cases) and any(c["kept"][-1] > 1 for c in cases)
    kinds = []
    for density, mean in KINDS:
        noise, spans = counts(density, mean)
        kinds.append({"density": density, "mean_span": mean, "noise": noise.tolist(), "spans": spans.tolist()})
    os.makedirs(f"{sys.argv[1]}/spans", exist_ok=True)
    with open(f"{sys.argv[1]}/spans/expected.json", "w", encoding="utf-8") as f:
        f.write('{"first": %d, "counts": [\n%s\n],\n"cases": [\n%s\n]}\n' % (FIRST, ",\n".join(json.dumps(k) for k in kinds),
                                                                           ",\n".join(json.dumps(c) for c in cases)))


if __name__ == "__main__":
    main()
