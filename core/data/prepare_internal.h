/* prepare_internal.h: what the six preparations share.
 *
 * A preparation is a row of prepare_sets: the files it looks for, the columns of counts it fills, a function. The function is a list of
 * phases; each writes whole files into the work folder (or into made/, which becomes OUT) and its counts, and is skipped when it was
 * finished earlier. */
#ifndef SEMINDEX_PREPARE_INTERNAL_H
#define SEMINDEX_PREPARE_INTERNAL_H

#include "../base/file.h"
#include "../base/hash.h"
#include "prepare.h"

#include <cjson/cJSON.h>

enum prepare_count { /* the tables' columns, then what was met on the way */
                     COUNT_DOCUMENTS,
                     COUNT_USERS,
                     COUNT_HISTORIES, /* train, dev, test */
                     COUNT_QUERIES = COUNT_HISTORIES + 3,
                     COUNT_LABELS = COUNT_QUERIES + 3,
                     COUNT_COLUMNS = COUNT_LABELS + 3,
                     COUNT_BAD = COUNT_COLUMNS,
                     COUNT_REPEATED_REVIEWS,
                     COUNT_SHORT_USERS,
                     COUNT_WITHOUT_METADATA,
                     COUNT_REPEATED_METADATA,
                     COUNT_EMPTY_TITLES,
                     COUNT_REPEATED_DOCUMENTS,
                     COUNT_UNKNOWN_LABELS,
                     COUNT_REPEATED_LABELS,
                     COUNTS
};
enum prepare_split { SPLIT_TRAIN, SPLIT_DEV, SPLIT_TEST };
#define COLUMN(c) (1u << (c))

enum { PREPARE_FILES = 5 };
struct prepare;
struct prepare_set {
    const char *name;
    const char
        *files[PREPARE_FILES]; /* patterns with alternatives by '|'; '%' = the category; '?' in front: may be absent; '+': may be many */
    unsigned columns;          /* of the tables: COLUMN(..) */
    bool with_data;            /* takes `data` */
    int (*run)(struct prepare *p, struct err *e);
};

struct prepare_paths {
    char **path;
    int count;
};
struct prepare {
    const struct prepare_options *o;
    const struct prepare_set *set;
    const struct run *run;
    char *category;                            /* "Beauty", or NULL */
    struct prepare_paths files[PREPARE_FILES]; /* as the set's patterns */
    char *data_documents, *data_sequences;     /* files of o->data, or NULL */
    char *work, *made;                         /* OUT.work, OUT.work/made */
    unsigned columns;                          /* that are known */
    int64_t count[COUNTS], before[COUNTS];     /* before: at the begin of the phase */
    const char *phase;
    bool again; /* lines are read for the second time: bad ones were named and counted before */
};

/* ---- prepare.c ---- */
/* 1 = finished by an earlier run, whose counts are taken over; 0 = to do now; -1. */
int prepare_phase(struct prepare *p, const char *name, struct err *e);
int prepare_phase_end(struct prepare *p, struct err *e);
int prepare_create(struct prepare *p, struct file_out *f, const char *name, struct err *e); /* a file of OUT */
int prepare_create_work(struct prepare *p, struct file_out *f, const char *name, struct err *e);
int prepare_save(struct prepare *p, const char *name, const void *data, size_t size, struct err *e); /* a file of the work folder */
void *prepare_load(struct prepare *p, const char *name, size_t size, struct err *e);                 /* size bytes exactly; caller frees */

/* ---- prepare_input.c ---- */
struct prepare_input {
    struct prepare *p;
    const char *path;
    struct lines *lines;
    char *line;
    size_t size;
};
int prepare_open(struct prepare_input *in, struct prepare *p, const char *path, struct err *e);
/* 1 = a line, 0 = end, -1. Reports progress; stops with ERR_INTERRUPTED. Lines of white space only are skipped. */
int prepare_next(struct prepare_input *in, struct err *e);
/* Names and counts a line that is left out: 0, or -1 when there are too many. */
int prepare_bad(struct prepare_input *in, struct err *e, const char *format, ...) __attribute__((format(printf, 3, 4)));
void prepare_close(struct prepare_input *in);
/* The next line's object, which the caller deletes; lines that hold none are counted as bad. NULL with *status 0 or -1. */
cJSON *prepare_next_object(struct prepare_input *in, int *status, struct err *e);
/* Copies path to the file `name` of OUT; *lines = how many are not blank. */
int prepare_copy(struct prepare *p, const char *path, const char *name, int64_t *lines, struct err *e);

/* ---- prepare_text.c ---- */
/* Appends s as one line of clean text: white space and control characters run together, bytes that are no UTF-8 become U+FFFD, and with
 * markup HTML entities are decoded and tags dropped. At most `most` bytes (0 = all), cut between words where there is one. */
void prepare_clean(struct str *out, const char *s, bool markup, size_t most);
void prepare_json_string(FILE *f, const char *s); /* quoted and escaped; mends UTF-8 */
void prepare_write_document(FILE *f, const char *id, const char *title, const char *text);
void prepare_write_query(FILE *f, const char *id, const char *text);

/* ---- prepare_ids.c: ids to numbers in order of appearance ---- */
struct prepare_ids {
    struct string_map *map;
    struct arena strings;
    char **id;
    int32_t count, room;
};
void prepare_ids_init(struct prepare_ids *ids);
void prepare_ids_free(struct prepare_ids *ids);
int32_t prepare_ids_add(struct prepare_ids *ids, const char *id); /* its number, new or old */
int32_t prepare_ids_find(const struct prepare_ids *ids, const char *id);
int prepare_ids_save(struct prepare *p, const struct prepare_ids *ids, const char *name,
                     struct err *e);                                                               /* one a line, in the work folder */
int prepare_ids_load(struct prepare *p, struct prepare_ids *ids, const char *name, struct err *e); /* ids is init'ed here */

/* ---- prepare_labels.c: judgements, and the files made of them ---- */
struct prepare_label {
    int32_t query, document, grade;
};
struct prepare_labels {
    struct prepare_ids queries, documents;
    struct prepare_label *label;
    int32_t count, room;
    unsigned char *present;     /* of each document: it is in the corpus */
    unsigned char *split, *met; /* of each query: split + 1 that it belongs to, 0 = none; its text was written */
    int32_t written;            /* judgements */
};
void prepare_labels_init(struct prepare_labels *l);
void prepare_labels_free(struct prepare_labels *l);
void prepare_labels_add(struct prepare_labels *l, const char *query, const char *document, int32_t grade);
/* Reads "query 0 document grade" (TREC) or "query document grade" (BEIR, first line a header); grades below 1 are left out. */
int prepare_labels_read(struct prepare *p, struct prepare_labels *l, const char *path, struct err *e);
/* Sorts, drops repeated pairs (counted), makes `present`, `split` and `met`, all 0. Before any of the following. */
void prepare_labels_ready(struct prepare *p, struct prepare_labels *l);
bool prepare_labels_see(struct prepare_labels *l, const char *document); /* marks it present; false when no label names it */
/* Every query with a present document belongs to this split. */
void prepare_labels_assign(struct prepare_labels *l, enum prepare_split split);
/* A query's text was met: writes it to the file of its split, if it has one and was not met before. */
void prepare_labels_query(struct prepare *p, struct prepare_labels *l, FILE *const f[3], const char *query, const char *text);
/* The judgements of one split whose query was met and whose document is present. */
int prepare_labels_write(struct prepare *p, struct prepare_labels *l, enum prepare_split split, struct err *e);
void prepare_labels_count_rest(struct prepare *p, const struct prepare_labels *l); /* those never written, as unknown */
extern const char *const prepare_query_file[3], *const prepare_label_file[3];

/* ---- prepare_table.c: TSV, CSV or JSON lines with named columns ---- */
struct prepare_table;
struct prepare_table *prepare_table_open(struct prepare *p, const char *path, struct err *e);
void prepare_table_close(struct prepare_table *t);
int prepare_table_next(struct prepare_table *t, struct err *e);             /* 1, 0, -1; bad rows are counted and skipped */
const char *prepare_table_get(struct prepare_table *t, const char *column); /* "" when absent or null; valid until the next row */
int prepare_table_bad(struct prepare_table *t, struct err *e, const char *what);
int prepare_table_need(struct prepare_table *t, const char *const columns[],
                       struct err *e); /* NULL-terminated; TSV: -1 names a missing one */

/* ---- prepare_counts.c ---- */
char *prepare_counts_text(const struct prepare *p, bool delta); /* "name value" lines */
int prepare_counts_add(struct prepare *p, const char *text, struct err *e);
void prepare_counts_json(const struct prepare *p, cJSON *object);
void prepare_counts_take(struct prepare *p, const cJSON *object);
void prepare_counts_table(const struct prepare *p, struct str *out);
int prepare_counts_check(const struct prepare *p, struct str *out, struct err *e);

/* ---- the sets ---- */
int prepare_amazon(struct prepare *p, struct err *e);
int prepare_esci(struct prepare *p, struct err *e);
int prepare_nq(struct prepare *p, struct err *e);
int prepare_msmarco(struct prepare *p, struct err *e);
int prepare_trec_dl(struct prepare *p, struct err *e);
int prepare_beir(struct prepare *p, struct err *e);

#endif
