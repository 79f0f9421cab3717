/* lines.h: register tiles of convolutions, places of which lie evenly along a line of x. */
#ifndef MX_SIMD_LINES_H
#define MX_SIMD_LINES_H

#include "../../../array/array.h"
#include "simd.h"

/* A line of the window: where it begins in x, for the first place of a tile, and in the kernel. */
typedef struct mx_line {
  const char *x, *w;
} mx_line;

/* A tile of y, some places by n columns, summed over lines and over k:
 *
 *     products:     y[i][c] = sum of x[i * x_place + k * x_step]     w[k * w_step + c]      c: out features
 *     by channels:  y[i][c] = sum of x[i * x_place + k * x_step + c] w[k * w_step + c]      c: groups of one channel
 *
 * Steps count elements; additions follow one another in the order of the lines. */
typedef struct mx_line_tile {
  const mx_line *lines;
  int64_t n_lines, k, n;
  int places;
  int64_t x_at, w_at; /* where k begins, in each line */
  int64_t x_place, x_step, w_step, y_place;
  char *y;
  bool add; /* to what y holds */
} mx_line_tile;

typedef struct mx_line_loops {
  int places; /* of a tile, at most; 0: there are no such loops for this machine */
  void (*tile)(const mx_line_tile *t);
} mx_line_loops;

MX_SIMD_DECLARE(mx_line_loops, mx_channels_float);
MX_SIMD_DECLARE(mx_line_loops, mx_channels_double);
MX_SIMD_DECLARE(mx_line_loops, mx_products_float);
MX_SIMD_DECLARE(mx_line_loops, mx_products_double);

#endif
