/* engine_fill.h: a new catalogue from the documents that a bundle carries. */
#ifndef SEMINDEX_ENGINE_FILL_H
#define SEMINDEX_ENGINE_FILL_H

#include "catalog/catalog.h"
#include "model/bundle.h"

/* Fills c from ids.tsv, documents.jsonl and popular.tsv of b (each may be absent). Suffixes below layout's last count are trained. Returns at once
 * when the catalogue has been filled before; goes on where a killed fill stopped. */
int engine_fill(struct catalog *c, const struct bundle *b, const struct id_table *ids, const struct code_layout *layout, const struct run *run,
                struct err *e);

#endif
