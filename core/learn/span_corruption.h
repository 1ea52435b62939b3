/* span_corruption.h: the denoising task of T5: spans of a text are replaced by sentinels, and the model writes what stood there.
 *
 * Raffel et al. 2020, section 3.1.4, with the counts of the t5 library (random_spans_noise_mask): of n tokens round(n * density) are noise, at least
 * one and at most n - 1, in round(noise / mean_span) spans, at least one (and no more than either kind has tokens); noise and rest are cut into parts
 * at random, and parts of the rest and of the noise alternate, the rest first. Span i (from 0) is replaced by the sentinel `first` - i:
 *
 *   input    rest0 <first> rest1 <first-1> .. rest EOS
 *   target   <first> noise0 <first-1> noise1 .. EOS
 *
 * The target has no last sentinel in front of EOS: so it is in the library, and imported T5s were trained that way; the paper's figure has one.
 * Of all masks that begin with text and keep spans apart, each is as likely. In one thing that is not the library's: its masks always end with noise,
 * harmless in windows of 568 tokens cut out of a stream of documents, but a text of up to 29 tokens has one span, which then would always be its end,
 * the same mask in every epoch, and every item's brand would be masked in every epoch. (The library's own cure, random_roll, came later.)
 * Rounding is in single precision and to the even neighbour, as the library's. A real T5 has 100 sentinels, <extra_id_0> .. <extra_id_99>, behind the pieces of its
 * SentencePiece model, counted down from the last: <extra_id_0> is pieces + 99. */
#ifndef SEMINDEX_SPAN_CORRUPTION_H
#define SEMINDEX_SPAN_CORRUPTION_H

#include <stdint.h>

enum { SENTINELS = 100 };

struct span_corruption {
    double density, mean_span; /* 0 < density < 1, mean_span >= 1: 0.15 and 3 */
    int32_t first;             /* token of <extra_id_0> */
};

/* Noise tokens of n >= 2 tokens; *spans: how many spans they make. */
int32_t span_noise(const struct span_corruption *s, int32_t n, int32_t *spans);
/* Tokens of the input and of the target, EOS included. */
int32_t span_input_size(const struct span_corruption *s, int32_t n);
int32_t span_target_size(const struct span_corruption *s, int32_t n);
/* The most tokens whose input has at most `longest`; 0 when not even two fit. */
int32_t span_window(const struct span_corruption *s, int32_t longest);
/* Writes both from a cut: kept[spans + 1] and lost[spans] are the sizes of the parts, of which only the last kept one may be 0. input and target
 * have room for sum(kept) + spans + 1 and sum(lost) + spans + 1. */
void span_write(const struct span_corruption *s, const int32_t *tokens, const int32_t *kept, const int32_t *lost, int32_t spans, int32_t *input,
                uint32_t *target);
/* Writes both for tokens[0..n), n >= 2 and at most SENTINELS spans. The draw depends on seed alone. */
void span_corrupt(const struct span_corruption *s, const int32_t *tokens, int32_t n, uint64_t seed, int32_t *input, uint32_t *target);

#endif
