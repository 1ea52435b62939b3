/* written.c: see written.h.
 *
 * Files are read one after the other, and a corpus is matched by document id, so a file written for a larger corpus, or for one whose documents
 * have moved, serves as well. Empty texts are errors, not pairs: whoever wrote the file should know. Owner of the strings: the struct. */
#include "written.h"

#include "corpus_internal.h"

#include <stdlib.h>
#include <string.h>

enum { QUERIES_MOST = 1 << 30 };

struct reader {
    struct written *w;
    const struct corpus *c;
    int32_t room;
};

static int add(struct reader *r, const char *id, const char *text)
{
    struct written *w = r->w;
    int32_t document = string_map_get(r->c->by_id, id, strlen(id));
    if (document < 0) {
        w->unknown++;
        return 0;
    }
    if (w->count == QUERIES_MOST)
        return -1;
    if (w->count == r->room)
        w->query = xrealloc(w->query, (size_t)(r->room = r->room ? r->room * 2 : 1024), sizeof *w->query);
    w->query[w->count++] = (struct written_query){document, arena_strndup(&w->strings, text, strlen(text))};
    w->digest = hash_bytes(text, strlen(text), w->digest + (uint64_t)document);
    return 0;
}

static int read_file(struct reader *r, const char *path, struct err *e)
{
    struct corpus_file f = {.path = path, .lines = lines_open(path, e)};
    int status = 0, rc = 0;
    cJSON *object;
    if (!f.lines)
        return -1;
    while (rc == 0 && (object = corpus_next_object(&f, &status, e))) {
        const char *id = corpus_string(object, "_id"), *text = corpus_string(object, "query");
        id = id ? id : corpus_string(object, "id");
        text = text ? text : corpus_string(object, "text");
        if (!id || !text)
            rc = corpus_line_error(&f, e, "a written query needs strings \"_id\" (of the document) and \"query\"");
        else if (text[strspn(text, " \t\r\n")] == 0)
            rc = corpus_line_error(&f, e, "the query is empty");
        else if (add(r, id, text) != 0)
            rc = corpus_line_error(&f, e, "more than 1,073,741,824 queries");
        cJSON_Delete(object);
    }
    lines_close(f.lines);
    return rc != 0 || status < 0 ? -1 : 0;
}

int written_read(struct written *w, const char *files, const struct corpus *c, const struct run *run, struct err *e)
{
    *w = (struct written){0};
    char *paths = xstrdup(files), *rest = paths, *path;
    struct reader r = {.w = w, .c = c};
    int rc = 0;
    arena_init(&w->strings, 0);
    while (rc == 0 && (path = strtok_r(rest, ",", &rest)) != NULL)
        rc = read_file(&r, path, e);
    free(paths);
    if (rc == 0 && w->unknown > 0)
        run_note(run, "%s: %lld queries name a document that is not in the corpus; they are left out", files, (long long)w->unknown);
    if (rc == 0 && w->count == 0)
        rc = err_set(e, ERR_DATA, "%s: no query for a document of the corpus", files);
    if (rc != 0)
        written_free(w);
    return rc;
}

void written_free(struct written *w)
{
    free(w->query);
    arena_free(&w->strings);
    *w = (struct written){0};
}

void written_line(struct str *out, const char *document, int32_t sample, const char *text)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "_id", document);
    cJSON_AddNumberToObject(o, "sample", sample);
    cJSON_AddStringToObject(o, "query", text);
    char *line = cJSON_PrintUnformatted(o);
    str_printf(out, "%s\n", line);
    cJSON_free(line);
    cJSON_Delete(o);
}
