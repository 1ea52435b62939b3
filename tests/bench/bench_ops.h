/* bench_ops.h: `bench_cuda --cases kernels`: ops by themselves at the shapes of t5_base.h, beside the peaks of one H200.
 *
 * An op is called MANY times in a row, recorded as one where the device records, else one after the other, and a read ends the run; so a
 * line says what an op costs among others, a launch included. Memory is what it is after allocation (zeros, weights drawn): the time of
 * these kernels does not depend on values. floor = max(bytes / 4.3 TB/s, operations / 790 TFLOP/s), each operand counted once. */
#ifndef SEMINDEX_BENCH_OPS_H
#define SEMINDEX_BENCH_OPS_H

#include "t5_base.h"

enum { MANY = 20, LARGE = 65536, ROWS_MOST = 1024 };

struct ops {
    const struct backend *be;
    struct act *x, *y, *z, *grad; /* [LARGE, F] each */
    float *norm, *bias, *lse, *w, *g, *m, *v;
    int32_t *ids, *offsets, *anc;
    int64_t parameters;
    struct weight weight;
    struct rows rows;
    int32_t n, position;
};
struct op_case {
    const char *name;
    int32_t n, rows, length; /* tokens of a product; batch and length of an attention */
    int32_t out, in;         /* of a product */
    void (*call)(struct ops *o);
    struct amount (*amount)(const struct op_case *c);
};

static inline void op_linear(struct ops *o)
{
    o->be->linear(o->y, o->x, &o->weight, o->n, 1, 0);
}
static inline void op_linear_backward(struct ops *o)
{
    o->be->linear_backward(o->z, &o->weight, o->y, o->x, o->n, 0);
}
static inline void op_add_rmsnorm(struct ops *o)
{
    o->be->add_rmsnorm(o->y, o->z, o->y, o->x, o->norm, o->n, D, 1e-6f, (struct dropout){0, 0});
}
static inline void op_rmsnorm_backward(struct ops *o)
{
    o->be->rmsnorm_backward(o->y, o->g, o->x, o->z, o->norm, o->n, D, 1e-6f);
}
static inline struct attention op_attention_of(struct ops *o)
{
    return (struct attention){.heads = HEADS, .width = KV, .q_rows = o->rows, .k_rows = o->rows, .q = o->x, .k = o->be->act_at(o->x, INNER),
                              .v = o->be->act_at(o->x, 2 * INNER), .q_stride = 3 * INNER, .k_stride = 3 * INNER, .v_stride = 3 * INNER,
                              .bias = o->bias, .buckets = 32, .max_distance = 128, .bidirectional = true, .out = o->y, .lse = o->lse};
}
static inline void op_attention(struct ops *o)
{
    const struct attention a = op_attention_of(o);
    o->be->attention(&a);
}
static inline void op_attention_backward(struct ops *o)
{
    const struct attention a = op_attention_of(o);
    const struct attention_grad g = {.dout = o->z, .dq = o->grad, .dk = o->be->act_at(o->grad, INNER),
                                     .dv = o->be->act_at(o->grad, 2 * INNER), .dbias = o->g};
    o->be->attention_backward(&a, &g);
}
static inline void op_decode(struct ops *o)
{
    const struct decode_attention a = {.heads = HEADS, .width = KV, .n = o->n, .position = 2, .capacity = o->n, .q = o->x,
                                       .k = o->be->act_at(o->x, INNER), .v = o->be->act_at(o->x, 2 * INNER), .q_stride = 3 * INNER,
                                       .kv_stride = 3 * INNER, .k_cache = o->y, .v_cache = o->z, .anc = o->anc, .bias = o->bias,
                                       .buckets = 32, .max_distance = 128, .out = o->grad};
    o->be->decode_attention(&a);
}
static inline void op_embed(struct ops *o)
{
    o->be->embed(o->y, &o->weight, o->ids, o->n, (struct dropout){0, 0});
}
static inline void op_adamw(struct ops *o)
{
    const struct adamw a = {.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .clip = 1, .norm = 1, .step = 1};
    o->be->adamw(o->w, o->g, o->m, o->v, o->parameters, &a);
}

/* ---- what they must move and do ---- */

static inline struct amount linear_amount(const struct op_case *c)
{
    double n = c->n, out = c->out, in = c->in;
    return (struct amount){2 * (n * in + n * out + in * out), 2 * n * in * out};
}
static inline struct amount linear_backward_amount(const struct op_case *c)
{
    double n = c->n, out = c->out, in = c->in;
    return (struct amount){2 * (2 * n * in + n * out + in * out) + 8 * in * out, 4 * n * in * out};
}
static inline struct amount norm_amount(const struct op_case *c)
{
    return (struct amount){8.0 * c->n * D, 0};
}
static inline struct amount attention_amount(const struct op_case *c)
{
    double n = (double)c->rows * c->length;
    return (struct amount){8 * n * INNER, 4 * n * c->length * INNER};
}
static inline struct amount attention_backward_amount(const struct op_case *c)
{
    double n = (double)c->rows * c->length;
    return (struct amount){16 * n * INNER, 10 * n * c->length * INNER};
}
static inline struct amount decode_amount(const struct op_case *c)
{
    return (struct amount){2.0 * c->n * INNER * (4 + 2 + 4), 12.0 * c->n * INNER};
}
static inline struct amount embed_amount(const struct op_case *c)
{
    return (struct amount){4.0 * c->n * D, 0};
}
static inline struct amount adamw_amount(const struct op_case *c)
{
    (void)c;
    return (struct amount){28 * parameters(), 0};
}

static const struct op_case op_cases[] = {
    {"linear qkv, 20 beams", 20, 0, 0, 3 * INNER, D, op_linear, linear_amount},
    {"linear wi, 1,280 beams", 1280, 0, 0, F, D, op_linear, linear_amount},
    {"linear wo, 1,280 beams", 1280, 0, 0, D, F, op_linear, linear_amount},
    {"linear wi, 2,048 tokens", 2048, 0, 0, F, D, op_linear, linear_amount},
    {"linear wi, 65,536 tokens", LARGE, 0, 0, F, D, op_linear, linear_amount},
    {"linear_backward wi, 65,536", LARGE, 0, 0, F, D, op_linear_backward, linear_backward_amount},
    {"add_rmsnorm, 20", 20, 0, 0, 0, 0, op_add_rmsnorm, norm_amount},
    {"add_rmsnorm, 65,536", LARGE, 0, 0, 0, 0, op_add_rmsnorm, norm_amount},
    {"rmsnorm_backward, 65,536", LARGE, 0, 0, 0, 0, op_rmsnorm_backward, norm_amount},
    {"attention, 64 x 32", 2048, 64, 32, 0, 0, op_attention, attention_amount},
    {"attention, 1 x 1,024", 1024, 1, 1024, 0, 0, op_attention, attention_amount},
    {"attention, 64 x 1,024", LARGE, 64, 1024, 0, 0, op_attention, attention_amount},
    {"attention, 128 x 512", LARGE, 128, 512, 0, 0, op_attention, attention_amount},
    {"attention_backward, 128 x 512", LARGE, 128, 512, 0, 0, op_attention_backward, attention_backward_amount},
    {"decode_attention, 20", 20, 0, 0, 0, 0, op_decode, decode_amount},
    {"decode_attention, 1,280", 1280, 0, 0, 0, 0, op_decode, decode_amount},
    {"embed, 65,536", LARGE, 0, 0, WORDS, D, op_embed, embed_amount},
    {"adamw, all parameters", 1, 0, 0, 0, 0, op_adamw, adamw_amount},
};

/* ---- memory ---- */

static inline void ops_close(struct ops *o)
{
    void *all[] = {o->x, o->y, o->z, o->grad, o->norm, o->bias, o->lse, o->w, o->g, o->m, o->v, o->ids, o->offsets, o->anc};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        o->be->release(all[i]);
}

static inline bool ops_open(struct ops *o, const struct backend *be)
{
    size_t blocks = (size_t)parameters() * sizeof(float);
    *o = (struct ops){.be = be, .parameters = (int64_t)parameters()};
    o->x = be->act_alloc((int64_t)LARGE * F);
    o->y = be->act_alloc((int64_t)LARGE * F);
    o->z = be->act_alloc((int64_t)LARGE * F);
    o->grad = be->act_alloc((int64_t)LARGE * F);
    o->norm = be->alloc(D * sizeof(float));
    o->bias = be->alloc(32 * HEADS * sizeof(float));
    o->lse = be->alloc((size_t)LARGE * HEADS * sizeof(float));
    o->w = be->alloc(blocks);
    o->g = be->alloc(blocks);
    o->m = be->alloc(blocks);
    o->v = be->alloc(blocks);
    o->ids = be->alloc(LARGE * sizeof(int32_t));
    o->offsets = be->alloc((ROWS_MOST + 1) * sizeof(int32_t));
    o->anc = be->alloc(3 * 1280 * sizeof(int32_t));
    return o->x && o->y && o->z && o->grad && o->norm && o->bias && o->lse && o->w && o->g && o->m && o->v && o->ids && o->offsets && o->anc;
}

/* False when there is no memory for the weight. */
static inline bool ops_set(struct ops *o, const struct op_case *c)
{
    int32_t offsets[ROWS_MOST + 1];
    for (int32_t r = 0; r <= c->rows; r++)
        offsets[r] = r * c->length;
    o->be->write(o->offsets, offsets, ((size_t)c->rows + 1) * sizeof *offsets);
    o->n = c->n;
    o->rows = (struct rows){.count = c->rows, .total = c->rows * c->length, .longest = c->length, .offsets = o->offsets};
    if (c->out == 0)
        return true;
    o->weight = (struct weight){.rows = c->out, .cols = c->in, .master = o->w, .grad = o->g};
    return o->be->weight_open(&o->weight, WEIGHT_TRAIN) == 0;
}

static inline void ops_unset(struct ops *o, const struct op_case *c)
{
    if (c->out)
        o->be->weight_close(&o->weight);
}

#endif
