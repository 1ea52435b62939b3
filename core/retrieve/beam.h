/* beam.h: constrained beam search over semantic IDs.
 *
 * One search runs a batch of requests, all with the same width, over one trie. The caller encoded the requests' tokens (t5_encode); every request
 * is one encoder row. Score of a code = log softmax over all codes of its position (method.md 1), so the trie only removes; order and ties are
 * beam_step's (score descending, parent ascending, code ascending). Memory is sized once by beam_init; a search allocates nothing. */
#ifndef SEMINDEX_BEAM_H
#define SEMINDEX_BEAM_H

#include "../model/bundle.h"
#include "../model/t5.h"
#include "trie.h"

struct beam_limits {
    int32_t requests, width; /* of one search */
    int32_t rows;            /* most of requests * width of one search; 0: requests * width here */
};
struct beam; /* one owner at a time */
/* For a task model whose code rows lie as `layout` says (layout->positions = levels of the tries to come; layout is copied). */
struct beam *beam_init(struct t5 *m, const struct code_layout *layout, const struct beam_limits *l, struct err *e);
/* Another set of results over the same memory of the backend: what a search found is read while the twin's runs. Searches of twins follow one
 * another. NULL with a reason. Freed as the first is, in any order. */
struct beam *beam_twin(struct beam *of, struct err *e);
void beam_free(struct beam *b); /* NULL is fine */

struct beam_search {
    const struct trie_view *trie;   /* in host memory: trie_view_of */
    const struct trie_view *placed; /* the same for the backend: trie_upload */
    int32_t width;     /* 1 .. limits.width */
    bool renormalise;  /* softmax over the trie's children only */
    bool keep_states;  /* keep the decoder states of the last learned position, for bucket.h */
    bool (*stop)(void *state); /* asked between positions (a device may lag behind the asking); may be NULL */
    void *state;
};
/* Searches for every row of the last t5_encode of `work` (made with beam_rows >= requests * width and positions >= levels). 0, or -1 when stop
 * said so: results are then undefined. */
int beam_run(struct beam *b, struct t5_work *work, const struct beam_search *s);

/* The same in parts. load: before t5_encode_run or behind it; of the rows that were loaded only the first `live` are requests, the others
 * find nothing (all are live where has_host_memory). positions: ops alone, which may be recorded; a recording serves searches of equal
 * rows, width and keep_states, if `placed` has the same resident view. send: begins to read the results. receive: waits for them; any
 * thread where there are landings, and until then the same s. */
void beam_load(struct beam *b, struct t5_work *work, const struct beam_search *s, int32_t live);
int beam_positions(struct beam *b, struct t5_work *work, const struct beam_search *s);
void beam_send(struct beam *b, const struct beam_search *s);
void beam_receive(struct beam *b, const struct beam_search *s);

struct beam_hit {
    uint32_t leaf;     /* node of the last level */
    uint32_t document; /* trie's leaf_doc */
    double score;
};
/* Results of request r of the last run, best first; valid until the next run. Documents whose suffix has no trained row are not among them. */
const struct beam_hit *beam_hits(const struct beam *b, int32_t r, int32_t *count);
/* True when no candidate was cut at any position. */
bool beam_exhaustive(const struct beam *b, int32_t r);

struct beam_prefix {
    uint32_t node;      /* of the last level but one */
    double score;       /* ln P(c^1 .. c^L) */
    const float *state; /* [D] decoder state (after the final norm) that predicted c^L; NULL unless keep_states */
};
/* The prefixes that were kept before the last step, best first; none for tries of one level. */
const struct beam_prefix *beam_prefixes(const struct beam *b, int32_t r, int32_t *count);

#endif
