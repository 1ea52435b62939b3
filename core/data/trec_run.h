/* trec_run.h: a ranking in a file as trec_eval reads it: lines "qid Q0 docid rank score tag", fields apart by blanks.
 *
 * As in trec_eval, the rank in the file means nothing: order is the score, as 32-bit float, descending, then the document's name descending
 * (metrics_sort). A line of queries that the folder does not have is counted and left out; a document that it does not have keeps its
 * place and is not relevant. Everything else that is odd is an error that names file and line. */
#ifndef SEMINDEX_DATA_TREC_RUN_H
#define SEMINDEX_DATA_TREC_RUN_H

#include "corpus.h"
#include "metrics.h"

#include <stdio.h>

struct trec_run {
    struct metrics_hit *hits; /* by query, within it best first; grades 0; names owned by `names` or the corpus */
    int64_t *first;           /* [queries + 1] slice of each query of corpus->test */
    int64_t count, unknown;   /* hits kept; lines of unknown queries */
    struct arena names;
};
/* Gzip is read, too. The corpus must outlive the run. */
int trec_run_read(struct trec_run *r, const char *path, const struct corpus *c, struct err *e);
void trec_run_free(struct trec_run *r); /* {0} is fine */

/* Appends one query's hits, which are sorted; errors of the stream show at its commit. */
void trec_run_write(FILE *f, const char *query, const struct metrics_hit *hits, int32_t count, const char *tag);
/* True when a name can stand in a run file: not empty, no blanks or control characters. */
bool trec_run_can_name(const char *name);

#endif
