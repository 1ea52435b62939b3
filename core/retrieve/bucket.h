/* bucket.h: documents that the task model has never seen, ranked inside their bucket.
 *
 * A document indexed after training has learned codes from the frozen indexer, but its suffix has no trained row. Convention: in the trie its last
 * code is (trained suffixes + suffix), so beam_step skips it. After the search, the new documents of every kept prefix join the results with
 *   score = ln P(c^1 .. c^L) + ln(share),  share = n / (n + trained) * softmax over the bucket's n new documents of similarity(document),
 * trained: the bucket's others. P of the prefix was learned for the trained ones alone; with as much to find in each document, n of n + trained
 * parts of what is found there are the new ones'. Were they given all of it, each would stand above the trained ones, which divide it by their
 * suffixes. So the shares of a bucket sum to at most 1 and a new document never scores above its prefix. What similarity is, the caller says (core/engine_run.c): the
 * decoder's state times the document's stored vector where both lie in one space, else the BM25 score of the query's words; without any of them
 * all are equal (share = 1 / n). */
#ifndef SEMINDEX_BUCKET_H
#define SEMINDEX_BUCKET_H

#include "beam.h"

struct bucket_hit {
    uint32_t leaf, document;
    double score;
    bool trained;         /* the suffix has a trained row: score is ln P of the whole ID */
    double log_prefix;    /* ln P(c^1 .. c^L) of the bucket; for trained ones too, NaN where the prefix was not kept */
    double log_share;     /* 0 for trained ones */
};

struct bucket_ranking {
    const struct trie_view *trie;
    uint32_t trained; /* suffixes with a trained row: layout.codes[last] */
    /* similarity of a document with a state; NULL = equal shares. `state` may be NULL. Values that are not finite count as 0. */
    double (*similarity)(void *context, uint32_t document, const float *state);
    void *context;
    int32_t width; /* results kept */
};
/* Merges the search's hits of request r with its buckets' new documents: best `width` by score, ties by leaf ascending. out has room for
 * `width`. Returns their number. */
int32_t bucket_rank(const struct beam *b, int32_t r, const struct bucket_ranking *k, struct bucket_hit *out);

#endif
