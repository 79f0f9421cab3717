/* gemv_tile.h: products of a matrix and a vector, y = a x, for one type of numbers. gemm_float.c and gemm_double.c
 * include it after gemm_tile.h, whose vectors it uses, and after they have said what the halves of a vector are.
 *
 *     dense rows               four dot products at a time, in two vectors each
 *     dense columns, few rows  y's rows in registers, four vectors of them, while all columns run
 *     dense columns            eight columns at a time are added to all of y, so that each is one stream of memory
 *
 * The order of additions in a row depends on the matrix's lengths alone, whatever rows a thread has. */
#ifndef MX_SIMD_GEMV_TILE_H
#define MX_SIMD_GEMV_TILE_H

#include "gemm_tile.h"

enum {
  DOTS = 4,          /* rows at a time */
  FEW = 8 * LANES,   /* rows that are kept in registers */
  BLOCK = 4 * LANES, /* of them at a time */
  TOGETHER = 8       /* columns */
};

/* -- dense rows ---------------------------------------------------------------------------------------------------- */

/* The sums of four vectors' lanes. */
INLINE void four_sums(const vec *v, T *to) {
  quad a = halves(v[0]), b = halves(v[1]), c = halves(v[2]), d = halves(v[3]);
  quad ab = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  quad cd = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
  a = __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
  memcpy(to, &a, sizeof a);
}

INLINE void dot_step(const T *const *p, int64_t j, vec x, part lanes, bool whole, vec *s) {
  UNROLL for (int i = 0; i < DOTS; i++) s[i] = FMA(whole ? LOAD(p[i] + j) : LOAD_PART(p[i] + j, lanes), x, s[i]);
}

/* The dot products of four rows; those behind `count` are of the first. */
static void dots(const T *a, int64_t row, int64_t count, const T *x, int64_t n, T *y) {
  const T *p[DOTS] = {a, count > 1 ? a + row : a, count > 2 ? a + 2 * row : a, count > 3 ? a + 3 * row : a};
  vec s[2][DOTS];
  T sums[DOTS];
  UNROLL for (int i = 0; i < DOTS; i++) s[0][i] = s[1][i] = SPLAT(0);
  int64_t j = 0;
  for (; j + 2 * LANES <= n; j += 2 * LANES) {
    dot_step(p, j, LOAD(x + j), (part){0}, true, s[0]);
    dot_step(p, j + LANES, LOAD(x + j + LANES), (part){0}, true, s[1]);
  }
  if (j + LANES <= n) dot_step(p, j, LOAD(x + j), (part){0}, true, s[0]), j += LANES;
  if (j < n) {
    part lanes = part_of(n - j);
    dot_step(p, j, LOAD_PART(x + j, lanes), lanes, false, s[1]);
  }
  UNROLL for (int i = 0; i < DOTS; i++) s[0][i] = ADD(s[0][i], s[1][i]);
  four_sums(s[0], count < DOTS ? sums : y);
  for (int64_t i = 0; count < DOTS && i < count; i++) y[i] = sums[i];
}

/* -- dense columns ------------------------------------------------------------------------------------------------- */

/* Rows of some vectors, of which the last may be a part; two sums, of every second column each. */
INLINE void column_block(const T *a, int64_t col, const T *x, int64_t n, T *y, const int vectors, part lanes) {
  const int last = vectors - 1;
  vec s[2][4];
  UNROLL for (int v = 0; v < vectors; v++) s[0][v] = s[1][v] = SPLAT(0);
  int64_t j = 0;
  for (; j + 2 <= n; j += 2, a += 2 * col) {
    vec x0 = SPLAT(x[j]), x1 = SPLAT(x[j + 1]);
    UNROLL for (int v = 0; v < last; v++) {
      s[0][v] = FMA(LOAD(a + v * LANES), x0, s[0][v]);
      s[1][v] = FMA(LOAD(a + col + v * LANES), x1, s[1][v]);
    }
    s[0][last] = FMA(LOAD_PART(a + last * LANES, lanes), x0, s[0][last]);
    s[1][last] = FMA(LOAD_PART(a + col + last * LANES, lanes), x1, s[1][last]);
  }
  if (j < n) {
    vec x0 = SPLAT(x[j]);
    UNROLL for (int v = 0; v < last; v++) s[0][v] = FMA(LOAD(a + v * LANES), x0, s[0][v]);
    s[0][last] = FMA(LOAD_PART(a + last * LANES, lanes), x0, s[0][last]);
  }
  UNROLL for (int v = 0; v < last; v++) STORE(y + v * LANES, ADD(s[0][v], s[1][v]));
  STORE_PART(y + last * LANES, lanes, ADD(s[0][last], s[1][last]));
}

static void few_rows(const T *a, int64_t col, int64_t m, const T *x, int64_t n, T *y) {
  for (; m > 0; m -= BLOCK, a += BLOCK, y += BLOCK) {
    int64_t rows = lesser(m, BLOCK), last = (rows - 1) % LANES + 1;
    part lanes = part_of(last);
    switch ((rows + LANES - 1) / LANES) {
    case 1: column_block(a, col, x, n, y, 1, lanes); break;
    case 2: column_block(a, col, x, n, y, 2, lanes); break;
    case 3: column_block(a, col, x, n, y, 3, lanes); break;
    default: column_block(a, col, x, n, y, 4, lanes); break;
    }
  }
}

/* A vector of rows with so many columns: added to y, or (first) set. */
INLINE void add_columns(const T *a, int64_t col, const vec *x, const int columns, T *y, part lanes, bool whole,
                        bool first) {
  vec s = first ? SPLAT(0) : whole ? LOAD(y) : LOAD_PART(y, lanes);
  UNROLL for (int k = 0; k < columns; k++) s = FMA(whole ? LOAD(a + k * col) : LOAD_PART(a + k * col, lanes), x[k], s);
  if (whole) STORE(y, s);
  else STORE_PART(y, lanes, s);
}

INLINE void stream_columns(const T *a, int64_t col, int64_t m, const T *x, const int columns, T *y, bool first) {
  vec v[TOGETHER];
  int64_t i = 0;
  UNROLL for (int k = 0; k < columns; k++) v[k] = SPLAT(x[k]);
  for (; i + LANES <= m; i += LANES) add_columns(a + i, col, v, columns, y + i, (part){0}, true, first);
  if (i < m) add_columns(a + i, col, v, columns, y + i, part_of(m - i), false, first);
}

static void many_rows(const T *a, int64_t col, int64_t m, const T *x, int64_t n, T *y) {
  int64_t j = 0;
  if (n < TOGETHER) memset(y, 0, (size_t)m * sizeof *y);
  for (; j + TOGETHER <= n; j += TOGETHER) stream_columns(a + j * col, col, m, x + j, TOGETHER, y, j == 0);
  for (; j < n; j++) stream_columns(a + j * col, col, m, x + j, 1, y, false);
}

/* -- both ---------------------------------------------------------------------------------------------------------- */

static void gemv(const mx_gemv *g, int64_t i0, int64_t i1) {
  const T *a = (const T *)g->a + i0 * g->a_row, *x = (const T *)g->x;
  T *y = (T *)g->y;
  if (g->a_col != 1) {
    (g->m <= FEW ? few_rows : many_rows)(a, g->a_col, i1 - i0, x, g->n, y + i0);
    return;
  }
  for (int64_t i = i0; i < i1; i += DOTS, a += DOTS * g->a_row) dots(a, g->a_row, lesser(i1 - i, DOTS), x, g->n, y + i);
}

#endif
