/* gemm.c: own loops for products of integers and bool, for products of a matrix and a vector, and the table of all. */
#include "gemm.h"

#define UNROLL _Pragma("GCC unroll 16")

/* -- row by row: integers, bool, and what is too long for BLAS ----------------------------------------------------- */

#define TERM(T, x, y) ((T)((T)(x) * (T)(y)))
#define BY_ROWS(NAME, T, JOIN, TERM)                                                                                   \
  static void NAME(const mx_gemm *g, mx_tile t) {                                                                      \
    int64_t n = t.n1 - t.n0;                                                                                           \
    for (int64_t i = t.m0; i < t.m1; i++) {                                                                            \
      const T *a = (const T *)g->a + i * g->a_row, *b = (const T *)g->b + t.n0;                                        \
      T *restrict c = (T *)g->c + i * g->c_row + t.n0;                                                                 \
      int64_t k = 0;                                                                                                   \
      memset(c, 0, (size_t)n * sizeof *c);                                                                             \
      for (; k + 4 <= g->k; k += 4, a += 4 * g->a_col, b += 4 * g->b_row) {                                            \
        const T *q = b + g->b_row, *r = q + g->b_row, *s = r + g->b_row;                                               \
        T v = a[0], w = a[g->a_col], x = a[2 * g->a_col], y = a[3 * g->a_col];                                         \
        MX_VECTORIZE for (int64_t j = 0; j < n; j++) c[j] =                                                            \
            (T)(c[j] JOIN TERM(T, v, b[j]) JOIN TERM(T, w, q[j]) JOIN TERM(T, x, r[j]) JOIN TERM(T, y, s[j]));         \
      }                                                                                                                \
      for (; k < g->k; k++, a += g->a_col, b += g->b_row) {                                                            \
        T v = *a;                                                                                                      \
        MX_VECTORIZE for (int64_t j = 0; j < n; j++) c[j] = (T)(c[j] JOIN TERM(T, v, b[j]));                           \
      }                                                                                                                \
    }                                                                                                                  \
  }
#define WIDE_TERM(T, x, y) ((T)((uint32_t)(x) * (uint32_t)(y))) /* a product of uint16_t would overflow an int */
#define AND_TERM(T, x, y)  ((T)(((x) != 0) & ((y) != 0)))
BY_ROWS(gemm_bool, uint8_t, |, AND_TERM)
BY_ROWS(gemm_8, uint8_t, +, WIDE_TERM)
BY_ROWS(gemm_16, uint16_t, +, WIDE_TERM)
BY_ROWS(gemm_32, uint32_t, +, TERM)
BY_ROWS(gemm_64, uint64_t, +, TERM)
BY_ROWS(gemm_single, float, +, TERM)
BY_ROWS(gemm_double, double, +, TERM)

/* -- a matrix and a vector ----------------------------------------------------------------------------------------- */

enum {
  ROW_BYTES = 128, /* partial sums of a row: the same lanes everywhere */
#if defined(__AVX512F__)
  NATIVE = 64
#elif defined(__AVX2__)
  NATIVE = 32
#else
  NATIVE = 16
#endif
};
typedef float float_vector __attribute__((vector_size(NATIVE)));
typedef double double_vector __attribute__((vector_size(NATIVE)));

/* Dense rows: four dot products at a time. Dense columns: eight columns are added to y at a time. */
#define GEMV(NAME, T)                                                                                                  \
  static inline __attribute__((always_inline)) void add_row_##NAME(const T *const *p, int64_t j, const T *x,           \
                                                                   T##_vector(*s)[ROW_BYTES / NATIVE]) {               \
    enum { LANE = NATIVE / sizeof(T) };                                                                                \
    T##_vector u, v;                                                                                                   \
    UNROLL for (int e = 0; e < ROW_BYTES / NATIVE; e++) {                                                              \
      memcpy(&u, x + e * LANE, sizeof u);                                                                              \
      UNROLL for (int i = 0; i < 4; i++) {                                                                             \
        memcpy(&v, p[i] + j + e * LANE, sizeof v);                                                                     \
        s[i][e] += u * v;                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  }                                                                                                                    \
  static void rows_##NAME(const T *a, int64_t row, int64_t count, const T *x, int64_t n, T *y) {                       \
    enum { ALL = ROW_BYTES / sizeof(T) };                                                                              \
    const T *p[4] = {a, count > 1 ? a + row : a, count > 2 ? a + 2 * row : a, count > 3 ? a + 3 * row : a};            \
    T##_vector s[4][ROW_BYTES / NATIVE] = {{{0}}};                                                                     \
    T t[4][ALL], rest[5][ALL];                                                                                         \
    int64_t j = 0;                                                                                                     \
    for (; j + ALL <= n; j += ALL) add_row_##NAME(p, j, x + j, s);                                                     \
    if (j < n) { /* with zeros behind it */                                                                            \
      memset(rest, 0, sizeof rest);                                                                                    \
      for (int i = 0; i < 4; i++) memcpy(rest[i], p[i] + j, (size_t)(n - j) * sizeof *a), p[i] = rest[i];              \
      memcpy(rest[4], x + j, (size_t)(n - j) * sizeof *x);                                                             \
      add_row_##NAME(p, 0, rest[4], s);                                                                                \
    }                                                                                                                  \
    memcpy(t, s, sizeof t);                                                                                            \
    for (int i = 0; i < count; i++) {                                                                                  \
      UNROLL for (int w = ALL / 2; w; w /= 2) MX_VECTORIZE for (int l = 0; l < w; l++) t[i][l] += t[i][l + w];         \
      y[i] = t[i][0];                                                                                                  \
    }                                                                                                                  \
  }                                                                                                                    \
  static void columns_##NAME(const T *restrict a, int64_t col, int64_t m, const T *x, int64_t n, T *restrict y) {      \
    int64_t j = 0;                                                                                                     \
    memset(y, 0, (size_t)m * sizeof *y);                                                                               \
    for (; j + 8 <= n; j += 8, a += 8 * col, x += 8) MX_VECTORIZE for (int64_t i = 0; i < m; i++) {                    \
        T s = (x[0] * a[i] + x[1] * a[col + i]) + (x[2] * a[2 * col + i] + x[3] * a[3 * col + i]);                     \
        T t = (x[4] * a[4 * col + i] + x[5] * a[5 * col + i]) + (x[6] * a[6 * col + i] + x[7] * a[7 * col + i]);       \
        y[i] += s + t;                                                                                                 \
      }                                                                                                                \
    for (; j < n; j++, a += col, x++) MX_VECTORIZE for (int64_t i = 0; i < m; i++) y[i] += x[0] * a[i];                \
  }                                                                                                                    \
  static void NAME(const mx_gemv *g, int64_t i0, int64_t i1) {                                                         \
    const T *a = (const T *)g->a + i0 * g->a_row, *x = (const T *)g->x;                                                \
    T *y = (T *)g->y;                                                                                                  \
    if (g->a_col != 1) {                                                                                               \
      columns_##NAME(a, g->a_col, i1 - i0, x, g->n, y + i0);                                                           \
      return;                                                                                                          \
    }                                                                                                                  \
    for (int64_t i = i0; i < i1; i += 4, a += 4 * g->a_row)                                                            \
      rows_##NAME(a, g->a_row, i1 - i < 4 ? i1 - i : 4, x, g->n, y + i);                                               \
  }
GEMV(gemv_float, float)
GEMV(gemv_double, double)

const mx_gemm_table MX_SIMD(mx_gemm_table) = {
    .tiles = {[MLAX_FLOAT32] = &MX_SIMD(mx_gemm_float), [MLAX_FLOAT64] = &MX_SIMD(mx_gemm_double)},
    .rows = {[MLAX_BOOL] = gemm_bool,
             [MLAX_INT8] = gemm_8,
             [MLAX_INT16] = gemm_16,
             [MLAX_INT32] = gemm_32,
             [MLAX_INT64] = gemm_64,
             [MLAX_UINT8] = gemm_8,
             [MLAX_UINT16] = gemm_16,
             [MLAX_UINT32] = gemm_32,
             [MLAX_UINT64] = gemm_64,
             [MLAX_FLOAT32] = gemm_single,
             [MLAX_FLOAT64] = gemm_double},
    .gemv32 = gemv_float,
    .gemv64 = gemv_double,
};
