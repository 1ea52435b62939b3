/* evaluate_cold.c: `evaluate --cold-start`: are documents found that came after training?
 *
 * The documents of the data that have no ID in the bundle (learn-ids --hold-out left them out of everything) are indexed by the engine, the very
 * one that the daemon serves, over a temporary catalogue: engine_index gives them codes from the frozen indexer, suffixes and places, engine_run
 * ranks. So what is measured is what a client of the daemon gets. Two tables for each task: of a judged query only the relevant documents of one
 * group count (recall of a query = those of the group among the first k of the whole ranking, of all of the group), queries without any in the
 * group are left out of that group's means; a history belongs to the group of its last item. "before" are the learned documents' figures while
 * the others were not there yet: what the newcomers cost them. */
#include "evaluate_internal.h"

#include "data/embeddings.h"
#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 128, PUTS = 256, EXCLUDED_MOST = 512 };
enum group { LEARNED, LEFT_OUT, GROUPS };

struct cold {
    struct evaluate *v;
    struct engine *engine;
    struct embeddings embeddings; /* {0}: the indexer reads texts */
    char *folder;
    enum engine_task task;
    struct evaluate_table *table[GROUPS];
    int32_t *judgement; /* search: [queries + 1] first judgement of each query */
    int32_t left_out;
    struct arena arena; /* of the queries at hand */
};

/* ---- the catalogue ---- */

static int open_engine(struct cold *c, struct err *e)
{
    const struct evaluate_options *o = &c->v->o;
    c->folder = file_temporary_folder("semindex-evaluate", e);
    if (c->folder == NULL)
        return -1;
    char *catalog = path_join(c->folder, "catalog.sqlite");
    const struct engine_options options = {.model = o->model, .catalog = catalog, .device = o->device, .threads = o->threads,
                                           .max_beam = o->beam + EXCLUDED_MOST, .max_query_tokens = 512, .max_document_tokens = 4096,
                                           .max_history = 1000, .batch_tokens = 4096, .batch_rows = 64};
    c->engine = engine_open(&options, c->v->run, e);
    free(catalog);
    return c->engine == NULL ? -1 : 0;
}

static bool has_words(const struct document *d)
{
    struct str text = {0};
    bool words = false;
    document_text(d, &text);
    for (size_t i = 0; i < text.size && !words; i++)
        words = (unsigned char)text.data[i] > ' ';
    str_free(&text);
    return words;
}

static int read_embeddings(struct cold *c, struct err *e)
{
    const struct evaluate_options *o = &c->v->o;
    const struct corpus *corpus = &c->v->corpus;
    const struct embeddings_order order = {.path = o->embeddings, .ids_path = o->embedding_ids, .documents = corpus->documents,
                                           .corpus = corpus->count, .used = corpus->count};
    if (o->embeddings == NULL)
        return 0;
    return embeddings_read(&c->embeddings, o->embeddings, NULL, e) != 0 || embeddings_order(&c->embeddings, &order, e) != 0 ? -1 : 0;
}

static struct engine_put put_of(const struct cold *c, int32_t document)
{
    struct engine_put put = {.document = c->v->corpus.documents[document]};
    if (c->embeddings.values != NULL) {
        put.embedding = c->embeddings.values + (int64_t)document * c->embeddings.width;
        put.embedding_size = c->embeddings.width;
    }
    return put;
}

static int index_some(struct cold *c, struct engine_put *puts, int32_t n, struct err *e)
{
    struct engine_put_batch b = {.puts = puts, .count = n, .arena = &c->arena};
    int rc = engine_index(c->engine, &b, e);
    arena_reset(&c->arena);
    return rc;
}

static int index_left_out(struct cold *c, struct err *e)
{
    struct engine_put puts[PUTS];
    int32_t n = 0, done = 0, wordless = 0;
    for (int32_t i = 0; i < c->v->corpus.count; i++) {
        if (c->v->row[i] >= 0)
            continue;
        if (has_words(&c->v->corpus.documents[i]))
            puts[n++] = put_of(c, i);
        else
            wordless++;
        done++;
        if (n < PUTS && done < c->left_out)
            continue;
        if (index_some(c, puts, n, e) != 0)
            return -1;
        n = 0;
        run_report(c->v->run, "indexing", done, c->left_out, "documents", NAN);
        if (run_stopping(c->v->run))
            return err_set(e, ERR_INTERRUPTED, "stopped after %d of %d documents were indexed", done, c->left_out);
    }
    run_note(c->v->run, "cold start: %d documents learned, %d indexed afterwards, %d without words", c->v->corpus.count - c->left_out,
             c->left_out - wordless, wordless);
    return 0;
}

/* ---- queries ---- */

static int32_t question_count(const struct cold *c)
{
    const struct corpus *corpus = &c->v->corpus;
    int32_t all = c->task == TASK_SEARCH ? corpus->test.count : corpus->users, most = c->v->o.queries;
    return most > 0 && most < all ? most : all;
}

/* Question i as a query in the arena; false where there is nothing to ask. */
static bool ask(struct cold *c, int32_t i, enum engine_mode mode, struct engine_query *q)
{
    const struct corpus *corpus = &c->v->corpus;
    int32_t beam = c->v->o.beam, length;
    *q = (struct engine_query){.task = c->task, .mode = mode, .limit = beam, .beam_width = beam, .exclude_history = true, .arena = &c->arena};
    if (c->task == TASK_SEARCH) {
        q->text = corpus->test.query[i].text;
        return true;
    }
    const int32_t *items = corpus_sequence(corpus, i, &length);
    if (length < 2)
        return false;
    struct engine_past *past = arena_alloc(&c->arena, (size_t)length * sizeof *past);
    for (int32_t k = 0; k + 1 < length; k++)
        past[k].id = corpus->documents[items[k]].id;
    q->history = past;
    q->history_count = length - 1;
    return true;
}

/* What is relevant for question i in a group; into document and grade, which have room for all judgements of a query. */
static int32_t relevant_of(const struct cold *c, int32_t i, enum group group, int32_t *document, int32_t *grade)
{
    const struct corpus *corpus = &c->v->corpus;
    int32_t n = 0, length;
    if (c->task == TASK_RECOMMEND) {
        const int32_t *items = corpus_sequence(corpus, i, &length);
        document[0] = items[length - 1];
        grade[0] = 1;
        return (c->v->row[document[0]] < 0) == (group == LEFT_OUT);
    }
    for (int32_t k = c->judgement[i]; k < c->judgement[i + 1]; k++) {
        const struct corpus_judgement *j = &corpus->test.judgement[k];
        if (j->grade < 1 || (c->v->row[j->document] < 0) != (group == LEFT_OUT))
            continue;
        document[n] = j->document;
        grade[n++] = j->grade;
    }
    return n;
}

static void judge(struct cold *c, int32_t i, const struct engine_query *q, struct evaluate_row *const row[GROUPS])
{
    const struct corpus *corpus = &c->v->corpus;
    size_t room = c->task == TASK_SEARCH ? (size_t)(c->judgement[i + 1] - c->judgement[i]) : 1;
    int32_t *document = arena_alloc(&c->arena, (room + 1) * sizeof *document), *grade = arena_alloc(&c->arena, (room + 1) * sizeof *grade);
    struct metrics_hit *hits = arena_alloc(&c->arena, ((size_t)q->hit_count + 1) * sizeof *hits);
    for (int group = 0; group < GROUPS; group++) {
        const struct evaluate_truth truth = {document, grade, relevant_of(c, i, group, document, grade)};
        if (row[group] == NULL || truth.count == 0)
            continue;
        for (int32_t k = 0; k < q->hit_count; k++) {
            const char *id = q->hits[k].id;
            hits[k] = (struct metrics_hit){id, -k, evaluate_grade(&truth, string_map_get(corpus->by_id, id, strlen(id)))};
        }
        evaluate_row_hits(row[group], hits, q->hit_count, &truth);
    }
}

static int answer_some(struct cold *c, int32_t from, int32_t n, enum engine_mode mode, struct evaluate_row *const row[GROUPS], struct err *e)
{
    struct engine_query query[AT_ONCE], *list[AT_ONCE];
    int32_t question[AT_ONCE], asked = 0;
    for (int32_t i = from; i < from + n; i++) {
        if (!ask(c, i, mode, &query[asked]))
            continue;
        if (engine_prepare(c->engine, &query[asked], e) != 0)
            return -1;
        list[asked] = &query[asked];
        question[asked++] = i;
    }
    engine_run(c->engine, list, asked);
    for (int32_t i = 0; i < asked; i++) {
        if (query[i].err.code != ERR_NONE) {
            *e = query[i].err;
            return -1;
        }
        judge(c, question[i], &query[i], row);
    }
    arena_reset(&c->arena);
    return 0;
}

/* One ranking of all questions into a row of each table; learned_only: the left-out documents are not there yet. */
static int answer_all(struct cold *c, const char *name, enum engine_mode mode, bool learned_only, struct err *e)
{
    int32_t all = question_count(c);
    struct evaluate_row *row[GROUPS] = {evaluate_row_add(c->table[LEARNED], name, c->v->o.beam), NULL};
    if (!learned_only)
        row[LEFT_OUT] = evaluate_row_add(c->table[LEFT_OUT], name, c->v->o.beam);
    for (int32_t from = 0; from < all; from += AT_ONCE) {
        int32_t n = all - from < AT_ONCE ? all - from : AT_ONCE;
        if (answer_some(c, from, n, mode, row, e) != 0)
            return -1;
        run_report(c->v->run, name, from + n, all, c->task == TASK_SEARCH ? "queries" : "histories", NAN);
        if (run_stopping(c->v->run))
            return err_set(e, ERR_INTERRUPTED, "stopped after %d of %d questions", from + n, all);
    }
    return 0;
}

/* ---- a task ---- */

static int before(struct cold *c, struct err *e)
{
    const char *task = c->task == TASK_SEARCH ? "search" : "recommend";
    c->table[LEARNED] = evaluate_table_add(c->v, task, "learned documents alone, among all");
    c->table[LEFT_OUT] = evaluate_table_add(c->v, task, "documents indexed after training alone, among all");
    if (answer_all(c, "generative, before", MODE_GENERATIVE, true, e) != 0)
        return -1;
    return c->task == TASK_SEARCH ? answer_all(c, "hybrid, before", MODE_HYBRID, true, e) : 0;
}

static int after(struct cold *c, struct err *e)
{
    if (answer_all(c, "generative", MODE_GENERATIVE, false, e) != 0 || answer_all(c, "hybrid", MODE_HYBRID, false, e) != 0)
        return -1;
    return c->task == TASK_SEARCH ? answer_all(c, "bm25", MODE_LEXICAL, false, e) : 0;
}

static double recall_at_10(const struct evaluate_row *r)
{
    return r->queries > 0 ? r->sum[2] / (double)r->queries : NAN;
}

/* Recall@10 of left-out documents over that of learned ones, for each ranking that both tables have. */
static void ratios(struct cold *c)
{
    for (int32_t i = 0; i < c->table[LEFT_OUT]->rows; i++)
        for (int32_t k = 0; k < c->table[LEARNED]->rows; k++) {
            const struct evaluate_row *out = &c->table[LEFT_OUT]->row[i], *in = &c->table[LEARNED]->row[k];
            if (!strcmp(out->name, in->name) && recall_at_10(in) > 0 && out->queries > 0)
                evaluate_fact_add(&c->v->facts, recall_at_10(out) / recall_at_10(in), "%s_cold_start_ratio_%s", c->table[LEARNED]->task,
                                  out->name);
        }
}

static int run_tasks(struct cold *c, const bool wanted[2], struct err *e)
{
    struct cold each[2] = {*c, *c};
    int rc = 0;
    for (int t = 0; t < 2 && rc == 0; t++) {
        each[t].task = t == 0 ? TASK_SEARCH : TASK_RECOMMEND;
        arena_init(&each[t].arena, 0);
        rc = wanted[t] ? before(&each[t], e) : 0;
    }
    if (rc == 0)
        rc = index_left_out(c, e);
    for (int t = 0; t < 2; t++) {
        if (rc == 0 && wanted[t] && (rc = after(&each[t], e)) == 0)
            ratios(&each[t]);
        arena_free(&each[t].arena);
    }
    return rc;
}

static int check_data(const struct evaluate *v, const bool wanted[2], int32_t left_out, struct err *e)
{
    if (left_out == 0)
        return err_set(e, ERR_DATA, "%s: every document has an ID in %s: none is left to be indexed afterwards (learn-ids --hold-out)", v->o.data,
                       v->o.model);
    if (wanted[0] || wanted[1])
        return 0;
    return err_set(e, ERR_CONFLICT, "%s has no part for the judged queries or histories of %s", v->o.model, v->o.data);
}

int evaluate_cold(struct evaluate *v, struct err *e)
{
    struct cold c = {.v = v};
    const char *only = v->o.task;
    const bool wanted[2] = {bundle_file(v->bundle, "search.safetensors") && v->corpus.test.judgements > 0 && (!only || !strcmp(only, "search")),
                            bundle_file(v->bundle, "recommend.safetensors") && v->corpus.users > 0 && (!only || !strcmp(only, "recommend"))};
    for (int32_t i = 0; i < v->corpus.count; i++)
        c.left_out += v->row[i] < 0;
    if (check_data(v, wanted, c.left_out, e) != 0)
        return -1;
    arena_init(&c.arena, 0);
    c.judgement = corpus_judgements(&v->corpus.test);
    int rc = read_embeddings(&c, e);
    if (rc == 0)
        rc = open_engine(&c, e);
    if (rc == 0)
        rc = run_tasks(&c, wanted, e);
    engine_close(c.engine);
    embeddings_free(&c.embeddings);
    if (c.folder != NULL)
        (void)file_remove_tree(c.folder, NULL);
    arena_free(&c.arena);
    free(c.folder);
    free(c.judgement);
    return rc;
}
