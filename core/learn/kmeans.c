/* kmeans.c: see kmeans.h. The nearest-centroid search is the backend's; sums run on the host in double, in point order, so that a restart
 * gives the same bits on every run, whatever the block. A block is prepared once where all points fit into one (the usual case: codebooks of a
 * small corpus), and read where it lies where the backend works on host memory and nothing is to be taken off. */
#include "kmeans.h"
#include "../base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kmeans {
    const struct backend *be;
    const struct kmeans_options *o;
    const struct kmeans_points *points;
    int32_t block;              /* points of a block */
    float *host;                /* [block, d] gathered, or NULL: blocks are read in place */
    const float *seen;          /* host form of the block that is prepared */
    int32_t prepared;           /* its first point, or -1 */
    float *dx, *dcentroids, *ddistance; /* backend memory; dx NULL where blocks lie in host memory */
    int32_t *dassign;
    float *centroids, *distance; /* host */
    int32_t *assign, *count;
    double *sum;
};

/* ---- points ---- */

static void point_into(const struct kmeans *s, int32_t i, float *to)
{
    const struct kmeans_points *p = s->points;
    size_t d = (size_t)s->o->d;
    memcpy(to, p->x + (size_t)(p->row ? p->row[i] : i) * d, d * sizeof *to);
    for (int32_t l = 0; l < p->levels; l++) {
        const float *c = p->codebook[l] + (size_t)p->code[l][i] * d;
        for (size_t j = 0; j < d; j++)
            to[j] -= c[j];
    }
}

/* Points [from, from + n) in backend memory; s->seen has them on the host. */
static const float *block_at(struct kmeans *s, int32_t from, int32_t n)
{
    size_t d = (size_t)s->o->d;
    if (s->prepared != from) {
        for (int32_t i = 0; s->host && i < n; i++)
            point_into(s, from + i, s->host + (size_t)i * d);
        s->seen = s->host ? s->host : s->points->x + (size_t)from * d;
        if (s->dx)
            s->be->write(s->dx, s->seen, (size_t)n * d * sizeof(float));
        s->prepared = from;
    }
    return s->dx ? s->dx : s->seen;
}

/* ---- passes ---- */

/* Nearest of k centroids for every point; `sums`: the points of each are added up on the way. */
static void pass(struct kmeans *s, const float *centroids, int32_t k, bool sums)
{
    const struct kmeans_options *o = s->o;
    s->be->write(s->dcentroids, centroids, (size_t)k * (size_t)o->d * sizeof(float));
    for (int32_t from = 0, n; from < o->n; from += n) {
        n = o->n - from < s->block ? o->n - from : s->block;
        const float *x = block_at(s, from, n);
        s->be->kmeans_assign(s->dassign, s->ddistance, x, s->dcentroids, n, k, o->d);
        s->be->read(s->assign + from, s->dassign, (size_t)n * sizeof(int32_t));
        s->be->read(s->distance + from, s->ddistance, (size_t)n * sizeof(float));
        for (int32_t i = 0; sums && i < n; i++) {
            double *sum = s->sum + (size_t)s->assign[from + i] * (size_t)o->d;
            s->count[s->assign[from + i]]++;
            for (int32_t j = 0; j < o->d; j++)
                sum[j] += (double)s->seen[(size_t)i * (size_t)o->d + (size_t)j];
        }
    }
}

static void assign_points(struct kmeans *s)
{
    memset(s->sum, 0, (size_t)s->o->k * (size_t)s->o->d * sizeof(double));
    memset(s->count, 0, (size_t)s->o->k * sizeof(int32_t));
    pass(s, s->centroids, s->o->k, true);
}

/* ---- seeding ---- */

/* The first point whose running sum passes u * total; all points covered (total 0) draws uniformly. A drawn point has no weight any more, and
 * rounding at the end could still give the last one, so that is looked at again. */
static int32_t draw_point(const double *running, int32_t n, double u)
{
    double total = running[n - 1];
    int32_t low = 0, high = n - 1;
    if (total <= 0)
        return (int32_t)(u * n);
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (running[middle] > u * total)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Of c centroids there are, and of those still wanted, the same small part: a round's draws do not see each other, and hit what another has hit in
 * proportion to how many they are. */
static int32_t round_size(int32_t centroids, int32_t k)
{
    int32_t wanted = k - centroids, least = centroids < wanted ? centroids : wanted, n = least / KMEANS_ROUND;
    n = n < KMEANS_ROUND_MOST ? n : KMEANS_ROUND_MOST;
    return k <= KMEANS_EXACT || n < 1 ? 1 : n;
}

/* Draws centroids c .. c + n - 1. A point that was drawn twice in a round is drawn again a few times, then taken: a second copy of a centroid
 * is mended by the first iteration. */
static void draw_round(struct kmeans *s, const double *nearest, double *running, char *taken, int32_t c, int32_t n, uint64_t seed)
{
    const struct kmeans_options *o = s->o;
    int32_t drawn[KMEANS_ROUND_MOST];
    double sum = 0;
    for (int32_t i = 0; i < o->n; i++)
        running[i] = sum += nearest[i];
    for (int32_t r = 0; r < n; r++) {
        int32_t point = draw_point(running, o->n, mix_uniform(seed, (uint64_t)(c + r)));
        for (uint64_t again = 1; taken[point] && again < 8; again++)
            point = draw_point(running, o->n, mix_uniform(mix64(seed, (uint64_t)(c + r)), again));
        taken[point] = 1;
        drawn[r] = point;
        point_into(s, point, s->centroids + (size_t)(c + r) * (size_t)o->d);
    }
    for (int32_t r = 0; r < n; r++)
        taken[drawn[r]] = 0;
}

static int seed_centroids(struct kmeans *s, uint64_t seed, const struct run *run, struct err *e)
{
    const struct kmeans_options *o = s->o;
    double *nearest = xmalloc((size_t)o->n * sizeof *nearest), *running = xmalloc((size_t)o->n * sizeof *running);
    char *taken = xcalloc((size_t)o->n, 1);
    int rc = 0;
    for (int32_t i = 0; i < o->n; i++)
        nearest[i] = 1;
    for (int32_t c = 0, n; rc == 0 && c < o->k; c += n) {
        n = round_size(c, o->k);
        draw_round(s, nearest, running, taken, c, n, seed);
        pass(s, s->centroids + (size_t)c * (size_t)o->d, n, false);
        for (int32_t i = 0; i < o->n; i++)
            nearest[i] = c == 0 || s->distance[i] < nearest[i] ? fmax(s->distance[i], 0) : nearest[i];
        if (o->k > KMEANS_EXACT)
            run_report(run, "k-means: seeds", c + n, o->k, "centroids", NAN);
        rc = run_stopping(run) ? err_set(e, ERR_INTERRUPTED, "stopped in k-means") : 0;
    }
    free(nearest);
    free(running);
    free(taken);
    return rc;
}

/* ---- iterations ---- */

static int farther(const void *a, const void *b, void *state)
{
    const float *distance = state;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return distance[x] != distance[y] ? (distance[x] < distance[y] ? 1 : -1) : (x > y) - (x < y);
}

/* Points of a distance above 0, the farthest first, of equals the lower; *count of them. The caller frees. */
static int32_t *farthest_points(const struct kmeans *s, int32_t *count)
{
    int32_t *list = xmalloc((size_t)s->o->n * sizeof *list);
    *count = 0;
    for (int32_t i = 0; i < s->o->n; i++)
        if (s->distance[i] > 0)
            list[(*count)++] = i;
    qsort_r(list, (size_t)*count, sizeof *list, farther, s->distance);
    return list;
}

/* Empty clusters take the farthest points, each a different one while there are any that no centroid covers. */
static void fill_empty(struct kmeans *s)
{
    int32_t count, next = 0, *list = farthest_points(s, &count), covered = 0;
    for (int32_t c = 0; c < s->o->k; c++) {
        if (s->count[c] > 0)
            continue;
        int32_t point = next < count ? list[next++] : covered;
        s->distance[point] = 0;
        point_into(s, point, s->centroids + (size_t)c * (size_t)s->o->d);
    }
    free(list);
}

/* Means of the assigned points. Returns the number of clusters in use. */
static int32_t update_centroids(struct kmeans *s)
{
    int32_t d = s->o->d, used = 0;
    for (int32_t c = 0; c < s->o->k; c++) {
        float *centroid = s->centroids + (size_t)c * (size_t)d;
        used += s->count[c] > 0;
        for (int32_t j = 0; s->count[c] > 0 && j < d; j++)
            centroid[j] = (float)(s->sum[(size_t)c * (size_t)d + (size_t)j] / s->count[c]);
    }
    if (used < s->o->k)
        fill_empty(s);
    return used;
}

static double inertia(const struct kmeans *s)
{
    double sum = 0;
    for (int32_t i = 0; i < s->o->n; i++)
        sum += fmax(s->distance[i], 0);
    return sum;
}

/* Clusters that hold a point under the current assignment. */
static int32_t used_clusters(struct kmeans *s)
{
    int32_t used = 0;
    for (int32_t c = 0; c < s->o->k; c++)
        used += s->count[c] > 0;
    return used;
}

static int one_restart(struct kmeans *s, int32_t restart, struct kmeans_result *r, const struct run *run, struct err *e)
{
    const struct kmeans_options *o = s->o;
    double before = INFINITY;
    if (seed_centroids(s, mix64(o->seed, (uint64_t)restart), run, e) < 0)
        return -1;
    for (r->iterations = 0; r->iterations < o->iterations; r->iterations++) {
        if (run_stopping(run))
            return err_set(e, ERR_INTERRUPTED, "stopped in k-means");
        assign_points(s);
        double now = inertia(s);
        if (update_centroids(s) == o->k && before - now <= 1e-6 * now)
            break;
        before = now;
        if (o->k > KMEANS_EXACT)
            run_report(run, "k-means", r->iterations + 1, o->iterations, "passes", now / o->n);
    }
    assign_points(s);
    r->inertia = inertia(s);
    r->used = used_clusters(s);
    return 0;
}

/* ---- the run ---- */

/* Points that are read where they lie cost no memory. Those that must be gathered are gathered once where they are few, else anew in every pass,
 * in blocks that a processor's cache holds. */
static int32_t host_block(const struct kmeans *s, bool in_place)
{
    size_t row = (size_t)s->o->d * sizeof(float), all = (size_t)s->o->n * row;
    size_t bytes = in_place ? KMEANS_BLOCK : all <= KMEANS_WHOLE ? all : s->be->has_host_memory ? KMEANS_GATHER : KMEANS_BLOCK;
    return row < bytes ? (int32_t)(bytes / row) : 1;
}

/* A device keeps all points where they fit into its memory. */
static void choose_block(struct kmeans *s, bool in_place)
{
    const struct kmeans_options *o = s->o;
    size_t row = (size_t)o->d * sizeof(float);
    int32_t most = host_block(s, in_place);
    s->block = s->points->block > 0 ? s->points->block : s->be->has_host_memory ? most : o->n;
    s->block = s->block < o->n ? s->block : o->n;
    if (s->be->has_host_memory)
        return;
    s->dx = s->be->alloc((size_t)s->block * row);
    if (!s->dx && s->block > most)
        s->dx = s->be->alloc((size_t)(s->block = most) * row);
}

static int kmeans_open(struct kmeans *s, struct err *e)
{
    const struct kmeans_options *o = s->o;
    s->prepared = -1;
    bool in_place = s->points->row == NULL && s->points->levels == 0;
    choose_block(s, in_place);
    size_t points = (size_t)o->n, width = (size_t)o->d, k = (size_t)o->k, block = (size_t)s->block;
    s->dcentroids = s->be->alloc(k * width * sizeof(float));
    s->ddistance = s->be->alloc(block * sizeof(float));
    s->dassign = s->be->alloc(block * sizeof(int32_t));
    if ((!s->be->has_host_memory && !s->dx) || !s->dcentroids || !s->ddistance || !s->dassign)
        return err_set(e, ERR_OS, "no memory for k-means over %d vectors of width %d", o->n, o->d);
    s->host = in_place ? NULL : xmalloc(block * width * sizeof(float));
    s->centroids = xmalloc(k * width * sizeof(float));
    s->distance = xmalloc(points * sizeof(float));
    s->assign = xmalloc(points * sizeof(int32_t));
    s->count = xmalloc(k * sizeof(int32_t));
    s->sum = xmalloc(k * width * sizeof(double));
    return 0;
}

static void kmeans_close(struct kmeans *s)
{
    void *device[] = {s->dx, s->dcentroids, s->ddistance, s->dassign};
    void *host[] = {s->host, s->centroids, s->distance, s->assign, s->count, s->sum};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        s->be->release(device[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
}

int kmeans_run(const struct backend *be, const struct kmeans_options *o, const struct kmeans_points *points, float *centroids, int32_t *assign,
               struct kmeans_result *result, const struct run *run, struct err *e)
{
    if (o->k < 1 || o->k > o->n || o->restarts < 1)
        return err_set(e, ERR_INVALID, "k-means: codes is %d, must be 1 .. %d (the number of documents)", o->k, o->n);
    struct kmeans s = {.be = be, .o = o, .points = points};
    int rc = kmeans_open(&s, e);
    for (int32_t i = 0; rc == 0 && i < o->restarts; i++) {
        struct kmeans_result r;
        rc = one_restart(&s, i, &r, run, e);
        run_report(run, "k-means", i + 1, o->restarts, "restarts", NAN);
        if (rc < 0 || (i > 0 && r.inertia >= result->inertia))
            continue;
        *result = r;
        memcpy(centroids, s.centroids, (size_t)o->k * (size_t)o->d * sizeof(float));
        if (assign)
            memcpy(assign, s.assign, (size_t)o->n * sizeof(int32_t));
    }
    kmeans_close(&s);
    return rc;
}
