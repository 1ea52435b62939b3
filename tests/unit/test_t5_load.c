/* test_t5_load.c: checkpoints into models and back: round trips, what real checkpoints carry and lack, and every misfit named.
 *
 * Checkpoints are made here with the project's own writer: a model is saved, then files are rewritten with tensors left out, added, bent,
 * in other dtypes or spread over several files. Every test works in its own temporary folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/model/safetensors.h"
#include "../../core/model/t5_load.h"

static const struct backend *be;
static char folder[64];

static struct t5_config tiny(bool untied)
{
    return (struct t5_config){.vocab = 9, .codes = 4, .d_model = 6, .d_kv = 2, .d_ff = 7, .heads = 3, .encoder_layers = 1,
                              .decoder_layers = 2, .buckets = 8, .max_distance = 16, .eps = 1e-6f, .dropout = 0.1f, .gated = untied,
                              .untied = untied, .scale_output = !untied};
}

static struct t5 *model(const struct t5_config *c, const struct t5_extra *extra, int32_t extras, uint64_t seed)
{
    struct err e = {0};
    const struct t5_options o = {.config = *c, .extra = extra, .extra_count = extras};
    struct t5 *m = t5_init(be, &o, &e);
    assert_non_null(m);
    t5_randomise(m, seed);
    return m;
}

static char *in_folder(const char *name)
{
    return path_join(folder, name);
}

static void write_text(const char *name, const char *text)
{
    struct err e = {0};
    char *path = in_folder(name);
    assert_int_equal(file_write(path, text, strlen(text), &e), 0);
    free(path);
}

static void save(const struct t5 *m)
{
    struct err e = {0};
    char *config = t5_config_print(t5_config_of(m)), *path = in_folder("model.safetensors");
    write_text("config.json", config);
    assert_int_equal(t5_save(m, path, &e), 0);
    free(config);
    free(path);
}

/* ---- rewriting a saved file ---- */

struct change {
    const char *leave_out;               /* tensor */
    const char *add, *add_as_copy_of;    /* a new tensor with the values of another */
    float add_shift;                     /* added to the first element of the copy */
    const char *flat;                    /* tensor written with shape [elements] */
    enum safetensors_dtype dtype;        /* of all tensors: ST_F32 or ST_BF16 */
    int32_t part, parts;                 /* of several files: tensor i goes to part i % parts */
};

struct held {
    struct safetensors_entry entry[128];
    float *values[128];
    int32_t count;
};

static void hold(struct held *h, const struct safetensors *s, const struct safetensor *t, const char *name, const struct change *c)
{
    struct safetensors_entry *x = &h->entry[h->count];
    *x = (struct safetensors_entry){.name = name, .dtype = c->dtype, .dims = t->dims};
    memcpy(x->shape, t->shape, sizeof x->shape);
    if (c->flat && strcmp(c->flat, name) == 0) {
        x->dims = 1;
        x->shape[0] = t->elements;
    }
    h->values[h->count] = xmalloc((size_t)t->elements * sizeof(float));
    assert_int_equal(safetensors_floats(s, t, h->values[h->count], NULL), 0);
    if (c->add && strcmp(c->add, name) == 0)
        h->values[h->count][0] += c->add_shift;
    h->count++;
}

static void put(struct safetensors_out *o, const struct safetensors_entry *x, const float *values)
{
    int64_t n = x->shape[0] * (x->dims == 2 ? x->shape[1] : 1);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        uint16_t high = (uint16_t)(bits >> 16);
        assert_int_equal(x->dtype == ST_BF16 ? safetensors_put(o, &high, 2, NULL) : safetensors_put(o, &bits, 4, NULL), 0);
    }
}

static void rewrite(const char *to, const struct change *c)
{
    struct err e = {0};
    struct held h = {.count = 0};
    char *from = in_folder("model.safetensors"), *path = in_folder(to);
    struct safetensors *s = safetensors_open(from, &e);
    assert_non_null(s);
    for (int32_t i = 0; i < safetensors_count(s); i++) {
        const struct safetensor *t = safetensors_at(s, i);
        if ((c->leave_out && strcmp(t->name, c->leave_out) == 0) || (c->parts && i % c->parts != c->part))
            continue;
        hold(&h, s, t, t->name, c);
    }
    if (c->add)
        hold(&h, s, safetensors_find(s, c->add_as_copy_of), c->add, c);
    struct safetensors_out *o = safetensors_create(path, h.entry, h.count, &e);
    assert_non_null(o);
    for (int32_t i = 0; i < h.count; i++) {
        put(o, &h.entry[i], h.values[i]);
        free(h.values[i]);
    }
    assert_int_equal(safetensors_commit(o, &e), 0);
    safetensors_close(s);
    free(from);
    free(path);
}

/* ---- loading ---- */

static struct t5 *load(const char *weights, int32_t codes, struct err *e)
{
    char *config = in_folder("config.json"), *path = in_folder(weights);
    struct t5_source *s = t5_source_open(config, path, codes, e);
    struct t5 *m = s ? t5_load(be, s, NULL, e) : NULL;
    t5_source_close(s);
    free(config);
    free(path);
    return m;
}

static void assert_same(struct t5 *a, struct t5 *b)
{
    assert_int_equal(t5_size(a), t5_size(b));
    assert_memory_equal(t5_master(a), t5_master(b), (size_t)t5_size(a) * sizeof(float));
}

static void assert_refused(const char *weights, const char *const *says)
{
    struct err e = {0};
    assert_null(load(weights, -1, &e));
    for (; *says; says++)
        if (!strstr(e.message, *says))
            fail_msg("message \"%s\" lacks \"%s\"", e.message, *says);
}

static void test_round_trip(void **state)
{
    (void)state;
    const struct t5_extra extra[] = {{"codebook.1", T5_EMBEDDING, 5, 6}, {"recon.norm", T5_NORM, 1, 6}};
    for (int untied = 0; untied < 2; untied++) {
        struct err e = {0};
        struct t5_config c = tiny(untied);
        struct t5 *a = model(&c, extra, 2, 3);
        save(a);
        struct t5_source *s = t5_source_folder(folder, -1, &e);
        assert_non_null(s);
        char *x = t5_config_print(&c), *y = t5_config_print(t5_source_config(s));
        assert_string_equal(x, y);
        const struct t5_load_options o = {.train = true, .extra = extra, .extra_count = 2};
        struct t5 *b = t5_load(be, s, &o, &e);
        assert_non_null(b);
        assert_same(a, b);
        assert_non_null(t5_grad(b));
        assert_null(t5_load(be, s, NULL, &e));
        assert_non_null(strstr(e.message, "unexpected codebook.1 [5, 6]"));
        t5_source_close(s);
        t5_free(a);
        t5_free(b);
        free(x);
        free(y);
    }
}

static void test_misfits_are_named(void **state)
{
    (void)state;
    struct t5_config c = tiny(false);
    struct t5 *m = model(&c, NULL, 0, 3);
    save(m);
    t5_free(m);
    const char *q = "encoder.block.0.layer.0.SelfAttention.q.weight";
    rewrite("a.safetensors", &(struct change){.leave_out = q});
    assert_refused("a.safetensors", (const char *[]){"a.safetensors", "missing", q, "[6, 6]", NULL});
    rewrite("a.safetensors", &(struct change){.add = "what.is.this", .add_as_copy_of = q});
    assert_refused("a.safetensors", (const char *[]){"unexpected what.is.this", "[6, 6]", NULL});
    rewrite("a.safetensors", &(struct change){.flat = q});
    assert_refused("a.safetensors", (const char *[]){q, "[36]", "expected [6, 6]", NULL});
    rewrite("a.safetensors", &(struct change){.leave_out = q, .add = "x", .add_as_copy_of = q, .flat = "shared.weight"});
    assert_refused("a.safetensors", (const char *[]){"3 tensor(s)", "missing", "unexpected x", "[78]", "expected [13, 6]", NULL});
    write_text("config.json", "{\"d_model\":6,\"d_kv\":2,\"d_ff\":7,\"num_heads\":3,\"num_layers\":9,\"vocab_size\":13}");
    assert_refused("model.safetensors", (const char *[]){"and others", NULL});
    rewrite("a.safetensors", &(struct change){.add = "lm_head.weight", .add_as_copy_of = "shared.weight", .add_shift = __builtin_inff()});
    c = tiny(false);
    char *config = t5_config_print(&c);
    write_text("config.json", config);
    free(config);
    assert_refused("a.safetensors", (const char *[]){"lm_head.weight", "not a finite number", NULL});
}

static void test_copies_are_ignored(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c = tiny(false);
    struct t5 *m = model(&c, NULL, 0, 3);
    save(m);
    static const char *const copies[] = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"};
    for (int i = 0; i < 3; i++) {
        rewrite("a.safetensors", &(struct change){.add = copies[i], .add_as_copy_of = "shared.weight"});
        struct t5 *b = load("a.safetensors", -1, &e);
        assert_non_null(b);
        assert_false(t5_config_of(b)->untied);
        assert_same(m, b);
        t5_free(b);
    }
    rewrite("a.safetensors", &(struct change){.add = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
                                              .add_as_copy_of = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"});
    struct t5 *b = load("a.safetensors", -1, &e);
    assert_non_null(b);
    t5_free(b);
    rewrite("a.safetensors", &(struct change){.leave_out = "shared.weight", .add = "encoder.embed_tokens.weight",
                                              .add_as_copy_of = "shared.weight"});
    assert_non_null(b = load("a.safetensors", -1, &e));
    assert_same(m, b);
    t5_free(b);
    rewrite("a.safetensors", &(struct change){.add = "lm_head.weight", .add_as_copy_of = "shared.weight", .add_shift = 1});
    assert_non_null(b = load("a.safetensors", -1, &e));
    assert_true(t5_config_of(b)->untied);
    assert_true(t5_head(b)->master[0] == t5_master(b)[0] + 1);
    t5_free(b);
    t5_free(m);
}

static void test_several_files(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c = tiny(true);
    struct t5 *m = model(&c, NULL, 0, 3);
    save(m);
    rewrite("p0.safetensors", &(struct change){.parts = 2, .part = 0});
    rewrite("p1.safetensors", &(struct change){.parts = 2, .part = 1});
    char *path = in_folder("model.safetensors");
    struct safetensors *s = safetensors_open(path, &e);
    struct str index = {0};
    str_puts(&index, "{\"metadata\":{},\"weight_map\":{");
    for (int32_t i = 0; i < safetensors_count(s); i++)
        str_printf(&index, "%s\"%s\":\"p%d.safetensors\"", i ? "," : "", safetensors_at(s, i)->name, i % 2);
    str_puts(&index, "}}");
    write_text("model.safetensors.index.json", index.data);
    str_free(&index);
    safetensors_close(s);
    assert_int_equal(unlink(path), 0);
    free(path);
    struct t5_source *source = t5_source_folder(folder, -1, &e);
    assert_non_null(source);
    struct t5 *b = t5_load(be, source, NULL, &e);
    assert_non_null(b);
    assert_same(m, b);
    t5_source_close(source);
    t5_free(b);
    t5_free(m);
    static const char *const bad[][2] = {
        {"{\"weight_map\":{\"shared.weight\":\"../p0.safetensors\"}}", "not a file name"},
        {"{\"weight_map\":{\"nothing.weight\":\"p0.safetensors\"}}", "nothing.weight"},
        {"{\"weight_map\":{\"shared.weight\":\"p7.safetensors\"}}", "p7.safetensors"},
        {"{\"weight_map\":{\"shared.weight\":7}}", "not a file name"},
        {"{\"weight_map\":{}}", "empty"},
        {"{\"weight_map\":7}", "weight_map"},
        {"{", "weight_map"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("model.safetensors.index.json", bad[i][0]);
        assert_refused("model.safetensors.index.json", (const char *[]){bad[i][1], NULL});
    }
}

static void test_brain_floats(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c = tiny(false);
    struct t5 *m = model(&c, NULL, 0, 3);
    save(m);
    rewrite("b.safetensors", &(struct change){.dtype = ST_BF16});
    struct t5 *b = load("b.safetensors", -1, &e);
    assert_non_null(b);
    for (int64_t i = 0; i < t5_size(m); i++) {
        uint32_t x, y;
        memcpy(&x, t5_master(m) + i, 4);
        memcpy(&y, t5_master(b) + i, 4);
        assert_int_equal(x & 0xffff0000, y);
    }
    t5_free(b);
    t5_free(m);
}

static void test_start_keeps_what_the_source_lacks(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c = tiny(false), bigger = c;
    struct t5 *m = model(&c, NULL, 0, 3);
    save(m);
    struct t5_source *s = t5_source_folder(folder, -1, &e);
    const struct t5_extra extra = {"recon.norm", T5_NORM, 1, 6};
    bigger.codes = 20;
    struct t5 *b = model(&bigger, &extra, 1, 8), *was = model(&bigger, &extra, 1, 8);
    assert_int_equal(t5_source_fill(s, b, T5_FILL_EXACT, &e), -1);
    assert_int_equal(t5_source_fill(s, b, T5_FILL_START, &e), 0);
    assert_memory_equal(t5_master(b), t5_master(m), 13 * 6 * sizeof(float));
    assert_memory_equal(t5_master(b) + 13 * 6, t5_master(was) + 13 * 6, 16 * 6 * sizeof(float));
    assert_true(t5_master(b)[t5_tensor_find(b, "recon.norm")->offset] == 1);
    bigger.vocab = 10;
    bigger.codes = 0;
    struct t5 *other = model(&bigger, NULL, 0, 8);
    assert_int_equal(t5_source_fill(s, other, T5_FILL_START, &e), -1);
    assert_non_null(strstr(e.message, "expected [10, 6]"));
    t5_source_close(s);
    t5_free(m);
    t5_free(b);
    t5_free(was);
    t5_free(other);
}

/* ---- configs ---- */

static int parse(const char *json, struct t5_config *c, int32_t codes, struct err *e)
{
    return t5_config_parse(c, json, strlen(json), "config.json", codes, e);
}

static void test_config_defaults(void **state)
{
    (void)state;
    struct err e = {0};
    struct t5_config c;
    assert_int_equal(parse("{\"num_layers\":3}", &c, -1, &e), 0);
    assert_true(c.vocab == 32128 && c.d_model == 512 && c.d_kv == 64 && c.d_ff == 2048 && c.heads == 8);
    assert_true(c.encoder_layers == 3 && c.decoder_layers == 3 && c.buckets == 32 && c.max_distance == 128);
    assert_true(!c.gated && c.scale_output && c.eps == 1e-6f && c.dropout == 0.1f && c.codes == 0);
    assert_int_equal(parse("{\"num_decoder_layers\":null,\"num_layers\":2,\"tie_word_embeddings\":false}", &c, 100, &e), 0);
    assert_true(c.decoder_layers == 2 && !c.scale_output && c.codes == 100 && c.vocab == 32028);
    assert_int_equal(parse("{\"tie_word_embeddings\":true,\"scale_decoder_outputs\":false}", &c, -1, &e), 0);
    assert_false(c.scale_output);
    assert_int_equal(parse("{\"model_type\":\"mt5\"}", &c, -1, &e), 0);
    assert_true(c.gated && !c.scale_output);
}

static void test_config_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"", "JSON"},
        {"[]", "object"},
        {"{} {}", "JSON"},
        {"{\"d_model\":0}", "d_model is 0"},
        {"{\"d_model\":-1}", "d_model"},
        {"{\"d_model\":1e99}", "d_model"},
        {"{\"d_model\":1.5}", "d_model"},
        {"{\"d_model\":\"x\"}", "d_model"},
        {"{\"num_layers\":1000000}", "encoder_layers is 1000000"},
        {"{\"feed_forward_proj\":\"gated-silu\"}", "gated-silu"},
        {"{\"feed_forward_proj\":7}", "feed_forward_proj"},
        {"{\"model_type\":\"bert\"}", "bert"},
        {"{\"tie_word_embeddings\":1}", "tie_word_embeddings"},
        {"{\"layer_norm_epsilon\":0}", "epsilon"},
        {"{\"dropout_rate\":1}", "dropout"},
        {"{\"vocab_size\":10,\"semindex_codes\":10}", "no text vocabulary"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        struct t5_config c;
        if (parse(bad[i][0], &c, -1, &e) != -1 || !strstr(e.message, bad[i][1]) || !strstr(e.message, "config.json"))
            fail_msg("%s: message \"%s\", expected \"%s\"", bad[i][0], e.message, bad[i][1]);
    }
}

static void test_folder_without_weights(void **state)
{
    (void)state;
    struct err e = {0};
    assert_null(t5_source_folder(folder, -1, &e));
    assert_int_equal(e.code, ERR_NO_INPUT);
    write_text("config.json", "{}");
    assert_null(t5_source_folder(folder, -1, &e));
    assert_non_null(strstr(e.message, "neither model.safetensors"));
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/test_t5_load_XXXXXX", P_tmpdir);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

static int open_backend(void **state)
{
    char message[256];
    (void)state;
    be = backend_open("cpu", 2, message, sizeof message);
    return be ? 0 : -1;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),   TEST(test_misfits_are_named), TEST(test_copies_are_ignored),
        TEST(test_several_files), TEST(test_brain_floats),     TEST(test_start_keeps_what_the_source_lacks),
        TEST(test_config_defaults), TEST(test_config_refused), TEST(test_folder_without_weights),
    };
    return cmocka_run_group_tests(tests, open_backend, NULL);
}
