/* kmeans.h: k-means over host vectors, for codebooks and for baselines.
 *
 * k-means++ seeding (Arthur and Vassilvitskii 2007), Lloyd iterations on the backend, several restarts, the run with the lowest inertia kept.
 * A cluster that loses all its points is re-seeded with the point farthest from its centroid. Deterministic by seed. */
#ifndef SEMINDEX_KMEANS_H
#define SEMINDEX_KMEANS_H

#include "../../kernels/backend.h"
#include "../base/err.h"
#include "../base/run.h"

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
/* x [n, d] host, centroids [k, d] host out, assign [n] host out (may be NULL). -1: stopped (ERR_INTERRUPTED), no memory, or k > n. */
int kmeans_run(const struct backend *be, const struct kmeans_options *o, const float *x, float *centroids, int32_t *assign,
               struct kmeans_result *result, const struct run *run, struct err *e);

#endif
