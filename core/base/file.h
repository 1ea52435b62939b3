/* file.h: files that are whole or absent.
 *
 * Everything durable outside SQLite goes through file_write_*: temporary file in the same folder, write, fsync, rename, fsync of the folder.
 * Readers get whole files or line streams (plain or gzip) with line numbers for messages. Errors name the path. */
#ifndef SEMINDEX_FILE_H
#define SEMINDEX_FILE_H

#include "err.h"
#include "mem.h"
#include <stdbool.h>
#include <stdio.h>

struct file_out { /* an output that appears only at commit */
    FILE *stream;
    char *path, *temporary;
};
int file_out_open(struct file_out *f, const char *path, struct err *e);
int file_out_commit(struct file_out *f, struct err *e); /* fflush, fsync, rename, fsync folder; frees f's strings in any case */
void file_out_cancel(struct file_out *f);               /* removes the temporary; fine after commit or on {0} */
int file_write(const char *path, const void *data, size_t size, struct err *e);
int file_fsync_folder(const char *folder, struct err *e);

/* Whole file in memory, NUL-terminated beyond size; caller frees. max 0 = no bound. NULL with an error. */
char *file_read(const char *path, size_t max, size_t *size, struct err *e);
bool file_exists(const char *path);
int file_mkdirs(const char *path, struct err *e);     /* like mkdir -p */
int file_remove_tree(const char *path, struct err *e); /* like rm -r; absent is fine */
char *path_join(const char *folder, const char *name); /* caller frees */

struct lines; /* a text file, plain or gzip (by content), line by line */
struct lines *lines_open(const char *path, struct err *e);
/* 1 = a line (valid until the next call, no newline, NUL-terminated; *size its bytes), 0 = end, -1 = error. Longest line: 64 MiB. */
int lines_next(struct lines *l, char **line, size_t *size, struct err *e);
int64_t lines_number(const struct lines *l); /* of the last line, from 1 */
void lines_close(struct lines *l);

/* An exclusive lock on FILE.lock held until process end or lock_release; fails with ERR_UNAVAILABLE naming the holder's pid. */
int lock_acquire(const char *path, int *fd, struct err *e);
void lock_release(int fd);

/* Makes a folder of its own under TMPDIR, named STEM-XXXXXX; the caller frees the path and removes the folder (file_remove_tree). NULL with a reason. */
char *file_temporary_folder(const char *stem, struct err *e);

#endif
