/* queries.c: `semindex queries`: pseudo-queries for every document of a corpus, by a T5 that was trained to write them (docT5query).
 *
 * Documents are written in corpus order, some at a time. FILE.part grows; every checkpoint_s seconds it is brought to disk and FILE.part.state,
 * a checkpoint bound to all that decides the text, says how many documents and bytes are whole. A run that was killed cuts FILE.part back to
 * those bytes and goes on behind that document: the draws hang on (seed, document id, sample) alone, so the file ends with the same bytes. At
 * the end FILE.part is renamed to FILE. A part of other settings is refused by name, never mixed; a state without a part is what a kill behind that
 * renaming leaves, and means nothing. A FILE that is there is only replaced when the caller says so, and stays until the new one is whole.
 *
 * Tokens that are no text (padding, unknown, T5's sentinels, rows of the vocabulary beyond the tokenizer) are never drawn. Of one document's queries,
 * those equal but for case and white space are written once, empty ones not at all. A wish to stop ends the batch at hand, whose documents are
 * then written anew. Invariant: FILE.part holds whole lines of whole documents up to state.bytes. */
#include "runs.h"

#include "base/file.h"
#include "base/fill.h"
#include "base/utf8.h"
#include "data/corpus.h"
#include "data/written.h"
#include "learn/checkpoint.h"
#include "model/model_file.h"
#include "model/model_settings.h"
#include "retrieve/generate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wctype.h>

enum { PER_DOCUMENT_MOST = 1000, TOKENS_MOST = 8192, BATCH_MOST = 4096, BATCH_USUAL = 16, CELLS_MOST = 1 << 16 };
/* Of caches and logits, unless a batch is given: what a processor's machine can spare, and what fills a device. */
static const size_t usual_bytes = (size_t)256 << 20, device_bytes = (size_t)2 << 30;

struct state { /* stored as it is */
    int64_t documents, bytes; /* whole ones in FILE.part */
    int64_t written, twice, empty, textless;
};

struct queries {
    struct queries_options o; /* defaults filled in */
    const struct run *run;
    const struct backend *be;
    struct bundle *bundle;
    const char *part_name; /* of the bundle */
    struct corpus corpus;
    struct tokenizer *tokenizer;
    struct t5 *model;
    struct generate *generate;
    char *part, *checkpoint, *settings;
    FILE *file;
    int lock;
    int32_t *tokens, *offsets, *document; /* of a batch: packed inputs, [batch + 1], [batch] */
    uint64_t *key;                        /* [batch] */
    int32_t *never, never_count;          /* tokens that are no text */
    struct state state;
    double saved_at;
};

/* ---- opening ---- */

static void fill_defaults(struct queries_options *o)
{
    fill_i32(&o->per_document, 15);
    fill_i32(&o->top_k, 10);
    fill_i32(&o->max_tokens, 64);
    fill_f64(&o->temperature, 1);
    fill_f64(&o->checkpoint_s, 5);
}

static int check_options(const struct queries_options *o, struct err *e)
{
    const struct {
        const char *name;
        int32_t value, most;
    } bounds[] = {{"queries per document", o->per_document, PER_DOCUMENT_MOST}, {"top k", o->top_k, GENERATE_TOP_MOST},
                  {"tokens of a query", o->max_tokens, TOKENS_MOST}, {"input tokens", o->input_tokens, TOKENS_MOST},
                  {"batch", o->batch, BATCH_MOST}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value > bounds[i].most)
            return err_set(e, ERR_USAGE, "%s %d: at most %d", bounds[i].name, bounds[i].value, bounds[i].most);
    if ((int64_t)o->batch * o->per_document > CELLS_MOST)
        return err_set(e, ERR_USAGE, "batch %d of %d queries each: at most %d are written at once", o->batch, o->per_document, CELLS_MOST);
    return 0;
}

/* Before hours are spent: may FILE be written at the end? */
static int check_out(const struct queries_options *o, struct err *e)
{
    struct stat st;
    if (stat(o->out, &st) != 0)
        return 0;
    if (S_ISDIR(st.st_mode))
        return err_set(e, ERR_USAGE, "%s: is a folder; a file is written", o->out);
    return o->replace ? 0 : err_set(e, ERR_CONFLICT, "%s: exists; --replace writes a new file in its place", o->out);
}

static int open_bundle(struct queries *q, struct err *e)
{
    q->bundle = bundle_open(q->o.model, e);
    if (q->bundle == NULL)
        return -1;
    q->part_name = model_file_has(q->bundle, "queries") ? "queries" : "base";
    if (!model_file_has(q->bundle, q->part_name))
        return err_set(e, ERR_CONFLICT, "%s: nothing in it writes queries: neither a part `queries` (semindex train queries) nor `base` (semindex import)",
                       q->o.model);
    const char *path = bundle_file(q->bundle, "tokenizer.model");
    if (path == NULL)
        return err_set(e, ERR_CONFLICT, "%s: the bundle has no tokenizer", q->o.model);
    if (strcmp(q->part_name, "base") == 0 && bundle_file(q->bundle, "pretrain.run.json") != NULL)
        run_note(q->run, "warning: %s: its base was pretrained to fill gaps in texts, not to write queries; `semindex train queries` teaches it that", q->o.model);
    char *json = model_file_settings(q->bundle, q->part_name, e);
    if (json == NULL)
        return -1;
    struct model_settings said;
    model_settings_read(&said, json);
    free(json);
    fill_i32(&q->o.input_tokens, said.max_tokens > 0 ? said.max_tokens : 512);
    q->tokenizer = tokenizer_open(path, e);
    return q->tokenizer == NULL ? -1 : 0;
}

static struct generate_limits limits_of(const struct queries *q, int32_t batch)
{
    return (struct generate_limits){.rows = batch, .tokens = batch * q->o.input_tokens, .samples = q->o.per_document, .steps = q->o.max_tokens};
}

static size_t bytes_of(const struct queries *q, const struct t5_config *c, int32_t batch)
{
    struct need n = {.be = q->be};
    const struct generate_limits l = limits_of(q, batch);
    generate_need(&n, c, &l);
    return n.bytes;
}

/* The part's shape, the batch that suits it, and whether the device has room for both. */
static int plan_model(struct queries *q, struct t5_config *c, struct err *e)
{
    if (model_file_config(q->bundle, q->part_name, c, e) != 0)
        return -1;
    if (c->codes > 0 || tokenizer_size(q->tokenizer) > c->vocab)
        return err_set(e, ERR_DATA, "%s: part %s has ID codes or fewer text rows than its tokenizer has pieces", q->o.model, q->part_name);
    int32_t most = BATCH_USUAL;
    while (most > 1 && bytes_of(q, c, most) > (q->be->has_host_memory ? usual_bytes : device_bytes))
        most--;
    fill_i32(&q->o.batch, most);
    const struct t5_options options = {.config = *c};
    struct need n = {.be = q->be, .bytes = bytes_of(q, c, q->o.batch)};
    need_model(&n, &options);
    return need_check(&n, "writing queries", e);
}

static void list_never(struct queries *q, int32_t vocab)
{
    q->never = xcalloc((size_t)vocab, sizeof *q->never);
    for (int32_t i = 0; i < vocab; i++)
        if (i != TOKEN_EOS && !tokenizer_is_text(q->tokenizer, i))
            q->never[q->never_count++] = i;
}

static int open_model(struct queries *q, struct err *e)
{
    struct t5_config c;
    if (plan_model(q, &c, e) != 0)
        return -1;
    q->model = model_file_read(q->bundle, q->part_name, q->be, false, NULL, 0, NULL, NULL, e);
    const struct generate_limits l = limits_of(q, q->o.batch);
    q->generate = q->model != NULL ? generate_init(q->model, &l, e) : NULL;
    if (q->generate == NULL)
        return -1;
    list_never(q, c.vocab);
    q->tokens = xcalloc((size_t)l.tokens, sizeof *q->tokens);
    q->offsets = xcalloc((size_t)l.rows + 1, sizeof *q->offsets);
    q->document = xcalloc((size_t)l.rows, sizeof *q->document);
    q->key = xcalloc((size_t)l.rows, sizeof *q->key);
    return 0;
}

static void data_digest(const struct queries *q, char hex[65])
{
    struct sha256 *s = sha256_begin();
    for (int32_t i = 0; i < q->corpus.count; i++) {
        char content[65];
        document_hash(&q->corpus.documents[i], content);
        sha256_add(s, q->corpus.documents[i].id, strlen(q->corpus.documents[i].id) + 1);
        sha256_add(s, content, sizeof content);
    }
    sha256_end(s, hex);
}

/* What decides the bytes. A device may choose its products by the number of rows, so there the batch is of it. */
static char *settings_of(const struct queries *q)
{
    const struct queries_options *o = &q->o;
    char data[65], *weights = xprintf("%s.safetensors", q->part_name);
    struct str s = {0};
    data_digest(q, data);
    str_printf(&s, "model=%s\ntokenizer=%s\ndata=%s\n", bundle_sha256(q->bundle, weights), bundle_sha256(q->bundle, "tokenizer.model"), data);
    str_printf(&s, "per_document=%d\ntop_k=%d\ntemperature=%.17g\nmax_tokens=%d\ninput_tokens=%d\nseed=%llu\nfirst=%d\n", o->per_document, o->top_k,
               o->temperature, o->max_tokens, o->input_tokens, (unsigned long long)o->seed, o->limit);
    str_printf(&s, "device=%s\nbatch=%d\n", q->be->name, q->be->has_host_memory ? 0 : o->batch);
    free(weights);
    return s.data;
}

static int fail(const struct queries *q, const char *what, struct err *e)
{
    return err_set(e, err_from_errno(errno), "%s: %s: %s", q->part, what, strerror(errno));
}

/* Opens FILE.part where a stopped run of the same settings left it, else empty. */
static int open_part(struct queries *q, struct err *e)
{
    struct checkpoint_section section = {"state", &q->state, sizeof q->state};
    if (lock_acquire(q->part, &q->lock, e) != 0)
        return -1;
    if (!file_exists(q->part)) /* the end of a run that was killed behind its renaming */
        checkpoint_remove(q->checkpoint);
    int rc = checkpoint_load(q->checkpoint, q->settings, &section, 1, q->run, e);
    if (rc < 0)
        return err_prefix(e, "a stopped run left %s; start it again as it was, or remove %s to begin anew", q->part, q->checkpoint);
    q->file = fopen(q->part, rc > 0 ? "r+b" : "wb");
    if (q->file == NULL || fseeko(q->file, 0, SEEK_END) != 0)
        return fail(q, "cannot be opened", e);
    if (ftello(q->file) < q->state.bytes) {
        run_note(q->run, "queries: %s is shorter than %s says: from the beginning", q->part, q->checkpoint);
        q->state = (struct state){0};
    }
    if (ftruncate(fileno(q->file), q->state.bytes) != 0 || fseeko(q->file, q->state.bytes, SEEK_SET) != 0)
        return fail(q, "cannot be cut back", e);
    if (q->state.documents > 0)
        run_note(q->run, "queries: going on behind document %lld", (long long)q->state.documents);
    return 0;
}

static int queries_open(struct queries *q, struct err *e)
{
    char message[512];
    fill_defaults(&q->o);
    if (check_options(&q->o, e) != 0 || check_out(&q->o, e) != 0)
        return -1;
    q->be = backend_open(q->o.device ? q->o.device : "auto", q->o.threads, message, sizeof message);
    if (q->be == NULL)
        return err_set(e, ERR_UNAVAILABLE, "device %s: %s", q->o.device ? q->o.device : "auto", message);
    run_note_device(q->run, q->be->device, message);
    if (open_bundle(q, e) != 0 || corpus_read(&q->corpus, q->o.data, q->run, e) != 0 || open_model(q, e) != 0)
        return -1;
    if (q->o.limit <= 0 || q->o.limit > q->corpus.count)
        q->o.limit = q->corpus.count;
    q->part = xprintf("%s.part", q->o.out);
    q->checkpoint = xprintf("%s.state", q->part);
    q->settings = settings_of(q);
    return open_part(q, e);
}

static void queries_close(struct queries *q)
{
    if (q->file != NULL)
        fclose(q->file);
    lock_release(q->lock);
    generate_free(q->generate);
    t5_free(q->model);
    tokenizer_close(q->tokenizer);
    corpus_free(&q->corpus);
    bundle_close(q->bundle);
    void *ours[] = {q->part, q->checkpoint, q->settings, q->tokens, q->offsets, q->document, q->key, q->never};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        free(ours[i]);
}

/* ---- lines ---- */

/* The text in lower case with single spaces, none at the ends: what makes two queries one. Case of all scripts where the program's locale has it. */
static void fold(const char *text, struct str *out)
{
    size_t size = strlen(text), n;
    uint32_t point;
    bool gap = false;
    str_clear(out);
    for (size_t i = 0; i < size; i += n) {
        n = utf8_next(text + i, size - i, &point);
        wint_t low = n > 0 ? towlower((wint_t)point) : (wint_t)(unsigned char)text[i];
        n = n > 0 ? n : 1;
        if (iswspace(low)) {
            gap = out->size > 0;
            continue;
        }
        str_printf(out, gap ? " %x." : "%x.", (unsigned)low); /* for comparison only */
        gap = false;
    }
}

static void write_line(struct queries *q, const char *id, int32_t sample, const char *text)
{
    struct str line = {0};
    written_line(&line, id, sample, text);
    q->state.bytes += (int64_t)fwrite(line.data, 1, line.size, q->file);
    q->state.written++;
    str_free(&line);
}

/* All queries that were written for row `row` of the batch. */
static void write_document(struct queries *q, int32_t row)
{
    const char *id = q->corpus.documents[q->document[row]].id;
    struct string_map *seen = string_map_init(q->o.per_document);
    struct str folded = {0};
    for (int32_t s = 0; s < q->o.per_document; s++) {
        int32_t count;
        const int32_t *tokens = generate_tokens(q->generate, row, s, &count);
        char *text = tokenizer_decode(q->tokenizer, tokens, count);
        fold(text, &folded);
        if (folded.size == 0)
            q->state.empty++;
        else if (!string_map_put(seen, folded.data, folded.size, s))
            q->state.twice++;
        else
            write_line(q, id, s + 1, text);
        free(text);
    }
    str_free(&folded);
    string_map_free(seen);
}

/* The next documents as a batch; those whose text has no token (it is empty or white) are passed over. */
static int32_t fill_batch(struct queries *q)
{
    struct str text = {0};
    int32_t n = 0;
    while (n < q->o.batch && q->state.documents < q->o.limit) {
        int32_t i = (int32_t)q->state.documents++, start = q->offsets[n];
        const struct document *d = &q->corpus.documents[i];
        str_clear(&text);
        document_text(d, &text);
        int32_t count = tokenizer_encode(q->tokenizer, text.data, text.size, q->tokens + start, q->o.input_tokens, true, NULL);
        if (count <= 1) { /* EOS alone */
            q->state.textless++;
            continue;
        }
        q->offsets[n + 1] = start + count;
        q->document[n] = i;
        q->key[n++] = hash_bytes(d->id, strlen(d->id), 0);
    }
    str_free(&text);
    return n;
}

/* ---- the run ---- */

static int flush(struct queries *q, struct err *e)
{
    if (fflush(q->file) != 0 || ferror(q->file))
        return fail(q, "cannot be written", e);
    return fsync(fileno(q->file)) == 0 || errno == EINVAL ? 0 : fail(q, "cannot be brought to disk (fsync)", e);
}

static int save(struct queries *q, struct err *e)
{
    const struct checkpoint_section section = {"state", &q->state, sizeof q->state};
    q->saved_at = clock_s();
    return flush(q, e) == 0 ? checkpoint_save(q->checkpoint, q->settings, &section, 1, e) : -1;
}

static int stopped(struct queries *q, struct err *e)
{
    if (save(q, e) != 0)
        return -1;
    return err_set(e, ERR_INTERRUPTED, "queries: stopped behind document %lld of %d; the same command goes on from there",
                   (long long)q->state.documents, q->o.limit);
}

/* One batch into FILE.part; a stop leaves the state as it was before it. */
static int write_batch(struct queries *q, const struct generate_options *o, struct err *e)
{
    const struct state before = q->state;
    int32_t n = fill_batch(q);
    if (generate_run(q->generate, &(struct t5_batch){n, q->tokens, q->offsets}, q->key, o, e) != 0) {
        q->state = before;
        return e->code == ERR_INTERRUPTED ? stopped(q, e) : err_prefix(e, "%s: part %s", q->o.model, q->part_name);
    }
    for (int32_t row = 0; row < n; row++)
        write_document(q, row);
    return 0;
}

static int loop(struct queries *q, struct err *e)
{
    const struct generate_options options = {.samples = q->o.per_document, .steps = q->o.max_tokens, .top_k = q->o.top_k, .never = q->never,
                                             .never_count = q->never_count, .temperature = q->o.temperature, .seed = q->o.seed, .run = q->run};
    q->saved_at = clock_s();
    run_report(q->run, "queries", q->state.documents, q->o.limit, "documents", NAN); /* rates count from here */
    while (q->state.documents < q->o.limit) {
        if (write_batch(q, &options, e) != 0)
            return -1;
        run_report(q->run, "queries", q->state.documents, q->o.limit, "documents", NAN);
        if (clock_s() - q->saved_at > q->o.checkpoint_s && save(q, e) != 0)
            return -1;
    }
    return flush(q, e);
}

/* FILE.part becomes FILE; the state is of no use then. */
static int put_in_place(struct queries *q, struct err *e)
{
    if (rename(q->part, q->o.out) != 0)
        return err_set(e, err_from_errno(errno), "%s: cannot be put in place: %s", q->o.out, strerror(errno));
    const char *slash = strrchr(q->o.out, '/');
    char *folder = slash == NULL ? xstrdup(".") : xstrndup(q->o.out, slash > q->o.out ? (size_t)(slash - q->o.out) : 1);
    char *lock = xprintf("%s.lock", q->part);
    int rc = file_fsync_folder(folder, e);
    if (rc == 0)
        checkpoint_remove(q->checkpoint);
    (void)unlink(lock);
    free(lock);
    free(folder);
    return rc;
}

int queries_run(const struct queries_options *o, const struct run *run, struct err *e)
{
    struct queries q = {.o = *o, .run = run, .lock = -1};
    int rc = queries_open(&q, e);
    if (rc == 0)
        run_note(run, "queries: part %s of %s, %d documents, %d a document, %d at once", q.part_name, o->model, q.o.limit, q.o.per_document, q.o.batch);
    if (rc == 0)
        rc = loop(&q, e);
    if (rc == 0)
        rc = put_in_place(&q, e);
    if (rc == 0)
        run_note(run, "queries: %lld written for %d documents; dropped: %lld that a document had already, %lld empty; %lld documents without text",
                 (long long)q.state.written, q.o.limit, (long long)q.state.twice, (long long)q.state.empty, (long long)q.state.textless);
    queries_close(&q);
    return rc;
}
