/* http.h: the edge: bytes from sockets become whole, checked requests, and answers become bytes.
 *
 * Everything that libmicrohttpd 0.9.75 gets wrong is put right behind this header; no other file includes microhttpd.h. What the requests
 * mean is the business of the hooks (routes.c). A request and all it points to lives until its `done` hook has returned. */
#ifndef SEMINDEX_HTTP_H
#define SEMINDEX_HTTP_H

#include "../core/base/err.h"
#include "../core/base/mem.h"
#include "../core/base/run.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_edge;
struct http_connection;
struct MHD_Connection;

struct http_answer {
    int status;               /* 0 = none yet */
    const char *content_type; /* static */
    struct str body;
    const char *allow;  /* static, for 405; NULL = none */
    int retry_after_s;  /* 0 = none */
    bool close;         /* the connection ends with this answer */
    int64_t sent_bytes; /* set when the body has been handed over */
};

struct http_request {
    struct http_edge *edge;
    struct MHD_Connection *mhd;
    struct http_connection *connection;
    char *target;    /* raw, as on the wire */
    char *path;      /* raw, without "?..." */
    char *query;     /* raw, after "?", or NULL */
    char method[16]; /* "GET" also for HEAD */
    bool head;
    char id[65];            /* X-Request-Id, the client's or ours */
    char *content_type;     /* or NULL */
    int64_t content_length; /* -1 = none given */
    bool chunked;
    bool over_limit;   /* more connections than max_connections: answer 503 unless the route is for operators */
    size_t body_limit; /* set by the begin hook; 0 = no body is read */
    struct str body;
    size_t discarded;
    int64_t arrived_ms; /* clock_ms() when the header was complete */
    double arrived_s;
    struct arena arena; /* reset after the answer */
    struct http_answer answer;
    char timing[192]; /* Server-Timing entries of the stages, may be empty */
    int stage;        /* private to http.c */
    void *data;       /* the hooks' own */
};

enum http_next { HTTP_ANSWERED, HTTP_WAIT };
struct http_hooks { /* called from HTTP threads, except tick */
    void *state;
    void (*begin)(void *state, struct http_request *r);            /* header is complete and sane; may answer (404, 405, 413..) */
    enum http_next (*handle)(void *state, struct http_request *r); /* body is complete; answers, or wants to wait for a worker */
    void (*submit)(void *state, struct http_request *r);           /* only after HTTP_WAIT, the connection being suspended already: hand the
                                                                      request to a worker, which ends with http_resume */
    void (*finish)(void *state, struct http_request *r);           /* after http_resume: answers */
    void (*refuse)(void *state, struct http_request *r, int status, const char *code, const char *detail); /* fills r->answer */
    void (*done)(void *state, struct http_request *r, bool sent); /* answered or lost; last call for r */
    void (*tick)(void *state, int64_t now_ms);                    /* about every 50 ms, from the watchdog thread */
};

struct http_options {
    const char *listen; /* "127.0.0.1:8080", "[::1]:0" */
    bool insecure;
    int threads;
    int64_t max_connections;
    int64_t receive_timeout_ms, send_timeout_ms, idle_timeout_ms;
};
/* Binds, listens and serves at once. ERR_CONFIG: not loopback without insecure, or no address; ERR_UNAVAILABLE: port in use. */
struct http_edge *http_open(const struct http_options *o, const struct http_hooks *hooks, struct err *e);
const char *http_url(const struct http_edge *edge); /* "http://127.0.0.1:43121" */
int64_t http_connections(struct http_edge *edge);
int64_t http_cut(struct http_edge *edge); /* connections that a deadline ended */

/* The worker is done with r: its connection goes on, `finish` follows on an HTTP thread. The caller does not touch r afterwards. */
void http_resume(struct http_request *r);
/* Whether the client of a waiting request has gone. Cheap. `half` = a client that closed only its sending side counts as gone, too. */
bool http_gone(struct http_request *r, bool half);

/* No new connections (those that the kernel has taken already are served), answers close theirs, idle ones are closed; returns when the
 * last is gone or at the timeout. 0 = all gone. */
int http_drain(struct http_edge *edge, int64_t timeout_ms);
const char *http_library_version(void);
void http_close(struct http_edge *edge); /* every waiting request must have been resumed; NULL is fine */

#endif
