/* test_learn.c: learning semantic IDs: the objective as it is trained (hash masks, dropout, drawn targets) against finite differences, ID
 * statistics, and whole runs: losses fall, codes are used, a run that is stopped at many places ends with the bytes of an unbroken one, bad
 * input and damaged checkpoints are refused. */
#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/data/sample.h"
#include "../../core/learn/id_statistics.h"
#include "../../core/learn/lmindexer.h"
#include "../../core/model/bundle.h"
#include "../../core/runs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct backend *cpu(void)
{
    char message[256];
    const struct backend *be = backend_open("cpu", 2, message, sizeof message);
    assert_non_null(be);
    return be;
}

/* ---- the objective as trained ---- */

enum { DOCUMENTS = 5, ROWS = 9, CODES = 6, WIDTH = 16 };

struct setup {
    struct t5 *model;
    struct lm_work *work;
    int32_t tokens[256], offsets[ROWS + 1], prefix[ROWS], second[DOCUMENTS], negatives[8], negative_offsets[DOCUMENTS + 1];
    uint64_t keys[DOCUMENTS];
    struct lm_batch batch;
};

static void make_rows(struct setup *s)
{
    static const int32_t lengths[ROWS] = {4, 9, 1, 6, 12, 4, 9, 6, 12}, views[DOCUMENTS] = {5, 6, -1, 7, 8};
    for (int32_t r = 0; r < ROWS; r++) {
        s->offsets[r + 1] = s->offsets[r] + lengths[r];
        for (int32_t i = 0; i < lengths[r] - 1; i++)
            s->tokens[s->offsets[r] + i] = 2 + (int32_t)(mix64(9, (uint64_t)(r * 31 + i)) % 28);
        s->tokens[s->offsets[r + 1] - 1] = 1;
        s->prefix[r] = r % 2;
    }
    for (int32_t i = 0; i < DOCUMENTS; i++) {
        s->second[i] = views[i];
        s->keys[i] = (uint64_t)i + 100;
        if (views[i] >= 0) {
            s->negatives[s->negative_offsets[i]] = (i + 1) % DOCUMENTS;
            s->negatives[s->negative_offsets[i] + 1] = (i + 3) % DOCUMENTS;
        }
        s->negative_offsets[i + 1] = s->negative_offsets[i] + (views[i] >= 0 ? 2 : 0);
    }
}

static void setup_open(struct setup *s, bool gated)
{
    struct t5_config c = {.vocab = 30, .codes = 2 * CODES, .d_model = WIDTH, .d_kv = 4, .d_ff = 24, .heads = 3, .encoder_layers = 1,
                          .decoder_layers = 1, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .dropout = 0.2f, .gated = gated,
                          .scale_output = true};
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    const struct t5_options o = {.config = c, .train = true, .extra = extra, .extra_count = lmindexer_extras(&c, 2, CODES, extra)};
    struct err e;
    memset(s, 0, sizeof *s);
    make_rows(s);
    s->model = t5_init(cpu(), &o, &e);
    assert_non_null(s->model);
    t5_randomise(s->model, 3);
    for (int64_t i = 0; i < t5_size(s->model); i++)
        t5_master(s->model)[i] *= 0.5f;
    t5_refresh(s->model);
    const struct lm_limits l = {.documents = DOCUMENTS, .rows = ROWS, .tokens = 128, .text_tokens = 64, .positions = 2, .codes = CODES, .train = true};
    s->work = lm_work_init(s->model, &l, &e);
    assert_non_null(s->work);
    s->batch = (struct lm_batch){.stage = LM_CONTINUOUS, .position = 1, .documents = DOCUMENTS, .rows = {ROWS, s->tokens, s->offsets},
                                 .prefix = s->prefix, .keys = s->keys, .hint_ratio = 0.4, .second_view = s->second, .negatives = s->negatives,
                                 .negative_offsets = s->negative_offsets, .target_share = 0.6, .seed = 77, .dropout = true,
                                 .contrastive_temperature = 2, .weight_recon = 1, .weight_contrastive = 0.7, .weight_commitment = 0.3};
}

static void setup_close(struct setup *s)
{
    lm_work_free(s->work);
    t5_free(s->model);
}

static double loss_of(struct setup *s)
{
    struct lm_losses l;
    lmindexer_step(s->model, s->work, &s->batch, &l);
    return l.total;
}

/* Derivative along one tensor's own gradient direction, against central differences. */
static void check_direction(struct setup *s, const struct t5_tensor *t, const float *grad)
{
    int64_t n = (int64_t)t->rows * t->cols;
    float *w = t5_master(s->model) + t->offset;
    double norm = 0, step = 2e-3;
    for (int64_t i = 0; i < n; i++)
        norm += (double)grad[i] * (double)grad[i];
    norm = sqrt(norm);
    if (norm < 1e-3)
        return;
    float *keep = xmalloc((size_t)n * sizeof *keep);
    memcpy(keep, w, (size_t)n * sizeof *keep);
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++)
            w[i] = (float)((double)keep[i] + (k ? -step : step) * (double)grad[i] / norm);
        t5_refresh(s->model);
        side[k] = loss_of(s);
    }
    memcpy(w, keep, (size_t)n * sizeof *keep);
    t5_refresh(s->model);
    free(keep);
    double numeric = (side[0] - side[1]) / (2 * step);
    if (fabs(numeric - norm) > 0.02 * norm + 2e-3)
        fail_msg("%s: finite difference %.6g, gradient %.6g", t->name, numeric, norm);
}

static void check_gradients(bool gated)
{
    struct setup s;
    setup_open(&s, gated);
    size_t bytes = (size_t)t5_size(s.model) * sizeof(float);
    float *grad = xmalloc(bytes);
    memset(t5_grad(s.model), 0, bytes);
    loss_of(&s);
    memcpy(grad, t5_grad(s.model), bytes);
    for (int32_t i = 0; i < t5_tensor_count(s.model); i++)
        check_direction(&s, t5_tensor_at(s.model, i), grad + t5_tensor_at(s.model, i)->offset);
    free(grad);
    setup_close(&s);
}

static void test_gradients_relu(void **state)
{
    (void)state;
    check_gradients(false);
}

static void test_gradients_gated(void **state)
{
    (void)state;
    check_gradients(true);
}

/* Frozen codebooks get no gradient; the same seed draws the same batch loss, another seed another. */
static void test_freeze_and_seed(void **state)
{
    (void)state;
    struct setup s;
    setup_open(&s, false);
    s.batch.freeze_codebooks = true;
    memset(t5_grad(s.model), 0, (size_t)t5_size(s.model) * sizeof(float));
    double a = loss_of(&s), b = loss_of(&s);
    assert_true(a == b);
    const struct t5_tensor *book = t5_tensor_find(s.model, "codebook.1");
    for (int32_t i = 0; i < book->rows * book->cols; i++)
        assert_true(t5_grad(s.model)[book->offset + i] == 0);
    s.batch.seed++;
    assert_true(loss_of(&s) != a);
    setup_close(&s);
}

/* The warm-up stage touches no T5 tensor. */
static void test_warmup_moves_reconstructor_only(void **state)
{
    (void)state;
    struct setup s;
    setup_open(&s, false);
    s.batch.stage = LM_WARMUP;
    s.batch.position = 0;
    s.batch.second_view = NULL;
    s.batch.rows.count = DOCUMENTS;
    memset(t5_grad(s.model), 0, (size_t)t5_size(s.model) * sizeof(float));
    loss_of(&s);
    for (int32_t i = 0; i < t5_tensor_count(s.model); i++) {
        const struct t5_tensor *t = t5_tensor_at(s.model, i);
        double sum = 0;
        for (int64_t k = 0; k < (int64_t)t->rows * t->cols; k++)
            sum += fabs((double)t5_grad(s.model)[t->offset + k]);
        if (strncmp(t->name, "recon.", 6) == 0)
            assert_true(sum > 0);
        else
            assert_true(sum == 0);
    }
    setup_close(&s);
}

/* ---- a batch in passes ---- */

static void gradient_of(struct setup *s, struct lm_work *w, float *grad, struct lm_losses *l)
{
    size_t bytes = (size_t)t5_size(s->model) * sizeof(float);
    memset(t5_grad(s->model), 0, bytes);
    lmindexer_step(s->model, w, &s->batch, l);
    memcpy(grad, t5_grad(s->model), bytes);
}

/* A gradient is a sum over some hundred terms (tokens, candidates) through a chain of as long sums: another order moves it by at most 128 roundings of
 * 2^-24 of its norm. */
static void check_same(struct setup *s, const float *a, const float *b, const char *what)
{
    double norm = 0, apart = 0;
    for (int64_t i = 0; i < t5_size(s->model); i++) {
        norm += (double)a[i] * (double)a[i];
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    assert_true(norm > 0);
    if (sqrt(apart) > 128 * 0x1p-24 * sqrt(norm))
        fail_msg("%s: gradients are %.3g of their norm apart", what, sqrt(apart / norm));
}

static void check_passes(enum lm_stage stage, int32_t position, int32_t documents)
{
    struct setup s;
    struct err e;
    struct lm_losses whole, cut;
    setup_open(&s, false);
    s.batch.stage = stage;
    s.batch.position = position;
    s.batch.dropout = false;
    const struct lm_limits l = {.documents = documents, .rows = 2 * documents, .batch = DOCUMENTS, .tokens = 26 * documents, .text_tokens = 12 * documents,
                                .positions = 2, .codes = CODES, .train = true};
    struct lm_work *w = lm_work_init(s.model, &l, &e);
    float *a = xcalloc((size_t)t5_size(s.model), sizeof *a), *b = xcalloc((size_t)t5_size(s.model), sizeof *b);
    assert_non_null(w);
    gradient_of(&s, s.work, a, &whole);
    gradient_of(&s, w, b, &cut);
    check_same(&s, a, b, stage == LM_JOINT ? "joint" : stage == LM_WARMUP ? "warm-up" : "continuous");
    assert_float_equal(cut.recon, whole.recon, 128 * 0x1p-24 * whole.recon);
    assert_float_equal(cut.contrastive, whole.contrastive, 128 * 0x1p-24 * whole.contrastive);
    assert_float_equal(cut.commitment, whole.commitment, 128 * 0x1p-24 * whole.commitment);
    assert_float_equal(cut.total, whole.total, 128 * 0x1p-24 * whole.total);
    assert_true(stage == LM_WARMUP || whole.contrastive > 0);
    free(a);
    free(b);
    lm_work_free(w);
    setup_close(&s);
}

static void test_passes_add_up_to_the_batch(void **state)
{
    (void)state;
    for (int32_t documents = 1; documents < DOCUMENTS; documents++)
        for (int32_t position = 0; position < 2; position++) {
            check_passes(LM_CONTINUOUS, position, documents);
            check_passes(LM_JOINT, position, documents);
        }
    check_passes(LM_WARMUP, 0, 2);
}

/* A stranger's codes in the reconstruction: the identity is what stands without them, another order makes another loss. */
static void test_codes_of_strangers(void **state)
{
    (void)state;
    struct setup s;
    struct lm_losses own, same, other;
    int32_t ids_of[DOCUMENTS] = {0, 1, 2, 3, 4};
    setup_open(&s, false);
    s.batch.stage = LM_JOINT;
    s.batch.dropout = false;
    lmindexer_step(s.model, s.work, &s.batch, &own);
    s.batch.ids_of = ids_of;
    lmindexer_step(s.model, s.work, &s.batch, &same);
    assert_true(own.recon == same.recon);
    for (int32_t i = 0; i < DOCUMENTS; i++)
        ids_of[i] = (i + 1) % DOCUMENTS;
    lmindexer_step(s.model, s.work, &s.batch, &other);
    assert_true(fabs(own.recon - other.recon) > 1e-4);
    assert_true(own.contrastive == other.contrastive);
    setup_close(&s);
}

static void test_statistics(void **state)
{
    (void)state;
    const uint32_t codes[] = {0, 1, 0, 1, 0, 2, 3, 1}; /* (0,1) (0,1) (0,2) (3,1) */
    struct id_statistics st;
    id_statistics(codes, 4, 2, 0, &st);
    assert_int_equal(st.codes_used, 2);
    assert_int_equal(st.largest_bucket, 3);
    assert_int_equal(st.unique_prefixes, 2);
    assert_true(fabs(st.collision_rate - 0.75) < 1e-12);
    id_statistics(codes, 4, 2, 1, &st);
    assert_int_equal(st.unique_prefixes, 3);
    assert_int_equal(st.codes_used, 2);
    assert_true(fabs(st.perplexity - exp(0.75 * log(4 / 3.0) + 0.25 * log(4))) < 1e-9);
    assert_true(fabs(st.collision_rate - 0.5) < 1e-12);
}

/* ---- whole runs ---- */

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    struct err e;
    char template[] = "/tmp/semindex-learn-XXXXXX";
    folder = xstrdup(mkdtemp(template));
    char *data = path_join(folder, "data");
    int rc = sample_write(data, 1, &e);
    free(data);
    return rc;
}

static int remove_folder(void **state)
{
    (void)state;
    struct err e;
    int rc = file_remove_tree(folder, &e);
    free(folder);
    return rc;
}

struct watcher { /* stops a run at the n-th report */
    int64_t reports, stop_at;
    volatile sig_atomic_t stop;
    char notes[16384];
    int64_t bits;
};

static void on_report(void *state, const struct progress *p)
{
    struct watcher *w = state;
    (void)p;
    if (++w->reports == w->stop_at)
        w->stop = 1;
}

static void on_note(void *state, const char *line)
{
    struct watcher *w = state;
    if (strlen(w->notes) + strlen(line) + 2 < sizeof w->notes) {
        strcat(w->notes, line);
        strcat(w->notes, "\n");
    }
}

static int learn(const char *out, struct watcher *w, const struct learn_options *change, struct err *e)
{
    char *data = path_join(folder, "data"), *path = path_join(folder, out), *work = xprintf("%s.work", path);
    char *tokenizer = path_join(folder, "tokenizer.model");
    struct learn_options o = {.data = data, .out = path, .tokenizer = tokenizer, .shape = {24, 32, 8, 2, 1, 1}, .positions = 2, .codes = 8, .max_tokens = 24, .batch = 32,
                              .lr = 3e-3, .kmeans_restarts = 2, .kmeans_iterations = 5, .warmup_epochs = 1, .continuous_epochs = 1,
                              .joint_epochs = 1, .seed = 4, .limit = 120, .device = "cpu", .threads = 2, .checkpoint_s = 1000};
    const struct run run = {on_report, on_note, w, &w->stop};
    const struct tokenizer_options t = {.data = data, .output = tokenizer, .vocab = 400, .threads = 1};
    if (change) {
        o.lr = change->lr;
        o.micro_batch = change->micro_batch;
        o.search = change->search;
        o.adam = change->adam;
        o.weight_recon = change->weight_recon;
        o.indexer = change->indexer;
        o.base = change->base;
    }
    int rc = file_exists(tokenizer) ? 0 : tokenizer_run(&t, NULL, e);
    rc = rc == 0 ? learn_run(&o, &run, e) : rc;
    free(data);
    free(path);
    free(work);
    free(tokenizer);
    return rc;
}

static void digest_of(const char *bundle, char hex[65])
{
    struct err e;
    char *path = path_join(folder, bundle);
    struct bundle *b = bundle_open(path, &e);
    assert_non_null(b);
    bundle_digest(b, hex);
    bundle_close(b);
    free(path);
}

static void test_run_learns(void **state)
{
    (void)state;
    struct watcher w = {.stop_at = -1};
    struct err e = {0};
    double first, last;
    assert_int_equal(learn("whole", &w, NULL, &e), 0);
    const char *line = strstr(w.notes, "position 1: continuous:");
    assert_non_null(line);
    assert_int_equal(sscanf(strstr(line, "loss_first="), "loss_first=%lf loss_last=%lf", &first, &last), 2);
    assert_true(last < first);
    for (int i = 0; i < 5; i++) { /* every training stage moved the weights */
        line = strstr(i ? line + 1 : w.notes, "moved=");
        assert_non_null(line);
        assert_true(atof(line + 6) > 1e-3);
    }
    int used;
    line = strstr(w.notes, "position 1: assign: codes_used=");
    assert_int_equal(sscanf(line, "position 1: assign: codes_used=%d", &used), 1);
    assert_true(used >= 4);
}

/* Stopped at changing places, up to 6 * apart reports after each start: a pass over the corpus must fit, or it would never end. */
static void learn_broken(const char *out, const struct learn_options *change, int64_t apart)
{
    struct err e = {0};
    int rc = -1, stops = 0;
    for (int64_t n = 1; rc != 0 && stops < 90; n = n % 5 + 2) {
        struct watcher w = {.stop_at = apart * n};
        rc = learn(out, &w, change, &e);
        stops += rc != 0;
        if (rc != 0 && e.code != ERR_INTERRUPTED)
            fail_msg("%s", e.message);
    }
    assert_int_equal(rc, 0);
    assert_true(stops >= 5);
}

static void same_bundles(const char *a, const char *b)
{
    char whole[65], broken[65];
    digest_of(a, whole);
    digest_of(b, broken);
    assert_string_equal(whole, broken);
}

/* Rates are tried, one of them so high that nothing is learned; the best one is kept; in passes of 10 documents; killed or not, the same bytes. */
static void search_rates(int64_t steps, const char *whole, const char *broken)
{
    const struct learn_options change = {.search = {.lr = {3e-3, 0.9, 1e-2}, .count = 3, .steps = steps}, .micro_batch = 10};
    struct watcher w = {.stop_at = -1};
    struct err e = {0};
    double gain[3];
    if (learn(whole, &w, &change, &e) != 0)
        fail_msg("%s", e.message);
    const char *line = strstr(w.notes, "rate 0.003: own codes tell");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "rate 0.003: own codes tell %lf nats", &gain[0]), 1);
    line = strstr(w.notes, "rate 0.9: own codes tell");
    gain[1] = 0;
    if (line) /* else it diverged */
        assert_int_equal(sscanf(line, "rate 0.9: own codes tell %lf nats", &gain[1]), 1);
    line = strstr(w.notes, "rate 0.01: own codes tell");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "rate 0.01: own codes tell %lf nats", &gain[2]), 1);
    assert_non_null(strstr(w.notes, "32 documents in passes of 10"));
    assert_non_null(strstr(w.notes, gain[2] > gain[0] ? "rate 0.01: own codes tell" : "rate 0.003: own codes tell"));
    line = strstr(w.notes, " (kept)");
    assert_non_null(line);
    while (line[-1] != '\n')
        line--;
    assert_true(atof(line + 5) == (gain[1] > gain[0] && gain[1] > gain[2] ? 0.9 : gain[2] > gain[0] ? 0.01 : 0.003));
    learn_broken(broken, &change, 7);
    same_bundles(whole, broken);
}

static void test_search_of_rates(void **state)
{
    (void)state;
    search_rates(0, "rates", "rates-broken");
}

static void test_search_with_short_trials(void **state)
{
    (void)state;
    search_rates(2, "short", "short-broken");
}

static void weights_of(const char *bundle, char hex[65])
{
    struct err e;
    char *path = path_join(folder, bundle);
    struct bundle *b = bundle_open(path, &e);
    assert_non_null(b);
    memcpy(hex, bundle_sha256(b, "indexer.safetensors"), 65);
    bundle_close(b);
    free(path);
}

/* The optimiser's settings reach the stages: the defaults said aloud are "whole"'s weights, another epsilon makes others. */
static void test_optimiser_is_set(void **state)
{
    (void)state;
    const struct learn_options same = {.lr = 3e-3, .adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-6, .weight_decay = -1, .clip = 1, .warmup_share = 0.1}};
    const struct learn_options other = {.lr = 3e-3, .adam = {.eps = 1e-3}};
    struct watcher a = {.stop_at = -1}, b = {.stop_at = -1};
    struct err e = {0};
    char plain[65], hex[65];
    assert_int_equal(learn("adam", &a, &same, &e), 0);
    weights_of("whole", plain);
    weights_of("adam", hex);
    assert_string_equal(plain, hex);
    assert_int_equal(learn("epsilon", &b, &other, &e), 0);
    weights_of("epsilon", hex);
    assert_string_not_equal(plain, hex);
}

/* A loss that is no number ends a trial, not the search; that is remembered. */
static void test_search_diverges(void **state)
{
    (void)state;
    const struct learn_options change = {.search = {.lr = {3e-3, 1e-2}, .count = 2}, .weight_recon = 1e39};
    struct watcher first = {.stop_at = -1}, again = {.stop_at = -1};
    struct err e = {0};
    assert_int_equal(learn("nothing", &first, &change, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_string_equal(e.message, "every rate of the search diverged; give lower ones");
    assert_non_null(strstr(first.notes, "rate 0.003: diverged"));
    assert_non_null(strstr(first.notes, "rate 0.01: diverged"));
    assert_int_equal(learn("nothing", &again, &change, &e), -1);
    assert_string_equal(e.message, "every rate of the search diverged; give lower ones");
    assert_int_equal(again.reports, 0);
}

/* What the bundle keeps of the run. */
static void test_run_is_kept(void **state)
{
    (void)state;
    struct err e = {0};
    struct str out = {0};
    char *path = path_join(folder, "rates");
    assert_int_equal(runs_of_bundle(path, &out, &e), 0);
    for (const char *const *part = (const char *const[]){"\"command\":\t\"learn-ids\"", "\"program\":\t\"" SEMINDEX_VERSION "\"", "\"seed\":\t4",
                                                         "\"documents\":\t120", "\"micro_batch\":\t\"10\"", "\"adam_eps\":\t\"1e-06\"",
                                                         "\"lr\":\t0.003", "\"lr\":\t0.9", NULL};
         *part; part++)
        if (!strstr(out.data, *part))
            fail_msg("%s is not in %s", *part, out.data);
    str_free(&out);
    free(path);
}

/* Stopped again and again at changing places, a run ends with the bytes of an unbroken one. */
static void test_resume_is_exact(void **state)
{
    (void)state;
    const struct learn_options change = {.lr = 3e-3};
    learn_broken("broken", &change, 1);
    same_bundles("whole", "broken");
}

static void test_checkpoint_damaged_or_foreign(void **state)
{
    (void)state;
    struct err e = {0};
    struct watcher w = {.stop_at = 9};
    assert_int_equal(learn("cut", &w, NULL, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    struct watcher other = {.stop_at = -1};
    const struct learn_options change = {.lr = 1e-3};
    assert_int_equal(learn("cut", &other, &change, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_non_null(strstr(e.message, "lr"));
    char *path = xprintf("%s/cut.work/checkpoint", folder), *previous = xprintf("%s.previous", path);
    size_t size;
    char *bytes = file_read(path, 0, &size, &e);
    assert_non_null(bytes);
    assert_int_equal(file_write(path, bytes, size / 2, &e), 0);
    unlink(previous);
    struct watcher again = {.stop_at = -1};
    assert_int_equal(learn("cut", &again, NULL, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, "checkpoint"));
    free(bytes);
    free(path);
    free(previous);
}

/* Texts that a stopped run has embedded are not embedded again, and not believed when they are others. */
static void test_embedding_goes_on(void **state)
{
    (void)state;
    struct err e = {0};
    char *base = path_join(folder, "whole"), *rows = path_join(folder, "texts-cut.work/texts.embeddings"), byte = 1;
    const struct learn_options change = {.lr = 3e-3, .indexer = INDEXER_RESIDUAL, .base = base};
    struct watcher whole = {.stop_at = -1}, again = {.stop_at = -1};
    assert_int_equal(learn("texts", &whole, &change, &e), 0);
    for (int cut = 0; cut < 2; cut++) {
        struct watcher first = {.stop_at = 1};
        assert_int_equal(learn(cut ? "texts-cut" : "texts-broken", &first, &change, &e), -1);
        assert_int_equal(e.code, ERR_INTERRUPTED);
    }
    assert_int_equal(learn("texts-broken", &again, &change, &e), 0);
    assert_non_null(strstr(again.notes, "going on behind 64 embedded texts"));
    assert_true(again.reports == whole.reports - 1);
    same_bundles("texts", "texts-broken");
    FILE *f = fopen(rows, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, 1000, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(learn("texts-cut", &again, &change, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, "texts.embeddings: its first 64 rows"));
    free(base);
    free(rows);
}

static void test_bad_options(void **state)
{
    (void)state;
    struct err e = {0};
    struct watcher w = {.stop_at = -1};
    const struct learn_options change = {.lr = 7};
    assert_int_equal(learn("bad", &w, &change, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.message, "lr is 7, must be"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_relu),
        cmocka_unit_test(test_gradients_gated),
        cmocka_unit_test(test_freeze_and_seed),
        cmocka_unit_test(test_warmup_moves_reconstructor_only),
        cmocka_unit_test(test_passes_add_up_to_the_batch),
        cmocka_unit_test(test_codes_of_strangers),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_run_learns),
        cmocka_unit_test(test_resume_is_exact),
        cmocka_unit_test(test_optimiser_is_set),
        cmocka_unit_test(test_search_of_rates),
        cmocka_unit_test(test_search_with_short_trials),
        cmocka_unit_test(test_search_diverges),
        cmocka_unit_test(test_run_is_kept),
        cmocka_unit_test(test_checkpoint_damaged_or_foreign),
        cmocka_unit_test(test_embedding_goes_on),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
