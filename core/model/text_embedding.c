/* text_embedding.c: see text_embedding.h. Only the encoder runs; the whole model is kept all the same, so that what is written stays a T5 that
 * loads elsewhere and that learn-ids may start from. Code rows of an indexer's vocabulary are left behind: no text holds them. */
#include "text_embedding.h"
#include "../base/mem.h"
#include "model_file.h"

#include <stdlib.h>

struct text_embedding {
    const struct backend *be;
    struct t5 *model; /* without codes */
    struct t5_work *work;
    struct act *mean; /* [rows, D] */
};

/* A model of the same shape but without ID codes, all tensors copied. */
static struct t5 *without_codes(struct t5 *from, const struct backend *be, struct err *e)
{
    struct t5_options o = {.config = *t5_config_of(from)};
    o.config.codes = 0;
    struct t5 *to = t5_init(be, &o, e);
    if (to)
        t5_copy_weights(to, from);
    return to;
}

static struct t5 *read_model(const struct bundle *b, const struct backend *be, struct err *e)
{
    if (model_file_has(b, "base"))
        return model_file_read(b, "base", be, false, NULL, 0, NULL, NULL, e);
    if (!model_file_has(b, "indexer")) {
        err_set(e, ERR_CONFLICT, "%s: the bundle has no T5 (part base or indexer) to embed texts with", bundle_folder(b));
        return NULL;
    }
    struct t5 *indexer = model_file_read(b, "indexer", be, false, NULL, 0, NULL, NULL, e);
    struct t5 *plain = indexer ? without_codes(indexer, be, e) : NULL;
    t5_free(indexer);
    return plain;
}

struct text_embedding *text_embedding_open(const struct bundle *b, const struct backend *be, int32_t tokens, int32_t rows, struct err *e)
{
    struct text_embedding *t = xcalloc(1, sizeof *t);
    const struct t5_limits l = {.encoder_tokens = tokens, .rows = rows};
    t->be = be;
    t->model = read_model(b, be, e);
    t->work = t->model ? t5_work_init(t->model, &l, e) : NULL;
    t->mean = t->work ? be->act_alloc((int64_t)rows * t5_config_of(t->model)->d_model) : NULL;
    if (t->mean)
        return t;
    if (t->work)
        err_set(e, ERR_OS, "no memory for text embeddings");
    text_embedding_close(t);
    return NULL;
}

void text_embedding_close(struct text_embedding *t)
{
    if (!t)
        return;
    t->be->release(t->mean);
    t5_work_free(t->work);
    t5_free(t->model);
    free(t);
}

int32_t text_embedding_width(const struct text_embedding *t)
{
    return t5_config_of(t->model)->d_model;
}

int64_t text_embedding_bytes(const struct text_embedding *t)
{
    return t5_size(t->model) * (int64_t)sizeof(float);
}

int32_t text_embedding_vocab(const struct text_embedding *t)
{
    return t5_config_of(t->model)->vocab;
}

void text_embedding_run(struct text_embedding *t, const struct t5_batch *rows, float *out)
{
    int32_t d = text_embedding_width(t);
    t5_encode(t->model, t->work, rows, 0);
    t->be->pool_mean(t->mean, t5_encoded(t->work), t5_encoded_rows(t->work), d);
    t->be->download(out, t->mean, (int64_t)rows->count * d);
}

int text_embedding_write(const struct text_embedding *t, struct bundle *b, struct err *e)
{
    return model_file_write(b, "base", t->model, NULL, NULL, e);
}
