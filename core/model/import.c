/* import.c: everything is read and judged first (config, tensors, layout, IDs, tokenizer); only then is the bundle begun.
 *
 * The one thing that no single file can show is whether they belong together: the model's vocabulary must be exactly the text rows and the
 * codes of the layout, and the tokenizer must not give ids beyond the text rows, since those would be taken for codes. */
#include "import.h"
#include "../../kernels/backend.h"
#include "../base/file.h"
#include "../text/tokenizer.h"
#include "model_file.h"
#include "t5_load.h"
#include <string.h>

enum { LAYOUT_MOST = 1 << 20, TOKENIZER_MOST = 256 << 20 };

struct import {
    const struct import_options *o;
    const struct run *run;
    struct code_layout layout; /* positions 0 = no codes */
    struct id_table ids;
    struct t5 *model;
    char *tokenizer; /* the bytes of spiece.model, or NULL */
    size_t tokenizer_size;
};

static int read_layout(struct import *im, struct err *e)
{
    char *json = file_read(im->o->codes, LAYOUT_MOST, NULL, e);
    int rc = json ? code_layout_parse(&im->layout, json, im->o->codes, e) : -1;
    free(json);
    return rc;
}

/* The folder's rows must be those of the layout: text first, then the codes, nothing behind. */
static int check_rows(const struct import *im, struct err *e)
{
    struct t5_source *s = t5_source_folder(im->o->folder, 0, e);
    if (!s)
        return -1;
    int32_t rows = t5_source_config(s)->vocab, total = code_layout_total(&im->layout);
    t5_source_close(s);
    if (rows == im->layout.base + total)
        return 0;
    return err_set(e, ERR_DATA, "%s: base %d + %d codes = %d vocabulary rows, but the model in %s has %d", im->o->codes, im->layout.base, total,
                   im->layout.base + total, im->o->folder, rows);
}

static int read_model(struct import *im, struct err *e)
{
    char message[256];
    const struct backend *be = backend_open("cpu", 0, message, sizeof message);
    if (!be)
        return err_set(e, ERR_UNAVAILABLE, "cpu: %s", message);
    if (im->layout.positions && check_rows(im, e) < 0)
        return -1;
    struct t5_source *s = t5_source_folder(im->o->folder, code_layout_total(&im->layout), e);
    im->model = s ? t5_load(be, s, NULL, e) : NULL;
    t5_source_close(s);
    return im->model ? 0 : -1;
}

static int check_tokenizer(const struct import *im, const char *path, struct err *e)
{
    struct tokenizer *t = tokenizer_open(path, e);
    if (!t)
        return -1;
    int32_t pieces = tokenizer_size(t), rows = t5_config_of(im->model)->vocab;
    tokenizer_close(t);
    if (pieces <= rows)
        return 0;
    return err_set(e, ERR_DATA, "%s: has %d pieces, but the model has %d text rows", path, pieces, rows);
}

static int read_tokenizer(struct import *im, struct err *e)
{
    char *path = path_join(im->o->folder, "spiece.model");
    int rc = 0;
    if (!file_exists(path)) {
        run_note(im->run, "warning: %s has no spiece.model: the model is imported, but cannot be served", im->o->folder);
    } else {
        rc = check_tokenizer(im, path, e);
        if (rc == 0 && !(im->tokenizer = file_read(path, TOKENIZER_MOST, &im->tokenizer_size, e)))
            rc = -1;
    }
    free(path);
    return rc;
}

static int read_all(struct import *im, struct err *e)
{
    const struct import_options *o = im->o;
    if (!o->codes != !o->ids)
        return err_set(e, ERR_USAGE, "codes and ids belong together: %s is missing", o->codes ? "ids" : "codes");
    if (o->codes && (read_layout(im, e) < 0 || id_table_read(&im->ids, o->ids, &im->layout, e) < 0))
        return -1;
    if (read_model(im, e) < 0 || read_tokenizer(im, e) < 0)
        return -1;
    return run_stopping(im->run) ? err_set(e, ERR_INTERRUPTED, "stopped before anything was written") : 0;
}

static int put_ids(struct import *im, struct bundle *b, struct err *e)
{
    char *path = bundle_path(b, "ids.tsv");
    int rc = id_table_write(&im->ids, path, e);
    free(path);
    return rc;
}

static int put_all(struct import *im, struct bundle *b, struct err *e)
{
    bool coded = im->layout.positions > 0;
    if (im->tokenizer && bundle_put(b, "tokenizer.model", im->tokenizer, im->tokenizer_size, e) < 0)
        return -1;
    if (model_file_write(b, coded ? "search" : "base", im->model, coded ? &im->layout : NULL, "{\"imported\":true}", e) < 0)
        return -1;
    return coded ? put_ids(im, b, e) : 0;
}

static int write_bundle(struct import *im, struct err *e)
{
    struct bundle *b = bundle_create(im->o->out, im->o->replace, e);
    int rc = b ? bundle_begin(b, e) : -1;
    if (rc == 0)
        rc = put_all(im, b, e) == 0 ? bundle_commit(b, e) : -1;
    bundle_close(b);
    return rc;
}

static void note_result(const struct import *im)
{
    const struct t5_config *c = t5_config_of(im->model);
    run_note(im->run, "T5 of %lld parameters, width %d, %d + %d layers, %d text rows", (long long)t5_size(im->model), c->d_model,
             c->encoder_layers, c->decoder_layers, c->vocab);
    if (im->layout.positions)
        run_note(im->run, "%d documents with IDs of %d positions, %d codes", im->ids.count, im->ids.positions, c->codes);
}

int import_run(const struct import_options *o, const struct run *run, struct err *e)
{
    struct import im = {.o = o, .run = run};
    int rc = read_all(&im, e);
    if (rc == 0)
        rc = write_bundle(&im, e);
    if (rc == 0)
        note_result(&im);
    t5_free(im.model);
    id_table_free(&im.ids);
    free(im.tokenizer);
    return rc;
}
