/* beam.c: see beam.h.
 *
 * Two sets of beams take turns as input and output of beam_step, which also writes the next decoder tokens; parents tell the cached decode which
 * ancestors to read. So the state of a search between positions is exactly (beams, tokens, cache), all of it in backend memory, and the host
 * neither reads nor writes any of it before the end: a device runs position after position without waiting. It starts from constants
 * (`start`) and ends with one read: the last two levels lie in the two sets, and all that hits and prefixes need of them, with the
 * counts of every level, begins the one block of a search's results, laid out anew for each search's number of requests and width. A device
 * copies it into a landing, which each twin has for itself, while the block is the twins' own in turns.
 *
 * Where the backend's memory is not the host's, `total` is an upper bound and rows beyond the live ones are decoded in vain; here only the
 * offsets say what is live, and they are looked at after the last position. */
#include "beam.h"
#include "../base/mem.h"

#include <string.h>

struct beam_memory { /* of the backend; shared by twins */
    int32_t owners;
    int32_t *zeros;   /* decoder start tokens, scores of the start */
    int32_t *offsets; /* of the start: entry i is the lesser of i and `live` */
    int32_t live;
    int32_t *block;
    struct act *kept; /* [rows, D] states that led to the beams of the last level but one */
};

struct beam {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    struct beam_limits limits;
    struct beam_memory *memory;
    struct beams start; /* one beam a request, score 0 */
    struct beams side[2];
    int32_t *cut, *tokens;   /* in the block; cut [levels, requests] */
    int64_t words;           /* of the block, from its beginning, that are read */
    struct landing *landing; /* those words, from byte states_at on the states; NULL where has_host_memory */
    size_t states_at;
    int32_t *own;        /* the same words where there is no landing */
    const int32_t *copy; /* one of the two */
    float *states;       /* [rows, D] */
    int32_t requests, live, levels; /* levels: positions that were run */
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
    int32_t *at = b->memory->block;
    b->cut = take(&at, (int64_t)b->layout.positions * requests);
    for (int i = 0; i < 2; i++)
        b->side[i].offsets = take(&at, requests + 1);
    for (int i = 0; i < 2; i++) {
        b->side[i].node = (uint32_t *)take(&at, rows);
        b->side[i].score = (float *)take(&at, rows);
    }
    b->words = at - b->memory->block;
    for (int i = 0; i < 2; i++) {
        b->side[i].parent = take(&at, rows);
        b->side[i].code = (uint32_t *)take(&at, rows);
    }
    b->tokens = take(&at, rows);
}

/* Words of the block that a search reads at most. */
static int64_t words_most(const struct beam *b)
{
    return (int64_t)b->layout.positions * b->limits.requests + 2 * (b->limits.requests + 1) + 4 * (int64_t)b->limits.rows;
}

/* Requests from `live` on begin without a beam. */
static void write_start(struct beam *b, int32_t live)
{
    int32_t n = b->limits.requests + 1, *offsets = xmalloc((size_t)n * sizeof *offsets);
    for (int32_t r = 0; r < n; r++)
        offsets[r] = r < live ? r : live;
    b->be->write(b->memory->offsets, offsets, (size_t)n * sizeof *offsets);
    b->memory->live = live;
    free(offsets);
}

static void start_with(struct beam *b, int32_t requests, int32_t live)
{
    int32_t now = b->memory->live < requests ? b->memory->live : requests;
    if (now != live)
        write_start(b, live < requests ? live : b->limits.requests);
}

static bool open_memory(struct beam *b, int32_t d)
{
    struct beam_memory *m = b->memory = xcalloc(1, sizeof *m);
    int64_t rows = b->limits.rows;
    m->owners = 1;
    m->zeros = b->be->alloc((size_t)b->limits.requests * sizeof *m->zeros);
    m->offsets = b->be->alloc(((size_t)b->limits.requests + 1) * sizeof *m->offsets);
    m->block = b->be->alloc((size_t)(words_most(b) + 5 * rows) * sizeof *m->block);
    m->kept = b->be->act_alloc(rows * d);
    if (!m->zeros || !m->offsets || !m->block || !m->kept)
        return false;
    write_start(b, b->limits.requests);
    return true;
}

static void release_memory(const struct backend *be, struct beam_memory *m)
{
    if (!m || --m->owners > 0)
        return;
    void *theirs[] = {m->zeros, m->offsets, m->block, m->kept};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        be->release(theirs[i]);
    free(m);
}

/* What a twin has for itself. */
static bool open_results(struct beam *b, int32_t d)
{
    size_t requests = (size_t)b->limits.requests, rows = (size_t)b->limits.rows;
    b->start = (struct beams){.offsets = b->memory->offsets, .score = (float *)b->memory->zeros, .parent = b->memory->zeros,
                              .node = (uint32_t *)b->memory->zeros, .code = (uint32_t *)b->memory->zeros};
    b->states_at = ((size_t)words_most(b) * sizeof *b->copy + 63) / 64 * 64;
    if (b->be->has_host_memory)
        b->copy = b->own = xcalloc((size_t)words_most(b), sizeof *b->own);
    else
        b->landing = b->be->landing_open(b->states_at + rows * (size_t)d * b->be->act_bytes);
    b->states = xcalloc(rows * (size_t)d, sizeof *b->states);
    b->hits = xcalloc(rows, sizeof *b->hits);
    b->prefixes = xcalloc(rows, sizeof *b->prefixes);
    b->hit_offsets = xcalloc(requests + 1, sizeof *b->hit_offsets);
    b->prefix_offsets = xcalloc(requests + 1, sizeof *b->prefix_offsets);
    b->cut_total = xcalloc(requests, sizeof *b->cut_total);
    return b->own || b->landing;
}

static struct beam *refuse(struct beam *b, struct err *e)
{
    err_set(e, ERR_OS, "no memory for a beam of %d requests x width %d", b->limits.requests, b->limits.width);
    beam_free(b);
    return NULL;
}

struct beam *beam_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e)
{
    if (l->width > BEAM_WIDTH_MOST && !t5_backend(m)->has_host_memory) {
        err_set(e, ERR_USAGE, "a beam of %d; on a device it is at most %d", l->width, BEAM_WIDTH_MOST);
        return NULL;
    }
    struct beam *b = xcalloc(1, sizeof *b);
    int32_t d = t5_config_of(m)->d_model;
    b->be = t5_backend(m);
    b->model = m;
    b->layout = *layout;
    b->limits = *l;
    b->limits.rows = l->rows > 0 && l->rows < l->requests * l->width ? l->rows : l->requests * l->width;
    return open_memory(b, d) && open_results(b, d) ? b : refuse(b, e);
}

struct beam *beam_twin(struct beam *of, struct err *e)
{
    struct beam *b = xcalloc(1, sizeof *b);
    *b = (struct beam){.be = of->be, .model = of->model, .layout = of->layout, .limits = of->limits, .memory = of->memory};
    b->memory->owners++;
    return open_results(b, t5_config_of(b->model)->d_model) ? b : refuse(b, e);
}

void beam_free(struct beam *b)
{
    if (!b)
        return;
    if (b->landing)
        b->be->landing_close(b->landing);
    release_memory(b->be, b->memory);
    void *ours[] = {b->own, b->states, b->hits, b->prefixes, b->hit_offsets, b->prefix_offsets, b->cut_total};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        free(ours[i]);
    free(b);
}

/* ---- the positions ---- */

static void step(struct beam *b, struct t5_work *work, const struct beam_search *s, int32_t level, const struct beams *in)
{
    struct beams *out = &b->side[level & 1];
    int32_t first = b->layout.base + code_layout_first(&b->layout, level);
    const struct act *h = t5_decode_step(b->model, work, in->offsets, in->total, level ? b->tokens : b->memory->zeros, in->parent);
    const struct beam_step a = {.trie = s->placed, .level = level, .head = t5_head(b->model), .first = first,
                                .codes = b->layout.codes[level], .scale = t5_head_scale(b->model), .h = h, .in = in, .out = out,
                                .tokens = b->tokens, .token_base = first, .width = s->width, .renormalise = s->renormalise,
                                .cut = b->cut + (int64_t)level * b->requests};
    b->be->beam_step(&a);
    if (s->keep_states && level + 2 == s->trie->levels)
        b->be->gather(b->memory->kept, h, out->parent, out->total, t5_config_of(b->model)->d_model);
}

void beam_load(struct beam *b, struct t5_work *work, const struct beam_search *s, int32_t live)
{
    int32_t requests = t5_encoded_rows(work).count;
    CHECK(s->width >= 1 && s->width <= b->limits.width && s->trie->levels == b->layout.positions && s->placed->levels == s->trie->levels);
    CHECK(requests <= b->limits.requests && (int64_t)requests * s->width <= b->limits.rows);
    CHECK(live == requests || (live < requests && !b->be->has_host_memory));
    b->requests = b->start.requests = b->start.total = b->side[0].requests = b->side[1].requests = requests;
    b->live = live;
    b->levels = s->trie->levels;
    lay_out(b, requests, (int64_t)requests * s->width);
    start_with(b, requests, live);
}

int beam_positions(struct beam *b, struct t5_work *work, const struct beam_search *s)
{
    int32_t level = 0;
    t5_decode_begin(b->model, work);
    for (const struct beams *in = &b->start; level < s->trie->levels && in->total > 0; in = &b->side[level++ & 1]) {
        if (s->stop && s->stop(s->state))
            return -1;
        step(b, work, s, level, in);
    }
    b->levels = level;
    return 0;
}

/* ---- what the host reads ---- */

/* States of the rows that there can be; all lie at the front. */
static int64_t state_rows(const struct beam *b, const struct beam_search *s)
{
    return s->keep_states && s->trie->levels > 1 ? (int64_t)b->live * s->width : 0;
}

void beam_send(struct beam *b, const struct beam_search *s)
{
    size_t bytes = (size_t)b->words * sizeof *b->copy;
    if (!b->landing) {
        b->be->read(b->own, b->memory->block, bytes);
        return;
    }
    size_t states = (size_t)state_rows(b, s) * (size_t)t5_config_of(b->model)->d_model * b->be->act_bytes;
    b->be->land(b->landing, 0, b->memory->block, bytes);
    if (states > 0)
        b->be->land(b->landing, b->states_at, b->memory->kept, states);
}

/* Where the host's copy has what the backend has at `p`. */
static const void *copy_of(const struct beam *b, const void *p)
{
    return b->copy + ((const int32_t *)p - b->memory->block);
}

static void take_states(struct beam *b, int64_t rows)
{
    int64_t n = rows * t5_config_of(b->model)->d_model;
    if (b->landing)
        b->be->unpack(b->states, (const char *)b->copy + b->states_at, n);
    else
        b->be->download(b->states, b->memory->kept, n);
}

static void keep_prefixes(struct beam *b, const struct beam_search *s, const struct beams *from)
{
    const int32_t *offsets = copy_of(b, from->offsets);
    const uint32_t *node = copy_of(b, from->node);
    const float *score = copy_of(b, from->score);
    int64_t d = t5_config_of(b->model)->d_model;
    int32_t n = offsets[b->requests];
    if (s->keep_states)
        take_states(b, n);
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

/* Fewer positions were run than the trie has levels when there was nothing left to choose from. */
void beam_receive(struct beam *b, const struct beam_search *s)
{
    memset(b->hit_offsets, 0, ((size_t)b->requests + 1) * sizeof *b->hit_offsets);
    memset(b->prefix_offsets, 0, ((size_t)b->requests + 1) * sizeof *b->prefix_offsets);
    memset(b->cut_total, 0, (size_t)b->requests * sizeof *b->cut_total);
    if (b->landing)
        b->copy = b->be->landed(b->landing);
    const int32_t *cut = copy_of(b, b->cut);
    for (int32_t l = 0; l < b->levels; l++)
        for (int32_t r = 0; r < b->live; r++)
            b->cut_total[r] += cut[(int64_t)l * b->requests + r];
    if (b->levels < s->trie->levels)
        return;
    keep_hits(b, s->trie, &b->side[(b->levels - 1) & 1]);
    if (b->levels > 1)
        keep_prefixes(b, s, &b->side[b->levels & 1]);
}

int beam_run(struct beam *b, struct t5_work *work, const struct beam_search *s)
{
    beam_load(b, work, s, t5_encoded_rows(work).count);
    if (beam_positions(b, work, s) < 0)
        return -1;
    beam_send(b, s);
    beam_receive(b, s);
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
