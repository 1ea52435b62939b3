/* test_tokenizer.c: vocabulary training, encoding and decoding, and the rule that text never becomes a control token; documents as text.
 *
 * The model is trained here, on a text made of a word list by a fixed recipe. Models with declared symbols are made from it by adding pieces to
 * its serialised form (protobuf: field 1 = piece {1: text, 2: score, 3: type}). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include <pthread.h>
#include <unistd.h>

#include "../../core/base/file.h"
#include "../../core/base/utf8.h"
#include "../../core/text/document.h"
#include "../../core/text/tokenizer.h"

enum { VOCAB = 300, ROOM = 4096 };

static char folder[64];
static char *corpus, *model;
static struct tokenizer *tokenizer;

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void write_corpus(const char *path)
{
    static const char *const begin[] = {"wing", "heat", "flow", "shell", "boundary", "pressure", "lamina", "transfer", "veloc", "supersonic"};
    static const char *const end[] = {"s", "ed", "ing", "ity", "al", "", "er", "layer", "ness", "-body"};
    struct str text = {0};
    uint32_t seed = 1;
    for (int line = 0; line < 1500; line++) {
        for (int word = 0; word < 12; word++)
            str_printf(&text, "%s%s%s", word ? " " : "", begin[draw(&seed) % 10], end[draw(&seed) % 10]);
        str_printf(&text, " %u caf\xc3\xa9 <b> (%c)/[x] _%c_\n", draw(&seed) % 1000, 'A' + (int)(draw(&seed) % 26), 'a' + (int)(draw(&seed) % 26));
    }
    assert_int_equal(file_write(path, text.data, text.size, NULL), 0);
    str_free(&text);
}

static int train(const char *input, const char *output, int32_t vocab, bool at_most, struct err *e)
{
    struct tokenizer_training o = {.input = input, .output = output, .vocab = vocab, .at_most = at_most};
    return tokenizer_train(&o, e);
}

static int begin(void **state)
{
    (void)state;
    struct err e = {0};
    strcpy(folder, "/tmp/test-tokenizer-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    corpus = path_join(folder, "corpus, with a comma.txt");
    model = path_join(folder, "m.model");
    write_corpus(corpus);
    if (train(corpus, model, VOCAB, false, &e) < 0 || !(tokenizer = tokenizer_open(model, &e)))
        return fprintf(stderr, "%s\n", e.message), -1;
    return 0;
}

static int finish(void **state)
{
    (void)state;
    tokenizer_close(tokenizer);
    free(corpus);
    free(model);
    return file_remove_tree(folder, NULL);
}

static int32_t encode(const struct tokenizer *t, const char *text, size_t size, int32_t *ids)
{
    bool cut = true;
    int32_t n = tokenizer_encode(t, text, size, ids, ROOM, false, &cut);
    assert_false(cut);
    return n;
}

static void test_training(void **state)
{
    (void)state;
    struct err e = {0};
    size_t a, b;
    char *again = path_join(folder, "again.model");
    assert_int_equal(tokenizer_size(tokenizer), VOCAB);
    assert_int_equal(tokenizer_unknown(tokenizer), 2);
    assert_int_equal(train(corpus, again, VOCAB, false, &e), 0);
    char *first = file_read(model, 0, &a, &e), *second = file_read(again, 0, &b, &e);
    assert_int_equal(a, b);
    assert_memory_equal(first, second, a);
    free(first);
    free(second);
    free(again);
}

static void test_training_errors(void **state)
{
    (void)state;
    struct err e = {0};
    char *out = path_join(folder, "none.model"), *input = path_join(folder, "small.txt");
    assert_int_equal(train(corpus, out, 255, false, &e), -1);
    assert_non_null(strstr(e.message, "255 is not between 256 and 256000"));
    assert_int_equal(train(corpus, out, 256001, false, &e), -1);
    assert_int_equal(train(corpus, out, 50000, false, &e), -1);
    assert_non_null(strstr(e.message, "50000 pieces is too large for this text: at most "));
    int32_t most = atoi(strstr(e.message, "at most ") + 8);
    assert_int_equal(train(corpus, out, most, false, &e), 0);
    unlink(out);
    assert_int_equal(file_write(input, " \n\t\n", 4, NULL), 0);
    assert_int_equal(train(input, out, 300, false, &e), -1);
    assert_non_null(strstr(e.message, "no text"));
    struct str wide = {0};
    for (uint32_t c = 0x4e00; c < 0x5200; c++)
        str_printf(&wide, "%c%c%c\n", 0xe0 | c >> 12, 0x80 | (c >> 6 & 63), 0x80 | (c & 63));
    assert_int_equal(file_write(input, wide.data, wide.size, NULL), 0);
    assert_int_equal(train(input, out, 300, false, &e), -1);
    assert_non_null(strstr(e.message, "too small for the characters of this text: at least "));
    str_free(&wide);
    unlink(input);
    assert_int_equal(train(input, out, 300, false, &e), -1);
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_false(file_exists(out));
    free(out);
    free(input);
}

static void test_at_most(void **state)
{
    (void)state;
    struct err e = {0};
    char *out = path_join(folder, "most.model");
    assert_int_equal(train(corpus, out, 50000, true, &e), 0);
    struct tokenizer *t = tokenizer_open(out, &e);
    assert_non_null(t);
    assert_true(tokenizer_size(t) > 100 && tokenizer_size(t) < 50000);
    tokenizer_close(t);
    free(out);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char text[] = "supersonic flow 12 caf\xc3\xa9 shelling";
    int32_t ids[ROOM];
    int32_t n = encode(tokenizer, text, strlen(text), ids);
    assert_true(n > 3 && n < (int32_t)strlen(text));
    char *back = tokenizer_decode(tokenizer, ids, n);
    assert_string_equal(back, text);
    free(back);
    ids[n] = -1;
    ids[n + 1] = VOCAB;
    ids[n + 2] = TOKEN_EOS;
    ids[n + 3] = INT32_MAX;
    back = tokenizer_decode(tokenizer, ids, n + 4);
    assert_string_equal(back, text);
    free(back);
    assert_int_equal(encode(tokenizer, "", 0, ids), 0);
    assert_int_equal(encode(tokenizer, "  \t ", 4, ids), 0);
}

static void test_room_and_eos(void **state)
{
    (void)state;
    static const char text[] = "heated wings, boundarylayer pressures and laminaing transferness";
    int32_t all[ROOM], some[ROOM];
    bool cut;
    int32_t n = encode(tokenizer, text, strlen(text), all);
    for (int32_t room = 0; room <= n + 2; room++)
        for (int eos = 0; eos < 2; eos++) {
            some[room] = -7;
            int32_t got = tokenizer_encode(tokenizer, text, strlen(text), some, room, eos, &cut);
            int32_t content = room - eos < n ? room - eos : n;
            content = content < 0 ? 0 : content;
            assert_int_equal(got, room == 0 ? 0 : content + eos);
            assert_memory_equal(some, all, (size_t)content * sizeof *some);
            assert_true(!eos || room == 0 || some[got - 1] == TOKEN_EOS);
            assert_int_equal(cut, room > 0 && content < n);
            assert_int_equal(some[room], -7);
        }
}

/* What prefixes give must be what the whole text gives. */
static void test_long_text(void **state)
{
    (void)state;
    size_t size;
    bool cut;
    char *text = file_read(corpus, 0, &size, NULL);
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n')
            text[i] = i % 3 ? ' ' : '\t';
    int32_t *all = xmalloc(size * sizeof *all), part[ROOM];
    int32_t n = tokenizer_encode(tokenizer, text, size, all, (int32_t)size, false, &cut);
    assert_false(cut);
    assert_true(size > 100000 && n > ROOM);
    for (int32_t room = 1; room < ROOM; room = room * 3 + 1) {
        assert_int_equal(tokenizer_encode(tokenizer, text, size, part, room, false, &cut), room);
        assert_true(cut);
        assert_memory_equal(part, all, (size_t)room * sizeof *part);
    }
    for (size_t i = 0; i < size; i++)
        if (text[i] == ' ' || text[i] == '\t')
            text[i] = 'x';
    n = tokenizer_encode(tokenizer, text, size, all, (int32_t)size, false, &cut);
    assert_int_equal(tokenizer_encode(tokenizer, text, size, part, 500, false, &cut), 500);
    assert_memory_equal(part, all, 500 * sizeof *part);
    memset(text, ' ', size);
    assert_int_equal(tokenizer_encode(tokenizer, text, size, part, 10, true, &cut), 1);
    assert_false(cut);
    free(all);
    free(text);
}

static void expect_ordinary(const struct tokenizer *t, const char *text, size_t size)
{
    int32_t ids[ROOM];
    int32_t n = encode(t, text, size, ids);
    assert_true(n > 0);
    for (int32_t i = 0; i < n; i++)
        assert_true(ids[i] == tokenizer_unknown(t) || (ids[i] > 2 && ids[i] < VOCAB));
}

static void test_control_tokens(void **state)
{
    (void)state;
    static const char *const texts[] = {"</s>", "<pad>", "<unk>", "<s>", "<extra_id_0>", "wing</s>", "wing </s> flow", "<pad><pad>", "[CLS]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_ordinary(tokenizer, texts[i], strlen(texts[i]));
    int32_t ids[ROOM];
    int32_t n = encode(tokenizer, "</s>", 4, ids);
    assert_true(n >= 3);
}

/* A model with further pieces at its end. */
static void add_piece(struct str *m, const char *text, char type)
{
    size_t n = strlen(text);
    char head[] = {0x0a, (char)(n + 2 + 5 + 2), 0x0a, (char)n}, tail[] = {0x15, 0, 0, 0, 0, 0x18, type};
    str_append(m, head, sizeof head);
    str_append(m, text, n);
    str_append(m, tail, sizeof tail);
}

static void test_declared_symbols(void **state)
{
    (void)state;
    enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4 };
    struct err e = {0};
    size_t size;
    char *bytes = file_read(model, 0, &size, &e), *path = path_join(folder, "declared.model");
    struct str m = {0};
    str_append(&m, bytes, size);
    add_piece(&m, "<extra_id_0>", USER_DEFINED);
    add_piece(&m, "<extra_id_1>", CONTROL);
    add_piece(&m, "[MASK]", USER_DEFINED);
    add_piece(&m, "@@", USER_DEFINED);
    assert_int_equal(file_write(path, m.data, m.size, NULL), 0);
    struct tokenizer *t = tokenizer_open(path, &e);
    assert_non_null(t);
    assert_int_equal(tokenizer_size(t), VOCAB + 4);
    static const char *const texts[] = {"<extra_id_0>", "a <extra_id_0> b", "<extra_id_1>", "[MASK] wing[MASK]", "</s><extra_id_0></s>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_ordinary(t, texts[i], strlen(texts[i]));
    int32_t ids[ROOM];
    int32_t n = encode(t, "wing@@", 6, ids);
    assert_int_equal(ids[n - 1], VOCAB + 3); /* a symbol that is no tag keeps its meaning */
    tokenizer_close(t);
    str_free(&m);
    free(bytes);
    free(path);
}

static void test_odd_bytes(void **state)
{
    (void)state;
    int32_t ids[ROOM], want[ROOM];
    expect_ordinary(tokenizer, "wing\0flow", 9);
    int32_t n = encode(tokenizer, "wing", 4, want), unknown = tokenizer_unknown(tokenizer);
    assert_int_equal(encode(tokenizer, "wing\xff", 5, ids), n + 1);
    assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
    assert_int_equal(ids[n], unknown);
    assert_int_equal(encode(tokenizer, "wing\xe2\x82", 6, ids), n + 1); /* neighbouring unknowns are one */
    assert_int_equal(ids[n], unknown);
    uint32_t seed = 5;
    char text[200];
    for (int round = 0; round < 3000; round++) {
        size_t size = draw(&seed) % sizeof text;
        for (size_t i = 0; i < size; i++)
            text[i] = (char)(draw(&seed) >> 7);
        n = tokenizer_encode(tokenizer, text, size, ids, ROOM, true, NULL);
        for (int32_t i = 0; i < n - 1; i++)
            assert_true(ids[i] >= 2 && ids[i] < VOCAB);
        assert_int_equal(ids[n - 1], TOKEN_EOS);
    }
}

static void test_bad_models(void **state)
{
    (void)state;
    struct err e = {0};
    size_t size;
    char *bytes = file_read(model, 0, &size, &e), *path = path_join(folder, "bad.model");
    assert_null(tokenizer_open(path, &e));
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_int_equal(file_write(path, "", 0, NULL), 0);
    assert_null(tokenizer_open(path, &e));
    assert_non_null(strstr(e.message, path));
    assert_int_equal(file_write(path, "\x0a\xff\xff\xff\xff\x0fzzz", 9, NULL), 0);
    assert_null(tokenizer_open(path, &e));
    assert_non_null(strstr(e.message, "not a SentencePiece model"));
    assert_int_equal(file_write(path, bytes, size / 3, NULL), 0);
    struct tokenizer *t = tokenizer_open(path, &e); /* cut between two fields it may still be a model */
    tokenizer_close(t);
    free(bytes);
    free(path);
}

static void *encode_many(void *arg)
{
    static const char text[] = "supersonic heating of pressureal shells 123";
    const int32_t *want = arg;
    int32_t ids[ROOM];
    for (int i = 0; i < 2000; i++) {
        int32_t n = tokenizer_encode(tokenizer, text, strlen(text), ids, ROOM, true, NULL);
        if (n != want[0] || memcmp(ids, want + 1, (size_t)n * sizeof *ids) != 0)
            return arg;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static const char text[] = "supersonic heating of pressureal shells 123";
    int32_t want[ROOM + 1];
    pthread_t thread[4];
    want[0] = tokenizer_encode(tokenizer, text, strlen(text), want + 1, ROOM, true, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, encode_many, want), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
}

static void expect_text(const char *title, const char *text, const char *attributes, const char *want)
{
    struct str s = {0};
    str_puts(&s, "before|");
    document_text(&(struct document){"id", title, text, attributes}, &s);
    assert_string_equal(s.data + 7, want);
    str_free(&s);
}

static void test_document_text(void **state)
{
    (void)state;
    expect_text("A title", "and text", NULL, "A title and text");
    expect_text("A title", NULL, "{}", "A title");
    expect_text("", "and text", "{\"author\":\"x\"}", "and text");
    expect_text(NULL, NULL, NULL, "");
    expect_text("OPI Polish", NULL, "{\"brand\":\"OPI\",\"categories\":[[\"Beauty\",\"Nails\"],[\"Other\"]]}", "OPI Polish. Beauty > Nails. OPI");
    expect_text("Ink", NULL, "{\"brand\":\"\",\"description\":\"Black.\"}", "Ink. Black.");
    expect_text(NULL, "More", "{\"categories\":[\"A\",\"B\"],\"description\":\"D\"}", "A > B. D. More");
    expect_text("T", "x", "{\"categories\":[],\"brand\":7}", "T. x");
    expect_text("T", "x", "{\"categories\":[[7,\"\",\"B\"]]}", "T. B. x");
    expect_text("T", "x", "not json", "T x");
}

static void test_document_hash(void **state)
{
    (void)state;
    char a[65], b[65];
    document_hash(&(struct document){"1", "ab", "c", NULL}, a);
    document_hash(&(struct document){"2", "ab", "c", ""}, b);
    assert_string_equal(a, b);
    static const struct document others[] = {
        {"1", "a", "bc", NULL}, {"1", "abc", NULL, NULL}, {"1", "ab", "c", "{}"}, {"1", "ab1:c", "", NULL}, {"1", "", "ab", "c"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        document_hash(&others[i], b);
        assert_string_not_equal(a, b);
    }
}

static void expect_bad_id(const char *id, size_t size, const char *why)
{
    struct err e = {0};
    assert_int_equal(document_check_id(id, size, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.message, why));
}

static void test_document_id(void **state)
{
    (void)state;
    struct err e = {0};
    char id[600];
    memset(id, 'x', sizeof id);
    assert_int_equal(document_check_id("a", 1, &e), 0);
    assert_int_equal(document_check_id("caf\xc3\xa9 / 1", 9, &e), 0);
    assert_int_equal(document_check_id(id, 512, &e), 0);
    expect_bad_id(id, 513, "513 bytes");
    expect_bad_id("", 0, "empty");
    expect_bad_id("a\0b", 3, "U+0000 at byte 2");
    expect_bad_id("a\tb", 3, "U+0009 at byte 2");
    expect_bad_id("ab\x7f", 3, "U+007F at byte 3");
    expect_bad_id("a\xc2\x85", 3, "U+0085 at byte 2");
    expect_bad_id("a\xff", 2, "not UTF-8 at byte 2 (0xff)");
    expect_bad_id("\xed\xa0\x80", 3, "not UTF-8 at byte 1");
}

/* ---- a real model: a folder with spiece.model and tokenization.json, a list of {"name", "text", "ids" with EOS} ---- */

/* cJSON's strings end at a NUL, so U+0000 travels as U+E000 and is put back in the text; returns the text's size. */
static void hide_nul(char *json)
{
    for (char *at = json; (at = strstr(at, "\\u0000")) != NULL;)
        memcpy(at, "\\ue000", 6);
}
static size_t restore_nul(char *text)
{
    size_t out = 0, size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        bool nul = i + 2 < size && !memcmp(text + i, "\xee\x80\x80", 3);
        text[out++] = nul ? '\0' : text[i];
        i += nul ? 2 : 0;
    }
    return out;
}

static void check_reference(struct tokenizer *t, const cJSON *one)
{
    int32_t ids[ROOM];
    char *text = cJSON_GetStringValue(cJSON_GetObjectItem(one, "text"));
    const cJSON *want = cJSON_GetObjectItem(one, "ids"), *id;
    int32_t count = tokenizer_encode(t, text, restore_nul(text), ids, ROOM, true, NULL), at = 0;
    if (count != cJSON_GetArraySize(want))
        fail_msg("%s: %d ids, expected %d", cJSON_GetStringValue(cJSON_GetObjectItem(one, "name")), count, cJSON_GetArraySize(want));
    cJSON_ArrayForEach(id, want)
    {
        if (ids[at] != (int32_t)cJSON_GetNumberValue(id))
            fail_msg("%s: id %d is %d, expected %g", cJSON_GetStringValue(cJSON_GetObjectItem(one, "name")), at, ids[at], cJSON_GetNumberValue(id));
        at++;
    }
}

static void test_reference_texts(void **state)
{
    struct err e = {0};
    char *model_path = path_join(*state, "spiece.model"), *texts = path_join(*state, "tokenization.json");
    size_t size;
    char *json = file_read(texts, 1 << 24, &size, &e);
    struct tokenizer *t = tokenizer_open(model_path, &e);
    assert_non_null(t);
    assert_non_null(json);
    hide_nul(json);
    cJSON *list = cJSON_ParseWithLength(json, size), *one;
    assert_true(cJSON_GetArraySize(list) > 0);
    cJSON_ArrayForEach(one, list)
        check_reference(t, one);
    print_message("%d texts\n", cJSON_GetArraySize(list));
    cJSON_Delete(list);
    free(json);
    tokenizer_close(t);
    free(texts);
    free(model_path);
}

/* Without an argument: all of the above. With the folder of a real model: its texts. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        const struct CMUnitTest reference[] = {cmocka_unit_test_prestate(test_reference_texts, argv[1])};
        return cmocka_run_group_tests(reference, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),         cmocka_unit_test(test_training_errors), cmocka_unit_test(test_at_most),
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_room_and_eos),    cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_control_tokens),   cmocka_unit_test(test_declared_symbols), cmocka_unit_test(test_odd_bytes),
        cmocka_unit_test(test_bad_models),       cmocka_unit_test(test_threads),         cmocka_unit_test(test_document_text),
        cmocka_unit_test(test_document_hash),    cmocka_unit_test(test_document_id),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
