/* sqlite_lexical.c: BM25 by FTS5.
 *
 * FTS5 joins words by AND and reads operators in its query language; so the query is cut into words here, each is put in quotes (a quote is
 * no word character, so nothing can leave them) and they are joined by OR. A word that stands twice in the query counts twice: BM25 weighs a
 * term by its frequency in the query. Stopwords are left out unless nothing else is there; they would match every document and say nothing.
 * Long queries are bounded by words, not cut by bytes. FTS5 gives a rank to every matching row; the best are chosen here, because ties are
 * to be broken by document id, and an id is read only for rows that tie at the edge or within the list. */
#include "../base/hash.h"
#include "sqlite_internal.h"
#include <string.h>

enum { WORDS_MAX = 512, DISTINCT_MAX = 256, WORD_BYTES_MAX = 128 };

static const char *const stopwords[] = {
    "a",     "about", "after", "all",   "also",  "am",    "an",   "and",   "any",   "are",  "as",   "at",    "be",    "been",  "but",   "by",
    "can",   "could", "did",   "do",    "does",  "for",   "from", "had",   "has",   "have", "he",   "her",   "his",   "how",   "i",     "if",
    "in",    "into",  "is",    "it",    "its",   "me",    "my",   "no",    "not",   "of",   "on",   "or",    "our",   "s",     "she",   "so",
    "such",  "t",     "than",  "that",  "the",   "their", "them", "then",  "there", "these", "they", "this", "to",    "us",    "was",   "we",
    "were",  "what",  "when",  "where", "which", "who",   "why",  "will",  "with",  "would", "you",  "your",
};

static int compare_words(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static bool is_stopword(const char *word) {
    return bsearch(&word, stopwords, sizeof stopwords / sizeof *stopwords, sizeof *stopwords, compare_words) != NULL;
}

/* ---- words of a query ---- */

struct words {
    struct arena arena;
    const char *list[WORDS_MAX];
    int32_t count, content; /* all words, those that are no stopwords */
    struct string_map *seen;
};

/* Bytes of the separator at p, 0 if a word character is there: ASCII outside letters and digits; of the rest only the blocks of punctuation
 * U+0080..BF, U+2000..206F, U+3000..303F and U+FF00..FF0F. What stays inside the quotes is cut by FTS5's own tokenizer. */
static size_t separator(const unsigned char *p, size_t left) {
    if (*p < 0x80) return !((*p | 32) >= 'a' && (*p | 32) <= 'z') && !(*p >= '0' && *p <= '9');
    if (*p == 0xc2 && left >= 2) return p[1] == 0xaa || p[1] == 0xb5 || p[1] == 0xba ? 0 : 2;
    if (left < 3) return 0;
    bool general = p[0] == 0xe2 && (p[1] == 0x80 || (p[1] == 0x81 && p[2] < 0xb0));
    bool cjk = p[0] == 0xe3 && p[1] == 0x80;
    bool full_width = p[0] == 0xef && p[1] == 0xbc && p[2] < 0x90;
    return general || cjk || full_width ? 3 : 0;
}

static void add_word(struct words *w, const unsigned char *start, size_t size) {
    if (size > WORD_BYTES_MAX || w->count == WORDS_MAX) return;
    char *word = arena_strndup(&w->arena, (const char *)start, size);
    for (char *c = word; *c; c++) *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    bool known = string_map_get(w->seen, word, size) >= 0;
    if (!known && string_map_count(w->seen) == DISTINCT_MAX) return;
    if (!known) string_map_put(w->seen, word, size, 1);
    w->content += !is_stopword(word);
    w->list[w->count++] = word;
}

static void split(struct words *w, const char *query, size_t size) {
    const unsigned char *p = (const unsigned char *)query, *end = p + size, *start = NULL;
    while (p < end && w->count < WORDS_MAX) {
        size_t skip = separator(p, (size_t)(end - p));
        if (!skip && !start) start = p;
        if (skip && start) add_word(w, start, (size_t)(p - start)), start = NULL;
        p += skip ? skip : 1;
    }
    if (start) add_word(w, start, (size_t)(p - start));
}

/* "a" OR "b" ...; empty when the query has no word. */
static struct str match_expression(const char *query, size_t size) {
    struct words w = {.seen = string_map_init(DISTINCT_MAX)};
    struct str out = {0};
    arena_init(&w.arena, 0);
    split(&w, query, size);
    for (int32_t i = 0; i < w.count; i++) {
        if (w.content && is_stopword(w.list[i])) continue;
        str_puts(&out, out.size ? " OR \"" : "\"");
        str_puts(&out, w.list[i]);
        str_puts(&out, "\"");
    }
    string_map_free(w.seen);
    arena_free(&w.arena);
    return out;
}

/* ---- the best of all matches ---- */

struct match {
    int64_t number;
    double score;
    const char *id; /* read when it is needed to break a tie */
};
struct matches {
    struct match *list;
    int64_t count, room;
    struct arena arena;
};

static int collect(struct catalog_reader *r, const char *expression, struct matches *m, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_SEARCH, e);
    int rc;
    if (!s) return -1;
    bind_text(s, 1, expression);
    while ((rc = db_step(s, e)) == 1) {
        if (m->count == m->room) {
            m->room = m->room ? 2 * m->room : 1024;
            m->list = xrealloc(m->list, (size_t)m->room, sizeof *m->list);
        }
        m->list[m->count++] = (struct match){.number = sqlite3_column_int64(s, 0), .score = -sqlite3_column_double(s, 1)};
    }
    return rc;
}

static int by_score(const void *a, const void *b) {
    const struct match *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id && y->id ? strcmp(y->id, x->id) : 0;
}

static void sift_down(double *heap, int32_t size, int32_t i) {
    for (int32_t child; (child = 2 * i + 1) < size; i = child) {
        if (child + 1 < size && heap[child + 1] < heap[child]) child++;
        if (heap[i] <= heap[child]) return;
        double swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

/* The limit-th best score, by a heap of the best so far. */
static double edge_score(const struct matches *m, int32_t limit) {
    double *heap = xmalloc((size_t)limit * sizeof *heap);
    for (int32_t i = 0; i < limit; i++) heap[i] = m->list[i].score;
    for (int32_t i = limit / 2; i-- > 0;) sift_down(heap, limit, i);
    for (int64_t i = limit; i < m->count; i++) {
        if (m->list[i].score <= heap[0]) continue;
        heap[0] = m->list[i].score;
        sift_down(heap, limit, 0);
    }
    double edge = heap[0];
    free(heap);
    return edge;
}

static void keep_from(struct matches *m, double edge) {
    int64_t kept = 0;
    for (int64_t i = 0; i < m->count; i++) {
        if (m->list[i].score >= edge) m->list[kept++] = m->list[i];
    }
    m->count = kept;
}

static int read_id(struct catalog_reader *r, struct matches *m, struct match *hit, struct err *e) {
    sqlite3_stmt *s = reader_statement(r, R_NAME, e);
    if (!s) return -1;
    sqlite3_bind_int64(s, 1, hit->number);
    int rc = db_step(s, e);
    const char *id = rc == 1 ? (const char *)sqlite3_column_text(s, 0) : "";
    hit->id = arena_strndup(&m->arena, id ? id : "", id ? strlen(id) : 0);
    if (rc == 1) db_reset(s);
    return rc < 0 ? -1 : 0;
}

/* Sorts by score, then reads the ids of every run of equal scores and sorts it again. */
static int sort_matches(struct catalog_reader *r, struct matches *m, struct err *e) {
    qsort(m->list, (size_t)m->count, sizeof *m->list, by_score);
    for (int64_t from = 0, to; from < m->count; from = to) {
        for (to = from + 1; to < m->count && m->list[to].score == m->list[from].score;) to++;
        if (to == from + 1) continue;
        for (int64_t i = from; i < to; i++) {
            if (read_id(r, m, &m->list[i], e)) return -1;
        }
        qsort(m->list + from, (size_t)(to - from), sizeof *m->list, by_score);
    }
    return 0;
}

int catalog_search(struct catalog_reader *r, const char *query, size_t size, int32_t limit, struct catalog_hit *hits, int32_t *n, struct err *e) {
    struct str expression = match_expression(query, size);
    struct matches m = {0};
    int rc = 0;
    *n = 0;
    arena_init(&m.arena, 0);
    if (!expression.size || limit <= 0) goto out;
    if ((rc = collect(r, expression.data, &m, e))) goto out;
    if (m.count > limit) keep_from(&m, edge_score(&m, limit));
    if (m.count && (rc = sort_matches(r, &m, e))) goto out;
    *n = m.count < limit ? (int32_t)m.count : limit;
    for (int32_t i = 0; i < *n; i++) hits[i] = (struct catalog_hit){m.list[i].number, m.list[i].score};
out:
    free(m.list);
    arena_free(&m.arena);
    str_free(&expression);
    return rc;
}
