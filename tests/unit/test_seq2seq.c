/* test_seq2seq.c: text targets against PyTorch: the loss of a batch of texts and its gradient in every tensor, and the slope of the loss along it.
 *
 *   test_seq2seq [--device NAME]     default: cuda in an emulated build, else the cpu
 *
 * tests/fixtures/a/t5_v10 and t5_v11 hold decoder inputs, labels (some left out), the mean loss and all gradients as PyTorch computed them. A text
 * whose decoder inputs are those of the fixture is those inputs without the first 0, and EOS. Tolerances are the fixtures' own, of the largest
 * value of each tensor; where activations are bf16 they are tests/parity's, of the root of its summed squares. */
#include "../../core/base/mem.h"
#include "../../core/learn/seq2seq.h"
#include "../../core/model/safetensors.h"
#include "../../core/model/t5_load.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_kit.h"

enum { ROWS = 5, TARGETS = 160, TOKENS = 512 };

static const struct backend *be;

static bool narrow(void)
{
    return be->act_bytes != sizeof(float);
}

struct reference {
    struct t5 *model;
    struct safetensors *cases;
    struct code_batch batch;
    int32_t counted; /* labels */
};

static int32_t *ints(const struct reference *r, const char *name, int64_t *n)
{
    const struct safetensor *t = safetensors_find(r->cases, name);
    assert_non_null(t);
    int32_t *x = xcalloc((size_t)t->elements, sizeof *x);
    assert_int_equal(safetensors_ints(r->cases, t, x, NULL), 0);
    *n = t->elements;
    return x;
}

static float *floats(const struct reference *r, const char *name)
{
    const struct safetensor *t = safetensors_find(r->cases, name);
    float *x = t ? xcalloc((size_t)t->elements, sizeof *x) : NULL;
    assert_true(t == NULL || safetensors_floats(r->cases, t, x, NULL) == 0);
    return x;
}

static void read_batch(struct reference *r)
{
    int64_t n, rows, written;
    int32_t *tokens = ints(r, "enc.tokens", &n), *offsets = ints(r, "enc.offsets", &rows), *starts = ints(r, "dec.offsets", &rows);
    int32_t *inputs = ints(r, "dec.inputs", &written), *labels = ints(r, "dec.labels", &written);
    struct code_batch *b = &r->batch;
    assert_true(rows == ROWS + 1 && n <= TOKENS);
    code_batch_init(b, ROWS, TOKENS, TARGETS);
    b->count = ROWS;
    memcpy(b->tokens, tokens, (size_t)n * sizeof *tokens);
    memcpy(b->offsets, offsets, (ROWS + 1) * sizeof *offsets);
    for (int32_t i = 0; i < ROWS; i++) {
        int32_t length = starts[i + 1] - starts[i];
        assert_true(length <= TARGETS && inputs[starts[i]] == 0);
        for (int32_t t = 0; t < length; t++) {
            b->codes[i * TARGETS + t] = t + 1 < length ? (uint32_t)inputs[starts[i] + t + 1] : 1;
            b->labels[i * TARGETS + t] = labels[starts[i] + t];
            r->counted += labels[starts[i] + t] >= 0;
        }
        assert_int_equal(seq2seq_text_length(b->codes + i * TARGETS, TARGETS), length);
    }
    void *all[] = {tokens, offsets, starts, inputs, labels};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static struct reference open_reference(const char *name)
{
    struct err e = {0};
    char *folder = xprintf("tests/fixtures/a/%s", name), *cases = xprintf("%s/cases.safetensors", folder);
    struct t5_source *s = t5_source_folder(folder, 0, &e);
    struct reference r = {.cases = safetensors_open(cases, &e)};
    r.model = s ? t5_load(be, s, &(struct t5_load_options){.train = true}, &e) : NULL;
    if (r.model == NULL || r.cases == NULL)
        fail_msg("%s", e.message);
    read_batch(&r);
    t5_source_close(s);
    free(folder);
    free(cases);
    return r;
}

static void close_reference(struct reference *r)
{
    code_batch_free(&r->batch);
    safetensors_close(r->cases);
    t5_free(r->model);
}

static struct seq2seq *open_pass(struct t5 *m)
{
    struct err e = {0};
    struct seq2seq *s = seq2seq_init_text(m, TARGETS, ROWS, TOKENS, &e);
    if (s == NULL)
        fail_msg("%s", e.message);
    return s;
}

static float *read_block(const struct reference *r, const float *block)
{
    size_t bytes = (size_t)t5_size(r->model) * sizeof(float);
    float *x = xmalloc(bytes);
    be->read(x, block, bytes);
    return x;
}

/* Distance from the reference, of its size: largest values, or in bf16 roots of summed squares. Without a reference, of nothing. */
static double distance(const float *x, const float *want, int64_t n)
{
    double most = 1e-2, worst = 0, squares = 0, all = 1e-4;
    for (int64_t k = 0; k < n; k++) {
        double w = want ? want[k] : 0, d = x[k] - w;
        most = fmax(most, fabs(w));
        worst = fmax(worst, fabs(d));
        squares += d * d;
        all += w * w;
    }
    return narrow() ? sqrt(squares / all) : worst / most;
}

/* Tensors that the reference has no gradient of have none. */
static void compare_gradients(const struct reference *r)
{
    float *grad = read_block(r, t5_grad(r->model));
    for (int32_t i = 0; i < t5_tensor_count(r->model); i++) {
        const struct t5_tensor *t = t5_tensor_at(r->model, i);
        char *name = xprintf("grad.%s", t->name);
        float *want = floats(r, name);
        double off = distance(grad + t->offset, want, (int64_t)t->rows * t->cols);
        if (!(off <= (narrow() ? 20 * 0x1p-8 : 5e-5)))
            fail_msg("%s: off by %g of its size", name, off);
        free(want);
        free(name);
    }
    free(grad);
}

static void compare(const char *name)
{
    struct reference r = open_reference(name);
    struct seq2seq *pass = open_pass(r.model);
    float *loss = floats(&r, "loss");
    const float weight = 1.0f / (float)r.counted;
    const double tolerance = (narrow() ? 2 * 0x1p-8 : 2e-6) * *loss;
    assert_float_equal(seq2seq_train(pass, &r.batch, weight, 0), *loss, tolerance);
    compare_gradients(&r);
    assert_float_equal(seq2seq_loss(pass, &r.batch, weight), *loss, tolerance);
    free(loss);
    seq2seq_free(pass);
    close_reference(&r);
}

static void test_is_pytorch(void **state)
{
    (void)state;
    compare("t5_v10");
    compare("t5_v11");
}

/* Loss at the weights moved by `far` along the gradient, brought to length one. */
static double loss_along(const struct reference *r, struct seq2seq *pass, const float *start, const float *grad, double far)
{
    size_t n = (size_t)t5_size(r->model);
    float *w = xmalloc(n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(start[i] + far * grad[i]);
    be->write(t5_master(r->model), w, n * sizeof *w);
    t5_refresh(r->model);
    free(w);
    return seq2seq_loss(pass, &r->batch, 1.0f / (float)r->counted);
}

static void test_slope_is_the_gradients_length(void **state)
{
    (void)state;
    if (narrow())
        skip(); /* the step drowns in the rounding of weights */
    struct reference r = open_reference("t5_v11");
    struct seq2seq *pass = open_pass(r.model);
    seq2seq_train(pass, &r.batch, 1.0f / (float)r.counted, 0);
    float *start = read_block(&r, t5_master(r.model)), *grad = read_block(&r, t5_grad(r.model));
    double squares = 0, far = 1e-2;
    for (int64_t i = 0; i < t5_size(r.model); i++)
        squares += (double)grad[i] * grad[i];
    double length = sqrt(squares), ahead = loss_along(&r, pass, start, grad, far / length);
    assert_float_equal((ahead - loss_along(&r, pass, start, grad, -far / length)) / (2 * far), length, 2e-3 * length);
    free(start);
    free(grad);
    seq2seq_free(pass);
    close_reference(&r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_is_pytorch), cmocka_unit_test(test_slope_is_the_gradients_length)};
    be = device_kit_open(argc, argv).device;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
