/* blas.cc: platform_gemm of the emulation, rounded as cuBLASLt rounds: operands `real`, sums f32, the result rounded once.
 *
 * Rows of c are made in tiles of 4 x 32 whose sums stay in registers. Both operands are first copied, as f32, into panels in the order in
 * which a tile reads them; that copy also undoes transposition and bf16. k is cut into pieces whose sums are added in order, so an element
 * depends on its own row and column alone: the same bits whatever the size of the batch. */
#include "inside.h"

#include <algorithm>
#include <vector>

enum { ROWS = 4, COLS = 32, PIECE = 256, LANE = 8, VECTORS = COLS / LANE };
typedef float lanes __attribute__((vector_size(LANE * sizeof(float))));

/* sums [ROWS, COLS] += a [k, ROWS] b [k, COLS]; compiled twice, for processors with and without AVX2. */
#define TILE                                                        \
    lanes c[ROWS][VECTORS] = {};                                    \
    for (int64_t i = 0; i < k; i++)                                 \
        for (int r = 0; r < ROWS; r++)                              \
            for (int v = 0; v < VECTORS; v++) {                     \
                lanes x;                                            \
                memcpy(&x, b + i * COLS + v * LANE, sizeof x);      \
                c[r][v] += x * a[i * ROWS + r];                     \
            }                                                       \
    for (int r = 0; r < ROWS; r++)                                  \
        for (int v = 0; v < VECTORS; v++)                           \
            for (int l = 0; l < LANE; l++)                          \
                sums[r * COLS + v * LANE + l] += c[r][v][l]

typedef void tile_function(float *sums, const float *a, const float *b, int64_t k);
static void tile_base(float *sums, const float *a, const float *b, int64_t k)
{
    TILE;
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void tile_avx2(float *sums, const float *a, const float *b, int64_t k)
{
    TILE;
}
static tile_function *choose(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? tile_avx2 : tile_base;
}
#else
static tile_function *choose(void)
{
    return tile_base;
}
#endif

static float element(const void *x, bool turned, int64_t ld, int64_t row, int64_t col)
{
    return to_float(((const real *)x)[turned ? col * ld + row : row * ld + col]);
}

/* `unit` rows (or, of b, columns) from `first` on as a panel [k, unit], zeros beyond `end`. */
static void pack_a(float *to, const struct gemm *g, int64_t first, int64_t k0, int64_t k)
{
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t i = 0; i < k; i++)
            to[i * ROWS + r] = first + r < g->m ? element(g->a, g->ta, g->lda, first + r, k0 + i) : 0.0f;
}
static void pack_b(float *to, const struct gemm *g, int64_t first, int64_t k0, int64_t k)
{
    const int64_t n = std::min<int64_t>(COLS, g->n - first);
    if (n < COLS)
        std::fill(to, to + k * COLS, 0.0f);
    if (g->tb)
        for (int64_t c = 0; c < n; c++)
            for (int64_t i = 0; i < k; i++)
                to[i * COLS + c] = element(g->b, true, g->ldb, k0 + i, first + c);
    else
        for (int64_t i = 0; i < k; i++)
            for (int64_t c = 0; c < n; c++)
                to[i * COLS + c] = element(g->b, false, g->ldb, k0 + i, first + c);
}

static void finish_row(const struct gemm *g, int64_t row, const float *sums)
{
    float *wide = (float *)g->c + row * g->ldc;
    real *native = (real *)g->c + row * g->ldc;
    for (int64_t c = 0; c < g->n; c++) {
        float y = g->alpha * sums[c];
        if (g->accumulate)
            y += g->c_f32 ? wide[c] : to_float(native[c]);
        if (g->relu && y < 0.0f)
            y = 0.0f;
        if (g->c_f32)
            wide[c] = y;
        else
            native[c] = to_<real>(y);
    }
}

static void must_fit(const struct gemm *g)
{
    const size_t unit = g->c_f32 ? sizeof(float) : sizeof(real);
    const int64_t a_rows = g->ta ? g->k : g->m, a_cols = g->ta ? g->m : g->k, b_rows = g->tb ? g->n : g->k, b_cols = g->tb ? g->k : g->n;
    CHECK(g->lda >= a_cols && g->ldb >= b_cols && g->ldc >= g->n);
    if (g->k > 0) {
        emu::watch_span(g->a, (size_t)((a_rows - 1) * g->lda + a_cols) * sizeof(real), "platform_gemm, operand a");
        emu::watch_span(g->b, (size_t)((b_rows - 1) * g->ldb + b_cols) * sizeof(real), "platform_gemm, operand b");
    }
    emu::watch_span(g->c, (size_t)((g->m - 1) * g->ldc + g->n) * unit, "platform_gemm, result");
}

static struct cost cost_of(const struct gemm *g)
{
    const double m = (double)g->m, n = (double)g->n, k = (double)g->k, c = g->c_f32 ? sizeof(float) : sizeof(real);
    return {sizeof(real) * (m * k + n * k) + c * m * n * (g->accumulate ? 2 : 1), 2 * m * n * k};
}

/* sums [m, columns of whole tiles] of a piece of k are added up. */
static void add_piece(const struct gemm *g, float *sums, int64_t pitch, int64_t k0, int64_t k)
{
    static tile_function *const tile = choose();
    std::vector<float> a((size_t)((g->m + ROWS - 1) / ROWS * ROWS * k)), b((size_t)(COLS * k));
    float local[ROWS * COLS];
    for (int64_t row = 0; row < g->m; row += ROWS)
        pack_a(a.data() + row * k, g, row, k0, k);
    for (int64_t col = 0; col < g->n; col += COLS) {
        pack_b(b.data(), g, col, k0, k);
        for (int64_t row = 0; row < g->m; row += ROWS) {
            std::fill(local, local + ROWS * COLS, 0.0f);
            tile(local, a.data() + row * k, b.data(), k);
            for (int64_t r = 0; r < ROWS && row + r < g->m; r++)
                for (int64_t c = 0; c < COLS; c++)
                    sums[(row + r) * pitch + col + c] += local[r * COLS + c];
        }
    }
}

void emu::product(const struct gemm *g)
{
    const int64_t pitch = (g->n + COLS - 1) / COLS * COLS, band = std::max<int64_t>(ROWS, (8 << 20) / pitch / ROWS * ROWS);
    must_fit(g);
    if (!note_launch("platform_gemm", {1, 1, 1}, 0, 1, cost_of(g)))
        return;
    std::vector<float> sums((size_t)(std::min(band, g->m) * pitch));
    for (int64_t first = 0; first < g->m; first += band) {
        struct gemm part = *g;
        part.m = std::min(band, g->m - first);
        part.a = (const real *)g->a + first * (g->ta ? 1 : g->lda);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t k = 0; k < g->k; k += PIECE)
            add_piece(&part, sums.data(), pitch, k, std::min<int64_t>(PIECE, g->k - k));
        for (int64_t row = 0; row < part.m; row++)
            finish_row(g, first + row, sums.data() + row * pitch);
    }
}
