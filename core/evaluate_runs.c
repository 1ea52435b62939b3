/* evaluate_runs.c: run files beside the search table: given ones are judged like the program's own rankings, own ones are written for trec_eval.
 *
 * A query that a given run does not answer counts as 0, as every ranking's does (trec_eval: -c). What is written are the scores that were judged,
 * 32-bit floats, so reading a written run back gives the same figures. Files appear only when the whole run went well. */
#include "evaluate_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const given_names[EVALUATE_RUNS] = {"run", "run2", "run3", "run4"};

static int read_one(struct evaluate_runs *r, struct evaluate *v, struct evaluate_table *t, const char *path, struct err *e)
{
    if (r->count == EVALUATE_RUNS)
        return err_set(e, ERR_USAGE, "--run takes at most %d files", EVALUATE_RUNS);
    int32_t i = r->count++;
    if (trec_run_read(&r->given[i], path, &v->corpus, e) != 0)
        return -1;
    r->row[i] = evaluate_row_add(t, given_names[i], EVALUATE_DEEPEST);
    run_note(v->run, "%s: %s, %lld lines; %lld more of unknown queries", given_names[i], path, (long long)r->given[i].count,
             (long long)r->given[i].unknown);
    if (r->given[i].count == 0)
        return err_set(e, ERR_DATA, "%s: has no line for a query of %s", path, v->o.data);
    return 0;
}

int evaluate_runs_read(struct evaluate_runs *r, struct evaluate *v, struct evaluate_table *t, struct err *e)
{
    char *paths = xstrdup(v->o.run ? v->o.run : ""), *rest = paths;
    int rc = 0;
    for (char *path; rc == 0 && (path = strtok_r(rest, ",", &rest)) != NULL;)
        rc = read_one(r, v, t, path, e);
    free(paths);
    return rc;
}

void evaluate_runs_judge(struct evaluate_runs *r, const struct evaluate *v, int32_t query, const struct evaluate_truth *truth)
{
    for (int32_t i = 0; i < r->count; i++) {
        struct metrics_hit *hits = r->given[i].hits + r->given[i].first[query];
        int32_t n = (int32_t)(r->given[i].first[query + 1] - r->given[i].first[query]);
        for (int32_t k = 0; k < n; k++) {
            int32_t document = string_map_get(v->corpus.by_id, hits[k].document, strlen(hits[k].document));
            hits[k].grade = document >= 0 ? evaluate_grade(truth, document) : 0;
        }
        evaluate_row_hits(r->row[i], hits, n, truth);
    }
}

static int check_names(const struct evaluate *v, struct err *e)
{
    for (int32_t i = 0; i < v->corpus.count; i++)
        if (!trec_run_can_name(v->corpus.documents[i].id))
            return err_set(e, ERR_DATA, "--run-out: document id '%.200s' has a blank; a run file cannot hold it", v->corpus.documents[i].id);
    for (int32_t i = 0; i < v->corpus.test.count; i++)
        if (!trec_run_can_name(v->corpus.test.query[i].id))
            return err_set(e, ERR_DATA, "--run-out: query id '%.200s' has a blank; a run file cannot hold it", v->corpus.test.query[i].id);
    return 0;
}

int evaluate_runs_open(struct evaluate_runs *r, const struct evaluate *v, struct evaluate_table *t, struct err *e)
{
    if (v->o.run_out == NULL)
        return 0;
    if (check_names(v, e) != 0)
        return -1;
    for (int32_t i = 0; i < t->rows; i++) {
        char *path = xprintf("%s.%s.run", v->o.run_out, t->row[i].name);
        int rc = file_out_open(&r->out[i], path, e);
        free(path);
        if (rc != 0)
            return -1;
        t->row[i].out = &r->out[i];
        r->outs = i + 1;
    }
    return 0;
}

int evaluate_runs_commit(struct evaluate_runs *r, struct err *e)
{
    for (int32_t i = 0; i < r->outs; i++)
        if (file_out_commit(&r->out[i], e) != 0)
            return -1;
    return 0;
}

void evaluate_runs_close(struct evaluate_runs *r)
{
    for (int32_t i = 0; i < r->outs; i++)
        file_out_cancel(&r->out[i]);
    for (int32_t i = 0; i < r->count; i++)
        trec_run_free(&r->given[i]);
}
