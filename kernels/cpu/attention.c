/* attention.c: attention over packed rows, one (row, head) pair at a time.
 *
 * A pair takes its queries in tiles of up to 64. The tile of scores is kept transposed, [keys, queries] (simd.h): K is the left operand as
 * it lies, the transposed queries are the right one, the softmax runs down the columns with queries in the lanes, and the transposed
 * probabilities are again a left operand against V as it lies. So nothing but the queries is moved, a row of 1,024 keys needs 256 KiB, and
 * bias and causal mask are one load from a table by distance. Normalisation is done on the output tile. Pairs are divided over the threads
 * by cost; every pair is computed by one thread in one order, so equal rows give equal bits. */
#include <math.h>
#include <string.h>

#include "pairs.h"

enum { TILE = 64 };

struct attend {
    const struct attention *a;
    struct bias_table table;
    const float *bias; /* expanded, or NULL */
};

struct pair_work { /* scratch of one thread */
    float *qt, *s, *keep, *top, *sum;
    struct arena rest;
};

static struct pair_work work_of(const struct attend *t, int part)
{
    struct pair_work w = {.rest = arena_of(part)};
    w.qt = arena_take(&w.rest, (int64_t)t->a->width * TILE);
    w.s = arena_take(&w.rest, (int64_t)t->table.keys * TILE);
    w.keep = t->a->drop.rate > 0.0f ? arena_take(&w.rest, (int64_t)t->table.keys * TILE) : NULL;
    w.top = arena_take(&w.rest, TILE);
    w.sum = arena_take(&w.rest, TILE);
    return w;
}

static void drop_tile(const struct attend *t, const struct pair_work *w, int32_t head, int32_t token, int32_t keys, int32_t width)
{
    if (!w->keep)
        return;
    uint64_t index = ((uint64_t)head * (uint64_t)t->a->q_rows.total + (uint64_t)token) * 65536;
    cpu.simd->keep(&(struct keep_tile){w->keep, keys, width, index, t->a->drop});
    cpu.simd->multiply(w->s, w->keep, (int64_t)keys * width);
}

/* Queries first..first + count of a pair: token numbers start at the row's first. */
struct pair_tile {
    int32_t head, q_first, first, count, keys;
    const float *k;
    struct operand v;
};

static void finish_tile(const struct attend *t, const struct pair_work *w, const struct pair_tile *p)
{
    const struct attention *a = t->a;
    int32_t token = p->q_first + p->first;
    for (int32_t i = 0; i < p->count; i++) {
        float *y = act_data(a->out) + ((int64_t)(token + i) * a->heads + p->head) * a->width;
        cpu.simd->scale(y, 1.0f / w->sum[i], a->width);
        if (a->lse)
            a->lse[(int64_t)p->head * a->q_rows.total + token + i] = w->top[i] + logf(w->sum[i]);
    }
}

static void attend_tile(const struct attend *t, const struct pair_work *w, const struct pair_tile *p)
{
    const struct attention *a = t->a;
    int32_t lanes = cpu.simd->lanes, width = round_up(p->count, lanes), token = p->q_first + p->first;
    int32_t keys = a->causal && p->first + p->count < p->keys ? p->first + p->count : p->keys;
    int64_t out_row = (int64_t)a->heads * a->width;
    cpu.simd->transpose(w->qt, width, act_data(a->q) + (int64_t)token * a->q_stride + p->head * a->width, a->q_stride, p->count, a->width);
    cpu.simd->product(&(struct product){keys, width, a->width, p->k, a->k_stride, 1, w->qt, width, 2 * lanes, w->s, width, 1.0f, 0});
    const float *bias = t->bias ? t->bias + p->head * bias_length(&t->table) + t->table.keys - 1 + p->first : NULL;
    cpu.simd->columns(&(struct columns){w->s, keys, width, bias, w->top, w->sum});
    drop_tile(t, w, p->head, token, keys, width);
    cpu.simd->product(&(struct product){p->count, a->width, keys, w->s, 1, width, p->v.data, p->v.stride, 2 * lanes,
                                        act_data(a->out) + token * out_row + p->head * a->width, out_row, 1.0f, 0});
    finish_tile(t, w, p);
}

static void attend_nothing(const struct attention *a, int32_t head, int32_t first, int32_t end)
{
    for (int32_t i = first; i < end; i++) {
        memset(act_data(a->out) + ((int64_t)i * a->heads + head) * a->width, 0, (size_t)a->width * sizeof(float));
        if (a->lse)
            a->lse[(int64_t)head * a->q_rows.total + i] = 0.0f;
    }
}

static void attend_part(void *arg, int part, int parts)
{
    const struct attend *t = arg;
    const struct attention *a = t->a;
    struct pair_work w = work_of(t, part);
    struct pairs p = {.q = a->q_rows, .k = a->k_rows, .heads = a->heads, .part = part, .parts = parts};
    for (pairs_first(&p); p.row < p.q.count; pairs_next(&p)) {
        int32_t q = p.q.offsets[p.row], k = p.k.offsets[p.row], queries = p.q.offsets[p.row + 1] - q, keys = p.k.offsets[p.row + 1] - k;
        struct arena rest = w.rest;
        const float *v = act_data(a->v) + (int64_t)k * a->v_stride + p.head * a->width;
        struct pair_tile tile = {p.head, q, 0, 0, keys, act_data(a->k) + (int64_t)k * a->k_stride + p.head * a->width,
                                 operand_of(&rest, v, a->v_stride, keys, a->width)};
        if (keys == 0)
            attend_nothing(a, p.head, q, q + queries);
        for (; keys > 0 && tile.first < queries; tile.first += TILE) {
            tile.count = queries - tile.first < TILE ? queries - tile.first : TILE;
            attend_tile(t, &w, &tile);
        }
    }
}

void cpu_attention(const struct attention *a)
{
    struct attend t = {a, {a->bias, a->heads, a->buckets, a->max_distance, a->bidirectional, a->causal, rows_longest(a->q_rows),
                           rows_longest(a->k_rows)}, NULL};
    if (t.table.queries == 0)
        return;
    if (a->bias || a->causal) {
        CHECK(bias_length(&t.table) * a->heads <= CPU_SCRATCH);
        bias_expand(cpu.shared, &t.table);
        t.bias = cpu.shared;
    }
    pool_run(attend_part, &t, pairs_parts(a->q_rows, a->k_rows, a->heads, a->width));
}
