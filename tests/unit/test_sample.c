/* test_sample.c: what the demo's catalogue promises: the corpus reader takes it whole, truth is held out, no held-out query can be answered by
 * copying, the other sayings stand in no text, histories can be predicted better than by popularity, and a seed gives the same bytes. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/data/corpus.h"
#include "../../core/data/neighbours.h"
#include "../../core/data/sample.h"

struct world {
    char folder[64];
    struct corpus corpus;
    struct str *text; /* of each document, lower case */
};

static void lower(char *s)
{
    for (; *s; s++)
        *s = (char)tolower((unsigned char)*s);
}

static int open_world(void **state)
{
    struct err e = {0};
    struct world *w = xcalloc(1, sizeof *w);
    *state = w;
    strcpy(w->folder, P_tmpdir "/semindex-sample-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    assert_int_equal(sample_write(w->folder, 7, &e), 0);
    assert_int_equal(corpus_read(&w->corpus, w->folder, NULL, &e), 0);
    w->text = xcalloc((size_t)w->corpus.count, sizeof *w->text);
    for (int32_t i = 0; i < w->corpus.count; i++) {
        document_text(&w->corpus.documents[i], &w->text[i]);
        lower(w->text[i].data);
    }
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    for (int32_t i = 0; i < w->corpus.count; i++)
        str_free(&w->text[i]);
    free(w->text);
    corpus_free(&w->corpus);
    file_remove_tree(w->folder, NULL);
    free(w);
    return 0;
}

static void test_sizes(void **state)
{
    const struct corpus *c = &((struct world *)*state)->corpus;
    assert_in_range(c->count, 900, 1200);
    assert_true(c->test.count >= 300 && c->train.count >= 5 * c->count);
    assert_true(c->users >= 1000);
    for (int32_t u = 0; u < c->users; u++) {
        int32_t length;
        corpus_sequence(c, u, &length);
        assert_true(length >= 5);
    }
}

static void test_every_query_has_a_truth(void **state)
{
    const struct corpus *c = &((struct world *)*state)->corpus;
    const struct corpus_queries *const sets[] = {&c->test, &c->train};
    for (int k = 0; k < 2; k++) {
        int32_t at = 0;
        for (int32_t q = 0; q < sets[k]->count; q++) {
            int32_t relevant = 0;
            for (; at < sets[k]->judgements && sets[k]->judgement[at].query == q; at++)
                relevant += sets[k]->judgement[at].grade > 0;
            assert_in_range(relevant, 1, 10);
        }
        assert_int_equal(at, sets[k]->judgements);
    }
}

static void test_no_query_copies(void **state)
{
    const struct world *w = *state;
    struct string_map *train = string_map_init(1024);
    for (int32_t q = 0; q < w->corpus.train.count; q++)
        string_map_put(train, w->corpus.train.query[q].text, strlen(w->corpus.train.query[q].text), q);
    for (int32_t q = 0; q < w->corpus.test.count; q++) {
        char *text = xstrdup(w->corpus.test.query[q].text);
        assert_int_equal(string_map_get(train, text, strlen(text)), -1);
        lower(text);
        for (int32_t i = 0; i < w->corpus.count; i++)
            if (strstr(w->text[i].data, text))
                fail_msg("query \"%s\" is a span of \"%s\"", text, w->text[i].data);
        free(text);
    }
    string_map_free(train);
}

static bool in_any_text(const struct world *w, const char *word)
{
    for (int32_t i = 0; i < w->corpus.count; i++)
        if (strstr(w->text[i].data, word))
            return true;
    return false;
}

/* A good part of the held-out queries holds a word of no text, and nearly all such words are taught by training queries. */
static void test_queries_speak_their_own_words(void **state)
{
    const struct world *w = *state;
    struct str taught = {0};
    int32_t with = 0, words = 0, untaught = 0;
    for (int32_t q = 0; q < w->corpus.train.count; q++)
        str_printf(&taught, "%s ", w->corpus.train.query[q].text);
    for (int32_t q = 0; q < w->corpus.test.count; q++) {
        char *text = xstrdup(w->corpus.test.query[q].text), *save = NULL;
        bool own = false;
        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
            if (!in_any_text(w, word)) {
                own = true;
                words++;
                untaught += !strstr(taught.data, word);
            }
        with += own;
        free(text);
    }
    assert_true(with * 3 >= w->corpus.test.count);
    assert_true(untaught * 20 <= words);
    str_free(&taught);
}

static int32_t hits_at_10(const struct corpus *c, const struct neighbours *n, const int32_t *id_rank, bool popular)
{
    double *scores = xcalloc((size_t)c->count, sizeof *scores);
    int32_t hits = 0;
    for (int32_t u = 0; u < c->users; u++) {
        int32_t length;
        const int32_t *items = corpus_sequence(c, u, &length);
        neighbours_score(n, items, length - 1, scores);
        for (int32_t i = 0; popular && i < c->count; i++)
            scores[i] = neighbours_popularity(n)[i];
        hits += neighbours_rank(&(struct neighbours_ranking){scores, id_rank, c->count, items, length - 1}, items[length - 1]) <= 10;
    }
    free(scores);
    return hits;
}

static void test_histories_can_be_predicted(void **state)
{
    const struct corpus *c = &((struct world *)*state)->corpus;
    const struct neighbours_options o = neighbours_defaults();
    struct neighbours *n = neighbours_build(&(struct neighbours_input){c->sequence, c->sequences, c->users, c->count, 2}, &o);
    const char **ids = xcalloc((size_t)c->count, sizeof *ids);
    int32_t *id_rank = xcalloc((size_t)c->count, sizeof *id_rank);
    for (int32_t i = 0; i < c->count; i++)
        ids[i] = c->documents[i].id;
    neighbours_id_ranks(id_rank, ids, c->count);
    int32_t near = hits_at_10(c, n, id_rank, false), popular = hits_at_10(c, n, id_rank, true);
    assert_true(near > 4 * popular);
    assert_true(near < c->users * 9 / 10); /* and not with certainty */
    free(ids);
    free(id_rank);
    neighbours_free(n);
}

static void test_same_seed_same_bytes(void **state)
{
    static const char *const names[] = {"items.jsonl", "sequences.txt", "queries.jsonl", "qrels.tsv", "queries-train.jsonl", "qrels-train.tsv"};
    const struct world *w = *state;
    struct err e = {0};
    char again[] = P_tmpdir "/semindex-sample-XXXXXX", other[] = P_tmpdir "/semindex-sample-XXXXXX";
    assert_true(mkdtemp(again) && mkdtemp(other));
    assert_int_equal(sample_write(again, 7, &e), 0);
    assert_int_equal(sample_write(other, 8, &e), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char a[65], b[65], c[65], *paths[] = {path_join(w->folder, names[i]), path_join(again, names[i]), path_join(other, names[i])};
        int64_t bytes;
        assert_true(sha256_file(paths[0], a, &bytes, &e) == 0 && sha256_file(paths[1], b, &bytes, &e) == 0 && sha256_file(paths[2], c, &bytes, &e) == 0);
        assert_string_equal(a, b);
        assert_string_not_equal(a, c);
        for (int k = 0; k < 3; k++)
            free(paths[k]);
    }
    file_remove_tree(again, NULL);
    file_remove_tree(other, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_every_query_has_a_truth),
        cmocka_unit_test(test_no_query_copies),
        cmocka_unit_test(test_queries_speak_their_own_words),
        cmocka_unit_test(test_histories_can_be_predicted),
        cmocka_unit_test(test_same_seed_same_bytes),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
