/* embeddings.h: a user's own text embeddings, one row a document.
 *
 * Two formats, told apart by content: .npy (versions 1 to 3, little-endian f2 or f4, C order, two dimensions) and .safetensors (its tensor
 * "embeddings", or its only tensor of two dimensions, any float dtype). Rows stand in corpus order, or a list of ids, one a line, names
 * them. A file that is not exactly what its header says is refused, and so is a value that is not finite, by row and column. */
#ifndef SEMINDEX_EMBEDDINGS_H
#define SEMINDEX_EMBEDDINGS_H

#include "../base/spill.h"
#include <stdint.h>

struct document;

enum { EMBEDDING_WIDTH_MOST = 65536 };

struct embeddings {
    int32_t count, width;
    float *values; /* [count, width] */
    struct spill memory; /* of the values: few in memory, many in a file without a name */
};

struct embeddings_order {
    const char *path, *ids_path; /* path: for messages */
    const struct document *documents;
    int32_t corpus, used; /* documents there are, and the first that are wanted */
    const char *folder;   /* as embeddings_read */
    const int32_t *place; /* [used] row of each document where rows stand in corpus order, rising; NULL: the first `used` */
};

/* The whole file in its own order, read a buffer at a time. folder: where values go that are more than memory should hold (spill.h). -1 leaves *out
 * freed. */
int embeddings_read(struct embeddings *out, const char *path, const char *folder, struct err *e);
/* Room for count rows that lie in the file at `path`, which keeps them (spill_named). */
int embeddings_named(struct embeddings *out, int32_t count, int32_t width, const char *path, struct err *e);
/* Brings rows into the order of the documents: by the ids in ids_path, or (NULL) as they stand: then there are as many rows as the corpus has
 * documents, of which the first o->used are kept. Every used document needs a row; rows of other ids are left out. */
int embeddings_order(struct embeddings *m, const struct embeddings_order *o, struct err *e);
void embeddings_free(struct embeddings *m); /* {0} is fine */

#endif
