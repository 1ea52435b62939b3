/* json_gate.h: one strict pass over a request body before any JSON library sees it. */
#ifndef SEMINDEX_JSON_GATE_H
#define SEMINDEX_JSON_GATE_H

#include "../core/base/err.h"
#include "../core/base/mem.h"
#include <stddef.h>
#include <stdint.h>

struct json_span { /* bytes [begin, end) of one value in the body */
    size_t begin, end;
};
struct json_limits {
    int32_t depth;        /* nested arrays and objects; at most 32 */
    int64_t values;       /* strings, numbers, literals, arrays, objects together */
    const char *span_key; /* record where the values of this key stand, in objects nested span_depth deep (the root is 1); NULL = none */
    int32_t span_depth;
};
struct json_spans { /* owned by the caller, json_spans_free */
    struct json_span *at;
    int32_t count, capacity;
};

/* RFC 8259 grammar, valid UTF-8, no \u0000, no lone surrogate, no duplicate key (compared decoded), finite numbers, nothing after the
 * value, nothing before it (no byte order mark), bounded depth and number of values. text[size] must be readable and 0. spans may be NULL.
 * 0, or -1 with ERR_DATA and a message that names the byte offset (from 0); ERR_TOO_LARGE when only a bound of `limits` is broken. */
int json_gate(const char *text, size_t size, const struct json_limits *limits, struct json_spans *spans, struct err *e);
void json_spans_free(struct json_spans *s);
/* The value at `span` without white space outside strings, appended to out. The text must have passed the gate. */
void json_compact(const char *text, struct json_span span, struct str *out);

#endif
