/* test_corpus.c: both layouts of a data folder, what is read from them, and every bad line with the file and line number that its error names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/data/corpus.h"

static char folder[64];

static int open_folder(void **state)
{
    (void)state;
    strcpy(folder, P_tmpdir "/semindex-corpus-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

static void put(const char *name, const char *text)
{
    struct err e = {0};
    char *path = path_join(folder, name);
    assert_int_equal(file_write(path, text, strlen(text), &e), 0);
    free(path);
}

static const char documents[] = "{\"_id\": \"d1\", \"title\": \"One\", \"text\": \"first text\"}\n"
                                "\n"
                                "{\"_id\": \"d2\", \"title\": \"\", \"text\": \"\"}\r\n"
                                "{\"id\": \"d\\u00e9\", \"title\": \"Three\", \"section\": \"admin\", \"metadata\": {\"a\": [1, 2]}}";

static void test_beir(void **state)
{
    (void)state;
    struct err e = {0};
    struct corpus c;
    put("corpus.jsonl", documents);
    put("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"what\"}\n{\"_id\": \"q2\", \"text\": \"why\"}\n");
    put("qrels.tsv", "query-id\tcorpus-id\tscore\nq2\td2\t2\nq1\td1\t0\nq2\td1\t1\nq9\td1\t1\nq1\td9\t1\n");
    assert_int_equal(corpus_read(&c, folder, NULL, &e), 0);
    assert_int_equal(c.count, 3);
    assert_string_equal(c.documents[0].title, "One");
    assert_string_equal(c.documents[0].text, "first text");
    assert_null(c.documents[0].attributes);
    assert_string_equal(c.documents[1].id, "d2"); /* no words, and keeps its place */
    assert_string_equal(c.documents[2].id, "d\xc3\xa9");
    assert_string_equal(c.documents[2].attributes, "{\"section\":\"admin\",\"metadata\":{\"a\":[1,2]}}");
    assert_int_equal(string_map_get(c.by_id, "d2", 2), 1);
    assert_int_equal(c.test.count, 2);
    assert_string_equal(c.test.query[1].text, "why");
    assert_int_equal(c.test.judgements, 3); /* two name what is not there */
    static const struct corpus_judgement expected[] = {{0, 0, 0}, {1, 0, 1}, {1, 1, 2}};
    assert_memory_equal(c.test.judgement, expected, sizeof expected);
    assert_int_equal(c.train.count, 0);
    assert_int_equal(c.users, 0);
    char *section = corpus_category(&c.documents[2]);
    assert_string_equal(section, "admin");
    assert_null(corpus_category(&c.documents[0]));
    free(section);
    corpus_free(&c);
}

static void test_judgements_in_a_subfolder_and_training_pairs(void **state)
{
    (void)state;
    struct err e = {0};
    struct corpus c;
    char *sub = path_join(folder, "qrels");
    assert_int_equal(mkdir(sub, 0700), 0);
    free(sub);
    put("corpus.jsonl", documents);
    put("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"what\"}\n");
    put("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    put("queries-train.jsonl", "{\"_id\": \"t1\", \"text\": \"taught\"}\n");
    put("qrels-train.tsv", "t1\td2\t1\n");
    assert_int_equal(corpus_read(&c, folder, NULL, &e), 0);
    assert_int_equal(c.test.judgements, 1);
    assert_int_equal(c.train.judgements, 1); /* a first line without a header is a judgement */
    assert_string_equal(c.train.query[0].text, "taught");
    corpus_free(&c);
}

static const char items[] =
    "{\"id\": \"a\", \"title\": \"Tent\", \"brand\": \"Norvik\", \"categories\": [[\"Outdoor\", \"Tents\"], [\"Other\"]], \"description\": \"Dry.\"}\n"
    "{\"id\": \"b\", \"title\": \"Rope\"}\n";

static void test_items(void **state)
{
    (void)state;
    struct err e = {0};
    struct corpus c;
    int32_t length;
    struct str text = {0};
    put("items.jsonl", items);
    put("sequences.txt", "u1 a b a\nu2  b\t a\nu3\n");
    assert_int_equal(corpus_read(&c, folder, NULL, &e), 0);
    assert_int_equal(c.users, 3);
    assert_string_equal(c.user[1], "u2");
    const int32_t *s = corpus_sequence(&c, 0, &length);
    assert_int_equal(length, 3);
    assert_true(s[0] == 0 && s[1] == 1 && s[2] == 0);
    s = corpus_sequence(&c, 1, &length);
    assert_true(length == 2 && s[0] == 1 && s[1] == 0);
    corpus_sequence(&c, 2, &length);
    assert_int_equal(length, 0);
    document_text(&c.documents[0], &text);
    assert_string_equal(text.data, "Tent. Outdoor > Tents. Norvik. Dry.");
    char *category = corpus_category(&c.documents[0]);
    assert_string_equal(category, "Outdoor > Tents");
    assert_null(corpus_category(&c.documents[1]));
    free(category);
    str_free(&text);
    corpus_free(&c);
}

static void test_gzip(void **state)
{
    (void)state;
    struct err e = {0};
    struct corpus c;
    char *path = path_join(folder, "corpus.jsonl");
    gzFile f = gzopen(path, "wb");
    assert_int_equal(gzwrite(f, documents, sizeof documents - 1), sizeof documents - 1);
    gzclose(f);
    free(path);
    assert_int_equal(corpus_read(&c, folder, NULL, &e), 0);
    assert_int_equal(c.count, 3);
    corpus_free(&c);
}

/* One wrong file each, and what its error must name. */
static const struct {
    const char *file, *content, *named, *also;
} wrong[] = {
    {"corpus.jsonl", "", "corpus.jsonl", "no documents"},
    {"corpus.jsonl", "\n\n", "corpus.jsonl", "no documents"},
    {"corpus.jsonl", "{\"_id\": \"a\"}\nnot json\n", "corpus.jsonl: line 2", "JSON"},
    {"corpus.jsonl", "{\"_id\": \"a\"}\n[1]\n", "corpus.jsonl: line 2", "object"},
    {"corpus.jsonl", "{\"_id\": \"a\"}\n{\"_id\": \"b\"} x\n", "corpus.jsonl: line 2", "JSON"},
    {"corpus.jsonl", "{\"_id\": \"a\"}\n{\"_id\": 5}\n", "corpus.jsonl: line 2", "_id"},
    {"corpus.jsonl", "{\"title\": \"a\"}\n", "corpus.jsonl: line 1", "_id"},
    {"corpus.jsonl", "{\"_id\": \"\"}\n", "corpus.jsonl: line 1", "id"},
    {"corpus.jsonl", "{\"_id\": \"a\\u0007b\"}\n", "corpus.jsonl: line 1", "id"},
    {"corpus.jsonl", "{\"_id\": \"a\"}\n\n{\"_id\": \"b\"}\n{\"_id\": \"a\"}\n", "corpus.jsonl: line 4", "line 1"},
    {"corpus.jsonl", "{\"_id\": \"a\", \"text\": 7}\n", "corpus.jsonl: line 1", "text"},
    {"corpus.jsonl", "{\"_id\": \"a\", \"title\": [\"x\"]}\n", "corpus.jsonl: line 1", "title"},
    {"queries.jsonl", "{\"_id\": \"q1\", \"text\": \"x\"}\n{\"_id\": \"q1\", \"text\": \"y\"}\n", "queries.jsonl: line 2", "id"},
    {"queries.jsonl", "{\"_id\": \"q1\"}\n", "queries.jsonl: line 1", "text"},
    {"qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\n", "qrels.tsv: line 2", "TAB"},
    {"qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tmany\n", "qrels.tsv: line 2", "grade"},
    {"qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\t1\n", "qrels.tsv: line 2", "TAB"},
    {"sequences.txt", "u1 d1\nu2 d1 nowhere\n", "sequences.txt: line 2", "nowhere"},
};

static void test_bad_lines_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {0};
        struct corpus c;
        put("corpus.jsonl", documents);
        put("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"what\"}\n");
        put("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
        put("sequences.txt", "u1 d1 d2\n");
        put(wrong[i].file, wrong[i].content);
        assert_int_equal(corpus_read(&c, folder, NULL, &e), -1);
        assert_int_equal(e.code, ERR_DATA);
        if (!strstr(e.message, wrong[i].named) || !strstr(e.message, wrong[i].also))
            fail_msg("case %zu: \"%s\" does not name \"%s\" and \"%s\"", i, e.message, wrong[i].named, wrong[i].also);
    }
}

static void test_no_corpus(void **state)
{
    (void)state;
    struct err e = {0};
    struct corpus c;
    assert_int_equal(corpus_read(&c, folder, NULL, &e), -1);
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_non_null(strstr(e.message, folder));
    assert_int_equal(corpus_read(&c, "no/such/folder", NULL, &e), -1);
    assert_int_equal(e.code, ERR_NO_INPUT);
}

/* Who is left out depends on name and seed alone, about as many as were asked for, and a larger share leaves out those of a smaller one, too. */
static void test_hold_out(void **state)
{
    (void)state;
    enum { DOCUMENTS = 2000 };
    struct err e = {0};
    struct corpus c;
    struct str lines = {0};
    int32_t other = 0;
    for (int i = 0; i < DOCUMENTS; i++)
        str_printf(&lines, "{\"_id\": \"d%d\", \"text\": \"t\"}\n", i);
    put("corpus.jsonl", lines.data);
    assert_int_equal(corpus_read(&c, folder, NULL, &e), 0);
    corpus_hold_out(&c, 0, 1, NULL);
    assert_true(c.count == DOCUMENTS && c.place == NULL);
    corpus_hold_out(&c, 0.1, 1, NULL);
    assert_int_equal(c.lines, DOCUMENTS);
    assert_in_range(DOCUMENTS - c.count, DOCUMENTS / 10 - 60, DOCUMENTS / 10 + 60);
    for (int32_t i = 0, at = 0; i < DOCUMENTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "d%d", i);
        bool out = corpus_is_held_out(name, 0.1, 1);
        assert_true(!out || corpus_is_held_out(name, 0.2, 1));
        other += out != corpus_is_held_out(name, 0.1, 2);
        if (out)
            continue;
        assert_string_equal(c.documents[at].id, name);
        assert_int_equal(c.place[at++], i);
    }
    assert_true(other > DOCUMENTS / 10);
    str_free(&lines);
    corpus_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_beir, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_judgements_in_a_subfolder_and_training_pairs, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_items, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_gzip, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_bad_lines_are_named, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_no_corpus, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_hold_out, open_folder, close_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
