/* engine_fill.c: the bundle's table of IDs, joined line by line with its documents, streamed into the store.
 *
 * ids.tsv and documents.jsonl have the same order, so nothing is looked up and only one document is in memory at a time. An imported bundle has
 * IDs without documents: its documents get an ID and empty content until somebody indexes them. */
#include "engine_fill.h"
#include "base/file.h"
#include "data/document_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fill {
    const struct id_table *ids;
    const struct code_layout *layout;
    struct document_lines *documents; /* documents.jsonl, or NULL: IDs only */
    const char *path;
    int32_t at;
};

struct popular { /* popular.tsv in memory */
    struct arena arena;
    const char **id;
    int64_t *count, n;
};

static int read_document(struct fill *f, struct document *d, struct err *e)
{
    int rc = document_lines_next(f->documents, d, e);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return err_set(e, ERR_DATA, "%s: ends after %d documents; ids.tsv names %d", f->path, f->at, f->ids->count);
    if (strcmp(d->id, f->ids->name[f->at]))
        return err_set(e, ERR_DATA, "%s: line %lld: document \"%.100s\"; line %d of ids.tsv names \"%.100s\"", f->path,
                       (long long)document_lines_number(f->documents), d->id, f->at + 1, f->ids->name[f->at]);
    return 0;
}

static int next_entry(void *state, struct catalog_entry *out, struct err *e)
{
    struct fill *f = state;
    if (f->at == f->ids->count)
        return 0;
    const uint32_t *codes = f->ids->codes + (int64_t)f->at * f->ids->positions;
    int32_t last = f->layout->positions - 1;
    *out = (struct catalog_entry){.document.id = f->ids->name[f->at], .codes = codes, .trained = codes[last] < (uint32_t)f->layout->codes[last]};
    if (f->documents && read_document(f, &out->document, e) < 0)
        return -1;
    f->at++;
    return 1;
}

/* ---- popular.tsv: item TAB count ---- */

static int popular_line(struct popular *p, int64_t *room, char *line, struct err *e)
{
    char *tab = strrchr(line, '\t'), *end = NULL;
    errno = 0;
    long long count = tab ? strtoll(tab + 1, &end, 10) : 0;
    if (!tab || tab == line || end == tab + 1 || *end || errno || count < 0)
        return err_set(e, ERR_DATA, "item TAB count is needed");
    if (p->n == *room) {
        *room = *room ? 2 * *room : 1024;
        p->id = xrealloc(p->id, (size_t)*room, sizeof *p->id);
        p->count = xrealloc(p->count, (size_t)*room, sizeof *p->count);
    }
    p->id[p->n] = arena_strndup(&p->arena, line, (size_t)(tab - line));
    p->count[p->n++] = count;
    return 0;
}

static int popular_read(struct popular *p, const char *path, struct err *e)
{
    struct lines *l = path ? lines_open(path, e) : NULL;
    char *line;
    size_t size;
    int64_t room = 0;
    int rc = 0;
    if (!path)
        return 0;
    if (!l)
        return -1;
    while (rc == 0 && (rc = lines_next(l, &line, &size, e)) == 1)
        if ((rc = popular_line(p, &room, line, e)) < 0)
            err_prefix(e, "%s: line %lld", path, (long long)lines_number(l));
    lines_close(l);
    return rc;
}

/* ---- fill ---- */

static int fill_from(struct fill *f, struct catalog *c, const struct bundle *b, const struct run *run, struct err *e)
{
    struct popular p = {0};
    arena_init(&p.arena, 0);
    int rc = popular_read(&p, bundle_file(b, "popular.tsv"), e);
    const struct catalog_source source = {.total = f->ids->count, .next = next_entry, .state = f, .popular_ids = p.id,
                                          .popular_counts = p.count, .popular_count = p.n};
    if (rc == 0)
        rc = catalog_fill(c, f->ids->count ? &source : NULL, run, e);
    free(p.id);
    free(p.count);
    arena_free(&p.arena);
    return rc;
}

int engine_fill(struct catalog *c, const struct bundle *b, const struct id_table *ids, const struct code_layout *layout, const struct run *run,
                struct err *e)
{
    struct fill f = {.ids = ids, .layout = layout, .path = bundle_file(b, "documents.jsonl")};
    if (catalog_filled(c))
        return 0;
    if (f.path && !(f.documents = document_lines_open(f.path, e)))
        return -1;
    int rc = fill_from(&f, c, b, run, e);
    document_lines_close(f.documents);
    return rc;
}
