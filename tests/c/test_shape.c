/* test_shape.c: operations that move elements, against index arithmetic: of any layout, as views and as kernels, under
 * transformations. */
#include "../../src/device/device.h"
#include "arrays.h"

/* -- positions ----------------------------------------------------------------------------------------------------- */

static void next(const mx_dims *shape, int64_t *at) {
  for (int i = (int)shape->n - 1; i >= 0; i--) {
    if (++at[i] < shape->v[i]) return;
    at[i] = 0;
  }
}

static int64_t index_of(const mx_dims *shape, const int64_t *at) {
  int64_t p = 0;
  for (int i = 0; i < shape->n; i++) p = p * shape->v[i] + at[i];
  return p;
}

/* The same operation by its kernel, also where it could have been a view. */
static mx_array *by_kernel(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *x, const mx_aval *out) {
  mx_array *y = mx_keep(c, mx_array_new(c, out));
  mx_tensor in = {mx_data(x), &x->aval, x->strides, x->contiguous}, to = {mx_data(y), out, y->strides, true};
  mx_kernel_args a = {.prim = prim, .p = p, .n_in = 1, .n_out = 1, .in = &in, .out = &to};
  assert_true(mx_cpu.kernels[prim->id](c, &a));
  return y;
}

/* y[at] = x[from(at)] for every position, of the result of mx_bind and of the kernel. */
static void check_moves(world *w, const mx_primitive *prim, const mx_params *p, mx_array *x, const mx_dims *shape,
                        void (*from)(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to)) {
  mx_ctx *c = &w->ctx;
  mx_array *y = mx_bind1(c, prim, p, &x, 1);
  if (!y) fail_msg("%s of %s: %s", prim->name, mx_dtype_name(x->aval.dtype), c->error.text);
  mx_dims of_x = mx_dims_shape(&x->aval), of_y = mx_dims_shape(&y->aval);
  int64_t at[MX_MAX_NDIM] = {0}, to[MX_MAX_NDIM] = {0};
  assert_int_equal(of_y.n, shape->n);
  assert_memory_equal(of_y.v, shape->v, (size_t)shape->n * sizeof(int64_t));
  mx_array *copy = y->aval.size ? by_kernel(c, prim, p, x, &y->aval) : y;
  double *a = read_doubles(x), *b = read_doubles(y), *d = read_doubles(copy);
  for (int64_t i = 0; i < y->aval.size; i++, next(shape, at)) {
    from(p, &of_x, at, to);
    double want = a[index_of(&of_x, to)];
    if (b[i] != want || d[i] != want) fail_msg("%s: %g and %g, want %g", prim->name, b[i], d[i], want);
  }
  free(a), free(b), free(d);
}

/* -- views --------------------------------------------------------------------------------------------------------- */

static int64_t lead; /* how many axes a broadcast puts before */

static void from_broadcast(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to) {
  (void)p;
  for (int i = 0; i < shape->n; i++) to[i] = shape->v[i] == 1 ? 0 : at[i + lead];
}

static void from_transpose(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to) {
  for (int i = 0; i < shape->n; i++) to[p->axes.axes.v[i]] = at[i];
}

static void from_reverse(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to) {
  for (int i = 0; i < shape->n; i++) to[i] = mx_dims_has(&p->axes.axes, i) ? shape->v[i] - 1 - at[i] : at[i];
}

static void from_slice(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to) {
  for (int i = 0; i < shape->n; i++) to[i] = p->slice.start.v[i] + at[i] * p->slice.step.v[i];
}

static void from_reshape(const mx_params *p, const mx_dims *shape, const int64_t *at, int64_t *to) {
  int64_t position = index_of(&p->shape.shape, at);
  for (int i = (int)shape->n - 1; i >= 0; i--) {
    to[i] = position % shape->v[i];
    position /= shape->v[i];
  }
}

static void check_broadcast(world *w, int dtype, const mx_dims *shape) {
  mx_params p = {.shape = {*shape}};
  mx_dims small = *shape;
  lead = pick(w, 0, shape->n);
  for (int i = 0; i < lead; i++) small = mx_dims_remove(&small, 0);
  for (int i = 0; i < small.n; i++)
    if (pick(w, 0, 1)) small.v[i] = 1;
  check_moves(w, &mx_prim_broadcast, &p, random_layout(w, dtype, &small), shape, from_broadcast);
}

static void check_slice(world *w, int dtype, const mx_dims *shape) {
  mx_params p = {.slice = {{.n = shape->n}, {.n = shape->n}, {.n = shape->n}}};
  mx_dims out = {.n = shape->n};
  for (int i = 0; i < shape->n; i++) {
    int64_t a = pick(w, 0, shape->v[i]), b = pick(w, 0, shape->v[i]), step = pick(w, 1, 3);
    p.slice.start.v[i] = a < b ? a : b, p.slice.limit.v[i] = a < b ? b : a, p.slice.step.v[i] = step;
    for (int64_t k = p.slice.start.v[i]; k < p.slice.limit.v[i]; k += step) out.v[i]++;
  }
  check_moves(w, &mx_prim_slice, &p, random_layout(w, dtype, shape), &out, from_slice);
}

static void check_turns(world *w, int dtype, const mx_dims *shape) {
  mx_params p = {.axes = {random_order(w, (int)shape->n)}}, q = {.axes = {{0}}};
  mx_dims out = {.n = shape->n};
  for (int i = 0; i < shape->n; i++) {
    out.v[i] = shape->v[p.axes.axes.v[i]];
    if (pick(w, 0, 1)) q.axes.axes.v[q.axes.axes.n++] = i;
  }
  check_moves(w, &mx_prim_transpose, &p, random_layout(w, dtype, shape), &out, from_transpose);
  check_moves(w, &mx_prim_reverse, &q, random_layout(w, dtype, shape), shape, from_reverse);
}

/* Another shape with as many elements: prime factors dealt out anew, with some axes of 1. */
static mx_dims redealt(world *w, const mx_dims *shape) {
  mx_dims out = {.n = pick(w, 1, 5)};
  for (int i = 0; i < out.n; i++) out.v[i] = 1;
  for (int i = 0; i < shape->n; i++) {
    int64_t n = shape->v[i];
    if (n == 0) out.v[pick(w, 0, out.n - 1)] = 0;
    for (int64_t f = 2; n > 1; f++)
      for (; n % f == 0; n /= f) out.v[pick(w, 0, out.n - 1)] *= f;
  }
  return out;
}

static void check_reshape(world *w, int dtype, const mx_dims *shape) {
  mx_params p = {.shape = {redealt(w, shape)}};
  mx_array *x = pick(w, 0, 1) ? random_layout(w, dtype, shape) : random_array(w, dtype, shape);
  check_moves(w, &mx_prim_reshape, &p, x, &p.shape.shape, from_reshape);
}

static void test_views(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 650; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 0, 4), pick(&w, 0, 9) ? 1 : 0, 6);
    int dtype = i % MX_DTYPE_COUNT;
    check_broadcast(&w, dtype, &shape);
    check_slice(&w, dtype, &shape);
    check_turns(&w, dtype, &shape);
    check_reshape(&w, dtype, &shape);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* A reshape shares the buffer wherever strides permit: an axis may be split, and what lies behind one another merged.
 */
static void test_reshape_shares(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = random_array(&w, MLAX_FLOAT32, &(mx_dims){3, {4, 6, 10}});
  mx_array *part = mx_slice_axis(c, x, 2, 0, 5), *turned = mx_transpose(c, x, &(mx_dims){3, {2, 0, 1}});
  assert_ptr_equal(mx_reshape(c, part, &(mx_dims){2, {24, 5}})->buffer, x->buffer);
  assert_ptr_equal(mx_reshape(c, turned, &(mx_dims){4, {2, 5, 1, 24}})->buffer, x->buffer);
  assert_ptr_not_equal(mx_reshape(c, part, &(mx_dims){2, {4, 30}})->buffer, x->buffer);
  assert_ptr_equal(mx_reshape(c, x, &(mx_dims){3, {4, 6, 10}}), x);
  world_close(&w);
}

/* -- concat, pad, iota --------------------------------------------------------------------------------------------- */

static void check_concat(world *w, int dtype) {
  mx_ctx *c = &w->ctx;
  mx_dims shape = random_shape(w, (int)pick(w, 1, 3), 1, 5), whole;
  int axis = (int)pick(w, 0, shape.n - 1), n = (int)pick(w, 1, 5);
  mx_array *x[5];
  for (int k = 0; k < n; k++) {
    shape.v[axis] = pick(w, 0, 4);
    x[k] = random_layout(w, dtype, &shape);
  }
  mx_array *y = mx_concat(c, x, n, axis);
  if (!y) fail_msg("%s", c->error.text);
  int64_t start = 0;
  for (int k = 0; k < n; k++) {
    int64_t limit = start + x[k]->aval.shape[axis];
    assert_same(mx_slice_axis(c, y, axis, start, limit), x[k], 0);
    start = limit;
  }
  whole = mx_dims_shape(&y->aval);
  assert_int_equal(whole.v[axis], start);
  for (int k = 0; k < n; k++) x[k] = x[0];
  mx_array *s = mx_stack(c, x, n, axis);
  assert_same(mx_squeeze(c, mx_slice_axis(c, s, axis, n - 1, n), axis), x[0], 0);
}

/* Position i of x goes to lo + i (interior + 1), where that lies inside. */
static void check_pad(world *w, int dtype) {
  mx_ctx *c = &w->ctx;
  mx_dims shape = random_shape(w, (int)pick(w, 0, 3), pick(w, 0, 9) ? 1 : 0, 5), lo = {.n = shape.n}, hi = lo, in = lo,
          to;
  for (int i = 0; i < shape.n; i++) {
    in.v[i] = pick(w, 0, 2);
    int64_t n = shape.v[i] + (shape.v[i] ? (shape.v[i] - 1) * in.v[i] : 0);
    lo.v[i] = pick(w, -n, 3);
    hi.v[i] = pick(w, -(n + lo.v[i]), 3);
  }
  mx_array *x = random_layout(w, dtype, &shape), *value = mx_scalar(c, dtype, 1);
  mx_array *y = mx_pad(c, x, value, &lo, &hi, &in);
  if (!y) fail_msg("%s", c->error.text);
  to = mx_dims_shape(&y->aval);
  double *a = read_doubles(x), *b = read_doubles(y);
  int64_t at[MX_MAX_NDIM] = {0}, of[MX_MAX_NDIM];
  for (int64_t i = 0; i < y->aval.size; i++, next(&to, at)) {
    bool inside = true;
    for (int k = 0; k < shape.n; k++) {
      int64_t d = at[k] - lo.v[k];
      of[k] = d / (in.v[k] + 1);
      inside &= d >= 0 && d % (in.v[k] + 1) == 0 && of[k] < shape.v[k];
    }
    assert_true(b[i] == (inside ? a[index_of(&shape, of)] : 1));
  }
  free(a), free(b);
}

static void check_iota(world *w, int dtype) {
  mx_dims shape = random_shape(w, (int)pick(w, 1, 3), 0, 5);
  int axis = (int)pick(w, 0, shape.n - 1);
  mx_array *x = mx_iota(&w->ctx, dtype, &shape, axis);
  if (dtype == MLAX_BOOL) {
    assert_null(x);
    assert_error(&w->ctx, "bool");
    return;
  }
  double *v = read_doubles(x);
  int64_t at[MX_MAX_NDIM] = {0};
  for (int64_t i = 0; i < x->aval.size; i++, next(&shape, at)) assert_true(v[i] == (double)at[axis]);
  free(v);
}

static void test_joins(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 650; i++) {
    check_concat(&w, i % MX_DTYPE_COUNT);
    check_pad(&w, i % MX_DTYPE_COUNT);
    check_iota(&w, i % MX_DTYPE_COUNT);
    mx_frame_release(c, 0);
  }
  mx_array *big[2] = {random_array(&w, MLAX_FLOAT32, &(mx_dims){2, {400, 300}}),
                      random_array(&w, MLAX_FLOAT32, &(mx_dims){2, {400, 301}})};
  mx_array *y = mx_concat(c, big, 2, 1); /* in parallel */
  assert_same(mx_slice_axis(c, y, 1, 300, 601), big[1], 0);
  world_close(&w);
}

static void test_sum_to(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 200; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 0, 3), 1, 4), small = shape;
    for (int64_t k = pick(&w, 0, shape.n); k > 0; k--) small = mx_dims_remove(&small, 0);
    for (int k = 0; k < small.n; k++)
      if (pick(&w, 0, 1)) small.v[k] = 1;
    mx_array *x = random_layout(&w, MLAX_FLOAT64, &shape), *like = random_array(&w, MLAX_FLOAT64, &small);
    mx_array *y = mx_sum_to(c, x, &like->aval);
    assert_true(mx_shape_equal(&y->aval, &like->aval)); /* <x, broadcast l> = <sum_to x, l> */
    assert_same(dot_of(c, x, mx_broadcast(c, like, &shape)), dot_of(c, y, like), 1e-12);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_wrong_shapes(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = random_array(&w, MLAX_FLOAT32, &(mx_dims){2, {2, 3}}), *zero = mx_scalar(c, MLAX_FLOAT32, 0);
  assert_null(mx_broadcast(c, x, &(mx_dims){2, {4, 3}}));
  assert_error(c, "float32[2,3] does not broadcast to {4, 3}");
  assert_null(mx_broadcast(c, x, &(mx_dims){1, {3}}));
  assert_error(c, "does not broadcast");
  assert_null(mx_reshape(c, x, &(mx_dims){1, {5}}));
  assert_error(c, "number of elements");
  assert_null(mx_reshape(c, x, &(mx_dims){2, {-2, -3}}));
  assert_error(c, "negative");
  assert_null(mx_transpose(c, x, &(mx_dims){2, {0, 0}}));
  assert_error(c, "permutation");
  assert_null(mx_slice(c, x, &(mx_dims){2, {0, 2}}, &(mx_dims){2, {2, 4}}, NULL));
  assert_error(c, "out of range");
  assert_null(mx_pad(c, x, zero, &(mx_dims){2, {-2, 0}}, &(mx_dims){2, {-1, 0}}, NULL));
  assert_error(c, "cut more");
  assert_null(mx_pad(c, x, zero, &(mx_dims){2, {INT64_MAX, 0}}, &(mx_dims){2, {1, 0}}, NULL));
  assert_true(mx_failed(c));
  mx_clear(c);
  assert_null(mx_concat(c, (mx_array *[]){x, zero}, 2, 0));
  assert_error(c, "do not fit");
  assert_null(mx_concat(c, NULL, 0, 0));
  assert_error(c, "nothing to join");
  assert_null(mx_squeeze(c, x, 0));
  assert_error(c, "squeezed");
  assert_null(mx_reverse(c, x, &(mx_dims){2, {1, 1}}));
  assert_error(c, "twice");
  world_close(&w);
}

/* -- transformations ----------------------------------------------------------------------------------------------- */

typedef struct application {
  int what;
  mx_dims a, b, c;
} application;

static bool apply(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const application *a = state;
  mx_array *y;
  (void)n;
  switch (a->what) {
  case 0: y = mx_broadcast(c, in[0], &a->a); break;
  case 1: y = mx_reshape(c, in[0], &a->a); break;
  case 2: y = mx_transpose(c, in[0], &a->a); break;
  case 3: y = mx_reverse(c, in[0], &a->a); break;
  case 4: y = mx_slice(c, in[0], &a->a, &a->b, &a->c); break;
  case 5: y = mx_concat(c, (mx_array *[]){in[0], in[1], in[0]}, 3, (int)a->a.v[0]); break;
  default:
    y = mx_pad(c, in[0], mx_reshape(c, mx_sum(c, in[1], NULL, false), &(mx_dims){0}), &a->a, &a->b, &a->c);
    break;
  }
  return y && mx_list_add(c, out, y);
}

static application random_application(world *w, int what, mx_dims *shape) {
  application f = {.what = what};
  int n = (int)shape->n;
  switch (what) {
  case 0:
    f.a = mx_dims_insert(shape, 0, 2);
    shape->v[0] = 1;
    break;
  case 1: f.a = redealt(w, shape); break;
  case 2: f.a = random_order(w, n); break;
  case 3: f.a = (mx_dims){1, {pick(w, 0, n - 1)}}; break;
  case 5: f.a.v[0] = pick(w, 0, n - 1); break;
  default:
    f.a.n = f.b.n = f.c.n = n;
    for (int i = 0; i < n; i++) {
      f.a.v[i] = what == 4 ? pick(w, 0, shape->v[i]) : pick(w, -1, 2);
      f.b.v[i] = what == 4 ? pick(w, f.a.v[i], shape->v[i]) : pick(w, 0, 2);
      f.c.v[i] = what == 4 ? pick(w, 1, 2) : pick(w, 0, 2);
    }
  }
  return f;
}

static void test_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 210; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, 4);
    application f = random_application(&w, i % 7, &shape);
    mx_array *in[2] = {random_layout(&w, MLAX_FLOAT64, &shape), random_layout(&w, MLAX_FLOAT64, &shape)};
    int n = f.what >= 5 ? 2 : 1;
    check_derivative(&w, (mx_function){apply, &f}, in, n, n, 1e-7);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 420; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, 4);
    application f = random_application(&w, i % 7, &shape);
    int axes[2], n = f.what >= 5 ? 2 : 1, which = i / 7 % 3;
    mx_array *in[2] = {random_mapped(&w, MLAX_FLOAT64, &shape, 3, n == 1 || which != 0, &axes[0]),
                       random_mapped(&w, MLAX_FLOAT64, &shape, 3, which != 1, &axes[1])};
    check_batch(&w, (mx_function){apply, &f}, in, axes, n, 3, 0);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------- */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_dims one = {2, {1, 1}}, none = {2, {0, 0}};
  mx_array *x = mx_iota(&c, MLAX_FLOAT32, &(mx_dims){2, {20, 30}}, 1), *y = mx_transpose(&c, x, &(mx_dims){2, {1, 0}});
  bool ok = mx_reshape(&c, y, &(mx_dims){1, {600}}) && mx_concat(&c, (mx_array *[]){x, x}, 2, 0) &&
            mx_stack(&c, (mx_array *[]){y, y}, 2, 2) &&
            mx_pad(&c, x, mx_scalar(&c, MLAX_FLOAT32, 1), &one, &none, &one);
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
      cmocka_unit_test(test_views),  cmocka_unit_test(test_reshape_shares),      cmocka_unit_test(test_joins),
      cmocka_unit_test(test_sum_to), cmocka_unit_test(test_wrong_shapes),        cmocka_unit_test(test_derivatives),
      cmocka_unit_test(test_batch),  cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
