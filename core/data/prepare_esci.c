/* prepare_esci.c: Amazon's ESCI shopping queries as product search: label E, locale us.
 *
 * The corpus is the items of `data` (an Amazon category prepared before: then the published row is that category's) or else every us
 * product of the product table. The example table is read twice: first the ids of exact pairs, then, when it is known which products are in
 * the corpus and so which queries are left, the texts of those. Queries of the training split are ordered by the hash of (seed, id): the
 * first seven eighths, rounded down, train, the others are for development (1,199 give 1,049 and 150, as published). Queries without a
 * split are for test when the table has no such column. */
#include "../text/document.h"
#include "prepare_internal.h"

#include <stdlib.h>
#include <string.h>

struct esci {
    struct prepare *p;
    struct prepare_labels l;
    unsigned char *train; /* of each query, while reading: 1 = the published split says train */
    int32_t room;
    struct prepare_ids products; /* written from the table */
};

static bool exact_us(struct prepare_table *t)
{
    const char *locale = prepare_table_get(t, "product_locale"), *label = prepare_table_get(t, "esci_label");
    return (!*locale || !strcmp(locale, "us")) && (!strcmp(label, "E") || !strcmp(label, "exact") || !strcmp(label, "Exact"));
}

static int check_example(struct prepare_table *t, struct err *e)
{
    const char *query = prepare_table_get(t, "query_id"), *product = prepare_table_get(t, "product_id");
    if (document_check_id(query, strlen(query), NULL) < 0)
        return prepare_table_bad(t, e, "\"query_id\" is missing or no id") < 0 ? -1 : 1;
    if (document_check_id(product, strlen(product), NULL) < 0)
        return prepare_table_bad(t, e, "\"product_id\" is missing or no id") < 0 ? -1 : 1;
    if (prepare_table_get(t, "query")[strspn(prepare_table_get(t, "query"), " \t\n")] == 0)
        return prepare_table_bad(t, e, "\"query\" is missing or empty") < 0 ? -1 : 1;
    return 0;
}

static void note_split(struct esci *s, const char *query, const char *split)
{
    int32_t at = prepare_ids_find(&s->l.queries, query);
    if (at >= s->room) {
        int32_t room = s->l.queries.room;
        s->train = xrealloc(s->train, (size_t)room, 1);
        memset(s->train + s->room, 0, (size_t)(room - s->room));
        s->room = room;
    }
    s->train[at] = strcmp(split, "train") == 0;
}

static struct prepare_table *open_examples(struct esci *s, struct err *e)
{
    static const char *const need[] = {"query", "query_id", "product_id", "esci_label", "split", NULL};
    struct prepare_table *t = prepare_table_open(s->p, s->p->files[0].path[0], e);
    if (t && prepare_table_need(t, need, e) < 0) {
        prepare_table_close(t);
        return NULL;
    }
    return t;
}

static int read_labels(struct esci *s, struct err *e)
{
    struct prepare_table *t = open_examples(s, e);
    int status = -1;
    while (t && (status = prepare_table_next(t, e)) == 1) {
        if (!exact_us(t))
            continue;
        int bad = check_example(t, e);
        if (bad < 0) {
            status = -1;
            break;
        }
        if (bad)
            continue;
        prepare_labels_add(&s->l, prepare_table_get(t, "query_id"), prepare_table_get(t, "product_id"), 1);
        note_split(s, prepare_table_get(t, "query_id"), prepare_table_get(t, "split"));
    }
    prepare_table_close(t);
    return status;
}

/* ---- the corpus ---- */

static void put_field(FILE *f, const char *name, const char *text, size_t most)
{
    struct str clean = {0};
    prepare_clean(&clean, text, true, most);
    if (clean.size || !strcmp(name, "title")) {
        fprintf(f, ", \"%s\": ", name);
        prepare_json_string(f, clean.data);
    }
    str_free(&clean);
}

static int write_product(struct esci *s, struct prepare_table *t, FILE *f, struct err *e)
{
    const char *id = prepare_table_get(t, "product_id"), *locale = prepare_table_get(t, "product_locale");
    if (*locale && strcmp(locale, "us"))
        return 0;
    if (document_check_id(id, strlen(id), NULL) < 0)
        return prepare_table_bad(t, e, "\"product_id\" is missing or no id");
    int32_t before = s->products.count;
    if (prepare_ids_add(&s->products, id) < before) {
        s->p->count[COUNT_REPEATED_DOCUMENTS]++;
        return 0;
    }
    struct str text = {0};
    str_printf(&text, "%s %s", prepare_table_get(t, "product_description"), prepare_table_get(t, "product_bullet_point"));
    prepare_labels_see(&s->l, id);
    fputs("{\"_id\": ", f);
    prepare_json_string(f, id);
    put_field(f, "title", prepare_table_get(t, "product_title"), 0);
    put_field(f, "text", text.data, (size_t)s->p->o->max_text);
    put_field(f, "brand", prepare_table_get(t, "product_brand"), 0);
    put_field(f, "color", prepare_table_get(t, "product_color"), 0);
    fputs("}\n", f);
    str_free(&text);
    s->p->count[COUNT_DOCUMENTS]++;
    return 0;
}

static int write_products(struct esci *s, struct err *e)
{
    static const char *const need[] = {"product_id", "product_title", NULL};
    struct file_out f;
    int status = -1;
    if (prepare_create(s->p, &f, "corpus.jsonl", e) < 0)
        return -1;
    struct prepare_table *t = prepare_table_open(s->p, s->p->files[1].path[0], e);
    if (t && prepare_table_need(t, need, e) == 0)
        while ((status = prepare_table_next(t, e)) == 1)
            if ((status = write_product(s, t, f.stream, e)) < 0)
                break;
    prepare_table_close(t);
    if (status == 0)
        status = file_out_commit(&f, e);
    file_out_cancel(&f);
    return status;
}

static int copy_items(struct esci *s, struct err *e)
{
    struct prepare *p = s->p;
    const char *name = strrchr(p->data_documents, '/') + 1;
    struct prepare_input in;
    cJSON *o;
    int status = 0;
    if (prepare_copy(p, p->data_documents, name, &p->count[COUNT_DOCUMENTS], e) < 0)
        return -1;
    if (p->data_sequences && prepare_copy(p, p->data_sequences, "sequences.txt", &p->count[COUNT_USERS], e) < 0)
        return -1;
    if (prepare_open(&in, p, p->data_documents, e) < 0)
        return -1;
    while ((o = prepare_next_object(&in, &status, e))) {
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "_id"));
        id = id ? id : cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "id"));
        if (id)
            prepare_labels_see(&s->l, id);
        cJSON_Delete(o);
    }
    prepare_close(&in);
    return status;
}

static int phase_corpus(struct esci *s, struct err *e)
{
    struct prepare *p = s->p;
    int done = prepare_phase(p, "corpus", e);
    if (done < 0)
        return -1;
    if (done == 1) {
        free(s->l.present);
        s->l.present = prepare_load(p, "present.bin", (size_t)s->l.documents.count, e);
        return s->l.present ? 0 : -1;
    }
    if (p->data_documents ? copy_items(s, e) < 0 : write_products(s, e) < 0)
        return -1;
    if (prepare_save(p, "present.bin", s->l.present, (size_t)s->l.documents.count, e) < 0)
        return -1;
    return prepare_phase_end(p, e);
}

/* ---- the queries ---- */

struct ranked {
    uint64_t hash;
    int32_t query;
};
static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->hash != y->hash ? (x->hash > y->hash) - (x->hash < y->hash) : (x->query > y->query) - (x->query < y->query);
}

/* Queries with a product in the corpus: test by the published split, the others 7 : 1. */
static void split_queries(struct esci *s)
{
    struct prepare_labels *l = &s->l;
    struct ranked *rank = xcalloc((size_t)l->queries.count, sizeof *rank);
    int32_t n = 0;
    prepare_labels_assign(l, SPLIT_TEST);
    for (int32_t q = 0; q < l->queries.count; q++)
        if (l->split[q] && s->train[q])
            rank[n++] = (struct ranked){hash_bytes(l->queries.id[q], strlen(l->queries.id[q]), s->p->o->seed), q};
    if (n)
        qsort(rank, (size_t)n, sizeof *rank, compare_ranked);
    for (int32_t i = 0; i < n; i++)
        l->split[rank[i].query] = (unsigned char)((i < (int64_t)n * 7 / 8 ? SPLIT_TRAIN : SPLIT_DEV) + 1);
    free(rank);
}

static int stream_queries(struct esci *s, FILE *const f[3], struct err *e)
{
    struct prepare_table *t = open_examples(s, e);
    struct str clean = {0};
    int status = -1;
    while (t && (status = prepare_table_next(t, e)) == 1) {
        const char *id = prepare_table_get(t, "query_id"), *text = prepare_table_get(t, "query");
        if (!exact_us(t) || text[strspn(text, " \t\n")] == 0)
            continue;
        str_clear(&clean);
        prepare_clean(&clean, text, true, 0);
        prepare_labels_query(s->p, &s->l, f, id, clean.data);
    }
    prepare_table_close(t);
    str_free(&clean);
    return status;
}

static int write_queries(struct esci *s, struct err *e)
{
    struct file_out f[3] = {{0}};
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = prepare_create(s->p, &f[i], prepare_query_file[i], e);
    s->p->again = true;
    if (rc == 0)
        rc = stream_queries(s, (FILE *const[3]){f[0].stream, f[1].stream, f[2].stream}, e);
    s->p->again = false;
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = file_out_commit(&f[i], e);
    for (int i = 0; i < 3; i++)
        file_out_cancel(&f[i]);
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = prepare_labels_write(s->p, &s->l, (enum prepare_split)i, e);
    if (rc == 0)
        prepare_labels_count_rest(s->p, &s->l);
    return rc;
}

static int phase_queries(struct esci *s, struct err *e)
{
    int done = prepare_phase(s->p, "queries", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    split_queries(s);
    return write_queries(s, e) < 0 ? -1 : prepare_phase_end(s->p, e);
}

int prepare_esci(struct prepare *p, struct err *e)
{
    struct esci s = {.p = p};
    if (!p->data_documents && !p->files[1].count)
        return err_set(e, ERR_NO_INPUT, "%s: no product table (*products*.tsv, .csv or .jsonl) is there, and no --data DIR names items",
                       p->o->folder);
    if (p->data_sequences)
        p->columns |= COLUMN(COUNT_USERS);
    prepare_labels_init(&s.l);
    prepare_ids_init(&s.products);
    int rc = prepare_phase(p, "labels", e) < 0 ? -1 : read_labels(&s, e); /* only ids: read again each time */
    if (rc == 0) {
        prepare_labels_ready(p, &s.l);
        rc = phase_corpus(&s, e);
    }
    if (rc == 0)
        rc = phase_queries(&s, e);
    prepare_labels_free(&s.l);
    prepare_ids_free(&s.products);
    free(s.train);
    return rc;
}
