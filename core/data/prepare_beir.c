/* prepare_beir.c: a BEIR folder checked and written in the one form that the corpus reader takes.
 *
 * Documents keep their place and their further members; ids become strings, a missing title or text the empty one. The queries file of BEIR
 * holds all splits at once: each query goes to the file of the split whose judgements name it; when two do, to both. Held in memory: the
 * ids of documents, and the judgements. */
#include "../text/document.h"
#include "prepare_internal.h"

#include <stdlib.h>
#include <string.h>

struct folder {
    struct prepare *p;
    struct prepare_labels set[3];
    struct string_map *ids;
};

/* The line's "_id" as a string in the object itself, a number turned into one; NULL with a bad line counted, *rc 0 or -1. */
static const char *take_id(struct prepare_input *in, cJSON *o, int *rc, struct err *e)
{
    cJSON *id = cJSON_GetObjectItemCaseSensitive(o, "_id");
    struct err why;
    *rc = 0;
    if (cJSON_IsNumber(id)) {
        char text[32];
        snprintf(text, sizeof text, "%.17g", id->valuedouble);
        cJSON_ReplaceItemInObjectCaseSensitive(o, "_id", cJSON_CreateString(text));
        id = cJSON_GetObjectItemCaseSensitive(o, "_id");
    }
    if (!cJSON_IsString(id))
        *rc = prepare_bad(in, e, "has no \"_id\"");
    else if (document_check_id(id->valuestring, strlen(id->valuestring), &why) < 0)
        *rc = prepare_bad(in, e, "\"_id\" %s", why.message);
    else if (strpbrk(id->valuestring, "\t"))
        *rc = prepare_bad(in, e, "\"_id\" has a tab");
    else
        return id->valuestring;
    return NULL;
}

/* A string member made clean; missing or null becomes empty; another type is bad. */
static int mend_text(struct prepare_input *in, cJSON *o, const char *name, size_t most, struct err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    if (v && !cJSON_IsString(v) && !cJSON_IsNull(v))
        return prepare_bad(in, e, "\"%s\" is not a string", name) < 0 ? -1 : 1;
    struct str clean = {0};
    prepare_clean(&clean, cJSON_IsString(v) ? v->valuestring : "", false, most);
    if (v)
        cJSON_ReplaceItemInObjectCaseSensitive(o, name, cJSON_CreateString(clean.data));
    else
        cJSON_AddStringToObject(o, name, clean.data);
    str_free(&clean);
    return 0;
}

static int add_document(struct folder *b, struct prepare_input *in, cJSON *o, FILE *f, struct err *e)
{
    int rc;
    const char *id = take_id(in, o, &rc, e);
    if (!id)
        return rc;
    if ((rc = mend_text(in, o, "title", 0, e)) || (rc = mend_text(in, o, "text", (size_t)b->p->o->max_text, e)))
        return rc < 0 ? -1 : 0;
    if (!string_map_put(b->ids, id, strlen(id), 1))
        return prepare_bad(in, e, "document %s was there before", id);
    for (int i = 0; i < 3; i++)
        prepare_labels_see(&b->set[i], id);
    char *line = cJSON_PrintUnformatted(o);
    fprintf(f, "%s\n", line);
    cJSON_free(line);
    b->p->count[COUNT_DOCUMENTS]++;
    return 0;
}

static int write_documents(struct folder *b, FILE *f, struct err *e)
{
    struct prepare_input in;
    cJSON *o;
    int status = 0;
    if (prepare_open(&in, b->p, b->p->files[0].path[0], e) < 0)
        return -1;
    while (status >= 0 && (o = prepare_next_object(&in, &status, e))) {
        if (add_document(b, &in, o, f, e) < 0)
            status = -1;
        cJSON_Delete(o);
    }
    prepare_close(&in);
    return status;
}

static int write_corpus(struct folder *b, struct err *e)
{
    static const char *const names[] = {"present-train.bin", "present-dev.bin", "present-test.bin"};
    struct file_out f;
    if (prepare_create(b->p, &f, "corpus.jsonl", e) < 0)
        return -1;
    int rc = write_documents(b, f.stream, e);
    if (rc == 0 && b->p->count[COUNT_DOCUMENTS] == 0)
        rc = err_set(e, ERR_DATA, "%s: no documents", b->p->files[0].path[0]);
    if (rc == 0)
        rc = file_out_commit(&f, e);
    file_out_cancel(&f);
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = prepare_save(b->p, names[i], b->set[i].present, (size_t)b->set[i].documents.count, e);
    return rc;
}

static int phase_corpus(struct folder *b, struct err *e)
{
    static const char *const names[] = {"present-train.bin", "present-dev.bin", "present-test.bin"};
    int done = prepare_phase(b->p, "corpus", e);
    if (done == 0)
        return write_corpus(b, e) < 0 ? -1 : prepare_phase_end(b->p, e);
    for (int i = 0; i < 3 && done == 1; i++) {
        free(b->set[i].present);
        b->set[i].present = prepare_load(b->p, names[i], (size_t)b->set[i].documents.count, e);
        done = b->set[i].present ? 1 : -1;
    }
    return done < 0 ? -1 : 0;
}

static int add_query(struct folder *b, struct prepare_input *in, cJSON *o, FILE *const f[3], struct err *e)
{
    int rc;
    const char *id = take_id(in, o, &rc, e);
    if (!id)
        return rc;
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "text"));
    if (!text || text[strspn(text, " \t\r\n")] == 0)
        return prepare_bad(in, e, "\"text\" is missing or empty");
    if (!string_map_put(b->ids, id, strlen(id), 1))
        return prepare_bad(in, e, "query %s was there before", id);
    struct str clean = {0};
    prepare_clean(&clean, text, false, 0);
    for (int i = 0; i < 3; i++)
        prepare_labels_query(b->p, &b->set[i], f, id, clean.data);
    str_free(&clean);
    return 0;
}

static int stream_queries(struct folder *b, FILE *const f[3], struct err *e)
{
    struct prepare_input in;
    cJSON *o;
    int status = 0;
    if (prepare_open(&in, b->p, b->p->files[1].path[0], e) < 0)
        return -1;
    while (status >= 0 && (o = prepare_next_object(&in, &status, e))) {
        if (add_query(b, &in, o, f, e) < 0)
            status = -1;
        cJSON_Delete(o);
    }
    prepare_close(&in);
    return status;
}

static int write_queries(struct folder *b, struct err *e)
{
    struct file_out f[3] = {{0}};
    FILE *stream[3] = {NULL, NULL, NULL};
    int rc = 0;
    string_map_free(b->ids);
    b->ids = string_map_init(1024);
    for (int i = 0; i < 3 && rc == 0; i++) {
        if (b->p->files[2 + i].count && (rc = prepare_create(b->p, &f[i], prepare_query_file[i], e)) == 0)
            stream[i] = f[i].stream;
        prepare_labels_assign(&b->set[i], (enum prepare_split)i);
    }
    if (rc == 0)
        rc = stream_queries(b, stream, e);
    for (int i = 0; i < 3 && rc == 0; i++) {
        if (!stream[i])
            continue;
        rc = file_out_commit(&f[i], e);
        if (rc == 0)
            rc = prepare_labels_write(b->p, &b->set[i], (enum prepare_split)i, e);
        if (rc == 0)
            prepare_labels_count_rest(b->p, &b->set[i]);
    }
    for (int i = 0; i < 3; i++)
        file_out_cancel(&f[i]);
    return rc;
}

int prepare_beir(struct prepare *p, struct err *e)
{
    struct folder b = {.p = p, .ids = string_map_init(1024)};
    int rc = prepare_phase(p, "labels", e) < 0 ? -1 : 0; /* only ids: read again each time */
    for (int i = 0; i < 3; i++)
        prepare_labels_init(&b.set[i]);
    for (int i = 0; i < 3; i++) {
        if (rc == 0 && p->files[2 + i].count)
            rc = prepare_labels_read(p, &b.set[i], p->files[2 + i].path[0], e);
        prepare_labels_ready(p, &b.set[i]);
    }
    if (rc == 0)
        rc = phase_corpus(&b, e);
    int done = rc == 0 ? prepare_phase(p, "queries", e) : -1;
    if (done == 0)
        rc = write_queries(&b, e) < 0 ? -1 : prepare_phase_end(p, e);
    for (int i = 0; i < 3; i++)
        prepare_labels_free(&b.set[i]);
    string_map_free(b.ids);
    return done < 0 ? -1 : rc;
}
