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

static int by_item(const void *x, const void *y)
{
    const struct neighbours_hit *a = x, *b = y;
    return (a->item > b->item) - (a->item < b->item);
}

static int by_score(const void *x, const void *y)
{
    const struct neighbours_hit *a = x, *b = y;
    return a->score != b->score ? (a->score < b->score ? 1 : -1) : by_item(x, y);
}

static bool knows(const struct neighbours *n, int32_t item)
{
    return item >= 0 && item < n->count;
}

static bool holds(const int32_t *items, int32_t length, int32_t item)
{
    for (int32_t i = 0; i < length; i++)
        if (items[i] == item)
            return true;
    return false;
}

/* All pairs of the history with their weights. */
static struct neighbours_hit *pairs_of(const struct neighbours *n, const int32_t *history, int32_t length, int64_t *count)
{
    int64_t room = 0, at = 0;
    double weight = 1;
    for (int32_t i = 0; i < length; i++)
        room += knows(n, history[i]) ? n->row[history[i] + 1] - n->row[history[i]] : 0;
    struct neighbours_hit *all = xmalloc(((size_t)room + 1) * sizeof *all);
    for (int32_t i = length - 1; i >= 0; i--, weight *= n->decay)
        for (int64_t k = knows(n, history[i]) ? n->row[history[i]] : 1, end = knows(n, history[i]) ? n->row[history[i] + 1] : 0; k < end; k++)
            all[at++] = (struct neighbours_hit){n->other[k], weight * (double)n->similarity[k]};
    *count = at;
    return all;
}

int32_t neighbours_best(const struct neighbours *n, const int32_t *history, int32_t length, struct neighbours_hit *out, int32_t most)
{
    int64_t pairs, items = 0;
    struct neighbours_hit *all = pairs_of(n, history, length, &pairs);
    qsort(all, (size_t)pairs, sizeof *all, by_item);
    for (int64_t i = 0; i < pairs; i++) {
        if (items > 0 && all[items - 1].item == all[i].item)
            all[items - 1].score += all[i].score;
        else if (!holds(history, length, all[i].item))
            all[items++] = all[i];
    }
    qsort(all, (size_t)items, sizeof *all, by_score);
    int32_t kept = items < most ? (int32_t)items : most;
    memcpy(out, all, (size_t)kept * sizeof *out);
    free(all);
    return kept;
}

/* ---- the file ---- */

struct header {
    char magic[4];
    uint32_t version;
    int64_t count, pairs;
    double decay;
};
_Static_assert(sizeof(struct header) == 32, "the header has no holes");

static size_t file_size(int64_t count, int64_t pairs)
{
    return sizeof(struct header) + (size_t)count * sizeof(int32_t) + ((size_t)count + 1) * sizeof(int64_t) +
           (size_t)pairs * (sizeof(int32_t) + sizeof(float));
}

void neighbours_write(const struct neighbours *n, struct str *out)
{
    const struct header h = {{'S', 'I', 'N', 'B'}, 1, n->count, n->row[n->count], n->decay};
    str_append(out, &h, sizeof h);
    str_append(out, n->row, ((size_t)n->count + 1) * sizeof *n->row);
    str_append(out, n->popularity, (size_t)n->count * sizeof *n->popularity);
    str_append(out, n->other, (size_t)h.pairs * sizeof *n->other);
    str_append(out, n->similarity, (size_t)h.pairs * sizeof *n->similarity);
}

static int check_header(const struct header *h, size_t size, int32_t count, struct err *e)
{
    if (memcmp(h->magic, "SINB", 4) != 0 || h->version != 1)
        return err_set(e, ERR_DATA, "neighbours: is no table of neighbours of version 1");
    if (h->count != count)
        return err_set(e, ERR_DATA, "neighbours: of %lld items; the bundle has %d", (long long)h->count, count);
    if (h->pairs < 0 || (uint64_t)h->pairs > size || file_size(h->count, h->pairs) != size)
        return err_set(e, ERR_DATA, "neighbours: %zu bytes do not hold %lld pairs", size, (long long)h->pairs);
    if (!(h->decay >= 0 && h->decay <= 1))
        return err_set(e, ERR_DATA, "neighbours: decay %g; must be 0 to 1", h->decay);
    return 0;
}

static int check_rows(const struct neighbours *n, int64_t pairs, struct err *e)
{
    if (n->row[0] != 0 || n->row[n->count] != pairs)
        return err_set(e, ERR_DATA, "neighbours: rows begin at %lld and end at %lld of %lld pairs", (long long)n->row[0],
                       (long long)n->row[n->count], (long long)pairs);
    for (int32_t i = 0; i < n->count; i++)
        if (n->row[i] > n->row[i + 1] || n->row[i + 1] > pairs || n->popularity[i] < 0)
            return err_set(e, ERR_DATA, "neighbours: row %d ends at pair %lld, begins at %lld, popularity %d", i, (long long)n->row[i + 1],
                           (long long)n->row[i], n->popularity[i]);
    for (int32_t i = 0; i < n->count; i++)
        for (int64_t k = n->row[i]; k < n->row[i + 1]; k++)
            if (!knows(n, n->other[k]) || (k > n->row[i] && n->other[k] <= n->other[k - 1]) || !(n->similarity[k] >= 0) || isinf(n->similarity[k]))
                return err_set(e, ERR_DATA, "neighbours: row %d: item %d with similarity %g", i, n->other[k], (double)n->similarity[k]);
    return 0;
}

static void *take(const char **at, size_t bytes)
{
    void *y = xmalloc(bytes + 1);
    memcpy(y, *at, bytes);
    *at += bytes;
    return y;
}

struct neighbours *neighbours_read(const void *bytes, size_t size, int32_t count, struct err *e)
{
    struct header h;
    if (size < sizeof h) {
        err_set(e, ERR_DATA, "neighbours: %zu bytes; the header alone has %zu", size, sizeof h);
        return NULL;
    }
    memcpy(&h, bytes, sizeof h);
    if (check_header(&h, size, count, e) != 0)
        return NULL;
    const char *at = (const char *)bytes + sizeof h;
    struct neighbours *n = xcalloc(1, sizeof *n);
    n->count = count;
    n->decay = h.decay;
    n->row = take(&at, ((size_t)count + 1) * sizeof *n->row);
    n->popularity = take(&at, (size_t)count * sizeof *n->popularity);
    n->other = take(&at, (size_t)h.pairs * sizeof *n->other);
    n->similarity = take(&at, (size_t)h.pairs * sizeof *n->similarity);
    if (check_rows(n, h.pairs, e) == 0)
        return n;
    neighbours_free(n);
    return NULL;
}

size_t neighbours_bytes(const struct neighbours *n)
{
    return file_size(n->count, n->row[n->count]);
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
