/* test_trie.c: the trie against plain search over the rows it was built from, its refusals, and its size.
 *
 * Random IDs of every shape that production meets: a suffix alone, one to four learned positions, codes above 65,535 on one level only, IDs that
 * do not fit one 64-bit key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/retrieve/trie.h"

struct ids {
    uint32_t codes[400 * 4], document[400], n;
    int32_t positions;
};

static bool taken(const struct ids *s, const uint32_t *id)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (memcmp(s->codes + i * (uint32_t)s->positions, id, (size_t)s->positions * 4) == 0)
            return true;
    return false;
}

/* Up to `n` different random IDs, codes of position t below limits[t]. */
static struct ids draw(uint32_t n, int32_t positions, const uint32_t *limits, uint64_t seed)
{
    struct ids s = {.positions = positions};
    for (uint64_t draws = 0; s.n < n && draws < 4000; draws++) {
        uint32_t *id = s.codes + s.n * (uint32_t)positions;
        for (int32_t t = 0; t < positions; t++)
            id[t] = (uint32_t)(mix64(seed, draws * 16 + (uint64_t)t) % limits[t]);
        if (!taken(&s, id)) {
            s.document[s.n] = 1000 + s.n * 3;
            s.n++;
        }
    }
    return s;
}

static int compare_rows(const uint32_t *a, const uint32_t *b, int32_t positions)
{
    for (int32_t t = 0; t < positions; t++)
        if (a[t] != b[t])
            return a[t] < b[t] ? -1 : 1;
    return 0;
}

static uint32_t rows_below(const struct ids *s, const uint32_t *prefix, int32_t length)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        n += compare_rows(s->codes + i * (uint32_t)s->positions, prefix, length) == 0;
    return n;
}

/* The ID of a leaf, read down from the root by trie_children and trie_code alone. */
static void read_path(const struct trie_view *v, uint32_t leaf, uint32_t *id)
{
    uint32_t node = 0, from, to, below, end;
    for (int32_t level = 0; level < v->levels; level++) {
        trie_children(v, level - 1, node, &from, &to);
        for (node = from; node < to; node++) {
            trie_leaves(v, level, node, &below, &end);
            if (leaf >= below && leaf < end)
                break;
        }
        assert_true(node < to);
        id[level] = trie_code(v, level, node);
    }
}

static void compare_with_rows(const struct ids *s, const struct trie *t)
{
    const struct trie_view *v = trie_view_of(t);
    uint32_t before[4], id[4], node, from, to;
    assert_true(trie_sane(t));
    assert_int_equal(trie_count(t), s->n);
    for (uint32_t leaf = 0; leaf < s->n; leaf++) {
        read_path(v, leaf, id);
        assert_true(leaf == 0 || compare_rows(before, id, s->positions) < 0);
        memcpy(before, id, sizeof id);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t *row = s->codes + i * (uint32_t)s->positions;
        for (int32_t length = 1; length <= s->positions; length++) {
            assert_true(trie_find(t, row, length, &node));
            trie_leaves(v, length - 1, node, &from, &to);
            assert_int_equal(to - from, rows_below(s, row, length));
        }
        assert_int_equal(v->leaf_doc[node], s->document[i]);
        memcpy(id, row, (size_t)s->positions * 4);
        id[s->positions - 1] += 1;
        assert_int_equal(trie_find(t, id, s->positions, &node), rows_below(s, id, s->positions));
    }
}

static const struct {
    int32_t positions;
    uint32_t limits[4];
} shapes[] = {
    {1, {500}}, {2, {3, 200}}, {3, {7, 5, 30}}, {4, {4, 4, 4, 9}}, {3, {5, 200000, 3}}, {2, {70000, 70000}}, {4, {4294967295u, 3, 4294967295u, 4000000000u}},
};

static void test_random_ids(void **state)
{
    (void)state;
    struct err e = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint32_t n = 1; n <= 400; n = n * 5 + 2) {
            struct ids s = draw(n, shapes[i].positions, shapes[i].limits, 100 * i + n);
            struct trie *t = trie_build(s.codes, s.document, s.n, s.positions, &e);
            assert_non_null(t);
            compare_with_rows(&s, t);
            trie_free(t);
        }
}

static int compare_two(const void *a, const void *b)
{
    return compare_rows(a, b, 3);
}

static void test_sorted_rows_need_no_sort(void **state)
{
    (void)state;
    struct err e = {0};
    struct ids s = draw(300, 3, (const uint32_t[]){6, 6, 20}, 3);
    qsort(s.codes, s.n, 3 * sizeof *s.codes, compare_two);
    struct trie *a = trie_build(s.codes, s.document, s.n, 3, &e), *b = trie_build_sorted(s.codes, s.document, s.n, 3);
    assert_non_null(a);
    compare_with_rows(&s, b);
    assert_int_equal(trie_bytes(a), trie_bytes(b));
    for (int32_t l = 0; l < 3; l++)
        assert_int_equal(trie_view_of(a)->level[l].nodes, trie_view_of(b)->level[l].nodes);
    trie_free(a);
    trie_free(b);
}

static void test_empty(void **state)
{
    (void)state;
    struct err e = {0};
    uint32_t node, from, to, id[3] = {0, 0, 0};
    struct trie *t = trie_build(NULL, NULL, 0, 3, &e);
    assert_non_null(t);
    assert_int_equal(trie_count(t), 0);
    assert_true(trie_sane(t));
    assert_false(trie_find(t, id, 1, &node));
    trie_children(trie_view_of(t), -1, 0, &from, &to);
    assert_int_equal(from, to);
    trie_leaves(trie_view_of(t), -1, 0, &from, &to);
    assert_int_equal(from, to);
    trie_free(t);
}

static void test_equal_ids_are_refused_by_name(void **state)
{
    (void)state;
    struct err e = {0};
    const uint32_t codes[] = {5, 1, 0, 2, 9, 1, 5, 1, 0, 2, 9, 0}, document[] = {40, 41, 42, 43};
    assert_null(trie_build(codes, document, 4, 3, &e));
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, "40"));
    assert_non_null(strstr(e.message, "42"));
    assert_non_null(strstr(e.message, "5-1-0"));
}

static void test_codes_are_as_narrow_as_they_can_be(void **state)
{
    (void)state;
    struct err e = {0};
    const uint32_t narrow[] = {65535, 0}, wide[] = {65536, 0};
    struct trie *a = trie_build(narrow, NULL, 1, 2, &e), *b = trie_build(wide, NULL, 1, 2, &e);
    assert_false(trie_view_of(a)->level[0].wide);
    assert_true(trie_view_of(b)->level[0].wide);
    assert_false(trie_view_of(b)->level[1].wide);
    assert_int_equal(trie_code(trie_view_of(a), 0, 0), 65535);
    assert_int_equal(trie_code(trie_view_of(b), 0, 0), 65536);
    trie_free(a);
    trie_free(b);
}

static void test_size(void **state)
{
    (void)state;
    struct err e = {0};
    enum { N = 200000 };
    uint32_t *codes = xmalloc((size_t)N * 3 * sizeof *codes);
    for (uint32_t i = 0; i < N; i++) {
        codes[3 * i] = i % 512;
        codes[3 * i + 1] = (uint32_t)(mix64(1, i) % 512);
        codes[3 * i + 2] = i;
    }
    struct trie *t = trie_build(codes, NULL, N, 3, &e);
    assert_non_null(t);
    assert_true(trie_bytes(t) <= 16u * N);
    trie_free(t);
    free(codes);
}

/* ---- in a backend's memory ---- */

static int blocks; /* alive */
static void *count_alloc(size_t bytes)
{
    void *memory = bytes < (1 << 20) ? xcalloc(1, bytes) : NULL; /* a device of a megabyte */
    blocks += memory != NULL;
    return memory;
}
static void count_release(void *memory)
{
    blocks -= memory != NULL;
    free(memory);
}
static void copy_in(void *memory, const void *host, size_t bytes)
{
    memcpy(memory, host, bytes);
}

static struct trie *chain(uint32_t n)
{
    struct err e = {0};
    uint32_t *codes = xmalloc(((size_t)n + 1) * 2 * sizeof *codes);
    for (uint32_t i = 0; i < n; i++) {
        codes[2 * i] = i / 3;
        codes[2 * i + 1] = i * 7;
    }
    struct trie *t = trie_build(codes, NULL, n, 2, &e);
    free(codes);
    return t;
}

static void same_arrays(const struct trie *t, const struct trie_view *placed)
{
    const struct trie_view *v = trie_view_of(t);
    assert_ptr_not_equal(placed, v);
    assert_memory_equal(placed->resident, placed, sizeof *placed);
    assert_int_equal(placed->levels, v->levels);
    for (int32_t l = 0; l < v->levels; l++) {
        const struct trie_level *a = &v->level[l], *b = &placed->level[l];
        assert_true(a->nodes == b->nodes && a->wide == b->wide && a->codes != b->codes && !a->first == !b->first);
        assert_memory_equal(a->codes, b->codes, a->nodes * (a->wide ? 4 : 2));
        if (a->first)
            assert_memory_equal(a->first, b->first, (a->nodes + 1) * 4);
    }
}

static void test_upload(void **state)
{
    (void)state;
    struct err e = {0};
    const struct backend host = {.has_host_memory = true}, device = {.alloc = count_alloc, .release = count_release, .write = copy_in};
    struct trie *small = chain(900), *grown = chain(1000), *large = chain(20000), *huge = chain(200000), *none = chain(0);
    assert_ptr_equal(trie_upload(&host, small, NULL, &e), trie_view_of(small));
    trie_release(&host, trie_view_of(small));
    const struct trie_view *v = trie_upload(&device, small, NULL, &e), *block = v->resident;
    same_arrays(small, v);
    v = trie_upload(&device, grown, v, &e); /* fits where the smaller one lay */
    same_arrays(grown, v);
    assert_true(v->resident == block && blocks == 1);
    v = trie_upload(&device, large, v, &e);
    same_arrays(large, v);
    v = trie_upload(&device, none, v, &e);
    same_arrays(none, v);
    assert_int_equal(blocks, 1);
    assert_null(trie_upload(&device, huge, v, &e));
    assert_non_null(strstr(e.message, "200000 documents"));
    trie_release(&device, NULL);
    struct trie *all[] = {small, grown, large, huge, none};
    for (int i = 0; i < 5; i++)
        trie_free(all[i]);
    assert_int_equal(blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_ids),
        cmocka_unit_test(test_sorted_rows_need_no_sort),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_equal_ids_are_refused_by_name),
        cmocka_unit_test(test_codes_are_as_narrow_as_they_can_be),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_upload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
