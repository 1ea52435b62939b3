/* cluster.cu: nearest centroid by squared distance, exact in f32, at the price of one product of `real`.
 *
 * One product in bf16 ranks centroids to about 1 part in 256, which is too coarse to choose by but enough to rule nearly all of them
 * out. Points and centroids are taken relative to the centroids' mean (distances do not change, errors shrink) and rounded to `real`; a
 * product on tensor cores gives each pair's |c|^2 / 2 - x . c up to an error of at most |c| (KAPPA |x| + RHO |c|), by Cauchy-Schwarz. A
 * warp sifts a row's tile of products: a centroid stays only if its lowest possible value is at or below the least of all highest
 * possible values. The few that stay, in a list a row, are then measured with f32 differences of the vectors as they were given; the
 * nearest wins, the lowest index on a tie.
 *
 * So the answer never depends on the product's precision, only the length of the lists does. A row whose list overflows is handed to a
 * plain f32 kernel, all centroids against it. Few centroids (k <= LIST) need no sifting at all: all of them are the list. Declared costs
 * leave out what depends on the lists: on spread-out data that is next to nothing. */
#include "reduce.h"

enum { THREADS = 256, ROWS_A_BLOCK = THREADS / WARP, LIST = 64, LOST = LIST + 1, TILE = 1024, ALIGN = 256 };
enum { ROWS_MOST = 8192, MEAN_OF = 4096 };
enum { SIDE = 64, DEEP = 16, SLICES = 64, PITCH = SIDE + 4 }; /* the plain kernel: tiles of SIDE x SIDE, DEEP dimensions at a time */

namespace {
struct kept { /* of each row of a chunk */
    gp<int32_t> count;   /* entries in the list; LOST: more than it holds */
    gp<int32_t> index;   /* [rows, LIST] */
    gp<float> low;       /* [rows, LIST] the lowest value possible */
    gp<float> upper;     /* least of the highest values possible */
    gp<int32_t> lost;    /* rows whose list overflowed, in any order */
    gp<int32_t> lost_count;
};
struct points { /* vectors as given */
    gp<const float> x, centroids;
    int32_t rows, k, d;
    bool wide; /* four neighbours may be loaded at once */
};
struct answer {
    gp<int32_t> assign;
    gp<float> distance;
    bool has_distance;
};
struct nearest {
    float distance;
    int32_t index;
};
struct sieve {
    gp<const float> dots, x_norm, norm; /* [rows, TILE]; |x|, |c| of what the product saw */
    int32_t rows, first, count;         /* centroids first .. first + count are this tile's */
    float kappa, rho;
};
}

/* ---- what the product sees ---- */

/* One block 32 dimensions: their mean over every step-th centroid, rows taken by warps in turn. Any point near the middle will do. */
static __global__ void mean_kernel(gp<float> mean, gp<const float> centroids, int32_t k, int32_t d, int32_t step)
{
    SHARED(float, part, THREADS);
    const int32_t c = block_x() * WARP + thread_x() % WARP;
    float sum = 0.0f;
    for (int32_t i = thread_x() / WARP; (int64_t)i * step < k && c < d; i += ROWS_A_BLOCK)
        sum += centroids[(int64_t)i * step * d + c];
    part[thread_x()] = sum;
    sync_block();
    if (thread_x() >= WARP || c >= d)
        return;
    for (int i = 1; i < ROWS_A_BLOCK; i++)
        sum += part[i * WARP + thread_x()];
    mean[c] = sum / (float)((k + step - 1) / step);
}

/* One warp a row: y = x - mean in `real`, norm = |x - mean|. */
static __global__ void centre_kernel(gp<real> y, gp<float> norm, gp<const float> x, gp<const float> mean, int32_t rows, int32_t d,
                                     bool wide)
{
    const int32_t i = block_x() * ROWS_A_BLOCK + thread_x() / WARP, lane = thread_x() % WARP;
    const int64_t row = (int64_t)i * d;
    float squares = 0.0f;
    if (i >= rows)
        return;
    if (wide)
        for (int32_t c = 4 * lane; c < d; c += 4 * WARP) {
            const four a = load4(x, row + c), m = load4(mean, c), v = {a.x - m.x, a.y - m.y, a.z - m.z, a.w - m.w};
            squares = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, squares))));
            store4(y, row + c, v);
        }
    else
        for (int32_t c = lane; c < d; c += WARP) {
            const float v = (float)x[row + c] - (float)mean[c];
            squares = fmaf(v, v, squares);
            y[row + c] = to_real(v);
        }
    squares = warp_sum(squares);
    if (lane == 0)
        norm[i] = sqrtf(squares);
}

/* ---- sifting ---- */

/* Entries of a row's list that may still be the nearest, moved to its front; returns how many. Whole warps. */
DEVICE int32_t prune(const kept &k, int32_t row, int32_t count, float upper)
{
    const int lane = thread_x() % WARP;
    const int64_t at = (int64_t)row * LIST;
    int32_t left = 0;
    for (int32_t base = 0; base < count; base += WARP) {
        const bool here = base + lane < count;
        const int32_t index = here ? (int32_t)k.index[at + base + lane] : 0;
        const float low = here ? (float)k.low[at + base + lane] : INFINITY;
        const uint32_t stay = vote_ballot(here && low <= upper);
        const int32_t to = left + bits_set(stay & ((1u << lane) - 1));
        sync_warp();
        if (stay >> lane & 1) {
            k.index[at + to] = index;
            k.low[at + to] = low;
        }
        sync_warp();
        left += bits_set(stay);
    }
    return left;
}

/* Adds the lanes' candidates to the row's list; returns its length, or LOST. */
DEVICE int32_t append(const kept &k, int32_t row, int32_t count, float upper, bool stays, int32_t index, float low)
{
    const int lane = thread_x() % WARP;
    const uint32_t all = vote_ballot(stays);
    const int32_t more = bits_set(all);
    if (count == LOST || more == 0)
        return count;
    if (count + more > LIST)
        count = prune(k, row, count, upper);
    if (count + more > LIST)
        return LOST;
    if (stays) {
        const int64_t at = (int64_t)row * LIST + count + bits_set(all & ((1u << lane) - 1));
        k.index[at] = index;
        k.low[at] = low;
    }
    sync_warp();
    return count + more;
}

/* |c|^2 / 2 - x . c of a pair, and the most that it may be wrong by. */
DEVICE float pair_value(float dot, float norm, float x_norm, const sieve &s, float *wrong)
{
    *wrong = norm * fmaf(s.kappa, x_norm, s.rho * norm);
    return fmaf(0.5f * norm, norm, -dot);
}

/* Adds the tile's candidates, bit j of `stays` being column j * 32 + lane, to the row's list. Rare: read again what they were. */
DEVICE int32_t append_all(const sieve &s, const kept &k, int32_t row, int32_t count, float upper, uint32_t stays)
{
    const int lane = thread_x() % WARP;
    const float x_norm = s.x_norm[row];
    for (int j = 0; j < TILE / WARP; j++) {
        const bool mine = stays >> j & 1;
        const int32_t c = j * WARP + lane;
        float wrong, low = 0.0f;
        if (!vote_any(mine))
            continue;
        if (mine)
            low = pair_value(s.dots[(int64_t)row * TILE + c], s.norm[c], x_norm, s, &wrong) - wrong;
        count = append(k, row, count, upper, mine, s.first + c, low);
    }
    return count;
}

/* One warp a row of the tile; a lane keeps its columns' lowest values in registers until the row's upper bound is known. */
static __global__ void sift_kernel(sieve s, kept k)
{
    const int32_t row = block_x() * ROWS_A_BLOCK + thread_x() / WARP, lane = thread_x() % WARP;
    float low[TILE / WARP], upper = INFINITY;
    uint32_t stays = 0;
    if (row >= s.rows)
        return;
    const float x_norm = s.x_norm[row];
    UNROLL
    for (int j = 0; j < TILE / WARP; j++) {
        const int32_t c = j * WARP + lane;
        low[j] = INFINITY;
        if (c < s.count) {
            float wrong;
            const float value = pair_value(s.dots[(int64_t)row * TILE + c], s.norm[c], x_norm, s, &wrong);
            upper = fminf(upper, value + wrong);
            low[j] = value - wrong;
        }
    }
    upper = -warp_max(-upper);
    if (s.first > 0)
        upper = fminf(upper, k.upper[row]);
    UNROLL
    for (int j = 0; j < TILE / WARP; j++)
        stays |= low[j] <= upper && low[j] < INFINITY ? 1u << j : 0u;
    const int32_t before = s.first > 0 ? (int32_t)k.count[row] : 0, count = append_all(s, k, row, before, upper, stays);
    sync_warp();
    if (lane == 0) {
        k.upper[row] = upper;
        k.count[row] = count;
    }
}

/* ---- measuring ---- */

DEVICE nearest nearer(nearest a, nearest b)
{
    return b.distance < a.distance || (b.distance == a.distance && b.index < a.index) ? b : a;
}

/* |x - c|^2 by one warp, every lane gets it. */
DEVICE float warp_distance(const points &p, int64_t x, int64_t c)
{
    const int lane = thread_x() % WARP;
    float sum = 0.0f;
    if (p.wide)
        for (int32_t i = 4 * lane; i < p.d; i += 4 * WARP) {
            const four a = load4(p.x, x + i), b = load4(p.centroids, c + i), v = {a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w};
            sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
        }
    else
        for (int32_t i = lane; i < p.d; i += WARP) {
            const float v = (float)p.x[x + i] - (float)p.centroids[c + i];
            sum = fmaf(v, v, sum);
        }
    return warp_sum(sum);
}

DEVICE void put_answer(const answer &y, int32_t row, nearest n)
{
    y.assign[row] = n.index;
    if (y.has_distance)
        y.distance[row] = n.distance;
}

/* One warp a row: the nearest of its list, or, `all`, of all centroids. */
static __global__ void measure_kernel(points p, kept k, answer y, bool all)
{
    const int32_t row = block_x() * ROWS_A_BLOCK + thread_x() / WARP;
    if (row >= p.rows)
        return;
    const int32_t count = all ? p.k : (int32_t)k.count[row];
    const float upper = all ? 0.0f : (float)k.upper[row];
    if (count == LOST) {
        if (thread_x() % WARP == 0)
            k.lost[atomic_add(k.lost_count, 1)] = row;
        return;
    }
    nearest best = {INFINITY, 0};
    for (int32_t i = 0; i < count; i++) {
        const int64_t at = (int64_t)row * LIST + i;
        if (!all && !(k.low[at] <= upper))
            continue;
        const int32_t c = all ? i : (int32_t)k.index[at];
        best = nearer(best, {warp_distance(p, (int64_t)row * p.d, (int64_t)c * p.d), c});
    }
    if (thread_x() % WARP == 0)
        put_answer(y, row, best);
}

/* ---- rows whose list overflowed: the plain way ---- */

/* DEEP dimensions from `base` of SIDE vectors (vector i is row(i), below 0: none) into `to`, dimension-major. */
template <class ROW> DEVICE void load_side(sp<float> to, gp<const float> from, int32_t base, int32_t d, ROW row)
{
    for (int32_t e = thread_x(); e < SIDE * DEEP; e += THREADS) {
        const int32_t i = e / DEEP, c = base + e % DEEP, at = row(i);
        to[e % DEEP * PITCH + i] = at >= 0 && c < d ? (float)from[(int64_t)at * d + c] : 0.0f;
    }
}

DEVICE void add_squares(float (&sum)[4][4], sp<float> x, sp<float> c)
{
    const int32_t i = thread_x() / 16 * 4, j = thread_x() % 16 * 4;
    for (int32_t k = 0; k < DEEP; k++)
        for (int a = 0; a < 4; a++)
            for (int b = 0; b < 4; b++) {
                const float v = (float)x[k * PITCH + i + a] - (float)c[k * PITCH + j + b];
                sum[a][b] = fmaf(v, v, sum[a][b]);
            }
}

/* Sixteen neighbouring lanes hold a row's columns. */
DEVICE nearest join_columns(nearest n)
{
    for (int d = 8; d > 0; d /= 2) {
        const float distance = shuffle_xor(n.distance, d);
        const int32_t index = shuffle_xor(n.index, d);
        n = nearer(n, {distance, index});
    }
    return n;
}

/* A block: SIDE lost rows (block_x) against a slice of the centroids (block_y); its best of each goes to partial [slice, rows]. */
static __global__ void plain_kernel(points p, kept k, gp<float> partial, gp<int32_t> partial_index)
{
    SHARED(float, xs, DEEP * PITCH);
    SHARED(float, cs, DEEP * PITCH);
    const int32_t rows = k.lost_count[0], first = block_x() * SIDE, span = (p.k + SLICES - 1) / SLICES;
    const int32_t begin = block_y() * span, end = begin + span < p.k ? begin + span : p.k;
    nearest best[4] = {{INFINITY, 0}, {INFINITY, 0}, {INFINITY, 0}, {INFINITY, 0}};
    if (first >= rows)
        return;
    for (int32_t c = begin; c < end; c += SIDE) {
        float sum[4][4] = {};
        for (int32_t base = 0; base < p.d; base += DEEP) {
            load_side(xs, p.x, base, p.d, [&](int32_t i) { return first + i < rows ? (int32_t)k.lost[first + i] : -1; });
            load_side(cs, p.centroids, base, p.d, [&](int32_t i) { return c + i < end ? c + i : -1; });
            sync_block();
            add_squares(sum, xs, cs);
            sync_block();
        }
        for (int a = 0; a < 4; a++)
            for (int b = 0; b < 4; b++)
                if (c + thread_x() % 16 * 4 + b < end)
                    best[a] = nearer(best[a], {sum[a][b], c + thread_x() % 16 * 4 + b});
    }
    for (int a = 0; a < 4; a++) {
        const nearest n = join_columns(best[a]);
        const int32_t row = first + thread_x() / 16 * 4 + a;
        if (thread_x() % 16 == 0 && row < rows) {
            partial[(int64_t)block_y() * p.rows + row] = n.distance;
            partial_index[(int64_t)block_y() * p.rows + row] = n.index;
        }
    }
}

/* One thread a lost row: the slices' bests, in order. */
static __global__ void plain_join_kernel(points p, kept k, gp<const float> partial, gp<const int32_t> partial_index, answer y)
{
    const int32_t i = block_x() * THREADS + thread_x();
    nearest best = {INFINITY, 0};
    if (i >= k.lost_count[0])
        return;
    for (int32_t s = 0; s < SLICES; s++)
        best = nearer(best, {partial[(int64_t)s * p.rows + i], partial_index[(int64_t)s * p.rows + i]});
    put_answer(y, k.lost[i], best);
}

/* ---- host ---- */

namespace {
struct job { /* one call; scratch of a chunk of `rows` rows and of `group` centroids, a multiple of TILE */
    const float *x, *centroids;
    int32_t n, k, d, rows, group;
    float *mean, *x_norm, *norm, *dots, *low, *upper;
    real *near_x, *near_c;
    int32_t *count, *index, *lost, *lost_count;
};
}

/* Takes the next `bytes` of scratch; with `at` 0 as the base this only reckons. */
static int64_t take(int64_t *at, int64_t bytes)
{
    const int64_t here = *at;
    *at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return here;
}

/* Lays scratch out from `base`; returns the bytes. The plain kernel's partial results take the place of the products. */
static int64_t place(job *j, char *base)
{
    const int64_t rows = j->rows, d = j->d, word = sizeof(float), size = sizeof(real);
    int64_t at = 0;
    j->mean = (float *)(base + take(&at, d * word));
    j->x_norm = (float *)(base + take(&at, rows * word));
    j->upper = (float *)(base + take(&at, rows * word));
    j->count = (int32_t *)(base + take(&at, rows * word));
    j->lost = (int32_t *)(base + take(&at, rows * word));
    j->lost_count = (int32_t *)(base + take(&at, word));
    j->index = (int32_t *)(base + take(&at, rows * LIST * word));
    j->low = (float *)(base + take(&at, rows * LIST * word));
    j->near_x = (real *)(base + take(&at, rows * d * size));
    j->dots = (float *)(base + take(&at, rows * TILE * word));
    j->norm = (float *)(base + take(&at, j->group * word));
    j->near_c = (real *)(base + take(&at, j->group * d * size));
    return at;
}

/* As many rows as leave room for a tile of centroids; then as many tiles as fit beside them. */
static void plan(job *j)
{
    char *const base = (char *)platform_scratch(PLATFORM_SCRATCH);
    const int32_t tiles = (j->k + TILE - 1) / TILE;
    j->rows = j->n < ROWS_MOST ? j->n : ROWS_MOST;
    j->group = TILE;
    while (place(j, base) > PLATFORM_SCRATCH && j->rows > 1)
        j->rows -= j->rows / 16 + 1;
    for (int32_t more = 2; more <= tiles; more++) {
        j->group = more * TILE;
        if (place(j, base) > PLATFORM_SCRATCH) {
            j->group -= TILE;
            break;
        }
    }
    CHECK(j->rows > 0 && place(j, base) <= PLATFORM_SCRATCH);
}

static bool is_wide(const job *j)
{
    return j->d % 4 == 0 && (uintptr_t)j->x % 16 == 0 && (uintptr_t)j->centroids % 16 == 0;
}

static points points_of(const job *j, int32_t first, int32_t rows)
{
    points p = {};
    p.x = j->x + (int64_t)first * j->d, p.centroids = j->centroids, p.rows = rows, p.k = j->k, p.d = j->d, p.wide = is_wide(j);
    return p;
}

static kept kept_of(const job *j)
{
    kept k = {};
    k.count = j->count, k.index = j->index, k.low = j->low, k.upper = j->upper, k.lost = j->lost, k.lost_count = j->lost_count;
    return k;
}

static answer answer_of(int32_t *assign, float *distance, int32_t first)
{
    answer y = {};
    y.assign = assign + first, y.distance = distance ? distance + first : NULL, y.has_distance = distance != NULL;
    return y;
}

static void centre(const job *j, real *y, float *norm, const float *x, int32_t rows)
{
    const double cells = (double)rows * j->d, bytes = cells * (sizeof(float) + sizeof(real)) + (double)(rows + j->d) * sizeof(float);
    LAUNCH((centre_kernel), dim_of(blocks_for(rows, ROWS_A_BLOCK)), THREADS, (cost{bytes, 3 * cells}), y, norm, x, j->mean, rows, j->d,
           is_wide(j));
}

/* Products of a chunk's rows with a tile of centroids, and their sifting. `at`: of the tile within the group. */
static void sift(const job *j, int32_t rows, int32_t first, int32_t at, int32_t count)
{
    const double cells = (double)rows * count;
    struct gemm g = {};
    g.tb = true, g.m = rows, g.n = count, g.k = j->d, g.alpha = 1.0f;
    g.a = j->near_x, g.lda = j->d, g.b = j->near_c + (int64_t)at * j->d, g.ldb = j->d;
    g.c = j->dots, g.ldc = TILE, g.c_f32 = true;
    platform_gemm(&g);
    sieve s = {};
    s.dots = j->dots, s.x_norm = j->x_norm, s.norm = j->norm + at, s.rows = rows, s.first = first + at, s.count = count;
    s.rho = (float)(j->d + 8) * 0x1p-22f; /* sums of d products in f32, whatever their order, norms included */
    s.kappa = s.rho + (sizeof(real) < sizeof(float) ? 1.01f * 0x1p-8f : 0.0f); /* both sides rounded: 2^-9 each */
    LAUNCH((sift_kernel), dim_of(blocks_for(rows, ROWS_A_BLOCK)), THREADS,
           (cost{cells * sizeof(float) + 5.0 * rows * sizeof(float) + (double)count * sizeof(float), 7 * cells}), s, kept_of(j));
}

static void sift_all(const job *j, int32_t first, int32_t rows)
{
    centre(j, j->near_x, j->x_norm, j->x + (int64_t)first * j->d, rows);
    platform_zero(j->lost_count, sizeof(int32_t));
    for (int32_t group = 0; group < j->k; group += j->group) {
        const int32_t count = j->k - group < j->group ? j->k - group : j->group;
        if (first == 0 || j->k > j->group) /* a single group stays where it is */
            centre(j, j->near_c, j->norm, j->centroids + (int64_t)group * j->d, count);
        for (int32_t at = 0; at < count; at += TILE)
            sift(j, rows, group, at, count - at < TILE ? count - at : TILE);
    }
}

/* Reads x and, at the least, one centroid a row. */
static cost measure_cost(const job *j, int32_t rows, double centroids)
{
    const double d = j->d;
    return {((rows + (centroids < j->k ? centroids : j->k)) * d + 2.0 * rows) * sizeof(float), 3.0 * rows * d};
}

static void plain(const job *j, const points &p, const answer &y)
{
    int32_t *const index = (int32_t *)(j->dots + (int64_t)SLICES * j->rows);
    LAUNCH((plain_kernel), dim_of(blocks_for(p.rows, SIDE), SLICES), THREADS, (cost{sizeof(int32_t), 0.0}), p, kept_of(j), j->dots, index);
    LAUNCH((plain_join_kernel), dim_of(blocks_for(p.rows, THREADS)), THREADS, (cost{sizeof(int32_t), 0.0}), p, kept_of(j), j->dots, index,
           y);
}

void cuda_kmeans_assign(int32_t *assign, float *distance, const float *x, const float *centroids, int32_t n, int32_t k, int32_t d)
{
    job j = {};
    j.x = x, j.centroids = centroids, j.n = n, j.k = k, j.d = d;
    if (n == 0)
        return;
    CHECK(k > 0);
    if (k <= LIST) {
        LAUNCH((measure_kernel), dim_of(blocks_for(n, ROWS_A_BLOCK)), THREADS, measure_cost(&j, n, k), points_of(&j, 0, n), kept_of(&j),
               answer_of(assign, distance, 0), true);
        return;
    }
    plan(&j);
    const int32_t step = (int32_t)blocks_for(k, MEAN_OF);
    const double taken = (double)blocks_for(k, step);
    LAUNCH((mean_kernel), dim_of(blocks_for(d, WARP)), THREADS, (cost{(taken + 1) * d * sizeof(float), taken * d}), j.mean, centroids, k, d,
           step);
    for (int32_t first = 0; first < n; first += j.rows) {
        const int32_t rows = n - first < j.rows ? n - first : j.rows;
        const points p = points_of(&j, first, rows);
        const answer y = answer_of(assign, distance, first);
        sift_all(&j, first, rows);
        LAUNCH((measure_kernel), dim_of(blocks_for(rows, ROWS_A_BLOCK)), THREADS, measure_cost(&j, rows, rows), p, kept_of(&j), y, false);
        plain(&j, p, y);
    }
}
