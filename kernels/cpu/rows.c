/* rows.c: ops that walk rows or elements: embeddings, gathers, dropout, norms, activations.
 *
 * They are bound by memory, so all that matters is one pass and an even division. Ops that add into rows chosen by an index are divided by
 * COLUMN: every thread walks all indices in order over its own columns, so no two threads meet and the order of the sums is the order of
 * the tokens. Gradients of norm weights are summed per thread into scratch and then in thread order. */
#include <string.h>

#include "cpu.h"

struct indexed {
    float *y;
    const float *x;
    const int32_t *index;
    int32_t n, d;
    struct dropout drop;
};

static void embed_part(void *arg, int part, int parts)
{
    const struct indexed *t = arg;
    struct span s = pool_span(t->n, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i++)
        cpu.simd->dropout(t->y + i * t->d, t->x + (int64_t)t->index[i] * t->d, (uint64_t)(i * t->d), t->d, t->drop);
}

void cpu_embed(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop)
{
    struct indexed t = {act_data(y), table->master, ids, n, table->cols, drop};
    pool_run(embed_part, &t, parts_for(n, table->cols));
}

static void add_columns_part(void *arg, int part, int parts)
{
    const struct indexed *t = arg;
    struct span s = pool_span(t->d, 16, part, parts);
    for (int64_t i = 0; i < t->n && s.begin < s.end; i++)
        cpu.simd->dropout_add(t->y + (int64_t)t->index[i] * t->d + s.begin, t->x + i * t->d + s.begin, (uint64_t)(i * t->d + s.begin),
                              s.end - s.begin, t->drop);
}

static int column_parts(int32_t n, int32_t d)
{
    int parts = parts_for(n, d), most = (d + 15) / 16;
    return parts < most ? parts : most;
}

void cpu_embed_backward(const struct weight *table, const int32_t *ids, const struct act *dy, int32_t n, struct dropout drop)
{
    if (!table->grad || n <= 0)
        return;
    struct indexed t = {table->grad, act_data(dy), ids, n, table->cols, drop};
    pool_run(add_columns_part, &t, column_parts(n, table->cols));
}

void cpu_gather(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d)
{
    struct indexed t = {act_data(y), act_data(x), index, n, d, {0, 0}};
    pool_run(embed_part, &t, parts_for(n, d));
}

void cpu_scatter_add(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d)
{
    if (n <= 0)
        return;
    struct indexed t = {act_data(y), act_data(x), index, n, d, {0, 0}};
    pool_run(add_columns_part, &t, column_parts(n, d));
}

struct flat {
    float *y;
    const float *x;
    int64_t n;
    float a;
    struct dropout drop;
};

static void dropout_part(void *arg, int part, int parts)
{
    const struct flat *t = arg;
    struct span s = pool_span(t->n, 64, part, parts);
    cpu.simd->dropout(t->y + s.begin, t->x + s.begin, (uint64_t)s.begin, s.end - s.begin, t->drop);
}

void cpu_dropout(struct act *y, const struct act *x, int64_t n, struct dropout drop)
{
    if (y == x && drop.rate <= 0.0f)
        return;
    struct flat t = {act_data(y), act_data(x), n, 0, drop};
    pool_run(dropout_part, &t, parts_for(n, 1));
}

static void axpy_part(void *arg, int part, int parts)
{
    const struct flat *t = arg;
    struct span s = pool_span(t->n, 64, part, parts);
    cpu.simd->axpy(t->y + s.begin, t->a, t->x + s.begin, s.end - s.begin);
}

void cpu_axpy(struct act *y, float a, const struct act *x, int64_t n)
{
    struct flat t = {act_data(y), act_data(x), n, a, {0, 0}};
    pool_run(axpy_part, &t, parts_for(n, 1));
}

static void relu_part(void *arg, int part, int parts)
{
    const struct flat *t = arg;
    struct span s = pool_span(t->n, 64, part, parts);
    cpu.simd->relu_backward(t->y + s.begin, t->x + s.begin, s.end - s.begin, t->a);
}

void cpu_relu_backward(struct act *dy, const struct act *y, int64_t n, float scale)
{
    struct flat t = {act_data(dy), act_data(y), n, scale, {0, 0}};
    pool_run(relu_part, &t, parts_for(n, 1));
}

struct mean {
    float *y;
    const float *x;
    struct rows rows;
    int32_t d;
};

static void mean_part(void *arg, int part, int parts)
{
    const struct mean *t = arg;
    struct span s = pool_span(t->rows.count, 1, part, parts);
    for (int64_t b = s.begin; b < s.end; b++) {
        int32_t first = t->rows.offsets[b], end = t->rows.offsets[b + 1];
        float *y = t->y + b * t->d;
        memset(y, 0, (size_t)t->d * sizeof *y);
        for (int32_t i = first; i < end; i++)
            cpu.simd->axpy(y, 1.0f, t->x + (int64_t)i * t->d, t->d);
        if (end > first)
            cpu.simd->scale(y, 1.0f / (float)(end - first), t->d);
    }
}

void cpu_pool_mean(struct act *y, const struct act *x, struct rows rows, int32_t d)
{
    struct mean t = {act_data(y), act_data(x), rows, d};
    int parts = parts_for(rows.total, d);
    pool_run(mean_part, &t, parts < rows.count ? parts : 1);
}

static void norm_part(void *arg, int part, int parts)
{
    struct norm_rows t = *(const struct norm_rows *)arg;
    struct span s = pool_span(t.end, 1, part, parts);
    t.first = s.begin;
    t.end = s.end;
    cpu.simd->norm(&t);
}

void cpu_add_rmsnorm(struct act *r_out, struct act *y, const struct act *r_in, const struct act *x, const float *w, int32_t n, int32_t d,
                     float eps, struct dropout drop)
{
    struct norm_rows t = {act_data(r_out), act_data(y), act_data(r_in), act_data(x), w, 0, n, d, eps, drop};
    pool_run(norm_part, &t, parts_for(n, 2 * d));
}

static void norm_backward_part(void *arg, int part, int parts)
{
    struct norm_grad_rows t = *(const struct norm_grad_rows *)arg;
    struct span s = pool_span(t.end, 1, part, parts);
    struct arena scratch = arena_of(part);
    t.first = s.begin;
    t.end = s.end;
    t.dw = arena_take(&scratch, t.d);
    memset(t.dw, 0, (size_t)t.d * sizeof *t.dw);
    cpu.simd->norm_backward(&t);
}

void cpu_rmsnorm_backward(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                          float eps)
{
    struct norm_grad_rows t = {act_data(dr), NULL, act_data(dy), act_data(r), w, 0, n, d, eps};
    int parts = parts_for(n, 3 * d);
    pool_run(norm_backward_part, &t, parts);
    for (int part = 0; part < parts; part++)
        cpu.simd->axpy(dw, 1.0f, cpu.scratch[part], d);
}

static void gelu_part(void *arg, int part, int parts)
{
    struct gelu_rows t = *(const struct gelu_rows *)arg;
    struct span s = pool_span(t.end, 1, part, parts);
    t.first = s.begin;
    t.end = s.end;
    if (t.dab)
        cpu.simd->gelu_backward(&t);
    else
        cpu.simd->gelu(&t);
}

void cpu_gated_gelu(struct act *y, const struct act *ab, int32_t n, int32_t f, struct dropout drop)
{
    struct gelu_rows t = {act_data(y), NULL, act_data(ab), NULL, 0, n, f, drop};
    pool_run(gelu_part, &t, parts_for(n, 4 * f));
}

void cpu_gated_gelu_backward(struct act *dab, const struct act *dy, const struct act *ab, int32_t n, int32_t f, struct dropout drop)
{
    struct gelu_rows t = {NULL, act_data(dab), act_data(ab), act_data(dy), 0, n, f, drop};
    pool_run(gelu_part, &t, parts_for(n, 8 * f));
}
