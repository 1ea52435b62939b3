/* test_train.c: checkpoints, and task training on a corpus of twenty documents.
 *
 * A bundle is made by hand (random T5, IDs by counting), so nothing here depends on how IDs are learned. The runs are tiny but whole: the
 * same train_run that the command line calls, with the bundle's bytes as the result to compare. */
#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/learn/checkpoint.h"
#include "../../core/learn/pseudo.h"
#include "../../core/model/model_file.h"
#include "../../core/runs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { DOCUMENTS = 20, WIDTH = 32, VOCAB = 300 };

static char folder[64];

static char *in_folder(const char *name)
{
    return path_join(folder, name);
}

static void write_text(const char *name, const struct str *text)
{
    char *path = in_folder(name);
    assert_int_equal(file_write(path, text->data, text->size, NULL), 0);
    free(path);
}

/* ---- a corpus, a tokenizer, a bundle ---- */

static const char *const words[] = {"red",   "green", "blue",  "stone", "river", "cloud", "iron",  "paper", "glass", "north",
                                    "south", "apple", "bread", "chair", "table", "horse", "eagle", "piano", "drum",  "torch"};

static void write_corpus(void)
{
    struct str items = {0}, queries = {0}, qrels = {0}, sequences = {0}, sentences = {0};
    str_puts(&qrels, "query-id\tcorpus-id\tscore\n");
    for (int i = 0; i < DOCUMENTS; i++) {
        const char *a = words[i], *b = words[(i * 7 + 3) % DOCUMENTS], *c = words[(i * 3 + 11) % DOCUMENTS];
        str_printf(&items, "{\"id\":\"d%d\",\"title\":\"%s %s\",\"text\":\"the %s %s of %s. a %s with %s.\"}\n", i, a, b, a, b, c, a, c);
        str_printf(&queries, "{\"_id\":\"q%d\",\"text\":\"%s %s %s\"}\n", i, a, b, c);
        str_printf(&qrels, "q%d\td%d\t1\n", i, i);
        str_printf(&sentences, "the %s %s of %s. a %s with %s.\n", a, b, c, a, c);
    }
    for (int u = 0; u < 60; u++) {
        str_printf(&sequences, "u%d", u);
        for (int k = 0; k < 4 + u % 7; k++)
            str_printf(&sequences, " d%d", (u + k) % DOCUMENTS);
        str_puts(&sequences, "\n");
    }
    write_text("items.jsonl", &items);
    write_text("queries.jsonl", &queries);
    write_text("qrels.tsv", &qrels);
    write_text("sequences.txt", &sequences);
    write_text("sentences.txt", &sentences);
    str_free(&items);
    str_free(&queries);
    str_free(&qrels);
    str_free(&sequences);
    str_free(&sentences);
}

static void train_tokenizer(void)
{
    struct err e = {0};
    char *input = in_folder("sentences.txt"), *output = in_folder("tokenizer.model");
    struct tokenizer_training o = {.input = input, .output = output, .vocab = VOCAB, .at_most = true};
    if (tokenizer_train(&o, &e) != 0)
        fail_msg("%s", e.message);
    free(input);
    free(output);
}

static struct t5 *random_indexer(int32_t vocab)
{
    char message[200];
    struct err e = {0};
    struct t5_options o = {.config = {.vocab = vocab, .codes = 10, .d_model = WIDTH, .d_kv = 8, .d_ff = 64, .heads = 4, .encoder_layers = 1,
                                      .decoder_layers = 1, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .scale_output = true}};
    const struct backend *be = backend_open("cpu", 2, message, sizeof message);
    assert_non_null(be);
    struct t5 *m = t5_init(be, &o, &e);
    assert_non_null(m);
    t5_randomise(m, 3);
    return m;
}

static void put_ids(struct bundle *b)
{
    struct str ids = {0};
    struct err e;
    for (int i = 0; i < DOCUMENTS; i++)
        str_printf(&ids, "d%d\t%d-%d-%d\n", i, i % 5, i / 8, i % 8 / 5);
    assert_int_equal(bundle_put(b, "ids.tsv", ids.data, ids.size, &e), 0);
    str_free(&ids);
}

static void make_bundle(const char *name)
{
    struct err e = {0};
    size_t size;
    char *path = in_folder(name), *model = in_folder("tokenizer.model"), *bytes = file_read(model, 0, &size, &e);
    struct tokenizer *t = tokenizer_open(model, &e);
    struct code_layout layout = {.base = tokenizer_size(t), .positions = 2, .codes = {5, 5}};
    struct t5 *m = random_indexer(layout.base);
    struct bundle *b = bundle_create(path, true, &e);
    assert_non_null(b);
    assert_int_equal(bundle_begin(b, &e), 0);
    assert_int_equal(bundle_put(b, "tokenizer.model", bytes, size, &e), 0);
    put_ids(b);
    if (model_file_write(b, "indexer", m, &layout, "{}", &e) != 0 || bundle_commit(b, &e) != 0)
        fail_msg("%s", e.message);
    bundle_close(b);
    t5_free(m);
    tokenizer_close(t);
    free(path);
    free(model);
    free(bytes);
}

/* ---- runs ---- */

struct watch { /* listens to a run: losses, and a wish to stop after some steps */
    double first, last;
    int64_t stop_after;
    volatile sig_atomic_t stop;
    double minutes;
    int64_t total; /* heard */
    int32_t micro_batch;
    double dropout; /* 0: 0.05 */
    const char *written;
    double written_share;
    struct rate_search search;
    struct optimiser adam;
    char notes[8192];
};

static void listen(void *state, const struct progress *p)
{
    struct watch *w = state;
    if (isnan(p->loss))
        return; /* the words' index for the beam's weight */
    if (p->done == 1)
        w->first = p->loss;
    w->last = p->loss;
    w->total = p->total;
    if (w->stop_after > 0 && p->done >= w->stop_after)
        w->stop = 1;
}

static void take_note(void *state, const char *line)
{
    struct watch *w = state;
    size_t n = strlen(w->notes);
    snprintf(w->notes + n, sizeof w->notes - n, "%s\n", line);
}

static int train(const char *bundle, enum train_task task, int64_t steps, struct watch *w, struct err *e)
{
    char *path = in_folder(bundle);
    struct train_options o = {.task = task, .model = path, .data = folder, .start = task == TRAIN_RECOMMEND ? START_RANDOM : START_INDEXER, .shape = {.d_model = WIDTH, .d_kv = 8, .encoder_layers = 1, .decoder_layers = 1},
                              .batch = 32, .steps = steps, .minutes = w->minutes, .lr = 5e-3, .validations = 3,
                              .patience = 100, .seed = 7, .threads = 2, .checkpoint_s = 1000, .dropout = w->dropout < 0 ? -1 : 0.05,
                              .micro_batch = w->micro_batch, .search = w->search, .adam = w->adam, .written = w->written, .written_share = w->written_share};
    struct run run = {.report = listen, .note = take_note, .state = w, .stop = &w->stop};
    int rc = train_run(&o, &run, e);
    free(path);
    return rc;
}

static void digest_of(const char *bundle, const char *file, char hex[65])
{
    struct err e = {0};
    char *path = in_folder(bundle);
    struct bundle *b = bundle_open(path, &e);
    if (b == NULL)
        fail_msg("%s", e.message);
    assert_non_null(bundle_sha256(b, file));
    memcpy(hex, bundle_sha256(b, file), 65);
    bundle_close(b);
    free(path);
}

static double figure_of(const char *json, const char *ranking, const char *metric)
{
    char *key = xprintf("\"ranking\":\"%s\"", ranking), *name = xprintf("\"%s\":", metric);
    const char *row = strstr(json, key), *value = row ? strstr(row, name) : NULL;
    assert_non_null(value);
    double x = atof(value + strlen(name));
    free(key);
    free(name);
    return x;
}

static void test_search_overfits(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch w = {0};
    struct str out = {0};
    make_bundle("search");
    if (train("search", TRAIN_SEARCH, 900, &w, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(w.last < 0.5 * w.first);
    char *path = in_folder("search");
    struct evaluate_options o = {.model = path, .data = folder, .task = "search", .json = true, .threads = 2};
    if (evaluate_run(&o, NULL, &out, &e) != 0)
        fail_msg("%s", e.message);
    assert_float_equal(figure_of(out.data, "generative", "Recall@1"), 1.0, 1e-9);
    assert_true(figure_of(out.data, "bm25", "Recall@1") > 0.5);
    str_free(&out);
    free(path);
}

static void test_recommend_learns_and_is_measured(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch w = {0};
    struct str out = {0};
    make_bundle("recommend");
    if (train("recommend", TRAIN_RECOMMEND, 300, &w, &e) != 0)
        fail_msg("%s", e.message);
    char *path = in_folder("recommend");
    struct evaluate_options o = {.model = path, .data = folder, .task = "recommend", .json = true, .threads = 2, .with_history = true};
    if (evaluate_run(&o, NULL, &out, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(figure_of(out.data, "generative", "Recall@1") > 0.9); /* the next item is always d(n + 1) */
    assert_true(figure_of(out.data, "neighbours", "Recall@5") > 0.9);
    assert_true(figure_of(out.data, "hybrid", "Recall@1") > 0.9);
    str_free(&out);
    char hex[65];
    digest_of("recommend", "popular.tsv", hex);
    digest_of("recommend", "neighbours.bin", hex);
    free(path);
}

/* Stopped twice, then finished: the same bytes as a run that was never stopped. */
static void resumes_alike(enum train_task task, const char *file)
{
    struct err e = {0};
    struct watch unbroken = {0}, first = {.stop_after = 7}, second = {.stop_after = 19}, third = {0};
    char a[65], b[65];
    make_bundle("unbroken");
    make_bundle("broken");
    if (train("unbroken", task, 40, &unbroken, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(train("broken", task, 40, &first, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    assert_int_equal(train("broken", task, 40, &second, &e), -1);
    assert_int_equal(e.code, ERR_INTERRUPTED);
    if (train("broken", task, 40, &third, &e) != 0)
        fail_msg("%s", e.message);
    digest_of("unbroken", file, a);
    digest_of("broken", file, b);
    assert_string_equal(a, b);
}

static void test_search_resumes(void **state)
{
    (void)state;
    resumes_alike(TRAIN_SEARCH, "search.safetensors");
}

static void test_queries_resumes(void **state)
{
    (void)state;
    resumes_alike(TRAIN_QUERIES, "queries.safetensors");
}

/* Text targets of different lengths: the loss falls, and however a batch is cut the gradient is the same. Without training queries cut ones serve. */
static void test_queries_learn(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch whole = {.dropout = -1}, ones = {.dropout = -1, .micro_batch = 1}, *all[] = {&whole, &ones};
    for (int i = 0; i < 2; i++) {
        make_bundle("texts");
        if (train("texts", TRAIN_QUERIES, 60, all[i], &e) != 0)
            fail_msg("%s", e.message);
        assert_float_equal(all[i]->first, whole.first, 1e-6 * whole.first);
    }
    assert_true(whole.last < 0.7 * whole.first);
    assert_float_equal(ones.last, whole.last, 0.05 * whole.last); /* sixty steps of Adam later */
    assert_non_null(strstr(whole.notes, "cut queries (no training queries given)"));
    assert_non_null(strstr(whole.notes, "validation exp(-loss)"));
}

/* Shares as asked, of a file whose documents are not all here; bad lines and files without a match are refused. */
static void test_written_queries(void **state)
{
    (void)state;
    struct err e = {0};
    struct str lines = {0};
    for (int i = 0; i < DOCUMENTS; i++)
        for (int k = 0; k < 5; k++)
            str_printf(&lines, "{\"_id\":\"d%d\",\"sample\":%d,\"query\":\"%s %s\"}\n", i, k, words[i], words[(i + k) % DOCUMENTS]);
    str_puts(&lines, "{\"id\":\"stranger\",\"text\":\"red\"}\n");
    write_text("written.jsonl", &lines);
    char *file = in_folder("written.jsonl");
    struct watch none = {.written = file, .written_share = -1}, quarter = {.written = file, .written_share = 0.25},
                 only = {.written = file, .written_share = 1};
    struct watch *all[] = {&none, &quarter, &only};
    static const char *const shares[] = {"written 0.000, cut 1.000", "written 0.250, cut 0.750", "written 1.000, cut 0.000"};
    for (int i = 0; i < 3; i++) {
        make_bundle("written");
        if (train("written", TRAIN_SEARCH, 3, all[i], &e) != 0)
            fail_msg("%s", e.message);
        assert_non_null(strstr(all[i]->notes, shares[i]));
        assert_non_null(strstr(all[i]->notes, "1 queries name a document that is not in the corpus"));
    }
    char a[65], b[65];
    digest_of("written", "search.run.json", a);
    str_puts(&lines, "{\"_id\":\"d1\"}\n");
    write_text("written.jsonl", &lines);
    struct watch bad = {.written = file};
    assert_int_equal(train("written", TRAIN_SEARCH, 3, &bad, &e), -1);
    assert_non_null(strstr(e.message, "written.jsonl: line 102: "));
    digest_of("written", "search.run.json", b);
    assert_string_equal(a, b);
    free(file);
    str_free(&lines);
}

static void test_recommend_resumes(void **state)
{
    (void)state;
    resumes_alike(TRAIN_RECOMMEND, "recommend.safetensors");
}

/* However a batch is cut, its gradient is the same up to the order of sums: so are the losses of the steps that follow. */
static void test_passes_add_up_to_the_batch(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch whole = {.dropout = -1}, ones = {.dropout = -1, .micro_batch = 1}, sevens = {.dropout = -1, .micro_batch = 7};
    struct watch *all[] = {&whole, &ones, &sevens};
    for (int i = 0; i < 3; i++) {
        make_bundle("cut");
        if (train("cut", TRAIN_SEARCH, 6, all[i], &e) != 0)
            fail_msg("%s", e.message);
        assert_float_equal(all[i]->first, whole.first, 1e-6 * whole.first); /* the same weights: some roundings of 2^-24 */
        assert_float_equal(all[i]->last, whole.last, 1e-4 * whole.last);    /* six steps of Adam later */
    }
    assert_true(whole.last < whole.first);
}

/* Every one of the optimiser's settings reaches it: the defaults, said aloud, are what stands without them; any other value makes other weights. */
static void test_every_setting_of_the_optimiser_counts(void **state)
{
    (void)state;
    static const struct optimiser settings[] = {{0},
                                                {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-6, .weight_decay = -1, .clip = 1, .warmup_share = 0.1},
                                                {.beta1 = -1},
                                                {.beta2 = 0.9},
                                                {.eps = 1e-3},
                                                {.weight_decay = 0.5},
                                                {.clip = 1e-3},
                                                {.warmup_share = 0.9}};
    struct err e = {0};
    char plain[65], hex[65];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct watch w = {.adam = settings[i]};
        make_bundle("adam");
        if (train("adam", TRAIN_RECOMMEND, 6, &w, &e) != 0)
            fail_msg("%s", e.message);
        digest_of("adam", "recommend.safetensors", i ? hex : plain);
        if (i > 0 && (strcmp(plain, hex) == 0) != (i == 1))
            fail_msg("setting %zu: the weights are %s those of the defaults", i, i == 1 ? "not" : "still");
    }
}

static struct watch searching(int64_t stop_after, int64_t steps)
{
    return (struct watch){.stop_after = stop_after, .search = {.lr = {1e-4, 5e-3, 1e-3}, .count = 3, .steps = steps}};
}

/* Three rates; stopped in the first, the second and the last trial it ends with the bytes of an unbroken search, whose winner is a run of its own. */
static void search_rates(int64_t steps)
{
    struct err e = {0};
    struct watch unbroken = searching(0, steps), alone = {0};
    char a[65], b[65];
    make_bundle("rates");
    if (train("rates", TRAIN_RECOMMEND, 40, &unbroken, &e) != 0)
        fail_msg("%s", e.message);
    assert_non_null(strstr(unbroken.notes, "recommend: rate 0.0001: validation nDCG@10"));
    assert_non_null(strstr(unbroken.notes, "recommend: rate 0.001: validation nDCG@10"));
    const char *kept = strstr(unbroken.notes, "(kept)");
    assert_non_null(kept);
    while (kept[-1] != '\n')
        kept--;
    assert_memory_equal(kept, "recommend: rate 0.005: ", 23);
    make_bundle("rates-broken");
    static const int64_t stops[] = {3, 9, 17, 2, 30, 35, 1, 38};
    int rc = -1, stopped = 0;
    for (int i = 0; i < 9 && rc != 0; i++) {
        struct watch w = searching(i < 8 ? stops[i] : 0, steps);
        rc = train("rates-broken", TRAIN_RECOMMEND, 40, &w, &e);
        stopped += rc != 0 && e.code == ERR_INTERRUPTED;
    }
    assert_int_equal(rc, 0);
    assert_true(stopped >= 3);
    digest_of("rates", "recommend.safetensors", a);
    digest_of("rates-broken", "recommend.safetensors", b);
    assert_string_equal(a, b);
    digest_of("rates", "recommend.run.json", a);
    make_bundle("alone"); /* train() gives 5e-3 */
    if (train("alone", TRAIN_RECOMMEND, 40, &alone, &e) != 0)
        fail_msg("%s", e.message);
    digest_of("rates", "recommend.safetensors", a);
    digest_of("alone", "recommend.safetensors", b);
    assert_string_equal(a, b);
}

static void test_search_of_rates(void **state)
{
    (void)state;
    search_rates(0);
}

static void test_search_with_short_trials(void **state)
{
    (void)state;
    search_rates(10);
}

/* A rate that leaves no number in the model loses, and is said to have diverged. */
static void test_a_rate_diverges(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch w = {.search = {.lr = {1e38, 5e-3}, .count = 2}};
    make_bundle("far");
    if (train("far", TRAIN_RECOMMEND, 12, &w, &e) != 0)
        fail_msg("%s", e.message);
    assert_non_null(strstr(w.notes, "recommend: rate 1e+38: diverged"));
    assert_non_null(strstr(w.notes, "recommend: rate 0.005: validation nDCG@10"));
    struct watch all = {.search = {.lr = {1e38, 3e38}, .count = 2}};
    make_bundle("far");
    assert_int_equal(train("far", TRAIN_RECOMMEND, 12, &all, &e), -1);
    assert_string_equal(e.message, "recommend: every rate of the search diverged; give lower ones");
}

/* The steps that are timed to find out how many fit are taken back: as many steps by number give the same bytes. */
static void test_minutes_leave_no_trace(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch timed = {.minutes = 0.02}, counted = {0};
    char a[65], b[65];
    make_bundle("timed");
    make_bundle("counted");
    if (train("timed", TRAIN_RECOMMEND, 0, &timed, &e) != 0)
        fail_msg("%s", e.message);
    assert_true(timed.total >= 1);
    if (train("counted", TRAIN_RECOMMEND, timed.total, &counted, &e) != 0)
        fail_msg("%s", e.message);
    digest_of("timed", "recommend.safetensors", a);
    digest_of("counted", "recommend.safetensors", b);
    assert_string_equal(a, b);
}

static void test_other_settings_are_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct watch w = {.stop_after = 3}, more = {0};
    make_bundle("settings");
    assert_int_equal(train("settings", TRAIN_RECOMMEND, 40, &w, &e), -1);
    assert_int_equal(train("settings", TRAIN_RECOMMEND, 41, &more, &e), -1);
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_non_null(strstr(e.message, "steps=40"));
    assert_non_null(strstr(e.message, "steps=41"));
}

/* ---- checkpoints ---- */

static void cut_in_half(const char *path)
{
    size_t size;
    char *bytes = file_read(path, 0, &size, NULL);
    assert_int_equal(file_write(path, bytes, size / 2, NULL), 0);
    free(bytes);
}

static void test_checkpoint_cut_in_half(void **state)
{
    (void)state;
    struct err e = {0};
    int64_t value = 41, found = 0;
    char *path = in_folder("cut.checkpoint");
    struct checkpoint_section out = {"value", &value, sizeof value}, in = {"value", &found, sizeof found};
    assert_int_equal(checkpoint_load(path, "a=1\n", &in, 1, NULL, &e), 0);
    assert_int_equal(checkpoint_save(path, "a=1\n", &out, 1, &e), 0);
    cut_in_half(path);
    assert_int_equal(checkpoint_load(path, "a=1\n", &in, 1, NULL, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_non_null(strstr(e.message, path));
    assert_int_equal(found, 0);
    free(path);
}

static void test_checkpoint_falls_back(void **state)
{
    (void)state;
    struct err e = {0};
    int64_t value = 1;
    char *path = in_folder("back.checkpoint");
    struct checkpoint_section out = {"value", &value, sizeof value}, in = {"value", NULL, 0};
    assert_int_equal(checkpoint_save(path, "a=1\n", &out, 1, &e), 0);
    value = 2;
    assert_int_equal(checkpoint_save(path, "a=1\n", &out, 1, &e), 0);
    cut_in_half(path);
    assert_int_equal(checkpoint_load(path, "a=1\n", &in, 1, NULL, &e), 1);
    assert_int_equal(in.size, sizeof value);
    assert_int_equal(*(int64_t *)in.data, 1);
    free(in.data);
    checkpoint_remove(path);
    in = (struct checkpoint_section){"value", NULL, 0};
    assert_int_equal(checkpoint_load(path, "a=1\n", &in, 1, NULL, &e), 0);
    free(path);
}

/* ---- pseudo-queries ---- */

static void test_pseudo_queries(void **state)
{
    (void)state;
    struct pseudo_query a, b;
    int32_t tokens[64];
    char *model = in_folder("tokenizer.model");
    struct tokenizer *t = tokenizer_open(model, NULL);
    struct pseudo *p = pseudo_begin(t, 2);
    pseudo_add(p, "red stone", "the red stone of paper. a red with paper.");
    pseudo_add(p, "", "");
    pseudo_end(p);
    for (uint64_t seed = 0; seed < 200; seed++) {
        pseudo_draw(p, 0, CUT_ANY, seed, &a);
        pseudo_draw(p, 0, CUT_ANY, seed, &b);
        assert_true(a.count > 0 && a.count <= PSEUDO_WORDS);
        assert_memory_equal(a.words, b.words, (size_t)a.count * sizeof *a.words);
        int32_t n = pseudo_tokens(p, &a, tokens, 8);
        assert_true(n >= 1 && n <= 8 && tokens[n - 1] == TOKEN_EOS);
    }
    pseudo_draw(p, 1, CUT_ANY, 5, &a);
    assert_int_equal(a.count, 0);
    pseudo_parse(p, "Red stones, unheard-of?", &a);
    assert_int_equal(a.count, 3);
    pseudo_free(p);
    tokenizer_close(t);
    free(model);
}

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/semindex-train-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_corpus();
    train_tokenizer();
    return 0;
}

static int end(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint_cut_in_half),
        cmocka_unit_test(test_checkpoint_falls_back),
        cmocka_unit_test(test_pseudo_queries),
        cmocka_unit_test(test_search_overfits),
        cmocka_unit_test(test_recommend_learns_and_is_measured),
        cmocka_unit_test(test_search_resumes),
        cmocka_unit_test(test_recommend_resumes), cmocka_unit_test(test_queries_resumes), cmocka_unit_test(test_queries_learn),
                                       cmocka_unit_test(test_written_queries),
        cmocka_unit_test(test_passes_add_up_to_the_batch),
        cmocka_unit_test(test_every_setting_of_the_optimiser_counts),
        cmocka_unit_test(test_search_of_rates),
        cmocka_unit_test(test_search_with_short_trials),
        cmocka_unit_test(test_a_rate_diverges),
        cmocka_unit_test(test_minutes_leave_no_trace),
        cmocka_unit_test(test_other_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
