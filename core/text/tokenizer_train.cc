/* tokenizer_train.cc: tokenizer_train of tokenizer.h, through SentencePieceTrainer.
 *
 * The corpus is handed over sentence by sentence, so its path may hold commas, gzip works, and long lines are split at spaces instead of being
 * dropped (SentencePiece skips sentences over 4,192 bytes). A corpus above SENTENCES_MOST or BYTES_MOST is thinned evenly, every n-th
 * sentence: no random choice, and memory stays bounded. The model comes back as bytes and is written whole or not at all. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sentencepiece_trainer.h>
#include <string>
#include <unordered_map>

extern "C" {
#include "../base/file.h"
#include "tokenizer.h"
}

namespace {

constexpr int64_t SENTENCES_MOST = 2000000, BYTES_MOST = int64_t(512) << 20;
constexpr size_t SENTENCE_BYTES = 4000;

/* Every stride-th sentence of a file; with a stride of 0 it only counts. */
class corpus : public sentencepiece::SentenceIterator {
  public:
    corpus(const char *path, int64_t stride, struct err *e) : stride_(stride), e_(e), lines_(lines_open(path, e)), failed_(!lines_)
    {
        if (lines_ && stride_ > 0)
            Next();
    }
    ~corpus() override
    {
        lines_close(lines_);
    }
    corpus(const corpus &) = delete;
    corpus &operator=(const corpus &) = delete;

    bool done() const override
    {
        return done_ || failed_;
    }
    void Next() override
    {
        do
            advance();
        while (!done() && (number_ - 1) % stride_ != 0);
    }
    const std::string &value() const override
    {
        return sentence_;
    }
    sentencepiece::util::Status status() const override
    {
        return {};
    }

    bool failed() const
    {
        return failed_;
    }
    /* The stride under which both bounds hold; 0 if the file has no sentence. */
    int64_t count_stride()
    {
        int64_t bytes = 0;
        for (advance(); !done(); advance())
            bytes += int64_t(sentence_.size()) + 1;
        int64_t by_count = (number_ + SENTENCES_MOST - 1) / SENTENCES_MOST, by_bytes = (bytes + BYTES_MOST - 1) / BYTES_MOST;
        return number_ == 0 ? 0 : by_count > by_bytes ? by_count : by_bytes;
    }

  private:
    /* The next sentence with something in it. */
    void advance()
    {
        while (!done()) {
            if (left_ == 0)
                read_line();
            if (left_ == 0)
                continue;
            size_t n = cut(line_, left_);
            sentence_.assign(line_, n);
            line_ += n;
            left_ -= n;
            if (sentence_.find_first_not_of(" \t\r\v\f") == std::string::npos)
                continue;
            number_++;
            return;
        }
    }
    void read_line()
    {
        int rc = lines_next(lines_, &line_, &left_, e_);
        failed_ = rc < 0;
        done_ = rc == 0;
        if (rc <= 0)
            left_ = 0;
    }
    static size_t cut(const char *s, size_t size)
    {
        if (size <= SENTENCE_BYTES)
            return size;
        for (size_t n = SENTENCE_BYTES; n > SENTENCE_BYTES / 2; n--)
            if (s[n - 1] == ' ')
                return n;
        size_t n = SENTENCE_BYTES;
        while (n > 1 && (s[n] & 0xc0) == 0x80)
            n--;
        return n;
    }

    int64_t stride_, number_ = 0;
    struct err *e_;
    struct lines *lines_;
    bool failed_, done_ = false;
    char *line_ = nullptr;
    size_t left_ = 0;
    std::string sentence_;
};

/* The last number in text, or -1. */
long last_number(const char *text)
{
    const char *end = text + strlen(text);
    while (end > text && !(end[-1] >= '0' && end[-1] <= '9'))
        end--;
    while (end > text && end[-1] >= '0' && end[-1] <= '9')
        end--;
    return *end ? atol(end) : -1;
}

int explain(const struct tokenizer_training *o, const char *said, struct err *e)
{
    const char *high = strstr(said, "Vocabulary size too high"), *low = strstr(said, "smaller than required_chars");
    if (high)
        return err_set(e, ERR_DATA, "%s: a vocabulary of %d pieces is too large for this text: at most %ld are possible", o->input, o->vocab,
                       last_number(high));
    if (low) /* "... required_chars. A vs B. Increase ..." */
        return err_set(e, ERR_DATA, "%s: a vocabulary of %d pieces is too small for the characters of this text: at least %ld are needed",
                       o->input, o->vocab, strstr(low, "vs") ? atol(strstr(low, "vs") + 2) + 1 : -1);
    return err_set(e, ERR_DATA, "%s: no vocabulary can be made of this text: %s", o->input, said);
}

int train(const struct tokenizer_training *o, struct err *e)
{
    int64_t stride;
    {
        corpus counter(o->input, 0, e);
        stride = counter.count_stride();
        if (counter.failed())
            return -1;
    }
    if (stride == 0)
        return err_set(e, ERR_DATA, "%s: there is no text to make a vocabulary of", o->input);
    std::unordered_map<std::string, std::string> settings = {
        {"model_type", "unigram"}, {"vocab_size", std::to_string(o->vocab)}, {"pad_id", "0"}, {"eos_id", "1"}, {"unk_id", "2"}, {"bos_id", "-1"},
        {"normalization_rule_name", "nmt_nfkc"}, {"byte_fallback", "false"}, {"num_threads", "4"}, {"shuffle_input_sentence", "false"},
        {"hard_vocab_limit", o->at_most ? "false" : "true"}, {"minloglevel", "2"}};
    corpus text(o->input, stride, e);
    std::string model;
    auto status = sentencepiece::SentencePieceTrainer::Train(settings, &text, &model);
    if (text.failed())
        return -1;
    if (!status.ok())
        return explain(o, status.error_message(), e);
    return file_write(o->output, model.data(), model.size(), e);
}

} // namespace

extern "C" int tokenizer_train(const struct tokenizer_training *o, struct err *e)
{
    if (o->vocab < 256 || o->vocab > 256000)
        return err_set(e, ERR_USAGE, "vocab: %d is not between 256 and 256000", o->vocab);
    try {
        return train(o, e);
    } catch (const std::bad_alloc &) {
        die("out of memory while making a vocabulary");
    } catch (const std::exception &x) {
        return err_set(e, ERR_DATA, "%s: no vocabulary can be made of this text: %s", o->input, x.what());
    }
}
