/* engine_placed.c: see engine_placed.h. */
#include "engine_placed.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

struct placer {
    const struct backend *be;
    struct device *device;
    pthread_mutex_t lock;
    const struct trie_view **spare; /* given back */
    size_t spares, room;
};

struct placer *placer_open(const struct backend *be, struct device *d)
{
    struct placer *p = xcalloc(1, sizeof *p);
    p->be = be;
    p->device = d;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

static const struct trie_view *take_spare(struct placer *p)
{
    pthread_mutex_lock(&p->lock);
    const struct trie_view *v = p->spares > 0 ? p->spare[--p->spares] : NULL;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void release_spares(void *state)
{
    struct placer *p = state;
    for (const struct trie_view *v; (v = take_spare(p));)
        trie_release(p->be, v);
}

void placer_close(struct placer *p)
{
    if (!p)
        return;
    if (p->spares > 0)
        device_call(p->device, release_spares, p);
    pthread_mutex_destroy(&p->lock);
    free(p->spare);
    free(p);
}

const struct trie_view *placer_get(struct placer *p, const struct trie *t, const struct trie_view **slot, struct err *e)
{
    if (*slot)
        return *slot;
    const struct trie_view *old = take_spare(p);
    release_spares(p);
    return *slot = trie_upload(p->be, t, old, e);
}

struct placing {
    struct placer *p;
    const struct trie *t;
    const struct trie_view **slot;
    struct err *e;
    int rc;
};

static void place(void *state)
{
    struct placing *c = state;
    c->rc = placer_get(c->p, c->t, c->slot, c->e) ? 0 : -1;
}

int placer_place(struct placer *p, const struct trie *t, const struct trie_view **slot, struct err *e)
{
    struct placing c = {.p = p, .t = t, .slot = slot, .e = e};
    if (p->be->has_host_memory)
        place(&c);
    else
        device_call(p->device, place, &c);
    return c.rc;
}

void placer_give_back(struct placer *p, const struct trie_view *v)
{
    if (!v || p->be->has_host_memory)
        return;
    pthread_mutex_lock(&p->lock);
    if (p->spares == p->room)
        p->spare = xrealloc((void *)p->spare, p->room = 2 * p->room + 4, sizeof *p->spare);
    p->spare[p->spares++] = v;
    pthread_mutex_unlock(&p->lock);
}
