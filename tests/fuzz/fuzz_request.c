/* fuzz_request.c: any body through gate, parse and mapping of each endpoint; what is mapped must keep the promises that the engine relies
 * on.
 *
 * The first byte picks the endpoint. Promises checked: numbers inside their bounds, every query with a text that is not empty, every
 * history entry exactly one of id and text, every document with a valid and distinct id, attributes that are a JSON object again. Wrong
 * bodies must come with at least one field error or a message. The problem answer itself must be valid JSON. */
#include "../../server/mapping.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mapping_limits limits = {.max_limit = 1000,
                                             .max_offset = 10000,
                                             .max_beam = 1000,
                                             .max_query_bytes = 4096,
                                             .max_queries = 8,
                                             .max_documents = 16,
                                             .max_timeout_ms = 60000,
                                             .request_timeout_ms = 10000,
                                             .max_json_values = 5000};

static void check_queries(const struct search_request *s)
{
    CHECK(s->count >= 1 && s->timeout_ms >= 1 && s->timeout_ms <= 60000);
    for (int32_t i = 0; i < s->count; i++) {
        const struct engine_query *q = s->queries[i];
        CHECK(q->limit >= 1 && q->limit <= 1000 && q->offset >= 0 && q->offset <= 10000);
        CHECK(q->beam_width >= 0 && q->beam_width <= 1000);
        CHECK(q->task == TASK_RECOMMEND || (q->text && *q->text));
        for (int32_t k = 0; k < q->history_count; k++)
            CHECK(!q->history[k].id != !q->history[k].text);
        for (int32_t k = 0; k < q->exclude_count; k++)
            CHECK(q->exclude[k]);
    }
}

static void check_documents(const struct engine_put_batch *b)
{
    struct json_limits l = {.depth = 32, .values = 5000};
    CHECK(b->count >= 1 && b->count <= 16);
    for (int32_t i = 0; i < b->count; i++) {
        const struct document *d = &b->puts[i].document;
        struct err e = {0};
        CHECK(d->id && document_check_id(d->id, strlen(d->id), &e) == 0);
        for (int32_t k = 0; k < i; k++)
            CHECK(strcmp(d->id, b->puts[k].document.id));
        if (d->attributes)
            CHECK(d->attributes[0] == '{' && json_gate(d->attributes, strlen(d->attributes), &l, NULL, &e) == 0);
    }
}

static void check_answer(const struct problems *p)
{
    struct json_limits l = {.depth = 32, .values = 100000};
    struct str out = {0};
    struct err e = {0};
    problem_write(&out, 422, "invalid_field", "fields are wrong", "id", p);
    CHECK(json_gate(out.data, out.size, &l, NULL, &e) == 0);
    str_free(&out);
}

static void map_one(uint8_t endpoint, const struct body *b)
{
    struct arena a;
    struct problems p;
    struct search_request s = {0};
    struct engine_put_batch puts = {0};
    const char *too_many = NULL;
    arena_init(&a, 0);
    problems_init(&p, &a);
    if (endpoint % 3 == 0)
        map_search(b, &limits, &s, &p, &too_many);
    else if (endpoint % 3 == 1)
        map_recommend(b, &limits, &s, &p, &too_many);
    else
        map_index(b, &limits, &puts, &p, &too_many);
    if (p.count)
        check_answer(&p);
    else if (!too_many && endpoint % 3 == 2)
        check_documents(&puts);
    else if (!too_many)
        check_queries(&s);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct body b;
    struct err e = {0};
    if (size == 0)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (body_parse(&b, text, size - 1, limits.max_json_values, &e) == 0)
        map_one(data[0], &b);
    body_free(&b);
    free(text);
    return 0;
}
