/* beam_logits.cu: the product of the live beams with the head rows of one position.
 *
 * A product of its own, because ties must stay ties: equal head rows and equal hidden rows have to give equal bits, wherever they stand in a batch
 * and however large it is. So each logit is one fixed chain of additions, the same in both tile shapes: the columns go in chunks of sixteen, chunk c
 * to warp c mod 8, where the tensor core adds it to what it has; at the end the eight warps' sums are added in order. In F32 mode one thread
 * adds all columns in order. The small tile is for few rows, where reading the head is all that counts and every processor must take part in
 * it; the large tile reads rows and codes from the cache less often. Tiles are staged in shared memory with zeros where rows, codes or columns
 * end, so no shape needs a path of its own. While the small tile's present piece is multiplied its next one is loaded; the large tile has no
 * registers to spare for that and relies on its neighbour on the same processor.
 *
 * Each row's GROUP codes are then sixteen neighbouring lanes, which leave their maximum and their sum of exponentials. */
#include "beam.h"

#ifdef SEMINDEX_EMU
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

enum { THREADS = 256, WARPS = THREADS / WARP, PIECE = 16 / (int)sizeof(real), CHUNK = 16, RESIDENT = sizeof(real) == 2 ? 2 : 1 };

namespace {
struct product {
    gp<const real> h, head; /* head: the position's first row */
    gp<const int32_t> offsets;
    gp<float> logits, top, sum;
    int32_t requests, first, rows, codes, groups, d;
    float scale;
    bool wide; /* pieces may be loaded at once */
};
struct source { /* rows of one operand; zeros beyond them and beyond column d */
    gp<const real> from;
    int32_t rows, d;
    bool wide;
};
#ifdef SEMINDEX_EMU
struct piece {
    real x[PIECE];
};
#else
struct piece {
    uint4 x;
};
#endif
/* A thread's share of a tile on its way to shared memory. */
template <int ROWS, int DEPTH> struct parcel {
    static constexpr int EACH = ROWS * DEPTH / PIECE / THREADS;
    static_assert(ROWS * DEPTH % (PIECE * THREADS) == 0, "every thread has the same share");
    piece x[EACH];
};
}

#ifdef SEMINDEX_EMU
DEVICE piece no_piece() { return {}; }
DEVICE piece load_piece(gp<const real> p, int64_t at)
{
    piece y;
    for (int i = 0; i < PIECE; i++)
        y.x[i] = p[at + i];
    return y;
}
DEVICE void put_piece(sp<real> to, int at, const piece &y)
{
    for (int i = 0; i < PIECE; i++)
        to[at + i] = y.x[i];
}
#else
DEVICE piece no_piece() { return {make_uint4(0, 0, 0, 0)}; }
DEVICE piece load_piece(const real *p, int64_t at) { return {*reinterpret_cast<const uint4 *>(p + at)}; }
DEVICE void put_piece(real *to, int at, const piece &y) { *reinterpret_cast<uint4 *>(to + at) = y.x; }
#endif

/* Staged rows are a piece further apart than they are long, so that neighbours lie in other banks. */
template <int DEPTH> constexpr int pitch = DEPTH + PIECE;

template <int ROWS, int DEPTH> DEVICE void fetch(parcel<ROWS, DEPTH> &y, const source &s, int32_t column)
{
    UNROLL
    for (int i = 0; s.wide && i < y.EACH; i++) {
        const int n = thread_x() + i * THREADS, row = n / (DEPTH / PIECE), c = column + n % (DEPTH / PIECE) * PIECE;
        y.x[i] = row < s.rows && c < s.d ? load_piece(s.from, (int64_t)row * s.d + c) : no_piece();
    }
}

template <int ROWS, int DEPTH> DEVICE void deliver(sp<real> to, const parcel<ROWS, DEPTH> &y, const source &s, int32_t column)
{
    UNROLL
    for (int i = 0; s.wide && i < y.EACH; i++) {
        const int n = thread_x() + i * THREADS;
        put_piece(to, n / (DEPTH / PIECE) * pitch<DEPTH> + n % (DEPTH / PIECE) * PIECE, y.x[i]);
    }
    for (int n = thread_x(); !s.wide && n < ROWS * DEPTH; n += THREADS) {
        const int row = n / DEPTH, c = n % DEPTH;
        to[row * pitch<DEPTH> + c] = row < s.rows && column + c < s.d ? (real)s.from[(int64_t)row * s.d + column + c] : to_real(0.0f);
    }
}

/* ---- sums of a tile ---- */

namespace {
/* A thread's results: value v is element v * THREADS + thread of the tile, [ROWS, CODES]. */
template <int ROWS, int CODES> struct results {
    static constexpr int EACH = ROWS * CODES / THREADS;
    float x[EACH];
};
}

#ifdef SEMINDEX_CUDA_F32
namespace {
template <int ROWS, int CODES> struct sums {
    results<ROWS, CODES> y;
};
}
template <int ROWS, int CODES> DEVICE void begin(sums<ROWS, CODES> &s)
{
    for (int v = 0; v < s.y.EACH; v++)
        s.y.x[v] = 0.0f;
}
template <int ROWS, int CODES, int DEPTH> DEVICE void multiply(sums<ROWS, CODES> &s, sp<real> x, sp<real> w, int32_t)
{
    for (int v = 0; v < s.y.EACH; v++) {
        const int n = v * THREADS + thread_x(), row = n / CODES, code = n % CODES;
        for (int k = 0; k < DEPTH; k++)
            s.y.x[v] = fmaf(x[row * pitch<DEPTH> + k], w[code * pitch<DEPTH> + k], s.y.x[v]);
    }
}
template <int ROWS, int CODES> DEVICE void finish(results<ROWS, CODES> &y, const sums<ROWS, CODES> &s, sp<float>)
{
    y = s.y;
}
#else
namespace {
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> left_tile;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> right_tile;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_tile;
template <int ROWS, int CODES> struct sums {
    sum_tile x[ROWS / 16][CODES / 16];
};
}
template <int ROWS, int CODES> DEVICE void begin(sums<ROWS, CODES> &s)
{
    UNROLL
    for (int i = 0; i < ROWS / 16; i++)
        UNROLL
        for (int j = 0; j < CODES / 16; j++)
            wmma::fill_fragment(s.x[i][j], 0.0f);
}
/* `left` columns of the tile are not zero. */
template <int ROWS, int CODES, int DEPTH> DEVICE void multiply(sums<ROWS, CODES> &s, sp<real> x, sp<real> w, int32_t left)
{
    static_assert(DEPTH / CHUNK % WARPS == 0, "a chunk belongs to the same warp in every shape");
    for (int c = thread_x() / WARP * CHUNK; c < DEPTH && c < left; c += WARPS * CHUNK) {
        right_tile b[CODES / 16];
        UNROLL
        for (int j = 0; j < CODES / 16; j++)
            wmma::load_matrix_sync(b[j], w + (j * 16 * pitch<DEPTH> + c), pitch<DEPTH>);
        UNROLL
        for (int i = 0; i < ROWS / 16; i++) {
            left_tile a;
            wmma::load_matrix_sync(a, x + (i * 16 * pitch<DEPTH> + c), pitch<DEPTH>);
            UNROLL
            for (int j = 0; j < CODES / 16; j++)
                wmma::mma_sync(s.x[i][j], a, b[j], s.x[i][j]);
        }
    }
}
/* Room for the tiles of so many warps at once. */
template <int ROWS, int CODES> constexpr int together = 4096 / (ROWS * CODES);

template <int ROWS, int CODES> DEVICE void finish(results<ROWS, CODES> &y, const sums<ROWS, CODES> &s, sp<float> room)
{
    constexpr int AT_ONCE = together<ROWS, CODES>;
    const int warp = thread_x() / WARP;
    UNROLL
    for (int v = 0; v < y.EACH; v++)
        y.x[v] = 0.0f;
    for (int from = 0; from < WARPS; from += AT_ONCE) {
        for (int i = 0; warp / AT_ONCE * AT_ONCE == from && i < ROWS / 16; i++)
            UNROLL
            for (int j = 0; j < CODES / 16; j++)
                wmma::store_matrix_sync(room + ((warp - from) * ROWS * CODES + i * 16 * CODES + j * 16), s.x[i][j], CODES,
                                        wmma::mem_row_major);
        sync_block();
        UNROLL
        for (int v = 0; v < y.EACH; v++)
            for (int t = 0; t < AT_ONCE; t++)
                y.x[v] += room[t * ROWS * CODES + v * THREADS + thread_x()];
        sync_block();
    }
}
#endif

/* ---- the kernel ---- */

/* Maximum and sum over sixteen neighbouring lanes. */
DEVICE float half_max(float v)
{
    for (int d = BEAM_GROUP / 2; d > 0; d /= 2)
        v = fmaxf(v, shuffle_xor(v, d));
    return v;
}
DEVICE float half_sum(float v)
{
    for (int d = BEAM_GROUP / 2; d > 0; d /= 2)
        v += shuffle_xor(v, d);
    return v;
}

template <int ROWS, int CODES> DEVICE void put(const product &p, const results<ROWS, CODES> &y, int32_t row0, int32_t rows, int32_t code0)
{
    UNROLL
    for (int v = 0; v < y.EACH; v++) {
        const int n = v * THREADS + thread_x();
        const int32_t row = n / CODES, code = code0 + n % CODES;
        const bool live = row < rows && code < p.codes;
        const float logit = p.scale * y.x[v], top = half_max(live ? logit : -INFINITY), sum = half_sum(live ? expf(logit - top) : 0.0f);
        const int64_t at = row0 + row;
        if (live)
            p.logits[at * p.codes + code] = logit;
        if (live && code % BEAM_GROUP == 0) {
            p.top[at * p.groups + code / BEAM_GROUP] = top;
            p.sum[at * p.groups + code / BEAM_GROUP] = sum;
        }
    }
}

template <int ROWS, int CODES, int BYTES> static __global__ void __launch_bounds__(THREADS, RESIDENT) beam_logits_kernel(product p)
{
    constexpr int DEPTH = BYTES / (int)sizeof(real);
    constexpr bool AHEAD = ROWS <= 32;
    SHARED(real, x, ROWS * pitch<DEPTH>);
    SHARED(real, w, CODES * pitch<DEPTH>);
#ifdef SEMINDEX_CUDA_F32
    SHARED(float, room, 1);
#else
    SHARED(float, room, ROWS *CODES *(together<ROWS, CODES>));
#endif
    const int32_t live = (int32_t)p.offsets[p.requests] - p.first, end = live < p.rows ? live : p.rows;
    const int32_t row0 = block_y() * ROWS, code0 = block_x() * CODES;
    if (row0 >= end)
        return;
    const source a = {p.h + (int64_t)(p.first + row0) * p.d, end - row0 < ROWS ? end - row0 : ROWS, p.d, p.wide};
    const source b = {p.head + (int64_t)code0 * p.d, p.codes - code0 < CODES ? p.codes - code0 : CODES, p.d, p.wide};
    parcel<ROWS, DEPTH> ax;
    parcel<CODES, DEPTH> bx;
    sums<ROWS, CODES> s;
    begin(s);
    if (AHEAD) {
        fetch(ax, a, 0);
        fetch(bx, b, 0);
    }
    for (int32_t k = 0; k < p.d; k += DEPTH) {
        if (!AHEAD) {
            fetch(ax, a, k);
            fetch(bx, b, k);
        }
        deliver(x + 0, ax, a, k);
        deliver(w + 0, bx, b, k);
        sync_block();
        if (AHEAD) {
            fetch(ax, a, k + DEPTH);
            fetch(bx, b, k + DEPTH);
        }
        multiply<ROWS, CODES, DEPTH>(s, x + 0, w + 0, p.d - k);
        sync_block();
    }
    results<ROWS, CODES> y;
    finish(y, s, room + 0);
    put(p, y, row0, a.rows, code0);
}

void cuda_beam_logits(const struct beam_step *a, const struct beam_logits *to, int32_t first, int32_t rows)
{
    const int64_t d = a->head->cols;
    product p = {};
    p.h = act_data(a->h), p.head = weight_data(a->head) + a->first * d, p.offsets = a->in->offsets;
    p.logits = to->logits, p.top = to->top, p.sum = to->sum;
    p.requests = a->in->requests, p.first = first, p.rows = rows, p.codes = a->codes, p.groups = to->groups, p.d = (int32_t)d;
    p.scale = a->scale;
    p.wide = d % PIECE == 0 && (uintptr_t)act_data(a->h) % 16 == 0 && (uintptr_t)weight_data(a->head) % 16 == 0;
    const double read = ((double)rows + a->codes) * (double)d * sizeof(real) + sizeof(int32_t);
    const double written = (double)rows * (a->codes + 2.0 * to->groups) * sizeof(float);
    const struct cost cost = {read + written, 2.0 * rows * a->codes * (double)d};
    if (rows <= 64)
        LAUNCH((beam_logits_kernel<32, 16, 512>), dim_of(blocks_for(a->codes, 16), blocks_for(rows, 32)), THREADS, cost, p);
    else
        LAUNCH((beam_logits_kernel<64, 32, 256>), dim_of(blocks_for(a->codes, 32), blocks_for(rows, 64)), THREADS, cost, p);
}
