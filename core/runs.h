/* runs.h: the long runs that the command line starts: import, tokenizer, learning, task training, evaluation, the store's upkeep.
 *
 * One option struct and one function each. All of them report through struct run, stop when it says so (ERR_INTERRUPTED) and go on where they
 * were when started again with the same options. 0 / NULL means "the default named here". */
#ifndef SEMINDEX_RUNS_H
#define SEMINDEX_RUNS_H

#include "base/err.h"
#include "base/mem.h"
#include "base/run.h"
#include "data/prepare.h" /* semindex prepare: struct prepare_options, prepare_run */
#include "data/sample.h" /* semindex sample: sample_run */
#include "learn/optimiser.h" /* struct optimiser, struct rate_search */
#include "model/import.h" /* struct import_options, import_run */
#include "text/tokenizer.h" /* struct tokenizer_training, tokenizer_train */
#include <stdbool.h>
#include <stdint.h>

/* semindex tokenizer --data DIR --out FILE: a SentencePiece model trained on a corpus. */
struct tokenizer_options {
    const char *data, *output;
    int32_t vocab; /* 0 = 8000, or fewer where the corpus has no more; else exactly this */
    double hold_out; /* as learn_options; no option of the command */
    uint64_t hold_out_seed;
    int threads;
};
int tokenizer_run(const struct tokenizer_options *o, const struct run *run, struct err *e);

/* semindex learn-ids: LMIndexer, Algorithm 1. Writes the bundle (indexer, ids, documents). Checkpoints beside it in OUT.work/. The other
 * indexers are over text embeddings: the user's own, or the mean of a T5's encoder outputs (the T5 of `base`). */
#define LEARN_PASS_BYTES ((size_t)4 << 30) /* of a pass's activations, unless micro_batch says otherwise */
enum learn_indexer { INDEXER_LMINDEXER, INDEXER_RQVAE, INDEXER_HIERARCHICAL, INDEXER_RESIDUAL };
struct learn_options {
    const char *data;      /* BEIR folder or items.jsonl [+ sequences.txt] */
    const char *out;       /* bundle to write, or to renew */
    const char *base;      /* bundle whose part `base` (an imported T5) is the start; NULL = random weights of the shape below */
    const char *tokenizer; /* spiece.model; NULL = the base's, else one is trained on the corpus (vocab below) */
    int32_t vocab;         /* of a trained tokenizer; 0 = 8000, or fewer where the corpus has no more */
    struct t5_shape shape; /* t5_shape_text */
    bool gated;
    int32_t positions;     /* learned positions L; 2 */
    int32_t codes;         /* K per position; 512, or fewer for a small corpus: at most documents / 4 */
    int32_t max_tokens;    /* of a document; 128 */
    int32_t batch;         /* documents; 128 */
    double warmup_epochs, continuous_epochs, joint_epochs; /* 1, 2, 2 */
    int32_t micro_batch;   /* documents a pass, gradients added up to the batch; the whole batch where it fits into LEARN_PASS_BYTES */
    double lr;             /* 1e-3 */
    struct rate_search search; /* LMIndexer: of lr, judged on held-out documents (learn/learn_rates.c) */
    double validation_share;   /* of the documents, held out of updates while rates are tried; 0.02 */
    struct optimiser adam;
    double dropout;        /* 0.1; <0 = none */
    double hints[16];      /* hint ratio per position; 0.5, 0.3, 0.3 .. */
    double contrastive_temperature; /* 1 */
    double weight_recon, weight_contrastive, weight_commitment; /* 1 each; <0 = off */
    double target_share;   /* share of text tokens per step that are reconstruction targets, drawn by hash; 1 = the paper's */
    int32_t negatives;     /* 4 */
    int32_t kmeans_restarts, kmeans_iterations; /* 10, 50 */
    uint64_t seed;         /* 1 */
    int32_t limit;         /* first documents of the corpus only; 0 = all */
    double hold_out;       /* share of documents that take no part and get no ID, 0 .. 0.5; so train knows nothing of them either; 0 */
    uint64_t hold_out_seed; /* which ones: corpus_is_held_out; 1 */
    enum learn_indexer indexer;
    const char *embeddings, *embedding_ids; /* not LMIndexer: .npy or .safetensors; ids of its rows, one a line, NULL = corpus order */
    double epochs;         /* rq-VAE; 200. Defaults of the three: positions 3, codes 256, batch 256 */
    int32_t leaf;          /* hierarchical: clusters of so many documents are not divided; 8. Default codes follow from it */
    const char *device;
    int threads;
    double checkpoint_s;   /* seconds between checkpoints; 20 */
    const char *given;     /* JSON object for the bundle: what a person gave, see learn/provenance.h; or NULL */
};
int learn_run(const struct learn_options *o, const struct run *run, struct err *e);

/* semindex pretrain: T5 span corruption (learn/span_corruption.h) on a corpus. Writes a bundle with the part `base`, which is then the start of
 * learn-ids, of train, or the T5 that embeds texts, as an imported one. Checkpoints beside it in OUT.work/. */
struct pretrain_options {
    const char *data, *out;
    bool replace;          /* out may be a bundle */
    const char *base;      /* bundle whose part `base` goes on learning, with its tokenizer; NULL = random weights of the shape below */
    const char *tokenizer; /* as learn_options; not with base */
    int32_t vocab;
    struct t5_shape shape; /* t5_shape_text */
    bool gated;
    int32_t max_tokens;    /* of an input, EOS included; 128. Longer documents are cut into windows of about equal length */
    double noise_density;  /* share of the tokens that are masked; 0.15 */
    double mean_span;      /* tokens of a masked span; 3 */
    int32_t batch;         /* windows; 64 */
    int32_t micro_batch;   /* 16, on a GPU 128 */
    int64_t steps;         /* as train_options: steps, minutes, epochs; default 30 epochs */
    double epochs, minutes;
    double lr;             /* 2e-3, from a base 5e-4 */
    struct optimiser adam;
    double dropout;        /* 0; <0 = none */
    double validation_share; /* of the documents; 0.02 */
    int32_t validations, patience; /* 10, 5 */
    double hold_out;       /* documents that are not read at all, as learn_options */
    uint64_t hold_out_seed;
    uint64_t seed;         /* 1 */
    int32_t limit;         /* first documents only; 0 = all */
    const char *device;
    int threads;
    double checkpoint_s;   /* 20 */
    const char *given;     /* as learn_options */
};
int pretrain_run(const struct pretrain_options *o, const struct run *run, struct err *e);

/* semindex train search|recommend|queries: adds a task model to the bundle. queries: a T5 that writes queries from a document's text. */
enum train_task { TRAIN_SEARCH, TRAIN_RECOMMEND, TRAIN_QUERIES };
/* Where the weights come from. By default a named base; else a model that reads text starts from an indexer that was itself learned from a base, and
 * what writes queries from the bundle's base or its indexer; else from random weights: an indexer learned from random weights, and a T5 pretrained on
 * a small corpus, have gone far in their own direction, and a task learns much faster without them. */
enum train_start { START_DEFAULT, START_RANDOM, START_INDEXER, START_BASE };
struct train_options {
    enum train_task task;
    const char *model; /* bundle */
    const char *data;
    bool text_history;   /* recommend: histories as texts instead of semantic IDs */
    enum train_start start;
    const char *base; /* bundle whose part base is the start, of the same tokenizer; NULL: the bundle's own, where it has one */
    struct t5_shape shape; /* of a random start; for texts the indexer's, else t5_shape_text; for IDs 64, 256, 16, 4, 2, 2; d_ff: 4 times a given d_model */
    int32_t max_tokens;  /* input; search 32, ID history 20 items, text history 256, queries 128 */
    int32_t max_history; /* 20 items */
    int32_t batch;       /* samples; 256, queries 32 */
    int64_t steps;       /* 0 = by minutes or epochs */
    double epochs;       /* 0 = by minutes; default 10 when neither is given */
    double minutes;      /* training time bound; the schedule falls to 0 over the steps that fit (measured), fixed once in the checkpoint */
    int32_t micro_batch; /* samples a pass, gradients added up to the batch; 512 (queries 16, on a GPU 128), and fewer where their inputs are long */
    double lr;           /* 4e-3 for ID histories, 5e-4 for queries from a base, else 2e-3 */
    struct rate_search search; /* of lr, judged by the validation metric */
    struct optimiser adam;
    double dropout;      /* 0.1, but none for search and queries from random weights; <0 = none */
    double label_smoothing;
    double validation_share; /* search: share of pairs' documents held out for early stopping; 0.02 */
    int32_t validations;     /* number of validations over the run; 10 */
    int32_t patience;        /* validations without a better metric before the end; 5 */
    bool given_pairs;        /* search: use the folder's training queries (queries-train.jsonl) when there are any; default true in the CLI */
    int32_t pseudo_per_document; /* 15 cut pseudo-queries per document and epoch */
    const char *written; /* search: files of written queries, commas between (data/written.h); NULL: none */
    double written_share; /* of an epoch's cut and written samples, how many are written ones; 0.5, <0 = 0 */
    uint64_t seed;
    const char *device;
    int threads;
    double checkpoint_s;
    const char *given; /* as learn_options.given */
};
int train_run(const struct train_options *o, const struct run *run, struct err *e);

/* semindex queries: writes pseudo-queries for every document that has text: JSON lines {"_id","sample","query"}, data/written.h. The file appears
 * when it is whole; until then FILE.part and, once a checkpoint, FILE.part.state, from which a stopped run goes on. */
struct queries_options {
    const char *model; /* bundle: its part `queries`, else `base` */
    const char *data;
    const char *out;
    bool replace;         /* out may be there: it is replaced when the new file is whole */
    int32_t per_document; /* 15 */
    int32_t top_k;        /* 10; 1 = greedy */
    double temperature;   /* 1 */
    int32_t max_tokens;   /* of a query; 64 */
    int32_t input_tokens; /* of a document, EOS included; what the part was trained with, else 512 */
    int32_t batch;        /* documents at once; by memory, at most 16. batch x per_document at most 65,536 */
    int32_t limit;        /* first documents only; 0 = all */
    uint64_t seed;
    const char *device;
    int threads;
    double checkpoint_s; /* 5 */
};
int queries_run(const struct queries_options *o, const struct run *run, struct err *e);

/* semindex evaluate: one table of rankings x metrics, as a text table or JSON. */
struct evaluate_options {
    const char *model; /* NULL: baselines only */
    const char *data;
    const char *task;  /* "search", "recommend", "ids", or NULL = all that model and data allow */
    int32_t beam;      /* 20 */
    int32_t limit;     /* ranking length; 100 capped by beam for the beam alone */
    int32_t queries;   /* first n only; 0 = all */
    bool with_history; /* recommendation also with history items left in */
    bool intervals;    /* 95 % bootstrap intervals of every figure */
    const char *compare; /* "A,B": paired test of these two rankings in every table that has both; or NULL */
    const char *run;     /* run files to judge beside the search rankings, commas between; or NULL */
    const char *run_out; /* search rankings are written to RUN_OUT.RANKING.run; or NULL */
    bool cold_start;     /* documents without an ID are indexed as the daemon does it: are they found? Nothing else is evaluated then */
    const char *embeddings, *embedding_ids; /* for cold_start, where the bundle's documents bring their embeddings */
    bool unconstrained;  /* also the beam without the trie: share of its IDs that no document has */
    bool json;
    uint64_t seed;
    const char *device;
    int threads;
};
int evaluate_run(const struct evaluate_options *o, const struct run *run, struct str *out, struct err *e);


/* How the parts of a bundle were made: a JSON array of what learn/provenance.h describes, in the order pretrain, learn-ids, search, recommend, queries; opening the
 * bundle checks every file of it. */
int runs_of_bundle(const char *model, struct str *out, struct err *e);

/* The store's upkeep. verify prints one line per finding; -1 when something is wrong. */
int store_verify(const char *catalog, const char *model_or_null, const struct run *run, struct err *e);
int store_backup(const char *catalog, const char *out, const struct run *run, struct err *e);
int store_restore(const char *backup, const char *catalog, const struct run *run, struct err *e);

#endif
