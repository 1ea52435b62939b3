/* simd_avx2.c: loops.h compiled for AVX2 and FMA: vectors of 8.
 *
 * Chosen at run time by simd_choose; the pragmas stand before every include so that inline helpers are compiled for the same target. No
 * reassociation here: the loops split their sums by hand. */
#if defined(__x86_64__)
#pragma GCC target("arch=haswell")
#endif
#pragma GCC optimize("fp-contract=fast,no-associative-math")

#define LANES 8
#define TILE_ROWS 6
#define SIMD_TABLE simd_avx2
#define SIMD_NAME "avx2"
#include "loops.h"
