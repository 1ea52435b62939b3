/* engine_open.c: a bundle becomes a running engine: parts, catalogue, first generation; and back.
 *
 * The bundle has been checked against its SHA-256 manifest before any parser sees a file. All parts must speak of the same IDs: equal positions
 * and codes, or the bundle is refused by name. Work spaces are sized once, from the limits; from then on a query allocates only in its own
 * arena. Order of closing: catalogue first (its writer publishes), then generations, then the device and what it works with. */
#include "engine_fill.h"
#include "engine_index.h"
#include "base/file.h"
#include "model/model_file.h"
#include "model/model_settings.h"

#include <stdlib.h>
#include <string.h>

enum { INT_MOST = 1 << 30 };

static const char *const part_name[ENGINE_TASKS] = {"search", "recommend"};

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t most(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* What a part was trained to read, within what the operator allows. */
static int32_t within(int32_t said, int32_t allowed)
{
    return said ? least(said, allowed) : allowed;
}

/* ---- task models ---- */

static int open_task_work(struct engine *g, struct task_model *t, struct err *e)
{
    const struct engine_options *o = &g->options;
    int32_t tokens = most(o->batch_tokens, t->max_tokens);
    t->beam_rows = most(o->max_beam, o->batch_rows * ENGINE_BEAMS_PER_ROW);
    const struct searcher_limits l = {.tokens = tokens, .longest = t->max_tokens,
                                      .beam = {.requests = o->batch_rows, .width = o->max_beam, .rows = t->beam_rows},
                                      .recordings = (size_t)o->recordings_mib << 20};
    t->tokens = xcalloc((size_t)tokens, sizeof *t->tokens);
    t->offsets = xcalloc((size_t)o->batch_rows + 1, sizeof *t->offsets);
    t->searcher = searcher_init(t->model, &t->layout, &l, e);
    return t->searcher ? 0 : -1;
}

static int open_task(struct engine *g, enum engine_task task, struct err *e)
{
    struct task_model *t = &g->task[task];
    struct model_settings s;
    char *settings = NULL;
    if (!model_file_has(g->bundle, part_name[task]))
        return 0;
    t->model = model_file_read(g->bundle, part_name[task], g->be, false, NULL, 0, &t->layout, &settings, e);
    if (!t->model)
        return -1;
    model_settings_read(&s, settings);
    free(settings);
    t->from_indexer = s.from_indexer;
    t->beam_weight = s.beam_weight;
    t->history = (struct history_rule){.text = s.texts, .max_items = within(s.max_history, g->options.max_history)};
    if (task == TASK_SEARCH)
        t->max_tokens = within(s.max_tokens, g->options.max_query_tokens);
    else if (s.texts)
        t->max_tokens = within(s.max_tokens, g->options.max_document_tokens);
    else
        t->max_tokens = t->history.max_items * t->layout.positions + 1;
    t->history.max_tokens = t->max_tokens;
    g->model_bytes += t5_size(t->model) * (int64_t)sizeof(float);
    return open_task_work(g, t, e);
}

/* ---- indexer ---- */

static int open_indexer_work(struct indexer *x, int32_t learned, int32_t codes, struct err *e)
{
    size_t rows = (size_t)x->rows;
    const struct lm_limits l = {.documents = x->rows, .rows = x->rows, .tokens = x->tokens, .text_tokens = x->tokens, .positions = learned,
                                .codes = codes};
    x->batch_tokens = xcalloc((size_t)x->tokens, sizeof *x->batch_tokens);
    x->batch_offsets = xcalloc(rows + 1, sizeof *x->batch_offsets);
    x->prefix = xcalloc(rows * (size_t)learned, sizeof *x->prefix);
    x->assigned = xcalloc(rows, sizeof *x->assigned);
    x->hidden = xcalloc(rows * (size_t)t5_config_of(x->model)->d_model, sizeof *x->hidden);
    x->work = lm_work_init(x->model, &l, e);
    return x->work ? 0 : -1;
}

static int open_indexer(struct engine *g, struct code_layout *layout, struct err *e)
{
    struct indexer *x = &g->indexer;
    struct t5_config c;
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    struct model_settings s;
    char *settings = NULL;
    if (!model_file_has(g->bundle, "indexer"))
        return engine_open_quantiser(g, layout, e);
    if (model_file_config(g->bundle, "indexer", &c, e) < 0 || model_file_layout(g->bundle, "indexer", layout, e) < 0)
        return -1;
    for (int32_t t = 1; t < layout->positions; t++)
        if (layout->codes[t] != layout->codes[0])
            return err_set(e, ERR_DATA, "%s: indexer: position %d has %d codes, position 1 has %d; they must be equal",
                           bundle_folder(g->bundle), t + 1, layout->codes[t], layout->codes[0]);
    int32_t extras = lmindexer_extras(&c, layout->positions, layout->codes[0], extra);
    x->model = model_file_read(g->bundle, "indexer", g->be, false, extra, extras, layout, &settings, e);
    if (!x->model)
        return -1;
    model_settings_read(&s, settings);
    free(settings);
    x->vector_size = t5_config_of(x->model)->d_model;
    x->max_tokens = within(s.max_tokens, g->options.max_document_tokens);
    x->tokens = most(g->options.batch_tokens, x->max_tokens);
    x->rows = least(ENGINE_ENCODE_ROWS, x->tokens);
    g->model_bytes += t5_size(x->model) * (int64_t)sizeof(float);
    return open_indexer_work(x, layout->positions, layout->codes[0], e);
}

/* ---- the IDs that all parts share ---- */

static int same_codes(const struct engine *g, const char *part, const struct code_layout *l, int32_t positions, struct err *e)
{
    if (l->positions != positions)
        return err_set(e, ERR_DATA, "%s: %s: IDs of %d positions; the other parts have %d", bundle_folder(g->bundle), part, l->positions, positions);
    for (int32_t t = 0; t < positions; t++)
        if (l->codes[t] != g->layout.codes[t])
            return err_set(e, ERR_DATA, "%s: %s: position %d has %d codes; the other parts have %d", bundle_folder(g->bundle), part, t + 1,
                           l->codes[t], g->layout.codes[t]);
    return 0;
}

/* The task models say it whole; without any the indexer says all but the suffix, whose trained codes are then those of ids.tsv. */
static int agree_on_layout(struct engine *g, const struct code_layout *learned, struct err *e)
{
    const struct task_model *search = &g->task[TASK_SEARCH], *recommend = &g->task[TASK_RECOMMEND];
    if (search->model || recommend->model) {
        g->layout = search->model ? search->layout : recommend->layout;
    } else if (g->indexer.vector_size) {
        g->layout = *learned;
        g->layout.codes[g->layout.positions++] = INT_MOST;
    } else {
        return err_set(e, ERR_CONFLICT, "%s: nothing to serve: the bundle has neither an indexer nor a task model", bundle_folder(g->bundle));
    }
    g->layout.base = 0;
    if (g->layout.positions < 2 || g->layout.positions > CATALOG_CODES_MAX)
        return err_set(e, ERR_DATA, "%s: IDs of %d positions; 2 to %d can be served", bundle_folder(g->bundle), g->layout.positions,
                       CATALOG_CODES_MAX);
    for (int t = 0; t < ENGINE_TASKS; t++)
        if (g->task[t].model && same_codes(g, part_name[t], &g->task[t].layout, g->layout.positions, e) < 0)
            return -1;
    return g->indexer.vector_size ? same_codes(g, "indexer", learned, g->layout.positions - 1, e) : 0;
}

static int read_ids(struct engine *g, struct id_table *ids, struct err *e)
{
    const char *path = bundle_file(g->bundle, "ids.tsv");
    int32_t last = g->layout.positions - 1;
    if (path && id_table_read(ids, path, &g->layout, e) < 0)
        return -1;
    if (g->layout.codes[last] == INT_MOST) {
        g->layout.codes[last] = 1;
        for (int32_t i = 0; i < ids->count; i++)
            g->layout.codes[last] = most(g->layout.codes[last], (int32_t)ids->codes[i * ids->positions + last] + 1);
    }
    return 0;
}

/* ---- catalogue ---- */

static void on_commit(void *state, const struct catalog_commit *commit)
{
    struct engine *g = state;
    for (int64_t i = 0; i < commit->count && g->vectors; i++)
        if (commit->changes[i].kind != CHANGE_ADDED)
            engine_vectors_forget(g->vectors, commit->changes[i].number);
    publisher_commit(g->publisher, commit);
}

static int open_catalog(struct engine *g, const struct id_table *ids, const struct run *run, struct err *e)
{
    int32_t last = g->layout.positions - 1;
    g->placer = placer_open(g->be, g->device);
    const struct publisher_options p = {.positions = g->layout.positions, .trained_suffixes = (uint32_t)g->layout.codes[last],
                                        .placer = g->placer};
    const struct catalog_options o = {.path = g->options.catalog, .model_digest = g->id_digest, .learned = last, .on_commit = on_commit,
                                      .state = g};
    g->publisher = publisher_open(&p);
    g->catalog = catalog_open(&o, e);
    if (!g->catalog || engine_fill(g->catalog, g->bundle, ids, &g->layout, run, e) < 0)
        return -1;
    if (g->indexer.vector_size)
        g->vectors = engine_vectors_open(g->catalog, g->indexer.vector_size);
    return publisher_load(g->publisher, g->catalog, e);
}

/* ---- open, close ---- */

static int check_options(const struct engine_options *o, struct err *e)
{
    const struct {
        const char *name;
        int32_t value, most;
    } all[] = {{"max_beam", o->max_beam, 1 << 16}, {"max_query_tokens", o->max_query_tokens, 1 << 16},
               {"max_document_tokens", o->max_document_tokens, 1 << 16}, {"max_history", o->max_history, 1 << 16},
               {"batch_tokens", o->batch_tokens, 1 << 24}, {"batch_rows", o->batch_rows, 1 << 12}};
    if (o->recordings_mib < 0)
        return err_set(e, ERR_INVALID, "recordings_mib is %d, must be at least 0", o->recordings_mib);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].value < 1 || all[i].value > all[i].most)
            return err_set(e, ERR_INVALID, "%s is %d, must be 1 .. %d", all[i].name, all[i].value, all[i].most);
    return 0;
}

/* A piece beyond the text rows would be read as an ID code. */
static int check_vocabulary(const struct engine *g, const char *part, const struct t5 *m, struct err *e)
{
    int32_t pieces = g->tokenizer ? tokenizer_size(g->tokenizer) : 0;
    if (!m || pieces <= t5_config_of(m)->vocab)
        return 0;
    return err_set(e, ERR_DATA, "%s: tokenizer.model has %d pieces, the model of %s %d text rows", bundle_folder(g->bundle), pieces, part,
                   t5_config_of(m)->vocab);
}

static int check_vocabularies(const struct engine *g, struct err *e)
{
    const struct task_model *recommend = &g->task[TASK_RECOMMEND];
    if (check_vocabulary(g, "search", g->task[TASK_SEARCH].model, e) < 0 || check_vocabulary(g, "indexer", g->indexer.model, e) < 0)
        return -1;
    if (g->indexer.texts && g->tokenizer && tokenizer_size(g->tokenizer) > text_embedding_vocab(g->indexer.texts))
        return err_set(e, ERR_DATA, "%s: tokenizer.model has %d pieces, the T5 that embeds texts %d text rows", bundle_folder(g->bundle),
                       tokenizer_size(g->tokenizer), text_embedding_vocab(g->indexer.texts));
    return recommend->history.text ? check_vocabulary(g, "recommend", recommend->model, e) : 0;
}

static int open_parts(struct engine *g, struct code_layout *learned, struct err *e)
{
    const char *tokenizer = bundle_file(g->bundle, "tokenizer.model");
    bundle_id_digest(g->bundle, g->id_digest);
    bundle_digest(g->bundle, g->model_digest);
    if (tokenizer && !(g->tokenizer = tokenizer_open(tokenizer, e)))
        return -1;
    if (open_task(g, TASK_SEARCH, e) < 0 || open_task(g, TASK_RECOMMEND, e) < 0 || open_indexer(g, learned, e) < 0 || engine_neighbours_open(g, e) < 0)
        return -1;
    if (!g->tokenizer && engine_reads_texts(g))
        return err_set(e, ERR_DATA, "%s: an indexer, but no tokenizer.model", bundle_folder(g->bundle));
    return check_vocabularies(g, e) < 0 ? -1 : agree_on_layout(g, learned, e);
}

static int open_all(struct engine *g, const struct run *run, struct err *e)
{
    char message[512];
    const char *device = g->options.device;
    struct code_layout learned = {0};
    struct id_table ids = {0};
    run_report(run, "loading the model", 0, 0, "parts", 0);
    g->bundle = bundle_open(g->options.model, e);
    if (!g->bundle)
        return -1;
    g->be = backend_open(device, g->options.threads, message, sizeof message);
    if (!g->be)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", device, message);
    run_note_device(run, g->be->device, message);
    if (g->be->on_fault)
        g->be->on_fault(g->options.on_fault);
    if (engine_memory_check(g, e) < 0)
        return -1;
    if (open_parts(g, &learned, e) < 0 || !(g->device = device_open(e)))
        return -1;
    int rc = read_ids(g, &ids, e);
    if (rc == 0)
        rc = open_catalog(g, &ids, run, e);
    id_table_free(&ids);
    if (rc == 0)
        engine_warm(g, run);
    return rc;
}

struct engine *engine_open(const struct engine_options *o, const struct run *run, struct err *e)
{
    if (check_options(o, e) < 0)
        return NULL;
    struct engine *g = xcalloc(1, sizeof *g);
    g->options = *o;
    g->options.model = g->names[0] = xstrdup(o->model);
    g->options.catalog = g->names[1] = xstrdup(o->catalog);
    g->options.device = g->names[2] = xstrdup(o->device ? o->device : "auto");
    if (open_all(g, run, e) == 0)
        return g;
    engine_close(g);
    return NULL;
}

static void close_task(struct task_model *t)
{
    searcher_free(t->searcher);
    t5_free(t->model);
    free(t->tokens);
    free(t->offsets);
}

static void close_indexer(struct indexer *x)
{
    lm_work_free(x->work);
    t5_free(x->model);
    quantiser_free(x->quantiser);
    text_embedding_close(x->texts);
    free(x->found);
    free(x->batch_tokens);
    free(x->batch_offsets);
    free(x->prefix);
    free(x->assigned);
    free(x->hidden);
}

void engine_close(struct engine *g)
{
    if (!g)
        return;
    catalog_close(g->catalog);
    publisher_close(g->publisher);
    placer_close(g->placer);
    device_close(g->device);
    engine_vectors_close(g->vectors);
    engine_neighbours_close(g);
    for (int t = 0; t < ENGINE_TASKS; t++)
        close_task(&g->task[t]);
    close_indexer(&g->indexer);
    tokenizer_close(g->tokenizer);
    bundle_close(g->bundle);
    for (int i = 0; i < 3; i++)
        free(g->names[i]);
    free(g);
}
