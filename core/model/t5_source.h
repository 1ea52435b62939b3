/* t5_source.h: an open checkpoint, shared by t5_source.c (opens it) and t5_load.c (fills models from it). */
#ifndef SEMINDEX_T5_SOURCE_H
#define SEMINDEX_T5_SOURCE_H

#include "safetensors.h"
#include "t5_load.h"

struct t5_source {
    struct t5_config config;
    char *label; /* folder or file, for messages about the whole */
    struct safetensors **file;
    int32_t files;
};
/* The tensor of that name and its file; shared.weight may stand under the name of one of its copies. NULL if none. */
const struct safetensor *t5_source_find(const struct t5_source *s, const char *name, const struct safetensors **file);

#endif
