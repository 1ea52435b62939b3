/* beam.cu: one step of constrained beam search on the device: logits (beam_logits.cu), choice, merge; three launches where scratch holds the logits.
 *
 * A request's candidates are numbered in the order of the tie rule (parent row ascending, code ascending), so a candidate is a score and a number,
 * and the best are those of the largest score, smallest number first. A candidate's number says all about it: the request's rows and
 * the running sum of their children give back parent and node; so lists hold eight bytes each. `choose` divides the candidates of each request
 * over blocks by number, never by row, since one row may have 51,200 children and a thousand rows none; each block finds the softmax sums of its
 * rows, scores its candidates in tiles in shared memory and leaves its best `width` in order of number. `merge` does the same with the lists
 * of all blocks, then ranks what is left, and writes beams, tokens, offsets (each block adds up what the requests before it keep) and counts.
 *
 * A tile's best are found by radix selection on the score (four passes over bytes of an order-preserving key), ties by number, since a tile
 * lies in that order; what stays is moved to the front and the next candidates follow behind it. Nothing is sorted but the result.
 *
 * Rows whose logits exceed scratch go in chunks: then merge leaves each request's best so far as one more list for the next chunk's. */
#include "beam.h"
#include "reduce.h"

#include <math.h>
#include <string.h>

enum {
    THREADS = 512,
    WARPS = THREADS / WARP,
    TILE = 3072,      /* candidates that a block holds */
    BINS = 256,       /* of a byte */
    SLICES_MOST = 256, /* blocks to a request */
    FEW = THREADS,     /* entries that are ranked without selecting among them first */
    MANY = 2048       /* children of a row for which a whole block does the softmax */
};
static_assert(TILE >= BEAM_WIDTH_MOST + 2048, "a tile has room for new candidates beside those that are kept");

namespace {
struct mass { /* log-sum-exp of dropped scores, as maximum and sum under it */
    float top;
    double sum;
};
struct search { /* of one chunk of rows */
    gp<const struct trie_level> above, here; /* above: of the level before, not read at level 0 */
    gp<const int32_t> offsets;
    gp<const uint32_t> node;
    gp<const float> score;
    gp<const float> logits, top, sum; /* as struct beam_logits */
    int32_t level, codes, groups, requests, width, first, rows, slices;
    bool renormalise, massed;
    /* lists, [requests, slices + 1, width]: slot 0 has the best of the chunks before, slot s + 1 those of slice s; valid: candidates seen */
    gp<uint32_t> key, number, valid;
    gp<float> cut_top;
    gp<double> cut_sum;
};
struct answer { /* what merge writes */
    gp<int32_t> offsets, parent, tokens, cut;
    gp<uint32_t> node, code;
    gp<float> score, log_mass;
    int32_t token_base, total;
    bool started, last, tokened; /* started: slot 0 has something */
};
}

/* ---- keys: larger for better scores; 0 is no candidate ---- */

DEVICE uint32_t key_of(float score)
{
    uint32_t bits;
    const float x = score + 0.0f; /* of the two zeros, one */
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
DEVICE float score_of(uint32_t key)
{
    const uint32_t bits = key >> 31 ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
DEVICE int ones(uint32_t v)
{
    v -= v >> 1 & 0x55555555u;
    v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
    return (int)(((v + (v >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

/* ---- masses ---- */

DEVICE mass mass_join(mass a, mass b)
{
    const float top = fmaxf(a.top, b.top);
    if (top == -INFINITY)
        return {top, 0.0};
    return {top, a.sum * (double)expf(a.top - top) + b.sum * (double)expf(b.top - top)};
}
/* Over the block; every thread gets it. */
DEVICE mass block_mass(mass v, sp<float> tops, sp<double> sums)
{
    for (int d = WARP / 2; d > 0; d /= 2) {
        const float top = shuffle_xor(v.top, d);
        const double sum = shuffle_xor(v.sum, d);
        v = mass_join(v, {top, sum});
    }
    if (thread_x() % WARP == 0) {
        tops[thread_x() / WARP] = v.top;
        sums[thread_x() / WARP] = v.sum;
    }
    sync_block();
    mass all = {tops[0], sums[0]};
    for (int i = 1; i < WARPS; i++)
        all = mass_join(all, {tops[i], sums[i]});
    sync_block();
    return all;
}

/* ---- the rows of a request ---- */

namespace {
struct family { /* in shared memory: row i has the candidates before[i] .. before[i + 1], which are the nodes from begin[i] on */
    sp<uint32_t> begin, before;
    int32_t row, rows; /* the request's first row, its rows */
};
}

DEVICE void find_family(const search &s, int32_t request, family &f, sp<uint32_t> room)
{
    static_assert(BEAM_WIDTH_MOST == 2 * THREADS, "two rows a thread");
    uint32_t begin[2], count[2];
    f.row = s.offsets[request];
    f.rows = (int32_t)s.offsets[request + 1] - f.row;
    for (int k = 0; k < 2; k++) {
        const int i = 2 * thread_x() + k;
        begin[k] = count[k] = 0;
        if (i >= f.rows)
            continue;
        if (s.level == 0) {
            const struct trie_level here = s.here[0];
            count[k] = here.nodes;
        } else {
            const struct trie_level above = s.above[0];
            gp<const uint32_t> first = above.first;
            const uint32_t node = s.node[f.row + i];
            begin[k] = first[node];
            count[k] = first[node + 1] - begin[k];
        }
    }
    uint32_t all, before = block_before(count[0] + count[1], room, &all);
    for (int k = 0; k < 2; k++) {
        const int i = 2 * thread_x() + k;
        if (i < f.rows)
            f.begin[i] = begin[k];
        if (i <= f.rows)
            f.before[i] = before;
        before += count[k];
    }
    if (thread_x() == THREADS - 1 && f.rows == 2 * THREADS)
        f.before[f.rows] = before;
    sync_block();
}

/* The row (of the request) that has candidate `number`. */
DEVICE int32_t row_with(const family &f, uint32_t number)
{
    int32_t low = 0, high = f.rows;
    while (high - low > 1) {
        const int32_t middle = (low + high) / 2;
        if (f.before[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

DEVICE uint32_t code_at(const struct trie_level &l, uint32_t node)
{
    if (l.wide) {
        gp<const uint32_t> codes = (const uint32_t *)l.codes;
        return codes[node];
    }
    gp<const uint16_t> codes = (const uint16_t *)l.codes;
    return (uint32_t)codes[node];
}

/* ---- softmax sums ---- */

/* Over all codes, from the groups' sums: one warp. Every lane gets it. */
DEVICE double lse_of_all(const search &s, int64_t row)
{
    float top = -INFINITY;
    double sum = 0.0;
    for (int32_t g = thread_x() % WARP; g < s.groups; g += WARP)
        top = fmaxf(top, s.top[row * s.groups + g]);
    top = warp_max(top);
    for (int32_t g = thread_x() % WARP; g < s.groups; g += WARP)
        sum += (double)(float)s.sum[row * s.groups + g] * (double)expf(s.top[row * s.groups + g] - top);
    return (double)top + log(warp_sum(sum));
}

DEVICE float child_logit(const search &s, const struct trie_level &l, int64_t row, uint32_t node)
{
    const uint32_t code = code_at(l, node);
    return code < (uint32_t)s.codes ? (float)s.logits[row * s.codes + code] : -INFINITY;
}
/* Over the children from..to that are this thread's, `step` apart. */
DEVICE mass mass_of_children(const search &s, const struct trie_level &l, int64_t row, uint32_t from, uint32_t to, uint32_t step)
{
    mass m = {-INFINITY, 0.0};
    for (uint32_t n = from; n < to; n += step)
        m.top = fmaxf(m.top, child_logit(s, l, row, n));
    for (uint32_t n = from; n < to && m.top > -INFINITY; n += step)
        m.sum += (double)expf(child_logit(s, l, row, n) - m.top);
    return m;
}
DEVICE double lse_of_mass(mass m)
{
    return m.sum > 0.0 ? (double)m.top + log(m.sum) : 0.0; /* none: no candidate will ask */
}

/* Rows from..to of the request: base = score - log-sum-exp. Rows with many children are the whole block's, the others a warp's each. */
DEVICE void find_bases(const search &s, const family &f, int32_t from, int32_t to, sp<double> base, sp<float> tops, sp<double> sums)
{
    const struct trie_level here = s.here[0];
    const int lane = thread_x() % WARP;
    for (int32_t i = from + thread_x() / WARP; i < to; i += WARPS) {
        const int64_t row = f.row + i - s.first;
        const uint32_t begin = f.begin[i], count = f.before[i + 1] - f.before[i];
        if (s.renormalise && count > MANY)
            continue;
        double lse;
        if (s.renormalise) {
            mass m = mass_of_children(s, here, row, begin + lane, begin + count, WARP);
            for (int d = WARP / 2; d > 0; d /= 2) {
                const float top = shuffle_xor(m.top, d);
                const double sum = shuffle_xor(m.sum, d);
                m = mass_join(m, {top, sum});
            }
            lse = lse_of_mass(m);
        } else {
            lse = lse_of_all(s, row);
        }
        if (lane == 0)
            base[i] = (double)s.score[f.row + i] - lse;
    }
    for (int32_t i = from; s.renormalise && i < to; i++) {
        const uint32_t begin = f.begin[i], count = f.before[i + 1] - f.before[i];
        if (count <= MANY)
            continue;
        const mass m = block_mass(mass_of_children(s, here, f.row + i - s.first, begin + thread_x(), begin + count, THREADS), tops, sums);
        if (thread_x() == 0)
            base[i] = (double)s.score[f.row + i] - lse_of_mass(m);
    }
    sync_block();
}

/* ---- the best of a tile ---- */

namespace {
struct tile { /* in shared memory */
    sp<uint32_t> key, number; /* [TILE] */
    sp<uint32_t> bins;        /* [BINS] */
    sp<uint32_t> room;        /* [2 * WARPS] */
};
struct threshold { /* what stays: keys above `key`, and of those equal to it the first `ties` */
    uint32_t key;
    int32_t ties;
};
}

/* The bin, from the highest down, in which the `left`-th of all counted falls; left then counts within it. First warp. */
DEVICE void find_bin(const tile &t, int32_t left)
{
    const int lane = thread_x();
    int32_t mine = 0;
    for (int i = 0; i < BINS / WARP; i++)
        mine += (int32_t)t.bins[BINS - 1 - lane * (BINS / WARP) - i];
    int32_t sum = mine;
    for (int d = 1; d < WARP; d *= 2) {
        const int32_t other = shuffle(sum, lane < d ? lane : lane - d);
        sum += lane < d ? 0 : other;
    }
    int32_t before = sum - mine;
    if (before >= left || sum < left)
        return;
    for (int i = 0; i < BINS / WARP; i++) {
        const int bin = BINS - 1 - lane * (BINS / WARP) - i;
        const int32_t here = (int32_t)t.bins[bin];
        if (before + here >= left) {
            t.room[0] = (uint32_t)bin;
            t.room[1] = (uint32_t)(left - before);
            return;
        }
        before += here;
    }
}

/* The threshold for the best `want` of the first n, which has at least so many candidates; want > 0. */
DEVICE threshold find_threshold(const tile &t, int32_t n, int32_t want)
{
    uint32_t value = 0, mask = 0;
    int32_t left = want;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = thread_x(); i < BINS; i += THREADS)
            t.bins[i] = 0;
        sync_block();
        for (int32_t i = thread_x(); i < n; i += THREADS) {
            const uint32_t key = t.key[i];
            if (key && (key & mask) == value)
                atomic_add(t.bins + (int)(key >> shift & 255), (uint32_t)1);
        }
        sync_block();
        if (thread_x() < WARP)
            find_bin(t, left);
        sync_block();
        value |= t.room[0] << shift;
        mask |= 255u << shift;
        left = (int32_t)t.room[1];
    }
    sync_block();
    return {value, left};
}

/* Where what stays goes to: the front of the tile, or a list. */
namespace {
struct outlet {
    bool listed, massed; /* massed: what does not stay is summed */
    gp<uint32_t> key, number;
    int64_t at;
};
}
DEVICE void put(const tile &t, const outlet &o, int32_t to, uint32_t key, uint32_t number)
{
    if (o.listed) {
        o.key[o.at + to] = key;
        o.number[o.at + to] = number;
    } else {
        t.key[to] = key;
        t.number[to] = number;
    }
}

/* Moves what stays, in order; returns how many. A target is never ahead of what has been read. */
DEVICE int32_t keep(const tile &t, int32_t n, threshold h, const outlet &o, mass &m)
{
    const int lane = thread_x() % WARP, warp = thread_x() / WARP;
    int32_t kept = 0, tied = 0;
    for (int32_t from = 0; from < n; from += THREADS) {
        const int32_t i = from + thread_x();
        const uint32_t key = i < n ? (uint32_t)t.key[i] : 0, number = i < n ? (uint32_t)t.number[i] : 0;
        const uint32_t equals = vote_ballot(key == h.key && key), larger = vote_ballot(key > h.key), below = (1u << lane) - 1;
        if (lane == 0) {
            t.room[warp] = (uint32_t)ones(equals);
            t.room[WARPS + warp] = (uint32_t)ones(larger);
        }
        sync_block();
        int32_t to = kept, ties_before = tied;
        for (int w = 0; w < WARPS; w++) {
            const int32_t equal = (int32_t)t.room[w], room = h.ties - tied;
            const int32_t stay = (int32_t)t.room[WARPS + w] + (equal < room ? equal : room > 0 ? room : 0);
            to += w < warp ? stay : 0;
            ties_before += w < warp ? equal : 0;
            tied += equal;
            kept += stay;
        }
        const bool stays = (larger >> lane & 1) || ((equals >> lane & 1) && ties_before + ones(equals & below) < h.ties);
        const uint32_t staying = vote_ballot(stays);
        if (stays)
            put(t, o, to + ones(staying & below), key, number);
        else if (o.massed && key)
            m = mass_join(m, {score_of(key), 1.0});
        sync_block();
    }
    return kept;
}

/* n in the tile, of which `valid` are candidates: the best `width` of them go to o. */
DEVICE int32_t select(const tile &t, int32_t n, int32_t valid, int32_t width, const outlet &o, mass &m)
{
    const threshold all = {0, 0};
    return keep(t, n, valid > width ? find_threshold(t, n, width) : all, o, m);
}

DEVICE int32_t block_count(int32_t v, sp<uint32_t> room)
{
    return (int32_t)block_sum((uint32_t)v, room);
}

/* ---- choice ---- */

/* Scores candidates number.. into the tile from place `at` on; returns this thread's count of those with a trained row. */
DEVICE int32_t score_tile(const search &s, const family &f, sp<double> base, const tile &t, int32_t at, uint32_t number, int32_t n)
{
    const struct trie_level here = s.here[0];
    int32_t valid = 0;
    for (int32_t i = thread_x(); i < n; i += THREADS) {
        const int32_t row = row_with(f, number + i);
        const uint32_t node = f.begin[row] + (number + i - f.before[row]), code = code_at(here, node);
        uint32_t key = 0;
        if (code < (uint32_t)s.codes) {
            const float logit = s.logits[(int64_t)(f.row + row - s.first) * s.codes + code];
            key = key_of((float)(base[row] + (double)logit));
            valid++;
        }
        t.key[at + i] = key;
        t.number[at + i] = number + (uint32_t)i;
    }
    return valid;
}

namespace {
struct range {
    uint32_t from, to;
};
}
/* The candidates of the request that are this block's. */
DEVICE range slice_of(const search &s, const family &f, int32_t slice)
{
    int32_t from = s.first - f.row, to = s.first + s.rows - f.row;
    from = from > 0 ? from : 0;
    to = to < f.rows ? to : f.rows;
    if (from >= to)
        return {0, 0};
    const uint64_t begin = f.before[from], count = f.before[to] - begin;
    return {(uint32_t)(begin + count * slice / s.slices), (uint32_t)(begin + count * (slice + 1) / s.slices)};
}

DEVICE int32_t choose(const search &s, const family &f, range r, sp<double> base, const tile &t, int64_t slot, mass &m)
{
    outlet to = {false, s.massed, s.key, s.number, slot * s.width};
    int32_t kept = 0, seen = 0;
    while (r.from < r.to) {
        const int32_t n = r.to - r.from < (uint32_t)(TILE - kept) ? (int32_t)(r.to - r.from) : TILE - kept;
        const int32_t valid = block_count(score_tile(s, f, base, t, kept, r.from, n), t.room);
        r.from += (uint32_t)n;
        seen += valid;
        to.listed = r.from == r.to;
        kept = select(t, kept + n, kept + valid, s.width, to, m);
    }
    return seen;
}

static __global__ void beam_choose_kernel(search s)
{
    SHARED(uint32_t, key, TILE);
    SHARED(uint32_t, number, TILE);
    SHARED(uint32_t, begin, BEAM_WIDTH_MOST);
    SHARED(uint32_t, before, BEAM_WIDTH_MOST + 1);
    SHARED(double, base, BEAM_WIDTH_MOST);
    SHARED(uint32_t, bins, BINS);
    SHARED(uint32_t, room, 2 * WARPS);
    SHARED(float, tops, WARPS);
    SHARED(double, sums, WARPS);
    const int32_t request = block_y(), slice = block_x();
    const int64_t slot = (int64_t)request * (s.slices + 1) + slice + 1;
    family f = {begin + 0, before + 0, 0, 0};
    find_family(s, request, f, room + 0);
    const range r = slice_of(s, f, slice);
    mass m = {-INFINITY, 0.0};
    int32_t seen = 0;
    if (r.from < r.to) {
        find_bases(s, f, row_with(f, r.from), row_with(f, r.to - 1) + 1, base + 0, tops + 0, sums + 0);
        const tile t = {key + 0, number + 0, bins + 0, room + 0};
        seen = choose(s, f, r, base + 0, t, slot, m);
    }
    if (s.massed)
        m = block_mass(m, tops + 0, sums + 0);
    if (thread_x() == 0) {
        s.valid[slot] = (uint32_t)seen;
        if (s.massed) {
            s.cut_top[slot] = m.top;
            s.cut_sum[slot] = m.sum;
        }
    }
}

/* ---- merge ---- */

DEVICE uint32_t at_most(uint32_t v, int32_t width) { return v < (uint32_t)width ? v : (uint32_t)width; }

/* Candidates of a request, from slot `slot` on. */
DEVICE uint32_t valid_of(const search &s, int32_t request, int32_t slot)
{
    uint32_t sum = 0;
    for (; slot <= s.slices; slot++)
        sum += s.valid[(int64_t)request * (s.slices + 1) + slot];
    return sum;
}

/* Rows that the requests before this one keep. */
DEVICE int32_t rows_before(const search &s, int32_t request, int32_t slot, sp<uint32_t> room)
{
    uint32_t sum = 0;
    for (int32_t r = thread_x(); r < request; r += THREADS)
        sum += at_most(valid_of(s, r, slot), s.width);
    return (int32_t)block_sum(sum, room);
}

/* before[i] = entries in the lists of the slots before slot `first` + i; the sum of all valid ones is returned. */
DEVICE uint32_t find_lists(const search &s, int32_t request, int32_t first, sp<uint32_t> before, sp<uint32_t> room)
{
    static_assert(SLICES_MOST + 1 < THREADS, "a list a thread");
    const int32_t i = thread_x(), lists = s.slices + 1 - first;
    const uint32_t valid = i < lists ? (uint32_t)s.valid[(int64_t)request * (s.slices + 1) + first + i] : 0;
    uint32_t all, sum = block_before(at_most(valid, s.width), room, &all);
    if (i <= lists)
        before[i] = sum;
    return block_sum(valid, room);
}

DEVICE void take_entries(const search &s, int64_t slot, int32_t lists, sp<uint32_t> before, const tile &t, int32_t at, uint32_t from, int32_t n)
{
    for (int32_t i = thread_x(); i < n; i += THREADS) {
        int32_t low = 0, high = lists;
        while (high - low > 1) {
            const int32_t middle = (low + high) / 2;
            if (before[middle] <= from + i)
                low = middle;
            else
                high = middle;
        }
        const int64_t entry = (slot + low) * s.width + (from + i - before[low]);
        t.key[at + i] = s.key[entry];
        t.number[at + i] = s.number[entry];
    }
    sync_block();
}

/* The best of all lists, or few entries as they are, to the front of the tile; returns how many. */
DEVICE int32_t merge(const search &s, int64_t slot, int32_t lists, sp<uint32_t> before, uint32_t few, const tile &t, mass &m)
{
    const outlet front = {false, s.massed, s.key, s.number, 0};
    const uint32_t all = before[lists];
    int32_t kept = 0;
    for (uint32_t from = 0; from < all;) {
        const int32_t n = all - from < (uint32_t)(TILE - kept) ? (int32_t)(all - from) : TILE - kept;
        take_entries(s, slot, lists, before, t, kept, from, n);
        from += (uint32_t)n;
        const bool enough = kept + n <= s.width || all <= few;
        kept = enough ? kept + n : select(t, kept + n, kept + n, s.width, front, m);
    }
    return kept;
}

/* The rank of entry i: those better, or as good and before it. */
DEVICE int32_t rank_of(const tile &t, int32_t n, int32_t i)
{
    const uint32_t key = t.key[i];
    int32_t rank = 0;
    for (int32_t k = 0; k < n; k++) {
        const uint32_t other = t.key[k];
        rank += other > key || (other == key && k < i) ? 1 : 0;
    }
    return rank;
}

/* The best `kept` of n entries, from row `offset` on. */
DEVICE void write_beams(const search &s, const answer &y, const family &f, const tile &t, int32_t n, int32_t kept, int32_t offset, mass &m)
{
    const struct trie_level here = s.here[0];
    for (int32_t i = thread_x(); i < n; i += THREADS) {
        const uint32_t number = t.number[i];
        const int32_t rank = rank_of(t, n, i), to = offset + rank, row = row_with(f, number);
        if (rank >= kept) {
            m = mass_join(m, {score_of(t.key[i]), 1.0});
            continue;
        }
        const uint32_t node = f.begin[row] + (number - f.before[row]), code = code_at(here, node);
        y.node[to] = node;
        y.code[to] = code;
        y.parent[to] = f.row + row;
        y.score[to] = score_of(t.key[i]);
        if (y.tokened)
            y.tokens[to] = y.token_base + (int32_t)code;
    }
}

/* Rows that no request has: harmless inputs of the next decode step. */
DEVICE void write_rest(const answer &y, int32_t live)
{
    for (int32_t i = live + thread_x(); i < y.total; i += THREADS) {
        y.parent[i] = 0;
        if (y.tokened)
            y.tokens[i] = 0;
    }
}

/* Sums of what was dropped, over the slots' and this block's own. */
DEVICE mass join_masses(const search &s, int64_t slot, int32_t lists, mass m, sp<float> tops, sp<double> sums)
{
    for (int32_t i = thread_x(); i < lists; i += THREADS)
        m = mass_join(m, {s.cut_top[slot + i], s.cut_sum[slot + i]});
    return block_mass(m, tops, sums);
}

/* Not the last chunk: what is left becomes the request's slot 0. */
DEVICE void write_list(const search &s, const tile &t, int64_t slot, int32_t kept, uint32_t valid, mass m)
{
    for (int32_t i = thread_x(); i < kept; i += THREADS) {
        s.key[slot * s.width + i] = t.key[i];
        s.number[slot * s.width + i] = t.number[i];
    }
    if (thread_x() > 0)
        return;
    s.valid[slot] = valid;
    if (s.massed) {
        s.cut_top[slot] = m.top;
        s.cut_sum[slot] = m.sum;
    }
}

DEVICE void write_counts(const search &s, const answer &y, int32_t request, int32_t offset, int32_t kept, uint32_t valid, mass m)
{
    if (thread_x() > 0)
        return;
    y.offsets[request] = offset;
    if (request + 1 == s.requests)
        y.offsets[s.requests] = offset + kept;
    y.cut[request] = (int32_t)(valid - (uint32_t)kept);
    if (s.massed)
        y.log_mass[request] = m.sum > 0.0 ? (float)((double)m.top + log(m.sum)) : -INFINITY;
}

static __global__ void beam_merge_kernel(search s, answer y)
{
    SHARED(uint32_t, key, TILE);
    SHARED(uint32_t, number, TILE);
    SHARED(uint32_t, begin, BEAM_WIDTH_MOST);
    SHARED(uint32_t, before, BEAM_WIDTH_MOST + 1);
    SHARED(uint32_t, entries, SLICES_MOST + 2);
    SHARED(uint32_t, bins, BINS);
    SHARED(uint32_t, room, 2 * WARPS);
    SHARED(float, tops, WARPS);
    SHARED(double, sums, WARPS);
    const tile t = {key + 0, number + 0, bins + 0, room + 0};
    const int32_t request = block_x(), first = y.started ? 0 : 1, lists = s.slices + 1 - first;
    const int64_t slot = (int64_t)request * (s.slices + 1);
    const uint32_t valid = find_lists(s, request, first, entries + 0, room + 0);
    mass m = {-INFINITY, 0.0};
    const int32_t n = merge(s, slot + first, lists, entries + 0, y.last ? FEW : 0, t, m);
    if (!y.last) {
        if (s.massed)
            m = join_masses(s, slot + first, lists, m, tops + 0, sums + 0);
        write_list(s, t, slot, n, valid, m);
        return;
    }
    family f = {begin + 0, before + 0, 0, 0};
    find_family(s, request, f, room + 0);
    const int32_t offset = rows_before(s, request, first, room + 0);
    const int32_t kept = n < s.width ? n : s.width;
    write_beams(s, y, f, t, n, kept, offset, m);
    if (s.massed)
        m = join_masses(s, slot + first, lists, m, tops + 0, sums + 0);
    write_counts(s, y, request, offset, kept, valid, m);
    if (request + 1 == s.requests)
        write_rest(y, offset + kept);
}

/* ---- host side ---- */

/* Blocks to a request: enough to fill the device, none with less than half a tile where all codes are children, and so many that the merge
 * of their lists does not take longer than they do. */
static int32_t slices_for(const struct beam_step *a)
{
    const int64_t rows = (a->in->total + a->in->requests - 1) / a->in->requests, most = rows * a->codes;
    const int64_t nodes = a->trie->level[a->level].nodes, candidates = most < nodes ? most : nodes;
    const int64_t balance = (int64_t)sqrt((double)candidates / a->width), full = SLICES_MOST / a->in->requests;
    int64_t slices = blocks_for(candidates, 2048), limit = balance < 8 ? 8 : balance;
    slices = slices < limit ? slices : limit;
    slices = slices < full ? slices : full;
    return slices < 1 ? 1 : slices > SLICES_MOST ? SLICES_MOST : (int32_t)slices;
}

/* Cuts scratch: lists first, then logits of so many rows as fit, at most `rows`; returns their number. */
static int32_t cut_scratch(const struct beam_step *a, search *s, struct beam_logits *l, int32_t rows)
{
    const size_t slots = (size_t)a->in->requests * (s->slices + 1), entries = slots * a->width, groups = (size_t)l->groups;
    const size_t lists = slots * (sizeof(double) + 2 * sizeof(float)) + entries * 2 * sizeof(uint32_t) + 256;
    const size_t each = ((size_t)a->codes + 2 * groups) * sizeof(float);
    CHECK(lists + 64 * each <= PLATFORM_SCRATCH);
    const size_t fit = (PLATFORM_SCRATCH - lists) / each / 64 * 64, count = (size_t)rows < fit ? (size_t)rows : fit;
    char *at = (char *)platform_scratch(lists + count * each);
    s->cut_sum = (double *)at, at += slots * sizeof(double);
    s->cut_top = (float *)at, at += slots * sizeof(float);
    s->valid = (uint32_t *)at, at += slots * sizeof(uint32_t);
    s->key = (uint32_t *)at, at += entries * sizeof(uint32_t);
    s->number = (uint32_t *)at, at += entries * sizeof(uint32_t);
    at += (256 - ((uintptr_t)at & 255)) & 255;
    l->logits = (float *)at;
    l->top = l->logits + count * a->codes;
    l->sum = l->top + count * groups;
    s->logits = l->logits, s->top = l->top, s->sum = l->sum;
    return (int32_t)count;
}

static search search_of(const struct beam_step *a)
{
    search s = {};
    const struct trie_view *v = a->trie->resident;
    s.here = &v->level[a->level];
    s.above = &v->level[a->level > 0 ? a->level - 1 : 0];
    s.offsets = a->in->offsets, s.node = a->in->node, s.score = a->in->score;
    s.level = a->level, s.codes = a->codes, s.groups = (int32_t)blocks_for(a->codes, BEAM_GROUP);
    s.requests = a->in->requests, s.width = a->width, s.slices = slices_for(a);
    s.renormalise = a->renormalise, s.massed = a->log_mass != NULL;
    return s;
}

static answer answer_of(const struct beam_step *a)
{
    answer y = {};
    const struct beams *out = a->out;
    y.offsets = out->offsets, y.parent = out->parent, y.node = out->node, y.code = out->code, y.score = out->score;
    y.cut = a->cut, y.tokens = a->tokens, y.tokened = a->tokens != NULL, y.log_mass = a->log_mass;
    y.token_base = a->token_base, y.total = out->total;
    return y;
}

/* Candidates of the chunk: what its rows have on average, at most all codes. */
static double candidates_of(const struct beam_step *a, double rows)
{
    const double nodes = a->trie->level[a->level].nodes, above = a->level > 0 ? a->trie->level[a->level - 1].nodes : 1;
    const double each = nodes / (above > 0 ? above : 1);
    return rows * (each < a->codes ? each : a->codes);
}

static void choose_and_merge(const struct beam_step *a, const search &s, const answer &y)
{
    const struct trie_level *here = &a->trie->level[a->level];
    const double rows = s.rows, candidates = candidates_of(a, rows), code = here->wide ? sizeof(uint32_t) : sizeof(uint16_t);
    const double slots = (double)s.requests * s.slices, slot = sizeof(uint32_t) + (s.massed ? sizeof(float) + sizeof(double) : 0);
    const double lists = candidates < slots * s.width ? candidates : slots * s.width, left = (double)s.requests * s.width;
    const double beams = candidates < left ? candidates : left, family = rows * (s.level > 0 ? 3 : 0) * sizeof(uint32_t);
    const double tables = family + (s.requests + 1) * sizeof(int32_t) + 2 * sizeof(struct trie_level);
    const double sums = s.renormalise ? 0 : rows * 2 * s.groups * sizeof(float), codes = candidates < here->nodes ? candidates : here->nodes;
    const struct cost choose_cost = {candidates * sizeof(float) + codes * code + sums + rows * sizeof(float) + tables + lists * 8 + slots * slot,
                                     candidates * 2 + rows * s.groups * 3};
    const struct cost merge_cost = {lists * 8 + slots * slot + tables + (y.last ? beams * 24 + (y.total - beams) * 8 : beams * 8) +
                                        s.requests * (y.last ? 12 : slot), lists};
    LAUNCH((beam_choose_kernel), dim_of(s.slices, s.requests), THREADS, choose_cost, s);
    LAUNCH((beam_merge_kernel), dim_of(s.requests), THREADS, merge_cost, s, y);
}

void cuda_beam_step(const struct beam_step *a)
{
    const int32_t requests = a->in->requests, total = a->in->total;
    const int64_t most = (int64_t)requests * a->width, candidates = (int64_t)total * a->codes;
    CHECK(a->width >= 1 && a->width <= BEAM_WIDTH_MOST && a->trie->resident);
    a->out->requests = requests;
    a->out->total = (int32_t)(most < candidates ? most : candidates);
    if (requests == 0) {
        platform_zero(a->out->offsets, sizeof(int32_t));
        return;
    }
    search s = search_of(a);
    answer y = answer_of(a);
    struct beam_logits logits = {.logits = NULL, .top = NULL, .sum = NULL, .codes = a->codes, .groups = s.groups};
    const int32_t chunk = cut_scratch(a, &s, &logits, total);
    do {
        s.rows = total - s.first < chunk ? total - s.first : chunk;
        y.started = s.first > 0;
        y.last = s.first + s.rows >= total;
        if (s.rows > 0)
            cuda_beam_logits(a, &logits, s.first, s.rows);
        choose_and_merge(a, s, y);
        s.first += s.rows;
    } while (s.first < total);
}
