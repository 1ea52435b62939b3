/* mapping.c: from a JSON tree that passed the gate to structs that the engine takes.
 *
 * Every function looks at all it is given and hangs each wrong field on one list, so that a client learns of all its mistakes at once. A
 * member that is not known is an error, never ignored: a misspelt "limt" must not silently mean 10. Numbers are doubles in cJSON, so a
 * whole number is taken only if the double is one and exact. Strings of the result point into the tree; attributes are kept as the
 * client's own bytes without white space, since a tree would round their numbers. */
#include "mapping.h"
#include "../core/base/hash.h"
#include <cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

struct mapper {
    const struct body *body;
    const struct mapping_limits *l;
    struct arena *arena;
    struct problems *p;
    const char **too_many;
};

int body_parse(struct body *b, const char *text, size_t size, int64_t max_values, struct err *e)
{
    struct json_limits limits = {.depth = 32, .values = max_values, .span_key = "attributes", .span_depth = 3};
    *b = (struct body){.text = text, .size = size};
    if (json_gate(text, size, &limits, &b->spans, e))
        return -1;
    b->root = cJSON_ParseWithLength(text, size);
    if (!b->root)
        return err_set(e, ERR_DATA, "the body cannot be read as JSON");
    return 0;
}

void body_free(struct body *b)
{
    cJSON_Delete(b->root);
    json_spans_free(&b->spans);
    *b = (struct body){0};
}

/* ---- members of one object ---- */

static const char *kind_of(const cJSON *v)
{
    return cJSON_IsString(v)   ? "a string"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsBool(v)   ? "a boolean"
           : cJSON_IsNull(v)   ? "null"
           : cJSON_IsArray(v)  ? "an array"
                               : "an object";
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void wrong_type(struct mapper *m, const char *base, const char *name, const cJSON *v, const char *wanted)
{
    problem_add(m->p, problem_pointer(m->arena, base, name), "wrong_type", "%s is %s; %s is needed", name, kind_of(v), wanted);
}

static bool is_known(const char *name, const char *const *known)
{
    for (; *known; known++)
        if (!strcmp(name, *known))
            return true;
    return false;
}

static void refuse_unknown(struct mapper *m, const cJSON *object, const char *base, const char *const *known)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, object) if (!is_known(v->string, known))
        problem_add(m->p, problem_pointer(m->arena, base, v->string), "unknown_field", "there is no such field here");
}

struct bounds {
    int64_t min, max, standard;
};

static int64_t map_int(struct mapper *m, const cJSON *object, const char *base, const char *name, struct bounds b)
{
    const cJSON *v = member(object, name);
    if (!v)
        return b.standard;
    if (!cJSON_IsNumber(v)) {
        wrong_type(m, base, name, v, "a whole number");
        return b.standard;
    }
    double x = v->valuedouble;
    const char *pointer = problem_pointer(m->arena, base, name);
    if (x != floor(x) || fabs(x) > 9007199254740992.0)
        problem_add(m->p, pointer, "not_whole", "%s is %.17g; a whole number %lld..%lld is needed", name, x, (long long)b.min,
                    (long long)b.max);
    else if (x < (double)b.min || x > (double)b.max)
        problem_add(m->p, pointer, "out_of_range", "%s is %.0f; %lld..%lld is allowed", name, x, (long long)b.min, (long long)b.max);
    else
        return (int64_t)x;
    return b.standard;
}

static bool map_bool(struct mapper *m, const cJSON *object, const char *base, const char *name, bool standard)
{
    const cJSON *v = member(object, name);
    if (v && !cJSON_IsBool(v))
        wrong_type(m, base, name, v, "true or false");
    return v && cJSON_IsBool(v) ? cJSON_IsTrue(v) : standard;
}

static bool is_blank(const char *s)
{
    return s[strspn(s, " \t\r\n\f\v")] == 0;
}

/* A query or history text: not blank, not too long. NULL when wrong. */
static const char *check_text(struct mapper *m, const cJSON *v, const char *base, const char *name)
{
    if (!cJSON_IsString(v)) {
        wrong_type(m, base, name, v, "a string");
        return NULL;
    }
    const char *pointer = problem_pointer(m->arena, base, name);
    if (is_blank(v->valuestring))
        problem_add(m->p, pointer, "empty", "%s is empty", name);
    else if ((int64_t)strlen(v->valuestring) > m->l->max_query_bytes)
        problem_add(m->p, pointer, "too_long", "%s has %zu bytes; at most %lld are allowed", name, strlen(v->valuestring),
                    (long long)m->l->max_query_bytes);
    else
        return v->valuestring;
    return NULL;
}

static const char *check_id(struct mapper *m, const cJSON *v, const char *base, const char *name)
{
    struct err e = {0};
    if (!cJSON_IsString(v)) {
        wrong_type(m, base, name, v, "a string");
        return NULL;
    }
    if (document_check_id(v->valuestring, strlen(v->valuestring), &e) == 0)
        return v->valuestring;
    problem_add(m->p, problem_pointer(m->arena, base, name), "invalid_id", "%s", e.message);
    return NULL;
}

static const char *index_name(struct mapper *m, int i)
{
    return arena_printf(m->arena, "%d", i);
}

static bool root_is_object(struct mapper *m)
{
    if (cJSON_IsObject(m->body->root))
        return true;
    problem_add(m->p, "", "wrong_type", "the body is %s; an object is needed", kind_of(m->body->root));
    return false;
}

/* ---- queries ---- */

static const struct mode {
    const char *name;
    enum engine_task task;
    enum engine_mode mode;
} modes[] = {{"hybrid", TASK_SEARCH, MODE_HYBRID},       {"generative", TASK_SEARCH, MODE_GENERATIVE},    {"lexical", TASK_SEARCH, MODE_LEXICAL},
             {"hybrid", TASK_RECOMMEND, MODE_HYBRID},    {"generative", TASK_RECOMMEND, MODE_GENERATIVE}, {"neighbours", TASK_RECOMMEND, MODE_NEIGHBOURS}};

int mode_from_name(enum engine_task task, const char *name, enum engine_mode *mode)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (modes[i].task == task && !strcmp(name, modes[i].name)) {
            *mode = modes[i].mode;
            return 0;
        }
    return -1;
}

static void map_mode(struct mapper *m, const cJSON *object, const char *base, struct engine_query *q)
{
    const cJSON *v = member(object, "mode");
    if (v && !cJSON_IsString(v))
        wrong_type(m, base, "mode", v, "a string");
    else if (v && mode_from_name(q->task, v->valuestring, &q->mode))
        problem_add(m->p, problem_pointer(m->arena, base, "mode"), "unknown_value", "mode is none of %s",
                    q->task == TASK_SEARCH ? "hybrid, generative, lexical" : "generative, neighbours, hybrid");
}

/* limit, offset, beam_width; what is absent keeps the value that q has. */
static void map_window(struct mapper *m, const cJSON *object, const char *base, struct engine_query *q)
{
    q->limit = (int32_t)map_int(m, object, base, "limit", (struct bounds){1, m->l->max_limit, q->limit});
    q->offset = (int32_t)map_int(m, object, base, "offset", (struct bounds){0, m->l->max_offset, q->offset});
    q->beam_width = (int32_t)map_int(m, object, base, "beam_width", (struct bounds){1, m->l->max_beam, q->beam_width});
}

static unsigned map_fields(struct mapper *m, const cJSON *object)
{
    static const char *const names[] = {"id", "title", "text", "attributes"};
    const cJSON *list = member(object, "fields"), *v;
    unsigned fields = 0;
    int i = 0;
    if (!list)
        return FIELD_ALL;
    if (!cJSON_IsArray(list)) {
        wrong_type(m, "", "fields", list, "an array of strings");
        return FIELD_ALL;
    }
    cJSON_ArrayForEach(v, list)
    {
        unsigned bit = 0;
        for (unsigned k = 0; k < 4; k++)
            if (cJSON_IsString(v) && !strcmp(v->valuestring, names[k]))
                bit = 1u << k;
        if (!bit)
            problem_add(m->p, problem_pointer(m->arena, "/fields", index_name(m, i)), "unknown_value",
                        "is none of id, title, text, attributes");
        fields |= bit;
        i++;
    }
    return fields;
}

static void map_common(struct mapper *m, struct search_request *out)
{
    const cJSON *root = m->body->root;
    out->fields = map_fields(m, root);
    out->explain = map_bool(m, root, "", "explain", false);
    out->timeout_ms = map_int(m, root, "", "timeout_ms", (struct bounds){1, m->l->max_timeout_ms, m->l->request_timeout_ms});
}

static struct engine_query *new_query(struct mapper *m, const struct engine_query *like)
{
    struct engine_query *q = arena_alloc(m->arena, sizeof *q);
    *q = *like;
    q->arena = m->arena;
    return q;
}

/* One element of "queries": a text, or an object with fields of its own. */
static void map_one_of_many(struct mapper *m, const cJSON *v, int i, struct engine_query *q)
{
    static const char *const known[] = {"query", "limit", "offset", "beam_width", "mode", NULL};
    if (!cJSON_IsObject(v)) {
        q->text = check_text(m, v, "/queries", index_name(m, i));
        return;
    }
    const char *base = problem_pointer(m->arena, "/queries", index_name(m, i));
    refuse_unknown(m, v, base, known);
    map_window(m, v, base, q);
    map_mode(m, v, base, q);
    if (member(v, "query"))
        q->text = check_text(m, member(v, "query"), base, "query");
    else
        problem_add(m->p, base, "missing", "query is missing");
}

static void map_many(struct mapper *m, const cJSON *list, const struct engine_query *like, struct search_request *out)
{
    const cJSON *v;
    out->many = true;
    if (!cJSON_IsArray(list)) {
        wrong_type(m, "", "queries", list, "an array");
        return;
    }
    int n = cJSON_GetArraySize(list);
    if (n > m->l->max_queries) {
        *m->too_many = arena_printf(m->arena, "queries has %d elements; one request may hold %lld", n, (long long)m->l->max_queries);
        return;
    }
    if (n == 0)
        problem_add(m->p, "/queries", "empty", "queries is empty");
    out->queries = arena_alloc(m->arena, ((size_t)n + 1) * sizeof *out->queries);
    cJSON_ArrayForEach(v, list)
    {
        struct engine_query *q = new_query(m, like);
        map_one_of_many(m, v, out->count, q);
        out->queries[out->count++] = q;
    }
}

void map_search(const struct body *b, const struct mapping_limits *l, struct search_request *out, struct problems *p, const char **too_many)
{
    static const char *const known[] = {"query", "queries", "limit",   "offset",     "beam_width",
                                        "mode",  "fields",  "explain", "timeout_ms", NULL};
    struct mapper m = {b, l, p->arena, p, too_many};
    struct engine_query like = {.task = TASK_SEARCH, .mode = MODE_HYBRID, .limit = 10};
    *out = (struct search_request){0};
    if (!root_is_object(&m))
        return;
    refuse_unknown(&m, b->root, "", known);
    map_window(&m, b->root, "", &like);
    map_mode(&m, b->root, "", &like);
    map_common(&m, out);
    const cJSON *one = member(b->root, "query"), *many = member(b->root, "queries");
    if (one && many)
        problem_add(p, "/queries", "both", "query and queries are both given; one of them is needed");
    else if (many)
        map_many(&m, many, &like, out);
    else if (!one)
        problem_add(p, "/query", "missing", "query is missing");
    if (!one || many)
        return;
    out->queries = arena_alloc(p->arena, sizeof *out->queries);
    out->queries[out->count++] = new_query(&m, &like);
    out->queries[0]->text = check_text(&m, one, "", "query");
}

/* ---- recommendations ---- */

static void map_past(struct mapper *m, const cJSON *v, int i, struct engine_past *past)
{
    static const char *const known[] = {"text", NULL};
    if (!cJSON_IsObject(v)) {
        past->id = check_id(m, v, "/history", index_name(m, i));
        return;
    }
    const char *base = problem_pointer(m->arena, "/history", index_name(m, i));
    refuse_unknown(m, v, base, known);
    if (member(v, "text"))
        past->text = check_text(m, member(v, "text"), base, "text");
    else
        problem_add(m->p, base, "missing", "an entry is an id, or an object with text");
}

static void map_history(struct mapper *m, const cJSON *list, struct engine_query *q)
{
    const cJSON *v;
    if (!list) {
        problem_add(m->p, "/history", "missing", "history is missing; it may be empty");
        return;
    }
    if (!cJSON_IsArray(list)) {
        wrong_type(m, "", "history", list, "an array");
        return;
    }
    struct engine_past *past = arena_alloc(m->arena, ((size_t)cJSON_GetArraySize(list) + 1) * sizeof *past);
    cJSON_ArrayForEach(v, list)
    {
        map_past(m, v, q->history_count, &past[q->history_count]);
        q->history_count++;
    }
    q->history = past;
}

static void map_exclude(struct mapper *m, const cJSON *list, struct engine_query *q)
{
    const cJSON *v;
    if (!list)
        return;
    if (!cJSON_IsArray(list)) {
        wrong_type(m, "", "exclude", list, "an array of ids");
        return;
    }
    const char **ids = arena_alloc(m->arena, ((size_t)cJSON_GetArraySize(list) + 1) * sizeof *ids);
    cJSON_ArrayForEach(v, list)
    {
        ids[q->exclude_count] = check_id(m, v, "/exclude", index_name(m, q->exclude_count));
        q->exclude_count++;
    }
    q->exclude = ids;
}

void map_recommend(const struct body *b, const struct mapping_limits *l, struct search_request *out, struct problems *p,
                   const char **too_many)
{
    static const char *const known[] = {"history",         "limit",  "offset",  "beam_width", "exclude",
                                        "exclude_history", "fields", "explain", "timeout_ms", "mode", NULL};
    struct mapper m = {b, l, p->arena, p, too_many};
    struct engine_query like = {.task = TASK_RECOMMEND, .mode = MODE_GENERATIVE, .limit = 10};
    *out = (struct search_request){0};
    if (!root_is_object(&m))
        return;
    refuse_unknown(&m, b->root, "", known);
    struct engine_query *q = new_query(&m, &like);
    map_window(&m, b->root, "", q);
    map_mode(&m, b->root, "", q);
    map_common(&m, out);
    map_history(&m, member(b->root, "history"), q);
    map_exclude(&m, member(b->root, "exclude"), q);
    q->exclude_history = map_bool(&m, b->root, "", "exclude_history", true);
    out->queries = arena_alloc(p->arena, sizeof *out->queries);
    out->queries[out->count++] = q;
}

/* ---- documents ---- */

static const char *map_string(struct mapper *m, const cJSON *object, const char *base, const char *name)
{
    const cJSON *v = member(object, name);
    if (!v || cJSON_IsNull(v))
        return NULL;
    if (cJSON_IsString(v))
        return v->valuestring;
    wrong_type(m, base, name, v, "a string");
    return NULL;
}

static const char *map_attributes(struct mapper *m, const cJSON *object, const char *base, const struct json_span *span)
{
    const cJSON *v = member(object, "attributes");
    if (!v || cJSON_IsNull(v))
        return NULL;
    if (!cJSON_IsObject(v)) {
        wrong_type(m, base, "attributes", v, "an object");
        return NULL;
    }
    struct str s = {0};
    json_compact(m->body->text, *span, &s);
    const char *kept = arena_strndup(m->arena, s.data, s.size);
    str_free(&s);
    return kept;
}

/* An array of numbers, in single precision. */
static void map_embedding(struct mapper *m, const cJSON *object, const char *base, struct engine_put *put)
{
    const cJSON *v = member(object, "embedding"), *number;
    if (!v || cJSON_IsNull(v))
        return;
    if (!cJSON_IsArray(v)) {
        wrong_type(m, base, "embedding", v, "an array of numbers");
        return;
    }
    float *values = arena_alloc(m->arena, ((size_t)cJSON_GetArraySize(v) + 1) * sizeof *values);
    cJSON_ArrayForEach(number, v)
    {
        if (!cJSON_IsNumber(number)) {
            problem_add(m->p, problem_pointer(m->arena, base, "embedding"), "wrong_type", "number %d of embedding is %s; a number is needed",
                        put->embedding_size, kind_of(number));
            return;
        }
        values[put->embedding_size++] = (float)number->valuedouble;
    }
    put->embedding = values;
}

static void map_document(struct mapper *m, const cJSON *v, int i, const struct json_span *span, struct engine_put *put)
{
    static const char *const known[] = {"id", "title", "text", "attributes", "semantic_id", "embedding", NULL};
    const char *base = problem_pointer(m->arena, "/documents", index_name(m, i));
    if (!cJSON_IsObject(v)) {
        problem_add(m->p, base, "wrong_type", "the document is %s; an object is needed", kind_of(v));
        return;
    }
    refuse_unknown(m, v, base, known);
    if (member(v, "id"))
        put->document.id = check_id(m, member(v, "id"), base, "id");
    else
        problem_add(m->p, problem_pointer(m->arena, base, "id"), "missing", "id is missing");
    put->document.title = map_string(m, v, base, "title");
    put->document.text = map_string(m, v, base, "text");
    put->document.attributes = map_attributes(m, v, base, span);
    put->brought_id = map_string(m, v, base, "semantic_id");
    map_embedding(m, v, base, put);
    const struct document *d = &put->document;
    if (!d->attributes && (!d->title || is_blank(d->title)) && (!d->text || is_blank(d->text)))
        problem_add(m->p, base, "no_words", "the document has neither a title nor a text");
}

static void refuse_duplicates(struct mapper *m, const struct engine_put *puts, int32_t count)
{
    struct string_map *seen = string_map_init(count);
    for (int32_t i = 0; i < count; i++) {
        const char *id = puts[i].document.id;
        if (!id || string_map_put(seen, id, strlen(id), i))
            continue;
        const char *base = problem_pointer(m->arena, "/documents", index_name(m, i));
        problem_add(m->p, problem_pointer(m->arena, base, "id"), "duplicate_id", "documents %d and %d have the same id",
                    string_map_get(seen, id, strlen(id)), i);
    }
    string_map_free(seen);
}

static void map_documents(struct mapper *m, const cJSON *list, struct engine_put_batch *out)
{
    const cJSON *v;
    int32_t span = 0, n = cJSON_GetArraySize(list);
    if (n > m->l->max_documents) {
        *m->too_many = arena_printf(m->arena, "documents has %d elements; one request may hold %lld", n, (long long)m->l->max_documents);
        return;
    }
    if (n == 0)
        problem_add(m->p, "/documents", "empty", "documents is empty");
    out->puts = arena_alloc(m->arena, ((size_t)n + 1) * sizeof *out->puts);
    cJSON_ArrayForEach(v, list)
    {
        static const struct json_span none = {0, 0};
        bool has = cJSON_IsObject(v) && member(v, "attributes");
        bool there = has && span < m->body->spans.count;
        map_document(m, v, out->count, there ? &m->body->spans.at[span] : &none, &out->puts[out->count]);
        span += has;
        out->count++;
    }
    refuse_duplicates(m, out->puts, out->count);
}

void map_index(const struct body *b, const struct mapping_limits *l, struct engine_put_batch *out, struct problems *p,
               const char **too_many)
{
    static const char *const known[] = {"documents", NULL};
    struct mapper m = {b, l, p->arena, p, too_many};
    *out = (struct engine_put_batch){.arena = p->arena};
    if (!root_is_object(&m))
        return;
    refuse_unknown(&m, b->root, "", known);
    const cJSON *list = member(b->root, "documents");
    if (!list)
        problem_add(p, "/documents", "missing", "documents is missing");
    else if (!cJSON_IsArray(list))
        wrong_type(&m, "", "documents", list, "an array");
    else
        map_documents(&m, list, out);
}

/* The members that are no field of a document, as one JSON object: what a BEIR or item line carries besides. */
static const char *other_members(const cJSON *object, struct arena *a)
{
    static const char *const fields[] = {"id", "_id", "title", "text", "attributes", "semantic_id", "embedding", NULL};
    cJSON *others = cJSON_CreateObject();
    const cJSON *v;
    cJSON_ArrayForEach(v, object) if (!is_known(v->string, fields))
        cJSON_AddItemReferenceToObject(others, v->string, (cJSON *)(uintptr_t)v);
    char *text = cJSON_GetArraySize(others) ? cJSON_PrintUnformatted(others) : NULL;
    const char *kept = text ? arena_strndup(a, text, strlen(text)) : NULL;
    cJSON_free(text);
    cJSON_Delete(others);
    return kept;
}

int map_document_line(const struct body *b, struct arena *a, struct engine_put *out, struct err *e)
{
    struct problems p;
    struct mapping_limits l = {0};
    problems_init(&p, a);
    struct mapper m = {b, &l, a, &p, NULL};
    *out = (struct engine_put){0};
    if (!cJSON_IsObject(b->root))
        return err_set(e, ERR_DATA, "the line is %s; an object is needed", kind_of(b->root));
    const cJSON *id = member(b->root, "id") ? member(b->root, "id") : member(b->root, "_id"), *attributes = member(b->root, "attributes");
    if (!id)
        return err_set(e, ERR_DATA, "id is missing");
    out->document.id = check_id(&m, id, "", "id");
    out->document.title = map_string(&m, b->root, "", "title");
    out->document.text = map_string(&m, b->root, "", "text");
    out->brought_id = map_string(&m, b->root, "", "semantic_id");
    map_embedding(&m, b->root, "", out);
    if (attributes && cJSON_IsObject(attributes)) {
        char *text = cJSON_PrintUnformatted(attributes);
        out->document.attributes = arena_strndup(a, text, strlen(text));
        cJSON_free(text);
    } else {
        out->document.attributes = other_members(b->root, a);
    }
    return p.count ? err_set(e, ERR_DATA, "%s: %s", p.first->pointer, p.first->detail) : 0;
}
