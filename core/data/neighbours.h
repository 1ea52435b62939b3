/* neighbours.h: the item neighbours recommender, the baseline that every learned one has to beat (method.md 8), and popularity.
 *
 *   score(j) = sum over history items i of decay^age(i) * sim(i, j)      age of the newest item = 0
 *   sim(i, j) = sum over training users with j at most `window` places after i of 1 / distance, divided by count(i)^x * count(j)^y
 * Built once from training sequences, immutable, any thread may score. A sequence here is an array of item numbers, oldest first. */
#ifndef SEMINDEX_NEIGHBOURS_H
#define SEMINDEX_NEIGHBOURS_H

#include "../base/err.h"
#include "../base/mem.h"
#include <stdint.h>

struct neighbours_options {
    int32_t window;     /* 10 */
    double x, y, decay; /* 0.5, 0, 0.5 */
};
struct neighbours_options neighbours_defaults(void);

/* The training part of histories: user u has items[offsets[u] .. offsets[u + 1] - held_out). */
struct neighbours_input {
    const int32_t *items;
    const int64_t *offsets; /* [users + 1] */
    int32_t users, count;   /* count: number of items */
    int32_t held_out;       /* last items of every user that do not train: 1 to test, 2 to validate */
};
struct neighbours;
struct neighbours *neighbours_build(const struct neighbours_input *in, const struct neighbours_options *o);
void neighbours_free(struct neighbours *n);

/* scores [count] "=": of every item for a history (oldest first). */
void neighbours_score(const struct neighbours *n, const int32_t *history, int32_t length, double *scores);
/* The best `most` items for a history (oldest first; items outside 0 .. count - 1 are unknown and say nothing) into out, by score descending, ties by
 * item ascending; items of the history are left out, and so is what has no score. Returns their number. */
struct neighbours_hit {
    int32_t item;
    double score;
};
int32_t neighbours_best(const struct neighbours *n, const int32_t *history, int32_t length, struct neighbours_hit *out, int32_t most);
/* How often each item occurs in the training part, [count]; owned by n. The popularity baseline's scores. */
const int32_t *neighbours_popularity(const struct neighbours *n);

/* As a file: a header {"SINB", version 1, items, pairs, decay}, then popularity, rows, items j, similarities; little-endian. read checks all of it
 * against its size and `count` items; NULL with what is wrong. */
void neighbours_write(const struct neighbours *n, struct str *out);
struct neighbours *neighbours_read(const void *bytes, size_t size, int32_t count, struct err *e);
size_t neighbours_bytes(const struct neighbours *n); /* of memory */

/* Rank (from 1) of `target` by (score descending, id in descending byte order); items of `left_out` (may hold the target: then it is kept) take no
 * part. id_rank[item] = place of the item's id in descending byte order, from neighbours_id_ranks. */
struct neighbours_ranking {
    const double *scores;
    const int32_t *id_rank;
    int32_t count;
    const int32_t *left_out;
    int32_t left_out_count;
};
int32_t neighbours_rank(const struct neighbours_ranking *r, int32_t target);
void neighbours_id_ranks(int32_t *id_rank, const char *const *ids, int32_t count);

#endif
