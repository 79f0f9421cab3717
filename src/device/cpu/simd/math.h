/* math.h: elementary functions of one float, in plain C without branches, so that a loop around them vectorises.
 *
 * The hot ones (exp, log, tanh, sigmoid, erf) work in float; tests/c/test_elementwise.c states their errors in ULP. The
 * others work in double inside and round once at the end, so that their error is 0.5 ULP and a little. All take every
 * float: NaN stays NaN, infinities, zeros and subnormal numbers get what C says.
 */
#ifndef MX_SIMD_MATH_H
#define MX_SIMD_MATH_H

#include "simd.h"

#include <math.h>

#define MX_INLINE static inline __attribute__((always_inline, unused))

MX_INLINE int32_t f32_bits(float f) {
  int32_t i;
  memcpy(&i, &f, 4);
  return i;
}
MX_INLINE float f32_of_bits(int32_t i) {
  float f;
  memcpy(&f, &i, 4);
  return f;
}
MX_INLINE int64_t f64_bits(double d) {
  int64_t i;
  memcpy(&i, &d, 8);
  return i;
}
MX_INLINE double f64_of_bits(int64_t i) {
  double d;
  memcpy(&d, &i, 8);
  return d;
}
#define F32_ROUND 12582912.0f        /* 1.5 * 2^23: adding it rounds to an integer, found in the low bits */
#define F64_ROUND 6755399441055744.0 /* 1.5 * 2^52 */

MX_INLINE float f32_scale(int32_t n) { return f32_of_bits((int32_t)(((uint32_t)n + 127) << 23)); } /* 2^n */

/* -- float inside -------------------------------------------------------------------------------------------------- */

/* e^x = 2^n e^r, |r| <= ln2 / 2; two factors of 2^(n/2) reach into the subnormal numbers and beyond the greatest. */
MX_INLINE float f32_exp(float x) {
  x = x > 90.0f ? 90.0f : x;
  x = x < -105.0f ? -105.0f : x;
  float t = x * 1.44269504f + F32_ROUND;
  int32_t n = (int32_t)((uint32_t)f32_bits(t) - 0x4B400000u), half = n >> 1;
  t -= F32_ROUND;
  float r = x - t * 0.693359375f + t * 2.12194440e-4f;
  float p = 1.3782466e-3f * r + 8.3686700e-3f;
  p = p * r + 4.1668963e-2f;
  p = p * r + 0.16666521f;
  p = p * r + 0.49999991f;
  p = p * (r * r) + r + 1.0f;
  return p * f32_scale(half) * f32_scale(n - half);
}

/* ln x = e ln2 + ln m, m in [sqrt(1/2), sqrt(2)) */
MX_INLINE float f32_log(float x) {
  bool small = x < 1.17549435e-38f;
  int32_t b = f32_bits(small ? x * 8388608.0f : x), e = (int32_t)((uint32_t)b - 0x3F3504F3u) >> 23;
  float k = (float)(small ? e - 23 : e), f = f32_of_bits((int32_t)((uint32_t)b - ((uint32_t)e << 23))) - 1.0f,
        z = f * f;
  float p = 7.0376836292e-2f * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float r = p * f * z - k * 2.12194440e-4f - 0.5f * z + f + k * 0.693359375f;
  r = x < INFINITY ? r : x; /* infinity and NaN */
  r = x == 0.0f ? -INFINITY : r;
  return x < 0.0f ? NAN : r;
}

/* Results that rounding may have carried past 1, and those of |x| >= limit, which are 1 in float. */
MX_INLINE float f32_saturate(float r, float x, float limit) {
  r = x >= limit ? 1.0f : x <= -limit ? -1.0f : r;
  return r > 1.0f ? 1.0f : r < -1.0f ? -1.0f : r;
}

/* x y + z, with one rounding where the processor does that in one go: the long polynomials take half the time. */
MX_INLINE float f32_fma(float x, float y, float z) {
#if defined(__FMA__)
  return __builtin_fmaf(x, y, z);
#else
  return x * y + z;
#endif
}

/* x / c for many x and one c > 0. With y = 1/c rounded, q = x y is near, q + (x - c q) y nearer, and once more the
 * rounded quotient (Markstein, Computation of elementary functions on the IBM RISC System/6000, 1990), in half of a
 * division's time. The sign is that of x, also where that is zero. Where remainders might not be normal numbers x is
 * divided. */
#if defined(__FMA__)
MX_INLINE bool f32_divides_by_product(const float *x, float c, int64_t n) {
  enum { LEAST = 0x21800000, SPAN = 0x3C000000 }; /* 2^-60 ... 2^60 */
  uint32_t odd = (uint32_t)f32_bits(c) - LEAST > SPAN;
  _Pragma("omp simd reduction(| : odd)") for (int64_t i = 0; i < n; i++) {
    uint32_t b = (uint32_t)f32_bits(x[i]) & 0x7FFFFFFFu;
    odd |= (uint32_t)(b - LEAST > SPAN) & (uint32_t)(b != 0);
  }
  return !odd;
}
MX_INLINE float f32_quotient(float x, float c, float y) {
  float q = x * y;
  q = __builtin_fmaf(__builtin_fmaf(-c, q, x), y, q);
  return copysignf(__builtin_fmaf(__builtin_fmaf(-c, q, x), y, q), x);
}
#else
MX_INLINE bool f32_divides_by_product(const float *x, float c, int64_t n) { return (void)x, (void)c, (void)n, false; }
MX_INLINE float f32_quotient(float x, float c, float y) { return (void)y, x / c; }
#endif
MX_INLINE void f32_divide_by(float *x, float c, int64_t n) {
  float y = 1.0f / c;
  if (f32_divides_by_product(x, c, n)) {
    MX_VECTORIZE
    for (int64_t i = 0; i < n; i++) x[i] = f32_quotient(x[i], c, y);
  } else {
    MX_VECTORIZE
    for (int64_t i = 0; i < n; i++) x[i] = x[i] / c;
  }
}

/* x P(x^2) / Q(x^2) */
MX_INLINE float f32_tanh(float a) {
  float x = a > 9.02f ? 9.02f : a;
  x = x < -9.02f ? -9.02f : x;
  float t = x * x;
  float p = f32_fma(-1.22035745e-11f, t, 3.05852521e-8f);
  p = f32_fma(p, t, 2.80075841e-5f);
  p = f32_fma(p, t, 3.86833488e-3f);
  p = f32_fma(p, t, 0.136799210f);
  p = f32_fma(p, t, 0.999999999f);
  float q = f32_fma(1.28737438e-6f, t, 3.93864302e-4f);
  q = f32_fma(q, t, 2.72458658e-2f);
  q = f32_fma(q, t, 0.470132531f);
  q = f32_fma(q, t, 1.0f);
  return f32_saturate(x * p / q, a, 9.02f);
}

/* 1 / (1 + e^-x), from e^-|x| so that small results keep their digits */
MX_INLINE float f32_sigmoid(float x) {
  float e = f32_exp(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* x P(x^2) / Q(x^2) */
MX_INLINE float f32_erf(float a) {
  float x = a > 3.925f ? 3.925f : a;
  x = x < -3.925f ? -3.925f : x;
  float t = x * x;
  float p = f32_fma(2.04191697e-6f, t, 2.84795712e-4f);
  p = f32_fma(p, t, 3.77935356e-3f);
  p = f32_fma(p, t, 5.27894852e-2f);
  p = f32_fma(p, t, 0.190778848f);
  p = f32_fma(p, t, 1.12837915f);
  float q = f32_fma(3.80028409e-5f, t, 1.16513716e-3f);
  q = f32_fma(q, t, 1.49969355e-2f);
  q = f32_fma(q, t, 0.114255332f);
  q = f32_fma(q, t, 0.502406073f);
  q = f32_fma(q, t, 1.0f);
  return f32_saturate(x * p / q, a, 3.925f);
}

/* -- double inside ------------------------------------------------------------------------------------------------- */

/* e^x for -700 < x < 700 to 1e-14; beyond, as at the end: past all floats. NaN stays: one that came from a float has
 * nothing in the bits that reach its exponent. */
MX_INLINE double f64_exp_core(double x) {
  x = x > 700.0 ? 700.0 : x;
  x = x < -700.0 ? -700.0 : x;
  double t = x * 1.4426950408889634 + F64_ROUND;
  int64_t n = f64_bits(t);
  t -= F64_ROUND;
  double r = x - t * 0.6931471805599453;
  double p = 2.505210838544172e-8 * r + 2.755731922398589e-7;
  p = p * r + 2.7557319223985893e-6;
  p = p * r + 2.48015873015873e-5;
  p = p * r + 1.984126984126984e-4;
  p = p * r + 1.388888888888889e-3;
  p = p * r + 8.333333333333333e-3;
  p = p * r + 4.1666666666666664e-2;
  p = p * r + 0.16666666666666666;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return f64_of_bits((int64_t)((uint64_t)f64_bits(p) + ((uint64_t)n << 52)));
}

/* ln of a positive float to 1e-15: m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1) */
MX_INLINE double f64_log_of_float(float x) {
  bool small = x < 1.17549435e-38f;
  int32_t b = f32_bits(small ? x * 8388608.0f : x), e = (int32_t)((uint32_t)b - 0x3F3504F3u) >> 23;
  double k = (double)(float)(small ? e - 23 : e), m = (double)f32_of_bits((int32_t)((uint32_t)b - ((uint32_t)e << 23)));
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 0.11764705882352941 * z + 0.13333333333333333; /* 2/17, 2/15, ... */
  p = p * z + 0.15384615384615385;
  p = p * z + 0.18181818181818182;
  p = p * z + 0.22222222222222222;
  p = p * z + 0.2857142857142857;
  p = p * z + 0.4;
  p = p * z + 0.6666666666666666;
  double r = k * 0.6931471805599453 + (p * z * s + 2.0 * s);
  r = x < INFINITY ? r : (double)x;
  r = x == 0.0f ? -INFINITY : r;
  return x < 0.0f ? NAN : r;
}

/* ln of a positive double within the floats' range: of the nearest float, and of the rest */
MX_INLINE double f64_log_core(double x) {
  float f = (float)x;
  double q = (x - (double)f) / (double)f;
  double r = f64_log_of_float(f);
  return q == q ? r + q * (1.0 - 0.5 * q) : r; /* q is no number where f is 0 or infinite */
}

MX_INLINE float f32_exp2(float x) { return (float)f64_exp_core((double)x * 0.6931471805599453); }
MX_INLINE float f32_log2(float x) { return (float)(f64_log_of_float(x) * 1.4426950408889634); }

/* near 0 the series: e^x - 1 has lost its digits there */
MX_INLINE float f32_expm1(float a) {
  double x = (double)a, e = f64_exp_core(x) - 1.0, s = x * (1.0 + x * (0.5 + x * (1.0 / 6.0)));
  return (float)(fabs(x) < 1e-4 ? s : e);
}
MX_INLINE double f64_log1p_core(double x) { /* x > -1 */
  double s = x - x * x * (0.5 - x * (1.0 / 3.0));
  double l = f64_log_core(1.0 + x);
  return fabs(x) < 1e-4 ? s : l;
}
MX_INLINE float f32_log1p(float x) { return (float)f64_log1p_core((double)x); }

MX_INLINE float f32_sinh(float a) {
  double x = (double)a, e = f64_exp_core(x), z = x * x;
  double s = x + x * z * (1.0 / 6.0 + z * (1.0 / 120.0 + z * (1.0 / 5040.0)));
  return (float)(fabs(x) < 0.1 ? s : 0.5 * (e - 1.0 / e));
}
MX_INLINE float f32_cosh(float x) {
  double e = f64_exp_core((double)x);
  return (float)(0.5 * (e + 1.0 / e));
}
/* asinh |x| = ln(|x| + sqrt(x^2 + 1)); a quarter of it stays below the greatest float */
MX_INLINE float f32_asinh(float a) {
  double x = fabs((double)a), z = x * x;
  double s = x - x * z * (1.0 / 6.0 - z * (3.0 / 40.0 - z * (15.0 / 336.0)));
  double l = f64_log_core(0.25 * (x + sqrt(z + 1.0))) + 1.3862943611198906;
  return copysignf((float)(x < 0.02 ? s : l), a);
}
MX_INLINE float f32_acosh(float a) {
  double x = (double)a;
  double r = f64_log_core(0.25 * (x + sqrt(x * x - 1.0))) + 1.3862943611198906;
  return (float)(x < 1.0 ? NAN : r);
}
MX_INLINE float f32_atanh(float a) {
  double x = (double)a, z = x * x;
  double s = x + x * z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
  double l = 0.5 * f64_log_core((1.0 + x) / (1.0 - x));
  l = fabs(x) == 1.0 ? copysign(INFINITY, x) : fabs(x) > 1.0 ? NAN : l;
  return (float)(fabs(x) < 0.02 ? s : l);
}
MX_INLINE float f32_cbrt(float x) {
  double r = f64_exp_core(f64_log_of_float(fabsf(x)) * (1.0 / 3.0));
  r = fabsf(x) < INFINITY ? r : fabs((double)x);
  return x == 0.0f ? x : copysignf((float)r, x);
}

/* x^y as in C's pow: e^(y ln|x|), the sign of x where y is odd. Whole small powers are exact to the last rounding. */
MX_INLINE float f32_pow(float x, float y) {
  float a = fabsf(x), whole = rintf(y), h = 0.5f * y;
  bool integral = whole == y, odd = integral && rintf(h) != h && fabsf(y) < 16777216.0f;
  double r = f64_exp_core((double)y * f64_log_of_float(a)); /* 0 * infinity: mended below */
  r = x < 0.0f && !integral && a < INFINITY ? NAN : r;
  r = odd && f32_bits(x) < 0 ? -r : r;
  r = y == 2.0f ? (double)x * (double)x : r;
  r = y == 3.0f ? (double)x * (double)x * (double)x : r;
  r = x == -1.0f && fabsf(y) == INFINITY ? 1.0 : r;
  return x == 1.0f || y == 0.0f ? 1.0f : (float)r;
}
MX_INLINE float f32_hypot(float x, float y) {
  float r = (float)sqrt((double)x * (double)x + (double)y * (double)y);
  return fabsf(x) == INFINITY || fabsf(y) == INFINITY ? INFINITY : r;
}
/* ln(e^x + e^y) = max + ln(1 + e^-|x - y|) */
MX_INLINE float f32_logaddexp(float x, float y) {
  double m = x > y ? (double)x : (double)y, d = x == y ? 0.0 : fabs((double)x - (double)y);
  return (float)(m + f64_log1p_core(f64_exp_core(-d)));
}

/* sin and cos of |x| < F32_TRIG_MAX: x = n pi/2 + r; *n modulo 4 says which. pi/2 is cut so that n times its head is
 * exact. */
#define F32_TRIG_MAX 500000.0f
MX_INLINE double f64_reduce(double x, int64_t *n) {
  double t = x * 0.6366197723675814 + F64_ROUND;
  *n = f64_bits(t);
  t -= F64_ROUND;
  return x - t * 1.57079632673412561417 - t * 6.07710050650619224932e-11;
}
MX_INLINE double f64_sin_core(double r) {
  double z = r * r, p = -2.505210838544172e-8 * z + 2.7557319223985893e-6;
  p = p * z - 1.984126984126984e-4;
  p = p * z + 8.333333333333333e-3;
  p = p * z - 0.16666666666666666;
  return r * (1.0 + z * p);
}
MX_INLINE double f64_cos_core(double r) {
  double z = r * r, p = 2.08767569878681e-9 * z - 2.755731922398589e-7;
  p = p * z + 2.48015873015873e-5;
  p = p * z - 1.388888888888889e-3;
  p = p * z + 4.1666666666666664e-2;
  p = p * z - 0.5;
  return 1.0 + z * p;
}
MX_INLINE float f32_sin_quadrant(float x, int shift) { /* sin(x + shift pi/2) */
  int64_t n;
  double r = f64_reduce((double)x, &n), s = f64_sin_core(r), c = f64_cos_core(r);
  n += shift;
  double v = n & 1 ? c : s;
  return (float)(n & 2 ? -v : v);
}
MX_INLINE float f32_sin(float x) { return f32_sin_quadrant(x, 0); }
MX_INLINE float f32_cos(float x) { return f32_sin_quadrant(x, 1); }
MX_INLINE float f32_tan(float x) {
  int64_t n;
  double r = f64_reduce((double)x, &n), s = f64_sin_core(r), c = f64_cos_core(r);
  return (float)(n & 1 ? -c / s : s / c);
}

/* x - floor(x / y) y: exact where n = trunc(x / y) is below 2^29. Where the quotient was rounded up to n, r has got the
 * other sign, and adding y mends that as well. */
#define F32_MOD_MAX 268435456.0
MX_INLINE float f32_mod(float a, float b) {
  double x = (double)a, y = (double)b, n = trunc(x / y), r = n == 0.0 ? x : x - n * y;
  r = r != 0.0 && (r < 0.0) != (y < 0.0) ? r + y : r;
  return (float)(r == 0.0 ? copysign(0.0, x) : r);
}

/* The inverse of erf by Giles' two polynomials in w = -ln(1 - x^2) (interop.md, section 7), as XLA computes it. What
 * rounding took from u = 1 - x^2 comes back to first order. */
MX_INLINE float f32_erf_inv(float x) {
  float z = -x * x, u = 1.0f + z, w = ((u - 1.0f) - z) / u - f32_log(u), a = w - 2.5f, b = sqrtf(w) - 3.0f;
  float p = 2.81022636e-08f, q = -0.000200214257f;
  p = 3.43273939e-07f + p * a, q = 0.000100950558f + q * b;
  p = -3.5233877e-06f + p * a, q = 0.00134934322f + q * b;
  p = -4.39150654e-06f + p * a, q = -0.00367342844f + q * b;
  p = 0.00021858087f + p * a, q = 0.00573950773f + q * b;
  p = -0.00125372503f + p * a, q = -0.0076224613f + q * b;
  p = -0.00417768164f + p * a, q = 0.00943887047f + q * b;
  p = 0.246640727f + p * a, q = 1.00167406f + q * b;
  p = 1.50140941f + p * a, q = 2.83297682f + q * b;
  return fabsf(x) == 1.0f ? copysignf(INFINITY, x) : (w < 5.0f ? p : q) * x;
}

#endif
