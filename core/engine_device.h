/* engine_device.h: the one thread that speaks to the device, and the queue before it.
 *
 * A backend takes calls from one thread at a time, and oneDNN's OpenMP keeps a team of threads for every thread that calls it: so all
 * numeric work of an engine runs on one thread of its own, first come first served. Work is cut into batches of bounded size by the
 * callers; between two batches of an ingest every waiting search has its turn. */
#ifndef SEMINDEX_ENGINE_DEVICE_H
#define SEMINDEX_ENGINE_DEVICE_H

#include "base/err.h"

struct device;
struct device *device_open(struct err *e);
void device_close(struct device *d); /* no call may be waiting; NULL is fine */
/* Runs work(state) on the device thread and returns when it has ended. */
void device_call(struct device *d, void (*work)(void *state), void *state);

#endif
