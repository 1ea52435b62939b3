/* engine_placed.h: the tries of published generations in the device's memory.
 *
 * A backend is spoken to by one thread, the device's, while generations are made by the catalogue's writer and given back by whoever drops the
 * last pin. So placing is a call on the device thread, and what is given back is only put on a list, from which the next placing takes its
 * memory: a commit uploads the new trie while the old one is still searched, then the two blocks take turns. Where the backend's memory
 * is the host's, a trie is its own placed form, and nothing waits for anybody. */
#ifndef SEMINDEX_ENGINE_PLACED_H
#define SEMINDEX_ENGINE_PLACED_H

#include "engine_device.h"
#include "retrieve/trie.h"

struct placer;
struct placer *placer_open(const struct backend *be, struct device *d);
void placer_close(struct placer *p); /* the device still runs; NULL is fine */

/* Places t and sets *slot, unless it is set. What slot points to is written and read by the device thread from then on. -1 (memory is short)
 * leaves NULL: placer_get tries again. Any thread but the device's; waits for it. */
int placer_place(struct placer *p, const struct trie *t, const struct trie_view **slot, struct err *e);
/* The same on the device thread: what is in the slot then, or NULL with an error. */
const struct trie_view *placer_get(struct placer *p, const struct trie *t, const struct trie_view **slot, struct err *e);
/* Nobody reads v any more (NULL is fine). Any thread; waits for nobody. */
void placer_give_back(struct placer *p, const struct trie_view *v);

#endif
