/* emu_cases.h: the kernels of emu_cases.cu, as test_emu.c sees them: sound ones that report what they computed, and seeded defects, each
 * with a sound twin. */
#ifndef SEMINDEX_EMU_CASES_H
#define SEMINDEX_EMU_CASES_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel of the emulation's dialect with one mistake in it when `wrong`. The process does not survive the mistake, unless `finding` is
 * NULL: then it is a wrong cost, which is asked for afterwards. level: of checking (emu_check). */
struct emu_case {
    const char *name, *kernel; /* kernel: which name a finding must say */
    void (*run)(bool wrong);
    const char *finding; /* what the line must contain */
    int level;
};
extern const struct emu_case emu_defects[];
extern const int emu_defect_count;

/* Sound kernels, each called with host memory in and out. */
void emu_sum(float *sums, const float *x, int32_t rows, int32_t n);
void emu_transpose(float *y, const float *x, int32_t rows, int32_t cols);
void emu_lanes(int32_t *out); /* [7, 32]: xor 5, down 3, lane 9, any, all, ballot of even lanes, a double's sum */
void emu_count(uint32_t *bins, uint64_t *sum, int32_t *most, const int32_t *x, int32_t n, int32_t bin_count);
void emu_tiles(float *y, const float *a, const float *b, bool turned); /* 16 x 16: b, or its transpose */
float emu_round(float x);                                              /* to bf16 and back */
void emu_product(float *c, const float *a, const float *b, const int32_t size[3], int flags); /* 1 ta, 2 tb, 4 f32, 8 accumulate, 16 relu */
void emu_twice(float *x, int32_t n);                                   /* a recording of x += 1, replayed twice */
void emu_ring(float *x, int32_t blocks, int32_t phases); /* x [blocks, 128]: slices go round, one block a phase, 1 is added each time */
void emu_launch_one(void);
void emu_last_block(float *sum, const float *x, int32_t n, bool fenced);

#ifdef __cplusplus
}
#endif
#endif
