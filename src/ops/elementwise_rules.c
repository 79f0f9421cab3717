/* elementwise_rules.c: the derivatives of the elementwise primitives, and their records. In the formulas x and y are
 * the operands, r is the result, g the tangent. A new primitive adds its row in primitives.def, its rule here, its loop
 * in device/cpu/simd. */
#include "elementwise_impl.h"

#include <math.h>

#define X       o->in[0]
#define Y       o->in[1]
#define R       o->out[0]
#define D(name) static mx_array *d_##name(mx_ctx *c, const mx_op *o, int i, mx_array *g)
/* The rules of one operand do not look at i, and not all look at o. */
#define D1(name, expression)                                                                                           \
  D(name) {                                                                                                            \
    (void)c, (void)o, (void)i;                                                                                         \
    return expression;                                                                                                 \
  }
#define D2(name, of_x, of_y)                                                                                           \
  D(name) {                                                                                                            \
    (void)c, (void)o;                                                                                                  \
    return i == 0 ? of_x : of_y;                                                                                       \
  }

static const double two_over_sqrt_pi = 1.1283791670955126, half_sqrt_pi = 0.88622692545275801, ln2 = 0.6931471805599453;

/* 1 - x^2, 1 + x^2, x^2 + y^2, e^(-x^2) */
static mx_array *one_minus_square(mx_ctx *c, mx_array *x) { return mx_sub(c, mx_like(c, x, 1), mx_square(c, x)); }
static mx_array *one_plus_square(mx_ctx *c, mx_array *x) { return mx_adds(c, mx_square(c, x), 1); }
static mx_array *squares(mx_ctx *c, mx_array *x, mx_array *y) { return mx_add(c, mx_square(c, x), mx_square(c, y)); }
static mx_array *gauss(mx_ctx *c, mx_array *x) { return mx_exp(c, mx_neg(c, mx_square(c, x))); }
/* x, but v where x is 0 */
static mx_array *unless_zero(mx_ctx *c, mx_array *x, double v) {
  return mx_select(c, mx_eq(c, x, mx_like(c, x, 0)), mx_like(c, x, v), x);
}

/* -- one operand --------------------------------------------------------------------------------------------------- */

D1(abs, mx_mul(c, g, mx_sign(c, X)))                                                 /* g sign(x); 0 at 0 */
D1(neg, mx_neg(c, g))                                                                /* -g */
D1(exp, mx_mul(c, g, R))                                                             /* g r */
D1(exp2, mx_mul(c, g, mx_muls(c, R, ln2)))                                           /* g r ln 2 */
D1(expm1, mx_mul(c, g, mx_adds(c, R, 1)))                                            /* g (r + 1) */
D1(log, mx_div(c, g, X))                                                             /* g / x */
D1(log2, mx_div(c, g, mx_muls(c, X, ln2)))                                           /* g / (x ln 2) */
D1(log1p, mx_div(c, g, mx_adds(c, X, 1)))                                            /* g / (1 + x) */
D1(sqrt, mx_div(c, g, mx_muls(c, R, 2)))                                             /* g / 2r */
D1(rsqrt, mx_mul(c, g, mx_muls(c, mx_div(c, R, X), -0.5)))                           /* -g r / 2x */
D1(cbrt, mx_div(c, g, mx_muls(c, mx_square(c, R), 3)))                               /* g / 3r^2 */
D1(square, mx_mul(c, g, mx_muls(c, X, 2)))                                           /* 2 g x */
D1(reciprocal, mx_mul(c, g, mx_neg(c, mx_square(c, R))))                             /* -g r^2 */
D1(sin, mx_mul(c, g, mx_cos(c, X)))                                                  /* g cos x */
D1(cos, mx_mul(c, g, mx_neg(c, mx_sin(c, X))))                                       /* -g sin x */
D1(tan, mx_mul(c, g, one_plus_square(c, R)))                                         /* g (1 + r^2) */
D1(asin, mx_mul(c, g, mx_rsqrt(c, one_minus_square(c, X))))                          /* g / sqrt(1 - x^2) */
D1(acos, mx_mul(c, g, mx_neg(c, mx_rsqrt(c, one_minus_square(c, X)))))               /* -g / sqrt(1 - x^2) */
D1(atan, mx_div(c, g, one_plus_square(c, X)))                                        /* g / (1 + x^2) */
D1(sinh, mx_mul(c, g, mx_cosh(c, X)))                                                /* g cosh x */
D1(cosh, mx_mul(c, g, mx_sinh(c, X)))                                                /* g sinh x */
D1(tanh, mx_mul(c, g, one_minus_square(c, R)))                                       /* g (1 - r^2) */
D1(asinh, mx_mul(c, g, mx_rsqrt(c, one_plus_square(c, X))))                          /* g / sqrt(1 + x^2) */
D1(acosh, mx_mul(c, g, mx_rsqrt(c, mx_mul(c, mx_adds(c, X, -1), mx_adds(c, X, 1))))) /* g / sqrt((x - 1)(x + 1)) */
D1(atanh, mx_div(c, g, one_minus_square(c, X)))                                      /* g / (1 - x^2) */
D1(sigmoid, mx_mul(c, g, mx_mul(c, R, mx_sub(c, mx_like(c, R, 1), R))))              /* g r (1 - r) */
D1(erf, mx_mul(c, g, mx_muls(c, gauss(c, X), two_over_sqrt_pi)))                     /* g 2/sqrt(pi) e^-x^2 */
D1(erfc, mx_mul(c, g, mx_muls(c, gauss(c, X), -two_over_sqrt_pi)))                   /* -g 2/sqrt(pi) e^-x^2 */
D1(erf_inv, mx_mul(c, g, mx_muls(c, mx_exp(c, mx_square(c, R)), half_sqrt_pi)))      /* g sqrt(pi)/2 e^r^2 */
D1(lgamma, mx_mul(c, g, mx_digamma(c, X)))                                           /* g digamma x */
D1(digamma, mx_mul(c, g, mx_polygamma(c, mx_like(c, X, 1), X)))                      /* g polygamma(1, x) */

/* -- two operands -------------------------------------------------------------------------------------------------- */

D2(add, g, g)
D2(sub, g, mx_neg(c, g))
D2(mul, mx_mul(c, g, Y), mx_mul(c, g, X))
D2(div, mx_div(c, g, Y), mx_mul(c, g, mx_neg(c, mx_div(c, R, Y)))) /* g / y, -g r / y */
D2(mod, g, mx_mul(c, g, mx_neg(c, mx_floor(c, mx_div(c, X, Y)))))  /* g, -g floor(x / y) */
D2(atan2, mx_mul(c, g, mx_div(c, Y, squares(c, X, Y))),            /* g y / (x^2 + y^2) */
   mx_mul(c, g, mx_neg(c, mx_div(c, X, squares(c, X, Y)))))        /* -g x / (x^2 + y^2) */
D1(hypot, mx_mul(c, g, mx_div(c, o->in[i], unless_zero(c, R, 1)))) /* g x / r, g y / r; 0 at the origin */

D2(copysign, mx_mul(c, g, mx_mul(c, mx_sign(c, X), mx_copysign(c, mx_like(c, X, 1), Y))), NULL) /* g sign(x) sign(y) */
D2(polygamma, mx_no_rule(c, o->prim, "derivative by the order"),                                /* whole orders alone */
   mx_mul(c, g, mx_polygamma(c, mx_adds(c, X, 1), Y))) /* g polygamma(n + 1, x) */

/* The share of the first operand: 1 where it is the greater, 1/2 where they are equal, else 0. */
static mx_array *share(mx_ctx *c, mx_array *greater, mx_array *lesser) {
  mx_array *half = mx_like(c, greater, 0.5), *zero = mx_like(c, greater, 0), *one = mx_like(c, greater, 1);
  return mx_select(c, mx_gt(c, greater, lesser), one, mx_select(c, mx_eq(c, greater, lesser), half, zero));
}
D2(maximum, mx_mul(c, g, share(c, X, Y)), mx_mul(c, g, share(c, Y, X)))
D2(minimum, mx_mul(c, g, share(c, Y, X)), mx_mul(c, g, share(c, X, Y)))

/* e^x / (e^x + e^y) = sigmoid(x - y), where equal infinities have no difference */
static mx_array *softmax_weight(mx_ctx *c, mx_array *x, mx_array *y) {
  return mx_sigmoid(c, mx_select(c, mx_eq(c, x, y), mx_like(c, x, 0), mx_sub(c, x, y)));
}
D2(logaddexp, mx_mul(c, g, softmax_weight(c, X, Y)), mx_mul(c, g, softmax_weight(c, Y, X)))

/* x^y by x: y x^(y-1), and 0 where y is 0, also at x = 0 */
static mx_array *pow_slope(mx_ctx *c, mx_array *x, mx_array *y) {
  if (y->tag == MX_VALUE && y->aval.size == 1) { /* a number: x^2 has the slope 2x, without a power */
    double v = mx_array_item_double(y);
    if (v == 1) return mx_like(c, x, 1);
    if (v == 2) return mx_muls(c, x, 2);
    if (v != 0) return mx_mul(c, y, mx_pow(c, x, mx_adds(c, y, -1)));
  }
  mx_array *is_zero = mx_eq(c, y, mx_like(c, y, 0));
  mx_array *power = mx_pow(c, x, mx_select(c, is_zero, mx_like(c, y, 1), mx_adds(c, y, -1)));
  return mx_select(c, is_zero, mx_like(c, x, 0), mx_mul(c, y, power));
}
D2(pow, mx_mul(c, g, pow_slope(c, X, Y)),                       /* g y x^(y-1) */
   mx_mul(c, g, mx_mul(c, mx_log(c, unless_zero(c, X, 1)), R))) /* g r ln x, with ln 0 as 0 */

D2(loggamma_grad, ((void)g, mx_no_rule(c, o->prim, "derivative")), ((void)g, mx_no_rule(c, o->prim, "derivative")))

/* -- zero derivatives: steps, tests, bits -------------------------------------------------------------------------- */

#define d_sign        NULL
#define d_floor       NULL
#define d_ceil        NULL
#define d_round       NULL
#define d_trunc       NULL
#define d_isnan       NULL
#define d_isinf       NULL
#define d_isfinite    NULL
#define d_not         NULL
#define d_floordiv    NULL
#define d_nextafter   NULL
#define d_eq          NULL
#define d_ne          NULL
#define d_lt          NULL
#define d_le          NULL
#define d_gt          NULL
#define d_ge          NULL
#define d_and         NULL
#define d_or          NULL
#define d_xor         NULL
#define d_shift_left  NULL
#define d_shift_right NULL

/* -- transposes: ct is the cotangent of the result, the operand that is not NULL is known -------------------------- */

static mx_array *transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  switch (o->prim->id) {
  case MX_PRIM_neg: return mx_neg(c, ct[0]);
  case MX_PRIM_add: return ct[0];
  case MX_PRIM_sub: return i == 0 ? ct[0] : mx_neg(c, ct[0]);
  case MX_PRIM_mul: return mx_mul(c, ct[0], o->in[1 - i]);
  case MX_PRIM_div: return i == 0 ? mx_div(c, ct[0], Y) : mx_no_rule(c, o->prim, "transpose by the divisor");
  default: return mx_no_rule(c, o->prim, "transpose");
  }
}
#define IS_LINEAR(id)     ((id) == MX_PRIM_neg || (id) == MX_PRIM_add || (id) == MX_PRIM_sub)
#define HAS_TRANSPOSE(id) (IS_LINEAR(id) || (id) == MX_PRIM_mul || (id) == MX_PRIM_div)

/* -- records ------------------------------------------------------------------------------------------------------- */

#define SHAPE(domain, result)                                                                                          \
  static bool shape_##domain##_##result(mx_ctx *c, const mx_op *o, mx_aval *out) {                                     \
    return mx_elementwise_shape(c, o, out, MX_DOMAIN_##domain, RESULT_##result);                                       \
  }
#define RESULT_SAME false
#define RESULT_BOOL true
SHAPE(ANY, SAME)
SHAPE(ANY, BOOL)
SHAPE(NUM, SAME)
SHAPE(FLT, SAME)
SHAPE(FLT, BOOL)
SHAPE(INT, SAME)

#define MX_PRIMITIVE(name, family)
#define MX_ELEMENTWISE(id_, arity, domain, result)                                                                     \
  const mx_primitive mx_prim_##id_ = {                                                                                 \
      .name = #id_,                                                                                                    \
      .id = MX_PRIM_##id_,                                                                                             \
      .n_out = 1,                                                                                                      \
      .linear = IS_LINEAR(MX_PRIM_##id_),                                                                              \
      .fields = mx_fields_none,                                                                                        \
      .shape = shape_##domain##_##result,                                                                              \
      .d = d_##id_,                                                                                                    \
      .transpose = HAS_TRANSPOSE(MX_PRIM_##id_) ? transpose : NULL,                                                    \
      .batch = mx_batch_elementwise,                                                                                   \
      .flops = mx_elementwise_flops,                                                                                   \
  };
#include "primitives.def"
