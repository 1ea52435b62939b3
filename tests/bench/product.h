/* product.h: the speed of a large product through a backend, which floors of operations are reckoned by. */
#ifndef SEMINDEX_PRODUCT_H
#define SEMINDEX_PRODUCT_H

#include "../../core/base/mem.h"
#include "../../kernels/backend.h"

static inline struct act *product_random(const struct backend *be, int64_t n)
{
    float *host = xmalloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = mix_uniform(1, (uint64_t)i) - 0.5f;
    struct act *x = be->act_alloc(n);
    CHECK(x != NULL);
    be->upload(x, host, n);
    free(host);
    return x;
}

/* GFLOP/s of 1,024 x 1,024 x 3,072, best of several by the caller's clock; host memory only. */
static inline double product_gflops(const struct backend *be, double (*now_s)(void))
{
    enum { N = 1024, IN = 1024, OUT = 3072 };
    struct weight w = {.rows = OUT, .cols = IN, .master = (float *)product_random(be, (int64_t)OUT * IN)};
    struct act *x = product_random(be, (int64_t)N * IN), *y = product_random(be, (int64_t)N * OUT);
    CHECK(be->weight_open(&w, WEIGHT_INFER) == 0);
    double best = 1e9, begin = now_s();
    for (int i = 0; i < 4 || now_s() - begin < 0.4; i++) {
        double start = now_s();
        be->linear(y, x, &w, N, 1, 0);
        double took = now_s() - start;
        best = took < best ? took : best;
    }
    be->weight_close(&w);
    be->release(w.master);
    be->release(x);
    be->release(y);
    return 2e-9 * N * IN * OUT / best;
}

#endif
