/* engine_answer.c: from rankings to hits.
 *
 * The generative ranking is there; words are looked up here, on the caller's thread. Hybrid is the two lists' reciprocal ranks. Documents are
 * fetched from the latest commit, which may be newer than the pinned generation: one that was deleted meanwhile is left out and the next one takes
 * its place. */
#include "engine_index.h"
#include "retrieve/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct answer {
    struct engine *g;
    struct engine_query *q;
    const struct generation *gen;
    struct catalog_reader *reader;
    struct ranking list; /* what the window is cut from */
};

/* ---- lists ---- */

bool engine_is_excluded(const struct engine_plan *p, int64_t number)
{
    int32_t low = 0, high = p->excluded_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (p->excluded[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->excluded_count && p->excluded[low] == number;
}

static void generative_list(struct answer *a, const struct ranking *generative)
{
    a->list = (struct ranking){.hit = generative->hit};
    for (int32_t i = 0; i < generative->count; i++) {
        struct ranked hit = generative->hit[i];
        if (engine_is_excluded(a->q->plan, hit.number))
            continue;
        hit.generative_rank = a->list.count + 1;
        hit.generative_score = hit.score;
        a->list.hit[a->list.count++] = hit;
    }
}

static int words_of(const struct answer *a, struct catalog_hit *hits, int32_t limit, int32_t *n, struct err *e)
{
    const char *text = a->q->text ? a->q->text : "";
    const struct engine_plan *p = a->q->plan;
    if (p->best && limit <= WORDS_MOST) {
        *n = p->word_count < limit ? p->word_count : limit;
        memcpy(hits, p->best, (size_t)*n * sizeof *hits);
        return 0;
    }
    return catalog_search(a->reader, text, strlen(text), limit, hits, n, e);
}

static int lexical_list(struct answer *a, struct err *e)
{
    int32_t n = 0, limit = a->q->offset + a->q->limit;
    struct catalog_hit *hits = arena_alloc(a->q->arena, ((size_t)limit + 1) * sizeof *hits);
    if (words_of(a, hits, limit, &n, e) < 0)
        return -1;
    a->list = (struct ranking){.hit = arena_alloc(a->q->arena, ((size_t)n + 1) * sizeof *a->list.hit), .count = n};
    for (int32_t i = 0; i < n; i++)
        a->list.hit[i] = (struct ranked){.number = hits[i].number, .score = hits[i].score, .lexical_rank = i + 1,
                                         .lexical_score = hits[i].score, .log_prefix = NAN, .log_share = NAN};
    a->q->exhaustive = n < limit;
    return 0;
}

/* The fused hit with all that its lists know. */
static struct ranked fused(const struct ranking *generative, const struct catalog_hit *lexical, const struct fuse_hit *f)
{
    struct ranked r = {.number = f->document, .log_prefix = NAN, .log_share = NAN};
    if (f->rank[0])
        r = generative->hit[f->rank[0] - 1];
    r.score = f->score;
    r.lexical_rank = f->rank[1];
    r.lexical_score = f->rank[1] ? lexical[f->rank[1] - 1].score : 0;
    return r;
}

static int hybrid_list(struct answer *a, const struct ranking *generative, struct err *e)
{
    struct arena *arena = a->q->arena;
    int32_t depth = a->q->beam, words = 0;
    generative_list(a, generative);
    struct catalog_hit *lexical = arena_alloc(arena, (size_t)depth * sizeof *lexical);
    if (words_of(a, lexical, depth, &words, e) < 0)
        return -1;
    bool *known = arena_alloc(arena, ((size_t)words + 1) * sizeof *known);
    if (a->gen->ids->fresh && engine_find_newcomers(a->reader, arena, lexical, words, &a->list, known, e) < 0)
        return -1;
    struct ranking first = a->list;
    int32_t room = first.count + words;
    int64_t *numbers = arena_alloc(arena, ((size_t)room + 1) * sizeof *numbers);
    for (int32_t i = 0; i < room; i++)
        numbers[i] = i < first.count ? first.hit[i].number : lexical[i - first.count].number;
    const struct fuse_list lists[] = {{numbers, first.count, a->g->task[a->q->task].beam_weight, NULL},
                                      {numbers + first.count, words, 1, NULL}};
    struct fuse_hit *hits = arena_alloc(arena, ((size_t)room + 1) * sizeof *hits);
    int32_t n = fuse_lists(lists, 2, hits, room);
    if (a->gen->ids->fresh)
        fuse_impute(hits, n, known, words, lists[0].weight);
    a->list = (struct ranking){.hit = arena_alloc(arena, ((size_t)n + 1) * sizeof *a->list.hit), .count = n};
    for (int32_t i = 0; i < n; i++)
        a->list.hit[i] = fused(&first, lexical, &hits[i]);
    a->q->exhaustive &= words < depth;
    return 0;
}

/* Most frequent items of the training histories; without any, the newest documents. */
static int popular_list(struct answer *a, struct err *e)
{
    struct engine_query *q = a->q;
    int32_t n = 0, limit = q->offset + q->limit + q->plan->excluded_count;
    int64_t *numbers = arena_alloc(q->arena, ((size_t)limit + 1) * sizeof *numbers);
    if (catalog_popular(a->reader, limit, numbers, &n, e) < 0 || (n == 0 && catalog_newest(a->reader, limit, numbers, &n, e) < 0))
        return -1;
    q->fallback_used = true;
    a->list.hit = arena_alloc(q->arena, ((size_t)n + 1) * sizeof *a->list.hit);
    for (int32_t i = 0; i < n; i++)
        if (!engine_is_excluded(q->plan, numbers[i])) {
            struct ranked *hit = &a->list.hit[a->list.count++];
            *hit = (struct ranked){.number = numbers[i], .score = 1.0 / (FUSE_CONSTANT + a->list.count), .log_prefix = NAN, .log_share = NAN};
        }
    return 0;
}

/* ---- hits ---- */

static void fill_hit(const struct answer *a, const struct ranked *from, const struct catalog_row *row, struct engine_hit *out)
{
    int32_t positions = a->g->layout.positions;
    *out = (struct engine_hit){.rank = a->q->offset + a->q->hit_count + 1, .id = row->document.id, .score = from->score,
                               .title = row->document.title, .text = row->document.text, .attributes = row->document.attributes,
                               .generative_rank = from->generative_rank, .lexical_rank = from->lexical_rank,
                               .generative_score = from->generative_score, .lexical_score = from->lexical_score,
                               .neighbours_rank = from->neighbours_rank, .neighbours_score = from->neighbours_score,
                               .suffix_trained = from->generative_rank ? from->trained : row->trained, .log_prefix = from->log_prefix,
                               .log_share = from->log_share};
    out->semantic_id = engine_id_text(a->q->arena, from->generative_rank ? from->codes : row->codes, positions);
}

/* The window, filled from `offset` on with documents that are still there. */
static int fetch_hits(struct answer *a, struct err *e)
{
    struct engine_query *q = a->q;
    int64_t *numbers = arena_alloc(q->arena, (size_t)q->limit * sizeof *numbers);
    struct catalog_row *rows = arena_alloc(q->arena, (size_t)q->limit * sizeof *rows);
    q->hits = arena_alloc(q->arena, (size_t)q->limit * sizeof *q->hits);
    for (int32_t at = q->offset; at < a->list.count && q->hit_count < q->limit;) {
        int32_t n = q->limit - q->hit_count;
        n = n < a->list.count - at ? n : a->list.count - at;
        for (int32_t i = 0; i < n; i++)
            numbers[i] = a->list.hit[at + i].number;
        if (catalog_get_numbers(a->reader, numbers, n, q->arena, rows, e) < 0)
            return -1;
        for (int32_t i = 0; i < n; i++)
            if (rows[i].number) {
                fill_hit(a, &a->list.hit[at + i], &rows[i], &q->hits[q->hit_count]);
                q->hit_count++;
            }
        at += n;
    }
    return 0;
}

/* What the newest entry of the history is called: the words that newcomers are compared by. */
static const char *newest_words(struct answer *a, struct err *e)
{
    const struct engine_plan *p = a->q->plan;
    const struct plan_entry *newest = &p->entry[p->entries - 1];
    struct catalog_row row;
    if (!newest->id)
        return newest->text;
    if (catalog_get_numbers(a->reader, &newest->number, 1, a->q->arena, &row, e) < 0)
        return NULL;
    const char *words = row.document.title ? row.document.title : row.document.text;
    return words ? words : "";
}

static int place_by_newest(struct answer *a, struct err *e)
{
    struct engine_query *q = a->q;
    const char *text = newest_words(a, e);
    int32_t depth = q->beam + q->plan->excluded_count, found = 0, n = 0;
    struct catalog_hit *hits = arena_alloc(q->arena, (size_t)depth * sizeof *hits);
    if (!text || catalog_search(a->reader, text, strlen(text), depth, hits, &found, e) < 0)
        return -1;
    for (int32_t i = 0; i < found; i++)
        if (!engine_is_excluded(q->plan, hits[i].number))
            hits[n++] = hits[i];
    return engine_place_newcomers(a->reader, q->arena, hits, n, &a->list, e);
}

/* By neighbours alone, or mixed with the beam. What has neither is answered with what is popular. */
static int recommend_list(struct answer *a, const struct ranking *generative, struct err *e)
{
    struct engine_query *q = a->q;
    struct ranking others = {0};
    if (a->g->neighbours && q->mode != MODE_GENERATIVE && q->plan->entries)
        engine_neighbours_list(a->g, a->gen, q, &others);
    if (q->mode == MODE_NEIGHBOURS)
        a->list = others;
    else if (generative)
        generative_list(a, generative);
    if (q->mode == MODE_HYBRID && generative && a->g->neighbours)
        engine_neighbours_mix(a->g, q, &others, &a->list);
    if (q->mode == MODE_HYBRID && generative && a->gen->ids->fresh && place_by_newest(a, e) < 0)
        return -1;
    return generative || a->list.count ? 0 : popular_list(a, e);
}

static int make_list(struct answer *a, const struct ranking *generative, struct err *e)
{
    if (a->q->task == TASK_RECOMMEND)
        return recommend_list(a, generative, e);
    if (!generative)
        return lexical_list(a, e);
    if (a->q->mode == MODE_HYBRID)
        return hybrid_list(a, generative, e);
    generative_list(a, generative);
    return 0;
}

void engine_answer(struct engine *g, struct engine_query *q, const struct generation *gen, const struct ranking *generative)
{
    struct answer a = {.g = g, .q = q, .gen = gen};
    double began = clock_s();
    q->hit_count = 0;
    a.reader = catalog_reader_take(g->catalog, &q->err);
    if (a.reader && make_list(&a, generative, &q->err) == 0)
        fetch_hits(&a, &q->err);
    catalog_reader_give(a.reader);
    q->store_ms += 1e3 * (clock_s() - began);
}
