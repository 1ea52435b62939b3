/* engine_index.h: the semantic indexer at work: token rows to learned codes and vectors. */
#ifndef SEMINDEX_ENGINE_INDEX_H
#define SEMINDEX_ENGINE_INDEX_H

#include "engine_internal.h"

/* One text to be encoded: in, then out. */
struct encode_item {
    const int32_t *tokens; /* EOS included, at most indexer.max_tokens */
    int32_t token_count;
    bool forced;           /* codes are given (a brought ID): only the vector is wanted */
    uint32_t *codes;       /* [L] out, or in when forced */
    float *vector;         /* [indexer.vector_size] out: h at the last learned position, or the text's embedding; in where documents bring theirs */
};
/* Encodes items in batches of bounded size, each one call on the device thread. -1: ERR_DEADLINE between two batches. */
int engine_encode(struct engine *g, struct encode_item *items, int32_t n, int64_t deadline_ms, struct err *e);
/* The same, already on the device thread, without a deadline; items fit one batch (indexer.rows, indexer.tokens). */
void engine_encode_batch(struct engine *g, struct encode_item *items, int32_t n);

/* ---- engine_quantise.c ---- */
/* The bundle's quantiser, if it has one, and what stands before it. */
int engine_open_quantiser(struct engine *g, struct code_layout *layout, struct err *e);
bool engine_reads_texts(const struct engine *g); /* the indexer gives IDs to texts; else only to embeddings, or there is none */
/* engine_encode_batch of such a bundle; rows: the items' tokens, where texts are read. */
void engine_quantise_batch(struct engine *g, struct encode_item *items, int32_t n, const struct t5_batch *rows);
/* NULL, or what is wrong with the embedding that a document brings. */
const char *engine_check_embedding(const struct engine *g, const struct engine_put *p, struct arena *a);

/* A document's tokens as learning cut them; into the arena. Returns the count (EOS included). */
int32_t engine_document_tokens(struct engine *g, const struct document *d, struct arena *a, const int32_t **tokens, bool *cut);
/* "17-203-0" */
const char *engine_id_text(struct arena *a, const uint32_t *codes, int32_t positions);

#endif
