/* lm_passes.c: a batch larger than the work space, in passes whose gradients add up to those of the whole.
 *
 * Reconstruction and commitment are sums over documents, so a pass only has to divide by the batch's counts. The contrastive loss is not: at the
 * first position every document is held against all others of its batch. So the batch is walked twice. The first walk computes h of every
 * row and keeps nothing else; the loss and its gradient with respect to h are then those of the whole batch; the second walk computes each
 * pass again, hands it its rows of that gradient, and goes backward. Without a contrastive loss there is no first walk. Masks of hints and
 * targets are drawn by document, so they are the whole batch's; those of dropout are drawn a pass, the same in both walks.
 *
 * Every row behind the documents must be the second view of one of them, as learn_batch.c makes them. */
#include "lm_internal.h"
#include "../base/mem.h"

#include <string.h>

struct pass {
    struct lm_batch batch;
    struct lm_share share;
    int32_t base; /* its first row in h and dh */
};

int lm_passes_init(struct lm_work *w)
{
    const struct lm_limits *l = &w->limits;
    struct lm_passes *p = &w->passes;
    int64_t d = t5_config_of(w->model)->d_model, whole = lm_whole(l);
    if (whole == l->documents)
        return 0;
    p->tokens = xcalloc((size_t)l->tokens, sizeof *p->tokens);
    p->offsets = xcalloc((size_t)l->rows + 1, sizeof *p->offsets);
    p->prefix = xcalloc((size_t)l->rows * (size_t)l->positions, sizeof *p->prefix);
    p->second_view = xcalloc((size_t)l->documents, sizeof *p->second_view);
    p->row_of = xcalloc(2 * (size_t)whole, sizeof *p->row_of);
    p->h = w->be->act_alloc(2 * whole * d);
    p->dh = w->be->act_alloc(2 * whole * d);
    return p->h && p->dh ? 0 : -1;
}

void lm_passes_free(struct lm_work *w)
{
    struct lm_passes *p = &w->passes;
    void *host[] = {p->tokens, p->offsets, p->prefix, p->second_view, p->row_of};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    w->be->release(p->h);
    w->be->release(p->dh);
}

static void push_row(struct lm_passes *p, struct pass *a, const struct lm_batch *b, int32_t row)
{
    int32_t n = a->batch.rows.count++, length = b->rows.offsets[row + 1] - b->rows.offsets[row];
    memcpy(p->tokens + p->offsets[n], b->rows.tokens + b->rows.offsets[row], (size_t)length * sizeof *p->tokens);
    memcpy(p->prefix + (int64_t)n * b->position, b->prefix + (int64_t)row * b->position, (size_t)b->position * sizeof *p->prefix);
    p->offsets[n + 1] = p->offsets[n] + length;
    p->row_of[row] = a->base + n;
}

/* Documents [from, from + documents) of b with their second views. */
static void cut(struct lm_work *w, const struct lm_batch *b, int32_t from, struct pass *a)
{
    struct lm_passes *p = &w->passes;
    int32_t left = b->documents - from;
    a->batch = *b;
    a->batch.documents = left < w->limits.documents ? left : w->limits.documents;
    a->batch.rows = (struct t5_batch){0, p->tokens, p->offsets};
    a->batch.prefix = p->prefix;
    a->batch.keys = b->keys + from;
    a->batch.second_view = b->second_view ? p->second_view : NULL;
    a->share.dropout_seed = b->dropout ? mix64(mix64(b->seed, 1), (uint64_t)from + 1) | 1 : 0;
    for (int32_t i = 0; i < a->batch.documents; i++)
        push_row(p, a, b, from + i);
    for (int32_t i = 0; b->second_view && i < a->batch.documents; i++) {
        int32_t view = b->second_view[from + i];
        p->second_view[i] = view < 0 ? -1 : a->batch.rows.count;
        if (view >= 0)
            push_row(p, a, b, view);
    }
}

/* h of every row of the batch, then the contrastive loss over it. */
static double first_walk(struct t5 *m, struct lm_work *w, const struct lm_batch *b)
{
    struct lm_passes *p = &w->passes;
    int64_t d = t5_config_of(m)->d_model;
    struct pass a = {.base = 0};
    w->be->act_zero(p->h, b->rows.count * d);
    w->be->act_zero(p->dh, b->rows.count * d);
    for (int32_t from = 0; from < b->documents; from += a.batch.documents) {
        cut(w, b, from, &a);
        lm_hidden(m, w, &a.batch.rows, b->position, a.batch.prefix, a.share.dropout_seed);
        w->be->axpy(w->be->act_at(p->h, a.base * d), 1, w->h, a.batch.rows.count * d);
        a.base += a.batch.rows.count;
    }
    CHECK(a.base == b->rows.count);
    return lm_contrastive(m, w, b, p);
}

void lm_passes_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, struct lm_losses *out)
{
    int64_t d = t5_config_of(m)->d_model;
    bool contrastive = b->weight_contrastive > 0 && b->stage != LM_WARMUP && b->second_view;
    struct pass a = {.share = {.documents = b->documents, .targets = lm_target_count(b)}};
    CHECK(b->keys && !b->visible && !b->ids_of);
    if (contrastive)
        out->contrastive = first_walk(m, w, b);
    for (int32_t from = 0; from < b->documents; from += a.batch.documents) {
        struct lm_losses part = {0};
        cut(w, b, from, &a);
        a.share.dh = contrastive ? w->be->act_at(w->passes.dh, a.base * d) : NULL;
        a.batch.weight_contrastive = 0;
        lm_step(m, w, &a.batch, &a.share, &part);
        out->recon += part.recon;
        out->commitment += part.commitment;
        a.base += a.batch.rows.count;
    }
}
