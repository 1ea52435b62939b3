/* learn_internal.h: the state of one `learn-ids` run, shared by its stages (learn.c), batches (learn_batch.c) and output (learn_output.c). */
#ifndef SEMINDEX_LEARN_INTERNAL_H
#define SEMINDEX_LEARN_INTERNAL_H

#include "../data/corpus.h"
#include "../model/bundle.h"
#include "../model/quantiser.h"
#include "../runs.h"
#include "../text/tokenizer.h"
#include "id_statistics.h"
#include "lmindexer.h"

enum stage_kind { STAGE_WARMUP, STAGE_CONTINUOUS, STAGE_KMEANS, STAGE_JOINT, STAGE_ASSIGN };
struct stage {
    enum stage_kind kind;
    int32_t position;
};

/* What a checkpoint keeps beside the parameter blocks. */
struct learn_mark {
    int64_t stage, step;            /* step: done in this stage */
    double recon, contrastive, commitment; /* sums over the stage's steps */
    double first_total, last_total; /* mean loss of the first and the last tenth of the stage */
    int64_t first_count, last_count;
    int64_t diverged;               /* the loss became no number: only a rate's trial keeps such a mark */
};

struct learn {
    struct learn_options o; /* defaults filled in */
    const struct run *run;
    const struct backend *be;
    struct corpus corpus;
    struct tokenizer *tokenizer;
    char *tokenizer_path, *work;
    int32_t n;         /* documents */
    int32_t *tokens;   /* [offsets[n]] text + EOS of every document */
    int64_t *offsets;  /* [n + 1] */
    int32_t truncated; /* documents that had more text */
    struct t5 *model;
    struct lm_work *lm;
    int32_t *codes;   /* [n, positions] */
    bool *held;       /* [n] documents that no update sees while rates are tried; NULL: none */
    int32_t trained;  /* documents that updates see */
    int64_t most_steps; /* of a stage; 0 = as its epochs say */
    const char *checkpoint; /* its name in the work folder */
    double rate_gain[RATES_MAX]; /* of o.search: what IDs tell of held-out texts; NaN: diverged */
    float *start;     /* the master block when the stage began, host */
    struct stage stages[2 + 4 * LM_POSITIONS_MAX];
    int32_t stage_count;
    struct learn_mark mark;
    char *settings;
    struct learn_batch *batch;
    struct quantiser *quantiser;   /* instead of the model: rq-vae, residual, hierarchical */
    struct text_embedding *texts;  /* with it, where texts are embedded here */
    bool branching_open;           /* hierarchical: nobody said how many codes */
    double saved_s; /* clock of the last checkpoint */
};

/* ---- learn_batch.c ---- */
struct learn_batch *learn_batch_init(const struct learn *s);
void learn_batch_free(struct learn_batch *b);
int64_t learn_batches(const struct learn *s); /* per epoch */
/* Fills *out (valid until the next call) with batch `step` of the current stage (its epoch's order is drawn when the epoch begins). */
void learn_batch_fill(struct learn *s, enum lm_stage stage, int32_t position, int64_t step, struct lm_batch *out);
/* Held-out documents from number `from` on, at most a pass of them, as a joint batch of the last position that sees no text: what their IDs alone
 * say. Returns how many there are. */
int32_t learn_batch_held(struct learn *s, int32_t from, struct lm_batch *out);
void learn_batch_forget(struct learn *s); /* the order of the epoch, which other codes make another */
/* Documents [from, from + count) as encoder rows with their prefix codes, no views. */
struct t5_batch learn_batch_rows(struct learn *s, int32_t position, int32_t from, int32_t count, const int32_t **prefix);
/* Upper bounds of a batch: tokens of the `documents` longest documents, EOS included. */
int64_t learn_longest_tokens(const struct learn *s, int32_t documents);

/* ---- learn.c ---- */
/* From the checkpoint, or from the start, through all stages. */
int learn_stages(struct learn *s, struct err *e);
int learn_save(struct learn *s, struct err *e);

/* ---- learn_rates.c ---- */
/* All stages with each rate of o.search from the same start, judged on held-out documents; leaves the best rate's whole run in s. */
int learn_rates(struct learn *s, struct err *e);

/* ---- learn_open.c ---- */
/* "name=value" lines that bind a checkpoint, of the options as they stand now. Caller frees. */
char *learn_settings(const struct learn *s);

/* Path of the tokenizer: the one that was named, else the base's, else one trained on the corpus c as `t` says (but for its output) and kept in the
 * work folder, where a run of the same texts and size that goes on finds it. The caller frees; NULL with e. */
char *learn_tokenizer(const char *given, const struct bundle *base, const char *work, struct tokenizer_options t, const struct corpus *c,
                      const struct run *run, struct err *e);

/* Fills in defaults, reads and tokenises the corpus, makes the model (random, or from a base bundle) and the work spaces. */
int learn_open(struct learn *s, struct err *e);
/* Its first half alone: defaults, device, corpus, work folder; then tokenizer and tokens. */
int learn_open_corpus(struct learn *s, struct err *e);
int learn_open_texts(struct learn *s, const struct bundle *base, struct err *e);
void learn_close(struct learn *s);

/* ---- learn_quantiser.c ---- */
int learn_quantiser_run(struct learn *s, struct err *e);
char *learn_quantiser_settings(const struct learn *s); /* "name=value" lines of what decides the codes; caller frees */

/* ---- learn_embed.c ---- */
struct embeddings;
/* A row a document, by the base's T5, in a file of the work folder that a run which was stopped goes on filling. */
int learn_embed_texts(struct learn *s, const struct bundle *base, struct embeddings *m, struct err *e);

/* ---- learn_output.c ---- */
int learn_write_bundle(struct learn *s, struct err *e);

#endif
