/* spill.c: see spill.h. */
#include "spill.h"
#include "file.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Blocks for all of the file, then its pages; closes fd. */
static int map_file(struct spill *s, int fd, const char *path, struct err *e)
{
    int error = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)s->bytes);
    if (!error && ftruncate(fd, (off_t)s->bytes) < 0)
        error = errno;
    void *data = error ? MAP_FAILED : mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!error && data == MAP_FAILED)
        error = errno;
    if (fd >= 0)
        close(fd);
    if (error)
        return err_set(e, err_from_errno(error), "%s: %zu bytes cannot be kept there: %s", path, s->bytes, strerror(error));
    s->data = data;
    s->mapped = 1;
    return 0;
}

int spill_named(struct spill *s, size_t bytes, const char *path, struct err *e)
{
    *s = (struct spill){.bytes = bytes};
    return map_file(s, open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), path, e);
}

int spill_alloc_beyond(struct spill *s, size_t bytes, size_t memory, const char *folder, struct err *e)
{
    const char *usual = getenv("TMPDIR");
    *s = (struct spill){.bytes = bytes};
    if (bytes <= memory) {
        s->data = xcalloc(bytes ? bytes : 1, 1);
        return 0;
    }
    char *path = path_join(folder ? folder : usual && *usual ? usual : "/tmp", "spill-XXXXXX");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    int rc = map_file(s, fd, path, e);
    free(path);
    return rc;
}

int spill_alloc(struct spill *s, size_t bytes, const char *folder, struct err *e)
{
    return spill_alloc_beyond(s, bytes, SPILL_MEMORY, folder, e);
}

int spill_sync(const struct spill *s, struct err *e)
{
    if (!s->mapped || msync(s->data, s->bytes, MS_SYNC) == 0)
        return 0;
    return err_set(e, ERR_IO, "%zu bytes of a mapped file cannot be written: %s", s->bytes, strerror(errno));
}

void spill_free(struct spill *s)
{
    if (s->mapped)
        munmap(s->data, s->bytes);
    else
        free(s->data);
    *s = (struct spill){0};
}
