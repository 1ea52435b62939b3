/* sample.c: the demo's catalogue: products, training queries with judgements, held-out queries, user histories. All by one seed.
 *
 * A department has seven shelves and twelve series; a product is one series on one shelf, so a series' tent, sleeping bag and stove share a
 * brand: what people buy together. Every product draws material, colour and four features. A query names a shelf and one or two properties, each
 * either in the document's word or in another word for it that no document has; its relevant documents are the products of that shelf with
 * all the properties. Training queries and held-out queries are drawn with different seeds, and no text is in both. Histories walk along the
 * shelves of a series, jump, and end in a held-out item. */
#include "sample.h"
#include "../../kernels/backend.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "sample_words.h"

#include <string.h>

enum { PRODUCTS = DEPARTMENTS * SHELVES * SERIES, PRODUCT_FEATURES = 4, TRAIN_QUERIES = 6000, TEST_QUERIES = 400, USERS = 2400 };

struct product {
    int32_t department, shelf, series, material, colour, features[PRODUCT_FEATURES];
};
struct sample {
    struct product product[PRODUCTS];
    const char *folder;
    uint64_t seed;
    struct string_map *texts; /* of training queries */
};
struct draw { /* a stream of random numbers */
    uint64_t seed, next;
};

static int32_t pick(struct draw *d, int32_t n)
{
    return (int32_t)(mix64(d->seed, d->next++) % (uint64_t)n);
}

static bool chance(struct draw *d, double p)
{
    return mix_uniform(d->seed, d->next++) < p;
}

/* 0..n-1, small numbers more often: a popularity slope. */
static int32_t pick_skewed(struct draw *d, int32_t n)
{
    int32_t a = pick(d, n), b = pick(d, n);
    return a < b ? a : b;
}

static void draw_products(struct sample *s)
{
    struct draw d = {mix64(s->seed, 1), 0};
    for (int32_t i = 0; i < PRODUCTS; i++) {
        struct product *p = &s->product[i];
        p->department = i / (SHELVES * SERIES);
        p->shelf = i / SERIES % SHELVES;
        p->series = i % SERIES;
        p->material = pick(&d, MATERIALS);
        p->colour = pick(&d, COLOURS);
        for (int32_t k = 0; k < PRODUCT_FEATURES; k++)
            p->features[k] = (int32_t)((mix64(d.seed, (uint64_t)i + 7777) + (uint64_t)k * 5 + (uint64_t)pick(&d, 5)) % FEATURES);
    }
}

static const struct sample_shelf *shelf_of(const struct product *p)
{
    return &sample_departments[p->department].shelf[p->shelf];
}

static const char *brand_of(const struct product *p)
{
    return sample_brands[(p->department * SERIES + p->series) % (int32_t)(sizeof sample_brands / sizeof *sample_brands)];
}

/* ---- items.jsonl ---- */

/* Word i of a list of words with one space between; size is set. */
static const char *word_at(const char *list, int32_t i, int *size)
{
    for (; i > 0; i--)
        list = strchr(list, ' ') + 1;
    *size = (int)strcspn(list, " ");
    return list;
}

static void describe(const struct sample *s, int32_t i, struct str *out)
{
    const struct product *p = &s->product[i];
    struct draw d = {mix64(s->seed, 2), (uint64_t)i * 16};
    const int32_t *f = p->features;
    int32_t part = pick(&d, 4);
    int size[3];
    const char *words[3];
    for (int32_t k = 0; k < 3; k++)
        words[k] = word_at(shelf_of(p)->parts, (part + k) % 4, &size[k]);
    str_printf(out, sample_openings[pick(&d, sizeof sample_openings / sizeof *sample_openings)], shelf_of(p)->noun);
    str_printf(out, " Its %.*s and %.*s are %s and %s.", size[0], words[0], size[1], words[1], sample_features[f[0]].text,
               sample_features[f[1]].text);
    str_printf(out, " %s, with %s %.*s in %s.", sample_features[f[2]].text, sample_features[f[3]].text, size[2], words[2],
               sample_colours[p->colour].text);
    str_printf(out, " %s", sample_endings[pick(&d, sizeof sample_endings / sizeof *sample_endings)]);
}

static void sku(int32_t i, char out[16])
{
    snprintf(out, 16, "sku-%04d", i + 1);
}

static int write_items(const struct sample *s, struct err *e)
{
    struct file_out f;
    struct str text = {0};
    char *path = path_join(s->folder, "items.jsonl"), id[16];
    int rc = file_out_open(&f, path, e);
    free(path);
    for (int32_t i = 0; rc == 0 && i < PRODUCTS; i++) {
        const struct product *p = &s->product[i];
        str_clear(&text);
        describe(s, i, &text);
        sku(i, id);
        fprintf(f.stream, "{\"id\": \"%s\", \"title\": \"%s %s %s %s\", \"brand\": \"%s\", \"categories\": [[\"%s\", \"%s\"]], ", id, brand_of(p),
                sample_series[p->series], sample_materials[p->material].text, shelf_of(p)->noun, brand_of(p),
                sample_departments[p->department].name, shelf_of(p)->name);
        fprintf(f.stream, "\"description\": \"%s\"}\n", text.data);
    }
    str_free(&text);
    return rc == 0 ? file_out_commit(&f, e) : -1;
}

/* ---- queries ---- */

struct wish { /* what a query asks for: -1 = not asked */
    int32_t department, shelf, feature[2], material, colour;
};

static bool has_feature(const struct product *p, int32_t feature)
{
    for (int32_t k = 0; k < PRODUCT_FEATURES; k++)
        if (p->features[k] == feature)
            return true;
    return feature < 0;
}

static bool fulfils(const struct product *p, const struct wish *w)
{
    return p->department == w->department && p->shelf == w->shelf && has_feature(p, w->feature[0]) && has_feature(p, w->feature[1]) &&
           (w->material < 0 || p->material == w->material) && (w->colour < 0 || p->colour == w->colour);
}

static const char *word_for(struct draw *d, const struct sample_feature *f)
{
    return chance(d, 0.5) ? f->text : f->said;
}

/* A wish around one product, and its words. */
static void draw_query(const struct sample *s, struct draw *d, struct wish *w, struct str *text)
{
    const struct product *p = &s->product[pick(d, PRODUCTS)];
    const struct sample_shelf *shelf = shelf_of(p);
    bool said = chance(d, 0.5);
    int32_t kind = pick(d, 3);
    *w = (struct wish){p->department, p->shelf, {p->features[pick(d, PRODUCT_FEATURES)], -1}, -1, -1};
    if (kind == 0)
        w->material = p->material;
    else if (kind == 1)
        w->colour = p->colour;
    else
        w->feature[1] = p->features[pick(d, PRODUCT_FEATURES)];
    str_clear(text);
    str_printf(text, "%s", kind == 0 ? word_for(d, &sample_materials[p->material]) : kind == 1 ? word_for(d, &sample_colours[p->colour]) :
                                                                                      word_for(d, &sample_features[w->feature[1]]));
    str_printf(text, " %s", said ? shelf->said : shelf->noun);
    if (said || chance(d, 0.3))
        str_printf(text, " for %s", shelf->purpose);
    str_printf(text, " that is %s", word_for(d, &sample_features[w->feature[0]]));
}

static void write_judgements(const struct sample *s, FILE *out, const char *query, const struct wish *w)
{
    char id[16];
    for (int32_t i = 0; i < PRODUCTS; i++)
        if (fulfils(&s->product[i], w)) {
            sku(i, id);
            fprintf(out, "%s\t%s\t1\n", query, id);
        }
}

static void write_query_set(struct sample *s, FILE *queries, FILE *judgements, bool train)
{
    struct draw d = {mix64(s->seed, train ? 3 : 4), 0};
    struct str text = {0};
    struct wish w;
    char id[16];
    fprintf(judgements, "query-id\tcorpus-id\tscore\n");
    for (int32_t n = 0; n < (train ? TRAIN_QUERIES : TEST_QUERIES);) {
        draw_query(s, &d, &w, &text);
        if (!string_map_put(s->texts, text.data, text.size, n))
            continue; /* a text is asked once, in one of the two sets */
        snprintf(id, sizeof id, "%s%d", train ? "t" : "q", ++n);
        fprintf(queries, "{\"_id\": \"%s\", \"text\": \"%s\"}\n", id, text.data);
        write_judgements(s, judgements, id, &w);
    }
    str_free(&text);
}

static int write_queries(struct sample *s, bool train, struct err *e)
{
    struct file_out q = {0}, j = {0};
    char *qp = path_join(s->folder, train ? "queries-train.jsonl" : "queries.jsonl");
    char *jp = path_join(s->folder, train ? "qrels-train.tsv" : "qrels.tsv");
    int rc = file_out_open(&q, qp, e);
    if (rc == 0 && (rc = file_out_open(&j, jp, e)) < 0)
        file_out_cancel(&q);
    if (rc == 0) {
        write_query_set(s, q.stream, j.stream, train);
        rc = file_out_commit(&q, e) | file_out_commit(&j, e);
    }
    free(qp);
    free(jp);
    return rc < 0 ? -1 : 0;
}

/* ---- sequences.txt ---- */

static int32_t product_at(int32_t department, int32_t shelf, int32_t series)
{
    return (department * SHELVES + shelf) * SERIES + series;
}

/* The next purchase: mostly the next shelf of the same series, else another series on the next shelf, else something of a liked department. */
static int32_t next_product(struct draw *d, const struct sample *s, int32_t now, const int32_t liked[2])
{
    const struct product *p = &s->product[now];
    int32_t shelf = (p->shelf + 1) % SHELVES;
    if (chance(d, 0.6))
        return product_at(p->department, shelf, p->series);
    if (chance(d, 0.5))
        return product_at(p->department, shelf, pick_skewed(d, SERIES));
    return product_at(liked[pick(d, 2)], pick(d, SHELVES), pick_skewed(d, SERIES));
}

/* Whole histories walk on one stream of numbers; the last item, the truth, is drawn from another, so that no seed makes both. */
static void write_user(const struct sample *s, FILE *out, int32_t user)
{
    struct draw past = {mix64(s->seed, 5), (uint64_t)user << 12}, truth = {mix64(s->seed, 6), (uint64_t)user << 12};
    const int32_t liked[2] = {pick_skewed(&past, DEPARTMENTS), pick_skewed(&past, DEPARTMENTS)};
    int32_t length = 5 + pick(&past, 6), seen[16], n = 0, now = product_at(liked[0], pick(&past, SHELVES), pick_skewed(&past, SERIES));
    char id[16];
    fprintf(out, "user-%04d", user + 1);
    for (int32_t tries = 0; n < length && tries < 200; tries++) {
        bool again = false;
        for (int32_t i = 0; i < n; i++)
            again |= seen[i] == now;
        if (!again) {
            seen[n++] = now;
            sku(now, id);
            fprintf(out, " %s", id);
        }
        now = next_product(n + 1 < length ? &past : &truth, s, again ? seen[n - 1] : now, liked);
    }
    fputc('\n', out);
}

static int write_sequences(const struct sample *s, struct err *e)
{
    struct file_out f;
    char *path = path_join(s->folder, "sequences.txt");
    int rc = file_out_open(&f, path, e);
    free(path);
    for (int32_t u = 0; rc == 0 && u < USERS; u++)
        write_user(s, f.stream, u);
    return rc == 0 ? file_out_commit(&f, e) : -1;
}

int sample_write(const char *folder, uint64_t seed, struct err *e)
{
    struct sample *s = xcalloc(1, sizeof *s);
    s->folder = folder;
    s->seed = seed;
    s->texts = string_map_init(TRAIN_QUERIES);
    draw_products(s);
    int rc = file_mkdirs(folder, e);
    if (rc == 0)
        rc = write_queries(s, true, e);
    if (rc == 0)
        rc = write_queries(s, false, e);
    if (rc == 0)
        rc = write_sequences(s, e);
    if (rc == 0)
        rc = write_items(s, e); /* last: its presence says that the sample is whole */
    string_map_free(s->texts);
    free(s);
    return rc;
}

int sample_run(const char *folder, uint64_t seed, const struct run *run, struct err *e)
{
    if (sample_write(folder, seed, e) < 0)
        return -1;
    run_note(run, "%s: %d products, %d training queries, %d held-out queries, %d histories", folder, PRODUCTS, TRAIN_QUERIES, TEST_QUERIES, USERS);
    return 0;
}
