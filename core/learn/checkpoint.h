/* checkpoint.h: the state of a long run on disk, whole or refused.
 *
 * A checkpoint is one file of named sections of bytes, bound to a settings string ("name=value" lines) and closed by a SHA-256 over all
 * that stands before it. Saving writes a temporary file, fsyncs, keeps the checkpoint that was there as PATH.previous, renames and fsyncs
 * the folder: a kill at any moment leaves at least one whole checkpoint. Loading checks the whole file before it touches a caller's
 * buffer, so a run never goes on from half a state. Numbers are little-endian; a file moves between machines of the same byte order only.
 * */
#ifndef SEMINDEX_CHECKPOINT_H
#define SEMINDEX_CHECKPOINT_H

#include "../base/err.h"
#include "../base/run.h"
#include <stddef.h>
#include <stdint.h>

enum { CHECKPOINT_NAME = 64, CHECKPOINT_SECTIONS = 1024 };

/* Saving: `size` bytes at `data`. Loading: `data` NULL = memory is allocated for the section, size is set and the caller frees; else the
 * section must have exactly `size` bytes and is read to `data`. Names are shorter than CHECKPOINT_NAME and distinct. */
struct checkpoint_section {
    const char *name;
    void *data;
    size_t size;
};

/* Writes the checkpoint; the folder must exist. `settings` is what decides the run's numbers: one "name=value" a line. */
int checkpoint_save(const char *path, const char *settings, const struct checkpoint_section *sections, int count, struct err *e);

/* 1 = loaded, 0 = there is no checkpoint, -1 = error: damaged (cut, changed: ERR_DATA, naming file and what is wrong), of other settings
 * (ERR_CONFLICT, naming the first setting that differs with both values), another version, or lacking a section. A damaged checkpoint with
 * a whole PATH.previous is noted through `run` (may be NULL) and the previous one is loaded. */
int checkpoint_load(const char *path, const char *settings, struct checkpoint_section *sections, int count, const struct run *run,
                    struct err *e);

/* Removes the checkpoint and its previous one; absent is fine. */
void checkpoint_remove(const char *path);

#endif
