/* attention_backward.cu: the gradient of attention.cu, with the scores computed again.
 *
 * P = exp(score - lse); dP = dO V^T; dS = P (keep dP - delta), delta_i = dO_i . O_i; dQ = dS K, dK = dS^T Q, dV = (keep P)^T dO. Nothing
 * is added by several blocks: one launch has a block for each tile of queries, which walks over the keys and owns its rows of dQ (and
 * leaves delta behind), a second one a block for each tile of keys, which walks over the queries and owns its rows of dK and dV. Scores
 * and dP of a pair of tiles are fragments of the same shape, so dS is made element by element in registers and only dS, as bf16, goes
 * through shared memory.
 *
 * The bias gradient is the sum of dS by bucket. A warp adds the diagonals of its tile, then neighbouring diagonals of one bucket, into
 * bins of its own; a block writes its warps' sum, a third launch adds the blocks, in order. Tokens beyond the last row get zeros. */
#include "attend.h"

enum { TILE = 16 * ATTEND_WARPS, OTHER = 32 };

namespace {
struct grads {
    gp<const real> dout, out;
    gp<real> dq, dk, dv;
    gp<const float> lse;
    gp<float> delta, bins; /* [heads, q total]; [tiles, heads, buckets] */
    bool biased;
};
}

/* ---- shared by both paths ---- */

/* delta of a query; the same in all lanes. */
DEVICE float delta_of(const attend &a, const grads &g, int32_t head, int32_t token)
{
    const int64_t at = ((int64_t)token * a.heads + head) * a.width;
    float sum = 0.0f;
    for (int32_t c = thread_x() % WARP; c < a.width; c += WARP)
        sum = fmaf(to_float(g.dout[at + c]), to_float(g.out[at + c]), sum);
    return warp_sum(sum);
}

DEVICE void clear_tokens(gp<real> to, int32_t token, int32_t rows, int32_t stride, int32_t column, int32_t width)
{
    for (int64_t n = thread_x(); n < (int64_t)rows * width; n += threads())
        to[(token + n / width) * stride + column + n % width] = to_real(0.0f);
}

/* Adds the lanes' sums, at neighbouring distances, to the warp's bins. */
DEVICE void add_bins(sp<float> bins, float v, int32_t bucket)
{
    const bool last = run_sum(v, bucket);
    if (last)
        bins[thread_x() / WARP * BINS + bucket] += v;
    sync_warp();
}

DEVICE void clear_bins(const attend &a, sp<float> bins)
{
    for (int warp = 0; warp < threads() / WARP; warp++)
        for (int b = thread_x(); b < a.buckets; b += threads())
            bins[warp * BINS + b] = 0.0f;
    sync_block();
}

DEVICE void leave_bins(const attend &a, const grads &g, sp<float> bins)
{
    const int64_t at = ((int64_t)block_x() * a.heads + block_y()) * a.buckets;
    sync_block();
    for (int b = thread_x(); b < a.buckets; b += threads()) {
        float sum = 0.0f;
        for (int warp = 0; warp < threads() / WARP; warp++)
            sum += bins[warp * BINS + b];
        g.bins[at + b] = sum;
    }
}

/* Block (head, 32 buckets): each warp adds every WARPS-th tile, then the warps' sums are added. */
enum { BIN_WARPS = 16 };
static __global__ void sum_bins(gp<const float> bins, gp<float> dbias, int32_t tiles, int32_t heads, int32_t buckets)
{
    SHARED(float, sums, BIN_WARPS * WARP);
    const int lane = thread_x() % WARP, warp = thread_x() / WARP, bucket = block_y() * WARP + lane;
    float sum = 0.0f;
    for (int32_t t = warp; t < tiles && bucket < buckets; t += BIN_WARPS)
        sum += bins[((int64_t)t * heads + block_x()) * buckets + bucket];
    sums[thread_x()] = sum;
    sync_block();
    if (warp > 0 || bucket >= buckets)
        return;
    sum = dbias[bucket * heads + block_x()];
    for (int i = 0; i < BIN_WARPS; i++)
        sum += sums[i * WARP + lane];
    dbias[bucket * heads + block_x()] = sum;
}

/* ---- plain ---- */

namespace {
struct pair_grad {
    float p, ds; /* p after dropout */
};
}

DEVICE pair_grad plain_pair(const attend &a, const grads &g, const span &s, int32_t i, int32_t j, float lse, float delta)
{
    const int32_t head = block_y();
    const float score = plain_score(a, s, head, i, j);
    if (score == -INFINITY)
        return {0.0f, 0.0f};
    const int64_t at = ((int64_t)(s.q + i) * a.heads + head) * a.width;
    const float dp = plain_dot(g.dout, at, a.v, (int64_t)(s.k + j) * a.v_stride + head * a.width, a.width);
    const float p = expf(score - lse), keep = a.drop.rate > 0.0f ? keep_at(a, head, s.q + i, j) : 1.0f;
    return {p * keep, p * (keep * dp - delta)};
}

DEVICE void plain_dq_window(const attend &a, const grads &g, const span &s, int32_t i, float delta, sp<float> bins, int32_t first)
{
    const int lane = thread_x() % WARP;
    const int32_t column = block_y() * a.width;
    const float lse = g.lse[(int64_t)block_y() * a.q_total + s.q + i];
    float y[LANE_COLUMNS] = {0, 0, 0, 0};
    for (int32_t j = 0; j < s.keys && !(a.causal && j > i); j += WARP) {
        const float ds = plain_pair(a, g, s, i, j + lane, lse, delta).ds;
        if (g.biased && first == 0)
            add_bins(bins, ds, bucket_at(a, j + lane - i));
        for (int k = 0; k < WARP && j + k < s.keys; k++)
            add_columns(y, shuffle(ds, k), a.k, (int64_t)(s.k + j + k) * a.k_stride + column, first, a.width);
    }
    put_columns(g.dq, (int64_t)(s.q + i) * a.q_stride + column, first, a.width, y);
}

static __global__ void plain_dq(attend a, grads g)
{
    SHARED(float, bins, ATTEND_WARPS * BINS);
    const span s = find_span(a, a.q_offsets, a.q_total, TILE, block_x());
    if (g.biased)
        clear_bins(a, bins + 0);
    clear_tokens(g.dq, s.token, s.tail, a.q_stride, block_y() * a.width, a.width);
    for (int32_t n = thread_x() / WARP; n < s.rows; n += ATTEND_WARPS) {
        const float delta = delta_of(a, g, block_y(), s.token + n);
        if (thread_x() % WARP == 0)
            g.delta[(int64_t)block_y() * a.q_total + s.token + n] = delta;
        for (int32_t first = 0; first < a.width; first += WARP * LANE_COLUMNS)
            plain_dq_window(a, g, s, s.first + n, delta, bins + 0, first);
    }
    if (g.biased)
        leave_bins(a, g, bins + 0);
}

DEVICE void plain_dkv_window(const attend &a, const grads &g, const span &s, int32_t j, int32_t first)
{
    const int lane = thread_x() % WARP;
    const int32_t column = block_y() * a.width;
    const int64_t query = (int64_t)block_y() * a.q_total + s.q;
    float dk[LANE_COLUMNS] = {0, 0, 0, 0}, dv[LANE_COLUMNS] = {0, 0, 0, 0};
    for (int32_t i = a.causal ? j / WARP * WARP : 0; i < s.queries; i += WARP) {
        const int32_t mine = i + lane < s.queries ? i + lane : i;
        const pair_grad x = plain_pair(a, g, s, i + lane, j, g.lse[query + mine], g.delta[query + mine]);
        for (int k = 0; k < WARP && i + k < s.queries; k++) {
            add_columns(dk, shuffle(x.ds, k), a.q, (int64_t)(s.q + i + k) * a.q_stride + column, first, a.width);
            add_columns(dv, shuffle(x.p, k), g.dout, ((int64_t)(s.q + i + k) * a.heads + block_y()) * a.width, first, a.width);
        }
    }
    put_columns(g.dk, (int64_t)(s.k + j) * a.k_stride + column, first, a.width, dk);
    put_columns(g.dv, (int64_t)(s.k + j) * a.v_stride + column, first, a.width, dv);
}

static __global__ void plain_dkv(attend a, grads g)
{
    const span s = find_span(a, a.k_offsets, a.k_total, ATTEND_WARPS, block_x());
    const int32_t n = thread_x() / WARP;
    clear_tokens(g.dk, s.token, s.tail, a.k_stride, block_y() * a.width, a.width);
    clear_tokens(g.dv, s.token, s.tail, a.v_stride, block_y() * a.width, a.width);
    for (int32_t first = 0; n < s.rows && first < a.width; first += WARP * LANE_COLUMNS)
        plain_dkv_window(a, g, s, s.first + n, first);
}

/* ---- tiles ---- */

#ifndef SEMINDEX_CUDA_F32

namespace {
struct rooms { /* own: the block's rows, sixteen a warp; other: the tile it is at. a, b: Q and dO, or K and V */
    sp<bf16> own_a, own_b, other_a, other_b, ds, p;
    sp<float> bias, lse, delta, patch, bins;
};
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
enum { WIDE_BLOCKS = 2 }; /* three would not fit without spilling */
#else
enum { WIDE_BLOCKS = 3 };
#endif
template <int W> struct shape { /* of a block */
    static constexpr int WARPS = W > 64 ? 2 : 4, OWN = 16 * WARPS, THREADS = WARPS * WARP;
    static constexpr int RESIDENT_BLOCKS = W > 64 ? 4 : W > 32 ? WIDE_BLOCKS : 3;
    static constexpr bool AHEAD = W <= 64; /* the next tile is fetched while this one is worked on; else there are no registers for it */
};
template <int W> struct coming {
    parcel<OTHER, W, shape<W>::THREADS> a, b;
    float bias, lse, delta;
};
template <int N> struct pair_tiles { /* of N x 16 of the other side */
    sum_tile s[N], dp[N];
};
}

DEVICE source queries_of(const attend &a, const span &s, int32_t first, int32_t rows)
{
    return {a.q, (int64_t)(s.q + first) * a.q_stride + block_y() * a.width, a.q_stride, rows, a.width, a.wide};
}
DEVICE source douts_of(const attend &a, const grads &g, const span &s, int32_t first, int32_t rows)
{
    return {g.dout, ((int64_t)(s.q + first) * a.heads + block_y()) * a.width, a.heads * a.width, rows, a.width, a.wide};
}
DEVICE source keys_of(const attend &a, const span &s, int32_t first, int32_t rows)
{
    return {a.k, (int64_t)(s.k + first) * a.k_stride + block_y() * a.width, a.k_stride, rows, a.width, a.wide};
}
DEVICE source values_of(const attend &a, const span &s, int32_t first, int32_t rows)
{
    return {a.v, (int64_t)(s.k + first) * a.v_stride + block_y() * a.width, a.v_stride, rows, a.width, a.wide};
}

/* The other side's tile, into shared memory. */
template <int W> DEVICE void place_tile(const rooms &r, const coming<W> &c, const source &a, const source &b)
{
    if (shape<W>::AHEAD) {
        deliver(r.other_a, c.a, a);
        deliver(r.other_b, c.b, b);
    } else {
        stage<OTHER, W, shape<W>::THREADS>(r.other_a, a);
        stage<OTHER, W, shape<W>::THREADS>(r.other_b, b);
    }
}

/* s = own_a other_a^T, dp = own_b other_b^T for the warp's sixteen rows and N x 16 of the other side, from `first` on. */
template <int W, int N> DEVICE void pair_products(const rooms &r, int first, pair_tiles<N> &y)
{
    const int own = thread_x() / WARP * 16 * PITCH(W);
    UNROLL
    for (int n = 0; n < N; n++) {
        wmma::fill_fragment(y.s[n], 0.0f);
        wmma::fill_fragment(y.dp[n], 0.0f);
    }
    FOUR_BY_FOUR
    for (int c = 0; c < W / 16; c++) {
        left_tile a, b;
        wmma::load_matrix_sync(a, r.own_a + (own + c * 16), PITCH(W));
        wmma::load_matrix_sync(b, r.own_b + (own + c * 16), PITCH(W));
        UNROLL
        for (int n = 0; n < N; n++) {
            const int at = (first + n * 16) * PITCH(W) + c * 16;
            turned_tile x;
            wmma::load_matrix_sync(x, r.other_a + at, PITCH(W));
            wmma::mma_sync(y.s[n], a, x, y.s[n]);
            wmma::load_matrix_sync(x, r.other_b + at, PITCH(W));
            wmma::mma_sync(y.dp[n], b, x, y.dp[n]);
        }
    }
}

/* y += x other, x [16, OTHER] being the warp's rows of dS or P. */
template <int W> DEVICE void add_product(sum_tile (&y)[W / 16], sp<bf16> x, sp<bf16> other)
{
    const int own = thread_x() / WARP * 16 * PITCH(OTHER);
    ONE_BY_ONE
    for (int c = 0; c < OTHER / 16; c++) {
        left_tile a;
        wmma::load_matrix_sync(a, x + (own + c * 16), PITCH(OTHER));
        UNROLL
        for (int n = 0; n < W / 16; n++) {
            right_tile b;
            wmma::load_matrix_sync(b, other + (c * 16 * PITCH(W) + n * 16), PITCH(W));
            wmma::mma_sync(y[n], a, b, y[n]);
        }
    }
}

/* Which of the lane's elements dropout leaves, a bit each. `token`, `key`: of row 0 and column 0; turned: rows are keys. */
DEVICE uint32_t kept_bits(const attend &a, const where &at, int32_t token, int32_t key, bool turned)
{
    uint32_t bits = 0;
    ONE_BY_ONE
    for (int e = 0; a.drop.rate > 0.0f && e < OTHER / 16 * ELEMENTS; e++) {
        const int row = thread_x() / WARP * 16 + row_of(at, e % ELEMENTS), column = e / ELEMENTS * 16 + column_of(at, e % ELEMENTS);
        const float keep = keep_at(a, block_y(), token + (turned ? column : row), key + (turned ? row : column));
        bits |= (keep > 0.0f ? 1u : 0u) << e;
    }
    return a.drop.rate > 0.0f ? bits : 0xffffffffu;
}

template <int W> DEVICE void put_own(const outlet &o, const sum_tile (&y)[W / 16], const rooms &r)
{
    UNROLL
    for (int n = 0; n < W / 16; n++)
        put_tile(o, y[n], r.patch + thread_x() / WARP * 16 * PITCH(16), PITCH(16), n * 16);
}

template <int W> DEVICE void clear_sums(sum_tile (&y)[W / 16])
{
    UNROLL
    for (int n = 0; n < W / 16; n++)
        wmma::fill_fragment(y[n], 0.0f);
}

/* ---- tiles of queries: dQ, delta, bins ---- */

template <int W> DEVICE void begin_queries(const attend &a, const grads &g, const span &s, const rooms &r)
{
    typedef shape<W> shape;
    stage<shape::OWN, W, shape::THREADS>(r.own_a, queries_of(a, s, s.first, s.rows));
    stage<shape::OWN, W, shape::THREADS>(r.own_b, douts_of(a, g, s, s.first, s.rows));
    for (int n = thread_x() / WARP * 16, i = 0; i < 16; i++) {
        const bool live = n + i < s.rows;
        const int64_t at = (int64_t)block_y() * a.q_total + s.token + n + i;
        const float delta = live ? delta_of(a, g, block_y(), s.token + n + i) : 0.0f;
        if (thread_x() % WARP > 0)
            continue;
        r.lse[n + i] = live ? g.lse[at] : INFINITY;
        r.delta[n + i] = delta;
        if (live)
            g.delta[at] = delta;
    }
    if (g.biased)
        clear_bins(a, r.bins);
}

template <int W> DEVICE void fetch_keys(const attend &a, const span &s, int32_t first, coming<W> &c)
{
    if (shape<W>::AHEAD) {
        fetch(c.a, keys_of(a, s, first, s.keys - first));
        fetch(c.b, values_of(a, s, first, s.keys - first));
    }
    c.bias = bias_at(a, block_y(), first - s.first + thread_x() - (shape<W>::OWN - 1));
}

template <int W> DEVICE void deliver_keys(const attend &a, const span &s, const rooms &r, int32_t first, coming<W> &c)
{
    const int32_t left = s.keys - first;
    place_tile<W>(r, c, keys_of(a, s, first, left), values_of(a, s, first, left));
    if (thread_x() < shape<W>::OWN - 1 + OTHER)
        r.bias[thread_x()] = c.bias;
}

/* dS of the warp's queries. */
template <int W> DEVICE void query_grads(const attend &a, const span &s, const rooms &r, const where &at, int32_t first)
{
    pair_tiles<OTHER / 16> y;
    pair_products<W>(r, 0, y);
    const uint32_t kept = kept_bits(a, at, s.token, first, false);
    const int32_t left = s.keys - first;
    UNROLL
    for (int n = 0; n < OTHER / 16; n++)
        UNROLL
        for (int e = 0; e < ELEMENTS; e++) {
            const int row = thread_x() / WARP * 16 + row_of(at, e), column = n * 16 + column_of(at, e);
            const float score = y.s[n].x[e] + r.bias[column - row + shape<W>::OWN - 1];
            const float p = column < left ? expf(score - r.lse[row]) : 0.0f;
            const float dp = kept >> (n * ELEMENTS + e) & 1 ? a.kept * y.dp[n].x[e] : 0.0f;
            r.ds[row * PITCH(OTHER) + column] = to_real<bf16>(p * (dp - r.delta[row]));
        }
    sync_warp();
}

/* The diagonals of the warp's [16, OTHER] part of dS, a lane each; `distance` is that of row 0 and column 0. */
DEVICE void bin_diagonals(const attend &a, const rooms &r, int32_t distance)
{
    const int own = thread_x() / WARP * 16;
    ONE_BY_ONE
    for (int from = -15; from < OTHER; from += WARP) {
        const int diagonal = from + thread_x() % WARP;
        float sum = 0.0f;
        UNROLL
        for (int row = 0; row < 16; row++)
            if (row + diagonal >= 0 && row + diagonal < OTHER)
                sum += to_float(r.ds[(own + row) * PITCH(OTHER) + row + diagonal]);
        add_bins(r.bins, sum, bucket_at(a, distance + diagonal));
    }
}

template <int W> DEVICE void walk_keys(const attend &a, const grads &g, const span &s, const rooms &r, sum_tile (&dq)[W / 16])
{
    const int warp = thread_x() / WARP;
    const int32_t end = a.causal && s.first + s.rows < s.keys ? s.first + s.rows : s.keys;
    const where at = find_where(r.patch + warp * 16 * PITCH(16), PITCH(16));
    coming<W> c;
    if (end > 0)
        fetch_keys<W>(a, s, 0, c);
    for (int32_t first = 0; first < end; first += OTHER) {
        sync_block();
        deliver_keys<W>(a, s, r, first, c);
        sync_block();
        if (first + OTHER < end)
            fetch_keys<W>(a, s, first + OTHER, c);
        if (warp * 16 >= s.rows)
            continue;
        query_grads<W>(a, s, r, at, first);
        if (g.biased)
            bin_diagonals(a, r, first - s.first - warp * 16);
        add_product<W>(dq, r.ds, r.other_a);
    }
}

template <int W>
static __global__ void RESIDENT(shape<W>::THREADS, shape<W>::RESIDENT_BLOCKS) tile_dq(attend a, grads g)
{
    typedef shape<W> shape;
    SHARED(bf16, own, 2 * shape::OWN * PITCH(W));
    SHARED(bf16, other, 2 * OTHER * PITCH(W));
    SHARED(bf16, ds, shape::OWN * PITCH(OTHER));
    SHARED(float, facts, 3 * shape::OWN + OTHER);
    SHARED(float, patch, shape::OWN * PITCH(16));
    SHARED(float, bins, shape::WARPS * BINS);
    const rooms r = {own + 0, own + shape::OWN * PITCH(W), other + 0, other + OTHER * PITCH(W), ds + 0, ds + 0,
                     facts + 2 * shape::OWN, facts + 0, facts + shape::OWN, patch + 0, bins + 0};
    const span s = find_span(a, a.q_offsets, a.q_total, shape::OWN, block_x());
    const int32_t warp = thread_x() / WARP, column = block_y() * a.width;
    clear_tokens(g.dq, s.token, s.tail, a.q_stride, column, a.width);
    begin_queries<W>(a, g, s, r);
    sum_tile dq[W / 16];
    clear_sums<W>(dq);
    walk_keys<W>(a, g, s, r, dq);
    const int64_t at = (int64_t)(s.token + warp * 16) * a.q_stride + column;
    if (warp * 16 < s.rows)
        put_own<W>({g.dq, at, a.q_stride, s.rows - warp * 16, a.width, a.wide}, dq, r);
    if (g.biased)
        leave_bins(a, g, r.bins);
}

/* ---- tiles of keys: dK, dV ---- */

template <int W> DEVICE void fetch_queries(const attend &a, const grads &g, const span &s, int32_t first, coming<W> &c)
{
    const int32_t left = s.queries - first, n = thread_x();
    const int64_t at = (int64_t)block_y() * a.q_total + s.q + first + n;
    if (shape<W>::AHEAD) {
        fetch(c.a, queries_of(a, s, first, left));
        fetch(c.b, douts_of(a, g, s, first, left));
    }
    c.bias = bias_at(a, block_y(), s.first - first + shape<W>::OWN - 1 - n);
    c.lse = n < OTHER && n < left ? g.lse[at] : INFINITY;
    c.delta = n < OTHER && n < left ? g.delta[at] : 0.0f;
}

template <int W>
DEVICE void deliver_queries(const attend &a, const grads &g, const span &s, const rooms &r, int32_t first, coming<W> &c)
{
    const int32_t left = s.queries - first;
    place_tile<W>(r, c, queries_of(a, s, first, left), douts_of(a, g, s, first, left));
    if (thread_x() < shape<W>::OWN - 1 + OTHER)
        r.bias[thread_x()] = c.bias;
    if (thread_x() < OTHER) {
        r.lse[thread_x()] = c.lse;
        r.delta[thread_x()] = c.delta;
    }
}

/* dS^T and (keep P)^T of the warp's keys; sixteen queries after sixteen, since dK and dV take most registers. */
template <int W> DEVICE void key_grads(const attend &a, const span &s, const rooms &r, const where &at, int32_t first)
{
    const uint32_t kept = kept_bits(a, at, s.q + first, s.first, true);
    ONE_BY_ONE
    for (int n = 0; n < OTHER / 16; n++) {
        pair_tiles<1> y;
        pair_products<W>(r, n * 16, y);
        UNROLL
        for (int e = 0; e < ELEMENTS; e++) {
            const int row = thread_x() / WARP * 16 + row_of(at, e), column = n * 16 + column_of(at, e);
            const float p = expf(y.s[0].x[e] + r.bias[column - row + shape<W>::OWN - 1] - r.lse[column]);
            const float keep = kept >> (n * ELEMENTS + e) & 1 ? a.kept : 0.0f;
            r.p[row * PITCH(OTHER) + column] = to_real<bf16>(p * keep);
            r.ds[row * PITCH(OTHER) + column] = to_real<bf16>(p * (keep * y.dp[0].x[e] - r.delta[column]));
        }
    }
    sync_warp();
}

template <int W>
DEVICE void walk_queries(const attend &a, const grads &g, const span &s, const rooms &r, sum_tile (&dk)[W / 16], sum_tile (&dv)[W / 16])
{
    const int warp = thread_x() / WARP;
    const int32_t begin = a.causal ? s.first / OTHER * OTHER : 0;
    const where at = find_where(r.patch + warp * 16 * PITCH(16), PITCH(16));
    coming<W> c;
    if (begin < s.queries)
        fetch_queries<W>(a, g, s, begin, c);
    for (int32_t first = begin; first < s.queries; first += OTHER) {
        sync_block();
        deliver_queries<W>(a, g, s, r, first, c);
        sync_block();
        if (first + OTHER < s.queries)
            fetch_queries<W>(a, g, s, first + OTHER, c);
        if (warp * 16 >= s.rows)
            continue;
        key_grads<W>(a, s, r, at, first);
        add_product<W>(dk, r.ds, r.other_a);
        add_product<W>(dv, r.p, r.other_b);
    }
}

template <int W>
static __global__ void RESIDENT(shape<W>::THREADS, shape<W>::RESIDENT_BLOCKS) tile_dkv(attend a, grads g)
{
    typedef shape<W> shape;
    SHARED(bf16, own, 2 * shape::OWN * PITCH(W));
    SHARED(bf16, other, 2 * OTHER * PITCH(W));
    SHARED(bf16, pairs, 2 * shape::OWN * PITCH(OTHER));
    SHARED(float, facts, shape::OWN + 3 * OTHER);
    SHARED(float, patch, shape::OWN * PITCH(16));
    const rooms r = {own + 0, own + shape::OWN * PITCH(W), other + 0, other + OTHER * PITCH(W), pairs + 0,
                     pairs + shape::OWN * PITCH(OTHER), facts + 2 * OTHER, facts + 0, facts + OTHER, patch + 0, patch + 0};
    const span s = find_span(a, a.k_offsets, a.k_total, shape::OWN, block_x());
    const int32_t warp = thread_x() / WARP, column = block_y() * a.width, token = s.token + warp * 16;
    clear_tokens(g.dk, s.token, s.tail, a.k_stride, column, a.width);
    clear_tokens(g.dv, s.token, s.tail, a.v_stride, column, a.width);
    if (s.rows == 0)
        return;
    stage<shape::OWN, W, shape::THREADS>(r.own_a, keys_of(a, s, s.first, s.rows));
    stage<shape::OWN, W, shape::THREADS>(r.own_b, values_of(a, s, s.first, s.rows));
    sum_tile dk[W / 16], dv[W / 16];
    clear_sums<W>(dk);
    clear_sums<W>(dv);
    walk_queries<W>(a, g, s, r, dk, dv);
    if (warp * 16 >= s.rows)
        return;
    put_own<W>({g.dk, (int64_t)token * a.k_stride + column, a.k_stride, s.rows - warp * 16, a.width, a.wide}, dk, r);
    put_own<W>({g.dv, (int64_t)token * a.v_stride + column, a.v_stride, s.rows - warp * 16, a.width, a.wide}, dv, r);
}

#endif

/* ---- launches ---- */

namespace {
struct launch {
    const struct attention *a;
    attend t;
    grads g;
    struct cost dq, dkv;
};
}

static struct cost dq_cost(const struct attention *a, bool biased, int32_t tile)
{
    const double row = (double)a->heads * a->width, queries = a->q_rows.total, keys = a->k_rows.total;
    const double bins = biased ? (double)tiles_of(a->q_rows, tile) * a->heads * a->buckets * sizeof(float) : 0.0;
    const double moved = (4 * queries + 2 * keys) * row * sizeof(real) + 2 * queries * a->heads * sizeof(float);
    return {moved + bins + attend_tables(a), attend_pairs(a) * (6.0 * a->width + 10)};
}

static struct cost dkv_cost(const struct attention *a)
{
    const double row = (double)a->heads * a->width, queries = a->q_rows.total, keys = a->k_rows.total;
    const double moved = (2 * queries + 4 * keys) * row * sizeof(real) + 2 * queries * a->heads * sizeof(float);
    return {moved + attend_tables(a), attend_pairs(a) * (8.0 * a->width + 10)};
}

#ifndef SEMINDEX_CUDA_F32
template <int W> static void launch_tiles(const launch &l)
{
    typedef shape<W> shape;
    LAUNCH((tile_dq<W>), dim_of(tiles_of(l.a->q_rows, shape::OWN), l.a->heads), shape::THREADS, l.dq, l.t, l.g);
    if (l.a->k_rows.total > 0)
        LAUNCH((tile_dkv<W>), dim_of(tiles_of(l.a->k_rows, shape::OWN), l.a->heads), shape::THREADS, l.dkv, l.t, l.g);
}

static void launch_all(const launch &l)
{
    if (l.a->width <= 16)
        launch_tiles<16>(l);
    else if (l.a->width <= 32)
        launch_tiles<32>(l);
    else if (l.a->width <= 64)
        launch_tiles<64>(l);
    else
        launch_tiles<128>(l);
}
static int32_t tile_of(int32_t width)
{
    return width <= 64 ? shape<64>::OWN : width <= 128 ? shape<128>::OWN : TILE;
}
static bool has_tiles(int32_t width)
{
    return width <= 128;
}
#else
static void launch_all(const launch &) {}
static int32_t tile_of(int32_t)
{
    return TILE;
}
static bool has_tiles(int32_t)
{
    return false;
}
#endif

static void launch_plain(const launch &l)
{
    LAUNCH((plain_dq), dim_of(tiles_of(l.a->q_rows, TILE), l.a->heads), ATTEND_THREADS, l.dq, l.t, l.g);
    if (l.a->k_rows.total > 0)
        LAUNCH((plain_dkv), dim_of(tiles_of(l.a->k_rows, ATTEND_WARPS), l.a->heads), ATTEND_THREADS, l.dkv, l.t, l.g);
}

static grads grads_of(const struct attention *a, const struct attention_grad *d, int64_t tiles)
{
    const size_t deltas = (size_t)blocks_for((int64_t)a->heads * a->q_rows.total, 64) * 64;
    const size_t bins = d->dbias ? (size_t)(tiles * a->heads * a->buckets) : 0;
    grads g = {};
    float *scratch = (float *)platform_scratch((deltas + bins) * sizeof(float));
    g.dout = act_data(d->dout), g.out = act_data(a->out);
    g.dq = act_data(d->dq), g.dk = act_data(d->dk), g.dv = act_data(d->dv);
    g.lse = a->lse, g.delta = scratch, g.bins = scratch + deltas, g.biased = d->dbias != NULL;
    return g;
}

void cuda_attention_backward(const struct attention *a, const struct attention_grad *d)
{
    const void *more[] = {d->dout, d->dq, d->dk, d->dv};
    const int32_t tile = tile_of(a->width);
    const int64_t tiles = tiles_of(a->q_rows, tile);
    if (a->q_rows.total + a->k_rows.total == 0 || a->q_rows.count == 0)
        return;
    CHECK(!d->dbias || (a->bias && a->buckets <= BINS));
    launch l = {a, attend_of(a), grads_of(a, d, tiles), dq_cost(a, d->dbias != NULL, tile), dkv_cost(a)};
    l.t.wide = attend_wide(a, more, 4);
    if (has_tiles(a->width))
        launch_all(l);
    else
        launch_plain(l);
    if (!d->dbias)
        return;
    const double cells = (double)a->heads * a->buckets;
    const struct cost cost = {cells * ((double)tiles + 1) * sizeof(float), cells * ((double)tiles + BIN_WARPS)};
    LAUNCH((sum_bins), dim_of(a->heads, blocks_for(a->buckets, WARP)), BIN_WARPS * WARP, cost, l.g.bins, d->dbias, (int32_t)tiles, a->heads,
           a->buckets);
}
