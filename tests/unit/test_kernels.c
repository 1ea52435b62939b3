/* test_kernels.c: conformance of every backend: op x shapes against a plain double reference, forward, and backward by finite differences.
 *
 * The table is kernel_ops.h, the reference ref_ops.h, one run kernel_job.h; beam_step has a naive twin of its own here, as its answer is a
 * list with a rule for ties. Tolerance: 1e-5 of the largest element; kernel_tolerance.h says what bf16 adds.
 *
 *   test_kernels [--device NAME] [--only OP] [THREADS]   the cpu (with the loops of every instruction set), or cuda, cuda:1
 *   test_kernels --perf [THREADS]      measures the cpu instead (kernel_perf.h)
 *   test_kernels --tune [THREADS] [..] prints the measurements behind kernels/cpu/gemm_table.h */
#include "kernel_ops.h"
#include "kernel_beam.h"
#include "kernel_large.h"
#include "../../kernels/cpu/cpu.h"
#include "kernel_perf.h"

static const struct backend *backend;

static void run_shape(const struct op *op, const int32_t *shape)
{
    struct job j;
    job_open(&j, backend, op, shape);
    op->forward(&j);
    op->reference(&j);
    check_outputs(&j);
    if (op->backward)
        op->backward(&j);
    for (int i = 0; (op->backward || op->loss) && op->in[i]; i++)
        check_gradient(&j, i);
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

/* Same inputs, same bits; and, on the cpu, rows of a batch do not see each other. (A device picks its product by the shape.) */
static void same_bits(void **state)
{
    (void)state;
    enum { N = 70, COLS = 96, ROWS = 200 };
    static float x[N * COLS], m[ROWS * COLS], y[2][N * ROWS];
    bool rows_alike = backend->has_host_memory;
    struct weight w = {ROWS, COLS, backend->alloc(sizeof m), NULL, NULL};
    struct act *in = backend->act_alloc(N * COLS), *out = backend->act_alloc(N * ROWS);
    for (int i = 0; i < ROWS * COLS; i++)
        m[i] = sinf((float)i);
    for (int i = 0; i < N * COLS; i++)
        x[i] = cosf((float)(i % COLS)); /* all rows equal */
    backend->write(w.master, m, sizeof m);
    backend->upload(in, x, N * COLS);
    assert_int_equal(backend->weight_open(&w, WEIGHT_INFER), 0);
    for (int n = 1; n <= N; n++)
        for (int turn = rows_alike && n > 1; turn < 2; turn++) {
            backend->linear(out, in, &w, n, 1.0f, 0);
            backend->download(y[turn], out, (int64_t)n * ROWS);
            for (int i = 0; i < n && turn == 1; i++)
                assert_memory_equal(y[1] + i * ROWS, y[0] + (rows_alike ? 0 : i * ROWS), ROWS * sizeof(float));
        }
    backend->weight_close(&w);
    backend->release(w.master);
    backend->release(in);
    backend->release(out);
}

/* Blocks of awkward sizes come back as they were written, memory begins as zeros, activations keep what their format holds. */
static void memory_moves(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 15, 4097, (1 << 20) - 1, (1 << 20) + 1, (9 << 20) + 13};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        uint8_t *host = malloc(2 * n), *device = backend->alloc(n), *back = host + n;
        assert_non_null(device);
        backend->read(back, device, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(back[i], 0);
        for (size_t i = 0; i < n; i++)
            host[i] = (uint8_t)(i * 31 + i / 251);
        for (int turn = 0; turn < 3; turn++)
            backend->write(device, host, n);
        backend->read(back, device, n);
        assert_memory_equal(back, host, n);
        backend->zero(device, n);
        backend->read(back, device, n);
        assert_true(back[0] == 0 && back[n / 2] == 0 && back[n - 1] == 0);
        backend->release(device);
        free(host);
    }
    float x[] = {1.0f, -2.5f, 3.0e-3f, 65504.0f, 1.00390625f}, y[5];
    struct act *a = backend->act_alloc(70);
    backend->upload(backend->act_at(a, 64), x, 5);
    backend->download(y, backend->act_at(a, 64), 5);
    for (int i = 0; i < 5; i++)
        assert_true(y[i] == (float)as_stored(&(struct job){.be = backend}, x[i]));
    backend->act_zero(a, 69);
    backend->download(y, backend->act_at(a, 65), 5);
    assert_true(y[3] == 0.0f && y[4] == (float)as_stored(&(struct job){.be = backend}, x[4]) * 0.0f + 0.0f);
    backend->release(a);
    if (backend->memory_free) {
        size_t total = 0, left = backend->memory_free(&total);
        assert_true(left > 0 && left <= total);
    }
}

/* What was put down between begin and end is not run then, and is run by every replay on what memory then holds. */
static void recordings(void **state)
{
    (void)state;
    enum { N = 33, D = 64 };
    static float x[N * D], y[2][N * D], w[D];
    if (!backend->record_begin)
        skip();
    struct act *in = backend->act_alloc(N * D), *sum = backend->act_alloc(N * D), *out = backend->act_alloc(N * D);
    float *gains = backend->alloc(sizeof w);
    for (int i = 0; i < D; i++)
        w[i] = 1.0f + 0.25f * (float)i;
    backend->write(gains, w, sizeof w);
    assert_int_equal(backend->record_begin(), 0);
    backend->act_zero(sum, N * D);
    backend->axpy(sum, 0.5f, in, N * D);
    backend->add_rmsnorm(sum, out, sum, in, gains, N, D, 1e-6f, (struct dropout){0, 0});
    struct recording *r = backend->record_end();
    assert_non_null(r);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < N * D; i++)
            x[i] = sinf((float)(i * (turn + 1)));
        backend->upload(in, x, N * D);
        if (turn == 0) { /* not run yet */
            backend->download(y[0], out, N * D);
            for (int i = 0; i < N * D; i++)
                assert_true(y[0][i] == 0.0f);
        }
        backend->replay(r);
        backend->download(y[0], out, N * D);
        backend->act_zero(sum, N * D);
        backend->axpy(sum, 0.5f, in, N * D);
        backend->add_rmsnorm(sum, out, sum, in, gains, N, D, 1e-6f, (struct dropout){0, 0});
        backend->download(y[1], out, N * D);
        assert_memory_equal(y[0], y[1], sizeof y[0]);
    }
    backend->record_free(r);
    backend->record_free(NULL);
    void *memory[] = {in, sum, out, gains};
    for (int i = 0; i < 4; i++)
        backend->release(memory[i]);
}

/* On a device, totals may be upper bounds (a bucket of a recording): tokens beyond the last offset hold anything, NaN here, and must not be
 * seen by the rows that are there. */
struct padded {
    struct act *q, *k, *v, *out, *mean;
    float *bias;
    int32_t *offsets;
    float host[100 * 64], means[3 * 64];
};

enum { PAD_LIVE = 34, PAD_TOTAL = 74, PAD_WIDTH = 64 };

static void run_padded(struct padded *p, int32_t total, int32_t longest)
{
    struct rows rows = {3, total, longest, p->offsets};
    struct attention a = {.heads = 2, .width = 32, .q_rows = rows, .k_rows = rows, .q = p->q, .k = p->k, .v = p->v, .q_stride = PAD_WIDTH,
                          .k_stride = PAD_WIDTH, .v_stride = PAD_WIDTH, .bias = p->bias, .buckets = 32, .max_distance = 128,
                          .bidirectional = true, .out = p->out};
    backend->act_zero(p->out, PAD_TOTAL * PAD_WIDTH);
    backend->attention(&a);
    backend->pool_mean(p->mean, p->v, rows, PAD_WIDTH);
    backend->download(p->host, p->out, PAD_LIVE * PAD_WIDTH);
    backend->download(p->means, p->mean, 3 * PAD_WIDTH);
}

static void padding_is_not_seen(void **state)
{
    (void)state;
    static struct padded p;
    static float x[PAD_TOTAL * PAD_WIDTH], bias[64], first[100 * 64], means[3 * 64];
    static const int32_t offsets[] = {0, 33, 33, PAD_LIVE};
    struct act **all[] = {&p.q, &p.k, &p.v, &p.out, &p.mean};
    if (backend->has_host_memory)
        skip();
    for (int i = 0; i < 5; i++) {
        *all[i] = backend->act_alloc(PAD_TOTAL * PAD_WIDTH);
        for (int j = 0; j < PAD_TOTAL * PAD_WIDTH; j++)
            x[j] = j < PAD_LIVE * PAD_WIDTH ? sinf((float)(j * (i + 2))) : NAN;
        backend->upload(*all[i], x, PAD_TOTAL * PAD_WIDTH);
    }
    for (int i = 0; i < 64; i++)
        bias[i] = cosf((float)i);
    p.bias = backend->alloc(sizeof bias);
    p.offsets = backend->alloc(sizeof offsets);
    backend->write(p.bias, bias, sizeof bias);
    backend->write(p.offsets, offsets, sizeof offsets);
    run_padded(&p, PAD_LIVE, 33);
    memcpy(first, p.host, sizeof first);
    memcpy(means, p.means, sizeof means);
    run_padded(&p, PAD_TOTAL, PAD_TOTAL);
    double most = tolerance_f32 + (backend->act_bytes == sizeof(float) ? 0 : 2 * tolerance_unit);
    for (int i = 0; i < PAD_LIVE * PAD_WIDTH; i++)
        assert_true(fabs((double)first[i] - (double)p.host[i]) <= most); /* of values up to 1; another grid may take another path */
    assert_memory_equal(means, p.means, sizeof means);
    for (int i = 0; i < 5; i++)
        backend->release(*all[i]);
    backend->release(p.bias);
    backend->release(p.offsets);
}

static void unknown_backend(void **state)
{
    static const char *const names[] = {"abacus", "cpu:1", "cuda:", "cuda:x", "cuda:1x", "cudas", "auto:0", ""};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char message[128] = "";
        assert_null(backend_open(names[i], 0, message, sizeof message));
        assert_non_null(strstr(message, "is unknown"));
    }
    char message[512];
    assert_non_null(backend_open("auto", 2, message, sizeof message));
    assert_null(backend_open("cuda:999", 2, message, sizeof message));
    assert_true(message[0] != 0 && strchr(message, '\n') == NULL);
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

/* The whole table once on the backend that is open; only: one op's name, or NULL. Returns the failures. */
static int run_table(const char *name, const char *only)
{
    enum { OPS = sizeof ops / sizeof *ops };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(beam_twin),           cmocka_unit_test(same_bits),       cmocka_unit_test(memory_moves), cmocka_unit_test(recordings),
        cmocka_unit_test(padding_is_not_seen), cmocka_unit_test(unknown_backend), cmocka_unit_test(buckets),      cmocka_unit_test(loss_in_pieces),
        cmocka_unit_test(many_centroids),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[OPS + OTHERS];
    size_t n = 0;
    for (int i = 0; i < OPS; i++)
        tests[n++] = (struct CMUnitTest){ops[i].name, run_op, NULL, NULL, (void *)(uintptr_t)&ops[i]};
    for (int i = 0; i < OTHERS; i++)
        tests[n++] = others[i];
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!only || strstr(tests[i].name, only))
            tests[kept++] = tests[i];
    return _cmocka_run_group_tests(name, tests, kept, NULL, NULL);
}

/* The same with the loops of one instruction set of the cpu. */
static int run_simd(const char *simd, const char *only)
{
    if (!simd_choose(simd))
        return 0;
    cpu.simd = simd_choose(simd);
    return run_table(simd ? simd : cpu.simd->name, only);
}

int main(int argc, char **argv)
{
    const char *device = "cpu", *only = NULL;
    char message[512];
    for (; argc > 2 && (strcmp(argv[1], "--device") == 0 || strcmp(argv[1], "--only") == 0); argc -= 2, argv += 2)
        *(argv[1][2] == 'd' ? &device : &only) = argv[2];
    bool measure = argc > 1 && argv[1][0] == '-';
    backend = backend_open(device, argc > 1 + measure ? atoi(argv[1 + measure]) : 2, message, sizeof message);
    if (!backend) {
        fprintf(stderr, "%s\n", message);
        return 69;
    }
    if (measure && strcmp(argv[1], "--perf") == 0)
        return perf_run(backend);
    if (measure && strcmp(argv[1], "--tune") == 0)
        return perf_tune(backend, argc > 3 ? argv[3] : NULL);
    beam_backend = large_backend = backend;
    if (strcmp(backend->name, "cpu") != 0)
        return run_table(backend->act_bytes == sizeof(float) ? "cuda, f32" : "cuda, bf16", only);
#if defined(__SANITIZE_THREAD__)
    return run_simd(NULL, only); /* the loops have no threads of their own: one set will do */
#else
    return run_simd("base", only) + run_simd("avx2", only) + run_simd("avx512", only);
#endif
}
