/* products_tile.h: a few places of one or two vectors of out features stay in registers while the window is walked:
 * each element of x is multiplied with rows of the kernel. products_float.c and products_double.c include it. */
#ifndef MX_SIMD_PRODUCTS_TILE_H
#define MX_SIMD_PRODUCTS_TILE_H

#include "lines.h"

#if defined(__AVX512F__)
enum { PLACES = 12 };
#else
enum { PLACES = 6 };
#endif

/* Columns from j on: `vectors` of them, the last of which is whole or a part. Places are addressed three by three, from
 * one pointer and one step. */
INLINE void columns_of(const mx_line_tile *t, int64_t j, part last, const int places, const int vectors,
                       const bool whole) {
  vec s[PLACES][2], v[2];
  T *y = (T *)t->y + j;
  const int l = vectors - 1;
  const int64_t step = t->x_place;
  UNROLL for (int i = 0; i < places; i++) {
    const T *p = y + i * t->y_place, *next = p + PLACES * t->y_place;
    __builtin_prefetch(next, 1);
    if (l) __builtin_prefetch(next + LANES, 1);
    if (l) s[i][0] = t->add ? LOAD(p) : SPLAT(0);
    s[i][l] = !t->add ? SPLAT(0) : whole ? LOAD(p + l * LANES) : LOAD_PART(p + l * LANES, last);
  }
  for (int64_t r = 0; r < t->n_lines; r++) {
    const T *x = (const T *)t->lines[r].x + t->x_at, *w = (const T *)t->lines[r].w + t->w_at + j, *p[(PLACES + 2) / 3];
    UNROLL for (int i = 0; i < places; i += 3) p[i / 3] = x + i * step;
    UNROLL_TWICE for (int64_t k = 0; k < t->k; k++, w += t->w_step) {
      if (l) v[0] = LOAD(w);
      v[l] = whole ? LOAD(w + l * LANES) : LOAD_PART(w + l * LANES, last);
      UNROLL for (int i = 0; i < places; i++) {
        vec e = SPLAT(p[i / 3][i % 3 * step]);
        if (l) s[i][0] = FMA(e, v[0], s[i][0]);
        s[i][l] = FMA(e, v[l], s[i][l]);
        if (i % 3 == 2 || i == places - 1) p[i / 3] += t->x_step;
      }
    }
  }
  UNROLL for (int i = 0; i < places; i++) {
    T *p = y + i * t->y_place;
    if (l) STORE(p, s[i][0]);
    if (whole) STORE(p + l * LANES, s[i][l]);
    else STORE_PART(p + l * LANES, last, s[i][l]);
  }
}

#define PRODUCTS(N)                                                                                                    \
  static __attribute__((noinline)) void whole_##N(const mx_line_tile *t, int64_t j, part last) {                       \
    columns_of(t, j, last, N < PLACES ? N : PLACES, 2, true);                                                          \
  }                                                                                                                    \
  static __attribute__((noinline)) void pair_##N(const mx_line_tile *t, int64_t j, part last) {                        \
    columns_of(t, j, last, N < PLACES ? N : PLACES, 2, false);                                                         \
  }                                                                                                                    \
  static __attribute__((noinline)) void single_##N(const mx_line_tile *t, int64_t j, part last) {                      \
    columns_of(t, j, last, N < PLACES ? N : PLACES, 1, false);                                                         \
  }
PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(3)
PRODUCTS(4)
PRODUCTS(5)
PRODUCTS(6)
#if defined(__AVX512F__)
PRODUCTS(7)
PRODUCTS(8)
PRODUCTS(9)
PRODUCTS(10)
PRODUCTS(11)
PRODUCTS(12)
#  define PRODUCT_ROW(N) NULL, N##_1, N##_2, N##_3, N##_4, N##_5, N##_6, N##_7, N##_8, N##_9, N##_10, N##_11, N##_12
#else
#  define PRODUCT_ROW(N) NULL, N##_1, N##_2, N##_3, N##_4, N##_5, N##_6
#endif

static void product_tile(const mx_line_tile *t) {
  static void (*const loops[3][PLACES + 1])(const mx_line_tile *, int64_t,
                                            part) = {{PRODUCT_ROW(single)}, {PRODUCT_ROW(pair)}, {PRODUCT_ROW(whole)}};
  for (int64_t j = 0; j < t->n; j += 2 * LANES) {
    int64_t n = t->n - j;
    int width = n <= LANES ? 0 : n < 2 * LANES ? 1 : 2;
    loops[width][t->places](t, j, width == 2 ? part_of(LANES) : part_of(width ? n - LANES : n));
  }
}

#endif
