/* t5_decoder.c: the decoder stack over whole target rows (teacher forcing), forward and backward.
 *
 * Keys and values of all cross-attentions are one product of the encoder's output, [S, layers * 2 * inner]; each layer reads its columns. Back-
 * ward the same: every layer writes its columns of the gradient, and one product carries them back to the encoder's output and to the weights.
 * Every row of the batch attends the encoder row of the same number; an empty encoder row contributes nothing.
 *
 * Invariant: work->cross belongs to the last t5_encode; t5_decode and t5_decode_begin both (re)make it. */
#include "t5_internal.h"

enum { STACK_DECODER = 2 };

void t5_decode(struct t5 *m, struct t5_work *w, const struct t5_batch *b, uint64_t dropout_seed)
{
    struct t5_side *side = &w->decoder;
    const struct t5_stack *s = &m->decoder;
    t5_side_load(m, side, b, b->offsets[b->count], w->limits.decoder_tokens, w->limits.rows);
    CHECK(side->rows.count == w->encoder.rows.count);
    side->seed = dropout_seed ? mix64(dropout_seed, STACK_DECODER) : 0;
    const struct t5_pass p = t5_pass_of(m, w, side);
    m->be->linear(w->cross, w->encoder.out, m->cross_kv, w->encoder.rows.total, 1, 0);
    struct act *r = side->layer[0].r_self;
    m->be->embed(r, m->shared, side->tokens, p.n, t5_drop(&p, 0, SITE_EMBED));
    for (int32_t i = 0; i < s->layers; i++) {
        const struct t5_layer *l = &s->layer[i];
        const struct t5_acts *a = &side->layer[i];
        struct dropout drop = t5_drop(&p, i - 1, SITE_FF_OUT);
        t5_join(&p, &(struct t5_join){a->r_self, a->y_self, r, i ? w->sub : NULL, &l->self_norm, i ? drop : (struct dropout){0}});
        t5_self_forward(&p, s, side, i);
        t5_join(&p, &(struct t5_join){a->r_cross, a->y_cross, a->r_self, w->sub, &l->cross_norm, t5_drop(&p, i, SITE_SELF_OUT)});
        const struct attention cross = t5_cross_attention(&p, a, side->rows, i);
        t5_cross_forward(&p, l, a, &cross);
        t5_join(&p, &(struct t5_join){a->r_ff, a->y_ff, a->r_cross, w->sub, &l->ff_norm, t5_drop(&p, i, SITE_CROSS_OUT)});
        t5_ff_forward(&p, l, a, i);
        r = a->r_ff;
    }
    t5_final(&p, s, side);
}

const struct act *t5_decoded(const struct t5_work *w)
{
    return w->decoder.out;
}

void t5_decode_backward(struct t5 *m, struct t5_work *w, const struct act *ddecoded)
{
    CHECK(m->train && w->limits.train);
    struct t5_side *side = &w->decoder;
    const struct t5_stack *s = &m->decoder;
    const struct t5_pass p = t5_pass_of(m, w, side);
    t5_final_backward(&p, s, side, ddecoded);
    for (int32_t i = s->layers; i-- > 0;) {
        const struct t5_layer *l = &s->layer[i];
        const struct t5_acts *a = &side->layer[i];
        t5_ff_backward(&p, l, a, i);
        t5_cross_backward(&p, l, a, i);
        t5_self_backward(&p, s, side, i);
    }
    m->be->embed_backward(m->shared, side->tokens, w->dr, p.n, t5_drop(&p, 0, SITE_EMBED));
    m->be->linear_backward(w->dencoded, m->cross_kv, w->dcross, w->encoder.out, w->encoder.rows.total, 0);
    w->cross_grad = true;
}
