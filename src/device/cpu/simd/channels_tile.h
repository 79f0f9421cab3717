/* channels_tile.h: a few places of one or two vectors of channels stay in registers while the window is walked.
 * channels_float.c and channels_double.c include it. */
#ifndef MX_SIMD_CHANNELS_TILE_H
#define MX_SIMD_CHANNELS_TILE_H

#include "lines.h"

#define MOST_PLACES 6
enum { PLACES = MOST_PLACES };

/* Channels from j on: `vectors` of them, the last of which is whole or a part. */
INLINE void columns_of(const mx_line_tile *t, int64_t j, part last, const int places, const int vectors,
                       const bool whole) {
  vec s[PLACES][2], v[2];
  T *y = (T *)t->y + j;
  const int l = vectors - 1;
  UNROLL for (int i = 0; i < places; i++) {
    const T *p = y + i * t->y_place, *next = p + PLACES * t->y_place;
    __builtin_prefetch(next, 1);
    if (l) __builtin_prefetch(next + LANES, 1);
    if (l) s[i][0] = t->add ? LOAD(p) : SPLAT(0);
    s[i][l] = !t->add ? SPLAT(0) : whole ? LOAD(p + l * LANES) : LOAD_PART(p + l * LANES, last);
  }
  for (int64_t r = 0; r < t->n_lines; r++) {
    const T *x = (const T *)t->lines[r].x + t->x_at + j, *w = (const T *)t->lines[r].w + t->w_at + j;
    for (int64_t k = 0; k < t->k; k++, x += t->x_step, w += t->w_step) {
      if (l) v[0] = LOAD(w);
      v[l] = whole ? LOAD(w + l * LANES) : LOAD_PART(w + l * LANES, last);
      UNROLL for (int i = 0; i < places; i++) {
        const T *p = x + i * t->x_place;
        if (l) s[i][0] = FMA(LOAD(p), v[0], s[i][0]);
        s[i][l] = FMA(whole ? LOAD(p + l * LANES) : LOAD_PART(p + l * LANES, last), v[l], s[i][l]);
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
