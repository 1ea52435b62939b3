/* safetensors_json.h: the strict scanner of a safetensors header; used by safetensors.c only. */
#ifndef SEMINDEX_SAFETENSORS_JSON_H
#define SEMINDEX_SAFETENSORS_JSON_H

#include "../base/mem.h"
#include "safetensors.h"
#include <stdbool.h>

struct scan {
    const char *label; /* path for messages */
    const unsigned char *begin, *at, *end;
};

/* One entry of the header as it stands there; sums and offsets are not judged here. */
struct header_entry {
    enum safetensors_dtype dtype;
    int32_t dims;
    int64_t shape[SAFETENSORS_DIMS];
    int64_t from, to;
};

/* -1 with "label: header byte N: what". */
int scan_fail(const struct scan *s, struct err *e, const char *what);
bool scan_take(struct scan *s, unsigned char c); /* skips blanks, then takes c if it is there */
bool scan_end(struct scan *s);                   /* only blanks are left */
/* A JSON string, decoded to valid UTF-8 without NUL, into text (cleared first). */
int scan_string(struct scan *s, struct str *text, struct err *e);
int scan_metadata(struct scan *s, struct err *e); /* an object of strings; checked, not kept */
int scan_entry(struct scan *s, const char *name, struct header_entry *entry, struct err *e);

#endif
