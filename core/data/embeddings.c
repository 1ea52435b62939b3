/* embeddings.c: see embeddings.h. The .npy header is a Python dict literal with three known keys; it is read by a scanner that takes exactly
 * what NumPy writes (any key order, any white space) and nothing else. Sizes are multiplied with overflow checks before memory is asked for,
 * and compared with the file's, so that a hostile header costs nothing. Values go through a buffer of whole rows. */
#include "embeddings.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "../model/safetensors.h"
#include "../text/document.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HEADER_MOST = 1 << 16, CHUNK = 1 << 18 };

struct npy {
    const char *path;
    int element; /* bytes */
    bool fortran, has_descr, has_order, has_shape;
    int64_t rows, cols;
};

void embeddings_free(struct embeddings *m)
{
    spill_free(&m->memory);
    *m = (struct embeddings){0};
}

static int embeddings_alloc(struct embeddings *out, int32_t count, int32_t width, const char *folder, struct err *e)
{
    *out = (struct embeddings){.count = count, .width = width};
    if (spill_alloc(&out->memory, (size_t)count * (size_t)width * sizeof(float), folder, e) < 0)
        return -1;
    out->values = out->memory.data;
    return 0;
}

int embeddings_named(struct embeddings *out, int32_t count, int32_t width, const char *path, struct err *e)
{
    *out = (struct embeddings){.count = count, .width = width};
    if (spill_named(&out->memory, (size_t)count * (size_t)width * sizeof(float), path, e) < 0)
        return -1;
    out->values = out->memory.data;
    return 0;
}

static int check_shape(const char *path, int64_t rows, int64_t cols, struct err *e)
{
    if (rows < 1 || rows > INT32_MAX)
        return err_set(e, ERR_DATA, "%s: %lld rows; 1 to %d can be read", path, (long long)rows, INT32_MAX);
    if (cols < 1 || cols > EMBEDDING_WIDTH_MOST)
        return err_set(e, ERR_DATA, "%s: rows of %lld numbers; 1 to %d can be read", path, (long long)cols, EMBEDDING_WIDTH_MOST);
    return 0;
}

static int check_finite(const struct embeddings *m, const char *path, struct err *e)
{
    int64_t cells = (int64_t)m->count * m->width;
    for (int64_t i = 0; i < cells; i++)
        if (!isfinite(m->values[i]))
            return err_set(e, ERR_DATA, "%s: row %lld, column %lld (from 0) is not a finite number", path, (long long)(i / m->width),
                           (long long)(i % m->width));
    return 0;
}

/* ---- .npy: the header ---- */

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\t')
        p++;
    return p;
}

/* Text between quotes; NULL when there is none. Moves *p behind it. */
static const char *take_quoted(const char **p, size_t *size)
{
    const char *from = skip_space(*p);
    if (*from != '\'' && *from != '"')
        return NULL;
    const char *to = strchr(from + 1, *from);
    if (!to)
        return NULL;
    *size = (size_t)(to - from - 1);
    *p = to + 1;
    return from + 1;
}

static bool take_char(const char **p, char c)
{
    const char *at = skip_space(*p);
    if (*at != c)
        return false;
    *p = at + 1;
    return true;
}

static bool take_word(const char **p, const char *word)
{
    const char *at = skip_space(*p);
    if (strncmp(at, word, strlen(word)) != 0)
        return false;
    *p = at + strlen(word);
    return true;
}

static bool take_count(const char **p, int64_t *value)
{
    const char *at = skip_space(*p);
    char *end;
    errno = 0;
    if (*at < '0' || *at > '9')
        return false;
    *value = strtoll(at, &end, 10);
    *p = end;
    return errno == 0;
}

static int take_descr(struct npy *h, const char **p, struct err *e)
{
    size_t size;
    const char *text = take_quoted(p, &size);
    if (!text)
        return err_set(e, ERR_DATA, "%s: its header names no dtype; '<f4' and '<f2' can be read", h->path);
    h->has_descr = true;
    h->element = size == 3 && memcmp(text, "<f4", 3) == 0 ? 4 : size == 3 && memcmp(text, "<f2", 3) == 0 ? 2 : 0;
    return h->element ? 0 : err_set(e, ERR_DATA, "%s: dtype '%.*s'; '<f4' and '<f2' can be read", h->path, (int)(size < 40 ? size : 40), text);
}

static int take_shape(struct npy *h, const char **p, struct err *e)
{
    if (!take_char(p, '(') || !take_count(p, &h->rows) || !take_char(p, ',') || !take_count(p, &h->cols))
        return err_set(e, ERR_DATA, "%s: an array of two dimensions is needed, (documents, width)", h->path);
    take_char(p, ',');
    if (!take_char(p, ')'))
        return err_set(e, ERR_DATA, "%s: an array of two dimensions is needed, (documents, width)", h->path);
    h->has_shape = true;
    return check_shape(h->path, h->rows, h->cols, e);
}

static int take_member(struct npy *h, const char **p, struct err *e)
{
    size_t size;
    const char *key = take_quoted(p, &size);
    if (!key || !take_char(p, ':'))
        return err_set(e, ERR_DATA, "%s: its .npy header cannot be read", h->path);
    if (size == 5 && memcmp(key, "descr", 5) == 0)
        return take_descr(h, p, e);
    if (size == 5 && memcmp(key, "shape", 5) == 0)
        return take_shape(h, p, e);
    if (size != 13 || memcmp(key, "fortran_order", 13) != 0)
        return err_set(e, ERR_DATA, "%s: its .npy header has an unknown key \"%.*s\"", h->path, (int)(size < 40 ? size : 40), key);
    h->has_order = true;
    if (take_word(p, "False"))
        return 0;
    return err_set(e, ERR_DATA, "%s: in Fortran order; save it in C order (numpy.ascontiguousarray)", h->path);
}

static int parse_header(struct npy *h, const char *text, struct err *e)
{
    const char *p = text;
    bool more = take_char(&p, '{');
    while (more && !take_char(&p, '}')) {
        if (take_member(h, &p, e) < 0)
            return -1;
        if (!take_char(&p, ',')) {
            more = take_char(&p, '}');
            break;
        }
    }
    if (!more || *skip_space(p) || !h->has_descr || !h->has_order || !h->has_shape)
        return err_set(e, ERR_DATA, "%s: its .npy header cannot be read", h->path);
    return 0;
}

/* Reads magic, version and header; the stream then stands at the values. */
static int read_header(struct npy *h, FILE *f, struct err *e)
{
    unsigned char head[12] = {0};
    size_t got = fread(head, 1, 8, f), extra = 2;
    if (got != 8 || head[6] < 1 || head[6] > 3)
        return err_set(e, ERR_DATA, "%s: .npy version %d.%d; 1 to 3 can be read", h->path, head[6], head[7]);
    if (head[6] > 1)
        extra = 4;
    if (fread(head + 8, 1, extra, f) != extra)
        return err_set(e, ERR_DATA, "%s: ends inside its header", h->path);
    size_t size = (size_t)head[8] | (size_t)head[9] << 8 | (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (size > HEADER_MOST)
        return err_set(e, ERR_DATA, "%s: a header of %zu bytes; at most %d are read", h->path, size, HEADER_MOST);
    char *text = xcalloc(size + 1, 1);
    int rc = fread(text, 1, size, f) == size ? parse_header(h, text, e) : err_set(e, ERR_DATA, "%s: ends inside its header", h->path);
    free(text);
    return rc;
}

/* ---- .npy: the values ---- */

static float half_to_float(uint16_t h)
{
    uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
    float value = exponent == 31  ? (mantissa ? NAN : INFINITY)
                  : exponent == 0 ? ldexpf((float)mantissa, -24)
                                  : ldexpf((float)(mantissa + 1024), (int)exponent - 25);
    return h & 0x8000 ? -value : value;
}

static void convert(float *out, const unsigned char *bytes, size_t n, int element)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *b = bytes + i * (size_t)element;
        if (element == 2) {
            out[i] = half_to_float((uint16_t)(b[0] | b[1] << 8));
        } else {
            uint32_t u = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
            memcpy(&out[i], &u, sizeof u);
        }
    }
}

static int read_values(const struct npy *h, FILE *f, float *out, struct err *e)
{
    unsigned char *buffer = xmalloc(CHUNK);
    size_t left = (size_t)(h->rows * h->cols), each = (size_t)(CHUNK / h->element);
    int rc = 0;
    while (rc == 0 && left > 0) {
        size_t n = left < each ? left : each;
        if (fread(buffer, (size_t)h->element, n, f) != n)
            rc = err_set(e, ERR_IO, "%s: cannot be read to its end", h->path);
        else
            convert(out, buffer, n, h->element);
        out += n;
        left -= n;
    }
    free(buffer);
    return rc;
}

static int read_npy(struct embeddings *out, const char *path, const char *folder, FILE *f, struct err *e)
{
    struct npy h = {.path = path};
    struct stat st;
    if (read_header(&h, f, e) < 0)
        return -1;
    int64_t want = h.rows * h.cols * h.element, at = ftell(f);
    if (fstat(fileno(f), &st) < 0 || at < 0 || st.st_size - at != want)
        return err_set(e, ERR_DATA, "%s: %lld bytes of values; its header (%lld rows of %lld) needs %lld", path, (long long)(st.st_size - at),
                       (long long)h.rows, (long long)h.cols, (long long)want);
    if (embeddings_alloc(out, (int32_t)h.rows, (int32_t)h.cols, folder, e) < 0)
        return -1;
    return read_values(&h, f, out->values, e);
}

/* ---- .safetensors ---- */

static const struct safetensor *pick_tensor(const struct safetensors *s, struct err *e)
{
    const struct safetensor *named = safetensors_find(s, "embeddings"), *only = NULL;
    int found = 0;
    for (int32_t i = 0; i < safetensors_count(s); i++)
        if (safetensors_at(s, i)->dims == 2) {
            only = safetensors_at(s, i);
            found++;
        }
    if (named && named->dims == 2)
        return named;
    if (!named && found == 1)
        return only;
    err_set(e, ERR_DATA, "%s: no tensor \"embeddings\" of two dimensions, and %d others that have two", safetensors_path(s), found);
    return NULL;
}

static int read_safetensors(struct embeddings *out, const char *path, const char *folder, struct err *e)
{
    struct safetensors *s = safetensors_open(path, e);
    const struct safetensor *t = s ? pick_tensor(s, e) : NULL;
    int rc = t ? check_shape(path, t->shape[0], t->shape[1], e) : -1;
    if (rc == 0)
        rc = embeddings_alloc(out, (int32_t)t->shape[0], (int32_t)t->shape[1], folder, e);
    if (rc == 0)
        rc = safetensors_floats(s, t, out->values, e);
    safetensors_close(s);
    return rc;
}

int embeddings_read(struct embeddings *out, const char *path, const char *folder, struct err *e)
{
    char magic[6] = {0};
    *out = (struct embeddings){0};
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, err_from_errno(errno), "%s: the embeddings cannot be opened: %s", path, strerror(errno));
    bool npy = fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "\x93NUMPY", 6) == 0;
    rewind(f);
    int rc = npy ? read_npy(out, path, folder, f, e) : read_safetensors(out, path, folder, e);
    fclose(f);
    if (rc == 0)
        rc = check_finite(out, path, e);
    if (rc < 0)
        embeddings_free(out);
    return rc;
}

/* ---- order ---- */

/* Row of every id of the list. */
static struct string_map *read_ids(const struct embeddings_order *o, int32_t rows, struct err *e)
{
    struct lines *l = lines_open(o->ids_path, e);
    if (!l)
        return NULL;
    struct string_map *map = string_map_init(rows);
    char *line;
    size_t size;
    int32_t n = 0;
    int rc;
    while ((rc = lines_next(l, &line, &size, e)) == 1) {
        if (!string_map_put(map, line, size, n)) {
            rc = err_set(e, ERR_DATA, "%s: line %lld: \"%.100s\" is there twice", o->ids_path, (long long)lines_number(l), line);
            break;
        }
        n++;
    }
    lines_close(l);
    if (rc == 0 && n != rows)
        rc = err_set(e, ERR_DATA, "%s: %d ids; %s has %d rows", o->ids_path, n, o->path, rows);
    if (rc == 0)
        return map;
    string_map_free(map);
    return NULL;
}

static int order_by_ids(struct embeddings *m, const struct embeddings_order *o, struct err *e)
{
    struct string_map *map = read_ids(o, m->count, e);
    if (!map)
        return -1;
    size_t width = (size_t)m->width;
    struct embeddings sorted;
    int32_t missing = 0, first = 0;
    if (embeddings_alloc(&sorted, o->used, m->width, o->folder, e) < 0) {
        string_map_free(map);
        return -1;
    }
    for (int32_t i = o->used; i-- > 0;) {
        int32_t row = string_map_get(map, o->documents[i].id, strlen(o->documents[i].id));
        if (row < 0) {
            missing++;
            first = i;
        } else {
            memcpy(sorted.values + (size_t)i * width, m->values + (size_t)row * width, width * sizeof *m->values);
        }
    }
    string_map_free(map);
    embeddings_free(m);
    *m = sorted;
    return missing ? err_set(e, ERR_DATA, "%s: %d of %d documents have no embedding, the first is \"%.100s\"", o->ids_path, missing, o->used,
                             o->documents[first].id)
                   : 0;
}

int embeddings_order(struct embeddings *m, const struct embeddings_order *o, struct err *e)
{
    if (o->ids_path)
        return order_by_ids(m, o, e);
    if (m->count != o->corpus)
        return err_set(e, ERR_DATA, "%s: %d rows; the corpus has %d documents (rows in another order need a list of ids)", o->path, m->count, o->corpus);
    for (int32_t i = 0; o->place && i < o->used; i++)
        memmove(m->values + (size_t)i * (size_t)m->width, m->values + (size_t)o->place[i] * (size_t)m->width, (size_t)m->width * sizeof(float));
    m->count = o->used;
    return 0;
}
