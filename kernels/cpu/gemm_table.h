/* gemm_table.h: which way a product goes, by instruction set and shape; made by `test_kernels --tune`, never at run time.
 *
 * Ways: GEMM_PANELS = our loops on weights packed into panels (WEIGHT_INFER) or packed as they pass; GEMM_COLUMNS = our loops with the
 * weights as left operand as stored and x transposed (small n on unpacked weights); GEMM_ONEDNN = dnnl_sgemm on weights as stored. */
#ifndef SEMINDEX_GEMM_TABLE_H
#define SEMINDEX_GEMM_TABLE_H

#include <stdint.h>

enum gemm_way { GEMM_PANELS, GEMM_COLUMNS, GEMM_ONEDNN, GEMM_WAYS };
static const char *const gemm_names[] = {"panels", "columns", "onednn"};

struct gemm_rule { /* rules are tried in order; the first whose instruction set fits and whose n bound holds wins */
    const char *simd;
    int packed;        /* 1 = weights are packed, 0 = as stored */
    int32_t n_most;    /* rows of x at most */
    enum gemm_way way;
};

static const struct gemm_rule gemm_rules[] = {
    {"avx512", 1, INT32_MAX, GEMM_PANELS},
    {"avx512", 0, 32, GEMM_COLUMNS},
    {"avx512", 0, INT32_MAX, GEMM_ONEDNN},
    {"avx2", 1, INT32_MAX, GEMM_PANELS},
    {"avx2", 0, 16, GEMM_COLUMNS},
    {"avx2", 0, INT32_MAX, GEMM_ONEDNN},
    {"base", 1, INT32_MAX, GEMM_PANELS},
    {"base", 0, 8, GEMM_COLUMNS},
    {"base", 0, INT32_MAX, GEMM_ONEDNN},
};

#endif
