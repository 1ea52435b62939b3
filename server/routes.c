/* routes.c: ONE table of routes, and the way of a request through it.
 *
 * Paths are matched as they came on the wire: no decoding before routing, so /%73earch is no /search, and an encoded slash stays inside its
 * segment. /v1/x is /x. A trailing slash is another path, and there is none. All routes share the same order of refusals: path, method,
 * load, readiness, media type, size, then the route's own. */
#include "http_gate.h"
#include "json_out.h"
#include "log.h"
#include "metrics.h"
#include "server.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct route route_table[] = {
    {"POST", "/search", ROUTE_ENGINE | ROUTE_BODY, search_handle, search_finish},
    {"POST", "/recommend", ROUTE_ENGINE | ROUTE_BODY, recommend_handle, search_finish},
    {"POST", "/index", ROUTE_ENGINE | ROUTE_BODY, index_handle, index_finish},
    {"GET", "/documents/{id}", ROUTE_ENGINE, document_get, NULL},
    {"DELETE", "/documents/{id}", ROUTE_ENGINE, document_delete, document_delete_finish},
    {"GET", "/livez", ROUTE_OPERATOR, admin_livez, NULL},
    {"GET", "/readyz", ROUTE_OPERATOR, admin_readyz, NULL},
    {"GET", "/metrics", ROUTE_OPERATOR, admin_metrics, NULL},
    {"GET", "/info", ROUTE_ENGINE, admin_info, NULL},
    {"GET", "/problems/{code}", 0, admin_problem, NULL},
};

int route_count(void)
{
    return (int)(sizeof route_table / sizeof *route_table);
}

/* ---- answers ---- */

struct str *answer_json(struct call *c, int status)
{
    c->request->answer.status = status;
    c->request->answer.content_type = "application/json";
    str_clear(&c->request->answer.body);
    return &c->request->answer.body;
}

void answer_problem(struct call *c, int status, const char *code, const char *detail, const struct problems *fields)
{
    struct http_answer *a = &c->request->answer;
    a->status = status;
    a->content_type = "application/problem+json";
    a->retry_after_s = status == 503 ? (strcmp(code, "overloaded") ? 2 : 1) : 0;
    c->code = code;
    str_clear(&a->body);
    problem_write(&a->body, status, code, detail, c->request->id, fields);
}

void answer_err(struct call *c, const struct err *e)
{
    int status = problem_status(e->code);
    const char *code = problem_code(e->code);
    if (e->code == ERR_DEADLINE)
        metrics_count(COUNT_DEADLINE, 1);
    if (status < 500 || status == 503 || status == 504 || status == 507) {
        answer_problem(c, status, code, e->message, NULL);
        return;
    }
    log_line(LOG_LEVEL_ERROR, "id=%s %s", c->request->id, e->message);
    answer_problem(c, status, code, "the server met an error of its own; its log has the details under this request id", NULL);
}

bool call_parse(struct call *c)
{
    struct err e = {0};
    struct str *body = &c->request->body;
    problems_init(&c->problems, &c->request->arena);
    if (body_parse(&c->body, body->data ? body->data : "", body->size, c->server->limits.max_json_values, &e) == 0)
        return true;
    if (e.code == ERR_TOO_LARGE)
        answer_problem(c, 413, "too_many", e.message, NULL);
    else
        answer_problem(c, 400, "not_json", e.message, NULL);
    return false;
}

bool call_checked(struct call *c, const char *too_many)
{
    char detail[96];
    if (too_many) {
        answer_problem(c, 413, "too_many", too_many, NULL);
        return false;
    }
    if (c->problems.count == 0)
        return true;
    snprintf(detail, sizeof detail, "%d field%s of the request %s wrong", c->problems.count, c->problems.count > 1 ? "s" : "",
             c->problems.count > 1 ? "are" : "is");
    answer_problem(c, 422, "invalid_field", detail, &c->problems);
    return false;
}

/* ---- finding the route ---- */

/* Whether path fits the pattern; the parameter's raw bytes in *value (NULL = the pattern has none). */
static bool pattern_fits(const char *pattern, const char *path, const char **value)
{
    const char *brace = strchr(pattern, '{');
    *value = NULL;
    if (!brace)
        return !strcmp(pattern, path);
    size_t n = (size_t)(brace - pattern);
    if (strncmp(pattern, path, n) || !path[n] || strchr(path + n, '/'))
        return false;
    *value = path + n;
    return true;
}

/* The methods of the pattern, for Allow; static text by table order. */
static const char *allowed_methods(const char *pattern)
{
    bool get = false, post = false, delete = false;
    for (int i = 0; i < route_count(); i++)
        if (!strcmp(route_table[i].pattern, pattern)) {
            get = get || !strcmp(route_table[i].method, "GET");
            post = post || !strcmp(route_table[i].method, "POST");
            delete = delete || !strcmp(route_table[i].method, "DELETE");
        }
    return get && delete ? "GET, HEAD, DELETE" : get ? "GET, HEAD" : post ? "POST" : "DELETE";
}

/* Sets c->route and c->parameter, or answers 404 or 405. */
static void find_route(struct call *c)
{
    struct http_request *r = c->request;
    const char *path = strncmp(r->path, "/v1/", 4) ? r->path : r->path + 3, *value;
    const struct route *other = NULL;
    for (int i = 0; i < route_count(); i++) {
        if (!pattern_fits(route_table[i].pattern, path, &value))
            continue;
        other = &route_table[i];
        if (strcmp(other->method, r->method) || (r->head && strcmp(other->method, "GET")))
            continue;
        c->route = other;
        c->parameter = value ? arena_alloc(&r->arena, strlen(value) + 1) : NULL;
        if (value && !percent_decode(value, strlen(value), c->parameter))
            answer_problem(c, 400, "bad_request", "the path has a bad percent escape, %00 or bytes that are not UTF-8", NULL);
        return;
    }
    if (!other) {
        answer_problem(c, 404, "not_found", "there is no such path", NULL);
        return;
    }
    r->answer.allow = allowed_methods(other->pattern);
    answer_problem(c, 405, "method_not_allowed", "Allow lists the methods of this path", NULL);
}

static bool is_json_type(const char *type)
{
    if (!type)
        return true; /* no statement: the gate decides */
    size_t n = strcspn(type, "; \t");
    return n == strlen("application/json") && !strncasecmp(type, "application/json", n);
}

static void check_body_header(struct call *c)
{
    struct http_request *r = c->request;
    char detail[128];
    bool takes = c->route->flags & ROUTE_BODY;
    r->body_limit = takes ? (size_t)c->server->max_body_bytes : 0;
    if (!takes && (r->content_length > 0 || r->chunked)) {
        answer_problem(c, 400, "unexpected_body", "this request takes no body", NULL);
    } else if (takes && !is_json_type(r->content_type)) {
        answer_problem(c, 415, "unsupported_media_type", "Content-Type must be application/json", NULL);
    } else if (takes && r->content_length > c->server->max_body_bytes) {
        snprintf(detail, sizeof detail, "the body has %lld bytes; at most %lld are taken (max_body_bytes)", (long long)r->content_length,
                 (long long)c->server->max_body_bytes);
        answer_problem(c, 413, "body_too_large", detail, NULL);
    }
}

static struct call *call_new(struct server *s, struct http_request *r)
{
    struct call *c = arena_alloc(&r->arena, sizeof *c);
    c->server = s;
    c->request = r;
    c->work.owner = c;
    r->data = c;
    return c;
}

static void begin(void *state, struct http_request *r)
{
    struct server *s = state;
    struct call *c = call_new(s, r);
    find_route(c);
    if (r->answer.status)
        return;
    if (r->over_limit && !(c->route->flags & ROUTE_OPERATOR))
        answer_problem(c, 503, "overloaded", "too many connections are open (max_connections)", NULL);
    else if ((c->route->flags & ROUTE_ENGINE) && !atomic_load(&s->engine))
        answer_problem(c, 503, "not_ready", "the model is still being loaded", NULL);
    else if ((c->route->flags & ROUTE_BODY) && r->query && *r->query)
        answer_problem(c, 422, "invalid_field", "this path takes no parameters after the question mark", NULL);
    else
        check_body_header(c);
}

static enum http_next handle(void *state, struct http_request *r)
{
    (void)state;
    struct call *c = r->data;
    return c->route->handle(c);
}

static void submit(void *state, struct http_request *r)
{
    struct server *s = state;
    struct call *c = r->data;
    c->work.deadline_ms = c->deadline_ms;
    bool taken = c->change ? batcher_change(s->batcher, &c->work) : batcher_query(s->batcher, &c->work);
    if (taken)
        return;
    if (atomic_load(&s->draining))
        answer_problem(c, 503, "not_ready", "the server is shutting down", NULL);
    else
        answer_problem(c, 503, "overloaded",
                       c->change ? "too many changes wait already (ingest_queue)" : "too many queries wait already (queue)", NULL);
    http_resume(r);
}

void route_work_done(struct work *w)
{
    struct call *c = w->owner;
    http_resume(c->request);
}

bool route_work_gone(struct work *w, bool half)
{
    struct call *c = w->owner;
    return http_gone(c->request, half);
}

static void finish(void *state, struct http_request *r)
{
    (void)state;
    struct call *c = r->data;
    size_t n = strlen(r->timing);
    if (r->answer.status)
        return;
    snprintf(r->timing + n, sizeof r->timing - n, "%squeue;dur=%.3f", n ? ", " : "", c->work.queue_ms);
    if (c->work.err.code && c->puts.error_count)
        index_refused(c);
    else if (c->work.err.code)
        answer_err(c, &c->work.err);
    else
        c->route->finish(c);
}

static void refuse(void *state, struct http_request *r, int status, const char *code, const char *detail)
{
    struct call *c = r->data ? r->data : call_new(state, r);
    const struct problem_kind *kind = problem_find(code);
    for (int i = 0; kind && kind->status != status; i++)
        kind = problem_at(i);
    answer_problem(c, status, kind ? kind->code : "bad_request", detail, NULL);
}

static void done(void *state, struct http_request *r, bool sent)
{
    (void)state;
    struct call *c = r->data;
    if (!c)
        return;
    double ms = (clock_s() - r->arrived_s) * 1e3;
    struct log_request line = {.method = c->route ? r->method : "-",
                               .route = c->route ? c->route->pattern : "-",
                               .id = r->id,
                               .code = c->code,
                               .status = r->answer.status,
                               .ms = ms,
                               .bytes_in = (int64_t)(r->body.size + r->discarded),
                               .bytes_out = r->answer.sent_bytes,
                               .sent = sent};
    body_free(&c->body);
    metrics_request(c->route ? (int)(c->route - route_table) : 31, r->answer.status, ms / 1e3);
    log_request(&line);
}

static void tick(void *state, int64_t now_ms)
{
    struct server *s = state;
    if (atomic_load(&s->engine))
        batcher_expire(s->batcher, now_ms);
}

void routes_hooks(struct http_hooks *hooks, struct server *s)
{
    *hooks = (struct http_hooks){
        .state = s, .begin = begin, .handle = handle, .submit = submit, .finish = finish, .refuse = refuse, .done = done, .tick = tick};
}
