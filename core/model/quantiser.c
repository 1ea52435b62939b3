/* quantiser.c: see quantiser.h: the codes of a batch of embeddings.
 *
 * The MLP is small and runs on the host, row by row, with sums in double: a row's result does not depend on its batch, so a document that is
 * indexed again gets its learned codes. Nearest codes are searched by the backend, where a codebook may have 51,200 rows; the tree is walked on
 * the host, as every row has its own path. What lies in backend memory belongs to `work` and is released with the quantiser. */
#include "quantiser.h"
#include "../base/mem.h"

#include <stdlib.h>
#include <string.h>

struct quantiser_work {
    const struct backend *be;
    float *book[QUANTISER_LEVELS_MAX], *rows; /* backend memory */
    int32_t *assign;
    float *left;    /* host [batch, d]: residuals */
    float *in, *out; /* host, the widest layer */
    int32_t chosen[QUANTISER_BATCH];
};

const char *quantiser_name(enum quantiser_kind kind)
{
    static const char *const names[] = {"rq-vae", "residual", "hierarchical"};
    return names[kind];
}

static int32_t book_width(const struct quantiser *q)
{
    return q->layers ? q->layer_width[q->layers] : q->width;
}

static int32_t widest(const struct quantiser *q)
{
    int32_t most = q->width;
    for (int32_t i = 0; i <= q->layers; i++)
        most = q->layer_width[i] > most ? q->layer_width[i] : most;
    return most;
}

static void close_work(struct quantiser_work *w)
{
    if (!w)
        return;
    for (int32_t s = 0; s < QUANTISER_LEVELS_MAX; s++)
        w->be->release(w->book[s]);
    w->be->release(w->rows);
    w->be->release(w->assign);
    free(w->left);
    free(w->in);
    free(w->out);
    free(w);
}

void quantiser_free(struct quantiser *q)
{
    if (!q)
        return;
    close_work(q->work);
    for (int32_t i = 0; i < QUANTISER_LAYERS_MAX; i++) {
        free(q->weight[i]);
        free(q->bias[i]);
    }
    for (int32_t s = 0; s < QUANTISER_LEVELS_MAX; s++)
        free(q->codebook[s]);
    free(q->mean);
    free(q->first);
    free(q->children);
    free(q->centroid);
    free(q);
}

int quantiser_open(struct quantiser *q, const struct backend *be, struct err *e)
{
    struct quantiser_work *w = q->work = xcalloc(1, sizeof *w);
    size_t d = (size_t)book_width(q), k = (size_t)q->codes;
    w->be = be;
    w->rows = be->alloc(QUANTISER_BATCH * d * sizeof(float));
    w->assign = be->alloc(QUANTISER_BATCH * sizeof(int32_t));
    w->left = xmalloc(QUANTISER_BATCH * d * sizeof(float));
    w->in = xmalloc((size_t)widest(q) * sizeof(float));
    w->out = xmalloc((size_t)widest(q) * sizeof(float));
    bool got = w->rows && w->assign;
    for (int32_t s = 0; got && s < q->positions && q->kind != QUANTISER_HIERARCHICAL; s++) {
        w->book[s] = be->alloc(k * d * sizeof(float));
        got = w->book[s] != NULL;
        if (got)
            be->write(w->book[s], q->codebook[s], k * d * sizeof(float));
    }
    return got ? 0 : err_set(e, ERR_OS, "no memory for the codebooks of the indexer");
}

/* ---- the MLP ---- */

static void run_layer(const struct quantiser *q, int32_t layer)
{
    struct quantiser_work *w = q->work;
    int32_t in = q->layer_width[layer], out = q->layer_width[layer + 1];
    for (int32_t j = 0; j < out; j++) {
        const float *row = q->weight[layer] + (int64_t)j * in;
        double sum = (double)q->bias[layer][j];
        for (int32_t k = 0; k < in; k++)
            sum += (double)row[k] * (double)w->in[k];
        w->out[j] = layer < q->layers - 1 && sum < 0 ? 0 : (float)sum;
    }
    memcpy(w->in, w->out, (size_t)out * sizeof *w->in);
}

static void encode_row(const struct quantiser *q, const float *x, float *z)
{
    struct quantiser_work *w = q->work;
    for (int32_t j = 0; j < q->width; j++)
        w->in[j] = (x[j] - (q->mean ? q->mean[j] : 0)) * q->scale;
    for (int32_t i = 0; i < q->layers; i++)
        run_layer(q, i);
    memcpy(z, w->in, (size_t)book_width(q) * sizeof *z);
}

/* ---- codes ---- */

static void residual_codes(struct quantiser *q, int32_t n, uint32_t *codes)
{
    struct quantiser_work *w = q->work;
    int32_t d = book_width(q);
    for (int32_t s = 0; s < q->positions; s++) {
        w->be->write(w->rows, w->left, (size_t)n * (size_t)d * sizeof(float));
        w->be->kmeans_assign(w->assign, NULL, w->rows, w->book[s], n, q->codes, d);
        w->be->read(w->chosen, w->assign, (size_t)n * sizeof *w->chosen);
        for (int32_t i = 0; i < n; i++) {
            const float *code = q->codebook[s] + (int64_t)w->chosen[i] * d;
            codes[(int64_t)i * q->positions + s] = (uint32_t)w->chosen[i];
            for (int32_t j = 0; j < d; j++)
                w->left[(int64_t)i * d + j] -= code[j];
        }
    }
}

static double distance(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static void walk(const struct quantiser *q, const float *x, uint32_t *codes)
{
    int32_t node = 0;
    for (int32_t s = 0; s < q->positions; s++) {
        double nearest = 0;
        codes[s] = 0;
        for (int32_t c = 0; c < q->children[node]; c++) {
            double d = distance(x, q->centroid + (int64_t)(q->first[node] + c) * q->width, q->width);
            if (c > 0 && d >= nearest)
                continue;
            nearest = d;
            codes[s] = (uint32_t)c;
        }
        if (q->children[node])
            node = q->first[node] + (int32_t)codes[s];
    }
}

void quantiser_encode(struct quantiser *q, const float *x, int32_t n, uint32_t *codes)
{
    CHECK(q->work && n >= 0 && n <= QUANTISER_BATCH);
    if (q->kind == QUANTISER_HIERARCHICAL) {
        for (int32_t i = 0; i < n; i++)
            walk(q, x + (int64_t)i * q->width, codes + (int64_t)i * q->positions);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        encode_row(q, x + (int64_t)i * q->width, q->work->left + (int64_t)i * book_width(q));
    residual_codes(q, n, codes);
}

static void add_norms(const float *left, int32_t d, double *sum)
{
    for (int32_t j = 0; j < d; j++)
        *sum += (double)left[j] * (double)left[j];
}

/* Of one row: z [d] is used up. */
static void residual_errors(const struct quantiser *q, float *z, const uint32_t *codes, double *sum)
{
    int32_t d = book_width(q);
    add_norms(z, d, &sum[0]);
    for (int32_t s = 0; s < q->positions; s++) {
        for (int32_t j = 0; j < d; j++)
            z[j] -= q->codebook[s][(int64_t)codes[s] * d + j];
        add_norms(z, d, &sum[s + 1]);
    }
}

static void tree_errors(const struct quantiser *q, const float *x, const uint32_t *codes, double *sum)
{
    int32_t node = 0;
    double left = 0;
    for (int32_t j = 0; j < q->width; j++)
        left += (double)x[j] * (double)x[j];
    sum[0] += left;
    for (int32_t s = 0; s < q->positions; s++) {
        if (q->children[node]) {
            node = q->first[node] + (int32_t)codes[s];
            left = distance(x, q->centroid + (int64_t)node * q->width, q->width);
        }
        sum[s + 1] += left;
    }
}

void quantiser_errors(const struct quantiser *q, const float *x, int32_t n, const uint32_t *codes, double *sum)
{
    for (int32_t i = 0; i < n; i++) {
        const float *row = x + (int64_t)i * q->width;
        if (q->kind == QUANTISER_HIERARCHICAL) {
            tree_errors(q, row, codes + (int64_t)i * q->positions, sum);
        } else {
            encode_row(q, row, q->work->left);
            residual_errors(q, q->work->left, codes + (int64_t)i * q->positions, sum);
        }
    }
}
