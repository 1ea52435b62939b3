/* bench_model.c: our side of `make bench-peers`: searches and training steps timed from the inside, driven line by line by peers.py.
 *
 *   bench_model THREADS [cpu]    reads commands from standard input, answers each with one line ("ok ..."), ends at end of input
 *                                cpu: times are processor time of this process, for comparisons with one thread on a busy machine
 *
 * A process of its own, because the peers bring thread pools that must not share ours; between two commands it sleeps. Time is taken around
 * exactly what a worker of the daemon does for a batch (t5_encode, beam_run) and a training run for a step (seq2seq_train, t5_adamw).
 * The floor's speed is the best of a large product through the same backend. A wrong command or file ends it with status 1 and the reason.
 *
 * Files of tokens: one row a line, numbers with blanks between; in batches for training `tokens | codes`, an empty line ends a batch. */
#include "../../core/base/file.h"
#include "../../core/learn/seq2seq.h"
#include "../../core/model/model_file.h"
#include "../../core/model/t5_load.h"
#include "../../core/retrieve/beam.h"
#include "product.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTH_MOST = 1024, BATCHES_MOST = 16, ROW_MOST = 65536 };

struct bench {
    const struct backend *be;
    struct t5 *model;
    struct code_layout layout;
    /* search */
    struct trie *trie;
    const struct trie_view *placed;
    struct t5_work *work;
    struct beam *beam;
    int32_t width;
    /* training */
    struct seq2seq *pass;
    struct code_batch batch[BATCHES_MOST];
    int32_t batches;
    int64_t step;
    struct err e;
};

static void require(const struct bench *b, bool fine)
{
    if (fine)
        return;
    fprintf(stderr, "bench_model: %s\n", b->e.message[0] ? b->e.message : "wrong command");
    exit(1);
}

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- files of tokens ---- */

/* Numbers up to the end of the line or a bar; *rest is what follows. */
static int32_t read_numbers(const char *line, int32_t *to, int32_t most, const char **rest)
{
    int32_t n = 0;
    for (char *end;; line = end) {
        long value = strtol(line, &end, 10);
        if (end == line || n == most)
            break;
        to[n++] = (int32_t)value;
    }
    *rest = line + strspn(line, " |");
    return n;
}

static void add_row(struct bench *b, struct code_batch *batch, const char *line)
{
    int32_t at = batch->offsets[batch->count], positions = b->layout.positions, codes[POSITIONS_MAX];
    int32_t n = read_numbers(line, batch->tokens + at, ROW_MOST - at, &line);
    int32_t given = read_numbers(line, codes, POSITIONS_MAX, &line);
    require(b, n > 0 && batch->count < WIDTH_MOST && (given == 0 || given == positions));
    for (int32_t t = 0; t < given; t++) {
        batch->codes[batch->count * positions + t] = (uint32_t)codes[t];
        batch->labels[batch->count * positions + t] = codes[t];
    }
    batch->offsets[++batch->count] = at + n;
}

static void free_batches(struct bench *b)
{
    for (int32_t i = 0; i < b->batches; i++)
        code_batch_free(&b->batch[i]);
    b->batches = 0;
}

static void read_batches(struct bench *b, const char *path)
{
    char *line;
    size_t size;
    bool open = false;
    struct lines *l = lines_open(path, &b->e);
    require(b, l != NULL);
    free_batches(b);
    for (int rc; (rc = lines_next(l, &line, &size, &b->e)) != 0;) {
        require(b, rc > 0);
        if (size > 0 && !open) {
            require(b, b->batches < BATCHES_MOST);
            code_batch_init(&b->batch[b->batches++], WIDTH_MOST, ROW_MOST, b->layout.positions);
        }
        open = size > 0;
        if (open)
            add_row(b, &b->batch[b->batches - 1], line);
    }
    lines_close(l);
    require(b, b->batches > 0);
}

static int32_t most_tokens(const struct bench *b)
{
    int32_t most = 0;
    for (int32_t i = 0; i < b->batches; i++)
        if (b->batch[i].offsets[b->batch[i].count] > most)
            most = b->batch[i].offsets[b->batch[i].count];
    return most;
}

static int32_t most_rows(const struct bench *b)
{
    int32_t most = 0;
    for (int32_t i = 0; i < b->batches; i++)
        most = b->batch[i].count > most ? b->batch[i].count : most;
    return most;
}

/* ---- commands: search ---- */

static void close_pass(struct bench *b)
{
    beam_free(b->beam);
    t5_work_free(b->work);
    seq2seq_free(b->pass);
    b->beam = NULL;
    b->work = NULL;
    b->pass = NULL;
}

static void run_close(struct bench *b, char **argument)
{
    (void)argument;
    close_pass(b);
    free_batches(b);
    t5_free(b->model);
    trie_release(b->be, b->placed);
    trie_free(b->trie);
    b->placed = NULL;
    b->model = NULL;
    b->trie = NULL;
    puts("ok");
}

/* bundle FOLDER: the search part of an imported bundle and the trie of its documents. */
static void run_bundle(struct bench *b, char **argument)
{
    struct id_table ids = {0};
    struct bundle *bundle = bundle_open(argument[0], &b->e);
    require(b, bundle != NULL);
    b->model = model_file_read(bundle, "search", b->be, false, NULL, 0, &b->layout, NULL, &b->e);
    require(b, b->model && bundle_file(bundle, "ids.tsv") && id_table_read(&ids, bundle_file(bundle, "ids.tsv"), &b->layout, &b->e) == 0);
    b->trie = trie_build(ids.codes, NULL, (uint32_t)ids.count, ids.positions, &b->e);
    require(b, b->trie != NULL);
    b->placed = trie_upload(b->be, b->trie, NULL, &b->e);
    require(b, b->placed != NULL);
    id_table_free(&ids);
    bundle_close(bundle);
    printf("ok documents=%u parameters=%lld\n", trie_count(b->trie), (long long)t5_size(b->model));
}

/* queries FILE WIDTH: the batch that `search` runs. */
static void run_queries(struct bench *b, char **argument)
{
    close_pass(b);
    read_batches(b, argument[0]);
    b->width = atoi(argument[1]);
    require(b, b->width >= 1 && b->width <= WIDTH_MOST);
    int32_t rows = most_rows(b), tokens = most_tokens(b);
    const struct t5_limits l = {.encoder_tokens = tokens, .decoder_tokens = rows, .rows = rows, .beam_rows = rows * b->width,
                                .positions = b->layout.positions};
    const struct beam_limits bl = {.requests = rows, .width = b->width};
    b->work = t5_work_init(b->model, &l, &b->e);
    b->beam = b->work ? beam_init(b->model, &b->layout, &bl, &b->e) : NULL;
    require(b, b->beam != NULL);
    printf("ok rows=%d tokens=%d\n", rows, tokens);
}

/* search 0|1: encode + beam, renormalised or not. */
static void run_search(struct bench *b, char **argument)
{
    const struct code_batch *q = &b->batch[0];
    const struct beam_search s = {.trie = trie_view_of(b->trie), .placed = b->placed, .width = b->width, .renormalise = atoi(argument[0])};
    double start = now_s();
    t5_encode(b->model, b->work, &(struct t5_batch){q->count, q->tokens, q->offsets}, 0);
    double encoded = now_s();
    require(b, beam_run(b->beam, b->work, &s) == 0);
    double end = now_s();
    printf("ok ms=%.4f encode_ms=%.4f\n", 1e3 * (end - start), 1e3 * (encoded - start));
}

/* hits: of the last search, a request is `document:score` with blanks between; requests end with a semicolon. */
static void run_hits(struct bench *b, char **argument)
{
    (void)argument;
    printf("ok");
    for (int32_t r = 0; r < b->batch[0].count; r++) {
        int32_t n;
        const struct beam_hit *h = beam_hits(b->beam, r, &n);
        for (int32_t i = 0; i < n; i++)
            printf(" %u:%.9g", h[i].document, h[i].score);
        printf(" ;");
    }
    puts("");
}

/* ---- commands: training ---- */

/* model FOLDER CODES.JSON: a Hugging Face folder, to be trained. */
static void run_model(struct bench *b, char **argument)
{
    char *json = file_read(argument[1], 0, NULL, &b->e);
    require(b, json && code_layout_parse(&b->layout, json, argument[1], &b->e) == 0);
    free(json);
    struct t5_source *s = t5_source_folder(argument[0], code_layout_total(&b->layout), &b->e);
    require(b, s != NULL);
    b->model = t5_load(b->be, s, &(struct t5_load_options){.train = true}, &b->e);
    require(b, b->model != NULL);
    t5_source_close(s);
    b->step = 0;
    printf("ok parameters=%lld\n", (long long)t5_size(b->model));
}

/* batches FILE: those that `step` trains on. */
static void run_batches(struct bench *b, char **argument)
{
    close_pass(b);
    read_batches(b, argument[0]);
    b->pass = seq2seq_init(b->model, &b->layout, most_rows(b), most_tokens(b), &b->e);
    require(b, b->pass != NULL);
    printf("ok batches=%d\n", b->batches);
}

/* step BATCH SEED LR: forward, backward, AdamW; the loss is the mean over the targets, before the step. SEED 0 = no dropout. */
static void run_step(struct bench *b, char **argument)
{
    int32_t which = atoi(argument[0]);
    require(b, which >= 0 && which < b->batches);
    const struct code_batch *batch = &b->batch[which];
    const struct t5_adamw a = {.lr = strtof(argument[2], NULL), .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .step = ++b->step};
    double start = now_s();
    double loss = seq2seq_train(b->pass, batch, 1.0f / (float)(batch->count * b->layout.positions), strtoull(argument[1], NULL, 10));
    double passed = now_s();
    t5_adamw(b->model, &a, 0, t5_size(b->model));
    double end = now_s();
    printf("ok ms=%.4f adamw_ms=%.4f loss=%.9g\n", 1e3 * (end - start), 1e3 * (end - passed), loss);
}

/* ---- the floor's speed ---- */

/* product: GFLOP/s. */
static void run_product(struct bench *b, char **argument)
{
    (void)argument;
    printf("ok gflops=%.3f\n", product_gflops(b->be, now_s));
}

struct command {
    const char *name;
    int arguments;
    void (*run)(struct bench *b, char **argument);
};

static const struct command commands[] = {
    {"bundle", 1, run_bundle}, {"queries", 2, run_queries}, {"search", 1, run_search}, {"hits", 0, run_hits},   {"model", 2, run_model},
    {"batches", 1, run_batches}, {"step", 3, run_step},     {"product", 0, run_product}, {"close", 0, run_close},
};

static void obey(struct bench *b, char *line)
{
    char *word[8] = {NULL}, *save = NULL;
    int words = 0;
    for (char *w = strtok_r(line, " \n", &save); w && words < 8; w = strtok_r(NULL, " \n", &save))
        word[words++] = w;
    for (size_t i = 0; words > 0 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, word[0]) == 0 && commands[i].arguments == words - 1) {
            commands[i].run(b, word + 1);
            fflush(stdout);
            return;
        }
    err_set(&b->e, ERR_USAGE, "no such command: %s with %d arguments", words ? word[0] : "", words - 1);
    require(b, false);
}

int main(int argc, char **argv)
{
    char message[256], *line = NULL;
    size_t room = 0;
    struct bench b = {.be = backend_open("cpu", argc > 1 ? atoi(argv[1]) : 0, message, sizeof message)};
    if (!b.be) {
        fprintf(stderr, "bench_model: cpu: %s\n", message);
        return 1;
    }
    if (argc > 2 && strcmp(argv[2], "cpu") == 0)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    while (getline(&line, &room, stdin) > 0)
        obey(&b, line);
    free(line);
    run_close(&b, NULL);
    return 0;
}
