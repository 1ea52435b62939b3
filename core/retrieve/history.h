/* history.h: how a user's history becomes the input of a recommender: the same in training, evaluation and serving.
 *
 * From semantic IDs: the newest max_history items, oldest first, each by history_item, then EOS (token 1). No user token. From texts: most
 * recent first, the first HISTORY_ITEM_TOKENS tokens of each item's text (document_text) one after the other until max_tokens are full, then EOS. */
#ifndef SEMINDEX_HISTORY_H
#define SEMINDEX_HISTORY_H

#include "../model/bundle.h"
#include "../text/tokenizer.h"
#include <stdbool.h>
#include <stdint.h>

enum { HISTORY_ITEM_TOKENS = 128 };

/* Writes the tokens of one item's codes [layout->positions] and returns their number: all positions, but the suffix only where it has a
 * trained row. tokens has room for layout->positions. */
static inline int32_t history_item(const struct code_layout *l, const uint32_t *codes, int32_t *tokens)
{
    int32_t n = 0, first = l->base;
    for (int32_t t = 0; t < l->positions; t++) {
        if (codes[t] < (uint32_t)l->codes[t])
            tokens[n++] = first + (int32_t)codes[t];
        first += l->codes[t];
    }
    return n;
}

struct history_rule { /* of a trained model: "input", "max_history", "max_tokens" of its settings */
    bool text;
    int32_t max_items;  /* newest ones that are read; texts are bounded by max_tokens alone */
    int32_t max_tokens; /* EOS included */
};
struct history_entry {
    const uint32_t *codes; /* positions; an untrained suffix is given as layout->codes[last] or more; NULL in a history of texts */
    const char *text;      /* document_text of the item; NULL in a history of IDs */
};

/* entries [n], oldest first. tokens has room for rule->max_tokens. Returns the count, EOS included; 1 = nothing but EOS. *used = how many of the
 * newest entries are in the input, the last perhaps in part. Of layout and tokenizer only the one that the rule needs is read. */
int32_t history_tokens(const struct history_rule *rule, const struct code_layout *layout, const struct tokenizer *tokenizer,
                       const struct history_entry *entries, int32_t n, int32_t *tokens, int32_t *used);

#endif
