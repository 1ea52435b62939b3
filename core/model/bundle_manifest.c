/* bundle_manifest.c: bundle.json: which logical files a bundle has, under which names in the folder, of what size and digest.
 *
 * The set of logical names is closed (bundle_names), and a name in the folder is the logical name or that name with a number: a hostile
 * manifest cannot point outside the folder, and what a killed run left behind can be told from a stranger's files. The manifest ends with the
 * digest over its own entries and has one spelling, so that any changed byte in it is found too. */
#include "../base/hash.h"
#include "../base/mem.h"
#include "bundle_internal.h"
#include <cjson/cJSON.h>
#include <string.h>

const char *const bundle_names[BUNDLE_FILES] = {
    "tokenizer.model", "indexer.safetensors", "indexer.json", "search.safetensors", "search.json",    "recommend.safetensors",
    "recommend.json",  "base.safetensors",    "base.json",    "ids.tsv",            "documents.jsonl", "popular.tsv",
    "quantiser.safetensors", "quantiser.json", "learn-ids.run.json", "search.run.json", "recommend.run.json", "neighbours.bin",
    "queries.safetensors", "queries.json", "queries.run.json", "pretrain.run.json",
};

int bundle_name_index(const char *name)
{
    for (int i = 0; i < BUNDLE_FILES; i++)
        if (strcmp(bundle_names[i], name) == 0)
            return i;
    return -1;
}

static const char *skip_number(const char *s)
{
    if (*s != '.' || s[1] < '1' || s[1] > '9')
        return s;
    for (s++; *s >= '0' && *s <= '9'; s++)
        ;
    return s;
}

bool bundle_owns(const char *file, int *index)
{
    *index = -1;
    if (strcmp(file, "bundle.lock") == 0 || strcmp(file, "bundle.json") == 0 || strncmp(file, "bundle.json.tmp.", 16) == 0)
        return true;
    for (int i = 0; i < BUNDLE_FILES; i++) {
        size_t n = strlen(bundle_names[i]);
        if (strncmp(file, bundle_names[i], n) != 0)
            continue;
        const char *rest = skip_number(file + n);
        if (*rest == 0 || strncmp(rest, ".tmp.", 5) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

void manifest_clear(struct manifest *m, int index)
{
    free(m->entry[index].file);
    free(m->entry[index].path);
    m->entry[index] = (struct bundle_entry){0};
}

void manifest_free(struct manifest *m)
{
    for (int i = 0; i < BUNDLE_FILES; i++)
        manifest_clear(m, i);
}

void manifest_copy(struct manifest *to, const struct manifest *from)
{
    manifest_free(to);
    *to = *from;
    for (int i = 0; i < BUNDLE_FILES; i++) {
        to->entry[i].file = from->entry[i].file ? xstrdup(from->entry[i].file) : NULL;
        to->entry[i].path = from->entry[i].path ? xstrdup(from->entry[i].path) : NULL;
    }
}

void manifest_set(struct manifest *m, int index, const char *folder, const char *file)
{
    manifest_clear(m, index);
    m->entry[index].file = xstrdup(file);
    m->entry[index].path = xprintf("%s/%s", folder, file);
}

static void add_entry(struct sha256 *s, const struct manifest *m, int index)
{
    const struct bundle_entry *f = &m->entry[index];
    if (!f->file)
        return;
    char *line = xprintf("%s %lld %s\n", bundle_names[index], (long long)f->bytes, f->sha256);
    sha256_add(s, line, strlen(line));
    free(line);
}

void manifest_digest(const struct manifest *m, const int *indices, int count, char hex[65])
{
    struct sha256 *s = sha256_begin();
    for (int i = 0; i < (indices ? count : BUNDLE_FILES); i++)
        add_entry(s, m, indices ? indices[i] : i);
    sha256_end(s, hex);
}

char *manifest_print(const struct manifest *m)
{
    struct str s = {0};
    char digest[65];
    manifest_digest(m, NULL, 0, digest);
    str_puts(&s, "{\n \"format\": \"semindex-bundle\",\n \"version\": 1,\n \"parts\": {");
    for (int i = 0, n = 0; i < BUNDLE_FILES; i++)
        if (m->entry[i].file)
            str_printf(&s, "%s\n  \"%s\": \"%s\"", n++ ? "," : "", bundle_names[i], m->entry[i].file);
    str_puts(&s, "\n },\n \"files\": {");
    for (int i = 0, n = 0; i < BUNDLE_FILES; i++)
        if (m->entry[i].file)
            str_printf(&s, "%s\n  \"%s\": {\"bytes\": %lld, \"sha256\": \"%s\"}", n++ ? "," : "", m->entry[i].file,
                       (long long)m->entry[i].bytes, m->entry[i].sha256);
    str_printf(&s, "\n },\n \"digest\": \"%s\"\n}\n", digest);
    return s.data;
}

static bool is_hex_digest(const char *s)
{
    return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static int read_entry(struct manifest *m, const cJSON *part, const cJSON *files, const char *folder, const char *path, struct err *e)
{
    int index = bundle_name_index(part->string), owner = -1;
    const char *file = cJSON_GetStringValue(part);
    if (index < 0)
        return err_set(e, ERR_DATA, "%s: parts: \"%s\" is no file of a bundle", path, part->string);
    if (!file || !bundle_owns(file, &owner) || owner != index || strstr(file, ".tmp."))
        return err_set(e, ERR_DATA, "%s: parts: %s: \"%s\" is not a name for it", path, part->string, file ? file : "");
    const cJSON *facts = cJSON_GetObjectItemCaseSensitive(files, file);
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(facts, "bytes");
    const char *sha = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(facts, "sha256"));
    if (!cJSON_IsNumber(bytes) || !(bytes->valuedouble >= 0 && bytes->valuedouble < 9e15) || !is_hex_digest(sha))
        return err_set(e, ERR_DATA, "%s: files: %s: needs bytes and a sha256 of 64 hex digits", path, file);
    if (m->entry[index].file)
        return err_set(e, ERR_DATA, "%s: parts: %s is there twice", path, part->string);
    manifest_set(m, index, folder, file);
    m->entry[index].bytes = (int64_t)bytes->valuedouble;
    memcpy(m->entry[index].sha256, sha, 65);
    return 0;
}

static int check_head(const cJSON *o, const char *path, struct err *e)
{
    const char *format = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "format"));
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(o, "version");
    if (!cJSON_IsObject(o))
        return err_set(e, ERR_DATA, "%s: not JSON", path);
    if (!format || strcmp(format, "semindex-bundle") != 0)
        return err_set(e, ERR_DATA, "%s: format is \"%s\", expected \"semindex-bundle\"", path, format ? format : "");
    if (!cJSON_IsNumber(version) || version->valuedouble != 1)
        return err_set(e, ERR_DATA, "%s: bundle version %g: this program reads version 1", path, cJSON_IsNumber(version) ? version->valuedouble : 0);
    return 0;
}

static int read_all(struct manifest *m, const cJSON *o, const char *folder, const char *path, struct err *e)
{
    const cJSON *part, *parts = cJSON_GetObjectItemCaseSensitive(o, "parts"), *files = cJSON_GetObjectItemCaseSensitive(o, "files");
    const char *digest = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "digest"));
    if (check_head(o, path, e) < 0)
        return -1;
    if (!cJSON_IsObject(parts) || !cJSON_IsObject(files) || !digest)
        return err_set(e, ERR_DATA, "%s: %s is missing", path, !cJSON_IsObject(parts) ? "parts" : !digest ? "digest" : "files");
    cJSON_ArrayForEach(part, parts)
        if (read_entry(m, part, files, folder, path, e) < 0)
            return -1;
    char found[65];
    manifest_digest(m, NULL, 0, found);
    if (strcmp(found, digest) != 0)
        return err_set(e, ERR_DATA, "%s: was changed: its entries have digest %s, it says %.80s", path, found, digest);
    return 0;
}

int manifest_parse(struct manifest *m, const char *json, const char *folder, const char *path, struct err *e)
{
    cJSON *o = cJSON_Parse(json);
    *m = (struct manifest){0};
    int rc = read_all(m, o, folder, path, e);
    char *spelling = rc == 0 ? manifest_print(m) : NULL;
    if (spelling && strcmp(spelling, json) != 0)
        rc = err_set(e, ERR_DATA, "%s: was changed: not spelt as it was written", path);
    free(spelling);
    if (rc < 0)
        manifest_free(m);
    cJSON_Delete(o);
    return rc;
}
