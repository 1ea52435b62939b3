/* pool.h: the one thread pool of the program's numeric code.
 *
 * Threads are made once and live as long as the process. A job is a function called once per part with its part number; part i always runs
 * on thread i and part 0 on the caller, so that a division of work depends on the shape and the thread count only, never on timing: same
 * thread count, same bits. One thread submits at a time (rule of backend.h). */
#ifndef SEMINDEX_POOL_H
#define SEMINDEX_POOL_H

#include <stdint.h>

/* Starts the pool; threads 0 = all processors this process may run on. The first call decides; returns the number of threads, or -1 when a
 * thread cannot be made. */
int pool_open(int threads);
int pool_threads(void);

/* Calls work(arg, part, parts) for part = 0..parts-1, parts <= pool_threads(), and returns when all have returned. */
void pool_run(void (*work)(void *arg, int part, int parts), void *arg, int parts);

/* The part-th of `parts` nearly equal pieces of 0..n-1, cut at multiples of `grain`. */
struct span {
    int64_t begin, end;
};
static inline struct span pool_span(int64_t n, int64_t grain, int part, int parts)
{
    int64_t blocks = (n + grain - 1) / grain, begin = blocks * part / parts * grain, end = blocks * (part + 1) / parts * grain;
    return (struct span){begin < n ? begin : n, end < n ? end : n};
}

#endif
