# eval_common.sh: what the evaluation scripts share (sourced). Each step runs once: a finished step leaves NAME.done and is skipped by the next
# run; a step that was stopped goes on from its own checkpoint. The report says command, seed, commit, machine and seconds of every step.
set -eu
program=$1
data=$2
name=$3
seed=${SEED:-1}
dir=build/eval-$name-$seed
results=${RESULTS:-tests/bench/results}
report=$dir/report.txt
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
mkdir -p "$dir" "$results"
export LC_ALL=C

machine() {
    sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -d '\n'
    printf ', %s processors, %s\n' "$(nproc)" "$(awk '/^flags/ { f = "no avx2"; if (/ avx2 /) f = "avx2"; if (/ avx512f /) f = "avx512"; print f; exit }' /proc/cpuinfo)"
}

# step NAME ARGUMENTS...: `program ARGUMENTS`, its notes (stderr, without progress lines) and output into the report.
step() {
    label=$1
    shift
    [ -f "$dir/$label.done" ] && return 0
    began=$(date +%s)
    printf '\n== %s\n' "$*" | sed "s|$program|semindex|g; s|$data|DATA|g; s|$dir|DIR|g"
    before=$(cat "$dir/$label.seconds" 2>/dev/null || echo 0)
    code=0
    "$program" "$@" ${THREADS:+--threads "$THREADS"} > "$dir/$label.out" 2> "$dir/$label.log" || code=$?
    echo $((before + $(date +%s) - began)) > "$dir/$label.seconds"
    [ "$code" = 0 ] || { tail -n 5 "$dir/$label.log" >&2; exit "$code"; }
    {
        printf '\n== semindex %s%s\n' "$*" "${THREADS:+ --threads $THREADS}" | sed "s|$data|DATA|g; s|$dir|DIR|g"
        grep -aE '^(reconstructor|position|ids|search|recommend|hybrid|corpus|warning|codes|tokenizer|going)' "$dir/$label.log" |
            grep -avE '[0-9]/s|left' || true
        cat "$dir/$label.out"
        printf 'seconds=%s load_average=%s commit=%s\n' "$(cat "$dir/$label.seconds")" "$(cut -d' ' -f1 /proc/loadavg)" "$commit"
    } | sed "s|$data|DATA|g; s|$dir|DIR|g" >> "$report"
    tail -n 30 "$report" | sed -n '/^== /,$p'
    : > "$dir/$label.done"
}

begin_report() {
    [ -s "$report" ] && return 0
    {
        echo "$name: semantic IDs learned, task trained, evaluated; seed $seed"
        echo "command: ${made:-make eval-${name%%-*} DATA=.../${name#*-}}"
        echo "commit: $commit at the start; each step names its own"
        printf 'machine: '
        machine
        echo "date: $(date -u +%Y-%m-%d)"
    } > "$report"
}

end_report() {
    total=0
    for s in "$dir"/*.seconds; do total=$((total + $(cat "$s"))); done
    printf '\ntotal seconds=%s\n' "$total" >> "$report"
    cp "$report" "$results/eval-$name-seed$seed.txt"
    echo "report: $results/eval-$name-seed$seed.txt"
}
