#!/usr/bin/env python3
"""cuda_cost.py: what `make cuda-cost` prints: cuda_cost's count of launches, bytes and operations, then what nvcc says of each kernel.

    cuda_cost.py PROGRAM [--out FILE] [--json FILE] [--nvcc NVCC] [--jobs N]

--out keeps the printed text with a head that says what it was made from, --json both parts as one object. Without nvcc the second part says
so and is left out. Exit status 1 when a limit of the first part is broken or a hot kernel spills registers; hot is what a case launches.

Occupancy is reckoned for sm_90 from registers (allotted to a warp by 256), shared memory (by 128 bytes, and 1 KiB a block for the system) and
threads of a block, against 64 K registers, 64 warps, 228 KiB and 32 blocks on each processor. Threads of a block are those of the launches
counted, else those that the LAUNCH in the source names.
"""
import argparse
import concurrent.futures
import datetime
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
REGISTERS, WARPS, SHARED, BLOCKS = 65536, 64, 228 * 1024, 32


class Tee:
    """Lines go to standard output and are kept."""
    def __init__(self):
        self.lines = []

    def __call__(self, text=""):
        print(text, flush=True)
        self.lines.append(text)


# ---- sources: how many threads a kernel is launched with ----

def split_arguments(text):
    """Arguments of a call up to its closing bracket; text begins behind the opening one."""
    out, depth, start = [], 1, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 or (c == "," and depth == 1):
            out.append(text[start:i].strip())
            start = i + 1
        if depth == 0:
            return out
    return out


def evaluate(expression, constants):
    """The value of an integer expression of known names, else None."""
    words = re.sub(r"[A-Za-z_]\w*", lambda m: str(constants.get(m[0], "?")), expression)
    if not re.fullmatch(r"[\d\s+*/()<-]+", words):
        return None
    try:
        return int(eval(words.replace("/", "//"), {"__builtins__": {}}))
    except (SyntaxError, ArithmeticError):
        return None


def constants_of(text, known):
    """Adds the enumerators of `text` to `known`."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for body in re.findall(r"\benum\s*(?:\w+\s*)?\{(.*?)\}", text, re.S):
        for entry in split_arguments(body + ")"):
            name, _, value = entry.partition("=")
            number = evaluate(value.strip(), known) if value else None
            if number is not None:
                known[name.strip()] = number
    return known


def launch_threads(path, headers):
    """Kernel -> most threads of a block that a LAUNCH or LAUNCH_PHASES in this file names."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    constants, out = constants_of(text, constants_of(headers, constants_of(headers, {}))), {}
    for m in re.finditer(r"\bLAUNCH(_PHASES)?\(", text):
        arguments = split_arguments(text[m.end():])
        threads = evaluate(arguments[3 if m[1] else 2], constants) if len(arguments) > 3 else None
        if threads:
            name = base_name(arguments[0])
            out[name] = max(out.get(name, 0), threads)
    return out


def base_name(kernel):
    """`(attend<W, K>)` -> attend"""
    return re.split(r"[<(]", kernel.strip().strip("()").replace("(anonymous namespace)::", ""))[0].split(" ")[-1]


# ---- nvcc ----

def compile_one(nvcc, path, arch):
    with tempfile.TemporaryDirectory(prefix="semindex-cost-") as scratch:
        command = [nvcc, "-std=c++17", "-O3", f"-arch={arch}", "-cubin", "--resource-usage", "-DSEMINDEX_BACKEND_ABI=0u", path, "-o",
                   os.path.join(scratch, "out.cubin")]
        got = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if got.returncode != 0:
        raise RuntimeError(f"{path}: {got.stderr.strip()[-800:]}")
    return got.stdout + got.stderr


def parse(text):
    """Facts of each entry function in what ptxas printed."""
    kernels, current = [], None
    for line in text.splitlines():
        entry = re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line)
        if entry:
            current = {"mangled": entry[1], "registers": 0, "shared": 0, "spill_stores": 0, "spill_loads": 0, "stack": 0}
            kernels.append(current)
        if current is None:
            continue
        spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if spills and current["stack"] == current["spill_stores"] == 0:
            current.update(stack=int(spills[1]), spill_stores=int(spills[2]), spill_loads=int(spills[3]))
        used = re.search(r"Used (\d+) registers", line)
        if used:
            shared = re.search(r"(\d+) bytes smem", line)
            current.update(registers=int(used[1]), shared=int(shared[1]) if shared else 0)
            current = None
    return kernels


def demangle(kernels):
    names = "\n".join(k["mangled"] for k in kernels)
    got = subprocess.run(["c++filt"], input=names, capture_output=True, text=True) if shutil.which("c++filt") else None
    clear = got.stdout.splitlines() if got and got.returncode == 0 else names.splitlines()
    for k, name in zip(kernels, clear):
        name = name.replace("(anonymous namespace)::", "")
        template = re.match(r"(?:void )?(\w+)(<.*?>)?\(", name)
        k["name"] = template[1] + (template[2] or "") if template else name
        phases = re.match(r"phases_kernel<(\w+)", k["name"])
        if phases:  # LAUNCH_PHASES is known by what runs in it
            k["name"] = phases[1]
        k["base"] = base_name(k["name"])


def occupancy(registers, shared, threads):
    """(blocks on a processor, share of its warps, what bounds it)"""
    warps = -(-threads // 32)
    per_warp = max(256, -(-registers * 32 // 256) * 256)
    bounds = {
        "threads": WARPS // warps,
        "blocks": BLOCKS,
        "registers": REGISTERS // per_warp // 4 * 4 // warps,
        "shared": SHARED // (-(-shared // 128) * 128 + 1024),
    }
    bound = min(bounds, key=bounds.get)
    return bounds[bound], bounds[bound] * warps / WARPS, bound


def resources(nvcc, arch, jobs, launched):
    headers, files, threads = "", [], {}
    for path in sorted(glob.glob(os.path.join(ROOT, "kernels/cuda/*.h"))):
        with open(path, encoding="utf-8") as f:
            headers += f.read()
    for path in sorted(glob.glob(os.path.join(ROOT, "kernels/cuda/*.cu"))):
        with open(path, encoding="utf-8") as f:
            if "__global__" in f.read():
                files.append(os.path.relpath(path, ROOT))
                threads.update(launch_threads(path, headers))
    kernels = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for path, text in zip(files, pool.map(lambda p: compile_one(nvcc, p, arch), files)):
            found = parse(text)
            for k in found:
                k["file"] = path
            kernels += found
    demangle(kernels)
    named = {k["name"] for k in kernels} & set(launched)
    vague = {base_name(name): t for name, t in launched.items() if name not in named}
    for name, t in launched.items():
        threads[base_name(name)] = max(threads.get(base_name(name), 0), t)
    for k in kernels:
        k["hot"] = k["name"] in named or k["base"] in vague
        k["threads"] = launched.get(k["name"]) or vague.get(k["base"]) or threads.get(k["base"])
        if k["threads"]:
            k["blocks_on_a_processor"], k["occupancy"], k["bound"] = occupancy(k["registers"], k["shared"], k["threads"])
    return kernels


def print_resources(say, kernels, arch):
    say(f"\nkernels, nvcc --resource-usage for {arch}; * = launched by a case above (hot)")
    say(f"  {'kernel':<44} {'registers':>9} {'shared':>7} {'spilled':>8} {'threads':>8} {'blocks':>7} {'occupancy':>10}  bound by")
    for k in sorted(kernels, key=lambda k: (not k["hot"], k["file"], k["name"])):
        name = ("* " if k["hot"] else "  ") + k["name"]
        spilled = k["spill_stores"] + k["spill_loads"]
        if k["threads"]:
            tail = f"{k['threads']:>8} {k['blocks_on_a_processor']:>7} {100 * k['occupancy']:>8.0f} %  {k['bound']}"
        else:
            tail = f"{'?':>8}"
        say(f"  {name:<44} {k['registers']:>9} {k['shared']:>7} {spilled:>8} {tail}")
    hot = [k for k in kernels if k["hot"] and k["spill_stores"] + k["spill_loads"]]
    cold = [k for k in kernels if not k["hot"] and k["spill_stores"] + k["spill_loads"]]
    say(f"  {'FAIL' if hot else 'ok  '} hot kernels that spill: {len(hot)}, at most 0; others: {len(cold)} of {len(kernels)} kernels in all")
    return len(hot)


# ---- the whole ----

def counted(program, say):
    """(exit status, the JSON) of the first part."""
    with tempfile.TemporaryDirectory(prefix="semindex-cost-") as scratch:
        path = os.path.join(scratch, "cost.json")
        with subprocess.Popen([program, "--json", path], stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                say(line.rstrip("\n"))
        if not os.path.exists(path):
            sys.exit(run.returncode or 2)
        with open(path, encoding="utf-8") as f:
            return run.returncode, json.load(f)


def head(say, nvcc):
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout.splitlines() if nvcc else []
    say("command: make cuda-cost (counted and reckoned on a machine without a GPU: nothing here was measured on one)")
    say(f"commit: {commit or 'none'}")
    say(f"nvcc: {version[-2] if len(version) > 1 else 'none'}")
    say(f"date: {datetime.date.today()}")


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("program")
    ask.add_argument("--out")
    ask.add_argument("--json")
    ask.add_argument("--nvcc", default=shutil.which("nvcc") or next(iter(glob.glob("/usr/local/cuda/bin/nvcc")), None))
    ask.add_argument("--arch", default="sm_90")
    ask.add_argument("--jobs", type=int, default=2)
    o = ask.parse_args()
    say = Tee()
    head(say, o.nvcc)
    status, facts = counted(o.program, say)
    launched = {}
    for case in facts["cases"]:
        for k in case["kernels"]:
            launched[k["name"]] = max(launched.get(k["name"], 0), k["threads"])
    spilling = 0
    if o.nvcc:
        facts["resources"] = resources(o.nvcc, o.arch, o.jobs, launched)
        spilling = print_resources(say, facts["resources"], o.arch)
    else:
        say("\nkernels: nvcc is neither on PATH nor in /usr/local/cuda/bin, so registers, spills and occupancy are not known")
    for path, text in ((o.out, "\n".join(say.lines) + "\n"), (o.json, json.dumps(facts, indent=1) + "\n")):
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    sys.exit(1 if status or spilling else 0)


if __name__ == "__main__":
    main()
