/* model_file.c: writes and reads a bundle's models through t5_load.h.
 *
 * Reading fills with T5_FILL_START, since a file may hold more than its reader wants (the engine needs an indexer's codebooks, not its
 * reconstructor); what that leniency would let pass is checked here: all vocabulary rows and all tensors asked for must be in the file. */
#include "model_file.h"
#include "../base/file.h"
#include "t5_load.h"
#include "t5_source.h"
#include <cjson/cJSON.h>
#include <string.h>

enum { DESCRIPTION_MOST = 1 << 20 };

struct part_paths { /* owned by the bundle */
    const char *weights, *description;
};

static const char *file_of(const struct bundle *b, const char *part, const char *kind)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", part, kind);
    return bundle_file(b, name);
}

bool model_file_has(const struct bundle *b, const char *part)
{
    return file_of(b, part, "safetensors") && file_of(b, part, "json");
}

static int find_part(const struct bundle *b, const char *part, struct part_paths *p, struct err *e)
{
    *p = (struct part_paths){file_of(b, part, "safetensors"), file_of(b, part, "json")};
    if (!p->weights && !p->description)
        return err_set(e, ERR_NO_INPUT, "%s: the bundle has no part \"%s\"", bundle_folder(b), part);
    if (!p->weights || !p->description)
        return err_set(e, ERR_DATA, "%s: %s.%s is missing", bundle_folder(b), part, p->weights ? "json" : "safetensors");
    return 0;
}

/* The config object with layout and settings put before its closing brace. */
static char *describe(const struct t5_config *c, const struct code_layout *layout, const char *settings)
{
    char *config = t5_config_print(c), *end = strrchr(config, '}');
    struct str s = {0};
    while (end > config && strchr(" \n", end[-1]))
        end--;
    str_append(&s, config, (size_t)(end - config));
    if (layout) {
        char *text = code_layout_print(layout);
        str_printf(&s, ",\n \"layout\": %s", text);
        free(text);
    }
    str_printf(&s, ",\n \"settings\": %s\n}\n", settings ? settings : "{}");
    free(config);
    return s.data;
}

int model_file_write(struct bundle *b, const char *part, const struct t5 *m, const struct code_layout *layout, const char *settings_json,
                     struct err *e)
{
    const struct t5_config *c = t5_config_of(m);
    CHECK(layout ? layout->base == c->vocab && code_layout_total(layout) == c->codes : c->codes == 0);
    char name[64];
    snprintf(name, sizeof name, "%s.safetensors", part);
    char *path = bundle_path(b, name), *description = describe(c, layout, settings_json);
    int rc = t5_save(m, path, e);
    snprintf(name, sizeof name, "%s.json", part);
    if (rc == 0)
        rc = bundle_put(b, name, description, strlen(description), e);
    free(description);
    free(path);
    return rc;
}

/* The part's description as an object; the caller deletes it. */
static cJSON *open_description(const struct bundle *b, const char *part, const char **path, struct err *e)
{
    struct part_paths p;
    if (find_part(b, part, &p, e) < 0)
        return NULL;
    *path = p.description;
    char *text = file_read(p.description, DESCRIPTION_MOST, NULL, e);
    cJSON *o = text ? cJSON_Parse(text) : NULL;
    if (text && !cJSON_IsObject(o)) {
        err_set(e, ERR_DATA, "%s: not a JSON object", p.description);
        cJSON_Delete(o);
        o = NULL;
    }
    free(text);
    return o;
}

int model_file_config(const struct bundle *b, const char *part, struct t5_config *c, struct err *e)
{
    struct part_paths p;
    size_t size;
    if (find_part(b, part, &p, e) < 0)
        return -1;
    char *text = file_read(p.description, DESCRIPTION_MOST, &size, e);
    int rc = text ? t5_config_parse(c, text, size, p.description, -1, e) : -1;
    free(text);
    return rc;
}

int model_file_layout(const struct bundle *b, const char *part, struct code_layout *layout, struct err *e)
{
    const char *path;
    struct t5_config c;
    if (model_file_config(b, part, &c, e) < 0)
        return -1;
    cJSON *o = open_description(b, part, &path, e);
    if (!o)
        return -1;
    char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(o, "layout"));
    int rc = text ? code_layout_parse(layout, text, path, e) : err_set(e, ERR_DATA, "%s: layout is missing: this model has no ID codes", path);
    if (rc == 0 && (layout->base != c.vocab || code_layout_total(layout) != c.codes))
        rc = err_set(e, ERR_DATA, "%s: layout says %d text rows and %d codes, the config %d and %d", path, layout->base, code_layout_total(layout),
                     c.vocab, c.codes);
    free(text);
    cJSON_Delete(o);
    return rc;
}

char *model_file_settings(const struct bundle *b, const char *part, struct err *e)
{
    const char *path;
    cJSON *o = open_description(b, part, &path, e);
    if (!o)
        return NULL;
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(o, "settings");
    char *text = cJSON_IsObject(settings) ? cJSON_PrintUnformatted(settings) : xstrdup("{}");
    cJSON_Delete(o);
    return text;
}

/* A tensor of the model that the file lacks or holds with fewer rows. */
static int check_whole(const struct t5_source *s, const struct t5 *m, const char *path, struct err *e)
{
    for (int32_t i = 0; i < t5_tensor_count(m); i++) {
        const struct t5_tensor *t = t5_tensor_at(m, i);
        const struct safetensors *file;
        const struct safetensor *x = t5_source_find(s, t->name, &file);
        if (!x)
            return err_set(e, ERR_DATA, "%s: tensor %s is missing", path, t->name);
        if (x->elements != (int64_t)t->rows * t->cols)
            return err_set(e, ERR_DATA, "%s: tensor %s has %lld elements, expected %lld", path, t->name, (long long)x->elements,
                           (long long)t->rows * t->cols);
    }
    return 0;
}

static struct t5 *fill_model(const struct t5_source *s, const struct backend *be, const struct t5_load_options *o, const char *path,
                             struct err *e)
{
    struct t5_options options = {.config = *t5_source_config(s), .train = o->train, .extra = o->extra, .extra_count = o->extra_count};
    struct t5 *m = t5_init(be, &options, e);
    if (m && check_whole(s, m, path, e) == 0 && t5_source_fill(s, m, T5_FILL_START, e) == 0)
        return m;
    t5_free(m);
    return NULL;
}

struct t5 *model_file_read(const struct bundle *b, const char *part, const struct backend *be, bool train, const struct t5_extra *extra,
                           int32_t extra_count, struct code_layout *layout, char **settings_json, struct err *e)
{
    struct part_paths p;
    if (find_part(b, part, &p, e) < 0 || (layout && model_file_layout(b, part, layout, e) < 0))
        return NULL;
    char *settings = settings_json ? model_file_settings(b, part, e) : NULL;
    if (settings_json && !settings)
        return NULL;
    struct t5_source *s = t5_source_open(p.description, p.weights, -1, e);
    struct t5_load_options o = {train, extra, extra_count};
    struct t5 *m = s ? fill_model(s, be, &o, p.weights, e) : NULL;
    t5_source_close(s);
    if (m && settings_json)
        *settings_json = settings;
    else
        free(settings);
    return m;
}
