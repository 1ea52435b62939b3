/* train.c: `semindex train search|recommend|queries`: opens what a task stands on, runs the trainer, adds the best weights to the bundle.
 *
 * The settings string binds the checkpoint to all that decides the numbers: options, the ID space's digest and a digest of the samples. A
 * run that was stopped or killed goes on when it is started again with the same command; what is in the bundle changes once, at the end. */
#include "train_internal.h"

#include "../data/corpus.h"
#include "checkpoint.h"
#include "provenance.h"

#include "../model/model_file.h"

#include <stdlib.h>

char *train_settings(const struct train *t, const struct task_kind *kind, const struct task *task)
{
    const struct train_options *o = &t->o;
    const struct t5_config *c = t5_config_of(t->model);
    struct str s = {0};
    char digest[65];
    bundle_id_digest(t->bundle, digest);
    str_printf(&s, "task=%s\nids=%s\nsamples=%016llx\n", kind->part, digest, (unsigned long long)kind->digest(task));
    str_printf(&s, "d_model=%d\nd_ff=%d\nd_kv=%d\nheads=%d\nencoder_layers=%d\ndecoder_layers=%d\nvocab=%d\n", c->d_model, c->d_ff, c->d_kv,
               c->heads, c->encoder_layers, c->decoder_layers, c->vocab);
    str_printf(&s, "batch=%d\nsteps=%lld\nepochs=%g\nminutes=%g\nlr=%g\ndropout=%g\nlabel_smoothing=%g\n", o->batch, (long long)o->steps,
               o->epochs, o->minutes, o->lr, o->dropout, o->label_smoothing);
    optimiser_settings(&o->adam, &s);
    str_printf(&s, "text_history=%d\nstart=%s\nvalidation_share=%g\npseudo=%d\ngiven_pairs=%d\n", o->text_history,
               train_start_name(o->start), o->validation_share, o->pseudo_per_document, o->given_pairs);
    str_printf(&s, "written_share=%g\nbase=%s\n", o->written_share,
               o->start == START_BASE ? bundle_sha256(t->base, "base.safetensors") : "");
    str_printf(&s, "micro_batch=%d\n", trainer_rows(o->batch, o->micro_batch));
    str_printf(&s, "max_tokens=%d\nmax_history=%d\nvalidations=%d\npatience=%d\nseed=%llu\n", o->max_tokens, o->max_history, o->validations,
               o->patience, (unsigned long long)o->seed);
    return s.data;
}

struct trainer_options train_trainer_options(const struct train *t, const char *part)
{
    const struct train_options *o = &t->o;
    return (struct trainer_options){.name = part,
                                    .checkpoint = t->checkpoint,
                                    .settings = t->settings,
                                    .batch = o->batch,
                                    .micro_batch = o->micro_batch,
                                    .steps = o->steps,
                                    .minutes = o->minutes,
                                    .epochs = o->epochs,
                                    .lr = o->lr,
                                    .adam = o->adam,
                                    .label_smoothing = o->label_smoothing,
                                    .validations = o->validations,
                                    .patience = o->patience,
                                    .seed = o->seed,
                                    .checkpoint_s = o->checkpoint_s};
}

static int put_run(struct train *t, const struct task_kind *kind, struct err *e)
{
    char *command = xprintf("train %s", kind->part), *name = xprintf("%s.run.json", kind->part);
    const struct provenance p = {.command = command, .data = t->o.data, .corpus = &t->corpus, .documents = t->corpus.count, .seed = t->o.seed,
                                 .given = t->o.given, .settings = t->settings, .search = &t->o.search, .figure = t->rate_metric};
    int rc = provenance_put(t->bundle, name, &p, e);
    free(command);
    free(name);
    return rc;
}

static int store(struct train *t, const struct task_kind *kind, struct task *task, struct err *e)
{
    if (bundle_begin(t->bundle, e) != 0)
        return -1;
    char *settings = kind->settings(task);
    int rc = model_file_write(t->bundle, kind->part, t->model, t->layout.positions ? &t->layout : NULL, settings, e);
    free(settings);
    if (rc == 0 && kind->put_files != NULL)
        rc = kind->put_files(task, e);
    if (rc == 0)
        rc = put_run(t, kind, e);
    if (rc == 0)
        return bundle_commit(t->bundle, e);
    bundle_abandon(t->bundle);
    return -1;
}

static int run_task(struct train *t, const struct task_kind *kind, struct task *task, struct err *e)
{
    struct trainer_source source = kind->source(task);
    struct trainer_result result;
    run_note(t->run, "%s: T5 of %lld parameters, width %d, %d + %d layers", kind->part, (long long)t5_size(t->model),
             t5_config_of(t->model)->d_model, t5_config_of(t->model)->encoder_layers, t5_config_of(t->model)->decoder_layers);
    if (t->o.search.count > 0 && train_rates(t, kind, task, &result, e) != 0)
        return -1;
    t->settings = train_settings(t, kind, task);
    struct trainer_options options = train_trainer_options(t, kind->part);
    if ((t->o.search.count == 0 || t->o.search.steps > 0) && trainer_run(t->model, &t->layout, &source, &options, t->run, &result, e) != 0)
        return -1;
    run_note(t->run, "%s: kept step %lld of %lld, validation %s %.4f", kind->part, (long long)result.best_step, (long long)result.steps,
             source.metric, result.best_metric);
    if (kind->choose != NULL && kind->choose(task, e) != 0)
        return -1;
    if (store(t, kind, task, e) != 0)
        return -1;
    checkpoint_remove(t->checkpoint);
    train_rates_remove(t);
    return 0;
}

int train_run(const struct train_options *o, const struct run *run, struct err *e)
{
    static const struct task_kind *const kinds[] = {[TRAIN_SEARCH] = &task_search, [TRAIN_RECOMMEND] = &task_recommend, [TRAIN_QUERIES] = &task_queries};
    const struct task_kind *kind = kinds[o->task];
    struct train t = {.o = *o, .run = run};
    struct task *task = NULL;
    int rc = train_open(&t, e);
    if (rc == 0 && (task = kind->open(&t, e)) == NULL)
        rc = -1;
    if (rc == 0)
        rc = run_task(&t, kind, task, e);
    if (task != NULL)
        kind->close(task);
    train_close(&t);
    return rc;
}
