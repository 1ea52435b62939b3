/* bench_cuda.c: how long the work of t5_base.h takes on a device, beside its floors.
 *
 *   bench_cuda [--device NAME] [--cases KEY,KEY]      a line for each case and way; exit status 1 when a check before the clock fails
 *                                                      the key "kernels" stands for the ops of bench_ops.h, "none" for nothing
 *
 * Random weights (by a seed), so the results mean nothing, but they are looked at before a clock starts: hits are whole, in order, finite and
 * the same bits in a second run; a loss is finite; centroids of some points are the nearest by a sum in double. A search is timed in two ways:
 * `calls`, as a worker that calls op after op (t5_encode, beam_run); `graph`, the same ops recorded once and replayed, as a device that has
 * recordings does it: the batch is loaded and its results are received as in a search. Every timed run ends with a read, so no work is left behind. achieved = the median, ratio =
 * achieved / floor; the floor is that of the design's table (one H200), the same on any device. */
#include "bench_ops.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WARM = 3, RUNS_LEAST = 7, RUNS_MOST = 200, SEED = 5 };
static const double timed_s = 2;

static const struct backend *device;
static int32_t wrong;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(const struct base_case *c, const char *what, bool fine)
{
    if (fine)
        return;
    printf("case=%s WRONG: %s\n", c->key, what);
    wrong++;
}

/* ---- the clock ---- */

struct work {
    const struct base_case *c;
    struct base_search *search;
    struct base_train *train;
    struct base_kmeans *kmeans;
    const struct recording *recording;
};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_work(const struct work *w, const char *way, void (*run)(const struct work *))
{
    static double took[RUNS_MOST];
    int32_t n = 0;
    for (int32_t i = 0; i < WARM; i++)
        run(w);
    for (double begin = now_s(); n < RUNS_MOST && (n < RUNS_LEAST || now_s() - begin < timed_s); n++) {
        double start = now_s();
        run(w);
        took[n] = now_s() - start;
    }
    qsort(took, (size_t)n, sizeof *took, by_size);
    double ms = 1e3 * took[n / 2];
    printf("case=%s way=%s unit=ms achieved=%.4f best=%.4f floor=%.4g ratio=%.2f target=%g runs=%d", w->c->key, way, ms, 1e3 * took[0],
           w->c->row_ms, ms / w->c->row_ms, w->c->target_ms, n);
    if (w->c->kind == CASE_SEARCH)
        printf(" queries/s=%.0f", 1e3 * w->c->rows / ms);
    if (w->c->kind == CASE_TRAIN)
        printf(" tokens/s=%.0f", 1e3 * w->c->rows * w->c->tokens / ms);
    puts("");
    fflush(stdout);
}

/* ---- search ---- */

static void run_search(const struct work *w)
{
    struct base_search *s = w->search;
    const struct beam_search search = {.trie = trie_view_of(s->b->trie), .placed = s->b->placed, .width = WIDTH};
    t5_encode(s->b->model, s->work, &(struct t5_batch){s->rows, s->tokens, s->offsets}, 0);
    CHECK(beam_run(s->beam, s->work, &search) == 0);
}

static void load_search(const struct base_search *s, const struct beam_search *search)
{
    const struct t5_batch batch = {s->rows, s->tokens, s->offsets};
    t5_encode_load(s->b->model, s->work, &batch, s->offsets[s->rows], s->offsets[1]);
    beam_load(s->beam, s->work, search, s->rows);
}

static void run_replay(const struct work *w)
{
    const struct base_search *s = w->search;
    const struct beam_search search = {.trie = trie_view_of(s->b->trie), .placed = s->b->placed, .width = WIDTH};
    load_search(s, &search);
    device->replay(w->recording);
    beam_send(s->beam, &search);
    beam_receive(s->beam, &search);
}

/* All hits of the last search, or NULL when they are not whole. */
static struct beam_hit *hits_copy(const struct base_search *s)
{
    struct beam_hit *all = xcalloc((size_t)s->rows * WIDTH, sizeof *all);
    bool fine = true;
    for (int32_t r = 0; r < s->rows && fine; r++) {
        int32_t n;
        const struct beam_hit *h = beam_hits(s->beam, r, &n);
        fine = n == WIDTH;
        for (int32_t i = 0; i < n && fine; i++) {
            fine = isfinite(h[i].score) && h[i].score <= (i ? h[i - 1].score : 0) && h[i].document < DOCUMENTS;
            all[r * WIDTH + i] = h[i];
        }
    }
    if (fine)
        return all;
    free(all);
    return NULL;
}

static bool same_hits(const struct base_search *s, const struct beam_hit *before)
{
    struct beam_hit *after = hits_copy(s);
    bool same = before && after;
    for (int32_t i = 0; same && i < s->rows * WIDTH; i++)
        same = before[i].document == after[i].document && before[i].score == after[i].score;
    free(after);
    return same;
}

/* Records the ops of the search that ran last, replays them and looks whether the hits are the same. */
static void time_recorded(struct work *w, const struct beam_hit *before)
{
    struct base_search *s = w->search;
    const struct beam_search search = {.trie = trie_view_of(s->b->trie), .placed = s->b->placed, .width = WIDTH};
    load_search(s, &search);
    if (device->record_begin() != 0) {
        check(w->c, "the device refuses to record", false);
        return;
    }
    t5_encode_run(s->b->model, s->work, 0);
    CHECK(beam_positions(s->beam, s->work, &search) == 0);
    struct recording *r = device->record_end();
    check(w->c, "the device refuses the recording", r != NULL);
    w->recording = r;
    if (r) {
        run_replay(w);
        check(w->c, "the replayed search gives other bits", same_hits(s, before));
        time_work(w, "graph", run_replay);
        printf("case=%s recording=%.2f MiB\n", w->c->key, (double)device->recording_bytes(r) / 0x1p20);
    }
    device->record_free(r);
}

static void search_case(const struct base_case *c, struct base_model *b)
{
    struct base_search s;
    struct work w = {.c = c, .search = &s};
    if (!base_search_open(&s, b, c->rows, c->tokens)) {
        check(c, b->e.message, false);
        return;
    }
    run_search(&w);
    struct beam_hit *before = hits_copy(&s);
    check(c, "hits are not whole, in order and finite", before != NULL);
    run_search(&w);
    check(c, "the same search gives other bits", same_hits(&s, before));
    time_work(&w, "calls", run_search);
    if (device->record_begin)
        time_recorded(&w, before);
    free(before);
    base_search_close(&s);
}

/* ---- training, clustering ---- */

static void run_train(const struct work *w)
{
    float word;
    double loss = base_train_step(w->train);
    if (!isfinite(loss) || loss <= 0)
        check(w->c, "the loss is not a positive number", false);
    device->read(&word, t5_master(w->train->b->model), sizeof word);
}

static void train_case(const struct base_case *c)
{
    struct base_model b;
    struct base_train s;
    struct work w = {.c = c, .train = &s};
    if (!base_open(&b, device, LAYERS, true, SEED) || !base_train_open(&s, &b, c)) {
        check(c, b.e.message, false);
        return;
    }
    time_work(&w, "calls", run_train);
    base_train_close(&s);
    base_close(&b);
}

static void run_kmeans(const struct work *w)
{
    int32_t word;
    const struct base_kmeans *s = w->kmeans;
    device->kmeans_assign(s->assign, s->distance, s->x, s->centroids, s->n, s->k, D);
    device->read(&word, s->assign, sizeof word);
}

static float *fill(float *memory, int64_t n, uint64_t seed)
{
    float *host = xmalloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = mix_uniform(seed, (uint64_t)i) - 0.5f;
    device->write(memory, host, (size_t)n * sizeof *host);
    return host;
}

static double squared_distance(const float *a, const float *b)
{
    double sum = 0;
    for (int32_t j = 0; j < D; j++)
        sum += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return sum;
}

/* The first points' centroids against the nearest by double sums. */
static bool nearest(const struct base_kmeans *s, const float *x, const float *centroids)
{
    enum { POINTS = 16 };
    int32_t assign[POINTS];
    bool fine = true;
    device->read(assign, s->assign, sizeof assign);
    for (int32_t i = 0; i < POINTS && fine; i++) {
        double best = INFINITY;
        for (int32_t k = 0; k < s->k; k++) {
            double d = squared_distance(x + (int64_t)i * D, centroids + (int64_t)k * D);
            best = d < best ? d : best;
        }
        fine = assign[i] >= 0 && assign[i] < s->k;
        fine = fine && squared_distance(x + (int64_t)i * D, centroids + (int64_t)assign[i] * D) <= best * (1 + 1e-5);
    }
    return fine;
}

static void kmeans_case(const struct base_case *c)
{
    struct base_kmeans s;
    struct work w = {.c = c, .kmeans = &s};
    bool open = base_kmeans_open(&s, device, c->rows, c->tokens);
    check(c, "no memory", open);
    if (open) {
        float *x = fill(s.x, (int64_t)s.n * D, 21), *centroids = fill(s.centroids, (int64_t)s.k * D, 22);
        run_kmeans(&w);
        check(c, "a centroid is not the nearest", nearest(&s, x, centroids));
        free(x);
        free(centroids);
        time_work(&w, "calls", run_kmeans);
    }
    base_kmeans_close(&s);
}

/* ---- ops by themselves ---- */

static void call_many(struct ops *o, const struct op_case *c)
{
    for (int32_t i = 0; i < MANY; i++)
        c->call(o);
}

/* Seconds of one call: the best of several runs of MANY. */
static double op_seconds(struct ops *o, const struct op_case *c)
{
    struct recording *r = NULL;
    double best = INFINITY, begin = now_s();
    float word;
    c->call(o); /* what is set up once */
    if (device->record_begin && device->record_begin() == 0) {
        call_many(o, c);
        r = device->record_end();
    }
    for (int32_t i = 0; i < RUNS_LEAST || (i < RUNS_MOST && now_s() - begin < timed_s / 4); i++) {
        device->read(&word, o->w, sizeof word);
        double start = now_s();
        if (r)
            device->replay(r);
        else
            call_many(o, c);
        device->read(&word, o->w, sizeof word);
        double took = (now_s() - start) / MANY;
        best = took < best ? took : best;
    }
    if (r)
        device->record_free(r);
    return best;
}

static void kernel_cases(void)
{
    struct ops o;
    if (!ops_open(&o, device)) {
        printf("case=kernels WRONG: no memory\n");
        wrong++;
    }
    for (size_t i = 0; o.anc && i < sizeof op_cases / sizeof *op_cases; i++) {
        const struct op_case *c = &op_cases[i];
        const struct amount a = c->amount(c);
        if (!ops_set(&o, c)) {
            wrong++;
            continue;
        }
        double s = op_seconds(&o, c);
        printf("op=\"%s\" unit=us achieved=%.2f floor=%.2f ratio=%.2f TB/s=%.3f TFLOP/s=%.1f\n", c->name, 1e6 * s, 1e6 * amount_s(a),
               s / amount_s(a), 1e-12 * a.bytes / s, 1e-12 * a.operations / s);
        fflush(stdout);
        ops_unset(&o, c);
    }
    ops_close(&o);
}

/* ---- */

static bool wanted(const char *list, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = list; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
        if (strncmp(p, key, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return !list;
}

static void run_cases(const struct backend *table, const char *list)
{
    struct base_model b = {0};
    for (size_t i = 0; i < CASES; i++) {
        const struct base_case *c = &base_cases[i];
        if (!wanted(list, c->key))
            continue;
        if (c->kind == CASE_SEARCH && !b.model && !base_open(&b, table, LAYERS, false, SEED))
            check(c, b.e.message, false);
        else if (c->kind == CASE_SEARCH)
            search_case(c, &b);
        if (c->kind != CASE_SEARCH && b.model) {
            base_close(&b);
            b = (struct base_model){0};
        }
        if (c->kind == CASE_TRAIN)
            train_case(c);
        if (c->kind == CASE_KMEANS)
            kmeans_case(c);
    }
    if (b.model)
        base_close(&b);
    if (list && wanted(list, "kernels"))
        kernel_cases();
}

int main(int argc, char **argv)
{
    char message[256];
    const char *name = "auto", *list = NULL;
    for (; argc > 2 && argv[1][0] == '-'; argc -= 2, argv += 2)
        *(strcmp(argv[1], "--cases") == 0 ? &list : &name) = argv[2];
    device = argc == 1 ? backend_open(name, 0, message, sizeof message) : NULL;
    if (!device) {
        fprintf(stderr, "bench_cuda: %s\n", argc == 1 ? message : "usage: bench_cuda [--device NAME] [--cases KEY,KEY]");
        return 2;
    }
    printf("device: %s\n", device->device);
    run_cases(device, list);
    return wrong > 0;
}
