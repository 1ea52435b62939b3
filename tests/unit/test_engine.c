/* test_engine.c: the facade against the reference retriever, and its promises.
 *
 * Reference: every query of the fixture through engine_prepare and engine_run gives the documents and scores of expected.safetensors for both beam
 * widths, whoever shares the batch, from sixteen threads at once. Promises: what was put is found by the next search and what was deleted is
 * not; wrong documents are all named and nothing is stored; a document without a trained suffix is found in its bucket, shares of a bucket
 * sum to 1; a history becomes tokens, exclusions hold, an unknown history gets popular items; random operations equal an in-memory twin. */
#include "engine_kit.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

static const char *fixtures = "tests/fixtures/a";

/* ---- reference ---- */

struct reference {
    char *text, *line[256]; /* queries */
    int32_t queries, width[2];
    int32_t *docs[2];
    float *scores[2];
    struct id_table ids;
};

static void read_reference(struct reference *r, const struct kit *k)
{
    static const char *const docs[2] = {"beam5.docs", "beam20.docs"}, *const scores[2] = {"beam5.scores", "beam20.scores"};
    struct err e = {0};
    char *path = path_join(k->fixture, "expected.safetensors"), *queries = path_join(k->fixture, "queries.txt"), *at = NULL;
    char *ids = path_join(k->fixture, "ids.tsv");
    struct safetensors *s = safetensors_open(path, &e);
    KIT_NEED(s, &e);
    *r = (struct reference){.text = file_read(queries, 0, NULL, &e)};
    for (char *l = strtok_r(r->text, "\n", &at); l; l = strtok_r(NULL, "\n", &at))
        r->line[r->queries++] = l;
    for (int i = 0; i < 2; i++) {
        const struct safetensor *d = safetensors_find(s, docs[i]), *v = safetensors_find(s, scores[i]);
        r->width[i] = (int32_t)d->shape[1];
        r->docs[i] = xcalloc((size_t)d->elements, sizeof(int32_t));
        r->scores[i] = xcalloc((size_t)d->elements, sizeof(float));
        KIT_NEED(safetensors_ints(s, d, r->docs[i], &e) == 0 && safetensors_floats(s, v, r->scores[i], &e) == 0, &e);
    }
    KIT_NEED(id_table_read(&r->ids, ids, NULL, &e) == 0, &e);
    safetensors_close(s);
    free(path);
    free(queries);
    free(ids);
}

static void free_reference(struct reference *r)
{
    for (int i = 0; i < 2; i++) {
        free(r->docs[i]);
        free(r->scores[i]);
    }
    id_table_free(&r->ids);
    free(r->text);
}

/* Rank by rank, with the exchange that the fixtures allow: reference scores nearer than 1e-9, own scores different. */
static void compare_query(const struct reference *r, const struct engine_query *q, int32_t query, int which)
{
    int32_t w = r->width[which];
    const int32_t *docs = r->docs[which] + query * w;
    const float *scores = r->scores[which] + query * w;
    CHECK(q->err.code == ERR_NONE && q->hit_count == w && q->beam == w && !q->truncated);
    for (int32_t i = 0; i < w; i++) {
        const struct engine_hit *h = &q->hits[i];
        double tolerance = 3e-6 * fmax(fabs((double)scores[0]), fabs((double)scores[w - 1]));
        CHECK(fabs(h->score - (double)scores[i]) <= tolerance);
        CHECK(h->rank == i + 1 && h->suffix_trained && h->generative_rank == i + 1);
        if (!strcmp(h->id, r->ids.name[docs[i]]))
            continue;
        bool twin = false;
        for (int32_t j = 0; j < w; j++)
            twin |= !strcmp(h->id, r->ids.name[docs[j]]) && scores[i] == scores[j] && h->score != q->hits[j].score;
        CHECK(twin);
    }
}

static void run_all(struct kit *k, const struct reference *r, struct arena *a, const int *which, int32_t batch)
{
    struct engine_query q[256], *list[256];
    struct err e = {0};
    for (int32_t i = 0; i < r->queries; i++) {
        q[i] = kit_search(k, r->line[i], MODE_GENERATIVE, r->width[which[i]]);
        q[i].beam_width = r->width[which[i]];
        q[i].arena = a;
        list[i] = &q[i];
        KIT_NEED(engine_prepare(k->engine, &q[i], &e) == 0, &e);
    }
    for (int32_t i = 0; i < r->queries; i += batch)
        engine_run(k->engine, list + i, r->queries - i < batch ? r->queries - i : batch);
    for (int32_t i = 0; i < r->queries; i++)
        compare_query(r, &q[i], i, which[i]);
}

static void test_reference(void **state)
{
    struct kit *k = *state;
    struct reference r;
    int which[256];
    read_reference(&r, k);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 256; i++)
            which[i] = round < 2 ? round : (i + round) % 2;
        for (int32_t batch = 1; batch <= r.queries; batch += 3)
            run_all(k, &r, &k->arena, which, batch);
    }
    free_reference(&r);
}

struct searcher {
    struct kit *k;
    const struct reference *r;
    int number;
};

static void *search_in_thread(void *state)
{
    struct searcher *s = state;
    struct arena a;
    int which[256];
    arena_init(&a, 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 256; i++)
            which[i] = (i + s->number + round) % 2;
        run_all(s->k, s->r, &a, which, 1 + (s->number + round) % 5);
        arena_reset(&a);
    }
    arena_free(&a);
    return NULL;
}

static void test_threads(void **state)
{
    struct kit *k = *state;
    struct reference r;
    pthread_t thread[16];
    struct searcher s[16];
    read_reference(&r, k);
    for (int i = 0; i < 16; i++) {
        s[i] = (struct searcher){k, &r, i};
        assert_int_equal(pthread_create(&thread[i], NULL, search_in_thread, &s[i]), 0);
    }
    for (int i = 0; i < 16; i++)
        pthread_join(thread[i], NULL);
    free_reference(&r);
}

/* ---- the imported bundle: IDs without an indexer ---- */

static void check_refused(struct kit *k, const char *title, const char *brought, const char *code)
{
    struct engine_put_error why;
    assert_int_equal(kit_put(k, "stranger", title, brought, NULL, &why), -1);
    assert_string_equal(why.code, code);
}

static void check_put(struct kit *k, const char *id, const char *brought, enum engine_status status)
{
    struct engine_put put;
    assert_int_equal(kit_put(k, id, "it is back", brought, &put, NULL), 0);
    assert_int_equal(put.status, status);
}

static void test_brought_ids(void **state)
{
    struct kit *k = *state;
    struct reference r;
    struct engine_info info;
    struct err e = {0};
    int64_t generation;
    read_reference(&r, k);
    const char *best = r.ids.name[r.docs[1][0]];
    const uint32_t *codes = r.ids.codes + r.docs[1][0] * r.ids.positions;
    char *id = xprintf("%u-%u-%u", codes[0], codes[1], codes[2]);
    engine_info(k->engine, &info);
    assert_true(info.has_search && !info.has_indexer && !info.has_recommend && info.has_tokenizer && info.documents == r.ids.count);

    struct engine_query q = kit_search(k, r.line[0], MODE_GENERATIVE, 20);
    kit_run(k, &q);
    const struct engine_hit *before = kit_find(&q, best);
    assert_non_null(before);
    assert_string_equal(before->semantic_id, id);

    check_refused(k, "some words", NULL, "not_in_model");
    check_refused(k, "some words", id, "semantic_id_taken");
    check_refused(k, "some words", "1-2", "invalid_semantic_id");
    check_refused(k, "some words", "1-99-0", "invalid_semantic_id");
    check_refused(k, " ", "1-2-39", "no_words");

    assert_int_equal(engine_delete(k->engine, best, &generation, &e), 0);
    assert_int_equal(engine_delete(k->engine, best, &generation, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    q = kit_search(k, r.line[0], MODE_GENERATIVE, 20);
    kit_run(k, &q);
    assert_null(kit_find(&q, best));
    assert_int_equal(q.generation, generation);

    check_put(k, best, id, STATUS_CREATED);
    check_put(k, best, id, STATUS_UNCHANGED);
    check_put(k, best, NULL, STATUS_UNCHANGED);
    q = kit_search(k, r.line[0], MODE_GENERATIVE, 20);
    kit_run(k, &q);
    const struct engine_hit *after = kit_find(&q, best);
    assert_non_null(after);
    assert_true(after->rank == before->rank && after->score == before->score && after->suffix_trained);
    assert_string_equal(after->title, "it is back");

    q = kit_search(k, "back", MODE_LEXICAL, 5);
    kit_run(k, &q);
    assert_int_equal(q.hit_count, 1);
    assert_string_equal(q.hits[0].id, best);
    q = kit_search(k, r.line[0], MODE_HYBRID, 10);
    kit_run(k, &q);
    assert_int_equal(q.hit_count, 10);
    assert_true(q.hits[0].generative_rank > 0 && fabs(q.hits[0].score - 1.0 / 61) < 1e-12);
    free(id);
    free_reference(&r);
}

static void test_bounds(void **state)
{
    struct kit *k = *state;
    struct err e = {0};
    struct engine_query q = kit_search(k, "words", MODE_GENERATIVE, 10);
    q.beam_width = 5000;
    assert_int_equal(engine_prepare(k->engine, &q, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.message, "beam_width is 5000"));
    q = kit_search(k, "words", MODE_GENERATIVE, 900);
    q.offset = 101;
    assert_int_equal(engine_prepare(k->engine, &q, &e), -1);
    q.offset = 100;
    assert_int_equal(engine_prepare(k->engine, &q, &e), 0);
    assert_int_equal(q.beam, 1000);
    q = kit_search(k, "words", MODE_GENERATIVE, 10);
    q.beam_width = 7;
    assert_int_equal(engine_prepare(k->engine, &q, &e), 0);
    assert_int_equal(q.beam, 10);
    q.task = TASK_RECOMMEND;
    assert_int_equal(engine_prepare(k->engine, &q, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    q = kit_search(k, "words", MODE_GENERATIVE, 310);
    q.deadline_ms = clock_ms() - 1;
    assert_int_equal(engine_prepare(k->engine, &q, &e), 0);
    struct engine_query *list = &q;
    engine_run(k->engine, &list, 1);
    assert_int_equal(q.err.code, ERR_DEADLINE);
    q.deadline_ms = 0;
    engine_run(k->engine, &list, 1);
    assert_true(q.err.code == ERR_NONE && q.exhaustive && q.hit_count == 300);
    char *longer = kit_words(k, 3, 400);
    q = kit_search(k, longer, MODE_GENERATIVE, 3);
    kit_run(k, &q);
    assert_true(q.truncated && q.token_count == 256 && !q.exhaustive);
    free(longer);
}

/* ---- the bundle with all parts ---- */

/* Documents that were put without a trained suffix: score = prefix + share, and shares of a bucket sum to the new ones' part of it. */
static void check_shares(const struct engine_query *q, int32_t fresh)
{
    double sum[KIT_CODES * KIT_CODES] = {0}, fresh_in[KIT_CODES * KIT_CODES] = {0}, all_in[KIT_CODES * KIT_CODES] = {0};
    int32_t found = 0;
    for (int32_t i = 0; i < q->hit_count; i++) {
        const struct engine_hit *h = &q->hits[i];
        int a = 0, b = 0;
        assert_true(i == 0 || h->score <= q->hits[i - 1].score);
        assert_int_equal(sscanf(h->semantic_id, "%d-%d", &a, &b), 2);
        all_in[a * KIT_CODES + b]++;
        if (h->suffix_trained)
            continue;
        fresh_in[a * KIT_CODES + b]++;
        assert_true(fabs(h->score - (h->log_prefix + h->log_share)) < 1e-9);
        sum[a * KIT_CODES + b] += exp(h->log_share);
        found++;
    }
    assert_int_equal(found, fresh);
    for (int i = 0; i < KIT_CODES * KIT_CODES; i++)
        assert_true(sum[i] == 0 || fabs(sum[i] - fresh_in[i] / all_in[i]) < 1e-9);
}

/* In its bucket, the document that the query's words describe comes first. */
static void check_words(const struct engine_query *q, const char *id)
{
    const struct engine_hit *own = kit_find(q, id);
    int a = 0, b = 0, x, y, neighbours = 0;
    assert_non_null(own);
    assert_int_equal(sscanf(own->semantic_id, "%d-%d", &a, &b), 2);
    for (int32_t i = 0; i < q->hit_count; i++) {
        const struct engine_hit *h = &q->hits[i];
        assert_int_equal(sscanf(h->semantic_id, "%d-%d", &x, &y), 2);
        if (h->suffix_trained || h == own || x != a || y != b)
            continue;
        assert_true(h->log_share < own->log_share);
        neighbours++;
    }
    assert_true(neighbours > 0);
}

static void test_new_documents(void **state)
{
    struct kit *k = *state;
    enum { NEW = 70 };
    struct engine_put puts[NEW] = {0};
    struct err e = {0};
    struct engine_document document;
    for (int i = 0; i < NEW; i++) {
        char *words = kit_words(k, 1000 + (uint64_t)i, 4);
        puts[i].document = (struct document){.id = arena_printf(&k->arena, "new%d", i), .title = arena_strndup(&k->arena, words, strlen(words))};
        free(words);
    }
    struct engine_put_batch b = {.puts = puts, .count = NEW, .arena = &k->arena};
    KIT_NEED(engine_index(k->engine, &b, &e) == 0, &e);
    for (int i = 0; i < NEW; i++)
        assert_true(puts[i].status == STATUS_CREATED && puts[i].semantic_id && !puts[i].truncated);
    struct engine_query q = kit_search(k, puts[3].document.title, MODE_GENERATIVE, KIT_DOCUMENTS + NEW);
    kit_run(k, &q);
    assert_int_equal(q.hit_count, KIT_DOCUMENTS + NEW);
    assert_true(q.exhaustive && q.generation == b.generation);
    check_shares(&q, NEW);
    check_words(&q, "new3");

    KIT_NEED(engine_index(k->engine, &b, &e) == 0, &e);
    for (int i = 0; i < NEW; i++)
        assert_int_equal(puts[i].status, STATUS_UNCHANGED);
    assert_int_equal(engine_get(k->engine, "new3", &k->arena, &document, &e), 0);
    assert_string_equal(document.semantic_id, puts[3].semantic_id);
    assert_false(document.suffix_trained);
    assert_int_equal(engine_get(k->engine, "doc7", &k->arena, &document, &e), 0);
    assert_string_equal(document.semantic_id, "1-1-0");
    assert_string_equal(document.document.attributes, "{\"n\":7}");
    assert_true(document.suffix_trained);

    puts[1].document.id = "new0";
    puts[2].document.title = " ";
    assert_int_equal(engine_index(k->engine, &b, &e), -1);
    assert_int_equal(b.error_count, 2);
    assert_string_equal(b.errors[0].code, "duplicate_id");
    assert_string_equal(b.errors[1].code, "no_words");
}

/* What an imported or learned document holds already is neither encoded nor moved. */
static void test_unchanged(void **state)
{
    struct kit *k = *state;
    struct engine_document document;
    struct err e = {0};
    assert_int_equal(engine_get(k->engine, "doc12", &k->arena, &document, &e), 0);
    struct engine_put put = {.document = document.document};
    struct engine_put_batch b = {.puts = &put, .count = 1, .arena = &k->arena};
    KIT_NEED(engine_index(k->engine, &b, &e) == 0, &e);
    assert_int_equal(put.status, STATUS_UNCHANGED);
    assert_string_equal(put.semantic_id, document.semantic_id);
}

static void test_recommend(void **state)
{
    struct kit *k = *state;
    const struct engine_past history[] = {{.id = "doc1"}, {.id = "nobody"}, {.id = "doc2"}, {.text = "words of a person"}, {.id = "doc3"},
                                          {.id = "doc4"}, {.id = "doc5"}};
    const char *const exclude[] = {"doc6", "nothing"};
    struct engine_query q = {.task = TASK_RECOMMEND, .history = history, .history_count = 7, .exclude = exclude, .exclude_count = 2,
                             .exclude_history = true, .limit = 200, .arena = &k->arena};
    struct engine_info info;
    engine_info(k->engine, &info);
    kit_run(k, &q);
    assert_true(!q.fallback_used && q.truncated && q.used_count == 4 && q.unknown_count == 1);
    assert_string_equal(q.unknown_history[0], "nobody");
    assert_string_equal(q.used_history[0], "doc2");
    assert_string_equal(q.used_history[3], "doc5");
    assert_int_equal(q.hit_count, info.documents - 6);
    for (int i = 1; i <= 6; i++)
        assert_null(kit_find(&q, arena_printf(&k->arena, "doc%d", i)));
    q.exclude_history = false;
    kit_run(k, &q);
    assert_int_equal(q.hit_count, info.documents - 1);

    q = (struct engine_query){.task = TASK_RECOMMEND, .history = history + 1, .history_count = 1, .limit = 3, .arena = &k->arena,
                              .exclude = exclude, .exclude_count = 1};
    kit_run(k, &q);
    assert_true(q.fallback_used && q.hit_count == 3);
    assert_string_equal(q.hits[0].id, "doc59");
    q.history_count = 0;
    kit_run(k, &q);
    assert_true(q.fallback_used && q.hit_count == 3 && q.hits[0].score > q.hits[1].score);
}

/* ---- random operations against a twin ---- */

enum { TWIN_IDS = 40 };

struct twin {
    char title[TWIN_IDS][64]; /* "" = absent */
    int32_t live;
};

static void twin_put(struct kit *k, struct twin *t, int i, uint64_t *seed)
{
    struct engine_put put;
    char id[16], *words = kit_words(k, (uint64_t)kit_below(seed, 9), 3);
    snprintf(id, sizeof id, "r%d", i);
    assert_int_equal(kit_put(k, id, words, NULL, &put, NULL), 0);
    assert_int_equal(put.status, !t->title[i][0] ? STATUS_CREATED : strcmp(t->title[i], words) ? STATUS_UPDATED : STATUS_UNCHANGED);
    t->live += !t->title[i][0];
    snprintf(t->title[i], sizeof t->title[i], "%s", words);
    free(words);
}

static void twin_delete(struct kit *k, struct twin *t, int i)
{
    char id[16];
    int64_t generation;
    struct err e = {0};
    snprintf(id, sizeof id, "r%d", i);
    assert_int_equal(engine_delete(k->engine, id, &generation, &e), t->title[i][0] ? 0 : -1);
    t->live -= t->title[i][0] != 0;
    t->title[i][0] = 0;
}

static void twin_compare(struct kit *k, const struct twin *t, int32_t others)
{
    struct engine_query q = kit_search(k, "anything", MODE_GENERATIVE, 900);
    struct arena a;
    arena_init(&a, 0);
    q.arena = &a;
    kit_run(k, &q);
    assert_int_equal(q.hit_count, others + t->live);
    for (int i = 0; i < TWIN_IDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "r%d", i);
        const struct engine_hit *h = kit_find(&q, id);
        assert_int_equal(h != NULL, t->title[i][0] != 0);
        if (h)
            assert_string_equal(h->title, t->title[i]);
    }
    arena_free(&a);
}

static void test_twin(void **state)
{
    struct kit *k = *state;
    struct twin t = {0};
    struct engine_info info;
    uint64_t seed = 5;
    engine_info(k->engine, &info);
    for (int step = 0; step < 400; step++) {
        int i = kit_below(&seed, TWIN_IDS);
        if (kit_below(&seed, 3))
            twin_put(k, &t, i, &seed);
        else
            twin_delete(k, &t, i);
        if (step % 5 == 0)
            twin_compare(k, &t, (int32_t)info.documents);
        if (step == 200) {
            engine_close(k->engine);
            kit_start(k);
        }
    }
    twin_compare(k, &t, (int32_t)info.documents);
}

/* ---- searches while others publish ---- */

struct churn {
    struct kit *k;
    atomic_bool stop;
};

static void *search_while(void *state)
{
    struct churn *c = state;
    struct arena a;
    arena_init(&a, 0);
    for (int i = 0; !atomic_load(&c->stop); i++) {
        struct engine_query q = kit_search(c->k, "anything else", i % 2 ? MODE_GENERATIVE : MODE_HYBRID, 400);
        q.arena = &a;
        kit_run(c->k, &q);
        CHECK(q.hit_count >= KIT_DOCUMENTS);
        for (int32_t h = 1; h < q.hit_count; h++)
            CHECK(q.hits[h].score <= q.hits[h - 1].score && q.hits[h].rank == h + 1);
        arena_reset(&a);
    }
    arena_free(&a);
    return NULL;
}

static void test_churn(void **state)
{
    struct churn c = {.k = *state};
    pthread_t thread[3];
    struct twin t = {0};
    uint64_t seed = 9;
    atomic_init(&c.stop, false);
    for (int i = 0; i < TWIN_IDS; i++) {
        char id[16];
        int64_t generation;
        snprintf(id, sizeof id, "r%d", i);
        engine_delete(c.k->engine, id, &generation, NULL);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, search_while, &c), 0);
    for (int step = 0; step < 150; step++) {
        int i = kit_below(&seed, TWIN_IDS);
        if (kit_below(&seed, 3))
            twin_put(c.k, &t, i, &seed);
        else
            twin_delete(c.k, &t, i);
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

/* ---- bundles and catalogues that must not be served; the last test, as it spoils the bundle ---- */

static void replace_file(struct kit *k, const char *name, const char *content)
{
    struct err e = {0};
    struct bundle *b = bundle_open(k->bundle, &e);
    KIT_NEED(b && bundle_begin(b, &e) == 0 && bundle_put(b, name, content, strlen(content), &e) == 0 && bundle_commit(b, &e) == 0, &e);
    bundle_close(b);
}

static void refuse_bundle(struct kit *k, const char *catalog, enum err_code code, const char *words)
{
    struct err e = {0};
    char *path = path_join(k->folder, catalog);
    struct engine *g = kit_engine(k->bundle, path, &e);
    assert_null(g);
    assert_int_equal(e.code, code);
    if (!strstr(e.message, words))
        fail_msg("%s", e.message);
    free(path);
}

static void test_refused_bundles(void **state)
{
    struct kit *k = *state;
    refuse_bundle(k, "catalog.db", ERR_UNAVAILABLE, "catalog.db");
    replace_file(k, "documents.jsonl", "{\"id\":\"doc0\",\"title\":\"one\"}\n{\"id\":\"doc9\"}\n");
    refuse_bundle(k, "a.db", ERR_DATA, "line 2: document \"doc9\"; line 2 of ids.tsv names \"doc1\"");
    replace_file(k, "documents.jsonl", "{\"id\":\"doc0\",\"title\":\"one\"}\n");
    refuse_bundle(k, "b.db", ERR_DATA, "ends after 1 documents; ids.tsv names 60");
    replace_file(k, "documents.jsonl", "{\"id\":\"doc0\"}\nnothing\n");
    refuse_bundle(k, "c.db", ERR_DATA, "line 2: a JSON object");
    replace_file(k, "popular.tsv", "doc1\tmany\n");
    refuse_bundle(k, "d.db", ERR_DATA, "popular.tsv");
    replace_file(k, "ids.tsv", "doc0\t1-2-3\n");
    engine_close(k->engine);
    k->engine = NULL;
    refuse_bundle(k, "catalog.db", ERR_CONFLICT, "");
}

/* ---- cost: --perf [documents] ---- */

enum { PERF_BATCH = 100, PERF_WORDS = 40, PERF_SEARCHES = 50 };

static double ingest_s(struct kit *k, int from)
{
    struct engine_put puts[PERF_BATCH] = {0};
    struct err e = {0};
    struct engine_put_batch b = {.puts = puts, .count = PERF_BATCH, .arena = &k->arena};
    arena_reset(&k->arena);
    for (int i = 0; i < PERF_BATCH; i++) {
        char *words = kit_words(k, 77 + (uint64_t)(from + i), PERF_WORDS);
        puts[i].document = (struct document){.id = arena_printf(&k->arena, "p%d", from + i), .title = arena_strndup(&k->arena, words, strlen(words))};
        free(words);
    }
    double began = clock_s();
    KIT_NEED(engine_index(k->engine, &b, &e) == 0, &e);
    return clock_s() - began;
}

static void time_searches(struct kit *k, enum engine_mode mode, const char *name)
{
    double encode = 0, decode = 0, store = 0, began = clock_s();
    for (int i = 0; i < PERF_SEARCHES; i++) {
        char *words = kit_words(k, 5 + (uint64_t)i, 6);
        struct engine_query q = kit_search(k, words, mode, 10);
        kit_run(k, &q);
        encode += q.encode_ms / PERF_SEARCHES;
        decode += q.decode_ms / PERF_SEARCHES;
        store += q.store_ms / PERF_SEARCHES;
        free(words);
    }
    printf("search: mode=%s beam=20 achieved=%.2f ms (encode %.2f, decode %.2f, store %.2f)\n", name, 1e3 * (clock_s() - began) / PERF_SEARCHES,
           encode, decode, store);
}

static int perf(int documents)
{
    struct kit k = {.shape = {128, 512, 4, 32, 3, 2, 512}};
    double seconds = 0;
    kit_open(&k, fixtures, true);
    time_searches(&k, MODE_GENERATIVE, "generative");
    for (int n = 0; n < documents; n += PERF_BATCH) {
        seconds += ingest_s(&k, n);
        if ((n / PERF_BATCH + 1) % 10)
            continue;
        printf("index: documents=%d batch=%d achieved=%.0f documents/s\n", n + PERF_BATCH, PERF_BATCH, 10 * PERF_BATCH / seconds);
        fflush(stdout);
        seconds = 0;
    }
    time_searches(&k, MODE_GENERATIVE, "generative");
    time_searches(&k, MODE_HYBRID, "hybrid");
    kit_close(&k);
    return 0;
}

static int open_imported(void **state)
{
    *state = xcalloc(1, sizeof(struct kit));
    kit_open(*state, fixtures, false);
    return 0;
}

static int open_learned(void **state)
{
    *state = xcalloc(1, sizeof(struct kit));
    kit_open(*state, fixtures, true);
    return 0;
}

static int close_engine(void **state)
{
    kit_close(*state);
    free(*state);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--perf"))
        return perf(argc > 2 ? atoi(argv[2]) : 3000);
    if (argc > 2 && !strcmp(argv[1], "--device")) {
        kit_device = argv[2];
        argc -= 2;
        argv += 2;
    }
    fixtures = argc > 1 ? argv[1] : fixtures;
    const struct CMUnitTest imported[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_threads), cmocka_unit_test(test_bounds),
                                          cmocka_unit_test(test_brought_ids)};
    const struct CMUnitTest learned[] = {cmocka_unit_test(test_new_documents), cmocka_unit_test(test_unchanged), cmocka_unit_test(test_recommend),
                                         cmocka_unit_test(test_twin), cmocka_unit_test(test_churn),
                                         cmocka_unit_test(test_refused_bundles)};
    int failed = cmocka_run_group_tests(imported, open_imported, close_engine);
    return failed + cmocka_run_group_tests(learned, open_learned, close_engine);
}
