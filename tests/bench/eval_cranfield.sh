#!/bin/sh
# eval_cranfield.sh PROGRAM DATA: Cranfield: IDs for the 1,400 abstracts, search trained on pseudo-queries only, the 225 queries as the test.
cd "$(dirname "$0")/../.."
set -- "$1" "${2:?DATA is missing: make eval-cranfield DATA=.../cranfield}" cranfield
. tests/bench/eval_common.sh
begin_report
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" --temperature 16 \
    --k 128 --batch 32 --hints 0.05,0.05 --weight-contrastive 0.2 --target-share 0.25 --warmup-epochs 2 --continuous-epochs 8 --joint-epochs 4
step train train search --model "$dir/bundle" --data "$data" --seed "$seed" ${TRAIN:---epochs 30}
step evaluate evaluate --task search --model "$dir/bundle" --data "$data" --beam 100 --seed "$seed"
end_report
