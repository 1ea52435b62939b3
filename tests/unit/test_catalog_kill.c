/* test_catalog_kill.c: kill -9 at random moments under indexing load; nothing acknowledged is lost, nothing is half there.
 *
 * usage: test_catalog_kill [kills [seed]] (10, 1). A child opens the store and writes batches from several threads; after each catalog_write
 * that returned it reports the batch through a pipe, so a report means: acknowledged. The parent kills it after a random time, opens the store
 * and compares: every acknowledged batch is there whole, with the IDs that were answered; a batch that was under way is there whole or not at all;
 * no ID twice; the store verifies. The first rounds also kill the first fill. */
#include "catalog_kit.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, BATCH = 5, FILLED = 40000, BATCHES_MAX = 1 << 20 };

struct report { /* at most PIPE_BUF bytes: written in one piece */
    int32_t batch;
    uint32_t suffix[BATCH];
};
struct ledger {
    struct report *acknowledged; /* [BATCHES_MAX], suffix of each document; batch 0 = not acknowledged */
    int32_t started;             /* batches below this number may have been tried */
    int64_t count;
};

#define EXPECT(condition)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                                \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

/* ---- the child ---- */

struct child {
    struct catalog *catalog;
    int pipe;
    int32_t first, thread;
};

struct made {
    int32_t next;
    char id[32];
    uint32_t codes[3];
};

static int make_entry(void *state, struct catalog_entry *out, struct err *e) {
    struct made *m = state;
    (void)e;
    if (m->next == FILLED) return 0;
    snprintf(m->id, sizeof m->id, "f%d", m->next);
    m->codes[0] = (uint32_t)m->next % 64, m->codes[1] = 0, m->codes[2] = (uint32_t)m->next / 64;
    m->next++;
    *out = (struct catalog_entry){.document = {.id = m->id, .text = "filled in"}, .codes = m->codes, .trained = true};
    return 1;
}

static struct catalog *open_filled(const char *path) {
    struct err e = {0};
    struct made m = {0};
    struct catalog_source s = {.total = FILLED, .next = make_entry, .state = &m};
    struct catalog *c = kit_open(path, &e);
    if (!c || catalog_fill(c, &s, NULL, &e)) {
        fprintf(stderr, "%s\n", e.message);
        abort();
    }
    return c;
}

static void write_batch(struct child *w, int32_t batch, struct report *out) {
    struct catalog_put put[BATCH] = {0};
    struct document document[BATCH];
    char id[BATCH][32];
    uint32_t codes[] = {(uint32_t)batch % 7 + 100, 1};
    struct arena a;
    struct err e = {0};
    arena_init(&a, 0);
    for (int i = 0; i < BATCH; i++) {
        snprintf(id[i], sizeof id[i], "b%d-%d", batch, i);
        document[i] = (struct document){.id = id[i], .title = "a title", .text = "some words to be indexed"};
        put[i] = (struct catalog_put){.document = &document[i], .codes = codes, .code_count = KIT_LEARNED};
    }
    struct catalog_batch b = {.puts = put, .put_count = BATCH, .arena = &a};
    EXPECT(catalog_write(w->catalog, &b, &e) == 0);
    out->batch = batch;
    for (int i = 0; i < BATCH; i++) out->suffix[i] = put[i].id_codes[2];
    arena_free(&a);
}

static void *write_for_ever(void *state) {
    struct child *w = state;
    for (int32_t batch = w->first + w->thread; batch < BATCHES_MAX; batch += THREADS) {
        struct report r = {0};
        write_batch(w, batch, &r);
        if (write(w->pipe, &r, sizeof r) != sizeof r) break;
    }
    return NULL;
}

static void child_main(const char *path, int32_t first, int fd) {
    struct child w[THREADS];
    pthread_t thread[THREADS];
    struct catalog *c = open_filled(path);
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct child){c, fd, first, i};
        EXPECT(pthread_create(&thread[i], NULL, write_for_ever, &w[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    _exit(0);
}

/* ---- the parent ---- */

static void note(struct ledger *l, const struct report *r) {
    l->acknowledged[r->batch] = *r;
    l->count++;
    if (r->batch + THREADS + 1 > l->started) l->started = r->batch + THREADS + 1;
}

/* Reads reports until the deadline, kills, then reads what was still in the pipe. */
static void listen_and_kill(struct ledger *l, pid_t pid, int fd, int64_t until) {
    struct report r;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool killed = false;
    for (;;) {
        int64_t left = until - clock_ms();
        if (!killed && left <= 0) {
            kill(pid, SIGKILL);
            killed = true;
        }
        if (!killed && poll(&p, 1, (int)left) == 0) continue;
        ssize_t n = read(fd, &r, sizeof r);
        if (n != sizeof r) break;
        note(l, &r);
    }
    EXPECT(killed);
    int status;
    EXPECT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static void compare_batch(struct catalog_reader *r, const struct report *acknowledged, int32_t batch) {
    struct catalog_row row[BATCH];
    const char *id[BATCH];
    struct arena a;
    struct err e = {0};
    int there = 0;
    arena_init(&a, 0);
    for (int i = 0; i < BATCH; i++) id[i] = arena_printf(&a, "b%d-%d", batch, i);
    EXPECT(catalog_find(r, id, BATCH, &a, row, &e) == 0);
    for (int i = 0; i < BATCH; i++) there += row[i].number != 0;
    EXPECT(there == BATCH || (there == 0 && !acknowledged->batch));
    for (int i = 0; acknowledged->batch && i < BATCH; i++) EXPECT(row[i].codes[2] == acknowledged->suffix[i]);
    arena_free(&a);
}

static void check(const char *path, const struct ledger *l) {
    struct err e = {0};
    struct catalog *c = open_filled(path);
    struct catalog_reader *r = catalog_reader_take(c, &e);
    EXPECT(r);
    for (int32_t batch = 1; batch < l->started; batch++) compare_batch(r, &l->acknowledged[batch], batch);
    EXPECT(catalog_documents(c) >= FILLED + BATCH * l->count);
    catalog_reader_give(r);
    catalog_close(c);
    if (catalog_verify(path, DIGEST_A, NULL, &e)) fprintf(stderr, "%s\n", e.message), abort();
}

static void round_of(const char *path, struct ledger *l, int64_t wait_ms) {
    int fd[2];
    EXPECT(pipe(fd) == 0);
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        close(fd[0]);
        child_main(path, l->started + THREADS, fd[1]);
    }
    close(fd[1]);
    l->started += 2 * THREADS;
    listen_and_kill(l, pid, fd[0], clock_ms() + wait_ms);
    close(fd[0]);
}

int main(int argc, char **argv) {
    int kills = argc > 1 ? atoi(argv[1]) : 10;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, rng = seed;
    char *folder = kit_folder(), *path = path_join(folder, "catalog.db");
    struct ledger l = {.acknowledged = xcalloc(BATCHES_MAX, sizeof *l.acknowledged), .started = 1};
    struct err e;
    for (int i = 0; i < kills; i++) {
        round_of(path, &l, i < 4 ? 20 + kit_below(&rng, 250) : 100 + kit_below(&rng, 600));
        if (i >= 3) check(path, &l); /* the first three kills may hit the fill: the next child goes on with it */
    }
    printf("catalog_kill kills=%d acknowledged_batches=%lld lost=0 half=0 seed=%llu\n", kills, (long long)l.count, (unsigned long long)seed);
    printf("%d passed, 0 failed\n", kills);
    file_remove_tree(folder, &e);
    free(l.acknowledged);
    free(path);
    free(folder);
    return 0;
}
