/* corpus_internal.h: what corpus.c and corpus_queries.c share: a file being read line by line, and its JSON objects. */
#ifndef SEMINDEX_CORPUS_INTERNAL_H
#define SEMINDEX_CORPUS_INTERNAL_H

#include "../base/file.h"
#include "corpus.h"

#include <cjson/cJSON.h>

struct corpus_file {
    const char *path;
    struct lines *lines;
};
/* "PATH: line N: what"; returns -1. */
int corpus_line_error(const struct corpus_file *f, struct err *e, const char *what);
/* The next line's object (the caller deletes it); NULL with *status 0 at the end, -1 with e. Blank lines are skipped. */
cJSON *corpus_next_object(struct corpus_file *f, int *status, struct err *e);
const char *corpus_string(const cJSON *object, const char *name); /* a string member, or NULL */

int corpus_read_queries(struct corpus *c, const char *folder, const struct run *run, struct err *e);

#endif
