/* cli_doctor.c: what this machine, these libraries and these files are like.
 *
 * doctor says what a person would otherwise find out by a failure: versions of the libraries with their known weaknesses, processors,
 * memory, open files, whether bundle and catalogue are there and writable. It ends with 0 unless something would stop the daemon. */
#include "../core/base/file.h"
#include "../core/engine.h"
#include "../core/runs.h"
#include "cli.h"
#include "http.h"
#include "json_out.h"
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum verdict { FINE, NOTE, WRONG };
struct report {
    bool json;
    int wrong, lines;
};

static void say(struct report *r, enum verdict v, const char *what, const char *text)
{
    static const char *const names[] = {"ok", "note", "wrong"};
    struct str out = {0};
    r->wrong += v == WRONG;
    if (r->json) {
        str_printf(&out, "%s{\"check\":", r->lines ? "," : "");
        json_string(&out, what);
        str_printf(&out, ",\"verdict\":\"%s\",\"detail\":", names[v]);
        json_string(&out, text);
        str_puts(&out, "}");
    } else {
        str_printf(&out, "%-6s %-14s %s\n", names[v], what, text);
    }
    r->lines++;
    fwrite(out.data, 1, out.size, stdout);
    str_free(&out);
}

static void check_machine(struct report *r)
{
    char text[256];
    struct rlimit files = {0};
    struct sysinfo memory = {0};
    snprintf(text, sizeof text, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    say(r, FINE, "processors", text);
    sysinfo(&memory);
    snprintf(text, sizeof text, "%.1f GiB, %.1f GiB free", (double)memory.totalram * memory.mem_unit / 0x1p30,
             (double)memory.freeram * memory.mem_unit / 0x1p30);
    say(r, FINE, "memory", text);
    getrlimit(RLIMIT_NOFILE, &files);
    snprintf(text, sizeof text, "%llu%s", (unsigned long long)files.rlim_max,
             files.rlim_max < 4096 ? "; raise LimitNOFILE, 1,000 connections need some 2,200" : "");
    say(r, files.rlim_max < 4096 ? NOTE : FINE, "open files", text);
}

/* Opened as serve --device auto does it. */
static void check_device(struct report *r)
{
    char text[640];
    bool there = engine_device("auto", text, sizeof text);
    say(r, there ? FINE : WRONG, "device", text);
}

static void check_libraries(struct report *r)
{
    char text[256];
    bool old = http_library_version()[0] == '0';
    snprintf(text, sizeof text, "libmicrohttpd %s%s", http_library_version(),
             old ? "; older than 1.0: header folding, NUL in values and chunk extensions pass unseen: put nginx in front on open networks"
                 : "");
    say(r, old ? NOTE : FINE, "HTTP library", text);
    snprintf(text, sizeof text, "cJSON %s, behind our own strict gate", cJSON_Version());
    say(r, FINE, "JSON library", text);
}

/* One line a run that made a part of the bundle; opening it checks every file. */
static void check_runs(struct report *r, const char *model)
{
    struct str text = {0}, line = {0};
    struct err e = {0};
    if (runs_of_bundle(model, &text, &e) < 0)
        say(r, WRONG, "bundle", e.message);
    cJSON *runs = text.size && !e.code ? cJSON_Parse(text.data) : NULL, *run;
    cJSON_ArrayForEach(run, runs)
    {
        const cJSON *data = cJSON_GetObjectItemCaseSensitive(run, "data"), *given = cJSON_GetObjectItemCaseSensitive(run, "given");
        const char *recipe = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(given, "recipe"));
        const char *sha = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "sha256"));
        str_clear(&line);
        str_printf(&line, "%s of semindex %s, seed %.0f, recipe %s, %.0f documents of SHA-256 %.16s..; `config run` prints all",
                   cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "command")),
                   cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "program")),
                   cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(run, "seed")), recipe ? recipe : "none",
                   cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(data, "documents")), sha ? sha : "");
        say(r, FINE, "made by", line.data);
    }
    cJSON_Delete(runs);
    str_free(&text);
    str_free(&line);
}

static void check_bundle(struct report *r, const char *model)
{
    char text[512], *manifest = path_join(model, "bundle.json");
    bool there = file_exists(model), whole = file_exists(manifest);
    snprintf(text, sizeof text, "%s%s", model, !there ? " does not exist" : !whole ? " has no bundle.json: it is no bundle" : "");
    say(r, there && whole ? FINE : WRONG, "bundle", text);
    if (there && whole)
        check_runs(r, model);
    free(manifest);
}

static void check_catalog(struct report *r, const char *catalog)
{
    char text[512], *folder = xstrdup(catalog), *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    const char *where = slash ? folder : ".";
    bool there = file_exists(catalog), writable = access(there ? catalog : where, W_OK) == 0;
    snprintf(text, sizeof text, "%s%s%s", catalog, there ? "" : " is absent, serve makes it",
             writable ? "" : "; not writable for this user");
    say(r, writable ? FINE : WRONG, "catalogue", text);
    free(folder);
}

int cli_doctor(const struct options *o, struct err *e)
{
    struct report r = {.json = option_flag(o, OPT_JSON)};
    if (cli_no_arguments(o, e))
        return -1;
    if (r.json)
        printf("{\"version\":\"%s\",\"checks\":[", SEMINDEX_VERSION);
    check_machine(&r);
    check_device(&r);
    check_libraries(&r);
    if (option_set(o, OPT_MODEL))
        check_bundle(&r, option_text(o, OPT_MODEL));
    if (option_set(o, OPT_CATALOG))
        check_catalog(&r, option_text(o, OPT_CATALOG));
    if (r.json)
        printf("],\"wrong\":%d}\n", r.wrong);
    return r.wrong ? err_set(e, ERR_CONFIG, "%d check%s failed", r.wrong, r.wrong > 1 ? "s" : "") : 0;
}

int cli_version(const struct options *o, struct err *e)
{
    if (cli_no_arguments(o, e))
        return -1;
    if (option_flag(o, OPT_JSON))
        printf("{\"name\":\"semindex\",\"version\":\"%s\"}\n", SEMINDEX_VERSION);
    else
        printf("semindex %s\n", SEMINDEX_VERSION);
    return 0;
}
