/* sqlite_verify.c: is everything in the catalogue what it should be?
 *
 * The checks run on a private copy of the pages as of one commit (SQLite's own unnamed temporary database, which removes itself): the text
 * index's check is an INSERT, which a read-only connection refuses, and a daemon may go on writing meanwhile. Pages carry no checksum in SQLite, so
 * contents have their own: a SHA-256 over a document's strings and a 64-bit hash of its vector; IDs are in an index that must agree with the
 * table; words must agree with the texts. Every finding is one line; nothing is repaired. */
#include "../base/file.h"
#include "../base/hash.h"
#include "sqlite_internal.h"
#include <string.h>

enum { FINDINGS_MAX = 100 }; /* lines that are printed */

struct verification {
    sqlite3 *db;
    const struct run *run;
    const char *path;
    int64_t findings;
};

static void finding(struct verification *v, const char *text, const char *what) {
    if (++v->findings <= FINDINGS_MAX) run_note(v->run, "%s: %s%s%s", v->path, text, *what ? ": " : "", what);
}

sqlite3 *upkeep_open(const char *path, struct err *e) {
    if (!file_exists(path)) {
        err_set(e, ERR_NO_INPUT, "%s: no such catalogue", path);
        return NULL;
    }
    return db_open(path, DB_READ, e);
}

static sqlite3 *copy_pages(sqlite3 *from, struct err *e) {
    sqlite3 *to = db_open("", DB_WRITE, e);
    if (!to) return NULL;
    sqlite3_db_config(to, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    int rc = b ? sqlite3_backup_step(b, -1) : SQLITE_ERROR;
    if (b) sqlite3_backup_finish(b);
    if (rc == SQLITE_DONE) return to;
    if (db_code(from) != ERR_INTERNAL) db_fail(from, e, "cannot be read");
    else db_fail(to, e, "cannot make a temporary copy to verify");
    db_close(to);
    return NULL;
}

/* Every row of the statement is a finding; its first column says which. A statement that fails is one too. */
static void each_row(struct verification *v, const char *sql, const char *text) {
    sqlite3_stmt *s = NULL;
    struct err e = {0};
    int rc = db_prepare(v->db, sql, &s, &e);
    while (rc >= 0 && (rc = db_step(s, &e)) == 1) {
        const char *what = (const char *)sqlite3_column_text(s, 0);
        if (!what || strcmp(what, "ok") != 0) finding(v, text, what ? what : "");
    }
    if (rc < 0) finding(v, text, e.message);
    sqlite3_finalize(s);
}

static void check_documents(struct verification *v) {
    sqlite3_stmt *s = NULL;
    struct err e = {0};
    int rc = db_prepare(v->db, "SELECT id, sha256, title, text, attributes FROM documents NOT INDEXED", &s, &e);
    while (rc >= 0 && (rc = db_step(s, &e)) == 1) {
        const char *field[5];
        char sha[SHA_SIZE];
        for (int i = 0; i < 5; i++) field[i] = (const char *)sqlite3_column_text(s, i);
        struct document d = {.id = field[0] ? field[0] : "", .title = field[2], .text = field[3], .attributes = field[4]};
        content_sha256(&d, sha);
        if (strcmp(sha, field[1] ? field[1] : "") != 0) finding(v, "content does not have its SHA-256", d.id);
        if (!run_stopping(v->run)) continue;
        break;
    }
    if (rc < 0) finding(v, "documents", e.message);
    sqlite3_finalize(s);
}

static void check_vectors(struct verification *v) {
    sqlite3_stmt *s = NULL;
    struct err e = {0};
    int rc = db_prepare(v->db, "SELECT number, checksum, vector FROM vectors", &s, &e);
    while (rc >= 0 && (rc = db_step(s, &e)) == 1) {
        const void *blob = sqlite3_column_blob(s, 2);
        size_t bytes = (size_t)sqlite3_column_bytes(s, 2);
        bool good = blob && bytes % sizeof(float) == 0 && (int64_t)hash_bytes(blob, bytes, 0) == sqlite3_column_int64(s, 1);
        if (!good) finding(v, "vector does not have its checksum: document number", (const char *)sqlite3_column_text(s, 0));
    }
    if (rc < 0) finding(v, "vectors", e.message);
    sqlite3_finalize(s);
}

static void check_rules(struct verification *v) {
    each_row(v, "PRAGMA integrity_check(100)", "structure");
    each_row(v, "SELECT \"table\" || ' row ' || rowid FROM pragma_foreign_key_check", "row without its document");
    each_row(v, "SELECT id FROM documents WHERE number NOT IN (SELECT number FROM semantic_ids)", "document without semantic ID");
    each_row(v, "SELECT number FROM semantic_ids WHERE length(prefix) <> 4 * (SELECT value FROM meta WHERE name = 'learned')",
             "semantic ID of another length: document number");
    each_row(v, "SELECT group_concat(number, ' ') FROM semantic_ids NOT INDEXED GROUP BY prefix, suffix HAVING count(*) > 1",
             "semantic ID of several documents: numbers");
    each_row(v, "SELECT group_concat(number, ' ') FROM documents NOT INDEXED GROUP BY id HAVING count(*) > 1", "id of several documents: numbers");
    each_row(v, "SELECT s.number FROM semantic_ids s LEFT JOIN buckets b ON b.prefix = s.prefix WHERE b.next IS NULL OR b.next <= s.suffix",
             "suffix counter not above the suffix: document number");
}

static bool is_filled(struct verification *v) {
    int64_t filled = 0;
    return db_int(v->db, "SELECT value FROM meta WHERE name = 'filled'", &filled, NULL) == 0 && filled;
}

static void check_words(struct verification *v) {
    struct err e = {0};
    if (db_exec(v->db, "INSERT INTO text_index (text_index, rank) VALUES ('integrity-check', 1)", &e)) {
        finding(v, "text index does not agree with the texts", e.message);
    }
}

static int check_digest(struct verification *v, const char *model_digest, struct err *e) {
    sqlite3_stmt *s = NULL;
    if (!model_digest) return 0;
    if (db_prepare(v->db, "SELECT value FROM meta WHERE name = 'model_digest'", &s, e)) return -1;
    int rc = db_step(s, e);
    const char *found = rc == 1 ? (const char *)sqlite3_column_text(s, 0) : "";
    if (rc >= 0 && strcmp(found ? found : "", model_digest) != 0) {
        rc = err_set(e, ERR_CONFLICT, "%s: made by the model with id digest %s, the model given has %s", v->path, found ? found : "", model_digest);
    }
    sqlite3_finalize(s);
    return rc < 0 ? -1 : 0;
}

static int conclude(struct verification *v, struct err *e) {
    int64_t documents = 0, generation = 0;
    if (v->findings > FINDINGS_MAX) run_note(v->run, "%s: and %lld more", v->path, (long long)(v->findings - FINDINGS_MAX));
    if (v->findings) return err_set(e, ERR_DATA, "%s: %lld findings: the catalogue is damaged", v->path, (long long)v->findings);
    db_int(v->db, "SELECT count(*) FROM documents", &documents, NULL);
    db_int(v->db, "SELECT value FROM meta WHERE name = 'generation'", &generation, NULL);
    run_note(v->run, "%s: good: %lld documents, generation %lld", v->path, (long long)documents, (long long)generation);
    return 0;
}

int catalog_verify(const char *path, const char *model_digest, const struct run *run, struct err *e) {
    struct verification v = {.run = run, .path = path};
    sqlite3 *db = upkeep_open(path, e);
    int rc = -1;
    if (!db || schema_check(db, e) || !(v.db = copy_pages(db, e)) || check_digest(&v, model_digest, e)) goto out;
    check_rules(&v);
    check_documents(&v);
    check_vectors(&v);
    if (is_filled(&v)) check_words(&v);
    rc = run_stopping(run) ? err_set(e, ERR_INTERRUPTED, "%s: stopped while it was being verified", path) : conclude(&v, e);
out:
    db_close(v.db);
    db_close(db);
    return rc;
}
