/* http.c: libmicrohttpd behind a gate, with our own clocks.
 *
 * The library's pool of epoll threads reads and writes; a request goes through stages: header (gate, begin hook), body, handled, perhaps
 * waiting (suspended while a worker has it), answered. Early refusals swallow a body of moderate size first, so that the client reads the
 * answer instead of a reset. The library's timeout is for silence only (a byte a second lives for ever), so every connection has an
 * absolute deadline for the phase it is in, and a watchdog thread shuts its socket down when that passes. The list of connections, and
 * with it the validity of their descriptors, is under `lock`; the closed-notification comes before the library closes the descriptor.
 * Draining: a socket filter drops new SYNs while handshakes under way complete, the accept queue runs empty, and only then the listening
 * socket goes: nobody who has a connection loses it unanswered. */
#include "http.h"
#include "http_gate.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum stage { STAGE_NEW, STAGE_BODY, STAGE_DISCARD, STAGE_WAITING, STAGE_SENT };
enum { TICK_MS = 50, DRAIN_IDLE_MS = 500 };
static const size_t DISCARD_MAX = 48u << 20; /* bytes of a refused body that are swallowed before the answer */

struct http_connection {
    struct http_connection *previous, *next;
    int fd;
    bool over_limit;
    _Atomic int64_t deadline_ms; /* INT64_MAX = none (a worker has the request) */
    _Atomic int64_t idle_since;  /* 0 = a request is under way */
    _Atomic bool served;         /* one request at least has been answered */
};
struct http_edge {
    struct http_options o;
    struct http_hooks hooks;
    struct MHD_Daemon *daemon;
    int fd;
    char url[128];
    pthread_mutex_t lock; /* connections, count */
    struct http_connection *connections;
    int64_t count;
    _Atomic int64_t cut;
    _Atomic bool draining, stopping;
    _Atomic uint64_t serial;
    uint64_t salt;
    pthread_t watchdog;
};

/* ---- connections and their deadlines ---- */

static void set_deadline(struct http_connection *c, int64_t after_ms)
{
    if (c)
        atomic_store(&c->deadline_ms, after_ms < 0 ? INT64_MAX : clock_ms() + after_ms);
}

static struct http_connection *connection_add(struct http_edge *edge, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct http_connection *c = xcalloc(1, sizeof *c);
    c->fd = info ? info->connect_fd : -1;
    atomic_store(&c->idle_since, clock_ms());
    set_deadline(c, edge->o.receive_timeout_ms);
    pthread_mutex_lock(&edge->lock);
    c->over_limit = ++edge->count > edge->o.max_connections;
    c->next = edge->connections;
    if (c->next)
        c->next->previous = c;
    edge->connections = c;
    pthread_mutex_unlock(&edge->lock);
    return c;
}

static void connection_remove(struct http_edge *edge, struct http_connection *c)
{
    pthread_mutex_lock(&edge->lock);
    if (c->next)
        c->next->previous = c->previous;
    if (c->previous)
        c->previous->next = c->next;
    else
        edge->connections = c->next;
    edge->count--;
    pthread_mutex_unlock(&edge->lock);
    free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
    struct http_edge *edge = cls;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = connection_add(edge, mhd);
    } else if (*context) {
        connection_remove(edge, *context);
        *context = NULL;
    }
}

static void cut_late_connections(struct http_edge *edge, int64_t now)
{
    pthread_mutex_lock(&edge->lock);
    for (struct http_connection *c = edge->connections; c; c = c->next)
        if (now >= atomic_load(&c->deadline_ms)) {
            atomic_store(&c->deadline_ms, INT64_MAX);
            atomic_fetch_add(&edge->cut, 1);
            shutdown(c->fd, SHUT_RDWR);
        }
    pthread_mutex_unlock(&edge->lock);
}

static void *watchdog_main(void *arg)
{
    struct http_edge *edge = arg;
    while (!atomic_load(&edge->stopping)) {
        int64_t now = clock_ms();
        cut_late_connections(edge, now);
        edge->hooks.tick(edge->hooks.state, now);
        usleep(TICK_MS * 1000);
    }
    return NULL;
}

const char *http_library_version(void)
{
    return MHD_get_version();
}

int64_t http_connections(struct http_edge *edge)
{
    pthread_mutex_lock(&edge->lock);
    int64_t n = edge->count;
    pthread_mutex_unlock(&edge->lock);
    return n;
}

int64_t http_cut(struct http_edge *edge)
{
    return atomic_load(&edge->cut);
}

const char *http_url(const struct http_edge *edge)
{
    return edge->url;
}

/* ---- one request ---- */

static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_edge *edge = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_request *r = xcalloc(1, sizeof *r);
    r->edge = edge;
    r->mhd = mhd;
    r->connection = info ? info->socket_context : NULL;
    r->target = xstrdup(uri);
    r->content_length = -1;
    r->arrived_ms = clock_ms();
    r->arrived_s = clock_s();
    arena_init(&r->arena, 0);
    if (r->connection) {
        atomic_store(&r->connection->idle_since, 0);
        r->over_limit = r->connection->over_limit;
        if (atomic_load(&r->connection->served)) /* the first request has its time from the connection's start */
            set_deadline(r->connection, edge->o.receive_timeout_ms);
    }
    return r;
}

static void request_free(struct http_request *r)
{
    free(r->target);
    free(r->path);
    free(r->content_type);
    str_free(&r->body);
    str_free(&r->answer.body);
    arena_free(&r->arena);
    free(r);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode why)
{
    struct http_edge *edge = cls;
    struct http_request *r = *con_cls;
    (void)mhd;
    if (!r)
        return;
    *con_cls = NULL;
    struct http_connection *c = r->connection;
    if (r->method[0])
        edge->hooks.done(edge->hooks.state, r, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    request_free(r);
    if (c) {
        atomic_store(&c->served, true);
        atomic_store(&c->idle_since, clock_ms());
        set_deadline(c, edge->o.idle_timeout_ms);
    }
}

static enum MHD_Result gate_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_size, const char *value,
                                   size_t value_size)
{
    (void)kind;
    header_gate_add(cls, name, name_size, value ? value : "", value ? value_size : 0);
    return MHD_YES;
}

static const char *header(struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

static void name_request(struct http_request *r)
{
    const char *given = header(r, "X-Request-Id");
    uint64_t n = atomic_fetch_add(&r->edge->serial, 1);
    if (given && request_id_valid(given))
        snprintf(r->id, sizeof r->id, "%s", given);
    else
        snprintf(r->id, sizeof r->id, "%016llx-%llx", (unsigned long long)r->edge->salt, (unsigned long long)n);
}

static void split_target(struct http_request *r)
{
    r->path = xstrdup(r->target);
    char *question = strchr(r->path, '?');
    if (question) {
        *question = 0;
        r->query = question + 1;
    }
}

/* Headers are complete: copies what is needed and applies the gate. False: r->answer holds the refusal. */
static bool open_request(struct http_request *r, const char *method, const char *version, bool *expects)
{
    struct header_gate g;
    header_gate_init(&g);
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, gate_header, &g);
    header_gate_end(&g, version, method, r->target);
    r->arrived_ms = clock_ms();
    r->arrived_s = clock_s();
    r->head = !strcmp(method, "HEAD");
    snprintf(r->method, sizeof r->method, "%s", r->head ? "GET" : method);
    name_request(r);
    split_target(r);
    const char *type = header(r, "Content-Type");
    r->content_type = type ? xstrdup(type) : NULL;
    r->content_length = g.content_length;
    r->chunked = g.chunked;
    *expects = g.expects;
    if (g.status == 0)
        return true;
    r->edge->hooks.refuse(r->edge->hooks.state, r, g.status, "bad_request", g.detail);
    r->answer.close = true;
    return false;
}

static void add_headers(struct http_request *r, struct MHD_Response *response)
{
    char text[256];
    MHD_add_response_header(response, "Content-Type", r->answer.content_type ? r->answer.content_type : "application/json");
    MHD_add_response_header(response, "X-Request-Id", r->id);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    snprintf(text, sizeof text, "%s%stotal;dur=%.3f", r->timing, *r->timing ? ", " : "", (clock_s() - r->arrived_s) * 1e3);
    MHD_add_response_header(response, "Server-Timing", text);
    if (r->answer.allow)
        MHD_add_response_header(response, "Allow", r->answer.allow);
    if (r->answer.retry_after_s) {
        snprintf(text, sizeof text, "%d", r->answer.retry_after_s);
        MHD_add_response_header(response, "Retry-After", text);
    }
    if (r->answer.close || atomic_load(&r->edge->draining) || r->over_limit)
        MHD_add_response_header(response, "Connection", "close");
}

static enum MHD_Result send_answer(struct http_request *r)
{
    CHECK(r->answer.status);
    size_t size = r->answer.body.size;
    void *bytes = r->answer.body.data ? r->answer.body.data : xmalloc(1);
    r->answer.body = (struct str){0};
    r->answer.sent_bytes = (int64_t)size;
    struct MHD_Response *response = MHD_create_response_from_buffer(size, bytes, MHD_RESPMEM_MUST_FREE);
    CHECK(response);
    add_headers(r, response);
    r->stage = STAGE_SENT;
    set_deadline(r->connection, r->edge->o.send_timeout_ms);
    enum MHD_Result rc = MHD_queue_response(r->mhd, (unsigned)r->answer.status, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result start(struct http_request *r, const char *method, const char *version)
{
    bool expects = false;
    r->stage = STAGE_BODY;
    if (!open_request(r, method, version, &expects))
        return send_answer(r);
    r->edge->hooks.begin(r->edge->hooks.state, r);
    if (!r->answer.status)
        return MHD_YES;
    bool body = r->chunked || r->content_length > 0;
    if (body && (expects || r->content_length > (int64_t)DISCARD_MAX)) {
        r->answer.close = true;
        return send_answer(r);
    }
    r->stage = STAGE_DISCARD;
    return MHD_YES;
}

static enum MHD_Result take_body(struct http_request *r, const char *bytes, size_t *size)
{
    size_t n = *size;
    *size = 0;
    if (r->stage == STAGE_BODY && n > r->body_limit - r->body.size) {
        char detail[96];
        snprintf(detail, sizeof detail, "the body is longer than %zu bytes", r->body_limit);
        r->edge->hooks.refuse(r->edge->hooks.state, r, r->body_limit ? 413 : 400, r->body_limit ? "body_too_large" : "unexpected_body",
                              r->body_limit ? detail : "this request takes no body");
        r->stage = STAGE_DISCARD;
        str_free(&r->body);
    }
    if (r->stage == STAGE_BODY)
        str_append(&r->body, bytes, n);
    r->discarded += r->stage == STAGE_DISCARD ? n : 0;
    return r->discarded > DISCARD_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result dispatch(struct http_request *r)
{
    struct http_hooks *h = &r->edge->hooks;
    if (r->stage == STAGE_WAITING)
        h->finish(h->state, r);
    else if (r->stage == STAGE_BODY && h->handle(h->state, r) == HTTP_WAIT) {
        r->stage = STAGE_WAITING;
        set_deadline(r->connection, -1);
        MHD_suspend_connection(r->mhd);
        h->submit(h->state, r);
        return MHD_YES;
    }
    return send_answer(r);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_size, void **con_cls)
{
    struct http_request *r = *con_cls;
    (void)cls;
    (void)mhd;
    (void)url;
    if (!r)
        return MHD_NO;
    if (r->stage == STAGE_NEW)
        return start(r, method, version);
    if (*upload_size)
        return take_body(r, upload, upload_size);
    return dispatch(r);
}

void http_resume(struct http_request *r)
{
    MHD_resume_connection(r->mhd);
}

bool http_gone(struct http_request *r, bool half)
{
    struct pollfd p = {.fd = r->connection ? r->connection->fd : -1, .events = half ? POLLRDHUP : 0};
    return p.fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | (half ? POLLRDHUP : 0)));
}

/* ---- opening ---- */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* "HOST:PORT" or "[V6]:PORT" into host and port; both point into copy. */
static int split_listen(char *copy, char **host, char **port, const char *listen, struct err *e)
{
    char *colon = strrchr(copy, ':');
    size_t n = strlen(copy);
    if (!colon || colon == copy || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) || atol(colon + 1) > 65535)
        return err_set(e, ERR_CONFIG, "--listen %s: HOST:PORT is needed, with a port of 0..65535", listen);
    *colon = 0;
    *port = colon + 1;
    *host = copy;
    if (copy[0] == '[' && colon > copy + 1 && colon[-1] == ']') {
        *host = copy + 1;
        colon[-1] = 0;
    } else if (memchr(copy, ':', n - strlen(*port) - 1)) {
        return err_set(e, ERR_CONFIG, "--listen %s: an IPv6 address stands in brackets, [::1]:8080", listen);
    }
    return 0;
}

static int bind_address(struct http_edge *edge, const struct addrinfo *a, struct err *e)
{
    const char *listen_text = edge->o.listen;
    if (!is_loopback(a->ai_addr) && !edge->o.insecure)
        return err_set(e, ERR_CONFIG,
                       "--listen %s: other machines would reach this address and there are no keys; use 127.0.0.1, or "
                       "--insecure if something else protects it",
                       listen_text);
    int one = 1;
    edge->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (edge->fd < 0)
        return err_set(e, ERR_OS, "--listen %s: %s", listen_text, strerror(errno));
    setsockopt(edge->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(edge->fd, a->ai_addr, a->ai_addrlen) || listen(edge->fd, 4096)) {
        int why = errno;
        close(edge->fd);
        edge->fd = -1;
        if (why == EADDRINUSE)
            return err_set(e, ERR_UNAVAILABLE, "--listen %s: the port is in use; another server listens there", listen_text);
        return err_set(e, why == EACCES ? ERR_NO_PERM : ERR_CONFIG, "--listen %s: %s", listen_text, strerror(why));
    }
    return 0;
}

static void name_url(struct http_edge *edge)
{
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    char host[64] = "?";
    CHECK(getsockname(edge->fd, (struct sockaddr *)&a, &size) == 0);
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)&a;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(edge->url, sizeof edge->url, "http://[%s]:%d", host, ntohs(six->sin6_port));
    } else {
        const struct sockaddr_in *four = (const void *)&a;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(edge->url, sizeof edge->url, "http://%s:%d", host, ntohs(four->sin_port));
    }
}

static int open_socket(struct http_edge *edge, struct err *e)
{
    char *copy = xstrdup(edge->o.listen), *host = NULL, *port = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int rc = split_listen(copy, &host, &port, edge->o.listen, e);
    if (rc)
        goto out;
    int why = getaddrinfo(host, port, &hints, &found);
    if (why) {
        rc = err_set(e, ERR_CONFIG, "--listen %s: %s", edge->o.listen, gai_strerror(why));
        goto out;
    }
    rc = bind_address(edge, found, e);
    if (rc == 0)
        name_url(edge);
out:
    if (found)
        freeaddrinfo(found);
    free(copy);
    return rc;
}

static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static struct MHD_Daemon *start_daemon(struct http_edge *edge)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME;
    int threads = edge->o.threads;
    unsigned limit = (unsigned)(edge->o.max_connections * 2 + 64 * threads); /* beyond ours there is room to say 503 */
    struct MHD_OptionItem pool[] = {{threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, threads, NULL}, {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, edge, MHD_OPTION_LISTEN_SOCKET, edge->fd, MHD_OPTION_CONNECTION_LIMIT, limit,
                            MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536,
                            MHD_OPTION_URI_LOG_CALLBACK, on_target, edge, MHD_OPTION_NOTIFY_COMPLETED, on_completed, edge,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, edge, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, pool,
                            MHD_OPTION_END);
}

struct http_edge *http_open(const struct http_options *o, const struct http_hooks *hooks, struct err *e)
{
    struct http_edge *edge = xcalloc(1, sizeof *edge);
    edge->o = *o;
    edge->hooks = *hooks;
    edge->fd = -1;
    pthread_mutex_init(&edge->lock, NULL);
    CHECK(getentropy(&edge->salt, sizeof edge->salt) == 0);
    raise_descriptor_limit();
    if (open_socket(edge, e))
        goto fail;
    edge->daemon = start_daemon(edge);
    if (!edge->daemon) {
        err_set(e, ERR_OS, "--listen %s: the HTTP server does not start: %s", o->listen, strerror(errno));
        close(edge->fd);
        goto fail;
    }
    CHECK(pthread_create(&edge->watchdog, NULL, watchdog_main, edge) == 0);
    return edge;
fail:
    pthread_mutex_destroy(&edge->lock);
    free(edge);
    return NULL;
}

/* ---- draining ---- */

/* Drops packets that carry SYN (byte 13 of the TCP header, bit 2) at the listening socket; handshakes under way go on. */
static void refuse_new_handshakes(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    };
    struct sock_fprog program = {.len = 4, .filter = code};
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program); /* where it is refused, the window is microseconds */
}

static bool backlog_empty(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
        return true;
    return info.tcpi_unacked == 0; /* of a listening socket: connections that wait to be accepted */
}

static void stop_listening(struct http_edge *edge)
{
    int calm = 0;
    refuse_new_handshakes(edge->fd);
    for (int i = 0; i < 200 && calm < 5; i++) {
        calm = backlog_empty(edge->fd) ? calm + 1 : 0;
        usleep(10 * 1000);
    }
    MHD_socket fd = MHD_quiesce_daemon(edge->daemon);
    usleep(20 * 1000);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    edge->fd = -1;
}

/* Ends connections that have been silent for a while and have sent nothing that nobody read yet. */
static void close_idle(struct http_edge *edge, int64_t drain_began)
{
    int64_t now = clock_ms();
    pthread_mutex_lock(&edge->lock);
    for (struct http_connection *c = edge->connections; c; c = c->next) {
        int64_t since = atomic_load(&c->idle_since);
        int waiting = 0;
        if (!since || now - (since > drain_began ? since : drain_began) < DRAIN_IDLE_MS)
            continue;
        if (ioctl(c->fd, FIONREAD, &waiting) == 0 && waiting == 0)
            shutdown(c->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&edge->lock);
}

int http_drain(struct http_edge *edge, int64_t timeout_ms)
{
    int64_t began = clock_ms();
    atomic_store(&edge->draining, true);
    if (edge->fd >= 0)
        stop_listening(edge);
    while (http_connections(edge) > 0 && clock_ms() - began < timeout_ms) {
        close_idle(edge, began);
        usleep(10 * 1000);
    }
    return http_connections(edge) > 0 ? -1 : 0;
}

void http_close(struct http_edge *edge)
{
    if (!edge)
        return;
    atomic_store(&edge->stopping, true);
    pthread_join(edge->watchdog, NULL);
    MHD_stop_daemon(edge->daemon);
    pthread_mutex_destroy(&edge->lock);
    free(edge);
}
