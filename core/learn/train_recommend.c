/* train_recommend.c: samples of the recommendation task: histories to the ID of the next item.
 *
 * Every prefix of every training history is a sample. A user's last item is the test target and the one before the validation target;
 * neither is ever drawn. A history is the newest max_history items, oldest first, each as its T code tokens (a suffix without a trained
 * row is left out; here all have one), then EOS; or, as texts, the newest item's text first until max_tokens are full. No user token.
 * Validation is nDCG@10 of the beam over users spread evenly over the file, history items left out. popular.tsv and neighbours.bin count the
 * same training histories; what the beam weighs beside neighbours is chosen on the validation items. */
#include "train_internal.h"

#include "../base/hash.h"
#include "../data/neighbours.h"
#include "../retrieve/history.h"

#include <stdlib.h>
#include <string.h>

enum { VALIDATION_MOST = 2000, ITEM_TOKENS = HISTORY_ITEM_TOKENS };

struct sample {
    int64_t end;    /* the target's place in items */
    int32_t before; /* items before it that belong to the user */
};

struct task {
    struct train *train;
    int32_t *items;   /* training and validation items of all users, as rows of ids */
    int64_t *users;   /* [user_count + 1] */
    int32_t user_count;
    struct sample *samples;
    int64_t sample_count;
    int32_t *text_tokens; /* text histories: tokens of each row's text */
    int64_t *text_offsets;
    struct validation validation;
    int32_t longest;
    struct neighbours *neighbours; /* of the training items, over rows of ids */
    double beam_weight;            /* beside them, chosen on the validation items */
};

/* ---- inputs ---- */

static int32_t text_input(const struct task *k, const int32_t *items, int32_t count, int32_t *tokens)
{
    int32_t n = 0, room = k->train->o.max_tokens - 1;
    for (int32_t i = count - 1; i >= 0 && n < room; i--) {
        int64_t from = k->text_offsets[items[i]], size = k->text_offsets[items[i] + 1] - from;
        int32_t take = size < room - n ? (int32_t)size : room - n;
        memcpy(tokens + n, k->text_tokens + from, (size_t)take * sizeof *tokens);
        n += take;
    }
    tokens[n++] = TOKEN_EOS;
    return n;
}

static int32_t id_input(const struct task *k, const int32_t *items, int32_t count, int32_t *tokens)
{
    const struct code_layout *l = &k->train->layout;
    int32_t n = 0, most = k->train->o.max_history, first = count > most ? count - most : 0;
    for (int32_t i = first; i < count; i++)
        n += history_item(l, train_codes(k->train, items[i]), tokens + n);
    tokens[n++] = TOKEN_EOS;
    return n;
}

static int32_t input(const struct task *k, const int32_t *items, int32_t count, int32_t *tokens)
{
    return k->text_tokens ? text_input(k, items, count, tokens) : id_input(k, items, count, tokens);
}

static int32_t draw(void *state, int64_t epoch, int64_t index, int32_t *tokens, uint32_t *codes)
{
    const struct task *k = state;
    const struct sample *s = &k->samples[index];
    (void)epoch;
    memcpy(codes, train_codes(k->train, k->items[s->end]), (size_t)k->train->layout.positions * sizeof *codes);
    return input(k, k->items + s->end - s->before, s->before, tokens);
}

static int validate(void *state, struct t5 *model, double *metric, struct err *e)
{
    struct task *k = state;
    (void)model;
    return validation_gain(k->train, &k->validation, metric, e);
}

/* ---- reading histories ---- */

/* All but the last item of each user, without items that have no ID. A user keeps the place of the validation item as the last one. */
static void read_histories(struct task *k)
{
    const struct train *t = k->train;
    k->items = xcalloc((size_t)(t->corpus.users > 0 ? t->corpus.sequences[t->corpus.users] : 0) + 1, sizeof *k->items);
    k->users = xcalloc((size_t)t->corpus.users + 1, sizeof *k->users);
    for (int32_t u = 0; u < t->corpus.users; u++) {
        int32_t length;
        const int32_t *sequence = corpus_sequence(&t->corpus, u, &length);
        int64_t n = k->users[k->user_count];
        for (int32_t i = 0; i + 1 < length; i++)
            if (t->row[sequence[i]] >= 0)
                k->items[n++] = t->row[sequence[i]];
        if (n - k->users[k->user_count] >= 2)
            k->users[++k->user_count] = n;
    }
}

static void list_samples(struct task *k)
{
    k->samples = xcalloc((size_t)k->users[k->user_count] + 1, sizeof *k->samples);
    for (int32_t u = 0; u < k->user_count; u++)
        for (int64_t i = k->users[u] + 1; i + 1 < k->users[u + 1]; i++)
            k->samples[k->sample_count++] = (struct sample){i, (int32_t)(i - k->users[u])};
}

static void validate_on_users(struct task *k)
{
    struct validation *v = &k->validation;
    int32_t n = k->user_count < VALIDATION_MOST ? k->user_count : VALIDATION_MOST;
    v->longest = k->longest;
    v->tokens = xcalloc((size_t)n * (size_t)v->longest, sizeof *v->tokens);
    v->offsets = xcalloc((size_t)n + 1, sizeof *v->offsets);
    v->target = xcalloc((size_t)n, sizeof *v->target);
    v->left_out = xcalloc((size_t)n, sizeof *v->left_out);
    for (int32_t i = 0; i < n; i++) {
        int32_t u = (int32_t)((int64_t)i * k->user_count / n);
        const int32_t *items = k->items + k->users[u];
        int32_t before = (int32_t)(k->users[u + 1] - k->users[u]) - 1;
        v->target[i] = items[before];
        v->left_out[i] = xcalloc((size_t)before + 1, sizeof **v->left_out);
        memcpy(v->left_out[i], items, (size_t)before * sizeof *items);
        v->left_out[i][before] = -1;
        v->offsets[i + 1] = v->offsets[i] + input(k, items, before, v->tokens + v->offsets[i]);
    }
    v->count = n;
}

static void read_texts(struct task *k)
{
    const struct train *t = k->train;
    int64_t room = 1 << 16, n = 0;
    struct str text = {0};
    int32_t *document = xcalloc((size_t)t->ids.count, sizeof *document); /* of a row, plus 1; 0 = not in the corpus */
    for (int32_t i = 0; i < t->corpus.count; i++)
        if (t->row[i] >= 0)
            document[t->row[i]] = i + 1;
    k->text_tokens = xcalloc((size_t)room, sizeof *k->text_tokens);
    k->text_offsets = xcalloc((size_t)t->ids.count + 1, sizeof *k->text_offsets);
    for (int32_t i = 0; i < t->ids.count; i++) {
        str_clear(&text);
        if (document[i] > 0)
            document_text(&t->corpus.documents[document[i] - 1], &text);
        if (n + ITEM_TOKENS > room)
            k->text_tokens = xrealloc(k->text_tokens, (size_t)(room *= 2), sizeof *k->text_tokens);
        if (text.size > 0)
            n += tokenizer_encode(t->tokenizer, text.data, text.size, k->text_tokens + n, ITEM_TOKENS, false, NULL);
        k->text_offsets[i + 1] = n;
    }
    str_free(&text);
    free(document);
}

/* Of the items that train: neither the validation item nor the one that `evaluate` keeps for the test. */
static struct neighbours *count_neighbours(const struct task *k)
{
    const struct neighbours_options o = neighbours_defaults();
    return neighbours_build(&(struct neighbours_input){k->items, k->users, k->user_count, k->train->ids.count, 1}, &o);
}

static void recommend_close(struct task *k)
{
    validation_free(&k->validation);
    neighbours_free(k->neighbours);
    free(k->items);
    free(k->users);
    free(k->samples);
    free(k->text_tokens);
    free(k->text_offsets);
    free(k);
}

static struct task *recommend_open(struct train *t, struct err *e)
{
    if (t->corpus.users == 0) {
        err_set(e, ERR_DATA, "%s: has no sequences.txt with histories to learn from", t->o.data);
        return NULL;
    }
    if (t->o.text_history && train_open_tokenizer(t, e) != 0)
        return NULL;
    if (train_model(t, e) != 0)
        return NULL;
    struct task *k = xcalloc(1, sizeof *k);
    k->train = t;
    k->longest = t->o.text_history ? t->o.max_tokens : t->o.max_history * t->layout.positions + 1;
    if (t->o.text_history)
        read_texts(k);
    read_histories(k);
    list_samples(k);
    validate_on_users(k);
    k->neighbours = count_neighbours(k);
    run_note(t->run, "recommend: %d histories, validation on %d of them", k->user_count, k->validation.count);
    return k;
}

static struct trainer_source recommend_source(struct task *k)
{
    return (struct trainer_source){k, k->sample_count, k->longest, draw, validate, "nDCG@10", 0, 0};
}

static uint64_t recommend_digest(const struct task *k)
{
    size_t words = k->text_tokens ? (size_t)k->text_offsets[k->train->ids.count] : 0;
    uint64_t texts = words > 0 ? hash_bytes(k->text_tokens, words * sizeof *k->text_tokens, 1) : 0;
    return mix64(hash_bytes(k->items, (size_t)k->users[k->user_count] * sizeof *k->items, texts), (uint64_t)k->user_count);
}

static char *recommend_settings(const struct task *k)
{
    const struct train_options *o = &k->train->o;
    return xprintf("{\"task\":\"recommend\",\"input\":\"%s\",\"max_history\":%d,\"max_tokens\":%d,\"seed\":%llu,\"start\":\"%s\","
                   "\"beam_weight\":%g}",
                   o->text_history ? "texts" : "ids", o->max_history, k->longest, (unsigned long long)o->seed,
                   o->start == START_INDEXER ? "indexer" : "random", k->beam_weight);
}

/* ---- the beam's weight beside item neighbours ---- */

static int32_t rank_neighbours(void *state, int32_t i, int64_t *rows, double *scores, int32_t most, struct err *e)
{
    const struct task *k = state;
    struct neighbours_hit hits[VALIDATION_DEPTH];
    const int32_t *history = k->validation.left_out[i];
    int32_t length = 0;
    (void)e;
    while (history[length] >= 0)
        length++;
    int32_t n = neighbours_best(k->neighbours, history, length, hits, most < VALIDATION_DEPTH ? most : VALIDATION_DEPTH);
    for (int32_t j = 0; j < n; j++) {
        rows[j] = hits[j].item;
        scores[j] = hits[j].score;
    }
    return n;
}

static int choose_weight(struct task *k, struct err *e)
{
    return validation_weight(k->train, &k->validation, &(struct validation_other){"neighbours", true, rank_neighbours, k}, &k->beam_weight, e);
}

static int put_neighbours(struct task *k, struct err *e)
{
    struct str out = {0};
    neighbours_write(k->neighbours, &out);
    int rc = bundle_put(k->train->bundle, "neighbours.bin", out.data, out.size, e);
    str_free(&out);
    return rc;
}

/* ---- popular.tsv ---- */

struct count {
    int64_t count;
    int32_t row;
};

static int compare_counts(const void *a, const void *b)
{
    const struct count *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

static int put_popular(struct task *k, struct err *e)
{
    const struct train *t = k->train;
    struct count *counts = xcalloc((size_t)t->ids.count, sizeof *counts);
    struct str out = {0};
    for (int32_t i = 0; i < t->ids.count; i++)
        counts[i].row = i;
    for (int32_t u = 0; u < k->user_count; u++)
        for (int64_t i = k->users[u]; i + 1 < k->users[u + 1]; i++)
            counts[k->items[i]].count++;
    qsort(counts, (size_t)t->ids.count, sizeof *counts, compare_counts);
    for (int32_t i = 0; i < t->ids.count && counts[i].count > 0; i++)
        str_printf(&out, "%s\t%lld\n", t->ids.name[counts[i].row], (long long)counts[i].count);
    int rc = bundle_put(t->bundle, "popular.tsv", out.data ? out.data : "", out.size, e);
    str_free(&out);
    free(counts);
    return rc;
}

static int put_files(struct task *k, struct err *e)
{
    return put_popular(k, e) != 0 ? -1 : put_neighbours(k, e);
}

const struct task_kind task_recommend = {"recommend",     recommend_open,     recommend_close, recommend_source, recommend_digest,
                                         choose_weight,      recommend_settings, put_files};
