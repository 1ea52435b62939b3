/* optimiser.cu: AdamW over flat f32 blocks in one pass, and the norm that clipping needs.
 *
 * Order of one step (fixtures README, "AdamW"): clip, decay, moments, update; bias corrections are made on the host, in double. The sum of
 * squares is made in double: every block sums a stretch of fixed length, the host adds the stretches in order, so the same gradient gives
 * the same bits on any device. */
#include "wide.h"

#include <math.h>

enum { THREADS = 256, EACH = 4, STRETCH = 1 << 15, STRETCHES_MOST = 1 << 17 };

template <bool VECTOR> static __global__ void squares_kernel(gp<double> sums, gp<const float> x, int64_t n)
{
    SHARED(double, room, THREADS / WARP);
    const int64_t from = (int64_t)block_x() * STRETCH, end = from + STRETCH < n ? from + STRETCH : n;
    double sum = 0;
    for (int64_t i = from + thread_x() * WIDE; i < end; i += THREADS * WIDE) {
        const octet v = take<VECTOR>(x, i, end - i);
        UNROLL
        for (int k = 0; k < WIDE; k++)
            sum += (double)v.v[k] * (double)v.v[k];
    }
    sum = block_sum(sum, room);
    if (thread_x() == 0)
        sums[block_x()] = sum;
}

double cuda_sum_squares(const float *x, int64_t n)
{
    static double host[STRETCHES_MOST];
    const int64_t blocks = blocks_for(n, STRETCH);
    if (n <= 0)
        return 0;
    CHECK(blocks <= STRETCHES_MOST);
    double *sums = (double *)platform_scratch((size_t)blocks * sizeof *sums), total = 0;
    WIDE_LAUNCH(wide_at(x), squares_kernel, dim_of(blocks), THREADS,
                (cost{(double)n * sizeof(float) + (double)blocks * sizeof *sums, 2.0 * (double)n}), sums, x, n);
    platform_read(host, sums, (size_t)blocks * sizeof *sums);
    for (int64_t b = 0; b < blocks; b++)
        total += host[b];
    return total;
}

namespace {
struct step {
    float clip, decay, beta1, beta2, rate, root, eps;
};
}

DEVICE void update(const step &s, float grad, float *w, float *m, float *v)
{
    const float g = grad * s.clip, x = *w - s.decay * *w;
    *m = s.beta1 * *m + (1.0f - s.beta1) * g;
    *v = s.beta2 * *v + (1.0f - s.beta2) * (g * g);
    *w = x - s.rate * *m / (sqrtf(*v * s.root) + s.eps);
}

DEVICE void update_one(const step &s, gp<float> w, gp<const float> grad, gp<float> m, gp<float> v, int64_t i)
{
    float wi = w[i], mi = m[i], vi = v[i];
    update(s, grad[i], &wi, &mi, &vi);
    w[i] = wi;
    m[i] = mi;
    v[i] = vi;
}

static __global__ void adamw_kernel(gp<float> w, gp<const float> grad, gp<float> m, gp<float> v, int64_t n, step s)
{
    const int64_t i = ((int64_t)block_x() * THREADS + thread_x()) * EACH;
    if (i + EACH > n) {
        for (int64_t k = i; k < n; k++)
            update_one(s, w, grad, m, v, k);
        return;
    }
    const four g = load4(grad, i);
    four wi = load4(gp<const float>(w), i), mi = load4(gp<const float>(m), i), vi = load4(gp<const float>(v), i);
    update(s, g.x, &wi.x, &mi.x, &vi.x);
    update(s, g.y, &wi.y, &mi.y, &vi.y);
    update(s, g.z, &wi.z, &mi.z, &vi.z);
    update(s, g.w, &wi.w, &mi.w, &vi.w);
    store4(w, i, wi);
    store4(m, i, mi);
    store4(v, i, vi);
}

/* Blocks whose addresses do not allow four at once. */
static __global__ void adamw_scalar_kernel(gp<float> w, gp<const float> grad, gp<float> m, gp<float> v, int64_t n, step s)
{
    const int64_t i = (int64_t)block_x() * THREADS + thread_x();
    if (i < n)
        update_one(s, w, grad, m, v, i);
}

void cuda_adamw(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw *a)
{
    if (n <= 0)
        return;
    const double share = a->clip > 0.0f ? (double)a->clip / (a->norm + 1e-6) : 1.0;
    const double root = 1.0 - pow((double)a->beta2, (double)a->step), first = 1.0 - pow((double)a->beta1, (double)a->step);
    const step s = {(float)(share < 1.0 ? share : 1.0), (float)((double)a->lr * (double)a->weight_decay), a->beta1, a->beta2,
                    (float)((double)a->lr / first), (float)(1.0 / root), a->eps};
    const struct cost cost = {28.0 * (double)n, 14.0 * (double)n};
    const bool wide = (((uintptr_t)w | (uintptr_t)grad | (uintptr_t)m | (uintptr_t)v) & (EACH * sizeof(float) - 1)) == 0;
    if (wide)
        LAUNCH((adamw_kernel), dim_of(blocks_for(n, THREADS * EACH)), THREADS, cost, w, grad, m, v, n, s);
    else
        LAUNCH((adamw_scalar_kernel), dim_of(blocks_for(n, THREADS)), THREADS, cost, w, grad, m, v, n, s);
}
