/* file.c: outputs that are whole or absent, inputs in one piece, folders.
 *
 * An output is written to PATH.tmp.PID.N beside its place: same file system, so that rename is atomic, and a name no other run uses. Order at
 * commit: flush, fsync, rename, fsync of the folder; any failure on the way removes the temporary and is reported, since after a failed fsync
 * the kernel may already have dropped the pages. Whoever holds a struct file_out owns its strings until commit or cancel. */
#include "file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct err *e, const char *path, const char *what)
{
    int error_number = errno;
    return err_set(e, err_from_errno(error_number), "%s: %s: %s", path, what, strerror(error_number));
}

/* For outputs: what cannot be made is not "missing input". */
static int fail_output(struct err *e, const char *path, const char *what)
{
    int error_number = errno;
    enum err_code code = err_from_errno(error_number);
    return err_set(e, code == ERR_NO_INPUT || code == ERR_IO ? ERR_CANT_CREATE : code, "%s: %s: %s", path, what, strerror(error_number));
}

char *path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    return xprintf("%s%s%s", folder, n == 0 || folder[n - 1] == '/' ? "" : "/", name);
}

/* The folder that holds path; caller frees. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    return xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int file_out_open(struct file_out *f, const char *path, struct err *e)
{
    static atomic_uint serial;
    int fd;
    *f = (struct file_out){.path = xstrdup(path)};
    do {
        free(f->temporary);
        f->temporary = xprintf("%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&serial, 1));
        fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd < 0 && (errno == EEXIST || errno == EINTR));
    if (fd >= 0) {
        f->stream = fdopen(fd, "w");
        if (f->stream)
            return 0;
        close(fd);
        unlink(f->temporary);
    }
    fail_output(e, path, "cannot be created");
    free(f->temporary);
    free(f->path);
    *f = (struct file_out){0};
    return -1;
}

void file_out_cancel(struct file_out *f)
{
    if (f->stream)
        fclose(f->stream);
    if (f->temporary)
        unlink(f->temporary);
    free(f->temporary);
    free(f->path);
    *f = (struct file_out){0};
}

static int flush_and_sync(struct file_out *f, struct err *e)
{
    bool failed = ferror(f->stream) != 0;
    errno = failed ? EIO : errno;
    if (fflush(f->stream) != 0 || failed)
        return fail(e, f->path, "cannot be written");
    int rc;
    do
        rc = fsync(fileno(f->stream));
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno != EINVAL && errno != EROFS)
        return fail(e, f->path, "cannot be brought to disk (fsync)");
    FILE *stream = f->stream;
    f->stream = NULL;
    return fclose(stream) == 0 ? 0 : fail(e, f->path, "cannot be closed");
}

int file_out_commit(struct file_out *f, struct err *e)
{
    int rc = flush_and_sync(f, e);
    if (rc == 0 && rename(f->temporary, f->path) < 0)
        rc = fail_output(e, f->path, "cannot be put in place (rename)");
    if (rc == 0) {
        free(f->temporary);
        f->temporary = NULL;
        char *folder = folder_of(f->path);
        rc = file_fsync_folder(folder, e);
        free(folder);
    }
    file_out_cancel(f);
    return rc;
}

int file_write(const char *path, const void *data, size_t size, struct err *e)
{
    struct file_out f;
    if (file_out_open(&f, path, e) < 0)
        return -1;
    errno = EIO;
    if (size && fwrite(data, 1, size, f.stream) != size) {
        fail(e, path, "cannot be written");
        file_out_cancel(&f);
        return -1;
    }
    return file_out_commit(&f, e);
}

int file_fsync_folder(const char *folder, struct err *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(e, folder, "cannot be opened");
    int rc;
    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EINVAL) /* a file system that has nothing to sync here */
        rc = 0;
    if (rc < 0)
        fail(e, folder, "cannot be brought to disk (fsync)");
    close(fd);
    return rc;
}

/* Appends what fd holds to s, reading at most `most` bytes. Returns 0, or -1 with errno set. */
static int read_all(int fd, struct str *s, size_t most)
{
    enum { PIECE = 1 << 16 };
    char piece[PIECE];
    while (s->size < most) {
        size_t want = most - s->size < PIECE ? most - s->size : PIECE;
        ssize_t n = read(fd, piece, want);
        if (n == 0)
            break;
        if (n > 0)
            str_append(s, piece, (size_t)n);
        else if (errno != EINTR)
            return -1;
    }
    return 0;
}

char *file_read(const char *path, size_t max, size_t *size, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(e, path, "cannot be opened"), NULL;
    struct str s = {0};
    str_append(&s, "", 0);
    int rc = read_all(fd, &s, max ? max + 1 : SIZE_MAX);
    if (rc < 0)
        fail(e, path, "cannot be read");
    else if (max && s.size > max)
        rc = err_set(e, ERR_TOO_LARGE, "%s: more than %zu bytes, which is the most that is read of such a file", path, max);
    close(fd);
    if (rc < 0) {
        str_free(&s);
        return NULL;
    }
    if (size)
        *size = s.size;
    return s.data;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int make_folder(const char *path, struct err *e)
{
    struct stat st;
    if (mkdir(path, 0777) == 0)
        return 0;
    if (errno != EEXIST)
        return fail_output(e, path, "the folder cannot be made");
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return err_set(e, ERR_CANT_CREATE, "%s: the folder cannot be made: something else has that name", path);
}

int file_mkdirs(const char *path, struct err *e)
{
    char *part = xstrdup(path);
    int rc = 0;
    for (char *p = part + (part[0] == '/'); *p && rc == 0; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        rc = make_folder(part, e);
        *p = '/';
    }
    if (rc == 0)
        rc = make_folder(part, e);
    free(part);
    return rc;
}

static int remove_at(int parent, const char *name, const char *path, struct err *e);

static int remove_entries(int fd, const char *path, struct err *e)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return fail(e, path, "cannot be listed");
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *below = path_join(path, entry->d_name);
        rc = remove_at(dirfd(d), entry->d_name, below, e);
        free(below);
    }
    closedir(d);
    return rc;
}

/* Never follows a symbolic link: the link itself is removed. */
static int remove_at(int parent, const char *name, const char *path, struct err *e)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return fail(e, path, "cannot be removed");
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(e, path, "cannot be removed");
    if (remove_entries(fd, path, e) < 0)
        return -1;
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : fail(e, path, "cannot be removed");
}

int file_remove_tree(const char *path, struct err *e)
{
    return remove_at(AT_FDCWD, path, path, e);
}

char *file_temporary_folder(const char *stem, struct err *e)
{
    const char *base = getenv("TMPDIR");
    char *folder = xprintf("%s/%s-XXXXXX", base && *base ? base : "/tmp", stem);
    if (mkdtemp(folder) != NULL)
        return folder;
    int number = errno;
    err_set(e, err_from_errno(number), "%s: cannot make a temporary folder: %s", folder, strerror(number));
    free(folder);
    return NULL;
}
