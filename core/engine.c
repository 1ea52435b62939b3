/* engine.c: documents one by one, and the engine's state. */
#include "engine_index.h"

#include <string.h>

/* ---- documents ---- */

static void document_of(const struct engine *g, const struct catalog_row *row, struct arena *a, struct engine_document *out)
{
    *out = (struct engine_document){.document = row->document, .suffix_trained = row->trained, .created_ms = row->created_ms,
                                    .updated_ms = row->updated_ms, .generation = row->generation};
    out->semantic_id = engine_id_text(a, row->codes, g->layout.positions);
}

int engine_get(struct engine *g, const char *id, struct arena *a, struct engine_document *out, struct err *e)
{
    struct catalog_row row;
    struct catalog_reader *r = catalog_reader_take(g->catalog, e);
    int rc = r ? catalog_get(r, id, a, &row, e) : -1;
    catalog_reader_give(r);
    if (rc == 0)
        document_of(g, &row, a, out);
    return rc;
}

int engine_delete(struct engine *g, const char *id, int64_t *generation, struct err *e)
{
    struct catalog_delete one = {.id = id};
    struct arena a;
    arena_init(&a, 0);
    struct catalog_batch batch = {.deletes = &one, .delete_count = 1, .arena = &a};
    int rc = catalog_write(g->catalog, &batch, e);
    arena_free(&a);
    if (rc < 0)
        return -1;
    *generation = batch.generation;
    return one.found ? 0 : err_set(e, ERR_NOT_FOUND, "there is no document \"%.512s\"", id);
}

/* ---- state ---- */

static int32_t width_of(const struct t5 *m)
{
    return m ? t5_config_of(m)->d_model : 0;
}

void engine_info(struct engine *g, struct engine_info *out)
{
    const struct t5 *search = g->task[TASK_SEARCH].model, *recommend = g->task[TASK_RECOMMEND].model;
    *out = (struct engine_info){.device = g->be->device, .has_indexer = g->indexer.vector_size > 0, .has_search = search, .has_recommend = recommend,
                                .has_tokenizer = g->tokenizer, .positions = g->layout.positions, .codes = g->layout.codes,
                                .search_d_model = width_of(search), .recommend_d_model = width_of(recommend),
                                .indexer_d_model = g->indexer.vector_size, .model_bytes = g->model_bytes + (int64_t)engine_neighbours_bytes(g), .limits = g->options};
    memcpy(out->model_digest, g->model_digest, sizeof out->model_digest);
    memcpy(out->id_digest, g->id_digest, sizeof out->id_digest);
    struct generation *gen = generation_pin(g->publisher);
    out->documents = gen->documents;
    out->generation = gen->number;
    out->trie_bytes = generation_bytes(gen);
    generation_unpin(gen);
}

int engine_health(struct engine *g, struct err *e)
{
    int64_t number;
    int32_t n;
    struct catalog_reader *r = catalog_reader_take(g->catalog, e);
    int rc = r ? catalog_newest(r, 1, &number, &n, e) : -1;
    catalog_reader_give(r);
    return rc < 0 ? -1 : catalog_health(g->catalog, e);
}
