/* test_pretrain.c: span corruption by its properties, on every length up to some windows and many seeds; and a small pretraining as a whole.
 *
 * The counts are checked against values that follow from the published rule by hand; a corrupted pair is put together again, which no wrong cut,
 * lost token or misplaced sentinel survives; where cuts fall is checked to be even, since a biased draw would still put together. */
#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/learn/span_corruption.h"
#include "../../core/model/model_file.h"
#include "../../core/runs.h"
#include "../../kernels/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 700, FIRST = 5000 };

static const struct span_corruption usual = {.density = 0.15, .mean_span = 3, .first = FIRST};

static void test_counts(void **state)
{
    (void)state;
    static const struct {
        int32_t n, noise, spans;
    } cases[] = {{2, 1, 1}, {3, 1, 1}, {10, 2, 1}, {20, 3, 1}, {30, 4, 1}, {50, 8, 3}, {100, 15, 5}, {568, 85, 28}};
    int32_t spans;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(span_noise(&usual, cases[i].n, &spans), cases[i].noise);
        assert_int_equal(spans, cases[i].spans);
    }
    /* T5's own sizes: 568 tokens make an input of 512 and a target of 114 */
    assert_int_equal(span_window(&usual, 512), 568);
    assert_int_equal(span_target_size(&usual, 568), 114);
    assert_int_equal(span_window(&usual, 3), 2);
    assert_int_equal(span_window(&usual, 2), 0);
    const struct span_corruption dense = {.density = 0.9, .mean_span = 1, .first = FIRST};
    assert_int_equal(span_noise(&dense, 10, &spans), 9);
    assert_int_equal(spans, 1); /* one token is left, so one part of it */
}

/* Puts the pair together again; fails where a sentinel is out of order, or a span is empty. */
static void put_together(const int32_t *input, const uint32_t *target, int32_t *out, int32_t n)
{
    int32_t span = 0, size = 0;
    bool after_sentinel = true;
    for (; *input != 1; input++) {
        if (*input < FIRST - 200) {
            out[size++] = *input;
            after_sentinel = false;
            continue;
        }
        assert_false(after_sentinel); /* text stands before every sentinel */
        assert_int_equal(*input, FIRST - span);
        assert_int_equal((int32_t)*target, FIRST - span);
        target++;
        int32_t before = size;
        while (*target != 1 && (int32_t)*target < FIRST - 200)
            out[size++] = (int32_t)*target++;
        assert_true(size > before);
        span++;
        after_sentinel = true;
    }
    assert_int_equal(*target, 1);
    assert_int_equal(size, n);
}

static void test_pairs(void **state)
{
    (void)state;
    int32_t tokens[MOST], input[MOST + 2], out[MOST];
    uint32_t target[MOST + 2];
    static const struct span_corruption kinds[] = {{0.15, 3, FIRST}, {0.5, 5, FIRST}, {0.15, 1, FIRST}};
    for (int32_t i = 0; i < MOST; i++)
        tokens[i] = 2 + i;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int32_t n = 2; n <= MOST; n += n < 40 ? 1 : 37)
            for (uint64_t seed = 0; seed < 20; seed++) {
                int32_t spans;
                span_noise(&kinds[k], n, &spans);
                if (spans > SENTINELS)
                    continue;
                memset(input, -1, sizeof input);
                memset(target, -1, sizeof target);
                span_corrupt(&kinds[k], tokens, n, seed, input, target);
                assert_int_equal(input[span_input_size(&kinds[k], n) - 1], 1);
                assert_int_equal(input[span_input_size(&kinds[k], n)], -1);
                assert_int_equal(target[span_target_size(&kinds[k], n) - 1], 1);
                assert_int_equal((int32_t)target[span_target_size(&kinds[k], n)], -1);
                put_together(input, target, out, n);
                assert_memory_equal(out, tokens, (size_t)n * sizeof *out);
            }
}

/* Of 20 tokens and two spans of 3 noise tokens each on average, the first kept part has 1 .. 13 tokens, each size as likely; so has each noise cut. */
static void test_cuts_are_even(void **state)
{
    (void)state;
    const struct span_corruption s = {.density = 0.3, .mean_span = 3, .first = FIRST};
    int32_t tokens[20], input[24], spans, count[14] = {0}, noise[6] = {0}, draws = 26000;
    uint32_t target[24];
    assert_int_equal(span_noise(&s, 20, &spans), 6);
    assert_int_equal(spans, 2);
    for (int32_t i = 0; i < 20; i++)
        tokens[i] = 2 + i;
    for (int32_t d = 0; d < draws; d++) {
        int32_t kept = 0, lost = 0;
        span_corrupt(&s, tokens, 20, (uint64_t)d, input, target);
        while (input[kept] != FIRST)
            kept++;
        while ((int32_t)target[1 + lost] != FIRST - 1)
            lost++;
        count[kept]++;
        noise[lost]++;
    }
    double chi = 0, chi_noise = 0;
    for (int32_t i = 1; i <= 13; i++)
        chi += (count[i] - draws / 13.0) * (count[i] - draws / 13.0) / (draws / 13.0);
    for (int32_t i = 1; i <= 5; i++)
        chi_noise += (noise[i] - draws / 5.0) * (noise[i] - draws / 5.0) / (draws / 5.0);
    assert_true(chi < 32.9);       /* 12 degrees of freedom: once in a thousand */
    assert_true(chi_noise < 18.5); /* 4 */
}

/* ---- the run ---- */

static char folder[64];

static char *in_folder(const char *name)
{
    return path_join(folder, name);
}

/* Sentences of three fixed pairs of words: what is masked follows from what is left. */
static void write_corpus(void)
{
    static const char *const pairs[][2] = {{"red apple", "green tree"}, {"iron horse", "stone river"}, {"north wind", "paper cloud"},
                                           {"glass table", "piano chair"}, {"eagle drum", "bread torch"}, {"blue south", "cold winter"}};
    struct str out = {0};
    for (int i = 0; i < 60; i++) {
        str_printf(&out, "{\"_id\":\"d%d\",\"text\":\"", i);
        for (int k = 0; k < 6; k++) {
            const char *const *p = pairs[mix64((uint64_t)i, (uint64_t)k) % 6];
            str_printf(&out, "%s and %s again. ", p[0], p[1]);
        }
        str_puts(&out, "\"}\n");
    }
    str_puts(&out, "{\"_id\":\"empty\",\"text\":\"\"}\n");
    char *path = in_folder("corpus.jsonl");
    assert_int_equal(file_write(path, out.data, out.size, NULL), 0);
    free(path);
    str_free(&out);
}

static struct pretrain_options options(const char *out)
{
    return (struct pretrain_options){.data = folder, .out = out, .d_model = 32, .d_ff = 64, .d_kv = 8, .heads = 4, .encoder_layers = 1,
                                     .decoder_layers = 1, .max_tokens = 48, .batch = 16, .epochs = 60, .lr = 1e-2, .validation_share = 0.1,
                                     .device = "cpu", .threads = 1, .seed = 3};
}

static void keep_line(void *state, const char *line)
{
    const char *at = strstr(line, "validation loss ");
    if (at != NULL)
        *(double *)state = atof(at + strlen("validation loss "));
}

static void digest_of(const char *bundle, char hex[65])
{
    struct err e = {0};
    struct bundle *b = bundle_open(bundle, &e);
    if (b == NULL)
        fail_msg("%s", e.message);
    strcpy(hex, bundle_sha256(b, "base.safetensors"));
    bundle_close(b);
}

static void test_learns(void **state)
{
    (void)state;
    char *out = in_folder("base"), *more = in_folder("more"), hex[65], again[65];
    double loss = 99, better = 99;
    struct run run = {.note = keep_line, .state = &loss};
    struct pretrain_options o = options(out);
    struct err e = {0};
    if (pretrain_run(&o, &run, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(loss < 1.2); /* 5 nats at the start; the words of the texts alone have 3.4 */
    digest_of(out, hex);
    assert_int_equal(pretrain_run(&o, &run, &e), -1); /* there already */
    assert_int_equal(e.code, ERR_CONFLICT);
    o.replace = true;
    assert_int_equal(pretrain_run(&o, &run, &e), 0);
    digest_of(out, again);
    assert_string_equal(hex, again);
    run.state = &better;
    struct pretrain_options next = options(more);
    next.base = out;
    next.lr = 2e-3;
    if (pretrain_run(&next, &run, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(better < loss);
    free(out);
    free(more);
}

static void refuse(struct pretrain_options o, const char *what)
{
    struct err e = {0};
    const struct run run = {0};
    assert_int_equal(pretrain_run(&o, &run, &e), -1);
    if (strstr(e.message, what) == NULL)
        fail_msg("'%s' is not in: %s", what, e.message);
}

static void test_refusals(void **state)
{
    (void)state;
    char *out = in_folder("none");
    struct pretrain_options o = options(out);
    o.max_tokens = 3000;
    refuse(o, "max_tokens 3000");
    o = options(out);
    o.base = out;
    o.tokenizer = out;
    refuse(o, "base and tokenizer");
    o = options(out);
    o.noise_density = 1.5;
    refuse(o, "noise_density 1.5");
    o = options(out);
    o.mean_span = 0.5;
    refuse(o, "mean_span 0.5");
    o = options(out);
    o.data = out;
    refuse(o, "none");
    assert_false(file_exists(out));
    free(out);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/semindex-pretrain-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    write_corpus();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_pairs), cmocka_unit_test(test_cuts_are_even),
                                       cmocka_unit_test(test_learns), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
