/* lexical.c: see lexical.h.
 *
 * The store wants an ID for each document; here it is the document's number cut into two 16-bit codes, so that a reader's row leads back to
 * the corpus. The folder is made under TMPDIR and removed at the end. */
#include "lexical.h"

#include "base/file.h"
#include "base/mem.h"
#include "catalog/catalog.h"

#include <stdlib.h>
#include <string.h>

struct lexical {
    char *folder;
    struct catalog *catalog;
    struct catalog_reader *reader;
    int32_t *document; /* [numbers] corpus document of a store number */
    int64_t numbers;
    struct catalog_hit *hits;
    int32_t room;
};

struct filling {
    const struct corpus *corpus;
    int32_t next;
    uint32_t codes[2];
};

static int next_entry(void *state, struct catalog_entry *out, struct err *e)
{
    struct filling *f = state;
    (void)e;
    if (f->next == f->corpus->count)
        return 0;
    f->codes[0] = (uint32_t)f->next >> 16;
    f->codes[1] = (uint32_t)f->next & 0xffff;
    *out = (struct catalog_entry){.document = f->corpus->documents[f->next++], .codes = f->codes, .trained = true};
    return 1;
}

static int map_number(void *state, const struct catalog_id *id, struct err *e)
{
    struct lexical *l = state;
    (void)e;
    if (id->number >= l->numbers) {
        l->document = xrealloc(l->document, (size_t)id->number * 2 + 64, sizeof *l->document);
        l->numbers = id->number * 2 + 64;
    }
    l->document[id->number] = (int32_t)(id->codes[0] << 16 | id->codes[1]);
    return 0;
}

static int fill(struct lexical *l, const struct corpus *corpus, const struct run *run, struct err *e)
{
    static const char digest[] = "0000000000000000000000000000000000000000000000000000000000000000";
    char *path = path_join(l->folder, "catalog.sqlite");
    struct filling filling = {.corpus = corpus};
    l->catalog = catalog_open(&(struct catalog_options){.path = path, .model_digest = digest, .learned = 1}, e);
    free(path);
    struct catalog_source source = {.total = corpus->count, .next = next_entry, .state = &filling};
    if (l->catalog == NULL || catalog_fill(l->catalog, &source, run, e) != 0)
        return -1;
    l->reader = catalog_reader_take(l->catalog, e);
    return l->reader == NULL ? -1 : catalog_each_id(l->reader, map_number, l, e);
}

struct lexical *lexical_open(const struct corpus *corpus, const struct run *run, struct err *e)
{
    struct lexical *l = xcalloc(1, sizeof *l);
    l->folder = file_temporary_folder("semindex-words", e);
    if (l->folder != NULL && fill(l, corpus, run, e) == 0)
        return l;
    lexical_close(l);
    return NULL;
}

void lexical_close(struct lexical *l)
{
    if (l == NULL)
        return;
    catalog_reader_give(l->reader);
    catalog_close(l->catalog);
    if (l->folder != NULL)
        (void)file_remove_tree(l->folder, NULL);
    free(l->folder);
    free(l->document);
    free(l->hits);
    free(l);
}

int32_t lexical_rank(struct lexical *l, const char *query, int32_t limit, int32_t *documents, double *scores, struct err *e)
{
    int32_t n = 0;
    if (limit > l->room) {
        l->hits = xrealloc(l->hits, (size_t)limit, sizeof *l->hits);
        l->room = limit;
    }
    if (catalog_search(l->reader, query, strlen(query), limit, l->hits, &n, e) != 0)
        return -1;
    for (int32_t i = 0; i < n; i++) {
        documents[i] = l->document[l->hits[i].number];
        scores[i] = l->hits[i].score;
    }
    return n;
}
