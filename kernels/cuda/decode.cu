/* decode.cu: one cached step of self-attention through the ancestor table, and the table's renewal.
 *
 * One warp serves one (beam row, head), see decode.h, and no block waits for another. At batch 1 that is 20 rows x 12 heads = 60 blocks of four
 * warps. */
#include "decode.h"

enum { DECODE_WARPS = 4 };

static __global__ void decode_kernel(decode d)
{
    const int64_t pair = (int64_t)block_x() * DECODE_WARPS + thread_x() / WARP;
    if (pair >= (int64_t)d.n * d.heads)
        return;
    const decode_row r = {(int32_t)(pair / d.heads), (int32_t)(pair % d.heads), d.position + 1, -1};
    attend_row(d, r);
    keep_new(d, r);
}

static struct cost decode_cost(const struct decode_attention *a)
{
    const double row = (double)a->heads * a->width, cells = (double)a->n * (a->position + 1);
    const double moved = (6.0 * a->n + 2.0 * decode_past(a)) * row * sizeof(real);
    return {moved + decode_tables(a), cells * (4 * row + a->heads * 8)};
}

void cuda_decode_attention(const struct decode_attention *a)
{
    if (a->n == 0)
        return;
    LAUNCH((decode_kernel), dim_of(blocks_for((int64_t)a->n * a->heads, DECODE_WARPS)), DECODE_WARPS * WARP, decode_cost(a), decode_of(a));
}

/* ---- the table ---- */

enum { ANCESTOR_THREADS = 128 };

static __global__ void ancestors_kernel(gp<int32_t> out, gp<const int32_t> in, gp<const int32_t> parent, int32_t n, int32_t position,
                                        int32_t capacity)
{
    const int32_t r = block_x() * threads() + thread_x(), p = block_y();
    if (r >= n)
        return;
    int32_t from = r;
    if (p < position) {
        const int32_t row = parent[r];
        from = in[(int64_t)p * capacity + (row >= 0 && row < capacity ? row : 0)];
    }
    out[(int64_t)p * capacity + r] = from;
}

void cuda_ancestors(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity)
{
    if (n == 0)
        return;
    const double cells = (double)n * (2 * position + 1) + (position > 0 ? n : 0);
    const struct cost cost = {cells * sizeof(int32_t), 0.0};
    LAUNCH((ancestors_kernel), dim_of(blocks_for(n, ANCESTOR_THREADS), position + 1), ANCESTOR_THREADS, cost, out, in, parent, n, position,
           capacity);
}
