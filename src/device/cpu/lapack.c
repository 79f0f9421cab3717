/* lapack.c: the LAPACK that OpenBLAS carries, by dtype. Callers see to it that lengths are positive and fit 32 bits,
 * and that no element is NaN or infinite: some routines would loop, others complain on standard output. */
#include "linalg_impl.h"

#include <cblas.h>

/* Fortran: everything by reference; the lengths of characters follow at the end. */
#define LAPACK(name, ...)                                                                                              \
  extern void s##name##_(__VA_ARGS__);                                                                                 \
  extern void d##name##_(__VA_ARGS__);
typedef const int *in;
LAPACK(potrf, const char *uplo, in n, void *a, in lda, int *info, size_t)
LAPACK(getrf, in m, in n, void *a, in lda, int *pivots, int *info)
LAPACK(geqrf, in m, in n, void *a, in lda, void *tau, void *work, in lwork, int *info)
LAPACK(orgqr, in m, in n, in k, void *a, in lda, const void *tau, void *work, in lwork, int *info)
LAPACK(syevd, const char *jobz, const char *uplo, in n, void *a, in lda, void *w, void *work, in lwork, int *iwork,
       in liwork, int *info, size_t, size_t)
LAPACK(gesdd, const char *jobz, in m, in n, void *a, in lda, void *s, void *u, in ldu, void *vt, in ldvt, void *work,
       in lwork, int *iwork, int *info, size_t)
#define CALL(name) (wide ? d##name##_ : s##name##_)

int mx_lapack_potrf(bool wide, int n, void *a) {
  int info = 0;
  CALL(potrf)("U", &n, a, &n, &info, 1);
  return info;
}

int mx_lapack_getrf(bool wide, int n, void *a, int *pivots) {
  int info = 0;
  CALL(getrf)(&n, &n, a, &n, pivots, &info);
  for (int i = 0; i < n; i++) { /* after an overflow to NaN they may be anything */
    pivots[i]--;
    if (pivots[i] < i || pivots[i] >= n) pivots[i] = i;
  }
  return info;
}

int mx_lapack_geqrf(bool wide, int m, int n, void *a, void *tau, void *work, int lwork) {
  int info = 0;
  CALL(geqrf)(&m, &n, a, &m, tau, work, &lwork, &info);
  return info;
}

int mx_lapack_orgqr(bool wide, int m, int k, void *a, void *tau, void *work, int lwork) {
  int info = 0;
  CALL(orgqr)(&m, &k, &k, a, &m, tau, work, &lwork, &info);
  return info;
}

int mx_lapack_syevd(bool wide, int n, void *a, void *w, void *work, int lwork, int *iwork, int liwork) {
  int info = 0;
  CALL(syevd)("V", "U", &n, a, &n, w, work, &lwork, iwork, &liwork, &info, 1, 1);
  return info;
}

int mx_lapack_gesdd(bool wide, bool full, int m, int n, void *a, void *s, void *u, void *vt, void *work, int lwork,
                    int *iwork) {
  int info = 0, k = m < n ? m : n;
  CALL(gesdd)(full ? "A" : "S", &m, &n, a, &m, s, u, &m, vt, full ? &n : &k, work, &lwork, iwork, &info, 1);
  return info;
}

/* -- work memory: the answer to a query comes as a floating point number, in float32 perhaps rounded down ---------- */

static int wanted(bool wide, const void *answer, double least) {
  double w = wide ? *(const double *)answer : (double)*(const float *)answer * (1 + 1e-6);
  if (!(w >= least && w <= INT32_MAX)) w = least;
  return w < 1 ? 1 : (int)w;
}

int mx_lapack_qr_lwork(bool wide, int m, int n) {
  double a = 0, b = 0, none = 0;
  int k = m < n ? m : n, query = -1, info = 0;
  CALL(geqrf)(&m, &n, &none, &m, &none, &a, &query, &info);
  CALL(orgqr)(&m, &k, &k, &none, &m, &none, &b, &query, &info);
  int first = wanted(wide, &a, n), second = wanted(wide, &b, k);
  return first > second ? first : second;
}

int mx_lapack_syevd_lwork(bool wide, int n) {
  double answer = 0, none = 0;
  int query = -1, info = 0, iwork = 0;
  CALL(syevd)("V", "U", &n, &none, &n, &none, &answer, &query, &iwork, &query, &info, 1, 1);
  return wanted(wide, &answer, 1 + 6.0 * n + 2.0 * n * n);
}

int mx_lapack_gesdd_lwork(bool wide, bool full, int m, int n) {
  double answer = 0, none = 0, k = m < n ? m : n, longer = m < n ? n : m;
  int query = -1, info = 0, iwork = 0, rows = m < n ? m : n;
  CALL(gesdd)
  (full ? "A" : "S", &m, &n, &none, &m, &none, &none, &m, &none, full ? &n : &rows, &answer, &query, &iwork, &info, 1);
  return wanted(wide, &answer, 4 * k * k + 7 * k + longer);
}

/* -- BLAS -------------------------------------------------------------------------------------------------------- */

void mx_blas_trsm(bool wide, bool lower, bool transpose, bool unit, int n, int m, const void *a, int lda, void *b) {
  enum CBLAS_UPLO u = lower ? CblasLower : CblasUpper;
  enum CBLAS_TRANSPOSE t = transpose ? CblasTrans : CblasNoTrans;
  enum CBLAS_DIAG d = unit ? CblasUnit : CblasNonUnit;
  if (wide) cblas_dtrsm(CblasRowMajor, CblasLeft, u, t, d, n, m, 1, a, lda, b, m);
  else cblas_strsm(CblasRowMajor, CblasLeft, u, t, d, n, m, 1, a, lda, b, m);
}

void mx_blas_gemm(bool wide, bool ta, bool tb, int m, int n, int k, const void *a, int lda, const void *b, int ldb,
                  void *c) {
  enum CBLAS_TRANSPOSE p = ta ? CblasTrans : CblasNoTrans, q = tb ? CblasTrans : CblasNoTrans;
  if (wide) cblas_dgemm(CblasRowMajor, p, q, m, n, k, 1, a, lda, b, ldb, 0, c, n);
  else cblas_sgemm(CblasRowMajor, p, q, m, n, k, 1, a, lda, b, ldb, 0, c, n);
}
