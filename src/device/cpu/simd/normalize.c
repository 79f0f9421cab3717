/* normalize.c: softmax, log-softmax and log-sum-exp of rows, with m = max x:
 *
 *     softmax = e^(x - m) / s    log-softmax = x - m - ln s    log-sum-exp = m + ln s     s = sum e^(x - m)
 *
 * A block of short rows is exponentiated as one. An infinite m would make inf - inf: log-sum-exp takes 0 in its place,
 * the others are then no numbers, as they should be. */
#include "normalize.h"

#include "exp.h"
#include "reduce.h"

enum {
  BLOCK = 1024, /* elements */
  LONG = 128    /* rows so long are exponentiated one by one */
};

static void f64_exp_less(const double *x, double m, double *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = exp(x[i] - m);
}
static void f64_divide_by(double *x, double c, int64_t n) {
  MX_VECTORIZE for (int64_t i = 0; i < n; i++) x[i] = x[i] / c;
}
static double f64_log(double x) { return log(x); }

#define NORMALIZE(T, P, DTYPE)                                                                                         \
  static T max_##T(const T *x, int64_t n) {                                                                            \
    T m = (T)-INFINITY;                                                                                                \
    MX_SIMD(mx_reduce_table).fold[MX_FOLD_MAX][DTYPE].fold(&m, x, n);                                                  \
    return m;                                                                                                          \
  }                                                                                                                    \
  static T sum_##T(const T *x, int64_t n) {                                                                            \
    T s = 0;                                                                                                           \
    MX_SIMD(mx_reduce_table).fold[MX_FOLD_SUM][DTYPE].fold(&s, x, n);                                                  \
    return s;                                                                                                          \
  }                                                                                                                    \
  static void subtract_##T(const T *x, T *y, T m, int64_t n) {                                                         \
    MX_VECTORIZE for (int64_t i = 0; i < n; i++) y[i] = x[i] - m;                                                      \
  }                                                                                                                    \
  static int64_t rows_at_once_##T(int64_t rows, int64_t n) {                                                           \
    int64_t fit = n >= LONG ? 1 : BLOCK / n;                                                                           \
    return rows < fit ? rows : fit;                                                                                    \
  }                                                                                                                    \
  /* y = e^(x - m), while what lies a row further on is asked for. */                                                  \
  static void exp_ahead_##T(const T *x, T m, T *y, int64_t n, int64_t row) {                                           \
    for (int64_t i = 0; i < n; i += LONG) {                                                                            \
      UNROLL for (int64_t k = 0; k < LONG; k += 64 / (int64_t)sizeof *x) __builtin_prefetch(x + i + row + k);          \
      P##_exp_less(x + i, m, y + i, n - i < LONG ? n - i : LONG);                                                      \
    }                                                                                                                  \
  }                                                                                                                    \
  static void softmax_##T(const void *from, void *to, int64_t rows, int64_t n) {                                       \
    const T *x = from;                                                                                                 \
    T *y = to;                                                                                                         \
    for (int64_t m; rows > 0; rows -= m, x += m * n, y += m * n) {                                                     \
      m = rows_at_once_##T(rows, n);                                                                                   \
      if (m == 1) exp_ahead_##T(x, max_##T(x, n), y, n, n);                                                            \
      else {                                                                                                           \
        for (int64_t i = 0; i < m; i++) subtract_##T(x + i * n, y + i * n, max_##T(x + i * n, n), n);                  \
        P##_exp_less(y, 0, y, m *n);                                                                                   \
      }                                                                                                                \
      for (int64_t i = 0; i < m; i++) P##_divide_by(y + i * n, sum_##T(y + i * n, n), n);                              \
    }                                                                                                                  \
  }                                                                                                                    \
  /* The sum of e^x of a row, a buffer at a time, pairwise within it. */                                               \
  static T sum_exp_##T(const T *x, T m, int64_t n) {                                                                   \
    T buffer[BLOCK], s = 0;                                                                                            \
    for (int64_t i = 0; i < n; i += BLOCK) {                                                                           \
      int64_t k = n - i < BLOCK ? n - i : BLOCK;                                                                       \
      exp_ahead_##T(x + i, m, buffer, k, n);                                                                           \
      s += sum_##T(buffer, k);                                                                                         \
    }                                                                                                                  \
    return s;                                                                                                          \
  }                                                                                                                    \
  static void log_softmax_##T(const void *from, void *to, int64_t rows, int64_t n) {                                   \
    const T *x = from;                                                                                                 \
    T *y = to, buffer[BLOCK];                                                                                          \
    for (int64_t m; rows > 0; rows -= m, x += m * n, y += m * n) {                                                     \
      m = rows_at_once_##T(rows, n);                                                                                   \
      for (int64_t i = 0; i < m; i++) subtract_##T(x + i * n, y + i * n, max_##T(x + i * n, n), n);                    \
      if (n > BLOCK) {                                                                                                 \
        subtract_##T(y, y, P##_log(sum_exp_##T(y, 0, n)), n);                                                          \
        continue;                                                                                                      \
      }                                                                                                                \
      P##_exp_less(y, 0, buffer, m *n);                                                                                \
      for (int64_t i = 0; i < m; i++) subtract_##T(y + i * n, y + i * n, P##_log(sum_##T(buffer + i * n, n)), n);      \
    }                                                                                                                  \
  }                                                                                                                    \
  static void logsumexp_##T(const void *from, void *to, int64_t rows, int64_t n) {                                     \
    const T *x = from;                                                                                                 \
    T *y = to;                                                                                                         \
    for (int64_t i = 0; i < rows; i++, x += n) {                                                                       \
      T m = max_##T(x, n);                                                                                             \
      if (m == (T)INFINITY || m == (T)-INFINITY) m = 0;                                                                \
      y[i] = m + P##_log(sum_exp_##T(x, m, n));                                                                        \
    }                                                                                                                  \
  }

NORMALIZE(float, f32, MLAX_FLOAT32)
NORMALIZE(double, f64, MLAX_FLOAT64)

const mx_normalize_table MX_SIMD(mx_normalize_table) = {
    .float32 = {[MX_LOGSUMEXP] = logsumexp_float, [MX_SOFTMAX] = softmax_float, [MX_LOG_SOFTMAX] = log_softmax_float},
    .float64 =
        {[MX_LOGSUMEXP] = logsumexp_double, [MX_SOFTMAX] = softmax_double, [MX_LOG_SOFTMAX] = log_softmax_double},
};
