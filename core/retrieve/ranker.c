/* ranker.c: see ranker.h. A thin owner of one work space and one beam, so that two callers do not size them twice. */
#include "ranker.h"

#include "../base/mem.h"

#include <stdlib.h>

struct ranker {
    struct t5 *model;
    struct t5_work *work;
    struct beam *beam;
    struct unconstrained *unconstrained;
    const struct trie *trie;
    const struct trie_view *placed;
    struct ranker_limits limits;
};

struct ranker *ranker_init(struct t5 *m, const struct code_layout *layout, const struct trie *trie, const struct ranker_limits *l,
                           struct err *e)
{
    struct ranker *r = xcalloc(1, sizeof *r);
    *r = (struct ranker){.model = m, .trie = trie, .limits = *l};
    struct t5_limits t = {.encoder_tokens = l->tokens,
                          .decoder_tokens = l->rows,
                          .rows = l->rows,
                          .beam_rows = l->rows * l->width,
                          .positions = layout->positions};
    r->work = t5_work_init(m, &t, e);
    if (r->work != NULL)
        r->placed = trie_upload(t5_backend(m), trie, NULL, e);
    if (r->placed != NULL)
        r->beam = beam_init(m, layout, &(struct beam_limits){.requests = l->rows, .width = l->width}, e);
    if (r->beam != NULL)
        return r;
    ranker_free(r);
    return NULL;
}

void ranker_free(struct ranker *r)
{
    if (r == NULL)
        return;
    beam_free(r->beam);
    unconstrained_free(r->unconstrained);
    trie_release(t5_backend(r->model), r->placed);
    t5_work_free(r->work);
    free(r);
}

const struct beam *ranker_run(struct ranker *r, const struct t5_batch *b)
{
    CHECK(b->count <= r->limits.rows && b->offsets[b->count] <= r->limits.tokens);
    t5_encode(r->model, r->work, b, 0);
    const struct beam_search s = {.trie = trie_view_of(r->trie), .placed = r->placed, .width = r->limits.width};
    (void)beam_run(r->beam, r->work, &s);
    return r->beam;
}

int ranker_unconstrain(struct ranker *r, const struct code_layout *layout, struct err *e)
{
    r->unconstrained = unconstrained_init(r->model, layout, &(struct beam_limits){.requests = r->limits.rows, .width = r->limits.width}, e);
    return r->unconstrained == NULL ? -1 : 0;
}

const struct unconstrained *ranker_run_unconstrained(struct ranker *r)
{
    CHECK(r->unconstrained != NULL);
    unconstrained_run(r->unconstrained, r->work, r->limits.width);
    return r->unconstrained;
}
