/* python_literal.c: a recursive-descent reader of Python's literals.
 *
 * Strings: both quotes, their triple forms, prefixes u, b, r, and neighbours that join ('a' 'b'). An escape that Python does not know keeps
 * its backslash, as there. \xHH needs judgement: Python 2 printed the bytes of UTF-8 text that way, Python 3 prints code points; so the
 * bytes of a string without `u` are taken as they are when they make up UTF-8, and as code points U+00HH otherwise. Surrogate halves
 * (\ud83d\ude00) join; one alone becomes U+FFFD, as does NUL. Recursion is bounded, so a hostile line costs an error and no stack. */
#include "python_literal.h"
#include "../base/mem.h"
#include "../base/utf8.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 100, REPLACEMENT = 0xfffd };

struct reader {
    const char *text, *at, *end;
    int depth;
    struct str bytes;  /* of the string being read: \xHH as a byte */
    struct str points; /* the same with \xHH as a code point */
    struct err *e;
};

static int wrong(struct reader *r, const char *what)
{
    return err_set(r->e, ERR_DATA, "byte %zu: %s", (size_t)(r->at - r->text) + 1, what);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && isspace((unsigned char)*r->at))
        r->at++;
}

static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* ---- strings ---- */

static void put_point(struct str *s, uint32_t p)
{
    char c[4];
    size_t n = 0;
    if (p == 0 || p > 0x10ffff || (p >= 0xd800 && p <= 0xdfff))
        p = REPLACEMENT;
    if (p < 0x80) {
        c[n++] = (char)p;
    } else if (p < 0x800) {
        c[n++] = (char)(0xc0 | p >> 6);
    } else if (p < 0x10000) {
        c[n++] = (char)(0xe0 | p >> 12);
        c[n++] = (char)(0x80 | (p >> 6 & 0x3f));
    } else {
        c[n++] = (char)(0xf0 | p >> 18);
        c[n++] = (char)(0x80 | (p >> 12 & 0x3f));
        c[n++] = (char)(0x80 | (p >> 6 & 0x3f));
    }
    if (p >= 0x80)
        c[n++] = (char)(0x80 | (p & 0x3f));
    str_append(s, c, n);
}

static void put_both(struct reader *r, uint32_t point)
{
    put_point(&r->bytes, point);
    put_point(&r->points, point);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* Up to n digits of the base at `at`; *used says how many there were. */
static uint32_t digits(const struct reader *r, const char *at, int n, int base, int *used)
{
    uint32_t value = 0;
    for (*used = 0; *used < n && at + *used < r->end && digit_of(at[*used]) < base; ++*used)
        value = value * (uint32_t)base + (uint32_t)digit_of(at[*used]);
    return value;
}

/* \uXXXX or \UXXXXXXXX, `at` on the letter; a low half behind a high one is taken with it. */
static int read_point(struct reader *r)
{
    int want = *r->at == 'u' ? 4 : 8, used, more;
    uint32_t p = digits(r, r->at + 1, want, 16, &used);
    if (used < want)
        return wrong(r, "an escape has too few hexadecimal digits");
    r->at += 1 + want;
    if (p >= 0xd800 && p < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        uint32_t low = digits(r, r->at + 2, 4, 16, &more);
        if (more == 4 && low >= 0xdc00 && low < 0xe000) {
            p = 0x10000 + ((p - 0xd800) << 10) + (low - 0xdc00);
            r->at += 6;
        }
    }
    put_both(r, p);
    return 0;
}

/* \xHH and \ooo. */
static int read_byte(struct reader *r)
{
    bool hex = *r->at == 'x';
    int used;
    uint32_t value = hex ? digits(r, r->at + 1, 2, 16, &used) : digits(r, r->at, 3, 8, &used);
    if (hex && used < 2)
        return wrong(r, "\\x needs two hexadecimal digits");
    r->at += used + hex;
    char byte = (char)value;
    if (value > 0 && value < 256)
        str_append(&r->bytes, &byte, 1);
    else
        put_point(&r->bytes, value);
    put_point(&r->points, value);
    return 0;
}

static int read_escape(struct reader *r)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    if (r->at == r->end)
        return wrong(r, "the line ends inside a string");
    const char *known = *r->at ? strchr(from, *r->at) : NULL;
    if (known) {
        put_both(r, (unsigned char)to[known - from]);
        r->at++;
        return 0;
    }
    if (*r->at == 'u' || *r->at == 'U')
        return read_point(r);
    if (*r->at == 'x' || (*r->at >= '0' && *r->at <= '7'))
        return read_byte(r);
    put_both(r, '\\'); /* the next character stands for itself */
    return 0;
}

struct quoting {
    char quote;
    bool raw, unicode, triple;
};

/* Letters before the quote; false when this is no string. */
static bool read_prefix(struct reader *r, struct quoting *q)
{
    const char *p = r->at;
    *q = (struct quoting){0};
    while (p < r->end && p - r->at < 2 && *p && strchr("uUbBrR", *p)) {
        q->raw |= *p == 'r' || *p == 'R';
        q->unicode |= *p == 'u' || *p == 'U';
        p++;
    }
    if (p == r->end || (*p != '\'' && *p != '"'))
        return false;
    q->quote = *p++;
    q->triple = r->end - p >= 2 && p[0] == q->quote && p[1] == q->quote;
    r->at = p + (q->triple ? 2 : 0);
    return true;
}

static bool closes(const struct reader *r, const struct quoting *q)
{
    return *r->at == q->quote && (!q->triple || (r->end - r->at >= 3 && r->at[1] == q->quote && r->at[2] == q->quote));
}

static int read_quoted(struct reader *r, const struct quoting *q)
{
    while (r->at < r->end && !closes(r, q)) {
        uint32_t point;
        if (*r->at == '\\' && !q->raw) {
            r->at++;
            if (read_escape(r) < 0)
                return -1;
            continue;
        }
        if (*r->at == '\\' && r->end - r->at >= 2) /* raw: it keeps its backslash and protects a quote */
            put_both(r, (unsigned char)*r->at++);
        size_t n = utf8_next(r->at, (size_t)(r->end - r->at), &point);
        put_both(r, n ? point : REPLACEMENT);
        r->at += n ? n : 1;
    }
    if (r->at == r->end)
        return wrong(r, "the line ends inside a string");
    r->at += q->triple ? 3 : 1;
    return 0;
}

/* One string with its neighbours; NULL with e. The text lives in r until the next string. */
static const char *read_string(struct reader *r)
{
    struct quoting q;
    bool unicode = false;
    str_clear(&r->bytes);
    str_clear(&r->points);
    str_append(&r->bytes, "", 0);
    str_append(&r->points, "", 0);
    while (read_prefix(r, &q)) {
        unicode |= q.unicode;
        if (read_quoted(r, &q) < 0)
            return NULL;
        skip_space(r);
    }
    return !unicode && utf8_valid(r->bytes.data, r->bytes.size) ? r->bytes.data : r->points.data;
}

/* ---- the rest ---- */

static cJSON *read_value(struct reader *r);

static cJSON *read_list(struct reader *r, char close)
{
    cJSON *list = cJSON_CreateArray();
    while (!take(r, close)) {
        cJSON *item = read_value(r);
        if (!item)
            goto bad;
        cJSON_AddItemToArray(list, item);
        if (take(r, ','))
            continue;
        if (take(r, close))
            return list;
        wrong(r, "a comma or the end of the list is missing");
        goto bad;
    }
    return list;
bad:
    cJSON_Delete(list);
    return NULL;
}

/* `key: value`, added to the dict; a key that comes again takes the later value, as in Python. */
static int read_entry(struct reader *r, cJSON *dict)
{
    struct quoting q;
    const char *start;
    skip_space(r);
    start = r->at;
    if (!read_prefix(r, &q))
        return wrong(r, "a string is needed as key");
    r->at = start;
    const char *s = read_string(r);
    if (!s)
        return -1;
    char *key = xstrdup(s);
    cJSON *value = NULL;
    if (!take(r, ':'))
        wrong(r, "the colon behind a key is missing");
    else
        value = read_value(r);
    if (value) {
        cJSON_DeleteItemFromObjectCaseSensitive(dict, key);
        cJSON_AddItemToObject(dict, key, value);
    }
    free(key);
    return value ? 0 : -1;
}

static cJSON *read_dict(struct reader *r)
{
    cJSON *dict = cJSON_CreateObject();
    while (!take(r, '}')) {
        if (read_entry(r, dict) < 0)
            goto bad;
        if (take(r, ','))
            continue;
        if (take(r, '}'))
            return dict;
        wrong(r, "a comma or the end of the dict is missing");
        goto bad;
    }
    return dict;
bad:
    cJSON_Delete(dict);
    return NULL;
}

static cJSON *read_word(struct reader *r)
{
    static const struct {
        const char *word;
        int value; /* 0, 1, -1 = None */
    } words[] = {{"True", 1}, {"False", 0}, {"None", -1}, {"true", 1}, {"false", 0}, {"null", -1}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i].word, n) == 0) {
            r->at += n;
            return words[i].value < 0 ? cJSON_CreateNull() : cJSON_CreateBool(words[i].value);
        }
    }
    wrong(r, "is no literal");
    return NULL;
}

/* Digits, sign, point and exponent, with Python 2's L behind a long. */
static cJSON *read_number(struct reader *r)
{
    char text[64], *end;
    size_t n = 0;
    while (r->at + n < r->end && n + 1 < sizeof text && r->at[n] && strchr("0123456789+-.eE", r->at[n])) {
        text[n] = r->at[n];
        n++;
    }
    text[n] = 0;
    double x = strtod(text, &end);
    if (n == 0 || *end) {
        wrong(r, "is no number");
        return NULL;
    }
    r->at += n;
    if (r->at < r->end && (*r->at == 'L' || *r->at == 'l'))
        r->at++;
    return cJSON_CreateNumber(x);
}

static cJSON *read_text(struct reader *r)
{
    const char *s = read_string(r);
    return s ? cJSON_CreateString(s) : NULL;
}

/* A tuple, or a value in parentheses. */
static cJSON *read_tuple(struct reader *r)
{
    const char *start = r->at;
    cJSON *list = read_list(r, ')');
    if (!list || cJSON_GetArraySize(list) != 1)
        return list;
    const char *last = r->at - 2;
    while (last > start && isspace((unsigned char)*last))
        last--;
    if (*last == ',')
        return list;
    cJSON *only = cJSON_DetachItemFromArray(list, 0);
    cJSON_Delete(list);
    return only;
}

static cJSON *read_value(struct reader *r)
{
    struct quoting q;
    cJSON *value;
    skip_space(r);
    const char *start = r->at;
    if (r->at == r->end)
        return wrong(r, "the line ends inside a literal"), NULL;
    if (r->depth == DEPTH_MOST)
        return wrong(r, "nested too deep"), NULL;
    r->depth++;
    if (take(r, '{')) {
        value = read_dict(r);
    } else if (take(r, '[')) {
        value = read_list(r, ']');
    } else if (take(r, '(')) {
        value = read_tuple(r);
    } else if (read_prefix(r, &q)) {
        r->at = start;
        value = read_text(r);
    } else {
        value = isalpha((unsigned char)*r->at) ? read_word(r) : read_number(r);
    }
    r->depth--;
    return value;
}

cJSON *python_literal_parse(const char *text, size_t size, struct err *e)
{
    struct reader r = {.text = text, .at = text, .end = text + size, .e = e};
    cJSON *value = read_value(&r);
    skip_space(&r);
    if (value && r.at < r.end) {
        wrong(&r, "there is something behind the literal");
        cJSON_Delete(value);
        value = NULL;
    }
    str_free(&r.bytes);
    str_free(&r.points);
    return value;
}
