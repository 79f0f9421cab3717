/* gemm.h: own loops for matrix products. Strides count elements and may be anything, also 0 and negative. */
#ifndef MX_SIMD_GEMM_H
#define MX_SIMD_GEMM_H

#include "../../../array/array.h"
#include "simd.h"

/* c[m,n] = a[m,k] b[k,n]; add: float32 alone, c += a b */
typedef struct mx_gemm {
  int64_t m, n, k;
  const char *a, *b;
  char *c;
  int64_t a_row, a_col, b_row, b_col, c_row; /* rows of c are dense */
  bool add;
} mx_gemm;

/* Rows m0 .. m1-1, columns n0 .. n1-1 of c. */
typedef struct mx_tile {
  int64_t m0, m1, n0, n1;
} mx_tile;

/* y[i] = sum_j a[i,j] x[j], i < m, j < n; x and y are dense */
typedef struct mx_gemv {
  int64_t m, n;
  const char *a, *x;
  char *y;
  int64_t a_row, a_col; /* one of them is 1 */
} mx_gemv;

enum { MX_GEMM_PACK = 320 * 32 }; /* elements of scratch that a call of float32 needs, 64-byte aligned */

typedef struct mx_gemm_table {
  int row_unit, column_unit;                                 /* tiles are best cut at multiples of these */
  int few_rows;                                              /* up to so many rows BLAS is slower, whatever the size */
  void (*float32)(const mx_gemm *g, mx_tile t, float *pack); /* NULL: BLAS is better */
  /* by dtype: integers wrap, bool is or of ands; b_col is 1 (or n is) */
  void (*rows[MX_DTYPE_COUNT])(const mx_gemm *g, mx_tile t);
  void (*gemv32)(const mx_gemv *g, int64_t i0, int64_t i1);
  void (*gemv64)(const mx_gemv *g, int64_t i0, int64_t i1);
} mx_gemm_table;

MX_SIMD_DECLARE(mx_gemm_table, mx_gemm_table);

#endif
