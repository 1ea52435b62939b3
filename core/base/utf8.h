/* utf8.h: the one decoder of UTF-8: RFC 3629, no surrogates, no overlong forms, at most U+10FFFF.
 *
 * Used where text from outside is judged (ids, messages) or mended before a library sees it (tokenizer). */
#ifndef SEMINDEX_UTF8_H
#define SEMINDEX_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at s and its code point; 0 when s[0..size) does not begin with a whole, valid character (or size is 0). */
size_t utf8_next(const char *s, size_t size, uint32_t *point);
bool utf8_valid(const char *s, size_t size);

#endif
