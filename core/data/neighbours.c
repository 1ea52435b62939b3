/* neighbours.c: see neighbours.h.
 *
 * Pairs (i, j) are counted row by row: places of every item in the training sequences are listed first, then row i adds up the windows after
 * each of its places in one dense accumulator and is stored sparse, in CSR form. So memory is the pairs that occur, and no hash table is needed;
 * every sum has one fixed order. */
#include "neighbours.h"
#include "../base/mem.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct neighbours {
    int32_t count;
    double decay;
    int32_t *popularity; /* [count] */
    int64_t *row;        /* [count + 1] */
    int32_t *other;      /* [row[count]] item j of a pair */
    float *similarity;
};

struct neighbours_options neighbours_defaults(void)
{
    return (struct neighbours_options){.window = 10, .x = 0.5, .y = 0, .decay = 0.5};
}

/* Where each item occurs: places place[first[i] .. first[i + 1]), as index into input items, with the end of the user's training part. */
struct places {
    int64_t *first, *place, *end;
};

static int64_t training_end(const struct neighbours_input *in, int32_t user)
{
    int64_t end = in->offsets[user + 1] - in->held_out;
    return end > in->offsets[user] ? end : in->offsets[user];
}

static void places_init(struct places *p, const struct neighbours_input *in, const int32_t *popularity)
{
    int64_t total = 0, *next = xmalloc(((size_t)in->count + 1) * sizeof *next);
    p->first = xmalloc(((size_t)in->count + 1) * sizeof *p->first);
    for (int32_t i = 0; i < in->count; i++) {
        p->first[i] = next[i] = total;
        total += popularity[i];
    }
    p->first[in->count] = total;
    p->place = xmalloc(((size_t)total + 1) * sizeof *p->place);
    p->end = xmalloc(((size_t)total + 1) * sizeof *p->end);
    for (int32_t u = 0; u < in->users; u++) {
        int64_t end = training_end(in, u);
        for (int64_t at = in->offsets[u]; at < end; at++) {
            int64_t slot = next[in->items[at]]++;
            p->place[slot] = at;
            p->end[slot] = end;
        }
    }
    free(next);
}

static void places_free(struct places *p)
{
    free(p->first);
    free(p->place);
    free(p->end);
}

struct accumulator {
    double *sum;      /* [count], 0 where untouched */
    int32_t *touched; /* [count] */
    int32_t n;
};

static void add_windows(struct accumulator *a, const struct neighbours_input *in, const struct places *p, int32_t item, int32_t window)
{
    a->n = 0;
    for (int64_t s = p->first[item]; s < p->first[item + 1]; s++)
        for (int32_t d = 1; d <= window && p->place[s] + d < p->end[s]; d++) {
            int32_t j = in->items[p->place[s] + d];
            if (a->sum[j] == 0)
                a->touched[a->n++] = j;
            a->sum[j] += 1.0 / d;
        }
}

static int ascending(const void *x, const void *y)
{
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return (a > b) - (a < b);
}

/* Moves the accumulator into row `item` and clears it. */
static void store_row(struct neighbours *n, struct accumulator *a, int32_t item, int64_t *room, const struct neighbours_options *o)
{
    int64_t at = n->row[item];
    if (at + a->n > *room) {
        *room = (at + a->n) * 2;
        n->other = xrealloc(n->other, (size_t)*room, sizeof *n->other);
        n->similarity = xrealloc(n->similarity, (size_t)*room, sizeof *n->similarity);
    }
    if (a->n > 1)
        qsort(a->touched, (size_t)a->n, sizeof *a->touched, ascending);
    for (int32_t k = 0; k < a->n; k++, at++) {
        int32_t j = a->touched[k];
        n->other[at] = j;
        n->similarity[at] = (float)(a->sum[j] / (pow(n->popularity[item], o->x) * pow(n->popularity[j], o->y)));
        a->sum[j] = 0;
    }
    n->row[item + 1] = at;
}

struct neighbours *neighbours_build(const struct neighbours_input *in, const struct neighbours_options *o)
{
    struct neighbours *n = xcalloc(1, sizeof *n);
    struct accumulator a = {xcalloc((size_t)in->count + 1, sizeof *a.sum), xcalloc((size_t)in->count + 1, sizeof *a.touched), 0};
    struct places p;
    int64_t room = 0;
    n->count = in->count;
    n->decay = o->decay;
    n->popularity = xcalloc((size_t)in->count + 1, sizeof *n->popularity);
    n->row = xcalloc((size_t)in->count + 1, sizeof *n->row);
    for (int32_t u = 0; u < in->users; u++)
        for (int64_t at = in->offsets[u]; at < training_end(in, u); at++)
            n->popularity[in->items[at]]++;
    places_init(&p, in, n->popularity);
    for (int32_t i = 0; i < in->count; i++) {
        add_windows(&a, in, &p, i, o->window);
        store_row(n, &a, i, &room, o);
    }
    places_free(&p);
    free(a.sum);
    free(a.touched);
    return n;
}

void neighbours_free(struct neighbours *n)
{
    if (!n)
        return;
    free(n->popularity);
    free(n->row);
    free(n->other);
    free(n->similarity);
    free(n);
}

void neighbours_score(const struct neighbours *n, const int32_t *history, int32_t length, double *scores)
{
    memset(scores, 0, (size_t)n->count * sizeof *scores);
    double weight = 1;
    for (int32_t i = length - 1; i >= 0 && weight > 0; i--, weight *= n->decay)
        for (int64_t k = n->row[history[i]]; k < n->row[history[i] + 1]; k++)
            scores[n->other[k]] += weight * (double)n->similarity[k];
}

const int32_t *neighbours_popularity(const struct neighbours *n)
{
    return n->popularity;
}

/* ---- ranking ---- */

static bool before(const struct neighbours_ranking *r, int32_t item, int32_t target)
{
    if (r->scores[item] != r->scores[target])
        return r->scores[item] > r->scores[target];
    return r->id_rank[item] < r->id_rank[target];
}

static bool first_mention(const int32_t *items, int32_t at)
{
    for (int32_t i = 0; i < at; i++)
        if (items[i] == items[at])
            return false;
    return true;
}

int32_t neighbours_rank(const struct neighbours_ranking *r, int32_t target)
{
    int32_t rank = 1;
    for (int32_t i = 0; i < r->count; i++)
        rank += before(r, i, target);
    for (int32_t i = 0; i < r->left_out_count; i++)
        if (r->left_out[i] != target && before(r, r->left_out[i], target) && first_mention(r->left_out, i))
            rank--;
    return rank;
}

struct named {
    const char *id;
    int32_t item;
};

static int descending_ids(const void *x, const void *y)
{
    const struct named *a = x, *b = y;
    return strcmp(b->id, a->id);
}

void neighbours_id_ranks(int32_t *id_rank, const char *const *ids, int32_t count)
{
    struct named *named = xmalloc(((size_t)count + 1) * sizeof *named);
    for (int32_t i = 0; i < count; i++)
        named[i] = (struct named){ids[i], i};
    if (count > 1)
        qsort(named, (size_t)count, sizeof *named, descending_ids);
    for (int32_t i = 0; i < count; i++)
        id_rank[named[i].item] = i;
    free(named);
}
