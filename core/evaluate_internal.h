/* evaluate_internal.h: what one `evaluate` run owns, and the tables it fills; shared by evaluate*.c. */
#ifndef SEMINDEX_EVALUATE_INTERNAL_H
#define SEMINDEX_EVALUATE_INTERNAL_H

#include "base/file.h"
#include "data/corpus.h"
#include "data/metrics.h"
#include "data/trec_run.h"
#include "lexical.h"
#include "model/bundle.h"
#include "model/t5.h"
#include "retrieve/ranker.h"
#include "retrieve/trie.h"
#include "runs.h"
#include "text/tokenizer.h"

/* ---- tables ---- */
enum { EVALUATE_COLUMNS = 12, EVALUATE_ROWS = 12, EVALUATE_FACTS = 96, EVALUATE_DEEPEST = 100 };

extern const struct metrics_metric evaluate_columns[EVALUATE_COLUMNS];

struct evaluate_row { /* one ranking, summed over queries */
    const char *name;
    int32_t reach; /* longest list it can give; columns beyond it print as "-" */
    int64_t queries;
    double sum[EVALUATE_COLUMNS];
    bool keeps;
    int64_t room;
    double *values; /* [queries, EVALUATE_COLUMNS] where keeps */
    struct file_out *out; /* run file that lists are written to, or NULL; not owned */
};
struct evaluate_table {
    const char *task, *title;
    struct evaluate_row row[EVALUATE_ROWS];
    int32_t rows;
    bool keeps; /* values of single queries */
};
/* A new row; valid as long as the table. */
struct evaluate_row *evaluate_row_add(struct evaluate_table *t, const char *name, int32_t reach);
/* What is relevant for one query: documents (ascending) with their grades >= 1. */
struct evaluate_truth {
    const int32_t *document, *grade;
    int32_t count;
};
/* One query's list: documents with scores, best first or not (sorted by the tie rule). */
struct evaluate_list {
    const struct corpus *corpus;
    const char *query; /* name, for a run file; may be NULL where there is none */
    const int32_t *documents;
    const double *scores;
    int32_t count;
};
void evaluate_row_list(struct evaluate_row *r, const struct evaluate_list *list, const struct evaluate_truth *truth);
/* The same for hits that are sorted and graded. */
void evaluate_row_hits(struct evaluate_row *r, const struct metrics_hit *hits, int32_t count, const struct evaluate_truth *truth);
int32_t evaluate_grade(const struct evaluate_truth *truth, int32_t document); /* 0 = not relevant */
/* One query with a single relevant document at `rank` (from 1; 0 = not in the list). */
void evaluate_row_rank(struct evaluate_row *r, int32_t rank);

struct evaluate_fact { /* a single figure, "ami_1_lmindexer" */
    char name[48];
    double value;
};
struct evaluate_facts {
    struct evaluate_fact fact[EVALUATE_FACTS];
    int32_t count;
};
void evaluate_fact_add(struct evaluate_facts *f, double value, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- the run ---- */
struct evaluate {
    struct evaluate_options o; /* defaults filled in */
    const struct run *run;
    const struct backend *be;
    struct corpus corpus;
    struct bundle *bundle;      /* NULL: baselines only */
    struct id_table ids;        /* {0} without a bundle */
    int32_t *row, *document;    /* corpus document -> row of ids or -1; row -> document or -1 */
    struct trie *trie;
    struct tokenizer *tokenizer;
    struct evaluate_table tables[6];
    int32_t table_count;
    struct evaluate_facts facts;
};
struct evaluate_table *evaluate_table_add(struct evaluate *v, const char *task, const char *title);

int evaluate_search(struct evaluate *v, struct err *e);
int evaluate_recommend(struct evaluate *v, struct err *e);
int evaluate_ids(struct evaluate *v, struct err *e);
int evaluate_cold(struct evaluate *v, struct err *e); /* instead of the others */

/* ---- evaluate_print.c: averages, intervals and comparisons, as text or JSON ---- */
int evaluate_print(const struct evaluate *v, struct str *out, struct err *e);

/* ---- evaluate_runs.c: run files of the search table ---- */
enum { EVALUATE_RUNS = 4 };
struct evaluate_runs {
    struct trec_run given[EVALUATE_RUNS]; /* of --run */
    struct evaluate_row *row[EVALUATE_RUNS];
    int32_t count;
    struct file_out out[EVALUATE_ROWS]; /* of --run-out */
    int32_t outs;
};
/* Reads the given runs and adds their rows: "run", "run2" .. */
int evaluate_runs_read(struct evaluate_runs *r, struct evaluate *v, struct evaluate_table *t, struct err *e);
void evaluate_runs_judge(struct evaluate_runs *r, const struct evaluate *v, int32_t query, const struct evaluate_truth *truth);
/* Opens a file for each of the table's own rows, those before the given runs'; commit makes them appear, close removes what was not. */
int evaluate_runs_open(struct evaluate_runs *r, const struct evaluate *v, struct evaluate_table *t, struct err *e);
int evaluate_runs_commit(struct evaluate_runs *r, struct err *e);
void evaluate_runs_close(struct evaluate_runs *r);

/* ---- evaluate_model.c: a task model with its beam ---- */
struct evaluate_model {
    struct t5 *model;
    struct code_layout layout;
    struct ranker *ranker;
    int32_t max_tokens, max_history;
    bool texts; /* recommend: histories as texts */
    double beam_weight; /* of the beam in hybrid rankings */
    int64_t free_ids, known[POSITIONS_MAX]; /* IDs of the unconstrained beam; those whose first t + 1 codes some document has */
};
enum { EVALUATE_BATCH = 64 }; /* rows of a ranker's batch */
int evaluate_model_open(struct evaluate *v, const char *part, struct evaluate_model *m, struct err *e);
void evaluate_model_close(struct evaluate_model *m);
/* ranker_run; with --unconstrained the IDs of the free beam are counted, too. */
const struct beam *evaluate_model_rank(const struct evaluate *v, struct evaluate_model *m, const struct t5_batch *b);
void evaluate_model_facts(struct evaluate *v, const struct evaluate_model *m, const char *part); /* of the unconstrained beam, if there was one */
int evaluate_tokenizer_open(struct evaluate *v, struct err *e);

#endif
