/* catalog.h: the store: documents, their semantic IDs, their words, in one file that is always whole.
 *
 * One writer thread owns the only connection that writes (WAL, synchronous=FULL) and it alone checkpoints; batches that arrive while a commit
 * runs share the next one (group commit), each all or nothing by itself. Readers are read-only and see one committed state. Suffixes are
 * given out inside the writer's transaction and never reused, so a commit can never make two documents share an ID. What SQLite is stays
 * behind this header: sqlite3.h is included by core/catalog/sqlite*.c only.
 *
 * Codes: an ID is c^1..c^L and a suffix; `codes` arrays hold L + 1 values, suffix last, `learned` = L (1..15). A document's `number` is its
 * row: it is kept by updates and never used again after a deletion. Times are unix milliseconds. */
#ifndef SEMINDEX_CATALOG_H
#define SEMINDEX_CATALOG_H

#include "../base/err.h"
#include "../base/mem.h"
#include "../base/run.h"
#include "../text/document.h" /* struct document {id, title, text, attributes} */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CATALOG_CODES_MAX = 16 }; /* L + 1 */

struct catalog;        /* the open store; any thread may use it */
struct catalog_reader; /* a read-only connection; one thread at a time */

/* ---- what a commit changed, for the trie ---- */
enum catalog_change_kind {
    CHANGE_ADDED,   /* the ID leads to number from now on */
    CHANGE_REMOVED, /* the ID leads nowhere from now on */
    CHANGE_CONTENT  /* same number, same ID, other text or vector */
};
struct catalog_change {
    enum catalog_change_kind kind;
    bool trained; /* the suffix has a trained row */
    int64_t number;
    uint32_t codes[CATALOG_CODES_MAX]; /* L + 1 */
};
struct catalog_commit { /* of one group commit; an update that moved is a removal, then an addition */
    int64_t generation; /* after it */
    int64_t documents;
    const struct catalog_change *changes; /* in the order they happened; valid during the call */
    int64_t count;
};

/* ---- open ---- */
struct catalog_options {
    const char *path;         /* made when absent, with its folder's lock file PATH.lock */
    const char *model_digest; /* 64 hex: bundle_id_digest; remembered when made, compared ever after */
    int32_t learned;          /* L, 1..15; remembered and compared too */
    /* Called on the writer thread after each group commit that changed something, before its callers are released: what is published here is
     * read by every later query of those callers. May be NULL. Must not call catalog_write. */
    void (*on_commit)(void *state, const struct catalog_commit *commit);
    void *state;
};
/* Takes the lock, migrates, starts the writer. Errors: ERR_UNAVAILABLE (another process has it: its pid), ERR_DATA (no catalogue, made by a
 * newer version, damaged: the file stays as it is), ERR_CONFLICT (made by another model: both digests), ERR_NO_PERM (read-only file or
 * folder), ERR_NO_SPACE. */
struct catalog *catalog_open(const struct catalog_options *o, struct err *e);
void catalog_close(struct catalog *c); /* waits for queued writes; readers must have been given back; NULL is fine */

/* ERR_NONE (returns 0) when the store can be written; -1 with the reason once the writer has stopped after an I/O error. Cheap. */
int catalog_health(struct catalog *c, struct err *e);
int64_t catalog_generation(struct catalog *c); /* of the last commit */
int64_t catalog_documents(struct catalog *c);  /* number of documents after the last commit */

/* ---- first fill ---- */
struct catalog_entry { /* one document to fill in, with its whole ID */
    struct document document; /* only id is needed; text and title NULL = imported without content */
    const uint32_t *codes;    /* [L + 1] */
    bool trained;
    const float *vector;      /* [vector_size] or NULL */
    int32_t vector_size;
};
struct catalog_source {
    int64_t total; /* for progress; 0 = unknown */
    int (*next)(void *state, struct catalog_entry *out, struct err *e); /* 1 = one more (valid until the next call), 0 = end, -1 = error */
    void *state;
    const char *const *popular_ids; /* items of the training histories, most frequent first; may name documents that are absent */
    const int64_t *popular_counts;
    int64_t popular_count;
};
/* False until catalog_fill has ended: writes fail with ERR_UNAVAILABLE until then. */
bool catalog_filled(struct catalog *c);
/* Stores every entry of the source (same order each time it is tried), then builds the text index and marks the catalogue as filled. NULL = an
 * empty one. A kill or a stop (ERR_INTERRUPTED) is resumed by the next call: entries already stored are skipped. Fine when filled: returns 0.
 * on_commit is not called: build the trie from catalog_each_id afterwards. One generation for the whole fill. */
int catalog_fill(struct catalog *c, const struct catalog_source *source, const struct run *run, struct err *e);

/* ---- write ---- */
enum catalog_status { CATALOG_CREATED, CATALOG_UPDATED, CATALOG_UNCHANGED };
enum catalog_fault {
    FAULT_NONE,
    FAULT_DUPLICATE_ID, /* the same id earlier in this batch (`other`) */
    FAULT_ID_TAKEN,     /* the brought ID belongs to another document */
    FAULT_BAD_CODES,    /* wrong number of codes for this catalogue */
    FAULT_STALE         /* codes NULL, but the content is not (or no longer) the stored one: encode and try again */
};
struct catalog_put {
    const struct document *document;
    const uint32_t *codes; /* [code_count]; NULL = the caller saw that the content is stored already (catalog_same) */
    int32_t code_count;    /* L: a suffix is given out; L + 1: a whole ID that the document brings */
    bool embedded;         /* the codes are those of an embedding that the document brings: other codes move it, though its content be the same */
    bool trained;          /* with a whole ID: its suffix has a trained row */
    const float *vector;   /* [vector_size] f32, what the indexer saw in the document; may be NULL */
    int32_t vector_size;
    /* results */
    enum catalog_status status;
    int64_t number;
    uint32_t id_codes[CATALOG_CODES_MAX]; /* the document's ID, L + 1 */
    bool id_trained;
    enum catalog_fault fault; /* of a batch that was refused */
    int32_t other;            /* FAULT_DUPLICATE_ID: index of the first */
    const char *detail;       /* of the fault, for a person; in the batch's arena */
};
struct catalog_delete {
    const char *id;
    bool found; /* result */
};
struct catalog_batch {
    struct catalog_put *puts;
    int32_t put_count;
    struct catalog_delete *deletes; /* done after the puts */
    int32_t delete_count;
    int64_t deadline_ms;   /* clock_ms(); checked when the writer takes the batch; 0 = none */
    struct arena *arena;   /* for details; required when there are puts */
    int32_t faults;        /* result: puts with a fault; > 0: nothing was stored */
    int64_t generation;    /* result: of the commit that holds the batch, or the present one when nothing changed */
};
/* Stores the batch durably (all of it or nothing), after on_commit. Unchanged content keeps everything; changed content with the same
 * learned codes keeps suffix and trained flag; other codes get a new suffix. Blocks. Errors: ERR_INVALID / ERR_CONFLICT with puts[].fault set
 * (conflict when a fault is FAULT_ID_TAKEN or FAULT_STALE), ERR_NO_SPACE (nothing stored, later writes work once there is room; puts leave a reserve
 * of 1 to 9 MiB on the disk, so that deletions work on a full one), ERR_DEADLINE,
 * ERR_UNAVAILABLE (not filled, closing), ERR_IO (the writer has stopped: see catalog_health). */
int catalog_write(struct catalog *c, struct catalog_batch *batch, struct err *e);

/* ---- read ---- */
/* A reader from the catalogue's pool (a new connection when none is free); give it back when done. Any thread. */
struct catalog_reader *catalog_reader_take(struct catalog *c, struct err *e);
void catalog_reader_give(struct catalog_reader *r); /* ends an open snapshot; NULL is fine */
/* Between begin and end every read sees the same commit; without them each call sees the latest. */
int catalog_begin(struct catalog_reader *r, struct err *e);
void catalog_end(struct catalog_reader *r);

struct catalog_row {
    int64_t number; /* 0 = no such document */
    struct document document; /* title, text, attributes NULL when not stored; strings in the arena of the call */
    uint32_t codes[CATALOG_CODES_MAX];
    bool trained;
    bool has_content; /* false: imported with an ID only */
    int64_t created_ms, updated_ms;
    int64_t generation; /* of the last change of this document */
};
/* By id: -1 with ERR_NOT_FOUND. */
int catalog_get(struct catalog_reader *r, const char *id, struct arena *a, struct catalog_row *out, struct err *e);
/* rows[i] for numbers[i]; number 0 where there is none (deleted since the trie was built). */
int catalog_get_numbers(struct catalog_reader *r, const int64_t *numbers, int32_t n, struct arena *a, struct catalog_row *rows, struct err *e);
/* The same without title, text and attributes, by id: for histories. */
int catalog_find(struct catalog_reader *r, const char *const *ids, int32_t n, struct arena *a, struct catalog_row *rows, struct err *e);
/* same[i] = document i is stored with exactly this content, so it need not be encoded again. */
int catalog_same(struct catalog_reader *r, const struct document *const *documents, int32_t n, bool *same, struct err *e);

/* Every ID, by rising number. fn returns 0 to go on, -1 to stop (its error is returned). */
struct catalog_id {
    int64_t number;
    bool trained;
    uint32_t codes[CATALOG_CODES_MAX];
};
int catalog_each_id(struct catalog_reader *r, int (*fn)(void *state, const struct catalog_id *id, struct err *e), void *state, struct err *e);
/* Every document with its content, by rising number; row and strings are valid during the call of fn. */
int catalog_each(struct catalog_reader *r, int (*fn)(void *state, const struct catalog_row *row, struct err *e), void *state, struct err *e);

/* out[i * size ..] = the vector of numbers[i] with have[i] = true; have false (and zeros) where none of this size is stored. */
int catalog_vectors(struct catalog_reader *r, const int64_t *numbers, int32_t n, int32_t size, float *out, bool *have, struct err *e);
/* Up to `limit` numbers, newest first / most frequent in the training histories first; *n = how many. */
int catalog_newest(struct catalog_reader *r, int32_t limit, int64_t *numbers, int32_t *n, struct err *e);
int catalog_popular(struct catalog_reader *r, int32_t limit, int64_t *numbers, int32_t *n, struct err *e);

struct catalog_counts {
    int64_t documents, generation, with_content, with_vector, trained;
    char model_digest[65];
    int32_t learned, version; /* of the schema */
};
int catalog_counts(struct catalog_reader *r, struct catalog_counts *out, struct err *e);

/* BM25 (k1 1.2, b 0.75, English stemming) over title, text and the strings of the attributes. The query's words are joined by OR, its
 * stopwords left out (unless there is nothing else), repeated words count again; at most 256 different words and 512 in all are read.
 * Hits in `hits` (room for limit), best first; ties by id in descending byte order. Any bytes are safe as query. *n may be 0. */
struct catalog_hit {
    int64_t number;
    double score; /* BM25, higher is better */
};
int catalog_search(struct catalog_reader *r, const char *query, size_t size, int32_t limit, struct catalog_hit *hits, int32_t *n, struct err *e);

/* ---- upkeep: on a path; verify and backup also while a daemon serves it ---- */
/* Structure, checksums of the contents, text index against the contents, IDs unique and well-formed, suffix counters above every suffix. One
 * run_note line per finding and one summary; -1 with ERR_DATA when something is wrong. model_digest may be NULL. */
int catalog_verify(const char *path, const char *model_digest, const struct run *run, struct err *e);
/* A copy as of one commit, whole or absent: temporary file, fsync, rename. Refuses to write over the catalogue itself. */
int catalog_backup(const char *path, const char *out, const struct run *run, struct err *e);
/* Verifies the backup, takes the catalogue's lock (ERR_UNAVAILABLE while a daemon serves it), and replaces it in one rename. */
int catalog_restore(const char *backup, const char *path, const struct run *run, struct err *e);

#endif
