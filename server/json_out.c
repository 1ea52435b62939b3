/* json_out.c: the few functions that make any string and any number valid JSON.
 *
 * Answers are written straight into one growing buffer: no tree is built for output. Commas come from looking at the last byte written, so
 * that optional members need no bookkeeping: after { or [ or : or at the start there is none. */
#include "json_out.h"
#include "../core/base/utf8.h"
#include <math.h>
#include <string.h>

static void escaped(struct str *out, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *p = strchr(from, c);
    if (p && c)
        str_printf(out, "\\%c", to[p - from]);
    else
        str_printf(out, "\\u%04x", c);
}

void json_string(struct str *out, const char *text)
{
    if (!text) {
        str_puts(out, "null");
        return;
    }
    const char *p = text, *plain = p, *stop = text + strlen(text);
    uint32_t point;
    str_puts(out, "\"");
    while (p < stop) {
        size_t n = utf8_next(p, (size_t)(stop - p), &point);
        if (n && point >= 0x20 && *p != '"' && *p != '\\' && point != 0x7f) {
            p += n;
            continue;
        }
        str_append(out, plain, (size_t)(p - plain));
        if (n)
            escaped(out, (unsigned char)*p);
        else
            str_puts(out, "\xEF\xBF\xBD");
        plain = ++p;
    }
    str_append(out, plain, (size_t)(p - plain));
    str_puts(out, "\"");
}

void json_number(struct str *out, double value)
{
    if (isfinite(value))
        str_printf(out, "%.9g", value);
    else
        str_puts(out, "null");
}

void json_bool(struct str *out, bool value)
{
    str_puts(out, value ? "true" : "false");
}

void json_comma(struct str *out)
{
    if (out->size && !strchr("{[:", out->data[out->size - 1]))
        str_puts(out, ",");
}

void json_key(struct str *out, const char *name)
{
    json_comma(out);
    json_string(out, name);
    str_puts(out, ":");
}
