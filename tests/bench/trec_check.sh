#!/bin/sh
# trec_check.sh: our search figures against trec_eval's code (the Python package pytrec_eval, or pytrec_eval-terrier where that does not build).
# usage: trec_check.sh SEMINDEX DATA [BUNDLE]
# PYTHON names an interpreter that has the package; it is used here only, never by the product. Also reads the run files back with --run: a
# run read back must give the figures it was written with.
set -eu
semindex=$1 data=$2 bundle=${3:-}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$semindex" evaluate --quiet --json --task search --data "$data" ${bundle:+--model "$bundle"} --run-out "$work/ours" >"$work/ours.json"
"${PYTHON:-python3}" "$here/trec_check.py" "$work/ours.json" "$data/qrels.tsv" "$work/ours"
for run in "$work"/ours.*.run; do
    name=${run#"$work"/ours.} name=${name%.run}
    "$semindex" evaluate --quiet --json --task search --data "$data" --run "$run" >"$work/back.json"
    "${PYTHON:-python3}" - "$work/ours.json" "$work/back.json" "$name" <<'PY'
import json, sys
rows = [{r["ranking"]: r for r in json.load(open(f))["tables"][0]["rows"]} for f in sys.argv[1:3]]
ours, back = rows[0][sys.argv[3]], rows[1]["run"]
wrong = [m for m in ours if m != "ranking" and abs(ours[m] - back[m]) > 1e-9]
print("%-12s read back: %s" % (sys.argv[3], "differs in " + ", ".join(wrong) if wrong else "the same"))
sys.exit(bool(wrong))
PY
done
