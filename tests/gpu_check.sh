#!/usr/bin/env bash
# gpu_check.sh: everything that only a GPU can show, on a machine that has one: is the backend right there, and how fast is it.
#
#   tests/gpu_check.sh [--stages a,b,..] [--out DIR] [--device cuda[:N]] [--build DIR]
#   tests/gpu_check.sh --list          the stages, what they do and how long each takes
#
# Stages run in the order of --list; one that fails does not stop the next. Each ends within 9 minutes or is ended, so a machine that is lent
# for commands of ten minutes can run them one at a time; what a stage built stays for the next call. Results go to one file a day and
# device, DIR/gpu-DATE-DEVICE.txt (default tests/bench/results): device, driver, commit, then what each stage showed, added to by later
# calls. The last line is the total. Exit status: 0, 1 when something failed, 64 wrong usage, 69 when no CUDA device opens (after `build`, which
# needs none).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# name, seconds it takes (16 processors, H100; estimated until a run was made), what it does
stages() {
    cat << 'END'
build            240 the program, its CUDA module for all architectures (every warning an error), the tests and benches
build-f32        180 the module in single precision, for comparisons without rounding
conformance       60 every op against the double reference, recorded searches against called ones, a step in one launch against its ops, ties; both modules
parity            30 the reference folder tests/fixtures/a, T5, LMIndexer, beam search; both modules, where built
serve             60 the daemon: 16 clients compare their hits with the reference while documents come and go; both modules
memcheck         300 compute-sanitizer memcheck over the conformance
racecheck        300 compute-sanitizer racecheck over the conformance
synccheck        200 compute-sanitizer synccheck over the conformance
bench-search      90 T5-base, random weights: searches of 1 and 64 requests, 32 and 1,024 tokens, beside their floors
bench-train       90 T5-base: a training step of 128 x 512 tokens beside its floor
bench-kmeans      60 an assignment of 1 M points to 51,200 centroids beside its floor
bench-kernels     60 ops by themselves at T5-base shapes, bytes and operations a second beside the peaks
END
}

LIMIT_S=540 NOT_RUN=77
wanted='' out=tests/bench/results device=cuda build=build inner=''

usage() {
    sed -n '4,5s/^# *//p' "$0" >&2
    exit 64
}

while [ $# -gt 0 ]; do
    case $1 in
    --list) stages; exit 0 ;;
    --stages | --out | --device | --build | --inner)
        [ $# -gt 1 ] || usage
        case $1 in
        --stages) wanted=$2 ;;
        --out) out=$2 ;;
        --device) device=$2 ;;
        --build) build=$2 ;;
        --inner) inner=$2 ;;
        esac
        shift 2
        ;;
    *) usage ;;
    esac
done
for name in ${wanted//,/ }; do
    stages | grep -q "^$name " || { echo "gpu_check: there is no stage $name; --list says which there are" >&2; exit 64; }
done

case $build in /*) ;; *) build=$PWD/$build ;; esac
f32=$build-f32
log=$build/gpu
jobs=$(nproc)
export SEMINDEX_CUDA_MODULE=$build/semindex-cuda.so

# ---- the stages; each runs in a process of its own ----

# with_modules COMMAND...: once with each module that was built; @device, @kind (narrow, exact) stand for what differs.
with_modules() {
    local kind module status=0
    for kind in narrow exact; do
        module=$build/semindex-cuda.so
        [ $kind = narrow ] || module=$f32/semindex-cuda.so
        if [ ! -f "$module" ]; then
            echo "$kind: $module was not built (stage build$([ $kind = narrow ] || echo -f32))"
            [ $kind = exact ] || status=1
            continue
        fi
        echo "---- $([ $kind = narrow ] && echo bf16 || echo f32): $*"
        SEMINDEX_CUDA_MODULE=$module "${@//@kind/$kind}" || status=1
    done
    return $status
}

sanitizer() {
    if ! command -v compute-sanitizer > /dev/null; then
        echo "compute-sanitizer is not installed: $1 not run"
        return "$NOT_RUN"
    fi
    compute-sanitizer --tool "$1" --error-exitcode 9 "$build/tests/test_kernels" --device "$device" 2>&1 | tail -n 400
    [ "${PIPESTATUS[0]}" = 0 ] || return 9
    compute-sanitizer --tool "$1" --error-exitcode 9 "$build/tests/test_device_step" --device "$device" 2>&1 | tail -n 400
}

stage_build() {
    make -j"$jobs" CUDA=1 BUILD="$build" all "$build/tests/test_kernels" "$build/tests/test_searcher" "$build/tests/test_device_step" "$build/parity" \
        "$build/bench/bench_cuda"
}

stage_build_f32() {
    make -j"$jobs" CUDA=f32 BUILD="$f32" "$f32/semindex-cuda.so"
}

stage_conformance() {
    with_modules python3 tests/run.py "$build/tests/test_kernels --device $device" "$build/tests/test_searcher --device $device" \
        "$build/tests/test_device_step --device $device"
}

stage_parity() {
    with_modules "$build/parity" --device "$device" tests/fixtures/a
}

stage_serve() {
    with_modules python3 tests/system/check_device.py "$build/semindex" "$device" @kind 20
}

stage_memcheck() { sanitizer memcheck; }
stage_racecheck() { sanitizer racecheck; }
stage_synccheck() { sanitizer synccheck; }

bench() {
    "$build/bench/bench_cuda" --device "$device" --cases "$1"
}

stage_bench_search() { bench query-1x32,query-64x32,history-1x1024,history-64x1024; }
stage_bench_train() { bench train-128x512,train-4x32x512; }
stage_bench_kmeans() { bench kmeans-1Mx51200x768; }
stage_bench_kernels() { bench kernels; }

if [ -n "$inner" ]; then
    "stage_${inner//-/_}"
    exit
fi

# ---- running them ----

passed=0 failed=0 result=''
mkdir -p "$log" "$out"

say() {
    echo "$*"
    [ -z "$result" ] || echo "$*" >> "$result"
}

# A machine without a device stops here. Sets `result` and begins the file.
find_device() {
    local opened name driver
    if [ ! -x "$build/bench/bench_cuda" ] || ! opened=$("$build/bench/bench_cuda" --device "$device" --cases none 2>&1); then
        echo "no CUDA device: ${opened:-$build/bench/bench_cuda is not built (stage build)}" >&2
        echo "$passed passed, $failed failed"
        exit 69
    fi
    name=$(echo "$opened" | sed -n 's/^device: //p')
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1)
    result=$out/gpu-$(date +%F)-$(echo "${name%%,*}" | tr -cs 'A-Za-z0-9\n' - | sed 's/-$//').txt
    {
        echo "command: tests/gpu_check.sh ${wanted:+--stages $wanted}"
        echo "device: $name; driver ${driver:-unknown}"
        echo "commit: $(git describe --always --dirty --abbrev=10 2> /dev/null || echo unknown)"
        echo "date: $(date -u '+%F %H:%M') UTC; $jobs processors, load $(cut -d' ' -f1 /proc/loadavg)"
    } >> "$result"
    tail -n 3 "$result"
}

# What a stage's log says in few words: counts, figures, findings.
digest() {
    grep -aE 'achieved=|^---- |passed, |checked=|worst|clients|overlap|not built|not installed|not run|WRONG|FAIL|ERROR SUMMARY|error:' "$1" | cut -c1-300
}

run_stage() {
    local name=$1 from code file=$log/$1.log line good bad
    from=$(date +%s)
    timeout -k 10 "$LIMIT_S" "$0" --inner "$name" --device "$device" --build "$build" > "$file" 2>&1
    code=$?
    good=0 bad=0
    while read -r line; do
        good=$((good + ${line%% *}))
        line=${line#*, }
        bad=$((bad + ${line%% *}))
    done < <(grep -aoE '^(\w+: )?[0-9]+ passed, [0-9]+ failed' "$file" | sed 's/^[a-z_]*: //')
    [ $((good + bad)) -gt 0 ] || good=$((code == 0))
    [ "$code" = 0 ] || [ "$code" = "$NOT_RUN" ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    say "$(printf '== %-14s exit %-3d %4d s  %d passed, %d failed' "$name" "$code" "$(($(date +%s) - from))" "$good" "$bad")"
    [ "$code" != 124 ] || say "   ended after $LIMIT_S s"
    while IFS= read -r line; do say "   $line"; done < <(digest "$file")
    [ "$code" = 0 ] || [ "$code" = "$NOT_RUN" ] || tail -n 40 "$file"
}

for name in $(stages | cut -d' ' -f1); do
    case ,${wanted:-$name}, in
    *,$name,*) ;;
    *) continue ;;
    esac
    case $name in
    build*) ;;
    *) [ -n "$result" ] || find_device ;;
    esac
    run_stage "$name"
done
say "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
