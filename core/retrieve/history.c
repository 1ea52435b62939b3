/* history.c: see history.h. Both forms are filled from the newest entry backwards, so what does not fit is what is oldest. */
#include "history.h"

#include <string.h>

static int32_t id_tokens(const struct history_rule *rule, const struct code_layout *l, const struct history_entry *entries, int32_t n,
                         int32_t *tokens, int32_t *used)
{
    int32_t scratch[POSITIONS_MAX], first = n, total = 1, at = 0;
    while (first > 0 && n - first < rule->max_items) {
        total += history_item(l, entries[first - 1].codes, scratch);
        if (total > rule->max_tokens)
            break;
        first--;
    }
    for (int32_t i = first; i < n; i++)
        at += history_item(l, entries[i].codes, tokens + at);
    tokens[at++] = TOKEN_EOS;
    *used = n - first;
    return at;
}

static int32_t text_tokens(const struct history_rule *rule, const struct tokenizer *tokenizer, const struct history_entry *entries, int32_t n,
                           int32_t *tokens, int32_t *used)
{
    int32_t at = 0, i = n;
    while (i > 0 && at < rule->max_tokens - 1) {
        int32_t room = rule->max_tokens - 1 - at;
        const char *text = entries[--i].text;
        room = room < HISTORY_ITEM_TOKENS ? room : HISTORY_ITEM_TOKENS;
        at += tokenizer_encode(tokenizer, text, strlen(text), tokens + at, room, false, NULL);
    }
    tokens[at++] = TOKEN_EOS;
    *used = n - i;
    return at;
}

int32_t history_tokens(const struct history_rule *rule, const struct code_layout *layout, const struct tokenizer *tokenizer,
                       const struct history_entry *entries, int32_t n, int32_t *tokens, int32_t *used)
{
    return rule->text ? text_tokens(rule, tokenizer, entries, n, tokens, used) : id_tokens(rule, layout, entries, n, tokens, used);
}
