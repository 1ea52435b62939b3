/* trec_run.c: see trec_run.h.
 *
 * Lines are collected with their number, sorted by (query, name) so that a document listed twice is found beside itself, then each query is
 * sorted by the tie rule. Scores are rounded to float when read, as trec_eval does, and written with nine digits, which name a float. */
#include "trec_run.h"

#include "../base/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 6 };

struct entry {
    int32_t query;
    float score;
    const char *name;
    int64_t line;
};
struct reading {
    const struct corpus *corpus;
    const char *path;
    struct string_map *queries;
    struct trec_run *run;
    struct entry *entry;
    int64_t capacity;
};

static int fail(const struct reading *r, int64_t line, struct err *e, const char *what, const char *value)
{
    return err_set(e, ERR_DATA, "%s: line %lld: %s%.200s", r->path, (long long)line, what, value);
}

/* Cuts the line at blanks; returns the number of fields, at most FIELDS + 1. */
static int split(char *line, char *field[FIELDS + 1])
{
    int n = 0;
    char *rest = line;
    for (char *part; n <= FIELDS && (part = strtok_r(rest, " \t\r", &rest)) != NULL;)
        field[n++] = part;
    return n;
}

static const char *name_of(struct reading *r, const char *name)
{
    int32_t document = string_map_get(r->corpus->by_id, name, strlen(name));
    return document >= 0 ? r->corpus->documents[document].id : arena_strndup(&r->run->names, name, strlen(name));
}

static int take_line(struct reading *r, char *line, int64_t number, struct err *e)
{
    char *field[FIELDS + 1], *end;
    int n = split(line, field);
    if (n == 0)
        return 0;
    if (n != FIELDS)
        return fail(r, number, e, "a run has six fields, qid Q0 docid rank score tag; here begins ", field[0]);
    float score = strtof(field[4], &end);
    if (*end || !isfinite(score))
        return fail(r, number, e, "the score is no number: ", field[4]);
    int32_t query = string_map_get(r->queries, field[0], strlen(field[0]));
    if (query < 0) {
        r->run->unknown++;
        return 0;
    }
    if (r->run->count == r->capacity) {
        r->capacity = r->capacity * 2 + 1024;
        r->entry = xrealloc(r->entry, (size_t)r->capacity, sizeof *r->entry);
    }
    r->entry[r->run->count++] = (struct entry){query, score, name_of(r, field[2]), number};
    return 0;
}

static int compare_entries(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->query != b->query)
        return a->query < b->query ? -1 : 1;
    int order = strcmp(a->name, b->name);
    return order ? order : (a->line > b->line) - (a->line < b->line);
}

static int check_twice(const struct reading *r, struct err *e)
{
    for (int64_t i = 1; i < r->run->count; i++)
        if (r->entry[i].query == r->entry[i - 1].query && strcmp(r->entry[i].name, r->entry[i - 1].name) == 0)
            return err_set(e, ERR_DATA, "%s: line %lld: query %s has document %.200s already in line %lld", r->path,
                           (long long)r->entry[i].line, r->corpus->test.query[r->entry[i].query].id, r->entry[i].name,
                           (long long)r->entry[i - 1].line);
    return 0;
}

static int finish(struct reading *r, struct err *e)
{
    struct trec_run *run = r->run;
    int32_t queries = r->corpus->test.count;
    if (run->count > 0)
        qsort(r->entry, (size_t)run->count, sizeof *r->entry, compare_entries);
    if (check_twice(r, e) != 0)
        return -1;
    run->hits = xcalloc((size_t)run->count + 1, sizeof *run->hits);
    run->first = xcalloc((size_t)queries + 1, sizeof *run->first);
    for (int64_t i = 0; i < run->count; i++) {
        run->hits[i] = (struct metrics_hit){r->entry[i].name, (double)r->entry[i].score, 0};
        run->first[r->entry[i].query + 1]++;
    }
    for (int32_t q = 0; q < queries; q++) {
        run->first[q + 1] += run->first[q];
        metrics_sort(run->hits + run->first[q], (int32_t)(run->first[q + 1] - run->first[q]));
    }
    return 0;
}

static int read_lines(struct reading *r, struct err *e)
{
    struct lines *lines = lines_open(r->path, e);
    char *line;
    size_t size;
    int rc = lines == NULL ? -1 : 1;
    while (rc == 1 && (rc = lines_next(lines, &line, &size, e)) == 1)
        if (take_line(r, line, lines_number(lines), e) != 0)
            rc = -1;
    lines_close(lines);
    return rc;
}

int trec_run_read(struct trec_run *run, const char *path, const struct corpus *c, struct err *e)
{
    *run = (struct trec_run){0};
    arena_init(&run->names, 0);
    struct reading r = {.corpus = c, .path = path, .run = run, .queries = string_map_init(c->test.count)};
    for (int32_t q = 0; q < c->test.count; q++)
        string_map_put(r.queries, c->test.query[q].id, strlen(c->test.query[q].id), q);
    int rc = read_lines(&r, e);
    if (rc == 0)
        rc = finish(&r, e);
    string_map_free(r.queries);
    free(r.entry);
    return rc;
}

void trec_run_free(struct trec_run *r)
{
    free(r->hits);
    free(r->first);
    arena_free(&r->names);
    *r = (struct trec_run){0};
}

void trec_run_write(FILE *f, const char *query, const struct metrics_hit *hits, int32_t count, const char *tag)
{
    for (int32_t i = 0; i < count; i++)
        fprintf(f, "%s Q0 %s %d %.9g %s\n", query, hits[i].document, i + 1, hits[i].score, tag);
}

bool trec_run_can_name(const char *name)
{
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        if (*p <= ' ' || *p == 0x7f)
            return false;
    return *name != 0;
}
