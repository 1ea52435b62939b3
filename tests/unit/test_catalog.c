/* test_catalog.c: the store against what its header promises, one promise a test.
 *
 * Random operations are in test_catalog_twin.c, kills in test_catalog_kill.c. Faults of the disk are made by giving the files of the writer's
 * connection another table of functions, whose write and sync fail on demand. */
#include "../../core/base/hash.h"
#include "../../core/catalog/sqlite_internal.h"
#include "catalog_kit.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *folder;

static char *file_in(const char *name) { return path_join(folder, name); }

#define assert_ok(call, e)                                                                                                                 \
    do {                                                                                                                                   \
        if ((call) != 0) fail_msg("%s: %s", #call, (e).message);                                                                           \
    } while (0)

static int set_up(void **state) {
    (void)state;
    folder = kit_folder();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    struct err e;
    int rc = file_remove_tree(folder, &e);
    free(folder);
    return rc;
}

/* ---- opening ---- */

static void test_wrong_model_is_refused(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct err e = {0};
    catalog_close(kit_ready(path));
    struct catalog_options o = {.path = path, .model_digest = DIGEST_B, .learned = KIT_LEARNED};
    assert_null(catalog_open(&o, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_non_null(strstr(e.message, DIGEST_A));
    assert_non_null(strstr(e.message, DIGEST_B));
    o.model_digest = DIGEST_A;
    o.learned = 3;
    assert_null(catalog_open(&o, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    free(path);
}

static void expect_untouched(const char *path, const char *content, size_t size) {
    struct err e = {0};
    size_t after;
    assert_int_equal(file_write(path, content, size, &e), 0);
    assert_null(kit_open(path, &e));
    assert_int_equal(e.code, ERR_DATA);
    char *found = file_read(path, 0, &after, &e);
    assert_int_equal(after, size);
    assert_memory_equal(found, content, size);
    free(found);
}

static void test_foreign_file_is_untouched(void **state) {
    (void)state;
    char *path = file_in("foreign"), *other = file_in("other.db");
    struct err e = {0};
    size_t size;
    expect_untouched(path, "hello", 5);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(other, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE x (y)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    char *content = file_read(other, 0, &size, &e);
    expect_untouched(path, content, size);
    assert_non_null(content);
    free(content);
    assert_null(kit_open(folder, &e));
    free(path);
    free(other);
}

static void test_newer_version_is_refused(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct err e = {0};
    struct catalog *c = kit_ready(path);
    assert_ok(writer_exec(c, "PRAGMA user_version = 99", &e), e);
    catalog_close(c);
    assert_null(kit_open(path, &e));
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, "version 99"));
    free(path);
}

static void test_second_writer_is_refused(void **state) {
    (void)state;
    char *path = file_in("c.db"), pid[24];
    struct err e = {0};
    struct catalog *c = kit_ready(path);
    assert_null(kit_open(path, &e));
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    assert_non_null(strstr(e.message, pid));
    catalog_close(c);
    catalog_close(kit_ready(path));
    free(path);
}

/* ---- writing ---- */

static void test_statuses_and_suffixes(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct catalog_put p;
    struct err e = {0};
    bool found;
    assert_ok(kit_put(c, "a", "one", 3, 4, &p, &e), e);
    assert_int_equal(p.status, CATALOG_CREATED);
    assert_int_equal(p.id_codes[2], 0);
    assert_ok(kit_put(c, "b", "two", 3, 4, &p, &e), e);
    assert_int_equal(p.id_codes[2], 1);
    int64_t before = catalog_generation(c), number = p.number;
    assert_ok(kit_put(c, "b", "two", 9, 9, &p, &e), e);
    assert_int_equal(p.status, CATALOG_UNCHANGED);
    assert_int_equal(p.id_codes[0], 3);
    assert_int_equal(catalog_generation(c), before);
    assert_ok(kit_put(c, "b", "two, changed", 3, 4, &p, &e), e);
    assert_int_equal(p.status, CATALOG_UPDATED);
    assert_int_equal(p.id_codes[2], 1);
    assert_int_equal(p.number, number);
    assert_ok(kit_delete(c, "b", &found, &e), e);
    assert_true(found);
    assert_ok(kit_delete(c, "b", &found, &e), e);
    assert_false(found);
    assert_ok(kit_put(c, "c", "three", 3, 4, &p, &e), e);
    assert_int_equal(p.id_codes[2], 2);
    assert_true(p.number > number);
    assert_ok(kit_put(c, "a", "elsewhere", 5, 5, &p, &e), e);
    assert_int_equal(p.id_codes[0], 5);
    assert_ok(kit_put(c, "a", "back again", 3, 4, &p, &e), e);
    assert_int_equal(p.id_codes[2], 3);
    assert_int_equal(catalog_documents(c), 2);
    catalog_close(c);
    free(path);
}

static int write_two(struct catalog *c, struct catalog_put puts[2], struct arena *a, struct err *e) {
    struct catalog_batch b = {.puts = puts, .put_count = 2, .arena = a};
    return catalog_write(c, &b, e);
}

static void test_faults_name_both(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    uint32_t whole[] = {1, 2, 0}, high[] = {1, 2, UINT32_MAX};
    struct document x = {.id = "x", .text = "x"}, y = {.id = "y", .text = "y"};
    struct catalog_put twice[] = {{.document = &x, .codes = whole, .code_count = 2}, {.document = &x, .codes = whole, .code_count = 2}};
    assert_int_equal(write_two(c, twice, &a, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(twice[1].fault, FAULT_DUPLICATE_ID);
    assert_int_equal(twice[1].other, 0);
    struct catalog_put taken[] = {{.document = &x, .codes = whole, .code_count = 3}, {.document = &y, .codes = whole, .code_count = 3}};
    assert_int_equal(write_two(c, taken, &a, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_int_equal(taken[1].fault, FAULT_ID_TAKEN);
    assert_non_null(strstr(taken[1].detail, "1-2-0"));
    assert_non_null(strstr(taken[1].detail, "document y belongs to document x"));
    assert_int_equal(catalog_documents(c), 0);
    struct catalog_put full[] = {{.document = &x, .codes = high, .code_count = 3}, {.document = &y, .codes = high, .code_count = 2}};
    assert_int_equal(write_two(c, full, &a, &e), -1);
    assert_int_equal(full[1].fault, FAULT_BAD_CODES);
    struct catalog_put stale[] = {{.document = &x, .codes = whole, .code_count = 3}, {.document = &y}};
    assert_int_equal(write_two(c, stale, &a, &e), -1);
    assert_int_equal(stale[1].fault, FAULT_STALE);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_int_equal(catalog_documents(c), 0);
    struct catalog_batch late = {.puts = stale, .put_count = 1, .arena = &a, .deadline_ms = clock_ms() - 1};
    assert_int_equal(catalog_write(c, &late, &e), -1);
    assert_int_equal(e.code, ERR_DEADLINE);
    arena_free(&a);
    catalog_close(c);
    free(path);
}

/* A batch that SQLite itself refuses (attributes that are no JSON) does not take the others of its group with it, and leaves nothing. */
static void test_bad_attributes_store_nothing(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    uint32_t codes[] = {1, 2};
    struct document x = {.id = "x", .text = "x"}, y = {.id = "y", .attributes = "{no json"};
    struct catalog_put puts[] = {{.document = &x, .codes = codes, .code_count = 2}, {.document = &y, .codes = codes, .code_count = 2}};
    assert_int_equal(write_two(c, puts, &a, &e), -1);
    assert_int_equal(catalog_documents(c), 0);
    assert_ok(catalog_health(c, &e), e);
    assert_ok(kit_put(c, "z", "z", 1, 2, &puts[0], &e), e);
    assert_int_equal(puts[0].id_codes[2], 0);
    arena_free(&a);
    catalog_close(c);
    free(path);
}

/* ---- group commit, read-your-writes ---- */

enum { WRITERS = 8, WRITES = 40 };
struct group {
    struct catalog *catalog;
    _Atomic int64_t commits, seen_generation, seen_documents;
    _Atomic int failures;
};
struct writer {
    struct group *group;
    int index;
    pthread_t thread;
};

static void note_commit(void *state, const struct catalog_commit *commit) {
    struct group *g = state;
    g->commits++;
    g->seen_documents = commit->documents;
    g->seen_generation = commit->generation;
}

static void *write_many(void *state) {
    struct writer *w = state;
    struct group *g = w->group;
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    for (int i = 0; i < WRITES; i++) {
        char id[32];
        struct catalog_put p;
        struct catalog_row row;
        snprintf(id, sizeof id, "w%d-%d", w->index, i);
        if (kit_put(g->catalog, id, "words of the document", (uint32_t)i % 4, 0, &p, &e)) g->failures++;
        if (g->seen_generation < 2) g->failures++;
        struct catalog_reader *r = catalog_reader_take(g->catalog, &e);
        if (catalog_get(r, id, &a, &row, &e) || row.number != p.number || row.codes[2] != p.id_codes[2]) g->failures++;
        if (row.generation > g->seen_generation) g->failures++; /* published before the caller came back */
        catalog_reader_give(r);
        arena_reset(&a);
    }
    arena_free(&a);
    return NULL;
}

static void test_group_commit(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct group g = {0};
    struct writer w[WRITERS];
    struct err e = {0};
    struct catalog_options o = {.path = path, .model_digest = DIGEST_A, .learned = KIT_LEARNED, .on_commit = note_commit, .state = &g};
    g.catalog = catalog_open(&o, &e);
    assert_non_null(g.catalog);
    assert_ok(catalog_fill(g.catalog, NULL, NULL, &e), e);
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.group = &g, .index = i};
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_many, &w[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(w[i].thread, NULL);
    assert_int_equal(g.failures, 0);
    assert_int_equal(g.seen_documents, WRITERS * WRITES);
    assert_true(g.commits <= WRITERS * WRITES);
    assert_int_equal(g.seen_generation, catalog_generation(g.catalog));
    print_message("group commit: %d batches in %lld commits\n", WRITERS * WRITES, (long long)g.commits);
    catalog_close(g.catalog);
    assert_ok(catalog_verify(path, DIGEST_A, NULL, &e), e);
    free(path);
}

static void test_snapshot(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct catalog_counts counts;
    struct err e = {0};
    assert_ok(kit_put(c, "a", "one", 1, 1, NULL, &e), e);
    struct catalog_reader *r = catalog_reader_take(c, &e);
    assert_ok(catalog_begin(r, &e), e);
    assert_ok(kit_put(c, "b", "two", 1, 1, NULL, &e), e);
    assert_ok(catalog_counts(r, &counts, &e), e);
    assert_int_equal(counts.documents, 1);
    catalog_end(r);
    assert_ok(catalog_counts(r, &counts, &e), e);
    assert_int_equal(counts.documents, 2);
    assert_string_equal(counts.model_digest, DIGEST_A);
    catalog_reader_give(r);
    catalog_close(c);
    free(path);
}

/* ---- fill ---- */

struct made {
    int64_t next, count, stop_at;
    char id[32], text[64];
    uint32_t codes[3];
    float vector[4];
};

static int make_entry(void *state, struct catalog_entry *out, struct err *e) {
    struct made *m = state;
    if (m->next == m->stop_at) return err_set(e, ERR_INTERRUPTED, "stopped");
    if (m->next == m->count) return 0;
    int64_t i = m->next++;
    snprintf(m->id, sizeof m->id, "doc%lld", (long long)i);
    snprintf(m->text, sizeof m->text, "word%lld common", (long long)i);
    m->codes[0] = (uint32_t)(i % 100);
    m->codes[1] = 7;
    m->codes[2] = (uint32_t)(i / 100);
    m->vector[0] = (float)i;
    *out = (struct catalog_entry){.document = {.id = m->id, .title = "t", .text = m->text}, .codes = m->codes, .trained = true, .vector = m->vector, .vector_size = 4};
    return 1;
}

static void test_fill_is_resumed(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct err e = {0};
    static const char *const popular[] = {"doc5", "gone", "doc3"};
    static const int64_t counts[] = {9, 8, 7};
    struct catalog *c = kit_open(path, &e);
    assert_int_equal(kit_put(c, "early", "x", 1, 1, NULL, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    struct made m = {.count = 25000, .stop_at = 22000};
    struct catalog_source s = {.total = 25000, .next = make_entry, .state = &m, .popular_ids = popular, .popular_counts = counts, .popular_count = 3};
    assert_int_equal(catalog_fill(c, &s, NULL, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_false(catalog_filled(c));
    catalog_close(c);
    c = kit_open(path, &e);
    m = (struct made){.count = 25000, .stop_at = -1};
    assert_ok(catalog_fill(c, &s, NULL, &e), e);
    assert_true(catalog_filled(c));
    assert_int_equal(catalog_documents(c), 25000);
    struct catalog_put p;
    assert_ok(kit_put(c, "later", "fresh words", 3, 7, &p, &e), e);
    assert_int_equal(p.id_codes[2], 250);
    struct catalog_reader *r = catalog_reader_take(c, &e);
    struct catalog_hit hit[4];
    int64_t number[4];
    float vector[4];
    bool have;
    int32_t n;
    assert_ok(catalog_search(r, "word24999", 9, 4, hit, &n, &e), e);
    assert_int_equal(n, 1);
    assert_ok(catalog_vectors(r, &hit[0].number, 1, 4, vector, &have, &e), e);
    assert_true(have && vector[0] == 24999);
    assert_ok(catalog_popular(r, 4, number, &n, &e), e);
    assert_int_equal(n, 2);
    assert_int_equal(number[0], 6);
    assert_ok(catalog_newest(r, 1, number, &n, &e), e);
    assert_int_equal(number[0], p.number);
    catalog_reader_give(r);
    catalog_close(c);
    assert_ok(catalog_verify(path, NULL, NULL, &e), e);
    free(path);
}

static int make_twice(void *state, struct catalog_entry *out, struct err *e) {
    struct made *m = state;
    int rc = make_entry(m, out, e);
    if (m->next == 11) m->codes[0] = 4, m->codes[2] = 0; /* the ID of doc4 */
    return rc;
}

static void test_fill_names_twins(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct err e = {0};
    struct made m = {.count = 20, .stop_at = -1};
    struct catalog_source s = {.next = make_twice, .state = &m};
    struct catalog *c = kit_open(path, &e);
    assert_int_equal(catalog_fill(c, &s, NULL, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, "doc4"));
    assert_non_null(strstr(e.message, "doc10"));
    catalog_close(c);
    free(path);
}

/* ---- words ---- */

static int32_t search(struct catalog *c, const char *query, size_t size, struct catalog_hit *hits, int32_t limit) {
    struct err e = {0};
    int32_t n = 0;
    struct catalog_reader *r = catalog_reader_take(c, &e);
    assert_ok(catalog_search(r, query, size, limit, hits, &n, &e), e);
    catalog_reader_give(r);
    return n;
}

#define SEARCH(query) search(c, query, sizeof(query) - 1, hits, 10)

static void test_search(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct catalog_hit hits[10];
    struct err e = {0};
    struct catalog_put p;
    for (int i = 0; i < 30; i++) {
        char id[16];
        snprintf(id, sizeof id, "e%02d", i);
        assert_ok(kit_put(c, id, "equal words here", 1, (uint32_t)i, NULL, &e), e);
    }
    assert_ok(kit_put(c, "wing", "wings in a slipstream", 2, 0, &p, &e), e);
    assert_int_equal(SEARCH("the wing"), 1);
    assert_int_equal(hits[0].number, p.number);
    double once = hits[0].score;
    assert_true(once > 0);
    SEARCH("wing wing");
    assert_true(hits[0].score > 1.9 * once);
    assert_int_equal(SEARCH("equal"), 10);
    assert_int_equal(hits[0].number, 30); /* ties: e29 first */
    assert_int_equal(hits[9].number, 21);
    assert_int_equal(SEARCH("in a"), 1); /* stopwords only */
    assert_int_equal(SEARCH(""), 0);
    assert_int_equal(SEARCH(" \"*( ) NEAR/ ^ -:{}'\0\xff\xfe"), 0);
    assert_int_equal(SEARCH("\"wing\" AND text_index MATCH 'x"), 1);
    assert_int_equal(SEARCH("wing\0slipstream"), 1);
    assert_int_equal(SEARCH("zzz\xe2\x80\x94wing"), 1);
    assert_ok(kit_put(c, "wing", "changed", 2, 0, &p, &e), e);
    assert_int_equal(SEARCH("slipstream"), 0);
    catalog_close(c);
    free(path);
}

static void test_search_takes_any_bytes(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct catalog_hit hits[10];
    struct err e = {0};
    uint64_t rng = 1;
    size_t size = 100000;
    char *query = xmalloc(size);
    assert_ok(kit_put(c, "a", "some words about nothing", 1, 1, NULL, &e), e);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < size; i++) {
            query[i] = round % 2 ? (char)kit_random(&rng) : " \"ab*()\xc3\xa9\xe2\x80\x9c"[kit_below(&rng, 12)];
        }
        search(c, query, round < 10 ? size : kit_below(&rng, 200), hits, 10);
    }
    free(query);
    catalog_close(c);
    free(path);
}

static void test_attributes_are_words(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct catalog_hit hits[10];
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    uint32_t codes[] = {1, 2};
    struct document d = {.id = "x", .text = "x", .attributes = "{\"colour\":\"green\",\"tags\":[\"garden\",{\"deep\":\"shovel\"}],\"price\":3}"};
    struct catalog_put put = {.document = &d, .codes = codes, .code_count = 2};
    struct catalog_batch b = {.puts = &put, .put_count = 1, .arena = &a};
    assert_ok(catalog_write(c, &b, &e), e);
    assert_int_equal(SEARCH("shovels"), 1);
    assert_int_equal(SEARCH("colour"), 0);
    struct catalog_row row;
    struct catalog_reader *r = catalog_reader_take(c, &e);
    assert_ok(catalog_get(r, "x", &a, &row, &e), e);
    assert_string_equal(row.document.attributes, d.attributes);
    assert_null(row.document.title);
    const struct document *documents[] = {&d};
    bool same = false;
    assert_ok(catalog_same(r, documents, 1, &same, &e), e);
    assert_true(same);
    d.title = "";
    assert_ok(catalog_same(r, documents, 1, &same, &e), e);
    assert_true(same);
    d.title = "y";
    assert_ok(catalog_same(r, documents, 1, &same, &e), e);
    assert_false(same);
    assert_int_equal(catalog_get(r, "nobody", &a, &row, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    catalog_reader_give(r);
    arena_free(&a);
    catalog_close(c);
    free(path);
}

/* ---- faults of the disk ---- */

static sqlite3_io_methods real, broken[2]; /* database and log differ in how they lock, not in how they write */
static _Atomic int sync_fails, write_fails;

static int broken_sync(sqlite3_file *f, int flags) { return sync_fails ? SQLITE_IOERR_FSYNC : real.xSync(f, flags); }

static int broken_write(sqlite3_file *f, const void *data, int size, sqlite3_int64 at) {
    return write_fails ? SQLITE_FULL : real.xWrite(f, data, size, at);
}

/* From here on the files of the writer's connection go through the functions above. */
static void break_files(struct catalog *c) {
    static const int which[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
    for (int i = 0; i < 2; i++) {
        sqlite3_file *f = NULL;
        assert_int_equal(sqlite3_file_control(c->db, "main", which[i], &f), SQLITE_OK);
        real = broken[i] = *f->pMethods;
        broken[i].xSync = broken_sync;
        broken[i].xWrite = broken_write;
        f->pMethods = &broken[i];
    }
}

static void test_failed_sync_stops_the_writer(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct err e = {0};
    assert_ok(kit_put(c, "a", "one", 1, 1, NULL, &e), e);
    break_files(c);
    sync_fails = 1;
    assert_int_equal(kit_put(c, "b", "two", 1, 1, NULL, &e), -1);
    sync_fails = 0;
    assert_int_equal(kit_put(c, "c", "three", 1, 1, NULL, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(catalog_health(c, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    struct catalog_hit hits[10];
    assert_int_equal(SEARCH("one"), 1); /* still served */
    catalog_close(c);
    c = kit_ready(path);
    assert_ok(catalog_health(c, &e), e);
    assert_ok(kit_put(c, "c", "three", 1, 1, NULL, &e), e);
    catalog_close(c);
    assert_ok(catalog_verify(path, DIGEST_A, NULL, &e), e);
    free(path);
}

static void test_full_disk(void **state) {
    (void)state;
    char *path = file_in("c.db");
    struct catalog *c = kit_ready(path);
    struct err e = {0};
    assert_ok(kit_put(c, "a", "one", 1, 1, NULL, &e), e);
    break_files(c);
    write_fails = 1;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kit_put(c, "b", "two", 1, 1, NULL, &e), -1);
        assert_int_equal(e.code, ERR_NO_SPACE);
    }
    assert_ok(catalog_health(c, &e), e);
    write_fails = 0;
    struct catalog_put p;
    assert_int_equal(catalog_documents(c), 1);
    assert_ok(kit_put(c, "b", "two", 1, 1, &p, &e), e);
    assert_int_equal(p.id_codes[2], 1);
    assert_ok(writer_exec(c, "PRAGMA max_page_count = 1", &e), e); /* as many as there are */
    char *large = xcalloc(1, 300001);
    memset(large, 'x', 300000);
    assert_int_equal(kit_put(c, "large", large, 1, 1, NULL, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_ok(writer_exec(c, "PRAGMA max_page_count = 1000000", &e), e);
    assert_ok(kit_put(c, "large", large, 1, 1, &p, &e), e);
    assert_int_equal(p.id_codes[2], 2);
    free(large);
    catalog_close(c);
    assert_ok(catalog_verify(path, DIGEST_A, NULL, &e), e);
    free(path);
}

/* ---- upkeep ---- */

static void count_note(void *state, const char *line) {
    (void)line;
    ++*(int *)state;
}

static void fill_some(struct catalog *c, int from, int to) {
    struct err e = {0};
    for (int i = from; i < to; i++) {
        char id[16], text[400];
        snprintf(id, sizeof id, "d%d", i);
        memset(text, 'a' + i % 26, sizeof text - 1);
        text[sizeof text - 1] = 0;
        assert_ok(kit_put(c, id, text, (uint32_t)i % 3, 1, NULL, &e), e);
    }
}

static void test_backup_and_restore(void **state) {
    (void)state;
    char *path = file_in("c.db"), *copy = file_in("copy.db"), *log = file_in("c.db-wal");
    struct catalog *c = kit_ready(path);
    struct err e = {0};
    fill_some(c, 0, 20);
    assert_ok(catalog_backup(path, copy, NULL, &e), e); /* while it is open */
    assert_ok(catalog_verify(path, DIGEST_A, NULL, &e), e);
    fill_some(c, 20, 30);
    assert_int_equal(catalog_backup(path, path, NULL, &e), -1);
    assert_int_equal(catalog_restore(copy, path, NULL, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    catalog_close(c);
    assert_ok(catalog_restore(copy, path, NULL, &e), e);
    assert_false(file_exists(log));
    assert_int_equal(catalog_verify(path, DIGEST_B, NULL, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    c = kit_ready(path);
    assert_int_equal(catalog_documents(c), 20);
    struct catalog_put p;
    assert_ok(kit_put(c, "new", "x", 0, 1, &p, &e), e);
    assert_int_equal(p.id_codes[2], 7);
    catalog_close(c);
    assert_int_equal(file_write(path, "not a catalogue", 15, &e), 0);
    assert_int_equal(catalog_restore(copy, path, NULL, &e), -1); /* never over a file that is something else */
    free(path);
    free(copy);
    free(log);
}

static void flip(const char *path, long at, int mask) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(byte ^ mask, f);
    fclose(f);
}

/* Flips a bit in the middle of a stored text: structure and index stay valid, only the checksum can see it. */
static void test_verify_finds_a_changed_text(void **state) {
    (void)state;
    char *path = file_in("c.db"), *copy = file_in("copy.db");
    struct catalog *c = kit_ready(path);
    struct err e = {0};
    size_t size;
    assert_ok(kit_put(c, "a", "the quick brown fox", 1, 1, NULL, &e), e);
    catalog_close(c);
    char *bytes = file_read(path, 0, &size, &e);
    char *at = memmem(bytes, size, "brown fox", 9);
    assert_non_null(at);
    flip(path, at - bytes, 1);
    int lines = 0;
    struct run run = {.note = count_note, .state = &lines};
    assert_int_equal(catalog_verify(path, NULL, &run, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_true(lines >= 1);
    assert_int_equal(catalog_restore(path, copy, NULL, &e), -1); /* a damaged backup is not restored */
    assert_false(file_exists(copy));
    free(bytes);
    free(path);
    free(copy);
}

/* Random flips and cuts: whatever happens, no crash, and opening, reading, verifying end. */
static void test_damage_never_crashes(void **state) {
    (void)state;
    char *path = file_in("c.db"), *bad = file_in("bad.db"), *extra[2] = {file_in("bad.db-wal"), file_in("bad.db-shm")};
    struct catalog *c = kit_ready(path);
    struct err e = {0};
    uint64_t rng = 7;
    size_t size;
    int found = 0;
    fill_some(c, 0, 60);
    catalog_close(c);
    char *bytes = file_read(path, 0, &size, &e);
    for (int round = 0; round < 60; round++) {
        size_t keep = round % 4 ? size : kit_below(&rng, (uint32_t)size);
        for (int i = 0; i < 2; i++) unlink(extra[i]);
        assert_int_equal(file_write(bad, bytes, keep, &e), 0);
        for (int i = 0; keep == size && i < 4; i++) flip(bad, kit_below(&rng, (uint32_t)size), 1 << kit_below(&rng, 8));
        found += catalog_verify(bad, DIGEST_A, NULL, &e) != 0;
        c = kit_open(bad, &e);
        if (!c) continue;
        kit_put(c, "d1", "changed", 1, 1, NULL, &e);
        kit_put(c, "fresh", "words", 2, 1, NULL, &e);
        catalog_close(c);
    }
    print_message("damage: %d of 60 found\n", found);
    free(bytes);
    free(bad);
    free(path);
    for (int i = 0; i < 2; i++) free(extra[i]);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_wrong_model_is_refused), T(test_foreign_file_is_untouched), T(test_newer_version_is_refused), T(test_second_writer_is_refused),
        T(test_statuses_and_suffixes), T(test_faults_name_both), T(test_bad_attributes_store_nothing), T(test_group_commit), T(test_snapshot),
        T(test_fill_is_resumed), T(test_fill_names_twins), T(test_search), T(test_search_takes_any_bytes), T(test_attributes_are_words),
        T(test_failed_sync_stops_the_writer), T(test_full_disk), T(test_backup_and_restore), T(test_verify_finds_a_changed_text),
        T(test_damage_never_crashes),
#undef T
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
