/* test_device_step.c: a cached decode step in one op (decode_stack) computes what the ops one by one do.
 *
 *   test_device_step [--device NAME] [--print]     default: cuda in an emulated build, else the cpu
 *
 * Models of several shapes (gated or not, odd numbers of layers, more of them than one launch takes, widths that the op must leave alone) decode
 * four positions for requests of several lengths, an empty one among them, with parents drawn at random. Three models with the same weights stand
 * side by side: on the cpu, on the device with the op, on the device without it. Later positions read what earlier ones cached, so the caches
 * are compared, too. With f32 activations hidden states agree to 2e-5 of the largest one. With bf16 (unit u = 2^-8, one rounding is off by u / 2 at
 * most) a layer has some eight roundings in series that are independent of each other, so the root mean square of the distance is
 * within u / 2 * sqrt(8 layers) of that of the states. Whether the op took a step is counted: none may pass by. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/model/t5.h"
#include "../../core/retrieve/beam.h"
#include "../../core/retrieve/trie.h"
#include "device_kit.h"

enum { POSITIONS = 4, ROWS_MOST = 80, REQUESTS_MOST = 64, VOCAB = 50 };

static const struct backend *reference, *device;
static struct backend counted, without;
static int64_t taken, left;
static bool print;

struct shape {
    const char *name;
    int32_t d, heads, kv, f, layers;
    bool gated;
    int32_t requests, width; /* beams of a request from the second position on */
    int32_t longest;         /* tokens of an encoded row */
    bool fits;               /* the op must take steps of at most 64 rows */
};
static const struct shape shapes[] = {
    {"plain", 32, 2, 16, 48, 2, false, 3, 5, 9, true},
    {"gated, three layers", 48, 3, 16, 80, 3, true, 4, 4, 7, true},
    {"depth over several groups", 128, 4, 32, 1024, 1, false, 2, 20, 40, true},
    {"one row", 16, 1, 16, 16, 1, false, 1, 1, 3, true},
    {"64 requests", 32, 2, 16, 32, 1, false, 64, 1, 5, true},
    {"more layers than a launch takes", 16, 1, 16, 16, 26, false, 2, 3, 4, true},
    {"beams beyond 64 rows", 32, 2, 16, 32, 1, false, 4, 20, 6, true},
    {"heads of 8, an inner width of 24", 16, 3, 8, 32, 2, false, 2, 4, 6, false},
    {"width 40", 40, 2, 16, 32, 1, false, 2, 4, 6, false},
};

static bool counted_stack(const struct decode_stack *a)
{
    bool done = device->decode_stack(a);
    taken += done;
    left += !done;
    return done;
}

struct run { /* one model with its work */
    struct t5 *model;
    struct t5_work *work;
    int32_t *offsets, *tokens, *parent; /* backend memory */
};

static struct run run_open(const struct backend *be, const struct shape *s)
{
    const struct t5_config c = {.vocab = VOCAB, .d_model = s->d, .d_kv = s->kv, .d_ff = s->f, .heads = s->heads, .encoder_layers = 1,
                                .decoder_layers = s->layers, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .gated = s->gated};
    const struct t5_limits l = {.encoder_tokens = s->requests * s->longest, .rows = s->requests, .beam_rows = ROWS_MOST, .positions = POSITIONS};
    struct err e = {0};
    struct run r = {.model = t5_init(be, &(struct t5_options){.config = c}, &e)};
    assert_non_null(r.model);
    t5_randomise(r.model, 5);
    r.work = t5_work_init(r.model, &l, &e);
    assert_non_null(r.work);
    r.offsets = be->alloc((REQUESTS_MOST + 1) * sizeof(int32_t));
    r.tokens = be->alloc(ROWS_MOST * sizeof(int32_t));
    r.parent = be->alloc(ROWS_MOST * sizeof(int32_t));
    return r;
}

static void run_close(const struct backend *be, struct run *r)
{
    t5_work_free(r->work);
    t5_free(r->model);
    be->release(r->offsets);
    be->release(r->tokens);
    be->release(r->parent);
}

static void run_encode(struct run *r, const struct shape *s)
{
    int32_t offsets[REQUESTS_MOST + 1] = {0}, tokens[4096];
    for (int32_t i = 0; i < s->requests; i++)
        offsets[i + 1] = offsets[i] + (i == 1 ? 0 : 1 + (int32_t)(mix64(3, (uint64_t)i) % (uint64_t)s->longest));
    for (int32_t i = 0; i < offsets[s->requests]; i++)
        tokens[i] = (int32_t)(mix64(4, (uint64_t)i) % VOCAB);
    t5_encode(r->model, r->work, &(struct t5_batch){s->requests, tokens, offsets}, 0);
    t5_decode_begin(r->model, r->work);
}

static int32_t beams_of(const struct shape *s, int32_t position)
{
    return position == 0 ? 1 : s->width;
}

static const struct act *run_step(const struct backend *be, struct run *r, const struct shape *s, int32_t position)
{
    int32_t offsets[REQUESTS_MOST + 1], tokens[ROWS_MOST], parent[ROWS_MOST], width = beams_of(s, position), before = beams_of(s, position - 1 < 0 ? 0 : position - 1);
    for (int32_t i = 0; i <= s->requests; i++)
        offsets[i] = i * width;
    for (int32_t i = 0; i < s->requests * width; i++) {
        tokens[i] = (int32_t)(mix64(6, (uint64_t)(position * ROWS_MOST + i)) % VOCAB);
        parent[i] = i / width * before + (int32_t)(mix64(7, (uint64_t)(position * ROWS_MOST + i)) % (uint64_t)before);
    }
    be->write(r->offsets, offsets, sizeof offsets[0] * (size_t)(s->requests + 1));
    be->write(r->tokens, tokens, sizeof tokens[0] * (size_t)(s->requests * width));
    be->write(r->parent, parent, sizeof parent[0] * (size_t)(s->requests * width));
    return t5_decode_step(r->model, r->work, r->offsets, s->requests * width, r->tokens, r->parent);
}

/* Root mean square of x - y over that of y, and the largest distance over the largest |y|. */
static void distance(const float *x, const float *y, int32_t n, double *spread, double *most)
{
    double squares = 0, all = 0, top = 0, far = 0;
    for (int32_t i = 0; i < n; i++) {
        double apart = fabs((double)x[i] - (double)y[i]);
        assert_true(isfinite(x[i]) && isfinite(y[i]));
        squares += apart * apart;
        all += (double)y[i] * y[i];
        far = fmax(far, apart);
        top = fmax(top, fabs(y[i]));
    }
    *spread = sqrt(squares / all);
    *most = far / top;
}

static void compare(const struct shape *s, int32_t position, const char *with, const float *x, const float *y)
{
    double spread, most, u = device->act_bytes == sizeof(float) ? 0 : 0x1p-8, bound = u / 2 * sqrt(2 * 8.0 * s->layers);
    distance(x, y, s->requests * beams_of(s, position) * s->d, &spread, &most);
    if (print)
        printf("%-34s position %d, beside %-8s rms %.2e (bound %.2e), largest %.2e\n", s->name, position + 1, with, spread, bound, most);
    if (u > 0 ? !(spread <= bound) : !(most <= 2e-5))
        fail_msg("%s, position %d: apart from %s by rms %.3g, largest %.3g", s->name, position + 1, with, spread, most);
}

static void check_shape(const struct shape *s)
{
    const struct backend *bes[3] = {&counted, &without, reference};
    static float states[3][ROWS_MOST * 128];
    struct run r[3];
    taken = left = 0;
    for (int i = 0; i < 3; i++) {
        r[i] = run_open(bes[i], s);
        run_encode(&r[i], s);
    }
    int64_t wanted = 0;
    for (int32_t position = 0; position < POSITIONS; position++) {
        int32_t n = s->requests * beams_of(s, position);
        wanted += s->fits && n <= 64;
        for (int i = 0; i < 3; i++)
            bes[i]->download(states[i], run_step(bes[i], &r[i], s, position), (int64_t)n * s->d);
        compare(s, position, "ops", states[0], states[1]);
        compare(s, position, "cpu", states[0], states[2]);
    }
    if (device->decode_stack) {
        assert_int_equal(taken, wanted);
        assert_int_equal(left, POSITIONS - wanted);
    }
    for (int i = 0; i < 3; i++)
        run_close(bes[i], &r[i]);
}

static void test_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_shape(&shapes[i]);
}

/* ---- exact ties ---- */

enum { TIE_CODES = 8, TIE_LEVELS = 3, TIE_D = 32, TIE_DOCUMENTS = TIE_CODES * TIE_CODES * TIE_CODES, TIE_REQUESTS = 3, TIE_WIDTH = 160, TWINS = 8 };

struct ties {
    const struct backend *be;
    struct t5 *model;
    struct t5_work *work;
    struct beam *beam;
    struct trie *trie;
    const struct trie_view *placed;
};

/* Codes 2k and 2k + 1 of a position have one row. */
static void twin_rows(struct t5 *m)
{
    float rows[TIE_LEVELS * TIE_CODES * TIE_D];
    for (int32_t i = 0; i < TIE_LEVELS * TIE_CODES; i++)
        for (int32_t k = 0; k < TIE_D; k++)
            rows[i * TIE_D + k] = (float)(3 * mix_uniform(9, (uint64_t)(i / 2 * TIE_D + k)) - 1.5);
    t5_set_code_rows(m, 0, TIE_LEVELS * TIE_CODES, rows);
}

static struct trie *every_id(void)
{
    static uint32_t codes[TIE_DOCUMENTS * TIE_LEVELS];
    struct err e = {0};
    for (uint32_t i = 0; i < TIE_DOCUMENTS; i++)
        for (uint32_t p = 0, rest = i; p < TIE_LEVELS; p++, rest /= TIE_CODES)
            codes[i * TIE_LEVELS + TIE_LEVELS - 1 - p] = rest % TIE_CODES;
    struct trie *t = trie_build(codes, NULL, TIE_DOCUMENTS, TIE_LEVELS, &e);
    assert_non_null(t);
    return t;
}

static struct ties ties_open(const struct backend *be)
{
    const struct code_layout layout = {.base = VOCAB, .positions = TIE_LEVELS, .codes = {TIE_CODES, TIE_CODES, TIE_CODES}};
    const struct t5_config c = {.vocab = VOCAB, .codes = TIE_LEVELS * TIE_CODES, .d_model = TIE_D, .d_kv = 16, .d_ff = 64, .heads = 2,
                                .encoder_layers = 1, .decoder_layers = 2, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .scale_output = true};
    const struct t5_limits l = {.encoder_tokens = 64, .rows = TIE_REQUESTS, .beam_rows = TIE_REQUESTS * TIE_WIDTH, .positions = TIE_LEVELS};
    struct err e = {0};
    struct ties t = {.be = be, .model = t5_init(be, &(struct t5_options){.config = c}, &e), .trie = every_id()};
    assert_non_null(t.model);
    t5_randomise(t.model, 12);
    twin_rows(t.model);
    t.work = t5_work_init(t.model, &l, &e);
    t.beam = beam_init(t.model, &layout, &(struct beam_limits){.requests = TIE_REQUESTS, .width = TIE_WIDTH}, &e);
    t.placed = trie_upload(be, t.trie, NULL, &e);
    assert_true(t.work && t.beam && t.placed);
    return t;
}

static void ties_close(struct ties *t)
{
    beam_free(t->beam);
    trie_release(t->be, t->placed);
    trie_free(t->trie);
    t5_work_free(t->work);
    t5_free(t->model);
}

static void ties_search(struct ties *t, int32_t width)
{
    int32_t tokens[64], offsets[TIE_REQUESTS + 1] = {0, 5, 14, 20};
    for (int32_t i = 0; i < offsets[TIE_REQUESTS]; i++)
        tokens[i] = (int32_t)(mix64(13, (uint64_t)i) % VOCAB);
    const struct beam_search s = {.trie = trie_view_of(t->trie), .placed = t->placed, .width = width};
    t5_encode(t->model, t->work, &(struct t5_batch){TIE_REQUESTS, tokens, offsets}, 0);
    assert_int_equal(beam_run(t->beam, t->work, &s), 0);
}

/* Documents of one score, one after the other, their numbers (which rise with their codes) ascending; whole sets of twins but for the last. */
static void check_runs(const struct beam_hit *h, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t family = h[i].document & ~(uint32_t)(1 | TIE_CODES | TIE_CODES * TIE_CODES);
        assert_true(i == 0 || h[i].score <= h[i - 1].score);
        if (i % TWINS == 0)
            continue;
        assert_true(h[i].score == h[i - 1].score && h[i].document > h[i - 1].document);
        assert_int_equal(family, h[i - 1].document & ~(uint32_t)(1 | TIE_CODES | TIE_CODES * TIE_CODES));
    }
}

static void test_ties(void **state)
{
    static const int32_t widths[] = {TWINS, 20, TIE_WIDTH};
    struct ties t[2] = {ties_open(device), ties_open(reference)};
    (void)state;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        for (int i = 0; i < 2; i++)
            ties_search(&t[i], widths[w]);
        for (int32_t r = 0; r < TIE_REQUESTS; r++) {
            int32_t n, m;
            const struct beam_hit *mine = beam_hits(t[0].beam, r, &n), *other = beam_hits(t[1].beam, r, &m);
            assert_int_equal(n, widths[w]);
            assert_int_equal(m, widths[w]);
            check_runs(mine, n);
            check_runs(other, n);
            for (int32_t i = 0; device->act_bytes == sizeof(float) && i < n; i++)
                assert_int_equal(mine[i].document, other[i].document);
        }
    }
    for (int i = 0; i < 2; i++)
        ties_close(&t[i]);
}

int main(int argc, char **argv)
{
    const struct device_kit kit = device_kit_open(argc, argv);
    reference = kit.reference;
    device = kit.device;
    print = kit.print;
    counted = without = *device;
    counted.decode_stack = device->decode_stack ? counted_stack : NULL;
    without.decode_stack = NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_ties)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
