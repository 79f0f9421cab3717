/* test_reduce.c: reductions, scans and normalisations against the plain definition, in every dtype and layout, under
 * transformations. */
#include "arrays.h"

/* -- the plain definition ------------------------------------------------------------------------------------------ */

typedef enum { SUM, PROD, MAX, MIN, ANY, ALL, KINDS } kind;

static mx_array *reduce(mx_ctx *c, kind k, mx_array *x, const mx_dims *axes, bool keepdims) {
  static mx_array *(*const f[KINDS])(mx_ctx *, mx_array *, const mx_dims *, bool) = {mx_sum, mx_prod, mx_max,
                                                                                     mx_min, mx_any,  mx_all};
  return f[k](c, x, axes, keepdims);
}

/* In double; integers, which wrap, beside it. */
typedef struct number {
  double d;
  uint64_t i;
} number;

static double better(double a, double b, bool max) {
  if (isnan(a) || isnan(b)) return NAN;
  return max ? fmax(a, b) : fmin(a, b);
}

static number step(kind k, number a, number b) {
  switch (k) {
  case SUM: return (number){a.d + b.d, a.i + b.i};
  case PROD: return (number){a.d * b.d, a.i * b.i};
  case ANY: return (number){a.d || b.d != 0, 0};
  case ALL: return (number){a.d && b.d != 0, 0};
  default: return (number){better(a.d, b.d, k == MAX), 0};
  }
}

static const number start[KINDS] = {{0, 0}, {1, 1}, {-INFINITY, 0}, {INFINITY, 0}, {0, 0}, {1, 0}};

static int64_t position(const mx_dims *shape, const int64_t *at, const mx_dims *without) {
  int64_t p = 0;
  for (int i = 0; i < shape->n; i++)
    if (!without || !mx_dims_has(without, i)) p = p * shape->v[i] + at[i];
  return p;
}

static void next(const mx_dims *shape, int64_t *at) {
  for (int i = (int)shape->n - 1; i >= 0; i--) {
    if (++at[i] < shape->v[i]) return;
    at[i] = 0;
  }
}

static int result_dtype(kind k, int dtype) {
  if (k == ANY || k == ALL) return MLAX_BOOL;
  if (k > PROD) return dtype;
  switch (dtype) {
  case MLAX_BOOL:
  case MLAX_INT8:
  case MLAX_INT16: return MLAX_INT32;
  case MLAX_UINT8:
  case MLAX_UINT16: return MLAX_UINT32;
  default: return dtype;
  }
}

/* Of x over the axes, as an array. */
static mx_array *reference(mx_ctx *c, kind k, mx_array *x, const mx_dims *axes) {
  mx_dims shape = mx_dims_shape(&x->aval), rest = {0};
  int dtype = result_dtype(k, x->aval.dtype);
  int64_t at[MX_MAX_NDIM] = {0};
  for (int i = 0; i < shape.n; i++)
    if (!mx_dims_has(axes, i)) rest.v[rest.n++] = shape.v[i];
  mx_array *y = make(c, dtype, &rest);
  number *r = malloc((size_t)(y->aval.size + 1) * sizeof *r);
  for (int64_t j = 0; j < y->aval.size; j++) r[j] = start[k];
  double *d = read_doubles(x);
  int64_t *n = read_ints(x);
  for (int64_t i = 0; i < x->aval.size; i++, next(&shape, at)) {
    number *to = &r[position(&shape, at, axes)];
    *to = step(k, *to, (number){d[i], (uint64_t)n[i]});
  }
  for (int64_t j = 0; j < y->aval.size; j++) {
    char *p = mx_data(y) + (size_t)j * mx_itemsize(dtype);
    if (k <= PROD && !mx_is_float(dtype)) mx_store_int(dtype, p, (int64_t)r[j].i);
    else mx_store_double(dtype, p, r[j].d);
  }
  free(r), free(d), free(n);
  return y;
}

static mx_dims random_axes(world *w, int64_t ndim) {
  mx_dims axes = {0};
  for (int i = 0; i < ndim; i++)
    if (pick(w, 0, 1)) axes.v[axes.n++] = i;
  return axes;
}

static double tolerance_of(kind k, int dtype) {
  double unit = dtype == MLAX_BFLOAT16 ? 1e-2 : dtype == MLAX_FLOAT16 ? 2e-3 : dtype == MLAX_FLOAT32 ? 1e-5 : 1e-13;
  return k == PROD || k == SUM ? unit : 0;
}

static bool has_empty(mx_array *x, const mx_dims *axes, mx_array *y) {
  for (int i = 0; i < axes->n; i++)
    if (x->aval.shape[axes->v[i]] == 0) return y->aval.size > 0;
  return false;
}

static void check_reduce(world *w, kind k, mx_array *x, const mx_dims *axes) {
  mx_ctx *c = &w->ctx;
  mx_array *want = reference(c, k, x, axes), *got = reduce(c, k, x, axes, false);
  if ((k == MAX || k == MIN) && has_empty(x, axes, want)) {
    assert_null(got);
    assert_error(c, "nothing to choose from");
    return;
  }
  if (!got) fail_msg("%s", c->error.text);
  assert_same(got, want, tolerance_of(k, want->aval.dtype));
}

/* -- small, of any layout ------------------------------------------------------------------------------------------ */

/* Small factors, so that products stay finite. */
static mx_array *factors(world *w, mx_array *x, kind k) {
  return k == PROD && mx_is_float(x->aval.dtype) ? mx_muls(&w->ctx, x, 0.25) : x;
}

static void test_reductions(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 1300; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 0, 4), pick(&w, 0, 9) ? 1 : 0, 6), axes = random_axes(&w, shape.n);
    kind k = (kind)pick(&w, 0, KINDS - 1);
    check_reduce(&w, k, factors(&w, random_layout(&w, i % MX_DTYPE_COUNT, &shape), k), &axes);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Each of the ways in which a reduction is cut. */
static void test_large(void **state) {
  (void)state;
  static const struct {
    mx_dims shape, axes;
  } cases[] = {
      {{1, {300000}}, {1, {0}}},          {{2, {3, 70000}}, {1, {1}}},      {{2, {70000, 3}}, {1, {0}}},
      {{2, {900, 700}}, {1, {0}}},        {{2, {900, 700}}, {1, {1}}},      {{3, {2, 5000, 2}}, {1, {1}}},
      {{3, {300, 40, 7}}, {1, {1}}},      {{3, {300, 40, 7}}, {2, {0, 2}}}, {{2, {20000, 3}}, {1, {1}}},
      {{3, {9000, 2, 3}}, {1, {1}}},      {{2, {2, 9000}}, {1, {0}}},       {{3, {50, 60, 70}}, {3, {0, 1, 2}}},
      {{4, {7, 65, 9, 33}}, {2, {1, 3}}}, {{2, {131073, 1}}, {1, {0}}},
  };
  static const int dtypes[] = {MLAX_FLOAT32, MLAX_INT32, MLAX_FLOAT64, MLAX_INT8, MLAX_BFLOAT16};
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int d = 0; d < 5; d++)
      for (int turn = 0; turn < 2; turn++) {
        mx_array *x =
            turn ? random_layout(&w, dtypes[d], &cases[i].shape) : random_array(&w, dtypes[d], &cases[i].shape);
        check_reduce(&w, pick(&w, 0, 1) ? SUM : MAX, x, &cases[i].axes);
        mx_frame_release(c, 0);
      }
  world_close(&w);
}

static mx_array *uniform(world *w, int dtype, const mx_dims *shape) {
  mx_array *x = make(&w->ctx, dtype, shape);
  for (int64_t i = 0; i < x->aval.size; i++)
    mx_store_double(dtype, mx_data(x) + (size_t)i * mx_itemsize(dtype),
                    (double)(next_bits(w) >> 11) / 9007199254740992.0);
  return x;
}

/* Sums of unequal numbers: near the truth, and the same bits with any number of threads. */
static void test_accuracy(void **state) {
  (void)state;
  static const mx_dims shapes[] = {{1, {2000003}}, {2, {100000, 5}}, {2, {3000, 700}}};
  float results[2][3][700];
  for (int threads = 1; threads <= 2; threads++) {
    world w;
    mx_ctx *c = world_open(&w, threads);
    for (int s = 0; s < 3; s++) {
      mx_dims axis = {1, {0}};
      mx_array *x = uniform(&w, MLAX_FLOAT32, &shapes[s]), *y = mx_sum(c, x, &axis, false);
      mx_array *wide = mx_sum(c, mx_convert(c, x, MLAX_FLOAT64), &axis, false);
      assert_same(mx_convert(c, y, MLAX_FLOAT64), wide, 3e-7);
      mx_array_read_all(y, results[threads - 1][s]);
      if (threads == 2) assert_memory_equal(results[0][s], results[1][s], mx_nbytes(&y->aval));
      mx_frame_release(c, 0);
    }
    world_close(&w);
  }
}

static void test_nan(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int n = 1; n < 300; n += 7) {
    mx_dims shape = {2, {n, 3}}, rows = {1, {0}}, turned = {2, {1, 0}};
    mx_array *x = random_array(&w, n % 2 ? MLAX_FLOAT32 : MLAX_FLOAT64, &shape);
    int64_t at = pick(&w, 0, n - 1);
    mx_store_double(x->aval.dtype, mx_data(x) + (size_t)(at * 3 + 1) * mx_itemsize(x->aval.dtype), NAN);
    check_reduce(&w, MAX, x, &rows);
    check_reduce(&w, MIN, mx_transpose(c, x, &turned), &(mx_dims){1, {1}});
    int64_t *p = read_ints(mx_argmax(c, x, 0)), *q = read_ints(mx_argmin(c, mx_transpose(c, x, &turned), 1));
    assert_int_equal(p[1], at);
    assert_int_equal(q[1], at);
    free(p), free(q);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- positions ----------------------------------------------------------------------------------------------------- */

static void check_position(world *w, mx_array *x, int axis, bool max) {
  mx_dims shape = mx_dims_shape(&x->aval), axes = {1, {axis}};
  mx_array *y = max ? mx_argmax(&w->ctx, x, axis) : mx_argmin(&w->ctx, x, axis);
  int64_t at[MX_MAX_NDIM] = {0};
  if (!y) fail_msg("%s", w->ctx.error.text);
  assert_int_equal(y->aval.dtype, MLAX_INT32);
  double *v = read_doubles(x), *best = malloc((size_t)y->aval.size * sizeof *best + 1);
  int64_t *got = read_ints(y), *want = calloc((size_t)y->aval.size + 1, sizeof *want);
  for (int64_t i = 0; i < x->aval.size; i++, next(&shape, at)) {
    int64_t p = position(&shape, at, &axes);
    if (at[axis] && !(max ? v[i] > best[p] : v[i] < best[p])) continue;
    best[p] = v[i], want[p] = at[axis];
  }
  for (int64_t p = 0; p < y->aval.size; p++) assert_int_equal(got[p], want[p]);
  free(v), free(best), free(got), free(want);
}

static void test_positions(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 520; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, i % 20 ? 7 : 90);
    check_position(&w, random_layout(&w, i % MX_DTYPE_COUNT, &shape), (int)pick(&w, 0, shape.n - 1), i % 2);
    mx_frame_release(c, 0);
  }
  mx_array *empty = make(c, MLAX_FLOAT32, &(mx_dims){2, {0, 3}});
  assert_null(mx_argmax(c, empty, 0));
  assert_error(c, "nothing to choose from");
  assert_int_equal(mx_argmin(c, empty, 1)->aval.size, 0);
  assert_null(mx_argmax(c, empty, 2));
  assert_error(c, "axis out of range");
  world_close(&w);
}

/* -- scans --------------------------------------------------------------------------------------------------------- */

static mx_array *scan(mx_ctx *c, kind k, mx_array *x, int axis, bool reverse) {
  static mx_array *(*const f[])(mx_ctx *, mx_array *, int, bool) = {mx_cumsum, mx_cumprod, mx_cummax, mx_cummin};
  return f[k](c, x, axis, reverse);
}

static mx_array *scan_reference(mx_ctx *c, kind k, mx_array *x, int axis, bool reverse) {
  mx_dims shape = mx_dims_shape(&x->aval);
  int dtype = x->aval.dtype;
  int64_t at[MX_MAX_NDIM] = {0}, stride = 1;
  mx_array *y = make(c, dtype, &shape);
  number *r = malloc((size_t)(x->aval.size + 1) * sizeof *r);
  double *d = read_doubles(x);
  int64_t *n = read_ints(x);
  for (int i = axis + 1; i < shape.n; i++) stride *= shape.v[i];
  if (reverse) stride = -stride;
  for (int64_t i = 0; i < x->aval.size; i++) r[i] = (number){d[i], (uint64_t)n[i]};
  for (int64_t round = 1; round < shape.v[axis]; round++) { /* position by position along the axis */
    int64_t place = reverse ? shape.v[axis] - 1 - round : round;
    memset(at, 0, sizeof at);
    for (int64_t i = 0; i < x->aval.size; i++, next(&shape, at))
      if (at[axis] == place) r[i] = step(k, r[i - stride], r[i]);
  }
  for (int64_t i = 0; i < x->aval.size; i++) {
    char *p = mx_data(y) + (size_t)i * mx_itemsize(dtype);
    if (k <= PROD && !mx_is_float(dtype)) mx_store_int(dtype, p, (int64_t)r[i].i);
    else mx_store_double(dtype, p, r[i].d);
  }
  free(r), free(d), free(n);
  return y;
}

static void test_scans(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 780; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), pick(&w, 0, 9) ? 1 : 0, i % 10 ? 6 : 40);
    kind k = (kind)pick(&w, SUM, MIN);
    int axis = (int)pick(&w, 0, shape.n - 1), dtype = i % MX_DTYPE_COUNT;
    bool reverse = pick(&w, 0, 1);
    if (dtype == MLAX_BOOL && k <= PROD) k = MAX;
    mx_array *x = factors(&w, random_layout(&w, dtype, &shape), k);
    if (mx_is_float(dtype) && x->aval.size && k > PROD && i % 3 == 0) x = mx_mul(c, x, mx_log(c, mx_sign(c, x)));
    assert_same(scan(c, k, x, axis, reverse), scan_reference(c, k, x, axis, reverse), tolerance_of(k, dtype));
    mx_frame_release(c, 0);
  }
  assert_null(mx_cumsum(c, make(c, MLAX_BOOL, &(mx_dims){1, {3}}), 0, false));
  assert_error(c, "bool has no sums");
  assert_null(mx_cummax(c, mx_scalar(c, MLAX_FLOAT32, 1), 0, false));
  assert_error(c, "axis out of range");
  world_close(&w);
}

/* -- normalisation ------------------------------------------------------------------------------------------------- */

typedef enum { LOGSUMEXP, SOFTMAX, LOG_SOFTMAX } form;

static mx_array *normalize(mx_ctx *c, form f, mx_array *x, int axis) {
  if (f == LOGSUMEXP) return mx_logsumexp(c, x, &(mx_dims){1, {axis}}, true);
  return f == SOFTMAX ? mx_softmax(c, x, axis) : mx_log_softmax(c, x, axis);
}

/* By its definition, in float64. */
static mx_array *normalize_reference(mx_ctx *c, form f, mx_array *x, int axis) {
  mx_dims axes = {1, {axis}};
  mx_array *wide = mx_convert(c, x, MLAX_FLOAT64), *y;
  mx_array *sum = reference(c, SUM, mx_exp(c, wide), &axes);
  sum = mx_expand(c, sum, axis);
  if (f == LOGSUMEXP) y = mx_log(c, sum);
  else if (f == SOFTMAX) y = mx_div(c, mx_exp(c, wide), sum);
  else y = mx_sub(c, wide, mx_log(c, sum));
  return mx_convert(c, y, x->aval.dtype);
}

static void test_normalize(void **state) {
  (void)state;
  static const int dtypes[] = {MLAX_FLOAT32, MLAX_FLOAT64, MLAX_FLOAT16, MLAX_BFLOAT16};
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 360; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), pick(&w, 0, 9) ? 1 : 0, i % 8 ? 7 : 70);
    int axis = (int)pick(&w, 0, shape.n - 1), dtype = dtypes[i % 4];
    form f = (form)(i % 3);
    if (i % 40 == 0) shape = (mx_dims){2, {3, 3000}}, axis = 1; /* longer than a block */
    mx_array *x = random_layout(&w, dtype, &shape), *y = normalize(c, f, x, axis);
    if (!y) fail_msg("%s", c->error.text);
    assert_same(y, normalize_reference(c, f, x, axis), 2 * tolerance_of(SUM, dtype));
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_infinities(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  static const float v[5][3] = {
      {-INFINITY, -INFINITY, -INFINITY}, {-INFINITY, 0, 1}, {INFINITY, 1, 2}, {1000, 1001, 999}, {NAN, 1, 2}};
  mx_array *x = make(c, MLAX_FLOAT32, &(mx_dims){2, {5, 3}});
  memcpy(mx_data(x), v, sizeof v);
  double *y = read_doubles(mx_logsumexp(c, x, &(mx_dims){1, {1}}, false));
  assert_true(y[0] == -INFINITY && y[2] == INFINITY && isnan(y[4]));
  assert_true(fabs(y[1] - 1.31326168751822) < 1e-6 && fabs(y[3] - 1001.40760596444) < 1e-4);
  double *s = read_doubles(mx_softmax(c, x, 1));
  assert_true(isnan(s[0]) && s[3] == 0 && fabs(s[9] - 0.24472847) < 1e-6 && isnan(s[13]));
  double *e = read_doubles(mx_logsumexp(c, make(c, MLAX_FLOAT32, &(mx_dims){2, {2, 0}}), &(mx_dims){1, {1}}, false));
  assert_true(e[0] == -INFINITY && e[1] == -INFINITY);
  mx_array *all = mx_logsumexp(c, x, NULL, true);
  assert_int_equal(all->aval.ndim, 2);
  free(y), free(s), free(e);
  world_close(&w);
}

static void test_moments(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = make_ints(c, MLAX_INT32, 4, (int64_t[]){1, 2, 3, 6});
  assert_true(mx_array_item_double(mx_mean(c, x, NULL, false)) == 3);
  assert_true(mx_array_item_double(mx_var(c, x, NULL, false, 0)) == 3.5);
  assert_true(fabs(mx_array_item_double(mx_var(c, x, NULL, false, 1)) - 14.0 / 3) < 1e-6);
  assert_true(isnan(mx_array_item_double(mx_var(c, x, NULL, false, 4))));
  assert_int_equal(mx_mean(c, x, NULL, false)->aval.dtype, MLAX_FLOAT32);
  assert_true(isnan(mx_array_item_double(mx_mean(c, make(c, MLAX_FLOAT16, &(mx_dims){1, {0}}), NULL, false))));
  assert_null(mx_sum(c, x, &(mx_dims){2, {0, 0}}, false));
  assert_error(c, "twice");
  assert_null(mx_sum(c, x, &(mx_dims){1, {1}}, false));
  assert_error(c, "axis out of range");
  world_close(&w);
}

/* -- transformations ----------------------------------------------------------------------------------------------- */

typedef struct application {
  int what; /* a reduction, 10 + a scan, 20 + a normalisation, 30 mean, 31 variance, 40 argmax */
  mx_dims axes;
  bool flag;
} application;

static bool apply(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const application *a = state;
  int axis = (int)a->axes.v[0];
  mx_array *y;
  (void)n;
  if (a->what < 10) y = reduce(c, (kind)a->what, in[0], &a->axes, a->flag);
  else if (a->what < 20) y = scan(c, (kind)(a->what - 10), in[0], axis, a->flag);
  else if (a->what < 30) y = normalize(c, (form)(a->what - 20), in[0], axis);
  else if (a->what == 40) y = mx_argmax(c, in[0], axis);
  else y = a->what == 30 ? mx_mean(c, in[0], &a->axes, a->flag) : mx_var(c, in[0], &a->axes, a->flag, 0);
  return y && mx_list_add(c, out, y);
}

/* The tangent of `apply` at in[0] along in[1]: its derivative is the second one. */
static bool tangent(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_list y = {0}, dy = {0};
  mx_array *t[1] = {in[1]};
  (void)n;
  bool ok = mx_jvp(c, (mx_function){apply, state}, in, t, 1, &y, &dy);
  ok = ok && mx_list_add(c, out, dy.items[0] ? dy.items[0] : mx_zeros(c, &y.items[0]->aval));
  mx_list_release(c, &y);
  mx_list_release(c, &dy);
  return ok;
}

static const int differentiable[] = {SUM, PROD, MAX, MIN, 10, 11, 12, 13, 20, 21, 22, 30, 31};
enum { N_DIFFERENTIABLE = sizeof differentiable / sizeof *differentiable };

static application random_application(world *w, int what, int64_t ndim) {
  application a = {.what = what, .axes = random_axes(w, ndim), .flag = pick(w, 0, 1)};
  if ((what >= 10 && what < 30) || what == 40) a.axes = (mx_dims){1, {pick(w, 0, ndim - 1)}};
  return a;
}

/* Different elements, none zero: extremes and products are smooth there. */
static mx_array *distinct(world *w, const mx_dims *shape) {
  mx_array *x = random_layout(w, MLAX_FLOAT64, shape);
  mx_array *spread = mx_iota(&w->ctx, MLAX_FLOAT64, &(mx_dims){1, {x->aval.size}}, 0);
  x = mx_add(&w->ctx, x, mx_muls(&w->ctx, mx_reshape(&w->ctx, mx_adds(&w->ctx, spread, 0.3), shape), 0.0137));
  return mx_muls(&w->ctx, x, 0.5);
}

static void test_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 12 * N_DIFFERENTIABLE; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, 4);
    application a = random_application(&w, differentiable[i % N_DIFFERENTIABLE], shape.n);
    mx_array *x = distinct(&w, &shape);
    check_derivative(&w, (mx_function){apply, &a}, &x, 1, 1, 2e-3);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_second_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 6 * N_DIFFERENTIABLE; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 2), 1, 4);
    application a = random_application(&w, differentiable[i % N_DIFFERENTIABLE], shape.n);
    mx_array *in[2] = {distinct(&w, &shape), random_array(&w, MLAX_FLOAT64, &shape)};
    check_derivative(&w, (mx_function){tangent, &a}, in, 2, 2, 5e-3);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Products at zeros, of which there are one, two, many. */
static void test_zero_products(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 40; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 2), 2, 4);
    application a = random_application(&w, i % 2 ? PROD : 11, shape.n);
    mx_array *in[2] = {mx_floor(c, mx_muls(c, random_array(&w, MLAX_FLOAT64, &shape), 0.3)),
                       random_array(&w, MLAX_FLOAT64, &shape)};
    check_derivative(&w, (mx_function){apply, &a}, in, 1, 1, 1e-4);
    check_derivative(&w, (mx_function){tangent, &a}, in, 2, 2, 1e-3);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_ties(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  application a = {.what = MAX, .axes = {1, {0}}};
  mx_array *x = make_ints(c, MLAX_FLOAT32, 4, (int64_t[]){2, 7, 7, 1}), *one = mx_scalar(c, MLAX_FLOAT32, 1);
  mx_list out = {0}, back = {0};
  mx_linear *l;
  assert_true(mx_linearize(c, (mx_function){apply, &a}, &x, (bool[]){true}, 1, &out, &l));
  assert_true(mx_linear_transpose(c, l, &one, &back));
  double *g = read_doubles(back.items[0]);
  assert_true(g[0] == 0 && g[1] == 0.5 && g[2] == 0.5 && g[3] == 0);
  free(g);
  mx_linear_release(l);
  mx_list_release(c, &out);
  mx_list_release(c, &back);
  world_close(&w);
}

static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 20 * (N_DIFFERENTIABLE + 1); i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, 4);
    int which = i % (N_DIFFERENTIABLE + 1), axis;
    application a = random_application(&w, which < N_DIFFERENTIABLE ? differentiable[which] : 40, shape.n);
    mx_array *x = random_mapped(&w, MLAX_FLOAT64, &shape, 3, true, &axis);
    check_batch(&w, (mx_function){apply, &a}, &x, &axis, 1, 3, 1e-12);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------- */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_dims shape = {2, {40, 30}}, axis = {1, {0}};
  mx_array *x = mx_iota(&c, MLAX_FLOAT32, &shape, 1), *half = mx_convert(&c, x, MLAX_FLOAT16);
  bool ok = mx_sum(&c, x, &axis, true) && mx_max(&c, half, NULL, false) && mx_argmax(&c, half, 0) &&
            mx_cumsum(&c, half, 0, true) && mx_softmax(&c, half, 0) && mx_logsumexp(&c, x, NULL, false);
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_failing_allocations(void **state) {
  (void)state;
  const char *problem = fault_sweep(use_all, NULL);
  if (problem) fail_msg("%s", problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reductions),
      cmocka_unit_test(test_large),
      cmocka_unit_test(test_accuracy),
      cmocka_unit_test(test_nan),
      cmocka_unit_test(test_positions),
      cmocka_unit_test(test_scans),
      cmocka_unit_test(test_normalize),
      cmocka_unit_test(test_infinities),
      cmocka_unit_test(test_moments),
      cmocka_unit_test(test_derivatives),
      cmocka_unit_test(test_second_derivatives),
      cmocka_unit_test(test_zero_products),
      cmocka_unit_test(test_ties),
      cmocka_unit_test(test_batch),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
