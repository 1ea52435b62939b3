/* rows.cu: ops that walk rows or elements once: lookups, dropout, sums of two, means of rows, activations.
 *
 * They are bound by memory, so each is one launch in which every byte moves once, eight neighbours a thread (wide.h). Flat ops know no
 * rows; ops on rows have one row a block along x, and columns in blocks of up to 2,048 along y. Reads come before the write of the same
 * eight elements in the same thread, so an op may work in place.
 *
 * A mean has one block for a row and 256 columns: eight warps share the row's tokens and their sums are added in the order of the warps.
 * How long a row is, only its offsets say, on the device: tokens that a padded total counts are not touched. */
#include "wide.h"

/* ---- lookups ---- */

namespace {
struct lookup {
    gp<real> y;
    gp<const real> x;
    gp<const int32_t> index;
    int32_t d;
    struct dropout drop;
};
}

template <bool VECTOR> static __global__ void lookup_kernel(lookup t)
{
    const int32_t c = WIDE * (block_y() * threads() + thread_x());
    const int64_t at = (int64_t)block_x() * t.d + c;
    if (c >= t.d)
        return;
    octet v = take<VECTOR>(t.x, (int64_t)t.index[block_x()] * t.d + c, t.d - c);
    drop_eight(v, t.drop, at);
    give<VECTOR>(t.y, at, t.d - c, v);
}

/* met: how many rows of x are declared to be read. */
static void look_up(const lookup &t, const real *y, const real *x, int32_t n, double met)
{
    const int block = wide_threads(t.d, WIDE_THREADS);
    const double bytes = (n + met) * t.d * sizeof(real) + n * sizeof(int32_t);
    if (n > 0 && t.d > 0)
        WIDE_LAUNCH(t.d % WIDE == 0 && wide_at(y) && wide_at(x), lookup_kernel, dim_of(n, blocks_for(t.d, WIDE * block)), block,
                    (cost{bytes, t.drop.rate > 0.0f ? (double)n * t.d : 0.0}), t);
}

void cuda_embed(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop)
{
    look_up({act_data(y), weight_data(table), ids, table->cols, drop}, act_data(y), weight_data(table), n, rows_met(n, table->rows));
}

void cuda_gather(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d)
{
    look_up({act_data(y), act_data(x), index, d, {0.0f, 0}}, act_data(y), act_data(x), n, n);
}

/* ---- flat ---- */

DEVICE int64_t flat_at()
{
    return WIDE * ((int64_t)block_x() * threads() + thread_x());
}

template <bool VECTOR> static __global__ void dropout_kernel(gp<real> y, gp<const real> x, int64_t n, struct dropout drop)
{
    const int64_t at = flat_at();
    if (at >= n)
        return;
    octet v = take<VECTOR>(x, at, n - at);
    drop_eight(v, drop, at);
    give<VECTOR>(y, at, n - at, v);
}

void cuda_dropout(struct act *y, const struct act *x, int64_t n, struct dropout drop)
{
    if (n <= 0 || (y == x && drop.rate <= 0.0f))
        return;
    WIDE_LAUNCH(wide_at(y) && wide_at(x), dropout_kernel, dim_of(blocks_for(n, WIDE * WIDE_THREADS)), WIDE_THREADS,
                (cost{2.0 * sizeof(real) * n, drop.rate > 0.0f ? (double)n : 0.0}), act_data(y), act_data(x), n, drop);
}

template <bool VECTOR> static __global__ void axpy_kernel(gp<real> y, float a, gp<const real> x, int64_t n)
{
    const int64_t at = flat_at();
    if (at >= n)
        return;
    octet v = take<VECTOR>(y, at, n - at);
    add_eight(v, a, take<VECTOR>(x, at, n - at));
    give<VECTOR>(y, at, n - at, v);
}

void cuda_axpy(struct act *y, float a, const struct act *x, int64_t n)
{
    if (n > 0)
        WIDE_LAUNCH(wide_at(y) && wide_at(x), axpy_kernel, dim_of(blocks_for(n, WIDE * WIDE_THREADS)), WIDE_THREADS,
                    (cost{3.0 * sizeof(real) * n, 2.0 * n}), act_data(y), a, act_data(x), n);
}

template <bool VECTOR> static __global__ void relu_backward_kernel(gp<real> dy, gp<const real> y, int64_t n, float scale)
{
    const int64_t at = flat_at();
    if (at >= n)
        return;
    octet v = take<VECTOR>(dy, at, n - at);
    const octet gate = take<VECTOR>(y, at, n - at);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        v.v[k] = gate.v[k] > 0.0f ? scale * v.v[k] : 0.0f;
    give<VECTOR>(dy, at, n - at, v);
}

void cuda_relu_backward(struct act *dy, const struct act *y, int64_t n, float scale)
{
    if (n > 0)
        WIDE_LAUNCH(wide_at(dy) && wide_at(y), relu_backward_kernel, dim_of(blocks_for(n, WIDE * WIDE_THREADS)), WIDE_THREADS,
                    (cost{3.0 * sizeof(real) * n, (double)n}), act_data(dy), act_data(y), n, scale);
}

/* ---- mean of each row's tokens ---- */

enum { MEAN_WARPS = WIDE_THREADS / WARP, MEAN_COLUMNS = WARP * WIDE };

/* The sum of every MEAN_WARPS-th token of a row, from `first` on. */
template <bool VECTOR> DEVICE octet strided_sum(gp<const real> x, int32_t first, int32_t end, int32_t d, int32_t c)
{
    octet sum = {};
    for (int32_t i = first; i < end; i += MEAN_WARPS)
        add_eight(sum, 1.0f, take<VECTOR>(x, (int64_t)i * d + c, d - c));
    return sum;
}

template <bool VECTOR> static __global__ void pool_mean_kernel(gp<real> y, gp<const real> x, gp<const int32_t> offsets, int32_t d)
{
    SHARED(float, sums, MEAN_WARPS * MEAN_COLUMNS);
    const int32_t lane = thread_x() % WARP, warp = thread_x() / WARP, c = WIDE * (block_y() * WARP + lane);
    const int32_t first = offsets[block_x()], end = offsets[block_x() + 1];
    octet sum = strided_sum<VECTOR>(x, first + warp, end, d, c);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        sums[(warp * WIDE + k) * WARP + lane] = sum.v[k];
    sync_block();
    if (warp > 0 || c >= d)
        return;
    const float scale = end > first ? 1.0f / (float)(end - first) : 0.0f;
    UNROLL
    for (int k = 0; k < WIDE; k++) {
        for (int w = 1; w < MEAN_WARPS; w++)
            sum.v[k] += sums[(w * WIDE + k) * WARP + lane];
        sum.v[k] *= scale;
    }
    give<VECTOR>(y, (int64_t)block_x() * d + c, d - c, sum);
}

void cuda_pool_mean(struct act *y, const struct act *x, struct rows rows, int32_t d)
{
    const double bytes = sizeof(real) * ((double)rows.total + rows.count) * d + sizeof(int32_t) * (rows.count + 1.0);
    if (rows.count > 0 && d > 0)
        WIDE_LAUNCH(d % WIDE == 0 && wide_at(y) && wide_at(x), pool_mean_kernel, dim_of(rows.count, blocks_for(d, MEAN_COLUMNS)),
                    WIDE_THREADS, (cost{bytes, (double)rows.total * d}), act_data(y), act_data(x), rows.offsets, d);
}

/* ---- gated GELU ---- */

namespace {
struct gelu { /* one row a block along x */
    gp<real> y;         /* [n, f] of the forward pass, [n, 2f] of the backward pass */
    gp<const real> ab, dy;
    int32_t f;
    struct dropout drop;
};
}

template <bool VECTOR> static __global__ void gelu_kernel(gelu t)
{
    const int32_t c = WIDE * (block_y() * threads() + thread_x()), left = t.f - c;
    const int64_t at = (int64_t)block_x() * t.f + c;
    if (left <= 0)
        return;
    octet a = take<VECTOR>(t.ab, at + (int64_t)block_x() * t.f, left);
    const octet b = take<VECTOR>(t.ab, at + (int64_t)(block_x() + 1) * t.f, left);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        a.v[k] = a.v[k] * gelu_gate(a.v[k]) * b.v[k];
    drop_eight(a, t.drop, at);
    give<VECTOR>(t.y, at, left, a);
}

/* a, b -> their gradients; dy: of the product. */
DEVICE void gelu_slopes(octet &a, octet &b, const octet &dy)
{
    UNROLL
    for (int k = 0; k < WIDE; k++) {
        const float x = a.v[k], gate = gelu_gate(x), slope = 1.5957691216057308f * (1.0f + 0.134145f * (x * x));
        a.v[k] = dy.v[k] * b.v[k] * (gate + x * gate * (1.0f - gate) * slope);
        b.v[k] = dy.v[k] * x * gate;
    }
}

template <bool VECTOR> static __global__ void gelu_backward_kernel(gelu t)
{
    const int32_t c = WIDE * (block_y() * threads() + thread_x()), left = t.f - c;
    const int64_t at = (int64_t)block_x() * t.f + c, first = at + (int64_t)block_x() * t.f, second = first + t.f;
    if (left <= 0)
        return;
    octet a = take<VECTOR>(t.ab, first, left), b = take<VECTOR>(t.ab, second, left), dy = take<VECTOR>(t.dy, at, left);
    drop_eight(dy, t.drop, at);
    gelu_slopes(a, b, dy);
    give<VECTOR>(t.y, first, left, a);
    give<VECTOR>(t.y, second, left, b);
}

void cuda_gated_gelu(struct act *y, const struct act *ab, int32_t n, int32_t f, struct dropout drop)
{
    const gelu t = {act_data(y), act_data(ab), (const real *)NULL, f, drop};
    const int block = wide_threads(f, WIDE_THREADS);
    if (n > 0 && f > 0)
        WIDE_LAUNCH(f % WIDE == 0 && wide_at(y) && wide_at(ab), gelu_kernel, dim_of(n, blocks_for(f, WIDE * block)), block,
                    (cost{3.0 * sizeof(real) * n * f, 10.0 * n * f}), t);
}

void cuda_gated_gelu_backward(struct act *dab, const struct act *dy, const struct act *ab, int32_t n, int32_t f, struct dropout drop)
{
    const gelu t = {act_data(dab), act_data(ab), act_data(dy), f, drop};
    const int block = wide_threads(f, WIDE_THREADS);
    if (n > 0 && f > 0)
        WIDE_LAUNCH(f % WIDE == 0 && wide_at(dab) && wide_at(ab) && wide_at(dy), gelu_backward_kernel,
                    dim_of(n, blocks_for(f, WIDE * block)), block, (cost{5.0 * sizeof(real) * n * f, 22.0 * n * f}), t);
}
