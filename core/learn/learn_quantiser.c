/* learn_quantiser.c: `semindex learn-ids --indexer rq-vae|hierarchical|residual`: embeddings, quantiser, codes, bundle.
 *
 * The corpus gets its codes from the very function that the daemon gives to new documents, after the quantiser is made: so a document that is
 * indexed again keeps its ID. Clusters and MLP are computed on the processor, in f32; a T5 that embeds texts runs on the chosen device. */
#include "learn_quantiser.h"
#include "../data/embeddings.h"
#include "learn_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- embeddings ---- */

static int own_embeddings(struct learn *s, struct embeddings *m, struct err *e)
{
    const struct embeddings_order o = {s->o.embeddings, s->o.embedding_ids, s->corpus.documents,
                                        s->corpus.place ? s->corpus.lines : s->corpus.count, s->n, s->work, s->corpus.place};
    if (embeddings_read(m, s->o.embeddings, s->work, e) < 0 || embeddings_order(m, &o, e) < 0)
        return -1;
    run_note(s->run, "embeddings: %s, %d rows of width %d", s->o.embeddings, m->count, m->width);
    return 0;
}

/* ---- codes ---- */

static void note_levels(const struct learn *s)
{
    for (int32_t p = 0; p < s->o.positions; p++) {
        struct id_statistics st;
        id_statistics((const uint32_t *)s->codes, s->n, s->o.positions, p, &st);
        run_note(s->run, "position %d: codes_used=%d/%d perplexity=%.1f collision_rate=%.4f largest_bucket=%d unique_prefixes=%d (%.4f)", p + 1,
                 st.codes_used, s->o.codes, st.perplexity, st.collision_rate, st.largest_bucket, st.unique_prefixes,
                 (double)st.unique_prefixes / s->n);
        if (st.codes_used < s->o.codes / 4 && s->n >= 4 * s->o.codes && s->o.indexer != INDEXER_HIERARCHICAL)
            run_note(s->run, "warning: position %d uses only %d of %d codes: the IDs have collapsed", p + 1, st.codes_used, s->o.codes);
    }
}

static int assign_codes(struct learn *s, const struct quantiser_input *in, struct err *e)
{
    double left[QUANTISER_LEVELS_MAX + 1] = {0};
    if (quantiser_open(s->quantiser, in->be, e) < 0)
        return -1;
    for (int32_t from = 0; from < s->n; from += QUANTISER_BATCH) {
        int32_t n = s->n - from < QUANTISER_BATCH ? s->n - from : QUANTISER_BATCH;
        const float *x = in->x + (int64_t)from * in->width;
        quantiser_encode(s->quantiser, x, n, (uint32_t *)(s->codes + (int64_t)from * s->o.positions), left);
        run_report(s->run, "assigning codes", from + n, s->n, "documents", NAN);
    }
    for (int32_t p = 1; p <= s->o.positions; p++)
        run_note(s->run, "level %d: reconstruction_error=%.5f of the variance before it", p, left[0] > 0 ? left[p] / left[0] : 0);
    note_levels(s);
    return 0;
}

/* ---- the run ---- */

/* Branching such that leaves of `leaf` documents lie L levels down. */
static int32_t branching(const struct learn *s)
{
    double k = ceil(pow(fmax(1, (double)s->n / s->o.leaf), 1.0 / s->o.positions));
    return k < 2 ? 2 : (int32_t)k;
}

static char *checkpoint_path(const struct learn *s)
{
    return xprintf("%s/rq-vae.checkpoint", s->work);
}

static struct quantiser_input input_of(const struct learn *s, const struct backend *be, const struct embeddings *m)
{
    return (struct quantiser_input){.be = be, .run = s->run, .x = m->values, .n = m->count, .width = m->width, .batch = s->o.batch,
                                    .epochs = s->o.epochs, .lr = s->o.lr, .restarts = s->o.kmeans_restarts,
                                    .iterations = s->o.kmeans_iterations, .leaf = s->o.leaf, .seed = s->o.seed,
                                    .checkpoint_s = s->o.checkpoint_s};
}

static int make_quantiser(struct learn *s, const struct embeddings *m, struct err *e)
{
    static int (*const make[])(const struct quantiser_input *, struct quantiser *, struct err *) = {learn_rqvae, learn_residual,
                                                                                                    learn_hierarchical};
    static const enum quantiser_kind kinds[] = {[INDEXER_RQVAE] = QUANTISER_RQVAE, [INDEXER_RESIDUAL] = QUANTISER_RESIDUAL,
                                                [INDEXER_HIERARCHICAL] = QUANTISER_HIERARCHICAL};
    char message[512];
    const struct backend *be = backend_open("cpu", s->o.threads, message, sizeof message);
    if (!be)
        return err_set(e, ERR_UNAVAILABLE, "device cpu: %s", message);
    struct quantiser_input in = input_of(s, be, m);
    char *checkpoint = checkpoint_path(s);
    in.checkpoint = checkpoint;
    struct quantiser *q = s->quantiser = xcalloc(1, sizeof *q);
    bool own = s->o.embeddings != NULL;
    *q = (struct quantiser){.kind = kinds[s->o.indexer], .width = m->width, .positions = s->o.positions, .codes = s->o.codes, .own = own,
                            .max_tokens = own ? 0 : s->o.max_tokens, .scale = 1};
    run_note(s->run, "%s: %d positions of %d codes over %d embeddings of width %d", quantiser_name(q->kind), q->positions, q->codes, in.n, in.width);
    int rc = make[q->kind](&in, q, e);
    free(checkpoint);
    if (rc < 0)
        return -1;
    in.checkpoint = NULL;
    s->codes = xcalloc((size_t)s->n * (size_t)s->o.positions, sizeof *s->codes);
    return assign_codes(s, &in, e);
}

static int run_with_base(struct learn *s, const struct bundle *base, struct err *e)
{
    struct embeddings m = {0};
    int rc = learn_open_texts(s, base, e);
    if (rc == 0 && s->o.indexer == INDEXER_HIERARCHICAL && s->branching_open)
        s->o.codes = branching(s);
    if (rc == 0)
        rc = s->o.embeddings ? own_embeddings(s, &m, e) : learn_embed_texts(s, base, &m, e);
    if (rc == 0)
        rc = make_quantiser(s, &m, e);
    embeddings_free(&m);
    return rc == 0 ? learn_write_bundle(s, e) : -1;
}

char *learn_quantiser_settings(const struct learn *s)
{
    const struct learn_options *o = &s->o;
    struct str t = {0};
    str_printf(&t, "indexer=%s\ndocuments=%d\nembeddings=%s\nbase=%s\nwidth=%d\n", quantiser_name(s->quantiser->kind), s->n,
               o->embeddings ? o->embeddings : "", o->base ? o->base : "", s->quantiser->width);
    str_printf(&t, "positions=%d\ncodes=%d\nmax_tokens=%d\nbatch=%d\nepochs=%.17g\nlr=%.17g\n", o->positions, o->codes, o->max_tokens,
               o->batch, o->epochs, o->lr);
    str_printf(&t, "kmeans_restarts=%d\nkmeans_iterations=%d\nleaf=%d\nseed=%llu\n", o->kmeans_restarts, o->kmeans_iterations, o->leaf,
               (unsigned long long)o->seed);
    return t.data;
}

int learn_quantiser_run(struct learn *s, struct err *e)
{
    s->branching_open = s->o.codes == 0;
    if (s->o.search.count > 0)
        return err_set(e, ERR_USAGE, "search-lr: rates are tried for lmindexer, which has a loss of the texts to judge them by; give lr");
    if (learn_open_corpus(s, e) < 0)
        return -1;
    struct bundle *base = s->o.base ? bundle_open(s->o.base, e) : NULL;
    int rc = s->o.base && !base ? -1 : run_with_base(s, base, e);
    bundle_close(base);
    return rc;
}
