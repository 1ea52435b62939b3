/* t5_internal.h: what the files t5*.c share and nobody else sees.
 *
 * A model is one block of parameters (master, and when training grad and two moments of the same layout), a table of tensors in block order,
 * and views: struct weight over one tensor or over a run of neighbours that are multiplied together. View i < tensors belongs to tensor i;
 * the fused ones follow. A view is opened at the backend only if a pass uses it (or t5_weight asks), so no matrix is prepared twice.
 *
 * A work is one arena of activations cut into slots by t5_work.c. Inference: every layer of both stacks shares one set of slots. Training:
 * every layer has its own, since the backward pass reads them. The passes do not know which of the two they run on. Each sublayer leaves its
 * output in work->sub; the residual addition and its dropout happen in the next norm (one fused op), so `sub` is the only pending tensor; in a
 * direct pass there is none (t5_direct). */
#ifndef SEMINDEX_T5_INTERNAL_H
#define SEMINDEX_T5_INTERNAL_H

#include "t5.h"

struct t5_vector { /* a norm's gains or a bias table: read as plain floats */
    float *w, *grad;
};

struct t5_layer {
    struct weight *qkv, *out;             /* [3 * inner, D], [D, inner] */
    struct weight *cross_q, *cross_out;   /* decoder only */
    struct weight *wi, *wo;               /* [F or 2F, D], [D, F] */
    struct t5_vector self_norm, cross_norm, ff_norm;
};

struct t5_stack {
    int32_t layers;
    struct t5_layer *layer;
    struct t5_vector bias, final;
};

struct t5 {
    const struct backend *be;
    struct t5_config config;
    bool train;
    struct t5_tensor *tensor;
    int32_t tensors, own; /* own: those of T5 itself; extras follow */
    int32_t views; /* tensors + fused ones in use */
    struct weight *view;
    bool *open; /* [views]: prepared by the backend */
    int64_t size;
    float *master, *grad, *moment1, *moment2;
    struct t5_stack encoder, decoder;
    struct decode_layer *step; /* [decoder layers]: the same once more, for decode_stack */
    struct weight *shared, *lm_head, *cross_kv; /* cross_kv [layers * 2 * inner, D] */
};

/* Places where T5 drops: each draws from its own seed. */
enum t5_site { SITE_EMBED, SITE_SELF_PROB, SITE_SELF_OUT, SITE_CROSS_PROB, SITE_CROSS_OUT, SITE_FF_INNER, SITE_FF_OUT, SITE_FINAL, SITES };

struct t5_acts { /* of one layer; r_*: residual stream after the addition, y_*: the same normed */
    struct act *r_self, *y_self, *qkv, *att;
    struct act *r_cross, *y_cross, *cross_q, *cross_att;
    struct act *r_ff, *y_ff, *gate, *hidden; /* gate [n, 2F] only when gated; hidden [n, F] after activation and dropout */
    float *lse, *cross_lse;                  /* NULL when not training */
};

struct t5_side { /* one stack's share of a work */
    struct rows rows;
    int32_t *tokens, *offsets; /* backend memory */
    struct t5_acts *layer;     /* [layers] */
    struct act *r_final, *out;
    uint64_t seed; /* 0 = no dropout */
};

struct t5_work {
    const struct backend *be;
    struct t5_config config;
    struct t5_limits limits;
    struct act *arena;
    void *plain; /* the part that is not activations: tokens, offsets, ancestors, lse */
    struct t5_acts *layers;
    struct t5_side encoder, decoder;
    struct act *sub;   /* [n, D]: output of the last sublayer, not yet added */
    struct act *cross; /* [encoder tokens, decoder layers * 2 * inner] */
    /* backward */
    struct act *dr, *dy, *dsub, *datt, *dqkv, *dhidden, *dgate, *dcross, *dencoded;
    bool cross_grad; /* dencoded holds the decoder's share for the encoder pass that is in the slots */
    /* cached decode */
    struct t5_acts step;
    struct act *step_final, *step_out;
    struct act *k_cache, *v_cache; /* [decoder layers, positions, beam_rows, inner] */
    int32_t *anc[2];               /* [positions, beam_rows]; anc[position & 1] is written by that position */
    int32_t position;
    int32_t past; /* live rows of the positions before, in all */
};

/* What a pass through one stack carries along. */
struct t5_pass {
    const struct t5 *m;
    struct t5_work *w;
    const struct backend *be;
    int32_t n;     /* tokens */
    uint64_t seed; /* of this stack, 0 = none */
    bool direct;   /* sublayers add to the residual stream themselves, see t5_direct */
};

static inline int32_t t5_inner(const struct t5_config *c)
{
    return c->heads * c->d_kv;
}
struct t5_pass t5_pass_of(const struct t5 *m, struct t5_work *w, const struct t5_side *side);
struct dropout t5_drop(const struct t5_pass *p, int32_t layer, enum t5_site site);

/* On a device a pass without dropout and backward pass has one residual stream, and the product that ends a sublayer adds to it: the joins then
 * read one tensor and write one instead of two each. On a processor the cache holds them, and the sum in the product gains nothing. */
bool t5_direct(const struct t5_work *w, uint64_t seed);
/* The product that ends a sublayer: to w->sub, or onto stream r. */
void t5_leave(const struct t5_pass *p, struct act *r, const struct act *x, const struct weight *w);

/* r_out = r_in + dropout(sub), y = norm; with sub NULL nothing is added, nor in a direct pass. */
struct t5_join {
    struct act *r_out, *y;
    const struct act *r_in, *sub;
    const struct t5_vector *norm;
    struct dropout drop;
};
void t5_join(const struct t5_pass *p, const struct t5_join *j);
void t5_final(const struct t5_pass *p, const struct t5_stack *s, struct t5_side *side);
void t5_final_backward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, const struct act *dout);

/* Sublayers forward: read y_*, leave the result in w->sub. */
struct attention t5_self_attention(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer);
struct attention t5_cross_attention(const struct t5_pass *p, const struct t5_acts *a, struct rows q_rows, int32_t layer);
void t5_self_forward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer);
void t5_cross_forward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, const struct attention *att);
void t5_ff_forward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer);

/* Backward: w->dr is the gradient of the residual stream after the sublayer on entry, before it on return. */
void t5_self_backward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer);
void t5_cross_backward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer);
void t5_ff_backward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer);

/* Checks a batch against the limits and copies it to the backend; CHECKs, as callers have validated what users sent. tokens: of b->tokens, at
 * least those that the rows have. */
void t5_side_load(const struct t5 *m, struct t5_side *side, const struct t5_batch *b, int32_t tokens, int32_t most_tokens, int32_t most_rows);

#endif
