/* linalg_solve.c: linear equations: triangular_solve, lu, solve, det, slogdet, the pseudoinverse.
 *
 *     solve(a, b):  lu, perm = lu(a), without gradient;  x = lu_solve(a, lu, perm, b)
 *
 * lu_solve is differentiated as a function of a and b alone, and all its derivatives use the one factorization.
 */
#include "linalg_impl.h"

/* -- triangular_solve --------------------------------------------------------------------------------------------- */

mx_params mx_triangle(bool lower, bool transpose, bool unit) {
  return (mx_params){.triangular = {lower, transpose, unit}};
}

mx_array *mx_tri_solve(mx_ctx *c, mx_array *a, mx_array *b, mx_params p) {
  return mx_bind1(c, &mx_prim_triangular_solve, &p, (mx_array *[]){a, b}, 2);
}

/* x a = b is aT xT = bT */
mx_array *mx_tri_solve_right(mx_ctx *c, mx_array *a, mx_array *b, mx_params p) {
  p.triangular.transpose = !p.triangular.transpose;
  return mx_mat_t(c, mx_tri_solve(c, a, mx_mat_t(c, b), p));
}

/* Operand 0 square, the last one with as many rows, of its dtype and batch axes. */
static bool solve_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *a = o->in_aval[0], *b = o->in_aval[o->n_in - 1];
  mx_text s, t;
  if (!mx_mat_shape(c, o, true)) return false;
  bool fit = a->dtype == b->dtype && a->ndim == b->ndim;
  for (int i = 0; fit && i < a->ndim - 1; i++) fit = a->shape[i] == b->shape[i];
  if (!fit)
    return mx_fail(c, MLAX_SHAPE, "matrix and right sides do not fit (got %s and %s)", mx_aval_text(&s, a),
                   mx_aval_text(&t, b)),
           false;
  if (mx_cols(b) > INT32_MAX)
    return mx_fail(c, MLAX_SHAPE, "there are too many right sides for LAPACK (got %s)", mx_aval_text(&t, b)), false;
  *out = *b;
  out->weak = false;
  return true;
}

/* db: solve(a, db);  da: -solve(a, tri(da) x), tri being the triangle that is read; with aT for a where it is solved */
static mx_array *triangular_solve_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  const mx_params *p = o->p;
  if (i == 1) return mx_tri_solve(c, o->in[0], g, *p);
  g = p->triangular.lower ? mx_mat_lower(c, g, !p->triangular.unit) : mx_mat_upper(c, g, !p->triangular.unit);
  if (p->triangular.transpose) g = mx_mat_t(c, g);
  return mx_neg(c, mx_tri_solve(c, o->in[0], mx_mat_mul(c, g, o->out[0]), *p));
}

static mx_array *triangular_solve_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  mx_params p = *o->p;
  if (i != 1) return mx_no_rule(c, o->prim, "transpose in the matrix");
  p.triangular.transpose = !p.triangular.transpose;
  return ct[0] ? mx_tri_solve(c, o->in[0], ct[0], p) : NULL;
}

bool mx_mat_batch_solve(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  int last = o->n_in - 1, ndim = o->in[last]->aval.ndim;
  mx_array *in[4];
  for (int i = 0; i < last; i++) {
    if (axes[i] >= 0) return mx_mat_batch(c, o, axes, size, out, out_axes);
    in[i] = o->in[i];
  }
  in[last] = mx_move_axis(c, o->in[last], axes[last], ndim - 1);
  if (!in[last]) return false;
  mx_dims whole = mx_dims_shape(&in[last]->aval), flat = mx_dims_remove(&whole, ndim - 1);
  if (!mx_mul_i64(flat.v[flat.n - 1], size, &flat.v[flat.n - 1])) return mx_fail_memory(c, SIZE_MAX), false;
  in[last] = mx_reshape(c, in[last], &flat);
  out[0] = mx_reshape(c, mx_bind1(c, o->prim, o->p, in, o->n_in), &whole);
  out_axes[0] = ndim - 1;
  return out[0] != NULL;
}

static double solve_flops(const mx_op *o) { return 2.0 * (double)o->out_aval->size * (double)mx_rows(o->in_aval[0]); }

/* -- lu ----------------------------------------------------------------------------------------------------------- */

static bool lu_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  if (!mx_mat_shape(c, o, true)) return false;
  int64_t n = mx_rows(x);
  return mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){n, n}, &out[0]) && mx_mat_aval(c, x, MLAX_INT32, 1, &n, &out[1]) &&
         mx_mat_aval(c, x, MLAX_INT32, 1, &n, &out[2]);
}

/* The rows of each matrix in the order of perm {..., n}. */
static mx_array *permute_rows(mx_ctx *c, mx_array *x, mx_array *perm) {
  if (!x || !perm) return NULL;
  int n = perm->aval.ndim;
  mx_array *ids[MX_MAX_NDIM];
  for (int i = 0; i < n - 1; i++) {
    mx_dims shape = {.n = n};
    for (int j = 0; j < n; j++) shape.v[j] = j == i ? x->aval.shape[i] : 1;
    ids[i] = mx_iota(c, MLAX_INT32, &shape, i);
  }
  ids[n - 1] = perm;
  mx_dims axes = mx_dims_range(n);
  return mx_gather(c, x, ids, n, &axes, false);
}

/* With s = l^-1 dx[perm] u^-1:  dl = l tril(s, -1),  du = triu(s) u */
static bool lu_jvp(mx_ctx *c, const mx_op *o, mx_array *const *t, mx_array **out, mx_array **dout) {
  if (!mx_bind(c, o->prim, o->p, o->in, 1, out, 3)) return false;
  if (!t[0]) return true;
  mx_array *lu = out[0], *u = mx_mat_upper(c, lu, true), *below = mx_mat_lower(c, lu, false);
  mx_array *l = below ? mx_select(c, mx_mat_eye(c, &lu->aval), mx_like(c, lu, 1), below) : NULL;
  mx_array *s = mx_tri_solve(c, lu, permute_rows(c, t[0], out[2]), mx_triangle(true, false, true));
  s = mx_tri_solve_right(c, lu, s, mx_triangle(false, false, false));
  dout[0] = mx_add(c, mx_mat_mul(c, l, mx_mat_lower(c, s, false)), mx_mat_mul(c, mx_mat_upper(c, s, true), u));
  return !mx_failed(c);
}

static double lu_flops(const mx_op *o) { return mx_mat_work(o, 2.0 / 3); }

/* -- lu_solve ----------------------------------------------------------------------------------------------------- */

static bool lu_solve_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *a = o->in_aval[0], *lu = o->in_aval[1], *perm = o->in_aval[2];
  mx_text s, t;
  if (!solve_shape(c, o, out)) return false;
  bool fit = lu->dtype == a->dtype && mx_shape_equal(lu, a) && perm->dtype == MLAX_INT32 && perm->ndim == a->ndim - 1;
  for (int i = 0; fit && i < perm->ndim; i++) fit = perm->shape[i] == a->shape[i];
  if (fit) return true;
  return mx_fail(c, MLAX_SHAPE, "matrix and factors do not fit (got %s and %s)", mx_aval_text(&s, a),
                 mx_aval_text(&t, lu)),
         false;
}

static mx_array *solve_again(mx_ctx *c, const mx_op *o, mx_array *b, bool transpose) {
  mx_params p = {.matrix = {transpose}};
  return mx_bind1(c, o->prim, &p, (mx_array *[]){o->in[0], o->in[1], o->in[2], b}, 4);
}

/* db: solve(a, db);  da: -solve(a, da x); with aT for a where it is solved */
static mx_array *lu_solve_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  bool transpose = o->p->matrix.flag;
  if (i == 3) return solve_again(c, o, g, transpose);
  if (i != 0) return NULL;
  return mx_neg(c, solve_again(c, o, mx_mat_mul(c, transpose ? mx_mat_t(c, g) : g, o->out[0]), transpose));
}

static mx_array *lu_solve_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (i != 3) return mx_no_rule(c, o->prim, "transpose in the matrix");
  return ct[0] ? solve_again(c, o, ct[0], !o->p->matrix.flag) : NULL;
}

/* -- det ---------------------------------------------------------------------------------------------------------- */

static bool det_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  return mx_mat_shape(c, o, true) && mx_mat_aval(c, o->in_aval[0], o->in_aval[0]->dtype, 0, NULL, out);
}

static bool cofactor_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (!mx_mat_shape(c, o, true) || !mx_mat_spectral(c, o->in_aval[0])) return false;
  *out = *o->in_aval[0];
  out->weak = false;
  return true;
}

static mx_array *cofactor(mx_ctx *c, mx_array *x) { return mx_bind1(c, &mx_prim_cofactor, NULL, &x, 1); }
static mx_array *det(mx_ctx *c, mx_array *x) { return mx_bind1(c, &mx_prim_det, NULL, &x, 1); }
static mx_array *as_scalar(mx_ctx *c, mx_array *v) { return mx_mat_column(c, mx_mat_column(c, v)); }

/* d det = <cofactor, dx> */
static mx_array *det_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return mx_mat_sum(c, mx_mul(c, cofactor(c, o->in[0]), g));
}

/* x moved by one along the last axis, a 1 coming in; dropped is what leaves. */
static mx_array *move_in_one(mx_ctx *c, mx_array *x, int step) {
  if (!x) return NULL;
  mx_dims lo = {.n = x->aval.ndim}, hi = lo;
  lo.v[lo.n - 1] = step, hi.v[hi.n - 1] = -step;
  return mx_pad(c, x, mx_like(c, x, 1), &lo, &hi, NULL);
}

/* p_ij: the product of all s but s_i and s_j, without a division; 0 on the diagonal. For i < j it is the product of
 * those before i, those between, those behind j. */
static mx_array *product_without_two(mx_ctx *c, mx_array *s) {
  if (!s) return NULL;
  int n = s->aval.ndim;
  mx_dims shape = mx_dims_shape(&s->aval);
  shape = mx_dims_insert(&shape, n, shape.v[n - 1]);
  mx_array *each = mx_broadcast(c, mx_mat_row(c, s), &shape);
  if (!each) return NULL;
  mx_array *one = mx_like(c, s, 1), *ones = mx_broadcast(c, one, &shape);
  mx_array *behind = mx_mat_upper(c, ones, false); /* 1 where i < j */
  mx_array *between = move_in_one(c, mx_cumprod(c, mx_select(c, behind, each, one), n, false), 1);
  mx_array *before = move_in_one(c, mx_cumprod(c, s, n - 1, false), 1);
  mx_array *after = move_in_one(c, mx_cumprod(c, s, n - 1, true), -1);
  mx_array *p = mx_mul(c, mx_mul(c, mx_mat_column(c, before), between), mx_mat_row(c, after));
  p = mx_mat_upper(c, p, false);
  return mx_add(c, p, mx_mat_t(c, p));
}

/* The derivative of the cofactors at any x = u s vT: with e = uT dx v and p as above
 *   dc = det(u vT) u (diag(p diag(e)) - p o eT) vT */
static mx_array *cofactor_d_by_svd(mx_ctx *c, mx_array *x, mx_array *g) {
  mx_array *out[3];
  if (!x || !g || !mx_svd(c, x, false, out)) return NULL;
  mx_array *e = mx_mat_mul(c, mx_mat_t(c, out[0]), mx_mat_mul(c, g, mx_mat_t(c, out[2])));
  mx_array *p = product_without_two(c, out[1]);
  mx_array *sums = mx_mat_mul(c, p, mx_mat_column(c, mx_mat_diag(c, e)));
  mx_array *middle = sums ? mx_mat_of_diag(c, mx_squeeze(c, sums, sums->aval.ndim - 1)) : NULL;
  middle = mx_sub(c, middle, mx_mul(c, p, mx_mat_t(c, e)));
  mx_array *turn = mx_stop_gradient(c, mx_sign(c, det(c, mx_mat_mul(c, out[0], out[2]))));
  return mx_mul(c, as_scalar(c, turn), mx_mat_mul(c, out[0], mx_mat_mul(c, middle, out[2])));
}

/* The same where x is far from singular; equal singular values do it no harm:  dc = (<c, dx> c - c dxT c) / det */
static mx_array *cofactor_d_by_det(mx_ctx *c, mx_array *k, mx_array *g, mx_array *det_x) {
  mx_array *along = mx_mul(c, as_scalar(c, mx_mat_sum(c, mx_mul(c, k, g))), k);
  mx_array *across = mx_mat_mul(c, k, mx_mat_mul(c, mx_mat_t(c, g), k));
  return mx_div(c, mx_sub(c, along, across), det_x);
}

/* bool {..., 1, 1}: |x| |x^-1| is less than 100 n, in Frobenius's norm */
static mx_array *well_conditioned(mx_ctx *c, mx_array *x, mx_array *k, mx_array *det_x) {
  if (!x || !k || !det_x) return NULL;
  mx_array *norm_x = mx_sqrt(c, mx_mat_sum(c, mx_square(c, x)));
  mx_array *norm_k = mx_sqrt(c, mx_mat_sum(c, mx_square(c, k)));
  mx_array *bound = mx_muls(c, mx_abs(c, det_x), 100.0 * (double)mx_rows(&x->aval));
  return mx_lt(c, as_scalar(c, mx_mul(c, norm_x, norm_k)), bound);
}

/* diag(1 .. n): what stands for a matrix whose branch is not taken, so that no NaN comes out of it */
static mx_array *stand_in(mx_ctx *c, const mx_aval *a) {
  mx_dims shape = {.n = 1, .v = {mx_rows(a)}};
  return mx_mat_of_diag(c, mx_adds(c, mx_iota(c, a->dtype, &shape, 0), 1));
}

static mx_array *cofactor_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *x = o->in[0], *k = o->out[0];
  (void)i;
  if (mx_rows(&x->aval) < 2) return NULL; /* the cofactor of a number is 1 */
  mx_array *det_x = as_scalar(c, det(c, x));
  mx_array *well = well_conditioned(c, x, k, det_x);
  mx_array *by_det = cofactor_d_by_det(c, k, g, mx_select(c, well, det_x, mx_like(c, x, 1)));
  mx_array *by_svd = cofactor_d_by_svd(c, mx_select(c, well, stand_in(c, &x->aval), x), g);
  return mx_select(c, well, by_det, by_svd);
}

static double cofactor_flops(const mx_op *o) { return mx_mat_work(o, 24); }

/* -- pinv --------------------------------------------------------------------------------------------------------- */

static bool pinv_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  return mx_mat_shape(c, o, false) && mx_mat_spectral(c, x) &&
         mx_mat_aval(c, x, x->dtype, 2, (int64_t[]){mx_cols(x), mx_rows(x)}, out);
}

/* Golub and Pereyra, of constant rank:  dp = -p dx p + p pT dxT (1 - x p) + (1 - p x) dxT pT p */
static mx_array *pinv_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *x = o->in[0], *p = o->out[0], *pt = mx_mat_t(c, p), *gt = mx_mat_t(c, g);
  (void)i;
  mx_array *right = mx_mat_mul(c, p, mx_mat_mul(c, pt, gt)), *left = mx_mat_mul(c, mx_mat_mul(c, gt, pt), p);
  right = mx_sub(c, right, mx_mat_mul(c, mx_mat_mul(c, right, x), p));
  left = mx_sub(c, left, mx_mat_mul(c, p, mx_mat_mul(c, x, left)));
  return mx_sub(c, mx_add(c, right, left), mx_mat_mul(c, p, mx_mat_mul(c, g, p)));
}

static double pinv_flops(const mx_op *o) { return mx_mat_work(o, 24); }

/* -- operations --------------------------------------------------------------------------------------------------- */

static mx_array *to_batch(mx_ctx *c, mx_array *x, const mx_aval *batch, int own) {
  if (!x) return NULL;
  mx_dims shape = mx_dims_of(batch->ndim, batch->shape);
  for (int i = x->aval.ndim - own; i < x->aval.ndim; i++) {
    if (shape.n == MX_MAX_NDIM) return mx_fail(c, MLAX_SHAPE, "too many axes (need at most %d)", MX_MAX_NDIM);
    shape.v[shape.n++] = x->aval.shape[i];
  }
  return mx_broadcast(c, x, &shape);
}

static mx_aval lead_of(const mx_aval *a) {
  mx_aval lead = *a;
  lead.ndim = (uint8_t)(a->ndim - 2);
  return lead;
}

/* A pair of one dtype; b with a column axis (*vector: it had none); the broadcast of their batch axes. */
static bool solve_pair(mx_ctx *c, mx_array **a, mx_array **b, bool *vector, mx_aval *batch) {
  mx_text s, t;
  bool weak;
  if (!(*a = mx_mat_check(c, *a, true)) || !*b || !mx_mat_dtype(c, *b)) return false;
  const mx_aval *av = &(*a)->aval, *bv = &(*b)->aval;
  *vector = bv->ndim == 1;
  if (bv->ndim == 0 || bv->shape[*vector ? 0 : bv->ndim - 2] != mx_rows(av))
    return mx_fail(c, MLAX_SHAPE, "sizes differ (got %s and %s, need as many rows in both)", mx_aval_text(&s, av),
                   mx_aval_text(&t, bv)),
           false;
  int dtype = mx_dtype_promote(av->dtype, av->weak, bv->dtype, bv->weak, &weak);
  *a = mx_convert(c, *a, dtype);
  *b = mx_convert(c, *vector ? mx_mat_column(c, *b) : *b, dtype);
  if (!*a || !*b) return false;
  mx_aval la = lead_of(&(*a)->aval), lb = lead_of(&(*b)->aval);
  if (mx_shape_broadcast(&la, &lb, batch)) return true;
  return mx_fail(c, MLAX_SHAPE, "leading axes do not broadcast (got %s and %s)", mx_aval_text(&s, &(*a)->aval),
                 mx_aval_text(&t, &(*b)->aval)),
         false;
}

static mx_array *drop_column(mx_ctx *c, mx_array *x, bool vector) {
  return x && vector ? mx_squeeze(c, x, x->aval.ndim - 1) : x;
}

mx_array *mx_triangular_solve(mx_ctx *c, mx_array *a, mx_array *b, bool lower, bool transpose, bool unit) {
  bool vector;
  mx_aval batch;
  if (!solve_pair(c, &a, &b, &vector, &batch)) return NULL;
  a = to_batch(c, a, &batch, 2), b = to_batch(c, b, &batch, 2);
  return drop_column(c, mx_tri_solve(c, a, b, mx_triangle(lower, transpose, unit)), vector);
}

mx_array *mx_solve(mx_ctx *c, mx_array *a, mx_array *b) {
  bool vector;
  mx_aval batch;
  mx_params p = {.matrix = {false}};
  mx_array *f[3];
  if (!solve_pair(c, &a, &b, &vector, &batch)) return NULL;
  mx_array *fixed = mx_stop_gradient(c, a);
  if (!fixed || !mx_bind(c, &mx_prim_lu, NULL, &fixed, 1, f, 3)) return NULL;
  mx_array *in[4] = {to_batch(c, a, &batch, 2), to_batch(c, f[0], &batch, 2), to_batch(c, f[2], &batch, 1),
                     to_batch(c, b, &batch, 2)};
  return drop_column(c, mx_bind1(c, &mx_prim_lu_solve, &p, in, 4), vector);
}

mx_array *mx_inv(mx_ctx *c, mx_array *x) {
  if (!(x = mx_mat_check(c, x, true))) return NULL;
  return mx_solve(c, x, mx_convert(c, mx_mat_eye(c, &x->aval), x->aval.dtype));
}

mx_array *mx_det(mx_ctx *c, mx_array *x) { return det(c, mx_mat_check(c, x, true)); }

mx_array *mx_pinv(mx_ctx *c, mx_array *x) {
  x = mx_mat_check(c, x, false);
  return mx_bind1(c, &mx_prim_pinv, NULL, &x, 1);
}

/* -1 for an odd number of exchanges, else 1, of pivots {..., n} */
static mx_array *parity(mx_ctx *c, mx_array *pivots, int dtype) {
  mx_dims last = {.n = 1, .v = {pivots->aval.ndim - 1}}, shape = {.n = 1, .v = {pivots->aval.shape[last.v[0]]}};
  mx_array *moved = mx_convert(c, mx_ne(c, pivots, mx_iota(c, MLAX_INT32, &shape, 0)), MLAX_INT32);
  mx_array *odd = mx_sum(c, moved, &last, false);
  odd = odd ? mx_mod(c, odd, mx_like(c, odd, 2)) : NULL;
  return mx_adds(c, mx_muls(c, mx_convert(c, odd, dtype), -2), 1);
}

bool mx_slogdet(mx_ctx *c, mx_array *x, mx_array *out[2]) {
  mx_array *f[3];
  if (!(x = mx_mat_check(c, x, true)) || !mx_bind(c, &mx_prim_lu, NULL, &x, 1, f, 3)) return false;
  mx_array *d = mx_mat_diag(c, f[0]);
  if (!d) return false;
  mx_dims last = {.n = 1, .v = {d->aval.ndim - 1}};
  out[0] = mx_mul(c, parity(c, f[1], d->aval.dtype), mx_prod(c, mx_sign(c, d), &last, false));
  out[1] = mx_sum(c, mx_log(c, mx_abs(c, d)), &last, false);
  return !mx_failed(c);
}

/* -- records ------------------------------------------------------------------------------------------------------ */

static const mx_field triangular_fields[] = {{"lower", MX_FIELD_FLAG, offsetof(mx_params, triangular.lower)},
                                             {"transpose", MX_FIELD_FLAG, offsetof(mx_params, triangular.transpose)},
                                             {"unit", MX_FIELD_FLAG, offsetof(mx_params, triangular.unit)},
                                             {0}};
static const mx_field lu_solve_fields[] = {{"transpose", MX_FIELD_FLAG, offsetof(mx_params, matrix.flag)}, {0}};

const mx_primitive mx_prim_triangular_solve = {.name = "triangular_solve",
                                               .id = MX_PRIM_triangular_solve,
                                               .n_out = 1,
                                               .params_size = sizeof(((mx_params *)0)->triangular),
                                               .fields = triangular_fields,
                                               .shape = solve_shape,
                                               .d = triangular_solve_d,
                                               .transpose = triangular_solve_transpose,
                                               .batch = mx_mat_batch_solve,
                                               .flops = solve_flops};

const mx_primitive mx_prim_lu = {.name = "lu",
                                 .id = MX_PRIM_lu,
                                 .n_out = 3,
                                 .fields = mx_fields_none,
                                 .shape = lu_shape,
                                 .jvp = lu_jvp,
                                 .batch = mx_mat_batch,
                                 .flops = lu_flops};

const mx_primitive mx_prim_lu_solve = {.name = "lu_solve",
                                       .id = MX_PRIM_lu_solve,
                                       .n_out = 1,
                                       .params_size = sizeof(((mx_params *)0)->matrix),
                                       .fields = lu_solve_fields,
                                       .shape = lu_solve_shape,
                                       .d = lu_solve_d,
                                       .transpose = lu_solve_transpose,
                                       .batch = mx_mat_batch_solve,
                                       .flops = solve_flops};

const mx_primitive mx_prim_det = {.name = "det",
                                  .id = MX_PRIM_det,
                                  .n_out = 1,
                                  .fields = mx_fields_none,
                                  .shape = det_shape,
                                  .d = det_d,
                                  .batch = mx_mat_batch,
                                  .flops = lu_flops};

const mx_primitive mx_prim_cofactor = {.name = "cofactor",
                                       .id = MX_PRIM_cofactor,
                                       .n_out = 1,
                                       .fields = mx_fields_none,
                                       .shape = cofactor_shape,
                                       .d = cofactor_d,
                                       .batch = mx_mat_batch,
                                       .flops = cofactor_flops};

const mx_primitive mx_prim_pinv = {.name = "pinv",
                                   .id = MX_PRIM_pinv,
                                   .n_out = 1,
                                   .fields = mx_fields_none,
                                   .shape = pinv_shape,
                                   .d = pinv_d,
                                   .batch = mx_mat_batch,
                                   .flops = pinv_flops};
