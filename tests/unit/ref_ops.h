/* ref_ops.h: every numeric operation once more, plainly, in double: what the conformance test compares a backend with.
 *
 * Written from the formulas of backend.h alone: loops over elements, no tiles, no tricks. Rows are given by offsets as there. Gradients
 * have no reference of their own: the test takes finite differences of these functions. */
#ifndef SEMINDEX_REF_OPS_H
#define SEMINDEX_REF_OPS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/backend.h"

static double ref_keep(struct dropout d, uint64_t index)
{
    if (d.rate <= 0.0f)
        return 1.0;
    return dropout_keeps(d, index) ? 1.0 / (1.0 - (double)d.rate) : 0.0;
}

static void ref_rmsnorm(double *y, const double *r, const double *w, int n, int d, double eps)
{
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int c = 0; c < d; c++)
            sum += r[i * d + c] * r[i * d + c];
        for (int c = 0; c < d; c++)
            y[i * d + c] = r[i * d + c] / sqrt(sum / d + eps) * w[c];
    }
}

static void ref_linear(double *y, const double *x, const double *w, int n, int cols, int rows, double alpha)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < rows; o++) {
            double sum = 0;
            for (int c = 0; c < cols; c++)
                sum += x[i * cols + c] * w[o * cols + c];
            y[i * rows + o] = alpha * sum;
        }
}

static double ref_gelu(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/* In place; returns the log-sum-exp; -inf entries are masked. All masked: zeros. */
static double ref_softmax(double *x, int n)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        top = fmax(top, x[i]);
    if (n == 0 || isinf(top))
        return 0.0;
    for (int i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - top);
    for (int i = 0; i < n; i++)
        x[i] /= sum;
    return top + log(sum);
}

static void ref_attention(const struct attention *a, double *out, double *lse, const double *q, const double *k, const double *v,
                          const double *bias)
{
    int longest = a->k_rows.longest + 1, width = a->width;
    double *s = malloc((size_t)longest * sizeof *s);
    for (int b = 0; b < a->q_rows.count; b++)
        for (int h = 0; h < a->heads; h++)
            for (int i = 0; i < a->q_rows.offsets[b + 1] - a->q_rows.offsets[b]; i++) {
                int k0 = a->k_rows.offsets[b], keys = a->k_rows.offsets[b + 1] - k0, token = a->q_rows.offsets[b] + i;
                for (int j = 0; j < keys; j++) {
                    s[j] = a->causal && j > i ? -INFINITY : 0.0;
                    for (int c = 0; c < width; c++)
                        s[j] += q[token * a->q_stride + h * width + c] * k[(k0 + j) * a->k_stride + h * width + c];
                    if (bias)
                        s[j] += bias[attention_bucket(j - i, a->bidirectional, a->buckets, a->max_distance) * a->heads + h];
                }
                lse[h * a->q_rows.total + token] = ref_softmax(s, keys);
                for (int c = 0; c < width; c++) {
                    double sum = 0;
                    for (int j = 0; j < keys; j++)
                        sum += s[j] * v[(k0 + j) * a->v_stride + h * width + c] *
                               ref_keep(a->drop, ((uint64_t)h * (uint64_t)a->q_rows.total + (uint64_t)token) * 65536 + (uint64_t)j);
                    out[(token * a->heads + h) * width + c] = sum;
                }
            }
    free(s);
}

static bool ref_hint_visible(const struct hint_attention *a, int b, int i, int j)
{
    int m = a->text_rows.offsets[b + 1] - a->text_rows.offsets[b];
    if (a->visible)
        return a->visible[a->visible_offsets[b] + (int64_t)i * m + j];
    return i != j && mix_uniform(mix64(a->seed, a->doc_key[b]), (uint64_t)i * 65536 + (uint64_t)j) < a->ratio;
}

static void ref_hint_attention(const struct hint_attention *a, double *out, double *lse, const double *q, const double *k, const double *v,
                               const double *bias)
{
    int width = a->width, total = a->text_rows.total;
    double *s = malloc((size_t)(a->memory_rows.longest + 1) * sizeof *s);
    for (int b = 0; b < a->text_rows.count; b++)
        for (int p = 0; p < a->passes; p++)
            for (int h = 0; h < a->heads; h++)
                for (int i = 0; i < a->text_rows.offsets[b + 1] - a->text_rows.offsets[b]; i++) {
                    int k0 = a->memory_rows.offsets[b], keys = a->memory_rows.offsets[b + 1] - k0;
                    int row = p * total + a->text_rows.offsets[b] + i;
                    for (int j = 0; j < keys; j++) {
                        s[j] = bias[attention_bucket(j - a->passes - i, true, a->buckets, a->max_distance) * a->heads + h];
                        for (int c = 0; c < width; c++)
                            s[j] += q[((b * a->passes + p) * a->heads + h) * width + c] * k[(k0 + j) * a->k_stride + h * width + c];
                        if (j >= a->passes && !ref_hint_visible(a, b, i, j - a->passes))
                            s[j] = -INFINITY;
                    }
                    lse[h * a->passes * total + row] = ref_softmax(s, keys);
                    for (int c = 0; c < width; c++) {
                        double sum = 0;
                        for (int j = 0; j < keys; j++)
                            sum += s[j] * v[(k0 + j) * a->v_stride + h * width + c];
                        out[(row * a->heads + h) * width + c] = sum;
                    }
                }
    free(s);
}

static double ref_head_loss(const struct head_loss *a, const double *x, const double *head, double *row_loss)
{
    int d = a->head->cols;
    double total = 0, *s = malloc((size_t)a->count * sizeof *s);
    for (int i = 0; i < a->n; i++) {
        row_loss[i] = 0;
        if (a->labels[i] < 0)
            continue;
        ref_linear(s, x + (a->pick ? a->pick[i] : i) * d, head + a->first * d, 1, d, a->count, a->scale);
        double label = s[a->labels[i]];
        row_loss[i] = ref_softmax(s, a->count) - label;
        total += row_loss[i];
    }
    free(s);
    return a->weight * total;
}

static void ref_quantise(const struct quantise *a, const double *h, const double *book, double *soft, double *p, int *code)
{
    int d = a->book->cols;
    const double *e = book + a->first * d;
    for (int i = 0; i < a->n; i++) {
        double *row = p + i * a->codes;
        ref_linear(row, h + i * d, e, 1, d, a->codes, 1.0);
        code[i] = 0;
        for (int j = 0; j < a->codes; j++)
            code[i] = row[j] > row[code[i]] ? j : code[i];
        for (int j = 0; j < a->codes; j++)
            row[j] *= a->inv_temperature;
        ref_softmax(row, a->codes);
        for (int c = 0; c < d; c++) {
            soft[i * d + c] = 0;
            for (int j = 0; j < a->codes; j++)
                soft[i * d + c] += row[j] * e[j * d + c];
        }
    }
}

static double ref_contrastive(const struct contrastive *a, const double *h)
{
    double total = 0, s[512];
    int counted = 0;
    for (int i = 0; i < a->n; i++) {
        int count = a->offsets[i + 1] - a->offsets[i];
        if (count < 2)
            continue;
        for (int c = 0; c < count; c++)
            ref_linear(&s[c], h + a->anchors[i] * a->d, h + a->candidates[a->offsets[i] + c] * a->d, 1, a->d, 1, a->inv_temperature);
        double positive = s[0];
        total += ref_softmax(s, count) - positive;
        counted++;
    }
    return counted > 0 ? a->weight * total / counted : 0.0;
}

#endif
