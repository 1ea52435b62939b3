/* safetensors_values.c: the values of a tensor as f32 or int32, whatever its dtype in the file.
 *
 * f16 and bf16 convert exactly, f64 rounds. Integers must fit int32: an index that does not is an error and never wraps. The data in the file
 * is little-endian and so are the machines that this runs on (checked at compile time); it is unaligned, hence memcpy per element. */
#include "safetensors.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is read as it lies");

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* IEEE half: 1 + 5 + 10 bits. */
static float from_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent)
        return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
}

static uint16_t u16_at(const unsigned char *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static float f64_at(const unsigned char *p)
{
    double x;
    memcpy(&x, p, sizeof x);
    return (float)x;
}

int safetensors_floats(const struct safetensors *s, const struct safetensor *t, float *out, struct err *e)
{
    switch (t->dtype) {
    case ST_F32:
        if (t->bytes)
            memcpy(out, t->data, t->bytes);
        return 0;
    case ST_F16:
        for (int64_t i = 0; i < t->elements; i++)
            out[i] = from_half(u16_at(t->data + 2 * i));
        return 0;
    case ST_BF16:
        for (int64_t i = 0; i < t->elements; i++)
            out[i] = from_bits((uint32_t)u16_at(t->data + 2 * i) << 16);
        return 0;
    case ST_F64:
        for (int64_t i = 0; i < t->elements; i++)
            out[i] = f64_at(t->data + 8 * i);
        return 0;
    default:
        return err_set(e, ERR_DATA, "%s: tensor %.200s: dtype is %s, expected F32, F16, BF16 or F64", safetensors_path(s), t->name,
                       safetensors_dtype_name(t->dtype));
    }
}

/* Element i as a signed 64-bit number; a U64 beyond 2^63 - 1 comes out negative and so is refused with the rest. */
static int64_t integer_at(const struct safetensor *t, int64_t i)
{
    size_t size = safetensors_dtype_size(t->dtype);
    uint64_t raw = 0;
    memcpy(&raw, t->data + (size_t)i * size, size);
    switch (t->dtype) {
    case ST_I8:
        return (int8_t)raw;
    case ST_I16:
        return (int16_t)raw;
    case ST_I32:
        return (int32_t)raw;
    default:
        return (int64_t)raw;
    }
}

int safetensors_ints(const struct safetensors *s, const struct safetensor *t, int32_t *out, struct err *e)
{
    if (t->dtype <= ST_F64)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: dtype is %s, expected whole numbers", safetensors_path(s), t->name,
                       safetensors_dtype_name(t->dtype));
    for (int64_t i = 0; i < t->elements; i++) {
        int64_t x = integer_at(t, i);
        if (x != (int32_t)x || (t->dtype == ST_U64 && x < 0))
            return err_set(e, ERR_DATA, "%s: tensor %.200s: element %lld is %lld, beyond 32 bits", safetensors_path(s), t->name,
                           (long long)i, (long long)x);
        out[i] = (int32_t)x;
    }
    return 0;
}
