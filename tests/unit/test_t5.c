/* test_t5.c: T5 against itself: gradients by finite differences with dropout on, the cached decode against the whole one with permuted beams,
 * the inference model against the training model, training that lowers a loss, schedule and random start.
 *
 * Values against an independent implementation are the parity program's business; here are the properties it cannot see. The test loss is a
 * random linear functional of the decoder's and the encoder's outputs, summed in double, so both entries of the backward pass are tried. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/model/t5.h"

static const struct backend *be;

static struct t5_config tiny(bool gated)
{
    return (struct t5_config){.vocab = 11, .codes = 4, .d_model = 12, .d_kv = 5, .d_ff = 14, .heads = 2, .encoder_layers = 2,
                              .decoder_layers = 3, .buckets = 8, .max_distance = 10, .eps = 1e-6f, .dropout = 0.2f, .gated = gated,
                              .untied = gated, .scale_output = !gated};
}

static struct t5 *model(struct t5_config c, bool train)
{
    struct err e = {0};
    const struct t5_options o = {.config = c, .train = train};
    struct t5 *m = t5_init(be, &o, &e);
    assert_non_null(m);
    t5_randomise(m, 7);
    return m;
}

static struct t5_work *work(struct t5 *m, struct t5_limits l)
{
    struct err e = {0};
    struct t5_work *w = t5_work_init(m, &l, &e);
    assert_non_null(w);
    return w;
}

/* Rows of 5, 0, 1, 9 inputs and 3, 2, 1, 4 outputs: an empty encoder row, a row of one token. */
static const int32_t enc_tokens[] = {3, 1, 4, 1, 5, 9, 2, 6, 10, 3, 5, 8, 9, 7, 1}, enc_offsets[] = {0, 5, 5, 6, 15};
static const int32_t dec_tokens[] = {0, 11, 14, 0, 12, 0, 0, 13, 2, 14}, dec_offsets[] = {0, 3, 5, 6, 10};
static const struct t5_batch enc = {4, enc_tokens, enc_offsets}, dec = {4, dec_tokens, dec_offsets};
static const struct t5_limits train_limits = {.encoder_tokens = 15, .decoder_tokens = 10, .rows = 4, .train = true};

/* ---- gradients ---- */

struct functional {
    float *dec, *enc; /* coefficients */
    int64_t dec_n, enc_n;
};

static struct functional functional_of(const struct t5 *m)
{
    int64_t d = t5_config_of(m)->d_model;
    struct functional f = {.dec_n = 10 * d, .enc_n = 15 * d};
    f.dec = xmalloc((size_t)f.dec_n * sizeof(float));
    f.enc = xmalloc((size_t)f.enc_n * sizeof(float));
    for (int64_t i = 0; i < f.dec_n; i++)
        f.dec[i] = 2 * mix_uniform(1, (uint64_t)i) - 1;
    for (int64_t i = 0; i < f.enc_n; i++)
        f.enc[i] = 2 * mix_uniform(2, (uint64_t)i) - 1;
    return f;
}

static double dot(const struct act *x, const float *c, int64_t n)
{
    double sum = 0;
    float *host = xmalloc((size_t)n * sizeof *host);
    be->download(host, x, n);
    for (int64_t i = 0; i < n; i++)
        sum += (double)host[i] * (double)c[i];
    free(host);
    return sum;
}

static double value(struct t5 *m, struct t5_work *w, const struct functional *f, uint64_t seed)
{
    t5_encode(m, w, &enc, seed);
    t5_decode(m, w, &dec, seed);
    return dot(t5_decoded(w), f->dec, f->dec_n) + dot(t5_encoded(w), f->enc, f->enc_n);
}

static void gradients(struct t5 *m, struct t5_work *w, const struct functional *f, uint64_t seed)
{
    struct act *dd = be->act_alloc(f->dec_n), *de = be->act_alloc(f->enc_n);
    be->upload(dd, f->dec, f->dec_n);
    be->upload(de, f->enc, f->enc_n);
    be->zero(t5_grad(m), (size_t)t5_size(m) * sizeof(float));
    value(m, w, f, seed);
    t5_decode_backward(m, w, dd);
    t5_encode_backward(m, w, de);
    be->release(dd);
    be->release(de);
}

struct probe { /* one tensor moved along its normed gradient */
    struct t5 *m;
    struct t5_work *w;
    const struct functional *f;
    const float *start, *direction;
    int64_t offset, n;
    uint64_t seed;
};

static double moved(const struct probe *p, double by)
{
    float *x = xmalloc((size_t)p->n * sizeof *x);
    for (int64_t i = 0; i < p->n; i++)
        x[i] = (float)((double)p->start[i] + by * (double)p->direction[i]);
    be->write(t5_master(p->m) + p->offset, x, (size_t)p->n * sizeof *x);
    free(x);
    t5_refresh(p->m);
    return value(p->m, p->w, p->f, p->seed);
}

/* Fourth order; the best of several steps counts, as a long one may cross a kink of ReLU and a short one drowns in rounding. */
static void check_tensor(const struct t5_tensor *t, struct probe *p, const float *grad)
{
    double norm = 0, best = 1e9;
    p->n = (int64_t)t->rows * t->cols;
    p->offset = t->offset;
    float *direction = xmalloc((size_t)p->n * sizeof *direction), *start = xmalloc((size_t)p->n * sizeof *start);
    be->read(start, t5_master(p->m) + t->offset, (size_t)p->n * sizeof *start);
    for (int64_t i = 0; i < p->n; i++)
        norm += (double)grad[t->offset + i] * (double)grad[t->offset + i];
    norm = sqrt(norm);
    for (int64_t i = 0; i < p->n; i++)
        direction[i] = norm > 0 ? (float)((double)grad[t->offset + i] / norm) : 1.0f / sqrtf((float)p->n);
    p->start = start;
    p->direction = direction;
    for (double h = 2e-2; h > 1e-4; h /= 3) {
        double slope = (8 * (moved(p, h) - moved(p, -h)) - (moved(p, 2 * h) - moved(p, -2 * h))) / (12 * h);
        best = fmin(best, fabs(slope - norm) / fmax(norm, 0.05));
    }
    moved(p, 0);
    free(direction);
    free(start);
    if (!(best < 5e-3))
        fail_msg("%s: slope along the gradient differs from its norm %.5g by the factor %.3g", t->name, norm, best);
}

static void check_gradients(struct t5_config c, uint64_t seed)
{
    struct t5 *m = model(c, true);
    struct t5_work *w = work(m, train_limits);
    struct functional f = functional_of(m);
    float *grad = xmalloc((size_t)t5_size(m) * sizeof *grad);
    gradients(m, w, &f, seed);
    be->read(grad, t5_grad(m), (size_t)t5_size(m) * sizeof *grad);
    struct probe p = {.m = m, .w = w, .f = &f, .seed = seed};
    for (int32_t i = 0; i < t5_tensor_count(m); i++)
        if (strcmp(t5_tensor_at(m, i)->name, "lm_head.weight") != 0)
            check_tensor(t5_tensor_at(m, i), &p, grad);
    free(grad);
    free(f.dec);
    free(f.enc);
    t5_work_free(w);
    t5_free(m);
}

static void test_gradients_ungated(void **state)
{
    (void)state;
    check_gradients(tiny(false), 0);
    check_gradients(tiny(false), 99);
}

static void test_gradients_gated(void **state)
{
    (void)state;
    check_gradients(tiny(true), 0);
    check_gradients(tiny(true), 99);
}

/* Dropout must change the outputs, depend on the seed, and repeat. */
static void test_dropout_is_drawn_from_the_seed(void **state)
{
    (void)state;
    struct t5 *m = model(tiny(false), true);
    struct t5_work *w = work(m, train_limits);
    struct functional f = functional_of(m);
    double none = value(m, w, &f, 0), a = value(m, w, &f, 5), b = value(m, w, &f, 6);
    assert_true(none != a && a != b && none != b);
    assert_true(value(m, w, &f, 5) == a);
    assert_true(value(m, w, &f, 0) == none);
    free(f.dec);
    free(f.enc);
    t5_work_free(w);
    t5_free(m);
}

/* Gradients of an encoder used alone, and of an encoder without any gradient arriving. */
static void test_encoder_alone(void **state)
{
    (void)state;
    struct t5 *m = model(tiny(false), true);
    struct t5_work *w = work(m, train_limits);
    struct functional f = functional_of(m);
    struct act *de = be->act_alloc(f.enc_n);
    be->upload(de, f.enc, f.enc_n);
    t5_encode(m, w, &enc, 0);
    t5_encode_backward(m, w, NULL);
    assert_true(be->sum_squares(t5_grad(m), t5_size(m)) == 0);
    t5_encode_backward(m, w, de);
    assert_true(be->sum_squares(t5_grad(m), t5_size(m)) > 0);
    const struct t5_tensor *final = t5_tensor_find(m, "decoder.final_layer_norm.weight");
    assert_true(be->sum_squares(t5_grad(m) + final->offset, final->cols) == 0);
    be->release(de);
    free(f.dec);
    free(f.enc);
    t5_work_free(w);
    t5_free(m);
}

/* A decoder that sees one token cannot depend on which keys it likes: those gradients are exactly 0, not rounding. */
static void test_one_key_has_no_score_gradient(void **state)
{
    (void)state;
    static const int32_t tokens[4] = {0}, offsets[] = {0, 1, 2, 3, 4};
    static const char *const names[] = {"q.weight", "k.weight", "relative_attention_bias.weight"};
    struct t5 *m = model(tiny(false), true);
    struct t5_work *w = work(m, train_limits);
    struct functional f = functional_of(m);
    struct act *dd = be->act_alloc(f.dec_n);
    be->upload(dd, f.dec, f.dec_n);
    t5_encode(m, w, &enc, 0);
    t5_decode(m, w, &(struct t5_batch){4, tokens, offsets}, 0);
    t5_decode_backward(m, w, dd);
    for (int i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name, "decoder.block.0.layer.0.SelfAttention.%s", names[i]);
        const struct t5_tensor *t = t5_tensor_find(m, name);
        assert_true(be->sum_squares(t5_grad(m) + t->offset, (int64_t)t->rows * t->cols) == 0);
    }
    be->release(dd);
    free(f.dec);
    free(f.enc);
    t5_work_free(w);
    t5_free(m);
}

/* ---- inference and cached decode ---- */

static void assert_close(const float *a, const float *b, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= 2e-5f * fmaxf(1, fabsf(b[i]))))
            fail_msg("%s: element %lld is %g, expected %g", what, (long long)i, (double)a[i], (double)b[i]);
}

static void test_inference_equals_training(void **state)
{
    (void)state;
    for (int gated = 0; gated < 2; gated++) {
        struct t5 *a = model(tiny(gated), true), *b = model(tiny(gated), false);
        struct t5_limits l = train_limits;
        struct t5_work *wa = work(a, l);
        l.train = false;
        struct t5_work *wb = work(b, l);
        float x[15 * 12], y[15 * 12];
        t5_encode(a, wa, &enc, 0);
        t5_decode(a, wa, &dec, 0);
        t5_encode(b, wb, &enc, 0);
        t5_decode(b, wb, &dec, 0);
        be->download(x, t5_encoded(wa), 15 * 12);
        be->download(y, t5_encoded(wb), 15 * 12);
        assert_close(y, x, 15 * 12, "encoder");
        be->download(x, t5_decoded(wa), 10 * 12);
        be->download(y, t5_decoded(wb), 10 * 12);
        assert_close(y, x, 10 * 12, "decoder");
        assert_null(t5_grad(b));
        assert_true(t5_work_bytes(be, t5_config_of(b), &l) < t5_work_bytes(be, t5_config_of(a), &train_limits));
        t5_work_free(wa);
        t5_work_free(wb);
        t5_free(a);
        t5_free(b);
    }
}

enum { REQUESTS = 3, WIDTH = 4, POSITIONS = 6, LIVE = REQUESTS * WIDTH };

struct beams_test {
    int32_t history[LIVE][POSITIONS], offsets[REQUESTS + 1], tokens[LIVE], parent[LIVE], live;
};

/* Live rows of the next position: `width` for each request, parents drawn inside the request, in any order and with repetition. */
static void draw_step(struct beams_test *b, int32_t position, const int32_t *width)
{
    struct beams_test old = *b;
    b->live = 0;
    for (int32_t r = 0; r < REQUESTS; r++) {
        int32_t had = old.offsets[r + 1] - old.offsets[r];
        b->offsets[r] = b->live;
        for (int32_t i = 0; i < width[r]; i++, b->live++) {
            uint64_t at = (uint64_t)(position * 100 + b->live);
            b->parent[b->live] = position ? old.offsets[r] + (int32_t)(mix64(3, at) % (uint64_t)had) : -1;
            if (position)
                memcpy(b->history[b->live], old.history[b->parent[b->live]], sizeof b->history[0]);
            b->tokens[b->live] = position ? (int32_t)(mix64(4, at) % 15) : 0;
            b->history[b->live][position] = b->tokens[b->live];
        }
    }
    b->offsets[REQUESTS] = b->live;
}

/* The last hidden state of every live beam, each decoded whole beside its own copy of the request. */
static void whole_decode(struct t5 *m, struct t5_work *w, const struct beams_test *b, int32_t position, float *out)
{
    int32_t et[LIVE * 9], eo[LIVE + 1] = {0}, dt[LIVE * POSITIONS], dof[LIVE + 1] = {0}, n = 0, d = t5_config_of(m)->d_model;
    static const int32_t request_row[REQUESTS] = {0, 2, 3};
    for (int32_t r = 0; r < REQUESTS; r++)
        for (int32_t i = b->offsets[r]; i < b->offsets[r + 1]; i++) {
            int32_t from = enc_offsets[request_row[r]], length = enc_offsets[request_row[r] + 1] - from;
            memcpy(et + n, enc_tokens + from, (size_t)length * sizeof *et);
            eo[i + 1] = n += length;
            memcpy(dt + i * (position + 1), b->history[i], (size_t)(position + 1) * sizeof *dt);
            dof[i + 1] = (i + 1) * (position + 1);
        }
    t5_encode(m, w, &(struct t5_batch){b->live, et, eo}, 0);
    t5_decode(m, w, &(struct t5_batch){b->live, dt, dof}, 0);
    for (int32_t i = 0; i < b->live; i++)
        be->download(out + i * d, be->act_at(t5_decoded(w), (int64_t)(dof[i + 1] - 1) * d), d);
}

static void check_beams(struct t5 *m, struct t5_work *cached, struct t5_work *whole)
{
    static const int32_t widths[POSITIONS][REQUESTS] = {{1, 1, 1}, {4, 3, 4}, {4, 4, 4}, {2, 4, 1}, {4, 0, 3}, {1, 0, 4}};
    struct beams_test b = {.live = 0};
    float x[LIVE * 12], y[LIVE * 12];
    int32_t *offsets = be->alloc(sizeof b.offsets), *tokens = be->alloc(sizeof b.tokens), *parent = be->alloc(sizeof b.parent);
    static const int32_t request_tokens[] = {3, 1, 4, 1, 5, 9, 2, 6, 10, 3, 5, 8, 9, 7, 1}, request_offsets[] = {0, 5, 6, 15};
    t5_encode(m, cached, &(struct t5_batch){REQUESTS, request_tokens, request_offsets}, 0);
    t5_decode_begin(m, cached);
    for (int32_t position = 0; position < POSITIONS; position++) {
        draw_step(&b, position, widths[position]);
        be->write(offsets, b.offsets, sizeof b.offsets);
        be->write(tokens, b.tokens, sizeof b.tokens);
        be->write(parent, b.parent, sizeof b.parent);
        be->download(x, t5_decode_step(m, cached, offsets, b.live, tokens, parent), b.live * 12);
        whole_decode(m, whole, &b, position, y);
        assert_close(x, y, b.live * 12, "cached step");
    }
    be->release(offsets);
    be->release(tokens);
    be->release(parent);
}

static void test_cached_decode_follows_ancestors(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bool train = kind & 1;
        struct t5 *m = model(tiny(kind & 2), train);
        struct t5_work *cached = work(m, (struct t5_limits){.encoder_tokens = 15, .rows = REQUESTS, .beam_rows = LIVE,
                                                            .positions = POSITIONS, .train = train});
        struct t5_work *whole = work(m, (struct t5_limits){.encoder_tokens = LIVE * 9, .decoder_tokens = LIVE * POSITIONS, .rows = LIVE});
        check_beams(m, cached, whole);
        check_beams(m, cached, whole);
        t5_work_free(cached);
        t5_work_free(whole);
        t5_free(m);
    }
}

/* ---- training ---- */

static double train_step(struct t5 *m, struct t5_work *w, struct act *dx, const int32_t *labels, float *loss, int64_t step)
{
    float value_now;
    t5_encode(m, w, &enc, (uint64_t)step);
    t5_decode(m, w, &dec, (uint64_t)step);
    const struct head_loss h = {.n = 10, .count = 15, .x = t5_decoded(w), .head = t5_head(m), .scale = t5_head_scale(m), .weight = 0.1f,
                                .labels = labels, .loss = loss, .dx = dx};
    be->head_loss(&h);
    be->read(&value_now, loss, sizeof value_now);
    t5_decode_backward(m, w, dx);
    t5_encode_backward(m, w, NULL);
    const struct t5_adamw a = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .clip = 1, .step = step};
    double norm = t5_adamw(m, &a, 0, t5_size(m));
    assert_true(norm > 0 && isfinite(norm));
    assert_true(be->sum_squares(t5_grad(m), t5_size(m)) == 0);
    return (double)value_now;
}

static void test_training_lowers_the_loss(void **state)
{
    (void)state;
    static const int32_t host[] = {11, 14, 1, 12, 1, 3, 13, 2, 14, 1};
    for (int gated = 0; gated < 2; gated++) {
        struct t5 *m = model(tiny(gated), true);
        struct t5_work *w = work(m, train_limits);
        struct act *dx = be->act_alloc(10 * 12);
        int32_t *labels = be->alloc(sizeof host);
        float *loss = be->alloc(sizeof *loss);
        be->write(labels, host, sizeof host);
        double first = train_step(m, w, dx, labels, loss, 1), last = first;
        for (int64_t step = 2; step <= 60; step++)
            last = train_step(m, w, dx, labels, loss, step);
        assert_true(last < 0.5 * first);
        be->release(dx);
        be->release(labels);
        be->release(loss);
        t5_work_free(w);
        t5_free(m);
    }
}

/* The optimiser moves its range only, and leaves no gradient anywhere. */
static void test_adamw_range(void **state)
{
    (void)state;
    struct err e = {0};
    const struct t5_extra extra[] = {{"probe.weight", T5_MATRIX, 3, 5}, {"probe.norm", T5_NORM, 1, 7}};
    const struct t5_options o = {.config = tiny(false), .train = true, .extra = extra, .extra_count = 2};
    struct t5 *m = t5_init(be, &o, &e);
    assert_non_null(m);
    t5_randomise(m, 1);
    const struct t5_tensor *t = t5_tensor_find(m, "probe.weight");
    int64_t n = t5_size(m);
    float *before = xmalloc((size_t)n * sizeof *before), *after = xmalloc((size_t)n * sizeof *after);
    be->read(before, t5_master(m), (size_t)n * sizeof *before);
    for (int64_t i = 0; i < n; i++)
        after[i] = 0.25f;
    be->write(t5_grad(m), after, (size_t)n * sizeof *after);
    const struct t5_adamw a = {.lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .step = 1};
    double norm = t5_adamw(m, &a, t->offset, n - t->offset);
    assert_true(fabs(norm - 0.25 * sqrt((double)(n - t->offset))) < 1e-6);
    be->read(after, t5_master(m), (size_t)n * sizeof *after);
    assert_memory_equal(before, after, (size_t)t->offset * sizeof *before);
    assert_true(after[t->offset] != before[t->offset]);
    assert_true(be->sum_squares(t5_grad(m), n) == 0);
    free(before);
    free(after);
    t5_free(m);
}

static void test_schedule(void **state)
{
    (void)state;
    assert_true(fabsf(t5_schedule(1, 1, 100, 0.1) - 0.1f) < 1e-6f);
    assert_true(t5_schedule(1, 10, 100, 0.1) == 1);
    assert_true(fabsf(t5_schedule(2, 55, 100, 0.1) - 1) < 1e-6f);
    assert_true(t5_schedule(1, 100, 100, 0.1) == 0);
    assert_true(t5_schedule(1, 101, 100, 0.1) == 0);
    assert_true(fabsf(t5_schedule(1, 1, 100, 0) - 0.99f) < 1e-6f);
}

static void test_random_start(void **state)
{
    (void)state;
    struct t5_config c = tiny(true);
    struct t5 *a = model(c, false), *b = model(c, false);
    c.codes = 9;
    struct t5 *more = model(c, false);
    assert_memory_equal(t5_master(a), t5_master(b), (size_t)t5_size(a) * sizeof(float));
    const char *name = "decoder.block.2.layer.1.EncDecAttention.v.weight";
    const struct t5_tensor *x = t5_tensor_find(a, name), *y = t5_tensor_find(more, name);
    assert_memory_equal(t5_master(a) + x->offset, t5_master(more) + y->offset, (size_t)x->rows * (size_t)x->cols * sizeof(float));
    assert_memory_equal(t5_master(a), t5_master(more), 15 * 12 * sizeof(float));
    const float rows[2 * 12] = {1, 2, 3};
    t5_set_code_rows(a, 2, 2, rows);
    assert_memory_equal(t5_master(a) + 13 * 12, rows, sizeof rows);
    assert_memory_equal(t5_weight(a, "lm_head.weight")->master + 13 * 12, rows, sizeof rows);
    t5_free(a);
    t5_free(b);
    t5_free(more);
}

static void test_config_bounds(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c = tiny(false);
    assert_int_equal(t5_config_check(&c, &e), 0);
    c.heads = 0;
    assert_int_equal(t5_config_check(&c, &e), -1);
    assert_non_null(strstr(e.message, "heads is 0"));
    c = tiny(false);
    c.max_distance = 3;
    assert_int_equal(t5_config_check(&c, &e), -1);
    c = tiny(false);
    c.dropout = NAN;
    assert_int_equal(t5_config_check(&c, &e), -1);
    c = tiny(false);
    c.vocab = 1 << 24;
    c.d_model = 1 << 15;
    assert_int_equal(t5_config_check(&c, &e), -1);
    assert_non_null(strstr(e.message, "parameters"));
}

static int open_backend(void **state)
{
    char message[256];
    (void)state;
    be = backend_open("cpu", 2, message, sizeof message);
    return be ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_ungated),        cmocka_unit_test(test_gradients_gated),
        cmocka_unit_test(test_dropout_is_drawn_from_the_seed), cmocka_unit_test(test_encoder_alone),
        cmocka_unit_test(test_one_key_has_no_score_gradient),
        cmocka_unit_test(test_inference_equals_training), cmocka_unit_test(test_cached_decode_follows_ancestors),
        cmocka_unit_test(test_training_lowers_the_loss), cmocka_unit_test(test_adamw_range),
        cmocka_unit_test(test_schedule),                 cmocka_unit_test(test_random_start),
        cmocka_unit_test(test_config_bounds),
    };
    return cmocka_run_group_tests(tests, open_backend, NULL);
}
