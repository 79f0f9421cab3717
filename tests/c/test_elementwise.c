/* test_elementwise.c: the kernels of the elementwise and convert families and the strided copies, against libm, against
 * arithmetic in wider types, and against element-by-element references; every instruction set that this machine has. */
#include "../../src/device/cpu/machine.h"
#include "../../src/device/cpu/special.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static mlax_engine *engine;
static mx_ctx ctx;

static int set_up(void **state) {
  mlax_options options = MLAX_OPTIONS;
  (void)state;
  options.threads = 2;
  return mlax_engine_new(&options, &engine, NULL) != MLAX_OK || !mx_ctx_init(&ctx, engine);
}
static int tear_down(void **state) {
  (void)state;
  mx_ctx_close(&ctx);
  mlax_engine_release(engine);
  return 0;
}

/* -- instruction sets ---------------------------------------------------------------------------------------------- */

static int sets(const mx_math_loops **math, const mx_arithmetic_loops **arithmetic, const mx_convert_loops **convert) {
#if defined(__x86_64__)
  const mx_math_loops *m[] = {&mx_math_loops_sse2, &mx_math_loops_avx2, &mx_math_loops_avx512};
  const mx_arithmetic_loops *a[] = {&mx_arithmetic_loops_sse2, &mx_arithmetic_loops_avx2, &mx_arithmetic_loops_avx512};
  const mx_convert_loops *v[] = {&mx_convert_loops_sse2, &mx_convert_loops_avx2, &mx_convert_loops_avx512};
#else
  const mx_math_loops *m[] = {&mx_math_loops_plain};
  const mx_arithmetic_loops *a[] = {&mx_arithmetic_loops_plain};
  const mx_convert_loops *v[] = {&mx_convert_loops_plain};
#endif
  int n = (int)mx_isa() + 1;
  for (int i = 0; i < n; i++) math[i] = m[i], arithmetic[i] = a[i], convert[i] = v[i];
  return n;
}

/* -- accuracy of float functions ----------------------------------------------------------------------------------- */

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double reciprocal(double x) { return 1 / x; }

/* A unit in the last place of the float nearest to x. */
static double unit_of(double x) {
  int e;
  double a = fabs(x) < 0x1p-126 ? 0x1p-126 : fabs(x) > 0x1.fffffep127 ? 0x1.fffffep127 : fabs(x);
  frexp(a, &e);
  return ldexp(1, e - 24);
}

/* How far got is from want, in units; infinite where one is no number, or infinite, or a zero of the other sign. */
static double error_of(float got, double want) {
  float w = (float)want;
  if (isnan(w) || isnan(got)) return isnan(w) && isnan(got) ? 0 : INFINITY;
  if (isinf(w) || isinf(got)) return w == got ? 0 : INFINITY;
  if (w == 0 && got == 0) return signbit(w) == signbit(got) ? 0 : INFINITY;
  return fabs((double)got - want) / unit_of(want);
}

/* The worst error over every 9973rd bit pattern of float. */
static double worst_error(mx_loop loop, double (*f)(double)) {
  enum { N = 4096 };
  static float x[N], r[N];
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
    int n = 0;
    for (; n < N && bits < (uint64_t)1 << 32; bits += 9973) {
      uint32_t b = (uint32_t)bits;
      memcpy(&x[n++], &b, 4);
    }
    loop(n, (const void *[]){x}, r);
    for (int i = 0; i < n; i++) worst = fmax(worst, error_of(r[i], f((double)x[i])));
  }
  return worst;
}

static void float_functions_keep_their_bounds(void **state) {
  static const struct {
    int id;
    double (*f)(double), bound; /* in units of the last place */
  } rows[] = {
      {MX_PRIM_exp, exp, 1},
      {MX_PRIM_exp2, exp2, 0.51},
      {MX_PRIM_expm1, expm1, 0.51},
      {MX_PRIM_log, log, 1},
      {MX_PRIM_log2, log2, 0.51},
      {MX_PRIM_log1p, log1p, 0.51},
      {MX_PRIM_sqrt, sqrt, 0.5},
      {MX_PRIM_rsqrt, rsqrt, 1.5},
      {MX_PRIM_cbrt, cbrt, 0.51},
      {MX_PRIM_sin, sin, 1},
      {MX_PRIM_cos, cos, 1},
      {MX_PRIM_tan, tan, 1},
      {MX_PRIM_asin, asin, 1},
      {MX_PRIM_acos, acos, 1},
      {MX_PRIM_atan, atan, 1},
      {MX_PRIM_sinh, sinh, 0.51},
      {MX_PRIM_cosh, cosh, 0.51},
      {MX_PRIM_tanh, tanh, 5},
      {MX_PRIM_asinh, asinh, 0.51},
      {MX_PRIM_acosh, acosh, 0.51},
      {MX_PRIM_atanh, atanh, 0.51},
      {MX_PRIM_sigmoid, sigmoid, 3},
      {MX_PRIM_erf, erf, 5},
      {MX_PRIM_erfc, erfc, 3},
      {MX_PRIM_floor, floor, 0},
      {MX_PRIM_ceil, ceil, 0},
      {MX_PRIM_round, rint, 0},
      {MX_PRIM_trunc, trunc, 0},
      {MX_PRIM_reciprocal, reciprocal, 0.5},
      {MX_PRIM_erf_inv, mx_special_erf_inv, 50}, /* XLA's formula, whose random numbers we must match, is no better */
      {MX_PRIM_lgamma, mx_special_lgamma, 0.51},
      {MX_PRIM_digamma, mx_special_digamma, 0.51},
  };
  const mx_math_loops *math[3];
  const mx_arithmetic_loops *arithmetic[3];
  const mx_convert_loops *convert[3];
  int n = sets(math, arithmetic, convert);
  (void)state;
  for (int s = 0; s < n; s++)
    for (size_t i = 0; i < COUNT(rows); i++) {
      double worst = worst_error(math[s]->loop[rows[i].id][0], rows[i].f);
      if (!(worst <= rows[i].bound))
        fail_msg("%s (set %d): %g units, bound %g", mx_primitives[rows[i].id]->name, s, worst, rows[i].bound);
    }
}

/* Sums of exponentials are the same on every machine. */
static void every_set_has_the_same_exp(void **state) {
  enum { N = 4099 };
  static float x[N], want[N], got[N];
  const mx_math_loops *math[3];
  const mx_arithmetic_loops *arithmetic[3];
  const mx_convert_loops *convert[3];
  int n = sets(math, arithmetic, convert);
  (void)state;
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += (uint64_t)9973 * N) {
    for (int i = 0; i < N; i++) {
      uint32_t b = (uint32_t)(bits + 9973 * (uint64_t)i);
      memcpy(&x[i], &b, 4);
    }
    math[0]->loop[MX_PRIM_exp][0](N, (const void *[]){x}, want);
    for (int s = 1; s < n; s++) {
      math[s]->loop[MX_PRIM_exp][0](N, (const void *[]){x}, got);
      for (int i = 0; i < N; i++)
        if (memcmp(&want[i], &got[i], 4) != 0 && !(isnan(want[i]) && isnan(got[i])))
          fail_msg("exp(%a) (set %d): %a, want %a", (double)x[i], s, (double)got[i], (double)want[i]);
    }
  }
}

static double logaddexp(double x, double y) {
  if (x == y) return x + log(2);
  return fmax(x, y) + log1p(exp(-fabs(x - y))) + (isnan(x) || isnan(y) ? NAN : 0);
}
static double floor_mod(double x, double y) {
  double r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

static void float_functions_of_two_keep_their_bounds(void **state) {
  static const struct {
    int id;
    double (*f)(double, double), bound;
  } rows[] = {{MX_PRIM_pow, pow, 0.51},
              {MX_PRIM_hypot, hypot, 0.51},
              {MX_PRIM_logaddexp, logaddexp, 0.51},
              {MX_PRIM_atan2, atan2, 1},
              {MX_PRIM_mod, floor_mod, 0.51}};
  static const float values[] = {0,      -0.f,  INFINITY, -INFINITY, NAN,   1,  -1,    2,
                                 -3,     0.5f,  -2.5f,    1e-20f,    1e20f, 3,  -2,    7.25f,
                                 1e-40f, 1e30f, 1.0001f,  0.9999f,   12345, -8, 33.3f, -0.7f};
  enum { N = COUNT(values) * COUNT(values) };
  float x[N], y[N], r[N];
  const mx_math_loops *math[3];
  const mx_arithmetic_loops *arithmetic[3];
  const mx_convert_loops *convert[3];
  int n = sets(math, arithmetic, convert);
  (void)state;
  for (size_t i = 0; i < N; i++) x[i] = values[i / COUNT(values)], y[i] = values[i % COUNT(values)];
  for (int s = 0; s < n; s++)
    for (size_t k = 0; k < COUNT(rows); k++) {
      mx_loop loop = math[s]->loop[rows[k].id][0];
      if (!loop) loop = arithmetic[s]->loop[rows[k].id][MLAX_FLOAT32];
      loop(N, (const void *[]){x, y}, r);
      for (size_t i = 0; i < N; i++) {
        double want = rows[k].f((double)x[i], (double)y[i]);
        if (!(error_of(r[i], want) <= rows[k].bound) && !(r[i] == 0 && want == 0))
          fail_msg("%s(%g, %g) = %g, want %g", mx_primitives[rows[k].id]->name, (double)x[i], (double)y[i],
                   (double)r[i], want);
      }
    }
}

static void polygammas_are_known(void **state) {
  (void)state;
  assert_true(fabs(mx_special_digamma(1) + 0.57721566490153286) < 1e-15);
  assert_true(fabs(mx_special_digamma(0.5) + 1.9635100260214235) < 1e-14);
  assert_true(fabs(mx_special_digamma(-0.5) - 0.03648997397857652) < 1e-14);
  assert_true(fabs(mx_special_polygamma(1, 1) - 1.6449340668482264) < 1e-14);
  assert_true(fabs(mx_special_polygamma(1, 0.5) - 4.934802200544679) < 1e-14);
  assert_true(fabs(mx_special_polygamma(1, -0.5) - 8.934802200544679) < 1e-13);
  assert_true(isnan(mx_special_digamma(-3)) && isnan(mx_special_digamma(-INFINITY)));
  for (double x = -0.999; x < 1; x += 0.001) assert_true(fabs(erf(mx_special_erf_inv(x)) - x) < 4e-16);
}

/* -- integers ------------------------------------------------------------------------------------------------------ */

static int64_t floor_div(int64_t x, int64_t y) {
  if (y == 0) return 0;
  return x / y - (x % y != 0 && (x < 0) != (y < 0));
}
static int64_t power(int64_t x, int64_t y) {
  int64_t r = 1;
  if (y < 0) return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
  for (; y > 0; y--) r = (int64_t)((uint64_t)r * (uint64_t)x);
  return r;
}
/* What a primitive does to two small integers, before the result is cut to its width; `width` for the shifts. */
static int64_t integer_result(int id, int64_t x, int64_t y, int width, bool is_signed) {
  bool far = y < 0 || y >= width;
  switch (id) {
  case MX_PRIM_add: return x + y;
  case MX_PRIM_sub: return x - y;
  case MX_PRIM_mul: return (int64_t)((uint64_t)x * (uint64_t)y);
  case MX_PRIM_floordiv: return floor_div(x, y);
  case MX_PRIM_mod: return y == 0 ? 0 : x - floor_div(x, y) * y;
  case MX_PRIM_pow: return power(x, y);
  case MX_PRIM_maximum: return x > y ? x : y;
  case MX_PRIM_minimum: return x < y ? x : y;
  case MX_PRIM_eq: return x == y;
  case MX_PRIM_ne: return x != y;
  case MX_PRIM_lt: return x < y;
  case MX_PRIM_le: return x <= y;
  case MX_PRIM_gt: return x > y;
  case MX_PRIM_ge: return x >= y;
  case MX_PRIM_and: return x & y;
  case MX_PRIM_or: return x | y;
  case MX_PRIM_xor: return x ^ y;
  case MX_PRIM_shift_left: return far ? 0 : (int64_t)((uint64_t)x << y);
  case MX_PRIM_shift_right: return far ? (is_signed && x < 0 ? -1 : 0) : x >> y;
  default: return INT64_MIN;
  }
}

static void check_integers(mx_loop loop, int id, int dtype, const int64_t *values, int n) {
  size_t size = mx_itemsize(dtype);
  char x[8], y[8], r[8], want[8];
  for (int i = 0; i < n; i++)
    for (int k = 0; k < n; k++) {
      mx_store_int(dtype, x, values[i]);
      mx_store_int(dtype, y, values[k]);
      int64_t a = mx_load_int(dtype, x), b = mx_load_int(dtype, y);
      bool test = id >= MX_PRIM_eq && id <= MX_PRIM_ge;
      if (id == MX_PRIM_pow && b > 1000) continue; /* the reference multiplies one by one */
      loop(1, (const void *[]){x, y}, r);
      mx_store_int(test ? MLAX_BOOL : dtype, want,
                   integer_result(id, a, b, (int)size * 8, mx_dtype_kind(dtype) == MX_KIND_INT));
      if (memcmp(r, want, test ? 1 : size) != 0)
        fail_msg("%s of %s %lld and %lld", mx_primitives[id]->name, mx_dtype_name(dtype), (long long)a, (long long)b);
    }
}

static void integers_wrap_floor_and_never_trap(void **state) {
  static const int ids[] = {MX_PRIM_add, MX_PRIM_sub,     MX_PRIM_mul,        MX_PRIM_floordiv,   MX_PRIM_mod,
                            MX_PRIM_pow, MX_PRIM_maximum, MX_PRIM_minimum,    MX_PRIM_eq,         MX_PRIM_ne,
                            MX_PRIM_lt,  MX_PRIM_le,      MX_PRIM_gt,         MX_PRIM_ge,         MX_PRIM_and,
                            MX_PRIM_or,  MX_PRIM_xor,     MX_PRIM_shift_left, MX_PRIM_shift_right};
  static const int dtypes[] = {MLAX_INT8, MLAX_UINT8, MLAX_INT16, MLAX_UINT16, MLAX_INT32, MLAX_UINT32};
  int64_t values[64];
  int n = 0;
  const mx_math_loops *math[3];
  const mx_arithmetic_loops *arithmetic[3];
  const mx_convert_loops *convert[3];
  int n_sets = sets(math, arithmetic, convert);
  (void)state;
  for (int i = -9; i <= 9; i++) values[n++] = i;
  for (int bit = 7; bit < 32; bit += 8)
    for (int d = -1; d <= 1; d++) values[n++] = ((int64_t)1 << bit) + d, values[n++] = -((int64_t)1 << bit) + d;
  for (int s = 0; s < n_sets; s++)
    for (size_t i = 0; i < COUNT(ids); i++)
      for (size_t d = 0; d < COUNT(dtypes); d++)
        check_integers(arithmetic[s]->loop[ids[i]][dtypes[d]], ids[i], dtypes[d], values, n);
}

static void the_widest_integers_wrap_too(void **state) {
  int64_t x[] = {INT64_MIN, INT64_MIN, INT64_MAX, INT64_MIN, -7, -1, 5}, y[] = {-1, 0, 2, 3, 2, 64, -1}, r[7];
  const mx_arithmetic_loops *loops = MX_SIMD_PICK(mx_arithmetic_loops);
  const void *in[] = {x, y};
  (void)state;
  loops->loop[MX_PRIM_floordiv][MLAX_INT64](5, in, r);
  assert_true(r[0] == INT64_MIN && r[2] == INT64_MAX / 2 && r[4] == -4);
  loops->loop[MX_PRIM_mod][MLAX_INT64](5, in, r);
  assert_true(r[0] == 0 && r[3] == 1 && r[4] == 1);
  loops->loop[MX_PRIM_mul][MLAX_INT64](5, in, r);
  assert_true(r[0] == INT64_MIN && r[2] == -2);
  loops->loop[MX_PRIM_shift_right][MLAX_INT64](7, in, r);
  assert_true(r[5] == -1 && r[6] == 0);
  loops->loop[MX_PRIM_shift_left][MLAX_INT64](7, in, r);
  assert_true(r[5] == 0 && r[6] == 0);
}

static void maximum_and_minimum_order_zeros_and_pass_nan(void **state) {
  float x[] = {0, -0.f, NAN, 1, -INFINITY}, y[] = {-0.f, 0, 1, NAN, -0.f}, r[5];
  const mx_arithmetic_loops *loops = MX_SIMD_PICK(mx_arithmetic_loops);
  const void *in[] = {x, y};
  (void)state;
  loops->loop[MX_PRIM_maximum][MLAX_FLOAT32](5, in, r);
  assert_true(!signbit(r[0]) && !signbit(r[1]) && isnan(r[2]) && isnan(r[3]) && r[4] == 0);
  loops->loop[MX_PRIM_minimum][MLAX_FLOAT32](5, in, r);
  assert_true(signbit(r[0]) && signbit(r[1]) && isnan(r[2]) && isnan(r[3]) && r[4] == -INFINITY);
}

/* -- tensors ------------------------------------------------------------------------------------------------------- */

typedef struct tensor {
  mx_aval aval;
  int64_t strides[MX_MAX_NDIM];
  char *memory;
  mx_tensor t;
} tensor;

static uint64_t seed = 1;
static int random_int(int n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int)((seed >> 33) % (uint64_t)n);
}
static double random_value(void) { return (random_int(4001) - 2000) / 16.0; }

/* A tensor of this shape in a random layout: axes in any order in memory, some reversed, some with gaps; or in a row.
 */
static void tensor_make(tensor *x, int dtype, int ndim, const int64_t *shape, bool in_a_row) {
  int64_t step = (int64_t)mx_itemsize(dtype), start = 0;
  assert_true(mx_aval_make(&ctx, &x->aval, dtype, ndim, shape));
  mx_strides_contiguous(&x->aval, x->strides);
  if (!in_a_row) {
    int order[MX_MAX_NDIM];
    for (int i = 0; i < ndim; i++) order[i] = i;
    for (int i = ndim - 1; i > 0; i--) {
      int k = random_int(i + 1), o = order[i];
      order[i] = order[k], order[k] = o;
    }
    for (int i = 0; i < ndim; i++) {
      x->strides[order[i]] = step;
      step *= shape[order[i]] + random_int(3) / 2;
    }
    for (int i = 0; i < ndim; i++)
      if (random_int(3) == 0 && shape[i] > 0) start += (shape[i] - 1) * x->strides[i], x->strides[i] = -x->strides[i];
  } else step *= x->aval.size;
  size_t bytes = step > 0 ? (size_t)step : 1;
  x->memory = malloc(bytes);
  assert_non_null(x->memory);
  for (size_t i = 0; i + mx_itemsize(dtype) <= bytes; i += mx_itemsize(dtype))
    mx_store_double(dtype, x->memory + i, random_value());
  x->t = (mx_tensor){x->memory + start, &x->aval, x->strides, mx_strides_are_contiguous(&x->aval, x->strides)};
}

/* Element i, in row-major order, of x seen in the shape of `out`. */
static const char *element(const tensor *x, const mx_aval *out, int64_t i) {
  int64_t strides[MX_MAX_NDIM];
  const char *p = x->t.data;
  mx_strides_broadcast(&x->aval, x->strides, out, strides);
  for (int k = out->ndim - 1; k >= 0; k--) {
    p += i % out->shape[k] * strides[k];
    i /= out->shape[k];
  }
  return p;
}

/* A shape, and another that broadcasts against it. */
static int random_shape(int64_t *shape, int longest) {
  int ndim = random_int(4);
  for (int i = 0; i < ndim; i++) shape[i] = random_int(12) == 0 ? 0 : 1 + random_int(longest);
  return ndim;
}
static int random_part(int64_t *part, const int64_t *shape, int ndim) {
  int drop = random_int(3) == 0 ? random_int(ndim + 1) : 0;
  for (int i = drop; i < ndim; i++) part[i - drop] = random_int(3) == 0 ? 1 : shape[i];
  return ndim - drop;
}

static void run(const mx_primitive *p, const mx_params *params, const tensor *in, int n, tensor *out) {
  mx_tensor t[3];
  mx_kernel_args a = {.prim = p, .p = params, .n_in = n, .n_out = 1, .in = t, .out = &out->t};
  for (int i = 0; i < n; i++) t[i] = in[i].t;
  assert_true(mx_cpu.kernels[p->id](&ctx, &a));
}

static void check_add(int dtype, int ndim, const int64_t *shape) {
  int64_t part[MX_MAX_NDIM];
  tensor in[2], out;
  bool swap = random_int(2);
  tensor_make(&in[swap], dtype, ndim, shape, random_int(3) == 0);
  tensor_make(&in[!swap], dtype, random_part(part, shape, ndim), part, random_int(3) == 0);
  tensor_make(&out, dtype, ndim, shape, true);
  run(&mx_prim_add, NULL, in, 2, &out);
  for (int64_t i = 0; i < out.aval.size; i++) {
    char want[8];
    mx_store_double(dtype, want,
                    mx_load_double(dtype, element(&in[0], &out.aval, i)) +
                        mx_load_double(dtype, element(&in[1], &out.aval, i)));
    assert_memory_equal(out.memory + i * (int64_t)mx_itemsize(dtype), want, mx_itemsize(dtype));
  }
  free(in[0].memory), free(in[1].memory), free(out.memory);
}

static void every_layout_adds_up(void **state) {
  static const int dtypes[] = {MLAX_FLOAT32, MLAX_FLOAT64, MLAX_FLOAT16, MLAX_BFLOAT16, MLAX_INT16, MLAX_INT64};
  int64_t shape[MX_MAX_NDIM];
  (void)state;
  for (int i = 0; i < 1500; i++) {
    int ndim = random_shape(shape, i % 10 ? 12 : 90);
    check_add(dtypes[random_int((int)COUNT(dtypes))], ndim, shape);
  }
  for (int i = 0; i < 12; i++) check_add(dtypes[i % 4], 2, (int64_t[]){300 + random_int(300), 300 + random_int(300)});
}

static void select_takes_every_layout(void **state) {
  static const int dtypes[] = {MLAX_INT8, MLAX_FLOAT16, MLAX_FLOAT32, MLAX_FLOAT64};
  int64_t shape[MX_MAX_NDIM], part[MX_MAX_NDIM];
  (void)state;
  for (int k = 0; k < 300; k++) {
    int ndim = random_shape(shape, 20), dtype = dtypes[k % 4];
    size_t size = mx_itemsize(dtype);
    tensor in[3], out;
    tensor_make(&in[0], MLAX_BOOL, random_part(part, shape, ndim), part, false);
    tensor_make(&in[1], dtype, ndim, shape, random_int(2));
    tensor_make(&in[2], dtype, random_part(part, shape, ndim), part, false);
    tensor_make(&out, dtype, ndim, shape, true);
    run(&mx_prim_select, NULL, in, 3, &out);
    for (int64_t i = 0; i < out.aval.size; i++)
      assert_memory_equal(out.memory + i * (int64_t)size,
                          element(&in[*element(&in[0], &out.aval, i) ? 1 : 2], &out.aval, i), size);
    for (int i = 0; i < 3; i++) free(in[i].memory);
    free(out.memory);
  }
}

static void check_copy(int dtype, int ndim, const int64_t *shape) {
  tensor x, out;
  tensor_make(&x, dtype, ndim, shape, false);
  tensor_make(&out, dtype, ndim, shape, true);
  mx_cpu_copy(&ctx, &x.t, out.memory);
  for (int64_t i = 0; i < out.aval.size; i++)
    assert_memory_equal(out.memory + i * (int64_t)mx_itemsize(dtype), element(&x, &x.aval, i), mx_itemsize(dtype));
  free(x.memory), free(out.memory);
}

static void copies_are_row_major(void **state) {
  static const int dtypes[] = {MLAX_UINT8, MLAX_INT16, MLAX_FLOAT32, MLAX_INT64};
  int64_t shape[MX_MAX_NDIM];
  (void)state;
  for (int i = 0; i < 500; i++) check_copy(dtypes[i % 4], random_shape(shape, 80), shape);
  for (int i = 0; i < 8; i++) check_copy(dtypes[i % 4], 2, (int64_t[]){200 + random_int(300), 200 + random_int(300)});
}

/* -- conversions --------------------------------------------------------------------------------------------------- */

/* Every pair of dtypes, against the one-element conversion of array/dtype.c. */
static void check_conversion(int from, int to, const double *values, int n) {
  mx_params p = {.convert = {to}};
  tensor x, out;
  tensor_make(&x, from, 1, (int64_t[]){n}, true);
  tensor_make(&out, to, 1, (int64_t[]){n}, true);
  for (int i = 0; i < n; i++) mx_store_double(from, x.memory + i * (int)mx_itemsize(from), values[i]);
  run(&mx_prim_convert, &p, &x, 1, &out);
  for (int i = 0; i < n; i++) {
    const char *v = x.memory + i * (int)mx_itemsize(from), *got = out.memory + i * (int)mx_itemsize(to);
    char want[8];
    mx_convert_strided(from, v, 0, to, want, 0, 1);
    if (memcmp(got, want, mx_itemsize(to)) != 0 &&
        !(mx_is_float(to) && isnan(mx_load_double(to, got)) && isnan(mx_load_double(to, want))))
      fail_msg("%s %.17g to %s: %.17g, want %.17g", mx_dtype_name(from), mx_load_double(from, v), mx_dtype_name(to),
               mx_load_double(to, got), mx_load_double(to, want));
  }
  free(x.memory), free(out.memory);
}

static void every_pair_of_dtypes_converts(void **state) {
  double values[] = {0,
                     -0.0,
                     0.9,
                     -0.9,
                     1,
                     -1,
                     127,
                     128,
                     -128,
                     -129,
                     255,
                     256,
                     32767,
                     32768,
                     65504,
                     65519,
                     65520,
                     65535,
                     65536,
                     -32769,
                     2147483647,
                     2147483648,
                     -2147483648.0,
                     -2147483649.0,
                     4294967295,
                     4294967296,
                     9.2233720368547748e18,
                     9.3e18,
                     -9.3e18,
                     1.8446744073709550e19,
                     1.9e19,
                     1e30,
                     -1e30,
                     1e39,
                     3.4e38,
                     1e300,
                     INFINITY,
                     -INFINITY,
                     NAN,
                     6e-8,
                     2.98e-8,
                     2.99e-8,
                     1e-40,
                     1e-300,
                     1.00048828125,
                     1.0004882812500002,
                     1.00146484375,
                     1.00390625,
                     1.0039062500000002,
                     16777217,
                     16777219,
                     33554433,
                     1.5,
                     2.5,
                     3.14159265358979,
                     1e-5,
                     -6.1e-5,
                     5.9604644775390625e-8,
                     123456789012345};
  (void)state;
  for (int from = 0; from < MX_DTYPE_COUNT; from++)
    for (int to = 0; to < MX_DTYPE_COUNT; to++) check_conversion(from, to, values, (int)COUNT(values));
}

static void all_halves_go_through_float_and_back(void **state) {
  const mx_math_loops *math[3];
  const mx_arithmetic_loops *arithmetic[3];
  const mx_convert_loops *convert[3];
  static uint16_t h[65536], back[65536];
  static float f[65536];
  int n = sets(math, arithmetic, convert);
  (void)state;
  for (int i = 0; i < 65536; i++) h[i] = (uint16_t)i;
  for (int s = 0; s < n; s++)
    for (int dtype = MLAX_FLOAT16; dtype <= MLAX_BFLOAT16; dtype++) {
      convert[s]->convert[dtype][MLAX_FLOAT32](65536, (const void *[]){h}, f);
      convert[s]->convert[MLAX_FLOAT32][dtype](65536, (const void *[]){f}, back);
      for (int i = 0; i < 65536; i++) {
        float want = dtype == MLAX_FLOAT16 ? mx_float_of_half(h[i]) : mx_float_of_bfloat(h[i]);
        if (isnan(want)) assert_true(isnan(f[i]));
        else assert_true(memcmp(&want, &f[i], 4) == 0 && back[i] == h[i]);
      }
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(float_functions_keep_their_bounds),
      cmocka_unit_test(every_set_has_the_same_exp),
      cmocka_unit_test(float_functions_of_two_keep_their_bounds),
      cmocka_unit_test(polygammas_are_known),
      cmocka_unit_test(integers_wrap_floor_and_never_trap),
      cmocka_unit_test(the_widest_integers_wrap_too),
      cmocka_unit_test(maximum_and_minimum_order_zeros_and_pass_nan),
      cmocka_unit_test(every_layout_adds_up),
      cmocka_unit_test(select_takes_every_layout),
      cmocka_unit_test(copies_are_row_major),
      cmocka_unit_test(every_pair_of_dtypes_converts),
      cmocka_unit_test(all_halves_go_through_float_and_back),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
