/* window.h: inner loops of windows and of convolutions whose groups are single channels. */
#ifndef MX_SIMD_WINDOW_H
#define MX_SIMD_WINDOW_H

#include "../../../array/array.h"
#include "simd.h"

typedef struct mx_window_table {
  /* y[i] += x[i] * w[i], i < n */
  void (*add_products32)(float *y, const float *x, const float *w, int64_t n);
  void (*add_products64)(double *y, const double *x, const double *w, int64_t n);
  /* best[i], at[i] stay where best[i] >= x[i] (least: <=), else become x[i] and place + i * step. A best of NaN never stays. */
  void (*choose32)(float *best, int32_t *at, const float *x, int32_t place, int32_t step, bool least, int64_t n);
  void (*choose64)(double *best, int64_t *at, const double *x, int64_t place, int64_t step, bool least, int64_t n);
} mx_window_table;

MX_SIMD_DECLARE(mx_window_table, mx_window_table);

#endif
