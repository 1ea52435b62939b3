/* mapping.h: request bodies become engine queries and put batches, every wrong field named. Pure: no sockets, no engine calls. */
#ifndef SEMINDEX_MAPPING_H
#define SEMINDEX_MAPPING_H

#include "../core/engine.h"
#include "json_gate.h"
#include "problem.h"
#include <stdbool.h>
#include <stdint.h>

struct cJSON;

struct mapping_limits { /* from the options; all appear in /info */
    int64_t max_limit, max_offset, max_beam, max_query_bytes, max_queries, max_documents, max_timeout_ms, request_timeout_ms;
    int64_t max_json_values, max_history;
};

enum hit_field { FIELD_ID = 1, FIELD_TITLE = 2, FIELD_TEXT = 4, FIELD_ATTRIBUTES = 8, FIELD_ALL = 15 };

struct body { /* a parsed body; body_free when the request is done: mapped strings point into it */
    struct cJSON *root;
    struct json_spans spans; /* of "attributes" in documents */
    const char *text;
    size_t size;
};
/* Gate and parse. -1 with ERR_DATA (not JSON: 400) or ERR_TOO_LARGE (413). text[size] is 0 and outlives the body. */
int body_parse(struct body *b, const char *text, size_t size, int64_t max_values, struct err *e);
void body_free(struct body *b);

struct search_request {
    struct engine_query **queries; /* in the arena */
    int32_t count;
    bool many;       /* "queries": the answer is {"results": [..]} */
    unsigned fields; /* FIELD_* of a hit's document */
    bool explain;
    int64_t timeout_ms;
};
/* Errors go to p; the result is usable when p->count is 0. A list that is too long sets *too_many to its message (413). */
void map_search(const struct body *b, const struct mapping_limits *l, struct search_request *out, struct problems *p,
                const char **too_many);
void map_recommend(const struct body *b, const struct mapping_limits *l, struct search_request *out, struct problems *p,
                   const char **too_many);
void map_index(const struct body *b, const struct mapping_limits *l, struct engine_put_batch *out, struct problems *p,
               const char **too_many);
/* One document object (for the command line's JSON lines, where other members are let through): -1 with the first error. */
int map_document_line(const struct body *b, struct arena *a, struct engine_put *out, struct err *e);
int mode_from_name(enum engine_task task, const char *name, enum engine_mode *mode); /* -1 = none */

#endif
