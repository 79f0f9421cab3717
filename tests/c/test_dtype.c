/* test_dtype.c: names, promotion, 16-bit floats, conversions between all pairs of dtypes. */
#include "../../src/array/array.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

/* A generator of its own, so that failures repeat. */
static uint64_t random_bits(void) {
  static uint64_t s = 88172645463325252u;
  s ^= s << 13, s ^= s >> 7, s ^= s << 17;
  return s;
}
static int random_below(int n) { return (int)(random_bits() >> 33) % n; }

/* -- dtypes ------------------------------------------------------------------------------------ */

static void test_dtype_names(void **state) {
  (void)state;
  for (int i = 0; i < MX_DTYPE_COUNT; i++) {
    const char *name = mx_dtype_name(i);
    assert_int_equal(mx_dtype_of_name(name, strlen(name)), i);
    assert_int_equal(mx_dtype_of_name(name, strlen(name) - 1), -1);
  }
  assert_int_equal(mx_dtype_of_name("uint32", 6), MLAX_UINT32);
  assert_int_equal(mx_dtype_of_name("", 0), -1);
  assert_int_equal(mx_itemsize(MLAX_BFLOAT16), 2);
  assert_int_equal(mx_dtype_kind(MLAX_UINT8), MX_KIND_UINT);
  assert_true(mx_is_float(MLAX_BFLOAT16) && mx_is_int(MLAX_UINT64) && !mx_is_int(MLAX_BOOL));
}

enum { B = MLAX_BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF, F32, F64 };

/* As JAX answers with x64 enabled; "some float" is float32. */
static const uint8_t promoted[MX_DTYPE_COUNT][MX_DTYPE_COUNT] = {
    {B, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF, F32, F64},
    {I8, I8, I16, I32, I64, I16, I32, I64, F32, F16, BF, F32, F64},
    {I16, I16, I16, I32, I64, I16, I32, I64, F32, F16, BF, F32, F64},
    {I32, I32, I32, I32, I64, I32, I32, I64, F32, F16, BF, F32, F64},
    {I64, I64, I64, I64, I64, I64, I64, I64, F32, F16, BF, F32, F64},
    {U8, I16, I16, I32, I64, U8, U16, U32, U64, F16, BF, F32, F64},
    {U16, I32, I32, I32, I64, U16, U16, U32, U64, F16, BF, F32, F64},
    {U32, I64, I64, I64, I64, U32, U32, U32, U64, F16, BF, F32, F64},
    {U64, F32, F32, F32, F32, U64, U64, U64, U64, F16, BF, F32, F64},
    {F16, F16, F16, F16, F16, F16, F16, F16, F16, F16, F32, F32, F64},
    {BF, BF, BF, BF, BF, BF, BF, BF, BF, F32, BF, F32, F64},
    {F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F64},
    {F64, F64, F64, F64, F64, F64, F64, F64, F64, F64, F64, F64, F64},
};

static void test_promotion(void **state) {
  (void)state;
  bool weak;
  for (int a = 0; a < MX_DTYPE_COUNT; a++)
    for (int b = 0; b < MX_DTYPE_COUNT; b++) {
      assert_int_equal(mx_dtype_promote(a, false, b, false, &weak), promoted[a][b]);
      assert_false(weak);
      assert_int_equal(mx_dtype_promote(a, true, b, true, &weak), promoted[a][b]);
      assert_true(weak);
    }
}

static void test_weak_promotion(void **state) {
  (void)state;
  bool weak;
  for (int d = 0; d < MX_DTYPE_COUNT; d++) {
    int with_float = mx_is_float(d) ? d : F32, with_int = d == B ? I32 : d;
    assert_int_equal(mx_dtype_promote(d, false, F32, true, &weak), with_float);
    assert_int_equal(mx_dtype_promote(F32, true, d, false, &weak), with_float);
    assert_false(weak);
    assert_int_equal(mx_dtype_promote(d, false, I32, true, &weak), with_int);
    assert_int_equal(mx_dtype_promote(I64, true, d, false, &weak), with_int);
  }
}

/* -- 16-bit floats ----------------------------------------------------------------------------- */

/* A float format: bits of the significand, least and greatest exponent of a normal number. */
typedef struct format {
  int precision, least, greatest;
} format;
static const format half = {11, -14, 15}, bfloat = {8, -126, 127}, single = {24, -126, 127}, full = {53, -1022, 1023};

/* m * 2^e rounded once to the format, half to even: in integers, so that nothing else rounds. */
static double round_to(const format *f, uint64_t m, int e) {
  if (m == 0) return 0;
  int bits = 64 - __builtin_clzll(m);
  int last = e + bits - f->precision, lowest = f->least - f->precision + 1;
  if (last < lowest) last = lowest;
  int shift = last - e;
  if (shift > 64) return 0;
  uint64_t q = shift <= 0 ? m : shift == 64 ? 0 : m >> shift;
  if (shift > 0) {
    uint64_t rest = shift == 64 ? m : m & (((uint64_t)1 << shift) - 1), tie = (uint64_t)1 << (shift - 1);
    if (rest > tie || (rest == tie && (q & 1))) q++;
    e = last;
  }
  double v = ldexp((double)q, e);
  return v >= ldexp(1, f->greatest) * 2 ? INFINITY : v;
}

static double round_double(const format *f, double d) {
  int e;
  if (isnan(d) || isinf(d) || d == 0) return d;
  double m = frexp(fabs(d), &e);
  return copysign(round_to(f, (uint64_t)ldexp(m, 53), e - 53), d);
}

static bool same(double a, double b) { return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b)); }

/* The definition: sign, exponent, fraction. */
static double value_of_half(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
  return h & 0x8000 ? -v : v;
}

static float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static void test_all_halfs(void **state) {
  (void)state;
  for (int i = 0; i < 65536; i++) {
    uint16_t h = (uint16_t)i, back;
    float f = mx_float_of_half(h);
    if (!same(f, value_of_half(h))) fail_msg("half %04x gives %g", h, f);
    back = mx_half_of_float(f);
    if (isnan(f) ? !isnan(mx_float_of_half(back)) : back != h) fail_msg("half %04x comes back as %04x", h, back);
    float b = mx_float_of_bfloat(h);
    if (!same(b, float_of((uint32_t)i << 16))) fail_msg("bfloat %04x gives %g", h, b);
    back = mx_bfloat_of_float(b);
    if (isnan(b) ? !isnan(mx_float_of_bfloat(back)) : back != h) fail_msg("bfloat %04x comes back as %04x", h, back);
#ifdef __FLT16_MANT_DIG__
    _Float16 native;
    memcpy(&native, &h, sizeof h);
    if (!same((float)native, f)) fail_msg("half %04x: %g, the compiler has %g", h, f, (float)native);
#endif
  }
}

static void check_rounding(double d) {
  uint16_t h, b;
  mx_store_double(MLAX_FLOAT16, &h, d);
  mx_store_double(MLAX_BFLOAT16, &b, d);
  if (!same(mx_float_of_half(h), round_double(&half, d))) fail_msg("half of %a: %a", d, mx_float_of_half(h));
  if (!same(mx_float_of_bfloat(b), round_double(&bfloat, d))) fail_msg("bfloat of %a: %a", d, mx_float_of_bfloat(b));
  if ((double)(float)d != d) return;
  if (mx_half_of_float((float)d) != h && !isnan(d)) fail_msg("half of float %a", d);
  if (mx_bfloat_of_float((float)d) != b && !isnan(d)) fail_msg("bfloat of float %a", d);
}

static void test_rounding_once(void **state) {
  (void)state;
  for (uint64_t u = 0; u <= UINT32_MAX; u += 20011) check_rounding(float_of((uint32_t)u));
  for (int i = 0; i < 65536; i++) {
    double a = value_of_half((uint16_t)i), b = value_of_half((uint16_t)(i ^ 1)), middle = (a + b) / 2;
    const double near[] = {middle, nextafter(middle, INFINITY), nextafter(middle, -INFINITY), middle * (1 + 0x1p-30)};
    for (int k = 0; k < 4; k++) check_rounding(near[k]);
    double v = float_of((uint32_t)i << 16 | 0x8000);
    check_rounding(v), check_rounding(nextafter(v, INFINITY)), check_rounding(nextafter(v, 0));
  }
  const double edges[] = {65504, 65519.999, 65520, 65536, 0x1p-24, 0x1p-25, 0x1.000001p-25, 0x1p-26, 1e300, 0x1p-149};
  for (int i = 0; i < 10; i++) check_rounding(edges[i]), check_rounding(-edges[i]);
  for (int i = 0; i < 200000; i++) {
    uint64_t u = random_bits();
    double d;
    memcpy(&d, &u, sizeof d);
    check_rounding(d);
    if (isnormal(d)) check_rounding(ldexp(d, -ilogb(d) + random_below(60) - 40));
  }
}

/* -- conversions ------------------------------------------------------------------------------- */

/* One element as an exact number: an integer (neg, size) or a double. */
typedef struct exact {
  bool is_float, negative;
  uint64_t size;
  double value;
} exact;

static exact exact_of(int dtype, const void *p) {
  exact x = {mx_is_float(dtype), false, 0, 0};
  uint64_t u = 0;
  size_t n = mx_itemsize(dtype);
  memcpy(&u, p, n);
  if (dtype == MLAX_FLOAT64) memcpy(&x.value, p, 8);
  else if (dtype == MLAX_FLOAT32) x.value = float_of((uint32_t)u);
  else if (dtype == MLAX_FLOAT16) x.value = value_of_half((uint16_t)u);
  else if (dtype == MLAX_BFLOAT16) x.value = float_of((uint32_t)u << 16);
  else if (mx_dtype_kind(dtype) == MX_KIND_INT) {
    int64_t v = (int64_t)(u << (64 - 8 * n)) >> (64 - 8 * n);
    x.negative = v < 0;
    x.size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  } else x.size = u;
  return x;
}

static double want_float(const format *f, const exact *x) {
  if (x->is_float) return round_double(f, x->value);
  double v = round_to(f, x->size, 0);
  return x->negative ? -v : v;
}

/* Cut towards zero, saturated, NaN gives 0; integers wrap. The bits of the result. */
static uint64_t want_int(int to, const exact *x) {
  size_t bits = 8 * mx_itemsize(to);
  uint64_t mask = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
  if (!x->is_float) return (x->negative ? 0 - x->size : x->size) & mask;
  bool is_signed = mx_dtype_kind(to) == MX_KIND_INT;
  double v = trunc(x->value), above = ldexp(1, (int)bits - is_signed);
  if (isnan(v)) return 0;
  if (v >= above) return is_signed ? mask >> 1 : mask;
  if (v < 0) return !is_signed ? 0 : v <= -above ? mask / 2 + 1 : (0 - (uint64_t)-v) & mask;
  return (uint64_t)v;
}

static void check_converted(int from, const void *src, int to, const void *dst) {
  exact x = exact_of(from, src), y = exact_of(to, dst);
  uint64_t u = 0;
  memcpy(&u, dst, mx_itemsize(to));
  bool ok;
  if (to == MLAX_BOOL) ok = u == (x.is_float ? x.value != 0 : x.size != 0);
  else if (!mx_is_float(to)) ok = u == want_int(to, &x);
  else ok = same(y.value, want_float(to == F16 ? &half : to == BF ? &bfloat : to == F32 ? &single : &full, &x));
  if (!ok)
    fail_msg("%s to %s: of %a or %s%llu comes %a or %llu", mx_dtype_name(from), mx_dtype_name(to), x.value,
             x.negative ? "-" : "", (unsigned long long)x.size, y.value, (unsigned long long)u);
}

/* Values at which something happens, and random ones of every size. */
static void make_values(int dtype, char *p, int n) {
  static const double edges[] = {0,      -0.0,       1,         -1,     0.5,     -0.99,  1.5,      127,       128,
                                 -128.5, -129,       255.9,     256,    32767,   32768,  65535.5,  0x1p31,    -0x1p31,
                                 0x1p32, 0x1p31 - 1, 0x1p53,    0x1p63, -0x1p63, 0x1p64, 1e30,     -1e30,     1e-40,
                                 NAN,    INFINITY,   -INFINITY, 65520,  0x1p-25, 3e38,   16777217, 0x1p24 + 3};
  const int n_edge = (int)(sizeof edges / sizeof *edges);
  size_t size = mx_itemsize(dtype);
  for (int i = 0; i < n; i++) {
    uint64_t u = random_bits() >> random_below(64);
    if (i % 2) u = 0 - u;
    if (dtype == MLAX_BOOL) u &= 1;
    if (mx_is_float(dtype) && i < n_edge) mx_store_double(dtype, &u, edges[i]);
    else if (mx_is_float(dtype) && i % 3) mx_store_double(dtype, &u, (double)(int64_t)u * ldexp(1, -random_below(20)));
    else if (!mx_is_float(dtype) && i % 5 == 0) u = ((uint64_t)1 << random_below(64)) + (uint64_t)random_below(3) - 1;
    if (dtype == MLAX_BOOL) u &= 1;
    memcpy(p + (size_t)i * size, &u, size);
  }
}

enum { N_VALUE = 1500 };

static void check_pair(int from, int to, int64_t src_step, int64_t dst_step, int shift) {
  static char dense[N_VALUE * 8], src[N_VALUE * 40 + 64], dst[N_VALUE * 40 + 64];
  size_t n = mx_itemsize(from), m = mx_itemsize(to);
  int64_t src_stride = src_step * (int64_t)n + (src_step > 1 ? shift : 0);
  int64_t dst_stride = dst_step * (int64_t)m + (dst_step > 1 ? shift : 0);
  make_values(from, dense, N_VALUE);
  for (int i = 0; i < N_VALUE; i++) memcpy(src + shift + i * src_stride, dense + (size_t)i * n, n);
  memset(dst, 0x77, sizeof dst);
  mx_convert_strided(from, src + shift, src_stride, to, dst + shift, dst_stride, N_VALUE);
  for (int i = 0; i < N_VALUE; i++) check_converted(from, dense + (size_t)i * n, to, dst + shift + i * dst_stride);
  for (int64_t k = 0; k < shift; k++) assert_int_equal(dst[k], 0x77);
  for (int64_t k = shift + (int64_t)m; dst_step > 1 && k < shift + dst_stride; k++) assert_int_equal(dst[k], 0x77);
  assert_int_equal(dst[shift + (N_VALUE - 1) * dst_stride + (int64_t)m], 0x77);
}

static void test_all_conversions(void **state) {
  (void)state;
  for (int from = 0; from < MX_DTYPE_COUNT; from++)
    for (int to = 0; to < MX_DTYPE_COUNT; to++) {
      if (from == to) continue;
      check_pair(from, to, 1, 1, 0);
      check_pair(from, to, 3, 2, 0);
      check_pair(from, to, 1, 3, 8);
      check_pair(from, to, 2, 1, 3); /* neither is aligned */
    }
}

static void test_copies(void **state) {
  (void)state;
  char src[64], dst[64];
  for (int i = 0; i < 64; i++) src[i] = (char)i;
  mx_convert_strided(MLAX_UINT8, src + 63, -1, MLAX_UINT8, dst, 1, 64);
  for (int i = 0; i < 64; i++) assert_int_equal(dst[i], 63 - i);
  int32_t one = 7, many[5];
  mx_convert_strided(MLAX_INT32, &one, 0, MLAX_INT32, many, 4, 5);
  for (int i = 0; i < 5; i++) assert_int_equal(many[i], 7);
  double wide[5];
  mx_convert_strided(MLAX_INT32, &one, 0, MLAX_FLOAT64, wide, 8, 5);
  for (int i = 0; i < 5; i++) assert_true(wide[i] == 7);
  mx_convert_strided(MLAX_INT32, NULL, 4, MLAX_FLOAT32, NULL, 4, 0);
}

static void test_elements(void **state) {
  (void)state;
  int8_t small;
  uint64_t large;
  uint8_t truth;
  mx_store_double(MLAX_INT8, &small, -1000.5);
  assert_int_equal(small, -128);
  mx_store_int(MLAX_INT8, &small, 300);
  assert_int_equal(small, 44);
  mx_store_int(MLAX_UINT64, &large, -1);
  assert_true(large == UINT64_MAX);
  assert_int_equal(mx_load_int(MLAX_UINT64, &large), -1);
  assert_true(mx_load_double(MLAX_UINT64, &large) == 0x1p64);
  mx_store_double(MLAX_BOOL, &truth, 0.25);
  assert_int_equal(truth, 1);
  double nan = NAN;
  assert_int_equal(mx_load_int(MLAX_FLOAT64, &nan), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dtype_names), cmocka_unit_test(test_promotion),     cmocka_unit_test(test_weak_promotion),
      cmocka_unit_test(test_all_halfs),   cmocka_unit_test(test_rounding_once), cmocka_unit_test(test_all_conversions),
      cmocka_unit_test(test_copies),      cmocka_unit_test(test_elements),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
