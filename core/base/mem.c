/* mem.c: allocation that does not fail, arenas, growing strings.
 *
 * An arena is a chain of blocks, newest first; only the newest is cut from. Blocks double up to BLOCK_MOST, and a piece that is larger than
 * that gets a block of its own size, so waste stays under half. Memory is zeroed when it is handed out, not when a block is made, as blocks
 * are used again after a reset. A reset keeps the newest block unless it is an outsized one: a server's arenas then stay warm without
 * holding on to one enormous request for ever. */
#include "mem.h"
#include "../../kernels/check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, BLOCK_LEAST = 4096, BLOCK_MOST = 1 << 20 };

void *xmalloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p)
        die("out of memory: %zu bytes were asked for", bytes);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    void *p = calloc(count, size);
    if (!p)
        die("out of memory: %zu x %zu bytes were asked for", count, size);
    return p;
}

void *xrealloc(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        die("out of memory: %zu x %zu bytes were asked for", count, size);
    p = realloc(p, bytes ? bytes : 1);
    if (!p)
        die("out of memory: %zu bytes were asked for", bytes);
    return p;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
    char *copy = xmalloc(n + 1);
    if (n)
        memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

/* Length of the formatted text; leaves args usable. */
static size_t format_size(const char *format, va_list args)
{
    va_list copy;
    va_copy(copy, args);
    int n = vsnprintf(NULL, 0, format, copy);
    va_end(copy);
    CHECK(n >= 0);
    return (size_t)n;
}

char *xprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t n = format_size(format, args);
    char *s = xmalloc(n + 1);
    vsnprintf(s, n + 1, format, args);
    va_end(args);
    return s;
}

struct arena_block {
    struct arena_block *next;
    size_t size, used;
    _Alignas(ALIGN) unsigned char bytes[];
};

void arena_init(struct arena *a, size_t limit)
{
    *a = (struct arena){.limit = limit};
}

static void add_block(struct arena *a, size_t bytes)
{
    size_t size = a->head ? a->head->size * 2 : BLOCK_LEAST;
    if (size > BLOCK_MOST)
        size = BLOCK_MOST;
    if (size < bytes)
        size = bytes;
    if (size > SIZE_MAX - sizeof(struct arena_block))
        die("out of memory: %zu bytes were asked for", size);
    struct arena_block *b = xmalloc(sizeof *b + size);
    b->next = a->head;
    b->size = size;
    b->used = 0;
    a->head = b;
}

/* bytes rounded up to whole ALIGN units, at least one. */
static size_t rounded(size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN)
        die("out of memory: %zu bytes were asked for", bytes);
    return bytes ? (bytes + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    size_t n = rounded(bytes);
    if (!a->head || a->head->size - a->head->used < n)
        add_block(a, n);
    void *p = a->head->bytes + a->head->used;
    a->head->used += n;
    a->used += n;
    return memset(p, 0, bytes);
}

void *arena_try(struct arena *a, size_t bytes)
{
    if (a->limit && (a->used >= a->limit || bytes > a->limit || rounded(bytes) > a->limit - a->used))
        return NULL;
    return arena_alloc(a, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *copy = arena_alloc(a, n + 1);
    if (n)
        memcpy(copy, s, n);
    return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t n = format_size(format, args);
    char *s = arena_alloc(a, n + 1);
    vsnprintf(s, n + 1, format, args);
    va_end(args);
    return s;
}

static void free_blocks(struct arena_block *b)
{
    while (b) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_block *kept = a->head;
    if (kept && kept->size > BLOCK_MOST) {
        free_blocks(kept);
        kept = NULL;
    } else if (kept) {
        free_blocks(kept->next);
        kept->next = NULL;
        kept->used = 0;
    }
    a->head = kept;
    a->used = 0;
}

void arena_free(struct arena *a)
{
    free_blocks(a->head);
    a->head = NULL;
    a->used = 0;
}

/* Room for n more bytes and the NUL. */
static void str_reserve(struct str *s, size_t n)
{
    if (n > SIZE_MAX / 2 - s->size - 1)
        die("out of memory: %zu bytes were asked for", n);
    size_t need = s->size + n + 1;
    if (need <= s->capacity)
        return;
    size_t capacity = s->capacity < 32 ? 64 : s->capacity * 2;
    s->capacity = capacity < need ? need : capacity;
    s->data = xrealloc(s->data, s->capacity, 1);
}

void str_append(struct str *s, const void *bytes, size_t n)
{
    str_reserve(s, n);
    if (n)
        memcpy(s->data + s->size, bytes, n);
    s->size += n;
    s->data[s->size] = 0;
}

void str_puts(struct str *s, const char *text)
{
    str_append(s, text, strlen(text));
}

void str_printf(struct str *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t n = format_size(format, args);
    str_reserve(s, n);
    vsnprintf(s->data + s->size, n + 1, format, args);
    va_end(args);
    s->size += n;
}

void str_clear(struct str *s)
{
    s->size = 0;
    if (s->data)
        s->data[0] = 0;
}

void str_free(struct str *s)
{
    free(s->data);
    *s = (struct str){0};
}
