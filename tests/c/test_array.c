/* test_array.c: shapes, walks, arrays, the frame, printing. */
#include "../../src/array/array.h"
#include "fault.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { B = MLAX_BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF, F32, F64 };

typedef struct world {
  fault fault;
  mlax_engine *engine;
  mx_ctx c;
} world;

static void world_open(world *w) {
  mlax_options o = fault_start(&w->fault);
  assert_int_equal(mlax_engine_new(&o, &w->engine, NULL), MLAX_OK);
  assert_true(mx_ctx_init(&w->c, w->engine));
}

static void world_close(world *w) {
  mlax_memory_info info;
  mx_frame_release(&w->c, 0);
  mx_ctx_close(&w->c);
  mlax_memory(w->engine, &info);
  assert_int_equal(info.live, 0);
  mlax_engine_release(w->engine);
  assert_null(fault_end(&w->fault));
}

/* A generator of its own, so that failures repeat. */
static uint64_t random_bits(void) {
  static uint64_t s = 88172645463325252u;
  s ^= s << 13, s ^= s >> 7, s ^= s << 17;
  return s;
}
static int random_below(int n) { return (int)(random_bits() >> 33) % n; }

/* -- shapes ------------------------------------------------------------------------------------ */

#define SHAPE(...)                                                                                                     \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (const int64_t[]) { __VA_ARGS__ }

static mx_aval aval(world *w, int dtype, int ndim, const int64_t *shape) {
  mx_aval a;
  if (!mx_aval_make(&w->c, &a, dtype, ndim, shape)) fail_msg("%s", w->c.error.text);
  return a;
}

static void test_aval(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_text t;
  mx_aval a = aval(&w, MLAX_FLOAT32, SHAPE(2, 3));
  assert_int_equal(a.size, 6);
  assert_string_equal(mx_aval_text(&t, &a), "float32[2,3]");
  assert_string_equal(mx_shape_text(&t, SHAPE(2, 3)), "{2, 3}");
  a = aval(&w, MLAX_BOOL, 0, NULL);
  assert_int_equal(a.size, 1);
  assert_string_equal(mx_aval_text(&t, &a), "bool[]");
  assert_int_equal(aval(&w, MLAX_BOOL, SHAPE(5, 0, 7)).size, 0);

  assert_false(mx_aval_make(&w.c, &a, MLAX_FLOAT32, SHAPE(2, -1)));
  assert_int_equal(w.c.error.status, MLAX_SHAPE);
  assert_non_null(strstr(w.c.error.text, "{2, -1}"));
  mx_clear(&w.c);
  int64_t many[13] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  assert_false(mx_aval_make(&w.c, &a, MLAX_FLOAT32, 13, many));
  mx_clear(&w.c);
  assert_false(mx_aval_make(&w.c, &a, MLAX_FLOAT64, SHAPE((int64_t)1 << 60)));
  mx_clear(&w.c);
  assert_false(mx_aval_make(&w.c, &a, MLAX_UINT8, SHAPE((int64_t)1 << 40, (int64_t)1 << 40, 0)));
  mx_clear(&w.c);
  for (int i = 0; i < 12; i++) many[i] = INT64_MAX;
  mx_shape_text(&t, 12, many);
  assert_int_equal(strlen(t.s), sizeof t.s - 1);
  world_close(&w);
}

static void test_broadcast(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_aval a = aval(&w, F32, SHAPE(3, 1, 4)), b = aval(&w, F32, SHAPE(5, 1)), out = {0}, scalar = aval(&w, F32, 0, NULL);
  int64_t strides[12], seen[12];
  assert_true(mx_shape_broadcast(&a, &b, &out));
  assert_int_equal(out.ndim, 3);
  assert_int_equal(out.size, 60);
  assert_memory_equal(out.shape, ((int64_t[]){3, 5, 4}), 24);
  mx_strides_contiguous(&b, strides);
  mx_strides_broadcast(&b, strides, &out, seen);
  assert_memory_equal(seen, ((int64_t[]){0, 4, 0}), 24);
  assert_true(mx_shape_broadcast(&scalar, &a, &out));
  assert_true(mx_shape_equal(&out, &a));
  mx_aval empty = aval(&w, F32, SHAPE(0, 1)), two = aval(&w, F32, SHAPE(2));
  assert_true(mx_shape_broadcast(&empty, &two, &out));
  assert_memory_equal(out.shape, ((int64_t[]){0, 2}), 16);
  assert_int_equal(out.size, 0);
  mx_aval three = aval(&w, F32, SHAPE(3));
  assert_false(mx_shape_broadcast(&two, &three, &out));
  assert_true(mx_shape_broadcast(&a, &a, &a)); /* in place */
  b = a;
  assert_true(mx_aval_equal(&a, &b));
  b.weak = true;
  assert_false(mx_aval_equal(&a, &b));
  world_close(&w);
}

static void test_contiguity(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_aval a = aval(&w, F32, SHAPE(2, 1, 3)), empty = aval(&w, F32, SHAPE(0, 3));
  assert_true(mx_strides_are_contiguous(&a, (int64_t[]){12, 999, 4}));
  assert_false(mx_strides_are_contiguous(&a, (int64_t[]){12, 12, 8}));
  assert_false(mx_strides_are_contiguous(&a, (int64_t[]){0, 12, 4}));
  assert_true(mx_strides_are_contiguous(&empty, (int64_t[]){7, 7}));
  world_close(&w);
}

/* -- walks ------------------------------------------------------------------------------------- */

/* Every element that a walk visits, in order: its place in each operand. */
typedef struct visits {
  int n_op, count, calls;
  const char *base[6];
  int64_t places[6][4096];
} visits;

static void visit(void *arg, int64_t n, char *const *p, const int64_t *stride) {
  visits *v = arg;
  v->calls++;
  for (int64_t i = 0; i < n; i++, v->count++)
    for (int j = 0; j < v->n_op; j++) v->places[j][v->count] = p[j] + i * stride[j] - v->base[j];
}

static void check_walk(visits *v, int ndim, const int64_t *shape, const int64_t strides[6][12]) {
  int64_t at[12] = {0};
  for (int n = 0; n < v->count; n++) {
    for (int j = 0; j < v->n_op; j++) {
      int64_t place = 0;
      for (int i = 0; i < ndim; i++) place += at[i] * strides[j][i];
      assert_int_equal(v->places[j][n], place);
    }
    for (int i = ndim - 1; i >= 0 && ++at[i] == shape[i]; i--) at[i] = 0;
  }
}

static void test_random_walks(void **state) {
  (void)state;
  static char memory[1];
  static visits v;
  for (int round = 0; round < 3000; round++) {
    int ndim = random_below(6);
    int64_t shape[12], strides[6][12], size = 1;
    const int64_t *s[6];
    char *base[6];
    v.n_op = 1 + random_below(6), v.count = v.calls = 0;
    for (int i = 0; i < ndim; i++) size *= shape[i] = random_below(20) ? 1 + random_below(5) : 0;
    for (int j = 0; j < 6; j++) {
      int64_t step = 4;
      s[j] = strides[j], base[j] = memory, v.base[j] = memory;
      for (int i = ndim - 1; i >= 0; i--) {
        strides[j][i] = random_below(4) ? step : random_below(3) ? 0 : -8 * random_below(30);
        if (shape[i]) step *= shape[i];
      }
    }
    mx_iterate(ndim, shape, v.n_op, base, s, visit, &v);
    assert_int_equal(v.count, size);
    check_walk(&v, ndim, shape, (const int64_t(*)[12])strides);
  }
}

static void test_walks_merge(void **state) {
  (void)state;
  static char memory[1];
  static visits v;
  const int64_t shape[] = {4, 1, 5, 6}, dense[] = {120, 7, 24, 4}, rows[] = {240, 7, 48, 8}, gaps[] = {200, 0, 24, 4};
  const int64_t *two[] = {dense, rows}, *other[] = {dense, gaps};
  char *base[] = {memory, memory};
  v = (visits){.n_op = 2, .base = {memory, memory}};
  mx_iterate(4, shape, 2, base, two, visit, &v);
  assert_int_equal(v.calls, 1);
  v = (visits){.n_op = 2, .base = {memory, memory}};
  mx_iterate(4, shape, 2, base, other, visit, &v);
  assert_int_equal(v.calls, 4);
}

/* -- arrays ------------------------------------------------------------------------------------ */

static mx_array *array_of(world *w, int dtype, int ndim, const int64_t *shape, const double *values) {
  mx_aval a = aval(w, dtype, ndim, shape);
  mx_array *x = mx_array_new(&w->c, &a);
  assert_non_null(x);
  for (int64_t i = 0; i < a.size; i++)
    mx_store_double(dtype, mx_data(x) + i * (int64_t)mx_itemsize(dtype), values ? values[i] : (double)i);
  return x;
}

static void test_views(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_array *x = array_of(&w, F32, SHAPE(2, 3), NULL);
  assert_true(x->contiguous);
  mx_aval t = aval(&w, F32, SHAPE(3, 2));
  mx_array *y = mx_array_view(&w.c, x, &t, 0, (int64_t[]){4, 12});
  assert_false(y->contiguous);
  assert_null(mlax_array_data(y));
  mx_release(x);
  float values[6];
  assert_int_equal(mlax_array_read(y, values, sizeof values, NULL), MLAX_OK);
  assert_memory_equal(values, ((float[]){0, 3, 1, 4, 2, 5}), sizeof values);
  mx_array *z = mx_array_contiguous(&w.c, y), *same_z = mx_array_contiguous(&w.c, z);
  assert_ptr_equal(z, same_z);
  assert_memory_equal(mlax_array_data(z), values, sizeof values);
  mlax_error error;
  assert_int_equal(mlax_array_read(y, values, 5, &error), MLAX_ARGUMENT);
  assert_string_equal(error.text, "wrong number of bytes (got 5, need 24)");
  mx_release(same_z), mx_release(z), mx_release(y), mx_release(NULL);
  world_close(&w);
}

/* Copies of permuted and sliced arrays against the definition. */
static void test_reading_permuted(void **state) {
  (void)state;
  world w;
  world_open(&w);
  static const int dtypes[] = {U8, I16, F32, I64};
  for (int round = 0; round < 400; round++) {
    int64_t shape[4], turned[4], strides[4], at[4] = {0};
    int dtype = dtypes[round % 4], order[4] = {0, 1, 2, 3};
    for (int i = 3; i > 0; i--) {
      int k = random_below(i + 1), t = order[i];
      order[i] = order[k], order[k] = t;
    }
    for (int i = 0; i < 4; i++) shape[i] = 1 + random_below(i % 2 ? 40 : 5);
    mx_array *x = array_of(&w, dtype, 4, shape, NULL);
    for (int i = 0; i < 4; i++) {
      int step = random_below(3) ? 1 : 2; /* every other element of some axes */
      turned[i] = (shape[order[i]] + step - 1) / step, strides[i] = x->strides[order[i]] * step;
    }
    mx_aval a = aval(&w, dtype, 4, turned);
    mx_array *y = mx_array_view(&w.c, x, &a, 0, strides), *z = mx_array_contiguous(&w.c, y);
    size_t size = mx_itemsize(dtype);
    for (int64_t n = 0; n < a.size; n++) {
      const char *p = mx_data(x);
      for (int i = 0; i < 4; i++) p += at[i] * strides[i];
      assert_memory_equal(p, mx_data(z) + n * (int64_t)size, size);
      for (int i = 3; i >= 0 && ++at[i] == turned[i]; i--) at[i] = 0;
    }
    mx_release(x), mx_release(y), mx_release(z);
  }
  world_close(&w);
}

static void test_scalars(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_array *x = mx_array_of_double(&w.c, MLAX_BFLOAT16, 1.5), *y = mx_array_of_int(&w.c, MLAX_INT64, INT64_MIN);
  assert_true(mx_array_item_double(x) == 1.5);
  assert_true(mx_array_item_int(y) == INT64_MIN);
  assert_int_equal(x->aval.ndim, 0);
  mx_release(x), mx_release(y);
  world_close(&w);
}

static void test_copy(void **state) {
  (void)state;
  world w;
  mlax_error error;
  mlax_array *x;
  const int64_t shape[] = {2, 2};
  world_open(&w);
  assert_int_equal(mlax_array_copy(w.engine, MLAX_INT32, 2, shape, (int32_t[]){1, 2, 3, 4}, &x, &error), MLAX_OK);
  assert_int_equal(error.status, MLAX_OK);
  assert_int_equal(mlax_array_dtype(x), MLAX_INT32);
  assert_int_equal(mlax_array_ndim(x), 2);
  assert_memory_equal(mlax_array_shape(x), shape, sizeof shape);
  assert_int_equal(((const int32_t *)mlax_array_data(x))[3], 4);
  assert_ptr_equal(mlax_array_retain(x), x);
  mlax_array_release(x);
  mlax_array_release(x);
  assert_null(mlax_array_retain(NULL));

  assert_int_equal(mlax_array_copy(w.engine, MLAX_BOOL, 2, shape, "\1\0\5\xFF", &x, NULL), MLAX_OK);
  assert_memory_equal(mlax_array_data(x), "\1\0\1\1", 4); /* a bool is 0 or 1 */
  mlax_array_release(x);
  assert_int_equal(mlax_array_copy(w.engine, (mlax_dtype)77, 2, shape, "", &x, &error), MLAX_ARGUMENT);
  assert_null(x);
  assert_int_equal(mlax_array_copy(w.engine, MLAX_BOOL, 2, shape, NULL, &x, &error), MLAX_ARGUMENT);
  assert_int_equal(mlax_array_copy(w.engine, MLAX_BOOL, 2, NULL, "", &x, &error), MLAX_ARGUMENT);
  assert_int_equal(mlax_array_copy(w.engine, MLAX_BOOL, -1, shape, "", &x, &error), MLAX_SHAPE);
  assert_int_equal(mlax_array_copy(w.engine, MLAX_BOOL, 1, (int64_t[]){0}, NULL, &x, &error), MLAX_OK);
  mlax_array_release(x);
  world_close(&w);
}

static void count(void *ud) { ++*(int *)ud; }

static void test_wrap(void **state) {
  (void)state;
  world w;
  mlax_error error;
  mlax_array *x;
  int released = 0;
  float data[4] = {1, 2, 3, 4};
  const int64_t shape[] = {4};
  world_open(&w);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_FLOAT32, 1, shape, data, count, &released, &x, &error), MLAX_OK);
  assert_ptr_equal(mlax_array_data(x), data);
  assert_int_equal(released, 0);
  mlax_array_release(x);
  assert_int_equal(released, 1);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_FLOAT32, 1, shape, data, NULL, NULL, &x, &error), MLAX_OK);
  mlax_array_release(x);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_FLOAT32, 1, shape, (char *)data + 1, count, &released, &x, &error),
                   MLAX_ARGUMENT);
  assert_int_equal(released, 2);
  assert_null(x);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_BOOL, 1, shape, "\0\1\2\0", count, &released, &x, &error),
                   MLAX_ARGUMENT);
  assert_int_equal(released, 3);
  fault_fail(&w.fault, 1, false);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_FLOAT32, 1, shape, data, count, &released, &x, &error), MLAX_MEMORY);
  assert_int_equal(released, 4);
  fault_fail(&w.fault, 2, false);
  assert_int_equal(mlax_array_wrap(w.engine, MLAX_FLOAT32, 1, shape, data, count, &released, &x, &error), MLAX_MEMORY);
  assert_int_equal(released, 5);
  world_close(&w);
}

/* The engine lives as long as its last array. */
static void test_array_outlives_engine(void **state) {
  (void)state;
  fault f;
  mlax_options o = fault_start(&f);
  mlax_engine *e;
  mlax_array *x;
  assert_int_equal(mlax_engine_new(&o, &e, NULL), MLAX_OK);
  assert_int_equal(mlax_array_copy(e, MLAX_INT8, 1, (int64_t[]){3}, "abc", &x, NULL), MLAX_OK);
  mlax_engine_release(e);
  assert_memory_equal(mlax_array_data(x), "abc", 3);
  mlax_array_release(x);
  assert_null(fault_end(&f));
}

static int freed_tracers;
static void free_tracer(mx_array *x) {
  freed_tracers++;
  mx_release(x->primal);
}

static void test_tracers(void **state) {
  (void)state;
  world w;
  float value;
  mlax_error error;
  world_open(&w);
  void (*usual)(mx_array * x) = mx_tracer_free;
  mx_tracer_free = free_tracer;
  mx_array *x = mx_array_of_double(&w.c, F32, 1), *t = mx_array_tracer(&w.c, MX_DUAL, &x->aval);
  assert_true(mx_is_tracer(t) && !mx_is_tracer(x));
  assert_null(t->tangent);
  t->primal = x;
  assert_null(mlax_array_data(t));
  assert_int_equal(mlax_array_read(t, &value, 4, &error), MLAX_STATE);
  char text[40];
  mx_array_print(t, NULL, text, sizeof text);
  assert_string_equal(text, "float32[]");
  mx_release(t);
  assert_int_equal(freed_tracers, 1);
  mx_tracer_free = usual;
  world_close(&w);
}

static mx_array *keep_number(world *w, double v) { return mx_keep(&w->c, mx_array_of_double(&w->c, F32, v)); }

static void test_frame(void **state) {
  (void)state;
  world w;
  world_open(&w);
  mx_array *outer = keep_number(&w, 0), *out[4];
  int mark = mx_frame_mark(&w.c);
  for (int i = 1; i < 100; i++) keep_number(&w, i);
  out[0] = w.c.frame[50], out[1] = outer, out[2] = NULL, out[3] = w.c.frame[50];
  mx_frame_return(&w.c, mark, out, 4);
  assert_int_equal(mx_frame_mark(&w.c), mark + 3);
  assert_true(mx_array_item_double(out[0]) == 50);
  assert_int_equal(atomic_load(&out[0]->refs), 2);
  assert_int_equal(atomic_load(&outer->refs), 2);
  mx_frame_release(&w.c, mark);
  assert_int_equal(atomic_load(&outer->refs), 1);
  assert_null(mx_keep(&w.c, NULL));

  /* no room for what is kept or returned */
  while (w.c.frame_n < w.c.frame_cap) keep_number(&w, 1);
  mx_array *x = mx_array_of_double(&w.c, F32, 7);
  fault_fail(&w.fault, 1, true);
  assert_null(mx_keep(&w.c, x));
  assert_int_equal(w.c.error.status, MLAX_MEMORY);
  mx_clear(&w.c);
  fault_fail(&w.fault, 1, true);
  mark = mx_frame_mark(&w.c);
  mx_frame_return(&w.c, mark, &outer, 1);
  assert_int_equal(w.c.error.status, MLAX_MEMORY);
  mx_clear(&w.c);
  assert_true(mx_array_item_double(outer) == 0);
  fault_fail(&w.fault, 0, false);
  world_close(&w);
}

static bool use_arrays(mlax_engine *e, void *arg) {
  mx_ctx c;
  mx_aval a;
  (void)arg;
  mx_ctx_init(&c, e);
  mx_array *x = NULL, *y = NULL, *z = NULL, *s = NULL, *host = NULL;
  if (mx_aval_make(&c, &a, MLAX_FLOAT32, SHAPE(30, 30))) x = mx_keep(&c, mx_array_new(&c, &a));
  if (x) y = mx_keep(&c, mx_array_view(&c, x, &a, 0, (int64_t[]){4, 120}));
  if (y) z = mx_keep(&c, mx_array_contiguous(&c, y));
  if (z) s = mx_keep(&c, mx_array_of_int(&c, MLAX_INT8, 3));
  for (int i = 0; s && i < 20; i++) s = mx_keep(&c, mx_array_of_double(&c, MLAX_FLOAT16, i));
  mlax_status status = mlax_array_copy(e, MLAX_INT8, 1, (int64_t[]){3}, "abc", &host, NULL);
  mlax_array_release(host);
  bool ok = s && status == MLAX_OK;
  if (!s && c.error.status != MLAX_MEMORY) fail_msg("no error was recorded");
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_failing_allocations(void **state) {
  (void)state;
  const char *problem = fault_sweep(use_arrays, NULL);
  if (problem) fail_msg("%s", problem);
}

/* -- printing ---------------------------------------------------------------------------------- */

static void check_print(const mx_array *x, const mx_print_options *o, const char *want) {
  char text[4096], part[20];
  size_t n = mx_array_print(x, o, text, sizeof text);
  assert_string_equal(text, want);
  assert_int_equal(n, strlen(want));
  assert_int_equal(mx_array_print(x, o, NULL, 0), n);
  assert_int_equal(mx_array_print(x, o, part, sizeof part), n);
  size_t fits = n < sizeof part ? n : sizeof part - 1;
  assert_memory_equal(part, want, fits);
  assert_int_equal(part[fits], '\0');
}

static void check_values(world *w, int dtype, int ndim, const int64_t *shape, const double *values, const char *want) {
  mx_array *x = array_of(w, dtype, ndim, shape, values);
  check_print(x, NULL, want);
  mx_release(x);
}

#define VALUES(...) ((const double[]){__VA_ARGS__})

static void test_print_numbers(void **state) {
  (void)state;
  world w;
  world_open(&w);
  check_values(&w, F32, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6), "float32[2,3]\n[[1 2 3]\n [4 5 6]]");
  check_values(&w, F32, SHAPE(2, 2), VALUES(1.5, -2, 10, 0.25), "float32[2,2]\n[[ 1.50 -2.00]\n [10.00  0.25]]");
  check_values(&w, F32, 0, NULL, VALUES(0.69314718), "float32[] 0.693147");
  check_values(&w, F64, 0, NULL, VALUES(-3), "float64[] -3");
  check_values(&w, F16, 0, NULL, VALUES(0.1), "float16[] 0.0999756");
  check_values(&w, BF, 0, NULL, VALUES(3.14159), "bfloat16[] 3.14062");
  check_values(&w, F32, 0, NULL, VALUES(1e-8), "float32[] 1e-08");
  check_values(&w, F32, 0, NULL, VALUES(123456789), "float32[] 1.23457e+08");
  check_values(&w, F32, 0, NULL, VALUES(1234567), "float32[] 1234567");
  check_values(&w, F32, SHAPE(3), VALUES(1e10, 1, -2.5), "float32[3]\n[ 1.0e+10  1.0e+00 -2.5e+00]");
  check_values(&w, F32, SHAPE(4), VALUES(NAN, INFINITY, -INFINITY, 0.5), "float32[4]\n[ nan  inf -inf  0.5]");
  check_values(&w, F32, SHAPE(2), VALUES(NAN, NAN), "float32[2]\n[nan nan]");
  check_values(&w, F32, SHAPE(3), VALUES(2.345678, 0.0123456, -1), "float32[3]\n[ 2.34568  0.01235 -1.00000]");
  check_values(&w, F32, SHAPE(2), VALUES(0, 0), "float32[2]\n[0 0]");
  check_values(&w, F64, SHAPE(2), VALUES(1e308, 5e-324), "float64[2]\n[1.00000e+308 4.94066e-324]");
  check_values(&w, B, SHAPE(3), VALUES(1, 0, 1), "bool[3]\n[ true false  true]");
  check_values(&w, B, 0, NULL, VALUES(0), "bool[] false");
  check_values(&w, I8, SHAPE(3), VALUES(-128, 7, 100), "int8[3]\n[-128    7  100]");
  check_values(&w, U64, SHAPE(1), VALUES(0x1p64), "uint64[1]\n[18446744073709551615]");
  world_close(&w);
}

static void test_print_shapes(void **state) {
  (void)state;
  world w;
  world_open(&w);
  check_values(&w, I32, SHAPE(2, 1, 2), NULL, "int32[2,1,2]\n[[[0 1]]\n\n [[2 3]]]");
  check_values(&w, I32, SHAPE(1, 1, 1, 2, 1), NULL, "int32[1,1,1,2,1]\n[[[[[0]\n    [1]]]]]");
  check_values(&w, I32, SHAPE(0), NULL, "int32[0]\n[]");
  check_values(&w, F32, SHAPE(2, 0), NULL, "float32[2,0]\n[]");
  check_values(&w, F32, SHAPE((int64_t)1 << 40, 0), NULL, "float32[1099511627776,0]\n[]");
  mx_array *x = array_of(&w, I32, SHAPE(2, 3), NULL);
  mx_aval t = aval(&w, I32, SHAPE(3, 2));
  mx_array *y = mx_array_view(&w.c, x, &t, 0, (int64_t[]){4, 12});
  check_print(y, NULL, "int32[3,2]\n[[0 3]\n [1 4]\n [2 5]]");
  mx_release(x), mx_release(y);
  world_close(&w);
}

static void test_print_summary(void **state) {
  (void)state;
  world w;
  world_open(&w);
  check_values(&w, I32, SHAPE(2000), NULL, "int32[2000]\n[   0    1    2 ... 1997 1998 1999]");
  check_values(&w, I32, SHAPE(500, 3), NULL,
               "int32[500,3]\n[[   0    1    2]\n [   3    4    5]\n [   6    7    8]\n ...\n [1491 1492 1493]\n"
               " [1494 1495 1496]\n [1497 1498 1499]]");
  mx_array *x = array_of(&w, I32, SHAPE(3, 3, 3), NULL);
  check_print(x, &(mx_print_options){6, 1, 10},
              "int32[3,3,3]\n[[[ 0 ...  2]\n  ...\n  [ 6 ...  8]]\n\n ...\n\n [[18 ... 20]\n  ...\n  [24 ... 26]]]");
  check_print(x, &(mx_print_options){6, 0, 0}, "int32[3,3,3]\n[...]");
  mx_release(x);
  x = array_of(&w, F64, SHAPE(2), VALUES(3.14159265358979, 2));
  check_print(x, &(mx_print_options){3, 3, 1000}, "float64[2]\n[3.14 2.00]");
  check_print(x, &(mx_print_options){17, 3, 1000}, "float64[2]\n[3.14159265358979 2.00000000000000]");
  check_print(x, &(mx_print_options){-1, -1, -1}, "float64[2]\n[...]");
  mx_release(x);
  world_close(&w);
}

static void test_print_wraps_lines(void **state) {
  (void)state;
  world w;
  world_open(&w);
  char text[4096];
  mx_array *x = array_of(&w, I32, SHAPE(2, 60), NULL);
  mx_array_print(x, NULL, text, sizeof text);
  int lines = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
    assert_true(strlen(line) <= 80);
    if (lines > 0) assert_true(line[0] == '[' || line[0] == ' ');
  }
  assert_int_equal(lines, 1 + 2 * 4);
  mx_release(x);
  world_close(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_aval),
      cmocka_unit_test(test_broadcast),
      cmocka_unit_test(test_contiguity),
      cmocka_unit_test(test_random_walks),
      cmocka_unit_test(test_walks_merge),
      cmocka_unit_test(test_views),
      cmocka_unit_test(test_reading_permuted),
      cmocka_unit_test(test_scalars),
      cmocka_unit_test(test_copy),
      cmocka_unit_test(test_wrap),
      cmocka_unit_test(test_array_outlives_engine),
      cmocka_unit_test(test_tracers),
      cmocka_unit_test(test_frame),
      cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_print_numbers),
      cmocka_unit_test(test_print_shapes),
      cmocka_unit_test(test_print_summary),
      cmocka_unit_test(test_print_wraps_lines),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
