/* half.h: float16 and bfloat16, bit by bit, without branches. All round to nearest even; NaN stays NaN. */
#ifndef MX_SIMD_HALF_H
#define MX_SIMD_HALF_H

#include "math.h"

MX_INLINE float f32_of_f16(uint16_t h) {
  int32_t a = h & 0x7FFF, sign = (int32_t)((uint32_t)(h & 0x8000) << 16);
  int32_t normal = (a << 13) + (112 << 23); /* the exponents differ by 112, and by as much again in infinity and NaN */
  int32_t small = f32_bits((float)a * 5.9604644775390625e-8f); /* 2^-24 */
  int32_t quiet = a > 0x7C00 ? 0x400000 : 0;
  return f32_of_bits((a < 0x400 ? small : a < 0x7C00 ? normal : normal + (112 << 23)) | quiet | sign);
}

MX_INLINE uint16_t f16_of_f32(float f) {
  int32_t x = f32_bits(f), a = x & 0x7FFFFFFF, sign = (int32_t)((uint32_t)x >> 16) & 0x8000;
  int32_t normal = (a + 0xFFF + ((a >> 13) & 1) - (112 << 23)) >> 13;
  int32_t small = f32_bits(f32_of_bits(a < 0x38800000 ? a : 0) + 0.5f) - 0x3F000000; /* 1/2 has the unit 2^-24 */
  int32_t nan = 0x7E00 | ((a >> 13) & 0x3FF);
  return (uint16_t)(sign | (a < 0x38800000 ? small : a < 0x477FF000 ? normal : a > 0x7F800000 ? nan : 0x7C00));
}

MX_INLINE float f32_of_bf16(uint16_t h) { return f32_of_bits((int32_t)((uint32_t)h << 16)); }

MX_INLINE uint16_t bf16_of_f32(float f) {
  uint32_t x = (uint32_t)f32_bits(f), a = x & 0x7FFFFFFF;
  return (uint16_t)(a > 0x7F800000 ? (x >> 16) | 0x40 : (x + 0x7FFF + ((x >> 16) & 1)) >> 16);
}

/* Rounds to odd: where bits are lost the last one is set, so that rounding once more, to a half, comes out as rounding
 * at once. */
MX_INLINE float f32_odd_of_f64(double d) {
  float f = (float)d;
  int32_t b = f32_bits(f);
  b = fabs((double)f) > fabs(d) ? b - 1 : b;
  return f32_of_bits((double)f == d ? b : b | 1);
}
/* 64-bit integers likewise, before they become double: beyond 2^53 the low 12 bits are gathered in bit 12. */
MX_INLINE double f64_odd_of_i64(int64_t v) {
  int64_t cut = (v & ~(int64_t)0xFFF) | ((v & 0xFFF) ? 0x1000 : 0);
  return (double)(v > -((int64_t)1 << 53) && v < ((int64_t)1 << 53) ? v : cut);
}
MX_INLINE double f64_odd_of_u64(uint64_t v) {
  uint64_t cut = (v & ~(uint64_t)0xFFF) | ((v & 0xFFF) ? 0x1000 : 0);
  return (double)(v < ((uint64_t)1 << 53) ? v : cut);
}

#endif
