/* norm.cu: residual sum and RMSNorm in one launch, and the norm's gradient.
 *
 * Forward, one block has one row, eight neighbours a thread: the row stays in registers between the sum of its squares and y, so each byte
 * moves once, and y is made from the sum before it was rounded. The block is no larger than the row needs: three warps at a width of 768.
 *
 * Backward, a block walks several rows. The rows' two sums (squares, and w dy r) meet in one exchange over the block with a single barrier:
 * rows take turns with two sets of slots, so a slot is written again only behind the next row's barrier. A thread's columns of dw stay in
 * its registers over all rows of the block and go to scratch once; a second launch adds the blocks' sums. How many rows a block has
 * depends on n alone, and every sum has a fixed order, so the same batch gives the same bits. */
#include "wide.h"

enum { NORM_THREADS = 1024, NORM_WIDTH = NORM_THREADS * WIDE, GRADIENT_BLOCKS = 2048, GRADIENT_ROWS = 4, ADD_WARPS = 32 };

namespace {
struct joined {
    gp<real> r_out, y; /* r_out NULL: r_in keeps what it is */
    gp<const real> r_in, x;
    gp<const float> w;
    int32_t d;
    float eps;
    struct dropout drop;
};
}

DEVICE float dot_eight(const octet &a, const octet &b)
{
    float sum = 0.0f;
    UNROLL
    for (int k = 0; k < WIDE; k++)
        sum = fmaf(a.v[k], b.v[k], sum);
    return sum;
}

template <bool VECTOR> static __global__ void __launch_bounds__(NORM_THREADS) add_rmsnorm_kernel(joined t)
{
    SHARED(float, room, WARP);
    const int32_t c = WIDE * thread_x(), left = t.d - c;
    const int64_t at = (int64_t)block_x() * t.d + c;
    octet r = take<VECTOR>(t.r_in, at, left);
    if (t.x) {
        octet x = take<VECTOR>(t.x, at, left);
        drop_eight(x, t.drop, at);
        add_eight(r, 1.0f, x);
    }
    if (t.r_out)
        give<VECTOR>(t.r_out, at, left, r);
    const octet w = take<VECTOR>(t.w, c, left);
    const float scale = rsqrtf_(block_sum(dot_eight(r, r), room) / (float)t.d + t.eps);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        r.v[k] = r.v[k] * scale * w.v[k];
    give<VECTOR>(t.y, at, left, r);
}

void cuda_add_rmsnorm(struct act *r_out, struct act *y, const struct act *r_in, const struct act *x, const float *w, int32_t n, int32_t d,
                      float eps, struct dropout drop)
{
    real *kept = x || r_out != r_in ? act_data(r_out) : NULL;
    const joined t = {kept, act_data(y), act_data(r_in), act_data(x), w, d, eps, drop};
    const bool vector = d % WIDE == 0 && wide_at(kept) && wide_at(y) && wide_at(r_in) && wide_at(x) && wide_at(w);
    const double cells = (double)n * d, bytes = sizeof(real) * cells * (2.0 + (x != NULL) + (kept != NULL)) + sizeof(float) * d;
    CHECK(d <= NORM_WIDTH);
    if (n > 0 && d > 0)
        WIDE_LAUNCH(vector, add_rmsnorm_kernel, dim_of(n), wide_threads(d, NORM_THREADS), (cost{bytes, cells * (x ? 5.0 : 4.0)}), t);
}

/* ---- backward: y = r w s with s = (mean r^2 + eps)^-1/2, dr = s (w dy - r s^2 mean(w dy r)), dw = sum of dy r s ---- */

namespace {
struct norm_grad {
    gp<real> dr;
    gp<float> sums; /* [blocks, d]: dw of each block */
    gp<const real> dy, r;
    gp<const float> w;
    int32_t n, d, each; /* rows of a block */
    float eps;
};
struct pair {
    float x, y;
};
}

/* Both sums over the block, every thread gets them. room has two slots a warp and is free again behind the next barrier but one. */
DEVICE pair block_pair(pair v, sp<float> room)
{
    const int warps = threads() / WARP;
    v = {warp_sum(v.x), warp_sum(v.y)};
    if (thread_x() % WARP == 0) {
        room[2 * (thread_x() / WARP)] = v.x;
        room[2 * (thread_x() / WARP) + 1] = v.y;
    }
    sync_block();
    v = {0.0f, 0.0f};
    for (int i = 0; i < warps; i++) {
        v.x += room[2 * i];
        v.y += room[2 * i + 1];
    }
    return v;
}

template <bool VECTOR> DEVICE void norm_row_backward(const norm_grad &t, int32_t row, octet &dw, sp<float> room)
{
    const int32_t c = WIDE * thread_x(), left = t.d - c;
    const int64_t at = (int64_t)row * t.d + c;
    const octet r = take<VECTOR>(t.r, at, left), dy = take<VECTOR>(t.dy, at, left);
    octet dr = take<VECTOR>(t.dr, at, left), wdy = take<VECTOR>(t.w, c, left);
    UNROLL
    for (int k = 0; k < WIDE; k++)
        wdy.v[k] *= dy.v[k];
    const pair sums = block_pair({dot_eight(r, r), dot_eight(wdy, r)}, room);
    const float s = rsqrtf_(sums.x / (float)t.d + t.eps), shift = sums.y * s * s / (float)t.d;
    UNROLL
    for (int k = 0; k < WIDE; k++) {
        dr.v[k] += s * (wdy.v[k] - r.v[k] * shift);
        dw.v[k] += dy.v[k] * r.v[k] * s;
    }
    give<VECTOR>(t.dr, at, left, dr);
}

template <bool VECTOR> static __global__ void __launch_bounds__(NORM_THREADS) rmsnorm_backward_kernel(norm_grad t)
{
    SHARED(float, room, 4 * WARP);
    const int32_t c = WIDE * thread_x(), left = t.d - c, first = block_x() * t.each;
    const int32_t end = t.n - first < t.each ? t.n : first + t.each;
    octet dw = {};
    for (int32_t i = first; i < end; i++)
        norm_row_backward<VECTOR>(t, i, dw, room + i % 2 * 2 * WARP);
    give<VECTOR>(t.sums, (int64_t)block_x() * t.d + c, left, dw);
}

/* y[column] += the sum of `rows` rows of x; a block has 32 columns, its warps share the rows and are then added in order. */
static __global__ void __launch_bounds__(NORM_THREADS) add_rows_kernel(gp<float> y, gp<const float> x, int32_t rows, int32_t d)
{
    SHARED(float, room, ADD_WARPS * WARP);
    const int32_t lane = thread_x() % WARP, warp = thread_x() / WARP, warps = threads() / WARP, c = block_x() * WARP + lane;
    float sum = 0.0f;
    for (int32_t i = warp; i < rows && c < d; i += warps)
        sum += x[(int64_t)i * d + c];
    room[thread_x()] = sum;
    sync_block();
    if (warp > 0 || c >= d)
        return;
    for (int32_t i = 1; i < warps; i++)
        sum += room[i * WARP + lane];
    y[c] += sum;
}

void cuda_rmsnorm_backward(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                           float eps)
{
    const int32_t least = (int32_t)blocks_for(n, GRADIENT_BLOCKS), each = least > GRADIENT_ROWS ? least : GRADIENT_ROWS;
    const int32_t blocks = (int32_t)blocks_for(n, each);
    const bool vector = d % WIDE == 0 && wide_at(dr) && wide_at(dy) && wide_at(r) && wide_at(w);
    const double cells = (double)n * d, sum_bytes = (double)blocks * d * sizeof(float);
    CHECK(d <= NORM_WIDTH);
    if (n <= 0 || d <= 0)
        return;
    float *sums = (float *)platform_scratch((size_t)blocks * (size_t)d * sizeof(float));
    const norm_grad t = {act_data(dr), sums, act_data(dy), act_data(r), w, n, d, each, eps};
    WIDE_LAUNCH(vector, rmsnorm_backward_kernel, dim_of(blocks), wide_threads(d, NORM_THREADS),
                (cost{4.0 * sizeof(real) * cells + sum_bytes + sizeof(float) * d, 12.0 * cells}), t);
    LAUNCH((add_rows_kernel), dim_of(blocks_for(d, WARP)), (blocks < ADD_WARPS ? blocks : ADD_WARPS) * WARP,
           (cost{sum_bytes + 2.0 * sizeof(float) * d, (double)blocks * d}), dw, sums, blocks, d);
}
