/* document.h: what a document is, how it becomes the text that models and the word index read, and what an id may be.
 *
 * One rule turns the four fields into text, wherever the document came from (corpus, request, store), so an ID learned from a corpus fits the
 * same document sent again later. Strings are NUL-terminated UTF-8 and owned by whoever made the struct. */
#ifndef SEMINDEX_DOCUMENT_H
#define SEMINDEX_DOCUMENT_H

#include "../base/err.h"
#include "../base/mem.h"
#include <stddef.h>

struct document {
    const char *id;
    const char *title, *text; /* NULL = empty */
    const char *attributes;   /* JSON object text or NULL */
};

enum { DOCUMENT_ID_MOST = 512 };

/* 0 when id[0..size) may name a document: 1..512 bytes of UTF-8 without control characters (U+0000..1F, 7F..9F); else -1, ERR_INVALID, and a
 * message that names what is wrong and where, without naming the field. */
int document_check_id(const char *id, size_t size, struct err *e);

/* Appends the document's text to out: `title text`, one space between. When the attributes hold an item's fields (any of "brand",
 * "categories", "description"): `title. categories[0] joined by " > ". brand. description. text`. Empty fields are left out. */
void document_text(const struct document *d, struct str *out);

/* SHA-256 over title, text and attributes with their lengths, so that no two contents share a byte string: equal hash = unchanged. A NULL
 * field is as an empty one. The id takes no part. */
void document_hash(const struct document *d, char hex[65]);

#endif
