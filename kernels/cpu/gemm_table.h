/* gemm_table.h: which way a product goes, by instruction set and shape; made from `test_kernels --tune`, never by measuring at run time.
 *
 * Ways: GEMM_PANELS = our loops on weights in panels, packed beforehand (WEIGHT_INFER) or as they pass; GEMM_COLUMNS = our loops with the
 * weights as left operand as stored and x transposed; GEMM_ONEDNN = dnnl_sgemm on weights as stored. Measured on one core of a Zen 5 server
 * (peak about 240 GFLOP/s with AVX-512, 120 with AVX2), 768 x 768: packed panels 232..238 from n = 8 on (oneDNN 119 at 8, 150 at 20, 175 at
 * 32, 214 at 160); as stored, columns reach 200..223 where n is a multiple of the lanes, oneDNN wins between, panels from about 100 rows
 * on. With AVX2 (oneDNN held to AVX2 too): packed 107..113 against oneDNN 53 at n = 4, 94 at 20, 103 at 32, 106 at 160. Gradients: oneDNN,
 * which packs both operands (215..236 against 143..219 at n >= 20). */
#ifndef SEMINDEX_GEMM_TABLE_H
#define SEMINDEX_GEMM_TABLE_H

#include <stdint.h>

enum gemm_way { GEMM_PANELS, GEMM_COLUMNS, GEMM_ONEDNN, GEMM_WAYS };
static const char *const gemm_names[] = {"panels", "columns", "onednn"};
enum gemm_use { GEMM_PACKED, GEMM_STORED, GEMM_GRADIENT };

struct gemm_rule { /* tried in order; the first whose instruction set and use fit and whose bound on n holds wins */
    const char *simd;
    enum gemm_use use;
    int32_t n_most; /* rows of x at most */
    enum gemm_way way;
};

static const struct gemm_rule gemm_rules[] = {
    {"avx512", GEMM_PACKED, INT32_MAX, GEMM_PANELS},
    {"avx512", GEMM_STORED, 12, GEMM_ONEDNN},
    {"avx512", GEMM_STORED, 16, GEMM_COLUMNS},
    {"avx512", GEMM_STORED, 28, GEMM_ONEDNN},
    {"avx512", GEMM_STORED, 95, GEMM_COLUMNS},
    {"avx512", GEMM_STORED, INT32_MAX, GEMM_PANELS},
    {"avx512", GEMM_GRADIENT, INT32_MAX, GEMM_ONEDNN},
    {"avx2", GEMM_PACKED, INT32_MAX, GEMM_PANELS},
    {"avx2", GEMM_STORED, 6, GEMM_ONEDNN},
    {"avx2", GEMM_STORED, 16, GEMM_COLUMNS},
    {"avx2", GEMM_STORED, 22, GEMM_ONEDNN},
    {"avx2", GEMM_STORED, 95, GEMM_COLUMNS},
    {"avx2", GEMM_STORED, INT32_MAX, GEMM_ONEDNN},
    {"avx2", GEMM_GRADIENT, INT32_MAX, GEMM_ONEDNN},
    {"base", GEMM_PACKED, INT32_MAX, GEMM_PANELS},
    {"base", GEMM_STORED, INT32_MAX, GEMM_ONEDNN},
    {"base", GEMM_GRADIENT, INT32_MAX, GEMM_ONEDNN},
};

#endif
