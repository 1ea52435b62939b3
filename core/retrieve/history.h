/* history.h: how a user's history becomes the input of a recommender: one function for training, evaluation and serving.
 *
 * From semantic IDs: oldest item first, each item's codes as tokens of the model's own layout, then EOS. The newest items are kept when there
 * are too many. A suffix without a trained row is left out, so such an item has L tokens instead of L + 1. From texts: most recent first, the
 * items' texts (document_text) one after the other, cut at the end, then EOS. */
#ifndef SEMINDEX_HISTORY_H
#define SEMINDEX_HISTORY_H

#include "../model/bundle.h"
#include "../text/tokenizer.h"
#include <stdbool.h>
#include <stdint.h>

struct history_rule { /* stored in the model's settings: "text_history", "max_history", "max_tokens" */
    bool text;
    int32_t max_items;  /* newest ones that are read */
    int32_t max_tokens; /* EOS included */
};

struct history_item {
    const uint32_t *codes; /* positions; NULL in a history of texts */
    bool trained;          /* the suffix has a trained row */
    const char *text;      /* document_text of the item; NULL in a history of IDs */
};

/* items [n], oldest first. tokens has room for rule->max_tokens. Returns the count, EOS included; 1 = nothing but EOS. *used (may be NULL) = how
 * many of the newest items are in the input, the last perhaps in part. tokenizer and layout: only the one that the rule needs. */
int32_t history_tokens(const struct history_rule *rule, const struct code_layout *layout, const struct tokenizer *tokenizer,
                       const struct history_item *items, int32_t n, int32_t *tokens, int32_t *used);

#endif
