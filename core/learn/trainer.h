/* trainer.h: the loop that trains a task model: batches, schedule, validation, best weights, checkpoints.
 *
 * What a task is stands behind struct trainer_source: it draws samples and measures the model. The trainer decides the order (a shuffle by
 * (seed, epoch)), the dropout masks (by (seed, step)) and the learning rate (warm-up, then linear to 0 at the last step), so the same
 * source and options give the same weights, also when the run was killed and started again. */
#ifndef SEMINDEX_TRAINER_H
#define SEMINDEX_TRAINER_H

#include "../base/err.h"
#include "../base/run.h"
#include "../model/bundle.h"
#include "../model/need.h"
#include "../model/t5.h"
#include "optimiser.h"

struct trainer_source {
    void *state;
    int64_t samples; /* of an epoch, >= 1 */
    int32_t longest; /* input tokens of one sample at most, EOS included */
    /* Sample `index` of `epoch` (both from 0): writes at most `longest` input tokens (EOS included) and the T codes, or the tokens of the wanted
     * text, EOS last; returns the number of input tokens. Must depend on nothing but its arguments. */
    int32_t (*draw)(void *state, int64_t epoch, int64_t index, int32_t *tokens, uint32_t *codes);
    /* The validation metric, higher is better, in [0, 1]. */
    int (*validate)(void *state, struct t5 *model, double *metric, struct err *e);
    const char *metric;   /* its name in notes: "nDCG@10" */
    int32_t text_targets; /* 0: targets are codes; else texts of at most so many tokens, EOS included */
    double text_mean;     /* their mean length: the loss is per token, and every token weighs the same */
};

/* exp(-mean loss per token) of `count` held-out samples with text targets: the geometric mean of the probability that the model gives to each true
 * token. draw: as the source's, sample i of `count`. The usual body of `validate` for a source with text targets. */
int trainer_text_metric(struct t5 *model, const struct trainer_source *source, int32_t count,
                        int32_t (*draw)(void *state, int32_t i, int32_t *tokens, uint32_t *codes), double *metric, struct err *e);

struct trainer_options {
    const char *name;       /* in progress and notes: "search" */
    const char *checkpoint; /* path of the checkpoint file; its folder exists */
    const char *settings;   /* what binds a checkpoint, see checkpoint.h */
    int32_t batch;
    int32_t micro_batch;    /* samples a pass at most; 0 = PIECE_ROWS */
    int64_t steps;          /* total steps; 0 = by minutes, else by epochs */
    double minutes, epochs;
    double lr, label_smoothing;
    struct optimiser adam;  /* defaults filled in */
    int32_t validations, patience;
    uint64_t seed;
    double checkpoint_s;
};

/* What the trainer takes of the device besides the model. targets: positions, or text_targets; longest: input tokens of one sample at most. */
void trainer_need(struct need *n, const struct t5_config *c, int32_t targets, int32_t rows, int32_t longest);
/* What trainer_text_metric takes besides, while the trainer's own is there. */
void trainer_text_need(struct need *n, const struct t5_config *c, int32_t targets, int32_t longest);
/* Samples of one pass at most, for trainer_need. */
int32_t trainer_rows(int32_t batch, int32_t micro_batch);

struct trainer_result {
    int64_t steps;      /* done */
    int64_t best_step;
    double best_metric; /* of the weights that the model has now */
    double last_loss;   /* mean over the steps since the last validation, per position */
};

/* Trains `model` (made with train, its parameters set to the start) and leaves the weights of the best validation in it. Interrupted: the
 * checkpoint is written and ERR_INTERRUPTED returned; the next call with the same arguments goes on. Keeps the checkpoint at the end: the
 * caller removes it once the result is stored. */
int trainer_run(struct t5 *model, const struct code_layout *layout, const struct trainer_source *source, const struct trainer_options *o,
                const struct run *run, struct trainer_result *result, struct err *e);

#endif
