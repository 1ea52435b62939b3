/* engine_memory.c: which device there is, and what serving a bundle will take of its memory, from the parts' descriptions alone.
 *
 * The limits are those that engine_open.c makes work spaces for, at their most: a part may read less than the operator allows. */
#include "engine_internal.h"
#include "base/file.h"
#include "model/model_file.h"
#include "model/need.h"

#include <stdio.h>
#include <string.h>

bool engine_device(const char *name, char *text, size_t size)
{
    char why[512];
    const struct backend *be = backend_open(name, 0, why, sizeof why);
    if (be)
        snprintf(text, size, "%s%s%s%s", be->device, *why ? " (" : "", why, *why ? ")" : "");
    else
        snprintf(text, size, "%s", why);
    return be != NULL;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int need_task(const struct engine *g, const char *part, int64_t longest, struct need *n, struct err *e)
{
    const struct engine_options *o = &g->options;
    struct t5_options m = {0};
    struct code_layout layout;
    if (!model_file_has(g->bundle, part))
        return 0;
    if (model_file_config(g->bundle, part, &m.config, e) < 0 || model_file_layout(g->bundle, part, &layout, e) < 0)
        return -1;
    int32_t rows = (int32_t)most(o->max_beam, (int64_t)o->batch_rows * ENGINE_BEAMS_PER_ROW);
    longest = most(longest, (int64_t)o->max_history * layout.positions + 1);
    const struct t5_limits l = {.encoder_tokens = (int32_t)most(o->batch_tokens, longest), .rows = o->batch_rows, .beam_rows = rows,
                                .positions = layout.positions};
    need_model(n, &m);
    need_work(n, &m.config, &l);
    need_beam(n, &m.config, layout.positions, o->batch_rows, rows);
    n->bytes += (size_t)o->recordings_mib << 20;
    return 0;
}

/* The T5 that embeds texts, where the bundle has one for that. */
static int need_quantiser(const struct engine *g, struct need *n, struct err *e)
{
    struct t5_options m = {0};
    if (!bundle_file(g->bundle, "quantiser.json") || !model_file_has(g->bundle, "base"))
        return 0;
    if (model_file_config(g->bundle, "base", &m.config, e) < 0)
        return -1;
    int32_t tokens = (int32_t)most(g->options.batch_tokens, g->options.max_document_tokens);
    const struct t5_limits l = {.encoder_tokens = tokens, .rows = tokens < ENGINE_ENCODE_ROWS ? tokens : ENGINE_ENCODE_ROWS};
    need_model(n, &m);
    need_work(n, &m.config, &l);
    return 0;
}

static int need_indexer(const struct engine *g, struct need *n, struct err *e)
{
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    struct t5_options m = {.extra = extra};
    struct code_layout layout;
    if (!model_file_has(g->bundle, "indexer"))
        return need_quantiser(g, n, e);
    if (model_file_config(g->bundle, "indexer", &m.config, e) < 0 || model_file_layout(g->bundle, "indexer", &layout, e) < 0)
        return -1;
    m.extra_count = lmindexer_extras(&m.config, layout.positions, layout.codes[0], extra);
    int32_t tokens = (int32_t)most(g->options.batch_tokens, g->options.max_document_tokens), rows = tokens < ENGINE_ENCODE_ROWS ? tokens : ENGINE_ENCODE_ROWS;
    const struct lm_limits l = {.documents = rows, .rows = rows, .tokens = tokens, .text_tokens = tokens, .positions = layout.positions,
                                .codes = layout.codes[0]};
    need_model(n, &m);
    n->bytes += lm_work_bytes(n->be, &m.config, &l);
    return 0;
}

/* The tries of the bundle's documents, the lines of ids.tsv. What a catalogue holds beyond them finds its place when it comes. */
static void need_documents(const struct engine *g, struct need *n)
{
    const char *path = bundle_file(g->bundle, "ids.tsv");
    struct lines *l = path ? lines_open(path, NULL) : NULL;
    char *line;
    size_t size;
    int64_t documents = 0;
    int32_t positions = 1;
    for (; l && lines_next(l, &line, &size, NULL) == 1; documents++)
        for (char *p = documents == 0 ? strchr(line, '\t') : NULL; p; p = strchr(p + 1, '-'))
            positions++;
    lines_close(l);
    need_tries(n, positions, documents);
}

int engine_memory_check(const struct engine *g, struct err *e)
{
    struct need n = {.be = g->be};
    if (!g->be->memory_free)
        return 0;
    if (need_task(g, "search", g->options.max_query_tokens, &n, e) < 0 || need_task(g, "recommend", g->options.max_document_tokens, &n, e) < 0 ||
        need_indexer(g, &n, e) < 0)
        return -1;
    need_documents(g, &n);
    return need_check(&n, bundle_folder(g->bundle), e);
}
