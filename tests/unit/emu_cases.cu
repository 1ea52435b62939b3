/* emu_cases.cu: kernels in the emulation's dialect, for test_emu.c: sound ones, and one seeded defect each, with its sound twin.
 *
 * A defect is a template argument, so that the twins differ in nothing else. Each is written as it would be met: a barrier forgotten
 * between filling a tile and reading it, a loop that runs one element too far, a return before a barrier. */
#include "emu_cases.h"
#include "../../kernels/cuda/device.h"
#include "../../kernels/emu/emu_log.h"

#include <string.h>

enum { BLOCK = 128, TILE = 32 };
static const struct cost free_of_charge = {0, 0};

/* ---- host side ---- */

template <class T> static T *device_of(const T *host, int64_t n)
{
    T *p = (T *)platform_alloc((size_t)n * sizeof(T));
    CHECK(p);
    if (host)
        platform_write(p, host, (size_t)n * sizeof(T));
    return p;
}
template <class T> static void back(T *host, T *device, int64_t n)
{
    platform_read(host, device, (size_t)n * sizeof(T));
    platform_free(device);
}

/* ---- sound kernels ---- */

/* Blocks pass their slices on, one place further in each phase. */
struct ring {
    gp<float> x, y;
};
struct ring_phases {
    DEVICE void run(const ring &r, int phase)
    {
        const gp<float> from = phase % 2 ? r.y : r.x, to = phase % 2 ? r.x : r.y;
        to[(block_x() + 1) % blocks_x() * threads() + thread_x()] = (float)from[block_x() * threads() + thread_x()] + 1.0f;
    }
};

void emu_ring(float *x, int32_t blocks, int32_t phases)
{
    const int64_t n = (int64_t)blocks * BLOCK;
    float *in = device_of((const float *)x, n), *out = device_of((const float *)NULL, n);
    const struct cost cost = {4.0 * (double)n * (phases > 1 ? 4 : 2), (double)n * phases};
    LAUNCH_PHASES(ring_phases, phases, dim_of(blocks), BLOCK, cost, (ring{in, out}));
    back(x, phases % 2 ? out : in, n);
    platform_free(phases % 2 ? in : out);
}

static __global__ void sum_kernel(gp<float> sums, gp<const float> x, int32_t n)
{
    SHARED(float, room, WARP);
    float sum = 0.0f;
    for (int32_t i = thread_x(); i < n; i += threads())
        sum += x[(int64_t)block_x() * n + i];
    sum = block_sum(sum, room);
    if (thread_x() == 0)
        sums[block_x()] = sum;
}

void emu_sum(float *sums, const float *x, int32_t rows, int32_t n)
{
    float *y = device_of((const float *)NULL, rows), *in = device_of(x, (int64_t)rows * n);
    const struct cost cost = {4.0 * rows * n + 4.0 * rows, (double)rows * n};
    LAUNCH((sum_kernel), dim_of(rows), BLOCK, cost, y, in, n);
    back(sums, y, rows);
    platform_free(in);
}

static __global__ void transpose_kernel(gp<float> y, gp<const float> x, int32_t rows, int32_t cols)
{
    SHARED(float, tile, TILE * (TILE + 1));
    const int lane = thread_x() % WARP, warp = thread_x() / WARP, warps = threads() / WARP;
    for (int r = warp; r < TILE; r += warps) {
        const int64_t row = block_y() * TILE + r, col = block_x() * TILE + lane;
        if (row < rows && col < cols)
            tile[r * (TILE + 1) + lane] = x[row * cols + col];
    }
    sync_block();
    for (int r = warp; r < TILE; r += warps) {
        const int64_t row = block_x() * TILE + r, col = block_y() * TILE + lane;
        if (row < cols && col < rows)
            y[row * rows + col] = tile[lane * (TILE + 1) + r];
    }
}

void emu_transpose(float *y, const float *x, int32_t rows, int32_t cols)
{
    float *out = device_of((const float *)NULL, (int64_t)rows * cols), *in = device_of(x, (int64_t)rows * cols);
    const struct cost cost = {8.0 * rows * cols, 0};
    LAUNCH((transpose_kernel), dim_of(blocks_for(cols, TILE), blocks_for(rows, TILE)), 256, cost, out, in, rows, cols);
    back(y, out, (int64_t)rows * cols);
    platform_free(in);
}

static __global__ void lanes_kernel(gp<int32_t> out)
{
    const int lane = thread_x();
    out[0 * WARP + lane] = shuffle_xor(lane, 5);
    out[1 * WARP + lane] = shuffle_down(lane, 3);
    out[2 * WARP + lane] = shuffle(lane * 2, 9);
    out[3 * WARP + lane] = vote_any(lane == 31);
    out[4 * WARP + lane] = vote_all(lane != 31);
    out[5 * WARP + lane] = (int32_t)vote_ballot(lane % 2 == 0);
    out[6 * WARP + lane] = (int32_t)warp_sum((double)lane);
}

void emu_lanes(int32_t *out)
{
    int32_t *y = device_of((const int32_t *)NULL, 7 * WARP);
    LAUNCH((lanes_kernel), dim_of(1), WARP, free_of_charge, y);
    back(out, y, 7 * WARP);
}

static __global__ void count_kernel(gp<uint32_t> bins, gp<uint64_t> sum, gp<int32_t> most, gp<const int32_t> x, int32_t n,
                                    int32_t bin_count)
{
    SHARED(uint32_t, own, 64);
    SHARED(int32_t, top, 1);
    for (int i = thread_x(); i < bin_count; i += threads())
        own[i] = 0;
    if (thread_x() == 0)
        top[0] = INT32_MIN;
    sync_block();
    for (int32_t i = block_x() * threads() + thread_x(); i < n; i += blocks_x() * threads()) {
        atomic_add(own + x[i] % bin_count, 1u);
        atomic_max(&top[0], x[i]);
        atomic_add(sum, (uint64_t)x[i]);
    }
    sync_block();
    for (int i = thread_x(); i < bin_count; i += threads())
        atomic_add(&bins[i], own[i]);
    if (thread_x() == 0)
        atomic_max(most, top[0]);
}

void emu_count(uint32_t *bins, uint64_t *sum, int32_t *most, const int32_t *x, int32_t n, int32_t bin_count)
{
    uint32_t *b = device_of((const uint32_t *)NULL, bin_count);
    uint64_t *s = device_of((const uint64_t *)NULL, 1);
    int32_t *m = device_of((const int32_t *)NULL, 1), *in = device_of(x, n);
    LAUNCH((count_kernel), dim_of(3), BLOCK, free_of_charge, b, s, m, in, n, bin_count);
    back(bins, b, bin_count);
    back(sum, s, 1);
    back(most, m, 1);
    platform_free(in);
}

template <class Order> static __global__ void tiles_kernel(gp<float> y, gp<const bf16> a, gp<const bf16> b)
{
    SHARED(bf16, left, 16 * 24);
    SHARED(float, sums, 16 * 16);
    const int lane = thread_x();
    for (int i = lane; i < 256; i += WARP)
        left[i / 16 * 24 + i % 16] = a[i];
    sync_warp();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, Order> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> c;
    wmma::fill_fragment(c, 1.0f);
    wmma::load_matrix_sync(fa, left, 24);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(c, fa, fb, c);
    for (int e = 0; e < c.num_elements; e++)
        c.x[e] *= 2.0f;
    wmma::store_matrix_sync(sums, c, 16, wmma::mem_col_major);
    sync_warp();
    for (int i = lane; i < 256; i += WARP)
        y[i] = sums[i % 16 * 16 + i / 16];
}

void emu_tiles(float *y, const float *a, const float *b, bool turned)
{
    bf16 host[2][256];
    for (int i = 0; i < 256; i++) {
        host[0][i] = to_<bf16>(a[i]);
        host[1][i] = to_<bf16>(b[i]);
    }
    float *out = device_of((const float *)NULL, 256);
    bf16 *left = device_of(host[0], 256), *right = device_of(host[1], 256);
    if (turned)
        LAUNCH((tiles_kernel<wmma::col_major>), dim_of(1), WARP, free_of_charge, out, left, right);
    else
        LAUNCH((tiles_kernel<wmma::row_major>), dim_of(1), WARP, free_of_charge, out, left, right);
    back(y, out, 256);
    platform_free(left);
    platform_free(right);
}

float emu_round(float x)
{
    return to_float(to_<bf16>(x));
}

static real *real_of(const float *x, int64_t n)
{
    real *host = (real *)malloc((size_t)n * sizeof(real));
    CHECK(host);
    for (int64_t i = 0; i < n; i++)
        host[i] = to_<real>(x[i]);
    real *p = device_of(host, n);
    free(host);
    return p;
}

void emu_product(float *c, const float *a, const float *b, const int32_t size[3], int flags)
{
    const int64_t m = size[0], n = size[1], k = size[2];
    struct gemm g = {(flags & 1) != 0, (flags & 2) != 0, m, n, k, 0.5f, real_of(a, m * k), real_of(b, n * k), 0, 0, NULL, n,
                     (flags & 4) != 0, (flags & 8) != 0, (flags & 16) != 0};
    g.lda = g.ta ? m : k;
    g.ldb = g.tb ? k : n;
    g.c = g.c_f32 ? (void *)device_of(c, m * n) : (void *)real_of(c, m * n);
    platform_gemm(&g);
    if (g.c_f32)
        platform_read(c, g.c, (size_t)(m * n) * sizeof(float));
    else
        for (int64_t i = 0; i < m * n; i++) {
            real x;
            platform_read(&x, (real *)g.c + i, sizeof x);
            c[i] = to_float(x);
        }
    platform_free((void *)(uintptr_t)g.a);
    platform_free((void *)(uintptr_t)g.b);
    platform_free(g.c);
}

static __global__ void one_more_kernel(gp<float> x, int32_t n)
{
    const int i = block_x() * threads() + thread_x();
    if (i < n)
        x[i] += 1.0f;
}

static void one_more(float *x, int32_t n)
{
    const struct cost cost = {8.0 * n, (double)n};
    LAUNCH((one_more_kernel), dim_of(blocks_for(n, BLOCK)), BLOCK, cost, x, n);
}

void emu_twice(float *x, int32_t n)
{
    float *y = device_of(x, n), *z = device_of(x, n);
    CHECK(platform_record_begin() == 0);
    one_more(y, n);
    platform_copy(z, y, (size_t)n * sizeof *z);
    platform_zero(y, sizeof *y);
    struct recording *r = platform_record_end();
    platform_replay(r);
    platform_replay(r);
    platform_record_free(r);
    back(x, z, n);
    platform_free(y);
}

void emu_launch_one(void)
{
    float *x = device_of((const float *)NULL, 1000);
    one_more(x, 1000);
    platform_free(x);
}

/* Blocks leave sums behind; the last of them adds them up. */
template <bool FENCED>
static __global__ void last_block_kernel(gp<float> sum, gp<float> parts, gp<uint32_t> arrived, gp<const float> x, int32_t n)
{
    SHARED(float, room, WARP);
    SHARED(uint32_t, before, 1);
    const int i = block_x() * threads() + thread_x();
    const float own = block_sum(i < n ? x[i] : 0.0f, room);
    if (thread_x() == 0) {
        parts[block_x()] = own;
        if (FENCED)
            fence();
        before[0] = atomic_add(arrived, 1u);
    }
    sync_block();
    if ((int)before[0] != blocks_x() - 1)
        return;
    const float part = thread_x() < blocks_x() ? (float)parts[thread_x()] : 0.0f, all = block_sum(part, room);
    if (thread_x() == 0) {
        sum[0] = all;
        arrived[0] = 0;
    }
}

void emu_last_block(float *sum, const float *x, int32_t n, bool fenced)
{
    const int64_t blocks = blocks_for(n, BLOCK);
    float *y = device_of((const float *)NULL, 1), *parts = device_of((const float *)NULL, blocks), *in = device_of(x, n);
    uint32_t *arrived = device_of((const uint32_t *)NULL, 1);
    if (fenced)
        LAUNCH((last_block_kernel<true>), dim_of(blocks), BLOCK, free_of_charge, y, parts, arrived, in, n);
    else
        LAUNCH((last_block_kernel<false>), dim_of(blocks), BLOCK, free_of_charge, y, parts, arrived, in, n);
    back(sum, y, 1);
    platform_free(parts);
    platform_free(in);
    platform_free(arrived);
}

/* ---- defects ---- */

/* Reverses each block's run of elements. */
template <bool WRONG> static __global__ void missing_barrier(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    tile[thread_x()] = x[thread_x()];
    if (!WRONG)
        sync_block();
    x[thread_x()] = tile[BLOCK - 1 - thread_x()];
}

/* The barrier before a tile is filled again. */
template <bool WRONG> static __global__ void missing_second_barrier(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    for (int round = 0; round < 2; round++) {
        tile[thread_x()] = x[thread_x()];
        sync_block();
        x[thread_x()] = tile[(thread_x() + WARP) % BLOCK];
        if (!WRONG)
            sync_block();
    }
}

template <bool WRONG> static __global__ void missing_warp_barrier(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    const int own = thread_x() / WARP * WARP;
    tile[thread_x()] = x[thread_x()];
    if (!WRONG)
        sync_warp();
    x[thread_x()] = tile[own + (thread_x() + 1) % WARP];
}

/* A shuffle is a meeting, but no barrier for memory. */
template <bool WRONG> static __global__ void shuffle_as_barrier(gp<float> x)
{
    SHARED(float, tile, WARP);
    tile[thread_x()] = x[thread_x()];
    float y = shuffle_xor((float)thread_x(), 1);
    if (!WRONG)
        sync_warp();
    x[thread_x()] = y + tile[thread_x() ^ 1];
}

/* sync_warp where threads of other warps wrote. */
template <bool WRONG> static __global__ void narrow_barrier(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    tile[thread_x()] = x[thread_x()];
    if (WRONG)
        sync_warp();
    else
        sync_block();
    x[thread_x()] = tile[(thread_x() + WARP) % BLOCK];
}

template <bool WRONG> static __global__ void shared_beyond(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    tile[thread_x() + (WRONG ? 1 : 0)] = x[thread_x()];
    sync_block();
    x[thread_x()] = tile[thread_x() + (WRONG ? 1 : 0)];
}

template <bool WRONG> static __global__ void device_beyond(gp<float> x, int32_t n)
{
    for (int32_t i = thread_x(); WRONG ? i <= n : i < n; i += threads())
        x[i] = 1.0f;
}

template <bool WRONG> static __global__ void device_before(gp<float> y, gp<const float> x)
{
    const int i = thread_x();
    y[i] = WRONG || i > 0 ? x[i - 1] : 0.0f;
}

template <bool WRONG> static __global__ void four_askew(gp<float> y, gp<const float> x)
{
    if (thread_x() == 0)
        store4(y, 0, load4(x, WRONG ? 2 : 4));
}

template <bool WRONG> static __global__ void uninitialised(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    if (!WRONG || thread_x() < BLOCK - 1)
        tile[thread_x()] = x[thread_x()];
    sync_block();
    x[thread_x()] = tile[BLOCK - 1 - thread_x()];
}

/* What an earlier block has left behind is no value either. */
template <bool WRONG> static __global__ void left_behind(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    if (!WRONG || block_x() == 0)
        tile[thread_x()] = x[block_x() * BLOCK + thread_x()];
    sync_block();
    x[block_x() * BLOCK + thread_x()] = tile[thread_x()];
}

template <bool WRONG> static __global__ void shared_race(gp<float> x)
{
    SHARED(float, sum, 1);
    if (thread_x() == 0)
        sum[0] = 0.0f;
    sync_block();
    for (int t = 0; t < BLOCK; t++) {
        if (WRONG || thread_x() == t)
            sum[0] += x[t];
        sync_block();
    }
    if (thread_x() == 0)
        x[0] = sum[0];
}

/* An atomic and a plain access to one cell. */
template <bool WRONG> static __global__ void half_atomic(gp<uint32_t> x)
{
    SHARED(uint32_t, count, 1);
    if (thread_x() == 0)
        count[0] = 0;
    sync_block();
    atomic_add(count + 0, 1u);
    if (!WRONG)
        sync_block();
    x[thread_x()] = count[0];
}

template <bool WRONG> static __global__ void left_early(gp<float> x)
{
    SHARED(float, tile, BLOCK);
    if (WRONG && thread_x() >= 100)
        return;
    tile[thread_x()] = x[thread_x()];
    sync_block();
    x[thread_x()] = tile[0];
}

template <bool WRONG> static __global__ void two_barriers(gp<float> x)
{
    if (WRONG && thread_x() < WARP)
        sync_block();
    else
        sync_block();
    x[thread_x()] = 1.0f;
}

/* Half a warp waits for the block, the other half for the warp. */
template <bool WRONG> static __global__ void two_kinds(gp<float> x)
{
    if (WRONG && thread_x() % WARP < 16)
        sync_block();
    else
        sync_warp();
    if (!WRONG || thread_x() % WARP >= 16)
        sync_block();
    x[thread_x()] = 1.0f;
}

template <bool WRONG> static __global__ void lane_gone(gp<float> x)
{
    if (WRONG && thread_x() == 7)
        return;
    x[thread_x()] = warp_sum(x[thread_x()] + 1.0f);
}

template <bool WRONG> static __global__ void lane_elsewhere(gp<float> x)
{
    float y = 1.0f;
    if (WRONG ? thread_x() % WARP < 16 : thread_x() < WARP)
        y = shuffle_xor(y, 1);
    sync_block();
    x[thread_x()] = y;
}

template <bool WRONG> static __global__ void tile_unsynced(gp<float> x)
{
    SHARED(float, tile, 256);
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> f;
    for (int i = thread_x(); i < 256; i += WARP)
        tile[i] = x[i];
    if (!WRONG)
        sync_warp();
    wmma::load_matrix_sync(f, tile, 16, wmma::mem_row_major);
    wmma::store_matrix_sync(x, f, 16, wmma::mem_row_major);
}

template <bool WRONG> static __global__ void tile_beyond(gp<float> x)
{
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> f;
    wmma::fill_fragment(f, 1.0f);
    wmma::store_matrix_sync(x + (WRONG ? 16 : 0), f, 16, wmma::mem_row_major);
}

template <bool WRONG> static __global__ void tile_read_at_once(gp<float> x)
{
    SHARED(float, tile, 256);
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> f;
    wmma::fill_fragment(f, 1.0f);
    wmma::store_matrix_sync(tile, f, 16, wmma::mem_row_major);
    if (!WRONG)
        sync_warp();
    x[thread_x()] = tile[thread_x() * 8];
}

/* All write one cell of device memory. */
template <bool WRONG> static __global__ void device_race(gp<float> x)
{
    if (WRONG || thread_x() == 0)
        x[block_x()] = (float)thread_x();
}

template <bool WRONG> static __global__ void device_read_race(gp<float> x)
{
    x[thread_x()] = 1.0f;
    if (!WRONG)
        sync_block();
    if (x[(thread_x() + 1) % BLOCK] != 1.0f)
        x[thread_x()] = 2.0f;
}

/* Neighbouring blocks share an element. */
template <bool WRONG> static __global__ void blocks_overlap(gp<float> x)
{
    const int first = block_x() * BLOCK, i = first + thread_x();
    x[i] = 1.0f;
    if (WRONG && thread_x() == 0 && block_x() > 0)
        x[first - 1] = 2.0f;
}

template <bool WRONG> static __global__ void blocks_read(gp<float> y, gp<const float> x)
{
    y[block_x() * BLOCK + thread_x()] = x[WRONG && block_x() > 0 ? thread_x() : BLOCK * 4 + thread_x()];
}

template <bool WRONG> static __global__ void copy_kernel(gp<float> y, gp<const float> x)
{
    const int i = block_x() * BLOCK + thread_x();
    y[i] = x[i] + x[(i + 1) % (BLOCK * 64)];
}

static float *floats(int64_t n)
{
    return device_of((const float *)NULL, n);
}
#define ON_TILE(kernel, blocks, threads_)                                                       \
    #kernel, #kernel, [](bool wrong) {                                                          \
        float *x = floats(2 * BLOCK);                                                           \
        if (wrong)                                                                              \
            LAUNCH((kernel<true>), dim_of(blocks), threads_, free_of_charge, x);                \
        else                                                                                    \
            LAUNCH((kernel<false>), dim_of(blocks), threads_, free_of_charge, x);               \
    }
/* Two arrays, or one that is both. */
#define ON_TWO(kernel, blocks, bytes, same)                                                     \
    #kernel, #kernel, [](bool wrong) {                                                          \
        float *x = floats(BLOCK * 64), *y = same ? x : floats(BLOCK * 64);                      \
        const struct cost cost = {bytes, 0};                                                    \
        if (wrong)                                                                              \
            LAUNCH((kernel<true>), dim_of(blocks), BLOCK, cost, y, x);                          \
        else                                                                                    \
            LAUNCH((kernel<false>), dim_of(blocks), BLOCK, cost, y, x);                         \
    }

static void run_device_beyond(bool wrong)
{
    const int32_t n = 300;
    float *x = floats(n);
    if (wrong)
        LAUNCH((device_beyond<true>), dim_of(1), BLOCK, free_of_charge, x, n);
    else
        LAUNCH((device_beyond<false>), dim_of(1), BLOCK, free_of_charge, x, n);
}

static void run_half_atomic(bool wrong)
{
    uint32_t *x = device_of((const uint32_t *)NULL, BLOCK);
    if (wrong)
        LAUNCH((half_atomic<true>), dim_of(1), BLOCK, free_of_charge, x);
    else
        LAUNCH((half_atomic<false>), dim_of(1), BLOCK, free_of_charge, x);
}

static void run_scratch_beyond(bool wrong)
{
    float *x = (float *)platform_scratch(BLOCK * sizeof(float) - (wrong ? 4 : 0));
    LAUNCH((device_race<false>), dim_of(BLOCK), WARP, free_of_charge, x);
}

static void run_copy_beyond(bool wrong)
{
    float *x = device_of((const float *)NULL, BLOCK), *y = device_of((const float *)NULL, BLOCK);
    platform_copy(y, x, BLOCK * sizeof(float) + (wrong ? 4 : 0));
}

static void run_freed(bool wrong)
{
    float *x = device_of((const float *)NULL, BLOCK);
    if (wrong)
        platform_free(x);
    LAUNCH((left_early<false>), dim_of(1), BLOCK, free_of_charge, x);
}

/* A recording that outlives what it works on. */
static void run_freed_recording(bool wrong)
{
    float *x = floats(BLOCK);
    CHECK(platform_record_begin() == 0);
    LAUNCH((left_early<false>), dim_of(1), BLOCK, free_of_charge, x);
    struct recording *r = platform_record_end();
    if (wrong)
        platform_free(x);
    platform_replay(r);
    platform_record_free(r);
}

/* Each block writes its slice, then reads its neighbour's: in the next phase, or in the same one. */
struct exchange {
    gp<float> x, y;
};
template <bool WRONG> struct early_exchange {
    DEVICE void run(const exchange &e, int phase)
    {
        const int mine = block_x() * threads() + thread_x(), other = (block_x() + 1) % blocks_x() * threads() + thread_x();
        if (phase == 0)
            e.x[mine] = (float)mine;
        if (phase == (WRONG ? 0 : 1))
            e.y[mine] = (float)e.x[other];
    }
};
static void run_early_exchange(bool wrong)
{
    const exchange e = {floats(2 * BLOCK), floats(2 * BLOCK)};
    if (wrong)
        LAUNCH_PHASES(early_exchange<true>, 2, dim_of(2), BLOCK, free_of_charge, e);
    else
        LAUNCH_PHASES(early_exchange<false>, 2, dim_of(2), BLOCK, free_of_charge, e);
}

/* What a block keeps in shared memory is gone in the next phase. */
template <bool WRONG> struct kept_between {
    DEVICE void run(const exchange &e, int phase)
    {
        SHARED(float, kept, BLOCK);
        if (phase == 0 || !WRONG)
            kept[thread_x()] = (float)thread_x();
        if (phase == 1)
            e.y[thread_x()] = (float)kept[thread_x()];
    }
};
static void run_kept_between(bool wrong)
{
    const exchange e = {floats(BLOCK), floats(BLOCK)};
    if (wrong)
        LAUNCH_PHASES(kept_between<true>, 2, dim_of(1), BLOCK, free_of_charge, e);
    else
        LAUNCH_PHASES(kept_between<false>, 2, dim_of(1), BLOCK, free_of_charge, e);
}

const struct emu_case emu_defects[] = {
    {"early_exchange", "early_exchange", run_early_exchange, "of another block read with no barrier between", 2},
    {"kept_between", "kept_between", run_kept_between, "uninitialised: reads index 0 of shared array 'kept'", 0},
    {ON_TILE(missing_barrier, 1, BLOCK), "uninitialised: reads index 127 of shared array 'tile'", 0},
    {ON_TILE(missing_second_barrier, 1, BLOCK), "which thread 96 read with no barrier between", 0},
    {ON_TILE(missing_warp_barrier, 1, BLOCK), "uninitialised: reads index 1 of", 0},
    {ON_TILE(shuffle_as_barrier, 1, WARP), "race: reads index ", 0},
    {ON_TILE(narrow_barrier, 1, BLOCK), "uninitialised: reads index ", 0},
    {ON_TILE(shared_beyond, 1, BLOCK), "thread 127: out of bounds: index 128 of shared array 'tile' of 128", 0},
    {"device_beyond", "device_beyond", run_device_beyond, "out of bounds: index 300 (4 bytes each) of a device array of 1200 bytes", 0},
    {ON_TWO(device_before, 1, 0, false), "thread 0: out of bounds: index -1 (4 bytes each)", 0},
    {ON_TWO(four_askew, 1, 0, false), "is no multiple of 16 bytes", 0},
    {"scratch_beyond", "device_race", run_scratch_beyond, "block (127, 0, 0), thread 0: out of bounds: index 127", 0},
    {"copy_beyond", "platform_copy", run_copy_beyond, "out of bounds: platform_copy of 516 bytes", 0},
    {"freed", "left_early", run_freed, "lies in no allocation", 0},
    {"freed_recording", "left_early", run_freed_recording, "or one that was freed", 0},
    {ON_TILE(uninitialised, 1, BLOCK), "thread 0: uninitialised: reads index 127 of shared array 'tile'", 0},
    {ON_TILE(left_behind, 2, BLOCK), "block (1, 0, 0), thread 127: uninitialised", 0},
    {ON_TILE(shared_race, 1, BLOCK), "race: ", 0},
    {"half_atomic", "half_atomic", run_half_atomic, "race: updates index 0 of shared array 'count', which thread 127 read", 0},
    {ON_TILE(left_early, 1, BLOCK), "divergent barrier: waits in sync_block", 0},
    {ON_TILE(two_barriers, 1, BLOCK), "divergent barrier: arrives at sync_block", 0},
    {ON_TILE(two_kinds, 1, BLOCK), "divergent barrier: waits in sync_warp", 0},
    {ON_TILE(lane_gone, 1, WARP), "divergent barrier: waits in a shuffle", 0},
    {ON_TILE(lane_elsewhere, 1, BLOCK), "divergent barrier: waits in a shuffle", 0},
    {ON_TILE(tile_unsynced, 1, WARP), "race: reads index ", 0},
    {ON_TILE(tile_beyond, 1, WARP), "out of bounds: index ", 0},
    {ON_TILE(tile_read_at_once, 1, WARP), "which warp 0 wrote with no barrier between", 0},
    {ON_TILE(device_race, 2, BLOCK), "thread 1: race: writes index 0 (4 bytes each) of a device array", 2},
    {ON_TILE(device_read_race, 1, BLOCK), "which thread 0 read with no barrier between", 2},
    {ON_TILE(blocks_overlap, 2, BLOCK), "which thread 127 of another block wrote", 2},
    {ON_TWO(blocks_read, 2, 0, true), "of another block wrote with no barrier between", 2},
    {ON_TWO(copy_kernel, 64, BLOCK * 64 * (wrong ? 16.0 : 8.0), false), NULL, 1},
};
const int emu_defect_count = sizeof emu_defects / sizeof *emu_defects;
