/* bootstrap.c: see bootstrap.h.
 *
 * All columns of a query are added together, so that a resample's draws are made once and memory is read row by row. The randomisation test
 * flips the sign of each query's difference by a bit of a hash of (seed, shuffle, query / 64): under the null hypothesis both
 * rankings are interchangeable per query. Sums in the order of queries; a sum that equals the observed one up to rounding counts as equal. */
#include "bootstrap.h"
#include "../base/mem.h"
#include "../../kernels/check.h"
#include "../../kernels/backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHUFFLE_STREAM = 0x5f17 };

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double quantile(const double *sorted, int32_t n, double p)
{
    double at = p * (n - 1);
    int32_t i = (int32_t)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* Means of one resample into mean[c * stride]. */
static void resample(const struct bootstrap_values *v, uint64_t seed, double *mean, int32_t stride)
{
    for (int32_t c = 0; c < v->columns; c++)
        mean[(int64_t)c * stride] = 0;
    for (int64_t i = 0; i < v->n; i++) {
        const double *row = v->value + (int64_t)(mix64(seed, (uint64_t)i) % (uint64_t)v->n) * v->columns;
        for (int32_t c = 0; c < v->columns; c++)
            mean[(int64_t)c * stride] += row[c];
    }
    for (int32_t c = 0; c < v->columns; c++)
        mean[(int64_t)c * stride] /= (double)v->n;
}

void bootstrap_intervals(const struct bootstrap_values *v, int32_t resamples, uint64_t seed, struct bootstrap_interval *out)
{
    CHECK(v->n >= 1 && resamples >= 1);
    double *means = xcalloc((size_t)resamples * (size_t)v->columns, sizeof *means);
    for (int32_t r = 0; r < resamples; r++)
        resample(v, mix64(seed, (uint64_t)r), means + r, resamples);
    for (int32_t c = 0; c < v->columns; c++) {
        double *sorted = means + (int64_t)c * resamples;
        qsort(sorted, (size_t)resamples, sizeof *sorted, ascending);
        out[c] = (struct bootstrap_interval){quantile(sorted, resamples, 0.025), quantile(sorted, resamples, 0.975)};
    }
    free(means);
}

static void flipped_sum(const struct bootstrap_values *d, uint64_t seed, double *sum)
{
    memset(sum, 0, (size_t)d->columns * sizeof *sum);
    for (int64_t i = 0; i < d->n; i++) {
        double sign = mix64(seed, (uint64_t)i / 64) >> (i % 64) & 1 ? -1 : 1;
        for (int32_t c = 0; c < d->columns; c++)
            sum[c] += sign * d->value[i * d->columns + c];
    }
}

static void randomise(const struct bootstrap_values *d, uint64_t seed, struct bootstrap_pair *out)
{
    double *sum = xcalloc((size_t)d->columns, sizeof *sum);
    int64_t *far = xcalloc((size_t)d->columns, sizeof *far);
    for (int32_t s = 0; s < BOOTSTRAP_SHUFFLES; s++) {
        flipped_sum(d, mix64(mix64(seed, SHUFFLE_STREAM), (uint64_t)s), sum);
        for (int32_t c = 0; c < d->columns; c++)
            far[c] += fabs(sum[c]) >= fabs(out[c].difference) * (double)d->n * (1 - 1e-12) - 1e-12;
    }
    for (int32_t c = 0; c < d->columns; c++)
        out[c].p = (1.0 + (double)far[c]) / (1.0 + BOOTSTRAP_SHUFFLES);
    free(far);
    free(sum);
}

void bootstrap_compare(const struct bootstrap_values *a, const struct bootstrap_values *b, uint64_t seed, struct bootstrap_pair *out)
{
    CHECK(a->n == b->n && a->columns == b->columns && a->n >= 1);
    int32_t columns = a->columns;
    double *d = xcalloc((size_t)a->n * (size_t)columns, sizeof *d);
    struct bootstrap_interval *intervals = xcalloc((size_t)columns, sizeof *intervals);
    for (int64_t i = 0; i < a->n * columns; i++) {
        d[i] = a->value[i] - b->value[i];
        out[i % columns].difference = (i < columns ? 0 : out[i % columns].difference) + d[i];
    }
    const struct bootstrap_values differences = {d, a->n, columns};
    bootstrap_intervals(&differences, BOOTSTRAP_RESAMPLES, seed, intervals);
    for (int32_t c = 0; c < columns; c++) {
        out[c].difference /= (double)a->n;
        out[c].interval = intervals[c];
    }
    randomise(&differences, seed, out);
    free(intervals);
    free(d);
}
