/* serve.c: the life of the daemon: listen at once, load in the background, serve, drain, end.
 *
 * The socket is open before the model is read, so that /livez and /readyz tell a supervisor what is going on while everything else gets a
 * 503 with Retry-After. Signals are blocked in every thread and taken by the main thread through sigtimedwait: no handler, no race. After
 * SIGTERM or SIGINT: /readyz says no, the edge drains (http_drain), what still waits is answered, then batcher, edge and engine go in this
 * order; a second signal ends the process at once. systemd hears READY, STOPPING and, while the model worker makes progress, WATCHDOG. */
#include "json_out.h"
#include "log.h"
#include "server.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { STUCK_MS = 120 * 1000, FAULT_SEEN_MS = 500 };

struct loader {
    struct server *server;
    struct engine_options options;
    pthread_t thread;
    volatile sig_atomic_t stop;
    _Atomic int ended; /* 0 = running, 1 = loaded, -1 = failed: err says why */
    struct err err;
};

void engine_options_from(const struct options *o, struct engine_options *out)
{
    *out = (struct engine_options){
        .model = option_text(o, OPT_MODEL),
        .catalog = option_text(o, OPT_CATALOG),
        .device = option_text(o, OPT_DEVICE),
        .threads = (int)option_int(o, OPT_THREADS),
        .max_beam = (int32_t)option_int(o, OPT_MAX_BEAM),
        .max_query_tokens = (int32_t)option_int(o, OPT_MAX_QUERY_TOKENS),
        .max_document_tokens = (int32_t)option_int(o, OPT_MAX_DOCUMENT_TOKENS),
        .max_history = (int32_t)option_int(o, OPT_MAX_HISTORY),
        .batch_tokens = (int32_t)option_int(o, OPT_BATCH_TOKENS),
        .batch_rows = (int32_t)option_int(o, OPT_BATCH_ROWS),
        .recordings_mib = (int32_t)option_int(o, OPT_RECORDINGS_MIB),
        .renormalise = option_flag(o, OPT_RENORMALISE),
    };
}

void mapping_limits_from(const struct options *o, struct mapping_limits *out)
{
    *out = (struct mapping_limits){
        .max_limit = option_int(o, OPT_MAX_LIMIT),
        .max_offset = option_int(o, OPT_MAX_OFFSET),
        .max_beam = option_int(o, OPT_MAX_BEAM),
        .max_query_bytes = option_int(o, OPT_MAX_QUERY_BYTES),
        .max_queries = option_int(o, OPT_MAX_QUERIES),
        .max_documents = option_int(o, OPT_MAX_DOCUMENTS),
        .max_timeout_ms = option_int(o, OPT_MAX_TIMEOUT_MS),
        .request_timeout_ms = option_int(o, OPT_REQUEST_TIMEOUT_MS),
        .max_json_values = option_int(o, OPT_MAX_JSON_VALUES),
    };
}

/* ---- a lost device ---- */

static struct server *the_server; /* for a callback that has no state: a process serves once */

/* On the thread that met the fault; the process ends when this returns. Whoever balances load hears it first. */
static void device_failed(const char *line)
{
    struct timespec pause = {.tv_nsec = FAULT_SEEN_MS * 1000 * 1000};
    atomic_store(&the_server->failed, true);
    atomic_store(&the_server->draining, true);
    sd_notifyf(0, "STATUS=%s", line);
    nanosleep(&pause, NULL);
}

/* ---- loading ---- */

static void note_line(void *state, const char *line)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "%s", line);
}

static void open_batcher(struct server *s, struct engine *engine)
{
    struct batcher_options b = {
        .engine = engine,
        .queue = option_int(s->o, OPT_QUEUE),
        .ingest_queue = option_int(s->o, OPT_INGEST_QUEUE),
        .ingest_threads = (int)option_int(s->o, OPT_INGEST_THREADS),
        .batch_tokens = option_int(s->o, OPT_BATCH_TOKENS),
        .batch_rows = option_int(s->o, OPT_BATCH_ROWS),
        .lanes = engine_lanes(engine),
        .done = route_work_done,
        .gone = route_work_gone,
    };
    s->batcher = batcher_open(&b);
}

static void *load_main(void *arg)
{
    struct loader *l = arg;
    struct run run = {.note = note_line, .stop = &l->stop};
    int64_t began = clock_ms();
    struct engine *engine = engine_open(&l->options, &run, &l->err);
    if (!engine) {
        atomic_store(&l->ended, -1);
        return NULL;
    }
    struct engine_info m;
    memset(&m, 0, sizeof m);
    engine_info(engine, &m);
    memcpy(l->server->digest, m.model_digest, sizeof m.model_digest);
    open_batcher(l->server, engine);
    atomic_store(&l->server->engine, engine);
    log_line(LOG_LEVEL_INFO, "ready after %lld ms: model %.12s on %s, %lld documents, generation %lld", (long long)(clock_ms() - began),
             m.model_digest, m.device, (long long)m.documents, (long long)m.generation);
    sd_notifyf(0, "READY=1\nSTATUS=serving on %s", http_url(l->server->edge));
    atomic_store(&l->ended, 1);
    return NULL;
}

/* ---- waiting for the end ---- */

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void pet_watchdog(struct server *s, int64_t *last_ms, int64_t every_ms)
{
    int64_t now = clock_ms();
    bool stuck = atomic_load(&s->engine) && batcher_running_ms(s->batcher) > STUCK_MS;
    if (every_ms == 0 || now - *last_ms < every_ms || stuck)
        return;
    *last_ms = now;
    sd_notify(0, "WATCHDOG=1");
}

/* Until a signal comes (0) or loading has failed (-1, e). */
static int wait_for_end(struct server *s, struct loader *l, const sigset_t *set, struct err *e)
{
    uint64_t watchdog_us = 0;
    int64_t petted = 0, every_ms = sd_watchdog_enabled(0, &watchdog_us) > 0 ? (int64_t)(watchdog_us / 2000) : 0;
    struct timespec tick = {.tv_nsec = 200 * 1000 * 1000};
    for (;;) {
        int sig = sigtimedwait(set, NULL, &tick);
        if (sig > 0) {
            log_line(LOG_LEVEL_INFO, "%s: draining", sig == SIGTERM ? "SIGTERM" : "SIGINT");
            return 0;
        }
        if (atomic_load(&l->ended) < 0) {
            if (e)
                *e = l->err;
            return -1;
        }
        pet_watchdog(s, &petted, every_ms);
    }
}

static void shut_down(struct server *s, struct loader *l, const sigset_t *set)
{
    sd_notify(0, "STOPPING=1\nSTATUS=draining");
    atomic_store(&s->draining, true);
    __atomic_store_n(&l->stop, 1, __ATOMIC_RELAXED); /* ends a load that is under way */
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL); /* a second signal ends the process */
    if (http_drain(s->edge, option_int(s->o, OPT_DRAIN_TIMEOUT_MS)))
        log_line(LOG_LEVEL_WARN, "%lld connections are still open after the drain time", (long long)http_connections(s->edge));
    pthread_join(l->thread, NULL);
    batcher_stop(s->batcher);
    if (http_connections(s->edge) > 0)
        http_drain(s->edge, 1000); /* those whose waiting requests have just been answered */
    http_close(s->edge);
    batcher_free(s->batcher);
    engine_close(atomic_load(&s->engine));
}

static struct http_edge *open_edge(struct server *s, struct err *e)
{
    struct http_hooks hooks;
    struct http_options h = {
        .listen = option_text(s->o, OPT_LISTEN),
        .insecure = option_flag(s->o, OPT_INSECURE),
        .threads = (int)option_int(s->o, OPT_HTTP_THREADS),
        .max_connections = option_int(s->o, OPT_MAX_CONNECTIONS),
        .receive_timeout_ms = option_int(s->o, OPT_RECEIVE_TIMEOUT_MS),
        .send_timeout_ms = option_int(s->o, OPT_SEND_TIMEOUT_MS),
        .idle_timeout_ms = option_int(s->o, OPT_IDLE_TIMEOUT_MS),
    };
    routes_hooks(&hooks, s);
    return http_open(&h, &hooks, e);
}

static void setup_log(const struct options *o)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    enum log_level least = LOG_LEVEL_INFO;
    for (int i = 0; i < 4; i++)
        if (!strcmp(option_text(o, OPT_LOG_LEVEL), names[i]))
            least = (enum log_level)i;
    log_setup(least, !strcmp(option_text(o, OPT_LOG_FORMAT), "json"));
}

int serve_run(const struct options *o, struct err *e)
{
    struct server s = {.o = o,
                       .started_ms = clock_ms(),
                       .max_body_bytes = option_int(o, OPT_MAX_BODY_BYTES),
                       .index_timeout_ms = option_int(o, OPT_INDEX_TIMEOUT_MS)};
    struct loader l = {.server = &s};
    sigset_t set;
    if (!option_need(o, OPT_MODEL, e) || !option_need(o, OPT_CATALOG, e))
        return -1;
    setup_log(o);
    engine_options_from(o, &l.options);
    the_server = &s;
    l.options.on_fault = device_failed;
    mapping_limits_from(o, &s.limits);
    block_signals(&set);
    s.edge = open_edge(&s, e);
    if (!s.edge)
        return -1;
    printf("listening on %s\n", http_url(s.edge));
    fflush(stdout);
    CHECK(pthread_create(&l.thread, NULL, load_main, &l) == 0);
    int rc = wait_for_end(&s, &l, &set, e);
    shut_down(&s, &l, &set);
    log_line(LOG_LEVEL_INFO, "stopped");
    return rc;
}
