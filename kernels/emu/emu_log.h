/* emu_log.h: what tests and `make cuda-cost` ask the emulated device: which launches there were, what they declared, what they touched. */
#ifndef SEMINDEX_EMU_LOG_H
#define SEMINDEX_EMU_LOG_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 none, 1 cost: declared bytes against touched ones, 2 full: races in device memory, too. At start: SEMINDEX_EMU_CHECK (cost, full). */
void emu_check(int level);

/* While on, launches, products, copies and zeroings are listed and not run, and writes to the device are dropped: memory stays untouched,
 * so shapes larger than this machine can be walked through. Turning it on empties the list. */
void emu_record_only(bool on);
struct emu_launch {
    const char *kernel; /* "platform_gemm", "platform_copy" and "platform_zero" are the platform's own */
    int64_t blocks;
    int32_t threads, phases; /* of LAUNCH_PHASES, else 1 */
    double bytes, operations; /* as declared */
};
/* The list so far; valid until the next launch. */
const struct emu_launch *emu_launches(int64_t *count);

/* What the last launch touched (level cost or full). */
struct emu_touched {
    const char *kernel;
    double bytes;          /* each byte read counts once, each byte written once */
    int64_t loads, stores; /* accesses in all */
};
struct emu_touched emu_last(void);

/* Kernels whose declared bytes lay more than 10 % + 4 KiB away from what a launch touched, each with its worst launch. Also listed on
 * standard error when the process ends, which then ends with status 1 instead of 0. */
struct emu_mismatch {
    const char *kernel;
    int64_t wrong; /* launches */
    double declared, touched; /* of the worst */
};
const struct emu_mismatch *emu_cost_mismatches(int64_t *count);
void emu_forget_mismatches(void);

#ifdef __cplusplus
}
#endif
#endif
