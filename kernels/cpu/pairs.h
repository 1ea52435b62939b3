/* pairs.h: what the attention files share: bias tables, division of (row, head) pairs by cost, padded copies.
 *
 * Bias by distance: head h's table holds bias[bucket(key - query)] at index query - key + keys - 1, so that one key further is one element
 * back and consecutive queries are consecutive elements (see struct columns). Causal masking is -inf in the same table. Each table is
 * `length` = queries + keys + 64 long, the rest 0. */
#ifndef SEMINDEX_PAIRS_H
#define SEMINDEX_PAIRS_H

#include "cpu.h"

struct bias_table {
    const float *bias; /* [buckets, heads] or NULL */
    int32_t heads, buckets, max_distance;
    bool bidirectional, causal;
    int32_t queries, keys; /* longest */
};
static inline int64_t bias_length(const struct bias_table *t)
{
    return ((int64_t)t->queries + t->keys + 64 + 15) / 16 * 16;
}
/* Fills [heads, bias_length]. Needed when there is a bias or a causal mask. */
void bias_expand(float *y, const struct bias_table *t);
/* dbias[bucket, head] += the sum of `parts` tables of the same layout, at parts[i], in order. */
void bias_reduce(float *dbias, float *const *parts, int count, const struct bias_table *t);

int32_t rows_longest(struct rows r);

/* The pairs (row, head) of part `part`: those whose midpoint, in units of cost, falls into its share. Iterate: for (pairs_first(..);
 * p.row < count; pairs_next(..)). cost of row b = (queries + 8) * (keys + 8). */
struct pairs {
    struct rows q, k;
    int32_t heads, row, head;
    int part, parts;
    double total, before; /* cost of all rows (one head), of the rows before `row` */
};
void pairs_first(struct pairs *p);
void pairs_next(struct pairs *p);
/* Parts worth starting for this much work: width = width of a head. */
int pairs_parts(struct rows q, struct rows k, int32_t heads, int32_t width);

/* A right operand of a product: the rows x[i * stride .. + width) as they lie when width is a multiple of the lanes, else a padded copy. */
struct operand {
    const float *data;
    int64_t stride;
};
struct operand operand_of(struct arena *scratch, const float *x, int64_t stride, int32_t rows, int32_t width);

#endif
