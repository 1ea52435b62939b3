/* python_literal.h: one Python literal (what repr() prints: dict, list, tuple, str, numbers, True, False, None) as a cJSON tree.
 *
 * Dicts become objects, lists and tuples arrays, None null. Keys must be strings. A tree can hold neither NUL nor bytes that are no UTF-8:
 * U+FFFD stands for those. */
#ifndef SEMINDEX_PYTHON_LITERAL_H
#define SEMINDEX_PYTHON_LITERAL_H

#include "../base/err.h"

#include <cjson/cJSON.h>
#include <stddef.h>

/* Reads text[0..size), which must hold one literal and white space only. The caller deletes the tree. NULL with ERR_DATA: what is wrong and
 * at which byte (from 1), without a file name. Nesting beyond 100 levels is refused. */
cJSON *python_literal_parse(const char *text, size_t size, struct err *e);

#endif
