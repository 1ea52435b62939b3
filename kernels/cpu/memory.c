/* memory.c: backend memory of the cpu is host memory, 64-byte aligned and zeroed.
 *
 * Large blocks come straight from the system, which hands out zero pages lazily: a workspace sized for the worst batch costs only what is
 * touched. The header of 64 bytes before the block remembers how it was made. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu.h"

enum { HEADER = 64 };
static const size_t large = 1 << 20;

void *cpu_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t whole = (bytes + HEADER + 63) / 64 * 64;
    char *p;
    if (whole >= large) {
        p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        madvise(p, whole, MADV_HUGEPAGE);
    } else {
        p = aligned_alloc(64, whole);
        if (!p)
            return NULL;
        memset(p, 0, whole);
    }
    memcpy(p, &whole, sizeof whole);
    return p + HEADER;
}

void cpu_release(void *memory)
{
    if (!memory)
        return;
    char *p = (char *)memory - HEADER;
    size_t whole;
    memcpy(&whole, p, sizeof whole);
    if (whole >= large)
        munmap(p, whole);
    else
        free(p);
}

struct act *cpu_act_alloc(int64_t elements)
{
    return elements < 0 ? NULL : cpu_alloc((size_t)elements * sizeof(float));
}

struct act *cpu_act_at(const struct act *x, int64_t elements)
{
    return (struct act *)(act_data(x) + elements);
}

void cpu_upload(struct act *y, const float *host, int64_t n)
{
    memcpy(act_data(y), host, (size_t)n * sizeof(float));
}

void cpu_download(float *host, const struct act *x, int64_t n)
{
    memcpy(host, act_data(x), (size_t)n * sizeof(float));
}

void cpu_write(void *memory, const void *host, size_t bytes)
{
    if (bytes > 0)
        memcpy(memory, host, bytes);
}

void cpu_read(void *host, const void *memory, size_t bytes)
{
    if (bytes > 0)
        memcpy(host, memory, bytes);
}

struct fill {
    char *memory;
    size_t bytes;
};

static void zero_part(void *arg, int part, int parts)
{
    struct fill *f = arg;
    struct span s = pool_span((int64_t)f->bytes, 4096, part, parts);
    memset(f->memory + s.begin, 0, (size_t)(s.end - s.begin));
}

void cpu_zero(void *memory, size_t bytes)
{
    pool_run(zero_part, &(struct fill){memory, bytes}, parts_for((int64_t)bytes / 64, 8));
}

void cpu_act_zero(struct act *x, int64_t n)
{
    cpu_zero(act_data(x), (size_t)n * sizeof(float));
}
