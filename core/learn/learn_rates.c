/* learn_rates.c: `learn-ids --search-lr`: which learning rate of a few gives the best IDs, without labels.
 *
 * A share of the documents, drawn by the seed, is left out of every update (they still get IDs, as new documents would). A trial is all stages
 * with one rate from the same start. Its figure: how many nats a token the held-out texts get cheaper to reconstruct from their own codes than
 * from those of other held-out documents, without any hint. The plain loss is no figure: a rate so high that all IDs are the same learns the
 * language's word frequencies quickest and has the lowest one, but IDs that tell nothing; its figure here is 0.
 *
 * A trial has its own checkpoint; that of a finished one is its result, so a search that was stopped or killed goes on in the trial that it was in.
 * Whole trials: the best one's state becomes the bundle, its held-out documents unseen. With o.search.steps: a whole run over all documents. */
#include "learn_internal.h"
#include "../base/hash.h"

#include <math.h>
#include <string.h>

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The documents with the smallest hashes; at least two, at most all but two. */
static void hold_out(struct learn *s)
{
    int32_t count = (int32_t)(s->o.validation_share * s->n);
    uint64_t *key = xmalloc((size_t)s->n * sizeof *key), seed = mix64(s->o.seed, 0x68656c64);
    count = count < 2 ? 2 : count > s->n - 2 ? s->n - 2 : count;
    for (int32_t i = 0; i < s->n; i++)
        key[i] = mix64(seed, (uint64_t)i);
    qsort(key, (size_t)s->n, sizeof *key, by_number);
    uint64_t bound = key[count];
    s->held = xcalloc((size_t)s->n, sizeof *s->held);
    for (int32_t i = 0; i < s->n; i++)
        s->held[i] = mix64(seed, (uint64_t)i) < bound;
    s->trained = s->n - count;
    free(key);
}

enum { STRANGERS = 4 };

/* Sum over a batch's text tokens of the loss, with the codes of the document `shift` further on. */
static double shifted_loss(struct learn *s, struct lm_batch *b, int32_t *ids_of, int32_t shift)
{
    struct lm_losses l;
    for (int32_t i = 0; i < b->documents; i++)
        ids_of[i] = (i + shift) % b->documents;
    b->ids_of = ids_of;
    lmindexer_step(s->model, s->lm, b, &l);
    return l.recon * lmindexer_text_tokens(s->lm);
}

/* Nats a token that own codes tell more of the held-out documents than strangers' do; *loss = the mean loss with their own. Moves nothing. */
static double held_gain(struct learn *s, double *loss)
{
    double own = 0, strange = 0, tokens = 0;
    int32_t *ids_of = xcalloc((size_t)s->o.micro_batch, sizeof *ids_of);
    struct lm_batch b;
    for (int32_t from = 0; learn_batch_held(s, from, &b) > 0; from += b.documents) {
        own += shifted_loss(s, &b, ids_of, 0);
        tokens += lmindexer_text_tokens(s->lm);
        for (int32_t shift = 1; shift <= STRANGERS; shift++)
            strange += shifted_loss(s, &b, ids_of, shift) / STRANGERS;
    }
    s->be->zero(t5_grad(s->model), (size_t)t5_size(s->model) * sizeof(float));
    free(ids_of);
    *loss = tokens > 0 ? own / tokens : NAN;
    return tokens > 0 ? (strange - own) / tokens : NAN;
}

/* State before the first stage, with this rate. name: of the checkpoint. */
static void begin(struct learn *s, const float *start, double lr, const char *name)
{
    s->o.lr = lr;
    s->checkpoint = name;
    s->mark = (struct learn_mark){0};
    memset(s->codes, 0, (size_t)s->n * (size_t)s->o.positions * sizeof *s->codes);
    learn_batch_forget(s);
    s->be->write(t5_master(s->model), start, (size_t)t5_size(s->model) * sizeof *start);
    t5_refresh(s->model);
    free(s->settings);
    s->settings = learn_settings(s);
}

/* All stages; a loss that is no number ends the trial, and its mark says so. */
static int run_trial(struct learn *s, int32_t trial, struct err *e)
{
    double loss;
    int rc = learn_stages(s, e);
    s->rate_gain[trial] = NAN;
    if (rc < 0 && s->mark.diverged)
        return learn_save(s, e);
    if (rc < 0)
        return -1;
    s->rate_gain[trial] = held_gain(s, &loss);
    run_note(s->run, "rate %g: held-out texts: loss %.4f a token, own codes tell %.4f nats of it", s->o.lr, loss, s->rate_gain[trial]);
    return 0;
}

static void note_table(struct learn *s, int32_t best)
{
    for (int32_t i = 0; i < s->o.search.count; i++) {
        if (isnan(s->rate_gain[i]))
            run_note(s->run, "rate %g: diverged", s->o.search.lr[i]);
        else
            run_note(s->run, "rate %g: own codes tell %.4f nats a token%s", s->o.search.lr[i], s->rate_gain[i], i == best ? " (kept)" : "");
    }
    if (best >= 0 && s->rate_gain[best] <= 0)
        run_note(s->run, "warning: with none of these rates the IDs tell anything of held-out texts; more epochs, or other rates");
}

static int run_trials(struct learn *s, const float *start, int32_t *best, struct err *e)
{
    char name[32];
    *best = -1;
    for (int32_t i = 0; i < s->o.search.count; i++) {
        snprintf(name, sizeof name, "checkpoint.lr-%d", i + 1);
        run_note(s->run, "rate %g: trial %d of %d, %d documents held out", s->o.search.lr[i], i + 1, s->o.search.count, s->n - s->trained);
        begin(s, start, s->o.search.lr[i], name);
        if (run_trial(s, i, e) < 0)
            return -1;
        if (!isnan(s->rate_gain[i]) && (*best < 0 || s->rate_gain[i] > s->rate_gain[*best]))
            *best = i;
    }
    note_table(s, *best);
    return *best >= 0 ? 0 : err_set(e, ERR_DATA, "every rate of the search diverged; give lower ones");
}

/* The best trial's state again, or the whole run that follows short trials. */
static int run_best(struct learn *s, const float *start, int32_t best, struct err *e)
{
    char name[32] = "checkpoint";
    if (s->o.search.steps == 0) {
        snprintf(name, sizeof name, "checkpoint.lr-%d", best + 1);
    } else {
        free(s->held);
        s->held = NULL;
        s->trained = s->n;
        s->most_steps = 0;
    }
    begin(s, start, s->o.search.lr[best], name);
    int rc = learn_stages(s, e);
    s->checkpoint = "checkpoint";
    return rc;
}

int learn_rates(struct learn *s, struct err *e)
{
    size_t bytes = (size_t)t5_size(s->model) * sizeof(float);
    float *start = xmalloc(bytes);
    int32_t best;
    s->be->read(start, t5_master(s->model), bytes);
    hold_out(s);
    s->most_steps = s->o.search.steps;
    int rc = run_trials(s, start, &best, e);
    if (rc == 0)
        rc = run_best(s, start, best, e);
    free(start);
    return rc;
}
