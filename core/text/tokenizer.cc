/* tokenizer.cc: SentencePiece behind the C interface of tokenizer.h: loading, encoding, decoding.
 *
 * No exception crosses the interface: what can throw stands in `guarded`, and a lack of memory ends the process as everywhere else. Encoding
 * only reads the processor, so there is no lock.
 * Text stays text: SentencePiece never finds CONTROL pieces in text, but it does find USER_DEFINED ones, and some models declare "<extra_id_0>"
 * or "</s>" so. Before loading, user-defined pieces that look like a tag (<..> or [..]) are turned into control pieces in the serialised
 * model, one byte each; others (digits, newlines) keep their meaning.
 * A long text of which only `room` ids are wanted is encoded by growing prefixes: the best segmentation of a prefix settles within a few
 * pieces of its end, so ids further than SETTLED from it are final, and a 10 MB document costs no more than a page. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

extern "C" {
#include "../base/file.h"
#include "tokenizer.h"
}

struct tokenizer {
    sentencepiece::SentencePieceProcessor processor;
    int32_t size, unknown;
};

namespace {

constexpr size_t MODEL_MOST = size_t(256) << 20, PREFIX_LEAST = 16384, PREFIX_BYTES_PER_ID = 32, SETTLED = 64;
enum piece_type { PIECE_CONTROL = 3, PIECE_USER_DEFINED = 4 };

template <typename F> auto guarded(F f, decltype(f()) failed) -> decltype(f())
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        die("out of memory in the tokenizer");
    } catch (...) {
        return failed;
    }
}

/* ---- the serialised model: just enough of the protobuf wire format to reach the type of every piece ---- */

struct wire {
    unsigned char *at, *end;
    bool bad;
};

uint64_t varint(wire &w)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && w.at < w.end; shift += 7) {
        unsigned char byte = *w.at++;
        value |= uint64_t(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    w.bad = true;
    return 0;
}

/* Reads one field: its number, and for length-delimited ones the bytes; varints leave `body` at their bytes. */
uint64_t field(wire &w, wire &body)
{
    uint64_t key = varint(w), kind = key & 7;
    body = {w.at, w.at, false};
    uint64_t length = kind == 1 ? 8 : kind == 5 ? 4 : 0;
    if (kind == 2) {
        length = varint(w);
        body.at = w.at;
    } else if (kind == 0) {
        varint(w);
        body.end = w.at;
        return key >> 3;
    }
    if (w.bad || (kind != 1 && kind != 2 && kind != 5) || length > uint64_t(w.end - w.at)) {
        w.bad = true;
        return 0;
    }
    w.at += length;
    body.end = w.at;
    return key >> 3;
}

bool looks_like_tag(const wire &text)
{
    size_t n = size_t(text.end - text.at);
    return n >= 3 && ((text.at[0] == '<' && text.end[-1] == '>') || (text.at[0] == '[' && text.end[-1] == ']'));
}

void close_tag_piece(wire piece)
{
    wire text = {nullptr, nullptr, false}, type = text, body;
    while (piece.at < piece.end && !piece.bad) {
        switch (field(piece, body)) {
        case 1:
            text = body;
            break;
        case 3:
            type = body;
            break;
        }
    }
    if (!piece.bad && text.at && looks_like_tag(text) && type.end - type.at == 1 && *type.at == PIECE_USER_DEFINED)
        *type.at = PIECE_CONTROL;
}

/* false when the bytes are no protobuf message at all. */
bool close_tags(std::string &model)
{
    unsigned char *data = reinterpret_cast<unsigned char *>(&model[0]);
    wire w = {data, data + model.size(), false}, body;
    while (w.at < w.end && !w.bad)
        if (field(w, body) == 1 && !w.bad)
            close_tag_piece(body);
    return !w.bad;
}

int load(tokenizer *t, const char *path, struct err *e)
{
    size_t size;
    char *bytes = file_read(path, MODEL_MOST, &size, e);
    if (!bytes)
        return -1;
    std::string model(bytes, size);
    free(bytes);
    if (size == 0 || !close_tags(model))
        return err_set(e, ERR_DATA, "%s: not a SentencePiece model", path);
    auto status = t->processor.LoadFromSerializedProto(model);
    if (!status.ok())
        return err_set(e, ERR_DATA, "%s: not a usable SentencePiece model: %s", path, status.error_message());
    t->size = t->processor.GetPieceSize();
    t->unknown = t->processor.unk_id();
    int eos = t->processor.eos_id(), pad = t->processor.pad_id();
    if (eos != TOKEN_EOS || (pad != TOKEN_PAD && pad != -1))
        return err_set(e, ERR_DATA, "%s: </s> has id %d and <pad> has id %d: T5 needs 1 and 0", path, eos, pad);
    return 0;
}

/* Where to cut the prefix of about `want` bytes: after the last space, else between characters. */
size_t prefix_end(absl::string_view text, size_t want)
{
    if (want >= text.size())
        return text.size();
    size_t space = text.rfind(' ', want);
    if (space != absl::string_view::npos && space > want / 2)
        return space;
    while (want > 0 && (text[want] & 0xc0) == 0x80)
        want--;
    return want;
}

/* Ids of text, at least the first `wanted` when it has so many. */
std::vector<int> ids_of(const tokenizer *t, absl::string_view text, size_t wanted)
{
    std::vector<int> ids;
    size_t want = PREFIX_LEAST + wanted * PREFIX_BYTES_PER_ID;
    for (;; want *= 2) {
        size_t end = prefix_end(text, want);
        auto status = t->processor.Encode(text.substr(0, end), &ids);
        if (!status.ok())
            return {t->unknown};
        if (end == text.size() || ids.size() >= wanted + SETTLED)
            return ids;
    }
}

int32_t encode(const tokenizer *t, absl::string_view text, int32_t *out, int32_t room, bool *cut)
{
    std::vector<int> ids = ids_of(t, text, size_t(room));
    int32_t n = ids.size() > size_t(room) ? room : int32_t(ids.size());
    std::copy(ids.begin(), ids.begin() + n, out);
    *cut = ids.size() > size_t(room);
    return n;
}

} // namespace

extern "C" struct tokenizer *tokenizer_open(const char *path, struct err *e)
{
    auto open = [&]() -> tokenizer * {
        tokenizer *t = new tokenizer();
        if (load(t, path, e) == 0)
            return t;
        delete t;
        return nullptr;
    };
    if (e)
        e->code = ERR_NONE;
    tokenizer *t = guarded(open, nullptr);
    if (!t && e && e->code == ERR_NONE)
        err_set(e, ERR_DATA, "%s: not a usable SentencePiece model", path);
    return t;
}

extern "C" void tokenizer_close(struct tokenizer *t)
{
    delete t;
}

extern "C" int32_t tokenizer_size(const struct tokenizer *t)
{
    return t->size;
}

extern "C" int32_t tokenizer_unknown(const struct tokenizer *t)
{
    return t->unknown;
}

extern "C" bool tokenizer_is_text(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && !t->processor.IsControl(id) && !t->processor.IsUnknown(id) && !t->processor.IsUnused(id);
}

extern "C" int32_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int32_t *ids, int32_t room, bool eos, bool *cut)
{
    bool more = false;
    int32_t n = 0;
    if (room > 0) {
        auto run = [&] { return encode(t, absl::string_view(text, size), ids, room - eos, &more); };
        n = guarded(run, 0);
        if (eos)
            ids[n++] = TOKEN_EOS;
    }
    if (cut)
        *cut = more;
    return n;
}

extern "C" char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int32_t count)
{
    auto run = [&]() -> char * {
        std::vector<int> known;
        for (int32_t i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < t->size)
                known.push_back(ids[i]);
        std::string text;
        return t->processor.Decode(known, &text).ok() ? xstrndup(text.data(), text.size()) : nullptr;
    };
    char *text = guarded(run, nullptr);
    return text ? text : xstrdup("");
}
