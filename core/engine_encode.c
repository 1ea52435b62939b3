/* engine_encode.c: documents (and free texts in histories) through the frozen indexer.
 *
 * Position by position, as Algorithm 1 assigns codes: h^t of every row, the nearest code by dot product, which the next position reads as
 * prefix. The functions are those of learning (learn/lmindexer.h), so a document that is indexed again gets the codes that it was learned
 * with. The encoder runs once a batch; only the short decoder runs per position. */
#include "engine_index.h"
#include "text/document.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens and texts ---- */

int32_t engine_document_tokens(struct engine *g, const struct document *d, struct arena *a, const int32_t **tokens, bool *cut)
{
    struct str text = {0};
    document_text(d, &text);
    int32_t room = g->indexer.max_tokens, *ids = xmalloc((size_t)room * sizeof *ids);
    int32_t n = tokenizer_encode(g->tokenizer, text.data ? text.data : "", text.size, ids, room, true, cut);
    int32_t *kept = arena_alloc(a, (size_t)n * sizeof *kept);
    memcpy(kept, ids, (size_t)n * sizeof *kept);
    *tokens = kept;
    free(ids);
    str_free(&text);
    return n;
}

const char *engine_id_text(struct arena *a, const uint32_t *codes, int32_t positions)
{
    char text[POSITIONS_MAX * 11 + 1];
    int size = 0;
    for (int32_t t = 0; t < positions; t++)
        size += snprintf(text + size, sizeof text - (size_t)size, "%s%u", t ? "-" : "", codes[t]);
    return arena_strndup(a, text, (size_t)size);
}

/* ---- a batch ---- */

static void batch_of(const struct encode_item *items, int32_t n, int32_t *tokens, int32_t *offsets)
{
    offsets[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        if (items[i].token_count > 0)
            memcpy(tokens + offsets[i], items[i].tokens, (size_t)items[i].token_count * sizeof *tokens);
        offsets[i + 1] = offsets[i] + items[i].token_count;
    }
}

/* prefix [n, t] of the codes so far. */
static void gather_prefix(const struct encode_item *items, int32_t n, int32_t t, int32_t *prefix)
{
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < t; k++)
            prefix[i * t + k] = (int32_t)items[i].codes[k];
}

void engine_encode_batch(struct engine *g, struct encode_item *items, int32_t n)
{
    struct indexer *x = &g->indexer;
    int32_t learned = g->layout.positions - 1, d = x->vector_size;
    batch_of(items, n, x->batch_tokens, x->batch_offsets);
    const struct t5_batch rows = {.count = n, .tokens = x->batch_tokens, .offsets = x->batch_offsets};
    if (x->quantiser) {
        engine_quantise_batch(g, items, n, &rows);
        return;
    }
    for (int32_t t = 0; t < learned; t++) {
        gather_prefix(items, n, t, x->prefix);
        if (t == 0)
            lmindexer_encode(x->model, x->work, &rows, t, x->prefix, x->hidden);
        else
            lmindexer_encode_next(x->model, x->work, &rows, t, x->prefix, x->hidden);
        lmindexer_assign(x->model, x->work, x->assigned);
        for (int32_t i = 0; i < n; i++)
            if (!items[i].forced)
                items[i].codes[t] = (uint32_t)x->assigned[i];
    }
    for (int32_t i = 0; i < n; i++)
        memcpy(items[i].vector, x->hidden + (int64_t)i * d, (size_t)d * sizeof(float));
}

struct encode_call {
    struct engine *g;
    struct encode_item *items;
    int32_t n;
};

static void encode_call(void *state)
{
    struct encode_call *c = state;
    engine_encode_batch(c->g, c->items, c->n);
}

static int32_t batch_length(const struct indexer *x, const struct encode_item *items, int32_t n)
{
    int32_t tokens = 0, i = 0;
    while (i < n && i < x->rows && tokens + items[i].token_count <= x->tokens)
        tokens += items[i++].token_count;
    CHECK(i > 0);
    return i;
}

int engine_encode(struct engine *g, struct encode_item *items, int32_t n, int64_t deadline_ms, struct err *e)
{
    for (int32_t at = 0; at < n;) {
        if (deadline_ms && clock_ms() >= deadline_ms)
            return err_set(e, ERR_DEADLINE, "the deadline passed after %d of %d documents were encoded; nothing was stored", at, n);
        struct encode_call call = {g, items + at, batch_length(&g->indexer, items + at, n - at)};
        device_call(g->device, encode_call, &call);
        at += call.n;
    }
    return 0;
}
