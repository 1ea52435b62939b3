/* engine_generation.h: what a query pins: every semantic ID of one commit, in code order, with the trie over them.
 *
 * A generation is immutable. The writer thread makes the next one beside it in its commit callback (one merge of the sorted changes
 * into the sorted rows, one linear construction of the trie), and swaps one pointer; whoever still reads the old one keeps it alive by a
 * count. So a commit's cost is a copy of N rows, not a sort, and a query never waits for more than the pointer.
 *
 * Trie codes: the last code of a document whose suffix has no trained row is trained_suffixes + suffix, so beam_step passes over it and the
 * bucket ranking (retrieve/bucket.h) finds it behind the trained ones. Leaf i of the trie is row i. */
#ifndef SEMINDEX_ENGINE_GENERATION_H
#define SEMINDEX_ENGINE_GENERATION_H

#include "catalog/catalog.h"
#include "engine_placed.h"
#include "retrieve/trie.h"
#include <stdatomic.h>

struct id_rows { /* shared by generations between which no ID changed */
    atomic_int refs;
    int32_t positions; /* L + 1 */
    int64_t count;
    uint32_t *codes; /* [count, positions], rising, no two equal */
    int64_t *number; /* [count] of the document */
    int64_t fresh;   /* of them: documents whose suffix has no trained row */
    struct trie *trie;
    struct placer *placer;          /* or NULL: nobody searches */
    const struct trie_view *placed; /* the device thread's: generation_placed */
};

struct generation {
    atomic_int refs;
    int64_t number; /* of the catalogue's commit */
    int64_t documents;
    struct id_rows *ids;
};

struct publisher; /* the current generation; any thread pins, one thread publishes */
struct publisher_options {
    int32_t positions;
    uint32_t trained_suffixes; /* K of the suffix position */
    struct placer *placer;     /* borrowed; or NULL: generations are only looked at */
};
struct publisher *publisher_open(const struct publisher_options *o);
void publisher_close(struct publisher *p); /* every pin has been given back; NULL is fine */
/* The first generation: everything that the catalogue holds. */
int publisher_load(struct publisher *p, struct catalog *c, struct err *e);
/* The next one: what a commit changed. Called by the catalogue's writer thread; commits before publisher_load are passed over. */
void publisher_commit(struct publisher *p, const struct catalog_commit *commit);

struct generation *generation_pin(struct publisher *p);
void generation_unpin(struct generation *g); /* NULL is fine */
/* Its trie for the backend, placed now if there was no memory for it when it was published. Device thread only. */
const struct trie_view *generation_placed(const struct generation *g, struct err *e);
int64_t generation_bytes(const struct generation *g);

#endif
