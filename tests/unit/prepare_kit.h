/* prepare_kit.h: what the tests of `semindex prepare` share: a folder of small published files, a run whose notes are kept, and looks at
 * what was made. Everything lies in one temporary folder: raw/ in, any other name out. */
#ifndef SEMINDEX_PREPARE_KIT_H
#define SEMINDEX_PREPARE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cmocka.h>

#include "../../core/base/file.h"
#include "../../core/base/hash.h"
#include "../../core/data/corpus.h"
#include "../../core/data/prepare.h"

static char kit_folder[64];
static struct str kit_notes, kit_table;
static struct err kit_error;
static const char *kit_stop_phase; /* the run is asked to stop when this phase reports */
static volatile sig_atomic_t kit_stop;

static inline int kit_open(void **state)
{
    (void)state;
    strcpy(kit_folder, P_tmpdir "/semindex-prepare-XXXXXX");
    return mkdtemp(kit_folder) ? 0 : -1;
}

static inline int kit_close(void **state)
{
    (void)state;
    str_free(&kit_notes);
    str_free(&kit_table);
    return file_remove_tree(kit_folder, NULL);
}

static inline char *kit_path(const char *name)
{
    static char path[8][256];
    static int at;
    char *p = path[at++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", kit_folder, name);
    return p;
}

static inline void kit_put(const char *name, const char *text)
{
    char *path = kit_path(name), *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    assert_int_equal(file_mkdirs(folder, NULL), 0);
    assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
    free(folder);
}

static inline void kit_put_gzip(const char *name, const char *text)
{
    kit_put(name, "");
    gzFile f = gzopen(kit_path(name), "wb");
    assert_int_equal(gzwrite(f, text, (unsigned)strlen(text)), (int)strlen(text));
    gzclose(f);
}

static inline char *kit_get(const char *name) /* one at a time */
{
    static char *text;
    free(text);
    text = file_read(kit_path(name), 0, NULL, &kit_error);
    if (!text)
        fail_msg("%s", kit_error.message);
    return text;
}

static inline void kit_note(void *state, const char *line)
{
    (void)state;
    str_printf(&kit_notes, "%s\n", line);
}

static inline void kit_report(void *state, const struct progress *p)
{
    (void)state;
    if (kit_stop_phase && strcmp(kit_stop_phase, p->phase) == 0)
        kit_stop = 1;
}

/* Runs with paths relative to the kit's folder; errors, notes and the table are kept. */
static inline int kit_run(struct prepare_options o)
{
    struct run run = {.note = kit_note, .report = kit_report, .stop = &kit_stop};
    str_clear(&kit_notes);
    str_clear(&kit_table);
    str_append(&kit_notes, "", 0);
    str_append(&kit_table, "", 0);
    kit_error = (struct err){0};
    kit_stop = 0;
    o.folder = kit_path(o.folder ? o.folder : "raw");
    o.out = kit_path(o.out ? o.out : "out");
    o.data = o.data ? kit_path(o.data) : NULL;
    return prepare_run(&o, &run, &kit_table, &kit_error);
}

#define assert_runs(...)                                                                                                                   \
    do {                                                                                                                                   \
        if (kit_run((struct prepare_options)__VA_ARGS__) != 0)                                                                             \
            fail_msg("%s", kit_error.message);                                                                                             \
    } while (0)
#define assert_has(text, part)                                                                                                             \
    do {                                                                                                                                   \
        if (!strstr(text, part))                                                                                                           \
            fail_msg("\"%s\" is not in:\n%s", part, text);                                                                                 \
    } while (0)
#define assert_has_not(text, part) assert_null(strstr(text, part))

#endif
