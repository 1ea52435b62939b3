/* api_admin.c: what operators and machines ask: is it alive, is it ready, what is it, how does it do, what does this error mean.
 *
 * /livez touches neither model nor store: it says that the process answers. /readyz is what a load balancer asks; each check is named.
 * /info states every limit that a request can run into, from the same options that enforce them. */
#include "json_out.h"
#include "metrics.h"
#include "server.h"
#include <string.h>

enum http_next admin_livez(struct call *c)
{
    str_puts(answer_json(c, 200), "{\"status\":\"alive\"}\n");
    return HTTP_ANSWERED;
}

static bool write_check(struct str *out, const char *name, bool fine, const char *detail)
{
    json_comma(out);
    str_puts(out, "{");
    json_key(out, "name");
    json_string(out, name);
    json_key(out, "ok");
    json_bool(out, fine);
    if (!fine) {
        json_key(out, "detail");
        json_string(out, detail);
    }
    str_puts(out, "}");
    return fine;
}

enum http_next admin_readyz(struct call *c)
{
    struct server *s = c->server;
    struct engine *engine = atomic_load(&s->engine);
    struct err e = {0};
    struct str checks = {0};
    bool ready = write_check(&checks, "accepting", !atomic_load(&s->draining), "the server is shutting down");
    ready &= write_check(&checks, "model", engine != NULL, "the model is still being loaded");
    if (atomic_load(&s->failed))
        ready &= write_check(&checks, "device", false, "the device failed; the server ends");
    if (engine)
        ready &= write_check(&checks, "store", engine_health(engine, &e) == 0, e.message);
    struct str *out = answer_json(c, ready ? 200 : 503);
    c->request->answer.retry_after_s = ready ? 0 : 2;
    str_printf(out, "{\"status\":\"%s\",\"checks\":[%s]}\n", ready ? "ready" : "not_ready", checks.data);
    str_free(&checks);
    return HTTP_ANSWERED;
}

static void write_limits(struct str *out, const struct options *o)
{
    static const enum option_id ids[] = {OPT_MAX_BODY_BYTES,
                                         OPT_MAX_DOCUMENTS,
                                         OPT_MAX_QUERIES,
                                         OPT_MAX_QUERY_BYTES,
                                         OPT_MAX_LIMIT,
                                         OPT_MAX_OFFSET,
                                         OPT_MAX_BEAM,
                                         OPT_MAX_QUERY_TOKENS,
                                         OPT_MAX_DOCUMENT_TOKENS,
                                         OPT_MAX_HISTORY,
                                         OPT_MAX_JSON_VALUES,
                                         OPT_MAX_CONNECTIONS,
                                         OPT_QUEUE,
                                         OPT_INGEST_QUEUE,
                                         OPT_BATCH_TOKENS,
                                         OPT_BATCH_ROWS,
                                         OPT_RECORDINGS_MIB,
                                         OPT_REQUEST_TIMEOUT_MS,
                                         OPT_MAX_TIMEOUT_MS,
                                         OPT_INDEX_TIMEOUT_MS,
                                         OPT_RECEIVE_TIMEOUT_MS,
                                         OPT_SEND_TIMEOUT_MS,
                                         OPT_IDLE_TIMEOUT_MS};
    json_key(out, "limits");
    str_puts(out, "{");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", option_table[ids[i]].name);
        for (char *p = name; *p; p++)
            *p = *p == '-' ? '_' : *p;
        json_key(out, name);
        str_printf(out, "%lld", (long long)option_int(o, ids[i]));
    }
    str_puts(out, "}");
}

static void write_model(struct str *out, const struct engine_info *m)
{
    json_key(out, "model");
    str_printf(out, "{\"digest\":\"%s\",\"id_digest\":\"%s\",\"bytes\":%lld,\"parts\":[", m->model_digest, m->id_digest,
               (long long)m->model_bytes);
    const struct {
        bool there;
        const char *name;
        int32_t width;
    } parts[] = {{m->has_indexer, "indexer", m->indexer_d_model},
                 {m->has_search, "search", m->search_d_model},
                 {m->has_recommend, "recommend", m->recommend_d_model},
                 {m->has_tokenizer, "tokenizer", 0}};
    for (int i = 0; i < 4; i++) {
        if (!parts[i].there)
            continue;
        json_comma(out);
        str_printf(out, "{\"name\":\"%s\"", parts[i].name);
        if (parts[i].width)
            str_printf(out, ",\"d_model\":%d", parts[i].width);
        str_puts(out, "}");
    }
    str_puts(out, "],\"codes\":[");
    for (int32_t i = 0; i < m->positions; i++)
        str_printf(out, "%s%d", i ? "," : "", m->codes[i]);
    str_puts(out, "]}");
}

enum http_next admin_info(struct call *c)
{
    struct engine_info m;
    memset(&m, 0, sizeof m);
    engine_info(atomic_load(&c->server->engine), &m);
    struct str *out = answer_json(c, 200);
    str_printf(out, "{\"name\":\"semindex\",\"version\":\"%s\"", SEMINDEX_VERSION);
    write_model(out, &m);
    json_key(out, "device");
    json_string(out, m.device);
    str_printf(out, ",\"documents\":%lld,\"generation\":%lld,\"trie_bytes\":%lld", (long long)m.documents, (long long)m.generation,
               (long long)m.trie_bytes);
    write_limits(out, c->server->o);
    str_puts(out, "}\n");
    return HTTP_ANSWERED;
}

static void write_gauges(struct str *out, struct server *s)
{
    struct engine *engine = atomic_load(&s->engine);
    struct engine_info m;
    memset(&m, 0, sizeof m);
    metrics_gauge(out, "up_seconds", "Time since the start", (double)(clock_ms() - s->started_ms) / 1e3);
    metrics_gauge(out, "connections", "Open connections", (double)http_connections(s->edge));
    metrics_gauge(out, "connections_cut", "Connections that a deadline ended, since the start", (double)http_cut(s->edge));
    metrics_gauge(out, "ready", "1 when requests are served", engine && !atomic_load(&s->draining));
    if (!engine)
        return;
    engine_info(engine, &m);
    metrics_gauge(out, "queue_waiting", "Queries that wait for the model", (double)batcher_waiting(s->batcher, false));
    metrics_gauge(out, "ingest_waiting", "Changes that wait", (double)batcher_waiting(s->batcher, true));
    metrics_gauge(out, "documents", "Documents in the catalogue", (double)m.documents);
    metrics_gauge(out, "generation", "Generation that searches see", (double)m.generation);
    metrics_gauge(out, "trie_bytes", "Memory of the trie", (double)m.trie_bytes);
    metrics_gauge(out, "model_bytes", "Memory of the model", (double)m.model_bytes);
}

enum http_next admin_metrics(struct call *c)
{
    const char *names[32];
    struct str *out = answer_json(c, 200);
    c->request->answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    for (int i = 0; i < route_count(); i++) {
        const struct route *r = &route_table[i];
        names[i] = arena_printf(&c->request->arena, "%s %s", r->method, r->pattern);
    }
    metrics_write(out, names, route_count());
    write_gauges(out, c->server);
    return HTTP_ANSWERED;
}

enum http_next admin_problem(struct call *c)
{
    const struct problem_kind *kind = problem_find(c->parameter);
    if (!kind) {
        answer_problem(c, 404, "not_found", "there is no such problem", NULL);
        return HTTP_ANSWERED;
    }
    struct str *out = answer_json(c, 200);
    str_printf(out, "{\"code\":\"%s\",\"status\":%d", kind->code, kind->status);
    json_key(out, "title");
    json_string(out, kind->title);
    json_key(out, "meaning");
    json_string(out, kind->meaning);
    str_puts(out, "}\n");
    return HTTP_ANSWERED;
}
