/* evaluate_model.c: opens a task model of the bundle for ranking: weights, layout, what it reads, and a ranker over the bundle's IDs. */
#include "evaluate_internal.h"

#include "model/model_file.h"
#include "model/model_settings.h"
#include "model/need.h"

#include <stdlib.h>
#include <string.h>

static void read_settings(struct evaluate_model *m, const char *text)
{
    struct model_settings s;
    model_settings_read(&s, text);
    m->max_tokens = s.max_tokens ? s.max_tokens : 512;
    m->max_history = s.max_history ? s.max_history : 20;
    m->texts = s.texts;
    m->beam_weight = s.beam_weight;
}

static int check_memory(const struct evaluate *v, const char *part, struct err *e)
{
    struct need n = {.be = v->be};
    struct t5_options o = {0};
    int32_t rows = EVALUATE_BATCH * v->o.beam;
    char *settings = model_file_has(v->bundle, part) ? model_file_settings(v->bundle, part, NULL) : NULL;
    struct evaluate_model m;
    if (!settings || model_file_config(v->bundle, part, &o.config, NULL) != 0) {
        free(settings);
        return 0; /* reading the part says what is wrong */
    }
    read_settings(&m, settings);
    free(settings);
    const struct t5_limits l = {.encoder_tokens = EVALUATE_BATCH * m.max_tokens, .decoder_tokens = EVALUATE_BATCH, .rows = EVALUATE_BATCH,
                                .beam_rows = rows, .positions = v->ids.positions};
    need_model(&n, &o);
    need_work(&n, &o.config, &l);
    need_beam(&n, &o.config, v->ids.positions, EVALUATE_BATCH, rows);
    need_tries(&n, v->ids.positions, v->ids.count);
    return need_check(&n, part, e);
}

int evaluate_model_open(struct evaluate *v, const char *part, struct evaluate_model *m, struct err *e)
{
    char *settings = NULL;
    *m = (struct evaluate_model){0};
    if (check_memory(v, part, e) != 0)
        return -1;
    m->model = model_file_read(v->bundle, part, v->be, false, NULL, 0, &m->layout, &settings, e);
    if (m->model == NULL)
        return -1;
    read_settings(m, settings);
    free(settings);
    if (m->layout.positions != v->ids.positions)
        return err_set(e, ERR_DATA, "%s: part %s has IDs of %d positions, ids.tsv of %d", v->o.model, part, m->layout.positions,
                       v->ids.positions);
    struct ranker_limits limits = {.rows = EVALUATE_BATCH, .tokens = EVALUATE_BATCH * m->max_tokens, .width = v->o.beam};
    m->ranker = ranker_init(m->model, &m->layout, v->trie, &limits, e);
    if (m->ranker == NULL)
        return -1;
    return v->o.unconstrained ? ranker_unconstrain(m->ranker, &m->layout, e) : 0;
}

static void count_free_ids(const struct evaluate *v, struct evaluate_model *m, int32_t rows)
{
    const struct unconstrained *u = ranker_run_unconstrained(m->ranker);
    int32_t positions = m->layout.positions, count;
    for (int32_t r = 0; r < rows; r++) {
        const uint32_t *id = unconstrained_ids(u, r, &count);
        uint32_t node;
        m->free_ids += count;
        for (int32_t i = 0; i < count; i++, id += positions)
            for (int32_t t = 0; t < positions && trie_find(v->trie, id, t + 1, &node); t++)
                m->known[t]++;
    }
}

const struct beam *evaluate_model_rank(const struct evaluate *v, struct evaluate_model *m, const struct t5_batch *b)
{
    const struct beam *beam = ranker_run(m->ranker, b);
    if (v->o.unconstrained)
        count_free_ids(v, m, b->count);
    return beam;
}

void evaluate_model_facts(struct evaluate *v, const struct evaluate_model *m, const char *part)
{
    if (m->free_ids == 0)
        return;
    int32_t last = m->layout.positions - 1;
    double ids = (double)m->free_ids;
    evaluate_fact_add(&v->facts, ids, "%s_unconstrained_ids", part);
    evaluate_fact_add(&v->facts, 1 - (double)m->known[last] / ids, "%s_unconstrained_invalid_share", part);
    for (int32_t t = 0; t < last; t++)
        evaluate_fact_add(&v->facts, 1 - (double)m->known[t] / ids, "%s_unconstrained_invalid_first_%d", part, t + 1);
}

void evaluate_model_close(struct evaluate_model *m)
{
    ranker_free(m->ranker);
    t5_free(m->model);
    *m = (struct evaluate_model){0};
}

int evaluate_tokenizer_open(struct evaluate *v, struct err *e)
{
    if (v->tokenizer != NULL)
        return 0;
    const char *path = bundle_file(v->bundle, "tokenizer.model");
    if (path == NULL)
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no tokenizer to read texts with", v->o.model);
    v->tokenizer = tokenizer_open(path, e);
    return v->tokenizer == NULL ? -1 : 0;
}
