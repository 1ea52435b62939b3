/* train_rates.c: `train --search-lr`: which learning rate of a few is best by validation.
 *
 * A trial is a run of the trainer with its own checkpoint beside the run's own. A finished trial's checkpoint holds its best weights and the
 * trainer returns at once from it, so a search that was stopped or killed goes on in the trial that it was in. A trial whose validation never
 * said anything (a loss that is no number) counts as diverged and is never chosen; of equal rates the first wins. The checkpoints stay
 * until the result is in the bundle. */
#include "train_internal.h"

#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *trial_path(const struct train *t, int32_t trial)
{
    return xprintf("%s.lr-%d", t->checkpoint, trial + 1);
}

static void put_weights(struct train *t, const float *weights)
{
    size_t bytes = (size_t)t5_size(t->model) * sizeof *weights;
    t->be->write(t5_master(t->model), weights, bytes);
    t->be->zero(t5_moment1(t->model), bytes);
    t->be->zero(t5_moment2(t->model), bytes);
    t->be->zero(t5_grad(t->model), bytes);
    t5_refresh(t->model);
}

/* Options of trial number `trial` in t->o. */
static void trial_options(struct train *t, int32_t trial)
{
    t->o.lr = t->o.search.lr[trial];
    if (t->o.search.steps > 0) {
        t->o.steps = t->o.search.steps;
        t->o.minutes = t->o.epochs = 0;
    }
}

static int run_trial(struct train *t, const struct task_kind *kind, struct task *task, int32_t trial, struct trainer_result *result,
                     struct err *e)
{
    const struct train_options kept = t->o;
    struct trainer_source source = kind->source(task);
    char *path = trial_path(t, trial), *name = xprintf("%s, rate %g", kind->part, t->o.search.lr[trial]);
    trial_options(t, trial);
    char *settings = train_settings(t, kind, task);
    struct trainer_options options = train_trainer_options(t, name);
    options.checkpoint = path;
    options.settings = settings;
    int rc = trainer_run(t->model, &t->layout, &source, &options, t->run, result, e);
    if (rc == 0 && !(isfinite(result->last_loss) && result->best_metric >= 0))
        result->best_metric = NAN;
    t->o = kept;
    free(path);
    free(name);
    free(settings);
    return rc;
}

static void note_table(struct train *t, const struct task_kind *kind, const char *metric, int32_t best)
{
    for (int32_t i = 0; i < t->o.search.count; i++) {
        if (isnan(t->rate_metric[i]))
            run_note(t->run, "%s: rate %g: diverged", kind->part, t->o.search.lr[i]);
        else
            run_note(t->run, "%s: rate %g: validation %s %.4f%s", kind->part, t->o.search.lr[i], metric, t->rate_metric[i],
                     i == best ? " (kept)" : "");
    }
}

int train_rates(struct train *t, const struct task_kind *kind, struct task *task, struct trainer_result *best, struct err *e)
{
    size_t bytes = (size_t)t5_size(t->model) * sizeof(float);
    float *start = xmalloc(bytes), *weights = xmalloc(bytes);
    int32_t chosen = -1;
    int rc = 0;
    t->be->read(start, t5_master(t->model), bytes);
    for (int32_t i = 0; i < t->o.search.count && rc == 0; i++) {
        struct trainer_result result;
        put_weights(t, start);
        rc = run_trial(t, kind, task, i, &result, e);
        if (rc != 0)
            break;
        t->rate_metric[i] = result.best_metric;
        if (!isnan(result.best_metric) && (chosen < 0 || result.best_metric > best->best_metric)) {
            chosen = i;
            *best = result;
            t->be->read(weights, t5_master(t->model), bytes);
        }
    }
    if (rc == 0) {
        note_table(t, kind, kind->source(task).metric, chosen);
        rc = chosen >= 0 ? 0 : err_set(e, ERR_DATA, "%s: every rate of the search diverged; give lower ones", kind->part);
    }
    if (rc == 0) {
        t->o.lr = t->o.search.lr[chosen];
        put_weights(t, t->o.search.steps > 0 ? start : weights);
    }
    free(start);
    free(weights);
    return rc;
}

void train_rates_remove(const struct train *t)
{
    for (int32_t i = 0; i < t->o.search.count; i++) {
        char *path = trial_path(t, i);
        checkpoint_remove(path);
        free(path);
    }
}
