/* catalog_kit.h: what the tests of the store share: a folder of their own, random numbers, one-document batches. */
#ifndef SEMINDEX_CATALOG_KIT_H
#define SEMINDEX_CATALOG_KIT_H

#include "../../core/base/file.h"
#include "../../core/catalog/catalog.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
enum { KIT_LEARNED = 2 };

static inline char *kit_folder(void) {
    const char *base = getenv("TMPDIR");
    char *path = xprintf("%s/semindex-catalog-XXXXXX", base && *base ? base : "/tmp");
    CHECK(mkdtemp(path));
    return path;
}

static inline uint64_t kit_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t kit_below(uint64_t *state, uint32_t n) { return (uint32_t)(kit_random(state) % n); }

static inline struct catalog *kit_open(const char *path, struct err *e) {
    struct catalog_options o = {.path = path, .model_digest = DIGEST_A, .learned = KIT_LEARNED};
    return catalog_open(&o, e);
}

/* An open catalogue that takes writes; ends the test if there is none. */
static inline struct catalog *kit_ready(const char *path) {
    struct err e = {0};
    struct catalog *c = kit_open(path, &e);
    if (!c || catalog_fill(c, NULL, NULL, &e)) {
        fprintf(stderr, "%s\n", e.message);
        abort();
    }
    return c;
}

/* Stores one document in bucket (c1, c2). */
static inline int kit_put(struct catalog *c, const char *id, const char *text, uint32_t c1, uint32_t c2, struct catalog_put *out, struct err *e) {
    struct document d = {.id = id, .title = "title", .text = text};
    uint32_t codes[] = {c1, c2};
    struct catalog_put put = {.document = &d, .codes = codes, .code_count = KIT_LEARNED};
    struct arena a;
    arena_init(&a, 0);
    struct catalog_batch b = {.puts = &put, .put_count = 1, .arena = &a};
    int rc = catalog_write(c, &b, e);
    arena_free(&a);
    put.document = NULL;
    put.codes = NULL;
    put.detail = NULL;
    if (out) *out = put;
    return rc;
}

static inline int kit_delete(struct catalog *c, const char *id, bool *found, struct err *e) {
    struct catalog_delete d = {.id = id};
    struct catalog_batch b = {.deletes = &d, .delete_count = 1};
    int rc = catalog_write(c, &b, e);
    if (found) *found = d.found;
    return rc;
}

#endif
