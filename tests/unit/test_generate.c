/* test_generate.c: text from a T5: greedy texts are transformers', draws depend on seed, key, sample and step alone, and a top-k draw has the shares
 * that softmax gives.
 *
 *   test_generate [--device NAME]     default: cuda in an emulated build, else the cpu
 *
 * tests/fixtures/a/generate/expected.json was made by tests/reference/generate.py from the models t5_v10 and t5_v11; its rows are written in one
 * batch, alone, and among others in another order. Tokens that are no text are never written, a wish to stop ends a run at once, and a model whose
 * weights are no numbers is named. Where activations are bf16, near ties fall either way: there the cpu judges each token that a device drew by the
 * logits of the text before it. A logit's rounding is that of tests/parity, 4 u of their root mean square with u = 2^-8; three of that are allowed on
 * both sides of a comparison (worst seen on the emulated device: a fifth; rows mixed up: seven times as much). */
#include "../../core/base/file.h"
#include "../../core/base/mem.h"
#include "../../core/model/t5_load.h"
#include "../../core/retrieve/generate.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"

enum { ROWS = 8, TOKENS = 1024, STEPS = 20, SAMPLES = 5, DRAWS = 1000 };

static const struct backend *be, *cpu;

static struct t5 *load_on(const struct backend *on, const char *name)
{
    struct err e = {0};
    char *folder = xprintf("tests/fixtures/a/%s", name);
    struct t5_source *s = t5_source_folder(folder, 0, &e);
    struct t5 *m = s ? t5_load(on, s, NULL, &e) : NULL;
    if (m == NULL)
        fail_msg("%s", e.message);
    t5_source_close(s);
    free(folder);
    return m;
}

static struct t5 *load(const char *name)
{
    return load_on(be, name);
}

static struct generate *open_generate(struct t5 *m, int32_t samples, int32_t steps)
{
    struct err e = {0};
    struct generate *g = generate_init(m, &(struct generate_limits){.rows = ROWS, .tokens = TOKENS, .samples = samples, .steps = steps}, &e);
    if (g == NULL)
        fail_msg("%s", e.message);
    return g;
}

static const struct generate_options greedy = {.samples = 1, .steps = STEPS, .top_k = 1, .temperature = 1, .seed = 1};

struct batch {
    int32_t tokens[TOKENS], offsets[ROWS + 1], count;
    uint64_t key[ROWS];
};

static void add_row(struct batch *b, const cJSON *row, uint64_t key)
{
    const cJSON *token;
    int32_t at = b->offsets[b->count];
    cJSON_ArrayForEach(token, row) b->tokens[at++] = token->valueint;
    b->key[b->count] = key;
    b->offsets[++b->count] = at;
}

static void run(struct generate *g, const struct batch *b, const struct generate_options *o)
{
    struct err e = {0};
    if (generate_run(g, &(struct t5_batch){b->count, b->tokens, b->offsets}, b->key, o, &e) != 0)
        fail_msg("%s", e.message);
}

static void assert_text(const struct generate *g, int32_t row, const cJSON *want)
{
    int32_t count;
    const int32_t *text = generate_tokens(g, row, 0, &count);
    assert_int_equal(count, cJSON_GetArraySize(want));
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(text[i], cJSON_GetArrayItem(want, i)->valueint);
}

/* ---- judged by the cpu ---- */

/* Logits of every token of a text behind row `row` of b: [count, vocabulary]. */
static float *judge(struct t5 *m, const struct batch *b, int32_t row, const int32_t *text, int32_t count)
{
    struct err e = {0};
    int32_t vocab = t5_config_of(m)->vocab, input[STEPS] = {0}, first = b->offsets[row], n = b->offsets[row + 1] - first;
    const int32_t encoder[2] = {0, n}, decoder[2] = {0, count};
    struct t5_work *w = t5_work_init(m, &(struct t5_limits){.encoder_tokens = n, .decoder_tokens = count, .rows = 1}, &e);
    struct act *y = cpu->act_alloc((int64_t)count * vocab);
    float *logits = xcalloc((size_t)count * (size_t)vocab, sizeof *logits);
    assert_true(w && y);
    memcpy(input + 1, text, (size_t)(count - 1) * sizeof *text);
    t5_encode(m, w, &(struct t5_batch){1, b->tokens + first, encoder}, 0);
    t5_decode(m, w, &(struct t5_batch){1, input, decoder}, 0);
    cpu->linear(y, t5_decoded(w), t5_head(m), count, t5_head_scale(m), 0);
    cpu->download(logits, y, (int64_t)count * vocab);
    cpu->release(y);
    t5_work_free(w);
    return logits;
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* How far a token's logit lies below the top_k-th one, of what rounding allows: at most 1. */
static double shortfall(const float *logits, int32_t vocab, int32_t token, int32_t top_k)
{
    float *sorted = xcalloc((size_t)vocab, sizeof *sorted);
    double squares = 0;
    memcpy(sorted, logits, (size_t)vocab * sizeof *sorted);
    qsort(sorted, (size_t)vocab, sizeof *sorted, descending);
    for (int32_t v = 0; v < vocab; v++)
        squares += (double)logits[v] * logits[v];
    double off = be->act_bytes == sizeof(float) ? 1e-5 : 4 * 0x1p-8, least = sorted[top_k - 1];
    free(sorted);
    return (least - logits[token]) / (2 * 3 * off * sqrt(squares / vocab));
}

/* All that a device writes, EOS too, could have been drawn by the cpu. */
static void judge_all(const char *name, const struct batch *b, const struct generate *g, const struct generate_options *o)
{
    struct t5 *m = load_on(cpu, name);
    int32_t vocab = t5_config_of(m)->vocab, count;
    for (int32_t row = 0; row < b->count; row++)
        for (int32_t s = 0; s < o->samples; s++) {
            const int32_t *text = generate_tokens(g, row, s, &count);
            int32_t judged = count < o->steps ? count + 1 : count;
            float *logits = judge(m, b, row, text, judged);
            for (int32_t t = 0; t < judged; t++) {
                double far = shortfall(logits + (int64_t)t * vocab, vocab, t < count ? text[t] : 1, o->top_k);
                if (!(far <= 1))
                    fail_msg("%s, row %d, sample %d, token %d: %.3g of what rounding allows below the %d best", name, row, s, t, far, o->top_k);
            }
            free(logits);
        }
    t5_free(m);
}

static void judged(const char *name, const cJSON *rows, int32_t top_k)
{
    const struct generate_options o = {.samples = top_k > 1 ? SAMPLES : 1, .steps = STEPS, .top_k = top_k, .temperature = 1, .seed = 8};
    struct t5 *m = load(name);
    struct generate *g = open_generate(m, SAMPLES, STEPS);
    struct batch all = {0};
    for (int32_t i = 0; i < ROWS; i++)
        add_row(&all, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "input"), (uint64_t)i);
    run(g, &all, &o);
    judge_all(name, &all, g, &o);
    generate_free(g);
    t5_free(m);
}

/* ---- beside transformers ---- */

static void greedy_of(const char *name, const cJSON *rows)
{
    if (be->act_bytes != sizeof(float)) {
        judged(name, rows, 1);
        return;
    }
    struct t5 *m = load(name);
    struct generate *g = open_generate(m, 1, STEPS);
    struct batch all = {0};
    assert_int_equal(cJSON_GetArraySize(rows), ROWS);
    for (int32_t i = 0; i < ROWS; i++)
        add_row(&all, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "input"), (uint64_t)i);
    run(g, &all, &greedy);
    for (int32_t i = 0; i < ROWS; i++)
        assert_text(g, i, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "output"));
    for (int32_t i = 0; i < ROWS; i++) {
        struct batch one = {0};
        add_row(&one, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "input"), 99);
        run(g, &one, &greedy);
        assert_text(g, 0, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "output"));
    }
    generate_free(g);
    t5_free(m);
}

static cJSON *expected(void)
{
    struct err e = {0};
    char *text = file_read("tests/fixtures/a/generate/expected.json", 0, NULL, &e);
    cJSON *o = text ? cJSON_Parse(text) : NULL;
    if (o == NULL)
        fail_msg("expected.json: %s", e.message);
    free(text);
    return o;
}

static const cJSON *rows_of(const cJSON *expect, const char *name)
{
    return cJSON_GetObjectItem(cJSON_GetObjectItem(expect, name), "rows");
}

static void test_greedy_is_transformers(void **state)
{
    (void)state;
    cJSON *o = expected();
    greedy_of("t5_v10", rows_of(o, "t5_v10"));
    greedy_of("t5_v11", rows_of(o, "t5_v11"));
    cJSON_Delete(o);
}

static void test_drawn_tokens_are_among_the_best(void **state)
{
    (void)state;
    cJSON *o = expected();
    judged("t5_v10", rows_of(o, "t5_v10"), 4);
    judged("t5_v11", rows_of(o, "t5_v11"), 4);
    cJSON_Delete(o);
}

struct drawn { /* what one run wrote */
    int32_t text[ROWS][SAMPLES][STEPS], length[ROWS][SAMPLES];
};

static struct drawn *draw(struct generate *g, const struct batch *b, const struct generate_options *o)
{
    struct drawn *d = xcalloc(1, sizeof *d);
    run(g, b, o);
    for (int32_t i = 0; i < b->count; i++)
        for (int32_t s = 0; s < o->samples; s++) {
            const int32_t *text = generate_tokens(g, i, s, &d->length[i][s]);
            memcpy(d->text[i][s], text, (size_t)d->length[i][s] * sizeof *text);
        }
    return d;
}

static void assert_ends_and_varies(const struct drawn *d)
{
    int ended = 0, distinct = 0;
    for (int32_t i = 0; i < ROWS; i++)
        for (int32_t s = 0; s < SAMPLES; s++) {
            ended += d->length[i][s] < STEPS;
            distinct += s > 0 && memcmp(d->text[i][s], d->text[i][0], sizeof d->text[i][0]) != 0;
        }
    assert_true(ended > 0 && ended < ROWS * SAMPLES); /* rows left the batch while others went on */
    assert_int_equal(distinct, ROWS * (SAMPLES - 1));
}

/* The same draws whatever stands beside a row and however many samples it has; other ones for another seed, key or sample. */
static void test_draws_depend_on_their_own(void **state)
{
    (void)state;
    struct generate_options o = {.samples = SAMPLES, .steps = STEPS, .top_k = 10, .temperature = 1, .seed = 3}, few = o, seeded = o;
    cJSON *expect = expected();
    const cJSON *rows = rows_of(expect, "t5_v11");
    struct t5 *m = load("t5_v11");
    struct generate *g = open_generate(m, SAMPLES, STEPS);
    struct batch forth = {0}, back = {0}, keyed;
    few.samples = 2;
    seeded.seed = 4;
    for (int32_t i = 0; i < ROWS; i++)
        add_row(&forth, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "input"), (uint64_t)i + 100);
    for (int32_t i = ROWS - 2; i >= 0; i -= 2)
        add_row(&back, cJSON_GetObjectItem(cJSON_GetArrayItem(rows, i), "input"), (uint64_t)i + 100);
    keyed = forth;
    keyed.key[0] = 7;
    struct drawn *all = draw(g, &forth, &o), *some = draw(g, &back, &few), *other[] = {draw(g, &forth, &seeded), draw(g, &keyed, &o)};
    assert_ends_and_varies(all);
    for (int32_t i = 0; i < back.count; i++)
        for (int32_t s = 0; s < 2; s++) {
            assert_int_equal(some->length[i][s], all->length[ROWS - 2 - 2 * i][s]);
            assert_memory_equal(some->text[i][s], all->text[ROWS - 2 - 2 * i][s], sizeof some->text[i][s]);
        }
    for (int k = 0; k < 2; k++)
        assert_memory_not_equal(other[k]->text[0], all->text[0], sizeof all->text[0]);
    assert_memory_equal(other[1]->text[1], all->text[1], sizeof all->text[1]);
    free(all);
    free(some);
    free(other[0]);
    free(other[1]);
    generate_free(g);
    t5_free(m);
    cJSON_Delete(expect);
}

static void logits_of(struct t5 *m, const struct batch *b, float *logits)
{
    struct err e = {0};
    int32_t vocab = t5_config_of(m)->vocab, start = 0, one[2] = {0, 1}, n = b->offsets[1];
    struct t5_work *w = t5_work_init(m, &(struct t5_limits){.encoder_tokens = n, .decoder_tokens = 1, .rows = 1}, &e);
    struct act *y = be->act_alloc(vocab);
    assert_true(w && y);
    t5_encode(m, w, &(struct t5_batch){1, b->tokens, b->offsets}, 0);
    t5_decode(m, w, &(struct t5_batch){1, &start, one}, 0);
    be->linear(y, t5_decoded(w), t5_head(m), 1, t5_head_scale(m), 0);
    be->download(logits, y, vocab);
    be->release(y);
    t5_work_free(w);
}

/* First tokens against softmax over the three likeliest at temperature 2: within five standard deviations, and no other token. */
static void assert_shares(float *logits, int32_t vocab, const struct generate_options *o, const int32_t *hits)
{
    for (int32_t i = 0; i < o->never_count; i++)
        logits[o->never[i]] = -1e30f;
    double sum = 0, p[3];
    int32_t best[3], drawn = 0;
    for (int k = 0; k < 3; k++) {
        best[k] = 0;
        for (int32_t v = 0; v < vocab; v++)
            if (logits[v] > logits[best[k]])
                best[k] = v;
        sum += p[k] = exp(logits[best[k]] / 2);
        logits[best[k]] = -1e30f;
    }
    for (int k = 0; k < 3; k++) {
        double share = p[k] / sum;
        assert_true(hits[best[k]] > 0 && fabs(hits[best[k]] - DRAWS * share) < 5 * sqrt(DRAWS * share * (1 - share)));
        drawn += hits[best[k]];
    }
    assert_int_equal(drawn, DRAWS);
}

/* Without the tokens in never, of which the likeliest are some. */
static void check_shares(const int32_t *never, int32_t count)
{
    const struct generate_options o = {.samples = DRAWS, .steps = 1, .top_k = 3, .never = never, .never_count = count, .temperature = 2, .seed = 5};
    cJSON *expect = expected();
    struct t5 *m = load("t5_v11");
    struct generate *g = open_generate(m, DRAWS, 1);
    int32_t vocab = t5_config_of(m)->vocab;
    float *logits = xcalloc((size_t)vocab, sizeof *logits);
    int32_t *hits = xcalloc((size_t)vocab, sizeof *hits);
    struct batch b = {0};
    add_row(&b, cJSON_GetObjectItem(cJSON_GetArrayItem(rows_of(expect, "t5_v11"), 3), "input"), 7);
    logits_of(m, &b, logits);
    run(g, &b, &o);
    for (int32_t s = 0; s < DRAWS; s++) {
        int32_t written;
        const int32_t *text = generate_tokens(g, 0, s, &written);
        hits[written ? text[0] : 1]++;
    }
    assert_shares(logits, vocab, &o, hits);
    free(logits);
    free(hits);
    generate_free(g);
    t5_free(m);
    cJSON_Delete(expect);
}

static void test_shares_of_a_draw(void **state)
{
    int32_t never[200], count = 0;
    (void)state;
    check_shares(NULL, 0);
    for (int32_t i = 0; i < 160; i++)
        if (i == 0 || i == 2 || i >= 40)
            never[count++] = i;
    check_shares(never, count);
}

/* As many texts, each to its end, from fewer tokens than top_k asks for: EOS and one piece. */
static void test_never_leaves_what_is_left(void **state)
{
    int32_t never[200], count = 0, length, pieces = 0;
    (void)state;
    struct t5 *m = load("t5_v11");
    for (int32_t i = 0; i < t5_config_of(m)->vocab; i++)
        if (i != 1 && i != 7)
            never[count++] = i;
    const struct generate_options o = {.samples = SAMPLES, .steps = STEPS, .top_k = GENERATE_TOP_MOST, .never = never, .never_count = count,
                                       .temperature = 1e6, .seed = 5};
    struct generate *g = open_generate(m, SAMPLES, STEPS);
    struct batch b = {.tokens = {5, 6, 1}, .offsets = {0, 3}, .count = 1};
    run(g, &b, &o);
    for (int32_t s = 0; s < SAMPLES; s++) {
        const int32_t *text = generate_tokens(g, 0, s, &length);
        for (int32_t i = 0; i < length; i++, pieces++)
            assert_int_equal(text[i], 7);
    }
    assert_true(pieces > 0 && pieces < SAMPLES * STEPS);
    generate_free(g);
    t5_free(m);
}

static void test_stops(void **state)
{
    (void)state;
    volatile sig_atomic_t stop = 1;
    const struct run asked = {.stop = &stop};
    struct generate_options o = greedy;
    struct err e = {0};
    struct t5 *m = load("t5_v10");
    struct generate *g = open_generate(m, 1, STEPS);
    const struct batch b = {.tokens = {5, 6, 1}, .offsets = {0, 3}, .count = 1};
    o.run = &asked;
    assert_int_equal(generate_run(g, &(struct t5_batch){1, b.tokens, b.offsets}, b.key, &o, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    stop = 0;
    run(g, &b, &o);
    generate_free(g);
    t5_free(m);
}

static void test_weights_that_are_no_numbers(void **state)
{
    (void)state;
    const float bad[2] = {NAN, INFINITY};
    const struct batch b = {.tokens = {5, 6, 1}, .offsets = {0, 3}, .count = 1};
    for (int i = 0; i < 2; i++) {
        struct err e = {0};
        struct t5 *m = load("t5_v10");
        be->write(t5_master(m) + t5_tensor_find(m, "decoder.final_layer_norm.weight")->offset, &bad[i], sizeof bad[i]);
        t5_refresh(m);
        struct generate *g = open_generate(m, 1, STEPS);
        assert_int_equal(generate_run(g, &(struct t5_batch){1, b.tokens, b.offsets}, b.key, &greedy, &e), -1);
        assert_int_equal(e.code, ERR_DATA);
        generate_free(g);
        t5_free(m);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_greedy_is_transformers), cmocka_unit_test(test_draws_depend_on_their_own),
                                       cmocka_unit_test(test_shares_of_a_draw), cmocka_unit_test(test_never_leaves_what_is_left),
                                       cmocka_unit_test(test_stops), cmocka_unit_test(test_weights_that_are_no_numbers),
                                       cmocka_unit_test(test_drawn_tokens_are_among_the_best)};
    const struct device_kit kit = device_kit_open(argc, argv);
    be = kit.device;
    cpu = kit.reference;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
