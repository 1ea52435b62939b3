/* log.h: the daemon's log on standard error: one line per event and per request, as text or JSON. Never holds text of queries, histories
 * or documents. */
#ifndef SEMINDEX_LOG_H
#define SEMINDEX_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
void log_setup(enum log_level least, bool json); /* once, before threads */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct log_request {
    const char *method, *route, *id, *code; /* route: the pattern, never the raw target; code: of a problem, or NULL */
    int status;
    double ms;
    int64_t bytes_in, bytes_out;
    bool sent; /* false: the client went before the answer was out */
};
void log_request(const struct log_request *r);

#endif
