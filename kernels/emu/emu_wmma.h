/* emu_wmma.h: tensor-core tiles of 16 x 16 x 16 in emulation, with the names of <mma.h>.
 *
 * A fragment spreads a tile over the lanes of a warp, eight elements each. Which lane has which element is the device's secret, so here it
 * is an order that no device has, another one for operands than for sums: a kernel that relies on an order fails its tests. Loads, products
 * and stores are meetings of the whole warp; in shared memory they count as touched by the warp as a whole, so that a barrier must lie
 * between them and any lane's own access. Sums are f32, in the order of k. */
#ifndef SEMINDEX_EMU_WMMA_H
#define SEMINDEX_EMU_WMMA_H

namespace emu {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "tiles are 16 x 16 x 16");
    static constexpr bool sums = std::is_same_v<Use, accumulator>;
    static_assert(std::is_same_v<T, std::conditional_t<sums, float, bf16>>, "operands are bf16, sums are f32");
    enum { num_elements = 8 };
    T x[8];
};

/* row * 16 + column of element e in this lane. */
inline int operand_index(int lane, int e) { return e * LANES + (lane * 5 + e) % LANES; }
inline int sum_index(int lane, int e) { return lane * 8 + (e ^ (lane & 7)); }
template <class F> inline int tile_index(int e)
{
    const int lane = now.thread % LANES;
    return F::sums ? sum_index(lane, e) : operand_index(lane, e);
}

struct tiles { /* one lane's part in a product */
    const bf16 *a, *b;
    const float *c;
    float *d;
};
void multiply();

template <class U, class T, class L> inline void fill_fragment(fragment<U, 16, 16, 16, T, L> &f, std::common_type_t<T> v)
{
    for (int e = 0; e < 8; e++)
        f.x[e] = v;
}

template <class T> inline std::remove_const_t<T> tile_get(gp<T> p, int64_t i) { return (p + i).get(true); }
template <class T> inline std::remove_const_t<T> tile_get(sp<T> p, int64_t i) { return (p + i).get_warp(); }
template <class T> inline void tile_put(gp<T> p, int64_t i, T v) { (p + i).put(v, true); }
template <class T> inline void tile_put(sp<T> p, int64_t i, T v) { (p + i).put_warp(v); }
template <class T> inline uintptr_t tile_address(gp<T> p) { return (uintptr_t)p.p; }
template <class T> inline uintptr_t tile_address(sp<T> p) { return (uintptr_t)(p.home->cells + p.at); }

template <class T, class P> inline void tile_check(P p, unsigned pitch)
{
    if (tile_address(p) % 32 != 0)
        fail("a tile's address must be a multiple of 32 bytes; it is %zu beyond one", (size_t)(tile_address(p) % 32));
    if (pitch * sizeof(T) % 16 != 0)
        fail("a tile's rows must be a multiple of 16 bytes apart; they are %zu", pitch * sizeof(T));
}
template <class F, class T, class P> inline void tile_load(F &f, P p, unsigned pitch, bool rows, place at)
{
    tile_check<T>(p, pitch);
    meet(TILE_LOAD, at);
    for (int e = 0; e < 8; e++) {
        const int i = tile_index<F>(e), r = rows ? i / 16 : i % 16, c = rows ? i % 16 : i / 16;
        f.x[e] = tile_get(p, (int64_t)r * pitch + c);
    }
}
template <class U, class L, class P> inline void load_matrix_sync(fragment<U, 16, 16, 16, bf16, L> &f, P p, unsigned pitch, EMU_HERE)
{
    tile_load<fragment<U, 16, 16, 16, bf16, L>, bf16>(f, p, pitch, std::is_same_v<L, row_major>, {file, line});
}
template <class P> inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, float> &f, P p, unsigned pitch, layout_t layout, EMU_HERE)
{
    tile_load<fragment<accumulator, 16, 16, 16, float>, float>(f, p, pitch, layout == mem_row_major, {file, line});
}
template <class P>
inline void store_matrix_sync(P p, const fragment<accumulator, 16, 16, 16, float> &f, unsigned pitch, layout_t layout, EMU_HERE)
{
    tile_check<float>(p, pitch);
    meet(TILE_STORE, {file, line});
    for (int e = 0; e < 8; e++) {
        const int i = tile_index<fragment<accumulator, 16, 16, 16, float>>(e);
        const int r = layout == mem_row_major ? i / 16 : i % 16, c = layout == mem_row_major ? i % 16 : i / 16;
        tile_put(p, (int64_t)r * pitch + c, f.x[e]);
    }
}
template <class LA, class LB>
inline void mma_sync(fragment<accumulator, 16, 16, 16, float> &d, const fragment<matrix_a, 16, 16, 16, bf16, LA> &a,
                     const fragment<matrix_b, 16, 16, 16, bf16, LB> &b, const fragment<accumulator, 16, 16, 16, float> &c, EMU_HERE)
{
    const tiles mine = {a.x, b.x, c.x, d.x};
    meeting_posts()[now.thread % LANES] = &mine;
    meet(TILE_PRODUCT, {file, line}, multiply);
}

} /* namespace wmma */
} /* namespace emu */
namespace wmma = emu::wmma;

#endif
