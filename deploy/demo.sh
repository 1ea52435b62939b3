#!/bin/sh
# demo.sh: from nothing to a served semantic index on the sample catalogue: install, build, learn IDs, train both task models, evaluate, serve.
#
#   deploy/demo.sh [--check]      usually through `make demo` or `make demo CHECK=1`
#
# --check runs one curl against each endpoint, compares the printed figures with the demo's promises, stops the daemon and ends with 0 or 1.
# Everything lies under build/demo; a second run goes on where the first was stopped. Set DEMO_SEED to draw another catalogue.
set -eu
cd "$(dirname "$0")/.."
check=${1:-}
seed=${DEMO_SEED:-1}
dir=build/demo
program=build/semindex
listen=${DEMO_LISTEN:-127.0.0.1:8080}
[ "$check" = --check ] && listen=127.0.0.1:0

say() { printf '\n== %s\n' "$*"; }

say "packages"
deploy/install-deps.sh build $([ "$check" = --check ] && echo test)
say "build"
make --no-print-directory -j"$(nproc)" build/semindex
mkdir -p "$dir"
start=$(date +%s)

say "sample catalogue (seed $seed)"
[ -f "$dir/data/items.jsonl" ] || "$program" sample --out "$dir/data" --seed "$seed"
say "learn semantic IDs"
[ -f "$dir/bundle/bundle.json" ] || "$program" learn-ids --data "$dir/data" --model "$dir/bundle" --seed "$seed" --k 64 --d-model 96 \
    --d-ff 256 --d-kv 24 --heads 4 --encoder-layers 2 --decoder-layers 1 --max-tokens 64 --batch 32 --lr 2e-3 --dropout 0.05 --hints 0.02,0.02 \
    --temperature 24 --target-share 0.5 --continuous-epochs 6 --joint-epochs 4 --kmeans-restarts 3
say "train the search model"
[ -f "$dir/search.done" ] || "$program" train search --model "$dir/bundle" --data "$dir/data" --seed "$seed" --pseudo 1 --epochs 45 \
    --batch 128 --lr 4e-3
: > "$dir/search.done"
say "train the recommendation model"
[ -f "$dir/recommend.done" ] || "$program" train recommend --model "$dir/bundle" --data "$dir/data" --seed "$seed" --epochs 32
: > "$dir/recommend.done"
say "evaluate on held-out queries and histories"
"$program" evaluate --model "$dir/bundle" --data "$dir/data" --json --quiet > "$dir/evaluation.json"
"$program" evaluate --model "$dir/bundle" --data "$dir/data" --quiet
echo "learning and evaluation took $(($(date +%s) - start)) s"

say "serve"
: > "$dir/serve.out" # the daemon's shell may open it later than the first look below
"$program" serve --model "$dir/bundle" --catalog "$dir/catalog.db" --listen "$listen" > "$dir/serve.out" 2> "$dir/serve.log" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true' EXIT INT TERM
url=""
tries=0
while [ -z "$url" ] || ! curl -fsS "$url/readyz" >/dev/null 2>&1; do
    url=$(sed -n 's/^listening on \(http:[^ ]*\).*/\1/p' "$dir/serve.out")
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$daemon" 2>/dev/null; then
        echo "the daemon did not become ready; its log:" >&2
        cat "$dir/serve.log" >&2
        exit 1
    fi
    sleep 0.1
done

query=$(sed -n '1s/.*"text": *"\([^"]*\)".*/\1/p' "$dir/data/queries.jsonl")
item=$(sed -n '1s/^[^ ]* \([^ ]*\) .*/\1/p' "$dir/data/sequences.txt")
search="curl -s $url/search -H 'Content-Type: application/json' -d '{\"query\": \"$query\", \"limit\": 3}'"
recommend="curl -s $url/recommend -H 'Content-Type: application/json' -d '{\"history\": [\"$item\"], \"limit\": 3}'"
index="curl -s $url/index -H 'Content-Type: application/json' -d '{\"documents\": [{\"id\": \"demo-new\", \"title\": \"Ultralight titanium camping kettle\", \"text\": \"Boils water fast on any stove.\"}]}'"
for command in "$search" "$recommend" "$index"; do
    printf '\n%s\n' "$command"
    [ "$check" = --check ] || continue
    sh -c "$command -f" || { echo "failed: $command" >&2; exit 1; }
    echo
done
if [ "$check" != --check ]; then
    printf '\nThe daemon runs at %s (Ctrl-C stops it); its metrics: %s/metrics\n' "$url" "$url"
    wait "$daemon"
    exit 0
fi

curl -fsS "$url/metrics" > "$dir/metrics.txt"
echo "metrics: $(grep -vc '^#' "$dir/metrics.txt") series"
kill -TERM "$daemon"
wait "$daemon" || { echo "the daemon ended with status $?" >&2; exit 1; }
trap - EXIT INT TERM
exec python3 tests/system/check_demo.py "$dir/evaluation.json" "$dir/data"
