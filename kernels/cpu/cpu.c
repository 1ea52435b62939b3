/* cpu.c: opens the cpu backend: picks the loops for this processor, starts the pool, makes the scratch blocks, fills the table.
 *
 * Products run through loops of our own on operands that need no copying, and through oneDNN (dnnl_sgemm) where that was measured to be
 * faster (gemm_table.h). Debian's oneDNN knows OpenMP only, so every thread that calls it first says that its team has one member; the
 * division of work is ours. dnnl_sgemm allocates its packing buffers inside; nothing else here allocates after open. */
#include "cpu.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cpu cpu;
static char device_name[96];

const struct simd *simd_choose(const char *name)
{
    static const struct simd *const tables[] = {&simd_avx512, &simd_avx2, &simd_base};
    bool has[] = {false, false, true};
#if defined(__x86_64__)
    __builtin_cpu_init();
    has[0] = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("bmi2");
    has[1] = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#endif
    for (int i = 0; i < 3; i++)
        if (has[i] && (!name || strcmp(name, tables[i]->name) == 0))
            return tables[i];
    return NULL;
}

void cpu_sgemm(const struct sgemm *g)
{
    static _Thread_local bool alone;
    if (!alone) {
        omp_set_num_threads(1);
        alone = true;
    }
    if (g->m <= 0 || g->n <= 0)
        return;
    if (g->k <= 0) {
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t j = 0; j < g->n; j++)
                g->c[i * g->ldc + j] = g->beta == 0.0f ? 0.0f : g->beta * g->c[i * g->ldc + j];
        return;
    }
    dnnl_status_t status = dnnl_sgemm(g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a, g->lda, g->b, g->ldb, g->beta,
                                      g->c, g->ldc);
    if (status != dnnl_success)
        die("oneDNN: sgemm of %lld x %lld x %lld failed with status %d", (long long)g->m, (long long)g->n, (long long)g->k, (int)status);
    for (int64_t i = 0; g->relu && i < g->m; i++)
        cpu.simd->relu(g->c + i * g->ldc, g->n);
}

/* Cuts the result along its longer side into pieces of a multiple of 16. */
static void sgemm_part(void *arg, int part, int parts)
{
    struct sgemm g = *(const struct sgemm *)arg;
    if (g.m >= g.n) {
        struct span s = pool_span(g.m, 16, part, parts);
        g.a += g.ta ? s.begin : s.begin * g.lda;
        g.c += s.begin * g.ldc;
        g.m = s.end - s.begin;
    } else {
        struct span s = pool_span(g.n, 16, part, parts);
        g.b += g.tb ? s.begin * g.ldb : s.begin;
        g.c += s.begin;
        g.n = s.end - s.begin;
    }
    cpu_sgemm(&g);
}

void cpu_sgemm_all(const struct sgemm *g)
{
    pool_run(sgemm_part, (void *)(uintptr_t)g, parts_for(g->m > g->n ? g->m : g->n, (g->m < g->n ? g->m : g->n) * g->k / 16));
}

static const struct backend table = {
    .name = "cpu",
    .device = device_name,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .act_alloc = cpu_act_alloc,
    .act_at = cpu_act_at,
    .upload = cpu_upload,
    .download = cpu_download,
    .write = cpu_write,
    .read = cpu_read,
    .zero = cpu_zero,
    .act_zero = cpu_act_zero,
    .weight_open = cpu_weight_open,
    .weight_refresh = cpu_weight_refresh,
    .weight_close = cpu_weight_close,
    .embed = cpu_embed,
    .embed_backward = cpu_embed_backward,
    .gather = cpu_gather,
    .scatter_add = cpu_scatter_add,
    .dropout = cpu_dropout,
    .axpy = cpu_axpy,
    .pool_mean = cpu_pool_mean,
    .add_rmsnorm = cpu_add_rmsnorm,
    .rmsnorm_backward = cpu_rmsnorm_backward,
    .linear = cpu_linear,
    .linear_backward = cpu_linear_backward,
    .relu_backward = cpu_relu_backward,
    .gated_gelu = cpu_gated_gelu,
    .gated_gelu_backward = cpu_gated_gelu_backward,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
    .decode_attention = cpu_decode_attention,
    .ancestors = cpu_ancestors,
    .hint_attention = cpu_hint_attention,
    .hint_attention_backward = cpu_hint_attention_backward,
    .head_loss = cpu_head_loss,
    .quantise = cpu_quantise,
    .quantise_backward = cpu_quantise_backward,
    .contrastive = cpu_contrastive,
    .kmeans_assign = cpu_kmeans_assign,
    .beam_step = cpu_beam_step,
    .sum_squares = cpu_sum_squares,
    .adamw = cpu_adamw,
};

static int make_scratch(void)
{
    cpu.scratch = calloc((size_t)cpu.threads, sizeof *cpu.scratch);
    cpu.shared = cpu_alloc((size_t)CPU_SCRATCH * sizeof(float));
    if (!cpu.scratch || !cpu.shared)
        return -1;
    for (int i = 0; i < cpu.threads; i++)
        if (!(cpu.scratch[i] = cpu_alloc((size_t)CPU_SCRATCH * sizeof(float))))
            return -1;
    return 0;
}

const struct backend *cpu_open(int threads, char *message, size_t message_size)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool open;
    pthread_mutex_lock(&lock);
    if (!open) {
        cpu.simd = simd_choose(NULL);
        cpu.threads = pool_open(threads);
        if (cpu.threads < 1 || make_scratch() != 0)
            snprintf(message, message_size, "cpu: cannot make %d threads with %d MiB of scratch each", threads,
                     (int)(CPU_SCRATCH * sizeof(float) >> 20));
        else
            open = true;
        snprintf(device_name, sizeof device_name, "cpu, %d thread%s, %s", cpu.threads, cpu.threads == 1 ? "" : "s", cpu.simd->name);
    }
    pthread_mutex_unlock(&lock);
    return open ? &table : NULL;
}
