/* parity_lmindexer.c: the LMIndexer objective against lmindexer/ of a reference folder: positions t = 1, 2, .., both stages, vectors, the four
 * losses and every gradient by name. Sizes come from the files; the T5 is ../t5_v10. Code rows of the model hold code_embed.i; a position that
 * has none in the folder (the last) keeps zero rows, which nothing reads. */
#include "parity.h"
#include "../../core/base/mem.h"
#include "../../core/learn/lmindexer.h"
#include "../../core/model/t5_load.h"

#include <string.h>

struct lm_case {
    struct parity *p;
    const struct backend *be;
    struct safetensors *weights, *data;
    struct t5 *model;
    struct lm_work *work;
    struct lm_batch batch;
    int32_t positions, codes, rows, documents, text_tokens;
    int32_t *tokens, *offsets, *prefix, *negatives, *negative_offsets, *hint_offsets, *second_view;
    int64_t *visible_offsets;
    struct err e;
};

static int32_t *ints(struct lm_case *c, const char *name, int64_t *n)
{
    const struct safetensor *t = safetensors_find(c->data, name);
    if (!t) {
        *n = 0;
        return NULL;
    }
    int32_t *out = xcalloc((size_t)t->elements + 1, sizeof *out);
    CHECK(safetensors_ints(c->data, t, out, NULL) == 0);
    *n = t->elements;
    return out;
}

static int32_t *ints_named(struct lm_case *c, const char *name, int64_t *n)
{
    int32_t *out = ints(c, name, n);
    if (!out)
        parity_missing(c->p, name);
    return out;
}

/* Copies a tensor of the folder into rows [first, ..) of a tensor of the model. */
static int put_tensor(struct lm_case *c, const char *from, const char *to, int64_t first_row)
{
    const struct safetensor *s = safetensors_find(c->weights, from);
    const struct t5_tensor *t = t5_tensor_find(c->model, to);
    if (!s || !t) {
        parity_missing(c->p, from);
        return -1;
    }
    float *host = xcalloc((size_t)s->elements, sizeof *host);
    CHECK(safetensors_floats(c->weights, s, host, NULL) == 0 && first_row * t->cols + s->elements <= (int64_t)t->rows * t->cols);
    c->be->write(t5_master(c->model) + t->offset + first_row * t->cols, host, (size_t)s->elements * sizeof *host);
    free(host);
    return 0;
}

static int count_positions(const struct safetensors *weights)
{
    char name[32];
    for (int32_t t = 1;; t++) {
        snprintf(name, sizeof name, "codebook.%d", t);
        if (!safetensors_find(weights, name))
            return t - 1;
    }
}

/* A model of t5_v10's config with code rows and the extras, all weights from the two folders. */
static int open_model(struct lm_case *c, const char *t5_folder)
{
    struct t5_source *base = t5_source_folder(t5_folder, 0, &c->e);
    if (!base)
        return -1;
    struct t5_config config = *t5_source_config(base);
    const struct safetensor *book = safetensors_find(c->weights, "codebook.1");
    c->positions = count_positions(c->weights);
    c->codes = book ? (int32_t)book->shape[0] : 0;
    config.codes = c->positions * c->codes;
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    const struct t5_options o = {.config = config, .train = true, .extra = extra,
                                 .extra_count = lmindexer_extras(&config, c->positions, c->codes, extra)};
    c->model = t5_init(c->be, &o, &c->e);
    CHECK(c->model);
    int rc = t5_source_fill(base, c->model, T5_FILL_START, &c->e);
    t5_source_close(base);
    if (rc < 0)
        return -1;
    for (int32_t i = 0; i < o.extra_count; i++)
        if (put_tensor(c, extra[i].name, extra[i].name, 0) < 0)
            return -1;
    for (int32_t t = 1; t < c->positions; t++) {
        char name[32];
        snprintf(name, sizeof name, "code_embed.%d", t);
        if (put_tensor(c, name, "shared.weight", config.vocab + (t - 1) * c->codes) < 0)
            return -1;
    }
    t5_refresh(c->model);
    return 0;
}

static int read_batch(struct lm_case *c, int32_t t)
{
    int64_t n, offsets, masks;
    c->tokens = ints_named(c, "rows.tokens", &n);
    c->offsets = ints_named(c, "rows.offsets", &offsets);
    c->hint_offsets = ints_named(c, "hints.offsets", &masks);
    const struct safetensor *visible = safetensors_find(c->data, "hints.visible");
    if (!c->tokens || !c->offsets || !c->hint_offsets || !visible)
        return -1;
    parity_used(c->p, "hints.visible");
    c->rows = (int32_t)offsets - 1;
    c->documents = (int32_t)masks - 1;
    c->second_view = xcalloc((size_t)c->documents, sizeof(int32_t));
    c->visible_offsets = xcalloc((size_t)masks, sizeof(int64_t));
    for (int32_t i = 0; i <= c->documents; i++)
        c->visible_offsets[i] = c->hint_offsets[i];
    c->text_tokens = c->offsets[c->documents] - c->documents;
    c->prefix = t > 1 ? ints_named(c, "rows.prefix", &n) : NULL;
    c->negatives = t > 1 ? ints_named(c, "negatives.rows", &n) : NULL;
    c->negative_offsets = t > 1 ? ints_named(c, "negatives.offsets", &n) : NULL;
    for (int32_t i = 0; i < c->documents; i++) {
        bool has = t == 1 || (c->negative_offsets && c->negative_offsets[i + 1] > c->negative_offsets[i]);
        c->second_view[i] = has ? c->documents + i : -1;
    }
    c->batch = (struct lm_batch){.position = t - 1, .documents = c->documents, .rows = {c->rows, c->tokens, c->offsets},
                                 .prefix = c->prefix, .visible = visible->data, .visible_offsets = c->visible_offsets,
                                 .second_view = c->second_view, .negatives = c->negatives, .negative_offsets = c->negative_offsets,
                                 .target_share = 1, .contrastive_temperature = 1, .weight_recon = 1, .weight_contrastive = 1,
                                 .weight_commitment = 1};
    return t > 1 && (!c->prefix || !c->negatives || !c->negative_offsets) ? -1 : 0;
}

static void check_losses(struct lm_case *c, const char *stage, const struct lm_losses *l)
{
    char name[64];
    const float losses[4] = {(float)l->recon, (float)l->contrastive, (float)l->commitment, (float)l->total};
    snprintf(name, sizeof name, "%s.loss", stage);
    parity_floats(c->p, "loss", name, losses, 4);
}

static void check_vectors(struct lm_case *c, const char *stage, bool joint)
{
    char name[64];
    int32_t d = t5_config_of(c->model)->d_model;
    size_t rows = (size_t)c->rows, documents = (size_t)c->documents, text = (size_t)c->text_tokens, width = (size_t)d;
    struct lm_vectors v = {.h = xcalloc(rows * width, 4), .z = xcalloc(text * width + 1, 4), .p = xcalloc(documents * (size_t)c->codes, 4),
                           .soft = xcalloc(documents * width, 4), .q = xcalloc(documents * width, 4), .code = xcalloc(documents, 4)};
    lmindexer_vectors(c->work, &v);
    snprintf(name, sizeof name, "%s.h", stage);
    parity_floats(c->p, "vector", name, v.h, (int64_t)(rows * width));
    snprintf(name, sizeof name, "%s.z", stage);
    parity_floats(c->p, "vector", name, v.z, (int64_t)(text * width));
    if (joint) {
        parity_floats(c->p, "vector", "joint.p", v.p, (int64_t)documents * c->codes);
        parity_floats(c->p, "vector", "joint.soft", v.soft, (int64_t)(documents * width));
        parity_floats(c->p, "vector", "joint.q", v.q, (int64_t)(documents * width));
        parity_ints(c->p, "code", "joint.code", v.code, (int64_t)documents);
    }
    void *all[] = {v.h, v.z, v.p, v.soft, v.q, v.code};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void check_gradient(struct lm_case *c, const char *stage, const char *tensor, const float *grad, int64_t n)
{
    char name[160];
    snprintf(name, sizeof name, "%s.grad.%s", stage, tensor);
    parity_gradient(c->p, "grad", name, grad, n);
}

/* Every tensor of the model by name; shared.weight is the text rows, its code rows are code_embed.i. */
static void check_gradients(struct lm_case *c, const char *stage)
{
    const struct t5_config *config = t5_config_of(c->model);
    for (int32_t i = 0; i < t5_tensor_count(c->model); i++) {
        const struct t5_tensor *t = t5_tensor_at(c->model, i);
        const float *grad = t5_grad(c->model) + t->offset;
        bool shared = strcmp(t->name, "shared.weight") == 0;
        check_gradient(c, stage, t->name, grad, (int64_t)(shared ? config->vocab : t->rows) * t->cols);
        for (int32_t p = 0; shared && p < c->positions; p++) {
            char name[32];
            snprintf(name, sizeof name, "code_embed.%d", p + 1);
            check_gradient(c, stage, name, grad + (int64_t)(config->vocab + p * c->codes) * t->cols, (int64_t)c->codes * t->cols);
        }
    }
}

static void run_stage(struct lm_case *c, enum lm_stage stage, const char *name)
{
    struct lm_losses losses;
    c->be->zero(t5_grad(c->model), (size_t)t5_size(c->model) * sizeof(float));
    c->batch.stage = stage;
    lmindexer_step(c->model, c->work, &c->batch, &losses);
    check_losses(c, name, &losses);
    check_vectors(c, name, stage == LM_JOINT);
    check_gradients(c, name);
}

static void free_batch(struct lm_case *c)
{
    void *all[] = {c->tokens, c->offsets, c->prefix, c->negatives, c->negative_offsets, c->hint_offsets, c->second_view, c->visible_offsets};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    lm_work_free(c->work);
    safetensors_close(c->data);
    c->tokens = c->offsets = c->prefix = c->negatives = c->negative_offsets = c->hint_offsets = c->second_view = NULL;
    c->visible_offsets = NULL;
    c->work = NULL;
    c->data = NULL;
}

static void run_position(struct lm_case *c, int32_t t)
{
    char file[64];
    snprintf(file, sizeof file, "t%d.safetensors", t);
    c->data = parity_open(c->p, file);
    if (!c->data)
        return;
    if (read_batch(c, t) == 0) {
        const struct lm_limits l = {.documents = c->documents, .rows = c->rows, .tokens = c->offsets[c->rows], .text_tokens = c->text_tokens,
                                    .positions = c->positions, .codes = c->codes, .train = true};
        c->work = lm_work_init(c->model, &l, &c->e);
        CHECK(c->work);
        run_stage(c, LM_CONTINUOUS, "continuous");
        run_stage(c, LM_JOINT, "joint");
    }
    parity_close(c->p, c->data);
    c->data = NULL;
    free_batch(c);
}

void parity_lmindexer(struct parity *p)
{
    struct lm_case c = {.p = p, .be = parity_backend(p)};
    char *t5 = parity_path(p, "../t5_v10");
    c.weights = parity_open(p, "weights.safetensors");
    if (c.weights && open_model(&c, t5) == 0)
        for (int32_t t = 1; t <= c.positions; t++)
            run_position(&c, t);
    else if (c.weights)
        parity_error(p, c.e.message);
    free(t5);
    t5_free(c.model);
    safetensors_close(c.weights);
}
