/* seq2seq.c: see seq2seq.h for the promise.
 *
 * Position t of sample i is decoder token i * T + t, so the rows of one position are picked by a constant index list, made once. Each
 * position has its own head rows, hence one head_loss a position; together the positions cover every decoder token once, and so the
 * gradient of the decoder's output is written whole. A text target has as many decoder tokens as it is long, packed, and one head_loss over the text
 * rows of the vocabulary covers them all. Both kinds differ in how targets are written and in that loss, and in nothing else. */
#include "seq2seq.h"

#include "../base/mem.h"
#include "../text/tokenizer.h"

#include <stdlib.h>

struct seq2seq {
    const struct backend *be;
    struct t5 *model;
    struct t5_work *work;
    struct code_layout layout; /* positions 0: text targets */
    int32_t rows, tokens, targets;             /* targets: T, or the longest text */
    int32_t *decoder_tokens, *decoder_offsets; /* host: [rows * T], [rows + 1] */
    int32_t *host_labels;                      /* host: [T][rows]; of texts packed */
    int32_t *pick, *labels;                    /* backend: [T][rows]; pick is not read for texts */
    float *loss;                               /* backend: [T] */
    struct act *ddecoded;                      /* [rows * T, D] */
};

void code_batch_init(struct code_batch *b, int32_t rows, int32_t tokens, int32_t targets)
{
    b->count = 0;
    b->tokens = xcalloc((size_t)tokens, sizeof *b->tokens);
    b->offsets = xcalloc((size_t)rows + 1, sizeof *b->offsets);
    b->codes = xcalloc((size_t)rows * (size_t)targets, sizeof *b->codes);
    b->labels = xcalloc((size_t)rows * (size_t)targets, sizeof *b->labels);
}

void code_batch_free(struct code_batch *b)
{
    free(b->tokens);
    free(b->offsets);
    free(b->codes);
    free(b->labels);
    *b = (struct code_batch){0};
}

static void write_picks(struct seq2seq *s)
{
    int32_t positions = s->layout.positions;
    for (int32_t t = 0; t < positions; t++)
        for (int32_t i = 0; i < s->rows; i++)
            s->host_labels[t * s->rows + i] = i * positions + t;
    s->be->write(s->pick, s->host_labels, (size_t)positions * (size_t)s->rows * sizeof *s->pick);
}

static struct seq2seq *init(struct t5 *model, const struct code_layout *layout, int32_t targets, int32_t rows, int32_t tokens, struct err *e)
{
    struct seq2seq *s = xcalloc(1, sizeof *s);
    size_t cells = (size_t)rows * (size_t)targets;
    *s = (struct seq2seq){.be = t5_backend(model), .model = model, .layout = *layout, .rows = rows, .tokens = tokens, .targets = targets};
    struct t5_limits limits = {.encoder_tokens = tokens, .decoder_tokens = (int32_t)cells, .rows = rows, .train = true};
    s->work = t5_work_init(model, &limits, e);
    if (s->work == NULL) {
        free(s);
        return NULL;
    }
    s->decoder_tokens = xcalloc(cells, sizeof *s->decoder_tokens);
    s->decoder_offsets = xcalloc((size_t)rows + 1, sizeof *s->decoder_offsets);
    s->host_labels = xcalloc(cells, sizeof *s->host_labels);
    s->pick = s->be->alloc(cells * sizeof *s->pick);
    s->labels = s->be->alloc(cells * sizeof *s->labels);
    s->loss = s->be->alloc((size_t)targets * sizeof *s->loss);
    s->ddecoded = s->be->act_alloc((int64_t)cells * t5_config_of(model)->d_model);
    if (!s->pick || !s->labels || !s->loss || !s->ddecoded) {
        seq2seq_free(s);
        err_set(e, ERR_OS, "not enough memory for batches of %d samples", rows);
        return NULL;
    }
    write_picks(s);
    return s;
}

struct seq2seq *seq2seq_init(struct t5 *model, const struct code_layout *layout, int32_t rows, int32_t tokens, struct err *e)
{
    return init(model, layout, layout->positions, rows, tokens, e);
}

struct seq2seq *seq2seq_init_text(struct t5 *model, int32_t targets, int32_t rows, int32_t tokens, struct err *e)
{
    return init(model, &(struct code_layout){0}, targets, rows, tokens, e);
}

void seq2seq_free(struct seq2seq *s)
{
    if (s == NULL)
        return;
    t5_work_free(s->work);
    s->be->release(s->pick);
    s->be->release(s->labels);
    s->be->release(s->loss);
    s->be->release(s->ddecoded);
    free(s->decoder_tokens);
    free(s->decoder_offsets);
    free(s->host_labels);
    free(s);
}

/* Decoder inputs [0, token(c^1) .. token(c^(T-1))] and labels by position. */
static void write_targets(struct seq2seq *s, const struct code_batch *b)
{
    int32_t positions = s->layout.positions;
    s->decoder_offsets[0] = 0;
    for (int32_t i = 0; i < b->count; i++) {
        int32_t *row = s->decoder_tokens + i * positions;
        row[0] = 0;
        for (int32_t t = 0; t < positions; t++) {
            if (t + 1 < positions)
                row[t + 1] = s->layout.base + code_layout_first(&s->layout, t) + (int32_t)b->codes[i * positions + t];
            s->host_labels[t * s->rows + i] = b->labels[i * positions + t];
        }
        s->decoder_offsets[i + 1] = (i + 1) * positions;
    }
    s->be->write(s->labels, s->host_labels, (size_t)positions * (size_t)s->rows * sizeof *s->labels);
}

int32_t seq2seq_text_length(const uint32_t *tokens, int32_t targets)
{
    int32_t n = 0;
    while (n < targets && tokens[n++] != TOKEN_EOS)
        ;
    return n;
}

/* Decoder inputs [0, tokens without the last] and labels, packed. */
static void write_texts(struct seq2seq *s, const struct code_batch *b)
{
    int32_t at = 0;
    for (int32_t i = 0; i < b->count; i++) {
        const uint32_t *text = b->codes + (int64_t)i * s->targets;
        int32_t n = seq2seq_text_length(text, s->targets);
        s->decoder_offsets[i] = at;
        for (int32_t t = 0; t < n; t++) {
            s->decoder_tokens[at + t] = t > 0 ? (int32_t)text[t - 1] : 0;
            s->host_labels[at + t] = b->labels[(int64_t)i * s->targets + t];
        }
        at += n;
    }
    s->decoder_offsets[b->count] = at;
    s->be->write(s->labels, s->host_labels, (size_t)at * sizeof *s->labels);
}

static void forward(struct seq2seq *s, const struct code_batch *b, uint64_t seed)
{
    CHECK(b->count <= s->rows && b->offsets[b->count] <= s->tokens);
    if (s->layout.positions > 0)
        write_targets(s, b);
    else
        write_texts(s, b);
    t5_encode(s->model, s->work, &(struct t5_batch){b->count, b->tokens, b->offsets}, seed);
    t5_decode(s->model, s->work, &(struct t5_batch){b->count, s->decoder_tokens, s->decoder_offsets}, seed);
}

static double position_losses(struct seq2seq *s, int32_t count, float weight, struct act *dx)
{
    float losses[POSITIONS_MAX];
    for (int32_t t = 0; t < s->layout.positions; t++) {
        struct head_loss a = {.n = count,
                              .first = s->layout.base + code_layout_first(&s->layout, t),
                              .count = s->layout.codes[t],
                              .x = t5_decoded(s->work),
                              .pick = s->pick + t * s->rows,
                              .head = t5_head(s->model),
                              .scale = t5_head_scale(s->model),
                              .weight = weight,
                              .labels = s->labels + t * s->rows,
                              .loss = s->loss + t,
                              .dx = dx};
        s->be->head_loss(&a);
    }
    s->be->read(losses, s->loss, (size_t)s->layout.positions * sizeof *losses);
    double sum = 0;
    for (int32_t t = 0; t < s->layout.positions; t++)
        sum += losses[t];
    return sum;
}

static double text_loss(struct seq2seq *s, int32_t count, float weight, struct act *dx)
{
    float loss;
    struct head_loss a = {.n = s->decoder_offsets[count],
                          .count = t5_config_of(s->model)->vocab,
                          .x = t5_decoded(s->work),
                          .head = t5_head(s->model),
                          .scale = t5_head_scale(s->model),
                          .weight = weight,
                          .labels = s->labels,
                          .loss = s->loss,
                          .dx = dx};
    s->be->head_loss(&a);
    s->be->read(&loss, s->loss, sizeof loss);
    return loss;
}

static double losses(struct seq2seq *s, int32_t count, float weight, struct act *dx)
{
    return s->layout.positions > 0 ? position_losses(s, count, weight, dx) : text_loss(s, count, weight, dx);
}

double seq2seq_train(struct seq2seq *s, const struct code_batch *b, float weight, uint64_t dropout_seed)
{
    forward(s, b, dropout_seed);
    double loss = losses(s, b->count, weight, s->ddecoded);
    t5_decode_backward(s->model, s->work, s->ddecoded);
    t5_encode_backward(s->model, s->work, NULL);
    return loss;
}

double seq2seq_loss(struct seq2seq *s, const struct code_batch *b, float weight)
{
    forward(s, b, 0);
    return losses(s, b->count, weight, NULL);
}
