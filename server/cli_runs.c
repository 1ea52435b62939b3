/* cli_runs.c: the commands that start a long run of core/runs.h: options in, one call, results out.
 *
 * An option that a person did not give stays 0 / NULL in the run's struct, which means the run's own default; so defaults of learning and
 * training are stated in core/ only, and --help quotes them. */
#include "../core/runs.h"
#include "cli.h"
#include "json_out.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_no_arguments(const struct options *o, struct err *e)
{
    if (o->argument_count)
        return err_set(e, ERR_USAGE, "'%s' is one argument too many", o->arguments[0]);
    return 0;
}

static int one_argument(const struct options *o, const char *what, struct err *e)
{
    if (o->argument_count == 0)
        return err_set(e, ERR_USAGE, "%s is needed", what);
    if (o->argument_count > 1)
        return err_set(e, ERR_USAGE, "'%s' is one argument too many", o->arguments[1]);
    return 0;
}

static int32_t small(const struct options *o, enum option_id id)
{
    return (int32_t)option_int(o, id);
}

/* A weight of 0 given by a person means "off", which the runs write as -1, their 0 being "default". */
static double weight(const struct options *o, enum option_id id)
{
    return option_given(o, id) && option_real(o, id) == 0 ? -1 : option_real(o, id);
}

int cli_import(const struct options *o, struct err *e)
{
    struct import_options i = {.codes = option_text(o, OPT_CODES),
                               .ids = option_text(o, OPT_IDS),
                               .out = option_need(o, OPT_OUT, e),
                               .replace = option_flag(o, OPT_REPLACE)};
    if (!i.out || one_argument(o, "the folder of the Hugging Face model", e))
        return -1;
    if (!i.codes != !i.ids)
        return err_set(e, ERR_USAGE, "--codes and --ids belong together; --%s is missing", i.codes ? "ids" : "codes");
    i.folder = o->arguments[0];
    int rc = import_run(&i, cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        fprintf(stderr, "wrote %s\n", i.out);
    return rc;
}

int cli_tokenizer(const struct options *o, struct err *e)
{
    struct tokenizer_options t = {.data = option_need(o, OPT_DATA, e), .vocab = small(o, OPT_VOCAB), .threads = small(o, OPT_THREADS)};
    if (!t.data || !(t.output = option_need(o, OPT_OUT, e)) || cli_no_arguments(o, e))
        return -1;
    int rc = tokenizer_run(&t, cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        fprintf(stderr, "wrote %s\n", t.output);
    return rc;
}

static int parse_hints(const char *text, double hints[16], struct err *e)
{
    int n = 0;
    for (const char *p = text; p && *p; n++) {
        char *end;
        double x = strtod(p, &end);
        if (end == p || (*end && *end != ',') || !(x >= 0 && x < 1) || n == 16)
            return err_set(e, ERR_USAGE, "--hints %s: up to 16 ratios, at least 0 and below 1, with commas", text);
        hints[n] = x > 0 ? x : -1; /* 0 would mean the default */
        p = *end ? end + 1 : end;
    }
    return 0;
}

/* What provenance.h keeps of the options: all of the command but those that say where results go and how the run reports. */
static char *given_json(const struct options *o, unsigned command)
{
    static const enum option_id left_out[] = {OPT_MODEL, OPT_OUT, OPT_REPLACE, OPT_RECIPE, OPT_THREADS, OPT_CHECKPOINT_S, OPT_QUIET};
    struct str out = {0};
    const char *recipe = option_text(o, OPT_RECIPE);
    str_puts(&out, "{\"recipe\":");
    json_string(&out, recipe);
    str_puts(&out, ",\"options\":{");
    for (int i = 0, n = 0; i < OPT_COUNT; i++) {
        bool kept = (option_table[i].commands & command) && option_set(o, (enum option_id)i);
        for (size_t k = 0; k < sizeof left_out / sizeof *left_out; k++)
            kept = kept && left_out[k] != (enum option_id)i;
        if (!kept)
            continue;
        str_printf(&out, "%s\"%s\":{\"value\":", n++ ? "," : "", option_table[i].name);
        json_string(&out, o->values[i].text);
        str_printf(&out, ",\"origin\":\"%s\"}", option_origin_name(o->values[i].origin));
    }
    str_puts(&out, "}}");
    return out.data;
}

static struct t5_shape shape_of(const struct options *o)
{
    return (struct t5_shape){.d_model = small(o, OPT_D_MODEL), .d_ff = small(o, OPT_D_FF), .d_kv = small(o, OPT_D_KV), .heads = small(o, OPT_HEADS),
                             .encoder_layers = small(o, OPT_ENCODER_LAYERS), .decoder_layers = small(o, OPT_DECODER_LAYERS)};
}

static void learn_shape(const struct options *o, struct learn_options *l)
{
    l->vocab = small(o, OPT_VOCAB);
    l->shape = shape_of(o);
    l->gated = option_flag(o, OPT_GATED);
    l->positions = small(o, OPT_POSITIONS);
    l->codes = small(o, OPT_K);
    l->leaf = small(o, OPT_LEAF);
}

static int learn_embeddings(const struct options *o, struct learn_options *l, struct err *e)
{
    static const char *const names[] = {[INDEXER_LMINDEXER] = "lmindexer", [INDEXER_RQVAE] = "rq-vae", [INDEXER_HIERARCHICAL] = "hierarchical",
                                        [INDEXER_RESIDUAL] = "residual"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(option_text(o, OPT_INDEXER), names[i]))
            l->indexer = (enum learn_indexer)i;
    l->embeddings = option_text(o, OPT_EMBEDDINGS);
    l->embedding_ids = option_text(o, OPT_EMBEDDING_IDS);
    if (l->embeddings && l->indexer == INDEXER_LMINDEXER)
        return err_set(e, ERR_USAGE, "--embeddings: lmindexer reads the texts themselves; --indexer rq-vae, hierarchical or residual read embeddings");
    if (l->embedding_ids && !l->embeddings)
        return err_set(e, ERR_USAGE, "--embedding-ids names the rows of --embeddings, which is missing");
    return 0;
}

/* "1e-3,2e-3": rates within the bounds of --lr, each once. */
static int parse_rates(const char *text, struct rate_search *r, struct err *e)
{
    const struct option_def *lr = &option_table[OPT_LR];
    for (const char *p = text; p && *p;) {
        char *end;
        double x = strtod(p, &end);
        if (end == p || (*end && *end != ',') || !(x >= lr->min && x <= lr->max) || r->count == RATES_MAX)
            return err_set(e, ERR_USAGE, "--search-lr %s: up to %d rates of %g .. %g, with commas", text, RATES_MAX, lr->min, lr->max);
        for (int32_t i = 0; i < r->count; i++)
            if (r->lr[i] == x)
                return err_set(e, ERR_USAGE, "--search-lr %s: %g stands there twice", text, x);
        r->lr[r->count++] = x;
        p = *end ? end + 1 : end;
    }
    return 0;
}

static int rates_of(const struct options *o, struct rate_search *r, struct err *e)
{
    *r = (struct rate_search){.steps = option_int(o, OPT_SEARCH_STEPS)};
    if (r->steps > 0 && !option_set(o, OPT_SEARCH_LR))
        return err_set(e, ERR_USAGE, "--search-steps is the length of the trials of --search-lr, which is missing");
    return parse_rates(option_text(o, OPT_SEARCH_LR), r, e);
}

static struct optimiser optimiser_of(const struct options *o)
{
    return (struct optimiser){.beta1 = weight(o, OPT_ADAM_BETA1),
                              .beta2 = weight(o, OPT_ADAM_BETA2),
                              .eps = option_real(o, OPT_ADAM_EPS),
                              .weight_decay = option_real(o, OPT_WEIGHT_DECAY),
                              .clip = weight(o, OPT_CLIP),
                              .warmup_share = weight(o, OPT_LR_WARMUP)};
}

static void learn_training(const struct options *o, struct learn_options *l)
{
    l->max_tokens = small(o, OPT_MAX_TOKENS);
    l->batch = small(o, OPT_BATCH);
    l->epochs = option_real(o, OPT_EPOCHS);
    l->warmup_epochs = option_real(o, OPT_WARMUP_EPOCHS);
    l->continuous_epochs = option_real(o, OPT_CONTINUOUS_EPOCHS);
    l->joint_epochs = option_real(o, OPT_JOINT_EPOCHS);
    l->lr = option_real(o, OPT_LR);
    l->adam = optimiser_of(o);
    l->micro_batch = small(o, OPT_MICRO_BATCH);
    l->validation_share = option_real(o, OPT_VALIDATION_SHARE);
    l->dropout = weight(o, OPT_DROPOUT);
    l->contrastive_temperature = option_real(o, OPT_TEMPERATURE);
    l->weight_recon = weight(o, OPT_WEIGHT_RECON);
    l->weight_contrastive = weight(o, OPT_WEIGHT_CONTRASTIVE);
    l->weight_commitment = weight(o, OPT_WEIGHT_COMMITMENT);
    l->target_share = option_real(o, OPT_TARGET_SHARE);
    l->negatives = small(o, OPT_NEGATIVES);
    l->kmeans_restarts = small(o, OPT_KMEANS_RESTARTS);
    l->kmeans_iterations = small(o, OPT_KMEANS_ITERATIONS);
    l->seed = (uint64_t)option_int(o, OPT_SEED);
    l->limit = small(o, OPT_FIRST);
    l->checkpoint_s = option_real(o, OPT_CHECKPOINT_S);
    l->hold_out = option_real(o, OPT_HOLD_OUT);
    l->hold_out_seed = (uint64_t)option_int(o, OPT_HOLD_OUT_SEED);
}

int cli_learn(const struct options *o, struct err *e)
{
    struct learn_options l = {.base = option_text(o, OPT_BASE),
                              .tokenizer = option_text(o, OPT_TOKENIZER),
                              .device = option_text(o, OPT_DEVICE),
                              .threads = small(o, OPT_THREADS)};
    if (option_set(o, OPT_OUT) && option_set(o, OPT_MODEL) && strcmp(option_text(o, OPT_OUT), option_text(o, OPT_MODEL)))
        return err_set(e, ERR_USAGE, "--model and --out are the same here: the bundle that is written; they differ");
    l.out = option_set(o, OPT_OUT) ? option_text(o, OPT_OUT) : option_need(o, OPT_MODEL, e);
    if (!l.out || !(l.data = option_need(o, OPT_DATA, e)) || cli_no_arguments(o, e))
        return -1;
    learn_shape(o, &l);
    learn_training(o, &l);
    if (learn_embeddings(o, &l, e) || rates_of(o, &l.search, e) || parse_hints(option_text(o, OPT_HINTS), l.hints, e))
        return -1;
    char *given = given_json(o, CMD_LEARN);
    l.given = given;
    int rc = learn_run(&l, cli_progress_begin(o), e);
    cli_progress_end();
    free(given);
    return rc;
}

int cli_pretrain(const struct options *o, struct err *e)
{
    struct pretrain_options p = {.data = option_need(o, OPT_DATA, e),
                                 .replace = option_flag(o, OPT_REPLACE),
                                 .base = option_text(o, OPT_BASE),
                                 .tokenizer = option_text(o, OPT_TOKENIZER),
                                 .vocab = small(o, OPT_VOCAB),
                                 .shape = shape_of(o),
                                 .gated = option_flag(o, OPT_GATED),
                                 .max_tokens = small(o, OPT_MAX_TOKENS),
                                 .noise_density = option_real(o, OPT_NOISE_DENSITY),
                                 .mean_span = option_real(o, OPT_MEAN_SPAN),
                                 .batch = small(o, OPT_BATCH),
                                 .micro_batch = small(o, OPT_MICRO_BATCH),
                                 .steps = option_int(o, OPT_STEPS),
                                 .epochs = option_real(o, OPT_EPOCHS),
                                 .minutes = option_real(o, OPT_MINUTES),
                                 .lr = option_real(o, OPT_LR),
                                 .adam = optimiser_of(o),
                                 .dropout = weight(o, OPT_DROPOUT),
                                 .validation_share = option_real(o, OPT_VALIDATION_SHARE),
                                 .validations = small(o, OPT_VALIDATIONS),
                                 .patience = small(o, OPT_PATIENCE),
                                 .hold_out = option_real(o, OPT_HOLD_OUT),
                                 .hold_out_seed = (uint64_t)option_int(o, OPT_HOLD_OUT_SEED),
                                 .seed = (uint64_t)option_int(o, OPT_SEED),
                                 .limit = small(o, OPT_FIRST),
                                 .device = option_text(o, OPT_DEVICE),
                                 .threads = small(o, OPT_THREADS),
                                 .checkpoint_s = option_real(o, OPT_CHECKPOINT_S)};
    if (!p.data || !(p.out = option_need(o, OPT_OUT, e)) || cli_no_arguments(o, e))
        return -1;
    char *given = given_json(o, CMD_PRETRAIN);
    p.given = given;
    int rc = pretrain_run(&p, cli_progress_begin(o), e);
    cli_progress_end();
    free(given);
    return rc;
}

static void train_shape(const struct options *o, struct train_options *t)
{
    t->text_history = option_flag(o, OPT_TEXT_HISTORY);
    const char *start = option_text(o, OPT_START);
    t->start = !start || !*start ? START_DEFAULT : !strcmp(start, "random") ? START_RANDOM : !strcmp(start, "base") ? START_BASE : START_INDEXER;
    t->base = option_text(o, OPT_BASE);
    t->shape = shape_of(o);
    t->max_tokens = small(o, OPT_MAX_TOKENS);
    t->max_history = option_given(o, OPT_MAX_HISTORY) ? small(o, OPT_MAX_HISTORY) : 0;
}

static void train_schedule(const struct options *o, struct train_options *t)
{
    t->batch = small(o, OPT_BATCH);
    t->steps = option_int(o, OPT_STEPS);
    t->epochs = option_real(o, OPT_EPOCHS);
    t->minutes = option_real(o, OPT_MINUTES);
    t->lr = option_real(o, OPT_LR);
    t->adam = optimiser_of(o);
    t->micro_batch = small(o, OPT_MICRO_BATCH);
    t->dropout = weight(o, OPT_DROPOUT);
    t->label_smoothing = option_real(o, OPT_LABEL_SMOOTHING);
    t->validation_share = option_real(o, OPT_VALIDATION_SHARE);
    t->validations = small(o, OPT_VALIDATIONS);
    t->patience = small(o, OPT_PATIENCE);
    t->given_pairs = !option_flag(o, OPT_CUT_QUERIES);
    t->pseudo_per_document = small(o, OPT_PSEUDO);
    t->written = option_text(o, OPT_QUERIES);
    t->written_share = weight(o, OPT_WRITTEN_SHARE);
    t->seed = (uint64_t)option_int(o, OPT_SEED);
    t->device = option_text(o, OPT_DEVICE);
    t->threads = small(o, OPT_THREADS);
    t->checkpoint_s = option_real(o, OPT_CHECKPOINT_S);
}

int cli_train(const struct options *o, struct err *e)
{
    struct train_options t = {.model = option_need(o, OPT_MODEL, e), .task = TRAIN_SEARCH};
    if (!t.model || !(t.data = option_need(o, OPT_DATA, e)) || one_argument(o, "the task, search, recommend or queries,", e))
        return -1;
    if (!strcmp(o->arguments[0], "recommend"))
        t.task = TRAIN_RECOMMEND;
    else if (!strcmp(o->arguments[0], "queries"))
        t.task = TRAIN_QUERIES;
    else if (strcmp(o->arguments[0], "search"))
        return err_set(e, ERR_USAGE, "'%s' is no task; search, recommend and queries are", o->arguments[0]);
    if (option_set(o, OPT_QUERIES) && t.task != TRAIN_SEARCH)
        return err_set(e, ERR_USAGE, "--queries names written queries, which only train search reads");
    if (option_set(o, OPT_WRITTEN_SHARE) && o->values[OPT_WRITTEN_SHARE].origin != ORIGIN_RECIPE && !option_set(o, OPT_QUERIES))
        return err_set(e, ERR_USAGE, "--written-share is the share of the queries of --queries, which is missing");
    train_shape(o, &t);
    train_schedule(o, &t);
    if (rates_of(o, &t.search, e))
        return -1;
    char *given = given_json(o, CMD_TRAIN);
    t.given = given;
    int rc = train_run(&t, cli_progress_begin(o), e);
    cli_progress_end();
    free(given);
    return rc;
}

int cli_queries(const struct options *o, struct err *e)
{
    struct queries_options q = {.model = option_need(o, OPT_MODEL, e),
                                .replace = option_flag(o, OPT_REPLACE),
                                .per_document = small(o, OPT_PER_DOCUMENT),
                                .top_k = small(o, OPT_TOP_K),
                                .temperature = option_real(o, OPT_TEMPERATURE),
                                .max_tokens = small(o, OPT_MAX_TOKENS),
                                .input_tokens = small(o, OPT_INPUT_TOKENS),
                                .batch = small(o, OPT_BATCH),
                                .limit = small(o, OPT_FIRST),
                                .seed = (uint64_t)option_int(o, OPT_SEED),
                                .device = option_text(o, OPT_DEVICE),
                                .threads = small(o, OPT_THREADS),
                                .checkpoint_s = option_real(o, OPT_CHECKPOINT_S)};
    if (!q.model || !(q.data = option_need(o, OPT_DATA, e)) || !(q.out = option_need(o, OPT_OUT, e)) || cli_no_arguments(o, e))
        return -1;
    int rc = queries_run(&q, cli_progress_begin(o), e);
    cli_progress_end();
    if (rc == 0)
        fprintf(stderr, "wrote %s\n", q.out);
    return rc;
}

/* evaluate --queries N. */
static int first_queries(const struct options *o, int32_t *n, struct err *e)
{
    const char *text = option_text(o, OPT_QUERIES);
    char *end;
    long x = text ? strtol(text, &end, 10) : 0;
    if (text && (end == text || *end || x < 1 || x > INT32_MAX))
        return err_set(e, ERR_USAGE, "--queries %s: a number of queries, 1 .. %d", text, INT32_MAX);
    *n = (int32_t)x;
    return 0;
}

int cli_evaluate(const struct options *o, struct err *e)
{
    struct evaluate_options v = {
        .model = option_text(o, OPT_MODEL),
        .data = option_need(o, OPT_DATA, e),
        .task = option_text(o, OPT_TASK),
        .beam = small(o, OPT_BEAM),
        .limit = option_given(o, OPT_LIMIT) ? small(o, OPT_LIMIT) : 0,
        .with_history = option_flag(o, OPT_WITH_HISTORY),
        .intervals = option_flag(o, OPT_INTERVALS),
        .compare = option_text(o, OPT_COMPARE),
        .run = option_text(o, OPT_RUN),
        .run_out = option_text(o, OPT_RUN_OUT),
        .unconstrained = option_flag(o, OPT_UNCONSTRAINED),
        .cold_start = option_flag(o, OPT_COLD_START),
        .embeddings = option_text(o, OPT_EMBEDDINGS),
        .embedding_ids = option_text(o, OPT_EMBEDDING_IDS),
        .json = option_flag(o, OPT_JSON),
        .seed = (uint64_t)option_int(o, OPT_SEED),
        .device = option_text(o, OPT_DEVICE),
        .threads = small(o, OPT_THREADS),
    };
    struct str out = {0};
    if (!v.data || cli_no_arguments(o, e) || first_queries(o, &v.queries, e))
        return -1;
    int rc = evaluate_run(&v, cli_progress_begin(o), &out, e);
    cli_progress_end();
    if (rc == 0)
        fwrite(out.data, 1, out.size, stdout);
    str_free(&out);
    return rc;
}

static int prepare_arguments(const struct options *o, struct prepare_options *p, struct err *e)
{
    if (o->argument_count < 2)
        return err_set(e, ERR_USAGE, "the data set (amazon, esci, nq, msmarco, trec-dl, beir) and the folder of its files are needed");
    if (o->argument_count > 2)
        return err_set(e, ERR_USAGE, "'%s' is one argument too many", o->arguments[2]);
    p->set = o->arguments[0];
    p->folder = o->arguments[1];
    return 0;
}

int cli_prepare(const struct options *o, struct err *e)
{
    struct prepare_options p = {
        .out = option_need(o, OPT_OUT, e),
        .data = option_text(o, OPT_DATA),
        .category = option_text(o, OPT_CATEGORY),
        .documents = option_int(o, OPT_DOCUMENTS),
        .max_text = option_int(o, OPT_MAX_TEXT),
        .bad_lines = option_int(o, OPT_BAD_LINES),
        .all_histories = strcmp(option_text(o, OPT_HISTORIES), "all") == 0,
        .seed = (uint64_t)option_int(o, OPT_SEED),
        .check = option_flag(o, OPT_CHECK),
        .json = option_flag(o, OPT_JSON),
    };
    struct str out = {0};
    if (!p.out || prepare_arguments(o, &p, e))
        return -1;
    int rc = prepare_run(&p, cli_progress_begin(o), &out, e);
    cli_progress_end();
    if (out.size)
        fwrite(out.data, 1, out.size, stdout); /* the counts also when the check fails */
    str_free(&out);
    return rc;
}

int cli_sample(const struct options *o, struct err *e)
{
    const char *out = option_need(o, OPT_OUT, e);
    if (!out || cli_no_arguments(o, e))
        return -1;
    int rc = sample_run(out, (uint64_t)option_int(o, OPT_SEED), cli_progress_begin(o), e);
    cli_progress_end();
    return rc;
}
