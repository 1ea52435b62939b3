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

/* The short list says what the scores of all items say. */
static void test_best(void **state)
{
    (void)state;
    struct neighbours *n = build(0, neighbours_defaults());
    const int32_t histories[][3] = {{0, -1, -1}, {4, 0, -1}, {1, 2, 3}, {9, 0, 4}, {-5, 5, 5}};
    for (size_t k = 0; k < sizeof histories / sizeof *histories; k++) {
        double s[ITEMS];
        struct neighbours_hit hits[ITEMS];
        int32_t known[3], length = 0, expected = 0;
        for (int i = 0; i < 3; i++)
            if (histories[k][i] >= 0 && histories[k][i] < ITEMS)
                known[length++] = histories[k][i];
        neighbours_score(n, known, length, s);
        for (int i = 0; i < length; i++)
            s[known[i]] = 0;
        for (int i = 0; i < ITEMS; i++)
            expected += s[i] > 0;
        int32_t found = neighbours_best(n, known, length, hits, ITEMS);
        assert_int_equal(found, expected);
        for (int32_t i = 0; i < found; i++) {
            assert_near(hits[i].score, s[hits[i].item]);
            assert_true(i == 0 || hits[i - 1].score > hits[i].score || (hits[i - 1].score == hits[i].score && hits[i - 1].item < hits[i].item));
        }
        assert_int_equal(neighbours_best(n, known, length, hits, 1), expected > 0);
    }
    struct neighbours_hit hits[ITEMS], alone[ITEMS];
    const int32_t unknown[] = {-3, 99, 0}; /* age counts, what is unknown does not */
    assert_int_equal(neighbours_best(n, unknown, 3, hits, ITEMS), neighbours_best(n, unknown + 2, 1, alone, ITEMS));
    assert_near(hits[0].score, alone[0].score);
    neighbours_free(n);
}

/* Written and read again it is the same; any length but its own, and every field out of its bounds, is refused. */
static void test_file(void **state)
{
    (void)state;
    struct neighbours *n = build(0, neighbours_defaults());
    struct err e = {0};
    struct str file = {0}, again = {0};
    neighbours_write(n, &file);
    assert_int_equal(file.size, neighbours_bytes(n));
    struct neighbours *back = neighbours_read(file.data, file.size, ITEMS, &e);
    assert_non_null(back);
    neighbours_write(back, &again);
    assert_int_equal(again.size, file.size);
    assert_memory_equal(again.data, file.data, file.size);
    for (size_t size = 0; size < file.size; size++)
        assert_null(neighbours_read(file.data, size, ITEMS, &e));
    assert_null(neighbours_read(file.data, file.size, ITEMS + 1, &e));
    int refused = 0;
    for (size_t at = 0; at < file.size; at++)
        for (int bit = 7; bit >= 6; bit--) { /* the high bits of each byte: signs, exponents, sizes */
            file.data[at] = (char)(file.data[at] ^ 1 << bit);
            struct neighbours *damaged = neighbours_read(file.data, file.size, ITEMS, &e);
            refused += damaged == NULL;
            if (damaged) { /* what is accepted can be used */
                struct neighbours_hit hits[ITEMS];
                const int32_t all[] = {0, 1, 2, 3, 4, 5};
                neighbours_best(damaged, all, 2, hits, ITEMS);
            }
            neighbours_free(damaged);
            file.data[at] = (char)(file.data[at] ^ 1 << bit);
        }
    assert_true(refused > 150);
    str_free(&file);
    str_free(&again);
    neighbours_free(back);
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
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
