/* parity_beam.c: generative retrieval against beam/ of a reference folder: query ids, log-probabilities of the first position, beams of 5, 20 and
 * all documents in both scorings, exhaustive scores. The rules for comparing lists are the folder's README's. */
#include "parity.h"
#include "../../core/base/file.h"
#include "../../core/model/t5_load.h"
#include "../../core/retrieve/beam.h"
#include "../../core/text/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct beam_case {
    const struct parity_case *p;
    struct parity_file *data;
    const struct backend *be;
    struct code_layout layout;
    struct id_table ids;
    struct t5 *model;
    struct t5_work *work;
    struct beam *beam;
    struct trie *trie;
    const struct trie_view *placed;
    int32_t queries, documents, tokens, widest;
    const int32_t *query_tokens, *query_offsets;
    struct err e;
};

static int read_layout(struct beam_case *c)
{
    size_t size;
    char *path = parity_path(c->p, "codes.json"), *text = file_read(path, 1 << 20, &size, &c->e);
    int rc = text ? code_layout_parse(&c->layout, text, path, &c->e) : -1;
    free(path);
    free(text);
    path = parity_path(c->p, "ids.tsv");
    rc = rc == 0 ? id_table_read(&c->ids, path, &c->layout, &c->e) : -1;
    free(path);
    c->documents = c->ids.count;
    return rc;
}

static int read_model(struct beam_case *c)
{
    char *folder = parity_path(c->p, "model");
    struct t5_source *source = t5_source_folder(folder, code_layout_total(&c->layout), &c->e);
    c->model = source ? t5_load(c->be, source, NULL, &c->e) : NULL;
    t5_source_close(source);
    free(folder);
    return c->model ? 0 : -1;
}

static int open_search(struct beam_case *c)
{
    int64_t rows;
    c->query_tokens = parity_ints(c->data, "query.tokens", -1, NULL);
    c->query_offsets = parity_ints(c->data, "query.offsets", -1, &rows);
    if (!c->query_tokens || !c->query_offsets)
        return err_set(&c->e, ERR_DATA, "no queries");
    c->queries = (int32_t)rows - 1;
    c->tokens = c->query_offsets[c->queries];
    c->widest = c->documents + 9;
    const struct t5_limits l = {.encoder_tokens = c->tokens, .decoder_tokens = 1, .rows = c->queries,
                                .beam_rows = c->queries * c->widest, .positions = c->layout.positions};
    const struct beam_limits bl = {.requests = c->queries, .width = c->widest};
    c->trie = trie_build(c->ids.codes, NULL, (uint32_t)c->documents, c->layout.positions, &c->e);
    c->placed = c->trie ? trie_upload(c->be, c->trie, NULL, &c->e) : NULL;
    c->work = t5_work_init(c->model, &l, &c->e);
    c->beam = beam_init(c->model, &c->layout, &bl, &c->e);
    return c->placed && c->work && c->beam ? 0 : -1;
}

/* queries.txt through spiece.model gives exactly query.tokens. */
static void check_tokens(struct beam_case *c)
{
    char *queries = parity_path(c->p, "queries.txt"), *model = parity_path(c->p, "model/spiece.model"), *line;
    struct tokenizer *t = tokenizer_open(model, &c->e);
    struct lines *lines = t ? lines_open(queries, &c->e) : NULL;
    size_t size;
    int32_t at = 0, read = 0, *ids = xcalloc((size_t)c->tokens + 1, sizeof *ids);
    if (!lines)
        parity_fail("beam.tokens", "%s", c->e.message);
    while (lines && lines_next(lines, &line, &size, &c->e) == 1 && at <= c->tokens) {
        at += tokenizer_encode(t, line, size, ids + at, c->tokens + 1 - at, true, NULL);
        read++;
        parity_check_true("beam.tokens", "length of a query", read <= c->queries && at == c->query_offsets[read]);
    }
    parity_check_true("beam.tokens", "number of queries", read == c->queries);
    parity_check_ints("beam.tokens", "query.tokens", ids, c->query_tokens, c->tokens);
    free(ids);
    free(queries);
    free(model);
    lines_close(lines);
    tokenizer_close(t);
}

static void search(struct beam_case *c, int32_t width, bool renormalise)
{
    const struct t5_batch batch = {c->queries, c->query_tokens, c->query_offsets};
    const struct beam_search s = {.trie = trie_view_of(c->trie), .placed = c->placed, .width = width, .renormalise = renormalise};
    t5_encode(c->model, c->work, &batch, 0);
    CHECK(beam_run(c->beam, c->work, &s) == 0);
}

static int32_t *to_backend(const struct beam_case *c, const int32_t *host, int32_t n)
{
    int32_t *y = c->be->alloc((size_t)n * sizeof *y);
    CHECK(y);
    c->be->write(y, host, (size_t)n * sizeof *y);
    return y;
}

/* Decoder states of the first position, [queries, d]. */
static void first_states(struct beam_case *c, float *h, int32_t d)
{
    int32_t *host = xcalloc((size_t)c->queries + 1, sizeof *host);
    const struct t5_batch batch = {c->queries, c->query_tokens, c->query_offsets};
    int32_t *tokens = to_backend(c, host, c->queries);
    for (int32_t r = 0; r <= c->queries; r++)
        host[r] = r;
    int32_t *offsets = to_backend(c, host, c->queries + 1);
    t5_encode(c->model, c->work, &batch, 0);
    t5_decode_begin(c->model, c->work);
    c->be->download(h, t5_decode_step(c->model, c->work, offsets, c->queries, tokens, tokens), (int64_t)c->queries * d);
    c->be->release(tokens);
    c->be->release(offsets);
    free(host);
}

/* logp.first: a search of full width over a trie that holds every code of position 1 once would hide the codes without documents; so the head
 * is applied to the first decoder state directly. */
static void check_first(struct beam_case *c)
{
    int32_t k = c->layout.codes[0], d = t5_config_of(c->model)->d_model;
    float *logp = xcalloc((size_t)c->queries * (size_t)k, sizeof *logp), *h = xcalloc((size_t)c->queries * (size_t)d, sizeof *h);
    float *head = xcalloc((size_t)k * (size_t)d, sizeof *head);
    c->be->read(head, t5_head(c->model)->master + (int64_t)c->layout.base * d, (size_t)k * (size_t)d * sizeof *head);
    first_states(c, h, d);
    for (int32_t r = 0; r < c->queries; r++) {
        double sum = 0;
        for (int32_t j = 0; j < k; j++) {
            double dot = 0;
            for (int32_t i = 0; i < d; i++)
                dot += (double)h[(int64_t)r * d + i] * (double)head[(int64_t)j * d + i];
            logp[(int64_t)r * k + j] = (float)(dot * (double)t5_head_scale(c->model));
            sum += exp((double)logp[(int64_t)r * k + j]);
        }
        for (int32_t j = 0; j < k; j++)
            logp[(int64_t)r * k + j] -= (float)log(sum);
    }
    const float *ref = parity_floats(c->data, "logp.first", (int64_t)c->queries * k, NULL);
    if (ref)
        parity_check("beam.logp", "logp.first", logp, ref, (int64_t)c->queries * k, parity_tolerance("beam.score"));
    free(logp);
    free(head);
    free(h);
}

/* The results of the last search as [Q, width] arrays; missing ranks hold document -1 and score NaN. */
static void collect(struct beam_case *c, int32_t width, int32_t *docs, float *scores)
{
    for (int32_t r = 0; r < c->queries; r++) {
        int32_t n;
        const struct beam_hit *h = beam_hits(c->beam, r, &n);
        for (int32_t i = 0; i < width; i++) {
            docs[(int64_t)r * width + i] = i < n ? (int32_t)h[i].document : -1;
            scores[(int64_t)r * width + i] = i < n ? (float)h[i].score : NAN;
        }
    }
}

/* Documents equal rank by rank; two may be exchanged where the reference ties them (< 1e-9) and our own scores differ. */
static bool ranks_agree(const int32_t *mine, const float *mine_score, const int32_t *ref, const float *ref_score, int32_t width)
{
    for (int32_t i = 0; i < width; i++) {
        bool found = mine[i] == ref[i];
        for (int32_t j = 0; j < width && !found; j++)
            found = mine[i] == ref[j] && fabs((double)ref_score[i] - (double)ref_score[j]) < 1e-9 && mine_score[i] != mine_score[j];
        if (!found)
            return false;
    }
    return true;
}

static bool is_permutation(const int32_t *docs, int32_t n)
{
    uint8_t *seen = xcalloc((size_t)n, 1);
    bool all = true;
    for (int32_t i = 0; i < n; i++)
        all &= docs[i] >= 0 && docs[i] < n && !seen[docs[i]]++;
    free(seen);
    return all;
}

/* With narrow activations scores are off by the tolerance, so neighbours change places and a prefix near the cut may be another: of the
 * reference's documents so many must still be there. */
static const double narrow_overlap = 0.9;

static double overlap(const int32_t *mine, const int32_t *ref, int32_t width)
{
    int32_t both = 0;
    for (int32_t i = 0; i < width; i++)
        for (int32_t j = 0; j < width; j++)
            both += mine[i] >= 0 && mine[i] == ref[j];
    return (double)both / width;
}

static void check_documents(struct beam_case *c, const char *tensor, const int32_t *docs, const float *scores, int32_t width,
                            const float *ref_scores)
{
    const int32_t *ref = parity_ints(c->data, tensor, (int64_t)c->queries * width, NULL);
    double shared = 0;
    for (int32_t r = 0; ref && ref_scores && r < c->queries; r++) {
        int64_t at = (int64_t)r * width;
        bool all = width >= c->documents;
        shared += overlap(docs + at, ref + at, width) / c->queries;
        if (all || !parity_narrow())
            parity_check_true("beam.docs", tensor, all ? is_permutation(docs + at, width) && is_permutation(ref + at, width)
                                                       : ranks_agree(docs + at, scores + at, ref + at, ref_scores + at, width));
    }
    if (ref && parity_narrow())
        parity_check_true("beam.docs (overlap)", tensor, shared >= narrow_overlap);
}

/* Our scores in the order of the reference's documents; where a document is not ours (another prefix survived a near tie), the reference's own:
 * how many may be missing is the overlap's business. */
static void scores_by_document(int32_t width, const int32_t *docs, float *scores, const int32_t *ref, const float *ref_scores)
{
    float *by = xcalloc((size_t)width, sizeof *by);
    for (int32_t i = 0; i < width; i++) {
        by[i] = ref_scores[i];
        for (int32_t j = 0; j < width; j++)
            if (docs[j] >= 0 && docs[j] == ref[i])
                by[i] = scores[j];
    }
    memcpy(scores, by, (size_t)width * sizeof *by);
    free(by);
}

static void check_list(struct beam_case *c, const char *name, int32_t width, bool renormalise)
{
    char tensor[64];
    int64_t n = (int64_t)c->queries * width;
    const char *suffix = renormalise ? ".renormalise" : "";
    int32_t *docs = xcalloc((size_t)n, sizeof *docs);
    float *scores = xcalloc((size_t)n, sizeof *scores);
    snprintf(tensor, sizeof tensor, "%s.scores%s", name, suffix);
    const float *ref_scores = parity_floats(c->data, tensor, n, NULL);
    collect(c, width, docs, scores);
    char listed[64];
    snprintf(listed, sizeof listed, "%s.docs%s", name, suffix);
    check_documents(c, listed, docs, scores, width, ref_scores);
    const int32_t *ref = parity_narrow() ? parity_ints(c->data, listed, n, NULL) : NULL;
    for (int32_t r = 0; ref && ref_scores && r < c->queries; r++)
        scores_by_document(width, docs + r * width, scores + r * width, ref + r * width, ref_scores + r * width);
    if (ref_scores)
        parity_check("beam.scores", tensor, scores, ref_scores, n, parity_tolerance("beam.score"));
    free(docs);
    free(scores);
}

/* The score of each returned document of a full search against its exhaustive score; and the reference's own list against it, so that neither
 * expected tensor can be moved unnoticed. */
static void check_exhaustive(struct beam_case *c, bool renormalise)
{
    const char *suffix = renormalise ? ".renormalise" : "";
    char tensor[64];
    int64_t n = (int64_t)c->queries * c->documents;
    float *mine = xcalloc((size_t)n, sizeof *mine), *listed = xcalloc((size_t)n, sizeof *listed);
    snprintf(tensor, sizeof tensor, "beamall.docs%s", suffix);
    const int32_t *docs = parity_ints(c->data, tensor, n, NULL);
    snprintf(tensor, sizeof tensor, "beamall.scores%s", suffix);
    const float *scores = parity_floats(c->data, tensor, n, NULL);
    snprintf(tensor, sizeof tensor, "exhaustive.scores%s", suffix);
    const float *ref = parity_floats(c->data, tensor, n, NULL);
    for (int32_t r = 0; r < c->queries; r++) {
        int32_t hits;
        const struct beam_hit *h = beam_hits(c->beam, r, &hits);
        for (int32_t i = 0; i < hits; i++)
            mine[(int64_t)r * c->documents + h[i].document] = (float)h[i].score;
        for (int32_t i = 0; docs && scores && i < c->documents; i++) {
            int32_t document = docs[(int64_t)r * c->documents + i];
            if (document >= 0 && document < c->documents)
                listed[(int64_t)r * c->documents + document] = scores[(int64_t)r * c->documents + i];
        }
    }
    if (ref) {
        parity_check("beam.exhaustive", tensor, mine, ref, n, parity_tolerance("beam.score"));
        parity_check("beam.exhaustive", "beamall by document", listed, ref, n, parity_tolerance("beam.score"));
    }
    free(mine);
    free(listed);
}

static void check_width(struct beam_case *c, const char *name, int32_t width, int32_t ranks)
{
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        search(c, width, renormalise);
        check_list(c, name, ranks, renormalise);
        if (ranks == c->documents) {
            check_exhaustive(c, renormalise);
            for (int32_t r = 0; r < c->queries; r++)
                parity_check_true("beam.exhaustive", "nothing was cut", beam_exhaustive(c->beam, r));
        }
    }
}

static void check_all(struct beam_case *c)
{
    check_tokens(c);
    check_first(c);
    for (int32_t i = 0; i < parity_count(c->data); i++) { /* beam5, beam20: whatever widths the file has */
        char name[32], docs[40];
        int width;
        if (sscanf(parity_name(c->data, i), "beam%d.", &width) != 1 || width < 1 || width >= c->documents)
            continue;
        snprintf(name, sizeof name, "beam%d", width);
        snprintf(docs, sizeof docs, "%s.docs", name);
        if (strcmp(parity_name(c->data, i), docs) == 0)
            check_width(c, name, width, width);
    }
    check_width(c, "beamall", c->widest, c->documents);
}

void parity_beam(const struct parity_case *p)
{
    struct beam_case c = {.p = p, .be = parity_backend()};
    c.data = parity_open(p, "expected.safetensors");
    if (c.data && (read_layout(&c) < 0 || read_model(&c) < 0 || open_search(&c) < 0))
        parity_fail("beam", "%s", c.e.message);
    else if (c.data)
        check_all(&c);
    parity_close(c.data);
    beam_free(c.beam);
    t5_work_free(c.work);
    t5_free(c.model);
    trie_release(c.be, c.placed);
    trie_free(c.trie);
    id_table_free(&c.ids);
}
