/* code_layout.c: where the codes of each position lie in a task model's vocabulary, and the JSON form of that.
 *
 * The same object stands in a bundle's NAME.json and in the codes.json that an import is given, so both go through this one reader. Every
 * number is bounded here, so that sums below never overflow. */
#include "../base/mem.h"
#include "bundle.h"
#include <cjson/cJSON.h>

enum { CODES_MOST = 1 << 24, BASE_MOST = 1 << 24 };

int32_t code_layout_first(const struct code_layout *l, int32_t position)
{
    int32_t first = 0;
    for (int32_t t = 0; t < position; t++)
        first += l->codes[t];
    return first;
}

int32_t code_layout_total(const struct code_layout *l)
{
    return code_layout_first(l, l->positions);
}

struct reading {
    const char *path;
    struct err *e;
};

/* An integer between low and high, or -1 with an error. */
static int32_t integer(const struct reading *r, const cJSON *v, const char *field, int32_t low, int32_t high)
{
    if (!cJSON_IsNumber(v))
        return err_set(r->e, ERR_DATA, "%s: %s: %s", r->path, field, v ? "not a number" : "missing");
    double d = v->valuedouble;
    if (!(d >= low && d <= high) || d != (double)(int32_t)d)
        return err_set(r->e, ERR_DATA, "%s: %s: %g is not an integer between %d and %d", r->path, field, d, low, high);
    return (int32_t)d;
}

static int read_codes(struct code_layout *l, const struct reading *r, const cJSON *codes)
{
    if (!cJSON_IsArray(codes))
        return err_set(r->e, ERR_DATA, "%s: codes: %s", r->path, codes ? "not an array" : "missing");
    int count = cJSON_GetArraySize(codes);
    if (count != l->positions)
        return err_set(r->e, ERR_DATA, "%s: codes: %d entries, but positions is %d", r->path, count, l->positions);
    const cJSON *v;
    int32_t t = 0;
    cJSON_ArrayForEach(v, codes)
    {
        char field[32];
        snprintf(field, sizeof field, "codes[%d]", t);
        l->codes[t] = integer(r, v, field, 1, CODES_MOST);
        if (l->codes[t++] < 0)
            return -1;
    }
    return 0;
}

int code_layout_parse(struct code_layout *l, const char *json, const char *path, struct err *e)
{
    struct reading r = {path, e};
    cJSON *o = cJSON_Parse(json);
    int rc = -1;
    *l = (struct code_layout){0};
    if (!cJSON_IsObject(o)) {
        err_set(e, ERR_DATA, "%s: not a JSON object with base, positions and codes", path);
        goto out;
    }
    l->base = integer(&r, cJSON_GetObjectItemCaseSensitive(o, "base"), "base", 1, BASE_MOST);
    if (l->base < 0)
        goto out;
    l->positions = integer(&r, cJSON_GetObjectItemCaseSensitive(o, "positions"), "positions", 1, POSITIONS_MAX);
    if (l->positions < 0)
        goto out;
    rc = read_codes(l, &r, cJSON_GetObjectItemCaseSensitive(o, "codes"));
out:
    cJSON_Delete(o);
    return rc;
}

char *code_layout_print(const struct code_layout *l)
{
    struct str s = {0};
    str_printf(&s, "{\"base\":%d,\"positions\":%d,\"codes\":[", l->base, l->positions);
    for (int32_t t = 0; t < l->positions; t++)
        str_printf(&s, "%s%d", t ? "," : "", l->codes[t]);
    str_puts(&s, "]}");
    return s.data;
}
