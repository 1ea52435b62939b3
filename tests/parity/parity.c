/* parity.c: parity [--device NAME] DIR: compares semindex with the reference values in DIR (layout: tests/fixtures/README.md).
 *
 * Prints one line per tensor class, names every failing tensor, then "N passed, N failed"; exit status 1 if anything failed or nothing was
 * checked. The program reads every size from the folder, so a folder of another seed or shape is tried the same way. */
#include "parity.h"

#include "../../core/base/file.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static const struct parity_case cases[] = {
    {"t5_v10", "t5_v10", parity_t5},
    {"t5_v11", "t5_v11", parity_t5},
    {"beam", "beam", parity_beam},
    {"lmindexer", "lmindexer", parity_lmindexer},
    {"rqvae", "rqvae", parity_rqvae},
    {"metrics", "metrics", parity_metrics},
};

struct line {
    char name[96];
    int checked, failed;
    double worst, tolerance;
};

static struct {
    const char *root;
    cJSON *manifest;
    const struct backend *be;
    struct line line[256];
    int lines, passed, failed;
    double floor;
} state;

/* Where activations are bf16, a tensor's error is the root of its summed squares against the reference's: single elements may be far off, as
 * a ReLU's sign flips with the last bit, but not the whole. The reference is f32 throughout, so the rounding of weights counts, too. One
 * rounding is off by at most u = 2^-8 of a value, 0.6 u as a root mean square. A value of the last layer has passed some 3 roundings for
 * each of the 10 to 12 sublayers of the fixtures' models, and its weights' roundings: some 40 independent ones, all kept by the residual
 * stream: 0.6 u sqrt(40) = 4 u. Backward doubles the path and meets flipped ReLUs. Means (losses, norms) lose most of it. */
static const struct {
    const char *name;
    double units; /* of 2^-8 */
    const char *why;
} narrow[] = {
    {"hidden", 8, "as above, twice for the spread between models"},
    {"logits", 8, "one product more"},
    {"vector", 8, "as hidden"},
    {"loss", 2, "a mean over tokens: what is left is the bias of rounding"},
    {"grad", 20, "the paths of both directions"},
    {"lm.grad", 96, "the same through two decoders and a softmax over few near equal candidates, whose gradients are differences of large terms"},
    {"adamw.loss", 3, "as loss, after steps that differ by the gradients' errors"},
    {"adamw.grad_norm", 8, "a norm over all gradients: single errors vanish in it, common ones stay"},
    {"adamw.l2", 0.5, "master weights are f32 and move by lr * 10 at most"},
    {"adamw.delta_l2", 10, "AdamW divides by the gradient's size, so an element of noise moves as far as one of signal"},
    {"beam.score", 4, "a sum of log-probabilities, each off by its logits"},
};

/* ---- lines ---- */

static struct line *line_of(const char *name, double tolerance)
{
    for (int i = 0; i < state.lines; i++)
        if (strcmp(state.line[i].name, name) == 0)
            return &state.line[i];
    CHECK(state.lines < (int)(sizeof state.line / sizeof *state.line));
    struct line *l = &state.line[state.lines++];
    snprintf(l->name, sizeof l->name, "%s", name);
    l->tolerance = tolerance;
    return l;
}

static int count(const char *line, double tolerance, double error, bool ok)
{
    struct line *l = line_of(line, tolerance);
    l->checked++;
    l->failed += !ok;
    l->worst = isnan(error) || error > l->worst ? error : l->worst;
    state.passed += ok;
    state.failed += !ok;
    return ok ? 0 : -1;
}

int parity_fail(const char *line, const char *format, ...)
{
    char text[1400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    printf("FAIL %s: %s\n", line, text);
    return count(line, 0, 0, false);
}

int parity_check(const char *line, const char *tensor, const float *mine, const float *ref, int64_t n, double tol)
{
    double error = 0, scale = state.floor, squares = 0, ref_squares = 0;
    int64_t at = 0;
    bool finite = tol > 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)mine[i] - (double)ref[i]);
        finite &= isfinite(d) != 0;
        scale = fmax(scale, fabs((double)ref[i]));
        squares += d * d;
        ref_squares += (double)ref[i] * (double)ref[i];
        if (d > error) {
            error = d;
            at = i;
        }
    }
    if (parity_narrow()) {
        error = sqrt(squares);
        scale = fmax(sqrt(ref_squares), state.floor * sqrt((double)n));
    }
    bool ok = finite && error <= tol * scale;
    if (!ok)
        printf("FAIL %s %s: element %lld of %lld is %.9g, expected %.9g%s (error %.3g, tol %.3g)\n", line, tensor, (long long)at, (long long)n,
               n ? (double)mine[at] : 0, n ? (double)ref[at] : 0, finite ? "" : "; not all values are finite", error / scale, tol);
    return count(line, tol, finite ? error / scale : NAN, ok);
}

int parity_check_absolute(const char *line, const char *tensor, const double *mine, const double *ref, int64_t n, double tol)
{
    double worst = 0;
    bool ok = tol > 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(mine[i] - ref[i]);
        if (!(d <= tol)) {
            printf("FAIL %s %s: element %lld is %.15g, expected %.15g (tol %.3g)\n", line, tensor, (long long)i, mine[i], ref[i], tol);
            ok = false;
        }
        worst = isnan(d) || d > worst ? d : worst;
    }
    return count(line, tol, worst, ok);
}

int parity_check_ints(const char *line, const char *tensor, const int32_t *mine, const int32_t *ref, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (mine[i] != ref[i]) {
            printf("FAIL %s %s: element %lld of %lld is %d, expected %d\n", line, tensor, (long long)i, (long long)n, mine[i], ref[i]);
            return count(line, 0, fabs((double)mine[i] - ref[i]), false);
        }
    return count(line, 0, 0, true);
}

int parity_check_zero(const char *line, const char *tensor, const float *mine, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(mine[i] == 0)) {
            printf("FAIL %s %s: element %lld is %.9g, expected exactly 0 (absent from the reference)\n", line, tensor, (long long)i,
                   (double)mine[i]);
            return count(line, 0, fabs((double)mine[i]), false);
        }
    return count(line, 0, 0, true);
}

int parity_check_true(const char *line, const char *what, int holds)
{
    if (!holds)
        printf("FAIL %s: %s\n", line, what);
    return count(line, 0, 0, holds != 0);
}

/* ---- the folder ---- */

const char *parity_root(void)
{
    return state.root;
}

const struct backend *parity_backend(void)
{
    return state.be;
}

char *parity_path(const struct parity_case *c, const char *file)
{
    char *folder = path_join(state.root, c->folder), *path = path_join(folder, file);
    free(folder);
    return path;
}

const cJSON *parity_manifest(void)
{
    return state.manifest;
}

const cJSON *parity_settings(const struct parity_case *c)
{
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(state.manifest, "cases"), c->name);
    if (!x)
        parity_fail(c->name, "manifest.json has no cases.%s", c->name);
    return x;
}

/* One step of a dotted path: a member of an object or an index of an array. */
static const cJSON *step_into(const cJSON *x, const char *key)
{
    return cJSON_IsArray(x) ? cJSON_GetArrayItem(x, atoi(key)) : cJSON_GetObjectItemCaseSensitive(x, key);
}

double parity_number(const cJSON *object, const char *dotted)
{
    char copy[128], *rest = copy, *key;
    const cJSON *x = object;
    snprintf(copy, sizeof copy, "%s", dotted);
    while (x && (key = strsep(&rest, ".")))
        x = step_into(x, key);
    if (cJSON_IsNumber(x))
        return x->valuedouble;
    if (cJSON_IsBool(x))
        return cJSON_IsTrue(x);
    parity_fail("manifest", "no number %s", dotted);
    return NAN;
}

bool parity_narrow(void)
{
    return state.be->act_bytes < sizeof(float);
}

double parity_tolerance(const char *name)
{
    for (size_t i = 0; parity_narrow() && i < sizeof narrow / sizeof *narrow; i++)
        if (strcmp(narrow[i].name, name) == 0)
            return narrow[i].units * 0x1p-8;
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(state.manifest, "tolerance"), name);
    if (cJSON_IsNumber(x) && x->valuedouble > 0 && x->valuedouble < 1)
        return x->valuedouble;
    parity_fail("manifest", "no tolerance.%s between 0 and 1", name);
    return 0;
}

static int open_manifest(void)
{
    struct err e = {0};
    size_t size;
    char *path = path_join(state.root, "manifest.json"), *text = file_read(path, 64 << 20, &size, &e);
    state.manifest = text ? cJSON_ParseWithLengthOpts(text, size + 1, NULL, true) : NULL;
    if (!state.manifest)
        parity_fail("manifest", "%s", text ? "manifest.json is not valid JSON" : e.message);
    free(text);
    free(path);
    if (!state.manifest)
        return -1;
    state.floor = parity_tolerance("floor");
    return state.floor > 0 ? 0 : -1;
}

/* ---- expected files ---- */

struct parity_file {
    char *line; /* case/file, for messages */
    struct safetensors *s;
    void **values; /* [count], converted once */
    bool *read;
};

struct parity_file *parity_open(const struct parity_case *c, const char *file)
{
    struct err e = {0};
    char *path = parity_path(c, file);
    struct safetensors *s = safetensors_open(path, &e);
    free(path);
    if (!s) {
        parity_fail(c->name, "%s", e.message);
        return NULL;
    }
    struct parity_file *f = xcalloc(1, sizeof *f);
    size_t n = (size_t)safetensors_count(s);
    *f = (struct parity_file){xprintf("%s/%s", c->name, file), s, xcalloc(n + 1, sizeof *f->values), xcalloc(n + 1, sizeof *f->read)};
    return f;
}

void parity_close(struct parity_file *f)
{
    if (!f)
        return;
    for (int32_t i = 0; i < safetensors_count(f->s); i++) {
        if (!f->read[i])
            parity_fail(f->line, "tensor %s was not checked", safetensors_at(f->s, i)->name);
        free(f->values[i]);
    }
    safetensors_close(f->s);
    free(f->values);
    free(f->read);
    free(f->line);
    free(f);
}

bool parity_has(const struct parity_file *f, const char *name)
{
    return safetensors_find(f->s, name) != NULL;
}

int32_t parity_count(const struct parity_file *f)
{
    return safetensors_count(f->s);
}

const char *parity_name(const struct parity_file *f, int32_t i)
{
    return safetensors_at(f->s, i)->name;
}

const struct safetensor *parity_tensor(struct parity_file *f, const char *name)
{
    const struct safetensor *t = safetensors_find(f->s, name);
    if (t)
        f->read[t - safetensors_at(f->s, 0)] = true;
    else
        parity_fail(f->line, "tensor %s is missing", name);
    return t;
}

static void *values_of(struct parity_file *f, const char *name, int64_t want, int64_t *n, bool whole)
{
    const struct safetensor *t = parity_tensor(f, name);
    struct err e = {0};
    if (!t)
        return NULL;
    if (want >= 0 && t->elements != want) {
        parity_fail(f->line, "tensor %s has %lld elements, ours %lld", name, (long long)t->elements, (long long)want);
        return NULL;
    }
    if (n)
        *n = t->elements;
    void **slot = &f->values[t - safetensors_at(f->s, 0)];
    if (*slot)
        return *slot;
    *slot = xmalloc((size_t)t->elements * 4 + 4);
    if ((whole ? safetensors_ints(f->s, t, *slot, &e) : safetensors_floats(f->s, t, *slot, &e)) == 0)
        return *slot;
    parity_fail(f->line, "%s", e.message);
    free(*slot);
    return *slot = NULL;
}

const float *parity_floats(struct parity_file *f, const char *name, int64_t want, int64_t *n)
{
    return values_of(f, name, want, n, false);
}

const int32_t *parity_ints(struct parity_file *f, const char *name, int64_t want, int64_t *n)
{
    return values_of(f, name, want, n, true);
}

/* ---- main ---- */

static void run_case(const struct parity_case *c)
{
    struct stat info;
    char *folder = path_join(state.root, c->folder);
    if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode))
        printf("%s absent\n", c->name);
    else
        c->run(c);
    free(folder);
}

static int report(void)
{
    for (int i = 0; i < state.lines; i++) {
        const struct line *l = &state.line[i];
        printf("%s checked=%d worst=%.2g tol=%.2g%s\n", l->name, l->checked, l->worst, l->tolerance, l->failed ? " FAILED" : "");
    }
    printf("%d passed, %d failed\n", state.passed, state.failed);
    return state.failed || !state.passed ? 1 : 0;
}

int main(int argc, char **argv)
{
    char message[512];
    bool named = argc == 4 && strcmp(argv[1], "--device") == 0;
    if (argc != 2 && !named) {
        fprintf(stderr, "usage: parity [--device NAME] DIR   (a folder of reference fixtures, see tests/fixtures/README.md)\n");
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    state.root = argv[argc - 1];
    state.be = backend_open(named ? argv[2] : "cpu", 0, message, sizeof message);
    if (!state.be) {
        fprintf(stderr, "parity: %s\n", message);
        return 69;
    }
    printf("device %s\n", state.be->device);
    if (open_manifest() == 0)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            run_case(&cases[i]);
    int status = report();
    cJSON_Delete(state.manifest);
    return status;
}
