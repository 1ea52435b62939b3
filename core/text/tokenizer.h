/* tokenizer.h: text to ids and back, by SentencePiece behind a C interface (tokenizer.cc is the only C++ that core/ has).
 *
 * Ids are those of the original T5 (SentencePiece's own). User text is only text: "</s>" or "<extra_id_0>" in it never becomes a control
 * token (a control symbol's surface is encoded as ordinary characters). EOS (id 1) is appended by the caller through `eos`. Thread-safe after open. */
#ifndef SEMINDEX_TOKENIZER_H
#define SEMINDEX_TOKENIZER_H

#include "../base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TOKEN_PAD = 0, TOKEN_EOS = 1 };

struct tokenizer;
struct tokenizer *tokenizer_open(const char *path, struct err *e); /* a spiece.model; NULL with a reason */
void tokenizer_close(struct tokenizer *t);
int32_t tokenizer_size(const struct tokenizer *t); /* pieces */
int32_t tokenizer_unknown(const struct tokenizer *t);
/* Whether a model may write it into a text: a piece that is neither a control symbol (</s> too), nor the unknown one, nor unused. */
bool tokenizer_is_text(const struct tokenizer *t, int32_t id);

/* Ids of text[0..size) into ids (room for `room`), at most room - eos of them, then EOS if eos. Returns the number written; *cut (may be
 * NULL) = whether the text had more. A byte that is not UTF-8 is an unknown character, as SentencePiece has it. */
int32_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int32_t *ids, int32_t room, bool eos, bool *cut);
/* Text of ids, caller frees. Ids outside the model are left out. */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int32_t count);

/* Trains a unigram model with T5's special ids (0 pad, 1 EOS, 2 unknown) on a text file (one sentence a line); writes out_path whole or not
 * at all. Deterministic for equal input (hence a fixed number of threads: SentencePiece's sums depend on it). vocab 256..256000; too large
 * or too small for the corpus gives an error that says the possible size. */
struct tokenizer_training {
    const char *input, *output;
    int32_t vocab;
    bool at_most; /* fewer pieces when the text does not give `vocab`, instead of an error */
};
int tokenizer_train(const struct tokenizer_training *o, struct err *e);

#ifdef __cplusplus
}
#endif

#endif
