/* device_kit.h: tests that set a device beside the cpu: which device, opened.
 *
 *   PROGRAM [--device NAME] [--print]     default: cuda in an emulated build, else the cpu, by itself */
#ifndef SEMINDEX_DEVICE_KIT_H
#define SEMINDEX_DEVICE_KIT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/backend.h"

struct device_kit {
    const struct backend *reference, *device; /* cpu; the device, or the cpu itself */
    bool print;                               /* figures are wanted */
};

/* Ends the process with 69 where the device cannot be had. */
static struct device_kit device_kit_open(int argc, char **argv)
{
    struct device_kit k = {0};
    char why[256];
#ifdef SEMINDEX_EMU
    const char *name = "cuda";
#else
    const char *name = "cpu";
#endif
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--print") == 0)
            k.print = true;
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            name = argv[++i];
    k.reference = backend_open("cpu", 2, why, sizeof why);
    k.device = backend_open(name, 2, why, sizeof why);
    if (k.reference && k.device)
        return k;
    fprintf(stderr, "%s\n", why);
    exit(69);
}

#endif
