#!/bin/sh
# eval_cranfield.sh PROGRAM DATA: Cranfield: IDs for the 1,400 abstracts, search trained on pseudo-queries only, the 225 queries as the test.
cd "$(dirname "$0")/../.."
set -- "$1" "${2:?DATA is missing: make eval-cranfield DATA=.../cranfield}" cranfield
. tests/bench/eval_common.sh
begin_report
# 1,400 short abstracts: no hints and no contrastive loss, so that the quantised vector alone has to say what a text is about: its
# reconstruction is then a topic model. Dropout only slows that.
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" --k 128 --batch 32 \
    --lr 2e-3 --dropout 0 --hints 0,0 --weight-contrastive 0 --weight-commitment 0.2 --max-tokens 64 --target-share 0.5 \
    --continuous-epochs 40 --joint-epochs 10
step train train search --model "$dir/bundle" --data "$data" --seed "$seed" ${TRAIN:---epochs 40}
step evaluate evaluate --task search --model "$dir/bundle" --data "$data" --beam 100 --seed "$seed"
end_report
