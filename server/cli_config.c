/* cli_config.c: which options are in force and why; and with which a bundle was made.
 *
 * `config show` tells the daemon's options, or those that another command would run with: `config show learn-ids --recipe beauty`. `config run
 * --model BUNDLE` prints what learn-ids and train have put into the bundle (learn/provenance.h): every option as it stood and where it came
 * from, what the run made of those that were left open, seed, program, data, and the rates that were tried. */
#include "../core/runs.h"
#include "cli.h"
#include "json_out.h"
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_option(const struct options *o, enum option_id id, bool json, bool first)
{
    struct str out = {0};
    const struct option_value *v = &o->values[id];
    const char *value = v->text ? v->text : option_table[id].type == OPTION_FLAG ? "false" : NULL;
    if (json) {
        str_printf(&out, "%s\"%s\":{\"value\":", first ? "" : ",", option_table[id].name);
        json_string(&out, value);
        str_printf(&out, ",\"origin\":\"%s\"}", option_origin_name(v->origin));
    } else {
        str_printf(&out, "%-20s = %-24s  # %s\n", option_table[id].name, value ? value : "", option_origin_name(v->origin));
    }
    fwrite(out.data, 1, out.size, stdout);
    str_free(&out);
}

static void show_all(const struct options *o, unsigned command, bool json)
{
    bool first = true;
    fputs(json ? "{" : "", stdout);
    for (int i = 0; i < OPT_COUNT; i++)
        if ((option_table[i].commands & command) && i != OPT_CONFIG) {
            show_option(o, (enum option_id)i, json, first);
            first = false;
        }
    fputs(json ? "}\n" : "", stdout);
}

/* SEMINDEX_* variables that no option has: most likely misspelt. */
static int check_environment(struct err *e)
{
    extern char **environ;
    for (char **v = environ; *v; v++) {
        size_t n = strcspn(*v, "=");
        bool known = strncmp(*v, "SEMINDEX_", 9) != 0 || !strncmp(*v, "SEMINDEX_CUDA_MODULE=", 21) || !strncmp(*v, "SEMINDEX_EMU_", 13);
        for (int i = 0; i < OPT_COUNT && !known; i++) {
            char name[64];
            option_environment_name((enum option_id)i, name);
            known = strlen(name) == n && !memcmp(name, *v, n);
        }
        if (!known)
            return err_set(e, ERR_CONFIG, "the environment has %.*s, which is no option", (int)n, *v);
    }
    return 0;
}

/* The options of the command that stands behind "show", as it would read them. */
static int show(const struct options *o, struct err *e)
{
    static const struct {
        const char *name;
        unsigned command;
        enum option_id file; /* which of our options goes on to it */
    } shown[] = {{"serve", CMD_SERVE, OPT_CONFIG}, {"pretrain", CMD_PRETRAIN, OPT_RECIPE}, {"learn-ids", CMD_LEARN, OPT_RECIPE},
                 {"train", CMD_TRAIN, OPT_RECIPE}, {"queries", CMD_QUERIES, OPT_RECIPE},   {"evaluate", CMD_EVALUATE, OPT_RECIPE}};
    enum { SHOWN = sizeof shown / sizeof *shown };
    const char *names[SHOWN], *name = o->argument_count > 1 ? o->arguments[1] : "serve", *near;
    struct options other;
    int n = 0;
    while (n < SHOWN && strcmp(names[n] = shown[n].name, name))
        n++;
    if (n == SHOWN) {
        near = nearest_name(name, names, SHOWN);
        return err_set(e, ERR_USAGE, "'%s' is none of serve, pretrain, learn-ids, train, queries, evaluate%s%s%s", name, near ? "; did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
    }
    char flag[64], *argv[3];
    int count = 0;
    if (o->argument_count > 2)
        argv[count++] = o->arguments[2];
    snprintf(flag, sizeof flag, "--%s", option_table[shown[n].file].name);
    if (option_set(o, shown[n].file)) {
        argv[count++] = flag;
        argv[count++] = o->values[shown[n].file].text;
    }
    int rc = options_read(&other, shown[n].command, count, argv, e);
    if (rc == 0)
        show_all(&other, shown[n].command, option_flag(o, OPT_JSON));
    options_free(&other);
    return rc;
}

/* ---- how a bundle was made ---- */

static void print_member(const cJSON *v, const char *more)
{
    printf("%-24s = %s%s%s\n", v->string, cJSON_GetStringValue(v) ? cJSON_GetStringValue(v) : "", *more ? "  # " : "", more);
}

static void print_run(const cJSON *run)
{
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(run, "data"), *given = cJSON_GetObjectItemCaseSensitive(run, "given"), *v;
    const char *recipe = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(given, "recipe"));
    printf("[%s]\n# semindex %s, recipe %s\n# data %s: %.0f documents, SHA-256 %s\n", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "command")),
           cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "program")), recipe ? recipe : "none",
           cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "path")), cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(data, "documents")),
           cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "sha256")));
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(given, "options"))
        printf("%-24s = %-24s  # %s\n", v->string, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "value")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "origin")));
    puts("# in effect");
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(run, "effective"))
        print_member(v, "");
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(run, "search"))
    {
        const cJSON *figure = cJSON_GetObjectItemCaseSensitive(v, "validation");
        printf("# rate %g: ", cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(v, "lr")));
        printf(cJSON_IsNumber(figure) ? "validation %.6g\n" : "diverged\n", cJSON_GetNumberValue(figure));
    }
    puts("");
}

static int show_runs(const struct options *o, struct err *e)
{
    struct str text = {0};
    const char *model = option_need(o, OPT_MODEL, e);
    if (!model || runs_of_bundle(model, &text, e) < 0) {
        str_free(&text);
        return -1;
    }
    cJSON *runs = cJSON_Parse(text.data), *run;
    int rc = runs && cJSON_GetArraySize(runs) > 0 ? 0 : err_set(e, ERR_DATA, "%s: nothing in it says how it was made", model);
    if (rc == 0 && option_flag(o, OPT_JSON))
        puts(text.data);
    cJSON_ArrayForEach(run, runs)
    {
        if (!option_flag(o, OPT_JSON))
            print_run(run);
    }
    cJSON_Delete(runs);
    str_free(&text);
    return rc;
}

/* ---- config ---- */

static int check(const struct options *o, struct err *e)
{
    struct options daemon;
    int rc = options_read(&daemon, CMD_SERVE, 0, NULL, e);
    if (rc == 0 && option_set(o, OPT_CONFIG))
        rc = options_read_file(&daemon, option_text(o, OPT_CONFIG), e);
    if (rc == 0)
        rc = check_environment(e);
    if (rc == 0)
        printf("fine\n");
    options_free(&daemon);
    return rc;
}

static int example(const struct options *o, struct err *e)
{
    struct str text = {0};
    (void)o;
    (void)e;
    options_example(&text, CMD_SERVE);
    fwrite(text.data, 1, text.size, stdout);
    str_free(&text);
    return 0;
}

int cli_config(const struct options *o, struct err *e)
{
    static const struct {
        const char *name;
        int (*run)(const struct options *o, struct err *e);
    } actions[] = {{"show", show}, {"check", check}, {"example", example}, {"run", show_runs}};
    const char *what = o->argument_count ? o->arguments[0] : "show";
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (!strcmp(what, actions[i].name))
            return actions[i].run(o, e);
    return err_set(e, ERR_USAGE, "'%s' is none of show, check, example, run", what);
}
