/* kernel_ops.h: the table op x shapes of the conformance test.
 *
 * A new op of backend.h is one row of `ops` and its four functions here: size, reference, forward, backward. Shapes s[0..5] mean what the
 * op's own comment says; they contain 1, 31, 33, 257, empty rows, fully masked rows and sizes that are a multiple of nothing. */
#ifndef SEMINDEX_KERNEL_OPS_H
#define SEMINDEX_KERNEL_OPS_H

#include "kernel_job.h"
#include "ref_ops.h"

static struct dropout drop_of(const struct job *j, int dim)
{
    return (struct dropout){(float)j->s[dim] * 0.01f, 99};
}

static struct weight *weight_of(struct job *j, int slot, int32_t rows, int32_t cols, enum weight_use use)
{
    j->weight = (struct weight){rows, cols, j->in_mem[slot], j->din_mem[slot], NULL};
    assert_int_equal(j->be->weight_open(&j->weight, use), 0);
    return &j->weight;
}

/* ---- embed: n, d, table rows, dropout % ---- */
static void embed_size(struct job *j)
{
    int32_t ids[512];
    for (int i = 0; i < j->s[0]; i++)
        ids[i] = draw_below(j, j->s[2]);
    make_ints(j, 0, ids, j->s[0]);
    j->in_size[0] = j->s[2] * j->s[1];
    j->out_size[0] = j->s[0] * j->s[1];
}
static void embed_reference(struct job *j)
{
    for (int64_t i = 0; i < j->out_size[0]; i++)
        j->out64[0][i] = j->in64[0][j->host[0][i / j->s[1]] * j->s[1] + i % j->s[1]] * ref_keep(drop_of(j, 3), (uint64_t)i);
}
static void embed_forward(struct job *j)
{
    j->be->embed(j->out_act[0], weight_of(j, 0, j->s[2], j->s[1], WEIGHT_TRAIN), j->ints[0], j->s[0], drop_of(j, 3));
}
static void embed_backward(struct job *j)
{
    j->be->embed_backward(&j->weight, j->ints[0], j->dout_act[0], j->s[0], drop_of(j, 3));
}

/* ---- gather / scatter_add: n, d, rows of the other side ---- */
static void gather_forward(struct job *j)
{
    j->be->gather(j->out_act[0], j->in_act[0], j->ints[0], j->s[0], j->s[1]);
}
static void gather_backward(struct job *j)
{
    j->be->scatter_add(j->din_act[0], j->dout_act[0], j->ints[0], j->s[0], j->s[1]);
}

/* ---- dropout: n, unused, unused, dropout % ---- */
static void flat_size(struct job *j)
{
    for (int i = 0; j->op->in[i]; i++)
        j->in_size[i] = j->s[0];
    j->out_size[0] = j->s[0];
}
static void dropout_reference(struct job *j)
{
    for (int i = 0; i < j->s[0]; i++)
        j->out64[0][i] = j->in64[0][i] * ref_keep(drop_of(j, 3), (uint64_t)i);
}
static void dropout_forward(struct job *j)
{
    j->be->dropout(j->out_act[0], j->in_act[0], j->s[0], drop_of(j, 3));
}
static void dropout_backward(struct job *j)
{
    j->be->dropout(j->din_act[0], j->dout_act[0], j->s[0], drop_of(j, 3));
}

/* ---- axpy: out = in1 + 0.75 in0 ---- */
static void axpy_reference(struct job *j)
{
    for (int i = 0; i < j->s[0]; i++)
        j->out64[0][i] = j->in64[1][i] + 0.75 * j->in64[0][i];
}
static void axpy_forward(struct job *j)
{
    j->be->dropout(j->out_act[0], j->in_act[1], j->s[0], (struct dropout){0, 0});
    j->be->axpy(j->out_act[0], 0.75f, j->in_act[0], j->s[0]);
}

/* ---- relu: n; out = 1.5 max(in, 0) (the forward pass is linear's) ---- */
static void relu_reference(struct job *j)
{
    for (int i = 0; i < j->s[0]; i++)
        j->out64[0][i] = 1.5 * fmax(j->in64[0][i], 0.0);
}
static void relu_forward(struct job *j)
{
    j->be->act_zero(j->out_act[0], j->s[0]);
    j->be->axpy(j->out_act[0], 1.5f, j->in_act[0], j->s[0]);
    j->be->relu_backward(j->out_act[0], j->in_act[0], j->s[0], 1.0f);
}
static void relu_backward(struct job *j)
{
    j->be->dropout(j->din_act[0], j->dout_act[0], j->s[0], (struct dropout){0, 0});
    j->be->relu_backward(j->din_act[0], j->in_act[0], j->s[0], 1.5f);
}

/* ---- pool_mean: pattern, d ---- */
static void pool_size(struct job *j)
{
    j->rows[0] = make_rows(j, 0, j->s[0], 0);
    j->in_size[0] = j->rows[0].total * j->s[1];
    j->out_size[0] = j->rows[0].count * j->s[1];
}
static void pool_reference(struct job *j)
{
    memset(j->out64[0], 0, (size_t)j->out_size[0] * sizeof(double));
    for (int b = 0; b < j->host_rows[0].count; b++)
        for (int i = j->host_rows[0].offsets[b]; i < j->host_rows[0].offsets[b + 1]; i++)
            for (int c = 0; c < j->s[1]; c++)
                j->out64[0][b * j->s[1] + c] += j->in64[0][i * j->s[1] + c] / (j->host_rows[0].offsets[b + 1] - j->host_rows[0].offsets[b]);
}
static void pool_forward(struct job *j)
{
    j->be->pool_mean(j->out_act[0], j->in_act[0], j->rows[0], j->s[1]);
}

/* ---- add_rmsnorm: n, d, with x, dropout %; in: r, x, w; out: y, r_out ---- */
static void norm_size(struct job *j)
{
    j->in_size[0] = j->in_size[1] = j->out_size[0] = j->out_size[1] = j->s[0] * j->s[1];
    j->in_size[2] = j->s[1];
}
static void norm_reference(struct job *j)
{
    for (int64_t i = 0; i < j->in_size[0]; i++)
        j->out64[1][i] = j->in64[0][i] + (j->s[2] ? j->in64[1][i] * ref_keep(drop_of(j, 3), (uint64_t)i) : 0.0);
    ref_rmsnorm(j->out64[0], j->out64[1], j->in64[2], j->s[0], j->s[1], 1e-6);
}
static void norm_forward(struct job *j)
{
    j->be->add_rmsnorm(j->out_act[1], j->out_act[0], j->in_act[0], j->s[2] ? j->in_act[1] : NULL, j->in_mem[2], j->s[0], j->s[1], 1e-6f,
                       drop_of(j, 3));
}
static void norm_backward(struct job *j)
{
    j->be->rmsnorm_backward(j->din_act[0], j->din_mem[2], j->dout_act[0], j->out_act[1], j->in_mem[2], j->s[0], j->s[1], 1e-6f);
    j->be->act_zero(j->din_act[1], j->in_size[1]);
    j->be->rmsnorm_backward(j->din_act[1], j->extra[0], j->dout_act[0], j->out_act[1], j->in_mem[2], j->s[0], j->s[1], 1e-6f);
    if (j->s[2])
        j->be->dropout(j->din_act[1], j->din_act[1], j->in_size[1], drop_of(j, 3));
    else
        j->be->act_zero(j->din_act[1], j->in_size[1]);
}
/* Every third row is short, so that a wrong epsilon shows. */
static void norm_short_size(struct job *j)
{
    norm_size(j);
    for (int t = 0; t < 2; t++) {
        j->in64[t] = fresh(j, j->in_size[t], 1.0);
        for (int64_t i = 0; i < j->in_size[t]; i++)
            if (i / j->s[1] % 3 == 0)
                j->in64[t][i] /= 512;
    }
}
static void norm_size_and_spare(struct job *j)
{
    norm_size(j);
    j->extra[0] = j->be->alloc((size_t)j->s[1] * sizeof(float));
}

/* ---- linear: n, cols, rows, packed; in: x, w ---- */
static void linear_size(struct job *j)
{
    j->in_size[0] = j->s[0] * j->s[1];
    j->in_size[1] = j->s[2] * j->s[1];
    j->out_size[0] = j->s[0] * j->s[2];
}
static void linear_reference(struct job *j)
{
    ref_linear(j->out64[0], j->in64[0], j->in64[1], j->s[0], j->s[1], j->s[2], 1.0);
}
static void linear_forward(struct job *j)
{
    struct weight *w = weight_of(j, 1, j->s[2], j->s[1], j->s[3] ? WEIGHT_INFER : WEIGHT_TRAIN);
    j->be->linear(j->out_act[0], j->in_act[0], w, j->s[0], 1.0f, 0);
}
static void linear_backward(struct job *j)
{
    j->be->linear_backward(j->din_act[0], &j->weight, j->dout_act[0], j->in_act[0], j->s[0], 0);
}

/* ---- the flags of linear: the same sizes; out: relu(x w), x w + x w / 2, and dx added to x ---- */
static void flags_size(struct job *j)
{
    linear_size(j);
    j->out_size[1] = j->out_size[0];
    j->out_size[2] = j->in_size[0];
}
static void flags_reference(struct job *j)
{
    ref_linear(j->out64[0], j->in64[0], j->in64[1], j->s[0], j->s[1], j->s[2], 1.0);
    for (int64_t i = 0; i < j->out_size[0]; i++) {
        j->out64[1][i] = 1.5 * j->out64[0][i];
        j->out64[0][i] = fmax(j->out64[0][i], 0.0);
    }
    for (int64_t i = 0; i < j->in_size[0]; i++) {
        j->out64[2][i] = j->in64[0][i];
        for (int r = 0; r < j->s[2]; r++)
            j->out64[2][i] += as_stored(j, j->out64[0][i / j->s[1] * j->s[2] + r]) * j->in64[1][r * j->s[1] + i % j->s[1]];
    }
}
static void flags_forward(struct job *j)
{
    struct weight *w = weight_of(j, 1, j->s[2], j->s[1], j->s[3] ? WEIGHT_INFER : WEIGHT_TRAIN);
    w->grad = NULL;
    j->be->linear(j->out_act[0], j->in_act[0], w, j->s[0], 1.0f, LINEAR_RELU);
    j->be->linear(j->out_act[1], j->in_act[0], w, j->s[0], 1.0f, 0);
    j->be->linear(j->out_act[1], j->in_act[0], w, j->s[0], 0.5f, LINEAR_ACCUMULATE);
    j->be->dropout(j->out_act[2], j->in_act[0], j->in_size[0], (struct dropout){0, 0});
    j->be->linear_backward(j->out_act[2], w, j->out_act[0], NULL, j->s[0], LINEAR_ACCUMULATE);
}

/* ---- gated gelu: n, f, unused, dropout % ---- */
static void gelu_size(struct job *j)
{
    j->in_size[0] = 2 * j->s[0] * j->s[1];
    j->out_size[0] = j->s[0] * j->s[1];
    j->in64[0] = fresh(j, j->in_size[0], 2.0);
}
static void gelu_reference(struct job *j)
{
    int f = j->s[1];
    for (int64_t i = 0; i < j->out_size[0]; i++) {
        const double *ab = j->in64[0] + i / f * 2 * f + i % f;
        j->out64[0][i] = ref_gelu(ab[0]) * ab[f] * ref_keep(drop_of(j, 3), (uint64_t)i);
    }
}
static void gelu_forward(struct job *j)
{
    j->be->gated_gelu(j->out_act[0], j->in_act[0], j->s[0], j->s[1], drop_of(j, 3));
}
static void gelu_backward(struct job *j)
{
    j->be->gated_gelu_backward(j->din_act[0], j->dout_act[0], j->in_act[0], j->s[0], j->s[1], drop_of(j, 3));
}

/* ---- attention: q pattern, k pattern, heads, width, kind (1 bias, 2 causal, 4 bidirectional, 8 no gap between tokens, 16 totals are upper
 * bounds), dropout %; in: q, k, v, bias ---- */
static int32_t attention_stride(const struct job *j)
{
    return j->s[2] * j->s[3] + (j->s[4] & 8 ? 0 : 3);
}
static void attention_size(struct job *j)
{
    int64_t stride = attention_stride(j);
    j->rows[0] = make_rows(j, 0, j->s[0], 0);
    j->rows[1] = make_rows(j, 1, j->s[1], 0);
    for (int i = 0; i < 2 && (j->s[4] & 16); i++)
        j->host_rows[i].total = j->rows[i].total += i ? 70 : 7;
    j->in_size[0] = j->rows[0].total * stride;
    j->in_size[1] = j->in_size[2] = j->rows[1].total * stride;
    j->in_size[3] = 32 * j->s[2];
    j->out_size[0] = (int64_t)j->rows[0].total * j->s[2] * j->s[3];
    j->out_size[1] = (int64_t)j->rows[0].total * j->s[2];
    for (int i = 0; i < 4; i++)
        j->in64[i] = fresh(j, j->in_size[i], i < 2 ? 0.5 : 1.0);
}
static struct attention attention_of(const struct job *j)
{
    int32_t stride = attention_stride(j);
    return (struct attention){j->s[2], j->s[3], j->rows[0], j->rows[1], j->in_act[0], j->in_act[1], j->in_act[2], stride, stride, stride,
                              j->s[4] & 1 ? j->in_mem[3] : NULL, 32, 128, (j->s[4] & 4) != 0, (j->s[4] & 2) != 0,
                              {(float)j->s[5] * 0.01f, 5}, j->out_act[0], j->out_mem[1]};
}
static void attention_reference(struct job *j)
{
    struct attention a = attention_of(j);
    a.q_rows = j->host_rows[0];
    a.k_rows = j->host_rows[1];
    ref_attention(&a, j->out64[0], j->out64[1], j->in64[0], j->in64[1], j->in64[2], j->s[4] & 1 ? j->in64[3] : NULL);
}
static void attention_forward(struct job *j)
{
    struct attention a = attention_of(j);
    j->be->attention(&a);
}
static void attention_backward(struct job *j)
{
    struct attention a = attention_of(j);
    struct attention_grad g = {j->dout_act[0], j->din_act[0], j->din_act[1], j->din_act[2], j->s[4] & 1 ? j->din_mem[3] : NULL};
    for (int i = 0; i < 3 && (!(j->s[4] & 8) || j->be->has_host_memory); i++)
        j->be->act_zero(j->din_act[i], j->in_size[i]); /* columns between strides, and on the cpu tokens beyond rows, are nobody's */
    j->be->attention_backward(&a, &g);
}

/* ---- decode attention: n, heads, width, position; capacity n + 2; in: q | k | v, k cache, v cache, bias; out: y, k cache, v cache; checks
 * the ancestor table too ---- */
static int32_t decode_stride(const struct job *j)
{
    int32_t width = j->s[1] * j->s[2];
    return 3 * width + (width % 8 ? 5 : 8);
}
static void decode_size(struct job *j)
{
    int32_t n = j->s[0], capacity = n + 2, at = (j->s[3] + 1) * capacity, parent[64], width = j->s[1] * j->s[2];
    j->in_size[0] = n * decode_stride(j);
    j->in_size[1] = j->in_size[2] = j->out_size[1] = j->out_size[2] = at * width;
    j->in_size[3] = 32 * j->s[1];
    j->out_size[0] = n * width;
    for (int i = 0; i < 2; i++)
        j->ints[i] = j->be->alloc((size_t)at * sizeof(int32_t));
    for (int p = 0; p <= j->s[3]; p++) {
        for (int r = 0; r < n; r++)
            parent[r] = draw_below(j, n);
        make_ints(j, 2, parent, n);
        j->be->ancestors(j->ints[p % 2], j->ints[1 - p % 2], j->ints[2], n, p, capacity);
        j->be->release(j->ints[2]);
        j->ints[2] = NULL;
    }
    j->host[0] = malloc((size_t)at * sizeof(int32_t));
    j->be->read(j->host[0], j->ints[j->s[3] % 2], (size_t)at * sizeof(int32_t));
}
static struct decode_attention decode_of(const struct job *j)
{
    int32_t n = j->s[0], width = j->s[1] * j->s[2];
    return (struct decode_attention){j->s[1], j->s[2], n, j->s[3], n + 2, j->in_act[0], j->be->act_at(j->in_act[0], width),
                                     j->be->act_at(j->in_act[0], 2 * width), decode_stride(j), decode_stride(j),
                                     j->out_act[1], j->out_act[2], j->ints[j->s[3] % 2], j->in_mem[3], 32, 128, n * j->s[3], j->out_act[0]};
}
/* The caches as the op leaves them: page `position` holds the new keys and values of rows 0..n-1. */
static void decode_caches(struct job *j, const struct decode_attention *a)
{
    int32_t width = a->heads * a->width;
    for (int part = 1; part <= 2; part++) {
        double *cache = j->out64[part];
        memcpy(cache, j->in64[part], (size_t)j->in_size[part] * sizeof *cache);
        for (int r = 0; r < a->n; r++)
            memcpy(cache + (a->position * a->capacity + r) * width, j->in64[0] + r * a->q_stride + part * width,
                   (size_t)width * sizeof *cache);
    }
}
static void decode_reference(struct job *j)
{
    struct decode_attention a = decode_of(j);
    int32_t width = a.heads * a.width;
    double s[64];
    decode_caches(j, &a);
    for (int r = 0; r < a.n; r++)
        for (int h = 0; h < a.heads; h++) {
            const int32_t *anc = j->host[0] + r;
            for (int p = 0; p <= a.position; p++) {
                s[p] = j->in64[3][attention_bucket(p - a.position, false, 32, 128) * a.heads + h];
                for (int c = 0; c < a.width; c++)
                    s[p] += j->in64[0][r * a.q_stride + h * a.width + c] *
                            j->out64[1][(p * a.capacity + anc[p * a.capacity]) * width + h * a.width + c];
            }
            ref_softmax(s, a.position + 1);
            for (int c = 0; c < a.width; c++) {
                double *y = j->out64[0] + r * width + h * a.width + c;
                *y = 0;
                for (int p = 0; p <= a.position; p++)
                    *y += s[p] * j->out64[2][(p * a.capacity + anc[p * a.capacity]) * width + h * a.width + c];
            }
        }
}
static void decode_forward(struct job *j)
{
    struct decode_attention a = decode_of(j);
    for (int i = 1; i <= 2; i++)
        j->be->dropout(j->out_act[i], j->in_act[i], j->in_size[i], (struct dropout){0, 0});
    j->be->decode_attention(&a);
}

/* ---- hint attention: pattern, heads, width, passes, ratio % (-1: explicit masks); in: q, k, v, bias ---- */
static void hint_size(struct job *j)
{
    uint64_t keys[8];
    int64_t masks[8] = {0}, stride = j->s[1] * j->s[2];
    j->rows[0] = make_rows(j, 0, j->s[0], 0);
    j->rows[1] = make_rows(j, 1, j->s[0], j->s[3]);
    for (int b = 0; b < j->rows[0].count; b++) {
        int64_t m = j->host_rows[0].offsets[b + 1] - j->host_rows[0].offsets[b];
        keys[b] = mix64(1, (uint64_t)b);
        masks[b + 1] = masks[b] + m * m;
    }
    uint8_t *visible = calloc((size_t)masks[j->rows[0].count] + 1, 1);
    for (int64_t i = 0; i < masks[j->rows[0].count]; i++)
        visible[i] = draw_below(j, 3) == 0;
    make_extra(j, 0, keys, (size_t)j->rows[0].count * sizeof *keys);
    make_extra(j, 1, masks, (size_t)j->rows[0].count * sizeof *masks);
    make_extra(j, 2, visible, (size_t)masks[j->rows[0].count]);
    free(visible);
    j->in_size[0] = j->rows[0].count * j->s[3] * stride;
    j->in_size[1] = j->in_size[2] = j->rows[1].total * (stride + 1);
    j->in_size[3] = 32 * j->s[1];
    j->out_size[0] = j->rows[0].total * j->s[3] * stride;
    j->out_size[1] = j->rows[0].total * j->s[3] * j->s[1];
}
static struct hint_attention hint_of(const struct job *j)
{
    int32_t stride = j->s[1] * j->s[2] + 1;
    return (struct hint_attention){j->s[1], j->s[2], j->s[3], j->rows[0], j->rows[1], j->in_act[0], j->in_act[1], j->in_act[2], stride,
                                   stride,
                                   j->in_mem[3], 32, 128, j->s[4] < 0 ? j->extra[2] : NULL, j->extra[1], (float)j->s[4] * 0.01f, 77,
                                   j->extra[0], j->out_act[0], j->out_mem[1]};
}
static void hint_reference(struct job *j)
{
    struct hint_attention a = hint_of(j);
    a.text_rows = j->host_rows[0];
    a.memory_rows = j->host_rows[1];
    a.doc_key = j->host_extra[0];
    a.visible_offsets = j->host_extra[1];
    a.visible = a.visible ? j->host_extra[2] : NULL;
    ref_hint_attention(&a, j->out64[0], j->out64[1], j->in64[0], j->in64[1], j->in64[2], j->in64[3]);
}
static void hint_forward(struct job *j)
{
    struct hint_attention a = hint_of(j);
    j->be->hint_attention(&a);
}
static void hint_backward(struct job *j)
{
    struct hint_attention a = hint_of(j);
    struct hint_attention_grad g = {j->dout_act[0], j->din_act[0], j->din_act[1], j->din_act[2], j->din_mem[3]};
    j->be->act_zero(j->din_act[1], j->in_size[1]);
    j->be->act_zero(j->din_act[2], j->in_size[2]);
    j->be->hint_attention_backward(&a, &g);
}

/* ---- head loss: n, d, count, first, picked, labels left out %; in: x, head; out: loss, row_loss ---- */
static void loss_size(struct job *j)
{
    int32_t n = j->s[0], pick[512], labels[512];
    for (int i = 0; i < n; i++) {
        pick[i] = 2 * (n - 1 - i);
        labels[i] = draw_below(j, 100) < j->s[5] ? -100 : draw_below(j, j->s[2]);
    }
    make_ints(j, 0, pick, n);
    make_ints(j, 1, labels, n);
    j->in_size[0] = (j->s[4] ? 2 * n : n) * j->s[1];
    j->in_size[1] = (j->s[3] + j->s[2] + 2) * j->s[1];
    j->out_size[0] = 1;
    j->out_size[1] = n;
    j->in64[0] = fresh(j, j->in_size[0], 0.5);
}
static struct head_loss loss_of(struct job *j)
{
    return (struct head_loss){j->s[0], j->s[3], j->s[2], j->in_act[0], j->s[4] ? j->ints[0] : NULL, &j->weight, 0.75f, 0.125f,
                              j->ints[1], j->out_mem[0], j->out_mem[1], j->din_act[0]};
}
static void loss_reference(struct job *j)
{
    struct head_loss a = loss_of(j);
    a.pick = a.pick ? j->host[0] : NULL;
    a.labels = j->host[1];
    j->weight.cols = j->s[1];
    j->out64[0][0] = ref_head_loss(&a, j->in64[0], j->in64[1], j->out64[1]);
}
static void loss_forward(struct job *j)
{
    struct head_loss a = loss_of(j);
    weight_of(j, 1, (int32_t)(j->in_size[1] / j->s[1]), j->s[1], WEIGHT_TRAIN);
    j->be->act_zero(j->din_act[0], j->in_size[0]); /* rows that nobody picked keep this */
    j->be->head_loss(&a);
}

/* ---- quantise: n, d, codes, first, inverse temperature in 1/4; in: h, book; out: soft, p, code, q ---- */
static void quantise_size(struct job *j)
{
    j->in_size[0] = j->out_size[0] = j->out_size[3] = j->s[0] * j->s[1];
    j->in_size[1] = (j->s[3] + j->s[2] + 1) * j->s[1];
    j->out_size[1] = j->s[0] * j->s[2];
    j->out_size[2] = j->s[0];
    j->in64[1] = fresh(j, j->in_size[1], 0.5);
    if (j->s[2] > 8) /* two equal codebook rows: the lower one must win */
        memcpy(j->in64[1] + (j->s[3] + j->s[2] - 1) * j->s[1], j->in64[1] + (j->s[3] + 1) * j->s[1], (size_t)j->s[1] * sizeof(double));
}
static struct quantise quantise_of(struct job *j)
{
    j->weight.cols = j->s[1];
    return (struct quantise){j->s[0], j->s[2], &j->weight, j->s[3], (float)j->s[4] * 0.25f, j->in_act[0], j->out_act[3], j->ints[0],
                             j->out_mem[1], j->out_mem[0]};
}
static void quantise_reference(struct job *j)
{
    struct quantise a = quantise_of(j);
    int32_t code[512];
    ref_quantise(&a, j->in64[0], j->in64[1], j->out64[0], j->out64[1], code);
    for (int64_t i = 0; i < j->out_size[3]; i++)
        j->out64[3][i] = j->in64[1][(a.first + code[i / j->s[1]]) * j->s[1] + i % j->s[1]];
    for (int i = 0; i < j->s[0]; i++)
        j->out64[2][i] = code[i];
}
static void quantise_forward(struct job *j)
{
    int32_t zeros[512] = {0}, code[512];
    float as_float[512];
    weight_of(j, 1, (int32_t)(j->in_size[1] / j->s[1]), j->s[1], WEIGHT_TRAIN);
    make_ints(j, 0, zeros, j->s[0]);
    struct quantise a = quantise_of(j);
    j->be->quantise(&a);
    j->be->read(code, j->ints[0], (size_t)j->s[0] * sizeof *code);
    for (int i = 0; i < j->s[0]; i++)
        as_float[i] = (float)code[i];
    j->be->write(j->out_mem[2], as_float, (size_t)j->s[0] * sizeof *as_float);
}
static void quantise_backward(struct job *j)
{
    struct quantise a = quantise_of(j);
    struct act *dq = j->be->act_alloc(j->out_size[0]);
    float *host = malloc((size_t)j->out_size[0] * sizeof *host);
    for (int64_t i = 0; i < j->out_size[0]; i++)
        host[i] = (float)j->dout64[i];
    j->be->upload(dq, host, j->out_size[0]);
    j->be->quantise_backward(&a, dq, j->din_act[0]);
    j->be->release(dq);
    free(host);
}

/* ---- contrastive: n, d, candidates each (document 0 has only its positive); in: h of 2n rows ---- */
static void contrastive_size(struct job *j)
{
    int32_t anchors[64], offsets[65] = {0}, candidates[64 * 64], at = 0;
    for (int i = 0; i < j->s[0]; i++) {
        anchors[i] = i;
        candidates[at++] = j->s[0] + i;
        for (int c = 1; c < j->s[2] && i > 0; c++)
            candidates[at++] = draw_below(j, 2 * j->s[0]);
        offsets[i + 1] = at;
    }
    make_ints(j, 0, anchors, j->s[0]);
    make_ints(j, 1, candidates, at);
    make_ints(j, 2, offsets, j->s[0] + 1);
    j->in_size[0] = 2 * j->s[0] * j->s[1];
    j->out_size[0] = 1;
    j->in64[0] = fresh(j, j->in_size[0], 1.0 / sqrt(sqrt((double)j->s[1])));
}
static struct contrastive contrastive_of(struct job *j)
{
    return (struct contrastive){j->s[0], j->s[1], j->in_act[0], j->ints[0], j->ints[1], j->ints[2], 0.5f, 1.25f, j->out_mem[0],
        j->din_act[0]};
}
static void contrastive_reference(struct job *j)
{
    struct contrastive a = contrastive_of(j);
    a.anchors = j->host[0];
    a.candidates = j->host[1];
    a.offsets = j->host[2];
    j->out64[0][0] = ref_contrastive(&a, j->in64[0]);
}
static void contrastive_forward(struct job *j)
{
    struct contrastive a = contrastive_of(j);
    j->be->contrastive(&a);
}

/* ---- kmeans: n, d, k; in: x, centroids (the last equals the first); out: distance, assign ---- */
static void kmeans_size(struct job *j)
{
    j->in_size[0] = j->s[0] * j->s[1];
    j->in_size[1] = j->s[2] * j->s[1];
    j->out_size[0] = j->out_size[1] = j->s[0];
    j->in64[1] = fresh(j, j->in_size[1], 1.0);
    memcpy(j->in64[1] + j->in_size[1] - j->s[1], j->in64[1], (size_t)j->s[1] * sizeof(double));
}
static void kmeans_reference(struct job *j)
{
    for (int i = 0; i < j->s[0]; i++) {
        j->out64[0][i] = INFINITY;
        for (int k = 0; k < j->s[2]; k++) {
            double sum = 0;
            for (int c = 0; c < j->s[1]; c++)
                sum += pow(j->in64[0][i * j->s[1] + c] - j->in64[1][k * j->s[1] + c], 2);
            if (sum < j->out64[0][i]) {
                j->out64[0][i] = sum;
                j->out64[1][i] = k;
            }
        }
    }
}
static void kmeans_forward(struct job *j)
{
    int32_t zeros[512] = {0}, assign[512];
    float as_float[512];
    make_ints(j, 0, zeros, j->s[0]);
    j->be->kmeans_assign(j->ints[0], j->out_mem[0], j->in_mem[0], j->in_mem[1], j->s[0], j->s[2], j->s[1]);
    j->be->read(assign, j->ints[0], (size_t)j->s[0] * sizeof *assign);
    for (int i = 0; i < j->s[0]; i++)
        as_float[i] = (float)assign[i];
    j->be->write(j->out_mem[1], as_float, (size_t)j->s[0] * sizeof *as_float);
}

/* ---- adamw: n, step; in: w, g, m, v; out: w, m, v; and the norm ---- */
static void adamw_size(struct job *j)
{
    for (int i = 0; i < 4; i++)
        j->in_size[i] = j->s[0];
    for (int i = 0; i < 3; i++)
        j->out_size[i] = j->s[0];
    j->out_size[3] = 1;
    for (int i = 0; i < 4; i++)
        j->in64[i] = fresh(j, j->s[0], 1.0);
    for (int i = 0; i < j->s[0]; i++)
        j->in64[3][i] = fabs(j->in64[3][i]);
}
static const struct adamw adamw_options = {.lr = 0.125f, .beta1 = 0.875f, .beta2 = 0.9921875f, .eps = 0.0009765625f, .weight_decay = 0.25f,
                                           .clip = 1.0f};
static void adamw_reference(struct job *j)
{
    struct adamw a = adamw_options;
    double norm = 0;
    for (int i = 0; i < j->s[0]; i++)
        norm += j->in64[1][i] * j->in64[1][i];
    j->out64[3][0] = norm;
    for (int i = 0; i < j->s[0]; i++) {
        double g = j->in64[1][i] * fmin(1.0, a.clip / (sqrt(norm) + 1e-6)), w = j->in64[0][i] * (1.0 - (double)a.lr * a.weight_decay);
        double m = a.beta1 * j->in64[2][i] + (1.0 - a.beta1) * g, v = a.beta2 * j->in64[3][i] + (1.0 - a.beta2) * g * g;
        j->out64[1][i] = m;
        j->out64[2][i] = v;
        j->out64[0][i] = w - a.lr * (m / (1.0 - pow(a.beta1, j->s[1]))) / (sqrt(v / (1.0 - pow(a.beta2, j->s[1]))) + a.eps);
    }
}
static void adamw_forward(struct job *j)
{
    struct adamw a = adamw_options;
    double squares = j->be->sum_squares(j->in_mem[1], j->s[0]);
    float as_float = (float)squares, *host = malloc((size_t)j->s[0] * sizeof *host);
    const int from[] = {0, 2, 3};
    for (int i = 0; i < 3; i++) {
        j->be->read(host, j->in_mem[from[i]], (size_t)j->s[0] * sizeof *host);
        j->be->write(j->out_mem[i], host, (size_t)j->s[0] * sizeof *host);
    }
    a.norm = sqrt(squares);
    a.step = j->s[1];
    j->be->adamw(j->out_mem[0], j->in_mem[1], j->out_mem[1], j->out_mem[2], j->s[0], &a);
    j->be->write(j->out_mem[3], &as_float, sizeof as_float);
    free(host);
}

/* ---- the table ---- */
static const struct op ops[] = {
    {"embed", "W", "a", embed_size, embed_reference, embed_forward, embed_backward, false,
     {{0, 33, 7, 0}, {1, 1, 1, 0}, {31, 33, 7, 0}, {257, 16, 300, 10}, {33, 257, 5, 50}}},
    {"gather scatter_add", "A", "a", embed_size, embed_reference, gather_forward, gather_backward, false,
     {{0, 33, 7, 0}, {1, 1, 1, 0}, {31, 33, 7, 0}, {257, 64, 100, 0}, {33, 257, 5, 0}}},
    {"dropout", "a", "a", flat_size, dropout_reference, dropout_forward, dropout_backward, false,
     {{1, 0, 0, 10}, {31, 0, 0, 0}, {33, 0, 0, 50}, {257, 0, 0, 10}, {40001, 0, 0, 25}}},
    {"axpy", "aa", "a", flat_size, axpy_reference, axpy_forward, NULL, false, {{1}, {31}, {33}, {257}, {40001}}},
    {"relu_backward", "a", "a", flat_size, relu_reference, relu_forward, relu_backward, false, {{1}, {31}, {33}, {257}, {40001}}},
    {"pool_mean", "a", "a", pool_size, pool_reference, pool_forward, NULL, false, {{0, 1}, {1, 33}, {2, 31}, {3, 64}, {4, 5}, {5, 257}}},
    {"add_rmsnorm", "Aam", "aa", norm_short_size, norm_reference, norm_forward, NULL, false,
     {{0, 33, 1, 0}, {1, 1, 1, 0}, {1, 31, 0, 0}, {31, 33, 1, 0}, {33, 257, 1, 10}, {257, 64, 1, 50}, {2, 768, 0, 0}}},
    {"rmsnorm_backward", "AaM", "aa", norm_size_and_spare, norm_reference, norm_forward, norm_backward, false,
     {{0, 33, 1, 0}, {1, 1, 1, 0}, {1, 31, 0, 0}, {31, 33, 1, 0}, {33, 257, 1, 10}, {257, 64, 1, 50}}},
    {"linear", "aW", "a", linear_size, linear_reference, linear_forward, linear_backward, false,
     {{0, 33, 31, 0}, {1, 1, 1, 0}, {1, 257, 31, 1}, {31, 33, 257, 0}, {33, 31, 33, 1}, {20, 128, 64, 1}, {257, 33, 65, 0},
      {257, 64, 31, 1}, {64, 17, 5, 0}, {5, 64, 257, 0}, {500, 40, 48, 0}, {500, 40, 48, 1}}},
    {"linear flags", "aw", "aaa", flags_size, flags_reference, flags_forward, NULL, false,
     {{0, 33, 31, 0}, {1, 1, 1, 0}, {31, 33, 257, 0}, {33, 31, 33, 1}, {257, 65, 31, 0}, {257, 65, 31, 1}, {3, 129, 70, 0}}},
    {"gated_gelu", "a", "a", gelu_size, gelu_reference, gelu_forward, gelu_backward, false,
     {{0, 33, 0, 10}, {1, 1, 0, 0}, {31, 33, 0, 0}, {33, 257, 0, 10}, {257, 16, 0, 50}}},
    {"attention", "aaaM", "am", attention_size, attention_reference, attention_forward, attention_backward, false,
     {{0, 0, 1, 1, 5, 0}, {1, 1, 3, 8, 5, 0}, {2, 2, 2, 16, 3, 0}, {2, 2, 5, 7, 7, 10}, {3, 3, 1, 5, 5, 0}, {5, 5, 2, 24, 3, 20},
      {4, 4, 2, 8, 5, 0}, {6, 2, 2, 17, 0, 0}, {2, 6, 4, 32, 0, 10}, {7, 7, 1, 64, 2, 0}, {2, 5, 1, 4, 0, 0},
      {5, 5, 2, 64, 13, 10}, {2, 2, 3, 32, 27, 0}, {5, 5, 1, 128, 13, 20}, {3, 3, 1, 16, 11, 10}, {6, 3, 2, 64, 24, 0},
      {6, 3, 1, 72, 13, 10}, {7, 7, 2, 64, 8, 0}, {2, 2, 1, 136, 29, 10}}},
    {"decode_attention", "aaam", "aaa", decode_size, decode_reference, decode_forward, NULL, false,
     {{1, 1, 1, 0}, {31, 3, 8, 1}, {33, 2, 31, 4}, {40, 12, 16, 20}, {5, 2, 72, 40}, {7, 1, 67, 33}}},
    {"hint_attention", "aaaM", "am", hint_size, hint_reference, hint_forward, hint_backward, false,
     {{0, 1, 1, 1, 0}, {1, 2, 8, 1, 50}, {2, 3, 7, 2, 30}, {2, 2, 16, 3, 0}, {5, 2, 8, 1, 100}, {5, 1, 24, 2, -1}, {4, 2, 8, 1, 50},
      {3, 1, 4, 1, 30}}},
    {"head_loss", "aW", "mm", loss_size, loss_reference, loss_forward, NULL, true,
     {{0, 16, 31, 0, 0, 0}, {1, 1, 1, 0, 0, 0}, {31, 33, 257, 3, 0, 0}, {33, 16, 31, 0, 1, 30}, {257, 8, 1030, 1, 0, 10},
      {300, 5, 2100, 0, 1, 50}, {7, 64, 513, 0, 0, 100}}},
    {"quantise", "AW", "mmma", quantise_size, quantise_reference, quantise_forward, quantise_backward, false,
     {{0, 16, 31, 2, 4}, {1, 1, 1, 0, 4}, {31, 33, 7, 2, 4}, {33, 8, 257, 0, 2}, {257, 16, 31, 5, 4}}},
    {"contrastive", "A", "m", contrastive_size, contrastive_reference, contrastive_forward, NULL, true,
     {{1, 1, 3}, {2, 31, 2}, {31, 33, 31}, {7, 257, 5}}},
    {"kmeans_assign", "mm", "mm", kmeans_size, kmeans_reference, kmeans_forward, NULL, false,
     {{0, 8, 7}, {1, 1, 1}, {31, 33, 7}, {257, 8, 65}, {33, 257, 31}}},
    {"adamw sum_squares", "mmmm", "mmmm", adamw_size, adamw_reference, adamw_forward, NULL, false,
     {{1, 1}, {31, 2}, {33, 10}, {257, 1000}, {70001, 3}}},
};

#endif
