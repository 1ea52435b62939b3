/* sample.h: writes the demo's sample data: items.jsonl, sequences.txt, queries-train.jsonl + qrels-train.tsv, queries.jsonl + qrels.tsv. */
#ifndef SEMINDEX_SAMPLE_H
#define SEMINDEX_SAMPLE_H

#include "../base/err.h"
#include "../base/run.h"

/* Same seed, same bytes. The folder is made when absent; items.jsonl is written last. */
int sample_write(const char *folder, uint64_t seed, struct err *e);
/* The same, as a run of the command line (runs.h): notes the counts. */
int sample_run(const char *folder, uint64_t seed, const struct run *run, struct err *e);

#endif
