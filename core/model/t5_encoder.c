/* t5_encoder.c: the encoder stack over a packed batch, forward and backward.
 *
 * Forward and backward name the same sublayers in opposite order; the details are in t5_sublayer.c. The encoder's output stays in its own slot
 * until the next t5_encode, since the decoder's backward pass still needs it. The gradient that arrives through cross-attention waits in
 * work->dencoded; t5_encode_backward adds what the caller brings. The two stacks draw their dropout from different halves of the seed. */
#include "t5_internal.h"

enum { STACK_ENCODER = 1 };

void t5_encode_load(struct t5 *m, struct t5_work *w, const struct t5_batch *b, int32_t tokens, int32_t longest)
{
    t5_side_load(m, &w->encoder, b, tokens, w->limits.encoder_tokens, w->limits.rows);
    CHECK(longest == 0 || longest >= w->encoder.rows.longest);
    if (longest > 0)
        w->encoder.rows.longest = longest;
}

void t5_encode(struct t5 *m, struct t5_work *w, const struct t5_batch *b, uint64_t dropout_seed)
{
    t5_side_load(m, &w->encoder, b, b->offsets[b->count], w->limits.encoder_tokens, w->limits.rows);
    t5_encode_run(m, w, dropout_seed);
}

void t5_encode_run(struct t5 *m, struct t5_work *w, uint64_t dropout_seed)
{
    struct t5_side *side = &w->encoder;
    const struct t5_stack *s = &m->encoder;
    side->seed = dropout_seed ? mix64(dropout_seed, STACK_ENCODER) : 0;
    w->cross_grad = false;
    const struct t5_pass p = t5_pass_of(m, w, side);
    struct act *r = side->layer[0].r_self;
    m->be->embed(r, m->shared, side->tokens, p.n, t5_drop(&p, 0, SITE_EMBED));
    for (int32_t i = 0; i < s->layers; i++) {
        const struct t5_acts *a = &side->layer[i];
        struct dropout drop = t5_drop(&p, i - 1, SITE_FF_OUT);
        t5_join(&p, &(struct t5_join){a->r_self, a->y_self, r, i ? w->sub : NULL, &s->layer[i].self_norm, i ? drop : (struct dropout){0}});
        t5_self_forward(&p, s, side, i);
        t5_join(&p, &(struct t5_join){a->r_ff, a->y_ff, a->r_self, w->sub, &s->layer[i].ff_norm, t5_drop(&p, i, SITE_SELF_OUT)});
        t5_ff_forward(&p, &s->layer[i], a, i);
        r = a->r_ff;
    }
    t5_final(&p, s, side);
}

const struct act *t5_encoded(const struct t5_work *w)
{
    return w->encoder.out;
}

struct rows t5_encoded_rows(const struct t5_work *w)
{
    return w->encoder.rows;
}

void t5_encode_backward(struct t5 *m, struct t5_work *w, const struct act *dencoded)
{
    CHECK(m->train && w->limits.train);
    struct t5_side *side = &w->encoder;
    const struct t5_stack *s = &m->encoder;
    const struct t5_pass p = t5_pass_of(m, w, side);
    if (w->cross_grad && dencoded)
        m->be->axpy(w->dencoded, 1, dencoded, (int64_t)p.n * m->config.d_model);
    const struct act *dout = w->cross_grad ? w->dencoded : dencoded;
    w->cross_grad = false;
    if (!dout)
        return;
    t5_final_backward(&p, s, side, dout);
    for (int32_t i = s->layers; i-- > 0;) {
        t5_ff_backward(&p, &s->layer[i], &side->layer[i], i);
        t5_self_backward(&p, s, side, i);
    }
    m->be->embed_backward(m->shared, side->tokens, w->dr, p.n, t5_drop(&p, 0, SITE_EMBED));
}
