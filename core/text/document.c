/* document.c: the rule of document_text, ids, content digests.
 *
 * The two forms of text are those that published figures were made with: BEIR's "title text", and for items the sentence of title, category
 * path, brand and description. Which form applies follows from the attributes alone. Attributes that are no JSON object read as none here:
 * whoever takes documents in has judged them before. */
#include "document.h"
#include "../base/hash.h"
#include "../base/utf8.h"
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>

int document_check_id(const char *id, size_t size, struct err *e)
{
    if (size == 0)
        return err_set(e, ERR_INVALID, "is empty: an id has 1 to %d bytes", DOCUMENT_ID_MOST);
    if (size > DOCUMENT_ID_MOST)
        return err_set(e, ERR_INVALID, "has %zu bytes: an id has 1 to %d", size, DOCUMENT_ID_MOST);
    for (size_t i = 0; i < size;) {
        uint32_t point;
        size_t n = utf8_next(id + i, size - i, &point);
        if (n == 0)
            return err_set(e, ERR_INVALID, "is not UTF-8 at byte %zu (0x%02x)", i + 1, (unsigned char)id[i]);
        if (point < 0x20 || (point >= 0x7f && point <= 0x9f))
            return err_set(e, ERR_INVALID, "has the control character U+%04X at byte %zu", point, i + 1);
        i += n;
    }
    return 0;
}

/* Appends text behind the separator, unless text is empty or nothing stands before it. */
static void join(struct str *out, size_t start, const char *separator, const char *text)
{
    if (!text || !*text)
        return;
    if (out->size > start)
        str_puts(out, separator);
    str_puts(out, text);
}

static void join_categories(struct str *out, const cJSON *categories)
{
    const cJSON *first = cJSON_GetArrayItem(categories, 0), *name;
    const cJSON *path = cJSON_IsArray(first) ? first : categories;
    size_t start = out->size;
    cJSON_ArrayForEach(name, path)
        join(out, start, " > ", cJSON_GetStringValue(name));
}

static void item_text(const struct document *d, const cJSON *fields, struct str *out)
{
    size_t start = out->size;
    struct str path = {0};
    join_categories(&path, cJSON_GetObjectItemCaseSensitive(fields, "categories"));
    join(out, start, ". ", d->title);
    join(out, start, ". ", path.data);
    join(out, start, ". ", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fields, "brand")));
    join(out, start, ". ", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fields, "description")));
    join(out, start, ". ", d->text);
    str_free(&path);
}

static bool is_item(const cJSON *fields)
{
    return cJSON_IsString(cJSON_GetObjectItemCaseSensitive(fields, "brand")) ||
           cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(fields, "categories")) ||
           cJSON_IsString(cJSON_GetObjectItemCaseSensitive(fields, "description"));
}

void document_text(const struct document *d, struct str *out)
{
    cJSON *fields = d->attributes ? cJSON_Parse(d->attributes) : NULL;
    size_t start = out->size;
    str_append(out, "", 0); /* data is never NULL afterwards */
    if (is_item(fields)) {
        item_text(d, fields, out);
    } else {
        join(out, start, " ", d->title);
        join(out, start, " ", d->text);
    }
    cJSON_Delete(fields);
}

void document_hash(const struct document *d, char hex[65])
{
    const char *field[] = {d->title, d->text, d->attributes};
    struct sha256 *s = sha256_begin();
    for (int i = 0; i < 3; i++) {
        char length[32];
        size_t size = field[i] ? strlen(field[i]) : 0;
        int n = snprintf(length, sizeof length, "%zu:", size);
        sha256_add(s, length, (size_t)n);
        sha256_add(s, field[i], size);
    }
    sha256_end(s, hex);
}
