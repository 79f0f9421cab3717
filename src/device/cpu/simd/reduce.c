/* reduce.c: the inner loops of reductions. Sums are made of the same 64-byte vectors everywhere, so that every
 * instruction set gives the same bits. */
#include "reduce.h"

#include <math.h>

enum {
  LANES = 256,  /* bytes of partial results, in as many registers as that takes: the same bits everywhere */
  BLOCK = 4096, /* elements that are added up in lanes; longer runs are halved */
  NARROW = 32,  /* rows shorter than this are taken several at a time */
  WIDE = 256    /* elements of such a group */
};

/* The second where it is better, or no number: NaN stays. */
#define ADD(a, b)      ((a) + (b))
#define MUL(a, b)      ((a) * (b))
#define MAX_INT(a, b)  ((b) > (a) ? (b) : (a))
#define MIN_INT(a, b)  ((b) < (a) ? (b) : (a))
#define MAX_REAL(a, b) ((((b) > (a)) | ((b) != (b))) ? (b) : (a))
#define MIN_REAL(a, b) ((((b) < (a)) | ((b) != (b))) ? (b) : (a))

/* The same of vectors, whose comparisons give masks. */
typedef int8_t bits __attribute__((vector_size(NATIVE)));
#define CHOOSE(V, mask, a, b) ((V)(((bits)(b) & (bits)(mask)) | ((bits)(a) & ~(bits)(mask))))
#define VADD(V, a, b)         ((a) + (b))
#define VMUL(V, a, b)         ((a) * (b))
#define VMAX_INT(V, a, b)     CHOOSE(V, (b) > (a), a, b)
#define VMIN_INT(V, a, b)     CHOOSE(V, (b) < (a), a, b)
#define VMAX_REAL(V, a, b)    CHOOSE(V, ((b) > (a)) | ((b) != (b)), a, b)
#define VMIN_REAL(V, a, b)    CHOOSE(V, ((b) < (a)) | ((b) != (b)), a, b)

#define VECTOR_OF(T) typedef T T##_vector __attribute__((vector_size(NATIVE)));
VECTOR_OF(int8_t)
VECTOR_OF(int16_t)
VECTOR_OF(int32_t)
VECTOR_OF(int64_t)
VECTOR_OF(uint8_t)
VECTOR_OF(uint16_t)
VECTOR_OF(uint32_t)
VECTOR_OF(uint64_t)
VECTOR_OF(float)
VECTOR_OF(double)

/* Lengths that the compiler sees: each half is some vectors, or a part of one. */
#define HALVE(OP, w)                                                                                                   \
  if (ALL > w)                                                                                                         \
    for (int k = 0; k < w; k++) lanes[k] = OP(lanes[k], lanes[k + w]);

/* fold: partial results in lanes, which are joined in halves at the end. rows: four rows at a time, so that the
 * accumulators are read and written once for each four. */
#define FOLD(NAME, T, IDENTITY, OP, VOP)                                                                               \
  static __attribute__((noinline)) T join_##NAME(T *lanes) {                                                           \
    enum { ALL = LANES / sizeof(T) };                                                                                  \
    HALVE(OP, 128)                                                                                                     \
    HALVE(OP, 64) HALVE(OP, 32) HALVE(OP, 16) HALVE(OP, 8) HALVE(OP, 4) HALVE(OP, 2) HALVE(OP, 1) return lanes[0];     \
  }                                                                                                                    \
  static int64_t lanes_##NAME(const T *x, int64_t n, T *r) {                                                           \
    typedef T##_vector V;                                                                                              \
    enum { REGISTERS = LANES / NATIVE, EACH = NATIVE / sizeof(T), ALL = LANES / sizeof(T) };                           \
    T lanes[ALL];                                                                                                      \
    V a[REGISTERS], v;                                                                                                 \
    int64_t i = ALL;                                                                                                   \
    UNROLL for (int k = 0; k < REGISTERS; k++) __builtin_memcpy(&a[k], x + k * EACH, sizeof v);                        \
    for (; i + ALL <= n; i += ALL) {                                                                                   \
      UNROLL for (int k = 0; k < REGISTERS; k++) {                                                                     \
        __builtin_memcpy(&v, x + i + k * EACH, sizeof v);                                                              \
        a[k] = VOP(V, a[k], v);                                                                                        \
      }                                                                                                                \
    }                                                                                                                  \
    __builtin_memcpy(lanes, a, sizeof lanes);                                                                          \
    *r = join_##NAME(lanes);                                                                                           \
    return i;                                                                                                          \
  }                                                                                                                    \
  static T block_##NAME(const T *x, int64_t n) {                                                                       \
    T r = IDENTITY, t[4] = {IDENTITY, IDENTITY, IDENTITY, IDENTITY};                                                   \
    int64_t i = n < LANES / (int64_t)sizeof(T) ? 0 : lanes_##NAME(x, n, &r);                                           \
    for (; i + 4 <= n; i += 4) UNROLL for (int k = 0; k < 4; k++) t[k] = OP(t[k], x[i + k]);                           \
    t[0] = OP(t[0], t[1]), t[2] = OP(t[2], t[3]), t[0] = OP(t[0], t[2]);                                               \
    for (; i < n; i++) t[0] = OP(t[0], x[i]);                                                                          \
    r = OP(r, t[0]);                                                                                                   \
    return r;                                                                                                          \
  }                                                                                                                    \
  static T pairwise_##NAME(const T *x, int64_t n) {                                                                    \
    if (n <= BLOCK) return block_##NAME(x, n);                                                                         \
    int64_t half = (n / 2 + BLOCK - 1) / BLOCK * BLOCK;                                                                \
    T a = pairwise_##NAME(x, half), b = pairwise_##NAME(x + half, n - half);                                           \
    return OP(a, b);                                                                                                   \
  }                                                                                                                    \
  static void fold_##NAME(void *acc, const void *x, int64_t n) {                                                       \
    T *a = acc, r = pairwise_##NAME(x, n);                                                                             \
    *a = OP(*a, r);                                                                                                    \
  }                                                                                                                    \
  static void long_rows_##NAME(T *restrict a, const char *restrict x, int64_t stride, int64_t m, int64_t n) {          \
    int64_t i = 0;                                                                                                     \
    for (; i + 4 <= m; i += 4, x += 4 * stride) {                                                                      \
      const T *p = (const T *)x, *q = (const T *)(x + stride);                                                         \
      const T *r = (const T *)(x + 2 * stride), *s = (const T *)(x + 3 * stride);                                      \
      MX_VECTORIZE for (int64_t j = 0; j < n; j++) {                                                                   \
        T u = OP(p[j], q[j]), v = OP(r[j], s[j]), w = OP(u, v);                                                        \
        a[j] = OP(a[j], w);                                                                                            \
      }                                                                                                                \
    }                                                                                                                  \
    for (; i < m; i++, x += stride) {                                                                                  \
      const T *p = (const T *)x;                                                                                       \
      MX_VECTORIZE for (int64_t j = 0; j < n; j++) a[j] = OP(a[j], p[j]);                                              \
    }                                                                                                                  \
  }                                                                                                                    \
  /* g rows of n without gaps are one row of g * n, whose groups are joined at the end */                              \
  static void rows_##NAME(void *acc, const void *x, int64_t stride, int64_t m, int64_t n) {                            \
    int64_t g = n < NARROW ? WIDE / n : 1, rounds = m / g;                                                             \
    if (stride == n * (int64_t)sizeof(T) && g > 1 && rounds >= 2) {                                                    \
      T wide[WIDE];                                                                                                    \
      __builtin_memcpy(wide, x, (size_t)(g * n) * sizeof(T));                                                          \
      long_rows_##NAME(wide, (const char *)x + g * stride, g * stride, rounds - 1, g * n);                             \
      long_rows_##NAME(acc, (const char *)wide, stride, g, n);                                                         \
      x = (const char *)x + rounds * g * stride;                                                                       \
      m -= rounds * g;                                                                                                 \
    }                                                                                                                  \
    long_rows_##NAME(acc, x, stride, m, n);                                                                            \
  }                                                                                                                    \
  INLINE void one_by_one_##NAME(char *y, int64_t y_stride, const char *x, int64_t stride, const int64_t n,             \
                                int64_t m) {                                                                           \
    for (int64_t i = 0; i < m; i++, y += y_stride, x += stride) {                                                      \
      const T *p = (const T *)x;                                                                                       \
      T r = p[0];                                                                                                      \
      for (int64_t j = 1; j < n; j++) r = OP(r, p[j]);                                                                 \
      *(T *)y = r;                                                                                                     \
    }                                                                                                                  \
  }                                                                                                                    \
  static void brief_##NAME(void *y, int64_t y_stride, const void *x, int64_t stride, int64_t n, int64_t m) {           \
    switch (n) {                                                                                                       \
    case 2: one_by_one_##NAME(y, y_stride, x, stride, 2, m); break;                                                    \
    case 3: one_by_one_##NAME(y, y_stride, x, stride, 3, m); break;                                                    \
    case 4: one_by_one_##NAME(y, y_stride, x, stride, 4, m); break;                                                    \
    default: one_by_one_##NAME(y, y_stride, x, stride, n, m); break;                                                   \
    }                                                                                                                  \
  }                                                                                                                    \
  static void thin_##NAME(void *acc, int64_t acc_stride, const void *x, int64_t stride, int64_t n) {                   \
    char *a = acc;                                                                                                     \
    const char *p = x;                                                                                                 \
    for (int64_t j = 0; j < n; j++, a += acc_stride, p += stride) {                                                    \
      T u = *(T *)a, v = *(const T *)p;                                                                                \
      *(T *)a = OP(u, v);                                                                                              \
    }                                                                                                                  \
  }

/* Vectors v .. v + VECTORS - 1 of rows, in registers. */
#define FOLD_TAPS(NAME, T, IDENTITY, OP, VOP)                                                                          \
  INLINE void vectors_##NAME(T *y, const void *const *x, int64_t m, int64_t j, const int vectors) {                    \
    typedef T##_vector V;                                                                                              \
    enum { EACH = NATIVE / sizeof(T) };                                                                                \
    V a[4], v;                                                                                                         \
    UNROLL for (int k = 0; k < vectors; k++) a[k] = (V){0} + (T)(IDENTITY);                                            \
    for (int64_t i = 0; i < m; i++) {                                                                                  \
      const T *p = (const T *)x[i] + j;                                                                                \
      UNROLL for (int k = 0; k < vectors; k++) {                                                                       \
        __builtin_memcpy(&v, p + k * EACH, sizeof v);                                                                  \
        a[k] = VOP(V, a[k], v);                                                                                        \
      }                                                                                                                \
    }                                                                                                                  \
    UNROLL for (int k = 0; k < vectors; k++) __builtin_memcpy(y + j + k * EACH, &a[k], sizeof v);                      \
  }                                                                                                                    \
  static void taps_##NAME(void *to, const void *const *x, int64_t m, int64_t n) {                                      \
    enum { EACH = NATIVE / sizeof(T) };                                                                                \
    T *y = to;                                                                                                         \
    int64_t j = 0;                                                                                                     \
    for (; j + 4 * EACH <= n; j += 4 * EACH) vectors_##NAME(y, x, m, j, 4);                                            \
    for (; j + EACH <= n; j += EACH) vectors_##NAME(y, x, m, j, 1);                                                    \
    for (; j < n; j++) {                                                                                               \
      T r = IDENTITY;                                                                                                  \
      for (int64_t i = 0; i < m; i++) {                                                                                \
        T v = ((const T *)x[i])[j];                                                                                    \
        r = OP(r, v);                                                                                                  \
      }                                                                                                                \
      y[j] = r;                                                                                                        \
    }                                                                                                                  \
  }

#define BOTH(NAME, T, IDENTITY, OP, VOP) FOLD(NAME, T, IDENTITY, OP, VOP) FOLD_TAPS(NAME, T, IDENTITY, OP, VOP)

/* Integers wrap: sums and products of signed ones are those of unsigned ones. */
#define FOLD_SUM_PROD(T) BOTH(sum_##T, T, 0, ADD, VADD) BOTH(prod_##T, T, 1, MUL, VMUL)
FOLD_SUM_PROD(uint8_t)
FOLD_SUM_PROD(uint16_t)
FOLD_SUM_PROD(uint32_t)
FOLD_SUM_PROD(uint64_t)
FOLD_SUM_PROD(float)
FOLD_SUM_PROD(double)

#define FOLD_INT(T, LEAST, GREATEST)                                                                                   \
  BOTH(max_##T, T, LEAST, MAX_INT, VMAX_INT) BOTH(min_##T, T, GREATEST, MIN_INT, VMIN_INT)
FOLD_INT(int8_t, INT8_MIN, INT8_MAX)
FOLD_INT(int16_t, INT16_MIN, INT16_MAX)
FOLD_INT(int32_t, INT32_MIN, INT32_MAX)
FOLD_INT(int64_t, INT64_MIN, INT64_MAX)
FOLD_INT(uint8_t, 0, UINT8_MAX)
FOLD_INT(uint16_t, 0, UINT16_MAX)
FOLD_INT(uint32_t, 0, UINT32_MAX)
FOLD_INT(uint64_t, 0, UINT64_MAX)

#define FOLD_REAL(T)                                                                                                   \
  BOTH(max_##T, T, (T)-INFINITY, MAX_REAL, VMAX_REAL) BOTH(min_##T, T, (T)INFINITY, MIN_REAL, VMIN_REAL)
FOLD_REAL(float)
FOLD_REAL(double)

/* -- positions ----------------------------------------------------------------------------------------------------- */

/* first: find the extreme, then where it is first, a stretch at a time; NaN is found as what differs from itself. */
#define ARG(NAME, T, BETTER)                                                                                           \
  static int64_t first_##NAME(const void *data, int64_t n) {                                                           \
    enum { STRETCH = 64 };                                                                                             \
    const T *x = data;                                                                                                 \
    T best = pairwise_##NAME(x, n);                                                                                    \
    bool nan = best != best;                                                                                           \
    int64_t i = 0;                                                                                                     \
    for (int found = 0; !nan && !found && i + STRETCH <= n; i += found ? 0 : STRETCH)                                  \
      for (int k = 0; k < STRETCH; k++) found |= x[i + k] == best;                                                     \
    for (; i < n; i++)                                                                                                 \
      if (nan ? x[i] != x[i] : x[i] == best) return i;                                                                 \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static void args_##NAME(void *best, int32_t *at, const void *x, int64_t stride, int64_t row0, int64_t m,             \
                          int64_t n) {                                                                                 \
    T *restrict b = best;                                                                                              \
    int32_t *restrict w = at;                                                                                          \
    for (int64_t i = 0; i < m; i++) {                                                                                  \
      const T *p = (const T *)((const char *)x + i * stride);                                                          \
      int32_t row = (int32_t)(row0 + i);                                                                               \
      MX_VECTORIZE for (int64_t j = 0; j < n; j++) {                                                                   \
        bool take = (p[j] BETTER b[j]) | ((p[j] != p[j]) & (b[j] == b[j]));                                            \
        b[j] = take ? p[j] : b[j];                                                                                     \
        w[j] = take ? row : w[j];                                                                                      \
      }                                                                                                                \
    }                                                                                                                  \
  }
#define ARG_BOTH(T) ARG(max_##T, T, >) ARG(min_##T, T, <)
ARG_BOTH(int8_t)
ARG_BOTH(int16_t)
ARG_BOTH(int32_t)
ARG_BOTH(int64_t)
ARG_BOTH(uint8_t)
ARG_BOTH(uint16_t)
ARG_BOTH(uint32_t)
ARG_BOTH(uint64_t)
ARG_BOTH(float)
ARG_BOTH(double)

/* -- table --------------------------------------------------------------------------------------------------------- */

#define LOOPS(NAME)                                                                                                    \
  { fold_##NAME, rows_##NAME, thin_##NAME, brief_##NAME, taps_##NAME }
#define ARGS(NAME)                                                                                                     \
  { first_##NAME, args_##NAME }
#define SUMS(OP)                                                                                                       \
  {                                                                                                                    \
    [MLAX_INT8] = LOOPS(OP##_uint8_t), [MLAX_INT16] = LOOPS(OP##_uint16_t), [MLAX_INT32] = LOOPS(OP##_uint32_t),       \
    [MLAX_INT64] = LOOPS(OP##_uint64_t), [MLAX_UINT8] = LOOPS(OP##_uint8_t), [MLAX_UINT16] = LOOPS(OP##_uint16_t),     \
    [MLAX_UINT32] = LOOPS(OP##_uint32_t), [MLAX_UINT64] = LOOPS(OP##_uint64_t), [MLAX_FLOAT32] = LOOPS(OP##_float),    \
    [MLAX_FLOAT64] = LOOPS(OP##_double)                                                                                \
  }
#define CHOICES(ROW, OP)                                                                                               \
  {                                                                                                                    \
    [MLAX_BOOL] = ROW(OP##_uint8_t), [MLAX_INT8] = ROW(OP##_int8_t), [MLAX_INT16] = ROW(OP##_int16_t),                 \
    [MLAX_INT32] = ROW(OP##_int32_t), [MLAX_INT64] = ROW(OP##_int64_t), [MLAX_UINT8] = ROW(OP##_uint8_t),              \
    [MLAX_UINT16] = ROW(OP##_uint16_t), [MLAX_UINT32] = ROW(OP##_uint32_t), [MLAX_UINT64] = ROW(OP##_uint64_t),        \
    [MLAX_FLOAT32] = ROW(OP##_float), [MLAX_FLOAT64] = ROW(OP##_double)                                                \
  }

const mx_reduce_table MX_SIMD(mx_reduce_table) = {
    .fold = {[MX_FOLD_SUM] = SUMS(sum),
             [MX_FOLD_PROD] = SUMS(prod),
             [MX_FOLD_MAX] = CHOICES(LOOPS, max),
             [MX_FOLD_MIN] = CHOICES(LOOPS, min)},
    .argmax = CHOICES(ARGS, max),
    .argmin = CHOICES(ARGS, min),
};
