/* trainer.c: see trainer.h for the promise.
 *
 * A batch is cut into pieces of at most PIECE_TOKENS input tokens, and of micro_batch samples, whose gradients add up: every sample weighs the
 * same however the batch is cut, only dropout's masks are drawn a piece. The activations of a piece stay in the
 * processor's cache, and the memory of a run is bounded whatever the batch. On a device a piece is DEVICE_TOKENS, as each costs its launches
 * and a pass over all gradients. The order of an epoch is a Fisher-Yates shuffle drawn from
 * (seed, epoch); it is never stored, a resumed run shuffles again. Label smoothing is drawn, not computed: with probability s a label is
 * replaced by a code drawn uniformly from its position, which has the smoothed cross-entropy as its expectation and needs no other kernel.
 * With `minutes`, the number of steps is fixed once by timing some steps on the start weights, which are then put back; the figure goes
 * into the checkpoint, so a resumed run has the same schedule. Invariant: all that decides the next step is in `state` and the four
 * blocks. */
#include "trainer.h"

#include "../base/mem.h"
#include "checkpoint.h"
#include "seq2seq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_TOKENS = 2048, DEVICE_TOKENS = 16384, PIECE_ROWS = 512, TIMING_STEPS = 400 };

/* Seconds of timing per second of training: enough to be stable, little enough not to matter. Part of the time left to the schedule, since
 * a shared machine gets slower as often as faster. */
static const double timing_share = 0.01, timing_most_s = 8, schedule_share = 0.92;

/* Streams of random numbers, so that no two draws share a seed. */
enum { STREAM_ORDER = 1, STREAM_DROPOUT = 2, STREAM_SMOOTH = 3 };

struct state { /* stored in the checkpoint as it is */
    int64_t step, total, best_step;
    double best_metric;
    double loss_sum;
    int64_t loss_steps;
    int64_t without_gain; /* validations since the best one */
    int64_t ended;
};

struct trainer {
    const struct trainer_source *source;
    const struct trainer_options *o;
    const struct run *run;
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct seq2seq *pass;
    struct code_batch piece;
    int32_t piece_rows, piece_tokens, targets; /* targets: cells of a sample in piece */
    int32_t *order; /* of epoch order_epoch */
    int64_t order_epoch;
    float *best; /* host copy of the best weights */
    struct state state;
    double saved_at;
};

/* ---- samples ---- */

static uint64_t stream_seed(const struct trainer *t, uint64_t stream, int64_t index)
{
    return mix64(mix64(t->o->seed, stream), (uint64_t)index);
}

static void shuffle(struct trainer *t, int64_t epoch)
{
    uint64_t seed = stream_seed(t, STREAM_ORDER, epoch);
    int64_t n = t->source->samples;
    for (int64_t i = 0; i < n; i++)
        t->order[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(mix64(seed, (uint64_t)i) % (uint64_t)(i + 1));
        int32_t swap = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = swap;
    }
    t->order_epoch = epoch;
}

static void label_sample(struct trainer *t, int64_t position, const uint32_t *codes, int32_t *labels)
{
    uint64_t seed = stream_seed(t, STREAM_SMOOTH, position);
    bool text = t->source->text_targets > 0;
    int32_t n = text ? seq2seq_text_length(codes, t->targets) : t->targets, vocab = t5_config_of(t->model)->vocab;
    for (int32_t p = 0; p < n; p++) {
        labels[p] = (int32_t)codes[p];
        if (t->o->label_smoothing > 0 && mix_uniform(seed, (uint64_t)(2 * p)) < t->o->label_smoothing)
            labels[p] = (int32_t)(mix64(seed, (uint64_t)(2 * p + 1)) % (uint64_t)(text ? vocab : t->layout.codes[p]));
    }
}

/* Appends sample number `position` of the run (counted over all epochs) to the piece. */
static void add_sample(struct trainer *t, int64_t position)
{
    int64_t epoch = position / t->source->samples;
    if (epoch != t->order_epoch)
        shuffle(t, epoch);
    struct code_batch *b = &t->piece;
    int32_t cell = b->count * t->targets, start = b->offsets[b->count];
    int32_t index = t->order[position % t->source->samples];
    int32_t n = t->source->draw(t->source->state, epoch, index, b->tokens + start, b->codes + cell);
    CHECK(n >= 0 && n <= t->source->longest);
    label_sample(t, position, b->codes + cell, b->labels + cell);
    b->count++;
    b->offsets[b->count] = start + n;
}

/* ---- steps ---- */

/* Gradients of one batch; returns its mean loss per position, or per token of a text. */
static double batch_gradients(struct trainer *t, int64_t step)
{
    uint64_t seed = stream_seed(t, STREAM_DROPOUT, step);
    float weight = 1.0f / ((float)t->o->batch * (t->source->text_targets > 0 ? (float)t->source->text_mean : (float)t->targets));
    double loss = 0;
    int64_t next = step * t->o->batch, end = next + t->o->batch;
    for (uint64_t piece = 0; next < end; piece++) {
        t->piece.count = 0;
        while (next < end && t->piece.count < t->piece_rows &&
               t->piece.offsets[t->piece.count] + t->source->longest <= t->piece_tokens)
            add_sample(t, next++);
        loss += seq2seq_train(t->pass, &t->piece, weight, mix64(seed, piece) | 1);
    }
    return loss;
}

static void one_step(struct trainer *t)
{
    struct state *s = &t->state;
    double loss = batch_gradients(t, s->step);
    s->step++;
    const struct t5_adamw a = optimiser_step(&t->o->adam, t->o->lr, s->step, s->total);
    t5_adamw(t->model, &a, 0, t5_size(t->model));
    s->loss_sum += loss;
    s->loss_steps++;
}

static size_t block_bytes(const struct trainer *t)
{
    return (size_t)t5_size(t->model) * sizeof(float);
}

/* ---- how many steps ---- */

static int64_t steps_of_epochs(const struct trainer *t)
{
    double epochs = t->o->epochs > 0 ? t->o->epochs : 10;
    int64_t steps = (int64_t)ceil(epochs * (double)t->source->samples / t->o->batch);
    return steps < 1 ? 1 : steps;
}

/* Times a few steps and one validation, then puts the start back. */
static int steps_of_minutes(struct trainer *t, int64_t *steps, struct err *e)
{
    double bound = t->o->minutes * 60, most = bound * timing_share, metric;
    most = most > timing_most_s ? timing_most_s : most;
    t->be->read(t->best, t5_master(t->model), block_bytes(t));
    t->state.total = INT32_MAX;
    one_step(t); /* the first pays for what is set up once */
    double start = clock_s();
    while (t->state.step <= TIMING_STEPS && clock_s() - start < most && !run_stopping(t->run))
        one_step(t);
    if (run_stopping(t->run))
        return err_set(e, ERR_INTERRUPTED, "%s: stopped before the first step", t->o->name);
    double step_s = (clock_s() - start) / (double)(t->state.step > 1 ? t->state.step - 1 : 1);
    start = clock_s();
    if (t->source->validate(t->source->state, t->model, &metric, e) != 0)
        return -1;
    double left = bound * schedule_share - (clock_s() - start) * t->o->validations;
    *steps = left > step_s ? (int64_t)(left / step_s) : 1;
    t->be->write(t5_master(t->model), t->best, block_bytes(t));
    t->be->zero(t5_moment1(t->model), block_bytes(t));
    t->be->zero(t5_moment2(t->model), block_bytes(t));
    t5_refresh(t->model);
    t->state = (struct state){.best_metric = -1};
    return 0;
}

static int fix_total(struct trainer *t, struct err *e)
{
    int64_t total = t->o->steps;
    if (total <= 0 && t->o->minutes > 0 && steps_of_minutes(t, &total, e) != 0)
        return -1;
    t->state.total = total > 0 ? total : steps_of_epochs(t);
    run_note(t->run, "%s: %lld samples an epoch, %lld steps of %d (%.1f epochs)", t->o->name, (long long)t->source->samples,
             (long long)t->state.total, t->o->batch, (double)t->state.total * t->o->batch / (double)t->source->samples);
    return 0;
}

/* ---- checkpoints ---- */

enum { SECTIONS = 5 };

static void sections_of(struct trainer *t, struct checkpoint_section s[SECTIONS], float *blocks[3])
{
    size_t bytes = block_bytes(t);
    s[0] = (struct checkpoint_section){"state", &t->state, sizeof t->state};
    s[1] = (struct checkpoint_section){"weights", blocks[0], bytes};
    s[2] = (struct checkpoint_section){"moment1", blocks[1], bytes};
    s[3] = (struct checkpoint_section){"moment2", blocks[2], bytes};
    s[4] = (struct checkpoint_section){"best", t->best, bytes};
}

static int save(struct trainer *t, struct err *e)
{
    float *device[3] = {t5_master(t->model), t5_moment1(t->model), t5_moment2(t->model)}, *blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = xmalloc(block_bytes(t));
        t->be->read(blocks[i], device[i], block_bytes(t));
    }
    struct checkpoint_section sections[SECTIONS];
    sections_of(t, sections, blocks);
    int rc = checkpoint_save(t->o->checkpoint, t->o->settings, sections, SECTIONS, e);
    for (int i = 0; i < 3; i++)
        free(blocks[i]);
    t->saved_at = clock_s();
    return rc;
}

/* 1 = went on from a checkpoint, 0 = none, -1. */
static int restore(struct trainer *t, struct err *e)
{
    float *device[3] = {t5_master(t->model), t5_moment1(t->model), t5_moment2(t->model)}, *blocks[3];
    for (int i = 0; i < 3; i++)
        blocks[i] = xmalloc(block_bytes(t));
    struct checkpoint_section sections[SECTIONS];
    sections_of(t, sections, blocks);
    int rc = checkpoint_load(t->o->checkpoint, t->o->settings, sections, SECTIONS, t->run, e);
    for (int i = 0; i < 3; i++) {
        if (rc > 0)
            t->be->write(device[i], blocks[i], block_bytes(t));
        free(blocks[i]);
    }
    if (rc > 0) {
        t5_refresh(t->model);
        run_note(t->run, "%s: going on from step %lld of %lld", t->o->name, (long long)t->state.step, (long long)t->state.total);
    }
    return rc;
}

/* ---- held-out texts ---- */

enum { TEXT_PASS_ROWS = 8 };

int trainer_text_metric(struct t5 *model, const struct trainer_source *source, int32_t count,
                        int32_t (*draw)(void *state, int32_t i, int32_t *tokens, uint32_t *codes), double *metric, struct err *e)
{
    int32_t targets = source->text_targets;
    struct seq2seq *pass = seq2seq_init_text(model, targets, TEXT_PASS_ROWS, TEXT_PASS_ROWS * source->longest, e);
    struct code_batch b;
    double loss = 0, tokens = 0;
    if (pass == NULL)
        return -1;
    code_batch_init(&b, TEXT_PASS_ROWS, TEXT_PASS_ROWS * source->longest, targets);
    for (int32_t i = 0; i < count;) {
        for (b.count = 0; i < count && b.count < TEXT_PASS_ROWS; i++) {
            uint32_t *codes = b.codes + (int64_t)b.count * targets;
            int32_t start = b.offsets[b.count], n = draw(source->state, i, b.tokens + start, codes), size = seq2seq_text_length(codes, targets);
            for (int32_t t = 0; t < size; t++)
                b.labels[(int64_t)b.count * targets + t] = (int32_t)codes[t];
            b.offsets[++b.count] = start + n;
            tokens += size;
        }
        loss += seq2seq_loss(pass, &b, 1);
    }
    code_batch_free(&b);
    seq2seq_free(pass);
    *metric = exp(-loss / tokens);
    return 0;
}

/* ---- the loop ---- */

/* Measures the model, keeps it when it is the best so far, and says whether the run should go on. */
static int validate(struct trainer *t, struct err *e)
{
    struct state *s = &t->state;
    double metric;
    if (t->source->validate(t->source->state, t->model, &metric, e) != 0)
        return -1;
    bool gain = metric > s->best_metric;
    if (metric >= s->best_metric) { /* of equals the later one, which has seen more */
        s->best_metric = metric;
        s->best_step = s->step;
        t->be->read(t->best, t5_master(t->model), block_bytes(t));
    }
    s->without_gain = gain ? 0 : s->without_gain + 1;
    s->ended = s->step >= s->total || (t->o->patience > 0 && s->without_gain >= t->o->patience);
    run_note(t->run, "%s: step %lld/%lld loss %.4f validation %s %.4f%s", t->o->name, (long long)s->step, (long long)s->total,
             s->loss_steps > 0 ? s->loss_sum / (double)s->loss_steps : NAN, t->source->metric, metric, s->best_step == s->step ? " (best)" : "");
    if (!s->ended) {
        s->loss_sum = 0;
        s->loss_steps = 0;
    }
    return 0;
}

/* Validation number k of n comes after step total * k / n. */
static bool validation_due(const struct trainer *t)
{
    const struct state *s = &t->state;
    int64_t n = t->o->validations < 1 ? 1 : t->o->validations;
    return s->step * n / s->total != (s->step - 1) * n / s->total;
}

static int loop(struct trainer *t, struct err *e)
{
    struct state *s = &t->state;
    while (!s->ended) {
        if (run_stopping(t->run)) {
            if (save(t, e) != 0)
                return -1;
            return err_set(e, ERR_INTERRUPTED, "%s: stopped at step %lld of %lld; the same command goes on from there", t->o->name,
                           (long long)s->step, (long long)s->total);
        }
        one_step(t);
        run_report(t->run, t->o->name, s->step, s->total, "steps", s->loss_sum / (double)s->loss_steps);
        if (validation_due(t) && validate(t, e) != 0)
            return -1;
        if ((s->ended || clock_s() - t->saved_at > t->o->checkpoint_s) && save(t, e) != 0)
            return -1;
    }
    return 0;
}

static int32_t piece_tokens_of(const struct backend *be, int32_t longest)
{
    int32_t usual = be->has_host_memory ? PIECE_TOKENS : DEVICE_TOKENS;
    return longest > usual ? longest : usual;
}

int32_t trainer_rows(int32_t batch, int32_t micro_batch)
{
    int32_t rows = micro_batch > 0 ? micro_batch : PIECE_ROWS;
    return batch < rows ? batch : rows;
}

static void pass_need(struct need *n, const struct t5_config *c, int32_t targets, int32_t rows, int32_t tokens)
{
    const struct t5_limits l = {.encoder_tokens = tokens, .decoder_tokens = rows * targets, .rows = rows, .train = true};
    need_work(n, c, &l);
    n->bytes += (size_t)rows * (size_t)targets * (2 * sizeof(int32_t) + (size_t)c->d_model * n->be->act_bytes);
}

void trainer_need(struct need *n, const struct t5_config *c, int32_t targets, int32_t rows, int32_t longest)
{
    pass_need(n, c, targets, rows, piece_tokens_of(n->be, longest));
}

void trainer_text_need(struct need *n, const struct t5_config *c, int32_t targets, int32_t longest)
{
    pass_need(n, c, targets, TEXT_PASS_ROWS, TEXT_PASS_ROWS * longest);
}

static int begin(struct trainer *t, struct err *e)
{
    const struct trainer_source *source = t->source;
    if (source->samples < 1 || source->samples > INT32_MAX)
        return err_set(e, ERR_DATA, "%s: %lld training samples; 1 to %d can be trained on", t->o->name,
                       (long long)source->samples, INT32_MAX);
    t->piece_tokens = piece_tokens_of(t->be, source->longest);
    t->piece_rows = trainer_rows(t->o->batch, t->o->micro_batch);
    t->targets = source->text_targets > 0 ? source->text_targets : t->layout.positions;
    t->pass = source->text_targets > 0 ? seq2seq_init_text(t->model, t->targets, t->piece_rows, t->piece_tokens, e)
                                       : seq2seq_init(t->model, &t->layout, t->piece_rows, t->piece_tokens, e);
    if (t->pass == NULL)
        return -1;
    code_batch_init(&t->piece, t->piece_rows, t->piece_tokens, t->targets);
    t->order = xcalloc((size_t)source->samples, sizeof *t->order);
    t->best = xcalloc(1, block_bytes(t));
    int rc = restore(t, e);
    if (rc == 0 && (fix_total(t, e) != 0 || save(t, e) != 0))
        return -1;
    return rc < 0 ? -1 : 0;
}

int trainer_run(struct t5 *model, const struct code_layout *layout, const struct trainer_source *source, const struct trainer_options *o,
                const struct run *run, struct trainer_result *result, struct err *e)
{
    struct trainer t = {.source = source, .o = o, .run = run, .be = t5_backend(model), .model = model, .layout = *layout,
                        .order_epoch = -1, .state = {.best_metric = -1}, .saved_at = clock_s()};
    int rc = begin(&t, e);
    if (rc == 0)
        rc = loop(&t, e);
    if (rc == 0) {
        t.be->write(t5_master(model), t.best, block_bytes(&t));
        t5_refresh(model);
        *result = (struct trainer_result){t.state.step, t.state.best_step, t.state.best_metric,
                                          t.state.loss_steps > 0 ? t.state.loss_sum / (double)t.state.loss_steps : NAN};
    }
    seq2seq_free(t.pass);
    code_batch_free(&t.piece);
    free(t.order);
    free(t.best);
    return rc;
}
