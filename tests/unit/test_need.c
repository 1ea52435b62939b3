/* test_need.c: the memory that is reckoned before loading covers what is then taken, and not much more; what does not fit is refused.
 *
 * The device is the cpu backend with a meter in its three allocating calls and a memory_free of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/learn/lmindexer.h"
#include "../../core/learn/seq2seq.h"
#include "../../core/learn/trainer.h"
#include "../../core/model/need.h"
#include "../../core/retrieve/beam.h"
#include "../../core/retrieve/generate.h"

static const struct backend *cpu;
static struct backend metered;
static size_t taken, capacity;

static void *meter_alloc(size_t bytes)
{
    taken += bytes;
    return cpu->alloc(bytes);
}

static struct act *meter_act_alloc(int64_t elements)
{
    taken += (size_t)elements * cpu->act_bytes;
    return cpu->act_alloc(elements);
}

static int meter_weight_open(struct weight *w, enum weight_use use)
{
    taken += (size_t)w->rows * (size_t)w->cols * cpu->act_bytes;
    return cpu->weight_open(w, use);
}

static size_t meter_free(size_t *total)
{
    *total = capacity;
    return capacity > taken ? capacity - taken : 0;
}

static struct t5_config shape(bool gated, bool untied)
{
    return (struct t5_config){.vocab = 500, .codes = 3 * 64, .d_model = 48, .d_kv = 12, .d_ff = 96, .heads = 4, .encoder_layers = 3,
                              .decoder_layers = 2, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .gated = gated, .untied = untied};
}

/* A need is never short, and at most a tenth and some blocks' ends too long. */
static void compare(const struct need *n)
{
    if (n->bytes < taken || (double)n->bytes > 1.1 * (double)taken + 65536)
        fail_msg("reckoned %zu bytes, taken %zu", n->bytes, taken);
}

static void serving_is_covered(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const struct t5_options o = {.config = shape(kind & 1, kind & 2)};
        const struct t5_limits l = {.encoder_tokens = 300, .rows = 16, .beam_rows = 512, .positions = 3};
        const struct code_layout layout = {.base = 500, .positions = 3, .codes = {64, 64, 64}};
        const struct beam_limits b = {.requests = 16, .width = 32};
        struct need n = {.be = &metered};
        struct err e = {0};
        taken = 0;
        need_model(&n, &o);
        need_work(&n, &o.config, &l);
        need_beam(&n, &o.config, 3, 16, 512);
        struct t5 *m = t5_init(&metered, &o, &e);
        assert_non_null(m);
        assert_int_equal(t5_size(m), t5_size_of(&o));
        struct t5_work *w = t5_work_init(m, &l, &e);
        struct beam *beam = beam_init(m, &layout, &b, &e);
        assert_true(w && beam);
        compare(&n);
        beam_free(beam);
        t5_work_free(w);
        t5_free(m);
    }
}

static void learning_is_covered(void **state)
{
    (void)state;
    for (int train = 0; train < 2; train++) {
        struct t5_extra extra[10 + LM_POSITIONS_MAX];
        struct t5_options o = {.config = shape(false, false), .train = train, .extra = extra};
        o.extra_count = lmindexer_extras(&o.config, 3, 64, extra);
        const struct lm_limits l = {.documents = 20, .rows = 40, .tokens = 1000, .text_tokens = 480, .positions = 3, .codes = 64,
                                    .train = train};
        struct need n = {.be = &metered};
        struct err e = {0};
        taken = 0;
        need_model(&n, &o);
        n.bytes += lm_work_bytes(&metered, &o.config, &l);
        struct t5 *m = t5_init(&metered, &o, &e);
        struct lm_work *w = m ? lm_work_init(m, &l, &e) : NULL;
        assert_non_null(w);
        compare(&n);
        lm_work_free(w);
        t5_free(m);
    }
}

static void writing_is_covered(void **state)
{
    (void)state;
    const struct generate_limits l = {.rows = 3, .tokens = 300, .samples = 15, .steps = 20};
    struct t5_options o = {.config = shape(false, true)};
    struct need n = {.be = &metered};
    struct err e = {0};
    o.config.codes = 0;
    taken = 0;
    need_model(&n, &o);
    generate_need(&n, &o.config, &l);
    struct t5 *m = t5_init(&metered, &o, &e);
    struct generate *g = m ? generate_init(m, &l, &e) : NULL;
    assert_non_null(g);
    compare(&n);
    generate_free(g);
    t5_free(m);
}

static int32_t draw_text(void *state, int32_t i, int32_t *tokens, uint32_t *codes)
{
    (void)state;
    tokens[0] = i + 2;
    codes[0] = tokens[1] = 1;
    return 2;
}

/* The pass that trains, and the one that measures while it stands. */
static void learning_texts_is_covered(void **state)
{
    (void)state;
    enum { TARGETS = 30, ROWS = 12, LONGEST = 100, PIECE = 2048 };
    const struct trainer_source source = {.longest = LONGEST, .text_targets = TARGETS};
    struct t5_options o = {.config = shape(true, false), .train = true};
    struct need n = {.be = &metered};
    struct err e = {0};
    double metric;
    o.config.codes = 0;
    taken = 0;
    need_model(&n, &o);
    trainer_need(&n, &o.config, TARGETS, ROWS, LONGEST);
    trainer_text_need(&n, &o.config, TARGETS, LONGEST);
    struct t5 *m = t5_init(&metered, &o, &e);
    assert_non_null(m);
    t5_randomise(m, 1);
    struct seq2seq *pass = seq2seq_init_text(m, TARGETS, ROWS, PIECE, &e);
    assert_non_null(pass);
    assert_int_equal(trainer_text_metric(m, &source, 11, draw_text, &metric, &e), 0);
    assert_true(metric > 0 && metric < 1);
    compare(&n);
    seq2seq_free(pass);
    t5_free(m);
}

static void what_does_not_fit_is_refused_with_both_figures(void **state)
{
    struct need n = {.be = &metered, .bytes = (size_t)3 << 30};
    struct err e = {0};
    (void)state;
    taken = (size_t)1 << 30;
    capacity = (size_t)4 << 30;
    assert_int_equal(need_check(&n, "the bundle", &e), 0);
    n.bytes++;
    assert_int_equal(need_check(&n, "the bundle", &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(e.message, "the bundle needs 3.00 GiB"));
    assert_non_null(strstr(e.message, "3.00 of its 4.00 GiB are free"));
    n.be = cpu; /* memory that is the machine's is not reckoned */
    assert_int_equal(need_check(&n, "the bundle", &e), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(serving_is_covered),
        cmocka_unit_test(learning_is_covered),
        cmocka_unit_test(writing_is_covered),
        cmocka_unit_test(learning_texts_is_covered),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_figures),
    };
    char message[512];
    cpu = backend_open("cpu", 2, message, sizeof message);
    assert_non_null(cpu);
    metered = *cpu;
    metered.alloc = meter_alloc;
    metered.act_alloc = meter_act_alloc;
    metered.weight_open = meter_weight_open;
    metered.memory_free = meter_free;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
