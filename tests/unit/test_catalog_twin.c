/* test_catalog_twin.c: random operations on the store and on a twin in memory that does the same in the simplest way.
 *
 * usage: test_catalog_twin [operations [seed]] (3,000, 1). Batches of puts and deletes over few ids and few buckets, so that updates, moves,
 * brought IDs, conflicts and unchanged documents are frequent; the twin predicts every answer. A table kept by on_commit alone must equal
 * the IDs that a scan finds. The store is closed and opened again now and then, and verified at the end. */
#include "catalog_kit.h"

enum { IDS = 300, BUCKETS = 12, TEXTS = 6, BATCH = 6 };

struct twin_document {
    bool present;
    int64_t number;
    int text, bucket;
    uint32_t suffix;
    bool trained;
};
struct twin {
    struct twin_document document[IDS], before[IDS];
    int64_t next[BUCKETS], next_before[BUCKETS];
    int64_t documents, numbers;
};
struct published { /* what on_commit said: number -> ID */
    struct catalog_id *id;
    int64_t room;
};
struct trial {
    struct catalog *catalog;
    char *path;
    struct twin twin;
    struct published published;
    uint64_t rng;
    int64_t puts, conflicts, updates;
};

#define EXPECT(condition)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                                \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static void on_commit(void *state, const struct catalog_commit *commit) {
    struct published *p = state;
    for (int64_t i = 0; i < commit->count; i++) {
        const struct catalog_change *c = &commit->changes[i];
        while (c->number >= p->room) {
            int64_t room = p->room ? 2 * p->room : 1024;
            p->id = xrealloc(p->id, (size_t)room, sizeof *p->id);
            memset(p->id + p->room, 0, (size_t)(room - p->room) * sizeof *p->id);
            p->room = room;
        }
        struct catalog_id *at = &p->id[c->number];
        EXPECT((at->number != 0) == (c->kind != CHANGE_ADDED));
        if (c->kind == CHANGE_REMOVED) *at = (struct catalog_id){0};
        else if (c->kind == CHANGE_ADDED) *at = (struct catalog_id){.number = c->number, .trained = c->trained};
        if (c->kind == CHANGE_ADDED) memcpy(at->codes, c->codes, sizeof at->codes);
        EXPECT(c->kind != CHANGE_CONTENT || memcmp(at->codes, c->codes, sizeof at->codes) == 0);
    }
}

static void open_store(struct trial *t) {
    struct err e = {0};
    struct catalog_options o = {.path = t->path, .model_digest = DIGEST_A, .learned = KIT_LEARNED, .on_commit = on_commit, .state = &t->published};
    t->catalog = catalog_open(&o, &e);
    if (!t->catalog) fprintf(stderr, "%s\n", e.message);
    EXPECT(t->catalog && catalog_fill(t->catalog, NULL, NULL, &e) == 0);
    EXPECT(catalog_documents(t->catalog) == t->twin.documents);
}

/* ---- the twin ---- */

struct wish { /* one put as drawn */
    int document, text, bucket;
    int64_t brought; /* suffix, or -1 */
    bool trained;
    enum catalog_status status;
};

static bool taken(const struct twin *w, int bucket, int64_t suffix, int by) {
    for (int i = 0; i < IDS; i++) {
        const struct twin_document *d = &w->document[i];
        if (i != by && d->present && d->bucket == bucket && d->suffix == suffix) return true;
    }
    return false;
}

/* Returns false where the store has to refuse. */
static bool twin_put(struct twin *w, struct wish *p) {
    struct twin_document *d = &w->document[p->document];
    bool same_place = d->present && d->bucket == p->bucket && (p->brought < 0 || p->brought == d->suffix);
    p->status = !d->present ? CATALOG_CREATED : CATALOG_UPDATED;
    if (d->present && d->text == p->text && (p->brought < 0 || same_place)) {
        p->status = CATALOG_UNCHANGED;
        return true;
    }
    if (!same_place) {
        if (p->brought >= 0 && taken(w, p->bucket, p->brought, p->document)) return false;
        int64_t suffix = p->brought >= 0 ? p->brought : w->next[p->bucket];
        if (suffix >= w->next[p->bucket]) w->next[p->bucket] = suffix + 1;
        d->suffix = (uint32_t)suffix;
        d->bucket = p->bucket;
        d->trained = p->brought >= 0 && p->trained;
    }
    d->text = p->text;
    w->documents += !d->present;
    d->present = true;
    return true;
}

/* ---- one batch ---- */

static void draw(struct trial *t, struct wish *p, int n) {
    for (int i = 0; i < n; i++) {
        bool again;
        p[i] = (struct wish){.text = (int)kit_below(&t->rng, TEXTS), .bucket = (int)kit_below(&t->rng, BUCKETS), .brought = -1};
        do {
            p[i].document = (int)kit_below(&t->rng, IDS);
            again = false;
            for (int j = 0; j < i; j++) again |= p[j].document == p[i].document;
        } while (again);
        struct twin_document *d = &t->twin.document[p[i].document];
        if (d->present && kit_below(&t->rng, 2)) p[i].bucket = d->bucket;
        if (kit_below(&t->rng, 5) == 0) {
            p[i].brought = (int64_t)kit_below(&t->rng, (uint32_t)t->twin.next[p[i].bucket] + 3);
            p[i].trained = kit_below(&t->rng, 2);
        }
    }
}

static void compare_put(struct trial *t, const struct wish *p, const struct catalog_put *put) {
    struct twin_document *d = &t->twin.document[p->document];
    EXPECT(put->status == p->status);
    EXPECT(put->id_codes[0] == (uint32_t)d->bucket && put->id_codes[1] == 5 && put->id_codes[2] == d->suffix);
    EXPECT(put->id_trained == d->trained);
    EXPECT(p->status == CATALOG_CREATED ? put->number > t->twin.numbers : put->number == d->number);
    if (p->status == CATALOG_CREATED) t->twin.numbers = d->number = put->number;
    t->updates += p->status == CATALOG_UPDATED;
}

static void put_batch(struct trial *t) {
    struct wish wish[BATCH];
    struct document document[BATCH];
    struct catalog_put put[BATCH] = {0};
    char id[BATCH][16], text[BATCH][32];
    uint32_t codes[BATCH][3];
    struct arena a;
    struct err e = {0};
    int n = 1 + (int)kit_below(&t->rng, BATCH);
    bool good = true;
    arena_init(&a, 0);
    draw(t, wish, n);
    memcpy(t->twin.before, t->twin.document, sizeof t->twin.before);
    memcpy(t->twin.next_before, t->twin.next, sizeof t->twin.next);
    int64_t documents = t->twin.documents;
    for (int i = 0; i < n; i++) {
        snprintf(id[i], sizeof id[i], "d%d", wish[i].document);
        snprintf(text[i], sizeof text[i], "w%d common", wish[i].text);
        codes[i][0] = (uint32_t)wish[i].bucket, codes[i][1] = 5, codes[i][2] = (uint32_t)wish[i].brought;
        document[i] = (struct document){.id = id[i], .text = text[i]};
        put[i] = (struct catalog_put){.document = &document[i], .codes = codes[i], .code_count = wish[i].brought < 0 ? 2 : 3, .trained = wish[i].trained};
        good &= twin_put(&t->twin, &wish[i]);
    }
    struct catalog_batch b = {.puts = put, .put_count = n, .arena = &a};
    int rc = catalog_write(t->catalog, &b, &e);
    EXPECT((rc == 0) == good);
    EXPECT(good || (e.code == ERR_CONFLICT && b.faults > 0));
    for (int i = 0; good && i < n; i++) compare_put(t, &wish[i], &put[i]);
    if (!good) {
        memcpy(t->twin.document, t->twin.before, sizeof t->twin.before);
        memcpy(t->twin.next, t->twin.next_before, sizeof t->twin.next);
        t->twin.documents = documents;
        t->conflicts++;
    }
    t->puts += n;
    arena_free(&a);
}

static void delete_one(struct trial *t) {
    int i = (int)kit_below(&t->rng, IDS);
    struct twin_document *d = &t->twin.document[i];
    struct err e = {0};
    char id[16];
    bool found;
    snprintf(id, sizeof id, "d%d", i);
    EXPECT(kit_delete(t->catalog, id, &found, &e) == 0);
    EXPECT(found == d->present);
    t->twin.documents -= d->present;
    d->present = false;
}

/* ---- comparing everything ---- */

struct scan {
    struct trial *trial;
    int64_t seen;
};

static int compare_row(void *state, const struct catalog_row *row, struct err *e) {
    struct scan *s = state;
    const struct twin_document *d = &s->trial->twin.document[atoi(row->document.id + 1)];
    char text[32];
    (void)e;
    snprintf(text, sizeof text, "w%d common", d->text);
    EXPECT(d->present && d->number == row->number && strcmp(row->document.text, text) == 0);
    EXPECT(row->codes[0] == (uint32_t)d->bucket && row->codes[2] == d->suffix && row->trained == d->trained);
    EXPECT(row->generation <= catalog_generation(s->trial->catalog));
    s->seen++;
    return 0;
}

static int compare_id(void *state, const struct catalog_id *id, struct err *e) {
    struct scan *s = state;
    (void)e;
    const struct catalog_id *at = &s->trial->published.id[id->number];
    EXPECT(at->number == id->number && at->trained == id->trained && memcmp(at->codes, id->codes, sizeof at->codes) == 0);
    s->seen++;
    return 0;
}

static void compare_words(struct trial *t, struct catalog_reader *r) {
    struct catalog_hit hits[IDS];
    struct err e = {0};
    int32_t n;
    for (int text = 0; text < TEXTS; text++) {
        char query[16];
        int expected = 0;
        for (int i = 0; i < IDS; i++) expected += t->twin.document[i].present && t->twin.document[i].text == text;
        snprintf(query, sizeof query, "w%d", text);
        EXPECT(catalog_search(r, query, strlen(query), IDS, hits, &n, &e) == 0 && n == expected);
    }
}

static void compare_all(struct trial *t) {
    struct scan rows = {t, 0}, ids = {t, 0};
    struct err e = {0};
    struct catalog_reader *r = catalog_reader_take(t->catalog, &e);
    EXPECT(r && catalog_each(r, compare_row, &rows, &e) == 0 && catalog_each_id(r, compare_id, &ids, &e) == 0);
    EXPECT(rows.seen == t->twin.documents && ids.seen == t->twin.documents);
    compare_words(t, r);
    catalog_reader_give(r);
    int64_t published = 0;
    for (int64_t i = 0; i < t->published.room; i++) published += t->published.id[i].number != 0;
    EXPECT(published == t->twin.documents);
}

int main(int argc, char **argv) {
    int64_t operations = argc > 1 ? atoll(argv[1]) : 3000;
    struct trial *t = xcalloc(1, sizeof *t);
    struct err e = {0};
    char *folder = kit_folder();
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    t->rng = seed;
    t->path = path_join(folder, "catalog.db");
    open_store(t);
    for (int64_t i = 1; i <= operations; i++) {
        if (kit_below(&t->rng, 5)) put_batch(t);
        else delete_one(t);
        if (i % 500 == 0) compare_all(t);
        if (i % 1000 == 0) {
            catalog_close(t->catalog);
            open_store(t);
        }
    }
    if (t->published.room) compare_all(t);
    catalog_close(t->catalog);
    if (catalog_verify(t->path, DIGEST_A, NULL, &e)) {
        fprintf(stderr, "%s\n", e.message);
        abort();
    }
    printf("catalog_twin operations=%lld puts=%lld updated=%lld conflicts=%lld documents=%lld seed=%llu differences=0\n", (long long)operations,
           (long long)t->puts, (long long)t->updates, (long long)t->conflicts, (long long)t->twin.documents, (unsigned long long)seed);
    printf("1 passed, 0 failed\n");
    file_remove_tree(folder, &e);
    free(t->published.id);
    free(t->path);
    free(t);
    free(folder);
    return 0;
}
