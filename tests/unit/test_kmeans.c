/* test_kmeans.c: k-means: what it finds, however its points are read; seeds in rounds beside seeds one by one; empty clusters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/learn/kmeans.h"

static const struct backend *cpu(void)
{
    char message[256];
    const struct backend *be = backend_open("cpu", 2, message, sizeof message);
    assert_non_null(be);
    return be;
}

static void test_kmeans_finds_clusters(void **state)
{
    (void)state;
    enum { N = 300, D = 5, K = 6 };
    float x[N * D], centroids[K * D];
    int32_t assign[N];
    struct kmeans_result r, again;
    struct err e;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++)
            x[i * D + j] = (float)((i % K == j ? 10 : 0) - (i % K == 5 ? 10 : 0)) + mix_uniform(4, (uint64_t)(i * D + j));
    const struct kmeans_options o = {.n = N, .d = D, .k = K, .restarts = 3, .iterations = 20, .seed = 5};
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, assign, &r, NULL, &e), 0);
    assert_int_equal(r.used, K);
    for (int i = K; i < N; i++)
        assert_int_equal(assign[i], assign[i % K]);
    assert_true(r.inertia < N * D / 12.0 * 1.3);
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, assign, &again, NULL, &e), 0);
    assert_true(r.inertia == again.inertia);
}

/* Points read block by block, by a list of rows, and less what codebooks took: the same bits as of a plain copy. */
static void test_kmeans_reads_points_anyhow(void **state)
{
    (void)state;
    enum { N = 200, D = 7, K = 9 };
    float x[N * D], plain[N * D], book[3 * D], a[K * D], b[K * D];
    float *const books[] = {book, book};
    int32_t row[N], code[N], assign_a[N], assign_b[N];
    int32_t *const codes[] = {code, code};
    struct kmeans_result r, s;
    struct err e;
    for (int i = 0; i < N * D; i++)
        x[i] = mix_uniform(7, (uint64_t)i);
    for (int i = 0; i < 3 * D; i++)
        book[i] = mix_uniform(8, (uint64_t)i);
    for (int i = 0; i < N; i++) {
        row[i] = (i * 37 + 5) % N;
        code[i] = i % 3;
        for (int j = 0; j < D; j++)
            plain[i * D + j] = x[row[i] * D + j] - book[code[i] * D + j] - book[code[i] * D + j];
    }
    const struct kmeans_options o = {.n = N, .d = D, .k = K, .restarts = 2, .iterations = 15, .seed = 3};
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = plain}, a, assign_a, &r, NULL, &e), 0);
    for (int block = 0; block < 60; block += 7) {
        const struct kmeans_points p = {.x = x, .row = row, .levels = 2, .codebook = books, .code = codes, .block = block};
        assert_int_equal(kmeans_run(cpu(), &o, &p, b, assign_b, &s, NULL, &e), 0);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_equal(assign_a, assign_b, sizeof assign_a);
        assert_true(r.inertia == s.inertia && r.iterations == s.iterations);
    }
}

/* Seeds behind the first KMEANS_EXACT come in rounds; what they miss is little: here 3,000 equal groups of points, of which seeds that are drawn without
 * regard to each other would leave a third (1/e) without a centroid. */
static void test_kmeans_seeds_in_rounds(void **state)
{
    (void)state;
    enum { GROUPS = 3000, EACH = 4, D = 8, N = GROUPS * EACH };
    float *x = xmalloc(sizeof(float) * N * D), *centroids = xmalloc(sizeof(float) * GROUPS * D);
    int32_t *assign = xmalloc(sizeof(int32_t) * N), hit = 0;
    char *seen = xcalloc(GROUPS, 1);
    struct kmeans_result r;
    struct err e;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++)
            x[i * D + j] = 100 * mix_uniform(11, (uint64_t)(i % GROUPS * D + j)) + 0.01f * mix_uniform(12, (uint64_t)(i * D + j));
    const struct kmeans_options o = {.n = N, .d = D, .k = GROUPS, .restarts = 1, .iterations = 1, .seed = 2};
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, assign, &r, NULL, &e), 0);
    for (int i = 0; i < N; i++) { /* a group with a centroid of its own */
        double d = 0;
        for (int j = 0; j < D; j++)
            d += fabs((double)centroids[assign[i] * D + j] - (double)x[i * D + j]);
        if (d < 1 && !seen[i % GROUPS])
            hit += seen[i % GROUPS] = 1;
    }
    assert_true(hit > GROUPS * 97 / 100);
    free(x);
    free(centroids);
    free(assign);
    free(seen);
}

/* Sum of squared distances to k seeds that are drawn one by one, each by the distances to all before it: k-means++ to the letter. */
static double exact_seeds(const float *x, int n, int d, int k, uint64_t seed)
{
    double *near = xmalloc((size_t)n * sizeof *near), total = 0;
    for (int i = 0; i < n; i++)
        near[i] = 1e30;
    for (int c = 0; c < k; c++) {
        double u = (double)mix_uniform(seed, (uint64_t)c) * (c ? total : n), sum = 0;
        int point = 0;
        for (; point < n - 1 && (sum += c ? near[point] : 1) <= u;)
            point++;
        total = 0;
        for (int i = 0; i < n; i++) {
            double far = 0;
            for (int j = 0; j < d; j++)
                far += pow((double)x[i * d + j] - (double)x[point * d + j], 2);
            near[i] = far < near[i] ? far : near[i];
            total += near[i];
        }
    }
    free(near);
    return total;
}

/* In a cloud without groups and in one of groups, seeds in rounds are as good as seeds one by one. */
static void test_kmeans_rounds_against_exact(void **state)
{
    (void)state;
    enum { N = 6000, D = 6, K = 1200, SEEDS = 3 };
    float *x = xmalloc(sizeof(float) * N * D), *centroids = xmalloc(sizeof(float) * K * D);
    for (int groups = 0; groups < 2; groups++) {
        double exact = 0, rounds = 0;
        for (int i = 0; i < N * D; i++)
            x[i] = mix_uniform(21, (uint64_t)i) + (groups ? 3 * mix_uniform(22, (uint64_t)(i / D % 300 * D + i % D)) : 0);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            struct kmeans_result r;
            struct err e;
            const struct kmeans_options o = {.n = N, .d = D, .k = K, .restarts = 1, .iterations = 0, .seed = seed};
            assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, NULL, &r, NULL, &e), 0);
            rounds += r.inertia;
            exact += exact_seeds(x, N, D, K, seed);
        }
        print_message("squared distances to seeds: in rounds %.1f, one by one %.1f\n", rounds, exact);
        assert_true(rounds < 1.02 * exact && rounds > 0.98 * exact);
    }
    free(x);
    free(centroids);
}

/* Up to KMEANS_EXACT seeds are drawn one by one: the very points that k-means++ to the letter draws. */
static void test_kmeans_few_seeds_are_exact(void **state)
{
    (void)state;
    enum { N = 2000, D = 6 };
    float *x = xmalloc(sizeof(float) * N * D), *centroids = xmalloc(sizeof(float) * KMEANS_EXACT * D);
    for (int i = 0; i < N * D; i++)
        x[i] = mix_uniform(41, (uint64_t)i);
    for (int k = 64; k <= KMEANS_EXACT; k *= 2) {
        struct kmeans_result r;
        struct err e;
        const struct kmeans_options o = {.n = N, .d = D, .k = k, .restarts = 1, .iterations = 0, .seed = 5};
        assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, NULL, &r, NULL, &e), 0);
        assert_true(fabs(r.inertia / exact_seeds(x, N, D, k, mix64(5, 0)) - 1) < 1e-5);
    }
    free(x);
    free(centroids);
}

/* Many equal points and more clusters than places: every empty cluster is filled without a search of its own. */
static void test_kmeans_coinciding_points(void **state)
{
    (void)state;
    enum { N = 40000, K = 20000 };
    float *x = xcalloc(N, sizeof *x), *centroids = xmalloc(K * sizeof *centroids);
    struct kmeans_result r;
    struct err e;
    for (int i = 0; i < 5; i++)
        x[i * 1000] = (float)i;
    const struct kmeans_options o = {.n = N, .d = 1, .k = K, .restarts = 1, .iterations = 2, .seed = 2};
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, NULL, &r, NULL, &e), 0);
    assert_int_equal(r.used, 5);
    assert_true(r.inertia < 1e-9);
    free(x);
    free(centroids);
}

static void test_kmeans_bad_and_degenerate(void **state)
{
    (void)state;
    float x[8] = {1, 1, 1, 1, 1, 1, 1, 1}, centroids[16];
    struct kmeans_result r;
    struct err e = {0};
    struct kmeans_options o = {.n = 4, .d = 2, .k = 5, .restarts = 1, .iterations = 3};
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, NULL, &r, NULL, &e), -1);
    assert_non_null(strstr(e.message, "codes is 5"));
    o.k = 3; /* all points coincide: one cluster holds them all */
    assert_int_equal(kmeans_run(cpu(), &o, &(struct kmeans_points){.x = x}, centroids, NULL, &r, NULL, &e), 0);
    assert_int_equal(r.used, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kmeans_finds_clusters),
        cmocka_unit_test(test_kmeans_reads_points_anyhow),
        cmocka_unit_test(test_kmeans_seeds_in_rounds),
        cmocka_unit_test(test_kmeans_rounds_against_exact),
        cmocka_unit_test(test_kmeans_few_seeds_are_exact),
        cmocka_unit_test(test_kmeans_coinciding_points),
        cmocka_unit_test(test_kmeans_bad_and_degenerate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
