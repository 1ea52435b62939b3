/* t5_load.h: T5 weights from files and to files: Hugging Face folders, and our own safetensors with the same names.
 *
 * A source is an open config and one or several open safetensors files. What a checkpoint's config really says (scaling, tying, defaults) is
 * decided here, see the fixtures README, "How to read a config". Filling a model names every missing, extra and misshapen tensor in one
 * message. A source borrows nothing and may be closed as soon as the model is filled. */
#ifndef SEMINDEX_T5_LOAD_H
#define SEMINDEX_T5_LOAD_H

#include "t5.h"

struct t5_source;
/* A Hugging Face folder: config.json and model.safetensors, or model.safetensors.index.json with its files (f32, f16, bf16). codes: how many
 * of the config's vocab_size rows, the last ones, are ID codes; -1 = what the config itself says ("semindex_codes", else 0). */
struct t5_source *t5_source_folder(const char *folder, int32_t codes, struct err *e);
/* A config file and a weights file (.safetensors, or .index.json beside its files) by their paths. */
struct t5_source *t5_source_open(const char *config_path, const char *weights_path, int32_t codes, struct err *e);
void t5_source_close(struct t5_source *s);                      /* NULL is fine */
const struct t5_config *t5_source_config(const struct t5_source *s); /* untied is what the files say */

enum t5_fill {
    T5_FILL_EXACT, /* the model's tensors (extras too) and the source's are the same set with the same shapes */
    T5_FILL_START  /* T5's own tensors must be there; code rows and extras that the source lacks keep their values; its other tensors are left */
};
/* Copies the source's values into m and refreshes its weights. On -1 the model's values are unspecified; e names files, tensors, shapes. */
int t5_source_fill(const struct t5_source *s, struct t5 *m, enum t5_fill fill, struct err *e);

struct t5_load_options {
    bool train;
    const struct t5_extra *extra; /* tensors that the source must hold besides T5's */
    int32_t extra_count;
};
/* t5_init with the source's config, then an exact fill. The caller frees the model. o may be NULL: inference, no extras. */
struct t5 *t5_load(const struct backend *be, const struct t5_source *s, const struct t5_load_options *o, struct err *e);

/* All tensors, extras too, as F32 safetensors under their names; whole or not at all. */
int t5_save(const struct t5 *m, const char *path, struct err *e);

/* config.json as Hugging Face writes it, plus "semindex_codes"; the caller frees. t5_config_parse reads both kinds (path is for messages);
 * it leaves untied to be found out from the weights, except that semindex's own configs say it. */
char *t5_config_print(const struct t5_config *c);
int t5_config_parse(struct t5_config *c, const char *json, size_t size, const char *path, int32_t codes, struct err *e);

#endif
