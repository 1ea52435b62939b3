/* id_statistics.h: how well codes spread over documents. Learning prints them per position, evaluation per bundle. */
#ifndef SEMINDEX_ID_STATISTICS_H
#define SEMINDEX_ID_STATISTICS_H

#include <stdint.h>

/* Statistics of the codes at one position (tests and `evaluate` print them too). */
struct id_statistics {
    int32_t documents, codes_used;
    double perplexity;      /* exp of the entropy of this position's codes */
    double collision_rate;  /* share of documents whose prefix up to this position another document has too */
    int32_t largest_bucket; /* documents that share one prefix */
    int32_t unique_prefixes;
};
/* codes [n, stride], prefix = columns 0..position. */
void id_statistics(const uint32_t *codes, int32_t n, int32_t stride, int32_t position, struct id_statistics *out);

#endif
