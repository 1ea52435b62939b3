/* model_settings.c: see model_settings.h. The bundle was checked against its digests, so a strange value is an older or newer writer's, not damage. */
#include "model_settings.h"

#include <cjson/cJSON.h>
#include <string.h>

static int32_t number(const cJSON *settings, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(settings, name);
    return cJSON_IsNumber(v) && v->valuedouble >= 1 && v->valuedouble <= 1 << 24 ? (int32_t)v->valuedouble : 0;
}

static double weight(const cJSON *settings, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(settings, name);
    return cJSON_IsNumber(v) && v->valuedouble > 0 && v->valuedouble <= 1000 ? v->valuedouble : 1;
}

void model_settings_read(struct model_settings *s, const char *json)
{
    cJSON *o = json ? cJSON_Parse(json) : NULL;
    const char *start = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "start"));
    const char *input = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "input"));
    *s = (struct model_settings){.max_tokens = number(o, "max_tokens"),
                                 .max_history = number(o, "max_history"),
                                 .from_base = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "from_base")),
                                 .from_indexer = start && strcmp(start, "indexer") == 0,
                                 .texts = input && strcmp(input, "texts") == 0,
                                 .beam_weight = weight(o, "beam_weight")};
    cJSON_Delete(o);
}
