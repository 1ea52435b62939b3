/* device.h: the dialect that every .cu file of this folder is written in, so that one text is both a CUDA kernel and an emulated one.
 *
 * nvcc compiles it for the device. With SEMINDEX_EMU a C++17 host compiler does, and kernels/emu/emu.h supplies threads as fibres, barriers,
 * shuffles, atomics, wmma and checked memory. The dialect:
 *   gp<T>                    a pointer to device memory (a kernel's parameter or a local); plain T * on the device, checked and counted in emulation.
 *                            Launchers pass plain T *; it converts. Supports [], *, +, -, +=, ++, comparison, and conversion T -> const T.
 *   SHARED(T, name, count)   a shared array of a constant size, in a kernel (or a function that all threads of a block call); name[i], name + i
 *   sp<T>                    a pointer into such an array, for functions that take one
 *   sync_block(), sync_warp()
 *   shuffle_xor(v, d), shuffle_down(v, d), shuffle(v, lane), vote_any(p), vote_all(p), vote_ballot(p): whole warps only
 *   atomic_add(p, v) for int32_t, uint32_t, uint64_t in device and shared memory, atomic_max likewise; no float atomics: sums keep their order
 *   fence()                what this thread has written is there for blocks that learn of it by an atomic
 *   thread_x(), block_x(), block_y(), block_z(), threads(), blocks_x(): indices as int; blocks are one-dimensional in threads, a multiple of 32, <= 1024
 *   load4(gp<const float or const real>, i) / store4(gp<..>, i, four): four neighbours at once, address i a multiple of 4 elements (f32: 16 bytes,
 *                            bf16: 8 bytes); load8 / store8 the same for eight (16 bytes). struct four {float x, y, z, w}, octet {float v[8]}
 *   LAUNCH(kernel, blocks, threads, cost, ...)   blocks = dim_of(x, y, z); host side. Template kernels: LAUNCH((kernel<A, B>), ...)
 *   LAUNCH_PHASES(P, phases, blocks, threads, cost, a)   one launch of P::run(a, phase) for phase = 0, 1 .. phases - 1: all blocks have left a phase, and see
 *                            what was written there, before any enters the next. Nothing in registers or shared memory lives on. All blocks must run at the same
 *                            time, so there are at most platform_processors() of at most 256 threads
 * `real` is the activation element: bf16, or float with SEMINDEX_CUDA_F32 (the mode of exact comparison). to_float / to_real convert (nearest even).
 * Nothing else of CUDA is used in kernels: no dynamic shared memory (at most 48 KiB static), no recursion, no printf, no doubles in hot loops
 * (double is allowed where a sum's precision asks for it). expf, logf, tanhf, fmaxf, fmaf, rsqrtf_ (1 / sqrtf) are the math.
 * wmma: namespace `wmma` as in <mma.h>, for tiles of 16 x 16 x 16, bf16 x bf16 -> float, load from / store to shared arrays or device memory. */
#ifndef SEMINDEX_DEVICE_H
#define SEMINDEX_DEVICE_H

enum { WARP = 32 };
struct four {
    float x, y, z, w;
};
struct octet {
    float v[8];
};

#ifdef SEMINDEX_EMU
#include "../emu/emu.h"
#else
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <mma.h>
namespace wmma = nvcuda::wmma;
#endif

extern "C" {
#include "../backend.h"
#include "../check.h"
#include "platform.h"
}

#ifdef SEMINDEX_EMU
using emu::fence;
typedef emu::bf16 bf16;
#else
typedef __nv_bfloat16 bf16;
#endif
#ifdef SEMINDEX_CUDA_F32
typedef float real;
#else
typedef bf16 real;
#endif

#ifndef SEMINDEX_EMU
template <class T> using gp = T *;
template <class T> using sp = T *;
#define SHARED(T, name, count) __shared__ __align__(32) T name[count]
static __device__ __forceinline__ void sync_block() { __syncthreads(); }
static __device__ __forceinline__ void sync_warp() { __syncwarp(); }
static __device__ __forceinline__ void fence() { __threadfence(); }
template <class T> static __device__ __forceinline__ T shuffle_xor(T v, int d) { return __shfl_xor_sync(0xffffffffu, v, d); }
template <class T> static __device__ __forceinline__ T shuffle_down(T v, int d) { return __shfl_down_sync(0xffffffffu, v, d); }
template <class T> static __device__ __forceinline__ T shuffle(T v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
static __device__ __forceinline__ bool vote_any(bool p) { return __any_sync(0xffffffffu, p) != 0; }
static __device__ __forceinline__ bool vote_all(bool p) { return __all_sync(0xffffffffu, p) != 0; }
static __device__ __forceinline__ uint32_t vote_ballot(bool p) { return __ballot_sync(0xffffffffu, p); }
template <class T> static __device__ __forceinline__ T atomic_add(T *p, T v) { return atomicAdd(p, v); }
template <> __device__ __forceinline__ uint64_t atomic_add<uint64_t>(uint64_t *p, uint64_t v)
{
    return atomicAdd((unsigned long long *)p, (unsigned long long)v);
}
template <class T> static __device__ __forceinline__ T atomic_max(T *p, T v) { return atomicMax(p, v); }
static __device__ __forceinline__ int thread_x() { return (int)threadIdx.x; }
static __device__ __forceinline__ int threads() { return (int)blockDim.x; }
static __device__ __forceinline__ int block_x() { return (int)blockIdx.x; }
static __device__ __forceinline__ int block_y() { return (int)blockIdx.y; }
static __device__ __forceinline__ int block_z() { return (int)blockIdx.z; }
static __device__ __forceinline__ int blocks_x() { return (int)gridDim.x; }
static __host__ __device__ __forceinline__ float to_float(float x) { return x; }
static __host__ __device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T> static __host__ __device__ __forceinline__ T to_(float x);
template <> __host__ __device__ __forceinline__ float to_<float>(float x) { return x; }
template <> __host__ __device__ __forceinline__ bf16 to_<bf16>(float x) { return __float2bfloat16_rn(x); }
static __device__ __forceinline__ float rsqrtf_(float x) { return 1.0f / sqrtf(x); }
static __device__ __forceinline__ four load4(const float *p, int64_t i)
{
    const float4 v = *reinterpret_cast<const float4 *>(p + i);
    return {v.x, v.y, v.z, v.w};
}
static __device__ __forceinline__ four load4(const bf16 *p, int64_t i)
{
    const uint2 v = *reinterpret_cast<const uint2 *>(p + i);
    return {__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16), __uint_as_float(v.y & 0xffff0000u)};
}
static __device__ __forceinline__ void store4(float *p, int64_t i, four v) { *reinterpret_cast<float4 *>(p + i) = make_float4(v.x, v.y, v.z, v.w); }
static __device__ __forceinline__ void store4(bf16 *p, int64_t i, four v)
{
    const __nv_bfloat162 a = __floats2bfloat162_rn(v.x, v.y), b = __floats2bfloat162_rn(v.z, v.w);
    *reinterpret_cast<uint2 *>(p + i) = make_uint2(*reinterpret_cast<const uint32_t *>(&a), *reinterpret_cast<const uint32_t *>(&b));
}
static __device__ __forceinline__ octet load8(const float *p, int64_t i)
{
    const four a = load4(p, i), b = load4(p, i + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
static __device__ __forceinline__ octet load8(const bf16 *p, int64_t i)
{
    const uint4 v = *reinterpret_cast<const uint4 *>(p + i);
    return {{__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16), __uint_as_float(v.y & 0xffff0000u),
             __uint_as_float(v.z << 16), __uint_as_float(v.z & 0xffff0000u), __uint_as_float(v.w << 16), __uint_as_float(v.w & 0xffff0000u)}};
}
static __device__ __forceinline__ void store8(float *p, int64_t i, const octet &x)
{
    store4(p, i, {x.v[0], x.v[1], x.v[2], x.v[3]});
    store4(p, i + 4, {x.v[4], x.v[5], x.v[6], x.v[7]});
}
static __device__ __forceinline__ uint32_t two_bf16(float x, float y)
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t *>(&both);
}
static __device__ __forceinline__ void store8(bf16 *p, int64_t i, const octet &x)
{
    *reinterpret_cast<uint4 *>(p + i) =
        make_uint4(two_bf16(x.v[0], x.v[1]), two_bf16(x.v[2], x.v[3]), two_bf16(x.v[4], x.v[5]), two_bf16(x.v[6], x.v[7]));
}
cudaStream_t platform_stream(void); /* runtime.cu: the one stream, on a thread's first call also its device */
static inline dim3 dim_of(int64_t x, int64_t y = 1, int64_t z = 1) { return dim3((unsigned)x, (unsigned)y, (unsigned)z); }
void launch_note(const char *kernel, struct cost cost); /* runtime.cu: counts, and turns a launch error into a fault */
#define LAUNCH_NAME(...) __VA_ARGS__
#define LAUNCH(kernel, blocks, threads_, cost_, ...)                                      \
    do {                                                                                  \
        LAUNCH_NAME kernel <<<(blocks), (threads_), 0, platform_stream()>>>(__VA_ARGS__);   \
        launch_note(#kernel, cost_);                                                      \
    } while (0)
template <class P, class A> static __global__ void __launch_bounds__(256, 1) phases_kernel(const __grid_constant__ A a, int phases)
{
    for (int phase = 0; phase < phases; phase++) {
        if (phase > 0)
            cooperative_groups::this_grid().sync();
        P::run(a, phase);
    }
}
template <class P, class A> static inline void launch_phases(const A &a, int phases, dim3 blocks, int threads)
{
    void *args[] = {(void *)&a, (void *)&phases};
    cudaLaunchCooperativeKernel((const void *)phases_kernel<P, A>, blocks, dim3((unsigned)threads), args, 0, platform_stream());
}
#define LAUNCH_PHASES(P, phases, blocks, threads_, cost_, a)          \
    do {                                                              \
        launch_phases<P>((a), (phases), (blocks), (threads_));        \
        launch_note(#P, cost_);                                       \
    } while (0)
#endif

/* LAUNCH(kernel, ..) for a plain kernel takes its name in brackets too: LAUNCH((my_kernel), ..). */

static inline real to_real_host(float x) { return to_<real>(x); }
template <class T = real>
#ifdef SEMINDEX_EMU
static inline T
#else
static __host__ __device__ __forceinline__ T
#endif
to_real(float x)
{
    return to_<T>(x);
}

/* Sum and maximum over a warp; every lane gets it. The order is fixed: a butterfly. */
#ifdef SEMINDEX_EMU
#define DEVICE static inline
#else
#define DEVICE static __device__ __forceinline__
#endif
template <class T> DEVICE T warp_sum(T v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v += shuffle_xor(v, d);
    return v;
}
DEVICE float warp_max(float v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v = fmaxf(v, shuffle_xor(v, d));
    return v;
}
/* Sum over a block, every thread gets it; `room` has one slot a warp (32 of them will always do). Ends with a barrier: room may be used again. */
template <class T> DEVICE T block_sum(T v, sp<T> room)
{
    const int lane = thread_x() % WARP, warp = thread_x() / WARP, warps = threads() / WARP;
    v = warp_sum(v);
    if (lane == 0)
        room[warp] = v;
    sync_block();
    T sum = 0;
    for (int i = 0; i < warps; i++)
        sum += (T)room[i];
    sync_block();
    return sum;
}

static inline real *act_data(const struct act *x) { return (real *)(uintptr_t)x; }
static inline int64_t blocks_for(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
/* A weight's own form: real [rows, cols]. */
static inline const real *weight_data(const struct weight *w) { return (const real *)w->native; }

#endif
