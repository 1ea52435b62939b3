/* test_import.c: Hugging Face folders into bundles and out again, and everything that is wrong with a folder, named.
 *
 * Folders are copies of the reference fixtures (tests/fixtures/a, or $FIXTURES), bent one file at a time. After every refusal the output must
 * not exist: whole or absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "../../core/base/file.h"
#include "../../core/model/import.h"
#include "../../core/model/model_file.h"
#include "../../core/model/safetensors.h"
#include "../../core/text/tokenizer.h"

static char folder[64];
static char *hf, *out, *codes, *ids; /* a copy of beam/ and where the bundle goes */
static char notes[4096];
static const struct backend *be;

static char *fixture(const char *name)
{
    const char *root = getenv("FIXTURES");
    return path_join(root && *root ? root : "tests/fixtures/a", name);
}

static void copy_to(const char *from, const char *to)
{
    struct err e = {0};
    size_t size;
    char *path = fixture(from), *bytes = file_read(path, 0, &size, &e);
    if (!bytes)
        fail_msg("%s", e.message);
    assert_int_equal(file_write(to, bytes, size, &e), 0);
    free(bytes);
    free(path);
}

static void copy_in(const char *from, const char *name)
{
    char *to = path_join(hf, name);
    copy_to(from, to);
    free(to);
}

static void write_in(const char *name, const void *bytes, size_t size)
{
    char *to = path_join(hf, name);
    assert_int_equal(file_write(to, bytes, size, NULL), 0);
    free(to);
}

static int enter(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-import-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    hf = path_join(folder, "hf");
    out = path_join(folder, "bundle");
    codes = path_join(folder, "codes.json");
    ids = path_join(folder, "ids.tsv");
    notes[0] = 0;
    char message[200];
    be = backend_open("cpu", 2, message, sizeof message);
    return be ? file_mkdirs(hf, NULL) : -1;
}

static int leave(void **state)
{
    (void)state;
    free(hf);
    free(out);
    free(codes);
    free(ids);
    return file_remove_tree(folder, NULL);
}

static void copy_beam(void)
{
    copy_in("beam/model/config.json", "config.json");
    copy_in("beam/model/model.safetensors", "model.safetensors");
    copy_in("beam/model/spiece.model", "spiece.model");
    copy_to("beam/codes.json", codes);
    copy_to("beam/ids.tsv", ids);
}

static void copy_plain(const char *which)
{
    char name[64];
    snprintf(name, sizeof name, "%s/config.json", which);
    copy_in(name, "config.json");
    snprintf(name, sizeof name, "%s/model.safetensors", which);
    copy_in(name, "model.safetensors");
}

static void note(void *state, const char *line)
{
    (void)state;
    size_t n = strlen(notes);
    snprintf(notes + n, sizeof notes - n, "%s\n", line);
}

static int import(bool coded, bool replace, struct err *e)
{
    const struct run run = {.note = note};
    struct import_options o = {.folder = hf, .codes = coded ? codes : NULL, .ids = coded ? ids : NULL, .out = out, .replace = replace};
    return import_run(&o, &run, e);
}

static void expect_refused(bool coded, const char *why)
{
    struct err e = {0};
    assert_int_equal(import(coded, false, &e), -1);
    if (!strstr(e.message, why))
        fail_msg("\"%s\" lacks \"%s\"", e.message, why);
    assert_false(file_exists(out));
}

/* Every tensor of the model equals that of the folder's file. */
static void expect_weights(struct t5 *m)
{
    struct err e = {0};
    char *path = path_join(hf, "model.safetensors");
    struct safetensors *s = safetensors_open(path, &e);
    assert_non_null(s);
    assert_int_equal(safetensors_count(s), t5_tensor_count(m));
    for (int32_t i = 0; i < t5_tensor_count(m); i++) {
        const struct t5_tensor *t = t5_tensor_at(m, i);
        const struct safetensor *x = safetensors_find(s, t->name);
        assert_non_null(x);
        float *got = xmalloc(x->bytes);
        be->read(got, t5_master(m) + t->offset, x->bytes);
        assert_memory_equal(got, x->data, x->bytes);
        free(got);
    }
    safetensors_close(s);
    free(path);
}

static void test_codes(void **state)
{
    (void)state;
    struct err e = {0};
    copy_beam();
    if (import(true, false, &e) < 0)
        fail_msg("%s", e.message);
    struct bundle *b = bundle_open(out, &e);
    struct code_layout layout, wanted;
    struct id_table table;
    char *settings, *json = file_read(codes, 0, NULL, &e);
    assert_non_null(b);
    assert_true(model_file_has(b, "search") && !model_file_has(b, "base"));
    struct t5 *m = model_file_read(b, "search", be, false, NULL, 0, &layout, &settings, &e);
    assert_non_null(m);
    assert_int_equal(code_layout_parse(&wanted, json, codes, &e), 0);
    assert_memory_equal(&layout, &wanted, sizeof layout);
    assert_int_equal(t5_config_of(m)->vocab, layout.base);
    assert_int_equal(t5_config_of(m)->codes, code_layout_total(&layout));
    assert_string_equal(settings, "{\"imported\":true}");
    expect_weights(m);
    assert_int_equal(id_table_read(&table, bundle_file(b, "ids.tsv"), &layout, &e), 0);
    assert_true(table.count > 0);
    struct tokenizer *t = tokenizer_open(bundle_file(b, "tokenizer.model"), &e);
    assert_non_null(t);
    assert_null(model_file_read(b, "base", be, false, NULL, 0, NULL, NULL, &e));
    assert_non_null(strstr(e.message, "no part \"base\""));
    tokenizer_close(t);
    id_table_free(&table);
    free(settings);
    free(json);
    t5_free(m);
    bundle_close(b);
}

static void test_base(void **state)
{
    (void)state;
    static const char *const kinds[] = {"t5_v10", "t5_v11"};
    for (int i = 0; i < 2; i++) {
        struct err e = {0};
        copy_plain(kinds[i]);
        if (import(false, i > 0, &e) < 0)
            fail_msg("%s", e.message);
        assert_non_null(strstr(notes, "cannot be served"));
        struct bundle *b = bundle_open(out, &e);
        assert_non_null(b);
        assert_null(bundle_file(b, "tokenizer.model"));
        struct t5 *m = model_file_read(b, "base", be, false, NULL, 0, NULL, NULL, &e);
        assert_non_null(m);
        assert_int_equal(t5_config_of(m)->untied, i);
        expect_weights(m);
        t5_free(m);
        struct code_layout layout;
        assert_int_equal(model_file_layout(b, "base", &layout, &e), -1);
        assert_non_null(strstr(e.message, "layout is missing"));
        bundle_close(b);
    }
}

static void test_replace(void **state)
{
    (void)state;
    struct err e = {0};
    copy_beam();
    assert_int_equal(import(true, false, &e), 0);
    assert_int_equal(import(true, false, &e), -1);
    assert_int_equal(e.code, ERR_CANT_CREATE);
    copy_plain("t5_v10");
    assert_int_equal(import(true, true, &e), -1); /* refused: the bundle that was there is still whole */
    struct bundle *b = bundle_open(out, &e);
    assert_non_null(b);
    assert_true(model_file_has(b, "search"));
    bundle_close(b);
    char *tokenizer = path_join(hf, "spiece.model");
    unlink(tokenizer);
    free(tokenizer);
    assert_int_equal(import(false, true, &e), 0);
    b = bundle_open(out, &e);
    assert_true(model_file_has(b, "base") && !model_file_has(b, "search"));
    bundle_close(b);
}

/* A part with tensors of the caller's own, read with some of them and with one that is not there. */
static void test_extras(void **state)
{
    (void)state;
    struct err e = {0};
    const struct t5_config c = {.vocab = 9, .codes = 4, .d_model = 6, .d_kv = 2, .d_ff = 7, .heads = 3, .encoder_layers = 1,
                                .decoder_layers = 1, .buckets = 8, .max_distance = 16, .eps = 1e-6f, .scale_output = true};
    const struct t5_extra extra[] = {{"codebook.1", T5_MATRIX, 4, 6}, {"recon.norm", T5_NORM, 1, 6}, {"codebook.2", T5_MATRIX, 4, 6}};
    const struct code_layout layout = {.base = 9, .positions = 1, .codes = {4}};
    struct t5 *m = t5_init(be, &(struct t5_options){.config = c, .extra = extra, .extra_count = 2}, &e);
    assert_non_null(m);
    t5_randomise(m, 3);
    struct bundle *b = bundle_create(out, false, &e);
    assert_int_equal(bundle_begin(b, &e), 0);
    assert_int_equal(model_file_write(b, "indexer", m, &layout, "{\"a\":[1,2]}", &e), 0);
    assert_int_equal(bundle_commit(b, &e), 0);
    for (int32_t count = 0; count <= 3; count++) {
        struct t5 *r = model_file_read(b, "indexer", be, count == 1, count ? extra : NULL, count, NULL, NULL, &e);
        assert_int_equal(r != NULL, count < 3);
        if (count == 1) {
            float was[24], is[24];
            be->read(was, t5_master(m) + t5_tensor_find(m, "codebook.1")->offset, sizeof was);
            be->read(is, t5_master(r) + t5_tensor_find(r, "codebook.1")->offset, sizeof is);
            assert_memory_equal(was, is, sizeof was);
        }
        t5_free(r);
    }
    assert_non_null(strstr(e.message, "codebook.2 is missing"));
    struct t5_config got;
    assert_int_equal(model_file_config(b, "indexer", &got, &e), 0);
    assert_int_equal(got.vocab, 9);
    assert_int_equal(got.codes, 4);
    char *settings = model_file_settings(b, "indexer", &e);
    assert_string_equal(settings, "{\"a\":[1,2]}");
    free(settings);
    t5_free(m);
    bundle_close(b);
}

static void test_missing_things(void **state)
{
    (void)state;
    struct err e = {0};
    copy_beam();
    struct import_options o = {.folder = hf, .codes = codes, .out = out};
    assert_int_equal(import_run(&o, NULL, &e), -1);
    assert_int_equal(e.code, ERR_USAGE);
    o = (struct import_options){.folder = folder, .out = out};
    assert_int_equal(import_run(&o, NULL, &e), -1);
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_non_null(strstr(e.message, "config.json"));
    unlink(ids);
    expect_refused(true, "ids.tsv");
    unlink(codes);
    expect_refused(true, "codes.json");
}

static void test_damaged_weights(void **state)
{
    (void)state;
    size_t size;
    copy_beam();
    char *path = path_join(hf, "model.safetensors"), *bytes = file_read(path, 0, &size, NULL);
    static const double cuts[] = {0, 0.00002, 0.005, 0.5, 0.99999};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        write_in("model.safetensors", bytes, (size_t)(cuts[i] * (double)size));
        expect_refused(true, "model.safetensors");
    }
    char header[8];
    memcpy(header, bytes, 8);
    memset(bytes, 0xff, 8); /* a header larger than the file */
    write_in("model.safetensors", bytes, size);
    expect_refused(true, "model.safetensors");
    memcpy(bytes, header, 8);
    char *offsets = memmem(bytes, size, "\"data_offsets\":[", 16);
    assert_non_null(offsets);
    offsets[16] = '9'; /* a tensor outside, or over another one */
    write_in("model.safetensors", bytes, size);
    expect_refused(true, "model.safetensors");
    free(bytes);
    free(path);
}

/* Writes the folder's config with one key's number replaced. */
static void bend_config(const char *key, int value)
{
    char *path = path_join(hf, "config.json"), *text = file_read(path, 0, NULL, NULL), quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    char *at = strstr(text, quoted);
    assert_non_null(at);
    char *end = strpbrk(at, ",\n}");
    char *bent = xprintf("%.*s%s%d%s", (int)(at - text), text, quoted, value, end);
    write_in("config.json", bent, strlen(bent));
    free(bent);
    free(text);
    free(path);
}

static void test_config_disagrees(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int value;
        const char *why;
    } cases[] = {
        {"d_ff", 63, "DenseReluDense"},          {"d_model", 33, "expected ["},      {"num_heads", 3, "SelfAttention.q.weight"},
        {"num_layers", 7, "missing encoder"},    {"num_decoder_layers", 1, "decoder.block.1"}, {"d_model", 0, "d_model"},
        {"num_heads", -4, "num_heads"},          {"vocab_size", 2000000000, "vocab is 2000000000"}, {"d_kv", 1 << 30, "d_kv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_plain("t5_v10");
        bend_config(cases[i].key, cases[i].value);
        struct err e = {0};
        assert_int_equal(import(false, false, &e), -1);
        if (!strstr(e.message, cases[i].why) && !strstr(e.message, cases[i].key))
            fail_msg("\"%s\" lacks \"%s\"", e.message, cases[i].why);
        assert_false(file_exists(out));
    }
    write_in("config.json", "{\"d_model\":", 11);
    expect_refused(false, "config.json");
}

static void test_rows_disagree(void **state)
{
    (void)state;
    struct err e = {0};
    struct code_layout l;
    copy_beam();
    char *json = file_read(codes, 0, NULL, &e), want[64];
    assert_int_equal(code_layout_parse(&l, json, codes, &e), 0);
    int32_t rows = l.base + code_layout_total(&l);
    for (int delta = -1; delta < 2; delta += 2) {
        struct code_layout bent = l;
        bent.codes[l.positions - 1] += delta;
        char *text = code_layout_print(&bent);
        assert_int_equal(file_write(codes, text, strlen(text), &e), 0);
        assert_int_equal(file_write(ids, "a\t0-0-0\n", 8, &e), 0);
        snprintf(want, sizeof want, "= %d vocabulary rows, but the model in ", rows + delta);
        expect_refused(true, want);
        snprintf(want, sizeof want, " has %d", rows);
        expect_refused(true, want);
        free(text);
    }
    /* base and the first position shifted against each other: the sum fits, but the tokenizer has pieces among the codes */
    struct code_layout shifted = l;
    shifted.base -= 1;
    shifted.codes[0] += 1;
    char *text = code_layout_print(&shifted);
    assert_int_equal(file_write(codes, text, strlen(text), &e), 0);
    expect_refused(true, "pieces, but the model has");
    free(text);
    free(json);
}

static void test_bad_ids(void **state)
{
    (void)state;
    copy_beam();
    char *text = file_read(ids, 0, NULL, NULL), *second = strchr(text, '\n') + 1;
    char *doubled = xprintf("%s%.*s", text, (int)(second - text), text);
    assert_int_equal(file_write(ids, doubled, strlen(doubled), NULL), 0);
    expect_refused(true, "is there twice, first on line 1");
    assert_int_equal(file_write(ids, "a\t1-1-1\nb\t0-99999-0\n", 20, NULL), 0);
    expect_refused(true, "ids.tsv: line 2: code 99999 at position 2 is out of range");
    assert_int_equal(file_write(ids, "a\t1-1-1\nb\t0-0-0\textra\n", 22, NULL), 0);
    expect_refused(true, "ids.tsv: line 2: more than 2 columns");
    free(doubled);
    free(text);
}

static void test_bad_tokenizer(void **state)
{
    (void)state;
    copy_beam();
    write_in("spiece.model", "not a model", 11);
    expect_refused(true, "spiece.model");
    copy_in("beam/model/config.json", "spiece.model");
    expect_refused(true, "spiece.model");
}

static void test_stop(void **state)
{
    (void)state;
    struct err e = {0};
    volatile sig_atomic_t stop = 1;
    const struct run run = {.stop = &stop};
    copy_beam();
    struct import_options o = {.folder = hf, .codes = codes, .ids = ids, .out = out};
    assert_int_equal(import_run(&o, &run, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_false(file_exists(out));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_codes),           IN_FOLDER(test_base),           IN_FOLDER(test_replace),          IN_FOLDER(test_extras),
        IN_FOLDER(test_missing_things),  IN_FOLDER(test_damaged_weights), IN_FOLDER(test_config_disagrees), IN_FOLDER(test_rows_disagree),
        IN_FOLDER(test_bad_ids),         IN_FOLDER(test_bad_tokenizer),  IN_FOLDER(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
