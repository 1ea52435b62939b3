/* learn_embed.c: text embeddings of the whole corpus for the indexers that read them, by the T5 of --base.
 *
 * A million texts take hours, so rows go straight into a mapped file of the work folder: memory holds what is in use, and a run that was stopped
 * or killed goes on behind the rows that were kept. A checkpoint says how many those are and what their hash is; it is written when the rows
 * are on disk, and bound to the tokens and to the digest of the base. The file is looked at before it is believed: rows that are not those
 * which were kept are refused. It goes with the work folder when the bundle is whole. */
#include "../base/hash.h"
#include "../data/embeddings.h"
#include "../model/text_embedding.h"
#include "checkpoint.h"
#include "learn_internal.h"

#include <math.h>
#include <stdlib.h>

enum { EMBED_ROWS = 64 };

struct embedding {
    struct learn *s;
    struct embeddings *m;
    char *path, *checkpoint, *settings;
    struct {
        int64_t rows;
        uint64_t hash; /* of the rows, batch by batch */
    } mark;
    double saved_s;
};

static int32_t rows_at(const struct embedding *b, int64_t from)
{
    return (int32_t)(b->m->count - from < EMBED_ROWS ? b->m->count - from : EMBED_ROWS);
}

static uint64_t add_hash(const struct embedding *b, int64_t from, uint64_t hash)
{
    size_t row = (size_t)b->m->width * sizeof(float);
    return hash_bytes(b->m->values + from * b->m->width, (size_t)rows_at(b, from) * row, hash);
}

static int save(struct embedding *b, struct err *e)
{
    struct checkpoint_section mark = {"mark", &b->mark, sizeof b->mark};
    b->saved_s = clock_s();
    return spill_sync(&b->m->memory, e) < 0 ? -1 : checkpoint_save(b->checkpoint, b->settings, &mark, 1, e);
}

static int restore(struct embedding *b, struct err *e)
{
    struct checkpoint_section mark = {"mark", &b->mark, sizeof b->mark};
    uint64_t hash = 0;
    int rc = checkpoint_load(b->checkpoint, b->settings, &mark, 1, b->s->run, e);
    if (rc < 1)
        return rc;
    for (int64_t from = 0; from < b->mark.rows; from += EMBED_ROWS)
        hash = add_hash(b, from, hash);
    if (hash != b->mark.hash)
        return err_set(e, ERR_DATA, "%s: its first %lld rows are not those that were kept; without %s the run begins again", b->path,
                       (long long)b->mark.rows, b->s->work);
    run_note(b->s->run, "going on behind %lld embedded texts", (long long)b->mark.rows);
    return 0;
}

static void embed_batch(struct embedding *b)
{
    struct learn *s = b->s;
    int64_t from = b->mark.rows;
    int32_t offsets[EMBED_ROWS + 1], n = rows_at(b, from);
    for (int32_t i = 0; i <= n; i++)
        offsets[i] = (int32_t)(s->offsets[from + i] - s->offsets[from]);
    const struct t5_batch rows = {.count = n, .tokens = s->tokens + s->offsets[from], .offsets = offsets};
    text_embedding_run(s->texts, &rows, b->m->values + from * b->m->width);
    b->mark.hash = add_hash(b, from, b->mark.hash);
    b->mark.rows += n;
    run_report(s->run, "embedding texts", b->mark.rows, s->n, "documents", NAN);
}

static int embed_corpus(struct embedding *b, struct err *e)
{
    b->saved_s = clock_s();
    if (restore(b, e) < 0)
        return -1;
    while (b->mark.rows < b->s->n) {
        embed_batch(b);
        bool stop = run_stopping(b->s->run);
        if ((stop || b->mark.rows == b->s->n || clock_s() - b->saved_s >= b->s->o.checkpoint_s) && save(b, e) < 0)
            return -1;
        if (stop)
            return err_set(e, ERR_INTERRUPTED, "stopped while texts were embedded; the same command goes on from there");
    }
    return 0;
}

static char *settings_of(const struct learn *s, const struct bundle *base)
{
    char digest[65];
    bundle_digest(base, digest);
    uint64_t tokens = hash_bytes(s->tokens, (size_t)s->offsets[s->n] * sizeof *s->tokens, 0);
    return xprintf("embeddings=texts\ndocuments=%d\ntokens=%016llx\nmax_tokens=%d\nbase=%s\n", s->n, (unsigned long long)tokens, s->o.max_tokens, digest);
}

static int open_model(struct learn *s, const struct bundle *base, struct err *e)
{
    if (!base)
        return err_set(e, ERR_USAGE, "this indexer reads text embeddings: --embeddings FILE brings your own, --base BUNDLE names a T5 that makes them");
    s->texts = text_embedding_open(base, s->be, EMBED_ROWS * s->o.max_tokens, EMBED_ROWS, e);
    if (!s->texts)
        return -1;
    if (text_embedding_vocab(s->texts) < tokenizer_size(s->tokenizer))
        return err_set(e, ERR_DATA, "%s: the model has %d vocabulary rows, the tokenizer %s has %d pieces", s->o.base, text_embedding_vocab(s->texts),
                       s->tokenizer_path, tokenizer_size(s->tokenizer));
    return 0;
}

int learn_embed_texts(struct learn *s, const struct bundle *base, struct embeddings *m, struct err *e)
{
    if (open_model(s, base, e) < 0)
        return -1;
    struct embedding b = {.s = s, .m = m, .path = xprintf("%s/texts.embeddings", s->work), .checkpoint = xprintf("%s/texts.checkpoint", s->work),
                          .settings = settings_of(s, base)};
    int rc = embeddings_named(m, s->n, text_embedding_width(s->texts), b.path, e);
    if (rc == 0)
        rc = embed_corpus(&b, e);
    free(b.path);
    free(b.checkpoint);
    free(b.settings);
    return rc;
}
