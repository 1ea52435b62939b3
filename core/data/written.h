/* written.h: queries that somebody or something wrote for documents: what `semindex queries` makes, or a user's own file.
 *
 * JSON lines, plain or gzip: {"_id" or "id": document id, "query" or "text": the query}; other members are left. */
#ifndef SEMINDEX_WRITTEN_H
#define SEMINDEX_WRITTEN_H

#include "corpus.h"

struct written_query {
    int32_t document; /* number in the corpus */
    char *text;
};
struct written {
    struct written_query *query; /* in the files' order */
    int32_t count;
    int64_t unknown; /* lines whose document the corpus lacks: left out */
    uint64_t digest; /* over documents and texts */
    struct arena strings;
};

/* files: paths with commas between. A line that is no such object is an error that names file and line; unknown documents are counted and noted;
 * files without one query for a document of the corpus are an error. -1 leaves *w freed. */
int written_read(struct written *w, const char *files, const struct corpus *c, const struct run *run, struct err *e);
/* Appends one such line: {"_id","sample","query"} and a newline. */
void written_line(struct str *out, const char *document, int32_t sample, const char *text);
void written_free(struct written *w); /* {0} is fine */

#endif
