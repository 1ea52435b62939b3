/* prepare_labels.c: judgements in memory as numbers, and the queries and qrels files that they make.
 *
 * The order of work is the same for every set: read the judgements (ids only), stream the documents and mark those that are present, decide
 * which split a query belongs to, stream the queries' texts past them, write the judgements. A judgement is written when its
 * document is present and its query's text was met, so nothing in OUT points nowhere. */
#include "prepare_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const char *const prepare_query_file[3] = {"queries-train.jsonl", "queries-dev.jsonl", "queries.jsonl"};
const char *const prepare_label_file[3] = {"qrels/train.tsv", "qrels/dev.tsv", "qrels/test.tsv"};

void prepare_labels_init(struct prepare_labels *l)
{
    *l = (struct prepare_labels){0};
    prepare_ids_init(&l->queries);
    prepare_ids_init(&l->documents);
}

void prepare_labels_free(struct prepare_labels *l)
{
    prepare_ids_free(&l->queries);
    prepare_ids_free(&l->documents);
    free(l->label);
    free(l->present);
    free(l->split);
    free(l->met);
    *l = (struct prepare_labels){0};
}

void prepare_labels_add(struct prepare_labels *l, const char *query, const char *document, int32_t grade)
{
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 4096;
        l->label = xrealloc(l->label, (size_t)l->room, sizeof *l->label);
    }
    l->label[l->count++] = (struct prepare_label){prepare_ids_add(&l->queries, query), prepare_ids_add(&l->documents, document), grade};
}

/* Splits by blanks and tabs into at most 5 fields; returns how many. */
static int split_fields(char *line, char *field[5])
{
    int n = 0;
    char *save = NULL;
    for (char *s = strtok_r(line, " \t\r", &save); s && n < 5; s = strtok_r(NULL, " \t\r", &save))
        field[n++] = s;
    return n;
}

static bool whole_number(const char *s, int32_t *value)
{
    char *end;
    errno = 0;
    long v = strtol(s, &end, 10);
    *value = (int32_t)v;
    return end != s && *end == 0 && errno == 0 && v >= INT32_MIN && v <= INT32_MAX;
}

static int read_line(struct prepare_input *in, struct prepare_labels *l, struct err *e)
{
    char *field[5];
    int32_t grade;
    int n = split_fields(in->line, field);
    bool numbered = (n == 3 || n == 4) && whole_number(field[n - 1], &grade);
    if (!numbered && lines_number(in->lines) == 1 && (n == 3 || n == 4)) /* a header */
        return 0;
    if (!numbered)
        return prepare_bad(in, e, "is neither \"query 0 document grade\" nor \"query document grade\" with a whole number as grade");
    if (grade > 0)
        prepare_labels_add(l, field[0], field[n - 2], grade);
    return 0;
}

int prepare_labels_read(struct prepare *p, struct prepare_labels *l, const char *path, struct err *e)
{
    struct prepare_input in;
    int status;
    if (prepare_open(&in, p, path, e) < 0)
        return -1;
    while ((status = prepare_next(&in, e)) == 1)
        if ((status = read_line(&in, l, e)) < 0)
            break;
    prepare_close(&in);
    return status;
}

/* By query, document, then the higher grade first. */
static int compare_labels(const void *a, const void *b)
{
    const struct prepare_label *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    if (x->document != y->document)
        return x->document < y->document ? -1 : 1;
    return (x->grade < y->grade) - (x->grade > y->grade);
}

void prepare_labels_ready(struct prepare *p, struct prepare_labels *l)
{
    int32_t kept = 0;
    if (l->count)
        qsort(l->label, (size_t)l->count, sizeof *l->label, compare_labels);
    for (int32_t i = 0; i < l->count; i++)
        if (kept == 0 || l->label[kept - 1].query != l->label[i].query || l->label[kept - 1].document != l->label[i].document)
            l->label[kept++] = l->label[i];
    p->count[COUNT_REPEATED_LABELS] += l->count - kept;
    l->count = kept;
    l->present = xcalloc((size_t)l->documents.count, 1);
    l->split = xcalloc((size_t)l->queries.count, 1);
    l->met = xcalloc((size_t)l->queries.count, 1);
}

bool prepare_labels_see(struct prepare_labels *l, const char *document)
{
    int32_t at = prepare_ids_find(&l->documents, document);
    if (at >= 0)
        l->present[at] = 1;
    return at >= 0;
}

void prepare_labels_assign(struct prepare_labels *l, enum prepare_split split)
{
    for (int32_t i = 0; i < l->count; i++)
        if (l->present[l->label[i].document])
            l->split[l->label[i].query] = (unsigned char)(split + 1);
}

void prepare_labels_query(struct prepare *p, struct prepare_labels *l, FILE *const f[3], const char *query, const char *text)
{
    int32_t at = prepare_ids_find(&l->queries, query);
    if (at < 0 || l->split[at] == 0 || l->met[at])
        return;
    int split = l->split[at] - 1;
    prepare_write_query(f[split], query, text);
    p->count[COUNT_QUERIES + split]++;
    l->met[at] = 1;
}

int prepare_labels_write(struct prepare *p, struct prepare_labels *l, enum prepare_split split, struct err *e)
{
    struct file_out f;
    int32_t written = 0;
    if (prepare_create(p, &f, prepare_label_file[split], e) < 0)
        return -1;
    fputs("query-id\tcorpus-id\tscore\n", f.stream);
    for (int32_t i = 0; i < l->count; i++) {
        const struct prepare_label *j = &l->label[i];
        if (l->split[j->query] != split + 1 || !l->met[j->query] || !l->present[j->document])
            continue;
        fprintf(f.stream, "%s\t%s\t%d\n", l->queries.id[j->query], l->documents.id[j->document], j->grade);
        written++;
    }
    l->written += written;
    p->count[COUNT_LABELS + split] += written;
    return file_out_commit(&f, e);
}

void prepare_labels_count_rest(struct prepare *p, const struct prepare_labels *l)
{
    p->count[COUNT_UNKNOWN_LABELS] += l->count - l->written;
}
