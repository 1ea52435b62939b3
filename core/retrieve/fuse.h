/* fuse.h: one ranking from several, by reciprocal ranks (Cormack, Clarke and Buettcher 2009): score = sum of weight / (60 + rank). */
#ifndef SEMINDEX_FUSE_H
#define SEMINDEX_FUSE_H

#include <stdint.h>

enum { FUSE_CONSTANT = 60, FUSE_LISTS = 4 };

struct fuse_list {
    const int64_t *document; /* best first, distinct */
    int32_t count;
    double weight; /* 1 */
};
struct fuse_hit {
    int64_t document;
    double score;
    int32_t rank[FUSE_LISTS]; /* rank in each list from 1, 0 = not in it */
};
/* Best `limit` documents of all lists (at most FUSE_LISTS) into out; ties by document ascending. Returns their number. */
int32_t fuse_reciprocal(const struct fuse_list *lists, int32_t count, struct fuse_hit *out, int32_t limit);

#endif
