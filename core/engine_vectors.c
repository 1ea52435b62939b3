/* engine_vectors.c: what the indexer saw in the documents that came after training, at hand for ranking inside buckets.
 *
 * The store has the vectors; reading one costs some microseconds, and a popular bucket is read by every query. So vectors are kept in one block,
 * found by an open-addressing table on the document's number. An update or a deletion makes a vector stale: the writer notes the number, and the
 * device thread drops it before its next look (a vector that was read in between is read once more). When the block is full everything
 * is forgotten: the next queries fill it with what is in use. */
#include "engine_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 256 << 20, FETCH_MOST = 4096, NOTES_MOST = 1 << 16, NO_VECTOR = -1, UNREAD = -2 };

struct vectors {
    struct catalog *catalog;
    int32_t size;
    int64_t room, count, known; /* vectors kept and most of them; slots in use, those without a vector too */
    int64_t *slot_number; /* [slots] 0 = free; document numbers start at 1 */
    int32_t *slot_index;  /* into block, or NO_VECTOR, or UNREAD */
    int64_t slots;
    float *block;         /* [room, size], grown by doubling */
    int64_t block_room;
    pthread_mutex_t lock; /* guards the notes: numbers whose vectors changed; more than NOTES_MOST = all */
    int64_t *note;
    int32_t notes;
};

static void forget_all(struct vectors *v)
{
    memset(v->slot_number, 0, (size_t)v->slots * sizeof *v->slot_number);
    v->count = v->known = 0;
}

struct vectors *engine_vectors_open(struct catalog *c, int32_t size)
{
    struct vectors *v = xcalloc(1, sizeof *v);
    v->catalog = c;
    v->size = size;
    v->room = KEPT_BYTES / ((int64_t)size * (int64_t)sizeof(float));
    v->room = v->room < 2 * FETCH_MOST ? 2 * FETCH_MOST : v->room;
    for (v->slots = 1024; v->slots < 2 * v->room;)
        v->slots *= 2;
    v->slot_number = xcalloc((size_t)v->slots, sizeof *v->slot_number);
    v->slot_index = xcalloc((size_t)v->slots, sizeof *v->slot_index);
    v->note = xcalloc(NOTES_MOST, sizeof *v->note);
    pthread_mutex_init(&v->lock, NULL);
    return v;
}

void engine_vectors_close(struct vectors *v)
{
    if (!v)
        return;
    free(v->slot_number);
    free(v->slot_index);
    free(v->block);
    free(v->note);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

void engine_vectors_forget(struct vectors *v, int64_t number)
{
    pthread_mutex_lock(&v->lock);
    if (v->notes < NOTES_MOST)
        v->note[v->notes] = number;
    v->notes += v->notes <= NOTES_MOST;
    pthread_mutex_unlock(&v->lock);
}

static int64_t slot_of(const struct vectors *v, int64_t number)
{
    int64_t mask = v->slots - 1, s = (int64_t)(mix64(0, (uint64_t)number) & (uint64_t)mask);
    while (v->slot_number[s] && v->slot_number[s] != number)
        s = (s + 1) & mask;
    return s;
}

static void read_notes(struct vectors *v)
{
    pthread_mutex_lock(&v->lock);
    if (v->notes > NOTES_MOST)
        forget_all(v);
    for (int32_t i = 0; i < v->notes && i < NOTES_MOST; i++) {
        int64_t s = slot_of(v, v->note[i]);
        if (v->slot_number[s])
            v->slot_index[s] = UNREAD;
    }
    v->notes = 0;
    pthread_mutex_unlock(&v->lock);
}

static bool is_kept(const struct vectors *v, int64_t number)
{
    int64_t s = slot_of(v, number);
    return v->slot_number[s] == number && v->slot_index[s] != UNREAD;
}

static void keep(struct vectors *v, int64_t number, const float *vector)
{
    int64_t s = slot_of(v, number);
    if (v->count == v->block_room) {
        v->block_room = v->block_room ? 2 * v->block_room : 1024;
        v->block = xrealloc(v->block, (size_t)v->block_room, (size_t)v->size * sizeof(float));
    }
    v->known += v->slot_number[s] == 0;
    v->slot_number[s] = number;
    v->slot_index[s] = vector ? (int32_t)v->count : NO_VECTOR;
    if (vector)
        memcpy(v->block + v->count++ * v->size, vector, (size_t)v->size * sizeof(float));
}

/* An unreadable store leaves the documents without vectors: they are then ranked as equals, and the store reports itself elsewhere. */
static void read_some(struct vectors *v, struct catalog_reader *r, const int64_t *numbers, int32_t n)
{
    float *values = xmalloc((size_t)n * (size_t)v->size * sizeof *values);
    bool *have = xcalloc((size_t)n, sizeof *have);
    struct err e;
    if (catalog_vectors(r, numbers, n, v->size, values, have, &e) == 0)
        for (int32_t i = 0; i < n; i++)
            keep(v, numbers[i], have[i] ? values + (int64_t)i * v->size : NULL);
    free(values);
    free(have);
}

void engine_vectors_fetch(struct vectors *v, const int64_t *numbers, int32_t n)
{
    int32_t missing = 0;
    n = n < FETCH_MOST ? n : FETCH_MOST;
    read_notes(v);
    if (v->count + n > v->room || v->known + n > v->room)
        forget_all(v);
    int64_t *want = xmalloc(((size_t)n + 1) * sizeof *want);
    for (int32_t i = 0; i < n; i++)
        if (!is_kept(v, numbers[i]))
            want[missing++] = numbers[i];
    struct err e;
    struct catalog_reader *r = missing ? catalog_reader_take(v->catalog, &e) : NULL;
    if (r)
        read_some(v, r, want, missing);
    catalog_reader_give(r);
    free(want);
}

const float *engine_vectors_of(const struct vectors *v, int64_t number)
{
    int64_t s = slot_of(v, number);
    return v->slot_number[s] == number && v->slot_index[s] >= 0 ? v->block + (int64_t)v->slot_index[s] * v->size : NULL;
}
