/* engine_newcomers.c: documents that came after training, given a place beside the ranking of the beam.
 *
 * The beam ranks what the task model has learned; a newcomer it can only reach through its bucket (retrieve/bucket.h), and it never scores above its
 * prefix, which the model has seldom been asked for. So where a ranking may know of words, newcomers are judged by them, too. BM25 does not know
 * which documents were trained, so its rank among all documents says how good a newcomer is beside the trained ones; nothing is fitted.
 *
 * Hybrid search fuses beam and words: a newcomer lacks the beam's term and gets the mean term of its neighbours in the words' list (fuse_impute). A
 * recommendation has no words of its own; those are the newest entry's, and the r-th best document by them, if it is a newcomer, comes right
 * behind the r-th trained one of the beam, with its score (further down than the beam goes, ln P falls with the rank as 1 / rank does).
 * `mode` generative stays the beam alone. */
#include "engine_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct place {
    struct ranked hit;
    int32_t by_words, order; /* rank by words, where it stands by them; place in the beam's list */
};
struct places {
    struct place *at;
    int32_t count, trained;
};

static int compare_places(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    if (a->hit.score != b->hit.score)
        return a->hit.score > b->hit.score ? -1 : 1;
    if (a->hit.trained != b->hit.trained)
        return a->hit.trained ? -1 : 1;
    if (a->by_words != b->by_words)
        return (a->by_words > b->by_words) - (a->by_words < b->by_words);
    return (a->order > b->order) - (a->order < b->order);
}

static struct place *find_place(struct places *p, int64_t number)
{
    for (int32_t i = 0; i < p->count; i++)
        if (p->at[i].hit.number == number)
            return &p->at[i];
    return NULL;
}

static void take_beam(struct places *p, const struct ranking *list)
{
    for (int32_t i = 0; i < list->count; i++) {
        p->trained += list->hit[i].trained;
        p->at[p->count] = (struct place){list->hit[i], INT32_MAX, p->count};
        p->count++;
    }
}

/* ln P at place r of the trained ones, which are the list's in order. */
static double score_at(const struct ranking *list, int32_t trained, int32_t r)
{
    int32_t seen = 0;
    for (int32_t i = 0; i < list->count; i++)
        if (list->hit[i].trained && ++seen == (r < trained ? r : trained))
            return list->hit[i].score - (r > trained ? log((double)r / trained) : 0);
    return NAN;
}

static void take_newcomer(struct places *p, const struct ranking *list, const struct catalog_hit *hit, int32_t rank)
{
    struct place *at = find_place(p, hit->number);
    double score = score_at(list, p->trained, rank);
    if (at && at->hit.score >= score)
        return;
    if (!at) {
        at = &p->at[p->count];
        *at = (struct place){.order = p->count++, .hit = {.number = hit->number, .log_prefix = NAN, .log_share = NAN}};
    }
    at->by_words = rank;
    at->hit.score = score;
    at->hit.lexical_rank = rank;
    at->hit.lexical_score = hit->score;
}

static bool is_trained_hit(const struct ranking *list, int64_t number)
{
    for (int32_t i = 0; i < list->count; i++)
        if (list->hit[i].number == number)
            return list->hit[i].trained;
    return false;
}

int engine_find_newcomers(struct catalog_reader *r, struct arena *a, const struct catalog_hit *words, int32_t n, const struct ranking *list,
                          bool *known, struct err *e)
{
    int32_t asked = 0;
    int64_t *numbers = arena_alloc(a, ((size_t)n + 1) * sizeof *numbers);
    int32_t *place = arena_alloc(a, ((size_t)n + 1) * sizeof *place);
    struct catalog_row *rows = arena_alloc(a, ((size_t)n + 1) * sizeof *rows);
    for (int32_t i = 0; i < n; i++) {
        known[i] = true;
        if (!is_trained_hit(list, words[i].number)) {
            numbers[asked] = words[i].number;
            place[asked++] = i;
        }
    }
    if (asked && catalog_get_numbers(r, numbers, asked, a, rows, e) < 0)
        return -1;
    for (int32_t i = 0; i < asked; i++)
        known[place[i]] = !rows[i].number || rows[i].trained;
    return 0;
}

int engine_place_newcomers(struct catalog_reader *r, struct arena *a, const struct catalog_hit *words, int32_t n, struct ranking *list,
                           struct err *e)
{
    struct places p = {.at = arena_alloc(a, ((size_t)list->count + (size_t)n + 1) * sizeof *p.at)};
    bool *known = arena_alloc(a, ((size_t)n + 1) * sizeof *known);
    if (engine_find_newcomers(r, a, words, n, list, known, e) < 0)
        return -1;
    take_beam(&p, list);
    for (int32_t i = 0; i < n && p.trained > 0; i++)
        if (!known[i])
            take_newcomer(&p, list, &words[i], i + 1);
    qsort(p.at, (size_t)p.count, sizeof *p.at, compare_places);
    list->hit = arena_alloc(a, ((size_t)p.count + 1) * sizeof *list->hit);
    list->count = p.count;
    for (int32_t i = 0; i < p.count; i++)
        list->hit[i] = p.at[i].hit;
    return 0;
}
