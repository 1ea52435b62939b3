/* reduce.h: what the kernels of losses, quantiser and clustering share: softmax sums joined in any grouping, and a few small helpers.
 *
 * A set of numbers is known by its maximum and the sum of its exponentials under that maximum (`online`); two sets join into one.
 * Joining runs in a fixed order (a thread's own numbers, a butterfly over the warp, warps in ascending order), so a row gives the same
 * bits each time. */
#ifndef SEMINDEX_REDUCE_H
#define SEMINDEX_REDUCE_H

#include "cuda.h"

#ifdef SEMINDEX_EMU
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

namespace {
struct online {
    float top, sum;
};
}

DEVICE online online_join(online a, online b)
{
    const float top = fmaxf(a.top, b.top);
    if (top == -INFINITY)
        return {top, 0.0f};
    return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
}

/* -inf adds nothing. */
DEVICE online online_add4(online a, four x)
{
    const float top = fmaxf(a.top, fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w)));
    if (top == -INFINITY)
        return a;
    return {top, a.sum * expf(a.top - top) + ((expf(x.x - top) + expf(x.y - top)) + (expf(x.z - top) + expf(x.w - top)))};
}

/* Over the block, every thread gets it; `room` has two slots a warp. Ends with a barrier: room may be used again. */
DEVICE online block_online(online v, sp<float> room)
{
    const int warp = thread_x() / WARP, warps = threads() / WARP;
    for (int d = WARP / 2; d > 0; d /= 2) {
        const float top = shuffle_xor(v.top, d), sum = shuffle_xor(v.sum, d);
        v = online_join(v, {top, sum});
    }
    if (thread_x() % WARP == 0) {
        room[2 * warp] = v.top;
        room[2 * warp + 1] = v.sum;
    }
    sync_block();
    online all = {room[0], room[1]};
    for (int i = 1; i < warps; i++)
        all = online_join(all, {room[2 * i], room[2 * i + 1]});
    sync_block();
    return all;
}

/* Four floats of a row, from column c on (a multiple of 4, the row being aligned for load4); those at or beyond `columns` are -inf. */
DEVICE four load4_within(gp<const float> x, int64_t row, int32_t c, int32_t columns)
{
    if (c + 4 <= columns)
        return load4(x, row + c);
    const float second = c + 1 < columns ? (float)x[row + c + 1] : -INFINITY, third = c + 2 < columns ? (float)x[row + c + 2] : -INFINITY;
    return {x[row + c], second, third, -INFINITY};
}

/* Sum of v over the threads before this one, and over all of them in *all; `room` has a slot a warp. Ends with a barrier: room may be used again. */
template <class T> DEVICE T block_before(T v, sp<T> room, T *all)
{
    const int lane = thread_x() % WARP, warp = thread_x() / WARP, warps = threads() / WARP;
    T sum = v;
    for (int d = 1; d < WARP; d *= 2) {
        const T other = shuffle(sum, lane < d ? lane : lane - d);
        sum += lane < d ? 0 : other;
    }
    if (lane == WARP - 1)
        room[warp] = sum;
    sync_block();
    T before = sum - v, total = 0;
    for (int w = 0; w < warps; w++) {
        before += w < warp ? (T)room[w] : 0;
        total += (T)room[w];
    }
    sync_block();
    *all = total;
    return before;
}

/* The last of `count` slices (offsets rising from 0) that begins at or before `at`. */
DEVICE int32_t slice_of(gp<const int32_t> offsets, int32_t count, int32_t at)
{
    int32_t low = 0, high = count;
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (offsets[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* gelu_new(a) = a sigmoid(2 u), u = sqrt(2 / pi) (a + 0.044715 a^3): no cancellation for large negative a. */
DEVICE float gelu_gate(float a)
{
    return 1.0f / (1.0f + expf(-1.5957691216057308f * (a + 0.044715f * (a * a * a))));
}

DEVICE int bits_set(uint32_t v)
{
    v -= v >> 1 & 0x55555555u;
    v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
    return (int)(((v + (v >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

/* x . y of d elements by one warp, every lane gets it; wide: four neighbours may be loaded at once. */
template <class A, class B> DEVICE float warp_dot(gp<const A> x, int64_t at, gp<const B> y, int64_t other, int32_t d, bool wide)
{
    const int lane = thread_x() % WARP;
    float sum = 0.0f;
    if (wide)
        for (int32_t c = 4 * lane; c < d; c += 4 * WARP) {
            const four a = load4(x, at + c), b = load4(y, other + c);
            sum = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum))));
        }
    else
        for (int32_t c = lane; c < d; c += WARP)
            sum = fmaf(to_float(x[at + c]), to_float(y[other + c]), sum);
    return warp_sum(sum);
}

#endif
