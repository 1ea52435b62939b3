/* history.c: see history.h. Both forms are filled from the newest item backwards, so what does not fit is what is oldest. */
#include "history.h"

#include <string.h>

static int32_t item_width(const struct code_layout *l, const struct history_item *item)
{
    return item->trained ? l->positions : l->positions - 1;
}

static int32_t id_tokens(const struct history_rule *rule, const struct code_layout *l, const struct history_item *items, int32_t n,
                         int32_t *tokens, int32_t *used)
{
    int32_t first = n, total = 1, at = 0;
    while (first > 0 && n - first < rule->max_items && total + item_width(l, &items[first - 1]) <= rule->max_tokens)
        total += item_width(l, &items[--first]);
    for (int32_t i = first; i < n; i++)
        for (int32_t t = 0; t < item_width(l, &items[i]); t++)
            tokens[at++] = l->base + code_layout_first(l, t) + (int32_t)items[i].codes[t];
    tokens[at++] = TOKEN_EOS;
    *used = n - first;
    return at;
}

static int32_t text_tokens(const struct history_rule *rule, const struct tokenizer *tokenizer, const struct history_item *items, int32_t n,
                           int32_t *tokens, int32_t *used)
{
    int32_t at = 0, taken = 0;
    bool cut = false;
    for (int32_t i = n - 1; i >= 0 && taken < rule->max_items && !cut && at + 1 < rule->max_tokens; i--, taken++)
        at += tokenizer_encode(tokenizer, items[i].text, strlen(items[i].text), tokens + at, rule->max_tokens - 1 - at, false, &cut);
    tokens[at++] = TOKEN_EOS;
    *used = taken;
    return at;
}

int32_t history_tokens(const struct history_rule *rule, const struct code_layout *layout, const struct tokenizer *tokenizer,
                       const struct history_item *items, int32_t n, int32_t *tokens, int32_t *used)
{
    int32_t ignored;
    used = used ? used : &ignored;
    return rule->text ? text_tokens(rule, tokenizer, items, n, tokens, used) : id_tokens(rule, layout, items, n, tokens, used);
}
