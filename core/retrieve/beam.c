/* beam.c: see beam.h.
 *
 * Two sets of beams take turns as input and output of beam_step. Codes become decoder tokens by the layout; parents tell the cached decode which
 * ancestors to read. The state of a search between positions is exactly (beams, cache): nothing is moved or copied but these. */
#include "beam.h"
#include "../base/mem.h"

#include <string.h>

struct beam {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct beam_limits limits;
    struct beams side[2];
    int32_t *tokens, *cut; /* backend memory */
    int32_t *offsets, *parent, *cuts, *host_tokens; /* host copies */
    uint32_t *node, *code;
    float *score, *states;
    int32_t requests;
    struct beam_hit *hits;
    struct beam_prefix *prefixes;
    int32_t *hit_offsets, *prefix_offsets, *cut_total;
};

static int beams_init(struct beams *s, const struct backend *be, size_t rows, size_t requests)
{
    s->offsets = be->alloc((requests + 1) * sizeof(int32_t));
    s->node = be->alloc(rows * sizeof(uint32_t));
    s->score = be->alloc(rows * sizeof(float));
    s->parent = be->alloc(rows * sizeof(int32_t));
    s->code = be->alloc(rows * sizeof(uint32_t));
    return s->offsets && s->node && s->score && s->parent && s->code ? 0 : -1;
}

static void beams_free(struct beams *s, const struct backend *be)
{
    be->release(s->offsets);
    be->release(s->node);
    be->release(s->score);
    be->release(s->parent);
    be->release(s->code);
}

struct beam *beam_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e)
{
    struct beam *b = xcalloc(1, sizeof *b);
    size_t requests = (size_t)l->requests, rows = requests * (size_t)l->width, d = (size_t)t5_config_of(m)->d_model;
    b->be = t5_backend(m);
    b->model = m;
    b->layout = *layout;
    b->limits = *l;
    b->tokens = b->be->alloc(rows * sizeof(int32_t));
    b->cut = b->be->alloc(requests * sizeof(int32_t));
    bool whole = beams_init(&b->side[0], b->be, rows, requests) == 0 && beams_init(&b->side[1], b->be, rows, requests) == 0;
    b->offsets = xcalloc(requests + 1, sizeof *b->offsets);
    b->parent = xcalloc(rows, sizeof *b->parent);
    b->host_tokens = xcalloc(rows, sizeof *b->host_tokens);
    b->cuts = xcalloc(requests, sizeof *b->cuts);
    b->node = xcalloc(rows, sizeof *b->node);
    b->code = xcalloc(rows, sizeof *b->code);
    b->score = xcalloc(rows, sizeof *b->score);
    b->states = xcalloc(rows * d, sizeof *b->states);
    b->hits = xcalloc(rows, sizeof *b->hits);
    b->prefixes = xcalloc(rows, sizeof *b->prefixes);
    b->hit_offsets = xcalloc(requests + 1, sizeof *b->hit_offsets);
    b->prefix_offsets = xcalloc(requests + 1, sizeof *b->prefix_offsets);
    b->cut_total = xcalloc(requests, sizeof *b->cut_total);
    if (whole && b->tokens && b->cut)
        return b;
    beam_free(b);
    err_set(e, ERR_OS, "no memory for a beam of %d requests x width %d", l->requests, l->width);
    return NULL;
}

void beam_free(struct beam *b)
{
    if (!b)
        return;
    beams_free(&b->side[0], b->be);
    beams_free(&b->side[1], b->be);
    b->be->release(b->tokens);
    b->be->release(b->cut);
    void *host[] = {b->offsets, b->parent, b->host_tokens, b->cuts, b->node, b->code, b->score, b->states, b->hits, b->prefixes,
                    b->hit_offsets, b->prefix_offsets, b->cut_total};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    free(b);
}

/* One beam a request, score 0, decoder start token. */
static void begin(struct beam *b, struct beams *in)
{
    float zero = 0;
    for (int32_t r = 0; r <= b->requests; r++)
        b->offsets[r] = r;
    in->requests = in->total = b->requests;
    b->be->write(in->offsets, b->offsets, ((size_t)b->requests + 1) * sizeof(int32_t));
    for (int32_t r = 0; r < b->requests; r++) {
        b->host_tokens[r] = 0;
        b->be->write(in->score + r, &zero, sizeof zero);
    }
    b->be->write(b->tokens, b->host_tokens, (size_t)b->requests * sizeof(int32_t));
    memset(b->cut_total, 0, (size_t)b->requests * sizeof *b->cut_total);
}

/* Host copies of what beam_step wrote, and the counts of cut candidates. */
static void read_step(struct beam *b, struct beams *out)
{
    b->be->read(b->offsets, out->offsets, ((size_t)b->requests + 1) * sizeof(int32_t));
    b->be->read(b->cuts, b->cut, (size_t)b->requests * sizeof(int32_t));
    out->total = b->offsets[b->requests];
    size_t n = (size_t)out->total;
    b->be->read(b->node, out->node, n * sizeof *b->node);
    b->be->read(b->score, out->score, n * sizeof *b->score);
    b->be->read(b->parent, out->parent, n * sizeof *b->parent);
    b->be->read(b->code, out->code, n * sizeof *b->code);
    for (int32_t r = 0; r < b->requests; r++)
        b->cut_total[r] += b->cuts[r];
}

static void write_tokens(struct beam *b, int32_t level, int32_t n)
{
    int32_t first = b->layout.base + code_layout_first(&b->layout, level);
    for (int32_t i = 0; i < n; i++)
        b->host_tokens[i] = first + (int32_t)b->code[i];
    b->be->write(b->tokens, b->host_tokens, (size_t)n * sizeof(int32_t));
}

static void keep_prefixes(struct beam *b, const struct beam_search *s, const struct act *h, int32_t in_total)
{
    int64_t d = t5_config_of(b->model)->d_model;
    if (s->keep_states)
        b->be->download(b->states, h, in_total * d);
    for (int32_t i = 0; i < b->offsets[b->requests]; i++)
        b->prefixes[i] = (struct beam_prefix){b->node[i], (double)b->score[i], s->keep_states ? b->states + b->parent[i] * d : NULL};
    memcpy(b->prefix_offsets, b->offsets, ((size_t)b->requests + 1) * sizeof *b->offsets);
}

static void keep_hits(struct beam *b, const struct trie_view *trie)
{
    for (int32_t i = 0; i < b->offsets[b->requests]; i++)
        b->hits[i] = (struct beam_hit){b->node[i], trie->leaf_doc[b->node[i]], (double)b->score[i]};
    memcpy(b->hit_offsets, b->offsets, ((size_t)b->requests + 1) * sizeof *b->offsets);
}

static void step(struct beam *b, struct t5_work *work, const struct beam_search *s, int32_t level, struct beams *in, struct beams *out)
{
    const struct act *h = t5_decode_step(b->model, work, in->offsets, in->total, b->tokens, in->parent);
    const struct beam_step a = {.trie = s->trie, .level = level, .head = t5_head(b->model),
                                .first = b->layout.base + code_layout_first(&b->layout, level), .codes = b->layout.codes[level],
                                .scale = t5_head_scale(b->model), .h = h, .in = in, .out = out, .width = s->width,
                                .renormalise = s->renormalise, .cut = b->cut};
    out->requests = b->requests;
    b->be->beam_step(&a);
    read_step(b, out);
    if (level + 2 == s->trie->levels)
        keep_prefixes(b, s, h, in->total);
    if (level + 1 == s->trie->levels)
        keep_hits(b, s->trie);
    else
        write_tokens(b, level, out->total);
}

int beam_run(struct beam *b, struct t5_work *work, const struct beam_search *s)
{
    CHECK(s->width >= 1 && s->width <= b->limits.width && s->trie->levels == b->layout.positions);
    b->requests = t5_encoded_rows(work).count;
    CHECK(b->requests <= b->limits.requests);
    memset(b->hit_offsets, 0, ((size_t)b->requests + 1) * sizeof *b->hit_offsets);
    memset(b->prefix_offsets, 0, ((size_t)b->requests + 1) * sizeof *b->prefix_offsets);
    begin(b, &b->side[0]);
    t5_decode_begin(b->model, work);
    for (int32_t level = 0; level < s->trie->levels && b->side[level & 1].total > 0; level++) {
        if (s->stop && s->stop(s->state))
            return -1;
        step(b, work, s, level, &b->side[level & 1], &b->side[~level & 1]);
    }
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
