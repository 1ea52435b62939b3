/* spill.h: arrays that may be larger than memory: small ones are ordinary memory, large ones a mapped file of ours.
 *
 * The file is made in the folder that is named, loses its name at once (nothing is left behind, however the run ends; nobody else can cut it short
 * under us) and its blocks are reserved before it is mapped, so a full disk is an error here and never a signal later. The kernel writes pages back
 * and takes them when memory is short; what stays in memory is what is being used. An array that a later run is to find again has a name. */
#ifndef SEMINDEX_SPILL_H
#define SEMINDEX_SPILL_H

#include "err.h"
#include <stddef.h>

struct spill {
    void *data;
    size_t bytes;
    int mapped;
};
#define SPILL_MEMORY ((size_t)256 << 20) /* up to so many bytes lie in ordinary memory */

/* Zeroed. folder must exist; NULL: TMPDIR, else /tmp. -1: the file cannot be made or the disk is full (path, bytes wanted). */
int spill_alloc(struct spill *s, size_t bytes, const char *folder, struct err *e);
/* The same with another bound, for tests. */
int spill_alloc_beyond(struct spill *s, size_t bytes, size_t memory, const char *folder, struct err *e);
/* The file at `path`, made or brought to this size; what it held stays, what is new is 0. */
int spill_named(struct spill *s, size_t bytes, const char *path, struct err *e);
int spill_sync(const struct spill *s, struct err *e); /* what was written to a mapped array is on disk */
void spill_free(struct spill *s);                     /* {0} is fine; a named file stays */

#endif
