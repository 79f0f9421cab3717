/* channels.h: register tiles of convolutions whose groups are single channels, which lie side by side. */
#ifndef MX_SIMD_CHANNELS_H
#define MX_SIMD_CHANNELS_H

#include "../../../array/array.h"
#include "simd.h"

/* A line of the window: where it begins in x, for the first place of a tile, and in the kernel. */
typedef struct mx_channel_line {
  const char *x, *w;
} mx_channel_line;

/* y[i][c] = sum over lines, and over k, of x[i * x_place + k * x_step + c] w[k * w_step + c], for some places i and n
 * channels c. Steps count elements; sums are taken in the order of the lines. */
enum { MX_CHANNEL_PLACES = 6 };
typedef struct mx_channel_tile {
  const mx_channel_line *lines;
  int64_t n_lines, k, n;
  int places;
  int64_t x_at, w_at; /* where k begins, in each line */
  int64_t x_place, x_step, w_step, y_place;
  char *y;
  bool add; /* to what y holds */
} mx_channel_tile;

typedef struct mx_channel_loops {
  void (*tile)(const mx_channel_tile *t);
} mx_channel_loops;

MX_SIMD_DECLARE(mx_channel_loops, mx_channel_float);
MX_SIMD_DECLARE(mx_channel_loops, mx_channel_double);

#endif
