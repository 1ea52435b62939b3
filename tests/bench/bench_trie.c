/* bench_trie.c: builds tries of 10 million random IDs on one core and prints time, bytes an item, and how near the time is to its floor.
 *
 * Floor: the memory passes that a radix sort of the keys cannot avoid, copied by memcpy in this very run: one read of the codes, and per 11-bit
 * digit of the key one pass over the keys (8 bytes an item, read and written). Before the clock: tries of a few thousand IDs of many shapes answer
 * every question like a naive twin (a sorted list searched from end to end); status 1 if one answer differs.
 *
 *   bench_trie [items]     10,000,000 by default */
#include "../../core/base/mem.h"
#include "../../core/base/run.h"
#include "../../core/retrieve/trie.h"
#include "random_ids.h"

#include <string.h>

/* ---- the naive twin ---- */

static bool has_prefix(const struct ids *ids, uint32_t row, const uint32_t *prefix, int32_t length)
{
    return memcmp(ids->codes + (size_t)row * (size_t)ids->positions, prefix, (size_t)length * 4) == 0;
}

static uint32_t count_prefix(const struct ids *ids, const uint32_t *prefix, int32_t length)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ids->n; i++)
        n += has_prefix(ids, i, prefix, length);
    return n;
}

static uint32_t leaves_below(const struct trie *t, const uint32_t *prefix, int32_t length)
{
    uint32_t node, from, to;
    if (!trie_find(t, prefix, length, &node))
        return 0;
    trie_leaves(trie_view_of(t), length - 1, node, &from, &to);
    return to - from;
}

/* Every prefix of every ID and one that is not there: as many leaves below it as rows that have it; whole IDs lead to their row. */
static bool same_answers(const struct ids *ids, const struct trie *t)
{
    for (uint32_t i = 0; i < ids->n; i += 7) {
        uint32_t *id = ids->codes + (size_t)i * (size_t)ids->positions, wrong[TRIE_LEVELS_MAX], node;
        for (int32_t length = 1; length <= ids->positions; length++) {
            memcpy(wrong, id, (size_t)length * 4);
            wrong[length - 1] ^= 1;
            if (leaves_below(t, id, length) != count_prefix(ids, id, length) || leaves_below(t, wrong, length) != count_prefix(ids, wrong, length))
                return false;
        }
        if (!trie_find(t, id, ids->positions, &node) || trie_view_of(t)->leaf_doc[node] != i)
            return false;
    }
    return trie_sane(t) && trie_count(t) == ids->n;
}

static int check_shape(const struct shape *s, uint64_t seed)
{
    struct err e = {0};
    int rc = 0;
    for (uint32_t n = 1; n < 4000; n = n * 3 + 1) {
        struct ids ids = draw_ids(s, n, seed + n);
        struct trie *t = trie_build(ids.codes, NULL, n, s->positions, &e);
        if (!t || !same_answers(&ids, t)) {
            printf("FAIL shape %s, %u items: %s\n", s->name, n, t ? "an answer differs from the naive twin's" : e.message);
            rc = 1;
        }
        trie_free(t);
        free(ids.codes);
    }
    return rc;
}

/* ---- the clock ---- */

static int bits_of(uint32_t largest)
{
    int bits = 1;
    while (largest >> bits)
        bits++;
    return bits;
}

static int key_bits(const struct ids *ids)
{
    int total = 0;
    for (int32_t t = 0; t < ids->positions; t++) {
        uint32_t largest = 0;
        for (uint32_t i = 0; i < ids->n; i++)
            largest |= ids->codes[(size_t)i * (size_t)ids->positions + (size_t)t];
        total += bits_of(largest);
    }
    return total;
}

static double floor_seconds(const struct ids *ids)
{
    size_t bytes = (size_t)ids->n * 8, input = (size_t)ids->n * (size_t)ids->positions * 4;
    char *a = xmalloc(bytes > input ? bytes : input), *b = xmalloc(bytes);
    memset(a, 1, bytes > input ? bytes : input);
    memset(b, 1, bytes);
    int passes = (key_bits(ids) + 10) / 11;
    double start = clock_s();
    memcpy(a, ids->codes, input);
    for (int i = 0; i < passes; i++) {
        memcpy(i & 1 ? a : b, i & 1 ? b : a, bytes);
        __asm__ volatile("" ::: "memory");
    }
    double took = clock_s() - start;
    free(a);
    free(b);
    return took;
}

static int measure(const struct shape *s, uint32_t n)
{
    struct err e = {0};
    struct ids ids = draw_ids(s, n, 42);
    double least = floor_seconds(&ids), start = clock_s();
    struct trie *t = trie_build(ids.codes, NULL, n, s->positions, &e);
    double took = clock_s() - start;
    if (!t) {
        printf("FAIL shape %s: %s\n", s->name, e.message);
        free(ids.codes);
        return 1;
    }
    double bytes = (double)trie_bytes(t) / n;
    int missed = n >= 10000000 && (took > 3 || bytes > 16);
    printf("trie shape=%s items=%u build_s=%.3f bytes_per_item=%.2f achieved=%.3f floor=%.3f ratio=%.2f%s\n", s->name, n, took, bytes, took, least,
           took / least, missed ? " MISSED (3 s, 16 bytes)" : "");
    trie_free(t);
    free(ids.codes);
    return missed;
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {
        {"512x512+suffix", 3, {512, 512}},
        {"51200x51200+suffix", 3, {51200, 51200}},
    };
    static const struct shape small[] = {
        {"suffix-only", 1, {0}},        {"3+suffix", 2, {3}},          {"17x5+suffix", 3, {17, 5}},
        {"wide", 3, {100000, 2}},       {"8x8x8+suffix", 4, {8, 8, 8}}, {"over-64-bits", 4, {4000000000u, 4000000000u, 2}},
    };
    uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10000000;
    int rc = 0;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        rc |= check_shape(&small[i], 1000 * i);
    puts(rc ? "trie answers differ from the naive twin" : "trie answers equal the naive twin's");
    for (size_t i = 0; rc == 0 && i < sizeof shapes / sizeof *shapes; i++)
        rc |= measure(&shapes[i], n);
    return rc;
}
