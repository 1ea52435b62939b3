/* test_engine_generation.c: generations against the store they come from.
 *
 * Random commits (puts that bring IDs, deletions, swaps inside one commit) through a real catalogue; after each the published rows must be exactly
 * the store's IDs in code order, with a sane trie, while generations that were pinned before stay as they were. `--perf` prints what a commit
 * of 100 new documents costs with 10,000, 60,000 and a million IDs. */
#include "../../core/engine_generation.h"
#include "catalog_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <time.h>

#include <cmocka.h>

enum { TRAINED = 8, IDS = 400 };

static struct publisher *open_publisher(void)
{
    const struct publisher_options o = {.positions = KIT_LEARNED + 1, .trained_suffixes = TRAINED};
    return publisher_open(&o);
}

static void on_commit(void *state, const struct catalog_commit *commit)
{
    publisher_commit(state, commit);
}

static struct catalog *open_store(const char *folder, struct publisher *p)
{
    struct err e = {0};
    char *path = path_join(folder, "c.db");
    const struct catalog_options o = {.path = path, .model_digest = DIGEST_A, .learned = KIT_LEARNED, .on_commit = on_commit, .state = p};
    struct catalog *c = catalog_open(&o, &e);
    if (!c || catalog_fill(c, NULL, NULL, &e) < 0 || publisher_load(p, c, &e) < 0)
        fail_msg("%s", e.message);
    free(path);
    return c;
}

/* ---- twin ---- */

struct twin {
    const struct generation *gen;
    int64_t found;
};

static int find_id(void *state, const struct catalog_id *id, struct err *e)
{
    struct twin *t = state;
    uint32_t codes[CATALOG_CODES_MAX], leaf;
    (void)e;
    memcpy(codes, id->codes, sizeof codes);
    if (!id->trained)
        codes[KIT_LEARNED] += TRAINED;
    assert_true(trie_find(t->gen->ids->trie, codes, KIT_LEARNED + 1, &leaf));
    assert_int_equal(t->gen->ids->number[trie_view_of(t->gen->ids->trie)->leaf_doc[leaf]], id->number);
    t->found++;
    return 0;
}

static void compare_with_store(struct publisher *p, struct catalog *c)
{
    struct err e = {0};
    struct generation *gen = generation_pin(p);
    struct twin t = {.gen = gen};
    struct catalog_reader *r = catalog_reader_take(c, &e);
    assert_non_null(r);
    assert_int_equal(catalog_each_id(r, find_id, &t, &e), 0);
    catalog_reader_give(r);
    assert_int_equal(t.found, gen->ids->count);
    assert_int_equal(gen->documents, gen->ids->count);
    assert_int_equal(gen->number, catalog_generation(c));
    assert_true(trie_sane(gen->ids->trie));
    generation_unpin(gen);
}

/* ---- random commits ---- */

static void random_put(uint64_t *seed, struct arena *a, struct catalog_put *put)
{
    struct document *d = arena_alloc(a, sizeof *d);
    uint32_t *codes = arena_alloc(a, 4 * sizeof *codes);
    d->id = arena_printf(a, "d%u", kit_below(seed, IDS));
    d->title = arena_printf(a, "words %u", kit_below(seed, 1000));
    codes[0] = kit_below(seed, 4);
    codes[1] = kit_below(seed, 70000);
    codes[1] = codes[1] > 5 ? codes[1] % 3 : codes[1] + 69990;
    codes[2] = kit_below(seed, 12);
    *put = (struct catalog_put){.document = d, .codes = codes, .code_count = KIT_LEARNED + (int32_t)kit_below(seed, 2)};
    put->trained = put->code_count > KIT_LEARNED && codes[2] < TRAINED;
}

static void random_commit(struct catalog *c, uint64_t *seed)
{
    struct catalog_put puts[6];
    struct catalog_delete deletes[3];
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    struct catalog_batch b = {.puts = puts, .put_count = (int32_t)kit_below(seed, 7), .deletes = deletes, .arena = &a};
    b.delete_count = (int32_t)kit_below(seed, 4);
    for (int32_t i = 0; i < b.put_count; i++)
        random_put(seed, &a, &puts[i]);
    for (int32_t i = 0; i < b.delete_count; i++)
        deletes[i] = (struct catalog_delete){.id = arena_printf(&a, "d%u", kit_below(seed, IDS))};
    if (catalog_write(c, &b, &e) < 0)
        assert_true(b.faults > 0);
    arena_free(&a);
}

static void test_random_commits(void **state)
{
    (void)state;
    uint64_t seed = 7;
    char *folder = kit_folder();
    struct publisher *p = open_publisher();
    struct catalog *c = open_store(folder, p);
    for (int i = 0; i < 400; i++) {
        random_commit(c, &seed);
        compare_with_store(p, c);
    }
    catalog_close(c);
    publisher_close(p);
    p = open_publisher();
    c = open_store(folder, p);
    compare_with_store(p, c);
    catalog_close(c);
    publisher_close(p);
    struct err e;
    file_remove_tree(folder, &e);
    free(folder);
}

/* ---- pins while others publish ---- */

struct pinner {
    struct publisher *p;
    atomic_bool *stop;
};

static void *pin_and_look(void *state)
{
    struct pinner *w = state;
    while (!atomic_load(w->stop)) {
        struct generation *g = generation_pin(w->p);
        CHECK(g->number == g->documents && g->ids->count == g->documents);
        CHECK(g->ids->count == 0 || g->ids->codes[g->ids->count * 3 - 1] == (uint32_t)g->ids->count - 1);
        generation_unpin(g);
    }
    return NULL;
}

/* Commit i adds the ID 0-0-(i-1), trained. */
static void publish_one(struct publisher *p, int64_t i)
{
    const struct catalog_change change = {.kind = CHANGE_ADDED, .trained = true, .number = i, .codes = {0, 0, (uint32_t)i - 1}};
    const struct catalog_commit commit = {.generation = i, .documents = i, .changes = &change, .count = 1};
    publisher_commit(p, &commit);
}

static void test_pins(void **state)
{
    (void)state;
    char *folder = kit_folder();
    struct publisher *p = open_publisher();
    catalog_close(open_store(folder, p));
    atomic_bool stop = false;
    struct pinner w = {p, &stop};
    pthread_t thread[4];
    publish_one(p, 1);
    struct generation *first = generation_pin(p);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, pin_and_look, &w), 0);
    for (int64_t i = 2; i <= 2000; i++)
        publish_one(p, i);
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(first->ids->count, 1);
    assert_int_equal(trie_count(first->ids->trie), 1);
    generation_unpin(first);
    publisher_close(p);
    struct err e;
    file_remove_tree(folder, &e);
    free(folder);
}

/* ---- tries in a device's memory ---- */

static atomic_int blocks, most_blocks, allocations;
static bool full; /* the device has no memory left; set by the test between calls */
static void *count_alloc(size_t bytes)
{
    if (full)
        return NULL;
    int now = atomic_fetch_add(&blocks, 1) + 1;
    atomic_fetch_add(&allocations, 1);
    if (now > atomic_load(&most_blocks))
        atomic_store(&most_blocks, now);
    return xcalloc(1, bytes);
}
static void count_release(void *memory)
{
    atomic_fetch_sub(&blocks, memory != NULL);
    free(memory);
}
static void copy_in(void *memory, const void *host, size_t bytes)
{
    memcpy(memory, host, bytes);
}

struct looking {
    const struct generation *g;
    bool found;
};
/* On the device thread: what lies in its memory is this generation's. */
static void look_at_placed(void *state)
{
    struct looking *l = state;
    struct err e = {0};
    const struct trie_view *v = generation_placed(l->g, &e);
    l->found = v != NULL;
    CHECK(!v || v->level[0].nodes == trie_view_of(l->g->ids->trie)->level[0].nodes);
    CHECK(!v || v->level[2].nodes == (uint32_t)l->g->documents);
    CHECK(!v || memcmp(v->level[2].codes, trie_view_of(l->g->ids->trie)->level[2].codes, v->level[2].nodes * 2) == 0);
}
static bool is_placed(struct publisher *p, struct device *d)
{
    struct looking l = {.g = generation_pin(p)};
    device_call(d, look_at_placed, &l);
    generation_unpin((struct generation *)(uintptr_t)l.g);
    return l.found;
}

static void test_placed(void **state)
{
    (void)state;
    struct err e = {0};
    char *folder = kit_folder();
    const struct backend be = {.alloc = count_alloc, .release = count_release, .write = copy_in};
    struct device *d = device_open(&e);
    struct placer *placer = placer_open(&be, d);
    const struct publisher_options o = {.positions = KIT_LEARNED + 1, .trained_suffixes = 1 << 20, .placer = placer};
    struct publisher *p = publisher_open(&o);
    catalog_close(open_store(folder, p));
    for (int64_t i = 1; i <= 1000; i++) {
        publish_one(p, i);
        assert_true(i % 10 || is_placed(p, d));
    }
    assert_int_equal(atomic_load(&most_blocks), 2);  /* the old and the new */
    assert_true(atomic_load(&allocations) < 60);     /* which grow by quarters */
    full = true;
    for (int64_t i = 1001; i <= 1500; i++) /* too much to lie in the blocks there are */
        publish_one(p, i);
    assert_false(is_placed(p, d));
    full = false;
    assert_true(is_placed(p, d)); /* tried again */
    publisher_close(p);
    placer_close(placer);
    device_close(d);
    assert_int_equal(atomic_load(&blocks), 0);
    file_remove_tree(folder, &e);
    free(folder);
}

/* ---- cost ---- */

static void fill_changes(struct catalog_change *changes, int64_t from, int64_t count, uint64_t *seed)
{
    for (int64_t i = 0; i < count; i++)
        changes[i] = (struct catalog_change){.kind = CHANGE_ADDED, .number = from + i + 1,
                                             .codes = {kit_below(seed, 512), kit_below(seed, 512), (uint32_t)(from + i)}};
}

/* Processor time of this thread: the figure does not depend on who else is running. */
static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double commit_ms(struct publisher *p, const struct catalog_change *changes, int64_t from, int64_t count)
{
    const struct catalog_commit commit = {.generation = from + 1, .documents = from + count, .changes = changes, .count = count};
    double began = thread_s();
    publisher_commit(p, &commit);
    return 1e3 * (thread_s() - began);
}

static int perf(void)
{
    static const int64_t sizes[] = {10000, 60000, 1000000};
    enum { BATCH = 100, TRIES = 10 };
    char *folder = kit_folder();
    struct publisher *p = open_publisher();
    catalog_close(open_store(folder, p));
    uint64_t seed = 1;
    struct catalog_change *changes = xmalloc(1000000 * sizeof *changes);
    for (int64_t s = 0, n = 0; s < 3; s++) {
        fill_changes(changes, n, sizes[s] - n, &seed);
        double bulk = commit_ms(p, changes, n, sizes[s] - n), sum = 0;
        n = sizes[s];
        for (int i = 0; i < TRIES; i++, n += BATCH) {
            fill_changes(changes, n, BATCH, &seed);
            sum += commit_ms(p, changes, n, BATCH);
        }
        printf("publish: ids=%lld batch=%d achieved=%.3f ms a commit (the whole difference at once: %.1f ms)\n", (long long)sizes[s], BATCH,
               sum / TRIES, bulk);
    }
    free(changes);
    publisher_close(p);
    struct err e;
    file_remove_tree(folder, &e);
    free(folder);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--perf"))
        return perf();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_commits), cmocka_unit_test(test_pins), cmocka_unit_test(test_placed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
