/* cli_progress.c: how a long run looks to a person, and how it is asked to stop.
 *
 * On a terminal one line is redrawn at most ten times a second: phase, bar, share, rate, time left, loss. In a log a plain line appears
 * every five seconds and at the end of each phase. Rate and time left come from the present phase alone. Notes (stage results, warnings)
 * are lines that stay.
 *
 * No signal handler runs: INT and TERM are blocked everywhere and a thread of their own waits for them, sets a flag that the run polls, and
 * leaves the second one to end the process. A handler would be wrong here: oneDNN's sgemm keeps data in the stack pointer while it computes, so
 * a handler's frame would be written over the heap. */
#include "cli.h"
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24 };
static volatile sig_atomic_t stop_wanted;
static struct {
    struct run run;
    pthread_mutex_t lock;
    bool terminal, quiet, drawn;
    char phase[128];
    double began_s, shown_s;
    int64_t first; /* done when the phase was first seen: a resumed run does not count it */
} view = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *wait_for_signal(void *signals)
{
    int sig;
    static const char text[] = "\nstopping at the next safe point; once more ends at once\n";
    if (sigwait(signals, &sig) != 0)
        return NULL;
    __atomic_store_n(&stop_wanted, 1, __ATOMIC_RELAXED);
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    pthread_sigmask(SIG_UNBLOCK, signals, NULL); /* this thread alone: the default action of the next one ends the process */
    for (;;)
        pause();
}

/* Before any other thread is made, so that all of them inherit the mask. Without the thread a signal ends the process at once. */
static void take_signals(void)
{
    static sigset_t signals;
    static bool taken;
    pthread_t thread;
    if (taken)
        return;
    taken = true;
    signal(SIGINT, SIG_DFL); /* a shell starts background jobs with INT ignored */
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (pthread_create(&thread, NULL, wait_for_signal, &signals) != 0)
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    else
        pthread_detach(thread);
}

static void format_time(char out[32], double s)
{
    long t = s < 0 || s > 1e7 ? -1 : (long)(s + 0.5);
    if (t < 0)
        snprintf(out, 32, "-");
    else if (t >= 3600)
        snprintf(out, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, 32, "%ld:%02ld", t / 60, t % 60);
}

static void draw_bar(const struct progress *p)
{
    int filled = p->total > 0 ? (int)(BAR * (p->done < p->total ? p->done : p->total) / p->total) : 0;
    if (p->total <= 0)
        return;
    fputs(" [", stderr);
    for (int i = 0; i < BAR; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %3d%%", (int)(100.0 * (double)p->done / (double)p->total));
}

static void draw(const struct progress *p, double now)
{
    double spent = now - view.began_s, rate = spent > 0 ? (double)(p->done - view.first) / spent : 0;
    char left[32];
    fprintf(stderr, "%s%s:", view.terminal ? "\r\033[K" : "", p->phase);
    if (view.terminal)
        draw_bar(p);
    if (p->total > 0)
        fprintf(stderr, " %lld/%lld %s", (long long)p->done, (long long)p->total, p->unit);
    else
        fprintf(stderr, " %lld %s", (long long)p->done, p->unit);
    if (rate > 0)
        fprintf(stderr, ", %.*f/s", rate < 10 ? 2 : 0, rate);
    if (rate > 0 && p->total > p->done) {
        format_time(left, (double)(p->total - p->done) / rate);
        fprintf(stderr, ", %s left", left);
    }
    if (isfinite(p->loss))
        fprintf(stderr, ", loss %.4f", p->loss);
    fputs(view.terminal ? "" : "\n", stderr);
    fflush(stderr);
    view.drawn = view.terminal;
    view.shown_s = now;
}

static void report(void *state, const struct progress *p)
{
    (void)state;
    double now = clock_s();
    pthread_mutex_lock(&view.lock);
    if (strcmp(view.phase, p->phase)) {
        if (view.drawn)
            fputc('\n', stderr);
        view.drawn = false;
        snprintf(view.phase, sizeof view.phase, "%s", p->phase);
        view.began_s = now;
        view.shown_s = view.terminal ? 0 : now;
        view.first = p->done;
    }
    bool last = p->total > 0 && p->done >= p->total;
    if (now - view.shown_s >= (view.terminal ? 0.1 : 5.0) || (last && view.first < p->total))
        draw(p, now);
    if (last)
        view.first = p->total; /* said once */
    pthread_mutex_unlock(&view.lock);
}

static void note(void *state, const char *line)
{
    (void)state;
    pthread_mutex_lock(&view.lock);
    fprintf(stderr, "%s%s\n", view.drawn ? "\r\033[K" : "", line);
    view.drawn = false;
    pthread_mutex_unlock(&view.lock);
}

const struct run *cli_progress_begin(const struct options *o)
{
    take_signals();
    view.quiet = option_flag(o, OPT_QUIET);
    view.terminal = isatty(STDERR_FILENO);
    view.phase[0] = 0;
    view.run = (struct run){.report = view.quiet ? NULL : report, .note = view.quiet ? NULL : note, .stop = &stop_wanted};
    return &view.run;
}

void cli_progress_end(void)
{
    pthread_mutex_lock(&view.lock);
    if (view.drawn)
        fputc('\n', stderr);
    view.drawn = false;
    pthread_mutex_unlock(&view.lock);
}
