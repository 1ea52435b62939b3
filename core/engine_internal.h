/* engine_internal.h: what the files of the engine share.
 *
 *   engine_open.c        bundle -> parts -> catalogue -> first generation        engine_device.c   one thread for all numeric work
 *   engine_fill.c        a new catalogue from the bundle's documents             engine_generation.c  sorted IDs, trie, the swapped pointer
 *   engine_prepare.c     a query judged and tokenised                            engine_encode.c   the indexer on texts
 *   engine_run.c         batches on the device                                   engine_index.c    POST /index below HTTP
 *   engine_answer.c      rankings to hits                                        engine_vectors.c  stored vectors of new documents
 *   engine_newcomers.c   documents that came after training, placed by their words
 *   engine_neighbours.c  item neighbours of a history
 *   engine_memory.c      does it fit the device                             engine_quantise.c  indexers over text embeddings
 *   engine.c             documents one by one, state                             engine_placed.c   tries in the device's memory
 *
 * Everything of struct engine is written by engine_open and constant afterwards, except what lies behind publisher, catalogue and device,
 * which guard themselves, and the scratch of task models and indexer, which belongs to the device thread. */
#ifndef SEMINDEX_ENGINE_INTERNAL_H
#define SEMINDEX_ENGINE_INTERNAL_H

#include "engine.h"
#include "catalog/catalog.h"
#include "engine_device.h"
#include "engine_generation.h"
#include "learn/lmindexer.h"
#include "model/bundle.h"
#include "model/quantiser.h"
#include "model/text_embedding.h"
#include "retrieve/history.h"
#include "retrieve/searcher.h"
#include "text/tokenizer.h"

enum { ENGINE_TASKS = 2, ENGINE_BEAMS_PER_ROW = 32, ENGINE_ENCODE_ROWS = 256 }; /* the last two: of one device batch */

struct task_model {
    struct t5 *model; /* NULL: the bundle lacks it */
    struct code_layout layout;
    struct searcher *searcher;
    int32_t *tokens, *offsets; /* the device thread's */
    int32_t max_tokens; /* that it reads of one query, EOS included */
    int32_t beam_rows;  /* beams of one batch together */
    struct history_rule history;
    bool from_indexer; /* its weights started from the indexer's */
    double beam_weight; /* of its beam in hybrid rankings */
};

struct indexer {
    struct t5 *model; /* NULL: the bundle lacks it */
    struct lm_work *work; /* from here on the device thread's */
    int32_t max_tokens, tokens, rows; /* of a document; of a batch */
    int32_t *batch_tokens, *batch_offsets, *prefix, *assigned;
    float *hidden; /* [rows, vector_size] */
    struct quantiser *quantiser;  /* instead of the model, or NULL */
    struct text_embedding *texts; /* what embeds texts for it; NULL: documents bring their embeddings */
    uint32_t *found;              /* [rows, L] */
    int32_t vector_size;          /* of a stored vector; 0: the bundle has no indexer of either kind */
};

struct vectors; /* engine_vectors.c */

struct engine {
    struct engine_options options;
    char *names[3]; /* the options' strings */
    struct bundle *bundle;
    const struct backend *be;
    struct device *device;
    struct tokenizer *tokenizer;
    struct code_layout layout; /* of the IDs: base 0, L + 1 positions, trained codes of each */
    struct task_model task[ENGINE_TASKS]; /* by enum engine_task */
    struct indexer indexer;
    struct catalog *catalog;
    struct placer *placer;
    struct publisher *publisher;
    struct vectors *vectors;
    struct engine_neighbours *neighbours; /* item neighbours; NULL: the bundle has none */
    int64_t model_bytes;
    char model_digest[65], id_digest[65];
};

/* ---- a query's inner life; in the query's arena, made by engine_prepare ---- */

enum { WORDS_MOST = 1000 };

struct plan_entry { /* one known entry of a history */
    const char *id;   /* NULL: free text */
    int64_t number;
    uint32_t codes[CATALOG_CODES_MAX];
    bool trained;
    const int32_t *tokens; /* free text for the indexer */
    int32_t token_count;
    float *vector;         /* of a free text, once encoded */
    const char *text;      /* what a model of texts reads */
};
struct engine_plan {
    struct plan_entry *entry;
    int32_t entries;
    bool encode;            /* free texts wait for the indexer before there are tokens */
    int64_t *excluded;      /* document numbers, rising */
    int32_t excluded_count;
    int32_t width;          /* of the search: beam, and room for what is excluded */
    struct catalog_hit *words, *best; /* what the query's words find, at most WORDS_MOST: by number, best first; NULL: not looked up */
    int32_t word_count;
};

/* ---- rankings before documents are fetched ---- */

struct ranked {
    int64_t number;
    double score;
    bool trained;
    double log_prefix, log_share;
    uint32_t codes[CATALOG_CODES_MAX]; /* as stored: the suffix itself */
    int32_t generative_rank, lexical_rank, neighbours_rank;
    double generative_score, lexical_score, neighbours_score;
};
struct ranking {
    struct ranked *hit;
    int32_t count;
};

/* 0, or -1: what the bundle's parts need is more than the device has free. Before anything is loaded. */
int engine_memory_check(const struct engine *g, struct err *e);
/* Records the common searches, where the device records. */
void engine_warm(struct engine *g, const struct run *run);
int32_t engine_default_beam(const struct engine *g); /* of a query that says none */
/* Tokens of a recommendation whose entries are all encoded. */
void engine_plan_tokens(struct engine *g, struct engine_query *q);
/* From rankings to hits: fuses, cuts to the window, fetches documents. generative may be empty. */
void engine_answer(struct engine *g, struct engine_query *q, const struct generation *gen, const struct ranking *generative);

bool engine_is_excluded(const struct engine_plan *p, int64_t number);

/* ---- engine_neighbours.c: item neighbours of a history ---- */
int engine_neighbours_open(struct engine *g, struct err *e); /* sets g->neighbours where the bundle has neighbours */
void engine_neighbours_close(struct engine *g);
size_t engine_neighbours_bytes(const struct engine *g);
/* Documents by neighbours, best first, without those that are excluded, in the query's arena. */
void engine_neighbours_list(const struct engine *g, const struct generation *gen, const struct engine_query *q, struct ranking *out);
/* list, the beam's, becomes the mixture of both. */
void engine_neighbours_mix(const struct engine *g, const struct engine_query *q, const struct ranking *others, struct ranking *list);

/* ---- engine_newcomers.c: documents that came after training ---- */
/* known[i] = words[i], what BM25 finds, best first, is no newcomer. list: the beam's, whose trained documents need no look into the store. */
int engine_find_newcomers(struct catalog_reader *r, struct arena *a, const struct catalog_hit *words, int32_t n, const struct ranking *list,
                          bool *known, struct err *e);
/* Gives the newcomers among words [n] a place in the beam's list, too (excluded documents are gone from both). Its hits are made anew in the arena;
 * those whom only words found have generative_rank 0. Without a trained document in the list nothing happens. */
int engine_place_newcomers(struct catalog_reader *r, struct arena *a, const struct catalog_hit *words, int32_t n, struct ranking *list,
                           struct err *e);

/* Stored vectors of documents, kept in memory up to a bound. Device thread only, except engine_vectors_forget. */
struct vectors *engine_vectors_open(struct catalog *c, int32_t size);
void engine_vectors_close(struct vectors *v);
void engine_vectors_forget(struct vectors *v, int64_t number); /* its vector has changed or gone: any thread */
/* Makes the vectors of numbers[n] available until the next fetch; NULL from engine_vectors_of where none is stored. */
void engine_vectors_fetch(struct vectors *v, const int64_t *numbers, int32_t n);
const float *engine_vectors_of(const struct vectors *v, int64_t number);

#endif
