/* neighbours.h: the item neighbours recommender, the baseline that every learned one has to beat (method.md 8), and popularity.
 *
 *   score(j) = sum over history items i of decay^age(i) * sim(i, j)      age of the newest item = 0
 *   sim(i, j) = sum over training users with j at most `window` places after i of 1 / distance, divided by count(i)^x * count(j)^y
 * Built once from training sequences, immutable, any thread may score. A sequence here is an array of item numbers, oldest first. */
#ifndef SEMINDEX_NEIGHBOURS_H
#define SEMINDEX_NEIGHBOURS_H

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
/* How often each item occurs in the training part, [count]; owned by n. The popularity baseline's scores. */
const int32_t *neighbours_popularity(const struct neighbours *n);

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
