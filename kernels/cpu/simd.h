/* simd.h: the inner loops of the cpu backend as one table per instruction set.
 *
 * loops.h is compiled three times (simd_base.c, simd_avx2.c, simd_avx512.c) with vectors of 4, 8 and 16 floats and nothing but gcc's vector
 * extension: no intrinsics, no ifunc resolvers (which crash under sanitizers), and the plain C path is the same source. The table is chosen
 * once at open. All loops are single-threaded; the ops around them divide the work.
 *
 * Tiles of attention are kept TRANSPOSED, [keys, queries]: lanes are queries, so softmax needs no horizontal sums, K and V are read where
 * they lie, and only the small query side is ever transposed. */
#ifndef SEMINDEX_SIMD_H
#define SEMINDEX_SIMD_H

#include "../backend.h"

enum { PRODUCT_ADD = 1, PRODUCT_RELU = 2 };

/* c[i, j] (+)= alpha * sum_p a[i * a_row + p * a_step] * b(p, j). b in panels of 2 * lanes columns: element (p, j) is at
 * b + j / (2 lanes) * b_panel + p * b_step + j % (2 lanes); a plain row-major matrix has b_panel = 2 * lanes. Rows of b must be readable up
 * to the next multiple of `lanes` columns; c is written in its n columns only.
 * Every element is one chain of fused multiply-adds in ascending p, wherever it stands in the matrix: equal rows give equal bits. */
struct product {
    int32_t m, n, k;
    const float *a;
    int64_t a_row, a_step;
    const float *b;
    int64_t b_step, b_panel;
    float *c;
    int64_t c_row;
    float alpha;
    int flags;
};

/* A transposed tile of scores [keys, width], width a multiple of `lanes`. bias points at the element for (first query, key 0) of a table in
 * order of query - key: one key further = one element back, one query further = one element ahead. */
struct columns {
    float *s;          /* scores in, unnormalised probabilities out */
    int32_t keys, width;
    const float *bias; /* or NULL */
    float *top, *sum;  /* [width] maximum and sum of exponentials, "=" */
};
struct columns_grad {
    float *s;          /* scores in; probabilities (times keep) out */
    float *dp;         /* gradient of the probabilities in; of the scores out */
    int32_t keys, width;
    const float *bias; /* or NULL */
    const float *lse;  /* [width]; of unused columns +inf */
    const float *keep; /* [keys, width] dropout factors, or NULL */
    float *dbias;      /* "+=", placed as bias, or NULL */
};
/* Factor of tile element (key j, query i): 0 or scale by the hash at index + i * 65536 + j. */
struct keep_tile {
    float *keep;
    int32_t keys, width;
    uint64_t index;
    struct dropout drop;
};

/* Tile [keys, width] of hint attention: s[k, i] = score[k] + bias at (first query, k) + mask[k - passes, i] for k >= passes. */
struct hint_tile {
    float *s;
    const float *score, *bias, *mask; /* bias as in struct columns, or NULL */
    int32_t keys, passes, width;
};

/* Rows first..end of an elementwise op on [n, d] data; dropout index = element of x. */
struct norm_rows {
    float *r_out, *y;
    const float *r_in, *x, *w; /* x may be NULL */
    int64_t first, end;
    int32_t d;
    float eps;
    struct dropout drop;
};
struct norm_grad_rows {
    float *dr, *dw; /* dw [d] "+=" */
    const float *dy, *r, *w;
    int64_t first, end;
    int32_t d;
    float eps;
};
struct gelu_rows {
    float *y, *dab; /* forward writes y, backward dab */
    const float *ab, *dy;
    int64_t first, end;
    int32_t f;
    struct dropout drop;
};
struct adamw_step { /* constants of one step, see cpu_adamw */
    float clip, decay, beta1, beta2, rate, root, eps;
};

struct simd {
    const char *name;
    int32_t lanes;
    void (*product)(const struct product *p);
    /* y[c * width + r] = x[r * ld + c]; rows <= r < width are zero */
    void (*transpose)(float *y, int32_t width, const float *x, int64_t ld, int32_t rows, int32_t cols);
    void (*columns)(const struct columns *t);
    void (*columns_lse)(const float *s, int32_t keys, int64_t width, double *lse); /* of every column; s is kept */
    void (*columns_grad)(const struct columns_grad *t);
    void (*hint_scores)(const struct hint_tile *t);
    void (*row_sums)(float *y, const float *x, int32_t rows, int64_t width); /* width a multiple of lanes */
    void (*multiply)(float *y, const float *x, int64_t n);                  /* y *= x */
    void (*keep)(const struct keep_tile *t);
    void (*hints)(const struct keep_tile *t); /* keep = 0 where mix_uniform(seed, ..) < rate, else -inf */
    float (*dot)(const float *a, const float *b, int64_t n);
    float (*distance)(const float *a, const float *b, int64_t n); /* squared */
    double (*sum_squares)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n); /* n >= 1 */
    float (*exp_sum)(float *x, float top, int64_t n); /* x = exp(x - top), returns the sum */
    void (*axpy)(float *y, float a, const float *x, int64_t n);
    void (*scale)(float *y, float a, int64_t n);
    void (*dropout)(float *y, const float *x, uint64_t index, int64_t n, struct dropout drop);     /* y = */
    void (*dropout_add)(float *y, const float *x, uint64_t index, int64_t n, struct dropout drop); /* y += */
    void (*relu)(float *y, int64_t n); /* y = max(y, 0) */
    void (*relu_backward)(float *dy, const float *y, int64_t n, float scale);
    void (*norm)(const struct norm_rows *t);
    void (*norm_backward)(const struct norm_grad_rows *t);
    void (*gelu)(const struct gelu_rows *t);
    void (*gelu_backward)(const struct gelu_rows *t);
    void (*adamw)(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw_step *a);
};
extern const struct simd simd_base, simd_avx2, simd_avx512;

/* The best table for this processor, or the named one ("base", "avx2", "avx512") if the processor has it; NULL else. */
const struct simd *simd_choose(const char *name);

#endif
