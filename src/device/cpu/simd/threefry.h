/* threefry.h: the loops of simd/threefry.c, compiled once per instruction set. */
#ifndef MX_SIMD_THREEFRY_H
#define MX_SIMD_THREEFRY_H

#include "simd.h"

/* One hash: y0, y1 = threefry2x32(key k0, k1; counter x0, x1), n times. Results may lie in the counters' place. */
typedef struct mx_threefry_loops {
  void (*one_key)(int64_t n, uint32_t k0, uint32_t k1, const uint32_t *x0, const uint32_t *x1, uint32_t *y0,
                  uint32_t *y1);
  void (*keys)(int64_t n, const uint32_t *k0, const uint32_t *k1, const uint32_t *x0, const uint32_t *x1, uint32_t *y0,
               uint32_t *y1);
} mx_threefry_loops;

#endif
