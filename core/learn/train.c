/* train.c: `semindex train search|recommend`: opens what a task stands on, runs the trainer, adds the best weights to the bundle.
 *
 * The settings string binds the checkpoint to all that decides the numbers: options, the ID space's digest and a digest of the samples. A
 * run that was stopped or killed goes on when it is started again with the same command; what is in the bundle changes once, at the end. */
#include "train_internal.h"

#include "../data/corpus.h"
#include "checkpoint.h"

#include "../model/model_file.h"

#include <stdlib.h>

/* "name=value" lines, see checkpoint.h. */
static char *settings_text(const struct train *t, const struct task_kind *kind, const struct task *task)
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
    str_printf(&s, "max_tokens=%d\nmax_history=%d\nvalidations=%d\npatience=%d\nseed=%llu\n", o->max_tokens, o->max_history, o->validations,
               o->patience, (unsigned long long)o->seed);
    return s.data;
}

static struct trainer_options trainer_options_of(const struct train *t, const char *part)
{
    const struct train_options *o = &t->o;
    return (struct trainer_options){.name = part,
                                    .checkpoint = t->checkpoint,
                                    .settings = t->settings,
                                    .batch = o->batch,
                                    .steps = o->steps,
                                    .minutes = o->minutes,
                                    .epochs = o->epochs,
                                    .lr = o->lr,
                                    .warmup_share = 0.1,
                                    .label_smoothing = o->label_smoothing,
                                    .validations = o->validations,
                                    .patience = o->patience,
                                    .seed = o->seed,
                                    .checkpoint_s = o->checkpoint_s};
}

static int store(struct train *t, const struct task_kind *kind, struct task *task, struct err *e)
{
    if (bundle_begin(t->bundle, e) != 0)
        return -1;
    char *settings = kind->settings(task);
    int rc = model_file_write(t->bundle, kind->part, t->model, &t->layout, settings, e);
    free(settings);
    if (rc == 0 && kind->put_files != NULL)
        rc = kind->put_files(task, e);
    if (rc == 0)
        return bundle_commit(t->bundle, e);
    bundle_abandon(t->bundle);
    return -1;
}

static int run_task(struct train *t, const struct task_kind *kind, struct task *task, struct err *e)
{
    struct trainer_source source = kind->source(task);
    struct trainer_result result;
    t->settings = settings_text(t, kind, task);
    struct trainer_options options = trainer_options_of(t, kind->part);
    run_note(t->run, "%s: T5 of %lld parameters, width %d, %d + %d layers", kind->part, (long long)t5_size(t->model),
             t5_config_of(t->model)->d_model, t5_config_of(t->model)->encoder_layers, t5_config_of(t->model)->decoder_layers);
    if (trainer_run(t->model, &t->layout, &source, &options, t->run, &result, e) != 0)
        return -1;
    run_note(t->run, "%s: kept step %lld of %lld, validation nDCG@10 %.4f", kind->part, (long long)result.best_step,
             (long long)result.steps, result.best_metric);
    if (store(t, kind, task, e) != 0)
        return -1;
    checkpoint_remove(t->checkpoint);
    return 0;
}

int train_run(const struct train_options *o, const struct run *run, struct err *e)
{
    const struct task_kind *kind = o->task == TRAIN_SEARCH ? &task_search : &task_recommend;
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
