/* stack.cu: a cached decode step through a whole stack of layers in one launch, for up to 64 rows.
 *
 * A layer is eight phases that need each other whole: product, attention, product, product, attention, product, product, product. Between two
 * of them all blocks of the grid meet (LAUNCH_PHASES); that is dearer than a barrier and far cheaper than a launch, and with few rows a layer is
 * little more than its weights streaming by once. What lies in registers and shared memory does not outlive a phase.
 *
 * Product: a block has 16 outputs at a time for all rows; its eight warps divide the depth, each with its weights on their way before it looks at
 * the rows, and their sums meet in shared memory in a fixed order. The norm of a sublayer's input needs no pass of its own: the gains are
 * multiplied in when a row is staged, the mean square is summed there, too, and 1 / rms, the same for all outputs of a row, is multiplied to the
 * finished sum. Every element of the stream is added to by the one thread that owns it. In F32 mode, which is for exact comparison, a thread
 * sums one element by itself.
 *
 * A warp attends a request's keys by itself, so each beam reads them once more (from the cache); behind 256 keys attention.cu, which reads them
 * once for all beams of a request, is reckoned to be worth its launches, and such steps are left to the ops one by one. */
#include "decode.h"
#include "reduce.h"

enum { STACK_THREADS = 256, STACK_WARPS = STACK_THREADS / WARP, STACK_ROWS = 64, STACK_LAYERS = 24, STACK_KEYS = 256, TILE = 16, ROW_TILES = STACK_ROWS / TILE };
enum { SELF_IN, SELF, SELF_OUT, CROSS_IN, CROSS, CROSS_OUT, FF_IN, FF_OUT, PHASES };
enum { STEPS = 6, DEEP = STEPS * 16, LEFT_PITCH = DEEP + 8, PATCH_PITCH = TILE + 4, WEIGHT_ALIGN = 32 };

namespace {
struct stack_layer {
    gp<const real> qkv, out, cross_q, cross_out, wi, wo;
    gp<const float> self_norm, cross_norm, ff_norm;
};
struct stack {
    int32_t layers, n, d, f, inner, requests;
    bool gated, last; /* last: the final norm follows */
    float eps;
    decode self, cross; /* of the first layer */
    int64_t cache_step, cross_step;
    gp<const int32_t> q_offsets, k_offsets;
    gp<real> x, qkv, att, q, hidden, y;
    gp<const float> final;
    stack_layer layer[STACK_LAYERS];
};
struct product { /* y[n, outputs] = left[n, depth] . w[outputs, depth]^T */
    gp<const real> left, w;
    gp<const float> gain; /* left is the stream, to be normed; or NULL */
    gp<real> y;
    int32_t depth, outputs;
    bool gated, relu, add; /* gated: left is [n, 2 * depth], its halves to be joined */
};
}

DEVICE product product_of(const stack &s, const stack_layer &l, int phase)
{
    const int32_t wide = s.gated ? 2 * s.f : s.f;
    switch (phase) {
    case SELF_IN:
        return {s.x, l.qkv, l.self_norm, s.qkv, s.d, 3 * s.inner, false, false, false};
    case SELF_OUT:
        return {s.att, l.out, gp<const float>(), s.x, s.inner, s.d, false, false, true};
    case CROSS_IN:
        return {s.x, l.cross_q, l.cross_norm, s.q, s.d, s.inner, false, false, false};
    case CROSS_OUT:
        return {s.att, l.cross_out, gp<const float>(), s.x, s.inner, s.d, false, false, true};
    case FF_IN:
        return {s.x, l.wi, l.ff_norm, s.hidden, s.d, wide, false, !s.gated, false};
    default:
        return {s.hidden, l.wo, gp<const float>(), s.x, s.f, s.d, s.gated, false, true};
    }
}

/* Eight neighbours of a row of the left side, before gains. */
DEVICE octet left_eight(const product &p, int32_t row, int32_t k)
{
    if (!p.gated)
        return load8(p.left, (int64_t)row * p.depth + k);
    octet a = load8(p.left, (int64_t)row * 2 * p.depth + k);
    const octet b = load8(p.left, (int64_t)row * 2 * p.depth + p.depth + k);
    UNROLL
    for (int i = 0; i < 8; i++)
        a.v[i] = a.v[i] * gelu_gate(a.v[i]) * b.v[i];
    return a;
}

/* Multiplies the gains in; returns the sum of squares of what was there. */
DEVICE float take_gains(const product &p, octet &x, int32_t k)
{
    float squares = 0.0f;
    if (!p.gain)
        return squares;
    const octet gain = load8(p.gain, k);
    UNROLL
    for (int i = 0; i < 8; i++) {
        squares = fmaf(x.v[i], x.v[i], squares);
        x.v[i] *= gain.v[i];
    }
    return squares;
}

DEVICE void put_output(const stack &s, const product &p, int32_t row, int32_t column, float sum, float squares)
{
    const int64_t at = (int64_t)row * p.outputs + column;
    float y = p.gain ? sum * rsqrtf_(squares / (float)p.depth + s.eps) : sum;
    if (p.relu)
        y = fmaxf(y, 0.0f);
    p.y[at] = to_real(p.add ? to_float(p.y[at]) + y : y);
}

#ifdef SEMINDEX_CUDA_F32

DEVICE void product_tile(const stack &s, const product &p, int32_t tile)
{
    const int32_t column = tile * TILE + thread_x() % TILE;
    for (int32_t row = thread_x() / TILE; row < s.n; row += STACK_THREADS / TILE) {
        float sum = 0.0f, squares = 0.0f;
        for (int32_t k = 0; k < p.depth; k += 8) {
            octet x = left_eight(p, row, k);
            const octet w = load8(p.w, (int64_t)column * p.depth + k);
            squares += take_gains(p, x, k);
            for (int i = 0; i < 8; i++)
                sum = fmaf(x.v[i], w.v[i], sum);
        }
        put_output(s, p, row, column, sum, squares);
    }
}

#else

typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> left_tile;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> right_tile; /* w lies transposed */
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_tile;

/* Sixteen rows of the left side, columns k .. k + columns, into the warp's own patch: two lanes a row. Returns the lane's sum of squares. */
DEVICE float stage_rows(const stack &s, const product &p, sp<bf16> to, int32_t first, int32_t k, int32_t columns)
{
    const int32_t line = thread_x() % WARP / 2, row = first + line;
    float squares = 0.0f;
    UNROLL
    for (int i = 0; i < DEEP / 16; i++) {
        const int32_t c = thread_x() % 2 * (DEEP / 2) + 8 * i;
        octet x = {{0, 0, 0, 0, 0, 0, 0, 0}};
        if (row < s.n && c < columns) {
            x = left_eight(p, row, k + c);
            squares += take_gains(p, x, k + c);
        }
        store4(to, line * LEFT_PITCH + c, {x.v[0], x.v[1], x.v[2], x.v[3]});
        store4(to, line * LEFT_PITCH + c + 4, {x.v[4], x.v[5], x.v[6], x.v[7]});
    }
    return squares;
}

namespace {
struct partial { /* a warp's part of the depth */
    sum_tile sum[ROW_TILES];
    float squares[ROW_TILES]; /* of the lane's rows */
};
}

/* One group of steps, sixteen deep each, from `k` on. */
DEVICE void add_group(const stack &s, const product &p, int32_t tile, int32_t k, int32_t steps, sp<bf16> left, partial &y)
{
    right_tile w[STEPS];
    UNROLL
    for (int i = 0; i < STEPS; i++)
        if (i < steps)
            wmma::load_matrix_sync(w[i], p.w + ((int64_t)tile * TILE * p.depth + k + 16 * i), (unsigned)p.depth);
    UNROLL
    for (int r = 0; r < ROW_TILES; r++) {
        if (r * TILE >= s.n)
            continue;
        y.squares[r] += stage_rows(s, p, left, r * TILE, k, 16 * steps);
        sync_warp();
        UNROLL
        for (int i = 0; i < STEPS; i++)
            if (i < steps) {
                left_tile x;
                wmma::load_matrix_sync(x, left + 16 * i, LEFT_PITCH);
                wmma::mma_sync(y.sum[r], x, w[i], y.sum[r]);
            }
        sync_warp();
    }
}

/* Sixteen rows of the tile from the warps' sums: a thread has one element. */
DEVICE void finish_rows(const stack &s, const product &p, int32_t tile, int32_t first, sp<float> patch, sp<float> squares)
{
    const int32_t line = thread_x() / TILE, column = thread_x() % TILE;
    float sum = 0.0f, all = 0.0f;
    UNROLL
    for (int w = 0; w < STACK_WARPS; w++) {
        sum += patch[(w * TILE + line) * PATCH_PITCH + column];
        all += squares[w * TILE + line];
    }
    if (first + line < s.n)
        put_output(s, p, first + line, tile * TILE + column, sum, all);
}

DEVICE void product_tile(const stack &s, const product &p, int32_t tile)
{
    SHARED(bf16, left, STACK_WARPS * TILE * LEFT_PITCH);
    SHARED(float, patch, STACK_WARPS * TILE * PATCH_PITCH);
    SHARED(float, squares, STACK_WARPS * TILE);
    const int warp = thread_x() / WARP;
    const int32_t all = p.depth / 16, each = (all + STACK_WARPS - 1) / STACK_WARPS, end = (warp + 1) * each < all ? (warp + 1) * each : all;
    partial y;
    UNROLL
    for (int r = 0; r < ROW_TILES; r++) {
        wmma::fill_fragment(y.sum[r], 0.0f);
        y.squares[r] = 0.0f;
    }
    for (int32_t step = warp * each; step < end; step += STEPS)
        add_group(s, p, tile, 16 * step, end - step < STEPS ? end - step : STEPS, left + warp * TILE * LEFT_PITCH, y);
    UNROLL
    for (int r = 0; r < ROW_TILES; r++) {
        if (r * TILE >= s.n)
            continue;
        const float both = y.squares[r] + shuffle_xor(y.squares[r], 1);
        wmma::store_matrix_sync(patch + warp * TILE * PATCH_PITCH, y.sum[r], PATCH_PITCH, wmma::mem_row_major);
        if (thread_x() % 2 == 0)
            squares[warp * TILE + thread_x() % WARP / 2] = both;
        sync_block();
        finish_rows(s, p, tile, r * TILE, patch, squares);
        sync_block();
    }
}

#endif

DEVICE void attend_pairs(const stack &s, const decode &d, bool self)
{
    for (int32_t pair = block_x() * STACK_WARPS + thread_x() / WARP; pair < s.n * d.heads; pair += blocks_x() * STACK_WARPS) {
        decode_row r = {pair / d.heads, pair % d.heads, d.position + 1, -1};
        if (!self) {
            const int32_t request = slice_of(s.q_offsets, s.requests, r.row);
            r.first = s.k_offsets[request];
            r.keys = s.k_offsets[request + 1] - r.first;
        }
        attend_row(d, r);
        if (self)
            keep_new(d, r);
    }
}

DEVICE void attend_phase(const stack &s, int32_t layer, bool self)
{
    decode d = self ? s.self : s.cross;
    if (self) {
        d.k_cache += layer * s.cache_step;
        d.v_cache += layer * s.cache_step;
    } else {
        d.k += layer * s.cross_step;
        d.v += layer * s.cross_step;
    }
    attend_pairs(s, d, self);
}

DEVICE void norm_rows(const stack &s)
{
    const int lane = thread_x() % WARP;
    for (int32_t row = block_x() * STACK_WARPS + thread_x() / WARP; row < s.n; row += blocks_x() * STACK_WARPS) {
        const int64_t at = (int64_t)row * s.d;
        float squares = 0.0f;
        for (int32_t c = lane; c < s.d; c += WARP)
            squares += to_float(s.x[at + c]) * to_float(s.x[at + c]);
        const float scale = rsqrtf_(warp_sum(squares) / (float)s.d + s.eps);
        for (int32_t c = lane; c < s.d; c += WARP)
            s.y[at + c] = to_real(to_float(s.x[at + c]) * scale * s.final[c]);
    }
}

namespace {
struct stack_phases {
    DEVICE void run(const stack &s, int phase)
    {
        const int32_t layer = phase / PHASES;
        if (layer == s.layers) {
            norm_rows(s);
        } else if (phase % PHASES == SELF || phase % PHASES == CROSS) {
            attend_phase(s, layer, phase % PHASES == SELF);
        } else {
            const product p = product_of(s, s.layer[layer], phase % PHASES);
            for (int32_t tile = block_x(); tile < p.outputs / TILE; tile += blocks_x())
                product_tile(s, p, tile);
        }
    }
};
}

/* ---- host ---- */

static bool fits(const struct decode_stack *a, int32_t inner)
{
    const void *all[] = {a->x, a->self.q, a->cross.q, a->self.out, a->hidden};
    bool fine = a->self.n <= STACK_ROWS && a->cross.k_rows.longest <= STACK_KEYS && a->d % TILE == 0 && inner % TILE == 0 && a->f % TILE == 0;
    for (const void *p : all)
        fine = fine && (uintptr_t)p % WEIGHT_ALIGN == 0;
    for (int32_t i = 0; i < a->layers; i++) {
        const struct decode_layer *l = &a->layer[i];
        const void *each[] = {weight_data(l->qkv), weight_data(l->out), weight_data(l->cross_q), weight_data(l->cross_out), weight_data(l->wi),
                              weight_data(l->wo), l->self_norm, l->cross_norm, l->ff_norm};
        for (const void *p : each)
            fine = fine && (uintptr_t)p % WEIGHT_ALIGN == 0;
    }
    return fine;
}

static stack_layer layer_of(const struct decode_layer *l)
{
    return {weight_data(l->qkv), weight_data(l->out), weight_data(l->cross_q), weight_data(l->cross_out), weight_data(l->wi), weight_data(l->wo),
            l->self_norm, l->cross_norm, l->ff_norm};
}

static decode cross_of(const struct attention *a)
{
    decode d = {};
    d.heads = a->heads, d.width = a->width, d.q_stride = a->q_stride, d.kv_stride = a->k_stride;
    d.wide = a->width % 8 == 0 && a->k_stride % 8 == 0 && (uintptr_t)a->k % 16 == 0 && (uintptr_t)a->v % 16 == 0;
    d.q = act_data(a->q), d.k = act_data(a->k), d.v = act_data(a->v), d.out = act_data(a->out);
    return d;
}

static stack stack_of(const struct decode_stack *a, int32_t from, int32_t layers)
{
    stack s = {};
    s.layers = layers, s.n = a->self.n, s.d = a->d, s.f = a->f, s.inner = a->self.heads * a->self.width, s.requests = a->cross.q_rows.count;
    s.gated = a->gated, s.last = from + layers == a->layers, s.eps = a->eps;
    s.self = decode_of(&a->self), s.cross = cross_of(&a->cross);
    s.cache_step = a->cache_step, s.cross_step = a->cross_step;
    s.self.k_cache += from * a->cache_step, s.self.v_cache += from * a->cache_step;
    s.cross.k += from * a->cross_step, s.cross.v += from * a->cross_step;
    s.q_offsets = a->cross.q_rows.offsets, s.k_offsets = a->cross.k_rows.offsets;
    s.x = act_data(a->x), s.qkv = act_data(a->self.q), s.att = act_data(a->self.out), s.q = act_data(a->cross.q);
    s.hidden = act_data(a->hidden), s.y = act_data(a->y), s.final = a->final;
    for (int32_t i = 0; i < layers; i++)
        s.layer[i] = layer_of(&a->layer[from + i]);
    return s;
}

/* What the layers leave to each other is the same memory in each: it counts once. */
static struct cost stack_cost(const struct decode_stack *a, int32_t layers, bool last)
{
    const double n = a->self.n, d = a->d, inner = (double)a->self.heads * a->self.width, wide = a->gated ? 2.0 * a->f : a->f;
    const double weights = layers * (6 * d * inner + wide * d + (double)a->f * d), keys = (double)a->cross.k_rows.total;
    const double flow = n * (2 * d + 6 * inner + 2 * inner + 2 * inner + 2 * wide) + (last ? n * d : 0);
    const double caches = layers * inner * (2 * n + 2 * decode_past(&a->self) + 2 * keys);
    const double plain = 4.0 * (3.0 * layers * d + (last ? d : 0) + 2.0 * (a->cross.q_rows.count + 1)) + decode_tables(&a->self);
    const double pairs = n * (a->self.position + 1.0) + n * a->cross.k_rows.longest;
    return {sizeof(real) * (weights + flow + caches) + plain, 2 * n * weights + 4 * layers * inner * pairs};
}

bool cuda_decode_stack(const struct decode_stack *a)
{
    if (!fits(a, a->self.heads * a->self.width))
        return false;
    for (int32_t from = 0; from < a->layers && a->self.n > 0; from += STACK_LAYERS) {
        const int32_t layers = a->layers - from < STACK_LAYERS ? a->layers - from : STACK_LAYERS;
        const stack s = stack_of(a, from, layers);
        LAUNCH_PHASES(stack_phases, layers * PHASES + s.last, dim_of(platform_processors()), STACK_THREADS, stack_cost(a, layers, s.last), s);
    }
    return true;
}
