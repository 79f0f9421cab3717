/* linalg_impl.h: what the files of linear algebra share: matrices in the last two axes, and the vocabulary of their
 * rules. */
#ifndef MX_LINALG_IMPL_H
#define MX_LINALG_IMPL_H

#include "rules_impl.h"

/* rows and columns of the matrices */
static inline int64_t mx_rows(const mx_aval *a) { return a->shape[a->ndim - 2]; }
static inline int64_t mx_cols(const mx_aval *a) { return a->shape[a->ndim - 1]; }
static inline int64_t mx_least(const mx_aval *a) { return mx_rows(a) < mx_cols(a) ? mx_rows(a) : mx_cols(a); }

/* -- rules that read as mathematics: of NULL they give NULL -------------------------------------------------------- */
mx_array *mx_mat_t(mx_ctx *c, mx_array *x);                    /* xT */
mx_array *mx_mat_mul(mx_ctx *c, mx_array *x, mx_array *y);     /* x y, with equal batch axes */
mx_array *mx_mat_eye(mx_ctx *c, const mx_aval *like);          /* bool: the diagonal of a matrix of these lengths */
mx_array *mx_mat_lower(mx_ctx *c, mx_array *x, bool diagonal); /* x below the diagonal, and on it if so */
mx_array *mx_mat_upper(mx_ctx *c, mx_array *x, bool diagonal);
mx_array *mx_mat_off(mx_ctx *c, mx_array *x);  /* x but for the diagonal */
mx_array *mx_mat_diag(mx_ctx *c, mx_array *x); /* the diagonal as a vector, of a square matrix */
mx_array *mx_mat_of_diag(mx_ctx *c, mx_array *d);
mx_array *mx_mat_row(mx_ctx *c, mx_array *v); /* a vector as a row, that is broadcast down */
mx_array *mx_mat_column(mx_ctx *c, mx_array *v);
mx_array *mx_mat_sum(mx_ctx *c, mx_array *x);                             /* of all elements of each matrix */
mx_array *mx_mat_symmetric(mx_ctx *c, mx_array *x);                       /* (x + xT) / 2 */
mx_array *mx_tri_solve(mx_ctx *c, mx_array *a, mx_array *b, mx_params p); /* triangular_solve of equal batch axes */
mx_array *mx_tri_solve_right(mx_ctx *c, mx_array *a, mx_array *b, mx_params p); /* x with x a = b */
mx_params mx_triangle(bool lower, bool transpose, bool unit);

/* -- what every primitive needs ------------------------------------------------------------------------------------ */
/* The operand in float32 or float64; fails for halves, for fewer than two axes, and where it has to be square and is
 * not. */
mx_array *mx_mat_check(mx_ctx *c, mx_array *x, bool square);
bool mx_mat_dtype(mx_ctx *c, const mx_array *x); /* false: a half, which fails */
bool mx_mat_shape(mx_ctx *c, const mx_op *o,
                  bool square); /* the same of operand 0, in a shape rule; and that LAPACK can count it */
bool mx_mat_spectral(mx_ctx *c, const mx_aval *a); /* that LAPACK can count the work memory of svd and eigh */
bool mx_mat_aval(mx_ctx *c, const mx_aval *x, int dtype, int n, const int64_t *lengths,
                 mx_aval *out); /* batch axes of x, then these */
bool mx_mat_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out,
                  int *out_axes); /* all axes to the front */
/* The same for a x = b, where b is the last operand: with one matrix for all the examples are columns of b. */
bool mx_mat_batch_solve(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes);
double mx_mat_work(const mx_op *o, double factor); /* factor * rows * columns * the lesser, of all matrices */

#endif
