/* fill.h: what a person left open in the options of a run: 0 (or less) becomes the run's own default. */
#ifndef SEMINDEX_FILL_H
#define SEMINDEX_FILL_H

#include <stdint.h>

static inline void fill_i32(int32_t *field, int32_t value)
{
    if (*field <= 0)
        *field = value;
}

static inline void fill_f64(double *field, double value)
{
    if (*field <= 0)
        *field = value;
}

#endif
