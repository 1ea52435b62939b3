/* t5_config.c: a Hugging Face T5 config.json to struct t5_config and back.
 *
 * Two generations of the format say different things about the output: transformers 5 writes tie_word_embeddings = true even for v1.1 and
 * puts the truth in scale_decoder_outputs; older files have only tie_word_embeddings. So: scale = scale_decoder_outputs if present, else
 * tie_word_embeddings, else true. Whether the head is tied is decided by the weights (t5_source.c). Missing keys take the defaults of
 * transformers' T5Config (MT5Config for model_type mt5). A table maps keys to fields; it also bounds them, so no value is cast unseen. */
#include "t5_load.h"

#include "../base/mem.h"

#include <cJSON.h>
#include <math.h>
#include <string.h>

struct field {
    const char *key;
    size_t place;
    int32_t preset;
};

static const struct field fields[] = {
    {"vocab_size", offsetof(struct t5_config, vocab), 32128},
    {"d_model", offsetof(struct t5_config, d_model), 512},
    {"d_kv", offsetof(struct t5_config, d_kv), 64},
    {"d_ff", offsetof(struct t5_config, d_ff), 2048},
    {"num_heads", offsetof(struct t5_config, heads), 8},
    {"num_layers", offsetof(struct t5_config, encoder_layers), 6},
    {"relative_attention_num_buckets", offsetof(struct t5_config, buckets), 32},
    {"relative_attention_max_distance", offsetof(struct t5_config, max_distance), 128},
};

/* An absent or null member counts as absent. */
static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(x) ? NULL : x;
}

static int read_integer(const cJSON *object, const char *key, int32_t preset, int32_t *value, const char *path, struct err *e)
{
    const cJSON *x = member(object, key);
    *value = preset;
    if (!x)
        return 0;
    double v = cJSON_IsNumber(x) ? x->valuedouble : NAN;
    if (!(v >= 0 && v <= INT32_MAX && v == floor(v)))
        return err_set(e, ERR_DATA, "%s: %s is not a whole number from 0 to %d", path, key, INT32_MAX);
    *value = (int32_t)v;
    return 0;
}

static int read_real(const cJSON *object, const char *key, float preset, float *value, const char *path, struct err *e)
{
    const cJSON *x = member(object, key);
    *value = preset;
    if (!x)
        return 0;
    if (!cJSON_IsNumber(x) || !isfinite(x->valuedouble))
        return err_set(e, ERR_DATA, "%s: %s is not a number", path, key);
    *value = (float)x->valuedouble;
    return 0;
}

static int read_flag(const cJSON *object, const char *key, bool preset, bool *value, const char *path, struct err *e)
{
    const cJSON *x = member(object, key);
    *value = x ? cJSON_IsTrue(x) : preset;
    if (x && !cJSON_IsBool(x))
        return err_set(e, ERR_DATA, "%s: %s is not true or false", path, key);
    return 0;
}

static int read_word(const cJSON *object, const char *key, const char *preset, const char **value, const char *path, struct err *e)
{
    const cJSON *x = member(object, key);
    *value = x ? x->valuestring : preset;
    if (x && !cJSON_IsString(x))
        return err_set(e, ERR_DATA, "%s: %s is not a string", path, key);
    return 0;
}

static int read_kind(struct t5_config *c, const cJSON *o, const char *path, struct err *e)
{
    const char *type, *ff;
    bool tied;
    if (read_word(o, "model_type", "t5", &type, path, e) != 0)
        return -1;
    bool multilingual = strcmp(type, "mt5") == 0;
    if (!multilingual && strcmp(type, "t5") != 0)
        return err_set(e, ERR_DATA, "%s: model_type is \"%.40s\", expected \"t5\" or \"mt5\"", path, type);
    if (read_word(o, "feed_forward_proj", multilingual ? "gated-gelu" : "relu", &ff, path, e) != 0)
        return -1;
    c->gated = strcmp(ff, "gated-gelu") == 0;
    if (!c->gated && strcmp(ff, "relu") != 0)
        return err_set(e, ERR_DATA, "%s: feed_forward_proj is \"%.40s\", expected \"relu\" or \"gated-gelu\"", path, ff);
    if (read_flag(o, "tie_word_embeddings", !multilingual, &tied, path, e) != 0)
        return -1;
    return read_flag(o, "scale_decoder_outputs", tied, &c->scale_output, path, e);
}

static int read_codes(struct t5_config *c, const cJSON *o, int32_t codes, const char *path, struct err *e)
{
    if (codes < 0 && read_integer(o, "semindex_codes", 0, &codes, path, e) != 0)
        return -1;
    if (codes >= c->vocab)
        return err_set(e, ERR_DATA, "%s: vocab_size is %d, of which %d are to be ID codes: no text vocabulary is left", path, c->vocab, codes);
    c->codes = codes;
    c->vocab -= codes;
    return 0;
}

static int read_object(struct t5_config *c, const cJSON *o, int32_t codes, const char *path, struct err *e)
{
    if (!cJSON_IsObject(o))
        return err_set(e, ERR_DATA, "%s: not a JSON object", path);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (read_integer(o, fields[i].key, fields[i].preset, (int32_t *)(void *)((char *)c + fields[i].place), path, e) != 0)
            return -1;
    if (read_integer(o, "num_decoder_layers", c->encoder_layers, &c->decoder_layers, path, e) != 0 ||
        read_real(o, "layer_norm_epsilon", 1e-6f, &c->eps, path, e) != 0 ||
        read_real(o, "dropout_rate", 0.1f, &c->dropout, path, e) != 0 || read_kind(c, o, path, e) != 0 ||
        read_codes(c, o, codes, path, e) != 0)
        return -1;
    return read_flag(o, "semindex_untied", false, &c->untied, path, e);
}

int t5_config_parse(struct t5_config *c, const char *json, size_t size, const char *path, int32_t codes, struct err *e)
{
    memset(c, 0, sizeof *c);
    cJSON *o = cJSON_ParseWithLengthOpts(json, size + 1, NULL, true); /* the NUL behind the text ends it: nothing may follow the object */
    if (!o)
        return err_set(e, ERR_DATA, "%s: not valid JSON", path);
    int result = read_object(c, o, codes, path, e);
    cJSON_Delete(o);
    if (result == 0 && t5_config_check(c, e) != 0)
        result = err_prefix(e, "%s", path);
    return result;
}

static const char *flag_text(bool x)
{
    return x ? "true" : "false";
}

/* The shortest decimal that reads back as x: 0.1, not 0.100000001. */
static void put_real(struct str *s, const char *key, float x)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x)
            break;
    }
    str_printf(s, " \"%s\": %s,\n", key, text);
}

char *t5_config_print(const struct t5_config *c)
{
    struct str s = {0};
    str_puts(&s, "{\n \"architectures\": [\"T5ForConditionalGeneration\"],\n \"model_type\": \"t5\",\n \"is_encoder_decoder\": true,\n");
    str_puts(&s, " \"pad_token_id\": 0,\n \"eos_token_id\": 1,\n \"decoder_start_token_id\": 0,\n");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int32_t value = *(const int32_t *)(const void *)((const char *)c + fields[i].place);
        str_printf(&s, " \"%s\": %d,\n", fields[i].key, value + (i == 0 ? c->codes : 0));
    }
    str_printf(&s, " \"num_decoder_layers\": %d,\n", c->decoder_layers);
    put_real(&s, "layer_norm_epsilon", c->eps);
    put_real(&s, "dropout_rate", c->dropout);
    str_printf(&s, " \"feed_forward_proj\": \"%s\",\n", c->gated ? "gated-gelu" : "relu");
    str_printf(&s, " \"tie_word_embeddings\": %s,\n", flag_text(!c->untied));
    str_printf(&s, " \"scale_decoder_outputs\": %s,\n", flag_text(c->scale_output));
    str_printf(&s, " \"semindex_untied\": %s,\n \"semindex_codes\": %d\n}\n", flag_text(c->untied), c->codes);
    return s.data;
}
