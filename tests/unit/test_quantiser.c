/* test_quantiser.c: indexers over embeddings: what each learns on vectors in clear groups, their codes before and after the bundle's file, and
 * an engine that serves such a bundle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../core/learn/learn_quantiser.h"
#include "engine_kit.h"

enum { N = 300, WIDTH = 12, GROUPS = 5, LEVELS = 2, CODES = 8 };

static float x[N * WIDTH];
static char folder[64];

static const struct backend *cpu(void)
{
    char message[256];
    const struct backend *be = backend_open("cpu", 2, message, sizeof message);
    assert_non_null(be);
    return be;
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < WIDTH; j++)
            x[i * WIDTH + j] = 4 * mix_uniform(7, (uint64_t)(i % GROUPS * WIDTH + j)) + 0.2f * mix_uniform(8, (uint64_t)(i * WIDTH + j));
    snprintf(folder, sizeof folder, "/tmp/semindex-quantiser-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

static struct quantiser *learned(enum quantiser_kind kind, struct err *e)
{
    static int (*const make[])(const struct quantiser_input *, struct quantiser *, struct err *) = {learn_rqvae, learn_residual,
                                                                                                    learn_hierarchical};
    const struct quantiser_input in = {.be = cpu(), .x = x, .n = N, .width = WIDTH, .batch = 64, .epochs = 30, .lr = 1e-3, .restarts = 3,
                                       .iterations = 20, .leaf = 4, .seed = 3};
    struct quantiser *q = xcalloc(1, sizeof *q);
    *q = (struct quantiser){.kind = kind, .width = WIDTH, .positions = LEVELS, .codes = CODES, .own = true, .scale = 1};
    assert_int_equal(make[kind](&in, q, e), 0);
    assert_int_equal(quantiser_open(q, cpu(), e), 0);
    return q;
}

static void all_codes(struct quantiser *q, uint32_t *codes)
{
    for (int from = 0; from < N; from += 100)
        quantiser_encode(q, x + from * WIDTH, 100, codes + from * LEVELS, NULL);
}

static struct bundle *written(const struct quantiser *q, struct err *e)
{
    char *path = path_join(folder, "bundle");
    struct bundle *b = bundle_create(path, true, e);
    assert_non_null(b);
    assert_int_equal(bundle_begin(b, e), 0);
    assert_int_equal(quantiser_write(q, b, e), 0);
    assert_int_equal(bundle_commit(b, e), 0);
    free(path);
    return b;
}

static void test_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct err e = {0};
        uint32_t codes[N * LEVELS], again[N * LEVELS];
        double left[LEVELS + 1] = {0};
        struct quantiser *q = learned((enum quantiser_kind)kind, &e);
        all_codes(q, codes);
        for (int i = 0; i < N; i++)
            for (int k = i + 1; k < N && k < i + 20; k++)
                if (i % GROUPS != k % GROUPS && codes[i * LEVELS] == codes[k * LEVELS])
                    fail_msg("%s: documents %d and %d of different groups share code %u", quantiser_name(q->kind), i, k, codes[i * LEVELS]);
        quantiser_encode(q, x, 100, again, left);
        assert_memory_equal(codes, again, sizeof *codes * 100 * LEVELS);
        assert_true(left[1] < left[0] && left[2] < left[1]);
        struct bundle *b = written(q, &e);
        struct quantiser *r = quantiser_read(b, &e);
        assert_non_null(r);
        assert_int_equal(quantiser_open(r, cpu(), &e), 0);
        all_codes(r, again);
        assert_memory_equal(codes, again, sizeof codes);
        for (int i = 0; i < N; i++)
            quantiser_encode(r, x + i * WIDTH, 1, again + i * LEVELS, NULL);
        assert_memory_equal(codes, again, sizeof codes);
        quantiser_free(r);
        quantiser_free(q);
        bundle_close(b);
    }
}

static double away(const float *a, const float *b)
{
    double sum = 0;
    for (int j = 0; j < WIDTH; j++)
        sum += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return sum;
}

/* The node below `node` that is nearest to a row, and which child it is; a leaf stays. */
static int step_down(const struct quantiser *q, int node, const float *row, uint32_t *code)
{
    int best = 0;
    for (int c = 1; c < q->children[node]; c++)
        if (away(row, q->centroid + (q->first[node] + c) * WIDTH) < away(row, q->centroid + (q->first[node] + best) * WIDTH))
            best = c;
    *code = (uint32_t)best;
    return q->children[node] ? q->first[node] + best : node;
}

/* Root and its first child have more children than are searched one by one; what is found is the nearest, of rows together as of each alone. */
static void test_wide_tree(void **state)
{
    (void)state;
    enum { ROOT = 700, SECOND = 600, NODES = 1 + ROOT + SECOND + 5 };
    struct err e = {0};
    uint32_t codes[N * LEVELS], again[N * LEVELS];
    double left[LEVELS + 1] = {0}, want[LEVELS + 1] = {0};
    struct quantiser *q = xcalloc(1, sizeof *q);
    *q = (struct quantiser){.kind = QUANTISER_HIERARCHICAL, .width = WIDTH, .positions = LEVELS, .codes = ROOT, .own = true, .scale = 1, .nodes = NODES};
    q->first = xcalloc(NODES, sizeof *q->first);
    q->children = xcalloc(NODES, sizeof *q->children);
    q->centroid = xcalloc(NODES * WIDTH, sizeof *q->centroid);
    q->first[0] = 1, q->children[0] = ROOT;
    q->first[1] = 1 + ROOT, q->children[1] = SECOND;
    q->first[2] = 1 + ROOT + SECOND, q->children[2] = 5;
    for (int i = WIDTH; i < NODES * WIDTH; i++) /* the first two children of the root lie where many rows are */
        q->centroid[i] = i < 3 * WIDTH ? x[i] : 5 * mix_uniform(9, (uint64_t)i);
    assert_int_equal(quantiser_open(q, cpu(), &e), 0);
    for (int from = 0; from < N; from += 100)
        quantiser_encode(q, x + from * WIDTH, 100, codes + from * LEVELS, left);
    int seen[3] = {0};
    for (int i = 0; i < N; i++) {
        uint32_t code[LEVELS];
        int node = 0;
        for (int s = 0; s < LEVELS; s++) {
            want[s] += node ? away(x + i * WIDTH, q->centroid + node * WIDTH) : away(x + i * WIDTH, q->centroid);
            node = step_down(q, node, x + i * WIDTH, &code[s]);
        }
        want[LEVELS] += away(x + i * WIDTH, q->centroid + node * WIDTH);
        assert_memory_equal(code, codes + i * LEVELS, sizeof code);
        seen[code[0] < 2 ? code[0] : 2]++;
        quantiser_encode(q, x + i * WIDTH, 1, again + i * LEVELS, NULL);
    }
    assert_memory_equal(codes, again, sizeof codes);
    assert_memory_equal(left, want, sizeof left);
    assert_true(seen[0] > 10 && seen[1] > 10 && seen[2] > 10);
    quantiser_free(q);
}

/* An MLP whose layers are no multiples of a group gives, bit for bit, what sums in the order of the inputs give. */
static void test_mlp(void **state)
{
    (void)state;
    enum { IN = WIDTH, MIDDLE = 11, OUT = 5, K = 40 };
    struct err e = {0};
    uint32_t codes[N], want[N];
    struct quantiser *q = xcalloc(1, sizeof *q);
    *q = (struct quantiser){.kind = QUANTISER_RQVAE, .width = IN, .positions = 1, .codes = K, .own = true, .scale = 0.7f, .layers = 2,
                            .layer_width = {IN, MIDDLE, OUT}};
    double left[2] = {0}, before = 0;
    for (int i = 0; i < 2; i++) {
        int cells = q->layer_width[i] * q->layer_width[i + 1];
        q->weight[i] = xmalloc((size_t)cells * sizeof(float));
        q->bias[i] = xmalloc((size_t)q->layer_width[i + 1] * sizeof(float));
        for (int j = 0; j < cells; j++)
            q->weight[i][j] = mix_uniform(31, (uint64_t)(i * 1000 + j)) - 0.5f;
        for (int j = 0; j < q->layer_width[i + 1]; j++)
            q->bias[i][j] = mix_uniform(32, (uint64_t)(i * 1000 + j)) - 0.5f;
    }
    q->codebook[0] = xmalloc(K * OUT * sizeof(float));
    for (int j = 0; j < K * OUT; j++)
        q->codebook[0][j] = 2 * mix_uniform(33, (uint64_t)j) - 1;
    assert_int_equal(quantiser_open(q, cpu(), &e), 0);
    for (int i = 0; i < N; i++) {
        float value[2][WIDTH], nearest = 1e30f;
        for (int j = 0; j < IN; j++)
            value[0][j] = x[i * IN + j] * 0.7f;
        for (int l = 0; l < 2; l++)
            for (int j = 0; j < q->layer_width[l + 1]; j++) {
                double sum = (double)q->bias[l][j];
                for (int k = 0; k < q->layer_width[l]; k++)
                    sum += (double)q->weight[l][j * q->layer_width[l] + k] * (double)value[l % 2][k];
                value[(l + 1) % 2][j] = l == 0 && sum < 0 ? 0 : (float)sum;
            }
        for (int j = 0; j < OUT; j++)
            before += (double)value[0][j] * (double)value[0][j];
        for (uint32_t c = 0; c < K; c++) {
            float d = 0;
            for (int j = 0; j < OUT; j++)
                d += (value[0][j] - q->codebook[0][c * OUT + (uint32_t)j]) * (value[0][j] - q->codebook[0][c * OUT + (uint32_t)j]);
            if (d < nearest)
                nearest = d, want[i] = c;
        }
    }
    for (int from = 0; from < N; from += 100)
        quantiser_encode(q, x + from * WIDTH, 100, codes + from, left);
    assert_memory_equal(codes, want, sizeof codes);
    assert_true(left[0] == before && left[1] < left[0]);
    quantiser_free(q);
}

/* The description with one thing changed, under a manifest that fits it. */
static void refused(struct bundle *b, const char *from, const char *to, const char *says)
{
    struct err e = {0};
    char *json = file_read(bundle_file(b, "quantiser.json"), 0, NULL, &e), *at = strstr(json, from);
    assert_non_null(at);
    struct str s = {0};
    str_append(&s, json, (size_t)(at - json));
    str_puts(&s, to);
    str_puts(&s, at + strlen(from));
    assert_int_equal(bundle_begin(b, &e), 0);
    assert_int_equal(bundle_put(b, "quantiser.json", s.data, s.size, &e), 0);
    assert_int_equal(bundle_commit(b, &e), 0);
    assert_null(quantiser_read(b, &e));
    if (!strstr(e.message, says))
        fail_msg("\"%s\" does not say \"%s\"", e.message, says);
    assert_int_equal(bundle_begin(b, &e), 0);
    assert_int_equal(bundle_put(b, "quantiser.json", json, strlen(json), &e), 0);
    assert_int_equal(bundle_commit(b, &e), 0);
    str_free(&s);
    free(json);
}

static void test_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct quantiser *q = learned(QUANTISER_HIERARCHICAL, &e);
    q->first[0] = 0;
    struct bundle *b = written(q, &e);
    assert_null(quantiser_read(b, &e));
    assert_non_null(strstr(e.message, "tree: node 0"));
    q->first[0] = 1;
    q->centroid[3] = 1.0f / 0.0f;
    bundle_close(b);
    b = written(q, &e);
    assert_null(quantiser_read(b, &e));
    assert_non_null(strstr(e.message, "not finite"));
    refused(b, "hierarchical", "hierarchic", "kind is");
    refused(b, "\"own\"", "\"mine\"", "embeddings is");
    refused(b, "\"width\":12", "\"width\":13", "another shape");
    refused(b, "\"width\":12", "\"width\":-1", "width is -1");
    refused(b, "\"positions\":2", "\"positions\":16", "positions is 16");
    refused(b, "\"scale\":1", "\"scale\":0", "scale must be");
    refused(b, "\"layers\":[]", "\"layers\":[12,4]", "layers");
    bundle_close(b);
    quantiser_free(q);
}

/* ---- the engine ---- */

static void make_bundle(struct kit *k, struct quantiser *q, const uint32_t *codes)
{
    struct err e = {0};
    struct str ids = {0}, documents = {0};
    for (int i = 0; i < N; i++) {
        str_printf(&ids, "doc%d\t%u-%u-%d\n", i, codes[i * LEVELS], codes[i * LEVELS + 1], i);
        str_printf(&documents, "{\"id\":\"doc%d\",\"title\":\"word%d\"}\n", i, i);
    }
    struct bundle *b = bundle_create(k->bundle, false, &e);
    KIT_NEED(b && bundle_begin(b, &e) == 0 && bundle_put(b, "ids.tsv", ids.data, ids.size, &e) == 0 &&
                 bundle_put(b, "documents.jsonl", documents.data, documents.size, &e) == 0 && quantiser_write(q, b, &e) == 0 &&
                 bundle_commit(b, &e) == 0, &e);
    bundle_close(b);
    str_free(&ids);
    str_free(&documents);
}

static int put(struct kit *k, const float *embedding, int32_t size, struct engine_put_batch *b)
{
    struct err e = {0};
    struct engine_put *p = arena_alloc(&k->arena, sizeof *p);
    *p = (struct engine_put){.document = {.id = "new", .title = "a new word"}, .embedding = embedding, .embedding_size = size};
    *b = (struct engine_put_batch){.puts = p, .count = 1, .arena = &k->arena};
    return engine_index(k->engine, b, &e);
}

static void check_put(struct kit *k, int document, enum engine_status status, const uint32_t *codes)
{
    struct engine_put_batch b;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%u-%u-", codes[document * LEVELS], codes[document * LEVELS + 1]);
    assert_int_equal(put(k, x + document * WIDTH, WIDTH, &b), 0);
    assert_int_equal(b.puts[0].status, status);
    assert_int_equal(strncmp(b.puts[0].semantic_id, prefix, strlen(prefix)), 0);
}

static void check_refused(struct kit *k, const float *embedding, int32_t size, const char *says)
{
    struct engine_put_batch b;
    assert_int_equal(put(k, embedding, size, &b), -1);
    assert_int_equal(b.error_count, 1);
    assert_string_equal(b.errors[0].field, "embedding");
    assert_false(b.conflict);
    if (!strstr(b.errors[0].detail, says))
        fail_msg("\"%s\" does not say \"%s\"", b.errors[0].detail, says);
}

static void test_engine(void **state)
{
    (void)state;
    struct err e = {0};
    uint32_t codes[N * LEVELS];
    struct quantiser *q = learned(QUANTISER_RQVAE, &e);
    struct kit k = {.folder = folder, .bundle = path_join(folder, "served"), .catalog = path_join(folder, "catalog.db")};
    struct engine_info info;
    arena_init(&k.arena, 0);
    all_codes(q, codes);
    make_bundle(&k, q, codes);
    kit_start(&k);
    engine_info(k.engine, &info);
    assert_true(info.has_indexer && info.indexer_d_model == WIDTH && info.documents == N);
    check_refused(&k, NULL, 0, "an array of 12 numbers");
    check_refused(&k, x, WIDTH - 1, "has 11 numbers; this model needs 12");
    check_put(&k, 0, STATUS_CREATED, codes);
    check_put(&k, 0, STATUS_UNCHANGED, codes);
    check_put(&k, 1, STATUS_UPDATED, codes);
    struct engine_put_batch b;
    assert_int_equal(put(&k, NULL, 0, &b), 0);
    assert_int_equal(b.puts[0].status, STATUS_UNCHANGED);
    const struct engine_past past = {.text = "a text"};
    struct engine_query query = {.task = TASK_RECOMMEND, .history = &past, .history_count = 1, .limit = 3, .arena = &k.arena};
    assert_int_equal(engine_prepare(k.engine, &query, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    engine_close(k.engine);
    arena_free(&k.arena);
    free(k.bundle);
    free(k.catalog);
    quantiser_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_wide_tree), cmocka_unit_test(test_mlp), cmocka_unit_test(test_refused), cmocka_unit_test(test_engine)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
