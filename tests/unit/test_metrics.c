/* test_metrics.c: metrics on lists small enough to count by hand, their edges, and AMI against its definition by enumeration.
 *
 * Values of another implementation are compared by the parity program. Here E[MI] is computed a second way: the mean of MI over every permutation
 * of one labeling, which is what the hypergeometric formula stands for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/data/metrics.h"

static double value(const char *name, const struct metrics_query *q)
{
    struct metrics_metric m;
    assert_true(metrics_parse(name, &m));
    return metrics_value(&m, q);
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-12)

static void test_by_hand(void **state)
{
    (void)state;
    const int32_t grades[] = {0, 2, 0, 1, 0, 3}, relevant[] = {1, 3, 2, 2};
    const struct metrics_query q = {grades, 6, relevant, 4};
    double found = 2 / log2(3) + 1 / log2(5);
    assert_near(value("Recall@1", &q), 0);
    assert_near(value("Recall@5", &q), 0.5);
    assert_near(value("Recall@100", &q), 0.75);
    assert_near(value("Hit@1", &q), 0);
    assert_near(value("Hit@2", &q), 1);
    assert_near(value("MRR@1", &q), 0);
    assert_near(value("MRR@10", &q), 0.5);
    assert_near(value("nDCG@5", &q), found / (3 + 2 / log2(3) + 2 / log2(4) + 1 / log2(5)));
    assert_near(value("nDCG@2", &q), 2 / log2(3) / (3 + 2 / log2(3)));
    assert_near(value("nDCG_retrieved@5", &q), found / (3 + 2 / log2(3) + 1 / log2(4)));
}

static void test_edges(void **state)
{
    (void)state;
    static const char *const names[] = {"Recall@10", "Hit@10", "MRR@10", "nDCG@10", "nDCG_retrieved@10"};
    const int32_t nothing[] = {0, 0, -1}, relevant[] = {1};
    const struct metrics_query none_returned = {NULL, 0, relevant, 1}, none_found = {nothing, 3, relevant, 1}, none_relevant = {nothing, 3, NULL, 0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_near(value(names[i], &none_returned), 0);
        assert_near(value(names[i], &none_found), 0);
        assert_near(value(names[i], &none_relevant), 0);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "@", "Recall", "Recall@", "Recall@0", "Recall@-1", "Recall@5x", "recall@5", "NDCG@5", "nDCG_@5", "Hit5"};
    struct metrics_metric m;
    char name[32];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(metrics_parse(wrong[i], &m));
    assert_true(metrics_parse("nDCG_retrieved@20", &m));
    assert_int_equal(m.kind, METRICS_NDCG_RETRIEVED);
    assert_int_equal(m.k, 20);
    metrics_name(&m, name);
    assert_string_equal(name, "nDCG_retrieved@20");
}

static void test_ties_by_descending_name(void **state)
{
    (void)state;
    struct metrics_hit hits[] = {{"d10", 1, 0}, {"a", 2, 0}, {"d9", 1, 0}, {"\xc3\xa9", 1, 0}, {"b", 3, 0}};
    static const char *const order[] = {"b", "a", "\xc3\xa9", "d9", "d10"};
    metrics_sort(hits, 5);
    for (int i = 0; i < 5; i++)
        assert_string_equal(hits[i].document, order[i]);
}

/* ---- AMI ---- */

enum { THINGS = 7 };

static double entropy_of(const int32_t *labels)
{
    double h = 0;
    for (int v = 0; v < THINGS; v++) {
        int n = 0;
        for (int i = 0; i < THINGS; i++)
            n += labels[i] == v;
        h -= n ? (double)n / THINGS * log((double)n / THINGS) : 0;
    }
    return h;
}

static double information_of(const int32_t *a, const int32_t *b)
{
    int32_t both[THINGS], renamed[THINGS];
    for (int i = 0; i < THINGS; i++)
        both[i] = a[i] * THINGS + b[i];
    for (int i = 0; i < THINGS; i++)
        for (int j = THINGS - 1; j >= 0; j--)
            if (both[j] == both[i])
                renamed[i] = j;
    return entropy_of(a) + entropy_of(b) - entropy_of(renamed);
}

/* Sum of MI over all orders of b's tail from `at`, and their number. */
static double all_orders(const int32_t *a, int32_t *b, int at, double *count)
{
    double sum = 0;
    if (at == THINGS) {
        ++*count;
        return information_of(a, b);
    }
    for (int i = at; i < THINGS; i++) {
        int32_t kept = b[at];
        b[at] = b[i];
        b[i] = kept;
        sum += all_orders(a, b, at + 1, count);
        b[i] = b[at];
        b[at] = kept;
    }
    return sum;
}

static void test_ami_is_its_definition(void **state)
{
    (void)state;
    static const int32_t labelings[][THINGS] = {
        {0, 0, 0, 1, 1, 1, 2}, {0, 1, 0, 1, 0, 1, 0}, {0, 0, 0, 0, 0, 0, 1}, {0, 1, 2, 3, 3, 2, 1}, {0, 0, 0, 0, 1, 1, 1},
    };
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++) {
            int32_t b[THINGS];
            double count = 0;
            memcpy(b, labelings[j], sizeof b);
            double expected = all_orders(labelings[i], b, 0, &count) / count;
            double ami = (information_of(labelings[i], labelings[j]) - expected) /
                         ((entropy_of(labelings[i]) + entropy_of(labelings[j])) / 2 - expected);
            assert_true(fabs(metrics_ami(labelings[i], labelings[j], THINGS) - ami) < 1e-9);
        }
}

static void test_ami_edges(void **state)
{
    (void)state;
    const int32_t one[] = {4, 4, 4, 4}, distinct[] = {9, -2, 7, 1}, halves[] = {1, 1, 0, 0}, renamed[] = {-5, -5, 80, 80};
    assert_near(metrics_ami(one, one, 4), 1);
    assert_near(metrics_ami(distinct, distinct, 4), 1);
    assert_near(metrics_ami(one, distinct, 4), 0);
    assert_near(metrics_ami(halves, renamed, 4), 1);
    assert_near(metrics_ami(halves, one, 4), 0);
    assert_true(fabs(metrics_ami(halves, distinct, 4)) < 1e-9);
    assert_near(metrics_ami(one, one, 1), 1);
    assert_near(metrics_ami(NULL, NULL, 0), 1);
}

static void test_labels(void **state)
{
    (void)state;
    const char *const names[] = {"b", NULL, "a", "b", ""};
    static const int32_t expected[] = {0, 1, 2, 0, 1};
    int32_t labels[5];
    metrics_labels(labels, names, 5);
    assert_memory_equal(labels, expected, sizeof labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ties_by_descending_name),
        cmocka_unit_test(test_ami_is_its_definition),
        cmocka_unit_test(test_ami_edges),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
