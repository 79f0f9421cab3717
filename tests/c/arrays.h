/* arrays.h: for tests of operations: an engine and a context, random arrays of any layout, reading, laws of derivatives
 * and batching. */
#ifndef TEST_ARRAYS_H
#define TEST_ARRAYS_H

#include "../../src/device/device.h"
#include "../../src/trace/trace.h"
#include "fault.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* -- an engine for each test -------------------------------------------------------------------------------------- */

typedef struct world {
  fault fault;
  mlax_engine *engine;
  mx_ctx ctx;
  uint64_t seed;
} world;

static inline mx_ctx *world_open(world *w, int threads) {
  mlax_error error;
  mlax_options options = fault_start(&w->fault);
  options.threads = threads;
  if (mlax_engine_new(&options, &w->engine, &error) != MLAX_OK) fail_msg("%s", error.text);
  assert_true(mx_ctx_init(&w->ctx, w->engine));
  w->seed = 42;
  return &w->ctx;
}

static inline void world_close(world *w) {
  if (mx_failed(&w->ctx)) fail_msg("%s", w->ctx.error.text);
  mx_frame_release(&w->ctx, 0);
  mx_ctx_close(&w->ctx);
  mlax_engine_release(w->engine);
  const char *problem = fault_end(&w->fault);
  if (problem) fail_msg("%s", problem);
}

#define assert_error(c, part)                                                                                          \
  do {                                                                                                                 \
    assert_true(mx_failed(c));                                                                                         \
    if (!strstr((c)->error.text, part)) fail_msg("'%s' has no '%s'", (c)->error.text, part);                           \
    mx_clear(c);                                                                                                       \
  } while (0)

/* -- numbers ------------------------------------------------------------------------------------------------------ */

static inline uint64_t next_bits(world *w) {
  w->seed ^= w->seed << 13;
  w->seed ^= w->seed >> 7;
  w->seed ^= w->seed << 17;
  return w->seed;
}
static inline int64_t pick(world *w, int64_t least, int64_t most) {
  return least + (int64_t)(next_bits(w) % (uint64_t)(most - least + 1));
}

/* -- arrays ------------------------------------------------------------------------------------------------------- */

static inline mx_array *make(mx_ctx *c, int dtype, const mx_dims *shape) {
  mx_aval a;
  assert_true(mx_aval_make(c, &a, dtype, (int)shape->n, shape->v));
  a.weak = false;
  mx_array *x = mx_keep(c, mx_array_new(c, &a));
  assert_non_null(x);
  return x;
}

static inline mx_array *make_ints(mx_ctx *c, int dtype, int n, const int64_t *v) {
  mx_dims shape = {.n = 1, .v = {n}};
  mx_array *x = make(c, dtype, &shape);
  for (int i = 0; i < n; i++) mx_store_int(dtype, mx_data(x) + (size_t)i * mx_itemsize(dtype), v[i]);
  return x;
}

/* Small numbers, of floats multiples of 1/8: sums of them are exact. */
static inline mx_array *random_array(world *w, int dtype, const mx_dims *shape) {
  mx_array *x = make(&w->ctx, dtype, shape);
  for (int64_t i = 0; i < x->aval.size; i++) {
    bool negative = mx_is_float(dtype) || mx_dtype_kind(dtype) == MX_KIND_INT;
    int64_t v = pick(w, negative ? -40 : 0, dtype == MLAX_BOOL ? 1 : 40);
    char *p = mx_data(x) + (size_t)i * mx_itemsize(dtype);
    if (mx_is_float(dtype)) mx_store_double(dtype, p, (double)v / 8);
    else mx_store_int(dtype, p, v);
  }
  return x;
}

static inline mx_dims random_shape(world *w, int ndim, int least, int most) {
  mx_dims shape = {.n = ndim};
  for (int i = 0; i < ndim; i++) shape.v[i] = pick(w, least, most);
  return shape;
}

static inline mx_dims random_order(world *w, int n) {
  mx_dims order = mx_dims_range(n);
  for (int i = n - 1; i > 0; i--) {
    int j = (int)pick(w, 0, i);
    int64_t t = order.v[i];
    order.v[i] = order.v[j], order.v[j] = t;
  }
  return order;
}

/* Of this shape, but laid out in any way: transposed, reversed, cut out, repeated. */
static inline mx_array *random_layout(world *w, int dtype, const mx_dims *shape) {
  mx_ctx *c = &w->ctx;
  int n = (int)shape->n;
  mx_dims order = random_order(w, n), stored = {.n = n}, start = {.n = n}, limit = {.n = n}, step = {.n = n},
          flip = {0};
  for (int i = 0; i < n; i++) {
    step.v[order.v[i]] = pick(w, 1, 2);
    start.v[order.v[i]] = pick(w, 0, 1);
    limit.v[order.v[i]] = start.v[order.v[i]] + shape->v[i] * step.v[order.v[i]];
    if (pick(w, 0, 2) == 0) flip.v[flip.n++] = i;
  }
  for (int i = 0; i < n; i++) stored.v[i] = limit.v[i] + 1;
  mx_array *x = mx_slice(c, random_array(w, dtype, &stored), &start, &limit, &step);
  x = mx_reverse(c, mx_transpose(c, x, &order), &flip);
  if (n > 0 && pick(w, 0, 4) == 0 && shape->v[0] > 0) x = mx_broadcast(c, mx_slice_axis(c, x, 0, 0, 1), shape);
  assert_non_null(x);
  assert_memory_equal(x->aval.shape, shape->v, (size_t)n * sizeof(int64_t));
  return x;
}

/* All elements, row-major; the caller frees. */
static inline double *read_doubles(const mx_array *x) {
  size_t item = mx_itemsize(x->aval.dtype), n = (size_t)x->aval.size;
  char *raw = malloc(n * item + 1);
  double *v = malloc(n * sizeof *v + 1);
  mx_array_read_all(x, raw);
  for (size_t i = 0; i < n; i++) v[i] = mx_load_double(x->aval.dtype, raw + i * item);
  free(raw);
  return v;
}
static inline int64_t *read_ints(const mx_array *x) {
  size_t item = mx_itemsize(x->aval.dtype), n = (size_t)x->aval.size;
  char *raw = malloc(n * item + 1);
  int64_t *v = malloc(n * sizeof *v + 1);
  mx_array_read_all(x, raw);
  for (size_t i = 0; i < n; i++) v[i] = mx_load_int(x->aval.dtype, raw + i * item);
  free(raw);
  return v;
}

static inline void assert_same(const mx_array *got, const mx_array *want, double tolerance) {
  mx_text a, b;
  assert_non_null(got);
  assert_non_null(want);
  if (got->aval.dtype != want->aval.dtype || !mx_shape_equal(&got->aval, &want->aval))
    fail_msg("got %s, want %s", mx_aval_text(&a, &got->aval), mx_aval_text(&b, &want->aval));
  double *x = read_doubles(got), *y = read_doubles(want);
  for (int64_t i = 0; i < got->aval.size; i++)
    if (!(fabs(x[i] - y[i]) <= tolerance * (1 + fabs(y[i]))) && !(isnan(x[i]) && isnan(y[i])) && x[i] != y[i])
      fail_msg("element %lld is %.17g, want %.17g", (long long)i, x[i], y[i]);
  free(x), free(y);
}

/* -- what is done behind a kernel ---------------------------------------------------------------------------------- */

typedef struct finishing {
  char *data;
  size_t item;
  int64_t size;
  int *calls; /* by element */
} finishing;

/* Inverts all bits, so that an element which is done twice, or written afterwards, shows. */
static inline void invert_range(void *arg, int64_t lo, int64_t hi) {
  finishing *f = arg;
  if (lo < 0 || lo >= hi || hi > f->size) abort();
  for (int64_t i = lo; i < hi; i++) f->calls[i]++;
  for (size_t i = (size_t)lo * f->item; i < (size_t)hi * f->item; i++) f->data[i] = (char)~f->data[i];
}

/* A kernel of two operands does what is left to it behind its result to each element once, or to none and says so; the
 * result's bits are those that it has without. Whether it was done. */
static inline bool check_after(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *x, mx_array *y) {
  mx_tensor in[2] = {{mx_data(x), &x->aval, x->strides, x->contiguous},
                     {mx_data(y), &y->aval, y->strides, y->contiguous}};
  const mx_aval *avals[2] = {&x->aval, &y->aval};
  mx_op o = {.prim = prim, .p = p, .n_in = 2, .n_out = 1, .in_aval = avals};
  mx_aval aval;
  assert_true(prim->shape(c, &o, &aval));
  int64_t strides[MX_MAX_NDIM];
  size_t bytes = mx_nbytes(&aval);
  char *plain = malloc(bytes + 1), *done = malloc(bytes + 1);
  finishing f = {done, mx_itemsize(aval.dtype), aval.size, calloc((size_t)aval.size + 1, sizeof(int))};
  mx_after after = {.run = invert_range, .arg = &f, .ns = 1};
  mx_strides_contiguous(&aval, strides);
  mx_tensor out = {plain, &aval, strides, true};
  mx_kernel_args a = {.prim = prim, .p = p, .n_in = 2, .n_out = 1, .in = in, .out = &out};
  assert_true(mx_cpu.kernels[prim->id](c, &a));
  out.data = done, a.after = &after;
  assert_true(mx_cpu.kernels[prim->id](c, &a));
  for (int64_t i = 0; i < aval.size; i++) assert_int_equal(f.calls[i], after.taken);
  for (size_t i = 0; after.taken && i < bytes; i++) done[i] = (char)~done[i];
  assert_memory_equal(plain, done, bytes);
  free(plain), free(done), free(f.calls);
  return after.taken;
}

/* -- laws --------------------------------------------------------------------------------------------------------- */

static inline mx_array *dot_of(mx_ctx *c, mx_array *x, mx_array *y) { return mx_sum(c, mx_mul(c, x, y), NULL, false); }

/* For f of n inputs, the first n_active of them float64, with one result: jvp equals central differences, and the
 * transpose is one: <ct, jvp(t)> = <vjp(ct), t>. */
static inline void check_derivative(world *w, mx_function f, mx_array *const *in, int n, int n_active,
                                    double tolerance) {
  mx_ctx *c = &w->ctx;
  const double h = 1e-4;
  mx_array *t[8] = {0}, *plus[8], *minus[8];
  bool active[8] = {0};
  mx_list out = {0}, dout = {0}, a = {0}, b = {0}, linear_out = {0}, back = {0}, forth = {0};
  for (int i = 0; i < n; i++) {
    plus[i] = minus[i] = in[i];
    if (i >= n_active) continue;
    mx_dims shape = mx_dims_shape(&in[i]->aval);
    active[i] = true;
    t[i] = random_array(w, MLAX_FLOAT64, &shape);
    plus[i] = mx_add(c, in[i], mx_muls(c, t[i], h));
    minus[i] = mx_sub(c, in[i], mx_muls(c, t[i], h));
  }
  assert_true(mx_jvp(c, f, in, t, n, &out, &dout));
  assert_true(f.call(c, f.state, plus, n, &a) && f.call(c, f.state, minus, n, &b));
  mx_array *difference = mx_muls(c, mx_sub(c, a.items[0], b.items[0]), 0.5 / h);
  mx_array *zero = mx_zeros(c, &out.items[0]->aval);
  assert_same(dout.items[0] ? dout.items[0] : zero, difference, tolerance);
  mx_linear *l = NULL;
  assert_true(mx_linearize(c, f, in, active, n, &linear_out, &l));
  mx_dims shape = mx_dims_shape(&out.items[0]->aval);
  mx_array *ct = random_array(w, MLAX_FLOAT64, &shape);
  assert_true(mx_linear_transpose(c, l, &ct, &back) && mx_linear_apply(c, l, t, &forth));
  assert_same(linear_out.items[0], out.items[0], 0);
  assert_same(forth.items[0] ? forth.items[0] : zero, dout.items[0] ? dout.items[0] : zero, 1e-12);
  mx_array *left = dout.items[0] ? dot_of(c, ct, dout.items[0]) : mx_scalar(c, MLAX_FLOAT64, 0),
           *right = mx_scalar(c, MLAX_FLOAT64, 0);
  for (int i = 0; i < n_active; i++)
    if (back.items[i]) right = mx_add(c, right, dot_of(c, back.items[i], t[i]));
  assert_same(right, left, 1e-10);
  mx_linear_release(l);
  mx_list *all[] = {&out, &dout, &a, &b, &linear_out, &back, &forth};
  for (int i = 0; i < 7; i++) mx_list_release(c, all[i]);
}

/* f mapped over the axes equals a loop over the examples. */
static inline void check_batch(world *w, mx_function f, mx_array *const *in, const int *axes, int n, int64_t size,
                               double tolerance) {
  mx_ctx *c = &w->ctx;
  mx_list out = {0};
  mx_ints out_axes = {0};
  if (!mx_batch(c, f, in, axes, n, size, NULL, &out, &out_axes)) fail_msg("%s", c->error.text);
  for (int64_t b = 0; b < size; b++) {
    mx_array *one[8];
    mx_list want = {0};
    for (int i = 0; i < n; i++)
      one[i] = axes[i] < 0 ? in[i] : mx_squeeze(c, mx_slice_axis(c, in[i], axes[i], b, b + 1), axes[i]);
    assert_true(f.call(c, f.state, one, n, &want));
    assert_int_equal(want.n, out.n);
    for (int k = 0; k < out.n; k++) {
      int axis = out_axes.items[k];
      mx_array *got = axis < 0 ? out.items[k] : mx_squeeze(c, mx_slice_axis(c, out.items[k], axis, b, b + 1), axis);
      assert_same(got, want.items[k], tolerance);
    }
    mx_list_release(c, &want);
  }
  mx_list_release(c, &out);
  mx_ints_release(c, &out_axes);
}

/* An input of a mapped function: of this shape, with an axis of `size` put in somewhere, or (-1) not. */
static inline mx_array *random_mapped(world *w, int dtype, const mx_dims *shape, int64_t size, bool mapped, int *axis) {
  *axis = mapped ? (int)pick(w, 0, shape->n) : -1;
  mx_dims whole = mapped ? mx_dims_insert(shape, *axis, size) : *shape;
  return random_layout(w, dtype, &whole);
}

#endif
