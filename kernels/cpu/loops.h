/* loops.h: the inner loops behind simd.h, written once and compiled once per instruction set.
 *
 * The including file sets LANES (floats per vector), TILE_ROWS (rows of the product's register tile), SIMD_TABLE (name of the table),
 * SIMD_NAME, and the target by pragma BEFORE any include, so that everything here is compiled for it. Contraction to fused multiply-add is
 * on; reassociation is off in this file: sums are split into lanes by hand where that pays, so results never depend on the optimiser. */
#include <math.h>
#include <string.h>

#include "simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(LANES * 4), may_alias));
typedef float vfu __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), may_alias));
typedef double vd __attribute__((vector_size(LANES * 8)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p)
{
    return *(const vfu *)p;
}
INLINE void store(float *p, vf x)
{
    *(vfu *)p = x;
}
INLINE vf load_some(const float *p, int64_t n)
{
    float t[LANES] = {0};
    memcpy(t, p, (size_t)n * sizeof *p);
    return load(t);
}
INLINE void store_some(float *p, vf x, int64_t n)
{
    float t[LANES];
    store(t, x);
    memcpy(p, t, (size_t)n * sizeof *p);
}
INLINE vf splat(float x)
{
    return x - (vf){0};
}
/* The one place where gcc needs to be told the instruction: it makes three of a vector maximum written with masks. */
#if LANES == 16 && defined(__AVX512F__)
INLINE vf larger(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}
INLINE vf smaller(vf a, vf b)
{
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}
#elif LANES == 8 && defined(__AVX2__)
INLINE vf larger(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}
INLINE vf smaller(vf a, vf b)
{
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}
#else
INLINE vf larger(vf a, vf b)
{
    vi mask = a > b;
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
INLINE vf smaller(vf a, vf b)
{
    vi mask = a < b;
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
#endif
INLINE vf zero_below(vf x, float limit, vf y)
{
    return (vf)((vi)y & ~(x < splat(limit)));
}
INLINE float add_lanes(vf x)
{
    float t[LANES];
    store(t, x);
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

/* exp to about 1e-7 relative: x = n ln 2 + r, a polynomial of degree 6 in r, n put into the exponent. Adding 1.5 * 2^23 rounds to a whole
 * number and leaves it in the low bits. Below -87 the result is 0. */
INLINE vf expo(vf x)
{
    vf in = smaller(larger(x, splat(-87.0f)), splat(88.0f));
    vf rounded = in * 1.44269504088896341f + 12582912.0f, whole = rounded - 12582912.0f;
    vf r = in - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    vf y = p * (r * r) + r + 1.0f;
    y = y * (vf)(((vu)rounded << 23) + (127u << 23));
    return zero_below(x, -87.0f, y);
}

/* ---- matrix product ---- */

/* What is left to do to a tile that is added, clipped at 0 or cut at the edge: from a buffer, so that the plain case keeps its registers.
 * */
static __attribute__((noinline)) void finish(const struct product *p, const float *tile, int rows, float *c, int64_t cols)
{
    for (int i = 0; i < rows; i++, c += p->c_row)
        for (int64_t j = 0; j < cols; j += LANES) {
            int64_t left = cols - j;
            vf v = load(tile + i * 2 * LANES + j) * p->alpha;
            if (p->flags & PRODUCT_ADD)
                v += left >= LANES ? load(c + j) : load_some(c + j, left);
            if (p->flags & PRODUCT_RELU)
                v = larger(v, splat(0.0f));
            if (left >= LANES)
                store(c + j, v);
            else
                store_some(c + j, v, left);
        }
}

/* rows x (vectors * LANES) of the result in registers; both counts are constants where this is expanded. Rows of a are reached from three
 * pointers by multiples of one stride, which the addressing modes hold: twelve pointers would not fit the integer registers. */
INLINE void tile(int rows, int vectors, const struct product *p, const float *a, const float *b, float *c, int64_t cols)
{
    vf acc[TILE_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = splat(0.0f);
    int64_t a_row = p->a_row, a_step = p->a_step, b_step = p->b_step;
    const float *at[3] = {a, a + (rows > 4 ? 4 : 0) * a_row, a + (rows > 8 ? 8 : 0) * a_row};
    for (int32_t k = p->k; k > 0; k--) {
        vf b0 = load(b), b1 = vectors > 1 ? load(b + LANES) : b0;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            float x = at[i / 4][i % 4 * a_row];
            acc[i][0] += x * b0;
            if (vectors > 1)
                acc[i][1] += x * b1;
        }
        at[0] += a_step;
        at[1] += a_step;
        at[2] += a_step;
        b += b_step;
    }
    bool plain = p->flags == 0 && cols == vectors * LANES;
    float buffer[TILE_ROWS * 2 * LANES], *out = plain ? c : buffer, alpha = plain ? p->alpha : 1.0f;
    int64_t out_row = plain ? p->c_row : 2 * LANES;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        store(out + i * out_row, acc[i][0] * alpha);
        if (vectors > 1)
            store(out + i * out_row + LANES, acc[i][1] * alpha);
    }
    if (!plain)
        finish(p, buffer, rows, c, cols);
}

#define TILE(R)                                                                                                                            \
    static void tile_##R(int vectors, const struct product *p, const float *a, const float *b, float *c, int64_t cols)                     \
    {                                                                                                                                      \
        if (vectors > 1)                                                                                                                   \
            tile(R, 2, p, a, b, c, cols);                                                                                                  \
        else                                                                                                                               \
            tile(R, 1, p, a, b, c, cols);                                                                                                  \
    }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if TILE_ROWS > 6
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#endif

static void (*const tiles[TILE_ROWS])(int vectors, const struct product *p, const float *a, const float *b, float *c, int64_t cols) = {
    tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
#if TILE_ROWS > 6
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
#endif
};

/* Rows first..first + count of one panel, cut into nearly equal tiles (20 rows are 10 + 10, not 12 + 8). */
static void product_panel(const struct product *p, int64_t first, int64_t count, int64_t column)
{
    int64_t cols = p->n - column < 2 * LANES ? p->n - column : 2 * LANES, blocks = (count + TILE_ROWS - 1) / TILE_ROWS;
    const float *b = p->b + column / (2 * LANES) * p->b_panel;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t row = first + count * block / blocks, end = first + count * (block + 1) / blocks;
        tiles[end - row - 1](cols > LANES ? 2 : 1, p, p->a + row * p->a_row, b, p->c + row * p->c_row + column, cols);
    }
}

/* Rows go in groups whose part of a stays in the second-level cache while all panels of b pass by. */
static void product(const struct product *p)
{
    int64_t group = 65536 / (p->k > 0 ? p->k : 1) / TILE_ROWS * TILE_ROWS;
    if (group < TILE_ROWS)
        group = TILE_ROWS;
    for (int64_t first = 0; first < p->m; first += group)
        for (int64_t column = 0; column < p->n; column += 2 * LANES)
            product_panel(p, first, p->m - first < group ? p->m - first : group, column);
}

#if LANES > 4
/* Exchanges lanes between rows i and i + half: after all halvings, block[i] lane l is what block[l] lane i was. */
INLINE void exchange(vf block[LANES], int half)
{
    vi low, high;
    for (int l = 0; l < LANES; l++) {
        low[l] = l & half ? LANES + l - half : l;
        high[l] = l & half ? LANES + l : l + half;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (!(i & half)) {
            vf a = block[i], b = block[i + half];
            block[i] = __builtin_shuffle(a, b, low);
            block[i + half] = __builtin_shuffle(a, b, high);
        }
}

static void transpose_block(float *y, int32_t width, const float *x, int64_t ld, int32_t rows)
{
    vf block[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        block[i] = i < rows ? load(x + i * ld) : splat(0.0f);
#if LANES > 8
    exchange(block, 8);
#endif
    exchange(block, 4);
    exchange(block, 2);
    exchange(block, 1);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        store(y + (int64_t)i * width, block[i]);
}
#else
static void transpose_block(float *y, int32_t width, const float *x, int64_t ld, int32_t rows)
{
    for (int c = 0; c < LANES; c++)
        for (int r = 0; r < LANES; r++)
            y[(int64_t)c * width + r] = r < rows ? x[r * ld + c] : 0.0f;
}
#endif

static void transpose(float *y, int32_t width, const float *x, int64_t ld, int32_t rows, int32_t cols)
{
    for (int32_t r = 0; r < width; r += LANES) {
        int32_t c = 0;
        for (; c + LANES <= cols; c += LANES)
            transpose_block(y + (int64_t)c * width + r, width, x + r * ld + c, ld, rows - r);
        for (; c < cols; c++)
            for (int32_t l = r; l < r + LANES; l++)
                y[(int64_t)c * width + l] = l < rows ? x[l * ld + c] : 0.0f;
    }
}

/* ---- attention tiles ---- */

static void columns(const struct columns *t)
{
    int32_t keys = t->keys;
    int64_t width = t->width;
    for (int64_t i = 0; i < width; i += LANES) {
        vf top = splat(-INFINITY), sum = splat(0.0f);
        float *s = t->s + i;
        const float *bias = t->bias ? t->bias + i : NULL;
        for (int32_t j = 0; j < keys; j++) {
            vf x = load(s + j * width);
            if (bias) {
                x += load(bias - j);
                store(s + j * width, x);
            }
            top = larger(x, top);
        }
        vf base = larger(top, splat(-3e38f)); /* all masked: exponentials of -inf, sum 0 */
        for (int32_t j = 0; j < keys; j++) {
            vf e = expo(load(s + j * width) - base);
            store(s + j * width, e);
            sum += e;
        }
        store(t->top + i, base);
        store(t->sum + i, sum);
    }
}

/* Log-sum-exp of every column, the exponentials summed in runs of 32 in single precision and the runs in double. */
static void columns_lse(const float *s, int32_t keys, int64_t width, double *lse)
{
    for (int64_t i = 0; i < width; i += LANES) {
        vf top = load(s + i);
        for (int32_t j = 1; j < keys; j++)
            top = larger(load(s + i + j * width), top);
        vd total = {0};
        for (int32_t j = 0; j < keys; j += 32) {
            vf sum = splat(0.0f);
            for (int32_t k = j; k < j + 32 && k < keys; k++)
                sum += expo(load(s + i + k * width) - top);
            total += __builtin_convertvector(sum, vd);
        }
        for (int l = 0; l < LANES; l++)
            lse[i + l] = (double)top[l] + log(total[l]);
    }
}

/* delta = sum of p * dp is taken here and not as out . dout: a query with one key then gets a gradient of exactly 0. */
static void columns_grad(const struct columns_grad *t)
{
    const float *keep = t->keep;
    int32_t keys = t->keys;
    int64_t width = t->width;
    for (int64_t i = 0; i < width; i += LANES) {
        vf lse = load(t->lse + i), delta = splat(0);
        const float *bias = t->bias ? t->bias + i : NULL;
        float *dbias = t->dbias ? t->dbias + i : NULL, *s = t->s + i, *dp_at = t->dp + i;
        for (int32_t j = 0; j < keys; j++) {
            vf x = load(s + j * width), dp = load(dp_at + j * width);
            if (bias)
                x += load(bias - j);
            if (keep)
                dp *= load(keep + i + j * width);
            vf p = expo(x - lse);
            delta += p * dp;
            store(s + j * width, p);
            store(dp_at + j * width, dp);
        }
        for (int32_t j = 0; j < keys; j++) {
            vf p = load(s + j * width), ds = p * (load(dp_at + j * width) - delta);
            store(dp_at + j * width, ds);
            if (keep)
                store(s + j * width, p * load(keep + i + j * width));
            if (dbias)
                store(dbias - j, load(dbias - j) + ds);
        }
    }
}

static void hint_scores(const struct hint_tile *t)
{
    int32_t keys = t->keys, passes = t->passes;
    int64_t width = t->width;
    for (int32_t k = 0; k < keys; k++) {
        const float *bias = t->bias ? t->bias - k : NULL, *mask = k < passes ? NULL : t->mask + (k - passes) * width;
        vf score = splat(t->score[k]);
        for (int64_t i = 0; i < width; i += LANES) {
            vf x = score;
            if (bias)
                x += load(bias + i);
            if (mask)
                x += load(mask + i);
            store(t->s + k * width + i, x);
        }
    }
}

static void row_sums(float *y, const float *x, int32_t rows, int64_t width)
{
    for (int32_t r = 0; r < rows; r++) {
        vf sum = splat(0.0f);
        for (int64_t i = 0; i < width; i += LANES)
            sum += load(x + r * width + i);
        y[r] = add_lanes(sum);
    }
}

static void multiply(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

/* mix_uniform >= rate, decided on the 24 bits themselves: rate * 2^24 is exact. */
static uint64_t threshold(float rate)
{
    return (uint64_t)ceil((double)rate * 16777216.0);
}

static void keep(const struct keep_tile *t)
{
    uint64_t limit = threshold(t->drop.rate), seed = t->drop.seed;
    float scale = 1.0f / (1.0f - t->drop.rate);
    for (int32_t j = 0; j < t->keys; j++) {
        float *y = t->keep + (int64_t)j * t->width;
        uint64_t base = t->index + (uint64_t)j;
        for (int32_t i = 0; i < t->width; i++)
            y[i] = mix64(seed, base + (uint64_t)i * 65536) >> 40 >= limit ? scale : 0.0f;
    }
}

static void hints(const struct keep_tile *t)
{
    uint64_t limit = threshold(t->drop.rate), seed = t->drop.seed;
    for (int32_t j = 0; j < t->keys; j++) {
        float *y = t->keep + (int64_t)j * t->width;
        uint64_t base = t->index + (uint64_t)j;
        for (int32_t i = 0; i < t->width; i++)
            y[i] = mix64(seed, base + (uint64_t)i * 65536) >> 40 < limit ? 0.0f : -INFINITY;
    }
}

/* ---- reductions ---- */

static float dot(const float *a, const float *b, int64_t n)
{
    vf s0 = splat(0.0f), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + LANES) * load(b + i + LANES);
    }
    if (i + LANES <= n) {
        s0 += load(a + i) * load(b + i);
        i += LANES;
    }
    if (i < n)
        s1 += load_some(a + i, n - i) * load_some(b + i, n - i);
    return add_lanes(s0 + s1);
}

static float distance(const float *a, const float *b, int64_t n)
{
    vf sum = splat(0.0f);
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t left = n - i < LANES ? n - i : LANES;
        vf d = left == LANES ? load(a + i) - load(b + i) : load_some(a + i, left) - load_some(b + i, left);
        sum += d * d;
    }
    return add_lanes(sum);
}

static double sum_squares(const float *x, int64_t n)
{
    vd sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vd d = __builtin_convertvector(load(x + i + k * LANES), vd);
            sums[k] += d * d;
        }
    vd sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double total = 0;
    for (int l = 0; l < LANES; l++)
        total += sum[l];
    for (; i < n; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

static float max(const float *x, int64_t n)
{
    if (n < LANES) {
        float top = x[0];
        for (int64_t i = 1; i < n; i++)
            top = x[i] > top ? x[i] : top;
        return top;
    }
    vf top = load(x + n - LANES);
    for (int64_t i = 0; i + LANES <= n; i += LANES)
        top = larger(load(x + i), top);
    float t[LANES], best;
    store(t, top);
    best = t[0];
    for (int l = 1; l < LANES; l++)
        best = t[l] > best ? t[l] : best;
    return best;
}

static float exp_sum(float *x, float top, int64_t n)
{
    vf sum = splat(0.0f);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf e = expo(load(x + i) - top);
        store(x + i, e);
        sum += e;
    }
    float total = add_lanes(sum), rest = 0;
    if (i < n) {
        store_some(x + i, expo(load_some(x + i, n - i) - top), n - i);
        for (; i < n; i++)
            rest += x[i];
    }
    return total + rest;
}

/* ---- elementwise ---- */

static void axpy(float *restrict y, float a, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void scale(float *y, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= a;
}

static void dropout(float *y, const float *x, uint64_t index, int64_t n, struct dropout drop)
{
    if (drop.rate <= 0.0f) {
        if (y != x)
            memmove(y, x, (size_t)n * sizeof *y);
        return;
    }
    uint64_t limit = threshold(drop.rate);
    float factor = 1.0f / (1.0f - drop.rate);
    for (int64_t i = 0; i < n; i++)
        y[i] = mix64(drop.seed, index + (uint64_t)i) >> 40 >= limit ? factor * x[i] : 0.0f;
}

static void dropout_add(float *restrict y, const float *restrict x, uint64_t index, int64_t n, struct dropout drop)
{
    if (drop.rate <= 0.0f) {
        axpy(y, 1.0f, x, n);
        return;
    }
    uint64_t limit = threshold(drop.rate);
    float factor = 1.0f / (1.0f - drop.rate);
    for (int64_t i = 0; i < n; i++)
        y[i] += mix64(drop.seed, index + (uint64_t)i) >> 40 >= limit ? factor * x[i] : 0.0f;
}

static void relu(float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] > 0.0f ? y[i] : 0.0f;
}

static void relu_backward(float *restrict dy, const float *restrict y, int64_t n, float factor)
{
    for (int64_t i = 0; i < n; i++)
        dy[i] = y[i] > 0.0f ? factor * dy[i] : 0.0f;
}

static void norm(const struct norm_rows *t)
{
    for (int64_t i = t->first; i < t->end; i++) {
        float *r = t->r_out + i * t->d, *y = t->y + i * t->d;
        const float *in = t->r_in + i * t->d;
        if (r != in)
            memcpy(r, in, (size_t)t->d * sizeof *r);
        if (t->x)
            dropout_add(r, t->x + i * t->d, (uint64_t)(i * t->d), t->d, t->drop);
        float factor = 1.0f / sqrtf(dot(r, r, t->d) / (float)t->d + t->eps);
        for (int32_t c = 0; c < t->d; c++)
            y[c] = r[c] * factor * t->w[c];
    }
}

/* y = r w s with s = (mean r^2 + eps)^-1/2:  dr = s (w dy - r s^2 mean(w dy r)). */
static void norm_backward(const struct norm_grad_rows *t)
{
    for (int64_t i = t->first; i < t->end; i++) {
        const float *r = t->r + i * t->d, *dy = t->dy + i * t->d;
        float *dr = t->dr + i * t->d;
        float s = 1.0f / sqrtf(dot(r, r, t->d) / (float)t->d + t->eps);
        vf sum = splat(0.0f);
        for (int32_t c = 0; c < t->d; c += LANES) {
            int32_t left = t->d - c < LANES ? t->d - c : LANES;
            vf rv = left == LANES ? load(r + c) : load_some(r + c, left), dv = left == LANES ? load(dy + c) : load_some(dy + c, left);
            sum += rv * dv * (left == LANES ? load(t->w + c) : load_some(t->w + c, left));
        }
        float shift = add_lanes(sum) * s * s / (float)t->d;
        for (int32_t c = 0; c < t->d; c++) {
            dr[c] += s * (t->w[c] * dy[c] - r[c] * shift);
            t->dw[c] += dy[c] * r[c] * s;
        }
    }
}

/* gelu_new(a) = a sigmoid(2 u), u = sqrt(2 / pi) (a + 0.044715 a^3): no cancellation for large negative a. */
INLINE vf gelu_gate(vf a)
{
    vf twice = 1.5957691216057308f * (a + 0.044715f * (a * a * a));
    return 1.0f / (1.0f + expo(-twice));
}

static void gelu(const struct gelu_rows *t)
{
    for (int64_t i = t->first; i < t->end; i++) {
        const float *a = t->ab + i * 2 * t->f, *b = a + t->f;
        float *y = t->y + i * t->f;
        int32_t c = 0;
        for (; c + LANES <= t->f; c += LANES)
            store(y + c, load(a + c) * gelu_gate(load(a + c)) * load(b + c));
        if (c < t->f) {
            vf av = load_some(a + c, t->f - c);
            store_some(y + c, av * gelu_gate(av) * load_some(b + c, t->f - c), t->f - c);
        }
        if (t->drop.rate > 0.0f)
            dropout(y, y, (uint64_t)(i * t->f), t->f, t->drop);
    }
}

INLINE void gelu_grad(vf a, vf b, vf dy, vf *da, vf *db)
{
    vf gate = gelu_gate(a), slope = 1.5957691216057308f * (1.0f + 0.134145f * (a * a));
    *da = dy * b * (gate + a * gate * (1.0f - gate) * slope);
    *db = dy * a * gate;
}

static void gelu_backward(const struct gelu_rows *t)
{
    for (int64_t i = t->first; i < t->end; i++) {
        const float *a = t->ab + i * 2 * t->f, *b = a + t->f;
        float *da = t->dab + i * 2 * t->f, *db = da + t->f;
        for (int32_t c = 0; c < t->f; c += LANES) {
            int32_t left = t->f - c < LANES ? t->f - c : LANES;
            float dy[LANES] = {0};
            dropout(dy, t->dy + i * t->f + c, (uint64_t)(i * t->f + c), left, t->drop);
            vf dav, dbv;
            gelu_grad(load_some(a + c, left), load_some(b + c, left), load(dy), &dav, &dbv);
            store_some(da + c, dav, left);
            store_some(db + c, dbv, left);
        }
    }
}

static void adamw(float *restrict w, const float *restrict grad, float *restrict m, float *restrict v, int64_t n,
                  const struct adamw_step *a)
{
    struct adamw_step s = *a;
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * s.clip, x = w[i] - s.decay * w[i];
        m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g;
        v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * (g * g);
        w[i] = x - s.rate * m[i] / (sqrtf(v[i] * s.root) + s.eps);
    }
}

const struct simd SIMD_TABLE = {
    .name = SIMD_NAME,
    .lanes = LANES,
    .product = product,
    .transpose = transpose,
    .columns = columns,
    .columns_lse = columns_lse,
    .columns_grad = columns_grad,
    .hint_scores = hint_scores,
    .row_sums = row_sums,
    .multiply = multiply,
    .keep = keep,
    .hints = hints,
    .dot = dot,
    .distance = distance,
    .sum_squares = sum_squares,
    .max = max,
    .exp_sum = exp_sum,
    .axpy = axpy,
    .scale = scale,
    .dropout = dropout,
    .dropout_add = dropout_add,
    .relu = relu,
    .relu_backward = relu_backward,
    .norm = norm,
    .norm_backward = norm_backward,
    .gelu = gelu,
    .gelu_backward = gelu_backward,
    .adamw = adamw,
};
