/* metrics.h: counters and histograms of the daemon, written as Prometheus text. Any thread may count; nothing here takes a lock. */
#ifndef SEMINDEX_METRICS_H
#define SEMINDEX_METRICS_H

#include "../core/base/mem.h"
#include <stdint.h>

enum metric_stage { STAGE_HTTP, STAGE_QUEUE, STAGE_ENCODE, STAGE_DECODE, STAGE_STORE, STAGE_INDEX, METRIC_STAGES };
enum metric_counter {
    COUNT_QUERIES,
    COUNT_BATCHES,
    COUNT_DOCUMENTS_CREATED,
    COUNT_DOCUMENTS_UPDATED,
    COUNT_DOCUMENTS_UNCHANGED,
    COUNT_DOCUMENTS_DELETED,
    COUNT_REFUSED_QUEUE,
    COUNT_DEADLINE,
    COUNT_GONE,
    COUNT_TRUNCATED,
    COUNT_FALLBACK,
    METRIC_COUNTERS
};
void metrics_stage(enum metric_stage stage, double seconds);
void metrics_count(enum metric_counter counter, int64_t n);
void metrics_request(int route, int status, double seconds); /* route: index into routes.h's table, 0..31; 31 = none */
void metrics_write(struct str *out, const char *const *route_names, int routes);
/* One gauge with its help; value as given. */
void metrics_gauge(struct str *out, const char *name, const char *help, double value);

#endif
