/* model_settings.h: what a part of a bundle says about its own input, read from its settings (model_file_settings). */
#ifndef SEMINDEX_MODEL_SETTINGS_H
#define SEMINDEX_MODEL_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

struct model_settings { /* 0 = not said */
    int32_t max_tokens;  /* input tokens, EOS included */
    int32_t max_history; /* items */
    bool from_base;      /* the indexer was learned from an imported T5 */
    bool from_indexer;   /* a task: its weights started from the indexer's, so its states lie near the documents' vectors */
    bool texts;          /* "input":"texts": histories are read as texts, else as semantic IDs */
    double beam_weight;  /* of the beam's list where a task's rankings are fused with others; 1 when not said */
};
/* json may be NULL; values out of range read as not said. */
void model_settings_read(struct model_settings *s, const char *json);

#endif
