/* model_file.h: a T5 as a part of a bundle: NAME.safetensors and NAME.json.
 *
 * The weights are f32 under their Hugging Face names, extras included. NAME.json is a Hugging Face config.json of the whole model (so the pair
 * loads elsewhere too) with two more members: "layout" {base, positions, codes} where the model has ID codes, and "settings", an object
 * whose meaning belongs to whoever wrote the part. Parts: "base", "indexer", "search", "recommend". */
#ifndef SEMINDEX_MODEL_FILE_H
#define SEMINDEX_MODEL_FILE_H

#include "bundle.h"
#include "t5.h"

bool model_file_has(const struct bundle *b, const char *part);

/* Puts both files into the bundle's change (between bundle_begin and bundle_commit). layout: NULL for a model without codes; else its base
 * is the model's text vocabulary and its codes sum up to the model's. settings_json: an object's text, or NULL. */
int model_file_write(struct bundle *b, const char *part, const struct t5 *m, const struct code_layout *layout, const char *settings_json,
                     struct err *e);

/* The part as a model that the caller frees. extra: the caller's tensors, which the file must hold in these shapes; tensors of the file that
 * are neither T5's nor asked for are left. layout and settings_json (NULL when the part has none; the caller frees) may be NULL. A layout that
 * is asked for must be there and fit the model. */
struct t5 *model_file_read(const struct bundle *b, const char *part, const struct backend *be, bool train, const struct t5_extra *extra,
                           int32_t extra_count, struct code_layout *layout, char **settings_json, struct err *e);

/* The same without the weights. */
int model_file_config(const struct bundle *b, const char *part, struct t5_config *c, struct err *e);
int model_file_layout(const struct bundle *b, const char *part, struct code_layout *layout, struct err *e);
char *model_file_settings(const struct bundle *b, const char *part, struct err *e); /* caller frees; "{}" when there are none */

#endif
