/* searcher.c: see searcher.h.
 *
 * Work space and beam memory exist once: a device runs one batch after another in the order of the calls, so the next one may be written
 * and queued while the last one still runs. Only results exist for each seat, in twins of one beam; they land in host memory on their own.
 *
 * What a recording freezes is what the host tells the ops: counts (the shape), addresses (work space, beam memory, the trie's view: all
 * made once) and how large a trie is, after which a beam step divides its work. So ops hear powers of two of a trie's nodes, and a
 * recording made for others is dropped when its turn comes. What changes from batch to batch lies in device memory: tokens, offsets, the
 * number of live requests, the view with the true sizes. */
#include "searcher.h"
#include "../base/mem.h"
#include "../base/run.h"

#include <pthread.h>
#include <string.h>

enum { SHAPES_MOST = 512, TOKENS_LEAST = 16, NODES_LEAST = 1024 };
static const double warm_s = 5;

struct shape {
    int32_t requests, tokens, width;
    bool renormalise, keep_states;
};

struct entry {
    struct shape shape;
    struct recording *recording;
    size_t bytes;
    int64_t used;       /* order of the last use */
    int64_t sizes;      /* of struct searcher, when it was recorded */
    bool seen, refused; /* it ran once; it cannot be recorded */
};

struct seat {
    struct beam *beam;
    struct beam_search search;
    double encoded_s;
    bool taken;
};

struct searcher {
    const struct backend *be;
    struct t5 *model;
    struct searcher_limits limits;
    struct t5_work *work;
    struct seat seat[SEARCHER_SEATS];
    pthread_mutex_t lock; /* of seat[].taken */
    pthread_cond_t given;
    int32_t *tokens, *offsets; /* of a padded batch */
    struct trie_view view, told, *resident; /* view lies in `resident`, device memory (NULL where has_host_memory); told: what ops hear */
    int64_t sizes;                          /* how often those of `told` have changed */
    struct entry *entry;
    int32_t entries;
    int64_t uses;
    struct searcher_counts counts;
};

/* ---- open, close ---- */

static bool records(const struct searcher *s)
{
    return s->be->record_begin && s->limits.recordings > 0;
}

static int open_parts(struct searcher *s, const struct code_layout *layout, struct err *e)
{
    const struct searcher_limits *l = &s->limits;
    const struct t5_limits work = {.encoder_tokens = l->tokens, .rows = l->beam.requests, .beam_rows = l->beam.rows,
                                   .positions = layout->positions};
    s->work = t5_work_init(s->model, &work, e);
    s->seat[0].beam = s->work ? beam_init(s->model, layout, &l->beam, e) : NULL;
    for (int32_t i = 1; i < SEARCHER_SEATS && s->seat[i - 1].beam; i++)
        s->seat[i].beam = beam_twin(s->seat[0].beam, e);
    if (!s->seat[SEARCHER_SEATS - 1].beam)
        return -1;
    if (!s->be->has_host_memory && !(s->resident = s->be->alloc(sizeof *s->resident)))
        return err_set(e, ERR_OS, "no memory on the device for a search");
    return 0;
}

struct searcher *searcher_init(struct t5 *m, const struct code_layout *layout, const struct searcher_limits *l, struct err *e)
{
    struct searcher *s = xcalloc(1, sizeof *s);
    s->be = t5_backend(m);
    s->model = m;
    s->limits = *l;
    if (s->limits.beam.rows <= 0)
        s->limits.beam.rows = l->beam.requests * l->beam.width;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->given, NULL);
    s->tokens = xcalloc((size_t)l->tokens, sizeof *s->tokens);
    s->offsets = xcalloc((size_t)l->beam.requests + 1, sizeof *s->offsets);
    s->entry = xcalloc(SHAPES_MOST, sizeof *s->entry);
    if (open_parts(s, layout, e) == 0)
        return s;
    searcher_free(s);
    return NULL;
}

void searcher_free(struct searcher *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < s->entries; i++)
        if (s->entry[i].recording)
            s->be->record_free(s->entry[i].recording);
    for (int32_t i = 0; i < SEARCHER_SEATS; i++)
        beam_free(s->seat[i].beam);
    t5_work_free(s->work);
    if (s->resident)
        s->be->release(s->resident);
    pthread_cond_destroy(&s->given);
    pthread_mutex_destroy(&s->lock);
    free(s->tokens);
    free(s->offsets);
    free(s->entry);
    free(s);
}

/* ---- seats ---- */

static int32_t free_seat(const struct searcher *s)
{
    for (int32_t i = 0; i < SEARCHER_SEATS; i++)
        if (!s->seat[i].taken)
            return i;
    return -1;
}

int32_t searcher_take(struct searcher *s, bool wait)
{
    pthread_mutex_lock(&s->lock);
    int32_t seat = free_seat(s);
    for (; seat < 0 && wait; seat = free_seat(s))
        pthread_cond_wait(&s->given, &s->lock);
    if (seat >= 0)
        s->seat[seat].taken = true;
    pthread_mutex_unlock(&s->lock);
    return seat;
}

void searcher_give(struct searcher *s, int32_t seat)
{
    pthread_mutex_lock(&s->lock);
    s->seat[seat].taken = false;
    pthread_cond_signal(&s->given);
    pthread_mutex_unlock(&s->lock);
}

/* ---- shapes ---- */

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* 16, 24, 32, 48, 64, 96, ... */
static int32_t tokens_for(const struct searcher *s, int32_t tokens)
{
    int32_t size = TOKENS_LEAST;
    while (size < tokens && size + size / 2 < tokens)
        size *= 2;
    return least(size < tokens ? size + size / 2 : size, s->limits.tokens);
}

/* A power of two, unless the beams of so many have no room. */
static int32_t requests_for(const struct searcher *s, int32_t requests, int32_t width)
{
    int32_t size = 1;
    while (size < requests)
        size *= 2;
    return least(least(size, s->limits.beam.requests), s->limits.beam.rows / width);
}

static struct shape shape_of(const struct searcher *s, const struct t5_batch *b, const struct beam_search *q)
{
    struct shape p = {b->count, b->offsets[b->count], q->width, q->renormalise, q->keep_states};
    if (!records(s))
        return p;
    p.requests = requests_for(s, p.requests, p.width);
    p.tokens = tokens_for(s, p.tokens);
    return p;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->requests == b->requests && a->tokens == b->tokens && a->width == b->width && a->renormalise == b->renormalise &&
           a->keep_states == b->keep_states;
}

static void drop(struct searcher *s, struct entry *r)
{
    if (!r->recording)
        return;
    s->be->record_free(r->recording);
    r->recording = NULL;
    s->counts.bytes -= r->bytes;
    s->counts.dropped++;
}

/* The one that has not been used for longest; recorded: among those that are. */
static struct entry *oldest(struct searcher *s, bool recorded)
{
    struct entry *found = NULL;
    for (struct entry *r = s->entry; r < s->entry + s->entries; r++)
        if ((r->recording || !recorded) && (!found || r->used < found->used))
            found = r;
    return found;
}

static struct entry *entry_of(struct searcher *s, const struct shape *p)
{
    struct entry *r = s->entry;
    while (r < s->entry + s->entries && !same_shape(&r->shape, p))
        r++;
    if (r == s->entry + SHAPES_MOST) {
        r = oldest(s, false);
        drop(s, r);
        *r = (struct entry){.shape = *p};
    } else if (r == s->entry + s->entries) {
        s->entries++;
        *r = (struct entry){.shape = *p};
    }
    r->used = ++s->uses;
    return r;
}

/* ---- one search ---- */

/* Requests behind the last have no tokens, tokens behind the last no request. */
static void load_batch(struct searcher *s, struct seat *at, const struct t5_batch *b, const struct shape *p)
{
    int32_t total = b->offsets[b->count];
    CHECK(b->count <= s->limits.beam.requests && total <= s->limits.tokens);
    if (!records(s)) {
        t5_encode_load(s->model, s->work, b, total, 0);
    } else {
        memcpy(s->tokens, b->tokens, (size_t)total * sizeof *s->tokens);
        memset(s->tokens + total, 0, (size_t)(p->tokens - total) * sizeof *s->tokens);
        for (int32_t r = 0; r <= p->requests; r++)
            s->offsets[r] = b->offsets[least(r, b->count)];
        const struct t5_batch padded = {p->requests, s->tokens, s->offsets};
        t5_encode_load(s->model, s->work, &padded, p->tokens, least(p->tokens, s->limits.longest));
    }
    beam_load(at->beam, s->work, &at->search, b->count);
}

static uint32_t power_above(uint32_t n)
{
    uint32_t size = NODES_LEAST;
    while (size < n && size < UINT32_C(1) << 31)
        size *= 2;
    return size < n ? UINT32_MAX : size;
}

/* What ops hear of the trie's size, and nothing else of its levels that a recording would keep. */
static void tell(struct searcher *s)
{
    struct trie_view next = s->view;
    bool same = next.levels == s->told.levels;
    for (int32_t l = 0; l < next.levels; l++) {
        next.level[l].nodes = power_above(next.level[l].nodes);
        same = same && next.level[l].nodes == s->told.level[l].nodes;
    }
    s->sizes += !same;
    s->told = next;
}

/* Recordings read the trie through one view, which is written when it is another than that of the search before. */
static void place_view(struct searcher *s, struct beam_search *q)
{
    struct trie_view next = *q->placed;
    if (!s->resident)
        return;
    next.resident = s->resident;
    if (memcmp(&next, &s->view, sizeof next) != 0) {
        s->be->write(s->resident, &next, sizeof next);
        s->view = next;
        tell(s);
    }
    q->placed = &s->told;
}

static int call(struct searcher *s, struct seat *at)
{
    t5_encode_run(s->model, s->work, 0);
    at->encoded_s = clock_s();
    return beam_positions(at->beam, s->work, &at->search);
}

static void keep_budget(struct searcher *s, struct entry *r)
{
    if (r->bytes > s->limits.recordings) {
        drop(s, r);
        r->refused = true;
    }
    for (struct entry *o; s->counts.bytes > s->limits.recordings && (o = oldest(s, true));)
        drop(s, o);
}

static void record(struct searcher *s, struct seat *at, struct entry *r)
{
    bool (*stop)(void *) = at->search.stop;
    if (s->be->record_begin() == 0) {
        at->search.stop = NULL;
        (void)call(s, at);
        at->search.stop = stop;
        r->recording = s->be->record_end();
    }
    r->refused = r->recording == NULL;
    if (r->refused) {
        s->counts.refused++;
        return;
    }
    r->sizes = s->sizes;
    s->counts.recorded++;
    s->counts.bytes += r->bytes = s->be->recording_bytes(r->recording);
    keep_budget(s, r);
}

/* Calls at the first time, since a device loads its kernels then; afterwards a replay. */
static int run(struct searcher *s, struct seat *at, struct entry *r)
{
    if (r && r->sizes != s->sizes)
        drop(s, r);
    if (r && r->seen && !r->refused && !r->recording)
        record(s, at, r);
    if (r && r->recording) {
        at->encoded_s = clock_s();
        s->be->replay(r->recording);
        s->counts.replayed++;
        return 0;
    }
    s->counts.called++;
    if (call(s, at) < 0)
        return -1;
    if (r)
        r->seen = true;
    return 0;
}

int searcher_begin(struct searcher *s, int32_t seat, const struct t5_batch *b, const struct beam_search *q)
{
    struct seat *at = &s->seat[seat];
    const struct shape p = shape_of(s, b, q);
    at->search = *q;
    place_view(s, &at->search);
    load_batch(s, at, b, &p);
    if (run(s, at, records(s) ? entry_of(s, &p) : NULL) < 0)
        return -1;
    beam_send(at->beam, &at->search);
    return 0;
}

const struct beam *searcher_end(struct searcher *s, int32_t seat)
{
    beam_receive(s->seat[seat].beam, &s->seat[seat].search);
    return s->seat[seat].beam;
}

double searcher_encoded_s(const struct searcher *s, int32_t seat)
{
    return s->seat[seat].encoded_s;
}

struct searcher_counts searcher_counts(const struct searcher *s)
{
    return s->counts;
}

/* ---- ahead of time ---- */

/* Runs a batch of so many requests twice; false when there is no room for another one like it. */
static bool warm_shape(struct searcher *s, const struct beam_search *q, int32_t requests, int32_t each)
{
    int32_t *tokens = xcalloc((size_t)requests * (size_t)each, sizeof *tokens), *offsets = xcalloc((size_t)requests + 1, sizeof *offsets);
    size_t before = s->counts.bytes;
    for (int32_t r = 0; r <= requests; r++)
        offsets[r] = r * each;
    for (int i = 0; i < 2; i++) {
        (void)searcher_begin(s, 0, &(struct t5_batch){requests, tokens, offsets}, q);
        (void)searcher_end(s, 0);
    }
    free(tokens);
    free(offsets);
    return s->counts.bytes + 2 * (s->counts.bytes - before) <= s->limits.recordings;
}

void searcher_warm(struct searcher *s, const struct beam_search *q)
{
    const struct searcher_limits *l = &s->limits;
    double end = clock_s() + warm_s;
    bool room = records(s);
    CHECK(!q->stop);
    for (int32_t requests = 1; room && requests <= l->beam.requests && requests <= l->beam.rows / q->width; requests *= 2)
        for (int32_t each = TOKENS_LEAST; room && each <= 2 * TOKENS_LEAST; each *= 2)
            if (each <= l->longest && requests * each <= l->tokens && clock_s() < end)
                room = warm_shape(s, q, requests, each);
}
