/* simd_avx512.c: loops.h compiled for AVX-512 (F, VL, BW, DQ): vectors of 16.
 *
 * Chosen at run time by simd_choose; the pragmas stand before every include so that inline helpers are compiled for the same target. No
 * reassociation here: the loops split their sums by hand. */
#if defined(__x86_64__)
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#endif
#pragma GCC optimize("fp-contract=fast,no-associative-math")

#define LANES 16
#define TILE_ROWS 12
#define SIMD_TABLE simd_avx512
#define SIMD_NAME "avx512"
#include "loops.h"
