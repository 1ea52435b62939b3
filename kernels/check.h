/* check.h: the two ways in which this program ends itself.
 *
 * CHECK is for "we are wrong": an invariant of our own code does not hold. It stays in release builds, since going on would write wrong
 * answers to disk. die is for "the machine is gone" (no memory at start, a device fault). Neither is for bad input: that returns -1 with a
 * message (core/base/err.h). Lives in kernels/ because every layer may use it and kernels/ may include nothing above itself. */
#ifndef SEMINDEX_CHECK_H
#define SEMINDEX_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "semindex: %s:%d: CHECK(%s) failed in %s\n", __FILE__, __LINE__, #condition, __func__);                        \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

/* Ends the process with EX_OSERR (71) after one line on standard error. */
#define die(...)                                                                                                                           \
    do {                                                                                                                                   \
        fprintf(stderr, "semindex: " __VA_ARGS__);                                                                                         \
        fputc('\n', stderr);                                                                                                               \
        exit(71);                                                                                                                          \
    } while (0)

#endif
