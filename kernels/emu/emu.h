/* emu.h: the dialect of kernels/cuda/device.h on a plain processor: the same kernels run here, slowly, and are watched while they do.
 *
 * Blocks run one after the other. The threads of a block are fibres: each runs until it must wait for others (a barrier, a shuffle, a
 * product of tiles) or ends; a kernel without any of these is a plain loop. Every access to shared and device memory goes through sp<T> and
 * gp<T>, which know the array and its bounds, and through shadows that know who touched a cell last and when. So the emulation says what a
 * device would not: accesses out of bounds, shared cells that nobody wrote, two threads at one cell with no barrier between, barriers that
 * some threads do not reach. A finding is one line on standard error (kernel, block, thread, array, index) and abort().
 *
 * SEMINDEX_EMU_CHECK=cost counts what each launch touches of device memory and compares it with the declared cost; =full also looks for
 * races in device memory. Time is a stamp that grows with every barrier, its low 16 bits left free for a thread's number: an access is
 * (stamp | who), and two accesses are ordered when a barrier that covers both threads was stamped between them.
 *
 * Elements of arrays are met as values or as `cell`s that read and write when they are used; a struct is read or written whole.
 * One thread of the program calls the platform at a time, so all state is plain globals. */
#ifndef SEMINDEX_EMU_H
#define SEMINDEX_EMU_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <tuple>
#include <type_traits>
#include <utility>

extern "C" {
#include "../cuda/platform.h"
}

#pragma GCC diagnostic ignored "-Wunknown-pragmas" /* unroll */
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

namespace emu {

/* ---- numbers ---- */

struct bf16 {
    uint16_t bits;
};
inline float widen(bf16 x)
{
    const uint32_t bits = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
/* To the nearest, ties to even; a NaN stays one. */
inline bf16 narrow(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (__builtin_expect((bits & 0x7fffffffu) > 0x7f800000u, 0))
        return {(uint16_t)(bits >> 16 | 0x40)};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

/* ---- who runs, and when ---- */

enum { THREADS_MOST = 1024, LANES = 32, WARPS_MOST = THREADS_MOST / LANES };
/* The low 16 bits of an access: a thread, or a warp as a whole, or threads of several warps (or, in device memory, of several blocks);
 * with ATOMIC: all of them by atomic operations. */
enum : uint64_t { WHOLE_WARP = 1024, MANY = 2046, MANY_BLOCKS = 2047, ATOMIC = 0x8000, WHO = 0xffff, TICK = 0x10000 };
enum access { READ = 1, WRITE = 2, UPDATE = 3 };

struct shade { /* the last accesses to a cell: stamp | who */
    uint64_t wrote, read;
};
struct room { /* an allocation of device memory */
    char *base;
    uint64_t bytes;
    uint32_t *prints;  /* per 4 bytes: launch << 8 | bytes written << 4 | bytes read */
    shade *shades[4];  /* per element of 1, 2, 4, 8 bytes */
    uint64_t mapped;
};
struct array { /* in shared memory */
    const char *name;
    int64_t count;
    size_t unit;
};
struct machine {
    int thread, threads, check; /* check: 0, 1 cost, 2 full */
    int64_t block[3], grid[3];
    int phase; /* of LAUNCH_PHASES */
    uint64_t stamp, begun, since; /* now; when this block began; its last barrier */
    uint64_t warp_since[WARPS_MOST];
};
extern machine now;
extern const room nowhere;

const room *find_room(const void *p);
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_bounds(const room *home, const void *p, size_t unit);
[[noreturn]] void fail_bounds(const array *a, int64_t i);
void note_device(const room *home, const void *p, size_t size, access how, bool warp);
void shared_read_slow(shade *s, const array *a, int64_t i, uint64_t who);
void shared_write_slow(shade *s, const array *a, int64_t i, uint64_t who);
void shared_update(shade *s, const array *a, int64_t i);

/* Another's access since the block's last barrier. */
inline bool is_news(uint64_t access, uint64_t me) { return access >= now.since && (access & WHO) != me; }

/* Says already that several have read, me among them: nothing to add. */
inline bool is_covered(uint64_t read, uint64_t me)
{
    const uint64_t who = read & WHO;
    return who == MANY || (who == WHOLE_WARP + me / LANES && read >= now.warp_since[me / LANES]);
}

/* ---- elements ---- */

/* An element of a writable array: reads and writes when used. P is gp<T> or sp<T>, standing on it. It cannot be kept (auto x = a[i]):
 * a later use would read what the array holds then. */
template <class T, class P> struct cell {
    P at;
    explicit cell(P p) : at(p) {}
    cell(const cell &) = delete;
    operator T() && { return at.get(); }
    P operator&() && { return at; }
    T operator=(T v) && { return at.put(v); }
    T operator=(cell &&o) && { return at.put(o.at.get()); }
    template <class V> T operator+=(V &&v) && { return at.put((T)(at.get() + std::forward<V>(v))); }
    template <class V> T operator-=(V &&v) && { return at.put((T)(at.get() - std::forward<V>(v))); }
    template <class V> T operator*=(V &&v) && { return at.put((T)(at.get() * std::forward<V>(v))); }
    template <class V> T operator/=(V &&v) && { return at.put((T)(at.get() / std::forward<V>(v))); }
    template <class V> T operator|=(V &&v) && { return at.put((T)(at.get() | std::forward<V>(v))); }
    template <class V> T operator&=(V &&v) && { return at.put((T)(at.get() & std::forward<V>(v))); }
    template <class V> T operator^=(V &&v) && { return at.put((T)(at.get() ^ std::forward<V>(v))); }
    T operator++() && { return at.put((T)(at.get() + 1)); }
    T operator--() && { return at.put((T)(at.get() - 1)); }
    T operator++(int) &&
    {
        const T old = at.get();
        at.put((T)(old + 1));
        return old;
    }
    T operator--(int) &&
    {
        const T old = at.get();
        at.put((T)(old - 1));
        return old;
    }
};
/* ---- device memory ---- */

template <class T> struct gp {
    typedef std::remove_const_t<T> value;
    T *p = nullptr;
    const room *home = &nowhere;

    gp() = default;
    gp(std::nullptr_t) {}
    template <class U, class = std::enable_if_t<std::is_convertible_v<U *, T *>>> gp(U *q) : p(q), home(find_room(q)) {}
    template <class U, class = std::enable_if_t<std::is_convertible_v<U *, T *>>> gp(const gp<U> &o) : p(o.p), home(o.home) {}
    gp(T *q, const room *h) : p(q), home(h) {}

    void touch(access how, bool warp = false) const
    {
        const uint64_t offset = (uint64_t)((uintptr_t)p - (uintptr_t)home->base);
        if (__builtin_expect(offset >= home->bytes || home->bytes - offset < sizeof(T), 0))
            fail_bounds(home, p, sizeof(T));
        if (__builtin_expect(now.check, 0))
            note_device(home, p, sizeof(T), how, warp);
    }
    value get(bool warp = false) const
    {
        touch(READ, warp);
        return *p;
    }
    value put(value v, bool warp = false) const
    {
        touch(WRITE, warp);
        return *p = v;
    }
    auto operator[](int64_t i) const
    {
        if constexpr (std::is_const_v<T>)
            return (*this + i).get();
        else
            return cell<T, gp>(*this + i);
    }
    auto operator*() const { return (*this)[0]; }
    const value *operator->() const /* a read of the whole struct */
    {
        touch(READ);
        return p;
    }
    gp operator+(int64_t i) const { return gp((T *)((uintptr_t)p + (uintptr_t)i * sizeof(T)), home); }
    gp operator-(int64_t i) const { return *this + -i; }
    int64_t operator-(const gp &o) const { return p - o.p; }
    gp &operator+=(int64_t i) { return *this = *this + i; }
    gp &operator-=(int64_t i) { return *this = *this + -i; }
    gp &operator++() { return *this += 1; }
    gp operator++(int)
    {
        const gp old = *this;
        *this += 1;
        return old;
    }
    explicit operator bool() const { return p != nullptr; }
    explicit operator uintptr_t() const { return (uintptr_t)p; }
    bool operator==(const gp &o) const { return p == o.p; }
    bool operator!=(const gp &o) const { return p != o.p; }
    bool operator<(const gp &o) const { return p < o.p; }
    bool operator<=(const gp &o) const { return p <= o.p; }
    bool operator>(const gp &o) const { return p > o.p; }
    bool operator>=(const gp &o) const { return p >= o.p; }
};

/* ---- shared memory ---- */

template <class T> struct shared : array {
    T *cells;
    shade *shades;
    constexpr shared(const char *called, int64_t n, T *c, shade *s) : array{called, n, sizeof(T)}, cells(c), shades(s) {}
};

template <class T> struct sp {
    typedef std::remove_const_t<T> value;
    shared<value> *home = nullptr;
    int64_t at = 0;

    sp() = default;
    sp(std::nullptr_t) {}
    sp(shared<value> *h, int64_t i) : home(h), at(i) {}
    template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>> sp(const sp<U> &o) : home(o.home), at(o.at) {}

    void inside() const
    {
        if (__builtin_expect((uint64_t)at >= (uint64_t)home->count, 0))
            fail_bounds(home, at);
    }
    value get() const
    {
        inside();
        shade *s = home->shades + at;
        const uint64_t me = (uint64_t)now.thread, wrote = s->wrote, read = s->read;
        if (wrote >= now.begun && !is_news(wrote, me) && !is_news(read, me))
            s->read = now.stamp | me;
        else if (wrote < now.begun || is_news(wrote, me) || !is_covered(read, me))
            shared_read_slow(s, home, at, me);
        return home->cells[at];
    }
    value put(value v) const
    {
        inside();
        shade *s = home->shades + at;
        const uint64_t me = (uint64_t)now.thread, wrote = s->wrote, read = s->read;
        if (__builtin_expect(is_news(wrote, me) || is_news(read, me), 0))
            shared_write_slow(s, home, at, me);
        s->wrote = now.stamp | me;
        return home->cells[at] = v;
    }
    /* For a whole warp at once: which lane meets the cell is not known, so any lane's access before must lie before a barrier. */
    value get_warp() const
    {
        inside();
        shared_read_slow(home->shades + at, home, at, WHOLE_WARP + (uint64_t)now.thread / LANES);
        return home->cells[at];
    }
    void put_warp(value v) const
    {
        const uint64_t me = WHOLE_WARP + (uint64_t)now.thread / LANES;
        inside();
        shared_write_slow(home->shades + at, home, at, me);
        home->shades[at].wrote = now.stamp | me;
        home->cells[at] = v;
    }
    auto operator[](int64_t i) const
    {
        if constexpr (std::is_const_v<T>)
            return (*this + i).get();
        else
            return cell<T, sp>(*this + i);
    }
    auto operator*() const { return (*this)[0]; }
    sp operator+(int64_t i) const { return {home, at + i}; }
    sp operator-(int64_t i) const { return {home, at - i}; }
    int64_t operator-(const sp &o) const { return at - o.at; }
    sp &operator+=(int64_t i) { return *this = *this + i; }
    sp &operator++() { return *this += 1; }
    explicit operator bool() const { return home != nullptr; }
    bool operator==(const sp &o) const { return home == o.home && at == o.at; }
    bool operator!=(const sp &o) const { return !(*this == o); }
};
#define SHARED(T, name, count)                                                               \
    alignas(32) static T name##_cells[count];                                                \
    static emu::shade name##_shades[count];                                                  \
    static_assert(sizeof name##_cells <= 48 << 10, "more shared memory than a block has");   \
    static emu::shared<T> name##_home(#name, count, name##_cells, name##_shades);            \
    const emu::sp<T> name(&name##_home, 0)

/* ---- waiting for others ---- */

enum meeting { SYNC_BLOCK, SYNC_WARP, SHUFFLE, VOTE, TILE_LOAD, TILE_STORE, TILE_PRODUCT };
struct place {
    const char *file;
    int line;
};
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* All lanes of the warp meet; the last one to arrive calls `act` before any goes on. */
void meet(meeting kind, place at, void (*act)() = nullptr);
void meet_block(place at);
/* Two sets of slots in turns: a lane may post for the next meeting while others still read this one's. */
uint64_t *meeting_slots();
const void **meeting_posts();

inline void sync_block(EMU_HERE) { meet_block({file, line}); }
void sync_warp_at(place at);
inline void sync_warp(EMU_HERE) { sync_warp_at({file, line}); }

template <class T> inline T exchange(T v, int from, meeting kind, place at)
{
    static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>, "a shuffled value has at most eight bytes");
    uint64_t *slots = meeting_slots(), word = 0;
    memcpy(&word, &v, sizeof v);
    slots[now.thread % LANES] = word;
    meet(kind, at);
    memcpy(&v, &slots[from], sizeof v);
    return v;
}
template <class T> inline T shuffle_xor(T v, int d, EMU_HERE)
{
    return exchange(v, (now.thread ^ d) % LANES, SHUFFLE, {file, line});
}
template <class T> inline T shuffle_down(T v, int d, EMU_HERE)
{
    const int lane = now.thread % LANES;
    return exchange(v, lane + d < LANES ? lane + d : lane, SHUFFLE, {file, line});
}
template <class T> inline T shuffle(T v, int lane, EMU_HERE) { return exchange(v, lane & (LANES - 1), SHUFFLE, {file, line}); }
uint32_t ballot(bool p, place at);
inline bool vote_any(bool p, EMU_HERE) { return ballot(p, {file, line}) != 0; }
inline bool vote_all(bool p, EMU_HERE) { return ballot(p, {file, line}) == 0xffffffffu; }
inline uint32_t vote_ballot(bool p, EMU_HERE) { return ballot(p, {file, line}); }

/* ---- atomics ---- */

template <class T> inline T atomic_add(gp<T> p, std::common_type_t<T> v)
{
    static_assert(std::is_integral_v<T>, "sums of floats must keep their order");
    p.touch(UPDATE);
    const T old = *p.p;
    *p.p = (T)((std::make_unsigned_t<T>)old + (std::make_unsigned_t<T>)v);
    return old;
}
template <class T> inline T atomic_max(gp<T> p, std::common_type_t<T> v)
{
    p.touch(UPDATE);
    const T old = *p.p;
    *p.p = v > old ? v : old;
    return old;
}
template <class T> inline T *atomic_place(sp<T> p)
{
    p.inside();
    shared_update(p.home->shades + p.at, p.home, p.at);
    return p.home->cells + p.at;
}
template <class T> inline T atomic_add(sp<T> p, std::common_type_t<T> v)
{
    static_assert(std::is_integral_v<T>, "sums of floats must keep their order");
    T *c = atomic_place(p);
    const T old = *c;
    *c = (T)((std::make_unsigned_t<T>)old + (std::make_unsigned_t<T>)v);
    return old;
}
template <class T> inline T atomic_max(sp<T> p, std::common_type_t<T> v)
{
    T *c = atomic_place(p);
    const T old = *c;
    *c = v > old ? v : old;
    return old;
}
void fence(); /* what was written is there for blocks that learn of it by an atomic */

/* ---- launches ---- */

struct dims {
    int64_t x, y, z;
};
struct launch { /* a kernel with its arguments: how they are called, kept for later, dropped */
    const char *kernel;
    void (*call)(const void *args);
    void *(*keep)(const void *args);
    void (*drop)(void *args);
    const void *args;
    dims blocks;
    int threads, phases; /* all blocks run once a phase */
    struct cost cost;
    uint64_t scratch; /* bytes of the scratch block that the op asked for */
};
void submit(launch l);

template <class... P> struct pack {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> args;
    static void call(const void *self) { std::apply(((const pack *)self)->kernel, ((const pack *)self)->args); }
    static void *keep(const void *self) { return new pack(*(const pack *)self); }
    static void drop(void *self) { delete (pack *)self; }
};
template <class... P, class... A>
inline void start(const char *name, void (*kernel)(P...), dims blocks, int64_t threads, struct cost cost, A &&...args)
{
    const pack<P...> x = {kernel, std::tuple<std::decay_t<P>...>(std::forward<A>(args)...)};
    submit({name, pack<P...>::call, pack<P...>::keep, pack<P...>::drop, &x, blocks, (int)threads, 1, cost, 0});
}
template <class P, class A> void phases_kernel(A a) { P::run(a, now.phase); }
template <class P, class A> inline void start_phases(const char *name, int phases, dims blocks, int64_t threads, struct cost cost, const A &a)
{
    const pack<A> x = {phases_kernel<P, A>, std::tuple<A>(a)};
    submit({name, pack<A>::call, pack<A>::keep, pack<A>::drop, &x, blocks, (int)threads, phases, cost, 0});
}

} /* namespace emu */

using emu::atomic_add;
using emu::atomic_max;
using emu::gp;
using emu::shuffle;
using emu::shuffle_down;
using emu::shuffle_xor;
using emu::sp;
using emu::sync_block;
using emu::sync_warp;
using emu::vote_all;
using emu::vote_any;
using emu::vote_ballot;

static inline int thread_x() { return emu::now.thread; }
static inline int threads() { return emu::now.threads; }
static inline int block_x() { return (int)emu::now.block[0]; }
static inline int block_y() { return (int)emu::now.block[1]; }
static inline int block_z() { return (int)emu::now.block[2]; }
static inline int blocks_x() { return (int)emu::now.grid[0]; }
static inline float to_float(float x) { return x; }
static inline float to_float(emu::bf16 x) { return emu::widen(x); }
template <class T> inline T to_(float x);
template <> inline float to_<float>(float x) { return x; }
template <> inline emu::bf16 to_<emu::bf16>(float x) { return emu::narrow(x); }
static inline float rsqrtf_(float x) { return 1.0f / sqrtf(x); }

namespace emu {
template <class P> inline void must_align(P p, size_t unit)
{
    if ((uintptr_t)p % unit != 0)
        fail("address %p is no multiple of %zu bytes", (const void *)p, unit);
}
template <class P> inline four take4(P p)
{
    return {to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])};
}
template <class T, class P> inline void give4(P p, four v)
{
    p[0] = to_<T>(v.x);
    p[1] = to_<T>(v.y);
    p[2] = to_<T>(v.z);
    p[3] = to_<T>(v.w);
}
template <class T> inline four load4_at(gp<const T> p)
{
    must_align(p.p, 4 * sizeof(T));
    return take4(p);
}
template <class T> inline void store4_at(gp<T> p, four v)
{
    must_align(p.p, 4 * sizeof(T));
    give4<T>(p, v);
}
}
static inline four load4(gp<const float> p, int64_t i) { return emu::load4_at(p + i); }
static inline four load4(gp<const emu::bf16> p, int64_t i) { return emu::load4_at(p + i); }
static inline void store4(gp<float> p, int64_t i, four v) { emu::store4_at(p + i, v); }
static inline void store4(gp<emu::bf16> p, int64_t i, four v) { emu::store4_at(p + i, v); }
namespace emu {
template <class T> inline octet load8_at(gp<const T> p)
{
    must_align(p.p, 16);
    const four a = take4(p), b = take4(p + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
template <class T> inline void store8_at(gp<T> p, const octet &x)
{
    must_align(p.p, 16);
    give4<T>(p, {x.v[0], x.v[1], x.v[2], x.v[3]});
    give4<T>(p + 4, {x.v[4], x.v[5], x.v[6], x.v[7]});
}
}
static inline octet load8(gp<const float> p, int64_t i) { return emu::load8_at(p + i); }
static inline octet load8(gp<const emu::bf16> p, int64_t i) { return emu::load8_at(p + i); }
static inline void store8(gp<float> p, int64_t i, const octet &x) { emu::store8_at(p + i, x); }
static inline void store8(gp<emu::bf16> p, int64_t i, const octet &x) { emu::store8_at(p + i, x); }
template <class T> inline four load4(sp<T> p, int64_t i)
{
    emu::must_align(p.home->cells + p.at + i, 4 * sizeof(T));
    return emu::take4(p + i);
}
template <class T> inline void store4(sp<T> p, int64_t i, four v)
{
    emu::must_align(p.home->cells + p.at + i, 4 * sizeof(T));
    emu::give4<T>(p + i, v);
}
static inline emu::dims dim_of(int64_t x, int64_t y = 1, int64_t z = 1) { return {x, y, z}; }
#define LAUNCH_NAME(...) __VA_ARGS__
#define LAUNCH(kernel, blocks, threads_, cost_, ...) emu::start(#kernel, LAUNCH_NAME kernel, blocks, threads_, cost_, ##__VA_ARGS__)

#define LAUNCH_PHASES(P, phases, blocks, threads_, cost_, a) emu::start_phases<P>(#P, phases, blocks, threads_, cost_, a)

#include "emu_wmma.h"

#endif
