/* server.h: what the files of the daemon share: the server, one call being answered, the route table, and how to answer. */
#ifndef SEMINDEX_SERVER_H
#define SEMINDEX_SERVER_H

#include "../core/engine.h"
#include "batcher.h"
#include "http.h"
#include "mapping.h"
#include "options.h"
#include "problem.h"
#include <stdatomic.h>

struct server {
    const struct options *o;
    struct mapping_limits limits;
    struct http_edge *edge;
    struct batcher *batcher;         /* set before engine, valid whenever engine is */
    _Atomic(struct engine *) engine; /* NULL while loading */
    _Atomic bool draining;
    _Atomic bool failed; /* the device is lost: the process is about to end */
    char digest[65]; /* of the model; valid whenever engine is */
    int64_t started_ms, max_body_bytes, index_timeout_ms;
};

struct call { /* one request under way; lives in the request's arena, at request->data */
    struct server *server;
    struct http_request *request;
    const struct route *route; /* NULL = none was found */
    char *parameter;           /* {id} or {code}, decoded */
    const char *code;          /* problem that was answered, for the log */
    int64_t deadline_ms;
    struct body body;
    struct problems problems;
    struct search_request search;
    struct engine_put_batch puts;
    struct work work;
    bool change; /* which queue the work is for */
    int64_t generation;
};

enum route_flag { ROUTE_ENGINE = 1, ROUTE_BODY = 2, ROUTE_OPERATOR = 4 };
struct route {
    const char *method, *pattern;             /* "/documents/{id}": a last segment in braces is a parameter */
    unsigned flags;                           /* needs the engine; takes a JSON body; is answered beyond the connection limit, too */
    enum http_next (*handle)(struct call *c); /* answers, or fills c->work and waits */
    void (*finish)(struct call *c);           /* after the work ran (c->work.err is none): answers */
};
extern const struct route route_table[];
int route_count(void);
/* The hooks that server/http.c calls. */
void routes_hooks(struct http_hooks *hooks, struct server *s);
void route_work_done(struct work *w);            /* batcher's done */
bool route_work_gone(struct work *w, bool half); /* batcher's gone */

/* Answers. */
struct str *answer_json(struct call *c, int status); /* the body to write; begins empty */
void answer_problem(struct call *c, int status, const char *code, const char *detail, const struct problems *fields);
void answer_err(struct call *c, const struct err *e); /* by problem.c's mapping; what is internal is logged, not told */
/* Gate, parse; false: answered. */
bool call_parse(struct call *c);
/* False: answered with 413 or 422. */
bool call_checked(struct call *c, const char *too_many);

/* Handlers, one per route. */
enum http_next search_handle(struct call *c);
enum http_next recommend_handle(struct call *c);
void search_finish(struct call *c);
void hits_write(struct str *out, const struct engine_query *q, unsigned fields,
                bool explain); /* "hits":[..] and what belongs to one query */
enum http_next index_handle(struct call *c);
void index_finish(struct call *c);
void index_refused(struct call *c); /* the engine named wrong documents in c->puts.errors */
enum http_next document_get(struct call *c);
enum http_next document_delete(struct call *c);
void document_delete_finish(struct call *c);
void put_results_write(struct str *out, const struct engine_put_batch *b); /* "results":[..] */
enum http_next admin_livez(struct call *c);
enum http_next admin_readyz(struct call *c);
enum http_next admin_info(struct call *c);
enum http_next admin_metrics(struct call *c);
enum http_next admin_problem(struct call *c);

/* serve.c */
int serve_run(const struct options *o, struct err *e);
void engine_options_from(const struct options *o, struct engine_options *out);
void mapping_limits_from(const struct options *o, struct mapping_limits *out);

#endif
