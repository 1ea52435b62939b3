/* batcher.h: the bounded queues between HTTP threads and the engine.
 *
 * Queries wait in one queue for the model worker, which takes what waits, up to a token budget: no linger timer. (On a device there are two
 * workers: one batch is on its way while the other's answers are made.) Changes (index,
 * delete) wait in another for a few ingest threads, since they block until they are durable. A work belongs to its owner; between push and
 * `done` the batcher may use it, and `done` is called exactly once. */
#ifndef SEMINDEX_BATCHER_H
#define SEMINDEX_BATCHER_H

#include "../core/engine.h"
#include <stdbool.h>
#include <stdint.h>

struct work {
    struct work *next;
    void *owner;
    int64_t deadline_ms; /* clock_ms(); 0 = none */
    /* a query work: */
    struct engine_query **queries;
    int32_t count;
    int64_t tokens; /* of all queries together */
    /* or a change: */
    void (*run)(struct engine *engine, struct work *w);
    /* results */
    struct err err; /* ERR_NONE: it ran (each query has its own err); else why not */
    double queued_s, queue_ms;
};

struct batcher;
struct batcher_options {
    struct engine *engine;
    int64_t queue, ingest_queue; /* works that may wait */
    int ingest_threads;
    int64_t batch_tokens, batch_rows;
    int lanes; /* model workers, engine_lanes */
    void (*done)(struct work *w);
    bool (*gone)(struct work *w, bool half); /* has the client gone? asked before a work runs; NULL = never */
};
struct batcher *batcher_open(const struct batcher_options *o);
bool batcher_query(struct batcher *b, struct work *w);  /* false: the queue is full or stopping; done is not called */
bool batcher_change(struct batcher *b, struct work *w); /* the same for a change */
void batcher_expire(struct batcher *b, int64_t now_ms); /* ends waiting works whose deadline has passed */
int64_t batcher_waiting(struct batcher *b, bool changes);
int64_t batcher_running_ms(struct batcher *b); /* how long a model worker is at its present batch, the longest; 0 = all wait */
/* Ends what waits with ERR_UNAVAILABLE, lets what runs end, joins the threads; every later push is refused. NULL is fine. */
void batcher_stop(struct batcher *b);
void batcher_free(struct batcher *b); /* after batcher_stop, when nobody can push any more; NULL is fine */

#endif
