/* run.h: what every long run shares: the clock, progress, and the wish to stop.
 *
 * A run reports through a callback (the command line draws a bar or plain lines; tests listen), and polls `stop` at points where its state
 * is on disk or can be put there. It then returns -1 with ERR_INTERRUPTED. */
#ifndef SEMINDEX_RUN_H
#define SEMINDEX_RUN_H

#include <signal.h>
#include <stdint.h>

int64_t clock_ms(void);     /* monotonic */
double clock_s(void);       /* monotonic */
int64_t clock_unix_ms(void);

struct progress {
    const char *phase;    /* "position 1: continuous" */
    int64_t done, total;  /* total 0 = unknown */
    const char *unit;     /* "steps", "documents" */
    double loss;          /* NaN if none */
};
struct run {
    void (*report)(void *state, const struct progress *p); /* may be NULL; called often, must be cheap */
    void (*note)(void *state, const char *line);            /* a line that stays: stage results, warnings; may be NULL */
    void *state;
    const volatile sig_atomic_t *stop; /* may be NULL */
};
void run_report(const struct run *r, const char *phase, int64_t done, int64_t total, const char *unit, double loss);
void run_note(const struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "device: NAME", with why behind it in brackets unless that is "". */
void run_note_device(const struct run *r, const char *device, const char *why);
int run_stopping(const struct run *r);

#endif
