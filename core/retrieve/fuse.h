/* fuse.h: one ranking from several. A list says how good its documents are by their places, or by scores that can be read as probabilities:
 *   score = sum over lists of weight / (60 + rank)             reciprocal ranks (Cormack, Clarke and Buettcher 2009), where the list has no scores
 *                             weight * score / sum of scores   shares: a mixture of distributions, where it has */
#ifndef SEMINDEX_FUSE_H
#define SEMINDEX_FUSE_H

#include <stdbool.h>
#include <stdint.h>

enum { FUSE_CONSTANT = 60, FUSE_LISTS = 4, FUSE_NEIGHBOURS = 10 };

struct fuse_list {
    const int64_t *document; /* best first, distinct */
    int32_t count;
    double weight; /* 1 */
    const double *score; /* [count], 0 or more, or NULL */
};
struct fuse_hit {
    int64_t document;
    double score;
    int32_t rank[FUSE_LISTS]; /* rank in each list from 1, 0 = not in it */
};
/* Best `limit` documents of all lists (at most FUSE_LISTS) into out; ties by document ascending. Returns their number. */
int32_t fuse_lists(const struct fuse_list *lists, int32_t count, struct fuse_hit *out, int32_t limit);
/* Documents that list 0 cannot know (known[r - 1] false, r: rank in list 1, which has n documents) lack its term. In hits, which fuse_lists made of
 * all of two lists without scores, each of them gets the mean of that term over the FUSE_NEIGHBOURS documents nearest to it in list 1 of which
 * list 0 knows (0 for one that list 0 left out), where that is more than it has: what list 0 gives to documents that list 1 finds as good.
 * weight: of list 0. Sorted again. */
void fuse_impute(struct fuse_hit *hits, int32_t count, const bool *known, int32_t n, double weight);

/* The weight of a beam's list beside another one (weight 1), chosen by nDCG@10 of single targets: add questions, then ask for the best of
 * fuse_weights. A beam always counts: there is no weight 0. */
enum { FUSE_WEIGHTS = 14 };
extern const double fuse_weights[FUSE_WEIGHTS]; /* rising */
struct fuse_choice {
    double gain[FUSE_WEIGHTS], alone[2]; /* sums over the questions: fused by each weight; of each list by itself */
    int64_t questions;
};
/* lists: the beam's and the other one; their weights are not read. */
void fuse_choice_add(struct fuse_choice *c, const struct fuse_list lists[2], int64_t target);
/* Index of the best weight of at least `least`; of equals the smallest. Among ranks a weight below FUSE_RANK_LEAST moves next to nothing: the beam's
 * first document would pass three others at the top, none of them with .01. */
#define FUSE_RANK_LEAST 0.05
int32_t fuse_choice_best(const struct fuse_choice *c, double least);

#endif
