/* learn.c: `semindex learn-ids`, Algorithm 1 of LMIndexer as a table of stages.
 *
 * The table is {warm-up, then per position: continuous, k-means, joint, assign}. A run is a mark (stage, step) plus the parameter blocks and the codes
 * so far; every draw is a hash of (seed, stage, step), so a run that goes on from a checkpoint ends with the same bytes as an unbroken one.
 * Training stages start with fresh Adam moments and have their own linear schedule. Checkpoints lie in OUT.work/ until the bundle is whole.
 *
 * Ours, beside the paper: after k-means the centroids get one common norm. The quantiser's arg max is a dot product, and centroids of
 * spread-out clusters are short: without this they would lose every point, and codes die before the joint stage begins. */
#include "learn_internal.h"
#include "../base/spill.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "../model/model_file.h"
#include "checkpoint.h"
#include "kmeans.h"

#include <math.h>
#include <string.h>

static const char *const stage_names[] = {"warm-up", "continuous", "k-means", "joint", "assign"};

static const struct stage *stage_now(const struct learn *s)
{
    return &s->stages[s->mark.stage];
}

static bool stage_trains(const struct stage *g)
{
    return g->kind == STAGE_WARMUP || g->kind == STAGE_CONTINUOUS || g->kind == STAGE_JOINT;
}

static void stage_label(const struct learn *s, char *out, size_t size)
{
    const struct stage *g = stage_now(s);
    if (g->kind == STAGE_WARMUP)
        snprintf(out, size, "reconstructor warm-up");
    else
        snprintf(out, size, "position %d: %s", g->position + 1, stage_names[g->kind]);
}

static void build_stages(struct learn *s)
{
    s->stages[s->stage_count++] = (struct stage){STAGE_WARMUP, 0};
    for (int32_t t = 0; t < s->o.positions; t++)
        for (int kind = STAGE_CONTINUOUS; kind <= STAGE_ASSIGN; kind++)
            s->stages[s->stage_count++] = (struct stage){kind, t};
}

static int64_t stage_steps(const struct learn *s)
{
    const double epochs[] = {s->o.warmup_epochs, s->o.continuous_epochs, 0, s->o.joint_epochs, 0};
    int64_t steps = (int64_t)ceil(epochs[stage_now(s)->kind] * (double)learn_batches(s));
    return s->most_steps > 0 && s->most_steps < steps ? s->most_steps : steps;
}

/* ---- checkpoints ---- */

static char *checkpoint_path(const struct learn *s)
{
    return path_join(s->work, s->checkpoint);
}

/* The parameter blocks are backend memory: they pass through host copies. */
struct blocks {
    float *master, *moment1, *moment2;
    size_t bytes;
};

static void blocks_init(struct blocks *b, const struct learn *s)
{
    b->bytes = (size_t)t5_size(s->model) * sizeof(float);
    b->master = xmalloc(b->bytes);
    b->moment1 = xmalloc(b->bytes);
    b->moment2 = xmalloc(b->bytes);
}

static void blocks_free(struct blocks *b)
{
    free(b->master);
    free(b->moment1);
    free(b->moment2);
}

static int sections_of(struct learn *s, struct blocks *b, struct checkpoint_section *list)
{
    list[0] = (struct checkpoint_section){"mark", &s->mark, sizeof s->mark};
    list[1] = (struct checkpoint_section){"codes", s->codes, (size_t)s->n * (size_t)s->o.positions * sizeof(int32_t)};
    list[2] = (struct checkpoint_section){"start", s->start, b->bytes};
    list[3] = (struct checkpoint_section){"master", b->master, b->bytes};
    list[4] = (struct checkpoint_section){"moment1", b->moment1, b->bytes};
    list[5] = (struct checkpoint_section){"moment2", b->moment2, b->bytes};
    return 6;
}

int learn_save(struct learn *s, struct err *e)
{
    struct blocks b;
    struct checkpoint_section list[6];
    char *path = checkpoint_path(s);
    blocks_init(&b, s);
    s->be->read(b.master, t5_master(s->model), b.bytes);
    s->be->read(b.moment1, t5_moment1(s->model), b.bytes);
    s->be->read(b.moment2, t5_moment2(s->model), b.bytes);
    int rc = checkpoint_save(path, s->settings, list, sections_of(s, &b, list), e);
    s->saved_s = clock_s();
    blocks_free(&b);
    free(path);
    return rc;
}

static int restore(struct learn *s, struct err *e)
{
    struct blocks b;
    struct checkpoint_section list[6];
    char *path = checkpoint_path(s);
    blocks_init(&b, s);
    int rc = checkpoint_load(path, s->settings, list, sections_of(s, &b, list), s->run, e);
    if (rc == 1) {
        s->be->write(t5_master(s->model), b.master, b.bytes);
        s->be->write(t5_moment1(s->model), b.moment1, b.bytes);
        s->be->write(t5_moment2(s->model), b.moment2, b.bytes);
        t5_refresh(s->model);
        if (s->mark.stage < s->stage_count) {
            char label[64];
            stage_label(s, label, sizeof label);
            run_note(s->run, "going on at %s, step %lld", label, (long long)s->mark.step);
        }
    }
    blocks_free(&b);
    free(path);
    return rc < 0 ? -1 : 0;
}

static int save_when_due(struct learn *s, struct err *e)
{
    bool stop = run_stopping(s->run);
    if (!stop && clock_s() - s->saved_s < s->o.checkpoint_s)
        return 0;
    if (learn_save(s, e) < 0)
        return -1;
    return stop ? err_set(e, ERR_INTERRUPTED, "stopped; the state is in %s: the same command goes on from there", s->work) : 0;
}

/* ---- training stages ---- */

static void stage_begin(struct learn *s)
{
    size_t bytes = (size_t)t5_size(s->model) * sizeof(float);
    s->be->zero(t5_moment1(s->model), bytes);
    s->be->zero(t5_moment2(s->model), bytes);
    s->be->zero(t5_grad(s->model), bytes);
    s->be->read(s->start, t5_master(s->model), bytes);
}

/* Euclidean distance that the parameters went since the stage began: a stage that moves nothing is a bug that this line shows. */
static double stage_moved(struct learn *s)
{
    int64_t n = t5_size(s->model);
    float *now = xmalloc((size_t)n * sizeof *now);
    double sum = 0;
    s->be->read(now, t5_master(s->model), (size_t)n * sizeof *now);
    for (int64_t i = 0; i < n; i++)
        sum += ((double)now[i] - (double)s->start[i]) * ((double)now[i] - (double)s->start[i]);
    free(now);
    return sqrt(sum);
}

/* The range of the block that a stage moves: the reconstructor alone in warm-up, else everything. */
static void trained_range(const struct learn *s, int64_t *first, int64_t *count)
{
    *first = 0;
    *count = t5_size(s->model);
    if (stage_now(s)->kind != STAGE_WARMUP)
        return;
    const struct t5_tensor *from = t5_tensor_find(s->model, "recon.block.0.layer.0.SelfAttention.q.weight");
    const struct t5_tensor *to = t5_tensor_find(s->model, "recon.final_layer_norm.weight");
    *first = from->offset;
    *count = to->offset + (int64_t)to->rows * to->cols - from->offset;
}

static void mark_losses(struct learn *s, const struct lm_losses *l, int64_t steps)
{
    s->mark.recon += l->recon;
    s->mark.contrastive += l->contrastive;
    s->mark.commitment += l->commitment;
    if (s->mark.step < (steps + 9) / 10) {
        s->mark.first_total += l->total;
        s->mark.first_count++;
    }
    if (s->mark.step >= steps - (steps + 9) / 10) {
        s->mark.last_total += l->total;
        s->mark.last_count++;
    }
}

static void train_step(struct learn *s, int64_t steps, struct lm_losses *l)
{
    static const enum lm_stage stage_of[] = {LM_WARMUP, LM_CONTINUOUS, LM_CONTINUOUS, LM_JOINT, LM_JOINT};
    struct lm_batch batch;
    int64_t first, count;
    learn_batch_fill(s, stage_of[stage_now(s)->kind], stage_now(s)->position, s->mark.step, &batch);
    lmindexer_step(s->model, s->lm, &batch, l);
    trained_range(s, &first, &count);
    const struct t5_adamw adam = optimiser_step(&s->o.adam, s->o.lr, s->mark.step + 1, steps);
    t5_adamw(s->model, &adam, first, count);
}

static int run_training(struct learn *s, struct err *e)
{
    char label[64];
    int64_t steps = stage_steps(s);
    stage_label(s, label, sizeof label);
    if (s->mark.step == 0)
        stage_begin(s);
    while (s->mark.step < steps) {
        struct lm_losses l;
        train_step(s, steps, &l);
        s->mark.diverged = !isfinite(l.total);
        if (s->mark.diverged)
            return err_set(e, ERR_DATA, "%s, step %lld: the loss is not finite; lower lr (now %g)", label, (long long)s->mark.step + 1, s->o.lr);
        mark_losses(s, &l, steps);
        s->mark.step++;
        run_report(s->run, label, s->mark.step, steps, "steps", l.total);
        if (save_when_due(s, e) < 0)
            return -1;
    }
    double n = steps > 0 ? (double)steps : 1;
    run_note(s->run, "%s: steps=%lld loss_first=%.4f loss_last=%.4f recon=%.4f contrastive=%.4f commitment=%.4f moved=%.4g", label,
             (long long)steps, s->mark.first_total / fmax((double)s->mark.first_count, 1),
             s->mark.last_total / fmax((double)s->mark.last_count, 1), s->mark.recon / n, s->mark.contrastive / n, s->mark.commitment / n,
             stage_moved(s));
    return 0;
}

/* ---- encoding the corpus, k-means, assignment ---- */

/* h of every document (out [n, D] or NULL) and its arg max code (assign [n] or NULL). */
static int encode_corpus(struct learn *s, float *out, int32_t *assign, struct err *e)
{
    char label[64];
    const struct stage *g = stage_now(s);
    int32_t d = t5_config_of(s->model)->d_model;
    float *h = xmalloc((size_t)s->o.micro_batch * (size_t)d * sizeof *h);
    stage_label(s, label, sizeof label);
    for (int32_t from = 0; from < s->n; from += s->o.micro_batch) {
        const int32_t *prefix;
        int32_t count = s->n - from < s->o.micro_batch ? s->n - from : s->o.micro_batch;
        if (run_stopping(s->run)) {
            free(h);
            return save_when_due(s, e);
        }
        struct t5_batch rows = learn_batch_rows(s, g->position, from, count, &prefix);
        lmindexer_encode(s->model, s->lm, &rows, g->position, prefix, h);
        if (out)
            memcpy(out + (size_t)from * (size_t)d, h, (size_t)count * (size_t)d * sizeof *h);
        if (assign)
            lmindexer_assign(s->model, s->lm, assign + from);
        run_report(s->run, label, from + count, s->n, "documents", NAN);
    }
    free(h);
    return 0;
}

/* Gives every centroid the mean norm of the vectors. */
static void equalise_norms(float *centroids, int32_t k, const float *h, int32_t n, int32_t d)
{
    double mean = 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++)
            sum += (double)h[i * d + j] * (double)h[i * d + j];
        mean += sqrt(sum) / n;
    }
    for (int64_t c = 0; c < k; c++) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++)
            sum += (double)centroids[c * d + j] * (double)centroids[c * d + j];
        for (int64_t j = 0; j < d && sum > 0; j++)
            centroids[c * d + j] = (float)((double)centroids[c * d + j] * mean / sqrt(sum));
    }
}

static const struct t5_tensor *codebook_tensor(const struct learn *s, int32_t position)
{
    char name[32];
    snprintf(name, sizeof name, "codebook.%d", position + 1);
    return t5_tensor_find(s->model, name);
}

static int run_kmeans(struct learn *s, struct err *e)
{
    const struct stage *g = stage_now(s);
    struct kmeans_result r = {0};
    int32_t d = t5_config_of(s->model)->d_model, k = s->o.codes;
    struct spill rows;
    if (spill_alloc(&rows, (size_t)s->n * (size_t)d * sizeof(float), s->work, e) < 0)
        return -1;
    float *h = rows.data, *centroids = xmalloc((size_t)k * (size_t)d * sizeof *centroids);
    const struct kmeans_options o = {.n = s->n, .d = d, .k = k, .restarts = s->o.kmeans_restarts, .iterations = s->o.kmeans_iterations,
                                     .seed = mix64(s->o.seed, 0x6b6d65616e73ull + (uint64_t)g->position)};
    int rc = encode_corpus(s, h, NULL, e);
    if (rc == 0)
        rc = kmeans_run(s->be, &o, &(struct kmeans_points){.x = h}, centroids, NULL, &r, s->run, e);
    if (rc == 0) {
        equalise_norms(centroids, k, h, s->n, d);
        s->be->write(t5_master(s->model) + codebook_tensor(s, g->position)->offset, centroids, (size_t)k * (size_t)d * sizeof(float));
        t5_refresh(s->model);
        run_note(s->run, "position %d: k-means: clusters=%d used=%d iterations=%d mean_squared_distance=%.5g", g->position + 1, k, r.used,
                 r.iterations, r.inertia / s->n);
    }
    spill_free(&rows);
    free(centroids);
    return rc;
}

static void note_statistics(struct learn *s, int32_t position)
{
    struct id_statistics st;
    id_statistics((const uint32_t *)s->codes, s->n, s->o.positions, position, &st);
    run_note(s->run, "position %d: assign: codes_used=%d/%d perplexity=%.1f collision_rate=%.4f largest_bucket=%d unique_prefixes=%d (%.4f)",
             position + 1, st.codes_used, s->o.codes, st.perplexity, st.collision_rate, st.largest_bucket, st.unique_prefixes,
             (double)st.unique_prefixes / s->n);
    if (st.codes_used < s->o.codes / 4 && s->n >= 4 * s->o.codes)
        run_note(s->run, "warning: position %d uses only %d of %d codes: the IDs have collapsed; try another seed, a lower lr or more epochs",
                 position + 1, st.codes_used, s->o.codes);
}

/* c_d^t for every document; the position's codes become decoder tokens whose rows start as copies of the codebook. */
static int run_assign(struct learn *s, struct err *e)
{
    const struct stage *g = stage_now(s);
    int32_t d = t5_config_of(s->model)->d_model, k = s->o.codes, *assigned = xmalloc((size_t)s->n * sizeof *assigned);
    int rc = encode_corpus(s, NULL, assigned, e);
    if (rc == 0) {
        float *rows = xmalloc((size_t)k * (size_t)d * sizeof *rows);
        for (int32_t i = 0; i < s->n; i++)
            s->codes[(size_t)i * (size_t)s->o.positions + (size_t)g->position] = assigned[i];
        s->be->read(rows, t5_master(s->model) + codebook_tensor(s, g->position)->offset, (size_t)k * (size_t)d * sizeof(float));
        t5_set_code_rows(s->model, g->position * k, k, rows);
        note_statistics(s, g->position);
        free(rows);
    }
    free(assigned);
    return rc;
}

static int run_stage(struct learn *s, struct err *e)
{
    if (stage_trains(stage_now(s)))
        return run_training(s, e);
    return stage_now(s)->kind == STAGE_KMEANS ? run_kmeans(s, e) : run_assign(s, e);
}

int learn_stages(struct learn *s, struct err *e)
{
    s->saved_s = clock_s();
    if (restore(s, e) < 0)
        return -1;
    if (s->mark.diverged)
        return err_set(e, ERR_DATA, "the loss is not finite; lower lr (now %g)", s->o.lr);
    while (s->mark.stage < s->stage_count) {
        if (run_stage(s, e) < 0)
            return -1;
        s->mark = (struct learn_mark){.stage = s->mark.stage + 1};
        if (learn_save(s, e) < 0)
            return -1;
        if (run_stopping(s->run))
            return err_set(e, ERR_INTERRUPTED, "stopped; the state is in %s: the same command goes on from there", s->work);
    }
    return 0;
}

/* ---- the run ---- */

int learn_run(const struct learn_options *o, const struct run *run, struct err *e)
{
    struct learn s = {.o = *o, .run = run, .checkpoint = "checkpoint"};
    bool quantiser = o->indexer != INDEXER_LMINDEXER;
    int rc = quantiser ? learn_quantiser_run(&s, e) : learn_open(&s, e);
    if (rc == 0 && !quantiser) {
        build_stages(&s);
        rc = s.o.search.count > 0 ? learn_rates(&s, e) : learn_stages(&s, e);
    }
    if (rc == 0 && !quantiser)
        rc = learn_write_bundle(&s, e);
    if (rc == 0)
        rc = file_remove_tree(s.work, e);
    learn_close(&s);
    return rc;
}
