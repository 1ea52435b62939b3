/* options.c: reading options from flags, environment, config file and defaults, by the one table in option_table.c.
 *
 * The order of reading is the order of strength: flags first, then the environment, then the file, then defaults; a value that is set is
 * never overwritten by a weaker origin. Every refusal names the option as the person wrote it, the value and what would be right; a name
 * that does not exist is answered with the nearest one. Invariant: after options_read a number is inside its bounds and a choice is one of
 * its values, so that nobody checks again. */
#include "options.h"
#include "recipes.h"
#include "../core/base/file.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void option_environment_name(enum option_id id, char name[64])
{
    const char *from = option_table[id].name;
    size_t n = strlen("SEMINDEX_");
    memcpy(name, "SEMINDEX_", n);
    for (; *from && n < 63; from++)
        name[n++] = *from == '-' ? '_' : (char)toupper((unsigned char)*from);
    name[n] = 0;
}

const char *option_origin_name(enum option_origin origin)
{
    static const char *const names[] = {"default", "file", "recipe", "environment", "flag"};
    return names[origin];
}

int option_find(const char *name, size_t size)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if (strlen(option_table[i].name) == size && memcmp(option_table[i].name, name, size) == 0)
            return i;
    return -1;
}

/* Levenshtein distance over one row; names are short. */
static int edit_distance(const char *a, const char *b)
{
    int row[128];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > 120 || m > 120)
        return 1000;
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < step ? change : step;
        }
    }
    return row[m];
}

const char *nearest_name(const char *given, const char *const *names, int count)
{
    const char *best = NULL;
    int least = (int)strlen(given) / 2 + 1;
    for (int i = 0; i < count; i++) {
        int d = strncmp(names[i], given, strlen(given)) == 0 ? 1 : edit_distance(given, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

const char *option_nearest(const char *given, unsigned command)
{
    const char *names[OPT_COUNT];
    int n = 0;
    for (int i = 0; i < OPT_COUNT; i++)
        if (option_table[i].commands & command)
            names[n++] = option_table[i].name;
    return nearest_name(given, names, n);
}

/* A choice written "name[:N]" is the name alone or with a colon and a number of at most three digits. */
static bool choice_is(const char *choice, size_t size, const char *value)
{
    static const char tail[] = "[:N]";
    size_t n = strlen(value), more = sizeof tail - 1;
    if (size < more || memcmp(choice + size - more, tail, more) != 0)
        return n == size && memcmp(choice, value, n) == 0;
    if (n < size - more || memcmp(choice, value, size - more) != 0)
        return false;
    const char *rest = value + size - more;
    return !*rest || (*rest == ':' && rest[1] && strlen(rest) <= 4 && strspn(rest + 1, "0123456789") == strlen(rest + 1));
}

static bool choice_has(const char *choices, const char *value)
{
    for (const char *p = choices; *p;) {
        size_t m = strcspn(p, "|");
        if (choice_is(p, m, value))
            return true;
        p += m + (p[m] == '|');
    }
    return false;
}

static int parse_number(const struct option_def *d, const char *text, struct option_value *v, const char *what, struct err *e)
{
    char *end = NULL;
    errno = 0;
    if (d->type == OPTION_INT) {
        v->integer = strtoll(text, &end, 10);
        v->number = (double)v->integer;
    } else {
        v->number = strtod(text, &end);
    }
    if (end == text || *end || errno == ERANGE || !isfinite(v->number) || isspace((unsigned char)text[0]))
        return err_set(e, ERR_USAGE, "%s: '%s' is not %s", what, text, d->type == OPTION_INT ? "a whole number" : "a number");
    if (v->number < d->min || v->number > d->max)
        return err_set(e, ERR_USAGE, "%s: %s is outside %.15g .. %.15g", what, text, d->min, d->max);
    return 0;
}

static int parse_flag(const char *text, struct option_value *v, const char *what, struct err *e)
{
    bool yes = !strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "1") || !strcmp(text, "on");
    bool no = !strcmp(text, "false") || !strcmp(text, "no") || !strcmp(text, "0") || !strcmp(text, "off");
    if (!yes && !no)
        return err_set(e, ERR_USAGE, "%s: '%s' is neither true nor false", what, text);
    v->integer = yes;
    return 0;
}

int option_put(struct options *o, enum option_id id, const char *text, enum option_origin origin, const char *what, struct err *e)
{
    const struct option_def *d = &option_table[id];
    struct option_value v = {.origin = origin};
    if (d->type == OPTION_FLAG && parse_flag(text, &v, what, e))
        return -1;
    if ((d->type == OPTION_INT || d->type == OPTION_REAL) && parse_number(d, text, &v, what, e))
        return -1;
    if (d->type == OPTION_CHOICE && !choice_has(d->hint, text))
        return err_set(e, ERR_USAGE, "%s: '%s' is none of %s", what, text, d->hint);
    if (d->type == OPTION_TEXT && !*text)
        return err_set(e, ERR_USAGE, "%s: the value is empty", what);
    if (o->values[id].text && o->values[id].origin > origin)
        return 0;
    free(o->values[id].text);
    v.text = xstrdup(text);
    o->values[id] = v;
    return 0;
}

static int refuse_name(const char *given, unsigned command, bool known, struct err *e)
{
    const char *near = option_nearest(given, command);
    const char *why = known ? "is no option of this command" : "is no option";
    if (near)
        return err_set(e, ERR_USAGE, "--%s %s; did you mean --%s?", given, why, near);
    return err_set(e, ERR_USAGE, "--%s %s; --help lists them", given, why);
}

/* One flag at argv[i]; returns how many further arguments it used, or -1. */
static int read_flag(struct options *o, unsigned command, int left, char **argv, struct err *e)
{
    const char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t size = equals ? (size_t)(equals - name) : strlen(name);
    char *given = xstrndup(name, size), *what = xprintf("--%s", given);
    int id = option_find(name, size), used = 0, rc = -1;
    if (id < 0 || !(option_table[id].commands & command)) {
        refuse_name(given, command, id >= 0, e);
        goto out;
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!value && option_table[id].type == OPTION_FLAG)
        value = "true";
    if (!value && left < 2) {
        err_set(e, ERR_USAGE, "%s needs a value: --%s %s", what, given, option_table[id].hint);
        goto out;
    }
    if (!value) {
        value = argv[1];
        used = 1;
    }
    rc = option_put(o, (enum option_id)id, value, ORIGIN_FLAG, what, e) ? -1 : used;
out:
    free(given);
    free(what);
    return rc;
}

static int read_flags(struct options *o, unsigned command, int count, char **argv, struct err *e)
{
    bool only_arguments = false;
    o->arguments = xcalloc((size_t)count + 1, sizeof *o->arguments);
    for (int i = 0; i < count; i++) {
        if (!only_arguments && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            o->help = true;
        } else if (!only_arguments && !strcmp(argv[i], "--")) {
            only_arguments = true;
        } else if (!only_arguments && !strncmp(argv[i], "--", 2)) {
            int used = read_flag(o, command, count - i, argv + i, e);
            if (used < 0)
                return -1;
            i += used;
        } else if (!only_arguments && argv[i][0] == '-' && argv[i][1]) {
            return err_set(e, ERR_USAGE, "%s is no option; options begin with two dashes", argv[i]);
        } else {
            o->arguments[o->argument_count++] = argv[i];
        }
    }
    return 0;
}

static int read_environment(struct options *o, unsigned command, struct err *e)
{
    char name[64];
    for (int i = 0; i < OPT_COUNT; i++) {
        if (!(option_table[i].commands & command))
            continue;
        option_environment_name((enum option_id)i, name);
        const char *text = getenv(name);
        if (text && option_put(o, (enum option_id)i, text, ORIGIN_ENVIRONMENT, name, e)) {
            if (e)
                e->code = ERR_CONFIG;
            return -1;
        }
    }
    return 0;
}

char *option_trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    return s;
}

static int read_file_line(struct options *o, char *line, const char *where, struct err *e)
{
    char *s = option_trim(line);
    if (!*s || *s == '#')
        return 0;
    char *equals = strchr(s, '=');
    if (!equals)
        return err_set(e, ERR_CONFIG, "%s: a line reads `name = value`", where);
    *equals = 0;
    char *name = option_trim(s), *value = option_trim(equals + 1);
    int id = option_find(name, strlen(name));
    if (id < 0 || id == OPT_CONFIG) {
        const char *near = option_nearest(name, ~0u);
        return err_set(e, ERR_CONFIG, "%s: '%s' is no option%s%s%s", where, name, near ? "; did you mean '" : "", near ? near : "",
                       near ? "'?" : "");
    }
    char *what = xprintf("%s: %s", where, name);
    int rc = option_put(o, (enum option_id)id, value, ORIGIN_FILE, what, e);
    free(what);
    if (rc && e)
        e->code = ERR_CONFIG;
    return rc;
}

int options_read_file(struct options *o, const char *path, struct err *e)
{
    struct lines *l = lines_open(path, e);
    if (!l)
        return -1;
    char *line, where[512];
    size_t size;
    int rc;
    while ((rc = lines_next(l, &line, &size, e)) > 0) {
        snprintf(where, sizeof where, "%s: line %lld", path, (long long)lines_number(l));
        if (strlen(line) != size)
            rc = err_set(e, ERR_CONFIG, "%s: a NUL byte", where);
        else
            rc = read_file_line(o, line, where, e);
        if (rc)
            break;
    }
    lines_close(l);
    return rc;
}

/* Options of which one stands: the strongest origin's. Two of the same origin are a contradiction. */
static const enum option_id alternatives[][2] = {{OPT_STEPS, OPT_EPOCHS}, {OPT_STEPS, OPT_MINUTES}, {OPT_EPOCHS, OPT_MINUTES}, {OPT_LR, OPT_SEARCH_LR}};

static int settle(struct options *o, struct err *e)
{
    for (size_t i = 0; i < sizeof alternatives / sizeof *alternatives; i++) {
        struct option_value *a = &o->values[alternatives[i][0]], *b = &o->values[alternatives[i][1]];
        if (!a->text || !b->text)
            continue;
        if (a->origin == b->origin)
            return err_set(e, ERR_USAGE, "--%s and --%s exclude each other", option_table[alternatives[i][0]].name,
                           option_table[alternatives[i][1]].name);
        struct option_value *weaker = a->origin < b->origin ? a : b;
        free(weaker->text);
        *weaker = (struct option_value){0};
    }
    return 0;
}

int options_read(struct options *o, unsigned command, int count, char **argv, struct err *e)
{
    memset(o, 0, sizeof *o);
    if (read_flags(o, command, count, argv, e))
        return -1;
    if (o->help)
        return 0;
    if (read_environment(o, command, e))
        return -1;
    if (o->values[OPT_RECIPE].text && recipe_apply(o, command, e))
        return -1;
    if (o->values[OPT_CONFIG].text && options_read_file(o, o->values[OPT_CONFIG].text, e))
        return -1;
    if (settle(o, e))
        return -1;
    for (int i = 0; i < OPT_COUNT; i++)
        if (!o->values[i].text && *option_table[i].standard)
            CHECK(option_put(o, (enum option_id)i, option_table[i].standard, ORIGIN_DEFAULT, option_table[i].name, e) == 0);
    return 0;
}

void options_free(struct options *o)
{
    for (int i = 0; i < OPT_COUNT; i++)
        free(o->values[i].text);
    free(o->arguments);
    memset(o, 0, sizeof *o);
}

bool option_set(const struct options *o, enum option_id id)
{
    return o->values[id].text != NULL;
}

bool option_given(const struct options *o, enum option_id id)
{
    return o->values[id].text && o->values[id].origin != ORIGIN_DEFAULT;
}

const char *option_text(const struct options *o, enum option_id id)
{
    return o->values[id].text;
}

int64_t option_int(const struct options *o, enum option_id id)
{
    CHECK(option_table[id].type == OPTION_INT);
    return o->values[id].integer;
}

double option_real(const struct options *o, enum option_id id)
{
    CHECK(option_table[id].type == OPTION_REAL);
    return o->values[id].number;
}

bool option_flag(const struct options *o, enum option_id id)
{
    CHECK(option_table[id].type == OPTION_FLAG);
    return o->values[id].integer != 0;
}

const char *option_need(const struct options *o, enum option_id id, struct err *e)
{
    if (!o->values[id].text)
        err_set(e, ERR_USAGE, "--%s %s is needed", option_table[id].name, option_table[id].hint);
    return o->values[id].text;
}

static int label_width(unsigned command)
{
    int widest = (int)strlen("--help");
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_def *d = &option_table[i];
        int w = (int)(2 + strlen(d->name) + (*d->hint ? 1 + strlen(d->hint) : 0));
        if ((d->commands & command) && w > widest && w <= 34)
            widest = w;
    }
    return widest;
}

static void help_row(struct str *out, const struct option_def *d, int width)
{
    char label[160];
    snprintf(label, sizeof label, "--%s%s%s", d->name, *d->hint ? " " : "", d->hint);
    if ((int)strlen(label) > width)
        str_printf(out, "  %s\n  %*s  %s", label, width, "", d->help);
    else
        str_printf(out, "  %-*s  %s", width, label, d->help);
    if (*d->standard)
        str_printf(out, " (default %s)", d->standard);
    str_puts(out, "\n");
}

void options_help(struct str *out, unsigned command)
{
    const char *group = "";
    int width = label_width(command);
    for (int i = 0; i < OPT_COUNT; i++) {
        if (!(option_table[i].commands & command) || !strcmp(option_table[i].group, group))
            continue;
        group = option_table[i].group;
        bool first = true;
        for (int j = 0; j < i; j++)
            first = first && !((option_table[j].commands & command) && !strcmp(option_table[j].group, group));
        if (!first)
            continue;
        str_printf(out, "\n%s:\n", group);
        for (int j = i; j < OPT_COUNT; j++)
            if ((option_table[j].commands & command) && !strcmp(option_table[j].group, group))
                help_row(out, &option_table[j], width);
    }
    str_printf(out, "\n  %-*s  this list\n", width, "--help");
}

void options_example(struct str *out, unsigned command)
{
    const char *group = "";
    str_puts(out,
             "# semindex.conf: every option of the daemon with its default. A flag or SEMINDEX_NAME in the environment wins over a line\n"
             "# here. `semindex config check --config FILE` checks this file, `semindex config show` says what is in force and why.\n");
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_def *d = &option_table[i];
        if (!(d->commands & command) || i == OPT_CONFIG)
            continue;
        if (strcmp(group, d->group)) {
            group = d->group;
            str_printf(out, "\n# ---- %s ----\n", group);
        }
        str_printf(out, "# %s\n", d->help);
        if (d->type == OPTION_INT || d->type == OPTION_REAL)
            str_printf(out, "#   %.15g .. %.15g\n", d->min, d->max);
        else if (d->type == OPTION_CHOICE)
            str_printf(out, "#   %s\n", d->hint);
        str_printf(out, "#%s = %s\n", d->name, d->type == OPTION_FLAG ? "false" : *d->standard ? d->standard : d->hint);
    }
}
