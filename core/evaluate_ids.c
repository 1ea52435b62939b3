/* evaluate_ids.c: what the IDs of a bundle are like: how evenly codes are used, and whether position 1 means something.
 *
 * Meaning is the adjusted mutual information of the first code with the documents' categories, beside two yardsticks with as many clusters:
 * k-means over the mean of the indexer's token embeddings of each text (what the words alone give), and random codes (which give 0). Only
 * documents with a category take part in it; a corpus without categories prints the statistics of the codes alone. */
#include "evaluate_internal.h"

#include "base/spill.h"
#include "learn/id_statistics.h"
#include "learn/kmeans.h"
#include "model/model_file.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_TOKENS = 128, RESTARTS = 3, ITERATIONS = 50 };

static void add_statistics(struct evaluate *v)
{
    for (int32_t t = 0; t + 1 < v->ids.positions; t++) {
        struct id_statistics s;
        id_statistics(v->ids.codes, v->ids.count, v->ids.positions, t, &s);
        evaluate_fact_add(&v->facts, s.codes_used, "position_%d_codes_used", t + 1);
        evaluate_fact_add(&v->facts, s.perplexity, "position_%d_perplexity", t + 1);
        evaluate_fact_add(&v->facts, s.unique_prefixes, "position_%d_unique_prefixes", t + 1);
        evaluate_fact_add(&v->facts, s.largest_bucket, "position_%d_largest_bucket", t + 1);
        evaluate_fact_add(&v->facts, s.collision_rate, "position_%d_collision_rate", t + 1);
    }
    evaluate_fact_add(&v->facts, v->ids.count, "documents");
}

struct labeled { /* documents that have a category and an ID */
    int32_t *document, *label;
    int32_t count, labels;
};

static void read_labels(const struct evaluate *v, struct labeled *l)
{
    struct string_map *names = string_map_init(256);
    l->document = xcalloc((size_t)v->corpus.count + 1, sizeof *l->document);
    l->label = xcalloc((size_t)v->corpus.count + 1, sizeof *l->label);
    for (int32_t i = 0; i < v->corpus.count; i++) {
        char *name = v->row[i] >= 0 ? corpus_category(&v->corpus.documents[i]) : NULL;
        if (name == NULL)
            continue;
        string_map_put(names, name, strlen(name), l->labels);
        l->document[l->count] = i;
        l->label[l->count] = string_map_get(names, name, strlen(name));
        l->labels += l->label[l->count] == l->labels;
        l->count++;
        free(name);
    }
    string_map_free(names);
}

static int32_t codes_of_first(const struct evaluate *v)
{
    uint32_t most = 0;
    for (int32_t i = 0; i < v->ids.count; i++) {
        uint32_t code = v->ids.codes[(int64_t)i * v->ids.positions];
        most = code > most ? code : most;
    }
    return (int32_t)most + 1;
}

static void add_ami(struct evaluate *v, const struct labeled *l, int32_t clusters)
{
    int32_t *first = xcalloc((size_t)l->count + 1, sizeof *first), *drawn = xcalloc((size_t)l->count + 1, sizeof *drawn);
    for (int32_t i = 0; i < l->count; i++) {
        first[i] = (int32_t)v->ids.codes[(int64_t)v->row[l->document[i]] * v->ids.positions];
        drawn[i] = (int32_t)(mix64(v->o.seed, (uint64_t)i) % (uint64_t)clusters);
    }
    evaluate_fact_add(&v->facts, l->count, "category_documents");
    evaluate_fact_add(&v->facts, l->labels, "category_labels");
    evaluate_fact_add(&v->facts, metrics_ami(first, l->label, l->count), "category_ami_position_1");
    evaluate_fact_add(&v->facts, metrics_ami(drawn, l->label, l->count), "category_ami_random_codes");
    free(first);
    free(drawn);
}

/* Mean token embedding of each labeled document, [count, d]. */
static void mean_embeddings(const struct evaluate *v, const struct labeled *l, const float *table, int32_t d, float *out)
{
    int32_t tokens[TEXT_TOKENS];
    struct str text = {0};
    for (int32_t i = 0; i < l->count; i++) {
        str_clear(&text);
        document_text(&v->corpus.documents[l->document[i]], &text);
        const char *words = text.data ? text.data : "";
        int32_t n = tokenizer_encode(v->tokenizer, words, text.size, tokens, TEXT_TOKENS, false, NULL);
        for (int32_t k = 0; k < n; k++)
            for (int32_t j = 0; j < d; j++)
                out[(int64_t)i * d + j] += table[(int64_t)tokens[k] * d + j] / (float)n;
    }
    str_free(&text);
}

static int cluster(struct evaluate *v, const struct labeled *l, const struct t5 *indexer, int32_t clusters, struct err *e)
{
    const struct t5_tensor *shared = t5_tensor_find(indexer, "shared.weight");
    int32_t d = shared->cols;
    struct spill x;
    if (spill_alloc(&x, (size_t)l->count * (size_t)d * sizeof(float), NULL, e) < 0)
        return -1;
    size_t cells = (size_t)t5_config_of(indexer)->vocab * (size_t)d;
    int32_t *assign = xcalloc((size_t)l->count, sizeof *assign);
    float *table = xcalloc(cells, sizeof *table), *centroids = xcalloc((size_t)clusters * (size_t)d, sizeof *centroids);
    v->be->read(table, t5_master((struct t5 *)(uintptr_t)indexer) + shared->offset, cells * sizeof *table);
    mean_embeddings(v, l, table, d, x.data);
    struct kmeans_options o = {.n = l->count, .d = d, .k = clusters, .restarts = RESTARTS, .iterations = ITERATIONS, .seed = v->o.seed};
    struct kmeans_result result;
    int rc = kmeans_run(v->be, &o, &(struct kmeans_points){.x = x.data}, centroids, assign, &result, v->run, e);
    if (rc == 0)
        evaluate_fact_add(&v->facts, metrics_ami(assign, l->label, l->count), "category_ami_kmeans_embeddings");
    free(table);
    spill_free(&x);
    free(centroids);
    free(assign);
    return rc;
}

static int add_kmeans(struct evaluate *v, const struct labeled *l, int32_t clusters, struct err *e)
{
    if (bundle_file(v->bundle, "indexer.safetensors") == NULL || bundle_file(v->bundle, "tokenizer.model") == NULL || clusters > l->count)
        return 0;
    struct t5 *indexer = model_file_read(v->bundle, "indexer", v->be, false, NULL, 0, NULL, NULL, e);
    int rc = indexer == NULL || evaluate_tokenizer_open(v, e) != 0 ? -1 : cluster(v, l, indexer, clusters, e);
    t5_free(indexer);
    return rc;
}

int evaluate_ids(struct evaluate *v, struct err *e)
{
    if (v->bundle == NULL)
        return err_set(e, ERR_USAGE, "ids can only be evaluated of a model: --model BUNDLE");
    struct labeled l = {0};
    int rc = 0;
    add_statistics(v);
    read_labels(v, &l);
    if (l.count > 0) {
        int32_t clusters = codes_of_first(v);
        add_ami(v, &l, clusters);
        rc = add_kmeans(v, &l, clusters, e);
    }
    free(l.document);
    free(l.label);
    return rc;
}
