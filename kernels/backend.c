/* backend.c: finds a backend by name, and holds the one formula that host and devices share.
 *
 * The table is the program: a new backend is one line here. "auto" takes the first that opens. A backend's open function returns NULL with
 * a reason when the machine lacks what it needs; that is not an error of ours, so it travels as a message. */
#include "backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu/cpu.h"

#ifdef SEMINDEX_EMU
const struct backend *cuda_backend_open(int index, char *message, size_t message_size);
static const struct backend *open_cuda(int threads, char *message, size_t message_size)
{
    (void)threads;
    return cuda_backend_open(0, message, message_size);
}
#endif

static const struct {
    const char *name;
    const struct backend *(*open)(int threads, char *message, size_t message_size);
} backends[] = {
    {"cpu", cpu_open},
#ifdef SEMINDEX_EMU
    {"cuda", open_cuda},
#endif
};

const struct backend *backend_open(const char *name, int threads, char *message, size_t message_size)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (strcmp(name, "auto") != 0 && strcmp(name, backends[i].name) != 0)
            continue;
        const struct backend *found = backends[i].open(threads, message, message_size);
        if (found)
            return found;
        if (strcmp(name, "auto") != 0)
            return NULL;
    }
    snprintf(message, message_size, "backend: \"%s\" is unknown; there is: cpu, auto", name);
    return NULL;
}

/* Small distances have a bucket each; from half the buckets on they grow with the logarithm, in single precision as the original does,
 * since which side of a boundary a distance falls on is part of the model. */
int32_t attention_bucket(int32_t distance, bool bidirectional, int32_t buckets, int32_t max_distance)
{
    int32_t base = 0;
    if (bidirectional) {
        buckets /= 2;
        base = distance > 0 ? buckets : 0;
        distance = distance < 0 ? -distance : distance;
    } else {
        distance = distance < 0 ? -distance : 0;
    }
    int32_t exact = buckets / 2;
    if (distance < exact)
        return base + distance;
    float share = logf((float)distance / (float)exact) / (float)log((double)max_distance / exact);
    int32_t large = exact + (int32_t)(share * (float)(buckets - exact));
    return base + (large < buckets - 1 ? large : buckets - 1);
}
