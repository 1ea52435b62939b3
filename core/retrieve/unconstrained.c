/* unconstrained.c: see unconstrained.h.
 *
 * beam_step wants a trie, and the trie of all IDs is out of reach. But only the children of a beam's node matter to a step, so one small trie
 * does: its node 0 of every level has all codes of the next position as children, and before each step every beam is put on node 0. Its
 * IDs are those with at most one code that is not 0: as many as there are codes in all. The host reads codes and parents behind every
 * position and keeps the IDs so far. */
#include "unconstrained.h"
#include "../base/mem.h"

#include <stdlib.h>
#include <string.h>

struct unconstrained {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct beam_limits limits;
    struct trie *trie;
    const struct trie_view *placed;
    int32_t *block; /* backend: all of the arrays below */
    struct beams start, side[2];
    int32_t *zeros, *tokens, *cut;
    int32_t *offsets, *parent; /* host */
    uint32_t *code, *ids, *next;
};

static struct trie *fan(const struct code_layout *l, struct err *e)
{
    uint32_t n = 1;
    for (int32_t t = 0; t < l->positions; t++)
        n += (uint32_t)l->codes[t] - 1;
    uint32_t *codes = xcalloc((size_t)n * (size_t)l->positions, sizeof *codes), *id = codes;
    for (int32_t t = 0; t < l->positions; t++)
        for (uint32_t c = 1; c < (uint32_t)l->codes[t]; c++)
            (id += l->positions)[t] = c;
    struct trie *trie = trie_build(codes, NULL, n, l->positions, e);
    free(codes);
    return trie;
}

static struct beams take_beams(int32_t **at, int32_t requests, int64_t rows)
{
    struct beams b = {.offsets = *at, .node = (uint32_t *)(*at + requests + 1)};
    b.score = (float *)(b.node + rows);
    b.parent = (int32_t *)(b.score + rows);
    b.code = (uint32_t *)(b.parent + rows);
    *at = (int32_t *)(b.code + rows);
    return b;
}

static bool open_memory(struct unconstrained *u)
{
    int32_t requests = u->limits.requests;
    int64_t rows = (int64_t)requests * u->limits.width, words = 2 * (requests + 1 + 4 * rows) + 3 * requests + 1 + rows;
    int32_t *at = u->block = u->be->alloc((size_t)words * sizeof *u->block);
    if (at == NULL)
        return false;
    for (int i = 0; i < 2; i++)
        u->side[i] = take_beams(&at, requests, rows);
    u->start.offsets = at;
    u->zeros = at + requests + 1;
    u->cut = u->zeros + requests;
    u->tokens = u->cut + requests;
    u->start.score = (float *)u->zeros;
    u->start.parent = u->zeros;
    u->start.node = u->start.code = (uint32_t *)u->zeros;
    u->offsets = xcalloc((size_t)requests + 1, sizeof *u->offsets);
    u->parent = xcalloc((size_t)rows, sizeof *u->parent);
    u->code = xcalloc((size_t)rows, sizeof *u->code);
    u->ids = xcalloc((size_t)rows * (size_t)u->layout.positions, sizeof *u->ids);
    u->next = xcalloc((size_t)rows * (size_t)u->layout.positions, sizeof *u->next);
    return true;
}

struct unconstrained *unconstrained_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e)
{
    if (l->width > BEAM_WIDTH_MOST && !t5_backend(m)->has_host_memory) {
        err_set(e, ERR_USAGE, "a beam of %d; on a device it is at most %d", l->width, BEAM_WIDTH_MOST);
        return NULL;
    }
    struct unconstrained *u = xcalloc(1, sizeof *u);
    *u = (struct unconstrained){.be = t5_backend(m), .model = m, .layout = *layout, .limits = *l, .trie = fan(layout, e)};
    if (u->trie != NULL)
        u->placed = trie_upload(u->be, u->trie, NULL, e);
    if (u->placed != NULL && open_memory(u))
        return u;
    if (u->placed != NULL)
        err_set(e, ERR_OS, "no memory for an unconstrained beam of %d requests x width %d", l->requests, l->width);
    unconstrained_free(u);
    return NULL;
}

void unconstrained_free(struct unconstrained *u)
{
    if (u == NULL)
        return;
    trie_release(u->be, u->placed);
    trie_free(u->trie);
    u->be->release(u->block);
    void *ours[] = {u->offsets, u->parent, u->code, u->ids, u->next};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        free(ours[i]);
    free(u);
}

static void step(struct unconstrained *u, struct t5_work *work, int32_t level, const struct beams *in, int32_t width)
{
    struct beams *out = &u->side[level & 1];
    int32_t first = u->layout.base + code_layout_first(&u->layout, level);
    u->be->zero(in->node, (size_t)in->total * sizeof *in->node);
    const struct act *h = t5_decode_step(u->model, work, in->offsets, in->total, level ? u->tokens : u->zeros, in->parent);
    const struct beam_step a = {.trie = u->placed, .level = level, .head = t5_head(u->model), .first = first,
                                .codes = u->layout.codes[level], .scale = t5_head_scale(u->model), .h = h, .in = in, .out = out,
                                .tokens = u->tokens, .token_base = first, .width = width, .cut = u->cut};
    u->be->beam_step(&a);
}

/* The IDs of level + 1 codes from those of level codes. */
static void grow_ids(struct unconstrained *u, int32_t level, const struct beams *from)
{
    int32_t positions = u->layout.positions;
    u->be->read(u->offsets, from->offsets, ((size_t)from->requests + 1) * sizeof *u->offsets);
    size_t n = (size_t)u->offsets[from->requests];
    u->be->read(u->parent, from->parent, n * sizeof *u->parent);
    u->be->read(u->code, from->code, n * sizeof *u->code);
    for (size_t i = 0; i < n; i++) {
        uint32_t *id = u->next + i * (size_t)positions;
        memcpy(id, u->ids + (size_t)u->parent[i] * (size_t)positions, (size_t)level * sizeof *id);
        id[level] = u->code[i];
    }
    uint32_t *old = u->ids;
    u->ids = u->next;
    u->next = old;
}

void unconstrained_run(struct unconstrained *u, struct t5_work *work, int32_t width)
{
    int32_t requests = t5_encoded_rows(work).count;
    CHECK(requests <= u->limits.requests && width >= 1 && width <= u->limits.width);
    for (int32_t r = 0; r <= requests; r++)
        u->offsets[r] = r;
    u->be->write(u->start.offsets, u->offsets, ((size_t)requests + 1) * sizeof *u->offsets);
    u->start.requests = u->start.total = u->side[0].requests = u->side[1].requests = requests;
    t5_decode_begin(u->model, work);
    const struct beams *in = &u->start;
    for (int32_t level = 0; level < u->layout.positions; level++) {
        step(u, work, level, in, width);
        in = &u->side[level & 1];
        grow_ids(u, level, in);
    }
}

const uint32_t *unconstrained_ids(const struct unconstrained *u, int32_t r, int32_t *count)
{
    *count = u->offsets[r + 1] - u->offsets[r];
    return u->ids + (size_t)u->offsets[r] * (size_t)u->layout.positions;
}
