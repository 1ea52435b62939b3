/* lock.c: one process at a time: an flock on PATH.lock.
 *
 * The kernel drops the lock with the process, however it ends, so a stale file never blocks anybody; the file itself usually stays. A holder may
 * remove it: whoever opened it before and locks it afterwards finds another file, or none, under its name, and tries again, so two processes
 * never hold locks on two files of one name. The holder writes its pid into the file, only for the message. */
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static long holder_pid(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? atol(text) : 0;
}

static int refuse(const char *name, int fd, int error_number, struct err *e)
{
    if (error_number != EWOULDBLOCK)
        return err_set(e, err_from_errno(error_number), "%s: cannot be locked: %s", name, strerror(error_number));
    long pid = holder_pid(fd);
    if (pid > 0)
        return err_set(e, ERR_UNAVAILABLE, "%s: in use by process %ld", name, pid);
    return err_set(e, ERR_UNAVAILABLE, "%s: in use by another process", name);
}

/* Is the open file still the one of this name? */
static bool is_current(const char *name, int fd)
{
    struct stat mine, there;
    return fstat(fd, &mine) == 0 && stat(name, &there) == 0 && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static int lock_open(const char *name, int *fd, struct err *e)
{
    int rc;
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0)
        return err_set(e, errno == ENOENT ? ERR_CANT_CREATE : err_from_errno(errno), "%s: cannot be created: %s", name, strerror(errno));
    while ((rc = flock(*fd, LOCK_EX | LOCK_NB)) < 0 && errno == EINTR)
        ;
    if (rc == 0)
        return 0;
    refuse(name, *fd, errno, e);
    close(*fd);
    *fd = -1;
    return -1;
}

int lock_acquire(const char *path, int *fd, struct err *e)
{
    char *name = xprintf("%s.lock", path), text[32];
    int rc, n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    while ((rc = lock_open(name, fd, e)) == 0 && !is_current(name, *fd))
        close(*fd);
    if (rc == 0 && ftruncate(*fd, 0) == 0 && pwrite(*fd, text, (size_t)n, 0) != n)
        rc = 0; /* the pid is for people; the lock holds without it */
    free(name);
    return rc;
}

void lock_release(int fd)
{
    if (fd >= 0)
        close(fd);
}
