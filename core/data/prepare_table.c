/* prepare_table.c: a table exported as TSV or CSV with a header, or as JSON lines: rows by column name.
 *
 * What the file is follows from its first line: `{` begins JSON lines; else a tab in the header makes it TSV, else CSV. Fields are quoted
 * as spreadsheet programs and data frames write them: a field that begins with a double quote goes on to the closing one, over newlines
 * too, and "" is a quote. A quote that never closes would swallow the file: a record of more than 1,000 lines or 1 MB is a bad one, and
 * reading goes on behind it. JSON numbers (ids) are given out as text. */
#include "prepare_internal.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MOST = 64, RECORD_LINES = 1000, RECORD_BYTES = 1 << 20 };

struct prepare_table {
    struct prepare_input in;
    bool json, waiting; /* waiting: the first line of a JSON file was read and is not given out yet */
    char separator;
    struct str header, record;
    char *name[COLUMNS_MOST], *field[COLUMNS_MOST];
    int columns;
    cJSON *row;
    char number[8][32]; /* of the present row, as text */
    int numbers;
};

enum place { FIELD_START, PLAIN, QUOTED, QUOTE_SEEN }; /* QUOTE_SEEN: it closes, unless another one follows */

/* Where s[0..] ends when it begins at `at`. */
static enum place walk_quotes(const struct prepare_table *t, const char *s, enum place at)
{
    for (; *s; s++) {
        if (at == QUOTED)
            at = *s == '"' ? QUOTE_SEEN : QUOTED;
        else if (*s == '"' && at != PLAIN)
            at = QUOTED;
        else
            at = *s == t->separator ? FIELD_START : PLAIN;
    }
    return at;
}

/* The next record; 1, 0, -1, or 2 when a quote in it does not close. */
static int read_record(struct prepare_table *t, struct err *e)
{
    int rc, lines = 1;
    str_clear(&t->record);
    if ((rc = prepare_next(&t->in, e)) != 1)
        return rc;
    str_append(&t->record, t->in.line, strlen(t->in.line));
    enum place at = walk_quotes(t, t->in.line, FIELD_START);
    while (at == QUOTED && !t->json && t->record.data[0] != '{') {
        if (lines++ == RECORD_LINES || t->record.size > RECORD_BYTES)
            return 2;
        if ((rc = lines_next(t->in.lines, &t->in.line, &t->in.size, e)) != 1)
            return rc < 0 ? -1 : 2;
        str_append(&t->record, "\n", 1);
        str_append(&t->record, t->in.line, strlen(t->in.line));
        at = walk_quotes(t, t->in.line, QUOTED);
    }
    return 1;
}

/* Cuts text into fields in place, quotes undone; returns how many, or COLUMNS_MOST + 1. */
static int cut_fields(char *text, char separator, char *field[COLUMNS_MOST])
{
    int n = 0;
    for (char *s = text;; s++) {
        if (n == COLUMNS_MOST)
            return COLUMNS_MOST + 1;
        char *out = s;
        field[n++] = s;
        if (*s == '"') {
            for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
                s += *s == '"';
                *out++ = *s;
            }
            s += *s == '"';
        }
        while (*s && *s != separator)
            *out++ = *s++;
        bool last = *s == 0;
        *out = 0;
        if (last)
            return n;
    }
}

static int read_header(struct prepare_table *t, struct err *e)
{
    int rc = read_record(t, e);
    if (rc < 0)
        return -1;
    if (rc != 1)
        return err_set(e, ERR_DATA, "%s: holds no table", t->in.path);
    if (t->record.data[0] == '{') {
        t->json = t->waiting = true;
        return 0;
    }
    t->separator = strchr(t->record.data, '\t') ? '\t' : ',';
    str_puts(&t->header, t->record.data);
    t->columns = cut_fields(t->header.data, t->separator, t->name);
    if (t->columns > COLUMNS_MOST || t->columns < 2)
        return err_set(e, ERR_DATA, "%s: line 1: is no header of a table: 2 to %d column names between tabs or commas", t->in.path,
                       COLUMNS_MOST);
    return 0;
}

struct prepare_table *prepare_table_open(struct prepare *p, const char *path, struct err *e)
{
    struct prepare_table *t = xcalloc(1, sizeof *t);
    t->separator = '\t';
    if (prepare_open(&t->in, p, path, e) == 0 && read_header(t, e) == 0)
        return t;
    prepare_table_close(t);
    return NULL;
}

void prepare_table_close(struct prepare_table *t)
{
    if (!t)
        return;
    prepare_close(&t->in);
    cJSON_Delete(t->row);
    str_free(&t->header);
    str_free(&t->record);
    free(t);
}

int prepare_table_bad(struct prepare_table *t, struct err *e, const char *what)
{
    return prepare_bad(&t->in, e, "%s", what);
}

static int next_json(struct prepare_table *t, struct err *e)
{
    int status = 0;
    cJSON_Delete(t->row);
    t->row = NULL;
    t->numbers = 0;
    if (t->waiting) {
        t->waiting = false;
        t->row = cJSON_ParseWithOpts(t->record.data, NULL, true);
        if (cJSON_IsObject(t->row))
            return 1;
        if (prepare_bad(&t->in, e, "is not a JSON object") < 0)
            return -1;
        cJSON_Delete(t->row);
    }
    t->row = prepare_next_object(&t->in, &status, e);
    return t->row ? 1 : status;
}

int prepare_table_next(struct prepare_table *t, struct err *e)
{
    int rc;
    if (t->json)
        return next_json(t, e);
    while ((rc = read_record(t, e)) > 0) {
        if (rc == 1) {
            int n = cut_fields(t->record.data, t->separator, t->field);
            if (n == t->columns)
                return 1;
            rc = prepare_bad(&t->in, e, "has %s%d fields, the header has %d", n > COLUMNS_MOST ? "more than " : "",
                             n > COLUMNS_MOST ? COLUMNS_MOST : n, t->columns);
        } else {
            rc = prepare_bad(&t->in, e, "a quote opened before here does not close");
        }
        if (rc < 0)
            return -1;
    }
    return rc;
}

static const char *json_text(struct prepare_table *t, const cJSON *v)
{
    if (cJSON_IsString(v))
        return v->valuestring;
    if (!cJSON_IsNumber(v))
        return "";
    char *out = t->number[t->numbers++ % 8];
    snprintf(out, sizeof t->number[0], "%.17g", v->valuedouble);
    return out;
}

const char *prepare_table_get(struct prepare_table *t, const char *column)
{
    if (t->json)
        return json_text(t, cJSON_GetObjectItemCaseSensitive(t->row, column));
    for (int i = 0; i < t->columns; i++)
        if (strcmp(t->name[i], column) == 0)
            return t->field[i];
    return "";
}

int prepare_table_need(struct prepare_table *t, const char *const columns[], struct err *e)
{
    for (int i = 0; !t->json && columns[i]; i++) {
        int at = 0;
        while (at < t->columns && strcmp(t->name[at], columns[i]))
            at++;
        if (at == t->columns)
            return err_set(e, ERR_DATA, "%s: line 1: the header has no column \"%s\"", t->in.path, columns[i]);
    }
    return 0;
}
