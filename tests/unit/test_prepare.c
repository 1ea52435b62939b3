/* test_prepare.c: Python literals, and Amazon's reviews and metadata: counts as constructed, odd lines named with file and line, ties,
 * repeats, the draw of histories, a run that is stopped in each phase and goes on to the same bytes. With a path to the Beauty folder
 * (items.jsonl, sequences.txt) the published files are made back from it, and the counts must be the published ones. Search sets:
 * test_prepare_search.c. */
#include "prepare_kit.h"

#include "../../core/data/python_literal.h"

/* ---- python_literal ---- */

static void expect_literal(const char *text, const char *json)
{
    struct err e = {0};
    cJSON *v = python_literal_parse(text, strlen(text), &e);
    if (!v)
        fail_msg("%s: %s", text, e.message);
    char *printed = cJSON_PrintUnformatted(v);
    assert_string_equal(printed, json);
    cJSON_free(printed);
    cJSON_Delete(v);
}

static void test_literals(void **state)
{
    (void)state;
    expect_literal("{'a': 'b', \"c\": \"it's\", 'd': 'say \\'x\\' \"y\"'}", "{\"a\":\"b\",\"c\":\"it's\",\"d\":\"say 'x' \\\"y\\\"\"}");
    expect_literal("[True, False, None, -1, 2.50, 1e3, 12L]", "[true,false,null,-1,2.5,1000,12]");
    expect_literal("{'n': [['A', 'B'], []], 't': (1, 2), 'u': (3,), 'p': (4), 'e': (), 'd': {'x': {}},}",
                   "{\"n\":[[\"A\",\"B\"],[]],\"t\":[1,2],\"u\":[3],\"p\":4,\"e\":[],\"d\":{\"x\":{}}}");
    expect_literal("u'caf\\xe9'", "\"caf\xc3\xa9\"");
    expect_literal("'caf\\xc3\\xa9'", "\"caf\xc3\xa9\""); /* Python 2 printed the bytes */
    expect_literal("'caf\\xe9'", "\"caf\xc3\xa9\"");      /* no UTF-8: a code point */
    expect_literal("u'caf\\xc3\\xa9'", "\"caf\xc3\x83\xc2\xa9\"");
    expect_literal("'caf\xc3\xa9 \\u2122 \\U0001f600 \\ud83d\\ude00 \\ud83d'",
                   "\"caf\xc3\xa9 \xe2\x84\xa2 \xf0\x9f\x98\x80 \xf0\x9f\x98\x80 \xef\xbf\xbd\"");
    expect_literal("'tab\\tnew\\nback\\\\ \\101 \\q'", "\"tab\\tnew\\nback\\\\ A \\\\q\"");
    expect_literal("r'a\\n' 'b' \"c\"", "\"a\\\\nbc\"");
    expect_literal("'''it's \"x\"''' ", "\"it's \\\"x\\\"\"");
    expect_literal("''", "\"\"");
    expect_literal("{'k': 1, 'k': 2}", "{\"k\":2}");
}

static void refuse_literal(const char *text, const char *part)
{
    struct err e = {0};
    assert_null(python_literal_parse(text, strlen(text), &e));
    assert_int_equal(e.code, ERR_DATA);
    assert_has(e.message, part);
}

static void test_bad_literals(void **state)
{
    (void)state;
    char deep[300];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refuse_literal("", "byte 1: the line ends inside a literal");
    refuse_literal("{'a': 'b", "the line ends inside a string");
    refuse_literal("{'a' 'b'}", "colon");
    refuse_literal("{1: 2}", "a string is needed as key");
    refuse_literal("['a' 1]", "a comma or the end of the list");
    refuse_literal("{'a': 1} x", "byte 10: there is something behind");
    refuse_literal("{'a': __import__('os')}", "no number");
    refuse_literal("[inf]", "is no literal");
    refuse_literal("'\\x4'", "\\x needs two");
    refuse_literal("'\\u12'", "too few");
    refuse_literal("[1,,2]", "is no number");
    refuse_literal("'a\\", "the line ends inside a string");
    refuse_literal(deep, "nested too deep");
}

/* ---- amazon ---- */

static const char reviews[] =
    "{\"reviewerID\": \"U1\", \"asin\": \"B3\", \"overall\": 5.0, \"reviewText\": \"a\\\"b\", \"unixReviewTime\": 300}\n"
    "{\"reviewerID\": \"U2\", \"asin\": \"B1\", \"unixReviewTime\": 100}\r\n"
    "{\"reviewerID\": \"U1\", \"asin\": \"B2\", \"unixReviewTime\": 300}\n" /* a tie with B3: ASIN order */
    "{\"asin\": \"B2\", \"unixReviewTime\": 300}\n"                         /* line 4 */
    "\n"
    "{\"reviewerID\": \"U1\", \"asin\": \"B1\", \"unixReviewTime\": 100}\n"
    "{\"reviewerID\": \"U1\", \"asin\": \"B4\", \"unixReviewTime\": \"soon\"}\n" /* line 7 */
    "{\"reviewerID\": \"U1\", \"asin\": \"B4\", \"unixReviewTime\": -5}\n"
    "{\"reviewerID\": \"U3\", \"asin\": \"B9\", \"unixReviewTime\": 1}\n" /* two items only */
    "{\"reviewerID\": \"U3\", \"asin\": \"B1\", \"unixReviewTime\": 2}\n"
    "{\"reviewerID\": \"U2\", \"asin\": \"B5\", \"unixReviewTime\": 50}\n"
    "not json\n"                                                            /* line 12 */
    "{\"reviewerID\": \"U2\", \"asin\": \"B1\", \"unixReviewTime\": 900}\n" /* again */
    "{\"reviewerID\": \"U2\", \"asin\": \"B6\", \"unixReviewTime\": 200}\n"
    "{\"reviewerID\": \"U 2\", \"asin\": \"B6\", \"unixReviewTime\": 200}\n" /* line 15: a space */
    "{\"reviewerID\": \"U1\", \"asin\": \"B5\", \"unixReviewTime\": 400}";

static const char meta[] =
    "{'asin': 'B1', 'title': 'Kids\\' &quot;Car&quot; &amp; Truck', 'price': 9.5, 'categories': [['Toys', 'Cars &amp; Trucks'], ['More']], "
    "'brand': '', 'description': '<p>Fast.</p>\\n  5 < 7 &eacute;', 'related': {'also_bought': ['X']}}\n"
    "{'asin': 'B9', 'title': 'Of nobody'}\n"
    "{'asin': 'ZZ', 'title': 'Never reviewed'}\r\n"
    "{'asin': 'B2', 'title': \"It's\", 'brand': 'Lego'}\n"
    "{'asin': 'B2', 'title': 'Second'}\n"
    "{'asin': 'B3', 'categories': [[]]}\n"
    "{'asin': 'B4', 'title': 'broken}\n" /* line 7 */
    "{'title': 'no asin'}\n"
    "['asin']\n"
    "{\"asin\": \"B5\", \"title\": \"Strict \\/ JSON\"}\n"
    "{'asin': 'B6', 'title': ''}\n";

static void put_amazon(void)
{
    kit_put_gzip("raw/reviews_Tiny_5.json.gz", reviews);
    kit_put_gzip("raw/meta_Tiny.json.gz", meta);
    kit_put("raw/meta_Other.json", "");
}

static void test_amazon(void **state)
{
    (void)state;
    put_amazon();
    assert_runs({.set = "amazon", .bad_lines = 100, .seed = 1});
    assert_string_equal(kit_get("out/sequences.txt"), "U1 B4 B1 B2 B3 B5\nU2 B5 B1 B6\n");
    assert_string_equal(kit_get("out/items.jsonl"),
                        "{\"id\":\"B4\",\"title\":\"\"}\n"
                        "{\"id\":\"B1\",\"title\":\"Kids' \\\"Car\\\" & Truck\",\"categories\":[[\"Toys\",\"Cars & Trucks\"],[\"More\"]],"
                        "\"description\":\"Fast. 5 < 7 \xc3\xa9\",\"price\":9.5}\n"
                        "{\"id\":\"B2\",\"title\":\"It's\",\"brand\":\"Lego\"}\n"
                        "{\"id\":\"B3\",\"title\":\"\",\"categories\":[[]]}\n"
                        "{\"id\":\"B5\",\"title\":\"Strict / JSON\"}\n"
                        "{\"id\":\"B6\",\"title\":\"\"}\n");
    assert_has(kit_table.data, "| Tiny | 6 | 2 | 5 / 2 / 2 | - / - / - | - / - / - |");
    assert_has(kit_table.data, "7 bad lines left out");
    assert_has(kit_table.data, "1 items without metadata");
    assert_has(kit_table.data, "1 metadata lines for an item that had one");
    assert_has(kit_table.data, "2 items with metadata and no title");
    assert_has(kit_table.data, "1 users with fewer than three items");
    assert_has(kit_table.data, "1 reviews of an item that the user had reviewed before");
    assert_has(kit_notes.data, "raw/reviews_Tiny_5.json.gz: line 4: \"reviewerID\" is missing");
    assert_has(kit_notes.data, "raw/reviews_Tiny_5.json.gz: line 7: \"unixReviewTime\"");
    assert_has(kit_notes.data, "raw/reviews_Tiny_5.json.gz: line 12: is not a JSON object");
    assert_has(kit_notes.data, "raw/reviews_Tiny_5.json.gz: line 15: \"reviewerID\"");
    assert_has(kit_notes.data, "raw/meta_Tiny.json.gz: line 7: is no Python literal: byte");
    assert_has(kit_notes.data, "raw/meta_Tiny.json.gz: line 8: \"asin\" is missing");
    assert_has(kit_notes.data, "raw/meta_Tiny.json.gz: line 9: is no Python dict");
    assert_false(file_exists(kit_path("out.work")));
    assert_false(file_exists(kit_path("out.work.lock")));
    struct corpus c;
    assert_int_equal(corpus_read(&c, kit_path("out"), NULL, NULL), 0);
    assert_int_equal(c.count, 6);
    assert_int_equal(c.users, 2);
    corpus_free(&c);
}

static void test_histories(void **state)
{
    (void)state;
    put_amazon();
    assert_runs({.set = "amazon", .bad_lines = 100, .seed = 1});
    char *text = kit_get("out/histories-train.tsv");
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++)
        assert_true(!strcmp(line, "U1\t1") || !strcmp(line, "U1\t2")); /* U2 has one training item: nothing follows it */
    assert_int_equal(lines, 5);
    assert_runs({.set = "amazon", .bad_lines = 100, .seed = 1, .all_histories = true, .out = "all"});
    assert_string_equal(kit_get("all/histories-train.tsv"), "U1\t1\nU1\t2\n");
    assert_has(kit_table.data, "| 2 / 2 / 2 |");
}

static void test_again(void **state)
{
    (void)state;
    put_amazon();
    assert_runs({.set = "amazon", .bad_lines = 100, .seed = 1, .json = true});
    char *first = xstrdup(kit_table.data);
    kit_put("out.work/recipe", "left by a kill behind the rename");
    assert_runs({.set = "amazon", .bad_lines = 100, .seed = 1, .json = true});
    assert_has(kit_notes.data, "is prepared already");
    assert_false(file_exists(kit_path("out.work")));
    assert_string_equal(kit_table.data, first);
    free(first);
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .seed = 2}), -1);
    assert_int_equal(kit_error.code, ERR_CANT_CREATE);
    kit_put("other/mine.txt", "x");
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .seed = 2, .out = "other"}), -1);
    assert_has(kit_error.message, "mine.txt");
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .seed = 1, .check = true}), -1);
    assert_int_equal(kit_error.code, ERR_USAGE); /* no published row of that name */
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .category = "Nope", .out = "x"}), -1);
    assert_int_equal(kit_error.code, ERR_NO_INPUT);
    kit_put("raw/reviews_Other_5.json", "");
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .out = "x"}), -1);
    assert_has(kit_error.message, "--category");
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100, .out = "x", .data = "out"}), -1);
    assert_int_equal(kit_run((struct prepare_options){.set = "amazn", .out = "x"}), -1);
    assert_int_equal(kit_error.code, ERR_USAGE);
}

static void test_too_many_bad(void **state)
{
    (void)state;
    put_amazon();
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 2}), -1);
    assert_int_equal(kit_error.code, ERR_DATA);
    assert_has(kit_error.message, "reviews_Tiny_5.json.gz: line 12: is not a JSON object: bad line number 3; at most 2 are forgiven");
    assert_false(file_exists(kit_path("out")));
}

static void test_cut_gzip(void **state)
{
    (void)state;
    put_amazon();
    char *path = kit_path("raw/reviews_Tiny_5.json.gz");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 20), 0);
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .bad_lines = 100}), -1);
    assert_int_equal(kit_error.code, ERR_DATA);
    assert_has(kit_error.message, "reviews_Tiny_5.json.gz: gzip data ends early, after line");
    assert_false(file_exists(kit_path("out")));
}

/* ---- stop and go on ---- */

static void put_many(void)
{
    struct str r = {0}, m = {0};
    for (int i = 0; i < 6000; i++)
        str_printf(&r, "{\"reviewerID\": \"U%d\", \"asin\": \"B%03d\", \"unixReviewTime\": %d}\n", i * 7 % 400, i * 31 % 500, i * 13 % 97);
    for (int i = 0; i < 1400; i++)
        str_printf(&m, "{'asin': 'B%03d', 'title': 'Item \\'%d\\''}\n", (i * 3) % 1400, i);
    kit_put_gzip("raw/reviews_Many_5.json.gz", r.data);
    kit_put_gzip("raw/meta_Many.json.gz", m.data);
    str_free(&r);
    str_free(&m);
}

static void assert_same_file(const char *a, const char *b)
{
    char x[65], y[65];
    assert_int_equal(sha256_file(kit_path(a), x, NULL, NULL), 0);
    assert_int_equal(sha256_file(kit_path(b), y, NULL, NULL), 0);
    assert_string_equal(x, y);
}

static void test_stop_and_go_on(void **state)
{
    (void)state;
    static const char *const phases[] = {"reviews", "metadata"};
    put_many();
    assert_runs({.set = "amazon", .seed = 5});
    for (int i = 0; i < 2; i++) {
        kit_stop_phase = phases[i];
        assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .seed = 5, .out = "parts"}), -1);
        assert_int_equal(kit_error.code, ERR_INTERRUPTED);
        assert_false(file_exists(kit_path("parts")));
    }
    kit_stop_phase = NULL;
    kit_put("parts.work/made/items.jsonl.tmp.1.1", "left by a kill");
    assert_runs({.set = "amazon", .seed = 5, .out = "parts"});
    assert_has(kit_notes.data, "phase \"reviews\" was done before");
    assert_has(kit_notes.data, "phase \"sequences\" was done before");
    assert_same_file("out/items.jsonl", "parts/items.jsonl");
    assert_same_file("out/sequences.txt", "parts/sequences.txt");
    assert_same_file("out/histories-train.tsv", "parts/histories-train.tsv");
    assert_same_file("out/prepared.json", "parts/prepared.json");
    assert_false(file_exists(kit_path("parts/items.jsonl.tmp.1.1")));
}

static void test_other_files_begin_again(void **state)
{
    (void)state;
    put_many();
    kit_stop_phase = "metadata";
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .seed = 5}), -1);
    kit_stop_phase = NULL;
    assert_runs({.set = "amazon", .seed = 6});
    assert_has(kit_notes.data, "begins again");
    assert_has_not(kit_notes.data, "was done before");
}

/* ---- Beauty, given by path ---- */

static char *beauty;

/* The published files, made back: reviews in reverse within each user, a day apart; metadata as Python would print it. */
static void put_beauty(void)
{
    struct corpus c;
    assert_int_equal(corpus_read(&c, beauty, NULL, NULL), 0);
    struct str r = {0}, m = {0};
    for (int32_t u = 0; u < c.users; u++) {
        int32_t n;
        const int32_t *items = corpus_sequence(&c, u, &n);
        for (int32_t i = n - 1; i >= 0; i--)
            str_printf(&r, "{\"reviewerID\": \"%s\", \"asin\": \"%s\", \"unixReviewTime\": %d}\n", c.user[u], c.documents[items[i]].id,
                       1300000000 + i * 86400);
    }
    for (int32_t i = c.count - 1; i >= 0; i--)
        str_printf(&m, "{'asin': '%s', 'title': '''x%d'''}\n", c.documents[i].id, i);
    kit_put("raw/reviews_Beauty_5.json", r.data);
    kit_put("raw/meta_Beauty.json", m.data);
    str_free(&r);
    str_free(&m);
    corpus_free(&c);
}

static void test_beauty(void **state)
{
    (void)state;
    char *sequences = path_join(beauty, "sequences.txt"), a[65], b[65];
    put_beauty();
    assert_runs({.set = "amazon", .seed = 1, .check = true});
    assert_has(kit_table.data, "| Beauty | 12,101 | 22,363 | 111,815 / 22,363 / 22,363 |");
    assert_int_equal(sha256_file(sequences, a, NULL, NULL), 0);
    assert_int_equal(sha256_file(kit_path("out/sequences.txt"), b, NULL, NULL), 0);
    assert_string_equal(a, b);
    assert_int_equal(kit_run((struct prepare_options){.set = "amazon", .seed = 1, .check = true, .all_histories = true, .out = "all"}), -1);
    assert_has(kit_error.message, "histories train 131,413, published 111,815");
    free(sequences);
}

/* Without an argument: the formats. With the folder of the real Beauty set: its counts. */
int main(int argc, char **argv)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, kit_open, kit_close)
    if (argc > 1) {
        const struct CMUnitTest real[] = {IN_FOLDER(test_beauty)};
        beauty = argv[1];
        return cmocka_run_group_tests(real, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_bad_literals),
        IN_FOLDER(test_amazon),
        IN_FOLDER(test_histories),
        IN_FOLDER(test_again),
        IN_FOLDER(test_too_many_bad),
        IN_FOLDER(test_cut_gzip),
        IN_FOLDER(test_stop_and_go_on),
        IN_FOLDER(test_other_files_begin_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
