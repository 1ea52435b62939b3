/* engine.h: the facade of serving: all that server/ may see of the model, the index and the store.
 *
 * An engine is a bundle opened for serving plus a catalogue. It publishes generations: model + trie + catalogue version, immutable,
 * reference-counted, swapped by one pointer; a query pins one for its whole life. Any thread may call any function here; the engine itself
 * keeps the device to one caller at a time, first come first served, and gives it back between batches of bounded size, so an ingest never
 * blocks searches for longer than one encode batch. Long runs (import, learning, evaluation) are in runs.h. */
#ifndef SEMINDEX_ENGINE_H
#define SEMINDEX_ENGINE_H

#include "base/err.h"
#include "base/mem.h"
#include "base/run.h"
#include "text/document.h" /* struct document {id, title, text, attributes}, document_check_id */
#include <stdbool.h>
#include <stdint.h>

struct engine;

struct engine_options {
    const char *model;   /* bundle folder */
    const char *catalog; /* SQLite file; made when absent and filled from the bundle's ids */
    const char *device;  /* "auto", "cpu", "cuda", "cuda:1" */
    int threads;         /* 0 = all processors */
    int32_t max_beam;    /* widest beam a query may ask for */
    int32_t max_query_tokens;
    int32_t max_document_tokens;
    int32_t max_history; /* items of a history that are read, the newest */
    int32_t batch_tokens; /* token budget of one device batch */
    int32_t batch_rows;   /* queries of one device batch */
    int32_t recordings_mib; /* of a device's memory, for each model's recorded searches; 0 = none */
    bool renormalise;
    /* Called once, on any thread, when the device fails while it runs; the process ends when it returns. May be NULL. */
    void (*on_fault)(const char *line);
};
/* Opens, verifies, loads and publishes the first generation; reports progress through run (may be NULL). Slow for large models. */
struct engine *engine_open(const struct engine_options *o, const struct run *run, struct err *e);
void engine_close(struct engine *g); /* waits for the writer; NULL is fine */

/* ---- queries ---- */
enum engine_mode { MODE_HYBRID, MODE_GENERATIVE, MODE_LEXICAL, MODE_NEIGHBOURS };
enum engine_task { TASK_SEARCH, TASK_RECOMMEND };

struct engine_past { /* one entry of a history: a document's id, or free text; exactly one is set */
    const char *id, *text;
};

struct engine_hit {
    int32_t rank; /* from 1, offset included */
    const char *id, *semantic_id; /* "17-203-0" */
    double score;                 /* generative: ln P, see interface "score"; lexical: BM25; neighbours: sum of similarities; hybrid: search:
                                   * reciprocal ranks, recommend: ln of the share in a mixture */
    const char *title, *text, *attributes; /* as stored; attributes = JSON object text or NULL */
    /* explain */
    int32_t generative_rank, lexical_rank, neighbours_rank; /* from 1, 0 = not in that list; by the beam, by words, by item neighbours */
    double generative_score, lexical_score, neighbours_score;
    bool suffix_trained; /* the score is ln P of the whole ID; else ln P(c^1..c^L) + ln(bucket share) */
    double log_prefix, log_share;
};

struct engine_plan; /* what engine_prepare found out; nobody else's */

struct engine_query {
    /* set by the caller; strings live until engine_run returns */
    enum engine_task task;
    enum engine_mode mode; /* search: all but neighbours. recommend: all but lexical; hybrid is the beam, in which documents that came after training
                           * are placed by the words of the newest entry, mixed with item neighbours where the bundle has them */
    const char *text; /* search */
    const struct engine_past *history; /* recommend, oldest first */
    int32_t history_count;
    const char *const *exclude; /* ids left out of a recommendation */
    int32_t exclude_count;
    bool exclude_history;
    int32_t limit, offset, beam_width; /* beam_width 0 = max(20, offset + limit) */
    int64_t deadline_ms;               /* clock_ms() value, 0 = none */
    struct arena *arena;               /* where results go */
    /* set by engine_prepare */
    int32_t *tokens;
    int32_t token_count; /* what batching counts; 0 = this query needs no device */
    int32_t beam;        /* the width that will be used; 0 = none (lexical) */
    struct engine_plan *plan; /* in arena */
    /* results, in arena */
    struct err err; /* code ERR_NONE = fine */
    struct engine_hit *hits;
    int32_t hit_count;
    int64_t generation;
    bool truncated;  /* the input was cut to what the model reads */
    bool exhaustive; /* no candidate was cut */
    bool fallback_used; /* recommend: popular items, since no history entry was known; their score is 1 / (60 + rank) */
    const char *const *used_history; /* ids */
    int32_t used_count;
    const char *const *unknown_history;
    int32_t unknown_count;
    double encode_ms, decode_ms, store_ms; /* for Server-Timing and histograms */
};

/* Validates against the model and tokenises; no device. Errors: ERR_CONFLICT (the bundle lacks the part: not_in_model), ERR_INVALID
 * (beam above max_beam, naming field, value, bound). */
int engine_prepare(struct engine *g, struct engine_query *q, struct err *e);
/* Runs prepared queries as one or more device batches; each gets hits or its own err (ERR_DEADLINE...). Blocks. */
void engine_run(struct engine *g, struct engine_query **queries, int32_t n);
/* Calls of engine_run that are worth making at a time: two on a device, which searches one batch while the other is ranked. */
int32_t engine_lanes(const struct engine *g);

/* ---- documents ---- */
enum engine_status { STATUS_CREATED, STATUS_UPDATED, STATUS_UNCHANGED, STATUS_DELETED, STATUS_NOT_FOUND };
struct engine_put {
    struct document document;
    const char *brought_id; /* "semantic_id" that the document brings, or NULL */
    const float *embedding; /* "embedding" that the document brings, or NULL */
    int32_t embedding_size;
    /* results, in the batch's arena */
    enum engine_status status;
    const char *semantic_id;
    bool truncated; /* the text was longer than the indexer reads */
};
struct engine_put_error {
    int32_t index;         /* document in the batch */
    const char *field;     /* "id", "text", "semantic_id", "embedding" */
    const char *code;      /* "duplicate_id", "no_words", "too_long", "not_in_model"... */
    const char *detail;
};
struct engine_put_batch {
    struct engine_put *puts;
    int32_t count;
    int64_t deadline_ms;
    struct arena *arena;
    /* results */
    struct engine_put_error *errors; /* every wrong document; when error_count > 0 nothing was stored */
    int32_t error_count;
    int64_t generation;
    bool conflict; /* one of the errors is a conflict (409) rather than wrong content (422) */
};
/* Encodes, stores (durable, all or nothing) and publishes; blocks until later searches see it. Returns -1 with e for what is not a
 * document's fault (ERR_NO_SPACE, ERR_DEADLINE, ERR_UNAVAILABLE); document errors are in batch->errors with return -1 and ERR_INVALID or
 * ERR_CONFLICT. A document without words is an error ("no_words"). */
int engine_index(struct engine *g, struct engine_put_batch *batch, struct err *e);

struct engine_document { /* GET /documents/{id} */
    struct document document;
    const char *semantic_id;
    bool suffix_trained;
    int64_t created_ms, updated_ms, generation;
};
int engine_get(struct engine *g, const char *id, struct arena *a, struct engine_document *out, struct err *e); /* ERR_NOT_FOUND */
int engine_delete(struct engine *g, const char *id, int64_t *generation, struct err *e);                       /* ERR_NOT_FOUND */

/* ---- state ---- */
struct engine_info {
    const char *device;
    char model_digest[65], id_digest[65];
    bool has_indexer, has_search, has_recommend, has_tokenizer;
    int32_t positions;      /* L + 1 */
    const int32_t *codes;   /* [positions] */
    int32_t search_d_model, recommend_d_model, indexer_d_model;
    int64_t documents, generation, trie_bytes, model_bytes;
    struct engine_options limits;
};
void engine_info(struct engine *g, struct engine_info *out);
/* What a device's name stands for on this machine, opened: "cpu, 8 threads (no CUDA module ..)"; false: why it cannot be had. */
bool engine_device(const char *name, char *text, size_t size);
/* ERR_NONE when the store can be read and written; else what is wrong (a stopped writer). */
int engine_health(struct engine *g, struct err *e);

#endif
