/* http_gate.h: the checks on a request's header that libmicrohttpd 0.9.75 leaves out, as pure functions over what it hands out. */
#ifndef SEMINDEX_HTTP_GATE_H
#define SEMINDEX_HTTP_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct header_gate { /* filled header by header with header_gate_add, then header_gate_end */
    int hosts, lengths, codings;
    int64_t content_length; /* -1 = none */
    bool chunked, expects;
    int status; /* 0 = fine so far; else the status to answer with */
    const char *detail;
};
void header_gate_init(struct header_gate *g);
void header_gate_add(struct header_gate *g, const char *name, size_t name_size, const char *value, size_t value_size);
/* target: raw, as on the wire. */
void header_gate_end(struct header_gate *g, const char *version, const char *method, const char *target);

bool request_id_valid(const char *id); /* [A-Za-z0-9._-]{1,64} */
/* Strict percent-decoding of raw[0..size) into out (room for size + 1): false for a bad escape, %00 or bytes that are no UTF-8. */
bool percent_decode(const char *raw, size_t size, char *out);

#endif
