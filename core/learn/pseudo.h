/* pseudo.h: queries cut from documents, for a corpus without training queries.
 *
 * A corpus is read once into words (stripped of punctuation at both ends), each word tokenised once; a query is then a list of word
 * numbers, and its tokens are the words' tokens joined (no SentencePiece piece spans a space). A draw depends on (seed, document) only, so
 * every epoch has fresh queries and a resumed run has the same ones. Owner: the training run; read-only after pseudo_end, then any thread
 * may draw. */
#ifndef SEMINDEX_PSEUDO_H
#define SEMINDEX_PSEUDO_H

#include "../base/mem.h"
#include "../text/tokenizer.h"
#include <stdbool.h>
#include <stdint.h>

enum { PSEUDO_WORDS = 48 }; /* of one query at most */

struct pseudo;
struct pseudo *pseudo_begin(const struct tokenizer *tokenizer, int32_t documents);
/* The next document, in order. title and text may be NULL. */
void pseudo_add(struct pseudo *p, const char *title, const char *text);
void pseudo_end(struct pseudo *p); /* after the last document */
void pseudo_free(struct pseudo *p);

/* How a query is cut. */
enum pseudo_cut {
    CUT_TITLE,    /* the title, words left out */
    CUT_SPAN,     /* neighbouring words of one sentence */
    CUT_WORDS,    /* telling words of one or two sentences, in their order */
    CUT_SCATTER,  /* telling words of the whole document, any order */
    CUT_ANY       /* one of the four by chance */
};

struct pseudo_query {
    int32_t words[PSEUDO_WORDS];
    int32_t count;
};
/* A query of the document; count 0 when it has no words. */
void pseudo_draw(const struct pseudo *p, int32_t document, enum pseudo_cut cut, uint64_t seed, struct pseudo_query *q);
/* A given query's words; new ones are added to the words (before drawing starts). */
void pseudo_parse(struct pseudo *p, const char *text, struct pseudo_query *q);
/* Leaves words out at random, in place: what makes a given query new in every epoch. */
void pseudo_thin(struct pseudo_query *q, double rate, uint64_t seed);

/* The query as a person would have typed it: its words with spaces between. */
void pseudo_text(const struct pseudo *p, const struct pseudo_query *q, struct str *text);
/* Tokens of a query, EOS last, at most room; returns their number. */
int32_t pseudo_tokens(const struct pseudo *p, const struct pseudo_query *q, int32_t *tokens, int32_t room);

#endif
