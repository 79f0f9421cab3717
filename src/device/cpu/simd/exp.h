/* exp.h: e^(x - m) of many floats, which sums of exponentials are made of: f32_exp of math.h to the bit. AVX-512 scales
 * by 2^n in one instruction, which rounds once, as the two factors there do: two thirds of the time. */
#ifndef MX_SIMD_EXP_H
#define MX_SIMD_EXP_H

#include "math.h"

#if defined(__AVX512F__)
#  include <immintrin.h>

MX_INLINE __m512 f32x16_exp(__m512 x) {
  x = _mm512_min_ps(_mm512_set1_ps(90.0f), x); /* the second is taken where one is NaN */
  x = _mm512_max_ps(_mm512_set1_ps(-105.0f), x);
  __m512 t = x * 1.44269504f + F32_ROUND - F32_ROUND;
  __m512 r = _mm512_fnmadd_ps(t, _mm512_set1_ps(0.693359375f), x) + t * 2.12194440e-4f; /* the first product is exact */
  __m512 p = 1.3782466e-3f * r + 8.3686700e-3f;
  p = p * r + 4.1668963e-2f;
  p = p * r + 0.16666521f;
  p = p * r + 0.49999991f;
  p = p * (r * r) + r + 1.0f;
  return _mm512_scalef_ps(p, t);
}

MX_INLINE void f32_exp_less(const float *x, float m, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    __mmask16 lanes = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xFFFF;
    _mm512_mask_storeu_ps(y + i, lanes, f32x16_exp(_mm512_maskz_loadu_ps(lanes, x + i) - m));
  }
}
#else
MX_INLINE void f32_exp_less(const float *x, float m, float *y, int64_t n) {
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) y[i] = f32_exp(x[i] - m);
}
#endif

#endif
