/* attention_backward.c: the gradient of attention.c, tile by tile, with the scores computed again.
 *
 * For a tile of queries: P^T from the kept log-sum-exp, dP^T = V dO^T, dS = P (dP - delta) with delta_i = sum_j P_ij dP_ij; then
 * dQ = dS K, dK += dS^T Q, dV += P^T dO, each a product whose operands already lie as needed. A (row, head) pair belongs to one thread, so
 * dK and dV are summed in tile order. The bias gradient is summed by distance in a table per thread and folded into buckets at the end, in
 * thread order. */
#include <math.h>
#include <string.h>

#include "pairs.h"

enum { TILE = 64 };

struct attend {
    const struct attention *a;
    const struct attention_grad *g;
    struct bias_table table;
    const float *bias;
    float *dbias[256]; /* per thread, or NULL */
};

struct pair_work {
    float *qt, *dot, *s, *dp, *keep, *lse, *dbias;
    struct arena rest;
};

static struct pair_work work_of(const struct attend *t, int part)
{
    struct pair_work w = {.rest = arena_of(part)};
    if (t->g->dbias) {
        w.dbias = arena_take(&w.rest, bias_length(&t->table) * t->a->heads);
        memset(w.dbias, 0, (size_t)(bias_length(&t->table) * t->a->heads) * sizeof *w.dbias);
    }
    w.qt = arena_take(&w.rest, (int64_t)t->a->width * TILE);
    w.dot = arena_take(&w.rest, (int64_t)t->a->width * TILE);
    w.s = arena_take(&w.rest, (int64_t)t->table.keys * TILE);
    w.dp = arena_take(&w.rest, (int64_t)t->table.keys * TILE);
    w.keep = t->a->drop.rate > 0.0f ? arena_take(&w.rest, (int64_t)t->table.keys * TILE) : NULL;
    w.lse = arena_take(&w.rest, TILE);
    return w;
}

/* One (row, head) pair: every pointer is at the head's first column of the row's first token. */
struct pair {
    int32_t head, q_first, queries, keys;
    const float *q, *k, *v, *out, *dout;
    float *dq, *dk, *dv;
    struct operand q_right, k_right, dout_right;
};

static struct pair pair_of(const struct attend *t, const struct pairs *p, struct arena *rest)
{
    const struct attention *a = t->a;
    int32_t q = p->q.offsets[p->row], k = p->k.offsets[p->row], column = p->head * a->width;
    int64_t out_row = (int64_t)a->heads * a->width, at_q = (int64_t)q * a->q_stride + column, at_out = q * out_row + column;
    int64_t at_k = (int64_t)k * a->k_stride + column, at_v = (int64_t)k * a->v_stride + column;
    struct pair y = {p->head, q, p->q.offsets[p->row + 1] - q, p->k.offsets[p->row + 1] - k, act_data(a->q) + at_q, act_data(a->k) + at_k,
                     act_data(a->v) + at_v, act_data(a->out) + at_out, act_data(t->g->dout) + at_out, act_data(t->g->dq) + at_q,
                     act_data(t->g->dk) + at_k, act_data(t->g->dv) + at_v, {0}, {0}, {0}};
    y.q_right = operand_of(rest, y.q, a->q_stride, y.queries, a->width);
    y.k_right = operand_of(rest, y.k, a->k_stride, y.keys, a->width);
    y.dout_right = operand_of(rest, y.dout, out_row, y.queries, a->width);
    return y;
}

static void clear(float *x, int64_t stride, int32_t rows, int32_t width)
{
    for (int32_t i = 0; i < rows; i++)
        memset(x + i * stride, 0, (size_t)width * sizeof *x);
}

/* Log-sum-exp of the tile's queries; unused lanes get probability 0. */
static void tile_facts(const struct attend *t, const struct pair_work *w, const struct pair *p, int32_t first, int32_t count)
{
    const struct attention *a = t->a;
    for (int32_t i = 0; i < TILE; i++) {
        bool used = i < count;
        w->lse[i] = used ? a->lse[(int64_t)p->head * a->q_rows.total + p->q_first + first + i] : INFINITY;
    }
}

/* The three products of dS and P of a tile: dQ, and (adding from the second tile on) dK and dV. */
static void tile_products(const struct attend *t, const struct pair_work *w, const struct pair *p, struct columns_grad *c, int32_t first,
                          int32_t count)
{
    const struct attention *a = t->a;
    int32_t lanes = cpu.simd->lanes, add = first > 0 ? PRODUCT_ADD : 0;
    cpu.simd->product(&(struct product){count, a->width, c->keys, w->dp, 1, c->width, p->k_right.data, p->k_right.stride, 2 * lanes,
                                        p->dq + (int64_t)first * a->q_stride, a->q_stride, 1.0f, 0});
    cpu.simd->product(&(struct product){c->keys, a->width, count, w->dp, c->width, 1, p->q_right.data + first * p->q_right.stride,
                                        p->q_right.stride, 2 * lanes, p->dk, a->k_stride, 1.0f, add});
    cpu.simd->product(&(struct product){c->keys, a->width, count, w->s, c->width, 1, p->dout_right.data + first * p->dout_right.stride,
                                        p->dout_right.stride, 2 * lanes, p->dv, a->v_stride, 1.0f, add});
}

static void backward_tile(const struct attend *t, const struct pair_work *w, const struct pair *p, int32_t first, int32_t count)
{
    const struct attention *a = t->a;
    int32_t lanes = cpu.simd->lanes, width = round_up(count, lanes);
    int64_t out_row = (int64_t)a->heads * a->width, at = p->head * bias_length(&t->table) + t->table.keys - 1 + first;
    struct columns_grad c = {w->s, w->dp, p->keys, width, t->bias ? t->bias + at : NULL, w->lse, w->keep,
                             w->dbias ? w->dbias + at : NULL};
    tile_facts(t, w, p, first, count);
    cpu.simd->transpose(w->qt, width, p->q + (int64_t)first * a->q_stride, a->q_stride, count, a->width);
    cpu.simd->transpose(w->dot, width, p->dout + first * out_row, out_row, count, a->width);
    cpu.simd->product(&(struct product){p->keys, width, a->width, p->k, a->k_stride, 1, w->qt, width, 2 * lanes, w->s, width, 1.0f, 0});
    cpu.simd->product(&(struct product){p->keys, width, a->width, p->v, a->v_stride, 1, w->dot, width, 2 * lanes, w->dp, width, 1.0f, 0});
    if (w->keep) {
        uint64_t index = ((uint64_t)p->head * (uint64_t)a->q_rows.total + (uint64_t)(p->q_first + first)) * 65536;
        cpu.simd->keep(&(struct keep_tile){w->keep, p->keys, width, index, a->drop});
    }
    cpu.simd->columns_grad(&c);
    tile_products(t, w, p, &c, first, count);
}

static void backward_part(void *arg, int part, int parts)
{
    struct attend *t = arg;
    struct pair_work w = work_of(t, part);
    struct pairs p = {.q = t->a->q_rows, .k = t->a->k_rows, .heads = t->a->heads, .part = part, .parts = parts};
    t->dbias[part] = w.dbias;
    for (pairs_first(&p); p.row < p.q.count; pairs_next(&p)) {
        struct arena rest = w.rest;
        struct pair pair = pair_of(t, &p, &rest);
        if (pair.keys == 0)
            clear(pair.dq, t->a->q_stride, pair.queries, t->a->width);
        if (pair.queries == 0) {
            clear(pair.dk, t->a->k_stride, pair.keys, t->a->width);
            clear(pair.dv, t->a->v_stride, pair.keys, t->a->width);
        }
        for (int32_t first = 0; pair.keys > 0 && first < pair.queries; first += TILE)
            backward_tile(t, &w, &pair, first, pair.queries - first < TILE ? pair.queries - first : TILE);
    }
}

void cpu_attention_backward(const struct attention *a, const struct attention_grad *g)
{
    struct attend t = {a, g, {a->bias, a->heads, a->buckets, a->max_distance, a->bidirectional, a->causal, rows_longest(a->q_rows),
                              rows_longest(a->k_rows)}, NULL, {0}};
    if (a->bias || a->causal) {
        CHECK(bias_length(&t.table) * a->heads <= CPU_SCRATCH);
        bias_expand(cpu.shared, &t.table);
        t.bias = cpu.shared;
    }
    int parts = pairs_parts(a->q_rows, a->k_rows, a->heads, a->width);
    pool_run(backward_part, &t, parts);
    if (g->dbias && t.table.queries > 0 && t.table.keys > 0)
        bias_reduce(g->dbias, t.dbias, parts, &t.table);
}
