/* safetensors.c: reader and writer of safetensors files; the header's grammar is in safetensors_json.c.
 *
 * Reader: the file is mapped, the header is scanned into a list sorted by name, then judged as a whole: sorted by offset the tensors must
 * follow each other without gap or overlap from 0 to the end of the file. Only then does anybody see a pointer into the data. Data is not
 * aligned (a header of any length may stand before it), so values are copied out, never cast.
 *
 * Writer: the header needs all shapes before the first byte of data, so the caller declares the entries first and then streams. */
#include "safetensors.h"

#include "../base/file.h"
#include "safetensors_json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MOST = 100000000 };

struct safetensors {
    char *path;
    void *map; /* NULL when the bytes are the caller's */
    size_t map_size;
    const unsigned char *data;
    int64_t data_size;
    struct safetensor *tensor;
    int32_t count, capacity;
};

static const struct {
    const char *name;
    size_t size;
} dtypes[ST_DTYPES] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I8", 1},  {"I16", 2}, {"I32", 4},
                       {"I64", 8}, {"U8", 1},  {"U16", 2},  {"U32", 4}, {"U64", 8}, {"BOOL", 1}};

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t safetensors_dtype_size(enum safetensors_dtype dtype)
{
    return dtypes[dtype].size;
}

char *safetensors_shape_text(char *text, size_t size, const int64_t *shape, int32_t dims)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int32_t i = 0; i < dims && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

/* ---- reader ---- */

/* Elements and bytes of a shape, or -1 when they do not fit 63 bits. */
static int shape_size(const int64_t *shape, int32_t dims, enum safetensors_dtype dtype, int64_t *elements, int64_t *bytes)
{
    *elements = 1;
    for (int32_t i = 0; i < dims; i++)
        if (__builtin_mul_overflow(*elements, shape[i], elements))
            return -1;
    return __builtin_mul_overflow(*elements, (int64_t)dtypes[dtype].size, bytes) ? -1 : 0;
}

static int add_tensor(struct safetensors *s, const char *name, const struct header_entry *h, struct err *e)
{
    int64_t elements, bytes;
    if (shape_size(h->shape, h->dims, h->dtype, &elements, &bytes) != 0)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: the shape's product overflows", s->path, name);
    if (h->from > h->to || h->to > s->data_size)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: data_offsets [%lld, %lld] are outside the data (%lld bytes)", s->path, name,
                       (long long)h->from, (long long)h->to, (long long)s->data_size);
    if (h->to - h->from != bytes)
        return err_set(e, ERR_DATA, "%s: tensor %.200s: shape and dtype need %lld bytes, data_offsets give %lld", s->path, name,
                       (long long)bytes, (long long)(h->to - h->from));
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->tensor = xrealloc(s->tensor, (size_t)s->capacity, sizeof *s->tensor);
    }
    struct safetensor *t = &s->tensor[s->count++];
    *t = (struct safetensor){.name = xstrdup(name), .dtype = h->dtype, .dims = h->dims, .elements = elements,
                             .data = s->data + h->from, .bytes = (size_t)bytes};
    memcpy(t->shape, h->shape, sizeof t->shape);
    return 0;
}

static int scan_member(struct safetensors *s, struct scan *scan, struct str *name, bool *metadata, struct err *e)
{
    struct header_entry h = {0};
    if (scan_string(scan, name, e) != 0)
        return -1;
    if (!scan_take(scan, ':'))
        return scan_fail(scan, e, "expected :");
    const char *text = name->data ? name->data : "";
    if (strcmp(text, "__metadata__") == 0) {
        if (*metadata)
            return scan_fail(scan, e, "__metadata__ is there twice");
        *metadata = true;
        return scan_metadata(scan, e);
    }
    if (scan_entry(scan, text, &h, e) != 0)
        return -1;
    return add_tensor(s, text, &h, e);
}

static int scan_header(struct safetensors *s, struct scan *scan, struct err *e)
{
    struct str name = {0};
    bool metadata = false;
    if (scan->at == scan->end || *scan->at != '{')
        return scan_fail(scan, e, "the header does not begin with {");
    scan->at++;
    int result = 0;
    if (!scan_take(scan, '}')) {
        do
            result = scan_member(s, scan, &name, &metadata, e);
        while (result == 0 && scan_take(scan, ','));
        if (result == 0 && !scan_take(scan, '}'))
            result = scan_fail(scan, e, "expected , or }");
    }
    str_free(&name);
    if (result == 0 && !scan_end(scan))
        result = scan_fail(scan, e, "bytes after the header's object");
    return result;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct safetensor *x = *(const struct safetensor *const *)a, *y = *(const struct safetensor *const *)b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int check_cover(const struct safetensors *s, const struct safetensor **order, struct err *e)
{
    const unsigned char *at = s->data;
    for (int32_t i = 0; i < s->count; i++) {
        if (order[i]->data != at)
            return err_set(e, ERR_DATA, "%s: tensor %.200s: data begins at %lld, expected %lld (%s)", s->path, order[i]->name,
                           (long long)(order[i]->data - s->data), (long long)(at - s->data), order[i]->data < at ? "overlap" : "gap");
        at += order[i]->bytes;
    }
    if (at != s->data + s->data_size)
        return err_set(e, ERR_DATA, "%s: %lld bytes of data belong to no tensor", s->path, (long long)(s->data + s->data_size - at));
    return 0;
}

static int judge(struct safetensors *s, struct err *e)
{
    const struct safetensor **order = xcalloc((size_t)s->count + 1, sizeof *order);
    if (s->count > 1)
        qsort(s->tensor, (size_t)s->count, sizeof *s->tensor, by_name);
    int result = 0;
    for (int32_t i = 0; i < s->count; i++) {
        order[i] = &s->tensor[i];
        if (i && strcmp(s->tensor[i].name, s->tensor[i - 1].name) == 0)
            result = err_set(e, ERR_DATA, "%s: tensor %.200s is there twice", s->path, s->tensor[i].name);
    }
    if (s->count > 1)
        qsort(order, (size_t)s->count, sizeof *order, by_place);
    if (result == 0)
        result = check_cover(s, order, e);
    free(order);
    return result;
}

static int parse(struct safetensors *s, const unsigned char *bytes, size_t size, struct err *e)
{
    uint64_t header = 0;
    if (size < 8)
        return err_set(e, ERR_DATA, "%s: %zu bytes, a safetensors file has at least 8", s->path, size);
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)bytes[i] << (8 * i);
    if (header > HEADER_MOST || header > size - 8)
        return err_set(e, ERR_DATA, "%s: header of %llu bytes, allowed are %llu (file of %zu bytes)", s->path, (unsigned long long)header,
                       (unsigned long long)(size - 8 < HEADER_MOST ? size - 8 : HEADER_MOST), size);
    s->data = bytes + 8 + header;
    s->data_size = (int64_t)(size - 8 - header);
    struct scan scan = {.label = s->path, .begin = bytes + 8, .at = bytes + 8, .end = s->data};
    if (scan_header(s, &scan, e) != 0)
        return -1;
    return judge(s, e);
}

struct safetensors *safetensors_parse(const void *bytes, size_t size, const char *label, struct err *e)
{
    struct safetensors *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(label);
    if (parse(s, bytes, size, e) == 0)
        return s;
    safetensors_close(s);
    return NULL;
}

static int map_file(struct safetensors *s, struct err *e)
{
    struct stat info;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, err_from_errno(errno), "%s: %s", s->path, strerror(errno));
    int result = 0;
    if (fstat(fd, &info) != 0)
        result = err_set(e, err_from_errno(errno), "%s: %s", s->path, strerror(errno));
    else if (!S_ISREG(info.st_mode) || info.st_size < 8)
        result = err_set(e, ERR_DATA, "%s: not a safetensors file (%lld bytes)", s->path, (long long)info.st_size);
    if (result == 0) {
        s->map_size = (size_t)info.st_size;
        s->map = mmap(NULL, s->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (s->map == MAP_FAILED) {
            s->map = NULL;
            result = err_set(e, ERR_OS, "%s: cannot map %zu bytes: %s", s->path, s->map_size, strerror(errno));
        }
    }
    close(fd);
    return result;
}

struct safetensors *safetensors_open(const char *path, struct err *e)
{
    struct safetensors *s = xcalloc(1, sizeof *s);
    s->path = xstrdup(path);
    if (map_file(s, e) == 0 && parse(s, s->map, s->map_size, e) == 0)
        return s;
    safetensors_close(s);
    return NULL;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < s->count; i++)
        free((char *)(uintptr_t)s->tensor[i].name);
    free(s->tensor);
    if (s->map)
        munmap(s->map, s->map_size);
    free(s->path);
    free(s);
}

const char *safetensors_path(const struct safetensors *s)
{
    return s->path;
}

int32_t safetensors_count(const struct safetensors *s)
{
    return s->count;
}

const struct safetensor *safetensors_at(const struct safetensors *s, int32_t i)
{
    CHECK(i >= 0 && i < s->count);
    return &s->tensor[i];
}

const struct safetensor *safetensors_find(const struct safetensors *s, const char *name)
{
    const struct safetensor key = {.name = name};
    return s->count ? bsearch(&key, s->tensor, (size_t)s->count, sizeof key, by_name) : NULL;
}
