/* cuda.h: the ops of the cuda backend, seen by its own files and by cuda.cu, which puts them into the table.
 *
 * An op is a host function that checks nothing but its own limits, works out grid and cost, and launches. What it needs of tables made once (the
 * buckets of relative positions) comes from cuda_bucket_table. Scratch comes from platform_scratch. */
#ifndef SEMINDEX_CUDA_H
#define SEMINDEX_CUDA_H

#include "device.h"

/* Device table of attention_bucket over distances -max_distance .. max_distance (entry d + max_distance); beyond, the ends hold. Made when a
 * shape is first seen, outside of recordings, kept until the process ends. */
const uint8_t *cuda_bucket_table(bool bidirectional, int32_t buckets, int32_t max_distance);

/* The backend on device `index`; NULL with one line in message. */
extern "C" const struct backend *cuda_backend_open(int index, char *message, size_t message_size);

/* memory.cu */
void *cuda_alloc(size_t bytes);
void cuda_release(void *memory);
struct act *cuda_act_alloc(int64_t elements);
struct act *cuda_act_at(const struct act *x, int64_t elements);
void cuda_upload(struct act *y, const float *host, int64_t n);
void cuda_download(float *host, const struct act *x, int64_t n);
void cuda_write(void *memory, const void *host, size_t bytes);
void cuda_read(void *host, const void *memory, size_t bytes);
void cuda_zero(void *memory, size_t bytes);
void cuda_act_zero(struct act *x, int64_t n);

/* rows.cu, norm.cu, scatter.cu */
void cuda_embed(struct act *y, const struct weight *table, const int32_t *ids, int32_t n, struct dropout drop);
void cuda_embed_backward(const struct weight *table, const int32_t *ids, const struct act *dy, int32_t n, struct dropout drop);
void cuda_gather(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d);
void cuda_scatter_add(struct act *y, const struct act *x, const int32_t *index, int32_t n, int32_t d);
void cuda_dropout(struct act *y, const struct act *x, int64_t n, struct dropout drop);
void cuda_axpy(struct act *y, float a, const struct act *x, int64_t n);
void cuda_pool_mean(struct act *y, const struct act *x, struct rows rows, int32_t d);
void cuda_add_rmsnorm(struct act *r_out, struct act *y, const struct act *r_in, const struct act *x, const float *w, int32_t n, int32_t d,
                     float eps, struct dropout drop);
void cuda_rmsnorm_backward(struct act *dr, float *dw, const struct act *dy, const struct act *r, const float *w, int32_t n, int32_t d,
                          float eps);
void cuda_relu_backward(struct act *dy, const struct act *y, int64_t n, float scale);
void cuda_gated_gelu(struct act *y, const struct act *ab, int32_t n, int32_t f, struct dropout drop);
void cuda_gated_gelu_backward(struct act *dab, const struct act *dy, const struct act *ab, int32_t n, int32_t f, struct dropout drop);

/* linear.cu */
int cuda_weight_open(struct weight *w, enum weight_use use);
void cuda_weight_refresh(struct weight *w);
void cuda_weight_close(struct weight *w);
void cuda_linear(struct act *y, const struct act *x, const struct weight *w, int32_t n, float alpha, int flags);
void cuda_linear_backward(struct act *dx, const struct weight *w, const struct act *dy, const struct act *x, int32_t n, int flags);

/* attention.cu, attention_backward.cu, decode.cu, stack.cu, hint.cu */
void cuda_attention(const struct attention *a);
void cuda_attention_backward(const struct attention *a, const struct attention_grad *g);
void cuda_decode_attention(const struct decode_attention *a);
bool cuda_decode_stack(const struct decode_stack *a);
void cuda_ancestors(int32_t *out, const int32_t *in, const int32_t *parent, int32_t n, int32_t position, int32_t capacity);
void cuda_hint_attention(const struct hint_attention *a);
void cuda_hint_attention_backward(const struct hint_attention *a, const struct hint_attention_grad *g);

/* loss.cu, quantise.cu, cluster.cu, beam.cu, optimiser.cu */
void cuda_head_loss(const struct head_loss *a);
void cuda_quantise(const struct quantise *a);
void cuda_quantise_backward(const struct quantise *a, const struct act *dq, struct act *dh);
void cuda_contrastive(const struct contrastive *a);
void cuda_kmeans_assign(int32_t *assign, float *distance, const float *x, const float *centroids, int32_t n, int32_t k, int32_t d);
void cuda_beam_step(const struct beam_step *a);
double cuda_sum_squares(const float *x, int64_t n);
void cuda_adamw(float *w, const float *grad, float *m, float *v, int64_t n, const struct adamw *a);

#endif
