#!/usr/bin/env python3
"""lint.py: the house rules that a compiler does not check.

Include rule: server -> core -> kernels, and each foreign library in its one room. Sizes: function length (aim: median 12, 90th percentile 40,
none over 70), file length (none over 800). Also: no TODO, no typedef of a struct, every C file opens with an essay. Exit status 1 on any breach.
"""
import re
import statistics
import subprocess
import sys

ROOM_OF = {  # header -> where it may be included (prefixes)
    "sqlite3.h": ("core/catalog/sqlite",),
    "microhttpd.h": ("server/http",),
    "oneapi/dnnl/": ("kernels/cpu/",),
    "dnnl": ("kernels/cpu/",),
    "omp.h": ("kernels/",),
    "cuda": ("kernels/cuda/",),
    "cublas": ("kernels/cuda/",),
    "cjson/": ("server/", "core/data/", "core/model/", "core/retrieve/", "core/learn/", "core/text/", "core/catalog/", "core/engine",
               "core/evaluate", "tests/"),
    "sentencepiece": ("core/text/tokenizer",),
}
FUNCTION_MAX, FILE_MAX = 70, 800


def tracked():
    """Our sources. tests/reference/ is the shared script that made the fixtures, kept as it came."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.split()
    return [f for f in out if not f.startswith("tests/reference/") and re.search(r"\.(c|h|cc|cu|cuh|py|sh|html|css|js)$", f)]


def functions(lines):
    """(name, length) of every function body that opens and closes in column 0."""
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{"):
            start = i
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 4):start]).split(";")[-1].split("}")[-1]
            name = re.search(r"(\w+)\s*\(", head)
            if name and not re.search(r"=\s*$", head):
                yield name[1], i - start + 1
            start = None


def layer_of(path):
    for layer in ("kernels", "core", "server"):
        if path.startswith(layer + "/"):
            return layer
    return None


def include_breaches(path, text):
    layer = layer_of(path)
    if layer is None:
        return
    for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.M):
        for header, rooms in ROOM_OF.items():
            if name.startswith(header) and not path.startswith(rooms):
                yield f"{path}: includes {name}; its rooms are {', '.join(rooms)}"
        if kind == '"':
            if layer == "kernels" and re.search(r"(^|/)(core|server)/", name):
                yield f"{path}: kernels/ includes {name}"
            if layer == "core" and re.search(r"(^|/)server/", name):
                yield f"{path}: core/ includes {name}"
            if layer == "server" and "core/" in name and not re.search(r"core/(engine\.h|runs\.h|base/)", name):
                yield f"{path}: server/ sees core only through engine.h, runs.h and base/: {name}"
            if layer == "server" and "kernels/" in name:
                yield f"{path}: server/ includes {name}"


def main():
    breaches, lengths, largest = [], [], ("", 0)
    for path in tracked():
        text = open(path, errors="replace").read()
        lines = text.split("\n")
        if len(lines) - 1 > largest[1]:
            largest = (path, len(lines) - 1)
        if len(lines) - 1 > FILE_MAX:
            breaches.append(f"{path}: {len(lines) - 1} lines, at most {FILE_MAX}")
        if not re.search(r"\.(c|h|cc|cu|cuh)$", path):
            continue
        breaches.extend(include_breaches(path, text))
        if not text.startswith("/*"):
            breaches.append(f"{path}: does not open with a comment that says what it is")
        if re.search(r"\b(TODO|FIXME|XXX)\b", text):
            breaches.append(f"{path}: a TODO")
        if re.search(r"^typedef\s+(struct|union|enum)", text, re.M):
            breaches.append(f"{path}: a typedef of a struct")
        for name, length in functions(lines):
            lengths.append((length, path, name))
    lengths.sort()
    only = [n for n, _, _ in lengths]
    p90 = only[int(len(only) * 0.9)]
    print(f"functions: {len(only)}  median {statistics.median(only):g} (aim 12)  90th percentile {p90} (aim 40)  max {only[-1]} (aim {FUNCTION_MAX})")
    for length, path, name in lengths[-3:][::-1]:
        print(f"  longest: {path} {name} {length}")
    print(f"largest file: {largest[0]} {largest[1]} lines (aim {FILE_MAX})")
    breaches += [f"{p}: function {n} has {k} lines, at most {FUNCTION_MAX}" for k, p, n in lengths if k > FUNCTION_MAX]
    print(f"include rule and sizes: {len(breaches)} breaches")
    for b in breaches:
        print("  " + b)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
