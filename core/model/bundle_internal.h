/* bundle_internal.h: the manifest of a bundle in memory: what bundle.c (opening, changing) and bundle_manifest.c (JSON, names) share. */
#ifndef SEMINDEX_BUNDLE_INTERNAL_H
#define SEMINDEX_BUNDLE_INTERNAL_H

#include "bundle.h"

enum { BUNDLE_FILES = 22 };

struct bundle_entry { /* one logical file; file NULL = not in the bundle */
    char *file;       /* name in the folder: NAME or NAME.N */
    char *path;       /* folder/file */
    int64_t bytes;
    char sha256[65];
};

struct manifest {
    struct bundle_entry entry[BUNDLE_FILES]; /* in the order of bundle_names */
};

extern const char *const bundle_names[BUNDLE_FILES];
int bundle_name_index(const char *name); /* -1 = no logical file has that name */
/* Whether a name in the folder could be ours: a logical name, NAME.N, their temporaries, the manifest, the lock. *index = its logical file or -1. */
bool bundle_owns(const char *file, int *index);

void manifest_free(struct manifest *m);
void manifest_copy(struct manifest *to, const struct manifest *from);
void manifest_set(struct manifest *m, int index, const char *folder, const char *file);
void manifest_clear(struct manifest *m, int index);
void manifest_digest(const struct manifest *m, const int *indices, int count, char hex[65]); /* indices NULL = all that are there */
char *manifest_print(const struct manifest *m);
/* Parses and judges; *m is freed or whole. path and folder are for messages and entry paths. */
int manifest_parse(struct manifest *m, const char *json, const char *folder, const char *path, struct err *e);

#endif
