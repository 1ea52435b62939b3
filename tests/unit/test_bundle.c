/* test_bundle.c: the manifest against every changed byte, changes that never end, concurrent changes; ids.tsv and code layouts.
 *
 * A kill is played by a child process that leaves at a chosen step without any clean-up: what it left on disk is what a kill leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/model/bundle.h"

static char folder[64];
static char *place; /* folder/bundle */

static int enter(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-bundle-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    place = path_join(folder, "bundle");
    return 0;
}

static int leave(void **state)
{
    (void)state;
    free(place);
    return file_remove_tree(folder, NULL);
}

/* In place and without fsync, as there are thousands. */
static void overwrite(const char *path, const char *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

static void put(struct bundle *b, const char *name, const char *text)
{
    struct err e = {0};
    assert_int_equal(bundle_put(b, name, text, strlen(text), &e), 0);
}

static void make_bundle(void)
{
    struct err e = {0};
    struct bundle *b = bundle_create(place, false, &e);
    assert_non_null(b);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "tokenizer.model", "the tokenizer");
    put(b, "search.safetensors", "the weights");
    put(b, "ids.tsv", "a\t1-2\n");
    put(b, "popular.tsv", "");
    assert_int_equal(bundle_commit(b, &e), 0);
    bundle_close(b);
}

static void expect_file(const struct bundle *b, const char *name, const char *want)
{
    char *text = file_read(bundle_file(b, name), 0, NULL, NULL), hex[65];
    assert_non_null(text);
    assert_string_equal(text, want);
    sha256_hex(want, strlen(want), hex);
    assert_string_equal(bundle_sha256(b, name), hex);
    free(text);
}

static int files_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    struct dirent *entry;
    while (d && (entry = readdir(d)))
        n += entry->d_name[0] != '.' && strcmp(entry->d_name, "bundle.lock") != 0;
    if (d)
        closedir(d);
    return n;
}

static void test_create_and_open(void **state)
{
    (void)state;
    struct err e = {0};
    char id[65], all[65], again[65];
    make_bundle();
    struct bundle *b = bundle_open(place, &e);
    assert_non_null(b);
    assert_string_equal(bundle_folder(b), place);
    expect_file(b, "search.safetensors", "the weights");
    expect_file(b, "popular.tsv", "");
    assert_null(bundle_file(b, "indexer.safetensors"));
    assert_null(bundle_sha256(b, "indexer.safetensors"));
    bundle_id_digest(b, id);
    bundle_digest(b, all);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "popular.tsv", "x\t3\n");
    assert_int_equal(bundle_commit(b, &e), 0);
    bundle_id_digest(b, again);
    assert_string_equal(id, again);
    bundle_digest(b, again);
    assert_string_not_equal(all, again);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "ids.tsv", "a\t1-3\n");
    assert_int_equal(bundle_commit(b, &e), 0);
    bundle_id_digest(b, again);
    assert_string_not_equal(id, again);
    assert_int_equal(files_in(place), 5);
    bundle_close(b);
    bundle_close(NULL);
}

static void test_create_refuses(void **state)
{
    (void)state;
    struct err e = {0};
    make_bundle();
    assert_null(bundle_create(place, false, &e));
    assert_int_equal(e.code, ERR_CANT_CREATE);
    char *file = path_join(folder, "letter.txt");
    assert_int_equal(file_write(file, "dear", 4, &e), 0);
    assert_null(bundle_create(folder, true, &e));
    assert_non_null(strstr(e.message, "neither empty nor a model bundle"));
    assert_null(bundle_create(file, true, &e));
    assert_null(bundle_open(file, &e));
    assert_null(bundle_open(folder, &e));
    assert_non_null(strstr(e.message, "not a model bundle"));
    free(file);
    file = path_join(folder, "absent");
    assert_null(bundle_open(file, &e));
    assert_int_equal(e.code, ERR_NO_INPUT);
    struct bundle *b = bundle_create(file, false, &e);
    bundle_close(b);
    assert_false(file_exists(file)); /* nothing was committed, so nothing stays */
    free(file);
}

static void test_replace(void **state)
{
    (void)state;
    struct err e = {0};
    make_bundle();
    struct bundle *b = bundle_create(place, true, &e);
    assert_non_null(b);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "search.safetensors", "other weights");
    struct bundle *reader = bundle_open(place, &e); /* until the commit the old one is there, whole */
    assert_non_null(reader);
    expect_file(reader, "search.safetensors", "the weights");
    bundle_close(reader);
    assert_int_equal(bundle_commit(b, &e), 0);
    expect_file(b, "search.safetensors", "other weights");
    assert_null(bundle_file(b, "ids.tsv"));
    assert_int_equal(files_in(place), 2);
    bundle_close(b);
}

static void test_put_drop_abandon(void **state)
{
    (void)state;
    struct err e = {0};
    make_bundle();
    struct bundle *b = bundle_open(place, &e);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "ids.tsv", "second");
    put(b, "ids.tsv", "third"); /* the same file of the same change */
    put(b, "base.json", "{}");
    bundle_drop(b, "base.json");
    bundle_drop(b, "recommend.json");
    expect_file(b, "ids.tsv", "a\t1-2\n");
    bundle_abandon(b);
    assert_int_equal(files_in(place), 5);
    expect_file(b, "ids.tsv", "a\t1-2\n");
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "ids.tsv", "third");
    bundle_drop(b, "popular.tsv");
    assert_int_equal(bundle_commit(b, &e), 0);
    expect_file(b, "ids.tsv", "third");
    assert_null(bundle_file(b, "popular.tsv"));
    assert_int_equal(files_in(place), 4);
    assert_int_equal(bundle_begin(b, &e), 0);
    free(bundle_path(b, "base.json")); /* announced, never written */
    assert_int_equal(bundle_commit(b, &e), -1);
    assert_non_null(strstr(e.message, "base.json"));
    bundle_close(b);
    b = bundle_open(place, &e);
    expect_file(b, "ids.tsv", "third");
    bundle_close(b);
}

static void flip_every_byte(const char *path, const char *name)
{
    struct err e = {0};
    size_t size;
    char *bytes = file_read(path, 0, &size, &e);
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            bytes[i] ^= (char)(1 << bit);
            overwrite(path, bytes, size);
            assert_null(bundle_open(place, &e));
            assert_non_null(strstr(e.message, name));
            bytes[i] ^= (char)(1 << bit);
        }
    for (size_t n = 0; n < size; n++) {
        overwrite(path, bytes, n);
        assert_null(bundle_open(place, &e));
    }
    overwrite(path, bytes, size);
    free(bytes);
}

static void test_every_change_is_found(void **state)
{
    (void)state;
    struct err e = {0};
    static const char *const names[] = {"tokenizer.model", "search.safetensors", "ids.tsv", "bundle.json"};
    make_bundle();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(place, names[i]);
        flip_every_byte(path, names[i]);
        free(path);
    }
    char *path = path_join(place, "ids.tsv");
    unlink(path);
    assert_null(bundle_open(place, &e));
    assert_non_null(strstr(e.message, "ids.tsv"));
    free(path);
}

static void expect_manifest_refused(const char *json, const char *why)
{
    struct err e = {0};
    char *path = path_join(place, "bundle.json");
    overwrite(path, json, strlen(json));
    assert_null(bundle_open(place, &e));
    assert_int_equal(e.code, ERR_DATA);
    if (!strstr(e.message, why))
        fail_msg("\"%s\" lacks \"%s\"", e.message, why);
    free(path);
}

static void test_hostile_manifest(void **state)
{
    (void)state;
    make_bundle();
    expect_manifest_refused("", "not JSON");
    expect_manifest_refused("[1]", "not JSON");
    expect_manifest_refused("{\"format\":\"zip\",\"version\":1}", "format is \"zip\"");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":2,\"parts\":{},\"files\":{}}", "version 2: this program reads version 1");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":1,\"files\":{}}", "parts is missing");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":1,\"parts\":{\"ids.tsv\":\"../../etc/passwd\"},\"files\":{},\"digest\":\"\"}",
                            "\"../../etc/passwd\" is not a name for it");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":1,\"parts\":{\"x.tsv\":\"x.tsv\"},\"files\":{},\"digest\":\"\"}",
                            "\"x.tsv\" is no file of a bundle");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":1,\"parts\":{\"ids.tsv\":\"base.json\"},\"files\":{},\"digest\":\"\"}",
                            "is not a name for it");
    expect_manifest_refused("{\"format\":\"semindex-bundle\",\"version\":1,\"parts\":{\"ids.tsv\":\"ids.tsv.7\"},\"files\":{\"ids.tsv.7\":"
                            "{\"bytes\":-1,\"sha256\":\"00\"}},\"digest\":\"\"}",
                            "ids.tsv.7: needs bytes and a sha256");
}

/* The steps after which a change may be killed. */
static void die_at(int step)
{
    struct bundle *b = bundle_open(place, NULL);
    if (!b || bundle_begin(b, NULL) < 0)
        _exit(1);
    if (step > 0 && bundle_put(b, "ids.tsv", "new", 3, NULL) < 0)
        _exit(1);
    if (step > 1) { /* half a temporary file, as a kill inside of a write leaves it */
        char *path = bundle_path(b, "search.safetensors");
        struct file_out f;
        if (file_out_open(&f, path, NULL) < 0 || fputs("half", f.stream) < 0 || fflush(f.stream) != 0)
            _exit(1);
    }
    if (step > 2) {
        char *path = path_join(place, "bundle.json");
        struct file_out f;
        if (file_out_open(&f, path, NULL) < 0 || fputs("{\"form", f.stream) < 0 || fflush(f.stream) != 0)
            _exit(1);
    }
    _exit(0);
}

static void test_kill_between_steps(void **state)
{
    (void)state;
    struct err e = {0};
    make_bundle();
    for (int step = 0; step < 4; step++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            die_at(step);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        struct bundle *b = bundle_open(place, &e);
        assert_non_null(b);
        expect_file(b, "ids.tsv", "a\t1-2\n");
        bundle_close(b);
    }
    assert_true(files_in(place) > 5);
    struct bundle *b = bundle_open(place, &e);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "ids.tsv", "newer");
    assert_int_equal(bundle_commit(b, &e), 0);
    expect_file(b, "ids.tsv", "newer");
    bundle_close(b);
    b = bundle_open(place, &e);
    assert_non_null(b);
    expect_file(b, "ids.tsv", "newer");
    bundle_close(b);
    char *manifest = path_join(place, "bundle.json");
    unlink(manifest); /* a first commit that never came: the folder may be used again */
    b = bundle_create(place, false, &e);
    assert_non_null(b);
    assert_int_equal(bundle_begin(b, &e), 0);
    put(b, "ids.tsv", "fresh");
    assert_int_equal(bundle_commit(b, &e), 0);
    expect_file(b, "ids.tsv", "fresh");
    bundle_close(b);
    free(manifest);
}

static void test_two_writers(void **state)
{
    (void)state;
    struct err e = {0};
    make_bundle();
    struct bundle *a = bundle_open(place, &e), *b = bundle_open(place, &e);
    assert_int_equal(bundle_begin(a, &e), 0);
    assert_int_equal(bundle_begin(b, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    put(a, "recommend.json", "of a");
    assert_int_equal(bundle_commit(a, &e), 0);
    assert_int_equal(bundle_begin(b, &e), 0); /* b was opened before a's commit, and must keep what a added */
    put(b, "base.json", "of b");
    assert_int_equal(bundle_commit(b, &e), 0);
    expect_file(b, "recommend.json", "of a");
    expect_file(b, "base.json", "of b");
    bundle_close(a);
    bundle_close(b);
}

/* Root writes everywhere: in a child that is nobody. 0 when the change was refused for the right reason. */
static int begin_as_nobody(void)
{
    struct err e = {0};
    if (geteuid() == 0 && setuid(65534) != 0)
        return 1;
    struct bundle *b = bundle_open(place, &e);
    return b != NULL && bundle_begin(b, &e) == -1 && e.code == ERR_NO_PERM ? 0 : 2;
}

static void test_read_only(void **state)
{
    (void)state;
    int status;
    make_bundle();
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(place, 0555), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(begin_as_nobody());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(chmod(place, 0700), 0);
}

static const struct code_layout small = {.base = 160, .positions = 3, .codes = {16, 16, 40}};

static int read_ids(const char *text, size_t size, const struct code_layout *layout, struct id_table *t, struct err *e)
{
    char *path = path_join(folder, "ids.tsv");
    overwrite(path, text, size);
    int rc = id_table_read(t, path, layout, e);
    assert_true(rc == 0 || strstr(e->message, path));
    free(path);
    return rc;
}

static void test_id_table(void **state)
{
    (void)state;
    struct err e = {0};
    struct id_table t;
    static const char text[] = "D1\t10-8-0\ncaf\xc3\xa9 x\t0-0-39\n\nD3\t15-15-1\n";
    assert_int_equal(read_ids(text, strlen(text), &small, &t, &e), 0);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.positions, 3);
    assert_string_equal(t.name[1], "caf\xc3\xa9 x");
    assert_int_equal(t.codes[5], 39);
    char *out = path_join(folder, "out.tsv");
    assert_int_equal(id_table_write(&t, out, &e), 0);
    char *again = file_read(out, 0, NULL, &e);
    assert_string_equal(again, "D1\t10-8-0\ncaf\xc3\xa9 x\t0-0-39\nD3\t15-15-1\n");
    id_table_free(&t);
    id_table_free(&t);
    assert_int_equal(id_table_read(&t, out, NULL, &e), 0);
    assert_int_equal(t.positions, 3);
    id_table_free(&t);
    free(again);
    free(out);
}

static void test_bad_ids(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "has no documents"},
        {"a\t1-1-1\nb\t2-1-1\na\t3-1-1\n", "line 3: document \"a\" is there twice, first on line 1"},
        {"a\t1-1-1\n\nb\t1-1-1\n", "line 3: ID 1-1-1 is given twice, first on line 1"},
        {"a\t16-1-1\n", "line 1: code 16 at position 1 is out of range: that position has codes 0 to 15"},
        {"a\t1-1-40\n", "code 40 at position 3"},
        {"a\t1-1-99999999999999999999\n", "is not an ID"},
        {"a\t1-1\n", "line 1: 2 codes, expected 3"},
        {"a\t1-1-1-1\n", "line 1: 4 codes, expected 3"},
        {"a\t1-1-1\tx\n", "line 1: more than 2 columns, expected 2"},
        {"a 1-1-1\n", "line 1: 1 columns, expected 2"},
        {"a\t1--1\n", "\"1--1\" is not an ID"},
        {"a\t-1-1-1\n", "is not an ID"},
        {"a\t01-1-1\n", "is not an ID"},
        {"a\t1-1-1 \n", "is not an ID"},
        {"a\t\n", "is not an ID"},
        {"\t1-1-1\n", "line 1: name: is empty"},
        {"a\x01\t1-1-1\n", "line 1: name: has the control character U+0001"},
        {"a\xff\t1-1-1\n", "line 1: name: is not UTF-8"},
        {"a\t0-0-0-0-0-0-0-0-0-0-0-0-0-0-0-0-0\n", "more than 16 codes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct id_table t;
        assert_int_equal(read_ids(cases[i].text, strlen(cases[i].text), &small, &t, &e), -1);
        if (!strstr(e.message, cases[i].why))
            fail_msg("\"%s\" lacks \"%s\"", e.message, cases[i].why);
        assert_int_equal(t.count, 0);
    }
    struct err e = {0};
    struct id_table t;
    assert_int_equal(read_ids("a\0b\t1-1-1\n", 10, &small, &t, &e), -1);
    assert_non_null(strstr(e.message, "NUL"));
}

static void test_code_layout(void **state)
{
    (void)state;
    struct err e = {0};
    struct code_layout l;
    assert_int_equal(code_layout_first(&small, 0), 0);
    assert_int_equal(code_layout_first(&small, 2), 32);
    assert_int_equal(code_layout_total(&small), 72);
    char *text = code_layout_print(&small);
    assert_string_equal(text, "{\"base\":160,\"positions\":3,\"codes\":[16,16,40]}");
    assert_int_equal(code_layout_parse(&l, text, "x", &e), 0);
    assert_memory_equal(&l, &small, sizeof l);
    free(text);
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"", "x: not a JSON object"},
        {"[]", "x: not a JSON object"},
        {"{\"positions\":1,\"codes\":[1]}", "base: missing"},
        {"{\"base\":0,\"positions\":1,\"codes\":[1]}", "base: 0 is not an integer between 1 and"},
        {"{\"base\":1e99,\"positions\":1,\"codes\":[1]}", "base: 1e+99 is not"},
        {"{\"base\":\"7\",\"positions\":1,\"codes\":[1]}", "base: not a number"},
        {"{\"base\":7,\"positions\":17,\"codes\":[1]}", "positions: 17 is not an integer between 1 and 16"},
        {"{\"base\":7,\"positions\":1.5,\"codes\":[1]}", "positions: 1.5 is not"},
        {"{\"base\":7,\"positions\":2,\"codes\":[1]}", "codes: 1 entries, but positions is 2"},
        {"{\"base\":7,\"positions\":2,\"codes\":7}", "codes: not an array"},
        {"{\"base\":7,\"positions\":2,\"codes\":[5,0]}", "codes[1]: 0 is not an integer between 1 and"},
        {"{\"base\":7,\"positions\":2,\"codes\":[5,-3]}", "codes[1]: -3 is not"},
        {"{\"base\":7,\"positions\":2,\"codes\":[null,3]}", "codes[0]: not a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(code_layout_parse(&l, cases[i].json, "x", &e), -1);
        if (!strstr(e.message, cases[i].why))
            fail_msg("\"%s\" lacks \"%s\"", e.message, cases[i].why);
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_create_and_open),       IN_FOLDER(test_create_refuses), IN_FOLDER(test_replace),
        IN_FOLDER(test_put_drop_abandon),      IN_FOLDER(test_every_change_is_found), IN_FOLDER(test_hostile_manifest),
        IN_FOLDER(test_kill_between_steps),    IN_FOLDER(test_two_writers),    IN_FOLDER(test_read_only),
        IN_FOLDER(test_id_table),              IN_FOLDER(test_bad_ids),        cmocka_unit_test(test_code_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
