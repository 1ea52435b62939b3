/* corpus.h: a folder of data in memory: documents, queries with judgements, histories.
 *
 * Two layouts go in as they are, and may be mixed in one folder:
 *   BEIR       corpus.jsonl {"_id","title","text"}, queries.jsonl {"_id","text"}, qrels.tsv or qrels/test.tsv (query-id corpus-id score);
 *              training pairs, where given: queries-train.jsonl with qrels-train.tsv (or qrels/train.tsv over queries.jsonl)
 *   items      items.jsonl {"id","title","brand","categories","description",..}, sequences.txt (user item item ..., oldest first)
 * Errors name file and line. Fields other than id, title and text become the document's attributes (a JSON object). */
#ifndef SEMINDEX_CORPUS_H
#define SEMINDEX_CORPUS_H

#include "../base/hash.h"
#include "../base/mem.h"
#include "../base/run.h"
#include "../text/document.h"
#include <stdbool.h>

struct corpus_query {
    char *id, *text;
    int64_t line;
};
struct corpus_judgement { /* sorted by query, then document */
    int32_t query, document, grade;
};
struct corpus_queries {
    struct corpus_query *query;
    int32_t count;
    struct corpus_judgement *judgement;
    int32_t judgements;
};

struct corpus {
    struct document *documents; /* strings owned by `strings` */
    int32_t count;
    struct string_map *by_id; /* id -> document number */
    int32_t *place, lines;    /* after corpus_hold_out: where each document stood, and how many stood there; else NULL, 0 */
    struct corpus_queries test, train;
    int32_t users;
    char **user;
    int32_t *sequence;  /* document numbers of all users' histories, oldest first */
    int64_t *sequences; /* [users + 1] offsets into sequence */
    struct arena strings;
};

/* Reads all that is there. Duplicate ids, unknown ids in sequences, an empty corpus: errors. Judgements of unknown queries or documents are
 * counted and noted through run. -1 leaves *c freed. */
int corpus_read(struct corpus *c, const char *folder, const struct run *run, struct err *e);
void corpus_free(struct corpus *c); /* {0} is fine */

/* [count + 1]: query q has judgements first[q] .. first[q + 1] - 1. The caller frees. */
int32_t *corpus_judgements(const struct corpus_queries *q);
/* Leave-one-out split of user u: the last item is the test target, the one before the validation target, the rest trains. */
const int32_t *corpus_sequence(const struct corpus *c, int32_t user, int32_t *length);

/* True when a document of this name is left out at that share (0 .. 1): mix_uniform(seed, hash of the name) < share. So who is left out does not
 * depend on order, on other documents, or on the program that asks, and a larger share leaves out all that a smaller one does. */
bool corpus_is_held_out(const char *id, double share, uint64_t seed);
/* Takes the documents that are left out, out of c->documents, and notes it (run may be NULL); the others move up. by_id, judgements and sequences
 * keep the old numbers and are of no use afterwards. share 0: nothing happens. */
void corpus_hold_out(struct corpus *c, double share, uint64_t seed, const struct run *run);

/* The label of a document for AMI: its category path ("categories"[0] joined by " > "), or "section"; NULL if it has neither. Caller frees. */
char *corpus_category(const struct document *d);

#endif
