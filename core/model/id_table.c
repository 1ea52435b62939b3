/* id_table.c: ids.tsv: one line per document, name TAB c1-c2-..-cT.
 *
 * The order of lines is the order of documents, so writing what was read gives the same bytes. Reading refuses what a trie could not hold:
 * a second document of the same name or the same ID (both lines are named), a code that its position does not have, another number of
 * positions. Codes are plain decimal numbers without leading zeros, so a document has one spelling of its ID. */
#include "../base/file.h"
#include "../base/hash.h"
#include "../text/document.h"
#include "bundle.h"
#include <string.h>

enum { COUNT_MOST = 1 << 30 };

struct table_reader {
    struct id_table *t;
    const char *path;
    const struct code_layout *layout;
    struct string_map *names, *ids;
    int64_t *line; /* of each document, as blank lines are skipped */
    int64_t room, number;
    struct err *e;
};

static int fail(const struct table_reader *r, const char *what)
{
    return err_set(r->e, ERR_DATA, "%s: line %lld: %s", r->path, (long long)r->number, what);
}

/* A number without sign or leading zeros at *s, below 2^31; -1 if there is none. */
static int64_t decimal(const char **s)
{
    const char *p = *s;
    int64_t value = 0;
    while (*p >= '0' && *p <= '9' && value < INT32_MAX)
        value = value * 10 + (*p++ - '0');
    if (p == *s || (**s == '0' && p - *s > 1) || value > INT32_MAX)
        return -1;
    *s = p;
    return value;
}

/* Codes of one line into out [POSITIONS_MAX]; returns their number or -1. */
static int32_t parse_codes(const struct table_reader *r, const char *text, uint32_t *out)
{
    const char *s = text;
    int32_t n = 0;
    for (;;) {
        int64_t code = decimal(&s);
        if (code < 0 || (*s && *s != '-'))
            return err_set(r->e, ERR_DATA, "%s: line %lld: \"%.60s\" is not an ID: numbers joined by -", r->path, (long long)r->number, text);
        if (n == POSITIONS_MAX)
            return err_set(r->e, ERR_DATA, "%s: line %lld: more than %d codes", r->path, (long long)r->number, POSITIONS_MAX);
        if (r->layout && n < r->layout->positions && code >= r->layout->codes[n])
            return err_set(r->e, ERR_DATA, "%s: line %lld: code %lld at position %d is out of range: that position has codes 0 to %d", r->path,
                           (long long)r->number, (long long)code, n + 1, r->layout->codes[n] - 1);
        out[n++] = (uint32_t)code;
        if (!*s++)
            return n;
    }
}

static void make_room(struct table_reader *r)
{
    struct id_table *t = r->t;
    if (t->count < r->room)
        return;
    r->room = r->room ? r->room * 2 : 1024;
    t->name = xrealloc(t->name, (size_t)r->room, sizeof *t->name);
    t->codes = xrealloc(t->codes, (size_t)r->room * (size_t)t->positions, sizeof *t->codes);
    r->line = xrealloc(r->line, (size_t)r->room, sizeof *r->line);
}

static int check_new(struct table_reader *r, const char *name, const char *id, const uint32_t *codes)
{
    struct id_table *t = r->t;
    size_t size = strlen(name), bytes = (size_t)t->positions * sizeof *codes;
    if (!string_map_put(r->names, name, size, t->count))
        return err_set(r->e, ERR_DATA, "%s: line %lld: document \"%s\" is there twice, first on line %lld", r->path, (long long)r->number, name,
                       (long long)r->line[string_map_get(r->names, name, size)]);
    if (!string_map_put(r->ids, (const char *)codes, bytes, t->count))
        return err_set(r->e, ERR_DATA, "%s: line %lld: ID %s is given twice, first on line %lld", r->path, (long long)r->number, id,
                       (long long)r->line[string_map_get(r->ids, (const char *)codes, bytes)]);
    return 0;
}

static int read_row(struct table_reader *r, char *row, size_t size)
{
    struct id_table *t = r->t;
    uint32_t codes[POSITIONS_MAX];
    char *tab = memchr(row, '\t', size);
    if (memchr(row, 0, size))
        return fail(r, "has a NUL byte");
    if (!tab || strchr(tab + 1, '\t'))
        return err_set(r->e, ERR_DATA, "%s: line %lld: %s columns, expected 2: name TAB codes", r->path, (long long)r->number,
                       tab ? "more than 2" : "1");
    *tab = 0;
    if (document_check_id(row, (size_t)(tab - row), r->e) < 0)
        return err_prefix(r->e, "%s: line %lld: name", r->path, (long long)r->number);
    int32_t n = parse_codes(r, tab + 1, codes);
    if (n < 0)
        return -1;
    if (t->positions == 0)
        t->positions = r->layout ? r->layout->positions : n;
    if (n != t->positions)
        return err_set(r->e, ERR_DATA, "%s: line %lld: %d codes, expected %d", r->path, (long long)r->number, n, t->positions);
    make_room(r);
    if (check_new(r, row, tab + 1, codes) < 0)
        return -1;
    if (t->count == COUNT_MOST)
        return fail(r, "too many documents");
    r->line[t->count] = r->number;
    t->name[t->count] = xstrdup(row);
    memcpy(t->codes + (size_t)t->count * (size_t)n, codes, (size_t)n * sizeof *codes);
    t->count++;
    return 0;
}

int id_table_read(struct id_table *t, const char *path, const struct code_layout *layout, struct err *e)
{
    *t = (struct id_table){0};
    struct lines *lines = lines_open(path, e);
    if (!lines)
        return -1;
    struct table_reader r = {t, path, layout, string_map_init(0), string_map_init(0), NULL, 0, 0, e};
    char *row;
    size_t size;
    int rc;
    while ((rc = lines_next(lines, &row, &size, e)) > 0) {
        r.number = lines_number(lines);
        if (size > 0 && (rc = read_row(&r, row, size)) < 0)
            break;
    }
    if (rc == 0 && t->count == 0)
        rc = err_set(e, ERR_DATA, "%s: has no documents", path);
    string_map_free(r.names);
    string_map_free(r.ids);
    free(r.line);
    lines_close(lines);
    if (rc < 0)
        id_table_free(t);
    return rc;
}

int id_table_write(const struct id_table *t, const char *path, struct err *e)
{
    struct file_out f;
    if (file_out_open(&f, path, e) < 0)
        return -1;
    for (int32_t i = 0; i < t->count; i++) {
        const uint32_t *codes = t->codes + (size_t)i * (size_t)t->positions;
        fprintf(f.stream, "%s\t", t->name[i]);
        for (int32_t p = 0; p < t->positions; p++)
            fprintf(f.stream, "%s%u", p ? "-" : "", codes[p]);
        fputc('\n', f.stream);
    }
    return file_out_commit(&f, e);
}

void id_table_free(struct id_table *t)
{
    for (int32_t i = 0; i < t->count; i++)
        free(t->name[i]);
    free(t->name);
    free(t->codes);
    *t = (struct id_table){0};
}
