/* parity_metrics.c: ranking metrics and AMI against metrics/ of a reference folder: every value of every query, the averages, every pair of
 * labelings. Which metrics and cuts there are is read from the expected names ("nDCG_retrieved@20"). */
#include "parity.h"
#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/data/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ranking { /* one query */
    char *name;
    struct metrics_hit *hits;
    struct truth {
        char *document;
        int32_t grade;
    } * truth;
    int32_t hit_count, truth_count;
    int32_t *grades, *relevant, relevants; /* what metrics_value reads, made by rank_query */
};
struct rankings {
    struct ranking *query;
    int32_t count;
    struct string_map *by_name;
    struct arena strings;
};

static struct ranking *ranking_of(struct rankings *r, const char *name, bool add)
{
    int32_t i = string_map_get(r->by_name, name, strlen(name));
    if (i >= 0 || !add)
        return i >= 0 ? &r->query[i] : NULL;
    string_map_put(r->by_name, name, strlen(name), r->count);
    r->query = xrealloc(r->query, (size_t)r->count + 1, sizeof *r->query);
    r->query[r->count] = (struct ranking){.name = arena_strndup(&r->strings, name, strlen(name))};
    return &r->query[r->count++];
}

static void add_line(struct rankings *r, char *line, bool is_run)
{
    char *save = NULL, *query = strtok_r(line, "\t", &save), *document = strtok_r(NULL, "\t", &save), *value = strtok_r(NULL, "\t\r", &save);
    if (!value)
        return;
    struct ranking *q = ranking_of(r, query, true);
    char *id = arena_strndup(&r->strings, document, strlen(document));
    if (is_run) {
        q->hits = xrealloc(q->hits, (size_t)q->hit_count + 1, sizeof *q->hits);
        q->hits[q->hit_count++] = (struct metrics_hit){id, strtod(value, NULL), 0};
    } else {
        q->truth = xrealloc(q->truth, (size_t)q->truth_count + 1, sizeof *q->truth);
        q->truth[q->truth_count++] = (struct truth){id, (int32_t)strtol(value, NULL, 10)};
    }
}

static int read_table(const struct parity_case *c, struct rankings *r, const char *file, bool is_run)
{
    struct err e;
    char *path = parity_path(c, file), *line;
    size_t size;
    struct lines *lines = lines_open(path, &e);
    free(path);
    if (!lines)
        return parity_fail(c->name, "%s", e.message);
    while (lines_next(lines, &line, &size, &e) == 1)
        if (is_run || lines_number(lines) > 1)
            add_line(r, line, is_run);
    lines_close(lines);
    return 0;
}

static int32_t grade_of(const struct ranking *q, const char *document)
{
    for (int32_t i = 0; i < q->truth_count; i++)
        if (strcmp(q->truth[i].document, document) == 0)
            return q->truth[i].grade > 0 ? q->truth[i].grade : 0;
    return 0;
}

static void rank_query(struct ranking *q)
{
    q->grades = xcalloc((size_t)q->hit_count + 1, sizeof *q->grades);
    q->relevant = xcalloc((size_t)q->truth_count + 1, sizeof *q->relevant);
    metrics_sort(q->hits, q->hit_count);
    for (int32_t i = 0; i < q->hit_count; i++)
        q->grades[i] = grade_of(q, q->hits[i].document);
    for (int32_t i = 0; i < q->truth_count; i++)
        if (q->truth[i].grade >= 1)
            q->relevant[q->relevants++] = q->truth[i].grade;
}

/* The value of "NAME@k" for one query; false if the name is none of ours. */
static bool value_of(const struct ranking *q, const char *name, double *value)
{
    struct metrics_metric m;
    const struct metrics_query query = {q->grades, q->hit_count, q->relevant, q->relevants};
    if (!metrics_parse(name, &m))
        return false;
    *value = metrics_value(&m, &query);
    return true;
}

static bool averaged(const struct ranking *q)
{
    return q->relevants > 0;
}

static void check_value(const char *line, const char *query, const cJSON *expected, const struct ranking *q)
{
    char name[256];
    double value = 0, ref = cJSON_IsNumber(expected) ? expected->valuedouble : NAN;
    snprintf(name, sizeof name, "%s %s", query, expected->string);
    if (value_of(q, expected->string, &value))
        parity_check_absolute(line, name, &value, &ref, 1, parity_tolerance("metric"));
    else
        parity_fail(line, "%s: no such metric", name);
}

static void check_queries(const char *line, const cJSON *expected, struct rankings *r)
{
    const cJSON *query, *value;
    cJSON_ArrayForEach(query, cJSON_GetObjectItemCaseSensitive(expected, "per_query"))
    {
        const struct ranking *q = ranking_of(r, query->string, false);
        if (!q || !averaged(q))
            parity_fail(line, "query %s is expected, and is none of ours", query->string);
        else
            cJSON_ArrayForEach(value, query) check_value(line, query->string, value, q);
    }
}

static void check_means(const char *line, const cJSON *expected, const struct rankings *r)
{
    const cJSON *mean;
    int32_t queries = 0;
    for (int32_t i = 0; i < r->count; i++)
        queries += averaged(&r->query[i]);
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(expected, "queries");
    parity_check_true(line, "number of queries", cJSON_IsNumber(want) && want->valueint == queries);
    parity_check_true(line, "queries listed", cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(expected, "per_query")) == queries);
    cJSON_ArrayForEach(mean, cJSON_GetObjectItemCaseSensitive(expected, "mean"))
    {
        double sum = 0, value, ref = cJSON_IsNumber(mean) ? mean->valuedouble : NAN;
        bool known = true;
        for (int32_t i = 0; i < r->count; i++)
            if (averaged(&r->query[i]) && (known = value_of(&r->query[i], mean->string, &value)))
                sum += value;
        sum /= queries ? queries : 1;
        if (known)
            parity_check_absolute(line, mean->string, &sum, &ref, 1, parity_tolerance("metric"));
        else
            parity_fail(line, "mean %s: no such metric", mean->string);
    }
}

/* Every metric at every cut that the manifest lists has an expected value: nothing was taken out of the file. */
static void check_names(const struct parity_case *c, const char *line, const char *of, const cJSON *values)
{
    const cJSON *kind, *cut;
    char name[64];
    cJSON_ArrayForEach(kind, cJSON_GetObjectItemCaseSensitive(parity_settings(c), "cuts"))
        cJSON_ArrayForEach(cut, kind)
        {
            snprintf(name, sizeof name, "%s@%d", kind->string, cut->valueint);
            if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(values, name)))
                parity_fail(line, "%s: no expected value of %s", of, name);
        }
}

static void check_whole(const struct parity_case *c, const char *line, const cJSON *expected)
{
    const cJSON *query;
    check_names(c, line, "mean", cJSON_GetObjectItemCaseSensitive(expected, "mean"));
    cJSON_ArrayForEach(query, cJSON_GetObjectItemCaseSensitive(expected, "per_query"))
        check_names(c, line, query->string, query);
}

static cJSON *read_json(const struct parity_case *c, const char *file)
{
    struct err e;
    size_t size;
    char *path = parity_path(c, file), *text = file_read(path, 1 << 28, &size, &e);
    cJSON *json = text ? cJSON_ParseWithLength(text, size) : NULL;
    if (!json)
        parity_fail(c->name, "%s: missing or not JSON", path);
    free(path);
    free(text);
    return json;
}

static void check_folder(const struct parity_case *c, const char *folder)
{
    char line[96], file[96];
    struct rankings r = {.by_name = string_map_init(64)};
    arena_init(&r.strings, 0);
    snprintf(line, sizeof line, "%s.%s", c->name, folder);
    snprintf(file, sizeof file, "%s/expected.json", folder);
    cJSON *expected = read_json(c, file);
    snprintf(file, sizeof file, "%s/qrels.tsv", folder);
    int rc = expected ? read_table(c, &r, file, false) : -1;
    snprintf(file, sizeof file, "%s/run.tsv", folder);
    if (rc == 0 && read_table(c, &r, file, true) == 0) {
        for (int32_t i = 0; i < r.count; i++)
            rank_query(&r.query[i]);
        check_queries(line, expected, &r);
        check_means(line, expected, &r);
        check_whole(c, line, expected);
    }
    for (int32_t i = 0; i < r.count; i++) {
        free(r.query[i].hits);
        free(r.query[i].truth);
        free(r.query[i].grades);
        free(r.query[i].relevant);
    }
    free(r.query);
    string_map_free(r.by_name);
    arena_free(&r.strings);
    cJSON_Delete(expected);
}

/* ---- AMI ---- */

enum { LABELINGS = 16 };
struct labels {
    char *name[LABELINGS];
    int32_t *value[LABELINGS], columns, n;
    struct arena strings;
};

static void read_header(struct labels *l, char *line)
{
    char *save = NULL;
    for (char *name = strtok_r(line, "\t\r", &save); name && l->columns < LABELINGS; name = strtok_r(NULL, "\t\r", &save))
        l->name[l->columns++] = arena_strndup(&l->strings, name, strlen(name));
}

static void read_row(struct labels *l, char *line)
{
    char *save = NULL, *cell = strtok_r(line, "\t\r", &save);
    for (int32_t i = 0; cell && i < l->columns; i++, cell = strtok_r(NULL, "\t\r", &save)) {
        l->value[i] = xrealloc(l->value[i], (size_t)l->n + 1, sizeof(int32_t));
        l->value[i][l->n] = (int32_t)strtol(cell, NULL, 10);
    }
    l->n++;
}

static const int32_t *labeling(const struct labels *l, const char *name, size_t size)
{
    for (int32_t i = 0; i < l->columns; i++)
        if (strlen(l->name[i]) == size && strncmp(l->name[i], name, size) == 0)
            return l->value[i];
    return NULL;
}

/* The first labeling (the codes) is compared with every other, and two labelings of no information with each other. */
static void check_whole_pairs(const struct labels *l, const cJSON *expected)
{
    static const char *const plain[] = {"constant:constant", "constant:distinct"};
    char name[160];
    for (int32_t i = 1; i < l->columns; i++) {
        snprintf(name, sizeof name, "%s:%s", l->name[0], l->name[i]);
        if (!cJSON_GetObjectItemCaseSensitive(expected, name))
            parity_fail("metrics.ami.pairs", "no expected value of %s", name);
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!cJSON_GetObjectItemCaseSensitive(expected, plain[i]))
            parity_fail("metrics.ami.pairs", "no expected value of %s", plain[i]);
}

static void check_pairs(const struct labels *l, const cJSON *expected)
{
    const cJSON *pair;
    check_whole_pairs(l, expected);
    parity_check_true("metrics.ami.pairs", "there are pairs", cJSON_GetArraySize(expected) > 0);
    cJSON_ArrayForEach(pair, expected)
    {
        const char *colon = strchr(pair->string, ':');
        const int32_t *a = colon ? labeling(l, pair->string, (size_t)(colon - pair->string)) : NULL;
        const int32_t *b = colon ? labeling(l, colon + 1, strlen(colon + 1)) : NULL;
        double mine = a && b ? metrics_ami(a, b, l->n) : NAN, ref = cJSON_IsNumber(pair) ? pair->valuedouble : NAN;
        parity_check_absolute("metrics.ami", pair->string, &mine, &ref, 1, parity_tolerance("metric"));
    }
}

static void check_ami(const struct parity_case *c)
{
    struct labels l = {0};
    struct err e;
    char *path = parity_path(c, "labels.tsv"), *line;
    size_t size;
    cJSON *expected = read_json(c, "ami.json");
    struct lines *lines = lines_open(path, &e);
    if (!lines)
        parity_fail("metrics.ami", "%s", e.message);
    while (lines && lines_next(lines, &line, &size, &e) == 1)
        l.columns ? read_row(&l, line) : read_header(&l, line);
    if (lines && expected)
        check_pairs(&l, expected);
    lines_close(lines);
    for (int32_t i = 0; i < l.columns; i++)
        free(l.value[i]);
    arena_free(&l.strings);
    cJSON_Delete(expected);
    free(path);
}

void parity_metrics(const struct parity_case *c)
{
    check_folder(c, "graded");
    check_folder(c, "binary");
    check_ami(c);
}
