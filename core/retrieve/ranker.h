/* ranker.h: a task model over a fixed table of IDs: packed inputs in, ranked documents out.
 *
 * What validation during training and `evaluate` share: encode a batch once, beam over the trie, results per row. No catalogue, no
 * engine. One owner; the model, its layout and the trie are borrowed. */
#ifndef SEMINDEX_RANKER_H
#define SEMINDEX_RANKER_H

#include "unconstrained.h"

struct ranker;
struct ranker_limits {
    int32_t rows, tokens; /* of one batch */
    int32_t width;        /* of the beam */
};
struct ranker *ranker_init(struct t5 *m, const struct code_layout *layout, const struct trie *trie, const struct ranker_limits *l,
                           struct err *e);
void ranker_free(struct ranker *r); /* NULL is fine */

/* Ranks every row of the batch; results by beam_hits until the next run. */
const struct beam *ranker_run(struct ranker *r, const struct t5_batch *b);

/* For measuring: ranker_unconstrain makes the second search possible, ranker_run_unconstrained searches the batch of the last ranker_run without
 * the trie; IDs by unconstrained_ids until the next one. What beam_hits gives of the run stays. */
int ranker_unconstrain(struct ranker *r, const struct code_layout *layout, struct err *e);
const struct unconstrained *ranker_run_unconstrained(struct ranker *r);

#endif
