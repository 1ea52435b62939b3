/* t5_params.c: the table of tensors, the block behind it, and the views that the passes multiply with.
 *
 * The order of the table IS the layout of the block, and it is chosen for the products: q,k,v of a self-attention are neighbours, wi_0,wi_1
 * are neighbours, and k,v of all cross-attentions stand together behind the decoder's layers, so that each run is one [rows, D] matrix. Inside
 * a run nothing is padded; every run starts at a multiple of 16 elements (64 bytes). Padding is zero, has zero gradient and stays zero.
 *
 * Invariant: tensors are sorted by offset and do not overlap; extras come last, so [first extra, size) is a range for the optimiser. The model
 * owns the table, the four blocks and every view's native form. */
#include "t5_internal.h"

#include "../base/mem.h"

#include <stdarg.h>
#include <string.h>

enum { ALIGN = 16 };

struct table {
    struct t5_tensor *tensor;
    int32_t count, capacity;
    int64_t size;
};

/* run: this tensor goes on directly behind the one before it. */
static void add(struct table *t, bool run, enum t5_kind kind, int32_t rows, int32_t cols, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
static void add(struct table *t, bool run, enum t5_kind kind, int32_t rows, int32_t cols, const char *format, ...)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->tensor = xrealloc(t->tensor, (size_t)t->capacity, sizeof *t->tensor);
    }
    struct t5_tensor *x = &t->tensor[t->count++];
    memset(x, 0, sizeof *x);
    va_list list;
    va_start(list, format);
    int length = vsnprintf(x->name, sizeof x->name, format, list);
    va_end(list);
    CHECK(length > 0 && (size_t)length < sizeof x->name);
    if (!run)
        t->size = (t->size + ALIGN - 1) / ALIGN * ALIGN;
    x->kind = kind;
    x->rows = rows;
    x->cols = cols;
    x->offset = t->size;
    t->size += (int64_t)rows * cols;
}

static void add_self(struct table *t, const struct t5_config *c, const char *stack, int32_t i)
{
    int32_t inner = t5_inner(c), d = c->d_model;
    for (int32_t part = 0; part < 3; part++)
        add(t, part > 0, T5_MATRIX, inner, d, "%s.block.%d.layer.0.SelfAttention.%c.weight", stack, i, "qkv"[part]);
    add(t, false, T5_MATRIX, d, inner, "%s.block.%d.layer.0.SelfAttention.o.weight", stack, i);
    if (i == 0)
        add(t, false, T5_BIAS, c->buckets, c->heads, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack);
    add(t, false, T5_NORM, 1, d, "%s.block.%d.layer.0.layer_norm.weight", stack, i);
}

static void add_ff(struct table *t, const struct t5_config *c, const char *stack, int32_t i, int32_t place)
{
    if (c->gated)
        for (int32_t part = 0; part < 2; part++)
            add(t, part > 0, T5_MATRIX, c->d_ff, c->d_model, "%s.block.%d.layer.%d.DenseReluDense.wi_%d.weight", stack, i, place, part);
    else
        add(t, false, T5_MATRIX, c->d_ff, c->d_model, "%s.block.%d.layer.%d.DenseReluDense.wi.weight", stack, i, place);
    add(t, false, T5_MATRIX, c->d_model, c->d_ff, "%s.block.%d.layer.%d.DenseReluDense.wo.weight", stack, i, place);
    add(t, false, T5_NORM, 1, c->d_model, "%s.block.%d.layer.%d.layer_norm.weight", stack, i, place);
}

static void add_decoder(struct table *t, const struct t5_config *c)
{
    int32_t inner = t5_inner(c), d = c->d_model;
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        add_self(t, c, "decoder", i);
        add(t, false, T5_MATRIX, inner, d, "decoder.block.%d.layer.1.EncDecAttention.q.weight", i);
        add(t, false, T5_MATRIX, d, inner, "decoder.block.%d.layer.1.EncDecAttention.o.weight", i);
        add(t, false, T5_NORM, 1, d, "decoder.block.%d.layer.1.layer_norm.weight", i);
        add_ff(t, c, "decoder", i, 2);
    }
    add(t, false, T5_NORM, 1, d, "decoder.final_layer_norm.weight");
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        add(t, i > 0, T5_MATRIX, inner, d, "decoder.block.%d.layer.1.EncDecAttention.k.weight", i);
        add(t, true, T5_MATRIX, inner, d, "decoder.block.%d.layer.1.EncDecAttention.v.weight", i);
    }
}

static struct table table_build(const struct t5_options *o)
{
    const struct t5_config *c = &o->config;
    struct table t = {0};
    add(&t, false, T5_EMBEDDING, c->vocab + c->codes, c->d_model, "shared.weight");
    if (c->untied)
        add(&t, false, T5_EMBEDDING, c->vocab + c->codes, c->d_model, "lm_head.weight");
    for (int32_t i = 0; i < c->encoder_layers; i++) {
        add_self(&t, c, "encoder", i);
        add_ff(&t, c, "encoder", i, 1);
    }
    add(&t, false, T5_NORM, 1, c->d_model, "encoder.final_layer_norm.weight");
    add_decoder(&t, c);
    for (int32_t i = 0; i < o->extra_count; i++) {
        const struct t5_extra *x = &o->extra[i];
        add(&t, false, x->kind, x->rows, x->cols, "%s", x->name);
    }
    t.size = (t.size + ALIGN - 1) / ALIGN * ALIGN;
    return t;
}

int64_t t5_size_of(const struct t5_options *o)
{
    struct table t = table_build(o);
    free(t.tensor);
    return t.size;
}

/* ---- views ---- */

static int32_t find(const struct t5 *m, const char *name)
{
    for (int32_t i = 0; i < m->tensors; i++)
        if (strcmp(m->tensor[i].name, name) == 0)
            return i;
    return -1;
}

static void view_set(struct t5 *m, int32_t i, int64_t offset, int32_t rows, int32_t cols)
{
    m->view[i] = (struct weight){.rows = rows, .cols = cols, .master = m->master + offset, .grad = m->grad ? m->grad + offset : NULL};
}

static int view_open(const struct t5 *m, int32_t i)
{
    if (m->open[i])
        return 0;
    if (m->be->weight_open(&m->view[i], m->train ? WEIGHT_TRAIN : WEIGHT_INFER) != 0)
        return -1;
    m->open[i] = true;
    return 0;
}

struct binder { /* binds the stacks to the table; failed is set when the backend has no memory */
    struct t5 *m;
    bool failed;
};

static int32_t named(const struct t5 *m, const char *format, va_list list)
{
    char name[sizeof m->tensor->name];
    vsnprintf(name, sizeof name, format, list);
    int32_t i = find(m, name);
    CHECK(i >= 0);
    return i;
}

static struct weight *one(struct binder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static struct weight *one(struct binder *b, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int32_t i = named(b->m, format, list);
    va_end(list);
    b->failed |= view_open(b->m, i) != 0;
    return &b->m->view[i];
}

/* `parts` neighbours from the named tensor on, seen as one matrix. */
static struct weight *fused(struct binder *b, int32_t parts, const char *format, ...) __attribute__((format(printf, 3, 4)));
static struct weight *fused(struct binder *b, int32_t parts, const char *format, ...)
{
    struct t5 *m = b->m;
    va_list list;
    va_start(list, format);
    int32_t i = named(m, format, list);
    va_end(list);
    const struct t5_tensor *x = &m->tensor[i], *last = &m->tensor[i + parts - 1];
    CHECK(last->offset == x->offset + (int64_t)(parts - 1) * x->rows * x->cols);
    int32_t view = m->views++;
    view_set(m, view, x->offset, parts * x->rows, x->cols);
    b->failed |= view_open(m, view) != 0;
    return &m->view[view];
}

static struct t5_vector vector(struct binder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static struct t5_vector vector(struct binder *b, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int64_t offset = b->m->tensor[named(b->m, format, list)].offset;
    va_end(list);
    return (struct t5_vector){b->m->master + offset, b->m->grad ? b->m->grad + offset : NULL};
}

static void bind_layer(struct binder *b, struct t5_layer *l, const char *stack, int32_t i, int32_t ff)
{
    l->qkv = fused(b, 3, "%s.block.%d.layer.0.SelfAttention.q.weight", stack, i);
    l->out = one(b, "%s.block.%d.layer.0.SelfAttention.o.weight", stack, i);
    l->self_norm = vector(b, "%s.block.%d.layer.0.layer_norm.weight", stack, i);
    if (b->m->config.gated)
        l->wi = fused(b, 2, "%s.block.%d.layer.%d.DenseReluDense.wi_0.weight", stack, i, ff);
    else
        l->wi = one(b, "%s.block.%d.layer.%d.DenseReluDense.wi.weight", stack, i, ff);
    l->wo = one(b, "%s.block.%d.layer.%d.DenseReluDense.wo.weight", stack, i, ff);
    l->ff_norm = vector(b, "%s.block.%d.layer.%d.layer_norm.weight", stack, i, ff);
}

static void bind_stack(struct binder *b, struct t5_stack *s, const char *stack, int32_t layers, bool decoder)
{
    s->layers = layers;
    s->layer = xcalloc((size_t)layers, sizeof *s->layer);
    s->bias = vector(b, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack);
    s->final = vector(b, "%s.final_layer_norm.weight", stack);
    for (int32_t i = 0; i < layers; i++) {
        bind_layer(b, &s->layer[i], stack, i, decoder ? 2 : 1);
        if (!decoder)
            continue;
        s->layer[i].cross_q = one(b, "decoder.block.%d.layer.1.EncDecAttention.q.weight", i);
        s->layer[i].cross_out = one(b, "decoder.block.%d.layer.1.EncDecAttention.o.weight", i);
        s->layer[i].cross_norm = vector(b, "decoder.block.%d.layer.1.layer_norm.weight", i);
    }
}

/* The decoder's layers as decode_stack takes them. */
static void bind_step(struct t5 *m)
{
    m->step = xcalloc((size_t)m->decoder.layers, sizeof *m->step);
    for (int32_t i = 0; i < m->decoder.layers; i++) {
        const struct t5_layer *l = &m->decoder.layer[i];
        m->step[i] = (struct decode_layer){l->qkv, l->out, l->cross_q, l->cross_out, l->wi, l->wo, l->self_norm.w, l->cross_norm.w, l->ff_norm.w};
    }
}

static int bind(struct t5 *m)
{
    const struct t5_config *c = &m->config;
    int32_t fused_most = 2 * (c->encoder_layers + c->decoder_layers) + 1;
    m->view = xcalloc((size_t)(m->tensors + fused_most), sizeof *m->view);
    m->open = xcalloc((size_t)(m->tensors + fused_most), sizeof *m->open);
    m->views = m->tensors;
    for (int32_t i = 0; i < m->tensors; i++)
        view_set(m, i, m->tensor[i].offset, m->tensor[i].rows, m->tensor[i].cols);
    struct binder b = {m, false};
    m->shared = one(&b, "shared.weight");
    m->lm_head = c->untied ? one(&b, "lm_head.weight") : NULL;
    bind_stack(&b, &m->encoder, "encoder", c->encoder_layers, false);
    bind_stack(&b, &m->decoder, "decoder", c->decoder_layers, true);
    bind_step(m);
    m->cross_kv = fused(&b, 2 * c->decoder_layers, "decoder.block.0.layer.1.EncDecAttention.k.weight");
    for (int32_t i = m->own; i < m->tensors; i++)
        if (m->tensor[i].kind == T5_MATRIX || m->tensor[i].kind == T5_EMBEDDING)
            b.failed |= view_open(m, i) != 0;
    return b.failed ? -1 : 0;
}

static float *block(const struct t5 *m, bool wanted)
{
    return wanted ? m->be->alloc((size_t)m->size * sizeof(float)) : NULL;
}

static int allocate(struct t5 *m, struct err *e)
{
    m->master = block(m, true);
    m->grad = block(m, m->train);
    m->moment1 = block(m, m->train);
    m->moment2 = block(m, m->train);
    if (m->master && (!m->train || (m->grad && m->moment1 && m->moment2)))
        return 0;
    return err_set(e, ERR_OS, "model: no memory for %d block(s) of %lld parameters (%lld MiB each)", m->train ? 4 : 1, (long long)m->size,
                   (long long)(m->size >> 18));
}

struct t5 *t5_init(const struct backend *be, const struct t5_options *o, struct err *e)
{
    if (t5_config_check(&o->config, e) != 0)
        return NULL;
    struct t5 *m = xcalloc(1, sizeof *m);
    struct table t = table_build(o);
    *m = (struct t5){.be = be, .config = o->config, .train = o->train, .tensor = t.tensor, .tensors = t.count,
                     .own = t.count - o->extra_count, .size = t.size};
    if (allocate(m, e) != 0)
        goto out;
    if (bind(m) != 0) {
        err_set(e, ERR_OS, "model: no memory for the prepared weights of %lld parameters", (long long)m->size);
        goto out;
    }
    return m;
out:
    t5_free(m);
    return NULL;
}

void t5_free(struct t5 *m)
{
    if (!m)
        return;
    for (int32_t i = 0; i < m->views; i++)
        if (m->open[i])
            m->be->weight_close(&m->view[i]);
    float *blocks[] = {m->master, m->grad, m->moment1, m->moment2};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (blocks[i])
            m->be->release(blocks[i]);
    free(m->encoder.layer);
    free(m->decoder.layer);
    free(m->step);
    free(m->view);
    free(m->open);
    free(m->tensor);
    free(m);
}

void t5_refresh(struct t5 *m)
{
    for (int32_t i = 0; i < m->views; i++)
        if (m->open[i])
            m->be->weight_refresh(&m->view[i]);
}

/* ---- accessors ---- */

const struct t5_config *t5_config_of(const struct t5 *m)
{
    return &m->config;
}

const struct backend *t5_backend(const struct t5 *m)
{
    return m->be;
}

int32_t t5_tensor_count(const struct t5 *m)
{
    return m->tensors;
}

const struct t5_tensor *t5_tensor_at(const struct t5 *m, int32_t i)
{
    CHECK(i >= 0 && i < m->tensors);
    return &m->tensor[i];
}

const struct t5_tensor *t5_tensor_find(const struct t5 *m, const char *name)
{
    int32_t i = find(m, name);
    return i < 0 ? NULL : &m->tensor[i];
}

int64_t t5_size(const struct t5 *m)
{
    return m->size;
}

float *t5_master(struct t5 *m)
{
    return m->master;
}

float *t5_grad(struct t5 *m)
{
    return m->grad;
}

float *t5_moment1(struct t5 *m)
{
    return m->moment1;
}

float *t5_moment2(struct t5 *m)
{
    return m->moment2;
}

const struct weight *t5_weight(const struct t5 *m, const char *name)
{
    int32_t i = find(m, name);
    CHECK(i >= 0);
    CHECK(m->tensor[i].kind == T5_MATRIX || m->tensor[i].kind == T5_EMBEDDING);
    if (view_open(m, i) != 0)
        die("no memory for the prepared form of %s [%d, %d]", name, m->tensor[i].rows, m->tensor[i].cols);
    return &m->view[i];
}

const struct weight *t5_head(const struct t5 *m)
{
    return m->lm_head ? m->lm_head : m->shared;
}
