/* linear.cu: y = alpha x . w^T and its gradients, as products of the platform.
 *
 * A weight's native form is its f32 master rounded to `real`, renewed by weight_refresh in one pass; in F32 mode the master itself serves
 * and nothing is copied. Gradients of weights are summed into f32: dw += dy^T x is one product that accumulates. */
#include "wide.h"

template <bool VECTOR> static __global__ void round_kernel(gp<real> y, gp<const float> x, int64_t n)
{
    const int64_t at = WIDE * ((int64_t)block_x() * WIDE_THREADS + thread_x());
    if (at < n)
        give<VECTOR>(y, at, n - at, take<VECTOR>(x, at, n - at));
}

int cuda_weight_open(struct weight *w, enum weight_use use)
{
    (void)use;
    w->native = NULL;
    if (sizeof(real) == sizeof(float)) {
        w->native = w->master;
        return 0;
    }
    w->native = platform_alloc((size_t)w->rows * (size_t)w->cols * sizeof(real));
    if (w->native == NULL)
        return -1;
    cuda_weight_refresh(w);
    return 0;
}

void cuda_weight_refresh(struct weight *w)
{
    const int64_t n = (int64_t)w->rows * w->cols;
    if (n == 0 || (void *)w->native == (void *)w->master)
        return;
    WIDE_LAUNCH(wide_at(w->native) && wide_at(w->master), round_kernel, dim_of(blocks_for(n, WIDE * WIDE_THREADS)), WIDE_THREADS,
                (cost{(double)n * (sizeof(float) + sizeof(real)), (double)n}), (real *)w->native, w->master, n);
}

void cuda_weight_close(struct weight *w)
{
    if ((void *)w->native != (void *)w->master)
        platform_free(w->native);
    w->native = NULL;
}

void cuda_linear(struct act *y, const struct act *x, const struct weight *w, int32_t n, float alpha, int flags)
{
    if (n <= 0)
        return;
    const struct gemm g = {.ta = false, .tb = true, .m = n, .n = w->rows, .k = w->cols, .alpha = alpha, .a = act_data(x),
                           .b = weight_data(w), .lda = w->cols, .ldb = w->cols, .c = act_data(y), .ldc = w->rows, .c_f32 = false,
                           .accumulate = (flags & LINEAR_ACCUMULATE) != 0, .relu = (flags & LINEAR_RELU) != 0};
    platform_gemm(&g);
}

void cuda_linear_backward(struct act *dx, const struct weight *w, const struct act *dy, const struct act *x, int32_t n, int flags)
{
    if (n <= 0)
        return;
    if (dx != NULL) {
        const struct gemm g = {.ta = false, .tb = false, .m = n, .n = w->cols, .k = w->rows, .alpha = 1.0f, .a = act_data(dy),
                               .b = weight_data(w), .lda = w->rows, .ldb = w->cols, .c = act_data(dx), .ldc = w->cols, .c_f32 = false,
                               .accumulate = (flags & LINEAR_ACCUMULATE) != 0, .relu = false};
        platform_gemm(&g);
    }
    if (w->grad != NULL) {
        const struct gemm g = {.ta = true, .tb = false, .m = w->rows, .n = w->cols, .k = n, .alpha = 1.0f, .a = act_data(dy),
                               .b = act_data(x), .lda = w->rows, .ldb = w->cols, .c = w->grad, .ldc = w->cols, .c_f32 = true,
                               .accumulate = true, .relu = false};
        platform_gemm(&g);
    }
}
