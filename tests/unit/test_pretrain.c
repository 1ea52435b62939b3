/* test_pretrain.c: span corruption by its properties, on every length up to some windows and many seeds; and a small pretraining as a whole.
 *
 * The counts are checked against values that follow from the published rule by hand; a corrupted pair is put together again, which no wrong cut,
 * lost token or misplaced sentinel survives; that masks are even is checked, too, since a biased draw would still put together. */
#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/learn/span_corruption.h"
#include "../../core/model/model_file.h"
#include "../../core/runs.h"
#include "../../kernels/backend.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
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
    static const struct span_corruption kinds[] = {{0.15, 3, FIRST}, {0.5, 5, FIRST}, {0.15, 1, FIRST}, {0.9, 1, FIRST}};
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

/* Every way to cut 20 tokens, 6 of them noise in two spans: 91 cuts of the rest (both first parts at least 1), times 5 of the noise. Each as likely. */
static void test_masks_are_even(void **state)
{
    (void)state;
    enum { N = 20, REST = 14, DRAWS = 91000 };
    const struct span_corruption s = {.density = 0.3, .mean_span = 3, .first = FIRST};
    static int32_t count[REST + 1][REST + 1][6];
    int32_t tokens[N], input[N + 4], spans, cells = 0;
    uint32_t target[N + 4];
    assert_int_equal(span_noise(&s, N, &spans), N - REST);
    assert_int_equal(spans, 2);
    for (int32_t i = 0; i < N; i++)
        tokens[i] = 2 + i;
    for (int32_t d = 0; d < DRAWS; d++) {
        int32_t first = 0, second = 0, lost = 0;
        span_corrupt(&s, tokens, N, (uint64_t)d, input, target);
        while (input[first] != FIRST)
            first++;
        while (input[first + 1 + second] != FIRST - 1)
            second++;
        while ((int32_t)target[1 + lost] != FIRST - 1)
            lost++;
        count[first][second][lost]++;
    }
    double chi = 0, expected = DRAWS / 455.0;
    for (int32_t i = 1; i <= REST; i++)
        for (int32_t k = 1; i + k <= REST; k++)
            for (int32_t l = 1; l <= 5; l++, cells++)
                chi += (count[i][k][l] - expected) * (count[i][k][l] - expected) / expected;
    assert_int_equal(cells, 455);
    assert_true(chi < 552); /* 454 degrees of freedom: once in a thousand */
}

/* A text so short that it has one span: it moves, and every token but the first is masked now and then. */
static void test_short_texts_have_many_masks(void **state)
{
    (void)state;
    int32_t tokens[20], input[23], masked[20] = {0}, spans;
    uint32_t target[23];
    assert_int_equal(span_noise(&usual, 20, &spans), 3);
    assert_int_equal(spans, 1);
    for (int32_t i = 0; i < 20; i++)
        tokens[i] = i + 2;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        span_corrupt(&usual, tokens, 20, seed, input, target);
        for (int32_t i = 1; i <= 3; i++)
            masked[target[i] - 2]++;
    }
    assert_int_equal(masked[0], 0);
    for (int32_t i = 1; i < 20; i++)
        assert_true(masked[i] > 60); /* of 118 where one of 17 masks has the token */
}

/* ---- tests/fixtures/a/spans, made by tests/reference/spans.py ---- */

static int32_t numbers(const cJSON *o, const char *name, int32_t *out)
{
    const cJSON *v;
    int32_t n = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(o, name))
        out[n++] = v->valueint;
    return n;
}

static void check_counts(const cJSON *kind)
{
    int32_t noise[MOST], spans[MOST], parts;
    const struct span_corruption s = {.density = cJSON_GetObjectItem(kind, "density")->valuedouble,
                                      .mean_span = cJSON_GetObjectItem(kind, "mean_span")->valuedouble};
    int32_t n = numbers(kind, "noise", noise);
    assert_int_equal(n, MOST - 1);
    assert_int_equal(numbers(kind, "spans", spans), n);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(span_noise(&s, i + 2, &parts), noise[i]);
        assert_int_equal(parts, spans[i]);
    }
}

static void check_pair(const cJSON *c, int32_t first)
{
    int32_t tokens[MOST], kept[MOST], lost[MOST], input[MOST], want[MOST];
    uint32_t target[MOST];
    const struct span_corruption s = {.first = first};
    memset(input, -1, sizeof input);
    memset(target, -1, sizeof target);
    numbers(c, "tokens", tokens);
    numbers(c, "kept", kept);
    span_write(&s, tokens, kept, lost, numbers(c, "lost", lost), input, target);
    int32_t n = numbers(c, "input", want);
    assert_memory_equal(input, want, (size_t)n * sizeof *want);
    assert_int_equal(input[n], -1);
    n = numbers(c, "target", want);
    assert_memory_equal(target, want, (size_t)n * sizeof *want);
    assert_int_equal((int32_t)target[n], -1);
}

static void test_reference(void **state)
{
    (void)state;
    struct err e = {0};
    char *text = file_read("tests/fixtures/a/spans/expected.json", 1 << 20, NULL, &e);
    if (text == NULL)
        fail_msg("%s", e.message);
    cJSON *o = cJSON_Parse(text);
    const cJSON *v, *cases = cJSON_GetObjectItem(o, "cases"), *counts = cJSON_GetObjectItem(o, "counts");
    assert_int_equal(cJSON_GetArraySize(cases), 40);
    assert_int_equal(cJSON_GetArraySize(counts), 4);
    cJSON_ArrayForEach(v, counts)
        check_counts(v);
    cJSON_ArrayForEach(v, cases)
        check_pair(v, cJSON_GetObjectItem(o, "first")->valueint);
    cJSON_Delete(o);
    free(text);
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

/* Words enough for tokenizers of several sizes. */
static char *write_words(void)
{
    struct str out = {0};
    for (uint64_t i = 0; i < 120; i++) {
        str_printf(&out, "{\"_id\":\"w%d\",\"text\":\"", (int)i);
        for (uint64_t k = 0; k < 40; k++) {
            for (uint64_t x = mix64(mix64(i, k) % 400, 5) % 100000000; x > 0; x /= 20)
                str_printf(&out, "%c", (int)('a' + x % 20));
            str_puts(&out, " ");
        }
        str_puts(&out, "\"}\n");
    }
    char *data = in_folder("words"), *path = path_join(data, "corpus.jsonl");
    assert_int_equal(file_mkdirs(data, NULL), 0);
    assert_int_equal(file_write(path, out.data, out.size, NULL), 0);
    free(path);
    str_free(&out);
    return data;
}

static struct pretrain_options options(const char *out)
{
    return (struct pretrain_options){.data = folder, .out = out, .shape = {32, 64, 8, 4, 1, 1}, .max_tokens = 48, .batch = 16, .epochs = 60, .lr = 1e-2, .validation_share = 0.1,
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

static int32_t rows_of(const char *bundle)
{
    struct err e = {0};
    struct t5_config c;
    struct bundle *b = bundle_open(bundle, &e);
    assert_non_null(b);
    assert_int_equal(model_file_config(b, "base", &c, &e), 0);
    bundle_close(b);
    return c.vocab;
}

/* A tokenizer that an earlier run left in the work folder is not taken by one that wants another. */
static void test_tokenizer_is_the_one_asked_for(void **state)
{
    (void)state;
    volatile sig_atomic_t stop = 1;
    const struct run asked = {.stop = &stop}, run = {0};
    char *out = in_folder("sized"), *work = in_folder("sized.work"), *data = write_words();
    struct pretrain_options o = options(out);
    struct err e = {0};
    o.data = data;
    o.steps = 3;
    o.vocab = 256;
    assert_int_equal(pretrain_run(&o, &asked, &e), -1);
    if (e.code != ERR_INTERRUPTED)
        fail_msg("%s", e.message);
    o.vocab = 300;
    assert_int_equal(pretrain_run(&o, &run, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    if (strstr(e.message, "tokens") == NULL)
        fail_msg("%s", e.message);
    o.vocab = 256;
    assert_int_equal(pretrain_run(&o, &run, &e), 0);
    assert_int_equal(rows_of(out), 384); /* 356, padded */
    assert_false(file_exists(work));
    o.vocab = 300;
    o.replace = true;
    assert_int_equal(pretrain_run(&o, &run, &e), 0);
    assert_int_equal(rows_of(out), 512); /* 400 */
    free(data);
    free(out);
    free(work);
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
    refuse(o, "max_tokens 3000: at most 1809");
    o.max_tokens = 3;
    refuse(o, "at least 4");
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

/* A T5 without rows for the sentinels, as an indexer's would be. */
static void test_base_without_sentinels(void **state)
{
    (void)state;
    char message[512], *from = in_folder("base"), *small = in_folder("small"), *out = in_folder("none");
    struct err e = {0};
    const struct backend *be = backend_open("cpu", 1, message, sizeof message);
    struct bundle *b = bundle_open(from, &e), *to = bundle_create(small, false, &e);
    assert_true(be != NULL && b != NULL && to != NULL);
    const struct t5_options shape = {.config = {.vocab = 120, .d_model = 8, .d_kv = 4, .d_ff = 8, .heads = 2, .encoder_layers = 1, .decoder_layers = 1,
                                                .buckets = 32, .max_distance = 128, .eps = 1e-6f, .scale_output = true}};
    struct t5 *m = t5_init(be, &shape, &e);
    size_t size;
    char *tokenizer = file_read(bundle_file(b, "tokenizer.model"), 0, &size, &e);
    t5_randomise(m, 1);
    assert_int_equal(bundle_begin(to, &e) || bundle_put(to, "tokenizer.model", tokenizer, size, &e), 0);
    if (model_file_write(to, "base", m, NULL, "{}", &e) || bundle_commit(to, &e))
        fail_msg("%s", e.message);
    struct pretrain_options o = options(out);
    o.base = small;
    refuse(o, "has 120 vocabulary rows");
    bundle_close(b);
    bundle_close(to);
    t5_free(m);
    free(tokenizer);
    free(from);
    free(small);
    free(out);
}

/* Windows of two and three tokens. */
static void test_shortest_windows(void **state)
{
    (void)state;
    char *out = in_folder("short");
    struct pretrain_options o = options(out);
    const struct run run = {0};
    struct err e = {0};
    o.max_tokens = 4;
    o.steps = 2;
    if (pretrain_run(&o, &run, &e) != 0)
        fail_msg("%s", e.message);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_pairs), cmocka_unit_test(test_masks_are_even),
                                       cmocka_unit_test(test_short_texts_have_many_masks), cmocka_unit_test(test_reference),
                                       cmocka_unit_test(test_learns), cmocka_unit_test(test_tokenizer_is_the_one_asked_for),
                                       cmocka_unit_test(test_shortest_windows), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_base_without_sentinels)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
