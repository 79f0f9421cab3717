/* gemm.c: own loops for products of integers and bool, and the table of all. */
#include "gemm.h"

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

const mx_gemm_table MX_SIMD(mx_gemm_table) = {
    .tiles = {[MLAX_FLOAT32] = &MX_SIMD(mx_gemm_float), [MLAX_FLOAT64] = &MX_SIMD(mx_gemm_double)},
    .bfloat = {&MX_SIMD(mx_gemm_bfloat), &MX_SIMD(mx_gemm_bfloat_wide)},
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
};
