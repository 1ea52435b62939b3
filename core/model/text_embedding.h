/* text_embedding.h: a text as one vector: the mean of a T5's encoder outputs over its tokens, EOS included.
 *
 * The T5 is a bundle's part "base", or, where there is none, its "indexer". Learning embeds the corpus with it, and the daemon every new document. */
#ifndef SEMINDEX_TEXT_EMBEDDING_H
#define SEMINDEX_TEXT_EMBEDDING_H

#include "bundle.h"
#include "t5.h"

struct text_embedding; /* the model and the work space of one batch; one owner, the backend's thread */
/* tokens, rows: the most of one batch. NULL: the bundle has no T5 (ERR_CONFLICT), or no memory. */
struct text_embedding *text_embedding_open(const struct bundle *b, const struct backend *be, int32_t tokens, int32_t rows, struct err *e);
void text_embedding_close(struct text_embedding *t); /* NULL is fine */
int32_t text_embedding_width(const struct text_embedding *t);
int64_t text_embedding_bytes(const struct text_embedding *t); /* of the parameters */
int32_t text_embedding_vocab(const struct text_embedding *t); /* text rows */
void text_embedding_run(struct text_embedding *t, const struct t5_batch *rows, float *out); /* [rows->count, width] host */
/* Puts the model, without any ID codes, into a bundle's change as its part "base". */
int text_embedding_write(const struct text_embedding *t, struct bundle *b, struct err *e);

#endif
