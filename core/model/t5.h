/* t5.h: T5 encoder-decoder on packed rows: parameters, forward, backward, cached decode.
 *
 * All parameters of a model live in ONE f32 block of backend memory, described by ONE table (struct t5_tensor). The order in the block makes
 * neighbours that are multiplied together contiguous: q,k,v of a self-attention; wi_0,wi_1 of a gated feed-forward; k,v of all cross-
 * attentions of all decoder layers. So each is one product, and still every tensor keeps its Hugging Face name. Gradients, first and second
 * moments are blocks of the same layout; the optimiser runs over whole blocks. The vocabulary is extended by `codes` rows: row vocab + c of
 * `shared.weight` (and of `lm_head.weight` when untied) belongs to an ID code. Other trainables of a learning run (reconstructor,
 * codebooks) are tensors of the same table, appended by the caller through t5_options.extra.
 *
 * Formulas: Raffel et al. 2020; exact form in the fixtures README, "T5 in formulas". */
#ifndef SEMINDEX_T5_H
#define SEMINDEX_T5_H

#include "../../kernels/backend.h"
#include "../base/err.h"

struct t5_config {
    int32_t vocab;     /* text rows of shared.weight, as in the checkpoint's config */
    int32_t codes;     /* ID code rows appended after them (all positions together), 0 = none */
    int32_t d_model, d_kv, d_ff, heads;
    int32_t encoder_layers, decoder_layers;
    int32_t buckets, max_distance; /* 32, 128 */
    float eps;                     /* 1e-6 */
    float dropout;                 /* 0.1; only used when a pass is given a dropout seed */
    bool gated;                    /* v1.1: gated gelu_new; else ReLU */
    bool untied;                   /* lm_head.weight exists */
    bool scale_output;             /* logits = (h * d_model^-0.5) . head */
};

/* The sizes that a person gives; 0 = left open. */
struct t5_shape {
    int32_t d_model, d_ff, d_kv, heads, encoder_layers, decoder_layers;
};
extern const struct t5_shape t5_shape_text; /* 128, 512, 32, 4, 3, 2: a model of texts where nobody says otherwise */
/* Fills what is open from another shape. */
void t5_shape_fill(struct t5_shape *s, const struct t5_shape *from);
struct t5_shape t5_shape_of(const struct t5_config *c);
void t5_shape_put(struct t5_config *c, const struct t5_shape *s); /* the rest of c stays */
/* A tied T5 of that shape, with 32 buckets up to distance 128, scaled output, no codes and no dropout. */
struct t5_config t5_shape_config(const struct t5_shape *s, int32_t vocab, bool gated);

enum t5_kind { T5_MATRIX, T5_NORM, T5_BIAS, T5_EMBEDDING };

struct t5_tensor {
    char name[96];
    enum t5_kind kind;
    int32_t rows, cols; /* a norm is [1, d] */
    int64_t offset;     /* element in the block */
};

struct t5_extra { /* a caller's own tensor, appended to the table */
    const char *name;
    enum t5_kind kind;
    int32_t rows, cols;
};

struct t5; /* opaque but for these accessors */

struct t5_options {
    struct t5_config config;
    bool train; /* gradient and moment blocks exist; weights are opened with WEIGHT_TRAIN */
    const struct t5_extra *extra;
    int32_t extra_count;
};

/* Checks a config for sense (every size >= 1 and bounded, heads * d_kv bounded); names field, value, bound. */
int t5_config_check(const struct t5_config *c, struct err *e);

/* A model with zero parameters, or NULL with a reason. The caller frees with t5_free (NULL is fine). */
struct t5 *t5_init(const struct backend *be, const struct t5_options *o, struct err *e);
void t5_free(struct t5 *m);
int64_t t5_size_of(const struct t5_options *o); /* t5_size of such a model, without making it */
/* Random parameters as T5 draws them (Hugging Face _init_weights with factor 1), by (seed, element): same seed, same weights. Norms = 1.
 * Extra tensors of kind T5_MATRIX are drawn with std cols^-0.5, norms 1, biases std d_model^-0.5. */
void t5_randomise(struct t5 *m, uint64_t seed);

const struct t5_config *t5_config_of(const struct t5 *m);
const struct backend *t5_backend(const struct t5 *m);
int32_t t5_tensor_count(const struct t5 *m);
const struct t5_tensor *t5_tensor_at(const struct t5 *m, int32_t i);
const struct t5_tensor *t5_tensor_find(const struct t5 *m, const char *name); /* NULL if none */
int64_t t5_size(const struct t5 *m);                                           /* elements of a block */
float *t5_master(struct t5 *m);  /* backend memory, t5_size elements */
float *t5_grad(struct t5 *m);    /* NULL when not training */
float *t5_moment1(struct t5 *m); /* NULL when not training */
float *t5_moment2(struct t5 *m);
const struct weight *t5_weight(const struct t5 *m, const char *name); /* any matrix or embedding tensor, extras too; CHECKs that it exists */
const struct weight *t5_head(const struct t5 *m);                     /* shared.weight, or lm_head.weight when untied */
float t5_head_scale(const struct t5 *m);                              /* d_model^-0.5 or 1 */
void t5_refresh(struct t5 *m); /* call after the master block changed by other hands than t5_adamw */

/* Adds the code rows' start: copies `count` rows [count, d_model] (host) to shared (and lm_head when untied) from row vocab + first on. */
void t5_set_code_rows(struct t5 *m, int32_t first, int32_t count, const float *rows);

/* Copies every tensor that both models have, of embeddings the rows that both have (text rows stand before code rows), and refreshes `to`. Both are
 * of one backend. A tensor of another width is left as it is. */
void t5_copy_weights(struct t5 *to, struct t5 *from);

/* ---- passes ---- */

/* Sizes a workspace must hold. train: activations of every layer are kept. */
struct t5_limits {
    int32_t encoder_tokens, decoder_tokens; /* per batch, packed */
    int32_t rows;                           /* rows per batch */
    int32_t beam_rows;                      /* beams of all requests at once in cached decode, 0 = none */
    int32_t positions;                      /* decode positions T, 0 = no cached decode */
    bool train;
};
struct t5_work; /* activations of one pass; one owner at a time */
struct t5_work *t5_work_init(const struct t5 *m, const struct t5_limits *l, struct err *e);
void t5_work_free(struct t5_work *w);
size_t t5_work_bytes(const struct backend *be, const struct t5_config *c, const struct t5_limits *l);

/* Tokens in host memory; offsets count + 1 entries from 0. */
struct t5_batch {
    int32_t count;
    const int32_t *tokens;
    const int32_t *offsets;
};

/* Encoder over a packed batch. dropout_seed 0 = no dropout (inference). Result: t5_encoded, [total, D] after the final norm, valid until the
 * next call on this work. */
void t5_encode(struct t5 *m, struct t5_work *w, const struct t5_batch *b, uint64_t dropout_seed);
/* The same in two halves: load copies the batch, run consists of ops alone and may be recorded. The ops hear of `tokens` tokens and of
 * rows no longer than `longest` (0: the longest there is). b->tokens has `tokens` entries; those behind the last row belong to none. What
 * run computes for the rows is the same; a recording of it serves every batch that is loaded with its count, tokens and longest. */
void t5_encode_load(struct t5 *m, struct t5_work *w, const struct t5_batch *b, int32_t tokens, int32_t longest);
void t5_encode_run(struct t5 *m, struct t5_work *w, uint64_t dropout_seed);
const struct act *t5_encoded(const struct t5_work *w);
struct rows t5_encoded_rows(const struct t5_work *w);

/* Decoder over whole target rows (teacher forcing), cross-attending the rows of the last t5_encode: row i attends encoder row i. Result:
 * t5_decoded, [total, D] after the final norm, not scaled. */
void t5_decode(struct t5 *m, struct t5_work *w, const struct t5_batch *b, uint64_t dropout_seed);
const struct act *t5_decoded(const struct t5_work *w);

/* Backward of the last t5_decode / t5_encode (work made with train). ddecoded [decoder total, D] is read; the gradient of the encoder
 * output that comes from cross-attention is kept and added to `dencoded` (may be NULL) by t5_encode_backward. Parameter gradients "+=". */
void t5_decode_backward(struct t5 *m, struct t5_work *w, const struct act *ddecoded);
void t5_encode_backward(struct t5 *m, struct t5_work *w, const struct act *dencoded);

/* ---- cached decode (beam search) ---- */

/* Starts decoding for every row of the last t5_encode (one request = one row, one beam each): computes cross keys and values once. */
void t5_decode_begin(struct t5 *m, struct t5_work *w);
/* One position for `beams` live rows (packed by request: offsets [requests + 1], backend memory). tokens [beams] are the decoder inputs of
 * this position, parent [beams] the row of the previous position each descends from (ignored at position 0); both backend memory.
 * Returns the hidden states [beams, D] after the final norm, not scaled; valid until the next step. */
const struct act *t5_decode_step(struct t5 *m, struct t5_work *w, const int32_t *offsets, int32_t beams, const int32_t *tokens,
                                 const int32_t *parent);

/* ---- optimiser ---- */
struct t5_adamw {
    float lr, beta1, beta2, eps, weight_decay, clip;
    int64_t step; /* from 1 */
};
/* One AdamW step over all parameters of [first, first + count) elements of the block (0, t5_size for all), then refreshes the weights and
 * zeroes the gradients of the whole block. Returns the gradient's norm over that range before clipping. Order of operations: fixtures README. */
double t5_adamw(struct t5 *m, const struct t5_adamw *a, int64_t first, int64_t count);
/* Linear schedule: rises over warmup steps, falls to 0 at total. step from 1. */
float t5_schedule(float peak, int64_t step, int64_t total, double warmup_share);

#endif
