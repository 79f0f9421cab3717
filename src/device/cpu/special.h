/* special.h: functions that libm lacks, or has with global state. Scalar, in double; each takes every double. */
#ifndef MX_SPECIAL_H
#define MX_SPECIAL_H

double mx_special_lgamma(double x);              /* ln |gamma(x)|, thread-safe */
double mx_special_digamma(double x);             /* gamma' / gamma; NaN at 0, -1, -2, ... */
double mx_special_polygamma(double n, double x); /* the n-th derivative of digamma; NaN unless n is 0, 1, 2, ... */
double mx_special_erf_inv(double x);
/* d ln x / d a of a gamma variable x of parameter a, its distribution function held; at ln x */
double mx_special_loggamma_grad(double a, double log_x);

#endif
