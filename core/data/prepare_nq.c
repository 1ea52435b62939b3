/* prepare_nq.c: Natural Questions as document retrieval (NQ320k): every example is a query for its page; a page that comes again is one
 * document.
 *
 * Training lines are Google's simplified form ("document_text" with tags between blanks), development lines either that or the full form
 * ("document_tokens", "document_title"). Pages are told apart by their title: what stands in <H1>, else "document_title", else the title=
 * of "document_url", else the whole address; in lower case and without blanks, as the two forms put them differently. Documents are
 * numbered from 0 as they are met, training before development; the text is the page without tags, cut at max_text bytes. example_id is
 * beyond 2^53, so it is read from the line, not from the parsed number. Memory: the keys of the pages and the ids of the queries. */
#include "prepare_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct pages {
    struct prepare *p;
    struct prepare_ids keys;
    struct string_map *examples;
    struct file_out documents, queries, labels;
    struct str title, text, key;
};

/* The digits of a top-level member that is a whole number or a string of digits; false when there is none. */
static bool raw_number(const char *line, const char *name, char out[24])
{
    int depth = 0;
    size_t n = strlen(name);
    for (const char *s = line; *s; s++) {
        if (*s == '{' || *s == '[')
            depth++;
        if (*s == '}' || *s == ']')
            depth--;
        if (*s != '"')
            continue;
        const char *start = ++s;
        while (*s && *s != '"')
            s += *s == '\\' && s[1] ? 2 : 1;
        if (!*s)
            return false;
        if (depth != 1 || (size_t)(s - start) != n || memcmp(start, name, n))
            continue;
        const char *v = s + 1 + strspn(s + 1, " \t");
        if (*v++ != ':')
            continue;
        v += strspn(v, " \t\"");
        size_t digits = strspn(v, *v == '-' ? "-0123456789" : "0123456789");
        if (digits == 0 || digits > 20)
            return false;
        memcpy(out, v, digits);
        out[digits] = 0;
        return true;
    }
    return false;
}

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return s ? s : "";
}

/* The page of the full form, as the simplified one has it. */
static void join_tokens(struct str *out, const cJSON *tokens)
{
    const cJSON *t;
    str_clear(out);
    str_append(out, "", 0);
    cJSON_ArrayForEach(t, tokens)
    {
        const char *token = text_of(t, "token");
        if (out->size)
            str_append(out, " ", 1);
        str_puts(out, token);
    }
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* "..?title=Email_marketing&amp;oldid=1" -> "Email marketing"; the whole address without a title. */
static void title_of_url(struct str *out, const char *url)
{
    const char *s = strstr(url, "title=");
    s = s ? s + 6 : url;
    for (; *s && *s != '&' && *s != '#'; s++) {
        int high = *s == '%' ? hex_digit(s[1]) : -1, low = high >= 0 ? hex_digit(s[2]) : -1;
        char c = *s == '_' ? ' ' : *s;
        if (low >= 0 && high + low > 0) {
            c = (char)(high * 16 + low);
            s += 2;
        }
        str_append(out, &c, 1);
    }
}

static void find_title(struct pages *g, const cJSON *o, const char *page)
{
    const char *start = strstr(page, "<H1>"), *end = start ? strstr(start, "</H1>") : NULL;
    str_clear(&g->title);
    str_append(&g->title, "", 0);
    if (end) {
        char *heading = xstrndup(start + 4, (size_t)(end - start - 4));
        prepare_clean(&g->title, heading, true, 500);
        free(heading);
    }
    if (!g->title.size)
        prepare_clean(&g->title, text_of(o, "document_title"), false, 500);
    if (!g->title.size) {
        struct str plain = {0};
        str_append(&plain, "", 0);
        title_of_url(&plain, text_of(o, "document_url"));
        prepare_clean(&g->title, plain.data, false, 500);
        str_free(&plain);
    }
}

/* The document's number; a new one is written. -1 when the page has neither title nor address. */
static int32_t find_document(struct pages *g, const cJSON *o, const char *page)
{
    find_title(g, o, page);
    str_clear(&g->key);
    str_append(&g->key, "", 0);
    for (const char *s = g->title.data; *s; s++) {
        char c = (char)tolower((unsigned char)*s);
        if (*s != ' ')
            str_append(&g->key, &c, 1);
    }
    if (!g->key.size)
        return -1;
    int32_t count = g->keys.count, at = prepare_ids_add(&g->keys, g->key.data);
    if (at < count)
        return at;
    char id[16];
    snprintf(id, sizeof id, "%d", at);
    str_clear(&g->text);
    prepare_clean(&g->text, page, true, (size_t)g->p->o->max_text);
    prepare_write_document(g->documents.stream, id, g->title.data, g->text.data);
    g->p->count[COUNT_DOCUMENTS]++;
    return at;
}

static int add_example(struct pages *g, struct prepare_input *in, const cJSON *o, enum prepare_split split, struct err *e)
{
    const char *question = text_of(o, "question_text"), *page = text_of(o, "document_text");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(o, "document_tokens");
    char id[24];
    struct str joined = {0};
    int32_t document;
    if (!raw_number(in->line, "example_id", id))
        return prepare_bad(in, e, "\"example_id\" is missing or no whole number");
    if (question[strspn(question, " \t\r\n")] == 0)
        return prepare_bad(in, e, "\"question_text\" is missing or empty");
    if (!*page && !cJSON_IsArray(tokens))
        return prepare_bad(in, e, "has neither \"document_text\" nor \"document_tokens\"");
    if (!string_map_put(g->examples, id, strlen(id), 1))
        return prepare_bad(in, e, "example %s was there before", id);
    if (!*page)
        join_tokens(&joined, tokens);
    document = find_document(g, o, *page ? page : joined.data);
    str_free(&joined);
    if (document < 0)
        return prepare_bad(in, e, "the page has neither title nor address");
    str_clear(&g->text);
    prepare_clean(&g->text, question, false, 0);
    prepare_write_query(g->queries.stream, id, g->text.data);
    fprintf(g->labels.stream, "%s\t%d\t1\n", id, document);
    g->p->count[COUNT_QUERIES + split]++;
    g->p->count[COUNT_LABELS + split]++;
    return 0;
}

static int read_file(struct pages *g, const char *path, enum prepare_split split, struct err *e)
{
    struct prepare_input in;
    cJSON *o;
    int status = 0;
    if (prepare_open(&in, g->p, path, e) < 0)
        return -1;
    while (status >= 0 && (o = prepare_next_object(&in, &status, e))) {
        if (add_example(g, &in, o, split, e) < 0)
            status = -1;
        cJSON_Delete(o);
    }
    prepare_close(&in);
    return status;
}

static int read_split(struct pages *g, int i, const char *documents, const char *keys, struct err *e)
{
    struct prepare *p = g->p;
    enum prepare_split split = i == 0 ? SPLIT_TRAIN : SPLIT_TEST;
    if (prepare_create_work(p, &g->documents, documents, e) < 0 || prepare_create(p, &g->queries, prepare_query_file[split], e) < 0 ||
        prepare_create(p, &g->labels, prepare_label_file[split], e) < 0)
        return -1;
    fputs("query-id\tcorpus-id\tscore\n", g->labels.stream);
    for (int f = 0; f < p->files[i].count; f++)
        if (read_file(g, p->files[i].path[f], split, e) < 0)
            return -1;
    if (file_out_commit(&g->documents, e) < 0 || file_out_commit(&g->queries, e) < 0 || file_out_commit(&g->labels, e) < 0)
        return -1;
    return prepare_ids_save(p, &g->keys, keys, e);
}

static int phase_split(struct pages *g, int i, struct err *e)
{
    static const char *const phases[2] = {"train", "test"}, *const documents[2] = {"documents-train.jsonl", "documents-test.jsonl"};
    static const char *const keys[2] = {"keys-train.txt", "keys-test.txt"};
    int done = prepare_phase(g->p, phases[i], e);
    if (done < 0)
        return -1;
    if (done == 1) {
        prepare_ids_free(&g->keys);
        return prepare_ids_load(g->p, &g->keys, keys[i], e);
    }
    string_map_free(g->examples);
    g->examples = string_map_init(1024);
    int rc = read_split(g, i, documents[i], keys[i], e);
    file_out_cancel(&g->documents);
    file_out_cancel(&g->queries);
    file_out_cancel(&g->labels);
    return rc < 0 ? -1 : prepare_phase_end(g->p, e);
}

static int append_file(struct prepare *p, const char *name, FILE *out, struct err *e)
{
    char *path = path_join(p->work, name);
    struct prepare_input in;
    int status = prepare_open(&in, p, path, e);
    if (status == 0) {
        while ((status = prepare_next(&in, e)) == 1) {
            fwrite(in.line, 1, in.size, out);
            fputc('\n', out);
        }
        prepare_close(&in);
    }
    free(path);
    return status;
}

static int phase_corpus(struct prepare *p, struct err *e)
{
    struct file_out f;
    int done = prepare_phase(p, "corpus", e);
    if (done != 0)
        return done < 0 ? -1 : 0;
    if (prepare_create(p, &f, "corpus.jsonl", e) < 0)
        return -1;
    int rc = append_file(p, "documents-train.jsonl", f.stream, e);
    if (rc == 0)
        rc = append_file(p, "documents-test.jsonl", f.stream, e);
    if (rc == 0)
        rc = file_out_commit(&f, e);
    file_out_cancel(&f);
    return rc < 0 ? -1 : prepare_phase_end(p, e);
}

int prepare_nq(struct prepare *p, struct err *e)
{
    struct pages g = {.p = p};
    prepare_ids_init(&g.keys);
    int rc = phase_split(&g, 0, e);
    if (rc == 0)
        rc = phase_split(&g, 1, e);
    if (rc == 0)
        rc = phase_corpus(p, e);
    prepare_ids_free(&g.keys);
    string_map_free(g.examples);
    str_free(&g.title);
    str_free(&g.text);
    str_free(&g.key);
    return rc;
}
