/* need.c: see need.h. Each figure is what the code that allocates asks for, rounded up: some 256 bytes a block are the device's own grain. */
#include "need.h"

void need_model(struct need *n, const struct t5_options *o)
{
    size_t elements = (size_t)t5_size_of(o);
    n->bytes += elements * (sizeof(float) * (o->train ? 4 : 1) + n->be->act_bytes);
}

void need_work(struct need *n, const struct t5_config *c, const struct t5_limits *l)
{
    n->bytes += t5_work_bytes(n->be, c, l);
}

void need_beam(struct need *n, const struct t5_config *c, int32_t positions, int32_t requests, int64_t rows)
{
    size_t words = (size_t)positions * (size_t)requests + 4 * ((size_t)requests + 1) + 9 * (size_t)rows;
    n->bytes += words * sizeof(int32_t) + (size_t)rows * (size_t)c->d_model * n->be->act_bytes;
}

void need_tries(struct need *n, int32_t positions, int64_t documents)
{
    n->bytes += 2 * (size_t)positions * (size_t)documents * (sizeof(uint32_t) + sizeof(uint32_t));
}

int need_check(const struct need *n, const char *what, struct err *e)
{
    size_t total = 0;
    if (!n->be->memory_free)
        return 0;
    size_t left = n->be->memory_free(&total);
    if (n->bytes <= left)
        return 0;
    return err_set(e, ERR_UNAVAILABLE, "%s needs %.2f GiB of memory on %s; %.2f of its %.2f GiB are free", what, (double)n->bytes / 0x1p30,
                   n->be->device, (double)left / 0x1p30, (double)total / 0x1p30);
}
