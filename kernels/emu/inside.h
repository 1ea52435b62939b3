/* inside.h: what the files of the emulation share: emu.cc runs a launch, watch.cc keeps shadows and findings, runtime.cc is the platform,
 * blas.cc its product. Kernels see emu.h alone; tests and the counting of costs see emu_log.h. */
#ifndef SEMINDEX_EMU_INSIDE_H
#define SEMINDEX_EMU_INSIDE_H

#include "../cuda/device.h"
#include "emu_log.h"

namespace emu {

/* emu.cc */
void execute(const launch &l);

/* watch.cc */
void watch_open(void); /* reads SEMINDEX_EMU_CHECK */
void watch_launch(const launch &l);
void watch_phase(void); /* what blocks did before lies behind a meeting of all */
void watch_block(void);
void watch_end(const launch &l);
void watch_room(room *r);         /* from now on known to find_room */
room *watch_forget(void *base);   /* the room that begins there, no longer known */
void watch_span(const void *p, size_t bytes, const char *call); /* all of it must lie in one room */

/* runtime.cc: counts and lists a launch; false when it is not to be run. */
bool note_launch(const char *kernel, dims blocks, int threads, int phases, struct cost cost);

/* blas.cc */
void product(const struct gemm *g);

} /* namespace emu */

#endif
