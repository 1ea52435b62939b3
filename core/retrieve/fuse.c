/* fuse.c: see fuse.h. Lists are short (a beam's width), so documents are matched by sorting one array of (document, list, rank). */
#include "fuse.h"
#include "../base/err.h"
#include "../base/mem.h"

#include <math.h>

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

static double total_of(const struct fuse_list *l)
{
    double sum = 0;
    for (int32_t i = 0; l->score != NULL && i < l->count; i++)
        sum += l->score[i];
    return sum;
}

/* What list l says of its document at `rank` (from 1). */
static double term_of(const struct fuse_list *l, int32_t rank, double total)
{
    if (l->score == NULL)
        return l->weight / (FUSE_CONSTANT + rank);
    return total > 0 ? l->weight * l->score[rank - 1] / total : 0;
}

int32_t fuse_lists(const struct fuse_list *lists, int32_t count, struct fuse_hit *out, int32_t limit)
{
    int32_t n, hits = 0;
    double total[FUSE_LISTS];
    CHECK(count <= FUSE_LISTS);
    for (int32_t i = 0; i < count; i++)
        total[i] = total_of(&lists[i]);
    struct entry *all = entries_of(lists, count, &n);
    struct fuse_hit *merged = xcalloc((size_t)n + 1, sizeof *merged);
    for (int32_t i = 0; i < n; i++) {
        if (i == 0 || all[i].document != all[i - 1].document)
            merged[hits++].document = all[i].document;
        merged[hits - 1].rank[all[i].list] = all[i].rank;
        merged[hits - 1].score += term_of(&lists[all[i].list], all[i].rank, total[all[i].list]);
    }
    qsort(merged, (size_t)hits, sizeof *merged, compare_hits);
    int32_t kept = hits < limit ? hits : limit;
    for (int32_t i = 0; i < kept; i++)
        out[i] = merged[i];
    free(all);
    free(merged);
    return kept;
}

/* Mean of list 0's terms over the documents next to place r of list 1 of which list 0 knows. */
static double mean_term(const double *term, const bool *known, int32_t n, int32_t r)
{
    double sum = 0;
    int32_t taken = 0;
    for (int32_t low = r - 1, high = r + 1; taken < FUSE_NEIGHBOURS && (low >= 0 || high < n); low--, high++) {
        if (low >= 0 && known[low]) {
            sum += term[low];
            taken++;
        }
        if (high < n && known[high] && taken < FUSE_NEIGHBOURS) {
            sum += term[high];
            taken++;
        }
    }
    return taken > 0 ? sum / taken : 0;
}

void fuse_impute(struct fuse_hit *hits, int32_t count, const bool *known, int32_t n, double weight)
{
    double *term = xcalloc((size_t)n + 1, sizeof *term);
    for (int32_t i = 0; i < count; i++)
        if (hits[i].rank[1] > 0 && hits[i].rank[0] > 0)
            term[hits[i].rank[1] - 1] = weight / (FUSE_CONSTANT + hits[i].rank[0]);
    for (int32_t i = 0; i < count; i++) {
        int32_t r = hits[i].rank[1] - 1;
        if (r < 0 || known[r])
            continue;
        double mean = mean_term(term, known, n, r);
        if (mean > term[r])
            hits[i].score += mean - term[r];
    }
    qsort(hits, (size_t)count, sizeof *hits, compare_hits);
    free(term);
}

/* ---- the weight ---- */

const double fuse_weights[FUSE_WEIGHTS] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10};

static double gain_at(int32_t rank) /* from 0 */
{
    return 1 / log2(rank + 2);
}

static double gain_alone(const struct fuse_list *l, int64_t target)
{
    for (int32_t i = 0; i < l->count && i < 10; i++)
        if (l->document[i] == target)
            return gain_at(i);
    return 0;
}

void fuse_choice_add(struct fuse_choice *c, const struct fuse_list lists[2], int64_t target)
{
    struct fuse_list both[2] = {lists[0], lists[1]};
    struct fuse_hit ten[10];
    both[1].weight = 1;
    for (int32_t w = 0; w < FUSE_WEIGHTS; w++) {
        both[0].weight = fuse_weights[w];
        int32_t n = fuse_lists(both, 2, ten, 10);
        for (int32_t i = 0; i < n; i++)
            if (ten[i].document == target)
                c->gain[w] += gain_at(i);
    }
    for (int32_t k = 0; k < 2; k++)
        c->alone[k] += gain_alone(&lists[k], target);
    c->questions++;
}

int32_t fuse_choice_best(const struct fuse_choice *c, double least)
{
    int32_t best = 0;
    while (best + 1 < FUSE_WEIGHTS && fuse_weights[best] < least)
        best++;
    for (int32_t w = best + 1; w < FUSE_WEIGHTS; w++)
        if (c->gain[w] > c->gain[best])
            best = w;
    return best;
}
