/* http_gate.c: what a request's header must look like before anybody acts on it.
 *
 * Measured on libmicrohttpd 0.9.75: Content-Length together with Transfer-Encoding is accepted and a smuggled request served, the first of
 * two Content-Lengths wins, two Hosts pass, `Content-Length :` leaves the body as the next request, unknown codings hang, control
 * characters and names that are no tokens pass. Each of those lets two machines disagree about where a request ends or for whom it is. So
 * one table of rules, applied to what the library hands out, and every breach is answered with 400 and the end of the connection. */
#include "http_gate.h"
#include "../core/base/utf8.h"
#include <string.h>
#include <strings.h>

static void breach(struct header_gate *g, int status, const char *detail)
{
    if (g->status == 0) {
        g->status = status;
        g->detail = detail;
    }
}

void header_gate_init(struct header_gate *g)
{
    *g = (struct header_gate){.content_length = -1};
}

static bool is_token(const char *s, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)s[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (!alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return size > 0;
}

static bool is_plain(const char *s, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
            return false;
    return true;
}

static bool all_digits(const char *s, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return size > 0;
}

/* host [":" port]: a registered name or IPv4 address, or an IPv6 address in brackets. */
static bool host_valid(const char *s, size_t size)
{
    size_t n = 0;
    if (size && s[0] == '[') {
        for (n = 1; n < size && s[n] != ']'; n++)
            if (!strchr("0123456789abcdefABCDEF:.", s[n]) || !s[n])
                return false;
        if (n++ >= size || n < 4)
            return false;
    } else {
        while (n < size && s[n] && (strchr("-._~!$&'()*+,;=", s[n]) || is_token(s + n, 1)) && !strchr("#^`|%", s[n]))
            n++;
        if (n == 0)
            return false;
    }
    if (n == size)
        return true;
    return s[n] == ':' && size - n <= 6 && (size - n == 1 || all_digits(s + n + 1, size - n - 1));
}

static bool named(const char *name, size_t size, const char *want)
{
    return size == strlen(want) && strncasecmp(name, want, size) == 0;
}

static void add_length(struct header_gate *g, const char *value, size_t size)
{
    if (g->lengths++)
        breach(g, 400, "more than one Content-Length");
    if (!all_digits(value, size) || size > 15) {
        breach(g, 400, "Content-Length is not a number of at most 15 digits");
        return;
    }
    g->content_length = 0;
    for (size_t i = 0; i < size; i++)
        g->content_length = g->content_length * 10 + (value[i] - '0');
}

void header_gate_add(struct header_gate *g, const char *name, size_t name_size, const char *value, size_t value_size)
{
    if (!is_token(name, name_size))
        breach(g, 400, "a header name is not a token");
    if (!is_plain(value, value_size))
        breach(g, 400, "a header value holds a control character");
    if (named(name, name_size, "Host")) {
        if (g->hosts++)
            breach(g, 400, "more than one Host");
        if (!host_valid(value, value_size))
            breach(g, 400, "Host is not a host and port");
    } else if (named(name, name_size, "Content-Length")) {
        add_length(g, value, value_size);
    } else if (named(name, name_size, "Transfer-Encoding")) {
        if (g->codings++)
            breach(g, 400, "more than one Transfer-Encoding");
        if (!named(value, value_size, "chunked"))
            breach(g, 501, "the only Transfer-Encoding is chunked");
        g->chunked = true;
    } else if (named(name, name_size, "Content-Encoding") && !named(value, value_size, "identity")) {
        breach(g, 415, "the body must come without Content-Encoding");
    } else if (named(name, name_size, "Expect")) {
        if (!named(value, value_size, "100-continue"))
            breach(g, 417, "the only expectation is 100-continue");
        g->expects = true;
    }
}

static bool target_valid(const char *t)
{
    if (!t || t[0] != '/')
        return false;
    for (; *t; t++)
        if (*t <= 0x20 || *t >= 0x7f || strchr("\"<>\\^`{|}#", *t))
            return false;
    return true;
}

void header_gate_end(struct header_gate *g, const char *version, const char *method, const char *target)
{
    bool modern = !strcmp(version, "HTTP/1.1");
    if (!modern && strcmp(version, "HTTP/1.0"))
        breach(g, 505, "the versions spoken here are HTTP/1.1 and HTTP/1.0");
    if (!is_token(method, strlen(method)) || strlen(method) > 15)
        breach(g, 400, "the method is not a token of at most 15 characters");
    if (!target_valid(target))
        breach(g, 400, "the target must begin with / and be printable ASCII");
    if (modern && g->hosts == 0)
        breach(g, 400, "Host is missing");
    if (g->lengths && g->codings)
        breach(g, 400, "both Content-Length and Transfer-Encoding");
    if (g->codings && !modern)
        breach(g, 400, "Transfer-Encoding in HTTP/1.0");
}

bool request_id_valid(const char *id)
{
    size_t n = strlen(id);
    for (size_t i = 0; i < n; i++) {
        char c = id[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && c != '.' && c != '_' && c != '-')
            return false;
    }
    return n >= 1 && n <= 64;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

bool percent_decode(const char *raw, size_t size, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = raw[i];
        if (c == '%') {
            int high = i + 2 < size ? hex_digit(raw[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(raw[i + 2]) : -1;
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[n++] = c;
    }
    out[n] = 0;
    return utf8_valid(out, n);
}
