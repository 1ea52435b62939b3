/* recipes.c: see recipes.h; and the command that lists them.
 *
 * The files lie in schema/recipes/ and are put into the program by the assembler: one line in the table a file. Reading is one pass: values of
 * the command's own sections go to its options, those of others to a set that is thrown away, so that both are checked alike. */
#include "recipes.h"
#include "../core/base/embed.h"
#include "../core/base/file.h"
#include "cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EMBED(semindex_recipe_beauty, "schema/recipes/beauty.ini");
EMBED(semindex_recipe_sports, "schema/recipes/sports.ini");
EMBED(semindex_recipe_toys, "schema/recipes/toys.ini");
EMBED(semindex_recipe_nq, "schema/recipes/nq.ini");
EMBED(semindex_recipe_macro, "schema/recipes/macro.ini");
EMBED(semindex_recipe_trec_dl, "schema/recipes/trec-dl.ini");
EMBED(semindex_recipe_beauty_cpu, "schema/recipes/beauty-cpu.ini");
EMBED(semindex_recipe_sports_cpu, "schema/recipes/sports-cpu.ini");
EMBED(semindex_recipe_toys_cpu, "schema/recipes/toys-cpu.ini");
EMBED(semindex_recipe_cranfield_cpu, "schema/recipes/cranfield-cpu.ini");

const struct recipe recipe_table[] = {
    {"beauty", semindex_recipe_beauty},
    {"sports", semindex_recipe_sports},
    {"toys", semindex_recipe_toys},
    {"nq", semindex_recipe_nq},
    {"macro", semindex_recipe_macro},
    {"trec-dl", semindex_recipe_trec_dl},
    {"beauty-cpu", semindex_recipe_beauty_cpu},
    {"sports-cpu", semindex_recipe_sports_cpu},
    {"toys-cpu", semindex_recipe_toys_cpu},
    {"cranfield-cpu", semindex_recipe_cranfield_cpu},
};
enum { RECIPES = sizeof recipe_table / sizeof *recipe_table, LONGEST_FILE = 1 << 20 };
const int recipe_count = RECIPES;

static const struct section {
    const char *name;
    unsigned command;
    const char *task; /* the command's first argument, or NULL: any */
} sections[] = {
    {"pretrain", CMD_PRETRAIN, NULL},
    {"learn-ids", CMD_LEARN, NULL},
    {"train", CMD_TRAIN, NULL},
    {"train search", CMD_TRAIN, "search"},
    {"train recommend", CMD_TRAIN, "recommend"},
    {"train queries", CMD_TRAIN, "queries"},
    {"queries", CMD_QUERIES, NULL},
    {"evaluate", CMD_EVALUATE, NULL},
};
enum { SECTIONS = sizeof sections / sizeof *sections };

static const char *nearest_recipe(const char *name)
{
    const char *names[RECIPES];
    for (int i = 0; i < RECIPES; i++)
        names[i] = recipe_table[i].name;
    return nearest_name(name, names, RECIPES);
}

/* The text of a name or a file, which the caller frees. */
static char *recipe_text(const char *name, struct err *e)
{
    for (int i = 0; i < RECIPES; i++)
        if (!strcmp(recipe_table[i].name, name))
            return xstrdup(recipe_table[i].text);
    size_t size, n = strlen(name);
    if (strchr(name, '/') || (n > 4 && !strcmp(name + n - 4, ".ini")) || file_exists(name)) {
        char *text = file_read(name, LONGEST_FILE, &size, e);
        if (text && strlen(text) == size)
            return text;
        if (text)
            err_set(e, ERR_CONFIG, "%s: a NUL byte", name);
        free(text);
        return NULL;
    }
    const char *near = nearest_recipe(name);
    err_set(e, ERR_USAGE, "'%s' is no recipe%s%s%s; `semindex recipes` lists them, and a FILE may be named", name, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    return NULL;
}

/* ---- reading ---- */

struct reading {
    struct options *ours, other; /* values for this command; those of other sections */
    unsigned command;
    const char *task, *name;
    const struct section *section;
    bool seen[OPT_COUNT]; /* in this section */
    bool found;           /* a section of this command */
    struct str has;       /* names of all sections, for the refusal */
};

static bool is_ours(const struct reading *r, const struct section *s)
{
    return s->command == r->command && (!s->task || (r->task && !strcmp(s->task, r->task)));
}

static int begin_section(struct reading *r, char *line, const char *where, struct err *e)
{
    const char *names[SECTIONS];
    size_t n = strlen(line);
    if (line[n - 1] != ']')
        return err_set(e, ERR_CONFIG, "%s: a section reads `[name]`", where);
    line[n - 1] = 0;
    r->section = NULL;
    for (int i = 0; i < SECTIONS; i++) {
        names[i] = sections[i].name;
        if (!strcmp(names[i], line + 1))
            r->section = &sections[i];
    }
    if (!r->section) {
        const char *near = nearest_name(line + 1, names, SECTIONS);
        return err_set(e, ERR_CONFIG, "%s: [%s] is no section%s%s%s", where, line + 1, near ? "; did you mean [" : "", near ? near : "",
                       near ? "]?" : "");
    }
    memset(r->seen, 0, sizeof r->seen);
    r->found = r->found || is_ours(r, r->section);
    str_printf(&r->has, "%s[%s]", r->has.size ? ", " : "", r->section->name);
    return 0;
}

static int read_value(struct reading *r, char *line, const char *where, struct err *e)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return err_set(e, ERR_CONFIG, "%s: a line reads `name = value`", where);
    if (!r->section)
        return err_set(e, ERR_CONFIG, "%s: a value stands in a section, such as [learn-ids]", where);
    *equals = 0;
    char *name = option_trim(line), *value = option_trim(equals + 1), *what = xprintf("%s: %s", where, name);
    int id = option_find(name, strlen(name)), rc;
    if (id < 0 || id == OPT_RECIPE || !(option_table[id].commands & r->section->command)) {
        const char *near = option_nearest(name, r->section->command);
        rc = err_set(e, ERR_CONFIG, "%s: '%s' is no option of %s%s%s%s", where, name, r->section->name, near ? "; did you mean '" : "",
                     near ? near : "", near ? "'?" : "");
    } else if (r->seen[id]) {
        rc = err_set(e, ERR_CONFIG, "%s stands here twice", what);
    } else {
        r->seen[id] = true;
        rc = option_put(is_ours(r, r->section) ? r->ours : &r->other, (enum option_id)id, value, ORIGIN_RECIPE, what, e);
    }
    free(what);
    if (rc && e)
        e->code = ERR_CONFIG;
    return rc;
}

static int read_text(struct reading *r, char *text, struct err *e)
{
    char where[512], *next = text;
    for (int number = 1; next; number++) {
        char *line = next, *end = strchr(line, '\n');
        next = end ? end + 1 : NULL;
        if (end)
            *end = 0;
        line = option_trim(line);
        snprintf(where, sizeof where, "%s: line %d", r->name, number);
        if (!*line || *line == '#')
            continue;
        if (*line == '[' ? begin_section(r, line, where, e) : read_value(r, line, where, e))
            return -1;
    }
    return 0;
}

int recipe_apply(struct options *o, unsigned command, struct err *e)
{
    if (command == CMD_CONFIG) /* it shows another command's options, and that one reads the recipe */
        return 0;
    struct reading r = {.ours = o, .command = command, .task = o->argument_count ? o->arguments[0] : NULL,
                        .name = o->values[OPT_RECIPE].text};
    char *text = recipe_text(r.name, e);
    int rc = text ? read_text(&r, text, e) : -1;
    if (rc == 0 && !r.found)
        rc = err_set(e, ERR_USAGE, "recipe %s has no section for this command; it has %s", r.name, r.has.size ? r.has.data : "none");
    options_free(&r.other);
    str_free(&r.has);
    free(text);
    return rc;
}

/* ---- semindex recipes ---- */

static void print_list(void)
{
    for (int i = 0; i < RECIPES; i++) {
        const char *line = recipe_table[i].text + strspn(recipe_table[i].text, "# ");
        printf("%-14s %.*s\n", recipe_table[i].name, (int)strcspn(line, "\n"), line);
    }
}

int cli_recipes(const struct options *o, struct err *e)
{
    if (o->argument_count > 1)
        return err_set(e, ERR_USAGE, "'%s' is one argument too many", o->arguments[1]);
    if (o->argument_count == 0) {
        print_list();
        return 0;
    }
    char *text = recipe_text(o->arguments[0], e);
    if (text)
        fputs(text, stdout);
    free(text);
    return text ? 0 : -1;
}
