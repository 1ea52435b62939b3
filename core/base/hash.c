/* hash.c: SHA-256 by GnuTLS, a stable 64-bit hash, and the map from ids to numbers.
 *
 * hash_bytes folds 64 x 64 -> 128-bit products over little-endian words; its values are written to files (hint seeds, splits), so they must
 * never change: tests/unit/test_base.c pins some. The map is open addressing with linear probing over a power of two, at most 5/8 full; keys
 * live in one arena, a slot keeps the hash, so growing never reads keys. Ids come from strangers: every map hashes with a random seed of its
 * own, which nobody outside can see, as no order is ever shown. */
#include "hash.h"
#include "file.h"
#include "mem.h"
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct sha256 {
    gnutls_hash_hd_t handle;
};

struct sha256 *sha256_begin(void)
{
    struct sha256 *s = xmalloc(sizeof *s);
    int rc = gnutls_hash_init(&s->handle, GNUTLS_DIG_SHA256);
    if (rc < 0)
        die("SHA-256 cannot be started: %s", gnutls_strerror(rc));
    return s;
}

void sha256_add(struct sha256 *s, const void *data, size_t size)
{
    int rc = size ? gnutls_hash(s->handle, data, size) : 0;
    if (rc < 0)
        die("SHA-256 failed: %s", gnutls_strerror(rc));
}

void sha256_end(struct sha256 *s, char hex[65])
{
    unsigned char digest[32];
    gnutls_hash_deinit(s->handle, digest);
    free(s);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void sha256_hex(const void *data, size_t size, char hex[65])
{
    struct sha256 *s = sha256_begin();
    sha256_add(s, data, size);
    sha256_end(s, hex);
}

static int add_whole_file(struct sha256 *s, int fd, const char *path, int64_t *bytes, struct err *e)
{
    enum { PIECE = 1 << 18 };
    char *piece = xmalloc(PIECE);
    int64_t total = 0;
    ssize_t n;
    while ((n = read(fd, piece, PIECE)) != 0) {
        if (n > 0) {
            sha256_add(s, piece, (size_t)n);
            total += n;
        } else if (errno != EINTR) {
            break;
        }
    }
    free(piece);
    if (n < 0)
        return err_set(e, err_from_errno(errno), "%s: cannot be read: %s", path, strerror(errno));
    if (bytes)
        *bytes = total;
    return 0;
}

int sha256_file(const char *path, char hex[65], int64_t *bytes, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, err_from_errno(errno), "%s: cannot be opened: %s", path, strerror(errno));
    struct sha256 *s = sha256_begin();
    int rc = add_whole_file(s, fd, path, bytes, e);
    sha256_end(s, hex);
    close(fd);
    return rc;
}

static uint64_t load_le(const unsigned char *p, size_t n)
{
    uint64_t w = 0;
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)p[i] << (8 * i);
    return w;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t absorb(uint64_t h, uint64_t word)
{
    return fold(h ^ word ^ 0x9e3779b97f4a7c15u, (h << 32 | h >> 32) ^ 0xd1b54a32d192ed03u) ^ h;
}

uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = absorb(seed, size);
    size_t left = size;
    for (; left >= 8; left -= 8, p += 8)
        h = absorb(h, load_le(p, 8));
    if (left)
        h = absorb(h, load_le(p, left));
    return absorb(h, 0xaef17502108ef2d9u);
}

struct slot {
    const char *key; /* NULL = free; owned by the map's arena */
    uint64_t hash;
    uint32_t size;
    int32_t value;
};

struct string_map {
    struct slot *slots;
    uint64_t mask; /* slots - 1 */
    int64_t count;
    uint64_t seed;
    struct arena keys;
};

struct string_map *string_map_init(int64_t expected)
{
    struct string_map *m = xcalloc(1, sizeof *m);
    uint64_t slots = 16;
    while (slots / 8 * 5 < (uint64_t)(expected > 0 ? expected : 0))
        slots *= 2;
    m->slots = xcalloc(slots, sizeof *m->slots);
    m->mask = slots - 1;
    if (getrandom(&m->seed, sizeof m->seed, 0) != sizeof m->seed)
        m->seed = (uint64_t)(uintptr_t)m;
    arena_init(&m->keys, 0);
    return m;
}

void string_map_free(struct string_map *m)
{
    if (!m)
        return;
    arena_free(&m->keys);
    free(m->slots);
    free(m);
}

/* The slot that holds the key, or the free slot where it belongs. */
static struct slot *find_slot(const struct string_map *m, const char *key, size_t size, uint64_t hash)
{
    for (uint64_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        struct slot *s = &m->slots[i];
        if (!s->key || (s->hash == hash && s->size == size && (size == 0 || memcmp(s->key, key, size) == 0)))
            return s;
    }
}

static void grow(struct string_map *m)
{
    struct slot *old = m->slots;
    uint64_t count = m->mask + 1;
    m->slots = xcalloc(count * 2, sizeof *m->slots);
    m->mask = count * 2 - 1;
    for (uint64_t i = 0; i < count; i++) {
        if (!old[i].key)
            continue;
        uint64_t at = old[i].hash & m->mask;
        while (m->slots[at].key)
            at = (at + 1) & m->mask;
        m->slots[at] = old[i];
    }
    free(old);
}

int string_map_put(struct string_map *m, const char *key, size_t size, int32_t value)
{
    CHECK(size <= UINT32_MAX);
    if ((uint64_t)m->count >= (m->mask + 1) / 8 * 5)
        grow(m);
    uint64_t hash = hash_bytes(key, size, m->seed);
    struct slot *s = find_slot(m, key, size, hash);
    if (s->key)
        return 0;
    *s = (struct slot){arena_strndup(&m->keys, key, size), hash, (uint32_t)size, value};
    m->count++;
    return 1;
}

int32_t string_map_get(const struct string_map *m, const char *key, size_t size)
{
    const struct slot *s = find_slot(m, key, size, hash_bytes(key, size, m->seed));
    return s->key ? s->value : -1;
}

int64_t string_map_count(const struct string_map *m)
{
    return m->count;
}
