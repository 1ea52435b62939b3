/* evaluate_print.c: the tables of an evaluation as text for people and as JSON for scripts.
 *
 * A ranking that reaches only so far leaves the columns beyond its reach empty instead of printing a figure that looks like a bad one. With
 * intervals, two lines below each ranking give the ends of its 95 % bootstrap interval. A comparison takes two rankings of one table, which
 * answered the same queries in the same order, and is made for the columns that both reach. */
#include "evaluate_internal.h"

#include "data/bootstrap.h"

#include <stdlib.h>
#include <string.h>

static bool is_reached(const struct evaluate_row *r, int32_t i)
{
    return r->queries > 0 && evaluate_columns[i].k <= r->reach;
}

static struct bootstrap_values values_of(const struct evaluate_row *r)
{
    return (struct bootstrap_values){r->values, r->queries, EVALUATE_COLUMNS};
}

/* True when there are intervals to print. */
static bool take_intervals(const struct evaluate *v, const struct evaluate_row *r, struct bootstrap_interval *out)
{
    if (!v->o.intervals || r->queries == 0)
        return false;
    const struct bootstrap_values values = values_of(r);
    bootstrap_intervals(&values, BOOTSTRAP_RESAMPLES, v->o.seed, out);
    return true;
}

/* ---- text ---- */

static int width_of(int32_t column, char name[32])
{
    metrics_name(&evaluate_columns[column], name);
    return strlen(name) < 7 ? 7 : (int)strlen(name);
}

/* One line of figures, step doubles apart; "-" beyond the row's reach. */
static void print_figures(struct str *out, const struct evaluate_row *r, const double *figure, int32_t step)
{
    char name[32];
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++) {
        int width = width_of(i, name);
        if (is_reached(r, i))
            str_printf(out, " %*.4f", width, figure[i * step]);
        else
            str_printf(out, " %*s", width, "-");
    }
    str_puts(out, "\n");
}

static void print_row(const struct evaluate *v, struct str *out, const struct evaluate_row *r)
{
    struct bootstrap_interval interval[EVALUATE_COLUMNS];
    double mean[EVALUATE_COLUMNS];
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++)
        mean[i] = r->queries > 0 ? r->sum[i] / (double)r->queries : 0;
    str_printf(out, "%-22s %8lld", r->name, (long long)r->queries);
    print_figures(out, r, mean, 1);
    if (!take_intervals(v, r, interval))
        return;
    str_printf(out, "%-22s %8s", "  95 % from", "");
    print_figures(out, r, &interval[0].low, 2);
    str_printf(out, "%-22s %8s", "  95 % to", "");
    print_figures(out, r, &interval[0].high, 2);
}

static void print_table(const struct evaluate *v, struct str *out, const struct evaluate_table *t)
{
    char name[32];
    str_printf(out, "%s: %s\n%-22s %8s", t->task, t->title, "ranking", "queries");
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++) {
        int width = width_of(i, name);
        str_printf(out, " %*s", width, name);
    }
    str_puts(out, "\n");
    for (int32_t k = 0; k < t->rows; k++)
        print_row(v, out, &t->row[k]);
    str_puts(out, "\n");
}

/* ---- comparisons ---- */

struct comparison {
    const struct evaluate_table *table;
    const struct evaluate_row *a, *b;
    struct bootstrap_pair pair[EVALUATE_COLUMNS];
};

static const struct evaluate_row *row_named(const struct evaluate_table *t, const char *name, size_t size)
{
    for (int32_t i = 0; i < t->rows; i++)
        if (strlen(t->row[i].name) == size && memcmp(t->row[i].name, name, size) == 0)
            return &t->row[i];
    return NULL;
}

/* Comparisons of all tables that have both rankings; their number, or -1. */
static int32_t compare(const struct evaluate *v, struct comparison *c, struct err *e)
{
    const char *names = v->o.compare, *comma = names ? strchr(names, ',') : NULL;
    int32_t n = 0;
    for (int32_t i = 0; comma != NULL && i < v->table_count; i++) {
        const struct evaluate_row *a = row_named(&v->tables[i], names, (size_t)(comma - names));
        const struct evaluate_row *b = row_named(&v->tables[i], comma + 1, strlen(comma + 1));
        if (a == NULL || b == NULL || a->queries == 0)
            continue;
        CHECK(a->queries == b->queries);
        c[n] = (struct comparison){.table = &v->tables[i], .a = a, .b = b};
        const struct bootstrap_values first = values_of(a), second = values_of(b);
        bootstrap_compare(&first, &second, v->o.seed, c[n++].pair);
    }
    if (names != NULL && n == 0)
        return err_set(e, ERR_USAGE, "--compare %s: no table has these two rankings; give two names of one table with a comma", names);
    return n;
}

static void print_comparison(struct str *out, const struct comparison *c)
{
    char name[32];
    str_printf(out, "%s: %s - %s, %s, %lld queries, paired\n%-22s %10s %10s %10s %10s\n", c->table->task, c->a->name, c->b->name,
               c->table->title, (long long)c->a->queries, "metric", "difference", "95 % from", "95 % to", "p");
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++)
        if (is_reached(c->a, i) && is_reached(c->b, i)) {
            metrics_name(&evaluate_columns[i], name);
            str_printf(out, "%-22s %+10.4f %+10.4f %+10.4f %10.4f\n", name, c->pair[i].difference, c->pair[i].interval.low,
                       c->pair[i].interval.high, c->pair[i].p);
        }
    str_puts(out, "\n");
}

static void json_comparison(struct str *out, const struct comparison *c)
{
    char name[32];
    bool more = false;
    str_printf(out, "{\"task\":\"%s\",\"title\":\"%s\",\"a\":\"%s\",\"b\":\"%s\",\"queries\":%lld,\"metrics\":{", c->table->task,
               c->table->title, c->a->name, c->b->name, (long long)c->a->queries);
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++)
        if (is_reached(c->a, i) && is_reached(c->b, i)) {
            metrics_name(&evaluate_columns[i], name);
            str_printf(out, "%s\"%s\":{\"difference\":%.9g,\"interval\":[%.9g,%.9g],\"p\":%.9g}", more ? "," : "", name,
                       c->pair[i].difference, c->pair[i].interval.low, c->pair[i].interval.high, c->pair[i].p);
            more = true;
        }
    str_puts(out, "}}");
}

/* ---- all ---- */

static void print_text(const struct evaluate *v, const struct comparison *c, int32_t comparisons, struct str *out)
{
    for (int32_t i = 0; i < v->table_count; i++)
        print_table(v, out, &v->tables[i]);
    for (int32_t i = 0; i < comparisons; i++)
        print_comparison(out, &c[i]);
    if (v->facts.count > 0)
        str_puts(out, "ids\n");
    for (int32_t i = 0; i < v->facts.count; i++)
        str_printf(out, "%-40s %.6g\n", v->facts.fact[i].name, v->facts.fact[i].value);
}

static void json_row(const struct evaluate *v, struct str *out, const struct evaluate_row *r)
{
    char name[32];
    struct bootstrap_interval interval[EVALUATE_COLUMNS];
    bool with = take_intervals(v, r, interval);
    str_printf(out, "{\"ranking\":\"%s\",\"queries\":%lld", r->name, (long long)r->queries);
    for (int32_t i = 0; i < EVALUATE_COLUMNS; i++)
        if (is_reached(r, i)) {
            metrics_name(&evaluate_columns[i], name);
            str_printf(out, ",\"%s\":%.9g", name, r->sum[i] / (double)r->queries);
            if (with)
                str_printf(out, ",\"%s_interval\":[%.9g,%.9g]", name, interval[i].low, interval[i].high);
        }
    str_puts(out, "}");
}

static void print_json(const struct evaluate *v, const struct comparison *c, int32_t comparisons, struct str *out)
{
    str_puts(out, "{\"tables\":[");
    for (int32_t i = 0; i < v->table_count; i++) {
        const struct evaluate_table *t = &v->tables[i];
        str_printf(out, "%s{\"task\":\"%s\",\"title\":\"%s\",\"rows\":[", i ? "," : "", t->task, t->title);
        for (int32_t k = 0; k < t->rows; k++) {
            str_puts(out, k ? "," : "");
            json_row(v, out, &t->row[k]);
        }
        str_puts(out, "]}");
    }
    str_puts(out, "],");
    for (int32_t i = 0; i < comparisons; i++) {
        str_puts(out, i ? "," : "\"comparisons\":[");
        json_comparison(out, &c[i]);
    }
    str_puts(out, comparisons > 0 ? "],\"ids\":{" : "\"ids\":{");
    for (int32_t i = 0; i < v->facts.count; i++)
        str_printf(out, "%s\"%s\":%.9g", i ? "," : "", v->facts.fact[i].name, v->facts.fact[i].value);
    str_puts(out, "}}\n");
}

int evaluate_print(const struct evaluate *v, struct str *out, struct err *e)
{
    struct comparison c[sizeof v->tables / sizeof *v->tables];
    int32_t n = compare(v, c, e);
    if (n < 0)
        return -1;
    (v->o.json ? print_json : print_text)(v, c, n, out);
    return 0;
}
