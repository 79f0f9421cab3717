/* number.c: decimal numbers, the same in every locale. Most are exact in double arithmetic (a mantissa below 2^53, a
 * power of ten up to 22); the rest goes to strtod_l in the C locale, after the syntax is known to be ours. */
#include "io.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* A number taken apart: mantissa * 10^exponent. */
typedef struct decimal {
  uint64_t mantissa;
  int exponent;
  bool exact; /* all digits are in the mantissa */
} decimal;

static bool is_digit(char ch) { return ch >= '0' && ch <= '9'; }

/* Digits with at most one point; returns the end, NULL where there is no digit. */
static const char *digits_read(const char *s, const char *end, decimal *d) {
  bool any = false, point = false;
  for (; s < end; s++) {
    if (*s == '.' && !point) {
      point = true;
      continue;
    }
    if (!is_digit(*s)) break;
    any = true;
    if (d->mantissa > (UINT64_MAX - 9) / 10) {
      d->exact = false;
      continue;
    }
    d->mantissa = d->mantissa * 10 + (uint64_t)(*s - '0');
    if (point) d->exponent--;
  }
  return any ? s : NULL;
}

/* e+12; returns the end, NULL where no digit follows. */
static const char *exponent_read(const char *s, const char *end, decimal *d) {
  enum { FAR = 100000 };
  bool negative = s < end && *s == '-';
  int e = 0;
  if (s < end && (*s == '-' || *s == '+')) s++;
  if (s == end || !is_digit(*s)) return NULL;
  for (; s < end && is_digit(*s); s++)
    if (e < FAR) e = e * 10 + (*s - '0');
  d->exponent += negative ? -e : e;
  return s;
}

static bool word_is(const char *s, const char *end, const char *word) {
  for (; s < end && *word; s++, word++)
    if ((*s | 0x20) != *word) return false;
  return s == end && !*word;
}

static bool special_read(const char *s, const char *end, double *v) {
  if (word_is(s, end, "inf") || word_is(s, end, "infinity")) *v = HUGE_VAL;
  else if (word_is(s, end, "nan")) *v = NAN;
  else return false;
  return true;
}

static double exact_value(const decimal *d) {
  static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  return d->exponent < 0 ? (double)d->mantissa / power[-d->exponent] : (double)d->mantissa * power[d->exponent];
}

/* In glibc and musl the C locale is a constant: neither call allocates. */
static double long_value(const char *s) {
  locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (!c_locale) return NAN;
  double v = strtod_l(s, NULL, c_locale);
  freelocale(c_locale);
  return v;
}

bool mx_number_parse(const char *s, size_t size, double *v) {
  const char *end = s + size;
  bool negative = size && *s == '-';
  if (size && (*s == '-' || *s == '+')) s++;
  decimal d = {0, 0, true};
  const char *p = digits_read(s, end, &d);
  if (!p) {
    if (!special_read(s, end, v)) return false;
  } else {
    if (p < end && (*p == 'e' || *p == 'E')) p = exponent_read(p + 1, end, &d);
    if (p != end) return false;
    bool exact = d.exact && d.mantissa < (uint64_t)1 << 53 && d.exponent >= -22 && d.exponent <= 22;
    *v = exact ? exact_value(&d) : long_value(s);
  }
  if (negative) *v = -*v;
  return true;
}
