/* sqlite_schema.c: the numbered migrations, and what version a file is.
 *
 * The SQL lies in schema/sqlite/, one file a version, and is put into the program by the assembler. Each runs in one transaction that also
 * records its SHA-256 and raises user_version, so a kill leaves the version before or after, never between. A version is never edited
 * after a release: a catalogue whose recorded digest differs from ours was made by other SQL of the same number and is refused. A file from
 * the future is refused by its version. */
#include "../base/embed.h"
#include "../base/hash.h"
#include "sqlite_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

EMBED(semindex_sql_0001, "schema/sqlite/0001_catalog.sql");

static const struct migration {
    const char *name, *sql;
} migrations[] = {
    {"0001_catalog", semindex_sql_0001},
};
enum { NEWEST = sizeof migrations / sizeof *migrations };

int32_t schema_version(void) { return NEWEST; }

static uint32_t big_endian(const unsigned char *b) { return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]; }

int schema_peek(const char *path, struct err *e) {
    unsigned char head[100];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : err_set(e, err_from_errno(errno), "%s: cannot open: %s", path, strerror(errno));
    int bad = fstat(fd, &st);
    ssize_t got = bad || !S_ISREG(st.st_mode) ? -1 : pread(fd, head, sizeof head, 0);
    close(fd);
    if (got < 0) return err_set(e, ERR_DATA, "%s: not a regular file that can be read", path);
    if (got == 0) return 0;
    if (got < (ssize_t)sizeof head || memcmp(head, "SQLite format 3", 16) != 0) return err_set(e, ERR_DATA, "%s: not a semindex catalogue", path);
    if (big_endian(head + 68) != APPLICATION_ID) {
        return err_set(e, ERR_DATA, "%s: an SQLite database, but not a semindex catalogue (application id %#x, expected %#x)", path,
                       big_endian(head + 68), (unsigned)APPLICATION_ID);
    }
    return 1;
}

static int compare_recorded(sqlite3 *db, int version, struct err *e) {
    sqlite3_stmt *s = NULL;
    char ours[SHA_SIZE];
    sha256_hex(migrations[version - 1].sql, strlen(migrations[version - 1].sql), ours);
    if (db_prepare(db, "SELECT sha256 FROM migrations WHERE version = ?1", &s, e)) return -1;
    sqlite3_bind_int(s, 1, version);
    int rc = db_step(s, e);
    const char *theirs = rc == 1 ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (rc >= 0 && (!theirs || strcmp(theirs, ours) != 0)) {
        rc = err_set(e, ERR_DATA, "%s: migration %s was applied with SHA-256 %s, this program's has %s", sqlite3_db_filename(db, "main"),
                     migrations[version - 1].name, theirs ? theirs : "(not recorded)", ours);
    }
    sqlite3_finalize(s);
    return rc < 0 ? -1 : 0;
}

/* The version of a catalogue, after checking that what was applied is what we have. */
static int version_of(sqlite3 *db, int64_t *version, struct err *e) {
    const char *path = sqlite3_db_filename(db, "main");
    int64_t application;
    if (db_int(db, "PRAGMA application_id", &application, e) || db_int(db, "PRAGMA user_version", version, e)) return -1;
    if (application != APPLICATION_ID) return err_set(e, ERR_DATA, "%s: not a semindex catalogue", path);
    if (*version > NEWEST) {
        return err_set(e, ERR_DATA, "%s: a catalogue of version %lld; this program (%s) knows versions up to %d", path, (long long)*version,
                       SEMINDEX_VERSION, NEWEST);
    }
    for (int v = 1; v <= *version; v++) {
        if (compare_recorded(db, v, e)) return -1;
    }
    return 0;
}

static int record(sqlite3 *db, int version, struct err *e) {
    sqlite3_stmt *s = NULL;
    char sha[SHA_SIZE], pragma[48];
    sha256_hex(migrations[version - 1].sql, strlen(migrations[version - 1].sql), sha);
    if (db_prepare(db, "INSERT INTO migrations VALUES (?1, ?2, ?3, ?4)", &s, e)) return -1;
    sqlite3_bind_int(s, 1, version);
    bind_text(s, 2, migrations[version - 1].name);
    bind_text(s, 3, sha);
    sqlite3_bind_int64(s, 4, clock_unix_ms());
    int rc = db_run(s, e);
    sqlite3_finalize(s);
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", version);
    return rc ? -1 : db_exec(db, pragma, e);
}

static int apply(sqlite3 *db, int version, struct err *e) {
    static const char table[] = "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL,"
                                " applied_ms INTEGER NOT NULL) STRICT";
    if (db_exec(db, "BEGIN IMMEDIATE", e)) return -1;
    if (db_exec(db, table, e) || db_exec(db, migrations[version - 1].sql, e) || record(db, version, e) || db_exec(db, "COMMIT", e)) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return err_prefix(e, "migration %s", migrations[version - 1].name);
    }
    return 0;
}

int schema_migrate(sqlite3 *db, struct err *e) {
    int64_t version;
    if (version_of(db, &version, e)) return -1;
    for (int v = (int)version + 1; v <= NEWEST; v++) {
        if (apply(db, v, e)) return -1;
    }
    return 0;
}

int schema_check(sqlite3 *db, struct err *e) {
    int64_t version;
    if (version_of(db, &version, e)) return -1;
    if (version < NEWEST) {
        return err_set(e, ERR_DATA, "%s: a catalogue of version %lld; open it once with this program to bring it to version %d",
                       sqlite3_db_filename(db, "main"), (long long)version, NEWEST);
    }
    return 0;
}
