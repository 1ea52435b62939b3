/* lm_internal.h: what lmindexer.c (the objective) and reconstructor.c share: one work space and its index tables. */
#ifndef SEMINDEX_LM_INTERNAL_H
#define SEMINDEX_LM_INTERNAL_H

#include "lmindexer.h"

/* The reconstructor's handles into the model's tensors. */
struct recon_weights {
    const struct weight *q, *k, *v, *o, *wi, *wo;
    float *bias, *norm0, *norm1, *norm_final;                     /* masters */
    float *dbias, *dnorm0, *dnorm1, *dnorm_final;                 /* gradients */
};

/* One batch seen from the reconstructor. Sources are M text tokens, then B * t code tokens, then B vectors v (t counts earlier positions):
 * `source` [M + B * (t + 1), D]. All index tables are backend memory, filled per batch. */
struct recon_batch {
    int32_t documents, passes; /* B, t + 1 */
    int32_t text_tokens;       /* M */
    struct rows text_rows, memory_rows;
    const int32_t *memory_index; /* [memory total] source row of each memory entry */
    const int32_t *query_index;  /* [B * passes] source row of each query */
    const int32_t *repeat_index; /* [passes * M] query of each output row */
    const uint8_t *visible;      /* backend memory or NULL */
    const int64_t *visible_offsets;
    const uint64_t *keys;
    float hint_ratio;
    uint64_t seed;
};

struct recon_work {
    struct act *source, *dsource;
    struct act *memory, *memory_norm, *dmemory, *dmemory_norm, *k, *v, *dk, *dv;
    struct act *query, *query_norm, *dquery, *dquery_norm, *q, *dq;
    struct act *mixed, *dmixed;                         /* attention output [passes * M, inner] */
    struct act *r1, *n1, *f, *r2, *dr, *dn, *df, *pass; /* residual streams [passes * M, D], f [.., F] */
    struct act *z, *dz;                                 /* [M, D] */
    float *lse;
};

int recon_work_init(struct recon_work *w, const struct t5 *m, const struct lm_limits *l, struct err *e);
size_t recon_work_bytes(const struct backend *be, const struct t5_config *c, const struct lm_limits *l);
void recon_work_free(struct recon_work *w, const struct backend *be);
void recon_weights_of(struct recon_weights *w, struct t5 *m);
/* source -> z. Then dz -> dsource ("=") and parameter gradients ("+="). */
void recon_forward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b);
void recon_backward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b);

#endif
