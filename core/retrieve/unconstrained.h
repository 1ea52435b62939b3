/* unconstrained.h: the beam without the trie: every code of every position is allowed, so IDs come out that no document has.
 *
 * For measuring only: the share of such IDs is what a system without a trie would show its users. Same scores, order and ties as beam.h. */
#ifndef SEMINDEX_UNCONSTRAINED_H
#define SEMINDEX_UNCONSTRAINED_H

#include "beam.h"

struct unconstrained;
/* limits.rows is not read. Borrows the model. NULL with a reason. */
struct unconstrained *unconstrained_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e);
void unconstrained_free(struct unconstrained *u); /* NULL is fine */

/* Searches for every row of the last t5_encode of `work`, which may have been searched before; width 1 .. limits.width. */
void unconstrained_run(struct unconstrained *u, struct t5_work *work, int32_t width);
/* IDs of request r, [count, positions], best first; valid until the next run. */
const uint32_t *unconstrained_ids(const struct unconstrained *u, int32_t r, int32_t *count);

#endif
