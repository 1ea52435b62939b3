/* learn_output.c: the end of a learning run: suffixes, then the bundle, whole or not at all.
 *
 * A suffix is the document's rank in its bucket, in corpus order, from 0. The suffix vocabulary is the largest bucket: it grows with the
 * corpus and nothing wraps, drops or collides. Task models of older IDs would answer with IDs that no longer mean anything: a renewed
 * bundle leaves them out. */
#include "learn_internal.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "../model/model_file.h"
#include "../model/text_embedding.h"
#include "provenance.h"

#include <cjson/cJSON.h>
#include <string.h>

static void fill_suffixes(const struct learn *s, struct id_table *ids)
{
    size_t prefix = (size_t)s->o.positions, stride = prefix + 1;
    struct string_map *first = string_map_init(s->n);
    int32_t *count = xcalloc((size_t)s->n, sizeof *count);
    for (int32_t i = 0; i < s->n; i++) {
        const char *key = (const char *)(s->codes + (size_t)i * prefix);
        string_map_put(first, key, prefix * sizeof(int32_t), i);
        int32_t bucket = string_map_get(first, key, prefix * sizeof(int32_t));
        for (size_t t = 0; t < prefix; t++)
            ids->codes[(size_t)i * stride + t] = (uint32_t)s->codes[(size_t)i * prefix + t];
        ids->codes[(size_t)i * stride + prefix] = (uint32_t)count[bucket]++;
    }
    string_map_free(first);
    free(count);
}

static void ids_of(const struct learn *s, struct id_table *ids)
{
    *ids = (struct id_table){.count = s->n, .positions = s->o.positions + 1};
    ids->name = xcalloc((size_t)s->n, sizeof *ids->name);
    ids->codes = xcalloc((size_t)s->n * (size_t)ids->positions, sizeof *ids->codes);
    for (int32_t i = 0; i < s->n; i++)
        ids->name[i] = xstrdup(s->corpus.documents[i].id);
    fill_suffixes(s, ids);
}

static void print_document(FILE *out, const struct document *d)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", d->id);
    if (d->title)
        cJSON_AddStringToObject(o, "title", d->title);
    if (d->text)
        cJSON_AddStringToObject(o, "text", d->text);
    if (d->attributes)
        cJSON_AddRawToObject(o, "attributes", d->attributes);
    char *line = cJSON_PrintUnformatted(o);
    fprintf(out, "%s\n", line);
    cJSON_free(line);
    cJSON_Delete(o);
}

static int write_documents(const struct learn *s, const char *path, struct err *e)
{
    struct file_out out;
    if (file_out_open(&out, path, e) < 0)
        return -1;
    for (int32_t i = 0; i < s->n; i++)
        print_document(out.stream, &s->corpus.documents[i]);
    return file_out_commit(&out, e);
}

static int put_ids(struct learn *s, struct bundle *b, const struct id_table *ids, struct err *e)
{
    char *ids_path = bundle_path(b, "ids.tsv"), *documents = bundle_path(b, "documents.jsonl");
    int rc = id_table_write(ids, ids_path, e);
    if (rc == 0)
        rc = write_documents(s, documents, e);
    free(ids_path);
    free(documents);
    return rc;
}

static int put_indexer(struct learn *s, struct bundle *b, struct err *e)
{
    if (s->quantiser)
        return quantiser_write(s->quantiser, b, e) < 0 || (s->texts && text_embedding_write(s->texts, b, e) < 0) ? -1 : 0;
    struct code_layout layout = {.base = t5_config_of(s->model)->vocab, .positions = s->o.positions};
    for (int32_t t = 0; t < s->o.positions; t++)
        layout.codes[t] = s->o.codes;
    char *settings = xprintf("{\"max_tokens\":%d,\"seed\":%llu,\"from_base\":%s}", s->o.max_tokens, (unsigned long long)s->o.seed,
                             s->o.base ? "true" : "false");
    int rc = model_file_write(b, "indexer", s->model, &layout, settings, e);
    free(settings);
    return rc;
}

static int put_run(struct learn *s, struct bundle *b, struct err *e)
{
    char *settings = s->quantiser ? learn_quantiser_settings(s) : xstrdup(s->settings);
    const struct provenance p = {.command = "learn-ids", .data = s->o.data, .corpus = &s->corpus, .documents = s->n, .seed = s->o.seed,
                                 .given = s->o.given, .settings = settings, .search = &s->o.search, .figure = s->rate_gain};
    int rc = provenance_put(b, "learn-ids.run.json", &p, e);
    free(settings);
    return rc;
}

static int put_parts(struct learn *s, struct bundle *b, const struct id_table *ids, struct err *e)
{
    size_t size;
    char *tokenizer = file_read(s->tokenizer_path, 0, &size, e);
    if (!tokenizer)
        return -1;
    int rc = bundle_put(b, "tokenizer.model", tokenizer, size, e);
    if (rc == 0)
        rc = put_indexer(s, b, e);
    if (rc == 0)
        rc = put_ids(s, b, ids, e);
    if (rc == 0)
        rc = put_run(s, b, e);
    free(tokenizer);
    return rc;
}

static void note_ids(struct learn *s, const struct id_table *ids)
{
    struct id_statistics st;
    id_statistics(ids->codes, ids->count, ids->positions, s->o.positions - 1, &st);
    run_note(s->run, "ids: documents=%d unique_prefixes=%d collision_rate=%.4f largest_bucket=%d", ids->count, st.unique_prefixes,
             st.collision_rate, st.largest_bucket);
}

int learn_write_bundle(struct learn *s, struct err *e)
{
    struct id_table ids;
    struct bundle *b = bundle_create(s->o.out, true, e);
    if (!b)
        return -1;
    ids_of(s, &ids);
    int rc = bundle_begin(b, e);
    if (rc == 0)
        rc = put_parts(s, b, &ids, e);
    if (rc == 0)
        rc = bundle_commit(b, e);
    else
        bundle_abandon(b);
    if (rc == 0)
        note_ids(s, &ids);
    id_table_free(&ids);
    bundle_close(b);
    return rc;
}
