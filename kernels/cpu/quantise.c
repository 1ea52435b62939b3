/* quantise.c: softmax over a codebook, its expectation, the hard code, and the straight-through gradient.
 *
 * Rows are divided over the threads and go in chunks that fit scratch. Scores are computed by our own product (codebook rows as left
 * operand, the rows of h transposed), in which equal codebook rows give equal bits: so "lowest index on a tie" is meant exactly. In the
 * backward pass a thread first computes P (dP - sum P dP) for its rows, then, for the gradient of the codebook, owns a slice of the CODES
 * and walks all rows of the chunk in order. */
#include <string.h>

#include "cpu.h"

enum { ROWS = 64, CODES = 480 };

struct quant {
    const struct quantise *a;
    const float *dq;
    float *dh;
    float *ds;             /* [chunk, codes] in the shared block */
    int32_t first, rows;   /* of the chunk */
    int32_t d;
};

static const float *book_of(const struct quantise *a)
{
    return a->book->master + (int64_t)a->first * a->book->cols;
}

/* y[rows, codes] = x . E^T for up to ROWS rows. */
static void book_scores(const struct quantise *a, struct arena scratch, float *y, const float *x, int32_t rows)
{
    int32_t d = a->book->cols, lanes = cpu.simd->lanes, width = round_up(rows, lanes);
    float *xt = arena_take(&scratch, (int64_t)d * width), *tile = arena_take(&scratch, (int64_t)CODES * width);
    cpu.simd->transpose(xt, width, x, d, rows, d);
    for (int32_t c = 0; c < a->codes; c += CODES) {
        int32_t codes = a->codes - c < CODES ? a->codes - c : CODES;
        cpu.simd->product(&(struct product){codes, width, d, book_of(a) + (int64_t)c * d, d, 1, xt, width, 2 * lanes, tile, width, 1.0f,
            0});
        for (int32_t i = 0; i < rows; i++)
            for (int32_t j = 0; j < codes; j++)
                y[(int64_t)i * a->codes + c + j] = tile[(int64_t)j * width + i];
    }
}

static void choose_codes(const struct quant *t, float *scores, int64_t first, int32_t rows)
{
    const struct quantise *a = t->a;
    for (int32_t i = 0; i < rows; i++) {
        float *s = scores + (int64_t)i * a->codes, top = cpu.simd->max(s, a->codes);
        int32_t code = 0;
        while (code < a->codes - 1 && s[code] != top)
            code++;
        a->code[first + i] = code;
        memcpy(act_data(a->q) + (first + i) * t->d, book_of(a) + (int64_t)code * t->d, (size_t)t->d * sizeof(float));
        cpu.simd->scale(s, a->inv_temperature, a->codes);
        float sum = cpu.simd->exp_sum(s, cpu.simd->max(s, a->codes), a->codes);
        cpu.simd->scale(s, 1.0f / sum, a->codes);
    }
}

static void forward_part(void *arg, int part, int parts)
{
    const struct quant *t = arg;
    const struct quantise *a = t->a;
    struct span s = pool_span(a->n, 1, part, parts);
    int64_t fits = CPU_SCRATCH / 2 / a->codes, step = fits < ROWS ? fits : ROWS;
    CHECK(step >= 1);
    for (int64_t i = s.begin; i < s.end; i += step) {
        int32_t rows = (int32_t)(s.end - i < step ? s.end - i : step);
        struct arena scratch = arena_of(part);
        float *p = a->p ? a->p + i * a->codes : arena_take(&scratch, (int64_t)rows * a->codes);
        book_scores(a, scratch, p, act_data(a->h) + i * t->d, rows);
        choose_codes(t, p, i, rows);
        if (a->soft)
            cpu_sgemm(&(struct sgemm){false, false, rows, t->d, a->codes, 1.0f, p, a->codes, book_of(a), t->d, 0.0f,
                                      a->soft + i * t->d, t->d, false});
    }
}

void cpu_quantise(const struct quantise *a)
{
    struct quant t = {.a = a, .d = a->book->cols};
    pool_run(forward_part, &t, parts_for(a->n, (int64_t)a->codes * t.d / 4));
}

/* Rows of the chunk: ds = inv_temperature * P (dP - sum P dP), dh += ds E. */
static void rows_part(void *arg, int part, int parts)
{
    const struct quant *t = arg;
    const struct quantise *a = t->a;
    struct span s = pool_span(t->rows, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i += ROWS) {
        int32_t rows = (int32_t)(s.end - i < ROWS ? s.end - i : ROWS);
        float *ds = t->ds + i * a->codes;
        book_scores(a, arena_of(part), ds, t->dq + (t->first + i) * t->d, rows);
        for (int32_t r = 0; r < rows; r++) {
            const float *p = a->p + (t->first + i + r) * a->codes;
            float *row = ds + (int64_t)r * a->codes, mean = cpu.simd->dot(p, row, a->codes);
            for (int32_t j = 0; j < a->codes; j++)
                row[j] = a->inv_temperature * p[j] * (row[j] - mean);
        }
        cpu_sgemm(&(struct sgemm){false, false, rows, t->d, a->codes, 1.0f, ds, a->codes, book_of(a), t->d, 1.0f,
                                  t->dh + (t->first + i) * t->d, t->d, false});
    }
}

/* Codes of this thread: dE += P^T dq + ds^T h. */
static void codes_part(void *arg, int part, int parts)
{
    const struct quant *t = arg;
    const struct quantise *a = t->a;
    struct span s = pool_span(a->codes, 16, part, parts);
    float *grad = a->book->grad + (a->first + s.begin) * t->d;
    struct sgemm g = {true, false, s.end - s.begin, t->d, t->rows, 1.0f, a->p + (int64_t)t->first * a->codes + s.begin, a->codes,
                      t->dq + (int64_t)t->first * t->d, t->d, 1.0f, grad, t->d, false};
    cpu_sgemm(&g);
    g.a = t->ds + s.begin;
    g.b = act_data(a->h) + (int64_t)t->first * t->d;
    cpu_sgemm(&g);
}

void cpu_quantise_backward(const struct quantise *a, const struct act *dq, struct act *dh)
{
    CHECK(a->p != NULL || a->n == 0);
    CHECK(a->codes <= CPU_SCRATCH);
    struct quant t = {.a = a, .dq = act_data(dq), .dh = act_data(dh), .ds = cpu.shared, .d = a->book->cols};
    int32_t chunk = CPU_SCRATCH / a->codes;
    for (t.first = 0; t.first < a->n; t.first += chunk) {
        t.rows = a->n - t.first < chunk ? a->n - t.first : chunk;
        int parts = parts_for(t.rows, (int64_t)a->codes * t.d / 4);
        pool_run(rows_part, &t, parts);
        if (a->book->grad)
            pool_run(codes_part, &t, parts);
    }
}
