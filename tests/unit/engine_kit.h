/* engine_kit.h: what the tests of the engine share: bundles made on the spot, queries and puts in one line, the reference results.
 *
 * kit_import makes a bundle of the imported reference retriever. kit_learned makes one with all parts (indexer, search, recommend) from random
 * weights over the reference tokenizer: what its models answer is noise, but IDs, buckets, histories and stored vectors are all there. */
#ifndef SEMINDEX_ENGINE_KIT_H
#define SEMINDEX_ENGINE_KIT_H

#include "../../core/base/file.h"
#include "../../core/engine.h"
#include "../../core/learn/lmindexer.h"
#include "../../core/model/import.h"
#include "../../core/model/model_file.h"
#include "../../core/model/safetensors.h"
#include "../../core/text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KIT_CODES = 6, KIT_SUFFIXES = 40, KIT_DOCUMENTS = 60 };

#define KIT_NEED(condition, e)                                                                                                             \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, (e)->message);                                              \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

struct kit_shape { /* of the models of kit_learned */
    int32_t d_model, d_ff, heads, d_kv, encoder_layers, decoder_layers, codes;
};
static const struct kit_shape kit_small = {32, 64, 4, 8, 2, 2, KIT_CODES};

struct kit {
    struct kit_shape shape; /* {0} = kit_small */
    char *folder, *fixture, *bundle, *catalog;
    struct engine *engine;
    struct arena arena; /* of queries and batches, until kit_close */
};

static inline uint64_t kit_draw(uint64_t *state)
{
    return *state = mix64(*state, 1);
}

static inline int32_t kit_below(uint64_t *state, int32_t n)
{
    return (int32_t)(kit_draw(state) % (uint64_t)n);
}

/* ---- words of the reference tokenizer ---- */

static inline char *kit_words(const struct kit *k, uint64_t seed, int n)
{
    static char *words[4096];
    static int count;
    if (!count) {
        struct err e;
        size_t size;
        char *path = path_join(k->fixture, "queries.txt"), *text = file_read(path, 0, &size, &e), *at = NULL;
        KIT_NEED(text, &e);
        for (char *w = strtok_r(text, " \n", &at); w && count < 4096; w = strtok_r(NULL, " \n", &at))
            words[count++] = w; /* kept for the process's life */
        free(path);
    }
    struct str s = {0};
    for (int i = 0; i < n; i++)
        str_printf(&s, "%s%s", i ? " " : "", words[kit_below(&seed, count)]);
    return s.data;
}

/* ---- bundles ---- */

static inline void kit_import(struct kit *k)
{
    struct err e = {0};
    char *model = path_join(k->fixture, "model"), *codes = path_join(k->fixture, "codes.json"), *ids = path_join(k->fixture, "ids.tsv");
    const struct import_options o = {.folder = model, .codes = codes, .ids = ids, .out = k->bundle};
    KIT_NEED(import_run(&o, NULL, &e) == 0, &e);
    free(model);
    free(codes);
    free(ids);
}

static inline struct t5 *kit_model(const struct kit_shape *s, int32_t vocab, int32_t positions, struct code_layout *l, bool indexer)
{
    char message[256];
    const struct backend *be = backend_open("cpu", 2, message, sizeof message);
    CHECK(be);
    struct err e = {0};
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    *l = (struct code_layout){.base = vocab, .positions = positions, .codes = {s->codes, s->codes, KIT_SUFFIXES}};
    struct t5_options o = {.config = {.vocab = vocab, .codes = code_layout_total(l), .d_model = s->d_model, .d_kv = s->d_kv, .d_ff = s->d_ff,
                                      .heads = s->heads, .encoder_layers = s->encoder_layers, .decoder_layers = s->decoder_layers, .buckets = 32, .max_distance = 128, .eps = 1e-6f,
                                      .scale_output = true}};
    o.extra = extra;
    o.extra_count = indexer ? lmindexer_extras(&o.config, positions, s->codes, extra) : 0;
    struct t5 *m = t5_init(be, &o, &e);
    KIT_NEED(m, &e);
    t5_randomise(m, 11 + (uint64_t)positions);
    return m;
}

static inline void kit_put_part(const struct kit *k, struct bundle *b, const char *part, int32_t positions, const char *settings, int32_t vocab)
{
    struct err e = {0};
    struct code_layout l;
    struct t5 *m = kit_model(&k->shape, vocab, positions, &l, !strcmp(part, "indexer"));
    KIT_NEED(model_file_write(b, part, m, &l, settings, &e) == 0, &e);
    t5_free(m);
}

/* Document i: ID (i % 6)-(i / 6 % 6)-(i / 36), title of three words. */
static inline void kit_put_documents(struct kit *k, struct bundle *b)
{
    struct str ids = {0}, documents = {0}, popular = {0};
    struct err e = {0};
    for (int i = 0; i < KIT_DOCUMENTS; i++) {
        char *words = kit_words(k, (uint64_t)i, 3);
        str_printf(&ids, "doc%d\t%d-%d-%d\n", i, i % KIT_CODES, i / KIT_CODES % KIT_CODES, i / (KIT_CODES * KIT_CODES));
        str_printf(&documents, "{\"id\":\"doc%d\",\"title\":\"%s\",\"text\":\"\",\"attributes\":{\"n\":%d}}\n", i, words, i);
        str_printf(&popular, "doc%d\t%d\n", KIT_DOCUMENTS - 1 - i, 1000 - i);
        free(words);
    }
    KIT_NEED(bundle_put(b, "ids.tsv", ids.data, ids.size, &e) == 0 && bundle_put(b, "documents.jsonl", documents.data, documents.size, &e) == 0 &&
                 bundle_put(b, "popular.tsv", popular.data, popular.size, &e) == 0, &e);
    str_free(&ids);
    str_free(&documents);
    str_free(&popular);
}

static inline void kit_learned(struct kit *k)
{
    struct err e = {0};
    size_t size;
    char *path = path_join(k->fixture, "model/spiece.model"), *spiece = file_read(path, 0, &size, &e);
    struct tokenizer *t = spiece ? tokenizer_open(path, &e) : NULL;
    KIT_NEED(t, &e);
    struct bundle *b = bundle_create(k->bundle, false, &e);
    KIT_NEED(b && bundle_begin(b, &e) == 0 && bundle_put(b, "tokenizer.model", spiece, size, &e) == 0, &e);
    kit_put_part(k, b, "indexer", 2, "{\"max_tokens\":64}", tokenizer_size(t));
    kit_put_part(k, b, "search", 3, "{\"max_tokens\":16}", tokenizer_size(t));
    kit_put_part(k, b, "recommend", 3, "{\"input\":\"ids\",\"max_history\":5}", tokenizer_size(t));
    kit_put_documents(k, b);
    KIT_NEED(bundle_commit(b, &e) == 0, &e);
    bundle_close(b);
    tokenizer_close(t);
    free(spiece);
    free(path);
}

/* ---- engine ---- */

static const char *kit_device = "cpu";

static inline struct engine *kit_engine(const char *bundle, const char *catalog, struct err *e)
{
    const struct engine_options o = {.model = bundle, .catalog = catalog, .device = kit_device, .threads = 2, .max_beam = 1000,
                                     .max_query_tokens = 256, .max_document_tokens = 256, .max_history = 20, .batch_tokens = 256,
                                     .batch_rows = 8, .recordings_mib = 16};
    return engine_open(&o, NULL, e);
}

static inline void kit_start(struct kit *k)
{
    struct err e = {0};
    k->engine = kit_engine(k->bundle, k->catalog, &e);
    KIT_NEED(k->engine, &e);
}

static inline void kit_open(struct kit *k, const char *fixtures, bool learned)
{
    const char *base = getenv("TMPDIR");
    *k = (struct kit){.shape = k->shape.d_model ? k->shape : kit_small, .folder = xprintf("%s/semindex-engine-XXXXXX", base && *base ? base : "/tmp"),
                      .fixture = path_join(fixtures, "beam")};
    CHECK(mkdtemp(k->folder));
    k->bundle = path_join(k->folder, "bundle");
    k->catalog = path_join(k->folder, "catalog.db");
    arena_init(&k->arena, 0);
    if (learned)
        kit_learned(k);
    else
        kit_import(k);
    kit_start(k);
}

static inline void kit_close(struct kit *k)
{
    struct err e;
    engine_close(k->engine);
    file_remove_tree(k->folder, &e);
    arena_free(&k->arena);
    free(k->folder);
    free(k->fixture);
    free(k->bundle);
    free(k->catalog);
}

/* ---- one-line requests ---- */

static inline struct engine_query kit_search(struct kit *k, const char *text, enum engine_mode mode, int32_t limit)
{
    return (struct engine_query){.task = TASK_SEARCH, .mode = mode, .text = text, .limit = limit, .arena = &k->arena};
}

static inline void kit_run(struct kit *k, struct engine_query *q)
{
    struct err e = {0};
    KIT_NEED(engine_prepare(k->engine, q, &e) == 0, &e);
    engine_run(k->engine, &q, 1);
    KIT_NEED(q->err.code == ERR_NONE, &q->err);
}

static inline const struct engine_hit *kit_find(const struct engine_query *q, const char *id)
{
    for (int32_t i = 0; i < q->hit_count; i++)
        if (!strcmp(q->hits[i].id, id))
            return &q->hits[i];
    return NULL;
}

/* Indexes one document; returns engine_index's code, *out and *e filled. */
static inline int kit_put(struct kit *k, const char *id, const char *title, const char *brought, struct engine_put *out, struct engine_put_error *why)
{
    struct err e = {0};
    struct engine_put *put = arena_alloc(&k->arena, sizeof *put);
    *put = (struct engine_put){.document = {.id = id, .title = title}, .brought_id = brought};
    struct engine_put_batch b = {.puts = put, .count = 1, .arena = &k->arena};
    int rc = engine_index(k->engine, &b, &e);
    if (out)
        *out = *put;
    if (why)
        *why = b.error_count ? b.errors[0] : (struct engine_put_error){.code = ""};
    if (rc < 0 && !b.error_count)
        fprintf(stderr, "engine_index: %s\n", e.message);
    return rc;
}

#endif
