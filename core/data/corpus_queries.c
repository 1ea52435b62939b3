/* corpus_queries.c: queries and their judgements, test and training sets.
 *
 * Judgements of unknown queries or documents do occur in published sets: they are counted and reported, not errors. A line that does not
 * have three fields with an integer grade is an error. */
#include "corpus_internal.h"

#include <stdlib.h>
#include <string.h>

static int read_query_file(struct corpus *c, struct corpus_queries *q, struct string_map *by_id, const char *path, struct err *e)
{
    int32_t room = 0;
    int status, rc = 0;
    cJSON *object;
    struct corpus_file f = {.path = path, .lines = lines_open(path, e)};
    if (!f.lines)
        return -1;
    while (rc == 0 && (object = corpus_next_object(&f, &status, e))) {
        const char *id = corpus_string(object, "_id"), *text = corpus_string(object, "text");
        id = id ? id : corpus_string(object, "id");
        if (!id || !text)
            rc = corpus_line_error(&f, e, "a query needs strings \"_id\" and \"text\"");
        else if (!string_map_put(by_id, id, strlen(id), q->count))
            rc = corpus_line_error(&f, e, "this query id was there already");
        if (rc == 0) {
            if (q->count == room)
                q->query = xrealloc(q->query, (size_t)(room = room ? room * 2 : 256), sizeof *q->query);
            q->query[q->count++] = (struct corpus_query){.id = arena_strndup(&c->strings, id, strlen(id)),
                                                         .text = arena_strndup(&c->strings, text, strlen(text)),
                                                         .line = lines_number(f.lines)};
        }
        cJSON_Delete(object);
    }
    lines_close(f.lines);
    return rc < 0 || status < 0 ? -1 : 0;
}

/* "query TAB document TAB grade" into fields; 0 = header, 1 = judgement, -1 = neither. */
static int split_judgement(char *line, char *field[3], int64_t number)
{
    char *save = NULL, *end;
    for (int i = 0; i < 3; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, "\t\r", &save)))
            return -1;
    if (strtok_r(NULL, "\t\r", &save))
        return -1;
    strtol(field[2], &end, 10);
    if (*end == 0 && *field[2])
        return 1;
    return number == 1 ? 0 : -1;
}

static int compare_judgements(const void *a, const void *b)
{
    const struct corpus_judgement *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

struct judgement_reader {
    struct corpus *c;
    struct corpus_queries *q;
    const struct string_map *by_id;
    int32_t room, unknown;
};

static void add_judgement(struct judgement_reader *r, char *field[3])
{
    int32_t query = string_map_get(r->by_id, field[0], strlen(field[0]));
    int32_t document = string_map_get(r->c->by_id, field[1], strlen(field[1]));
    if (query < 0 || document < 0) {
        r->unknown++;
        return;
    }
    if (r->q->judgements == r->room)
        r->q->judgement = xrealloc(r->q->judgement, (size_t)(r->room = r->room ? r->room * 2 : 1024), sizeof *r->q->judgement);
    r->q->judgement[r->q->judgements++] = (struct corpus_judgement){query, document, (int32_t)strtol(field[2], NULL, 10)};
}

static int read_judgements(struct judgement_reader *r, const char *path, const struct run *run, struct err *e)
{
    char *line, *field[3];
    size_t size;
    int status = 0, rc = 0;
    struct corpus_file f = {.path = path, .lines = lines_open(path, e)};
    if (!f.lines)
        return -1;
    while (rc == 0 && (status = lines_next(f.lines, &line, &size, e)) == 1) {
        int kind = *line ? split_judgement(line, field, lines_number(f.lines)) : 0;
        if (kind < 0)
            rc = corpus_line_error(&f, e, "is not \"query TAB document TAB integer grade\"");
        else if (kind == 1)
            add_judgement(r, field);
    }
    lines_close(f.lines);
    if (rc < 0 || status < 0)
        return -1;
    if (r->q->judgements)
        qsort(r->q->judgement, (size_t)r->q->judgements, sizeof *r->q->judgement, compare_judgements);
    if (r->unknown)
        run_note(run, "%s: %d judgements name a query or document that is not there; they are left out", path, r->unknown);
    return 0;
}

/* The first of two names under folder that exists, or NULL. Caller frees. */
static char *first_of(const char *folder, const char *a, const char *b)
{
    char *path = path_join(folder, a);
    if (file_exists(path))
        return path;
    free(path);
    path = b ? path_join(folder, b) : NULL;
    if (path && file_exists(path))
        return path;
    free(path);
    return NULL;
}

static int read_set(struct corpus *c, struct corpus_queries *q, char *queries, char *judgements, const struct run *run, struct err *e)
{
    int rc = 0;
    if (queries && judgements) {
        struct string_map *by_id = string_map_init(256);
        struct judgement_reader r = {.c = c, .q = q, .by_id = by_id};
        rc = read_query_file(c, q, by_id, queries, e);
        if (rc == 0)
            rc = read_judgements(&r, judgements, run, e);
        string_map_free(by_id);
    }
    free(queries);
    free(judgements);
    return rc;
}

int corpus_read_queries(struct corpus *c, const char *folder, const struct run *run, struct err *e)
{
    if (read_set(c, &c->test, first_of(folder, "queries.jsonl", NULL), first_of(folder, "qrels.tsv", "qrels/test.tsv"), run, e) < 0)
        return -1;
    return read_set(c, &c->train, first_of(folder, "queries-train.jsonl", "queries.jsonl"), first_of(folder, "qrels-train.tsv", "qrels/train.tsv"), run, e);
}

int32_t *corpus_judgements(const struct corpus_queries *q)
{
    int32_t *first = xcalloc((size_t)q->count + 1, sizeof *first);
    for (int32_t i = 0, at = 0; i < q->count; i++) {
        first[i] = at;
        while (at < q->judgements && q->judgement[at].query == i)
            at++;
        first[i + 1] = at;
    }
    return first;
}
