/* hint.cu: the reconstructor's attention, forward and backward.
 *
 * The score of key k depends on the target i only through bias and mask: q . k is one number per (document, head, pass, key), a tile's
 * bias is one number a diagonal, and the mask, the same for all heads and passes, is drawn once into bits in scratch. What remains is a
 * product of probabilities [targets, keys] with values, done by tile.h. Target i stands at position passes + i of the memory; keys below
 * `passes` are always visible, so no row of probabilities is empty.
 *
 * Forward: a block has 64 targets of one head and pass and 64 columns of the output, and sweeps over the keys twice: for log-sum-exp,
 * then, with probabilities that need no rescaling any more, for the output. Backward: a block has 32 keys of one head and walks all
 * passes and targets, so dV, the sums of dS over targets (all that dQ and dK need) and dS by bucket each have one owner and one order. A
 * last kernel makes dQ and dK from the sums of dS. Heads go in groups when those sums are more than scratch holds. */
#include "reduce.h"
#include "tile.h"

enum { TARGETS = 64, KEYS = 32, COLUMNS = 64, DIAGONALS = TARGETS + KEYS - 1, BINS = 256, MINE = KEYS * TARGETS / TILE_THREADS };
enum { KEY_PITCH = KEYS + TILE_PAD, COLUMN_PITCH = COLUMNS + TILE_PAD, GRAD_PITCH = KEYS + 4, SUM_PITCH = COLUMNS + 4, ALIGN = 256 };

namespace {
struct hint {
    int32_t heads, width, passes, count, text_total, memory_total, k_stride, v_stride, words, max_distance, buckets;
    bool biased, listed, wide; /* listed: explicit masks; wide: four neighbours may be loaded at once */
    gp<const int32_t> text, memory;
    gp<const real> q, k, v;
    gp<const float> bias;
    gp<const uint8_t> bucket, visible;
    gp<const int64_t> visible_offsets;
    gp<const uint64_t> doc_key;
    gp<const uint32_t> bits; /* [text total, words]; words 0: drawn where needed */
    float ratio;
    uint64_t seed;
};
struct place { /* what a block works on: a document's rows and a head */
    int32_t document, head, text, targets, memory, keys;
    uint64_t seed; /* of the document's mask */
};
struct hint_grad {
    gp<const real> out, dout;
    gp<real> dq, dk, dv;
    gp<const float> lse;
    gp<float> score_sums; /* [heads of the group, passes, memory total]: dS summed over the targets */
    gp<float> bins;       /* [heads of the group, buckets, blocks] */
    int32_t first_head, blocks;
    bool has_bins;
};
}

DEVICE place place_of(const hint &h, int32_t document, int32_t head)
{
    place p = {};
    p.document = document, p.head = head;
    p.text = h.text[document], p.targets = h.text[document + 1] - p.text;
    p.memory = h.memory[document], p.keys = p.targets + h.passes;
    p.seed = h.listed ? 0 : mix64(h.seed, h.doc_key[document]);
    return p;
}

/* Whether target i sees text token j, by the mask's definition. */
DEVICE bool draw_sight(const hint &h, const place &p, int32_t i, int32_t j)
{
    if (h.listed)
        return h.visible[h.visible_offsets[p.document] + (int64_t)i * p.targets + j] != 0;
    return i != j && mix_uniform(p.seed, (uint64_t)i * 65536 + (uint64_t)j) < h.ratio;
}

DEVICE bool sees_key(const hint &h, const place &p, int32_t i, int32_t key)
{
    const int32_t j = key - h.passes;
    if (i >= p.targets || key >= p.keys)
        return false;
    if (j < 0)
        return true;
    if (h.words == 0)
        return draw_sight(h, p, i, j);
    return h.bits[(int64_t)(p.text + i) * h.words + j / 32] >> (j % 32) & 1;
}

/* One warp a target. */
static __global__ void hint_bits_kernel(hint h, gp<uint32_t> bits)
{
    const int32_t token = block_x() * TILE_WARPS + thread_x() / WARP, lane = thread_x() % WARP;
    if (token >= h.text[h.count])
        return;
    const place p = place_of(h, slice_of(h.text, h.count, token), 0);
    for (int32_t w = 0; w * 32 < p.targets; w++) {
        const int32_t j = w * 32 + lane;
        const uint32_t word = vote_ballot(j < p.targets && draw_sight(h, p, token - p.text, j));
        if (lane == 0)
            bits[(int64_t)token * h.words + w] = word;
    }
}

/* ---- tiles ---- */

DEVICE int32_t bucket_of(const hint &h, int32_t distance)
{
    const int32_t most = h.max_distance, d = distance > most ? most : distance < -most ? -most : distance;
    return h.bucket[d + most];
}

/* Diagonal n of a tile has distance key - (passes + target) = first_key - passes - first_target + n - (TARGETS - 1). */
DEVICE int32_t distance_of(const hint &h, int32_t first_target, int32_t first_key, int32_t n)
{
    return first_key - h.passes - first_target + n - (TARGETS - 1);
}

DEVICE void fill_bias(const hint &h, const place &p, sp<float> bias, int32_t first_target, int32_t first_key)
{
    for (int32_t n = thread_x(); n < DIAGONALS; n += TILE_THREADS)
        bias[n] = h.biased ? (float)h.bias[bucket_of(h, distance_of(h, first_target, first_key, n)) * h.heads + p.head] : 0.0f;
}

/* q . k of 32 keys from `first` on, eight lanes a key. */
DEVICE void fill_scores(const hint &h, const place &p, sp<float> score, int32_t pass, int32_t first)
{
    const int32_t own = thread_x() / 8, lane = thread_x() % 8, key = first + own;
    const int64_t q = ((int64_t)(p.document * h.passes + pass) * h.heads + p.head) * h.width;
    const int64_t k = (int64_t)(p.memory + key) * h.k_stride + p.head * h.width;
    float sum = 0.0f;
    if (key < p.keys && h.wide)
        for (int32_t c = 4 * lane; c < h.width; c += 32) {
            const four a = load4(h.q, q + c), b = load4(h.k, k + c);
            sum = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum))));
        }
    if (key < p.keys && !h.wide)
        for (int32_t c = lane; c < h.width; c += 8)
            sum = fmaf(to_float(h.q[q + c]), to_float(h.k[k + c]), sum);
    for (int d = 4; d > 0; d /= 2)
        sum += shuffle_xor(sum, d);
    if (lane == 0)
        score[own] = sum;
}

/* Four columns of a row: those at or beyond `width` are 0. */
DEVICE four load_columns(gp<const real> x, int64_t row, int32_t c, int32_t width, bool wide)
{
    if (c >= width)
        return {0, 0, 0, 0};
    if (wide)
        return load4(x, row + c);
    return {to_float(x[row + c]), c + 1 < width ? to_float(x[row + c + 1]) : 0.0f, c + 2 < width ? to_float(x[row + c + 2]) : 0.0f,
            c + 3 < width ? to_float(x[row + c + 3]) : 0.0f};
}

DEVICE void put_columns(sp<real> y, int at, four v)
{
    y[at] = to_real(v.x);
    y[at + 1] = to_real(v.y);
    y[at + 2] = to_real(v.z);
    y[at + 3] = to_real(v.w);
}

/* Values of 32 keys, 64 columns from `column` on; zeros beyond. */
DEVICE void fill_values(const hint &h, const place &p, sp<real> values, int32_t first, int32_t column)
{
    for (int32_t e = thread_x(); e < KEYS * COLUMNS / 4; e += TILE_THREADS) {
        const int32_t key = e / (COLUMNS / 4), c = e % (COLUMNS / 4) * 4;
        const int64_t row = (int64_t)(p.memory + first + key) * h.v_stride + p.head * h.width;
        const four v = first + key < p.keys ? load_columns(h.v, row, column + c, h.width, h.wide) : four{0, 0, 0, 0};
        put_columns(values, key * COLUMN_PITCH + c, v);
    }
}

/* Thread (i, x) of a tile: target i = thread / 4, keys thread % 4 + 4 n, n < MINE. */
DEVICE float score_at(const hint &h, const place &p, sp<float> score, sp<float> bias, int32_t first_target, int32_t first_key, int32_t n)
{
    const int32_t i = thread_x() / 4, k = thread_x() % 4 + 4 * n;
    return sees_key(h, p, first_target + i, first_key + k) ? score[k] + bias[k - i + TARGETS - 1] : -INFINITY;
}

/* Row of the output: pass-major. */
DEVICE int64_t out_token(const hint &h, const place &p, int32_t pass, int32_t target)
{
    return (int64_t)pass * h.text_total + p.text + target;
}

/* ---- forward ---- */

/* Log-sum-exp of the thread's target over all keys; four neighbouring threads share it. */
DEVICE float sweep_lse(const hint &h, const place &p, sp<float> score, sp<float> bias, int32_t pass, int32_t first)
{
    float top = -INFINITY, sum = 0.0f;
    for (int32_t key = 0; key < p.keys; key += KEYS) {
        fill_scores(h, p, score, pass, key);
        fill_bias(h, p, bias, first, key);
        sync_block();
        for (int n = 0; n < MINE; n++) {
            const float s = score_at(h, p, score, bias, first, key, n), higher = fmaxf(top, s);
            if (s > -INFINITY)
                sum = sum * expf(top - higher) + expf(s - higher);
            top = higher;
        }
        sync_block();
    }
    for (int d = 1; d < 4; d *= 2) {
        const float other = shuffle_xor(top, d), other_sum = shuffle_xor(sum, d), higher = fmaxf(top, other);
        sum = higher > -INFINITY ? sum * expf(top - higher) + other_sum * expf(other - higher) : 0.0f;
        top = higher;
    }
    return sum > 0.0f ? top + logf(sum) : INFINITY; /* beyond the last target nothing is seen, and nothing is kept */
}

DEVICE void put_output(const hint &h, const place &p, gp<real> out, sp<float> sums, int32_t pass, int32_t first, int32_t column)
{
    for (int32_t e = thread_x(); e < TARGETS * COLUMNS / 4; e += TILE_THREADS) {
        const int32_t i = e / (COLUMNS / 4), c = e % (COLUMNS / 4) * 4;
        const int64_t at = (out_token(h, p, pass, first + i) * h.heads + p.head) * h.width + column + c;
        if (first + i >= p.targets)
            continue;
        if (h.wide && column + c < h.width)
            store4(out, at, load4(sums, i * SUM_PITCH + c));
        for (int j = 0; j < 4 && !h.wide; j++)
            if (column + c + j < h.width)
                out[at + j] = to_real(sums[i * SUM_PITCH + c + j]);
    }
}

/* block_x: document and tile of targets; block_y: pass and head; block_z: columns. */
static __global__ void hint_kernel(hint h, gp<real> out, gp<float> lses, bool has_lse, int32_t tiles)
{
    SHARED(real, probability, TARGETS * KEY_PITCH);
    SHARED(real, values, KEYS * COLUMN_PITCH);
    SHARED(float, sums, TARGETS * SUM_PITCH);
    SHARED(float, score, KEYS);
    SHARED(float, bias, DIAGONALS + 1);
    const place p = place_of(h, block_x() / tiles, block_y() % h.heads);
    const int32_t first = block_x() % tiles * TARGETS, pass = block_y() / h.heads, column = block_z() * COLUMNS, i = thread_x() / 4;
    if (first >= p.targets)
        return;
    const float lse = sweep_lse(h, p, score, bias, pass, first);
    tile_sum<TARGETS, COLUMNS> y;
    tile_clear(y);
    for (int32_t key = 0; key < p.keys; key += KEYS) {
        fill_scores(h, p, score, pass, key);
        fill_bias(h, p, bias, first, key);
        fill_values(h, p, values, key, column);
        sync_block();
        for (int n = 0; n < MINE; n++)
            probability[i * KEY_PITCH + thread_x() % 4 + 4 * n] = to_real(expf(score_at(h, p, score, bias, first, key, n) - lse));
        sync_block();
        tile_add<false, false, KEYS>(y, probability, KEY_PITCH, values, COLUMN_PITCH);
        sync_block();
    }
    tile_put(sums, SUM_PITCH, y);
    if (has_lse && block_z() == 0 && thread_x() % 4 == 0 && first + i < p.targets)
        lses[(int64_t)p.head * h.passes * h.text_total + out_token(h, p, pass, first + i)] = lse;
    sync_block();
    put_output(h, p, out, sums, pass, first, column);
}

/* ---- backward ---- */

/* 64 rows of dout, 64 columns from `column` on, into shared memory; returns the thread's share of dout . out of its target. */
DEVICE float fill_dout(const hint &h, const place &p, const hint_grad &g, sp<real> dout, int32_t pass, int32_t first, int32_t column)
{
    const int32_t i = thread_x() / 4;
    const int64_t row = (out_token(h, p, pass, first + i) * h.heads + p.head) * h.width;
    float sum = 0.0f;
    for (int32_t c = thread_x() % 4 * 4; c < COLUMNS; c += 16) {
        four d = {0, 0, 0, 0};
        if (first + i < p.targets) {
            const four y = load_columns(g.out, row, column + c, h.width, h.wide);
            d = load_columns(g.dout, row, column + c, h.width, h.wide);
            sum = fmaf(d.x, y.x, fmaf(d.y, y.y, fmaf(d.z, y.z, fmaf(d.w, y.w, sum))));
        }
        put_columns(dout, i * COLUMN_PITCH + c, d);
    }
    return sum;
}

/* Shared rooms of a backward block. */
namespace {
struct rooms {
    sp<real> dout, values, probability; /* [TARGETS, COLUMNS], [KEYS, COLUMNS], [TARGETS, KEYS] */
    sp<float> grad;                     /* [TARGETS, KEYS]: dP, then dS; at the end dV */
    sp<float> score, bias, diagonals, columns, bins;
};
struct tile_at { /* pass, tile of targets, of keys, columns of dV */
    int32_t pass, target, key, column;
};
}

/* dP of a tile into `grad`; returns dout . out of the thread's target. The columns of dV come last: their dout stays in shared memory. */
DEVICE float fill_grad(const hint &h, const place &p, const hint_grad &g, const rooms &r, const tile_at &t)
{
    const int32_t chunks = (h.width + COLUMNS - 1) / COLUMNS;
    tile_sum<TARGETS, KEYS> dp;
    float sum = 0.0f;
    tile_clear(dp);
    for (int32_t s = 1; s <= chunks; s++) {
        const int32_t column = (t.column / COLUMNS + s) % chunks * COLUMNS;
        sync_block();
        sum += fill_dout(h, p, g, r.dout, t.pass, t.target, column);
        fill_values(h, p, r.values, t.key, column);
        sync_block();
        tile_add<false, true, COLUMNS>(dp, r.dout, COLUMN_PITCH, r.values, COLUMN_PITCH);
    }
    tile_put(r.grad, GRAD_PITCH, dp);
    sum += shuffle_xor(sum, 1);
    return sum + shuffle_xor(sum, 2);
}

/* P into `probability`, dS = P (dP - dout . out) into `grad`. */
DEVICE void fill_slopes(const hint &h, const place &p, const hint_grad &g, const rooms &r, const tile_at &t, float mean)
{
    const int32_t i = thread_x() / 4;
    const int64_t token = (int64_t)p.head * h.passes * h.text_total + out_token(h, p, t.pass, t.target + i);
    const float lse = t.target + i < p.targets ? (float)g.lse[token] : INFINITY;
    for (int n = 0; n < MINE; n++) {
        const int32_t k = thread_x() % 4 + 4 * n;
        const float probability = expf(score_at(h, p, r.score, r.bias, t.target, t.key, n) - lse);
        r.probability[i * KEY_PITCH + k] = to_real(probability);
        r.grad[i * GRAD_PITCH + k] = probability * ((float)r.grad[i * GRAD_PITCH + k] - mean);
    }
}

/* This thread's share of the sum of dS down a column: key thread % 32, eight targets. */
DEVICE float column_share(const rooms &r)
{
    const int32_t first = thread_x() / KEYS * (TARGETS / TILE_WARPS);
    float sum = 0.0f;
    for (int32_t i = first; i < first + TARGETS / TILE_WARPS; i++)
        sum += r.grad[i * GRAD_PITCH + thread_x() % KEYS];
    return sum;
}

/* Sum of dS along half a diagonal: targets 0..31 or 32..63. */
DEVICE void sum_diagonals(const rooms &r)
{
    const int32_t n = thread_x() % (DIAGONALS + 1), half = thread_x() / (DIAGONALS + 1);
    float sum = 0.0f;
    if (half >= 2 || n >= DIAGONALS)
        return;
    for (int32_t i = half * TARGETS / 2; i < (half + 1) * TARGETS / 2; i++) {
        const int32_t k = i + n - (TARGETS - 1);
        if (k >= 0 && k < KEYS)
            sum += r.grad[i * GRAD_PITCH + k];
    }
    r.diagonals[half * (DIAGONALS + 1) + n] = sum;
}

/* Diagonals into their buckets: a warp has every eighth bucket. */
DEVICE void add_bins(const hint &h, const rooms &r, const tile_at &t)
{
    const int32_t lane = thread_x() % WARP;
    int32_t bucket[DIAGONALS / WARP + 1];
    for (int32_t m = 0; m <= DIAGONALS / WARP; m++)
        bucket[m] = lane + m * WARP < DIAGONALS ? bucket_of(h, distance_of(h, t.target, t.key, lane + m * WARP)) : -1;
    for (int32_t b = thread_x() / WARP; b < h.buckets; b += TILE_WARPS) {
        float sum = 0.0f;
        bool any = false;
        for (int32_t m = 0; m <= DIAGONALS / WARP; m++)
            if (bucket[m] == b) {
                any = true;
                sum += (float)r.diagonals[lane + m * WARP] + (float)r.diagonals[DIAGONALS + 1 + lane + m * WARP];
            }
        if (!vote_any(any))
            continue;
        sum = warp_sum(sum);
        if (lane == 0)
            r.bins[b] = (float)r.bins[b] + sum;
    }
}

/* All targets of a pass against the block's keys; dV is summed in `dv`. */
DEVICE void walk_pass(const hint &h, const place &p, const hint_grad &g, const rooms &r, tile_at t, tile_sum<KEYS, COLUMNS> &dv)
{
    const bool counts = block_z() == 0;
    float column = 0.0f;
    sync_block();
    fill_scores(h, p, r.score, t.pass, t.key);
    for (t.target = 0; t.target < p.targets; t.target += TARGETS) {
        const float mean = fill_grad(h, p, g, r, t);
        fill_bias(h, p, r.bias, t.target, t.key);
        sync_block();
        fill_slopes(h, p, g, r, t, mean);
        sync_block();
        tile_add<true, false, TARGETS>(dv, r.probability, KEY_PITCH, r.dout, COLUMN_PITCH);
        if (!counts)
            continue;
        column += column_share(r);
        if (!g.has_bins)
            continue;
        sum_diagonals(r);
        sync_block();
        add_bins(h, r, t);
    }
    r.columns[thread_x()] = column;
    sync_block();
    if (!counts || thread_x() >= KEYS || t.key + thread_x() >= p.keys)
        return;
    for (int w = 1; w < TILE_WARPS; w++)
        column += r.columns[w * KEYS + thread_x()];
    g.score_sums[((int64_t)block_y() * h.passes + t.pass) * h.memory_total + p.memory + t.key + thread_x()] = column;
}

DEVICE void put_values(const hint &h, const place &p, const hint_grad &g, sp<float> sums, const tile_at &t)
{
    for (int32_t e = thread_x(); e < KEYS * COLUMNS; e += TILE_THREADS) {
        const int32_t key = e / COLUMNS, c = e % COLUMNS;
        if (t.key + key < p.keys && t.column + c < h.width)
            g.dv[(int64_t)(p.memory + t.key + key) * h.v_stride + p.head * h.width + t.column + c] = to_real(sums[key * SUM_PITCH + c]);
    }
}

/* block_x: document and tile of keys; block_y: head of the group; block_z: columns of dV, the first also has the sums of dS. */
static __global__ void hint_backward_kernel(hint h, hint_grad g, int32_t tiles)
{
    SHARED(real, dout, TARGETS * COLUMN_PITCH);
    SHARED(real, values, KEYS * COLUMN_PITCH);
    SHARED(real, probability, TARGETS * KEY_PITCH);
    SHARED(float, grad, TARGETS * GRAD_PITCH);
    SHARED(float, score, KEYS);
    SHARED(float, bias, DIAGONALS + 1);
    SHARED(float, diagonals, 2 * (DIAGONALS + 1));
    SHARED(float, columns, TILE_THREADS);
    SHARED(float, bins, BINS);
    const rooms r = {dout, values, probability, grad, score, bias, diagonals, columns, bins};
    const place p = place_of(h, block_x() / tiles, g.first_head + block_y());
    tile_at t = {0, 0, block_x() % tiles * KEYS, block_z() * COLUMNS};
    tile_sum<KEYS, COLUMNS> dv;
    tile_clear(dv);
    bins[thread_x()] = 0.0f;
    for (; t.key < p.keys && t.pass < h.passes; t.pass++)
        walk_pass(h, p, g, r, t, dv);
    sync_block();
    tile_put(grad, SUM_PITCH, dv);
    sync_block();
    put_values(h, p, g, grad, t);
    if (block_z() == 0 && g.has_bins && thread_x() < h.buckets)
        g.bins[((int64_t)block_y() * h.buckets + thread_x()) * g.blocks + block_x()] = bins[thread_x()];
}

/* dQ of all passes: a thread has one column and every fourth key. */
DEVICE void put_dq(const hint &h, const place &p, const hint_grad &g, gp<const float> sums, sp<float> part)
{
    const int32_t own = thread_x() % COLUMNS, turn = thread_x() / COLUMNS, turns = TILE_THREADS / COLUMNS;
    for (int32_t e = 0; e < h.passes * ((h.width + COLUMNS - 1) / COLUMNS); e++) {
        const int32_t pass = e % h.passes, c = e / h.passes * COLUMNS + own;
        float sum = 0.0f;
        for (int32_t k = turn; k < p.keys && c < h.width; k += turns)
            sum = fmaf(sums[(int64_t)pass * h.memory_total + k],
                       to_float(h.k[(int64_t)(p.memory + k) * h.k_stride + p.head * h.width + c]), sum);
        part[thread_x()] = sum;
        sync_block();
        for (int32_t w = 1; w < turns && turn == 0; w++)
            sum += part[w * COLUMNS + own];
        if (turn == 0 && c < h.width)
            g.dq[((int64_t)(p.document * h.passes + pass) * h.heads + p.head) * h.width + c] = to_real(sum);
        sync_block();
    }
}

/* One block a document (block_x) and head of the group (block_y): dQ = sums . K, dK = sums^T . Q. */
static __global__ void hint_finish_kernel(hint h, hint_grad g)
{
    SHARED(float, part, TILE_THREADS);
    const place p = place_of(h, block_x(), g.first_head + block_y());
    const gp<const float> sums = g.score_sums + ((int64_t)block_y() * h.passes * h.memory_total + p.memory);
    put_dq(h, p, g, sums, part);
    for (int32_t e = thread_x(); e < p.keys * h.width; e += TILE_THREADS) {
        const int32_t k = e / h.width, c = e % h.width;
        float sum = 0.0f;
        for (int32_t pass = 0; pass < h.passes; pass++)
            sum = fmaf(sums[(int64_t)pass * h.memory_total + k],
                       to_float(h.q[((int64_t)(p.document * h.passes + pass) * h.heads + p.head) * h.width + c]), sum);
        g.dk[(int64_t)(p.memory + k) * h.k_stride + p.head * h.width + c] = to_real(sum);
    }
}

/* One block a bucket (block_x) and head of the group (block_y). */
static __global__ void hint_bins_kernel(gp<float> dbias, gp<const float> bins, int32_t blocks, int32_t heads, int32_t first_head)
{
    SHARED(float, room, WARP);
    const int64_t from = ((int64_t)block_y() * blocks_x() + block_x()) * blocks;
    float sum = 0.0f;
    for (int32_t i = thread_x(); i < blocks; i += TILE_THREADS)
        sum += bins[from + i];
    sum = block_sum(sum, sp<float>(room));
    if (thread_x() == 0)
        dbias[block_x() * heads + first_head + block_y()] = (float)dbias[block_x() * heads + first_head + block_y()] + sum;
}

/* ---- host ---- */

static bool is_wide(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    const void *const all[] = {a->q, a->k, a->v, a->out, g ? g->dout : NULL};
    bool wide = a->width % 4 == 0 && a->k_stride % 4 == 0 && a->v_stride % 4 == 0;
    for (const void *p : all)
        wide = wide && (uintptr_t)p % (4 * sizeof(real)) == 0;
    return wide;
}

static hint hint_of(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    hint h = {};
    h.heads = a->heads, h.width = a->width, h.passes = a->passes, h.count = a->text_rows.count;
    h.text_total = a->text_rows.total, h.memory_total = a->memory_rows.total, h.k_stride = a->k_stride, h.v_stride = a->v_stride;
    h.max_distance = a->max_distance, h.buckets = a->buckets, h.biased = a->bias != NULL, h.listed = a->visible != NULL;
    h.text = a->text_rows.offsets, h.memory = a->memory_rows.offsets, h.wide = is_wide(a, g);
    h.q = act_data(a->q), h.k = act_data(a->k), h.v = act_data(a->v), h.bias = a->bias;
    h.bucket = cuda_bucket_table(true, a->buckets, a->max_distance);
    h.visible = a->visible, h.visible_offsets = a->visible_offsets, h.doc_key = a->doc_key, h.ratio = a->ratio, h.seed = a->seed;
    CHECK(a->buckets <= BINS && a->heads * a->passes <= 65535);
    return h;
}

static int64_t align_up(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes of the mask's bits; 0 when they are more than half of scratch: then they are drawn where they are needed. */
static int64_t bits_bytes(const struct hint_attention *a)
{
    const int64_t bytes = align_up(a->text_rows.total * blocks_for(a->text_rows.longest, 32) * (int64_t)sizeof(uint32_t));
    return bytes <= PLATFORM_SCRATCH / 2 ? bytes : 0;
}

/* What every launch reads: q, k, offsets and, `values`, v. */
static double inputs_bytes(const struct hint_attention *a, bool values)
{
    const double row = (double)a->heads * a->width * sizeof(real);
    return row * ((double)a->text_rows.count * a->passes + (values ? 2.0 : 1.0) * a->memory_rows.total) +
           2.0 * (a->text_rows.count + 1) * sizeof(int32_t);
}

static double bias_bytes(const struct hint_attention *a)
{
    return (a->bias ? (double)a->buckets * a->heads * sizeof(float) : 0.0) + 2.0 * a->max_distance + 1;
}

/* Pairs of target and key of all heads and passes; exact where all documents are equally long. */
static double pairs_of(const struct hint_attention *a)
{
    return (double)a->text_rows.total * a->memory_rows.longest * a->heads * a->passes;
}

static void draw_bits(const struct hint_attention *a, hint *h, char *scratch)
{
    const double all = (double)a->text_rows.total * a->text_rows.longest;
    if (bits_bytes(a) == 0)
        return;
    h->words = (int32_t)blocks_for(a->text_rows.longest, 32);
    h->bits = (uint32_t *)scratch;
    const double bytes = all / 8 + (a->visible ? all : 0.0) + (a->text_rows.count + 1.0) * (2 * sizeof(int32_t) + sizeof(int64_t));
    LAUNCH((hint_bits_kernel), dim_of(blocks_for(a->text_rows.total, TILE_WARPS)), TILE_THREADS, (cost{bytes, 0.0}), *h,
           (uint32_t *)scratch);
}

void cuda_hint_attention(const struct hint_attention *a)
{
    const int64_t tiles = blocks_for(a->text_rows.longest, TARGETS), bits = bits_bytes(a);
    const double out = (double)a->passes * a->text_rows.total * a->heads;
    hint h = hint_of(a, NULL);
    if (a->text_rows.count == 0 || tiles == 0)
        return;
    draw_bits(a, &h, (char *)platform_scratch((size_t)bits));
    const double outputs = out * (a->width * sizeof(real) + (a->lse ? (double)sizeof(float) : 0.0));
    const double bytes = inputs_bytes(a, true) + bias_bytes(a) + (double)bits + outputs;
    LAUNCH((hint_kernel), dim_of(a->text_rows.count * tiles, a->heads * a->passes, blocks_for(a->width, COLUMNS)), TILE_THREADS,
           (cost{bytes, 2 * pairs_of(a) * a->width}), h, act_data(a->out), a->lse, a->lse != NULL, (int32_t)tiles);
}

namespace {
struct group { /* of heads: scratch behind the bits */
    int64_t sums, bins; /* bytes a head */
    int32_t heads, tiles, blocks;
    char *at;
};
}

static group group_of(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    group y = {};
    const int64_t bits = bits_bytes(a);
    y.tiles = (int32_t)blocks_for(a->memory_rows.longest, KEYS), y.blocks = y.tiles * a->text_rows.count;
    y.sums = (int64_t)a->passes * a->memory_rows.total * (int64_t)sizeof(float);
    y.bins = g->dbias ? (int64_t)a->buckets * y.blocks * (int64_t)sizeof(float) : 0;
    const int64_t most = (PLATFORM_SCRATCH - bits - ALIGN) / (y.sums + y.bins + 1);
    y.heads = (int32_t)(most < a->heads ? most : a->heads);
    CHECK(y.heads > 0);
    y.at = (char *)platform_scratch((size_t)(bits + y.heads * (y.sums + y.bins) + ALIGN)) + bits;
    return y;
}

static hint_grad grad_of(const struct hint_attention *a, const struct hint_attention_grad *g, const group &y, int32_t first_head)
{
    hint_grad t = {};
    t.out = act_data(a->out), t.dout = act_data(g->dout), t.dq = act_data(g->dq), t.dk = act_data(g->dk), t.dv = act_data(g->dv);
    t.lse = a->lse, t.score_sums = (float *)y.at, t.bins = (float *)(y.at + y.heads * y.sums);
    t.first_head = first_head, t.blocks = y.blocks, t.has_bins = g->dbias != NULL;
    return t;
}

static void backward_heads(const struct hint_attention *a, const struct hint_attention_grad *g, const hint &h, const group &y,
                           int32_t first)
{
    const int32_t heads = a->heads - first < y.heads ? a->heads - first : y.heads;
    const hint_grad t = grad_of(a, g, y, first);
    const double share = (double)heads / a->heads, values = (double)a->memory_rows.total * heads;
    const double outputs = (double)a->passes * a->text_rows.total * heads * (2 * a->width * sizeof(real) + sizeof(float));
    const double sums = heads * (double)y.sums, bins = heads * (double)y.bins;
    const double walked = share * (inputs_bytes(a, true) + bias_bytes(a)) + (double)bits_bytes(a) + outputs +
                          values * a->width * sizeof(real) + sums + bins;
    LAUNCH((hint_backward_kernel), dim_of(y.blocks, heads, blocks_for(a->width, COLUMNS)), TILE_THREADS,
           (cost{walked, 4 * share * pairs_of(a) * a->width}), h, t, y.tiles);
    const double finished = share * 2 * inputs_bytes(a, false) + sums, products = 4 * values * a->passes * a->width;
    LAUNCH((hint_finish_kernel), dim_of(a->text_rows.count, heads), TILE_THREADS, (cost{finished, products}), h, t);
    if (g->dbias)
        LAUNCH((hint_bins_kernel), dim_of(a->buckets, heads), TILE_THREADS,
               (cost{bins + 2.0 * a->buckets * heads * sizeof(float), 0.0}), g->dbias, t.bins, y.blocks, a->heads, first);
}

void cuda_hint_attention_backward(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    hint h = hint_of(a, g);
    if (a->text_rows.count == 0 || a->memory_rows.longest == 0)
        return;
    const group y = group_of(a, g);
    if (a->text_rows.longest > 0)
        draw_bits(a, &h, y.at - bits_bytes(a));
    for (int32_t first = 0; first < a->heads; first += y.heads)
        backward_heads(a, g, h, y, first);
}
