/* kernel_beam.h: beam_step against a naive twin: all candidates listed, sorted by (score, parent, code), cut.
 *
 * Head rows and hidden rows are planted in equal pairs, so exact ties occur inside a parent and between parents; the twin computes equal
 * inputs in the same way, so its ties are exact too, and there the order must be equal entry by entry. Two candidates whose scores differ by less than
 * the tolerance may change places, few of them do. All values are exact in bf16, so that one tolerance holds for every precision of activations:
 * products are exact, sums are f32. Rows beyond the live ones are poisoned where a backend may be told an upper bound of them. */
#ifndef SEMINDEX_KERNEL_BEAM_H
#define SEMINDEX_KERNEL_BEAM_H

#include "kernel_job.h"
#include "ref_ops.h"

static const struct backend *beam_backend;

enum { BEAM_LEVELS = 3, BEAM_NODES = 40000, BEAM_ROWS = 1400, BEAM_TOKENS = 7 };
#define BEAM_TOLERANCE 3e-6

struct beam_world { /* host side */
    int32_t requests, width, d, codes, first, renormalise;
    int32_t distinct; /* so many different head rows, 0 = nearly all */
    int32_t holes;    /* every holes-th request has no beam at all */
    struct trie_view trie, placed;
    struct weight head;
    struct beams beams[2], host; /* host: what the last step wrote */
    int32_t *tokens, *cut;       /* backend memory */
    float *master, *mass;        /* host; backend */
    double score[BEAM_ROWS];     /* of the twin, beams of the last step */
    int32_t offsets[70];
};

struct twin_candidate {
    double score;
    int32_t parent;
    uint32_t code, node;
};

static int compare_candidates(const void *x, const void *y)
{
    const struct twin_candidate *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    return a->code < b->code ? -1 : a->code > b->code;
}

static void *beam_copy(const void *host, size_t bytes)
{
    void *copy = beam_backend->alloc(bytes);
    beam_backend->write(copy, host, bytes);
    return copy;
}

/* Level t: `codes + 3` possible codes (three of them untrained), children drawn by hash. */
static void make_trie(struct beam_world *w)
{
    uint32_t above = 1;
    w->trie.levels = BEAM_LEVELS;
    for (int t = 0; t < BEAM_LEVELS; t++) {
        uint32_t *codes = calloc(BEAM_NODES, sizeof *codes), n = 0, *first = malloc((BEAM_NODES + 1) * sizeof *first);
        for (uint32_t parent = 0; parent < above; parent++) {
            first[parent] = n;
            for (uint32_t c = 0; c < (uint32_t)w->codes + 3 && n < BEAM_NODES; c++)
                if (mix64(5, parent * 1000 + c + (uint64_t)t) % (t == 0 ? 2 : 20) == 0)
                    codes[n++] = c;
        }
        first[above] = n;
        if (t % 2 == 0) /* levels 0 and 2 are narrow */
            for (uint32_t i = 0; i < n; i++)
                ((uint16_t *)(void *)codes)[i] = (uint16_t)codes[i];
        w->trie.level[t] = (struct trie_level){n, t % 2 != 0, codes, NULL};
        if (t > 0)
            w->trie.level[t - 1].first = first;
        else
            free(first);
        above = n;
    }
}

static void place_trie(struct beam_world *w)
{
    w->placed = w->trie;
    for (int t = 0; t < BEAM_LEVELS; t++) {
        struct trie_level *l = &w->placed.level[t];
        l->codes = beam_copy(l->codes, (size_t)(l->nodes > 0 ? l->nodes : 1) * (l->wide ? 4 : 2));
        l->first = t + 1 < BEAM_LEVELS ? beam_copy(l->first, ((size_t)l->nodes + 1) * 4) : NULL;
    }
    w->placed.resident = beam_copy(&w->placed, sizeof w->placed);
}

static void free_trie(struct beam_world *w)
{
    for (int t = 0; t < BEAM_LEVELS; t++) {
        free((void *)(uintptr_t)w->trie.level[t].codes);
        free((void *)(uintptr_t)w->trie.level[t].first);
        beam_backend->release((void *)(uintptr_t)w->placed.level[t].codes);
        beam_backend->release((void *)(uintptr_t)w->placed.level[t].first);
    }
    beam_backend->release((void *)(uintptr_t)w->placed.resident);
}

static uint32_t twin_code(const struct trie_level *l, uint32_t node)
{
    return l->wide ? ((const uint32_t *)l->codes)[node] : ((const uint16_t *)l->codes)[node];
}

/* Log-probabilities of one hidden row: over all codes, or over the children that have a trained row. */
static void twin_scores(const struct beam_world *w, double *logp, const float *h, int level, uint32_t begin, uint32_t end)
{
    double *masked = malloc((size_t)w->codes * sizeof *masked);
    for (int32_t c = 0; c < w->codes; c++) {
        logp[c] = 0;
        for (int32_t i = 0; i < w->d; i++)
            logp[c] += (double)h[i] * w->master[(w->first + c) * w->d + i];
        logp[c] *= 0.5;
        masked[c] = w->renormalise ? -INFINITY : logp[c];
    }
    for (uint32_t n = begin; n < end && w->renormalise; n++)
        if (twin_code(&w->trie.level[level], n) < (uint32_t)w->codes)
            masked[twin_code(&w->trie.level[level], n)] = logp[twin_code(&w->trie.level[level], n)];
    double lse = ref_softmax(masked, w->codes);
    for (int32_t c = 0; c < w->codes; c++)
        logp[c] -= lse;
    free(masked);
}

/* All candidates of one request, sorted; returns their number. */
static int32_t twin_request(struct beam_world *w, struct twin_candidate *list, const float *h, int level, int32_t begin, int32_t end)
{
    int32_t count = 0;
    double *logp = malloc((size_t)w->codes * sizeof *logp);
    for (int32_t row = begin; row < end; row++) {
        uint32_t first = level == 0 ? 0 : w->trie.level[level - 1].first[w->host.node[row]];
        uint32_t last = level == 0 ? w->trie.level[0].nodes : w->trie.level[level - 1].first[w->host.node[row] + 1];
        twin_scores(w, logp, h + row * w->d, level, first, last);
        for (uint32_t n = first; n < last; n++) {
            uint32_t code = twin_code(&w->trie.level[level], n);
            if (code < (uint32_t)w->codes)
                list[count++] = (struct twin_candidate){w->score[row] + logp[code], row, code, n};
        }
    }
    free(logp);
    qsort(list, (size_t)count, sizeof *list, compare_candidates);
    return count;
}

static void read_beams(struct beam_world *w, const struct beams *out)
{
    size_t n = (size_t)out->total * 4;
    beam_backend->read(w->host.offsets, out->offsets, (size_t)(w->requests + 1) * 4);
    beam_backend->read(w->host.node, out->node, n);
    beam_backend->read(w->host.score, out->score, n);
    beam_backend->read(w->host.parent, out->parent, n);
    beam_backend->read(w->host.code, out->code, n);
}

/* Where the twin has what stands at rank i: at i, or near by when the two scores cannot be told apart. */
static int32_t twin_rank(const struct beam_world *w, const struct twin_candidate *list, int32_t count, int32_t i, int32_t row, int32_t *moved)
{
    const struct beams *out = &w->host;
    double slack = BEAM_TOLERANCE * fmax(fabs(list[i].score), 1.0);
    int32_t at = i;
    if (list[i].parent != out->parent[row] || list[i].code != out->code[row]) {
        for (at = 0; at < count && (list[at].parent != out->parent[row] || list[at].code != out->code[row]);)
            at++;
        ++*moved;
    }
    if (at == count || (at != i && (list[at].score == list[i].score || fabs(list[at].score - list[i].score) > slack)))
        fail_msg("rank %d: parent %d code %u should not stand there", i, out->parent[row], out->code[row]);
    if (!(fabs(out->score[row] - list[at].score) <= slack))
        fail_msg("rank %d: score %.9g, twin %.9g", i, out->score[row], list[at].score);
    return at;
}

static void compare_mass(const struct twin_candidate *list, int32_t kept, int32_t count, float mass)
{
    double sum = 0;
    if (kept == count) {
        assert_true(isinf(mass) && mass < 0);
        return;
    }
    for (int32_t i = kept; i < count; i++)
        sum += exp(list[i].score - list[kept].score);
    assert_true(fabs(mass - list[kept].score - log(sum)) <= 1e-5 * fmax(fabs(mass), 1.0));
}

static void compare_step(struct beam_world *w, const struct beams *out, const float *h, int level)
{
    static struct twin_candidate list[400000];
    static double score[BEAM_ROWS];
    int32_t total = 0, moved = 0, offsets[70] = {0}, cut[70];
    float mass[70];
    beam_backend->read(cut, w->cut, (size_t)w->requests * 4);
    beam_backend->read(mass, w->mass, (size_t)w->requests * 4);
    struct beams before = w->host, after = {.offsets = calloc(70, 4), .node = calloc(BEAM_ROWS, 4), .score = calloc(BEAM_ROWS, 4),
                                            .parent = calloc(BEAM_ROWS, 4), .code = calloc(BEAM_ROWS, 4)};
    for (int32_t r = 0; r < w->requests; r++) {
        w->host = before;
        int32_t count = twin_request(w, list, h, level, w->offsets[r], w->offsets[r + 1]), kept = count < w->width ? count : w->width;
        w->host = after;
        if (r == 0)
            read_beams(w, out);
        assert_int_equal(after.offsets[r], total);
        assert_int_equal(after.offsets[r + 1], total + kept);
        assert_int_equal(cut[r], count - kept);
        for (int32_t i = 0; i < kept; i++, total++) {
            const struct twin_candidate *c = &list[twin_rank(w, list, count, i, total, &moved)];
            assert_int_equal(after.node[total], c->node);
            score[total] = c->score;
        }
        compare_mass(list, kept, count, mass[r]);
        offsets[r + 1] = total;
    }
    assert_true(moved <= total / 50);
    assert_true(beam_backend->has_host_memory ? out->total == total : out->total >= total && out->total <= w->requests * w->width);
    memcpy(w->score, score, sizeof score);
    memcpy(w->offsets, offsets, sizeof offsets);
    void *old[] = {before.offsets, before.node, before.score, before.parent, before.code};
    for (int k = 0; k < 5; k++)
        free(old[k]);
}

static void compare_tokens(const struct beam_world *w, const struct beams *out)
{
    int32_t tokens[BEAM_ROWS], live = w->offsets[w->requests];
    beam_backend->read(tokens, w->tokens, (size_t)out->total * 4);
    for (int32_t i = 0; i < out->total; i++) {
        assert_int_equal(tokens[i], i < live ? BEAM_TOKENS + (int32_t)w->host.code[i] : 0);
        assert_true(i < live || w->host.parent[i] == 0);
    }
}

static float exact_in_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void fill_hidden(const struct beam_world *w, float *h, int32_t rows, int level)
{
    for (int32_t i = 0; i < rows * w->d; i++) {
        int32_t row = i / w->d;
        row = row % 5 == 4 ? row - 1 : row; /* every fifth row equals the one before it */
        h[i] = exact_in_bf16(4.0f * mix_uniform(17 + (uint64_t)level, (uint64_t)(row * w->d + i % w->d)) - 2.0f);
    }
    for (int32_t i = w->offsets[w->requests] * w->d; i < rows * w->d; i++)
        h[i] = NAN;
}

static void make_head(struct beam_world *w)
{
    w->head = (struct weight){.rows = w->first + w->codes + 1, .cols = w->d};
    int32_t n = w->head.rows * w->d;
    w->master = malloc((size_t)n * sizeof *w->master);
    for (int32_t i = 0; i < n; i++) {
        int32_t row = i / w->d;
        row = w->distinct > 0 ? row % w->distinct : row % 7 == 6 ? row - 3 : row; /* planted twins */
        w->master[i] = exact_in_bf16(2.0f * mix_uniform(3, (uint64_t)(row * w->d + i % w->d)) - 1.0f);
    }
    w->head.master = beam_copy(w->master, (size_t)n * sizeof *w->master);
    assert_int_equal(beam_backend->weight_open(&w->head, WEIGHT_INFER), 0);
}

static void make_beams(struct beam_world *w, int32_t most)
{
    const struct backend *be = beam_backend;
    size_t bytes = (size_t)most * 4;
    for (int i = 0; i < 2; i++)
        w->beams[i] = (struct beams){w->requests, 0, be->alloc((size_t)(w->requests + 1) * 4), be->alloc(bytes), be->alloc(bytes),
                                     be->alloc(bytes), be->alloc(bytes)};
    w->host = (struct beams){.offsets = calloc(70, 4), .node = calloc(BEAM_ROWS, 4), .score = calloc(BEAM_ROWS, 4),
                             .parent = calloc(BEAM_ROWS, 4), .code = calloc(BEAM_ROWS, 4)};
    w->tokens = be->alloc(bytes);
    w->cut = be->alloc((size_t)w->requests * 4);
    w->mass = be->alloc((size_t)w->requests * 4);
    for (int32_t r = 0; r < w->requests; r++)
        w->offsets[r + 1] = w->offsets[r] + (w->holes == 0 || r % w->holes != 0);
    w->beams[0].total = w->offsets[w->requests];
    be->write(w->beams[0].offsets, w->offsets, (size_t)(w->requests + 1) * 4);
}

static void free_world(struct beam_world *w)
{
    const struct backend *be = beam_backend;
    be->weight_close(&w->head);
    for (int i = 0; i < 2; i++) {
        void *arrays[] = {w->beams[i].offsets, w->beams[i].node, w->beams[i].score, w->beams[i].parent, w->beams[i].code};
        for (int k = 0; k < 5; k++)
            be->release(arrays[k]);
    }
    void *rest[] = {w->head.master, w->tokens, w->cut, w->mass};
    for (int k = 0; k < 4; k++)
        be->release(rest[k]);
    void *ours[] = {w->master, w->host.offsets, w->host.node, w->host.score, w->host.parent, w->host.code};
    for (int k = 0; k < 6; k++)
        free(ours[k]);
    free_trie(w);
}

static void run_beam(struct beam_world w)
{
    const struct backend *be = beam_backend;
    int32_t most = w.requests * w.width > w.requests ? w.requests * w.width : w.requests;
    float *h = malloc((size_t)(most * w.d) * sizeof *h);
    struct act *hidden = be->act_alloc(most * w.d);
    make_trie(&w);
    place_trie(&w);
    make_head(&w);
    make_beams(&w, most);
    for (int level = 0; level < BEAM_LEVELS; level++) {
        struct beams *in = &w.beams[level % 2], *out = &w.beams[1 - level % 2];
        fill_hidden(&w, h, in->total, level);
        be->upload(hidden, h, in->total * w.d);
        struct beam_step step = {.trie = &w.placed, .level = level, .head = &w.head, .first = w.first, .codes = w.codes, .scale = 0.5f,
                                 .h = hidden, .in = in, .out = out, .tokens = w.tokens, .token_base = BEAM_TOKENS, .width = w.width,
                                 .renormalise = w.renormalise != 0, .log_mass = w.mass, .cut = w.cut};
        be->beam_step(&step);
        compare_step(&w, out, h, level);
        compare_tokens(&w, out);
    }
    free_world(&w);
    be->release(hidden);
    free(h);
}

static void beam_twin(void **state)
{
    (void)state;
    run_beam((struct beam_world){.requests = 1, .width = 5, .d = 16, .codes = 40, .first = 3});
    run_beam((struct beam_world){.requests = 3, .width = 20, .d = 33, .codes = 257, .first = 0, .renormalise = 1});
    run_beam((struct beam_world){.requests = 2, .width = 12, .d = 16, .codes = 60, .first = 1, .distinct = 3}); /* ties at every cut */
    run_beam((struct beam_world){.requests = 31, .width = 1, .d = 31, .codes = 33, .first = 1});
    run_beam((struct beam_world){.requests = 1, .width = 1024, .d = 8, .codes = 120, .first = 2});
    run_beam((struct beam_world){.requests = 2, .width = 300, .d = 8, .codes = 500, .first = 0, .renormalise = 1});
    run_beam((struct beam_world){.requests = 64, .width = 20, .d = 24, .codes = 64, .first = 0, .holes = 3});
    run_beam((struct beam_world){.requests = 4, .width = 40, .d = 16, .codes = 300, .first = 5, .distinct = 1, .holes = 2}); /* only ties */
    run_beam((struct beam_world){.requests = 2, .width = 20, .d = 8, .codes = 51200, .first = 1});
    run_beam((struct beam_world){.requests = 2, .width = 3, .d = 8, .codes = 40000, .first = 1, .renormalise = 1, .holes = 2});
    run_beam((struct beam_world){.requests = 1, .width = 6, .d = 5, .codes = 1, .first = 0});
}

#endif
