/* parity.h: the small framework of the parity program: compare what we compute with a folder of reference values, tensor by tensor.
 *
 * A check belongs to a line, "case.class" (t5_v10.grad); at the end every line is printed once: tensors checked, worst error, tolerance. A
 * failing tensor is named at once. Every tensor of an expected file must be asked for: parity_close fails for each one that nobody read, so
 * nothing is skipped in silence; asking for one that is not there fails too. Sizes come from the folder, never from here.
 *
 * A case is one function: parity_NAME.c defines it, the table in parity.c lists it. It returns nothing: failures are counted. */
#ifndef SEMINDEX_PARITY_H
#define SEMINDEX_PARITY_H

#include "../../core/model/safetensors.h"
#include "../../kernels/backend.h"
#include <cJSON.h>

struct parity_case {
    const char *name, *folder; /* folder under the root; the case is absent when it is */
    void (*run)(const struct parity_case *c);
};

/* ---- the folder ---- */
const char *parity_root(void);
char *parity_path(const struct parity_case *c, const char *file); /* caller frees */
const cJSON *parity_manifest(void);
const cJSON *parity_settings(const struct parity_case *c); /* manifest cases.NAME; NULL after a failure was counted */
double parity_number(const cJSON *object, const char *dotted); /* "adamw.lr", "adamw.betas.0"; NaN after a failure was counted */
/* manifest tolerance.NAME, or, where the backend is narrow, the one in parity.c; 0 after a failure was counted */
double parity_tolerance(const char *name);
const struct backend *parity_backend(void);
bool parity_narrow(void); /* the backend's activations are bf16 */

/* ---- checks; each counts one tensor, 0 = passed ---- */
/* max|mine - ref| <= tol * max(max|ref|, floor); anything that is not finite fails. tol: class of the manifest. */
int parity_check(const char *line, const char *tensor, const float *mine, const float *ref, int64_t n, double tol);
int parity_check_absolute(const char *line, const char *tensor, const double *mine, const double *ref, int64_t n, double tol);
int parity_check_ints(const char *line, const char *tensor, const int32_t *mine, const int32_t *ref, int64_t n);
int parity_check_zero(const char *line, const char *tensor, const float *mine, int64_t n); /* all exactly 0 */
int parity_check_true(const char *line, const char *what, int holds);
/* Counts a failure that is no comparison: a missing file, a wrong shape. Returns -1. */
int parity_fail(const char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- expected files ---- */
struct parity_file;
struct parity_file *parity_open(const struct parity_case *c, const char *file); /* NULL after a failure was counted */
/* Fails once for every tensor that was never read. NULL is fine. */
void parity_close(struct parity_file *f);
bool parity_has(const struct parity_file *f, const char *name);
/* Values of a tensor, owned by the file; NULL after a failure was counted. n: its elements, or NULL. want >= 0: its expected elements. */
const float *parity_floats(struct parity_file *f, const char *name, int64_t want, int64_t *n);
const int32_t *parity_ints(struct parity_file *f, const char *name, int64_t want, int64_t *n);
const struct safetensor *parity_tensor(struct parity_file *f, const char *name); /* shape and dtype; counts as read */
int32_t parity_count(const struct parity_file *f);
const char *parity_name(const struct parity_file *f, int32_t i);

/* ---- cases ---- */
void parity_t5(const struct parity_case *c);
void parity_beam(const struct parity_case *c);
void parity_lmindexer(const struct parity_case *c);
void parity_rqvae(const struct parity_case *c);
void parity_metrics(const struct parity_case *c);

#endif
