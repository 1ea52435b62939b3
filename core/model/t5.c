/* t5.c: what concerns a model as a whole: is its config sane, random weights, the optimiser's step.
 *
 * Random weights are a function of (seed, tensor's place in the table, element) and of nothing else, so that the same seed gives the same
 * model whatever was drawn before, and a model with more extras or more codes starts from the same text weights. Standard deviations are
 * those of the original T5 (Mesh TensorFlow; Hugging Face _init_weights with factor 1): attention is not scaled by 1/sqrt(d_kv), instead q
 * starts smaller by that factor.
 *
 * The optimiser works on the whole blocks: one norm, one AdamW call, then the views are renewed and the gradients zeroed. */
#include "t5_internal.h"

#include "../base/fill.h"
#include "../base/mem.h"

#include <math.h>
#include <string.h>

struct bound {
    const char *field;
    int64_t value, least, most;
};

static int bounds_check(const struct bound *b, int32_t count, struct err *e)
{
    for (int32_t i = 0; i < count; i++)
        if (b[i].value < b[i].least || b[i].value > b[i].most)
            return err_set(e, ERR_CONFIG, "model config: %s is %lld, allowed are %lld to %lld", b[i].field, (long long)b[i].value,
                           (long long)b[i].least, (long long)b[i].most);
    return 0;
}

/* Also bounds the whole: sizes that pass one by one could still multiply to more than any machine has. */
static int size_check(const struct t5_config *c, struct err *e)
{
    double inner = (double)c->heads * c->d_kv, d = c->d_model;
    double layer = 8 * d * inner + (c->gated ? 3 : 2) * d * c->d_ff;
    double elements = (c->untied ? 2.0 : 1.0) * ((double)c->vocab + c->codes) * d + layer * ((double)c->encoder_layers + c->decoder_layers);
    if (elements > 1e11)
        return err_set(e, ERR_CONFIG, "model config: %.3g parameters, allowed are 1e11", elements);
    return 0;
}

const struct t5_shape t5_shape_text = {128, 512, 32, 4, 3, 2};

void t5_shape_fill(struct t5_shape *s, const struct t5_shape *from)
{
    fill_i32(&s->d_model, from->d_model);
    fill_i32(&s->d_ff, from->d_ff);
    fill_i32(&s->d_kv, from->d_kv);
    fill_i32(&s->heads, from->heads);
    fill_i32(&s->encoder_layers, from->encoder_layers);
    fill_i32(&s->decoder_layers, from->decoder_layers);
}

struct t5_shape t5_shape_of(const struct t5_config *c)
{
    return (struct t5_shape){c->d_model, c->d_ff, c->d_kv, c->heads, c->encoder_layers, c->decoder_layers};
}

void t5_shape_put(struct t5_config *c, const struct t5_shape *s)
{
    c->d_model = s->d_model;
    c->d_ff = s->d_ff;
    c->d_kv = s->d_kv;
    c->heads = s->heads;
    c->encoder_layers = s->encoder_layers;
    c->decoder_layers = s->decoder_layers;
}

struct t5_config t5_shape_config(const struct t5_shape *s, int32_t vocab, bool gated)
{
    struct t5_config c = {.vocab = vocab, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .gated = gated, .scale_output = true};
    t5_shape_put(&c, s);
    return c;
}

int t5_config_check(const struct t5_config *c, struct err *e)
{
    const struct bound b[] = {
        {"vocab", c->vocab, 1, 1 << 24},
        {"codes", c->codes, 0, 1 << 26},
        {"d_model", c->d_model, 1, 1 << 15},
        {"d_kv", c->d_kv, 1, 1 << 12},
        {"heads", c->heads, 1, 1 << 12},
        {"heads * d_kv", (int64_t)c->heads * c->d_kv, 1, 1 << 16},
        {"d_ff", c->d_ff, 1, 1 << 18},
        {"encoder_layers", c->encoder_layers, 1, 256},
        {"decoder_layers", c->decoder_layers, 1, 256},
        {"relative attention buckets", c->buckets, 4, 1024},
        {"relative attention max distance", c->max_distance, c->buckets / 2 + 1, 1 << 20},
        {"decoder_layers * heads * d_kv", (int64_t)c->decoder_layers * c->heads * c->d_kv, 1, 1 << 22},
    };
    if (bounds_check(b, (int32_t)(sizeof b / sizeof *b), e) != 0)
        return -1;
    if (!(c->eps > 0 && c->eps <= 0.1f))
        return err_set(e, ERR_CONFIG, "model config: layer norm epsilon is %g, allowed is more than 0, up to 0.1", (double)c->eps);
    if (!(c->dropout >= 0 && c->dropout < 1))
        return err_set(e, ERR_CONFIG, "model config: dropout is %g, allowed is 0 or more, below 1", (double)c->dropout);
    return size_check(c, e);
}

float t5_head_scale(const struct t5 *m)
{
    return m->config.scale_output ? 1.0f / sqrtf((float)m->config.d_model) : 1.0f;
}

/* ---- random start ---- */

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && strcmp(name + n - k, tail) == 0;
}

static double start_deviation(const struct t5 *m, const struct t5_tensor *t, bool extra)
{
    const struct t5_config *c = &m->config;
    if (t->kind == T5_EMBEDDING)
        return 1.0;
    if (t->kind == T5_BIAS)
        return 1.0 / sqrt(c->d_model);
    if (!extra && ends_with(t->name, "Attention.q.weight"))
        return 1.0 / sqrt((double)c->d_model * c->d_kv);
    return 1.0 / sqrt(t->cols);
}

/* Elements 2k and 2k + 1 are the two halves of one Box-Muller pair; the first uniform is moved off zero. */
static void draw(float *x, int64_t n, uint64_t seed, double deviation)
{
    for (int64_t i = 0; i < n; i += 2) {
        double u = ((double)(mix64(seed, (uint64_t)i) >> 11) + 0.5) * 0x1p-53, v = (double)(mix64(seed, (uint64_t)i + 1) >> 11) * 0x1p-53;
        double radius = deviation * sqrt(-2.0 * log(u)), sine, cosine;
        sincos(6.283185307179586 * v, &sine, &cosine);
        x[i] = (float)(radius * cosine);
        if (i + 1 < n)
            x[i + 1] = (float)(radius * sine);
    }
}

static void randomise_tensor(struct t5 *m, int32_t i, uint64_t seed)
{
    const struct t5_tensor *t = &m->tensor[i];
    int64_t n = (int64_t)t->rows * t->cols;
    float *x = xmalloc((size_t)n * sizeof *x);
    if (t->kind == T5_NORM)
        for (int64_t k = 0; k < n; k++)
            x[k] = 1.0f;
    else
        draw(x, n, mix64(seed, (uint64_t)i), start_deviation(m, t, i >= m->own));
    m->be->write(m->master + t->offset, x, (size_t)n * sizeof *x);
    free(x);
}

void t5_randomise(struct t5 *m, uint64_t seed)
{
    for (int32_t i = 0; i < m->tensors; i++)
        randomise_tensor(m, i, seed);
    t5_refresh(m);
}

static void code_rows_put(struct t5 *m, struct weight *w, int64_t first, int64_t count, const float *rows)
{
    int64_t d = m->config.d_model;
    m->be->write(w->master + (m->config.vocab + first) * d, rows, (size_t)(count * d) * sizeof(float));
    m->be->weight_refresh(w);
}

void t5_set_code_rows(struct t5 *m, int32_t first, int32_t count, const float *rows)
{
    CHECK(first >= 0 && count >= 0 && first <= m->config.codes - count);
    code_rows_put(m, m->shared, first, count, rows);
    if (m->lm_head)
        code_rows_put(m, m->lm_head, first, count, rows);
}

void t5_copy_weights(struct t5 *to, struct t5 *from)
{
    for (int32_t i = 0; i < to->tensors; i++) {
        const struct t5_tensor *t = &to->tensor[i], *of = t5_tensor_find(from, t->name);
        if (of == NULL || of->cols != t->cols || (of->rows != t->rows && t->kind != T5_EMBEDDING))
            continue;
        size_t bytes = (size_t)(of->rows < t->rows ? of->rows : t->rows) * (size_t)t->cols * sizeof(float);
        float *host = xmalloc(bytes);
        to->be->read(host, from->master + of->offset, bytes);
        to->be->write(to->master + t->offset, host, bytes);
        free(host);
    }
    t5_refresh(to);
}

/* ---- optimiser ---- */

double t5_adamw(struct t5 *m, const struct t5_adamw *a, int64_t first, int64_t count)
{
    CHECK(m->train && first >= 0 && count >= 0 && first <= m->size - count);
    struct adamw step = {.lr = a->lr, .beta1 = a->beta1, .beta2 = a->beta2, .eps = a->eps, .weight_decay = a->weight_decay,
                         .clip = a->clip, .step = a->step};
    step.norm = sqrt(m->be->sum_squares(m->grad + first, count));
    m->be->adamw(m->master + first, m->grad + first, m->moment1 + first, m->moment2 + first, count, &step);
    t5_refresh(m);
    m->be->zero(m->grad, (size_t)m->size * sizeof(float));
    return step.norm;
}

float t5_schedule(float peak, int64_t step, int64_t total, double warmup_share)
{
    double warmup = warmup_share * (double)total;
    if ((double)step < warmup)
        return (float)(peak * ((double)step / warmup));
    if (step >= total)
        return 0.0f;
    return (float)(peak * ((double)(total - step) / ((double)total - warmup)));
}
