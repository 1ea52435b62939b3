/* log.c: whole lines by one write(2) each, so that threads need no lock and lines never mix.
 *
 * journald adds time and unit to what a service writes; the time is here for those who redirect into a file. Under systemd
 * (JOURNAL_STREAM) a text line begins with a <n> priority, which journald understands. */
#include "log.h"
#include "../core/base/mem.h"
#include "json_out.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level least_level = LOG_LEVEL_INFO;
static bool as_json, to_journal;
static const char *const names[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level least, bool json)
{
    least_level = least;
    as_json = json;
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static void stamp(char out[40])
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + n, 40 - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static void begin(struct str *out, enum log_level level)
{
    static const int priority[] = {3, 4, 6, 7};
    char when[40];
    stamp(when);
    if (as_json)
        str_printf(out, "{\"time\":\"%s\",\"level\":\"%s\"", when, names[level]);
    else if (to_journal)
        str_printf(out, "<%d>%s", priority[level], names[level]);
    else
        str_printf(out, "%s %s", when, names[level]);
}

static void end(struct str *out)
{
    str_puts(out, as_json ? "}\n" : "\n");
    ssize_t ignored = write(STDERR_FILENO, out->data, out->size);
    (void)ignored;
    str_free(out);
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[2048];
    va_list args;
    if (level > least_level)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct str out = {0};
    begin(&out, level);
    if (as_json) {
        json_key(&out, "message");
        json_string(&out, text);
    } else {
        for (char *p = text; *p; p++)
            if ((unsigned char)*p < 0x20)
                *p = ' ';
        str_printf(&out, " %s", text);
    }
    end(&out);
}

void log_request(const struct log_request *r)
{
    enum log_level level = r->status == 500 || r->status == 507 ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO;
    if (level > least_level)
        return;
    struct str out = {0};
    begin(&out, level);
    if (as_json)
        str_printf(&out,
                   ",\"method\":\"%s\",\"route\":\"%s\",\"status\":%d,\"ms\":%.3f,\"bytes_in\":%lld,\"bytes_out\":%lld,\"id\":\"%s\","
                   "\"code\":\"%s\",\"sent\":%s",
                   r->method, r->route, r->status, r->ms, (long long)r->bytes_in, (long long)r->bytes_out, r->id, r->code ? r->code : "",
                   r->sent ? "true" : "false");
    else
        str_printf(&out, " %s %s %d %.1fms in=%lld out=%lld id=%s%s%s%s", r->method, r->route, r->status, r->ms, (long long)r->bytes_in,
                   (long long)r->bytes_out, r->id, r->code ? " code=" : "", r->code ? r->code : "", r->sent ? "" : " unsent");
    end(&out);
}
