/* watch.cc: what the emulation knows of memory, and what it says when a kernel misuses it.
 *
 * Who touched a cell last, and when, is kept in two words, one of writing and one of reading: stamp | who. Only the last access need be
 * kept: one that is ordered before its successor by a barrier says nothing that the successor does not say, and unordered reads melt into
 * "several lanes of a warp", "several warps", "several blocks". An access is a race when the last write (or, for a write, the last read as
 * well) is not ordered before it. Blocks of one launch are ordered only through fences and atomics: who updates device memory sees what
 * earlier blocks had written before the fence that preceded an update of theirs.
 *
 * The footprint of a launch is kept in four bits a way for every four bytes of device memory, with the number of the launch they belong
 * to, so nothing is cleared between launches. All of this lies in memory that is mapped when it is first needed and touched where used. */
#include "inside.h"

#include <algorithm>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

namespace emu {

const launch *running;
const room nowhere = {};

/* What a block had done when one of its threads last updated device memory. */
struct release {
    uint64_t begun; /* of the block: ascending */
    uint64_t since, warp_since, stamp;
    int thread;
    bool done, several;
};

static auto &rooms = *new std::vector<room *>; /* by address; some, such as bucket tables, live until the process ends */
static std::vector<release> releases; /* of this launch's blocks; only at level full */
static struct {
    uint32_t number;   /* of the launch, 24 bits */
    uint64_t launched; /* stamp */
    bool acquired;     /* this block has updated device memory */
    int64_t bytes, loads, stores;
} seen;
static struct { /* the fences of the running block */
    uint64_t epoch; /* the barrier after which they were */
    int count;
    release mark; /* of the last one */
} fenced;
static struct emu_touched last;
static std::vector<emu_mismatch> mismatches;

/* ---- findings ---- */

static void say_place(char *line, size_t size)
{
    snprintf(line, size, "kernel %s, block (%d, %d, %d), thread %d: ", running->kernel, (int)now.block[0], (int)now.block[1],
             (int)now.block[2], now.thread);
}

void fail(const char *format, ...)
{
    char line[512] = "";
    va_list list;
    if (running)
        say_place(line, sizeof line);
    va_start(list, format);
    vsnprintf(line + strlen(line), sizeof line - strlen(line), format, list);
    va_end(list);
    fprintf(stderr, "semindex: emulation: %s\n", line);
    abort();
}

void fail_bounds(const array *a, int64_t i)
{
    fail("out of bounds: index %lld of shared array '%s' of %lld", (long long)i, a->name, (long long)a->count);
}

void fail_bounds(const room *home, const void *p, size_t unit)
{
    const int64_t offset = (int64_t)((uintptr_t)p - (uintptr_t)home->base);
    if (home == &nowhere)
        fail("out of bounds: address %p lies in no allocation of device memory", p);
    if (home->bytes == 0)
        fail("out of bounds: address %p lies in an allocation of no bytes, or one that was freed", p);
    fail("out of bounds: index %lld (%zu bytes each) of a device array of %llu bytes", (long long)(offset / (int64_t)unit), unit,
         (unsigned long long)home->bytes);
}

/* "thread 5" and the like, of the low bits of an access. */
static const char *say_who(uint64_t access, char *text, size_t size)
{
    const uint64_t who = access & WHO & ~ATOMIC;
    if (who < WHOLE_WARP)
        snprintf(text, size, "thread %d", (int)who);
    else if (who < MANY)
        snprintf(text, size, "warp %d", (int)(who - WHOLE_WARP));
    else
        snprintf(text, size, who == MANY ? "several warps" : "several blocks");
    return text;
}

/* ---- order ---- */

static int warp_of(uint64_t access)
{
    const uint64_t who = access & WHO & ~ATOMIC;
    return who < WHOLE_WARP ? (int)who / LANES : who < MANY ? (int)(who - WHOLE_WARP) : -1;
}

/* An access of this block before one by `who`, now. */
static bool ordered(uint64_t access, uint64_t who)
{
    if (access < now.since || ((access & WHO & ~ATOMIC) == who && who < WHOLE_WARP))
        return true;
    const int w = warp_of(access);
    return w >= 0 && w == warp_of(who) && access < now.warp_since[w];
}

/* One access for two that are not ordered. */
static uint64_t melt(uint64_t access, uint64_t who)
{
    const int w = warp_of(access);
    return now.stamp | (w >= 0 && w == warp_of(who) ? WHOLE_WARP + (uint64_t)w : (uint64_t)MANY);
}

[[noreturn]] static void fail_race(const array *a, int64_t i, const char *does, uint64_t access, const char *did)
{
    char who[32];
    fail("race: %s index %lld of shared array '%s', which %s %s with no barrier between", does, (long long)i, a->name,
         say_who(access, who, sizeof who), did);
}

static void must_be_written(const shade *s, const array *a, int64_t i)
{
    if (s->wrote < now.begun)
        fail("uninitialised: reads index %lld of shared array '%s', which this block has not written", (long long)i, a->name);
}

void shared_read_slow(shade *s, const array *a, int64_t i, uint64_t who)
{
    must_be_written(s, a, i);
    if (!ordered(s->wrote, who))
        fail_race(a, i, "reads", s->wrote, "wrote");
    s->read = ordered(s->read, who) ? now.stamp | who : melt(s->read, who);
}

void shared_write_slow(shade *s, const array *a, int64_t i, uint64_t who)
{
    if (!ordered(s->wrote, who))
        fail_race(a, i, "writes", s->wrote, "wrote");
    if (!ordered(s->read, who))
        fail_race(a, i, "writes", s->read, "read");
}

void shared_update(shade *s, const array *a, int64_t i)
{
    const uint64_t who = (uint64_t)now.thread;
    must_be_written(s, a, i);
    if (!ordered(s->read, who))
        fail_race(a, i, "updates", s->read, "read");
    if (ordered(s->wrote, who))
        s->wrote = now.stamp | who | ATOMIC;
    else if (s->wrote & ATOMIC)
        s->wrote = melt(s->wrote, who) | ATOMIC;
    else
        fail_race(a, i, "updates", s->wrote, "wrote");
}

/* ---- device memory ---- */

static const release *release_of(uint64_t access)
{
    auto after = std::upper_bound(releases.begin(), releases.end(), access, [](uint64_t x, const release &r) { return x < r.begun; });
    return &*(after - 1);
}

/* An access of an earlier block of this launch: did this block learn of it through an update? */
static bool released(uint64_t access)
{
    const uint64_t who = access & WHO;
    if (!seen.acquired || (access & ATOMIC))
        return seen.acquired;
    if (who == MANY_BLOCKS)
        return std::all_of(releases.begin(), releases.end(), [](const release &r) { return r.done; });
    const release *r = release_of(access);
    if (!r->done)
        return false;
    const bool own = (r->several || (int)who == r->thread) && access <= (r->stamp | WHO);
    return access < r->since || own || (warp_of(who) == r->thread / LANES && access < r->warp_since);
}

static bool device_ordered(uint64_t access, uint64_t who)
{
    if (access < seen.launched)
        return true;
    if (access < now.begun || (access & WHO & ~ATOMIC) == MANY_BLOCKS)
        return released(access);
    return ordered(access, who);
}

static uint64_t device_melt(uint64_t access, uint64_t who)
{
    if (access < now.begun || (access & WHO & ~ATOMIC) == MANY_BLOCKS)
        return now.stamp | (uint64_t)MANY_BLOCKS;
    return melt(access, who);
}

[[noreturn]] static void fail_device_race(const room *home, const void *p, size_t unit, const char *does, uint64_t access, const char *did)
{
    char who[32];
    const int64_t index = ((const char *)p - home->base) / (int64_t)unit;
    const bool other = access < now.begun;
    fail("race: %s index %lld (%zu bytes each) of a device array of %llu bytes, which %s%s %s with no barrier between", does,
         (long long)index, unit, (unsigned long long)home->bytes, say_who(access, who, sizeof who), other ? " of another block" : "", did);
}

static void device_access(shade *s, const room *home, const void *p, size_t unit, access how, uint64_t who)
{
    const bool write_ordered = device_ordered(s->wrote, who), read_ordered = device_ordered(s->read, who);
    if (!write_ordered && !(how == UPDATE && (s->wrote & ATOMIC)))
        fail_device_race(home, p, unit, how == READ ? "reads" : how == WRITE ? "writes" : "updates", s->wrote, "wrote");
    if (!read_ordered && how != READ)
        fail_device_race(home, p, unit, how == WRITE ? "writes" : "updates", s->read, "read");
    if (how == READ)
        s->read = read_ordered ? now.stamp | who : device_melt(s->read, who);
    else if (how == WRITE)
        s->wrote = now.stamp | who;
    else
        s->wrote = (write_ordered ? now.stamp | who : device_melt(s->wrote, who)) | ATOMIC;
}

static void *map(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        die("no memory for the emulation's shadows");
    return p;
}

static void device_races(room *home, const void *p, size_t size, access how, uint64_t who)
{
    const int power = size % 8 == 0 ? 3 : size % 4 == 0 ? 2 : size % 2 == 0 ? 1 : 0;
    const size_t unit = (size_t)1 << power;
    const uint64_t first = (uint64_t)((const char *)p - home->base) >> power;
    if (!home->shades[power])
        home->shades[power] = (shade *)map(home->mapped / unit * sizeof(shade));
    for (uint64_t i = 0; i < size / unit; i++)
        device_access(home->shades[power] + first + i, home, (const char *)p + i * unit, unit, how, who);
}

/* Bytes that this launch touches for the first time in this way. */
static int64_t print(room *home, uint64_t offset, size_t size, bool write)
{
    int64_t fresh = 0;
    if (!home->prints)
        home->prints = (uint32_t *)map(home->mapped + 4);
    for (uint64_t end = offset + size; offset < end;) {
        const uint32_t byte = (uint32_t)(offset % 4), n = (uint32_t)std::min<uint64_t>(4 - byte, end - offset);
        const uint32_t mask = ((1u << n) - 1) << byte << (write ? 4 : 0);
        uint32_t *v = &home->prints[offset / 4];
        if (*v >> 8 != seen.number)
            *v = seen.number << 8;
        fresh += __builtin_popcount(mask & ~*v);
        *v |= mask;
        offset += n;
    }
    return fresh;
}

/* What lies before it goes out with this thread's next update, or, if all threads of the block called it and met since, with anyone's. */
void fence()
{
    if (now.check < 2)
        return;
    if (fenced.epoch != now.since)
        fenced.count = 0;
    fenced.epoch = now.since;
    fenced.count++;
    fenced.mark = {now.begun, now.since, now.warp_since[now.thread / LANES], now.stamp, now.thread, true, false};
}

/* An update makes this block see those that updated before, and shows what it has written to those that update later. */
static void exchange_knowledge(void)
{
    release &r = releases.back();
    const bool all = fenced.count == now.threads && fenced.epoch >= now.begun && fenced.epoch < now.since;
    seen.acquired = true;
    if (!all && (fenced.mark.thread != now.thread || fenced.mark.begun != now.begun))
        return;
    const bool several = r.done && r.thread != now.thread && !all;
    r = fenced.mark;
    r.several = several;
    if (all)
        r.since = now.since;
}

void note_device(const room *in, const void *p, size_t size, access how, bool warp)
{
    room *home = const_cast<room *>(in);
    const uint64_t offset = (uint64_t)((const char *)p - home->base);
    if (how & READ) {
        seen.bytes += print(home, offset, size, false);
        seen.loads++;
    }
    if (how & WRITE) {
        seen.bytes += print(home, offset, size, true);
        seen.stores++;
    }
    if (now.check < 2)
        return;
    device_races(home, p, size, how, warp ? WHOLE_WARP + (uint64_t)now.thread / LANES : (uint64_t)now.thread);
    if (how == UPDATE)
        exchange_knowledge();
}

/* ---- the map ---- */

static bool before(const room *r, const void *p)
{
    return (uintptr_t)r->base + r->mapped <= (uintptr_t)p;
}

static const room *hit = &nowhere; /* the last one found */

const room *find_room(const void *p)
{
    if ((uintptr_t)p - (uintptr_t)hit->base < hit->mapped)
        return hit;
    auto at = std::lower_bound(rooms.begin(), rooms.end(), p, before);
    if (at == rooms.end() || (uintptr_t)(*at)->base > (uintptr_t)p)
        return &nowhere;
    hit = *at;
    return hit;
}

void watch_room(room *r)
{
    rooms.insert(std::lower_bound(rooms.begin(), rooms.end(), r->base, before), r);
}

room *watch_forget(void *base)
{
    auto at = std::lower_bound(rooms.begin(), rooms.end(), base, before);
    if (at == rooms.end() || (*at)->base != base)
        fail("platform_free of %p, which is no allocation", base);
    room *r = *at;
    rooms.erase(at);
    hit = &nowhere;
    if (r->prints)
        munmap(r->prints, r->mapped + 4);
    for (int i = 0; i < 4; i++)
        if (r->shades[i])
            munmap(r->shades[i], (r->mapped >> i) * sizeof(shade));
    return r;
}

void watch_span(const void *p, size_t bytes, const char *call)
{
    const room *r = find_room(p);
    const uint64_t offset = (uint64_t)((uintptr_t)p - (uintptr_t)r->base);
    if (bytes > 0 && (offset >= r->bytes || r->bytes - offset < bytes))
        fail("out of bounds: %s of %zu bytes from byte %llu on of a device array of %llu bytes", call, bytes, (unsigned long long)offset,
             (unsigned long long)r->bytes);
}

/* ---- launches and costs ---- */

void watch_launch(const launch &l)
{
    running = &l;
    seen.number = (seen.number + 1) & 0xffffff;
    if (seen.number == 0) { /* old prints would look like new ones */
        for (room *r : rooms)
            if (r->prints)
                madvise(r->prints, r->mapped + 4, MADV_DONTNEED);
        seen.number = 1;
    }
    seen.bytes = seen.loads = seen.stores = 0;
}

void watch_phase(void)
{
    now.stamp += TICK;
    seen.launched = now.stamp;
    releases.clear();
}

void watch_block(void)
{
    seen.acquired = false;
    if (now.check == 2)
        releases.push_back({now.begun, 0, 0, 0, -1, false, false});
}

static void compare(const launch &l)
{
    const double touched = (double)seen.bytes, apart = fabs(l.cost.bytes - touched);
    auto same = [&](const emu_mismatch &m) { return strcmp(m.kernel, l.kernel) == 0; };
    auto at = std::find_if(mismatches.begin(), mismatches.end(), same);
    if (apart <= 0.1 * touched + 4096)
        return;
    if (at == mismatches.end())
        at = mismatches.insert(mismatches.end(), {l.kernel, 0, 0, 0});
    at->wrong++;
    if (at->wrong == 1 || apart > fabs(at->declared - at->touched)) {
        at->declared = l.cost.bytes;
        at->touched = touched;
    }
}

void watch_end(const launch &l)
{
    running = nullptr;
    if (!now.check)
        return;
    last = {l.kernel, (double)seen.bytes, seen.loads, seen.stores};
    compare(l);
}

static void at_exit(int status, void *)
{
    if (!now.check || mismatches.empty())
        return;
    for (const emu_mismatch &m : mismatches)
        fprintf(stderr, "semindex: emulation: cost of kernel %s: %lld launches with a wrong one; the worst declares %.0f bytes, touches %.0f\n",
                m.kernel, (long long)m.wrong, m.declared, m.touched);
    fflush(NULL);
    if (status == 0)
        _Exit(1);
}

void watch_open(void)
{
    const char *level = getenv("SEMINDEX_EMU_CHECK");
    static bool hooked;
    if (!hooked)
        on_exit(at_exit, nullptr);
    hooked = true;
    if (level && *level)
        now.check = strcmp(level, "full") == 0 ? 2 : strcmp(level, "cost") == 0 ? 1 : 0;
}

} /* namespace emu */

void emu_check(int level)
{
    emu::now.check = level;
}

struct emu_touched emu_last(void)
{
    return emu::last;
}

const struct emu_mismatch *emu_cost_mismatches(int64_t *count)
{
    *count = (int64_t)emu::mismatches.size();
    return emu::mismatches.data();
}

void emu_forget_mismatches(void)
{
    emu::mismatches.clear();
}
