/* err.c: the message of a refusal, made printable.
 *
 * Messages carry names from files and requests, so what is written here is made safe for a terminal and for JSON: control bytes and bytes
 * that are not UTF-8 become '?', and a message that does not fit is cut between characters. Nothing here allocates: an error can be made
 * when memory is short. */
#include "err.h"
#include "utf8.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>

static void make_printable(char *s)
{
    size_t size = strlen(s);
    for (size_t i = 0; i < size;) {
        uint32_t point;
        size_t n = utf8_next(s + i, size - i, &point);
        if (n == 0 && i + 4 > size && size + 1 == sizeof(((struct err *)0)->message)) {
            s[i] = 0; /* the last character was cut by the end of the buffer */
            return;
        }
        if (n == 0 || point < 0x20 || point == 0x7f)
            s[i] = '?';
        i += n ? n : 1;
    }
    while (size > 0 && s[size - 1] == ' ')
        s[--size] = 0;
}

int err_set(struct err *e, enum err_code code, const char *format, ...)
{
    if (!e)
        return -1;
    char text[sizeof e->message]; /* an argument may be e->message itself */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    make_printable(text);
    e->code = code;
    memcpy(e->message, text, sizeof text);
    return -1;
}

int err_prefix(struct err *e, const char *format, ...)
{
    if (!e)
        return -1;
    char text[sizeof e->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = strlen(text), left = sizeof text - n;
    if (left > 3) {
        memcpy(text + n, ": ", 2);
        memcpy(text + n + 2, e->message, left - 2);
        text[sizeof text - 1] = 0;
    }
    make_printable(text);
    memcpy(e->message, text, sizeof text);
    return -1;
}

enum err_code err_from_errno(int error_number)
{
    switch (error_number) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NO_INPUT;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EACCES:
    case EPERM:
        return ERR_NO_PERM;
    default:
        return ERR_IO;
    }
}
