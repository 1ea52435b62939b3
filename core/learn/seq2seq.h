/* seq2seq.h: one teacher-forced pass of a task model: input tokens to the codes of a semantic ID.
 *
 * A sample is a row of input tokens (EOS included) and the T codes of the wanted document. The decoder reads [0, token(c^1) ..
 * token(c^(T-1))]; the loss at position t is the cross-entropy over the K_t codes of that position only (method.md 1: log softmax over
 * all codes of the position), so the vocabulary's text rows never enter. Rows are packed: nothing is padded. Owner: the one training run.
 * */
#ifndef SEMINDEX_SEQ2SEQ_H
#define SEMINDEX_SEQ2SEQ_H

#include "../base/err.h"
#include "../model/bundle.h"
#include "../model/t5.h"

/* Samples in host memory. */
struct code_batch {
    int32_t count;    /* samples */
    int32_t *tokens;  /* packed inputs */
    int32_t *offsets; /* [count + 1] */
    uint32_t *codes;  /* [count * positions] decoder inputs */
    int32_t *labels;  /* [count * positions] what is to be predicted; below 0 = left out */
};
/* Room for `rows` samples of `tokens` tokens together. */
void code_batch_init(struct code_batch *b, int32_t rows, int32_t tokens, int32_t positions);
void code_batch_free(struct code_batch *b);

struct seq2seq;
/* Borrows the model, which was made with train. Room for rows samples and tokens input tokens a pass. */
struct seq2seq *seq2seq_init(struct t5 *model, const struct code_layout *layout, int32_t rows, int32_t tokens, struct err *e);
void seq2seq_free(struct seq2seq *s);

/* Sum over samples and positions of -log p, times weight; gradients of it are added to the model's. dropout_seed 0 = no dropout. */
double seq2seq_train(struct seq2seq *s, const struct code_batch *b, float weight, uint64_t dropout_seed);
/* The same sum without a backward pass and without dropout. */
double seq2seq_loss(struct seq2seq *s, const struct code_batch *b, float weight);

#endif
