/* lexical.h: BM25 over a corpus exactly as the daemon ranks: a temporary catalogue filled with the corpus, searched by the store's own text index.
 *
 * For measuring: a baseline in `evaluate`, the other list when `train search` chooses the weight of its beam. One owner; the corpus is borrowed. */
#ifndef SEMINDEX_LEXICAL_H
#define SEMINDEX_LEXICAL_H

#include "base/err.h"
#include "base/run.h"
#include "data/corpus.h"

struct lexical;
struct lexical *lexical_open(const struct corpus *corpus, const struct run *run, struct err *e); /* a folder under TMPDIR, gone with lexical_close */
void lexical_close(struct lexical *l);                                                          /* NULL is fine */
/* Best `limit` documents of the corpus into documents and scores; returns their number or -1. */
int32_t lexical_rank(struct lexical *l, const char *query, int32_t limit, int32_t *documents, double *scores, struct err *e);

#endif
