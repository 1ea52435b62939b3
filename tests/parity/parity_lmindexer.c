/* parity_lmindexer.c: the LMIndexer objective against lmindexer/ of a reference folder: positions t = 1, 2, .., both stages, vectors, the four
 * losses and every gradient by name. Sizes come from the files; the T5 is ../t5_v10. Code rows of the model hold code_embed.i; a position that
 * has none in the folder (the last) keeps zero rows, which nothing reads. */
#include "parity.h"
#include "../../core/base/mem.h"
#include "../../core/learn/lmindexer.h"
#include "../../core/model/t5_load.h"

#include <math.h>
#include <string.h>

struct lm_case {
    const struct parity_case *p;
    const struct backend *be;
    struct parity_file *weights, *data;
    int32_t t; /* from 1 */
    struct t5 *model;
    struct lm_work *work;
    struct lm_batch batch;
    int32_t positions, codes, rows, documents, text_tokens;
    bool flipped; /* narrow activations took another code at a near tie: what follows from it in this stage is another function's value */
    int32_t *second_view;
    int64_t *visible_offsets;
    struct err e;
};

static void line_of(const struct lm_case *c, const char *class, char line[64])
{
    snprintf(line, 64, "%s.t%d.%s", c->p->name, c->t, class);
}

/* Copies a tensor of the folder into rows [first, ..) of a tensor of the model. */
static int put_tensor(struct lm_case *c, const char *from, const char *to, int64_t first_row)
{
    int64_t n;
    const float *values = parity_floats(c->weights, from, -1, &n);
    const struct t5_tensor *t = t5_tensor_find(c->model, to);
    if (!values || !t || first_row * t->cols + n > (int64_t)t->rows * t->cols)
        return parity_fail(c->p->name, "%s does not fit %s", from, to);
    c->be->write(t5_master(c->model) + t->offset + first_row * t->cols, values, (size_t)n * sizeof *values);
    return 0;
}

static int count_positions(const struct parity_file *weights)
{
    char name[32];
    for (int32_t t = 1;; t++) {
        snprintf(name, sizeof name, "codebook.%d", t);
        if (!parity_has(weights, name))
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
    const struct safetensor *book = parity_tensor(c->weights, "codebook.1");
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

static int read_batch(struct lm_case *c)
{
    int64_t rows, documents;
    bool later = c->t > 1;
    const int32_t *tokens = parity_ints(c->data, "rows.tokens", -1, NULL), *offsets = parity_ints(c->data, "rows.offsets", -1, &rows);
    const int32_t *hints = parity_ints(c->data, "hints.offsets", -1, &documents);
    const struct safetensor *visible = parity_tensor(c->data, "hints.visible");
    const int32_t *prefix = later ? parity_ints(c->data, "rows.prefix", -1, NULL) : NULL;
    const int32_t *negatives = later ? parity_ints(c->data, "negatives.rows", -1, NULL) : NULL;
    const int32_t *negative_offsets = later ? parity_ints(c->data, "negatives.offsets", documents, NULL) : NULL;
    if (!tokens || !offsets || !hints || !visible || (later && (!prefix || !negatives || !negative_offsets)))
        return -1;
    c->rows = (int32_t)rows - 1;
    c->documents = (int32_t)documents - 1;
    c->text_tokens = offsets[c->documents] - c->documents;
    c->second_view = xcalloc((size_t)documents, sizeof *c->second_view);
    c->visible_offsets = xcalloc((size_t)documents, sizeof *c->visible_offsets);
    for (int32_t i = 0; i <= c->documents; i++)
        c->visible_offsets[i] = hints[i];
    for (int32_t i = 0; i < c->documents; i++)
        c->second_view[i] = !later || negative_offsets[i + 1] > negative_offsets[i] ? c->documents + i : -1;
    c->batch = (struct lm_batch){.position = c->t - 1, .documents = c->documents, .rows = {c->rows, tokens, offsets}, .prefix = prefix,
                                 .visible = visible->data, .visible_offsets = c->visible_offsets, .second_view = c->second_view,
                                 .negatives = negatives, .negative_offsets = negative_offsets, .target_share = 1,
                                 .contrastive_temperature = 1, .weight_recon = 1, .weight_contrastive = 1, .weight_commitment = 1};
    return 0;
}

/* One tensor of the expected file by name; count: its elements here. */
static void compare(struct lm_case *c, const char *class, const char *tensor, const float *mine, int64_t n)
{
    char line[64];
    const float *ref = parity_floats(c->data, tensor, n, NULL);
    line_of(c, class, line);
    if (ref && !c->flipped)
        parity_check(line, tensor, mine, ref, n, parity_tolerance(parity_narrow() && strcmp(class, "grad") == 0 ? "lm.grad" : class));
}

static void check_losses(struct lm_case *c, const char *stage, const struct lm_losses *l)
{
    char name[64];
    const float losses[4] = {(float)l->recon, (float)l->contrastive, (float)l->commitment, (float)l->total};
    snprintf(name, sizeof name, "%s.loss", stage);
    compare(c, "loss", name, losses, 4);
}

/* The code is the argmax of p. With narrow activations another code will do whose p in the reference cannot be told from the best one's. */
static void check_codes(struct lm_case *c, int32_t *codes)
{
    char line[64];
    const int32_t *ref = parity_ints(c->data, "joint.code", c->documents, NULL);
    const float *p = parity_floats(c->data, "joint.p", (int64_t)c->documents * c->codes, NULL);
    line_of(c, "code", line);
    for (int32_t i = 0; parity_narrow() && ref && p && i < c->documents; i++) {
        bool near = codes[i] >= 0 && codes[i] < c->codes &&
                    p[i * c->codes + ref[i]] - p[i * c->codes + codes[i]] <= 2 * (float)parity_tolerance("vector");
        c->flipped |= near && codes[i] != ref[i];
        codes[i] = near ? ref[i] : codes[i];
    }
    if (c->flipped)
        printf("%s: a code fell on the other side of a near tie; what follows from it is not compared\n", line);
    if (ref)
        parity_check_ints(line, "joint.code", codes, ref, c->documents);
}

static double norm_of(const float *x, int64_t n)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    return sqrt(squares);
}

/* With narrow activations: how far p, the softmax of scores s, may be off as a norm. The scores of a document are off by "vector" of their own size,
 * taken from their mean as a softmax does not see that, independently of each other: ds = tolerance * |s - mean s| / sqrt(K). p then is
 * off by J ds, J = diag(p) - p p^T, as a root mean square |ds| |J|_F with |J|_F^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2. */
static double spread_of_p(const struct lm_case *c, const float *p)
{
    double all = 0, tolerance = parity_tolerance("vector");
    for (int32_t i = 0; i < c->documents; i++) {
        const float *row = p + (int64_t)i * c->codes;
        double mean = 0, squares = 0, two = 0, three = 0;
        for (int32_t k = 0; k < c->codes; k++)
            mean += log(fmax(row[k], 1e-37)) / c->codes;
        for (int32_t k = 0; k < c->codes; k++) {
            double s = log(fmax(row[k], 1e-37)) - mean, x = row[k];
            squares += s * s / c->codes;
            two += x * x;
            three += x * x * x;
        }
        all += tolerance * tolerance * squares * fmax(two - 2 * three + two * two, 0);
    }
    return sqrt(all);
}

/* p and soft = p E. What p loses at one code it wins at another, so soft moves along differences of codebook rows: by what p is off, times up to sqrt 2
 * of a row's size (root mean square of the chosen ones). */
static void compare_mixture(struct lm_case *c, const struct lm_vectors *v, int32_t d)
{
    char line[64];
    int64_t codes = (int64_t)c->documents * c->codes, wide = (int64_t)c->documents * d;
    const float *p = parity_floats(c->data, "joint.p", codes, NULL), *soft = parity_floats(c->data, "joint.soft", wide, NULL);
    const float *q = parity_floats(c->data, "joint.q", wide, NULL);
    double own = parity_tolerance("vector"), spread = parity_narrow() && p ? spread_of_p(c, p) : 0;
    line_of(c, "vector", line);
    if (p)
        parity_check(line, "joint.p", v->p, p, codes, fmax(own, spread / norm_of(p, codes)));
    if (soft && q)
        parity_check(line, "joint.soft", v->soft, soft, wide,
                     fmax(own, spread * norm_of(q, wide) * sqrt(2.0 / c->documents) / norm_of(soft, wide)));
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
    compare(c, "vector", name, v.h, (int64_t)(rows * width));
    if (joint) {
        compare_mixture(c, &v, d);
        check_codes(c, v.code);
        compare(c, "vector", "joint.q", v.q, (int64_t)(documents * width));
    }
    snprintf(name, sizeof name, "%s.z", stage);
    compare(c, "vector", name, v.z, (int64_t)(text * width));
    void *all[] = {v.h, v.z, v.p, v.soft, v.q, v.code};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* A gradient that the folder lacks is exactly 0: the loss does not depend on that parameter. */
static void check_gradient(struct lm_case *c, const char *stage, const char *tensor, const float *grad, int64_t n)
{
    char name[160], line[64];
    snprintf(name, sizeof name, "%s.grad.%s", stage, tensor);
    line_of(c, "grad", line);
    if (parity_has(c->data, name))
        compare(c, "grad", name, grad, n);
    else
        parity_check_zero(line, name, grad, n);
}

/* Every tensor of the model by name; shared.weight is the text rows, its code rows are code_embed.i. */
static void check_gradients(struct lm_case *c, const char *stage)
{
    const struct t5_config *config = t5_config_of(c->model);
    float *all = xcalloc((size_t)t5_size(c->model), sizeof *all);
    c->be->read(all, t5_grad(c->model), (size_t)t5_size(c->model) * sizeof *all);
    for (int32_t i = 0; i < t5_tensor_count(c->model); i++) {
        const struct t5_tensor *t = t5_tensor_at(c->model, i);
        const float *grad = all + t->offset;
        bool shared = strcmp(t->name, "shared.weight") == 0;
        check_gradient(c, stage, t->name, grad, (int64_t)(shared ? config->vocab : t->rows) * t->cols);
        for (int32_t p = 0; shared && p < c->positions; p++) {
            char name[32];
            snprintf(name, sizeof name, "code_embed.%d", p + 1);
            check_gradient(c, stage, name, grad + (int64_t)(config->vocab + p * c->codes) * t->cols, (int64_t)c->codes * t->cols);
        }
    }
    free(all);
}

static void run_stage(struct lm_case *c, enum lm_stage stage, const char *name)
{
    struct lm_losses losses;
    c->be->zero(t5_grad(c->model), (size_t)t5_size(c->model) * sizeof(float));
    c->batch.stage = stage;
    lmindexer_step(c->model, c->work, &c->batch, &losses);
    c->flipped = false;
    check_vectors(c, name, stage == LM_JOINT);
    check_losses(c, name, &losses);
    check_gradients(c, name);
}

static void run_position(struct lm_case *c)
{
    char file[64];
    snprintf(file, sizeof file, "t%d.safetensors", c->t);
    c->data = parity_open(c->p, file);
    if (!c->data)
        return;
    if (read_batch(c) == 0) {
        const struct lm_limits l = {.documents = c->documents, .rows = c->rows, .tokens = c->batch.rows.offsets[c->rows],
                                    .text_tokens = c->text_tokens, .positions = c->positions, .codes = c->codes, .train = true};
        c->work = lm_work_init(c->model, &l, &c->e);
        CHECK(c->work);
        run_stage(c, LM_CONTINUOUS, "continuous");
        run_stage(c, LM_JOINT, "joint");
    }
    parity_close(c->data);
    lm_work_free(c->work);
    free(c->second_view);
    free(c->visible_offsets);
    c->work = NULL;
    c->second_view = NULL;
    c->visible_offsets = NULL;
}

void parity_lmindexer(const struct parity_case *p)
{
    struct lm_case c = {.p = p, .be = parity_backend()};
    char *t5 = parity_path(p, "../t5_v10");
    c.weights = parity_open(p, "weights.safetensors");
    if (c.weights && open_model(&c, t5) < 0)
        parity_fail(p->name, "%s", c.e.message);
    else if (c.weights)
        for (c.t = 1; c.t <= c.positions; c.t++)
            run_position(&c);
    parity_close(c.weights);
    free(t5);
    t5_free(c.model);
}
