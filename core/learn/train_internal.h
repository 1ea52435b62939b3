/* train_internal.h: what one `train` run owns, shared by train.c (the run) and the tasks (train_search.c, train_recommend.c,
 * train_queries.c). */
#ifndef SEMINDEX_TRAIN_INTERNAL_H
#define SEMINDEX_TRAIN_INTERNAL_H

#include "../data/corpus.h"
#include "../model/bundle.h"
#include "../model/t5.h"
#include "../retrieve/trie.h"
#include "../runs.h"
#include "../text/tokenizer.h"
#include "../retrieve/fuse.h"
#include "../retrieve/ranker.h"
#include "trainer.h"

struct train {
    struct train_options o; /* defaults filled in */
    const struct run *run;
    const struct backend *be;
    struct bundle *bundle, *base; /* base: o.base, else the bundle itself */
    struct corpus corpus;
    struct id_table ids;
    struct trie *trie;            /* over ids; documents are rows of ids */
    int32_t *row;                 /* [corpus.count] row in ids of each document, or -1 */
    struct tokenizer *tokenizer;  /* NULL until a task asks for it */
    struct code_layout layout;    /* of the task model */
    struct t5 *model;
    char *checkpoint, *settings;
    double rate_metric[RATES_MAX]; /* of o.search: the best validation of each; NaN: diverged */
};

/* Codes of a row of ids [positions]. */
static inline const uint32_t *train_codes(const struct train *t, int32_t row)
{
    return t->ids.codes + (int64_t)row * t->ids.positions;
}

/* ---- train_open.c: bundle, corpus, IDs, models ---- */
int train_open(struct train *t, struct err *e);
void train_close(struct train *t);
int train_open_tokenizer(struct train *t, struct err *e);
/* Sets layout and model by o.start. From the indexer: its weights, with code rows for every position, the suffix's drawn at random; from the base:
 * its weights, all code rows drawn at random. Random: of the
 * indexer's shape when the task opened a tokenizer; without one a small T5 of IDs alone, whose code rows start from the indexer's. */
int train_model(struct train *t, struct err *e);
/* The same for a task that writes text: no codes; o.start base, indexer (its code rows are left behind) or random. */
int train_text_model(struct train *t, struct err *e);
const char *train_start_name(enum train_start start);
const char *train_task_name(enum train_task task);
enum { TRAIN_TEXT_TARGETS = 64 }; /* tokens of a written text at most, EOS included */

/* ---- a task: where samples come from ---- */
struct task; /* each task's own */
struct task_kind {
    const char *part;  /* "search" */
    struct task *(*open)(struct train *t, struct err *e); /* makes t->model; NULL with e */
    void (*close)(struct task *task);
    struct trainer_source (*source)(struct task *task);
    uint64_t (*digest)(const struct task *task);          /* of all that samples are drawn from */
    int (*choose)(struct task *task, struct err *e);      /* what is chosen on validation once the weights are, before settings; or NULL */
    char *(*settings)(const struct task *task);           /* JSON object for the part; caller frees */
    int (*put_files)(struct task *task, struct err *e);   /* further files of the bundle, or NULL */
};
extern const struct task_kind task_search, task_recommend, task_queries;

/* ---- train.c ---- */
/* "name=value" lines, see checkpoint.h; of the options as they stand now. Caller frees. */
char *train_settings(const struct train *t, const struct task_kind *kind, const struct task *task);
struct trainer_options train_trainer_options(const struct train *t, const char *part);

/* ---- train_rates.c ---- */
/* Trains with each rate of o.search from the same start, prints a table, and leaves the best rate in o.lr; in the model its weights and in *best
 * its result when trials are whole runs, else the start. A finished trial is not run again. */
int train_rates(struct train *t, const struct task_kind *kind, struct task *task, struct trainer_result *best, struct err *e);
void train_rates_remove(const struct train *t); /* the trials' checkpoints */

/* ---- validation, shared: mean nDCG@10 of single targets by the beam alone (Recall@10 saturates on small corpora) ---- */
struct validation {
    int32_t count;
    int32_t *tokens, *offsets; /* packed inputs */
    int32_t *target;           /* row of ids */
    int32_t **left_out;        /* rows that are no answers (a history), ended by -1; NULL = none */
    int32_t longest;
};
int validation_gain(struct train *t, const struct validation *v, double *mean, struct err *e);
/* The beam beside another ranking on the same questions: rank gives at most `most` rows of ids for question i, best first, with shares if `scored`,
 * and returns their number or -1; the beam then counts by its probabilities, too, else both by rank. Notes what each gives alone and together; the weight of the beam that was best. */
enum { VALIDATION_DEPTH = 100 };
struct validation_other {
    const char *name; /* "bm25" */
    bool scored;
    int32_t (*rank)(void *state, int32_t i, int64_t *rows, double *scores, int32_t most, struct err *e);
    void *state;
};
int validation_weight(struct train *t, const struct validation *v, const struct validation_other *other, double *weight, struct err *e);
void validation_free(struct validation *v);

#endif
