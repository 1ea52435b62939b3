/* test_json_gate.c: the strict pass over request bodies: what it refuses, where it says so, and what it records. */
#include "../../server/json_gate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct json_limits limits = {.depth = 32, .values = 1000, .span_key = "attributes", .span_depth = 3};

static int gate(const char *text, size_t size, struct err *e)
{
    return json_gate(text, size, &limits, NULL, e);
}

static void takes_what_is_valid(void **state)
{
    static const char *const valid[] = {
        "{}",
        "[]",
        "0",
        "-0",
        "-1.5e+10",
        "\"\"",
        "true",
        "false",
        "null",
        " [1 , 2 ] ",
        "{\"a\":{\"a\":{}}}",
        "\"\\ud83d\\ude00\"",
        "\"\\u0001\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "[[],{},[{}]]",
        "{\"a\":1,\"A\":2,\"\":3}",
        "1E-400",
        "\"\x7f\"",
    };
    (void)state;
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        struct err e = {0};
        if (gate(valid[i], strlen(valid[i]), &e))
            fail_msg("%s: %s", valid[i], e.message);
    }
}

static void refuses_and_names_the_byte(void **state)
{
    static const struct {
        const char *text;
        int offset;
    } invalid[] = {
        {"", 0},
        {"  ", 2},
        {"[1,]", 3},
        {"{\"a\":1,}", 7},
        {"{\"a\" 1}", 5},
        {"{a:1}", 1},
        {"[01]", 1},
        {"[-]", 2},
        {"[1.]", 3},
        {"[1e]", 3},
        {"[.5]", 1},
        {"[+1]", 1},
        {"1e400", 0},
        {"nul", 0},
        {"[tru]", 1},
        {"\"a", 0},
        {"\"\t\"", 1},
        {"\"\\x\"", 1},
        {"\"\\u12g4\"", 5},
        {"\"\\u0000\"", 1},
        {"\"\\ud800\"", 1},
        {"\"\\udc00\"", 1},
        {"\"\\ud800\\u0041\"", 1},
        {"\"\xff\"", 1},
        {"\"\xc0\x80\"", 1},
        {"\"\xed\xa0\x80\"", 1},
        {"\"\xf5\x80\x80\x80\"", 1},
        {"\xef\xbb\xbf{}", 0},
        {"{} x", 3},
        {"[1 2]", 3},
        {"{\"a\":1,\"a\":2}", 7},
        {"{\"a\":1,\"\\u0061\":2}", 7},
        {"[{\"b\":1,\"c\":{\"b\":1,\"b\":2}}]", 19},
        {"]", 0},
        {"[}", 1},
        {"{]", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        struct err e = {0};
        char want[32];
        snprintf(want, sizeof want, "byte %d:", invalid[i].offset);
        assert_int_equal(gate(invalid[i].text, strlen(invalid[i].text), &e), -1);
        if (strncmp(e.message, want, strlen(want)))
            fail_msg("%s: want %s, got %s", invalid[i].text, want, e.message);
        assert_int_equal(e.code, ERR_DATA);
    }
}

static void refuses_nul_bytes(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(gate("{}\0", 3, &e), -1);
    assert_int_equal(gate("\"a\0b\"", 5, &e), -1);
    assert_int_equal(gate("\0", 1, &e), -1);
}

static void bounds_depth_and_values(void **state)
{
    char text[5000];
    struct err e = {0};
    (void)state;
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    assert_int_equal(gate(text, 66, &e), -1);
    assert_non_null(strstr(e.message, "32"));
    assert_int_equal(gate(text + 1, 64, &e), 0);
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < 1000; i++) {
        text[n++] = '1';
        text[n++] = ',';
    }
    text[n - 1] = ']';
    text[n] = 0;
    assert_int_equal(gate(text, n, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
}

static void many_keys_stay_quick(void **state)
{
    struct json_limits wide = {.depth = 4, .values = 1000000};
    struct str s = {0};
    struct err e = {0};
    (void)state;
    str_puts(&s, "{");
    for (int i = 0; i < 200000; i++)
        str_printf(&s, "%s\"k%d\":0", i ? "," : "", i);
    str_puts(&s, ",\"k777\":1}");
    assert_int_equal(json_gate(s.data, s.size, &wide, NULL, &e), -1);
    assert_non_null(strstr(e.message, "twice"));
    str_free(&s);
}

static void records_spans_and_compacts(void **state)
{
    static const char text[] = "{\"documents\":[{\"id\":\"a\",\"attributes\": { \"x\" : [1.10, \"a \\\" b\"] } },{\"attributes\":{}},"
                               "{\"id\":{\"attributes\":1}}]}";
    struct json_spans spans = {0};
    struct str out = {0};
    struct err e = {0};
    (void)state;
    assert_int_equal(json_gate(text, strlen(text), &limits, &spans, &e), 0);
    assert_int_equal(spans.count, 2);
    json_compact(text, spans.at[0], &out);
    assert_string_equal(out.data, "{\"x\":[1.10,\"a \\\" b\"]}");
    str_clear(&out);
    json_compact(text, spans.at[1], &out);
    assert_string_equal(out.data, "{}");
    str_free(&out);
    json_spans_free(&spans);
}

static void reads_no_byte_beyond_a_cut(void **state)
{
    static const char text[] = "{\"a\":[1.5e3,true,\"\\ud83d\\ude00\xe2\x82\xac\"],\"b\":null}";
    (void)state;
    for (size_t n = 0; n < strlen(text); n++) {
        char *copy = malloc(n + 1); /* the sanitizer watches its end */
        struct err e = {0};
        memcpy(copy, text, n);
        copy[n] = 0;
        assert_int_equal(gate(copy, n, &e), -1);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_valid),        cmocka_unit_test(refuses_and_names_the_byte),
        cmocka_unit_test(refuses_nul_bytes),          cmocka_unit_test(bounds_depth_and_values),
        cmocka_unit_test(many_keys_stay_quick),       cmocka_unit_test(records_spans_and_compacts),
        cmocka_unit_test(reads_no_byte_beyond_a_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
