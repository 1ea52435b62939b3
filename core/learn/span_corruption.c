/* span_corruption.c: see span_corruption.h. A cut into parts is a choice of part ends among the places between items, every choice as likely as
 * any other: places are visited in order and taken with probability (ends wanted) / (places left), which needs no list of them. The rest behind
 * the last span may be empty, the other parts may not: one item more is cut, and the last part gives it back. */
#include "span_corruption.h"

#include "../../kernels/backend.h"
#include "../text/tokenizer.h"

#include <math.h>

int32_t span_noise(const struct span_corruption *s, int32_t n, int32_t *spans)
{
    int32_t noise = (int32_t)nearbyintf((float)n * (float)s->density);
    noise = noise < 1 ? 1 : noise > n - 1 ? n - 1 : noise;
    int32_t parts = (int32_t)nearbyintf((float)noise / (float)s->mean_span), most = noise < n - noise ? noise : n - noise;
    *spans = parts < 1 ? 1 : parts > most ? most : parts;
    return noise;
}

int32_t span_input_size(const struct span_corruption *s, int32_t n)
{
    int32_t spans, noise = span_noise(s, n, &spans);
    return n - noise + spans + 1;
}

int32_t span_target_size(const struct span_corruption *s, int32_t n)
{
    int32_t spans, noise = span_noise(s, n, &spans);
    return noise + spans + 1;
}

int32_t span_window(const struct span_corruption *s, int32_t longest)
{
    int32_t n = 1;
    while (span_input_size(s, n + 1) <= longest)
        n++;
    return n < 2 ? 0 : n;
}

/* Sizes of `parts` parts, at least 1 each, that make up `items`. */
static void cut_parts(int32_t items, int32_t parts, uint64_t seed, int32_t *size)
{
    int32_t wanted = parts - 1, at = 0;
    size[0] = 1;
    for (int32_t i = 1; i < items; i++) {
        if (wanted > 0 && mix64(seed, (uint64_t)i) % (uint64_t)(items - i) < (uint64_t)wanted) {
            wanted--;
            size[++at] = 0;
        }
        size[at]++;
    }
}

void span_write(const struct span_corruption *s, const int32_t *tokens, const int32_t *kept, const int32_t *lost, int32_t spans, int32_t *input,
                uint32_t *target)
{
    for (int32_t i = 0; i <= spans; i++) {
        for (int32_t k = 0; k < kept[i]; k++)
            *input++ = *tokens++;
        if (i == spans)
            break;
        *input++ = s->first - i;
        *target++ = (uint32_t)(s->first - i);
        for (int32_t k = 0; k < lost[i]; k++)
            *target++ = (uint32_t)*tokens++;
    }
    *input = TOKEN_EOS;
    *target = TOKEN_EOS;
}

void span_corrupt(const struct span_corruption *s, const int32_t *tokens, int32_t n, uint64_t seed, int32_t *input, uint32_t *target)
{
    int32_t spans, noise = span_noise(s, n, &spans), kept[SENTINELS + 1], lost[SENTINELS];
    CHECK(n >= 2 && spans <= SENTINELS);
    cut_parts(n - noise + 1, spans + 1, mix64(seed, 1), kept);
    kept[spans]--;
    cut_parts(noise, spans, mix64(seed, 2), lost);
    span_write(s, tokens, kept, lost, spans, input, target);
}
