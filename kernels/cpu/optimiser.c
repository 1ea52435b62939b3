/* optimiser.c: AdamW over flat blocks, and the norm that clipping needs.
 *
 * Order of one step (fixtures README, "AdamW"): clip, decay, moments, update; bias corrections in double. The norm is summed in double, in
 * blocks of fixed length whose sums are added in order, so it does not depend on the thread count. */
#include <math.h>

#include "cpu.h"

enum { BLOCK = 65536, BLOCKS_MAX = CPU_SCRATCH / 2 };

struct squares {
    const float *x;
    int64_t n;
    double *sums;
};

static void squares_part(void *arg, int part, int parts)
{
    const struct squares *t = arg;
    int64_t blocks = (t->n + BLOCK - 1) / BLOCK;
    struct span s = pool_span(blocks, 1, part, parts);
    for (int64_t b = s.begin; b < s.end; b++)
        t->sums[b] = cpu.simd->sum_squares(t->x + b * BLOCK, t->n - b * BLOCK < BLOCK ? t->n - b * BLOCK : BLOCK);
}

double cpu_sum_squares(const float *x, int64_t n)
{
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    CHECK(blocks <= BLOCKS_MAX);
    struct squares t = {x, n, (double *)(void *)cpu.shared};
    pool_run(squares_part, &t, parts_for(blocks, BLOCK));
    double total = 0;
    for (int64_t b = 0; b < blocks; b++)
        total += t.sums[b];
    return total;
}

struct step {
    float *w, *m, *v;
    const float *grad;
    int64_t n;
    struct adamw_step constants;
};

static void adamw_part(void *arg, int part, int parts)
{
    const struct step *t = arg;
    struct span s = pool_span(t->n, 64, part, parts);
    cpu.simd->adamw(t->w + s.begin, t->grad + s.begin, t->m + s.begin, t->v + s.begin, s.end - s.begin, &t->constants);
}

void cpu_adamw(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw *a)
{
    double share = a->clip > 0.0f ? (double)a->clip / (a->norm + 1e-6) : 1.0;
    double root = 1.0 - pow((double)a->beta2, (double)a->step), first = 1.0 - pow((double)a->beta1, (double)a->step);
    struct step t = {w, m, v, grad, n, {
        .clip = (float)(share < 1.0 ? share : 1.0),
        .decay = (float)((double)a->lr * (double)a->weight_decay),
        .beta1 = a->beta1,
        .beta2 = a->beta2,
        .rate = (float)((double)a->lr / first),
        .root = (float)(1.0 / root),
        .eps = a->eps,
    }};
    pool_run(adamw_part, &t, parts_for(n, 4));
}
