/* cli_query.c: index, search and recommend without a daemon: the same engine, opened for one command.
 *
 * The answers are those of the HTTP endpoints (--json prints the same members). A catalogue that a daemon holds is locked; the engine says
 * so. Indexing goes in batches of 100, each one transaction: a stopped run has stored whole batches, and running it again leaves those
 * unchanged. */
#include "../core/base/file.h"
#include "cli.h"
#include "json_out.h"
#include "server.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100 };

static struct engine *open_engine(const struct options *o, const struct run *run, struct err *e)
{
    struct engine_options eo;
    if (!option_need(o, OPT_MODEL, e) || !option_need(o, OPT_CATALOG, e))
        return NULL;
    engine_options_from(o, &eo);
    eo.recordings_mib = 0; /* for one command none pays */
    return engine_open(&eo, run, e);
}

/* ---- search and recommend ---- */

static void print_table(const struct engine_query *q)
{
    for (int32_t i = 0; i < q->hit_count; i++) {
        const struct engine_hit *h = &q->hits[i];
        printf("%4d  %-12.9g  %-14s  %-20s  %.80s\n", h->rank, h->score, h->semantic_id ? h->semantic_id : "-", h->id,
               h->title ? h->title : "");
    }
    if (q->hit_count == 0)
        printf("no hits\n");
    if (q->truncated)
        fprintf(stderr, "the input is longer than the model reads and was cut\n");
    if (q->fallback_used)
        fprintf(stderr, "no entry of the history is known: these are the most popular documents\n");
}

static void print_query(const struct options *o, const struct engine_query *q)
{
    struct str out = {0};
    if (!option_flag(o, OPT_JSON)) {
        print_table(q);
        return;
    }
    str_puts(&out, "{");
    hits_write(&out, q, FIELD_ALL, option_flag(o, OPT_EXPLAIN));
    str_printf(&out, ",\"generation\":%lld}\n", (long long)q->generation);
    fwrite(out.data, 1, out.size, stdout);
    str_free(&out);
}

static int run_query(const struct options *o, struct engine_query *q, struct err *e)
{
    struct arena arena;
    int rc = -1;
    arena_init(&arena, 0);
    q->arena = &arena;
    q->limit = (int32_t)option_int(o, OPT_LIMIT);
    q->offset = (int32_t)option_int(o, OPT_OFFSET);
    q->beam_width = (int32_t)option_int(o, OPT_BEAM);
    struct engine *engine = open_engine(o, cli_progress_begin(o), e);
    if (engine && engine_prepare(engine, q, e) == 0) {
        engine_run(engine, &q, 1);
        rc = q->err.code ? -1 : 0;
        if (rc && e)
            *e = q->err;
    }
    cli_progress_end();
    if (rc == 0)
        print_query(o, q);
    engine_close(engine);
    arena_free(&arena);
    return rc;
}

/* --mode, where it is given and a mode of the query's task. */
static int take_mode(const struct options *o, struct engine_query *q, struct err *e)
{
    const char *mode = option_text(o, OPT_MODE);
    if (mode && mode_from_name(q->task, mode, &q->mode))
        return err_set(e, ERR_USAGE, "--mode %s: %s", mode, q->task == TASK_SEARCH ? "search has hybrid, generative and lexical"
                                                                                 : "recommend has generative, neighbours and hybrid");
    return 0;
}

int cli_search(const struct options *o, struct err *e)
{
    struct engine_query q = {.task = TASK_SEARCH, .mode = MODE_HYBRID};
    struct str text = {0};
    if (take_mode(o, &q, e))
        return -1;
    if (o->argument_count == 0)
        return err_set(e, ERR_USAGE, "a query is needed");
    for (int i = 0; i < o->argument_count; i++)
        str_printf(&text, "%s%s", i ? " " : "", o->arguments[i]);
    q.text = text.data;
    int rc = run_query(o, &q, e);
    str_free(&text);
    return rc;
}

/* Splits "a,b" into exclude; the copy is returned and freed by the caller. */
static char *split_exclude(const char *list, const char **ids, int32_t room, int32_t *count)
{
    char *copy = xstrdup(list ? list : ""), *save = NULL;
    *count = 0;
    for (char *p = strtok_r(copy, ",", &save); p && *count < room; p = strtok_r(NULL, ",", &save))
        ids[(*count)++] = p;
    return copy;
}

int cli_recommend(const struct options *o, struct err *e)
{
    const char *exclude[256];
    struct engine_query q = {.task = TASK_RECOMMEND, .mode = MODE_GENERATIVE, .exclude = exclude, .history_count = o->argument_count};
    if (take_mode(o, &q, e))
        return -1;
    struct engine_past *past = xcalloc((size_t)o->argument_count + 1, sizeof *past);
    char *copy = split_exclude(option_text(o, OPT_EXCLUDE), exclude, 256, &q.exclude_count);
    for (int i = 0; i < o->argument_count; i++)
        past[i].id = o->arguments[i];
    q.history = past;
    q.exclude_history = !option_flag(o, OPT_KEEP_HISTORY);
    int rc = run_query(o, &q, e);
    free(past);
    free(copy);
    return rc;
}

/* ---- index ---- */

struct ingest {
    struct engine *engine;
    struct arena arena;
    struct engine_put puts[BATCH];
    struct body bodies[BATCH];
    char *lines[BATCH];
    int64_t at[BATCH]; /* line numbers */
    int32_t count;
    int64_t counts[3], total, generation;
};

static void ingest_clear(struct ingest *g)
{
    for (int32_t i = 0; i < g->count; i++) {
        body_free(&g->bodies[i]);
        free(g->lines[i]);
    }
    g->count = 0;
    arena_reset(&g->arena);
}

static int ingest_flush(struct ingest *g, const char *path, struct err *e)
{
    struct engine_put_batch b = {.puts = g->puts, .count = g->count, .arena = &g->arena};
    if (g->count == 0)
        return 0;
    if (engine_index(g->engine, &b, e)) {
        if (b.error_count && b.errors[0].index >= 0 && b.errors[0].index < g->count)
            return err_set(e, ERR_DATA, "%s: line %lld: %s: %s (%d wrong in its batch of %d)", path, (long long)g->at[b.errors[0].index],
                           b.errors[0].field ? b.errors[0].field : "document", b.errors[0].detail, b.error_count, g->count);
        return -1;
    }
    for (int32_t i = 0; i < g->count; i++)
        if (g->puts[i].status <= STATUS_UNCHANGED)
            g->counts[g->puts[i].status]++;
    g->total += g->count;
    g->generation = b.generation;
    ingest_clear(g);
    return 0;
}

static int ingest_line(struct ingest *g, const char *path, int64_t number, const char *line, size_t size, struct err *e)
{
    int32_t i = g->count;
    if (line[strspn(line, " \t\r")] == 0 && strlen(line) == size)
        return 0;
    g->lines[i] = xstrndup(line, size);
    g->at[i] = number;
    g->count++;
    if (body_parse(&g->bodies[i], g->lines[i], size, 1000000, e) || map_document_line(&g->bodies[i], &g->arena, &g->puts[i], e))
        return err_prefix(e, "%s: line %lld", path, (long long)number);
    return 0;
}

static int ingest_file(struct ingest *g, const char *path, int64_t first, const struct run *run, struct err *e)
{
    char *line;
    size_t size;
    int rc;
    struct lines *l = lines_open(path, e);
    if (!l)
        return -1;
    while ((rc = lines_next(l, &line, &size, e)) > 0) {
        rc = ingest_line(g, path, lines_number(l), line, size, e);
        if (rc == 0 && g->count == BATCH)
            rc = ingest_flush(g, path, e);
        run_report(run, "indexing", g->total, 0, "documents", __builtin_nan(""));
        if (rc == 0 && run_stopping(run))
            rc = err_set(e, ERR_INTERRUPTED, "stopped after %lld documents; start again to go on", (long long)g->total);
        if (rc || (first && g->total + g->count >= first))
            break;
    }
    lines_close(l);
    return rc < 0 ? -1 : ingest_flush(g, path, e);
}

/* DIR/corpus.jsonl, DIR/items.jsonl, or the file itself; caller frees. */
static char *find_documents(const char *data)
{
    static const char *const names[] = {"corpus.jsonl", "items.jsonl"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(data, names[i]);
        if (file_exists(path))
            return path;
        free(path);
    }
    return xstrdup(data);
}

static void print_counts(const struct options *o, const struct ingest *g, double seconds)
{
    if (option_flag(o, OPT_JSON))
        printf("{\"documents\":%lld,\"created\":%lld,\"updated\":%lld,\"unchanged\":%lld,\"generation\":%lld,\"seconds\":%.3f}\n",
               (long long)g->total, (long long)g->counts[0], (long long)g->counts[1], (long long)g->counts[2], (long long)g->generation,
               seconds);
    else
        printf("%lld documents: %lld created, %lld updated, %lld unchanged; generation %lld; %.0f documents/s\n", (long long)g->total,
               (long long)g->counts[0], (long long)g->counts[1], (long long)g->counts[2], (long long)g->generation,
               seconds > 0 ? (double)g->total / seconds : 0);
}

int cli_index(const struct options *o, struct err *e)
{
    const char *data = option_need(o, OPT_DATA, e);
    if (!data || cli_no_arguments(o, e))
        return -1;
    struct ingest *g = xcalloc(1, sizeof *g);
    char *path = find_documents(data);
    const struct run *run = cli_progress_begin(o);
    arena_init(&g->arena, 0);
    g->engine = open_engine(o, run, e);
    double began = clock_s();
    int rc = g->engine ? ingest_file(g, path, option_int(o, OPT_FIRST), run, e) : -1;
    cli_progress_end();
    if (rc == 0)
        print_counts(o, g, clock_s() - began);
    ingest_clear(g);
    arena_free(&g->arena);
    engine_close(g->engine);
    free(path);
    free(g);
    return rc;
}
