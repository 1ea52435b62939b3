/* trie.c: see trie.h.
 *
 * Build: an ID is packed into one 64-bit key where its codes' bits fit (they do for every published setting), else sorted column by column. An
 * LSD radix sort moves (key, document) pairs, 11 bits a pass, over the needed bits only. Then one pass over the sorted keys per
 * level emits a node wherever the prefix differs from the one before: that pass needs only "first differing level" of neighbours, which is
 * computed once and kept as one byte a row. */
#include "trie.h"
#include "../base/mem.h"

#include <string.h>

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };

struct trie {
    struct trie_view view;
    void *block;
    size_t bytes;
};

struct row { /* being sorted */
    uint64_t key;
    uint32_t document;
    uint32_t index; /* row in the caller's codes */
};

/* ---- sorting ---- */

static int bits_of(uint32_t value)
{
    int bits = 0;
    for (; value; value >>= 1)
        bits++;
    return bits ? bits : 1;
}

/* Bits per position that hold every code. */
static int key_bits(const uint32_t *codes, uint32_t n, int32_t positions, int *bits)
{
    uint32_t any[TRIE_LEVELS_MAX] = {0};
    int total = 0;
    for (uint32_t i = 0; i < n; i++)
        for (int32_t t = 0; t < positions; t++)
            any[t] |= codes[(size_t)i * (size_t)positions + (size_t)t];
    for (int32_t t = 0; t < positions; t++)
        total += bits[t] = bits_of(any[t]);
    return total;
}

/* One stable counting pass over digit `shift`; false if all rows have the same digit (nothing moved). */
static bool radix_pass(const struct row *from, struct row *to, uint32_t n, int shift)
{
    uint32_t count[RADIX] = {0}, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        count[from[i].key >> shift & (RADIX - 1)]++;
    if (n && count[from[0].key >> shift & (RADIX - 1)] == n)
        return false;
    for (uint32_t d = 0; d < RADIX; d++) {
        uint32_t here = count[d];
        count[d] = sum;
        sum += here;
    }
    for (uint32_t i = 0; i < n; i++)
        to[count[from[i].key >> shift & (RADIX - 1)]++] = from[i];
    return true;
}

/* Sorts rows by the low `bits` of their keys; returns the buffer (rows or spare) that holds the result. */
static struct row *radix_sort(struct row *rows, struct row *spare, uint32_t n, int bits)
{
    for (int shift = 0; shift < bits; shift += RADIX_BITS)
        if (radix_pass(rows, spare, n, shift)) {
            struct row *keep = rows;
            rows = spare;
            spare = keep;
        }
    return rows;
}

/* Positions [first, last) packed into the rows' keys. */
static void pack_keys(struct row *rows, uint32_t n, const uint32_t *codes, int32_t positions, const int *bits, int32_t first, int32_t last)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *id = codes + (size_t)rows[i].index * (size_t)positions;
        rows[i].key = 0;
        for (int32_t t = first; t < last; t++)
            rows[i].key = rows[i].key << bits[t] | id[t];
    }
}

/* ---- building from sorted IDs ---- */

struct builder {
    const uint32_t *codes;
    const struct row *rows; /* order; NULL: the codes are in order */
    const uint32_t *document;
    uint32_t n;
    int32_t positions;
    int bits[TRIE_LEVELS_MAX]; /* of each position in a packed key */
    bool packed;               /* a whole ID fits a key: rows[i].key holds it */
    uint8_t *differs; /* [n] first level at which row i differs from row i - 1; 0 for the first row */
    uint32_t nodes[TRIE_LEVELS_MAX], largest[TRIE_LEVELS_MAX];
};

/* The rows in order of their IDs. Where the codes do not fit 64 bits, groups of positions are sorted from the last to the first. */
static struct row *sort_rows(struct row *rows, struct row *spare, struct builder *b)
{
    const uint32_t *codes = b->codes;
    uint32_t n = b->n;
    int32_t positions = b->positions;
    int *bits = b->bits;
    b->packed = key_bits(codes, n, positions, bits) <= 64;
    for (int32_t last = positions; last > 0;) {
        int32_t first = last;
        int total = 0;
        while (first > 0 && total + bits[first - 1] <= 64)
            total += bits[--first];
        pack_keys(rows, n, codes, positions, bits, first, last);
        struct row *sorted = radix_sort(rows, spare, n, total);
        if (sorted != rows) {
            spare = rows;
            rows = sorted;
        }
        last = first;
    }
    return rows;
}

/* The codes of row i in order: unpacked from its key into `room` where keys hold whole IDs (sequential memory), else the caller's row. */
static const uint32_t *id_of(const struct builder *b, uint32_t i, uint32_t room[TRIE_LEVELS_MAX])
{
    if (!b->packed)
        return b->codes + (size_t)(b->rows ? b->rows[i].index : i) * (size_t)b->positions;
    uint64_t key = b->rows[i].key;
    for (int32_t t = b->positions - 1; t >= 0; t--) {
        room[t] = (uint32_t)(key & ((1ull << b->bits[t]) - 1));
        key >>= b->bits[t];
    }
    return room;
}

static uint32_t document_of(const struct builder *b, uint32_t i)
{
    if (b->rows)
        return b->rows[i].document;
    return b->document ? b->document[i] : i;
}

/* Fills differs, nodes and largest. Returns the first row equal to its predecessor, or n. */
static uint32_t scan(struct builder *b)
{
    uint32_t twin = b->n, room[2][TRIE_LEVELS_MAX];
    const uint32_t *before = NULL;
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t *id = id_of(b, i, room[i & 1]);
        int32_t level = 0;
        while (before && level < b->positions && id[level] == before[level])
            level++;
        if (level == b->positions && twin == b->n)
            twin = i;
        b->differs[i] = (uint8_t)level;
        for (int32_t t = level; t < b->positions; t++) {
            b->nodes[t]++;
            if (id[t] > b->largest[t])
                b->largest[t] = id[t];
        }
        before = id;
    }
    return twin;
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static struct trie *allocate(const struct builder *b)
{
    struct trie *t = xcalloc(1, sizeof *t);
    size_t at[TRIE_LEVELS_MAX][2], leaf_at, bytes = 0;
    for (int32_t l = 0; l < b->positions; l++) {
        at[l][0] = bytes;
        bytes += aligned((size_t)b->nodes[l] * (b->largest[l] > 0xffff ? 4 : 2));
        at[l][1] = bytes;
        bytes += l + 1 < b->positions ? aligned(((size_t)b->nodes[l] + 1) * 4) : 0;
    }
    leaf_at = bytes;
    bytes += aligned((size_t)b->n * 4);
    char *block = t->block = xcalloc(1, bytes + 64);
    t->bytes = bytes + sizeof *t;
    t->view.levels = b->positions;
    for (int32_t l = 0; l < b->positions; l++)
        t->view.level[l] = (struct trie_level){.nodes = b->nodes[l], .wide = b->largest[l] > 0xffff, .codes = block + at[l][0],
                                               .first = l + 1 < b->positions ? (const uint32_t *)(block + at[l][1]) : NULL};
    t->view.leaf_doc = (const uint32_t *)(block + leaf_at);
    return t;
}

static void put_code(const struct trie_level *l, uint32_t node, uint32_t code)
{
    if (l->wide)
        ((uint32_t *)l->codes)[node] = code;
    else
        ((uint16_t *)l->codes)[node] = (uint16_t)code;
}

static void emit_nodes(const struct builder *b, struct trie *t)
{
    uint32_t next[TRIE_LEVELS_MAX + 1] = {0}, room[TRIE_LEVELS_MAX];
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t *id = id_of(b, i, room);
        for (int32_t l = b->differs[i]; l < b->positions; l++) {
            const struct trie_level *level = &t->view.level[l];
            put_code(level, next[l], id[l]);
            if (level->first)
                ((uint32_t *)level->first)[next[l]] = next[l + 1];
            next[l]++;
        }
        ((uint32_t *)t->view.leaf_doc)[i] = document_of(b, i);
    }
    for (int32_t l = 0; l + 1 < b->positions; l++)
        ((uint32_t *)t->view.level[l].first)[next[l]] = next[l + 1];
}

static int name_twins(const struct builder *b, uint32_t twin, struct err *e)
{
    char id[256];
    uint32_t room[TRIE_LEVELS_MAX];
    int used = 0;
    for (int32_t t = 0; t < b->positions && used < 200; t++)
        used += snprintf(id + used, sizeof id - (size_t)used, "%s%u", t ? "-" : "", id_of(b, twin, room)[t]);
    return err_set(e, ERR_DATA, "documents %u and %u have the same ID %s", document_of(b, twin - 1), document_of(b, twin), id);
}

static struct trie *build(struct builder *b, struct err *e)
{
    struct trie *t = NULL;
    CHECK(b->positions >= 1 && b->positions <= TRIE_LEVELS_MAX);
    b->differs = xmalloc((size_t)b->n + 1);
    uint32_t twin = scan(b);
    if (twin < b->n) {
        name_twins(b, twin, e);
    } else {
        t = allocate(b);
        emit_nodes(b, t);
    }
    free(b->differs);
    return t;
}

struct trie *trie_build(const uint32_t *codes, const uint32_t *document, uint32_t n, int32_t positions, struct err *e)
{
    struct row *rows = xmalloc(((size_t)n + 1) * sizeof *rows), *spare = xmalloc(((size_t)n + 1) * sizeof *spare);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct row){0, document ? document[i] : i, i};
    struct builder b = {.codes = codes, .n = n, .positions = positions};
    b.rows = sort_rows(rows, spare, &b);
    struct trie *t = build(&b, e);
    free(rows);
    free(spare);
    return t;
}

struct trie *trie_build_sorted(const uint32_t *codes, const uint32_t *document, uint32_t n, int32_t positions)
{
    struct builder b = {.codes = codes, .document = document, .n = n, .positions = positions};
    struct trie *t = build(&b, NULL);
    CHECK(t);
    return t;
}

void trie_free(struct trie *t)
{
    if (t)
        free(t->block);
    free(t);
}

/* ---- in the backend's memory ---- */

struct placed {
    struct trie_view view; /* first: callers hold a pointer to it */
    char *block;           /* the view once more, then the arrays as they lie in the trie's own block */
    size_t room;
};

static struct placed *place_in(const struct backend *be, struct placed *old, size_t bytes)
{
    if (old && old->room >= bytes)
        return old;
    trie_release(be, old ? &old->view : NULL);
    struct placed *p = xcalloc(1, sizeof *p);
    p->room = bytes + bytes / 4; /* the next ones are likely to be larger */
    p->block = be->alloc(p->room);
    if (p->block)
        return p;
    free(p);
    return NULL;
}

const struct trie_view *trie_upload(const struct backend *be, const struct trie *t, const struct trie_view *old, struct err *e)
{
    if (be->has_host_memory)
        return &t->view;
    size_t head = aligned(sizeof t->view), arrays = (size_t)((const char *)t->view.leaf_doc - (const char *)t->block);
    struct placed *p = place_in(be, (struct placed *)(uintptr_t)old, head + arrays);
    if (!p) {
        err_set(e, ERR_OS, "no memory on the device for the IDs of %u documents (%zu MiB)", trie_count(t), (head + arrays) >> 20);
        return NULL;
    }
    p->view = t->view;
    p->view.leaf_doc = NULL;
    p->view.resident = (const struct trie_view *)p->block;
    for (int32_t l = 0; l < p->view.levels; l++) {
        struct trie_level *level = &p->view.level[l];
        level->codes = p->block + head + ((const char *)level->codes - (const char *)t->block);
        if (level->first)
            level->first = (const uint32_t *)(p->block + head + ((const char *)level->first - (const char *)t->block));
    }
    be->write(p->block, &p->view, sizeof p->view);
    be->write(p->block + head, t->block, arrays);
    return &p->view;
}

void trie_release(const struct backend *be, const struct trie_view *v)
{
    if (!v || be->has_host_memory)
        return;
    struct placed *p = (struct placed *)(uintptr_t)v;
    be->release(p->block);
    free(p);
}

/* ---- reading ---- */

const struct trie_view *trie_view_of(const struct trie *t)
{
    return &t->view;
}

uint32_t trie_count(const struct trie *t)
{
    return t->view.level[t->view.levels - 1].nodes;
}

size_t trie_bytes(const struct trie *t)
{
    return t->bytes;
}

uint32_t trie_code(const struct trie_view *v, int32_t level, uint32_t node)
{
    const struct trie_level *l = &v->level[level];
    return l->wide ? ((const uint32_t *)l->codes)[node] : ((const uint16_t *)l->codes)[node];
}

void trie_children(const struct trie_view *v, int32_t level, uint32_t node, uint32_t *from, uint32_t *to)
{
    *from = level < 0 ? 0 : v->level[level].first[node];
    *to = level < 0 ? v->level[0].nodes : v->level[level].first[node + 1];
}

void trie_leaves(const struct trie_view *v, int32_t level, uint32_t node, uint32_t *from, uint32_t *to)
{
    *from = level < 0 ? 0 : node;
    *to = level < 0 ? v->level[0].nodes : node + 1;
    for (int32_t l = level < 0 ? 0 : level; l + 1 < v->levels; l++) {
        *from = v->level[l].first[*from];
        *to = v->level[l].first[*to];
    }
}

bool trie_find(const struct trie *t, const uint32_t *prefix, int32_t length, uint32_t *node)
{
    uint32_t from, to, at = 0;
    for (int32_t level = 0; level < length; level++) {
        trie_children(&t->view, level - 1, at, &from, &to);
        uint32_t end = to;
        while (from < to) {
            uint32_t middle = from + (to - from) / 2;
            if (trie_code(&t->view, level, middle) < prefix[level])
                from = middle + 1;
            else
                to = middle;
        }
        if (from == end || trie_code(&t->view, level, from) != prefix[level])
            return false;
        at = from;
    }
    *node = at;
    return true;
}

static bool level_sane(const struct trie_view *v, int32_t l)
{
    uint32_t parents = l ? v->level[l - 1].nodes : 1, from, to, expected = 0;
    for (uint32_t p = 0; p < parents; p++) {
        trie_children(v, l - 1, p, &from, &to);
        if (from != expected || (to == from && l) || to > v->level[l].nodes)
            return false;
        for (uint32_t i = from + 1; i < to; i++)
            if (trie_code(v, l, i) <= trie_code(v, l, i - 1))
                return false;
        expected = to;
    }
    return expected == v->level[l].nodes;
}

bool trie_sane(const struct trie *t)
{
    for (int32_t l = 0; l < t->view.levels; l++)
        if (!level_sane(&t->view, l))
            return false;
    return true;
}
