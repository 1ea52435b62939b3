/* hint.c: the reconstructor's attention, forward and backward.
 *
 * The score of key k depends on the target i only through bias and mask: q . k is computed once per (document, head, pass), and a tile of
 * scores [keys, 64 targets] is that number plus the bias by distance plus the mask. The mask of a tile (0 or -inf, [text tokens, 64]) is
 * drawn once and serves all heads and passes. Target i stands at position passes + i of the memory.
 * Documents are divided over the threads by m^2; a document belongs to one thread, so dK and dV are summed in one order. */
#include <math.h>
#include <string.h>

#include "pairs.h"

enum { TILE = 64 };

struct hint {
    const struct hint_attention *a;
    const struct hint_attention_grad *g; /* NULL in the forward pass */
    struct bias_table table;
    const float *bias;
    float *dbias[256];
};

struct hint_work {
    float *mask, *s, *dp, *dot, *score, *dscore, *lse, *top, *sum, *dbias;
    struct arena rest;
};

/* One document and head: pointers at the head's first column. */
struct hint_pair {
    int32_t head, document, text, keys;
    const float *q, *k, *v;
    struct operand v_right;
};

static struct hint_work work_of(const struct hint *t, int part)
{
    struct hint_work w = {.rest = arena_of(part)};
    int64_t tile = (int64_t)t->table.keys * TILE, bias = bias_length(&t->table) * t->a->heads;
    w.mask = arena_take(&w.rest, tile);
    w.s = arena_take(&w.rest, tile);
    w.score = arena_take(&w.rest, t->table.keys);
    w.top = arena_take(&w.rest, TILE);
    w.sum = arena_take(&w.rest, TILE);
    if (!t->g)
        return w;
    w.dp = arena_take(&w.rest, tile);
    w.dot = arena_take(&w.rest, (int64_t)t->a->width * TILE);
    w.dscore = arena_take(&w.rest, t->table.keys);
    w.lse = arena_take(&w.rest, TILE);
    w.dbias = arena_take(&w.rest, bias);
    memset(w.dbias, 0, (size_t)bias * sizeof *w.dbias);
    return w;
}

/* mask[j, i - first] = 0 where text token j is visible to target i, else -inf; lanes beyond `count` see everything, and are not used. */
static void draw_mask(const struct hint *t, float *mask, int32_t b, int32_t first, int32_t count)
{
    const struct hint_attention *a = t->a;
    int32_t m = a->text_rows.offsets[b + 1] - a->text_rows.offsets[b], width = round_up(count, cpu.simd->lanes);
    if (!a->visible) {
        struct dropout drop = {a->ratio, mix64(a->seed, a->doc_key[b])};
        cpu.simd->hints(&(struct keep_tile){mask, m, width, (uint64_t)first * 65536, drop});
        for (int32_t i = 0; i < count; i++)
            mask[(int64_t)(first + i) * width + i] = -INFINITY;
        return;
    }
    memset(mask, 0, (size_t)m * (size_t)width * sizeof *mask);
    for (int32_t i = 0; i < count; i++) {
        const uint8_t *visible = a->visible + a->visible_offsets[b] + (int64_t)(first + i) * m;
        for (int32_t j = 0; j < m; j++)
            mask[(int64_t)j * width + i] = visible[j] ? 0.0f : -INFINITY;
    }
}

static struct hint_pair pair_of(const struct hint *t, int32_t b, int32_t head, struct arena *rest)
{
    const struct hint_attention *a = t->a;
    int32_t k = a->memory_rows.offsets[b], m = a->text_rows.offsets[b + 1] - a->text_rows.offsets[b];
    const float *v = act_data(a->v) + (int64_t)k * a->v_stride + head * a->width;
    return (struct hint_pair){head, b, m, m + a->passes,
                              act_data(a->q) + (int64_t)b * a->passes * a->heads * a->width + head * a->width,
                              act_data(a->k) + (int64_t)k * a->k_stride + head * a->width, v,
                              operand_of(rest, v, a->v_stride, m + a->passes, a->width)};
}

/* The tile of scores of targets first.. of one pass. */
static void fill_scores(const struct hint *t, const struct hint_work *w, const struct hint_pair *p, int32_t pass, int32_t first,
    int32_t width)
{
    const struct hint_attention *a = t->a;
    const float *q = p->q + (int64_t)pass * a->heads * a->width;
    const float *bias = t->bias ? t->bias + p->head * bias_length(&t->table) + t->table.keys - 1 + a->passes + first : NULL;
    for (int32_t k = 0; k < p->keys; k++)
        w->score[k] = cpu.simd->dot(q, p->k + (int64_t)k * a->k_stride, a->width);
    cpu.simd->hint_scores(&(struct hint_tile){w->s, w->score, bias, w->mask, p->keys, a->passes, width});
}

static int64_t out_token(const struct hint_attention *a, const struct hint_pair *p, int32_t pass, int32_t first)
{
    return (int64_t)pass * a->text_rows.total + a->text_rows.offsets[p->document] + first;
}

static void forward_tile(const struct hint *t, const struct hint_work *w, const struct hint_pair *p, int32_t pass, int32_t first,
    int32_t count)
{
    const struct hint_attention *a = t->a;
    int32_t lanes = cpu.simd->lanes, width = round_up(count, lanes);
    int64_t token = out_token(a, p, pass, first), row = (int64_t)a->heads * a->width,
        lse = (int64_t)p->head * a->passes * a->text_rows.total;
    float *y = act_data(a->out) + token * row + p->head * a->width;
    fill_scores(t, w, p, pass, first, width);
    cpu.simd->columns(&(struct columns){w->s, p->keys, width, NULL, w->top, w->sum});
    cpu.simd->product(&(struct product){count, a->width, p->keys, w->s, 1, width, p->v_right.data, p->v_right.stride, 2 * lanes, y, row,
                                        1.0f, 0});
    for (int32_t i = 0; i < count; i++) {
        cpu.simd->scale(y + i * row, 1.0f / w->sum[i], a->width);
        if (a->lse)
            a->lse[lse + token + i] = w->top[i] + logf(w->sum[i]);
    }
}

/* Sums of dS over the targets are the gradient of the score: dq += ds . K, dK += ds q. */
static void score_grads(const struct hint *t, const struct hint_work *w, const struct hint_pair *p, int32_t pass, int32_t width)
{
    const struct hint_attention *a = t->a;
    int64_t q_row = (int64_t)a->heads * a->width, at = p->q - act_data(a->q) + pass * q_row;
    float *dk = act_data(t->g->dk) + (p->k - act_data(a->k));
    cpu.simd->row_sums(w->dscore, w->dp, p->keys, width);
    for (int32_t k = 0; k < p->keys; k++) {
        cpu.simd->axpy(act_data(t->g->dq) + at, w->dscore[k], p->k + (int64_t)k * a->k_stride, a->width);
        cpu.simd->axpy(dk + (int64_t)k * a->k_stride, w->dscore[k], p->q + pass * q_row, a->width);
    }
}

static void backward_tile(const struct hint *t, const struct hint_work *w, const struct hint_pair *p, int32_t pass, int32_t first,
                          int32_t count)
{
    const struct hint_attention *a = t->a;
    int32_t lanes = cpu.simd->lanes, width = round_up(count, lanes);
    int64_t token = out_token(a, p, pass, first), row = (int64_t)a->heads * a->width, at = token * row + p->head * a->width;
    const float *dout = act_data(t->g->dout) + at, *lse = a->lse + (int64_t)p->head * a->passes * a->text_rows.total + token;
    struct arena rest = w->rest;
    struct operand dout_right = operand_of(&rest, dout, row, count, a->width);
    for (int32_t i = 0; i < width; i++)
        w->lse[i] = i < count ? lse[i] : INFINITY;
    fill_scores(t, w, p, pass, first, width);
    cpu.simd->transpose(w->dot, width, dout, row, count, a->width);
    cpu.simd->product(&(struct product){p->keys, width, a->width, p->v, a->v_stride, 1, w->dot, width, 2 * lanes, w->dp, width, 1.0f, 0});
    float *dbias = w->dbias + p->head * bias_length(&t->table) + t->table.keys - 1 + a->passes + first;
    cpu.simd->columns_grad(&(struct columns_grad){w->s, w->dp, p->keys, width, NULL, w->lse, NULL, dbias});
    cpu.simd->product(&(struct product){p->keys, a->width, count, w->s, width, 1, dout_right.data, dout_right.stride, 2 * lanes,
                                        act_data(t->g->dv) + (p->v - act_data(a->v)), a->v_stride, 1.0f, PRODUCT_ADD});
    score_grads(t, w, p, pass, width);
}

static void clear_document(const struct hint *t, int32_t b)
{
    const struct hint_attention *a = t->a;
    int64_t row = (int64_t)a->heads * a->width;
    memset(act_data(t->g->dq) + b * a->passes * row, 0, (size_t)(a->passes * row) * sizeof(float));
    for (int32_t k = a->memory_rows.offsets[b]; k < a->memory_rows.offsets[b + 1]; k++) {
        memset(act_data(t->g->dk) + (int64_t)k * a->k_stride, 0, (size_t)row * sizeof(float));
        memset(act_data(t->g->dv) + (int64_t)k * a->v_stride, 0, (size_t)row * sizeof(float));
    }
}

static void hint_document(const struct hint *t, const struct hint_work *w, int32_t b)
{
    const struct hint_attention *a = t->a;
    int32_t m = a->text_rows.offsets[b + 1] - a->text_rows.offsets[b];
    if (t->g)
        clear_document(t, b);
    for (int32_t first = 0; first < m; first += TILE) {
        int32_t count = m - first < TILE ? m - first : TILE;
        draw_mask(t, w->mask, b, first, count);
        for (int32_t head = 0; head < a->heads; head++) {
            struct hint_work inner = *w;
            struct hint_pair p = pair_of(t, b, head, &inner.rest);
            for (int32_t pass = 0; pass < a->passes; pass++)
                (t->g ? backward_tile : forward_tile)(t, &inner, &p, pass, first, count);
        }
    }
}

static void hint_part(void *arg, int part, int parts)
{
    struct hint *t = arg;
    struct hint_work w = work_of(t, part);
    struct pairs p = {.q = t->a->text_rows, .k = t->a->memory_rows, .heads = 1, .part = part, .parts = parts};
    t->dbias[part] = w.dbias;
    for (pairs_first(&p); p.row < p.q.count; pairs_next(&p))
        hint_document(t, &w, p.row);
}

static void run(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    int32_t keys = rows_longest(a->memory_rows);
    struct hint t = {a, g, {a->bias, a->heads, a->buckets, a->max_distance, true, false, keys, keys}, NULL, {0}};
    CHECK(bias_length(&t.table) * a->heads <= CPU_SCRATCH);
    if (a->bias) {
        bias_expand(cpu.shared, &t.table);
        t.bias = cpu.shared;
    }
    int parts = pairs_parts(a->text_rows, a->memory_rows, a->heads * a->passes, a->width);
    parts = parts < a->text_rows.count ? parts : a->text_rows.count;
    pool_run(hint_part, &t, parts > 0 ? parts : 1);
    if (g && g->dbias && keys > 0)
        bias_reduce(g->dbias, t.dbias, parts > 0 ? parts : 1, &t.table);
}

void cpu_hint_attention(const struct hint_attention *a)
{
    run(a, NULL);
}

void cpu_hint_attention_backward(const struct hint_attention *a, const struct hint_attention_grad *g)
{
    run(a, g);
}
