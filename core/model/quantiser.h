/* quantiser.h: from a text embedding to the codes of an ID: what learn-ids leaves behind when its indexer is no LMIndexer.
 *
 * Three kinds. rq-vae: an MLP, then residual codebooks; residual: the codebooks alone, over the embedding itself; hierarchical: a tree of
 * centroids, walked down by the nearest child (Tay et al. 2022). Formulas: tests/fixtures/README.md, "rqvae"; ties take the lowest code. In
 * a bundle: quantiser.safetensors and quantiser.json {"kind","width","positions","codes","embeddings":"own"|"text","max_tokens"}. The same
 * functions give the corpus its codes in learning and new documents theirs in the daemon. */
#ifndef SEMINDEX_QUANTISER_H
#define SEMINDEX_QUANTISER_H

#include "../../kernels/backend.h"
#include "bundle.h"

enum quantiser_kind { QUANTISER_RQVAE, QUANTISER_RESIDUAL, QUANTISER_HIERARCHICAL };
enum { QUANTISER_LAYERS_MAX = 8, QUANTISER_LEVELS_MAX = 15, QUANTISER_BATCH = 256 };

struct quantiser {
    enum quantiser_kind kind;
    int32_t width, positions, codes; /* of an embedding; learned positions L; K of each */
    bool own;                        /* embeddings come with the documents; else from the text, by the T5 of part "base" */
    int32_t max_tokens;              /* of a text, EOS included; 0 with own */
    /* x -> (x - mean) * scale, then the MLP; layers 0: none */
    float *mean, scale; /* [width], or NULL = 0 */
    int32_t layers, layer_width[QUANTISER_LAYERS_MAX + 1];
    float *weight[QUANTISER_LAYERS_MAX], *bias[QUANTISER_LAYERS_MAX]; /* [out, in], [out]; ReLU between layers */
    float *codebook[QUANTISER_LEVELS_MAX];                            /* [codes, layer_width[layers]], not hierarchical */
    /* hierarchical: node i has children first[i] .. first[i] + children[i] - 1; node 0 is the root; a leaf has none and gives code 0 */
    int32_t nodes, *first, *children;
    float *centroid; /* [nodes, width] */
    struct quantiser_work *work;
};

const char *quantiser_name(enum quantiser_kind kind); /* "rq-vae" */
bool quantiser_in(const struct bundle *b);
int quantiser_write(const struct quantiser *q, struct bundle *b, struct err *e); /* between bundle_begin and bundle_commit */
struct quantiser *quantiser_read(const struct bundle *b, struct err *e);         /* every shape, number and index is judged */
void quantiser_free(struct quantiser *q);                                        /* NULL is fine; frees all that it points to */

/* Puts codebooks into the backend's memory; before quantiser_encode. */
int quantiser_open(struct quantiser *q, const struct backend *be, struct err *e);
/* codes [n, L] of x [n, width], both host; n <= QUANTISER_BATCH; one thread at a time, the backend's. left (may be NULL) gets added, over the rows,
 * the squared norm of what the codes leave: [0] before any code (of what the codebooks see), [p] after p codes. */
void quantiser_encode(struct quantiser *q, const float *x, int32_t n, uint32_t *codes, double *left);

#endif
