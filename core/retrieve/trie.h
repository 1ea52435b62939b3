/* trie.h: the trie of semantic IDs, level order, built by radix sort.
 *
 * The layout is struct trie_view of kernels/backend.h: children of a node are contiguous and sorted by code, so an edge is one 16-bit code (32-bit
 * where a level has a larger one), the child's number is implicit, and an ID costs 6 to 14 bytes. One block of memory, immutable after build. A
 * document that the task model never saw has a last code >= the trained suffixes (bucket.h): the beam skips it, its bucket still holds it. */
#ifndef SEMINDEX_TRIE_H
#define SEMINDEX_TRIE_H

#include "../../kernels/backend.h"
#include "../base/err.h"

struct trie;

/* codes [n, positions] row-major, document [n] numbers (NULL: row number). Equal IDs are an error that names both documents. n may be 0. The
 * caller frees with trie_free. */
struct trie *trie_build(const uint32_t *codes, const uint32_t *document, uint32_t n, int32_t positions, struct err *e);
/* The same for rows that are sorted by code already, ascending and distinct (CHECKed): one pass, no sort. */
struct trie *trie_build_sorted(const uint32_t *codes, const uint32_t *document, uint32_t n, int32_t positions);
void trie_free(struct trie *t); /* NULL is fine */

const struct trie_view *trie_view_of(const struct trie *t);
uint32_t trie_count(const struct trie *t); /* documents */
size_t trie_bytes(const struct trie *t);

/* The view for beam_step: arrays in the backend's memory. Where that is host memory it is the trie's own, and nothing is copied. `old` (or NULL) is
 * an upload that nobody reads any more: its memory is taken where it is large enough, and it is released in any case. The trie must outlive
 * the view only where has_host_memory. NULL when memory is short. Both are calls to the backend, so only for the thread that speaks to it. */
const struct trie_view *trie_upload(const struct backend *be, const struct trie *t, const struct trie_view *old, struct err *e);
void trie_release(const struct backend *be, const struct trie_view *v); /* NULL is fine */

/* Node of `prefix` (length codes, 1 .. levels) at level length - 1; false if no document has it. */
bool trie_find(const struct trie *t, const uint32_t *prefix, int32_t length, uint32_t *node);
/* Children of a node: nodes [*from, *to) of the next level. level -1 = the root. */
void trie_children(const struct trie_view *v, int32_t level, uint32_t node, uint32_t *from, uint32_t *to);
uint32_t trie_code(const struct trie_view *v, int32_t level, uint32_t node);
/* Leaves below a node of `level` (-1 = root): nodes [*from, *to) of the last level. */
void trie_leaves(const struct trie_view *v, int32_t level, uint32_t node, uint32_t *from, uint32_t *to);
/* Every invariant of the layout, for asserts and tests. */
bool trie_sane(const struct trie *t);

#endif
