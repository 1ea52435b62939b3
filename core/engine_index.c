/* engine_index.c: POST /index below HTTP: judge every document, encode what is new, store, answer.
 *
 * Nothing is stored unless every document is right, and every wrong one is named at once. What is stored already with the same content is
 * not encoded again. The catalogue gives suffixes and publishes through its commit callback before it answers, so the caller's next search
 * sees the batch. Content that changed between the look and the write comes back as FAULT_STALE and is encoded then. */
#include "engine_index.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { STALE_TRIES = 4 };

struct ingest_item {
    const int32_t *tokens;
    int32_t token_count;
    bool stored;  /* with this content and, when one is brought, with this ID */
    bool encoded;
    uint32_t codes[CATALOG_CODES_MAX];
    float *vector;
};

struct ingest {
    struct engine *g;
    struct engine_put_batch *batch;
    struct ingest_item *item;
    int32_t errors_room;
};

/* ---- errors ---- */

static void refuse(struct ingest *in, int32_t index, const char *field, const char *code, const char *detail)
{
    struct engine_put_batch *b = in->batch;
    if (b->error_count == in->errors_room) {
        int32_t room = in->errors_room ? 2 * in->errors_room : 16;
        struct engine_put_error *wider = arena_alloc(b->arena, (size_t)room * sizeof *wider);
        if (b->error_count)
            memcpy(wider, b->errors, (size_t)b->error_count * sizeof *wider);
        b->errors = wider;
        in->errors_room = room;
    }
    b->errors[b->error_count++] = (struct engine_put_error){.index = index, .field = field, .code = code, .detail = detail};
}

static int end_refused(const struct engine_put_batch *b, struct err *e)
{
    return err_set(e, b->conflict ? ERR_CONFLICT : ERR_INVALID, "%d of %d documents cannot be stored; nothing was. documents[%d].%s: %s",
                   b->error_count, b->count, b->errors[0].index, b->errors[0].field, b->errors[0].detail);
}

/* ---- validation ---- */

static void check_ids(struct ingest *in)
{
    struct engine_put_batch *b = in->batch;
    struct string_map *seen = string_map_init(b->count);
    for (int32_t i = 0; i < b->count; i++) {
        const char *id = b->puts[i].document.id;
        struct err wrong = {0};
        if (document_check_id(id ? id : "", id ? strlen(id) : 0, &wrong) < 0) {
            refuse(in, i, "id", "invalid_id", arena_printf(b->arena, "the id %s", wrong.message));
        } else if (!string_map_put(seen, id, strlen(id), i)) {
            int32_t first = string_map_get(seen, id, strlen(id));
            refuse(in, i, "id", "duplicate_id", arena_printf(b->arena, "documents %d and %d have the same id", first, i));
        }
    }
    string_map_free(seen);
}

/* "17-203-0" into codes[positions]; NULL or what is wrong. */
static const char *parse_id(const struct code_layout *l, const char *text, uint32_t *codes, struct arena *a)
{
    const char *p = text;
    for (int32_t t = 0; t < l->positions; t++) {
        char *end;
        bool suffix = t == l->positions - 1;
        if (*p < '0' || *p > '9')
            return arena_printf(a, "\"%.100s\" is no semantic ID: %d numbers joined by '-' are needed", text, l->positions);
        unsigned long long v = strtoull(p, &end, 10);
        unsigned long long most = suffix ? INT32_MAX : (unsigned long long)l->codes[t] - 1;
        if (v > most)
            return arena_printf(a, "code %d of \"%.100s\" is %llu, must be 0 .. %llu", t + 1, text, v, most);
        codes[t] = (uint32_t)v;
        p = end;
        if (!suffix && *p++ != '-')
            return arena_printf(a, "\"%.100s\" has %d codes; this model's IDs have %d", text, t + 1, l->positions);
    }
    return *p ? arena_printf(a, "\"%.100s\" goes on after its %d codes", text, l->positions) : NULL;
}

static void check_brought(struct ingest *in)
{
    struct engine_put_batch *b = in->batch;
    for (int32_t i = 0; i < b->count; i++) {
        if (!b->puts[i].brought_id)
            continue;
        const char *wrong = parse_id(&in->g->layout, b->puts[i].brought_id, in->item[i].codes, b->arena);
        if (wrong)
            refuse(in, i, "semantic_id", "invalid_semantic_id", wrong);
    }
}

static bool has_words(const struct document *d)
{
    struct str text = {0};
    document_text(d, &text);
    bool words = false;
    for (size_t i = 0; i < text.size && !words; i++)
        words = (unsigned char)text.data[i] > ' ';
    str_free(&text);
    return words;
}

static void check_embeddings(struct ingest *in)
{
    struct engine_put_batch *b = in->batch;
    for (int32_t i = 0; i < b->count; i++) {
        const char *wrong = b->puts[i].embedding ? engine_check_embedding(in->g, &b->puts[i], b->arena) : NULL;
        if (wrong)
            refuse(in, i, "embedding", "invalid_embedding", wrong);
    }
}

/* A document without anything to get an ID from. */
static void refuse_idless(struct ingest *in, int32_t i)
{
    const struct indexer *x = &in->g->indexer;
    struct engine_put_batch *b = in->batch;
    if (x->quantiser) {
        refuse(in, i, "embedding", "missing", arena_printf(b->arena, "embedding is missing: this model's documents bring their own, an array "
                                                                     "of %d numbers", x->vector_size));
        return;
    }
    b->conflict = true;
    refuse(in, i, "semantic_id", "not_in_model", "this model has no indexer: a document must bring its \"semantic_id\"");
}

/* looked_up: `stored` is known. A document that is there already keeps its ID also where nothing can be encoded. */
static void check_content(struct ingest *in, bool looked_up)
{
    struct engine_put_batch *b = in->batch;
    for (int32_t i = 0; i < b->count; i++) {
        struct ingest_item *item = &in->item[i];
        struct engine_put *p = &b->puts[i];
        if (engine_reads_texts(in->g)) {
            item->token_count = engine_document_tokens(in->g, &p->document, b->arena, &item->tokens, &p->truncated);
            if (item->token_count <= 1)
                refuse(in, i, "text", "no_words", "the document has no words: neither its title nor its text holds any");
        } else if (!p->brought_id && !p->embedding && !item->stored && looked_up) {
            refuse_idless(in, i);
        } else if (!has_words(&p->document)) {
            refuse(in, i, "text", "no_words", "the document has no words: neither its title nor its text holds any");
        }
    }
}

/* ---- what is stored already ---- */

static int look_up(struct ingest *in, struct catalog_reader *r, struct err *e)
{
    struct engine_put_batch *b = in->batch;
    size_t n = (size_t)b->count, width = (size_t)in->g->layout.positions * sizeof(uint32_t);
    const struct document **documents = arena_alloc(b->arena, n * sizeof *documents);
    const char **ids = arena_alloc(b->arena, n * sizeof *ids);
    bool *same = arena_alloc(b->arena, n);
    struct catalog_row *rows = arena_alloc(b->arena, n * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        documents[i] = &b->puts[i].document;
        ids[i] = b->puts[i].document.id;
    }
    if (catalog_same(r, documents, b->count, same, e) < 0 || catalog_find(r, ids, b->count, b->arena, rows, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        in->item[i].stored = same[i] && (!b->puts[i].brought_id || memcmp(rows[i].codes, in->item[i].codes, width) == 0) &&
                             (!b->puts[i].embedding || memcmp(rows[i].codes, in->item[i].codes, width - sizeof(uint32_t)) == 0);
    return 0;
}

static int find_stored(struct ingest *in, struct err *e)
{
    struct catalog_reader *r = catalog_reader_take(in->g->catalog, e);
    int rc = r ? look_up(in, r, e) : -1;
    catalog_reader_give(r);
    return rc;
}

/* ---- encode ---- */

static int encode(struct ingest *in, struct err *e)
{
    struct engine_put_batch *b = in->batch;
    struct indexer *x = &in->g->indexer;
    if (!engine_reads_texts(in->g))
        return 0;
    struct encode_item *items = arena_alloc(b->arena, (size_t)b->count * sizeof *items);
    int32_t n = 0;
    for (int32_t i = 0; i < b->count; i++) {
        struct ingest_item *item = &in->item[i];
        if (item->stored || item->encoded)
            continue;
        item->encoded = true;
        item->vector = arena_alloc(b->arena, (size_t)x->vector_size * sizeof(float));
        items[n++] = (struct encode_item){item->tokens, item->token_count, b->puts[i].brought_id != NULL, item->codes, item->vector};
    }
    return engine_encode(in->g, items, n, b->deadline_ms, e);
}

/* Codes of brought embeddings: known before the store is asked, so that a document whose embedding leads elsewhere than its stored ID counts
 * as changed. */
static int encode_brought(struct ingest *in, struct err *e)
{
    struct engine_put_batch *b = in->batch;
    size_t bytes = (size_t)in->g->indexer.vector_size * sizeof(float);
    struct encode_item *items = arena_alloc(b->arena, (size_t)b->count * sizeof *items);
    int32_t n = 0;
    for (int32_t i = 0; i < b->count; i++) {
        struct ingest_item *item = &in->item[i];
        if (!b->puts[i].embedding)
            continue;
        item->encoded = true;
        item->vector = arena_alloc(b->arena, bytes);
        memcpy(item->vector, b->puts[i].embedding, bytes);
        items[n++] = (struct encode_item){NULL, 0, b->puts[i].brought_id != NULL, item->codes, item->vector};
    }
    return n ? engine_encode(in->g, items, n, b->deadline_ms, e) : 0;
}

/* ---- store ---- */

static void put_of(const struct ingest *in, int32_t i, struct catalog_put *out)
{
    const struct ingest_item *item = &in->item[i];
    const struct engine_put *p = &in->batch->puts[i];
    int32_t positions = in->g->layout.positions;
    *out = (struct catalog_put){.document = &p->document};
    if (item->stored)
        return;
    out->codes = item->codes;
    out->code_count = p->brought_id ? positions : positions - 1;
    out->embedded = p->embedding != NULL;
    out->trained = p->brought_id && item->codes[positions - 1] < (uint32_t)in->g->layout.codes[positions - 1];
    out->vector = item->vector;
    out->vector_size = item->vector ? in->g->indexer.vector_size : 0;
}

/* 0 = a document must be encoded after all, -1 = refused. */
static int take_faults(struct ingest *in, const struct catalog_put *puts, struct err *e)
{
    struct engine_put_batch *b = in->batch;
    for (int32_t i = 0; i < b->count; i++) {
        const char *detail = puts[i].detail ? puts[i].detail : "the store refused this document";
        bool taken = puts[i].fault == FAULT_ID_TAKEN;
        if (puts[i].fault == FAULT_STALE && (engine_reads_texts(in->g) || b->puts[i].brought_id || b->puts[i].embedding)) {
            in->item[i].stored = false;
        } else if (puts[i].fault == FAULT_STALE) {
            refuse_idless(in, i);
        } else if (puts[i].fault != FAULT_NONE) {
            b->conflict |= taken;
            refuse(in, i, "semantic_id", taken ? "semantic_id_taken" : "invalid_semantic_id", detail);
        }
    }
    return b->error_count ? end_refused(b, e) : 0;
}

static void take_results(struct ingest *in, const struct catalog_batch *written)
{
    static const enum engine_status status[] = {STATUS_CREATED, STATUS_UPDATED, STATUS_UNCHANGED};
    in->batch->generation = written->generation;
    for (int32_t i = 0; i < in->batch->count; i++) {
        const struct catalog_put *from = &written->puts[i];
        in->batch->puts[i].status = status[from->status];
        in->batch->puts[i].semantic_id = engine_id_text(in->batch->arena, from->id_codes, in->g->layout.positions);
    }
}

static int store(struct ingest *in, struct err *e)
{
    struct engine_put_batch *b = in->batch;
    struct catalog_put *puts = arena_alloc(b->arena, (size_t)b->count * sizeof *puts);
    for (int tries = 0; tries < STALE_TRIES; tries++) {
        struct catalog_batch write = {.puts = puts, .put_count = b->count, .deadline_ms = b->deadline_ms, .arena = b->arena};
        if (encode(in, e) < 0)
            return -1;
        for (int32_t i = 0; i < b->count; i++)
            put_of(in, i, &puts[i]);
        if (catalog_write(in->g->catalog, &write, e) == 0) {
            take_results(in, &write);
            return 0;
        }
        if (!write.faults || take_faults(in, puts, e) < 0)
            return -1;
    }
    return err_set(e, ERR_UNAVAILABLE, "the same documents are being changed by others at this moment: try again");
}

int engine_index(struct engine *g, struct engine_put_batch *batch, struct err *e)
{
    struct ingest in = {.g = g, .batch = batch};
    batch->errors = NULL;
    batch->error_count = 0;
    batch->conflict = false;
    batch->generation = catalog_generation(g->catalog);
    if (batch->count == 0)
        return 0;
    in.item = arena_alloc(batch->arena, (size_t)batch->count * sizeof *in.item);
    check_ids(&in);
    check_brought(&in);
    check_embeddings(&in);
    if (batch->error_count == 0 && encode_brought(&in, e) < 0)
        return -1;
    bool look = batch->error_count == 0;
    if (look && find_stored(&in, e) < 0)
        return -1;
    check_content(&in, look);
    return batch->error_count ? end_refused(batch, e) : store(&in, e);
}
