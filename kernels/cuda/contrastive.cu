/* contrastive.cu: softmax over listed candidate rows, and its gradient to every row that is named anywhere.
 *
 * Lists lie on the device and rows repeat in them, so neither how long they are nor who writes which row is known to the host. First one
 * block a document: probabilities (minus 1 at the positive) into scratch, its loss. Then blocks walk all entries (anchors, then
 * candidates); a block whose entry is the first to name its row owns that row: it gathers all that the row takes part in, in list order,
 * adds it up in f32 registers and writes the row once. So there are no atomics, one order of sums, and one rounding a row.
 *
 * Scratch has room for 16 million candidates; a longer list makes the loss NaN rather than wrong. */
#include "reduce.h"

enum { SOFTMAX_THREADS = 128, GRADIENT_THREADS = 256, GRADIENT_BLOCKS = 528, EACH = 4, PARTS_MOST = 2 * GRADIENT_THREADS };

namespace {
struct lists {
    int32_t n, d, most; /* most: candidates that p has room for */
    bool wide;
    gp<const int32_t> anchors, candidates, offsets;
    gp<const real> h;
    gp<float> p, losses;
    float inv_temperature, weight;
};
}

DEVICE bool is_counted(const lists &l, int32_t i)
{
    return l.offsets[i + 1] - l.offsets[i] >= 2;
}

/* One block a document, one warp a candidate; its probabilities, 1 less at the positive. */
static __global__ void contrastive_softmax_kernel(lists l)
{
    SHARED(float, room, 2 * WARP);
    const int32_t i = block_x(), first = l.offsets[i], count = l.offsets[i + 1] - first, warp = thread_x() / WARP;
    const bool fits = l.offsets[l.n] <= l.most;
    if (count < 2 || !fits) {
        if (thread_x() == 0)
            l.losses[i] = fits ? 0.0f : NAN;
        return;
    }
    for (int32_t c = warp; c < count; c += SOFTMAX_THREADS / WARP) {
        const float s = warp_dot(l.h, (int64_t)l.anchors[i] * l.d, l.h, (int64_t)l.candidates[first + c] * l.d, l.d, l.wide);
        if (thread_x() % WARP == 0)
            l.p[first + c] = l.inv_temperature * s;
    }
    sync_block();
    online mine = {-INFINITY, 0.0f};
    for (int32_t c = thread_x(); c < count; c += SOFTMAX_THREADS)
        mine = online_join(mine, {l.p[first + c], 1.0f});
    const float positive = l.p[first];
    const online all = block_online(mine, room); /* its barriers also part the reads above from the writes below */
    const float lse = all.top + logf(all.sum);
    for (int32_t c = thread_x(); c < count; c += SOFTMAX_THREADS)
        l.p[first + c] = expf(l.p[first + c] - lse) - (c == 0 ? 1.0f : 0.0f);
    if (thread_x() == 0)
        l.losses[i] = lse - positive;
}

/* ---- gradient ---- */

namespace {
/* What the entries of one step contribute to the block's row: weight * row of h, in list order. */
struct parts {
    sp<float> weight;
    sp<int32_t> row, room;
};
}

/* Contributions of candidate entries base .. base + threads to `row`. */
DEVICE int32_t collect(const lists &l, int32_t row, int32_t base, int32_t entries, const parts &y)
{
    const int32_t e = base + thread_x();
    int32_t anchor = -1, candidate = -1, all = 0;
    if (e < entries) {
        const int32_t i = slice_of(l.offsets, l.n, e);
        anchor = is_counted(l, i) ? l.anchors[i] : -1;
        candidate = is_counted(l, i) ? l.candidates[e] : -1;
    }
    const bool as_anchor = anchor == row, as_candidate = candidate == row;
    int32_t at = block_before((as_anchor ? 1 : 0) + (as_candidate ? 1 : 0), y.room, &all);
    if (as_anchor) {
        y.weight[at] = l.p[e];
        y.row[at++] = candidate;
    }
    if (as_candidate) {
        y.weight[at] = l.p[e];
        y.row[at] = anchor;
    }
    sync_block();
    return all;
}

DEVICE int32_t row_at(const lists &l, int32_t e)
{
    return e < l.n ? l.anchors[e] : l.candidates[e - l.n];
}

/* Whether an earlier entry names the row, too; the same for the whole block. */
DEVICE bool named_before(const lists &l, int32_t row, int32_t entry, sp<int32_t> room)
{
    for (int32_t base = 0; base < entry; base += EACH * GRADIENT_THREADS) {
        int32_t same = 0;
        for (int32_t j = 0; j < EACH; j++) {
            const int32_t e = base + j * GRADIENT_THREADS + thread_x();
            same |= e < entry && row_at(l, e) == row ? 1 : 0;
        }
        if (block_sum(same, room) > 0)
            return true;
    }
    return false;
}

/* dh[row] += factor * all contributions; a pass serves EACH columns a thread. */
DEVICE void add_row(const lists &l, gp<real> dh, int32_t row, int32_t entries, float factor, const parts &y)
{
    for (int32_t first = thread_x(); first - thread_x() < l.d; first += EACH * GRADIENT_THREADS) {
        float sum[EACH] = {};
        for (int32_t base = 0; base < entries; base += GRADIENT_THREADS) {
            const int32_t found = collect(l, row, base, entries, y);
            for (int32_t k = 0; k < found; k++)
                for (int32_t j = 0; j < EACH; j++)
                    if (first + j * GRADIENT_THREADS < l.d)
                        sum[j] = fmaf(y.weight[k], to_float(l.h[(int64_t)y.row[k] * l.d + first + j * GRADIENT_THREADS]), sum[j]);
            sync_block();
        }
        for (int32_t j = 0; j < EACH; j++) {
            const int32_t c = first + j * GRADIENT_THREADS;
            if (c < l.d)
                dh[(int64_t)row * l.d + c] = to_real(fmaf(factor, sum[j], to_float(dh[(int64_t)row * l.d + c])));
        }
    }
}

/* Documents counted, by every block; the loss, by the first. */
DEVICE int32_t reduce_losses(const lists &l, gp<float> loss, sp<int32_t> room, sp<double> sums)
{
    int32_t counted = 0;
    double sum = 0;
    for (int32_t i = thread_x(); i < l.n; i += GRADIENT_THREADS) {
        counted += is_counted(l, i) ? 1 : 0;
        if (block_x() == 0)
            sum += (double)l.losses[i];
    }
    counted = block_sum(counted, room);
    if (block_x() > 0)
        return counted;
    sum = block_sum(sum, sums);
    if (thread_x() == 0)
        loss[0] = counted > 0 ? (float)((double)l.weight * sum / counted) : 0.0f;
    return counted;
}

static __global__ void contrastive_gradient_kernel(lists l, gp<float> loss, gp<real> dh, bool wanted)
{
    SHARED(float, weight, PARTS_MOST);
    SHARED(int32_t, row, PARTS_MOST);
    SHARED(int32_t, room, WARP);
    SHARED(double, sums, WARP);
    const int32_t counted = reduce_losses(l, loss, room, sums), entries = l.offsets[l.n];
    if (!wanted || counted == 0 || entries > l.most)
        return;
    const float factor = l.weight / (float)counted * l.inv_temperature;
    const parts y = {weight, row, room};
    for (int32_t e = block_x(); e < l.n + entries; e += blocks_x()) {
        const int32_t own = row_at(l, e);
        if (!named_before(l, own, e, room))
            add_row(l, dh, own, entries, factor, y);
    }
}

/* ---- host ---- */

static lists lists_of(const struct contrastive *a)
{
    const int64_t facts = blocks_for(a->n, 64) * 64 * (int64_t)sizeof(float);
    lists l = {};
    l.n = a->n, l.d = a->d, l.wide = a->d % 4 == 0 && (uintptr_t)a->h % (4 * sizeof(real)) == 0;
    l.anchors = a->anchors, l.candidates = a->candidates, l.offsets = a->offsets, l.h = act_data(a->h);
    CHECK(facts < PLATFORM_SCRATCH);
    l.most = (int32_t)((PLATFORM_SCRATCH - facts) / (int64_t)sizeof(float));
    char *at = (char *)platform_scratch(PLATFORM_SCRATCH);
    l.losses = (float *)at, l.p = (float *)(at + facts);
    l.inv_temperature = a->inv_temperature, l.weight = a->weight;
    return l;
}

/* The host knows no list's length. Declared is what a batch of one bucket has: n candidates a document, twice n rows in all. */
static cost lists_cost(const struct contrastive *a, double rows_moved)
{
    const double n = a->n, entries = n * n;
    return {rows_moved * n * a->d * sizeof(real) + entries * (sizeof(int32_t) + sizeof(float)) + n * (2 * sizeof(int32_t) + sizeof(float)),
            2 * entries * a->d};
}

void cuda_contrastive(const struct contrastive *a)
{
    const lists l = lists_of(a);
    if (a->n == 0) {
        platform_zero(a->loss, sizeof(float));
        return;
    }
    const cost sums = {(double)a->n * (sizeof(int32_t) + sizeof(float)), 0.0};
    LAUNCH((contrastive_softmax_kernel), dim_of(a->n), SOFTMAX_THREADS, lists_cost(a, 2), l);
    LAUNCH((contrastive_gradient_kernel), dim_of(a->dh ? GRADIENT_BLOCKS : 1), GRADIENT_THREADS, a->dh ? lists_cost(a, 6) : sums, l,
           a->loss, act_data(a->dh), a->dh != NULL);
}
