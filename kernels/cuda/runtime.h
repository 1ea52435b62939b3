/* runtime.h: what the two files of the real device share: the device, its stream, the check of a status, the product's own start. */
#ifndef SEMINDEX_CUDA_RUNTIME_H
#define SEMINDEX_CUDA_RUNTIME_H

#include "device.h"

/* A status that is no success ends the process through platform_fault, which says what was tried and what CUDA calls the failure. */
#define RUN(call) cuda_must((call), #call)
void cuda_must(cudaError_t status, const char *call);
/* True while a recording is under way that CUDA has given up; forgets the error. */
bool cuda_recording_broke(void);

/* Handle and workspace of cuBLASLt on the current device; 0, or -1 with one line in message. */
int blas_open(char *message, size_t message_size);

#endif
