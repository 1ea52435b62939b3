/* corpus.c: reading documents and histories; queries and judgements are in corpus_queries.c.
 *
 * One JSON object a line, parsed by cJSON after the line reader bounded its length. A document keeps the place of its line: row i of an embedding
 * file or of ids.tsv is document i. All strings of a corpus live in one arena. */
#include "corpus_internal.h"
#include "../../kernels/backend.h"
#include "../base/file.h"

#include <cjson/cJSON.h>
#include <string.h>

int corpus_line_error(const struct corpus_file *f, struct err *e, const char *what)
{
    return err_set(e, ERR_DATA, "%s: line %lld: %s", f->path, (long long)lines_number(f->lines), what);
}

cJSON *corpus_next_object(struct corpus_file *f, int *status, struct err *e)
{
    char *line;
    size_t size;
    while ((*status = lines_next(f->lines, &line, &size, e)) == 1) {
        if (line[strspn(line, " \t\r")] == 0)
            continue;
        const char *end = NULL;
        cJSON *object = cJSON_ParseWithLengthOpts(line, size + 1, &end, true);
        if (object && cJSON_IsObject(object) && end == line + size) /* nothing behind it */
            return object;
        cJSON_Delete(object);
        *status = corpus_line_error(f, e, "is not a JSON object");
        return NULL;
    }
    return NULL;
}

const char *corpus_string(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static char *keep(struct corpus *c, const char *s)
{
    return s ? arena_strndup(&c->strings, s, strlen(s)) : NULL;
}

/* The rest of the object, without what became id, title and text, as the attributes; NULL if nothing is left. */
static char *attributes_of(struct corpus *c, cJSON *object)
{
    static const char *const taken[] = {"_id", "id", "title", "text"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(object, taken[i]);
    if (!object->child)
        return NULL;
    char *text = cJSON_PrintUnformatted(object), *out = keep(c, text);
    cJSON_free(text);
    return out;
}

struct document_reader {
    struct corpus *c;
    struct corpus_file f;
    int64_t *line; /* of each document */
    int32_t room;
};

/* The document's id, checked; NULL with e. Owned by object. */
static const char *read_id(struct document_reader *r, const cJSON *object, struct err *e)
{
    struct err why;
    const char *id = corpus_string(object, "_id");
    id = id ? id : corpus_string(object, "id");
    if (!id)
        corpus_line_error(&r->f, e, "has no string \"_id\" or \"id\"");
    else if (document_check_id(id, strlen(id), &why) < 0)
        err_set(e, ERR_DATA, "%s: line %lld: id %s", r->f.path, (long long)lines_number(r->f.lines), why.message);
    else
        return id;
    return NULL;
}

/* Title and text may be absent or null, but not of another type. */
static int check_strings(struct document_reader *r, const cJSON *object, struct err *e)
{
    static const char *const names[] = {"title", "text"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, names[i]);
        if (item && !cJSON_IsString(item) && !cJSON_IsNull(item))
            return err_set(e, ERR_DATA, "%s: line %lld: \"%s\" is not a string", r->f.path, (long long)lines_number(r->f.lines), names[i]);
    }
    return 0;
}

static void make_room(struct document_reader *r)
{
    if (r->c->count < r->room)
        return;
    r->room = r->room ? r->room * 2 : 1024;
    r->c->documents = xrealloc(r->c->documents, (size_t)r->room, sizeof *r->c->documents);
    r->line = xrealloc(r->line, (size_t)r->room, sizeof *r->line);
}

static int add_document(struct document_reader *r, cJSON *object, struct err *e)
{
    struct corpus *c = r->c;
    const char *id = read_id(r, object, e);
    if (!id || check_strings(r, object, e) < 0)
        return -1;
    if (!string_map_put(c->by_id, id, strlen(id), c->count))
        return err_set(e, ERR_DATA, "%s: line %lld: id \"%s\" was there already, in line %lld", r->f.path, (long long)lines_number(r->f.lines), id,
                       (long long)r->line[string_map_get(c->by_id, id, strlen(id))]);
    make_room(r);
    r->line[c->count] = lines_number(r->f.lines);
    struct document *d = &c->documents[c->count++];
    d->id = keep(c, id);
    d->title = keep(c, corpus_string(object, "title"));
    d->text = keep(c, corpus_string(object, "text"));
    d->attributes = attributes_of(c, object);
    return 0;
}

static int read_documents(struct corpus *c, const char *path, struct err *e)
{
    int status = 0, rc = 0;
    cJSON *object;
    struct document_reader r = {.c = c, .f = {.path = path, .lines = lines_open(path, e)}};
    if (!r.f.lines)
        return -1;
    while (rc == 0 && (object = corpus_next_object(&r.f, &status, e))) {
        rc = add_document(&r, object, e);
        cJSON_Delete(object);
    }
    lines_close(r.f.lines);
    free(r.line);
    if (rc < 0 || status < 0)
        return -1;
    return c->count ? 0 : err_set(e, ERR_DATA, "%s: no documents", path);
}

/* ---- histories ---- */

struct sequence_room {
    int32_t users;
    int64_t items;
};

static int add_items(struct corpus *c, struct corpus_file *f, char *rest, struct sequence_room *room, struct err *e)
{
    int64_t n = c->sequences[c->users];
    char *save = NULL;
    for (char *id = strtok_r(rest, " \t\r", &save); id; id = strtok_r(NULL, " \t\r", &save)) {
        int32_t document = string_map_get(c->by_id, id, strlen(id));
        if (document < 0)
            return err_set(e, ERR_DATA, "%s: line %lld: item \"%s\" is not in the corpus", f->path, (long long)lines_number(f->lines), id);
        if (n == room->items)
            c->sequence = xrealloc(c->sequence, (size_t)(room->items = room->items ? room->items * 2 : 4096), sizeof *c->sequence);
        c->sequence[n++] = document;
    }
    c->sequences[++c->users] = n;
    return 0;
}

static int add_user(struct corpus *c, struct corpus_file *f, char *line, struct sequence_room *room, struct err *e)
{
    char *rest = line + strcspn(line, " \t\r");
    if (*line == 0)
        return 0;
    if (c->users == room->users) {
        room->users = room->users ? room->users * 2 : 1024;
        c->user = xrealloc(c->user, (size_t)room->users, sizeof *c->user);
        c->sequences = xrealloc(c->sequences, (size_t)room->users + 1, sizeof *c->sequences);
        c->sequences[0] = 0;
    }
    c->user[c->users] = arena_strndup(&c->strings, line, (size_t)(rest - line));
    return add_items(c, f, rest, room, e);
}

static int read_sequences(struct corpus *c, const char *path, struct err *e)
{
    struct sequence_room room = {0};
    char *line;
    size_t size;
    int status = 0, rc = 0;
    struct corpus_file f = {.path = path, .lines = lines_open(path, e)};
    if (!f.lines)
        return -1;
    while (rc == 0 && (status = lines_next(f.lines, &line, &size, e)) == 1)
        rc = add_user(c, &f, line, &room, e);
    lines_close(f.lines);
    return rc < 0 || status < 0 ? -1 : 0;
}

const int32_t *corpus_sequence(const struct corpus *c, int32_t user, int32_t *length)
{
    *length = (int32_t)(c->sequences[user + 1] - c->sequences[user]);
    return c->sequence + c->sequences[user];
}

/* ---- documents left out ---- */

bool corpus_is_held_out(const char *id, double share, uint64_t seed)
{
    return mix_uniform(seed, hash_bytes(id, strlen(id), 0)) < share;
}

void corpus_hold_out(struct corpus *c, double share, uint64_t seed, const struct run *run)
{
    int32_t kept = 0;
    if (share <= 0)
        return;
    c->place = xcalloc((size_t)c->count, sizeof *c->place);
    c->lines = c->count;
    for (int32_t i = 0; i < c->count; i++)
        if (!corpus_is_held_out(c->documents[i].id, share, seed)) {
            c->documents[kept] = c->documents[i];
            c->place[kept++] = i;
        }
    c->count = kept;
    run_note(run, "corpus: %d of %d documents are held out, seed %llu", c->lines - kept, c->lines, (unsigned long long)seed);
}

/* ---- the folder ---- */

static int read_all(struct corpus *c, const char *folder, const struct run *run, struct err *e)
{
    char *corpus = path_join(folder, "corpus.jsonl"), *items = path_join(folder, "items.jsonl"), *sequences = path_join(folder, "sequences.txt");
    int rc;
    c->by_id = string_map_init(1024);
    if (file_exists(corpus))
        rc = read_documents(c, corpus, e);
    else if (file_exists(items))
        rc = read_documents(c, items, e);
    else
        rc = err_set(e, ERR_NO_INPUT, "%s: neither corpus.jsonl nor items.jsonl is there", folder);
    if (rc == 0 && file_exists(sequences))
        rc = read_sequences(c, sequences, e);
    if (rc == 0)
        rc = corpus_read_queries(c, folder, run, e);
    free(corpus);
    free(items);
    free(sequences);
    return rc;
}

int corpus_read(struct corpus *c, const char *folder, const struct run *run, struct err *e)
{
    *c = (struct corpus){0};
    arena_init(&c->strings, 0);
    if (read_all(c, folder, run, e) == 0)
        return 0;
    corpus_free(c);
    return -1;
}

static void free_queries(struct corpus_queries *q)
{
    free(q->query);
    free(q->judgement);
}

void corpus_free(struct corpus *c)
{
    free_queries(&c->test);
    free_queries(&c->train);
    string_map_free(c->by_id);
    free(c->documents);
    free(c->place);
    free(c->user);
    free(c->sequence);
    free(c->sequences);
    arena_free(&c->strings);
    *c = (struct corpus){0};
}

char *corpus_category(const struct document *d)
{
    cJSON *a = d->attributes ? cJSON_Parse(d->attributes) : NULL;
    const cJSON *paths = cJSON_GetObjectItemCaseSensitive(a, "categories"), *name;
    const cJSON *path = cJSON_IsArray(paths) && cJSON_IsArray(paths->child) ? paths->child : paths;
    struct str out = {0};
    cJSON_ArrayForEach(name, path)
    {
        if (cJSON_IsString(name))
            str_printf(&out, "%s%s", out.size ? " > " : "", name->valuestring);
    }
    if (!out.size && corpus_string(a, "section"))
        str_puts(&out, corpus_string(a, "section"));
    cJSON_Delete(a);
    return out.data;
}
