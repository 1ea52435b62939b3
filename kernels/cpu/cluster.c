/* cluster.c: ops over document vectors: nearest centroid, and the contrastive loss.
 *
 * kmeans_assign ranks centroids by |c|^2 - 2 x . c, computed panel by panel: a panel of centroids is transposed once and meets a block of
 * rows; within a row centroids come in ascending order and only a strictly smaller value replaces, so equal centroids give the lowest
 * index. The reported distance is computed afresh from the differences, free of the cancellation in that form. contrastive computes all
 * probabilities first, divided by documents, then adds gradients divided by COLUMN, as candidates repeat. */
#include <math.h>
#include <string.h>

#include "cpu.h"

enum { BLOCK = 1024 };

struct nearest {
    int32_t *assign;
    float *distance;
    const float *x, *centroids;
    int32_t n, k, d;
};

static void block_nearest(const struct nearest *t, struct arena scratch, int64_t first, int32_t rows)
{
    int32_t wide = 2 * cpu.simd->lanes;
    float *panel = arena_take(&scratch, (int64_t)t->d * wide), *dots = arena_take(&scratch, (int64_t)rows * wide);
    float *best = arena_take(&scratch, rows), half[64];
    for (int32_t i = 0; i < rows; i++)
        best[i] = INFINITY;
    for (int32_t c = 0; c < t->k; c += wide) {
        int32_t count = t->k - c < wide ? t->k - c : wide;
        const float *centroid = t->centroids + (int64_t)c * t->d;
        cpu.simd->transpose(panel, wide, centroid, t->d, count, t->d);
        for (int32_t j = 0; j < count; j++)
            half[j] = 0.5f * cpu.simd->dot(centroid + (int64_t)j * t->d, centroid + (int64_t)j * t->d, t->d);
        cpu.simd->product(&(struct product){rows, count, t->d, t->x + first * t->d, t->d, 1, panel, wide, wide, dots, wide, -1.0f, 0});
        for (int32_t i = 0; i < rows; i++)
            for (int32_t j = 0; j < count; j++)
                if (dots[(int64_t)i * wide + j] + half[j] < best[i]) {
                    best[i] = dots[(int64_t)i * wide + j] + half[j];
                    t->assign[first + i] = c + j;
                }
    }
}

static void nearest_part(void *arg, int part, int parts)
{
    const struct nearest *t = arg;
    struct span s = pool_span(t->n, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i += BLOCK)
        block_nearest(t, arena_of(part), i, (int32_t)(s.end - i < BLOCK ? s.end - i : BLOCK));
    for (int64_t i = s.begin; i < s.end && t->distance; i++)
        t->distance[i] = cpu.simd->distance(t->x + i * t->d, t->centroids + (int64_t)t->assign[i] * t->d, t->d);
}

void cpu_kmeans_assign(int32_t *assign, float *distance, const float *x, const float *centroids, int32_t n, int32_t k, int32_t d)
{
    struct nearest t = {assign, distance, x, centroids, n, k, d};
    pool_run(nearest_part, &t, parts_for(n, (int64_t)k * d / 16));
}

struct contrast {
    const struct contrastive *a;
    float *p;     /* [candidates] softmax, minus 1 at the first, times the factor */
    double *loss; /* [n] */
    float factor; /* weight / documents counted */
};

static const float *row_of(const struct contrast *t, int32_t i)
{
    return act_data(t->a->h) + (int64_t)i * t->a->d;
}

static void softmax_part(void *arg, int part, int parts)
{
    const struct contrast *t = arg;
    const struct contrastive *a = t->a;
    struct span s = pool_span(a->n, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i++) {
        int32_t first = a->offsets[i], count = a->offsets[i + 1] - first;
        float *p = t->p + first;
        t->loss[i] = 0;
        if (count < 2)
            continue;
        for (int32_t c = 0; c < count; c++)
            p[c] = a->inv_temperature * cpu.simd->dot(row_of(t, a->anchors[i]), row_of(t, a->candidates[first + c]), a->d);
        float positive = p[0], top = cpu.simd->max(p, count), sum = cpu.simd->exp_sum(p, top, count);
        t->loss[i] = (double)top - (double)positive + log((double)sum);
        cpu.simd->scale(p, 1.0f / sum, count);
        p[0] -= 1.0f;
        cpu.simd->scale(p, t->factor * a->inv_temperature, count);
    }
}

static void contrast_gradient_part(void *arg, int part, int parts)
{
    const struct contrast *t = arg;
    const struct contrastive *a = t->a;
    struct span s = pool_span(a->d, 16, part, parts);
    int64_t width = s.end - s.begin;
    for (int32_t i = 0; i < a->n && width > 0; i++) {
        if (a->offsets[i + 1] - a->offsets[i] < 2)
            continue;
        int64_t anchor = (int64_t)a->anchors[i] * a->d + s.begin;
        for (int32_t c = a->offsets[i]; c < a->offsets[i + 1]; c++) {
            int64_t candidate = (int64_t)a->candidates[c] * a->d + s.begin;
            cpu.simd->axpy(act_data(a->dh) + anchor, t->p[c], act_data(a->h) + candidate, width);
            cpu.simd->axpy(act_data(a->dh) + candidate, t->p[c], act_data(a->h) + anchor, width);
        }
    }
}

void cpu_contrastive(const struct contrastive *a)
{
    struct arena shared = {cpu.shared, 0};
    struct contrast t = {.a = a};
    int32_t counted = 0;
    double total = 0;
    for (int32_t i = 0; i < a->n; i++)
        counted += a->offsets[i + 1] - a->offsets[i] >= 2;
    t.factor = counted > 0 ? a->weight / (float)counted : 0.0f;
    t.loss = (double *)(void *)arena_take(&shared, 2 * (int64_t)a->n + 2);
    t.p = arena_take(&shared, a->n > 0 ? (int64_t)a->offsets[a->n] + 1 : 1);
    int64_t cost = a->n > 0 ? (int64_t)a->offsets[a->n] / a->n * a->d : 1;
    pool_run(softmax_part, &t, parts_for(a->n, cost));
    for (int32_t i = 0; i < a->n; i++)
        total += t.loss[i];
    *a->loss = counted > 0 ? (float)(a->weight * total / counted) : 0.0f;
    if (!a->dh || counted == 0)
        return;
    int parts = parts_for((a->d + 15) / 16, 16 * cost);
    pool_run(contrast_gradient_part, &t, parts);
}
