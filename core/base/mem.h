/* mem.h: memory that a request or a run owns.
 *
 * An arena hands out memory that is freed all at once; xmalloc and friends end the process when the machine has no memory left (Linux kills
 * first in practice). Whoever must survive a refused allocation (a request of unbounded size) uses arena_try. */
#ifndef SEMINDEX_MEM_H
#define SEMINDEX_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void *xmalloc(size_t bytes);                 /* never NULL; 0 bytes gives a pointer that may be freed */
void *xcalloc(size_t count, size_t size);    /* overflow is checked */
void *xrealloc(void *p, size_t count, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* caller frees */

struct arena {
    struct arena_block *head;
    size_t used;  /* bytes handed out since the last reset */
    size_t limit; /* 0 = none; arena_try returns NULL beyond it */
};
void arena_init(struct arena *a, size_t limit);
void *arena_alloc(struct arena *a, size_t bytes); /* zeroed, 16-byte aligned, ignores the limit */
void *arena_try(struct arena *a, size_t bytes);   /* the same, or NULL beyond the limit */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_reset(struct arena *a); /* keeps one block */
void arena_free(struct arena *a);

/* A growing byte string, always NUL-terminated; {0} is empty. */
struct str {
    char *data;
    size_t size, capacity;
};
void str_append(struct str *s, const void *bytes, size_t n);
void str_puts(struct str *s, const char *text);
void str_printf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void str_clear(struct str *s);
void str_free(struct str *s);

#endif
