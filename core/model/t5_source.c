/* t5_source.c: opens a checkpoint: its config, its one or several safetensors files, and the question whether the head is tied.
 *
 * With several files model.safetensors.index.json maps each tensor to its file. The map must agree with the files: every tensor it names is
 * where it says, and no tensor is in two files. File names in it are names, not paths, so an index cannot lead out of its folder.
 *
 * Untied means: lm_head.weight is there and differs from shared.weight; some tied checkpoints carry an equal copy. */
#include "t5_source.h"

#include "../base/file.h"

#include <cJSON.h>
#include <string.h>

enum { CONFIG_MOST = 1 << 20, INDEX_MOST = 64 << 20, FILES_MOST = 4096 };

static const struct safetensor *find_in(const struct t5_source *s, const char *name, const struct safetensors **file)
{
    for (int32_t i = 0; i < s->files; i++) {
        const struct safetensor *t = safetensors_find(s->file[i], name);
        if (t) {
            *file = s->file[i];
            return t;
        }
    }
    return NULL;
}

const struct safetensor *t5_source_find(const struct t5_source *s, const char *name, const struct safetensors **file)
{
    static const char *const copies[] = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"};
    const struct safetensor *t = find_in(s, name, file);
    if (!t && strcmp(name, "shared.weight") == 0)
        for (size_t i = 0; !t && i < sizeof copies / sizeof *copies; i++)
            t = find_in(s, copies[i], file);
    return t;
}

/* ---- files ---- */

static int add_file(struct t5_source *s, const char *path, struct err *e)
{
    struct safetensors *f = safetensors_open(path, e);
    if (!f)
        return -1;
    for (int32_t i = 0; i < safetensors_count(f); i++) {
        const struct safetensors *other;
        const char *name = safetensors_at(f, i)->name;
        if (!find_in(s, name, &other))
            continue;
        err_set(e, ERR_DATA, "%s: tensor %.200s is also in %s", path, name, safetensors_path(other));
        safetensors_close(f);
        return -1;
    }
    s->file = xrealloc(s->file, (size_t)s->files + 1, sizeof *s->file);
    s->file[s->files++] = f;
    return 0;
}

static const struct safetensors *opened(const struct t5_source *s, const char *path)
{
    for (int32_t i = 0; i < s->files; i++)
        if (strcmp(safetensors_path(s->file[i]), path) == 0)
            return s->file[i];
    return NULL;
}

/* One line of the weight map: opens the file if it is new, and checks that the tensor is in it. */
static int map_entry(struct t5_source *s, const char *folder, const cJSON *x, const char *index, struct err *e)
{
    const char *name = cJSON_GetStringValue(x);
    if (!name || !*name || strchr(name, '/') || strcmp(name, "..") == 0)
        return err_set(e, ERR_DATA, "%s: weight_map of %.200s is not a file name", index, x->string);
    char *path = path_join(folder, name);
    int result = 0;
    if (!opened(s, path))
        result = s->files < FILES_MOST ? add_file(s, path, e) : err_set(e, ERR_DATA, "%s: more than %d files", index, FILES_MOST);
    const struct safetensors *f = result == 0 ? opened(s, path) : NULL;
    if (f && !safetensors_find(f, x->string))
        result = err_set(e, ERR_DATA, "%s: tensor %.200s is not in %s, where %s says it is", s->label, x->string, path, index);
    free(path);
    return result;
}

static int open_index(struct t5_source *s, const char *index, struct err *e)
{
    size_t size;
    char *text = file_read(index, INDEX_MOST, &size, e);
    if (!text)
        return -1;
    const char *slash = strrchr(index, '/');
    char *folder = slash ? xstrndup(index, (size_t)(slash - index) + 1) : xstrdup(".");
    cJSON *o = cJSON_ParseWithLengthOpts(text, size + 1, NULL, true);
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(o, "weight_map"), *x;
    int result = cJSON_IsObject(map) ? 0 : err_set(e, ERR_DATA, "%s: not a JSON object with an object weight_map", index);
    if (result == 0)
        cJSON_ArrayForEach(x, map)
            if (result == 0)
                result = map_entry(s, folder, x, index, e);
    if (result == 0 && s->files == 0)
        result = err_set(e, ERR_DATA, "%s: weight_map is empty", index);
    cJSON_Delete(o);
    free(folder);
    free(text);
    return result;
}

static int open_config(struct t5_source *s, const char *path, int32_t codes, struct err *e)
{
    size_t size;
    char *text = file_read(path, CONFIG_MOST, &size, e);
    if (!text)
        return -1;
    int result = t5_config_parse(&s->config, text, size, path, codes, e);
    free(text);
    return result;
}

/* ---- tied or not ---- */

static int equal_values(const struct safetensors *fa, const struct safetensor *a, const struct safetensors *fb, const struct safetensor *b,
                        bool *equal, struct err *e)
{
    *equal = a->elements == b->elements && a->dtype == b->dtype && memcmp(a->data, b->data, a->bytes) == 0;
    if (*equal || a->elements != b->elements)
        return 0;
    float *x = xmalloc((size_t)a->elements * sizeof *x), *y = xmalloc((size_t)b->elements * sizeof *y);
    int result = safetensors_floats(fa, a, x, e) == 0 && safetensors_floats(fb, b, y, e) == 0 ? 0 : -1;
    *equal = result == 0;
    for (int64_t i = 0; *equal && i < a->elements; i++)
        *equal = x[i] == y[i];
    free(x);
    free(y);
    return result;
}

static int decide_untied(struct t5_source *s, struct err *e)
{
    const struct safetensors *fa, *fb;
    const struct safetensor *head = find_in(s, "lm_head.weight", &fa), *shared = t5_source_find(s, "shared.weight", &fb);
    bool said = s->config.untied, equal = false;
    s->config.untied = said || (head && shared);
    if (said || !head || !shared)
        return 0;
    if (equal_values(fa, head, fb, shared, &equal, e) != 0)
        return -1;
    s->config.untied = !equal;
    return 0;
}

/* ---- open and close ---- */

static bool ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text), k = strlen(tail);
    return n >= k && strcmp(text + n - k, tail) == 0;
}

struct t5_source *t5_source_open(const char *config_path, const char *weights_path, int32_t codes, struct err *e)
{
    struct t5_source *s = xcalloc(1, sizeof *s);
    s->label = xstrdup(weights_path);
    int result = open_config(s, config_path, codes, e);
    if (result == 0)
        result = ends_with(weights_path, ".index.json") ? open_index(s, weights_path, e) : add_file(s, weights_path, e);
    if (result == 0)
        result = decide_untied(s, e);
    if (result == 0)
        return s;
    t5_source_close(s);
    return NULL;
}

struct t5_source *t5_source_folder(const char *folder, int32_t codes, struct err *e)
{
    char *config = path_join(folder, "config.json"), *one = path_join(folder, "model.safetensors");
    char *index = path_join(folder, "model.safetensors.index.json");
    struct t5_source *s = NULL;
    if (file_exists(config) && !file_exists(one) && !file_exists(index))
        err_set(e, ERR_NO_INPUT, "%s: has neither model.safetensors nor model.safetensors.index.json (other formats must be converted first)",
                folder);
    else
        s = t5_source_open(config, file_exists(one) ? one : index, codes, e);
    free(config);
    free(one);
    free(index);
    return s;
}

void t5_source_close(struct t5_source *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < s->files; i++)
        safetensors_close(s->file[i]);
    free(s->file);
    free(s->label);
    free(s);
}

const struct t5_config *t5_source_config(const struct t5_source *s)
{
    return &s->config;
}
