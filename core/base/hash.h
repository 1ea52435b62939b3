/* hash.h: SHA-256 (GnuTLS), 64-bit hashes of strings and a string -> int32 map. */
#ifndef SEMINDEX_HASH_H
#define SEMINDEX_HASH_H

#include "err.h"
#include <stddef.h>
#include <stdint.h>

struct sha256; /* a running digest */
struct sha256 *sha256_begin(void);
void sha256_add(struct sha256 *s, const void *data, size_t size);
void sha256_end(struct sha256 *s, char hex[65]); /* frees s */
void sha256_hex(const void *data, size_t size, char hex[65]);
int sha256_file(const char *path, char hex[65], int64_t *bytes, struct err *e);

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed); /* not cryptographic, stable over versions and machines */

/* Map from strings to numbers, for ids: open addressing, keys copied. */
struct string_map;
struct string_map *string_map_init(int64_t expected);
void string_map_free(struct string_map *m);
int string_map_put(struct string_map *m, const char *key, size_t size, int32_t value); /* 1 = new, 0 = was there (value unchanged) */
int32_t string_map_get(const struct string_map *m, const char *key, size_t size);      /* value, or -1 */
int64_t string_map_count(const struct string_map *m);

#endif
