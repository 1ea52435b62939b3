/* loss.cu: cross-entropy of a head with a large vocabulary; logits are never stored whole.
 *
 * Picked rows go in chunks of up to 4,096, copied together (rows that are left out become 0, so whatever they hold cannot spread). The
 * chunk's logits, in f32, are cut into tiles of columns that fit scratch. A first sweep over the tiles joins each row's maximum and sum;
 * a second one makes a tile's logits again, turns them into the gradient where they lie, and two products take it to dx (summed in f32
 * over the tiles) and to the head's gradient. When one tile holds all columns its logits are still there, and nothing is made twice. A
 * chunk is as long as it can be because every chunk reads and writes the head's whole f32 gradient.
 *
 * A tile's gradient takes the place of its logits: `real` j of a row lies at or before float j, and a block reads its columns before a
 * barrier and writes them after it. No sum depends on which block ran first: rows belong to blocks, the loss is summed by one block in
 * chunk order. */
#include "reduce.h"

enum { LOSS_THREADS = 256, FINISH_THREADS = 1024, ROWS_MOST = 4096, ALIGN = 256 };

namespace {
struct chunk_state { /* of each row of a chunk */
    gp<float> top, sum, label; /* running maximum and sum of exponentials, logit of the label; after the first sweep top is log-sum-exp */
};
struct logit_tile {
    gp<float> at;
    int64_t ld;
    int32_t column, columns; /* the first of the head's, how many */
};
struct plan {
    int32_t rows, columns; /* of a chunk; of a tile */
    int64_t ld;            /* of a tile, in floats */
    real *x;               /* [rows, d] */
    float *dx;             /* [rows, d] */
    float *top, *sum, *label, *logits;
    double *total;
};
struct picked { /* rows of x or dx */
    gp<const int32_t> pick, labels;
    int32_t rows, d;
    bool has_pick, wide; /* wide: four neighbours may be loaded at once */
};
}

DEVICE int64_t source_of(const picked &p, int32_t i)
{
    return (int64_t)(p.has_pick ? p.pick[i] : i) * p.d;
}

/* One warp a row; rows that are left out become 0. */
static __global__ void loss_gather_kernel(gp<real> y, gp<const real> x, picked p)
{
    const int32_t i = block_x() * (threads() / WARP) + thread_x() / WARP, lane = thread_x() % WARP;
    if (i >= p.rows)
        return;
    const bool counted = p.labels[i] >= 0;
    const int64_t from = source_of(p, i), to = (int64_t)i * p.d;
    if (p.wide)
        for (int32_t c = 4 * lane; c < p.d; c += 4 * WARP)
            store4(y, to + c, counted ? load4(x, from + c) : four{0, 0, 0, 0});
    else
        for (int32_t c = lane; c < p.d; c += WARP)
            y[to + c] = counted ? x[from + c] : to_real(0.0f);
}

static __global__ void loss_scatter_kernel(gp<real> dx, gp<const float> sums, picked p)
{
    const int32_t i = block_x() * (threads() / WARP) + thread_x() / WARP, lane = thread_x() % WARP;
    if (i >= p.rows)
        return;
    const int64_t to = source_of(p, i), from = (int64_t)i * p.d;
    if (p.wide)
        for (int32_t c = 4 * lane; c < p.d; c += 4 * WARP)
            store4(dx, to + c, load4(sums, from + c));
    else
        for (int32_t c = lane; c < p.d; c += WARP)
            dx[to + c] = to_real(sums[from + c]);
}

/* One block a row: this tile's maximum and sum, joined with those of the tiles before. */
static __global__ void loss_sums_kernel(logit_tile t, chunk_state s, gp<const int32_t> labels)
{
    SHARED(float, room, 2 * WARP);
    const int32_t i = block_x();
    const int64_t row = (int64_t)i * t.ld;
    online mine = {-INFINITY, 0.0f};
    for (int32_t c = 4 * thread_x(); c < t.columns; c += 4 * threads())
        mine = online_add4(mine, load4_within(t.at, row, c, t.columns));
    const online all = block_online(mine, room);
    if (thread_x() > 0)
        return;
    const online joined = t.column > 0 ? online_join({s.top[i], s.sum[i]}, all) : all;
    const int32_t label = labels[i] - t.column;
    s.top[i] = joined.top;
    s.sum[i] = joined.sum;
    if (label >= 0 && label < t.columns)
        s.label[i] = t.at[row + label];
}

/* One block: log-sum-exp and loss of the chunk's rows; the loss so far. */
static __global__ void loss_finish_kernel(chunk_state s, gp<const int32_t> labels, int32_t rows, gp<float> row_loss, bool has_row_loss,
                                          gp<double> total, bool begins, gp<float> loss, float weight)
{
    SHARED(double, room, WARP);
    double sum = 0;
    for (int32_t i = thread_x(); i < rows; i += threads()) {
        const bool counted = labels[i] >= 0;
        const float lse = s.top[i] + logf(s.sum[i]), own = counted ? lse - s.label[i] : 0.0f;
        s.top[i] = lse;
        if (has_row_loss)
            row_loss[i] = own;
        sum += (double)own;
    }
    sum = block_sum(sum, sp<double>(room));
    if (thread_x() > 0)
        return;
    if (!begins)
        sum += total[0];
    total[0] = sum;
    loss[0] = (float)((double)weight * sum);
}

/* One block a row: logits -> factor * (p - onehot), in place. */
static __global__ void loss_gradient_kernel(logit_tile t, gp<real> out, gp<const float> lses, gp<const int32_t> labels, float factor)
{
    const int32_t i = block_x(), label = labels[i] - t.column;
    const int64_t row = (int64_t)i * t.ld, to = row * (int64_t)(sizeof(float) / sizeof(real));
    const float lse = lses[i], own = labels[i] >= 0 ? factor : 0.0f; /* a row that is left out has logits of 0 */
    for (int32_t base = 0; base < t.columns; base += 4 * threads()) {
        const int32_t c = base + 4 * thread_x();
        four g = {0, 0, 0, 0};
        if (c < t.columns) {
            g = load4_within(t.at, row, c, t.columns);
            g.x = own * (expf(g.x - lse) - (c == label ? 1.0f : 0.0f));
            g.y = own * (expf(g.y - lse) - (c + 1 == label ? 1.0f : 0.0f));
            g.z = own * (expf(g.z - lse) - (c + 2 == label ? 1.0f : 0.0f));
            g.w = own * (expf(g.w - lse) - (c + 3 == label ? 1.0f : 0.0f));
        }
        sync_block();
        if (c < t.columns)
            store4(out, to + c, g); /* what is beyond the last column is padding of the row */
    }
}

/* ---- host ---- */

static int64_t align_up(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes of everything but the logits. */
static int64_t plan_fixed(int64_t rows, int64_t d)
{
    return ALIGN + align_up(rows * d * (int64_t)sizeof(real)) + align_up(rows * d * (int64_t)sizeof(float)) +
           3 * align_up(rows * (int64_t)sizeof(float));
}

/* All rows and columns at once, if they fit; else long chunks of rows and as many columns as scratch has room for. */
static plan plan_of(const struct head_loss *a)
{
    const int64_t d = a->head->cols, all = blocks_for(a->count, 64) * 64, row = (int64_t)sizeof(float);
    plan p = {};
    p.rows = a->n, p.columns = a->count, p.ld = all;
    if (plan_fixed(a->n, d) + a->n * all * row <= PLATFORM_SCRATCH)
        return p;
    const int64_t half = PLATFORM_SCRATCH / 2 / (d * (int64_t)(sizeof(real) + sizeof(float)) + 3 * row);
    p.rows = a->n < ROWS_MOST ? a->n : ROWS_MOST;
    p.rows = p.rows < half ? p.rows : (int32_t)half;
    const int64_t fits = (PLATFORM_SCRATCH - plan_fixed(p.rows, d)) / (p.rows * row) / 64 * 64;
    CHECK(p.rows > 0 && fits > 0);
    p.ld = fits < all ? fits : all;
    p.columns = (int32_t)(p.ld < a->count ? p.ld : a->count);
    return p;
}

static void plan_place(plan *p, int64_t d)
{
    char *at = (char *)platform_scratch((size_t)(plan_fixed(p->rows, d) + p->rows * p->ld * (int64_t)sizeof(float)));
    const int64_t facts = align_up(p->rows * (int64_t)sizeof(float));
    p->total = (double *)at;
    p->top = (float *)(at += ALIGN);
    p->sum = (float *)(at += facts);
    p->label = (float *)(at += facts);
    p->x = (real *)(at += facts);
    p->dx = (float *)(at += align_up(p->rows * d * (int64_t)sizeof(real)));
    p->logits = (float *)(at + align_up(p->rows * d * (int64_t)sizeof(float)));
}

static picked picked_of(const struct head_loss *a, const void *x, int32_t first, int32_t rows)
{
    picked p = {};
    const int32_t d = a->head->cols;
    const bool wide = d % 4 == 0 && (uintptr_t)x % (4 * sizeof(real)) == 0;
    p.has_pick = a->pick != NULL, p.pick = a->pick ? a->pick + first : NULL, p.labels = a->labels + first;
    p.rows = rows, p.d = d, p.wide = wide;
    return p;
}

static cost rows_cost(const struct head_loss *a, int32_t rows, double per_element, bool labels)
{
    return {(double)rows * (a->head->cols * per_element + sizeof(int32_t) * ((labels ? 1 : 0) + (a->pick ? 1 : 0))), 0.0};
}

static void gather_rows(const struct head_loss *a, const plan *p, int32_t first, int32_t rows)
{
    const picked k = picked_of(a, a->x, first, rows);
    const int64_t from = a->pick ? 0 : (int64_t)first * k.d;
    LAUNCH((loss_gather_kernel), dim_of(blocks_for(rows, LOSS_THREADS / WARP)), LOSS_THREADS,
           rows_cost(a, rows, 2 * sizeof(real), true), p->x, act_data(a->x) + from, k);
}

static void scatter_rows(const struct head_loss *a, const plan *p, int32_t first, int32_t rows)
{
    const picked k = picked_of(a, a->dx, first, rows);
    const int64_t to = a->pick ? 0 : (int64_t)first * k.d;
    LAUNCH((loss_scatter_kernel), dim_of(blocks_for(rows, LOSS_THREADS / WARP)), LOSS_THREADS,
           rows_cost(a, rows, sizeof(real) + sizeof(float), false), act_data(a->dx) + to, p->dx, k);
}

static logit_tile tile_at(const struct head_loss *a, const plan *p, int32_t column)
{
    const int32_t left = a->count - column;
    logit_tile t = {};
    t.at = p->logits, t.ld = p->ld, t.column = column, t.columns = left < p->columns ? left : p->columns;
    return t;
}

static chunk_state state_of(const plan *p)
{
    chunk_state s = {};
    s.top = p->top, s.sum = p->sum, s.label = p->label;
    return s;
}

static const real *head_at(const struct head_loss *a, int32_t column)
{
    return weight_data(a->head) + (int64_t)(a->first + column) * a->head->cols;
}

static void make_logits(const struct head_loss *a, const plan *p, const logit_tile &t, int32_t rows)
{
    const int64_t d = a->head->cols;
    struct gemm g = {};
    g.tb = true, g.m = rows, g.n = t.columns, g.k = d, g.alpha = a->scale;
    g.a = p->x, g.lda = d, g.b = head_at(a, t.column), g.ldb = d;
    g.c = p->logits, g.ldc = p->ld, g.c_f32 = true;
    platform_gemm(&g);
}

static void first_sweep(const struct head_loss *a, const plan *p, int32_t first, int32_t rows)
{
    for (int32_t column = 0; column < a->count; column += p->columns) {
        const logit_tile t = tile_at(a, p, column);
        const double cells = (double)rows * t.columns;
        make_logits(a, p, t, rows);
        LAUNCH((loss_sums_kernel), dim_of(rows), LOSS_THREADS, (cost{(cells + 4.0 * rows) * sizeof(float), 3 * cells}), t, state_of(p),
               a->labels + first);
    }
}

/* dx (over the tiles, in f32) and the head's gradient, from a tile's gradient. */
static void gradient_products(const struct head_loss *a, const plan *p, const logit_tile &t, int32_t rows)
{
    const int64_t d = a->head->cols;
    struct gemm g = {};
    g.m = rows, g.n = d, g.k = t.columns, g.alpha = 1.0f;
    g.a = p->logits, g.lda = p->ld * (int64_t)(sizeof(float) / sizeof(real)), g.b = head_at(a, t.column), g.ldb = d;
    g.c = p->dx, g.ldc = d, g.c_f32 = true, g.accumulate = t.column > 0;
    platform_gemm(&g);
    if (!a->head->grad)
        return;
    g.ta = true, g.m = t.columns, g.k = rows, g.b = p->x;
    g.c = a->head->grad + (int64_t)(a->first + t.column) * d, g.accumulate = true;
    platform_gemm(&g);
}

static void second_sweep(const struct head_loss *a, const plan *p, int32_t first, int32_t rows)
{
    for (int32_t column = 0; column < a->count; column += p->columns) {
        const logit_tile t = tile_at(a, p, column);
        const double cells = (double)rows * t.columns, bytes = cells * (sizeof(float) + sizeof(real)) + 8.0 * rows;
        if (p->columns < a->count)
            make_logits(a, p, t, rows);
        LAUNCH((loss_gradient_kernel), dim_of(rows), LOSS_THREADS, (cost{bytes, 4 * cells}), t, (real *)p->logits, p->top,
               a->labels + first, a->weight * a->scale);
        gradient_products(a, p, t, rows);
    }
}

static void run_chunk(const struct head_loss *a, const plan *p, int32_t first, int32_t rows)
{
    const double bytes = (double)rows * (sizeof(float) * (a->row_loss ? 5 : 4) + sizeof(int32_t)) + sizeof(double) + sizeof(float);
    if (rows > 0) {
        gather_rows(a, p, first, rows);
        first_sweep(a, p, first, rows);
    }
    LAUNCH((loss_finish_kernel), dim_of(1), FINISH_THREADS, (cost{bytes, 3.0 * rows}), state_of(p), a->labels + first, rows,
           a->row_loss ? a->row_loss + first : NULL, a->row_loss != NULL, p->total, first == 0, a->loss, a->weight);
    if (a->dx && rows > 0) {
        second_sweep(a, p, first, rows);
        scatter_rows(a, p, first, rows);
    }
}

void cuda_head_loss(const struct head_loss *a)
{
    plan p = plan_of(a);
    plan_place(&p, a->head->cols);
    if (a->n == 0)
        run_chunk(a, &p, 0, 0);
    for (int32_t first = 0; first < a->n; first += p.rows)
        run_chunk(a, &p, first, a->n - first < p.rows ? a->n - first : p.rows);
}
