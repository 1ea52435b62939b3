/* learn_batch.c: which documents a training step sees.
 *
 * Everything is a function of (seed, stage, step): a resumed run draws what an unbroken one draws. At the first position an epoch is a
 * permutation. Later ones want negatives that share the prefix, so documents of one bucket are put next to each other in groups of
 * 1 + negatives, the groups are permuted, and the negatives of a document are its neighbours in the batch: no row is encoded only to be a negative.
 * A document alone in its bucket has no negatives and no second view (the contrastive loss leaves it out). */
#include "learn_internal.h"

#include <stdlib.h>
#include <string.h>

struct learn_batch {
    int32_t *order; /* [n] documents of the epoch */
    int64_t order_epoch, order_stage;
    struct group *groups;
    int32_t *tokens, *offsets, *prefix, *second_view, *negatives, *negative_offsets;
    uint64_t *keys;
    int32_t rows;
};

struct group {
    uint64_t key;
    int32_t from, count;
};

struct learn_batch *learn_batch_init(const struct learn *s)
{
    struct learn_batch *b = xcalloc(1, sizeof *b);
    size_t documents = (size_t)s->o.batch, tokens = 2 * (size_t)learn_longest_tokens(s, s->o.batch);
    b->order = xcalloc((size_t)s->n, sizeof *b->order);
    b->groups = xcalloc((size_t)s->n, sizeof *b->groups);
    b->tokens = xcalloc(tokens, sizeof *b->tokens);
    b->offsets = xcalloc(2 * documents + 1, sizeof *b->offsets);
    b->prefix = xcalloc(2 * documents * (size_t)s->o.positions, sizeof *b->prefix);
    b->second_view = xcalloc(documents, sizeof *b->second_view);
    b->negatives = xcalloc(documents * (size_t)s->o.negatives + 1, sizeof *b->negatives);
    b->negative_offsets = xcalloc(documents + 1, sizeof *b->negative_offsets);
    b->keys = xcalloc(documents, sizeof *b->keys);
    b->order_epoch = b->order_stage = -1;
    return b;
}

void learn_batch_free(struct learn_batch *b)
{
    if (!b)
        return;
    void *all[] = {b->order, b->groups, b->tokens, b->offsets, b->prefix, b->second_view, b->negatives, b->negative_offsets, b->keys};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(b);
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t learn_longest_tokens(const struct learn *s, int32_t documents)
{
    int64_t sum = 0, *length = xmalloc((size_t)s->n * sizeof *length);
    for (int32_t i = 0; i < s->n; i++)
        length[i] = s->offsets[i + 1] - s->offsets[i];
    qsort(length, (size_t)s->n, sizeof *length, descending);
    for (int32_t i = 0; i < documents && i < s->n; i++)
        sum += length[i];
    free(length);
    return sum;
}

int64_t learn_batches(const struct learn *s)
{
    return (s->trained + s->o.batch - 1) / s->o.batch;
}

static void shuffle(int32_t *x, int32_t n, uint64_t seed)
{
    for (int32_t i = n - 1; i > 0; i--) {
        int32_t j = (int32_t)(mix64(seed, (uint64_t)i) % (uint64_t)(i + 1)), keep = x[i];
        x[i] = x[j];
        x[j] = keep;
    }
}

struct prefix_compare {
    const int32_t *codes;
    int32_t stride, columns;
};

static int same_prefix(const struct learn *s, int32_t position, int32_t a, int32_t b)
{
    size_t stride = (size_t)s->o.positions;
    return memcmp(s->codes + (size_t)a * stride, s->codes + (size_t)b * stride, (size_t)position * sizeof(int32_t)) == 0;
}

/* By prefix, then by place in the shuffled order: qsort_r is not stable, so the place is part of the key. */
static int compare_documents(const void *a, const void *b, void *context)
{
    const struct prefix_compare *c = context;
    const int32_t *x = a, *y = b; /* {document, place} */
    const int32_t *p = c->codes + (size_t)x[0] * (size_t)c->stride, *q = c->codes + (size_t)y[0] * (size_t)c->stride;
    for (int32_t i = 0; i < c->columns; i++)
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    return (x[1] > y[1]) - (x[1] < y[1]);
}

static int compare_groups(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

/* The order by buckets in groups of at most 1 + negatives, groups permuted. */
static void order_by_bucket(struct learn *s, int32_t position, uint64_t seed)
{
    struct learn_batch *b = s->batch;
    int32_t(*pairs)[2] = xmalloc((size_t)s->trained * sizeof *pairs), groups = 0, out = 0;
    for (int32_t i = 0; i < s->trained; i++)
        pairs[i][0] = b->order[i], pairs[i][1] = i;
    struct prefix_compare c = {s->codes, s->o.positions, position};
    qsort_r(pairs, (size_t)s->trained, sizeof *pairs, compare_documents, &c);
    for (int32_t i = 0; i < s->trained; i += b->groups[groups++].count) {
        int32_t count = 1;
        while (i + count < s->trained && count < 1 + s->o.negatives && same_prefix(s, position, pairs[i][0], pairs[i + count][0]))
            count++;
        b->groups[groups] = (struct group){mix64(seed, (uint64_t)groups + 0x67726f7570ull), i, count};
    }
    qsort(b->groups, (size_t)groups, sizeof *b->groups, compare_groups);
    for (int32_t g = 0; g < groups; g++)
        for (int32_t i = 0; i < b->groups[g].count; i++)
            b->order[out++] = pairs[b->groups[g].from + i][0];
    free(pairs);
}

static void draw_order(struct learn *s, int32_t position, int64_t epoch)
{
    struct learn_batch *b = s->batch;
    if (b->order_epoch == epoch && b->order_stage == s->mark.stage)
        return;
    uint64_t seed = mix64(mix64(s->o.seed, (uint64_t)s->mark.stage), (uint64_t)epoch);
    for (int32_t i = 0, n = 0; i < s->n; i++)
        if (!s->held || !s->held[i])
            b->order[n++] = i;
    shuffle(b->order, s->trained, seed);
    if (position > 0)
        order_by_bucket(s, position, seed);
    b->order_epoch = epoch;
    b->order_stage = s->mark.stage;
}

static void push_row(struct learn *s, int32_t document, int32_t position)
{
    struct learn_batch *b = s->batch;
    int64_t length = s->offsets[document + 1] - s->offsets[document];
    memcpy(b->tokens + b->offsets[b->rows], s->tokens + s->offsets[document], (size_t)length * sizeof *b->tokens);
    memcpy(b->prefix + (size_t)b->rows * (size_t)position, s->codes + (size_t)document * (size_t)s->o.positions,
           (size_t)position * sizeof *b->prefix);
    b->offsets[b->rows + 1] = b->offsets[b->rows] + (int32_t)length;
    b->rows++;
}

/* Neighbours of entry i in the batch that share its prefix, nearest first, at most o.negatives. */
static int32_t push_negatives(struct learn *s, const int32_t *documents, int32_t count, int32_t i, int32_t position)
{
    struct learn_batch *b = s->batch;
    int32_t n = b->negative_offsets[i], first = n;
    for (int32_t j = i + 1; j < count && n - first < s->o.negatives && same_prefix(s, position, documents[i], documents[j]); j++)
        b->negatives[n++] = j;
    for (int32_t j = i - 1; j >= 0 && n - first < s->o.negatives && same_prefix(s, position, documents[i], documents[j]); j--)
        b->negatives[n++] = j;
    b->negative_offsets[i + 1] = n;
    return n - first;
}

static void push_views(struct learn *s, const int32_t *documents, int32_t count, int32_t position)
{
    struct learn_batch *b = s->batch;
    for (int32_t i = 0; i < count; i++) {
        int32_t negatives = position ? push_negatives(s, documents, count, i, position) : 1;
        b->second_view[i] = negatives ? b->rows : -1;
        if (negatives)
            push_row(s, documents[i], position);
    }
}

void learn_batch_fill(struct learn *s, enum lm_stage stage, int32_t position, int64_t step, struct lm_batch *out)
{
    struct learn_batch *b = s->batch;
    int64_t per_epoch = learn_batches(s), from = step % per_epoch * s->o.batch;
    draw_order(s, position, step / per_epoch);
    int32_t count = s->trained - from < s->o.batch ? (int32_t)(s->trained - from) : s->o.batch;
    const int32_t *documents = b->order + from;
    b->rows = 0;
    for (int32_t i = 0; i < count; i++) {
        push_row(s, documents[i], position);
        b->keys[i] = (uint64_t)documents[i];
    }
    if (stage != LM_WARMUP && s->o.weight_contrastive > 0)
        push_views(s, documents, count, position);
    *out = (struct lm_batch){.stage = stage, .position = position, .documents = count, .rows = {b->rows, b->tokens, b->offsets},
                             .prefix = b->prefix, .keys = b->keys, .hint_ratio = s->o.hints[position],
                             .second_view = b->rows > count ? b->second_view : NULL, .negatives = b->negatives,
                             .negative_offsets = b->negative_offsets, .target_share = s->o.target_share,
                             .seed = mix64(mix64(s->o.seed ^ 0x73746570ull, (uint64_t)s->mark.stage), (uint64_t)step),
                             .dropout = stage != LM_WARMUP && s->o.dropout > 0, .freeze_codebooks = true,
                             .contrastive_temperature = s->o.contrastive_temperature, .weight_recon = s->o.weight_recon,
                             .weight_contrastive = s->o.weight_contrastive, .weight_commitment = s->o.weight_commitment};
}

void learn_batch_forget(struct learn *s)
{
    s->batch->order_epoch = s->batch->order_stage = -1;
}

int32_t learn_batch_held(struct learn *s, int32_t from, struct lm_batch *out)
{
    struct learn_batch *b = s->batch;
    int32_t position = s->o.positions - 1, number = 0;
    b->rows = 0;
    for (int32_t i = 0; i < s->n && b->rows < s->o.micro_batch; i++) {
        if (!s->held[i] || number++ < from)
            continue;
        b->keys[b->rows] = (uint64_t)i;
        push_row(s, i, position);
    }
    *out = (struct lm_batch){.stage = LM_JOINT, .position = position, .documents = b->rows, .rows = {b->rows, b->tokens, b->offsets},
                             .prefix = b->prefix, .keys = b->keys, .target_share = 1, .freeze_codebooks = true, .weight_recon = 1};
    return b->rows;
}

struct t5_batch learn_batch_rows(struct learn *s, int32_t position, int32_t from, int32_t count, const int32_t **prefix)
{
    struct learn_batch *b = s->batch;
    b->rows = 0;
    for (int32_t i = 0; i < count; i++)
        push_row(s, from + i, position);
    *prefix = b->prefix;
    return (struct t5_batch){b->rows, b->tokens, b->offsets};
}
