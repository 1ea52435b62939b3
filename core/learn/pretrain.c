/* pretrain.c: `semindex pretrain`: a T5 learns span corruption on the user's own texts, a backbone where no weights can be had.
 *
 * Every document is tokenised once and cut into windows of about equal length, so that every token is seen in every epoch; masks are drawn anew in
 * each. Documents of fewer than two tokens take no part. Validation: the windows of documents that are held out by hash, masked once and for all; the
 * best weights are kept. Rows of the vocabulary: the pieces, 100 sentinels, and T5's padding up to a multiple of 128. The run is the trainer's: it
 * stops, resumes and is bound to its settings as every training. Owner of everything: struct pretrain; the bundle appears at the end, whole. */
#include "learn_internal.h"

#include "../base/file.h"
#include "../base/fill.h"
#include "../base/hash.h"
#include "../model/model_file.h"
#include "../model/need.h"
#include "provenance.h"
#include "span_corruption.h"
#include "trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALIDATION_MOST = 500, PADDED_TO = 128 };
enum { STREAM_MASK = 31, STREAM_HELD_MASK = 32, STREAM_HOLD_OUT = 33 };

struct window { /* tokens of one document */
    int64_t first;
    int32_t count;
};

struct pretrain {
    struct pretrain_options o; /* defaults filled in */
    const struct run *run;
    const struct backend *be;
    struct bundle *base; /* NULL: random weights */
    struct corpus corpus;
    int32_t documents;
    char *tokenizer_path, *work, *checkpoint, *settings;
    struct tokenizer *tokenizer;
    struct span_corruption task;
    int32_t *pool; /* tokens of all documents, without EOS */
    int64_t pool_size, pool_room;
    struct window *window; /* to train on; held: to validate on */
    struct window *held;
    int64_t windows, window_room;
    int32_t held_count;
    struct t5 *model;
};

/* ---- options ---- */

static void fill_defaults(struct pretrain_options *o)
{
    t5_shape_fill(&o->shape, &t5_shape_text);
    fill_i32(&o->max_tokens, 128);
    fill_i32(&o->batch, 64);
    fill_i32(&o->validations, 10);
    fill_i32(&o->patience, 5);
    fill_f64(&o->noise_density, 0.15);
    fill_f64(&o->mean_span, 3);
    fill_f64(&o->epochs, 30);
    fill_f64(&o->lr, o->base ? 5e-4 : 2e-3);
    fill_f64(&o->validation_share, 0.02);
    fill_f64(&o->checkpoint_s, 20);
    o->dropout = o->dropout < 0 ? 0 : o->dropout;
    o->seed = o->seed ? o->seed : 1;
    o->hold_out_seed = o->hold_out_seed ? o->hold_out_seed : 1;
    optimiser_defaults(&o->adam);
}

/* The longest inputs whose windows have a sentinel for every span. */
static int32_t most_tokens(const struct span_corruption *task)
{
    int32_t n = 2, spans = 0;
    while (span_noise(task, n + 1, &spans) > 0 && spans <= SENTINELS)
        n++;
    return span_input_size(task, n);
}

static int check_spans(const struct pretrain *p, struct err *e)
{
    int32_t given = p->o.max_tokens, n = span_window(&p->task, given), spans = 0;
    if (n < 3) /* else a text of three is cut into two and one, and one has nothing to mask */
        return err_set(e, ERR_USAGE, "max_tokens %d: at least 4", given);
    span_noise(&p->task, n, &spans);
    if (spans > SENTINELS)
        return err_set(e, ERR_USAGE, "max_tokens %d: at most %d, where %d spans are masked, one for each of T5's sentinels; longer spans or less noise "
                       "allow more", given, most_tokens(&p->task), SENTINELS);
    return 0;
}

static int check_options(const struct pretrain *p, struct err *e)
{
    const struct pretrain_options *o = &p->o;
    if (o->base && o->tokenizer)
        return err_set(e, ERR_USAGE, "base and tokenizer: a base goes on with its own tokenizer; leave one out");
    if (o->noise_density >= 1)
        return err_set(e, ERR_USAGE, "noise_density %g: must be below 1", o->noise_density);
    if (o->mean_span < 1)
        return err_set(e, ERR_USAGE, "mean_span %g: must be at least 1", o->mean_span);
    if (o->dropout >= 1 || o->validation_share >= 1)
        return err_set(e, ERR_USAGE, "dropout %g and validation share %g: must be below 1", o->dropout, o->validation_share);
    return check_spans(p, e);
}

/* ---- texts into windows ---- */

static void add_window(struct pretrain *p, struct window w, bool held)
{
    if (held) {
        if (p->held_count < VALIDATION_MOST)
            p->held[p->held_count++] = w;
        return;
    }
    if (p->windows == p->window_room)
        p->window = xrealloc(p->window, (size_t)(p->window_room = 2 * p->window_room + 1024), sizeof *p->window);
    p->window[p->windows++] = w;
}

/* Tokens of a text at the end of the pool, however many. */
static int32_t add_tokens(struct pretrain *p, const struct str *text)
{
    int32_t n = 0, room = 1024;
    for (bool cut = true; cut; room *= 2) {
        if (p->pool_room - p->pool_size < room)
            p->pool = xrealloc(p->pool, (size_t)(p->pool_room = 2 * p->pool_room + room), sizeof *p->pool);
        n = tokenizer_encode(p->tokenizer, text->data ? text->data : "", text->size, p->pool + p->pool_size, room, false, &cut);
    }
    p->pool_size += n;
    return n;
}

static void add_document(struct pretrain *p, const struct str *text, bool held)
{
    int64_t first = p->pool_size;
    int32_t n = add_tokens(p, text), most = span_window(&p->task, p->o.max_tokens);
    int64_t parts = ((int64_t)n + most - 1) / most;
    for (int64_t i = 0; i < parts && n >= 2; i++)
        add_window(p, (struct window){first + n * i / parts, (int32_t)(n * (i + 1) / parts - n * i / parts)}, held);
}

static int read_windows(struct pretrain *p, struct err *e)
{
    const uint64_t seed = mix64(p->o.seed, STREAM_HOLD_OUT);
    struct str text = {0};
    p->held = xcalloc(VALIDATION_MOST, sizeof *p->held);
    for (int32_t i = 0; i < p->documents; i++) {
        str_clear(&text);
        document_text(&p->corpus.documents[i], &text);
        add_document(p, &text, mix_uniform(seed, (uint64_t)i) < p->o.validation_share);
    }
    str_free(&text);
    if (p->windows + p->held_count == 0)
        return err_set(e, ERR_DATA, "%s: no document has two tokens or more", p->o.data);
    if (p->windows == 0 || p->held_count == 0) {
        run_note(p->run, "warning: too few documents to hold any out: validation is on training texts, masked otherwise");
        while (p->windows == 0 && p->held_count > 0)
            add_window(p, p->held[--p->held_count], false);
        for (int64_t i = 0; i < p->windows; i++)
            add_window(p, p->window[i], true);
    }
    return 0;
}

/* ---- samples ---- */

static int32_t draw_window(const struct pretrain *p, const struct window *w, uint64_t seed, int32_t *tokens, uint32_t *codes)
{
    span_corrupt(&p->task, p->pool + w->first, w->count, seed, tokens, codes);
    return span_input_size(&p->task, w->count);
}

static int32_t draw(void *state, int64_t epoch, int64_t index, int32_t *tokens, uint32_t *codes)
{
    const struct pretrain *p = state;
    uint64_t seed = mix64(mix64(mix64(p->o.seed, STREAM_MASK), (uint64_t)epoch), (uint64_t)index);
    return draw_window(p, &p->window[index], seed, tokens, codes);
}

static int32_t draw_held(void *state, int32_t i, int32_t *tokens, uint32_t *codes)
{
    const struct pretrain *p = state;
    return draw_window(p, &p->held[i], mix64(mix64(p->o.seed, STREAM_HELD_MASK), (uint64_t)i), tokens, codes);
}

static struct trainer_source source_of(struct pretrain *p);

static int validate(void *state, struct t5 *model, double *metric, struct err *e)
{
    const struct trainer_source source = source_of(state);
    return trainer_text_metric(model, &source, ((struct pretrain *)state)->held_count, draw_held, metric, e);
}

static int32_t longest_target(const struct pretrain *p)
{
    return span_target_size(&p->task, span_window(&p->task, p->o.max_tokens));
}

static struct trainer_source source_of(struct pretrain *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->windows; i++)
        sum += span_target_size(&p->task, p->window[i].count);
    return (struct trainer_source){p, p->windows, p->o.max_tokens, draw, validate, "exp(-loss)", longest_target(p), sum / (double)p->windows};
}

/* ---- opening ---- */

static int read_corpus(struct pretrain *p, struct err *e)
{
    if (corpus_read(&p->corpus, p->o.data, p->run, e) < 0)
        return -1;
    corpus_hold_out(&p->corpus, p->o.hold_out, p->o.hold_out_seed, p->run);
    p->documents = p->o.limit > 0 && p->o.limit < p->corpus.count ? p->o.limit : p->corpus.count;
    return 0;
}

static int open_tokenizer(struct pretrain *p, struct err *e)
{
    const struct tokenizer_options t = {.data = p->o.data, .vocab = p->o.vocab, .threads = p->o.threads, .hold_out = p->o.hold_out,
                                        .hold_out_seed = p->o.hold_out_seed};
    if (p->base && !bundle_file(p->base, "tokenizer.model"))
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no tokenizer", p->o.base);
    p->tokenizer_path = learn_tokenizer(p->o.tokenizer, p->base, p->work, t, &p->corpus, p->run, e);
    p->tokenizer = p->tokenizer_path ? tokenizer_open(p->tokenizer_path, e) : NULL;
    if (!p->tokenizer)
        return -1;
    p->task.first = tokenizer_size(p->tokenizer) + SENTINELS - 1;
    return 0;
}

static int config_of(const struct pretrain *p, struct t5_config *c, struct err *e)
{
    const struct pretrain_options *o = &p->o;
    int32_t rows = p->task.first + 1;
    *c = t5_shape_config(&o->shape, (rows + PADDED_TO - 1) / PADDED_TO * PADDED_TO, o->gated);
    if (p->base && model_file_config(p->base, "base", c, e) < 0)
        return -1;
    if (c->vocab < rows)
        return err_set(e, ERR_DATA, "%s: the model has %d vocabulary rows; %d pieces and %d sentinels need %d", o->base, c->vocab,
                       rows - SENTINELS, SENTINELS, rows);
    c->dropout = (float)o->dropout;
    return 0;
}

static int start_from_base(struct pretrain *p, struct err *e)
{
    struct t5 *from = model_file_read(p->base, "base", p->be, false, NULL, 0, NULL, NULL, e);
    if (from)
        t5_copy_weights(p->model, from);
    t5_free(from);
    return from ? 0 : -1;
}

static int make_model(struct pretrain *p, struct err *e)
{
    struct t5_options o = {.train = true};
    struct need n = {.be = p->be};
    if (config_of(p, &o.config, e) < 0 || t5_config_check(&o.config, e) < 0)
        return -1;
    need_model(&n, &o);
    trainer_need(&n, &o.config, longest_target(p), trainer_rows(p->o.batch, p->o.micro_batch), p->o.max_tokens);
    trainer_text_need(&n, &o.config, longest_target(p), p->o.max_tokens);
    if (need_check(&n, "pretraining", e) != 0)
        return -1;
    p->model = t5_init(p->be, &o, e);
    if (!p->model)
        return -1;
    t5_randomise(p->model, p->o.seed);
    return p->base ? start_from_base(p, e) : 0;
}

static char *settings_of(const struct pretrain *p)
{
    const struct pretrain_options *o = &p->o;
    const struct t5_config *c = t5_config_of(p->model);
    const char *weights = p->base ? bundle_sha256(p->base, "base.safetensors") : "";
    struct str s = {0};
    str_printf(&s, "documents=%d\ntokens=%016llx\nbase=%s\n", p->documents,
               (unsigned long long)hash_bytes(p->pool, (size_t)p->pool_size * sizeof *p->pool, 0), weights);
    str_printf(&s, "vocab=%d\nd_model=%d\nd_ff=%d\nd_kv=%d\nheads=%d\nencoder_layers=%d\ndecoder_layers=%d\ngated=%d\n", c->vocab, c->d_model,
               c->d_ff, c->d_kv, c->heads, c->encoder_layers, c->decoder_layers, c->gated);
    str_printf(&s, "max_tokens=%d\nnoise_density=%.17g\nmean_span=%.17g\nwindows=%lld\n", o->max_tokens, o->noise_density, o->mean_span,
               (long long)p->windows);
    str_printf(&s, "batch=%d\nmicro_batch=%d\nsteps=%lld\nepochs=%.17g\nminutes=%.17g\nlr=%.17g\ndropout=%.17g\n", o->batch, o->micro_batch,
               (long long)o->steps, o->epochs, o->minutes, o->lr, o->dropout);
    optimiser_settings(&o->adam, &s);
    str_printf(&s, "validation_share=%.17g\nvalidations=%d\npatience=%d\nseed=%llu\n", o->validation_share, o->validations, o->patience,
               (unsigned long long)o->seed);
    return s.data;
}

static int open_device(struct pretrain *p, struct err *e)
{
    char message[512];
    p->be = backend_open(p->o.device ? p->o.device : "auto", p->o.threads, message, sizeof message);
    if (!p->be)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", p->o.device ? p->o.device : "auto", message);
    run_note_device(p->run, p->be->device, message);
    fill_i32(&p->o.micro_batch, p->be->has_host_memory ? 16 : 128);
    return 0;
}

/* Said before hours of training, not after. */
static int check_output(const struct pretrain *p, struct err *e)
{
    if (p->o.replace || !file_exists(p->o.out))
        return 0;
    return err_set(e, ERR_CONFLICT, "%s: exists; --replace writes a new bundle in its place", p->o.out);
}

static int pretrain_open(struct pretrain *p, struct err *e)
{
    fill_defaults(&p->o);
    p->task = (struct span_corruption){.density = p->o.noise_density, .mean_span = p->o.mean_span};
    if (check_options(p, e) < 0 || check_output(p, e) < 0 || open_device(p, e) < 0)
        return -1;
    p->work = xprintf("%s.work", p->o.out);
    p->checkpoint = path_join(p->work, "pretrain.checkpoint");
    p->base = p->o.base ? bundle_open(p->o.base, e) : NULL;
    if ((p->o.base && !p->base) || read_corpus(p, e) < 0 || file_mkdirs(p->work, e) < 0 || open_tokenizer(p, e) < 0)
        return -1;
    if (read_windows(p, e) < 0 || make_model(p, e) < 0)
        return -1;
    p->settings = settings_of(p);
    return 0;
}

static void pretrain_close(struct pretrain *p)
{
    t5_free(p->model);
    tokenizer_close(p->tokenizer);
    corpus_free(&p->corpus);
    bundle_close(p->base);
    void *all[] = {p->tokenizer_path, p->work, p->checkpoint, p->settings, p->pool, p->window, p->held};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- the run ---- */

static int put_run(struct pretrain *p, struct bundle *b, struct err *e)
{
    const struct rate_search none = {0};
    const struct provenance run = {.command = "pretrain", .data = p->o.data, .corpus = &p->corpus, .documents = p->documents, .seed = p->o.seed,
                                   .given = p->o.given, .settings = p->settings, .search = &none};
    return provenance_put(b, "pretrain.run.json", &run, e);
}

static int put_all(struct pretrain *p, struct bundle *b, struct err *e)
{
    size_t size;
    char *tokenizer = file_read(p->tokenizer_path, 0, &size, e);
    char *settings = xprintf("{\"task\":\"pretrain\",\"max_tokens\":%d,\"seed\":%llu}", p->o.max_tokens, (unsigned long long)p->o.seed);
    int rc = tokenizer ? bundle_put(b, "tokenizer.model", tokenizer, size, e) : -1;
    if (rc == 0)
        rc = model_file_write(b, "base", p->model, NULL, settings, e);
    if (rc == 0)
        rc = put_run(p, b, e);
    free(tokenizer);
    free(settings);
    return rc;
}

static int write_bundle(struct pretrain *p, struct err *e)
{
    struct bundle *b = bundle_create(p->o.out, p->o.replace, e);
    int rc = b ? bundle_begin(b, e) : -1;
    if (rc == 0)
        rc = put_all(p, b, e) == 0 ? bundle_commit(b, e) : -1;
    bundle_close(b);
    return rc;
}

static int train(struct pretrain *p, struct err *e)
{
    const struct pretrain_options *o = &p->o;
    const struct t5_config *c = t5_config_of(p->model);
    const struct trainer_source source = source_of(p);
    const struct code_layout none = {0};
    const struct trainer_options options = {.name = "pretrain", .checkpoint = p->checkpoint, .settings = p->settings, .batch = o->batch,
                                            .micro_batch = o->micro_batch, .steps = o->steps, .minutes = o->minutes, .epochs = o->epochs,
                                            .lr = o->lr, .adam = o->adam, .validations = o->validations, .patience = o->patience,
                                            .seed = o->seed, .checkpoint_s = o->checkpoint_s};
    struct trainer_result result;
    run_note(p->run, "pretrain: T5 of %lld parameters, width %d, %d + %d layers, %d vocabulary rows", (long long)t5_size(p->model), c->d_model,
             c->encoder_layers, c->decoder_layers, c->vocab);
    run_note(p->run, "pretrain: %d documents, %lld tokens, %lld windows; targets of %.1f tokens; validation on %d windows of other documents",
             p->documents, (long long)p->pool_size, (long long)p->windows, source.text_mean, p->held_count);
    if (trainer_run(p->model, &none, &source, &options, p->run, &result, e) != 0)
        return -1;
    run_note(p->run, "pretrain: kept step %lld of %lld, validation loss %.4f a token", (long long)result.best_step, (long long)result.steps,
             -log(result.best_metric));
    return 0;
}

int pretrain_run(const struct pretrain_options *o, const struct run *run, struct err *e)
{
    struct pretrain p = {.o = *o, .run = run};
    int rc = pretrain_open(&p, e);
    if (rc == 0)
        rc = train(&p, e);
    if (rc == 0)
        rc = write_bundle(&p, e);
    if (rc == 0)
        rc = file_remove_tree(p.work, e);
    pretrain_close(&p);
    return rc;
}
