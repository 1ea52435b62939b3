/* test_options.c: precedence, refusals with the nearest name, bounds, the config file, and the table's own consistency. */
#include "../../server/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int read_serve(struct options *o, struct err *e, int count, const char **argv)
{
    return options_read(o, CMD_SERVE, count, (char **)(uintptr_t)argv, e);
}

static void write_config(char path[64], const char *text)
{
    snprintf(path, 64, "%s/semindex-options-XXXXXX", P_tmpdir);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void the_table_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_def *d = &option_table[i];
        assert_non_null(d->name);
        assert_non_null(d->help);
        assert_non_null(d->group);
        assert_true(d->commands);
        assert_true(d->type != OPTION_INT || d->min <= d->max);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(d->name, option_table[j].name);
    }
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    char path[64];
    struct options o;
    struct err e = {0};
    (void)state;
    write_config(path, "# a comment\n\nmax-limit = 30\n  queue=31  \nmax-offset = 32\nd-model = 64\n");
    setenv("SEMINDEX_MAX_LIMIT", "40", 1);
    setenv("SEMINDEX_QUEUE", "41", 1);
    const char *argv[] = {"--max-limit", "50", "--config", path};
    assert_int_equal(read_serve(&o, &e, 4, argv), 0);
    assert_int_equal(option_int(&o, OPT_MAX_LIMIT), 50);
    assert_int_equal(o.values[OPT_MAX_LIMIT].origin, ORIGIN_FLAG);
    assert_int_equal(option_int(&o, OPT_QUEUE), 41);
    assert_int_equal(o.values[OPT_QUEUE].origin, ORIGIN_ENVIRONMENT);
    assert_int_equal(option_int(&o, OPT_MAX_OFFSET), 32);
    assert_int_equal(o.values[OPT_MAX_OFFSET].origin, ORIGIN_FILE);
    assert_int_equal(option_int(&o, OPT_MAX_DOCUMENTS), 1000);
    assert_int_equal(o.values[OPT_MAX_DOCUMENTS].origin, ORIGIN_DEFAULT);
    assert_false(option_given(&o, OPT_MAX_DOCUMENTS));
    options_free(&o);
    unsetenv("SEMINDEX_MAX_LIMIT");
    unsetenv("SEMINDEX_QUEUE");
    unlink(path);
}

static void expect_refusal(int count, const char **argv, const char *part)
{
    struct options o;
    struct err e = {0};
    assert_int_equal(read_serve(&o, &e, count, argv), -1);
    assert_int_equal(e.code, ERR_USAGE);
    if (!strstr(e.message, part))
        fail_msg("'%s' is not in '%s'", part, e.message);
    options_free(&o);
}

static void refuses_with_the_nearest_name(void **state)
{
    (void)state;
    expect_refusal(2, (const char *[]){"--modle", "x"}, "--model?");
    expect_refusal(2, (const char *[]){"--max_limit", "x"}, "--max-limit?");
    expect_refusal(2, (const char *[]){"--epochs", "3"}, "no option of this command");
    expect_refusal(1, (const char *[]){"--zzzzzzzzzzz"}, "--help");
    expect_refusal(1, (const char *[]){"-m"}, "two dashes");
}

static void device_names_may_carry_a_number(void **state)
{
    static const char *const fine[] = {"auto", "cpu", "cuda", "cuda:0", "cuda:12"};
    static const char *const wrong[] = {"cuda:", "cuda:x", "cuda:1234", "cuda[:N]", "cpu:0", "gpu", "cud"};
    struct options o;
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        assert_int_equal(read_serve(&o, &e, 2, (const char *[]){"--device", fine[i]}), 0);
        assert_string_equal(option_text(&o, OPT_DEVICE), fine[i]);
        options_free(&o);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_refusal(2, (const char *[]){"--device", wrong[i]}, "auto|cpu|cuda[:N]");
}

static void refuses_values_naming_bounds(void **state)
{
    (void)state;
    expect_refusal(2, (const char *[]){"--max-limit", "0"}, "--max-limit: 0 is outside 1 .. 100000");
    expect_refusal(2, (const char *[]){"--max-limit", "ten"}, "'ten' is not a whole number");
    expect_refusal(2, (const char *[]){"--max-limit", "1.5"}, "whole number");
    expect_refusal(2, (const char *[]){"--max-limit", "99999999999999999999"}, "whole number");
    expect_refusal(2, (const char *[]){"--max-limit", " 1"}, "whole number");
    expect_refusal(1, (const char *[]){"--max-limit"}, "needs a value");
    expect_refusal(1, (const char *[]){"--log-level=loud"}, "error|warn|info|debug");
    expect_refusal(1, (const char *[]){"--insecure=maybe"}, "neither true nor false");
    expect_refusal(1, (const char *[]){"--model="}, "empty");
}

static void reads_arguments_and_flags(void **state)
{
    struct options o;
    struct err e = {0};
    const char *argv[] = {"one", "--insecure", "--listen=[::1]:0", "two", "--", "--three"};
    (void)state;
    assert_int_equal(read_serve(&o, &e, 6, argv), 0);
    assert_int_equal(o.argument_count, 3);
    assert_string_equal(o.arguments[2], "--three");
    assert_true(option_flag(&o, OPT_INSECURE));
    assert_string_equal(option_text(&o, OPT_LISTEN), "[::1]:0");
    assert_null(option_text(&o, OPT_MODEL));
    assert_null(option_need(&o, OPT_MODEL, &e));
    assert_non_null(strstr(e.message, "--model BUNDLE"));
    options_free(&o);
}

static void expect_bad_file(const char *text, const char *part)
{
    char path[64];
    struct options o = {0};
    struct err e = {0};
    write_config(path, text);
    assert_int_equal(options_read_file(&o, path, &e), -1);
    assert_int_equal(e.code, ERR_CONFIG);
    if (!strstr(e.message, part))
        fail_msg("'%s' is not in '%s'", part, e.message);
    options_free(&o);
    unlink(path);
}

static void refuses_bad_files_naming_the_line(void **state)
{
    (void)state;
    expect_bad_file("queue = 5\n\nmax-limt = 3\n", "line 3: 'max-limt' is no option; did you mean 'max-limit'?");
    expect_bad_file("queue 5\n", "line 1: a line reads");
    expect_bad_file("queue = many\n", "line 1: queue: 'many'");
    expect_bad_file("queue = 0\n", "outside");
}

static void help_and_example_come_from_the_table(void **state)
{
    struct str help = {0}, example = {0};
    char path[64];
    struct options o = {0};
    struct err e = {0};
    (void)state;
    options_help(&help, CMD_SERVE);
    assert_non_null(strstr(help.data, "--listen HOST:PORT"));
    assert_non_null(strstr(help.data, "(default 127.0.0.1:8080)"));
    assert_null(strstr(help.data, "--epochs"));
    options_example(&example, CMD_SERVE);
    for (char *p = example.data; *p; p++) /* with every assignment made active, the example is a valid file, but for placeholders */
        if (p[0] == '#' && p[1] != ' ' && (p == example.data || p[-1] == '\n'))
            *p = ' ';
    write_config(path, example.data);
    assert_int_equal(options_read_file(&o, path, &e), 0);
    options_free(&o);
    unlink(path);
    str_free(&help);
    str_free(&example);
}

static void names_of_the_environment(void **state)
{
    char name[64];
    struct options o;
    struct err e = {0};
    (void)state;
    option_environment_name(OPT_MAX_BODY_BYTES, name);
    assert_string_equal(name, "SEMINDEX_MAX_BODY_BYTES");
    setenv(name, "none", 1);
    assert_int_equal(read_serve(&o, &e, 0, NULL), -1);
    assert_int_equal(e.code, ERR_CONFIG);
    assert_non_null(strstr(e.message, "SEMINDEX_MAX_BODY_BYTES"));
    unsetenv(name);
    options_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_whole),
        cmocka_unit_test(flag_beats_environment_beats_file_beats_default),
        cmocka_unit_test(refuses_with_the_nearest_name),
        cmocka_unit_test(device_names_may_carry_a_number),
        cmocka_unit_test(refuses_values_naming_bounds),
        cmocka_unit_test(reads_arguments_and_flags),
        cmocka_unit_test(refuses_bad_files_naming_the_line),
        cmocka_unit_test(help_and_example_come_from_the_table),
        cmocka_unit_test(names_of_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
