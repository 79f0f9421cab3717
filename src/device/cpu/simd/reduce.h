/* reduce.h: the inner loops of reductions, by operation and dtype. Halves have none: they are reduced in float32. */
#ifndef MX_SIMD_REDUCE_H
#define MX_SIMD_REDUCE_H

#include "../../../array/array.h"
#include "simd.h"

typedef enum { MX_FOLD_SUM, MX_FOLD_PROD, MX_FOLD_MAX, MX_FOLD_MIN, MX_FOLD_COUNT } mx_fold_op;

typedef struct mx_fold_loops {
  /* acc = acc op x[0] op ... op x[n-1], pairwise */
  void (*fold)(void *acc, const void *x, int64_t n);
  /* acc[j] = acc[j] op x[0][j] op ... op x[m-1][j], j < n; row i lies i * stride bytes behind x */
  void (*rows)(void *acc, const void *x, int64_t stride, int64_t m, int64_t n);
  /* acc[j] = acc[j] op x[j], j < n, both with byte strides */
  void (*thin)(void *acc, int64_t acc_stride, const void *x, int64_t stride, int64_t n);
  /* y[i] = x[i][0] op ... op x[i][n-1], i < m, n > 0, one by one; y[i] and x[i] lie at byte strides */
  void (*brief)(void *y, int64_t y_stride, const void *x, int64_t stride, int64_t n, int64_t m);
  /* y[j] = x[0][j] op ... op x[m-1][j], j < n, one by one */
  void (*taps)(void *y, const void *const *x, int64_t m, int64_t n);
} mx_fold_loops;

typedef struct mx_arg_loops {
  /* the first position of the extreme of x[0 .. n-1], n > 0; NaN is more extreme than all */
  int64_t (*first)(const void *x, int64_t n);
  /* best[j], at[j] = the extreme of best[j] and x[0 .. m-1][j], and its row, counted from row0; rows as above */
  void (*rows)(void *best, int32_t *at, const void *x, int64_t stride, int64_t row0, int64_t m, int64_t n);
} mx_arg_loops;

typedef struct mx_reduce_table {
  mx_fold_loops fold[MX_FOLD_COUNT][MX_DTYPE_COUNT];
  mx_arg_loops argmax[MX_DTYPE_COUNT], argmin[MX_DTYPE_COUNT];
} mx_reduce_table;

MX_SIMD_DECLARE(mx_reduce_table, mx_reduce_table);

#endif
