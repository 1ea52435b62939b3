/* json_gate.c: the strict pass that cJSON 1.7.15 needs in front of it.
 *
 * cJSON takes "a\u0000b" for "a" (two ids collide), keeps the first of duplicate keys, lets bad UTF-8, 01, raw control characters, a byte
 * order mark and trailing bytes through, turns 1e400 into infinity and needs up to 39 bytes of memory for a byte of input. So one pass over
 * the bytes, without recursion, decides first; what it lets through, cJSON reads the same way as everybody else. Nesting is a stack of at
 * most 32 small frames. Keys of the open objects lie decoded in one buffer, each object's being a slice at its end; when an object closes,
 * its slice is sorted by hash and neighbours are compared, so a million keys cost n log n. Every refusal names the byte offset. */
#include "json_gate.h"
#include "../core/base/hash.h"
#include "../core/base/utf8.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DEPTH = 32, MAX_NUMBER = 1024 };

struct key {
    uint64_t hash;
    size_t begin, size; /* in gate.bytes */
    size_t offset;      /* in the body */
};
struct frame {
    bool object, span; /* span: the value of the current key is being recorded */
    size_t first_key, first_byte;
};
struct gate {
    const char *text;
    size_t at, size;
    const struct json_limits *limits;
    struct json_spans *spans;
    struct frame stack[MAX_DEPTH];
    int32_t depth;
    int64_t values;
    struct key *keys;
    size_t key_count, key_room;
    struct str bytes;
    uint64_t seed; /* of the key hashes: drawn per body, so that nobody can prepare colliding keys */
    struct err *e;
};

static int refuse(struct gate *g, size_t offset, const char *what)
{
    return err_set(g->e, ERR_DATA, "byte %zu: %s", offset, what);
}

static void skip_space(struct gate *g)
{
    while (g->at < g->size && (g->text[g->at] == ' ' || g->text[g->at] == '\t' || g->text[g->at] == '\n' || g->text[g->at] == '\r'))
        g->at++;
}

static int peek(const struct gate *g)
{
    return g->at < g->size ? (unsigned char)g->text[g->at] : -1;
}

static int count_value(struct gate *g)
{
    if (++g->values > g->limits->values)
        return err_set(g->e, ERR_TOO_LARGE, "byte %zu: more than %lld JSON values in one body", g->at, (long long)g->limits->values);
    return 0;
}

static void put_utf8(struct str *s, uint32_t c)
{
    char b[4];
    int n = 0;
    if (c < 0x80) {
        b[n++] = (char)c;
    } else if (c < 0x800) {
        b[n++] = (char)(0xC0 | c >> 6);
        b[n++] = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        b[n++] = (char)(0xE0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 63));
        b[n++] = (char)(0x80 | (c & 63));
    } else {
        b[n++] = (char)(0xF0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 63));
        b[n++] = (char)(0x80 | (c >> 6 & 63));
        b[n++] = (char)(0x80 | (c & 63));
    }
    str_append(s, b, (size_t)n);
}

static int hex4(struct gate *g, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(g), digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (c | 32) - 'a' + 10;
        else
            return refuse(g, g->at, "\\u needs four hexadecimal digits");
        *value = *value << 4 | (uint32_t)digit;
        g->at++;
    }
    return 0;
}

/* After "\u": one code point, of one or two escapes. */
static int read_unicode(struct gate *g, struct str *out)
{
    size_t start = g->at - 2;
    uint32_t c, low;
    if (hex4(g, &c))
        return -1;
    if (c == 0)
        return refuse(g, start, "\\u0000 is not accepted");
    if (c >= 0xDC00 && c <= 0xDFFF)
        return refuse(g, start, "a low surrogate without a high one");
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (g->at + 1 >= g->size || g->text[g->at] != '\\' || g->text[g->at + 1] != 'u')
            return refuse(g, start, "a high surrogate without a low one");
        g->at += 2;
        if (hex4(g, &low))
            return -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return refuse(g, start, "a high surrogate without a low one");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (out)
        put_utf8(out, c);
    return 0;
}

static int read_escape(struct gate *g, struct str *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t start = g->at++;
    int c = peek(g);
    g->at++;
    if (c == 'u')
        return read_unicode(g, out);
    const char *p = c > 0 ? strchr(from, c) : NULL;
    if (!p)
        return refuse(g, start, "no such escape");
    if (out)
        str_append(out, to + (p - from), 1);
    return 0;
}

/* At the opening quote; out (may be NULL) takes the decoded bytes. */
static int read_string(struct gate *g, struct str *out)
{
    size_t start = g->at++;
    uint32_t point;
    for (;;) {
        int c = peek(g);
        if (c < 0)
            return refuse(g, start, "the string has no end");
        if (c == '"') {
            g->at++;
            return 0;
        }
        if (c == '\\') {
            if (read_escape(g, out))
                return -1;
            continue;
        }
        size_t n = c < 0x20 ? 0 : utf8_next(g->text + g->at, g->size - g->at, &point);
        if (n == 0)
            return refuse(g, g->at, c < 0x20 ? "a control character in a string" : "the string is not UTF-8");
        if (out)
            str_append(out, g->text + g->at, n);
        g->at += n;
    }
}

static size_t skip_digits(struct gate *g)
{
    size_t start = g->at;
    while (peek(g) >= '0' && peek(g) <= '9')
        g->at++;
    return g->at - start;
}

static int read_number(struct gate *g)
{
    size_t start = g->at;
    g->at += peek(g) == '-';
    bool zero = peek(g) == '0';
    size_t whole = skip_digits(g);
    if (whole == 0)
        return refuse(g, g->at, "a digit is missing");
    if (zero && whole > 1)
        return refuse(g, start, "a number begins with 0");
    if (peek(g) == '.') {
        g->at++;
        if (skip_digits(g) == 0)
            return refuse(g, g->at, "a digit is missing after the point");
    }
    if (peek(g) == 'e' || peek(g) == 'E') {
        g->at++;
        g->at += peek(g) == '+' || peek(g) == '-';
        if (skip_digits(g) == 0)
            return refuse(g, g->at, "a digit is missing in the exponent");
    }
    if (g->at - start > MAX_NUMBER)
        return refuse(g, start, "the number has more than 1024 characters");
    if (!isfinite(strtod(g->text + start, NULL)))
        return refuse(g, start, "the number is too large for a double");
    return 0;
}

static int read_literal(struct gate *g)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (g->size - g->at >= n && memcmp(g->text + g->at, words[i], n) == 0) {
            g->at += n;
            return 0;
        }
    }
    if (g->at >= g->size)
        return refuse(g, g->at, "the text ends where a value should be");
    return refuse(g, g->at, "no JSON value begins here");
}

static int push(struct gate *g, bool object)
{
    int32_t bound = g->limits->depth < MAX_DEPTH ? g->limits->depth : MAX_DEPTH;
    if (g->depth >= bound)
        return err_set(g->e, ERR_DATA, "byte %zu: nested more than %d deep", g->at, bound);
    g->stack[g->depth++] = (struct frame){.object = object, .first_key = g->key_count, .first_byte = g->bytes.size};
    g->at++;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Refuses an object whose decoded keys are not distinct. Equal hashes of different keys may stand between equal ones: compare the run. */
static int check_keys(struct gate *g, const struct frame *f)
{
    size_t n = g->key_count - f->first_key;
    if (n < 2)
        return 0;
    struct key *k = g->keys + f->first_key;
    qsort(k, n, sizeof *k, compare_keys);
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && k[j - 1].hash == k[i].hash; j--)
            if (k[j - 1].size == k[i].size && memcmp(g->bytes.data + k[j - 1].begin, g->bytes.data + k[i].begin, k[i].size) == 0)
                return refuse(g, k[i].offset, "the key is there twice in its object");
    return 0;
}

static int pop(struct gate *g)
{
    struct frame *f = &g->stack[g->depth - 1];
    if (f->object && check_keys(g, f))
        return -1;
    g->key_count = f->first_key;
    g->bytes.size = f->first_byte;
    g->depth--;
    g->at++;
    return 0;
}

static void span_begin(struct gate *g, const struct key *k)
{
    struct frame *f = &g->stack[g->depth - 1];
    const char *want = g->limits->span_key;
    f->span = g->spans && want && g->depth == g->limits->span_depth && k->size == strlen(want) &&
              memcmp(g->bytes.data + k->begin, want, k->size) == 0;
    if (!f->span)
        return;
    if (g->spans->count == g->spans->capacity) {
        g->spans->capacity = g->spans->capacity ? g->spans->capacity * 2 : 16;
        g->spans->at = xrealloc(g->spans->at, (size_t)g->spans->capacity, sizeof *g->spans->at);
    }
    g->spans->at[g->spans->count++] = (struct json_span){g->at, g->at};
}

static void span_end(struct gate *g)
{
    if (g->depth && g->stack[g->depth - 1].span) {
        g->spans->at[g->spans->count - 1].end = g->at;
        g->stack[g->depth - 1].span = false;
    }
}

/* A key, its colon, and the space up to the value. */
static int read_key(struct gate *g)
{
    if (peek(g) != '"')
        return refuse(g, g->at, "a key in double quotes is missing");
    if (g->key_count == g->key_room) {
        g->key_room = g->key_room ? g->key_room * 2 : 32;
        g->keys = xrealloc(g->keys, g->key_room, sizeof *g->keys);
    }
    struct key *k = &g->keys[g->key_count];
    *k = (struct key){.begin = g->bytes.size, .offset = g->at};
    if (read_string(g, &g->bytes))
        return -1;
    k->size = g->bytes.size - k->begin;
    k->hash = hash_bytes(g->bytes.data + k->begin, k->size, g->seed);
    g->key_count++;
    skip_space(g);
    if (peek(g) != ':')
        return refuse(g, g->at, "a colon is missing after the key");
    g->at++;
    skip_space(g);
    span_begin(g, k);
    return 0;
}

/* One value; an array or object is only opened: *opened tells. */
static int read_value(struct gate *g, bool *opened)
{
    int c = peek(g);
    *opened = false;
    if (count_value(g))
        return -1;
    if (c == '"')
        return read_string(g, NULL);
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(g);
    if (c != '{' && c != '[')
        return read_literal(g);
    if (push(g, c == '{'))
        return -1;
    skip_space(g);
    *opened = peek(g) != (c == '{' ? '}' : ']');
    return *opened ? 0 : pop(g);
}

/* After a complete value: the comma, or the ends of containers. *more = another element follows. */
static int read_after(struct gate *g, bool *more)
{
    *more = false;
    span_end(g);
    skip_space(g);
    while (g->depth) {
        bool object = g->stack[g->depth - 1].object;
        int c = peek(g);
        if (c == ',') {
            g->at++;
            *more = true;
            skip_space(g);
            return 0;
        }
        if (c != (object ? '}' : ']'))
            return refuse(g, g->at, object ? "a comma or } is missing" : "a comma or ] is missing");
        if (pop(g))
            return -1;
        span_end(g);
        skip_space(g);
    }
    return 0;
}

static int read_document(struct gate *g)
{
    bool more = true;
    skip_space(g);
    if (g->at >= g->size)
        return refuse(g, g->at, "the body is empty");
    while (more) {
        bool opened = false;
        if (g->depth && g->stack[g->depth - 1].object && read_key(g))
            return -1;
        if (read_value(g, &opened))
            return -1;
        if (!opened && read_after(g, &more))
            return -1;
    }
    if (g->at < g->size)
        return refuse(g, g->at, "bytes after the JSON value");
    return 0;
}

int json_gate(const char *text, size_t size, const struct json_limits *limits, struct json_spans *spans, struct err *e)
{
    struct gate g = {.text = text, .size = size, .limits = limits, .spans = spans, .e = e};
    str_puts(&g.bytes, "keys"); /* never empty: slices of it are real pointers */
    CHECK(getentropy(&g.seed, sizeof g.seed) == 0);
    int rc = read_document(&g);
    free(g.keys);
    str_free(&g.bytes);
    return rc;
}

void json_spans_free(struct json_spans *s)
{
    free(s->at);
    *s = (struct json_spans){0};
}

void json_compact(const char *text, struct json_span span, struct str *out)
{
    bool inside = false;
    size_t begin = span.begin;
    for (size_t i = span.begin; i < span.end; i++) {
        char c = text[i];
        if (inside) {
            if (c == '\\')
                i++;
            else if (c == '"')
                inside = false;
        } else if (c == '"') {
            inside = true;
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            str_append(out, text + begin, i - begin);
            begin = i + 1;
        }
    }
    str_append(out, text + begin, span.end - begin);
}
