/* test_problem.c: problem details, JSON writing, and the header gate's pure functions. */
#include "../../server/http_gate.h"
#include "../../server/json_gate.h"
#include "../../server/json_out.h"
#include "../../server/problem.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void expect_json(const struct str *s)
{
    struct json_limits limits = {.depth = 32, .values = 100000};
    struct err e = {0};
    if (json_gate(s->data, s->size, &limits, NULL, &e))
        fail_msg("%s in %s", e.message, s->data);
}

static void every_code_has_a_problem(void **state)
{
    (void)state;
    for (int c = ERR_USAGE; c <= ERR_INTERRUPTED; c++) {
        const struct problem_kind *kind = problem_find(problem_code((enum err_code)c));
        assert_non_null(kind);
        assert_int_equal(kind->status, problem_status((enum err_code)c));
    }
    assert_int_equal(problem_status(ERR_INVALID), 422);
    assert_int_equal(problem_status(ERR_NO_SPACE), 507);
    assert_int_equal(problem_status(ERR_DEADLINE), 504);
    assert_int_equal(problem_status(ERR_OS), 500);
    assert_null(problem_find("nothing"));
}

static void problems_are_json_with_all_fields(void **state)
{
    struct arena a;
    struct problems p;
    struct str out = {0};
    (void)state;
    arena_init(&a, 0);
    problems_init(&p, &a);
    problem_add(&p, problem_pointer(&a, "/documents/3", "a/b~\"c"), "unknown_field", "no \"%s\"\n", "field");
    problem_add(&p, "/limit", "out_of_range", "limit is %d; 1..%d is allowed", 0, 1000);
    problem_write(&out, 422, "invalid_field", "2 fields", "id-1", &p);
    expect_json(&out);
    assert_non_null(strstr(out.data, "\"type\":\"/problems/invalid_field\""));
    assert_non_null(strstr(out.data, "\"status\":422"));
    assert_non_null(strstr(out.data, "/documents/3/a~1b~0\\\"c"));
    assert_non_null(strstr(out.data, "limit is 0; 1..1000 is allowed"));
    str_free(&out);
    arena_free(&a);
}

static void too_many_field_errors_are_counted(void **state)
{
    struct arena a;
    struct problems p;
    struct str out = {0};
    (void)state;
    arena_init(&a, 0);
    problems_init(&p, &a);
    for (int i = 0; i < 1500; i++)
        problem_add(&p, "/x", "wrong_type", "number %d", i);
    problem_write(&out, 422, "invalid_field", "many", "id", &p);
    expect_json(&out);
    assert_int_equal(p.count, 1500);
    assert_non_null(strstr(out.data, "\"errors_left_out\":500"));
    str_free(&out);
    arena_free(&a);
}

static void strings_and_numbers_are_json(void **state)
{
    struct str out = {0};
    (void)state;
    json_string(&out, "a\"\\\n\t\x01\x7f\xc3\xa9\xff\xed\xa0\x80z");
    expect_json(&out);
    assert_string_equal(out.data, "\"a\\\"\\\\\\n\\t\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
    str_clear(&out);
    json_number(&out, -1.2345678912345);
    assert_string_equal(out.data, "-1.23456789");
    str_clear(&out);
    json_number(&out, INFINITY);
    assert_string_equal(out.data, "null");
    str_clear(&out);
    str_puts(&out, "{");
    json_key(&out, "a");
    json_bool(&out, true);
    json_key(&out, "b");
    json_string(&out, NULL);
    str_puts(&out, "}");
    assert_string_equal(out.data, "{\"a\":true,\"b\":null}");
    str_free(&out);
}

static void percent_decoding_is_strict(void **state)
{
    char out[64];
    (void)state;
    assert_true(percent_decode("a%2Fb%20c", 9, out));
    assert_string_equal(out, "a/b c");
    assert_true(percent_decode("%c3%A9", 6, out));
    assert_false(percent_decode("a%", 2, out));
    assert_false(percent_decode("a%4", 3, out));
    assert_false(percent_decode("a%zz", 4, out));
    assert_false(percent_decode("a%00", 4, out));
    assert_false(percent_decode("%ff", 3, out));
    assert_true(percent_decode("a+b", 3, out));
    assert_string_equal(out, "a+b");
}

static int gate_status(const char *const headers[][2], int count, const char *version, const char *method, const char *target)
{
    struct header_gate g;
    header_gate_init(&g);
    for (int i = 0; i < count; i++)
        header_gate_add(&g, headers[i][0], strlen(headers[i][0]), headers[i][1], strlen(headers[i][1]));
    header_gate_end(&g, version, method, target);
    return g.status;
}

static void header_gate_rules(void **state)
{
    static const struct {
        const char *headers[3][2];
        int count;
        const char *version, *method, *target;
        int status;
    } rows[] = {
        {{{"Host", "x:80"}}, 1, "HTTP/1.1", "GET", "/a?b", 0},
        {{{"host", "[::1]"}}, 1, "HTTP/1.1", "GET", "/", 0},
        {{{"x", "y"}}, 1, "HTTP/1.0", "GET", "/", 0},
        {{{"x", "y"}}, 1, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "x"}, {"HOST", "x"}}, 2, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "a b"}}, 1, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "[::1"}}, 1, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "x:123456"}}, 1, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "x"}, {"Content-Length", "5"}, {"content-length", "5"}}, 3, "HTTP/1.1", "POST", "/", 400},
        {{{"Host", "x"}, {"Content-Length", "5a"}}, 2, "HTTP/1.1", "POST", "/", 400},
        {{{"Host", "x"}, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}, 3, "HTTP/1.1", "POST", "/", 400},
        {{{"Host", "x"}, {"Transfer-Encoding", "CHUNKED"}}, 2, "HTTP/1.1", "POST", "/", 0},
        {{{"Host", "x"}, {"Transfer-Encoding", "gzip"}}, 2, "HTTP/1.1", "POST", "/", 501},
        {{{"Host", "x"}, {"Transfer-Encoding", "chunked"}}, 2, "HTTP/1.0", "POST", "/", 400},
        {{{"Host", "x"}, {"A b", "c"}}, 2, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "x"}, {"A", "c\x01"}}, 2, "HTTP/1.1", "GET", "/", 400},
        {{{"Host", "x"}}, 1, "HTTP/2.0", "GET", "/", 505},
        {{{"Host", "x"}}, 1, "HTTP/1.1", "G T", "/", 400},
        {{{"Host", "x"}}, 1, "HTTP/1.1", "GET", "a", 400},
        {{{"Host", "x"}}, 1, "HTTP/1.1", "GET", "/\x7f", 400},
        {{{"Host", "x"}, {"Expect", "cake"}}, 2, "HTTP/1.1", "POST", "/", 417},
        {{{"Host", "x"}, {"Content-Encoding", "gzip"}}, 2, "HTTP/1.1", "POST", "/", 415},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int got = gate_status(rows[i].headers, rows[i].count, rows[i].version, rows[i].method, rows[i].target);
        if (got != rows[i].status)
            fail_msg("row %zu: got %d, want %d", i, got, rows[i].status);
    }
    assert_true(request_id_valid("a.B-9_"));
    assert_false(request_id_valid(""));
    assert_false(request_id_valid("a b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_problem),          cmocka_unit_test(problems_are_json_with_all_fields),
        cmocka_unit_test(too_many_field_errors_are_counted), cmocka_unit_test(strings_and_numbers_are_json),
        cmocka_unit_test(percent_decoding_is_strict),        cmocka_unit_test(header_gate_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
