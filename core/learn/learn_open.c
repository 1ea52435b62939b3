/* learn_open.c: what a learning run needs before its first stage: defaults, corpus, tokenizer, tokens, model, work spaces.
 *
 * The settings string binds a checkpoint to everything that decides the numbers, the tokens of the corpus included (as a hash), so that a
 * checkpoint of other data or settings is refused by name instead of going on from nonsense. */
#include "learn_internal.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "../model/model_file.h"
#include "../model/need.h"
#include "../model/text_embedding.h"
#include "../text/document.h"

#include <string.h>

static void default_int(int32_t *field, int32_t value)
{
    if (*field == 0)
        *field = value;
}

static void default_double(double *field, double value)
{
    if (*field == 0)
        *field = value;
    if (*field < 0)
        *field = 0;
}

static void fill_defaults(struct learn_options *o)
{
    bool quantiser = o->indexer != INDEXER_LMINDEXER;
    default_int(&o->leaf, 8);
    default_double(&o->epochs, 200);
    t5_shape_fill(&o->shape, &t5_shape_text);
    default_int(&o->positions, quantiser ? 3 : 2);
    default_int(&o->codes, quantiser ? 256 : 512);
    default_int(&o->max_tokens, 128);
    default_int(&o->batch, quantiser ? 256 : 128);
    default_int(&o->negatives, 4);
    default_int(&o->kmeans_restarts, 10);
    default_int(&o->kmeans_iterations, 50);
    default_double(&o->warmup_epochs, 1);
    default_double(&o->continuous_epochs, 2);
    default_double(&o->joint_epochs, 2);
    default_double(&o->lr, 1e-3);
    default_double(&o->dropout, 0.1);
    default_double(&o->contrastive_temperature, 1);
    default_double(&o->weight_recon, 1);
    default_double(&o->weight_contrastive, 1);
    default_double(&o->weight_commitment, 1);
    default_double(&o->target_share, 1);
    default_double(&o->checkpoint_s, 20);
    o->hold_out_seed = o->hold_out_seed ? o->hold_out_seed : 1;
    default_double(&o->validation_share, 0.02);
    optimiser_defaults(&o->adam);
    for (int i = 0; i < LM_POSITIONS_MAX; i++)
        default_double(&o->hints[i], i == 0 ? 0.5 : 0.3);
}

static int check_range(const char *name, double value, double least, double most, struct err *e)
{
    if (value >= least && value <= most)
        return 0;
    return err_set(e, ERR_INVALID, "%s is %g, must be %g .. %g", name, value, least, most);
}

static int check_options(const struct learn_options *o, struct err *e)
{
    if (check_range("positions", o->positions, 1, LM_POSITIONS_MAX, e) < 0 || check_range("codes", o->codes, 2, 1 << 20, e) < 0 ||
        check_range("max_tokens", o->max_tokens, 2, 4096, e) < 0 || check_range("batch", o->batch, 2, 4096, e) < 0 ||
        check_range("negatives", o->negatives, 1, o->batch - 1, e) < 0 || check_range("lr", o->lr, 1e-9, 1, e) < 0 ||
        check_range("dropout", o->dropout, 0, 0.9, e) < 0 || check_range("target_share", o->target_share, 1e-3, 1, e) < 0 ||
        check_range("contrastive_temperature", o->contrastive_temperature, 1e-3, 1e6, e) < 0 ||
        check_range("hold_out", o->hold_out, 0, 0.5, e) < 0 || check_range("validation_share", o->validation_share, 1e-4, 0.9, e) < 0)
        return -1;
    for (int32_t i = 0; i < o->positions; i++)
        if (check_range("hints", o->hints[i], 0, 1, e) < 0)
            return -1;
    return 0;
}

/* ---- corpus and tokens ---- */

static int read_documents(struct learn *s, struct err *e)
{
    if (corpus_read(&s->corpus, s->o.data, s->run, e) < 0)
        return -1;
    corpus_hold_out(&s->corpus, s->o.hold_out, s->o.hold_out_seed, s->run);
    s->n = s->corpus.count;
    if (s->o.limit > 0 && s->o.limit < s->n)
        s->n = s->o.limit;
    s->trained = s->n;
    if (s->o.codes > s->n / 4) {
        int32_t fits = s->n / 4 < 2 ? 2 : s->n / 4;
        run_note(s->run, "codes: %d per position for %d documents; %d are used", s->o.codes, s->n, fits);
        s->o.codes = fits;
    }
    if (s->n < 8)
        return err_set(e, ERR_DATA, "%s: %d documents; semantic IDs need at least 8", s->o.data, s->n);
    return 0;
}

/* What decides a trained tokenizer. The caller frees. */
static char *tokenizer_settings(const struct tokenizer_options *t, const struct corpus *c)
{
    struct str text = {0};
    uint64_t texts = 0;
    for (int32_t i = 0; i < c->count; i++) {
        str_clear(&text);
        document_text(&c->documents[i], &text);
        texts = hash_bytes(text.data, text.size + 1, texts);
    }
    for (int32_t i = 0; i < c->train.count; i++)
        texts = hash_bytes(c->train.query[i].text, strlen(c->train.query[i].text) + 1, texts);
    str_free(&text);
    return xprintf("vocab=%d\ntexts=%016llx\n", t->vocab, (unsigned long long)texts);
}

/* Trains one at t->output, unless an earlier run left one there that was made of the same. The note of what it was made of goes before it
 * and comes after it, so a kill between never leaves one beside the note of another. */
static int train_tokenizer(const struct tokenizer_options *t, const struct corpus *c, const struct run *run, struct err *e)
{
    char *note = xprintf("%s.settings", t->output), *settings = tokenizer_settings(t, c);
    char *was = file_exists(t->output) && file_exists(note) ? file_read(note, 1024, NULL, NULL) : NULL;
    int rc = 0;
    if (!was || strcmp(was, settings) != 0) {
        (void)remove(note);
        rc = tokenizer_run(t, run, e);
        if (rc == 0)
            rc = file_write(note, settings, strlen(settings), e);
    }
    free(note);
    free(settings);
    free(was);
    return rc;
}

char *learn_tokenizer(const char *given, const struct bundle *base, const char *work, struct tokenizer_options t, const struct corpus *c,
                      const struct run *run, struct err *e)
{
    const char *there = given ? given : base ? bundle_file(base, "tokenizer.model") : NULL;
    if (there)
        return xstrdup(there);
    char *path = path_join(work, "tokenizer.model");
    t.output = path;
    if (train_tokenizer(&t, c, run, e) == 0)
        return path;
    free(path);
    return NULL;
}

static int open_tokenizer(struct learn *s, const struct bundle *base, struct err *e)
{
    const struct tokenizer_options t = {.data = s->o.data, .vocab = s->o.vocab, .threads = s->o.threads, .hold_out = s->o.hold_out,
                                        .hold_out_seed = s->o.hold_out_seed};
    s->tokenizer_path = learn_tokenizer(s->o.tokenizer, base, s->work, t, &s->corpus, s->run, e);
    s->tokenizer = s->tokenizer_path ? tokenizer_open(s->tokenizer_path, e) : NULL;
    return s->tokenizer ? 0 : -1;
}

static void tokenise(struct learn *s)
{
    int64_t room = 1 << 16;
    int32_t wordless = 0;
    s->tokens = xmalloc((size_t)room * sizeof *s->tokens);
    s->offsets = xcalloc((size_t)s->n + 1, sizeof *s->offsets);
    struct str text = {0};
    for (int32_t i = 0; i < s->n; i++) {
        bool cut = false;
        if (s->offsets[i] + s->o.max_tokens > room)
            s->tokens = xrealloc(s->tokens, (size_t)(room *= 2), sizeof *s->tokens);
        str_clear(&text);
        document_text(&s->corpus.documents[i], &text);
        int32_t n = tokenizer_encode(s->tokenizer, text.data ? text.data : "", text.size, s->tokens + s->offsets[i], s->o.max_tokens, true, &cut);
        s->offsets[i + 1] = s->offsets[i] + n;
        s->truncated += cut;
        wordless += n <= 1;
    }
    str_free(&text);
    run_note(s->run, "corpus: %d documents, %lld tokens, %d cut at %d tokens", s->n, (long long)s->offsets[s->n], s->truncated, s->o.max_tokens);
    if (wordless)
        run_note(s->run, "warning: %d documents have no words; they keep their place and get the ID of the empty text", wordless);
}

/* ---- model ---- */

static int config_of(struct learn *s, const struct bundle *base, struct t5_config *c, struct err *e)
{
    const struct learn_options *o = &s->o;
    *c = t5_shape_config(&o->shape, tokenizer_size(s->tokenizer), o->gated);
    if (base) {
        if (model_file_config(base, "base", c, e) < 0)
            return -1;
        if (c->vocab < tokenizer_size(s->tokenizer))
            return err_set(e, ERR_DATA, "%s: the model has %d vocabulary rows, the tokenizer %s has %d pieces", o->base, c->vocab,
                           s->tokenizer_path, tokenizer_size(s->tokenizer));
    }
    c->codes = o->positions * o->codes;
    c->dropout = (float)o->dropout;
    return 0;
}

/* Starts from the imported T5; the code rows at the end of shared.weight stay as they were drawn. */
static int start_from_base(struct learn *s, const struct bundle *base, struct err *e)
{
    struct t5 *from = model_file_read(base, "base", s->be, false, NULL, 0, NULL, NULL, e);
    if (from)
        t5_copy_weights(s->model, from);
    t5_free(from);
    return from ? 0 : -1;
}

/* Work space for passes of so many documents. */
static struct lm_limits work_limits(const struct learn *s, int32_t documents)
{
    int64_t text = learn_longest_tokens(s, documents);
    return (struct lm_limits){.documents = documents, .rows = 2 * documents, .batch = s->o.batch, .tokens = (int32_t)(2 * text),
                              .text_tokens = (int32_t)text, .positions = s->o.positions, .codes = s->o.codes, .train = true};
}

/* Half the batch, half of that .. until a pass's work space is bounded. Never by the memory that is free: that would make other numbers. */
static void choose_passes(struct learn *s, const struct t5_config *c)
{
    bool open = s->o.micro_batch == 0;
    if (open || s->o.micro_batch > s->o.batch)
        s->o.micro_batch = s->o.batch;
    for (; open && s->o.micro_batch > 1; s->o.micro_batch = (s->o.micro_batch + 1) / 2) {
        const struct lm_limits l = work_limits(s, s->o.micro_batch);
        if (lm_work_bytes(s->be, c, &l) <= LEARN_PASS_BYTES)
            break;
    }
    if (s->o.micro_batch < s->o.batch)
        run_note(s->run, "batch: %d documents in passes of %d", s->o.batch, s->o.micro_batch);
}

static int check_memory(const struct learn *s, const struct t5_options *o, struct err *e)
{
    struct need n = {.be = s->be};
    const struct lm_limits l = work_limits(s, s->o.micro_batch);
    need_model(&n, o);
    n.bytes += lm_work_bytes(s->be, &o->config, &l);
    return need_check(&n, "learning", e);
}

static int make_model(struct learn *s, const struct bundle *base, struct err *e)
{
    struct t5_config c;
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    if (config_of(s, base, &c, e) < 0 || t5_config_check(&c, e) < 0)
        return -1;
    const struct t5_options o = {.config = c, .train = true, .extra = extra,
                                 .extra_count = lmindexer_extras(&c, s->o.positions, s->o.codes, extra)};
    choose_passes(s, &c);
    if (check_memory(s, &o, e) < 0)
        return -1;
    s->model = t5_init(s->be, &o, e);
    if (!s->model)
        return -1;
    t5_randomise(s->model, s->o.seed);
    return base ? start_from_base(s, base, e) : 0;
}

static int make_work(struct learn *s, struct err *e)
{
    const struct lm_limits l = work_limits(s, s->o.micro_batch);
    s->lm = lm_work_init(s->model, &l, e);
    s->codes = xcalloc((size_t)s->n * (size_t)s->o.positions, sizeof *s->codes);
    s->start = xcalloc((size_t)t5_size(s->model), sizeof *s->start);
    s->batch = learn_batch_init(s);
    return s->lm ? 0 : -1;
}

char *learn_settings(const struct learn *s)
{
    const struct learn_options *o = &s->o;
    struct str t = {0};
    str_printf(&t, "documents=%d\ntokens=%016llx\nbase=%s\n", s->n,
               (unsigned long long)hash_bytes(s->tokens, (size_t)s->offsets[s->n] * sizeof *s->tokens, 0), o->base ? o->base : "");
    const struct t5_config *c = t5_config_of(s->model);
    str_printf(&t, "vocab=%d\nd_model=%d\nd_ff=%d\nd_kv=%d\nheads=%d\nencoder_layers=%d\ndecoder_layers=%d\ngated=%d\n", c->vocab, c->d_model,
               c->d_ff, c->d_kv, c->heads, c->encoder_layers, c->decoder_layers, c->gated);
    str_printf(&t, "positions=%d\ncodes=%d\nmax_tokens=%d\nbatch=%d\nnegatives=%d\nseed=%llu\n", o->positions, o->codes, o->max_tokens, o->batch,
               o->negatives, (unsigned long long)o->seed);
    str_printf(&t, "warmup_epochs=%.17g\ncontinuous_epochs=%.17g\njoint_epochs=%.17g\nlr=%.17g\ndropout=%.17g\n", o->warmup_epochs,
               o->continuous_epochs, o->joint_epochs, o->lr, o->dropout);
    str_printf(&t, "contrastive_temperature=%.17g\nweight_recon=%.17g\nweight_contrastive=%.17g\nweight_commitment=%.17g\n",
               o->contrastive_temperature, o->weight_recon, o->weight_contrastive, o->weight_commitment);
    str_printf(&t, "target_share=%.17g\nkmeans_restarts=%d\nkmeans_iterations=%d\n", o->target_share, o->kmeans_restarts, o->kmeans_iterations);
    optimiser_settings(&o->adam, &t);
    str_printf(&t, "micro_batch=%d\nmost_steps=%lld\nheld_out=%d\n", o->micro_batch, (long long)s->most_steps, s->n - s->trained);
    for (int32_t i = 0; i < o->positions; i++)
        str_printf(&t, "hints.%d=%.17g\n", i + 1, o->hints[i]);
    return t.data;
}

int learn_open_texts(struct learn *s, const struct bundle *base, struct err *e)
{
    if (open_tokenizer(s, base, e) < 0)
        return -1;
    tokenise(s);
    return 0;
}

static int open_with_base(struct learn *s, const struct bundle *base, struct err *e)
{
    if (learn_open_texts(s, base, e) < 0 || make_model(s, base, e) < 0 || make_work(s, e) < 0)
        return -1;
    s->settings = learn_settings(s);
    return 0;
}

int learn_open_corpus(struct learn *s, struct err *e)
{
    char message[512];
    fill_defaults(&s->o);
    if (check_options(&s->o, e) < 0)
        return -1;
    s->be = backend_open(s->o.device ? s->o.device : "auto", s->o.threads, message, sizeof message);
    if (!s->be)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", s->o.device ? s->o.device : "auto", message);
    run_note_device(s->run, s->be->device, message);
    s->work = xprintf("%s.work", s->o.out);
    return read_documents(s, e) < 0 ? -1 : file_mkdirs(s->work, e);
}

int learn_open(struct learn *s, struct err *e)
{
    if (learn_open_corpus(s, e) < 0)
        return -1;
    struct bundle *base = s->o.base ? bundle_open(s->o.base, e) : NULL;
    if (s->o.base && !base)
        return -1;
    int rc = open_with_base(s, base, e);
    bundle_close(base);
    return rc;
}

void learn_close(struct learn *s)
{
    lm_work_free(s->lm);
    t5_free(s->model);
    quantiser_free(s->quantiser);
    text_embedding_close(s->texts);
    tokenizer_close(s->tokenizer);
    learn_batch_free(s->batch);
    corpus_free(&s->corpus);
    void *all[] = {s->held, s->tokenizer_path, s->work, s->tokens, s->offsets, s->codes, s->start, s->settings};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
