/* test_kernels.c: conformance of every backend: op x shapes against a plain double reference, forward, and backward by finite differences.
 *
 * The table is kernel_ops.h, the reference ref_ops.h, one run kernel_job.h; beam_step has a naive twin of its own here, as its answer is a
 * list with a rule for ties. Tolerance: 1e-5 of the largest element. `test_kernels --perf` measures instead of testing (kernel_perf.h),
 * `--tune` prints the measurements behind kernels/cpu/gemm_table.h. */
#include "kernel_ops.h"
#include "kernel_beam.h"
#include "../../kernels/cpu/cpu.h"
#include "kernel_perf.h"

static const struct backend *backend;

static void run_shape(const struct op *op, const int32_t *shape)
{
    struct job j;
    job_open(&j, backend, op, shape);
    op->forward(&j);
    op->reference(&j);
    check_outputs(&j, 1e-5);
    if (op->backward)
        op->backward(&j);
    for (int i = 0; (op->backward || op->loss) && op->in[i]; i++)
        check_gradient(&j, i, 1e-5);
    if (j.weight.master)
        j.be->weight_close(&j.weight);
    job_close(&j);
}

static void run_op(void **state)
{
    const struct op *op = *state;
    static const int32_t none[DIMS];
    for (int i = 0; memcmp(op->shapes[i], none, sizeof none) != 0; i++)
        run_shape(op, op->shapes[i]);
}

/* Same inputs, same bits; and rows of a batch do not see each other. */
static void same_bits(void **state)
{
    (void)state;
    enum { N = 70, COLS = 96, ROWS = 200 };
    static float x[N * COLS], y[2][N * ROWS];
    struct weight w = {ROWS, COLS, backend->alloc(ROWS * COLS * sizeof(float)), NULL, NULL};
    struct act *in = backend->act_alloc(N * COLS), *out = backend->act_alloc(N * ROWS);
    for (int i = 0; i < ROWS * COLS; i++)
        w.master[i] = sinf((float)i);
    for (int i = 0; i < N * COLS; i++)
        x[i] = cosf((float)(i % COLS)); /* all rows equal */
    backend->upload(in, x, N * COLS);
    assert_int_equal(backend->weight_open(&w, WEIGHT_INFER), 0);
    for (int n = 1; n <= N; n++) {
        backend->linear(out, in, &w, n, 1.0f, 0);
        backend->download(y[n > 1], out, (int64_t)n * ROWS);
        for (int i = 0; i < n; i++)
            assert_memory_equal(y[n > 1] + i * ROWS, y[0], ROWS * sizeof(float));
    }
    backend->weight_close(&w);
    backend->release(w.master);
    backend->release(in);
    backend->release(out);
}

static void unknown_backend(void **state)
{
    char message[128] = "";
    (void)state;
    assert_null(backend_open("abacus", 0, message, sizeof message));
    assert_non_null(strstr(message, "abacus"));
}

static void buckets(void **state)
{
    (void)state;
    assert_int_equal(attention_bucket(0, true, 32, 128), 0);
    assert_int_equal(attention_bucket(-7, true, 32, 128), 7);
    assert_int_equal(attention_bucket(7, true, 32, 128), 23);
    assert_int_equal(attention_bucket(-8, true, 32, 128), 8);
    assert_int_equal(attention_bucket(-127, true, 32, 128), 15);
    assert_int_equal(attention_bucket(300, true, 32, 128), 31);
    assert_int_equal(attention_bucket(5, false, 32, 128), 0);
    assert_int_equal(attention_bucket(-15, false, 32, 128), 15);
    assert_int_equal(attention_bucket(-128, false, 32, 128), 31);
}

/* The whole table once with the loops of one instruction set; returns the failures. */
static int run_all(const char *simd)
{
    enum { OPS = sizeof ops / sizeof *ops };
    struct CMUnitTest tests[OPS + 4];
    if (!simd_choose(simd))
        return 0;
    cpu.simd = simd_choose(simd);
    for (int i = 0; i < OPS; i++)
        tests[i] = (struct CMUnitTest){ops[i].name, run_op, NULL, NULL, (void *)(uintptr_t)&ops[i]};
    tests[OPS] = (struct CMUnitTest)cmocka_unit_test(beam_twin);
    tests[OPS + 1] = (struct CMUnitTest)cmocka_unit_test(same_bits);
    tests[OPS + 2] = (struct CMUnitTest)cmocka_unit_test(unknown_backend);
    tests[OPS + 3] = (struct CMUnitTest)cmocka_unit_test(buckets);
    return cmocka_run_group_tests_name(simd ? simd : cpu.simd->name, tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    char message[256];
    backend = backend_open("cpu", argc > 2 ? atoi(argv[2]) : 2, message, sizeof message);
    if (!backend) {
        fprintf(stderr, "%s\n", message);
        return 71;
    }
    if (argc > 1 && strcmp(argv[1], "--perf") == 0)
        return perf_run(backend);
    if (argc > 1 && strcmp(argv[1], "--tune") == 0)
        return perf_tune(backend, argc > 3 ? argv[3] : NULL);
    beam_backend = backend;
#if defined(__SANITIZE_THREAD__)
    return run_all(NULL); /* the loops have no threads of their own: one set will do */
#else
    return run_all("base") + run_all("avx2") + run_all("avx512");
#endif
}
