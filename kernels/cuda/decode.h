/* decode.h: one warp attends for one (beam row, head) of a cached decode step: what decode.cu and stack.cu share.
 *
 * In self-attention the warp takes its row's new key and value straight from the qkv product and also puts them into the cache, where only
 * later positions look for them, so no warp waits for another. In cross-attention the keys are a request's rows of k and v. The lanes are four groups
 * of eight; a group holds one key's columns, eight to a lane, so that four keys are in flight at once and a dot product ends with three
 * shuffles. A chunk of 32 keys keeps one score in each lane; every search of ours fits its positions into one chunk, and what is longer has its
 * scores computed once more for each window of 64 columns of the output.
 *
 * Rows beyond the live beams may hold anything: their parents are brought into range when the table of ancestors is made, so that it never points
 * outside its page. */
#ifndef SEMINDEX_DECODE_H
#define SEMINDEX_DECODE_H

#include "cuda.h"

enum { GROUP = 8, GROUPS = WARP / GROUP, WINDOW = 8 * GROUP };

namespace { /* other files have types of these names */
struct decode {
    int32_t heads, width, n, position, capacity, q_stride, kv_stride, max_distance;
    bool wide, biased; /* wide: eight neighbours may be loaded at once */
    gp<const real> q, k, v;
    gp<real> k_cache, v_cache, out;
    gp<const int32_t> anc;
    gp<const float> bias;
    gp<const uint8_t> bucket;
};
struct decode_row { /* what a warp works on */
    int32_t row, head;
    int32_t keys;  /* how many it attends */
    int32_t first; /* cross-attention: the first of them, a row of k and v; self-attention: -1 */
};
struct chunk { /* of 32 positions: this lane's own */
    int32_t first, count, from; /* from: the cache row of position first + lane */
    float score;
};
struct lane8 {
    float x[8];
};
}

/* Columns c .. c + 7 of a head; those beyond its width are 0. */
DEVICE lane8 load_columns(const decode &d, gp<const real> from, int64_t at, int32_t c)
{
    lane8 y;
    if (d.wide && c < d.width) {
        const four a = load4(from, at + c), b = load4(from, at + c + 4);
        y = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
    } else {
        for (int i = 0; i < 8; i++)
            y.x[i] = c + i < d.width ? to_float(from[at + c + i]) : 0.0f;
    }
    return y;
}

DEVICE void store_columns(const decode &d, gp<real> to, int64_t at, int32_t c, const lane8 &y)
{
    if (d.wide && c < d.width) {
        store4(to, at + c, {y.x[0], y.x[1], y.x[2], y.x[3]});
        store4(to, at + c + 4, {y.x[4], y.x[5], y.x[6], y.x[7]});
    } else {
        for (int i = 0; i < 8; i++)
            if (c + i < d.width)
                to[at + c + i] = to_real(y.x[i]);
    }
}

/* Columns of the key or value of position p, cached in row `from`; the newest is not read from the cache, and no key of a cross-attention. */
DEVICE lane8 past_columns(const decode &d, const decode_row &r, gp<const real> fresh, gp<const real> cache, int32_t p, int32_t from,
                          int32_t c)
{
    if (r.first >= 0)
        return load_columns(d, fresh, (int64_t)(r.first + p) * d.kv_stride + r.head * d.width, c);
    if (p == d.position)
        return load_columns(d, fresh, (int64_t)r.row * d.kv_stride + r.head * d.width, c);
    return load_columns(d, cache, (((int64_t)p * d.capacity + from) * d.heads + r.head) * d.width, c);
}

DEVICE float bias_of(const decode &d, int32_t head, int32_t p)
{
    if (!d.biased)
        return 0.0f;
    const int32_t back = d.position - p < d.max_distance ? d.position - p : d.max_distance;
    return d.bias[(int32_t)d.bucket[d.max_distance - back] * d.heads + head];
}

/* q . k of one position, the same in all lanes of the group; 0 where the chunk has ended. */
DEVICE float group_dot(const decode &d, const decode_row &r, int32_t p, int32_t from, bool live)
{
    float sum = 0.0f;
    for (int32_t c = thread_x() % GROUP * 8; live && c < d.width; c += WINDOW) {
        const lane8 q = load_columns(d, d.q, (int64_t)r.row * d.q_stride + r.head * d.width, c);
        const lane8 k = past_columns(d, r, d.k, d.k_cache, p, from, c);
        for (int i = 0; i < 8; i++)
            sum = fmaf(q.x[i], k.x[i], sum);
    }
    for (int step = GROUP / 2; step > 0; step /= 2)
        sum += shuffle_xor(sum, step);
    return sum;
}

DEVICE chunk chunk_scores(const decode &d, const decode_row &r, int32_t first)
{
    const int lane = thread_x() % WARP, group = lane / GROUP;
    const int32_t p = first + lane, left = r.keys - first;
    chunk c = {first, left < WARP ? left : WARP, r.row, -INFINITY};
    if (r.first < 0 && p < d.position)
        c.from = d.anc[(int64_t)p * d.capacity + r.row];
    const float bias = lane < c.count ? bias_of(d, r.head, p) : -INFINITY;
    for (int i = 0; i < c.count; i += GROUPS) {
        const int32_t from = shuffle(c.from, i + group);
        const float dot = group_dot(d, r, first + i + group, from, i + group < c.count);
        const float mine = shuffle(dot, lane % GROUPS * GROUP);
        if (lane / GROUPS == i / GROUPS)
            c.score = mine + bias;
    }
    return c;
}

/* Adds a chunk's share of eight output columns; the sum over the groups is made once at the end. */
DEVICE void add_values(const decode &d, const decode_row &r, const chunk &c, float p, int32_t column, lane8 &y)
{
    const int group = thread_x() % WARP / GROUP;
    for (int i = 0; i < c.count; i += GROUPS) {
        const float weight = shuffle(p, i + group);
        const int32_t from = shuffle(c.from, i + group);
        if (i + group >= c.count || column >= d.width)
            continue;
        const lane8 v = past_columns(d, r, d.v, d.v_cache, c.first + i + group, from, column);
        for (int j = 0; j < 8; j++)
            y.x[j] = fmaf(weight, v.x[j], y.x[j]);
    }
}

DEVICE void keep_new(const decode &d, const decode_row &r)
{
    const int64_t from = (int64_t)r.row * d.kv_stride + r.head * d.width;
    const int64_t to = (((int64_t)d.position * d.capacity + r.row) * d.heads + r.head) * d.width;
    const bool value = thread_x() % WARP >= WARP / 2;
    for (int32_t c = thread_x() % (WARP / 2) * 8; c < d.width; c += WARP / 2 * 8)
        store_columns(d, value ? d.v_cache : d.k_cache, to, c, load_columns(d, value ? d.v : d.k, from, c));
}

DEVICE void attend_row(const decode &d, const decode_row &r)
{
    const int lane = thread_x() % WARP;
    chunk c = chunk_scores(d, r, 0);
    float top = warp_max(c.score), sum = warp_sum(expf(c.score - top));
    const bool one = r.keys <= WARP;
    for (int32_t first = WARP; first < r.keys; first += WARP) {
        c = chunk_scores(d, r, first);
        const float next = fmaxf(top, warp_max(c.score));
        sum = sum * expf(top - next) + warp_sum(expf(c.score - next));
        top = next;
    }
    for (int32_t window = 0; window < d.width; window += WINDOW) {
        lane8 y = {{0, 0, 0, 0, 0, 0, 0, 0}};
        const int32_t column = window + lane % GROUP * 8;
        for (int32_t first = 0; first < r.keys; first += WARP) {
            if (!one)
                c = chunk_scores(d, r, first);
            add_values(d, r, c, expf(c.score - top) / sum, column, y);
        }
        for (int i = 0; i < 8; i++)
            for (int step = GROUP; step < WARP; step *= 2)
                y.x[i] += shuffle_xor(y.x[i], step);
        if (lane < GROUP)
            store_columns(d, d.out, ((int64_t)r.row * d.heads + r.head) * d.width, column, y);
    }
}

static inline bool decode_wide(const struct decode_attention *a)
{
    const void *all[] = {a->q, a->k, a->v, a->k_cache, a->v_cache, a->out};
    bool wide = a->width % 8 == 0 && a->q_stride % 8 == 0 && a->kv_stride % 8 == 0;
    for (const void *p : all)
        wide = wide && (uintptr_t)p % 16 == 0;
    return wide;
}

static inline decode decode_of(const struct decode_attention *a)
{
    decode d = {};
    d.heads = a->heads, d.width = a->width, d.n = a->n, d.position = a->position, d.capacity = a->capacity;
    d.q_stride = a->q_stride, d.kv_stride = a->kv_stride, d.max_distance = a->max_distance;
    d.wide = decode_wide(a), d.biased = a->bias != NULL;
    d.q = act_data(a->q), d.k = act_data(a->k), d.v = act_data(a->v);
    d.k_cache = act_data(a->k_cache), d.v_cache = act_data(a->v_cache), d.out = act_data(a->out);
    d.anc = a->anc, d.bias = a->bias;
    if (a->bias)
        d.bucket = cuda_bucket_table(false, a->buckets, a->max_distance);
    return d;
}

/* Bytes of the table of ancestors and of the biases. */
static inline double decode_tables(const struct decode_attention *a)
{
    return (double)(a->position + 1) * (a->heads * sizeof(float) + 1) + (double)a->n * a->position * sizeof(int32_t);
}

/* What n rows can read of the pages before: their live rows, or one for each of n where those are more. */
static inline double decode_past(const struct decode_attention *a)
{
    const double most = (double)a->n * a->position;
    return a->past < most ? a->past : most;
}

#endif
