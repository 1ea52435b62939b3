/* prepare_input.c: the lines of a published file, with progress, the wish to stop, and a bound on bad ones.
 *
 * A bad line is left out, named (the first twenty; all are counted) and forgiven until there are more than the option allows: a published
 * file has a few odd lines, a wrong file has nothing else. A file that cannot be read to its end (cut gzip) is an error at once. */
#include "prepare_internal.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { NAMED = 20 };

int prepare_open(struct prepare_input *in, struct prepare *p, const char *path, struct err *e)
{
    *in = (struct prepare_input){.p = p, .path = path, .lines = lines_open(path, e)};
    return in->lines ? 0 : -1;
}

void prepare_close(struct prepare_input *in)
{
    lines_close(in->lines);
    in->lines = NULL;
}

static int poll_run(const struct prepare_input *in, struct err *e)
{
    int64_t n = lines_number(in->lines);
    if (n % 1024 == 0)
        run_report(in->p->run, in->p->phase, n, 0, "lines", NAN);
    if (n % 64 == 0 && run_stopping(in->p->run))
        return err_set(e, ERR_INTERRUPTED, "stopped in phase \"%s\"; the same command goes on behind the phases that are done",
                       in->p->phase);
    return 0;
}

int prepare_next(struct prepare_input *in, struct err *e)
{
    int rc;
    while ((rc = lines_next(in->lines, &in->line, &in->size, e)) == 1) {
        if (poll_run(in, e) < 0)
            return -1;
        if (in->line[strspn(in->line, " \t\r")] == 0 && strlen(in->line) == in->size)
            continue;
        if (lines_number(in->lines) == 1 && strncmp(in->line, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
            in->line += 3;
            in->size -= 3;
        }
        return 1;
    }
    return rc;
}

int prepare_bad(struct prepare_input *in, struct err *e, const char *format, ...)
{
    struct prepare *p = in->p;
    char why[512];
    if (p->again)
        return 0;
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    int64_t n = ++p->count[COUNT_BAD], line = lines_number(in->lines);
    if (n > p->o->bad_lines)
        return err_set(e, ERR_DATA, "%s: line %lld: %s: bad line number %lld; at most %lld are forgiven (--bad-lines)", in->path,
                       (long long)line, why, (long long)n, (long long)p->o->bad_lines);
    if (n <= NAMED)
        run_note(p->run, "%s: line %lld: %s; it is left out%s", in->path, (long long)line, why,
                 n == NAMED ? " (further bad lines are counted, not named)" : "");
    return 0;
}

cJSON *prepare_next_object(struct prepare_input *in, int *status, struct err *e)
{
    while ((*status = prepare_next(in, e)) == 1) {
        const char *end = NULL;
        cJSON *object = strlen(in->line) == in->size ? cJSON_ParseWithLengthOpts(in->line, in->size + 1, &end, true) : NULL;
        if (cJSON_IsObject(object))
            return object;
        cJSON_Delete(object);
        if ((*status = prepare_bad(in, e, "is not a JSON object")) < 0)
            return NULL;
    }
    return NULL;
}

int prepare_copy(struct prepare *p, const char *path, const char *name, int64_t *lines, struct err *e)
{
    struct prepare_input in;
    struct file_out f;
    int status;
    *lines = 0;
    if (prepare_open(&in, p, path, e) < 0)
        return -1;
    if (prepare_create(p, &f, name, e) < 0) {
        prepare_close(&in);
        return -1;
    }
    while ((status = prepare_next(&in, e)) == 1) {
        fwrite(in.line, 1, in.size, f.stream);
        fputc('\n', f.stream);
        ++*lines;
    }
    prepare_close(&in);
    if (status == 0)
        return file_out_commit(&f, e);
    file_out_cancel(&f);
    return -1;
}
