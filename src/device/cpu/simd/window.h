/* window.h: inner loops of windows: the choice of extremes, and what is done with it. */
#ifndef MX_SIMD_WINDOW_H
#define MX_SIMD_WINDOW_H

#include "../../../array/array.h"
#include "simd.h"

/* Which of n_taps rows has the extreme of each column, the first where several have; NaN is left for any other. Then
 * there: from each column's row of `rows` to y; or from y to that row, which is added to, or else all rows are set, to
 * zero where nothing goes. */
typedef struct mx_tap_choice {
  const void *const *taps;
  void *const *rows;
  void *y;
  int64_t n_taps, n; /* n_taps > 0 */
  bool least, scatters, adds;
} mx_tap_choice;

typedef struct mx_window_table {
  /* best[i], at[i] stay where best[i] >= x[i] (least: <=), else become x[i] and place + i * step. A best of NaN never
   * stays. */
  void (*choose32)(float *best, int32_t *at, const float *x, int32_t place, int32_t step, bool least, int64_t n);
  void (*choose64)(double *best, int64_t *at, const double *x, int64_t place, int64_t step, bool least, int64_t n);
  void (*taps32)(const mx_tap_choice *c);
  void (*taps64)(const mx_tap_choice *c);
} mx_window_table;

MX_SIMD_DECLARE(mx_window_table, mx_window_table);

#endif
