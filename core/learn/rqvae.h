/* rqvae.h: the rq-VAE objective: an MLP encoder and its mirror, residual codebooks between them.
 *
 * Source: tests/fixtures/README.md, "rqvae", whose formulas the code follows (Zeghidour et al. 2021; Rajput et al. 2023 for IDs): ReLU between
 * layers, straight-through estimator over the sum of the chosen codes, loss = recon + 0.25 commit, codebooks moved by EMA (0.99) of the
 * residuals that chose them. Shapes: n rows of a batch, width[0] inputs, width[layers] = D the code width, K codes, `levels` codebooks.
 * Runs on a backend whose memory is the host's and whose activations are f32 ("cpu"): a few hundred thousand parameters. */
#ifndef SEMINDEX_RQVAE_H
#define SEMINDEX_RQVAE_H

#include "../../kernels/backend.h"
#include "../base/err.h"

enum { RQVAE_LAYERS_MAX = 8, RQVAE_LEVELS_MAX = 15 };

struct rqvae_shape {
    int32_t layers;                      /* of the encoder; the decoder has as many */
    int32_t width[RQVAE_LAYERS_MAX + 1]; /* input first, code width last */
    int32_t levels, codes;
};
struct rqvae_losses {
    double recon, commit, total;
    double level[RQVAE_LEVELS_MAX]; /* mean squared norm of what is left after each level's code */
};

struct rqvae; /* parameters, gradients, optimiser state, codebooks and the activations of one batch; one owner */
struct rqvae *rqvae_init(const struct backend *be, const struct rqvae_shape *s, int32_t batch, struct err *e); /* NULL: no memory */
void rqvae_free(struct rqvae *r);                                                                               /* NULL is fine */
void rqvae_randomise(struct rqvae *r, uint64_t seed); /* weights and biases uniform within +- width^-0.5 of each layer's input */
const struct rqvae_shape *rqvae_shape_of(const struct rqvae *r);

/* Layer i of the encoder is i, of the decoder layers + i. Host memory, owned by r; weight [out, in], bias [out]. */
float *rqvae_weight(struct rqvae *r, int32_t layer);
float *rqvae_bias(struct rqvae *r, int32_t layer);
const float *rqvae_weight_grad(const struct rqvae *r, int32_t layer);
const float *rqvae_bias_grad(const struct rqvae *r, int32_t layer);
float *rqvae_codebook(struct rqvae *r, int32_t level); /* [K, D] */
float *rqvae_count(struct rqvae *r, int32_t level);    /* [K] EMA of the rows of a code */
float *rqvae_sum(struct rqvae *r, int32_t level);      /* [K, D] EMA of their sums */
/* To be called after weights were written by other hands than rqvae_adam. */
void rqvae_refresh(struct rqvae *r);

/* Encoder alone: z [n, D] of x [n, width[0]], both host; n <= batch. */
void rqvae_encode(struct rqvae *r, const float *x, int32_t n, float *z);
/* Forward and backward of one batch: gradients "=". */
void rqvae_step(struct rqvae *r, const float *x, int32_t n, struct rqvae_losses *out);
/* Of the last step, owned by r: z, zq [n, D], x_hat [n, width[0]], codes [n, levels]. */
const float *rqvae_z(const struct rqvae *r);
const float *rqvae_zq(const struct rqvae *r);
const float *rqvae_x_hat(const struct rqvae *r);
const int32_t *rqvae_codes(const struct rqvae *r);
/* Moves the codebooks by the residuals and codes of the last step. */
void rqvae_ema(struct rqvae *r);
/* One Adam step (0.9, 0.999, 1e-8), step from 1. */
void rqvae_adam(struct rqvae *r, float lr, int64_t step);
/* All that a step changes, for checkpoints: blocks [RQVAE_BLOCKS_MAX] and their elements; returns how many. Owned by r; rqvae_refresh after
 * writing to them. */
enum { RQVAE_BLOCKS_MAX = 3 + 3 * RQVAE_LEVELS_MAX };
int32_t rqvae_blocks(struct rqvae *r, float **blocks, int64_t *elements);
/* Puts code `code` of a level onto the residual of row `row` of the last step, as if it had just been chosen once. */
void rqvae_revive(struct rqvae *r, int32_t level, int32_t code, int32_t row);

#endif
