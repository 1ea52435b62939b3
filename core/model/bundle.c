/* bundle.c: opening, creating and changing a model bundle.
 *
 * Invariant: at every moment the folder's bundle.json, if there is one, names files that are whole and stay as they are. A change therefore
 * writes every file under a name nobody uses yet (NAME, or NAME.N), then replaces the manifest, and only then removes what the old one named.
 * A kill in between leaves files that nobody names; the next commit removes them. Changes hold the folder's lock from begin to commit and
 * start from the manifest that is on disk then, so two runs that add different parts do not undo each other.
 * The struct owns all paths it gives out; they stay valid until the next begin, commit or close. */
#include "bundle.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "bundle_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANIFEST_MOST = 1 << 20, OPEN_TRIES = 3 };

struct bundle {
    char *folder, *manifest_path;
    struct manifest now;  /* committed */
    struct manifest next; /* while changing */
    bool fresh[BUNDLE_FILES]; /* next.entry was given a new file in this change */
    bool changing, renew; /* renew: bundle_create on an old bundle, whose files are not taken over */
    bool made_folder;
    int lock;
};

static struct bundle *make(const char *folder)
{
    struct bundle *b = xcalloc(1, sizeof *b);
    b->folder = xstrdup(folder);
    b->manifest_path = path_join(folder, "bundle.json");
    b->lock = -1;
    return b;
}

static int load_manifest(struct manifest *m, const struct bundle *b, struct err *e)
{
    char *json = file_read(b->manifest_path, MANIFEST_MOST, NULL, e);
    int rc = json ? manifest_parse(m, json, b->folder, b->manifest_path, e) : -1;
    free(json);
    return rc;
}

static int verify_entry(const struct bundle_entry *f, struct err *e)
{
    char sha256[65];
    int64_t bytes;
    struct stat st;
    if (stat(f->path, &st) < 0)
        return err_set(e, errno == ENOENT ? ERR_DATA : err_from_errno(errno), "%s: named by the bundle's manifest: %s", f->path, strerror(errno));
    if (st.st_size != f->bytes)
        return err_set(e, ERR_DATA, "%s: damaged: %lld bytes, expected %lld", f->path, (long long)st.st_size, (long long)f->bytes);
    if (sha256_file(f->path, sha256, &bytes, e) < 0)
        return -1;
    if (bytes != f->bytes || strcmp(sha256, f->sha256) != 0)
        return err_set(e, ERR_DATA, "%s: damaged: SHA-256 is %s, expected %s", f->path, sha256, f->sha256);
    return 0;
}

static int verify(const struct manifest *m, struct err *e)
{
    for (int i = 0; i < BUNDLE_FILES; i++)
        if (m->entry[i].file && verify_entry(&m->entry[i], e) < 0)
            return -1;
    return 0;
}

/* Whether another process has committed since m was read. */
static bool manifest_moved(const struct bundle *b)
{
    struct manifest m;
    if (load_manifest(&m, b, NULL) < 0)
        return false;
    char was[65], is[65];
    manifest_digest(&b->now, NULL, 0, was);
    manifest_digest(&m, NULL, 0, is);
    manifest_free(&m);
    return strcmp(was, is) != 0;
}

static int load_and_verify(struct bundle *b, struct err *e)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        manifest_free(&b->now);
        if (load_manifest(&b->now, b, e) < 0)
            return -1;
        if (verify(&b->now, e) == 0)
            return 0;
        if (!manifest_moved(b))
            return -1;
    }
    return -1;
}

struct bundle *bundle_open(const char *folder, struct err *e)
{
    struct bundle *b = make(folder);
    struct stat st;
    if (stat(folder, &st) < 0)
        err_set(e, err_from_errno(errno), "%s: the model bundle cannot be opened: %s", folder, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        err_set(e, ERR_NO_INPUT, "%s: not a folder: a model bundle is one", folder);
    else if (!file_exists(b->manifest_path))
        err_set(e, ERR_NO_INPUT, "%s: not a model bundle: it has no bundle.json", folder);
    else if (load_and_verify(b, e) == 0)
        return b;
    bundle_close(b);
    return NULL;
}

/* 0 when every entry of the folder is ours. */
static int check_folder(const char *folder, struct err *e)
{
    DIR *d = opendir(folder);
    if (!d)
        return err_set(e, err_from_errno(errno), "%s: cannot be listed: %s", folder, strerror(errno));
    int rc = 0, index;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(d))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !bundle_owns(name, &index))
            rc = err_set(e, ERR_CANT_CREATE, "%s: neither empty nor a model bundle: it holds \"%s\"", folder, name);
    }
    closedir(d);
    return rc;
}

struct bundle *bundle_create(const char *folder, bool replace, struct err *e)
{
    struct bundle *b = make(folder);
    struct stat st;
    b->renew = true;
    int rc = 0;
    if (stat(folder, &st) < 0) {
        rc = file_mkdirs(folder, e);
        b->made_folder = rc == 0;
    } else if (!S_ISDIR(st.st_mode)) {
        rc = err_set(e, ERR_CANT_CREATE, "%s: is not a folder", folder);
    } else if (!file_exists(b->manifest_path)) {
        rc = check_folder(folder, e);
    } else if (!replace) {
        rc = err_set(e, ERR_CANT_CREATE, "%s: there is a model bundle already, and replacing it was not asked for", folder);
    }
    if (rc == 0)
        return b;
    bundle_close(b);
    return NULL;
}

void bundle_close(struct bundle *b)
{
    if (!b)
        return;
    bundle_abandon(b);
    if (b->made_folder && rmdir(b->folder) < 0 && errno != ENOTEMPTY && errno != ENOENT)
        b->made_folder = false; /* it stays: nothing hangs on it */
    manifest_free(&b->now);
    free(b->manifest_path);
    free(b->folder);
    free(b);
}

const char *bundle_folder(const struct bundle *b)
{
    return b->folder;
}

const char *bundle_file(const struct bundle *b, const char *name)
{
    int i = bundle_name_index(name);
    CHECK(i >= 0);
    return b->now.entry[i].path;
}

const char *bundle_sha256(const struct bundle *b, const char *name)
{
    int i = bundle_name_index(name);
    CHECK(i >= 0);
    return b->now.entry[i].file ? b->now.entry[i].sha256 : NULL;
}

int bundle_begin(struct bundle *b, struct err *e)
{
    CHECK(!b->changing);
    char *name = path_join(b->folder, "bundle");
    int rc = lock_acquire(name, &b->lock, e);
    free(name);
    if (rc < 0)
        return -1;
    if (!b->renew) {
        struct manifest m;
        if (load_manifest(&m, b, e) < 0) {
            lock_release(b->lock);
            b->lock = -1;
            return -1;
        }
        manifest_free(&b->now);
        b->now = m;
    }
    manifest_copy(&b->next, &b->now);
    memset(b->fresh, 0, sizeof b->fresh);
    b->changing = true;
    return 0;
}

/* A name that no file of the folder has: the logical one, or with the smallest number that is free. Caller frees. */
static char *free_name(const struct bundle *b, const char *name)
{
    char *file = xstrdup(name);
    for (int n = 1;; n++) {
        char *path = path_join(b->folder, file);
        bool taken = file_exists(path);
        free(path);
        if (!taken)
            return file;
        free(file);
        file = xprintf("%s.%d", name, n);
    }
}

char *bundle_path(struct bundle *b, const char *name)
{
    int i = bundle_name_index(name);
    CHECK(b->changing && i >= 0);
    if (!b->fresh[i]) {
        char *file = free_name(b, name);
        manifest_set(&b->next, i, b->folder, file);
        b->fresh[i] = true;
        free(file);
    }
    return xstrdup(b->next.entry[i].path);
}

int bundle_put(struct bundle *b, const char *name, const void *data, size_t size, struct err *e)
{
    char *path = bundle_path(b, name);
    int rc = file_write(path, data, size, e);
    free(path);
    return rc;
}

static void remove_fresh(struct bundle *b, int index)
{
    if (b->fresh[index])
        unlink(b->next.entry[index].path);
    b->fresh[index] = false;
}

int bundle_drop(struct bundle *b, const char *name)
{
    int i = bundle_name_index(name);
    CHECK(b->changing && i >= 0);
    remove_fresh(b, i);
    manifest_clear(&b->next, i);
    return 0;
}

static int sync_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = fd;
    if (fd >= 0) {
        while ((rc = fsync(fd)) < 0 && errno == EINTR)
            ;
        close(fd);
    }
    return rc < 0 ? err_set(e, err_from_errno(errno), "%s: cannot be brought to disk: %s", path, strerror(errno)) : 0;
}

/* Facts of the files of this change, for the manifest. */
static int measure_fresh(struct bundle *b, struct err *e)
{
    for (int i = 0; i < BUNDLE_FILES; i++) {
        struct bundle_entry *f = &b->next.entry[i];
        if (b->fresh[i] && (sync_file(f->path, e) < 0 || sha256_file(f->path, f->sha256, &f->bytes, e) < 0))
            return -1;
    }
    return 0;
}

/* Removes what is ours and named by nobody. Failing to is no error: the bundle is whole, and the next commit tries again. */
static void sweep(const struct bundle *b)
{
    DIR *d = opendir(b->folder);
    struct dirent *entry;
    int index;
    while (d && (entry = readdir(d)))
        if (bundle_owns(entry->d_name, &index) && index >= 0 &&
            (!b->now.entry[index].file || strcmp(b->now.entry[index].file, entry->d_name) != 0))
            unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
}

static void end_change(struct bundle *b)
{
    manifest_free(&b->next);
    lock_release(b->lock);
    b->lock = -1;
    b->changing = false;
}

int bundle_commit(struct bundle *b, struct err *e)
{
    CHECK(b->changing);
    int rc = measure_fresh(b, e);
    if (rc == 0) {
        char *json = manifest_print(&b->next);
        rc = file_write(b->manifest_path, json, strlen(json), e);
        free(json);
    }
    if (rc < 0) {
        bundle_abandon(b);
        return -1;
    }
    manifest_copy(&b->now, &b->next);
    b->renew = b->made_folder = false;
    sweep(b);
    end_change(b);
    return 0;
}

void bundle_abandon(struct bundle *b)
{
    if (!b->changing)
        return;
    for (int i = 0; i < BUNDLE_FILES; i++)
        remove_fresh(b, i);
    if (b->made_folder) {
        char *lock = path_join(b->folder, "bundle.lock");
        unlink(lock);
        free(lock);
    }
    end_change(b);
}

void bundle_id_digest(const struct bundle *b, char hex[65])
{
    int model = bundle_name_index("indexer.safetensors");
    if (!b->now.entry[model].file)
        model = bundle_name_index("quantiser.safetensors");
    if (!b->now.entry[model].file)
        model = bundle_name_index("search.safetensors");
    const int which[] = {bundle_name_index("tokenizer.model"), model, bundle_name_index("ids.tsv")};
    manifest_digest(&b->now, which, 3, hex);
}

void bundle_digest(const struct bundle *b, char hex[65])
{
    manifest_digest(&b->now, NULL, 0, hex);
}
