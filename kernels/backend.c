/* backend.c: finds a backend by name.
 *
 * The cpu is part of the program. Cuda lies in a shared object, semindex-cuda.so, loaded only when somebody asks for it, so that the same
 * program runs where neither CUDA nor a GPU is. It is looked for where SEMINDEX_CUDA_MODULE says, else beside the program (a build folder),
 * else in ../lib/semindex (an installation). "auto" takes cuda where it opens and the cpu elsewhere, and says why. That a machine lacks a
 * device is no error of ours, so it travels as a message. An emulated build (SEMINDEX_EMU) has the module's code linked in instead; it is
 * for tests, so "auto" never takes it. */
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

struct place { /* what a person asked for */
    int threads, index; /* index: -1 when the name has none */
};

#ifdef SEMINDEX_EMU
const struct backend *cuda_backend_open(int index, char *message, size_t message_size);

static const struct backend *open_cuda(const struct place *p, char *message, size_t message_size)
{
    return cuda_backend_open(p->index < 0 ? 0 : p->index, message, message_size);
}

static const struct backend *open_auto(const struct place *p, char *message, size_t message_size)
{
    const struct backend *found = cpu_open(p->threads, message, message_size);
    if (found)
        snprintf(message, message_size, "an emulated device is taken only by name");
    return found;
}
#else
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

/* Folder of the running program plus tail, or "" when that cannot be known or does not exist. */
static void path_beside(char path[PATH_MAX], const char *tail)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (slash && (size_t)(slash + 1 - path) + strlen(tail) < PATH_MAX)
        memcpy(slash + 1, tail, strlen(tail) + 1);
    if (!slash || access(path, R_OK) != 0)
        path[0] = 0;
}

static bool find_module(char path[PATH_MAX])
{
    const char *said = getenv("SEMINDEX_CUDA_MODULE");
    if (said && *said) {
        snprintf(path, PATH_MAX, "%s", said);
        return true;
    }
    path_beside(path, "semindex-cuda.so");
    if (!path[0])
        path_beside(path, "../lib/semindex/semindex-cuda.so");
    return path[0] != 0;
}

/* Loaded once and kept: a CUDA context does not survive an unload. */
static const struct backend_module *load_module(char *message, size_t message_size)
{
    static const struct backend_module *module;
    char path[PATH_MAX];
    if (module)
        return module;
    if (!find_module(path)) {
        snprintf(message, message_size, "no CUDA module: semindex-cuda.so is neither beside the program nor in ../lib/semindex");
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct backend_module *found = handle ? dlsym(handle, "semindex_backend_module") : NULL;
    if (!found)
        snprintf(message, message_size, "%s", dlerror());
    else if (found->abi != SEMINDEX_BACKEND_ABI || found->size != sizeof(struct backend))
        snprintf(message, message_size, "%.300s belongs to another build of semindex (%08x, this is %08x): install the two together", path,
                 found->abi, SEMINDEX_BACKEND_ABI);
    else
        return module = found;
    if (handle)
        dlclose(handle);
    return NULL;
}

static const struct backend *open_cuda(const struct place *p, char *message, size_t message_size)
{
    const struct backend_module *m = load_module(message, message_size);
    return m ? m->open(p->index < 0 ? 0 : p->index, message, message_size) : NULL;
}

static const struct backend *open_auto(const struct place *p, char *message, size_t message_size)
{
    char reason[512] = "";
    const struct backend *found = open_cuda(p, reason, sizeof reason);
    if (found)
        return found;
    found = cpu_open(p->threads, message, message_size);
    if (found)
        snprintf(message, message_size, "%s", reason);
    return found;
}
#endif

static const struct backend *open_cpu(const struct place *p, char *message, size_t message_size)
{
    return cpu_open(p->threads, message, message_size);
}

static const struct {
    const char *name;
    bool numbered; /* "name:2" is a name, too */
    const struct backend *(*open)(const struct place *p, char *message, size_t message_size);
} backends[] = {
    {"cpu", false, open_cpu},
    {"cuda", true, open_cuda},
    {"auto", false, open_auto},
};

/* The number after "name:", -1 for the bare name, -2 when it is another name. */
static int index_in(const char *given, const char *name, bool numbered)
{
    size_t n = strlen(name);
    if (strncmp(given, name, n) != 0)
        return -2;
    if (!given[n])
        return -1;
    const char *digits = given + n + 1;
    if (!numbered || given[n] != ':' || !*digits || strlen(digits) > 3 || strspn(digits, "0123456789") != strlen(digits))
        return -2;
    return atoi(digits);
}

const struct backend *backend_open(const char *name, int threads, char *message, size_t message_size)
{
    message[0] = 0;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        const struct place p = {.threads = threads, .index = index_in(name, backends[i].name, backends[i].numbered)};
        if (p.index > -2)
            return backends[i].open(&p, message, message_size);
    }
    snprintf(message, message_size, "\"%s\" is unknown; there is: cpu, cuda, cuda:N, auto", name);
    return NULL;
}
