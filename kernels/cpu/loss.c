/* loss.c: cross-entropy of a head with a large vocabulary; logits never stored whole.
 *
 * Rows go in chunks. Within a chunk every thread owns a slice of the vocabulary, cut into tiles of 512: it computes the tile's logits,
 * turns them into exponentials at once while they are in cache (each row of a tile under its own maximum), and keeps them in its scratch.
 * Then the parts are joined: every thread computes each row's log-sum-exp from all (maximum, sum) pairs in tile order, in double. In a
 * second sweep the exponentials become gradient by one factor per row and tile, dW of the slice is added by its owner, and dx of the slice
 * goes into a partial result per thread, summed in thread order. So every exponential and every logit is computed once, no two threads
 * write the same place, and the chunk's length follows from scratch. */
#include <math.h>
#include <string.h>

#include "cpu.h"

enum { TILE = 512, CHUNK_MOST = 256 };

struct loss {
    const struct head_loss *a;
    int32_t first, rows, chunk; /* rows of x in this chunk; most */
    int32_t slice;              /* columns per thread, a multiple of TILE */
    int32_t d;
    float *x;                   /* [rows, d] picked rows, in shared scratch */
    float *top, *sum;           /* [tiles of all threads, chunk] */
    float *label, *lse;         /* [chunk] logit of the label, log-sum-exp */
};

/* Scratch of a thread: [slice / TILE][chunk][TILE] exponentials, then [chunk, d] of dx, then panels. */
static float *tile_at(const struct loss *t, int part, int32_t tile)
{
    return cpu.scratch[part] + (int64_t)tile * t->chunk * TILE;
}

static float *dx_of(const struct loss *t, int part)
{
    return cpu.scratch[part] + (int64_t)t->slice * t->chunk;
}

/* What is left for the products' panels. */
static struct arena rest_of(const struct loss *t, int part)
{
    return (struct arena){cpu.scratch[part], ((int64_t)t->slice + t->d) * t->chunk};
}

static int32_t source_row(const struct head_loss *a, int32_t i)
{
    return a->pick ? a->pick[i] : i;
}

static void gather_part(void *arg, int part, int parts)
{
    const struct loss *t = arg;
    struct span s = pool_span(t->rows, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i++)
        memcpy(t->x + i * t->d, act_data(t->a->x) + (int64_t)source_row(t->a, t->first + (int32_t)i) * t->d, (size_t)t->d * sizeof(float));
}

static void exponentials(const struct loss *t, float *logits, int32_t column, int32_t columns, int64_t tile)
{
    for (int32_t i = 0; i < t->rows; i++) {
        float *row = logits + (int64_t)i * TILE;
        int32_t label = t->a->labels[t->first + i];
        if (label >= column && label < column + columns)
            t->label[i] = row[label - column];
        float top = cpu.simd->max(row, columns);
        t->top[tile * t->chunk + i] = top;
        t->sum[tile * t->chunk + i] = cpu.simd->exp_sum(row, top, columns);
    }
}

static void logits_part(void *arg, int part, int parts)
{
    const struct loss *t = arg;
    const struct head_loss *a = t->a;
    (void)parts;
    for (int32_t tile = 0; tile < t->slice / TILE; tile++) {
        int32_t column = part * t->slice + tile * TILE, columns = a->count - column < TILE ? a->count - column : TILE;
        if (columns <= 0)
            return;
        float *logits = tile_at(t, part, tile);
        cpu_gemm(&(struct sgemm){false, true, t->rows, columns, t->d, a->scale, t->x, t->d,
                                 a->head->master + (int64_t)(a->first + column) * t->d, t->d, 0.0f, logits, TILE, false}, rest_of(t, part));
        exponentials(t, logits, column, columns, (int64_t)column / TILE);
    }
}

static void join_part(void *arg, int part, int parts)
{
    const struct loss *t = arg;
    struct span s = pool_span(t->rows, 1, part, parts);
    int32_t tiles = (t->a->count + TILE - 1) / TILE;
    for (int64_t i = s.begin; i < s.end; i++) {
        float top = t->top[i];
        for (int32_t j = 1; j < tiles; j++)
            top = t->top[(int64_t)j * t->chunk + i] > top ? t->top[(int64_t)j * t->chunk + i] : top;
        double sum = 0;
        for (int32_t j = 0; j < tiles; j++)
            sum += (double)t->sum[(int64_t)j * t->chunk + i] * exp((double)t->top[(int64_t)j * t->chunk + i] - top);
        t->lse[i] = (float)(top + log(sum));
    }
}

/* Exponentials of a tile -> weight * scale * (p - onehot); rows without a label -> 0. */
static void tile_gradient(const struct loss *t, float *g, int32_t column, int32_t columns)
{
    float weight = t->a->weight * t->a->scale;
    for (int32_t i = 0; i < t->rows; i++) {
        int32_t label = t->a->labels[t->first + i];
        float *row = g + (int64_t)i * TILE;
        if (label < 0) {
            memset(row, 0, (size_t)columns * sizeof *row);
            continue;
        }
        float top = t->top[(int64_t)column / TILE * t->chunk + i];
        cpu.simd->scale(row, weight * (float)exp((double)top - t->lse[i]), columns);
        if (label >= column && label < column + columns)
            row[label - column] -= weight;
    }
}

static void gradient_part(void *arg, int part, int parts)
{
    const struct loss *t = arg;
    const struct head_loss *a = t->a;
    (void)parts;
    for (int32_t tile = 0; tile < t->slice / TILE; tile++) {
        int32_t column = part * t->slice + tile * TILE, columns = a->count - column < TILE ? a->count - column : TILE;
        if (columns <= 0)
            break;
        float *g = tile_at(t, part, tile);
        int64_t at = (int64_t)(a->first + column) * t->d;
        tile_gradient(t, g, column, columns);
        cpu_sgemm(&(struct sgemm){false, false, t->rows, t->d, columns, 1.0f, g, TILE, a->head->master + at, t->d, tile > 0 ? 1.0f : 0.0f,
                                  dx_of(t, part), t->d, false});
        if (a->head->grad)
            cpu_sgemm(&(struct sgemm){true, false, columns, t->d, t->rows, 1.0f, g, TILE, t->x, t->d, 1.0f, a->head->grad + at, t->d,
                false});
    }
}

static void dx_part(void *arg, int part, int parts)
{
    const struct loss *t = arg;
    struct span s = pool_span(t->rows, 1, part, parts);
    int owners = (t->a->count + t->slice - 1) / t->slice;
    for (int64_t i = s.begin; i < s.end; i++) {
        float *y = act_data(t->a->dx) + (int64_t)source_row(t->a, t->first + (int32_t)i) * t->d;
        memcpy(y, dx_of(t, 0) + i * t->d, (size_t)t->d * sizeof *y);
        for (int owner = 1; owner < owners; owner++)
            cpu.simd->axpy(y, 1.0f, dx_of(t, owner) + i * t->d, t->d);
    }
}

static double chunk_loss(const struct loss *t)
{
    double total = 0;
    for (int32_t i = 0; i < t->rows; i++) {
        bool counted = t->a->labels[t->first + i] >= 0;
        double loss = counted ? (double)t->lse[i] - (double)t->label[i] : 0.0;
        if (t->a->row_loss)
            t->a->row_loss[t->first + i] = (float)loss;
        total += loss;
    }
    return total;
}

static double run_chunk(struct loss *t, int parts)
{
    pool_run(gather_part, t, parts);
    pool_run(logits_part, t, parts);
    pool_run(join_part, t, parts);
    if (t->a->dx) {
        pool_run(gradient_part, t, parts);
        pool_run(dx_part, t, parts);
    }
    return chunk_loss(t);
}

/* As many rows as fit: exponentials and dx in a thread's block; x, maxima and sums in the shared one. */
static int32_t chunk_rows(const struct loss *t, int parts)
{
    int64_t panels = (TILE + 64) * ((int64_t)t->d + 16);
    int64_t tiles = (int64_t)t->slice / TILE * parts, own = (CPU_SCRATCH - panels) / ((int64_t)t->slice + t->d + 16);
    int64_t both = CPU_SCRATCH / (t->d + 2 * tiles + 2) - 16, most = own < both ? own : both;
    CHECK(most >= 1);
    most = most < CHUNK_MOST ? most : CHUNK_MOST;
    return t->a->n < most ? t->a->n : (int32_t)most;
}

void cpu_head_loss(const struct head_loss *a)
{
    struct loss t = {.a = a, .d = a->head->cols};
    int parts = parts_for(a->count, (int64_t)(a->n < 256 ? a->n : 256) * t.d / 8);
    t.slice = round_up((a->count + parts - 1) / parts, TILE);
    double total = 0;
    if (a->n > 0) {
        struct arena shared = {cpu.shared, 0};
        t.chunk = chunk_rows(&t, parts);
        int64_t tiles = (int64_t)t.slice / TILE * parts;
        t.x = arena_take(&shared, (int64_t)t.chunk * t.d);
        t.top = arena_take(&shared, tiles * t.chunk);
        t.sum = arena_take(&shared, tiles * t.chunk);
        t.label = arena_take(&shared, t.chunk);
        t.lse = arena_take(&shared, t.chunk);
    }
    for (t.first = 0; t.first < a->n; t.first += t.chunk) {
        t.rows = a->n - t.first < t.chunk ? a->n - t.first : t.chunk;
        total += run_chunk(&t, parts);
    }
    *a->loss = (float)(a->weight * total);
}
