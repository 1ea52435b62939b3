/* t5_load.c: fills a model from an open checkpoint, and saves a model.
 *
 * The comparison of names and shapes comes first and sees everything, so that a person gets the whole list of what does not fit in one
 * message (as many as the message holds, and the number of all); only then are values copied. A value that is not finite is refused here: it
 * would turn every later score into NaN far from its cause. */
#include "t5_internal.h"
#include "t5_source.h"

#include "../base/mem.h"

#include <math.h>
#include <string.h>

/* ---- what does not fit ---- */

struct misfits {
    struct str text;
    int32_t count, shown;
};

static void misfit(struct misfits *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void misfit(struct misfits *f, const char *format, ...)
{
    char line[400];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    f->count++;
    if (f->text.size + strlen(line) > 700)
        return;
    str_printf(&f->text, "%s%s", f->shown++ ? "; " : "", line);
}

static int misfits_end(struct misfits *f, const struct t5_source *s, struct err *e)
{
    int result = 0;
    if (f->count)
        result = err_set(e, ERR_DATA, "%.150s: %d tensor(s) do not fit the config: %s%s", s->label, f->count, f->text.data ? f->text.data : "",
                         f->shown < f->count ? "; and others" : "");
    str_free(&f->text);
    return result;
}

/* Rows that the source must have for t: fewer code rows are fine at a start. */
static bool rows_fit(const struct t5 *m, const struct t5_tensor *t, int64_t rows, enum t5_fill fill)
{
    bool vocabulary = strcmp(t->name, "shared.weight") == 0 || strcmp(t->name, "lm_head.weight") == 0;
    if (fill == T5_FILL_START && vocabulary)
        return rows >= m->config.vocab && rows <= t->rows;
    return rows == t->rows;
}

static bool shape_fits(const struct t5 *m, const struct t5_tensor *t, const struct safetensor *x, enum t5_fill fill)
{
    if (x->dtype > ST_F64)
        return false;
    if (t->kind == T5_NORM)
        return x->dims == 1 && x->shape[0] == t->cols;
    return x->dims == 2 && rows_fit(m, t, x->shape[0], fill) && x->shape[1] == t->cols;
}

static void expected_text(char *text, size_t size, const struct t5_tensor *t)
{
    const int64_t shape[2] = {t->rows, t->cols};
    bool norm = t->kind == T5_NORM;
    safetensors_shape_text(text, size, shape + norm, norm ? 1 : 2);
}

static void check_tensor(const struct t5_source *s, const struct t5 *m, int32_t i, enum t5_fill fill, struct misfits *f)
{
    const struct t5_tensor *t = &m->tensor[i];
    const struct safetensors *file;
    const struct safetensor *x = t5_source_find(s, t->name, &file);
    char expected[64], found[200];
    expected_text(expected, sizeof expected, t);
    if (!x && !(fill == T5_FILL_START && i >= m->own))
        misfit(f, "missing %s %s", t->name, expected);
    if (!x || shape_fits(m, t, x, fill))
        return;
    safetensors_shape_text(found, sizeof found, x->shape, x->dims);
    misfit(f, "%s is %s %s in %s, expected %s", t->name, safetensors_dtype_name(x->dtype), found, safetensors_path(file), expected);
}

/* Tensors that checkpoints carry and nobody needs. */
static bool ignored(const struct t5 *m, const char *name)
{
    static const char *const names[] = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
                                        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return !m->config.untied && strcmp(name, "lm_head.weight") == 0;
}

static void check_extra(const struct safetensors *file, const struct t5 *m, struct misfits *f)
{
    char found[200];
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *x = safetensors_at(file, i);
        if (t5_tensor_find(m, x->name) || ignored(m, x->name))
            continue;
        safetensors_shape_text(found, sizeof found, x->shape, x->dims);
        misfit(f, "unexpected %.120s %s in %s", x->name, found, safetensors_path(file));
    }
}

/* ---- values ---- */

static int copy_tensor(const struct t5_source *s, struct t5 *m, const struct t5_tensor *t, struct err *e)
{
    const struct safetensors *file;
    const struct safetensor *x = t5_source_find(s, t->name, &file);
    if (!x)
        return 0;
    float *values = xmalloc((size_t)x->elements * sizeof *values);
    int result = safetensors_floats(file, x, values, e);
    for (int64_t i = 0; result == 0 && i < x->elements; i++)
        if (!isfinite(values[i]))
            result = err_set(e, ERR_DATA, "%s: tensor %s: element %lld is not a finite number", safetensors_path(file), t->name, (long long)i);
    if (result == 0)
        m->be->write(m->master + t->offset, values, (size_t)x->elements * sizeof *values);
    free(values);
    return result;
}

int t5_source_fill(const struct t5_source *s, struct t5 *m, enum t5_fill fill, struct err *e)
{
    struct misfits f = {0};
    for (int32_t i = 0; i < m->tensors; i++)
        check_tensor(s, m, i, fill, &f);
    for (int32_t i = 0; fill == T5_FILL_EXACT && i < s->files; i++)
        check_extra(s->file[i], m, &f);
    int result = misfits_end(&f, s, e);
    for (int32_t i = 0; result == 0 && i < m->tensors; i++)
        result = copy_tensor(s, m, &m->tensor[i], e);
    if (result == 0)
        t5_refresh(m);
    return result;
}

struct t5 *t5_load(const struct backend *be, const struct t5_source *s, const struct t5_load_options *o, struct err *e)
{
    struct t5_options options = {.config = s->config};
    if (o) {
        options.train = o->train;
        options.extra = o->extra;
        options.extra_count = o->extra_count;
    }
    struct t5 *m = t5_init(be, &options, e);
    if (!m)
        return NULL;
    if (t5_source_fill(s, m, T5_FILL_EXACT, e) == 0)
        return m;
    t5_free(m);
    return NULL;
}

/* ---- saving ---- */

static int put_tensor(const struct t5 *m, const struct t5_tensor *t, struct safetensors_out *o, struct err *e)
{
    size_t bytes = (size_t)t->rows * (size_t)t->cols * sizeof(float);
    float *values = xmalloc(bytes);
    m->be->read(values, m->master + t->offset, bytes);
    int result = safetensors_put(o, values, bytes, e);
    free(values);
    return result;
}

int t5_save(const struct t5 *m, const char *path, struct err *e)
{
    struct safetensors_entry *entry = xcalloc((size_t)m->tensors, sizeof *entry);
    for (int32_t i = 0; i < m->tensors; i++) {
        const struct t5_tensor *t = &m->tensor[i];
        bool norm = t->kind == T5_NORM;
        entry[i] = (struct safetensors_entry){.name = t->name, .dtype = ST_F32, .dims = norm ? 1 : 2,
                                              .shape = {norm ? t->cols : t->rows, norm ? 0 : t->cols}};
    }
    struct safetensors_out *o = safetensors_create(path, entry, m->tensors, e);
    free(entry);
    if (!o)
        return -1;
    for (int32_t i = 0; i < m->tensors; i++)
        if (put_tensor(m, &m->tensor[i], o, e) != 0) {
            safetensors_cancel(o);
            return -1;
        }
    return safetensors_commit(o, e);
}
