/* winograd.h: the transformations of Winograd's convolutions F(2x2, 3x3), in float32. The outer rows of matrices are
 * points, 4 x 4 of them, `point` elements apart; of each point there are n channels, or features, side by side.
 *
 *     y = A' [(G g G') * (B' d B)] A        d: 4 x 4 of x, g: 3 x 3 of the kernel, y: 2 x 2 of the result
 *
 *          1  0 -1  0         1   0   0           1  1  1  0
 *     B' = 0  1  1  0    G = .5  .5  .5      A' = 0  1 -1 -1
 *          0 -1  1  0        .5 -.5  .5
 *          0  1  0 -1         0   0   1
 *
 * Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015 (arXiv 1509.09308). */
#ifndef MX_SIMD_WINOGRAD_H
#define MX_SIMD_WINOGRAD_H

#include "simd.h"

enum { MX_POINTS = 16 };

/* A piece of a picture: rows r0 .. r1-1 and columns c0 .. c1-1 of it are there, the rest is zero. */
typedef struct mx_patch {
  const float *x;   /* the first element, there or not */
  int64_t row, col; /* elements from one to the next */
  int r0, r1, c0, c1;
} mx_patch;

typedef struct mx_winograd_loops {
  void (*input)(const mx_patch *d, int64_t n, float *to, int64_t point);     /* B' d B, d 4 x 4 */
  void (*cotangent)(const mx_patch *y, int64_t n, float *to, int64_t point); /* A y A', y 2 x 2 */
  /* A' m A, rows x cols of it; false: something is no finite number */
  bool (*output)(const float *m, int64_t point, int64_t n, float *y, int64_t row, int64_t col, int rows, int cols);
  void (*kernel)(const float *g, int64_t n, float *to); /* G g G', g and the result dense: [3][3][n], [16][n] */
  bool (*kernel_cotangent)(const float *u, int64_t n, float *g); /* G' u G; false: something is no finite number */
} mx_winograd_loops;

MX_SIMD_DECLARE(mx_winograd_loops, mx_winograd);

#endif
