/* kernel_job.h: one run of one op on one shape: its tensors in double (reference), in f32 (host) and in backend memory.
 *
 * Inputs and outputs are numbered. `kinds` of an op say for each whether it is an activation ('a'), the master of a weight ('w') or other f32
 * backend memory ('m'); a capital letter for an input means that its gradient is "+=" (it is then started from noise, which is taken off
 * again), a small one "=" (started from rubbish that must vanish). Everything is drawn from a fixed seed. References read host memory only:
 * backend memory may lie on a device. What a backend with bf16 activations gets is rounded to bf16 for the reference, too; kernel_tolerance.h
 * says what may then remain. */
#ifndef SEMINDEX_KERNEL_JOB_H
#define SEMINDEX_KERNEL_JOB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/backend.h"
#include "kernel_tolerance.h"

enum { SLOTS = 6, DIMS = 6 };

struct job;
struct op {
    const char *name;
    const char *in, *out;                    /* kinds, see above; out[0] is what gradients are taken of */
    void (*size)(struct job *j);             /* sets in_size, out_size; makes integers */
    void (*reference)(struct job *j);        /* in64 -> out64 */
    void (*forward)(struct job *j);
    void (*backward)(struct job *j);         /* or NULL */
    bool loss;                               /* out[0] is a loss, its gradient comes with the forward pass */
    int32_t shapes[24][DIMS];                /* ends at an all-zero row */
};

struct job {
    const struct backend *be;
    const struct op *op;
    const int32_t *s;
    uint64_t seed, drawn;
    int64_t in_size[SLOTS], out_size[SLOTS];
    double *in64[SLOTS], *out64[SLOTS], *saved[SLOTS];
    float *in32[SLOTS];
    struct act *in_act[SLOTS], *out_act[SLOTS], *din_act[SLOTS], *dout_act[SLOTS];
    float *in_mem[SLOTS], *out_mem[SLOTS], *din_mem[SLOTS], *dout_mem[SLOTS];
    double *dout64, *noise[SLOTS];
    int32_t *ints[SLOTS];  /* backend memory made by size() */
    int32_t *host[SLOTS];  /* the same on the host */
    struct rows rows[2], host_rows[2];
    struct weight weight;  /* if the op has one */
    void *extra[SLOTS], *host_extra[SLOTS]; /* more backend memory, and the same on the host */
};

static double draw(struct job *j)
{
    double u = -1.5;
    for (int i = 0; i < 3; i++)
        u += (double)mix_uniform(j->seed, j->drawn++);
    return 2.0 * u;
}

static int32_t draw_below(struct job *j, int32_t n)
{
    return (int32_t)(mix64(j->seed, j->drawn++) % (uint64_t)n);
}

/* x as the backend stores it in an activation. */
static double as_stored(const struct job *j, double x)
{
    float f = (float)x;
    uint32_t bits;
    if (j->be->act_bytes == sizeof f)
        return f;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void round_tensor(const struct job *j, char kind, double *x, int64_t n)
{
    for (int64_t i = 0; i < n && tolower(kind) != 'm'; i++)
        x[i] = as_stored(j, x[i]);
}

static int32_t *make_ints(struct job *j, int slot, const int32_t *host, int64_t n)
{
    free(j->host[slot]);
    j->host[slot] = malloc((size_t)(n + 1) * sizeof(int32_t));
    memcpy(j->host[slot], host, (size_t)n * sizeof(int32_t));
    j->ints[slot] = j->be->alloc((size_t)(n + 1) * sizeof(int32_t));
    j->be->write(j->ints[slot], host, (size_t)n * sizeof(int32_t));
    return j->ints[slot];
}

static void make_extra(struct job *j, int slot, const void *host, size_t bytes)
{
    j->extra[slot] = j->be->alloc(bytes + 64);
    j->host_extra[slot] = calloc(1, bytes + 64);
    memcpy(j->host_extra[slot], host, bytes);
    j->be->write(j->extra[slot], host, bytes);
}

/* Row patterns: lengths, ending at -1. */
static const int32_t patterns[][6] = {{1, -1}, {31, -1}, {33, 0, 1, -1}, {2, 257, 5, -1}, {0, -1}, {3, 64, 65, 0, 16, -1}, {0, 7, 1, -1},
    {20, 20, -1}};

static struct rows make_rows(struct job *j, int slot, int pattern, int32_t plus)
{
    int32_t offsets[8] = {0}, count = 0, longest = 0;
    for (; patterns[pattern][count] >= 0; count++) {
        offsets[count + 1] = offsets[count] + patterns[pattern][count] + plus;
        longest = patterns[pattern][count] + plus > longest ? patterns[pattern][count] + plus : longest;
    }
    struct rows r = {count, offsets[count], longest, make_ints(j, slot, offsets, count + 1)};
    j->host_rows[slot] = (struct rows){count, offsets[count], longest, j->host[slot]};
    return r;
}

static void put_tensor(struct job *j, char kind, const double *x, int64_t n, struct act **act, float **mem)
{
    float *host = malloc((size_t)(n + 1) * sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)x[i];
    if (tolower(kind) == 'a') {
        *act = j->be->act_alloc(n + 1);
        j->be->upload(*act, host, n);
    } else {
        *mem = j->be->alloc((size_t)(n + 1) * sizeof(float));
        j->be->write(*mem, host, (size_t)n * sizeof(float));
    }
    free(host);
}

static double *get_tensor(struct job *j, char kind, const struct act *act, const float *mem, int64_t n)
{
    float *host = malloc((size_t)(n + 1) * sizeof *host);
    double *y = malloc((size_t)(n + 1) * sizeof *y);
    if (tolower(kind) == 'a')
        j->be->download(host, act, n);
    else
        j->be->read(host, mem, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        y[i] = host[i];
    free(host);
    return y;
}

static double *fresh(struct job *j, int64_t n, double scale)
{
    double *x = malloc((size_t)(n + 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)(float)(scale * draw(j));
    return x;
}

static void job_open(struct job *j, const struct backend *be, const struct op *op, const int32_t *shape)
{
    *j = (struct job){.be = be, .op = op, .s = shape, .seed = mix64(7, (uint64_t)shape[0] * 1000 + (uint64_t)shape[1])};
    op->size(j);
    for (int i = 0; op->in[i]; i++) {
        if (!j->in64[i])
            j->in64[i] = fresh(j, j->in_size[i], 1.0);
        round_tensor(j, op->in[i], j->in64[i], j->in_size[i]);
        put_tensor(j, op->in[i], j->in64[i], j->in_size[i], &j->in_act[i], &j->in_mem[i]);
        j->noise[i] = fresh(j, j->in_size[i], 1.0);
        round_tensor(j, tolower(op->in[i]) == 'w' ? 'm' : op->in[i], j->noise[i], j->in_size[i]);
        put_tensor(j, op->in[i], j->noise[i], j->in_size[i], &j->din_act[i], &j->din_mem[i]);
    }
    for (int i = 0; op->out[i]; i++) {
        j->out64[i] = fresh(j, j->out_size[i], 1.0);
        put_tensor(j, op->out[i], j->out64[i], j->out_size[i], &j->out_act[i], &j->out_mem[i]);
    }
    j->dout64 = fresh(j, j->out_size[0], 1.0);
    if (op->loss)
        j->dout64[0] = 1.0;
    round_tensor(j, op->out[0], j->dout64, j->out_size[0]);
    put_tensor(j, op->out[0], j->dout64, j->out_size[0], &j->dout_act[0], &j->dout_mem[0]);
}

static void job_close(struct job *j)
{
    for (int i = 0; i < SLOTS; i++) {
        void *device[] = {j->in_act[i], j->out_act[i], j->din_act[i], j->dout_act[i], j->in_mem[i], j->out_mem[i], j->din_mem[i],
                          j->dout_mem[i], j->ints[i], j->extra[i]};
        for (size_t k = 0; k < sizeof device / sizeof *device; k++)
            j->be->release(device[k]);
        free(j->in64[i]);
        free(j->out64[i]);
        free(j->noise[i]);
        free(j->host[i]);
        free(j->host_extra[i]);
    }
    free(j->dout64);
}

static double largest(const double *x, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs(x[i]));
    return top;
}

static void complain(const struct job *j, const char *what, int slot, double error, double bound)
{
    fail_msg("%s %s %d, shape %d %d %d %d %d %d: error %.3g > %.3g", j->op->name, what, slot, j->s[0], j->s[1], j->s[2], j->s[3], j->s[4],
             j->s[5], error, bound);
}

/* Bounds of one tensor: |error of element i| <= base + relative * |value i|. */
struct bound {
    double base, relative;
};

/* scale: of the tensor; terms: of the terms that were rounded, if they may cancel; rounds: stored, spread in activations, spread in f32. */
static struct bound bound_of(const struct job *j, char kind, double scale, double terms, const double *rounds)
{
    double u = j->be->act_bytes == sizeof(float) ? 0.0 : tolerance_unit;
    bool act = tolower(kind) == 'a';
    return (struct bound){tolerance_f32 * scale + u * rounds[act ? 1 : 2] * fmax(scale, terms), act ? u * rounds[0] : 0.0};
}

static void check_outputs(struct job *j)
{
    const struct tolerance *t = tolerance_of(j->op->name);
    assert_non_null(t);
    for (int o = 0; j->op->out[o]; o++) {
        double *y = get_tensor(j, j->op->out[o], j->out_act[o], j->out_mem[o], j->out_size[o]);
        struct bound b = bound_of(j, j->op->out[o], fmax(largest(j->out64[o], j->out_size[o]), 0.01), 0.0,
                                  (const double[]){t->rounds, t->spread, 0.0});
        for (int64_t i = 0; i < j->out_size[o]; i++) {
            double most = b.base + b.relative * fabs(j->out64[o][i]);
            if (!(fabs(y[i] - j->out64[o][i]) <= most)) /* also what is not finite */
                complain(j, "output", o, fabs(y[i] - j->out64[o][i]), most);
        }
        free(y);
    }
}

/* sum out[0] * dout of the reference with input `slot` moved by step along direction (NULL: along element `at`). */
static double moved(struct job *j, int slot, const double *direction, int64_t at, double step)
{
    double *kept = j->in64[slot], sum = 0;
    j->in64[slot] = malloc((size_t)(j->in_size[slot] + 1) * sizeof *kept);
    for (int64_t i = 0; i < j->in_size[slot]; i++)
        j->in64[slot][i] = kept[i] + (direction ? step * direction[i] : i == at ? step : 0.0);
    j->op->reference(j);
    for (int64_t i = 0; i < j->out_size[0]; i++)
        sum += j->out64[0][i] * j->dout64[i];
    free(j->in64[slot]);
    j->in64[slot] = kept;
    return sum;
}

/* The gradient as the backend has it, "+=" with what was there taken off again; bound[i] is what element i may be off by. */
static double *read_gradient(struct job *j, int slot, double *bound)
{
    const struct tolerance *t = tolerance_of(j->op->name);
    char kind = j->op->in[slot];
    int64_t n = j->in_size[slot];
    double *g = get_tensor(j, kind, j->din_act[slot], j->din_mem[slot], n);
    for (int64_t i = 0; i < n; i++)
        bound[i] = fabs(g[i]);
    if (isupper(kind))
        for (int64_t i = 0; i < n; i++)
            g[i] -= j->noise[slot][i];
    struct bound b = bound_of(j, kind, fmax(largest(g, n), isupper(kind) ? 1.0 : 0.1), t->grad_terms,
                              (const double[]){t->grad_rounds, t->grad_spread, t->grad_mem});
    for (int64_t i = 0; i < n; i++)
        bound[i] = b.base + b.relative * bound[i];
    return g;
}

/* Gradient of input `slot` against central differences: along one random direction, and element by element (a sample of them). Errors of
 * elements are independent, so the error along a direction is bounded by three times the root of their squares. */
static void check_gradient(struct job *j, int slot)
{
    int64_t n = j->in_size[slot];
    double *bound = malloc((size_t)(n + 1) * sizeof *bound), *g = read_gradient(j, slot, bound), *direction = fresh(j, n, 1.0);
    double along = 0, spread = 0, step = 1e-5;
    for (int64_t i = 0; i < n; i++) {
        along += g[i] * direction[i];
        spread += bound[i] * bound[i] * direction[i] * direction[i];
    }
    double truth = (moved(j, slot, direction, 0, step) - moved(j, slot, direction, 0, -step)) / (2 * step);
    if (n > 0 && !(fabs(along - truth) <= 3 * sqrt(spread)))
        complain(j, "gradient along a direction", slot, fabs(along - truth), 3 * sqrt(spread));
    int64_t samples = n < 24 ? n : n > 3000 ? 6 : 24;
    for (int64_t k = 0; k < samples; k++) {
        int64_t at = samples == n ? k : draw_below(j, (int32_t)n);
        double exact = (moved(j, slot, NULL, at, step) - moved(j, slot, NULL, at, -step)) / (2 * step);
        if (!(fabs(exact - g[at]) <= bound[at]))
            complain(j, "gradient", slot, fabs(exact - g[at]), bound[at]);
    }
    free(g);
    free(bound);
    free(direction);
}

#endif
