/* kernel_beam.h: beam_step against a naive twin: all candidates listed, sorted by (score, parent, code), cut.
 *
 * Head rows and hidden rows are planted in equal pairs, so exact ties occur inside a parent and between parents; the twin computes equal
 * inputs in the same way, so its ties are exact too. On the cpu the order must be equal entry by entry. Another device sums in another order:
 * candidates whose scores differ by less than an f32 sum can tell may change places, but exact ties must keep the rule. Each step of the twin
 * starts from the beams that the backend kept. The twin reads host copies; head and hidden rows are rounded to what the backend stores.
 *
 * Where the backend counts rows on the device, in->total is an upper bound: rows beyond the last offset are filled with NaN here. */
#ifndef SEMINDEX_KERNEL_BEAM_H
#define SEMINDEX_KERNEL_BEAM_H

#include "kernel_job.h"
#include "ref_ops.h"

static const struct backend *beam_backend;

enum { BEAM_LEVELS = 3, BEAM_NODES = 40000, BEAM_ROWS = 1200, TOKEN_BASE = 7 };

struct beam_world {
    int32_t requests, width, d, codes, first, renormalise;
    int32_t distinct; /* so many different head rows, 0 = nearly all */
    struct trie_view trie, host_trie;
    struct weight head;
    float *host_head;
    struct beams beams[2];
    float score[BEAM_ROWS]; /* host copies of the beams of the last step */
    uint32_t node[BEAM_ROWS];
    int32_t offsets[64];
};

static bool beam_exact(void)
{
    return beam_backend->has_host_memory;
}

static void *to_backend(const void *host, size_t bytes)
{
    void *y = beam_backend->alloc(bytes);
    beam_backend->write(y, host, bytes);
    return y;
}

/* `count` values of 4 bytes. */
static void from_backend(void *host, const void *memory, int32_t count)
{
    beam_backend->read(host, memory, (size_t)count * 4);
}

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

/* One level below `above` nodes: codes drawn by hash among `codes + 3` (three of them untrained). Returns its nodes; first: [above + 1]. */
static uint32_t draw_level(const struct beam_world *w, int t, uint32_t above, uint32_t *codes, uint32_t *first)
{
    uint32_t n = 0;
    for (uint32_t parent = 0; parent < above; parent++) {
        first[parent] = n;
        for (uint32_t c = 0; c < (uint32_t)w->codes + 3 && n < BEAM_NODES; c++)
            if (mix64(5, parent * 1000 + c + (uint64_t)t) % (t == 0 ? 2 : 20) == 0)
                codes[n++] = c;
    }
    first[above] = n;
    return n;
}

static void make_trie(struct beam_world *w)
{
    uint32_t above = 1;
    w->trie.levels = w->host_trie.levels = BEAM_LEVELS;
    for (int t = 0; t < BEAM_LEVELS; t++) {
        uint32_t *codes = malloc(BEAM_NODES * sizeof *codes), *first = malloc((BEAM_NODES + 1) * sizeof *first);
        uint32_t n = draw_level(w, t, above, codes, first);
        bool wide = t % 2 != 0; /* levels 0 and 2 are narrow */
        uint16_t *narrow = (uint16_t *)(void *)codes;
        for (uint32_t i = 0; i < n && !wide; i++)
            narrow[i] = (uint16_t)codes[i];
        w->host_trie.level[t] = (struct trie_level){n, wide, codes, NULL};
        w->trie.level[t] = (struct trie_level){n, wide, to_backend(codes, n * (wide ? 4 : 2) + 4), NULL};
        if (t > 0) {
            w->host_trie.level[t - 1].first = first;
            w->trie.level[t - 1].first = to_backend(first, (above + 1) * sizeof *first);
        } else {
            free(first);
        }
        above = n;
    }
    w->trie.resident = beam_exact() ? NULL : to_backend(&w->trie, sizeof w->trie);
}

static void free_trie(struct beam_world *w)
{
    beam_backend->release((void *)(uintptr_t)w->trie.resident);
    for (int t = 0; t < BEAM_LEVELS; t++) {
        beam_backend->release((void *)(uintptr_t)w->trie.level[t].codes);
        beam_backend->release((void *)(uintptr_t)w->trie.level[t].first);
        free((void *)(uintptr_t)w->host_trie.level[t].codes);
        free((void *)(uintptr_t)w->host_trie.level[t].first);
    }
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
            logp[c] += (double)h[i] * w->host_head[(w->first + c) * w->d + i];
        logp[c] *= 0.5;
        masked[c] = w->renormalise ? -INFINITY : logp[c];
    }
    for (uint32_t n = begin; n < end && w->renormalise; n++)
        if (twin_code(&w->host_trie.level[level], n) < (uint32_t)w->codes)
            masked[twin_code(&w->host_trie.level[level], n)] = logp[twin_code(&w->host_trie.level[level], n)];
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
        uint32_t first = level == 0 ? 0 : w->host_trie.level[level - 1].first[w->node[row]];
        uint32_t last = level == 0 ? w->host_trie.level[0].nodes : w->host_trie.level[level - 1].first[w->node[row] + 1];
        twin_scores(w, logp, h + row * w->d, level, first, last);
        for (uint32_t n = first; n < last; n++) {
            uint32_t code = twin_code(&w->host_trie.level[level], n);
            if (code < (uint32_t)w->codes)
                list[count++] = (struct twin_candidate){(double)w->score[row] + logp[code], row, code, n};
        }
    }
    free(logp);
    qsort(list, (size_t)count, sizeof *list, compare_candidates);
    return count;
}

struct kept { /* host copies of what a step wrote */
    int32_t offsets[64], parent[BEAM_ROWS], token[BEAM_ROWS];
    float score[BEAM_ROWS];
    uint32_t node[BEAM_ROWS], code[BEAM_ROWS];
};

/* Which candidate of the sorted list the backend kept at rank i: list[i] where exact; else one whose score cannot be told from list[i]'s. */
static int32_t find_kept(const struct twin_candidate *list, int32_t count, int32_t i, const struct kept *k, int32_t row)
{
    double near = 4e-6 * fmax(fabs(list[i].score), 1.0);
    for (int32_t step = 0; step < count; step++)
        for (int side = -1; side <= 1; side += 2) {
            int32_t at = i + side * step;
            if (at < 0 || at >= count || fabs(list[at].score - list[i].score) > (beam_exact() ? 0.0 : near))
                continue;
            if (list[at].node == k->node[row] && list[at].parent == k->parent[row] && list[at].code == k->code[row])
                return at;
        }
    return -1;
}

static void compare_request(const struct twin_candidate *list, int32_t count, const struct kept *k, int32_t r, int level)
{
    int32_t begin = k->offsets[r], before = -1;
    bool *used = calloc((size_t)count + 1, sizeof *used);
    for (int32_t row = begin; row < k->offsets[r + 1]; row++) {
        int32_t at = find_kept(list, count, row - begin, k, row);
        if (at < 0 || used[at] || (beam_exact() && at != row - begin))
            fail_msg("level %d request %d rank %d: node %u parent %d code %u is not what the twin has there", level, r, row - begin, k->node[row],
                     k->parent[row], k->code[row]);
        if (!(fabs(k->score[row] - list[at].score) <= 3e-6 * fmax(fabs(list[at].score), 1.0)))
            fail_msg("level %d request %d rank %d: score %.9g, twin %.9g", level, r, row - begin, k->score[row], list[at].score);
        if (before >= 0 && list[before].score == list[at].score && before > at)
            fail_msg("level %d request %d rank %d: an exact tie in the wrong order", level, r, row - begin);
        used[at] = true;
        before = at;
    }
    for (int32_t at = 0; at < count && k->offsets[r + 1] > begin; at++) /* of an exact tie at the cut, the first were kept */
        if (!used[at] && before >= 0 && list[at].score == list[before].score && at < before)
            fail_msg("level %d request %d: an exact tie at the cut was decided wrongly", level, r);
    free(used);
}

/* Live rows have their code's token; those beyond, up to total, token 0 and parent 0. */
static void compare_tokens(const struct kept *k, int32_t live, int32_t total)
{
    for (int32_t row = 0; row < total; row++) {
        assert_int_equal(k->token[row], row < live ? TOKEN_BASE + (int32_t)k->code[row] : 0);
        assert_true(row < live || k->parent[row] == 0);
    }
}

static void compare_step(struct beam_world *w, struct beams *out, const struct beam_step *a, const float *h, int level)
{
    static struct twin_candidate list[200000];
    static struct kept k;
    int32_t cuts[64], total = 0;
    from_backend(k.offsets, out->offsets, w->requests + 1);
    from_backend(cuts, a->cut, w->requests);
    assert_in_range(out->total, k.offsets[w->requests], beam_exact() ? k.offsets[w->requests] : w->requests * w->width);
    from_backend(k.node, out->node, out->total);
    from_backend(k.score, out->score, out->total);
    from_backend(k.parent, out->parent, out->total);
    from_backend(k.code, out->code, out->total);
    from_backend(k.token, a->tokens, out->total);
    for (int32_t r = 0; r < w->requests; r++) {
        int32_t count = twin_request(w, list, h, level, w->offsets[r], w->offsets[r + 1]), kept = count < w->width ? count : w->width;
        assert_int_equal(k.offsets[r], total);
        assert_int_equal(k.offsets[r + 1], total + kept);
        assert_int_equal(cuts[r], count - kept);
        compare_request(list, count, &k, r, level);
        total += kept;
    }
    compare_tokens(&k, total, out->total);
    memcpy(w->score, k.score, sizeof w->score);
    memcpy(w->node, k.node, sizeof w->node);
    memcpy(w->offsets, k.offsets, sizeof w->offsets);
}

/* x as the backend stores it. */
static float beam_stored(float x)
{
    return (float)as_stored(&(struct job){.be = beam_backend}, x);
}

static void fill_hidden(const struct beam_world *w, float *h, int32_t rows, int32_t live, int level)
{
    for (int32_t i = 0; i < rows * w->d; i++) {
        int32_t row = i / w->d;
        row = row % 5 == 4 ? row - 1 : row; /* every fifth row equals the one before it */
        h[i] = beam_stored(4.0f * mix_uniform(17 + (uint64_t)level, (uint64_t)(row * w->d + i % w->d)) - 2.0f);
    }
    for (int32_t i = live * w->d; i < rows * w->d; i++)
        h[i] = NAN;
}

static void make_head(struct beam_world *w)
{
    int32_t rows = w->first + w->codes + 1, n = rows * w->d;
    w->host_head = malloc((size_t)n * sizeof(float));
    for (int32_t i = 0; i < n; i++) {
        int32_t row = i / w->d;
        row = w->distinct > 0 ? row % w->distinct : row % 7 == 6 ? row - 3 : row; /* planted twins */
        w->host_head[i] = beam_stored(2.0f * mix_uniform(3, (uint64_t)(row * w->d + i % w->d)) - 1.0f);
    }
    w->head = (struct weight){rows, w->d, to_backend(w->host_head, (size_t)n * sizeof(float)), NULL, NULL};
    assert_int_equal(beam_backend->weight_open(&w->head, WEIGHT_INFER), 0);
}

static void make_beams(struct beam_world *w, size_t most)
{
    const struct backend *be = beam_backend;
    for (int i = 0; i < 2; i++)
        w->beams[i] = (struct beams){w->requests, 0, be->alloc((size_t)(w->requests + 1) * 4), be->alloc(most * 4), be->alloc(most * 4),
                                     be->alloc(most * 4), be->alloc(most * 4)};
    for (int32_t r = 0; r <= w->requests; r++)
        w->offsets[r] = r;
    be->write(w->beams[0].offsets, w->offsets, (size_t)(w->requests + 1) * sizeof(int32_t));
    w->beams[0].total = w->requests;
}

static void run_levels(struct beam_world *w, float *h, struct act *hidden, struct beam_step step)
{
    float masses[64];
    int32_t cuts[64];
    for (int level = 0; level < BEAM_LEVELS; level++) {
        struct beams *in = &w->beams[level % 2], *out = &w->beams[1 - level % 2];
        fill_hidden(w, h, in->total, w->offsets[w->requests], level);
        beam_backend->upload(hidden, h, in->total * w->d);
        step.level = level;
        step.in = in;
        step.out = out;
        beam_backend->beam_step(&step);
        compare_step(w, out, &step, h, level);
        from_backend(masses, step.log_mass, w->requests);
        from_backend(cuts, step.cut, w->requests);
        for (int32_t r = 0; r < w->requests; r++)
            assert_true(cuts[r] > 0 ? isfinite(masses[r]) : isinf(masses[r]));
    }
}

static void run_beam(struct beam_world w)
{
    const struct backend *be = beam_backend;
    w.width = !beam_exact() && w.width > BEAM_WIDTH_MOST ? BEAM_WIDTH_MOST : w.width;
    int32_t most = w.requests * w.width > w.requests ? w.requests * w.width : w.requests;
    float *h = malloc((size_t)(most * w.d) * sizeof *h);
    struct act *hidden = be->act_alloc(most * w.d);
    int32_t *cut = be->alloc((size_t)w.requests * sizeof *cut), *tokens = be->alloc((size_t)most * sizeof *tokens);
    float *mass = be->alloc((size_t)w.requests * sizeof *mass);
    make_trie(&w);
    make_head(&w);
    make_beams(&w, (size_t)most);
    run_levels(&w, h, hidden,
               (struct beam_step){.trie = &w.trie, .head = &w.head, .first = w.first, .codes = w.codes, .scale = 0.5f, .h = hidden,
                                  .tokens = tokens, .token_base = TOKEN_BASE, .width = w.width, .renormalise = w.renormalise != 0,
                                  .log_mass = mass, .cut = cut});
    be->weight_close(&w.head);
    for (int i = 0; i < 2; i++) {
        void *arrays[] = {w.beams[i].offsets, w.beams[i].node, w.beams[i].score, w.beams[i].parent, w.beams[i].code};
        for (int k = 0; k < 5; k++)
            be->release(arrays[k]);
    }
    void *memory[] = {w.head.master, hidden, cut, tokens, mass};
    for (int i = 0; i < 5; i++)
        be->release(memory[i]);
    free_trie(&w);
    free(w.host_head);
    free(h);
}

static void beam_twin(void **state)
{
    (void)state;
    run_beam((struct beam_world){.requests = 1, .width = 5, .d = 16, .codes = 40, .first = 3});
    run_beam((struct beam_world){.requests = 3, .width = 20, .d = 33, .codes = 257, .first = 0, .renormalise = 1});
    run_beam((struct beam_world){.requests = 2, .width = 12, .d = 16, .codes = 60, .first = 1, .distinct = 3}); /* ties at every cut */
    run_beam((struct beam_world){.requests = 31, .width = 1, .d = 31, .codes = 33, .first = 1});
    run_beam((struct beam_world){.requests = 1, .width = 1100, .d = 8, .codes = 120, .first = 2});
    run_beam((struct beam_world){.requests = 2, .width = 300, .d = 8, .codes = 500, .first = 0, .renormalise = 1});
}

#endif
