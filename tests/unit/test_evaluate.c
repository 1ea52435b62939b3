/* test_evaluate.c: the evaluation of a hand-made folder, every figure computed by hand.
 *
 * Five documents, three judged queries, five histories, no model: the rankings that the program computes by itself. Popularity,
 * neighbours and BM25 are fully determined here; the order of random is only bounded. */
#include "../../core/base/file.h"
#include "../../core/runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];

static void write_text(const char *name, const char *text)
{
    char *path = path_join(folder, name);
    assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
    free(path);
}

static double figure_of(const char *json, const char *ranking, const char *metric)
{
    char *key = xprintf("\"ranking\":\"%s\"", ranking), *name = xprintf("\"%s\":", metric);
    const char *row = strstr(json, key), *value = row ? strstr(row, name) : NULL;
    if (value == NULL)
        fail_msg("no %s of %s in %s", metric, ranking, json);
    double x = atof(value + strlen(name));
    free(key);
    free(name);
    return x;
}

static void evaluate(const char *task, bool json, struct str *out)
{
    struct err e = {0};
    struct evaluate_options o = {.data = folder, .task = task, .json = json};
    if (evaluate_run(&o, NULL, out, &e) != 0)
        fail_msg("%s", e.message);
}

/* q1 finds its one document first. q2 has two relevant ones, of which words find one, first. q3's word stands nowhere: 0. q4 has nothing
 * relevant and does not count. */
static void test_search(void **state)
{
    (void)state;
    struct str out = {0};
    evaluate("search", true, &out);
    assert_float_equal(figure_of(out.data, "bm25", "queries"), 3, 0);
    assert_float_equal(figure_of(out.data, "bm25", "Recall@1"), (1 + 0.5 + 0) / 3, 1e-9);
    assert_float_equal(figure_of(out.data, "bm25", "MRR@10"), (1.0 + 1 + 0) / 3, 1e-9);
    assert_float_equal(figure_of(out.data, "bm25", "Hit@10"), 2.0 / 3, 1e-9);
    assert_float_equal(figure_of(out.data, "bm25", "nDCG@5"), (1 + 1 / (1 + 0.6309297535714574)) / 3, 1e-9);
    assert_float_equal(figure_of(out.data, "bm25", "nDCG_retrieved@5"), 2.0 / 3, 1e-9);
    str_free(&out);
}

/* Training parts (all but the last two): a b, a b, a c, none, d a: counts a 4, b 2, c 1, d 1, e 0. Targets
 * d, c, e, a, b; history items out. */
static void test_recommend(void **state)
{
    (void)state;
    struct str out = {0};
    evaluate("recommend", true, &out);
    assert_float_equal(figure_of(out.data, "popularity", "queries"), 5, 0);
    /* Left are d e, c e, d e, a c d e, b e: the target is first but for u3, whose e was never seen: 2. */
    assert_float_equal(figure_of(out.data, "popularity", "Recall@1"), 4.0 / 5, 1e-9);
    assert_float_equal(figure_of(out.data, "popularity", "MRR@10"), (1 + 1 + 0.5 + 1 + 1) / 5, 1e-9);
    /* Pairs a>b twice, a>c, d>a. u1: d and e at 0, by id descending e d: 2. u2: c from a: 1. u3: e before d by id: 1. u4 (b): nothing,
     * e d c a: 4. u5: b from a: 1. */
    assert_float_equal(figure_of(out.data, "neighbours", "Recall@1"), 3.0 / 5, 1e-9);
    assert_float_equal(figure_of(out.data, "neighbours", "MRR@10"), (0.5 + 1 + 1 + 0.25 + 1) / 5, 1e-9);
    double random = figure_of(out.data, "random", "Recall@5");
    assert_float_equal(random, 1, 1e-9);
    str_free(&out);
}

static void test_text_table(void **state)
{
    (void)state;
    struct str out = {0};
    evaluate(NULL, false, &out);
    assert_non_null(strstr(out.data, "search:"));
    assert_non_null(strstr(out.data, "recommend:"));
    assert_non_null(strstr(out.data, "Recall@10"));
    assert_null(strstr(out.data, "generative"));
    str_free(&out);
}

/* bm25 by query: q1 1, q2 (one of two) and q3 0. Written and read back it is the same ranking: equal figures, difference 0, p 1. */
static void test_run_round_trip(void **state)
{
    (void)state;
    struct err e = {0};
    struct str out = {0};
    char *prefix = path_join(folder, "r"), *written = xprintf("%s.bm25.run", prefix);
    struct evaluate_options o = {.data = folder, .task = "search", .json = true, .run_out = prefix};
    assert_int_equal(evaluate_run(&o, NULL, &out, &e), 0);
    str_clear(&out);
    struct evaluate_options back = {
        .data = folder, .task = "search", .json = true, .run = written, .compare = "run,bm25", .intervals = true};
    assert_int_equal(evaluate_run(&back, NULL, &out, &e), 0);
    for (int i = 0; i < 4; i++) {
        static const char *const metrics[] = {"Recall@1", "MRR@10", "nDCG@5", "Recall@100"};
        assert_float_equal(figure_of(out.data, "run", metrics[i]), figure_of(out.data, "bm25", metrics[i]), 0);
    }
    assert_non_null(strstr(out.data, "\"Recall@1\":{\"difference\":0,\"interval\":[0,0],\"p\":1}"));
    assert_non_null(strstr(out.data, "\"Recall@1_interval\":["));
    str_free(&out);
    free(written);
    free(prefix);
}

/* Equal as 32-bit floats, so the later name comes first, whatever the rank field says: b before a for q1. The unknown document zz keeps rank 1
 * of q2, the unknown query is left out, and q3 has no line: MRR (1/2 + 1/2 + 0) / 3. */
static void test_run_ties(void **state)
{
    (void)state;
    struct err e = {0};
    struct str out = {0};
    write_text("ties.run", "q1 Q0 a 1 1.000000001 t\nq1 Q0 b 2 1.000000000 t\nq2 Q0 zz 1 5 t\nq2\tQ0\tb\t2\t4.5\tt\n\nq9 Q0 a 1 1 t\n");
    char *path = path_join(folder, "ties.run");
    struct evaluate_options o = {.data = folder, .task = "search", .json = true, .run = path};
    assert_int_equal(evaluate_run(&o, NULL, &out, &e), 0);
    assert_float_equal(figure_of(out.data, "run", "queries"), 3, 0);
    assert_float_equal(figure_of(out.data, "run", "MRR@10"), 1.0 / 3, 1e-9);
    assert_float_equal(figure_of(out.data, "run", "Recall@5"), (1 + 0.5 + 0) / 3, 1e-9);
    str_free(&out);
    free(path);
}

static void refuse_run(const char *text, const char *named)
{
    struct err e = {0};
    struct str out = {0};
    write_text("bad.run", text);
    char *path = path_join(folder, "bad.run");
    struct evaluate_options o = {.data = folder, .task = "search", .run = path};
    assert_int_equal(evaluate_run(&o, NULL, &out, &e), -1);
    if (strstr(e.message, named) == NULL)
        fail_msg("'%s' is not in: %s", named, e.message);
    str_free(&out);
    free(path);
}

static void test_bad_runs(void **state)
{
    (void)state;
    refuse_run("q1 Q0 a 1 2 t\nq1 Q0 b 2 1\n", "line 2: a run has six fields");
    refuse_run("q1 Q0 a 1 2 t u\n", "line 1: a run has six fields");
    refuse_run("q1 Q0 a 1 much t\n", "line 1: the score is no number: much");
    refuse_run("q1 Q0 a 1 nan t\n", "line 1: the score is no number");
    refuse_run("q1 Q0 a 1 3 t\nq1 Q0 b 2 2 t\nq1 Q0 a 3 1 t\n", "line 3: query q1 has document a already in line 1");
    refuse_run("q9 Q0 a 1 3 t\n", "has no line for a query");
}

static void test_compare_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct str out = {0};
    struct evaluate_options one = {.data = folder, .compare = "bm25"}, absent = {.data = folder, .compare = "bm25,oracle"};
    assert_int_equal(evaluate_run(&one, NULL, &out, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_int_equal(evaluate_run(&absent, NULL, &out, &e), -1);
    assert_non_null(strstr(e.message, "bm25,oracle"));
    str_free(&out);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct str out = {0};
    struct evaluate_options unknown = {.data = folder, .task = "dance"}, absent = {.data = "/nonexistent"};
    struct evaluate_options ids = {.data = folder, .task = "ids"};
    assert_int_equal(evaluate_run(&unknown, NULL, &out, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    assert_non_null(strstr(e.message, "dance"));
    assert_int_equal(evaluate_run(&absent, NULL, &out, &e), -1);
    assert_non_null(strstr(e.message, "/nonexistent"));
    assert_int_equal(evaluate_run(&ids, NULL, &out, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    str_free(&out);
}

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/semindex-evaluate-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_text("items.jsonl", "{\"id\":\"a\",\"title\":\"red stone\"}\n{\"id\":\"b\",\"title\":\"blue river\"}\n"
                              "{\"id\":\"c\",\"title\":\"green apple\"}\n{\"id\":\"d\",\"title\":\"iron horse\"}\n"
                              "{\"id\":\"e\",\"title\":\"paper drum\"}\n");
    write_text("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"stones\"}\n{\"_id\":\"q2\",\"text\":\"a river\"}\n"
                                "{\"_id\":\"q3\",\"text\":\"piano\"}\n"
                                "{\"_id\":\"q4\",\"text\":\"horse\"}\n");
    write_text("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\nq2\tb\t1\nq2\tc\t1\nq3\td\t1\nq4\td\t0\n");
    write_text("sequences.txt", "u1 a b c d\nu2 a b d c\nu3 a c b e\nu4 b a\nu5 d a c b\n");
    return 0;
}

static int end(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_recommend),
        cmocka_unit_test(test_text_table),
        cmocka_unit_test(test_run_round_trip),
        cmocka_unit_test(test_run_ties),
        cmocka_unit_test(test_bad_runs),
        cmocka_unit_test(test_compare_refusals),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
