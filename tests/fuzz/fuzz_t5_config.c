/* fuzz_t5_config.c: any members as config.json; what is accepted must be a sane config that prints and reads back as itself.
 *
 * The JSON parser is a library without coverage, so the fuzzer would never find a key by itself: the input is a list of lines, the first byte
 * of each names a key, the rest is its value as raw JSON. An input that begins with { is taken as it is. */
#include <stdlib.h>
#include <string.h>

#include "../../core/base/mem.h"
#include "../../core/model/t5_load.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *const keys[] = {"vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers",
                                   "relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon",
                                   "dropout_rate", "feed_forward_proj", "model_type", "tie_word_embeddings", "scale_decoder_outputs",
                                   "semindex_codes", "semindex_untied"};

static void members(struct str *json, char *lines)
{
    str_puts(json, "{");
    for (char *line; (line = strsep(&lines, "\n"));)
        if (*line)
            str_printf(json, "%s\"%s\":%s", json->size > 1 ? "," : "", keys[(unsigned char)*line % (sizeof keys / sizeof *keys)], line + 1);
    str_puts(json, "}");
}

static void check(const char *json, size_t size)
{
    struct t5_config c, again;
    struct err e = {0};
    if (t5_config_parse(&c, json, size, "fuzz", -1, &e) != 0) {
        CHECK(e.message[0]);
        return;
    }
    char *printed = t5_config_print(&c);
    CHECK(t5_config_check(&c, NULL) == 0);
    CHECK(t5_config_parse(&again, printed, strlen(printed), "fuzz", -1, &e) == 0);
    char *twice = t5_config_print(&again);
    CHECK(strcmp(printed, twice) == 0);
    free(printed);
    free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct str json = {0};
    char *text = xstrndup((const char *)bytes, size);
    if (*text == '{')
        str_puts(&json, text);
    else
        members(&json, text);
    check(json.data ? json.data : "", json.size);
    str_free(&json);
    free(text);
    return 0;
}
