/* beam.h: what the two halves of a beam step share: the logits of a chunk of rows, and sums of exponentials by groups of codes.
 *
 * Logits lie as [rows, codes] in f32 scratch. A row's log-sum-exp over tens of thousands of codes would be a second walk over all of them, so the
 * product leaves, for every GROUP codes of a row, their maximum and the sum of their exponentials under it: a sixteenth of the bytes. */
#ifndef SEMINDEX_CUDA_BEAM_H
#define SEMINDEX_CUDA_BEAM_H

#include "cuda.h"

enum { BEAM_GROUP = 16 };

struct beam_logits { /* device memory; rows counted from the chunk's first */
    float *logits;    /* [rows, codes] */
    float *top, *sum; /* [rows, groups] */
    int32_t codes, groups;
};

/* Logits of rows first .. first + rows of a step: one launch. Rows beyond the live ones are left alone. */
void cuda_beam_logits(const struct beam_step *a, const struct beam_logits *to, int32_t first, int32_t rows);

#endif
