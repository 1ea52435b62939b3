/* evaluate_recommend.c: leave-one-out: the last item of every history is to be found from those before it, among all items.
 *
 * Rankings: random, popularity, item neighbours, BM25 with the newest item's title as the query, the beam alone, and hybrid: a mixture of
 * beam and neighbours by their shares, the beam's weight being the one that training chose on the validation items (history items are left out of both). Each gives the rank of the one target, so only ranks are kept. Items of the history are left out of the ranking (no
 * target is among them in 5-core data; where one is, it stays); with_history prints a second table with them left in. */
#include "evaluate_internal.h"

#include "data/neighbours.h"
#include "retrieve/fuse.h"
#include "retrieve/history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum ranking { RANDOM, POPULARITY, NEIGHBOURS, LEXICAL, GENERATIVE, HYBRID, RANKINGS };
static const char *const ranking_names[RANKINGS] = {"random", "popularity", "neighbours", "bm25", "generative", "hybrid"};

struct recommend_run {
    struct evaluate *v;
    struct evaluate_row *row[2][RANKINGS]; /* [with history] */
    struct neighbours *neighbours;
    struct lexical *lexical;
    struct evaluate_model model;
    int32_t *id_rank;  /* place of each id in descending byte order */
    double *scores, *list_scores;
    int32_t *list;     /* BM25's documents */
    int32_t *beam_list; /* the beam's documents */
    double *beam_scores;
    int32_t *user;     /* [count] users to answer */
    int32_t count;
    int32_t *tokens;
    char **texts;      /* text histories: of each document, made when first read */
};

struct past { /* one user's question */
    const int32_t *items;
    int32_t count, target;
};

static struct past past_of(const struct recommend_run *s, int32_t user)
{
    int32_t length;
    const int32_t *items = corpus_sequence(&s->v->corpus, user, &length);
    return (struct past){items, length - 1, items[length - 1]};
}

/* ---- ranks ---- */

static bool is_past(const struct past *p, int32_t document)
{
    for (int32_t i = 0; i < p->count; i++)
        if (p->items[i] == document && document != p->target)
            return true;
    return false;
}

static void add_scores(struct recommend_run *s, enum ranking ranking, const struct past *p)
{
    for (int32_t with = 0; with < 2; with++)
        if (s->row[with][ranking] != NULL) {
            struct neighbours_ranking r = {s->scores, s->id_rank, s->v->corpus.count, p->items, with ? 0 : p->count};
            evaluate_row_rank(s->row[with][ranking], neighbours_rank(&r, p->target));
        }
}

/* Rank of the target in a list that is best first; 0 = not in it. */
static int32_t list_rank(const struct past *p, const int32_t *list, int32_t count, bool with_history)
{
    int32_t rank = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!with_history && is_past(p, list[i]))
            continue;
        rank++;
        if (list[i] == p->target)
            return rank;
    }
    return 0;
}

static void add_list(struct recommend_run *s, enum ranking ranking, const struct past *p, const int32_t *list, int32_t count)
{
    for (int32_t with = 0; with < 2; with++)
        if (s->row[with][ranking] != NULL)
            evaluate_row_rank(s->row[with][ranking], list_rank(p, list, count, with));
}

/* ---- rankings without a model ---- */

static void rank_scores(struct recommend_run *s, int32_t user, const struct past *p)
{
    int32_t n = s->v->corpus.count;
    uint64_t seed = mix64(s->v->o.seed, (uint64_t)user);
    const int32_t *popularity = neighbours_popularity(s->neighbours);
    for (int32_t i = 0; i < n; i++)
        s->scores[i] = mix_uniform(seed, (uint64_t)i);
    add_scores(s, RANDOM, p);
    for (int32_t i = 0; i < n; i++)
        s->scores[i] = popularity[i];
    add_scores(s, POPULARITY, p);
    neighbours_score(s->neighbours, p->items, p->count, s->scores);
    add_scores(s, NEIGHBOURS, p);
}

/* Into s->list; returns the count or -1. */
static int32_t rank_lexical(struct recommend_run *s, const struct past *p, struct err *e)
{
    const struct document *newest = &s->v->corpus.documents[p->items[p->count - 1]];
    const char *query = newest->title ? newest->title : newest->text ? newest->text : "";
    return lexical_rank(s->lexical, query, s->v->o.limit, s->list, s->list_scores, e);
}

/* ---- the model ---- */

static const char *text_of(struct recommend_run *s, int32_t document)
{
    if (s->texts[document] == NULL) {
        struct str text = {0};
        document_text(&s->v->corpus.documents[document], &text);
        s->texts[document] = text.data ? text.data : xstrdup("");
    }
    return s->texts[document];
}

static int32_t history_input(struct recommend_run *s, const struct past *p, int32_t *tokens)
{
    const struct history_rule rule = {s->model.texts, s->model.max_history, s->model.max_tokens};
    struct history_entry *entries = xcalloc((size_t)p->count + 1, sizeof *entries);
    int32_t n = 0;
    for (int32_t i = 0; i < p->count; i++) {
        int32_t row = s->v->row[p->items[i]];
        if (s->model.texts)
            entries[n++].text = text_of(s, p->items[i]);
        else if (row >= 0)
            entries[n++].codes = s->v->ids.codes + (int64_t)row * s->v->ids.positions;
    }
    int32_t used, count = history_tokens(&rule, &s->model.layout, s->v->tokenizer, entries, n, tokens, &used);
    free(entries);
    return count;
}

static const struct beam *rank_batch(struct recommend_run *s, int32_t from, int32_t n)
{
    int32_t offsets[EVALUATE_BATCH + 1] = {0};
    if (s->model.model == NULL)
        return NULL;
    for (int32_t i = 0; i < n; i++) {
        struct past p = past_of(s, s->user[from + i]);
        offsets[i + 1] = offsets[i] + history_input(s, &p, s->tokens + offsets[i]);
    }
    return evaluate_model_rank(s->v, &s->model, &(struct t5_batch){n, s->tokens, offsets});
}

/* Beam and neighbours as a mixture of their shares, as the daemon fuses them. */
static void add_hybrid(struct recommend_run *s, const struct past *p, int32_t beams)
{
    struct neighbours_hit near[EVALUATE_DEEPEST];
    struct fuse_hit *fused = xcalloc((size_t)(beams + EVALUATE_DEEPEST), sizeof *fused);
    int64_t *lists = xcalloc((size_t)(beams + EVALUATE_DEEPEST), sizeof *lists);
    int32_t *order = xcalloc((size_t)(beams + EVALUATE_DEEPEST), sizeof *order), mine = 0;
    double *scores = xcalloc((size_t)(beams + EVALUATE_DEEPEST), sizeof *scores);
    int32_t others = neighbours_best(s->neighbours, p->items, p->count, near, EVALUATE_DEEPEST);
    for (int32_t i = 0; i < beams; i++)
        if (!is_past(p, s->beam_list[i])) {
            scores[mine] = exp(s->beam_scores[i]);
            lists[mine++] = s->beam_list[i];
        }
    for (int32_t i = 0; i < others; i++) {
        lists[mine + i] = near[i].item;
        scores[mine + i] = near[i].score;
    }
    const struct fuse_list two[] = {{lists, mine, s->model.beam_weight, scores}, {lists + mine, others, 1, scores + mine}};
    int32_t n = fuse_lists(two, 2, fused, mine + others);
    for (int32_t i = 0; i < n; i++)
        order[i] = (int32_t)fused[i].document;
    add_list(s, HYBRID, p, order, n);
    free(order);
    free(scores);
    free(lists);
    free(fused);
}

static void judge_beam(struct recommend_run *s, const struct past *p, const struct beam *beam, int32_t request)
{
    int32_t found, n = 0;
    const struct beam_hit *hits = beam_hits(beam, request, &found);
    for (int32_t i = 0; i < found; i++)
        if (s->v->document[hits[i].document] >= 0) {
            s->beam_scores[n] = hits[i].score;
            s->beam_list[n++] = s->v->document[hits[i].document];
        }
    add_list(s, GENERATIVE, p, s->beam_list, n);
    add_hybrid(s, p, n);
}

static int judge_all(struct recommend_run *s, struct err *e)
{
    for (int32_t from = 0; from < s->count; from += EVALUATE_BATCH) {
        int32_t n = s->count - from < EVALUATE_BATCH ? s->count - from : EVALUATE_BATCH;
        const struct beam *beam = rank_batch(s, from, n);
        for (int32_t i = 0; i < n; i++) {
            struct past p = past_of(s, s->user[from + i]);
            rank_scores(s, s->user[from + i], &p);
            int32_t lexicals = rank_lexical(s, &p, e);
            if (lexicals < 0)
                return -1;
            add_list(s, LEXICAL, &p, s->list, lexicals);
            if (beam != NULL)
                judge_beam(s, &p, beam, i);
        }
        run_report(s->v->run, "recommend", from + n, s->count, "histories", NAN);
        if (run_stopping(s->v->run))
            return err_set(e, ERR_INTERRUPTED, "stopped after %d of %d histories", from + n, s->count);
    }
    return 0;
}

/* ---- opening ---- */

static void add_rows(struct recommend_run *s, bool model)
{
    for (int32_t with = 0; with < (s->v->o.with_history ? 2 : 1); with++) {
        struct evaluate_table *t = evaluate_table_add(s->v, "recommend", with ? "last item of each history, history items left in"
                                                                              : "last item of each history, history items left out");
        for (int32_t i = 0; i < (model ? RANKINGS : GENERATIVE); i++) {
            if (with && i == HYBRID)
                continue; /* it never names what a history has */
            int32_t reach = i == GENERATIVE ? s->v->o.beam : i == LEXICAL ? s->v->o.limit : EVALUATE_DEEPEST;
            s->row[with][i] = evaluate_row_add(t, ranking_names[i], reach);
        }
    }
}

static void list_users(struct recommend_run *s)
{
    const struct corpus *c = &s->v->corpus;
    int32_t most = s->v->o.queries > 0 ? s->v->o.queries : c->users;
    s->user = xcalloc((size_t)c->users + 1, sizeof *s->user);
    for (int32_t u = 0; u < c->users && s->count < most; u++)
        if (c->sequences[u + 1] - c->sequences[u] >= 2)
            s->user[s->count++] = u;
}

static void build_baselines(struct recommend_run *s)
{
    const struct corpus *c = &s->v->corpus;
    struct neighbours_options options = neighbours_defaults();
    const char **ids = xcalloc((size_t)c->count, sizeof *ids);
    for (int32_t i = 0; i < c->count; i++)
        ids[i] = c->documents[i].id;
    s->id_rank = xcalloc((size_t)c->count, sizeof *s->id_rank);
    neighbours_id_ranks(s->id_rank, ids, c->count);
    s->neighbours = neighbours_build(&(struct neighbours_input){c->sequence, c->sequences, c->users, c->count, 2}, &options);
    free(ids);
}

static int open_model(struct recommend_run *s, struct err *e)
{
    struct evaluate *v = s->v;
    if (evaluate_model_open(v, "recommend", &s->model, e) != 0 || (s->model.texts && evaluate_tokenizer_open(v, e) != 0))
        return -1;
    s->tokens = xcalloc((size_t)EVALUATE_BATCH * (size_t)s->model.max_tokens, sizeof *s->tokens);
    s->beam_list = xcalloc((size_t)v->o.beam, sizeof *s->beam_list);
    s->beam_scores = xcalloc((size_t)v->o.beam, sizeof *s->beam_scores);
    s->texts = xcalloc((size_t)v->corpus.count, sizeof *s->texts);
    return 0;
}

static void close_all(struct recommend_run *s)
{
    for (int32_t i = 0; s->texts && i < s->v->corpus.count; i++)
        free(s->texts[i]);
    evaluate_model_close(&s->model);
    neighbours_free(s->neighbours);
    lexical_close(s->lexical);
    free(s->texts);
    free(s->id_rank);
    free(s->scores);
    free(s->list_scores);
    free(s->list);
    free(s->beam_list);
    free(s->beam_scores);
    free(s->user);
    free(s->tokens);
}

int evaluate_recommend(struct evaluate *v, struct err *e)
{
    struct recommend_run s = {.v = v};
    bool model = v->bundle != NULL && bundle_file(v->bundle, "recommend.safetensors") != NULL;
    if (v->corpus.users == 0)
        return err_set(e, ERR_DATA, "%s: has no histories (sequences.txt)", v->o.data);
    add_rows(&s, model);
    list_users(&s);
    build_baselines(&s);
    s.scores = xcalloc((size_t)v->corpus.count, sizeof *s.scores);
    s.list = xcalloc((size_t)v->o.limit, sizeof *s.list);
    s.list_scores = xcalloc((size_t)v->o.limit, sizeof *s.list_scores);
    s.lexical = lexical_open(&v->corpus, v->run, e);
    int rc = s.lexical == NULL ? -1 : 0;
    if (rc == 0 && model)
        rc = open_model(&s, e);
    if (rc == 0)
        rc = judge_all(&s, e);
    evaluate_model_facts(v, &s.model, "recommend");
    close_all(&s);
    return rc;
}
