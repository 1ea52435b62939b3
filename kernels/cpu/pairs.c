/* pairs.c: see pairs.h. */
#include "pairs.h"

#include <math.h>
#include <string.h>

void bias_expand(float *y, const struct bias_table *t)
{
    int64_t length = bias_length(t);
    for (int32_t at = 0; at < t->queries + t->keys - 1; at++) {
        int32_t ahead = t->keys - 1 - at; /* key - query */
        bool hidden = t->causal && ahead > 0;
        int32_t bucket = t->bias ? attention_bucket(ahead, t->bidirectional, t->buckets, t->max_distance) : 0;
        for (int32_t h = 0; h < t->heads; h++)
            y[h * length + at] = hidden ? -INFINITY : t->bias ? t->bias[bucket * t->heads + h] : 0.0f;
    }
    for (int32_t h = 0; h < t->heads; h++)
        for (int64_t at = t->queries + t->keys - 1; at < length; at++)
            y[h * length + at] = 0.0f;
}

void bias_reduce(float *dbias, float *const *parts, int count, const struct bias_table *t)
{
    int64_t length = bias_length(t);
    for (int32_t at = 0; at < t->queries + t->keys - 1; at++) {
        int32_t bucket = attention_bucket(t->keys - 1 - at, t->bidirectional, t->buckets, t->max_distance);
        for (int32_t h = 0; h < t->heads; h++)
            for (int part = 0; part < count; part++)
                dbias[bucket * t->heads + h] += parts[part][h * length + at];
    }
}

int32_t rows_longest(struct rows r)
{
    int32_t longest = 0;
    for (int32_t b = 0; b < r.count; b++)
        if (r.offsets[b + 1] - r.offsets[b] > longest)
            longest = r.offsets[b + 1] - r.offsets[b];
    return longest;
}

static double row_cost(const struct pairs *p, int32_t row)
{
    return (double)(p->q.offsets[row + 1] - p->q.offsets[row] + 8) * (double)(p->k.offsets[row + 1] - p->k.offsets[row] + 8);
}

static bool is_mine(const struct pairs *p)
{
    double cost = row_cost(p, p->row);
    double middle = (p->before * p->heads + cost * (p->head + 0.5)) / (p->total * p->heads);
    int owner = (int)(middle * p->parts);
    return (owner < p->parts ? owner : p->parts - 1) == p->part;
}

static void advance(struct pairs *p)
{
    if (++p->head < p->heads)
        return;
    p->before += row_cost(p, p->row);
    p->head = 0;
    p->row++;
}

void pairs_first(struct pairs *p)
{
    p->row = p->head = 0;
    p->total = p->before = 0;
    for (int32_t b = 0; b < p->q.count; b++)
        p->total += row_cost(p, b);
    while (p->row < p->q.count && !is_mine(p))
        advance(p);
}

void pairs_next(struct pairs *p)
{
    advance(p);
    while (p->row < p->q.count && !is_mine(p))
        advance(p);
}

int pairs_parts(struct rows q, struct rows k, int32_t heads, int32_t width)
{
    int64_t work = 0;
    for (int32_t b = 0; b < q.count; b++)
        work += (int64_t)(q.offsets[b + 1] - q.offsets[b] + 8) * (k.offsets[b + 1] - k.offsets[b] + 8);
    int parts = parts_for(work / 16 * heads, width);
    return parts < q.count * heads ? parts : (q.count * heads > 0 ? q.count * heads : 1);
}

struct operand operand_of(struct arena *scratch, const float *x, int64_t stride, int32_t rows, int32_t width)
{
    if (width % cpu.simd->lanes == 0 || rows == 0)
        return (struct operand){x, stride};
    int32_t wide = round_up(width, cpu.simd->lanes);
    float *y = arena_take(scratch, (int64_t)rows * wide);
    for (int32_t i = 0; i < rows; i++) {
        memcpy(y + (int64_t)i * wide, x + i * stride, (size_t)width * sizeof *y);
        memset(y + (int64_t)i * wide + width, 0, (size_t)(wide - width) * sizeof *y);
    }
    return (struct operand){y, wide};
}
