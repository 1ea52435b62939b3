#!/usr/bin/env python3
"""debian_corpus.py OUT [--learn N] [--first N] [--seed N]: the package lists of this machine as a corpus. Python's standard library only.

Reads every Packages list that apt has (decompressed by apt's own helper) and writes into OUT
    learn/corpus.jsonl   {"_id","title","text","section"}: the N packages (5,000) that semantic IDs are learned on, in BEIR's layout
    rest.jsonl           one document of POST /index a line, all the others
A package is: id = its name, title = "name: synopsis", text = its debtags as words (half of all packages have some), attribute section. The
order is by a hash of seed and name, so that both files hold a fair mix from their first line to their last, and every run the same one.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import subprocess
import sys

LISTS = "/var/lib/apt/lists"
HELPER = "/usr/lib/apt/apt-helper"
SILENT_FACETS = {"role", "special"}  # say nothing about what a package is good for


def list_files():
    """The Packages lists that apt's sources name; where apt is too old to say, all that lie in its folder."""
    command = ["apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]
    named = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")
    return [f for f in named if f and os.path.exists(f)] or sorted(glob.glob(LISTS + "/*_Packages*"))


def read_list(path):
    """The text of one list, whatever it is compressed with."""
    if path.endswith("_Packages"):
        with open(path, errors="replace") as f:
            return f.read()
    return subprocess.run([HELPER, "cat-file", path], capture_output=True, check=True).stdout.decode(errors="replace")


def stanzas(text):
    """Each stanza as {field: value}; continued lines are joined by a space."""
    for block in text.split("\n\n"):
        fields = {}
        for line in re.sub(r"\n[ \t]+", " ", block).split("\n"):
            name, colon, value = line.partition(":")
            if colon:
                fields[name] = value.strip()
        if "Package" in fields:
            yield fields


def words_of_tags(tags):
    """'works-with::image:raster, role::program' -> 'works with image raster'."""
    out = []
    for tag in tags.split(","):
        facet, _, value = tag.strip().partition("::")
        if value and facet not in SILENT_FACETS and value != "TODO":
            out.append(f"{facet} {value}".replace("-", " ").replace(":", " "))
    return ", ".join(out)


def document(fields):
    name, section = fields["Package"], fields.get("Section", "").split("/")[-1]
    out = {"id": name, "title": f"{name}: {fields.get('Description', '')}".rstrip(": ")}
    tags = words_of_tags(fields.get("Tag", ""))
    if tags:
        out["text"] = tags
    if section:
        out["attributes"] = {"section": section}
    return out


def packages(seed):
    """Every package once, in the order of the hash."""
    found = {}
    for path in list_files():
        for fields in stanzas(read_list(path)):
            found.setdefault(fields["Package"], document(fields))
    return [found[name] for name in sorted(found, key=lambda n: hashlib.sha256(f"{seed} {n}".encode()).digest())]


def beir(d):
    return {"_id": d["id"], "title": d["title"], "text": d.get("text", ""), **d.get("attributes", {})}


def write_lines(path, objects):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as f:
        for o in objects:
            f.write(json.dumps(o, ensure_ascii=False) + "\n")
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--learn", type=int, default=5000, help="packages that IDs are learned on (5000)")
    parser.add_argument("--first", type=int, default=0, help="only so many packages in all (0 = all)")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    found = packages(o.seed)[:o.first or None]
    if len(found) <= o.learn:
        sys.exit(f"only {len(found)} packages in the lists of apt ({LISTS}); more than {o.learn} are needed: run apt-get update")
    write_lines(os.path.join(o.out, "rest.jsonl"), found[o.learn:])
    write_lines(os.path.join(o.out, "learn", "corpus.jsonl"), map(beir, found[:o.learn]))
    tagged = sum("text" in d for d in found)
    print(f"{len(found)} packages, {tagged} with debtags; IDs are learned on {o.learn}, {len(found) - o.learn} are indexed")


if __name__ == "__main__":
    main()
