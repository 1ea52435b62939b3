/* document_lines.c: see document_lines.h. */
#include "document_lines.h"
#include "../base/file.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

struct document_lines {
    struct lines *lines;
    char *path;
    cJSON *object;    /* of the present line */
    char *attributes; /* printed from it */
};

struct document_lines *document_lines_open(const char *path, struct err *e)
{
    struct lines *lines = lines_open(path, e);
    if (!lines)
        return NULL;
    struct document_lines *l = xcalloc(1, sizeof *l);
    l->lines = lines;
    l->path = xstrdup(path);
    return l;
}

static void drop_line(struct document_lines *l)
{
    cJSON_Delete(l->object);
    cJSON_free(l->attributes);
    l->object = NULL;
    l->attributes = NULL;
}

void document_lines_close(struct document_lines *l)
{
    if (!l)
        return;
    drop_line(l);
    lines_close(l->lines);
    free(l->path);
    free(l);
}

static const char *member(const cJSON *object, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return s && *s ? s : NULL;
}

int document_lines_next(struct document_lines *l, struct document *d, struct err *e)
{
    char *line;
    size_t size;
    drop_line(l);
    int rc = lines_next(l->lines, &line, &size, e);
    if (rc <= 0)
        return rc;
    l->object = cJSON_ParseWithLength(line, size);
    if (!member(l->object, "id"))
        return err_set(e, ERR_DATA, "%s: line %lld: a JSON object with an \"id\" is needed", l->path, (long long)lines_number(l->lines));
    const cJSON *attributes = cJSON_GetObjectItemCaseSensitive(l->object, "attributes");
    l->attributes = cJSON_IsObject(attributes) ? cJSON_PrintUnformatted(attributes) : NULL;
    *d = (struct document){.id = member(l->object, "id"), .title = member(l->object, "title"), .text = member(l->object, "text"),
                           .attributes = l->attributes};
    return 1;
}

int64_t document_lines_number(const struct document_lines *l)
{
    return lines_number(l->lines);
}
