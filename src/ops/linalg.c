/* linalg.c: factorizations of matrices: cholesky, qr, svd, eigh; and what the rules of linear algebra share.
 *
 * Every rule is written with products, triangular solves and elementwise operations, so it can be differentiated again.
 * Where a derivative does not exist (equal eigenvalues, a zero pivot) it is inf or NaN in that matrix's place alone.
 */
#include "linalg_impl.h"

/* -- vocabulary --------------------------------------------------------------------------------------------------- */

mx_array *mx_mat_t(mx_ctx *c, mx_array *x) { return x ? mx_swap_axes(c, x, x->aval.ndim - 2, x->aval.ndim - 1) : NULL; }

mx_array *mx_mat_mul(mx_ctx *c, mx_array *x, mx_array *y) { return mx_matmul(c, x, y); }

mx_array *mx_mat_row(mx_ctx *c, mx_array *v) { return v ? mx_expand(c, v, v->aval.ndim - 1) : NULL; }
mx_array *mx_mat_column(mx_ctx *c, mx_array *v) { return v ? mx_expand(c, v, v->aval.ndim) : NULL; }

/* Row and column numbers of a matrix, as arrays of {rows, columns}. */
static mx_array *number(mx_ctx *c, const mx_aval *a, int axis) {
  mx_dims shape = {.n = 2, .v = {mx_rows(a), mx_cols(a)}};
  return mx_iota(c, MLAX_INT64, &shape, axis);
}

mx_array *mx_mat_eye(mx_ctx *c, const mx_aval *like) { return mx_eq(c, number(c, like, 0), number(c, like, 1)); }

static mx_array *keep(mx_ctx *c, mx_array *mask, mx_array *x) { return mx_select(c, mask, x, mx_like(c, x, 0)); }

mx_array *mx_mat_lower(mx_ctx *c, mx_array *x, bool diagonal) {
  if (!x) return NULL;
  mx_array *i = number(c, &x->aval, 0), *j = number(c, &x->aval, 1);
  return keep(c, diagonal ? mx_ge(c, i, j) : mx_gt(c, i, j), x);
}

mx_array *mx_mat_upper(mx_ctx *c, mx_array *x, bool diagonal) {
  if (!x) return NULL;
  mx_array *i = number(c, &x->aval, 0), *j = number(c, &x->aval, 1);
  return keep(c, diagonal ? mx_le(c, i, j) : mx_lt(c, i, j), x);
}

mx_array *mx_mat_off(mx_ctx *c, mx_array *x) {
  return x ? mx_select(c, mx_mat_eye(c, &x->aval), mx_like(c, x, 0), x) : NULL;
}

mx_array *mx_mat_diag(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  mx_dims last = {.n = 1, .v = {x->aval.ndim - 1}};
  return mx_sum(c, keep(c, mx_mat_eye(c, &x->aval), x), &last, false);
}

mx_array *mx_mat_of_diag(mx_ctx *c, mx_array *d) {
  if (!d) return NULL;
  mx_dims shape = mx_dims_shape(&d->aval);
  shape = mx_dims_insert(&shape, d->aval.ndim, shape.v[shape.n - 1]);
  mx_array *x = mx_broadcast(c, mx_mat_column(c, d), &shape);
  return x ? keep(c, mx_mat_eye(c, &x->aval), x) : NULL;
}

mx_array *mx_mat_sum(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  mx_dims last = {.n = 2, .v = {x->aval.ndim - 2, x->aval.ndim - 1}};
  return mx_sum(c, x, &last, false);
}

mx_array *mx_mat_symmetric(mx_ctx *c, mx_array *x) { return mx_muls(c, mx_add(c, x, mx_mat_t(c, x)), 0.5); }

/* -- checks ------------------------------------------------------------------------------------------------------- */

bool mx_mat_dtype(mx_ctx *c, const mx_array *x) {
  int dtype = x->aval.dtype;
  if (dtype != MLAX_FLOAT16 && dtype != MLAX_BFLOAT16) return true;
  return mx_fail(c, MLAX_SHAPE,
                 "linear algebra works in float32 and float64 (got %s, need float32: x:astype(\"float32\"))",
                 mx_dtype_name(dtype)),
         false;
}

static bool check_matrix(mx_ctx *c, const mx_aval *a, bool square) {
  mx_text t;
  if (a->ndim < 2) return mx_fail(c, MLAX_SHAPE, "at least two axes are needed (got %s)", mx_aval_text(&t, a)), false;
  if (!square || mx_rows(a) == mx_cols(a)) return true;
  return mx_fail(c, MLAX_SHAPE, "the last two axes must be square (got %s)", mx_aval_text(&t, a)), false;
}

mx_array *mx_mat_check(mx_ctx *c, mx_array *x, bool square) {
  if (!x || !mx_mat_dtype(c, x) || !check_matrix(c, &x->aval, square)) return NULL;
  return mx_convert(c, x, mx_dtype_inexact(x->aval.dtype));
}

/* LAPACK counts in 32 bits; what it asks for besides is at most 64 rows or columns. */
static bool check_sides(mx_ctx *c, const mx_aval *a) {
  mx_text t;
  if ((double)mx_rows(a) + (double)mx_cols(a) <= (double)INT32_MAX / 64) return true;
  return mx_fail(c, MLAX_SHAPE, "the matrix is too long for LAPACK (got %s)", mx_aval_text(&t, a)), false;
}

/* 4 k^2 + 7 k + the longer side is the work memory that svd asks for. */
bool mx_mat_spectral(mx_ctx *c, const mx_aval *a) {
  double k = (double)mx_least(a), side = (double)mx_rows(a) + (double)mx_cols(a);
  mx_text t;
  if (4 * k * k + 7 * k + side <= (double)INT32_MAX) return true;
  return mx_fail(c, MLAX_SHAPE, "the matrix is too large for LAPACK (got %s)", mx_aval_text(&t, a)), false;
}

bool mx_mat_shape(mx_ctx *c, const mx_op *o, bool square) {
  const mx_aval *a = o->in_aval[0];
  if (a->dtype != MLAX_FLOAT32 && a->dtype != MLAX_FLOAT64)
    return mx_fail(c, MLAX_SHAPE, "linear algebra works in float32 and float64 (got %s)", mx_dtype_name(a->dtype)),
           false;
  return check_matrix(c, a, square) && check_sides(c, a);
}

bool mx_mat_aval(mx_ctx *c, const mx_aval *x, int dtype, int n, const int64_t *lengths, mx_aval *out) {
  int64_t shape[MX_MAX_NDIM];
  int lead = x->ndim - 2;
  for (int i = 0; i < lead; i++) shape[i] = x->shape[i];
  for (int i = 0; i < n; i++) shape[lead + i] = lengths[i];
  return mx_aval_make(c, out, dtype, lead + n, shape);
}

static bool square_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (!mx_mat_shape(c, o, true)) return false;
  *out = *o->in_aval[0];
  out->weak = false;
  return true;
}

/* -- batching, cost ----------------------------------------------------------------------------------------------- */

bool mx_mat_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *in[4];
  for (int i = 0; i < o->n_in; i++)
    if (!(in[i] = mx_batch_front(c, o->in[i], axes[i], size))) return false;
  for (int k = 0; k < o->n_out; k++) out_axes[k] = 0;
  return mx_bind(c, o->prim, o->p, in, o->n_in, out, o->n_out);
}

double mx_mat_work(const mx_op *o, double factor) {
  const mx_aval *a = o->in_aval[0];
  return factor * (double)a->size * (double)mx_least(a);
}

static double cholesky_flops(const mx_op *o) { return mx_mat_work(o, 1.0 / 3); }
static double qr_flops(const mx_op *o) { return mx_mat_work(o, 4); }
static double eigh_flops(const mx_op *o) { return mx_mat_work(o, 9); }
static double svd_flops(const mx_op *o) { return mx_mat_work(o, 21); }

/* -- cholesky ----------------------------------------------------------------------------------------------------- */

/* dl = l phi(l^-1 dx l^-T), phi: the lower triangle with half the diagonal */
static mx_array *cholesky_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  mx_array *l = o->out[0];
  mx_array *right = mx_tri_solve_right(c, l, g, mx_triangle(true, true, false));
  mx_array *s = mx_tri_solve(c, l, right, mx_triangle(true, false, false));
  mx_array *phi = mx_sub(c, mx_mat_lower(c, s, true), mx_muls(c, mx_sub(c, s, mx_mat_off(c, s)), 0.5));
  return mx_mat_mul(c, l, phi);
}

mx_array *mx_cholesky(mx_ctx *c, mx_array *x) {
  x = mx_mat_symmetric(c, mx_mat_check(c, x, true));
  return mx_bind1(c, &mx_prim_cholesky, NULL, &x, 1);
}

/* -- qr ----------------------------------------------------------------------------------------------------------- */

static bool qr_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  if (!mx_mat_shape(c, o, false)) return false;
  return mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){mx_rows(x), mx_least(x)}, &out[0]) &&
         mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){mx_least(x), mx_cols(x)}, &out[1]);
}

static mx_array *columns(mx_ctx *c, mx_array *x, int64_t from, int64_t to) {
  return x ? mx_slice_axis(c, x, x->aval.ndim - 1, from, to) : NULL;
}

static mx_array *rows(mx_ctx *c, mx_array *x, int64_t from, int64_t to) {
  return x ? mx_slice_axis(c, x, x->aval.ndim - 2, from, to) : NULL;
}

/* With s = qT dx r^-1 and the antisymmetric w = tril(s, -1) - tril(s, -1)T:  dq = q (w - s) + dx r^-1,  dr = (s - w) r
 */
static void qr_tangents(mx_ctx *c, mx_array *q, mx_array *r, mx_array *g, mx_array **dq, mx_array **dr) {
  mx_array *y = mx_tri_solve_right(c, r, g, mx_triangle(false, false, false));
  mx_array *s = mx_mat_mul(c, mx_mat_t(c, q), y);
  mx_array *below = mx_mat_lower(c, s, false);
  mx_array *rest = mx_sub(c, s, mx_sub(c, below, mx_mat_t(c, below)));
  *dq = mx_sub(c, y, mx_mat_mul(c, q, rest));
  *dr = mx_mat_upper(c, mx_mat_mul(c, rest, r), true);
}

/* A wide x = (x1 x2) has x1 = q r1 and r2 = qT x2:  dr2 = dqT x2 + qT dx2 */
static bool qr_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  mx_array *x = o->in[0], *g = t[0], *dr;
  if (!mx_bind(c, o->prim, o->p, o->in, 1, out, 2)) return false;
  if (!g) return true;
  int64_t m = mx_rows(&x->aval), n = mx_cols(&x->aval);
  if (m >= n) qr_tangents(c, out[0], out[1], g, &dout[0], &dout[1]);
  else {
    qr_tangents(c, out[0], columns(c, out[1], 0, m), columns(c, g, 0, m), &dout[0], &dr);
    mx_array *dr2 = mx_add(c, mx_mat_mul(c, mx_mat_t(c, dout[0]), columns(c, x, m, n)),
                           mx_mat_mul(c, mx_mat_t(c, out[0]), columns(c, g, m, n)));
    dout[1] = mx_failed(c) ? NULL : mx_concat(c, (mx_array *[]){dr, dr2}, 2, x->aval.ndim - 1);
  }
  return !mx_failed(c);
}

bool mx_qr(mx_ctx *c, mx_array *x, mx_array *out[2]) {
  return (x = mx_mat_check(c, x, false)) && mx_bind(c, &mx_prim_qr, NULL, &x, 1, out, 2);
}

/* -- eigh --------------------------------------------------------------------------------------------------------- */

static bool eigh_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  if (!square_shape(c, o, &out[1]) || !mx_mat_spectral(c, x)) return false;
  return mx_mat_aval(c, x, x->dtype, 1, (int64_t[]){mx_rows(x)}, &out[0]);
}

/* 1 / x off the diagonal, 0 on it */
static mx_array *reciprocal_off(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  mx_array *eye = mx_mat_eye(c, &x->aval);
  return mx_mat_off(c, mx_reciprocal(c, mx_select(c, eye, mx_like(c, x, 1), x)));
}

/* With e = vT dx v:  dw = diag(e),  dv = v (f o e),  f_ij = 1 / (w_j - w_i) off the diagonal */
static bool eigh_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  if (!mx_bind(c, o->prim, o->p, o->in, 1, out, 2)) return false;
  if (!t[0]) return true;
  mx_array *w = out[0], *v = out[1];
  mx_array *e = mx_mat_mul(c, mx_mat_t(c, v), mx_mat_mul(c, t[0], v));
  mx_array *f = reciprocal_off(c, mx_sub(c, mx_mat_row(c, w), mx_mat_column(c, w)));
  dout[0] = mx_mat_diag(c, e);
  dout[1] = mx_mat_mul(c, v, mx_mul(c, f, e));
  return !mx_failed(c);
}

bool mx_eigh(mx_ctx *c, mx_array *x, mx_array *out[2]) {
  x = mx_mat_symmetric(c, mx_mat_check(c, x, true));
  return x && mx_bind(c, &mx_prim_eigh, NULL, &x, 1, out, 2);
}

/* -- svd ---------------------------------------------------------------------------------------------------------- */

static bool svd_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  if (!mx_mat_shape(c, o, false) || !mx_mat_spectral(c, x)) return false;
  int64_t m = mx_rows(x), n = mx_cols(x), k = mx_least(x);
  bool full = o->p->matrix.flag;
  return mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){m, full ? m : k}, &out[0]) &&
         mx_mat_aval(c, x, x->dtype, 1, &k, &out[1]) &&
         mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){full ? n : k, n}, &out[2]);
}

/* u + (y - u uT y) / s: what a tall u gets from outside the space of its columns, y = dx v */
static mx_array *outside(mx_ctx *c, mx_array *du, mx_array *u, mx_array *y, mx_array *s_row) {
  mx_array *rest = mx_sub(c, y, mx_mat_mul(c, u, mx_mat_mul(c, mx_mat_t(c, u), y)));
  return mx_add(c, du, mx_div(c, rest, s_row));
}

/* The columns that complete u turn so as to stay orthogonal to it: du2 = -u duT u2 */
static mx_array *complete(mx_ctx *c, mx_array *u, mx_array *du, mx_array *whole) {
  if (!u || !du || !whole || mx_cols(&whole->aval) == mx_cols(&u->aval)) return du;
  mx_array *u2 = columns(c, whole, mx_cols(&u->aval), mx_cols(&whole->aval));
  mx_array *du2 = mx_neg(c, mx_mat_mul(c, u, mx_mat_mul(c, mx_mat_t(c, du), u2)));
  return du2 ? mx_concat(c, (mx_array *[]){du, du2}, 2, u->aval.ndim - 1) : NULL;
}

/* With e = uT dx v, f_ij = 1 / (s_j^2 - s_i^2) off the diagonal:
 *   ds = diag(e),  du = u (f o (e s + (e s)T)),  dv = v (f o (s e + (s e)T)),  and what lies outside the columns */
static bool svd_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  if (!mx_bind(c, o->prim, o->p, o->in, 1, out, 3)) return false;
  mx_array *g = t[0], *s = out[1];
  if (!g) return true;
  int64_t m = mx_rows(&g->aval), n = mx_cols(&g->aval), k = mx_least(&g->aval);
  mx_array *u = columns(c, out[0], 0, k), *v = mx_mat_t(c, rows(c, out[2], 0, k));
  mx_array *gv = mx_mat_mul(c, g, v), *e = mx_mat_mul(c, mx_mat_t(c, u), gv);
  mx_array *row = mx_mat_row(c, s), *column = mx_mat_column(c, s);
  mx_array *f = reciprocal_off(c, mx_mul(c, mx_add(c, row, column), mx_sub(c, row, column)));
  mx_array *es = mx_mul(c, e, row), *se = mx_mul(c, column, e);
  mx_array *du = mx_mat_mul(c, u, mx_mul(c, f, mx_add(c, es, mx_mat_t(c, es))));
  mx_array *dv = mx_mat_mul(c, v, mx_mul(c, f, mx_add(c, se, mx_mat_t(c, se))));
  if (m > n) du = outside(c, du, u, gv, row);
  if (n > m) dv = outside(c, dv, v, mx_mat_mul(c, mx_mat_t(c, g), u), row);
  dout[0] = complete(c, u, du, out[0]);
  dout[1] = mx_mat_diag(c, e);
  dout[2] = mx_mat_t(c, complete(c, v, dv, mx_mat_t(c, out[2])));
  return !mx_failed(c);
}

bool mx_svd(mx_ctx *c, mx_array *x, bool full, mx_array *out[3]) {
  mx_params p = {.matrix = {full}};
  return (x = mx_mat_check(c, x, false)) && mx_bind(c, &mx_prim_svd, &p, &x, 1, out, 3);
}

/* -- records ------------------------------------------------------------------------------------------------------ */

static const mx_field svd_fields[] = {{"full", MX_FIELD_FLAG, offsetof(mx_params, matrix.flag)}, {0}};

const mx_primitive mx_prim_cholesky = {.name = "cholesky",
                                       .id = MX_PRIM_cholesky,
                                       .n_out = 1,
                                       .fields = mx_fields_none,
                                       .shape = square_shape,
                                       .d = cholesky_d,
                                       .batch = mx_mat_batch,
                                       .flops = cholesky_flops};

const mx_primitive mx_prim_qr = {.name = "qr",
                                 .id = MX_PRIM_qr,
                                 .n_out = 2,
                                 .fields = mx_fields_none,
                                 .shape = qr_shape,
                                 .jvp = qr_jvp,
                                 .batch = mx_mat_batch,
                                 .flops = qr_flops};

const mx_primitive mx_prim_eigh = {.name = "eigh",
                                   .id = MX_PRIM_eigh,
                                   .n_out = 2,
                                   .fields = mx_fields_none,
                                   .shape = eigh_shape,
                                   .jvp = eigh_jvp,
                                   .batch = mx_mat_batch,
                                   .flops = eigh_flops};

const mx_primitive mx_prim_svd = {.name = "svd",
                                  .id = MX_PRIM_svd,
                                  .n_out = 3,
                                  .params_size = sizeof(((mx_params *)0)->matrix),
                                  .fields = svd_fields,
                                  .shape = svd_shape,
                                  .jvp = svd_jvp,
                                  .batch = mx_mat_batch,
                                  .flops = svd_flops};
