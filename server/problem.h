/* problem.h: errors as RFC 9457 problem details, and the one place that maps an error code to an HTTP status. */
#ifndef SEMINDEX_PROBLEM_H
#define SEMINDEX_PROBLEM_H

#include "../core/base/err.h"
#include "../core/base/mem.h"
#include <stdbool.h>

struct problem_kind { /* the table behind /problems/{code} */
    const char *code;
    int status;
    const char *title, *meaning;
};
const struct problem_kind *problem_find(const char *code); /* NULL = no such */
const struct problem_kind *problem_at(int index);          /* NULL beyond the end */

/* Wrong fields of one request, collected so that the answer names all of them. Strings live in the arena. */
struct problem_field {
    struct problem_field *next;
    const char *pointer, *code, *detail;
};
struct problems {
    struct arena *arena;
    struct problem_field *first, **last; /* last = where the next one is hung; NULL at first */
    int count, left_out;                 /* at most 1000 are kept, the rest is counted */
};
void problems_init(struct problems *p, struct arena *a);
/* pointer: a JSON pointer that is ready (problem_pointer makes one). */
void problem_add(struct problems *p, const char *pointer, const char *code, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* base + "/" + name, escaped (RFC 6901). */
const char *problem_pointer(struct arena *a, const char *base, const char *name);

/* Status and problem code of an error; status 500 for what should not reach a client. */
int problem_status(enum err_code code);
const char *problem_code(enum err_code code);

/* The body: {"type","title","status","code","detail","request_id","errors":[..]}; fields may be NULL. */
void problem_write(struct str *out, int status, const char *code, const char *detail, const char *request_id,
                   const struct problems *fields);

#endif
