/* kernel_tolerance.h: how far a backend whose activations are bf16 may be from the reference, op by op, and why.
 *
 * The reference computes in double from inputs that were rounded to bf16 first (weights and activations; norms, biases, losses are f32), so
 * what remains is what the backend itself rounds. Unit: u = 2^-8, the largest relative error of one rounding to bf16 (8 significant bits).
 *   rounds       roundings of a stored activation: its error is at most rounds * u * |value|
 *   spread       error that comes from rounded values inside the op (probabilities, gradients of scores), which are operands of a product: a
 *                sum of many independent roundings, so it is measured in u * the largest element of the tensor
 *   grad_rounds, grad_spread   the same for gradients of activations; for "+=" the value is what was there plus the gradient
 *   grad_mem     spread of gradients in f32 memory (weights, biases, norms)
 *   grad_terms   size of the terms whose rounding makes grad_spread, where they may cancel: a softmax over one key has gradient 0 as the
 *                difference of two numbers of this size; the spread is then measured in it
 * f32 results (losses, log-sum-exps, probabilities, codes, centroids, the optimiser) get nothing: inputs are equal, sums are f32, so they
 * keep the tolerance of f32, which is added to every bound: 1e-5 of the largest element, what sums of a few hundred f32 terms in another
 * order can differ by. With f32 activations that is all there is. */
#ifndef SEMINDEX_KERNEL_TOLERANCE_H
#define SEMINDEX_KERNEL_TOLERANCE_H

#include <string.h>

static const double tolerance_f32 = 1e-5, tolerance_unit = 0x1p-8;

struct tolerance {
    const char *op;
    double rounds, spread, grad_rounds, grad_spread, grad_mem, grad_terms;
    const char *why;
};

static const struct tolerance tolerances[] = {
    {"embed", 1, 0, 0, 0, 0, 0, "stored once; the table's gradient is a sum in f32 of exact terms"},
    {"gather scatter_add", 0, 0, 1, 0, 0, 0, "gather moves; scatter_add sums in f32 and stores once"},
    {"dropout", 1, 0, 1, 0, 0, 0, "stored once"},
    {"axpy", 1, 0, 0, 0, 0, 0, "stored once"},
    {"relu_backward", 1, 0, 1, 0, 0, 0, "stored once"},
    {"pool_mean", 1, 0, 0, 0, 0, 0, "the sum is f32, stored once"},
    {"add_rmsnorm", 2, 0.25, 0, 0, 0, 0, "y may be made from r as stored: two roundings, and those of the mean square, which cancel"},
    {"rmsnorm_backward", 2, 0.25, 2, 1, 2, 0, "reads r as stored, which is off by u itself; the test passes one gradient through dropout, "
                                        "a second store"},
    {"linear", 1, 0, 1, 0, 0, 0, "f32 sums, stored once; the weight's gradient is a sum in f32 of exact terms"},
    {"linear flags", 2, 0.25, 0, 0, 0, 0, "+= stores twice; dx reads y as stored, which is the reference's but for a rare tie"},
    {"gated_gelu", 1, 0, 1, 0, 0, 0, "f32 inside, stored once"},
    {"attention", 1, 1, 1, 4, 4, 1, "probabilities are rounded for the product with v; backward: probabilities, their gradients, and the sum "
                                 "dout . out with out as stored"},
    {"decode_attention", 1, 1, 0, 0, 0, 0, "as attention"},
    {"hint_attention", 1, 1, 1, 4, 4, 0, "as attention"},
    {"head_loss", 0, 0, 1, 1, 1, 0, "the gradient of the logits is rounded for the products"},
    {"quantise", 1, 0, 1, 2, 2, 0, "backward: probabilities and their gradient are rounded for the products"},
    {"contrastive", 0, 0, 1, 1, 0, 0, "rows that several documents name are summed in f32 or stored once each"},
    {"kmeans_assign", 0, 0, 0, 0, 0, 0, "f32 throughout"},
    {"adamw sum_squares", 0, 0, 0, 0, 0, 0, "f32 throughout"},
};

/* The op's row; NULL when it lacks one. */
static const struct tolerance *tolerance_of(const char *op)
{
    for (size_t i = 0; i < sizeof tolerances / sizeof *tolerances; i++)
        if (strcmp(tolerances[i].op, op) == 0)
            return &tolerances[i];
    return NULL;
}

#endif
