/* attend.h: what attention.cu and attention_backward.cu share: which tokens a block works on, scores, tiles in shared memory.
 *
 * Rows are packed and their ends are known on the device alone, so a grid is made from host facts: tiles of `size` tokens, row b's being
 * numbered from offsets[b] / size + b on. Those numbers never overlap (a row of n tokens needs at most n / size + 1 of them, rounded as
 * here), total / size + count + 1 of them are enough, and a block finds its row by a search over the offsets. What lies beyond the last
 * offset is a row of its own, number `count`, which the backward pass sets to zero.
 *
 * Two paths. Tiles (bf16, heads up to 128 wide): 16 own tokens to a warp, the other side staged in shared memory, products by wmma. A
 * fragment's layout is the device's secret; to meet its elements one by one, a fragment of a matrix that holds its own coordinates is
 * loaded first (find_where). Plain (F32, wider heads): one warp a token, one lane a token of the other side. Both take bias and causal
 * mask as one number by distance. */
#ifndef SEMINDEX_ATTEND_H
#define SEMINDEX_ATTEND_H

#include "cuda.h"

/* RESIDENT(threads, blocks): so many blocks are to fit on a processor, which bounds the registers. */
#ifdef SEMINDEX_EMU
#define UNROLL
#define ONE_BY_ONE
#define FOUR_BY_FOUR
#define RESIDENT(threads, blocks)
#else
#define UNROLL _Pragma("unroll")
#define ONE_BY_ONE _Pragma("unroll 1")
#define FOUR_BY_FOUR _Pragma("unroll 4")
#define RESIDENT(threads, blocks) __launch_bounds__(threads, blocks)
#endif

enum { ATTEND_WARPS = 4, ATTEND_THREADS = ATTEND_WARPS * WARP, BINS = 256 };

namespace { /* each file its own: layouts differ between the modes */
struct attend {
    int32_t heads, width, count, q_total, k_total, q_stride, k_stride, v_stride, max_distance, buckets;
    bool causal, biased, wide; /* wide: eight neighbours may be loaded at once */
    struct dropout drop;
    float kept; /* 1 / (1 - rate) */
    gp<const int32_t> q_offsets, k_offsets;
    gp<const real> q, k, v;
    gp<const float> bias;
    gp<const uint8_t> bucket;
};
/* The tokens of a block: own ones first .. first + rows of row `row`; rows 0: none, or (row == count) `tail` tokens beyond the last row. */
struct span {
    int32_t row, first, rows, token; /* token: the first one in the batch */
    int32_t q, queries, k, keys;     /* of the whole row: first token, tokens */
    int32_t tail;
};
}

/* The last row whose tiles begin at or before `tile`; `count` stands for what is beyond all rows. Whole warps. */
DEVICE int32_t find_row(gp<const int32_t> offsets, int32_t count, int32_t size, int32_t tile)
{
    int32_t low = 0, high = count + 1;
    while (high - low > 1) {
        const int32_t step = (high - low + WARP - 1) / WARP, probe = low + thread_x() % WARP * step;
        const bool begun = probe < high && offsets[probe] / size + probe <= tile;
        low += (warp_sum(begun ? 1 : 0) - 1) * step;
        high = high < low + step ? high : low + step;
    }
    return low;
}

DEVICE span find_span(const attend &a, gp<const int32_t> offsets, int32_t total, int32_t size, int32_t tile)
{
    span s = {find_row(offsets, a.count, size, tile), 0, 0, 0, 0, 0, 0, 0, 0};
    const int32_t begin = offsets[s.row], end = s.row < a.count ? offsets[s.row + 1] : total;
    s.first = (tile - begin / size - s.row) * size;
    s.token = begin + s.first;
    const int32_t left = end - s.token < size ? end - s.token : size;
    if (s.row == a.count) {
        s.tail = left > 0 ? left : 0;
        return s;
    }
    s.rows = left > 0 ? left : 0;
    s.q = a.q_offsets[s.row];
    s.queries = a.q_offsets[s.row + 1] - s.q;
    s.k = a.k_offsets[s.row];
    s.keys = a.k_offsets[s.row + 1] - s.k;
    return s;
}
static inline int64_t tiles_of(struct rows r, int32_t size)
{
    return (int64_t)r.total / size + r.count + 1;
}

/* What is added to a score of this distance (key - query): the head's bias, or -inf where the key lies ahead. */
DEVICE float bias_at(const attend &a, int32_t head, int32_t distance)
{
    if (a.causal && distance > 0)
        return -INFINITY;
    if (!a.biased)
        return 0.0f;
    const int32_t most = a.max_distance, d = distance > most ? most : distance < -most ? -most : distance;
    return a.bias[(int32_t)a.bucket[d + most] * a.heads + head];
}
DEVICE int32_t bucket_at(const attend &a, int32_t distance)
{
    const int32_t most = a.max_distance, d = distance > most ? most : distance < -most ? -most : distance;
    return a.bucket[d + most];
}
/* What a probability is multiplied with. */
DEVICE float keep_at(const attend &a, int32_t head, int32_t token, int32_t key)
{
    const uint64_t index = ((uint64_t)head * (uint64_t)a.q_total + (uint64_t)token) * 65536 + (uint64_t)key;
    return dropout_keeps(a.drop, index) ? a.kept : 0.0f;
}

/* Sum over neighbouring lanes of one bucket; the run's last lane gets it (returns true there). Buckets rise or fall with the distance, so a
 * warp's lanes, at neighbouring distances, hold a bucket in one run only. */
DEVICE bool run_sum(float &v, int32_t bucket)
{
    const int lane = thread_x() % WARP;
    for (int step = 1; step < WARP; step *= 2) {
        const float before = shuffle(v, lane - step < 0 ? 0 : lane - step);
        const int32_t other = shuffle(bucket, lane - step < 0 ? 0 : lane - step);
        if (lane >= step && other == bucket)
            v += before;
    }
    const int32_t next = shuffle(bucket, lane + 1 < WARP ? lane + 1 : lane);
    return lane + 1 == WARP || next != bucket;
}

static inline attend attend_of(const struct attention *a)
{
    attend t = {};
    t.heads = a->heads, t.width = a->width, t.count = a->q_rows.count, t.q_total = a->q_rows.total, t.k_total = a->k_rows.total;
    t.q_stride = a->q_stride, t.k_stride = a->k_stride, t.v_stride = a->v_stride;
    t.max_distance = a->max_distance, t.buckets = a->buckets, t.causal = a->causal, t.biased = a->bias != NULL;
    t.drop = a->drop, t.kept = 1.0f / (1.0f - a->drop.rate);
    t.q_offsets = a->q_rows.offsets, t.k_offsets = a->k_rows.offsets;
    t.q = act_data(a->q), t.k = act_data(a->k), t.v = act_data(a->v), t.bias = a->bias;
    if (a->bias)
        t.bucket = cuda_bucket_table(a->bidirectional, a->buckets, a->max_distance);
    return t;
}
static inline bool attend_wide(const struct attention *a, const void *const *more, int32_t count)
{
    const void *own[] = {a->q, a->k, a->v, a->out};
    bool wide = a->width % 8 == 0 && a->q_stride % 8 == 0 && a->k_stride % 8 == 0 && a->v_stride % 8 == 0;
    for (const void *p : own)
        wide = wide && (uintptr_t)p % 16 == 0;
    for (int32_t i = 0; i < count; i++)
        wide = wide && (uintptr_t)more[i] % 16 == 0;
    return wide;
}
/* Pairs of query and key, an upper bound that is exact where all rows are equally long; a causal mask leaves about a half of them. */
static inline double attend_pairs(const struct attention *a)
{
    const double by_query = (double)a->q_rows.total * a->k_rows.longest, by_key = (double)a->k_rows.total * a->q_rows.longest;
    const double pairs = (by_query < by_key ? by_query : by_key) * a->heads;
    return a->causal ? (pairs + (double)a->q_rows.total * a->heads) / 2 : pairs;
}
/* Bytes of offsets and bias tables. */
static inline double attend_tables(const struct attention *a)
{
    const double bias = a->bias ? (double)a->buckets * a->heads * sizeof(float) + 2.0 * a->max_distance + 1 : 0.0;
    return bias + 2.0 * (a->q_rows.count + 1) * sizeof(int32_t);
}

/* ---- the plain path: a warp has one query or key, its lanes 32 of the other side ---- */

/* Score of a pair, tokens counted in the batch and in the row; every lane its own key. */
DEVICE float plain_dot(gp<const real> x, int64_t at, gp<const real> y, int64_t other, int32_t width)
{
    float sum = 0.0f;
    for (int32_t c = 0; c < width; c++)
        sum = fmaf(to_float(x[at + c]), to_float(y[other + c]), sum);
    return sum;
}
DEVICE float plain_score(const attend &a, const span &s, int32_t head, int32_t i, int32_t j)
{
    if (i >= s.queries || j >= s.keys || (a.causal && j > i))
        return -INFINITY;
    const int64_t q = (int64_t)(s.q + i) * a.q_stride + head * a.width, k = (int64_t)(s.k + j) * a.k_stride + head * a.width;
    return plain_dot(a.q, q, a.k, k, a.width) + bias_at(a, head, j - i);
}

/* A lane's columns: first + lane, first + lane + 32, .. */
enum { LANE_COLUMNS = 4 };
DEVICE void add_columns(float (&y)[LANE_COLUMNS], float factor, gp<const real> x, int64_t at, int32_t first, int32_t width)
{
    UNROLL
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const int32_t c = first + i * WARP + thread_x() % WARP;
        if (c < width)
            y[i] = fmaf(factor, to_float(x[at + c]), y[i]);
    }
}
DEVICE void put_columns(gp<real> to, int64_t at, int32_t first, int32_t width, const float (&y)[LANE_COLUMNS])
{
    UNROLL
    for (int i = 0; i < LANE_COLUMNS; i++) {
        const int32_t c = first + i * WARP + thread_x() % WARP;
        if (c < width)
            to[at + c] = to_real(y[i]);
    }
}

/* ---- tiles in shared memory ---- */

#ifndef SEMINDEX_CUDA_F32

namespace { /* eight neighbours on their way, as they are */
#ifdef SEMINDEX_EMU
struct packet {
    bf16 x[8];
};
#else
struct packet {
    uint4 x;
};
#endif
}
#ifdef SEMINDEX_EMU
DEVICE packet no_packet() { return {}; }
DEVICE packet load_packet(gp<const bf16> p, int64_t at)
{
    packet y;
    for (int i = 0; i < 8; i++)
        y.x[i] = p[at + i];
    return y;
}
DEVICE void put_packet(sp<bf16> to, int at, const packet &y)
{
    for (int i = 0; i < 8; i++)
        to[at + i] = y.x[i];
}
DEVICE four take_four(sp<float> from, int at)
{
    return {from[at], from[at + 1], from[at + 2], from[at + 3]};
}
DEVICE void put_four(sp<bf16> to, int at, const float *x)
{
    for (int i = 0; i < 4; i++)
        to[at + i] = to_real<bf16>(x[i]);
}
#else
DEVICE packet no_packet() { return {make_uint4(0, 0, 0, 0)}; }
DEVICE packet load_packet(const bf16 *p, int64_t at) { return {*reinterpret_cast<const uint4 *>(p + at)}; }
DEVICE void put_packet(bf16 *to, int at, const packet &y) { *reinterpret_cast<uint4 *>(to + at) = y.x; }
DEVICE four take_four(float *from, int at) { return load4(from, at); }
DEVICE void put_four(bf16 *to, int at, const float *x) { store4(to, at, {x[0], x[1], x[2], x[3]}); }
#endif

typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> left_tile;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::row_major> right_tile;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> turned_tile; /* the right operand lies transposed */
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_tile;

/* Rows of a staged tile are this many elements apart, so that neighbouring rows lie in other banks. */
#define PITCH(columns) ((columns) + 8)

namespace {
struct source { /* tokens of a head: element `at` on, `stride` apart; 0 beyond their end and beyond the head's width */
    gp<const bf16> from;
    int64_t at;
    int32_t stride, rows, width;
    bool wide;
};
/* One thread's share of ROWS x W elements on their way to shared memory; used where eight can be loaded at once. */
template <int ROWS, int W, int THREADS> struct parcel {
    static constexpr int ALL = ROWS * W / 8, EACH = (ALL + THREADS - 1) / THREADS;
    packet x[EACH];
};
}
template <int ROWS, int W, int THREADS> DEVICE void fetch(parcel<ROWS, W, THREADS> &y, const source &s)
{
    UNROLL
    for (int i = 0; s.wide && i < y.EACH; i++) {
        const int n = thread_x() + i * THREADS, row = n / (W / 8), c = n % (W / 8) * 8;
        if (n < y.ALL)
            y.x[i] = row < s.rows && c < s.width ? load_packet(s.from, s.at + (int64_t)row * s.stride + c) : no_packet();
    }
}
/* One by one, where eight cannot be loaded at once. */
template <int ROWS, int W, int THREADS> DEVICE void copy_narrow(sp<bf16> to, const source &s)
{
    ONE_BY_ONE
    for (int n = thread_x(); n < ROWS * W; n += THREADS) {
        const int row = n / W, c = n % W;
        to[row * PITCH(W) + c] = row < s.rows && c < s.width ? s.from[s.at + (int64_t)row * s.stride + c] : to_real<bf16>(0.0f);
    }
}
template <int ROWS, int W, int THREADS> DEVICE void deliver(sp<bf16> to, const parcel<ROWS, W, THREADS> &y, const source &s)
{
    UNROLL
    for (int i = 0; s.wide && i < y.EACH; i++) {
        const int n = thread_x() + i * THREADS;
        if (n < y.ALL)
            put_packet(to, n / (W / 8) * PITCH(W) + n % (W / 8) * 8, y.x[i]);
    }
    if (!s.wide)
        copy_narrow<ROWS, W, THREADS>(to, s);
}
/* Both at once, a few at a time. */
template <int ROWS, int W, int THREADS> DEVICE void stage(sp<bf16> to, const source &s)
{
    FOUR_BY_FOUR
    for (int n = thread_x(); s.wide && n < ROWS * W / 8; n += THREADS) {
        const int row = n / (W / 8), c = n % (W / 8) * 8;
        const bool live = row < s.rows && c < s.width;
        put_packet(to, row * PITCH(W) + c, live ? load_packet(s.from, s.at + (int64_t)row * s.stride + c) : no_packet());
    }
    if (!s.wide)
        copy_narrow<ROWS, W, THREADS>(to, s);
}

/* Coordinates of a lane's elements of a sum_tile, four bits each. */
enum { ELEMENTS = 256 / WARP };
namespace {
struct where {
    uint32_t rows, columns;
};
}
DEVICE int row_of(const where &w, int element) { return (int)(w.rows >> 4 * element & 15); }
DEVICE int column_of(const where &w, int element) { return (int)(w.columns >> 4 * element & 15); }
/* `patch`: 16 rows of the warp's own, `pitch` apart. */
DEVICE where find_where(sp<float> patch, int pitch)
{
    where w = {0, 0};
    sum_tile t;
    for (int i = thread_x() % WARP; i < 256; i += WARP)
        patch[i / 16 * pitch + i % 16] = (float)i;
    sync_warp();
    wmma::load_matrix_sync(t, patch, (unsigned)pitch, wmma::mem_row_major);
    sync_warp();
    UNROLL
    for (int e = 0; e < ELEMENTS; e++) {
        w.rows |= (uint32_t)t.x[e] / 16 << 4 * e;
        w.columns |= (uint32_t)t.x[e] % 16 << 4 * e;
    }
    return w;
}

namespace {
struct outlet { /* where a warp's 16 tokens go */
    gp<bf16> to;
    int64_t at;
    int32_t stride, rows, width;
    bool wide;
};
}
/* Sixteen columns, from `column` on, by way of the warp's patch. */
DEVICE void put_tile(const outlet &o, const sum_tile &y, sp<float> patch, int pitch, int32_t column)
{
    const int row = thread_x() % WARP / 2, half = thread_x() % 2 * 8, c = column + half;
    wmma::store_matrix_sync(patch, y, (unsigned)pitch, wmma::mem_row_major);
    sync_warp();
    const int64_t at = o.at + (int64_t)row * o.stride + c;
    if (row < o.rows && c < o.width && o.wide) {
        const four a = take_four(patch, row * pitch + half), b = take_four(patch, row * pitch + half + 4);
        store4(o.to, at, a);
        store4(o.to, at + 4, b);
    }
    if (row < o.rows && !o.wide)
        for (int i = 0; i < 8; i++)
            if (c + i < o.width)
                o.to[at + i] = to_real<bf16>(patch[row * pitch + half + i]);
    sync_warp();
}

#endif
#endif
