#!/bin/sh
# eval_beauty.sh PROGRAM DATA: Amazon Beauty: IDs, a recommender over ID histories, full ranking over all test users. IDS names the indexer:
# lmindexer (default; from the texts, K = 512), or residual, rq-vae, hierarchical from DATA/minilm.npy with that indexer's defaults. TRAIN: more options.
cd "$(dirname "$0")/../.."
ids=${IDS:-lmindexer}
set -- "$1" "${2:?DATA is missing: make eval-beauty DATA=.../beauty}" "beauty${IDS:+-$IDS}"
. tests/bench/eval_common.sh
made="make eval-beauty DATA=.../beauty${IDS:+ IDS=$IDS}${TRAIN:+ TRAIN=\"$TRAIN\"}"
own="--indexer $ids --embeddings $data/minilm.npy"
[ "$ids" = lmindexer ] && own="--recipe beauty-cpu"
begin_report
step learn learn-ids --data "$data" --model "$dir/bundle" --tokenizer "$data/../t5/spiece.model" --seed "$seed" $own
step ids evaluate --task ids --model "$dir/bundle" --data "$data" --seed "$seed"
step train train recommend --model "$dir/bundle" --data "$data" --seed "$seed" --recipe beauty-cpu ${TRAIN:-}
step evaluate evaluate --task recommend --model "$dir/bundle" --data "$data" --recipe beauty-cpu --with-history --seed "$seed" --intervals \
    --compare hybrid,neighbours
end_report
