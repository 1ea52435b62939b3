/* kmeans.c: see kmeans.h. The nearest-centroid search is the backend's; sums run on the host in double, in point order, so that a restart
 * gives the same bits on every run. Seeding asks the backend for the distance to one new centroid at a time and keeps the minimum. */
#include "kmeans.h"
#include "../base/mem.h"

#include <math.h>
#include <string.h>

struct kmeans {
    const struct backend *be;
    const struct kmeans_options *o;
    const float *x;
    float *dx, *dcentroids, *ddistance; /* backend memory */
    int32_t *dassign;
    float *centroids, *distance; /* host */
    int32_t *assign, *count;
    double *sum;
};

static void assign_points(struct kmeans *s, int32_t k)
{
    const struct kmeans_options *o = s->o;
    s->be->write(s->dcentroids, s->centroids, (size_t)k * (size_t)o->d * sizeof(float));
    s->be->kmeans_assign(s->dassign, s->ddistance, s->dx, s->dcentroids, o->n, k, o->d);
    s->be->read(s->assign, s->dassign, (size_t)o->n * sizeof(int32_t));
    s->be->read(s->distance, s->ddistance, (size_t)o->n * sizeof(float));
}

/* A point drawn with probability proportional to nearest[i]; total 0 (all points covered) draws uniformly. */
static int32_t draw_point(const double *nearest, int32_t n, double u)
{
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        total += nearest[i];
    if (total <= 0)
        return (int32_t)(u * n);
    for (int32_t i = 0; i < n; i++) {
        sum += nearest[i];
        if (sum > u * total)
            return i;
    }
    return n - 1;
}

static void seed_centroids(struct kmeans *s, uint64_t seed)
{
    const struct kmeans_options *o = s->o;
    size_t row = (size_t)o->d * sizeof(float);
    double *nearest = xmalloc((size_t)o->n * sizeof *nearest);
    float *all = xmalloc((size_t)o->k * row);
    for (int32_t i = 0; i < o->n; i++)
        nearest[i] = 1;
    for (int32_t c = 0; c < o->k; c++) {
        int32_t point = draw_point(nearest, o->n, mix_uniform(seed, (uint64_t)c));
        memcpy(all + (size_t)c * (size_t)o->d, s->x + (size_t)point * (size_t)o->d, row);
        memcpy(s->centroids, s->x + (size_t)point * (size_t)o->d, row);
        assign_points(s, 1);
        for (int32_t i = 0; i < o->n; i++)
            nearest[i] = c == 0 || s->distance[i] < nearest[i] ? fmax(s->distance[i], 0) : nearest[i];
    }
    memcpy(s->centroids, all, (size_t)o->k * row);
    free(nearest);
    free(all);
}

static int32_t farthest_point(const struct kmeans *s)
{
    int32_t best = 0;
    for (int32_t i = 1; i < s->o->n; i++)
        if (s->distance[i] > s->distance[best])
            best = i;
    return best;
}

/* Means of the assigned points; empty clusters take the farthest points. Returns the number of clusters in use. */
static int32_t update_centroids(struct kmeans *s)
{
    int32_t d = s->o->d, used = 0;
    memset(s->sum, 0, (size_t)s->o->k * (size_t)d * sizeof(double));
    memset(s->count, 0, (size_t)s->o->k * sizeof(int32_t));
    for (int32_t i = 0; i < s->o->n; i++) {
        double *sum = s->sum + (size_t)s->assign[i] * (size_t)d;
        s->count[s->assign[i]]++;
        for (int32_t j = 0; j < d; j++)
            sum[j] += (double)s->x[(size_t)i * (size_t)d + (size_t)j];
    }
    for (int32_t c = 0; c < s->o->k; c++) {
        float *centroid = s->centroids + (size_t)c * (size_t)d;
        used += s->count[c] > 0;
        if (s->count[c] == 0) {
            int32_t point = farthest_point(s);
            s->distance[point] = 0;
            memcpy(centroid, s->x + (size_t)point * (size_t)d, (size_t)d * sizeof(float));
            continue;
        }
        for (int32_t j = 0; j < d; j++)
            centroid[j] = (float)(s->sum[(size_t)c * (size_t)d + (size_t)j] / s->count[c]);
    }
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
    memset(s->count, 0, (size_t)s->o->k * sizeof(int32_t));
    for (int32_t i = 0; i < s->o->n; i++)
        used += s->count[s->assign[i]]++ == 0;
    return used;
}

static int one_restart(struct kmeans *s, int32_t restart, struct kmeans_result *r, const struct run *run, struct err *e)
{
    const struct kmeans_options *o = s->o;
    double before = INFINITY;
    seed_centroids(s, mix64(o->seed, (uint64_t)restart));
    for (r->iterations = 0; r->iterations < o->iterations; r->iterations++) {
        if (run_stopping(run))
            return err_set(e, ERR_INTERRUPTED, "stopped in k-means");
        assign_points(s, o->k);
        double now = inertia(s);
        if (update_centroids(s) == o->k && before - now <= 1e-6 * now)
            break;
        before = now;
    }
    assign_points(s, o->k);
    r->inertia = inertia(s);
    r->used = used_clusters(s);
    return 0;
}

static int kmeans_open(struct kmeans *s, struct err *e)
{
    const struct kmeans_options *o = s->o;
    size_t points = (size_t)o->n, width = (size_t)o->d, k = (size_t)o->k;
    s->dx = s->be->alloc(points * width * sizeof(float));
    s->dcentroids = s->be->alloc(k * width * sizeof(float));
    s->ddistance = s->be->alloc(points * sizeof(float));
    s->dassign = s->be->alloc(points * sizeof(int32_t));
    if (!s->dx || !s->dcentroids || !s->ddistance || !s->dassign)
        return err_set(e, ERR_OS, "no memory for k-means over %d vectors of width %d", o->n, o->d);
    s->be->write(s->dx, s->x, points * width * sizeof(float));
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
    void *host[] = {s->centroids, s->distance, s->assign, s->count, s->sum};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        s->be->release(device[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
}

int kmeans_run(const struct backend *be, const struct kmeans_options *o, const float *x, float *centroids, int32_t *assign,
               struct kmeans_result *result, const struct run *run, struct err *e)
{
    if (o->k < 1 || o->k > o->n || o->restarts < 1)
        return err_set(e, ERR_INVALID, "k-means: codes is %d, must be 1 .. %d (the number of documents)", o->k, o->n);
    struct kmeans s = {.be = be, .o = o, .x = x};
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
