#!/bin/sh
# eval_beauty.sh PROGRAM DATA: Amazon Beauty: LMIndexer IDs with K = 512, a recommender over ID histories, full ranking over all test users.
cd "$(dirname "$0")/../.."
set -- "$1" "${2:?DATA is missing: make eval-beauty DATA=.../beauty}" beauty
. tests/bench/eval_common.sh
begin_report
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" --recipe beauty-cpu
step ids evaluate --task ids --model "$dir/bundle" --data "$data" --seed "$seed"
step train train recommend --model "$dir/bundle" --data "$data" --seed "$seed" --recipe beauty-cpu ${TRAIN:-}
step evaluate evaluate --task recommend --model "$dir/bundle" --data "$data" --recipe beauty-cpu --with-history --seed "$seed"
end_report
