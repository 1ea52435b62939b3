/* gemm.c: products of matrices as they are stored, over all threads, by our loops or by oneDNN.
 *
 * Ours: a thread owns a block of the result; it brings its part of the right operand into panels of 2 * lanes columns in its scratch (one
 * pass, transposing where needed), and the left operand is read where it lies, transposed or not. A long inner dimension goes in chunks
 * when the left operand is transposed (its lines are then a row of many outputs, and must stay in cache) or when panels would not fit.
 * oneDNN: the same blocks, by dnnl_sgemm. Debian's oneDNN knows OpenMP only, so each thread first says that its team has one member. Which
 * one serves a shape is gemm_table.h's business. The result depends on the thread count at most through the chunks. While dnnl_sgemm computes,
 * the stack pointer may point into its packing buffer (measured: 2.6.3, AVX-512): no signal handler may run on a thread that computes. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#include "cpu.h"

enum { CHUNK_ACROSS = 192, CHUNK_ALONG = 4096 };

static void clear_or_keep(const struct sgemm *g)
{
    for (int64_t i = 0; i < g->m && g->beta == 0.0f; i++)
        memset(g->c + i * g->ldc, 0, (size_t)g->n * sizeof(float));
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
        clear_or_keep(g);
        return;
    }
    dnnl_status_t status = dnnl_sgemm(g->ta ? 'T' : 'N', g->tb ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a, g->lda, g->b, g->ldb, g->beta,
                                      g->c, g->ldc);
    if (status != dnnl_success)
        die("oneDNN: sgemm of %lld x %lld x %lld failed with status %d", (long long)g->m, (long long)g->n, (long long)g->k, (int)status);
    for (int64_t i = 0; g->relu && i < g->m; i++)
        cpu.simd->relu(g->c + i * g->ldc, g->n);
}

/* Rows k0.. of the right operand, columns j0.., as panels. */
static void fill_panels(const struct sgemm *g, float *panels, int64_t k0, int64_t depth, int64_t j0, int64_t width)
{
    int32_t wide = 2 * cpu.simd->lanes;
    for (int64_t j = 0; j < width; j += wide) {
        int64_t count = width - j < wide ? width - j : wide;
        float *y = panels + j * depth;
        if (g->tb) {
            cpu.simd->transpose(y, wide, g->b + (j0 + j) * g->ldb + k0, g->ldb, (int32_t)count, (int32_t)depth);
            continue;
        }
        for (int64_t k = 0; k < depth; k++) {
            memcpy(y + k * wide, g->b + (k0 + k) * g->ldb + j0 + j, (size_t)count * sizeof *y);
            memset(y + k * wide + count, 0, (size_t)(wide - count) * sizeof *y);
        }
    }
}

void cpu_gemm(const struct sgemm *g, struct arena scratch)
{
    int32_t wide = 2 * cpu.simd->lanes;
    int64_t most = g->ta ? CHUNK_ACROSS : CHUNK_ALONG, depth = g->k < most ? g->k : most;
    if (g->k <= 0)
        clear_or_keep(g);
    if (g->k <= 0 || g->m <= 0)
        return;
    int64_t free = (CPU_SCRATCH - scratch.used - 16) / depth / wide * wide, width = g->n < free ? g->n : free;
    CHECK(width > 0 || g->n == 0);
    float *panels = arena_take(&scratch, (width + wide - 1) / wide * wide * depth);
    for (int64_t j = 0; j < g->n; j += width)
        for (int64_t k = 0; k < g->k; k += depth) {
            int64_t deep = g->k - k < depth ? g->k - k : depth, cols = g->n - j < width ? g->n - j : width;
            int flags = (k > 0 || g->beta != 0.0f ? PRODUCT_ADD : 0) | (g->relu && k + deep == g->k ? PRODUCT_RELU : 0);
            fill_panels(g, panels, k, deep, j, cols);
            struct product p = {(int32_t)g->m, (int32_t)cols, (int32_t)deep, g->a + k, g->lda, 1, panels, wide, wide * deep, g->c + j,
                                g->ldc, g->alpha, flags};
            if (g->ta) {
                p.a = g->a + k * g->lda;
                p.a_row = 1;
                p.a_step = g->lda;
            }
            cpu.simd->product(&p);
        }
}

struct split {
    const struct sgemm *g;
    int across; /* parts along n; the rest along m */
    bool onednn;
};

static void split_part(void *arg, int part, int parts)
{
    const struct split *t = arg;
    struct sgemm g = *t->g;
    struct span n = pool_span(g.n, 2 * cpu.simd->lanes, part % t->across, t->across);
    struct span m = pool_span(g.m, 4, part / t->across, parts / t->across);
    g.a += g.ta ? m.begin : m.begin * g.lda;
    g.b += g.tb ? n.begin * g.ldb : n.begin;
    g.c += m.begin * g.ldc + n.begin;
    g.m = m.end - m.begin;
    g.n = n.end - n.begin;
    if (t->onednn)
        cpu_sgemm(&g);
    else
        cpu_gemm(&g, arena_of(part));
}

/* Largest divisor of parts that leaves every part a panel of columns. */
int cpu_parts_across(int64_t n, int parts)
{
    int64_t panels = (n + 2 * cpu.simd->lanes - 1) / (2 * cpu.simd->lanes);
    int across = parts < panels ? parts : (int)panels;
    while (across > 1 && parts % across != 0)
        across--;
    return across > 1 ? across : 1;
}

void cpu_gemm_all(const struct sgemm *g, bool onednn)
{
    int parts = parts_for(g->m * g->n / 16 + 1, g->k);
    struct split t = {g, cpu_parts_across(g->n, parts), onednn};
    if (onednn && g->m > g->n) /* one cut, along the longer side */
        t.across = 1;
    pool_run(split_part, &t, parts);
}
