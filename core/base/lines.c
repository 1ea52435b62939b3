/* lines.c: a text file line by line, plain or gzip.
 *
 * What the file is follows from its first two bytes, not its name. Gzip goes through inflate directly rather than gzread, so that a cut file
 * is an error and not an early end, several members in a row are read as one text, and reads are repeated after a signal. A line is given out
 * in place, in `text`, which holds what is not yet consumed and grows to little more than LINE_MOST: a gzip bomb of one line ends there. A carriage
 * return before the newline goes with it. */
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 1 << 16, LINE_MOST = 64 << 20 };

struct lines {
    int fd;
    char *path;
    bool gzip, in_member, pending, ended; /* in_member: between a gzip header and its trailer; pending: inflate holds back output */
    z_stream z;
    unsigned char *raw; /* [PIECE] */
    size_t raw_at, raw_size;
    char *text; /* [text_at, text_size) is not yet given out; one byte beyond is room for the NUL */
    size_t text_at, text_size, text_room;
    int64_t number;
};

/* Reads more raw bytes behind those that are left; 1 = some, 0 = end of file, -1 = error. */
static int read_raw(struct lines *l, struct err *e)
{
    memmove(l->raw, l->raw + l->raw_at, l->raw_size - l->raw_at);
    l->raw_size -= l->raw_at;
    l->raw_at = 0;
    ssize_t n;
    do
        n = read(l->fd, l->raw + l->raw_size, PIECE - l->raw_size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(e, err_from_errno(errno), "%s: cannot be read: %s", l->path, strerror(errno));
    l->raw_size += (size_t)n;
    return n > 0;
}

struct lines *lines_open(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, err_from_errno(errno), "%s: cannot be opened: %s", path, strerror(errno)), NULL;
    struct lines *l = xcalloc(1, sizeof *l);
    l->fd = fd;
    l->path = xstrdup(path);
    l->raw = xmalloc(PIECE);
    l->text_room = 2 * PIECE;
    l->text = xmalloc(l->text_room);
    int rc = 1;
    while (rc > 0 && l->raw_size < 2)
        rc = read_raw(l, e);
    if (rc < 0) {
        lines_close(l);
        return NULL;
    }
    if (l->raw_size >= 2 && l->raw[0] == 0x1f && l->raw[1] == 0x8b) {
        if (inflateInit2(&l->z, 15 + 16) != Z_OK)
            die("out of memory: zlib cannot be started");
        l->gzip = true;
    }
    return l;
}

void lines_close(struct lines *l)
{
    if (!l)
        return;
    if (l->gzip)
        inflateEnd(&l->z);
    close(l->fd);
    free(l->text);
    free(l->raw);
    free(l->path);
    free(l);
}

/* Bytes of text that one refill may add now; grows the buffer when it is full. 0 = the line is too long. */
static size_t text_space(struct lines *l)
{
    if (l->text_at > 0) {
        memmove(l->text, l->text + l->text_at, l->text_size - l->text_at);
        l->text_size -= l->text_at;
        l->text_at = 0;
    }
    if (l->text_room - l->text_size - 1 < PIECE && l->text_size <= LINE_MOST) {
        l->text_room *= 2;
        l->text = xrealloc(l->text, l->text_room, 1);
    }
    return l->text_size > LINE_MOST ? 0 : l->text_room - l->text_size - 1;
}

static void copy_plain(struct lines *l, size_t space)
{
    size_t n = l->raw_size - l->raw_at < space ? l->raw_size - l->raw_at : space;
    memcpy(l->text + l->text_size, l->raw + l->raw_at, n);
    l->text_size += n;
    l->raw_at += n;
}

static int inflate_some(struct lines *l, size_t space, struct err *e)
{
    l->z.next_in = l->raw + l->raw_at;
    l->z.avail_in = (uInt)(l->raw_size - l->raw_at);
    l->z.next_out = (unsigned char *)l->text + l->text_size;
    l->z.avail_out = (uInt)space;
    l->in_member = true;
    int rc = inflate(&l->z, Z_NO_FLUSH);
    l->raw_at = l->raw_size - l->z.avail_in;
    l->text_size += space - l->z.avail_out;
    l->pending = l->z.avail_out == 0;
    if (rc == Z_STREAM_END) {
        l->in_member = l->pending = false;
        inflateReset(&l->z);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        return err_set(e, ERR_DATA, "%s: damaged gzip data after line %lld: %s", l->path, (long long)l->number,
                       l->z.msg ? l->z.msg : "it does not decode");
    }
    return 0;
}

/* Adds text behind what is there; sets `ended` at the end of the file. */
static int refill(struct lines *l, struct err *e)
{
    size_t space = text_space(l);
    if (space == 0)
        return err_set(e, ERR_DATA, "%s: line %lld: longer than %d bytes", l->path, (long long)l->number + 1, LINE_MOST);
    if (l->raw_at == l->raw_size && !l->pending) {
        int rc = read_raw(l, e);
        if (rc < 0)
            return -1;
        if (rc == 0 && l->in_member)
            return err_set(e, ERR_DATA, "%s: gzip data ends early, after line %lld", l->path, (long long)l->number);
        l->ended = rc == 0;
    }
    if (l->ended)
        return 0;
    if (l->gzip)
        return inflate_some(l, space, e);
    copy_plain(l, space);
    return 0;
}

static int give_line(struct lines *l, char **line, size_t *size, size_t n, size_t consumed)
{
    *line = l->text + l->text_at;
    if (consumed > n && n > 0 && (*line)[n - 1] == '\r')
        n--;
    (*line)[n] = 0;
    if (size)
        *size = n;
    l->text_at += consumed;
    l->number++;
    return 1;
}

int lines_next(struct lines *l, char **line, size_t *size, struct err *e)
{
    size_t searched = 0;
    for (;;) {
        char *start = l->text + l->text_at;
        size_t have = l->text_size - l->text_at;
        char *newline = have > searched ? memchr(start + searched, '\n', have - searched) : NULL;
        if (newline)
            return give_line(l, line, size, (size_t)(newline - start), (size_t)(newline - start) + 1);
        if (l->ended)
            return have == 0 ? 0 : give_line(l, line, size, have, have);
        searched = have;
        if (refill(l, e) < 0)
            return -1;
    }
}

int64_t lines_number(const struct lines *l)
{
    return l->number;
}
