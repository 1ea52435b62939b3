/* quantise.cu: softmax over a codebook, its expectation, the hard code, and the straight-through gradient.
 *
 * All products go through platform_gemm: scores and dP in f32, P and dS as `real` operands. Scores are made where P is wanted and turned
 * into it in place; without P they live in scratch, for as many rows at a time as fit. One block has one row: it finds the largest score
 * (the lowest code on a tie: a product gives equal codebook rows equal scores), writes code and q, and makes the probabilities. `soft`
 * is f32 and is meant to be: in bf16 the probabilities go to its product in two parts, what bf16 holds of them and what it holds of the
 * rest.
 *
 * Backward: dP = dq E^T; dS = inv_temperature * P (dP - sum P dP); dh += dS E. The codebook's gradient, P^T dq + dS^T h, is one product:
 * P lies above dS and dq above h, so the f32 gradient, the largest thing here, is read and written once. */
#include "reduce.h"

enum { THREADS = 256, ROWS_MOST = 8192, ALIGN = 256, PARTS = sizeof(real) < sizeof(float) ? 2 : 1 /* of a probability */ };

namespace {
struct best {
    float score;
    int32_t code;
};
}

DEVICE best best_of(best a, best b)
{
    return b.score > a.score || (b.score == a.score && b.code < a.code) ? b : a;
}

DEVICE best block_best(best mine, sp<float> scores, sp<int32_t> codes)
{
    const int warp = thread_x() / WARP;
    for (int d = WARP / 2; d > 0; d /= 2) {
        const float score = shuffle_xor(mine.score, d);
        const int32_t code = shuffle_xor(mine.code, d);
        mine = best_of(mine, {score, code});
    }
    if (thread_x() % WARP == 0) {
        scores[warp] = mine.score;
        codes[warp] = mine.code;
    }
    sync_block();
    mine = {scores[0], codes[0]};
    for (int i = 1; i < THREADS / WARP; i++)
        mine = best_of(mine, {scores[i], codes[i]});
    sync_block();
    return mine;
}

namespace {
struct choice { /* of a chunk of rows */
    int32_t codes, d;
    bool copy; /* P is wanted as `real`, too */
    bool keep; /* P takes the place of the scores */
    gp<float> scores;  /* [rows, codes] */
    gp<real> p, q;     /* [PARTS, rows, codes], [rows, d] */
    int64_t part;      /* rows * codes */
    gp<int32_t> code;
    gp<const real> book; /* at the first code */
    float inv_temperature;
};
}

DEVICE void row_probabilities(const choice &t, int64_t row, float top, sp<float> room)
{
    float sum = 0.0f;
    for (int32_t j = thread_x(); j < t.codes; j += THREADS)
        sum += expf(t.inv_temperature * ((float)t.scores[row + j] - top));
    const float scale = 1.0f / block_sum(sum, room);
    for (int32_t j = thread_x(); j < t.codes; j += THREADS) {
        const float p = expf(t.inv_temperature * ((float)t.scores[row + j] - top)) * scale;
        if (t.keep)
            t.scores[row + j] = p;
        if (t.copy)
            t.p[row + j] = to_real(p);
        if (t.copy && PARTS == 2)
            t.p[t.part + row + j] = to_real(p - to_float(to_real(p)));
    }
}

/* One block a row. */
static __global__ void quantise_kernel(choice t)
{
    SHARED(float, room, WARP);
    SHARED(int32_t, codes, WARP);
    const int32_t i = block_x();
    const int64_t row = (int64_t)i * t.codes;
    best mine = {-INFINITY, 0x7fffffff};
    for (int32_t j = thread_x(); j < t.codes; j += THREADS)
        mine = best_of(mine, {t.scores[row + j], j});
    mine = block_best(mine, room, codes);
    const int32_t code = mine.code < t.codes ? mine.code : 0; /* nothing but NaN has no best */
    if (thread_x() == 0)
        t.code[i] = code;
    for (int32_t c = thread_x(); c < t.d; c += THREADS)
        t.q[(int64_t)i * t.d + c] = t.book[(int64_t)code * t.d + c];
    if (t.keep || t.copy)
        row_probabilities(t, row, mine.score, room);
}

namespace {
struct slope { /* the backward pass of a chunk of rows */
    int32_t rows, codes, d;
    gp<const float> p, dp;          /* [rows, codes] */
    gp<const real> dq, h;           /* [rows, d] */
    gp<real> p_above_ds, dq_above_h; /* [2 rows, codes], [2 rows, d] */
    float inv_temperature;
};
}

/* One block a row. */
static __global__ void quantise_slope_kernel(slope t)
{
    SHARED(float, room, WARP);
    const int32_t i = block_x();
    const int64_t row = (int64_t)i * t.codes, below = (int64_t)t.rows * t.codes, x = (int64_t)i * t.d;
    float sum = 0.0f;
    for (int32_t j = thread_x(); j < t.codes; j += THREADS)
        sum = fmaf(t.p[row + j], t.dp[row + j], sum);
    const float mean = block_sum(sum, room);
    for (int32_t j = thread_x(); j < t.codes; j += THREADS) {
        const float p = t.p[row + j];
        t.p_above_ds[row + j] = to_real(p);
        t.p_above_ds[below + row + j] = to_real(t.inv_temperature * p * ((float)t.dp[row + j] - mean));
    }
    for (int32_t c = thread_x(); c < t.d; c += THREADS) {
        t.dq_above_h[x + c] = t.dq[x + c];
        t.dq_above_h[(int64_t)t.rows * t.d + x + c] = t.h[x + c];
    }
}

/* ---- host ---- */

static int64_t align_up(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static const real *book_of(const struct quantise *a)
{
    return weight_data(a->book) + (int64_t)a->first * a->book->cols;
}

/* y [rows, codes] = x . E^T */
static void book_product(const struct quantise *a, float *y, const real *x, int64_t rows)
{
    const int64_t d = a->book->cols;
    struct gemm g = {};
    g.tb = true, g.m = rows, g.n = a->codes, g.k = d, g.alpha = 1.0f;
    g.a = x, g.lda = d, g.b = book_of(a), g.ldb = d;
    g.c = y, g.ldc = a->codes, g.c_f32 = true;
    platform_gemm(&g);
}

/* y [rows, d] = p . E, or +=; f32, or an activation. */
static void book_mean(const struct quantise *a, void *y, const real *p, int64_t rows, bool into_act, bool accumulate)
{
    const int64_t d = a->book->cols;
    struct gemm g = {};
    g.m = rows, g.n = d, g.k = a->codes, g.alpha = 1.0f;
    g.a = p, g.lda = a->codes, g.b = book_of(a), g.ldb = d;
    g.c = y, g.ldc = d, g.c_f32 = !into_act, g.accumulate = accumulate;
    platform_gemm(&g);
}

/* Rows of a chunk of which each needs `bytes` of scratch, and three roundings. */
static int32_t chunk_rows(int32_t n, int64_t bytes)
{
    const int64_t fits = (PLATFORM_SCRATCH - 3 * ALIGN) / (bytes > 0 ? bytes : 1);
    int32_t most = n < ROWS_MOST ? n : ROWS_MOST;
    CHECK(fits > 0);
    return most < fits ? most : (int32_t)fits;
}

static void choose_rows(const struct quantise *a, int32_t first, int32_t rows, bool in_scratch)
{
    const int64_t d = a->book->cols, cells = (int64_t)rows * a->codes, scores = in_scratch ? align_up(cells * (int64_t)sizeof(float)) : 0;
    char *at = (char *)platform_scratch((size_t)(scores + (a->soft ? PARTS * cells * (int64_t)sizeof(real) : 0)));
    real *p = (real *)(at + scores);
    choice t = {};
    t.codes = a->codes, t.d = (int32_t)d, t.copy = a->soft != NULL, t.keep = a->p != NULL;
    t.scores = in_scratch ? (float *)at : a->p + (int64_t)first * a->codes;
    t.p = p, t.part = cells, t.q = act_data(a->q) + first * d, t.code = a->code + first, t.book = book_of(a);
    t.inv_temperature = a->inv_temperature;
    book_product(a, in_scratch ? (float *)at : a->p + (int64_t)first * a->codes, act_data(a->h) + first * d, rows);
    const double moved = sizeof(float) * (t.keep ? 2.0 : 1.0) + (t.copy ? PARTS * sizeof(real) : 0.0);
    const double bytes = cells * moved + rows * (2.0 * d * sizeof(real) + sizeof(int32_t));
    LAUNCH((quantise_kernel), dim_of(rows), THREADS, (cost{bytes, 4.0 * cells}), t);
    for (int part = 0; a->soft && part < PARTS; part++)
        book_mean(a, a->soft + first * d, p + part * cells, rows, false, part > 0);
}

void cuda_quantise(const struct quantise *a)
{
    const bool in_scratch = a->p == NULL;
    const int32_t chunk = chunk_rows(a->n, (int64_t)a->codes * ((in_scratch ? sizeof(float) : 0) + (a->soft ? PARTS * sizeof(real) : 0)));
    CHECK(a->inv_temperature >= 0.0f); /* the largest score has the largest probability */
    for (int32_t first = 0; first < a->n; first += chunk)
        choose_rows(a, first, a->n - first < chunk ? a->n - first : chunk, in_scratch);
}

/* The codebook's gradient from P above dS and dq above h. */
static void book_gradient(const struct quantise *a, const real *p_above_ds, const real *dq_above_h, int64_t rows)
{
    const int64_t d = a->book->cols;
    struct gemm g = {};
    if (!a->book->grad)
        return;
    g.ta = true, g.m = a->codes, g.n = d, g.k = 2 * rows, g.alpha = 1.0f;
    g.a = p_above_ds, g.lda = a->codes, g.b = dq_above_h, g.ldb = d;
    g.c = a->book->grad + a->first * d, g.ldc = d, g.c_f32 = true, g.accumulate = true;
    platform_gemm(&g);
}

static void backward_rows(const struct quantise *a, const real *dq, real *dh, int32_t first, int32_t rows)
{
    const int64_t d = a->book->cols, cells = (int64_t)rows * a->codes, size = sizeof(real);
    const int64_t above = align_up(cells * (int64_t)sizeof(float)), beside = above + align_up(2 * cells * size);
    char *at = (char *)platform_scratch((size_t)(beside + 2 * rows * d * size));
    real *p_above_ds = (real *)(at + above), *dq_above_h = (real *)(at + beside);
    slope t = {};
    t.rows = rows, t.codes = a->codes, t.d = (int32_t)d, t.inv_temperature = a->inv_temperature;
    t.p = a->p + (int64_t)first * a->codes, t.dp = (float *)at, t.dq = dq + first * d, t.h = act_data(a->h) + first * d;
    t.p_above_ds = p_above_ds, t.dq_above_h = dq_above_h;
    book_product(a, (float *)at, dq + first * d, rows);
    LAUNCH((quantise_slope_kernel), dim_of(rows), THREADS,
           (cost{cells * (2.0 * sizeof(float) + 2.0 * sizeof(real)) + 4.0 * rows * d * sizeof(real), 5.0 * cells}), t);
    book_mean(a, dh + first * d, p_above_ds + cells, rows, true, true);
    book_gradient(a, p_above_ds, dq_above_h, rows);
}

void cuda_quantise_backward(const struct quantise *a, const struct act *dq, struct act *dh)
{
    const int64_t size = sizeof(real), row = (int64_t)a->codes * ((int64_t)sizeof(float) + 2 * size) + 2 * a->book->cols * size;
    const int32_t chunk = chunk_rows(a->n, row);
    CHECK(a->p != NULL || a->n == 0);
    for (int32_t first = 0; first < a->n; first += chunk)
        backward_rows(a, act_data(dq), act_data(dh), first, a->n - first < chunk ? a->n - first : chunk);
}
