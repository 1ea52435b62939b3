/* lm_internal.h: what lmindexer.c (the objective), lm_passes.c (batches in passes) and reconstructor.c share: one work space and its index
 * tables. */
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

/* A table of int32 built on the host, used by ops. */
struct table {
    int32_t *host, *device;
    int32_t n, room;
};

/* A batch that is cut into passes: one pass's rows on the host, and h of all rows of the batch with the contrastive loss's gradient. */
struct lm_passes {
    int32_t *tokens, *offsets, *prefix, *second_view; /* of one pass */
    int32_t *row_of;                                  /* [2 * batch] row of the batch -> row of h and dh */
    struct act *h, *dh;                               /* [2 * batch, D] */
};

struct lm_work {
    const struct backend *be;
    struct t5 *model; /* not owned */
    struct lm_limits limits;
    struct t5_work *t5;
    struct recon_work recon;
    struct recon_weights weights;
    struct lm_passes passes;
    struct act *h, *q, *dh, *ddecoded;
    float *p, *soft, *loss;
    int32_t *code;
    uint64_t *keys;
    int64_t *visible_offsets;
    uint8_t *visible;
    size_t visible_room;
    struct table decoder, last, source_ids, memory, query, repeat, text_offsets, memory_offsets, v_rows, targets, labels, anchors, candidates,
        candidate_offsets, commit_rows, commit_labels;
    int32_t *decoder_offsets; /* host */
    int32_t text_tokens, rows, documents, position;
    bool joint;
};

/* Documents of a whole batch. */
static inline int32_t lm_whole(const struct lm_limits *l)
{
    return l->batch > l->documents ? l->batch : l->documents;
}

/* What one pass is of its batch: the losses are means over the batch's documents and targets. */
struct lm_share {
    int32_t documents, targets;
    uint64_t dropout_seed; /* 0 = none */
    const struct act *dh;  /* gradient of the batch's contrastive loss at this pass's rows; NULL: the pass is the batch */
};

/* Decoder states at the last position of all rows, into w->h. */
void lm_hidden(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, uint64_t dropout_seed);
/* Forward and backward of one pass; adds nothing to *out, whose total the caller makes. */
void lm_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, const struct lm_share *s, struct lm_losses *out);
/* L_contrastive of the batch over p's h (NULL: the work's own), its gradient "+=" to dh. */
double lm_contrastive(struct t5 *m, struct lm_work *w, const struct lm_batch *b, const struct lm_passes *p);
int32_t lm_target_count(const struct lm_batch *b);

/* ---- lm_passes.c ---- */
int lm_passes_init(struct lm_work *w); /* nothing to do where a batch is one pass; -1: no memory */
void lm_passes_free(struct lm_work *w);
void lm_passes_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, struct lm_losses *out);

int recon_work_init(struct recon_work *w, const struct t5 *m, const struct lm_limits *l, struct err *e);
size_t recon_work_bytes(const struct backend *be, const struct t5_config *c, const struct lm_limits *l);
void recon_work_free(struct recon_work *w, const struct backend *be);
void recon_weights_of(struct recon_weights *w, struct t5 *m);
/* source -> z. Then dz -> dsource ("=") and parameter gradients ("+="). */
void recon_forward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b);
void recon_backward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b);

#endif
