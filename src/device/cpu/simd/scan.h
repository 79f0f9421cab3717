/* scan.h: the inner loops of running sums, products and extremes. */
#ifndef MX_SIMD_SCAN_H
#define MX_SIMD_SCAN_H

#include "../../../array/array.h"
#include "simd.h"

typedef enum { MX_SCAN_SUM, MX_SCAN_PROD, MX_SCAN_MAX, MX_SCAN_MIN, MX_SCAN_COUNT } mx_scan_op;

enum { MX_SCAN_COLUMNS = 128 };

/* m steps of n <= MX_SCAN_COLUMNS columns, each of which runs by itself; bytes from a step to the next, from a column
 * to the next. Running sums of float32 are kept in double. */
typedef void (*mx_scan_loop)(char *y, int64_t y_step, int64_t y_stride, const char *x, int64_t x_step, int64_t x_stride,
                             int64_t m, int64_t n);

typedef struct mx_scan_table {
  mx_scan_loop loop[MX_SCAN_COUNT][MX_DTYPE_COUNT];
} mx_scan_table;

MX_SIMD_DECLARE(mx_scan_table, mx_scan_table);

#endif
