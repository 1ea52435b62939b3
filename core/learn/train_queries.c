/* train_queries.c: samples of the task that writes queries: a document's text to a query's text (docT5query).
 *
 * The pairs are the corpus' own (training queries with their judgements); where it has none, queries cut from the documents stand in, so that
 * the command works on any corpus: the model then learns what kind of words a cut keeps. Validation: pairs of documents that are held out by hash,
 * all pairs of a document together; the metric is exp(-mean loss per token), the geometric mean of the probability that the model gives to
 * each true token. A corpus too small to hold any out validates on what it trains on, and says so. Documents and queries without text teach
 * nothing and are left out. Documents and given queries are tokenised once.
 * Owner of everything: struct task. */
#include "train_internal.h"

#include "../base/hash.h"
#include "pseudo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALIDATION_MOST = 1000, HELD_LEAST = 10, MEAN_OF = 1000 };
enum { STREAM_QUERY = 21, STREAM_VALIDATION = 22, STREAM_HOLD_OUT = 23 };

struct text { /* a row of tokens in the pool, EOS last */
    int64_t first;
    int32_t count;
};
struct pair {
    int32_t document; /* of the task */
    struct text query;
};

struct task {
    struct train *train;
    int32_t *pool;
    int64_t pool_size, pool_room;
    struct text *document; /* [documents] those that take part */
    int32_t documents;
    struct pair *pairs, *held; /* given: pairs to train on. Cut: one entry a document, its query is drawn. held: always with queries */
    int32_t pair_count, held_count;
    struct pseudo *pseudo; /* NULL: pairs are given */
    double mean;
    uint64_t digest;
};

static uint64_t draw_seed(const struct task *k, uint64_t stream, int64_t epoch, int64_t index)
{
    return mix64(mix64(mix64(k->train->o.seed, stream), (uint64_t)epoch), (uint64_t)index);
}

static struct text pool_put(struct task *k, const int32_t *tokens, int32_t count)
{
    if (k->pool_size + count > k->pool_room) {
        k->pool_room = 2 * k->pool_room + count + 4096;
        k->pool = xrealloc(k->pool, (size_t)k->pool_room, sizeof *k->pool);
    }
    memcpy(k->pool + k->pool_size, tokens, (size_t)count * sizeof *tokens);
    k->pool_size += count;
    return (struct text){k->pool_size - count, count};
}

/* ---- samples ---- */

static int32_t cut_query(const struct task *k, int32_t document, uint64_t seed, int32_t tokens[TRAIN_TEXT_TARGETS])
{
    struct pseudo_query q;
    pseudo_draw(k->pseudo, document, CUT_ANY, seed, &q);
    return pseudo_tokens(k->pseudo, &q, tokens, TRAIN_TEXT_TARGETS);
}

static int64_t samples_of(const struct task *k)
{
    return k->pseudo ? (int64_t)k->pair_count * k->train->o.pseudo_per_document : k->pair_count;
}

/* The wanted text of a sample; returns its pair. */
static const struct pair *target_of(const struct task *k, int64_t epoch, int64_t index, int32_t tokens[TRAIN_TEXT_TARGETS], int32_t *count)
{
    const struct pair *p = &k->pairs[k->pseudo ? index / k->train->o.pseudo_per_document : index];
    *count = p->query.count;
    if (k->pseudo)
        *count = cut_query(k, p->document, draw_seed(k, STREAM_QUERY, epoch, index), tokens);
    else
        memcpy(tokens, k->pool + p->query.first, (size_t)p->query.count * sizeof *tokens);
    return p;
}

static int32_t draw(void *state, int64_t epoch, int64_t index, int32_t *tokens, uint32_t *codes)
{
    struct task *k = state;
    int32_t target[TRAIN_TEXT_TARGETS], count;
    const struct text d = k->document[target_of(k, epoch, index, target, &count)->document];
    for (int32_t i = 0; i < count; i++)
        codes[i] = (uint32_t)target[i];
    memcpy(tokens, k->pool + d.first, (size_t)d.count * sizeof *tokens);
    return d.count;
}

/* ---- validation ---- */

static struct trainer_source queries_source(struct task *k);

static int32_t draw_held(void *state, int32_t i, int32_t *tokens, uint32_t *codes)
{
    struct task *k = state;
    const struct pair *p = &k->held[i];
    const struct text d = k->document[p->document];
    for (int32_t t = 0; t < p->query.count; t++)
        codes[t] = (uint32_t)k->pool[p->query.first + t];
    memcpy(tokens, k->pool + d.first, (size_t)d.count * sizeof *tokens);
    return d.count;
}

static int validate(void *state, struct t5 *model, double *metric, struct err *e)
{
    struct task *k = state;
    const struct trainer_source source = queries_source(k);
    return trainer_text_metric(model, &source, k->held_count, draw_held, metric, e);
}

/* ---- opening ---- */

/* number [corpus.count]: a document's place in the task, or -1: it has no ID, or no text. */
static void read_documents(struct task *k, int32_t *number)
{
    const struct train *t = k->train;
    struct str text = {0};
    int32_t *tokens = xcalloc((size_t)t->o.max_tokens, sizeof *tokens);
    k->document = xcalloc((size_t)t->corpus.count, sizeof *k->document);
    for (int32_t i = 0; i < t->corpus.count; i++) {
        number[i] = -1;
        if (t->row[i] < 0)
            continue;
        str_clear(&text);
        document_text(&t->corpus.documents[i], &text);
        int32_t n = tokenizer_encode(t->tokenizer, text.data, text.size, tokens, t->o.max_tokens, true, NULL);
        if (n <= 1) /* EOS alone */
            continue;
        number[i] = k->documents;
        k->document[k->documents++] = pool_put(k, tokens, n);
        k->digest = hash_bytes(text.data, text.size, k->digest + (uint64_t)i);
    }
    str_free(&text);
    free(tokens);
}

static void read_pairs(struct task *k, const int32_t *number)
{
    const struct train *t = k->train;
    const struct corpus_queries *c = &t->corpus.train;
    int32_t tokens[TRAIN_TEXT_TARGETS];
    k->pairs = xcalloc((size_t)c->judgements + 1, sizeof *k->pairs);
    for (int32_t i = 0; t->o.given_pairs && i < c->judgements; i++) {
        const struct corpus_judgement *j = &c->judgement[i];
        if (j->grade < 1 || number[j->document] < 0)
            continue;
        const char *text = c->query[j->query].text;
        int32_t n = tokenizer_encode(t->tokenizer, text, strlen(text), tokens, TRAIN_TEXT_TARGETS, true, NULL);
        if (n <= 1)
            continue;
        k->pairs[k->pair_count++] = (struct pair){number[j->document], pool_put(k, tokens, n)};
        k->digest = hash_bytes(text, strlen(text), k->digest + (uint64_t)j->document);
    }
}

static void cut_pairs(struct task *k, const int32_t *number)
{
    const struct train *t = k->train;
    struct str text = {0};
    struct pseudo_query q;
    k->pseudo = pseudo_begin(t->tokenizer, t->corpus.count);
    for (int32_t i = 0; i < t->corpus.count; i++) {
        const struct document *d = &t->corpus.documents[i];
        if (number[i] < 0)
            continue;
        str_clear(&text);
        document_text(d, &text);
        pseudo_add(k->pseudo, d->title, d->attributes ? text.data : d->text);
    }
    str_free(&text);
    pseudo_end(k->pseudo);
    free(k->pairs);
    k->pairs = xcalloc((size_t)k->documents + 1, sizeof *k->pairs);
    for (int32_t i = 0; i < k->documents; i++) {
        pseudo_draw(k->pseudo, i, CUT_ANY, 0, &q);
        if (q.count > 0) /* else its text has no word */
            k->pairs[k->pair_count++] = (struct pair){.document = i};
    }
}

static void add_to_held(struct task *k, struct pair p)
{
    int32_t tokens[TRAIN_TEXT_TARGETS];
    if (k->held_count == VALIDATION_MOST)
        return;
    if (k->pseudo) {
        int32_t n = cut_query(k, p.document, draw_seed(k, STREAM_VALIDATION, 0, p.document), tokens);
        p.query = pool_put(k, tokens, n);
    }
    k->held[k->held_count++] = p;
}

/* Moves the pairs of held-out documents to the validation set. */
static void hold_out(struct task *k)
{
    const uint64_t seed = mix64(k->train->o.seed, STREAM_HOLD_OUT);
    double share = k->train->o.validation_share;
    int32_t left = 0;
    if (share * k->pair_count < HELD_LEAST)
        share = 0.1;
    k->held = xcalloc(VALIDATION_MOST, sizeof *k->held);
    for (int32_t i = 0; i < k->pair_count; i++) {
        if (mix_uniform(seed, (uint64_t)k->pairs[i].document) < share)
            add_to_held(k, k->pairs[i]);
        else
            k->pairs[left++] = k->pairs[i];
    }
    bool none = k->held_count == 0 || left == 0;
    for (int32_t i = 0; i < k->pair_count && none && k->held_count == 0; i++)
        add_to_held(k, k->pairs[i]);
    k->pair_count = left > 0 ? left : k->pair_count;
    if (none)
        run_note(k->train->run, "warning: too few pairs to hold any out: validation is on the training pairs");
}

static double mean_length(const struct task *k)
{
    int64_t n = samples_of(k) < MEAN_OF ? samples_of(k) : MEAN_OF;
    int32_t tokens[TRAIN_TEXT_TARGETS], count;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        target_of(k, 0, i * samples_of(k) / n, tokens, &count);
        sum += count;
    }
    return sum / (double)n;
}

static void queries_close(struct task *k)
{
    pseudo_free(k->pseudo);
    free(k->pool);
    free(k->document);
    free(k->pairs);
    free(k->held);
    free(k);
}

static struct task *queries_open(struct train *t, struct err *e)
{
    if (train_open_tokenizer(t, e) != 0 || train_text_model(t, e) != 0)
        return NULL;
    struct task *k = xcalloc(1, sizeof *k);
    int32_t *number = xcalloc((size_t)t->corpus.count, sizeof *number);
    k->train = t;
    read_documents(k, number);
    read_pairs(k, number);
    if (k->pair_count == 0)
        cut_pairs(k, number);
    free(number);
    if (k->pair_count == 0) {
        err_set(e, ERR_DATA, "%s: no document has text that a query could be written for", t->o.data);
        queries_close(k);
        return NULL;
    }
    hold_out(k);
    k->mean = mean_length(k);
    run_note(t->run, "queries: %d documents, trained on %d %s, validation on %d; %.1f tokens a query", k->documents, k->pair_count,
             k->pseudo ? "documents' cut queries (no training queries given)" : "given pairs", k->held_count, k->mean);
    return k;
}

static struct trainer_source queries_source(struct task *k)
{
    return (struct trainer_source){k, samples_of(k), k->train->o.max_tokens, draw, validate, "exp(-loss)", TRAIN_TEXT_TARGETS, k->mean};
}

static uint64_t queries_digest(const struct task *k)
{
    return mix64(mix64(k->digest, (uint64_t)k->pair_count), (uint64_t)k->held_count);
}

static char *queries_settings(const struct task *k)
{
    const struct train_options *o = &k->train->o;
    return xprintf("{\"task\":\"queries\",\"max_tokens\":%d,\"seed\":%llu,\"start\":\"%s\",\"pairs\":\"%s\"}", o->max_tokens,
                   (unsigned long long)o->seed, train_start_name(o->start), k->pseudo ? "cut" : "given");
}

const struct task_kind task_queries = {"queries", queries_open, queries_close, queries_source, queries_digest, NULL, queries_settings, NULL};
