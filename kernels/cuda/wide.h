/* wide.h: eight neighbours a thread, for kernels that walk rows or flat arrays and are bound by memory.
 *
 * VECTOR means that the host has seen that every address and every width lets eight neighbours move in 16-byte pieces; without it the same
 * thread moves the same elements one by one, so any width and any address works and no sum changes its order. What lies at or beyond
 * `left` is zero when read and is not written. WIDE_LAUNCH chooses between the two forms of a kernel. */
#ifndef SEMINDEX_WIDE_H
#define SEMINDEX_WIDE_H

#include "reduce.h"

enum { WIDE = 8, WIDE_THREADS = 256, SCRATCH_ALIGN = 256 };

template <bool VECTOR, class P> DEVICE octet take(P x, int64_t at, int64_t left)
{
    octet y;
    if (VECTOR && left >= WIDE)
        return load8(x, at);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        y.v[k] = k < left ? to_float(x[at + k]) : 0.0f;
    return y;
}

template <bool VECTOR, class T> DEVICE void give(gp<T> y, int64_t at, int64_t left, const octet &x)
{
    if (VECTOR && left >= WIDE) {
        store8(y, at, x);
        return;
    }
    UNROLL
    for (int k = 0; k < WIDE; k++)
        if (k < left)
            y[at + k] = to_<T>(x.v[k]);
}

/* x after dropout, its first element being number `index`. */
DEVICE void drop_eight(octet &x, struct dropout drop, int64_t index)
{
    if (drop.rate <= 0.0f)
        return;
    const float scale = 1.0f / (1.0f - drop.rate);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        x.v[k] = dropout_keeps(drop, (uint64_t)(index + k)) ? scale * x.v[k] : 0.0f;
}

/* y += a x */
DEVICE void add_eight(octet &y, float a, const octet &x)
{
    UNROLL
    for (int k = 0; k < WIDE; k++)
        y.v[k] = fmaf(a, x.v[k], y.v[k]);
}

/* ---- host ---- */

static inline bool wide_at(const void *p) /* NULL is fine */
{
    return (uintptr_t)p % 16 == 0;
}

/* Threads of a block of which each has eight columns of one row: whole warps, at most `most`. */
static inline int wide_threads(int32_t d, int most)
{
    const int64_t threads = blocks_for(d, (int64_t)WIDE * WARP) * WARP;
    return threads < most ? (int)threads : most;
}

/* How many different rows n draws from `rows` meet when all are alike: what an op that looks rows up declares to touch. */
static inline double rows_met(int32_t n, int32_t rows)
{
    return rows > 0 ? rows * (1.0 - pow(1.0 - 1.0 / rows, n)) : 0.0;
}

#define WIDE_LAUNCH(vector, kernel, blocks, threads_, cost_, ...)               \
    do {                                                                        \
        if (vector)                                                             \
            LAUNCH((kernel<true>), blocks, threads_, cost_, __VA_ARGS__);       \
        else                                                                    \
            LAUNCH((kernel<false>), blocks, threads_, cost_, __VA_ARGS__);      \
    } while (0)

#endif
