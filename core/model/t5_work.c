/* t5_work.c: cuts one arena of activations into the slots of a work.
 *
 * The layout runs twice: once without an arena to learn its size, once to hand out addresses; so the size asked for and the size used cannot
 * differ. Inference shares one set of slots between all layers, both stacks and the cached step, since only the residual stream and the two
 * stacks' outputs live longer than a sublayer. Training gives every layer its own set, because the backward pass reads all of them, and adds
 * the gradients' scratch, which both stacks share.
 *
 * A work belongs to one caller at a time; it owns the arena and the plain block. Sizes never change after init. */
#include "t5_internal.h"

#include "../base/mem.h"

#include <string.h>

enum { ALIGN = 32 }; /* elements: 64 bytes even in bf16 */

/* Hands out consecutive slots; without an arena it only counts. */
struct layout {
    const struct backend *be;
    struct act *arena;
    char *plain;
    int64_t elements;
    size_t bytes;
};

static struct act *slot(struct layout *l, int64_t rows, int64_t width)
{
    int64_t at = l->elements;
    l->elements += (rows * width + ALIGN - 1) / ALIGN * ALIGN;
    return l->arena ? l->be->act_at(l->arena, at) : NULL;
}

static void *plain(struct layout *l, int64_t count, size_t size)
{
    size_t at = l->bytes;
    l->bytes += ((size_t)count * size + 63) / 64 * 64;
    return l->plain ? l->plain + at : NULL;
}

struct shape {
    int64_t n; /* most tokens */
    bool decoder, keep;
};

/* One layer's slots. Inference (keep false): one residual, one normed, one attention output. */
static void place_layer(struct layout *l, const struct t5_config *c, const struct shape *p, struct t5_acts *a)
{
    int64_t n = p->n, d = c->d_model, inner = t5_inner(c);
    a->r_self = slot(l, n, d);
    a->y_self = slot(l, n, d);
    a->qkv = slot(l, n, 3 * inner);
    a->att = slot(l, n, inner);
    a->r_ff = p->keep ? slot(l, n, d) : a->r_self;
    a->y_ff = p->keep ? slot(l, n, d) : a->y_self;
    a->gate = c->gated ? slot(l, n, 2 * (int64_t)c->d_ff) : NULL;
    a->hidden = slot(l, n, c->d_ff);
    a->lse = p->keep ? plain(l, n * c->heads, sizeof(float)) : NULL;
    if (!p->decoder)
        return;
    a->r_cross = p->keep ? slot(l, n, d) : a->r_self;
    a->y_cross = p->keep ? slot(l, n, d) : a->y_self;
    a->cross_q = slot(l, n, inner);
    a->cross_att = p->keep ? slot(l, n, inner) : a->att;
    a->cross_lse = p->keep ? plain(l, n * c->heads, sizeof(float)) : NULL;
}

static void place_side(struct layout *l, const struct t5_config *c, struct t5_side *side, int32_t tokens, int32_t rows)
{
    side->tokens = plain(l, tokens, sizeof(int32_t));
    side->offsets = plain(l, (int64_t)rows + 1, sizeof(int32_t));
    side->out = slot(l, tokens, c->d_model);
}

static int32_t most(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static void place_shared(struct layout *l, struct t5_work *w)
{
    const struct t5_config *c = &w->config;
    int32_t n = most(most(w->limits.encoder_tokens, w->limits.decoder_tokens), w->limits.beam_rows);
    struct t5_acts a = {0};
    place_layer(l, c, &(struct shape){.n = n, .decoder = true}, &a);
    for (int32_t i = 0; i < c->encoder_layers; i++)
        w->encoder.layer[i] = a;
    for (int32_t i = 0; i < c->decoder_layers; i++)
        w->decoder.layer[i] = a;
    w->step = a;
    w->encoder.r_final = w->decoder.r_final = w->step_final = a.r_self;
}

static void place_kept(struct layout *l, struct t5_work *w)
{
    const struct t5_config *c = &w->config;
    const struct t5_limits *m = &w->limits;
    for (int32_t i = 0; i < c->encoder_layers; i++)
        place_layer(l, c, &(struct shape){.n = m->encoder_tokens, .keep = true}, &w->encoder.layer[i]);
    for (int32_t i = 0; i < c->decoder_layers; i++)
        place_layer(l, c, &(struct shape){.n = m->decoder_tokens, .decoder = true, .keep = true}, &w->decoder.layer[i]);
    w->encoder.r_final = slot(l, m->encoder_tokens, c->d_model);
    w->decoder.r_final = slot(l, m->decoder_tokens, c->d_model);
    if (m->positions > 0)
        place_layer(l, c, &(struct shape){.n = m->beam_rows, .decoder = true}, &w->step);
    w->step_final = w->step.r_self;
}

static void place_gradients(struct layout *l, struct t5_work *w)
{
    const struct t5_config *c = &w->config;
    int64_t n = most(w->limits.encoder_tokens, w->limits.decoder_tokens), d = c->d_model, inner = t5_inner(c);
    w->dr = slot(l, n, d);
    w->dy = slot(l, n, d);
    w->dsub = slot(l, n, d);
    w->datt = slot(l, n, inner);
    w->dqkv = slot(l, n, 3 * inner);
    w->dhidden = slot(l, n, c->d_ff);
    w->dgate = c->gated ? slot(l, n, 2 * (int64_t)c->d_ff) : NULL;
    w->dcross = slot(l, w->limits.encoder_tokens, 2 * inner * c->decoder_layers);
    w->dencoded = slot(l, w->limits.encoder_tokens, d);
}

static void place_decode(struct layout *l, struct t5_work *w)
{
    int64_t cells = (int64_t)w->limits.positions * w->limits.beam_rows, inner = t5_inner(&w->config);
    w->step_out = slot(l, w->limits.beam_rows, w->config.d_model);
    w->k_cache = slot(l, cells * w->config.decoder_layers, inner);
    w->v_cache = slot(l, cells * w->config.decoder_layers, inner);
    w->anc[0] = plain(l, cells, sizeof(int32_t));
    w->anc[1] = plain(l, cells, sizeof(int32_t));
}

static void place(struct layout *l, struct t5_work *w)
{
    const struct t5_limits *m = &w->limits;
    int32_t n = most(most(m->encoder_tokens, m->decoder_tokens), m->beam_rows);
    place_side(l, &w->config, &w->encoder, m->encoder_tokens, m->rows);
    place_side(l, &w->config, &w->decoder, m->decoder_tokens, m->rows);
    w->sub = slot(l, n, w->config.d_model);
    w->cross = slot(l, m->encoder_tokens, 2 * (int64_t)t5_inner(&w->config) * w->config.decoder_layers);
    if (m->train)
        place_kept(l, w);
    else
        place_shared(l, w);
    if (m->train)
        place_gradients(l, w);
    if (m->positions > 0)
        place_decode(l, w);
}

/* A work without memory behind it: layer arrays only, so that the layout can count. */
static struct t5_work *outline(const struct t5_config *c, const struct t5_limits *l)
{
    CHECK(l->encoder_tokens >= 0 && l->decoder_tokens >= 0 && l->rows >= 0 && l->beam_rows >= 0 && l->positions >= 0);
    struct t5_work *w = xcalloc(1, sizeof *w);
    w->config = *c;
    w->limits = *l;
    w->layers = xcalloc((size_t)(c->encoder_layers + c->decoder_layers), sizeof *w->layers);
    w->encoder.layer = w->layers;
    w->decoder.layer = w->layers + c->encoder_layers;
    return w;
}

size_t t5_work_bytes(const struct backend *be, const struct t5_config *c, const struct t5_limits *l)
{
    struct t5_work *w = outline(c, l);
    struct layout count = {0};
    place(&count, w);
    t5_work_free(w);
    return (size_t)count.elements * be->act_bytes + count.bytes;
}

struct t5_work *t5_work_init(const struct t5 *m, const struct t5_limits *l, struct err *e)
{
    struct t5_work *w = outline(&m->config, l);
    w->be = m->be;
    struct layout pass = {.be = m->be};
    place(&pass, w);
    w->arena = m->be->act_alloc(pass.elements + ALIGN);
    w->plain = m->be->alloc(pass.bytes + 64);
    if (!w->arena || !w->plain) {
        err_set(e, ERR_OS, "model: no memory for a work space of %zu MiB (%d encoder tokens, %d decoder tokens, %d beams)",
                t5_work_bytes(m->be, &m->config, l) >> 20, l->encoder_tokens, l->decoder_tokens, l->beam_rows);
        t5_work_free(w);
        return NULL;
    }
    pass = (struct layout){.be = m->be, .arena = w->arena, .plain = w->plain};
    place(&pass, w);
    return w;
}

void t5_work_free(struct t5_work *w)
{
    if (!w)
        return;
    if (w->arena)
        w->be->release(w->arena);
    if (w->plain)
        w->be->release(w->plain);
    free(w->layers);
    free(w);
}

/* ---- batches ---- */

void t5_side_load(const struct t5 *m, struct t5_side *side, const struct t5_batch *b, int32_t tokens, int32_t most_tokens, int32_t most_rows)
{
    int32_t longest = 0;
    CHECK(b->count >= 0 && b->count <= most_rows && b->offsets[0] == 0 && b->offsets[b->count] <= tokens && tokens <= most_tokens);
    for (int32_t i = 0; i < b->count; i++) {
        int32_t length = b->offsets[i + 1] - b->offsets[i];
        CHECK(length >= 0);
        longest = most(longest, length);
    }
    for (int32_t i = 0; i < tokens; i++)
        CHECK(b->tokens[i] >= 0 && b->tokens[i] < m->config.vocab + m->config.codes);
    m->be->write(side->tokens, b->tokens, (size_t)tokens * sizeof(int32_t));
    m->be->write(side->offsets, b->offsets, ((size_t)b->count + 1) * sizeof(int32_t));
    side->rows = (struct rows){.count = b->count, .total = tokens, .longest = longest, .offsets = side->offsets};
}
