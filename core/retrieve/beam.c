/* beam.c: see beam.h.
 *
 * Two sets of beams take turns as input and output of beam_step, which also writes the next decoder tokens; parents tell the cached decode which
 * ancestors to read. So the state of a search between positions is exactly (beams, tokens, cache), all of it in backend memory, and the host
 * neither reads nor writes any of it before the end: a device runs position after position without waiting. It starts from constants
 * (`start`) and ends with one read: the last two levels lie in the two sets, and all that hits and prefixes need of them, with the
 * counts of every level, begins the one block of a search's results, laid out anew for each search's number of requests and width.
 *
 * Where the backend's memory is not the host's, `total` is an upper bound and rows beyond the live ones are decoded in vain; here only the
 * offsets say what is live, and they are looked at after the last position. */
#include "beam.h"
#include "../base/mem.h"

#include <string.h>

struct beam {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct beam_limits limits;
    int32_t *zeros;     /* backend memory: decoder start tokens, scores of the start */
    struct beams start; /* one beam a request, score 0: constant but for the number of requests */
    struct beams side[2];
    int32_t *block, *cut, *tokens; /* backend memory of the results; cut [levels, requests] */
    int32_t *copy;                 /* host's copy of what is read of the block */
    int64_t words;                 /* that are read */
    struct act *kept; /* [rows, D] states that led to the beams of the last level but one */
    float *states;    /* the same on the host */
    int32_t requests;
    struct beam_hit *hits;
    struct beam_prefix *prefixes;
    int32_t *hit_offsets, *prefix_offsets, *cut_total;
};

static int32_t *take(int32_t **from, int64_t words)
{
    int32_t *here = *from;
    *from += words;
    return here;
}

/* Cuts the block for one search; what the host reads comes first. */
static void lay_out(struct beam *b, int32_t requests, int64_t rows)
{
    int32_t *at = b->block;
    b->cut = take(&at, (int64_t)b->layout.positions * requests);
    for (int i = 0; i < 2; i++)
        b->side[i].offsets = take(&at, requests + 1);
    for (int i = 0; i < 2; i++) {
        b->side[i].node = (uint32_t *)take(&at, rows);
        b->side[i].score = (float *)take(&at, rows);
    }
    b->words = at - b->block;
    for (int i = 0; i < 2; i++) {
        b->side[i].parent = take(&at, rows);
        b->side[i].code = (uint32_t *)take(&at, rows);
    }
    b->tokens = take(&at, rows);
}

static bool open_memory(struct beam *b, int32_t d)
{
    int32_t requests = b->limits.requests, *iota = xcalloc((size_t)requests + 1, sizeof *iota);
    int64_t rows = b->limits.rows, small = (int64_t)b->layout.positions * requests + 2 * (requests + 1);
    for (int32_t r = 0; r <= requests; r++)
        iota[r] = r;
    b->zeros = b->be->alloc((size_t)requests * sizeof *b->zeros);
    b->start.offsets = b->be->alloc(((size_t)requests + 1) * sizeof *iota);
    b->block = b->be->alloc((size_t)(small + 9 * rows) * sizeof *b->block);
    b->kept = b->be->act_alloc(rows * d);
    b->copy = xcalloc((size_t)(small + 4 * rows), sizeof *b->copy);
    if (b->start.offsets)
        b->be->write(b->start.offsets, iota, ((size_t)requests + 1) * sizeof *iota);
    b->start.score = (float *)b->zeros;
    b->start.parent = b->zeros;
    b->start.node = b->start.code = (uint32_t *)b->zeros;
    free(iota);
    return b->zeros && b->start.offsets && b->block && b->kept;
}

struct beam *beam_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e)
{
    if (l->width > BEAM_WIDTH_MOST && !t5_backend(m)->has_host_memory) {
        err_set(e, ERR_USAGE, "a beam of %d; on a device it is at most %d", l->width, BEAM_WIDTH_MOST);
        return NULL;
    }
    struct beam *b = xcalloc(1, sizeof *b);
    size_t requests = (size_t)l->requests, d = (size_t)t5_config_of(m)->d_model;
    b->be = t5_backend(m);
    b->model = m;
    b->layout = *layout;
    b->limits = *l;
    b->limits.rows = l->rows > 0 && l->rows < l->requests * l->width ? l->rows : l->requests * l->width;
    size_t rows = (size_t)b->limits.rows;
    bool whole = open_memory(b, (int32_t)d);
    b->states = xcalloc(rows * d, sizeof *b->states);
    b->hits = xcalloc(rows, sizeof *b->hits);
    b->prefixes = xcalloc(rows, sizeof *b->prefixes);
    b->hit_offsets = xcalloc(requests + 1, sizeof *b->hit_offsets);
    b->prefix_offsets = xcalloc(requests + 1, sizeof *b->prefix_offsets);
    b->cut_total = xcalloc(requests, sizeof *b->cut_total);
    if (whole)
        return b;
    beam_free(b);
    err_set(e, ERR_OS, "no memory for a beam of %d requests x width %d", l->requests, l->width);
    return NULL;
}

void beam_free(struct beam *b)
{
    if (!b)
        return;
    void *theirs[] = {b->zeros, b->start.offsets, b->block, b->kept};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        b->be->release(theirs[i]);
    void *ours[] = {b->copy, b->states, b->hits, b->prefixes, b->hit_offsets, b->prefix_offsets, b->cut_total};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        free(ours[i]);
    free(b);
}

/* ---- the positions ---- */

static void step(struct beam *b, struct t5_work *work, const struct beam_search *s, int32_t level, const struct beams *in)
{
    struct beams *out = &b->side[level & 1];
    int32_t first = b->layout.base + code_layout_first(&b->layout, level);
    const struct act *h = t5_decode_step(b->model, work, in->offsets, in->total, level ? b->tokens : b->zeros, in->parent);
    const struct beam_step a = {.trie = s->placed, .level = level, .head = t5_head(b->model), .first = first,
                                .codes = b->layout.codes[level], .scale = t5_head_scale(b->model), .h = h, .in = in, .out = out,
                                .tokens = b->tokens, .token_base = first, .width = s->width, .renormalise = s->renormalise,
                                .cut = b->cut + (int64_t)level * b->requests};
    b->be->beam_step(&a);
    if (s->keep_states && level + 2 == s->trie->levels)
        b->be->gather(b->kept, h, out->parent, out->total, t5_config_of(b->model)->d_model);
}

/* ---- what the host reads ---- */

/* Where the host's copy has what the backend has at `p`. */
static const void *copy_of(const struct beam *b, const void *p)
{
    return b->copy + ((const int32_t *)p - b->block);
}

static void keep_prefixes(struct beam *b, const struct beam_search *s, const struct beams *from)
{
    const int32_t *offsets = copy_of(b, from->offsets);
    const uint32_t *node = copy_of(b, from->node);
    const float *score = copy_of(b, from->score);
    int64_t d = t5_config_of(b->model)->d_model;
    int32_t n = offsets[b->requests];
    if (s->keep_states)
        b->be->download(b->states, b->kept, n * d);
    for (int32_t i = 0; i < n; i++)
        b->prefixes[i] = (struct beam_prefix){node[i], (double)score[i], s->keep_states ? b->states + i * d : NULL};
    memcpy(b->prefix_offsets, offsets, ((size_t)b->requests + 1) * sizeof *offsets);
}

static void keep_hits(struct beam *b, const struct trie_view *trie, const struct beams *from)
{
    const int32_t *offsets = copy_of(b, from->offsets);
    const uint32_t *node = copy_of(b, from->node);
    const float *score = copy_of(b, from->score);
    for (int32_t i = 0; i < offsets[b->requests]; i++)
        b->hits[i] = (struct beam_hit){node[i], trie->leaf_doc[node[i]], (double)score[i]};
    memcpy(b->hit_offsets, offsets, ((size_t)b->requests + 1) * sizeof *offsets);
}

/* The one read of a search, after `levels` positions: fewer than the trie's when there was nothing left to choose from. */
static void read_results(struct beam *b, const struct beam_search *s, int32_t levels)
{
    b->be->read(b->copy, b->block, (size_t)b->words * sizeof *b->copy);
    for (int32_t l = 0; l < levels; l++)
        for (int32_t r = 0; r < b->requests; r++)
            b->cut_total[r] += b->copy[(int64_t)l * b->requests + r];
    if (levels < s->trie->levels)
        return;
    keep_hits(b, s->trie, &b->side[(levels - 1) & 1]);
    if (levels > 1)
        keep_prefixes(b, s, &b->side[levels & 1]);
}

int beam_run(struct beam *b, struct t5_work *work, const struct beam_search *s)
{
    int32_t level = 0, requests = b->requests = t5_encoded_rows(work).count;
    CHECK(s->width >= 1 && s->width <= b->limits.width && s->trie->levels == b->layout.positions && s->placed->levels == s->trie->levels);
    CHECK(requests <= b->limits.requests && (int64_t)requests * s->width <= b->limits.rows);
    memset(b->hit_offsets, 0, ((size_t)requests + 1) * sizeof *b->hit_offsets);
    memset(b->prefix_offsets, 0, ((size_t)requests + 1) * sizeof *b->prefix_offsets);
    memset(b->cut_total, 0, (size_t)requests * sizeof *b->cut_total);
    lay_out(b, requests, (int64_t)requests * s->width);
    b->start.requests = b->start.total = b->side[0].requests = b->side[1].requests = requests;
    t5_decode_begin(b->model, work);
    for (const struct beams *in = &b->start; level < s->trie->levels && in->total > 0; in = &b->side[level++ & 1]) {
        if (s->stop && s->stop(s->state))
            return -1;
        step(b, work, s, level, in);
    }
    read_results(b, s, level);
    return 0;
}

const struct beam_hit *beam_hits(const struct beam *b, int32_t r, int32_t *count)
{
    *count = b->hit_offsets[r + 1] - b->hit_offsets[r];
    return b->hits + b->hit_offsets[r];
}

bool beam_exhaustive(const struct beam *b, int32_t r)
{
    return b->cut_total[r] == 0;
}

const struct beam_prefix *beam_prefixes(const struct beam *b, int32_t r, int32_t *count)
{
    *count = b->prefix_offsets[r + 1] - b->prefix_offsets[r];
    return b->prefixes + b->prefix_offsets[r];
}
