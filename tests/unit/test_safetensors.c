/* test_safetensors.c: the safetensors reader against hostile bytes, its values, and the writer against the reader.
 *
 * Hostile inputs are given as bytes on the heap of exactly their size, so that AddressSanitizer sees a read of one byte too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/model/safetensors.h"

/* A file image: header text and `data` bytes of 0, 1, 2, ... behind it. */
static unsigned char *image(const char *header, size_t data, size_t *size)
{
    size_t n = strlen(header);
    unsigned char *b = xmalloc(8 + n + data);
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(b + 8, header, n);
    for (size_t i = 0; i < data; i++)
        b[8 + n + i] = (unsigned char)i;
    *size = 8 + n + data;
    return b;
}

static int accepted(const char *header, size_t data, struct err *e)
{
    size_t size;
    unsigned char *b = image(header, data, &size);
    struct safetensors *s = safetensors_parse(b, size, "memory", e);
    int ok = s != NULL;
    safetensors_close(s);
    free(b);
    return ok;
}

static const char two[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                          "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}  ";

static void test_reads_what_is_there(void **state)
{
    (void)state;
    size_t size;
    struct err e = {0};
    unsigned char *b = image(two, 11, &size);
    struct safetensors *s = safetensors_parse(b, size, "memory", &e);
    assert_non_null(s);
    assert_int_equal(safetensors_count(s), 2);
    const struct safetensor *t = safetensors_find(s, "b");
    int32_t values[3];
    assert_non_null(t);
    assert_int_equal(t->dims, 1);
    assert_int_equal(t->elements, 3);
    assert_int_equal(safetensors_ints(s, t, values, &e), 0);
    assert_int_equal(values[0], 8);
    assert_int_equal(values[2], 10);
    assert_null(safetensors_find(s, "c"));
    assert_int_equal(safetensors_ints(s, safetensors_find(s, "a"), values, &e), -1);
    assert_non_null(strstr(e.message, "memory: tensor a"));
    safetensors_close(s);
    free(b);
}

static void test_every_cut_is_an_error(void **state)
{
    (void)state;
    size_t size;
    unsigned char *whole = image(two, 11, &size);
    for (size_t n = 0; n < size; n++) {
        struct err e = {0};
        unsigned char *cut = xmalloc(n);
        memcpy(cut, whole, n);
        assert_null(safetensors_parse(cut, n, "cut", &e));
        assert_int_equal(e.code, ERR_DATA);
        assert_non_null(strstr(e.message, "cut"));
        free(cut);
    }
    free(whole);
}

/* Every single bit of the header flipped: accepted or refused, never a crash. */
static void test_flipped_bits(void **state)
{
    (void)state;
    size_t size;
    unsigned char *b = image(two, 11, &size);
    for (size_t bit = 0; bit < 8 * (size - 11); bit++) {
        struct err e = {0};
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
        safetensors_close(safetensors_parse(b, size, "flipped", &e));
        b[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(b);
}

#define TENSOR(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } bad[] = {
        {"[]", 0, "begin with {"},
        {" {}", 0, "begin with {"},
        {"{} x", 0, "after the header"},
        {"{\"a\":1}", 0, "expected {"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", 4, "overlap"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[2,6]") "}", 6, "overlap"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[8,12]") "}", 12, "gap"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, "twice"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 8, "belong to no tensor"},
        {"{" TENSOR("a", "F32", "[1]", "[0,8]") "}", 8, "need 4 bytes"},
        {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 8, "outside the data"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 4, "outside the data"},
        {"{" TENSOR("a", "F32", "[4611686018427387904,4]", "[0,0]") "}", 0, "overflows"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "overflows"},
        {"{" TENSOR("a", "F32", "[4611686018427387904]", "[0,0]") "}", 0, "overflows"},
        {"{" TENSOR("a", "F32", "[99999999999999999999]", "[0,0]") "}", 0, "2^63"},
        {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, "whole number"},
        {"{" TENSOR("a", "F32", "[1.0]", "[0,4]") "}", 4, "expected , or ]"},
        {"{" TENSOR("a", "F32", "[01]", "[0,4]") "}", 4, "whole number"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "too many"},
        {"{" TENSOR("a", "F31", "[1]", "[0,4]") "}", 4, "F31"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4,8]") "}", 4, "too many"},
        {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4, "expected 2"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "unknown key"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "expected a string"},
        {"{" TENSOR("\xff", "F32", "[1]", "[0,4]") "}", 4, "UTF-8"},
        {"{" TENSOR("\\u0000", "F32", "[1]", "[0,4]") "}", 4, "escape"},
        {"{" TENSOR("\\ud800", "F32", "[1]", "[0,4]") "}", 4, "surrogate"},
        {"{" TENSOR("\\x", "F32", "[1]", "[0,4]") "}", 4, "escape"},
        {"{" TENSOR("a\n", "F32", "[1]", "[0,4]") "}", 4, "control"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") ",}", 4, "expected a string"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        if (accepted(bad[i].header, bad[i].data, &e) || !strstr(e.message, bad[i].says))
            fail_msg("header %s: message \"%s\", expected \"%s\"", bad[i].header, e.message, bad[i].says);
    }
}

static void test_accepted(void **state)
{
    (void)state;
    struct err e = {0};
    assert_true(accepted("{}", 0, &e));
    assert_true(accepted("{" TENSOR("s", "F32", "[]", "[0,4]") "}", 4, &e));
    assert_true(accepted("{" TENSOR("e", "F32", "[0,7]", "[0,0]") "," TENSOR("s", "I64", "[1]", "[0,8]") "}", 8, &e));
    assert_true(accepted("{" TENSOR("b", "F32", "[1]", "[4,8]") "," TENSOR("a", "F32", "[1]", "[0,4]") "}", 8, &e));
    assert_true(accepted("{" TENSOR("\\u00e9\\ud83d\\ude00", "F32", "[1]", "[0,4]") "}", 4, &e));
}

static void test_huge_header(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63, 9};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct err e = {0};
        unsigned char *b = xcalloc(1, 16);
        memcpy(b, &sizes[i], 8);
        assert_null(safetensors_parse(b, 16, "huge", &e));
        assert_non_null(strstr(e.message, "header of"));
        free(b);
    }
}

static void test_missing_file(void **state)
{
    (void)state;
    struct err e = {0};
    assert_null(safetensors_open("/nonexistent/model.safetensors", &e));
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_null(safetensors_open("/", &e));
}

/* Values of every bit pattern class: zero, subnormal, normal, infinity, NaN. */
static void test_halves(void **state)
{
    (void)state;
    static const uint16_t bits[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x3555};
    static const float f16[] = {0, -0.0f, 0x1p-24f, 0x1.ff8p-15f, 0x1p-14f, 1, -2, 65504, __builtin_inff(), -__builtin_inff(), 0x1.554p-2f};
    static const uint16_t brain[] = {0x3f80, 0xc000, 0x7f80, 0x0001, 0x3eab};
    static const float bf16[] = {1, -2, __builtin_inff(), 0x1p-133f, 0x1.56p-2f};
    float out[11];
    struct err e = {0};
    char path[] = P_tmpdir "/test_safetensors_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const struct safetensors_entry entries[] = {{"b", ST_BF16, 1, {5}}, {"h", ST_F16, 1, {11}}};
    struct safetensors_out *o = safetensors_create(path, entries, 2, &e);
    assert_non_null(o);
    assert_int_equal(safetensors_put(o, brain, sizeof brain, &e), 0);
    assert_int_equal(safetensors_put(o, bits, sizeof bits, &e), 0);
    assert_int_equal(safetensors_commit(o, &e), 0);
    struct safetensors *s = safetensors_open(path, &e);
    assert_non_null(s);
    assert_int_equal(safetensors_floats(s, safetensors_find(s, "h"), out, &e), 0);
    assert_memory_equal(out, f16, sizeof f16);
    assert_int_equal(safetensors_floats(s, safetensors_find(s, "b"), out, &e), 0);
    assert_memory_equal(out, bf16, sizeof bf16);
    safetensors_close(s);
    unlink(path);
}

static void test_integers_must_fit(void **state)
{
    (void)state;
    struct err e = {0};
    int32_t out[1];
    static const struct {
        const char *dtype, *size;
        size_t bytes;
        int fits;
    } list[] = {{"I64", "8", 8, 0}, {"U64", "8", 8, 0}, {"U32", "4", 4, 0}, {"I32", "4", 4, 1}, {"I8", "1", 1, 1}, {"I64", "8", 8, 1}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char header[128];
        size_t size;
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%s]}}", list[i].dtype, list[i].size);
        unsigned char *b = image(header, list[i].bytes, &size);
        memset(b + size - list[i].bytes, list[i].fits ? 0xff : 0x80, list[i].bytes);
        struct safetensors *s = safetensors_parse(b, size, "ints", &e);
        assert_non_null(s);
        assert_int_equal(safetensors_ints(s, safetensors_at(s, 0), out, &e), list[i].fits ? 0 : -1);
        if (list[i].fits)
            assert_int_equal(out[0], -1);
        safetensors_close(s);
        free(b);
    }
}

static void write_twice(const char *path, const char *name, struct err *e)
{
    const float values[] = {1.5f, -2, 3};
    const struct safetensors_entry entry = {name, ST_F32, 2, {1, 3}};
    struct safetensors_out *o = safetensors_create(path, &entry, 1, e);
    assert_non_null(o);
    assert_int_equal(safetensors_put(o, values, 4, e), 0);
    assert_int_equal(safetensors_put(o, values + 1, 8, e), 0);
    assert_int_equal(safetensors_commit(o, e), 0);
}

static void test_writes_what_it_reads(void **state)
{
    (void)state;
    struct err e = {0};
    const char *name = "odd \"name\"\\\t\xc3\xa9";
    float out[3];
    char folder[] = P_tmpdir "/test_safetensors_XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *a = path_join(folder, "a"), *b = path_join(folder, "b");
    write_twice(a, name, &e);
    write_twice(b, name, &e);
    size_t na, nb;
    char *xa = file_read(a, 0, &na, &e), *xb = file_read(b, 0, &nb, &e);
    assert_int_equal(na, nb);
    assert_memory_equal(xa, xb, na);
    assert_int_equal((na - 12) % 8, 0);
    struct safetensors *s = safetensors_open(a, &e);
    assert_non_null(s);
    const struct safetensor *t = safetensors_find(s, name);
    assert_non_null(t);
    assert_int_equal(safetensors_floats(s, t, out, &e), 0);
    assert_true(out[0] == 1.5f && out[1] == -2 && out[2] == 3);
    safetensors_close(s);
    free(xa);
    free(xb);
    free(a);
    free(b);
    assert_int_equal(file_remove_tree(folder, &e), 0);
}

static void test_cancel_leaves_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    char folder[] = P_tmpdir "/test_safetensors_XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = path_join(folder, "a");
    const struct safetensors_entry entry = {"a", ST_F32, 1, {2}};
    safetensors_cancel(safetensors_create(path, &entry, 1, &e));
    assert_false(file_exists(path));
    assert_int_equal(rmdir(folder), 0);
    assert_null(safetensors_create(path, &entry, 1, &e));
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_there), cmocka_unit_test(test_every_cut_is_an_error), cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_refused),             cmocka_unit_test(test_accepted),              cmocka_unit_test(test_huge_header),
        cmocka_unit_test(test_missing_file),        cmocka_unit_test(test_halves),                cmocka_unit_test(test_integers_must_fit),
        cmocka_unit_test(test_writes_what_it_reads), cmocka_unit_test(test_cancel_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
