/* platform.h: what the kernels' host side needs of a device, and nothing else: memory, copies, one product, recordings, faults.
 *
 * Two implementations: kernels/cuda/runtime.cu + blas.cu (CUDA runtime, cuBLASLt) and kernels/emu/ (this processor, for tests and counting).
 * All work goes to one stream in the order of the calls; only platform_read, platform_wait and platform_landed wait for it. Everything below but
 * platform_landed is called by one thread at a time. After a fault on a running device nothing returns: the process says one line and ends (see platform_on_fault). */
#ifndef SEMINDEX_PLATFORM_H
#define SEMINDEX_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens device `index` (0 = the first). 0, or -1 with one clear line in message (no device, driver too old, device lost). `name` receives what a
 * person reads, such as "NVIDIA H200, 139 GiB". May be called again for the same device. */
int platform_open(int index, char *name, size_t name_size, char *message, size_t message_size);
/* Bytes free and in all on the device. */
size_t platform_memory(size_t *total);

/* How many blocks of up to 256 threads and 48 KiB of shared memory are sure to run at the same time: its processors. */
int platform_processors(void);

void *platform_alloc(size_t bytes); /* zeroed, 256-byte aligned; NULL when there is none */
void platform_free(void *memory);   /* NULL is fine */
void platform_write(void *device, const void *host, size_t bytes); /* the host memory may change once it returns */
void platform_read(void *host, const void *device, size_t bytes);  /* waits */
void platform_copy(void *to, const void *from, size_t bytes);      /* device to device, no overlap */
void platform_zero(void *device, size_t bytes);
void platform_wait(void);

/* Reads that nobody waits for: a landing is host memory that the device writes. platform_land begins to copy what `device` holds after the calls
 * so far; platform_landed waits for the last platform_land and returns the landing's memory. */
struct landing;
struct landing *platform_landing_open(size_t bytes); /* NULL when there is no memory */
void platform_landing_close(struct landing *l);      /* NULL is fine */
void platform_land(struct landing *l, size_t at, const void *device, size_t bytes);
const void *platform_landed(struct landing *l);

/* The one scratch block, made at open and never moved: an op takes what it needs from its start; nothing in it lives longer than an op.
 * The CHECK inside fails when `bytes` is more than PLATFORM_SCRATCH. */
enum { PLATFORM_SCRATCH = 64 << 20 };
void *platform_scratch(size_t bytes);

/* c [m, n] = alpha * op(a) op(b) (+ c when accumulate); row-major with leading dimensions in elements; op = transposed where ta / tb: a is [m, k]
 * or, ta, [k, m]; b is [k, n] or, tb, [n, k]. Operands a and b are `real`; c is f32 when c_f32, else `real`; sums are f32. relu: negative results
 * become 0 (with accumulate: after the sum). */
struct gemm {
    bool ta, tb;
    int64_t m, n, k;
    float alpha;
    const void *a, *b;
    int64_t lda, ldb;
    void *c;
    int64_t ldc;
    bool c_f32, accumulate, relu;
};
void platform_gemm(const struct gemm *g);

/* Recordings: between begin and end, calls (kernels, products, platform_copy, platform_zero) are put down instead of run; replay runs them on what
 * memory then holds. platform_write, platform_read, platform_alloc and platform_free are not allowed inside. */
struct recording;
int platform_record_begin(void);
struct recording *platform_record_end(void); /* NULL when the device refused */
void platform_replay(const struct recording *r);
void platform_record_free(struct recording *r);
size_t platform_recording_bytes(const struct recording *r); /* of device memory, about */

/* What happens before the process ends after a fault (exit code 70, EX_SOFTWARE): `handler` gets the one line. NULL = only standard error. */
void platform_on_fault(void (*handler)(const char *line));
void platform_fault(const char *what); /* reports and ends the process */

/* Bytes and operations that a launch must move and do: declared by every launcher beside its kernel. `bytes` counts each byte of device memory
 * that the launch reads or writes once (its footprint); a kernel that must read something again (a tile of keys for every tile of queries) adds
 * nothing, since the cache holds it; `operations` counts a multiplication and an addition as two. Checked by the emulation, summed by
 * `make cuda-cost`. */
struct cost {
    double bytes, operations;
};

/* Counters over all launches since the last reset: the emulation fills all of it, the device only `launches`. */
struct platform_counts {
    int64_t launches;
    double bytes, operations; /* as declared */
};
void platform_totals(struct platform_counts *out, bool reset);

#endif
