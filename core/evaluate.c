/* evaluate.c: `semindex evaluate`: rankings of held-out queries and histories, each beside what any program could do without learning.
 *
 * The tasks fill tables of sums (evaluate_search.c, evaluate_recommend.c) and single figures (evaluate_ids.c); this file opens what they
 * need and keeps the tables; evaluate_print.c averages and prints. Values of single queries are kept only when intervals or a comparison were
 * asked for: 12 doubles a query and ranking. Lists are judged as trec_eval does: scores as 32-bit floats, ties by name. Everything random is
 * drawn from the seed. */
#include "evaluate_internal.h"

#include <stdlib.h>
#include <string.h>

const struct metrics_metric evaluate_columns[EVALUATE_COLUMNS] = {
    {METRICS_RECALL, 1}, {METRICS_RECALL, 5}, {METRICS_RECALL, 10}, {METRICS_RECALL, 20}, {METRICS_RECALL, 100}, {METRICS_NDCG, 5},
    {METRICS_NDCG, 10},  {METRICS_NDCG, 20},  {METRICS_MRR, 10},    {METRICS_HIT, 10},    {METRICS_NDCG_RETRIEVED, 5},
    {METRICS_NDCG_RETRIEVED, 10}};

/* ---- tables ---- */

struct evaluate_table *evaluate_table_add(struct evaluate *v, const char *task, const char *title)
{
    CHECK(v->table_count < (int32_t)(sizeof v->tables / sizeof *v->tables));
    struct evaluate_table *t = &v->tables[v->table_count++];
    *t = (struct evaluate_table){.task = task, .title = title, .keeps = v->o.intervals || v->o.compare != NULL};
    return t;
}

struct evaluate_row *evaluate_row_add(struct evaluate_table *t, const char *name, int32_t reach)
{
    CHECK(t->rows < EVALUATE_ROWS);
    struct evaluate_row *r = &t->row[t->rows++];
    *r = (struct evaluate_row){.name = name, .reach = reach, .keeps = t->keeps};
    return r;
}

static void add_query(struct evaluate_row *r, const struct metrics_query *q)
{
    if (r->keeps && r->queries == r->room) {
        r->room = r->room * 2 + 1024;
        r->values = xrealloc(r->values, (size_t)r->room * EVALUATE_COLUMNS, sizeof *r->values);
    }
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++) {
        double value = metrics_value(&evaluate_columns[i], q);
        r->sum[i] += value;
        if (r->keeps)
            r->values[r->queries * EVALUATE_COLUMNS + i] = value;
    }
    r->queries++;
}

int32_t evaluate_grade(const struct evaluate_truth *truth, int32_t document)
{
    int32_t low = 0, high = truth->count;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (truth->document[middle] < document)
            low = middle + 1;
        else
            high = middle;
    }
    return low < truth->count && truth->document[low] == document ? truth->grade[low] : 0;
}

void evaluate_row_hits(struct evaluate_row *r, const struct metrics_hit *hits, int32_t count, const struct evaluate_truth *truth)
{
    int32_t *grades = xcalloc((size_t)count + 1, sizeof *grades);
    for (int32_t i = 0; i < count; i++)
        grades[i] = hits[i].grade;
    add_query(r, &(struct metrics_query){grades, count, truth->grade, truth->count});
    free(grades);
}

void evaluate_row_list(struct evaluate_row *r, const struct evaluate_list *list, const struct evaluate_truth *truth)
{
    struct metrics_hit *hits = xcalloc((size_t)list->count + 1, sizeof *hits);
    for (int32_t i = 0; i < list->count; i++)
        hits[i] = (struct metrics_hit){list->corpus->documents[list->documents[i]].id, (double)(float)list->scores[i],
                                       evaluate_grade(truth, list->documents[i])};
    metrics_sort(hits, list->count);
    evaluate_row_hits(r, hits, list->count, truth);
    if (r->out != NULL)
        trec_run_write(r->out->stream, list->query, hits, list->count, r->name);
    free(hits);
}

void evaluate_row_rank(struct evaluate_row *r, int32_t rank)
{
    static const int32_t one = 1;
    int32_t grades[EVALUATE_DEEPEST] = {0}, returned = rank >= 1 && rank <= EVALUATE_DEEPEST ? rank : 0;
    if (returned > 0)
        grades[returned - 1] = 1;
    add_query(r, &(struct metrics_query){grades, returned, &one, 1});
}

void evaluate_fact_add(struct evaluate_facts *f, double value, const char *format, ...)
{
    CHECK(f->count < EVALUATE_FACTS);
    struct evaluate_fact *fact = &f->fact[f->count++];
    va_list list;
    va_start(list, format);
    vsnprintf(fact->name, sizeof fact->name, format, list);
    va_end(list);
    fact->value = value;
}

/* ---- the run ---- */

static void fill_defaults(struct evaluate_options *o)
{
    o->beam = o->beam > 0 ? o->beam : 20;
    o->limit = o->limit > 0 ? o->limit : 100;
    o->seed = o->seed ? o->seed : 1;
}

static int open_bundle(struct evaluate *v, struct err *e)
{
    char message[512];
    v->be = backend_open(v->o.device ? v->o.device : "auto", v->o.threads, message, sizeof message);
    if (v->be == NULL)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", v->o.device ? v->o.device : "auto", message);
    run_note_device(v->run, v->be->device, message);
    v->bundle = bundle_open(v->o.model, e);
    if (v->bundle == NULL)
        return -1;
    const char *path = bundle_file(v->bundle, "ids.tsv");
    if (path == NULL)
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no IDs to evaluate", v->o.model);
    if (id_table_read(&v->ids, path, NULL, e) != 0)
        return -1;
    v->trie = trie_build(v->ids.codes, NULL, (uint32_t)v->ids.count, v->ids.positions, e);
    return v->trie == NULL ? -1 : 0;
}

static int match_rows(struct evaluate *v, struct err *e)
{
    int32_t found = 0;
    v->row = xcalloc((size_t)v->corpus.count + 1, sizeof *v->row);
    v->document = xcalloc((size_t)v->ids.count + 1, sizeof *v->document);
    for (int32_t i = 0; i < v->corpus.count; i++)
        v->row[i] = -1;
    for (int32_t i = 0; i < v->ids.count; i++) {
        v->document[i] = string_map_get(v->corpus.by_id, v->ids.name[i], strlen(v->ids.name[i]));
        if (v->document[i] >= 0) {
            v->row[v->document[i]] = i;
            found++;
        }
    }
    if (v->bundle != NULL && found == 0)
        return err_set(e, ERR_DATA, "%s: none of its documents has an ID in %s", v->o.data, v->o.model);
    if (v->bundle != NULL && found < v->corpus.count)
        run_note(v->run, "%d of %d documents have an ID", found, v->corpus.count);
    return 0;
}

static bool wants(const struct evaluate *v, const char *task)
{
    return v->o.task == NULL || strcmp(v->o.task, task) == 0;
}

static int run_tasks(struct evaluate *v, struct err *e)
{
    bool named = v->o.task != NULL;
    if (named && strcmp(v->o.task, "search") && strcmp(v->o.task, "recommend") && strcmp(v->o.task, "ids"))
        return err_set(e, ERR_USAGE, "'%s' is no task to evaluate; search, recommend and ids are", v->o.task);
    if (v->o.cold_start)
        return evaluate_cold(v, e);
    if (wants(v, "search") && (named || v->corpus.test.judgements > 0) && evaluate_search(v, e) != 0)
        return -1;
    if (wants(v, "recommend") && (named || v->corpus.users > 0) && evaluate_recommend(v, e) != 0)
        return -1;
    if (wants(v, "ids") && (named || v->bundle != NULL) && evaluate_ids(v, e) != 0)
        return -1;
    if (v->table_count == 0 && v->facts.count == 0)
        return err_set(e, ERR_DATA, "%s: has neither judged queries nor histories, and no model was given", v->o.data);
    return 0;
}

static void close_all(struct evaluate *v)
{
    for (int32_t i = 0; i < v->table_count; i++)
        for (int32_t k = 0; k < v->tables[i].rows; k++)
            free(v->tables[i].row[k].values);
    tokenizer_close(v->tokenizer);
    trie_free(v->trie);
    id_table_free(&v->ids);
    corpus_free(&v->corpus);
    bundle_close(v->bundle);
    free(v->row);
    free(v->document);
}

int evaluate_run(const struct evaluate_options *o, const struct run *run, struct str *out, struct err *e)
{
    struct evaluate v = {.o = *o, .run = run};
    fill_defaults(&v.o);
    if (o->compare != NULL && strchr(o->compare, ',') == NULL)
        return err_set(e, ERR_USAGE, "--compare %s: two rankings with a comma between are wanted", o->compare);
    if (o->cold_start && o->model == NULL)
        return err_set(e, ERR_USAGE, "--cold-start needs --model: a bundle that was made with learn-ids --hold-out");
    int rc = o->model != NULL ? open_bundle(&v, e) : 0;
    if (rc == 0)
        rc = corpus_read(&v.corpus, o->data, run, e);
    if (rc == 0)
        rc = match_rows(&v, e);
    if (rc == 0)
        rc = run_tasks(&v, e);
    if (rc == 0)
        rc = evaluate_print(&v, out, e);
    close_all(&v);
    return rc;
}
