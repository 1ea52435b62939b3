/* pool.c: persistent threads with a short spin before they sleep.
 *
 * A decode step is some hundred small jobs a few microseconds apart: a sleeping thread would cost more than the job. So a worker spins for
 * a bounded number of pauses on the job number and only then sleeps on a condition; the submitter does the same for the end of the job.
 * Invariant: job fields are written only while no worker is between its wake-up and its last decrement of `pending`; the store to `number`
 * publishes them, the decrement of `pending` publishes the workers' results. `sleepers` and `number` are read and written in one total
 * order (seq_cst), so a worker that goes to sleep either sees the new number or is seen by the submitter. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "check.h"

enum { SPINS = 3000, THREADS_MAX = 256 };

static struct {
    int threads;
    void (*work)(void *arg, int part, int parts);
    void *arg;
    int parts;
    _Atomic unsigned number;
    _Atomic int pending, sleepers;
    _Atomic bool submitter_sleeps;
    pthread_mutex_t lock;
    pthread_cond_t start, finish;
} pool = {.threads = 0, .lock = PTHREAD_MUTEX_INITIALIZER, .start = PTHREAD_COND_INITIALIZER, .finish = PTHREAD_COND_INITIALIZER};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

static unsigned wait_for_job(unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&pool.number, memory_order_acquire);
        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.number) == seen)
        pthread_cond_wait(&pool.start, &pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
    return atomic_load(&pool.number);
}

static void report_done(void)
{
    if (atomic_fetch_sub(&pool.pending, 1) != 1 || !atomic_load(&pool.submitter_sleeps))
        return;
    pthread_mutex_lock(&pool.lock);
    pthread_cond_signal(&pool.finish);
    pthread_mutex_unlock(&pool.lock);
}

static void *worker(void *arg)
{
    int me = (int)(intptr_t)arg;
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_job(seen);
        if (me < pool.parts)
            pool.work(pool.arg, me, pool.parts);
        report_done();
    }
    return NULL;
}

static void wait_for_workers(void)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool.pending, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.submitter_sleeps, true);
    while (atomic_load(&pool.pending) > 0)
        pthread_cond_wait(&pool.finish, &pool.lock);
    atomic_store(&pool.submitter_sleeps, false);
    pthread_mutex_unlock(&pool.lock);
}

static int processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set);
}

int pool_open(int threads)
{
    if (pool.threads > 0)
        return pool.threads;
    if (threads <= 0)
        threads = processors();
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int made = 1;
    for (pthread_t thread; made < threads; made++)
        if (pthread_create(&thread, &attributes, worker, (void *)(intptr_t)made) != 0)
            break;
    pthread_attr_destroy(&attributes);
    pool.threads = made;
    return made == threads ? made : -1;
}

int pool_threads(void)
{
    return pool.threads;
}

void pool_run(void (*work)(void *arg, int part, int parts), void *arg, int parts)
{
    CHECK(parts <= pool.threads || parts == 1);
    if (parts <= 1) {
        work(arg, 0, 1);
        return;
    }
    pool.work = work;
    pool.arg = arg;
    pool.parts = parts;
    atomic_store_explicit(&pool.pending, pool.threads - 1, memory_order_relaxed);
    atomic_fetch_add(&pool.number, 1);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.start);
        pthread_mutex_unlock(&pool.lock);
    }
    work(arg, 0, parts);
    wait_for_workers();
}
