/* attention.cu: attention over packed rows, forward.
 *
 * A block has 64 queries of one head, sixteen to a warp, and walks over its row's keys in tiles: scores by wmma into shared memory, the
 * online softmax there (two lanes a query), probabilities back as bf16, values by wmma into sums that stay in registers. While a tile is
 * worked on, the next one is already on its way into registers. A row's keys and values are so read once for all queries of a block: at
 * decode time the beams of a request are one block's queries, and no beam reads anything for itself.
 *
 * A search of one request with a long history has twelve such blocks for the whole device, each walking over all keys. There the keys are
 * split over blocks, each of which leaves unnormalised sums behind; the last one to arrive puts them together, in the order of the parts,
 * so that it is still one launch and the bits do not depend on who came last. The counters of arrivals are made at the first call and are
 * zero between launches. It is reckoned to pay from 256 keys on: a block waits for memory
 * at every tile, so eight parts take about a quarter of the time of 32 tiles in a row, the sum of the parts included.
 *
 * F32 and heads wider than 128 take the plain path: one warp a query, scores made twice (once for the softmax, once for the values). */
#include "attend.h"

/* ---- plain ---- */

namespace {
struct softmax {
    float top, sum;
};
}

DEVICE softmax plain_softmax(const attend &a, const span &s, int32_t head, int32_t i)
{
    softmax y = {-INFINITY, 0.0f};
    for (int32_t j = 0; j < s.keys && !(a.causal && j > i); j += WARP) {
        const float score = plain_score(a, s, head, i, j + thread_x() % WARP), next = fmaxf(y.top, warp_max(score));
        y.sum = y.sum * expf(y.top - next) + warp_sum(expf(score - next));
        y.top = next;
    }
    return y;
}

/* 128 columns from `first` on, four a lane. */
DEVICE void plain_values(const attend &a, const span &s, int32_t head, int32_t i, softmax top, int32_t first, float (&y)[LANE_COLUMNS])
{
    const int lane = thread_x() % WARP;
    for (int32_t j = 0; j < s.keys && !(a.causal && j > i); j += WARP) {
        float p = expf(plain_score(a, s, head, i, j + lane) - top.top) / top.sum;
        if (a.drop.rate > 0.0f)
            p *= keep_at(a, head, s.q + i, j + lane);
        for (int k = 0; k < WARP && j + k < s.keys; k++)
            add_columns(y, shuffle(p, k), a.v, (int64_t)(s.k + j + k) * a.v_stride + head * a.width, first, a.width);
    }
}

static __global__ void attend_plain(attend a, gp<real> out, gp<float> lse)
{
    const int lane = thread_x() % WARP, warp = thread_x() / WARP;
    const span s = find_span(a, a.q_offsets, a.q_total, ATTEND_WARPS, block_x());
    const int32_t head = block_y(), i = s.first + warp;
    if (warp >= s.rows)
        return;
    const softmax top = plain_softmax(a, s, head, i);
    for (int32_t first = 0; first < a.width; first += WARP * LANE_COLUMNS) {
        float y[LANE_COLUMNS] = {0, 0, 0, 0};
        plain_values(a, s, head, i, top, first, y);
        put_columns(out, ((int64_t)(s.q + i) * a.heads + head) * a.width, first, a.width, y);
    }
    if (lane == 0 && lse)
        lse[(int64_t)head * a.q_total + s.q + i] = top.sum > 0.0f ? top.top + logf(top.sum) : 0.0f;
}

/* ---- tiles ---- */

enum { TILE = 16 * ATTEND_WARPS, KEYS = 32 };

#ifndef SEMINDEX_CUDA_F32

enum {
    FILL = 264,      /* blocks that keep the largest device busy: two on each of its 132 processors */
    SPLIT_KEYS = 128 /* a part has at least so many keys */
};

namespace {
struct parts {
    int32_t count, heads;
    gp<float> sums; /* a part of a tile: [TILE, W] sums, [TILE] tops, [TILE] sums of the softmax */
    gp<int32_t> arrived;
};
struct rooms {
    sp<bf16> keys, values, probs;
    sp<float> scores, bias, scale;
};
template <int W> struct state { /* of a warp; top and sum of the lane's query */
    left_tile q[W / 16];
    sum_tile o[W / 16];
    where at;
    softmax row;
};
template <int W> struct coming { /* the next tile, on its way */
    parcel<KEYS, W, ATTEND_THREADS> k, v;
    float bias;
};
struct walk {
    int32_t next, end; /* key tiles */
};
}

template <int W> DEVICE void begin_tile(const attend &a, const span &s, const rooms &r, state<W> &f)
{
    const int warp = thread_x() / WARP;
    const int64_t at = (int64_t)s.token * a.q_stride + block_y() * a.width;
    stage<TILE, W, ATTEND_THREADS>(r.keys, {a.q, at, a.q_stride, s.rows, a.width, a.wide});
    f.at = find_where(r.scores + warp * 16 * PITCH(KEYS), PITCH(KEYS));
    f.row = {-INFINITY, 0.0f};
    sync_block();
    UNROLL
    for (int n = 0; n < W / 16; n++) {
        wmma::load_matrix_sync(f.q[n], r.keys + (warp * 16 * PITCH(W) + n * 16), PITCH(W));
        wmma::fill_fragment(f.o[n], 0.0f);
    }
}

DEVICE source keys_of(const attend &a, const span &s, int32_t first)
{
    return {a.k, (int64_t)(s.k + first) * a.k_stride + block_y() * a.width, a.k_stride, s.keys - first, a.width, a.wide};
}
DEVICE source values_of(const attend &a, const span &s, int32_t first)
{
    return {a.v, (int64_t)(s.k + first) * a.v_stride + block_y() * a.width, a.v_stride, s.keys - first, a.width, a.wide};
}

template <int W> DEVICE void fetch_keys(const attend &a, const span &s, int32_t first, coming<W> &c)
{
    fetch(c.k, keys_of(a, s, first));
    fetch(c.v, values_of(a, s, first));
    c.bias = bias_at(a, block_y(), first - s.first + thread_x() - (TILE - 1));
}

template <int W> DEVICE void deliver_keys(const attend &a, const span &s, const rooms &r, int32_t first, const coming<W> &c)
{
    deliver(r.keys, c.k, keys_of(a, s, first));
    deliver(r.values, c.v, values_of(a, s, first));
    if (thread_x() < TILE - 1 + KEYS)
        r.bias[thread_x()] = c.bias;
}

/* Tiles of 16 keys without a key are left out. */
template <int W> DEVICE void score_tile(const rooms &r, const state<W> &f, int32_t left)
{
    const int warp = thread_x() / WARP;
    UNROLL
    for (int n = 0; n < KEYS / 16; n++) {
        if (n * 16 >= left)
            break;
        sum_tile y;
        wmma::fill_fragment(y, 0.0f);
        UNROLL
        for (int c = 0; c < W / 16; c++) {
            turned_tile k;
            wmma::load_matrix_sync(k, r.keys + (n * 16 * PITCH(W) + c * 16), PITCH(W));
            wmma::mma_sync(y, f.q[c], k, y);
        }
        wmma::store_matrix_sync(r.scores + (warp * 16 * PITCH(KEYS) + n * 16), y, PITCH(KEYS), wmma::mem_row_major);
    }
    sync_warp();
}

/* The lane's half of its query's scores, biased; -inf beyond the keys. Returns their maximum over the query. */
DEVICE float take_scores(const rooms &r, int32_t left, float (&x)[KEYS / 2])
{
    const int row = thread_x() / 2, half = thread_x() % 2 * 4;
    float top = -INFINITY;
    UNROLL
    for (int i = 0; i < KEYS / 8; i++) {
        const int c = 8 * i + half;
        const four s = c < left ? take_four(r.scores, row * PITCH(KEYS) + c) : four{0, 0, 0, 0};
        const float all[4] = {s.x, s.y, s.z, s.w};
        UNROLL
        for (int e = 0; e < 4; e++) {
            x[4 * i + e] = c + e < left ? all[e] + r.bias[c + e - row + TILE - 1] : -INFINITY;
            top = fmaxf(top, x[4 * i + e]);
        }
    }
    return fmaxf(top, shuffle_xor(top, 1));
}

/* What dropout takes is put to 0; what it leaves is scaled with the softmax's sum, in the end. */
DEVICE void drop_tile(const attend &a, const span &s, const rooms &r, int32_t first)
{
    const int row = thread_x() / 2;
    ONE_BY_ONE
    for (int c = thread_x() % 2; c < KEYS; c += 2)
        if (keep_at(a, block_y(), s.token + row, first + c) == 0.0f)
            r.probs[row * PITCH(KEYS) + c] = to_real<bf16>(0.0f);
    sync_warp();
}

/* Scores -> probabilities, as bf16; the sums so far are to be multiplied by `scale`. */
template <int W> DEVICE void soften_tile(const attend &a, const span &s, const rooms &r, state<W> &f, int32_t first)
{
    const int row = thread_x() / 2, half = thread_x() % 2 * 4;
    float x[KEYS / 2], sum = 0.0f;
    const float top = fmaxf(f.row.top, take_scores(r, s.keys - first, x)), base = top == -INFINITY ? 0.0f : top;
    UNROLL
    for (int i = 0; i < KEYS / 2; i++)
        sum += x[i] = expf(x[i] - base);
    const float scale = expf(f.row.top - base);
    f.row = {top, f.row.sum * scale + sum + shuffle_xor(sum, 1)};
    UNROLL
    for (int i = 0; i < KEYS / 8; i++)
        put_four(r.probs, row * PITCH(KEYS) + 8 * i + half, x + 4 * i);
    if (half == 0)
        r.scale[row] = scale;
    sync_warp();
    if (a.drop.rate > 0.0f)
        drop_tile(a, s, r, first);
}

template <int W> DEVICE void scale_sums(const rooms &r, state<W> &f)
{
    const int warp = thread_x() / WARP;
    UNROLL
    for (int e = 0; e < ELEMENTS; e++) {
        const float scale = r.scale[warp * 16 + row_of(f.at, e)];
        UNROLL
        for (int n = 0; n < W / 16; n++)
            f.o[n].x[e] *= scale;
    }
}

template <int W> DEVICE void add_values(const rooms &r, state<W> &f, int32_t left)
{
    const int warp = thread_x() / WARP;
    UNROLL
    for (int c = 0; c < KEYS / 16; c++) {
        if (c * 16 >= left)
            break;
        left_tile p;
        wmma::load_matrix_sync(p, r.probs + (warp * 16 * PITCH(KEYS) + c * 16), PITCH(KEYS));
        UNROLL
        for (int n = 0; n < W / 16; n++) {
            right_tile v;
            wmma::load_matrix_sync(v, r.values + (c * 16 * PITCH(W) + n * 16), PITCH(W));
            wmma::mma_sync(f.o[n], p, v, f.o[n]);
        }
    }
}

template <int W> DEVICE void walk_keys(const attend &a, const span &s, const rooms &r, state<W> &f, walk t)
{
    const bool busy = thread_x() / WARP * 16 < s.rows;
    coming<W> c;
    if (t.next < t.end)
        fetch_keys<W>(a, s, t.next * KEYS, c);
    for (; t.next < t.end; t.next++) {
        sync_block();
        deliver_keys<W>(a, s, r, t.next * KEYS, c);
        sync_block();
        if (t.next + 1 < t.end)
            fetch_keys<W>(a, s, (t.next + 1) * KEYS, c);
        if (!busy)
            continue;
        const int32_t left = s.keys - t.next * KEYS;
        score_tile<W>(r, f, left);
        soften_tile<W>(a, s, r, f, t.next * KEYS);
        scale_sums(r, f);
        add_values<W>(r, f, left);
    }
}

template <int W> DEVICE void finish_tile(const attend &a, const span &s, const rooms &r, state<W> &f, gp<bf16> out, gp<float> lse)
{
    const int warp = thread_x() / WARP, row = thread_x() / 2;
    const int64_t stride = (int64_t)a.heads * a.width;
    if (warp * 16 >= s.rows)
        return;
    sync_warp();
    if (thread_x() % 2 == 0) {
        r.scale[row] = f.row.sum > 0.0f ? a.kept / f.row.sum : 0.0f;
        if (lse && row < s.rows)
            lse[(int64_t)block_y() * a.q_total + s.token + row] = f.row.sum > 0.0f ? f.row.top + logf(f.row.sum) : 0.0f;
    }
    sync_warp();
    scale_sums(r, f);
    const outlet o = {out, (s.token + warp * 16) * stride + block_y() * a.width, (int32_t)stride, s.rows - warp * 16, a.width, a.wide};
    UNROLL
    for (int n = 0; n < W / 16; n++)
        put_tile(o, f.o[n], r.scores + warp * 16 * PITCH(KEYS), PITCH(KEYS), n * 16);
}

/* ---- parts ---- */

DEVICE int64_t part_size(int w)
{
    return TILE * (w + 2);
}

template <int W> DEVICE void leave_part(const span &s, const parts &p, const state<W> &f)
{
    const int warp = thread_x() / WARP, row = thread_x() / 2;
    const int64_t slot = ((int64_t)block_x() * p.heads + block_y()) * p.count + block_z();
    gp<float> to = p.sums + slot * part_size(W);
    if (warp * 16 >= s.rows)
        return;
    UNROLL
    for (int n = 0; n < W / 16; n++)
        wmma::store_matrix_sync(to + (warp * 16 * W + n * 16), f.o[n], W, wmma::mem_row_major);
    if (thread_x() % 2 == 0) {
        to[TILE * W + row] = f.row.top;
        to[TILE * W + TILE + row] = f.row.sum;
    }
}

/* True in all threads of the block that comes last to its tile. */
DEVICE bool is_last(const parts &p, sp<int32_t> before)
{
    const int32_t tile = block_x() * p.heads + block_y();
    fence();
    sync_block();
    if (thread_x() == 0) {
        before[0] = atomic_add(p.arrived + tile, 1);
        if (before[0] == p.count - 1)
            p.arrived[tile] = 0;
    }
    sync_block();
    fence();
    return before[0] == p.count - 1;
}

/* Four columns of a query out of all parts; returns the query's softmax. */
template <int W> DEVICE softmax join_parts(const parts &p, gp<const float> from, int32_t row, int32_t c, float (&y)[4])
{
    softmax all = {-INFINITY, 0.0f};
    for (int32_t i = 0; i < p.count; i++)
        all.top = fmaxf(all.top, from[i * part_size(W) + TILE * W + row]);
    const float base = all.top == -INFINITY ? 0.0f : all.top;
    for (int32_t i = 0; i < p.count; i++) {
        const int64_t at = i * part_size(W);
        const float weight = expf(from[at + TILE * W + row] - base);
        const four x = load4(from, at + row * W + c);
        all.sum += weight * from[at + TILE * W + TILE + row];
        y[0] += weight * x.x, y[1] += weight * x.y, y[2] += weight * x.z, y[3] += weight * x.w;
    }
    return all;
}

template <int W> DEVICE void join_tile(const attend &a, const span &s, const parts &p, gp<bf16> out, gp<float> lse)
{
    gp<const float> from = p.sums + ((int64_t)block_x() * p.heads + block_y()) * p.count * part_size(W);
    for (int n = thread_x(); n < s.rows * (W / 4); n += ATTEND_THREADS) {
        const int32_t row = n / (W / 4), c = n % (W / 4) * 4;
        float y[4] = {0, 0, 0, 0};
        const softmax all = join_parts<W>(p, from, row, c, y);
        const float scale = all.sum > 0.0f ? a.kept / all.sum : 0.0f;
        const int64_t at = ((int64_t)(s.token + row) * a.heads + block_y()) * a.width + c;
        if (a.wide && c < a.width)
            store4(out, at, {y[0] * scale, y[1] * scale, y[2] * scale, y[3] * scale});
        UNROLL
        for (int i = 0; i < 4; i++)
            if (!a.wide && c + i < a.width)
                out[at + i] = to_real<bf16>(y[i] * scale);
        if (lse && c == 0)
            lse[(int64_t)block_y() * a.q_total + s.token + row] = all.sum > 0.0f ? all.top + logf(all.sum) : 0.0f;
    }
}

/* ---- the kernel ---- */

template <int W>
static __global__ void RESIDENT(ATTEND_THREADS, (W > 64 ? 2 : 3)) attend_tiles(attend a, parts p, gp<bf16> out, gp<float> lse)
{
    SHARED(bf16, kv, 2 * KEYS * PITCH(W));
    SHARED(bf16, probs, TILE * PITCH(KEYS));
    SHARED(float, scores, TILE * PITCH(KEYS));
    SHARED(float, bias, TILE + KEYS);
    SHARED(float, scale, TILE);
    SHARED(int32_t, before, 1);
    static_assert(2 * KEYS >= TILE, "the queries are staged where keys and values will lie");
    const span s = find_span(a, a.q_offsets, a.q_total, TILE, block_x());
    if (s.rows == 0)
        return;
    const rooms r = {kv + 0, kv + KEYS * PITCH(W), probs + 0, scores + 0, bias + 0, scale + 0};
    state<W> f;
    begin_tile<W>(a, s, r, f);
    const int32_t end = a.causal && s.first + s.rows < s.keys ? s.first + s.rows : s.keys, tiles = (end + KEYS - 1) / KEYS;
    const int32_t each = (tiles + p.count - 1) / p.count, from = block_z() * each;
    walk_keys<W>(a, s, r, f, {from, from + each < tiles ? from + each : tiles});
    if (p.count == 1) {
        finish_tile<W>(a, s, r, f, out, lse);
        return;
    }
    leave_part<W>(s, p, f);
    if (is_last(p, before + 0))
        join_tile<W>(a, s, p, out, lse);
}

static int32_t *arrivals(void)
{
    static int32_t *counters;
    if (!counters)
        counters = (int32_t *)platform_alloc(FILL * sizeof *counters);
    CHECK(counters);
    return counters;
}

/* Sums that are written, sixteen queries at a time, and read. */
static double parts_bytes(const struct attention *a, int64_t parts, int64_t w)
{
    const int64_t longest = blocks_for(a->q_rows.total, a->q_rows.count);
    const double written = (double)blocks_for(longest, 16) * 16 * a->q_rows.count, read = a->q_rows.total;
    return (written + read) * a->heads * (double)(parts * (w + 2)) * sizeof(float);
}

static parts parts_of(const struct attention *a, int64_t tiles, int64_t w, double *bytes)
{
    const int64_t blocks = tiles * a->heads;
    int64_t count = blocks * 2 <= FILL ? FILL / blocks : 1;
    if (count > a->k_rows.longest / SPLIT_KEYS)
        count = a->k_rows.longest / SPLIT_KEYS;
    parts p = {};
    p.arrived = arrivals();
    p.heads = a->heads;
    p.count = count > 1 ? (int32_t)count : 1;
    if (p.count > 1) {
        p.sums = (float *)platform_scratch((size_t)(blocks * p.count * TILE * (w + 2)) * sizeof(float));
        *bytes += parts_bytes(a, p.count, w) + 2.0 * (double)blocks * sizeof(int32_t);
    }
    return p;
}

template <int W> static void launch_tiles(const struct attention *a, const attend &t, struct cost cost)
{
    const int64_t tiles = tiles_of(a->q_rows, TILE);
    const parts p = parts_of(a, tiles, W, &cost.bytes);
    LAUNCH((attend_tiles<W>), dim_of(tiles, a->heads, p.count), ATTEND_THREADS, cost, t, p, act_data(a->out), a->lse);
}

static bool launch_by_width(const struct attention *a, attend t, struct cost cost)
{
    t.wide = attend_wide(a, NULL, 0);
    if (a->width <= 16)
        launch_tiles<16>(a, t, cost);
    else if (a->width <= 32)
        launch_tiles<32>(a, t, cost);
    else if (a->width <= 64)
        launch_tiles<64>(a, t, cost);
    else if (a->width <= 128)
        launch_tiles<128>(a, t, cost);
    return a->width <= 128;
}
#else
static bool launch_by_width(const struct attention *, attend, struct cost)
{
    return false;
}
#endif

static struct cost forward_cost(const struct attention *a)
{
    const double row = (double)a->heads * a->width, lse = a->lse ? (double)a->q_rows.total * a->heads * sizeof(float) : 0.0;
    const double moved = 2.0 * ((double)a->q_rows.total + a->k_rows.total) * row * sizeof(real);
    return {moved + lse + attend_tables(a), attend_pairs(a) * (4.0 * a->width + 8)};
}

void cuda_attention(const struct attention *a)
{
    if (a->q_rows.total == 0 || a->q_rows.count == 0)
        return;
    const attend t = attend_of(a);
    const struct cost cost = forward_cost(a);
    if (!launch_by_width(a, t, cost))
        LAUNCH((attend_plain), dim_of(tiles_of(a->q_rows, ATTEND_WARPS), a->heads), ATTEND_THREADS, cost, t, act_data(a->out), a->lse);
}
