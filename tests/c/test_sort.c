/* test_sort.c: sorting and binary search, against the plain definition, in every dtype and layout, under
 * transformations. */
#include "arrays.h"

enum { MAX_OPERANDS = 3 };

/* Order of two elements: NaN last, -0 like +0. */
static int compare(double x, double y) {
  if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
  return (x > y) - (x < y);
}

/* Few different values, so that there are ties; among floats NaN, infinities and both zeros. */
static mx_array *random_keys(world *w, int dtype, const mx_dims *shape) {
  static const double special[] = {NAN, INFINITY, -INFINITY, -0.0, 0.0, -NAN};
  mx_array *x = random_layout(w, dtype, shape);
  char *base = x->buffer->data;
  size_t item = mx_itemsize(dtype), n = x->buffer->bytes / item;
  for (size_t i = 0; mx_is_float(dtype) && i < n; i++)
    if (pick(w, 0, 3) == 0) mx_store_double(dtype, base + i * item, special[pick(w, 0, 5)]);
  return x;
}

/* -- sort --------------------------------------------------------------------------------------------------------- */

/* A lane of several operands as rows of doubles. */
typedef struct row {
  double v[MAX_OPERANDS];
} row;

static void insert_sorted(row *rows, int64_t n, int keys, row r) {
  int64_t j = n;
  for (; j > 0; j--) {
    int order = 0;
    for (int k = 0; k < keys && order == 0; k++) order = compare(r.v[k], rows[j - 1].v[k]);
    if (order >= 0) break;
    rows[j] = rows[j - 1];
  }
  rows[j] = r;
}

static void check_lane(double *const *x, double *const *y, int operands, int keys, int64_t n, int64_t start,
                       int64_t stride) {
  row *rows = malloc((size_t)n * sizeof *rows + 1);
  for (int64_t i = 0; i < n; i++) {
    row r;
    for (int k = 0; k < operands; k++) r.v[k] = x[k][start + i * stride];
    insert_sorted(rows, i, keys, r);
  }
  for (int64_t i = 0; i < n; i++)
    for (int k = 0; k < operands; k++) {
      double got = y[k][start + i * stride], want = rows[i].v[k];
      if (got != want && !(isnan(got) && isnan(want)))
        fail_msg("operand %d at %lld: got %g, want %g", k, (long long)i, got, want);
      if (got == 0 && signbit(got) != signbit(want)) fail_msg("a zero changed its sign at %lld", (long long)i);
    }
  free(rows);
}

static void check_sort(world *w, const mx_dims *shape, int axis, int dtype) {
  mx_ctx *c = &w->ctx;
  int operands = (int)pick(w, 1, MAX_OPERANDS), keys = (int)pick(w, 1, operands);
  mx_array *in[MAX_OPERANDS], *out[MAX_OPERANDS];
  double *x[MAX_OPERANDS], *y[MAX_OPERANDS];
  for (int k = 0; k < operands; k++) in[k] = random_keys(w, k ? (int)pick(w, 0, MX_DTYPE_COUNT - 1) : dtype, shape);
  if (!mx_sort(c, in, operands, keys, axis, out)) fail_msg("%s", c->error.text);
  for (int k = 0; k < operands; k++) {
    assert_int_equal(out[k]->aval.dtype, in[k]->aval.dtype);
    assert_true(mx_shape_equal(&out[k]->aval, &in[k]->aval));
    x[k] = read_doubles(in[k]), y[k] = read_doubles(out[k]);
  }
  int64_t stride = 1, n = shape->v[axis], outer = 1;
  for (int d = axis + 1; d < shape->n; d++) stride *= shape->v[d];
  for (int d = 0; d < axis; d++) outer *= shape->v[d];
  for (int64_t i = 0; i < outer; i++)
    for (int64_t j = 0; j < stride; j++) check_lane(x, y, operands, keys, n, i * n * stride + j, stride);
  for (int k = 0; k < operands; k++) free(x[k]), free(y[k]);
}

static void test_sort(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 520; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), pick(&w, 0, 9) ? 1 : 0, i % 8 ? 6 : 40);
    check_sort(&w, &shape, (int)pick(&w, 0, shape.n - 1), i % MX_DTYPE_COUNT);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Lanes that are sorted by radix, also several in parallel, and along an axis with a stride. */
static void test_long_lanes(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int dtype = 0; dtype < MX_DTYPE_COUNT; dtype++) {
    check_sort(&w, &(mx_dims){.n = 1, .v = {1500}}, 0, dtype);
    check_sort(&w, &(mx_dims){.n = 2, .v = {700, 5}}, 0, dtype);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* All 16-bit floats, and 64-bit keys that differ in any byte. */
static void test_wide_range(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  enum { N = 65536 };
  static const int dtypes[] = {MLAX_FLOAT16, MLAX_BFLOAT16, MLAX_FLOAT32, MLAX_FLOAT64, MLAX_INT64, MLAX_UINT64};
  for (int d = 0; d < 6; d++) {
    mx_array *x = make(c, dtypes[d], &(mx_dims){.n = 1, .v = {N}}), *out[1];
    for (int i = 0; i < N; i++) {
      uint64_t bits = d < 2 ? (uint64_t)i * 40503u : next_bits(&w);
      memcpy(mx_data(x) + (size_t)i * mx_itemsize(dtypes[d]), &bits, mx_itemsize(dtypes[d]));
    }
    assert_true(mx_sort(c, &x, 1, 1, 0, out));
    for (int i = 1; i < N; i++) {
      const char *p = mx_data(out[0]) + (size_t)i * mx_itemsize(dtypes[d]), *before = p - mx_itemsize(dtypes[d]);
      if (dtypes[d] == MLAX_UINT64)
        assert_true((uint64_t)mx_load_int(MLAX_UINT64, before) <= (uint64_t)mx_load_int(MLAX_UINT64, p));
      else if (dtypes[d] == MLAX_INT64) assert_true(mx_load_int(MLAX_INT64, before) <= mx_load_int(MLAX_INT64, p));
      else assert_true(compare(mx_load_double(dtypes[d], before), mx_load_double(dtypes[d], p)) <= 0);
    }
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_argsort(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *x = make_ints(c, MLAX_FLOAT32, 6, (int64_t[]){3, 1, 2, 1, 3, 0});
  assert_same(mx_argsort(c, x, 0), make_ints(c, MLAX_INT32, 6, (int64_t[]){5, 1, 3, 2, 0, 4}), 0);
  assert_null(mx_argsort(c, x, 1));
  assert_error(c, "axis out of range");
  mx_array *out[2], *pair[2] = {x, make_ints(c, MLAX_INT32, 2, (int64_t[]){1, 2})};
  assert_false(mx_sort(c, pair, 2, 1, 0, out));
  assert_error(c, "have one shape");
  world_close(&w);
}

/* -- search ------------------------------------------------------------------------------------------------------- */

static void check_search(world *w, int dtype) {
  mx_ctx *c = &w->ctx;
  mx_dims shape = random_shape(w, (int)pick(w, 1, 3), 0, 6), values = shape;
  int last = (int)shape.n - 1;
  values.v[last] = pick(w, 0, 5);
  bool right = pick(w, 0, 1);
  mx_array *x = random_keys(w, dtype, &shape), *v = random_keys(w, dtype, &values), *sorted[1];
  assert_true(mx_sort(c, &x, 1, 1, last, sorted));
  mx_array *got = mx_searchsorted(c, sorted[0], v, right);
  assert_non_null(got);
  assert_int_equal(got->aval.dtype, MLAX_INT32);
  double *s = read_doubles(sorted[0]), *q = read_doubles(v);
  int64_t *r = read_ints(got), n = shape.v[last], m = values.v[last];
  for (int64_t i = 0; i < got->aval.size; i++) {
    int64_t before = 0;
    for (int64_t j = 0; j < n; j++) before += compare(s[i / m * n + j], q[i]) < right;
    assert_int_equal(r[i], before);
  }
  free(s), free(q), free(r);
}

static void test_search(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 390; i++) {
    check_search(&w, i % MX_DTYPE_COUNT);
    mx_frame_release(c, 0);
  }
  mx_array *sorted = make_ints(c, MLAX_INT32, 3, (int64_t[]){1, 2, 3}),
           *table = mx_reshape(c, sorted, &(mx_dims){.n = 2, .v = {1, 3}});
  mx_array *scalar = mx_searchsorted(c, sorted, mx_scalar(c, MLAX_FLOAT32, 2.5), false);
  assert_int_equal(scalar->aval.ndim, 0);
  assert_int_equal(mx_array_item_int(scalar), 2);
  assert_null(mx_searchsorted(c, table, sorted, false));
  assert_error(c, "do not fit");
  world_close(&w);
}

/* -- transformations ---------------------------------------------------------------------------------------------- */

typedef struct application {
  mx_params p;
  int result;
} application;

static bool sort_one(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const application *a = state;
  mx_array *all[MX_MAX_OUT];
  return mx_sort(c, in, n, (int)a->p.sort.keys, (int)a->p.sort.axis, all) && mx_list_add(c, out, all[a->result]);
}

static bool search_one(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  mx_array *y = mx_searchsorted(c, in[0], in[1], *(bool *)state);
  return y && mx_list_add(c, out, y);
}

static void test_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 40; i++) {
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 1, 4);
    mx_dims flat = {.n = 1, .v = {1}};
    for (int d = 0; d < shape.n; d++) flat.v[0] *= shape.v[d];
    mx_array *noise = mx_reshape(c, mx_iota(c, MLAX_FLOAT64, &flat, 0), &shape); /* no ties */
    mx_array *x = mx_add(c, random_layout(&w, MLAX_FLOAT64, &shape), mx_muls(c, noise, 0.01));
    mx_array *in[2] = {x, random_layout(&w, MLAX_FLOAT64, &shape)};
    application a = {{.sort = {pick(&w, 0, shape.n - 1), 1}}, i % 2};
    check_derivative(&w, (mx_function){sort_one, &a}, in, 1 + i % 2, 1 + i % 2, 1e-6);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 100; i++) {
    int64_t size = pick(&w, 1, 3);
    mx_dims shape = random_shape(&w, (int)pick(&w, 1, 3), 0, 4);
    int axes[2];
    mx_array *in[2] = {random_mapped(&w, MLAX_FLOAT32, &shape, size, true, &axes[0]),
                       random_mapped(&w, MLAX_INT8, &shape, size, pick(&w, 0, 1), &axes[1])};
    application a = {{.sort = {pick(&w, 0, shape.n - 1), pick(&w, 1, 2)}}, i % 2};
    check_batch(&w, (mx_function){sort_one, &a}, in, axes, 2, size, 0);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_batch_search(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 100; i++) {
    int64_t size = pick(&w, 1, 3);
    mx_dims shape = random_shape(&w, 1, 0, 4), values = random_shape(&w, (int)pick(&w, 0, 2), 0, 4);
    int axes[2];
    mx_array *in[2] = {random_mapped(&w, MLAX_FLOAT32, &shape, size, i % 3 > 0, &axes[0]),
                       random_mapped(&w, MLAX_FLOAT32, &values, size, i % 3 < 2, &axes[1])};
    mx_array *sorted[1];
    assert_true(mx_sort(c, in, 1, 1, axes[0] < 0 ? 0 : 1 - axes[0], sorted)); /* each lane by itself */
    in[0] = sorted[0];
    bool right = pick(&w, 0, 1);
    check_batch(&w, (mx_function){search_one, &right}, in, axes, 2, size, 0);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------ */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_array *x = mx_iota(&c, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {700}}, 0), *out[1];
  bool ok = mx_argsort(&c, x, 0) && mx_sort(&c, &x, 1, 1, 0, out) && mx_searchsorted(&c, out[0], x, true);
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
      cmocka_unit_test(test_sort),    cmocka_unit_test(test_long_lanes),   cmocka_unit_test(test_wide_range),
      cmocka_unit_test(test_argsort), cmocka_unit_test(test_search),       cmocka_unit_test(test_derivative),
      cmocka_unit_test(test_batch),   cmocka_unit_test(test_batch_search), cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
