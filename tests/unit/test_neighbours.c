/* test_neighbours.c: item neighbours and popularity on histories counted by hand, and ranks with their ties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/data/neighbours.h"

enum { ITEMS = 6 };

/* Users: 0 1 2 | 0 2 3 | 1 | 4 0 1 5; the last item of each is held out unless said otherwise. */
static const int32_t items[] = {0, 1, 2, 0, 2, 3, 1, 4, 0, 1, 5};
static const int64_t offsets[] = {0, 3, 6, 7, 11};

static struct neighbours *build(int32_t held_out, struct neighbours_options o)
{
    const struct neighbours_input in = {items, offsets, 4, ITEMS, held_out};
    return neighbours_build(&in, &o);
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-6)

static void test_by_hand(void **state)
{
    (void)state;
    struct neighbours *n = build(0, neighbours_defaults());
    double s[ITEMS];
    static const int32_t popularity[] = {3, 3, 2, 1, 1, 1};
    assert_memory_equal(neighbours_popularity(n), popularity, sizeof popularity);
    const int32_t one[] = {0}, two[] = {4, 0};
    neighbours_score(n, one, 1, s); /* 0 -> 1 twice at 1; -> 2 at 2 and at 1; -> 3 at 2; -> 5 at 2; count(0) = 3 */
    assert_near(s[0], 0);
    assert_near(s[1], 2 / sqrt(3));
    assert_near(s[2], 1.5 / sqrt(3));
    assert_near(s[3], 0.5 / sqrt(3));
    assert_near(s[4], 0);
    assert_near(s[5], 0.5 / sqrt(3));
    neighbours_score(n, two, 2, s); /* and half of what 4 says: 0 at 1, 1 at 2, 5 at 3 */
    assert_near(s[0], 0.5);
    assert_near(s[1], 2 / sqrt(3) + 0.25);
    assert_near(s[5], 0.5 / sqrt(3) + 0.5 / 3);
    neighbours_score(n, NULL, 0, s);
    for (int i = 0; i < ITEMS; i++)
        assert_near(s[i], 0);
    neighbours_free(n);
}

static void test_held_out_items_do_not_train(void **state)
{
    (void)state;
    struct neighbours *n = build(2, neighbours_defaults());
    static const int32_t popularity[] = {2 + 1, 0, 0, 0, 1, 0};
    double s[ITEMS];
    const int32_t history[] = {4};
    assert_memory_equal(neighbours_popularity(n), popularity, sizeof popularity);
    neighbours_score(n, history, 1, s);
    assert_near(s[0], 1);
    assert_near(s[1], 0);
    neighbours_free(n);
}

static void test_options(void **state)
{
    (void)state;
    struct neighbours *n = build(0, (struct neighbours_options){.window = 1, .x = 1, .y = 1, .decay = 0});
    const int32_t history[] = {4, 0};
    double s[ITEMS];
    neighbours_score(n, history, 2, s);
    assert_near(s[0], 0); /* decay 0: only the newest item speaks */
    assert_near(s[1], 2.0 / 9);
    assert_near(s[2], 1.0 / 6);
    assert_near(s[3], 0); /* two places after 0: outside the window */
    neighbours_free(n);
}

static void test_ranks(void **state)
{
    (void)state;
    const char *const ids[] = {"d10", "d9", "a", "z"};
    static const int32_t expected[] = {2, 1, 3, 0};
    const double scores[] = {1, 1, 2, 0};
    int32_t id_rank[4];
    neighbours_id_ranks(id_rank, ids, 4);
    assert_memory_equal(id_rank, expected, sizeof expected);
    struct neighbours_ranking r = {.scores = scores, .id_rank = id_rank, .count = 4};
    assert_int_equal(neighbours_rank(&r, 2), 1);
    assert_int_equal(neighbours_rank(&r, 1), 2);
    assert_int_equal(neighbours_rank(&r, 0), 3);
    assert_int_equal(neighbours_rank(&r, 3), 4);
    const int32_t history[] = {2, 1, 2, 3};
    r.left_out = history;
    r.left_out_count = 4;
    assert_int_equal(neighbours_rank(&r, 0), 1); /* an item that occurs twice is left out once */
    assert_int_equal(neighbours_rank(&r, 3), 2); /* the target itself stays */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_held_out_items_do_not_train),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
