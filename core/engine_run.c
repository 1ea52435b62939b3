/* engine_run.c: prepared queries in batches on the device.
 *
 * A batch is queries of one task model and one beam width, within the budgets of tokens, rows and beams: one encoder pass, then one cached decode
 * step a position for all beams of all of them. What a query gets does not depend on who shares its batch: rows are packed and every product has
 * a fixed order. One generation is pinned for the whole call. Deadlines are looked at before each batch and between positions; a query
 * that is too late gets ERR_DEADLINE, the others of its batch go on.
 *
 * On a processor a batch is one call on the device thread. On a device it is two, sending and ranking, and its caller waits for the results in
 * between, so that the device thread is free to send the next one: of the same call or of another. A seat of the searcher goes with it. */
#include "engine_index.h"
#include "retrieve/bucket.h"

#include <stdlib.h>
#include <string.h>

struct run_batch {
    struct engine *g;
    const struct generation *gen;
    struct engine_query **query; /* [count] */
    struct ranking *ranking;     /* [count] results, in the queries' arenas */
    int32_t count, seat;         /* seat: -1 on a processor */
    bool stopped, sent;
    struct err err; /* of all its queries */
    const struct beam *beam;
    double began;
};

static bool is_late(const struct engine_query *q)
{
    return q->deadline_ms && clock_ms() >= q->deadline_ms;
}

static void set_late(struct engine_query *q, const char *when)
{
    err_set(&q->err, ERR_DEADLINE, "the deadline passed %s", when);
}

/* ---- what stands in a bucket behind the trained documents ---- */

/* Context of the bucket ranking. A new document is compared by its vector: with the decoder's state where the task model started from the
 * indexer, else with the mean of a history's vectors; or, for a query to a model of its own space, by the BM25 score of the query's words. */
struct similar {
    const struct engine *g;
    const struct generation *gen;
    const struct engine_plan *plan;
    const float *profile; /* compared instead of the decoder's state, or NULL */
    bool states;          /* the decoder's state lives in the indexer's space */
};

static double dot(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = ((const struct catalog_hit *)a)->number, y = ((const struct catalog_hit *)b)->number;
    return (x > y) - (x < y);
}

static double word_score(const struct engine_plan *p, int64_t number)
{
    const struct catalog_hit key = {.number = number};
    const struct catalog_hit *hit = bsearch(&key, p->words, (size_t)p->word_count, sizeof key, by_number);
    return hit ? hit->score : 0;
}

static double similarity(void *context, uint32_t document, const float *state)
{
    const struct similar *s = context;
    if (s->plan->words)
        return word_score(s->plan, s->gen->ids->number[document]);
    const float *against = s->profile ? s->profile : s->states ? state : NULL;
    const float *vector = against ? engine_vectors_of(s->g->vectors, s->gen->ids->number[document]) : NULL;
    return vector ? dot(against, vector, s->g->indexer.vector_size) : 0;
}

/* Numbers of the documents behind the kept prefixes whose suffix has no trained row; the caller frees. */
static int64_t *new_documents(const struct run_batch *b, const struct beam *beam, int32_t r, int32_t *count)
{
    const struct trie_view *v = trie_view_of(b->gen->ids->trie);
    uint32_t from, to, trained = (uint32_t)b->g->layout.codes[v->levels - 1];
    int32_t prefixes, n = 0, room = 64;
    const struct beam_prefix *p = beam_prefixes(beam, r, &prefixes);
    int64_t *numbers = xmalloc((size_t)room * sizeof *numbers);
    for (int32_t i = 0; i < prefixes; i++) {
        trie_children(v, v->levels - 2, p[i].node, &from, &to);
        for (; to > from && trie_code(v, v->levels - 1, to - 1) >= trained; to--) {
            if (n == room)
                numbers = xrealloc(numbers, (size_t)(room *= 2), sizeof *numbers);
            numbers[n++] = b->gen->ids->number[to - 1];
        }
    }
    *count = n;
    return numbers;
}

/* Mean of the vectors of what a history names: its direction in the indexer's space. */
static const float *profile_of(struct engine *g, struct engine_query *q)
{
    int32_t d = g->indexer.vector_size, n = 0, known = 0;
    const struct engine_plan *p = q->plan;
    float *sum = arena_alloc(q->arena, (size_t)d * sizeof *sum);
    int64_t *numbers = arena_alloc(q->arena, ((size_t)p->entries + 1) * sizeof *numbers);
    for (int32_t i = 0; i < p->entries; i++)
        if (p->entry[i].id)
            numbers[n++] = p->entry[i].number;
    engine_vectors_fetch(g->vectors, numbers, n);
    for (int32_t i = 0; i < p->entries; i++) {
        const float *v = p->entry[i].id ? engine_vectors_of(g->vectors, p->entry[i].number) : p->entry[i].vector;
        for (int32_t k = 0; v && k < d; k++)
            sum[k] += v[k];
        known += v != NULL;
    }
    for (int32_t k = 0; k < d; k++)
        sum[k] /= (float)(known ? known : 1);
    return known ? sum : NULL;
}

static bool same_space(const struct engine *g, enum engine_task task)
{
    return g->indexer.model && g->task[task].from_indexer && t5_config_of(g->indexer.model)->d_model == t5_config_of(g->task[task].model)->d_model;
}

/* On the caller's thread. */
static void find_words(struct engine *g, struct engine_query *q)
{
    struct engine_plan *p = q->plan;
    struct catalog_hit *best = arena_alloc(q->arena, WORDS_MOST * sizeof *best), *words = arena_alloc(q->arena, WORDS_MOST * sizeof *words);
    struct catalog_reader *reader = catalog_reader_take(g->catalog, &q->err);
    double began = clock_s();
    if (reader && catalog_search(reader, q->text, strlen(q->text), WORDS_MOST, best, &p->word_count, &q->err) == 0) {
        memcpy(words, best, (size_t)p->word_count * sizeof *words);
        qsort(words, (size_t)p->word_count, sizeof *words, by_number);
        p->words = words;
        p->best = best;
    }
    catalog_reader_give(reader);
    q->store_ms += 1e3 * (clock_s() - began);
}

/* ---- results of one request ---- */

static void unpack_codes(const struct run_batch *b, uint32_t row, struct ranked *out)
{
    int32_t positions = b->g->layout.positions;
    uint32_t trained = (uint32_t)b->g->layout.codes[positions - 1];
    memcpy(out->codes, b->gen->ids->codes + (int64_t)row * positions, (size_t)positions * sizeof *out->codes);
    if (out->codes[positions - 1] >= trained)
        out->codes[positions - 1] -= trained;
}

static void rank_request(struct run_batch *b, int32_t r)
{
    const struct beam *beam = b->beam;
    struct engine *g = b->g;
    struct engine_query *q = b->query[r];
    int32_t width = q->plan->width, fresh;
    struct similar similar = {.g = g, .gen = b->gen, .plan = q->plan, .states = same_space(g, q->task)};
    int64_t *numbers = new_documents(b, beam, r, &fresh);
    if (fresh && g->vectors && q->task == TASK_RECOMMEND && !similar.states)
        similar.profile = profile_of(g, q);
    if (fresh && g->vectors && !q->plan->words)
        engine_vectors_fetch(g->vectors, numbers, fresh);
    free(numbers);
    const struct trie_view *v = trie_view_of(b->gen->ids->trie);
    const struct bucket_ranking k = {.trie = v, .trained = (uint32_t)g->layout.codes[v->levels - 1],
                                     .similarity = g->vectors || q->plan->words ? similarity : NULL, .context = &similar, .width = width};
    struct bucket_hit *hits = xmalloc((size_t)width * sizeof *hits);
    int32_t n = bucket_rank(beam, r, &k, hits);
    struct ranking *out = &b->ranking[r];
    *out = (struct ranking){.hit = arena_alloc(q->arena, ((size_t)n + 1) * sizeof *out->hit), .count = n};
    for (int32_t i = 0; i < n; i++) {
        out->hit[i] = (struct ranked){.number = b->gen->ids->number[hits[i].document], .score = hits[i].score, .trained = hits[i].trained,
                                      .log_prefix = hits[i].log_prefix, .log_share = hits[i].log_share};
        unpack_codes(b, hits[i].document, &out->hit[i]);
    }
    q->exhaustive = beam_exhaustive(beam, r) && (int64_t)width >= b->gen->ids->count;
    free(hits);
}

/* ---- one batch, on the device thread ---- */

static bool all_late(void *state)
{
    const struct run_batch *b = state;
    for (int32_t i = 0; i < b->count; i++)
        if (!is_late(b->query[i]))
            return false;
    return true;
}

static void load_tokens(struct task_model *t, const struct run_batch *b)
{
    t->offsets[0] = 0;
    for (int32_t i = 0; i < b->count; i++) {
        const struct engine_query *q = b->query[i];
        memcpy(t->tokens + t->offsets[i], q->tokens, (size_t)q->token_count * sizeof *t->tokens);
        t->offsets[i + 1] = t->offsets[i] + q->token_count;
    }
}

static struct searcher *searcher_of(const struct run_batch *b)
{
    return b->g->task[b->query[0]->task].searcher;
}

/* A processor uses one, on the device thread alone. */
static int32_t seat_of(const struct run_batch *b)
{
    return b->seat < 0 ? 0 : b->seat;
}

static void send_batch(void *state)
{
    struct run_batch *b = state;
    struct task_model *t = &b->g->task[b->query[0]->task];
    b->stopped = all_late(b);
    const struct trie_view *placed = b->stopped ? NULL : generation_placed(b->gen, &b->err);
    if (!placed)
        return;
    load_tokens(t, b);
    const struct t5_batch rows = {.count = b->count, .tokens = t->tokens, .offsets = t->offsets};
    const struct beam_search s = {.trie = trie_view_of(b->gen->ids->trie), .placed = placed, .width = b->query[0]->plan->width,
                                  .renormalise = b->g->options.renormalise, .keep_states = same_space(b->g, b->query[0]->task),
                                  .stop = all_late, .state = b};
    b->began = clock_s();
    b->stopped = searcher_begin(t->searcher, seat_of(b), &rows, &s) < 0;
    b->sent = !b->stopped;
}

static void rank_batch(void *state)
{
    struct run_batch *b = state;
    double encoded = searcher_encoded_s(searcher_of(b), seat_of(b));
    for (int32_t r = 0; r < b->count; r++)
        rank_request(b, r);
    double ended = clock_s();
    for (int32_t r = 0; r < b->count; r++) {
        b->query[r]->encode_ms += 1e3 * (encoded - b->began);
        b->query[r]->decode_ms += 1e3 * (ended - encoded);
    }
}

/* On a processor: all at once. */
static void search_batch(void *state)
{
    struct run_batch *b = state;
    send_batch(b);
    if (!b->sent)
        return;
    b->beam = searcher_end(searcher_of(b), seat_of(b));
    rank_batch(b);
}

/* What a device is asked for first: searches of the default width. */
static void warm_tasks(void *state)
{
    struct engine *g = state;
    struct generation *gen = generation_pin(g->publisher);
    struct err later = {0}; /* without memory for the trie, the first search says so */
    const struct trie_view *placed = generation_placed(gen, &later);
    for (int i = 0; i < ENGINE_TASKS && placed; i++) {
        const struct beam_search s = {.trie = trie_view_of(gen->ids->trie), .placed = placed, .width = engine_default_beam(g),
                                      .renormalise = g->options.renormalise, .keep_states = g->task[i].model && same_space(g, i)};
        if (g->task[i].model)
            searcher_warm(g->task[i].searcher, &s);
    }
    generation_unpin(gen);
}

void engine_warm(struct engine *g, const struct run *run)
{
    if (!g->be->record_begin || g->options.recordings_mib == 0)
        return;
    run_report(run, "recording searches", 0, 0, "tasks", 0);
    device_call(g->device, warm_tasks, g);
}

int32_t engine_lanes(const struct engine *g)
{
    return g->be->has_host_memory ? 1 : SEARCHER_SEATS;
}

/* ---- free texts of histories ---- */

struct text_list {
    struct encode_item *item;
    struct plan_entry **entry;
    int32_t n, room;
};

static void list_texts(struct engine *g, struct engine_query *q, struct text_list *l)
{
    int32_t d = g->indexer.vector_size;
    for (int32_t i = 0; i < q->plan->entries; i++) {
        struct plan_entry *entry = &q->plan->entry[i];
        if (entry->id)
            continue;
        if (l->n == l->room) {
            l->room = l->room ? 2 * l->room : 16;
            l->item = xrealloc(l->item, (size_t)l->room, sizeof *l->item);
        }
        entry->vector = arena_alloc(q->arena, (size_t)d * sizeof *entry->vector);
        l->item[l->n++] = (struct encode_item){entry->tokens, entry->token_count, false, entry->codes, entry->vector};
    }
}

static void encode_texts(struct engine *g, struct engine_query **queries, int32_t n)
{
    struct text_list l = {0};
    double began = clock_s();
    for (int32_t i = 0; i < n; i++)
        if (queries[i]->plan->encode && !queries[i]->err.code)
            list_texts(g, queries[i], &l);
    if (l.n)
        engine_encode(g, l.item, l.n, 0, NULL);
    for (int32_t i = 0; i < n && l.n; i++) {
        struct engine_query *q = queries[i];
        if (!q->plan->encode || q->err.code)
            continue;
        engine_plan_tokens(g, q);
        q->plan->encode = false;
        q->encode_ms += 1e3 * (clock_s() - began);
    }
    free(l.item);
}

/* ---- cutting into batches ---- */

static int by_model_and_width(const void *x, const void *y)
{
    const struct engine_query *a = *(struct engine_query *const *)x, *b = *(struct engine_query *const *)y;
    if (a->task != b->task)
        return a->task < b->task ? -1 : 1;
    return (a->plan->width > b->plan->width) - (a->plan->width < b->plan->width);
}

/* How many of q[0..n) make one batch. */
static int32_t batch_length(const struct engine *g, struct engine_query **q, int32_t n)
{
    int32_t count = 0, width = q[0]->plan->width;
    int64_t tokens = 0;
    while (count < n && q[count]->task == q[0]->task && q[count]->plan->width == width) {
        tokens += q[count]->token_count;
        if (count > 0 && (tokens > g->options.batch_tokens || count == g->options.batch_rows ||
                          (int64_t)(count + 1) * width > g->task[q[0]->task].beam_rows))
            break;
        count++;
    }
    return count;
}

/* Takes the results of a batch that was sent, and gives its seat back. */
static void end_batch(struct run_batch *b)
{
    if (b->seat >= 0) {
        if (b->sent) {
            b->beam = searcher_end(searcher_of(b), b->seat);
            device_call(b->g->device, rank_batch, b);
        }
        searcher_give(searcher_of(b), b->seat);
    }
    for (int32_t i = 0; i < b->count; i++)
        if (b->err.code)
            b->query[i]->err = b->err;
        else if (is_late(b->query[i]))
            set_late(b->query[i], b->stopped ? "while the query waited for the model or between two positions" : "while the model ran");
}

/* Sends b while `before` (or NULL) may still be under way, and ends that; whoever waits for a seat holds none. */
static void begin_batch(struct run_batch *b, struct run_batch *before)
{
    b->seat = searcher_take(searcher_of(b), before == NULL);
    if (b->seat < 0) {
        end_batch(before);
        before = NULL;
        b->seat = searcher_take(searcher_of(b), true);
    }
    device_call(b->g->device, send_batch, b);
    if (before)
        end_batch(before);
}

static void run_batches(struct engine *g, const struct generation *gen, struct engine_query **q, struct ranking *ranking, int32_t n)
{
    struct run_batch all[2], *b = all, *before = NULL;
    for (int32_t count; n > 0; q += count, ranking += count, n -= count) {
        count = batch_length(g, q, n);
        *b = (struct run_batch){.g = g, .gen = gen, .query = q, .ranking = ranking, .count = count, .seat = -1};
        if (g->be->has_host_memory) {
            device_call(g->device, search_batch, b);
            end_batch(b);
        } else {
            begin_batch(b, before);
            before = b;
            b = &all[b == all];
        }
    }
    if (before)
        end_batch(before);
}

static bool wants_device(const struct engine_query *q)
{
    return !q->err.code && q->token_count > 0;
}

void engine_run(struct engine *g, struct engine_query **queries, int32_t n)
{
    struct generation *gen = generation_pin(g->publisher);
    struct engine_query **order = xmalloc(((size_t)n + 1) * sizeof(struct engine_query *));
    struct ranking *ranking = xcalloc((size_t)n + 1, sizeof *ranking);
    int32_t device = 0;
    for (int32_t i = 0; i < n; i++) {
        queries[i]->err = (struct err){0};
        queries[i]->encode_ms = queries[i]->decode_ms = queries[i]->store_ms = 0;
        queries[i]->generation = gen->number;
        if (is_late(queries[i]))
            set_late(queries[i], "before the query began");
    }
    encode_texts(g, queries, n);
    for (int32_t i = 0; i < n; i++)
        if (wants_device(queries[i]) && queries[i]->task == TASK_SEARCH && gen->ids->fresh && !same_space(g, TASK_SEARCH))
            find_words(g, queries[i]);
    for (int32_t i = 0; i < n; i++)
        if (wants_device(queries[i]))
            order[device++] = queries[i];
    qsort(order, (size_t)device, sizeof *order, by_model_and_width);
    run_batches(g, gen, order, ranking, device);
    for (int32_t i = 0; i < device; i++)
        if (!order[i]->err.code)
            engine_answer(g, order[i], gen, &ranking[i]);
    for (int32_t i = 0; i < n; i++)
        if (!queries[i]->err.code && !queries[i]->token_count)
            engine_answer(g, queries[i], gen, NULL);
    free(order);
    free(ranking);
    generation_unpin(gen);
}
