/* api_search.c: POST /search and POST /recommend.
 *
 * The HTTP thread validates and tokenises (engine_prepare), the model worker runs, an HTTP thread writes the answer. A request may hold
 * many queries; they travel as one work and are answered together. Everything that a person may wonder about is in the answer: the beam
 * that was used, whether the text was cut, whether a candidate was, which history counted. */
#include "json_out.h"
#include "metrics.h"
#include "server.h"
#include <string.h>

/* A refusal of engine_prepare: 409 when the bundle lacks the part, else the field whose name begins the message. */
static void answer_unprepared(struct call *c, const struct err *e)
{
    static const char *const fields[] = {"beam_width", "limit", "offset", "query", "history", "mode"};
    const char *pointer = "";
    if (e->code == ERR_CONFLICT) {
        const char *detail = e->message;
        if (!strncmp(detail, "not_in_model: ", 14)) /* the code has a member of its own */
            detail += 14;
        answer_problem(c, 409, "not_in_model", detail, NULL);
        return;
    }
    if (e->code != ERR_INVALID) {
        answer_err(c, e);
        return;
    }
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!strncmp(e->message, fields[i], strlen(fields[i])))
            pointer = problem_pointer(&c->request->arena, "", fields[i]);
    problem_add(&c->problems, pointer, "out_of_range", "%s", e->message);
    call_checked(c, NULL);
}

static enum http_next prepare(struct call *c)
{
    struct engine *engine = atomic_load(&c->server->engine);
    c->deadline_ms = c->request->arrived_ms + c->search.timeout_ms;
    for (int32_t i = 0; i < c->search.count; i++) {
        struct err e = {0};
        c->search.queries[i]->deadline_ms = c->deadline_ms;
        if (engine_prepare(engine, c->search.queries[i], &e)) {
            answer_unprepared(c, &e);
            return HTTP_ANSWERED;
        }
        c->work.tokens += c->search.queries[i]->token_count;
    }
    c->work.queries = c->search.queries;
    c->work.count = c->search.count;
    return HTTP_WAIT;
}

enum http_next search_handle(struct call *c)
{
    const char *too_many = NULL;
    if (!call_parse(c))
        return HTTP_ANSWERED;
    map_search(&c->body, &c->server->limits, &c->search, &c->problems, &too_many);
    return call_checked(c, too_many) ? prepare(c) : HTTP_ANSWERED;
}

enum http_next recommend_handle(struct call *c)
{
    const char *too_many = NULL;
    if (!call_parse(c))
        return HTTP_ANSWERED;
    map_recommend(&c->body, &c->server->limits, &c->search, &c->problems, &too_many);
    return call_checked(c, too_many) ? prepare(c) : HTTP_ANSWERED;
}

/* ---- the answer ---- */

static void write_document(struct str *out, const struct engine_hit *h, unsigned fields)
{
    json_key(out, "document");
    str_puts(out, "{");
    if (fields & FIELD_ID) {
        json_key(out, "id");
        json_string(out, h->id);
    }
    if ((fields & FIELD_TITLE) && h->title) {
        json_key(out, "title");
        json_string(out, h->title);
    }
    if ((fields & FIELD_TEXT) && h->text) {
        json_key(out, "text");
        json_string(out, h->text);
    }
    if ((fields & FIELD_ATTRIBUTES) && h->attributes) {
        json_key(out, "attributes");
        str_puts(out, h->attributes);
    }
    str_puts(out, "}");
}

static void write_rank(struct str *out, const char *list, int32_t rank, double score)
{
    json_key(out, list);
    if (!rank) {
        str_puts(out, "null");
        return;
    }
    str_printf(out, "{\"rank\":%d,\"score\":", rank);
    json_number(out, score);
    str_puts(out, "}");
}

static void write_explanation(struct str *out, const struct engine_hit *h, enum engine_task task)
{
    json_key(out, "explain");
    str_puts(out, "{");
    write_rank(out, "generative", h->generative_rank, h->generative_score);
    write_rank(out, "lexical", h->lexical_rank, h->lexical_score);
    if (task == TASK_RECOMMEND)
        write_rank(out, "neighbours", h->neighbours_rank, h->neighbours_score);
    json_key(out, "suffix_trained");
    json_bool(out, h->suffix_trained);
    if (h->generative_rank && !h->suffix_trained) {
        json_key(out, "log_prefix");
        json_number(out, h->log_prefix);
        json_key(out, "log_share");
        json_number(out, h->log_share);
    }
    str_puts(out, "}");
}

static void write_hit(struct str *out, const struct engine_hit *h, enum engine_task task, unsigned fields, bool explain)
{
    json_comma(out);
    str_printf(out, "{\"rank\":%d,\"id\":", h->rank);
    json_string(out, h->id);
    json_key(out, "score");
    json_number(out, h->score);
    json_key(out, "semantic_id");
    json_string(out, h->semantic_id);
    write_document(out, h, fields);
    if (explain)
        write_explanation(out, h, task);
    str_puts(out, "}");
}

static void write_ids(struct str *out, const char *name, const char *const *ids, int32_t count)
{
    json_key(out, name);
    str_puts(out, "[");
    for (int32_t i = 0; i < count; i++) {
        json_comma(out);
        json_string(out, ids[i]);
    }
    str_puts(out, "]");
}

void hits_write(struct str *out, const struct engine_query *q, unsigned fields, bool explain)
{
    json_key(out, "hits");
    str_puts(out, "[");
    for (int32_t i = 0; i < q->hit_count; i++)
        write_hit(out, &q->hits[i], q->task, fields, explain);
    str_puts(out, "]");
    if (q->task == TASK_RECOMMEND) {
        write_ids(out, "used_history", q->used_history, q->used_count);
        write_ids(out, "unknown_history", q->unknown_history, q->unknown_count);
        json_key(out, "fallback_used");
        json_bool(out, q->fallback_used);
    }
    json_key(out, "beam_width");
    str_printf(out, "%d", q->beam);
    json_key(out, "truncated");
    json_bool(out, q->truncated);
    json_key(out, "exhaustive");
    json_bool(out, q->exhaustive);
}

static void write_common(struct str *out, const struct call *c, int64_t generation)
{
    str_printf(out, ",\"generation\":%lld,\"model\":\"%s\",\"took_ms\":%.3f,\"request_id\":\"%s\"}\n", (long long)generation,
               c->server->digest, (clock_s() - c->request->arrived_s) * 1e3, c->request->id);
}

static void note_stages(struct call *c)
{
    double encode = 0, decode = 0, store = 0;
    for (int32_t i = 0; i < c->search.count; i++) {
        const struct engine_query *q = c->search.queries[i];
        encode += q->encode_ms;
        decode += q->decode_ms;
        store += q->store_ms;
        metrics_count(COUNT_TRUNCATED, q->truncated);
        metrics_count(COUNT_FALLBACK, q->fallback_used);
    }
    metrics_stage(STAGE_ENCODE, encode / 1e3);
    metrics_stage(STAGE_DECODE, decode / 1e3);
    metrics_stage(STAGE_STORE, store / 1e3);
    size_t n = strlen(c->request->timing);
    snprintf(c->request->timing + n, sizeof c->request->timing - n, ", encode;dur=%.3f, decode;dur=%.3f, store;dur=%.3f", encode, decode,
             store);
}

void search_finish(struct call *c)
{
    struct search_request *s = &c->search;
    for (int32_t i = 0; i < s->count; i++)
        if (s->queries[i]->err.code) {
            answer_err(c, &s->queries[i]->err);
            return;
        }
    if (clock_ms() > c->deadline_ms) {
        struct err late;
        err_set(&late, ERR_DEADLINE, "the answer was ready after the deadline of %lld ms", (long long)s->timeout_ms);
        answer_err(c, &late);
        return;
    }
    note_stages(c);
    struct str *out = answer_json(c, 200);
    str_puts(out, s->many ? "{\"results\":[" : "{");
    for (int32_t i = 0; i < s->count; i++) {
        if (s->many) {
            json_comma(out);
            str_puts(out, "{");
        }
        hits_write(out, s->queries[i], s->fields, s->explain);
        str_puts(out, s->many ? "}" : "");
    }
    str_puts(out, s->many ? "]" : "");
    write_common(out, c, s->queries[0]->generation);
}
