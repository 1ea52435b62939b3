/* generate.h: text from a text: a T5 writes samples behind an encoded passage, token by token (pseudo-queries, docT5query).
 *
 * Sampling as Nogueira and Lin (2019) use it: of the top_k most likely tokens one is drawn by softmax(logits / temperature). The draw is a hash of
 * (seed, key of the row, sample, step), and a processor's products give equal rows equal bits, so what is written for a row depends neither
 * on its neighbours in the batch nor on threads; a device may choose its products by the number of rows. top_k 1 is greedy decoding. */
#ifndef SEMINDEX_GENERATE_H
#define SEMINDEX_GENERATE_H

#include "../base/run.h"
#include "../model/need.h"
#include "../model/t5.h"

enum { GENERATE_TOP_MOST = 1024 };

struct generate_limits {
    int32_t rows, tokens;   /* of a batch: passages, and their tokens together */
    int32_t samples, steps; /* of a passage; tokens of a sample */
};
struct generate_options {
    int32_t samples, steps, top_k; /* top_k 1 .. GENERATE_TOP_MOST */
    const int32_t *never;          /* [never_count] tokens that no text has: T5's padding and sentinels, the unknown piece; never EOS */
    int32_t never_count;
    double temperature;            /* above 0 */
    uint64_t seed;
    const struct run *run;         /* asked before every token whether to stop; NULL = never */
};

struct generate;
/* Borrows the model, which has no ID codes. NULL with a reason. */
struct generate *generate_init(struct t5 *m, const struct generate_limits *l, struct err *e);
void generate_free(struct generate *g); /* NULL is fine */
void generate_need(struct need *n, const struct t5_config *c, const struct generate_limits *l);

/* Writes for every row of b; key [b->count] is what a row's draws hang on. -1: stopped (ERR_INTERRUPTED), or the model's logits are no numbers; then
 * nothing of this run may be read. */
int generate_run(struct generate *g, const struct t5_batch *b, const uint64_t *key, const struct generate_options *o, struct err *e);
/* Tokens of a sample without EOS; valid until the next run. */
const int32_t *generate_tokens(const struct generate *g, int32_t row, int32_t sample, int32_t *count);

#endif
