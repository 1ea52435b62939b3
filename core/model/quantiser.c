/* quantiser.c: see quantiser.h: the codes of a batch of embeddings.
 *
 * The MLP is small and runs on the host, row by row, with sums in double: a row's result does not depend on its batch, so a document that is
 * indexed again gets its learned codes. Its weights are kept in groups of GROUP outputs, whose sums go side by side, each in the order of its inputs.
 * Nearest codes are searched by the backend, where a codebook may have 51,200 rows; the tree is walked on the host, as every row has its own path,
 * but for the children of a node that has more than WIDE: those are the backend's, too, one search for neighbouring rows that are at one node.
 * What lies in backend memory belongs to `work` and is released with the quantiser. */
#include "quantiser.h"
#include "../base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP = 8, WIDE = 512 };

struct quantiser_work {
    const struct backend *be;
    float *book[QUANTISER_LEVELS_MAX], *rows; /* backend memory */
    float *children; /* backend memory: the children of a wide node, the last that was asked for; NULL where no node is wide */
    int32_t children_of;
    int32_t *assign;
    float *left;    /* host [batch, d]: residuals */
    float *packed[QUANTISER_LAYERS_MAX]; /* host [groups, in, GROUP] weights of a layer, those behind the last output 0 */
    double *in, *out; /* host, the widest layer */
    int32_t chosen[QUANTISER_BATCH], node[QUANTISER_BATCH];
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
    for (int32_t i = 0; i < QUANTISER_LAYERS_MAX; i++)
        free(w->packed[i]);
    w->be->release(w->rows);
    w->be->release(w->children);
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

static int32_t groups_of(const struct quantiser *q, int32_t layer)
{
    return (q->layer_width[layer + 1] + GROUP - 1) / GROUP;
}

static void pack_layer(const struct quantiser *q, int32_t layer)
{
    int64_t in = q->layer_width[layer], out = q->layer_width[layer + 1];
    float *packed = q->work->packed[layer] = xcalloc((size_t)groups_of(q, layer) * (size_t)in * GROUP, sizeof *packed);
    for (int64_t j = 0; j < out; j++)
        for (int64_t k = 0; k < in; k++)
            packed[(j / GROUP * in + k) * GROUP + j % GROUP] = q->weight[layer][j * in + k];
}

static int32_t most_children(const struct quantiser *q)
{
    int32_t most = 0;
    for (int32_t i = 0; i < q->nodes; i++)
        most = q->children[i] > most ? q->children[i] : most;
    return most;
}

/* Codebooks, or room for the children of a wide node, in the backend's memory. */
static bool open_centroids(struct quantiser *q)
{
    struct quantiser_work *w = q->work;
    size_t d = (size_t)book_width(q), bytes = (size_t)q->codes * d * sizeof(float);
    if (q->kind == QUANTISER_HIERARCHICAL) {
        int32_t most = most_children(q);
        w->children = most > WIDE ? w->be->alloc((size_t)most * d * sizeof(float)) : NULL;
        return most <= WIDE || w->children;
    }
    for (int32_t s = 0; s < q->positions; s++) {
        w->book[s] = w->be->alloc(bytes);
        if (!w->book[s])
            return false;
        w->be->write(w->book[s], q->codebook[s], bytes);
    }
    return true;
}

int quantiser_open(struct quantiser *q, const struct backend *be, struct err *e)
{
    struct quantiser_work *w = q->work = xcalloc(1, sizeof *w);
    size_t d = (size_t)book_width(q);
    w->be = be;
    w->children_of = -1;
    w->rows = be->alloc(QUANTISER_BATCH * d * sizeof(float));
    w->assign = be->alloc(QUANTISER_BATCH * sizeof(int32_t));
    w->left = xmalloc(QUANTISER_BATCH * d * sizeof(float));
    w->in = xcalloc((size_t)widest(q) + GROUP, sizeof *w->in);
    w->out = xcalloc((size_t)widest(q) + GROUP, sizeof *w->out);
    for (int32_t i = 0; i < q->layers; i++)
        pack_layer(q, i);
    return w->rows && w->assign && open_centroids(q) ? 0 : err_set(e, ERR_OS, "no memory for the codebooks of the indexer");
}

/* ---- the MLP ---- */

/* out[0..GROUP) += weights [n, GROUP] of a group x in [n]. */
static void add_group(const float *weights, const double *in, int32_t n, double *out)
{
    double sum[GROUP];
    memcpy(sum, out, sizeof sum);
    for (int32_t k = 0; k < n; k++)
        for (int32_t j = 0; j < GROUP; j++)
            sum[j] += (double)weights[k * GROUP + j] * in[k];
    memcpy(out, sum, sizeof sum);
}

static void run_layer(const struct quantiser *q, int32_t layer)
{
    struct quantiser_work *w = q->work;
    int32_t in = q->layer_width[layer], out = q->layer_width[layer + 1];
    for (int32_t j = 0; j < out; j++)
        w->out[j] = (double)q->bias[layer][j];
    for (int32_t g = 0; g < groups_of(q, layer); g++)
        add_group(w->packed[layer] + (int64_t)g * in * GROUP, w->in, in, w->out + g * GROUP);
    for (int32_t j = 0; j < out; j++)
        w->in[j] = layer < q->layers - 1 && w->out[j] < 0 ? 0 : (double)(float)w->out[j];
}

static void encode_row(const struct quantiser *q, const float *x, float *z)
{
    struct quantiser_work *w = q->work;
    for (int32_t j = 0; j < q->width; j++)
        w->in[j] = (double)((x[j] - (q->mean ? q->mean[j] : 0)) * q->scale);
    for (int32_t i = 0; i < q->layers; i++)
        run_layer(q, i);
    for (int32_t j = 0; j < book_width(q); j++)
        z[j] = (float)w->in[j];
}

/* ---- codes ---- */

/* Adds the squared norms of the residuals as they stand. */
static void add_norms(const struct quantiser_work *w, int32_t n, int32_t d, double *sum)
{
    for (int64_t i = 0; i < (int64_t)n * d; i++)
        *sum += (double)w->left[i] * (double)w->left[i];
}

static void residual_codes(struct quantiser *q, int32_t n, uint32_t *codes, double *left)
{
    struct quantiser_work *w = q->work;
    int32_t d = book_width(q);
    if (left)
        add_norms(w, n, d, &left[0]);
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
        if (left)
            add_norms(w, n, d, &left[s + 1]);
    }
}

/* ---- the tree ---- */

static double distance(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static int32_t nearest_child(const struct quantiser *q, int32_t node, const float *x)
{
    int32_t best = 0;
    double nearest = 0;
    for (int32_t c = 0; c < q->children[node]; c++) {
        double d = distance(x, q->centroid + (int64_t)(q->first[node] + c) * q->width, q->width);
        if (c > 0 && d >= nearest)
            continue;
        nearest = d;
        best = c;
    }
    return best;
}

/* chosen[from .. from + n) of rows that are all at one node of more than WIDE children. */
static void wide_children(struct quantiser *q, const float *x, int32_t from, int32_t n)
{
    struct quantiser_work *w = q->work;
    size_t width = (size_t)q->width;
    int32_t node = w->node[from], k = q->children[node];
    if (w->children_of != node)
        w->be->write(w->children, q->centroid + (size_t)q->first[node] * width, (size_t)k * width * sizeof(float));
    w->children_of = node;
    w->be->write(w->rows, x + (size_t)from * width, (size_t)n * width * sizeof(float));
    w->be->kmeans_assign(w->assign, NULL, w->rows, w->children, n, k, q->width);
    w->be->read(w->chosen + from, w->assign, (size_t)n * sizeof *w->chosen);
}

static void choose_children(struct quantiser *q, const float *x, int32_t n)
{
    struct quantiser_work *w = q->work;
    for (int32_t i = 0, count; i < n; i += count) {
        for (count = 1; i + count < n && w->node[i + count] == w->node[i];)
            count++;
        if (q->children[w->node[i]] > WIDE)
            wide_children(q, x, i, count);
        for (int32_t r = i; r < i + count && q->children[w->node[i]] <= WIDE; r++)
            w->chosen[r] = nearest_child(q, w->node[i], x + (int64_t)r * q->width);
    }
}

/* What is left of a row at its node, of the root: the row itself. */
static double left_at(const struct quantiser *q, const float *x, int32_t node)
{
    double sum = 0;
    if (node > 0)
        return distance(x, q->centroid + (int64_t)node * q->width, q->width);
    for (int32_t j = 0; j < q->width; j++)
        sum += (double)x[j] * (double)x[j];
    return sum;
}

static void add_left(const struct quantiser *q, const float *x, int32_t n, double *sum)
{
    for (int32_t i = 0; i < n; i++)
        *sum += left_at(q, x + (int64_t)i * q->width, q->work->node[i]);
}

static void tree_codes(struct quantiser *q, const float *x, int32_t n, uint32_t *codes, double *left)
{
    struct quantiser_work *w = q->work;
    memset(w->node, 0, sizeof w->node);
    if (left)
        add_left(q, x, n, &left[0]);
    for (int32_t s = 0; s < q->positions; s++) {
        choose_children(q, x, n);
        for (int32_t i = 0; i < n; i++) {
            codes[(int64_t)i * q->positions + s] = (uint32_t)w->chosen[i];
            if (q->children[w->node[i]])
                w->node[i] = q->first[w->node[i]] + w->chosen[i];
        }
        if (left)
            add_left(q, x, n, &left[s + 1]);
    }
}

void quantiser_encode(struct quantiser *q, const float *x, int32_t n, uint32_t *codes, double *left)
{
    CHECK(q->work && n >= 0 && n <= QUANTISER_BATCH);
    if (q->kind == QUANTISER_HIERARCHICAL) {
        tree_codes(q, x, n, codes, left);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        encode_row(q, x + (int64_t)i * q->width, q->work->left + (int64_t)i * book_width(q));
    residual_codes(q, n, codes, left);
}
