/* parity_rqvae.c: the rq-VAE objective against rqvae.safetensors: encoder, codes, decoder, losses, gradients, one EMA update.
 *
 * The objective runs on a backend with f32 activations in host memory, whatever device the other cases are tried on. */
#include "../../core/base/mem.h"
#include "../../core/learn/rqvae.h"
#include "parity.h"

#include <stdlib.h>
#include <string.h>

static struct rqvae *open_model(const cJSON *settings, int32_t n)
{
    struct rqvae_shape s = {.levels = (int32_t)parity_number(settings, "levels"), .codes = (int32_t)parity_number(settings, "codes")};
    const cJSON *widths = cJSON_GetObjectItemCaseSensitive(settings, "widths"), *w;
    cJSON_ArrayForEach(w, widths) if (s.layers <= RQVAE_LAYERS_MAX) s.width[s.layers++] = w->valueint;
    s.layers--;
    char message[256];
    struct err e = {0};
    const struct backend *be = backend_open("cpu", 0, message, sizeof message);
    struct rqvae *r = be ? rqvae_init(be, &s, n, &e) : NULL;
    if (!r)
        parity_fail("rqvae", "%s", be ? e.message : message);
    return r;
}

static void copy(float *to, const float *from, int64_t n)
{
    if (from)
        memcpy(to, from, (size_t)n * sizeof *to);
}

static void load_layers(struct rqvae *r, struct parity_file *f)
{
    const struct rqvae_shape *s = rqvae_shape_of(r);
    for (int32_t i = 0; i < 2 * s->layers; i++) {
        char name[64];
        const char *half = i < s->layers ? "encoder" : "decoder";
        int64_t n;
        snprintf(name, sizeof name, "%s.%d.weight", half, i % s->layers);
        const float *w = parity_floats(f, name, -1, &n);
        copy(rqvae_weight(r, i), w, w ? n : 0);
        snprintf(name, sizeof name, "%s.%d.bias", half, i % s->layers);
        const float *b = parity_floats(f, name, -1, &n);
        copy(rqvae_bias(r, i), b, b ? n : 0);
    }
    rqvae_refresh(r);
}

static void load_codebooks(struct rqvae *r, struct parity_file *f)
{
    const struct rqvae_shape *s = rqvae_shape_of(r);
    int64_t k = s->codes, cells = k * s->width[s->layers];
    for (int32_t i = 0; i < s->levels; i++) {
        char name[64];
        snprintf(name, sizeof name, "codebook.%d", i);
        copy(rqvae_codebook(r, i), parity_floats(f, name, cells, NULL), cells);
        snprintf(name, sizeof name, "ema.count.%d", i);
        copy(rqvae_count(r, i), parity_floats(f, name, k, NULL), k);
        snprintf(name, sizeof name, "ema.sum.%d", i);
        copy(rqvae_sum(r, i), parity_floats(f, name, cells, NULL), cells);
    }
}

static void check(struct parity_file *f, const char *class, const char *name, const float *mine, int64_t n)
{
    char line[64];
    const cJSON *tolerances = cJSON_GetObjectItemCaseSensitive(parity_manifest(), "tolerance");
    double tolerance = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(tolerances, class));
    const float *ref = parity_floats(f, name, n, NULL);
    snprintf(line, sizeof line, "rqvae.%s", class);
    if (ref)
        parity_check(line, name, mine, ref, n, tolerance);
}

static void check_step(struct rqvae *r, struct parity_file *f, int32_t n, const struct rqvae_losses *l)
{
    const struct rqvae_shape *s = rqvae_shape_of(r);
    int64_t cells = (int64_t)n * s->width[s->layers];
    const float loss[3] = {(float)l->recon, (float)l->commit, (float)l->total};
    check(f, "vector", "expected.z", rqvae_z(r), cells);
    check(f, "vector", "expected.zq", rqvae_zq(r), cells);
    check(f, "vector", "expected.x_hat", rqvae_x_hat(r), (int64_t)n * s->width[0]);
    check(f, "loss", "expected.loss", loss, 3);
    const int32_t *codes = parity_ints(f, "expected.codes", (int64_t)n * s->levels, NULL);
    if (codes)
        parity_check_ints("rqvae.codes", "expected.codes", rqvae_codes(r), codes, (int64_t)n * s->levels);
    for (int32_t i = 0; i < 2 * s->layers; i++) {
        char name[64];
        int32_t k = i < s->layers ? i : 2 * s->layers - i;
        int32_t in = s->width[k], out = s->width[i < s->layers ? k + 1 : k - 1];
        const char *half = i < s->layers ? "encoder" : "decoder";
        snprintf(name, sizeof name, "expected.grad.%s.%d.weight", half, i % s->layers);
        check(f, "grad", name, rqvae_weight_grad(r, i), (int64_t)in * out);
        snprintf(name, sizeof name, "expected.grad.%s.%d.bias", half, i % s->layers);
        check(f, "grad", name, rqvae_bias_grad(r, i), out);
    }
}

static void check_update(struct rqvae *r, struct parity_file *f)
{
    const struct rqvae_shape *s = rqvae_shape_of(r);
    int64_t k = s->codes, cells = k * s->width[s->layers];
    for (int32_t i = 0; i < s->levels; i++) {
        char name[64];
        snprintf(name, sizeof name, "expected.update.ema.count.%d", i);
        check(f, "update", name, rqvae_count(r, i), k);
        snprintf(name, sizeof name, "expected.update.ema.sum.%d", i);
        check(f, "update", name, rqvae_sum(r, i), cells);
        snprintf(name, sizeof name, "expected.update.codebook.%d", i);
        check(f, "update", name, rqvae_codebook(r, i), cells);
    }
}

void parity_rqvae(const struct parity_case *c)
{
    const cJSON *settings = parity_settings(c);
    struct parity_file *f = settings ? parity_open(c, "rqvae.safetensors") : NULL;
    int32_t n = f ? (int32_t)parity_number(settings, "batch") : 0;
    struct rqvae *r = n > 0 ? open_model(settings, n) : NULL;
    const float *x = r ? parity_floats(f, "x", (int64_t)n * rqvae_shape_of(r)->width[0], NULL) : NULL;
    if (x) {
        struct rqvae_losses l;
        load_layers(r, f);
        load_codebooks(r, f);
        rqvae_step(r, x, n, &l);
        check_step(r, f, n, &l);
        rqvae_ema(r);
        check_update(r, f);
    }
    rqvae_free(r);
    parity_close(f);
}
