/* safetensors_json.c: a scanner for the one shape of JSON that a safetensors header has.
 *
 * A general parser would build a tree 30 times the size of a hostile 100 MB header and accept what the format forbids. This one accepts
 * exactly: objects with known keys, arrays of non-negative integers, strings of valid UTF-8. Everything else is an error with its byte
 * position. No recursion, memory is one string at a time. */
#include "safetensors_json.h"

#include "../base/utf8.h"

#include <string.h>

int scan_fail(const struct scan *s, struct err *e, const char *what)
{
    return err_set(e, ERR_DATA, "%s: header byte %lld: %s", s->label, (long long)(s->at - s->begin), what);
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

bool scan_take(struct scan *s, unsigned char c)
{
    skip_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

bool scan_end(struct scan *s)
{
    skip_blanks(s);
    return s->at == s->end;
}

static void put_code_point(struct str *text, uint32_t c)
{
    char b[4];
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, c >>= 6)
        b[i] = (char)(0x80 | (c & 0x3f));
    b[0] = (char)(lead[n] | c);
    str_append(text, b, (size_t)n);
}

/* Four hex digits at s->at, or -1. */
static int32_t hex4(struct scan *s)
{
    int32_t value = 0;
    if (s->end - s->at < 4)
        return -1;
    for (int i = 0; i < 4; i++, s->at++) {
        int c = *s->at, letter = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'A' && letter >= 'a' && letter <= 'f')
            value = value * 16 + (letter - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static int scan_unicode(struct scan *s, struct str *text, struct err *e)
{
    int32_t c = hex4(s);
    if (c <= 0 || (c >= 0xdc00 && c <= 0xdfff))
        return scan_fail(s, e, "bad \\u escape");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u')
            return scan_fail(s, e, "lone surrogate");
        s->at += 2;
        int32_t low = hex4(s);
        if (low < 0xdc00 || low > 0xdfff)
            return scan_fail(s, e, "lone surrogate");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put_code_point(text, (uint32_t)c);
    return 0;
}

static int scan_escape(struct scan *s, struct str *text, struct err *e)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end)
        return scan_fail(s, e, "string is not closed");
    char c = (char)*s->at++;
    if (c == 'u')
        return scan_unicode(s, text, e);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return scan_fail(s, e, "unknown escape in string");
    str_append(text, &to[at - from], 1);
    return 0;
}

int scan_string(struct scan *s, struct str *text, struct err *e)
{
    str_clear(text);
    if (!scan_take(s, '"'))
        return scan_fail(s, e, "expected a string");
    while (s->at < s->end && *s->at != '"') {
        if (*s->at == '\\') {
            s->at++;
            if (scan_escape(s, text, e) != 0)
                return -1;
            continue;
        }
        uint32_t point;
        size_t n = utf8_next((const char *)s->at, (size_t)(s->end - s->at), &point);
        if (n == 0 || point < 0x20)
            return scan_fail(s, e, "string is not valid UTF-8 or has a control character");
        str_append(text, s->at, n);
        s->at += n;
    }
    if (s->at == s->end)
        return scan_fail(s, e, "string is not closed");
    s->at++;
    return 0;
}

/* A JSON integer from 0 to 2^63 - 1. */
static int scan_integer(struct scan *s, int64_t *value, struct err *e)
{
    skip_blanks(s);
    const unsigned char *start = s->at;
    *value = 0;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        if (__builtin_mul_overflow(*value, (int64_t)10, value) || __builtin_add_overflow(*value, (int64_t)(*s->at - '0'), value))
            return scan_fail(s, e, "number is larger than 2^63 - 1");
        s->at++;
    }
    if (s->at == start || (*start == '0' && s->at - start > 1))
        return scan_fail(s, e, "expected a whole number of 0 or more");
    return 0;
}

static int scan_integers(struct scan *s, int64_t *list, int32_t most, int32_t *count, struct err *e)
{
    *count = 0;
    if (!scan_take(s, '['))
        return scan_fail(s, e, "expected [");
    if (scan_take(s, ']'))
        return 0;
    do {
        if (*count == most)
            return scan_fail(s, e, "too many numbers in array");
        if (scan_integer(s, &list[*count], e) != 0)
            return -1;
        (*count)++;
    } while (scan_take(s, ','));
    return scan_take(s, ']') ? 0 : scan_fail(s, e, "expected , or ]");
}

static int scan_dtype(struct scan *s, const char *name, enum safetensors_dtype *dtype, struct err *e)
{
    struct str text = {0};
    int result = scan_string(s, &text, e);
    for (*dtype = 0; result == 0 && *dtype < ST_DTYPES; (*dtype)++)
        if (strcmp(text.data ? text.data : "", safetensors_dtype_name(*dtype)) == 0)
            break;
    if (result == 0 && *dtype == ST_DTYPES)
        result = err_set(e, ERR_DATA, "%s: tensor %.200s: dtype is \"%.20s\", known are F32 F16 BF16 F64 I8..I64 U8..U64 BOOL", s->label, name,
                         text.data ? text.data : "");
    str_free(&text);
    return result;
}

int scan_metadata(struct scan *s, struct err *e)
{
    if (!scan_take(s, '{'))
        return scan_fail(s, e, "expected { after __metadata__");
    if (scan_take(s, '}'))
        return 0;
    struct str text = {0};
    int result = 0;
    do {
        result = scan_string(s, &text, e);
        if (result == 0 && !scan_take(s, ':'))
            result = scan_fail(s, e, "expected :");
        if (result == 0)
            result = scan_string(s, &text, e);
    } while (result == 0 && scan_take(s, ','));
    str_free(&text);
    if (result == 0 && !scan_take(s, '}'))
        result = scan_fail(s, e, "expected , or } in __metadata__");
    return result;
}

enum { KEY_DTYPE = 1, KEY_SHAPE = 2, KEY_OFFSETS = 4, KEYS = 7 };

static int scan_field(struct scan *s, const char *name, const char *key, struct header_entry *entry, struct err *e)
{
    int64_t offsets[2];
    int32_t count;
    if (strcmp(key, "dtype") == 0)
        return scan_dtype(s, name, &entry->dtype, e) == 0 ? KEY_DTYPE : -1;
    if (strcmp(key, "shape") == 0)
        return scan_integers(s, entry->shape, SAFETENSORS_DIMS, &entry->dims, e) == 0 ? KEY_SHAPE : -1;
    if (strcmp(key, "data_offsets") != 0)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: unknown key \"%.50s\" in header", s->label, name, key);
    if (scan_integers(s, offsets, 2, &count, e) != 0)
        return -1;
    if (count != 2)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: data_offsets has %d numbers, expected 2", s->label, name, count);
    entry->from = offsets[0];
    entry->to = offsets[1];
    return KEY_OFFSETS;
}

int scan_entry(struct scan *s, const char *name, struct header_entry *entry, struct err *e)
{
    struct str key = {0};
    int seen = 0, result = scan_take(s, '{') ? 0 : scan_fail(s, e, "expected { after the tensor's name");
    while (result == 0) {
        result = scan_string(s, &key, e);
        if (result == 0 && !scan_take(s, ':'))
            result = scan_fail(s, e, "expected :");
        int field = result == 0 ? scan_field(s, name, key.data ? key.data : "", entry, e) : -1;
        if (field < 0 || (seen & field)) {
            result = field < 0 ? -1 : scan_fail(s, e, "key is there twice");
            break;
        }
        seen |= field;
        if (!scan_take(s, ','))
            break;
    }
    str_free(&key);
    if (result == 0 && !scan_take(s, '}'))
        result = scan_fail(s, e, "expected , or }");
    if (result == 0 && seen != KEYS)
        result = err_set(e, ERR_DATA, "%s: tensor %.200s: header lacks dtype, shape or data_offsets", s->label, name);
    return result;
}
