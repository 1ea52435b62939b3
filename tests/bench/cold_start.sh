#!/bin/sh
# cold_start.sh PROGRAM DATA: how documents are found that came after training: a tenth of the corpus takes no part in learning IDs nor in training,
# is then indexed as POST /index does it, and its Recall@10 is set beside that of the documents that took part. DATA: .../cranfield (search) or
# .../beauty (recommendation). The recipes are those of eval_*.sh; IDs are learned for fewer epochs.
cd "$(dirname "$0")/../.."
set -- "$1" "${2:?DATA is missing: make eval-cold DATA=.../cranfield or .../beauty}" "cold-$(basename "${2%/}")"
. tests/bench/eval_common.sh
case $name in
cold-cranfield) task=search recipe=cranfield-cpu shorter="--continuous-epochs 20 --joint-epochs 6" ;;
cold-beauty) task=recommend recipe=beauty-cpu shorter="--target-share 0.1 --max-tokens 64 --warmup-epochs 0.5 --continuous-epochs 0.7 --joint-epochs 0.7" ;;
*)
    echo "$data: settings are known for folders named cranfield and beauty" >&2
    exit 64
    ;;
esac
begin_report
# shellcheck disable=SC2086
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" --recipe $recipe --hold-out 0.1 $shorter
# shellcheck disable=SC2086
step train train $task --model "$dir/bundle" --data "$data" --seed "$seed" --recipe $recipe ${TRAIN:-}
step evaluate evaluate --cold-start --task $task --model "$dir/bundle" --data "$data" --recipe $recipe --intervals --seed "$seed"
end_report
