/* t5_base.h: the work that CUDA is judged by, at T5-base shapes, and its floors: one table for cuda_cost.c, which counts it, and bench_cuda.c,
 * which times it.
 *
 * The model is v1.0 (ReLU, tied): 12 + 12 layers, width 768, 12 heads x 64, 3,072 inside, 32,128 words, codes 512 + 512 + a suffix of 64; a trie
 * of 1,048,576 documents, four to each learned ID; a beam of 20. A training step is seq2seq_train + t5_adamw (the task model's step: an
 * encoder over all input tokens, a decoder over three positions a row, dropout 0.1); `in 4 passes` is the same batch in pieces of 16,384 tokens,
 * as the trainer cuts it on a device.
 *
 * How a floor is counted. A case is a chain of phases that depend on each other; a phase takes the larger of bytes / 4.3 TB/s and operations
 * / 790 TFLOP/s (both measured on an H200), and phases add up. Bytes of a phase:
 *  - its weights once (2 bytes each); K/V of the cross-attention: written once, read once a step; the decoder's cache: written once,
 *    read once a step, what beams share counted once;
 *  - activations that one product leaves to the next, written once and read once: a product needs its input whole. A sublayer's norm is
 *    folded into the product behind it and its residual addition into the product before, so the normed stream and the sublayer's output
 *    count nothing, the residual stream three times a sublayer: read by the first product, read and written by the last;
 *  - backward: the saved activations once more and a gradient for each, written and read; weights once; their gradients (4 bytes) written
 *    once. Optimiser: per parameter the gradient read for its norm, then weight, gradient and two moments read, weight and moments and the
 *    bf16 copy written, the gradient zeroed.
 * Operations: two for each multiplication of a product; attention two products forward, five backward (scores are made again); no others.
 * row_ms is the figure of the design's table, which counts the same without the activations; the two differ by 1 to 3 %.
 *
 * A real run refutes this if a case is faster than its floor, or if a phase that the model calls bound by bytes does not follow 4.3 TB/s. */
#ifndef SEMINDEX_T5_BASE_H
#define SEMINDEX_T5_BASE_H

#include "../../core/base/mem.h"
#include "../../core/learn/seq2seq.h"
#include "../../core/retrieve/beam.h"

#include <string.h>

static const double peak_bytes = 4.3e12, peak_operations = 790e12;

enum { D = 768, HEADS = 12, KV = 64, INNER = HEADS * KV, F = 3072, LAYERS = 12, WORDS = 32128, POSITIONS = 3, SUFFIXES = 64, WIDTH = 20 };
enum { LEARNED = 512, PER_PREFIX = 4, DOCUMENTS = LEARNED * LEARNED * PER_PREFIX };
static const int32_t base_codes[POSITIONS] = {LEARNED, LEARNED, SUFFIXES};

enum case_kind { CASE_SEARCH, CASE_TRAIN, CASE_KMEANS };
struct base_case {
    const char *name, *key;
    enum case_kind kind;
    int32_t rows, tokens; /* k-means: points, centroids */
    int32_t pass;         /* training: rows of a forward and backward pass, whose gradients add up */
    double row_ms, target_ms; /* of the design's table of floors */
    double most_ms;           /* the prediction may not exceed it; 0 = only shown */
};
static const struct base_case base_cases[] = {
    {"query 32 tokens, batch 1", "query-1x32", CASE_SEARCH, 1, 32, 0, 0.189, 0.5, 0.90},
    {"query 32 tokens, batch 64", "query-64x32", CASE_SEARCH, 64, 32, 0, 1.24, 1.8, 2.0},
    {"history 1,024 tokens, batch 1", "history-1x1024", CASE_SEARCH, 1, 1024, 0, 0.474, 1.0, 0},
    {"history 1,024 tokens, batch 64", "history-64x1024", CASE_SEARCH, 64, 1024, 0, 21.5, 30, 0},
    {"training step, 128 x 512 tokens", "train-128x512", CASE_TRAIN, 128, 512, 128, 57, 92, 95},
    {"training step, 128 x 512 tokens in 4 passes", "train-4x32x512", CASE_TRAIN, 128, 512, 32, 57, 92, 95},
    {"k-means pass, 1 M x 51,200 x 768", "kmeans-1Mx51200x768", CASE_KMEANS, 1000000, 51200, 0, 100, 250, 0},
};
enum { CASES = sizeof base_cases / sizeof *base_cases };

/* ---- floors ---- */

enum { PHASES_MOST = 2 + POSITIONS };
struct amount {
    double bytes, operations;
};
struct floors {
    int32_t count;
    const char *name[PHASES_MOST];
    struct amount phase[PHASES_MOST];
};

static inline double amount_s(struct amount a)
{
    double moved = a.bytes / peak_bytes, done = a.operations / peak_operations;
    return moved > done ? moved : done;
}

static inline struct amount floors_sum(const struct floors *f, double *seconds)
{
    struct amount sum = {0, 0};
    *seconds = 0;
    for (int32_t i = 0; i < f->count; i++) {
        sum.bytes += f->phase[i].bytes;
        sum.operations += f->phase[i].operations;
        *seconds += amount_s(f->phase[i]);
    }
    return sum;
}

static inline void floor_add(struct floors *f, const char *name, double elements, double operations)
{
    f->name[f->count] = name;
    f->phase[f->count++] = (struct amount){2 * elements, operations};
}

/* Elements of weights: of a stack's products, read by one pass. */
static const double encoder_weights = LAYERS * (4.0 * D * INNER + 2.0 * D * F), cross_weights = LAYERS * 2.0 * D * INNER;
static const double decoder_weights = LAYERS * (6.0 * D * INNER + 2.0 * D * F);
/* Elements that n tokens move between the products of a stack. */
static const double encoder_flow = LAYERS * (6.0 * D + 8.0 * INNER + 2.0 * F), decoder_flow = LAYERS * (9.0 * D + 12.0 * INNER + 2.0 * F);

static inline struct floors search_floors(double rows, double length)
{
    static const char *const step[POSITIONS] = {"position 1", "position 2", "position 3"};
    struct floors f = {0};
    double n = rows * length, kv = n * LAYERS * 2.0 * INNER;
    floor_add(&f, "encoder", encoder_weights + n * (encoder_flow + 4.0 * D), 2 * n * encoder_weights + LAYERS * 4.0 * INNER * n * length);
    floor_add(&f, "cross K/V", cross_weights + n * D + kv, 2 * n * cross_weights);
    for (int32_t t = 0; t < POSITIONS; t++) {
        double beams = t ? rows * WIDTH : rows, cached = t ? rows + (t - 1.0) * rows * WIDTH : 0;
        double head = (double)base_codes[t] * D, past = LAYERS * 2.0 * INNER * (cached + beams);
        double attended = LAYERS * 4.0 * INNER * beams * (length + t + 1.0);
        floor_add(&f, step[t], decoder_weights + head + kv + past + beams * (decoder_flow + 5.0 * D),
                  2 * beams * (decoder_weights + head) + attended);
    }
    return f;
}

static inline double parameters(void)
{
    double code_rows = 2.0 * LEARNED + SUFFIXES, norms = LAYERS * 5.0 * D + 2.0 * D, biases = 2.0 * 32 * HEADS;
    return encoder_weights + cross_weights + decoder_weights + (WORDS + code_rows) * D + norms + biases;
}

static inline struct floors train_floors(double rows, double length)
{
    struct floors f = {0};
    double n = rows * length, m = rows * POSITIONS, kv = n * LAYERS * 2.0 * INNER, head = rows * (2.0 * LEARNED + SUFFIXES) * D;
    double weights = encoder_weights + cross_weights + decoder_weights;
    double flow = n * (encoder_flow + 5.0 * D) + 2 * kv + m * (decoder_flow + 5.0 * D);
    double products = 2 * (n * (encoder_weights + cross_weights) + m * decoder_weights + head);
    double pairs = LAYERS * (n * length + m * length + m * (POSITIONS + 1.0) / 2);
    floor_add(&f, "forward", weights + flow, products + 4.0 * INNER * pairs);
    floor_add(&f, "backward", weights + 2 * weights + flow / 2 + flow, 2 * products + 10.0 * INNER * pairs);
    floor_add(&f, "optimiser", parameters() * (4 + 16 + 14 + 4) / 2, 0);
    return f;
}

static inline struct floors case_floors(const struct base_case *c)
{
    if (c->kind == CASE_SEARCH)
        return search_floors(c->rows, c->tokens);
    if (c->kind == CASE_TRAIN)
        return train_floors(c->rows, c->tokens);
    struct floors f = {0};
    double n = c->rows, k = c->tokens;
    floor_add(&f, "assign", 2 * (n + k) * D + 2 * n, 2 * n * k * D); /* f32 points, a number and a distance each */
    return f;
}

/* ---- the work ---- */

struct base_model {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct trie *trie;
    const struct trie_view *placed;
    struct err e;
};

/* Four documents to each learned ID, sorted as they come. */
static inline struct trie *base_trie(void)
{
    uint32_t *codes = xmalloc((size_t)DOCUMENTS * POSITIONS * sizeof *codes);
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        codes[i * POSITIONS] = i / PER_PREFIX / LEARNED;
        codes[i * POSITIONS + 1] = i / PER_PREFIX % LEARNED;
        codes[i * POSITIONS + 2] = i % PER_PREFIX;
    }
    struct trie *t = trie_build_sorted(codes, NULL, DOCUMENTS, POSITIONS);
    free(codes);
    return t;
}

/* `layers` in each stack; seed 0 leaves the weights zero. False with b->e. */
static inline bool base_open(struct base_model *b, const struct backend *be, int32_t layers, bool train, uint64_t seed)
{
    *b = (struct base_model){.be = be, .layout = {.base = WORDS, .positions = POSITIONS}};
    memcpy(b->layout.codes, base_codes, sizeof base_codes);
    const struct t5_options o = {.config = {.vocab = WORDS, .codes = code_layout_total(&b->layout), .d_model = D, .d_kv = KV, .d_ff = F,
                                            .heads = HEADS, .encoder_layers = layers, .decoder_layers = layers, .buckets = 32,
                                            .max_distance = 128, .eps = 1e-6f, .dropout = 0.1f, .scale_output = true},
                                 .train = train};
    b->model = t5_init(be, &o, &b->e);
    if (!b->model)
        return false;
    if (seed)
        t5_randomise(b->model, seed);
    b->trie = base_trie();
    b->placed = trie_upload(be, b->trie, NULL, &b->e);
    return b->placed != NULL;
}

static inline void base_close(struct base_model *b)
{
    t5_free(b->model);
    if (b->trie)
        trie_release(b->be, b->placed);
    trie_free(b->trie);
}

struct base_search {
    struct base_model *b;
    struct t5_work *work;
    struct beam *beam;
    int32_t rows, *tokens, *offsets;
};

static inline void base_search_close(struct base_search *s)
{
    beam_free(s->beam);
    t5_work_free(s->work);
    free(s->tokens);
    free(s->offsets);
}

static inline bool base_search_open(struct base_search *s, struct base_model *b, int32_t rows, int32_t length)
{
    int32_t n = rows * length;
    const struct t5_limits l = {.encoder_tokens = n, .rows = rows, .beam_rows = rows * WIDTH, .positions = POSITIONS};
    *s = (struct base_search){.b = b, .rows = rows, .tokens = xmalloc((size_t)n * 4), .offsets = xmalloc(((size_t)rows + 1) * 4)};
    for (int32_t i = 0; i < n; i++)
        s->tokens[i] = (int32_t)(mix64(7, (uint64_t)i) % WORDS);
    for (int32_t r = 0; r <= rows; r++)
        s->offsets[r] = r * length;
    s->work = t5_work_init(b->model, &l, &b->e);
    s->beam = s->work ? beam_init(b->model, &b->layout, &(struct beam_limits){.requests = rows, .width = WIDTH}, &b->e) : NULL;
    return s->beam != NULL;
}

struct base_train {
    struct base_model *b;
    struct seq2seq *pass;
    struct code_batch batch; /* of a pass */
    int32_t passes;          /* of a step */
    int64_t step;
};

static inline void base_train_close(struct base_train *s)
{
    seq2seq_free(s->pass);
    code_batch_free(&s->batch);
}

static inline bool base_train_open(struct base_train *s, struct base_model *b, const struct base_case *c)
{
    int32_t rows = c->pass, length = c->tokens;
    *s = (struct base_train){.b = b, .passes = c->rows / rows};
    code_batch_init(&s->batch, rows, rows * length, POSITIONS);
    s->batch.count = rows;
    for (int32_t i = 0; i < rows * length; i++)
        s->batch.tokens[i] = (int32_t)(mix64(9, (uint64_t)i) % WORDS);
    for (int32_t i = 0; i < rows * POSITIONS; i++) {
        s->batch.codes[i] = (uint32_t)(mix64(11, (uint64_t)i) % (uint64_t)base_codes[i % POSITIONS]);
        s->batch.labels[i] = (int32_t)s->batch.codes[i];
    }
    for (int32_t r = 0; r <= rows; r++)
        s->batch.offsets[r] = r * length;
    s->pass = seq2seq_init(b->model, &b->layout, rows, rows * length, &b->e);
    return s->pass != NULL;
}

/* One step; the loss, a mean over the targets, is that before it. */
static inline double base_train_step(struct base_train *s)
{
    float weight = 1.0f / (float)(s->passes * s->batch.count * POSITIONS);
    double loss = 0;
    for (int32_t i = 0; i < s->passes; i++)
        loss += seq2seq_train(s->pass, &s->batch, weight, mix64(13, (uint64_t)(s->step * s->passes + i)));
    const struct t5_adamw a = {.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .clip = 1, .step = ++s->step};
    t5_adamw(s->b->model, &a, 0, t5_size(s->b->model));
    return loss;
}

struct base_kmeans {
    const struct backend *be;
    float *x, *centroids, *distance;
    int32_t *assign, n, k;
};

static inline void base_kmeans_close(struct base_kmeans *s)
{
    void *all[] = {s->x, s->centroids, s->distance, s->assign};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->be->release(all[i]);
}

static inline bool base_kmeans_open(struct base_kmeans *s, const struct backend *be, int32_t n, int32_t k)
{
    *s = (struct base_kmeans){.be = be, .n = n, .k = k};
    s->x = be->alloc((size_t)n * D * sizeof(float));
    s->centroids = be->alloc((size_t)k * D * sizeof(float));
    s->distance = be->alloc((size_t)n * sizeof(float));
    s->assign = be->alloc((size_t)n * sizeof(int32_t));
    return s->x && s->centroids && s->distance && s->assign;
}

#endif
