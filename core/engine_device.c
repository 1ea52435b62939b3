/* engine_device.c: a FIFO of calls that live on their callers' stacks, served by one thread.
 *
 * A caller sleeps on its own condition, so the end of a call wakes only the one who waits for it. The lock is held for list work only. */
#include "engine_device.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct device_job {
    void (*work)(void *state);
    void *state;
    bool done;
    pthread_cond_t finished;
    struct device_job *next;
};

struct device {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct device_job *first, **last;
    bool closing;
    pthread_t thread;
};

static struct device_job *next_job(struct device *d)
{
    while (!d->first && !d->closing)
        pthread_cond_wait(&d->ready, &d->lock);
    struct device_job *job = d->first;
    if (job) {
        d->first = job->next;
        if (!d->first)
            d->last = &d->first;
    }
    return job;
}

static void *device_main(void *state)
{
    struct device *d = state;
    pthread_mutex_lock(&d->lock);
    for (struct device_job *job; (job = next_job(d));) {
        pthread_mutex_unlock(&d->lock);
        job->work(job->state);
        pthread_mutex_lock(&d->lock);
        job->done = true;
        pthread_cond_signal(&job->finished);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

struct device *device_open(struct err *e)
{
    struct device *d = xcalloc(1, sizeof *d);
    d->last = &d->first;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->ready, NULL);
    int failed = pthread_create(&d->thread, NULL, device_main, d);
    if (!failed)
        return d;
    err_set(e, ERR_OS, "no thread for the device: %s", strerror(failed));
    free(d);
    return NULL;
}

void device_close(struct device *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    CHECK(!d->first);
    d->closing = true;
    pthread_cond_signal(&d->ready);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->ready);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void device_call(struct device *d, void (*work)(void *state), void *state)
{
    struct device_job job = {.work = work, .state = state};
    pthread_cond_init(&job.finished, NULL);
    pthread_mutex_lock(&d->lock);
    CHECK(!d->closing);
    *d->last = &job;
    d->last = &job.next;
    pthread_cond_signal(&d->ready);
    while (!job.done)
        pthread_cond_wait(&job.finished, &d->lock);
    pthread_mutex_unlock(&d->lock);
    pthread_cond_destroy(&job.finished);
}
