/* gemm.c: own loops for matrix products.
 *
 * float32: a tile of ROWS x COLUMNS of c stays in registers while k runs:
 *
 *     for k: b0, b1 = two vectors of b's row k; for each row i: c[i] += a[i,k] * (b0, b1)
 *
 * Panels of b, DEPTH x COLUMNS, are packed where several row tiles use them, where b's rows are not dense, and at b's
 * right edge, where they are filled up with zeros. a is read in place by single elements, so that its strides do not
 * matter. The order of additions depends on k alone: however c is cut into tiles, the bits are the same. */
#include "gemm.h"

#if defined(__x86_64__)
#  include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")

/* -- float32 ----------------------------------------------------------------------------------------------------------
 */

#if defined(__FMA__)
#  if defined(__AVX512F__)
typedef __m512 vec;
typedef __mmask16 part; /* which lanes of a vector count */
#    define FMA(a, b, c)           _mm512_fmadd_ps(a, b, c)
#    define SPLAT(x)               _mm512_set1_ps(x)
#    define LOAD(p)                _mm512_loadu_ps(p)
#    define STORE(p, v)            _mm512_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm512_maskz_loadu_ps(part, p)
#    define STORE_PART(p, part, v) _mm512_mask_storeu_ps(p, part, v)
enum { ROWS = 12, LANES = 16 };
INLINE part part_of(int64_t n) { return (part)((1u << n) - 1); }
#  else
typedef __m256 vec;
typedef __m256i part;
#    define FMA(a, b, c)           _mm256_fmadd_ps(a, b, c)
#    define SPLAT(x)               _mm256_set1_ps(x)
#    define LOAD(p)                _mm256_loadu_ps(p)
#    define STORE(p, v)            _mm256_storeu_ps(p, v)
#    define LOAD_PART(p, part)     _mm256_maskload_ps(p, part)
#    define STORE_PART(p, part, v) _mm256_maskstore_ps(p, part, v)
enum { ROWS = 6, LANES = 8 };
INLINE part part_of(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#  endif

enum { COLUMNS = 2 * LANES, DEPTH = 320, HEIGHT = 240, PACK_FROM = 2 * ROWS };
_Static_assert(COLUMNS *DEPTH <= MX_GEMM_PACK, "a packed panel fits");

typedef float quad __attribute__((vector_size(16)));

typedef struct micro {
  int64_t k;
  const float *a, *b;
  float *c;
  int64_t a_row, a_col, b_row, c_row;
  part last; /* lanes of the last vector that c has */
  bool add;  /* to what c holds: a later part of k */
} micro;

INLINE void micro_rows(const micro *t, const int rows, const int vectors) {
  vec s[ROWS][2], v[2];
  const float *a = t->a, *b = t->b;
  float *c = t->c;
  const int last = vectors - 1;
  UNROLL for (int i = 0; i < rows; i++) {
    float *p = c + i * t->c_row;
    if (last) s[i][0] = t->add ? LOAD(p) : SPLAT(0);
    s[i][last] = t->add ? LOAD_PART(p + last * LANES, t->last) : SPLAT(0);
  }
  for (int64_t k = t->k; k > 0; k--, a += t->a_col, b += t->b_row) {
    UNROLL for (int j = 0; j < vectors; j++) v[j] = LOAD(b + j * LANES);
    UNROLL for (int i = 0; i < rows; i++) {
      vec x = SPLAT(a[i * t->a_row]);
      UNROLL for (int j = 0; j < vectors; j++) s[i][j] = FMA(x, v[j], s[i][j]);
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    float *p = c + i * t->c_row;
    if (last) STORE(p, s[i][0]);
    STORE_PART(p + last * LANES, t->last, s[i][last]);
  }
}

#  define MICRO(R)                                                                                                     \
    static __attribute__((noinline)) void micro_##R(const micro *t) { micro_rows(t, R < ROWS ? R : ROWS, 2); }         \
    static __attribute__((noinline)) void thin_##R(const micro *t) { micro_rows(t, R < ROWS ? R : ROWS, 1); }
MICRO(1)
MICRO(2)
MICRO(3)
MICRO(4)
MICRO(5)
MICRO(6)
MICRO(7)
MICRO(8)
MICRO(9)
MICRO(10)
MICRO(11)
MICRO(12)

typedef void (*micro_loop)(const micro *t);
static const micro_loop micros[2][13] = {
    {NULL, thin_1, thin_2, thin_3, thin_4, thin_5, thin_6, thin_7, thin_8, thin_9, thin_10, thin_11, thin_12},
    {NULL, micro_1, micro_2, micro_3, micro_4, micro_5, micro_6, micro_7, micro_8, micro_9, micro_10, micro_11,
     micro_12}};

/* Transposes 4 x 4 elements. */
INLINE void turn_quad(const float *b, int64_t b_col, float *to, int64_t width) {
  quad p, q, r, s;
  memcpy(&p, b, sizeof p), memcpy(&q, b + b_col, sizeof q);
  memcpy(&r, b + 2 * b_col, sizeof r), memcpy(&s, b + 3 * b_col, sizeof s);
  quad pq_lo = __builtin_shufflevector(p, q, 0, 4, 1, 5), pq_hi = __builtin_shufflevector(p, q, 2, 6, 3, 7);
  quad rs_lo = __builtin_shufflevector(r, s, 0, 4, 1, 5), rs_hi = __builtin_shufflevector(r, s, 2, 6, 3, 7);
  p = __builtin_shufflevector(pq_lo, rs_lo, 0, 1, 4, 5), q = __builtin_shufflevector(pq_lo, rs_lo, 2, 3, 6, 7);
  r = __builtin_shufflevector(pq_hi, rs_hi, 0, 1, 4, 5), s = __builtin_shufflevector(pq_hi, rs_hi, 2, 3, 6, 7);
  memcpy(to, &p, sizeof p), memcpy(to + width, &q, sizeof q);
  memcpy(to + 2 * width, &r, sizeof r), memcpy(to + 3 * width, &s, sizeof s);
}

/* b's columns are dense: strips of them are read along. */
static void pack_turned(const float *b, int64_t b_col, int64_t depth, int64_t n, float *to, int64_t width) {
  enum { STRIP = 16 };
  for (int64_t k = 0; k < depth; k += STRIP) {
    int64_t m = depth - k < STRIP ? depth - k : STRIP, j = 0;
    for (; m == STRIP && j + 4 <= n; j += 4)
      UNROLL for (int i = 0; i < STRIP; i += 4)
          turn_quad(b + j * b_col + k + i, b_col, to + (k + i) * width + j, width);
    for (; j < n; j++)
      for (int64_t i = 0; i < m; i++) to[(k + i) * width + j] = b[j * b_col + k + i];
  }
}

/* Rows of n elements, zeros behind them. */
static void pack_rows(const float *b, int64_t b_row, int64_t depth, int64_t n, float *to, int64_t width) {
  part last = part_of(n - (width - LANES));
  for (int64_t k = 0; k < depth; k++, b += b_row, to += width) {
    if (width == COLUMNS) STORE(to, LOAD(b));
    STORE(to + width - LANES, LOAD_PART(b + width - LANES, last));
  }
}

/* `depth` rows of n elements as rows of `width`. */
static void pack_panel(const float *b, int64_t b_row, int64_t b_col, int64_t depth, int64_t n, float *to,
                       int64_t width) {
  if (b_col == 1) {
    pack_rows(b, b_row, depth, n, to, width);
    return;
  }
  for (int64_t k = 0; n < width && k < depth; k++) memset(to + k * width + n, 0, sizeof *to * (size_t)(width - n));
  if (b_row == 1) pack_turned(b, b_col, depth, n, to, width);
  else
    for (int64_t k = 0; k < depth; k++)
      for (int64_t j = 0; j < n; j++) to[k * width + j] = b[k * b_row + j * b_col];
}

/* One panel of b, for the rows of the tile; the first part of k begins c. */
static void panel(const mx_gemm *g, mx_tile t, int64_t k, int64_t j, float *pack) {
  int64_t depth = g->k - k < DEPTH ? g->k - k : DEPTH;
  int64_t n = t.n1 - j < COLUMNS ? t.n1 - j : COLUMNS, width = n <= LANES ? LANES : COLUMNS;
  micro w = {.k = depth,
             .a = (const float *)g->a + t.m0 * g->a_row + k * g->a_col,
             .b = (const float *)g->b + k * g->b_row + j * g->b_col,
             .c = (float *)g->c + t.m0 * g->c_row + j,
             .a_row = g->a_row,
             .a_col = g->a_col,
             .b_row = g->b_row,
             .c_row = g->c_row,
             .last = part_of(n - (width - LANES)),
             .add = g->add || k > 0};
  if (n < width || g->b_col != 1 || t.m1 - t.m0 >= PACK_FROM) {
    pack_panel(w.b, g->b_row, g->b_col, depth, n, pack, width);
    w.b = pack, w.b_row = width;
  }
  for (int64_t i = t.m0; i < t.m1; i += ROWS, w.a += ROWS * w.a_row, w.c += ROWS * w.c_row)
    micros[width == COLUMNS][t.m1 - i < ROWS ? t.m1 - i : ROWS](&w);
}

/* HEIGHT rows of a, DEPTH of its columns, stay in the second cache while the panels pass. */
static void gemm_float(const mx_gemm *g, mx_tile t, float *pack) {
  for (int64_t m = t.m0; m < t.m1; m += HEIGHT)
    for (int64_t k = 0; k < g->k; k += DEPTH)
      for (int64_t j = t.n0; j < t.n1; j += COLUMNS)
        panel(g, (mx_tile){m, t.m1 - m < HEIGHT ? t.m1 : m + HEIGHT, t.n0, t.n1}, k, j, pack);
}
#else /* BLAS has better loops than the vectors here could make */
enum { ROWS = 16, COLUMNS = 16 };
#  define gemm_float NULL
#endif

/* -- row by row: integers, bool, and what is too long for BLAS
 * ------------------------------------------------------------------------------------------------
 */

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

/* -- a matrix and a vector --------------------------------------------------------------------------------------------
 */

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
  static void rows_##NAME(const T *a, int64_t row, int64_t count, const T *x, int64_t n, T *y) {                       \
    typedef T##_vector V;                                                                                              \
    enum { LANE = NATIVE / sizeof(T), EACH = ROW_BYTES / NATIVE, ALL = ROW_BYTES / sizeof(T) };                        \
    const T *p[4] = {a, count > 1 ? a + row : a, count > 2 ? a + 2 * row : a, count > 3 ? a + 3 * row : a};            \
    V s[4][EACH] = {{{0}}}, u, v;                                                                                      \
    T t[4][ALL];                                                                                                       \
    int64_t j = 0;                                                                                                     \
    for (; j + ALL <= n; j += ALL) UNROLL for (int e = 0; e < EACH; e++) {                                             \
        memcpy(&u, x + j + e * LANE, sizeof u);                                                                        \
        UNROLL for (int i = 0; i < 4; i++) {                                                                           \
          memcpy(&v, p[i] + j + e * LANE, sizeof v);                                                                   \
          s[i][e] += u * v;                                                                                            \
        }                                                                                                              \
      }                                                                                                                \
    memcpy(t, s, sizeof t);                                                                                            \
    for (int l = 0; j < n; j++, l++)                                                                                   \
      for (int i = 0; i < 4; i++) t[i][l] += p[i][j] * x[j];                                                           \
    for (int i = 0; i < count; i++) {                                                                                  \
      for (int w = ALL / 2; w; w /= 2)                                                                                 \
        for (int l = 0; l < w; l++) t[i][l] += t[i][l + w];                                                            \
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
    .row_unit = ROWS,
    .column_unit = COLUMNS,
    .few_rows = COLUMNS == 32 ? 64 : 0,
    .float32 = gemm_float,
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
