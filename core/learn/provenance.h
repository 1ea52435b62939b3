/* provenance.h: how a part of a bundle was made, kept in it as PART.run.json under the manifest's digests.
 *
 *   {"format":"semindex-run","version":1,"command":"train search","program":"0.1.0","seed":1,
 *    "data":{"path","documents","sha256"},              sha256: over id, title and text of every document, in order
 *    "given":{"recipe","options":{name:{"value","origin"}}},  as the person's options stood; what a run writes to and how it reports left out
 *    "effective":{name:"value"},                        what decided the numbers, defaults filled in; the digest of training samples too
 *    "search":[{"lr","validation"}]}                    rates that were tried and the figure each was judged by, higher is better; null: diverged
 *
 * No clock, host or folder of the bundle is in it: the same command on the same data makes the same bytes. */
#ifndef SEMINDEX_PROVENANCE_H
#define SEMINDEX_PROVENANCE_H

#include "../data/corpus.h"
#include "../model/bundle.h"
#include "optimiser.h"

struct provenance {
    const char *command; /* "learn-ids", "train search" */
    const char *data;
    const struct corpus *corpus;
    int32_t documents;    /* the first of them */
    uint64_t seed;
    const char *given;    /* JSON object; NULL: {} */
    const char *settings; /* "name=value" lines */
    const struct rate_search *search;
    const double *figure; /* [search->count] */
};
/* Between bundle_begin and bundle_commit. name: "search.run.json". */
int provenance_put(struct bundle *b, const char *name, const struct provenance *p, struct err *e);

#endif
