/* run.c: clocks and the reporting side of a long run. Every function takes a NULL run, so that library code never asks whether somebody
 * listens. A note is formatted here once; the listener gets a whole line and owns nothing. */
#include "run.h"
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ms(void)
{
    return nanoseconds(CLOCK_MONOTONIC) / 1000000;
}

double clock_s(void)
{
    return (double)nanoseconds(CLOCK_MONOTONIC) * 1e-9;
}

int64_t clock_unix_ms(void)
{
    return nanoseconds(CLOCK_REALTIME) / 1000000;
}

void run_report(const struct run *r, const char *phase, int64_t done, int64_t total, const char *unit, double loss)
{
    if (!r || !r->report)
        return;
    struct progress p = {.phase = phase, .done = done, .total = total, .unit = unit, .loss = loss};
    r->report(r->state, &p);
}

void run_note(const struct run *r, const char *format, ...)
{
    if (!r || !r->note)
        return;
    va_list args;
    va_start(args, format);
    char line[4096];
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->note(r->state, line);
}

void run_note_device(const struct run *r, const char *device, const char *why)
{
    run_note(r, "device: %s%s%s%s", device, *why ? " (" : "", why, *why ? ")" : "");
}

int run_stopping(const struct run *r)
{
    return r && r->stop && __atomic_load_n(r->stop, __ATOMIC_RELAXED); /* set by a signal handler or another thread */
}
