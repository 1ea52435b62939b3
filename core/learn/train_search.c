/* train_search.c: samples of the search task: queries to IDs.
 *
 * An epoch holds pseudo_per_document queries a document, cut ones drawn afresh each time, and as many written ones among them as written_share says
 * (files of `semindex queries` or a person's own; taken in turn, from epoch to epoch, the first of every document, then the second ones, so that
 * an epoch has all documents in it however few queries it takes), then the given training queries (where the folder
 * has them and they are wanted), repeated so that they weigh about as much as these. A pair that comes again comes with some words left out.
 * Targets drawn from the BM25 ranking of a cut query instead of its document were tried (half of them, Cranfield and CISI): the model
 * learned slower and found less in the same time. Validation: given queries held out by hash where there are enough, else cut queries of a seed that
 * training never draws. Documents are never held out: all must be found. */
#include "train_internal.h"

#include "../base/hash.h"
#include "../data/written.h"
#include "../lexical.h"
#include "pseudo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALIDATION_MOST = 1000, GIVEN_LEAST = 50, REPEAT_MOST = 8 };
enum { WEIGHT_MOST = 500 };
enum { STREAM_WEIGHT = 16, STREAM_WEIGHT_THIN = 17, STREAM_QUERY = 11, STREAM_THIN = 13, STREAM_VALIDATION = 14, STREAM_HOLD_OUT = 15,
       STREAM_WRITTEN = 18 };

struct given { /* a training pair */
    struct pseudo_query query;
    int32_t row, source; /* source: number of the query that is held out as one */
};
struct pairs {
    struct given *list;
    int32_t count;
};

struct task {
    struct train *train;
    struct pseudo *pseudo;
    int32_t documents;
    int32_t *row; /* [documents] row of ids of each document that has an ID */
    struct pairs given, written;
    int32_t repeat;         /* of the given ones in an epoch */
    int64_t cut, write;     /* samples of an epoch that are cut, and written */
    struct pseudo_query *held; /* [validation.count] given queries that were held out, or NULL: validation is on cut ones */
    struct validation validation;
    uint64_t digest;
    int32_t *place;     /* [documents] of each document in the corpus */
    double beam_weight; /* chosen */
};

/* ---- samples ---- */

static uint64_t draw_seed(const struct task *k, uint64_t stream, int64_t epoch, int64_t index)
{
    return mix64(mix64(mix64(k->train->o.seed, stream), (uint64_t)epoch), (uint64_t)index);
}

/* Pair number `turn`, counted over passes over the list; from the second pass on thinned. */
static int32_t draw_pair(const struct pairs *p, int64_t turn, uint64_t seed, struct pseudo_query *q)
{
    const struct given *g = &p->list[turn % p->count];
    *q = g->query;
    if (turn >= p->count)
        pseudo_thin(q, 0.1, seed);
    return g->row;
}

static int32_t draw_cut(struct task *k, int64_t epoch, int64_t index, struct pseudo_query *q)
{
    int32_t document = (int32_t)(index * k->documents / k->cut);
    pseudo_draw(k->pseudo, document, CUT_ANY, draw_seed(k, STREAM_QUERY, epoch, index), q);
    return k->row[document];
}

static int32_t draw_any(struct task *k, int64_t epoch, int64_t index, struct pseudo_query *q)
{
    if (index < k->cut)
        return draw_cut(k, epoch, index, q);
    index -= k->cut;
    if (index < k->write)
        return draw_pair(&k->written, epoch * k->write + index, draw_seed(k, STREAM_WRITTEN, epoch, index), q);
    index -= k->write;
    return draw_pair(&k->given, epoch * k->given.count * k->repeat + index, draw_seed(k, STREAM_THIN, epoch, index), q);
}

static int32_t draw(void *state, int64_t epoch, int64_t index, int32_t *tokens, uint32_t *codes)
{
    struct task *k = state;
    struct pseudo_query q;
    int32_t row = draw_any(k, epoch, index, &q);
    memcpy(codes, train_codes(k->train, row), (size_t)k->train->layout.positions * sizeof *codes);
    return pseudo_tokens(k->pseudo, &q, tokens, k->train->o.max_tokens);
}

static int validate(void *state, struct t5 *model, double *metric, struct err *e)
{
    struct task *k = state;
    (void)model;
    return validation_gain(k->train, &k->validation, metric, e);
}

/* ---- validation set ---- */

static void validation_reserve(struct validation *v, int32_t count, int32_t longest)
{
    v->tokens = xcalloc((size_t)count * (size_t)longest, sizeof *v->tokens);
    v->offsets = xcalloc((size_t)count + 1, sizeof *v->offsets);
    v->target = xcalloc((size_t)count, sizeof *v->target);
    v->longest = longest;
}

static void validation_add(struct task *k, const struct pseudo_query *q, int32_t row)
{
    struct validation *v = &k->validation;
    int32_t at = v->offsets[v->count];
    v->target[v->count++] = row;
    v->offsets[v->count] = at + pseudo_tokens(k->pseudo, q, v->tokens + at, v->longest);
}

static void validate_on_cuts(struct task *k)
{
    int32_t n = k->documents < VALIDATION_MOST ? k->documents : VALIDATION_MOST;
    validation_reserve(&k->validation, n, k->train->o.max_tokens);
    for (int32_t i = 0; i < n; i++) {
        struct pseudo_query q;
        int32_t document = (int32_t)((int64_t)i * k->documents / n);
        pseudo_draw(k->pseudo, document, CUT_ANY, draw_seed(k, STREAM_VALIDATION, 0, i), &q);
        validation_add(k, &q, k->row[document]);
    }
}

static bool is_held(const struct task *k, const struct given *g)
{
    return mix_uniform(mix64(k->train->o.seed, STREAM_HOLD_OUT), (uint64_t)g->source) < k->train->o.validation_share;
}

/* Moves the held-out given pairs (by query) to the validation set when there are enough of them. Written queries never judge: how good they are is
 * what nobody knows yet. */
static void hold_out(struct task *k)
{
    struct pairs *p = &k->given;
    int32_t held = 0, pairs = p->count;
    for (int32_t i = 0; i < pairs; i++)
        held += is_held(k, &p->list[i]);
    if (held < GIVEN_LEAST || held == pairs)
        return;
    validation_reserve(&k->validation, held, k->train->o.max_tokens);
    k->held = xcalloc((size_t)held, sizeof *k->held);
    p->count = 0;
    for (int32_t i = 0; i < pairs; i++)
        if (!is_held(k, &p->list[i])) {
            p->list[p->count++] = p->list[i];
        } else if (k->validation.count < VALIDATION_MOST) {
            k->held[k->validation.count] = p->list[i].query;
            validation_add(k, &p->list[i].query, p->list[i].row);
        }
}

/* ---- opening ---- */

static void read_documents(struct task *k)
{
    const struct train *t = k->train;
    struct str text = {0};
    k->row = xcalloc((size_t)t->corpus.count, sizeof *k->row);
    k->place = xcalloc((size_t)t->corpus.count, sizeof *k->place);
    k->pseudo = pseudo_begin(t->tokenizer, t->corpus.count);
    for (int32_t i = 0; i < t->corpus.count; i++) {
        const struct document *d = &t->corpus.documents[i];
        if (t->row[i] < 0)
            continue;
        str_clear(&text);
        document_text(d, &text);
        pseudo_add(k->pseudo, d->title, d->attributes ? text.data : d->text);
        k->digest = hash_bytes(text.data ? text.data : "", text.size, k->digest + (uint64_t)t->row[i]);
        k->place[k->documents] = i;
        k->row[k->documents++] = t->row[i];
    }
    str_free(&text);
    pseudo_end(k->pseudo);
}

static void read_given(struct task *k)
{
    const struct train *t = k->train;
    const struct corpus_queries *c = &t->corpus.train;
    k->given.list = xcalloc((size_t)c->judgements + 1, sizeof *k->given.list);
    for (int32_t i = 0; i < c->judgements; i++) {
        const struct corpus_judgement *j = &c->judgement[i];
        if (j->grade < 1 || t->row[j->document] < 0)
            continue;
        struct given *g = &k->given.list[k->given.count];
        *g = (struct given){.row = t->row[j->document], .source = j->query};
        pseudo_parse(k->pseudo, c->query[j->query].text, &g->query);
        k->given.count += g->query.count > 0;
        k->digest = mix64(k->digest, (uint64_t)j->query << 32 | (uint32_t)j->document);
    }
}

/* Files are in the order of documents; what an epoch takes of them should not be: the first query of every document comes first, then the second
 * ones, in the files' order. */
static void take_turns(struct pairs *p, int32_t rows)
{
    int32_t *round = xcalloc((size_t)p->count, sizeof *round), *had = xcalloc((size_t)rows, sizeof *had);
    int32_t *start = xcalloc((size_t)p->count + 1, sizeof *start);
    struct given *list = xcalloc((size_t)p->count, sizeof *list);
    for (int32_t i = 0; i < p->count; i++) {
        round[i] = had[p->list[i].row]++;
        start[round[i] + 1]++;
    }
    for (int32_t r = 0; r < p->count; r++)
        start[r + 1] += start[r];
    for (int32_t i = 0; i < p->count; i++)
        list[start[round[i]]++] = p->list[i];
    free(p->list);
    p->list = list;
    free(round);
    free(had);
    free(start);
}

static int read_written(struct task *k, struct err *e)
{
    const struct train *t = k->train;
    struct written w;
    if (written_read(&w, t->o.written, &t->corpus, t->run, e) != 0)
        return -1;
    k->written.list = xcalloc((size_t)w.count, sizeof *k->written.list);
    for (int32_t i = 0; i < w.count; i++) {
        if (t->row[w.query[i].document] < 0)
            continue;
        struct given *g = &k->written.list[k->written.count];
        *g = (struct given){.row = t->row[w.query[i].document], .source = i};
        pseudo_parse(k->pseudo, w.query[i].text, &g->query);
        k->written.count += g->query.count > 0; /* else it is no word: "???" */
    }
    k->digest = mix64(k->digest, w.digest);
    written_free(&w);
    if (k->written.count > 0)
        take_turns(&k->written, t->ids.count);
    for (int32_t i = 0; i < k->written.count; i++)
        k->digest = mix64(k->digest, (uint64_t)k->written.list[i].row);
    return k->written.count > 0 ? 0 : err_set(e, ERR_DATA, "%s: no query of words for a document that has an ID", t->o.written);
}

/* How many samples of an epoch are cut, written and given. */
static void mix(struct task *k)
{
    int64_t all = (int64_t)k->documents * k->train->o.pseudo_per_document, n = k->given.count;
    k->write = k->written.count > 0 ? (int64_t)llround((double)all * k->train->o.written_share) : 0;
    k->cut = all - k->write;
    k->repeat = n > 0 ? (int32_t)(all / n < 1 ? 1 : all / n > REPEAT_MOST ? REPEAT_MOST : all / n) : 0;
}

static double share(const struct task *k, int64_t samples)
{
    return (double)samples / (double)(k->cut + k->write + (int64_t)k->given.count * k->repeat);
}

static void search_close(struct task *k)
{
    pseudo_free(k->pseudo);
    validation_free(&k->validation);
    free(k->row);
    free(k->place);
    free(k->held);
    free(k->given.list);
    free(k->written.list);
    free(k);
}

static struct task *search_open(struct train *t, struct err *e)
{
    if (train_open_tokenizer(t, e) != 0 || train_model(t, e) != 0)
        return NULL;
    struct task *k = xcalloc(1, sizeof *k);
    k->train = t;
    read_documents(k);
    if (t->o.written != NULL && read_written(k, e) != 0) {
        search_close(k);
        return NULL;
    }
    if (t->o.given_pairs)
        read_given(k);
    hold_out(k);
    mix(k);
    bool cut = k->validation.count == 0;
    if (cut)
        validate_on_cuts(k);
    run_note(t->run, "search: %d documents, %d given pairs (x %d), %d written, validation on %d %s queries", k->documents, k->given.count,
             k->repeat, k->written.count, k->validation.count, cut ? "cut" : "given");
    run_note(t->run, "search: shares of the training samples: given %.3f, written %.3f, cut %.3f", share(k, (int64_t)k->given.count * k->repeat),
             share(k, k->write), share(k, k->cut));
    return k;
}

static struct trainer_source search_source(struct task *k)
{
    int64_t samples = k->cut + k->write + (int64_t)k->given.count * k->repeat;
    return (struct trainer_source){k, samples, k->train->o.max_tokens, draw, validate, "nDCG@10", 0, 0};
}

static uint64_t search_digest(const struct task *k)
{
    return mix64(mix64(k->digest, (uint64_t)k->train->o.pseudo_per_document), (uint64_t)k->given.count);
}

/* ---- the beam's weight beside BM25 ---- */

struct weighing {
    struct task *task;
    struct lexical *lexical;
    char **text; /* of each question */
    int32_t documents[VALIDATION_DEPTH];
    double scores[VALIDATION_DEPTH];
};

static int32_t rank_words(void *state, int32_t i, int64_t *rows, double *scores, int32_t most, struct err *e)
{
    struct weighing *w = state;
    (void)scores;
    int32_t n = lexical_rank(w->lexical, w->text[i], most, w->documents, w->scores, e), kept = 0;
    for (int32_t k = 0; k < n; k++)
        if (w->task->train->row[w->documents[k]] >= 0)
            rows[kept++] = w->task->train->row[w->documents[k]];
    return n < 0 ? -1 : kept;
}

static char *spell(const struct task *k, const struct pseudo_query *q)
{
    struct str text = {0};
    pseudo_text(k->pseudo, q, &text);
    return text.data ? text.data : xstrdup("");
}

/* Without given queries: questions that training never drew, half of their words left out: a person's words are only partly the document's, and a
 * query that is cut out of its document word by word would always be the words' game. */
static void draw_questions(struct weighing *w, struct validation *v)
{
    struct task *k = w->task;
    int32_t n = k->documents < WEIGHT_MOST ? k->documents : WEIGHT_MOST;
    v->tokens = xcalloc((size_t)n * (size_t)k->train->o.max_tokens, sizeof *v->tokens);
    v->offsets = xcalloc((size_t)n + 1, sizeof *v->offsets);
    v->target = xcalloc((size_t)n, sizeof *v->target);
    v->longest = k->train->o.max_tokens;
    w->text = xcalloc((size_t)n + 1, sizeof *w->text);
    for (int32_t i = 0; i < n; i++) {
        struct pseudo_query q;
        int32_t document = (int32_t)((int64_t)i * k->documents / n);
        pseudo_draw(k->pseudo, document, CUT_ANY, draw_seed(k, STREAM_WEIGHT, 0, i), &q);
        pseudo_thin(&q, 0.5, draw_seed(k, STREAM_WEIGHT_THIN, 0, i));
        v->offsets[i + 1] = v->offsets[i] + pseudo_tokens(k->pseudo, &q, v->tokens + v->offsets[i], v->longest);
        v->target[i] = k->row[document];
        w->text[i] = spell(k, &q);
    }
    v->count = n;
}

static int choose_weight(struct task *k, struct err *e)
{
    struct weighing w = {.task = k, .lexical = lexical_open(&k->train->corpus, k->train->run, e)};
    struct validation drawn = {0};
    const struct validation *v = k->held ? &k->validation : &drawn;
    if (w.lexical == NULL)
        return -1;
    if (!k->held)
        draw_questions(&w, &drawn);
    else
        w.text = xcalloc((size_t)v->count + 1, sizeof *w.text);
    for (int32_t i = 0; k->held && i < v->count; i++)
        w.text[i] = spell(k, &k->held[i]);
    int rc = validation_weight(k->train, v, &(struct validation_other){"bm25", false, rank_words, &w}, &k->beam_weight, e);
    for (int32_t i = 0; i < v->count; i++)
        free(w.text[i]);
    free(w.text);
    validation_free(&drawn);
    lexical_close(w.lexical);
    return rc;
}

static char *search_settings(const struct task *k)
{
    const struct train_options *o = &k->train->o;
    return xprintf("{\"task\":\"search\",\"max_tokens\":%d,\"seed\":%llu,\"start\":\"%s\",\"beam_weight\":%g,"
                   "\"shares\":{\"given\":%.4f,\"written\":%.4f,\"cut\":%.4f}}",
                   o->max_tokens, (unsigned long long)o->seed, train_start_name(o->start), k->beam_weight,
                   share(k, (int64_t)k->given.count * k->repeat), share(k, k->write), share(k, k->cut));
}

const struct task_kind task_search = {"search", search_open, search_close, search_source, search_digest, choose_weight, search_settings, NULL};
