/* document_lines.h: documents.jsonl of a bundle, one document at a time. */
#ifndef SEMINDEX_DOCUMENT_LINES_H
#define SEMINDEX_DOCUMENT_LINES_H

#include "../text/document.h"
#include <stdint.h>

struct document_lines;
struct document_lines *document_lines_open(const char *path, struct err *e);
void document_lines_close(struct document_lines *l); /* NULL is fine */
/* 1 = a document, whose strings live until the next call; 0 = end; -1 = a line that is no object with an id: path and line are named. Empty
 * strings read as NULL; attributes come as compact JSON. */
int document_lines_next(struct document_lines *l, struct document *d, struct err *e);
int64_t document_lines_number(const struct document_lines *l); /* of the last line, from 1 */

#endif
