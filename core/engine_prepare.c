/* engine_prepare.c: a query judged against the model and turned into tokens, on the caller's thread, without the device.
 *
 * What the model lacks is a conflict (not_in_model), what the caller asked too much of is invalid with its bound. A history is looked up in the
 * catalogue: known items become semantic IDs, unknown ones are listed. Free texts of a history wait for the indexer (engine_run). */
#include "engine_index.h"

#include <stdlib.h>
#include <string.h>

enum { BEAM_DEFAULT = 20, WIDEN_STEP = 16 };

static const char *const task_name[ENGINE_TASKS] = {"search", "recommend"};

static int need_part(const struct engine *g, const struct engine_query *q, struct err *e)
{
    if (!g->task[q->task].model)
        return err_set(e, ERR_CONFLICT, "not_in_model: this model has no part \"%s\"; train it or serve another bundle", task_name[q->task]);
    if (!g->tokenizer && (q->task == TASK_SEARCH || g->task[q->task].history.text))
        return err_set(e, ERR_CONFLICT, "not_in_model: this model has no tokenizer (the imported folder had no spiece.model)");
    return 0;
}

int32_t engine_default_beam(const struct engine *g)
{
    return BEAM_DEFAULT < g->options.max_beam ? BEAM_DEFAULT : g->options.max_beam;
}

static int choose_beam(const struct engine *g, struct engine_query *q, struct err *e)
{
    int32_t most = g->options.max_beam, preferred = engine_default_beam(g);
    int64_t window = (int64_t)q->offset + q->limit;
    if (q->beam_width > most)
        return err_set(e, ERR_INVALID, "beam_width is %d; the bound is max_beam = %d", q->beam_width, most);
    if (window > most)
        return err_set(e, ERR_INVALID, "offset + limit is %lld; the beam must be as wide, and its bound is max_beam = %d", (long long)window, most);
    q->beam = q->beam_width ? q->beam_width : preferred;
    if (q->beam < window)
        q->beam = (int32_t)window;
    return 0;
}

static int check_window(const struct engine_query *q, struct err *e)
{
    if (q->limit < 1)
        return err_set(e, ERR_INVALID, "limit is %d, must be 1 or more", q->limit);
    if (q->offset < 0)
        return err_set(e, ERR_INVALID, "offset is %d, must be 0 or more", q->offset);
    if (q->beam_width < 0)
        return err_set(e, ERR_INVALID, "beam_width is %d, must be 1 or more", q->beam_width);
    return 0;
}

/* ---- search ---- */

static void tokenise_query(const struct engine *g, struct engine_query *q)
{
    int32_t room = g->task[TASK_SEARCH].max_tokens;
    const char *text = q->text ? q->text : "";
    q->tokens = arena_alloc(q->arena, (size_t)room * sizeof *q->tokens);
    q->token_count = tokenizer_encode(g->tokenizer, text, strlen(text), q->tokens, room, true, &q->truncated);
}

static int prepare_search(struct engine *g, struct engine_query *q, struct err *e)
{
    if (q->mode == MODE_NEIGHBOURS)
        return err_set(e, ERR_INVALID, "mode is neighbours; a search has no history");
    if (q->mode == MODE_LEXICAL)
        return 0;
    if (need_part(g, q, e) < 0 || choose_beam(g, q, e) < 0)
        return -1;
    q->plan->width = q->beam;
    tokenise_query(g, q);
    return 0;
}

/* ---- recommend ---- */

static int find_ids(struct catalog_reader *r, const char *const *ids, int32_t n, struct arena *a, struct catalog_row **rows, struct err *e)
{
    *rows = arena_alloc(a, ((size_t)n + 1) * sizeof **rows);
    return n ? catalog_find(r, ids, n, a, *rows, e) : 0;
}

static int by_number(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

static void sort_excluded(struct engine_plan *p)
{
    int32_t kept = 0;
    qsort(p->excluded, (size_t)p->excluded_count, sizeof *p->excluded, by_number);
    for (int32_t i = 0; i < p->excluded_count; i++)
        if (kept == 0 || p->excluded[kept - 1] != p->excluded[i])
            p->excluded[kept++] = p->excluded[i];
    p->excluded_count = kept;
}

static void free_text(struct engine *g, struct engine_query *q, const char *text, struct plan_entry *out)
{
    *out = (struct plan_entry){.text = text};
    if (g->task[TASK_RECOMMEND].history.text)
        return;
    const struct document d = {.text = text};
    int32_t *tokens = arena_alloc(q->arena, (size_t)g->indexer.max_tokens * sizeof *tokens);
    struct str s = {0};
    document_text(&d, &s);
    out->token_count = tokenizer_encode(g->tokenizer, s.data ? s.data : "", s.size, tokens, g->indexer.max_tokens, true, NULL);
    out->tokens = tokens;
    str_free(&s);
    q->plan->encode = true;
}

static void known_item(struct engine_query *q, const struct engine_past *past, const struct catalog_row *row)
{
    struct engine_plan *p = q->plan;
    struct plan_entry *entry = &p->entry[p->entries++];
    *entry = (struct plan_entry){.id = past->id, .number = row->number, .trained = row->trained};
    memcpy(entry->codes, row->codes, sizeof entry->codes);
    if (q->exclude_history)
        p->excluded[p->excluded_count++] = row->number;
}

/* History entries into plan entries; rows are those of the ids in order. */
static void take_history(struct engine *g, struct engine_query *q, const struct catalog_row *rows)
{
    struct engine_plan *p = q->plan;
    const char **unknown = arena_alloc(q->arena, ((size_t)q->history_count + 1) * sizeof *unknown);
    for (int32_t i = 0, at = 0; i < q->history_count; i++) {
        const struct engine_past *past = &q->history[i];
        if (!past->id)
            free_text(g, q, past->text, &p->entry[p->entries++]);
        else if (rows[at++].number)
            known_item(q, past, &rows[at - 1]);
        else
            unknown[q->unknown_count++] = past->id;
    }
    q->unknown_history = unknown;
}

/* A model of texts reads the items' texts; an item has a token at least, so the newest max_tokens entries are enough. */
static int fetch_texts(struct engine *g, struct engine_query *q, struct catalog_reader *r, struct err *e)
{
    struct engine_plan *p = q->plan;
    int32_t first = p->entries - g->task[TASK_RECOMMEND].history.max_tokens;
    for (int32_t i = 0; i < p->entries; i++) {
        struct plan_entry *entry = &p->entry[i];
        struct catalog_row row;
        if (entry->id)
            entry->text = "";
        if (!entry->id || i < first)
            continue;
        if (catalog_get_numbers(r, &entry->number, 1, q->arena, &row, e) < 0)
            return -1;
        struct str s = {0};
        document_text(&row.document, &s);
        entry->text = arena_strndup(q->arena, s.data ? s.data : "", s.size);
        str_free(&s);
    }
    return 0;
}

static int look_up(struct engine *g, struct engine_query *q, struct catalog_reader *r, struct err *e)
{
    struct engine_plan *p = q->plan;
    struct catalog_row *history, *exclude;
    const char **ids = arena_alloc(q->arena, ((size_t)q->history_count + 1) * sizeof *ids);
    int32_t n = 0;
    for (int32_t i = 0; i < q->history_count; i++)
        if (q->history[i].id)
            ids[n++] = q->history[i].id;
    if (find_ids(r, ids, n, q->arena, &history, e) < 0 || find_ids(r, q->exclude, q->exclude_count, q->arena, &exclude, e) < 0)
        return -1;
    p->entry = arena_alloc(q->arena, ((size_t)q->history_count + 1) * sizeof *p->entry);
    p->excluded = arena_alloc(q->arena, ((size_t)q->history_count + (size_t)q->exclude_count + 1) * sizeof *p->excluded);
    for (int32_t i = 0; i < q->exclude_count; i++)
        if (exclude[i].number)
            p->excluded[p->excluded_count++] = exclude[i].number;
    take_history(g, q, history);
    sort_excluded(p);
    return g->task[TASK_RECOMMEND].history.text ? fetch_texts(g, q, r, e) : 0;
}

static void list_used(struct engine_query *q, int32_t used)
{
    const struct engine_plan *p = q->plan;
    const char **ids = arena_alloc(q->arena, ((size_t)used + 1) * sizeof *ids);
    for (int32_t i = p->entries - used; i < p->entries; i++)
        if (p->entry[i].id)
            ids[q->used_count++] = p->entry[i].id;
    q->used_history = ids;
    q->truncated = used < p->entries;
}

/* An entry as the model reads it: a suffix without a trained row is marked as such. */
static void history_entry_of(const struct task_model *t, struct plan_entry *from, struct history_entry *out)
{
    int32_t last = t->layout.positions - 1;
    if (!from->trained)
        from->codes[last] = (uint32_t)t->layout.codes[last];
    *out = (struct history_entry){from->codes, from->text};
}

void engine_plan_tokens(struct engine *g, struct engine_query *q)
{
    const struct task_model *t = &g->task[TASK_RECOMMEND];
    const struct engine_plan *p = q->plan;
    struct history_entry *entries = arena_alloc(q->arena, ((size_t)p->entries + 1) * sizeof *entries);
    int32_t used = 0;
    for (int32_t i = 0; i < p->entries; i++)
        history_entry_of(t, &p->entry[i], &entries[i]);
    q->used_count = 0;
    q->tokens = arena_alloc(q->arena, (size_t)t->history.max_tokens * sizeof *q->tokens);
    q->token_count = history_tokens(&t->history, &t->layout, g->tokenizer, entries, p->entries, q->tokens, &used);
    list_used(q, used);
    if (q->token_count <= 1)
        q->token_count = 0;
}

/* What batching counts until the texts are encoded: a bound of the tokens that there will be. */
static int32_t expected_tokens(const struct task_model *t, const struct engine_plan *p)
{
    int64_t n = (int64_t)p->entries * t->layout.positions + 1;
    return n < t->history.max_tokens ? (int32_t)n : t->history.max_tokens;
}

static int check_texts(const struct engine *g, const struct engine_query *q, struct err *e)
{
    for (int32_t i = 0; i < q->history_count; i++)
        if (!q->history[i].id && !g->task[TASK_RECOMMEND].history.text && !engine_reads_texts(g))
            return err_set(e, ERR_CONFLICT, "not_in_model: history[%d] is a text, and this model has no indexer that reads texts", i);
    return 0;
}

static int prepare_recommend(struct engine *g, struct engine_query *q, struct err *e)
{
    struct engine_plan *p = q->plan;
    if (q->mode == MODE_LEXICAL)
        return err_set(e, ERR_INVALID, "mode is lexical; a recommendation has no words to look for");
    if (q->mode == MODE_NEIGHBOURS && !g->neighbours)
        return err_set(e, ERR_CONFLICT, "not_in_model: mode is neighbours, and this bundle has none: its recommender was trained by an older version");
    if (need_part(g, q, e) < 0 || choose_beam(g, q, e) < 0 || check_texts(g, q, e) < 0)
        return -1;
    struct catalog_reader *r = catalog_reader_take(g->catalog, e);
    int rc = r ? look_up(g, q, r, e) : -1;
    catalog_reader_give(r);
    if (rc < 0)
        return -1;
    if (q->mode == MODE_NEIGHBOURS) { /* no model, no device */
        q->beam = 0;
        p->encode = false;
        list_used(q, p->entries);
        return 0;
    }
    int32_t widened = q->beam + (p->excluded_count + WIDEN_STEP - 1) / WIDEN_STEP * WIDEN_STEP;
    p->width = widened < g->options.max_beam ? widened : g->options.max_beam;
    if (p->encode)
        q->token_count = expected_tokens(&g->task[TASK_RECOMMEND], p);
    else
        engine_plan_tokens(g, q);
    return 0;
}

int engine_prepare(struct engine *g, struct engine_query *q, struct err *e)
{
    q->plan = arena_alloc(q->arena, sizeof *q->plan);
    q->tokens = NULL;
    q->token_count = q->beam = q->hit_count = q->used_count = q->unknown_count = 0;
    q->truncated = q->exhaustive = q->fallback_used = false;
    if (check_window(q, e) < 0)
        return -1;
    return q->task == TASK_SEARCH ? prepare_search(g, q, e) : prepare_recommend(g, q, e);
}
