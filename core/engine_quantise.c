/* engine_quantise.c: bundles whose indexer is a quantiser over text embeddings: opening it, and documents through it.
 *
 * Where the embeddings are the bundle's own doing, a T5's encoder reads the texts, batch by batch, as in learning. Where they are the user's, a
 * document brings its vector and no text is read for its ID. Either way the vector is kept in the store, as the one an LMIndexer makes is. */
#include "engine_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int open_texts(struct engine *g, struct err *e)
{
    struct indexer *x = &g->indexer;
    x->max_tokens = least(x->quantiser->max_tokens ? x->quantiser->max_tokens : g->options.max_document_tokens, g->options.max_document_tokens);
    x->tokens = x->max_tokens > g->options.batch_tokens ? x->max_tokens : g->options.batch_tokens;
    x->rows = least(x->rows, x->tokens);
    x->texts = text_embedding_open(g->bundle, g->be, x->tokens, x->rows, e);
    if (!x->texts)
        return -1;
    g->model_bytes += text_embedding_bytes(x->texts);
    if (text_embedding_width(x->texts) == x->vector_size)
        return 0;
    return err_set(e, ERR_DATA, "%s: its T5 makes embeddings of width %d, its quantiser reads %d", bundle_folder(g->bundle),
                   text_embedding_width(x->texts), x->vector_size);
}

int engine_open_quantiser(struct engine *g, struct code_layout *layout, struct err *e)
{
    struct indexer *x = &g->indexer;
    if (!quantiser_in(g->bundle))
        return 0;
    x->quantiser = quantiser_read(g->bundle, e);
    if (!x->quantiser || quantiser_open(x->quantiser, g->be, e) < 0)
        return -1;
    layout->positions = x->quantiser->positions;
    for (int32_t t = 0; t < layout->positions; t++)
        layout->codes[t] = x->quantiser->codes;
    x->vector_size = x->quantiser->width;
    x->rows = least(ENGINE_ENCODE_ROWS, QUANTISER_BATCH);
    if (!x->quantiser->own && open_texts(g, e) < 0)
        return -1;
    size_t rows = (size_t)x->rows;
    x->batch_tokens = xcalloc((size_t)x->tokens + 1, sizeof *x->batch_tokens);
    x->batch_offsets = xcalloc(rows + 1, sizeof *x->batch_offsets);
    x->found = xcalloc(rows * (size_t)layout->positions, sizeof *x->found);
    x->hidden = xcalloc(rows * (size_t)x->vector_size, sizeof *x->hidden);
    return 0;
}

bool engine_reads_texts(const struct engine *g)
{
    return g->indexer.model || g->indexer.texts;
}

void engine_quantise_batch(struct engine *g, struct encode_item *items, int32_t n, const struct t5_batch *rows)
{
    struct indexer *x = &g->indexer;
    int32_t learned = x->quantiser->positions, d = x->vector_size;
    if (x->texts)
        text_embedding_run(x->texts, rows, x->hidden);
    for (int32_t i = 0; i < n; i++)
        if (x->texts)
            memcpy(items[i].vector, x->hidden + (int64_t)i * d, (size_t)d * sizeof(float));
        else
            memcpy(x->hidden + (int64_t)i * d, items[i].vector, (size_t)d * sizeof(float));
    quantiser_encode(x->quantiser, x->hidden, n, x->found, NULL);
    for (int32_t i = 0; i < n; i++)
        if (!items[i].forced)
            memcpy(items[i].codes, x->found + (int64_t)i * learned, (size_t)learned * sizeof *x->found);
}

const char *engine_check_embedding(const struct engine *g, const struct engine_put *p, struct arena *a)
{
    const struct indexer *x = &g->indexer;
    if (!x->quantiser || !x->quantiser->own)
        return "this model reads the texts itself; its documents bring no embedding";
    if (p->embedding_size != x->vector_size)
        return arena_printf(a, "the embedding has %d numbers; this model needs %d", p->embedding_size, x->vector_size);
    for (int32_t i = 0; i < p->embedding_size; i++)
        if (!isfinite(p->embedding[i]))
            return arena_printf(a, "number %d of the embedding is beyond the range of single precision", i);
    return NULL;
}
