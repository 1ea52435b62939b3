/* problem.c: the table of problems that this service can answer with, and how they are written.
 *
 * A problem is known by its code; title and meaning come from the table, so that /problems/{code} and every answer say the same. Details
 * are made where the fact is known. Field errors are all collected before anything is answered. */
#include "problem.h"
#include "json_out.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS_MAX = 1000 };

static const struct problem_kind kinds[] = {
    {"bad_request", 400, "Bad request", "The HTTP header is malformed or ambiguous. The connection is closed."},
    {"not_json", 400, "Not JSON",
     "The body is not one valid JSON value (RFC 8259, UTF-8); the detail names the byte offset. Duplicate keys, \\u0000, "
     "lone surrogates and nesting deeper than 32 are refused, too."},
    {"unexpected_body", 400, "Unexpected body", "This request takes no body."},
    {"not_found", 404, "Not found", "There is no such path or document."},
    {"method_not_allowed", 405, "Method not allowed", "The path exists, but not with this method; Allow lists those that it takes."},
    {"conflict", 409, "Conflict", "The request contradicts what is stored."},
    {"not_in_model", 409, "Not in the model", "The loaded model lacks the part that this request needs; /info lists the parts."},
    {"body_too_large", 413, "Body too large", "The body is longer than the limit that the detail names; /info lists the limits."},
    {"too_many", 413, "Too many items", "The request holds more items than one request may; the detail names the limit."},
    {"unsupported_media_type", 415, "Unsupported media type", "The body must be application/json."},
    {"expectation_failed", 417, "Expectation failed", "The only expectation understood is 100-continue."},
    {"invalid_field", 422, "Invalid field",
     "Fields of the request are wrong; `errors` names each with a JSON pointer. Nothing was stored."},
    {"internal", 500, "Internal error", "The server met an error of its own; its log has the details under the request id."},
    {"not_implemented", 501, "Not implemented", "The only transfer coding understood is chunked."},
    {"overloaded", 503, "Overloaded", "Too many requests wait already. Try again after the time in Retry-After."},
    {"not_ready", 503, "Not ready",
     "The model is still being loaded, or the server is shutting down. Try again after the time in Retry-After."},
    {"unavailable", 503, "Unavailable", "The store cannot be used at the moment; /readyz says why."},
    {"deadline", 504, "Deadline passed",
     "The answer was not ready within timeout_ms. A change either took effect completely or not at all."},
    {"version_not_supported", 505, "HTTP version not supported", "HTTP/1.1 and HTTP/1.0 are spoken here."},
    {"disk_full", 507, "Disk full", "Nothing was stored. Searches go on."},
};

static const struct {
    enum err_code code;
    int status;
    const char *problem;
} mapping[] = {
    {ERR_UNAVAILABLE, 503, "unavailable"}, {ERR_NO_SPACE, 507, "disk_full"},    {ERR_INVALID, 422, "invalid_field"},
    {ERR_NOT_FOUND, 404, "not_found"},     {ERR_CONFLICT, 409, "conflict"},     {ERR_TOO_LARGE, 413, "too_many"},
    {ERR_DEADLINE, 504, "deadline"},       {ERR_INTERRUPTED, 503, "not_ready"},
};

const struct problem_kind *problem_at(int index)
{
    return index >= 0 && index < (int)(sizeof kinds / sizeof *kinds) ? &kinds[index] : NULL;
}

const struct problem_kind *problem_find(const char *code)
{
    for (int i = 0; problem_at(i); i++)
        if (!strcmp(kinds[i].code, code))
            return &kinds[i];
    return NULL;
}

int problem_status(enum err_code code)
{
    for (size_t i = 0; i < sizeof mapping / sizeof *mapping; i++)
        if (mapping[i].code == code)
            return mapping[i].status;
    return 500;
}

const char *problem_code(enum err_code code)
{
    for (size_t i = 0; i < sizeof mapping / sizeof *mapping; i++)
        if (mapping[i].code == code)
            return mapping[i].problem;
    return "internal";
}

void problems_init(struct problems *p, struct arena *a)
{
    *p = (struct problems){.arena = a};
}

void problem_add(struct problems *p, const char *pointer, const char *code, const char *format, ...)
{
    char text[512];
    va_list args;
    p->count++;
    if (p->count > FIELDS_MAX) {
        p->left_out++;
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct problem_field *f = arena_alloc(p->arena, sizeof *f);
    f->pointer = arena_strndup(p->arena, pointer, strlen(pointer));
    f->code = code;
    f->detail = arena_strndup(p->arena, text, strlen(text));
    *(p->last ? p->last : &p->first) = f;
    p->last = &f->next;
}

const char *problem_pointer(struct arena *a, const char *base, const char *name)
{
    size_t room = strlen(base) + 2 * strlen(name) + 2;
    char *out = arena_alloc(a, room), *p = out + sprintf(out, "%s/", base);
    for (; *name; name++) {
        if (*name == '~' || *name == '/')
            *p++ = '~';
        *p++ = *name == '~' ? '0' : *name == '/' ? '1' : *name;
    }
    *p = 0;
    return out;
}

static void write_fields(struct str *out, const struct problems *fields)
{
    json_key(out, "errors");
    str_puts(out, "[");
    for (const struct problem_field *f = fields->first; f; f = f->next) {
        json_comma(out);
        str_puts(out, "{");
        json_key(out, "pointer");
        json_string(out, f->pointer);
        json_key(out, "code");
        json_string(out, f->code);
        json_key(out, "detail");
        json_string(out, f->detail);
        str_puts(out, "}");
    }
    str_puts(out, "]");
    if (fields->left_out) {
        json_key(out, "errors_left_out");
        str_printf(out, "%d", fields->left_out);
    }
}

void problem_write(struct str *out, int status, const char *code, const char *detail, const char *request_id, const struct problems *fields)
{
    const struct problem_kind *kind = problem_find(code);
    CHECK(kind);
    str_printf(out, "{\"type\":\"/problems/%s\"", code);
    json_key(out, "title");
    json_string(out, kind->title);
    str_printf(out, ",\"status\":%d", status);
    json_key(out, "code");
    json_string(out, code);
    json_key(out, "detail");
    json_string(out, detail);
    json_key(out, "request_id");
    json_string(out, request_id);
    if (fields && fields->first)
        write_fields(out, fields);
    str_puts(out, "}\n");
}
