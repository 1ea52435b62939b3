/* id_statistics.c: how well codes spread over documents; collapse must never go unnoticed. */
#include "id_statistics.h"
#include "../base/err.h"
#include "../base/mem.h"

#include <math.h>
#include <stdlib.h>

struct prefix_order {
    const uint32_t *codes;
    int32_t stride, columns;
};

static int compare_prefix(const void *a, const void *b, void *context)
{
    const struct prefix_order *o = context;
    const uint32_t *x = o->codes + (size_t)*(const int32_t *)a * (size_t)o->stride;
    const uint32_t *y = o->codes + (size_t)*(const int32_t *)b * (size_t)o->stride;
    for (int32_t i = 0; i < o->columns; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

static int32_t *sorted_documents(const struct prefix_order *o, int32_t n)
{
    int32_t *order = xmalloc((size_t)n * sizeof *order);
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, (size_t)n, sizeof *order, compare_prefix, (void *)o);
    return order;
}

static void count_buckets(const struct prefix_order *o, int32_t n, struct id_statistics *out)
{
    int32_t *order = sorted_documents(o, n), colliding = 0;
    for (int32_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && compare_prefix(&order[i], &order[j], (void *)o) == 0; j++)
            ;
        out->unique_prefixes++;
        out->largest_bucket = j - i > out->largest_bucket ? j - i : out->largest_bucket;
        colliding += j - i > 1 ? j - i : 0;
    }
    out->collision_rate = n ? (double)colliding / n : 0;
    free(order);
}

static void count_codes(const struct prefix_order *o, int32_t n, struct id_statistics *out)
{
    int32_t *order = sorted_documents(o, n);
    double entropy = 0;
    for (int32_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && compare_prefix(&order[i], &order[j], (void *)o) == 0; j++)
            ;
        double share = (double)(j - i) / n;
        entropy -= share * log(share);
        out->codes_used++;
    }
    out->perplexity = exp(entropy);
    free(order);
}

void id_statistics(const uint32_t *codes, int32_t n, int32_t stride, int32_t position, struct id_statistics *out)
{
    const struct prefix_order prefix = {codes, stride, position + 1}, column = {codes + position, stride, 1};
    *out = (struct id_statistics){.documents = n};
    count_buckets(&prefix, n, out);
    count_codes(&column, n, out);
}
