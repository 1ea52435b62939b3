/* test_beam.c: beam search, bucket ranking and fusion against naive twins.
 *
 * The naive search decodes every prefix from nothing with the whole decoder (no cache), sums softmaxes in double and sorts. The model is a real
 * T5 of random weights; learned positions L = 0..4; some documents have a suffix that the model never saw. Also what no twin shows: planted exact
 * ties, answers that do not depend on the batch, empty tries, beams wider than the trie. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/retrieve/bucket.h"
#include "../../core/retrieve/fuse.h"

enum { VOCAB = 13, D = 16, LEARNED_CODES = 5, SUFFIXES = 6, DOCUMENTS = 60, REQUESTS = 4, WIDEST = 80, POSITIONS = 5, LONGEST = 9 };

static const struct backend *be;

/* ---- a model, IDs and requests ---- */

struct world {
    struct code_layout layout;
    struct t5 *model;
    struct t5_work *work, *single; /* of the search; of the naive decoder */
    struct trie *trie;
    const struct trie_view *placed;
    struct beam *beam;
    uint32_t codes[DOCUMENTS * POSITIONS], document[DOCUMENTS], n;
    int32_t tokens[REQUESTS * LONGEST], offsets[REQUESTS + 1];
};

static void draw_ids(struct world *w, uint32_t n)
{
    int32_t positions = w->layout.positions;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *id = w->codes + i * (uint32_t)positions, rank = 0;
        for (int32_t t = 0; t + 1 < positions; t++)
            id[t] = (uint32_t)(mix64(11, i * 16 + (uint64_t)t) % LEARNED_CODES);
        for (uint32_t j = 0; j < i; j++)
            rank += memcmp(w->codes + j * (uint32_t)positions, id, (size_t)(positions - 1) * 4) == 0;
        id[positions - 1] = mix64(12, i) % 3 == 0 || rank >= SUFFIXES ? SUFFIXES + rank : rank; /* one third is new */
        w->document[i] = 500 + (i * 37) % 101;
    }
    w->n = n;
}

static void draw_requests(struct world *w)
{
    static const int32_t lengths[REQUESTS] = {4, 1, 9, 6};
    w->offsets[0] = 0;
    for (int32_t r = 0; r < REQUESTS; r++) {
        w->offsets[r + 1] = w->offsets[r] + lengths[r];
        for (int32_t i = w->offsets[r]; i < w->offsets[r + 1]; i++)
            w->tokens[i] = i + 1 == w->offsets[r + 1] ? 1 : 3 + (int32_t)(mix64(13, (uint64_t)i) % (VOCAB - 3));
    }
}

static struct world world_open(int32_t learned, uint32_t documents)
{
    struct err e = {0};
    struct world w = {.layout = {.base = VOCAB, .positions = learned + 1}};
    for (int32_t t = 0; t < learned; t++)
        w.layout.codes[t] = LEARNED_CODES;
    w.layout.codes[learned] = SUFFIXES;
    const struct t5_options o = {.config = {.vocab = VOCAB, .codes = code_layout_total(&w.layout), .d_model = D, .d_kv = 6, .d_ff = 20, .heads = 3,
                                            .encoder_layers = 2, .decoder_layers = 2, .buckets = 8, .max_distance = 16, .eps = 1e-6f,
                                            .scale_output = true}};
    const struct t5_limits many = {.encoder_tokens = REQUESTS * LONGEST, .rows = REQUESTS, .beam_rows = REQUESTS * WIDEST, .positions = POSITIONS};
    const struct t5_limits one = {.encoder_tokens = LONGEST, .decoder_tokens = POSITIONS, .rows = 1};
    const struct beam_limits limits = {.requests = REQUESTS, .width = WIDEST};
    w.model = t5_init(be, &o, &e);
    t5_randomise(w.model, 5);
    w.work = t5_work_init(w.model, &many, &e);
    w.single = t5_work_init(w.model, &one, &e);
    w.beam = beam_init(w.model, &w.layout, &limits, &e);
    assert_true(w.work && w.single && w.beam);
    draw_ids(&w, documents);
    draw_requests(&w);
    w.trie = trie_build(w.codes, w.document, w.n, w.layout.positions, &e);
    assert_non_null(w.trie);
    w.placed = trie_upload(be, w.trie, NULL, &e);
    return w;
}

static void world_close(struct world *w)
{
    beam_free(w->beam);
    trie_release(be, w->placed);
    trie_free(w->trie);
    t5_work_free(w->work);
    t5_work_free(w->single);
    t5_free(w->model);
}

/* Encodes requests [first, first + count) and searches. */
static void search(struct world *w, int32_t first, int32_t count, struct beam_search s)
{
    int32_t offsets[REQUESTS + 1];
    for (int32_t i = 0; i <= count; i++)
        offsets[i] = w->offsets[first + i] - w->offsets[first];
    const struct t5_batch b = {count, w->tokens + w->offsets[first], offsets};
    s.trie = trie_view_of(w->trie);
    s.placed = w->placed;
    t5_encode(w->model, w->work, &b, 0);
    assert_int_equal(beam_run(w->beam, w->work, &s), 0);
}

/* ---- the naive twin ---- */

struct prefix {
    uint32_t codes[POSITIONS];
    double score;
    int32_t parent;
};

/* Decoder state after `length` codes of request r, every position anew. */
static void naive_state(struct world *w, int32_t r, const uint32_t *codes, int32_t length, float *state)
{
    int32_t encoder[2] = {0, w->offsets[r + 1] - w->offsets[r]}, decoder[2] = {0, length + 1}, tokens[POSITIONS + 1] = {0};
    float all[(POSITIONS + 1) * D];
    for (int32_t t = 0; t < length; t++)
        tokens[t + 1] = w->layout.base + code_layout_first(&w->layout, t) + (int32_t)codes[t];
    t5_encode(w->model, w->single, &(struct t5_batch){1, w->tokens + w->offsets[r], encoder}, 0);
    t5_decode(w->model, w->single, &(struct t5_batch){1, tokens, decoder}, 0);
    be->download(all, t5_decoded(w->single), (length + 1) * D);
    memcpy(state, all + length * D, D * sizeof *state);
}

static bool is_child(const struct world *w, const uint32_t *prefix, int32_t length, uint32_t code)
{
    for (uint32_t i = 0; i < w->n; i++) {
        const uint32_t *id = w->codes + i * (uint32_t)w->layout.positions;
        if (memcmp(id, prefix, (size_t)length * 4) == 0 && id[length] == code)
            return true;
    }
    return false;
}

/* ln P of every code of the next position. */
static void naive_codes(struct world *w, int32_t r, const struct prefix *p, int32_t length, bool renormalise, double *logp)
{
    float state[D], *head = xmalloc(sizeof *head * (size_t)(VOCAB + code_layout_total(&w->layout)) * D);
    double sum = 0;
    be->read(head, t5_head(w->model)->master, sizeof *head * (size_t)(VOCAB + code_layout_total(&w->layout)) * D);
    naive_state(w, r, p->codes, length, state);
    for (int32_t c = 0; c < w->layout.codes[length]; c++) {
        const float *row = head + (w->layout.base + code_layout_first(&w->layout, length) + c) * D;
        logp[c] = 0;
        for (int32_t i = 0; i < D; i++)
            logp[c] += (double)state[i] * (double)row[i] * (double)t5_head_scale(w->model);
        if (!renormalise || is_child(w, p->codes, length, (uint32_t)c))
            sum += exp(logp[c]);
    }
    for (int32_t c = 0; c < w->layout.codes[length]; c++)
        logp[c] -= log(sum);
    free(head);
}

static int compare_prefixes(const void *a, const void *b)
{
    const struct prefix *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->parent != y->parent)
        return x->parent - y->parent;
    for (int32_t t = 0; t < POSITIONS; t++)
        if (x->codes[t] != y->codes[t])
            return x->codes[t] < y->codes[t] ? -1 : 1;
    return 0;
}

struct naive {
    struct prefix kept[WIDEST];
    int32_t n, cut;
};

static void naive_step(struct world *w, int32_t r, const struct beam_search *s, int32_t level, struct naive *v)
{
    static struct prefix found[WIDEST * (LEARNED_CODES + SUFFIXES)];
    double logp[LEARNED_CODES + SUFFIXES];
    int32_t n = 0;
    for (int32_t i = 0; i < v->n; i++) {
        naive_codes(w, r, &v->kept[i], level, s->renormalise, logp);
        for (uint32_t c = 0; c < (uint32_t)w->layout.codes[level]; c++)
            if (is_child(w, v->kept[i].codes, level, c)) {
                found[n] = v->kept[i];
                found[n].codes[level] = c;
                found[n].parent = i;
                found[n++].score += logp[c];
            }
    }
    qsort(found, (size_t)n, sizeof *found, compare_prefixes);
    v->n = n < s->width ? n : s->width;
    v->cut += n - v->n;
    memcpy(v->kept, found, (size_t)v->n * sizeof *found);
}

static struct naive naive_search(struct world *w, int32_t r, const struct beam_search *s)
{
    struct naive v = {.n = 1};
    for (int32_t level = 0; level < w->layout.positions; level++)
        naive_step(w, r, s, level, &v);
    return v;
}

static uint32_t document_of(const struct world *w, const uint32_t *codes)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (memcmp(w->codes + i * (uint32_t)w->layout.positions, codes, (size_t)w->layout.positions * 4) == 0)
            return w->document[i];
    fail_msg("a path that no document has");
    return 0;
}

static void compare_request(struct world *w, int32_t r, const struct beam_search *s)
{
    struct naive v = naive_search(w, r, s);
    int32_t n;
    const struct beam_hit *h = beam_hits(w->beam, r, &n);
    assert_int_equal(n, v.n);
    assert_int_equal(beam_exhaustive(w->beam, r), v.cut == 0);
    for (int32_t i = 0; i < n; i++) {
        assert_true(fabs(h[i].score - v.kept[i].score) < 1e-4);
        assert_int_equal(h[i].document, document_of(w, v.kept[i].codes));
        assert_int_equal(trie_view_of(w->trie)->leaf_doc[h[i].leaf], h[i].document);
    }
}

static void test_naive_search(void **state)
{
    (void)state;
    static const int32_t widths[] = {1, 5, WIDEST};
    for (int32_t learned = 0; learned <= 4; learned++) {
        struct world w = world_open(learned, learned ? DOCUMENTS : 9);
        for (size_t i = 0; i < 6; i++) {
            const struct beam_search s = {.width = widths[i / 2], .renormalise = i & 1};
            search(&w, 0, REQUESTS, s);
            for (int32_t r = 0; r < REQUESTS; r++)
                compare_request(&w, r, &s);
        }
        world_close(&w);
    }
}

/* ---- what no twin shows ---- */

static void test_a_request_does_not_depend_on_its_batch(void **state)
{
    (void)state;
    struct world w = world_open(3, DOCUMENTS);
    struct beam_hit kept[REQUESTS][8];
    int32_t counts[REQUESTS];
    const struct beam_search s = {.width = 8};
    search(&w, 0, REQUESTS, s);
    for (int32_t r = 0; r < REQUESTS; r++) {
        const struct beam_hit *h = beam_hits(w.beam, r, &counts[r]);
        memcpy(kept[r], h, (size_t)counts[r] * sizeof *h);
    }
    for (int32_t r = 0; r < REQUESTS; r++) {
        int32_t n;
        search(&w, r, 1, s);
        const struct beam_hit *h = beam_hits(w.beam, 0, &n);
        assert_int_equal(n, counts[r]);
        for (int32_t i = 0; i < n; i++)
            assert_true(h[i].leaf == kept[r][i].leaf && h[i].score == kept[r][i].score);
    }
    world_close(&w);
}

/* Codes 1 and 3 of position 0 and codes 0 and 2 of position 1 get equal rows: everything below them ties exactly, in the order of the rule. */
static void test_exact_ties(void **state)
{
    (void)state;
    struct world w = world_open(2, 0);
    struct err e = {0};
    float rows[2 * LEARNED_CODES * D];
    int32_t n;
    uint32_t codes[2 * 2 * 3 * 3], count = 0;
    be->read(rows, t5_master(w.model) + t5_tensor_find(w.model, "shared.weight")->offset + VOCAB * D, sizeof rows);
    memcpy(rows + 3 * D, rows + 1 * D, D * sizeof *rows);
    memcpy(rows + (LEARNED_CODES + 2) * D, rows + LEARNED_CODES * D, D * sizeof *rows);
    t5_set_code_rows(w.model, 0, 2 * LEARNED_CODES, rows);
    t5_refresh(w.model);
    for (uint32_t a = 1; a <= 3; a += 2)
        for (uint32_t b = 0; b <= 2; b += 2)
            for (uint32_t c = 0; c < 3; c++, count++)
                memcpy(codes + count * 3, (const uint32_t[]){a, b, c}, 3 * sizeof *codes);
    struct trie *before = w.trie;
    w.trie = trie_build(codes, NULL, count, 3, &e);
    w.placed = trie_upload(be, w.trie, w.placed, &e);
    trie_free(before);
    search(&w, 0, 1, (struct beam_search){.width = 12});
    const struct beam_hit *h = beam_hits(w.beam, 0, &n);
    assert_int_equal(n, 12);
    for (int32_t i = 0; i < n; i++) { /* three scores, four times each: parents in order, and these were (1,0) (1,2) (3,0) (3,2) */
        assert_true(h[i].score == h[i / 4 * 4].score);
        assert_int_equal(h[i].document / 3, i % 4);
    }
    world_close(&w);
}

static void test_empty_trie(void **state)
{
    (void)state;
    struct world w = world_open(2, 0);
    struct bucket_hit out[3];
    int32_t n;
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        search(&w, 0, REQUESTS, (struct beam_search){.width = 5, .renormalise = renormalise});
        for (int32_t r = 0; r < REQUESTS; r++) {
            beam_hits(w.beam, r, &n);
            assert_int_equal(n, 0);
            beam_prefixes(w.beam, r, &n);
            assert_int_equal(n, 0);
            assert_true(beam_exhaustive(w.beam, r));
            assert_int_equal(bucket_rank(w.beam, r, &(struct bucket_ranking){.trie = trie_view_of(w.trie), .trained = SUFFIXES, .width = 3}, out), 0);
        }
    }
    world_close(&w);
}

static bool stop_at_second(void *state)
{
    return ++*(int *)state == 2;
}

static void test_stop_between_positions(void **state)
{
    (void)state;
    struct world w = world_open(3, DOCUMENTS);
    int asked = 0;
    const struct beam_search s = {.trie = trie_view_of(w.trie), .placed = w.placed, .width = 4, .stop = stop_at_second, .state = &asked};
    t5_encode(w.model, w.work, &(struct t5_batch){REQUESTS, w.tokens, w.offsets}, 0);
    assert_int_equal(beam_run(w.beam, w.work, &s), -1);
    assert_int_equal(asked, 2);
    world_close(&w);
}

/* ---- buckets ---- */

static double likeness(void *context, uint32_t document, const float *state)
{
    (void)context;
    return document % 5 == 0 ? NAN : (double)(state ? state[document % D] : (float)(document % 7)); /* NaN counts as 0 */
}

static int64_t bucket_of(const struct world *w, uint32_t document)
{
    int64_t key = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->document[i] == document)
            for (int32_t t = 0; t + 1 < w->layout.positions; t++)
                key = key * LEARNED_CODES + w->codes[i * (uint32_t)w->layout.positions + (uint32_t)t];
    return key;
}

/* A wide beam: every document comes out; shares of a bucket sum to its new documents' part of it; trained scores are the search's; the order is by score. */
static void check_buckets(struct world *w, int32_t r, double (*similarity)(void *, uint32_t, const float *))
{
    struct bucket_hit out[DOCUMENTS + 1];
    const struct bucket_ranking k = {.trie = trie_view_of(w->trie), .trained = SUFFIXES, .similarity = similarity, .width = DOCUMENTS + 1};
    int32_t n = bucket_rank(w->beam, r, &k, out), trained = 0, hits;
    beam_hits(w->beam, r, &hits);
    assert_int_equal(n, w->n);
    for (int32_t i = 0; i < n; i++) {
        double shares = 0, fresh = 0, all = 0;
        assert_true(i == 0 || out[i - 1].score >= out[i].score);
        trained += out[i].trained;
        for (int32_t j = 0; j < n; j++)
            all += bucket_of(w, out[j].document) == bucket_of(w, out[i].document);
        for (int32_t j = 0; j < n && !out[i].trained; j++)
            if (!out[j].trained && bucket_of(w, out[j].document) == bucket_of(w, out[i].document)) {
                shares += exp(out[j].log_share);
                fresh++;
            }
        if (!out[i].trained) {
            assert_true(fabs(shares - fresh / all) < 1e-9);
            assert_true(fabs(out[i].score - out[i].log_prefix - out[i].log_share) < 1e-12);
            assert_true(similarity || fabs(out[i].log_share + log(all)) < 1e-9);
        }
    }
    assert_int_equal(trained, hits);
}

static void test_new_documents_share_their_bucket(void **state)
{
    (void)state;
    for (int32_t learned = 0; learned <= 4; learned++) {
        struct world w = world_open(learned, learned ? DOCUMENTS : 9);
        search(&w, 0, REQUESTS, (struct beam_search){.width = WIDEST, .keep_states = true});
        for (int32_t r = 0; r < REQUESTS; r++) {
            check_buckets(&w, r, NULL);
            check_buckets(&w, r, likeness);
        }
        world_close(&w);
    }
}

static void test_prefixes_carry_the_state_that_chose_them(void **state)
{
    (void)state;
    struct world w = world_open(3, DOCUMENTS);
    float expected[D];
    search(&w, 0, REQUESTS, (struct beam_search){.width = 6, .keep_states = true});
    for (int32_t r = 0; r < REQUESTS; r++) {
        int32_t n;
        const struct beam_prefix *p = beam_prefixes(w.beam, r, &n);
        assert_true(n > 0);
        for (int32_t i = 0; i < n; i++) {
            uint32_t from, to;
            trie_leaves(trie_view_of(w.trie), 2, p[i].node, &from, &to);
            uint32_t row = 0;
            while (w.document[row] != trie_view_of(w.trie)->leaf_doc[from])
                row++;
            naive_state(&w, r, w.codes + row * 4, 2, expected);
            for (int32_t d = 0; d < D; d++)
                assert_true(fabsf(p[i].state[d] - expected[d]) < 1e-4f);
        }
    }
    world_close(&w);
}

/* ---- fusion ---- */

static void test_reciprocal_ranks(void **state)
{
    (void)state;
    const int64_t a[] = {7, 3, 9}, b[] = {3, 8};
    const struct fuse_list lists[] = {{a, 3, 1, NULL}, {b, 2, 1, NULL}};
    struct fuse_hit out[4];
    assert_int_equal(fuse_lists(lists, 2, out, 4), 4);
    assert_int_equal(out[0].document, 3);
    assert_true(fabs(out[0].score - (1.0 / 62 + 1.0 / 61)) < 1e-15);
    assert_true(out[0].rank[0] == 2 && out[0].rank[1] == 1);
    assert_int_equal(out[1].document, 7);
    assert_int_equal(out[2].document, 8);
    assert_true(out[2].rank[0] == 0 && out[2].rank[1] == 2);
    assert_int_equal(out[3].document, 9);
    assert_int_equal(fuse_lists(lists, 2, out, 1), 1);
    assert_int_equal(fuse_lists(lists, 0, out, 4), 0);
    const int64_t c[] = {5}, d[] = {4};
    const struct fuse_list tied[] = {{c, 1, 1, NULL}, {d, 1, 1, NULL}};
    assert_int_equal(fuse_lists(tied, 2, out, 4), 2);
    assert_int_equal(out[0].document, 4); /* a tie: by number */
}

static double score_of(const struct fuse_hit *hits, int32_t n, int64_t document)
{
    for (int32_t i = 0; i < n; i++)
        if (hits[i].document == document)
            return hits[i].score;
    return -1;
}

/* Lists with scores are mixed as distributions: each is divided by its sum first. */
static void test_shares(void **state)
{
    (void)state;
    const int64_t a[] = {7, 3}, b[] = {3, 8};
    const double p[] = {0.3, 0.1}, q[] = {30, 10}, none[] = {0, 0};
    struct fuse_hit out[3];
    assert_int_equal(fuse_lists((const struct fuse_list[]){{a, 2, 0.5, p}, {b, 2, 1, q}}, 2, out, 3), 3);
    assert_int_equal(out[0].document, 3); /* 0.5 * 1/4 + 3/4 */
    assert_true(fabs(out[0].score - 0.875) < 1e-12);
    assert_int_equal(out[1].document, 7);
    assert_true(fabs(out[1].score - 0.375) < 1e-12 && fabs(out[2].score - 0.25) < 1e-12);
    assert_int_equal(fuse_lists((const struct fuse_list[]){{a, 2, 1, none}, {b, 2, 1, q}}, 2, out, 1), 1);
    assert_true(out[0].document == 3 && fabs(out[0].score - 0.75) < 1e-12); /* a list of nothing adds nothing */
}

/* Three questions of which the beam answers one and the words two: the weight that serves all three is found, and no list is weighed 0. */
static void test_weight_is_chosen(void **state)
{
    (void)state;
    struct fuse_choice c = {0};
    const int64_t beam[] = {1, 2, 3}, words[] = {4, 5, 6}, mixed[] = {7, 1, 8};
    fuse_choice_add(&c, (const struct fuse_list[]){{beam, 3, 9, NULL}, {words, 3, 9, NULL}}, 4); /* any weight below 1 keeps 4 in front */
    fuse_choice_add(&c, (const struct fuse_list[]){{beam, 3, 1, NULL}, {mixed, 3, 1, NULL}}, 1); /* both name 1: first from a small weight on */
    assert_int_equal(c.questions, 2);
    assert_true(fabs(c.alone[0] - 1) < 1e-12 && fabs(c.alone[1] - (1 + 1 / log2(3))) < 1e-12);
    int32_t best = fuse_choice_best(&c, 0);
    assert_true(fuse_weights[best] < 1 && fuse_weights[best] > 0);
    assert_true(fabs(c.gain[best] - 2) < 1e-12);
    for (int32_t w = 0; w < best; w++)
        assert_true(c.gain[w] < c.gain[best]);
    struct fuse_choice none = {0};
    fuse_choice_add(&none, (const struct fuse_list[]){{beam, 0, 1, NULL}, {words, 3, 1, NULL}}, 99);
    assert_int_equal(fuse_choice_best(&none, 0), 0); /* nothing speaks for the beam */
    assert_true(fuse_weights[fuse_choice_best(&none, FUSE_RANK_LEAST)] == FUSE_RANK_LEAST);
    assert_true(fuse_weights[0] > 0);
}


/* A document that the first list cannot know has that list's mean term over the ten documents that stand nearest to it in the second one. */
static void test_missing_terms(void **state)
{
    (void)state;
    enum { WORDS = 14, BEAM = 7, NEW = 6 }; /* the second list is 100 .. 113; the document at place 6 of it, from 0, is new */
    int64_t beam[BEAM] = {113, 101, 105, 7, 104, 108, 112}, words[WORDS];
    bool known[WORDS];
    double sum = 0;
    for (int32_t i = 0; i < WORDS; i++) {
        words[i] = 100 + i;
        known[i] = i != NEW;
    }
    const struct fuse_list lists[] = {{beam, BEAM, 0.5, NULL}, {words, WORDS, 1, NULL}};
    struct fuse_hit out[WORDS + BEAM];
    int32_t n = fuse_lists(lists, 2, out, WORDS + BEAM);
    assert_true(score_of(out, n, 106) == 1.0 / 67);
    for (int32_t i = 0; i < BEAM; i++) /* nearest ten: 101 .. 105 and 107 .. 111 */
        sum += beam[i] >= 101 && beam[i] <= 111 ? 0.5 / (61 + i) : 0;
    fuse_impute(out, n, known, WORDS, 0.5);
    assert_true(fabs(score_of(out, n, 106) - 1.0 / 67 - sum / 10) < 1e-15);
    assert_true(score_of(out, n, 103) == 1.0 / 64 && score_of(out, n, 7) == 0.5 / 64);
    for (int32_t i = 1; i < n; i++)
        assert_true(out[i - 1].score >= out[i].score);
    memset(known, true, sizeof known);
    n = fuse_lists(lists, 2, out, WORDS + BEAM);
    fuse_impute(out, n, known, WORDS, 0.5);
    assert_true(score_of(out, n, 106) == 1.0 / 67);
    known[NEW] = false; /* one that its bucket has put high already keeps what it has */
    beam[0] = 106;
    n = fuse_lists(lists, 2, out, WORDS + BEAM);
    fuse_impute(out, n, known, WORDS, 0.5);
    assert_true(fabs(score_of(out, n, 106) - 1.0 / 67 - 0.5 / 61) < 1e-15);
}

int main(int argc, char **argv)
{
    char why[256];
    be = backend_open(argc > 2 && strcmp(argv[1], "--device") == 0 ? argv[2] : "cpu", 2, why, sizeof why);
    if (!be) {
        fprintf(stderr, "%s\n", why);
        return 69;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive_search),
        cmocka_unit_test(test_a_request_does_not_depend_on_its_batch),
        cmocka_unit_test(test_exact_ties),
        cmocka_unit_test(test_empty_trie),
        cmocka_unit_test(test_stop_between_positions),
        cmocka_unit_test(test_new_documents_share_their_bucket),
        cmocka_unit_test(test_prefixes_carry_the_state_that_chose_them),
        cmocka_unit_test(test_reciprocal_ranks),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_weight_is_chosen),
        cmocka_unit_test(test_missing_terms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
