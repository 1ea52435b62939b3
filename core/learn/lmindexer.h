/* lmindexer.h: the LMIndexer objective for one batch: forward, the three losses, gradients.
 *
 * Source: "Language Models As Semantic Indexers" (LMIndexer), sections 2 to 4 of the method; every detail that the paper leaves open is fixed by
 * tests/fixtures/README.md, "lmindexer", whose numbers refer to the code. The same functions serve the parity test (explicit hint masks, given
 * negatives, no dropout) and training (masks by hash, negatives from the batch). Shapes: B documents, R rows to encode (0..B-1 the documents,
 * B..2B-1 second views of the documents that need one, then others), t learned position from 0, D model width, K codes.
 *
 * A model for the objective is a struct t5 whose code rows are the decoder's code tokens (position i, code c at row vocab + i * K + c) and whose
 * extra tensors are the reconstructor and codebooks; lmindexer_extras lists them. */
#ifndef SEMINDEX_LMINDEXER_H
#define SEMINDEX_LMINDEXER_H

#include "../model/t5.h"

enum { LM_POSITIONS_MAX = 15 };

/* The extra tensors of a model with `positions` learned positions of `codes` codes. Fills list (room for 9 + LM_POSITIONS_MAX entries) and
 * returns their number; names: recon.* as in the fixtures, codebook.1 .. codebook.L. */
int32_t lmindexer_extras(const struct t5_config *c, int32_t positions, int32_t codes, struct t5_extra *list);

enum lm_stage { LM_WARMUP, LM_CONTINUOUS, LM_JOINT };

struct lm_batch {
    enum lm_stage stage;
    int32_t position;  /* t from 0 */
    int32_t documents; /* B */
    struct t5_batch rows; /* R rows of text tokens + EOS each, R >= B; warm-up needs B rows only */
    const int32_t *prefix; /* [R, t] codes given so far */
    /* hints: explicit masks as in the fixtures, or by hash */
    const uint8_t *visible;
    const int64_t *visible_offsets;
    const uint64_t *keys; /* [B] a stable number for each document (hash form) */
    double hint_ratio;
    /* contrastive: candidates of document i = second_view[i] (row, or -1: none), then negatives[negative_offsets[i] .. [i+1]) (rows) */
    const int32_t *second_view;
    const int32_t *negatives, *negative_offsets;
    const int32_t *ids_of; /* [B] whose codes stand for document i in the reconstruction: a control. NULL = its own */
    double target_share; /* share of text tokens that are reconstruction targets; 1 = all */
    uint64_t seed;       /* of hints and targets; and of dropout when dropout is set */
    bool dropout;
    bool freeze_codebooks; /* no gradient into codebooks of earlier positions (training) */
    double contrastive_temperature;
    double weight_recon, weight_contrastive, weight_commitment; /* 0 = off */
};

struct lm_losses {
    double recon, contrastive, commitment, total;
};

struct lm_limits {
    int32_t documents, rows; /* per pass */
    int32_t batch;           /* documents of a batch; more than `documents`: it is cut into passes. 0 = documents */
    int32_t tokens;          /* encoder tokens over all rows of a pass, EOS included */
    int32_t text_tokens;     /* text tokens of the documents, EOS and other rows excluded */
    int32_t positions, codes;
    bool train; /* false: only lmindexer_encode */
};
struct lm_work; /* activations and index tables of one batch; one owner */
struct lm_work *lm_work_init(struct t5 *m, const struct lm_limits *l, struct err *e);
void lm_work_free(struct lm_work *w);
size_t lm_work_bytes(const struct backend *be, const struct t5_config *c, const struct lm_limits *l);

/* Forward and backward of one batch: parameter gradients "+=". A batch that is cut into passes has the losses and gradients of the whole one, up
 * to the order of sums and to dropout's masks, which are drawn a pass; it needs keys, and rows behind the documents that are second views. */
void lmindexer_step(struct t5 *m, struct lm_work *w, const struct lm_batch *b, struct lm_losses *out);

/* After lmindexer_step, for the parity test: host copies into the caller's memory. p, soft, q, code: joint stage only. */
struct lm_vectors {
    float *h;             /* [R, D] */
    float *z;             /* [M, D] */
    float *p, *soft, *q;  /* [B, K], [B, D], [B, D] */
    int32_t *code;        /* [B] */
};
void lmindexer_vectors(const struct lm_work *w, const struct lm_vectors *out);
int32_t lmindexer_text_tokens(const struct lm_work *w); /* M of the last step */

/* h of every row at `position`, given its prefix codes: h [R, D] to host memory. No dropout. */
void lmindexer_encode(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, float *h);
/* The same for the very rows of the last lmindexer_encode: the encoder's output is used again, only the decoder runs. */
void lmindexer_encode_next(struct t5 *m, struct lm_work *w, const struct t5_batch *rows, int32_t position, const int32_t *prefix, float *h);
/* argmax code, at that position, of each row of the last lmindexer_encode. */
void lmindexer_assign(struct t5 *m, struct lm_work *w, int32_t *codes);

#endif
