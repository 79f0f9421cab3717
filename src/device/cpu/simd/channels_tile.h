/* channels_tile.h: a few places of one or two vectors of channels stay in registers while the window is walked.
 * channels_float.c and channels_double.c include it. */
#ifndef MX_SIMD_CHANNELS_TILE_H
#define MX_SIMD_CHANNELS_TILE_H

#include "lines.h"

enum { PLACES = 6 };

/* Channels from j on: `vectors` of them, of the last of which a part. */
INLINE void channels_of(const mx_line_tile *t, int64_t j, part last, const int places, const int vectors) {
  vec s[PLACES][2], v[2];
  T *y = (T *)t->y + j;
  const int l = vectors - 1;
  UNROLL for (int i = 0; i < places; i++) {
    const T *p = y + i * t->y_place, *next = p + PLACES * t->y_place;
    __builtin_prefetch(next, 1);
    if (l) __builtin_prefetch(next + LANES, 1);
    if (l) s[i][0] = t->add ? LOAD(p) : SPLAT(0);
    s[i][l] = t->add ? LOAD_PART(p + l * LANES, last) : SPLAT(0);
  }
  for (int64_t r = 0; r < t->n_lines; r++) {
    const T *x = (const T *)t->lines[r].x + t->x_at + j, *w = (const T *)t->lines[r].w + t->w_at + j;
    for (int64_t k = 0; k < t->k; k++, x += t->x_step, w += t->w_step) {
      if (l) v[0] = LOAD(w);
      v[l] = LOAD_PART(w + l * LANES, last);
      UNROLL for (int i = 0; i < places; i++) {
        const T *p = x + i * t->x_place;
        if (l) s[i][0] = FMA(LOAD(p), v[0], s[i][0]);
        s[i][l] = FMA(LOAD_PART(p + l * LANES, last), v[l], s[i][l]);
      }
    }
  }
  UNROLL for (int i = 0; i < places; i++) {
    T *p = y + i * t->y_place;
    if (l) STORE(p, s[i][0]);
    STORE_PART(p + l * LANES, last, s[i][l]);
  }
}

#define CHANNELS(N)                                                                                                    \
  static __attribute__((noinline)) void pair_##N(const mx_line_tile *t, int64_t j, part last) {                        \
    channels_of(t, j, last, N, 2);                                                                                     \
  }                                                                                                                    \
  static __attribute__((noinline)) void single_##N(const mx_line_tile *t, int64_t j, part last) {                      \
    channels_of(t, j, last, N, 1);                                                                                     \
  }
CHANNELS(1)
CHANNELS(2)
CHANNELS(3)
CHANNELS(4)
CHANNELS(5)
CHANNELS(6)

static void channel_tile(const mx_line_tile *t) {
  static void (*const loops[2][PLACES + 1])(const mx_line_tile *, int64_t,
                                            part) = {{NULL, single_1, single_2, single_3, single_4, single_5, single_6},
                                                     {NULL, pair_1, pair_2, pair_3, pair_4, pair_5, pair_6}};
  for (int64_t j = 0; j < t->n; j += 2 * LANES) {
    int64_t n = t->n - j;
    bool two = n > LANES;
    if (n > 2 * LANES) n = 2 * LANES;
    loops[two][t->places](t, j, part_of(two ? n - LANES : n));
  }
}

#endif
