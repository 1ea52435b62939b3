/* blas.cu: platform_gemm by cuBLASLt.
 *
 * cuBLASLt thinks in columns: a row-major [m, n] matrix is its [n, m] of the same leading dimension, so c = a b becomes c' = b' a', the
 * operands change places and nothing is copied. Which of its kernels runs a shape is asked of its heuristic once and remembered, by
 * everything the answer depends on, alignment included, in a table of fixed size; a full set of it forgets its oldest shape.
 *
 * Sums are f32 whatever the operands are; split sums are only allowed in f32 through the workspace, so a shape gives the same bits each
 * time and no partial sum is rounded to bf16. F32 mode asks for plain f32 products, never TF32. The workspace is made at open. */
#include "runtime.h"

#include <cublasLt.h>
#include <string.h>

enum { WORKSPACE = 32 << 20, SETS = 1024, WAYS = 4 };

struct shape { /* compared as bytes: no padding, all zero where unused */
    int64_t m, n, k, lda, ldb, ldc;
    uint16_t align_a, align_b, align_c;
    uint8_t ta, tb, c_f32, accumulate, relu, zero[5];
};
static_assert(sizeof(struct shape) == 64, "padding would be compared");

struct choice {
    struct shape shape;
    cublasLtMatmulAlgo_t algo;
    bool used;
};

static struct {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    struct choice (*choices)[WAYS]; /* [SETS] */
    uint8_t next[SETS];             /* the way that is overwritten next */
} blas;

struct call { /* cuBLASLt's words for one product */
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, c;
};

static void must(cublasStatus_t status, const char *call, const struct gemm *g)
{
    char what[384];
    if (status == CUBLAS_STATUS_SUCCESS || cuda_recording_broke())
        return;
    snprintf(what, sizeof what, "%s: %s (%.100s; product of m %lld, n %lld, k %lld)", cublasLtGetStatusName(status),
             cublasLtGetStatusString(status), call, g ? (long long)g->m : 0, g ? (long long)g->n : 0, g ? (long long)g->k : 0);
    platform_fault(what);
}
#define LT(call) must((call), #call, g)

int blas_open(char *message, size_t message_size)
{
    const uint32_t splits = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t most = WORKSPACE;
    blas.choices = (struct choice(*)[WAYS])calloc(SETS, sizeof *blas.choices);
    cublasStatus_t status = blas.choices ? cublasLtCreate(&blas.handle) : CUBLAS_STATUS_ALLOC_FAILED;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceCreate(&blas.preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(blas.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(blas.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &splits, sizeof splits);
    if (status == CUBLAS_STATUS_SUCCESS && cudaMalloc(&blas.workspace, WORKSPACE) != cudaSuccess)
        status = CUBLAS_STATUS_ALLOC_FAILED;
    if (status == CUBLAS_STATUS_SUCCESS)
        return 0;
    snprintf(message, message_size, "cuBLASLt does not start: %s (%s)", cublasLtGetStatusString(status), cublasLtGetStatusName(status));
    return -1;
}

/* The power of two that divides an address, at most 256: what the heuristic may rely on. */
static uint16_t alignment(const void *p)
{
    const uintptr_t low = (uintptr_t)p & (~(uintptr_t)p + 1);
    return (uint16_t)(low == 0 || low > 256 ? 256 : low);
}

static struct shape shape_of(const struct gemm *g)
{
    struct shape s = {};
    s.m = g->m;
    s.n = g->n;
    s.k = g->k;
    s.lda = g->lda;
    s.ldb = g->ldb;
    s.ldc = g->ldc;
    s.align_a = alignment(g->a);
    s.align_b = alignment(g->b);
    s.align_c = alignment(g->c);
    s.ta = g->ta;
    s.tb = g->tb;
    s.c_f32 = g->c_f32;
    s.accumulate = g->accumulate;
    s.relu = g->relu;
    return s;
}

static void layout(const struct gemm *g, cublasLtMatrixLayoutOpaque_t *l, cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld)
{
    LT(cublasLtMatrixLayoutInit(l, type, (uint64_t)rows, (uint64_t)cols, ld));
}

/* In columns: a of the call is our b, b our a. */
static void describe(struct call *c, const struct gemm *g)
{
    const cudaDataType_t type = sizeof(real) == sizeof(float) ? CUDA_R_32F : CUDA_R_16BF;
    const cublasOperation_t ta = g->tb ? CUBLAS_OP_T : CUBLAS_OP_N, tb = g->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t end = g->relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
    LT(cublasLtMatmulDescInit(&c->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    LT(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    LT(cublasLtMatmulDescSetAttribute(&c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end));
    layout(g, &c->a, type, g->tb ? g->k : g->n, g->tb ? g->n : g->k, g->ldb);
    layout(g, &c->b, type, g->ta ? g->m : g->k, g->ta ? g->k : g->m, g->lda);
    layout(g, &c->c, g->c_f32 ? CUDA_R_32F : type, g->n, g->m, g->ldc);
}

static uint32_t hash_of(const struct shape *s)
{
    uint64_t words[sizeof *s / 8], h = 0;
    memcpy(words, s, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = mix64(h, words[i]);
    return (uint32_t)h;
}

static void choose(struct choice *into, const struct call *c, const struct gemm *g)
{
    const uint32_t a = into->shape.align_b, b = into->shape.align_a, d = into->shape.align_c;
    cublasLtMatmulHeuristicResult_t best = {};
    int found = 0;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t bytes;
    } aligned[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b},
                   {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d}};
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++)
        LT(cublasLtMatmulPreferenceSetAttribute(blas.preference, aligned[i].name, &aligned[i].bytes, sizeof aligned[i].bytes));
    cublasLtMatmulDescOpaque_t operation = c->operation;
    cublasLtMatrixLayoutOpaque_t la = c->a, lb = c->b, lc = c->c;
    LT(cublasLtMatmulAlgoGetHeuristic(blas.handle, &operation, &la, &lb, &lc, &lc, blas.preference, 1, &best, &found));
    into->used = found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    into->algo = best.algo;
    if (!into->used)
        must(found > 0 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", g);
}

static const cublasLtMatmulAlgo_t *algorithm(const struct call *c, const struct gemm *g)
{
    const struct shape s = shape_of(g);
    const uint32_t set = hash_of(&s) % SETS;
    for (int i = 0; i < WAYS; i++) {
        const struct choice *known = &blas.choices[set][i];
        if (known->used && memcmp(&known->shape, &s, sizeof s) == 0)
            return &known->algo;
    }
    struct choice *into = &blas.choices[set][blas.next[set]++ % WAYS];
    into->shape = s;
    choose(into, c, g);
    return into->used ? &into->algo : NULL; /* NULL only in a recording that broke */
}

static struct cost cost_of(const struct gemm *g)
{
    const double m = (double)g->m, n = (double)g->n, k = (double)g->k, c = g->c_f32 ? sizeof(float) : sizeof(real);
    return {sizeof(real) * (m * k + n * k) + c * m * n * (g->accumulate ? 2 : 1), 2 * m * n * k};
}

/* A sum of nothing. */
static void clear(const struct gemm *g)
{
    const size_t unit = g->c_f32 ? sizeof(float) : sizeof(real);
    CHECK(!(g->relu && g->accumulate));
    if (!g->accumulate)
        RUN(cudaMemset2DAsync(g->c, (size_t)g->ldc * unit, 0, (size_t)g->n * unit, (size_t)g->m, platform_stream()));
}

void platform_gemm(const struct gemm *g)
{
    const float beta = g->accumulate ? 1.0f : 0.0f;
    struct call c;
    if (g->m == 0 || g->n == 0)
        return;
    if (g->k == 0) {
        clear(g);
        return;
    }
    cudaStream_t stream = platform_stream();
    describe(&c, g);
    const cublasLtMatmulAlgo_t *algo = algorithm(&c, g);
    LT(cublasLtMatmul(blas.handle, &c.operation, &g->alpha, g->b, &c.a, g->a, &c.b, &beta, g->c, &c.c, g->c, &c.c, algo, blas.workspace,
                      WORKSPACE, stream));
    launch_note("platform_gemm", cost_of(g));
}
