/* test_bootstrap.c: intervals and paired tests against values known by hand and against exhaustive enumeration. */
#include "../../core/data/bootstrap.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* All values equal: every resample has their mean. */
static void test_constant(void **state)
{
    (void)state;
    const double value[] = {0.25, 1, 0.25, 1, 0.25, 1};
    struct bootstrap_interval out[2];
    bootstrap_intervals(&(struct bootstrap_values){value, 3, 2}, BOOTSTRAP_RESAMPLES, 7, out);
    assert_float_equal(out[0].low, 0.25, 1e-15);
    assert_float_equal(out[0].high, 0.25, 1e-15);
    assert_float_equal(out[1].low, 1, 1e-15);
}

/* Values 0 and 1: means 0, 1/2, 1 with chances 1/4, 1/2, 1/4, so the 2.5 % and 97.5 % points are 0 and 1. Four zeros and
 * twelve ones: mean 3/4, deviation sqrt(3/16/16) = 0.108, binomial points 8/16 and 15/16. */
static void test_binomial(void **state)
{
    (void)state;
    const double two[] = {0, 1};
    double sixteen[16];
    struct bootstrap_interval out;
    bootstrap_intervals(&(struct bootstrap_values){two, 2, 1}, BOOTSTRAP_RESAMPLES, 1, &out);
    assert_float_equal(out.low, 0, 0);
    assert_float_equal(out.high, 1, 0);
    for (int i = 0; i < 16; i++)
        sixteen[i] = i >= 4;
    bootstrap_intervals(&(struct bootstrap_values){sixteen, 16, 1}, 20000, 1, &out);
    assert_float_equal(out.low, 8.0 / 16, 1e-12);
    assert_float_equal(out.high, 15.0 / 16, 1e-12);
}

static void test_seeded(void **state)
{
    (void)state;
    const double value[] = {0.1, 0.7, 0.3, 0.9, 0.2, 0.55, 0.81};
    const struct bootstrap_values v = {value, 7, 1};
    struct bootstrap_interval a, b, c;
    bootstrap_intervals(&v, 1000, 3, &a);
    bootstrap_intervals(&v, 1000, 3, &b);
    bootstrap_intervals(&v, 1000, 4, &c);
    assert_true(a.low == b.low && a.high == b.high);
    assert_true(a.low != c.low || a.high != c.high);
}

/* Five equal differences of 0.5: of the 32 sign patterns two reach the observed sum: p = 1/16. Equal runs: p = 1. */
static void test_paired(void **state)
{
    (void)state;
    const double a[] = {1, 0.2, 0.8, 0.2, 0.6, 0.2, 0.9, 0.2, 0.7, 0.2}, b[] = {0.5, 0.2, 0.3, 0.2, 0.1, 0.2, 0.4, 0.2, 0.2, 0.2};
    struct bootstrap_pair out[2];
    bootstrap_compare(&(struct bootstrap_values){a, 5, 2}, &(struct bootstrap_values){b, 5, 2}, 1, out);
    assert_float_equal(out[0].difference, 0.5, 1e-12);
    assert_float_equal(out[0].interval.low, 0.5, 1e-12);
    assert_float_equal(out[0].interval.high, 0.5, 1e-12);
    assert_float_equal(out[0].p, 1.0 / 16, 0.01); /* 4 deviations of 10,000 shuffles */
    assert_float_equal(out[1].difference, 0, 0);
    assert_float_equal(out[1].p, 1, 0);
}

static void test_symmetric(void **state)
{
    (void)state;
    double a[200], b[200];
    for (int i = 0; i < 200; i++) {
        a[i] = fmod(i * 0.6180339887, 1);
        b[i] = fmod(i * 0.7548776662 + 0.02, 1);
    }
    struct bootstrap_pair ab, ba;
    bootstrap_compare(&(struct bootstrap_values){a, 200, 1}, &(struct bootstrap_values){b, 200, 1}, 5, &ab);
    bootstrap_compare(&(struct bootstrap_values){b, 200, 1}, &(struct bootstrap_values){a, 200, 1}, 5, &ba);
    assert_float_equal(ab.difference, -ba.difference, 1e-15);
    assert_float_equal(ab.interval.low, -ba.interval.high, 1e-12);
    assert_float_equal(ab.interval.high, -ba.interval.low, 1e-12);
    assert_float_equal(ab.p, ba.p, 0);
    assert_true(ab.interval.low < ab.difference && ab.difference < ab.interval.high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant), cmocka_unit_test(test_binomial), cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_paired),   cmocka_unit_test(test_symmetric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
