/* parity_t5.c: T5 against the reference: buckets, hidden states, logits, loss, every gradient, ten AdamW steps, the cached decode.
 *
 * Two models are loaded from the same folder: a trainable one for forward, backward and the optimiser, and one for inference (other weight
 * forms, shared slots), which repeats the forward pass and decodes position by position with a live row for each target that is long enough. */
#include "parity.h"

#include "../../core/base/mem.h"
#include "../../core/model/t5_load.h"

#include <math.h>
#include <string.h>

struct batch { /* of cases.safetensors; owned by the file */
    struct t5_batch enc, dec;
    const int32_t *labels;
    int32_t counted, longest;
};

struct run {
    const struct parity_case *c;
    const cJSON *settings;
    struct parity_file *f;
    struct batch b;
    struct t5 *m;
    struct t5_work *w;
    struct act *scratch, *dx;
    int32_t *labels; /* backend memory */
    float *loss;     /* backend memory */
};

static const char *line(const struct run *r, const char *class)
{
    static char text[96];
    snprintf(text, sizeof text, "%s.%s", r->c->name, class);
    return text;
}

static void check_act(const struct run *r, const char *class, const char *tolerance, const char *tensor, const struct act *x, int64_t n)
{
    const float *ref = parity_floats(r->f, tensor, n, NULL);
    if (!ref)
        return;
    float *mine = xmalloc((size_t)n * sizeof *mine);
    parity_backend()->download(mine, x, n);
    parity_check(line(r, class), tensor, mine, ref, n, parity_tolerance(tolerance));
    free(mine);
}

/* ---- config and buckets ---- */

static void check_config(const struct run *r, const struct t5_config *c)
{
    const struct {
        const char *key;
        double mine;
    } list[] = {{"model.buckets", c->buckets},           {"model.decoder_layers", c->decoder_layers}, {"model.encoder_layers", c->encoder_layers},
                {"model.gated", c->gated},               {"model.heads", c->heads},                   {"model.max_distance", c->max_distance},
                {"model.scale_output", c->scale_output}, {"tied", !c->untied}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        parity_check_true(line(r, "config"), list[i].key, parity_number(r->settings, list[i].key) == list[i].mine);
    double eps = parity_number(r->settings, "model.eps");
    parity_check_true(line(r, "config"), "model.eps", fabs(eps - (double)c->eps) <= 1e-6 * eps);
}

/* The same config in the older form, where there is one, must say the same. */
static void check_older_config(const struct run *r, const struct t5_config *c)
{
    struct err e = {0};
    char *path = parity_path(r->c, "config_v4.json"), *weights = parity_path(r->c, "model.safetensors");
    FILE *f = fopen(path, "r");
    if (f) {
        fclose(f);
        struct t5_source *s = t5_source_open(path, weights, -1, &e);
        char *a = t5_config_print(c), *b = s ? t5_config_print(t5_source_config(s)) : xstrdup(e.message);
        parity_check_true(line(r, "config"), "config_v4.json reads as config.json", strcmp(a, b) == 0);
        free(a);
        free(b);
        t5_source_close(s);
    }
    free(path);
    free(weights);
}

static void check_buckets(const struct run *r, const struct t5_config *c)
{
    int64_t n = 0;
    const int32_t *distance = parity_ints(r->f, "buckets.distance", -1, &n);
    int32_t *mine = xmalloc((size_t)n * sizeof *mine + 4);
    for (int64_t i = 0; distance && i < n; i++)
        mine[i] = (int32_t)(i - n / 2);
    if (distance)
        parity_check_ints(line(r, "buckets"), "buckets.distance", mine, distance, n);
    for (int kind = 0; kind < 2 && distance; kind++) {
        const char *name = kind ? "buckets.bidirectional" : "buckets.causal";
        const int32_t *ref = parity_ints(r->f, name, n, NULL);
        for (int64_t i = 0; i < n; i++)
            mine[i] = attention_bucket(distance[i], kind, c->buckets, c->max_distance);
        if (ref)
            parity_check_ints(line(r, "buckets"), name, mine, ref, n);
    }
    free(mine);
}

/* ---- the batch ---- */

static int read_rows(struct run *r, const char *tokens, const char *offsets, struct t5_batch *b)
{
    int64_t n = 0, rows = 0;
    b->offsets = parity_ints(r->f, offsets, -1, &rows);
    b->tokens = parity_ints(r->f, tokens, -1, &n);
    b->count = (int32_t)rows - 1;
    if (!b->offsets || !b->tokens)
        return -1;
    bool ok = rows >= 1 && b->offsets[0] == 0 && b->offsets[b->count] == n;
    for (int32_t i = 0; ok && i < b->count; i++)
        ok = b->offsets[i + 1] >= b->offsets[i];
    for (int64_t i = 0; ok && i < n; i++)
        ok = b->tokens[i] >= 0 && b->tokens[i] < t5_config_of(r->m)->vocab;
    return ok ? 0 : parity_fail(r->c->name, "%s and %s do not describe packed rows of tokens", offsets, tokens);
}

static int read_batch(struct run *r)
{
    struct batch *b = &r->b;
    if (read_rows(r, "enc.tokens", "enc.offsets", &b->enc) != 0 || read_rows(r, "dec.inputs", "dec.offsets", &b->dec) != 0)
        return -1;
    if (b->enc.count != b->dec.count)
        return parity_fail(r->c->name, "%d encoder rows, %d decoder rows", b->enc.count, b->dec.count);
    b->labels = parity_ints(r->f, "dec.labels", b->dec.offsets[b->dec.count], NULL);
    for (int32_t i = 0; b->labels && i < b->dec.offsets[b->dec.count]; i++)
        b->counted += b->labels[i] >= 0;
    for (int32_t i = 0; i < b->dec.count; i++)
        if (b->dec.offsets[i + 1] - b->dec.offsets[i] > b->longest)
            b->longest = b->dec.offsets[i + 1] - b->dec.offsets[i];
    return b->labels ? 0 : -1;
}

static int32_t total(const struct t5_batch *b)
{
    return b->offsets[b->count];
}

/* ---- forward, loss, backward ---- */

static double loss_pass(struct run *r, bool backward)
{
    const struct backend *be = parity_backend();
    float loss = NAN;
    t5_encode(r->m, r->w, &r->b.enc, 0);
    t5_decode(r->m, r->w, &r->b.dec, 0);
    const struct head_loss h = {.n = total(&r->b.dec), .count = t5_config_of(r->m)->vocab, .x = t5_decoded(r->w), .head = t5_head(r->m),
                                .scale = t5_head_scale(r->m), .weight = 1.0f / (float)r->b.counted, .labels = r->labels, .loss = r->loss,
                                .dx = backward ? r->dx : NULL};
    be->head_loss(&h);
    be->read(&loss, r->loss, sizeof loss);
    if (backward) {
        t5_decode_backward(r->m, r->w, r->dx);
        t5_encode_backward(r->m, r->w, NULL);
    }
    return loss;
}

/* The loss once more, in double, from the logits. */
static double loss_of_logits(const struct run *r, const float *logits, int64_t vocab)
{
    double sum = 0;
    for (int32_t i = 0; i < total(&r->b.dec); i++) {
        const float *x = logits + i * vocab;
        double mass = 0, most = x[0];
        if (r->b.labels[i] < 0)
            continue;
        for (int64_t j = 0; j < vocab; j++)
            most = fmax(most, x[j]);
        for (int64_t j = 0; j < vocab; j++)
            mass += exp(x[j] - most);
        sum += most + log(mass) - x[r->b.labels[i]];
    }
    return sum / r->b.counted;
}

static void check_logits(struct run *r)
{
    const struct backend *be = parity_backend();
    int64_t vocab = t5_config_of(r->m)->vocab, n = total(&r->b.dec) * vocab;
    be->linear(r->scratch, t5_decoded(r->w), t5_head(r->m), total(&r->b.dec), t5_head_scale(r->m), 0);
    check_act(r, "logits", "logits", "logits", r->scratch, n);
    const float *ref = parity_floats(r->f, "loss", 1, NULL);
    float *logits = xmalloc((size_t)n * sizeof *logits);
    be->download(logits, r->scratch, n);
    float loss = (float)loss_of_logits(r, logits, vocab);
    if (ref)
        parity_check(line(r, "loss"), "loss (from the logits)", &loss, ref, 1, parity_tolerance("loss"));
    free(logits);
}

static void check_gradients(const struct run *r)
{
    for (int32_t i = 0; i < t5_tensor_count(r->m); i++) {
        const struct t5_tensor *t = t5_tensor_at(r->m, i);
        int64_t n = (int64_t)t->rows * t->cols;
        char name[128];
        snprintf(name, sizeof name, "grad.%s", t->name);
        float *mine = xmalloc((size_t)n * sizeof *mine);
        parity_backend()->read(mine, t5_grad(r->m) + t->offset, (size_t)n * sizeof *mine);
        const float *ref = parity_has(r->f, name) ? parity_floats(r->f, name, n, NULL) : NULL;
        if (ref)
            parity_check(line(r, "grad"), name, mine, ref, n, parity_tolerance("grad"));
        else
            parity_check_zero(line(r, "grad"), name, mine, n);
        free(mine);
    }
}

static void check_forward(struct run *r)
{
    int64_t d = t5_config_of(r->m)->d_model;
    float loss = (float)loss_pass(r, true);
    check_act(r, "hidden", "hidden", "enc.hidden", t5_encoded(r->w), total(&r->b.enc) * d);
    check_act(r, "hidden", "hidden", "dec.hidden", t5_decoded(r->w), total(&r->b.dec) * d);
    const float *ref = parity_floats(r->f, "loss", 1, NULL);
    if (ref)
        parity_check(line(r, "loss"), "loss", &loss, ref, 1, parity_tolerance("loss"));
    check_logits(r);
    check_gradients(r);
}

/* ---- ten steps of AdamW ---- */

static double norm_of(const float *x, const float *minus, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i] - (minus ? (double)minus[i] : 0);
        sum += v * v;
    }
    return sqrt(sum);
}

static void check_moved(const struct run *r, const float *before)
{
    float *after = xmalloc((size_t)t5_size(r->m) * sizeof *after);
    parity_backend()->read(after, t5_master(r->m), (size_t)t5_size(r->m) * sizeof *after);
    for (int32_t i = 0; i < t5_tensor_count(r->m); i++) {
        const struct t5_tensor *t = t5_tensor_at(r->m, i);
        for (int delta = 0; delta < 2; delta++) {
            char name[128];
            snprintf(name, sizeof name, "adamw.%s.%s", delta ? "delta_l2" : "l2", t->name);
            float mine = (float)norm_of(after + t->offset, delta ? before + t->offset : NULL, (int64_t)t->rows * t->cols);
            const float *ref = parity_floats(r->f, name, 1, NULL);
            const char *class = delta ? "adamw.delta_l2" : "adamw.l2";
            if (ref)
                parity_check(line(r, class), name, &mine, ref, 1, parity_tolerance(class));
        }
    }
    free(after);
}

/* r->m's gradients are those of the first step already. */
static void check_adamw(struct run *r)
{
    int64_t steps = 0;
    const float *norms = parity_floats(r->f, "adamw.grad_norm", -1, &steps), *losses = parity_floats(r->f, "adamw.loss", steps + 1, NULL);
    if (!norms || !losses)
        return;
    parity_check_true(line(r, "config"), "adamw.steps", (double)steps == parity_number(r->settings, "adamw.steps"));
    struct t5_adamw a = {.lr = (float)parity_number(r->settings, "adamw.lr"), .beta1 = (float)parity_number(r->settings, "adamw.betas.0"),
                         .beta2 = (float)parity_number(r->settings, "adamw.betas.1"), .eps = (float)parity_number(r->settings, "adamw.eps"),
                         .weight_decay = (float)parity_number(r->settings, "adamw.weight_decay"),
                         .clip = (float)parity_number(r->settings, "adamw.clip")};
    float *before = xmalloc((size_t)t5_size(r->m) * sizeof *before);
    float *loss = xcalloc((size_t)steps + 1, sizeof *loss), *norm = xcalloc((size_t)steps + 1, sizeof *norm);
    parity_backend()->read(before, t5_master(r->m), (size_t)t5_size(r->m) * sizeof *before);
    parity_backend()->zero(t5_grad(r->m), (size_t)t5_size(r->m) * sizeof *before);
    for (a.step = 1; a.step <= steps; a.step++) {
        loss[a.step - 1] = (float)loss_pass(r, true);
        norm[a.step - 1] = (float)t5_adamw(r->m, &a, 0, t5_size(r->m));
    }
    loss[steps] = (float)loss_pass(r, false);
    parity_check(line(r, "adamw.loss"), "adamw.loss", loss, losses, steps + 1, parity_tolerance("adamw.loss"));
    parity_check(line(r, "adamw.grad_norm"), "adamw.grad_norm", norm, norms, steps, parity_tolerance("adamw.grad_norm"));
    check_moved(r, before);
    free(before);
    free(loss);
    free(norm);
}

/* ---- cached decode ---- */

struct step { /* host side of one position; capacity rows */
    int32_t *offsets, *tokens, *parent, *row_of, *place; /* place: of each request in the previous step */
    int32_t live;
};

static void next_step(struct step *s, const struct t5_batch *b, int32_t position)
{
    s->live = 0;
    s->offsets[0] = 0;
    for (int32_t i = 0; i < b->count; i++) {
        if (b->offsets[i + 1] - b->offsets[i] > position) {
            s->tokens[s->live] = b->tokens[b->offsets[i] + position];
            s->parent[s->live] = s->place[i];
            s->row_of[s->live] = b->offsets[i] + position;
            s->place[i] = s->live++;
        }
        s->offsets[i + 1] = s->live;
    }
}

static int32_t *upload_ints(const int32_t *x, int32_t n)
{
    int32_t *y = parity_backend()->alloc((size_t)n * sizeof *y + 4);
    CHECK(y);
    parity_backend()->write(y, x, (size_t)n * sizeof *y);
    return y;
}

static void run_step(struct t5 *m, struct t5_work *w, const struct step *s, int32_t requests, float *hidden)
{
    const struct backend *be = parity_backend();
    int32_t *offsets = upload_ints(s->offsets, requests + 1), *tokens = upload_ints(s->tokens, s->live);
    int32_t *parent = upload_ints(s->parent, s->live), d = t5_config_of(m)->d_model;
    const struct act *h = t5_decode_step(m, w, offsets, s->live, tokens, parent);
    for (int32_t i = 0; i < s->live; i++)
        be->download(hidden + (int64_t)s->row_of[i] * d, be->act_at(h, (int64_t)i * d), d);
    be->release(offsets);
    be->release(tokens);
    be->release(parent);
}

static void check_cached(struct run *r, struct t5 *m, struct t5_work *w)
{
    const struct t5_batch *b = &r->b.dec;
    int64_t n = (int64_t)total(b) * t5_config_of(m)->d_model;
    float *hidden = xcalloc((size_t)n + 1, sizeof *hidden);
    int32_t *room = xcalloc(5 * (size_t)(b->count + 1), sizeof *room), stride = b->count + 1;
    struct step s = {room, room + stride, room + 2 * stride, room + 3 * stride, room + 4 * stride, 0};
    t5_encode(m, w, &r->b.enc, 0);
    check_act(r, "cached", "hidden", "enc.hidden", t5_encoded(w), (int64_t)total(&r->b.enc) * t5_config_of(m)->d_model);
    t5_decode_begin(m, w);
    for (int32_t position = 0; position < r->b.longest; position++) {
        next_step(&s, b, position);
        run_step(m, w, &s, b->count, hidden);
    }
    const float *ref = parity_floats(r->f, "dec.hidden", n, NULL);
    if (ref)
        parity_check(line(r, "cached"), "dec.hidden", hidden, ref, n, parity_tolerance("hidden"));
    free(room);
    free(hidden);
}

static void run_cached(struct run *r, const struct t5_source *source)
{
    struct err e = {0};
    const struct t5_limits l = {.encoder_tokens = total(&r->b.enc), .decoder_tokens = total(&r->b.dec), .rows = r->b.enc.count,
                                .beam_rows = r->b.enc.count, .positions = r->b.longest};
    struct t5 *m = t5_load(parity_backend(), source, NULL, &e);
    struct t5_work *w = m ? t5_work_init(m, &l, &e) : NULL;
    if (w) {
        check_cached(r, m, w);
        t5_decode(m, w, &r->b.dec, 0);
        check_act(r, "cached", "hidden", "dec.hidden", t5_decoded(w), (int64_t)total(&r->b.dec) * t5_config_of(m)->d_model);
    } else {
        parity_fail(r->c->name, "%s", e.message);
    }
    t5_work_free(w);
    t5_free(m);
}

/* ---- the case ---- */

static int make_room(struct run *r, struct err *e)
{
    const struct backend *be = parity_backend();
    const struct t5_config *c = t5_config_of(r->m);
    int32_t n = total(&r->b.dec);
    const struct t5_limits l = {.encoder_tokens = total(&r->b.enc), .decoder_tokens = n, .rows = r->b.enc.count, .train = true};
    r->w = t5_work_init(r->m, &l, e);
    r->scratch = be->act_alloc((int64_t)n * c->vocab + 1);
    r->dx = be->act_alloc((int64_t)n * c->d_model + 1);
    r->loss = be->alloc(sizeof *r->loss);
    r->labels = upload_ints(r->b.labels, n);
    return r->w && r->scratch && r->dx && r->loss ? 0 : -1;
}

static void release_room(struct run *r)
{
    void *memory[] = {r->scratch, r->dx, r->loss, r->labels};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            parity_backend()->release(memory[i]);
    t5_work_free(r->w);
}

static void run_all(struct run *r, const struct t5_source *source)
{
    struct err e = {0};
    check_config(r, t5_source_config(source));
    check_older_config(r, t5_source_config(source));
    check_buckets(r, t5_source_config(source));
    if (read_batch(r) != 0)
        return;
    if (make_room(r, &e) != 0) {
        parity_fail(r->c->name, "%s", e.message);
    } else {
        check_forward(r);
        check_adamw(r);
        run_cached(r, source);
    }
    release_room(r);
}

void parity_t5(const struct parity_case *c)
{
    struct err e = {0};
    struct run r = {.c = c, .settings = parity_settings(c), .f = parity_open(c, "cases.safetensors")};
    char *folder = parity_path(c, "");
    struct t5_source *source = t5_source_folder(folder, -1, &e);
    const struct t5_load_options train = {.train = true};
    if (source)
        r.m = t5_load(parity_backend(), source, &train, &e);
    if (!r.m)
        parity_fail(c->name, "%s", e.message);
    else if (r.f && r.settings)
        run_all(&r, source);
    t5_free(r.m);
    t5_source_close(source);
    parity_close(r.f);
    free(folder);
}
