/* linalg_solve.c: the kernels of linear equations and determinants, one matrix at a time. Parts of the scratch memory:
 * a matrix, n int32, right sides; for those that stand on an svd see prepare_svd. */
#include "linalg_impl.h"

#include <math.h>

static int right_sides(const mx_linalg *j) {
  const mx_aval *b = j->k->out[0].aval;
  return (int)b->shape[b->ndim - 1];
}

void mx_linalg_triangular_solve(const mx_linalg *j, int64_t member, char *scratch) {
  int ld;
  bool lower = j->k->p->triangular.lower, transpose = j->k->p->triangular.transpose, unit = j->k->p->triangular.unit;
  void *x = mx_linalg_out(j, 0, 2, member);
  const void *a = mx_linalg_rows(j, 0, member, scratch, &ld);
  mx_linalg_gather(j, 1, member, false, x);
  mx_blas_trsm(j->wide, lower, transpose, unit, j->n, right_sides(j), a, ld, x);
}

/* -- lu ----------------------------------------------------------------------------------------------------------- */

void mx_linalg_lu(const mx_linalg *j, int64_t member, char *scratch) {
  int n = j->n, *pivots = mx_linalg_out(j, 1, 1, member), *perm = mx_linalg_out(j, 2, 1, member);
  void *lu = mx_linalg_out(j, 0, 2, member), *x = scratch;
  for (int i = 0; i < n; i++) pivots[i] = perm[i] = i;
  mx_linalg_gather(j, 0, member, true, x);
  if (!mx_linalg_finite(j->wide, x, (int64_t)n * n)) {
    mx_linalg_nan(j->wide, lu, (int64_t)n * n);
    return;
  }
  mx_lapack_getrf(j->wide, n, x, pivots);
  for (int i = 0; i < n; i++) {
    int at = pivots[i], t = perm[i];
    perm[i] = perm[at], perm[at] = t;
  }
  mx_linalg_copy(j->item, n, n, x, (int64_t)j->item, n * (int64_t)j->item, lu);
}

/* perm as a list; a place outside, which no factorization gives, counts as the first. */
static int *read_perm(const mx_linalg *j, int64_t member, char *scratch) {
  const mx_tensor *t = &j->k->in[2];
  const char *p = mx_linalg_in(j, 2, 1, member);
  int *perm = mx_linalg_part(j, scratch, 1);
  for (int i = 0; i < j->n; i++) {
    int at = *(const int32_t *)(p + i * t->strides[t->aval->ndim - 1]);
    perm[i] = at >= 0 && at < j->n ? at : 0;
  }
  return perm;
}

/* a x = b:  x = u^-1 l^-1 b[perm];   aT x = b:  x[perm] = l^-T u^-T b */
void mx_linalg_lu_solve(const mx_linalg *j, int64_t member, char *scratch) {
  bool transpose = j->k->p->matrix.flag;
  int ld, m = right_sides(j), *perm = read_perm(j, member, scratch);
  size_t row = (size_t)m * j->item;
  char *x = mx_linalg_out(j, 0, 2, member), *y = mx_linalg_part(j, scratch, 2);
  const void *lu = mx_linalg_rows(j, 1, member, scratch, &ld);
  mx_linalg_gather(j, 3, member, false, y);
  if (!transpose) {
    for (int i = 0; i < j->n; i++) memcpy(x + (size_t)i * row, y + (size_t)perm[i] * row, row);
    mx_blas_trsm(j->wide, true, false, true, j->n, m, lu, ld, x);
    mx_blas_trsm(j->wide, false, false, false, j->n, m, lu, ld, x);
  } else {
    mx_blas_trsm(j->wide, false, true, false, j->n, m, lu, ld, y);
    mx_blas_trsm(j->wide, true, true, true, j->n, m, lu, ld, y);
    for (int i = 0; i < j->n; i++) memcpy(x + (size_t)perm[i] * row, y + (size_t)i * row, row);
  }
}

/* -- det ---------------------------------------------------------------------------------------------------------- */

/* The product of the diagonal, with the sign of the exchanges; in double precision. */
static double diagonal_product(bool wide, int n, const void *lu, const int *pivots) {
  double d = 1;
  for (int64_t i = 0; i < n; i++) {
    double u = wide ? ((const double *)lu)[i * (n + 1)] : (double)((const float *)lu)[i * (n + 1)];
    d *= pivots[i] == i ? u : -u;
  }
  return d;
}

/* Up to three rows by the definition: of matrices of small integers it is exact. */
static double det_by_definition(int n, const double *a) {
  if (n == 1) return a[0];
  if (n == 2) return a[0] * a[3] - a[1] * a[2];
  return a[0] * a[4] * a[8] + a[1] * a[5] * a[6] + a[2] * a[3] * a[7] - a[2] * a[4] * a[6] - a[0] * a[5] * a[7] -
         a[1] * a[3] * a[8];
}

void mx_linalg_det(const mx_linalg *j, int64_t member, char *scratch) {
  int n = j->n, *pivots = mx_linalg_part(j, scratch, 1), dtype = j->k->out[0].aval->dtype;
  double d = NAN, a[9];
  mx_linalg_gather(j, 0, member, false, scratch);
  if (n <= 3 && n > 0) {
    mx_convert_strided(dtype, scratch, (int64_t)j->item, MLAX_FLOAT64, a, 8, (int64_t)n * n);
    d = det_by_definition(n, a);
  } else if (mx_linalg_finite(j->wide, scratch, (int64_t)n * n)) {
    if (n > 0) mx_lapack_getrf(j->wide, n, scratch, pivots);
    d = diagonal_product(j->wide, n, scratch, pivots);
  }
  mx_store_double(dtype, mx_linalg_out(j, 0, 0, member), d);
}

/* -- by singular values ------------------------------------------------------------------------------------------- */

/* p_i = the product of all s but s_i, in place; t: room */
static void product_without_one(int n, double *s, double *t) {
  double before = 1, after = 1;
  for (int i = 0; i < n; i++) t[i] = before, before *= s[i];
  for (int i = n - 1; i >= 0; i--) t[i] *= after, after *= s[i];
  memcpy(s, t, (size_t)n * sizeof *s);
}

/* x = u s vT has the cofactors det(u) det(v) u p vT, p_i being the product of all s but s_i: they exist for singular x
 * too. Always in float64. LAPACK, which sees xT, leaves u in the place of its vT, and vT in that of its u. */
static bool cofactors(const mx_linalg *j, char *scratch, double *x, double *result) {
  int n = j->n, *iwork = mx_linalg_part(j, scratch, 2);
  double *work = mx_linalg_part(j, scratch, 1), *u = mx_linalg_part(j, scratch, 3), *s = mx_linalg_part(j, scratch, 4);
  double *vt = mx_linalg_part(j, scratch, 5);
  if (!mx_linalg_finite(true, x, (int64_t)n * n)) return false;
  if (mx_lapack_gesdd(true, false, n, n, x, s, vt, u, work, j->lwork, iwork) != 0) return false;
  mx_blas_gemm(true, false, false, n, n, n, u, n, vt, n, x);
  mx_lapack_getrf(true, n, x, iwork);
  double sign = diagonal_product(true, n, x, iwork) < 0 ? -1 : 1;
  product_without_one(n, s, work);
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < n; k++) vt[i * n + k] *= sign * s[i];
  mx_blas_gemm(true, false, false, n, n, n, u, n, vt, n, result);
  return true;
}

void mx_linalg_cofactor(const mx_linalg *j, int64_t member, char *scratch) {
  const mx_tensor *t = &j->k->in[0];
  const int64_t *strides = t->strides + t->aval->ndim - 2;
  int64_t n = j->n;
  char *out = mx_linalg_out(j, 0, 2, member);
  const char *from = mx_linalg_in(j, 0, 2, member);
  double *x = mx_linalg_part(j, scratch, 0), *result = mx_linalg_part(j, scratch, 6);
  if (n == 1) {
    mx_store_double(t->aval->dtype, out, 1);
    return;
  }
  for (int64_t i = 0; i < n; i++)
    mx_convert_strided(t->aval->dtype, from + i * strides[0], strides[1], MLAX_FLOAT64, x + i * n, 8, n);
  if (!cofactors(j, scratch, x, result)) mx_linalg_nan(true, result, n * n);
  mx_convert_strided(MLAX_FLOAT64, result, 8, t->aval->dtype, out, (int64_t)j->item, n * n);
}

static double element(bool wide, const void *x, int64_t i) {
  return wide ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* Row i of vT divided by s_i; rows of singular values that count as zero become zero. */
static void divide_rows(const mx_linalg *j, const void *s, void *vt) {
  double eps = j->wide ? 0x1p-52 : 0x1p-23, least = eps * (j->m > j->n ? j->m : j->n) * element(j->wide, s, 0);
  for (int64_t i = 0; i < j->least; i++) {
    double v = element(j->wide, s, i), r = v > 0 && v >= least ? 1 / v : 0;
    for (int64_t k = i * j->n; k < (i + 1) * j->n; k++)
      if (j->wide) ((double *)vt)[k] *= r;
      else ((float *)vt)[k] = (float)(r * ((float *)vt)[k]);
  }
}

/* v s^-1 uT */
void mx_linalg_pinv(const mx_linalg *j, int64_t member, char *scratch) {
  void *x = mx_linalg_part(j, scratch, 0), *work = mx_linalg_part(j, scratch, 1), *u = mx_linalg_part(j, scratch, 3);
  void *s = mx_linalg_part(j, scratch, 4), *vt = mx_linalg_part(j, scratch, 5), *p = mx_linalg_out(j, 0, 2, member);
  int64_t size = (int64_t)j->m * j->n;
  mx_linalg_gather(j, 0, member, false, x);
  if (!mx_linalg_finite(j->wide, x, size) ||
      mx_lapack_gesdd(j->wide, false, j->n, j->m, x, s, vt, u, work, j->lwork, mx_linalg_part(j, scratch, 2)) != 0) {
    mx_linalg_nan(j->wide, p, size);
    return;
  }
  divide_rows(j, s, vt);
  mx_blas_gemm(j->wide, true, true, j->n, j->m, j->least, vt, j->n, u, j->least, p);
}
