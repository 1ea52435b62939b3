/* kernel_perf.h: `test_kernels --perf [threads]`: speed of every op that matters on shapes that matter, and the tuning of the products.
 *
 * A line is: op, shape, time of the best of several runs, achieved, floor, ratio = achieved / floor. The floor is measured in the same run:
 * for products the rate of one large oneDNN product, for ops bound by memory the rate of copying blocks far larger than the caches. */
#ifndef SEMINDEX_KERNEL_PERF_H
#define SEMINDEX_KERNEL_PERF_H

#include <time.h>

#include "../../kernels/cpu/cpu.h"
#include "../../kernels/cpu/gemm_table.h"
#include "kernel_job.h"

static double perf_gemm, perf_copy;  /* GFLOP/s, GB/s */
static double perf_seconds = 0.1;     /* spent on one timing */

static double perf_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call: the best of many timings of some 50 us each over 0.1 s, as others may use the machine. */
static double perf_time(void (*call)(void *arg), void *arg)
{
    call(arg);
    double begin = perf_now(), start = begin, best = 1e9;
    call(arg);
    int times = (int)(50e-6 / (perf_now() - begin + 1e-9)) + 1;
    for (int turn = 0; turn < 3 || perf_now() - start < perf_seconds; turn++) {
        begin = perf_now();
        for (int i = 0; i < times; i++)
            call(arg);
        double each = (perf_now() - begin) / times;
        best = each < best ? each : best;
    }
    return best;
}

static struct act *perf_act(const struct backend *be, int64_t n)
{
    float *host = malloc((size_t)n * sizeof *host);
    struct act *x = be->act_alloc(n);
    for (int64_t i = 0; i < n; i++)
        host[i] = mix_uniform(1, (uint64_t)i) - 0.5f;
    be->upload(x, host, n);
    free(host);
    return x;
}
static float *perf_mem(const struct backend *be, int64_t n)
{
    return (float *)(void *)perf_act(be, n); /* same memory on the cpu, the only backend measured here */
}

static void perf_line(const char *name, const char *shape, double seconds, double work, bool product)
{
    double achieved = work / seconds * 1e-9, floor = product ? perf_gemm : perf_copy;
    printf("%-26s %-30s %9.1f us  achieved=%.1f%s floor=%.1f ratio=%.2f\n", name, shape, seconds * 1e6, achieved,
           product ? "GFLOP/s" : "GB/s",
           floor, achieved / floor);
}

struct perf {
    const struct backend *be;
    struct weight w;
    struct act *x, *y, *z;
    float *m[4];
    int64_t n, d;
    int32_t *ids;
    struct attention attention;
    struct attention_grad grad;
    struct hint_attention hint;
    struct hint_attention_grad hint_grad;
    struct head_loss loss;
    struct beam_step step;
};

static void call_sgemm(void *arg)
{
    struct perf *p = arg;
    cpu_gemm_all(&(struct sgemm){false, true, 512, 512, 512, 1.0f, p->m[0], 512, p->m[1], 512, 0.0f, p->m[2], 512, false}, true);
}
static void call_copy(void *arg)
{
    struct perf *p = arg;
    p->be->dropout((struct act *)p->m[0], (struct act *)p->m[1], 8 << 20, (struct dropout){0, 0});
}
static void perf_floors(const struct backend *be)
{
    struct perf p = {.be = be, .m = {perf_mem(be, 8 << 20), perf_mem(be, 8 << 20), perf_mem(be, 512 * 512)}};
    perf_gemm = 2.0 * 512 * 512 * 512 / perf_time(call_sgemm, &p) * 1e-9;
    perf_copy = 2.0 * 4 * (8 << 20) / perf_time(call_copy, &p) * 1e-9;
    printf("floors on %s: product %.1f GFLOP/s, copy %.1f GB/s\n", be->device, perf_gemm, perf_copy);
    for (int i = 0; i < 3; i++)
        be->release(p.m[i]);
}

/* ---- products ---- */
static void call_linear(void *arg)
{
    struct perf *p = arg;
    p->be->linear(p->y, p->x, &p->w, (int32_t)p->n, 1.0f, 0);
}
static void call_linear_backward(void *arg)
{
    struct perf *p = arg;
    p->be->linear_backward(p->z, &p->w, p->y, p->x, (int32_t)p->n, 0);
}
static double perf_linear(const struct backend *be, const char *label, int32_t n, int32_t rows, int32_t cols, enum weight_use use,
    bool backward)
{
    char shape[64];
    struct perf p = {.be = be, .n = n};
    p.w = (struct weight){rows, cols, perf_mem(be, (int64_t)rows * cols), perf_mem(be, (int64_t)rows * cols), NULL};
    p.x = perf_act(be, (int64_t)n * cols);
    p.y = perf_act(be, (int64_t)n * rows);
    p.z = perf_act(be, (int64_t)n * cols);
    be->weight_open(&p.w, use);
    double seconds = perf_time(backward ? call_linear_backward : call_linear, &p), work = (backward ? 4.0 : 2.0) * n * rows * cols;
    snprintf(shape, sizeof shape, "%d x %d -> %d", n, cols, rows);
    if (label)
        perf_line(label, shape, seconds, work, true);
    be->weight_close(&p.w);
    be->release(p.w.master);
    be->release(p.w.grad);
    be->release(p.x);
    be->release(p.y);
    be->release(p.z);
    return work / seconds * 1e-9;
}
static void perf_products(const struct backend *be)
{
    static const int32_t infer[][2] = {{768, 768}, {3072, 768}, {768, 3072}, {2304, 768}, {512, 512}, {2048, 512}, {512, 2048}};
    static const int32_t train[][2] = {{64, 64}, {256, 64}, {128, 128}, {384, 128}, {512, 128}, {128, 512}, {768, 768}, {3072, 768}};
    static const int32_t few[] = {1, 20, 32, 160, 256, 1024}, many[] = {100, 1000, 10000};
    for (size_t s = 0; s < sizeof infer / sizeof *infer; s++)
        for (size_t i = 0; i < sizeof few / sizeof *few; i++)
            perf_linear(be, "linear packed", few[i], infer[s][0], infer[s][1], WEIGHT_INFER, false);
    for (size_t s = 0; s < sizeof train / sizeof *train; s++)
        for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
            if (many[i] == 10000 && train[s][0] >= 768)
                continue;
            perf_linear(be, "linear as stored", many[i], train[s][0], train[s][1], WEIGHT_TRAIN, false);
            perf_linear(be, "linear_backward", many[i], train[s][0], train[s][1], WEIGHT_TRAIN, true);
        }
}

/* ---- attention ---- */
static void call_attention(void *arg)
{
    struct perf *p = arg;
    p->be->attention(&p->attention);
}
static void call_attention_backward(void *arg)
{
    struct perf *p = arg;
    p->be->attention_backward(&p->attention, &p->grad);
}
static void call_hint(void *arg)
{
    struct perf *p = arg;
    p->be->hint_attention(&p->hint);
}
static void call_hint_backward(void *arg)
{
    struct perf *p = arg;
    p->be->hint_attention_backward(&p->hint, &p->hint_grad);
}
struct perf_shape {
    int32_t rows, queries, keys, heads, width;
    bool bias, backward;
    float dropout;
};
static struct rows perf_rows(const struct backend *be, int32_t count, int32_t length)
{
    int32_t *offsets = be->alloc((size_t)(count + 1) * sizeof *offsets);
    for (int32_t i = 0; i <= count; i++)
        offsets[i] = i * length;
    return (struct rows){count, count * length, length, offsets};
}
static void perf_attention_shape(const struct backend *be, struct perf_shape s)
{
    char shape[64];
    int32_t stride = s.heads * s.width;
    struct perf p = {.be = be};
    struct rows q = perf_rows(be, s.rows, s.queries), k = perf_rows(be, s.rows, s.keys);
    struct act *x[8];
    for (int i = 0; i < 8; i++)
        x[i] = perf_act(be, (int64_t)(i < 4 ? q.total : k.total) * stride);
    p.m[0] = perf_mem(be, 32 * s.heads);
    p.m[1] = perf_mem(be, (int64_t)s.heads * q.total);
    p.attention = (struct attention){s.heads, s.width, q, k, x[0], x[4], x[5], stride, stride, stride, s.bias ? p.m[0] : NULL, 32, 128,
                                     true,
                                     false, {s.dropout, 3}, x[1], p.m[1]};
    p.grad = (struct attention_grad){x[2], x[3], x[6], x[7], s.bias ? p.m[0] : NULL};
    double product = 2.0 * s.rows * s.queries * s.keys * stride, seconds = perf_time(call_attention, &p);
    snprintf(shape, sizeof shape, "%d x %d:%d, %d x %d%s", s.rows, s.queries, s.keys, s.heads, s.width, s.dropout > 0 ? " drop" : "");
    perf_line("attention", shape, seconds, 2 * product, true);
    if (s.backward)
        perf_line("attention_backward", shape, perf_time(call_attention_backward, &p), 5 * product, true);
    for (int i = 0; i < 8; i++)
        be->release(x[i]);
    be->release(p.m[0]);
    be->release(p.m[1]);
    be->release((void *)(uintptr_t)q.offsets);
    be->release((void *)(uintptr_t)k.offsets);
}
static void perf_hint(const struct backend *be, int32_t documents, int32_t tokens, int32_t heads, int32_t width, int32_t passes)
{
    char shape[64];
    int32_t stride = heads * width;
    struct perf p = {.be = be};
    struct rows text = perf_rows(be, documents, tokens), memory = perf_rows(be, documents, tokens + passes);
    struct act *x[8];
    for (int i = 0; i < 8; i++)
        x[i] = perf_act(be, (int64_t)(i < 2 ? documents * passes : i < 4 ? passes * text.total : memory.total) * stride);
    p.m[0] = perf_mem(be, 32 * heads);
    p.m[1] = perf_mem(be, (int64_t)heads * passes * text.total);
    uint64_t *keys = be->alloc((size_t)documents * sizeof *keys);
    p.hint = (struct hint_attention){heads, width, passes, text, memory, x[0], x[4], x[5], stride, stride, p.m[0], 32, 128, NULL, NULL,
                                     0.5f, 1,
                                     keys, x[2], p.m[1]};
    p.hint_grad = (struct hint_attention_grad){x[3], x[1], x[6], x[7], p.m[0]};
    double product = 2.0 * passes * documents * tokens * tokens * stride;
    snprintf(shape, sizeof shape, "%d x %d, %d x %d, %d passes", documents, tokens, heads, width, passes);
    perf_line("hint_attention", shape, perf_time(call_hint, &p), product, true);
    perf_line("hint_attention_backward", shape, perf_time(call_hint_backward, &p), 2 * product, true);
    for (int i = 0; i < 8; i++)
        be->release(x[i]);
    be->release(keys);
    be->release(p.m[0]);
    be->release(p.m[1]);
    be->release((void *)(uintptr_t)text.offsets);
    be->release((void *)(uintptr_t)memory.offsets);
}
static void perf_attention(const struct backend *be)
{
    static const struct perf_shape shapes[] = {
        {64, 30, 30, 4, 16, true, true, 0},    {64, 30, 30, 4, 16, true, true, 0.1f}, {64, 30, 30, 8, 64, true, true, 0.1f},
        {128, 60, 60, 4, 32, true, true, 0},   {1, 1024, 1024, 12, 64, true, true, 0}, {8, 32, 32, 12, 64, true, false, 0},
        {1, 20, 32, 12, 64, false, false, 0},  {1, 20, 1024, 12, 64, false, false, 0}, {8, 20, 1024, 12, 64, false, false, 0},
        {64, 3, 60, 4, 32, false, true, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        perf_attention_shape(be, shapes[i]);
    perf_hint(be, 128, 60, 4, 32, 1);
    perf_hint(be, 64, 128, 8, 64, 2);
}

/* ---- losses, search ---- */
static void call_loss(void *arg)
{
    struct perf *p = arg;
    p->be->head_loss(&p->loss);
}
static void perf_loss(const struct backend *be, int32_t n, int32_t d, int32_t count)
{
    char shape[64];
    struct perf p = {.be = be};
    p.w = (struct weight){count, d, perf_mem(be, (int64_t)count * d), perf_mem(be, (int64_t)count * d), NULL};
    p.x = perf_act(be, (int64_t)n * d);
    p.z = perf_act(be, (int64_t)n * d);
    p.m[0] = perf_mem(be, n + 1);
    int32_t *labels = be->alloc((size_t)n * sizeof *labels);
    for (int32_t i = 0; i < n; i++)
        labels[i] = (int32_t)(mix64(3, (uint64_t)i) % (uint64_t)count);
    p.loss = (struct head_loss){n, 0, count, p.x, NULL, &p.w, 1.0f, 1.0f / (float)n, labels, p.m[0], NULL, p.z};
    snprintf(shape, sizeof shape, "%d x %d -> %d", n, d, count);
    perf_line("head_loss", shape, perf_time(call_loss, &p), 6.0 * n * d * count, true);
    be->release(p.w.master);
    be->release(p.w.grad);
    be->release(p.x);
    be->release(p.z);
    be->release(p.m[0]);
    be->release(labels);
}
static void call_beam(void *arg)
{
    struct perf *p = arg;
    p->be->beam_step(&p->step);
}
/* Level 1 of a trie whose 512 first codes have 100 children each. */
static void perf_beam(const struct backend *be, int32_t requests, int32_t width, int32_t codes, int32_t d)
{
    char shape[64];
    int32_t rows = requests * width;
    uint32_t nodes = 512 * 100, *first = be->alloc(513 * 4), *first_last = be->alloc((nodes + 1) * 4);
    uint16_t *children = be->alloc(nodes * 2), *root = be->alloc(1024);
    for (uint32_t i = 0; i <= 512; i++)
        first[i] = i * 100;
    for (uint32_t i = 0; i < nodes; i++)
        children[i] = (uint16_t)(i % 100 * (uint32_t)codes / 100);
    struct trie_view trie = {.levels = 2, .level = {{512, false, root, first}, {nodes, false, children, first_last}}};
    struct beams beams[2];
    for (int i = 0; i < 2; i++)
        beams[i] = (struct beams){requests, rows, be->alloc((size_t)(requests + 1) * 4), be->alloc((size_t)rows * 4),
                                  be->alloc((size_t)rows * 4),
                                  be->alloc((size_t)rows * 4), be->alloc((size_t)rows * 4)};
    for (int32_t i = 0; i <= requests; i++)
        beams[0].offsets[i] = i * width;
    for (int32_t i = 0; i < rows; i++)
        beams[0].node[i] = (uint32_t)(i * 7 % 512);
    struct perf p = {.be = be, .x = perf_act(be, (int64_t)rows * d)};
    p.w = (struct weight){codes, d, perf_mem(be, (int64_t)codes * d), NULL, NULL};
    int32_t *cut = be->alloc((size_t)requests * 4);
    p.step = (struct beam_step){.trie = &trie, .level = 1, .head = &p.w, .codes = codes, .scale = 1.0f, .h = p.x, .in = &beams[0],
                                .out = &beams[1], .width = width, .cut = cut};
    snprintf(shape, sizeof shape, "%d x %d beams, K %d, D %d", requests, width, codes, d);
    perf_line("beam_step", shape, perf_time(call_beam, &p), 2.0 * rows * d * codes, true);
    for (int i = 0; i < 2; i++) {
        void *arrays[] = {beams[i].offsets, beams[i].node, beams[i].score, beams[i].parent, beams[i].code};
        for (int k = 0; k < 5; k++)
            be->release(arrays[k]);
    }
    void *rest[] = {first, first_last, children, root, p.x, p.w.master, cut};
    for (int k = 0; k < 7; k++)
        be->release(rest[k]);
}

/* ---- ops bound by memory: x, y, z of n x d ---- */
static void call_norm(void *arg)
{
    struct perf *p = arg;
    p->be->add_rmsnorm(p->z, p->y, p->z, p->x, p->m[0], (int32_t)p->n, (int32_t)p->d, 1e-6f, (struct dropout){0, 0});
}
static void call_norm_drop(void *arg)
{
    struct perf *p = arg;
    p->be->add_rmsnorm(p->z, p->y, p->z, p->x, p->m[0], (int32_t)p->n, (int32_t)p->d, 1e-6f, (struct dropout){0.1f, 5});
}
static void call_norm_backward(void *arg)
{
    struct perf *p = arg;
    p->be->rmsnorm_backward(p->z, p->m[1], p->y, p->x, p->m[0], (int32_t)p->n, (int32_t)p->d, 1e-6f);
}
static void call_dropout(void *arg)
{
    struct perf *p = arg;
    p->be->dropout(p->y, p->x, p->n * p->d, (struct dropout){0.1f, 5});
}
static void call_gelu(void *arg)
{
    struct perf *p = arg;
    p->be->gated_gelu(p->y, p->x, (int32_t)p->n, (int32_t)p->d / 2, (struct dropout){0, 0});
}
static void call_embed(void *arg)
{
    struct perf *p = arg;
    p->be->embed(p->y, &p->w, p->ids, (int32_t)p->n, (struct dropout){0, 0});
}
static void call_embed_backward(void *arg)
{
    struct perf *p = arg;
    p->be->embed_backward(&p->w, p->ids, p->y, (int32_t)p->n, (struct dropout){0, 0});
}
static void call_adamw(void *arg)
{
    struct perf *p = arg;
    struct adamw a = {1e-3f, 0.9f, 0.999f, 1e-6f, 0.01f, 1.0f, 1.0, 10};
    p->be->adamw(p->m[0], p->m[1], p->m[2], p->m[3], p->n * p->d, &a);
}
static void call_squares(void *arg)
{
    struct perf *p = arg;
    p->m[0][0] = (float)p->be->sum_squares(p->m[1], p->n * p->d);
}
static void call_empty(void *arg)
{
    struct perf *p = arg;
    p->be->axpy(p->y, 1.0f, p->x, 32768);
}
static void perf_elements(const struct backend *be, int32_t n, int32_t d)
{
    static const struct {
        const char *name;
        void (*call)(void *arg);
        int passes; /* reads + writes of n x d floats */
    } table[] = {{"add_rmsnorm", call_norm, 4},
                 {"add_rmsnorm dropout", call_norm_drop, 4},
                 {"rmsnorm_backward", call_norm_backward, 4},
                 {"dropout", call_dropout, 2},
                 {"gated_gelu (d = 2 f)", call_gelu, 1},
                 {"embed", call_embed, 2},
                 {"embed_backward", call_embed_backward, 3},
                 {"adamw", call_adamw, 7},
                 {"sum_squares", call_squares, 1}};
    char shape[64];
    int64_t all = (int64_t)n * d;
    struct perf p = {.be = be, .n = n, .d = d, .x = perf_act(be, all), .y = perf_act(be, all), .z = perf_act(be, all)};
    for (int i = 0; i < 4; i++)
        p.m[i] = perf_mem(be, all);
    p.w = (struct weight){32128, d, perf_mem(be, 32128L * d), perf_mem(be, 32128L * d), NULL};
    p.ids = be->alloc((size_t)n * 4);
    for (int32_t i = 0; i < n; i++)
        p.ids[i] = (int32_t)(mix64(3, (uint64_t)i) % 32128);
    snprintf(shape, sizeof shape, "%d x %d", n, d);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        perf_line(table[i].name, shape, perf_time(table[i].call, &p), 4.0 * table[i].passes * (double)all, false);
    perf_line("axpy (dispatch)", "32768", perf_time(call_empty, &p), 12.0 * 32768, false);
    void *rest[] = {p.x, p.y, p.z, p.m[0], p.m[1], p.m[2], p.m[3], p.w.master, p.w.grad, p.ids};
    for (int k = 0; k < 10; k++)
        be->release(rest[k]);
}

static int perf_run(const struct backend *be)
{
    perf_floors(be);
    perf_attention(be);
    perf_loss(be, 4000, 128, 32128);
    perf_loss(be, 2000, 64, 32128);
    perf_loss(be, 512, 128, 512);
    perf_beam(be, 1, 20, 512, 768);
    perf_beam(be, 8, 20, 512, 768);
    perf_beam(be, 1, 20, 51200, 768);
    perf_elements(be, 10000, 128);
    perf_elements(be, 1024, 768);
    perf_products(be);
    return 0;
}

/* Rates of the ways that gemm_table.h chooses among, per instruction set: forward (and backward where the way has one). */
static void tune_shape(const struct backend *be, int32_t n, int32_t rows, int32_t cols)
{
    double packed = perf_linear(be, NULL, n, rows, cols, WEIGHT_INFER, false);
    printf("%s n %4d rows %4d cols %4d:  packed %.0f", cpu.simd->name, n, rows, cols, packed);
    for (int way = 0; way < GEMM_WAYS; way++) {
        cpu_linear_way = way;
        printf("  %s %.0f", gemm_names[way], perf_linear(be, NULL, n, rows, cols, WEIGHT_TRAIN, false));
        if (way != GEMM_COLUMNS)
            printf(" / %.0f", perf_linear(be, NULL, n, rows, cols, WEIGHT_TRAIN, true));
    }
    cpu_linear_way = -1;
    printf("\n");
}
/* only: one instruction set, or NULL for all. oneDNN chooses its own; DNNL_MAX_CPU_ISA=AVX2 holds it down for a fair comparison. */
static int perf_tune(const struct backend *be, const char *only)
{
    static const int32_t shapes[][2] = {{768, 768}, {3072, 768}, {768, 3072}, {512, 512}, {128, 128}, {64, 64}};
    static const int32_t counts[] = {1, 4, 8, 16, 20, 32, 48, 64, 160, 1024, 8192};
    static const char *const sets[] = {"avx512", "avx2", "base"};
    perf_seconds = 0.02;
    for (size_t set = 0; set < 3; set++) {
        const struct simd *simd = simd_choose(sets[set]);
        if (!simd || (only && strcmp(only, sets[set]) != 0))
            continue;
        cpu.simd = simd;
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
                if ((int64_t)counts[i] * shapes[s][0] * shapes[s][1] < 5e9)
                    tune_shape(be, counts[i], shapes[s][0], shapes[s][1]);
    }
    return 0;
}

#endif
