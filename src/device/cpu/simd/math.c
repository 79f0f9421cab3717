/* math.c: loops of the elementwise primitives on floats (domain FLT): one row each, with its formula in float and in
 * double. */
#include "exp.h"
#include "loops.h"

#include "../special.h"

/* LOOP1(name, float expression of x, double expression of x), LOOP2 the same of x and y */
#define FLOATS1(name, f, d)                                                                                            \
  MX_LOOP1(name, f32, float, float, f)                                                                                 \
  MX_LOOP1(name, f64, double, double, d)
#define FLOATS2(name, f, d)                                                                                            \
  MX_LOOP2(name, f32, float, float, f)                                                                                 \
  MX_LOOP2(name, f64, double, double, d)
#define TESTS1(name, e)                                                                                                \
  MX_LOOP1(name, f32, float, uint8_t, e)                                                                               \
  MX_LOOP1(name, f64, double, uint8_t, e)

/* Trigonometry in float: by libm in the blocks that hold an argument too large for f64_reduce. */
#define TRIG_BLOCK 512
static bool has_large(int64_t n, const float *x) {
  int32_t any = 0;
  MX_VECTORIZE
  for (int64_t i = 0; i < n; i++) any |= fabsf(x[i]) > F32_TRIG_MAX && fabsf(x[i]) < INFINITY;
  return any;
}
#define TRIGONOMETRIC(name, d)                                                                                         \
  MX_LOOP1(name##_small, f32, float, float, f32_##name(x))                                                             \
  MX_LOOP1(name##_large, f32, float, float, name##f(x))                                                                \
  static void loop_##name##_f32(int64_t n, const void *const *in, void *out) {                                         \
    for (int64_t i = 0; i < n; i += TRIG_BLOCK) {                                                                      \
      int64_t m = n - i < TRIG_BLOCK ? n - i : TRIG_BLOCK;                                                             \
      const void *x = (const float *)in[0] + i;                                                                        \
      (has_large(m, x) ? loop_##name##_large_f32 : loop_##name##_small_f32)(m, &x, (float *)out + i);                  \
    }                                                                                                                  \
  }                                                                                                                    \
  MX_LOOP1(name, f64, double, double, d)

static inline double f64_sigmoid(double x) {
  double e = exp(-fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}
static inline double f64_logaddexp(double x, double y) {
  double d = x == y ? 0 : fabs(x - y); /* equal infinities have no difference */
  return (x > y ? x : y) + log1p(exp(-d));
}

static void loop_exp_f32(int64_t n, const void *const *in, void *out) { f32_exp_less(in[0], 0, out, n); }
MX_LOOP1(exp, f64, double, double, exp(x))
FLOATS1(exp2, f32_exp2(x), exp2(x))
FLOATS1(expm1, f32_expm1(x), expm1(x))
FLOATS1(log, f32_log(x), log(x))
FLOATS1(log2, f32_log2(x), log2(x))
FLOATS1(log1p, f32_log1p(x), log1p(x))
FLOATS1(sqrt, sqrtf(x), sqrt(x))
FLOATS1(rsqrt, 1.0f / sqrtf(x), 1.0 / sqrt(x))
FLOATS1(cbrt, f32_cbrt(x), cbrt(x))
FLOATS1(reciprocal, 1.0f / x, 1.0 / x)
TRIGONOMETRIC(sin, sin(x))
TRIGONOMETRIC(cos, cos(x))
TRIGONOMETRIC(tan, tan(x))
FLOATS1(asin, asinf(x), asin(x))
FLOATS1(acos, acosf(x), acos(x))
FLOATS1(atan, atanf(x), atan(x))
FLOATS1(sinh, f32_sinh(x), sinh(x))
FLOATS1(cosh, f32_cosh(x), cosh(x))
FLOATS1(tanh, f32_tanh(x), tanh(x))
FLOATS1(asinh, f32_asinh(x), asinh(x))
FLOATS1(acosh, f32_acosh(x), acosh(x))
FLOATS1(atanh, f32_atanh(x), atanh(x))
FLOATS1(sigmoid, f32_sigmoid(x), f64_sigmoid(x))
FLOATS1(erf, f32_erf(x), erf(x))
FLOATS1(erfc, erfcf(x), erfc(x))
FLOATS1(erf_inv, f32_erf_inv(x), mx_special_erf_inv(x))
FLOATS1(lgamma, (float)mx_special_lgamma(x), mx_special_lgamma(x))
FLOATS1(digamma, (float)mx_special_digamma(x), mx_special_digamma(x))
FLOATS1(floor, floorf(x), floor(x))
FLOATS1(ceil, ceilf(x), ceil(x))
FLOATS1(round, rintf(x), rint(x)) /* to even: the rounding mode is never changed */
FLOATS1(trunc, truncf(x), trunc(x))
TESTS1(isnan, x != x)
TESTS1(isinf, fabs(x) == INFINITY)
TESTS1(isfinite, fabs(x) < INFINITY)
FLOATS2(div, x / y, x / y)
FLOATS2(atan2, atan2f(x, y), atan2(x, y))
FLOATS2(hypot, f32_hypot(x, y), hypot(x, y))
FLOATS2(logaddexp, f32_logaddexp(x, y), f64_logaddexp(x, y))
FLOATS2(loggamma_grad, (float)mx_special_loggamma_grad(x, y), mx_special_loggamma_grad(x, y))
FLOATS2(copysign, copysignf(x, y), copysign(x, y))
FLOATS2(nextafter, nextafterf(x, y), nextafter(x, y))
FLOATS2(polygamma, (float)mx_special_polygamma(x, y), mx_special_polygamma(x, y))

#define ROW_ANY(name)
#define ROW_NUM(name)
#define ROW_INT(name)
#define ROW_FLT(name) [MX_PRIM_##name] = {loop_##name##_f32, loop_##name##_f64},
#define MX_PRIMITIVE(name, family)
#define MX_ELEMENTWISE(name, arity, domain, result) ROW_##domain(name)

const mx_math_loops MX_SIMD(mx_math_loops) = {{
#include "../../../ops/primitives.def"
}};
