/* prepare_text.c: texts of published files made clean, and JSON lines written.
 *
 * Product texts hold HTML entities and tags, all sources some bytes that are no UTF-8. An entity that is not known stays
 * as it is; a `<` begins a tag only when a letter, `/` or `!` follows and a `>` comes within 400 bytes, so that "5 < 7" survives. A tag
 * becomes a space. */
#include "../base/utf8.h"
#include "prepare_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
} entities[] = {{"amp", "&"},         {"lt", "<"},          {"gt", ">"},          {"quot", "\""},       {"apos", "'"},
                {"nbsp", " "},        {"reg", "\u00ae"},    {"copy", "\u00a9"},   {"trade", "\u2122"},  {"deg", "\u00b0"},
                {"eacute", "\u00e9"}, {"egrave", "\u00e8"}, {"ecirc", "\u00ea"},  {"agrave", "\u00e0"}, {"aacute", "\u00e1"},
                {"acirc", "\u00e2"},  {"auml", "\u00e4"},   {"ouml", "\u00f6"},   {"uuml", "\u00fc"},   {"ntilde", "\u00f1"},
                {"ccedil", "\u00e7"}, {"oacute", "\u00f3"}, {"iacute", "\u00ed"}, {"uacute", "\u00fa"}, {"szlig", "\u00df"},
                {"mdash", "\u2014"},  {"ndash", "\u2013"},  {"lsquo", "\u2018"},  {"rsquo", "\u2019"},  {"ldquo", "\u201c"},
                {"rdquo", "\u201d"},  {"hellip", "\u2026"}, {"bull", "\u2022"},   {"middot", "\u00b7"}, {"frac12", "\u00bd"},
                {"frac14", "\u00bc"}, {"frac34", "\u00be"}, {"times", "\u00d7"},  {"plusmn", "\u00b1"}, {"micro", "\u00b5"},
                {"cent", "\u00a2"},   {"pound", "\u00a3"},  {"euro", "\u20ac"},   {"sup2", "\u00b2"},   {"sup3", "\u00b3"}};

static size_t put_point(char out[4], uint32_t p)
{
    if (p < 0x80) {
        out[0] = (char)p;
        return 1;
    }
    size_t n = p < 0x800 ? 2 : p < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, p >>= 6)
        out[i] = (char)(0x80 | (p & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | p);
    return n;
}

/* "#233" or "#xE9": its character in out; 0 when it is none. */
static size_t numeric_entity(const char *s, size_t n, char out[8])
{
    bool hex = n > 1 && (s[1] == 'x' || s[1] == 'X');
    char *end;
    if (!isxdigit((unsigned char)s[1 + hex]))
        return 0;
    unsigned long p = strtoul(s + 1 + hex, &end, hex ? 16 : 10);
    if (end != s + n || p == 0 || p > 0x10ffff || (p >= 0xd800 && p <= 0xdfff))
        return 0;
    return put_point(out, (uint32_t)p);
}

/* The entity at s (on its &): bytes used, and its text in out with *size; 0 when there is none. */
static size_t read_entity(const char *s, char out[8], size_t *size)
{
    size_t n = strcspn(s + 1, ";& <");
    if (n == 0 || n > 10 || s[1 + n] != ';')
        return 0;
    if (s[1] == '#') {
        *size = numeric_entity(s + 1, n, out);
        return *size ? n + 2 : 0;
    }
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
        if (strlen(entities[i].name) == n && memcmp(entities[i].name, s + 1, n) == 0) {
            *size = strlen(entities[i].text);
            memcpy(out, entities[i].text, *size);
            return n + 2;
        }
    }
    return 0;
}

/* Bytes of the tag at s, or 0. */
static size_t tag_size(const char *s)
{
    if (!isalpha((unsigned char)s[1]) && s[1] != '/' && s[1] != '!')
        return 0;
    for (size_t n = 2; n < 400 && s[n] && s[n] != '<'; n++)
        if (s[n] == '>')
            return n + 1;
    return 0;
}

struct cleaner {
    struct str *out;
    size_t start, most;
    bool space; /* one is due before the next character */
};

/* false = full. */
static bool put(struct cleaner *c, const char *bytes, size_t n, uint32_t point)
{
    if (point <= 0x20 || (point >= 0x7f && point <= 0xa0)) {
        c->space = c->out->size > c->start;
        return true;
    }
    if (c->most && c->out->size - c->start + n + c->space > c->most)
        return false;
    if (c->space)
        str_append(c->out, " ", 1);
    c->space = false;
    str_append(c->out, bytes, n);
    return true;
}

/* Takes the piece of a last word away, unless nothing would be left. */
static void cut_word(struct cleaner *c)
{
    size_t n = c->out->size;
    if (c->space)
        return;
    while (n > c->start && c->out->data[n - 1] != ' ')
        n--;
    if (n > c->start) {
        c->out->size = n - 1;
        c->out->data[n - 1] = 0;
    }
}

static size_t step_markup(struct cleaner *c, const char *s, bool *fits)
{
    char text[8];
    size_t size, used = 0;
    uint32_t point;
    if (*s == '&' && (used = read_entity(s, text, &size)) > 0)
        *fits = utf8_next(text, size, &point) && put(c, text, size, point);
    else if (*s == '<' && (used = tag_size(s)) > 0)
        *fits = put(c, " ", 1, ' ');
    return used;
}

void prepare_clean(struct str *out, const char *s, bool markup, size_t most)
{
    struct cleaner c = {.out = out, .start = out->size, .most = most};
    bool fits = true;
    str_append(out, "", 0);
    for (const char *end = s + strlen(s); fits && s < end;) {
        uint32_t point;
        size_t n = markup && (*s == '&' || *s == '<') ? step_markup(&c, s, &fits) : 0;
        if (n > 0) {
            s += n;
            continue;
        }
        n = utf8_next(s, (size_t)(end - s), &point);
        fits = n ? put(&c, s, n, point) : put(&c, "\xef\xbf\xbd", 3, 0xfffd);
        s += n ? n : 1;
    }
    if (!fits)
        cut_word(&c);
}

void prepare_json_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (size_t left = strlen(s); left > 0;) {
        uint32_t point;
        size_t n = utf8_next(s, left, &point);
        if (n == 0)
            fputs("\xef\xbf\xbd", f);
        else if (point == '"' || point == '\\')
            fprintf(f, "\\%c", (int)point);
        else if (point < 0x20)
            fprintf(f, "\\u%04x", (unsigned)point);
        else
            fwrite(s, 1, n, f);
        n += n == 0;
        s += n;
        left -= n;
    }
    fputc('"', f);
}

void prepare_write_document(FILE *f, const char *id, const char *title, const char *text)
{
    fputs("{\"_id\": ", f);
    prepare_json_string(f, id);
    fputs(", \"title\": ", f);
    prepare_json_string(f, title);
    fputs(", \"text\": ", f);
    prepare_json_string(f, text);
    fputs("}\n", f);
}

void prepare_write_query(FILE *f, const char *id, const char *text)
{
    fputs("{\"_id\": ", f);
    prepare_json_string(f, id);
    fputs(", \"text\": ", f);
    prepare_json_string(f, text);
    fputs("}\n", f);
}
