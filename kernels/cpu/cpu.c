/* cpu.c: opens the cpu backend: picks the loops for this processor, starts the pool, makes the scratch blocks, fills the table.
 *
 * Products run through loops of our own on operands that need no copying, and through oneDNN (dnnl_sgemm) where that was measured to be
 * faster (gemm_table.h). dnnl_sgemm allocates its packing buffers inside; nothing else here allocates after open. */
#include "cpu.h"

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

static const struct backend table = {
    .name = "cpu",
    .device = device_name,
    .has_host_memory = true,
    .act_bytes = sizeof(float),
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
