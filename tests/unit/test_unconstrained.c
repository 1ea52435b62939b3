/* test_unconstrained.c: the beam without a trie is the beam over the trie of all IDs, which is small enough here to be built. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../core/base/mem.h"
#include "../../core/retrieve/unconstrained.h"

enum { VOCAB = 13, D = 16, REQUESTS = 3, WIDEST = 40, ALL = 4 * 5 * 6 };

static const struct code_layout layout = {.base = VOCAB, .positions = 3, .codes = {4, 5, 6}};

static struct trie *all_ids(uint32_t codes[ALL * 3], struct err *e)
{
    for (uint32_t i = 0; i < ALL; i++)
        memcpy(codes + i * 3, (const uint32_t[]){i / 30, i / 6 % 5, i % 6}, 3 * sizeof *codes);
    return trie_build(codes, NULL, ALL, 3, e);
}

static void compare(const struct unconstrained *u, const struct beam *b, const uint32_t *codes)
{
    for (int32_t r = 0; r < REQUESTS; r++) {
        int32_t found, free_found;
        const struct beam_hit *hits = beam_hits(b, r, &found);
        const uint32_t *ids = unconstrained_ids(u, r, &free_found);
        assert_int_equal(found, free_found);
        for (int32_t i = 0; i < found; i++)
            assert_memory_equal(ids + i * 3, codes + hits[i].document * 3, 3 * sizeof *ids);
    }
}

static void test_equals_the_trie_of_all_ids(void **state)
{
    (void)state;
    struct err e = {0};
    char message[256];
    uint32_t codes[ALL * 3];
    static const int32_t tokens[] = {4, 5, 1, 1, 9, 3, 7, 12, 1}, offsets[REQUESTS + 1] = {0, 3, 4, 9};
    const struct backend *be = backend_open("cpu", 1, message, sizeof message);
    const struct t5_options o = {.config = {.vocab = VOCAB, .codes = code_layout_total(&layout), .d_model = D, .d_kv = 8, .d_ff = 24, .heads = 2,
                                            .encoder_layers = 2, .decoder_layers = 2, .buckets = 8, .max_distance = 16, .eps = 1e-6f,
                                            .scale_output = true}};
    const struct t5_limits l = {.encoder_tokens = 9, .rows = REQUESTS, .beam_rows = REQUESTS * WIDEST, .positions = 3};
    const struct beam_limits limits = {.requests = REQUESTS, .width = WIDEST};
    struct t5 *m = t5_init(be, &o, &e);
    t5_randomise(m, 5);
    struct t5_work *work = t5_work_init(m, &l, &e);
    struct trie *trie = all_ids(codes, &e);
    const struct trie_view *placed = trie_upload(be, trie, NULL, &e);
    struct beam *b = beam_init(m, &layout, &limits, &e);
    struct unconstrained *u = unconstrained_init(m, &layout, &limits, &e);
    t5_encode(m, work, &(struct t5_batch){REQUESTS, tokens, offsets}, 0);
    for (int32_t width = 1; width <= WIDEST; width += 13) {
        assert_int_equal(beam_run(b, work, &(struct beam_search){.trie = trie_view_of(trie), .placed = placed, .width = width}), 0);
        unconstrained_run(u, work, width);
        compare(u, b, codes);
    }
    unconstrained_free(u);
    beam_free(b);
    trie_release(be, placed);
    trie_free(trie);
    t5_work_free(work);
    t5_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equals_the_trie_of_all_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
