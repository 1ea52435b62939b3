/* safetensors.h: the safetensors format, read by mmap and written whole or not at all.
 *
 * File: 8 bytes little-endian header size, a JSON object {name: {"dtype", "shape", "data_offsets": [begin, end]}}, then the data. The reader
 * trusts nothing: header at most 100 MB and inside the file, strict JSON, known dtypes, shapes multiplied with overflow checks, every
 * tensor's bytes equal to its shape's, and the tensors cover the data exactly: no gap, no overlap. Names are unique. Source of the format:
 * the safetensors project's README. */
#ifndef SEMINDEX_SAFETENSORS_H
#define SEMINDEX_SAFETENSORS_H

#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>

enum safetensors_dtype { ST_F32, ST_F16, ST_BF16, ST_F64, ST_I8, ST_I16, ST_I32, ST_I64, ST_U8, ST_U16, ST_U32, ST_U64, ST_BOOL, ST_DTYPES };
enum { SAFETENSORS_DIMS = 8 };

struct safetensor {
    const char *name;
    enum safetensors_dtype dtype;
    int32_t dims; /* 0 = a scalar */
    int64_t shape[SAFETENSORS_DIMS];
    int64_t elements;
    const unsigned char *data; /* little-endian, NOT aligned */
    size_t bytes;
};

struct safetensors; /* an open file; owns names and the mapping */
struct safetensors *safetensors_open(const char *path, struct err *e);
/* The same over bytes that the caller keeps alive until close; `label` stands for the path in messages. */
struct safetensors *safetensors_parse(const void *bytes, size_t size, const char *label, struct err *e);
void safetensors_close(struct safetensors *s); /* NULL is fine */

const char *safetensors_path(const struct safetensors *s);
int32_t safetensors_count(const struct safetensors *s);
const struct safetensor *safetensors_at(const struct safetensors *s, int32_t i); /* sorted by name, bytewise */
const struct safetensor *safetensors_find(const struct safetensors *s, const char *name); /* NULL if none */

/* Values as f32 (from F32, F16, BF16, F64) or as int32 (from I8..I64, U8..U64, BOOL that fit), elements of them. -1 names path and tensor. */
int safetensors_floats(const struct safetensors *s, const struct safetensor *t, float *out, struct err *e);
int safetensors_ints(const struct safetensors *s, const struct safetensor *t, int32_t *out, struct err *e);
const char *safetensors_dtype_name(enum safetensors_dtype dtype);
size_t safetensors_dtype_size(enum safetensors_dtype dtype);
/* "[2, 3]" into text; returns text. */
char *safetensors_shape_text(char *text, size_t size, const int64_t *shape, int32_t dims);

/* ---- writing ---- */
struct safetensors_entry {
    const char *name; /* UTF-8 */
    enum safetensors_dtype dtype;
    int32_t dims;
    int64_t shape[SAFETENSORS_DIMS];
};
struct safetensors_out;
/* Writes the header to a temporary file beside path; then the caller puts the tensors' bytes in the order of `entries`, in pieces of any size,
 * and commits (fsync, rename, fsync of the folder). Equal entries and bytes give equal files. NULL / -1 with an error; cancel removes the
 * temporary and frees; commit frees in any case. */
struct safetensors_out *safetensors_create(const char *path, const struct safetensors_entry *entries, int32_t count, struct err *e);
int safetensors_put(struct safetensors_out *o, const void *data, size_t bytes, struct err *e);
int safetensors_commit(struct safetensors_out *o, struct err *e);
void safetensors_cancel(struct safetensors_out *o);

#endif
