/* kernel_beam.h: beam_step against a naive twin: all candidates listed, sorted by (score, parent, code), cut.
 *
 * Head rows and hidden rows are planted in equal pairs, so exact ties occur inside a parent and between parents; the twin computes equal
 * inputs in the same way, so its ties are exact too, and the order must be equal entry by entry. */
#ifndef SEMINDEX_KERNEL_BEAM_H
#define SEMINDEX_KERNEL_BEAM_H

#include "kernel_job.h"
#include "ref_ops.h"

static const struct backend *beam_backend;

enum { BEAM_LEVELS = 3, BEAM_NODES = 40000, BEAM_ROWS = 1200 };

struct beam_world { /* host side; backend memory where the op needs it (the cpu reads host memory, others get copies) */
    int32_t requests, width, d, codes, first, renormalise;
    int32_t distinct; /* so many different head rows, 0 = nearly all */
    struct trie_view trie;
    struct weight head;
    struct beams beams[2];
    double score[BEAM_ROWS]; /* of the twin, beams of the last step */
    uint32_t node[BEAM_ROWS];
    int32_t offsets[64];
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

/* Level t: `codes + 3` possible codes (three of them untrained), children drawn by hash. */
static void make_trie(struct beam_world *w)
{
    uint32_t above = 1;
    w->trie.levels = BEAM_LEVELS;
    for (int t = 0; t < BEAM_LEVELS; t++) {
        uint32_t *codes = beam_backend->alloc(BEAM_NODES * sizeof *codes), n = 0;
        uint32_t *first = beam_backend->alloc((BEAM_NODES + 1) * sizeof *first);
        for (uint32_t parent = 0; parent < above; parent++) {
            first[parent] = n;
            for (uint32_t c = 0; c < (uint32_t)w->codes + 3 && n < BEAM_NODES; c++)
                if (mix64(5, parent * 1000 + c + (uint64_t)t) % (t == 0 ? 2 : 20) == 0)
                    codes[n++] = c;
        }
        first[above] = n;
        if (t % 2 == 0) { /* levels 0 and 2 are narrow */
            uint16_t *narrow = beam_backend->alloc(BEAM_NODES * sizeof *narrow);
            for (uint32_t i = 0; i < n; i++)
                narrow[i] = (uint16_t)codes[i];
            beam_backend->release(codes);
            codes = (uint32_t *)(void *)narrow;
        }
        w->trie.level[t] = (struct trie_level){n, t % 2 != 0, codes, NULL};
        if (t > 0)
            w->trie.level[t - 1].first = first;
        else
            beam_backend->release(first);
        above = n;
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
            logp[c] += (double)h[i] * w->head.master[(w->first + c) * w->d + i];
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
        uint32_t first = level == 0 ? 0 : w->trie.level[level - 1].first[w->node[row]];
        uint32_t last = level == 0 ? w->trie.level[0].nodes : w->trie.level[level - 1].first[w->node[row] + 1];
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

static void compare_step(struct beam_world *w, const struct beams *out, const int32_t *cut, const float *h, int level)
{
    static struct twin_candidate list[200000];
    static double score[BEAM_ROWS];
    static uint32_t node[BEAM_ROWS];
    int32_t total = 0, offsets[64] = {0};
    for (int32_t r = 0; r < w->requests; r++) {
        int32_t count = twin_request(w, list, h, level, w->offsets[r], w->offsets[r + 1]), kept = count < w->width ? count : w->width;
        assert_int_equal(out->offsets[r], total);
        assert_int_equal(out->offsets[r + 1], total + kept);
        assert_int_equal(cut[r], count - kept);
        for (int32_t i = 0; i < kept; i++, total++) {
            if (!(fabs(out->score[total] - list[i].score) <= 3e-6 * fmax(fabs(list[i].score), 1.0)))
                fail_msg("level %d request %d rank %d: score %.9g, twin %.9g", level, r, i, out->score[total], list[i].score);
            assert_int_equal(out->node[total], list[i].node);
            assert_int_equal(out->parent[total], list[i].parent);
            assert_int_equal(out->code[total], list[i].code);
            score[total] = list[i].score;
            node[total] = list[i].node;
        }
        offsets[r + 1] = total;
    }
    assert_int_equal(out->total, total);
    memcpy(w->score, score, sizeof score);
    memcpy(w->node, node, sizeof node);
    memcpy(w->offsets, offsets, sizeof offsets);
}

static void fill_hidden(const struct beam_world *w, float *h, int32_t rows, int level)
{
    for (int32_t i = 0; i < rows * w->d; i++) {
        int32_t row = i / w->d;
        row = row % 5 == 4 ? row - 1 : row; /* every fifth row equals the one before it */
        h[i] = 4.0f * mix_uniform(17 + (uint64_t)level, (uint64_t)(row * w->d + i % w->d)) - 2.0f;
    }
}

static void run_beam(struct beam_world w)
{
    const struct backend *be = beam_backend;
    int32_t most = w.requests * w.width > w.requests ? w.requests * w.width : w.requests;
    float *h = malloc((size_t)(most * w.d) * sizeof *h);
    struct act *hidden = be->act_alloc(most * w.d);
    int32_t *cut = be->alloc((size_t)w.requests * sizeof *cut);
    float *mass = be->alloc((size_t)w.requests * sizeof *mass);
    make_trie(&w);
    w.head = (struct weight){w.first + w.codes + 1, w.d, be->alloc((size_t)((w.first + w.codes + 1) * w.d) * sizeof(float)), NULL, NULL};
    for (int32_t i = 0; i < w.head.rows * w.d; i++) {
        int32_t row = i / w.d;
        row = w.distinct > 0 ? row % w.distinct : row % 7 == 6 ? row - 3 : row; /* planted twins */
        w.head.master[i] = 2.0f * mix_uniform(3, (uint64_t)(row * w.d + i % w.d)) - 1.0f;
    }
    assert_int_equal(be->weight_open(&w.head, WEIGHT_INFER), 0);
    for (int i = 0; i < 2; i++)
        w.beams[i] = (struct beams){w.requests, 0, be->alloc((size_t)(w.requests + 1) * 4), be->alloc((size_t)most * 4),
                                    be->alloc((size_t)most * 4),
                                    be->alloc((size_t)most * 4), be->alloc((size_t)most * 4)};
    for (int32_t r = 0; r <= w.requests; r++)
        w.beams[0].offsets[r] = w.offsets[r] = r;
    w.beams[0].total = w.requests;
    for (int level = 0; level < BEAM_LEVELS; level++) {
        struct beams *in = &w.beams[level % 2], *out = &w.beams[1 - level % 2];
        fill_hidden(&w, h, in->total, level);
        be->upload(hidden, h, in->total * w.d);
        struct beam_step step = {&w.trie, level, &w.head, w.first, w.codes, 0.5f, hidden, in, out, w.width, w.renormalise != 0, mass, cut};
        be->beam_step(&step);
        compare_step(&w, out, cut, h, level);
        for (int32_t r = 0; r < w.requests; r++)
            assert_true(cut[r] > 0 ? isfinite(mass[r]) : isinf(mass[r]));
    }
    be->weight_close(&w.head);
    be->release(w.head.master);
    for (int i = 0; i < 2; i++) {
        void *arrays[] = {w.beams[i].offsets, w.beams[i].node, w.beams[i].score, w.beams[i].parent, w.beams[i].code};
        for (int k = 0; k < 5; k++)
            be->release(arrays[k]);
    }
    for (int t = 0; t < BEAM_LEVELS; t++) {
        be->release((void *)(uintptr_t)w.trie.level[t].codes);
        be->release((void *)(uintptr_t)w.trie.level[t].first);
    }
    be->release(hidden);
    be->release(cut);
    be->release(mass);
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
