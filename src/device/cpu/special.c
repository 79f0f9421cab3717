/* special.c: gamma's relatives and the inverse of erf. */
#include "special.h"

#include <math.h>

#define PI 3.14159265358979323846

double mx_special_lgamma(double x) {
  int sign;
  if (x == -INFINITY) return INFINITY;
  return lgamma_r(x, &sign);
}

/* pi / tan(pi x), from the nearest whole number, so that large x keep their fraction */
static double pi_cot(double x) { return PI / tan(PI * (x - rint(x))); }

/* psi(x) = psi(x + 1) - 1/x up to 10, then ln x - 1/2x - sum B_2k / (2k x^2k); psi(1 - x) = psi(x) + pi cot(pi x) below
 * 0 */
double mx_special_digamma(double x) {
  if (x <= 0 && x == floor(x)) return NAN; /* also -infinity */
  if (x < 0) return mx_special_digamma(1 - x) - pi_cot(x);
  double r = 0;
  for (; x < 10; x += 1) r -= 1 / x;
  double z = 1 / (x * x);
  double s =
      1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12)))));
  return r + log(x) - 0.5 / x - z * s;
}

/* psi'(x) = psi'(x + 1) + 1/x^2 up to 10, then 1/x + 1/2x^2 + sum B_2k / x^(2k+1); psi'(1 - x) = (pi / sin(pi x))^2 -
 * psi'(x) */
double mx_special_trigamma(double x) {
  if (x == INFINITY) return 0;
  if (x <= 0 && x == floor(x)) return x == -INFINITY ? NAN : INFINITY;
  if (x < 0) {
    double s = PI / sin(PI * (x - rint(x)));
    return s * s - mx_special_trigamma(1 - x);
  }
  double r = 0;
  for (; x < 10; x += 1) r += 1 / (x * x);
  double z = 1 / (x * x);
  double s =
      1.0 / 6 - z * (1.0 / 30 - z * (1.0 / 42 - z * (1.0 / 30 - z * (5.0 / 66 - z * (691.0 / 2730 - z * 7 / 6)))));
  return r + 1 / x + 0.5 * z + z / x * s;
}

/* A start from Giles' approximation in w = -ln(1 - x^2), then two steps of Halley's method on erf(y) = x, in the tails
 * on erfc(|y|) = 1 - |x|, which is exact. */
static double erf_inv_start(double a) {
  static const double small[] = {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                                 -0.00125372503, -0.00417768164, 0.246640727,    1.50140941};
  static const double large[] = {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                                 -0.0076224613,   0.00943887047,  1.00167406,    2.83297682};
  double w = -log1p(-a * a), t = w < 5 ? w - 2.5 : sqrt(w) - 3, p = 0;
  for (int i = 0; i < 9; i++) p = p * t + (w < 5 ? small[i] : large[i]);
  return p * a;
}

double mx_special_erf_inv(double x) {
  double a = fabs(x);
  if (!(a < 1)) return a == 1 ? copysign(INFINITY, x) : NAN;
  if (a < 1e-150) return x * 0.88622692545275801; /* sqrt(pi) / 2 */
  double y = erf_inv_start(a);
  for (int i = 0; i < 2; i++) {
    double error = a < 0.5 ? erf(y) - a : (1 - a) - erfc(y);
    double step = error / (1.1283791670955126 * exp(-y * y)); /* erf' = 2 / sqrt(pi) e^-y^2 */
    y -= step / (1 + y * step);
  }
  return copysign(y, x);
}
