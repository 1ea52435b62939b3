/* provenance.c: see provenance.h; and what reads it again for the command line. */
#include "provenance.h"
#include "../base/file.h"
#include "../base/hash.h"
#include "../runs.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

static const char *const files[] = {"pretrain.run.json", "learn-ids.run.json", "search.run.json", "recommend.run.json", "queries.run.json"};
enum { FILES = sizeof files / sizeof *files, LONGEST = 1 << 20 };

static void add_text(struct sha256 *s, const char *text)
{
    sha256_add(s, text ? text : "", text ? strlen(text) + 1 : 1);
}

static cJSON *data_of(const struct provenance *p)
{
    char hex[65];
    struct sha256 *s = sha256_begin();
    for (int32_t i = 0; i < p->documents; i++) {
        const struct document *d = &p->corpus->documents[i];
        add_text(s, d->id);
        add_text(s, d->title);
        add_text(s, d->text);
    }
    sha256_end(s, hex);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", p->data);
    cJSON_AddNumberToObject(o, "documents", p->documents);
    cJSON_AddStringToObject(o, "sha256", hex);
    return o;
}

/* A number as a person writes it: 0.1, not 0.10000000000000001. Other values as they are. The caller frees. */
static char *readable(const char *value, size_t size)
{
    char *text = xstrndup(value, size), *end, shorter[40];
    double x = strtod(text, &end);
    snprintf(shorter, sizeof shorter, "%.15g", x);
    if (end == text || *end || !strchr(text, '.') || strtod(shorter, NULL) != x)
        return text;
    free(text);
    return xstrdup(shorter);
}

static cJSON *effective_of(const char *settings)
{
    cJSON *o = cJSON_CreateObject();
    for (const char *line = settings; *line;) {
        size_t n = strcspn(line, "\n"), name = strcspn(line, "=");
        CHECK(name < n);
        char *key = xstrndup(line, name), *value = readable(line + name + 1, n - name - 1);
        cJSON_AddStringToObject(o, key, value);
        free(key);
        free(value);
        line += n + (line[n] == '\n');
    }
    return o;
}

static cJSON *search_of(const struct provenance *p)
{
    cJSON *list = cJSON_CreateArray();
    for (int32_t i = 0; i < p->search->count; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "lr", p->search->lr[i]);
        if (isfinite(p->figure[i]))
            cJSON_AddNumberToObject(o, "validation", p->figure[i]);
        else
            cJSON_AddNullToObject(o, "validation");
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

int provenance_put(struct bundle *b, const char *name, const struct provenance *p, struct err *e)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "format", "semindex-run");
    cJSON_AddNumberToObject(o, "version", 1);
    cJSON_AddStringToObject(o, "command", p->command);
    cJSON_AddStringToObject(o, "program", SEMINDEX_VERSION);
    cJSON_AddNumberToObject(o, "seed", (double)p->seed);
    cJSON_AddItemToObject(o, "data", data_of(p));
    cJSON_AddRawToObject(o, "given", p->given ? p->given : "{}");
    cJSON_AddItemToObject(o, "effective", effective_of(p->settings));
    cJSON_AddItemToObject(o, "search", search_of(p));
    char *text = cJSON_Print(o);
    int rc = bundle_put(b, name, text, strlen(text), e);
    cJSON_free(text);
    cJSON_Delete(o);
    return rc;
}

int runs_of_bundle(const char *model, struct str *out, struct err *e)
{
    struct bundle *b = bundle_open(model, e);
    int rc = b ? 0 : -1;
    for (int i = 0; i < FILES && rc == 0; i++) {
        const char *path = bundle_file(b, files[i]);
        char *text = path ? file_read(path, LONGEST, NULL, e) : NULL;
        if (path && !text)
            rc = -1;
        if (text)
            str_printf(out, "%s%s", out->size ? "," : "[", text);
        free(text);
    }
    if (rc == 0)
        str_puts(out, out->size ? "]" : "[]");
    bundle_close(b);
    return rc;
}
