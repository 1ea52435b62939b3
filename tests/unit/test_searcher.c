/* test_searcher.c: searches by recordings, padded and two at a time, give what the same searches give called alone.
 *
 * Every result is compared with an exact batch on a work space and beam of its own, bit by bit; a GPU, whose products choose their
 * algorithm by shape, is allowed what its roundings make of scores. On a processor there is nothing to record: then the same tests say that
 * a searcher is its calls. An emulated build runs them on the emulated device; --device NAME on another. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/engine_device.h"
#include "../../core/retrieve/searcher.h"
#include "device_kit.h"

enum { VOCAB = 13, D = 16, CODES = 5, SUFFIXES = 64, DOCUMENTS = 60, MANY = 1500, POSITIONS = 3, REQUESTS = 7, LONGEST = 9, WIDEST = 12,
       TOKENS = REQUESTS * LONGEST, BUDGET = 64 << 20 };

static const struct backend *be;
static bool recorded; /* the backend records */
static bool exact;    /* an element of a product does not depend on the number of rows */

struct world {
    struct code_layout layout;
    struct t5 *model;
    struct t5_work *work; /* of the exact search */
    struct beam *beam;
    struct searcher *searcher;
    struct trie *trie;
    const struct trie_view *placed;
};

static struct trie *draw_trie(uint32_t n, uint64_t seed)
{
    struct err e = {0};
    uint32_t *codes = xmalloc((size_t)n * POSITIONS * sizeof *codes), *document = xmalloc((size_t)n * sizeof *document);
    for (uint32_t i = 0; i < n; i++) { /* distinct: the last two codes count the documents of a first code */
        uint32_t at = (uint32_t)((i * 7 + seed) % (CODES * CODES * SUFFIXES));
        memcpy(codes + i * POSITIONS, (const uint32_t[]){at % CODES, at / CODES % CODES, at / CODES / CODES}, POSITIONS * sizeof *codes);
        document[i] = (uint32_t)(mix64(seed, i) % 100000);
    }
    struct trie *t = trie_build(codes, document, n, POSITIONS, &e);
    assert_non_null(t);
    free(codes);
    free(document);
    return t;
}

static struct searcher *open_searcher(struct world *w, size_t recordings)
{
    struct err e = {0};
    const struct searcher_limits l = {.tokens = TOKENS, .longest = LONGEST, .beam = {.requests = REQUESTS, .width = WIDEST},
                                      .recordings = recordings};
    struct searcher *s = searcher_init(w->model, &w->layout, &l, &e);
    assert_non_null(s);
    return s;
}

static struct world world_open(size_t recordings)
{
    struct err e = {0};
    struct world w = {.layout = {.base = VOCAB, .positions = POSITIONS, .codes = {CODES, CODES, SUFFIXES}}};
    const struct t5_options o = {.config = {.vocab = VOCAB, .codes = code_layout_total(&w.layout), .d_model = D, .d_kv = 8, .d_ff = 24, .heads = 2,
                                            .encoder_layers = 2, .decoder_layers = 2, .buckets = 8, .max_distance = 16, .eps = 1e-6f,
                                            .scale_output = true}};
    const struct t5_limits l = {.encoder_tokens = TOKENS, .rows = REQUESTS, .beam_rows = REQUESTS * WIDEST, .positions = POSITIONS};
    w.model = t5_init(be, &o, &e);
    t5_randomise(w.model, 5);
    w.work = t5_work_init(w.model, &l, &e);
    w.beam = beam_init(w.model, &w.layout, &(struct beam_limits){.requests = REQUESTS, .width = WIDEST}, &e);
    w.searcher = open_searcher(&w, recordings);
    w.trie = draw_trie(DOCUMENTS, 3);
    w.placed = trie_upload(be, w.trie, NULL, &e);
    assert_true(w.work && w.beam && w.placed);
    return w;
}

static void world_close(struct world *w)
{
    searcher_free(w->searcher);
    beam_free(w->beam);
    trie_release(be, w->placed);
    trie_free(w->trie);
    t5_work_free(w->work);
    t5_free(w->model);
}

/* ---- batches ---- */

struct batch {
    int32_t tokens[TOKENS], offsets[REQUESTS + 1], count;
};

static struct batch draw_batch(uint64_t seed, int32_t count)
{
    struct batch b = {.count = count};
    for (int32_t r = 0; r < count; r++) {
        int32_t length = 1 + (int32_t)(mix64(seed, (uint64_t)r) % LONGEST);
        for (int32_t i = 0; i < length; i++)
            b.tokens[b.offsets[r] + i] = i + 1 == length ? 1 : 3 + (int32_t)(mix64(seed + 1, (uint64_t)(r * LONGEST + i)) % (VOCAB - 3));
        b.offsets[r + 1] = b.offsets[r] + length;
    }
    return b;
}

static struct beam_search search_of(const struct world *w, int32_t width, int kind)
{
    return (struct beam_search){.trie = trie_view_of(w->trie), .placed = w->placed, .width = width, .renormalise = kind & 1,
                                .keep_states = kind >> 1 & 1};
}

static void begin(struct world *w, int32_t seat, const struct batch *b, const struct beam_search *q)
{
    assert_int_equal(searcher_begin(w->searcher, seat, &(struct t5_batch){b->count, b->tokens, b->offsets}, q), 0);
}

static void compare_scores(double x, double y)
{
    assert_true(exact ? x == y : fabs(x - y) <= 0.05 * (1 + fabs(y)));
}

static void compare_request(const struct beam *x, const struct beam *y, int32_t r, const struct beam_search *q)
{
    int32_t n, m;
    const struct beam_hit *h = beam_hits(x, r, &n), *k = beam_hits(y, r, &m);
    assert_int_equal(n, m);
    for (int32_t i = 0; i < n; i++) {
        compare_scores(h[i].score, k[i].score);
        assert_true(!exact || (h[i].leaf == k[i].leaf && h[i].document == k[i].document));
    }
    assert_int_equal(beam_exhaustive(x, r), beam_exhaustive(y, r));
    const struct beam_prefix *p = beam_prefixes(x, r, &n), *s = beam_prefixes(y, r, &m);
    assert_int_equal(n, m);
    for (int32_t i = 0; i < n; i++) {
        compare_scores(p[i].score, s[i].score);
        assert_true(!exact || p[i].node == s[i].node);
        assert_int_equal(p[i].state != NULL, q->keep_states);
        assert_true(!q->keep_states || !exact || memcmp(p[i].state, s[i].state, D * sizeof(float)) == 0);
    }
}

/* Waits for a seat and compares it with the same batch called alone. */
static void end_and_compare(struct world *w, int32_t seat, const struct batch *b, const struct beam_search *q)
{
    const struct beam *found = searcher_end(w->searcher, seat);
    t5_encode(w->model, w->work, &(struct t5_batch){b->count, b->tokens, b->offsets}, 0);
    assert_int_equal(beam_run(w->beam, w->work, q), 0);
    for (int32_t r = 0; r < b->count; r++)
        compare_request(w->beam, found, r, q);
}

static void check_batch(struct world *w, const struct batch *b, const struct beam_search *q)
{
    begin(w, 0, b, q);
    end_and_compare(w, 0, b, q);
}

/* ---- tests ---- */

static void test_recorded_searches_equal_called_ones(void **state)
{
    (void)state;
    struct world w = world_open(BUDGET);
    static const int32_t widths[] = {1, 5, WIDEST};
    for (int kind = 0; kind < 4; kind++)
        for (int i = 0; i < 3; i++)
            for (int32_t turn = 0; turn < 2 * REQUESTS; turn++) { /* counts of 1, 2, 3-4, 5-7 share shapes, with other lengths each time */
                const struct batch b = draw_batch((uint64_t)(100 * kind + turn), 1 + turn % REQUESTS);
                const struct beam_search q = search_of(&w, widths[i], kind);
                check_batch(&w, &b, &q);
            }
    struct searcher_counts c = searcher_counts(w.searcher);
    assert_int_equal(c.called + c.replayed, 4 * 3 * 2 * REQUESTS);
    assert_int_equal(c.replayed > 0, recorded);
    assert_true(c.refused == 0 && c.dropped == 0 && c.bytes <= BUDGET);
    world_close(&w);
}

static void test_without_recordings(void **state)
{
    (void)state;
    struct world w = world_open(0);
    for (int32_t turn = 0; turn < 6; turn++) {
        const struct batch b = draw_batch((uint64_t)turn, 1 + turn);
        const struct beam_search q = search_of(&w, 4, 2);
        check_batch(&w, &b, &q);
    }
    assert_int_equal(searcher_counts(w.searcher).called, 6);
    world_close(&w);
}

/* The second batch is sent before the first one's results are looked at; the seats take turns. A processor has no second seat. */
static void test_two_in_flight(void **state)
{
    (void)state;
    struct world w = world_open(BUDGET);
    struct batch b[12];
    if (be->has_host_memory) {
        world_close(&w);
        return;
    }
    for (int i = 0; i < 12; i++)
        b[i] = draw_batch((uint64_t)i, 1 + (i * 5) % REQUESTS);
    struct beam_search q[2] = {search_of(&w, 6, 2), search_of(&w, 9, 1)};
    begin(&w, 0, &b[0], &q[0]);
    for (int i = 1; i < 12; i++) {
        begin(&w, i & 1, &b[i], &q[i & 1]);
        end_and_compare(&w, (i - 1) & 1, &b[i - 1], &q[(i - 1) & 1]);
    }
    end_and_compare(&w, 1, &b[11], &q[1]);
    assert_true(searcher_counts(w.searcher).replayed > 0);
    world_close(&w);
}

/* Tries come and go between searches, as commits publish them: the device's two blocks take turns; one grows so much that it is laid anew. */
static void test_generations(void **state)
{
    (void)state;
    struct err e = {0};
    struct world w = world_open(BUDGET);
    static const uint32_t sizes[] = {DOCUMENTS, DOCUMENTS + 1, 0, 1, DOCUMENTS, MANY, MANY + 1, DOCUMENTS};
    const struct trie_view *spare = NULL;
    const struct batch b = draw_batch(9, 5);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct trie *next = draw_trie(sizes[i], i);
        const struct trie_view *placed = trie_upload(be, next, spare, &e);
        assert_non_null(placed);
        trie_free(w.trie);
        spare = w.placed;
        w.trie = next;
        w.placed = placed;
        const struct beam_search q = search_of(&w, WIDEST, 2);
        for (int again = 0; again < 3; again++)
            check_batch(&w, &b, &q);
    }
    struct searcher_counts c = searcher_counts(w.searcher);
    assert_int_equal(c.dropped, recorded ? 2 : 0); /* 1,500 leaves are more than 1,024; and back */
    assert_int_equal(c.recorded, recorded ? 3 : 0);
    trie_release(be, spare);
    world_close(&w);
}

static void test_small_budget(void **state)
{
    (void)state;
    struct world w = world_open(BUDGET);
    if (!recorded) {
        world_close(&w);
        return;
    }
    struct batch b[5];
    for (int32_t i = 0; i < 5; i++)
        b[i] = draw_batch((uint64_t)i, 2);
    for (int again = 0; again < 2; again++)
        check_batch(&w, &b[0], &(struct beam_search){trie_view_of(w.trie), w.placed, .width = 3});
    size_t one = searcher_counts(w.searcher).bytes, budgets[] = {2 * one + one / 2, 1};
    assert_true(one > 0);
    for (int k = 0; k < 2; k++) {
        searcher_free(w.searcher);
        w.searcher = open_searcher(&w, budgets[k]);
        for (int32_t turn = 0; turn < 20; turn++) {
            const struct beam_search q = search_of(&w, 3 + turn / 4 % 5, 0);
            check_batch(&w, &b[turn % 5], &q);
            assert_true(searcher_counts(w.searcher).bytes <= budgets[k]);
        }
        struct searcher_counts c = searcher_counts(w.searcher);
        assert_true(c.dropped >= 3 && (k == 1 ? c.replayed == 0 : c.replayed > 5));
    }
    world_close(&w);
}

static void test_warm(void **state)
{
    (void)state;
    struct world w = world_open(BUDGET);
    const struct beam_search q = search_of(&w, 4, 2);
    searcher_warm(w.searcher, &q);
    struct searcher_counts c = searcher_counts(w.searcher);
    assert_int_equal(c.recorded > 0, false); /* no query is as long as 16 tokens here */
    searcher_free(w.searcher);
    struct err e = {0};
    const struct searcher_limits l = {.tokens = 80, .longest = 16, .beam = {.requests = REQUESTS, .width = WIDEST}, .recordings = BUDGET};
    w.searcher = searcher_init(w.model, &w.layout, &l, &e);
    searcher_warm(w.searcher, &q);
    c = searcher_counts(w.searcher);
    assert_int_equal(c.recorded, recorded ? 3 : 0); /* 1, 2 and 4 requests of 16 tokens */
    const struct batch b = draw_batch(4, 1);
    check_batch(&w, &b, &q);
    assert_int_equal(searcher_counts(w.searcher).replayed, recorded ? c.replayed + 1 : 0);
    world_close(&w);
}

static bool stop_at_once(void *state)
{
    return ++*(int *)state > 0;
}

static void test_stop(void **state)
{
    (void)state;
    struct world w = world_open(BUDGET);
    int asked = 0;
    const struct batch b = draw_batch(4, 3);
    struct beam_search q = search_of(&w, 4, 0);
    q.stop = stop_at_once;
    q.state = &asked;
    assert_int_equal(searcher_begin(w.searcher, 0, &(struct t5_batch){b.count, b.tokens, b.offsets}, &q), -1);
    assert_int_equal(asked, 1);
    q.stop = NULL;
    for (int i = 0; i < 3; i++)
        check_batch(&w, &b, &q);
    world_close(&w);
}

struct waiter {
    struct searcher *s;
    int32_t seat;
};

static void *wait_for_seat(void *state)
{
    struct waiter *w = state;
    w->seat = searcher_take(w->s, true);
    return NULL;
}

static void test_seats(void **state)
{
    (void)state;
    struct world w = world_open(0);
    struct waiter other = {w.searcher, -1};
    pthread_t thread;
    for (int32_t i = 0; i < SEARCHER_SEATS; i++)
        assert_int_equal(searcher_take(w.searcher, true), i);
    assert_int_equal(searcher_take(w.searcher, false), -1);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_seat, &other), 0);
    searcher_give(w.searcher, 1);
    pthread_join(thread, NULL);
    assert_int_equal(other.seat, 1);
    searcher_give(w.searcher, 0);
    assert_int_equal(searcher_take(w.searcher, false), 0);
    world_close(&w);
}

/* ---- callers in threads ---- */

/* A device that is a processor with memory of its own, so that this test runs where threads are watched. */
struct landing {
    size_t bytes;
    char memory[];
};

static struct landing *landing_open(size_t bytes)
{
    struct landing *l = xcalloc(1, sizeof *l + bytes);
    l->bytes = bytes;
    return l;
}

static void landing_close(struct landing *l)
{
    free(l);
}

static void land(struct landing *l, size_t at, const void *memory, size_t bytes)
{
    assert_true(at + bytes <= l->bytes);
    memcpy(l->memory + at, memory, bytes);
}

static const void *landed(struct landing *l)
{
    return l->memory;
}

static void unpack(float *y, const void *from, int64_t n)
{
    memcpy(y, from, (size_t)n * sizeof *y);
}

static const struct backend *beneath;

/* As a device does, which reads the trie where it lies. */
static void resident_step(const struct beam_step *a)
{
    struct beam_step b = *a;
    b.trie = a->trie->resident;
    beneath->beam_step(&b);
}

enum { CALLERS = 3, TURNS = 40, BATCHES = 4 };
struct answers {
    struct beam_hit hit[REQUESTS][WIDEST];
    int32_t count[REQUESTS];
};
struct callers {
    struct world *w;
    struct device *d;
    struct beam_search q;
    struct batch batch[BATCHES];
    struct answers expected[BATCHES];
};
struct caller {
    struct callers *all;
    int32_t first, seat, wrong;
    const struct batch *b; /* of this turn */
    pthread_t thread;
};

static void answers_of(struct answers *a, const struct beam *beam, int32_t requests)
{
    for (int32_t r = 0; r < requests; r++) {
        const struct beam_hit *h = beam_hits(beam, r, &a->count[r]);
        memcpy(a->hit[r], h, (size_t)a->count[r] * sizeof *h);
    }
}

static bool same_answers(const struct answers *a, const struct beam *beam, int32_t requests)
{
    bool same = true;
    for (int32_t r = 0; r < requests; r++) {
        int32_t n;
        const struct beam_hit *h = beam_hits(beam, r, &n);
        same = same && n == a->count[r];
        for (int32_t i = 0; i < n && same; i++)
            same = exact ? h[i].leaf == a->hit[r][i].leaf && h[i].score == a->hit[r][i].score
                         : fabs(h[i].score - a->hit[r][i].score) <= 0.05 * (1 + fabs(h[i].score));
    }
    return same;
}

static void send(void *state)
{
    struct caller *c = state;
    c->wrong += searcher_begin(c->all->w->searcher, c->seat, &(struct t5_batch){c->b->count, c->b->tokens, c->b->offsets}, &c->all->q) != 0;
}

static void *call_often(void *state)
{
    struct caller *c = state;
    struct searcher *s = c->all->w->searcher;
    for (int32_t turn = 0; turn < TURNS; turn++) {
        int32_t k = (c->first + turn) % BATCHES;
        c->b = &c->all->batch[k];
        c->seat = searcher_take(s, true);
        device_call(c->all->d, send, c);
        c->wrong += !same_answers(&c->all->expected[k], searcher_end(s, c->seat), c->b->count);
        searcher_give(s, c->seat);
    }
    return NULL;
}

static void draw_callers(struct callers *all, struct world *w)
{
    struct err e = {0};
    *all = (struct callers){.w = w, .d = device_open(&e), .q = search_of(w, 6, 2)};
    for (int32_t k = 0; k < BATCHES; k++) {
        struct batch *b = &all->batch[k];
        *b = draw_batch((uint64_t)k, 1 + 2 * k);
        t5_encode(w->model, w->work, &(struct t5_batch){b->count, b->tokens, b->offsets}, 0);
        assert_int_equal(beam_run(w->beam, w->work, &all->q), 0);
        answers_of(&all->expected[k], w->beam, b->count);
    }
}

static void test_callers(void **state)
{
    (void)state;
    struct backend remote = *be;
    beneath = be;
    if (be->has_host_memory) {
        remote.has_host_memory = false;
        remote.landing_open = landing_open, remote.landing_close = landing_close;
        remote.beam_step = resident_step, remote.land = land, remote.landed = landed, remote.unpack = unpack;
        be = &remote;
    }
    struct world w = world_open(BUDGET);
    struct callers *all = xcalloc(1, sizeof *all);
    struct caller c[CALLERS];
    draw_callers(all, &w);
    for (int32_t i = 0; i < CALLERS; i++) {
        c[i] = (struct caller){.all = all, .first = i};
        assert_int_equal(pthread_create(&c[i].thread, NULL, call_often, &c[i]), 0);
    }
    for (int32_t i = 0; i < CALLERS; i++) {
        pthread_join(c[i].thread, NULL);
        assert_int_equal(c[i].wrong, 0);
    }
    device_close(all->d);
    free(all);
    world_close(&w);
    be = beneath;
}

int main(int argc, char **argv)
{
    be = device_kit_open(argc, argv).device;
    recorded = be->record_begin != NULL;
#ifdef SEMINDEX_EMU
    exact = true;
#else
    exact = be->has_host_memory;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_searches_equal_called_ones),
        cmocka_unit_test(test_without_recordings),
        cmocka_unit_test(test_two_in_flight),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_small_budget),
        cmocka_unit_test(test_warm),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_seats),
        cmocka_unit_test(test_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
