/* kernel_large.h: ops on shapes that a backend must cut to pieces, too large for the double reference.
 *
 * Expected results come from what is known of the input. Head loss: a few rows, repeated many times in a longer batch, have the losses and
 * gradients that they have alone, and the head's gradient is that many times as large; alone they fit a backend's scratch, together their
 * logits do not. K-means: points lie so near to planted centroids, or centroids are equal in such numbers, that the nearest is known. */
#ifndef SEMINDEX_KERNEL_LARGE_H
#define SEMINDEX_KERNEL_LARGE_H

#include "kernel_job.h"
#ifdef SEMINDEX_EMU
#include "../../kernels/emu/emu_log.h"
#endif

static const struct backend *large_backend;

enum { LARGE_ROWS = 60, LARGE_TIMES = 71, LARGE_CODES = 4500, LARGE_D = 4 };

struct large_loss { /* host */
    float loss, row_loss[LARGE_ROWS * LARGE_TIMES], dx[LARGE_ROWS * LARGE_TIMES * LARGE_D], grad[LARGE_CODES * LARGE_D];
};

static void *on_backend(const void *host, size_t bytes)
{
    void *memory = large_backend->alloc(bytes);
    large_backend->write(memory, host, bytes);
    return memory;
}

/* The same LARGE_ROWS rows `times` over. */
static void run_large_loss(struct large_loss *out, int32_t times)
{
    static float x[LARGE_ROWS * LARGE_TIMES * LARGE_D], w[LARGE_CODES * LARGE_D], zeros[LARGE_CODES * LARGE_D];
    static int32_t labels[LARGE_ROWS * LARGE_TIMES];
    const struct backend *be = large_backend;
    int32_t n = LARGE_ROWS * times;
    for (int32_t i = 0; i < n * LARGE_D; i++)
        x[i] = 2.0f * mix_uniform(1, (uint64_t)(i % (LARGE_ROWS * LARGE_D))) - 1.0f;
    for (int32_t i = 0; i < LARGE_CODES * LARGE_D; i++)
        w[i] = 4.0f * mix_uniform(2, (uint64_t)i) - 2.0f;
    for (int32_t i = 0; i < n; i++)
        labels[i] = i % LARGE_ROWS % 7 == 3 ? -1 : (int32_t)(mix64(3, (uint64_t)(i % LARGE_ROWS)) % LARGE_CODES);
    struct weight head = {LARGE_CODES, LARGE_D, on_backend(w, sizeof w), on_backend(zeros, sizeof zeros), NULL};
    assert_int_equal(be->weight_open(&head, WEIGHT_TRAIN), 0);
    struct act *in = be->act_alloc(n * LARGE_D), *dx = be->act_alloc(n * LARGE_D);
    int32_t *labelled = on_backend(labels, (size_t)n * sizeof *labels);
    float *loss = be->alloc(sizeof *loss), *row_loss = be->alloc((size_t)n * sizeof *row_loss);
    be->upload(in, x, n * LARGE_D);
    be->head_loss(&(struct head_loss){.n = n, .count = LARGE_CODES, .x = in, .head = &head, .scale = 0.75f, .weight = 0.5f,
                                      .labels = labelled, .loss = loss, .row_loss = row_loss, .dx = dx});
    be->read(&out->loss, loss, sizeof *loss);
    be->read(out->row_loss, row_loss, (size_t)n * sizeof *row_loss);
    be->download(out->dx, dx, n * LARGE_D);
    be->read(out->grad, head.grad, sizeof out->grad);
    be->weight_close(&head);
    void *all[] = {head.master, head.grad, in, dx, labelled, loss, row_loss};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->release(all[i]);
}

/* What both hold, up to sums in another order and, for activations, one rounding. */
static void assert_alike(const float *a, const float *b, int64_t n, int64_t period, double factor, double more)
{
    double top = 0, worst = 0;
    for (int64_t i = 0; i < period; i++)
        top = fmax(top, fabs(factor * (double)b[i]));
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - factor * (double)b[i % period]));
    if (!(top > 0 && worst <= (tolerance_f32 + more) * top))
        fail_msg("off by %.3g of %.3g", worst, top);
}

static void loss_in_pieces(void **state)
{
    (void)state;
    static struct large_loss few, many;
    double unit = large_backend->act_bytes == sizeof(float) ? 0 : tolerance_unit;
    run_large_loss(&few, 1);
    run_large_loss(&many, LARGE_TIMES);
    assert_alike(&many.loss, &few.loss, 1, 1, LARGE_TIMES, 0);
    assert_alike(many.row_loss, few.row_loss, LARGE_ROWS * LARGE_TIMES, LARGE_ROWS, 1, 0);
    assert_alike(many.dx, few.dx, LARGE_ROWS * LARGE_TIMES * LARGE_D, LARGE_ROWS * LARGE_D, 1, unit);
    /* Here and there a logit's gradient is rounded the other way. */
    assert_alike(many.grad, few.grad, LARGE_CODES * LARGE_D, LARGE_CODES * LARGE_D, LARGE_TIMES, unit / 8);
}

enum { CLUSTER_POINTS = 300, CLUSTER_CENTRES = 2300, CLUSTER_D = 12 };

/* kind 0: distinct centroids far from the origin; 1: centroid i equals centroid i % 3; 2: all equal. */
static void run_clusters(int kind)
{
    static float x[CLUSTER_POINTS * CLUSTER_D], c[CLUSTER_CENTRES * CLUSTER_D], distance[CLUSTER_POINTS];
    int32_t assign[CLUSTER_POINTS];
    const struct backend *be = large_backend;
    int32_t distinct = kind == 0 ? CLUSTER_CENTRES : kind == 1 ? 3 : 1;
    for (int32_t i = 0; i < CLUSTER_CENTRES * CLUSTER_D; i++)
        c[i] = 30.0f + mix_uniform(4, (uint64_t)(i % (distinct * CLUSTER_D)));
    for (int32_t i = 0; i < CLUSTER_POINTS; i++)
        for (int32_t k = 0; k < CLUSTER_D; k++)
            x[i * CLUSTER_D + k] = c[i * 7 % distinct * CLUSTER_D + k] + 0.03125f * (mix_uniform(5, (uint64_t)(i * CLUSTER_D + k)) - 0.5f);
    float *points = on_backend(x, sizeof x), *centres = on_backend(c, sizeof c), *far = be->alloc(sizeof distance);
    int32_t *chosen = be->alloc(sizeof assign);
    be->kmeans_assign(chosen, far, points, centres, CLUSTER_POINTS, CLUSTER_CENTRES, CLUSTER_D);
    be->read(assign, chosen, sizeof assign);
    be->read(distance, far, sizeof distance);
    for (int32_t i = 0; i < CLUSTER_POINTS; i++) {
        double sum = 0;
        for (int32_t k = 0; k < CLUSTER_D; k++)
            sum += pow((double)x[i * CLUSTER_D + k] - (double)c[i * 7 % distinct * CLUSTER_D + k], 2);
        assert_int_equal(assign[i], i * 7 % distinct);
        assert_true(fabs((double)distance[i] - sum) <= tolerance_f32 * sum);
    }
    void *all[] = {points, centres, far, chosen};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->release(all[i]);
}

/* How many centroids stay to be measured is the data's affair: a launcher cannot declare it, and the emulation need not complain. */
static void many_centroids(void **state)
{
    (void)state;
#ifdef SEMINDEX_EMU
    int64_t before;
    emu_cost_mismatches(&before);
#endif
    for (int kind = 0; kind < 3; kind++)
        run_clusters(kind);
#ifdef SEMINDEX_EMU
    if (before == 0)
        emu_forget_mismatches();
#endif
}

#endif
