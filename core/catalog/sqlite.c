/* sqlite.c: connections, statements and errors of SQLite; opening and closing the catalogue.
 *
 * A result code becomes an error in one place (db_fail), with the file's name and the kind that the caller can act on: a full disk is
 * ERR_NO_SPACE even where SQLite calls it an I/O error (growing the shared memory file), a damaged page is ERR_DATA. No memory mapping is
 * used for the database: a page that cannot be read must be an error, not a signal. Statement journals stay in memory, so that a full /tmp
 * never stops a write. Opening checks the first bytes of the file before SQLite sees it: a file that is no catalogue stays as it is. */
#include "../base/file.h"
#include "sqlite_internal.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t configured = PTHREAD_ONCE_INIT;

static void configure(void) {
    sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
    sqlite3_initialize();
}

enum err_code db_code(sqlite3 *db) {
    int rc = sqlite3_extended_errcode(db);
    if (rc != SQLITE_IOERR_FSYNC && rc != SQLITE_IOERR_DIR_FSYNC && (rc & 0xff) == SQLITE_IOERR && sqlite3_system_errno(db) == ENOSPC) {
        return ERR_NO_SPACE;
    }
    switch (rc & 0xff) {
    case SQLITE_FULL: return ERR_NO_SPACE;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: return ERR_NO_PERM;
    case SQLITE_CANTOPEN: return sqlite3_system_errno(db) ? err_from_errno(sqlite3_system_errno(db)) : ERR_NO_INPUT;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT: return ERR_DATA;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_UNAVAILABLE;
    case SQLITE_IOERR: return ERR_IO;
    default: return ERR_INTERNAL;
    }
}

int db_fail(sqlite3 *db, struct err *e, const char *what) {
    const char *path = sqlite3_db_filename(db, "main");
    enum err_code code = db_code(db);
    int number = sqlite3_system_errno(db);
    bool system = number && (code == ERR_IO || code == ERR_NO_SPACE || code == ERR_NO_PERM || code == ERR_NO_INPUT);
    return err_set(e, code, "%s: %s: %s%s%s%s", path && *path ? path : "catalogue", what, sqlite3_errmsg(db), system ? " (" : "",
                   system ? strerror(number) : "", system ? ")" : (code == ERR_DATA ? "; run semindex verify, restore a backup" : ""));
}

int db_exec(sqlite3 *db, const char *sql, struct err *e) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(db, e, "cannot run SQL");
}

int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e) {
    return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) == SQLITE_OK ? 0 : db_fail(db, e, "cannot prepare SQL");
}

void db_reset(sqlite3_stmt *s) {
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

int db_step(sqlite3_stmt *s, struct err *e) {
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) return 1;
    int result = rc == SQLITE_DONE ? 0 : db_fail(sqlite3_db_handle(s), e, "cannot read or write");
    db_reset(s);
    return result;
}

int db_run(sqlite3_stmt *s, struct err *e) {
    int rc = db_step(s, e);
    if (rc == 1) db_reset(s);
    return rc < 0 ? -1 : 0;
}

int db_int(sqlite3 *db, const char *sql, int64_t *out, struct err *e) {
    sqlite3_stmt *s = NULL;
    *out = 0;
    if (db_prepare(db, sql, &s, e)) return -1;
    int rc = db_step(s, e);
    if (rc == 1) *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc < 0 ? -1 : 0;
}

void bind_text(sqlite3_stmt *s, int i, const char *text) {
    if (text) sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
    else sqlite3_bind_null(s, i);
}

void bind_bytes(sqlite3_stmt *s, int i, const void *bytes, size_t size) {
    sqlite3_bind_blob64(s, i, bytes, size, SQLITE_STATIC);
}

struct prefix prefix_of(const uint32_t *codes, int32_t learned) {
    struct prefix p = {.size = 4 * learned};
    for (int32_t i = 0; i < learned; i++) {
        for (int b = 0; b < 4; b++) p.bytes[4 * i + b] = (unsigned char)(codes[i] >> (24 - 8 * b));
    }
    return p;
}

int codes_read(sqlite3_stmt *s, int prefix_column, int32_t learned, uint32_t *codes, struct err *e) {
    const unsigned char *bytes = sqlite3_column_blob(s, prefix_column);
    int size = sqlite3_column_bytes(s, prefix_column);
    int64_t suffix = sqlite3_column_int64(s, prefix_column + 1);
    if (size != 4 * learned || suffix < 0 || suffix > UINT32_MAX) {
        return err_set(e, ERR_DATA, "catalogue: a semantic ID has %d bytes of codes, expected %d; run semindex verify", size, 4 * learned);
    }
    for (int32_t i = 0; i < learned; i++) {
        const unsigned char *b = bytes + 4 * i;
        codes[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    codes[learned] = (uint32_t)suffix;
    return 0;
}

void content_sha256(const struct document *d, char hex[SHA_SIZE]) {
    *hex = 0;
    if (d->title || d->text || d->attributes) document_hash(d, hex);
}

static int set_up(sqlite3 *db, enum db_mode mode, struct err *e) {
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, 5000);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (db_exec(db, "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON", e)) return -1;
    return db_exec(db, mode == DB_READ ? "PRAGMA query_only = ON; PRAGMA cache_size = -8000" : "PRAGMA cache_size = -64000", e);
}

sqlite3 *db_open(const char *path, enum db_mode mode, struct err *e) {
    sqlite3 *db = NULL;
    pthread_once(&configured, configure);
    int flags = mode == DB_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        db_fail(db, e, "cannot open");
        if (e && !strstr(e->message, path)) err_prefix(e, "%s", path);
        goto out;
    }
    if (set_up(db, mode, e)) goto out;
    return db;
out:
    db_close(db);
    return NULL;
}

void db_close(sqlite3 *db) {
    if (db) CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* ---- the catalogue ---- */

static int meta_text(sqlite3 *db, const char *name, char *out, size_t size, struct err *e) {
    sqlite3_stmt *s = NULL;
    *out = 0;
    if (db_prepare(db, "SELECT value FROM meta WHERE name = ?1", &s, e)) return -1;
    bind_text(s, 1, name);
    int rc = db_step(s, e);
    if (rc == 1 && sqlite3_column_text(s, 0)) snprintf(out, size, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return rc < 0 ? -1 : 0;
}

static int meta_write_first(struct catalog *c, struct err *e) {
    sqlite3_stmt *s = NULL;
    const char *sql = "INSERT INTO meta VALUES ('model_digest', ?1), ('learned', ?2), ('generation', 0), ('filled', 0), ('fill_done', 0)";
    if (db_prepare(c->db, sql, &s, e)) return -1;
    bind_text(s, 1, c->options.model_digest);
    sqlite3_bind_int(s, 2, c->options.learned);
    int rc = db_run(s, e);
    sqlite3_finalize(s);
    return rc;
}

static int load_meta(struct catalog *c, struct err *e) {
    char digest[SHA_SIZE], learned[16];
    if (meta_text(c->db, "model_digest", digest, sizeof digest, e)) return -1;
    if (!*digest && meta_write_first(c, e)) return -1;
    if (*digest && strcmp(digest, c->options.model_digest) != 0) {
        return err_set(e, ERR_CONFLICT, "%s: this catalogue was made by the model with id digest %s, the model given has %s", c->path, digest,
                       c->options.model_digest);
    }
    if (meta_text(c->db, "learned", learned, sizeof learned, e)) return -1;
    if (atoi(learned) != c->options.learned) {
        return err_set(e, ERR_CONFLICT, "%s: this catalogue's IDs have %s learned positions, the model has %d", c->path, learned, c->options.learned);
    }
    int64_t filled;
    if (db_int(c->db, "SELECT value FROM meta WHERE name = 'filled'", &filled, e)) return -1;
    if (db_int(c->db, "SELECT value FROM meta WHERE name = 'generation'", &c->generation, e)) return -1;
    c->filled = filled != 0;
    return db_int(c->db, "SELECT count(*) FROM semantic_ids", &c->documents, e);
}

/* The application id is the first thing written, by an ordinary journal: whatever is cut off, the file says whose it is. */
static int make_new(struct catalog *c, struct err *e) {
    char sql[80];
    snprintf(sql, sizeof sql, "PRAGMA page_size = 4096; PRAGMA application_id = %d", APPLICATION_ID);
    return db_exec(c->db, sql, e);
}

static int open_database(struct catalog *c, struct err *e) {
    int kind = schema_peek(c->path, e);
    if (kind < 0 || !(c->db = db_open(c->path, DB_WRITE, e))) return -1;
    if (sqlite3_db_readonly(c->db, "main") == 1) return err_set(e, ERR_NO_PERM, "%s: the file or its folder cannot be written", c->path);
    if (kind == 0 && make_new(c, e)) return -1;
    if (db_exec(c->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0", e)) return -1;
    if (schema_migrate(c->db, e)) return -1;
    return load_meta(c, e);
}

struct catalog *catalog_open(const struct catalog_options *o, struct err *e) {
    CHECK(o->learned >= 1 && o->learned < CATALOG_CODES_MAX && o->model_digest);
    struct catalog *c = xcalloc(1, sizeof *c);
    c->options = *o;
    c->path = xstrdup(o->path);
    c->options.path = c->path;
    c->options.model_digest = xstrdup(o->model_digest);
    c->learned = o->learned;
    c->lock = -1;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_mutex_init(&c->pool_mutex, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->finished, NULL);
    if (lock_acquire(c->path, &c->lock, e) || open_database(c, e) || writer_start(c, e)) {
        catalog_close(c);
        return NULL;
    }
    return c;
}

void catalog_close(struct catalog *c) {
    if (!c) return;
    writer_stop(c);
    pool_close(c);
    db_close(c->db);
    if (c->lock >= 0) lock_release(c->lock);
    pthread_mutex_destroy(&c->mutex);
    pthread_mutex_destroy(&c->pool_mutex);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->finished);
    free(c->changes.list);
    free((char *)c->options.model_digest);
    free(c->path);
    free(c);
}

int catalog_health(struct catalog *c, struct err *e) {
    pthread_mutex_lock(&c->mutex);
    struct err stopped = c->stopped;
    pthread_mutex_unlock(&c->mutex);
    return stopped.code == ERR_NONE ? 0 : err_set(e, stopped.code, "%s", stopped.message);
}

static int64_t guarded(struct catalog *c, const int64_t *value) {
    pthread_mutex_lock(&c->mutex);
    int64_t v = *value;
    pthread_mutex_unlock(&c->mutex);
    return v;
}

int64_t catalog_generation(struct catalog *c) { return guarded(c, &c->generation); }

int64_t catalog_documents(struct catalog *c) { return guarded(c, &c->documents); }

bool catalog_filled(struct catalog *c) {
    pthread_mutex_lock(&c->mutex);
    bool filled = c->filled;
    pthread_mutex_unlock(&c->mutex);
    return filled;
}
