/* decode.c: one cached step of self-attention, keys and values found through the ancestor table.
 *
 * A beam has at most a few dozen positions, so this is a handful of dot products per (row, head): rows are divided over the threads, and
 * each is computed by the same loops in the same order, so beams with equal pasts get equal bits. A row's thread first puts the row's new
 * key and value into the cache; no other row reads them at this position. */
#include <string.h>

#include "cpu.h"

struct decode {
    const struct decode_attention *a;
    const float *bias; /* [position + 1, heads]: of key position p */
};

static void attend_head(const struct decode *t, int32_t row, int32_t head, float *scores)
{
    const struct decode_attention *a = t->a;
    int64_t width = (int64_t)a->heads * a->width, page = width * a->capacity;
    const float *q = act_data(a->q) + (int64_t)row * a->q_stride + head * a->width;
    for (int32_t p = 0; p <= a->position; p++) {
        int64_t at = p * page + a->anc[(int64_t)p * a->capacity + row] * width + head * a->width;
        scores[p] = cpu.simd->dot(q, act_data(a->k_cache) + at, a->width) + (t->bias ? t->bias[p * a->heads + head] : 0.0f);
    }
    float sum = cpu.simd->exp_sum(scores, cpu.simd->max(scores, a->position + 1), a->position + 1);
    float *y = act_data(a->out) + row * width + head * a->width;
    memset(y, 0, (size_t)a->width * sizeof *y);
    for (int32_t p = 0; p <= a->position; p++) {
        int64_t at = p * page + a->anc[(int64_t)p * a->capacity + row] * width + head * a->width;
        cpu.simd->axpy(y, scores[p] / sum, act_data(a->v_cache) + at, a->width);
    }
}

static void keep_new(const struct decode_attention *a, int64_t row)
{
    int64_t width = (int64_t)a->heads * a->width, at = ((int64_t)a->position * a->capacity + row) * width;
    memcpy(act_data(a->k_cache) + at, act_data(a->k) + row * a->kv_stride, (size_t)width * sizeof(float));
    memcpy(act_data(a->v_cache) + at, act_data(a->v) + row * a->kv_stride, (size_t)width * sizeof(float));
}

static void decode_part(void *arg, int part, int parts)
{
    const struct decode *t = arg;
    struct arena scratch = arena_of(part);
    float *scores = arena_take(&scratch, t->a->position + 1);
    struct span s = pool_span(t->a->n, 1, part, parts);
    for (int64_t row = s.begin; row < s.end; row++) {
        keep_new(t->a, row);
        for (int32_t head = 0; head < t->a->heads; head++)
            attend_head(t, (int32_t)row, head, scores);
    }
}

void cpu_decode_attention(const struct decode_attention *a)
{
    struct decode t = {a, a->bias ? cpu.shared : NULL};
    CHECK((int64_t)(a->position + 1) * a->heads <= CPU_SCRATCH);
    for (int32_t p = 0; a->bias && p <= a->position; p++) {
        int32_t bucket = attention_bucket(p - a->position, false, a->buckets, a->max_distance);
        memcpy(cpu.shared + (int64_t)p * a->heads, a->bias + (int64_t)bucket * a->heads, (size_t)a->heads * sizeof(float));
    }
    pool_run(decode_part, &t, parts_for(a->n, (int64_t)a->heads * (2 * a->width + 32) * (a->position + 1)));
}

void cpu_ancestors(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity)
{
    for (int32_t p = 0; p < position; p++)
        for (int32_t r = 0; r < n; r++)
            out[(int64_t)p * capacity + r] = in[(int64_t)p * capacity + parent[r]];
    for (int32_t r = 0; r < n; r++)
        out[(int64_t)position * capacity + r] = r;
}
