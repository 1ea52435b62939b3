/* quantiser_file.c: a quantiser as a part of a bundle. The bundle was checked against its digests; what is read is judged all the same: shapes
 * against the description, numbers for being finite, indices of the tree for pointing forward inside it. */
#include "../base/file.h"
#include "../base/mem.h"
#include "quantiser.h"
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MOST = 2 + 2 * QUANTISER_LAYERS_MAX + QUANTISER_LEVELS_MAX + 3 };

/* One tensor of the file: floats or ints, where in the struct. */
struct part {
    char name[32];
    int32_t dims;
    int64_t shape[2];
    float **floats;
    int32_t **ints;
};

/* Names: stem alone (index < 0), codebook.INDEX, or encoder.INDEX.STEM. */
static void add(struct part *list, int32_t *n, struct part p, const char *stem, int32_t index)
{
    list[*n] = p;
    if (index < 0)
        snprintf(list[*n].name, sizeof list[*n].name, "%s", stem);
    else if (strcmp(stem, "codebook") == 0)
        snprintf(list[*n].name, sizeof list[*n].name, "codebook.%d", index);
    else
        snprintf(list[*n].name, sizeof list[*n].name, "encoder.%d.%s", index, stem);
    (*n)++;
}

/* The tensors that a quantiser of this description has. */
static int32_t parts_of(struct quantiser *q, struct part *list)
{
    int32_t n = 0, d = q->layers ? q->layer_width[q->layers] : q->width;
    if (q->kind == QUANTISER_RQVAE)
        add(list, &n, (struct part){.dims = 1, .shape = {q->width}, .floats = &q->mean}, "input.mean", -1);
    for (int32_t i = 0; i < q->layers; i++) {
        int64_t in = q->layer_width[i], out = q->layer_width[i + 1];
        add(list, &n, (struct part){.dims = 2, .shape = {out, in}, .floats = &q->weight[i]}, "weight", i);
        add(list, &n, (struct part){.dims = 1, .shape = {out}, .floats = &q->bias[i]}, "bias", i);
    }
    for (int32_t s = 0; s < q->positions && q->kind != QUANTISER_HIERARCHICAL; s++)
        add(list, &n, (struct part){.dims = 2, .shape = {q->codes, d}, .floats = &q->codebook[s]}, "codebook", s);
    if (q->kind == QUANTISER_HIERARCHICAL) {
        add(list, &n, (struct part){.dims = 1, .shape = {q->nodes}, .ints = &q->first}, "tree.first", -1);
        add(list, &n, (struct part){.dims = 1, .shape = {q->nodes}, .ints = &q->children}, "tree.children", -1);
        add(list, &n, (struct part){.dims = 2, .shape = {q->nodes, q->width}, .floats = &q->centroid}, "tree.centroid", -1);
    }
    return n;
}

static size_t cells(const struct part *p)
{
    return (size_t)p->shape[0] * (size_t)(p->dims == 2 ? p->shape[1] : 1);
}

/* ---- writing ---- */

static int write_tensors(const struct quantiser *q, const char *path, struct err *e)
{
    struct part list[PARTS_MOST];
    struct safetensors_entry entries[PARTS_MOST];
    struct quantiser copy = *q;
    int32_t n = parts_of(&copy, list);
    for (int32_t i = 0; i < n; i++)
        entries[i] = (struct safetensors_entry){.name = list[i].name, .dtype = list[i].floats ? ST_F32 : ST_I32, .dims = list[i].dims,
                                                .shape = {list[i].shape[0], list[i].shape[1]}};
    struct safetensors_out *o = safetensors_create(path, entries, n, e);
    if (!o)
        return -1;
    for (int32_t i = 0; i < n; i++) {
        const void *data = list[i].floats ? (const void *)*list[i].floats : (const void *)*list[i].ints;
        if (safetensors_put(o, data, cells(&list[i]) * 4, e) < 0) {
            safetensors_cancel(o);
            return -1;
        }
    }
    return safetensors_commit(o, e);
}

static char *print_description(const struct quantiser *q)
{
    struct str s = {0};
    str_printf(&s, "{\"kind\":\"%s\",\"width\":%d,\"positions\":%d,\"codes\":%d,\"embeddings\":\"%s\",\"max_tokens\":%d,\"scale\":%.9g,",
               quantiser_name(q->kind), q->width, q->positions, q->codes, q->own ? "own" : "text", q->max_tokens, (double)q->scale);
    str_printf(&s, "\"nodes\":%d,\"layers\":[", q->nodes);
    for (int32_t i = 0; q->layers && i <= q->layers; i++)
        str_printf(&s, "%s%d", i ? "," : "", q->layer_width[i]);
    str_puts(&s, "]}\n");
    return s.data;
}

int quantiser_write(const struct quantiser *q, struct bundle *b, struct err *e)
{
    char *path = bundle_path(b, "quantiser.safetensors"), *json = print_description(q);
    int rc = write_tensors(q, path, e);
    if (rc == 0)
        rc = bundle_put(b, "quantiser.json", json, strlen(json), e);
    free(path);
    free(json);
    return rc;
}

/* ---- reading ---- */

bool quantiser_in(const struct bundle *b)
{
    return bundle_file(b, "quantiser.json") && bundle_file(b, "quantiser.safetensors");
}

static int read_int(const cJSON *o, const char *name, int32_t bounds[2], int32_t *out, struct err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    double x = cJSON_IsNumber(v) ? v->valuedouble : -1;
    if (x != floor(x) || x < bounds[0] || x > bounds[1])
        return err_set(e, ERR_DATA, "%s is %g, must be a whole number, %d .. %d", name, x, bounds[0], bounds[1]);
    *out = (int32_t)x;
    return 0;
}

static int read_layers(struct quantiser *q, const cJSON *o, struct err *e)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "layers"), *v;
    int32_t n = cJSON_GetArraySize(list);
    if (n == 1 || n > QUANTISER_LAYERS_MAX + 1 || (n > 0) != (q->kind == QUANTISER_RQVAE))
        return err_set(e, ERR_DATA, "layers: %d widths", n);
    q->layers = n ? n - 1 : 0;
    n = 0;
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= 1 && v->valuedouble <= 65536))
            return err_set(e, ERR_DATA, "layers: a width must be 1 .. 65536");
        q->layer_width[n++] = (int32_t)v->valuedouble;
    }
    return q->layers && q->layer_width[0] != q->width ? err_set(e, ERR_DATA, "layers: begins with %d, width is %d", q->layer_width[0], q->width) : 0;
}

static int read_description(struct quantiser *q, const cJSON *o, struct err *e)
{
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "kind"));
    const char *from = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "embeddings"));
    const cJSON *scale = cJSON_GetObjectItemCaseSensitive(o, "scale");
    int32_t k = 0;
    while (k < 3 && (!kind || strcmp(kind, quantiser_name((enum quantiser_kind)k))))
        k++;
    if (k == 3)
        return err_set(e, ERR_DATA, "kind is \"%.40s\", must be rq-vae, residual or hierarchical", kind ? kind : "");
    if (!from || (strcmp(from, "own") && strcmp(from, "text")))
        return err_set(e, ERR_DATA, "embeddings is \"%.40s\", must be own or text", from ? from : "");
    if (!cJSON_IsNumber(scale) || !(scale->valuedouble > 0 && scale->valuedouble < 1e30))
        return err_set(e, ERR_DATA, "scale must be a number above 0");
    q->kind = (enum quantiser_kind)k;
    q->own = !strcmp(from, "own");
    q->scale = (float)scale->valuedouble;
    if (read_int(o, "width", (int32_t[]){1, 65536}, &q->width, e) < 0 || read_int(o, "codes", (int32_t[]){1, 1 << 24}, &q->codes, e) < 0 ||
        read_int(o, "positions", (int32_t[]){1, QUANTISER_LEVELS_MAX}, &q->positions, e) < 0 ||
        read_int(o, "max_tokens", (int32_t[]){0, 1 << 16}, &q->max_tokens, e) < 0 ||
        read_int(o, "nodes", (int32_t[]){q->kind == QUANTISER_HIERARCHICAL, INT32_MAX - 1}, &q->nodes, e) < 0)
        return -1;
    return read_layers(q, o, e);
}

static int read_floats(const struct safetensors *s, const struct safetensor *t, float **out, struct err *e)
{
    *out = xmalloc((size_t)t->elements * sizeof **out);
    if (safetensors_floats(s, t, *out, e) < 0)
        return -1;
    for (int64_t i = 0; i < t->elements; i++)
        if (!isfinite((*out)[i]))
            return err_set(e, ERR_DATA, "%s: %s: a value is not finite", safetensors_path(s), t->name);
    return 0;
}

static int read_tensors(struct quantiser *q, const struct safetensors *s, struct err *e)
{
    struct part list[PARTS_MOST];
    int32_t n = parts_of(q, list);
    for (int32_t i = 0; i < n; i++) {
        const struct safetensor *t = safetensors_find(s, list[i].name);
        if (!t || t->dims != list[i].dims || t->shape[0] != list[i].shape[0] || (t->dims == 2 && t->shape[1] != list[i].shape[1]))
            return err_set(e, ERR_DATA, "%s: tensor %s is missing or has another shape than quantiser.json says", safetensors_path(s), list[i].name);
        if (list[i].floats) {
            if (read_floats(s, t, list[i].floats, e) < 0)
                return -1;
        } else {
            *list[i].ints = xmalloc((size_t)t->elements * sizeof **list[i].ints);
            if (safetensors_ints(s, t, *list[i].ints, e) < 0)
                return -1;
        }
    }
    return 0;
}

static int check_tree(const struct quantiser *q, struct err *e)
{
    for (int32_t i = 0; i < q->nodes; i++) {
        int64_t from = q->first[i], count = q->children[i];
        if (count < 0 || count > q->codes || (count > 0 && (from <= i || from + count > q->nodes)))
            return err_set(e, ERR_DATA, "tree: node %d of %d has children %lld .. %lld", i, q->nodes, (long long)from, (long long)(from + count - 1));
    }
    return 0;
}

static int read_all(struct quantiser *q, const struct bundle *b, const cJSON *o, struct err *e)
{
    if (read_description(q, o, e) < 0)
        return err_prefix(e, "%s", bundle_file(b, "quantiser.json"));
    struct safetensors *s = safetensors_open(bundle_file(b, "quantiser.safetensors"), e);
    int rc = s ? read_tensors(q, s, e) : -1;
    if (rc == 0 && q->kind == QUANTISER_HIERARCHICAL && (rc = check_tree(q, e)) < 0)
        err_prefix(e, "%s", safetensors_path(s));
    safetensors_close(s);
    return rc;
}

struct quantiser *quantiser_read(const struct bundle *b, struct err *e)
{
    char *json = file_read(bundle_file(b, "quantiser.json"), 1 << 20, NULL, e);
    if (!json)
        return NULL;
    struct quantiser *q = xcalloc(1, sizeof *q);
    cJSON *o = cJSON_Parse(json);
    int rc = read_all(q, b, o, e);
    cJSON_Delete(o);
    free(json);
    if (rc == 0)
        return q;
    quantiser_free(q);
    return NULL;
}
