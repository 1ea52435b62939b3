#!/usr/bin/env python3
"""Greedy texts of Hugging Face's T5, which core/retrieve/generate.c must write at top-k 1.

    generate.py fixtures FIXTURES                 writes FIXTURES/generate/expected.json from the models in FIXTURES/t5_v10 and t5_v11
    generate.py check BINARY SPIECE               two random models of T5's full vocabulary with T5's own SentencePiece model, saved by transformers:
                                                  imports them, writes a query for each of some documents at top-k 1, compares the texts

Inputs are numpy's PCG64 draws. A fixture is only taken where every greedy choice is clear: the best logit leads by MARGIN, far above what single
precision makes of it, so that equal tokens are no luck. Needs torch and transformers 5, for `check` sentencepiece too.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

MARGIN, STEPS, ROWS = 1e-3, 20, 8
TEXTS = ["The boundary layer of a flat plate in supersonic flow.", "Red wool socks for children", "A study of libraries and of who reads in them, "
         "with figures from four cities.", "heat transfer", "Wie schnell fließt Wasser?", "one two three four five six seven eight nine ten " * 8]


def greedy(model, tokens, steps, never=None):
    """(tokens without EOS, the least lead of the best logit); never: tokens that are not written"""
    with torch.no_grad():
        out = model.generate(torch.tensor([tokens]), do_sample=False, num_beams=1, max_new_tokens=steps, return_dict_in_generate=True,
                             output_scores=True, suppress_tokens=never)
    lead = min((s[0].topk(2).values[0] - s[0].topk(2).values[1]).item() for s in out.scores)
    text = out.sequences[0, 1:].tolist()
    return (text[:text.index(1)] if 1 in text else text), lead


def load(folder):
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.update(eos_token_id=1, pad_token_id=0, decoder_start_token_id=0)
    return model


def fixtures(folder):
    expected = {}
    for name in ("t5_v10", "t5_v11"):
        model, rng, rows = load(os.path.join(folder, name)), np.random.Generator(np.random.PCG64(11)), []
        while len(rows) < ROWS:
            tokens = rng.integers(3, model.config.vocab_size, rng.integers(1, 30)).tolist() + [1]
            text, lead = greedy(model, tokens, STEPS)
            if lead >= MARGIN:
                rows.append({"input": tokens, "output": text})
        assert len({tuple(r["output"]) for r in rows}) > 1, name
        expected[name] = {"steps": STEPS, "rows": rows}
    os.makedirs(os.path.join(folder, "generate"), exist_ok=True)
    with open(os.path.join(folder, "generate", "expected.json"), "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join('"%s": {"steps": %d, "rows": [\n%s\n]}' % (n, e["steps"], ",\n".join(json.dumps(r) for r in e["rows"]))
                                   for n, e in expected.items()) + "\n}\n")


def random_model(folder, spiece, v11):
    torch.manual_seed(7)
    shape = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if v11 else {}
    config = T5Config(vocab_size=32128, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4, dropout_rate=0.0,
                      initializer_factor=0.5, decoder_start_token_id=0, **shape)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():  # a decoder that minds position and passage: else it repeats one token
        for name, p in model.named_parameters():
            if name.startswith("decoder.block") and p.dim() == 2:
                p *= 10
    model.save_pretrained(folder)
    os.symlink(os.path.abspath(spiece), f"{folder}/spiece.model")
    return load(folder)


def write(binary, work):
    """What the program writes for each of TEXTS."""
    os.makedirs(f"{work}/data")
    with open(f"{work}/data/corpus.jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"_id": str(i), "text": t}) + "\n" for i, t in enumerate(TEXTS))
    subprocess.run([binary, "import", f"{work}/model", "--out", f"{work}/bundle", "--quiet"], check=True)
    subprocess.run([binary, "queries", "--model", f"{work}/bundle", "--data", f"{work}/data", "--out", f"{work}/q.jsonl", "--top-k", "1",
                    "--per-document", "1", "--quiet"], check=True)
    with open(f"{work}/q.jsonl", encoding="utf-8") as f:
        return {int(o["_id"]): o["query"] for o in map(json.loads, f)}


def check(binary, spiece):
    import sentencepiece
    pieces, bad = sentencepiece.SentencePieceProcessor(model_file=spiece), 0
    # What is no text is never written: padding, unknown, the sentinels and padding rows of the vocabulary.
    never = [0, 2, *range(pieces.get_piece_size(), 32128)]
    for v11 in (False, True):
        with tempfile.TemporaryDirectory() as work:
            model = random_model(f"{work}/model", spiece, v11)
            mine = write(binary, work)
        for i, text in enumerate(TEXTS):
            tokens, lead = greedy(model, pieces.encode(text) + [1], 64, never)
            want = pieces.decode(tokens)
            same = mine.get(i, "") == want
            bad += not same
            print("%s %d: %d tokens, %d kinds, lead %.2g: %s" % ("v1.1" if v11 else "v1.0", i, len(tokens), len(set(tokens)), lead,
                                                               "same" if same else "%r, not %r" % (mine.get(i), want)))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "fixtures":
        fixtures(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "check":
        check(*sys.argv[2:])
    else:
        sys.exit(__doc__)
