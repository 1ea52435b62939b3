/* scatter.cu: sums into rows that are chosen by an index (the gradient of a table of embeddings, scatter_add), without float atomics.
 *
 * Tokens are sorted by their row, equal ones in their own order: a radix sort of eight bits a pass, whose work does not depend on how the
 * rows are spread. A pass is two launches: every tile of 1,024 tokens counts its digits, then each tile finds its places from all counts
 * and deals its tokens out, ranked within a warp by votes. What is sorted is the tokens' numbers alone; a row is looked up.
 *
 * The sorted list is cut into pieces of fixed length. One block sums a piece, in ascending order; a run of one row that lies within a piece
 * is added to its row at once. A run that crosses pieces leaves its part in scratch: `tails` where it begins, `heads` where it goes on; the
 * block of the piece where it begins then adds the parts up, eight warps sharing them. So n tokens of one row are n / piece sums side by
 * side and not one long chain, and the order of every sum depends on the index alone. Sums are f32, a row is written once. */
#include "wide.h"

enum { THREADS = 256, WARPS = THREADS / WARP, DIGITS = THREADS, DIGIT_BITS = 8, ROUNDS = 4, TILE = THREADS * ROUNDS, PIECE_LEAST = 32 };

namespace {
struct sort { /* one pass */
    int32_t n, shift;
    gp<const int32_t> keys, from; /* from: tokens in the order so far, NULL: as they come */
    gp<int32_t> to, counts;       /* counts [tiles, DIGITS] */
};
}

DEVICE int32_t token_at(const sort &s, int32_t i)
{
    return s.from ? s.from[i] : i;
}
DEVICE int32_t digit_of(const sort &s, int32_t token)
{
    return (int32_t)((uint32_t)s.keys[token] >> s.shift) & (DIGITS - 1);
}

/* One block a tile. */
static __global__ void count_digits_kernel(sort s)
{
    SHARED(int32_t, bins, DIGITS);
    bins[thread_x()] = 0;
    sync_block();
    for (int r = 0; r < ROUNDS; r++) {
        const int32_t i = block_x() * TILE + r * THREADS + thread_x();
        if (i < s.n)
            atomic_add(bins + digit_of(s, token_at(s, i)), 1);
    }
    sync_block();
    s.counts[(int64_t)block_x() * DIGITS + thread_x()] = bins[thread_x()];
}

/* The place of this tile's first token whose digit is this thread's number. */
DEVICE int32_t first_place(const sort &s, sp<int32_t> room)
{
    int32_t all = 0, before = 0, every;
    for (int32_t tile = 0; tile < blocks_x(); tile++) {
        const int32_t count = s.counts[(int64_t)tile * DIGITS + thread_x()];
        all += count;
        before += tile < block_x() ? count : 0;
    }
    return block_before(all, room, &every) + before;
}

/* The lanes that are live and have this lane's digit. */
DEVICE uint32_t lanes_alike(int32_t digit, bool live)
{
    uint32_t alike = vote_ballot(live);
    UNROLL
    for (int bit = 0; bit < DIGIT_BITS; bit++) {
        const bool set = (digit >> bit & 1) != 0;
        const uint32_t lanes = vote_ballot(set);
        alike &= set ? lanes : ~lanes;
    }
    return alike;
}

/* Rank of this lane's token among those of its digit that this warp has met; counts them in bins [DIGITS]. */
DEVICE int32_t rank_in_warp(int32_t digit, bool live, sp<int32_t> bins)
{
    const uint32_t alike = lanes_alike(digit, live), below = alike & ((1u << thread_x() % WARP) - 1);
    const int32_t met = bins[digit];
    sync_warp();
    if (live && below == 0)
        bins[digit] = met + bits_set(alike);
    sync_warp();
    return met + bits_set(below);
}

/* One block a tile; every warp has 128 tokens of it that follow each other. */
static __global__ void place_kernel(sort s)
{
    SHARED(int32_t, bins, WARPS * DIGITS);
    SHARED(int32_t, room, WARPS);
    const int32_t warp = thread_x() / WARP, first = block_x() * TILE + warp * ROUNDS * WARP + thread_x() % WARP;
    int32_t token[ROUNDS], digit[ROUNDS], rank[ROUNDS];
    for (int w = 0; w < WARPS; w++)
        bins[w * DIGITS + thread_x()] = 0;
    int32_t place = first_place(s, room);
    sync_block();
    UNROLL
    for (int r = 0; r < ROUNDS; r++) {
        const bool live = first + r * WARP < s.n;
        token[r] = live ? token_at(s, first + r * WARP) : 0;
        digit[r] = live ? digit_of(s, token[r]) : 0;
        rank[r] = rank_in_warp(digit[r], live, bins + warp * DIGITS);
    }
    sync_block();
    for (int w = 0; w < WARPS; w++) {
        const int32_t count = bins[w * DIGITS + thread_x()];
        bins[w * DIGITS + thread_x()] = place;
        place += count;
    }
    sync_block();
    UNROLL
    for (int r = 0; r < ROUNDS; r++)
        if (first + r * WARP < s.n)
            s.to[bins[warp * DIGITS + digit[r]] + rank[r]] = token[r];
}

/* ---- sums ---- */

namespace {
template <class Y> struct grouped {
    int32_t n, d, piece;
    gp<Y> y;
    gp<const real> x;
    gp<const int32_t> keys, order;
    gp<float> heads, tails; /* [pieces, d] */
    struct dropout drop;
};
}

template <class Y> DEVICE int32_t key_at(const grouped<Y> &t, int32_t i)
{
    return t.keys[t.order[i]];
}
/* Do places i - 1 and i belong to one run? */
template <class Y> DEVICE bool one_run(const grouped<Y> &t, int32_t i)
{
    return i > 0 && i < t.n && key_at(t, i - 1) == key_at(t, i);
}

/* The sum of places first .. end - 1, which are a run or this piece's part of one. */
template <bool VECTOR, class Y> DEVICE void put_run(const grouped<Y> &t, int32_t first, int32_t end, int32_t c, const octet &sum)
{
    const int64_t part = (int64_t)block_x() * t.d + c, at = (int64_t)key_at(t, first) * t.d + c;
    const int32_t left = t.d - c;
    if (first % t.piece == 0 && one_run(t, first)) {
        give<VECTOR>(t.heads, part, left, sum);
    } else if (end % t.piece == 0 && one_run(t, end)) {
        give<VECTOR>(t.tails, part, left, sum);
    } else {
        octet y = take<VECTOR>(t.y, at, left);
        add_eight(y, 1.0f, sum);
        give<VECTOR>(t.y, at, left, y);
    }
}

/* One block a piece, along x. */
template <bool VECTOR, class Y> static __global__ void sum_pieces_kernel(grouped<Y> t)
{
    const int32_t c = WIDE * (block_y() * threads() + thread_x());
    int32_t first = block_x() * t.piece;
    const int32_t end = t.n - first < t.piece ? t.n : first + t.piece;
    if (c >= t.d)
        return;
    octet sum = {};
    for (int32_t i = first; i < end; i++) {
        if (i > first && !one_run(t, i)) {
            put_run<VECTOR>(t, first, i, c, sum);
            sum = {};
            first = i;
        }
        const int64_t at = (int64_t)t.order[i] * t.d + c;
        octet x = take<VECTOR>(t.x, at, t.d - c);
        drop_eight(x, t.drop, at);
        add_eight(sum, 1.0f, x);
    }
    put_run<VECTOR>(t, first, end, c, sum);
}

/* Behind the last place of the run that place i belongs to. */
template <class Y> DEVICE int32_t run_end(const grouped<Y> &t, int32_t i)
{
    const int32_t key = key_at(t, i);
    int32_t low = i + 1, high = t.n; /* keys ascend */
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (key_at(t, middle) == key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One block a piece but the last and 32 columns: if a run begins in the piece and crosses its end, its parts are added up. */
template <class Y> static __global__ void join_runs_kernel(grouped<Y> t)
{
    SHARED(float, room, THREADS);
    const int32_t lane = thread_x() % WARP, warp = thread_x() / WARP, c = block_y() * WARP + lane;
    const int32_t piece = block_x(), first = piece * t.piece, end = first + t.piece;
    if (!one_run(t, end) || (one_run(t, first) && key_at(t, first) == key_at(t, end)))
        return;
    const int32_t last = (run_end(t, end) - 1) / t.piece;
    float sum = 0.0f;
    for (int32_t p = piece + 1 + warp; p <= last && c < t.d; p += WARPS)
        sum += t.heads[(int64_t)p * t.d + c];
    room[thread_x()] = sum;
    sync_block();
    if (warp > 0 || c >= t.d)
        return;
    sum += t.tails[(int64_t)piece * t.d + c];
    for (int w = 1; w < WARPS; w++)
        sum += room[w * WARP + lane];
    const int64_t at = (int64_t)key_at(t, end) * t.d + c;
    t.y[at] = to_<Y>(to_float(t.y[at]) + sum);
}

/* ---- host ---- */

namespace {
struct areas { /* of the scratch block */
    int32_t *order[2], *counts;
    float *heads, *tails;
};
}

static size_t area_bytes(int64_t elements)
{
    return (size_t)blocks_for(elements * 4, SCRATCH_ALIGN) * SCRATCH_ALIGN;
}

static size_t sort_bytes(int32_t n)
{
    return 2 * area_bytes(n) + area_bytes(blocks_for(n, TILE) * DIGITS);
}

/* As many tokens as keep both areas of parts within scratch. */
static int32_t piece_of(int32_t n, int32_t d)
{
    int32_t piece = PIECE_LEAST;
    while (sort_bytes(n) + 2 * area_bytes(blocks_for(n, piece) * d) > PLATFORM_SCRATCH)
        piece *= 2;
    return piece;
}

static struct areas cut_scratch(int32_t n, int64_t parts)
{
    char *at = (char *)platform_scratch(sort_bytes(n) + 2 * area_bytes(parts));
    struct areas a = {};
    a.order[0] = (int32_t *)at;
    a.order[1] = (int32_t *)(at + area_bytes(n));
    a.counts = (int32_t *)(at + 2 * area_bytes(n));
    a.heads = (float *)(at + sort_bytes(n));
    a.tails = (float *)(at + sort_bytes(n) + area_bytes(parts));
    return a;
}

/* Tokens 0 .. n - 1 by their key, of `bits` bits; returns where. */
static const int32_t *sort_tokens(const struct areas *a, const int32_t *keys, int32_t n, int bits)
{
    const double counts = (double)blocks_for(n, TILE) * DIGITS * sizeof(int32_t), ints = (double)n * sizeof(int32_t);
    const int64_t tiles = blocks_for(n, TILE);
    const int32_t *from = NULL;
    for (int pass = 0; pass == 0 || pass * DIGIT_BITS < bits; pass++) {
        const sort s = {n, pass * DIGIT_BITS, keys, from, a->order[pass % 2], a->counts};
        const double read = from ? 2 * ints : ints;
        LAUNCH((count_digits_kernel), dim_of(tiles), THREADS, (cost{read + counts, (double)n}), s);
        LAUNCH((place_kernel), dim_of(tiles), THREADS, (cost{read + ints + counts, (double)n}), s);
        from = a->order[pass % 2];
    }
    return from;
}

/* y[keys[i]] += dropout(x[i]). bits: of a key; met: how many rows are declared to be touched. */
template <class Y>
static void add_grouped(Y *y, const real *x, const int32_t *keys, int32_t n, int32_t d, struct dropout drop, int bits, double met)
{
    const int32_t piece = piece_of(n, d), pieces = (int32_t)blocks_for(n, piece), block = wide_threads(d, WIDE_THREADS);
    const struct areas a = cut_scratch(n, (int64_t)pieces * d);
    const int32_t *order = sort_tokens(&a, keys, n, bits);
    const grouped<Y> t = {n, d, piece, y, x, keys, order, a.heads, a.tails, drop};
    const struct cost sums = {(double)n * (d * sizeof(real) + 2 * sizeof(int32_t)) + met * d * 2.0 * sizeof(Y), (double)n * d};
    const int64_t tall = blocks_for(d, WIDE * block);
    if (d % WIDE == 0 && wide_at(y) && wide_at(x))
        LAUNCH((sum_pieces_kernel<true, Y>), dim_of(pieces, tall), block, sums, t);
    else
        LAUNCH((sum_pieces_kernel<false, Y>), dim_of(pieces, tall), block, sums, t);
    if (pieces > 1)
        LAUNCH((join_runs_kernel<Y>), dim_of(pieces - 1, blocks_for(d, WARP)), THREADS, (cost{16.0 * pieces, 0.0}), t);
}

static int bits_of(int32_t most)
{
    int bits = 0;
    while (bits < 31 && most >> bits)
        bits++;
    return bits;
}

void cuda_embed_backward(const struct weight *table, const int32_t *ids, const struct act *dy, int32_t n, struct dropout drop)
{
    if (table->grad && n > 0 && table->cols > 0)
        add_grouped(table->grad, act_data(dy), ids, n, table->cols, drop, bits_of(table->rows - 1), rows_met(n, table->rows));
}

void cuda_scatter_add(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d)
{
    if (n > 0 && d > 0)
        add_grouped(act_data(y), act_data(x), index, n, d, {0.0f, 0}, bits_of(INT32_MAX), n);
}
