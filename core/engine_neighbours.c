/* engine_neighbours.c: recommendations by item neighbours, alone or mixed with the beam.
 *
 * The table (data/neighbours.h) lies over the rows of ids.tsv, the store knows numbers, and the two meet in semantic IDs, which a learned document
 * keeps for life: a history's item is found in a trie over ids.tsv by its codes, a neighbour's document in the trie of the pinned generation. What was
 * deleted is not found and drops out; what came after training has no neighbours and says nothing. Everything here is written once when the
 * engine opens.
 *
 * Hybrid is a mixture of two distributions over items: the beam's probabilities and the neighbours' shares, each divided by its sum over the list
 * (fuse.h); the beam's weight was chosen on validation items when the model was trained. A hit's score is ln of its share. */
#include "engine_internal.h"

#include "base/file.h"
#include "data/neighbours.h"
#include "retrieve/fuse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LEAST = 100 };

struct engine_neighbours {
    struct neighbours *table;
    struct id_table ids;
    struct trie *rows; /* over ids: documents are rows */
};

int engine_neighbours_open(struct engine *g, struct err *e)
{
    const char *path = bundle_file(g->bundle, "neighbours.bin"), *ids = bundle_file(g->bundle, "ids.tsv");
    size_t size;
    if (path == NULL || ids == NULL)
        return 0;
    g->neighbours = xcalloc(1, sizeof *g->neighbours);
    char *bytes = file_read(path, 0, &size, e);
    if (bytes == NULL || id_table_read(&g->neighbours->ids, ids, NULL, e) != 0) {
        free(bytes);
        return -1;
    }
    g->neighbours->table = neighbours_read(bytes, size, g->neighbours->ids.count, e);
    free(bytes);
    if (g->neighbours->table == NULL)
        return -1;
    g->neighbours->rows = trie_build(g->neighbours->ids.codes, NULL, (uint32_t)g->neighbours->ids.count, g->neighbours->ids.positions, e);
    return g->neighbours->rows == NULL ? -1 : 0;
}

void engine_neighbours_close(struct engine *g)
{
    if (g->neighbours == NULL)
        return;
    neighbours_free(g->neighbours->table);
    trie_free(g->neighbours->rows);
    id_table_free(&g->neighbours->ids);
    free(g->neighbours);
}

size_t engine_neighbours_bytes(const struct engine *g)
{
    return g->neighbours ? neighbours_bytes(g->neighbours->table) + trie_bytes(g->neighbours->rows) : 0;
}

/* Rows of a plan's history, oldest first; -1 for texts and for what came after training. */
static int32_t *history_rows(const struct engine *g, const struct engine_query *q)
{
    const struct engine_plan *p = q->plan;
    int32_t *rows = arena_alloc(q->arena, ((size_t)p->entries + 1) * sizeof *rows);
    for (int32_t i = 0; i < p->entries; i++) {
        uint32_t leaf;
        rows[i] = -1;
        if (p->entry[i].id && p->entry[i].trained && trie_find(g->neighbours->rows, p->entry[i].codes, g->neighbours->ids.positions, &leaf))
            rows[i] = (int32_t)trie_view_of(g->neighbours->rows)->leaf_doc[leaf];
    }
    return rows;
}

static bool number_of(const struct engine *g, const struct generation *gen, int32_t row, int64_t *number)
{
    uint32_t leaf;
    if (!trie_find(gen->ids->trie, g->neighbours->ids.codes + (int64_t)row * g->neighbours->ids.positions, g->neighbours->ids.positions, &leaf))
        return false;
    *number = gen->ids->number[leaf];
    return true;
}

void engine_neighbours_list(const struct engine *g, const struct generation *gen, const struct engine_query *q, struct ranking *out)
{
    int32_t depth = q->offset + q->limit + q->plan->excluded_count, positions = g->layout.positions;
    depth = depth < DEPTH_LEAST ? DEPTH_LEAST : depth;
    struct neighbours_hit *hits = arena_alloc(q->arena, (size_t)depth * sizeof *hits);
    int32_t n = neighbours_best(g->neighbours->table, history_rows(g, q), q->plan->entries, hits, depth);
    *out = (struct ranking){.hit = arena_alloc(q->arena, ((size_t)n + 1) * sizeof *out->hit)};
    for (int32_t i = 0; i < n; i++) {
        int64_t number;
        if (!number_of(g, gen, hits[i].item, &number) || engine_is_excluded(q->plan, number))
            continue;
        struct ranked *r = &out->hit[out->count++];
        *r = (struct ranked){.number = number, .score = hits[i].score, .trained = true, .neighbours_rank = out->count, .neighbours_score = hits[i].score,
                             .log_prefix = NAN, .log_share = NAN};
        memcpy(r->codes, g->neighbours->ids.codes + (int64_t)hits[i].item * positions, (size_t)positions * sizeof *r->codes);
    }
}

/* A list as fuse.h takes it; beam: its scores are logarithms. */
static struct fuse_list list_of(struct arena *a, const struct ranking *from, bool beam, double weight)
{
    int64_t *document = arena_alloc(a, ((size_t)from->count + 1) * sizeof *document);
    double *score = arena_alloc(a, ((size_t)from->count + 1) * sizeof *score);
    for (int32_t i = 0; i < from->count; i++) {
        document[i] = from->hit[i].number;
        score[i] = beam ? exp(from->hit[i].score) : from->hit[i].score;
    }
    return (struct fuse_list){document, from->count, weight, score};
}

void engine_neighbours_mix(const struct engine *g, const struct engine_query *q, const struct ranking *others, struct ranking *list)
{
    struct ranking beam = {list->hit, list->count < q->beam ? list->count : q->beam}; /* a search is widened by what is excluded */
    int32_t room = beam.count + others->count;
    const struct fuse_list lists[] = {list_of(q->arena, &beam, true, g->task[TASK_RECOMMEND].beam_weight), list_of(q->arena, others, false, 1)};
    struct fuse_hit *hits = arena_alloc(q->arena, ((size_t)room + 1) * sizeof *hits);
    int32_t n = fuse_lists(lists, 2, hits, room);
    *list = (struct ranking){.hit = arena_alloc(q->arena, ((size_t)n + 1) * sizeof *list->hit), .count = n};
    for (int32_t i = 0; i < n; i++) {
        const struct fuse_hit *f = &hits[i];
        struct ranked *r = &list->hit[i];
        *r = f->rank[0] ? beam.hit[f->rank[0] - 1] : others->hit[f->rank[1] - 1];
        r->score = log(f->score / (lists[0].weight + lists[1].weight));
        r->neighbours_rank = f->rank[1];
        r->neighbours_score = f->rank[1] ? others->hit[f->rank[1] - 1].score : 0;
    }
}
