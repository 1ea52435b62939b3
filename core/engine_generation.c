/* engine_generation.c: sorted rows, the merge of a commit into them, and the pointer.
 *
 * A commit's changes are reduced to one final state per ID (the last change of an ID wins), sorted, and merged: between two changes whole
 * stretches of rows are copied. With 60,000 documents a commit costs about a millisecond, with a million some tens. */
#include "engine_generation.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct publisher {
    struct publisher_options o;
    pthread_mutex_t lock;
    struct generation *current;
};

/* ---- rows ---- */

static struct id_rows *rows_init(int32_t positions, int64_t room)
{
    struct id_rows *r = xcalloc(1, sizeof *r);
    atomic_init(&r->refs, 1);
    r->positions = positions;
    r->codes = xmalloc((size_t)room * (size_t)positions * sizeof *r->codes);
    r->number = xmalloc((size_t)room * sizeof *r->number);
    return r;
}

static void rows_release(struct id_rows *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->placer)
        placer_give_back(r->placer, r->placed);
    trie_free(r->trie);
    free(r->codes);
    free(r->number);
    free(r);
}

static int compare_codes(const uint32_t *a, const uint32_t *b, int32_t positions)
{
    for (int32_t t = 0; t < positions; t++)
        if (a[t] != b[t])
            return a[t] < b[t] ? -1 : 1;
    return 0;
}

static void rows_push(struct id_rows *r, const uint32_t *codes, int64_t number)
{
    memcpy(r->codes + r->count * r->positions, codes, (size_t)r->positions * sizeof *codes);
    r->number[r->count++] = number;
}

static void rows_copy(struct id_rows *to, const struct id_rows *from, int64_t begin, int64_t end)
{
    size_t n = (size_t)(end - begin), width = (size_t)from->positions;
    if (n == 0)
        return;
    memcpy(to->codes + (size_t)to->count * width, from->codes + (size_t)begin * width, n * width * sizeof *to->codes);
    memcpy(to->number + to->count, from->number + begin, n * sizeof *to->number);
    to->count += (int64_t)n;
}

/* First row from `begin` on whose codes are not below. */
static int64_t rows_find(const struct id_rows *r, int64_t begin, const uint32_t *codes)
{
    int64_t low = begin, high = r->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (compare_codes(r->codes + middle * r->positions, codes, r->positions) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void rows_finish(struct id_rows *r, uint32_t trained_suffixes)
{
    CHECK(r->count < UINT32_MAX);
    for (int64_t i = 1; i <= r->count; i++)
        r->fresh += r->codes[i * r->positions - 1] >= trained_suffixes;
    r->trie = trie_build_sorted(r->codes, NULL, (uint32_t)r->count, r->positions);
}

/* ---- changes ---- */

struct id_state { /* what one change makes of an ID */
    uint32_t codes[CATALOG_CODES_MAX]; /* zeros behind the last position, so that whole arrays compare */
    int64_t number, order;
    bool present;
};

static void trie_codes(const struct publisher *p, uint32_t *codes, bool trained)
{
    if (!trained)
        codes[p->o.positions - 1] += p->o.trained_suffixes;
}

static int by_codes_and_order(const void *x, const void *y)
{
    const struct id_state *a = x, *b = y;
    int c = compare_codes(a->codes, b->codes, CATALOG_CODES_MAX);
    return c ? c : (a->order > b->order) - (a->order < b->order);
}

/* One state per changed ID, in code order; the caller frees. */
static struct id_state *final_states(const struct publisher *p, const struct catalog_commit *commit, int64_t *count)
{
    struct id_state *s = xcalloc((size_t)commit->count + 1, sizeof *s);
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < commit->count; i++) {
        const struct catalog_change *c = &commit->changes[i];
        if (c->kind == CHANGE_CONTENT)
            continue;
        s[n] = (struct id_state){.number = c->number, .order = i, .present = c->kind == CHANGE_ADDED};
        memcpy(s[n].codes, c->codes, (size_t)p->o.positions * sizeof *c->codes);
        trie_codes(p, s[n++].codes, c->trained);
    }
    qsort(s, (size_t)n, sizeof *s, by_codes_and_order);
    for (int64_t i = 0; i < n; i++) {
        if (kept > 0 && compare_codes(s[kept - 1].codes, s[i].codes, CATALOG_CODES_MAX) == 0)
            kept--;
        s[kept++] = s[i];
    }
    *count = kept;
    return s;
}

static struct id_rows *rows_merge(const struct publisher *p, const struct id_rows *base, const struct id_state *s, int64_t n)
{
    struct id_rows *r = rows_init(base->positions, base->count + n + 1);
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t found = rows_find(base, at, s[i].codes);
        rows_copy(r, base, at, found);
        at = found;
        if (at < base->count && compare_codes(base->codes + at * base->positions, s[i].codes, base->positions) == 0)
            at++;
        if (s[i].present)
            rows_push(r, s[i].codes, s[i].number);
    }
    rows_copy(r, base, at, base->count);
    rows_finish(r, p->o.trained_suffixes);
    return r;
}

/* ---- the pointer ---- */

/* New rows are on the device before anybody can pin them. */
static int place(const struct publisher *p, struct id_rows *ids, struct err *e)
{
    ids->placer = p->o.placer;
    return ids->placer ? placer_place(ids->placer, ids->trie, &ids->placed, e) : 0;
}

static void publish(struct publisher *p, struct id_rows *ids, int64_t number, int64_t documents)
{
    struct generation *g = xcalloc(1, sizeof *g);
    atomic_init(&g->refs, 1);
    g->number = number;
    g->documents = documents;
    g->ids = ids;
    pthread_mutex_lock(&p->lock);
    struct generation *old = p->current;
    p->current = g;
    pthread_mutex_unlock(&p->lock);
    generation_unpin(old);
}

void publisher_commit(struct publisher *p, const struct catalog_commit *commit)
{
    if (!p->current) /* only this thread replaces it once it is there */
        return;
    struct id_rows *ids = p->current->ids;
    int64_t n;
    struct err later = {0}; /* without memory for the trie, the first search tries again and says so */
    struct id_state *states = final_states(p, commit, &n);
    if (n > 0)
        (void)place(p, ids = rows_merge(p, ids, states, n), &later);
    else
        atomic_fetch_add(&ids->refs, 1);
    free(states);
    publish(p, ids, commit->generation, commit->documents);
}

struct generation *generation_pin(struct publisher *p)
{
    pthread_mutex_lock(&p->lock);
    struct generation *g = p->current;
    atomic_fetch_add(&g->refs, 1);
    pthread_mutex_unlock(&p->lock);
    return g;
}

void generation_unpin(struct generation *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    rows_release(g->ids);
    free(g);
}

const struct trie_view *generation_placed(const struct generation *g, struct err *e)
{
    return placer_get(g->ids->placer, g->ids->trie, &g->ids->placed, e);
}

int64_t generation_bytes(const struct generation *g)
{
    const struct id_rows *r = g->ids;
    return r->count * (int64_t)(sizeof *r->number + (size_t)r->positions * sizeof *r->codes) + (int64_t)trie_bytes(r->trie);
}

/* ---- first load ---- */

struct loading {
    const struct publisher *p;
    struct id_rows *rows; /* by number */
    int64_t room;
};

static int load_id(void *state, const struct catalog_id *id, struct err *e)
{
    (void)e;
    struct loading *l = state;
    struct id_rows *r = l->rows;
    if (r->count == l->room) {
        l->room *= 2;
        r->codes = xrealloc(r->codes, (size_t)l->room, (size_t)r->positions * sizeof *r->codes);
        r->number = xrealloc(r->number, (size_t)l->room, sizeof *r->number);
    }
    uint32_t codes[CATALOG_CODES_MAX];
    memcpy(codes, id->codes, sizeof codes);
    trie_codes(l->p, codes, id->trained);
    rows_push(r, codes, id->number);
    return 0;
}

/* The trie's radix sort gives the order: leaf i of a trie over unsorted rows names the i-th row. */
static struct id_rows *rows_sorted(const struct publisher *p, const struct id_rows *from, struct err *e)
{
    if (from->count >= UINT32_MAX) {
        err_set(e, ERR_TOO_LARGE, "%lld documents; one catalogue may hold %u", (long long)from->count, UINT32_MAX - 1);
        return NULL;
    }
    struct trie *t = trie_build(from->codes, NULL, (uint32_t)from->count, from->positions, e);
    if (!t)
        return NULL;
    const uint32_t *order = trie_view_of(t)->leaf_doc;
    struct id_rows *r = rows_init(from->positions, from->count + 1);
    for (int64_t i = 0; i < from->count; i++)
        rows_push(r, from->codes + (int64_t)order[i] * from->positions, from->number[order[i]]);
    trie_free(t);
    rows_finish(r, p->o.trained_suffixes);
    return r;
}

static int load_rows(struct loading *l, struct catalog *c, int64_t *number, struct err *e)
{
    struct catalog_reader *reader = catalog_reader_take(c, e);
    if (!reader)
        return -1;
    struct catalog_counts counts = {0};
    int rc = catalog_begin(reader, e);
    if (rc == 0)
        rc = catalog_counts(reader, &counts, e);
    if (rc == 0)
        rc = catalog_each_id(reader, load_id, l, e);
    *number = counts.generation;
    catalog_reader_give(reader);
    return rc;
}

int publisher_load(struct publisher *p, struct catalog *c, struct err *e)
{
    struct loading l = {.p = p, .room = 1024};
    int64_t number;
    l.rows = rows_init(p->o.positions, l.room);
    int rc = load_rows(&l, c, &number, e);
    struct id_rows *sorted = rc == 0 ? rows_sorted(p, l.rows, e) : NULL;
    rc = sorted ? place(p, sorted, e) : -1;
    if (rc == 0)
        publish(p, sorted, number, sorted->count);
    else
        rows_release(sorted);
    rows_release(l.rows);
    return rc;
}

struct publisher *publisher_open(const struct publisher_options *o)
{
    struct publisher *p = xcalloc(1, sizeof *p);
    p->o = *o;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void publisher_close(struct publisher *p)
{
    if (!p)
        return;
    generation_unpin(p->current);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
