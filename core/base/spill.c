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

/* A file without a name, its blocks reserved; -1 with e. */
static int open_file(size_t bytes, const char *folder, struct err *e)
{
    const char *usual = getenv("TMPDIR");
    char *path = path_join(folder ? folder : usual && *usual ? usual : "/tmp", "spill-XXXXXX");
    int fd = mkostemp(path, O_CLOEXEC), error = fd < 0 ? errno : 0;
    if (fd >= 0) {
        (void)unlink(path);
        error = posix_fallocate(fd, 0, (off_t)bytes);
    }
    if (error) {
        err_set(e, err_from_errno(error), "%s: %zu bytes cannot be kept there: %s", path, bytes, strerror(error));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

int spill_alloc_beyond(struct spill *s, size_t bytes, size_t memory, const char *folder, struct err *e)
{
    *s = (struct spill){.bytes = bytes};
    if (bytes <= memory) {
        s->data = xcalloc(bytes ? bytes : 1, 1);
        return 0;
    }
    int fd = open_file(bytes, folder, e);
    if (fd < 0)
        return -1;
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int error = errno;
    close(fd);
    if (data == MAP_FAILED)
        return err_set(e, err_from_errno(error), "%zu bytes of a file cannot be mapped: %s", bytes, strerror(error));
    s->data = data;
    s->mapped = 1;
    return 0;
}

int spill_alloc(struct spill *s, size_t bytes, const char *folder, struct err *e)
{
    return spill_alloc_beyond(s, bytes, SPILL_MEMORY, folder, e);
}

void spill_free(struct spill *s)
{
    if (s->mapped)
        munmap(s->data, s->bytes);
    else
        free(s->data);
    *s = (struct spill){0};
}
