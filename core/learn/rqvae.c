/* rqvae.c: see rqvae.h.
 *
 * Products run on the backend; biases, ReLU, residuals and the codebooks' averages are plain loops on the host, where the widths are small.
 * All parameters lie in one flat block, so that one Adam call moves them. A layer keeps its input and output for the backward pass; `delta`
 * is the gradient on its way back, one buffer of the widest layer. Averages are summed in double, in row order: the same bits on every run. */
#include "rqvae.h"
#include "../base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double BETA = 0.25, DECAY = 0.99, EPS = 1e-5;

struct layer {
    struct weight w;
    float *bias, *dbias;
    bool relu;
    struct act *x, *y; /* [batch, in], [batch, out] */
    float *out;        /* host [batch, out], after bias and ReLU */
};

struct rqvae {
    const struct backend *be;
    struct rqvae_shape shape;
    int32_t batch, n;
    struct layer layer[2 * RQVAE_LAYERS_MAX];
    float *master, *grad, *moment1, *moment2;
    int64_t size;
    float *codebook[RQVAE_LEVELS_MAX], *count[RQVAE_LEVELS_MAX], *sum[RQVAE_LEVELS_MAX];
    float *residual[RQVAE_LEVELS_MAX + 1]; /* [batch, D] what each level is given; the last: what is left */
    int32_t *chosen, *codes;               /* [batch] of one level, [batch, levels] */
    float *zq, *delta;
    struct act *back; /* [batch, widest] gradient of a layer's input */
    double *average; /* [K, D + 1] */
    bool open;
};

static int32_t code_width(const struct rqvae *r)
{
    return r->shape.width[r->shape.layers];
}

/* ---- memory ---- */

/* Places of the parameters in the block; 64 bytes apart at least, as vector code likes it. */
static void place_layers(struct rqvae *r)
{
    const struct rqvae_shape *s = &r->shape;
    for (int32_t i = 0; i < 2 * s->layers; i++) {
        struct layer *l = &r->layer[i];
        int32_t k = i < s->layers ? i : 2 * s->layers - i;
        l->w.cols = s->width[k];
        l->w.rows = s->width[i < s->layers ? k + 1 : k - 1];
        l->relu = i != s->layers - 1 && i != 2 * s->layers - 1;
        r->size += ((int64_t)l->w.rows * l->w.cols + 15) / 16 * 16 + (l->w.rows + 15) / 16 * 16;
    }
}

static int open_layers(struct rqvae *r)
{
    int64_t at = 0;
    for (int32_t i = 0; i < 2 * r->shape.layers; i++) {
        struct layer *l = &r->layer[i];
        l->w.master = r->master + at;
        l->w.grad = r->grad + at;
        at += ((int64_t)l->w.rows * l->w.cols + 15) / 16 * 16;
        l->bias = r->master + at;
        l->dbias = r->grad + at;
        at += (l->w.rows + 15) / 16 * 16;
        l->x = r->be->act_alloc((int64_t)r->batch * l->w.cols);
        l->y = r->be->act_alloc((int64_t)r->batch * l->w.rows);
        l->out = xcalloc((size_t)r->batch * (size_t)l->w.rows, sizeof *l->out);
        if (!l->x || !l->y || r->be->weight_open(&l->w, WEIGHT_TRAIN) < 0)
            return -1;
    }
    r->open = true;
    return 0;
}

static void open_codebooks(struct rqvae *r)
{
    size_t d = (size_t)code_width(r), k = (size_t)r->shape.codes, n = (size_t)r->batch;
    for (int32_t s = 0; s < r->shape.levels; s++) {
        r->codebook[s] = xcalloc(k * d, sizeof(float));
        r->count[s] = xcalloc(k, sizeof(float));
        r->sum[s] = xcalloc(k * d, sizeof(float));
    }
    for (int32_t s = 0; s <= r->shape.levels; s++)
        r->residual[s] = xcalloc(n * d, sizeof(float));
    r->chosen = xcalloc(n, sizeof *r->chosen);
    r->codes = xcalloc(n * (size_t)r->shape.levels, sizeof *r->codes);
    r->zq = xcalloc(n * d, sizeof *r->zq);
    r->average = xcalloc(k * (d + 1), sizeof *r->average);
}

static int32_t widest(const struct rqvae_shape *s)
{
    int32_t most = 0;
    for (int32_t i = 0; i <= s->layers; i++)
        most = s->width[i] > most ? s->width[i] : most;
    return most;
}

struct rqvae *rqvae_init(const struct backend *be, const struct rqvae_shape *s, int32_t batch, struct err *e)
{
    CHECK(be->has_host_memory && be->act_bytes == sizeof(float));
    CHECK(s->layers >= 1 && s->layers <= RQVAE_LAYERS_MAX && s->levels >= 1 && s->levels <= RQVAE_LEVELS_MAX);
    struct rqvae *r = xcalloc(1, sizeof *r);
    *r = (struct rqvae){.be = be, .shape = *s, .batch = batch};
    place_layers(r);
    float **blocks[] = {&r->master, &r->grad, &r->moment1, &r->moment2};
    bool got = true;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        got &= (*blocks[i] = be->alloc((size_t)r->size * sizeof(float))) != NULL;
    r->delta = xcalloc((size_t)batch * (size_t)widest(s), sizeof *r->delta);
    r->back = be->act_alloc((int64_t)batch * widest(s));
    open_codebooks(r);
    if (got && r->back && open_layers(r) == 0)
        return r;
    err_set(e, ERR_OS, "no memory for an rq-VAE of %lld parameters", (long long)r->size);
    rqvae_free(r);
    return NULL;
}

void rqvae_free(struct rqvae *r)
{
    if (!r)
        return;
    for (int32_t i = 0; i < 2 * r->shape.layers; i++) {
        if (r->open)
            r->be->weight_close(&r->layer[i].w);
        r->be->release(r->layer[i].x);
        r->be->release(r->layer[i].y);
        free(r->layer[i].out);
    }
    void *blocks[] = {r->master, r->grad, r->moment1, r->moment2, r->back};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        r->be->release(blocks[i]);
    for (int32_t s = 0; s < r->shape.levels; s++) {
        free(r->codebook[s]);
        free(r->count[s]);
        free(r->sum[s]);
    }
    for (int32_t s = 0; s <= r->shape.levels; s++)
        free(r->residual[s]);
    void *host[] = {r->chosen, r->codes, r->zq, r->delta, r->average};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    free(r);
}

void rqvae_refresh(struct rqvae *r)
{
    for (int32_t i = 0; i < 2 * r->shape.layers; i++)
        r->be->weight_refresh(&r->layer[i].w);
}

void rqvae_randomise(struct rqvae *r, uint64_t seed)
{
    for (int32_t i = 0; i < 2 * r->shape.layers; i++) {
        struct layer *l = &r->layer[i];
        int64_t weights = (int64_t)l->w.rows * l->w.cols;
        uint64_t own = mix64(seed, (uint64_t)i);
        float bound = 1 / sqrtf((float)l->w.cols);
        for (int64_t k = 0; k < weights; k++)
            l->w.master[k] = (2 * mix_uniform(own, (uint64_t)k) - 1) * bound;
        for (int32_t k = 0; k < l->w.rows; k++)
            l->bias[k] = (2 * mix_uniform(own, (uint64_t)(weights + k)) - 1) * bound;
    }
    rqvae_refresh(r);
}

/* ---- the MLPs ---- */

/* Returns the layer's output on the host. */
static const float *layer_forward(struct rqvae *r, struct layer *l, const float *x)
{
    int32_t n = r->n, out = l->w.rows;
    r->be->upload(l->x, x, (int64_t)n * l->w.cols);
    r->be->linear(l->y, l->x, &l->w, n, 1, 0);
    r->be->download(l->out, l->y, (int64_t)n * out);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < out; j++) {
            float y = l->out[(int64_t)i * out + j] + l->bias[j];
            l->out[(int64_t)i * out + j] = l->relu && y < 0 ? 0 : y;
        }
    return l->out;
}

static const float *run_layers(struct rqvae *r, int32_t first, const float *x)
{
    for (int32_t i = first; i < first + r->shape.layers; i++)
        x = layer_forward(r, &r->layer[i], x);
    return x;
}

/* delta: gradient of the layer's output, becomes that of its input (not when `last`: nobody asks for it). */
static void layer_backward(struct rqvae *r, struct layer *l, bool last)
{
    int32_t n = r->n, out = l->w.rows;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < out; j++) {
            float *d = &r->delta[(int64_t)i * out + j];
            if (l->relu && !(l->out[(int64_t)i * out + j] > 0))
                *d = 0;
            l->dbias[j] += *d;
        }
    r->be->upload(l->y, r->delta, (int64_t)n * out);
    r->be->linear_backward(last ? NULL : r->back, &l->w, l->y, l->x, n, 0);
    if (!last)
        r->be->download(r->delta, r->back, (int64_t)n * l->w.cols);
}

void rqvae_encode(struct rqvae *r, const float *x, int32_t n, float *z)
{
    CHECK(n >= 1 && n <= r->batch);
    r->n = n;
    memcpy(z, run_layers(r, 0, x), (size_t)n * (size_t)code_width(r) * sizeof *z);
}

/* ---- the codebooks ---- */

static void quantise_level(struct rqvae *r, int32_t level)
{
    int32_t n = r->n, d = code_width(r);
    const float *in = r->residual[level];
    float *left = r->residual[level + 1];
    r->be->kmeans_assign(r->chosen, NULL, in, r->codebook[level], n, r->shape.codes, d);
    for (int32_t i = 0; i < n; i++) {
        const float *code = r->codebook[level] + (int64_t)r->chosen[i] * d;
        r->codes[(int64_t)i * r->shape.levels + level] = r->chosen[i];
        for (int32_t j = 0; j < d; j++) {
            left[(int64_t)i * d + j] = in[(int64_t)i * d + j] - code[j];
            r->zq[(int64_t)i * d + j] += code[j];
        }
    }
}

static double mean_square(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum / (double)n;
}

static void forward(struct rqvae *r, const float *x, struct rqvae_losses *out)
{
    int32_t d = code_width(r), w = r->shape.width[0];
    int64_t cells = (int64_t)r->n * d, inputs = (int64_t)r->n * w;
    memcpy(r->residual[0], run_layers(r, 0, x), (size_t)cells * sizeof(float));
    memset(r->zq, 0, (size_t)cells * sizeof(float));
    *out = (struct rqvae_losses){0};
    for (int32_t s = 0; s < r->shape.levels; s++) {
        quantise_level(r, s);
        double left = mean_square(r->residual[s + 1], cells);
        out->level[s] = left * d;
        out->commit += left;
    }
    const float *x_hat = run_layers(r, r->shape.layers, r->zq);
    for (int64_t i = 0; i < inputs; i++) {
        double miss = (double)x_hat[i] - (double)x[i];
        out->recon += miss * miss / (double)inputs;
        r->delta[i] = (float)(2 * miss / (double)inputs);
    }
    out->total = out->recon + BETA * out->commit;
}

void rqvae_step(struct rqvae *r, const float *x, int32_t n, struct rqvae_losses *out)
{
    CHECK(n >= 1 && n <= r->batch);
    int32_t layers = r->shape.layers, d = code_width(r);
    int64_t cells = (int64_t)n * d;
    r->n = n;
    r->be->zero(r->grad, (size_t)r->size * sizeof(float));
    forward(r, x, out);
    for (int32_t i = 2 * layers - 1; i >= layers; i--)
        layer_backward(r, &r->layer[i], false);
    for (int32_t s = 0; s < r->shape.levels; s++)
        for (int64_t i = 0; i < cells; i++)
            r->delta[i] += (float)(2 * BETA / (double)cells) * r->residual[s + 1][i];
    for (int32_t i = layers - 1; i >= 0; i--)
        layer_backward(r, &r->layer[i], i == 0);
}

static void ema_level(struct rqvae *r, int32_t level)
{
    int32_t d = code_width(r), k = r->shape.codes;
    double total = 0, *fresh = r->average, *rows = fresh + (int64_t)k * d;
    memset(fresh, 0, (size_t)k * (size_t)(d + 1) * sizeof *fresh);
    for (int32_t i = 0; i < r->n; i++) {
        int32_t c = r->codes[(int64_t)i * r->shape.levels + level];
        rows[c]++;
        for (int32_t j = 0; j < d; j++)
            fresh[(int64_t)c * d + j] += (double)r->residual[level][(int64_t)i * d + j];
    }
    for (int32_t c = 0; c < k; c++) {
        r->count[level][c] = (float)(DECAY * (double)r->count[level][c] + (1 - DECAY) * rows[c]);
        total += (double)r->count[level][c];
    }
    for (int32_t c = 0; c < k; c++) {
        double share = ((double)r->count[level][c] + EPS) / (total + k * EPS) * total;
        for (int64_t at = (int64_t)c * d; at < (int64_t)(c + 1) * d; at++) {
            r->sum[level][at] = (float)(DECAY * (double)r->sum[level][at] + (1 - DECAY) * fresh[at]);
            r->codebook[level][at] = (float)((double)r->sum[level][at] / share);
        }
    }
}

void rqvae_ema(struct rqvae *r)
{
    for (int32_t s = 0; s < r->shape.levels; s++)
        ema_level(r, s);
}

void rqvae_adam(struct rqvae *r, float lr, int64_t step)
{
    const struct adamw a = {.lr = lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = step};
    r->be->adamw(r->master, r->grad, r->moment1, r->moment2, r->size, &a);
    rqvae_refresh(r);
}

void rqvae_revive(struct rqvae *r, int32_t level, int32_t code, int32_t row)
{
    size_t d = (size_t)code_width(r), bytes = d * sizeof(float);
    const float *from = r->residual[level] + (size_t)row * d;
    memcpy(r->codebook[level] + (size_t)code * d, from, bytes);
    memcpy(r->sum[level] + (size_t)code * d, from, bytes);
    r->count[level][code] = 1;
}

/* ---- what others see ---- */

const struct rqvae_shape *rqvae_shape_of(const struct rqvae *r)
{
    return &r->shape;
}

float *rqvae_weight(struct rqvae *r, int32_t layer)
{
    return r->layer[layer].w.master;
}

float *rqvae_bias(struct rqvae *r, int32_t layer)
{
    return r->layer[layer].bias;
}

const float *rqvae_weight_grad(const struct rqvae *r, int32_t layer)
{
    return r->layer[layer].w.grad;
}

const float *rqvae_bias_grad(const struct rqvae *r, int32_t layer)
{
    return r->layer[layer].dbias;
}

float *rqvae_codebook(struct rqvae *r, int32_t level)
{
    return r->codebook[level];
}

float *rqvae_count(struct rqvae *r, int32_t level)
{
    return r->count[level];
}

float *rqvae_sum(struct rqvae *r, int32_t level)
{
    return r->sum[level];
}

const float *rqvae_z(const struct rqvae *r)
{
    return r->residual[0];
}

const float *rqvae_zq(const struct rqvae *r)
{
    return r->zq;
}

const float *rqvae_x_hat(const struct rqvae *r)
{
    return r->layer[2 * r->shape.layers - 1].out;
}

const int32_t *rqvae_codes(const struct rqvae *r)
{
    return r->codes;
}

int32_t rqvae_blocks(struct rqvae *r, float **blocks, int64_t *elements)
{
    int32_t n = 0;
    int64_t k = r->shape.codes;
    float *flat[] = {r->master, r->moment1, r->moment2};
    for (int32_t i = 0; i < 3; i++) {
        blocks[n] = flat[i];
        elements[n++] = r->size;
    }
    for (int32_t s = 0; s < r->shape.levels; s++) {
        float *own[] = {r->codebook[s], r->count[s], r->sum[s]};
        for (int32_t i = 0; i < 3; i++) {
            blocks[n] = own[i];
            elements[n++] = i == 1 ? k : k * code_width(r);
        }
    }
    return n;
}
