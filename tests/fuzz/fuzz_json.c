/* fuzz_json.c: any bytes through the JSON gate; what it lets through, cJSON must be able to read, and compacting must keep it valid.
 *
 * libFuzzer target: clang -fsanitize=fuzzer,address with server/json_gate.c, core/base. The oracle is the agreement of the two parsers: a
 * text that passes the strict gate and is refused by cJSON is a finding, as is a compacted span that no longer passes. */
#include "../../server/json_gate.h"
#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_limits limits = {.depth = 32, .values = 10000, .span_key = "attributes", .span_depth = 3};
    struct json_spans spans = {0};
    struct err e = {0};
    char *text = malloc(size + 1); /* the exact size, so that the sanitizer sees a step beyond */
    memcpy(text, data, size);
    text[size] = 0;
    if (json_gate(text, size, &limits, &spans, &e) == 0) {
        cJSON *root = cJSON_ParseWithLength(text, size);
        CHECK(root);
        cJSON_Delete(root);
        for (int32_t i = 0; i < spans.count; i++) {
            struct str out = {0};
            struct err again = {0};
            json_compact(text, spans.at[i], &out);
            CHECK(json_gate(out.data, out.size, &limits, NULL, &again) == 0);
            str_free(&out);
        }
    } else {
        CHECK(e.code == ERR_DATA || e.code == ERR_TOO_LARGE);
        CHECK(e.message[0]);
    }
    json_spans_free(&spans);
    free(text);
    return 0;
}
