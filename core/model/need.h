/* need.h: device memory that a run will take, added up before anything is loaded, and compared with what is free.
 *
 * A device's memory is small and shared, and loading a model takes minutes: so a run reckons first, and is refused in one line that names
 * both figures. Backends whose memory is the machine's (memory_free is NULL) are never refused: pages that are not touched cost nothing there. */
#ifndef SEMINDEX_NEED_H
#define SEMINDEX_NEED_H

#include "t5.h"

struct need {
    const struct backend *be;
    size_t bytes;
};
/* A model's blocks and the backend's own form of its weights. */
void need_model(struct need *n, const struct t5_options *o);
void need_work(struct need *n, const struct t5_config *c, const struct t5_limits *l);
/* A beam search of so many rows, requests and positions. */
void need_beam(struct need *n, const struct t5_config *c, int32_t positions, int32_t requests, int64_t rows);
/* Tries of this many documents, the one that is searched and the one that replaces it. */
void need_tries(struct need *n, int32_t positions, int64_t documents);
/* 0, or -1 with ERR_UNAVAILABLE: "WHAT needs 12.3 GiB of memory on cuda:0, 8.0 GiB of 139.8 GiB are free". */
int need_check(const struct need *n, const char *what, struct err *e);

#endif
