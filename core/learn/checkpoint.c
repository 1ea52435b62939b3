/* checkpoint.c: see checkpoint.h for the promise.
 *
 * Layout: "SEMICKPT", version, section count, settings size, settings; then each section as name[64], size (u64), bytes; last the SHA-256
 * of all that as 64 hexadecimal digits. Sections are streamed, never gathered: a checkpoint of a large model must not need its memory
 * twice. Loading reads the file twice, once for the digest and once for the content: the second pass comes from the page cache, and what
 * it reads is known to be whole. Invariant: at every moment PATH or PATH.previous is a whole checkpoint once the first save has returned.
 * */
#include "checkpoint.h"

#include "../base/file.h"
#include "../base/hash.h"
#include "../base/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, DIGEST = 64, BLOCK = 1 << 20 };

static const char magic[8] = {'S', 'E', 'M', 'I', 'C', 'K', 'P', 'T'};

struct header {
    char magic[8];
    uint32_t version, sections;
    uint64_t settings;
};

struct section_header {
    char name[CHECKPOINT_NAME];
    uint64_t size;
};

/* ---- writing ---- */

struct sink {
    FILE *stream;
    struct sha256 *digest;
    bool failed;
};

static void sink_put(struct sink *s, const void *data, size_t size)
{
    if (s->failed || size == 0)
        return;
    sha256_add(s->digest, data, size);
    if (fwrite(data, 1, size, s->stream) != size)
        s->failed = true;
}

static void put_all(struct sink *s, const char *settings, const struct checkpoint_section *sections, int count)
{
    struct header h = {.version = VERSION, .sections = (uint32_t)count, .settings = strlen(settings)};
    memcpy(h.magic, magic, sizeof magic);
    sink_put(s, &h, sizeof h);
    sink_put(s, settings, h.settings);
    for (int i = 0; i < count; i++) {
        struct section_header sh = {.size = sections[i].size};
        CHECK(strlen(sections[i].name) < CHECKPOINT_NAME);
        memcpy(sh.name, sections[i].name, strlen(sections[i].name));
        sink_put(s, &sh, sizeof sh);
        sink_put(s, sections[i].data, sections[i].size);
    }
}

/* The checkpoint that is there becomes the previous one. A kill between this and the commit leaves PATH.previous, which loading finds. */
static int keep_previous(const char *path, struct err *e)
{
    char *previous = xprintf("%s.previous", path);
    int rc = rename(path, previous);
    if (rc != 0 && errno != ENOENT)
        rc = err_set(e, err_from_errno(errno), "%s: cannot be renamed to %s: %s", path, previous, strerror(errno));
    else
        rc = 0;
    free(previous);
    return rc;
}

int checkpoint_save(const char *path, const char *settings, const struct checkpoint_section *sections, int count, struct err *e)
{
    CHECK(count >= 0 && count <= CHECKPOINT_SECTIONS);
    struct file_out out;
    if (file_out_open(&out, path, e) != 0)
        return -1;
    struct sink s = {.stream = out.stream, .digest = sha256_begin()};
    put_all(&s, settings, sections, count);
    char hex[DIGEST + 1];
    sha256_end(s.digest, hex);
    if (s.failed || fwrite(hex, 1, DIGEST, out.stream) != DIGEST || fflush(out.stream) != 0) {
        int number = errno;
        file_out_cancel(&out);
        return err_set(e, err_from_errno(number), "%s: cannot be written: %s", path, strerror(number));
    }
    if (keep_previous(path, e) != 0) {
        file_out_cancel(&out);
        return -1;
    }
    return file_out_commit(&out, e);
}

/* ---- reading ---- */

static int damaged(struct err *e, const char *path, const char *what)
{
    return err_set(e, ERR_DATA, "%s: checkpoint is damaged: %s", path, what);
}

/* The digest over all but the last 64 bytes equals those bytes. Leaves the stream at the start. */
static int check_digest(FILE *f, const char *path, struct err *e)
{
    struct stat st;
    if (fstat(fileno(f), &st) != 0)
        return err_set(e, err_from_errno(errno), "%s: %s", path, strerror(errno));
    if ((size_t)st.st_size < sizeof(struct header) + DIGEST)
        return damaged(e, path, "it is shorter than its header");
    size_t left = (size_t)st.st_size - DIGEST;
    char *block = xmalloc(BLOCK), hex[DIGEST + 1], found[DIGEST + 1] = "";
    struct sha256 *digest = sha256_begin();
    while (left > 0) {
        size_t n = fread(block, 1, left < BLOCK ? left : BLOCK, f);
        if (n == 0)
            break;
        sha256_add(digest, block, n);
        left -= n;
    }
    sha256_end(digest, hex);
    bool whole = left == 0 && fread(found, 1, DIGEST, f) == DIGEST && memcmp(found, hex, DIGEST) == 0;
    free(block);
    rewind(f);
    return whole ? 0 : damaged(e, path, "its SHA-256 does not match its content (cut off or changed)");
}

/* Names the first line that differs between the stored and the wanted settings. */
static int settings_differ(struct err *e, const char *path, const char *stored, const char *wanted)
{
    while (*stored && *wanted) {
        size_t a = strcspn(stored, "\n"), b = strcspn(wanted, "\n");
        if (a != b || memcmp(stored, wanted, a) != 0)
            break;
        stored += a + (stored[a] == '\n');
        wanted += b + (wanted[b] == '\n');
    }
    return err_set(e, ERR_CONFLICT,
                   "%s: checkpoint of a run with other settings: it has \"%.*s\", this run has \"%.*s\"; give the same options, or "
                   "remove it",
                   path, (int)strcspn(stored, "\n"), stored, (int)strcspn(wanted, "\n"), wanted);
}

static int read_header(FILE *f, const char *path, const char *settings, struct header *h, struct err *e)
{
    if (fread(h, sizeof *h, 1, f) != 1 || memcmp(h->magic, magic, sizeof magic) != 0)
        return err_set(e, ERR_DATA, "%s: this is no checkpoint", path);
    if (h->version != VERSION)
        return err_set(e, ERR_DATA, "%s: checkpoint of version %u, this program reads version %d", path, h->version, VERSION);
    if (h->settings > 1 << 20 || h->sections > CHECKPOINT_SECTIONS)
        return damaged(e, path, "its header has impossible sizes");
    char *stored = xcalloc(h->settings + 1, 1);
    int rc = fread(stored, 1, h->settings, f) == h->settings ? 0 : damaged(e, path, "its settings are cut off");
    if (rc == 0 && strcmp(stored, settings) != 0)
        rc = settings_differ(e, path, stored, settings);
    free(stored);
    return rc;
}

static struct checkpoint_section *find(struct checkpoint_section *sections, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strncmp(sections[i].name, name, CHECKPOINT_NAME) == 0)
            return &sections[i];
    return NULL;
}

static int read_section(FILE *f, const char *path, struct checkpoint_section *s, uint64_t size, struct err *e)
{
    if (s->data == NULL) {
        s->data = xmalloc(size + 1);
        s->size = size;
    }
    if (s->size != size)
        return err_set(e, ERR_CONFLICT, "%s: section %s has %llu bytes, expected %zu", path, s->name, (unsigned long long)size, s->size);
    return fread(s->data, 1, size, f) == size ? 0 : damaged(e, path, "a section is cut off");
}

static int read_sections(FILE *f, const char *path, int stored, struct checkpoint_section *sections, int count, struct err *e)
{
    int found = 0;
    for (int i = 0; i < stored; i++) {
        struct section_header sh;
        if (fread(&sh, sizeof sh, 1, f) != 1)
            return damaged(e, path, "a section is cut off");
        sh.name[CHECKPOINT_NAME - 1] = 0;
        struct checkpoint_section *s = find(sections, count, sh.name);
        if (s == NULL) {
            if (fseeko(f, (off_t)sh.size, SEEK_CUR) != 0)
                return damaged(e, path, "a section is cut off");
            continue;
        }
        if (read_section(f, path, s, sh.size, e) != 0)
            return -1;
        found++;
    }
    return found == count ? 0 : err_set(e, ERR_DATA, "%s: checkpoint has %d of the %d sections that this run needs", path, found, count);
}

/* 1, 0 (absent), -1. */
static int load_one(const char *path, const char *settings, struct checkpoint_section *sections, int count, struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return errno == ENOENT ? 0 : err_set(e, err_from_errno(errno), "%s: %s", path, strerror(errno));
    struct header h;
    int rc = check_digest(f, path, e);
    if (rc == 0)
        rc = read_header(f, path, settings, &h, e);
    if (rc == 0)
        rc = read_sections(f, path, (int)h.sections, sections, count, e);
    fclose(f);
    return rc == 0 ? 1 : -1;
}

/* Gives back what load_one allocated before it failed. */
static void restore_wishes(struct checkpoint_section *sections, const struct checkpoint_section *wishes, int count)
{
    for (int i = 0; i < count; i++)
        if (wishes[i].data == NULL)
            free(sections[i].data);
    memcpy(sections, wishes, (size_t)count * sizeof *sections);
}

int checkpoint_load(const char *path, const char *settings, struct checkpoint_section *sections, int count, const struct run *run,
                    struct err *e)
{
    struct checkpoint_section *wishes = xcalloc((size_t)count + 1, sizeof *wishes);
    memcpy(wishes, sections, (size_t)count * sizeof *wishes);
    char *previous = xprintf("%s.previous", path);
    struct err first = {0}, second = {0};
    int rc = load_one(path, settings, sections, count, &first);
    if (rc == 0 || (rc < 0 && first.code == ERR_DATA)) {
        restore_wishes(sections, wishes, count);
        int older = load_one(previous, settings, sections, count, &second);
        if (older < 0)
            restore_wishes(sections, wishes, count);
        if (rc < 0 && older > 0)
            run_note(run, "%s; going on from %s", first.message, previous);
        if (older > 0 || (rc == 0 && older < 0)) {
            rc = older;
            first = second;
        }
    } else if (rc < 0) {
        restore_wishes(sections, wishes, count);
    }
    if (rc < 0)
        err_set(e, first.code, "%s%s", first.message, first.code == ERR_DATA ? "; remove it to start afresh" : "");
    free(previous);
    free(wishes);
    return rc;
}

void checkpoint_remove(const char *path)
{
    char *previous = xprintf("%s.previous", path);
    (void)remove(path);
    (void)remove(previous);
    free(previous);
}
