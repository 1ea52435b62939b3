/* utf8.c: decoding by the ranges of RFC 3629, section 4: the first byte says the length and the range of the second byte, which is what
 * keeps out overlong forms, surrogates and everything above U+10FFFF; all further bytes are 80..BF. */
#include "utf8.h"

static size_t sequence_size(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if ((lead & 0xf0) == 0xe0)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

static bool second_fits(unsigned char lead, unsigned char second)
{
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high;
}

size_t utf8_next(const char *s, size_t size, uint32_t *point)
{
    static const unsigned char lead_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    if (size == 0)
        return 0;
    const unsigned char *u = (const unsigned char *)s;
    size_t n = sequence_size(u[0]);
    if (n == 0 || n > size || (n > 1 && !second_fits(u[0], u[1])))
        return 0;
    uint32_t p = u[0] & lead_bits[n];
    for (size_t i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80)
            return 0;
        p = p << 6 | (u[i] & 0x3f);
    }
    *point = p;
    return n;
}

bool utf8_valid(const char *s, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint32_t point;
        size_t n = utf8_next(s + i, size - i, &point);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
