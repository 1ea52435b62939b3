/* fuse.c: see fuse.h. Lists are short (a beam's width), so documents are matched by sorting one array of (document, list, rank). */
#include "fuse.h"
#include "../base/err.h"
#include "../base/mem.h"

struct entry {
    int64_t document;
    int32_t list, rank;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->document != y->document)
        return x->document < y->document ? -1 : 1;
    return x->list - y->list;
}

static int compare_hits(const void *a, const void *b)
{
    const struct fuse_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

static struct entry *entries_of(const struct fuse_list *lists, int32_t count, int32_t *n)
{
    int32_t total = 0, at = 0;
    for (int32_t i = 0; i < count; i++)
        total += lists[i].count;
    struct entry *all = xcalloc((size_t)total + 1, sizeof *all);
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < lists[i].count; k++)
            all[at++] = (struct entry){lists[i].document[k], i, k + 1};
    qsort(all, (size_t)total, sizeof *all, compare_entries);
    *n = total;
    return all;
}

int32_t fuse_reciprocal(const struct fuse_list *lists, int32_t count, struct fuse_hit *out, int32_t limit)
{
    int32_t n, hits = 0;
    CHECK(count <= FUSE_LISTS);
    struct entry *all = entries_of(lists, count, &n);
    struct fuse_hit *merged = xcalloc((size_t)n + 1, sizeof *merged);
    for (int32_t i = 0; i < n; i++) {
        if (i == 0 || all[i].document != all[i - 1].document)
            merged[hits++].document = all[i].document;
        merged[hits - 1].rank[all[i].list] = all[i].rank;
        merged[hits - 1].score += lists[all[i].list].weight / (FUSE_CONSTANT + all[i].rank);
    }
    qsort(merged, (size_t)hits, sizeof *merged, compare_hits);
    int32_t kept = hits < limit ? hits : limit;
    for (int32_t i = 0; i < kept; i++)
        out[i] = merged[i];
    free(all);
    free(merged);
    return kept;
}
