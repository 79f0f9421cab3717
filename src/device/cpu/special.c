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

/* Hurwitz's zeta(s, x) = sum of (x + k)^-s over k >= 0, for s > 1 and x > 0: term by term up to 10 + s, then by Euler
 * and Maclaurin: x^(1-s) / (s-1) + x^-s / 2 + sum of B_2j / (2j)! s (s+1) ... (s+2j-2) x^(1-s-2j). */
static double zeta(double s, double x) {
  static const double ratio[] = {/* B_2j / (2j)! */ 1.0 / 12,
                                 -1.0 / 720,
                                 1.0 / 30240,
                                 -1.0 / 1209600,
                                 1.0 / 47900160,
                                 -691.0 / 1307674368000,
                                 1.0 / 74724249600,
                                 -3617.0 / 10670622842880000,
                                 43867.0 / 5109094217170944000};
  double sum = 0;
  for (; x < 10 + s; x += 1) sum += pow(x, -s);
  double power = pow(x, -s), term = power * s / x, tail = 0;
  for (int j = 0; j < 9; j++) {
    tail += ratio[j] * term;
    term *= (s + 2 * j + 1) / x * ((s + 2 * j + 2) / x);
  }
  return sum + power * x / (s - 1) + power / 2 + tail;
}

/* (-1)^(n+1) n! zeta(n + 1, x). Left of 0 the sum over all whole k, which has the period 1, less those below. */
static double polygamma(double n, double x) {
  double s = n + 1, sign = fmod(n, 2) == 0 ? -1 : 1, sum, f = x - floor(x);
  if (x <= 0 && f == 0) return sign * INFINITY;
  if (x == INFINITY) return 0 * sign;
  if (x > 0) sum = zeta(s, x);
  else sum = zeta(s, f) + sign * (zeta(s, 1 - f) - zeta(s, 1 - x));
  return sign * tgamma(s) * sum;
}

double mx_special_polygamma(double n, double x) {
  if (!(n >= 0) || n != floor(n) || isnan(x) || x == -INFINITY) return NAN;
  return n == 0 ? mx_special_digamma(x) : polygamma(n, x);
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

/* -- the derivative of a gamma variable by its parameter ------------------------------------------------------------
 *
 * With P(a, x) held: dx/da = -P_a / P_x (Figurnov, Mohamed and Mnih, Implicit reparameterization gradients, 2018).
 * With w = x^a e^-x / gamma(a), so that P_x = w / x, all of it is known relative to w:
 * P = w S / a with S = 1 + x/(a+1) + x^2/((a+1)(a+2)) + ...,   1 - P = w C with a continued fraction C. */

enum { MOST_TERMS = 20000, LARGE = 10000 };

/* S and dS/da, term by term: c_n = c_(n-1) x / (a + n) */
static double from_series(double a, double x, double log_x) {
  double sum = 1, d_sum = 0, c = 1, d = 0;
  for (int n = 1; n < MOST_TERMS; n++) {
    d = (d - c / (a + n)) * x / (a + n);
    c *= x / (a + n);
    sum += c;
    d_sum += d;
    if (fabs(d) <= 1e-17 * fabs(d_sum)) break;
  }
  return -(d_sum + sum * (log_x - mx_special_digamma(a + 1))) / a;
}

/* C = p/q and its derivative by the recurrence of its convergents, n = 1, 2, ...:
 * p_n = (x + 2n + 1 - a) p_(n-1) - n (n - a) p_(n-2), and q alike; ended when the derivative stands still. */
static double from_fraction(double a, double x, double log_x) {
  double p[2] = {1, x + 1}, q[2] = {x, (x + 2 - a) * x}, dp[2] = {0, 0}, dq[2] = {0, -x};
  double c = p[1] / q[1], d = -c * dq[1] / q[1];
  for (int n = 1; n < MOST_TERMS; n++) {
    double z = x + 2 * n + 2 - a, y = n * (n + 1 - a);
    double p2 = p[1] * z - p[0] * y, q2 = q[1] * z - q[0] * y;
    double dp2 = dp[1] * z - p[1] - dp[0] * y + p[0] * n, dq2 = dq[1] * z - q[1] - dq[0] * y + q[0] * n;
    double was = d, scale = fabs(p2) > 1e15 ? 1e-15 : 1;
    if (q2 != 0) c = p2 / q2, d = (dp2 - c * dq2) / q2;
    p[0] = p[1] * scale, q[0] = q[1] * scale, dp[0] = dp[1] * scale, dq[0] = dq[1] * scale;
    p[1] = p2 * scale, q[1] = q2 * scale, dp[1] = dp2 * scale, dq[1] = dq2 * scale;
    if (q2 != 0 && fabs(d - was) <= 1e-16 * fabs(d)) break;
  }
  return d + c * (log_x - mx_special_digamma(a));
}

/* Cornish and Fisher: x = a + z sqrt(a) + (z^2 - 1)/3 + ... of a normal z, which is held; next term: a^(-7/2) */
static double from_normal(double a, double x) {
  double r = sqrt(a), z = (x - a) / r, z2;
  for (int i = 0; i < 8; i++) {
    z2 = z * z;
    z = (x - a - (z2 - 1) / 3 - z * (z2 - 7) / (36 * r) + (3 * z2 * z2 + 7 * z2 - 16) / (810 * a) -
         z * (9 * z2 * z2 + 256 * z2 - 433) / (38880 * a * r)) /
        r;
  }
  z2 = z * z;
  double slope = 1 + z / (2 * r) - z * (z2 - 7) / (72 * a * r) + (3 * z2 * z2 + 7 * z2 - 16) / (810 * a * a) -
                 z * (9 * z2 * z2 + 256 * z2 - 433) / (25920 * a * a * r);
  return slope / x;
}

double mx_special_loggamma_grad(double a, double log_x) {
  double x = exp(log_x);
  if (!(a > 0) || log_x != log_x || a == INFINITY) return NAN;
  if (x == INFINITY) return 0;
  if (a >= LARGE && fabs(x - a) < 30 * sqrt(a)) return from_normal(a, x);
  return x > 1 && x > a ? from_fraction(a, x, log_x) : from_series(a, x, log_x);
}
