/* metrics.c: see metrics.h.
 *
 * E[MI] is the double sum over pairs of cluster sizes; clusters of equal size give equal terms, so sizes are grouped first (512 codes against
 * 200 categories come down to a few thousand different pairs). Logarithms of factorials are one table, made with lgamma. Cells of the
 * contingency table come from sorting pairs of labels: no dense table. */
#include "metrics.h"
#include "../base/hash.h"
#include "../base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rankings ---- */

static int compare_hits(const void *x, const void *y)
{
    const struct metrics_hit *a = x, *b = y;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return strcmp(b->document, a->document);
}

void metrics_sort(struct metrics_hit *hits, int32_t n)
{
    if (n > 1)
        qsort(hits, (size_t)n, sizeof *hits, compare_hits);
}

static const char *const kind_names[] = {"Recall", "Hit", "MRR", "nDCG", "nDCG_retrieved"};

bool metrics_parse(const char *name, struct metrics_metric *m)
{
    const char *at = strchr(name, '@');
    char *end;
    if (!at)
        return false;
    long k = strtol(at + 1, &end, 10);
    if (end == at + 1 || *end || k < 1 || k > INT32_MAX)
        return false;
    for (size_t i = 0; i < sizeof kind_names / sizeof *kind_names; i++)
        if (strlen(kind_names[i]) == (size_t)(at - name) && !memcmp(kind_names[i], name, (size_t)(at - name))) {
            *m = (struct metrics_metric){(enum metrics_kind)i, (int32_t)k};
            return true;
        }
    return false;
}

void metrics_name(const struct metrics_metric *m, char out[32])
{
    snprintf(out, 32, "%s@%d", kind_names[m->kind], m->k);
}

static int descending(const void *x, const void *y)
{
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return (a < b) - (a > b);
}

/* Discounted gain of the first k grades as they lie; what is below 1 gains nothing. */
static double gain(const int32_t *grades, int32_t n, int32_t k)
{
    double sum = 0;
    for (int32_t i = 0; i < n && i < k; i++)
        if (grades[i] > 0)
            sum += grades[i] / log2(i + 2.0);
    return sum;
}

static double ideal_gain(const int32_t *grades, int32_t n, int32_t k)
{
    int32_t *sorted = xmalloc(((size_t)n + 1) * sizeof *sorted);
    if (n)
        memcpy(sorted, grades, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, descending);
    double sum = gain(sorted, n, k);
    free(sorted);
    return sum;
}

/* Relevant documents among the first k, and the rank of the first of them (0 = none). */
static int32_t found(const struct metrics_query *q, int32_t k, int32_t *first)
{
    int32_t count = 0;
    *first = 0;
    for (int32_t i = 0; i < q->returned && i < k; i++)
        if (q->grades[i] > 0 && count++ == 0)
            *first = i + 1;
    return count;
}

double metrics_value(const struct metrics_metric *m, const struct metrics_query *q)
{
    int32_t first, count = found(q, m->k, &first);
    double best;
    if (q->relevants == 0)
        return 0;
    switch (m->kind) {
    case METRICS_RECALL:
        return (double)count / q->relevants;
    case METRICS_HIT:
        return count > 0;
    case METRICS_MRR:
        return first ? 1.0 / first : 0;
    case METRICS_NDCG:
        best = ideal_gain(q->relevant, q->relevants, m->k);
        break;
    default:
        best = ideal_gain(q->grades, q->returned, m->k);
    }
    return best > 0 ? gain(q->grades, q->returned, m->k) / best : 0;
}

/* ---- labelings ---- */

struct pair {
    int32_t a, b;
};

static int compare_pairs(const void *x, const void *y)
{
    const struct pair *p = x, *q = y;
    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    return (p->b > q->b) - (p->b < q->b);
}

static int ascending(const void *x, const void *y)
{
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return (a > b) - (a < b);
}

/* The clusters of one labeling: labels ascending with their sizes, and the different sizes with how many clusters have each. */
struct clusters {
    int32_t count, kinds;
    int32_t *label, *size;    /* [count] */
    int32_t *kind, *kind_count; /* [kinds] */
};

/* Distinct values of sorted[0..n) and their counts. */
static int32_t run_lengths(const int32_t *sorted, int32_t n, int32_t *value, int32_t *length)
{
    int32_t runs = 0;
    for (int32_t i = 0; i < n; i++) {
        if (i == 0 || sorted[i] != sorted[i - 1]) {
            value[runs] = sorted[i];
            length[runs++] = 0;
        }
        length[runs - 1]++;
    }
    return runs;
}

static void clusters_init(struct clusters *c, const int32_t *labels, int32_t n)
{
    int32_t *sorted = xmalloc(((size_t)n + 1) * sizeof *sorted), *block = xmalloc(((size_t)n + 1) * 4 * sizeof *block);
    *c = (struct clusters){.label = block, .size = block + n, .kind = block + 2 * (size_t)n, .kind_count = block + 3 * (size_t)n};
    memcpy(sorted, labels, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    c->count = run_lengths(sorted, n, c->label, c->size);
    memcpy(sorted, c->size, (size_t)c->count * sizeof *sorted);
    qsort(sorted, (size_t)c->count, sizeof *sorted, ascending);
    c->kinds = run_lengths(sorted, c->count, c->kind, c->kind_count);
    free(sorted);
}

static void clusters_free(struct clusters *c)
{
    free(c->label);
}

static int32_t size_of(const struct clusters *c, int32_t label)
{
    const int32_t *at = bsearch(&label, c->label, (size_t)c->count, sizeof label, ascending);
    return c->size[at - c->label];
}

static double entropy(const struct clusters *c, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < c->count; i++)
        sum -= (double)c->size[i] / n * (log(c->size[i]) - log(n));
    return sum;
}

static double information(const int32_t *a, const int32_t *b, int32_t n, const struct clusters *ca, const struct clusters *cb)
{
    struct pair *pairs = xmalloc((size_t)n * sizeof *pairs);
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        pairs[i] = (struct pair){a[i], b[i]};
    qsort(pairs, (size_t)n, sizeof *pairs, compare_pairs);
    for (int32_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && compare_pairs(&pairs[i], &pairs[end]) == 0;)
            end++;
        double cell = end - i;
        sum += cell / n * (log(cell) + log(n) - log(size_of(ca, pairs[i].a)) - log(size_of(cb, pairs[i].b)));
    }
    free(pairs);
    return sum;
}

/* Terms of E[MI] of one cluster of size x against one of size y; lf[i] = ln i!. */
static double expected_cell(int32_t x, int32_t y, int32_t n, const double *lf)
{
    double sum = 0, fixed = lf[x] + lf[y] + lf[n - x] + lf[n - y] - lf[n];
    int32_t from = x + y - n > 1 ? x + y - n : 1, to = x < y ? x : y;
    for (int32_t i = from; i <= to; i++) {
        double p = exp(fixed - lf[i] - lf[x - i] - lf[y - i] - lf[n - x - y + i]);
        sum += (double)i / n * (log(n) + log(i) - log(x) - log(y)) * p;
    }
    return sum;
}

static double expected_information(const struct clusters *a, const struct clusters *b, int32_t n)
{
    double *lf = xmalloc(((size_t)n + 1) * sizeof *lf), sum = 0;
    for (int32_t i = 0; i <= n; i++)
        lf[i] = lgamma(i + 1.0);
    for (int32_t i = 0; i < a->kinds; i++)
        for (int32_t j = 0; j < b->kinds; j++)
            sum += (double)a->kind_count[i] * b->kind_count[j] * expected_cell(a->kind[i], b->kind[j], n, lf);
    free(lf);
    return sum;
}

double metrics_ami(const int32_t *a, const int32_t *b, int32_t n)
{
    struct clusters ca, cb;
    double value = 1;
    if (n < 1)
        return 1;
    clusters_init(&ca, a, n);
    clusters_init(&cb, b, n);
    if (ca.count != cb.count || (ca.count != 1 && ca.count != n)) {
        double expected = expected_information(&ca, &cb, n);
        double room = (entropy(&ca, n) + entropy(&cb, n)) / 2 - expected;
        double least = 2.220446049250313e-16; /* a difference that is rounding only must not blow up */
        room = room < 0 ? fmin(room, -least) : fmax(room, least);
        value = (information(a, b, n, &ca, &cb) - expected) / room;
    }
    clusters_free(&ca);
    clusters_free(&cb);
    return value;
}

void metrics_labels(int32_t *labels, const char *const *names, int32_t n)
{
    struct string_map *map = string_map_init(1024);
    int32_t next = 0;
    for (int32_t i = 0; i < n; i++) {
        const char *name = names[i] ? names[i] : "";
        next += string_map_put(map, name, strlen(name), next);
        labels[i] = string_map_get(map, name, strlen(name));
    }
    string_map_free(map);
}
