/* batcher.c: two bounded FIFO queues, a model worker or two, a few ingest threads.
 *
 * The queue bound is the service's only buffer: beyond it the answer is 503 at once, so memory and waiting time are bounded under any load.
 * Deadlines are absolute and are looked at when a work is pushed, while it waits (batcher_expire, from the watchdog) and when it is taken;
 * inside a batch the engine looks. Clients that have gone are dropped when their turn comes; one that only closed its sending half is
 * still owed its answer, unless the queue is more than half full. `done` runs without the lock. */
#include "batcher.h"
#include "metrics.h"
#include <pthread.h>
#include <stdlib.h>

enum { BATCH_MAX = 4096, INGEST_THREADS_MAX = 64, LANES_MAX = 4 };

struct queue {
    struct work *first, **last;
    int64_t waiting, room;
    pthread_cond_t ready;
};
struct lane { /* a model worker */
    struct batcher *b;
    int64_t began_ms; /* its batch; 0 = it waits */
    pthread_t thread;
};
struct batcher {
    struct batcher_options o;
    pthread_mutex_t lock;
    struct queue queries, changes;
    bool stopping;
    struct lane lane[LANES_MAX];
    pthread_t ingest[INGEST_THREADS_MAX];
};

static void queue_init(struct queue *q, int64_t room)
{
    *q = (struct queue){.room = room};
    q->last = &q->first;
    pthread_cond_init(&q->ready, NULL);
}

static struct work *queue_take(struct queue *q)
{
    struct work *w = q->first;
    if (!w)
        return NULL;
    q->first = w->next;
    if (!q->first)
        q->last = &q->first;
    q->waiting--;
    w->next = NULL;
    return w;
}

static bool queue_push(struct batcher *b, struct queue *q, struct work *w)
{
    w->next = NULL;
    w->queued_s = clock_s();
    pthread_mutex_lock(&b->lock);
    bool taken = !b->stopping && q->waiting < q->room;
    if (taken) {
        *q->last = w;
        q->last = &w->next;
        q->waiting++;
        pthread_cond_signal(&q->ready);
    }
    pthread_mutex_unlock(&b->lock);
    if (!taken)
        metrics_count(COUNT_REFUSED_QUEUE, 1);
    return taken;
}

bool batcher_query(struct batcher *b, struct work *w)
{
    return queue_push(b, &b->queries, w);
}

bool batcher_change(struct batcher *b, struct work *w)
{
    return queue_push(b, &b->changes, w);
}

static void end_late(struct batcher *b, struct work *w)
{
    err_set(&w->err, ERR_DEADLINE, "the deadline passed while the request waited for its turn");
    b->o.done(w);
}

/* Whether w may still run; otherwise it has been ended. */
static bool still_wanted(struct batcher *b, struct work *w, bool crowded)
{
    w->queue_ms = (clock_s() - w->queued_s) * 1e3;
    metrics_stage(STAGE_QUEUE, w->queue_ms / 1e3);
    if (w->deadline_ms && clock_ms() >= w->deadline_ms) {
        end_late(b, w);
        return false;
    }
    if (b->o.gone && b->o.gone(w, crowded)) {
        err_set(&w->err, ERR_UNAVAILABLE, "the client has gone");
        metrics_count(COUNT_GONE, 1);
        b->o.done(w);
        return false;
    }
    return true;
}

/* Waits for queries and takes as many works as fit the budget, one at least. NULL = stop. The works stay linked by next. */
static struct work *take_batch(struct lane *lane, bool *crowded)
{
    struct batcher *b = lane->b;
    struct work *first = NULL, **tail = &first;
    int64_t tokens = 0, rows = 0;
    pthread_mutex_lock(&b->lock);
    lane->began_ms = 0;
    while (!b->queries.first && !b->stopping)
        pthread_cond_wait(&b->queries.ready, &b->lock);
    *crowded = b->queries.waiting * 2 > b->queries.room;
    while (!b->stopping && b->queries.first) {
        struct work *w = b->queries.first;
        bool fits = tokens + w->tokens <= b->o.batch_tokens && rows + w->count <= b->o.batch_rows && rows + w->count <= BATCH_MAX;
        if (first && !fits)
            break;
        tokens += w->tokens;
        rows += w->count;
        *tail = queue_take(&b->queries);
        tail = &w->next;
    }
    lane->began_ms = clock_ms();
    pthread_mutex_unlock(&b->lock);
    return first;
}

static void run_batch(struct batcher *b, struct work *first, bool crowded)
{
    struct engine_query *rows[BATCH_MAX];
    struct work *kept = NULL, **tail = &kept;
    int32_t n = 0;
    for (struct work *w = first, *next; w; w = next) {
        next = w->next;
        w->next = NULL;
        if (!still_wanted(b, w, crowded))
            continue;
        *tail = w;
        tail = &w->next;
        for (int32_t i = 0; i < w->count; i++)
            rows[n++] = w->queries[i];
    }
    if (n) {
        metrics_count(COUNT_BATCHES, 1);
        metrics_count(COUNT_QUERIES, n);
        engine_run(b->o.engine, rows, n);
    }
    for (struct work *w = kept, *next; w; w = next) {
        next = w->next;
        b->o.done(w);
    }
}

static void *model_main(void *arg)
{
    struct lane *lane = arg;
    struct work *first;
    bool crowded;
    while ((first = take_batch(lane, &crowded)))
        run_batch(lane->b, first, crowded);
    return NULL;
}

static void *ingest_main(void *arg)
{
    struct batcher *b = arg;
    for (;;) {
        pthread_mutex_lock(&b->lock);
        while (!b->changes.first && !b->stopping)
            pthread_cond_wait(&b->changes.ready, &b->lock);
        struct work *w = b->stopping ? NULL : queue_take(&b->changes);
        pthread_mutex_unlock(&b->lock);
        if (!w)
            return NULL;
        if (!still_wanted(b, w, false))
            continue;
        w->run(b->o.engine, w);
        b->o.done(w);
    }
}

struct batcher *batcher_open(const struct batcher_options *o)
{
    struct batcher *b = xcalloc(1, sizeof *b);
    b->o = *o;
    pthread_mutex_init(&b->lock, NULL);
    queue_init(&b->queries, o->queue);
    queue_init(&b->changes, o->ingest_queue);
    CHECK(o->ingest_threads >= 1 && o->ingest_threads <= INGEST_THREADS_MAX);
    CHECK(o->lanes >= 1 && o->lanes <= LANES_MAX);
    for (int i = 0; i < o->lanes; i++) {
        b->lane[i].b = b;
        CHECK(pthread_create(&b->lane[i].thread, NULL, model_main, &b->lane[i]) == 0);
    }
    for (int i = 0; i < o->ingest_threads; i++)
        CHECK(pthread_create(&b->ingest[i], NULL, ingest_main, b) == 0);
    return b;
}

/* Unlinks what is late from one queue; returns it as a list. */
static struct work *unlink_late(struct queue *q, int64_t now_ms)
{
    struct work *late = NULL, **tail = &late, **at = &q->first;
    while (*at) {
        struct work *w = *at;
        if (!w->deadline_ms || now_ms < w->deadline_ms) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        *tail = w;
        tail = &w->next;
        q->waiting--;
    }
    q->last = at;
    return late;
}

static void end_late_list(struct batcher *b, struct work *late)
{
    for (struct work *next; late; late = next) {
        next = late->next;
        end_late(b, late);
    }
}

void batcher_expire(struct batcher *b, int64_t now_ms)
{
    pthread_mutex_lock(&b->lock);
    struct work *queries = unlink_late(&b->queries, now_ms), *changes = unlink_late(&b->changes, now_ms);
    pthread_mutex_unlock(&b->lock);
    end_late_list(b, queries);
    end_late_list(b, changes);
}

int64_t batcher_waiting(struct batcher *b, bool changes)
{
    pthread_mutex_lock(&b->lock);
    int64_t n = changes ? b->changes.waiting : b->queries.waiting;
    pthread_mutex_unlock(&b->lock);
    return n;
}

int64_t batcher_running_ms(struct batcher *b)
{
    pthread_mutex_lock(&b->lock);
    int64_t began = 0;
    for (int i = 0; i < b->o.lanes; i++)
        if (b->lane[i].began_ms && (!began || b->lane[i].began_ms < began))
            began = b->lane[i].began_ms;
    pthread_mutex_unlock(&b->lock);
    return began ? clock_ms() - began : 0;
}

static void end_waiting(struct batcher *b, struct queue *q)
{
    for (;;) {
        pthread_mutex_lock(&b->lock);
        struct work *w = queue_take(q);
        pthread_mutex_unlock(&b->lock);
        if (!w)
            return;
        err_set(&w->err, ERR_UNAVAILABLE, "the server is shutting down");
        b->o.done(w);
    }
}

void batcher_stop(struct batcher *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_cond_broadcast(&b->queries.ready);
    pthread_cond_broadcast(&b->changes.ready);
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->o.lanes; i++)
        pthread_join(b->lane[i].thread, NULL);
    for (int i = 0; i < b->o.ingest_threads; i++)
        pthread_join(b->ingest[i], NULL);
    end_waiting(b, &b->queries);
    end_waiting(b, &b->changes);
}

void batcher_free(struct batcher *b)
{
    if (!b)
        return;
    CHECK(!b->queries.first && !b->changes.first);
    pthread_cond_destroy(&b->queries.ready);
    pthread_cond_destroy(&b->changes.ready);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
