/* evaluate_search.c: judged queries: random, BM25, the beam alone, and both by reciprocal ranks.
 *
 * All rankings answer the same queries: those with at least one relevant document. Queries go through the model in batches; each batch's
 * lists are judged at once, so nothing is kept but sums. */
#include "evaluate_internal.h"

#include "retrieve/fuse.h"

#include <stdlib.h>
#include <string.h>

struct search_run {
    struct evaluate *v;
    struct evaluate_row *random, *lexical_row, *generative, *hybrid;
    struct lexical *lexical;
    struct evaluate_model model; /* model.model NULL: baselines only */
    int32_t *query;              /* [count] queries to answer */
    int32_t *first;              /* [queries + 1] their slice of the judgements */
    int32_t count;
    int32_t *relevant, *grade;   /* truth of the query in hand */
    int32_t *documents, *lexicals; /* lists of the query in hand */
    double *scores;
    int32_t *tokens;
    const char *name; /* of the query in hand */
    struct evaluate_runs runs;
};

static struct evaluate_truth truth_of(struct search_run *s, int32_t query)
{
    const struct corpus_queries *c = &s->v->corpus.test;
    int32_t n = 0;
    for (int32_t i = s->first[query]; i < s->first[query + 1]; i++)
        if (c->judgement[i].grade >= 1) {
            s->relevant[n] = c->judgement[i].document;
            s->grade[n++] = c->judgement[i].grade;
        }
    return (struct evaluate_truth){s->relevant, s->grade, n};
}

static void judge_list(struct search_run *s, struct evaluate_row *row, const int32_t *documents, int32_t count,
                       const struct evaluate_truth *truth)
{
    evaluate_row_list(row, &(struct evaluate_list){&s->v->corpus, s->name, documents, s->scores, count}, truth);
}

/* The queries with something relevant, and where their judgements are. */
static void list_queries(struct search_run *s)
{
    const struct corpus_queries *c = &s->v->corpus.test;
    int32_t most = s->v->o.queries > 0 ? s->v->o.queries : c->count;
    s->query = xcalloc((size_t)c->count + 1, sizeof *s->query);
    s->first = corpus_judgements(c);
    for (int32_t q = 0; q < c->count; q++) {
        bool relevant = false;
        for (int32_t i = s->first[q]; i < s->first[q + 1]; i++)
            relevant |= c->judgement[i].grade >= 1;
        if (relevant && s->count < most)
            s->query[s->count++] = q;
    }
}

static void judge_random(struct search_run *s, int32_t query, const struct evaluate_truth *truth)
{
    int32_t n = s->v->corpus.count < s->v->o.limit ? s->v->corpus.count : s->v->o.limit;
    uint64_t seed = mix64(s->v->o.seed, (uint64_t)query);
    for (int32_t i = 0; i < s->v->corpus.count; i++)
        s->documents[i] = i;
    for (int32_t i = 0; i < n; i++) { /* the first n of a shuffle */
        int32_t j = i + (int32_t)(mix64(seed, (uint64_t)i) % (uint64_t)(s->v->corpus.count - i)), d = s->documents[j];
        s->documents[j] = s->documents[i];
        s->documents[i] = d;
        s->scores[i] = -i;
    }
    judge_list(s, s->random, s->documents, n, truth);
}

/* The beam's hits as documents of the corpus, into s->documents; returns their number. */
static int32_t beam_list(struct search_run *s, const struct beam *beam, int32_t request)
{
    int32_t found, n = 0;
    const struct beam_hit *hits = beam_hits(beam, request, &found);
    for (int32_t i = 0; i < found; i++)
        if (s->v->document[hits[i].document] >= 0) {
            s->scores[n] = hits[i].score;
            s->documents[n++] = s->v->document[hits[i].document];
        }
    return n;
}

static void judge_hybrid(struct search_run *s, int32_t beams, int32_t lexicals, const struct evaluate_truth *truth)
{
    int64_t *lists = xcalloc((size_t)(beams + lexicals) + 1, sizeof *lists);
    struct fuse_hit *fused = xcalloc((size_t)(beams + lexicals) + 1, sizeof *fused);
    for (int32_t i = 0; i < beams; i++)
        lists[i] = s->documents[i];
    for (int32_t i = 0; i < lexicals; i++)
        lists[beams + i] = s->lexicals[i];
    const struct fuse_list two[] = {{lists, beams, s->model.beam_weight, NULL}, {lists + beams, lexicals, 1, NULL}};
    int32_t n = fuse_lists(two, 2, fused, s->v->o.limit);
    for (int32_t i = 0; i < n; i++) {
        s->documents[i] = (int32_t)fused[i].document;
        s->scores[i] = fused[i].score;
    }
    judge_list(s, s->hybrid, s->documents, n, truth);
    free(lists);
    free(fused);
}

/* Judges one query's lists; beam NULL = no model. */
static int judge(struct search_run *s, int32_t query, const struct beam *beam, int32_t request, struct err *e)
{
    const struct evaluate_truth truth = truth_of(s, query);
    s->name = s->v->corpus.test.query[query].id;
    evaluate_runs_judge(&s->runs, s->v, query, &truth);
    judge_random(s, query, &truth);
    int32_t lexicals = lexical_rank(s->lexical, s->v->corpus.test.query[query].text, s->v->o.limit, s->lexicals, s->scores, e);
    if (lexicals < 0)
        return -1;
    judge_list(s, s->lexical_row, s->lexicals, lexicals, &truth);
    if (beam == NULL)
        return 0;
    int32_t beams = beam_list(s, beam, request);
    judge_list(s, s->generative, s->documents, beams, &truth);
    judge_hybrid(s, beams, lexicals, &truth);
    return 0;
}

static const struct beam *rank_batch(struct search_run *s, int32_t from, int32_t n)
{
    int32_t offsets[EVALUATE_BATCH + 1] = {0};
    if (s->model.model == NULL)
        return NULL;
    for (int32_t i = 0; i < n; i++) {
        const char *text = s->v->corpus.test.query[s->query[from + i]].text;
        offsets[i + 1] = offsets[i] + tokenizer_encode(s->v->tokenizer, text, strlen(text), s->tokens + offsets[i],
                                                  s->model.max_tokens, true, NULL);
    }
    return evaluate_model_rank(s->v, &s->model, &(struct t5_batch){n, s->tokens, offsets});
}

static int judge_all(struct search_run *s, struct err *e)
{
    for (int32_t from = 0; from < s->count; from += EVALUATE_BATCH) {
        int32_t n = s->count - from < EVALUATE_BATCH ? s->count - from : EVALUATE_BATCH;
        const struct beam *beam = rank_batch(s, from, n);
        for (int32_t i = 0; i < n; i++)
            if (judge(s, s->query[from + i], beam, i, e) != 0)
                return -1;
        run_report(s->v->run, "search", from + n, s->count, "queries", 0.0 / 0.0);
        if (run_stopping(s->v->run))
            return err_set(e, ERR_INTERRUPTED, "stopped after %d of %d queries", from + n, s->count);
    }
    return 0;
}

static int open_model(struct search_run *s, struct err *e)
{
    struct evaluate *v = s->v;
    if (evaluate_tokenizer_open(v, e) != 0 || evaluate_model_open(v, "search", &s->model, e) != 0)
        return -1;
    s->tokens = xcalloc((size_t)EVALUATE_BATCH * (size_t)s->model.max_tokens, sizeof *s->tokens);
    return 0;
}

static int open_all(struct search_run *s, struct err *e)
{
    struct evaluate *v = s->v;
    bool model = v->bundle != NULL && bundle_file(v->bundle, "search.safetensors") != NULL;
    struct evaluate_table *t = evaluate_table_add(v, "search", "judged queries, full ranking");
    int32_t room = v->o.limit + v->o.beam;
    list_queries(s);
    s->random = evaluate_row_add(t, "random", v->o.limit);
    s->lexical_row = evaluate_row_add(t, "bm25", v->o.limit);
    s->relevant = xcalloc((size_t)v->corpus.test.judgements + 1, sizeof *s->relevant);
    s->grade = xcalloc((size_t)v->corpus.test.judgements + 1, sizeof *s->grade);
    s->lexicals = xcalloc((size_t)room, sizeof *s->lexicals);
    s->documents = xcalloc((size_t)(v->corpus.count > room ? v->corpus.count : room), sizeof *s->documents);
    s->scores = xcalloc((size_t)room, sizeof *s->scores);
    if (model) {
        s->generative = evaluate_row_add(t, "generative", v->o.beam);
        s->hybrid = evaluate_row_add(t, "hybrid", v->o.limit);
    }
    if (evaluate_runs_open(&s->runs, v, t, e) != 0 || evaluate_runs_read(&s->runs, v, t, e) != 0)
        return -1;
    s->lexical = lexical_open(&v->corpus, v->run, e);
    return s->lexical == NULL ? -1 : model ? open_model(s, e) : 0;
}

int evaluate_search(struct evaluate *v, struct err *e)
{
    struct search_run s = {.v = v};
    if (v->corpus.test.judgements == 0)
        return err_set(e, ERR_DATA, "%s: has no judged queries (queries.jsonl and qrels.tsv)", v->o.data);
    int rc = open_all(&s, e);
    if (rc == 0)
        rc = judge_all(&s, e);
    if (rc == 0)
        rc = evaluate_runs_commit(&s.runs, e);
    evaluate_runs_close(&s.runs);
    evaluate_model_facts(v, &s.model, "search");
    evaluate_model_close(&s.model);
    lexical_close(s.lexical);
    free(s.query);
    free(s.first);
    free(s.relevant);
    free(s.grade);
    free(s.lexicals);
    free(s.documents);
    free(s.scores);
    free(s.tokens);
    return rc;
}
