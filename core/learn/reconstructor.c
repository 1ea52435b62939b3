/* reconstructor.c: the one T5 layer that rebuilds a document's tokens from its ID side and some hints.
 *
 * Queries come from the ID side u_1..u_t (codes so far, then v = h or q), keys and values from [u_1..u_t, hint tokens]; one complete pass of
 * the layer per query vector, the passes' outputs summed: fixtures README, "lmindexer", 3. The dot products q.k of a pass do not depend on the
 * target, only bias and mask do, so a document with m targets costs passes * (passes + m) products, and the mask is a hash, never stored.
 *
 * Layout: outputs are pass-major, [passes * M, D]; slice p is pass p over all text tokens of the batch, so the sum over passes is M * D
 * additions and every other op sees one long batch. The residual stream starts from u itself, repeated for each target by a gather. */
#include "lm_internal.h"

#include <string.h>

static struct act *slice(const struct backend *be, const struct act *x, int64_t row, int32_t width)
{
    return be->act_at(x, row * width);
}

static float *norm_of(struct t5 *m, const char *name, float **grad)
{
    const struct t5_tensor *t = t5_tensor_find(m, name);
    CHECK(t);
    *grad = t5_grad(m) ? t5_grad(m) + t->offset : NULL;
    return t5_master(m) + t->offset;
}

void recon_weights_of(struct recon_weights *w, struct t5 *m)
{
    w->q = t5_weight(m, "recon.block.0.layer.0.SelfAttention.q.weight");
    w->k = t5_weight(m, "recon.block.0.layer.0.SelfAttention.k.weight");
    w->v = t5_weight(m, "recon.block.0.layer.0.SelfAttention.v.weight");
    w->o = t5_weight(m, "recon.block.0.layer.0.SelfAttention.o.weight");
    w->wi = t5_weight(m, "recon.block.0.layer.1.DenseReluDense.wi.weight");
    w->wo = t5_weight(m, "recon.block.0.layer.1.DenseReluDense.wo.weight");
    w->bias = norm_of(m, "recon.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &w->dbias);
    w->norm0 = norm_of(m, "recon.block.0.layer.0.layer_norm.weight", &w->dnorm0);
    w->norm1 = norm_of(m, "recon.block.0.layer.1.layer_norm.weight", &w->dnorm1);
    w->norm_final = norm_of(m, "recon.final_layer_norm.weight", &w->dnorm_final);
}

/* One row of the table of buffers: which pointer, how many rows, how wide. */
struct buffer {
    struct act **at;
    int64_t rows;
    int32_t width;
};

enum { BUFFERS = 28 };

static void list_buffers(struct recon_work *w, const struct t5_config *c, const struct lm_limits *l, struct buffer list[BUFFERS])
{
    int32_t d = c->d_model, inner = c->heads * c->d_kv, passes = l->positions;
    int64_t text = l->text_tokens, queries = (int64_t)l->documents * passes, memory = text + queries, out = text * passes;
    const struct buffer table[BUFFERS] = {
        {&w->source, memory, d},      {&w->dsource, memory, d},     {&w->memory, memory, d},  {&w->memory_norm, memory, d},
        {&w->dmemory, memory, d},     {&w->dmemory_norm, memory, d}, {&w->k, memory, inner},       {&w->v, memory, inner},   {&w->dk, memory, inner},
        {&w->dv, memory, inner},      {&w->query, queries, d},      {&w->query_norm, queries, d}, {&w->dquery, queries, d},
        {&w->dquery_norm, queries, d}, {&w->q, queries, inner},     {&w->dq, queries, inner}, {&w->mixed, out, inner},
        {&w->dmixed, out, inner},     {&w->r1, out, d},             {&w->n1, out, d},         {&w->f, out, c->d_ff},
        {&w->r2, out, d},             {&w->dr, out, d},             {&w->dn, out, d},         {&w->df, out, c->d_ff},
        {&w->pass, out, d},           {&w->z, text, d},             {&w->dz, text, d},
    };
    memcpy(list, table, sizeof table);
}

static size_t lse_count(const struct t5_config *c, const struct lm_limits *l)
{
    return (size_t)c->heads * (size_t)l->text_tokens * (size_t)l->positions;
}

size_t recon_work_bytes(const struct backend *be, const struct t5_config *c, const struct lm_limits *l)
{
    struct recon_work w;
    struct buffer table[BUFFERS];
    size_t bytes = lse_count(c, l) * sizeof(float);
    list_buffers(&w, c, l, table);
    for (int i = 0; i < BUFFERS; i++)
        bytes += (size_t)table[i].rows * (size_t)table[i].width * be->act_bytes;
    return bytes;
}

int recon_work_init(struct recon_work *w, const struct t5 *m, const struct lm_limits *l, struct err *e)
{
    const struct backend *be = t5_backend(m);
    struct buffer table[BUFFERS];
    list_buffers(w, t5_config_of(m), l, table);
    for (int i = 0; i < BUFFERS; i++) {
        *table[i].at = be->act_alloc(table[i].rows * table[i].width);
        if (!*table[i].at)
            return err_set(e, ERR_OS, "no memory for a batch of %d documents, %d tokens: lower batch or max_tokens", l->documents, l->text_tokens);
    }
    w->lse = be->alloc(lse_count(t5_config_of(m), l) * sizeof(float));
    return w->lse ? 0 : err_set(e, ERR_OS, "no memory for a batch of %d tokens", l->text_tokens);
}

void recon_work_free(struct recon_work *w, const struct backend *be)
{
    struct act *all[] = {w->source, w->dsource, w->memory, w->memory_norm, w->dmemory, w->dmemory_norm, w->k,  w->v,  w->dk, w->dv,
                         w->query,  w->query_norm, w->dquery, w->dquery_norm, w->q, w->dq, w->mixed, w->dmixed, w->r1,
                         w->n1,     w->f,       w->r2,     w->dr,          w->dn,      w->df, w->pass, w->z,  w->dz};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->release(all[i]);
    be->release(w->lse);
}

static struct hint_attention attention_of(const struct t5_config *c, const struct recon_weights *rw, struct recon_work *w,
                                          const struct recon_batch *b)
{
    int32_t inner = c->heads * c->d_kv;
    return (struct hint_attention){.heads = c->heads, .width = c->d_kv, .passes = b->passes, .text_rows = b->text_rows,
                                   .memory_rows = b->memory_rows, .q = w->q, .k = w->k, .v = w->v, .k_stride = inner, .v_stride = inner,
                                   .bias = rw->bias, .buckets = c->buckets, .max_distance = c->max_distance, .visible = b->visible,
                                   .visible_offsets = b->visible_offsets, .ratio = b->hint_ratio, .seed = b->seed, .doc_key = b->keys,
                                   .out = w->mixed, .lse = w->lse};
}

void recon_forward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b)
{
    const struct t5_config *c = t5_config_of(m);
    const struct backend *be = t5_backend(m);
    const struct dropout none = {0};
    int32_t d = c->d_model, queries = b->documents * b->passes, memory = b->memory_rows.total, out = b->passes * b->text_tokens;
    be->gather(w->memory, w->source, b->memory_index, memory, d);
    be->gather(w->query, w->source, b->query_index, queries, d);
    be->add_rmsnorm(w->memory, w->memory_norm, w->memory, NULL, rw->norm0, memory, d, c->eps, none);
    be->add_rmsnorm(w->query, w->query_norm, w->query, NULL, rw->norm0, queries, d, c->eps, none);
    be->linear(w->q, w->query_norm, rw->q, queries, 1, 0);
    be->linear(w->k, w->memory_norm, rw->k, memory, 1, 0);
    be->linear(w->v, w->memory_norm, rw->v, memory, 1, 0);
    struct hint_attention a = attention_of(c, rw, w, b);
    be->hint_attention(&a);
    be->gather(w->r1, w->query, b->repeat_index, out, d);
    be->linear(w->r1, w->mixed, rw->o, out, 1, LINEAR_ACCUMULATE);
    be->add_rmsnorm(w->r2, w->n1, w->r1, NULL, rw->norm1, out, d, c->eps, none);
    be->linear(w->f, w->n1, rw->wi, out, 1, LINEAR_RELU);
    be->linear(w->r2, w->f, rw->wo, out, 1, LINEAR_ACCUMULATE);
    be->add_rmsnorm(w->r2, w->pass, w->r2, NULL, rw->norm_final, out, d, c->eps, none);
    int64_t size = (int64_t)b->text_tokens * d;
    be->dropout(w->z, w->pass, size, none);
    for (int32_t p = 1; p < b->passes; p++)
        be->axpy(w->z, 1, slice(be, w->pass, (int64_t)p * b->text_tokens, d), size);
}

/* dz -> dr (gradient of r1), through the final norm and the feed-forward of every pass. */
static void backward_feed_forward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b)
{
    const struct t5_config *c = t5_config_of(m);
    const struct backend *be = t5_backend(m);
    int32_t d = c->d_model, out = b->passes * b->text_tokens;
    be->act_zero(w->dr, (int64_t)out * d);
    for (int32_t p = 0; p < b->passes; p++) {
        int64_t row = (int64_t)p * b->text_tokens;
        be->rmsnorm_backward(slice(be, w->dr, row, d), rw->dnorm_final, w->dz, slice(be, w->r2, row, d), rw->norm_final, b->text_tokens, d,
                             c->eps);
    }
    be->linear_backward(w->df, rw->wo, w->dr, w->f, out, 0);
    be->relu_backward(w->df, w->f, (int64_t)out * c->d_ff, 1);
    be->linear_backward(w->dn, rw->wi, w->df, w->n1, out, 0);
    be->rmsnorm_backward(w->dr, rw->dnorm1, w->dn, w->r1, rw->norm1, out, d, c->eps);
}

void recon_backward(struct t5 *m, const struct recon_weights *rw, struct recon_work *w, const struct recon_batch *b)
{
    const struct t5_config *c = t5_config_of(m);
    const struct backend *be = t5_backend(m);
    int32_t d = c->d_model, queries = b->documents * b->passes, memory = b->memory_rows.total, out = b->passes * b->text_tokens;
    backward_feed_forward(m, rw, w, b);
    be->linear_backward(w->dmixed, rw->o, w->dr, w->mixed, out, 0);
    be->act_zero(w->dquery, (int64_t)queries * d);
    be->scatter_add(w->dquery, w->dr, b->repeat_index, out, d);

    struct hint_attention a = attention_of(c, rw, w, b);
    const struct hint_attention_grad g = {.dout = w->dmixed, .dq = w->dq, .dk = w->dk, .dv = w->dv, .dbias = rw->dbias};
    be->hint_attention_backward(&a, &g);
    be->linear_backward(w->dquery_norm, rw->q, w->dq, w->query_norm, queries, 0);
    be->rmsnorm_backward(w->dquery, rw->dnorm0, w->dquery_norm, w->query, rw->norm0, queries, d, c->eps);

    be->linear_backward(w->dmemory_norm, rw->k, w->dk, w->memory_norm, memory, 0);
    be->linear_backward(w->dmemory_norm, rw->v, w->dv, w->memory_norm, memory, LINEAR_ACCUMULATE);
    be->act_zero(w->dmemory, (int64_t)memory * d);
    be->rmsnorm_backward(w->dmemory, rw->dnorm0, w->dmemory_norm, w->memory, rw->norm0, memory, d, c->eps);

    be->act_zero(w->dsource, (int64_t)memory * d);
    be->scatter_add(w->dsource, w->dmemory, b->memory_index, memory, d);
    be->scatter_add(w->dsource, w->dquery, b->query_index, queries, d);
}
