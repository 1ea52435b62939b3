/* searcher.h: batches of queries through one task model: its work space, its beams, and on a device its recordings.
 *
 * On a processor a search is a row of calls. On a device it is one recording (a CUDA graph) for each shape: the batch is padded to one of
 * few numbers of requests and tokens, which changes no live request's results, its tokens are written, and one replay runs encoder, all
 * positions and beam steps. Shapes are recorded when they come for the second time, the common ones at start (searcher_warm), within a
 * budget of device memory; the one that has not been used for longest goes first. A recording outlives generations: it reads the trie
 * through a view in device memory that is the searcher's own and is written anew when another trie comes.
 *
 * Two seats hold two batches' results: while those of one are ranked on the host, the next one runs. */
#ifndef SEMINDEX_SEARCHER_H
#define SEMINDEX_SEARCHER_H

#include "beam.h"

enum { SEARCHER_SEATS = 2 };

struct searcher_limits {
    int32_t tokens, longest; /* of a batch; of one query */
    struct beam_limits beam;
    size_t recordings; /* bytes of device memory that they may take; 0: nothing is recorded or padded */
};
struct searcher;
/* Tries have layout->positions levels. The caller frees. */
struct searcher *searcher_init(struct t5 *m, const struct code_layout *layout, const struct searcher_limits *l, struct err *e);
void searcher_free(struct searcher *s); /* NULL is fine */

/* Takes a free seat; -1 when there is none and `wait` is false. Any thread. Whoever waits must hold no seat of any searcher. */
int32_t searcher_take(struct searcher *s, bool wait);
void searcher_give(struct searcher *s, int32_t seat);

/* Sends a batch off; on a processor it has ended on return. 0, or -1 when q->stop said so: the seat then has no results. The thread that
 * speaks to the backend; what q points to lives until searcher_end, the batch need not. Shapes must be within the limits. */
int searcher_begin(struct searcher *s, int32_t seat, const struct t5_batch *b, const struct beam_search *q);
/* Waits for the seat's batch and returns its results, valid until the seat's next batch. Where the backend has landings on any thread. */
const struct beam *searcher_end(struct searcher *s, int32_t seat);
double searcher_encoded_s(const struct searcher *s, int32_t seat); /* clock_s() when the encoder had been called; a replay's own start */

/* Records what searches like q will want first: each number of requests, 16 and 32 tokens to each; as far as the budget and a few seconds
 * go. No seat may be taken. The thread that speaks to the backend. */
void searcher_warm(struct searcher *s, const struct beam_search *q);

struct searcher_counts {
    int64_t called, replayed, recorded, refused, dropped; /* searches; recordings */
    size_t bytes;                                         /* of all recordings there are */
};
struct searcher_counts searcher_counts(const struct searcher *s);

#endif
