/* sqlite_reader.c: read-only connections and the queries on rows.
 *
 * Readers are kept in a pool: a connection costs a file open and a schema read, so a thread borrows one for a request and gives it back. Outside
 * of catalog_begin / catalog_end each statement sees the newest commit; inside, all see the same one. Strings are copied into the caller's
 * arena, because SQLite's own end with the next step. Statements are always reset before a call returns: one left open would hold the WAL. */
#include "sqlite_internal.h"
#include <string.h>

#define ROW_COLUMNS "d.number, d.id, d.sha256, d.created_ms, d.updated_ms, d.generation, s.trained, s.prefix, s.suffix"
#define CONTENT_COLUMNS ", d.title, d.attributes, d.text"
#define FROM_ROWS " FROM documents d JOIN semantic_ids s ON s.number = d.number"
enum { COLUMN_TRAINED = 6, COLUMN_PREFIX = 7, COLUMN_TITLE = 9 };

static const char *const statements[R_COUNT] = {
    [R_BY_ID] = "SELECT " ROW_COLUMNS CONTENT_COLUMNS FROM_ROWS " WHERE d.id = ?1",
    [R_BY_NUMBER] = "SELECT " ROW_COLUMNS CONTENT_COLUMNS FROM_ROWS " WHERE d.number = ?1",
    [R_FIND] = "SELECT " ROW_COLUMNS FROM_ROWS " WHERE d.id = ?1",
    [R_SHA] = "SELECT sha256 FROM documents WHERE id = ?1",
    [R_VECTOR] = "SELECT vector FROM vectors WHERE number = ?1",
    [R_NEWEST] = "SELECT number FROM documents ORDER BY number DESC LIMIT ?1",
    [R_POPULAR] = "SELECT d.number FROM popular p JOIN documents d ON d.id = p.id ORDER BY p.place LIMIT ?1",
    [R_SEARCH] = "SELECT rowid, bm25(text_index) FROM text_index WHERE text_index MATCH ?1",
    [R_NAME] = "SELECT id FROM documents WHERE number = ?1",
};

sqlite3_stmt *reader_statement(struct catalog_reader *r, enum reader_statement which, struct err *e) {
    if (!r->statement[which] && db_prepare(r->db, statements[which], &r->statement[which], e)) return NULL;
    return r->statement[which];
}

/* ---- the pool ---- */

static void reader_close(struct catalog_reader *r) {
    for (int i = 0; i < R_COUNT; i++) sqlite3_finalize(r->statement[i]);
    db_close(r->db);
    free(r);
}

struct catalog_reader *catalog_reader_take(struct catalog *c, struct err *e) {
    pthread_mutex_lock(&c->pool_mutex);
    struct catalog_reader *r = c->pool;
    if (r) c->pool = r->next;
    c->lent++;
    pthread_mutex_unlock(&c->pool_mutex);
    if (r) return r;
    r = xcalloc(1, sizeof *r);
    r->catalog = c;
    r->learned = c->learned;
    r->db = db_open(c->path, DB_READ, e);
    if (r->db) return r;
    free(r);
    pthread_mutex_lock(&c->pool_mutex);
    c->lent--;
    pthread_mutex_unlock(&c->pool_mutex);
    return NULL;
}

void catalog_reader_give(struct catalog_reader *r) {
    if (!r) return;
    struct catalog *c = r->catalog;
    catalog_end(r);
    pthread_mutex_lock(&c->pool_mutex);
    r->next = c->pool;
    c->pool = r;
    c->lent--;
    pthread_mutex_unlock(&c->pool_mutex);
}

void pool_close(struct catalog *c) {
    CHECK(c->lent == 0);
    while (c->pool) {
        struct catalog_reader *r = c->pool;
        c->pool = r->next;
        reader_close(r);
    }
}

/* A deferred transaction takes its snapshot with the first read, so one is made here. */
int catalog_begin(struct catalog_reader *r, struct err *e) {
    int64_t unused;
    CHECK(!r->snapshot);
    if (db_exec(r->db, "BEGIN", e)) return -1;
    r->snapshot = true;
    if (db_int(r->db, "SELECT value FROM meta WHERE name = 'generation'", &unused, e) == 0) return 0;
    catalog_end(r);
    return -1;
}

void catalog_end(struct catalog_reader *r) {
    if (r->snapshot && !sqlite3_get_autocommit(r->db)) sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    r->snapshot = false;
}

/* ---- rows ---- */

static const char *column_text(sqlite3_stmt *s, int column, struct arena *a) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? arena_strndup(a, text, (size_t)sqlite3_column_bytes(s, column)) : NULL;
}

static int read_row(struct catalog_reader *r, sqlite3_stmt *s, bool content, struct arena *a, struct catalog_row *row, struct err *e) {
    *row = (struct catalog_row){.number = sqlite3_column_int64(s, 0)};
    row->document.id = column_text(s, 1, a);
    row->has_content = sqlite3_column_type(s, 2) != SQLITE_NULL;
    row->created_ms = sqlite3_column_int64(s, 3);
    row->updated_ms = sqlite3_column_int64(s, 4);
    row->generation = sqlite3_column_int64(s, 5);
    row->trained = sqlite3_column_int(s, COLUMN_TRAINED) != 0;
    if (content) {
        row->document.title = column_text(s, COLUMN_TITLE, a);
        row->document.attributes = column_text(s, COLUMN_TITLE + 1, a);
        row->document.text = column_text(s, COLUMN_TITLE + 2, a);
    }
    return codes_read(s, COLUMN_PREFIX, r->learned, row->codes, e);
}

/* One row of a statement whose parameter is bound: 1 = read, 0 = none, -1. */
static int one_row(struct catalog_reader *r, sqlite3_stmt *s, bool content, struct arena *a, struct catalog_row *row, struct err *e) {
    int rc = db_step(s, e);
    if (rc <= 0) {
        *row = (struct catalog_row){0};
        return rc;
    }
    rc = read_row(r, s, content, a, row, e);
    db_reset(s);
    return rc ? -1 : 1;
}

int catalog_get(struct catalog_reader *r, const char *id, struct arena *a, struct catalog_row *out, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_BY_ID, e);
    if (!s) return -1;
    bind_text(s, 1, id);
    int rc = one_row(r, s, true, a, out, e);
    if (rc == 0) return err_set(e, ERR_NOT_FOUND, "no document has the id %s", id);
    return rc < 0 ? -1 : 0;
}

int catalog_get_numbers(struct catalog_reader *r, const int64_t *numbers, int32_t n, struct arena *a, struct catalog_row *rows, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_BY_NUMBER, e);
    if (!s) return -1;
    for (int32_t i = 0; i < n; i++) {
        sqlite3_bind_int64(s, 1, numbers[i]);
        if (one_row(r, s, true, a, &rows[i], e) < 0) return -1;
    }
    return 0;
}

int catalog_find(struct catalog_reader *r, const char *const *ids, int32_t n, struct arena *a, struct catalog_row *rows, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_FIND, e);
    if (!s) return -1;
    for (int32_t i = 0; i < n; i++) {
        bind_text(s, 1, ids[i]);
        if (one_row(r, s, false, a, &rows[i], e) < 0) return -1;
    }
    return 0;
}

int catalog_same(struct catalog_reader *r, const struct document *const *documents, int32_t n, bool *same, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_SHA, e);
    if (!s) return -1;
    for (int32_t i = 0; i < n; i++) {
        char sha[SHA_SIZE];
        content_sha256(documents[i], sha);
        bind_text(s, 1, documents[i]->id);
        int rc = db_step(s, e);
        if (rc < 0) return -1;
        const char *stored = rc ? (const char *)sqlite3_column_text(s, 0) : NULL;
        same[i] = rc == 1 && strcmp(stored ? stored : "", sha) == 0;
        if (rc) db_reset(s);
    }
    return 0;
}

/* ---- scans ---- */

int catalog_each_id(struct catalog_reader *r, int (*fn)(void *state, const struct catalog_id *id, struct err *e), void *state, struct err *e) {
    sqlite3_stmt *s = NULL;
    int rc;
    if (db_prepare(r->db, "SELECT number, trained, prefix, suffix FROM semantic_ids ORDER BY number", &s, e)) return -1;
    while ((rc = db_step(s, e)) == 1) {
        struct catalog_id id = {.number = sqlite3_column_int64(s, 0), .trained = sqlite3_column_int(s, 1) != 0};
        rc = codes_read(s, 2, r->learned, id.codes, e);
        if (rc || (rc = fn(state, &id, e))) break;
    }
    sqlite3_finalize(s);
    return rc;
}

int catalog_each(struct catalog_reader *r, int (*fn)(void *state, const struct catalog_row *row, struct err *e), void *state, struct err *e) {
    sqlite3_stmt *s = NULL;
    struct arena a;
    int rc;
    if (db_prepare(r->db, "SELECT " ROW_COLUMNS CONTENT_COLUMNS FROM_ROWS " ORDER BY d.number", &s, e)) return -1;
    arena_init(&a, 0);
    while ((rc = db_step(s, e)) == 1) {
        struct catalog_row row;
        rc = read_row(r, s, true, &a, &row, e);
        if (rc || (rc = fn(state, &row, e))) break;
        arena_reset(&a);
    }
    arena_free(&a);
    sqlite3_finalize(s);
    return rc;
}

int catalog_vectors(struct catalog_reader *r, const int64_t *numbers, int32_t n, int32_t size, float *out, bool *have, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_VECTOR, e);
    size_t bytes = (size_t)size * sizeof *out;
    if (!s) return -1;
    memset(out, 0, bytes * (size_t)n);
    for (int32_t i = 0; i < n; i++) {
        sqlite3_bind_int64(s, 1, numbers[i]);
        int rc = db_step(s, e);
        if (rc < 0) return -1;
        const void *blob = rc ? sqlite3_column_blob(s, 0) : NULL;
        have[i] = blob && (size_t)sqlite3_column_bytes(s, 0) == bytes;
        if (have[i]) memcpy(out + (size_t)i * (size_t)size, blob, bytes);
        if (rc) db_reset(s);
    }
    return 0;
}

static int number_list(struct catalog_reader *r, enum reader_statement which, int32_t limit, int64_t *numbers, int32_t *n, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, which, e);
    int rc;
    *n = 0;
    if (!s) return -1;
    sqlite3_bind_int(s, 1, limit);
    while ((rc = db_step(s, e)) == 1) numbers[(*n)++] = sqlite3_column_int64(s, 0);
    return rc;
}

int catalog_newest(struct catalog_reader *r, int32_t limit, int64_t *numbers, int32_t *n, struct err *e) {
    return number_list(r, R_NEWEST, limit, numbers, n, e);
}

int catalog_popular(struct catalog_reader *r, int32_t limit, int64_t *numbers, int32_t *n, struct err *e) {
    return number_list(r, R_POPULAR, limit, numbers, n, e);
}

int catalog_counts(struct catalog_reader *r, struct catalog_counts *out, struct err *e) {
    static const char sql[] = "SELECT (SELECT count(*) FROM documents), (SELECT value FROM meta WHERE name = 'generation'),"
                              " (SELECT count(sha256) FROM documents), (SELECT count(*) FROM vectors), (SELECT sum(trained) FROM semantic_ids),"
                              " (SELECT value FROM meta WHERE name = 'learned'), (SELECT value FROM meta WHERE name = 'model_digest')";
    sqlite3_stmt *s = NULL;
    *out = (struct catalog_counts){.version = schema_version()};
    if (db_prepare(r->db, sql, &s, e)) return -1;
    int rc = db_step(s, e);
    if (rc == 1) {
        const char *digest = (const char *)sqlite3_column_text(s, 6);
        out->documents = sqlite3_column_int64(s, 0);
        out->generation = sqlite3_column_int64(s, 1);
        out->with_content = sqlite3_column_int64(s, 2);
        out->with_vector = sqlite3_column_int64(s, 3);
        out->trained = sqlite3_column_int64(s, 4);
        out->learned = sqlite3_column_int(s, 5);
        snprintf(out->model_digest, sizeof out->model_digest, "%s", digest ? digest : "");
    }
    sqlite3_finalize(s);
    return rc < 0 ? -1 : 0;
}
