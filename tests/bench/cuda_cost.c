/* cuda_cost.c: what the CUDA backend launches, moves and computes at T5-base shapes, and how long that should take; `make cuda-cost`.
 *
 *   cuda_cost [--json FILE]      exit status 1 when a limit below is broken
 *
 * Linked in an emulated build, it runs the program's own passes (t5_encode, beam_run, seq2seq_train, t5_adamw, kmeans_assign) with launches
 * recorded instead of executed: a launch is noted with what its launcher declares, memory is asked for but never touched. The declarations are
 * checked on small shapes by the emulated conformance test. The cases and the floors beside them are t5_base.h.
 *
 * Predicted time of a launch = 1.3 us + max(bytes / 4.3 TB/s, operations / 790 TFLOP/s); of a case, the sum. So it supposes: launches of a
 * recorded graph cost 1.3 us each and do not overlap; every byte comes from memory, though 50 MB of cache hold most of what one kernel
 * leaves to the next; products reach the peak, small ones too, and so do kernels that use no tensor cores. The first and last err high and
 * low; a run on a device says by how much. It leaves out what it costs that the blocks of one launch wait for each other (LAUNCH_PHASES); how often they
 * do is printed beside it, with what that would be at 1 us each. Writes and reads of the host (a search: tokens and offsets in, results out) are counted, not timed.
 *
 * Launches of one layer = those of 12 layers less those of 11. Table entries that mark where a phase begins are the only ones wrapped. */
#include "../../kernels/emu/emu_log.h"
#include "t5_base.h"

enum { LAYER_MOST_ENCODER = 7, LAYER_MOST_DECODER = 11, BEAM_MOST = 3, MARKS_MOST = 128, KERNELS_MOST = 128 };
static const double launch_s = 1.3e-6, meeting_s = 1e-6, bytes_most = 1.25, operations_most = 1.1;

/* ---- one run: launches between marks ---- */

struct tally {
    int64_t launches;
    struct amount sum;
    double seconds;
};
struct mark {
    int32_t phase; /* of the case's floors */
    bool beam;     /* inside beam_step */
    int64_t from;  /* launch */
};
struct kernel {
    const char *name;
    int32_t threads;
    int64_t blocks; /* most */
    struct tally t;
};
struct trace {
    struct mark mark[MARKS_MOST];
    int32_t marks;
    int64_t writes, reads; /* of the host */
    int64_t meetings;      /* of all blocks, inside launches */
    struct tally phase[PHASES_MOST], all, layers, beam[POSITIONS];
    struct kernel kernel[KERNELS_MOST];
    int32_t kernels;
};

static const struct backend *cuda;
static struct trace *now;

static void mark(int32_t phase, bool beam)
{
    CHECK(now->marks < MARKS_MOST && phase < PHASES_MOST);
    int64_t launches;
    emu_launches(&launches);
    now->mark[now->marks++] = (struct mark){phase, beam, launches};
}

static int32_t phase_now(void)
{
    return now->mark[now->marks - 1].phase;
}

static void on_ancestors(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity)
{
    mark(2 + position, false);
    cuda->ancestors(out, in, parent, n, position, capacity);
}

static void on_beam_step(const struct beam_step *a)
{
    mark(phase_now(), true);
    cuda->beam_step(a);
    mark(phase_now(), false);
}

static void on_rmsnorm_backward(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                                float eps)
{
    if (phase_now() == 0)
        mark(1, false);
    cuda->rmsnorm_backward(dr, dw, dy, r, w, n, d, eps);
}

/* Another pass of the same step begins. */
static void on_embed(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop)
{
    if (phase_now() == 1 && drop.rate > 0)
        mark(0, false);
    cuda->embed(y, table, ids, n, drop);
}

static double on_sum_squares(const float *x, int64_t n)
{
    mark(2, false);
    return cuda->sum_squares(x, n);
}

static void on_write(void *memory, const void *host, size_t bytes)
{
    now->writes++;
    cuda->write(memory, host, bytes);
}

static void on_read(void *host, const void *memory, size_t bytes)
{
    now->reads++;
    cuda->read(host, memory, bytes);
}

static void on_land(struct landing *l, size_t at, const void *memory, size_t bytes)
{
    now->reads++;
    cuda->land(l, at, memory, bytes);
}

static struct backend traced_table(void)
{
    struct backend t = *cuda;
    t.ancestors = on_ancestors;
    t.beam_step = on_beam_step;
    t.rmsnorm_backward = on_rmsnorm_backward;
    t.embed = on_embed;
    t.sum_squares = on_sum_squares;
    t.write = on_write;
    t.read = on_read;
    t.land = on_land;
    return t;
}

static double launch_time(struct amount a)
{
    return launch_s + amount_s(a);
}

static void tally_add(struct tally *t, struct amount a)
{
    t->launches++;
    t->sum.bytes += a.bytes;
    t->sum.operations += a.operations;
    t->seconds += launch_time(a);
}

static void kernel_add(struct trace *t, const struct emu_launch *l, struct amount a)
{
    int32_t i = 0;
    while (i < t->kernels && strcmp(t->kernel[i].name, l->kernel) != 0)
        i++;
    CHECK(i < KERNELS_MOST);
    struct kernel *k = &t->kernel[i];
    if (i == t->kernels)
        t->kernel[t->kernels++] = (struct kernel){.name = l->kernel};
    k->threads = l->threads > k->threads ? l->threads : k->threads;
    k->blocks = l->blocks > k->blocks ? l->blocks : k->blocks;
    tally_add(&k->t, a);
}

/* Sums the log up by phase and by kernel. */
static void trace_end(struct trace *t)
{
    int64_t launches;
    const struct emu_launch *l = emu_launches(&launches);
    int32_t at = 0;
    for (int64_t i = 0; i < launches; i++, l++) {
        struct amount a = {l->bytes, l->operations};
        while (at + 1 < t->marks && t->mark[at + 1].from <= i)
            at++;
        const struct mark *m = &t->mark[at];
        tally_add(&t->all, a);
        tally_add(&t->phase[m->phase], a);
        if (m->beam)
            tally_add(&t->beam[m->phase - 2], a);
        kernel_add(t, l, a);
        t->meetings += l->phases - 1;
    }
}

/* ---- the cases ---- */

static void fail(const struct err *e)
{
    fprintf(stderr, "cuda_cost: %s\n", e->message);
    exit(2);
}

static void trace_begin(struct trace *t)
{
    emu_record_only(true); /* an empty list */
    t->writes = t->reads = 0;
    t->marks = 0;
    mark(0, false);
}

static void trace_search(struct trace *t, struct base_model *b, const struct base_case *c)
{
    struct base_search s;
    if (!base_search_open(&s, b, c->rows, c->tokens))
        fail(&b->e);
    trace_begin(t);
    t5_encode(b->model, s.work, &(struct t5_batch){s.rows, s.tokens, s.offsets}, 0);
    mark(1, false);
    const struct beam_search search = {.trie = trie_view_of(b->trie), .placed = b->placed, .width = WIDTH};
    CHECK(beam_run(s.beam, s.work, &search) == 0);
    trace_end(t);
    base_search_close(&s);
}

static void trace_train(struct trace *t, struct base_model *b, const struct base_case *c)
{
    struct base_train s;
    if (!base_train_open(&s, b, c))
        fail(&b->e);
    trace_begin(t);
    base_train_step(&s);
    trace_end(t);
    base_train_close(&s);
}

static void trace_kmeans(struct trace *t, const struct backend *be, const struct base_case *c)
{
    struct base_kmeans s;
    if (!base_kmeans_open(&s, be, c->rows, c->tokens))
        fail(&(struct err){.message = "no memory for k-means"});
    trace_begin(t);
    be->kmeans_assign(s.assign, s.distance, s.x, s.centroids, s.n, s.k, D);
    trace_end(t);
    base_kmeans_close(&s);
}

/* Case c on a model of so many layers in each stack. */
static struct trace *trace_case(const struct backend *be, const struct base_case *c, int32_t layers)
{
    struct trace *t = now = xcalloc(1, sizeof *t);
    struct base_model b;
    if (c->kind == CASE_KMEANS) {
        trace_kmeans(t, be, c);
        return t;
    }
    mark(0, false);
    if (!base_open(&b, be, layers, c->kind == CASE_TRAIN, 0))
        fail(&b.e);
    if (c->kind == CASE_SEARCH)
        trace_search(t, &b, c);
    else
        trace_train(t, &b, c);
    base_close(&b);
    return t;
}

/* ---- limits ---- */

static int32_t broken;
static struct str limits_json;

static void limit(const char *what, double value, double most, const char *unit)
{
    bool fine = value <= most;
    broken += !fine;
    printf("  %-4s %-58s %8.3g%s, at most %g%s\n", fine ? "ok" : "FAIL", what, value, unit, most, unit);
    str_printf(&limits_json, "%s{\"limit\":\"%s\",\"value\":%.6g,\"most\":%g,\"ok\":%s}", limits_json.size ? "," : "", what, value, most,
               fine ? "true" : "false");
}

static void case_limits(const struct base_case *c, const struct trace *t, const struct trace *less)
{
    double seconds;
    const struct floors f = case_floors(c);
    const struct amount floor = floors_sum(&f, &seconds);
    if (c->kind == CASE_SEARCH) {
        double steps = 0, beam = 0;
        for (int32_t p = 0; p < POSITIONS; p++) {
            double layer = (double)(t->phase[2 + p].launches - less->phase[2 + p].launches);
            steps = layer > steps ? layer : steps;
            beam = (double)t->beam[p].launches > beam ? (double)t->beam[p].launches : beam;
        }
        limit("launches of an encoder layer", (double)(t->phase[0].launches - less->phase[0].launches), LAYER_MOST_ENCODER, "");
        limit("launches of a decoder layer in a step, the most", steps, LAYER_MOST_DECODER, "");
        limit("launches of a beam step, the most", beam, BEAM_MOST, "");
    }
    if (c->kind == CASE_SEARCH && c->rows == 1)
        limit("bytes / floor", t->all.sum.bytes / floor.bytes, bytes_most, "");
    if (c->kind == CASE_SEARCH && c->rows > 1)
        limit("operations / floor", t->all.sum.operations / floor.operations, operations_most, "");
    if (c->most_ms > 0)
        limit("predicted time", 1e3 * t->all.seconds, c->most_ms, " ms");
}

/* ---- what is printed ---- */

static void print_row(const char *name, const struct tally *t, struct amount floor, double floor_s)
{
    printf("  %-12s %8lld %10.1f %10.1f %6.3f %10.2f %10.2f %6.3f %11.1f %11.1f %6.2f\n", name, (long long)t->launches, 1e-6 * t->sum.bytes,
           1e-6 * floor.bytes, t->sum.bytes / floor.bytes, 1e-9 * t->sum.operations, 1e-9 * floor.operations,
           floor.operations > 0 ? t->sum.operations / floor.operations : 0, 1e6 * t->seconds, 1e6 * floor_s, t->seconds / floor_s);
}

static int by_time(const void *a, const void *b)
{
    double x = ((const struct kernel *)a)->t.seconds, y = ((const struct kernel *)b)->t.seconds;
    return (x < y) - (x > y);
}

static void print_kernels(struct trace *t)
{
    qsort(t->kernel, (size_t)t->kernels, sizeof *t->kernel, by_time);
    printf("  %-34s %8s %10s %10s %11s  %s\n", "kernel", "launches", "MB", "GFLOP", "us", "share");
    for (int32_t i = 0; i < t->kernels; i++) {
        const struct kernel *k = &t->kernel[i];
        printf("  %-34s %8lld %10.1f %10.2f %11.1f %5.1f %%\n", k->name, (long long)k->t.launches, 1e-6 * k->t.sum.bytes,
               1e-9 * k->t.sum.operations, 1e6 * k->t.seconds, 100 * k->t.seconds / t->all.seconds);
    }
}

static void print_case(const struct base_case *c, struct trace *t)
{
    double seconds;
    const struct floors f = case_floors(c);
    const struct amount floor = floors_sum(&f, &seconds);
    printf("\n%s\n  %-12s %8s %10s %10s %6s %10s %10s %6s %11s %11s %6s\n", c->name, "phase", "launches", "MB", "floor", "ratio", "GFLOP",
           "floor", "ratio", "us", "floor", "ratio");
    for (int32_t p = 0; p < f.count; p++)
        print_row(f.name[p], &t->phase[p], f.phase[p], amount_s(f.phase[p]));
    print_row("all", &t->all, floor, seconds);
    printf("  launches alone %.3f ms; host: %lld writes, %lld reads\n", 1e3 * launch_s * (double)t->all.launches, (long long)t->writes,
           (long long)t->reads);
    if (t->meetings > 0)
        printf("  %lld meetings of all blocks inside launches, which the prediction leaves out; at %.1f us each %.3f ms more\n",
               (long long)t->meetings, 1e6 * meeting_s, 1e3 * meeting_s * (double)t->meetings);
    print_kernels(t);
    printf("  predicted=%.3f ms floor=%.3f ms (table of floors: %g) ratio=%.2f, of the table %.2f; target %g ms\n", 1e3 * t->all.seconds,
           1e3 * seconds, c->row_ms, t->all.seconds / seconds, 1e3 * t->all.seconds / c->row_ms, c->target_ms);
}

/* ---- JSON ---- */

static void json_tally(struct str *s, const char *name, const struct tally *t)
{
    str_printf(s, "{\"name\":\"%s\",\"launches\":%lld,\"bytes\":%.0f,\"operations\":%.0f,\"predicted_us\":%.3f", name, (long long)t->launches,
               t->sum.bytes, t->sum.operations, 1e6 * t->seconds);
}

static void json_case(struct str *s, const struct base_case *c, const struct trace *t)
{
    double seconds;
    const struct floors f = case_floors(c);
    const struct amount floor = floors_sum(&f, &seconds);
    str_puts(s, s->size > 0 ? "," : "");
    json_tally(s, c->key, &t->all);
    str_printf(s, ",\"floor_bytes\":%.0f,\"floor_operations\":%.0f,\"floor_us\":%.3f,\"table_us\":%g,\"host_writes\":%lld,\"host_reads\":%lld",
               floor.bytes, floor.operations, 1e6 * seconds, 1e3 * c->row_ms, (long long)t->writes, (long long)t->reads);
    str_puts(s, ",\"phases\":[");
    for (int32_t p = 0; p < f.count; p++) {
        str_puts(s, p ? "," : "");
        json_tally(s, f.name[p], &t->phase[p]);
        str_printf(s, ",\"floor_bytes\":%.0f,\"floor_operations\":%.0f,\"floor_us\":%.3f}", f.phase[p].bytes, f.phase[p].operations,
                   1e6 * amount_s(f.phase[p]));
    }
    str_puts(s, "],\"kernels\":[");
    for (int32_t i = 0; i < t->kernels; i++) {
        const struct kernel *k = &t->kernel[i];
        str_puts(s, i ? "," : "");
        json_tally(s, k->name, &k->t);
        str_printf(s, ",\"threads\":%d,\"blocks\":%lld}", k->threads, (long long)k->blocks);
    }
    str_puts(s, "]}");
}

static int write_json(const char *path, const struct str *cases)
{
    FILE *f = fopen(path, "w");
    if (!f || fprintf(f, "{\"cases\":[%s],\"limits\":[%s]}\n", cases->data, limits_json.data) < 0 || fclose(f) != 0) {
        fprintf(stderr, "cuda_cost: %s: cannot be written\n", path);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    char message[256];
    struct str json = {0};
    cuda = backend_open("cuda", 0, message, sizeof message);
    if (!cuda || (argc != 1 && !(argc == 3 && strcmp(argv[1], "--json") == 0))) {
        fprintf(stderr, "cuda_cost: %s\n", cuda ? "usage: cuda_cost [--json FILE]" : message);
        return 2;
    }
    const struct backend table = traced_table();
    emu_record_only(true);
    printf("T5-base, beam %d, %d documents; predicted: %.1f us a launch, %.1f TB/s, %.0f TFLOP/s\n", WIDTH, DOCUMENTS, 1e6 * launch_s,
           1e-12 * peak_bytes, 1e-12 * peak_operations);
    for (size_t i = 0; i < CASES; i++) {
        const struct base_case *c = &base_cases[i];
        struct trace *t = trace_case(&table, c, LAYERS), *less = c->kind == CASE_SEARCH ? trace_case(&table, c, LAYERS - 1) : NULL;
        print_case(c, t);
        case_limits(c, t, less);
        json_case(&json, c, t);
        free(t);
        free(less);
    }
    printf("\n%d limits broken\n", broken);
    if (argc == 3 && write_json(argv[2], &json) != 0)
        return 2;
    return broken > 0;
}
