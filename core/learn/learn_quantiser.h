/* learn_quantiser.h: indexers over text embeddings: how each makes its quantiser. */
#ifndef SEMINDEX_LEARN_QUANTISER_H
#define SEMINDEX_LEARN_QUANTISER_H

#include "../base/mem.h"
#include "../base/run.h"
#include "../model/quantiser.h"

struct quantiser_input {
    const struct backend *be; /* host memory, f32 */
    const struct run *run;
    const float *x; /* [n, width] */
    int32_t n, width;
    int32_t batch;  /* rq-VAE: rows of a step */
    double epochs, lr;
    int32_t restarts, iterations; /* of k-means */
    int32_t leaf;                 /* hierarchical: a cluster of so many documents is not divided any more */
    uint64_t seed;
    const char *checkpoint; /* rq-VAE: the file of its state, written after an epoch when so many seconds have passed; NULL = none */
    double checkpoint_s;
};

/* Fill q, whose kind, width, positions and codes are set. -1: stopped, no memory, a loss that is not finite. */
int learn_rqvae(const struct quantiser_input *in, struct quantiser *q, struct err *e);
int learn_residual(const struct quantiser_input *in, struct quantiser *q, struct err *e);
int learn_hierarchical(const struct quantiser_input *in, struct quantiser *q, struct err *e);

#endif
