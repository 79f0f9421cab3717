/* linalg_impl.h: matrices of a batch, one after the other, in float32 or float64, through LAPACK. */
#ifndef MX_CPU_LINALG_IMPL_H
#define MX_CPU_LINALG_IMPL_H

#include "cpu_impl.h"

enum { MX_PARTS = 8 };

/* A kernel call. Each matrix of the batch is the work of one thread, in which BLAS does not spread; scratch memory is
 * cut in parts. */
typedef struct mx_linalg {
  const mx_kernel_args *k;
  bool wide;       /* float64 */
  size_t item;     /* bytes */
  int m, n, least; /* rows and columns of operand 0 */
  int lwork, liwork;
  void (*run)(const struct mx_linalg *j, int64_t member, char *scratch);
  size_t part[MX_PARTS]; /* bytes of each part of the scratch memory of a thread */
  size_t each;           /* of all */
  char *scratch;
  int chunks;
  int64_t first, count; /* members of this round */
} mx_linalg;

/* part i of a thread's scratch memory */
void *mx_linalg_part(const mx_linalg *j, char *scratch, int i);
/* The operand's matrix, row-major, into `to`; or its transpose. */
void mx_linalg_gather(const mx_linalg *j, int operand, int64_t member, bool transpose, void *to);
/* The same where it lies, if its rows are dense, else gathered into `scratch`; *ld is the distance of its rows in
 * elements. */
const void *mx_linalg_rows(const mx_linalg *j, int operand, int64_t member, void *scratch, int *ld);
/* The first element of the operand's vector or matrix (own: its axes), and that of a result. */
const char *mx_linalg_in(const mx_linalg *j, int operand, int own, int64_t member);
void *mx_linalg_out(const mx_linalg *j, int result, int own, int64_t member);
/* rows x columns, row-major, from anywhere */
void mx_linalg_copy(size_t item, int64_t rows, int64_t columns, const char *from, int64_t row, int64_t column,
                    char *to);
bool mx_linalg_finite(bool wide, const void *x, int64_t n);
void mx_linalg_nan(bool wide, void *x, int64_t n);

/* LAPACK, with the dtype as the first argument; matrices are column-major. They return LAPACK's info: 0, or what went
 * wrong. */
int mx_lapack_potrf(bool wide, int n, void *a);              /* of the upper triangle */
int mx_lapack_getrf(bool wide, int n, void *a, int *pivots); /* pivots from 0, in range */
int mx_lapack_geqrf(bool wide, int m, int n, void *a, void *tau, void *work, int lwork);
int mx_lapack_orgqr(bool wide, int m, int k, void *a, void *tau, void *work, int lwork);
int mx_lapack_syevd(bool wide, int n, void *a, void *w, void *work, int lwork, int *iwork,
                    int liwork); /* of the upper triangle */
int mx_lapack_gesdd(bool wide, bool full, int m, int n, void *a, void *s, void *u, void *vt, void *work, int lwork,
                    int *iwork);
/* How many elements of work memory each wants, at least what is documented. */
int mx_lapack_qr_lwork(bool wide, int m, int n);
int mx_lapack_syevd_lwork(bool wide, int n);
int mx_lapack_gesdd_lwork(bool wide, bool full, int m, int n);
/* BLAS, row-major: b := a^-1 b of a triangle; c := a b, transposed where it is said */
void mx_blas_trsm(bool wide, bool lower, bool transpose, bool unit, int n, int m, const void *a, int lda, void *b);
void mx_blas_gemm(bool wide, bool ta, bool tb, int m, int n, int k, const void *a, int lda, const void *b, int ldb,
                  void *c);

/* linalg_solve.c */
void mx_linalg_triangular_solve(const mx_linalg *j, int64_t member, char *scratch);
void mx_linalg_lu(const mx_linalg *j, int64_t member, char *scratch);
void mx_linalg_lu_solve(const mx_linalg *j, int64_t member, char *scratch);
void mx_linalg_det(const mx_linalg *j, int64_t member, char *scratch);
void mx_linalg_cofactor(const mx_linalg *j, int64_t member, char *scratch);
void mx_linalg_pinv(const mx_linalg *j, int64_t member, char *scratch);

#endif
