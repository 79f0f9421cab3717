/* products_tile.h: a few places of one or two vectors of out features stay in registers while the window is walked:
 * each element of x is multiplied with rows of the kernel. products_float.c and products_double.c include it. */
#ifndef MX_SIMD_PRODUCTS_TILE_H
#define MX_SIMD_PRODUCTS_TILE_H

#include "lines.h"

#if defined(__AVX512F__)
#  define MOST_PLACES 12
#else
#  define MOST_PLACES 6
#endif
enum { PLACES = MOST_PLACES };

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

#include "line_tile.h"

#endif
