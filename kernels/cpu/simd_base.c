/* simd_base.c: loops.h compiled for whatever the compiler's baseline has (SSE2 on x86-64): vectors of 4.
 *
 * Chosen at run time by simd_choose; the pragmas stand before every include so that inline helpers are compiled for the same target. No
 * reassociation here: the loops split their sums by hand. */
#pragma GCC optimize("fp-contract=fast,no-associative-math")

#define LANES 4
#define TILE_ROWS 6
#define SIMD_TABLE simd_base
#define SIMD_NAME "base"
#include "loops.h"
