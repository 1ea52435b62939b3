/* memory.cu: backend memory on the device, and the two doors through which f32 enters and leaves activations.
 *
 * Activations are `real`; only upload and download speak f32 about them, so that the host never sees bf16. Both convert in a host block of
 * fixed size, piece by piece: nothing is allocated, and the copies of a long tensor are still large. Everything else is the platform's. */
#include "cuda.h"

static const int64_t PIECE = 1 << 18; /* elements */
static real piece[1 << 18];

void *cuda_alloc(size_t bytes)
{
    return platform_alloc(bytes);
}

void cuda_release(void *memory)
{
    platform_free(memory);
}

struct act *cuda_act_alloc(int64_t elements)
{
    return elements < 0 ? NULL : (struct act *)platform_alloc((size_t)elements * sizeof(real));
}

struct act *cuda_act_at(const struct act *x, int64_t elements)
{
    return (struct act *)(act_data(x) + elements);
}

void cuda_upload(struct act *y, const float *host, int64_t n)
{
    for (int64_t from = 0; from < n; from += PIECE) {
        const int64_t count = n - from < PIECE ? n - from : PIECE;
        for (int64_t i = 0; i < count; i++)
            piece[i] = to_real_host(host[from + i]);
        platform_write(act_data(y) + from, piece, (size_t)count * sizeof(real));
    }
}

void cuda_download(float *host, const struct act *x, int64_t n)
{
    for (int64_t from = 0; from < n; from += PIECE) {
        const int64_t count = n - from < PIECE ? n - from : PIECE;
        platform_read(piece, act_data(x) + from, (size_t)count * sizeof(real));
        for (int64_t i = 0; i < count; i++)
            host[from + i] = to_float(piece[i]);
    }
}

void cuda_write(void *memory, const void *host, size_t bytes)
{
    if (bytes > 0)
        platform_write(memory, host, bytes);
}

void cuda_read(void *host, const void *memory, size_t bytes)
{
    if (bytes > 0)
        platform_read(host, memory, bytes);
}

void cuda_zero(void *memory, size_t bytes)
{
    if (bytes > 0)
        platform_zero(memory, bytes);
}

void cuda_act_zero(struct act *x, int64_t n)
{
    cuda_zero(x, n > 0 ? (size_t)n * sizeof(real) : 0);
}
