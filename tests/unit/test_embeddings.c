/* test_embeddings.c: own embeddings as .npy and .safetensors, their order, and files that lie about themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/data/embeddings.h"
#include "../../core/model/safetensors.h"
#include "../../core/text/document.h"

static char folder[64], path[128], ids[128];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/semindex-embeddings-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/e", folder);
    snprintf(ids, sizeof ids, "%s/ids", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

/* A .npy file of this header and these bytes. */
static void put_npy(int version, const char *header, const void *data, size_t size)
{
    struct str s = {0};
    size_t n = strlen(header);
    const char head[] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y', (char)version, 0};
    const char length[] = {(char)n, (char)(n >> 8), 0, 0};
    str_append(&s, head, 8);
    str_append(&s, length, version == 1 ? 2 : 4);
    str_append(&s, header, n);
    str_append(&s, data, size);
    assert_int_equal(file_write(path, s.data, s.size, NULL), 0);
    str_free(&s);
}

static void test_npy(void **state)
{
    (void)state;
    const float f[] = {1, -2, 0.5f, 4, 5, 6};
    const uint16_t h[] = {0x3c00, 0xc000, 0x3800, 0x0001, 0x7bff, 0x8000};
    struct embeddings m;
    put_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", f, sizeof f);
    assert_int_equal(embeddings_read(&m, path, NULL, NULL), 0);
    assert_int_equal(m.count, 2);
    assert_int_equal(m.width, 3);
    assert_memory_equal(m.values, f, sizeof f);
    embeddings_free(&m);
    put_npy(2, "{\"shape\":(3,2),\"descr\":\"<f2\",\"fortran_order\":False}", h, sizeof h);
    assert_int_equal(embeddings_read(&m, path, NULL, NULL), 0);
    const float want[] = {1, -2, 0.5f, 0x1p-24f, 65504, -0.0f};
    assert_int_equal(m.count, 3);
    assert_memory_equal(m.values, want, sizeof want);
    embeddings_free(&m);
}

static void test_npy_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header, *says;
    } cases[] = {{"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }", "dtype '<f8'"},
                 {"{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2), }", "dtype '>f4'"},
                 {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", "Fortran order"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "two dimensions"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 1), }", "two dimensions"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", "8 bytes of values; its header (2 rows of 2) needs 16"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 2), }", "99999999999 rows"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2), }", "two dimensions"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0), }", "rows of 0 numbers"},
                 {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), 'x': 1}", "unknown key \"x\""},
                 {"{'descr': '<f4', 'fortran_order': False", "cannot be read"},
                 {"{'descr': '<f4", "names no dtype"},
                 {"", "cannot be read"}};
    const float f[] = {1, 2};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct embeddings m;
        struct err e = {0};
        put_npy(1, cases[i].header, f, sizeof f);
        assert_int_equal(embeddings_read(&m, path, NULL, &e), -1);
        if (!strstr(e.message, cases[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].header, e.message, cases[i].says);
        assert_null(m.values);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    const uint16_t h[] = {0x3c00, 0x3c00, 0x3c00, 0x7e00};
    struct embeddings m;
    struct err e = {0};
    put_npy(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }", h, sizeof h);
    assert_int_equal(embeddings_read(&m, path, NULL, &e), -1);
    assert_non_null(strstr(e.message, "row 1, column 1 (from 0) is not a finite number"));
}

static void test_safetensors(void **state)
{
    (void)state;
    const struct safetensors_entry entries[] = {{"other", ST_F32, 1, {2}}, {"embeddings", ST_F32, 2, {2, 2}}};
    const float f[] = {9, 9, 1, 2, 3, 4};
    struct safetensors_out *o = safetensors_create(path, entries, 2, NULL);
    struct embeddings m;
    assert_int_equal(safetensors_put(o, f, sizeof f, NULL), 0);
    assert_int_equal(safetensors_commit(o, NULL), 0);
    assert_int_equal(embeddings_read(&m, path, NULL, NULL), 0);
    assert_int_equal(m.width, 2);
    assert_memory_equal(m.values, f + 2, 16);
    embeddings_free(&m);
    struct err e = {0};
    assert_int_equal(file_write(path, "nothing", 7, NULL), 0);
    assert_int_equal(embeddings_read(&m, path, NULL, &e), -1);
    assert_true(e.message[0] != 0);
}

static int ordered(struct embeddings *m, const char *list, struct err *e)
{
    static const struct document documents[] = {{.id = "a"}, {.id = "b"}};
    const float f[] = {1, 2, 3};
    put_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }", f, sizeof f);
    assert_int_equal(embeddings_read(m, path, NULL, NULL), 0);
    if (list)
        assert_int_equal(file_write(ids, list, strlen(list), NULL), 0);
    const struct embeddings_order o = {.path = path, .ids_path = list ? ids : NULL, .documents = documents, .corpus = 2, .used = 2};
    int rc = embeddings_order(m, &o, e);
    if (rc < 0)
        embeddings_free(m);
    return rc;
}

static void test_order(void **state)
{
    (void)state;
    struct embeddings m;
    struct err e = {0};
    assert_int_equal(ordered(&m, "b\nx\na\n", &e), 0);
    assert_int_equal(m.count, 2);
    assert_true(m.values[0] == 3 && m.values[1] == 1);
    embeddings_free(&m);
    assert_int_equal(ordered(&m, NULL, &e), -1);
    assert_non_null(strstr(e.message, "3 rows; the corpus has 2 documents"));
    assert_int_equal(ordered(&m, "b\nb\na\n", &e), -1);
    assert_non_null(strstr(e.message, "line 2: \"b\" is there twice"));
    assert_int_equal(ordered(&m, "b\na\n", &e), -1);
    assert_non_null(strstr(e.message, "2 ids"));
    assert_int_equal(ordered(&m, "b\ny\nx\n", &e), -1);
    assert_non_null(strstr(e.message, "1 of 2 documents have no embedding, the first is \"a\""));
}

/* Documents that are left out of the corpus leave their rows out. */
static void test_places(void **state)
{
    (void)state;
    static const struct document documents[] = {{.id = "b"}, {.id = "c"}};
    static const int32_t place[] = {1, 2};
    const float f[] = {1, 1, 2, 2, 3, 3}, wanted[] = {2, 2, 3, 3};
    struct embeddings m;
    struct err e = {0};
    put_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }", f, sizeof f);
    assert_int_equal(embeddings_read(&m, path, NULL, NULL), 0);
    const struct embeddings_order o = {.path = path, .documents = documents, .corpus = 3, .used = 2, .place = place};
    assert_int_equal(embeddings_order(&m, &o, &e), 0);
    assert_int_equal(m.count, 2);
    assert_memory_equal(m.values, wanted, sizeof wanted);
    embeddings_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npy), cmocka_unit_test(test_npy_refused), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_safetensors), cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_places)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
