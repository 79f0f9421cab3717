/* gemm.h: own loops for matrix products. Strides count elements and may be anything, also 0 and negative. */
#ifndef MX_SIMD_GEMM_H
#define MX_SIMD_GEMM_H

#include "../../../array/array.h"
#include "simd.h"

/* Rows m0 .. m1-1, columns n0 .. n1-1 of c. */
typedef struct mx_tile {
  int64_t m0, m1, n0, n1;
} mx_tile;

/* c[m,n] = a[m,k] b[k,n]; add: float32 and float64 alone, c += a b */
typedef struct mx_gemm {
  int64_t m, n, k;
  const char *a, *b;
  char *c;
  int64_t a_row, a_col, b_row, b_col, c_row; /* rows of c are dense */
  int64_t a_inner, a_outer; /* float32, float64: after so many rows of a the next ones lie a_outer behind the first of
                               those; 0: never */
  bool add;
} mx_gemm;

/* y[i] = sum_j a[i,j] x[j], i < m, j < n; x and y are dense */
typedef struct mx_gemv {
  int64_t m, n;
  const char *a, *x;
  char *y;
  int64_t a_row, a_col; /* one of them is 1 */
} mx_gemv;

/* A stretch of k: where b's row begins, and a: the rows of a tile, dense in k, or the first of them where its columns
 * are dense. */
enum { MX_RUN_ROWS = 12 };
typedef struct mx_run {
  int64_t k;
  const void *b;
  const void *a[MX_RUN_ROWS];
} mx_run;

/* c[m,n] = sum over runs of a b, for a few rows whose a is gathered from several places. */
typedef struct mx_run_tile {
  const mx_run *runs;
  int64_t n_runs, m, n;
  int64_t b_row, c_row;
  char *c;
  bool add;
} mx_run_tile;

/* Products by register tiles, and with vectors. */
typedef struct mx_gemm_loops {
  int row_unit, column_unit;                                    /* tiles are best cut at multiples of these */
  size_t (*scratch)(const mx_gemm *g, mx_tile t);               /* bytes that `multiply` needs, 64-byte aligned */
  void (*multiply)(const mx_gemm *g, mx_tile t, void *scratch); /* NULL: BLAS is better */
  void (*run_tile)(const mx_run_tile *t);                       /* at most row_unit rows */
  void (*gemv)(const mx_gemv *g, int64_t i0, int64_t i1);       /* rows i0 .. i1-1 of y */
} mx_gemm_loops;

typedef struct mx_gemm_table {
  const mx_gemm_loops *tiles[MX_DTYPE_COUNT]; /* floats: float32 and float64 */
  const mx_gemm_loops *bfloat[2];             /* of bfloat16; c is bfloat16, or float32. mx_has_matrix_tiles() first */
  /* by dtype: integers wrap, bool is or of ands; b_col is 1 (or n is) */
  void (*rows[MX_DTYPE_COUNT])(const mx_gemm *g, mx_tile t);
} mx_gemm_table;

/* n in equal parts of at most `most`, in multiples of `unit`. */
static inline int64_t mx_part_length(int64_t n, int64_t most, int64_t unit) {
  int64_t parts = (n + most - 1) / most, each = parts ? (n + parts - 1) / parts : 0;
  return (each + unit - 1) / unit * unit;
}

MX_SIMD_DECLARE(mx_gemm_loops, mx_gemm_float);
MX_SIMD_DECLARE(mx_gemm_loops, mx_gemm_double);
MX_SIMD_DECLARE(mx_gemm_loops, mx_gemm_bfloat);
MX_SIMD_DECLARE(mx_gemm_loops, mx_gemm_bfloat_wide);
MX_SIMD_DECLARE(mx_gemm_table, mx_gemm_table);

#endif
