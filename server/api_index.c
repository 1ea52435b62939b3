/* api_index.c: POST /index, GET and DELETE /documents/{id}.
 *
 * A batch is all or nothing: the whole request is validated before anything is stored, and every wrong document is named. The 200 is
 * written after the engine has committed and published, so the next search sees it. Changes wait in their own queue: an ingest never takes
 * a place from a search. Reading one document is a point lookup and is answered on the HTTP thread. */
#include "json_out.h"
#include "metrics.h"
#include "server.h"
#include <string.h>
#include <time.h>

static void run_index(struct engine *engine, struct work *w)
{
    struct call *c = w->owner;
    double began = clock_s();
    c->puts.deadline_ms = c->deadline_ms;
    if (engine_index(engine, &c->puts, &w->err) && w->err.code == ERR_NONE)
        err_set(&w->err, ERR_INTERNAL, "indexing failed without a reason");
    metrics_stage(STAGE_INDEX, clock_s() - began);
}

enum http_next index_handle(struct call *c)
{
    const char *too_many = NULL;
    if (!call_parse(c))
        return HTTP_ANSWERED;
    map_index(&c->body, &c->server->limits, &c->puts, &c->problems, &too_many);
    if (!call_checked(c, too_many))
        return HTTP_ANSWERED;
    c->deadline_ms = c->request->arrived_ms + c->server->index_timeout_ms;
    c->work.run = run_index;
    c->change = true;
    return HTTP_WAIT;
}

/* The engine refused documents: every one with its pointer; 409 when they clash with the model, else 422. */
void index_refused(struct call *c)
{
    char detail[96];
    for (int32_t i = 0; i < c->puts.error_count; i++) {
        const struct engine_put_error *e = &c->puts.errors[i];
        const char *base = problem_pointer(&c->request->arena, "/documents", arena_printf(&c->request->arena, "%d", e->index));
        const char *pointer = e->field ? problem_pointer(&c->request->arena, base, e->field) : base;
        problem_add(&c->problems, pointer, e->code, "%s", e->detail);
    }
    if (!c->puts.conflict) {
        call_checked(c, NULL);
        return;
    }
    const struct problem_kind *kind = problem_find(c->puts.errors[0].code);
    snprintf(detail, sizeof detail, "%d document%s cannot be taken; nothing was stored", c->puts.error_count,
             c->puts.error_count > 1 ? "s" : "");
    answer_problem(c, 409, kind && kind->status == 409 ? kind->code : "conflict", detail, &c->problems);
}

void put_results_write(struct str *out, const struct engine_put_batch *b)
{
    static const char *const names[] = {"created", "updated", "unchanged", "deleted", "not_found"};
    json_key(out, "results");
    str_puts(out, "[");
    for (int32_t i = 0; i < b->count; i++) {
        const struct engine_put *p = &b->puts[i];
        json_comma(out);
        str_puts(out, "{\"id\":");
        json_string(out, p->document.id);
        str_printf(out, ",\"status\":\"%s\",\"semantic_id\":", names[p->status]);
        json_string(out, p->semantic_id);
        str_puts(out, p->truncated ? ",\"truncated\":true}" : "}");
    }
    str_puts(out, "]");
}

static void count_statuses(const struct engine_put_batch *b)
{
    int64_t counts[3] = {0};
    for (int32_t i = 0; i < b->count; i++)
        if (b->puts[i].status <= STATUS_UNCHANGED)
            counts[b->puts[i].status]++;
    metrics_count(COUNT_DOCUMENTS_CREATED, counts[STATUS_CREATED]);
    metrics_count(COUNT_DOCUMENTS_UPDATED, counts[STATUS_UPDATED]);
    metrics_count(COUNT_DOCUMENTS_UNCHANGED, counts[STATUS_UNCHANGED]);
}

void index_finish(struct call *c)
{
    count_statuses(&c->puts);
    struct str *out = answer_json(c, 200);
    str_puts(out, "{");
    put_results_write(out, &c->puts);
    str_printf(out, ",\"generation\":%lld,\"took_ms\":%.3f,\"request_id\":\"%s\"}\n", (long long)c->puts.generation,
               (clock_s() - c->request->arrived_s) * 1e3, c->request->id);
}

/* ---- one document ---- */

static bool check_parameter(struct call *c)
{
    struct err e = {0};
    if (document_check_id(c->parameter, strlen(c->parameter), &e) == 0)
        return true;
    err_prefix(&e, "the id in the path");
    answer_problem(c, 422, "invalid_field", e.message, NULL);
    return false;
}

static void json_time(struct str *out, const char *name, int64_t unix_ms)
{
    char text[40];
    struct tm parts;
    time_t seconds = (time_t)(unix_ms / 1000);
    gmtime_r(&seconds, &parts);
    size_t n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(unix_ms % 1000));
    json_key(out, name);
    json_string(out, text);
}

enum http_next document_get(struct call *c)
{
    struct err e = {0};
    struct engine_document d = {0};
    if (!check_parameter(c))
        return HTTP_ANSWERED;
    if (engine_get(atomic_load(&c->server->engine), c->parameter, &c->request->arena, &d, &e)) {
        answer_err(c, &e);
        return HTTP_ANSWERED;
    }
    struct str *out = answer_json(c, 200);
    str_puts(out, "{\"id\":");
    json_string(out, d.document.id);
    json_key(out, "title");
    json_string(out, d.document.title);
    json_key(out, "text");
    json_string(out, d.document.text);
    json_key(out, "attributes");
    str_puts(out, d.document.attributes ? d.document.attributes : "null");
    json_key(out, "semantic_id");
    json_string(out, d.semantic_id);
    json_key(out, "suffix_trained");
    json_bool(out, d.suffix_trained);
    json_time(out, "created_at", d.created_ms);
    json_time(out, "updated_at", d.updated_ms);
    str_printf(out, ",\"generation\":%lld}\n", (long long)d.generation);
    return HTTP_ANSWERED;
}

static void run_delete(struct engine *engine, struct work *w)
{
    struct call *c = w->owner;
    engine_delete(engine, c->parameter, &c->generation, &w->err);
}

enum http_next document_delete(struct call *c)
{
    if (!check_parameter(c))
        return HTTP_ANSWERED;
    c->deadline_ms = c->request->arrived_ms + c->server->index_timeout_ms;
    c->work.run = run_delete;
    c->change = true;
    return HTTP_WAIT;
}

void document_delete_finish(struct call *c)
{
    metrics_count(COUNT_DOCUMENTS_DELETED, 1);
    struct str *out = answer_json(c, 200);
    str_puts(out, "{\"id\":");
    json_string(out, c->parameter);
    str_printf(out, ",\"status\":\"deleted\",\"generation\":%lld,\"request_id\":\"%s\"}\n", (long long)c->generation, c->request->id);
}
