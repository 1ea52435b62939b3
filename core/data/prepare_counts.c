/* prepare_counts.c: counts by name, the two tables of the paper (its Tables 6 and 7), and the comparison with their published rows.
 *
 * A column that a set does not fill stands as "-" and is not compared. Table 6 has items and users, Table 7 documents; which form a set
 * prints follows from its columns. */
#include "prepare_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *words; /* words: how a person reads it; for what was met on the way a sentence's end */
} counts[COUNTS] = {
    [COUNT_DOCUMENTS] = {"documents", "documents"},
    [COUNT_USERS] = {"users", "users"},
    [COUNT_HISTORIES] = {"histories_train", "histories train"},
    [COUNT_HISTORIES + 1] = {"histories_dev", "histories dev"},
    [COUNT_HISTORIES + 2] = {"histories_test", "histories test"},
    [COUNT_QUERIES] = {"queries_train", "queries train"},
    [COUNT_QUERIES + 1] = {"queries_dev", "queries dev"},
    [COUNT_QUERIES + 2] = {"queries_test", "queries test"},
    [COUNT_LABELS] = {"labels_train", "labels train"},
    [COUNT_LABELS + 1] = {"labels_dev", "labels dev"},
    [COUNT_LABELS + 2] = {"labels_test", "labels test"},
    [COUNT_BAD] = {"bad_lines", "bad lines left out"},
    [COUNT_REPEATED_REVIEWS] = {"repeated_reviews", "reviews of an item that the user had reviewed before, left out"},
    [COUNT_SHORT_USERS] = {"short_users", "users with fewer than three items, left out"},
    [COUNT_WITHOUT_METADATA] = {"without_metadata", "items without metadata, kept with an empty text"},
    [COUNT_REPEATED_METADATA] = {"repeated_metadata", "metadata lines for an item that had one already, left out"},
    [COUNT_EMPTY_TITLES] = {"empty_titles", "items with metadata and no title"},
    [COUNT_REPEATED_DOCUMENTS] = {"repeated_documents", "repeated documents left out"},
    [COUNT_UNKNOWN_LABELS] = {"unknown_labels", "labels whose document or query is not there, left out"},
    [COUNT_REPEATED_LABELS] = {"repeated_labels", "repeated labels left out"},
};

/* Columns in the order of enum prepare_count. */
static const struct {
    const char *set, *category, *title;
    int64_t value[COUNT_COLUMNS];
} published[] = {
    {"amazon", "Beauty", "Beauty", {12101, 22363, 111815, 22363, 22363, 1049, 150, 338, 1907, 268, 582}},
    {"amazon", "Sports_and_Outdoors", "Sports", {18357, 35598, 177990, 35598, 35598, 1299, 186, 443, 2209, 311, 764}},
    {"amazon", "Toys_and_Games", "Toys", {11924, 19412, 97060, 19412, 19412, 1010, 145, 351, 1653, 250, 594}},
    {"nq", NULL, "NQ320k", {109739, 0, 0, 0, 0, 307373, 0, 7830, 307373, 0, 7830}},
    {"msmarco", NULL, "MACRO 1M", {1000000, 0, 0, 0, 0, 502939, 0, 6980, 532751, 0, 7437}},
    {"trec-dl", NULL, "TREC-DL 1M", {1000000, 0, 0, 0, 0, 502939, 0, 93, 532751, 0, 1069}},
};
enum { PUBLISHED = sizeof published / sizeof *published };

static int published_row(const struct prepare *p)
{
    const char *set = strcmp(p->set->name, "esci") ? p->set->name : "amazon";
    for (int i = 0; i < PUBLISHED; i++)
        if (!strcmp(published[i].set, set) && (!published[i].category || (p->category && (!strcmp(p->category, published[i].category) ||
                                                                                          !strcmp(p->category, published[i].title)))))
            return i;
    return -1;
}

char *prepare_counts_text(const struct prepare *p, bool delta)
{
    struct str s = {0};
    for (int i = 0; i < COUNTS; i++)
        str_printf(&s, "%s %" PRId64 "\n", counts[i].name, p->count[i] - (delta ? p->before[i] : 0));
    return s.data;
}

int prepare_counts_add(struct prepare *p, const char *text, struct err *e)
{
    for (int i = 0; i < COUNTS; i++) {
        size_t n = strlen(counts[i].name);
        if (strncmp(text, counts[i].name, n) || text[n] != ' ' || !(text = strchr(text + n, '\n')))
            return err_set(e, ERR_DATA, "%s: the counts of phase \"%s\" cannot be read; remove the folder to begin again", p->work,
                           p->phase);
        const char *number = text;
        while (number[-1] != ' ')
            number--;
        p->count[i] += strtoll(number, NULL, 10);
        text++;
    }
    return 0;
}

void prepare_counts_json(const struct prepare *p, cJSON *object)
{
    for (int i = 0; i < COUNTS; i++)
        if (i >= COUNT_COLUMNS || (p->columns & COLUMN(i)))
            cJSON_AddNumberToObject(object, counts[i].name, (double)p->count[i]);
}

void prepare_counts_take(struct prepare *p, const cJSON *object)
{
    for (int i = 0; i < COUNTS; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, counts[i].name);
        p->count[i] = cJSON_IsNumber(v) ? (int64_t)v->valuedouble : 0;
        if (i < COUNT_COLUMNS && v)
            p->columns |= COLUMN(i);
    }
}

/* 12101 as "12,101". */
static void put_number(struct str *out, int64_t n)
{
    char digits[32];
    int size = snprintf(digits, sizeof digits, "%" PRId64, n);
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0 && digits[i - 1] != '-')
            str_puts(out, ",");
        str_append(out, &digits[i], 1);
    }
}

/* The parts of one cell: count `first` and the next two, those that the form has. */
static void put_cell(struct str *out, const int64_t *value, unsigned columns, int first, unsigned form)
{
    bool began = false;
    str_puts(out, " | ");
    for (int i = first; i < first + (first >= COUNT_HISTORIES ? 3 : 1); i++) {
        if (!(form & COLUMN(i)))
            continue;
        if (began)
            str_puts(out, " / ");
        began = true;
        if (columns & COLUMN(i))
            put_number(out, value[i]);
        else
            str_puts(out, "-");
    }
}

#define TRIPLE(c) (COLUMN(c) | COLUMN((c) + 1) | COLUMN((c) + 2))
static const int cells[] = {COUNT_DOCUMENTS, COUNT_USERS, COUNT_HISTORIES, COUNT_QUERIES, COUNT_LABELS};

/* The columns of the table that the set's row stands in. */
static unsigned form_of(const struct prepare *p)
{
    if (p->columns & (COLUMN(COUNT_USERS) | COLUMN(COUNT_HISTORIES)))
        return COLUMN(COUNT_DOCUMENTS) | COLUMN(COUNT_USERS) | TRIPLE(COUNT_HISTORIES) | TRIPLE(COUNT_QUERIES) | TRIPLE(COUNT_LABELS);
    return p->columns;
}

static void put_row(struct str *out, const char *title, const int64_t *value, unsigned columns, unsigned form)
{
    str_printf(out, "| %s", title);
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        if (form & TRIPLE(cells[i]) && (cells[i] >= COUNT_HISTORIES || form & COLUMN(cells[i])))
            put_cell(out, value, columns, cells[i], form);
    str_puts(out, " |\n");
}

static void put_header(struct str *out, unsigned form)
{
    static const char *const words[] = {"documents", "users", "histories", "queries", "labels"};
    const char *parts = form & COLUMN(COUNT_QUERIES + 1) ? " train / dev / test" : " train / test";
    int shown = 1;
    str_puts(out, "| ");
    for (int i = 0; i < 5; i++) {
        if (!(form & (i < 2 ? COLUMN(cells[i]) : TRIPLE(cells[i]))))
            continue;
        str_printf(out, " | %s%s", i == 0 && (form & COLUMN(COUNT_USERS)) ? "items" : words[i], i < 2 ? "" : parts);
        shown++;
    }
    str_puts(out, " |\n|");
    for (int i = 0; i < shown; i++)
        str_puts(out, "---|");
    str_puts(out, "\n");
}

void prepare_counts_table(const struct prepare *p, struct str *out)
{
    unsigned form = form_of(p);
    int row = published_row(p);
    const char *title = row >= 0 ? published[row].title : p->category ? p->category : p->set->name;
    put_header(out, form);
    put_row(out, title, p->count, p->columns, form);
    if (p->o->check && row >= 0)
        put_row(out, "published", published[row].value, form, form);
    for (int i = COUNT_COLUMNS; i < COUNTS; i++) {
        if (p->count[i] == 0)
            continue;
        put_number(out, p->count[i]);
        str_printf(out, " %s\n", counts[i].words);
    }
}

int prepare_counts_check(const struct prepare *p, struct str *out, struct err *e)
{
    int row = published_row(p), differences = 0;
    struct str list = {0};
    if (row < 0)
        return err_set(e, ERR_USAGE,
                       "--check: no published row for %s%s%s; Beauty, Sports_and_Outdoors and Toys_and_Games have one, and nq, "
                       "msmarco and trec-dl; --category names it where the files do not",
                       p->set->name, p->category ? " " : "", p->category ? p->category : "");
    const int64_t *want = published[row].value;
    for (int i = 0; i < COUNT_COLUMNS; i++) {
        if (!(p->columns & COLUMN(i)) || p->count[i] == want[i])
            continue;
        str_printf(&list, "%s%s ", differences++ ? "; " : "", i == COUNT_DOCUMENTS && want[COUNT_USERS] ? "items" : counts[i].words);
        put_number(&list, p->count[i]);
        str_puts(&list, ", published ");
        put_number(&list, want[i]);
    }
    int rc = differences ? err_set(e, ERR_DATA, "%s differs from the published row: %s", published[row].title, list.data) : 0;
    if (!differences && !p->o->json)
        str_printf(out, "%s: all counts that were made equal the published row\n", published[row].title);
    str_free(&list);
    return rc;
}
