/* test_recipes.c: every recipe parses, and those of the paper hold exactly the values of its Tables 8 to 11; precedence, refusals, and the option
 * that stands of several that exclude each other. */
#include "../../server/recipes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int read_words(struct options *o, unsigned command, struct err *e, const char *const *words)
{
    int n = 0;
    while (words[n])
        n++;
    return options_read(o, command, n, (char **)(uintptr_t)words, e);
}

/* The value of one option under a recipe; the caller frees o. */
static void read_recipe(struct options *o, unsigned command, const char *task, const char *recipe)
{
    struct err e = {0};
    const char *with_task[] = {task, "--recipe", recipe, NULL};
    if (read_words(o, command, &e, task ? with_task : with_task + 1))
        fail_msg("%s: %s", recipe, e.message);
}

/* ---- the paper's tables ---- */

struct value {
    enum option_id id;
    const char *text; /* as numbers where the option is one */
};

static void expect_values(const char *recipe, unsigned command, const char *task, const struct value *values, int count)
{
    struct options o;
    read_recipe(&o, command, task, recipe);
    for (int i = 0; i < count; i++) {
        const struct option_def *d = &option_table[values[i].id];
        const char *is = option_text(&o, values[i].id);
        bool number = d->type == OPTION_INT || d->type == OPTION_REAL;
        if (!is || o.values[values[i].id].origin != ORIGIN_RECIPE || (number ? atof(is) != atof(values[i].text) : strcmp(is, values[i].text) != 0))
            fail_msg("%s, %s: %s is %s, the paper has %s", recipe, task ? task : "learn-ids", d->name, is ? is : "not set", values[i].text);
    }
    options_free(&o);
}

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void expect_adam(const char *recipe, unsigned command, const char *task)
{
    static const struct value adam[] = {{OPT_ADAM_EPS, "1e-6"}, {OPT_ADAM_BETA1, "0.9"}, {OPT_ADAM_BETA2, "0.999"}, {OPT_LR_WARMUP, "0.1"}};
    expect_values(recipe, command, task, adam, COUNT(adam));
}

static void table_8(void **state)
{
    static const struct {
        const char *recipe, *length, *codebook, *epochs;
    } columns[] = {{"beauty", "512", "512", "30"}, {"sports", "512", "512", "30"}, {"toys", "512", "512", "30"},
                   {"nq", "512", "5120", "10"},    {"macro", "128", "51200", "5"}, {"trec-dl", "128", "51200", "5"}};
    (void)state;
    for (int i = 0; i < COUNT(columns); i++) {
        const struct value v[] = {{OPT_BATCH, "128"}, {OPT_MAX_TOKENS, columns[i].length}, {OPT_POSITIONS, "2"}, {OPT_K, columns[i].codebook},
                                  {OPT_HINTS, "0.5,0.3"}, {OPT_SEARCH_LR, "1e-3,2e-3,5e-3"}, {OPT_KMEANS_RESTARTS, "10"},
                                  {OPT_WARMUP_EPOCHS, columns[i].epochs}, {OPT_CONTINUOUS_EPOCHS, columns[i].epochs},
                                  {OPT_JOINT_EPOCHS, columns[i].epochs}};
        expect_values(columns[i].recipe, CMD_LEARN, NULL, v, COUNT(v));
        expect_adam(columns[i].recipe, CMD_LEARN, NULL);
    }
}

static void tables_9_and_10(void **state)
{
    static const char *const sets[] = {"beauty", "sports", "toys"}, *const tasks[] = {"recommend", "search"};
    static const struct value v[] = {{OPT_BATCH, "32"}, {OPT_STEPS, "10000"}, {OPT_MAX_TOKENS, "1024"}, {OPT_SEARCH_LR, "1e-2,1e-3,1e-4"}};
    static const struct value texts[] = {{OPT_TEXT_HISTORY, "true"}}, beam[] = {{OPT_BEAM, "20"}};
    (void)state;
    for (int i = 0; i < COUNT(sets); i++) {
        for (int k = 0; k < COUNT(tasks); k++) {
            expect_values(sets[i], CMD_TRAIN, tasks[k], v, COUNT(v));
            expect_adam(sets[i], CMD_TRAIN, tasks[k]);
        }
        expect_values(sets[i], CMD_TRAIN, "recommend", texts, COUNT(texts));
        expect_values(sets[i], CMD_EVALUATE, NULL, beam, COUNT(beam));
    }
}

static void table_11(void **state)
{
    static const struct {
        const char *recipe, *steps, *queries;
    } columns[] = {{"nq", "250000", "15"}, {"macro", "500000", "20"}, {"trec-dl", "500000", "20"}};
    static const struct value beam[] = {{OPT_BEAM, "20"}};
    (void)state;
    for (int i = 0; i < COUNT(columns); i++) {
        const struct value v[] = {{OPT_BATCH, "2048"}, {OPT_STEPS, columns[i].steps}, {OPT_MAX_TOKENS, "32"},
                                  {OPT_SEARCH_LR, "5e-4,1e-3,5e-3"}, {OPT_PSEUDO, columns[i].queries}, {OPT_WRITTEN_SHARE, "1"}};
        const struct value written[] = {{OPT_PER_DOCUMENT, columns[i].queries}, {OPT_TOP_K, "10"}, {OPT_MAX_TOKENS, "64"}};
        expect_values(columns[i].recipe, CMD_TRAIN, "search", v, COUNT(v));
        expect_values(columns[i].recipe, CMD_QUERIES, NULL, written, COUNT(written));
        expect_adam(columns[i].recipe, CMD_TRAIN, "search");
        expect_values(columns[i].recipe, CMD_EVALUATE, NULL, beam, COUNT(beam));
    }
}

/* Whichever command reads it, the whole file is checked: names, values and bounds of every section. */
static void every_recipe_parses(void **state)
{
    (void)state;
    assert_true(recipe_count >= 10);
    for (int i = 0; i < recipe_count; i++) {
        struct options o;
        read_recipe(&o, CMD_LEARN, NULL, recipe_table[i].name);
        assert_true(recipe_table[i].text[0] == '#');
        assert_false(option_set(&o, OPT_LR) && option_set(&o, OPT_SEARCH_LR));
        options_free(&o);
    }
}

/* ---- reading ---- */

static void write_recipe(char path[64], const char *text)
{
    snprintf(path, 64, "%s/semindex-recipe-XXXXXX.ini", P_tmpdir);
    int fd = mkstemps(path, 4);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void flag_beats_environment_beats_recipe_beats_default(void **state)
{
    char path[64];
    struct options o;
    struct err e = {0};
    (void)state;
    write_recipe(path, "# mine\n[learn-ids]\nk = 77\nbatch = 12\n  max-tokens=34 \n seed = 5\n[train search]\nbatch = 99\n");
    setenv("SEMINDEX_BATCH", "13", 1);
    const char *argv[] = {"--k", "78", "--recipe", path, NULL};
    if (read_words(&o, CMD_LEARN, &e, argv))
        fail_msg("%s", e.message);
    assert_int_equal(option_int(&o, OPT_K), 78);
    assert_int_equal(option_int(&o, OPT_BATCH), 13);
    assert_int_equal(o.values[OPT_BATCH].origin, ORIGIN_ENVIRONMENT);
    assert_int_equal(option_int(&o, OPT_MAX_TOKENS), 34);
    assert_string_equal(option_origin_name(o.values[OPT_MAX_TOKENS].origin), "recipe");
    assert_int_equal(option_int(&o, OPT_SEED), 5);
    assert_string_equal(option_text(&o, OPT_INDEXER), "lmindexer");
    options_free(&o);
    unsetenv("SEMINDEX_BATCH");
    unlink(path);
}

static void a_config_file_stands_below(void **state)
{
    char path[64];
    struct options o;
    struct err e = {0};
    (void)state;
    write_recipe(path, "batch = 3\nk = 4\n");
    const char *argv[] = {"--recipe", "beauty", NULL};
    assert_int_equal(read_words(&o, CMD_LEARN, &e, argv), 0);
    assert_int_equal(options_read_file(&o, path, &e), 0);
    assert_int_equal(option_int(&o, OPT_BATCH), 128);
    options_free(&o);
    unlink(path);
}

/* A flag of one option turns off the recipe's other that excludes it. */
static void the_strongest_of_alternatives_stands(void **state)
{
    struct options o;
    struct err e = {0};
    (void)state;
    const char *rate[] = {"--recipe", "beauty", "--lr", "3e-3", NULL};
    assert_int_equal(read_words(&o, CMD_LEARN, &e, rate), 0);
    assert_false(option_set(&o, OPT_SEARCH_LR));
    options_free(&o);
    const char *search[] = {"--recipe", "cranfield-cpu", "--search-lr", "1e-3", NULL};
    assert_int_equal(read_words(&o, CMD_LEARN, &e, search), 0);
    assert_false(option_set(&o, OPT_LR));
    options_free(&o);
    const char *minutes[] = {"search", "--recipe", "beauty", "--minutes", "2", NULL};
    assert_int_equal(read_words(&o, CMD_TRAIN, &e, minutes), 0);
    assert_false(option_set(&o, OPT_STEPS));
    options_free(&o);
    const char *both[] = {"search", "--steps", "5", "--epochs", "2", NULL};
    assert_int_equal(read_words(&o, CMD_TRAIN, &e, both), -1);
    assert_string_equal(e.message, "--steps and --epochs exclude each other");
    options_free(&o);
}

static void expect_refusal(const char *recipe, enum err_code code, const char *const *parts)
{
    struct options o;
    struct err e = {0};
    const char *argv[] = {"search", "--recipe", recipe, NULL};
    assert_int_equal(read_words(&o, CMD_TRAIN, &e, argv), -1);
    assert_int_equal(e.code, code);
    for (; *parts; parts++)
        if (!strstr(e.message, *parts))
            fail_msg("'%s' is not in '%s'", *parts, e.message);
    options_free(&o);
}

static void refuses_naming_line_and_nearest(void **state)
{
    static const struct {
        const char *text, *parts[4];
    } cases[] = {
        {"# x\n[train search]\nbach = 3\n", {": line 3: ", "'bach' is no option of train search", "did you mean 'batch'?"}},
        {"[train search]\nbatch = 0\n", {": line 2: batch", "0 is outside 1 .. 65536"}},
        {"[train search]\nk = 8\n", {": line 2: ", "'k' is no option of train search"}},
        {"[learn-ids]\nk = many\n[train search]\n", {": line 2: k", "'many' is not a whole number"}},
        {"[train serch]\n", {": line 1: ", "[train serch] is no section", "did you mean [train search]?"}},
        {"[train search\n", {": line 1: a section reads"}},
        {"batch = 3\n", {": line 1: a value stands in a section"}},
        {"[train search]\nbatch\n", {": line 2: a line reads"}},
        {"[train search]\nbatch = 3\nbatch = 4\n", {": line 3: batch stands here twice"}},
        {"[train search]\nrecipe = beauty\n", {": line 2: ", "'recipe' is no option"}},
    };
    (void)state;
    for (int i = 0; i < COUNT(cases); i++) {
        char path[64];
        write_recipe(path, cases[i].text);
        expect_refusal(path, ERR_CONFIG, cases[i].parts);
        unlink(path);
    }
}

static void refuses_unknown_recipes(void **state)
{
    char path[64];
    static const char *const near[] = {"'beaty' is no recipe", "did you mean 'beauty'?", NULL}, *const none[] = {"no section for this command", "[learn-ids]", NULL};
    static const char *const absent[] = {"/nowhere/x.ini", NULL};
    (void)state;
    expect_refusal("beaty", ERR_USAGE, near);
    expect_refusal("/nowhere/x.ini", ERR_NO_INPUT, absent);
    write_recipe(path, "[learn-ids]\nk = 8\n");
    expect_refusal(path, ERR_USAGE, none);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_8),
        cmocka_unit_test(tables_9_and_10),
        cmocka_unit_test(table_11),
        cmocka_unit_test(every_recipe_parses),
        cmocka_unit_test(flag_beats_environment_beats_recipe_beats_default),
        cmocka_unit_test(a_config_file_stands_below),
        cmocka_unit_test(the_strongest_of_alternatives_stands),
        cmocka_unit_test(refuses_naming_line_and_nearest),
        cmocka_unit_test(refuses_unknown_recipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
