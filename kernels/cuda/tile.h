/* tile.h: products of small tiles in shared memory by one block of 256 threads, summed in registers.
 *
 * In bf16 the tiles meet on tensor cores: a sum of M x N is M * N / 256 fragments of 16 x 16, dealt to the eight warps in turn. In F32
 * mode, which is for exact comparison, every thread has M * N / 256 single elements and adds in ascending order. Which thread holds
 * which element is nobody's business: sums go to shared memory by `tile_put`. Callers pad tiles with zeros, so no shape is too odd. */
#ifndef SEMINDEX_TILE_H
#define SEMINDEX_TILE_H

#include "cuda.h"

enum { TILE_THREADS = 256, TILE_WARPS = TILE_THREADS / WARP, TILE_PAD = 16 / (int)sizeof(real) };

#ifdef SEMINDEX_CUDA_F32

namespace {
template <int M, int N> struct tile_sum {
    static constexpr int EACH = M * N / TILE_THREADS;
    float x[EACH];
};
}

template <int M, int N> DEVICE void tile_clear(tile_sum<M, N> &c)
{
    for (int e = 0; e < c.EACH; e++)
        c.x[e] = 0.0f;
}

/* c += op(a) op(b): a is [M, K] or, TA, [K, M]; b is [K, N] or, TB, [N, K]; lda and ldb are distances of their rows. */
template <bool TA, bool TB, int K, int M, int N> DEVICE void tile_add(tile_sum<M, N> &c, sp<real> a, int lda, sp<real> b, int ldb)
{
    for (int e = 0; e < c.EACH; e++) {
        const int i = (e * TILE_THREADS + thread_x()) / N, j = (e * TILE_THREADS + thread_x()) % N;
        for (int k = 0; k < K; k++)
            c.x[e] = fmaf(TA ? a[k * lda + i] : a[i * lda + k], TB ? b[j * ldb + k] : b[k * ldb + j], c.x[e]);
    }
}

template <int M, int N> DEVICE void tile_put(sp<float> y, int ldy, const tile_sum<M, N> &c)
{
    for (int e = 0; e < c.EACH; e++)
        y[(e * TILE_THREADS + thread_x()) / N * ldy + (e * TILE_THREADS + thread_x()) % N] = c.x[e];
}

#else

namespace {
template <int M, int N> struct tile_sum {
    static constexpr int EACH = M * N / 256 / TILE_WARPS;
    static_assert(EACH * TILE_WARPS * 256 == M * N, "every warp gets whole fragments");
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> x[EACH];
};
template <bool TURNED> struct tile_layout {
    typedef wmma::row_major type;
};
template <> struct tile_layout<true> {
    typedef wmma::col_major type;
};
}

template <int M, int N> DEVICE void tile_clear(tile_sum<M, N> &c)
{
    for (int e = 0; e < c.EACH; e++)
        wmma::fill_fragment(c.x[e], 0.0f);
}

/* c += op(a) op(b): a is [M, K] or, TA, [K, M]; b is [K, N] or, TB, [N, K]; lda and ldb are distances of their rows. */
template <bool TA, bool TB, int K, int M, int N> DEVICE void tile_add(tile_sum<M, N> &c, sp<real> a, int lda, sp<real> b, int ldb)
{
    const int warp = thread_x() / WARP;
    for (int e = 0; e < c.EACH; e++) {
        const int i = (warp * c.EACH + e) / (N / 16) * 16, j = (warp * c.EACH + e) % (N / 16) * 16;
        for (int k = 0; k < K; k += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, typename tile_layout<TA>::type> left;
            wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, typename tile_layout<TB>::type> right;
            wmma::load_matrix_sync(left, TA ? a + (k * lda + i) : a + (i * lda + k), (unsigned)lda);
            wmma::load_matrix_sync(right, TB ? b + (j * ldb + k) : b + (k * ldb + j), (unsigned)ldb);
            wmma::mma_sync(c.x[e], left, right, c.x[e]);
        }
    }
}

template <int M, int N> DEVICE void tile_put(sp<float> y, int ldy, const tile_sum<M, N> &c)
{
    const int warp = thread_x() / WARP;
    for (int e = 0; e < c.EACH; e++) {
        const int i = (warp * c.EACH + e) / (N / 16) * 16, j = (warp * c.EACH + e) % (N / 16) * 16;
        wmma::store_matrix_sync(y + (i * ldy + j), c.x[e], (unsigned)ldy, wmma::mem_row_major);
    }
}

#endif
#endif
