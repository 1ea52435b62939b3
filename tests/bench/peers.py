#!/usr/bin/env python3
"""peers.py: our search and our training step beside those of CTranslate2, Hugging Face and PyTorch.

Same weights, same inputs, same threads. A row is one shape and batch. Within a row the implementations take turns, and every timing is
kept; a line compares the best of each. Before the clock starts the results are compared: documents and scores with Hugging Face's
`generate` (with and without renormalising), losses with PyTorch's, CTranslate2's score of its best sequence with the model's own. Where
they differ the run ends with status 1.

Each row is written as soon as it is measured; a run leaves out the rows that its results already hold from the same processor and peers, so
that a run that was cut goes on (--fresh measures them again). Lines end in `achieved=.. floor=.. ratio=..`: ours; what the operations would
take at the speed that a large f32 product reaches in this run; ours / theirs.
"""
import argparse
import datetime
import fnmatch
import gc
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

CPU = "--cpu" in sys.argv  # before the peers are loaded: they read the number of threads then
THREADS, WIDTH, SEED = 1 if CPU else 2, 20, 1
clock = time.process_time if CPU else time.perf_counter
os.environ.update(OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import ctranslate2  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import LogitsProcessor, LogitsProcessorList, PrefixConstrainedLogitsProcessor  # noqa: E402
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration  # noqa: E402

warnings.filterwarnings("ignore")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(THREADS)

SHAPES = {  # name: width, head width, feed-forward, heads, layers of each stack, text rows
    "t5-base": (768, 64, 3072, 12, 12, 32128),
    "t5-small": (512, 64, 2048, 8, 6, 32128),
    "w128": (128, 64, 1024, 6, 4, 4096),  # the width-128 recommender over IDs: 4 + 4 layers
    "tiny": (64, 16, 128, 4, 2, 500),     # for --quick
}
SEARCH_CODES, TRAIN_CODES = [512, 512, 8], [512, 512, 512, 8]
DOCUMENTS = 10000
SEARCH_ROWS = [(shape, batch, tokens) for shape in ("t5-small", "t5-base") for tokens in (32, 1024) for batch in (1, 8)]
TRAIN_ROWS = [(shape, batch, 128 if ragged else length, ragged) for shape, batch, length in (("w128", 128, 60), ("t5-small", 32, 128), ("t5-base", 8, 128))
              for ragged in (False, True)]
QUICK_SEARCH, QUICK_TRAIN = [("tiny", 1, 32), ("tiny", 8, 32)], [("tiny", 16, 30, False), ("tiny", 16, 30, True)]
SCORE_TOLERANCE, LOSS_TOLERANCE = 2e-5, 2e-4
PAUSE_S = 0.25  # the peers' idle threads spin for up to 200 ms; they must not meet another's clock
TARGETS = {"search": 1.0, "train": 0.9, "train-ragged": 1.3}


def fail(message):
    sys.exit(f"peers: FAIL {message}")


class Ours:
    """bench_model, one command a line."""

    def __init__(self, build):
        self.process = subprocess.Popen([os.path.join(build, "bench", "bench_model"), str(THREADS), "cpu" if CPU else "wall"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer.startswith("ok"):
            fail(f"bench_model ended on {words[0]}")
        return answer[2:].strip()

    def number(self, name, *words):
        return float(dict(w.split("=") for w in self.ask(*words).split())[name])

    def hits(self):
        rows = self.ask("hits").split(";")[:-1]
        return [[(int(d), float(s)) for d, s in (hit.split(":") for hit in row.split())] for row in rows]


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="peers-")
        self.ours = Ours(options.build)
        self.gflops = 0.0

    def path(self, name):
        return os.path.join(self.folder, name)

    def measure_floor(self):
        """GFLOP/s of a large f32 product, the best that either side has reached so far."""
        time.sleep(PAUSE_S)
        ours = self.ours.number("gflops", "product")
        a, b = torch.randn(1024, 1024), torch.randn(1024, 3072)
        best = min(timed(lambda: a @ b)[0] for _ in range(8))
        self.gflops = max(self.gflops, ours, 2e-6 * 1024 * 1024 * 3072 / best)
        return self.gflops

    def close(self):
        self.ours.process.stdin.close()
        self.ours.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def timed(call):
    start = clock()
    result = call()
    return 1e3 * (clock() - start), result


def alternate(calls, budget_s, most):
    """Timings in ms of each call: turns until the budget is spent, at least two (one for a call over 10 s that is not ours)."""
    samples = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(most):
        for name, call in calls.items():
            slow = samples[name] and min(samples[name]) > 10e3 and name not in ("ours", "ct2-f32", "torch")
            if slow or (turn >= 2 and time.perf_counter() - start > budget_s):
                continue
            time.sleep(PAUSE_S)
            samples[name].append(call())
    return samples


# ---- models ----

def make_config(shape, rows):
    width, head, feed, heads, layers, _ = SHAPES[shape]
    return T5Config(vocab_size=rows, d_model=width, d_kv=head, d_ff=feed, num_heads=heads, num_layers=layers, num_decoder_layers=layers,
                    dropout_rate=0.1, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)


def save_tokenizer(folder, rows):
    """CTranslate2's converter wants the tokens' names: token i is `w<i>`, but for the special ones."""
    from tokenizers import Tokenizer, models
    names = ["<pad>", "</s>", "<unk>"] + [f"w{i}" for i in range(3, rows)]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)


def make_model(bench, shape, codes):
    """Random weights as Hugging Face draws them, saved as a folder with code rows behind the text rows; codes.json beside."""
    torch.manual_seed(SEED)
    text = SHAPES[shape][5]
    model = T5ForConditionalGeneration(make_config(shape, text + sum(codes))).eval()
    folder = bench.path(f"{shape}-{len(codes)}")
    model.save_pretrained(folder)
    save_tokenizer(folder, text + sum(codes))
    with open(folder + ".codes.json", "w") as f:
        json.dump({"base": text, "positions": len(codes), "codes": codes}, f)
    return model, folder


def first_rows(shape, codes):
    return [SHAPES[shape][5] + sum(codes[:t]) for t in range(len(codes))]


def draw_documents(shape):
    """Distinct random IDs; the suffix counts the documents of a bucket."""
    random, count, ids = numpy.random.default_rng(SEED), {}, []
    while len(ids) < (DOCUMENTS if shape != "tiny" else 2000):
        prefix = tuple(int(random.integers(k)) for k in SEARCH_CODES[:-1])
        suffix = count.get(prefix, 0)
        if suffix < SEARCH_CODES[-1]:
            count[prefix] = suffix + 1
            ids.append(prefix + (suffix,))
    return ids


# ---- search: Hugging Face ----

class Restrict(LogitsProcessor):
    """Log-softmax over the codes of the position that is generated, minus infinity elsewhere."""

    def __init__(self, first, sizes):
        self.first, self.sizes = first, sizes

    def __call__(self, input_ids, scores):
        at = input_ids.shape[1] - 1
        begin, end = self.first[at], self.first[at] + self.sizes[at]
        out = torch.full_like(scores, -math.inf)
        out[:, begin:end] = torch.log_softmax(scores[:, begin:end], -1)
        return out


class Renormalise(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return torch.log_softmax(scores, -1)


class HuggingFace:
    def __init__(self, model, shape, ids):
        self.model, self.first = model, first_rows(shape, SEARCH_CODES)
        self.document = {id: number for number, id in enumerate(ids)}
        children = {}
        for id in ids:
            for t in range(len(id)):
                children.setdefault(id[:t], set()).add(self.first[t] + id[t])
        self.children = {prefix: sorted(tokens) for prefix, tokens in children.items()}

    def allowed(self, _, tokens):
        prefix = self.codes(tokens.tolist())
        return self.children.get(prefix) or [self.first[len(prefix)]]  # a beam of -1e9 may hold anything

    def codes(self, tokens):
        return tuple(token - first for token, first in zip(tokens[1:], self.first))

    def search(self, rows, renormalise):
        trie = PrefixConstrainedLogitsProcessor(self.allowed, WIDTH)
        processors = [Restrict(self.first, SEARCH_CODES), trie] + ([Renormalise()] if renormalise else [])
        with torch.inference_mode():
            got = self.model.generate(torch.tensor(rows), num_beams=WIDTH, num_return_sequences=WIDTH, do_sample=False,
                                      logits_processor=LogitsProcessorList(processors), length_penalty=0.0, min_new_tokens=3,
                                      max_new_tokens=3, early_stopping=False, return_dict_in_generate=True, output_scores=True)
        hits = [(self.document[self.codes(s.tolist())], float(v)) for s, v in zip(got.sequences, got.sequences_scores)]
        return [hits[i:i + WIDTH] for i in range(0, len(hits), WIDTH)]


def close_scores(a, b):
    return abs(a - b) <= SCORE_TOLERANCE * max(1.0, abs(b))


def require_same(ours, theirs, what):
    """Documents equal rank by rank; two that theirs ties (nearer than the tolerance) may be exchanged."""
    for r, (mine, reference) in enumerate(zip(ours, theirs, strict=True)):
        if len(mine) != len(reference):
            fail(f"{what}: row {r}: {len(mine)} hits, the reference has {len(reference)}")
        score_of = dict(reference)
        for rank, ((document, score), (other, reference_score)) in enumerate(zip(mine, reference)):
            tied = document in score_of and close_scores(score_of[document], reference_score)
            if (document != other and not tied) or not close_scores(score, reference_score):
                fail(f"{what}: row {r}, rank {rank + 1}: document {document} {score}, the reference has {other} {reference_score}")


# ---- search: CTranslate2 ----

class CTranslate2:
    def __init__(self, folder, kind):
        self.translator = ctranslate2.Translator(folder, device="cpu", inter_threads=1, intra_threads=THREADS, compute_type=kind)

    def search(self, rows):
        return self.translator.translate_batch(rows, beam_size=WIDTH, num_hypotheses=WIDTH, min_decoding_length=3, max_decoding_length=3,
                                               length_penalty=0, return_scores=True, max_input_length=0)


def token_names(rows):
    return [["</s>" if t == 1 else f"w{t}" for t in row] for row in rows]


def require_same_model(model, row, answer):
    """CTranslate2's best sequence has the log-probability that the model gives it (whole vocabulary)."""
    tokens = [int(name[1:]) if name.startswith("w") else 2 for name in answer.hypotheses[0]]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[0] + tokens[:-1]])).logits[0].double()
    score = sum(float(torch.log_softmax(logits[t], -1)[token]) for t, token in enumerate(tokens))
    if abs(score - answer.scores[0]) > 1e-3 * abs(score):
        fail(f"CTranslate2 computes another model: its best sequence scores {answer.scores[0]}, the model says {score}")


# ---- search: a row ----

class SearchModel:
    """One shape's weights in every implementation; made when its first row is measured."""

    def __init__(self, bench, shape):
        self.bench, self.shape = bench, shape
        ids = draw_documents(shape)
        self.model, folder = make_model(bench, shape, SEARCH_CODES)
        with open(folder + ".ids.tsv", "w") as f:
            f.writelines(f"d{n}\t{'-'.join(map(str, id))}\n" for n, id in enumerate(ids))
        subprocess.run([os.path.join(bench.options.build, "semindex"), "import", folder, "--codes", folder + ".codes.json", "--ids",
                        folder + ".ids.tsv", "--out", folder + ".bundle", "--quiet"], check=True, stderr=subprocess.DEVNULL)
        bench.ours.ask("bundle", folder + ".bundle")
        ctranslate2.converters.TransformersConverter(folder).convert(folder + ".ct2")
        self.hf = HuggingFace(self.model, shape, ids)
        self.ct2 = {"ct2-f32": CTranslate2(folder + ".ct2", "float32"), "ct2-int8": CTranslate2(folder + ".ct2", "int8")}

    def close(self):
        self.bench.ours.ask("close")
        self.model = self.hf = self.ct2 = None
        gc.collect()

    def queries(self, batch, tokens):
        random = numpy.random.default_rng(SEED + 1)
        return [random.integers(3, SHAPES[self.shape][5], tokens - 1).tolist() + [1] for _ in range(8)][:batch]

    def send(self, rows):
        path = self.bench.path("queries")
        with open(path, "w") as f:
            f.writelines(" ".join(map(str, row)) + "\n" for row in rows)
        self.bench.ours.ask("queries", path, WIDTH)

    def ours(self, rows, renormalise):
        self.send(rows)
        self.bench.ours.ask("search", int(renormalise))
        return self.bench.ours.hits()

    def check(self, batch, tokens, rows):
        """Ours against Hugging Face; at 8 x 1,024 the first request, and the others against ours alone."""
        what = f"{self.shape} {batch}x{tokens}"
        whole = batch * tokens <= 1024
        for renormalise in (False, True) if batch * tokens < 1024 else (False,):
            require_same(self.ours(rows if whole else rows[:1], renormalise), self.hf.search(rows if whole else rows[:1], renormalise),
                         f"{what}{' renormalised' if renormalise else ''}")
        if not whole:
            require_same(self.ours(rows, False), [self.ours([row], False)[0] for row in rows], f"{what} against single requests")
        require_same_model(self.model, rows[0], self.ct2["ct2-f32"].search(token_names(rows[:1]))[0])


def search_operations(shape, batch, tokens):
    """Operations (2 per multiply-add) that the search cannot avoid: products and attention; the head over a position's codes alone."""
    width, head, feed, heads, layers, _ = SHAPES[shape]
    inner, total = heads * head, batch * tokens
    encoder = total * layers * (4 * width * inner + 2 * width * feed + 2 * tokens * inner)
    cross = total * layers * 2 * width * inner
    decoder = 0
    for t, codes in enumerate(SEARCH_CODES):
        rows = batch * (WIDTH if t else 1)
        decoder += rows * (layers * (6 * width * inner + 2 * width * feed + 2 * tokens * inner + 2 * (t + 1) * inner) + width * codes)
    return 2 * (encoder + cross + decoder)


def search_row(model, batch, tokens):
    bench, rows = model.bench, model.queries(batch, tokens)
    model.check(batch, tokens, rows)
    gflops = bench.measure_floor()
    floor = search_operations(model.shape, batch, tokens) / gflops * 1e-6
    names = token_names(rows)
    model.send(rows)
    calls = {"ours": lambda: bench.ours.number("ms", "search", 0)}
    for name, peer in model.ct2.items():
        calls[name] = lambda peer=peer: timed(lambda: peer.search(names))[0]
    if batch * tokens <= 1024:
        calls["hf"] = lambda: timed(lambda: model.hf.search(rows, True))[0]
    samples = alternate(calls, bench.options.seconds, bench.options.turns)
    notes = {"ct2-f32": "no-trie,whole-vocabulary", "ct2-int8": "no-trie,whole-vocabulary,information", "hf": "trie,three-processors"}
    return {"kind": "search", "unit": "ms", "floor": floor, "gflops": gflops, "samples": samples, "notes": notes,
            "lines": {name: compare(samples, name, floor, 1.0) for name in samples if name != "ours"}}


def compare(samples, peer, floor, tokens):
    """tokens 1: times in ms; else tokens per second. Best against best."""
    ours, theirs = min(samples["ours"]), min(samples[peer])
    if tokens != 1.0:
        ours, theirs = 1e3 * tokens / ours, 1e3 * tokens / theirs
    return {"achieved": ours, "theirs": theirs, "floor": floor, "ratio": ours / theirs}


# ---- training ----

def draw_batches(shape, batch, length, ragged):
    """Rows of input tokens, and the codes of their documents. Ragged: lengths uniform in 1..length, four batches; else one."""
    random, batches = numpy.random.default_rng(SEED + 2), []
    for _ in range(4 if ragged else 1):
        lengths = random.integers(1, length + 1, batch) if ragged else [length] * batch
        batches.append(([random.integers(3, SHAPES[shape][5], int(n) - 1).tolist() + [1] for n in lengths],
                        [[int(random.integers(k)) for k in TRAIN_CODES] for _ in range(batch)]))
    return batches


class Torch:
    """A training step: forward, loss over each position's codes, backward, AdamW (PyTorch's fused one)."""

    def __init__(self, model, shape, batches):
        self.model, self.first, self.base = model, first_rows(shape, TRAIN_CODES), SHAPES[shape][5]
        self.batches = [self.tensors(*batch) for batch in batches]
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, fused=True)

    def tensors(self, rows, codes):
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        inputs = [[0] + [first + c for first, c in zip(self.first, id)][:-1] for id in codes]
        return tokens, None if bool(mask.all()) else mask, torch.tensor(inputs), torch.tensor(codes)

    def loss(self, tokens, mask, inputs, codes):
        encoded = self.model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        decoded = self.model.decoder(input_ids=inputs, encoder_hidden_states=encoded, encoder_attention_mask=mask,
                                     use_cache=False).last_hidden_state * self.model.config.d_model ** -0.5
        head = self.model.shared.weight[self.base:]
        losses = []
        for t, (first, size) in enumerate(zip(self.first, TRAIN_CODES)):
            rows = head[first - self.base:first - self.base + size]
            losses.append(torch.nn.functional.cross_entropy(decoded[:, t] @ rows.T, codes[:, t]))
        return sum(losses) / len(losses)

    def step(self, which, dropout, lr):
        self.model.train(dropout)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(*self.batches[which])
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


def train_operations(shape, batches):
    """Forward and backward: three times the forward's products and attention (2 operations per multiply-add)."""
    width, head, feed, heads, layers, _ = SHAPES[shape]
    inner, forward = heads * head, 0
    for rows, codes in batches:
        for row in rows:
            n, t = len(row), len(TRAIN_CODES)
            forward += n * layers * (4 * width * inner + 2 * width * feed + 2 * n * inner + 2 * width * inner)
            forward += t * layers * (6 * width * inner + 2 * width * feed + 2 * n * inner + 2 * t * inner) + width * sum(TRAIN_CODES)
    return 6 * forward


def check_losses(bench, torch_side, what):
    """Two steps without dropout: the same loss before and after the first."""
    for step in range(2):
        ours, theirs = bench.ours.number("loss", "step", 0, 0, 1e-3), torch_side.step(0, False, 1e-3)
        if abs(ours - theirs) > LOSS_TOLERANCE * abs(theirs):
            fail(f"{what}: loss {ours} before step {step + 1}, PyTorch says {theirs}")


def train_row(bench, shape, batch, length, ragged):
    model, folder = make_model(bench, shape, TRAIN_CODES)
    batches = draw_batches(shape, batch, length, ragged)
    path = bench.path("batches")
    with open(path, "w") as f:
        for rows, codes in batches:
            f.writelines(f"{' '.join(map(str, row))} | {' '.join(map(str, id))}\n" for row, id in zip(rows, codes))
            f.write("\n")
    bench.ours.ask("model", folder, folder + ".codes.json")
    bench.ours.ask("batches", path)
    torch_side = Torch(model, shape, batches)
    check_losses(bench, torch_side, f"{shape} {batch}x{length}")
    tokens = sum(len(row) for rows, _ in batches for row in rows)
    gflops = bench.measure_floor()
    floor = tokens / (train_operations(shape, batches) / gflops * 1e-9)
    calls = {"ours": lambda: sum(bench.ours.number("ms", "step", i, 77 + i, 1e-4) for i in range(len(batches))),
             "torch": lambda: timed(lambda: [torch_side.step(i, True, 1e-4) for i in range(len(batches))])[0]}
    samples = alternate(calls, bench.options.seconds, bench.options.turns)
    bench.ours.ask("close")
    shutil.rmtree(folder)
    del model, torch_side
    gc.collect()
    note = f"encoder-tokens,4-targets-a-row,dropout-0.1{',padded-to-the-longest' if ragged else ''}"
    return {"kind": "train-ragged" if ragged else "train", "unit": "tok/s", "floor": floor, "gflops": gflops, "samples": samples,
            "tokens": tokens, "notes": {"torch": note}, "lines": {"torch": compare(samples, "torch", floor, tokens)}}


# ---- results ----

def missed(row, peer):
    ratio, target = row["lines"][peer]["ratio"], TARGETS[row["kind"]]
    if peer not in ("ct2-f32", "torch"):
        return ""
    return "" if (ratio <= target if row["kind"] == "search" else ratio >= target) else f" MISSED({target:g})"


def text_lines(row):
    for peer, line in row["lines"].items():
        yield (f"peer={peer} unit={row['unit']} row={row['name']} {row['notes'][peer]} theirs={line['theirs']:.2f}{missed(row, peer)} "
               f"achieved={line['achieved']:.2f} floor={line['floor']:.2f} ratio={line['ratio']:.3f}")


def processor():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def settings():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {"processor": processor(), "threads": THREADS, "clock": "processor" if CPU else "wall", "beam": WIDTH,
            "positions": len(SEARCH_CODES), "documents": DOCUMENTS, "torch": torch.__version__,
            "transformers": transformers.__version__, "ctranslate2": ctranslate2.__version__, "commit": commit}


class Results:
    """peers-DATE.json and .txt, written whole after every row."""

    def __init__(self, stem, fresh):
        self.stem, self.fresh, self.rows = stem, fresh, []
        if os.path.exists(stem + ".json"):
            with open(stem + ".json") as f:
                self.rows = json.load(f)["rows"]

    def has(self, name):
        now = {key: value for key, value in settings().items() if key != "commit"}
        return not self.fresh and any(row["name"] == name and all(row.get(k) == v for k, v in now.items()) for row in self.rows)

    def add(self, row):
        row.update(settings(), measured=datetime.datetime.now().isoformat(timespec="seconds"), load=round(os.getloadavg()[0], 2))
        self.rows = [r for r in self.rows if r["name"] != row["name"]] + [row]
        self.write(".json", json.dumps({"format": 1, "rows": self.rows}, indent=1) + "\n")
        self.write(".txt", "".join(line + "\n" for r in self.rows for line in text_lines(r)))
        for line in text_lines(row):
            print(line, flush=True)

    def write(self, ending, text):
        with open(self.stem + ending + ".part", "w") as f:
            f.write(text)
        os.replace(self.stem + ending + ".part", self.stem + ending)


def parse(arguments):
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build", help="where semindex and bench/bench_model are")
    p.add_argument("--rows", default="*", help="names of the rows to measure, with * and ?: 'search-t5-small-*'")
    p.add_argument("--list", action="store_true", help="print the rows' names")
    p.add_argument("--quick", action="store_true", help="a tiny shape and two turns: does everything work?")
    p.add_argument("--fresh", action="store_true", help="measure again what the results hold")
    p.add_argument("--seconds", type=float, default=15, help="a row's turns begin within this time")
    p.add_argument("--turns", type=int, default=15, help="turns at most")
    p.add_argument("--cpu", action="store_true", help="one thread and processor time, for a busy machine; results go to BUILD/peers-cpu")
    p.add_argument("--out", help="results, without ending (default: results/peers-DATE beside this program)")
    o = p.parse_args(arguments)
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
    if o.quick:
        o.seconds, o.turns, o.fresh = 1, 2, True
    trial = "peers-cpu" if CPU else "peers-quick"
    o.out = o.out or (os.path.join(o.build, trial) if o.quick or CPU else os.path.join(here, f"peers-{datetime.date.today()}"))
    return o


def run_search(bench, results, wanted):
    for shape in dict.fromkeys(shape for shape, _, _ in wanted.values()):
        rows = {name: row for name, row in wanted.items() if row[0] == shape}
        model = SearchModel(bench, shape)
        for name, (_, batch, tokens) in rows.items():
            results.add({"name": name, **search_row(model, batch, tokens)})
        model.close()


def main(arguments):
    o = parse(arguments)
    search = {f"search-{s}-{b}x{n}": (s, b, n) for s, b, n in (QUICK_SEARCH if o.quick else SEARCH_ROWS)}
    train = {f"train-{s}-{b}x{n}{'-ragged' if ragged else ''}": (s, b, n, ragged)
             for s, b, n, ragged in (QUICK_TRAIN if o.quick else TRAIN_ROWS)}
    if o.list:
        print("\n".join([*search, *train]))
        return
    results = Results(o.out, o.fresh)
    search, train = ({name: row for name, row in rows.items() if fnmatch.fnmatch(name, o.rows) and not results.has(name)}
                     for rows in (search, train))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the models' folder goes with the run
    bench = Bench(o)
    try:
        run_search(bench, results, search)
        for name, row in train.items():
            results.add({"name": name, **train_row(bench, *row)})
    finally:
        bench.close()
    print(f"{len(results.rows)} rows in {o.out}.json")


if __name__ == "__main__":
    main(sys.argv[1:])
