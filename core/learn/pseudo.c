/* pseudo.c: see pseudo.h for the promise.
 *
 * Real queries are short, carry the telling words of a topic, come with function words, and rarely repeat a phrase of the document. So a
 * cut keeps words by their idf, mixes words of different sentences, and is then disturbed: function words (the corpus's most frequent
 * words and a short list of question words) are put in, some words are left out, half of the queries are lower-cased. Words of the corpus
 * are numbered; `lower` of a word is the number of its lower-case form. All arrays grow while documents are added and are frozen by
 * pseudo_end. Owner of every array: the struct. */
#include "pseudo.h"

#include "../../kernels/backend.h"
#include "../base/hash.h"
#include "../base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 64, WORD_TOKENS = 24, FREQUENT = 64, DOCUMENT_WORDS = 1024 };

struct word {
    int32_t first, count; /* slice of the token pool */
    size_t spelled, bytes; /* slice of the letters */
    int32_t lower;        /* word number of the lower-case form */
    int32_t documents;    /* documents that hold it (counted on the lower-case form) */
    int32_t last;         /* document that counted it last */
    float idf;
};

struct pool { /* growing int32 array */
    int32_t *data;
    int64_t size, room;
};

struct pseudo {
    const struct tokenizer *tokenizer;
    int32_t documents, capacity;
    struct string_map *map;
    struct word *words;
    int32_t word_count, word_room;
    struct pool tokens;    /* of all words */
    struct str letters;    /* of all words */
    struct pool text;      /* word numbers of all sentences */
    struct pool sentences; /* start of each sentence in text */
    int32_t *first;        /* [capacity + 1] first sentence of each document; sentence 0 is the title (may be empty) */
    int32_t frequent[FREQUENT], frequent_count;
};

static const char *const question_words[] = {"what", "is", "are", "how", "does", "do", "which", "has", "anyone", "can", "there", "any",
                                             "have", "been", "why", "where", "for", "best", "find", "about", "the", "of", "in", "to",
                                             "a",    "with"};
enum { QUESTION_WORDS = sizeof question_words / sizeof *question_words };

/* ---- random numbers: a stream of hashes ---- */

struct stream {
    uint64_t seed, next;
};

static double uniform(struct stream *s)
{
    return mix_uniform(s->seed, s->next++);
}

static int32_t below(struct stream *s, int32_t n)
{
    return (int32_t)(mix64(s->seed, s->next++) % (uint64_t)n);
}

/* ---- reading a corpus into words ---- */

static void pool_add(struct pool *p, int32_t value)
{
    if (p->size == p->room) {
        p->room = p->room ? 2 * p->room : 1024;
        p->data = xrealloc(p->data, (size_t)p->room, sizeof *p->data);
    }
    p->data[p->size++] = value;
}

static int32_t new_word(struct pseudo *p, const char *w, size_t n)
{
    if (p->word_count == p->word_room) {
        p->word_room = p->word_room ? 2 * p->word_room : 1024;
        p->words = xrealloc(p->words, (size_t)p->word_room, sizeof *p->words);
    }
    int32_t number = p->word_count++, ids[WORD_TOKENS];
    int32_t count = tokenizer_encode(p->tokenizer, w, n, ids, WORD_TOKENS, false, NULL);
    p->words[number] = (struct word){.first = (int32_t)p->tokens.size, .count = count, .spelled = p->letters.size, .bytes = n, .lower = number, .last = -1};
    str_append(&p->letters, w, n);
    for (int32_t i = 0; i < count; i++)
        pool_add(&p->tokens, ids[i]);
    string_map_put(p->map, w, n, number);
    return number;
}

static int32_t word_number(struct pseudo *p, const char *w, size_t n)
{
    int32_t number = string_map_get(p->map, w, n);
    if (number >= 0)
        return number;
    number = new_word(p, w, n);
    char lower[WORD_BYTES];
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)((unsigned char)w[i] < 128 ? tolower((unsigned char)w[i]) : w[i]);
    int32_t low = memcmp(lower, w, n) == 0 ? number : word_number(p, lower, n);
    p->words[number].lower = low;
    return number;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* Next word at *at: text between spaces without the ASCII punctuation around it. False at the end. *ends = a sentence ends behind it. */
static bool next_word(const char **at, const char **word, size_t *size, bool *ends)
{
    const char *s = *at;
    while (is_space(*s))
        s++;
    if (*s == 0)
        return false;
    const char *e = s;
    while (*e && !is_space(*e))
        e++;
    *at = e;
    *ends = e[-1] == '.' || e[-1] == '?' || e[-1] == '!';
    while (s < e && ispunct((unsigned char)*s))
        s++;
    while (e > s && ispunct((unsigned char)e[-1]))
        e--;
    *word = s;
    *size = (size_t)(e - s) < WORD_BYTES ? (size_t)(e - s) : WORD_BYTES;
    return true;
}

static void count_word(struct pseudo *p, int32_t number)
{
    struct word *w = &p->words[p->words[number].lower];
    if (w->last != p->documents) {
        w->last = p->documents;
        w->documents++;
    }
}

static void add_sentences(struct pseudo *p, const char *text, bool split)
{
    const char *word;
    size_t size;
    bool ends;
    int64_t start = p->text.size;
    pool_add(&p->sentences, (int32_t)start);
    while (text && p->text.size - start < DOCUMENT_WORDS && next_word(&text, &word, &size, &ends)) {
        if (size > 0) {
            int32_t number = word_number(p, word, size);
            count_word(p, number);
            pool_add(&p->text, number);
        }
        if (split && ends && p->text.size > p->sentences.data[p->sentences.size - 1])
            pool_add(&p->sentences, (int32_t)p->text.size);
    }
}

struct pseudo *pseudo_begin(const struct tokenizer *tokenizer, int32_t documents)
{
    struct pseudo *p = xcalloc(1, sizeof *p);
    p->tokenizer = tokenizer;
    p->capacity = documents;
    p->map = string_map_init(1 << 15);
    p->first = xcalloc((size_t)documents + 1, sizeof *p->first);
    for (int32_t i = 0; i < QUESTION_WORDS; i++)
        word_number(p, question_words[i], strlen(question_words[i]));
    return p;
}

void pseudo_add(struct pseudo *p, const char *title, const char *text)
{
    CHECK(p->documents < p->capacity);
    p->first[p->documents] = (int32_t)p->sentences.size;
    add_sentences(p, title, false);
    add_sentences(p, text, true);
    p->documents++;
    p->first[p->documents] = (int32_t)p->sentences.size;
}

/* ---- idf, frequent words ---- */

static void weigh_words(struct pseudo *p)
{
    for (int32_t i = 0; i < p->word_count; i++)
        p->words[i].idf = logf(((float)p->documents + 1) / ((float)p->words[p->words[i].lower].documents + 0.5f));
    for (int32_t k = 0; k < FREQUENT; k++) {
        int32_t best = -1;
        for (int32_t i = 0; i < p->word_count; i++)
            if (p->words[i].lower == i && p->words[i].last >= 0 && (best < 0 || p->words[i].documents > p->words[best].documents))
                best = i;
        if (best < 0)
            break;
        p->words[best].last = -1;
        p->frequent[p->frequent_count++] = best;
    }
}

static void document_slice(const struct pseudo *p, int32_t document, int32_t *from, int32_t *to)
{
    *from = p->sentences.data[p->first[document]];
    *to = document + 1 < p->documents ? p->sentences.data[p->first[document + 1]] : (int32_t)p->text.size;
}

static int compare_places(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

void pseudo_end(struct pseudo *p)
{
    weigh_words(p);
}

void pseudo_free(struct pseudo *p)
{
    if (p == NULL)
        return;
    string_map_free(p->map);
    str_free(&p->letters);
    free(p->words);
    free(p->tokens.data);
    free(p->text.data);
    free(p->sentences.data);
    free(p->first);
    free(p);
}

/* ---- cuts ---- */

static void put(struct pseudo_query *q, int32_t word)
{
    if (q->count < PSEUDO_WORDS)
        q->words[q->count++] = word;
}

static void sentence_slice(const struct pseudo *p, int32_t document, int32_t sentence, int32_t *from, int32_t *to)
{
    int32_t index = p->first[document] + sentence, end;
    document_slice(p, document, from, &end);
    *from = p->sentences.data[index];
    *to = index + 1 < p->first[document + 1] ? p->sentences.data[index + 1] : end;
}

/* A sentence with words; the title counts as one. False when the document has none. */
static bool some_sentence(const struct pseudo *p, int32_t document, struct stream *s, int32_t *from, int32_t *to)
{
    int32_t n = p->first[document + 1] - p->first[document], start = below(s, n);
    for (int32_t i = 0; i < n; i++) {
        sentence_slice(p, document, (start + i) % n, from, to);
        if (*to > *from)
            return true;
    }
    return false;
}

static void cut_slice(const struct pseudo *p, int32_t from, int32_t to, double drop, struct stream *s, struct pseudo_query *q)
{
    for (int32_t i = from; i < to; i++)
        if (uniform(s) >= drop)
            put(q, p->text.data[i]);
}

static void cut_span(const struct pseudo *p, int32_t document, struct stream *s, struct pseudo_query *q)
{
    int32_t from, to;
    if (!some_sentence(p, document, s, &from, &to))
        return;
    int32_t length = 4 + below(s, 14), spare = to - from - length;
    from += spare > 0 ? below(s, spare + 1) : 0;
    cut_slice(p, from, from + length < to ? from + length : to, 0.1, s, q);
}

/* Weighted sample of `want` positions of [from, to) without replacement, weight idf (Efraimidis-Spirakis keys u^(1/w)), in text order. */
static void cut_telling(const struct pseudo *p, int32_t from, int32_t to, int32_t want, struct stream *s, struct pseudo_query *q)
{
    float keys[PSEUDO_WORDS];
    int32_t chosen[PSEUDO_WORDS], n = 0;
    want = want < PSEUDO_WORDS ? want : PSEUDO_WORDS;
    for (int32_t i = from; i < to; i++) {
        float idf = p->words[p->text.data[i]].idf;
        float key = logf((float)uniform(s) + 1e-9f) / (idf + 0.05f);
        int32_t at = n < want ? n++ : want;
        if (at == want) {
            if (want == 0 || key <= keys[want - 1])
                continue;
            at = want - 1;
        }
        for (; at > 0 && keys[at - 1] < key; at--) {
            keys[at] = keys[at - 1];
            chosen[at] = chosen[at - 1];
        }
        keys[at] = key;
        chosen[at] = i;
    }
    qsort(chosen, (size_t)n, sizeof *chosen, compare_places);
    for (int32_t i = 0; i < n; i++)
        put(q, p->text.data[chosen[i]]);
}

static void cut_words(const struct pseudo *p, int32_t document, struct stream *s, struct pseudo_query *q)
{
    int32_t from, to, parts = 1 + below(s, 2);
    for (int32_t k = 0; k < parts; k++)
        if (some_sentence(p, document, s, &from, &to))
            cut_telling(p, from, to, 2 + below(s, 7), s, q);
}

static void shuffle_words(struct pseudo_query *q, struct stream *s)
{
    for (int32_t i = q->count - 1; i > 0; i--) {
        int32_t j = below(s, i + 1), swap = q->words[i];
        q->words[i] = q->words[j];
        q->words[j] = swap;
    }
}

static void cut_scatter(const struct pseudo *p, int32_t document, struct stream *s, struct pseudo_query *q)
{
    int32_t from, to;
    document_slice(p, document, &from, &to);
    cut_telling(p, from, to, 2 + below(s, 9), s, q);
    if (uniform(s) < 0.5)
        shuffle_words(q, s);
}

static void cut_title(const struct pseudo *p, int32_t document, struct stream *s, struct pseudo_query *q)
{
    int32_t from, to;
    sentence_slice(p, document, 0, &from, &to);
    if (to > from)
        cut_slice(p, from, to, 0.2, s, q);
    else
        cut_words(p, document, s, q);
}

static int32_t noise_word(const struct pseudo *p, struct stream *s)
{
    return p->frequent_count > 0 && uniform(s) < 0.5 ? p->frequent[below(s, p->frequent_count)] : below(s, QUESTION_WORDS);
}

/* Function words before and between, and lower case for every second query. */
static void disturb(const struct pseudo *p, struct stream *s, struct pseudo_query *q)
{
    struct pseudo_query out = {.count = 0};
    double rate = uniform(s) < 0.5 ? 0.2 : 0;
    int32_t lead = uniform(s) < 0.3 ? 1 + below(s, 4) : 0;
    bool lower = uniform(s) < 0.5;
    for (int32_t i = 0; i < lead; i++)
        put(&out, below(s, QUESTION_WORDS));
    for (int32_t i = 0; i < q->count; i++) {
        if (uniform(s) < rate)
            put(&out, noise_word(p, s));
        put(&out, lower ? p->words[q->words[i]].lower : q->words[i]);
    }
    *q = out;
}

static enum pseudo_cut choose_cut(struct stream *s)
{
    double u = uniform(s);
    return u < 0.15 ? CUT_TITLE : u < 0.4 ? CUT_SPAN : u < 0.7 ? CUT_WORDS : CUT_SCATTER;
}

void pseudo_draw(const struct pseudo *p, int32_t document, enum pseudo_cut cut, uint64_t seed, struct pseudo_query *q)
{
    static void (*const cuts[])(const struct pseudo *, int32_t, struct stream *, struct pseudo_query *) = {cut_title, cut_span, cut_words,
                                                                                                           cut_scatter};
    struct stream s = {mix64(seed, (uint64_t)document), 0};
    q->count = 0;
    cuts[cut == CUT_ANY ? choose_cut(&s) : cut](p, document, &s, q);
    int32_t from, to;
    document_slice(p, document, &from, &to);
    if (q->count == 0 && to > from) /* everything was left out */
        put(q, p->text.data[from + below(&s, to - from)]);
    if (q->count > 0)
        disturb(p, &s, q);
}

void pseudo_parse(struct pseudo *p, const char *text, struct pseudo_query *q)
{
    const char *word;
    size_t size;
    bool ends;
    q->count = 0;
    while (q->count < PSEUDO_WORDS && next_word(&text, &word, &size, &ends))
        if (size > 0)
            put(q, word_number(p, word, size));
}

void pseudo_thin(struct pseudo_query *q, double rate, uint64_t seed)
{
    int32_t kept = 0, last = q->count > 0 ? q->words[0] : 0;
    for (int32_t i = 0; i < q->count; i++)
        if (mix_uniform(seed, (uint64_t)i) >= rate)
            q->words[kept++] = q->words[i];
    if (kept == 0 && q->count > 0)
        q->words[kept++] = last;
    q->count = kept;
}

void pseudo_text(const struct pseudo *p, const struct pseudo_query *q, struct str *text)
{
    for (int32_t i = 0; i < q->count; i++) {
        const struct word *w = &p->words[q->words[i]];
        str_printf(text, "%s%.*s", i ? " " : "", (int)w->bytes, p->letters.data + w->spelled);
    }
}

int32_t pseudo_tokens(const struct pseudo *p, const struct pseudo_query *q, int32_t *tokens, int32_t room)
{
    int32_t n = 0;
    for (int32_t i = 0; i < q->count; i++) {
        const struct word *w = &p->words[q->words[i]];
        for (int32_t k = 0; k < w->count && n < room - 1; k++)
            tokens[n++] = p->tokens.data[w->first + k];
    }
    tokens[n++] = TOKEN_EOS;
    return n;
}
