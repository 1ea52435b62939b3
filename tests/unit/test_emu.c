/* test_emu.c: the emulated device itself. Sound kernels give the right answers at every level of checking; each seeded defect of
 * emu_cases.cu ends its process with a line that names it, and its twin without the defect passes.
 *
 * Built with EMU= alone. A case runs in a child of its own, whose standard error is read. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "../../kernels/cuda/platform.h"
#include "../../kernels/emu/emu_log.h"
#include "emu_cases.h"

static void open_device(void)
{
    char name[64], message[128];
    assert_int_equal(platform_open(0, name, sizeof name, message, sizeof message), 0);
}

/* ---- children ---- */

struct child {
    int status;
    char said[2048]; /* on standard error */
};

static void child_main(void (*body)(const void *), const void *context, int to)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(to, STDERR_FILENO);
    close(STDOUT_FILENO); /* what the parent's buffer holds is not ours to print */
    body(context);
    _exit(0);
}

static struct child run_child(void (*body)(const void *), const void *context)
{
    struct child c = {0};
    int ends[2];
    size_t used = 0;
    ssize_t got;
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child_main(body, context, ends[1]);
    close(ends[1]);
    while (used < sizeof c.said - 1 && (got = read(ends[0], c.said + used, sizeof c.said - 1 - used)) > 0)
        used += (size_t)got;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &c.status, 0), pid);
    return c;
}

/* ---- defects ---- */

static void run_wrong(const void *context)
{
    const struct emu_case *x = context;
    emu_check(x->level);
    x->run(true);
}

static void run_sound(const void *context)
{
    const struct emu_case *x = context;
    int64_t wrong = 0;
    emu_check(x->finding ? 2 : x->level);
    emu_forget_mismatches();
    x->run(false);
    emu_cost_mismatches(&wrong);
    if (!x->finding && wrong > 0)
        _exit(3);
}

static void defect(void **state)
{
    const struct emu_case *x = *state;
    struct child sound = run_child(run_sound, x);
    if (sound.status != 0)
        fail_msg("the sound twin: %s", sound.said);
    if (!x->finding)
        return;
    struct child wrong = run_child(run_wrong, x);
    if (!strstr(wrong.said, x->finding))
        fail_msg("says: %s", wrong.said);
    assert_true(WIFSIGNALED(wrong.status));
    assert_int_equal(WTERMSIG(wrong.status), SIGABRT);
    assert_non_null(strstr(wrong.said, x->kernel));
    assert_ptr_equal(strchr(wrong.said, '\n') + 1, wrong.said + strlen(wrong.said));
}

/* A wrong declaration ends nothing at once; the process tells of it when it ends. */
static void cost_body(const void *context)
{
    int64_t count = 0;
    const struct emu_case *x = context;
    emu_check(1);
    emu_forget_mismatches();
    x->run(false);
    emu_cost_mismatches(&count);
    if (count != 0)
        exit(4);
    x->run(true);
    const struct emu_mismatch *m = emu_cost_mismatches(&count);
    const struct emu_touched t = emu_last();
    if (count == 1 && m->wrong == 1 && m->declared == 131072 && m->touched == 65536 && t.loads == 16384 && t.stores == 8192)
        exit(0);
    exit(5);
}

static void wrong_cost(void **state)
{
    (void)state;
    const struct emu_case *x = &emu_defects[emu_defect_count - 1];
    struct child c = run_child(cost_body, x);
    if (!WIFEXITED(c.status) || WEXITSTATUS(c.status) != 1)
        fail_msg("status %x: %s", (unsigned)c.status, c.said);
    if (!strstr(c.said, "cost of kernel copy_kernel<true>: 1 launches"))
        fail_msg("says: %s", c.said);
}

/* ---- sound kernels ---- */

static const struct level {
    int check;
} levels[] = {{0}, {1}, {2}};

static void sums(void **state)
{
    enum { ROWS = 3, N = 1000 };
    static float x[ROWS * N], y[ROWS];
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < ROWS * N; i++)
        x[i] = (float)(i % 17);
    emu_sum(y, x, ROWS, N);
    for (int r = 0; r < ROWS; r++) {
        float sum = 0;
        for (int i = 0; i < N; i++)
            sum += x[r * N + i];
        assert_float_equal(y[r], sum, 0);
    }
}

static void transposes(void **state)
{
    enum { ROWS = 33, COLS = 65 };
    static float x[ROWS * COLS], y[ROWS * COLS];
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)i;
    emu_transpose(y, x, ROWS, COLS);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++)
            assert_float_equal(y[c * ROWS + r], x[r * COLS + c], 0);
}

static void lanes(void **state)
{
    int32_t y[7][32];
    emu_check(((const struct level *)*state)->check);
    emu_lanes(y[0]);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(y[0][i], i ^ 5);
        assert_int_equal(y[1][i], i < 29 ? i + 3 : i);
        assert_int_equal(y[2][i], 18);
        assert_int_equal(y[3][i], 1);
        assert_int_equal(y[4][i], 0);
        assert_int_equal((uint32_t)y[5][i], 0x55555555u);
        assert_int_equal(y[6][i], 496);
    }
}

static void counts(void **state)
{
    enum { N = 5000, BINS = 64 };
    static int32_t x[N];
    uint32_t bins[BINS] = {0}, want[BINS] = {0};
    uint64_t sum = 0, want_sum = 0;
    int32_t most = 0, want_most = 0;
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < N; i++) {
        x[i] = (int32_t)((uint32_t)i * 2654435761u >> 8);
        want[x[i] % BINS]++;
        want_sum += (uint64_t)x[i];
        want_most = x[i] > want_most ? x[i] : want_most;
    }
    emu_count(bins, &sum, &most, x, N, BINS);
    assert_memory_equal(bins, want, sizeof bins);
    assert_int_equal(sum, want_sum);
    assert_int_equal(most, want_most);
}

static void tiles(void **state)
{
    float a[256], b[256], y[256];
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < 256; i++) {
        a[i] = (float)(i * 7 % 31 - 15);
        b[i] = (float)(i * 5 % 29 - 14);
    }
    for (int turned = 0; turned < 2; turned++) {
        emu_tiles(y, a, b, turned);
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 16; c++) {
                float sum = 1;
                for (int k = 0; k < 16; k++)
                    sum += a[r * 16 + k] * (turned ? b[c * 16 + k] : b[k * 16 + c]);
                assert_float_equal(y[r * 16 + c], 2 * sum, 0);
            }
    }
}

/* Blocks that learn of each other: with the fence it is sound, without it a race. */
static void last_block(void **state)
{
    enum { N = 1000 };
    static float x[N];
    float sum = 0;
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 9);
    emu_last_block(&sum, x, N, true);
    assert_float_equal(sum, 3996, 0);
}

static void no_fence(const void *context)
{
    static float x[1000];
    float sum;
    (void)context;
    emu_check(2);
    emu_last_block(&sum, x, 1000, false);
}

static void last_block_unfenced(void **state)
{
    (void)state;
    struct child c = run_child(no_fence, NULL);
    assert_non_null(strstr(c.said, "which thread 0 of another block wrote with no barrier between"));
}

/* ---- numbers ---- */

static float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void rounding(void **state)
{
    (void)state;
    static const uint32_t table[][2] = {
        {0x00000000, 0x00000000}, {0x80000000, 0x80000000}, {0x3f800000, 0x3f800000}, {0x3f808000, 0x3f800000}, {0x3f808001, 0x3f810000},
        {0x3f818000, 0x3f820000}, {0x3f817fff, 0x3f810000}, {0xbf818000, 0xbf820000}, {0x7f7fffff, 0x7f800000}, {0x7f7f7fff, 0x7f7f0000},
        {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}, {0x00000001, 0x00000000}, {0x00008001, 0x00010000}, {0x00018000, 0x00020000},
    };
    static const uint32_t nans[] = {0x7fc00000, 0x7f800001, 0xffffffff, 0x7fff8000, 0xff800001};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const float y = emu_round(of_bits(table[i][0])), want = of_bits(table[i][1]);
        assert_memory_equal(&y, &want, sizeof y);
    }
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++)
        assert_true(isnan(emu_round(of_bits(nans[i]))));
}

/* Small whole numbers: every order of summing gives the same. */
static float small(int i)
{
    return (float)(i * 7 % 5 - 2);
}

static void product(const int32_t size[3], int flags)
{
    static float a[40 * 600], b[70 * 600], c[40 * 70], before[40 * 70];
    const int m = size[0], n = size[1], k = size[2];
    for (int i = 0; i < m * k; i++)
        a[i] = small(i);
    for (int i = 0; i < n * k; i++)
        b[i] = small(i + 3);
    for (int i = 0; i < m * n; i++)
        c[i] = before[i] = small(i + 1);
    emu_product(c, a, b, size, flags);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int l = 0; l < k; l++)
                sum += a[flags & 1 ? l * m + i : i * k + l] * b[flags & 2 ? j * k + l : l * n + j];
            sum = sum * 0.5f + (flags & 8 ? before[i * n + j] : 0.0f);
            sum = (flags & 16) && sum < 0 ? 0 : sum;
            const float got = c[i * n + j];
            if (flags & 4)
                assert_float_equal(got, sum, 0);
            else
                assert_true(got == sum || got == emu_round(sum));
        }
}

static void products(void **state)
{
    (void)state;
    static const int32_t sizes[][3] = {{1, 1, 1}, {4, 32, 256}, {5, 33, 257}, {40, 70, 600}, {3, 2, 0}, {31, 64, 7}};
    emu_check(0);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int flags = 0; flags < 32; flags++)
            product(sizes[s], flags);
}

/* ---- the platform ---- */

static void recordings(void **state)
{
    float x[300];
    struct platform_counts counts;
    emu_check(((const struct level *)*state)->check);
    for (int i = 0; i < 300; i++)
        x[i] = (float)i;
    platform_totals(&counts, true);
    emu_twice(x, 300);
    platform_totals(&counts, true);
    assert_int_equal(counts.launches, 2);
    assert_float_equal(counts.bytes, 4800, 0);
    assert_float_equal(counts.operations, 600, 0);
    assert_float_equal(x[0], 1, 0); /* zeroed after the first replay */
    for (int i = 1; i < 300; i++)
        assert_float_equal(x[i], i + 2, 0);
}

static void listing(void **state)
{
    (void)state;
    const int32_t size[3] = {3, 5, 7};
    float c[15] = {0}, a[21] = {0}, b[35] = {0};
    int64_t count;
    emu_record_only(true);
    emu_launch_one();
    emu_product(c, a, b, size, 4);
    const struct emu_launch *l = emu_launches(&count);
    assert_int_equal(count, 2);
    assert_string_equal(l[0].kernel, "one_more_kernel");
    assert_int_equal(l[0].blocks, 8);
    assert_int_equal(l[0].threads, 128);
    assert_float_equal(l[0].bytes, 8000, 0);
    assert_string_equal(l[1].kernel, "platform_gemm");
    assert_float_equal(l[1].operations, 210, 0);
    emu_record_only(false);
}

static void memory(void **state)
{
    (void)state;
    size_t total, left = platform_memory(&total);
    char *huge = platform_alloc(left - 1000), *small_one = platform_alloc(100);
    assert_non_null(huge);
    assert_non_null(small_one);
    assert_null(platform_alloc(1000));
    assert_int_equal(platform_memory(NULL), 900);
    platform_free(huge);
    platform_free(small_one);
    platform_free(NULL);
    assert_int_equal(platform_memory(NULL), left);
}

static void said_line(const char *line)
{
    fprintf(stderr, "handler: %s\n", line);
}

/* Every block sees in a phase what its neighbour wrote in the one before. */
static void phases(void **state)
{
    enum { BLOCKS = 3, BLOCK = 128 };
    float x[BLOCKS * BLOCK];
    emu_check(((const struct level *)*state)->check);
    for (int rounds = 1; rounds <= 7; rounds += 3) {
        for (int i = 0; i < BLOCKS * BLOCK; i++)
            x[i] = (float)i;
        emu_ring(x, BLOCKS, rounds);
        for (int i = 0; i < BLOCKS * BLOCK; i++)
            assert_float_equal(x[(i + rounds * BLOCK) % (BLOCKS * BLOCK)], (float)(i + rounds), 0);
    }
}

static void fault_body(const void *context)
{
    char name[64], message[128];
    (void)context;
    platform_on_fault(said_line);
    if (platform_open(0, name, sizeof name, message, sizeof message) != 0 || platform_memory(NULL) != 12345678)
        _exit(6);
    emu_launch_one();
    emu_launch_one();
    fprintf(stderr, "two\n");
    emu_launch_one();
}

static void faults(void **state)
{
    (void)state;
    setenv("SEMINDEX_EMU_FAULT", "3", 1);
    setenv("SEMINDEX_EMU_MEMORY", "12345678", 1);
    struct child c = run_child(fault_body, NULL);
    unsetenv("SEMINDEX_EMU_FAULT");
    unsetenv("SEMINDEX_EMU_MEMORY");
    if (!WIFEXITED(c.status) || WEXITSTATUS(c.status) != 70)
        fail_msg("status %x: %s", (unsigned)c.status, c.said);
    assert_non_null(strstr(c.said, "two\nsemindex: device cuda:0 (emulated): launch 3 fails"));
    assert_non_null(strstr(c.said, "handler: device cuda:0"));
}

int main(void)
{
    enum { MOST = 100 };
    static struct CMUnitTest tests[MOST];
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } sound[] = {{"sums", sums}, {"transposes", transposes}, {"lanes", lanes}, {"counts", counts}, {"tiles", tiles},
                 {"last_block", last_block}, {"recordings", recordings}, {"phases", phases}},
      once[] = {{"last_block_unfenced", last_block_unfenced}, {"wrong_cost", wrong_cost}, {"rounding", rounding}, {"products", products},
                {"listing", listing}, {"memory", memory}, {"faults", faults}};
    size_t n = 0;
    open_device();
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
            tests[n++] = (struct CMUnitTest){sound[i].name, sound[i].run, NULL, NULL, (void *)(uintptr_t)&levels[l]};
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        tests[n++] = (struct CMUnitTest){once[i].name, once[i].run, NULL, NULL, NULL};
    for (int i = 0; i < emu_defect_count; i++)
        tests[n++] = (struct CMUnitTest){emu_defects[i].name, defect, NULL, NULL, (void *)(uintptr_t)&emu_defects[i]};
    emu_forget_mismatches();
    const int failed = _cmocka_run_group_tests("emu", tests, n, NULL, NULL);
    emu_check(0);
    return failed;
}
