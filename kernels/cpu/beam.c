/* beam.c: one step of constrained beam search.
 *
 * Beams go in chunks of rows. Logits of a chunk are computed transposed, [codes, rows]: head rows are the left operand as they are stored
 * (no packing, whatever K is), divided over the threads by codes. Every logit is one chain of additions in a fixed order, so equal head
 * rows and equal hidden rows give equal bits and exact ties stay ties. Then each row's log-sum-exp (also divided by codes, summed in
 * double), and then the candidates (divided by requests). Candidates of a request arrive in the order of the tie rule (parent row, then
 * code, ascending), so among equal scores the earlier wins: the best `width` so far are kept in a heap whose root is the worst, inside the
 * request's own stretch of the output arrays, [r * width ..). At the end each stretch is sorted and the stretches are moved together. */
#include <math.h>
#include <string.h>

#include "cpu.h"

enum { ROWS_MOST = 64 };

struct search {
    const struct beam_step *a;
    int32_t first, rows, width; /* rows of this chunk, padded to lanes */
    float *logits;              /* [codes, width] in the shared block */
    double *lse;                /* [ROWS_MOST] */
    double *partial;            /* [parts, ROWS_MOST] log-sum-exp of a part of the codes */
    int32_t *kept;              /* [requests] candidates in the heap */
    double *cut_top, *cut_sum;  /* [requests] running log-sum-exp of what was dropped */
};

static void logits_part(void *arg, int part, int parts)
{
    const struct search *t = arg;
    const struct beam_step *a = t->a;
    int32_t lanes = cpu.simd->lanes, d = a->head->cols;
    struct arena scratch = arena_of(part);
    struct span s = pool_span(a->codes, 12, part, parts);
    float *xt = arena_take(&scratch, (int64_t)d * t->width);
    cpu.simd->transpose(xt, t->width, act_data(a->h) + (int64_t)t->first * d, d, t->rows, d);
    cpu.simd->product(&(struct product){(int32_t)(s.end - s.begin), t->width, d, a->head->master + (a->first + s.begin) * d, d, 1, xt,
                                        t->width,
                                        2 * lanes, t->logits + s.begin * t->width, t->width, a->scale, 0});
}

/* Children of a beam: nodes begin..end of this level. */
struct family {
    uint32_t begin, end;
};
static struct family children_of(const struct beam_step *a, int32_t row)
{
    if (a->level == 0)
        return (struct family){0, a->trie->level[0].nodes};
    const uint32_t *first = a->trie->level[a->level - 1].first;
    return (struct family){first[a->in->node[row]], first[a->in->node[row] + 1]};
}
static uint32_t code_of(const struct trie_level *level, uint32_t node)
{
    return level->wide ? ((const uint32_t *)level->codes)[node] : ((const uint16_t *)level->codes)[node];
}

static float logit_at(const struct search *t, uint32_t code, int32_t row)
{
    return t->logits[(int64_t)code * t->width + row];
}

static double lse_of_children(const struct search *t, int32_t row)
{
    const struct trie_level *level = &t->a->trie->level[t->a->level];
    struct family f = children_of(t->a, t->first + row);
    float top = -INFINITY;
    for (uint32_t n = f.begin; n < f.end; n++)
        if (code_of(level, n) < (uint32_t)t->a->codes && logit_at(t, code_of(level, n), row) > top)
            top = logit_at(t, code_of(level, n), row);
    double sum = 0;
    for (uint32_t n = f.begin; n < f.end; n++)
        if (code_of(level, n) < (uint32_t)t->a->codes)
            sum += (double)expf(logit_at(t, code_of(level, n), row) - top);
    return top + log(sum);
}

static void children_part(void *arg, int part, int parts)
{
    const struct search *t = arg;
    struct span s = pool_span(t->rows, 1, part, parts);
    for (int64_t i = s.begin; i < s.end; i++)
        t->lse[i] = lse_of_children(t, (int32_t)i);
}

/* Each part of the codes on its own, then joined in order: a part is a multiple of 12 codes whatever the rows. */
static void all_part(void *arg, int part, int parts)
{
    const struct search *t = arg;
    struct span s = pool_span(t->a->codes, 12, part, parts);
    if (s.end > s.begin)
        cpu.simd->columns_lse(t->logits + s.begin * t->width, (int32_t)(s.end - s.begin), t->width, t->partial + (int64_t)part * ROWS_MOST);
    for (int32_t i = 0; i < t->width && s.end <= s.begin; i++)
        t->partial[(int64_t)part * ROWS_MOST + i] = -INFINITY;
}

static void softmax_sums(const struct search *t, int parts)
{
    if (t->a->renormalise) {
        pool_run(children_part, (void *)(uintptr_t)t, parts_for(t->rows, 4096));
        return;
    }
    pool_run(all_part, (void *)(uintptr_t)t, parts);
    for (int32_t i = 0; i < t->rows; i++) {
        double top = t->partial[i], sum = 0;
        for (int part = 1; part < parts; part++)
            top = fmax(top, t->partial[(int64_t)part * ROWS_MOST + i]);
        for (int part = 0; part < parts; part++)
            sum += exp(t->partial[(int64_t)part * ROWS_MOST + i] - top);
        t->lse[i] = top + log(sum);
    }
}

/* ---- the heap of a request ---- */

struct candidate {
    float score;
    int32_t parent;
    uint32_t code, node;
};

static struct candidate get(const struct beams *b, int64_t at)
{
    return (struct candidate){b->score[at], b->parent[at], b->code[at], b->node[at]};
}

static void put(struct beams *b, int64_t at, struct candidate c)
{
    b->score[at] = c.score;
    b->parent[at] = c.parent;
    b->code[at] = c.code;
    b->node[at] = c.node;
}

static bool better(struct candidate x, struct candidate y)
{
    if (x.score != y.score)
        return x.score > y.score;
    return x.parent != y.parent ? x.parent < y.parent : x.code < y.code;
}

/* Places c at the root of a heap of n (worst on top) and lets it sink. */
static void sink(struct beams *b, int64_t base, int32_t at, int32_t n, struct candidate c)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && better(get(b, base + child), get(b, base + child + 1)))
            child++;
        if (!better(c, get(b, base + child)))
            break;
        put(b, base + at, get(b, base + child));
        at = child;
    }
    put(b, base + at, c);
}

static void rise(struct beams *b, int64_t base, int32_t at, struct candidate c)
{
    while (at > 0 && better(get(b, base + (at - 1) / 2), c)) {
        put(b, base + at, get(b, base + (at - 1) / 2));
        at = (at - 1) / 2;
    }
    put(b, base + at, c);
}

/* Heap to list, best first. */
static void sort_heap(struct beams *b, int64_t base, int32_t n)
{
    for (int32_t last = n - 1; last > 0; last--) {
        struct candidate worst = get(b, base), moved = get(b, base + last);
        sink(b, base, 0, last, moved);
        put(b, base + last, worst);
    }
}

static void drop(const struct search *t, int32_t request, float score)
{
    t->a->cut[request]++;
    if (!t->a->log_mass)
        return;
    double *top = &t->cut_top[request], *sum = &t->cut_sum[request];
    if ((double)score > *top) {
        *sum = *sum * exp(*top - (double)score) + 1.0;
        *top = (double)score;
    } else {
        *sum += exp((double)score - *top);
    }
}

static void offer(const struct search *t, int32_t request, struct candidate c)
{
    const struct beam_step *a = t->a;
    int64_t base = (int64_t)request * a->width;
    if (t->kept[request] < a->width) {
        rise(a->out, base, t->kept[request]++, c);
    } else if (c.score > a->out->score[base]) {
        drop(t, request, a->out->score[base]);
        sink(a->out, base, 0, a->width, c);
    } else {
        drop(t, request, c.score);
    }
}

static void offer_row(const struct search *t, int32_t request, int32_t row)
{
    const struct beam_step *a = t->a;
    const struct trie_level *level = &a->trie->level[a->level];
    struct family f = children_of(a, row);
    double base = a->in->score[row] - t->lse[row - t->first];
    for (uint32_t n = f.begin; n < f.end; n++) {
        uint32_t code = code_of(level, n);
        if (code < (uint32_t)a->codes)
            offer(t, request, (struct candidate){(float)(base + logit_at(t, code, row - t->first)), row, code, n});
    }
}

static void choose_part(void *arg, int part, int parts)
{
    const struct search *t = arg;
    const struct beams *in = t->a->in;
    struct span s = pool_span(in->requests, 1, part, parts);
    for (int64_t r = s.begin; r < s.end; r++) {
        int32_t begin = in->offsets[r] > t->first ? in->offsets[r] : t->first;
        int32_t end = in->offsets[r + 1] < t->first + t->rows ? in->offsets[r + 1] : t->first + t->rows;
        for (int32_t row = begin; row < end; row++)
            offer_row(t, (int32_t)r, row);
    }
}

static void sort_part(void *arg, int part, int parts)
{
    const struct search *t = arg;
    struct span s = pool_span(t->a->in->requests, 1, part, parts);
    for (int64_t r = s.begin; r < s.end; r++) {
        sort_heap(t->a->out, r * t->a->width, t->kept[r]);
        if (t->a->log_mass)
            t->a->log_mass[r] = t->cut_sum[r] > 0 ? (float)(t->cut_top[r] + log(t->cut_sum[r])) : -INFINITY;
    }
}

/* Stretches [r * width ..) become one packed list with offsets. */
static void move_together(const struct search *t)
{
    struct beams *out = t->a->out;
    int32_t total = 0;
    for (int32_t r = 0; r < t->a->in->requests; r++) {
        out->offsets[r] = total;
        for (int32_t i = 0; i < t->kept[r]; i++, total++) {
            put(out, total, get(out, (int64_t)r * t->a->width + i));
            if (t->a->tokens)
                t->a->tokens[total] = t->a->token_base + (int32_t)out->code[total];
        }
    }
    out->offsets[t->a->in->requests] = total;
    out->requests = t->a->in->requests;
    out->total = total;
}

static void start(struct search *t, struct arena *shared)
{
    int32_t requests = t->a->in->requests;
    t->lse = (double *)(void *)arena_take(shared, 2 * ROWS_MOST);
    t->partial = (double *)(void *)arena_take(shared, 2 * (int64_t)ROWS_MOST * cpu.threads);
    t->cut_top = (double *)(void *)arena_take(shared, 2 * (int64_t)requests);
    t->cut_sum = (double *)(void *)arena_take(shared, 2 * (int64_t)requests);
    t->kept = (int32_t *)(void *)arena_take(shared, requests);
    for (int32_t r = 0; r < requests; r++) {
        t->kept[r] = t->a->cut[r] = 0;
        t->cut_top[r] = -INFINITY;
        t->cut_sum[r] = 0;
    }
}

void cpu_beam_step(const struct beam_step *a)
{
    struct arena shared = {cpu.shared, 0};
    struct search t = {.a = a};
    int32_t total = a->in->offsets[a->in->requests], lanes = cpu.simd->lanes;
    start(&t, &shared);
    int64_t fits = (CPU_SCRATCH - shared.used) / a->codes / lanes * lanes;
    CHECK(fits >= lanes);
    int32_t chunk = fits < ROWS_MOST ? (int32_t)fits : ROWS_MOST;
    t.logits = arena_take(&shared, (int64_t)a->codes * (total < chunk ? round_up(total, lanes) : chunk));
    for (t.first = 0; t.first < total; t.first += chunk) {
        t.rows = total - t.first < chunk ? total - t.first : chunk;
        t.width = round_up(t.rows, lanes);
        int parts = parts_for(a->codes, (int64_t)t.width * a->head->cols / 16);
        pool_run(logits_part, &t, parts);
        softmax_sums(&t, parts);
        pool_run(choose_part, &t, parts_for(a->in->requests, 65536));
    }
    pool_run(sort_part, &t, parts_for(a->in->requests, (int64_t)a->width * 16));
    move_together(&t);
}
