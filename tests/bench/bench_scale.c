/* bench_scale.c: the parts whose cost hangs on K, at K = 5,120 and 51,200: k-means from a file of a million vectors, codes of as many documents, the joint stage,
 * trie and beam.
 *
 *   bench_scale FOLDER [ROWS [WIDTH [THREADS [cpu|wall [PART]]]]]     1,000,000 x 768, all processors; FOLDER holds the file of vectors, made when
 *       absent; cpu: times are processor time of this process, for one thread on a busy machine; PART: joint, ids, codes or kmeans alone
 *
 * Vectors: a seeded mixture of 20,000 groups, written block by block as .npy and read as learn-ids reads a user's embeddings. Every line has what was
 * achieved, the floor and their ratio. Floors are reckoned from this very run: operations by the speed of a large product, bytes by that of a copy.
 * k-means is timed by its own reports: the seeds, then one pass; growth over rows is printed as an exponent (1 is linear), and a pass over all rows
 * is run where it takes minutes, else stretched along the measured growth. Memory: the largest RssAnon of the process, pages of files left
 * out, beside what the sizes ask for. Nothing is judged: ends with 1 when a part fails. */
#include "../../core/base/file.h"
#include "../../core/base/run.h"
#include "../../core/data/embeddings.h"
#include "../../core/learn/kmeans.h"
#include "../../core/learn/lmindexer.h"
#include "../../core/learn/rqvae.h"
#include "../../core/data/metrics.h"
#include "../../core/model/quantiser.h"
#include "../../core/retrieve/beam.h"
#include "product.h"
#include "random_ids.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GROUPS = 20000, BLOCK = 4096, SEED = 1 };
static const double minutes_for_a_pass = 2;

struct bench {
    const struct backend *be;
    const char *folder;
    int32_t rows, width;
    double flops, bytes; /* a second: of a large product, of a copy (read + written) */
    struct embeddings x;
    struct err e;
};

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void require(const struct bench *b, bool fine)
{
    if (fine)
        return;
    fprintf(stderr, "bench_scale: %s\n", b->e.message[0] ? b->e.message : "a part failed");
    exit(1);
}

static void line(const char *what, double achieved, double floor, const char *rest)
{
    printf("%-58s achieved %9.4g s  floor %9.4g s  achieved/floor %6.2f  %s\n", what, achieved, floor, achieved / floor, rest);
    fflush(stdout);
}

/* ---- memory ---- */

static double status_mib(const char *name)
{
    char text[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(text, sizeof text, f))
        if (strncmp(text, name, strlen(name)) == 0)
            kib = atof(text + strlen(name) + 1);
    if (f)
        fclose(f);
    return kib / 1024;
}

static double most_mib;

static void look_at_memory(void)
{
    double now = status_mib("RssAnon");
    most_mib = now > most_mib ? now : most_mib;
}

static void memory_line(const char *what, double wanted_mib)
{
    look_at_memory();
    printf("%-58s most RssAnon %.0f MiB, the sizes ask for %.0f MiB; file pages now %.0f MiB\n", what, most_mib, wanted_mib, status_mib("RssFile"));
    fflush(stdout);
    most_mib = 0;
}

/* ---- the machine ---- */

enum { COPY = 256 << 20, COPIERS_MOST = 64 };

static void *copy_once(void *state)
{
    char *from = state;
    memcpy(from + COPY, from, COPY);
    return NULL;
}

/* Bytes a second, read and written, of as many threads as compute. */
static double copy_speed(int threads)
{
    char *memory[COPIERS_MOST];
    pthread_t thread[COPIERS_MOST];
    double best = 1e9;
    threads = threads < COPIERS_MOST ? threads : COPIERS_MOST;
    for (int i = 0; i < threads; i++)
        memset(memory[i] = xmalloc(2 * (size_t)COPY), 1, 2 * (size_t)COPY);
    for (int round = 0; round < 4; round++) {
        double start = now_s();
        for (int i = 0; i < threads; i++)
            CHECK(pthread_create(&thread[i], NULL, copy_once, memory[i]) == 0);
        for (int i = 0; i < threads; i++)
            pthread_join(thread[i], NULL);
        double took = now_s() - start;
        best = took < best ? took : best;
    }
    for (int i = 0; i < threads; i++)
        free(memory[i]);
    return 2.0 * COPY * threads / best;
}

/* ---- vectors ---- */

static void fill_block(const struct bench *b, int64_t from, int32_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t group = mix64(SEED, (uint64_t)(from + i)) % GROUPS;
        for (int64_t j = 0; j < b->width; j++)
            out[i * b->width + j] = mix_uniform(group, (uint64_t)j) - 0.5f + 0.5f * (mix_uniform(7 + (uint64_t)(from + i), (uint64_t)j) - 0.5f);
    }
}

static void write_vectors(struct bench *b, const char *path)
{
    struct file_out out;
    char header[128];
    float *block = xmalloc((size_t)BLOCK * (size_t)b->width * sizeof *block);
    double start = now_s();
    require(b, file_out_open(&out, path, &b->e) == 0);
    int n = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", b->rows, b->width);
    fprintf(out.stream, "\x93NUMPY%c%c%c%c%-117s\n", 1, 0, 118, 0, header);
    require(b, n < 117);
    for (int32_t from = 0; from < b->rows; from += BLOCK) {
        int32_t rows = b->rows - from < BLOCK ? b->rows - from : BLOCK;
        fill_block(b, from, rows, block);
        require(b, fwrite(block, sizeof *block * (size_t)b->width, (size_t)rows, out.stream) == (size_t)rows);
    }
    require(b, file_out_commit(&out, &b->e) == 0);
    printf("wrote %s: %d x %d in %.1f s\n", path, b->rows, b->width, now_s() - start);
    free(block);
}

static void read_vectors(struct bench *b)
{
    char *name = xprintf("vectors-%d-%d.npy", b->rows, b->width), *path = path_join(b->folder, name);
    if (!file_exists(path))
        write_vectors(b, path);
    double start = now_s(), bytes = 4.0 * b->rows * b->width;
    require(b, embeddings_read(&b->x, path, b->folder, &b->e) == 0);
    line("embeddings: file to a mapped file of ours, every value checked", now_s() - start, 2 * bytes / b->bytes, "");
    memory_line("embeddings", b->x.memory.mapped ? 0 : bytes / 1048576);
    free(name);
    free(path);
}

/* ---- k-means ---- */

struct watch { /* times of k-means' own reports */
    double begin, seeds, pass;
    int64_t passes;
};

static void on_report(void *state, const struct progress *p)
{
    struct watch *w = state;
    look_at_memory();
    if (strcmp(p->phase, "k-means: seeds") == 0)
        w->seeds = now_s() - w->begin;
    else if (strcmp(p->phase, "k-means") == 0 && strcmp(p->unit, "passes") == 0)
        w->pass = now_s() - w->begin - w->seeds;
}

static struct watch cluster(struct bench *b, int32_t n, int32_t k)
{
    struct watch w = {.begin = now_s()};
    const struct run run = {.report = on_report, .state = &w};
    const struct kmeans_options o = {.n = n, .d = b->width, .k = k, .restarts = 1, .iterations = 1, .seed = SEED};
    struct kmeans_result r;
    float *centroids = xmalloc((size_t)k * (size_t)b->width * sizeof *centroids);
    require(b, kmeans_run(b->be, &o, &(struct kmeans_points){.x = b->x.values}, centroids, NULL, &r, &run, &b->e) == 0);
    char *seeds = xprintf("k-means seeds, K %d, %d rows", k, n), *pass = xprintf("k-means pass, K %d, %d rows", k, n);
    double floor = 2.0 * n * k * b->width / b->flops;
    char *rest = xprintf("used %d, mean squared distance %.4g", r.used, r.inertia / n);
    line(seeds, w.seeds, floor, "(floor: one product of all rows and all seeds)");
    line(pass, w.pass, floor, rest);
    double wanted = (8.0 + 4 + 4) * k * b->width + (4 + 4 + 8 + 8 + 1) * (double)n;
    memory_line(pass, wanted / 1048576);
    free(seeds);
    free(pass);
    free(rest);
    free(centroids);
    return w;
}

static void grow(struct bench *b, int32_t k, const int32_t *sizes, int count)
{
    struct watch first = {0}, last = {0};
    for (int i = 0; i < count; i++) {
        last = cluster(b, sizes[i], k);
        first = i == 0 ? last : first;
    }
    double ratio = log((double)sizes[count - 1] / sizes[0]), scale = (double)b->rows / sizes[count - 1];
    printf("k-means, K %d: growth over rows: seeds exponent %.2f, pass exponent %.2f\n", k, log(last.seeds / first.seeds) / ratio,
           log(last.pass / first.pass) / ratio);
    if (last.pass * scale < 60 * minutes_for_a_pass && b->rows > sizes[count - 1])
        cluster(b, b->rows, k);
    else
        printf("k-means, K %d: a pass over %d rows, stretched: %.0f s, seeds %.0f s\n", k, b->rows, last.pass * scale, last.seeds * scale);
    fflush(stdout);
}

/* ---- codes of documents ---- */

/* A training step of an rq-VAE: MLPs and searches as operations; the codebooks' moving averages as bytes, sums read and written, codes written. */
static void rqvae_steps(struct bench *b, int32_t k)
{
    enum { ROWS = 256, LEVELS = 3 };
    const struct rqvae_shape shape = {.layers = 4, .width = {b->width, 512, 256, 128, 32}, .levels = LEVELS, .codes = k};
    struct rqvae *r = rqvae_init(b->be, &shape, ROWS, &b->e);
    require(b, r != NULL);
    rqvae_randomise(r, SEED);
    double best = 1e9, weights = 0, d = 32;
    for (int32_t s = 0; s < LEVELS; s++)
        for (int64_t i = 0; i < k * 32; i++)
            rqvae_codebook(r, s)[i] = rqvae_sum(r, s)[i] = 0.01f * (mix_uniform((uint64_t)s, (uint64_t)i) - 0.5f);
    for (int32_t step = 1; step <= 8; step++) {
        struct rqvae_losses losses;
        double start = now_s();
        rqvae_step(r, b->x.values + (int64_t)step * ROWS * b->width, ROWS, &losses);
        rqvae_ema(r);
        rqvae_adam(r, 1e-3f, step);
        double took = now_s() - start;
        require(b, isfinite(losses.total));
        best = took < best ? took : best;
    }
    for (int32_t i = 0; i < shape.layers; i++)
        weights += (double)shape.width[i] * shape.width[i + 1];
    char *what = xprintf("rq-vae, K %d, L %d: a step of %d rows", k, LEVELS, ROWS);
    line(what, best, 2 * ROWS * (6 * weights + LEVELS * k * d) / b->flops + 12 * LEVELS * k * d / b->bytes, "");
    memory_line(what, (2 * 16 * weights + LEVELS * k * 8 * d + 8 * k * d) / 1048576);
    free(what);
    rqvae_free(r);
}

/* Three positions; codebooks are rows of the file, so that every search meets real neighbours; the MLP of an rq-VAE has random weights. */
static struct quantiser *some_quantiser(const struct bench *b, enum quantiser_kind kind, int32_t k)
{
    static const int32_t widths[] = {0, 512, 256, 128, 32};
    struct quantiser *q = xcalloc(1, sizeof *q);
    *q = (struct quantiser){.kind = kind, .width = b->width, .positions = 3, .codes = k, .own = true, .scale = 1};
    int32_t d = b->width;
    if (kind == QUANTISER_RQVAE) {
        q->layers = 4;
        for (int32_t i = 0; i < 5; i++)
            q->layer_width[i] = i ? widths[i] : b->width;
        d = widths[4];
        q->mean = xcalloc((size_t)b->width, sizeof *q->mean);
    }
    for (int32_t i = 0; i < q->layers; i++) {
        int64_t cells = (int64_t)q->layer_width[i] * q->layer_width[i + 1];
        q->weight[i] = xmalloc((size_t)cells * sizeof(float));
        q->bias[i] = xcalloc((size_t)q->layer_width[i + 1], sizeof(float));
        for (int64_t j = 0; j < cells; j++)
            q->weight[i][j] = (mix_uniform(SEED + (uint64_t)i, (uint64_t)j) - 0.5f) * 0.2f;
    }
    for (int32_t s = 0; s < q->positions; s++) {
        q->codebook[s] = xmalloc((size_t)k * (size_t)d * sizeof(float));
        for (int64_t c = 0; c < k; c++)
            memcpy(q->codebook[s] + c * d, b->x.values + (2 * c + s) % b->rows * b->width, (size_t)d * sizeof(float));
    }
    return q;
}

static void assign(struct bench *b, enum quantiser_kind kind, int32_t k, int32_t rows)
{
    uint32_t codes[QUANTISER_BATCH * 3];
    struct quantiser *q = some_quantiser(b, kind, k);
    require(b, quantiser_open(q, b->be, &b->e) == 0);
    double start = now_s(), mlp = 0;
    for (int32_t from = 0; from < rows; from += QUANTISER_BATCH) {
        int32_t n = rows - from < QUANTISER_BATCH ? rows - from : QUANTISER_BATCH;
        quantiser_encode(q, b->x.values + (int64_t)from * b->width, n, codes, NULL);
    }
    double took = (now_s() - start) * b->rows / rows;
    for (int32_t i = 0; i < q->layers; i++)
        mlp += 2.0 * q->layer_width[i] * q->layer_width[i + 1];
    double d = q->layers ? q->layer_width[q->layers] : b->width;
    char *what = xprintf("%s, K %d, L 3: codes of %d documents", quantiser_name(kind), k, b->rows), *rest = xprintf("(stretched from %d)", rows);
    line(what, took, (mlp + 3 * 2.0 * k * d) * b->rows / b->flops, rest);
    memory_line(what, 2 * 3 * 4.0 * k * d / 1048576);
    free(what);
    free(rest);
    quantiser_free(q);
}

static void bench_codes(struct bench *b)
{
    rqvae_steps(b, 5120);
    rqvae_steps(b, 51200);
    assign(b, QUANTISER_RESIDUAL, 5120, 8192);
    assign(b, QUANTISER_RESIDUAL, 51200, 1024);
    assign(b, QUANTISER_RQVAE, 5120, 16384);
    assign(b, QUANTISER_RQVAE, 51200, 8192);
}

/* Agreement of 51,200 codes with 5,000 categories: sorting both labelings and their pairs. */
static void bench_ami(struct bench *b)
{
    int32_t *code = xmalloc((size_t)b->rows * sizeof *code), *category = xmalloc((size_t)b->rows * sizeof *category);
    for (int half = 2; half >= 1; half--) {
        int32_t n = b->rows / half;
        for (int32_t i = 0; i < n; i++) {
            double u = (double)mix_uniform(SEED, (uint64_t)i);
            code[i] = (int32_t)(mix64(SEED, (uint64_t)i) % 51200);
            category[i] = (int32_t)(5000 * u * u);
        }
        double start = now_s(), ami = metrics_ami(code, category, n);
        char *what = xprintf("AMI of 51,200 codes and 5,000 categories, %d documents", n), *rest = xprintf("AMI %.4f of random codes", ami);
        line(what, now_s() - start, 4.0 * log2(n) * 4 * n / b->bytes, rest);
        free(what);
        free(rest);
    }
    free(code);
    free(category);
}

static void bench_kmeans(struct bench *b)
{
    static const int32_t small[] = {25000, 50000, 100000}, large[] = {60000, 120000};
    grow(b, 5120, small, 3);
    grow(b, 51200, large, 2);
}

/* ---- the joint stage ---- */

enum { DOCUMENTS = 64, WORDS = 32, JOINT_WORDS = 4, VOCAB = 1000 };

static struct t5_config small_t5(const struct bench *b, int32_t codes)
{
    return (struct t5_config){.vocab = VOCAB, .codes = codes, .d_model = b->width, .d_kv = 64, .d_ff = 4 * b->width, .heads = b->width / 64,
                              .encoder_layers = 2, .decoder_layers = 2, .buckets = 32, .max_distance = 128, .eps = 1e-6f, .scale_output = true};
}

static void fill_rows(int32_t *tokens, int32_t *offsets, int32_t *prefix, uint64_t *keys, int32_t k)
{
    for (int32_t i = 0; i < 2 * DOCUMENTS; i++) {
        for (int32_t t = 0; t < JOINT_WORDS; t++)
            tokens[i * JOINT_WORDS + t] = t == JOINT_WORDS - 1 ? 1 : (int32_t)(3 + mix64((uint64_t)(i % DOCUMENTS), (uint64_t)t) % (VOCAB - 3));
        offsets[i + 1] = (i + 1) * JOINT_WORDS;
        prefix[i] = (int32_t)(mix64(5, (uint64_t)(i % DOCUMENTS)) % (uint64_t)k);
        keys[i % DOCUMENTS] = (uint64_t)(i % DOCUMENTS);
    }
}

/* Seconds of a step: forward and backward, then AdamW over all parameters. */
static void time_steps(struct bench *b, struct t5 *m, struct lm_work *w, int32_t k, double *pass, double *adam)
{
    static int32_t tokens[2 * DOCUMENTS * JOINT_WORDS], offsets[2 * DOCUMENTS + 1], prefix[2 * DOCUMENTS], second[DOCUMENTS], negatives[DOCUMENTS],
        negative_offsets[DOCUMENTS + 1];
    static uint64_t keys[DOCUMENTS];
    fill_rows(tokens, offsets, prefix, keys, k);
    for (int32_t i = 0; i < DOCUMENTS; i++) {
        second[i] = DOCUMENTS + i;
        negatives[i] = (i + 1) % DOCUMENTS;
        negative_offsets[i + 1] = i + 1;
    }
    *pass = *adam = 1e9;
    for (int step = 1; step <= 12; step++) {
        struct lm_losses losses;
        const struct lm_batch batch = {.stage = LM_JOINT, .position = 1, .documents = DOCUMENTS, .rows = {2 * DOCUMENTS, tokens, offsets},
                                       .prefix = prefix, .keys = keys, .hint_ratio = 0.3, .second_view = second, .negatives = negatives,
                                       .negative_offsets = negative_offsets, .target_share = 1, .seed = (uint64_t)step, .freeze_codebooks = true,
                                       .contrastive_temperature = 1, .weight_recon = 1, .weight_contrastive = 1, .weight_commitment = 1};
        const struct t5_adamw a = {.lr = 1e-4f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .clip = 1, .step = step};
        double start = now_s();
        lmindexer_step(m, w, &batch, &losses);
        double passed = now_s();
        t5_adamw(m, &a, 0, t5_size(m));
        double end = now_s();
        require(b, isfinite(losses.total));
        *pass = passed - start < *pass ? passed - start : *pass;
        *adam = end - passed < *adam ? end - passed : *adam;
        look_at_memory();
    }
}

static double joint_step(struct bench *b, int32_t k)
{
    struct t5_extra extra[10 + LM_POSITIONS_MAX];
    struct t5_config c = small_t5(b, 2 * k);
    c.encoder_layers = c.decoder_layers = 1;
    const struct t5_options o = {.config = c, .train = true, .extra = extra, .extra_count = lmindexer_extras(&c, 2, k, extra)};
    const struct lm_limits l = {.documents = DOCUMENTS, .rows = 2 * DOCUMENTS, .batch = DOCUMENTS, .tokens = 2 * DOCUMENTS * JOINT_WORDS,
                                .text_tokens = DOCUMENTS * JOINT_WORDS, .positions = 2, .codes = k, .train = true};
    struct t5 *m = t5_init(b->be, &o, &b->e);
    require(b, m != NULL);
    t5_randomise(m, SEED);
    struct lm_work *w = lm_work_init(m, &l, &b->e);
    require(b, w != NULL);
    double pass, adam, size = (double)t5_size(m);
    time_steps(b, m, w, k, &pass, &adam);
    char *what = xprintf("joint stage, K %d, AdamW over %.1f M parameters", k, size / 1e6);
    line(what, adam, 28 * size / b->bytes, "");
    memory_line(what, 16 * size / 1048576 + (double)lm_work_bytes(b->be, &c, &l) / 1048576);
    free(what);
    lm_work_free(w);
    t5_free(m);
    return pass;
}

/* What K adds to a pass beside that of K = 512, of short texts and one layer each, so that little else is in it. Products of the documents with a
 * codebook: scores and their expectation, four for the gradients of both; scores of the commitment and their gradient. */
static void bench_joint(struct bench *b)
{
    static const int32_t sizes[] = {5120, 51200};
    double base = joint_step(b, 512);
    printf("joint stage, K 512: forward and backward of %d documents %.3f s\n", DOCUMENTS, base);
    for (int i = 0; i < 2; i++) {
        double pass = joint_step(b, sizes[i]), more = sizes[i] - 512;
        char *what = xprintf("joint stage, K %d: forward and backward, above K 512's", sizes[i]), *rest = xprintf("(the whole pass: %.3f s)", pass);
        line(what, pass - base, 8 * 2.0 * DOCUMENTS * more * b->width / b->flops, rest);
        free(what);
        free(rest);
    }
}

/* ---- trie and beam ---- */

static void time_beam(struct bench *b, struct t5 *m, const struct code_layout *layout, const struct trie *trie, int32_t requests)
{
    enum { WIDTH = 20 };
    int32_t tokens[8 * WORDS], offsets[9] = {0};
    const struct t5_config *c = t5_config_of(m);
    const struct t5_limits l = {.encoder_tokens = requests * WORDS, .decoder_tokens = requests, .rows = requests, .beam_rows = requests * WIDTH,
                                .positions = layout->positions};
    const struct beam_limits bl = {.requests = requests, .width = WIDTH};
    struct t5_work *w = t5_work_init(m, &l, &b->e);
    struct beam *beam = w ? beam_init(m, layout, &bl, &b->e) : NULL;
    const struct beam_search s = {.trie = trie_view_of(trie), .placed = trie_upload(b->be, trie, NULL, &b->e), .width = WIDTH};
    require(b, beam != NULL && s.placed != NULL);
    for (int32_t i = 0; i < requests * WORDS; i++)
        tokens[i] = i % WORDS == WORDS - 1 ? 1 : 3 + i % 900;
    for (int32_t i = 0; i < requests; i++)
        offsets[i + 1] = (i + 1) * WORDS;
    double best = 1e9;
    for (int i = 0; i < 12; i++) {
        double start = now_s();
        t5_encode(m, w, &(struct t5_batch){requests, tokens, offsets}, 0);
        require(b, beam_run(beam, w, &s) == 0);
        double took = now_s() - start;
        best = took < best ? took : best;
    }
    double d = c->d_model, layer = 4 * d * d + 2 * d * c->d_ff, rows = requests * (1 + (layout->positions - 1) * WIDTH), k = layout->codes[0];
    double body = 2 * (requests * WORDS * c->encoder_layers * layer + (rows * (layer + 2 * d * d) + requests * WORDS * 2 * d * d) * c->decoder_layers);
    double heads = 2 * d * (requests * k + (layout->positions - 2) * (double)requests * WIDTH * k);
    double head_bytes = 4 * d * k * (layout->positions - 1), body_bytes = 4 * (c->encoder_layers * layer + layout->positions * c->decoder_layers * (layer + 4 * d * d));
    char *what = xprintf("beam 20, K %d, L %d, batch %d", layout->codes[0], layout->positions - 1, requests);
    double head_floor = fmax(heads / b->flops, head_bytes / b->bytes);
    char *rest = xprintf("(heads alone: floor %.4g s)", head_floor);
    line(what, best, fmax(body / b->flops, body_bytes / b->bytes) + head_floor, rest);
    free(what);
    free(rest);
    trie_release(b->be, s.placed);
    beam_free(beam);
    t5_work_free(w);
}

static void time_ids(struct bench *b, int32_t levels, int32_t k)
{
    struct shape shape = {.positions = levels + 1};
    struct code_layout layout = {.base = VOCAB, .positions = levels + 1};
    for (int32_t t = 0; t < levels; t++)
        layout.codes[t] = (int32_t)(shape.codes[t] = (uint32_t)k);
    struct ids ids = draw_ids(&shape, (uint32_t)b->rows, SEED);
    for (int32_t i = 0; i < b->rows; i++) {
        int32_t suffix = (int32_t)ids.codes[(int64_t)i * ids.positions + levels];
        layout.codes[levels] = suffix < layout.codes[levels] ? layout.codes[levels] : suffix + 1;
    }
    double start = now_s();
    struct trie *trie = trie_build(ids.codes, NULL, ids.n, ids.positions, &b->e);
    require(b, trie != NULL);
    char *what = xprintf("trie of %d IDs, K %d, L %d", b->rows, k, levels), *rest = xprintf("%.1f bytes an ID", (double)trie_bytes(trie) / b->rows);
    double took = now_s() - start, key_passes = 2 + levels;
    line(what, took, (4.0 * (levels + 1) + 16 * key_passes) * b->rows / b->bytes, rest);
    const struct t5_options o = {.config = small_t5(b, code_layout_total(&layout))};
    struct t5 *m = t5_init(b->be, &o, &b->e);
    require(b, m != NULL);
    t5_randomise(m, SEED);
    time_beam(b, m, &layout, trie, 1);
    time_beam(b, m, &layout, trie, 8);
    memory_line(what, 8 * (double)t5_size(m) / 1048576 + (double)trie_bytes(trie) / 1048576);
    free(what);
    free(rest);
    t5_free(m);
    trie_free(trie);
    free(ids.codes);
}

static void bench_ids(struct bench *b)
{
    time_ids(b, 2, 5120);
    time_ids(b, 2, 51200);
    time_ids(b, 3, 51200);
    bench_ami(b);
}

static const struct {
    const char *name;
    void (*run)(struct bench *b);
    bool reads; /* the vectors */
} parts[] = {{"joint", bench_joint, false}, {"ids", bench_ids, false}, {"codes", bench_codes, true}, {"kmeans", bench_kmeans, true}};

static void run_parts(struct bench *b, const char *only)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (only && strcmp(only, parts[i].name) != 0)
            continue;
        if (parts[i].reads && !b->x.values)
            read_vectors(b);
        parts[i].run(b);
    }
    embeddings_free(&b->x);
}

int main(int argc, char **argv)
{
    char message[256];
    struct bench b = {.folder = argc > 1 ? argv[1] : ".", .rows = argc > 2 ? atoi(argv[2]) : 1000000, .width = argc > 3 ? atoi(argv[3]) : 768};
    int threads = argc > 4 && atoi(argv[4]) > 0 ? atoi(argv[4]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (argc > 5 && strcmp(argv[5], "cpu") == 0)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    b.be = backend_open("cpu", threads, message, sizeof message);
    if (!b.be || b.rows < 120000 || b.width < 64 || b.width % 64) {
        fprintf(stderr, "bench_scale: %s\n", b.be ? "120,000 rows or more, of a width that 64 divides" : message);
        return 1;
    }
    b.flops = 1e9 * product_gflops(b.be, now_s);
    b.bytes = copy_speed(threads);
    printf("%s%s\nlarge product %.0f GFLOP/s, copy %.1f GB/s; %d rows of width %d, seed %d\n", b.be->device,
           clock_used == CLOCK_MONOTONIC ? "" : ", seconds of the processor", b.flops / 1e9, b.bytes / 1e9, b.rows, b.width, SEED);
    run_parts(&b, argc > 6 ? argv[6] : NULL);
    return 0;
}
