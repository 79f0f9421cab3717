/* random.h: random draws, JAX's algorithms on partitionable threefry keys.
 *
 * A key is a uint32[2] array, also a traced or mapped one. Element i (row-major) of a draw comes from the hash of the
 * counter i under the key, so that a draw is a pure function of the key. Draws are made of operations: they trace, map
 * and differentiate by their parameters. `shape` is the shape of the result; parameters (p, low, lo, ...) broadcast to
 * it. Results and positions count from 0.
 */
#ifndef MX_RANDOM_H
#define MX_RANDOM_H

#include "ops.h"

/* keys */
mx_array *mx_random_key(mx_ctx *c, mx_array *seed);            /* integer scalar -> {seed >> 32, seed & 0xffffffff} */
mx_array *mx_random_keys(mx_ctx *c, mx_array *key, int64_t n); /* uint32[n,2] */
bool mx_random_split(mx_ctx *c, mx_array *key, int n, mx_array **out); /* the rows of keys */
mx_array *mx_random_fold_in(mx_ctx *c, mx_array *key, mx_array *data); /* data: integer scalar */

/* draws */
mx_array *mx_random_bits(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype); /* any unsigned dtype */
mx_array *mx_random_uniform(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype, double low,
                            double high); /* high not included */
mx_array *mx_random_uniform_between(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype, mx_array *low,
                                    mx_array *high);
mx_array *mx_random_normal(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
mx_array *mx_random_truncated_normal(mx_ctx *c, mx_array *key, mx_array *lo, mx_array *hi, const mx_dims *shape,
                                     int dtype);
mx_array *mx_random_bernoulli(mx_ctx *c, mx_array *key, mx_array *p, const mx_dims *shape);
mx_array *mx_random_randint(mx_ctx *c, mx_array *key, const mx_dims *shape, mx_array *low, mx_array *high,
                            int dtype); /* both included */
mx_array *mx_random_gumbel(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
mx_array *mx_random_exponential(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
mx_array *mx_random_laplace(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
mx_array *mx_random_cauchy(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
mx_array *mx_random_logistic(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);
/* Derivatives by a, b, alpha are those of the samples. log_space: the logarithm of the variable. */
mx_array *mx_random_gamma(mx_ctx *c, mx_array *key, mx_array *a, const mx_dims *shape, int dtype, bool log_space);
mx_array *mx_random_beta(mx_ctx *c, mx_array *key, mx_array *a, mx_array *b, const mx_dims *shape, int dtype);
/* Probabilities along the last axis of alpha; shape is that of the axes before it. */
mx_array *mx_random_dirichlet(mx_ctx *c, mx_array *key, mx_array *alpha, const mx_dims *shape, int dtype);
mx_array *mx_random_poisson(mx_ctx *c, mx_array *key, mx_array *rate, const mx_dims *shape, int dtype);

/* picks */
mx_array *mx_random_permutation(mx_ctx *c, mx_array *key, int64_t n); /* int32: 0 .. n-1 shuffled */
mx_array *mx_random_shuffle(mx_ctx *c, mx_array *key, mx_array *x);   /* along the first axis */
/* Positions among 0 .. n-1; p: float[n], NULL: all alike. */
mx_array *mx_random_choice(mx_ctx *c, mx_array *key, int64_t n, const mx_dims *shape, bool replace, mx_array *p);
/* Positions along `axis` of logits; shape NULL: that of logits without the axis. */
mx_array *mx_random_categorical(mx_ctx *c, mx_array *key, mx_array *logits, int axis, const mx_dims *shape);

#endif
