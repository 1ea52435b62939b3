/* seq2seq.h: one teacher-forced pass of a task model: input tokens to the codes of a semantic ID, or to a text.
 *
 * A sample is a row of input tokens (EOS included) and the T codes of the wanted document. The decoder reads [0, token(c^1) ..
 * token(c^(T-1))]; the loss at position t is the cross-entropy over the K_t codes of that position only (method.md 1: log softmax over
 * all codes of the position), so the vocabulary's text rows never enter. Rows are packed: nothing is padded. Owner: the one training run.
 *
 * A text target (a layout of no positions) is a row of tokens whose last is EOS, of any length up to `targets`; the loss is the cross-entropy over
 * the text vocabulary at each of its tokens. */
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
    uint32_t *codes;  /* [count * targets] decoder inputs: codes, or a text's tokens up to EOS */
    int32_t *labels;  /* [count * targets] what is to be predicted; below 0 = left out */
};
/* Room for `rows` samples of `tokens` tokens together; targets: positions of an ID, or tokens of the longest text. */
void code_batch_init(struct code_batch *b, int32_t rows, int32_t tokens, int32_t targets);
void code_batch_free(struct code_batch *b);

struct seq2seq;
/* Borrows the model, which was made with train. Room for rows samples and tokens input tokens a pass. */
struct seq2seq *seq2seq_init(struct t5 *model, const struct code_layout *layout, int32_t rows, int32_t tokens, struct err *e);
/* The same for text targets of at most `targets` tokens. */
struct seq2seq *seq2seq_init_text(struct t5 *model, int32_t targets, int32_t rows, int32_t tokens, struct err *e);
void seq2seq_free(struct seq2seq *s);

/* Tokens of a text target, EOS included; at most targets. */
int32_t seq2seq_text_length(const uint32_t *tokens, int32_t targets);

/* Sum over samples and positions (tokens of text targets) of -log p, times weight; gradients of it are added to the model's. dropout_seed 0 = no dropout. */
double seq2seq_train(struct seq2seq *s, const struct code_batch *b, float weight, uint64_t dropout_seed);
/* The same sum without a backward pass and without dropout. */
double seq2seq_loss(struct seq2seq *s, const struct code_batch *b, float weight);

#endif
