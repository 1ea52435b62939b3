/* t5_step.c: cached decode, one position at a time for the live beams of all requests.
 *
 * Nothing that is cached is ever moved. Cross keys and values are made once per request and shared by its beams: the beams of a request are
 * one row of queries in the attention op. Self keys and values of a position are written once, by decode_attention itself, at [layer,
 * position, beam row]; which row of an earlier position a beam descends from is a table of ancestors, anc[position][row], renewed at each
 * step from the parents by one small op: anc'[p][r] = anc[p][parent[r]] for p < position, anc'[position][r] = r. The two tables alternate,
 * as the op cannot work in place. No step waits for the host. A backend may take the layers of few rows as one op (decode_stack).
 *
 * Invariant: before step `position`, anc[(position + 1) & 1] describes the rows of position - 1. */
#include "t5_internal.h"

void t5_decode_begin(struct t5 *m, struct t5_work *w)
{
    CHECK(w->limits.positions > 0);
    m->be->linear(w->cross, w->encoder.out, m->cross_kv, w->encoder.rows.total, 1, 0);
    w->position = w->past = 0;
}

/* Cache of one layer: [positions, beam_rows, inner]. */
static struct act *cache_of(const struct t5_pass *p, const struct act *cache, int32_t layer)
{
    int64_t cells = (int64_t)p->w->limits.positions * p->w->limits.beam_rows;
    return p->be->act_at(cache, cells * layer * t5_inner(&p->m->config));
}

static struct decode_attention self_attention(const struct t5_pass *p, int32_t layer)
{
    struct t5_work *w = p->w;
    const struct t5_config *c = &p->m->config;
    const struct t5_acts *a = &w->step;
    int32_t inner = t5_inner(c);
    return (struct decode_attention){.heads = c->heads, .width = c->d_kv, .n = p->n, .position = w->position,
                                     .capacity = w->limits.beam_rows, .q = a->qkv, .k = p->be->act_at(a->qkv, inner),
                                     .v = p->be->act_at(a->qkv, 2 * inner), .q_stride = 3 * inner, .kv_stride = 3 * inner,
                                     .k_cache = cache_of(p, w->k_cache, layer), .v_cache = cache_of(p, w->v_cache, layer),
                                     .anc = w->anc[w->position & 1], .bias = p->m->decoder.bias.w, .buckets = c->buckets,
                                     .max_distance = c->max_distance, .past = w->past, .out = a->att};
}

static void self_step(const struct t5_pass *p, int32_t layer)
{
    const struct t5_acts *a = &p->w->step;
    const struct decode_attention d = self_attention(p, layer);
    p->be->linear(a->qkv, a->y_self, p->m->decoder.layer[layer].qkv, p->n, 1, 0);
    p->be->decode_attention(&d);
    t5_leave(p, a->r_self, a->att, p->m->decoder.layer[layer].out);
}

static void layer_step(const struct t5_pass *p, struct rows beams, int32_t i)
{
    const struct t5_layer *l = &p->m->decoder.layer[i];
    const struct t5_acts *a = &p->w->step;
    const struct dropout none = {0};
    t5_join(p, &(struct t5_join){a->r_self, a->y_self, a->r_ff, i ? p->w->sub : NULL, &l->self_norm, none});
    self_step(p, i);
    t5_join(p, &(struct t5_join){a->r_cross, a->y_cross, a->r_self, p->w->sub, &l->cross_norm, none});
    const struct attention cross = t5_cross_attention(p, a, beams, i);
    t5_cross_forward(p, l, a, &cross);
    t5_join(p, &(struct t5_join){a->r_ff, a->y_ff, a->r_cross, p->w->sub, &l->ff_norm, none});
    t5_ff_forward(p, l, a, i);
}

/* All layers and the last norm in one op; false where the backend does not. */
static bool whole_stack(const struct t5_pass *p, struct rows beams)
{
    const struct t5_config *c = &p->m->config;
    const struct t5_acts *a = &p->w->step;
    if (!p->be->decode_stack || !p->direct)
        return false;
    const struct decode_stack s = {.layers = c->decoder_layers, .d = c->d_model, .f = c->d_ff, .gated = c->gated, .eps = c->eps,
                                   .layer = p->m->step, .self = self_attention(p, 0), .cross = t5_cross_attention(p, a, beams, 0),
                                   .cache_step = (int64_t)p->w->limits.positions * p->w->limits.beam_rows * t5_inner(c),
                                   .cross_step = 2 * t5_inner(c), .x = a->r_self, .hidden = c->gated ? a->gate : a->hidden, .y = p->w->step_out,
                                   .final = p->m->decoder.final.w};
    return p->be->decode_stack(&s);
}

const struct act *t5_decode_step(struct t5 *m, struct t5_work *w, const int32_t *offsets, int32_t beams, const int32_t *tokens,
                                 const int32_t *parent)
{
    CHECK(w->position < w->limits.positions && beams <= w->limits.beam_rows);
    const struct t5_pass p = {.m = m, .w = w, .be = m->be, .n = beams, .direct = t5_direct(w, 0)};
    const struct rows rows = {.count = w->encoder.rows.count, .total = beams, .longest = beams, .offsets = offsets};
    m->be->ancestors(w->anc[w->position & 1], w->anc[(w->position + 1) & 1], parent, beams, w->position, w->limits.beam_rows);
    m->be->embed(w->step.r_self, m->shared, tokens, beams, (struct dropout){0});
    if (!whole_stack(&p, rows)) {
        for (int32_t i = 0; i < m->decoder.layers; i++)
            layer_step(&p, rows, i);
        t5_join(&p, &(struct t5_join){w->step_final, w->step_out, w->step.r_ff, w->sub, &m->decoder.final, (struct dropout){0}});
    }
    w->position++;
    w->past += beams;
    return w->step_out;
}
