/* test_device_learn.c: a device learns as the cpu does: the same stages of LMIndexer on both, from the same weights, batch by batch.
 *
 *   test_device_learn [--device NAME] [--print]     default: cuda in an emulated build, else the cpu against itself
 *
 * Thirty steps of each stage on a small corpus of topics, everything drawn that training draws (hint masks, targets, dropout: all by hash, so
 * both see the same), AdamW after each. The losses of each step stand side by side. With f32 activations they may differ by 1e-5 of the
 * loss: sums in another order, 1e-7 each, carried on through thirty steps. With bf16, unit u = 2^-8:
 *
 *   2 u L_k            rounding of one forward pass: a loss is a mean over tokens (parity's "loss")
 *   20 u D_k           what was learned until then is off by what gradients are off, 20 u (parity's "grad"); D_k is the largest distance of
 *                      the cpu's loss from its first one up to step k
 *
 * The warm-up stage trains the reconstructor alone, the continuous one T5, hints and contrast, the joint one codes, codebooks and commitment; the
 * last two also with each batch cut into passes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/learn/lmindexer.h"
#include "device_kit.h"

enum { STEPS = 30, DOCUMENTS = 8, CORPUS = 40, ROWS = 2 * DOCUMENTS, LONGEST = 14, VOCAB = 60, TOPICS = 5, CODES = 6, POSITIONS = 2 };

static const struct backend *reference, *device;
static bool print;

struct learner {
    struct t5 *model;
    struct lm_work *work;
};

struct drawn {
    int32_t tokens[ROWS * LONGEST], offsets[ROWS + 1], prefix[ROWS], second[DOCUMENTS], negatives[DOCUMENTS * 2], negative_offsets[DOCUMENTS + 1];
    uint64_t keys[DOCUMENTS];
};

/* pass: documents of one pass of a batch. */
static struct learner learner_open(const struct backend *be, int32_t pass)
{
    const struct t5_config c = {.vocab = VOCAB, .codes = POSITIONS * CODES, .d_model = 32, .d_kv = 8, .d_ff = 48, .heads = 4,
                                .encoder_layers = 2, .decoder_layers = 1, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .dropout = 0.1f,
                                .scale_output = true};
    struct t5_extra extra[9 + LM_POSITIONS_MAX];
    const struct t5_options o = {.config = c, .train = true, .extra = extra, .extra_count = lmindexer_extras(&c, POSITIONS, CODES, extra)};
    const struct lm_limits l = {.documents = pass, .rows = 2 * pass, .batch = DOCUMENTS, .tokens = 2 * pass * LONGEST, .text_tokens = pass * LONGEST,
                                .positions = POSITIONS, .codes = CODES, .train = true};
    struct err e = {0};
    struct learner s = {.model = t5_init(be, &o, &e)};
    assert_non_null(s.model);
    t5_randomise(s.model, 11);
    s.work = lm_work_init(s.model, &l, &e);
    assert_non_null(s.work);
    return s;
}

static void learner_close(struct learner *s)
{
    lm_work_free(s->work);
    t5_free(s->model);
}

/* A document's words come from its topic, some from anywhere. */
static int32_t write_document(int32_t document, int32_t *tokens)
{
    int32_t n = 3 + (int32_t)(mix64(1, (uint64_t)document) % (LONGEST - 3)), words = (VOCAB - 2) / TOPICS;
    for (int32_t i = 0; i < n - 1; i++) {
        uint64_t draw = mix64(2, (uint64_t)(document * LONGEST + i));
        tokens[i] = draw % 5 ? 2 + document % TOPICS * words + (int32_t)(draw / 5 % (uint64_t)words) : 2 + (int32_t)(draw / 5 % (VOCAB - 2));
    }
    tokens[n - 1] = 1;
    return n;
}

/* The documents of a step and their second views; one document in eight has neither view nor negatives. */
static void fill_rows(struct drawn *r, int64_t step)
{
    for (int32_t i = 0; i < ROWS; i++) {
        int32_t document = (int32_t)((step * DOCUMENTS + i % DOCUMENTS) * 7 % CORPUS);
        r->offsets[i + 1] = r->offsets[i] + write_document(document, r->tokens + r->offsets[i]);
        r->prefix[i] = document % CODES;
        if (i < DOCUMENTS)
            r->keys[i] = (uint64_t)document;
    }
    for (int32_t i = 0; i < DOCUMENTS; i++) {
        int32_t at = r->negative_offsets[i], n = i == DOCUMENTS - 1 ? 0 : 2;
        r->second[i] = n ? DOCUMENTS + i : -1;
        for (int32_t k = 0; k < n; k++)
            r->negatives[at + k] = (i + 1 + 2 * k) % DOCUMENTS;
        r->negative_offsets[i + 1] = at + n;
    }
}

static struct lm_losses train_step(struct learner *s, enum lm_stage stage, int64_t step)
{
    struct drawn r = {0};
    struct lm_losses losses;
    fill_rows(&r, step);
    const struct lm_batch b = {.stage = stage, .position = stage == LM_JOINT ? 1 : 0, .documents = DOCUMENTS,
                               .rows = {stage == LM_WARMUP ? DOCUMENTS : ROWS - 1, r.tokens, r.offsets}, .prefix = r.prefix, .keys = r.keys,
                               .hint_ratio = 0.3, .second_view = stage == LM_WARMUP ? NULL : r.second, .negatives = r.negatives,
                               .negative_offsets = r.negative_offsets, .target_share = 0.8, .seed = 100 + (uint64_t)step, .dropout = true,
                               .contrastive_temperature = 2, .weight_recon = 1, .weight_contrastive = 0.5, .weight_commitment = 0.5};
    const struct t5_adamw adam = {.lr = t5_schedule(4e-3f, step + 1, STEPS, 0.1), .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .clip = 1,
                                  .step = step + 1};
    lmindexer_step(s->model, s->work, &b, &losses);
    t5_adamw(s->model, &adam, 0, t5_size(s->model));
    return losses;
}

static double bound_of(double loss, double learned)
{
    return device->act_bytes == sizeof(float) ? 1e-5 * fabs(loss) : 0x1p-8 * (2 * fabs(loss) + 20 * learned);
}

/* Both learn one stage; the loss of every step within its bound, and falling. */
static void check_stage(enum lm_stage stage, int32_t pass, const char *name)
{
    struct learner a = learner_open(reference, pass), b = learner_open(device, pass);
    double first = 0, learned = 0, worst = 0, worst_error = 0, ends[2] = {0};
    for (int64_t k = 0; k < STEPS; k++) {
        struct lm_losses want = train_step(&a, stage, k), got = train_step(&b, stage, k);
        first = k ? first : want.total;
        learned = fmax(learned, fabs(first - want.total));
        double error = fabs(got.total - want.total), bound = bound_of(want.total, learned);
        if (print)
            printf("%-10s step %2d  cpu %.6f  device %.6f  off %+.2e  bound %.2e  (recon %+.1e, contrastive %+.1e, commitment %+.1e)\n", name,
                   (int)k + 1, want.total, got.total, got.total - want.total, bound, got.recon - want.recon,
                   got.contrastive - want.contrastive, got.commitment - want.commitment);
        if (!(error <= bound))
            fail_msg("%s, step %d: loss %.9g on the device, %.9g on the cpu; off by %.3g, allowed %.3g", name, (int)k + 1, got.total,
                     want.total, error, bound);
        worst = fmax(worst, error / bound);
        worst_error = fmax(worst_error, error / fabs(want.total));
        if (k < 5 || k >= STEPS - 5)
            ends[k >= 5] += got.total / 5;
    }
    printf("%s: loss %.4f -> %.4f on the device (means of five steps); worst distance from the cpu's %.2e of the loss, %.2f of the bound\n", name,
           ends[0], ends[1], worst_error, worst);
    assert_true(ends[1] < ends[0]);
    learner_close(&a);
    learner_close(&b);
}

static void test_warmup(void **state)
{
    (void)state;
    check_stage(LM_WARMUP, DOCUMENTS, "warm-up");
}

static void test_continuous(void **state)
{
    (void)state;
    check_stage(LM_CONTINUOUS, DOCUMENTS, "continuous");
}

static void test_joint(void **state)
{
    (void)state;
    check_stage(LM_JOINT, DOCUMENTS, "joint");
}

/* Batches in passes of three documents: the contrastive loss's gradient lies beside them on the device. */
static void test_passes(void **state)
{
    (void)state;
    check_stage(LM_CONTINUOUS, 3, "continuous, in passes");
    check_stage(LM_JOINT, 3, "joint, in passes");
}

int main(int argc, char **argv)
{
    const struct device_kit kit = device_kit_open(argc, argv);
    reference = kit.reference;
    device = kit.device;
    print = kit.print;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_warmup), cmocka_unit_test(test_continuous), cmocka_unit_test(test_joint),
                                       cmocka_unit_test(test_passes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
