/* learn_clusters.c: the two k-means indexers: residual (a codebook over what the codebooks before left) and hierarchical (a tree of clusters).
 *
 * Both see the embeddings as they lie, which may be in a mapped file: what codebooks left, and the members of a cluster, are gathered block by
 * block. The tree is built level by level: a cluster larger than `leaf` is divided into `codes` parts, or into as
 * many as it has documents; smaller ones end there, and the rest of their codes is 0. Nodes of a level stand one after another, children of
 * a node too, so a node needs only its first child and their number. */
#include "kmeans.h"
#include "learn_quantiser.h"

#include <stdlib.h>
#include <string.h>

static struct kmeans_options options(const struct quantiser_input *in, int32_t n, int32_t k, uint64_t what)
{
    return (struct kmeans_options){n, in->width, k, in->restarts, in->iterations, mix64(in->seed, what)};
}

int learn_residual(const struct quantiser_input *in, struct quantiser *q, struct err *e)
{
    int32_t rc = 0, *code[QUANTISER_LEVELS_MAX] = {0};
    struct kmeans_points left = {.x = in->x, .codebook = q->codebook, .code = code};
    for (left.levels = 0; left.levels < q->positions && rc == 0; left.levels++) {
        int32_t s = left.levels;
        struct kmeans_result result;
        const struct kmeans_options o = options(in, in->n, q->codes, 0x726573 + (uint64_t)s);
        q->codebook[s] = xcalloc((size_t)q->codes * (size_t)in->width, sizeof(float));
        code[s] = xmalloc((size_t)in->n * sizeof *code[s]);
        rc = kmeans_run(in->be, &o, &left, q->codebook[s], code[s], &result, in->run, e);
    }
    for (int32_t s = 0; s < q->positions; s++)
        free(code[s]);
    return rc;
}

/* ---- the tree ---- */

struct tree {
    const struct quantiser_input *in;
    struct quantiser *q;
    int32_t room;
    int32_t *member, *next; /* [n] documents, grouped by node; the same being made */
    int32_t *from, *count;  /* [room] of each node */
    int32_t *assign;
};

static void make_room(struct tree *t, int32_t nodes)
{
    if (nodes <= t->room)
        return;
    t->room = nodes > 2 * t->room ? nodes : 2 * t->room;
    size_t n = (size_t)t->room;
    t->from = xrealloc(t->from, n, sizeof *t->from);
    t->count = xrealloc(t->count, n, sizeof *t->count);
    t->q->first = xrealloc(t->q->first, n, sizeof *t->q->first);
    t->q->children = xrealloc(t->q->children, n, sizeof *t->q->children);
    t->q->centroid = xrealloc(t->q->centroid, n * (size_t)t->in->width, sizeof *t->q->centroid);
}

static void add_node(struct tree *t, int32_t from, int32_t count)
{
    struct quantiser *q = t->q;
    make_room(t, q->nodes + 1);
    t->from[q->nodes] = from;
    t->count[q->nodes] = count;
    q->first[q->nodes] = q->children[q->nodes] = 0;
    memset(q->centroid + (size_t)q->nodes * (size_t)t->in->width, 0, (size_t)t->in->width * sizeof(float));
    q->nodes++;
}

/* Members of `node` sorted by their cluster, and a node for each cluster. */
static void divide_members(struct tree *t, int32_t node, int32_t k)
{
    int32_t from = t->from[node], n = t->count[node], at = from, *place = xcalloc((size_t)k + 1, sizeof *place);
    for (int32_t i = 0; i < n; i++)
        place[t->assign[i]]++;
    for (int32_t c = 0; c < k; c++) {
        int32_t count = place[c];
        add_node(t, at, count);
        place[c] = at;
        at += count;
    }
    for (int32_t i = 0; i < n; i++)
        t->next[place[t->assign[i]]++] = t->member[from + i];
    memcpy(t->member + from, t->next + from, (size_t)n * sizeof *t->member);
    free(place);
}

static int divide(struct tree *t, int32_t node, struct err *e)
{
    const struct quantiser_input *in = t->in;
    struct kmeans_result result;
    size_t width = (size_t)in->width;
    int32_t n = t->count[node], k = t->q->codes < n ? t->q->codes : n;
    const struct kmeans_options o = options(in, n, k, 0x74726565 + (uint64_t)node);
    const struct kmeans_points members = {.x = in->x, .row = t->member + t->from[node]};
    float *centroids = xmalloc((size_t)k * width * sizeof *centroids);
    int rc = kmeans_run(in->be, &o, &members, centroids, t->assign, &result, in->run, e);
    if (rc == 0) {
        t->q->first[node] = t->q->nodes;
        t->q->children[node] = k;
        divide_members(t, node, k);
        memcpy(t->q->centroid + (size_t)t->q->first[node] * width, centroids, (size_t)k * width * sizeof *centroids);
    }
    free(centroids);
    return rc;
}

static int grow(struct tree *t, struct err *e)
{
    int32_t begin = 0, end = 1;
    for (int32_t s = 0; s < t->q->positions; s++) {
        for (int32_t node = begin; node < end; node++)
            if (t->count[node] > t->in->leaf && t->count[node] > 1 && divide(t, node, e) < 0)
                return -1;
        begin = end;
        end = t->q->nodes;
    }
    return 0;
}

int learn_hierarchical(const struct quantiser_input *in, struct quantiser *q, struct err *e)
{
    struct tree t = {.in = in, .q = q};
    size_t n = (size_t)in->n;
    t.member = xmalloc(n * sizeof *t.member);
    t.next = xmalloc(n * sizeof *t.next);
    t.assign = xmalloc(n * sizeof *t.assign);
    for (int32_t i = 0; i < in->n; i++)
        t.member[i] = i;
    add_node(&t, 0, in->n);
    int rc = grow(&t, e);
    void *all[] = {t.member, t.next, t.assign, t.from, t.count};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return rc;
}
