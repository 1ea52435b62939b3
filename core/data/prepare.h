/* prepare.h: `semindex prepare`: a data set's files as their owners publish them become a folder that corpus.h reads.
 *
 *   amazon   reviews_CATEGORY_5.json, meta_CATEGORY.json (2014)      -> items.jsonl, sequences.txt, histories-train.tsv
 *   esci     *examples*, *products* as TSV, CSV or JSON lines         -> corpus (or the items of `data`), queries of label E
 *   nq       *nq-train*.jsonl, *nq-dev*.jsonl                         -> corpus without repeated pages, one query an example
 *   msmarco  collection.tsv, {queries,qrels}.{train,dev.small}.tsv    -> labelled passages and a random fill up to `documents`
 *   trec-dl  msmarco-test20{19,20}-queries.tsv, 20{19,20}qrels-pass.txt -> documents and training pairs of `data`, judged queries
 *   beir     corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv  -> the same, checked
 *
 * Every file may be gzip, with .gz behind its name or without. Search sets come out as corpus.jsonl, queries.jsonl with qrels/test.tsv,
 * queries-train.jsonl with qrels/train.tsv, queries-dev.jsonl with qrels/dev.tsv. prepared.json beside them says from what they were made,
 * and the counts. Same inputs, options and seed: same bytes.
 *
 * OUT appears whole, by one rename, or not at all. Work lies in OUT.work until then; phases that were finished are skipped by the next run
 * with the same inputs. Texts are streamed. What stays in memory: about 130 bytes a user, item, query and judged document id, 12 a
 * judgement, and for amazon 32 MB of reviews being sorted; for msmarco 17 bytes a document of the output and a bit a passage; and the
 * longest line. */
#ifndef SEMINDEX_PREPARE_H
#define SEMINDEX_PREPARE_H

#include "../base/err.h"
#include "../base/mem.h"
#include "../base/run.h"

#include <stdbool.h>
#include <stdint.h>

struct prepare_options {
    const char *set;      /* "amazon", "esci", "nq", "msmarco", "trec-dl", "beir" */
    const char *folder;   /* the published files */
    const char *out;      /* folder to make */
    const char *data;     /* esci, trec-dl: a prepared folder whose documents the queries are for; else NULL */
    const char *category; /* amazon: which of several; esci: which published row; NULL = from the files */
    int64_t documents;    /* msmarco: size of the corpus; 0 = 1,000,000 */
    int64_t max_text;     /* most bytes of a document's text; 0 = 8,192 for nq, whole for the others */
    int64_t bad_lines;    /* left out and named before the run gives up */
    bool all_histories;   /* amazon: every prefix of a user is a training history, not five drawn */
    uint64_t seed;
    bool check; /* compare with the published row: ERR_DATA names each difference; OUT stays */
    bool json;
};

/* Appends the table of counts (or JSON) to out, also when the check then fails. */
int prepare_run(const struct prepare_options *o, const struct run *run, struct str *out, struct err *e);

#endif
