/* learn_rqvae.c: training of an rq-VAE over text embeddings, into a quantiser.
 *
 * Inputs are centred and brought to unit variance with two facts that the quantiser keeps. Codebooks start as k-means over the random encoder's
 * residuals, level by level; a code that nobody chose in an epoch is put onto a residual of the epoch's last batch (not after the last).
 * The state is kept after epochs, so that a run that was stopped or killed goes on at one and ends with the same bytes.
 * Every draw is a hash of (seed, epoch), the optimiser is Adam at a constant rate: the same options give the same codes on one machine. */
#include "../base/hash.h"
#include "checkpoint.h"
#include "kmeans.h"
#include "learn_quantiser.h"
#include "rqvae.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES = 5, KMEANS_ITERATIONS = 20 };

struct training {
    const struct quantiser_input *in;
    struct quantiser *q;
    struct rqvae *r;
    float *batch; /* [batch, width] gathered and scaled rows */
    uint64_t data; /* hash of the embeddings */
    int32_t *order, *used; /* [n]; [levels, codes] rows of this epoch */
    struct {
        int64_t epoch, revived, steps;
    } mark; /* epochs done; codes revived; Adam's steps */
    double saved_s;
};

/* ---- inputs ---- */

/* Mean and scale of the inputs, which are scaled whenever rows are gathered: a scaled copy of all of them is never held. */
static void measure_inputs(struct training *t)
{
    const struct quantiser_input *in = t->in;
    int64_t n = in->n, width = in->width;
    double *mean = xcalloc((size_t)width, sizeof *mean), square = 0;
    for (int64_t i = 0; i < n * width; i++)
        mean[i % width] += (double)in->x[i] / (double)n;
    t->q->mean = xmalloc((size_t)width * sizeof(float));
    for (int64_t j = 0; j < width; j++)
        t->q->mean[j] = (float)mean[j];
    for (int64_t i = 0; i < n * width; i++) {
        float x = in->x[i] - t->q->mean[i % width];
        square += (double)x * (double)x;
    }
    t->q->scale = square > 0 ? (float)sqrt((double)(n * width) / square) : 1;
    t->data = hash_bytes(in->x, (size_t)(n * width) * sizeof *in->x, 0);
    free(mean);
}

/* Rows `order[0..n)`, or from .. from + n where order is NULL, scaled into the batch. */
static void gather(struct training *t, const int32_t *order, int32_t from, int32_t n)
{
    int64_t width = t->in->width;
    for (int64_t i = 0; i < n; i++) {
        const float *x = t->in->x + (order ? order[i] : from + i) * width;
        for (int64_t j = 0; j < width; j++)
            t->batch[i * width + j] = (x[j] - t->q->mean[j]) * t->q->scale;
    }
}

/* ---- codebooks from k-means ---- */

static void fill_averages(struct training *t, int32_t level, const int32_t *assign)
{
    int32_t d = t->q->layer_width[t->q->layers], batch = t->in->batch;
    float *book = rqvae_codebook(t->r, level), *count = rqvae_count(t->r, level), *sum = rqvae_sum(t->r, level);
    for (int32_t i = 0; i < t->in->n; i++)
        count[assign[i]] += (float)batch / (float)t->in->n;
    for (int64_t c = 0; c < t->q->codes; c++) {
        count[c] = fmaxf(count[c], 0.01f);
        for (int64_t j = c * d; j < (c + 1) * d; j++)
            sum[j] = book[j] * count[c];
    }
}

static int start_codebooks(struct training *t, struct err *e)
{
    const struct quantiser_input *in = t->in;
    int32_t d = t->q->layer_width[t->q->layers], rc = 0, *assign = xmalloc((size_t)in->n * sizeof *assign);
    float *z = xmalloc((size_t)in->n * (size_t)d * sizeof *z);
    for (int32_t i = 0, rows; i < in->n; i += rows) {
        rows = in->n - i < in->batch ? in->n - i : in->batch;
        gather(t, NULL, i, rows);
        rqvae_encode(t->r, t->batch, rows, z + (int64_t)i * d);
    }
    for (int32_t s = 0; s < t->q->positions && rc == 0; s++) {
        struct kmeans_result result;
        const struct kmeans_options o = {in->n, d, t->q->codes, 1, KMEANS_ITERATIONS, mix64(in->seed, 0x7271 + (uint64_t)s)};
        float *book = rqvae_codebook(t->r, s);
        rc = kmeans_run(in->be, &o, &(struct kmeans_points){.x = z}, book, assign, &result, in->run, e);
        for (int64_t i = 0; i < (int64_t)in->n * d && rc == 0; i++)
            z[i] -= book[(int64_t)assign[i / d] * d + i % d];
        if (rc == 0)
            fill_averages(t, s, assign);
    }
    free(z);
    free(assign);
    return rc;
}

/* ---- epochs ---- */

static void draw_order(struct training *t, int32_t epoch)
{
    uint64_t seed = mix64(t->in->seed, 0x65706f6368 + (uint64_t)epoch);
    for (int32_t i = 0; i < t->in->n; i++)
        t->order[i] = i;
    for (int32_t i = t->in->n - 1; i > 0; i--) {
        int32_t j = (int32_t)(mix64(seed, (uint64_t)i) % (uint64_t)(i + 1)), kept = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = kept;
    }
}

static void count_codes(struct training *t, int32_t n)
{
    const int32_t *codes = rqvae_codes(t->r);
    for (int64_t i = 0; i < (int64_t)n * t->q->positions; i++)
        t->used[i % t->q->positions * t->q->codes + codes[i]]++;
}

static void revive_dead(struct training *t, int32_t rows)
{
    for (int32_t i = 0; i < t->q->positions * t->q->codes; i++) {
        if (t->used[i])
            continue;
        int32_t row = (int32_t)(mix64(t->in->seed ^ 0x64656164, (uint64_t)t->mark.revived++) % (uint64_t)rows);
        rqvae_revive(t->r, i / t->q->codes, i % t->q->codes, row);
    }
}

static int32_t used_of(const struct training *t, int32_t level)
{
    int32_t used = 0;
    for (int32_t c = 0; c < t->q->codes; c++)
        used += t->used[level * t->q->codes + c] > 0;
    return used;
}

static void note_epoch(const struct training *t, int32_t epoch, const struct rqvae_losses *mean)
{
    struct str s = {0};
    for (int32_t i = 0; i < t->q->positions; i++)
        str_printf(&s, "%s%d", i ? "," : "", used_of(t, i));
    run_note(t->in->run, "rq-vae: epoch=%d loss=%.5f recon=%.5f commit=%.5f codes_used=%s revived=%lld", epoch, mean->total, mean->recon,
             mean->commit, s.data, (long long)t->mark.revived);
    str_free(&s);
}

/* One pass; *mean = the losses' means. */
static int run_epoch(struct training *t, int32_t epoch, bool last, struct rqvae_losses *mean, struct err *e)
{
    const struct quantiser_input *in = t->in;
    int32_t rows = 0;
    *mean = (struct rqvae_losses){0};
    memset(t->used, 0, (size_t)t->q->positions * (size_t)t->q->codes * sizeof *t->used);
    draw_order(t, epoch);
    for (int32_t from = 0; from < in->n; from += rows) {
        struct rqvae_losses l;
        rows = in->n - from < in->batch ? in->n - from : in->batch;
        if (run_stopping(in->run))
            return err_set(e, ERR_INTERRUPTED, "stopped in epoch %d of the rq-VAE; the same command goes on from the last one that was kept", epoch + 1);
        gather(t, t->order + from, 0, rows);
        rqvae_step(t->r, t->batch, rows, &l);
        if (!isfinite(l.total))
            return err_set(e, ERR_DATA, "rq-VAE, epoch %d: the loss is not finite; lower lr (now %g)", epoch + 1, in->lr);
        count_codes(t, rows);
        rqvae_ema(t->r);
        rqvae_adam(t->r, (float)in->lr, ++t->mark.steps);
        mean->recon += l.recon * rows / in->n;
        mean->commit += l.commit * rows / in->n;
        mean->total += l.total * rows / in->n;
    }
    if (!last)
        revive_dead(t, rows);
    return 0;
}

/* ---- checkpoints ---- */

static char *settings_of(const struct training *t)
{
    const struct quantiser_input *in = t->in;
    return xprintf("indexer=rq-vae\nembeddings=%016llx\ndocuments=%d\nwidth=%d\npositions=%d\ncodes=%d\nbatch=%d\nepochs=%.17g\nlr=%.17g\n"
                   "seed=%llu\n", (unsigned long long)t->data, in->n, in->width, t->q->positions, t->q->codes, in->batch, in->epochs, in->lr,
                   (unsigned long long)in->seed);
}

/* Names are "block.I"; the mark comes last. */
static int sections_of(struct training *t, struct checkpoint_section *list, char names[][24])
{
    float *blocks[RQVAE_BLOCKS_MAX];
    int64_t elements[RQVAE_BLOCKS_MAX];
    int32_t n = rqvae_blocks(t->r, blocks, elements);
    for (int32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "block.%d", i);
        list[i] = (struct checkpoint_section){names[i], blocks[i], (size_t)elements[i] * sizeof(float)};
    }
    list[n] = (struct checkpoint_section){"mark", &t->mark, sizeof t->mark};
    return n + 1;
}

static int save_when_due(struct training *t, struct err *e)
{
    char names[RQVAE_BLOCKS_MAX][24];
    struct checkpoint_section list[RQVAE_BLOCKS_MAX + 1];
    if (!t->in->checkpoint || (!run_stopping(t->in->run) && clock_s() - t->saved_s < t->in->checkpoint_s))
        return 0;
    int n = sections_of(t, list, names);
    char *settings = settings_of(t);
    int rc = checkpoint_save(t->in->checkpoint, settings, list, n, e);
    free(settings);
    t->saved_s = clock_s();
    return rc;
}

/* 1 = goes on from a checkpoint, 0 = there is none. */
static int restore(struct training *t, struct err *e)
{
    char names[RQVAE_BLOCKS_MAX][24];
    struct checkpoint_section list[RQVAE_BLOCKS_MAX + 1];
    if (!t->in->checkpoint)
        return 0;
    int n = sections_of(t, list, names);
    char *settings = settings_of(t);
    int rc = checkpoint_load(t->in->checkpoint, settings, list, n, t->in->run, e);
    free(settings);
    if (rc == 1) {
        rqvae_refresh(t->r);
        run_note(t->in->run, "going on after epoch %lld", (long long)t->mark.epoch);
    }
    return rc;
}

static int train(struct training *t, struct err *e)
{
    int32_t epochs = (int32_t)fmax(1, round(t->in->epochs)), every = epochs / NOTES ? epochs / NOTES : 1;
    int rc = restore(t, e);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        rqvae_randomise(t->r, t->in->seed);
        if (start_codebooks(t, e) < 0)
            return -1;
    }
    t->saved_s = clock_s();
    for (int32_t i = (int32_t)t->mark.epoch; i < epochs; i++) {
        struct rqvae_losses mean;
        if (run_epoch(t, i, i == epochs - 1, &mean, e) < 0)
            return -1;
        t->mark.epoch = i + 1;
        if (save_when_due(t, e) < 0)
            return -1;
        run_report(t->in->run, "rq-vae", i + 1, epochs, "epochs", mean.total);
        if ((i + 1) % every == 0 || i == 0)
            note_epoch(t, i + 1, &mean);
    }
    return 0;
}

/* ---- the quantiser ---- */

static float *copy_of(const float *from, int64_t n)
{
    float *to = xmalloc((size_t)n * sizeof *to);
    memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

static void take_parameters(struct training *t)
{
    struct quantiser *q = t->q;
    for (int32_t i = 0; i < q->layers; i++) {
        q->weight[i] = copy_of(rqvae_weight(t->r, i), (int64_t)q->layer_width[i] * q->layer_width[i + 1]);
        q->bias[i] = copy_of(rqvae_bias(t->r, i), q->layer_width[i + 1]);
    }
    for (int32_t s = 0; s < q->positions; s++)
        q->codebook[s] = copy_of(rqvae_codebook(t->r, s), (int64_t)q->codes * q->layer_width[q->layers]);
}

int learn_rqvae(const struct quantiser_input *in, struct quantiser *q, struct err *e)
{
    struct training t = {.in = in, .q = q};
    const int32_t widths[] = {in->width, 512, 256, 128, 32};
    struct rqvae_shape shape = {.layers = 4, .levels = q->positions, .codes = q->codes};
    q->layers = shape.layers;
    memcpy(shape.width, widths, sizeof widths);
    memcpy(q->layer_width, widths, sizeof widths);
    size_t width = (size_t)in->width;
    t.batch = xmalloc((size_t)in->batch * width * sizeof(float));
    t.order = xmalloc((size_t)in->n * sizeof *t.order);
    t.used = xcalloc((size_t)q->positions * (size_t)q->codes, sizeof *t.used);
    measure_inputs(&t);
    t.r = rqvae_init(in->be, &shape, in->batch, e);
    int rc = t.r ? train(&t, e) : -1;
    if (rc == 0)
        take_parameters(&t);
    rqvae_free(t.r);
    free(t.batch);
    free(t.order);
    free(t.used);
    return rc;
}
