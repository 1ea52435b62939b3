/* sqlite_writer.c: the one thread that writes, group commit and checkpoints.
 *
 * Callers put a job on a queue and sleep. The thread takes the whole queue, runs it in one transaction with a savepoint around each batch
 * (a refused batch is rolled back alone), commits with full sync, tells on_commit what changed and only then wakes the callers: who returns
 * from catalog_write finds its documents in the next query. Generations count commits that changed something.
 * After an error of the disk (an fsync, a read, a damaged page) nobody can know what is in the page cache and what is stored: the thread
 * rolls back, refuses everything from then on and the reason stays in `stopped`. A full disk is not such an error: puts are refused while a
 * reserve is still free, which deletions and the folding of the WAL live on; should the disk be full all the same, the group is rolled back,
 * the WAL folded, and the group tried once more. This thread alone checkpoints: two connections that
 * checkpoint and write at the same moment can corrupt a database (SQLite <= 3.51.2). */
#include "../base/hash.h"
#include "sqlite_internal.h"
#include <string.h>
#include <sys/statvfs.h>

enum {
    CHECKPOINT_FRAMES = 1000,
    TRUNCATE_FRAMES = 16000,
    PAGE = 4096,
    RESERVE = 1 << 20,     /* bytes of disk that puts leave free: this, and a 16th of the disk up to RESERVE_MORE */
    RESERVE_MORE = 8 << 20,
    PLENTY = 64 << 20      /* above this (and four times the group) nobody counts pages */
};

/* No INSERT ... SELECT and no RETURNING for what every document needs: SQLite gives such a statement a savepoint of its own, and at each one
 * the text index writes out what it has gathered: a segment a document instead of one a batch, a quarter of the speed. */
static const char *const statements[W_COUNT] = {
    [W_FIND] = "SELECT d.number, d.sha256, s.trained, s.prefix, s.suffix FROM documents d JOIN semantic_ids s ON s.number = d.number"
               " WHERE d.id = ?1",
    [W_INSERT] = "INSERT INTO documents (id, sha256, created_ms, updated_ms, generation, title, attributes, words, text) VALUES (?1, ?2, ?3,"
                 " ?3, ?4, ?5, ?6, (SELECT group_concat(value, ' ') FROM json_tree(?6) WHERE type = 'text'), ?7)",
    [W_UPDATE] = "UPDATE documents SET sha256 = ?2, updated_ms = ?3, generation = ?4, title = ?5, attributes = ?6,"
                 " words = (SELECT group_concat(value, ' ') FROM json_tree(?6) WHERE type = 'text'), text = ?7 WHERE number = ?1",
    [W_DELETE] = "DELETE FROM documents WHERE number = ?1",
    [W_TEXT_ADD] = "INSERT INTO text_index (rowid, title, text, words) VALUES (?1, (SELECT title FROM documents WHERE number = ?1),"
                   " (SELECT text FROM documents WHERE number = ?1), (SELECT words FROM documents WHERE number = ?1))",
    [W_TEXT_REMOVE] = "INSERT INTO text_index (text_index, rowid, title, text, words) VALUES ('delete', ?1, (SELECT title FROM documents"
                      " WHERE number = ?1), (SELECT text FROM documents WHERE number = ?1), (SELECT words FROM documents WHERE number = ?1))",
    [W_ID_PUT] = "INSERT INTO semantic_ids (number, prefix, suffix, trained) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (number)"
                 " DO UPDATE SET prefix = excluded.prefix, suffix = excluded.suffix, trained = excluded.trained",
    [W_ID_DELETE] = "DELETE FROM semantic_ids WHERE number = ?1",
    [W_ID_HOLDER] = "SELECT d.id, d.number FROM semantic_ids s JOIN documents d ON d.number = s.number WHERE s.prefix = ?1 AND s.suffix = ?2",
    [W_BUCKET_NEXT] = "SELECT next FROM buckets WHERE prefix = ?1",
    [W_BUCKET_RAISE] = "INSERT INTO buckets (prefix, next) VALUES (?1, ?2 + 1)"
                       " ON CONFLICT (prefix) DO UPDATE SET next = max(next, excluded.next)",
    [W_VECTOR_PUT] = "INSERT OR REPLACE INTO vectors (number, checksum, vector) VALUES (?1, ?2, ?3)",
    [W_VECTOR_DELETE] = "DELETE FROM vectors WHERE number = ?1",
    [W_META_PUT] = "UPDATE meta SET value = ?2 WHERE name = ?1",
    [W_POPULAR] = "INSERT INTO popular (place, id, count) VALUES (?1, ?2, ?3)",
};

int meta_put(struct catalog *c, const char *name, int64_t value, struct err *e) {
    sqlite3_stmt *s = c->statement[W_META_PUT];
    bind_text(s, 1, name);
    sqlite3_bind_int64(s, 2, value);
    return db_run(s, e);
}

static void stop_writing(struct catalog *c, const struct err *reason) {
    pthread_mutex_lock(&c->mutex);
    if (c->stopped.code == ERR_NONE) {
        c->stopped.code = ERR_IO;
        snprintf(c->stopped.message, sizeof c->stopped.message, "the catalogue takes no more writes until a restart: %.900s", reason->message);
    }
    pthread_mutex_unlock(&c->mutex);
}

static bool stopped(struct catalog *c) {
    struct err none;
    return catalog_health(c, &none) != 0;
}

/* Passive: never waits. Whole: also cuts the WAL file, if no reader stands in the way. */
void writer_checkpoint(struct catalog *c, bool whole) {
    int frames = 0, moved = 0;
    struct err e = {0};
    sqlite3_busy_timeout(c->db, 0);
    int mode = whole ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int rc = sqlite3_wal_checkpoint_v2(c->db, "main", mode, &frames, &moved);
    if (rc != SQLITE_OK && rc != SQLITE_BUSY && rc != SQLITE_LOCKED) {
        db_fail(c->db, &e, "cannot move the write-ahead log into the database");
        if (e.code == ERR_IO || e.code == ERR_DATA) stop_writing(c, &e);
    }
    sqlite3_busy_timeout(c->db, 5000);
}

static int count_frames(void *state, sqlite3 *db, const char *name, int frames) {
    (void)db, (void)name;
    ((struct catalog *)state)->wal_frames = frames;
    return SQLITE_OK;
}

/* Every thousand frames more; a reader that holds the log back makes it grow, not the commits slow. */
void writer_fold(struct catalog *c) {
    if (c->wal_frames < c->wal_folded) c->wal_folded = 0;
    if (c->wal_frames - c->wal_folded < CHECKPOINT_FRAMES || stopped(c)) return;
    c->wal_folded = c->wal_frames;
    writer_checkpoint(c, c->wal_frames > TRUNCATE_FRAMES);
}

/* ---- room on the disk ---- */

static int64_t size_of_text(const char *text) { return text ? (int64_t)strlen(text) : 0; }

/* What a batch adds to log and database, roughly: its strings stored and indexed, its vectors, a page a document. */
static int64_t size_of_batch(const struct catalog_batch *b) {
    int64_t bytes = 0;
    for (int32_t i = 0; i < b->put_count; i++) {
        const struct document *d = b->puts[i].document;
        bytes += PAGE + 4 * (int64_t)b->puts[i].vector_size;
        bytes += 2 * (size_of_text(d->title) + size_of_text(d->text) + size_of_text(d->attributes));
    }
    return bytes;
}

struct space {
    int64_t free, reserve;
};

static struct space disk_space(const struct catalog *c) {
    struct statvfs v;
    if (statvfs(c->path, &v) != 0) return (struct space){INT64_MAX, RESERVE};
    int64_t share = (int64_t)v.f_blocks * (int64_t)v.f_frsize / 16;
    return (struct space){(int64_t)v.f_bavail * (int64_t)v.f_frsize, RESERVE + (share < RESERVE_MORE ? share : RESERVE_MORE)};
}

/* Bytes that puts may take: free pages inside the database (of deleted documents) count too, so that deleting makes room although the file does
 * not shrink. The log is on the disk in any case. */
static int64_t room_for_puts(struct catalog *c) {
    int64_t pages;
    struct space disk = disk_space(c);
    if (stopped(c) || db_int(c->db, "PRAGMA freelist_count", &pages, NULL)) return 0;
    int64_t by_reuse = disk.free < pages * PAGE ? disk.free : pages * PAGE;
    int64_t by_growth = (disk.free - disk.reserve) / 2; /* once in the log, once in the database */
    return by_reuse > by_growth ? by_reuse : by_growth;
}

/* Where space is short the log is folded before every group, deletions too: it must never be longer than what folding it can use. */
static void measure_room(struct catalog *c, const struct job *group) {
    int64_t bytes = 0;
    for (const struct job *j = group; j; j = j->next) bytes += size_of_batch(j->batch);
    c->room = INT64_MAX;
    if (disk_space(c).free > PLENTY + 4 * bytes) return;
    if (c->wal_frames) writer_checkpoint(c, true);
    if (bytes) c->room = room_for_puts(c);
}

static int take_room(struct catalog *c, struct job *job) {
    int64_t bytes = size_of_batch(job->batch);
    if (bytes > c->room) {
        return err_set(&job->err, ERR_NO_SPACE, "%s: the disk is full: the documents need about %lld bytes, %lld may be used", c->path,
                       (long long)bytes, (long long)(c->room > 0 ? c->room : 0));
    }
    c->room -= c->room == INT64_MAX ? 0 : bytes;
    return 0;
}

/* ---- one group ---- */

/* One batch inside the open transaction. Returns -1 only when the transaction itself is lost. */
static int run_batch(struct catalog *c, struct job *job) {
    int64_t mark = c->changes.count, added = c->added;
    job->result = 0;
    job->changed = false;
    if (job->batch->deadline_ms && clock_ms() > job->batch->deadline_ms) {
        job->result = err_set(&job->err, ERR_DEADLINE, "the deadline passed before the documents were stored");
        return 0;
    }
    if (job->batch->put_count && take_room(c, job)) {
        job->result = -1;
        return 0;
    }
    if (db_exec(c->db, "SAVEPOINT batch", &job->err)) return -1;
    job->result = batch_apply(c, job);
    job->changed = job->result == 0 && c->changes.count > mark;
    if (job->result) {
        c->changes.count = mark;
        c->added = added;
        bool own = job->batch->faults > 0 || job->err.code == ERR_INTERNAL; /* the batch's fault, not the disk's */
        if (!own || sqlite3_get_autocommit(c->db)) return -1;
        if (db_exec(c->db, "ROLLBACK TO batch", &job->err)) return -1;
    }
    return db_exec(c->db, "RELEASE batch", &job->err);
}

static int commit(struct catalog *c, struct err *e) {
    if (c->changes.count && meta_put(c, "generation", c->next_generation, e)) return -1;
    return db_exec(c->db, "COMMIT", e);
}

static int run_transaction(struct catalog *c, struct job *group, struct err *e) {
    c->changes.count = c->added = 0;
    c->next_generation = catalog_generation(c) + 1;
    if (db_exec(c->db, "BEGIN IMMEDIATE", e)) return -1;
    for (struct job *j = group; j; j = j->next) {
        if (run_batch(c, j)) {
            *e = j->err;
            return -1;
        }
    }
    return commit(c, e);
}

static void publish(struct catalog *c) {
    pthread_mutex_lock(&c->mutex);
    c->generation = c->next_generation;
    c->documents += c->added;
    struct catalog_commit commit = {c->generation, c->documents, c->changes.list, c->changes.count};
    pthread_mutex_unlock(&c->mutex);
    if (c->options.on_commit) c->options.on_commit(c->options.state, &commit);
}

static void fail_all(struct job *group, const struct err *e) {
    for (struct job *j = group; j; j = j->next) {
        j->result = -1;
        j->err = *e;
        j->changed = false;
        if (j->batch) j->batch->faults = 0;
    }
}

static void roll_back(struct catalog *c) {
    if (!sqlite3_get_autocommit(c->db)) sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

static void run_group(struct catalog *c, struct job *group) {
    struct err e = {0};
    measure_room(c, group);
    int rc = run_transaction(c, group, &e);
    if (rc && e.code == ERR_NO_SPACE) {
        roll_back(c);
        writer_checkpoint(c, true);
        measure_room(c, group);
        if (!stopped(c)) rc = run_transaction(c, group, &e);
    }
    if (rc) {
        roll_back(c);
        if (e.code == ERR_IO || e.code == ERR_DATA) stop_writing(c, &e);
        fail_all(group, &e);
        return;
    }
    if (c->changes.count) publish(c);
    for (struct job *j = group; j; j = j->next) {
        j->batch->generation = j->changed ? c->next_generation : catalog_generation(c);
    }
}

/* ---- the thread ---- */

static void run_single(struct catalog *c, struct job *job) {
    job->result = job->fill ? fill_run(c, job) : db_exec(c->db, job->sql, &job->err);
    if (job->result) {
        if (db_code(c->db) == ERR_IO) stop_writing(c, &job->err);
        roll_back(c);
    }
}

/* Jobs that need a transaction of their own run alone, all batches between them as one group. */
static void run_jobs(struct catalog *c, struct job *list) {
    while (list) {
        struct job *group = list, *last = list;
        if (list->batch) {
            while (last->next && last->next->batch) last = last->next;
        }
        list = last->next;
        last->next = NULL;
        if (stopped(c)) {
            struct err e;
            catalog_health(c, &e);
            fail_all(group, &e);
        } else if (group->batch) {
            run_group(c, group);
        } else {
            run_single(c, group);
        }
        last->next = list;
    }
}

static void *writer_main(void *state) {
    struct catalog *c = state;
    pthread_mutex_lock(&c->mutex);
    for (;;) {
        while (!c->head && !c->closing) pthread_cond_wait(&c->wake, &c->mutex);
        struct job *list = c->head;
        if (!list) break;
        c->head = c->tail = NULL;
        pthread_mutex_unlock(&c->mutex);
        run_jobs(c, list);
        pthread_mutex_lock(&c->mutex);
        for (struct job *next; list; list = next) {
            next = list->next; /* the job is its caller's again once it is done */
            list->done = true;
        }
        pthread_cond_broadcast(&c->finished);
        pthread_mutex_unlock(&c->mutex);
        writer_fold(c);
        pthread_mutex_lock(&c->mutex);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static int submit(struct catalog *c, struct job *job, struct err *e) {
    pthread_mutex_lock(&c->mutex);
    struct err refused = c->stopped;
    if (c->closing) err_set(&refused, ERR_UNAVAILABLE, "%s: the catalogue is being closed", c->path);
    if (!c->filled && job->batch) err_set(&refused, ERR_UNAVAILABLE, "%s: the catalogue is still being filled", c->path);
    if (refused.code != ERR_NONE) {
        pthread_mutex_unlock(&c->mutex);
        return err_set(e, refused.code, "%s", refused.message);
    }
    if (c->tail) c->tail->next = job;
    else c->head = job;
    c->tail = job;
    pthread_cond_signal(&c->wake);
    while (!job->done) pthread_cond_wait(&c->finished, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
    return job->result ? err_set(e, job->err.code, "%s", job->err.message) : 0;
}

int writer_start(struct catalog *c, struct err *e) {
    for (int i = 0; i < W_COUNT; i++) {
        if (db_prepare(c->db, statements[i], &c->statement[i], e)) return -1;
    }
    sqlite3_wal_hook(c->db, count_frames, c);
    int rc = pthread_create(&c->thread, NULL, writer_main, c);
    if (rc) c->thread = 0;
    return rc ? err_set(e, ERR_OS, "cannot start the catalogue's writer: %s", strerror(rc)) : 0;
}

void writer_stop(struct catalog *c) {
    if (c->thread) {
        pthread_mutex_lock(&c->mutex);
        c->closing = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->mutex);
        pthread_join(c->thread, NULL);
    }
    for (int i = 0; i < W_COUNT; i++) sqlite3_finalize(c->statement[i]);
    if (c->thread && !stopped(c)) writer_checkpoint(c, true);
    if (c->db && stopped(c)) sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

int writer_exec(struct catalog *c, const char *sql, struct err *e) {
    struct job job = {.sql = sql};
    return submit(c, &job, e);
}

int catalog_fill(struct catalog *c, const struct catalog_source *source, const struct run *run, struct err *e) {
    static const struct catalog_source empty;
    struct job job = {.fill = true, .source = source ? source : &empty, .run = run};
    return catalog_filled(c) ? 0 : submit(c, &job, e);
}

/* ---- what can be seen wrong in a batch before the writer gets it ---- */

static void fault(struct catalog_batch *b, struct catalog_put *p, enum catalog_fault kind, const char *detail) {
    p->fault = kind;
    p->detail = detail;
    b->faults++;
}

static void check_puts(struct catalog *c, struct catalog_batch *b) {
    struct string_map *seen = string_map_init(b->put_count);
    b->faults = 0;
    for (int32_t i = 0; i < b->put_count; i++) {
        struct catalog_put *p = &b->puts[i];
        const char *id = p->document->id;
        p->fault = FAULT_NONE;
        p->detail = NULL;
        p->other = -1;
        if (!string_map_put(seen, id, strlen(id), i)) {
            p->other = string_map_get(seen, id, strlen(id));
            fault(b, p, FAULT_DUPLICATE_ID,
                  arena_printf(b->arena, "document %d has the id of document %d of the same batch: %s", i, p->other, id));
        } else if (p->codes && p->code_count != c->learned && p->code_count != c->learned + 1) {
            fault(b, p, FAULT_BAD_CODES, arena_printf(b->arena, "%d codes; IDs of this catalogue have %d", p->code_count, c->learned + 1));
        }
    }
    string_map_free(seen);
}

int catalog_write(struct catalog *c, struct catalog_batch *batch, struct err *e) {
    struct job job = {.batch = batch};
    check_puts(c, batch);
    if (batch->faults) return err_set(e, ERR_INVALID, "%d of %d documents cannot be stored", batch->faults, batch->put_count);
    job.sha = xcalloc((size_t)batch->put_count + 1, sizeof *job.sha);
    for (int32_t i = 0; i < batch->put_count; i++) content_sha256(batch->puts[i].document, job.sha[i]);
    int rc = submit(c, &job, e);
    free(job.sha);
    return rc;
}
