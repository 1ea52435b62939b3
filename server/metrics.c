/* metrics.c: fixed arrays of atomics, one per series; reading them gives a text that is consistent enough for a scrape.
 *
 * Series are known at compile time (stages, counters) or bounded by the route table x the statuses that problem.c can answer with, so
 * memory never grows with what clients send. Bucket bounds cover a cached lookup (0.5 ms) up to a long ingest (100 s). */
#include "metrics.h"
#include <stdatomic.h>
#include <stddef.h>

enum { ROUTES = 32, STATUSES = 24, BUCKETS = 16 };
static const double bounds[BUCKETS] = {.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100};
static const char *const stage_names[METRIC_STAGES] = {"http", "queue", "encode", "decode", "store", "index"};
static const struct {
    const char *name, *help;
} counters[METRIC_COUNTERS] = {
    {"queries_total", "Queries run by the model worker"},
    {"batches_total", "Batches of queries run"},
    {"documents_created_total", "Documents created"},
    {"documents_updated_total", "Documents replaced"},
    {"documents_unchanged_total", "Documents sent again unchanged"},
    {"documents_deleted_total", "Documents deleted"},
    {"queue_refused_total", "Requests refused because a queue was full"},
    {"deadline_total", "Requests whose deadline passed"},
    {"client_gone_total", "Requests dropped because their client had gone"},
    {"queries_truncated_total", "Queries cut to what the model reads"},
    {"recommend_fallback_total", "Recommendations answered with popular items"},
};

struct histogram {
    _Atomic int64_t buckets[BUCKETS + 1];
    _Atomic int64_t micros;
};
static struct histogram stages[METRIC_STAGES];
static _Atomic int64_t counts[METRIC_COUNTERS];
static _Atomic int64_t requests[ROUTES][STATUSES];
static _Atomic int status_of[STATUSES]; /* which status a column counts; 0 = free */

void metrics_stage(enum metric_stage stage, double seconds)
{
    int b = 0;
    while (b < BUCKETS && seconds > bounds[b])
        b++;
    atomic_fetch_add(&stages[stage].buckets[b], 1);
    atomic_fetch_add(&stages[stage].micros, (int64_t)(seconds * 1e6));
}

void metrics_count(enum metric_counter counter, int64_t n)
{
    atomic_fetch_add(&counts[counter], n);
}

static int column(int status)
{
    for (int i = 0; i < STATUSES - 1; i++) {
        int free_slot = 0;
        if (atomic_load(&status_of[i]) == status)
            return i;
        if (atomic_compare_exchange_strong(&status_of[i], &free_slot, status) || free_slot == status)
            return i;
    }
    return STATUSES - 1;
}

void metrics_request(int route, int status, double seconds)
{
    atomic_fetch_add(&requests[route >= 0 && route < ROUTES ? route : ROUTES - 1][column(status)], 1);
    metrics_stage(STAGE_HTTP, seconds);
}

static void write_stages(struct str *out)
{
    str_puts(out, "# HELP semindex_stage_seconds Time per stage of a request\n# TYPE semindex_stage_seconds histogram\n");
    for (int s = 0; s < METRIC_STAGES; s++) {
        int64_t sum = 0;
        for (int b = 0; b <= BUCKETS; b++) {
            sum += atomic_load(&stages[s].buckets[b]);
            if (b < BUCKETS)
                str_printf(out, "semindex_stage_seconds_bucket{stage=\"%s\",le=\"%g\"} %lld\n", stage_names[s], bounds[b], (long long)sum);
            else
                str_printf(out, "semindex_stage_seconds_bucket{stage=\"%s\",le=\"+Inf\"} %lld\n", stage_names[s], (long long)sum);
        }
        str_printf(out, "semindex_stage_seconds_sum{stage=\"%s\"} %.6f\nsemindex_stage_seconds_count{stage=\"%s\"} %lld\n", stage_names[s],
                   (double)atomic_load(&stages[s].micros) / 1e6, stage_names[s], (long long)sum);
    }
}

static void write_requests(struct str *out, const char *const *names, int routes)
{
    str_puts(out, "# HELP semindex_http_requests_total Requests by route and status\n# TYPE semindex_http_requests_total counter\n");
    for (int r = 0; r < ROUTES; r++)
        for (int c = 0; c < STATUSES; c++) {
            int64_t n = atomic_load(&requests[r][c]);
            if (n)
                str_printf(out, "semindex_http_requests_total{route=\"%s\",status=\"%d\"} %lld\n", r < routes ? names[r] : "none",
                           atomic_load(&status_of[c]), (long long)n);
        }
}

void metrics_write(struct str *out, const char *const *route_names, int routes)
{
    write_requests(out, route_names, routes);
    write_stages(out);
    for (int i = 0; i < METRIC_COUNTERS; i++)
        str_printf(out, "# HELP semindex_%s %s\n# TYPE semindex_%s counter\nsemindex_%s %lld\n", counters[i].name, counters[i].help,
                   counters[i].name, counters[i].name, (long long)atomic_load(&counts[i]));
}

void metrics_gauge(struct str *out, const char *name, const char *help, double value)
{
    str_printf(out, "# HELP semindex_%s %s\n# TYPE semindex_%s gauge\nsemindex_%s %.15g\n", name, help, name, name, value);
}
