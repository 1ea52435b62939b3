/* err.h: one error, made where the fact is known.
 *
 * Every function of core/ that can meet a bad world (file, input, disk) returns -1 (or NULL) and fills the `struct err *` it was given as
 * its last parameter. The message is whole and ready for a person: it names file or field, value and bound. The code maps to an exit status
 * (sysexits) in server/main.c and to an HTTP status in server/problem.c, and nowhere else. `e` may be NULL: the caller does not care. */
#ifndef SEMINDEX_ERR_H
#define SEMINDEX_ERR_H

#include "../../kernels/check.h"

enum err_code {
    ERR_NONE,
    ERR_USAGE,        /* command line or option: exit 64 */
    ERR_DATA,         /* file content is wrong: exit 65 */
    ERR_NO_INPUT,     /* file is missing or unreadable: exit 66 */
    ERR_UNAVAILABLE,  /* busy, locked, port in use, not ready: exit 69 / 503 */
    ERR_INTERNAL,     /* exit 70 / 500 */
    ERR_OS,           /* exit 71 / 500 */
    ERR_CANT_CREATE,  /* output cannot be written: exit 73 */
    ERR_IO,           /* read or write failed: exit 74 / 500 */
    ERR_NO_PERM,      /* exit 77 */
    ERR_CONFIG,       /* exit 78 */
    ERR_NO_SPACE,     /* disk full: exit 74 / 507 */
    ERR_INVALID,      /* a field of a request: exit 65 / 422 */
    ERR_NOT_FOUND,    /* exit 66 / 404 */
    ERR_CONFLICT,     /* wrong model for this catalogue, not in model: exit 65 / 409 */
    ERR_TOO_LARGE,    /* exit 65 / 413 */
    ERR_DEADLINE,     /* 504 */
    ERR_INTERRUPTED   /* stopped by SIGINT / SIGTERM, progress is saved: exit 75 */
};

struct err {
    enum err_code code;
    char message[1024]; /* no newline at the end */
};

/* Sets *e and returns -1, so that `return err_set(e, ERR_DATA, "%s: line %d: ...", ...)` reads in one line. */
int err_set(struct err *e, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the message that is there; returns -1. */
int err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The code that fits an errno value (ENOENT -> ERR_NO_INPUT, ENOSPC/EDQUOT -> ERR_NO_SPACE, EACCES -> ERR_NO_PERM, else ERR_IO). */
enum err_code err_from_errno(int error_number);

#endif
