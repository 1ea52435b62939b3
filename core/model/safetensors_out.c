/* safetensors_out.c: the writer: declare, stream, commit.
 *
 * The file appears under its name only when every declared byte was put and is on disk (core/base/file.h). Order is the caller's; the header
 * is padded with blanks to a multiple of 8, as other writers do, so that data is aligned for those who map it. Metadata is always
 * {"format":"pt"}, which Hugging Face's loader asks for. */
#include "safetensors.h"

#include "../base/file.h"

#include <errno.h>
#include <string.h>

struct safetensors_out {
    struct file_out file;
    char *path;
    int64_t declared, put;
};

static void quote(struct str *s, const char *text)
{
    str_puts(s, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20)
            str_printf(s, "\\u%04x", *p);
        else if (*p == '"' || *p == '\\')
            str_printf(s, "\\%c", *p);
        else
            str_append(s, p, 1);
    }
    str_puts(s, "\"");
}

static void header_entry(struct str *s, const struct safetensors_entry *x, int64_t *at)
{
    int64_t bytes = (int64_t)safetensors_dtype_size(x->dtype);
    str_puts(s, ",");
    quote(s, x->name);
    str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_dtype_name(x->dtype));
    for (int32_t i = 0; i < x->dims; i++) {
        CHECK(x->shape[i] >= 0 && !__builtin_mul_overflow(bytes, x->shape[i], &bytes));
        str_printf(s, "%s%lld", i ? "," : "", (long long)x->shape[i]);
    }
    str_printf(s, "],\"data_offsets\":[%lld,%lld]}", (long long)*at, (long long)(*at + bytes));
    *at += bytes;
}

static int write_bytes(struct safetensors_out *o, const void *data, size_t bytes, struct err *e)
{
    if (bytes == 0 || fwrite(data, 1, bytes, o->file.stream) == bytes)
        return 0;
    return err_set(e, err_from_errno(errno), "%s: write failed: %s", o->path, strerror(errno));
}

struct safetensors_out *safetensors_create(const char *path, const struct safetensors_entry *entries, int32_t count, struct err *e)
{
    struct safetensors_out *o = xcalloc(1, sizeof *o);
    if (file_out_open(&o->file, path, e) != 0) {
        free(o);
        return NULL;
    }
    o->path = xstrdup(path);
    struct str header = {0};
    str_puts(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int32_t i = 0; i < count; i++)
        header_entry(&header, &entries[i], &o->declared);
    str_puts(&header, "}");
    while (header.size % 8)
        str_puts(&header, " ");
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
    int result = write_bytes(o, size, sizeof size, e);
    if (result == 0)
        result = write_bytes(o, header.data, header.size, e);
    str_free(&header);
    if (result == 0)
        return o;
    safetensors_cancel(o);
    return NULL;
}

int safetensors_put(struct safetensors_out *o, const void *data, size_t bytes, struct err *e)
{
    o->put += (int64_t)bytes;
    CHECK(o->put <= o->declared);
    return write_bytes(o, data, bytes, e);
}

int safetensors_commit(struct safetensors_out *o, struct err *e)
{
    CHECK(o->put == o->declared);
    int result = file_out_commit(&o->file, e);
    free(o->path);
    free(o);
    return result;
}

void safetensors_cancel(struct safetensors_out *o)
{
    if (!o)
        return;
    file_out_cancel(&o->file);
    free(o->path);
    free(o);
}
