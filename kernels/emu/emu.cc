/* emu.cc: blocks, threads as fibres, and the meetings at which threads wait for each other.
 *
 * A fibre is a stack. A thread that has not begun has none: whoever stops takes the next such thread of its block onto a stack of its own,
 * and whoever ends onto the same one, so a kernel without meetings runs all its threads on one stack. Who runs next: lanes of the same warp
 * in a circle, then other warps, so that a shuffle is 32 switches among neighbours. When nobody can run and not all have ended, the threads
 * wait for each other in different places: that is the divergence a device would hang on, or worse, not hang on.
 *
 * A switch saves the registers that a call must keep, and nothing else; on other processors than x86-64 ucontext does it. Stacks are taken
 * afresh in each launch, since what a fibre leaves behind when it ends is never returned to. AddressSanitizer is told of each switch. */
#include "inside.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define NO_ASAN __attribute__((no_sanitize("address")))
#else
#define NO_ASAN
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu {

machine now;

#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
static const size_t STACK = 512 << 10;
#else
static const size_t STACK = 128 << 10;
#endif
static const size_t GUARD = 4096;

enum state : uint8_t { NEW, READY, RUNS, AT_WARP, AT_BLOCK, ENDED };
struct fibre {
    char *low; /* of its stack */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
};
struct waiting { /* where a thread waits */
    meeting kind;
    place at;
};
struct warp {
    int ready, arrived, ended; /* ready: new or ready lanes */
    unsigned turn;             /* meetings so far */
    waiting first;             /* what the first to arrive came for */
    uint64_t slots[2][LANES];
    const void *posts[LANES];
};

static struct {
    const launch *l;
    fibre main, fibres[THREADS_MOST];
    fibre *idle[THREADS_MOST], *of[THREADS_MOST]; /* idle ones; each thread's own */
    int idle_count, made;
    state states[THREADS_MOST];
    waiting waits[THREADS_MOST];
    warp warps[WARPS_MOST];
    int warp_count, arrived, ended; /* arrived: at the block's barrier */
    const void *main_low; /* the stack that launches are made from, as AddressSanitizer knows it */
    size_t main_size;
} block;

static const char *const meeting_names[] = {"sync_block",    "sync_warp",      "a shuffle",         "a vote",
                                            "a tile's load", "a tile's store", "a product of tiles"};

/* ---- switching ---- */

#if defined(__x86_64__)
extern "C" void emu_switch(void **save, void *to);
asm(".text\n"
    ".globl emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "movq %rsp, (%rdi)\n"
    "movq %rsi, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
    "ret\n"
    ".size emu_switch, .-emu_switch\n");
#endif

/* Leaves `from` for `to`; `last`: nobody will come back to `from`. Returns when somebody does. */
NO_ASAN static void jump(fibre *from, fibre *to, bool last)
{
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    const bool home = to == &block.main;
    __sanitizer_start_switch_fiber(last ? nullptr : &fake, home ? block.main_low : to->low, home ? block.main_size : STACK);
#else
    (void)last;
#endif
#if defined(__x86_64__)
    emu_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

extern "C" void emu_fibre(void);

/* Makes the fibre begin in emu_fibre. Tops of stacks lie in different lines of the cache. */
static void fibre_ready(fibre *f)
{
    char *top = f->low + STACK - (size_t)(f - block.fibres) % 61 * 64;
#if defined(__x86_64__)
    void **sp = (void **)top;
    *--sp = nullptr; /* a caller for emu_fibre, which never returns */
    *--sp = (void *)emu_fibre;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    f->sp = sp;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->low;
    f->context.uc_stack.ss_size = (size_t)(top - f->low);
    f->context.uc_link = nullptr;
    makecontext(&f->context, emu_fibre, 0);
#endif
}

static void fibre_make(fibre *f)
{
    char *all = (char *)mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED || mprotect(all, GUARD, PROT_NONE) != 0)
        die("no memory for the emulation's stacks");
    f->low = all + GUARD;
}

static fibre *fibre_take(void)
{
    fibre *f = block.idle_count > 0 ? block.idle[--block.idle_count] : &block.fibres[block.made];
    if (f == &block.fibres[block.made]) {
        fibre_make(f);
        block.made++;
    }
    fibre_ready(f);
    return f;
}

/* ---- who runs next ---- */

static int pick_in(int w, int after)
{
    for (int i = 1; i <= LANES; i++) {
        const int t = w * LANES + (after + i) % LANES;
        if (block.states[t] <= READY)
            return t;
    }
    return -1;
}

static int pick(int t)
{
    const int w = t / LANES;
    if (block.warps[w].ready > 0)
        return pick_in(w, t % LANES);
    for (int i = 1; i < block.warp_count; i++) {
        const int other = (w + i) % block.warp_count;
        if (block.warps[other].ready > 0)
            return pick_in(other, LANES - 1);
    }
    return -1;
}

static void enter(int t)
{
    block.states[t] = RUNS;
    block.warps[t / LANES].ready--;
    now.thread = t;
}

static int find_state(int from, int to, state s)
{
    int t = from;
    while (t < to && block.states[t] != s)
        t++;
    return t;
}

/* Nobody can run: in some warp a part waits for the rest of it, which waits for the whole block. */
[[noreturn]] static void fail_stuck(void)
{
    const int t = find_state(0, now.threads, AT_WARP), first = t / LANES * LANES;
    const int other = find_state(first, first + LANES, AT_BLOCK);
    const waiting *x = &block.waits[t], *y = &block.waits[other];
    now.thread = t;
    fail("divergent barrier: waits in %s (%s:%d) while thread %d waits in %s (%s:%d)", meeting_names[x->kind], x->at.file, x->at.line,
         other, meeting_names[y->kind], y->at.file, y->at.line);
}

/* The running thread has ended although others wait for it. */
[[noreturn]] static void fail_left(int first, int end, state s)
{
    const int ended = now.thread;
    now.thread = find_state(first, end, s);
    const waiting *x = &block.waits[now.thread];
    fail("divergent barrier: waits in %s (%s:%d) while thread %d has ended", meeting_names[x->kind], x->at.file, x->at.line, ended);
}

/* The running thread stops here until its meeting is complete. */
static void stop(state s, meeting kind, place at)
{
    const int t = now.thread, next = pick(t);
    block.states[t] = s;
    block.waits[t] = {kind, at};
    if (next < 0)
        fail_stuck();
    if (block.states[next] == NEW)
        block.of[next] = fibre_take();
    enter(next);
    jump(block.of[t], block.of[next], false);
}

/* The running thread has ended: who comes next on its stack, or -1 when this stack is left for good. */
static int finish(void)
{
    const int t = now.thread, w = t / LANES;
    block.states[t] = ENDED;
    block.ended++;
    block.warps[w].ended++;
    if (block.warps[w].arrived > 0)
        fail_left(w * LANES, w * LANES + LANES, AT_WARP);
    if (block.arrived > 0)
        fail_left(0, now.threads, AT_BLOCK);
    const int next = block.ended == now.threads ? -1 : pick(t);
    if (next < 0 && block.ended < now.threads)
        fail_stuck();
    if (next >= 0)
        enter(next);
    return next;
}

extern "C" NO_ASAN void emu_fibre(void)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &low, &size);
    if (block.main_low == nullptr) {
        block.main_low = low;
        block.main_size = size;
    }
#endif
    for (;;) {
        const int mine = now.thread;
        block.l->call(block.l->args);
        const int next = finish();
        fibre *own = block.of[mine];
        if (next >= 0 && block.of[next] == nullptr) {
            block.of[next] = own;
            continue;
        }
        block.idle[block.idle_count++] = own;
        jump(own, next < 0 ? &block.main : block.of[next], true);
    }
}

/* ---- meetings ---- */

uint64_t *meeting_slots()
{
    warp &w = block.warps[now.thread / LANES];
    return w.slots[w.turn % 2];
}

const void **meeting_posts()
{
    return block.warps[now.thread / LANES].posts;
}

[[noreturn]] static void fail_ended(int from, int to, meeting kind, place at)
{
    const int t = find_state(from, to, ENDED);
    fail("divergent barrier: arrives at %s (%s:%d), which thread %d can no longer reach: it has ended", meeting_names[kind], at.file,
         at.line, t);
}

/* All who meet must have come to the same line for the same thing. */
static void same_purpose(const waiting &first, meeting kind, place at)
{
    if (first.kind == kind && first.at.line == at.line)
        return;
    fail("divergent barrier: arrives at %s (%s:%d) while others wait in %s (%s:%d)", meeting_names[kind], at.file, at.line,
         meeting_names[first.kind], first.at.file, first.at.line);
}

void meet(meeting kind, place at, void (*act)())
{
    const int t = now.thread, first = t / LANES * LANES;
    warp &w = block.warps[t / LANES];
    if (w.ended > 0)
        fail_ended(first, first + LANES, kind, at);
    if (w.arrived == 0)
        w.first = {kind, at};
    same_purpose(w.first, kind, at);
    if (++w.arrived < LANES) {
        stop(AT_WARP, kind, at);
        return;
    }
    if (act)
        act();
    w.arrived = 0;
    w.turn++;
    memset(block.states + first, READY, LANES);
    block.states[t] = RUNS;
    w.ready = LANES - 1;
}

static void tick_warp()
{
    now.stamp += TICK;
    now.warp_since[now.thread / LANES] = now.stamp;
}

void sync_warp_at(place at)
{
    meet(SYNC_WARP, at, tick_warp);
}

void meet_block(place at)
{
    static waiting first;
    const int t = now.thread;
    if (block.ended > 0)
        fail_ended(0, now.threads, SYNC_BLOCK, at);
    if (block.arrived == 0)
        first = {SYNC_BLOCK, at};
    same_purpose(first, SYNC_BLOCK, at);
    if (++block.arrived < now.threads) {
        stop(AT_BLOCK, SYNC_BLOCK, at);
        return;
    }
    block.arrived = 0;
    now.stamp += TICK;
    now.since = now.stamp;
    memset(block.states, READY, (size_t)now.threads);
    block.states[t] = RUNS;
    for (int w = 0; w < block.warp_count; w++)
        block.warps[w].ready = w == t / LANES ? LANES - 1 : LANES;
}

uint32_t ballot(bool p, place at)
{
    uint64_t *slots = meeting_slots();
    uint32_t all = 0;
    slots[now.thread % LANES] = p;
    meet(VOTE, at);
    for (int i = 0; i < LANES; i++)
        all |= (uint32_t)slots[i] << i;
    return all;
}

/* ---- products of tiles ---- */

void wmma::multiply()
{
    const void *const *posts = meeting_posts();
    float a[16][16], b[16][16], c[16][16];
    for (int lane = 0; lane < LANES; lane++)
        for (int e = 0; e < 8; e++) {
            const tiles *x = (const tiles *)posts[lane];
            const int i = operand_index(lane, e), j = sum_index(lane, e);
            a[i / 16][i % 16] = widen(x->a[e]);
            b[i / 16][i % 16] = widen(x->b[e]);
            c[j / 16][j % 16] = x->c[e];
        }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < LANES; lane++)
        for (int e = 0; e < 8; e++) {
            const int j = sum_index(lane, e);
            ((const tiles *)posts[lane])->d[e] = c[j / 16][j % 16];
        }
}

/* ---- launches ---- */

static void run_block(void)
{
    memset(block.states, NEW, (size_t)now.threads);
    memset(block.of, 0, sizeof *block.of * (size_t)now.threads);
    block.ended = block.arrived = 0;
    now.stamp += TICK;
    now.begun = now.since = now.stamp;
    for (int w = 0; w < block.warp_count; w++) {
        block.warps[w].ready = LANES;
        block.warps[w].arrived = block.warps[w].ended = 0;
        now.warp_since[w] = now.stamp;
    }
    watch_block();
    block.of[0] = fibre_take();
    enter(0);
    jump(&block.main, block.of[0], false);
}

void execute(const launch &l)
{
    block.l = &l;
    block.main_low = nullptr;
    now.threads = l.threads;
    block.warp_count = l.threads / LANES;
    now.grid[0] = l.blocks.x;
    now.grid[1] = l.blocks.y;
    now.grid[2] = l.blocks.z;
    watch_launch(l);
    for (now.phase = 0; now.phase < l.phases; now.phase++) {
        watch_phase();
        for (now.block[2] = 0; now.block[2] < l.blocks.z; now.block[2]++)
            for (now.block[1] = 0; now.block[1] < l.blocks.y; now.block[1]++)
                for (now.block[0] = 0; now.block[0] < l.blocks.x; now.block[0]++)
                    run_block();
    }
    watch_end(l);
    block.l = nullptr;
}

} /* namespace emu */
