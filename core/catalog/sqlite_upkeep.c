/* sqlite_upkeep.c: backup and restore.
 *
 * Both are a VACUUM INTO, which reads one commit through SQLite (never through a descriptor of our own: closing one would drop the locks that
 * this process holds on the file) and writes a compact file with no log beside it, under a temporary name; fsync and rename make it appear
 * whole. A restore first folds the old catalogue's log into it and lets SQLite remove the log: a rename over a file whose log stays would
 * replay old pages into the new file. Until the rename the old catalogue is whole, after it the new one. */
#include "../base/file.h"
#include "sqlite_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy_into(sqlite3 *db, const char *temporary, struct err *e) {
    sqlite3_stmt *s = NULL;
    if (db_exec(db, "PRAGMA query_only = OFF", e) || db_prepare(db, "VACUUM INTO ?1", &s, e)) return -1;
    bind_text(s, 1, temporary);
    int rc = db_run(s, e);
    sqlite3_finalize(s);
    return rc ? err_prefix(e, "cannot copy to %s", temporary) : 0;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A compact copy of the catalogue at `from` appears at `to`. */
static int copy_catalog(const char *from, const char *to, struct err *e) {
    struct file_out out = {0};
    sqlite3 *db = upkeep_open(from, e);
    int rc = -1;
    if (!db || schema_check(db, e) || file_out_open(&out, to, e)) goto out;
    if (copy_into(db, out.temporary, e)) goto out;
    rc = file_out_commit(&out, e);
out:
    if (rc) file_out_cancel(&out);
    db_close(db);
    return rc;
}

int catalog_backup(const char *path, const char *out, const struct run *run, struct err *e) {
    struct stat st;
    if (same_file(path, out)) return err_set(e, ERR_USAGE, "%s: the backup would replace the catalogue itself", out);
    if (copy_catalog(path, out, e)) return -1;
    run_note(run, "%s: backup of %s, %lld bytes", out, path, stat(out, &st) == 0 ? (long long)st.st_size : 0);
    return 0;
}

static int remove_beside(const char *path, const char *suffix, struct err *e) {
    char *name = xprintf("%s%s", path, suffix);
    int rc = unlink(name) == 0 || errno == ENOENT ? 0 : err_set(e, err_from_errno(errno), "%s: cannot be removed: %s", name, strerror(errno));
    free(name);
    return rc;
}

/* The old catalogue without its log. If it is too damaged to be opened, the log goes too: nothing can be replayed into it any more. */
static int settle_old(const char *path, struct err *e) {
    sqlite3 *db = db_open(path, DB_WRITE, NULL);
    if (db) sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    db_close(db);
    return remove_beside(path, "-wal", e) || remove_beside(path, "-shm", e) || remove_beside(path, "-journal", e) ? -1 : 0;
}

int catalog_restore(const char *backup, const char *path, const struct run *run, struct err *e) {
    int lock = -1, rc = -1;
    if (same_file(backup, path)) return err_set(e, ERR_USAGE, "%s: backup and catalogue are the same file", path);
    if (lock_acquire(path, &lock, e)) return err_prefix(e, "a daemon or another command has the catalogue");
    int kind = schema_peek(path, e);
    if (kind < 0) {
        err_prefix(e, "will not replace a file that is no catalogue (move it away first)");
        goto out;
    }
    if (catalog_verify(backup, NULL, run, e) || (kind == 1 && settle_old(path, e))) goto out;
    if (copy_catalog(backup, path, e)) goto out;
    run_note(run, "%s: restored from %s", path, backup);
    rc = 0;
out:
    lock_release(lock);
    return rc;
}
