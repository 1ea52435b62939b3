/* fuzz_safetensors.c: any bytes as a safetensors file; what is accepted is read to its last value.
 *
 * The fuzzer seldom guesses the 8-byte header size, so inputs whose first byte is odd are taken as a bare header with data behind it: the size
 * is put in front here. */
#include <stdlib.h>
#include <string.h>

#include "../../core/base/mem.h"
#include "../../core/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_all(const struct safetensors *s)
{
    for (int32_t i = 0; i < safetensors_count(s); i++) {
        const struct safetensor *t = safetensors_at(s, i);
        CHECK(safetensors_find(s, t->name) == t);
        void *values = xmalloc((size_t)t->elements * 4);
        if (safetensors_floats(s, t, values, NULL) != 0)
            safetensors_ints(s, t, values, NULL);
        free(values);
    }
}

static void parse(const uint8_t *bytes, size_t size)
{
    struct err e = {0};
    struct safetensors *s = safetensors_parse(bytes, size, "fuzz", &e);
    CHECK(s || e.message[0]);
    if (s)
        read_all(s);
    safetensors_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0 || bytes[0] % 2 == 0) {
        parse(bytes, size);
        return 0;
    }
    size_t data = bytes[0] / 2 < size - 1 ? bytes[0] / 2 : size - 1, header = size - 1 - data;
    uint8_t *image = xmalloc(8 + header + data);
    for (int i = 0; i < 8; i++)
        image[i] = (uint8_t)((uint64_t)header >> (8 * i));
    memcpy(image + 8, bytes + 1, header + data);
    parse(image, 8 + header + data);
    free(image);
    return 0;
}
