/* generate.c: see generate.h.
 *
 * The samples of a passage are what beams are to a search: rows of one request, which share its encoder pass and its cross-attention keys and
 * values. All samples of all passages are live at first; one that has written EOS leaves the list, and the others move up: `parent` tells the
 * cached decode which row each descends from, so nothing that is cached is moved. The logits of the live rows come down in f32 and the host draws:
 * a job of hours may wait for that copy, and every backend has it.
 *
 * Invariant: before a step, live[i] is the cell (row * samples + sample) of decoder row i, ascending, so the rows of a request are neighbours. */
#include "generate.h"
#include "../base/mem.h"
#include "../text/tokenizer.h"

#include <math.h>
#include <stdlib.h>

enum { SCAN = 64 }; /* logits that are looked at together */

struct candidate {
    float logit;
    int32_t token;
};

struct generate {
    const struct backend *be;
    struct t5 *model;
    struct t5_work *work;
    struct generate_limits limits;
    int32_t samples;                   /* of the last run */
    struct act *logits;                /* [cells, vocabulary] */
    int32_t *block;                    /* backend: the three below */
    int32_t *offsets, *tokens, *parent;
    float *host_logits;
    int32_t *host_offsets, *host_tokens, *host_parent, *live; /* host: [rows + 1], [cells] each */
    int32_t *text, *length;                                   /* [cells, steps], [cells] */
    struct candidate top[GENERATE_TOP_MOST];
};

static int32_t cells_of(const struct generate_limits *l)
{
    return l->rows * l->samples;
}

static struct t5_limits work_limits(const struct generate_limits *l)
{
    return (struct t5_limits){.encoder_tokens = l->tokens, .rows = l->rows, .beam_rows = cells_of(l), .positions = l->steps};
}

void generate_need(struct need *n, const struct t5_config *c, const struct generate_limits *l)
{
    const struct t5_limits work = work_limits(l);
    need_work(n, c, &work);
    n->bytes += (size_t)cells_of(l) * (size_t)c->vocab * n->be->act_bytes;
}

static void open_host(struct generate *g, int32_t vocab)
{
    size_t cells = (size_t)cells_of(&g->limits);
    g->host_logits = xcalloc(cells * (size_t)vocab, sizeof *g->host_logits);
    g->host_offsets = xcalloc((size_t)g->limits.rows + 1, sizeof *g->host_offsets);
    g->host_tokens = xcalloc(cells, sizeof *g->host_tokens);
    g->host_parent = xcalloc(cells, sizeof *g->host_parent);
    g->live = xcalloc(cells, sizeof *g->live);
    g->text = xcalloc(cells * (size_t)g->limits.steps, sizeof *g->text);
    g->length = xcalloc(cells, sizeof *g->length);
}

struct generate *generate_init(struct t5 *m, const struct generate_limits *l, struct err *e)
{
    const struct t5_config *c = t5_config_of(m);
    CHECK(c->codes == 0 && l->rows >= 1 && l->samples >= 1 && l->steps >= 1);
    struct generate *g = xcalloc(1, sizeof *g);
    const struct t5_limits work = work_limits(l);
    int32_t cells = cells_of(l);
    *g = (struct generate){.be = t5_backend(m), .model = m, .limits = *l, .work = t5_work_init(m, &work, e)};
    if (g->work != NULL) {
        g->logits = g->be->act_alloc((int64_t)cells * c->vocab);
        g->block = g->be->alloc(((size_t)l->rows + 1 + 2 * (size_t)cells) * sizeof *g->block);
    }
    if (g->work != NULL && (g->logits == NULL || g->block == NULL))
        err_set(e, ERR_OS, "no memory to write %d texts at once with a vocabulary of %d", cells, c->vocab);
    if (g->logits == NULL || g->block == NULL) {
        generate_free(g);
        return NULL;
    }
    g->offsets = g->block;
    g->tokens = g->offsets + l->rows + 1;
    g->parent = g->tokens + cells;
    open_host(g, c->vocab);
    return g;
}

void generate_free(struct generate *g)
{
    if (g == NULL)
        return;
    g->be->release(g->logits);
    g->be->release(g->block);
    t5_work_free(g->work);
    void *ours[] = {g->host_logits, g->host_offsets, g->host_tokens, g->host_parent, g->live, g->text, g->length};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        free(ours[i]);
    free(g);
}

/* ---- one token ---- */

/* Is one of the logits above the bound? Without a branch inside, so that a compiler makes vectors of it. */
static bool any_above(const float *logits, int32_t count, float bound)
{
    int any = 0;
    for (int32_t i = 0; i < count; i++)
        any |= logits[i] > bound;
    return any;
}

/* Puts a token into the n best so far where it belongs there; returns how many they are then. */
static int32_t offer(struct generate *g, int32_t n, int32_t most, struct candidate c)
{
    if (n == most && !(c.logit > g->top[n - 1].logit))
        return n;
    int32_t at = n < most ? n++ : n - 1;
    for (; at > 0 && c.logit > g->top[at - 1].logit; at--)
        g->top[at] = g->top[at - 1];
    g->top[at] = c;
    return n;
}

/* The most likely tokens into g->top, best first, of equals the lower token; returns how many. A vocabulary is long and few of its tokens are
 * candidates: blocks without one are passed over. */
static int32_t select_top(struct generate *g, const float *logits, int32_t vocab, int32_t most)
{
    int32_t n = 0;
    for (int32_t first = 0; first < vocab; first += SCAN) {
        int32_t end = vocab - first < SCAN ? vocab : first + SCAN;
        if (n == most && !any_above(logits + first, end - first, g->top[n - 1].logit))
            continue;
        for (int32_t v = first; v < end; v++)
            n = offer(g, n, most, (struct candidate){logits[v], v});
    }
    return n;
}

/* -1: the best logit is no number. */
static int32_t draw_token(struct generate *g, float *logits, uint64_t seed, int32_t step, const struct generate_options *o)
{
    int32_t vocab = t5_config_of(g->model)->vocab, i = 0;
    double weight[GENERATE_TOP_MOST], sum = 0;
    for (int32_t k = 0; k < o->never_count; k++)
        logits[o->never[k]] = -INFINITY;
    int32_t n = select_top(g, logits, vocab, o->top_k < vocab ? o->top_k : vocab);
    if (!isfinite(g->top[0].logit))
        return -1;
    for (int32_t k = 0; k < n; k++)
        sum += weight[k] = exp(((double)g->top[k].logit - g->top[0].logit) / o->temperature);
    double left = mix_uniform(seed, (uint64_t)step) * sum;
    while (i + 1 < n && left >= weight[i])
        left -= weight[i++];
    return g->top[i].token;
}

/* ---- all samples ---- */

static uint64_t seed_of(const struct generate *g, int32_t cell, const uint64_t *key, const struct generate_options *o)
{
    return mix64(mix64(o->seed, key[cell / g->samples]), (uint64_t)(cell % g->samples));
}

/* What the decoder reads next, of n live cells. */
static void send(struct generate *g, int32_t rows, int32_t n)
{
    for (int32_t r = 0, i = 0; r <= rows; r++) {
        while (i < n && g->live[i] < r * g->samples)
            i++;
        g->host_offsets[r] = i;
    }
    g->be->write(g->offsets, g->host_offsets, ((size_t)rows + 1) * sizeof *g->offsets);
    g->be->write(g->tokens, g->host_tokens, (size_t)n * sizeof *g->tokens);
    g->be->write(g->parent, g->host_parent, (size_t)n * sizeof *g->parent);
}

/* Decodes one position of n live cells; returns how many go on, -1 when a logit is no number. */
static int32_t step(struct generate *g, int32_t rows, int32_t n, int32_t position, const uint64_t *key, const struct generate_options *o)
{
    int32_t vocab = t5_config_of(g->model)->vocab, left = 0;
    send(g, rows, n);
    const struct act *h = t5_decode_step(g->model, g->work, g->offsets, n, g->tokens, g->parent);
    g->be->linear(g->logits, h, t5_head(g->model), n, t5_head_scale(g->model), 0);
    g->be->download(g->host_logits, g->logits, (int64_t)n * vocab);
    for (int32_t i = 0; i < n; i++) {
        int32_t cell = g->live[i];
        int32_t token = draw_token(g, g->host_logits + (int64_t)i * vocab, seed_of(g, cell, key, o), position, o);
        if (token < 0)
            return -1;
        if (token == TOKEN_EOS)
            continue;
        g->text[(int64_t)cell * g->limits.steps + g->length[cell]++] = token;
        g->live[left] = cell;
        g->host_tokens[left] = token;
        g->host_parent[left++] = i;
    }
    return left;
}

int generate_run(struct generate *g, const struct t5_batch *b, const uint64_t *key, const struct generate_options *o, struct err *e)
{
    CHECK(b->count <= g->limits.rows && o->samples <= g->limits.samples && o->steps <= g->limits.steps);
    CHECK(o->top_k >= 1 && o->top_k <= GENERATE_TOP_MOST && o->temperature > 0);
    int32_t n = b->count * o->samples;
    g->samples = o->samples;
    for (int32_t i = 0; i < n; i++) {
        g->live[i] = i;
        g->host_tokens[i] = g->host_parent[i] = g->length[i] = 0;
    }
    if (n == 0)
        return 0;
    t5_encode(g->model, g->work, b, 0);
    t5_decode_begin(g->model, g->work);
    for (int32_t position = 0; position < o->steps && n > 0; position++) {
        if (run_stopping(o->run))
            return err_set(e, ERR_INTERRUPTED, "stopped at token %d", position);
        n = step(g, b->count, n, position, key, o);
    }
    return n < 0 ? err_set(e, ERR_DATA, "the model's logits are no numbers: its weights are damaged, or its training diverged") : 0;
}

const int32_t *generate_tokens(const struct generate *g, int32_t row, int32_t sample, int32_t *count)
{
    int64_t cell = (int64_t)row * g->samples + sample;
    *count = g->length[cell];
    return g->text + cell * g->limits.steps;
}
