/* test_prepare_search.c: the five search sets of `semindex prepare`, each from small files in the form that their owners publish, odd lines
 * among them: counts as constructed, bad lines named with file and line, splits, the random fill, resumed runs, and what the corpus reader
 * makes of the result. */
#include "prepare_kit.h"

#include "../../core/data/prepare_internal.h"

static void expect_clean(const char *text, bool markup, size_t most, const char *want)
{
    struct str out = {0};
    prepare_clean(&out, text, markup, most);
    assert_string_equal(out.data, want);
    str_free(&out);
}

static void test_clean(void **state)
{
    (void)state;
    expect_clean("  a \t\n b\x01 c\xc2\xa0 d ", false, 0, "a b c d");
    expect_clean("a&amp;b &lt;i&gt; &#39;x&#x27; &nbsp; &bogus; &#0; & &amp;quot;", true, 0, "a&b <i> 'x' &bogus; &#0; & &quot;");
    expect_clean("a&amp;b <p>", false, 0, "a&amp;b <p>");
    expect_clean("<p class=\"x\">One<br/>two</p><!-- c -->5 < 7 <3 > 2 <", true, 0, "One two 5 < 7 <3 > 2 <");
    expect_clean("bad\xff\xc3 byte", false, 0, "bad\xef\xbf\xbd\xef\xbf\xbd byte");
    expect_clean("one two three", false, 9, "one two");
    expect_clean("one two three", false, 7, "one two");
    expect_clean("one two three", false, 6, "one");
    expect_clean("abcdefgh", false, 4, "abcd");
    expect_clean("a \xc3\xa9\xc3\xa9", false, 3, "a");
    expect_clean("", true, 0, "");
}

/* ---- msmarco and trec-dl ---- */

static void put_msmarco(void)
{
    struct str c = {0};
    for (int i = 0; i < 400; i++)
        str_printf(&c, "%d\tpassage \"%d\" of\tthe collection%s\n", i, i, i % 50 == 0 ? "\r" : "");
    str_puts(&c, "no tab here\n"); /* line 401 */
    str_puts(&c, "7\tagain\n");    /* line 402: labelled, again */
    str_puts(&c, "\tno id\n");
    str_puts(&c, "900\tlabelled, with a bad byte \xff\n");
    kit_put_gzip("raw/collection.tsv.gz", c.data);
    str_free(&c);
    kit_put("raw/queries.train.tsv", "1\tfirst  query\n2\tsecond\n3\tnot judged\n4\tits passage is missing\n1\tagain\nbroken\n");
    kit_put("raw/qrels.train.tsv", "1\t0\t7\t1\n1\t0\t7\t1\n1\t0\t8\t1\n2\t0\t900\t1\n4\t0\t5000\t1\n5\t0\t9\t1\nodd line\n2\t0\t9\t0\n");
    kit_put("raw/queries.dev.small.tsv", "11\tdev one\n12\tdev two\n");
    kit_put("raw/qrels.dev.small.tsv", "11\t0\t300\t1\n12\t0\t301\t1\n12\t0\t7\t1\n");
}

static int count_lines(const char *text, const char *with)
{
    int n = 0;
    for (const char *s = text; *s; s = strchr(s, '\n') + 1) {
        const char *end = strchr(s, '\n'), *hit = strstr(s, with);
        n += hit && hit < end;
    }
    return n;
}

static void test_msmarco(void **state)
{
    (void)state;
    put_msmarco();
    assert_runs({.set = "msmarco", .bad_lines = 9, .seed = 3, .documents = 50});
    assert_has(kit_table.data, "| documents | queries train / test | labels train / test |");
    assert_has(kit_table.data, "| MACRO 1M | 50 | 2 / 2 | 3 / 3 |");
    assert_has(kit_table.data, "1 repeated labels");
    assert_has(kit_table.data, "2 labels whose document or query is not there"); /* 5000; the text of query 5 */
    assert_has(kit_table.data, "5 bad lines");
    assert_has(kit_notes.data, "raw/collection.tsv.gz: line 401: is not \"id TAB text\"");
    assert_has(kit_notes.data, "raw/collection.tsv.gz: line 402: passage 7 was there before");
    assert_has(kit_notes.data, "raw/collection.tsv.gz: line 403: the id is empty");
    assert_has(kit_notes.data, "raw/qrels.train.tsv: line 7: is neither");
    assert_has(kit_notes.data, "raw/queries.train.tsv: line 6: is not");
    assert_string_equal(kit_get("out/queries-train.jsonl"),
                        "{\"_id\": \"1\", \"text\": \"first query\"}\n{\"_id\": \"2\", \"text\": \"second\"}\n");
    assert_string_equal(kit_get("out/qrels/train.tsv"), "query-id\tcorpus-id\tscore\n1\t7\t1\n1\t8\t1\n2\t900\t1\n");
    assert_string_equal(kit_get("out/qrels/test.tsv"), "query-id\tcorpus-id\tscore\n11\t300\t1\n12\t301\t1\n12\t7\t1\n");
    char *corpus = kit_get("out/corpus.jsonl");
    static const char *const labelled[] = {"\"7\"", "\"8\"", "\"9\"", "\"300\"", "\"301\"", "\"900\""};
    for (int i = 0; i < 6; i++) {
        char *key = xprintf("{\"_id\": %s,", labelled[i]);
        assert_int_equal(count_lines(corpus, key), 1);
        free(key);
    }
    assert_has(corpus, "{\"_id\": \"7\", \"title\": \"\", \"text\": \"passage \\\"7\\\" of the collection\"}");
    assert_has(corpus, "bad byte \xef\xbf\xbd");
    struct corpus c;
    assert_int_equal(corpus_read(&c, kit_path("out"), NULL, NULL), 0);
    assert_int_equal(c.count, 50);
    assert_int_equal(c.train.judgements, 3);
    assert_int_equal(c.test.count, 2);
    corpus_free(&c);
}

static void test_msmarco_fill(void **state)
{
    (void)state;
    put_msmarco();
    assert_runs({.set = "msmarco", .bad_lines = 9, .seed = 3, .documents = 50});
    assert_runs({.set = "msmarco", .bad_lines = 9, .seed = 3, .documents = 50, .out = "same"});
    assert_runs({.set = "msmarco", .bad_lines = 9, .seed = 4, .documents = 50, .out = "seed"});
    char *first = xstrdup(kit_get("out/corpus.jsonl"));
    assert_string_equal(first, kit_get("same/corpus.jsonl"));
    assert_string_not_equal(first, kit_get("seed/corpus.jsonl"));
    free(first);
    assert_runs({.set = "msmarco", .bad_lines = 9, .out = "whole"}); /* fewer than a million: all of them */
    assert_has(kit_table.data, "| 401 |");
    assert_runs({.set = "msmarco", .bad_lines = 9, .out = "least", .documents = 6}); /* 7, 8, 9, 300, 301, 900 */
    assert_has(kit_table.data, "| 6 |");
    assert_int_equal(kit_run((struct prepare_options){.set = "msmarco", .bad_lines = 9, .out = "no", .documents = 5}), -1);
    assert_has(kit_error.message, "6 passages have a label");
    assert_int_equal(kit_run((struct prepare_options){.set = "msmarco", .bad_lines = 9, .seed = 3, .documents = 50, .check = true}), -1);
    assert_int_equal(kit_error.code, ERR_DATA);
    assert_has(kit_error.message,
               "MACRO 1M differs from the published row: documents 50, published 1,000,000; queries train 2, published 502,939");
    assert_has(kit_table.data, "| published | 1,000,000 | 502,939 / 6,980 | 532,751 / 7,437 |");
}

static void test_msmarco_resumes(void **state)
{
    (void)state;
    static const char *const phases[] = {"choose", "corpus", "queries"};
    struct str big = {0};
    put_msmarco();
    for (int i = 0; i < 3000; i++)
        str_printf(&big, "%d\tpassage %d\n", i, i);
    kit_put("raw/collection.tsv", big.data);
    assert_int_equal(remove(kit_path("raw/collection.tsv.gz")), 0);
    str_clear(&big);
    for (int i = 0; i < 3000; i++)
        str_printf(&big, "%d\tquery %d\n", i, i);
    kit_put("raw/queries.train.tsv", big.data);
    str_free(&big);
    assert_runs({.set = "msmarco", .bad_lines = 9, .documents = 50});
    for (int i = 0; i < 3; i++) {
        kit_stop_phase = phases[i];
        assert_int_equal(kit_run((struct prepare_options){.set = "msmarco", .bad_lines = 9, .documents = 50, .out = "parts"}), -1);
        assert_int_equal(kit_error.code, ERR_INTERRUPTED);
    }
    kit_stop_phase = NULL;
    assert_runs({.set = "msmarco", .bad_lines = 9, .documents = 50, .out = "parts"});
    static const char *const files[] = {"corpus.jsonl",    "queries.jsonl",  "queries-train.jsonl",
                                        "qrels/train.tsv", "qrels/test.tsv", "prepared.json"};
    for (int i = 0; i < 6; i++) {
        char *a = xprintf("out/%s", files[i]), *b = xprintf("parts/%s", files[i]), *text = xstrdup(kit_get(a));
        assert_string_equal(text, kit_get(b));
        free(a);
        free(b);
        free(text);
    }
}

static void test_trec_dl(void **state)
{
    (void)state;
    put_msmarco();
    assert_runs({.set = "msmarco", .bad_lines = 9, .documents = 6});
    kit_put("dl/msmarco-test2019-queries.tsv", "100\tnineteen\n101\tunjudged\n");
    kit_put("dl/2019qrels-pass.txt", "100 Q0 7 3\n100 Q0 8 0\n100 Q0 3999 2\n");
    kit_put("dl/msmarco-test2020-queries.tsv", "200\ttwenty\n201\tno passage here\n");
    kit_put("dl/2020qrels-pass.txt", "200 0 300 1\n200 0 301 2\n201 0 4000 3\n");
    assert_runs({.set = "trec-dl", .folder = "dl", .data = "out", .out = "dl-out"});
    assert_has(kit_table.data, "| TREC-DL 1M | 6 | 2 / 2 | 3 / 3 |");
    assert_has(kit_table.data, "2 labels whose document or query is not there");
    assert_string_equal(kit_get("dl-out/qrels/test.tsv"), "query-id\tcorpus-id\tscore\n100\t7\t3\n200\t300\t1\n200\t301\t2\n");
    assert_string_equal(kit_get("dl-out/queries.jsonl"),
                        "{\"_id\": \"100\", \"text\": \"nineteen\"}\n{\"_id\": \"200\", \"text\": \"twenty\"}\n");
    assert_int_equal(kit_run((struct prepare_options){.set = "trec-dl", .folder = "dl", .out = "x"}), -1);
    assert_has(kit_error.message, "--data DIR is needed");
}

/* ---- nq ---- */

static void test_nq(void **state)
{
    (void)state;
    kit_put_gzip("raw/v1.0-simplified_simplified-nq-train.jsonl.gz",
                 "{\"annotations\": [{\"example_id\": 1}], \"document_text\": \"Big Ben - Wikipedia <H1> Big Ben </H1> <P> A clock , 5 "
                 "&lt; 7 . </P>\", "
                 "\"question_text\": \"what is  big ben\", \"document_url\": "
                 "\"https://en.wikipedia.org//w/index.php?title=Big_Ben&amp;oldid=1\", "
                 "\"example_id\": 5655493461695504401}\n"
                 "{\"document_text\": \"<H1> big ben </H1> other revision\", \"question_text\": \"how tall\", \"example_id\": -77}\n"
                 "{\"document_text\": \"no heading\", \"document_url\": \"https://x/?title=Caf%C3%A9_(place)&amp;o=1\", \"question_text\": "
                 "\"where\", \"example_id\": 3}\n"
                 "{\"document_text\": \"x\", \"question_text\": \"\", \"example_id\": 4}\n" /* line 4 */
                 "{\"document_text\": \"x\", \"question_text\": \"q\"}\n"
                 "{\"question_text\": \"q\", \"example_id\": 6}\n"
                 "{\"document_text\": \"<H1> Who 's Next ( album ) </H1> words of the album\", \"question_text\": \"again\", "
                 "\"example_id\": 3}\n" /* line 7 */
                 "{\"document_text\": \"<H1> Who 's Next ( album ) </H1> words of the album\", \"question_text\": \"who\", \"example_id\": "
                 "8}\n");
    kit_put("raw/nq-dev-00.jsonl", "{\"document_title\": \"Who's Next (album)\", \"document_tokens\": [{\"token\": \"x\", \"html_token\": "
                                   "false}], \"question_text\": \"who now\", "
                                   "\"example_id\": 9, \"document_url\": \"u\"}\n");
    kit_put("raw/nq-dev-01.jsonl",
            "{\"document_title\": \"New\", \"document_tokens\": [{\"token\": \"<P>\", \"html_token\": true}, {\"token\": \"fresh\"}, "
            "{\"token\": \"page\"}], \"question_text\": \"new\", \"example_id\": 10}\n");
    assert_runs({.set = "nq", .bad_lines = 9});
    assert_has(kit_table.data, "| NQ320k | 4 | 4 / 2 | 4 / 2 |");
    assert_has(kit_table.data, "4 bad lines");
    assert_has(kit_notes.data, "nq-train.jsonl.gz: line 4: \"question_text\" is missing or empty");
    assert_has(kit_notes.data, "nq-train.jsonl.gz: line 5: \"example_id\"");
    assert_has(kit_notes.data, "nq-train.jsonl.gz: line 6: has neither");
    assert_has(kit_notes.data, "nq-train.jsonl.gz: line 7: example 3 was there before");
    assert_string_equal(kit_get("out/corpus.jsonl"),
                        "{\"_id\": \"0\", \"title\": \"Big Ben\", \"text\": \"Big Ben - Wikipedia Big Ben A clock , 5 < 7 .\"}\n"
                        "{\"_id\": \"1\", \"title\": \"Caf\xc3\xa9 (place)\", \"text\": \"no heading\"}\n"
                        "{\"_id\": \"2\", \"title\": \"Who 's Next ( album )\", \"text\": \"Who 's Next ( album ) words of the album\"}\n"
                        "{\"_id\": \"3\", \"title\": \"New\", \"text\": \"fresh page\"}\n");
    assert_string_equal(kit_get("out/qrels/train.tsv"),
                        "query-id\tcorpus-id\tscore\n5655493461695504401\t0\t1\n-77\t0\t1\n3\t1\t1\n8\t2\t1\n");
    assert_string_equal(kit_get("out/qrels/test.tsv"), "query-id\tcorpus-id\tscore\n9\t2\t1\n10\t3\t1\n");
    assert_has(kit_get("out/queries-train.jsonl"), "{\"_id\": \"5655493461695504401\", \"text\": \"what is big ben\"}");
    assert_runs({.set = "nq", .bad_lines = 9, .max_text = 16, .out = "short"});
    assert_has(kit_get("short/corpus.jsonl"), "\"text\": \"Big Ben -\"}");
}

/* ---- esci ---- */

static const char examples[] =
    "\texample_id\tquery\tquery_id\tproduct_id\tproduct_locale\tesci_label\tsmall_version\tlarge_version\tsplit\n"
    "0\t0\tred tent\t1\tP1\tus\tE\t1\t1\ttrain\n"
    "1\t1\tred tent\t1\tP2\tus\tS\t1\t1\ttrain\n"
    "2\t2\tred tent\t1\tP3\tus\tE\t1\t1\ttrain\n"
    "3\t3\tred tent\t1\tP3\tus\tE\t1\t1\ttrain\n"
    "4\t4\t\"a 12\"\" \"\"pan\"\" &amp; lid\"\t2\tP2\tus\tE\t1\t1\ttest\n"
    "5\t5\ttienda\t3\tP9\tes\tE\t1\t1\ttrain\n"
    "6\t6\tgone\t4\tP8\tus\tE\t1\t1\ttrain\n"
    "7\t7\t\t5\tP1\tus\tE\t1\t1\ttrain\n" /* line 9 */
    "8\t8\tshort row\t6\n"                /* line 10 */
    "9\t9\t\"two\nlines\"\t7\tP1\tus\tE\t1\t1\ttest\r\n";

static const char products[] =
    "product_id\tproduct_title\tproduct_description\tproduct_bullet_point\tproduct_brand\tproduct_color\tproduct_locale\n"
    "P1\tTent &amp; Poles\t<p>Big.</p>\t\"one\ntwo\"\tAcme\tRed\tus\n"
    "P2\t\t\t\t\t\tus\n"
    "P9\tTienda\t\t\t\t\tes\n"
    "P1\tagain\t\t\t\t\tus\n"
    "P3\tThird\ttext\t\t\t\tus\n";

static void test_esci(void **state)
{
    (void)state;
    kit_put_gzip("raw/shopping_queries_dataset_examples.tsv.gz", examples);
    kit_put("raw/shopping_queries_dataset_products.tsv", products);
    assert_runs({.set = "esci", .bad_lines = 9, .seed = 1});
    assert_has(kit_table.data, "| esci | 3 | 0 / 1 / 2 | 0 / 2 / 2 |"); /* seven eighths of one, rounded down */
    assert_has(kit_table.data, "2 bad lines");
    assert_has(kit_table.data, "1 repeated documents");
    assert_has(kit_table.data, "1 repeated labels");
    assert_has(kit_table.data, "1 labels whose document");
    assert_has(kit_notes.data, "examples.tsv.gz: line 9: \"query\" is missing");
    assert_has(kit_notes.data, "examples.tsv.gz: line 10: has 4 fields, the header has 10");
    assert_string_equal(
        kit_get("out/corpus.jsonl"),
        "{\"_id\": \"P1\", \"title\": \"Tent & Poles\", \"text\": \"Big. one two\", \"brand\": \"Acme\", \"color\": \"Red\"}\n"
        "{\"_id\": \"P2\", \"title\": \"\"}\n"
        "{\"_id\": \"P3\", \"title\": \"Third\", \"text\": \"text\"}\n");
    assert_string_equal(kit_get("out/queries-dev.jsonl"), "{\"_id\": \"1\", \"text\": \"red tent\"}\n");
    assert_string_equal(kit_get("out/queries.jsonl"),
                        "{\"_id\": \"2\", \"text\": \"a 12\\\" \\\"pan\\\" & lid\"}\n{\"_id\": \"7\", \"text\": \"two lines\"}\n");
    assert_string_equal(kit_get("out/qrels/dev.tsv"), "query-id\tcorpus-id\tscore\n1\tP1\t1\n1\tP3\t1\n");
    struct corpus c;
    assert_int_equal(corpus_read(&c, kit_path("out"), NULL, NULL), 0);
    assert_int_equal(c.test.judgements, 2);
    corpus_free(&c);
}

/* Queries for the items of a category; 1,199 with a product there divide as published. */
static void test_esci_for_items(void **state)
{
    (void)state;
    struct str s = {0};
    kit_put("shop/items.jsonl", "{\"id\": \"P1\", \"title\": \"One\"}\n{\"id\": \"P2\", \"title\": \"\"}\n");
    kit_put("shop/sequences.txt", "u P1 P2 P1\n");
    kit_put("shop/prepared.json", "{\"category\": \"Beauty\"}");
    for (int i = 0; i < 1300; i++)
        str_printf(&s,
                   "{\"query\": \"query %d\", \"query_id\": %d, \"product_id\": \"P%d\", \"product_locale\": \"us\", \"esci_label\": "
                   "\"%s\", \"split\": \"%s\"}\n",
                   i, i, i % 100 == 99 ? 7 : i % 2 + 1, i == 5 ? "I" : "E", i < 1212 ? "train" : "test");
    kit_put("raw/examples.jsonl", s.data);
    str_free(&s);
    assert_int_equal(kit_run((struct prepare_options){.set = "esci", .data = "shop", .check = true}), -1);
    assert_has(kit_table.data, "| Beauty | 2 | 1 | - / - / - | 1,049 / 150 / 87 | 1,049 / 150 / 87 |");
    assert_has(kit_error.message,
               "items 2, published 12,101; users 1, published 22,363; queries test 87, published 338; labels train 1,049, published 1,907");
    assert_has_not(kit_error.message, "queries train");
    assert_string_equal(kit_get("out/items.jsonl"), "{\"id\": \"P1\", \"title\": \"One\"}\n{\"id\": \"P2\", \"title\": \"\"}\n");
    assert_string_equal(kit_get("out/sequences.txt"), "u P1 P2 P1\n");
    assert_int_equal(kit_run((struct prepare_options){.set = "esci", .out = "x"}), -1);
    assert_has(kit_error.message, "no product table");
}

static void test_esci_tables(void **state)
{
    (void)state;
    kit_put("raw/products.tsv", products);
    kit_put("raw/examples.tsv", "query\tquery_id\tproduct_id\tsplit\nq\t1\tP1\ttrain\n");
    assert_int_equal(kit_run((struct prepare_options){.set = "esci"}), -1);
    assert_has(kit_error.message, "examples.tsv: line 1: the header has no column \"esci_label\"");
    kit_put("raw/examples.tsv",
            "query,query_id,product_id,split,esci_label\n\"q, r\",1,P1,test,E\n\"never closed,2,P1,test,E\nx,3,P1,test,E\n");
    assert_runs({.set = "esci", .bad_lines = 1});
    assert_string_equal(kit_get("out/queries.jsonl"), "{\"_id\": \"1\", \"text\": \"q, r\"}\n");
    assert_has(kit_notes.data, "does not close");
    kit_put("raw/examples.tsv", "");
    assert_int_equal(kit_run((struct prepare_options){.set = "esci", .out = "x"}), -1);
    assert_has(kit_error.message, "holds no table");
}

/* ---- beir ---- */

static void test_beir(void **state)
{
    (void)state;
    kit_put_gzip("raw/corpus.jsonl.gz", "{\"_id\": \"a\", \"title\": null, \"text\": \"x  y\", \"metadata\": {\"url\": \"u\"}}\r\n"
                                        "{\"_id\": 12, \"text\": \"number\"}\n"
                                        "{\"title\": \"no id\"}\n"
                                        "{\"_id\": \"a\", \"title\": \"again\"}\n"
                                        "{\"_id\": \"b\", \"title\": 5}\n"
                                        "{\"_id\": \"c\", \"title\": \"T\", \"text\": \"\"}\n"
                                        "[1]\n");
    kit_put("raw/queries.jsonl",
            "{\"_id\": \"q1\", \"text\": \"one\"}\n{\"_id\": \"q2\", \"text\": \"two\"}\n{\"_id\": \"q3\", \"text\": \"unjudged\"}\n"
            "{\"_id\": \"q4\", \"text\": \"\"}\n{\"_id\": \"q1\", \"text\": \"again\"}\n");
    kit_put("raw/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\t12\t2\nq1\tzzz\t1\nq2\tc\t0\n");
    kit_put("raw/qrels/train.tsv", "query-id\tcorpus-id\tscore\nq2\tc\t1\nq1\tc\t1\nq4\tc\t1\n");
    assert_runs({.set = "beir", .bad_lines = 9});
    assert_has(kit_table.data, "| beir | 3 | 2 / 0 / 1 | 2 / 0 / 2 |");
    assert_has(kit_table.data, "6 bad lines");
    assert_has(kit_table.data, "2 labels whose document or query");
    assert_has(kit_notes.data, "corpus.jsonl.gz: line 3: has no \"_id\"");
    assert_has(kit_notes.data, "corpus.jsonl.gz: line 4: document a was there before");
    assert_has(kit_notes.data, "corpus.jsonl.gz: line 5: \"title\" is not a string");
    assert_has(kit_notes.data, "queries.jsonl: line 4: \"text\" is missing");
    assert_has(kit_notes.data, "queries.jsonl: line 5: query q1 was there before");
    assert_string_equal(kit_get("out/corpus.jsonl"), "{\"_id\":\"a\",\"title\":\"\",\"text\":\"x y\",\"metadata\":{\"url\":\"u\"}}\n"
                                                     "{\"_id\":\"12\",\"text\":\"number\",\"title\":\"\"}\n"
                                                     "{\"_id\":\"c\",\"title\":\"T\",\"text\":\"\"}\n");
    assert_string_equal(kit_get("out/qrels/test.tsv"), "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\t12\t2\n");
    assert_string_equal(kit_get("out/queries-train.jsonl"), "{\"_id\": \"q1\", \"text\": \"one\"}\n{\"_id\": \"q2\", \"text\": \"two\"}\n");
    assert_false(file_exists(kit_path("out/queries-dev.jsonl")));
    struct corpus c;
    assert_int_equal(corpus_read(&c, kit_path("out"), NULL, NULL), 0);
    assert_int_equal(c.train.judgements, 2);
    corpus_free(&c);
    assert_runs({.set = "beir", .folder = "out", .out = "twice"}); /* what was made is a BEIR folder again, but for its queries' names */
    assert_int_equal(kit_run((struct prepare_options){.set = "beir", .bad_lines = 9, .check = true}), -1);
    assert_int_equal(kit_error.code, ERR_USAGE);
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, kit_open, kit_close)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean), IN_FOLDER(test_msmarco), IN_FOLDER(test_msmarco_fill), IN_FOLDER(test_msmarco_resumes),
        IN_FOLDER(test_trec_dl),      IN_FOLDER(test_nq),      IN_FOLDER(test_esci),         IN_FOLDER(test_esci_for_items),
        IN_FOLDER(test_esci_tables),  IN_FOLDER(test_beir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
