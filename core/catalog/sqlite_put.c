/* sqlite_put.c: what one batch does inside the writer's transaction.
 *
 * Whether a document is new, changed or unchanged is decided here, against the stored content hash, so two callers that send the same id at
 * the same moment cannot both be right about it. Suffixes come from the bucket's counter, which only grows: a suffix is given out once in
 * the life of a catalogue, also when its document is deleted, so an old ID in somebody's history never leads to another document. A changed
 * document whose learned codes are the same keeps its ID; it moves only when its codes do. Every move is recorded as changes for the trie. */
#include "../base/hash.h"
#include "sqlite_internal.h"
#include <string.h>

struct stored { /* what W_FIND says about an id */
    int64_t number; /* 0: not there */
    char sha[SHA_SIZE];
    bool trained;
    uint32_t codes[CATALOG_CODES_MAX];
};

static void add_change(struct catalog *c, enum catalog_change_kind kind, const struct stored *at) {
    struct changes *l = &c->changes;
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 256;
        l->list = xrealloc(l->list, (size_t)l->room, sizeof *l->list);
    }
    struct catalog_change *change = &l->list[l->count++];
    *change = (struct catalog_change){.kind = kind, .trained = at->trained, .number = at->number};
    memcpy(change->codes, at->codes, sizeof change->codes);
}

static int find(struct catalog *c, const char *id, struct stored *out, struct err *e) {
    sqlite3_stmt *s = c->statement[W_FIND];
    *out = (struct stored){0};
    bind_text(s, 1, id);
    int rc = db_step(s, e);
    if (rc <= 0) return rc;
    out->number = sqlite3_column_int64(s, 0);
    const char *sha = (const char *)sqlite3_column_text(s, 1);
    snprintf(out->sha, sizeof out->sha, "%s", sha ? sha : "");
    out->trained = sqlite3_column_int(s, 2) != 0;
    rc = codes_read(s, 3, c->learned, out->codes, e);
    db_reset(s);
    return rc;
}

static int run_on(struct catalog *c, enum writer_statement which, int64_t number, struct err *e) {
    sqlite3_bind_int64(c->statement[which], 1, number);
    return db_run(c->statement[which], e);
}

static void bind_content(sqlite3_stmt *s, const struct document *d, const char *sha) {
    bind_text(s, 2, sha && *sha ? sha : NULL);
    sqlite3_bind_int64(s, 3, clock_unix_ms());
    bind_text(s, 5, d->title);
    bind_text(s, 6, d->attributes);
    bind_text(s, 7, d->text);
}

int document_insert(struct catalog *c, const struct document *d, const char *sha, int64_t *number, struct err *e) {
    sqlite3_stmt *s = c->statement[W_INSERT];
    bind_text(s, 1, d->id);
    bind_content(s, d, sha);
    sqlite3_bind_int64(s, 4, c->next_generation);
    if (db_run(s, e)) return -1;
    *number = sqlite3_last_insert_rowid(c->db);
    return 0;
}

static int document_update(struct catalog *c, int64_t number, const struct document *d, const char *sha, struct err *e) {
    sqlite3_stmt *s = c->statement[W_UPDATE];
    if (run_on(c, W_TEXT_REMOVE, number, e)) return -1;
    sqlite3_bind_int64(s, 1, number);
    bind_content(s, d, sha);
    sqlite3_bind_int64(s, 4, c->next_generation);
    return db_run(s, e) ? -1 : run_on(c, W_TEXT_ADD, number, e);
}

int vector_put(struct catalog *c, int64_t number, const float *vector, int32_t size, struct err *e) {
    if (!vector) return run_on(c, W_VECTOR_DELETE, number, e);
    sqlite3_stmt *s = c->statement[W_VECTOR_PUT];
    size_t bytes = (size_t)size * sizeof *vector;
    sqlite3_bind_int64(s, 1, number);
    sqlite3_bind_int64(s, 2, (int64_t)hash_bytes(vector, bytes, 0));
    bind_bytes(s, 3, vector, bytes);
    return db_run(s, e);
}

int id_put(struct catalog *c, int64_t number, const uint32_t *codes, bool trained, struct err *e) {
    sqlite3_stmt *s = c->statement[W_ID_PUT];
    struct prefix p = prefix_of(codes, c->learned);
    sqlite3_bind_int64(s, 1, number);
    bind_bytes(s, 2, p.bytes, (size_t)p.size);
    sqlite3_bind_int64(s, 3, codes[c->learned]);
    sqlite3_bind_int(s, 4, trained);
    return db_run(s, e);
}

/* ---- suffixes ---- */

static int refuse(struct job *job, struct catalog_put *p, enum catalog_fault kind, const char *detail) {
    p->fault = kind;
    p->detail = detail;
    job->batch->faults++;
    return 1;
}

/* The bucket's counter goes above this suffix. */
static int raise_bucket(struct catalog *c, const struct prefix *prefix, int64_t suffix, struct err *e) {
    sqlite3_stmt *s = c->statement[W_BUCKET_RAISE];
    bind_bytes(s, 1, prefix->bytes, (size_t)prefix->size);
    sqlite3_bind_int64(s, 2, suffix);
    return db_run(s, e);
}

/* The next suffix of the bucket of p->codes. 0 = out is whole, 1 = refused, -1 = error. */
static int give_suffix(struct catalog *c, struct job *job, struct catalog_put *p, uint32_t *out) {
    sqlite3_stmt *s = c->statement[W_BUCKET_NEXT];
    struct prefix prefix = prefix_of(p->codes, c->learned);
    bind_bytes(s, 1, prefix.bytes, (size_t)prefix.size);
    int rc = db_step(s, &job->err);
    if (rc < 0) return -1;
    int64_t suffix = rc ? sqlite3_column_int64(s, 0) : 0;
    db_reset(s);
    if (suffix > UINT32_MAX) return refuse(job, p, FAULT_BAD_CODES, "no suffix is left in the bucket of this document's codes");
    memcpy(out, p->codes, (size_t)c->learned * sizeof *out);
    out[c->learned] = (uint32_t)suffix;
    return raise_bucket(c, &prefix, suffix, &job->err);
}

static const char *id_text(struct arena *a, const uint32_t *codes, int32_t learned) {
    struct str s = {0};
    for (int32_t i = 0; i <= learned; i++) str_printf(&s, "%s%u", i ? "-" : "", codes[i]);
    const char *text = arena_strndup(a, s.data, s.size);
    str_free(&s);
    return text;
}

/* A whole ID that the document brings: nobody else may have it, and its suffix is not given out afterwards. */
static int take_brought(struct catalog *c, struct job *job, struct catalog_put *p, int64_t number) {
    struct arena *a = job->batch->arena;
    struct prefix prefix = prefix_of(p->codes, c->learned);
    sqlite3_stmt *s = c->statement[W_ID_HOLDER];
    bind_bytes(s, 1, prefix.bytes, (size_t)prefix.size);
    sqlite3_bind_int64(s, 2, p->codes[c->learned]);
    int rc = db_step(s, &job->err);
    if (rc < 0) return -1;
    if (rc == 1 && sqlite3_column_int64(s, 1) != number) {
        const char *holder = (const char *)sqlite3_column_text(s, 0), *text = id_text(a, p->codes, c->learned);
        rc = refuse(job, p, FAULT_ID_TAKEN,
                    arena_printf(a, "the semantic ID %s of document %s belongs to document %s", text, p->document->id, holder ? holder : "?"));
        db_reset(s);
        return rc;
    }
    if (rc == 1) db_reset(s);
    return raise_bucket(c, &prefix, p->codes[c->learned], &job->err);
}

/* Where the document will be: its old ID, the one it brings, or a new suffix. */
static int choose_id(struct catalog *c, struct job *job, struct catalog_put *p, const struct stored *old, struct stored *now) {
    size_t learned = (size_t)c->learned * sizeof *p->codes;
    bool brought = p->code_count == c->learned + 1;
    bool same_bucket = old->number && memcmp(old->codes, p->codes, learned) == 0;
    if (same_bucket && (!brought || old->codes[c->learned] == p->codes[c->learned])) {
        memcpy(now->codes, old->codes, sizeof now->codes);
        now->trained = old->trained;
        return 0;
    }
    now->trained = brought && p->trained;
    if (!brought) return give_suffix(c, job, p, now->codes);
    memcpy(now->codes, p->codes, learned + sizeof *p->codes);
    return take_brought(c, job, p, old->number);
}

/* ---- puts and deletes ---- */

static void answer(struct catalog_put *p, enum catalog_status status, const struct stored *at) {
    p->status = status;
    p->number = at->number;
    p->id_trained = at->trained;
    memcpy(p->id_codes, at->codes, sizeof p->id_codes);
}

static int create(struct catalog *c, struct job *job, struct catalog_put *p, const char *sha) {
    struct stored none = {0}, now = {0};
    struct err *e = &job->err;
    int rc = choose_id(c, job, p, &none, &now);
    if (rc) return rc;
    if (document_insert(c, p->document, sha, &now.number, e) || run_on(c, W_TEXT_ADD, now.number, e)) return -1;
    if (id_put(c, now.number, now.codes, now.trained, e)) return -1;
    if (p->vector && vector_put(c, now.number, p->vector, p->vector_size, e)) return -1;
    add_change(c, CHANGE_ADDED, &now);
    c->added++;
    answer(p, CATALOG_CREATED, &now);
    return 0;
}

static int move(struct catalog *c, const struct stored *old, const struct stored *now, struct err *e) {
    if (memcmp(old->codes, now->codes, sizeof now->codes) == 0) {
        add_change(c, CHANGE_CONTENT, now);
        return 0;
    }
    add_change(c, CHANGE_REMOVED, old);
    add_change(c, CHANGE_ADDED, now);
    return id_put(c, now->number, now->codes, now->trained, e);
}

static int update(struct catalog *c, struct job *job, struct catalog_put *p, const char *sha, const struct stored *old) {
    struct stored now = {.number = old->number};
    struct err *e = &job->err;
    int rc = choose_id(c, job, p, old, &now);
    if (rc) return rc;
    if (document_update(c, now.number, p->document, sha, e) || vector_put(c, now.number, p->vector, p->vector_size, e)) return -1;
    if (move(c, old, &now, e)) return -1;
    answer(p, CATALOG_UPDATED, &now);
    return 0;
}

/* Same content, but the document brings another ID than the one it has, or an embedding that leads to another bucket. */
static bool brings_other_id(struct catalog *c, const struct catalog_put *p, const struct stored *old) {
    size_t bytes = (size_t)p->code_count * sizeof *p->codes;
    return p->codes && (p->embedded || p->code_count == c->learned + 1) && memcmp(p->codes, old->codes, bytes) != 0;
}

static int put(struct catalog *c, struct job *job, struct catalog_put *p, const char *sha) {
    struct stored old;
    if (find(c, p->document->id, &old, &job->err)) return -1;
    if (old.number && strcmp(old.sha, sha) == 0 && !brings_other_id(c, p, &old)) {
        answer(p, CATALOG_UNCHANGED, &old);
        return 0;
    }
    if (!p->codes) return refuse(job, p, FAULT_STALE, "the document is not stored with this content: it needs codes");
    return old.number ? update(c, job, p, sha, &old) : create(c, job, p, sha);
}

static int remove_one(struct catalog *c, struct catalog_delete *d, struct err *e) {
    struct stored old;
    if (find(c, d->id, &old, e)) return -1;
    d->found = old.number != 0;
    if (!d->found) return 0;
    if (run_on(c, W_TEXT_REMOVE, old.number, e) || run_on(c, W_VECTOR_DELETE, old.number, e)) return -1;
    if (run_on(c, W_ID_DELETE, old.number, e) || run_on(c, W_DELETE, old.number, e)) return -1;
    add_change(c, CHANGE_REMOVED, &old);
    c->added--;
    return 0;
}

static int refused(struct job *job) {
    bool conflict = false;
    for (int32_t i = 0; i < job->batch->put_count; i++) {
        enum catalog_fault kind = job->batch->puts[i].fault;
        conflict |= kind == FAULT_ID_TAKEN || kind == FAULT_STALE;
    }
    return err_set(&job->err, conflict ? ERR_CONFLICT : ERR_INVALID, "%d of %d documents cannot be stored", job->batch->faults,
                   job->batch->put_count);
}

int batch_apply(struct catalog *c, struct job *job) {
    struct catalog_batch *b = job->batch;
    b->faults = 0;
    for (int32_t i = 0; i < b->put_count; i++) {
        b->puts[i].fault = FAULT_NONE;
        if (put(c, job, &b->puts[i], job->sha[i]) < 0) return -1;
    }
    if (b->faults) return refused(job);
    for (int32_t i = 0; i < b->delete_count; i++) {
        if (remove_one(c, &b->deletes[i], &job->err)) return -1;
    }
    return 0;
}
