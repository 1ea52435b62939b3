/* sqlite_internal.h: what the files of the SQLite store share; nobody outside core/catalog includes it (and the store's own test).
 *
 * A connection belongs to one thread at a time and is opened without SQLite's own mutex. Statements are prepared once per connection from a
 * table of texts and kept. Every call into SQLite goes through db_*: there a result code becomes an error that names the file. */
#ifndef SEMINDEX_SQLITE_INTERNAL_H
#define SEMINDEX_SQLITE_INTERNAL_H

#include "catalog.h"
#include <pthread.h>
#include <sqlite3.h>

enum { APPLICATION_ID = 0x53494458, /* "SIDX", at byte 68 of the file */ SHA_SIZE = 65 };

/* ---- sqlite.c: connections ---- */
enum db_mode { DB_READ, DB_WRITE };
sqlite3 *db_open(const char *path, enum db_mode mode, struct err *e);
void db_close(sqlite3 *db);
int db_fail(sqlite3 *db, struct err *e, const char *what); /* -1 with the connection's last error */
enum err_code db_code(sqlite3 *db);                        /* what db_fail would set */
int db_exec(sqlite3 *db, const char *sql, struct err *e);
int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **out, struct err *e);
int db_step(sqlite3_stmt *s, struct err *e);               /* 1 = row, 0 = done, -1; done and -1 also reset s */
int db_run(sqlite3_stmt *s, struct err *e);                /* a statement without rows: step, reset, clear bindings */
void db_reset(sqlite3_stmt *s);
int db_int(sqlite3 *db, const char *sql, int64_t *out, struct err *e); /* first column of the first row; 0 if there is none */
void bind_text(sqlite3_stmt *s, int i, const char *text);  /* NULL binds NULL; not copied */
void bind_bytes(sqlite3_stmt *s, int i, const void *bytes, size_t size);

/* Codes as they lie in the file. */
struct prefix {
    unsigned char bytes[4 * CATALOG_CODES_MAX];
    int size;
};
struct prefix prefix_of(const uint32_t *codes, int32_t learned);
/* Codes out of a row's prefix and suffix; -1 with ERR_DATA if it is not of this length. */
int codes_read(sqlite3_stmt *s, int prefix_column, int32_t learned, uint32_t *codes, struct err *e);
/* document_hash; "" when the document has neither title nor text nor attributes (imported with an ID only). */
void content_sha256(const struct document *d, char hex[SHA_SIZE]);

/* ---- sqlite_schema.c: migrations ---- */
/* Looks at the file's first bytes only: 0 = absent or empty, 1 = a catalogue, -1 = something else. Holds no lock, so only for a file that this
 * process has not opened (closing a descriptor would drop SQLite's locks). */
int schema_peek(const char *path, struct err *e);
int schema_migrate(sqlite3 *db, struct err *e);  /* to the newest version; ERR_DATA when the file is newer or its migrations differ */
int schema_check(sqlite3 *db, struct err *e);    /* a catalogue of the newest version; writes nothing */
int32_t schema_version(void);

/* ---- the writer ---- */
enum writer_statement {
    W_FIND, W_INSERT, W_UPDATE, W_DELETE, W_TEXT_ADD, W_TEXT_REMOVE, W_ID_PUT, W_ID_DELETE, W_ID_HOLDER, W_BUCKET_NEXT, W_BUCKET_RAISE,
    W_VECTOR_PUT, W_VECTOR_DELETE, W_META_PUT, W_POPULAR, W_COUNT
};

struct job { /* one waiting caller; lives on its stack */
    struct catalog_batch *batch;           /* one of batch, fill, sql */
    char (*sha)[SHA_SIZE];                 /* [batch->put_count] content hashes, made on the caller's thread */
    const struct catalog_source *source;
    const struct run *run;
    bool fill;
    const char *sql;                       /* tests only */
    int result;
    struct err err;
    bool changed, done;
    struct job *next;
};

struct changes {
    struct catalog_change *list;
    int64_t count, room;
};

struct catalog {
    char *path;
    struct catalog_options options;
    int32_t learned;
    int lock;

    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows, down to stopped */
    pthread_cond_t wake, finished;
    struct job *head, *tail;
    bool closing, filled;
    int64_t generation, documents;
    struct err stopped; /* code ERR_NONE: running */

    sqlite3 *db; /* the writer thread's from here on */
    sqlite3_stmt *statement[W_COUNT];
    struct changes changes;
    int64_t next_generation, added; /* of the transaction under way */
    int64_t room; /* bytes that the puts of this group may still take */
    int wal_frames, wal_folded; /* in the log after the last commit; when it was last folded into the database */

    pthread_mutex_t pool_mutex;
    struct catalog_reader *pool; /* free readers */
    int lent;
};

int writer_start(struct catalog *c, struct err *e);
void writer_stop(struct catalog *c); /* finishes the queue, joins, checkpoints */
void writer_checkpoint(struct catalog *c, bool whole);
void writer_fold(struct catalog *c); /* a checkpoint, if one is due */
int writer_exec(struct catalog *c, const char *sql, struct err *e); /* tests: SQL on the writer's connection */
int meta_put(struct catalog *c, const char *name, int64_t value, struct err *e);

/* sqlite_put.c: inside a transaction. */
int batch_apply(struct catalog *c, struct job *job); /* faults or error in job */
int document_insert(struct catalog *c, const struct document *d, const char *sha, int64_t *number, struct err *e);
int vector_put(struct catalog *c, int64_t number, const float *vector, int32_t size, struct err *e);
int id_put(struct catalog *c, int64_t number, const uint32_t *codes, bool trained, struct err *e);

int fill_run(struct catalog *c, struct job *job); /* sqlite_fill.c */

/* ---- readers ---- */
enum reader_statement {
    R_BY_ID, R_BY_NUMBER, R_FIND, R_SHA, R_VECTOR, R_NEWEST, R_POPULAR, R_SEARCH, R_NAME, R_COUNT
};
struct catalog_reader {
    struct catalog *catalog; /* NULL: opened for upkeep */
    sqlite3 *db;
    int32_t learned;
    bool snapshot;
    sqlite3_stmt *statement[R_COUNT];
    struct catalog_reader *next;
};
sqlite3_stmt *reader_statement(struct catalog_reader *r, enum reader_statement which, struct err *e);
void pool_close(struct catalog *c);

sqlite3 *upkeep_open(const char *path, struct err *e); /* sqlite_verify.c: read-only, must exist */

#endif
