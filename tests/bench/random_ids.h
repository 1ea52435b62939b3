/* random_ids.h: as many random semantic IDs as a bench wants, in the order of their documents. */
#ifndef SEMINDEX_RANDOM_IDS_H
#define SEMINDEX_RANDOM_IDS_H

#include "../../core/base/mem.h"
#include "../../kernels/backend.h"

struct shape {
    const char *name;
    int32_t positions;
    uint32_t codes[4]; /* of the learned positions */
};

struct ids {
    uint32_t *codes, n;
    int32_t positions;
};

/* Random learned codes; the suffix is the rank in the bucket, as the catalogue gives it out. */
static inline struct ids draw_ids(const struct shape *s, uint32_t n, uint64_t seed)
{
    struct ids ids = {xmalloc((size_t)n * (size_t)s->positions * 4), n, s->positions};
    uint32_t slots = 1;
    while (slots < 2 * n)
        slots *= 2;
    uint64_t *key = xcalloc(slots, sizeof *key);
    uint32_t *used = xcalloc(slots, sizeof *used);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *id = ids.codes + (size_t)i * (size_t)s->positions;
        uint64_t bucket = 0;
        for (int32_t t = 0; t + 1 < s->positions; t++) {
            id[t] = (uint32_t)(mix64(seed, (uint64_t)i * 4 + (uint64_t)t) % s->codes[t]);
            bucket = bucket * s->codes[t] + id[t];
        }
        uint32_t slot = (uint32_t)(mix64(1, bucket) & (slots - 1));
        while (used[slot] && key[slot] != bucket)
            slot = (slot + 1) & (slots - 1);
        key[slot] = bucket;
        id[s->positions - 1] = used[slot]++;
    }
    free(key);
    free(used);
    return ids;
}

#endif
