/* lmindexer.c: one batch of the LMIndexer objective, forward and backward.
 *
 * The order of one step: T5 over all rows (documents, second views, negatives) -> H at every decoder position -> h at the last -> quantise
 * (joint) -> reconstructor over the documents -> three losses, each writing its own gradient -> back through the same chain. Index tables say
 * which rows feed which op; they are built on the host per batch (build_tables) and hold no arithmetic. The warm-up stage stops after
 * the reconstructor: T5 runs forward only.
 *
 * A batch of more documents than the work space holds is cut into passes (lm_passes.c), each of them lm_step with its share of the losses.
 *
 * Invariant: gradients of the T5 flow only through `ddecoded`, [R * (t + 1), D], to which the commitment loss writes rows i < t of documents
 * and everything else writes the last row of each sequence. */
#include "lm_internal.h"
#include "../base/mem.h"

#include <string.h>

int32_t lmindexer_extras(const struct t5_config *c, int32_t positions, int32_t codes, struct t5_extra *list)
{
    static const char *const books[LM_POSITIONS_MAX] = {"codebook.1",  "codebook.2",  "codebook.3",  "codebook.4",  "codebook.5",
                                                        "codebook.6",  "codebook.7",  "codebook.8",  "codebook.9",  "codebook.10",
                                                        "codebook.11", "codebook.12", "codebook.13", "codebook.14", "codebook.15"};
    int32_t inner = c->heads * c->d_kv, d = c->d_model, n = 0;
    CHECK(positions >= 1 && positions <= LM_POSITIONS_MAX);
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.SelfAttention.q.weight", T5_MATRIX, inner, d};
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.SelfAttention.k.weight", T5_MATRIX, inner, d};
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.SelfAttention.v.weight", T5_MATRIX, inner, d};
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.SelfAttention.o.weight", T5_MATRIX, d, inner};
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.SelfAttention.relative_attention_bias.weight", T5_BIAS, c->buckets, c->heads};
    list[n++] = (struct t5_extra){"recon.block.0.layer.0.layer_norm.weight", T5_NORM, 1, d};
    list[n++] = (struct t5_extra){"recon.block.0.layer.1.DenseReluDense.wi.weight", T5_MATRIX, c->d_ff, d};
    list[n++] = (struct t5_extra){"recon.block.0.layer.1.DenseReluDense.wo.weight", T5_MATRIX, d, c->d_ff};
    list[n++] = (struct t5_extra){"recon.block.0.layer.1.layer_norm.weight", T5_NORM, 1, d};
    list[n++] = (struct t5_extra){"recon.final_layer_norm.weight", T5_NORM, 1, d};
    for (int32_t t = 0; t < positions; t++)
        list[n++] = (struct t5_extra){books[t], T5_EMBEDDING, codes, d};
    return n;
}

/* ---- work space ---- */

static int table_init(struct table *t, const struct backend *be, int64_t room)
{
    t->room = (int32_t)(room > 0 ? room : 1);
    t->host = xcalloc((size_t)t->room, sizeof(int32_t));
    t->device = be->alloc((size_t)t->room * sizeof(int32_t));
    return t->device ? 0 : -1;
}

static void table_free(struct table *t, const struct backend *be)
{
    free(t->host);
    be->release(t->device);
}

static void table_push(struct table *t, int32_t value)
{
    CHECK(t->n < t->room);
    t->host[t->n++] = value;
}

static void table_send(struct table *t, const struct backend *be)
{
    be->write(t->device, t->host, (size_t)t->n * sizeof(int32_t));
}

static int tables_init(struct lm_work *w)
{
    const struct lm_limits *l = &w->limits;
    int64_t b = l->documents, r = l->rows, p = l->positions, m = l->text_tokens, whole = lm_whole(l);
    const struct {
        struct table *table;
        int64_t room;
    } all[] = {
        {&w->decoder, r * p}, {&w->last, r}, {&w->source_ids, m + b * p}, {&w->memory, m + b * p}, {&w->query, b * p},
        {&w->repeat, m * p}, {&w->text_offsets, b + 1}, {&w->memory_offsets, b + 1}, {&w->v_rows, b}, {&w->targets, m}, {&w->labels, m},
        {&w->anchors, whole}, {&w->candidates, whole * whole + 2 * whole + r}, {&w->candidate_offsets, whole + 1}, {&w->commit_rows, b}, {&w->commit_labels, b},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (table_init(all[i].table, w->be, all[i].room) < 0)
            return -1;
    return 0;
}

static int buffers_init(struct lm_work *w, const struct t5 *m, struct err *e)
{
    const struct lm_limits *l = &w->limits;
    const struct backend *be = w->be;
    int64_t d = t5_config_of(m)->d_model;
    w->h = be->act_alloc(l->rows * d);
    w->q = be->act_alloc(l->rows * d);
    w->p = be->alloc((size_t)l->documents * (size_t)l->codes * sizeof(float));
    w->soft = be->alloc((size_t)(l->documents * d) * sizeof(float));
    w->loss = be->alloc(sizeof(float));
    w->code = be->alloc((size_t)l->rows * sizeof(int32_t));
    w->keys = be->alloc((size_t)l->documents * sizeof(uint64_t));
    w->visible_offsets = be->alloc((size_t)(l->documents + 1) * sizeof(int64_t));
    w->decoder_offsets = xcalloc((size_t)l->rows + 1, sizeof(int32_t));
    bool whole = w->h && w->q && w->p && w->soft && w->loss && w->code && w->keys && w->visible_offsets && tables_init(w) == 0;
    if (whole && l->train) {
        w->dh = be->act_alloc(l->rows * d);
        w->ddecoded = be->act_alloc((int64_t)l->rows * l->positions * d);
        whole = w->dh && w->ddecoded;
    }
    whole = whole && (!l->train || lm_passes_init(w) == 0);
    return whole ? 0 : err_set(e, ERR_OS, "no memory for passes of %d documents: lower micro_batch", l->documents);
}

static struct t5_limits t5_limits_of(const struct lm_limits *l)
{
    return (struct t5_limits){.encoder_tokens = l->tokens, .decoder_tokens = l->rows * l->positions, .rows = l->rows, .train = l->train};
}

/* The buffers as buffers_init makes them; the tables have at most this many entries together. */
size_t lm_work_bytes(const struct backend *be, const struct t5_config *c, const struct lm_limits *l)
{
    const struct t5_limits tl = t5_limits_of(l);
    size_t r = (size_t)l->rows, b = (size_t)l->documents, p = (size_t)l->positions, m = (size_t)l->text_tokens, d = (size_t)c->d_model;
    size_t whole = (size_t)lm_whole(l), tables = r * p + 3 * r + (4 + p) * m + b * (3 * p + 8) + whole * (whole + 4) + 8;
    size_t acts = 2 * r * d + (l->train ? r * d + r * p * d : 0), plain = b * ((size_t)l->codes + d + 4) + r + 4;
    acts += l->train && whole > b ? 4 * whole * d : 0;
    return t5_work_bytes(be, c, &tl) + (l->train ? recon_work_bytes(be, c, l) : 0) + acts * be->act_bytes + (tables + plain) * 4;
}

struct lm_work *lm_work_init(struct t5 *m, const struct lm_limits *l, struct err *e)
{
    struct lm_work *w = xcalloc(1, sizeof *w);
    w->be = t5_backend(m);
    w->model = m;
    w->limits = *l;
    const struct t5_limits tl = t5_limits_of(l);
    w->t5 = t5_work_init(m, &tl, e);
    if (!w->t5 || buffers_init(w, m, e) < 0 || (l->train && recon_work_init(&w->recon, m, l, e) < 0)) {
        lm_work_free(w);
        return NULL;
    }
    if (l->train)
        recon_weights_of(&w->weights, m);
    return w;
}

void lm_work_free(struct lm_work *w)
{
    if (!w)
        return;
    const struct backend *be = w->be;
    struct table *tables[] = {&w->decoder, &w->last, &w->source_ids, &w->memory, &w->query, &w->repeat, &w->text_offsets, &w->memory_offsets,
                              &w->v_rows, &w->targets, &w->labels, &w->anchors, &w->candidates, &w->candidate_offsets, &w->commit_rows,
                              &w->commit_labels};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        table_free(tables[i], be);
    void *blocks[] = {w->h, w->q, w->dh, w->ddecoded, w->p, w->soft, w->loss, w->code, w->keys, w->visible_offsets, w->visible};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        be->release(blocks[i]);
    recon_work_free(&w->recon, be);
    lm_passes_free(w);
    t5_work_free(w->t5);
    free(w->decoder_offsets);
    free(w);
}

/* ---- index tables ---- */

static int32_t row_length(const struct t5_batch *b, int32_t i)
{
    return b->offsets[i + 1] - b->offsets[i];
}

/* Decoder inputs [start, c^1 .. c^t] of every row, and the last row of each. */
static void build_decoder(struct lm_work *w, const struct t5_config *c, const struct t5_batch *rows, int32_t position, const int32_t *prefix)
{
    w->decoder.n = w->last.n = 0;
    for (int32_t r = 0; r < rows->count; r++) {
        w->decoder_offsets[r] = r * (position + 1);
        table_push(&w->decoder, 0);
        for (int32_t i = 0; i < position; i++)
            table_push(&w->decoder, c->vocab + i * w->limits.codes + prefix[(int64_t)r * position + i]);
        table_push(&w->last, r * (position + 1) + position);
    }
    w->decoder_offsets[rows->count] = rows->count * (position + 1);
    table_send(&w->last, w->be);
}

/* Source rows: M text tokens, B * t code tokens, B vectors v. Memory of a document: its code tokens, v, its text tokens. */
static void build_sources(struct lm_work *w, const struct t5_config *c, const struct lm_batch *b)
{
    int32_t t = b->position, m = 0, passes = t + 1;
    w->source_ids.n = w->memory.n = w->query.n = w->text_offsets.n = w->memory_offsets.n = w->v_rows.n = 0;
    for (int32_t i = 0; i < b->documents; i++) {
        table_push(&w->text_offsets, m);
        table_push(&w->v_rows, i * passes + t);
        for (int32_t k = 0; k < row_length(&b->rows, i) - 1; k++, m++)
            table_push(&w->source_ids, b->rows.tokens[b->rows.offsets[i] + k]);
    }
    table_push(&w->text_offsets, m);
    w->text_tokens = m;
    for (int32_t i = 0; i < b->documents; i++) {
        table_push(&w->memory_offsets, w->memory.n);
        for (int32_t k = 0; k < passes; k++) {
            int32_t whose = b->ids_of ? b->ids_of[i] : i, row = k < t ? m + whose * t + k : m + b->documents * t + whose;
            table_push(&w->query, row);
            table_push(&w->memory, row);
            if (k < t)
                table_push(&w->source_ids, c->vocab + k * w->limits.codes + b->prefix[(int64_t)i * t + k]);
        }
        for (int32_t k = w->text_offsets.host[i]; k < w->text_offsets.host[i + 1]; k++)
            table_push(&w->memory, k);
    }
    table_push(&w->memory_offsets, w->memory.n);
}

/* Output row p * M + token descends from query (document, p). */
static void build_repeat(struct lm_work *w, const struct lm_batch *b)
{
    int32_t passes = b->position + 1;
    w->repeat.n = 0;
    for (int32_t p = 0; p < passes; p++)
        for (int32_t i = 0; i < b->documents; i++)
            for (int32_t k = w->text_offsets.host[i]; k < w->text_offsets.host[i + 1]; k++)
                table_push(&w->repeat, i * passes + p);
}

static uint64_t key_of(const struct lm_batch *b, int32_t document)
{
    return b->keys ? b->keys[document] : (uint64_t)document;
}

/* Whether text token k of document i is to be reconstructed in this step. */
static bool is_target(const struct lm_batch *b, int32_t i, int32_t k)
{
    return b->target_share >= 1 || mix_uniform(mix64(b->seed ^ 0x7461726765747331ull, key_of(b, i)), (uint64_t)k) < b->target_share;
}

int32_t lm_target_count(const struct lm_batch *b)
{
    int32_t n = 0;
    for (int32_t i = 0; i < b->documents; i++)
        for (int32_t k = 0; k < row_length(&b->rows, i) - 1; k++)
            n += is_target(b, i, k);
    return n;
}

static void build_targets(struct lm_work *w, const struct lm_batch *b)
{
    w->targets.n = w->labels.n = 0;
    for (int32_t i = 0; i < b->documents; i++) {
        int32_t from = w->text_offsets.host[i];
        for (int32_t k = from; k < w->text_offsets.host[i + 1]; k++) {
            if (!is_target(b, i, k - from))
                continue;
            table_push(&w->targets, k);
            table_push(&w->labels, w->source_ids.host[k]);
        }
    }
}

static int32_t row_of(const struct lm_passes *p, int32_t row)
{
    return p ? p->row_of[row] : row;
}

/* Candidates of each document: its second view, then at t = 0 everyone else's second view, at t >= 1 its negatives. */
static void build_candidates(struct lm_work *w, const struct lm_batch *b, const struct lm_passes *p)
{
    w->anchors.n = w->candidates.n = w->candidate_offsets.n = 0;
    for (int32_t i = 0; i < b->documents; i++) {
        table_push(&w->anchors, row_of(p, i));
        table_push(&w->candidate_offsets, w->candidates.n);
        if (!b->second_view || b->second_view[i] < 0)
            continue;
        table_push(&w->candidates, row_of(p, b->second_view[i]));
        for (int32_t j = 0; b->position == 0 && j < b->documents; j++)
            if (j != i && b->second_view[j] >= 0)
                table_push(&w->candidates, row_of(p, b->second_view[j]));
        for (int32_t j = b->position ? b->negative_offsets[i] : 0; b->position && j < b->negative_offsets[i + 1]; j++)
            table_push(&w->candidates, row_of(p, b->negatives[j]));
    }
    table_push(&w->candidate_offsets, w->candidates.n);
    table_send(&w->anchors, w->be);
    table_send(&w->candidates, w->be);
    table_send(&w->candidate_offsets, w->be);
}

static void send_masks(struct lm_work *w, const struct lm_batch *b)
{
    for (int32_t i = 0; i < b->documents; i++) {
        uint64_t key = key_of(b, i);
        w->be->write(w->keys + i, &key, sizeof key);
    }
    if (!b->visible)
        return;
    size_t size = (size_t)b->visible_offsets[b->documents];
    if (size > w->visible_room) {
        w->be->release(w->visible);
        w->visible = w->be->alloc(size);
        CHECK(w->visible);
        w->visible_room = size;
    }
    w->be->write(w->visible, b->visible, size);
    w->be->write(w->visible_offsets, b->visible_offsets, (size_t)(b->documents + 1) * sizeof(int64_t));
}

static void build_tables(struct lm_work *w, const struct t5_config *c, const struct lm_batch *b)
{
    build_sources(w, c, b);
    build_repeat(w, b);
    build_targets(w, b);
    send_masks(w, b);
    struct table *all[] = {&w->source_ids, &w->memory, &w->query, &w->repeat, &w->text_offsets, &w->memory_offsets, &w->v_rows,
                           &w->targets, &w->labels};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        table_send(all[i], w->be);
}

static struct rows rows_of(const struct table *offsets, int32_t count)
{
    struct rows r = {.count = count, .total = offsets->host[count], .offsets = offsets->device};
    for (int32_t i = 0; i < count; i++) {
        int32_t length = offsets->host[i + 1] - offsets->host[i];
        r.longest = length > r.longest ? length : r.longest;
    }
    return r;
}

static struct recon_batch recon_batch_of(struct lm_work *w, const struct lm_batch *b)
{
    return (struct recon_batch){.documents = b->documents, .passes = b->position + 1, .text_tokens = w->text_tokens,
                                .text_rows = rows_of(&w->text_offsets, b->documents),
                                .memory_rows = rows_of(&w->memory_offsets, b->documents), .memory_index = w->memory.device,
                                .query_index = w->query.device, .repeat_index = w->repeat.device,
                                .visible = b->visible ? w->visible : NULL, .visible_offsets = w->visible_offsets, .keys = w->keys,
                                .hint_ratio = b->stage == LM_WARMUP ? 1.0f : (float)b->hint_ratio, .seed = b->seed};
}

/* ---- forward ---- */

/* The decoder over the rows that the encoder read last. */
static void decoder_forward(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix,
                            uint64_t dropout_seed)
{
    const struct t5_config *c = t5_config_of(m);
    build_decoder(w, c, rows, position, prefix);
    const struct t5_batch decoder = {.count = rows->count, .tokens = w->decoder.host, .offsets = w->decoder_offsets};
    t5_decode(m, w->t5, &decoder, dropout_seed);
    w->be->gather(w->h, t5_decoded(w->t5), w->last.device, rows->count, c->d_model);
    w->rows = rows->count;
    w->position = position;
}

void lm_hidden(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, uint64_t dropout_seed)
{
    CHECK(rows->count <= w->limits.rows && rows->offsets[rows->count] <= w->limits.tokens && position < w->limits.positions);
    t5_encode(m, w->t5, rows, dropout_seed);
    decoder_forward(m, w, rows, position, prefix, dropout_seed);
}

static const struct weight *codebook(const struct t5 *m, int32_t position)
{
    char name[32];
    snprintf(name, sizeof name, "codebook.%d", position + 1);
    return t5_weight(m, name);
}

static struct quantise quantise_of(const struct t5 *m, struct lm_work *w, int32_t rows, struct act *q)
{
    return (struct quantise){.n = rows, .codes = w->limits.codes, .book = codebook(m, w->position), .inv_temperature = 1, .h = w->h,
                             .q = q, .code = w->code, .p = w->p, .soft = w->soft};
}

/* The last rows of `source`: v of every document. */
static struct act *v_of(const struct t5 *m, struct lm_work *w, struct act *source)
{
    return w->be->act_at(source, (int64_t)(w->text_tokens + w->documents * w->position) * t5_config_of(m)->d_model);
}

static void sources_forward(struct t5 *m, struct lm_work *w)
{
    const struct dropout none = {0};
    struct act *v = v_of(m, w, w->recon.source);
    w->be->embed(w->recon.source, t5_weight(m, "shared.weight"), w->source_ids.device, w->source_ids.n, none);
    if (w->joint) {
        struct quantise q = quantise_of(m, w, w->documents, v);
        w->be->quantise(&q);
    } else {
        w->be->gather(v, t5_decoded(w->t5), w->v_rows.device, w->documents, t5_config_of(m)->d_model);
    }
}

/* ---- losses, each with its gradient ---- */

static struct weight without_grad(const struct weight *w)
{
    struct weight copy = *w;
    copy.grad = NULL;
    return copy;
}

static double read_loss(struct lm_work *w, double scale)
{
    float loss;
    w->be->read(&loss, w->loss, sizeof loss);
    return scale > 0 ? (double)loss / scale : 0;
}

/* L_recon over the picked targets; fills recon.dz. */
static double loss_recon(struct t5 *m, struct lm_work *w, const struct lm_batch *b, int32_t whole)
{
    const struct t5_config *c = t5_config_of(m);
    w->be->act_zero(w->recon.dz, (int64_t)w->text_tokens * c->d_model);
    if (w->targets.n == 0 || b->weight_recon <= 0)
        return 0;
    struct weight head = b->stage == LM_WARMUP ? without_grad(t5_head(m)) : *t5_head(m);
    const struct head_loss a = {.n = w->targets.n, .first = 0, .count = c->vocab, .x = w->recon.z, .pick = w->targets.device,
                                .head = &head, .scale = t5_head_scale(m), .weight = (float)(b->weight_recon / whole),
                                .labels = w->labels.device, .loss = w->loss, .dx = w->recon.dz};
    w->be->head_loss(&a);
    return read_loss(w, b->weight_recon);
}

double lm_contrastive(struct t5 *m, struct lm_work *w, const struct lm_batch *b, const struct lm_passes *p)
{
    if (b->weight_contrastive <= 0 || b->stage == LM_WARMUP)
        return 0;
    build_candidates(w, b, p);
    if (w->candidates.n == 0)
        return 0;
    const struct contrastive a = {.n = b->documents, .d = t5_config_of(m)->d_model, .h = p ? p->h : w->h, .anchors = w->anchors.device,
                                  .candidates = w->candidates.device, .offsets = w->candidate_offsets.device,
                                  .inv_temperature = (float)(1 / b->contrastive_temperature), .weight = (float)b->weight_contrastive,
                                  .loss = w->loss, .dh = p ? p->dh : w->dh};
    w->be->contrastive(&a);
    return read_loss(w, b->weight_contrastive);
}

/* L_commitment: every earlier code of every document, predicted from H^i by its codebook; writes rows i < t of ddecoded. */
static double loss_commitment(struct t5 *m, struct lm_work *w, const struct lm_batch *b, int32_t whole)
{
    double sum = 0;
    if (b->weight_commitment <= 0 || b->stage == LM_WARMUP)
        return 0;
    for (int32_t i = 0; i < b->position; i++) {
        w->commit_rows.n = w->commit_labels.n = 0;
        for (int32_t r = 0; r < b->documents; r++) {
            table_push(&w->commit_rows, r * (b->position + 1) + i);
            table_push(&w->commit_labels, b->prefix[(int64_t)r * b->position + i]);
        }
        table_send(&w->commit_rows, w->be);
        table_send(&w->commit_labels, w->be);
        struct weight book = b->freeze_codebooks ? without_grad(codebook(m, i)) : *codebook(m, i);
        const struct head_loss a = {.n = b->documents, .first = 0, .count = w->limits.codes, .x = t5_decoded(w->t5),
                                    .pick = w->commit_rows.device, .head = &book, .scale = 1,
                                    .weight = (float)(b->weight_commitment / whole), .labels = w->commit_labels.device,
                                    .loss = w->loss, .dx = w->ddecoded};
        w->be->head_loss(&a);
        sum += read_loss(w, b->weight_commitment);
    }
    return sum;
}

/* ---- backward ---- */

static void sources_backward(struct t5 *m, struct lm_work *w, const struct lm_batch *b)
{
    const struct dropout none = {0};
    struct act *dv = v_of(m, w, w->recon.dsource);
    w->be->embed_backward(t5_weight(m, "shared.weight"), w->source_ids.device, w->recon.dsource, w->source_ids.n, none);
    if (w->joint) {
        struct quantise q = quantise_of(m, w, b->documents, v_of(m, w, w->recon.source));
        w->be->quantise_backward(&q, dv, w->dh);
    } else {
        w->be->axpy(w->dh, 1, dv, (int64_t)b->documents * t5_config_of(m)->d_model);
    }
}

static void hidden_backward(struct t5 *m, struct lm_work *w)
{
    w->be->scatter_add(w->ddecoded, w->dh, w->last.device, w->rows, t5_config_of(m)->d_model);
    t5_decode_backward(m, w->t5, w->ddecoded);
    t5_encode_backward(m, w->t5, NULL);
}

void lm_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, const struct lm_share *s, struct lm_losses *out)
{
    const struct t5_config *c = t5_config_of(m);
    int64_t cells = (int64_t)b->rows.count * c->d_model;
    w->documents = b->documents;
    w->joint = b->stage == LM_JOINT;
    lm_hidden(m, w, &b->rows, b->position, b->prefix, s->dropout_seed);
    build_tables(w, c, b);
    struct recon_batch rb = recon_batch_of(w, b);
    sources_forward(m, w);
    recon_forward(m, &w->weights, &w->recon, &rb);

    w->be->act_zero(w->dh, cells);
    w->be->act_zero(w->ddecoded, cells * (b->position + 1));
    out->recon = loss_recon(m, w, b, s->targets);
    out->commitment = loss_commitment(m, w, b, s->documents);
    if (s->dh)
        w->be->axpy(w->dh, 1, s->dh, cells);
    else
        out->contrastive = lm_contrastive(m, w, b, NULL);

    recon_backward(m, &w->weights, &w->recon, &rb);
    if (b->stage == LM_WARMUP)
        return;
    sources_backward(m, w, b);
    hidden_backward(m, w);
}

void lmindexer_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, struct lm_losses *out)
{
    CHECK(w->limits.train && b->documents <= lm_whole(&w->limits));
    *out = (struct lm_losses){0};
    if (b->documents > w->limits.documents) {
        lm_passes_step(m, w, b, out);
    } else {
        const struct lm_share whole = {.documents = b->documents, .targets = lm_target_count(b),
                                       .dropout_seed = b->dropout ? mix64(b->seed, 1) | 1 : 0};
        lm_step(m, w, b, &whole, out);
    }
    out->total = b->weight_recon * out->recon + b->weight_contrastive * out->contrastive + b->weight_commitment * out->commitment;
}

/* ---- reading results ---- */

int32_t lmindexer_text_tokens(const struct lm_work *w)
{
    return w->text_tokens;
}

void lmindexer_vectors(const struct lm_work *w, const struct lm_vectors *out)
{
    const struct backend *be = w->be;
    int64_t d = t5_config_of(w->model)->d_model;
    be->download(out->h, w->h, w->rows * d);
    be->download(out->z, w->recon.z, w->text_tokens * d);
    if (!w->joint)
        return;
    be->read(out->p, w->p, (size_t)w->documents * (size_t)w->limits.codes * sizeof(float));
    be->read(out->soft, w->soft, (size_t)(w->documents * d) * sizeof(float));
    be->read(out->code, w->code, (size_t)w->documents * sizeof(int32_t));
    be->download(out->q, v_of(w->model, (struct lm_work *)w, w->recon.source), w->documents * d);
}

void lmindexer_encode(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, float *h)
{
    lm_hidden(m, w, rows, position, prefix, 0);
    w->be->download(h, w->h, (int64_t)rows->count * t5_config_of(m)->d_model);
}

void lmindexer_encode_next(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, float *h)
{
    CHECK(rows->count == w->rows && position < w->limits.positions);
    decoder_forward(m, w, rows, position, prefix, 0);
    w->be->download(h, w->h, (int64_t)rows->count * t5_config_of(m)->d_model);
}

void lmindexer_assign(struct t5 *m, struct lm_work *w, int32_t *codes)
{
    struct quantise q = quantise_of(m, w, w->rows, w->q);
    q.p = q.soft = NULL;
    w->be->quantise(&q);
    w->be->read(codes, w->code, (size_t)w->rows * sizeof(int32_t));
}
