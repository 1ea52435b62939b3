/* cpu.h: what the files of the cpu backend share, seen by nobody else (backend.c uses cpu_open).
 *
 * An activation is plain f32 here, so `struct act *` and `float *` are the same address. Scratch is one block per thread and one shared
 * block, made at open; an op sizes its tiles from CPU_SCRATCH and CHECKs that one tile fits. Nothing in scratch lives longer than an op. */
#ifndef SEMINDEX_CPU_H
#define SEMINDEX_CPU_H

#include "../backend.h"
#include "../check.h"
#include "../pool.h"
#include "simd.h"

enum { CPU_SCRATCH = 8 << 20 }; /* floats per thread (32 MiB), and of the shared block */

struct cpu {
    const struct simd *simd; /* loops for this processor, chosen once */
    int threads;
    float **scratch; /* [threads] blocks of CPU_SCRATCH floats */
    float *shared;   /* CPU_SCRATCH floats, for what all threads of an op see */
};
extern struct cpu cpu;

const struct backend *cpu_open(int threads, char *message, size_t message_size);

static inline float *act_data(const struct act *x)
{
    return (float *)(uintptr_t)x;
}
static inline int32_t round_up(int32_t n, int32_t unit)
{
    return (n + unit - 1) / unit * unit;
}
/* How many parts a loop of n items of about `cost` elementary operations each is worth. */
static inline int parts_for(int64_t n, int64_t cost)
{
    int64_t parts = n * cost / 32768 + 1;
    if (parts > n)
        parts = n > 0 ? n : 1;
    return parts < cpu.threads ? (int)parts : cpu.threads;
}

/* Bump allocation inside a scratch block. */
struct arena {
    float *base;
    int64_t used;
};
static inline float *arena_take(struct arena *a, int64_t floats)
{
    float *p = a->base + a->used;
    a->used += (floats + 15) / 16 * 16;
    CHECK(a->used <= CPU_SCRATCH);
    return p;
}
static inline struct arena arena_of(int part)
{
    return (struct arena){cpu.scratch[part], 0};
}

/* gemm.c: c[m, n] = alpha * op(a) op(b) (+ c when beta is 1, the only other value); row-major; op = transposed where `ta` / `tb`. */
struct sgemm {
    bool ta, tb;
    int64_t m, n, k;
    float alpha;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    float beta;
    float *c;
    int64_t ldc;
    bool relu; /* negative results become 0 */
};
void cpu_sgemm(const struct sgemm *g);                         /* oneDNN, on the calling thread only */
void cpu_gemm(const struct sgemm *g, struct arena scratch);    /* our loops, on the calling thread only */
void cpu_gemm_all(const struct sgemm *g, bool onednn);         /* either, over all threads */
int cpu_parts_across(int64_t n, int parts); /* how many of `parts` go along n columns (a divisor); the others along the rows */

/* memory.c */
void *cpu_alloc(size_t bytes);
void cpu_release(void *memory);
struct act *cpu_act_alloc(int64_t elements);
struct act *cpu_act_at(const struct act *x, int64_t elements);
void cpu_upload(struct act *y, const float *host, int64_t n);
void cpu_download(float *host, const struct act *x, int64_t n);
void cpu_write(void *memory, const void *host, size_t bytes);
void cpu_read(void *host, const void *memory, size_t bytes);
void cpu_zero(void *memory, size_t bytes);
void cpu_act_zero(struct act *x, int64_t n);

/* rows.c */
void cpu_embed(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop);
void cpu_embed_backward(const struct weight *table, const int32_t *ids, const struct act *dy, int32_t n, struct dropout drop);
void cpu_gather(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d);
void cpu_scatter_add(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d);
void cpu_dropout(struct act *y, const struct act *x, int64_t n, struct dropout drop);
void cpu_axpy(struct act *y, float a, const struct act *x, int64_t n);
void cpu_pool_mean(struct act *y, const struct act *x, struct rows rows, int32_t d);
void cpu_add_rmsnorm(struct act *r_out, struct act *y, const struct act *r_in, const struct act *x, const float *w, int32_t n, int32_t d,
                     float eps, struct dropout drop);
void cpu_rmsnorm_backward(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                          float eps);
void cpu_relu_backward(struct act *dy, const struct act *y, int64_t n, float scale);
void cpu_gated_gelu(struct act *y, const struct act *ab, int32_t n, int32_t f, struct dropout drop);
void cpu_gated_gelu_backward(struct act *dab, const struct act *dy, const struct act *ab, int32_t n, int32_t f, struct dropout drop);

/* linear.c */
extern int cpu_linear_way; /* for tuning only: an enum gemm_way that overrules gemm_table.h, or -1 */
int cpu_weight_open(struct weight *w, enum weight_use use);
void cpu_weight_refresh(struct weight *w);
void cpu_weight_close(struct weight *w);
void cpu_linear(struct act *y, const struct act *x, const struct weight *w, int32_t n, float alpha, int flags);
void cpu_linear_backward(struct act *dx, const struct weight *w, const struct act *dy, const struct act *x, int32_t n, int flags);

/* attention.c, attention_backward.c, decode.c, hint.c */
void cpu_attention(const struct attention *a);
void cpu_attention_backward(const struct attention *a, const struct attention_grad *g);
void cpu_decode_attention(const struct decode_attention *a);
void cpu_ancestors(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity);
void cpu_hint_attention(const struct hint_attention *a);
void cpu_hint_attention_backward(const struct hint_attention *a, const struct hint_attention_grad *g);

/* loss.c, quantise.c, cluster.c, beam.c, optimiser.c */
void cpu_head_loss(const struct head_loss *a);
void cpu_quantise(const struct quantise *a);
void cpu_quantise_backward(const struct quantise *a, const struct act *dq, struct act *dh);
void cpu_contrastive(const struct contrastive *a);
void cpu_kmeans_assign(int32_t *assign, float *distance, const float *x, const float *centroids, int32_t n, int32_t k, int32_t d);
void cpu_beam_step(const struct beam_step *a);
double cpu_sum_squares(const float *x, int64_t n);
void cpu_adamw(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw *a);

#endif
