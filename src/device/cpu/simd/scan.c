/* scan.c: the inner loops of running sums, products and extremes. */
#include "scan.h"

#define ADD(a, b)      ((a) + (b))
#define MUL(a, b)      ((a) * (b))
#define MAX_INT(a, b)  ((b) > (a) ? (b) : (a))
#define MIN_INT(a, b)  ((b) < (a) ? (b) : (a))
#define MAX_REAL(a, b) ((((b) > (a)) | ((b) != (b))) ? (b) : (a)) /* NaN stays */
#define MIN_REAL(a, b) ((((b) < (a)) | ((b) != (b))) ? (b) : (a))

/* A is what the running value is kept in. */
#define SCAN(NAME, T, A, START, OP)                                                                                    \
  static void one_##NAME(char *y, int64_t y_step, const char *x, int64_t x_step, int64_t m) {                          \
    A acc = START;                                                                                                     \
    for (int64_t i = 0; i < m; i++, x += x_step, y += y_step) {                                                        \
      A v = *(const T *)x;                                                                                             \
      acc = i ? OP(acc, v) : v;                                                                                        \
      *(T *)y = (T)acc;                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  static void NAME(char *y, int64_t y_step, int64_t y_stride, const char *x, int64_t x_step, int64_t x_stride,         \
                   int64_t m, int64_t n) {                                                                             \
    A acc[MX_SCAN_COLUMNS];                                                                                            \
    bool dense = x_stride == sizeof(T) && y_stride == sizeof(T);                                                       \
    if (n == 1) {                                                                                                      \
      one_##NAME(y, y_step, x, x_step, m);                                                                             \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t i = 0; i < m; i++, x += x_step, y += y_step) {                                                        \
      if (i == 0) {                                                                                                    \
        for (int64_t j = 0; j < n; j++) *(T *)(y + j * y_stride) = (T)(acc[j] = *(const T *)(x + j * x_stride));       \
      } else if (dense) {                                                                                              \
        const T *p = (const T *)x;                                                                                     \
        T *q = (T *)y;                                                                                                 \
        MX_VECTORIZE for (int64_t j = 0; j < n; j++) {                                                                 \
          A v = p[j];                                                                                                  \
          acc[j] = OP(acc[j], v);                                                                                      \
          q[j] = (T)acc[j];                                                                                            \
        }                                                                                                              \
      } else                                                                                                           \
        for (int64_t j = 0; j < n; j++) {                                                                              \
          A v = *(const T *)(x + j * x_stride);                                                                        \
          acc[j] = OP(acc[j], v);                                                                                      \
          *(T *)(y + j * y_stride) = (T)acc[j];                                                                        \
        }                                                                                                              \
    }                                                                                                                  \
  }

/* Integers wrap; narrow products are worked out unsigned and wide, where they cannot overflow an int. */
#define SCAN_INT(T, U, A)                                                                                              \
  SCAN(sum_##T, U, A, 0, ADD)                                                                                          \
  SCAN(prod_##T, U, A, 1, MUL) SCAN(max_##T, T, T, 0, MAX_INT) SCAN(min_##T, T, T, 0, MIN_INT)
SCAN_INT(int8_t, uint8_t, uint32_t)
SCAN_INT(int16_t, uint16_t, uint32_t)
SCAN_INT(int32_t, uint32_t, uint32_t)
SCAN_INT(int64_t, uint64_t, uint64_t)
SCAN_INT(uint8_t, uint8_t, uint32_t)
SCAN_INT(uint16_t, uint16_t, uint32_t)
SCAN_INT(uint32_t, uint32_t, uint32_t)
SCAN_INT(uint64_t, uint64_t, uint64_t)

#define SCAN_REAL(T)                                                                                                   \
  SCAN(sum_##T, T, double, 0, ADD)                                                                                     \
  SCAN(prod_##T, T, T, 1, MUL) SCAN(max_##T, T, T, 0, MAX_REAL) SCAN(min_##T, T, T, 0, MIN_REAL)
SCAN_REAL(float)
SCAN_REAL(double)

#define ALL_BUT_BOOL(OP)                                                                                               \
  [MLAX_INT8] = OP##_int8_t, [MLAX_INT16] = OP##_int16_t, [MLAX_INT32] = OP##_int32_t, [MLAX_INT64] = OP##_int64_t,    \
  [MLAX_UINT8] = OP##_uint8_t, [MLAX_UINT16] = OP##_uint16_t, [MLAX_UINT32] = OP##_uint32_t,                           \
  [MLAX_UINT64] = OP##_uint64_t, [MLAX_FLOAT32] = OP##_float, [MLAX_FLOAT64] = OP##_double

const mx_scan_table MX_SIMD(mx_scan_table) = {
    .loop = {[MX_SCAN_SUM] = {ALL_BUT_BOOL(sum)},
             [MX_SCAN_PROD] = {ALL_BUT_BOOL(prod)},
             [MX_SCAN_MAX] = {[MLAX_BOOL] = max_uint8_t, ALL_BUT_BOOL(max)},
             [MX_SCAN_MIN] = {[MLAX_BOOL] = min_uint8_t, ALL_BUT_BOOL(min)}},
};
