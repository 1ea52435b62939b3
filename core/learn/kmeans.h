/* kmeans.h: k-means over host vectors, for codebooks and for baselines.
 *
 * Seeding as k-means++ (Arthur and Vassilvitskii 2007: a point is drawn in proportion to its squared distance to the nearest centroid), Lloyd
 * iterations on the backend, several restarts, the run with the lowest inertia kept. Up to k = KMEANS_EXACT centroids are drawn one by one; more
 * come in rounds: as many as 1 / KMEANS_ROUND of those there are, or of those still wanted, by the distances at the round's beginning (the idea of
 * k-means||, Bahmani et al. 2012): some 500 passes over the points for k = 51,200 instead of k. A cluster that loses all its points takes the point
 * farthest from its centroid. Deterministic by seed.
 *
 * Points are read in blocks of at most KMEANS_BLOCK bytes, so x may be a mapped file larger than memory. Those of a list, or less what codebooks took,
 * are gathered: once up to KMEANS_WHOLE bytes, else in every pass, KMEANS_GATHER bytes at a time. Besides, the run keeps a few numbers a point and
 * k x d floats and doubles. Work of a pass: 2 n k d operations; no step is quadratic in n or k. */
#ifndef SEMINDEX_KMEANS_H
#define SEMINDEX_KMEANS_H

#include "../../kernels/backend.h"
#include "../base/err.h"
#include "../base/run.h"

enum { KMEANS_EXACT = 512, KMEANS_ROUND = 32, KMEANS_ROUND_MOST = 4096, KMEANS_WHOLE = 1 << 28, KMEANS_BLOCK = 1 << 26, KMEANS_GATHER = 1 << 23 };

/* What is clustered: rows of x, all in order or those of a list, as they are or what codebooks have left of them. */
struct kmeans_points {
    const float *x;             /* [.., d] host */
    const int32_t *row;         /* [n] rows of x, or NULL: 0 .. n - 1 */
    int32_t levels;             /* codebooks to be taken off, first to last; 0 = none */
    float *const *codebook;     /* [levels] of [codes, d] */
    int32_t *const *code;       /* [levels] of [n] */
    int32_t block;              /* points at once; 0 = as the sizes above say (tests give few) */
};

struct kmeans_options {
    int32_t n, d, k; /* points, width, clusters; k <= n */
    int32_t restarts, iterations;
    uint64_t seed;
};
struct kmeans_result {
    double inertia;     /* sum of squared distances */
    int32_t iterations; /* of the best restart */
    int32_t used;       /* clusters with a point; fewer than k only when points coincide */
};
/* centroids [k, d] host out, assign [n] host out (may be NULL). -1: stopped (ERR_INTERRUPTED), no memory, or k > n. */
int kmeans_run(const struct backend *be, const struct kmeans_options *o, const struct kmeans_points *points, float *centroids, int32_t *assign,
               struct kmeans_result *result, const struct run *run, struct err *e);

#endif
