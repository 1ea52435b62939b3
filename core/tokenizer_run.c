/* tokenizer_run.c: `semindex tokenizer`: a SentencePiece model trained on the texts of a corpus.
 *
 * The texts (document_text, and the training queries where the folder has any) go to a temporary file beside the output, one a line,
 * because the trainer reads files; it is removed in every case. The output appears whole or not at all. */
#include "runs.h"

#include "base/file.h"
#include "data/corpus.h"

#include <stdio.h>
#include <stdlib.h>

enum { VOCAB = 8000 };

/* One text as one line. */
static void write_line(FILE *f, const char *text)
{
    for (; text != NULL && *text; text++)
        fputc(*text == '\n' || *text == '\r' ? ' ' : *text, f);
    fputc('\n', f);
}

static int write_texts(const struct corpus *c, const char *path, struct err *e)
{
    struct file_out out;
    struct str text = {0};
    if (file_out_open(&out, path, e) != 0)
        return -1;
    for (int32_t i = 0; i < c->count; i++) {
        str_clear(&text);
        document_text(&c->documents[i], &text);
        write_line(out.stream, text.data);
    }
    for (int32_t i = 0; i < c->train.count; i++)
        write_line(out.stream, c->train.query[i].text);
    str_free(&text);
    return file_out_commit(&out, e);
}

/* Fewer pieces than asked for, where the text gives no more. */
static int note_size(const struct tokenizer_options *o, int32_t documents, const struct run *run, struct err *e)
{
    struct tokenizer *t = tokenizer_open(o->output, e);
    if (t == NULL)
        return -1;
    run_note(run, "tokenizer: %d pieces from %d documents, %s", tokenizer_size(t), documents, o->output);
    tokenizer_close(t);
    return 0;
}

int tokenizer_run(const struct tokenizer_options *o, const struct run *run, struct err *e)
{
    struct corpus corpus = {0};
    if (corpus_read(&corpus, o->data, run, e) != 0)
        return -1;
    corpus_hold_out(&corpus, o->hold_out, o->hold_out_seed, NULL);
    char *texts = xprintf("%s.texts", o->output);
    int32_t vocab = o->vocab > 0 ? o->vocab : VOCAB;
    int rc = write_texts(&corpus, texts, e);
    if (rc == 0)
        rc = tokenizer_train(&(struct tokenizer_training){.input = texts, .output = o->output, .vocab = vocab, .at_most = o->vocab <= 0}, e);
    if (rc == 0)
        rc = note_size(o, corpus.count, run, e);
    (void)remove(texts);
    free(texts);
    corpus_free(&corpus);
    return rc;
}
