#!/bin/sh
# eval_cranfield.sh PROGRAM DATA: Cranfield: IDs for the 1,400 abstracts, search trained on pseudo-queries only, the 225 queries as the test.
cd "$(dirname "$0")/../.."
set -- "$1" "${2:?DATA is missing: make eval-cranfield DATA=.../cranfield}" cranfield
. tests/bench/eval_common.sh
begin_report
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" --recipe cranfield-cpu
step train train search --model "$dir/bundle" --data "$data" --seed "$seed" --recipe cranfield-cpu ${TRAIN:-}
step evaluate evaluate --task search --model "$dir/bundle" --data "$data" --recipe cranfield-cpu --seed "$seed"
end_report
