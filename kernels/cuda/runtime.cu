/* runtime.cu: platform.h on the CUDA runtime: one device, one stream, its memory, recordings, faults.
 *
 * One non-blocking stream carries everything in the order of the calls, so ops need no synchronisation between them. Host memory that is
 * written goes through a ring of pinned pages cut into segments: a write is a copy into the ring and an asynchronous transfer, an event a
 * segment says when it may be used again, and so the caller's memory is free at once and nobody waits. Reads wait, as they must.
 *
 * The current device is a property of a thread in CUDA; every call sets it for threads it has not seen (`device_here`). Nothing is allocated
 * after open but what callers ask for.
 *
 * Any error after open is a fault: CUDA's errors are sticky, and work that was queued is lost, so the process says one line and ends with
 * exit code 70; whoever supervises it starts it again. Errors of open are no faults: they become one line that says what to do. */
#include "runtime.h"

#include <string.h>
#include <unistd.h>

static const size_t SEGMENT = 1 << 20, LANDING = 1 << 20;
enum { SEGMENTS = 8 };

static struct {
    int index;
    char name[96];
    cudaStream_t stream;
    char *scratch;
    char *ring; /* pinned, SEGMENTS x SEGMENT */
    cudaEvent_t left[SEGMENTS]; /* recorded when the writes of a segment were all queued */
    size_t at;                  /* in the ring */
    char *landing; /* pinned, where reads arrive */
    int processors;
    bool open, recording;
    struct platform_counts totals, before; /* before: when the recording began */
    void (*handler)(const char *line);
} device;

struct recording {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    struct platform_counts adds; /* what one replay counts */
    size_t bytes;
};
enum { RECORDED_LAUNCH = 2048 }; /* bytes of device memory that a recorded launch takes at least */

struct landing {
    char *memory; /* pinned */
    size_t bytes;
    cudaEvent_t there;
};

/* ---- faults ---- */

void platform_on_fault(void (*handler)(const char *line))
{
    device.handler = handler;
}

void platform_fault(const char *what)
{
    char line[512];
    snprintf(line, sizeof line, "device cuda:%d (%s): %s", device.index, device.name, what);
    fprintf(stderr, "semindex: %s\n", line);
    if (device.handler)
        device.handler(line);
    _exit(70);
}

/* A recording that CUDA gave up: something in it cannot be captured (a kernel that must first be loaded). No fault: its end says so. */
bool cuda_recording_broke(void)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (!device.recording || cudaStreamIsCapturing(device.stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusInvalidated)
        return false;
    cudaGetLastError();
    return true;
}

void cuda_must(cudaError_t status, const char *call)
{
    char what[384];
    if (status == cudaSuccess || cuda_recording_broke())
        return;
    snprintf(what, sizeof what, "%s: %s (%.120s)", cudaGetErrorName(status), cudaGetErrorString(status), call);
    platform_fault(what);
}

/* ---- open ---- */

/* What a person can do about an error of the first calls; %s lines end without a full stop. */
static const struct {
    cudaError_t error;
    const char *advice;
} advices[] = {
    {cudaErrorNoDevice, "no CUDA device: none is visible; see nvidia-smi and CUDA_VISIBLE_DEVICES"},
    {cudaErrorSystemDriverMismatch, "the NVIDIA driver's kernel module and its library have different versions: reboot after the driver update"},
    {cudaErrorSystemNotReady, "the system is not ready: is nvidia-fabricmanager running?"},
    {cudaErrorCompatNotSupportedOnDevice, "the CUDA compatibility package does not support this device: install a newer NVIDIA driver"},
    {cudaErrorDevicesUnavailable, "the device is in use by another process in exclusive mode, or was lost: see nvidia-smi"},
    {cudaErrorECCUncorrectable, "the device reports an uncorrectable memory error: see nvidia-smi -q -d ECC"},
    {cudaErrorOperatingSystem, "the operating system refused: may this user open /dev/nvidia*?"},
    {cudaErrorMemoryAllocation, "the device has no memory left for a context: see nvidia-smi for who uses it"},
};

static int refuse_driver(char *message, size_t size)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        snprintf(message, size, "no NVIDIA driver is installed (libcuda.so.1 is not found)");
    else
        snprintf(message, size, "the NVIDIA driver is too old: it speaks CUDA %d.%d, this program CUDA %d.%d; install a newer driver", driver / 1000,
                 driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    return -1;
}

static int refuse(cudaError_t error, const char *call, char *message, size_t size)
{
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver)
        return refuse_driver(message, size);
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (advices[i].error == error) {
            snprintf(message, size, "%s", advices[i].advice);
            return -1;
        }
    snprintf(message, size, "%s: %s (%s)", cudaGetErrorName(error), cudaGetErrorString(error), call);
    return -1;
}

/* In platform_open's steps: an error is a refusal. */
#define TRY(call)                                                          \
    do {                                                                   \
        const cudaError_t status_ = (call);                                \
        if (status_ != cudaSuccess)                                        \
            return refuse(status_, #call, message, message_size);          \
    } while (0)

static int find_device(int index, cudaDeviceProp *p, char *message, size_t message_size)
{
    int count = 0;
    TRY(cudaGetDeviceCount(&count));
    if (index < 0 || index >= count) {
        snprintf(message, message_size, "there is no device cuda:%d; this process sees %d, the first is cuda:0", index, count);
        return -1;
    }
    TRY(cudaGetDeviceProperties(p, index));
    if (p->major >= 8)
        return 0;
    snprintf(message, message_size, "cuda:%d is a %s of compute capability %d.%d; 8.0 or newer is needed (A100, H100, RTX 30)", index, p->name, p->major,
             p->minor);
    return -1;
}

static int make_rooms(char *message, size_t message_size)
{
    TRY(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking));
    TRY(cudaMalloc((void **)&device.scratch, PLATFORM_SCRATCH));
    TRY(cudaHostAlloc((void **)&device.ring, SEGMENTS * SEGMENT, cudaHostAllocDefault));
    TRY(cudaHostAlloc((void **)&device.landing, LANDING, cudaHostAllocDefault));
    for (int i = 0; i < SEGMENTS; i++) {
        TRY(cudaEventCreateWithFlags(&device.left[i], cudaEventDisableTiming));
        TRY(cudaEventRecord(device.left[i], device.stream));
    }
    TRY(cudaMemsetAsync(device.scratch, 0, PLATFORM_SCRATCH, device.stream));
    TRY(cudaStreamSynchronize(device.stream));
    return 0;
}

/* A process that could not open a device ends or goes on with the cpu: what a failed start leaves behind is freed with the context. */
int platform_open(int index, char *name, size_t name_size, char *message, size_t message_size)
{
    cudaDeviceProp p;
    if (device.open && device.index != index) {
        snprintf(message, message_size, "cuda:%d is open already; a process uses one device", device.index);
        return -1;
    }
    if (!device.open) {
        if (find_device(index, &p, message, message_size) != 0)
            return -1;
        TRY(cudaSetDevice(index));
        snprintf(device.name, sizeof device.name, "%.60s, %d GiB", p.name, (int)((p.totalGlobalMem + (1u << 29)) >> 30));
        if (make_rooms(message, message_size) != 0 || blas_open(message, message_size) != 0) {
            cudaDeviceReset();
            return -1;
        }
        device.index = index;
        device.processors = p.multiProcessorCount;
        device.open = true;
    }
    snprintf(name, name_size, "%s", device.name);
    return 0;
}

/* The device's stream; sets the device for a thread that comes for the first time. */
cudaStream_t platform_stream(void)
{
    static thread_local bool known;
    if (!known)
        RUN(cudaSetDevice(device.index));
    known = true;
    return device.stream;
}

/* ---- memory ---- */

int platform_processors(void)
{
    return device.processors;
}

size_t platform_memory(size_t *total)
{
    size_t free_bytes = 0, all = 0;
    platform_stream();
    RUN(cudaMemGetInfo(&free_bytes, &all));
    if (total)
        *total = all;
    return free_bytes;
}

void *platform_alloc(size_t bytes)
{
    void *memory = NULL;
    cudaStream_t stream = platform_stream();
    CHECK(!device.recording);
    const cudaError_t status = cudaMalloc(&memory, bytes ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* the one error that is an answer */
        return NULL;
    }
    cuda_must(status, "cudaMalloc");
    RUN(cudaMemsetAsync(memory, 0, bytes, stream));
    return memory;
}

void platform_free(void *memory)
{
    if (!memory)
        return;
    CHECK(!device.recording);
    RUN(cudaStreamSynchronize(platform_stream())); /* the stream may still use it */
    RUN(cudaFree(memory));
}

/* Room in the ring for at most `bytes`; *got says how much. A segment that is entered again has been read by the device. */
static char *ring_take(size_t bytes, size_t *got)
{
    size_t left = SEGMENT - device.at % SEGMENT;
    char *room = device.ring + device.at;
    if (left == SEGMENT)
        RUN(cudaEventSynchronize(device.left[device.at / SEGMENT]));
    *got = bytes < left ? bytes : left;
    return room;
}

/* Moves past what was taken, to the next multiple of 16. */
static void ring_pass(size_t got)
{
    const size_t segment = device.at / SEGMENT;
    device.at += (got + 15) / 16 * 16;
    if (device.at / SEGMENT == segment)
        return;
    RUN(cudaEventRecord(device.left[segment], device.stream));
    if (device.at == SEGMENTS * SEGMENT)
        device.at = 0;
}

void platform_write(void *to, const void *host, size_t bytes)
{
    cudaStream_t stream = platform_stream();
    CHECK(!device.recording);
    for (size_t done = 0, got; done < bytes; done += got) {
        char *room = ring_take(bytes - done, &got);
        memcpy(room, (const char *)host + done, got);
        RUN(cudaMemcpyAsync((char *)to + done, room, got, cudaMemcpyHostToDevice, stream));
        ring_pass(got);
    }
}

void platform_read(void *host, const void *from, size_t bytes)
{
    cudaStream_t stream = platform_stream();
    CHECK(!device.recording);
    for (size_t done = 0, part; done < bytes; done += part) {
        part = bytes - done < LANDING ? bytes - done : LANDING;
        RUN(cudaMemcpyAsync(device.landing, (const char *)from + done, part, cudaMemcpyDeviceToHost, stream));
        RUN(cudaStreamSynchronize(stream));
        memcpy((char *)host + done, device.landing, part);
    }
}

struct landing *platform_landing_open(size_t bytes)
{
    struct landing *l = (struct landing *)calloc(1, sizeof *l);
    CHECK(l && !device.recording);
    platform_stream();
    l->bytes = bytes;
    RUN(cudaEventCreateWithFlags(&l->there, cudaEventDisableTiming | cudaEventBlockingSync));
    const cudaError_t status = cudaHostAlloc((void **)&l->memory, bytes ? bytes : 1, cudaHostAllocDefault);
    if (status == cudaSuccess)
        return l;
    cudaGetLastError(); /* an answer, as in platform_alloc */
    platform_landing_close(l);
    return NULL;
}

void platform_landing_close(struct landing *l)
{
    if (!l)
        return;
    CHECK(!device.recording);
    if (l->memory) {
        RUN(cudaStreamSynchronize(platform_stream())); /* something may still be on its way here */
        RUN(cudaFreeHost(l->memory));
    }
    RUN(cudaEventDestroy(l->there));
    free(l);
}

void platform_land(struct landing *l, size_t at, const void *from, size_t bytes)
{
    cudaStream_t stream = platform_stream();
    CHECK(!device.recording && at <= l->bytes && bytes <= l->bytes - at);
    if (bytes > 0)
        RUN(cudaMemcpyAsync(l->memory + at, from, bytes, cudaMemcpyDeviceToHost, stream));
    RUN(cudaEventRecord(l->there, stream));
}

const void *platform_landed(struct landing *l)
{
    platform_stream(); /* this thread's device */
    RUN(cudaEventSynchronize(l->there));
    return l->memory;
}

void platform_copy(void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        RUN(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, platform_stream()));
}

void platform_zero(void *memory, size_t bytes)
{
    if (bytes > 0)
        RUN(cudaMemsetAsync(memory, 0, bytes, platform_stream()));
}

void platform_wait(void)
{
    RUN(cudaStreamSynchronize(platform_stream()));
}

void *platform_scratch(size_t bytes)
{
    CHECK(bytes <= PLATFORM_SCRATCH);
    return device.scratch;
}

/* ---- launches ---- */

void launch_note(const char *kernel, struct cost cost)
{
    const cudaError_t status = cudaPeekAtLastError();
    if (status != cudaSuccess)
        cuda_must(status, kernel);
    device.totals.launches++;
    device.totals.bytes += cost.bytes;
    device.totals.operations += cost.operations;
}

void platform_totals(struct platform_counts *out, bool reset)
{
    *out = device.totals;
    if (reset)
        device.totals = (struct platform_counts){};
}

/* ---- recordings ---- */

static struct platform_counts totals_less(struct platform_counts a, struct platform_counts b)
{
    return {a.launches - b.launches, a.bytes - b.bytes, a.operations - b.operations};
}

/* Thread-local mode: other threads of the program may go on calling CUDA. */
int platform_record_begin(void)
{
    CHECK(!device.recording);
    if (cudaStreamBeginCapture(platform_stream(), cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError();
        return -1;
    }
    device.recording = true;
    device.before = device.totals;
    return 0;
}

/* The driver takes its memory in large pieces, so the fall of what is free is seen at some recordings and not at others. */
static size_t recorded_bytes(const struct recording *r, size_t free_before)
{
    const size_t least = (size_t)r->adds.launches * RECORDED_LAUNCH, free_now = platform_memory(NULL);
    const size_t taken = free_before > free_now ? free_before - free_now : 0;
    return taken > least ? taken : least;
}

struct recording *platform_record_end(void)
{
    struct recording *r = (struct recording *)calloc(1, sizeof *r);
    CHECK(device.recording && r);
    device.recording = false;
    r->adds = totals_less(device.totals, device.before);
    device.totals = device.before; /* put down is not run */
    if (cudaStreamEndCapture(platform_stream(), &r->graph) == cudaSuccess) {
        const size_t before = platform_memory(NULL);
        if (cudaGraphInstantiate(&r->exec, r->graph, 0) == cudaSuccess && cudaGraphUpload(r->exec, platform_stream()) == cudaSuccess) {
            r->bytes = recorded_bytes(r, before);
            return r;
        }
    }
    cudaGetLastError();
    platform_record_free(r);
    return NULL;
}

void platform_replay(const struct recording *r)
{
    RUN(cudaGraphLaunch(r->exec, platform_stream()));
    device.totals.launches += r->adds.launches;
    device.totals.bytes += r->adds.bytes;
    device.totals.operations += r->adds.operations;
}

size_t platform_recording_bytes(const struct recording *r)
{
    return r->bytes;
}

void platform_record_free(struct recording *r)
{
    if (!r)
        return;
    if (r->exec) {
        RUN(cudaStreamSynchronize(platform_stream())); /* a replay may be under way */
        RUN(cudaGraphExecDestroy(r->exec));
    }
    if (r->graph)
        RUN(cudaGraphDestroy(r->graph));
    free(r);
}
