/* bundle.h: a model bundle, the folder that `semindex import` or `learn-ids` makes, `train` adds to, and `serve` reads.
 *
 *   bundle.json            {"format":"semindex-bundle","version":1,"parts":{..},"files":{name:{"bytes","sha256"}}}: the manifest; written last
 *   tokenizer.model        SentencePiece model (absent: imports, but cannot be served)
 *   indexer.safetensors    T5 + codebooks + reconstructor, with its settings in indexer.json           (part "indexer")
 *   quantiser.safetensors  instead of an indexer: what turns a text embedding into codes, with quantiser.json (quantiser.h)
 *   search.safetensors     task model whose extra vocabulary rows are ID codes, search.json             (part "search")
 *   recommend.safetensors  the same for histories, recommend.json                                       (part "recommend")
 *   queries.safetensors    a T5 that writes queries from a document's text, queries.json                (part "queries")
 *   base.safetensors       a T5 without codes, imported or pretrained, base.json: the start of learn-ids and train           (part "base")
 *   ids.tsv                name TAB c1-c2-..-cT: the learned or imported documents, in corpus order     (part "ids")
 *   documents.jsonl        the documents behind ids.tsv, same order, one object a line {"id","title","text","attributes"}; absent for imported ids
 *   PART.run.json          how a part was made: options, seed, program, data; learn/provenance.h  (PART: pretrain, learn-ids, search, recommend, queries)
 *   popular.tsv            item TAB count of the training histories, most frequent first                (with "recommend")
 *   neighbours.bin         item neighbours of the training histories, over rows of ids.tsv (neighbours.h)  (with "recommend")
 *
 * Every file is checked against its SHA-256 before any parser sees it (SentencePiece can crash on a hostile model). Files are replaced whole;
 * the manifest is rewritten last, so a kill leaves the old manifest and a mismatch only between rename and rewrite: bundle_put
 * writes new content under a new name (NAME.N) and the manifest maps part names to file names, so that moment does not exist. */
#ifndef SEMINDEX_BUNDLE_H
#define SEMINDEX_BUNDLE_H

#include "../base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bundle;
/* Opens and verifies every file's size and SHA-256; errors name the file, expected and found. A version from the future or another format is
 * refused by name. */
struct bundle *bundle_open(const char *folder, struct err *e);
/* A new, empty bundle at folder (must be absent or an empty folder, or already a bundle when `replace`). */
struct bundle *bundle_create(const char *folder, bool replace, struct err *e);
void bundle_close(struct bundle *b);
const char *bundle_folder(const struct bundle *b);

/* Full path of a logical file ("indexer.safetensors"), NULL if the bundle has none. Owned by the bundle. */
const char *bundle_file(const struct bundle *b, const char *name);
const char *bundle_sha256(const struct bundle *b, const char *name); /* hex, or NULL */

/* A change: begin, put or write files under their logical names, commit (manifest fsynced and renamed last; files that nobody names any more
 * are removed) or abandon. bundle_path gives the temporary path where the caller writes a logical file itself. */
int bundle_begin(struct bundle *b, struct err *e);
char *bundle_path(struct bundle *b, const char *name); /* caller frees; exists after the caller wrote it */
int bundle_put(struct bundle *b, const char *name, const void *data, size_t size, struct err *e);
int bundle_drop(struct bundle *b, const char *name); /* leaves a logical file out of the next manifest; absent is fine */
int bundle_commit(struct bundle *b, struct err *e);
void bundle_abandon(struct bundle *b);

/* What identifies the ID space: SHA-256 over (tokenizer; indexer, quantiser or the imported model; ids.tsv) digests. A catalogue remembers it. hex[65]. */
void bundle_id_digest(const struct bundle *b, char hex[65]);
/* Over all files: what /info calls the model's digest. */
void bundle_digest(const struct bundle *b, char hex[65]);

/* How ID codes lie in a task model's vocabulary: token of code c at position t (from 0) = base + codes[0] + .. + codes[t-1] + c. */
enum { POSITIONS_MAX = 16 };
struct code_layout {
    int32_t base;               /* text vocabulary of that model */
    int32_t positions;          /* L + 1, the suffix included */
    int32_t codes[POSITIONS_MAX];
};
int32_t code_layout_first(const struct code_layout *l, int32_t position); /* without base */
int32_t code_layout_total(const struct code_layout *l);
/* {"base":b,"positions":n,"codes":[..]}; errors name the field and its bound. */
int code_layout_parse(struct code_layout *l, const char *json, const char *path, struct err *e);
char *code_layout_print(const struct code_layout *l); /* caller frees */

/* ids.tsv in memory. codes [count * positions]. */
struct id_table {
    int32_t count, positions;
    char **name;
    uint32_t *codes;
};
int id_table_read(struct id_table *t, const char *path, const struct code_layout *layout, struct err *e); /* duplicate names or IDs, codes out of range: file, line */
int id_table_write(const struct id_table *t, const char *path, struct err *e);
void id_table_free(struct id_table *t);

#endif
