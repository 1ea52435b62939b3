/* prepare_msmarco.c: MS MARCO passages cut to a corpus that contains every labelled one, and TREC-DL's queries over that corpus.
 *
 * The collection is read twice. The first pass ("choose") marks the lines of labelled passages and keeps, of all others, those with the
 * smallest hash of (seed, id) in a heap of at most `documents` entries: a uniform draw that does not depend on the order of the file. The
 * result is one bit a line. The second ("corpus") writes the marked lines in the order of the file. A passage id that comes again is a bad
 * line: for a labelled one by its mark, for a drawn one by the equal hash. Grades of TREC-DL count from 1. */
#include "../text/document.h"
#include "prepare_internal.h"

#include <stdlib.h>
#include <string.h>

struct drawn {
    uint64_t hash;
    int64_t line;
};
struct choice {
    struct prepare *p;
    struct prepare_labels set[2]; /* train, dev (the test set) */
    struct drawn *heap;           /* the largest on top */
    int64_t drawn, most, labelled, lines;
    unsigned char *chosen; /* a bit a line */
    int64_t room;          /* bytes */
};

static bool later(const struct drawn *a, const struct drawn *b)
{
    return a->hash != b->hash ? a->hash > b->hash : a->line > b->line;
}

static void sift_down(struct choice *c, int64_t i)
{
    for (int64_t child; (child = 2 * i + 1) < c->drawn; i = child) {
        if (child + 1 < c->drawn && later(&c->heap[child + 1], &c->heap[child]))
            child++;
        if (!later(&c->heap[child], &c->heap[i]))
            return;
        struct drawn t = c->heap[i];
        c->heap[i] = c->heap[child];
        c->heap[child] = t;
    }
}

static void offer(struct choice *c, struct drawn d)
{
    if (c->drawn < c->most) {
        int64_t i = c->drawn++;
        for (; i > 0 && later(&d, &c->heap[(i - 1) / 2]); i = (i - 1) / 2)
            c->heap[i] = c->heap[(i - 1) / 2];
        c->heap[i] = d;
    } else if (c->most > 0 && later(&c->heap[0], &d)) {
        c->heap[0] = d;
        sift_down(c, 0);
    }
}

static void choose_line(struct choice *c, int64_t line)
{
    while (line / 8 >= c->room) {
        int64_t room = c->room ? c->room * 2 : 4096;
        c->chosen = xrealloc(c->chosen, (size_t)room, 1);
        memset(c->chosen + c->room, 0, (size_t)(room - c->room));
        c->room = room;
    }
    c->chosen[line / 8] |= (unsigned char)(1u << line % 8);
}

static bool is_chosen(const struct choice *c, int64_t line)
{
    return line / 8 < c->room && (c->chosen[line / 8] >> line % 8 & 1);
}

/* "id TAB text" cut in place; NULL and *bad = 0 or -1 when it is something else. */
static char *cut_line(struct prepare_input *in, int *bad, struct err *e)
{
    char *tab = strchr(in->line, '\t');
    struct err why;
    *bad = 0;
    if (!tab) {
        *bad = prepare_bad(in, e, "is not \"id TAB text\"");
        return NULL;
    }
    *tab = 0;
    if (document_check_id(in->line, strlen(in->line), &why) < 0) {
        *bad = prepare_bad(in, e, "the id %s", why.message);
        return NULL;
    }
    return tab + 1;
}

static int look_at_passage(struct choice *c, struct prepare_input *in, struct err *e)
{
    int rc;
    bool labelled = false, again = false;
    int64_t line = lines_number(in->lines);
    if (!cut_line(in, &rc, e))
        return rc;
    for (int i = 0; i < 2; i++) {
        int32_t at = prepare_ids_find(&c->set[i].documents, in->line);
        again |= at >= 0 && c->set[i].present[at];
        labelled |= at >= 0 && prepare_labels_see(&c->set[i], in->line);
    }
    if (again)
        return prepare_bad(in, e, "passage %s was there before", in->line);
    c->lines = line;
    if (!labelled) {
        offer(c, (struct drawn){hash_bytes(in->line, strlen(in->line), c->p->o->seed), line});
        return 0;
    }
    choose_line(c, line);
    c->labelled++;
    return 0;
}

static int compare_drawn(const void *a, const void *b)
{
    const struct drawn *x = a, *y = b;
    return later(x, y) ? 1 : later(y, x) ? -1 : 0;
}

/* The smallest draws fill the corpus up. Equal hashes are one passage twice. */
static void fill(struct choice *c)
{
    int64_t left = c->p->o->documents - c->labelled;
    if (c->drawn)
        qsort(c->heap, (size_t)c->drawn, sizeof *c->heap, compare_drawn);
    for (int64_t i = 0; i < c->drawn && left > 0; i++) {
        if (i > 0 && c->heap[i].hash == c->heap[i - 1].hash) {
            c->p->count[COUNT_REPEATED_DOCUMENTS]++;
            continue;
        }
        choose_line(c, c->heap[i].line);
        left--;
    }
    choose_line(c, c->lines + 1); /* room to the end: the saved size then follows from the collection */
    c->chosen[(c->lines + 1) / 8] &= (unsigned char)~(1u << (c->lines + 1) % 8);
}

static int save_choice(struct choice *c, struct err *e)
{
    if (prepare_save(c->p, "chosen.bin", c->chosen, (size_t)c->room, e) < 0)
        return -1;
    if (prepare_save(c->p, "present-train.bin", c->set[0].present, (size_t)c->set[0].documents.count, e) < 0)
        return -1;
    return prepare_save(c->p, "present-test.bin", c->set[1].present, (size_t)c->set[1].documents.count, e);
}

static int load_choice(struct choice *c, struct err *e)
{
    static const char *const names[] = {"present-train.bin", "present-test.bin"};
    char *path = path_join(c->p->work, "chosen.bin");
    size_t size = 0;
    c->chosen = (unsigned char *)file_read(path, 0, &size, e);
    c->room = (int64_t)size;
    free(path);
    for (int i = 0; i < 2 && c->chosen; i++) {
        free(c->set[i].present);
        c->set[i].present = prepare_load(c->p, names[i], (size_t)c->set[i].documents.count, e);
        if (!c->set[i].present)
            return -1;
    }
    return c->chosen ? 0 : -1;
}

static int choose(struct choice *c, struct err *e)
{
    struct prepare_input in;
    int status;
    c->most = c->p->o->documents;
    c->heap = xrealloc(NULL, (size_t)c->most, sizeof *c->heap);
    if (prepare_open(&in, c->p, c->p->files[0].path[0], e) < 0)
        return -1;
    while ((status = prepare_next(&in, e)) == 1)
        if ((status = look_at_passage(c, &in, e)) < 0)
            break;
    prepare_close(&in);
    if (status < 0)
        return -1;
    if (c->labelled > c->p->o->documents)
        return err_set(e, ERR_USAGE, "--documents %lld: %lld passages have a label, and all of them belong to the corpus",
                       (long long)c->p->o->documents, (long long)c->labelled);
    fill(c);
    return save_choice(c, e);
}

static int phase_choose(struct choice *c, struct err *e)
{
    int done = prepare_phase(c->p, "choose", e);
    if (done != 0)
        return done < 0 ? -1 : load_choice(c, e);
    int rc = choose(c, e);
    free(c->heap);
    c->heap = NULL;
    return rc < 0 ? -1 : prepare_phase_end(c->p, e);
}

static int write_passages(struct choice *c, struct prepare_input *in, FILE *f, struct err *e)
{
    int status;
    struct str clean = {0};
    while ((status = prepare_next(in, e)) == 1) {
        char *tab;
        if (!is_chosen(c, lines_number(in->lines)) || !(tab = strchr(in->line, '\t')))
            continue;
        *tab = 0;
        str_clear(&clean);
        prepare_clean(&clean, tab + 1, false, (size_t)c->p->o->max_text);
        prepare_write_document(f, in->line, "", clean.data);
        c->p->count[COUNT_DOCUMENTS]++;
    }
    str_free(&clean);
    return status;
}

static int phase_corpus(struct choice *c, struct err *e)
{
    struct prepare_input in;
    struct file_out f;
    int done = prepare_phase(c->p, "corpus", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    if (prepare_create(c->p, &f, "corpus.jsonl", e) < 0)
        return -1;
    int rc = prepare_open(&in, c->p, c->p->files[0].path[0], e);
    if (rc == 0) {
        rc = write_passages(c, &in, f.stream, e);
        prepare_close(&in);
    }
    if (rc == 0)
        rc = file_out_commit(&f, e);
    file_out_cancel(&f);
    return rc < 0 ? -1 : prepare_phase_end(c->p, e);
}

/* Every line of a queries file past the labels. */
static int stream_queries(struct prepare *p, struct prepare_labels *l, const char *path, FILE *const f[3], struct err *e)
{
    struct prepare_input in;
    struct str clean = {0};
    int status;
    if (prepare_open(&in, p, path, e) < 0)
        return -1;
    while ((status = prepare_next(&in, e)) == 1) {
        const char *text = cut_line(&in, &status, e);
        if (status < 0)
            break;
        if (!text)
            continue;
        str_clear(&clean);
        prepare_clean(&clean, text, false, 0);
        prepare_labels_query(p, l, f, in.line, clean.data);
    }
    prepare_close(&in);
    str_free(&clean);
    return status;
}

/* Queries from one or two files, then the judgements of the split. */
static int write_split(struct prepare *p, struct prepare_labels *l, enum prepare_split split, const char *const paths[2], struct err *e)
{
    struct file_out f;
    if (prepare_create(p, &f, prepare_query_file[split], e) < 0)
        return -1;
    FILE *const out[3] = {f.stream, f.stream, f.stream};
    int rc = 0;
    prepare_labels_assign(l, split);
    for (int i = 0; i < 2 && rc == 0 && paths[i]; i++)
        rc = stream_queries(p, l, paths[i], out, e);
    if (rc == 0)
        rc = file_out_commit(&f, e);
    file_out_cancel(&f);
    if (rc == 0)
        rc = prepare_labels_write(p, l, split, e);
    if (rc == 0)
        prepare_labels_count_rest(p, l);
    return rc;
}

static int phase_queries(struct choice *c, struct err *e)
{
    struct prepare *p = c->p;
    const char *const train[2] = {p->files[1].path[0], NULL}, *const dev[2] = {p->files[3].path[0], NULL};
    int done = prepare_phase(p, "queries", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    if (write_split(p, &c->set[0], SPLIT_TRAIN, train, e) < 0 || write_split(p, &c->set[1], SPLIT_TEST, dev, e) < 0)
        return -1;
    return prepare_phase_end(p, e);
}

int prepare_msmarco(struct prepare *p, struct err *e)
{
    struct choice c = {.p = p};
    static const int qrels[2] = {2, 4};
    int rc = prepare_phase(p, "labels", e) < 0 ? -1 : 0; /* only ids: read again each time, never marked as done */
    for (int i = 0; i < 2; i++)
        prepare_labels_init(&c.set[i]);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = prepare_labels_read(p, &c.set[i], p->files[qrels[i]].path[0], e);
    for (int i = 0; i < 2 && rc == 0; i++)
        prepare_labels_ready(p, &c.set[i]);
    if (rc == 0)
        rc = phase_choose(&c, e);
    if (rc == 0)
        rc = phase_corpus(&c, e);
    if (rc == 0)
        rc = phase_queries(&c, e);
    for (int i = 0; i < 2; i++)
        prepare_labels_free(&c.set[i]);
    free(c.heap);
    free(c.chosen);
    return rc;
}

/* ---- TREC-DL ---- */

/* The corpus goes over as it is; passages that were judged are marked on the way. */
static int copy_corpus(struct prepare *p, struct prepare_labels *l, struct err *e)
{
    struct prepare_input in;
    struct file_out f;
    cJSON *o;
    int status = 0;
    if (prepare_open(&in, p, p->data_documents, e) < 0)
        return -1;
    if (prepare_create(p, &f, "corpus.jsonl", e) < 0) {
        prepare_close(&in);
        return -1;
    }
    while ((o = prepare_next_object(&in, &status, e))) {
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "_id"));
        if (id)
            prepare_labels_see(l, id);
        fwrite(in.line, 1, in.size, f.stream);
        fputc('\n', f.stream);
        p->count[COUNT_DOCUMENTS]++;
        cJSON_Delete(o);
    }
    prepare_close(&in);
    if (status == 0)
        return file_out_commit(&f, e);
    file_out_cancel(&f);
    return -1;
}

static int copy_train(struct prepare *p, struct err *e)
{
    char *queries = path_join(p->o->data, prepare_query_file[SPLIT_TRAIN]),
         *labels = path_join(p->o->data, prepare_label_file[SPLIT_TRAIN]);
    int rc = prepare_copy(p, queries, prepare_query_file[SPLIT_TRAIN], &p->count[COUNT_QUERIES], e);
    if (rc == 0)
        rc = prepare_copy(p, labels, prepare_label_file[SPLIT_TRAIN], &p->count[COUNT_LABELS], e);
    if (rc == 0)
        p->count[COUNT_LABELS]--; /* the header */
    free(queries);
    free(labels);
    return rc;
}

int prepare_trec_dl(struct prepare *p, struct err *e)
{
    struct prepare_labels l;
    if (!p->data_documents)
        return err_set(e, ERR_USAGE, "--data DIR is needed: the folder that `semindex prepare msmarco` made");
    int done = prepare_phase(p, "all", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    const char *const queries[2] = {p->files[0].path[0], p->files[2].path[0]};
    prepare_labels_init(&l);
    int rc = prepare_labels_read(p, &l, p->files[1].path[0], e);
    if (rc == 0)
        rc = prepare_labels_read(p, &l, p->files[3].path[0], e);
    if (rc == 0) {
        prepare_labels_ready(p, &l);
        rc = copy_corpus(p, &l, e);
    }
    if (rc == 0)
        rc = copy_train(p, e);
    if (rc == 0)
        rc = write_split(p, &l, SPLIT_TEST, queries, e);
    prepare_labels_free(&l);
    return rc < 0 ? -1 : prepare_phase_end(p, e);
}
