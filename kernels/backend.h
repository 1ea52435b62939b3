/* backend.h: the contract of every numeric operation, the only thing that core/ knows of a device.
 *
 * A backend is one constant table of functions. The model is written once against it; `cpu` (oneDNN + plain C) and `cuda` fill it.
 * Precision belongs to the backend: an activation (`struct act *`) is opaque (f32 on cpu, bf16 on cuda); only upload and download speak
 * f32 about it. Norm weights, biases, losses, scores, softmax sums and optimiser state are `float *` everywhere. Every pointer given to an
 * op is backend memory (from alloc); `read` and `write` copy between host and backend memory. On cpu both are the same memory.
 *
 * Rules that hold for all ops
 *  - Shapes: row-major. Letters: B rows of a batch, S tokens in, T positions out, D model width, H heads, F feed-forward width, V
 *    vocabulary, K codes, N documents. `n` counts tokens (packed rows); counts are elements, never bytes, unless the name says bytes.
 *  - Batches are packed: `struct rows` says where each row of the batch starts. Rows may be empty.
 *  - *_backward writes "=" to activation gradients (except where "+=" is said) and "+=" to parameter gradients.
 *  - Nothing allocates but alloc, act_alloc, weight_open. Nothing fails but these three (NULL / -1 when memory is short).
 *  - Same inputs, same thread count, same processor: same bits. Sums over tokens have a fixed order.
 *  - One thread calls ops at a time; the backend spreads the work over its own threads.
 */
#ifndef SEMINDEX_BACKEND_H
#define SEMINDEX_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct act; /* opaque activation memory, 64-byte aligned where act_alloc returned it */

/* A packed batch: row i is tokens offsets[i] .. offsets[i+1]-1; offsets is backend memory, count + 1 entries; the rest are host facts. */
struct rows {
    int32_t count;   /* rows of the batch */
    int32_t total;   /* offsets[count] */
    int32_t longest; /* longest row, an upper bound is fine */
    const int32_t *offsets;
};

/* Inverted dropout by hash: element i is kept iff dropout_keeps(seed, i, rate), and then scaled by 1 / (1 - rate). rate 0 = none. The
 * backward pass draws the same mask again from the same seed and index. */
struct dropout {
    float rate;
    uint64_t seed;
};

/* Functions that host and device code share. */
#ifdef __CUDACC__
#define BACKEND_SHARED static inline __host__ __device__
#else
#define BACKEND_SHARED static inline
#endif

/* splitmix64's finaliser over (seed, index): the one hash behind dropout and hint masks, equal on every backend. */
BACKEND_SHARED uint64_t mix64(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
/* Uniform in [0, 1) with 24 bits. */
BACKEND_SHARED float mix_uniform(uint64_t seed, uint64_t index)
{
    return (float)(mix64(seed, index) >> 40) * (1.0f / 16777216.0f);
}
BACKEND_SHARED bool dropout_keeps(struct dropout d, uint64_t index)
{
    return mix_uniform(d.seed, index) >= d.rate;
}

/* A weight matrix [rows = outputs, cols = inputs], row-major; also an embedding table (row = token). A view into the model's one block of
 * f32 parameters; `native` is the backend's own form (packed for oneDNN, bf16 on cuda), made by weight_open, renewed by weight_refresh. */
struct weight {
    int32_t rows, cols;
    float *master; /* f32, backend memory, not owned */
    float *grad;   /* f32, same layout, or NULL when nothing is trained; not owned */
    void *native;  /* owned by the backend, or NULL */
};
enum weight_use {
    WEIGHT_TRAIN, /* the master changes between calls: native may only be a cheap form */
    WEIGHT_INFER  /* the master is constant until weight_refresh: pack as deeply as pays */
};

enum { LINEAR_RELU = 1, LINEAR_ACCUMULATE = 2 }; /* y = relu(..); y += .. (backward: dx += ..) */

/* Attention over packed rows: row b of q attends row b of k/v. No 1/sqrt(d) (T5). Head h of token i is at i * stride + h * width.
 * score(i, j) = q_i . k_j + bias[bucket(j - i) * heads + h], i and j counted within their rows (i is query position). */
struct attention {
    int32_t heads, width;
    struct rows q_rows, k_rows; /* equal count */
    const struct act *q, *k, *v;
    int32_t q_stride, k_stride, v_stride;
    const float *bias; /* [buckets, heads], or NULL: no bias (cross-attention) */
    int32_t buckets, max_distance;
    bool bidirectional;  /* kind of the buckets, see attention_bucket */
    bool causal;         /* j <= i only */
    struct dropout drop; /* on the probabilities; element index ((h * q_total) + q token) * 65536 + j */
    struct act *out;     /* [q total, heads * width], dense; an empty k row gives zeros */
    float *lse;          /* [heads, q total] log-sum-exp of the scores, for the backward pass; NULL when not training */
};
struct attention_grad {
    const struct act *dout;        /* [q total, heads * width] */
    struct act *dq, *dk, *dv;      /* "=", with the strides of q, k, v */
    float *dbias;                  /* [buckets, heads] "+=", or NULL */
};

/* T5's relative position bucket of distance = key position - query position. Source: Raffel et al. 2020, section 2.1; 32 buckets, 128. */
int32_t attention_bucket(int32_t distance, bool bidirectional, int32_t buckets, int32_t max_distance);

/* One cached decode step of self-attention: live row r at position `position` puts its own key and value into the cache, at [position, r],
 * and attends the positions 0..position of its own ancestors. The cache is [positions, capacity, heads * width]; anc[p * capacity + r] = the
 * row of position p's cache that r descends from (anc[position * capacity + r] = r). What is cached is never moved. Bias: causal buckets. */
struct decode_attention {
    int32_t heads, width, n, position, capacity;
    const struct act *q, *k, *v; /* [n, stride]: of the new position; no part of the caches */
    int32_t q_stride, kv_stride;
    struct act *k_cache, *v_cache; /* page `position` is written */
    const int32_t *anc;
    const float *bias; /* [buckets, heads] */
    int32_t buckets, max_distance;
    int32_t past;    /* live rows of pages 0 .. position - 1 in all: what can be read of the caches; for reckoning alone */
    struct act *out; /* [n, heads * width] */
};

/* A cached decode step through a whole stack of layers, in one call: what add_rmsnorm, linear, decode_attention, attention and gated_gelu do one by
 * one when every product that ends a sublayer adds to the stream x. For few rows, where a device would spend its time beginning ops. */
struct decode_layer {
    const struct weight *qkv, *out, *cross_q, *cross_out, *wi, *wo; /* WEIGHT_INFER; wi [f or 2f, d] */
    const float *self_norm, *cross_norm, *ff_norm;
};
struct decode_stack {
    int32_t layers, d, f;
    bool gated;
    float eps;
    const struct decode_layer *layer; /* host memory */
    struct decode_attention self;     /* of the first layer; q, k, v are columns of one [n, 3 * heads * width], q first; caches go on by cache_step */
    struct attention cross;           /* of the first layer: no bias, no mask, no dropout, no lse; k and v go on by cross_step elements a layer */
    int64_t cache_step, cross_step;
    struct act *x;      /* [n, d] the residual stream, in place */
    struct act *hidden; /* [n, f or 2f] */
    struct act *y;      /* [n, d] "=": rmsnorm(x) * final after the last layer */
    const float *final;
};

/* The reconstructor's attention (LMIndexer; tests' fixtures README, "lmindexer", 3). Document b has `passes` query vectors (ID side) and a
 * memory of passes + m_b vectors: first the ID side, then its m_b text tokens. For pass p and target i of document b, key k:
 *   score = q[b * passes + p] . key_k + bias[bucket(k - (passes + i))];  k < passes always visible, k = passes + j visible iff hint(b, i, j).
 * Outputs are pass-major: row p * M + text_rows.offsets[b] + i, M = text_rows.total. */
struct hint_attention {
    int32_t heads, width, passes;
    struct rows text_rows;         /* m_b text tokens of each document */
    struct rows memory_rows;       /* passes + m_b */
    const struct act *q;           /* [B * passes, heads * width] dense */
    const struct act *k, *v;       /* [memory total, stride] */
    int32_t k_stride, v_stride;
    const float *bias;             /* [buckets, heads], bidirectional */
    int32_t buckets, max_distance;
    const uint8_t *visible;        /* explicit masks, document b at visible_offsets[b], [m_b, m_b]; or NULL: drawn by hash */
    const int64_t *visible_offsets;
    float ratio;                   /* hash form: j is a hint of i iff i != j and mix_uniform(mix64(seed, doc_key[b]), i * 65536 + j) < ratio */
    uint64_t seed;
    const uint64_t *doc_key;       /* [B] */
    struct act *out;               /* [passes * M, heads * width] */
    float *lse;                    /* [heads, passes * M] or NULL */
};
struct hint_attention_grad {
    const struct act *dout;
    struct act *dq, *dk, *dv; /* "=" */
    float *dbias;             /* "+=" or NULL */
};

/* Cross-entropy of a tied or untied head, logits never stored whole: logits = scale * x[pick[i]] . head[first + j], j < count; label in
 * 0..count-1 counts, below 0 is left out. loss (one float, "=") = weight * sum of -log p[label]; dx[pick[i]] "=" (rows that are left out
 * get 0; NULL = forward only) and head.grad rows "+=" receive weight * gradient. pick NULL = identity. Picked rows are distinct. */
struct head_loss {
    int32_t n, first, count;
    const struct act *x; /* [.., head->cols] */
    const int32_t *pick; /* [n] or NULL */
    const struct weight *head;
    float scale, weight;
    const int32_t *labels; /* [n] */
    float *loss;           /* [1] "=" */
    float *row_loss;       /* [n] -log p of each counted row (0 else), or NULL */
    struct act *dx;        /* or NULL */
};

/* Quantiser with a straight-through estimator (method.md 2): P = softmax_j(inv_temperature * h . E_j); soft = sum_j P_j E_j; code = argmax
 * (lowest index on a tie); q = E[code]. Backward: dh "+=" and E.grad "+=" through `soft` only. */
struct quantise {
    int32_t n, codes; /* codebook = rows first .. first + codes of book */
    const struct weight *book;
    int32_t first;
    float inv_temperature;
    const struct act *h; /* [n, D] */
    struct act *q;       /* [n, D] */
    int32_t *code;       /* [n] */
    float *p;            /* [n, codes], kept for the backward pass; or NULL */
    float *soft;         /* [n, D] or NULL */
};

/* Contrastive loss over listed candidates: document i has candidate rows candidates[offsets[i] .. offsets[i+1]) of h, the first being the
 * positive; anchor row anchors[i]. Documents with fewer than two candidates are left out.
 * loss "=" = weight / (documents counted) * sum_i -log softmax_c(inv_temperature * h_anchor . h_c)[first]; dh[any row] "+=" (NULL: none). */
struct contrastive {
    int32_t n, d;
    const struct act *h;
    const int32_t *anchors, *candidates, *offsets;
    float inv_temperature, weight;
    float *loss;
    struct act *dh;
};

/* Level-order trie of semantic IDs (built by core/retrieve/trie.c). Level t (from 0) has `nodes` nodes, each reached by one code; children
 * of a node are contiguous and sorted by code: node i of level t has children first[i] .. first[i+1]-1 of level t + 1. The root's children
 * are all nodes of level 0. Leaves of the last level map to documents by `leaf_doc`. A view is host memory; its arrays lie where
 * they are read: in host memory for a trie's own view, in backend memory for the one that beam_step is given (trie_upload makes it). */
enum { TRIE_LEVELS_MAX = 16 };
struct trie_level {
    uint32_t nodes;
    bool wide;             /* codes are uint32_t, else uint16_t */
    const void *codes;     /* [nodes] */
    const uint32_t *first; /* [nodes + 1]; NULL at the last level */
};
struct trie_view {
    int32_t levels;
    struct trie_level level[TRIE_LEVELS_MAX];
    const uint32_t *leaf_doc; /* [nodes of the last level]; no op reads it, NULL in backend memory */
    /* This view once more, in backend memory: beam_step reads levels and arrays through it when it runs, so a recorded step follows what is
     * written there later. NULL where has_host_memory. */
    const struct trie_view *resident;
};

/* Beams of all requests, folded into rows. Request r owns rows offsets[r] .. offsets[r+1]-1, best first. */
struct beams {
    int32_t requests;
    int32_t total;    /* rows to process next: exact where has_host_memory, else an upper bound: rows from offsets[requests] on mean nothing */
    int32_t *offsets; /* [requests + 1] */
    uint32_t *node;   /* node of the level just chosen; unused before the first step */
    float *score;     /* sum of log-probabilities */
    int32_t *parent;  /* row in the previous beams */
    uint32_t *code;
};
enum { BEAM_WIDTH_MOST = 1024 };
/* One step: for every beam, log softmax over the position's `codes` head rows (all of them), candidates = its trie children with code <
 * codes (others have no trained row and are skipped), keep the `width` best of each request by (score descending, parent row ascending,
 * code ascending). renormalise: the softmax runs over the candidates only. Rows of out from the last live one up to out->total get token 0 and
 * parent 0, so that the next decode step may run over all of them. */
struct beam_step {
    const struct trie_view *trie;
    int32_t level; /* codes of this level are chosen */
    const struct weight *head;
    int32_t first, codes; /* head rows of this position */
    float scale;
    const struct act *h; /* [in->total, D] */
    const struct beams *in;
    struct beams *out; /* arrays sized for requests * width; offsets, total, node, score, parent, code are written */
    int32_t *tokens;   /* [requests * width] token_base + code of each row of out, the next decoder inputs; or NULL */
    int32_t token_base;
    int32_t width; /* <= BEAM_WIDTH_MOST where not has_host_memory, and so is the longest row of in */
    bool renormalise;
    float *log_mass; /* [requests] or NULL: unused by the search itself; log-sum of probability cut at this step, for `exhaustive` */
    int32_t *cut;    /* [requests] "=": candidates dropped by the width */
};

struct adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float clip;      /* the gradient is multiplied by min(1, clip / (norm + 1e-6)); 0 = no clipping */
    double norm;     /* global L2 norm of the gradient */
    int64_t step;    /* from 1 */
};

struct recording; /* work put down once and replayed by a device */
struct landing;   /* host memory that a device writes by itself */

struct backend {
    const char *name;   /* "cpu" */
    const char *device; /* what a person reads in /info */

    /* memory */
    bool has_host_memory;                   /* backend memory is host memory: what lies there may be read where it is */
    size_t act_bytes;                       /* of one activation element */
    size_t (*memory_free)(size_t *total);   /* bytes free and in all; NULL: memory is the machine's, and nobody reckons */
    void *(*alloc)(size_t bytes); /* zeroed; NULL when there is none */
    void (*release)(void *memory);
    struct act *(*act_alloc)(int64_t elements);
    struct act *(*act_at)(const struct act *x, int64_t elements); /* x advanced */
    void (*upload)(struct act *y, const float *host, int64_t n);
    void (*download)(float *host, const struct act *x, int64_t n);
    void (*write)(void *memory, const void *host, size_t bytes);
    void (*read)(void *host, const void *memory, size_t bytes);
    void (*zero)(void *memory, size_t bytes);
    void (*act_zero)(struct act *x, int64_t n);
    int (*weight_open)(struct weight *w, enum weight_use use); /* rows, cols, master, grad set by the caller */
    void (*weight_refresh)(struct weight *w);                  /* after the master changed */
    void (*weight_close)(struct weight *w);

    /* rows and elements */
    void (*embed)(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop); /* y[n, cols] */
    void (*embed_backward)(const struct weight *table, const int32_t *ids, const struct act *dy, int32_t n, struct dropout drop);
    void (*gather)(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d);      /* y[i] = x[index[i]] */
    void (*scatter_add)(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d); /* y[index[i]] += x[i], i ascending */
    void (*dropout)(struct act *y, const struct act *x, int64_t n, struct dropout drop); /* also its own backward; y may be x; rate 0 copies */
    void (*axpy)(struct act *y, float a, const struct act *x, int64_t n);                /* y += a x */
    void (*pool_mean)(struct act *y, const struct act *x, struct rows rows, int32_t d);  /* mean of each row's tokens, 0 if empty */

    /* r_out = r_in + dropout(x) (x NULL: r_out = r_in), y = rmsnorm(r_out) * w. r_out may be r_in; y [n, d]. */
    void (*add_rmsnorm)(struct act *r_out, struct act *y, const struct act *r_in, const struct act *x, const float *w, int32_t n, int32_t d,
                        float eps, struct dropout drop);
    /* dr "+=" the gradient through the norm; dw "+=". r is the r_out of the forward pass. */
    void (*rmsnorm_backward)(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                             float eps);

    /* products: y[n, rows] = alpha * x[n, cols] . w^T */
    void (*linear)(struct act *y, const struct act *x, const struct weight *w, int32_t n, float alpha, int flags);
    /* dx (or NULL) = dy . w (flag ACCUMULATE: +=); w.grad += dy^T . x (skipped when w.grad is NULL) */
    void (*linear_backward)(struct act *dx, const struct weight *w, const struct act *dy, const struct act *x, int32_t n, int flags);
    void (*relu_backward)(struct act *dy, const struct act *y, int64_t n, float scale); /* dy = y > 0 ? scale * dy : 0, in place */
    /* ab [n, 2f] = [wi_0 x | wi_1 x]; y[n, f] = dropout(gelu_new(a) * b) */
    void (*gated_gelu)(struct act *y, const struct act *ab, int32_t n, int32_t f, struct dropout drop);
    void (*gated_gelu_backward)(struct act *dab, const struct act *dy, const struct act *ab, int32_t n, int32_t f, struct dropout drop);

    /* attention */
    void (*attention)(const struct attention *a);
    void (*attention_backward)(const struct attention *a, const struct attention_grad *g); /* a->out and a->lse as the forward left them */
    void (*decode_attention)(const struct decode_attention *a);
    /* NULL where a device gains nothing by it. False: not for this shape (too many rows, odd widths), nothing was done. */
    bool (*decode_stack)(const struct decode_stack *a);
    /* The ancestor table of the next position: out[p * capacity + r] = in[p * capacity + parent[r]] for p < position, and
     * out[position * capacity + r] = r; r < n. out and in are different tables; in and parent are not read at position 0. */
    void (*ancestors)(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity);
    void (*hint_attention)(const struct hint_attention *a);
    void (*hint_attention_backward)(const struct hint_attention *a, const struct hint_attention_grad *g); /* reads a->out and a->lse, too */

    /* losses, quantiser, clustering */
    void (*head_loss)(const struct head_loss *a);
    void (*quantise)(const struct quantise *a);
    void (*quantise_backward)(const struct quantise *a, const struct act *dq, struct act *dh);
    void (*contrastive)(const struct contrastive *a);
    /* nearest centroid by squared distance, lowest index on a tie; distance may be NULL. x [n, d], centroids [k, d] */
    void (*kmeans_assign)(int32_t *assign, float *distance, const float *x, const float *centroids, int32_t n, int32_t k, int32_t d);

    /* retrieval */
    void (*beam_step)(const struct beam_step *a);

    /* optimiser, over flat f32 blocks */
    double (*sum_squares)(const float *x, int64_t n);
    void (*adamw)(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw *a);

    /* Recordings (NULL where calls run at once): ops called between begin and end are put down instead of run; replay runs them on what memory
     * then holds. Only ops, zero and act_zero may be called in between; sum_squares, which returns a number, may not. The same calls should have
     * run once before: at first use of a shape a device loads and chooses its kernels, which a recording may refuse. */
    int (*record_begin)(void);
    struct recording *(*record_end)(void); /* NULL: the device refused; the ops have not run */
    void (*replay)(const struct recording *r);
    void (*record_free)(struct recording *r); /* NULL is fine */
    size_t (*recording_bytes)(const struct recording *r); /* of the device's memory, about */

    /* Reads that nobody waits for (NULL where has_host_memory): land begins to copy into a landing, from byte `at` on, what memory (activations,
     * too, in the form they have there) holds when all calls so far have run; landed waits for the last land and returns the landing's bytes, which
     * stay as they are until the next one. unpack makes f32 of activations that have landed. landed and unpack: any thread. */
    struct landing *(*landing_open)(size_t bytes); /* NULL when memory is short */
    void (*landing_close)(struct landing *l);      /* NULL is fine */
    void (*land)(struct landing *l, size_t at, const void *memory, size_t bytes);
    const void *(*landed)(struct landing *l);
    void (*unpack)(float *y, const void *landed, int64_t n);

    /* A device that fails while it runs ends the process with exit code 70, after one line on standard error and this call (NULL: none). It is
     * made on the thread that met the fault, which must not call the backend again. NULL where nothing can fail. */
    void (*on_fault)(void (*handler)(const char *line));
};

/* The backend by name: "cpu", "cuda", "cuda:1" (the device's number), "auto" (cuda where it opens, else cpu). threads: of cpu, 0 = all
 * processors. NULL with a reason in message when it cannot be had. Else message is "", or says why auto did not take cuda. May be called
 * again with the same name; the thread count of the first call stays. */
const struct backend *backend_open(const char *name, int threads, char *message, size_t message_size);

/* A backend that is loaded when asked for: the one symbol, "semindex_backend_module", of its shared object. The program takes it only when
 * abi and size are its own: both were built from the same backend.h. */
struct backend_module {
    uint32_t abi; /* SEMINDEX_BACKEND_ABI: checksum of backend.h */
    uint32_t size; /* of struct backend */
    const struct backend *(*open)(int index, char *message, size_t message_size);
};

/* The plain f64-accumulating backend of the conformance test lives in tests/unit; it is no product backend. */

#endif
