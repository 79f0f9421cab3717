/* convert_impl.h: conversions of one element, as expressions without branches, so that loops over them become vector
 * code.
 *
 *     float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
 *     bfloat16  s eeeeeeee mmmmmmm                         the upper half of a float32
 *     float16   s eeeee mmmmmmmmmm                         exponents from 2^-14; below, steps of 2^-24
 */
#ifndef MX_CONVERT_IMPL_H
#define MX_CONVERT_IMPL_H

#include "array.h"

#include <limits.h>

static inline uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

static inline float float_of_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* To nearest even. A subnormal half is rounded by an addition: 0.5 has the step of the smallest half. */
static inline uint16_t half_of_float(float f) {
  uint32_t sign = bits_of(f) >> 16 & 0x8000, u = bits_of(f) & 0x7FFFFFFF;
  uint32_t normal = (u - 0x38000000 + 0xFFF + (u >> 13 & 1)) >> 13;
  uint32_t subnormal = bits_of(float_of_bits(u) + 0.5f) - 0x3F000000;
  uint32_t nan = 0x7E00 | (u >> 13 & 0x3FF);
  uint32_t h = u < 0x38800000 ? subnormal : normal;
  h = u >= 0x47800000 ? 0x7C00 : h; /* from 2^16; 65520 and more round to it by themselves */
  h = u > 0x7F800000 ? nan : h;
  return (uint16_t)(sign | h);
}

static inline float float_of_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, u = (uint32_t)(h & 0x7FFF) << 13;
  uint32_t normal = u + 0x38000000, special = u + 0x70000000;
  uint32_t quiet = u > 0x0F800000 ? 0x00400000 : 0; /* as processors do to a signalling NaN */
  uint32_t subnormal = bits_of(float_of_bits(u + 0x38800000) - float_of_bits(0x38800000));
  uint32_t f = u < 0x00800000 ? subnormal : normal;
  f = u >= 0x0F800000 ? special | quiet : f;
  return float_of_bits(sign | f);
}

static inline uint16_t bfloat_of_float(float f) {
  uint32_t u = bits_of(f);
  uint32_t rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
  return (uint16_t)((u & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded);
}

static inline float float_of_bfloat(uint16_t b) { return float_of_bits((uint32_t)b << 16); }

/* The float beside d whose last bit is 1 where d is not exact: rounding that again to fewer bits equals rounding d
 * once. */
static inline float float_to_odd(double d) {
  float f = (float)d;
  uint32_t u = bits_of(f);
  double back = f, size = back < 0 ? -back : back, want = d < 0 ? -d : d;
  uint32_t moved = size > want ? u - 1 : u + 1;
  bool exact = size == want || d != d || (u & 1);
  return float_of_bits(exact ? u : moved);
}

static inline uint16_t half_of_double(double d) { return half_of_float(float_to_odd(d)); }
static inline uint16_t bfloat_of_double(double d) { return bfloat_of_float(float_to_odd(d)); }

/* The same for integers of more than 53 bits on their way to a 16-bit float: what a double cannot hold is kept in its
 * last bit. */
static inline uint64_t sticky_bits(uint64_t v) {
  return v >> 53 ? (v & ~(uint64_t)0x7FF) | ((v & 0x7FF) != 0) << 11 : v;
}
static inline double double_of_uint64(uint64_t v) { return (double)sticky_bits(v); }
static inline double double_of_int64(int64_t v) {
  double size = (double)sticky_bits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
  return v < 0 ? -size : size;
}

/* Floats to integers: cut towards zero, saturate, NaN gives 0. `above` is the first float beyond the type. */
#define MX_CUT(T, v, above, least, most)                                                                               \
  ((v) >= (above) ? (T)(most) : (v) >= (least) ? (T)(v) : (v) == (v) ? (T)(least) : (T)0)

#endif
