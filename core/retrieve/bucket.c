/* bucket.c: see bucket.h. New documents are the tail of a bucket's children, as their codes are the largest: one binary search finds them. */
#include "bucket.h"
#include "../base/mem.h"

#include <math.h>

struct candidates {
    struct bucket_hit *hit;
    int32_t n, room;
};

static void push(struct candidates *c, struct bucket_hit hit)
{
    if (c->n == c->room)
        c->hit = xrealloc(c->hit, (size_t)(c->room = c->room ? c->room * 2 : 64), sizeof *c->hit);
    c->hit[c->n++] = hit;
}

/* First child in [from, to) of the last level whose code is untrained. */
static uint32_t first_new(const struct bucket_ranking *k, uint32_t from, uint32_t to)
{
    int32_t last = k->trie->levels - 1;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (trie_code(k->trie, last, middle) < k->trained)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static double similarity_of(const struct bucket_ranking *k, uint32_t document, const float *state)
{
    double s = k->similarity ? k->similarity(k->context, document, state) : 0;
    return isfinite(s) ? s : 0;
}

/* The new documents among the children [first, to). */
static void push_bucket(struct candidates *c, const struct bucket_ranking *k, const struct beam_prefix *p, uint32_t first, uint32_t to)
{
    int32_t begin = c->n;
    uint32_t from = first_new(k, first, to);
    double most = -INFINITY, sum = 0, mass = from < to ? log((double)(to - from) / (to - first)) : 0;
    for (uint32_t leaf = from; leaf < to; leaf++) {
        uint32_t document = k->trie->leaf_doc[leaf];
        double s = similarity_of(k, document, p ? p->state : NULL);
        push(c, (struct bucket_hit){.leaf = leaf, .document = document, .log_prefix = p ? p->score : 0, .log_share = s});
        most = s > most ? s : most;
    }
    for (int32_t i = begin; i < c->n; i++)
        sum += exp(c->hit[i].log_share - most);
    for (int32_t i = begin; i < c->n; i++) {
        c->hit[i].log_share += mass - most - log(sum);
        c->hit[i].score = c->hit[i].log_prefix + c->hit[i].log_share;
    }
}

/* ln P of the prefix above a leaf, where that prefix was kept. */
static double prefix_of(const struct bucket_ranking *k, const struct beam_prefix *p, int32_t n, uint32_t leaf)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t from, to;
        trie_children(k->trie, k->trie->levels - 2, p[i].node, &from, &to);
        if (leaf >= from && leaf < to)
            return p[i].score;
    }
    return NAN;
}

static int compare_hits(const void *a, const void *b)
{
    const struct bucket_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->leaf > y->leaf) - (x->leaf < y->leaf);
}

int32_t bucket_rank(const struct beam *b, int32_t r, const struct bucket_ranking *k, struct bucket_hit *out)
{
    int32_t prefixes, hits;
    uint32_t from, to;
    struct candidates c = {0};
    const struct beam_prefix *p = beam_prefixes(b, r, &prefixes);
    const struct beam_hit *h = beam_hits(b, r, &hits);
    for (int32_t i = 0; i < hits; i++)
        push(&c, (struct bucket_hit){.leaf = h[i].leaf, .document = h[i].document, .score = h[i].score, .trained = true,
                                     .log_prefix = prefix_of(k, p, prefixes, h[i].leaf)});
    int32_t trained = c.n;
    for (int32_t i = 0; i < prefixes; i++) {
        trie_children(k->trie, k->trie->levels - 2, p[i].node, &from, &to);
        push_bucket(&c, k, &p[i], from, to);
    }
    if (k->trie->levels == 1)
        push_bucket(&c, k, NULL, 0, k->trie->level[0].nodes);
    if (c.n > trained)
        qsort(c.hit, (size_t)c.n, sizeof *c.hit, compare_hits); /* the beam's own order is final among trained hits without new ones */
    int32_t n = c.n < k->width ? c.n : k->width;
    for (int32_t i = 0; i < n; i++)
        out[i] = c.hit[i];
    free(c.hit);
    return n;
}
