/* runtime.cc: platform.h on this processor: device memory, copies, launches, recordings, faults, counts.
 *
 * Each allocation is a mapping of its own, zeroed by the system, touched where it is used, with a page beyond its end that is not its own,
 * so a shape larger than this machine's memory can be walked through as long as nothing runs (emu_record_only). SEMINDEX_EMU_MEMORY says
 * how many bytes the device has, SEMINDEX_EMU_FAULT=N lets the N-th launch fail as a lost device would: one line and exit code 70.
 *
 * A recording is a list of closures. Launches see the scratch block as large as their op asked for, so that leaving it is found; a
 * recording keeps that size, too. */
#include "inside.h"

#include <functional>
#include <memory>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

using emu::room;

struct recording {
    std::vector<std::function<void()>> work;
};
enum { PROCESSORS = 3 };
enum { RECORDED_LAUNCH = 2048 }; /* bytes that one counts for, as on the device */

struct landing {
    std::vector<char> under_way, there; /* what lands is seen by those who waited */
};

static const size_t PAGE = 4096, MEMORY = (size_t)64 << 30;

static struct {
    size_t memory, used;
    room *scratch;
    struct recording *recording;
    struct platform_counts totals;
    int64_t launches, fault; /* since open; the one that fails, 0 none */
    bool record_only;
    void (*handler)(const char *line);
} device;
static std::vector<struct emu_launch> noted;
static auto &graves = *new std::vector<room *>; /* of freed allocations: a recording may still point at them, and is told so */

/* ---- faults ---- */

void platform_on_fault(void (*handler)(const char *line))
{
    device.handler = handler;
}

void platform_fault(const char *what)
{
    char line[512];
    snprintf(line, sizeof line, "device cuda:0 (emulated): %s", what);
    fprintf(stderr, "semindex: %s\n", line);
    if (device.handler)
        device.handler(line);
    _exit(70);
}

/* ---- memory ---- */

static room *room_make(size_t bytes)
{
    const size_t mapped = (bytes + PAGE - 1) / PAGE * PAGE + PAGE;
    void *p = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return nullptr;
    room *r = new room{};
    r->base = (char *)p;
    r->bytes = bytes;
    r->mapped = mapped;
    emu::watch_room(r);
    return r;
}

static size_t number_in(const char *name, size_t otherwise)
{
    const char *said = getenv(name);
    return said && *said ? (size_t)strtoull(said, nullptr, 10) : otherwise;
}

int platform_open(int index, char *name, size_t name_size, char *message, size_t message_size)
{
    if (index != 0) {
        snprintf(message, message_size, "there is no device cuda:%d; the emulation has one, cuda:0", index);
        return -1;
    }
    if (!device.scratch) {
        emu::watch_open();
        device.scratch = room_make(PLATFORM_SCRATCH);
        CHECK(device.scratch);
    }
    device.memory = number_in("SEMINDEX_EMU_MEMORY", MEMORY);
    device.fault = (int64_t)number_in("SEMINDEX_EMU_FAULT", 0);
    device.launches = 0;
    snprintf(name, name_size, "emulated on this processor");
    return 0;
}

int platform_processors(void)
{
    return PROCESSORS;
}

size_t platform_memory(size_t *total)
{
    if (total)
        *total = device.memory;
    return device.memory > device.used ? device.memory - device.used : 0;
}

void *platform_alloc(size_t bytes)
{
    CHECK(!device.recording);
    if (bytes > platform_memory(nullptr))
        return nullptr;
    room *r = room_make(bytes);
    if (!r)
        return nullptr;
    device.used += bytes;
    return r->base;
}

void platform_free(void *memory)
{
    if (!memory)
        return;
    CHECK(!device.recording);
    room *r = emu::watch_forget(memory);
    device.used -= r->bytes;
    munmap(r->base, r->mapped);
    r->bytes = 0;
    graves.push_back(r);
}

void platform_write(void *to, const void *host, size_t bytes)
{
    CHECK(!device.recording);
    emu::watch_span(to, bytes, "platform_write");
    if (bytes > 0 && !device.record_only)
        memcpy(to, host, bytes);
}

void platform_read(void *host, const void *from, size_t bytes)
{
    CHECK(!device.recording);
    emu::watch_span(from, bytes, "platform_read");
    if (bytes > 0)
        memcpy(host, from, bytes);
}

void platform_wait(void)
{
}

struct landing *platform_landing_open(size_t bytes)
{
    struct landing *l = new struct landing;
    l->under_way.resize(bytes);
    l->there.resize(bytes);
    return l;
}

void platform_landing_close(struct landing *l)
{
    delete l;
}

void platform_land(struct landing *l, size_t at, const void *from, size_t bytes)
{
    CHECK(!device.recording && at <= l->under_way.size() && bytes <= l->under_way.size() - at);
    emu::watch_span(from, bytes, "platform_land");
    if (bytes > 0 && !device.record_only)
        memcpy(l->under_way.data() + at, from, bytes);
}

const void *platform_landed(struct landing *l)
{
    l->there = l->under_way;
    return l->there.data();
}

void *platform_scratch(size_t bytes)
{
    CHECK(bytes <= PLATFORM_SCRATCH);
    device.scratch->bytes = bytes;
    if (emu::now.check == 2 && !device.recording && !device.record_only)
        memset(device.scratch->base, 0xff, bytes); /* nothing outlives its op: floats are NaN, indices -1 */
    return device.scratch->base;
}

/* ---- what runs on the device: at once, or kept in a recording ---- */

template <class F> static void queue(F work)
{
    if (device.recording)
        device.recording->work.push_back(work);
    else
        work();
}

static void list(const char *kernel, emu::dims blocks, int threads, int phases, struct cost cost)
{
    noted.push_back({kernel, blocks.x * blocks.y * blocks.z, threads, phases, cost.bytes, cost.operations});
}

/* Counts a launch that is about to run; false when it is only listed. */
bool emu::note_launch(const char *kernel, dims blocks, int threads, int phases, struct cost cost)
{
    device.totals.launches++;
    device.totals.bytes += cost.bytes;
    device.totals.operations += cost.operations;
    if (++device.launches == device.fault) {
        char what[160];
        snprintf(what, sizeof what, "launch %lld fails, as SEMINDEX_EMU_FAULT wants (%.80s)", (long long)device.launches, kernel);
        platform_fault(what);
    }
    if (device.record_only)
        list(kernel, blocks, threads, phases, cost);
    return !device.record_only;
}

void platform_copy(void *to, const void *from, size_t bytes)
{
    if (bytes == 0)
        return;
    emu::watch_span(to, bytes, "platform_copy");
    emu::watch_span(from, bytes, "platform_copy");
    queue([=] {
        if (device.record_only)
            list("platform_copy", {1, 1, 1}, 0, 1, {2.0 * (double)bytes, 0.0});
        else
            memcpy(to, from, bytes);
    });
}

void platform_zero(void *memory, size_t bytes)
{
    if (bytes == 0)
        return;
    emu::watch_span(memory, bytes, "platform_zero");
    queue([=] {
        if (device.record_only)
            list("platform_zero", {1, 1, 1}, 0, 1, {(double)bytes, 0.0});
        else
            memset(memory, 0, bytes);
    });
}

static void check_shape(const emu::launch &l)
{
    const emu::dims b = l.blocks;
    if (l.threads <= 0 || l.threads > emu::THREADS_MOST || l.threads % emu::LANES != 0)
        emu::fail("launch of %s: %d threads a block", l.kernel, l.threads);
    if (l.phases < 1 || (l.phases > 1 && (b.x * b.y * b.z > PROCESSORS || l.threads > 256)))
        emu::fail("launch of %s: %d phases of %lld blocks of %d threads; blocks that wait for each other must all run at once", l.kernel, l.phases,
                  (long long)(b.x * b.y * b.z), l.threads);
    if (b.x < 1 || b.x > INT32_MAX || b.y < 1 || b.y > 65535 || b.z < 1 || b.z > 65535)
        emu::fail("launch of %s: a grid of %lld x %lld x %lld blocks", l.kernel, (long long)b.x, (long long)b.y, (long long)b.z);
}

static void run_launch(const emu::launch &l)
{
    if (!emu::note_launch(l.kernel, l.blocks, l.threads, l.phases, l.cost))
        return;
    const uint64_t bytes = device.scratch->bytes;
    device.scratch->bytes = l.scratch;
    emu::execute(l);
    device.scratch->bytes = bytes;
}

/* LAUNCH((name), ..) brings its brackets along. */
static const char *bare(const char *name)
{
    static auto &known = *new std::unordered_map<const char *, std::string>; /* outlives what is said at exit */
    auto at = known.find(name);
    if (name[0] != '(')
        return name;
    if (at == known.end())
        at = known.emplace(name, std::string(name + 1, strlen(name) - 2)).first;
    return at->second.c_str();
}

void emu::submit(launch l)
{
    l.kernel = bare(l.kernel);
    check_shape(l);
    l.scratch = device.scratch->bytes;
    if (!device.recording) {
        run_launch(l);
        return;
    }
    std::shared_ptr<void> kept(l.keep(l.args), l.drop);
    l.args = kept.get();
    device.recording->work.push_back([l, kept] { run_launch(l); });
}

void platform_gemm(const struct gemm *g)
{
    if (g->m == 0 || g->n == 0)
        return;
    const struct gemm copy = *g;
    queue([copy] { emu::product(&copy); });
}

/* ---- counts and recordings ---- */

void platform_totals(struct platform_counts *out, bool reset)
{
    *out = device.totals;
    if (reset)
        device.totals = {};
}

void emu_record_only(bool on)
{
    device.record_only = on;
    if (on)
        noted.clear();
}

const struct emu_launch *emu_launches(int64_t *count)
{
    *count = (int64_t)noted.size();
    return noted.data();
}

int platform_record_begin(void)
{
    CHECK(!device.recording);
    device.recording = new struct recording;
    return 0;
}

struct recording *platform_record_end(void)
{
    struct recording *r = device.recording;
    CHECK(r);
    device.recording = nullptr;
    return r;
}

void platform_replay(const struct recording *r)
{
    CHECK(!device.recording);
    for (const auto &work : r->work)
        work();
}

size_t platform_recording_bytes(const struct recording *r)
{
    return r->work.size() * RECORDED_LAUNCH;
}

void platform_record_free(struct recording *r)
{
    delete r;
}
