/* import.h: a Hugging Face T5 folder becomes a model bundle.
 *
 * Without codes: part "base", the start of learn-ids. With codes and ids: parts "search" and "ids": a generative retriever trained elsewhere,
 * whose last vocabulary rows are ID codes (formats: schema of bundle.h, code_layout and ids.tsv). */
#ifndef SEMINDEX_IMPORT_H
#define SEMINDEX_IMPORT_H

#include "../base/err.h"
#include "../base/run.h"
#include <stdbool.h>

struct import_options {
    const char *folder;      /* config.json, model.safetensors (or its index and files), spiece.model (without it: cannot be served) */
    const char *codes, *ids; /* both or neither: codes.json, ids.tsv */
    const char *out;         /* the bundle: whole when 0 is returned, else as it was */
    bool replace;            /* an existing bundle may be replaced */
};
int import_run(const struct import_options *o, const struct run *run, struct err *e);

#endif
