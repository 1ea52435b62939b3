/* json_out.h: writing JSON into a struct str. Callers write the punctuation; these write what needs care. */
#ifndef SEMINDEX_JSON_OUT_H
#define SEMINDEX_JSON_OUT_H

#include "../core/base/mem.h"
#include <stdbool.h>
#include <stdint.h>

void json_string(struct str *out, const char *text); /* quoted and escaped; NULL = null; invalid UTF-8 becomes U+FFFD */
void json_number(struct str *out, double value);     /* 9 significant digits; infinities and NaN = null */
void json_bool(struct str *out, bool value);
/* ,"name": with the comma only when something stands before it ({ or [ does not count). */
void json_key(struct str *out, const char *name);
void json_comma(struct str *out);

#endif
