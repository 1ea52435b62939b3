/* test_base.c: errors, memory, files, line streams, locks, hashes. Every test works in a temporary folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/base/run.h"
#include "../../core/base/spill.h"
#include "../../core/base/utf8.h"

static char folder[64];

static int enter(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-base-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    return file_remove_tree(folder, NULL);
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void test_err(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_DATA, "%s: line %d\n\x01 caf\xc3\xa9 \xff", "a.txt", 7), -1);
    assert_string_equal(e.message, "a.txt: line 7?? caf\xc3\xa9 ?");
    assert_int_equal(err_prefix(&e, "field %s", "x"), -1);
    assert_string_equal(e.message, "field x: a.txt: line 7?? caf\xc3\xa9 ?");
    assert_int_equal(e.code, ERR_DATA);
    err_set(&e, ERR_IO, "again: %s", e.message);
    assert_true(strncmp(e.message, "again: field x: ", 16) == 0);
    assert_int_equal(err_set(NULL, ERR_DATA, "nobody listens"), -1);
    assert_int_equal(err_prefix(NULL, "nobody listens"), -1);
    assert_int_equal(err_from_errno(ENOENT), ERR_NO_INPUT);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EACCES), ERR_NO_PERM);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
}

static void test_err_is_cut_between_characters(void **state)
{
    (void)state;
    char text[4000];
    for (int shift = 0; shift < 3; shift++) {
        struct err e = {0};
        memset(text, 'a', (size_t)shift);
        for (size_t i = (size_t)shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        err_set(&e, ERR_DATA, "%s", text);
        assert_true(strlen(e.message) >= sizeof e.message - 4);
        assert_true(utf8_valid(e.message, strlen(e.message)));
        for (int i = 0; i < 5; i++)
            err_prefix(&e, "a prefix of some length %d", i);
        assert_true(utf8_valid(e.message, strlen(e.message)));
        err_prefix(&e, "%s", text);
        assert_true(utf8_valid(e.message, strlen(e.message)));
    }
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {
        {"", true}, {"a", true}, {"\x7f", true}, {"\xc2\x80", true}, {"\xdf\xbf", true}, {"\xe0\xa0\x80", true}, {"\xed\x9f\xbf", true},
        {"\xee\x80\x80", true}, {"\xf0\x90\x80\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xc0\xaf", false}, {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false}, {"\xed\xa0\x80", false}, {"\xed\xbf\xbf", false}, {"\xf0\x8f\xbf\xbf", false}, {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false}, {"\x80", false}, {"\xc2", false}, {"\xe2\x82", false}, {"\xe2\x28\xa1", false}, {"\xfe", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].valid);
    uint32_t point;
    assert_int_equal(utf8_next("\xf0\x9f\x98\x80", 4, &point), 4);
    assert_int_equal(point, 0x1f600);
    assert_int_equal(utf8_next("\xf0\x9f\x98\x80", 3, &point), 0);
}

static void test_arena(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1000);
    unsigned char *last = NULL;
    for (size_t n = 0; n < 3000; n += 7) {
        unsigned char *p = arena_alloc(&a, n);
        assert_ptr_not_equal(p, last);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
        last = p;
    }
    assert_null(arena_try(&a, 1));
    arena_reset(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(a.head);
    assert_null(arena_try(&a, 1001));
    unsigned char *again = arena_try(&a, 900);
    assert_non_null(again);
    for (int i = 0; i < 900; i++)
        assert_int_equal(again[i], 0);
    assert_null(arena_try(&a, 200));
    assert_string_equal(arena_printf(&a, "%d-%s", 5, "x"), "5-x");
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    arena_alloc(&a, 8 << 20);
    arena_reset(&a);
    assert_null(a.head);
    arena_free(&a);
}

static void test_str(void **state)
{
    (void)state;
    struct str s = {0};
    str_append(&s, "", 0);
    assert_string_equal(s.data, "");
    for (int i = 0; i < 1000; i++)
        str_printf(&s, "%d,", i % 10);
    str_append(&s, "a\0b", 3);
    str_puts(&s, "end");
    assert_int_equal(s.size, 2006);
    assert_string_equal(s.data + 2002, "bend");
    str_clear(&s);
    assert_int_equal(s.size, 0);
    assert_string_equal(s.data, "");
    str_free(&s);
    assert_null(s.data);
    str_free(&s);
}

static void test_file_out(void **state)
{
    (void)state;
    struct err e = {0};
    char *path = path_join(folder, "x");
    assert_int_equal(file_write(path, "first", 5, &e), 0);
    struct file_out f;
    assert_int_equal(file_out_open(&f, path, &e), 0);
    fputs("second", f.stream);
    size_t size;
    char *text = file_read(path, 0, &size, &e);
    assert_string_equal(text, "first");
    free(text);
    file_out_cancel(&f);
    file_out_cancel(&f);
    assert_int_equal(entries(folder), 1);
    assert_int_equal(file_write(path, "third\0!", 7, &e), 0);
    text = file_read(path, 7, &size, &e);
    assert_int_equal(size, 7);
    assert_memory_equal(text, "third\0!", 8);
    free(text);
    assert_null(file_read(path, 6, &size, &e));
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(entries(folder), 1);
    free(path);
}

static void test_file_errors(void **state)
{
    (void)state;
    struct err e = {0};
    char *missing = path_join(folder, "no/such");
    assert_null(file_read(missing, 0, NULL, &e));
    assert_int_equal(e.code, ERR_NO_INPUT);
    assert_non_null(strstr(e.message, missing));
    assert_int_equal(file_write(missing, "x", 1, &e), -1);
    assert_int_equal(e.code, ERR_CANT_CREATE);
    assert_null(file_read(folder, 0, NULL, &e));
    assert_int_equal(e.code, ERR_IO);
    /* a folder in the place of the file: the rename fails, and nothing is left behind */
    char *taken = path_join(folder, "taken/below");
    assert_int_equal(file_mkdirs(taken, &e), 0);
    *strrchr(taken, '/') = 0;
    assert_int_equal(file_write(taken, "x", 1, &e), -1);
    assert_int_equal(entries(folder), 1);
    free(missing);
    free(taken);
}

/* A file size limit makes writes fail as a full disk does. */
static void test_full_disk(void **state)
{
    (void)state;
    char *path = path_join(folder, "big"), data[4096] = {0};
    assert_int_equal(file_write(path, "old", 3, NULL), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {64 << 10, 64 << 10};
        struct file_out f;
        struct err e = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (file_out_open(&f, path, &e) < 0)
            _exit(1);
        for (int i = 0; i < 100; i++)
            fwrite(data, 1, sizeof data, f.stream);
        _exit(file_out_commit(&f, &e) == -1 && e.code == ERR_IO && strstr(e.message, path) ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(entries(folder), 1);
    char *text = file_read(path, 0, NULL, NULL);
    assert_string_equal(text, "old");
    free(text);
    free(path);
}

static void test_remove_tree(void **state)
{
    (void)state;
    struct err e = {0};
    char *deep = path_join(folder, "a/b/c/d"), *root = path_join(folder, "a"), *link = path_join(folder, "a/link");
    char *outside = path_join(folder, "outside"), *kept = path_join(folder, "outside/kept");
    assert_int_equal(file_mkdirs(deep, &e), 0);
    assert_int_equal(file_mkdirs(outside, &e), 0);
    assert_int_equal(file_write(kept, "x", 1, &e), 0);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(file_remove_tree(root, &e), 0);
    assert_false(file_exists(root));
    assert_true(file_exists(kept));
    assert_int_equal(file_remove_tree(root, &e), 0);
    assert_int_equal(file_mkdirs(kept, &e), -1);
    assert_int_equal(e.code, ERR_CANT_CREATE);
    free(deep);
    free(root);
    free(link);
    free(outside);
    free(kept);
}

static void expect_lines(const char *path, const char *const *want, int count)
{
    struct err e = {0};
    struct lines *l = lines_open(path, &e);
    char *line;
    size_t size;
    assert_non_null(l);
    for (int i = 0; i < count; i++) {
        assert_int_equal(lines_next(l, &line, &size, &e), 1);
        assert_int_equal(size, strlen(want[i]));
        assert_string_equal(line, want[i]);
        assert_int_equal(lines_number(l), i + 1);
    }
    assert_int_equal(lines_next(l, &line, &size, &e), 0);
    assert_int_equal(lines_next(l, &line, &size, &e), 0);
    lines_close(l);
}

static void gzip_append(const char *path, const void *data, size_t size)
{
    gzFile z = gzopen(path, "ab");
    assert_non_null(z);
    assert_int_equal(gzwrite(z, data, (unsigned)size), (int)size);
    gzclose(z);
}

static void test_lines(void **state)
{
    (void)state;
    static const char *const want[] = {"one", "", "three", "last"};
    char *path = path_join(folder, "lines"), *gz = path_join(folder, "gz");
    const char *text = "one\n\nthree\r\nlast";
    assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
    expect_lines(path, want, 4);
    gzip_append(gz, text, strlen(text));
    expect_lines(gz, want, 4);
    assert_int_equal(file_write(path, "", 0, NULL), 0);
    expect_lines(path, NULL, 0);
    assert_int_equal(file_write(path, "\x1f", 1, NULL), 0);
    expect_lines(path, (const char *const[]){"\x1f"}, 1);
    free(path);
    free(gz);
}

/* Lines around the sizes of the buffers, plain and as gzip of two members, against the text they were made of. */
static void test_long_lines(void **state)
{
    (void)state;
    struct str text = {0};
    char *path = path_join(folder, "plain"), *gz = path_join(folder, "gz");
    static const size_t sizes[] = {65535, 65536, 65537, 131071, 131072, 131073, 1, 0, 300000, 131070, 5};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    char *want[COUNT];
    for (int i = 0; i < COUNT; i++) {
        want[i] = xmalloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++)
            want[i][k] = (char)('a' + (k * 7 + k / 100 + (size_t)i) % 26);
        want[i][sizes[i]] = 0;
        str_printf(&text, "%s\n", want[i]);
    }
    assert_int_equal(file_write(path, text.data, text.size, NULL), 0);
    expect_lines(path, (const char *const *)want, COUNT);
    gzip_append(gz, text.data, 200000);
    gzip_append(gz, text.data + 200000, text.size - 200000);
    expect_lines(gz, (const char *const *)want, COUNT);
    for (int i = 0; i < COUNT; i++)
        free(want[i]);
    str_free(&text);
    free(path);
    free(gz);
}

static int read_to_end(const char *path, struct err *e)
{
    struct lines *l = lines_open(path, e);
    char *line;
    int rc = l ? 1 : -1;
    while (rc > 0)
        rc = lines_next(l, &line, NULL, e);
    lines_close(l);
    return rc;
}

static void test_damaged_gzip(void **state)
{
    (void)state;
    struct err e = {0};
    struct str text = {0};
    char *gz = path_join(folder, "gz"), *cut = path_join(folder, "cut");
    for (int i = 0; i < 20000; i++)
        str_printf(&text, "line %d of some %d\n", i, i * 7919 % 1000);
    gzip_append(gz, text.data, text.size);
    size_t size;
    char *bytes = file_read(gz, 0, &size, &e);
    assert_int_equal(read_to_end(gz, &e), 0);
    for (size_t n = 2; n < size; n += 997) {
        assert_int_equal(file_write(cut, bytes, n, NULL), 0);
        assert_int_equal(read_to_end(cut, &e), -1);
        assert_non_null(strstr(e.message, "ends early"));
    }
    bytes[size / 2] ^= 0x40;
    assert_int_equal(file_write(cut, bytes, size, NULL), 0);
    assert_int_equal(read_to_end(cut, &e), -1);
    assert_int_equal(e.code, ERR_DATA);
    assert_int_equal(read_to_end(folder, &e), -1);
    free(bytes);
    str_free(&text);
    free(gz);
    free(cut);
}

static void test_line_bound(void **state)
{
    (void)state;
    struct err e = {0};
    char *gz = path_join(folder, "bomb"), *piece = xcalloc(1, 1 << 20);
    gzFile z = gzopen(gz, "wb1");
    memset(piece, 'x', 1 << 20);
    for (int i = 0; i < 70; i++)
        gzwrite(z, piece, 1 << 20);
    gzclose(z);
    assert_int_equal(read_to_end(gz, &e), -1);
    assert_non_null(strstr(e.message, "line 1: longer than 67108864 bytes"));
    free(piece);
    free(gz);
}

static void test_lock(void **state)
{
    (void)state;
    struct err e = {0};
    char *path = path_join(folder, "thing"), pid[32];
    int a, b;
    assert_int_equal(lock_acquire(path, &a, &e), 0);
    assert_int_equal(lock_acquire(path, &b, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(e.message, pid));
    lock_release(a);
    assert_int_equal(lock_acquire(path, &b, &e), 0);
    lock_release(b);
    lock_release(-1);
    free(path);
    path = path_join(folder, "no/such");
    assert_int_equal(lock_acquire(path, &a, &e), -1);
    assert_int_equal(e.code, ERR_CANT_CREATE);
    free(path);
}

/* Takes and removes the lock again and again; ends the process with 1 if another one held it, too. */
static void contend(const char *path, const char *held)
{
    char *lock = xprintf("%s.lock", path);
    int both = 0, fd;
    for (int turn = 0; turn < 400;) {
        struct err e;
        if (lock_acquire(path, &fd, &e) != 0) {
            if (e.code != ERR_UNAVAILABLE)
                _exit(2);
            continue;
        }
        int mine = open(held, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        both += mine < 0;
        if (mine >= 0) {
            close(mine);
            unlink(held);
        }
        unlink(lock);
        lock_release(fd);
        turn++;
    }
    _exit(both > 0);
}

/* A holder may remove the lock's file: still no two processes hold it at once. */
static void test_lock_that_is_removed(void **state)
{
    (void)state;
    char *path = path_join(folder, "part"), *held = path_join(folder, "held");
    pid_t child[4];
    for (int i = 0; i < 4; i++)
        if ((child[i] = fork()) == 0)
            contend(path, held);
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    free(path);
    free(held);
}

static void test_sha256(void **state)
{
    (void)state;
    struct err e = {0};
    char hex[65], again[65];
    int64_t bytes;
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    char *path = path_join(folder, "x"), *data = xcalloc(1, 1000000);
    memset(data, 'a', 1000000);
    assert_int_equal(file_write(path, data, 1000000, &e), 0);
    assert_int_equal(sha256_file(path, hex, &bytes, &e), 0);
    assert_int_equal(bytes, 1000000);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    struct sha256 *s = sha256_begin();
    for (int i = 0; i < 1000000; i += 1000)
        sha256_add(s, data + i, 1000);
    sha256_end(s, again);
    assert_string_equal(hex, again);
    assert_int_equal(sha256_file(folder, hex, &bytes, &e), -1);
    free(data);
    free(path);
}

/* Pinned: these values decide hints and splits of runs that may be resumed by a later version. */
static void test_hash_bytes(void **state)
{
    (void)state;
    char text[64];
    assert_int_equal(hash_bytes("", 0, 0), 0x7156597c27b63774u);
    assert_int_equal(hash_bytes("semindex", 8, 1), 0xd7c6d020d78465acu);
    int ones = 0;
    uint64_t all = hash_bytes("0", 1, 7);
    for (int i = 1; i < 4096; i++) {
        int n = snprintf(text, sizeof text, "%d", i);
        uint64_t h = hash_bytes(text, (size_t)n, 7);
        assert_true(h != hash_bytes(text, (size_t)n, 8));
        ones += __builtin_popcountll(h ^ all);
        all = h;
    }
    assert_true(fabs(ones / 4095.0 - 32) < 0.5);
}

static void test_string_map(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    struct string_map *m = string_map_init(10);
    char key[32];
    for (int i = 0; i < COUNT; i++) {
        int n = snprintf(key, sizeof key, "k%d", i * 17);
        assert_int_equal(string_map_put(m, key, (size_t)n, i), 1);
        assert_int_equal(string_map_put(m, key, (size_t)n, i + 1), 0);
    }
    assert_int_equal(string_map_count(m), COUNT);
    for (int i = 0; i < COUNT * 17; i++) {
        int n = snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(string_map_get(m, key, (size_t)n), i % 17 ? -1 : i / 17);
    }
    assert_int_equal(string_map_get(m, NULL, 0), -1);
    assert_int_equal(string_map_put(m, NULL, 0, 5), 1);
    assert_int_equal(string_map_get(m, "", 0), 5);
    assert_int_equal(string_map_put(m, "a\0b", 3, 6), 1);
    assert_int_equal(string_map_get(m, "a\0c", 3), -1);
    assert_int_equal(string_map_get(m, "a\0b", 3), 6);
    string_map_free(m);
    string_map_free(NULL);
}

static void on_report(void *state, const struct progress *p)
{
    *(int64_t *)state += p->done;
}

static void on_note(void *state, const char *line)
{
    *(int64_t *)state += (int64_t)strlen(line);
}

static void test_run(void **state)
{
    (void)state;
    int64_t sum = 0;
    volatile sig_atomic_t stop = 0;
    struct run r = {.report = on_report, .note = on_note, .state = &sum, .stop = &stop};
    run_report(&r, "phase", 5, 10, "steps", NAN);
    run_note(&r, "%d", 1234);
    assert_int_equal(sum, 9);
    assert_false(run_stopping(&r));
    stop = 1;
    assert_true(run_stopping(&r));
    run_report(NULL, "phase", 5, 10, "steps", NAN);
    run_note(NULL, "nobody");
    assert_false(run_stopping(NULL));
    int64_t t = clock_ms();
    assert_true(fabs(clock_s() - (double)t * 1e-3) < 1);
    assert_true(clock_unix_ms() > INT64_C(1600000000000));
}

/* ---- arrays larger than memory ---- */

static void test_spill(void **state)
{
    (void)state;
    struct spill small, large, none = {0};
    struct err e = {0};
    assert_int_equal(spill_alloc(&small, 1000, "/nowhere", &e), 0);
    assert_int_equal(spill_alloc_beyond(&large, 1 << 20, 1000, NULL, &e), 0);
    assert_false(small.mapped);
    assert_true(large.mapped);
    for (int i = 0; i < 1 << 20; i++)
        assert_int_equal(((char *)large.data)[i], 0);
    memset(large.data, 7, 1 << 20);
    assert_int_equal(((char *)large.data)[(1 << 20) - 1], 7);
    spill_free(&small);
    spill_free(&large);
    spill_free(&none);
    assert_null(large.data);
    assert_int_equal(spill_alloc_beyond(&large, 1 << 20, 1000, "/nowhere", &e), -1);
    assert_non_null(strstr(e.message, "/nowhere"));
    assert_int_equal(spill_alloc_beyond(&large, (size_t)1 << 60, 1000, NULL, &e), -1);
    assert_non_null(strstr(e.message, "1152921504606846976 bytes"));
}

/* A named array is there again, cut or longer. */
static void test_spill_named(void **state)
{
    (void)state;
    struct spill s;
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/array", folder);
    for (size_t size = 9000; size >= 3000; size -= 3000) {
        assert_int_equal(spill_named(&s, size, path, &e), 0);
        const char *bytes = s.data;
        assert_int_equal(bytes[0], size == 9000 ? 0 : 5);
        assert_int_equal(bytes[size - 1], size == 9000 ? 0 : 5);
        memset(s.data, 5, size);
        assert_int_equal(spill_sync(&s, &e), 0);
        spill_free(&s);
    }
    assert_int_equal(spill_named(&s, 5000, path, &e), 0);
    assert_int_equal(((char *)s.data)[2999], 5);
    assert_int_equal(((char *)s.data)[3000], 0);
    spill_free(&s);
    assert_int_equal(spill_named(&s, 5000, "/nowhere/array", &e), -1);
    assert_non_null(strstr(e.message, "/nowhere/array"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spill),
        cmocka_unit_test_setup_teardown(test_spill_named, enter, leave),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_err_is_cut_between_characters),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_str),
        cmocka_unit_test_setup_teardown(test_file_out, enter, leave),
        cmocka_unit_test_setup_teardown(test_file_errors, enter, leave),
        cmocka_unit_test_setup_teardown(test_full_disk, enter, leave),
        cmocka_unit_test_setup_teardown(test_remove_tree, enter, leave),
        cmocka_unit_test_setup_teardown(test_lines, enter, leave),
        cmocka_unit_test_setup_teardown(test_long_lines, enter, leave),
        cmocka_unit_test_setup_teardown(test_damaged_gzip, enter, leave),
        cmocka_unit_test_setup_teardown(test_line_bound, enter, leave),
        cmocka_unit_test_setup_teardown(test_lock, enter, leave),
        cmocka_unit_test_setup_teardown(test_lock_that_is_removed, enter, leave),
        cmocka_unit_test_setup_teardown(test_sha256, enter, leave),
        cmocka_unit_test(test_hash_bytes),
        cmocka_unit_test_setup_teardown(test_string_map, enter, leave),
        cmocka_unit_test(test_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
