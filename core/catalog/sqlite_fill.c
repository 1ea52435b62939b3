/* sqlite_fill.c: a new catalogue gets the documents that its bundle learned or imported.
 *
 * Rows go in as the source gives them, 10,000 to a transaction, and each transaction also records how many are in: a kill or a stop loses at
 * most the transaction under way, and the next try skips what is stored. Suffix counters and the text index are made at the end from the
 * rows, in one transaction with the mark `filled`; until that mark the store refuses other writes and the daemon is not ready, so nobody sees
 * half a catalogue. Runs on the writer thread. */
#include "sqlite_internal.h"
#include <math.h>
#include <string.h>

enum { ROWS_PER_TRANSACTION = 10000, ROWS_PER_LOOK = 500 };

struct filling {
    struct catalog *catalog;
    const struct catalog_source *source;
    const struct run *run;
    int64_t done; /* rows of the source that are stored or about to be */
    bool ended;
};

/* After a row was refused: which of the two uniqueness rules it broke. */
static int explain_twice(struct catalog *c, const struct catalog_entry *entry, struct err *e) {
    sqlite3_stmt *s = c->statement[W_ID_HOLDER];
    struct prefix p = prefix_of(entry->codes, c->learned);
    bind_bytes(s, 1, p.bytes, (size_t)p.size);
    sqlite3_bind_int64(s, 2, entry->codes[c->learned]);
    int rc = db_step(s, e);
    if (rc < 0) return -1;
    if (rc == 0) return err_set(e, ERR_DATA, "document %s: its id is there twice", entry->document.id);
    err_set(e, ERR_DATA, "documents %s and %s have the same semantic ID", (const char *)sqlite3_column_text(s, 0), entry->document.id);
    db_reset(s);
    return -1;
}

static int store_entry(struct catalog *c, const struct catalog_entry *entry, struct err *e) {
    char sha[SHA_SIZE];
    int64_t number;
    content_sha256(&entry->document, sha);
    if (document_insert(c, &entry->document, sha, &number, e) || id_put(c, number, entry->codes, entry->trained, e)) {
        return (sqlite3_errcode(c->db) & 0xff) == SQLITE_CONSTRAINT ? explain_twice(c, entry, e) : -1;
    }
    return entry->vector ? vector_put(c, number, entry->vector, entry->vector_size, e) : 0;
}

static int skip_stored(struct filling *f, struct err *e) {
    struct catalog_entry entry;
    for (int64_t i = 0; i < f->done; i++) {
        int rc = f->source->next(f->source->state, &entry, e);
        if (rc < 0) return -1;
        if (rc == 0) return err_set(e, ERR_DATA, "%s: %lld documents were filled in already, but the model has %lld", f->catalog->path,
                                    (long long)f->done, (long long)i);
    }
    return 0;
}

/* One transaction of rows. Ends early when the source ends or the run wishes to stop; what is in is committed either way. */
static int store_some(struct filling *f, struct err *e) {
    struct catalog *c = f->catalog;
    if (db_exec(c->db, "BEGIN IMMEDIATE", e)) return -1;
    for (int rows = 0; rows < ROWS_PER_TRANSACTION; rows++) {
        struct catalog_entry entry = {0};
        if (rows % ROWS_PER_LOOK == 0) {
            run_report(f->run, "filling the catalogue", f->done, f->source->total, "documents", NAN);
            if (run_stopping(f->run)) break;
        }
        int rc = f->source->next(f->source->state, &entry, e);
        if (rc < 0) return -1;
        f->ended = rc == 0;
        if (f->ended) break;
        if (store_entry(c, &entry, e)) return -1;
        f->done++;
    }
    if (meta_put(c, "fill_done", f->done, e) || db_exec(c->db, "COMMIT", e)) return -1;
    writer_fold(c);
    return 0;
}

static int store_popular(struct catalog *c, const struct catalog_source *source, struct err *e) {
    sqlite3_stmt *s = c->statement[W_POPULAR];
    for (int64_t i = 0; i < source->popular_count; i++) {
        sqlite3_bind_int64(s, 1, i + 1);
        bind_text(s, 2, source->popular_ids[i]);
        sqlite3_bind_int64(s, 3, source->popular_counts[i]);
        if (db_run(s, e)) return -1;
    }
    return 0;
}

static int finish(struct filling *f, struct err *e) {
    struct catalog *c = f->catalog;
    run_report(f->run, "building the text index", f->done, f->done, "documents", NAN);
    if (db_exec(c->db, "BEGIN IMMEDIATE", e)) return -1;
    if (db_exec(c->db, "INSERT INTO buckets (prefix, next) SELECT prefix, max(suffix) + 1 FROM semantic_ids GROUP BY prefix", e)) return -1;
    if (db_exec(c->db, "INSERT INTO text_index (text_index) VALUES ('rebuild')", e) || store_popular(c, f->source, e)) return -1;
    if (meta_put(c, "generation", c->next_generation, e) || meta_put(c, "filled", 1, e) || db_exec(c->db, "COMMIT", e)) return -1;
    writer_checkpoint(c, true);
    return 0;
}

static void mark_filled(struct filling *f) {
    struct catalog *c = f->catalog;
    pthread_mutex_lock(&c->mutex);
    c->filled = true;
    c->generation = c->next_generation;
    c->documents = f->done;
    pthread_mutex_unlock(&c->mutex);
}

int fill_run(struct catalog *c, struct job *job) {
    struct filling f = {.catalog = c, .source = job->source, .run = job->run, .ended = !job->source->next};
    struct err *e = &job->err;
    if (catalog_filled(c)) return 0;
    c->next_generation = catalog_generation(c) + 1;
    if (db_int(c->db, "SELECT value FROM meta WHERE name = 'fill_done'", &f.done, e) || skip_stored(&f, e)) return -1;
    while (!f.ended) {
        if (run_stopping(f.run)) return err_set(e, ERR_INTERRUPTED, "stopped while the catalogue was being filled; what is in stays");
        if (store_some(&f, e)) return -1;
    }
    if (finish(&f, e)) return -1;
    mark_filled(&f);
    return 0;
}
