/* linear.c: y = alpha x . w^T and its gradients.
 *
 * A weight opened for inference is packed once into panels [rows / P][cols][P] of P = 2 * lanes outputs, the form in which our product
 * reads its right operand: any number of x rows then runs at the speed of the multiply-add units, and every output is one chain of
 * additions in a fixed order, whatever rows share the batch. Large tables (embeddings) stay as stored. A weight that is being trained
 * stays as stored too; few rows then use it as LEFT operand against x transposed, many rows go to oneDNN. gemm_table.h says which. */
#include <string.h>

#include "cpu.h"
#include "gemm_table.h"

enum { PACK_ROWS_MOST = 16384 };

struct pack {
    const struct weight *w;
    float *panels;
};

static void pack_part(void *arg, int part, int parts)
{
    const struct pack *t = arg;
    int32_t wide = 2 * cpu.simd->lanes, rows = t->w->rows, cols = t->w->cols;
    struct span s = pool_span(rows, wide, part, parts);
    for (int64_t r = s.begin; r < s.end; r += wide)
        cpu.simd->transpose(t->panels + r * cols, wide, t->w->master + r * cols, cols, rows - r < wide ? (int32_t)(rows - r) : wide, cols);
}

int cpu_weight_open(struct weight *w, enum weight_use use)
{
    w->native = NULL;
    if (use != WEIGHT_INFER || w->rows > PACK_ROWS_MOST)
        return 0;
    w->native = cpu_alloc((size_t)round_up(w->rows, 2 * cpu.simd->lanes) * (size_t)w->cols * sizeof(float));
    if (!w->native)
        return -1;
    cpu_weight_refresh(w);
    return 0;
}

void cpu_weight_refresh(struct weight *w)
{
    if (w->native)
        pool_run(pack_part, &(struct pack){w, w->native}, parts_for(w->rows, w->cols));
}

void cpu_weight_close(struct weight *w)
{
    cpu_release(w->native);
    w->native = NULL;
}

struct linear {
    float *y;
    const float *x;
    const struct weight *w;
    int32_t n;
    float alpha;
    int flags;
    int across; /* parts along the outputs; parts / across along the rows of x */
};

static int product_flags(int flags)
{
    return (flags & LINEAR_RELU ? PRODUCT_RELU : 0) | (flags & LINEAR_ACCUMULATE ? PRODUCT_ADD : 0);
}

static void panels_part(void *arg, int part, int parts)
{
    const struct linear *t = arg;
    int32_t wide = 2 * cpu.simd->lanes, cols = t->w->cols;
    struct span out = pool_span(t->w->rows, wide, part % t->across, t->across);
    struct span in = pool_span(t->n, 1, part / t->across, parts / t->across);
    struct product p = {(int32_t)(in.end - in.begin), (int32_t)(out.end - out.begin), cols, t->x + in.begin * cols, cols, 1,
                        (const float *)t->w->native + out.begin * cols, wide, (int64_t)wide * cols,
                        t->y + in.begin * t->w->rows + out.begin, t->w->rows, t->alpha, product_flags(t->flags)};
    if (p.n > 0)
        cpu.simd->product(&p);
}

/* y^T = w x^T: tiles of outputs x up to 64 rows of x, transposed back on the way out. */
static void finish_columns(const struct linear *t, const float *tile, int64_t first, int32_t rows, int32_t width)
{
    for (int32_t i = 0; i < t->n; i++) {
        float *y = t->y + (int64_t)i * t->w->rows + first;
        for (int32_t r = 0; r < rows; r++) {
            float v = tile[(int64_t)r * width + i] + (t->flags & LINEAR_ACCUMULATE ? y[r] : 0.0f);
            y[r] = t->flags & LINEAR_RELU && v < 0.0f ? 0.0f : v;
        }
    }
}

static void columns_part(void *arg, int part, int parts)
{
    const struct linear *t = arg;
    enum { ROWS = 120 };
    int32_t lanes = cpu.simd->lanes, cols = t->w->cols, width = round_up(t->n, lanes);
    struct arena scratch = arena_of(part);
    float *xt = arena_take(&scratch, (int64_t)cols * width), *tile = arena_take(&scratch, (int64_t)ROWS * width);
    struct span s = pool_span(t->w->rows, 12, part, parts);
    cpu.simd->transpose(xt, width, t->x, cols, t->n, cols);
    for (int64_t r = s.begin; r < s.end; r += ROWS) {
        int32_t rows = s.end - r < ROWS ? (int32_t)(s.end - r) : ROWS;
        struct product p = {rows, width, cols, t->w->master + r * cols, cols, 1, xt, width, 2 * lanes, tile, width, t->alpha, 0};
        cpu.simd->product(&p);
        finish_columns(t, tile, r, rows, width);
    }
}

int cpu_linear_way = -1;

static enum gemm_way way_of(enum gemm_use use, int32_t n)
{
    if (cpu_linear_way >= 0)
        return (enum gemm_way)cpu_linear_way;
    for (size_t i = 0; i < sizeof gemm_rules / sizeof *gemm_rules; i++)
        if (gemm_rules[i].use == use && n <= gemm_rules[i].n_most && strcmp(gemm_rules[i].simd, cpu.simd->name) == 0)
            return gemm_rules[i].way;
    return GEMM_ONEDNN;
}

void cpu_linear(struct act *y, const struct act *x, const struct weight *w, int32_t n, float alpha, int flags)
{
    if (n <= 0)
        return;
    struct linear t = {act_data(y), act_data(x), w, n, alpha, flags, 1};
    int parts = parts_for((int64_t)n * w->rows / 16 + 1, w->cols);
    enum gemm_way way = way_of(w->native ? GEMM_PACKED : GEMM_STORED, n);
    if (way == GEMM_COLUMNS) {
        pool_run(columns_part, &t, parts);
    } else if (way == GEMM_PANELS && w->native) {
        t.across = n >= 96 * parts ? 1 : cpu_parts_across(w->rows, parts);
        pool_run(panels_part, &t, parts);
    } else {
        cpu_gemm_all(&(struct sgemm){false, true, n, w->rows, w->cols, alpha, t.x, w->cols, w->master, w->cols,
                                     flags & LINEAR_ACCUMULATE ? 1.0f : 0.0f, t.y, w->rows, flags & LINEAR_RELU}, way == GEMM_ONEDNN);
    }
}

void cpu_linear_backward(struct act *dx, const struct weight *w, const struct act *dy, const struct act *x, int32_t n, int flags)
{
    if (n <= 0)
        return;
    bool onednn = way_of(GEMM_GRADIENT, n) == GEMM_ONEDNN;
    if (dx)
        cpu_gemm_all(&(struct sgemm){false, false, n, w->cols, w->rows, 1.0f, act_data(dy), w->rows, w->master, w->cols,
                                     flags & LINEAR_ACCUMULATE ? 1.0f : 0.0f, act_data(dx), w->cols, false}, onednn);
    if (w->grad)
        cpu_gemm_all(&(struct sgemm){true, false, w->rows, w->cols, n, 1.0f, act_data(dy), w->rows, act_data(x), w->cols, 1.0f, w->grad,
                                     w->cols, false}, onednn);
}
