/* train_open.c: what a task training run stands on: defaults, bundle, corpus, IDs and their trie, and the model it starts from.
 *
 * Documents of the corpus and rows of ids.tsv are matched by name, so a corpus may hold more or other documents than the bundle; only those
 * with an ID can be a target. The layout of a task model's code rows: positions 1..L as the indexer has them, then the suffix, whose
 * vocabulary is the largest suffix given out plus one. The indexer's rows of the learned positions come first in both, so they are copied
 * as they stand. Ownership: struct train owns all; train_close takes any state that train_open left. */
#include "train_internal.h"

#include "../base/file.h"
#include "../base/fill.h"
#include "../model/model_file.h"
#include "../model/model_settings.h"
#include "../model/quantiser.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEAM_WIDTH = 20, VALIDATION_ROWS = 64 };

/* ---- defaults ---- */

static void fill_defaults(struct train_options *o)
{
    fill_i32(&o->max_history, 20);
    fill_i32(&o->max_tokens, o->task == TRAIN_QUERIES ? 128 : o->task == TRAIN_RECOMMEND && o->text_history ? 256 : 32);
    fill_i32(&o->batch, o->task == TRAIN_QUERIES ? 32 : 256);
    fill_i32(&o->validations, 10);
    fill_i32(&o->patience, 5);
    fill_i32(&o->pseudo_per_document, 15);
    fill_f64(&o->validation_share, 0.02);
    if (o->written_share == 0)
        o->written_share = 0.5;
    if (o->written_share < 0 || o->written == NULL)
        o->written_share = 0;
    fill_f64(&o->checkpoint_s, 20);
    optimiser_defaults(&o->adam);
    if (o->seed == 0)
        o->seed = 1;
}

static int check_options(const struct train_options *o, struct err *e)
{
    if (o->label_smoothing < 0 || o->label_smoothing >= 1)
        return err_set(e, ERR_USAGE, "label smoothing %g: must be at least 0 and below 1", o->label_smoothing);
    if (o->dropout >= 1)
        return err_set(e, ERR_USAGE, "dropout %g: must be below 1", o->dropout);
    if (o->batch > 1 << 16 || o->max_tokens > 1 << 16 || o->max_history > 1 << 12)
        return err_set(e, ERR_USAGE, "batch, input tokens and history are bounded by 65536, 65536 and 4096; given are %d, %d and %d",
                       o->batch, o->max_tokens, o->max_history);
    if (o->validation_share >= 1)
        return err_set(e, ERR_USAGE, "validation share %g: must be below 1", o->validation_share);
    return 0;
}

/* ---- IDs ---- */

static int read_ids(struct train *t, struct err *e)
{
    const char *path = bundle_file(t->bundle, "ids.tsv");
    if (path == NULL && t->o.task == TRAIN_QUERIES)
        return 0;
    if (path == NULL)
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no IDs; run learn-ids first", t->o.model);
    if (id_table_read(&t->ids, path, NULL, e) != 0)
        return -1;
    if (t->ids.count == 0)
        return err_set(e, ERR_DATA, "%s: holds no document", path);
    t->trie = trie_build(t->ids.codes, NULL, (uint32_t)t->ids.count, t->ids.positions, e);
    return t->trie == NULL ? -1 : 0;
}

static int match_rows(struct train *t, struct err *e)
{
    struct string_map *rows = string_map_init(t->ids.count);
    int32_t found = 0;
    for (int32_t i = 0; i < t->ids.count; i++)
        string_map_put(rows, t->ids.name[i], strlen(t->ids.name[i]), i);
    t->row = xcalloc((size_t)t->corpus.count + 1, sizeof *t->row);
    for (int32_t i = 0; i < t->corpus.count; i++) {
        const char *id = t->corpus.documents[i].id;
        t->row[i] = string_map_get(rows, id, strlen(id));
        found += t->row[i] >= 0;
    }
    string_map_free(rows);
    if (found == 0 && t->o.task == TRAIN_QUERIES) { /* needs no IDs: every document may teach */
        for (int32_t i = 0; i < t->corpus.count; i++)
            t->row[i] = i;
        return 0;
    }
    if (found == 0)
        return err_set(e, ERR_DATA, "%s: none of its %d documents has an ID in %s", t->o.data, t->corpus.count, t->o.model);
    if (found < t->corpus.count)
        run_note(t->run, "%d of %d documents have an ID; the others are left out", found, t->corpus.count);
    return 0;
}

const char *train_task_name(enum train_task task)
{
    static const char *const names[] = {[TRAIN_SEARCH] = "search", [TRAIN_RECOMMEND] = "recommend", [TRAIN_QUERIES] = "queries"};
    return names[task];
}

const char *train_start_name(enum train_start start)
{
    static const char *const names[] = {[START_DEFAULT] = "default", [START_RANDOM] = "random", [START_INDEXER] = "indexer", [START_BASE] = "base"};
    return names[start];
}

static char *checkpoint_path(const struct train *t, struct err *e)
{
    size_t size = strlen(t->o.model);
    while (size > 1 && t->o.model[size - 1] == '/')
        size--;
    char *folder = xprintf("%.*s.work", (int)size, t->o.model), *path = NULL;
    if (file_mkdirs(folder, e) == 0)
        path = xprintf("%s/train-%s.checkpoint", folder, train_task_name(t->o.task));
    free(folder);
    return path;
}

/* Defaults that depend on the bundle: where the weights come from, rate, dropout. */
static int choose_start(struct train *t, struct err *e)
{
    struct train_options *o = &t->o;
    bool text = o->task != TRAIN_RECOMMEND || o->text_history, indexed = model_file_has(t->bundle, "indexer");
    struct model_settings indexer = {0};
    if (indexed) {
        char *json = model_file_settings(t->bundle, "indexer", e);
        if (json == NULL)
            return -1;
        model_settings_read(&indexer, json);
        free(json);
    }
    bool writes = o->task == TRAIN_QUERIES;
    if (o->start == START_DEFAULT)
        o->start = o->base != NULL || (writes && model_file_has(t->base, "base")) ? START_BASE
                   : (text && indexer.from_base) || (writes && indexed)           ? START_INDEXER
                                                                                  : START_RANDOM;
    if (o->start != START_BASE && o->base != NULL)
        return err_set(e, ERR_USAGE, "start %s and base: a base is what is started from; leave one out", train_start_name(o->start));
    if (o->start == START_BASE && !model_file_has(t->base, "base"))
        return err_set(e, ERR_CONFLICT, "%s: has no part base to start from; semindex pretrain or import makes one, --base names it",
                       bundle_folder(t->base));
    fill_f64(&o->lr, o->start == START_BASE && o->task == TRAIN_QUERIES ? 5e-4 : text || o->start != START_RANDOM ? 2e-3 : 4e-3);
    if (o->dropout == 0)
        o->dropout = o->task != TRAIN_RECOMMEND && o->start == START_RANDOM ? 0 : 0.1;
    if (o->dropout < 0)
        o->dropout = 0;
    return 0;
}

/* The bundle whose part base may be the start. Token ids mean nothing under another tokenizer. */
static int open_base(struct train *t, struct err *e)
{
    t->base = t->o.base != NULL ? bundle_open(t->o.base, e) : t->bundle;
    if (t->base == NULL)
        return -1;
    const char *ours = bundle_sha256(t->bundle, "tokenizer.model"), *its = bundle_sha256(t->base, "tokenizer.model");
    if (ours != NULL && (its == NULL || strcmp(ours, its) != 0))
        return err_set(e, ERR_CONFLICT, "%s: its tokenizer is not that of %s; learn-ids --base %s gives a bundle the base's", t->o.base, t->o.model,
                       t->o.base);
    return 0;
}

int train_open(struct train *t, struct err *e)
{
    char message[512];
    fill_defaults(&t->o);
    if (check_options(&t->o, e) != 0)
        return -1;
    t->be = backend_open(t->o.device ? t->o.device : "auto", t->o.threads, message, sizeof message);
    if (t->be == NULL)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", t->o.device ? t->o.device : "auto", message);
    run_note_device(t->run, t->be->device, message);
    if (t->o.task == TRAIN_QUERIES)
        fill_i32(&t->o.micro_batch, t->be->has_host_memory ? 16 : 128);
    t->bundle = bundle_open(t->o.model, e);
    if (t->bundle == NULL || open_base(t, e) != 0 || choose_start(t, e) != 0 || read_ids(t, e) != 0)
        return -1;
    if (corpus_read(&t->corpus, t->o.data, t->run, e) != 0 || match_rows(t, e) != 0)
        return -1;
    t->checkpoint = checkpoint_path(t, e);
    return t->checkpoint == NULL ? -1 : 0;
}

void train_close(struct train *t)
{
    t5_free(t->model);
    tokenizer_close(t->tokenizer);
    trie_free(t->trie);
    id_table_free(&t->ids);
    corpus_free(&t->corpus);
    if (t->base != t->bundle)
        bundle_close(t->base);
    bundle_close(t->bundle);
    free(t->row);
    free(t->checkpoint);
    free(t->settings);
}

int train_open_tokenizer(struct train *t, struct err *e)
{
    const char *path = bundle_file(t->bundle, "tokenizer.model");
    if (path == NULL)
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no tokenizer, and this task reads text", t->o.model);
    t->tokenizer = tokenizer_open(path, e);
    return t->tokenizer == NULL ? -1 : 0;
}

/* ---- models ---- */

/* K of each position: the indexer's, where it has the position, else the largest code given out plus one. */
static void lay_out(struct train *t, int32_t base, const struct code_layout *learned)
{
    t->layout = (struct code_layout){.base = base, .positions = t->ids.positions};
    for (int32_t p = 0; p < t->ids.positions; p++) {
        uint32_t most = 0;
        for (int32_t i = 0; i < t->ids.count; i++)
            most = train_codes(t, i)[p] > most ? train_codes(t, i)[p] : most;
        t->layout.codes[p] = (int32_t)most + 1;
        if (learned != NULL && p < learned->positions && learned->codes[p] > t->layout.codes[p])
            t->layout.codes[p] = learned->codes[p];
    }
}

static bool lies_alike(const struct train *t, const struct code_layout *learned)
{
    bool same = learned->positions >= 1 && learned->positions <= t->layout.positions;
    for (int32_t p = 0; same && p < learned->positions; p++)
        same = learned->codes[p] == t->layout.codes[p];
    return same;
}

/* Longest input that the task may make of a sample. */
static int32_t longest_input(const struct train *t)
{
    int32_t items = t->o.max_history * t->layout.positions + 1;
    return t->o.max_tokens > items ? t->o.max_tokens : items;
}

/* The model with what trains and validates it. The indexer, which is loaded already (NULL: none), goes before the work spaces come. */
static int check_memory(const struct train *t, const struct t5_options *o, struct t5 *indexer, struct err *e)
{
    struct need model = {.be = t->be}, work = {.be = t->be}, gone = {.be = t->be};
    int32_t longest = longest_input(t), rows = VALIDATION_ROWS * BEAM_WIDTH, positions = t->layout.positions;
    const struct t5_limits l = {.encoder_tokens = VALIDATION_ROWS * longest, .decoder_tokens = VALIDATION_ROWS, .rows = VALIDATION_ROWS,
                                .beam_rows = rows, .positions = t->layout.positions};
    need_model(&model, o);
    trainer_need(&work, &o->config, positions ? positions : TRAIN_TEXT_TARGETS, trainer_rows(t->o.batch, t->o.micro_batch), longest);
    if (positions == 0)
        trainer_text_need(&work, &o->config, TRAIN_TEXT_TARGETS, longest);
    else { /* validated by a beam */
        need_work(&work, &o->config, &l);
        need_beam(&work, &o->config, positions, VALIDATION_ROWS, rows);
        need_tries(&work, positions, t->ids.count);
    }
    if (indexer != NULL)
        gone.bytes = (size_t)t5_size(indexer) * (sizeof(float) + t->be->act_bytes);
    model.bytes += work.bytes > gone.bytes ? work.bytes - gone.bytes : 0;
    return need_check(&model, "training", e);
}

static int init_model(struct train *t, const struct t5_config *config, struct t5 *indexer, struct err *e)
{
    const struct t5_options o = {.config = *config, .train = true};
    if (check_memory(t, &o, indexer, e) != 0)
        return -1;
    t->model = t5_init(t->be, &o, e);
    if (t->model == NULL)
        return -1;
    t5_randomise(t->model, t->o.seed);
    return 0;
}

/* The codes of each learned position: the indexer's or the quantiser's; none where the IDs came from elsewhere. */
static int learned_layout(struct train *t, struct code_layout *learned, struct err *e)
{
    if (model_file_has(t->bundle, "indexer"))
        return model_file_layout(t->bundle, "indexer", learned, e);
    struct quantiser *q = quantiser_in(t->bundle) ? quantiser_read(t->bundle, e) : NULL;
    if (q == NULL)
        return quantiser_in(t->bundle) ? -1 : 0;
    learned->positions = q->positions;
    for (int32_t p = 0; p < q->positions; p++)
        learned->codes[p] = q->codes;
    quantiser_free(q);
    return 0;
}

/* The model whose weights are the start. */
static struct t5 *read_start(struct train *t, struct err *e)
{
    bool base = t->o.start == START_BASE;
    const char *part = base ? "base" : "indexer";
    if (!base && !model_file_has(t->bundle, part)) {
        err_set(e, ERR_CONFLICT, "%s: the bundle has no indexer to start from; run learn-ids first", t->o.model);
        return NULL;
    }
    return model_file_read(base ? t->base : t->bundle, part, t->be, false, NULL, 0, NULL, NULL, e);
}

/* From the indexer's weights, or the base's: there the rows of all codes are drawn at random. */
static int model_from_weights(struct train *t, struct err *e)
{
    struct code_layout learned = {0};
    struct t5 *from = read_start(t, e);
    int rc = from == NULL || learned_layout(t, &learned, e) != 0 ? -1 : 0;
    if (rc == 0) {
        struct t5_config config = *t5_config_of(from);
        lay_out(t, config.vocab, &learned);
        config.codes = code_layout_total(&t->layout);
        config.dropout = (float)t->o.dropout;
        if (t->o.start == START_INDEXER && !lies_alike(t, &learned))
            rc = err_set(e, ERR_DATA, "%s: ids.tsv holds codes that its indexer does not have", t->o.model);
        if (rc == 0)
            rc = init_model(t, &config, from, e);
    }
    if (rc == 0)
        t5_copy_weights(t->model, from);
    t5_free(from);
    return rc;
}

/* Root mean square of n numbers. */
static float spread(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return n > 0 ? (float)sqrt(sum / (double)n) : 0;
}

/* [from, to]: the identity for equal widths, else random, which keeps angles about as they are. */
static float *projection(const struct train *t, int32_t from, int32_t to)
{
    float *p = xcalloc((size_t)from * (size_t)to, sizeof *p);
    for (int32_t k = 0; k < from; k++)
        for (int32_t j = 0; j < to; j++)
            p[k * to + j] = from == to ? (float)(j == k) : mix_uniform(t->o.seed, (uint64_t)k * (uint64_t)to + (uint64_t)j) - 0.5f;
    return p;
}

/* The learned codes' rows start as the indexer's, brought to the model's width and to the spread of a random start. */
static void start_rows(struct train *t, const float *rows, int32_t count, int32_t width)
{
    int32_t d = t->o.shape.d_model;
    size_t cells = (size_t)count * (size_t)d;
    float *start = xcalloc(cells, sizeof *start), *p = projection(t, width, d);
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < width; k++)
            for (int32_t j = 0; j < d; j++)
                start[(size_t)i * (size_t)d + (size_t)j] += p[k * d + j] * rows[(size_t)i * (size_t)width + (size_t)k];
    float rms = spread(start, cells);
    for (size_t i = 0; i < cells && rms > 0; i++)
        start[i] /= rms;
    if (rms > 0)
        t5_set_code_rows(t->model, 0, count, start);
    free(start);
    free(p);
}

static void start_from_indexer(struct train *t, struct t5 *indexer, const struct code_layout *learned)
{
    const struct t5_tensor *shared = t5_tensor_find(indexer, "shared.weight");
    int32_t count = code_layout_total(learned);
    size_t cells = (size_t)count * (size_t)shared->cols;
    float *rows = xcalloc(cells, sizeof *rows);
    t->be->read(rows, t5_master(indexer) + shared->offset + (int64_t)learned->base * shared->cols, cells * sizeof *rows);
    start_rows(t, rows, count, shared->cols);
    free(rows);
}

/* The options' shape; what they leave open is, for a model that reads text, the indexer's where there is one, else what learn-ids would take; for one
 * of IDs alone it is small. */
static struct t5_config random_config(struct train *t, const struct t5 *indexer)
{
    static const struct t5_shape ids = {64, 256, 16, 4, 2, 2};
    const struct t5_shape *usual = t->tokenizer == NULL ? &ids : &t5_shape_text;
    struct t5_config c = t5_shape_config(usual, t->tokenizer == NULL ? 2 : tokenizer_size(t->tokenizer), false);
    if (t->tokenizer != NULL && indexer != NULL)
        c = *t5_config_of(indexer);
    struct t5_shape open = t5_shape_of(&c);
    if (t->o.shape.d_model > 0)
        open.d_ff = 4 * t->o.shape.d_model;
    t5_shape_fill(&t->o.shape, &open);
    t5_shape_put(&c, &t->o.shape);
    c.dropout = (float)t->o.dropout;
    return c;
}

static int model_random(struct train *t, struct err *e)
{
    struct code_layout learned = {0};
    struct t5 *indexer = NULL;
    if (model_file_has(t->bundle, "indexer")) {
        indexer = model_file_read(t->bundle, "indexer", t->be, false, NULL, 0, &learned, NULL, e);
        if (indexer == NULL)
            return -1;
    }
    if (indexer == NULL && learned_layout(t, &learned, e) != 0)
        return -1;
    struct t5_config config = random_config(t, indexer);
    lay_out(t, config.vocab, &learned);
    config.codes = code_layout_total(&t->layout);
    int rc = init_model(t, &config, indexer, e);
    if (rc == 0 && t->tokenizer == NULL && indexer != NULL && lies_alike(t, &learned))
        start_from_indexer(t, indexer, &learned);
    t5_free(indexer);
    return rc;
}

/* A random start of a model that writes text has the indexer's shape, where there is one. */
int train_text_model(struct train *t, struct err *e)
{
    bool random = t->o.start == START_RANDOM;
    struct t5 *from = !random ? read_start(t, e)
                      : model_file_has(t->bundle, "indexer") ? model_file_read(t->bundle, "indexer", t->be, false, NULL, 0, NULL, NULL, e)
                                                             : NULL;
    if (from == NULL && (!random || model_file_has(t->bundle, "indexer")))
        return -1;
    struct t5_config config = random ? random_config(t, from) : *t5_config_of(from);
    config.codes = 0;
    config.dropout = (float)t->o.dropout;
    int rc = init_model(t, &config, from, e);
    if (rc == 0 && !random)
        t5_copy_weights(t->model, from);
    t5_free(from);
    return rc;
}

int train_model(struct train *t, struct err *e)
{
    return t->o.start == START_RANDOM ? model_random(t, e) : model_from_weights(t, e);
}

/* ---- validation ---- */

static bool is_left_out(const struct validation *v, int32_t i, int32_t row)
{
    const int32_t *list = v->left_out ? v->left_out[i] : NULL;
    while (list && *list >= 0)
        if (*list++ == row)
            return true;
    return false;
}

/* nDCG@10 of one target: 1 / log2(rank + 1). */
static double gain_in_ten(const struct validation *v, int32_t i, const struct beam_hit *hits, int32_t count)
{
    int32_t rank = 0;
    for (int32_t k = 0; k < count && rank < 10; k++) {
        if (is_left_out(v, i, (int32_t)hits[k].document))
            continue;
        if ((int32_t)hits[k].document == v->target[i])
            return 1 / log2(rank + 2);
        rank++;
    }
    return 0;
}

/* Searches for question after question; each is told with its hits. */
struct validating {
    int (*found)(void *state, int32_t i, const struct beam_hit *hits, int32_t count, struct err *e);
    void *state;
};

static int search_all(struct train *t, const struct validation *v, const struct validating *tell, struct err *e)
{
    struct ranker_limits limits = {.rows = VALIDATION_ROWS, .tokens = VALIDATION_ROWS * v->longest, .width = BEAM_WIDTH};
    struct ranker *ranker = ranker_init(t->model, &t->layout, t->trie, &limits, e);
    int32_t offsets[VALIDATION_ROWS + 1];
    int rc = ranker == NULL ? -1 : 0;
    for (int32_t from = 0; rc == 0 && from < v->count; from += VALIDATION_ROWS) {
        int32_t n = v->count - from < VALIDATION_ROWS ? v->count - from : VALIDATION_ROWS;
        for (int32_t i = 0; i <= n; i++)
            offsets[i] = v->offsets[from + i] - v->offsets[from];
        const struct beam *beam = ranker_run(ranker, &(struct t5_batch){n, v->tokens + v->offsets[from], offsets});
        for (int32_t i = 0; rc == 0 && i < n; i++) {
            int32_t count;
            const struct beam_hit *hits = beam_hits(beam, i, &count);
            rc = tell->found(tell->state, from + i, hits, count, e);
        }
    }
    ranker_free(ranker);
    return rc;
}

struct gain {
    const struct validation *v;
    double sum;
};

static int add_gain(void *state, int32_t i, const struct beam_hit *hits, int32_t count, struct err *e)
{
    struct gain *g = state;
    (void)e;
    g->sum += gain_in_ten(g->v, i, hits, count);
    return 0;
}

int validation_gain(struct train *t, const struct validation *v, double *mean, struct err *e)
{
    struct gain g = {.v = v};
    if (search_all(t, v, &(struct validating){add_gain, &g}, e) != 0)
        return -1;
    *mean = v->count > 0 ? g.sum / v->count : 0;
    return 0;
}

struct weighing {
    const struct validation *v;
    const struct validation_other *other;
    struct fuse_choice choice;
};

static int add_choice(void *state, int32_t i, const struct beam_hit *hits, int32_t count, struct err *e)
{
    struct weighing *w = state;
    int64_t mine[BEAM_WIDTH], others[VALIDATION_DEPTH];
    double p[BEAM_WIDTH], scores[VALIDATION_DEPTH];
    int32_t n = 0;
    for (int32_t k = 0; k < count && k < BEAM_WIDTH; k++)
        if (!is_left_out(w->v, i, (int32_t)hits[k].document)) {
            p[n] = exp(hits[k].score);
            mine[n++] = hits[k].document;
        }
    int32_t m = w->other->rank(w->other->state, i, others, scores, VALIDATION_DEPTH, e);
    if (m < 0)
        return -1;
    const struct fuse_list lists[] = {{mine, n, 1, w->other->scored ? p : NULL}, {others, m, 1, w->other->scored ? scores : NULL}};
    fuse_choice_add(&w->choice, lists, w->v->target[i]);
    return 0;
}

int validation_weight(struct train *t, const struct validation *v, const struct validation_other *other, double *weight, struct err *e)
{
    struct weighing w = {.v = v, .other = other};
    if (search_all(t, v, &(struct validating){add_choice, &w}, e) != 0)
        return -1;
    int32_t best = fuse_choice_best(&w.choice, other->scored ? 0 : FUSE_RANK_LEAST);
    double n = (double)(w.choice.questions > 0 ? w.choice.questions : 1);
    *weight = w.choice.questions > 0 ? fuse_weights[best] : 1;
    run_note(t->run, "hybrid: beam weight %g beside %s, chosen on %lld questions: nDCG@10 beam %.4f, %s %.4f, both %.4f", *weight, other->name,
             (long long)w.choice.questions, w.choice.alone[0] / n, other->name, w.choice.alone[1] / n, w.choice.gain[best] / n);
    return 0;
}

void validation_free(struct validation *v)
{
    for (int32_t i = 0; v->left_out && i < v->count; i++)
        free(v->left_out[i]);
    free(v->left_out);
    free(v->tokens);
    free(v->offsets);
    free(v->target);
    *v = (struct validation){0};
}
