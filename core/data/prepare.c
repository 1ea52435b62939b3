/* prepare.c: from published files to OUT: which files, which work is done already, and the one rename at the end.
 *
 * Work lies in OUT.work: `recipe` (what is being made, from which files with which sizes and times; another recipe throws the work away),
 * one NAME.done with its counts for each finished phase, and made/, which becomes OUT. A phase writes whole files only and its .done last,
 * so a kill at any point costs the running phase. OUT with an equal prepared.json is finished: its counts are shown again. */
#include "prepare_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LABEL_COLUMNS (COLUMN(COUNT_QUERIES) | COLUMN(COUNT_QUERIES + 2) | COLUMN(COUNT_LABELS) | COLUMN(COUNT_LABELS + 2))
#define DEV_COLUMNS (COLUMN(COUNT_QUERIES + 1) | COLUMN(COUNT_LABELS + 1))
#define HISTORY_COLUMNS (COLUMN(COUNT_USERS) | COLUMN(COUNT_HISTORIES) | COLUMN(COUNT_HISTORIES + 1) | COLUMN(COUNT_HISTORIES + 2))

static const struct prepare_set sets[] = {
    {"amazon", {"reviews_%_5.json", "meta_%.json"}, COLUMN(COUNT_DOCUMENTS) | HISTORY_COLUMNS, false, prepare_amazon},
    {"esci",
     {"*examples*.tsv|*examples*.jsonl|*examples*.json|*examples*.csv", "?*products*.tsv|*products*.jsonl|*products*.json|*products*.csv"},
     COLUMN(COUNT_DOCUMENTS) | LABEL_COLUMNS | DEV_COLUMNS,
     true,
     prepare_esci},
    {"nq", {"+*nq-train*.jsonl", "+*nq-dev*.jsonl"}, COLUMN(COUNT_DOCUMENTS) | LABEL_COLUMNS, false, prepare_nq},
    {"msmarco",
     {"collection.tsv", "queries.train.tsv", "qrels.train.tsv", "queries.dev.small.tsv|queries.dev.tsv",
      "qrels.dev.small.tsv|qrels.dev.tsv"},
     COLUMN(COUNT_DOCUMENTS) | LABEL_COLUMNS,
     false,
     prepare_msmarco},
    {"trec-dl",
     {"msmarco-test2019-queries.tsv", "2019qrels-pass.txt", "msmarco-test2020-queries.tsv", "2020qrels-pass.txt"},
     COLUMN(COUNT_DOCUMENTS) | LABEL_COLUMNS,
     true,
     prepare_trec_dl},
    {"beir",
     {"corpus.jsonl", "queries.jsonl", "?qrels/train.tsv", "?qrels/dev.tsv", "?qrels/test.tsv"},
     COLUMN(COUNT_DOCUMENTS) | LABEL_COLUMNS | DEV_COLUMNS,
     false,
     prepare_beir},
};

/* ---- the published files ---- */

static void add_path(struct prepare_paths *paths, char *path)
{
    paths->path = xrealloc(paths->path, (size_t)paths->count + 1, sizeof *paths->path);
    paths->path[paths->count++] = path;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All entries of the folder whose name, or name without .gz, fits the pattern; sorted. */
static int match_files(const char *folder, const char *pattern, struct prepare_paths *found, struct err *e)
{
    DIR *d = opendir(folder);
    struct dirent *entry;
    if (!d)
        return err_set(e, err_from_errno(errno), "%s: cannot be listed: %s", folder, strerror(errno));
    while ((entry = readdir(d))) {
        size_t n = strlen(entry->d_name);
        char *bare = xstrndup(entry->d_name, n > 3 && !strcmp(entry->d_name + n - 3, ".gz") ? n - 3 : n);
        if (fnmatch(pattern, bare, FNM_PERIOD) == 0)
            add_path(found, path_join(folder, entry->d_name));
        free(bare);
    }
    closedir(d);
    if (found->count)
        qsort(found->path, (size_t)found->count, sizeof *found->path, compare_paths);
    return 0;
}

/* One alternative, "qrels/test.tsv" or "reviews_%_5.json". */
static int match_pattern(struct prepare *p, const char *alternative, size_t size, struct prepare_paths *found, struct err *e)
{
    char *pattern = xstrndup(alternative, size), *slash = strchr(pattern, '/'), *percent = strchr(pattern, '%');
    char *below = xstrndup(pattern, slash ? (size_t)(slash - pattern) : 0), *folder = path_join(p->o->folder, below);
    char *name = xstrdup(slash ? slash + 1 : pattern);
    int rc = 0;
    if (percent) {
        free(name);
        name = xprintf("%.*s%s%s", (int)(percent - pattern), pattern, p->category ? p->category : "*", percent + 1);
    }
    if (!slash || file_exists(folder))
        rc = match_files(folder, name, found, e);
    free(below);
    free(folder);
    free(name);
    free(pattern);
    return rc;
}

/* "reviews_Beauty_5.json.gz" -> "Beauty". */
static void take_category(struct prepare *p, const char *path)
{
    const char *name = strrchr(path, '/') + 1, *start = strchr(name, '_'), *end = strstr(name, "_5.json");
    if (!p->category && start && end && end > start)
        p->category = xstrndup(start + 1, (size_t)(end - start - 1));
}

static int find_file(struct prepare *p, int i, struct err *e)
{
    const char *patterns = p->set->files[i];
    struct prepare_paths *found = &p->files[i];
    bool optional = *patterns == '?', many = *patterns == '+';
    patterns += optional || many;
    for (const char *a = patterns; found->count == 0 && *a;) {
        size_t n = strcspn(a, "|");
        if (match_pattern(p, a, n, found, e) < 0)
            return -1;
        a += n + (a[n] == '|');
    }
    if (found->count == 0 && !optional)
        return err_set(e, ERR_NO_INPUT, "%s: no file %s, plain or with .gz, is there%s", p->o->folder, patterns,
                       strchr(patterns, '%') ? " (% is the category)" : "");
    if (found->count > 1 && !many)
        return err_set(e, ERR_USAGE, "%s: %s and %s both fit%s", p->o->folder, strrchr(found->path[0], '/') + 1,
                       strrchr(found->path[1], '/') + 1, strchr(patterns, '%') ? "; --category NAME says which" : "; leave one there");
    if (strchr(patterns, '%'))
        take_category(p, found->path[0]);
    return 0;
}

/* The prepared folder's category is this one's, too. */
static void read_data_category(struct prepare *p)
{
    char *path = path_join(p->o->data, "prepared.json"), *text = file_read(path, 1 << 20, NULL, NULL);
    cJSON *object = text ? cJSON_Parse(text) : NULL;
    const char *category = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "category"));
    if (category && !p->category)
        p->category = xstrdup(category);
    cJSON_Delete(object);
    free(text);
    free(path);
}

static int find_data(struct prepare *p, struct err *e)
{
    static const char *const names[] = {"corpus.jsonl", "items.jsonl"};
    if (!p->o->data)
        return 0;
    if (!p->set->with_data)
        return err_set(e, ERR_USAGE, "--data: prepare %s takes no prepared folder; the published files' folder is the argument",
                       p->set->name);
    for (int i = 0; i < 2 && !p->data_documents; i++) {
        char *path = path_join(p->o->data, names[i]);
        if (file_exists(path))
            p->data_documents = path;
        else
            free(path);
    }
    if (!p->data_documents)
        return err_set(e, ERR_NO_INPUT, "%s: neither corpus.jsonl nor items.jsonl is there", p->o->data);
    char *sequences = path_join(p->o->data, "sequences.txt");
    p->data_sequences = file_exists(sequences) ? sequences : NULL;
    if (!p->data_sequences)
        free(sequences);
    read_data_category(p);
    return 0;
}

/* ---- what is made ---- */

static void add_file(cJSON *list, const char *path, struct str *times)
{
    struct stat st = {0};
    cJSON *file = cJSON_CreateObject();
    const char *slash = strrchr(path, '/');
    stat(path, &st);
    cJSON_AddStringToObject(file, "name", slash ? slash + 1 : path);
    cJSON_AddNumberToObject(file, "bytes", (double)st.st_size);
    cJSON_AddItemToArray(list, file);
    str_printf(times, "%s %lld.%09ld\n", path, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* What decides the bytes of OUT; times: of the files, which decide whether half-done work fits. */
static cJSON *make_recipe(const struct prepare *p, struct str *times)
{
    const struct prepare_options *o = p->o;
    cJSON *recipe = cJSON_CreateObject();
    cJSON_AddStringToObject(recipe, "set", p->set->name);
    if (p->category)
        cJSON_AddStringToObject(recipe, "category", p->category);
    cJSON_AddNumberToObject(recipe, "seed", (double)o->seed);
    cJSON_AddNumberToObject(recipe, "documents", (double)o->documents);
    cJSON_AddNumberToObject(recipe, "max_text", (double)o->max_text);
    cJSON_AddStringToObject(recipe, "histories", o->all_histories ? "all" : "five");
    cJSON *files = cJSON_AddArrayToObject(recipe, "files");
    for (int i = 0; i < PREPARE_FILES; i++)
        for (int j = 0; j < p->files[i].count; j++)
            add_file(files, p->files[i].path[j], times);
    if (p->data_documents)
        add_file(files, p->data_documents, times);
    return recipe;
}

int prepare_create(struct prepare *p, struct file_out *f, const char *name, struct err *e)
{
    char *path = path_join(p->made, name);
    int rc = file_out_open(f, path, e);
    free(path);
    return rc;
}

int prepare_create_work(struct prepare *p, struct file_out *f, const char *name, struct err *e)
{
    char *path = path_join(p->work, name);
    int rc = file_out_open(f, path, e);
    free(path);
    return rc;
}

int prepare_save(struct prepare *p, const char *name, const void *data, size_t size, struct err *e)
{
    char *path = path_join(p->work, name);
    int rc = file_write(path, data, size, e);
    free(path);
    return rc;
}

void *prepare_load(struct prepare *p, const char *name, size_t size, struct err *e)
{
    char *path = path_join(p->work, name);
    size_t have = 0;
    void *data = file_read(path, 0, &have, e);
    if (data && have != size) {
        err_set(e, ERR_DATA, "%s: %zu bytes, and %zu are needed; remove the folder to begin again", path, have, size);
        free(data);
        data = NULL;
    }
    free(path);
    return data;
}

int prepare_phase(struct prepare *p, const char *name, struct err *e)
{
    char *done = xprintf("%s/%s.done", p->work, name);
    int rc = 0;
    p->phase = name;
    memcpy(p->before, p->count, sizeof p->before);
    if (file_exists(done)) {
        char *text = file_read(done, 1 << 16, NULL, e);
        rc = text && prepare_counts_add(p, text, e) == 0 ? 1 : -1;
        free(text);
        if (rc == 1)
            run_note(p->run, "phase \"%s\" was done before", name);
    }
    free(done);
    return rc;
}

int prepare_phase_end(struct prepare *p, struct err *e)
{
    char *name = xprintf("%s.done", p->phase), *text = prepare_counts_text(p, true);
    int rc = prepare_save(p, name, text, strlen(text), e);
    free(text);
    free(name);
    return rc;
}

/* A killed run leaves files that were not put in place yet. */
static void remove_temporaries(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (strstr(entry->d_name, ".tmp."))
            unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
}

/* Keeps work of the same recipe, throws other work away. */
static int open_work(struct prepare *p, const char *recipe, struct err *e)
{
    char *path = path_join(p->work, "recipe"), *old = file_exists(path) ? file_read(path, 1 << 20, NULL, NULL) : NULL;
    char *qrels = path_join(p->made, "qrels");
    int rc = 0;
    if (!old || strcmp(old, recipe)) {
        if (old)
            run_note(p->run, "%s: was begun from other files or options; it begins again", p->work);
        rc = file_remove_tree(p->work, e);
    }
    if (rc == 0)
        rc = file_mkdirs(p->made, e);
    if (rc == 0 && (p->set->columns & COLUMN(COUNT_LABELS)))
        rc = file_mkdirs(qrels, e);
    remove_temporaries(p->work);
    remove_temporaries(p->made);
    remove_temporaries(qrels);
    if (rc == 0)
        rc = file_write(path, recipe, strlen(recipe), e);
    free(qrels);
    free(old);
    free(path);
    return rc;
}

/* The work folder's name becomes OUT. */
static int put_in_place(struct prepare *p, cJSON *recipe, struct err *e)
{
    char *path = path_join(p->made, "prepared.json");
    cJSON *counts = cJSON_AddObjectToObject(recipe, "counts");
    prepare_counts_json(p, counts);
    char *text = cJSON_Print(recipe), *line = xprintf("%s\n", text);
    int rc = file_write(path, line, strlen(line), e);
    free(line);
    if (rc == 0 && rename(p->made, p->o->out) < 0)
        rc = err_set(e, ERR_CANT_CREATE, "%s: cannot be put in place: %s", p->o->out, strerror(errno));
    if (rc == 0) {
        char *parent = xstrdup(p->o->out), *slash;
        while ((slash = strrchr(parent, '/')) && slash[1] == 0 && slash > parent)
            *slash = 0;
        if (slash)
            slash[slash == parent] = 0;
        rc = file_fsync_folder(slash ? parent : ".", e);
        free(parent);
    }
    if (rc == 0)
        rc = file_remove_tree(p->work, e);
    cJSON_free(text);
    free(path);
    return rc;
}

/* 1 = OUT is this preparation, finished: counts are taken; 0 = OUT is free; -1 = it holds something else. */
static int look_at_out(struct prepare *p, const cJSON *recipe, struct err *e)
{
    char *path = path_join(p->o->out, "prepared.json"), *text = NULL;
    int rc = 0;
    if (file_exists(path) && (text = file_read(path, 1 << 20, NULL, e))) {
        cJSON *made = cJSON_Parse(text), *counts = cJSON_DetachItemFromObjectCaseSensitive(made, "counts");
        rc = counts && cJSON_Compare(made, recipe, true) ? 1 : 0;
        if (rc == 1)
            prepare_counts_take(p, counts);
        cJSON_Delete(counts);
        cJSON_Delete(made);
    }
    DIR *d = rc == 0 ? opendir(p->o->out) : NULL;
    for (struct dirent *entry; d && rc == 0 && (entry = readdir(d));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            rc = err_set(e, ERR_CANT_CREATE, "%s: is there already and holds something else (%s); name another folder, or remove it",
                         p->o->out, text ? "a preparation from other files or options" : entry->d_name);
    if (d)
        closedir(d);
    free(text);
    free(path);
    return rc;
}

/* With the lock held. */
static int make_locked(struct prepare *p, cJSON *recipe, const char *whole_recipe, struct err *e)
{
    int rc = look_at_out(p, recipe, e);
    if (rc == 1) {
        run_note(p->run, "%s: is prepared already", p->o->out);
        return file_remove_tree(p->work, e); /* left when a kill came behind the rename */
    }
    if (rc < 0)
        return -1;
    if (open_work(p, whole_recipe, e) < 0 || p->set->run(p, e) < 0)
        return -1;
    return put_in_place(p, recipe, e);
}

/* Whoever waits for the lock looks at OUT after it got it, so that the lock's file may go with the work. */
static int make(struct prepare *p, struct err *e)
{
    struct str times = {0};
    cJSON *recipe = make_recipe(p, &times);
    char *text = cJSON_Print(recipe), *all = xprintf("%s\n%s", text, times.data ? times.data : ""),
         *lock_file = xprintf("%s.lock", p->work);
    int lock = -1, rc = lock_acquire(p->work, &lock, e);
    if (rc == 0 && (rc = make_locked(p, recipe, all, e)) == 0)
        unlink(lock_file);
    lock_release(lock);
    cJSON_free(text);
    free(all);
    free(lock_file);
    str_free(&times);
    cJSON_Delete(recipe);
    return rc;
}

static void print_counts(const struct prepare *p, struct str *out)
{
    if (!p->o->json) {
        prepare_counts_table(p, out);
        return;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "set", p->set->name);
    if (p->category)
        cJSON_AddStringToObject(object, "category", p->category);
    prepare_counts_json(p, object);
    char *text = cJSON_Print(object);
    str_printf(out, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(object);
}

static const struct prepare_set *find_set(const char *name, struct err *e)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, name) == 0)
            return &sets[i];
    err_set(e, ERR_USAGE, "'%s' is no data set; amazon, esci, nq, msmarco, trec-dl and beir are", name);
    return NULL;
}

static void free_paths(struct prepare *p)
{
    for (int i = 0; i < PREPARE_FILES; i++) {
        for (int j = 0; j < p->files[i].count; j++)
            free(p->files[i].path[j]);
        free(p->files[i].path);
    }
    free(p->category);
    free(p->data_documents);
    free(p->data_sequences);
    free(p->work);
    free(p->made);
}

/* "DIR/" and "DIR" are one folder, whose work lies beside it. */
static char *without_slash(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return xstrndup(path, n);
}

int prepare_run(const struct prepare_options *given, const struct run *run, struct str *out, struct err *e)
{
    struct prepare_options o = *given;
    struct prepare p = {.o = &o, .run = run, .set = find_set(given->set, e), .phase = "files"};
    if (!p.set)
        return -1;
    o.documents = o.documents ? o.documents : 1000000;
    o.max_text = o.max_text ? o.max_text : strcmp(o.set, "nq") ? 0 : 8192;
    char *bare = without_slash(o.out);
    o.out = bare;
    p.work = xprintf("%s.work", bare);
    p.made = path_join(p.work, "made");
    p.category = o.category ? xstrdup(o.category) : NULL;
    p.columns = p.set->columns;
    int rc = find_data(&p, e);
    for (int i = 0; rc == 0 && i < PREPARE_FILES && p.set->files[i]; i++)
        rc = find_file(&p, i, e);
    if (rc == 0)
        rc = make(&p, e);
    if (rc == 0) {
        print_counts(&p, out);
        rc = o.check ? prepare_counts_check(&p, out, e) : 0;
    }
    free_paths(&p);
    free(bare);
    return rc;
}
