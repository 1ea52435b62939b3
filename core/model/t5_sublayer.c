/* t5_sublayer.c: what a T5 layer is made of, forward and backward: join (residual + norm), self-attention, cross-attention, feed-forward.
 *
 * Forward, a sublayer reads the normed stream y and leaves its output in work->sub; the next join adds it (with its dropout) to the residual
 * stream and norms the sum in one op. Backward, work->dr carries the gradient of the residual stream from the top down: a sublayer first
 * takes its own share of it (dropout drawn again from the same seed), runs its products backward into work->dy, and adds the norm's gradient
 * to dr, which then is the gradient of the stream before the sublayer.
 *
 * Formulas: fixtures README, "T5 in formulas". Where nothing is dropped no copy is made for dropout. */
#include "t5_internal.h"

struct t5_pass t5_pass_of(const struct t5 *m, struct t5_work *w, const struct t5_side *side)
{
    return (struct t5_pass){.m = m, .w = w, .be = m->be, .n = side->rows.total, .seed = side->seed,
                            .direct = t5_direct(w, side->seed)};
}

bool t5_direct(const struct t5_work *w, uint64_t seed)
{
    return !w->be->has_host_memory && !w->limits.train && seed == 0;
}

void t5_leave(const struct t5_pass *p, struct act *r, const struct act *x, const struct weight *w)
{
    p->be->linear(p->direct ? r : p->w->sub, x, w, p->n, 1, p->direct ? LINEAR_ACCUMULATE : 0);
}

struct dropout t5_drop(const struct t5_pass *p, int32_t layer, enum t5_site site)
{
    if (p->seed == 0)
        return (struct dropout){0};
    return (struct dropout){.rate = p->m->config.dropout, .seed = mix64(p->seed, (uint64_t)layer * SITES + site)};
}

void t5_join(const struct t5_pass *p, const struct t5_join *j)
{
    p->be->add_rmsnorm(j->r_out, j->y, j->r_in, p->direct ? NULL : j->sub, j->norm->w, p->n, p->m->config.d_model, p->m->config.eps, j->drop);
}

/* dr += gradient through the norm of stream r; dy is the gradient of its output. */
static void norm_backward(const struct t5_pass *p, const struct t5_vector *norm, const struct act *dy, const struct act *r)
{
    p->be->rmsnorm_backward(p->w->dr, norm->grad, dy, r, norm->w, p->n, p->m->config.d_model, p->m->config.eps);
}

/* The gradient of a tensor that was dropped: dx itself when nothing was, else a dropped copy in `copy`. */
static const struct act *undrop(const struct t5_pass *p, struct act *copy, const struct act *dx, struct dropout drop)
{
    if (drop.rate == 0)
        return dx;
    p->be->dropout(copy, dx, (int64_t)p->n * p->m->config.d_model, drop);
    return copy;
}

/* ---- the end of a stack: last join, dropout ---- */

static int32_t last_layer(const struct t5_stack *s)
{
    return s->layers - 1;
}

void t5_final(const struct t5_pass *p, const struct t5_stack *s, struct t5_side *side)
{
    int32_t last = last_layer(s);
    struct dropout drop = t5_drop(p, last, SITE_FINAL);
    t5_join(p, &(struct t5_join){side->r_final, side->out, side->layer[last].r_ff, p->w->sub, &s->final, t5_drop(p, last, SITE_FF_OUT)});
    if (drop.rate > 0)
        p->be->dropout(side->out, side->out, (int64_t)p->n * p->m->config.d_model, drop);
}

void t5_final_backward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, const struct act *dout)
{
    p->be->act_zero(p->w->dr, (int64_t)p->n * p->m->config.d_model);
    norm_backward(p, &s->final, undrop(p, p->w->dy, dout, t5_drop(p, last_layer(s), SITE_FINAL)), side->r_final);
}

/* ---- self-attention ---- */

struct attention t5_self_attention(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer)
{
    const struct t5_config *c = &p->m->config;
    const struct t5_acts *a = &side->layer[layer];
    int32_t inner = t5_inner(c);
    bool decoder = s == &p->m->decoder;
    return (struct attention){.heads = c->heads, .width = c->d_kv, .q_rows = side->rows, .k_rows = side->rows,
                              .q = a->qkv, .k = p->be->act_at(a->qkv, inner), .v = p->be->act_at(a->qkv, 2 * inner),
                              .q_stride = 3 * inner, .k_stride = 3 * inner, .v_stride = 3 * inner,
                              .bias = s->bias.w, .buckets = c->buckets, .max_distance = c->max_distance,
                              .bidirectional = !decoder, .causal = decoder, .drop = t5_drop(p, layer, SITE_SELF_PROB),
                              .out = a->att, .lse = a->lse};
}

void t5_self_forward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer)
{
    const struct t5_layer *l = &s->layer[layer];
    const struct t5_acts *a = &side->layer[layer];
    p->be->linear(a->qkv, a->y_self, l->qkv, p->n, 1, 0);
    const struct attention att = t5_self_attention(p, s, side, layer);
    p->be->attention(&att);
    t5_leave(p, a->r_self, a->att, l->out);
}

void t5_self_backward(const struct t5_pass *p, const struct t5_stack *s, const struct t5_side *side, int32_t layer)
{
    const struct t5_layer *l = &s->layer[layer];
    const struct t5_acts *a = &side->layer[layer];
    struct t5_work *w = p->w;
    int32_t inner = t5_inner(&p->m->config);
    const struct act *dsub = undrop(p, w->dsub, w->dr, t5_drop(p, layer, SITE_SELF_OUT));
    p->be->linear_backward(w->datt, l->out, dsub, a->att, p->n, 0);
    const struct attention att = t5_self_attention(p, s, side, layer);
    const struct attention_grad g = {.dout = w->datt, .dq = w->dqkv, .dk = p->be->act_at(w->dqkv, inner),
                                     .dv = p->be->act_at(w->dqkv, 2 * inner), .dbias = s->bias.grad};
    p->be->attention_backward(&att, &g);
    p->be->linear_backward(w->dy, l->qkv, w->dqkv, a->y_self, p->n, 0);
    norm_backward(p, &l->self_norm, w->dy, a->r_self);
}

/* ---- cross-attention: keys and values of layer i are columns [i * 2 * inner, ..) of work->cross ---- */

struct attention t5_cross_attention(const struct t5_pass *p, const struct t5_acts *a, struct rows q_rows, int32_t layer)
{
    const struct t5_config *c = &p->m->config;
    int32_t inner = t5_inner(c), stride = 2 * inner * c->decoder_layers;
    int64_t at = (int64_t)layer * 2 * inner;
    return (struct attention){.heads = c->heads, .width = c->d_kv, .q_rows = q_rows, .k_rows = p->w->encoder.rows,
                              .q = a->cross_q, .k = p->be->act_at(p->w->cross, at), .v = p->be->act_at(p->w->cross, at + inner),
                              .q_stride = inner, .k_stride = stride, .v_stride = stride,
                              .buckets = c->buckets, .max_distance = c->max_distance, .drop = t5_drop(p, layer, SITE_CROSS_PROB),
                              .out = a->cross_att, .lse = a->cross_lse};
}

void t5_cross_forward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, const struct attention *att)
{
    p->be->linear(a->cross_q, a->y_cross, l->cross_q, p->n, 1, 0);
    p->be->attention(att);
    t5_leave(p, a->r_cross, a->cross_att, l->cross_out);
}

/* dk, dv go to their columns of work->dcross; the product back to the encoder's output is made once for all layers. */
void t5_cross_backward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer)
{
    struct t5_work *w = p->w;
    int32_t inner = t5_inner(&p->m->config);
    int64_t at = (int64_t)layer * 2 * inner;
    const struct act *dsub = undrop(p, w->dsub, w->dr, t5_drop(p, layer, SITE_CROSS_OUT));
    p->be->linear_backward(w->datt, l->cross_out, dsub, a->cross_att, p->n, 0);
    const struct attention att = t5_cross_attention(p, a, w->decoder.rows, layer);
    const struct attention_grad g = {.dout = w->datt, .dq = w->dqkv, .dk = p->be->act_at(w->dcross, at),
                                     .dv = p->be->act_at(w->dcross, at + inner)};
    p->be->attention_backward(&att, &g);
    p->be->linear_backward(w->dy, l->cross_q, w->dqkv, a->y_cross, p->n, 0);
    norm_backward(p, &l->cross_norm, w->dy, a->r_cross);
}

/* ---- feed-forward ---- */

void t5_ff_forward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer)
{
    int32_t f = p->m->config.d_ff;
    struct dropout drop = t5_drop(p, layer, SITE_FF_INNER);
    if (p->m->config.gated) {
        p->be->linear(a->gate, a->y_ff, l->wi, p->n, 1, 0);
        p->be->gated_gelu(a->hidden, a->gate, p->n, f, drop);
    } else {
        p->be->linear(a->hidden, a->y_ff, l->wi, p->n, 1, LINEAR_RELU);
        if (drop.rate > 0)
            p->be->dropout(a->hidden, a->hidden, (int64_t)p->n * f, drop);
    }
    t5_leave(p, a->r_ff, a->hidden, l->wo);
}

/* ReLU: hidden is kept after dropout, so "hidden > 0" says both that the unit was active and that it was kept. */
void t5_ff_backward(const struct t5_pass *p, const struct t5_layer *l, const struct t5_acts *a, int32_t layer)
{
    struct t5_work *w = p->w;
    int32_t f = p->m->config.d_ff;
    struct dropout drop = t5_drop(p, layer, SITE_FF_INNER);
    const struct act *dsub = undrop(p, w->dsub, w->dr, t5_drop(p, layer, SITE_FF_OUT));
    p->be->linear_backward(w->dhidden, l->wo, dsub, a->hidden, p->n, 0);
    struct act *dwi = w->dhidden;
    if (p->m->config.gated) {
        dwi = w->dgate;
        p->be->gated_gelu_backward(dwi, w->dhidden, a->gate, p->n, f, drop);
    } else {
        p->be->relu_backward(dwi, a->hidden, (int64_t)p->n * f, 1 / (1 - drop.rate));
    }
    p->be->linear_backward(w->dy, l->wi, dwi, a->y_ff, p->n, 0);
    norm_backward(p, &l->ff_norm, w->dy, a->r_ff);
}
