/* test_index.c: gather, scatter, windows, the check of positions: against loops, with hostile positions, under
 * transformations. */
#include "arrays.h"

#include <limits.h>

/* -- a problem: x, ids, axes -------------------------------------------------------------------------------------- */

typedef struct problem {
  int n; /* ids */
  mx_dims axes;
  mx_array *x, *ids[MX_MAX_NDIM];
  mx_aval s;
} problem;

static int64_t hostile_id(world *w, int64_t length, int dtype) {
  switch (pick(w, 0, 9)) {
  case 0: return -1;
  case 1: return length;
  case 2: return dtype == MLAX_INT32 ? INT32_MIN : INT64_MIN;
  case 3: return dtype == MLAX_INT32 ? INT32_MAX : INT64_MAX;
  default: return length > 0 ? pick(w, 0, length - 1) : 0;
  }
}

static mx_array *random_ids(world *w, const mx_dims *shape, int64_t length) {
  int dtype = pick(w, 0, 1) ? MLAX_INT32 : MLAX_INT64;
  mx_array *ids = make(&w->ctx, dtype, shape);
  for (int64_t i = 0; i < ids->aval.size; i++)
    mx_store_int(dtype, mx_data(ids) + (size_t)i * mx_itemsize(dtype), hostile_id(w, length, dtype));
  return ids;
}

static mx_dims broadcast_part(world *w, const mx_dims *s) {
  mx_dims part = *s;
  while (part.n > 0 && pick(w, 0, 3) == 0) part = mx_dims_remove(&part, 0);
  for (int i = 0; i < part.n; i++)
    if (pick(w, 0, 3) == 0) part.v[i] = 1;
  return part;
}

static problem random_problem(world *w, int dtype) {
  problem p = {0};
  int ndim = (int)pick(w, 0, 4);
  mx_dims shape = random_shape(w, ndim, pick(w, 0, 9) ? 1 : 0, 4),
          s = random_shape(w, (int)pick(w, 0, 3), pick(w, 0, 9) ? 1 : 0, 4);
  mx_dims order = random_order(w, ndim);
  p.x = random_layout(w, dtype, &shape);
  p.n = (int)pick(w, 0, ndim);
  p.axes.n = p.n;
  p.s = (mx_aval){.size = 1};
  for (int k = 0; k < p.n; k++) {
    mx_dims part = broadcast_part(w, &s);
    p.axes.v[k] = order.v[k];
    p.ids[k] = random_ids(w, &part, shape.v[order.v[k]]);
    mx_aval both = p.s;
    assert_true(mx_shape_broadcast(&p.s, &p.ids[k]->aval, &both));
    p.s = both;
  }
  return p;
}

/* Splits row-major number i of `shape` into coordinates. */
static void unravel(int n, const int64_t *shape, int64_t i, int64_t *at) {
  for (int d = n - 1; d >= 0; d--) at[d] = i % shape[d], i /= shape[d];
}
static int64_t ravel(int n, const int64_t *shape, const int64_t *at) {
  int64_t i = 0;
  for (int d = 0; d < n; d++) i = i * shape[d] + at[d];
  return i;
}

static int64_t id_at(const mx_array *ids, const int64_t *values, const mx_aval *s, const int64_t *at) {
  int64_t own[MX_MAX_NDIM];
  int n = ids->aval.ndim;
  for (int d = 0; d < n; d++) own[d] = ids->aval.shape[d] == 1 ? 0 : at[s->ndim - n + d];
  return values[ravel(n, ids->aval.shape, own)];
}

/* Where element `at` (coordinates of {s..., rest...}) lies in x, or -1 outside. */
static int64_t address(const problem *p, int64_t *const *values, const int64_t *at, bool clamp) {
  int64_t in_x[MX_MAX_NDIM];
  const mx_aval *x = &p->x->aval;
  for (int d = 0, rest = p->s.ndim; d < x->ndim; d++)
    if (!mx_dims_has(&p->axes, d)) in_x[d] = at[rest++];
  for (int k = 0; k < p->n; k++) {
    int64_t length = x->shape[p->axes.v[k]], v = id_at(p->ids[k], values[k], &p->s, at);
    if (clamp && length > 0) v = v < 0 ? 0 : v >= length ? length - 1 : v;
    if (v < 0 || v >= length) return -1;
    in_x[p->axes.v[k]] = v;
  }
  return ravel(x->ndim, x->shape, in_x);
}

static mx_dims addressed_shape(const problem *p) {
  mx_dims shape = mx_dims_shape(&p->s);
  for (int d = 0; d < p->x->aval.ndim; d++)
    if (!mx_dims_has(&p->axes, d)) shape.v[shape.n++] = p->x->aval.shape[d];
  return shape;
}

static void read_ids(const problem *p, int64_t **values) {
  for (int k = 0; k < p->n; k++) values[k] = read_ints(p->ids[k]);
}
static void free_ids(const problem *p, int64_t **values) {
  for (int k = 0; k < p->n; k++) free(values[k]);
}

/* -- values ------------------------------------------------------------------------------------------------------- */

static double filled(int dtype) {
  switch (mx_dtype_kind(dtype)) {
  case MX_KIND_FLOAT: return NAN;
  case MX_KIND_INT: return -ldexp(1, (int)mx_itemsize(dtype) * 8 - 1);
  case MX_KIND_BOOL: return 1;
  default: return ldexp(1, (int)mx_itemsize(dtype) * 8) - (mx_itemsize(dtype) < 8);
  }
}

static void check_gather(world *w, int dtype) {
  mx_ctx *c = &w->ctx;
  problem p = random_problem(w, dtype);
  bool fill = pick(w, 0, 1);
  int64_t *values[MX_MAX_NDIM], at[2 * MX_MAX_NDIM];
  mx_array *got = mx_gather(c, p.x, p.ids, p.n, &p.axes, fill);
  mx_dims shape = addressed_shape(&p);
  assert_non_null(got);
  assert_int_equal(got->aval.ndim, shape.n);
  assert_memory_equal(got->aval.shape, shape.v, (size_t)shape.n * sizeof(int64_t));
  read_ids(&p, values);
  double *x = read_doubles(p.x), *y = read_doubles(got);
  for (int64_t i = 0; i < got->aval.size; i++) {
    unravel((int)shape.n, shape.v, i, at);
    int64_t from = address(&p, values, at, !fill);
    double want = from >= 0 ? x[from] : fill ? filled(dtype) : 0;
    if (y[i] != want && !(isnan(y[i]) && isnan(want)))
      fail_msg("gather: element %lld is %g, want %g", (long long)i, y[i], want);
  }
  free(x), free(y), free_ids(&p, values);
}

static void test_gather(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int i = 0; i < 1300; i++) {
    check_gather(&w, i % MX_DTYPE_COUNT);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* The running value as the dtype holds it; sums and products of integers wrap. */
static double held(int dtype, double v, uint64_t wrapped) {
  char cell[8];
  if (mx_is_float(dtype)) mx_store_double(dtype, cell, v);
  else mx_store_int(dtype, cell, (int64_t)wrapped);
  return mx_load_double(dtype, cell);
}

static double combined(const mx_primitive *prim, int dtype, double x, double u) {
  uint64_t i = (uint64_t)(int64_t)x, j = (uint64_t)(int64_t)u;
  switch (prim->id) {
  case MX_PRIM_scatter_add: return held(dtype, x + u, i + j);
  case MX_PRIM_scatter_mul: return held(dtype, x * u, i * j);
  case MX_PRIM_scatter_min: return u < x ? u : x;
  case MX_PRIM_scatter_max: return u > x ? u : x;
  default: return u;
  }
}

static const mx_primitive *const scatters[] = {&mx_prim_scatter, &mx_prim_scatter_add, &mx_prim_scatter_mul,
                                               &mx_prim_scatter_min, &mx_prim_scatter_max};

static void check_scatter(world *w, int dtype, const mx_primitive *prim) {
  mx_ctx *c = &w->ctx;
  problem p = random_problem(w, dtype);
  mx_dims shape = addressed_shape(&p);
  mx_array *updates = random_layout(w, dtype, &shape);
  int64_t *values[MX_MAX_NDIM], at[2 * MX_MAX_NDIM];
  mx_array *got = mx_scatter(c, prim, p.x, updates, p.ids, p.n, &p.axes);
  assert_non_null(got);
  assert_true(mx_shape_equal(&got->aval, &p.x->aval));
  read_ids(&p, values);
  double *x = read_doubles(p.x), *u = read_doubles(updates), *y = read_doubles(got);
  for (int64_t i = 0; i < updates->aval.size; i++) {
    unravel((int)shape.n, shape.v, i, at);
    int64_t to = address(&p, values, at, false);
    if (to >= 0) x[to] = combined(prim, dtype, x[to], u[i]);
  }
  for (int64_t i = 0; i < got->aval.size; i++)
    if (y[i] != x[i]) fail_msg("%s: element %lld is %.17g, want %.17g", prim->name, (long long)i, y[i], x[i]);
  free(x), free(u), free(y), free_ids(&p, values);
}

static void test_scatter(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  static const int dtypes[] = {MLAX_INT8,   MLAX_INT16,   MLAX_INT32,    MLAX_UINT8,  MLAX_UINT16,
                               MLAX_UINT32, MLAX_FLOAT16, MLAX_BFLOAT16, MLAX_FLOAT64};
  for (int i = 0; i < 2250; i++) {
    check_scatter(&w, dtypes[i % 9], scatters[i / 9 % 5]);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* Sums that rounding makes depend on their order: equal bits with 1 and with 3 threads, and equal to the loop. */
static void test_scatter_order(void **state) {
  (void)state;
  enum { ROWS = 40, WIDTH = 32, N = 20000 };
  char bits[2][ROWS * WIDTH * 4];
  float want[ROWS][WIDTH] = {{0}};
  for (int run = 0; run < 2; run++) {
    world w;
    mx_ctx *c = world_open(&w, run ? 3 : 1);
    mx_dims shape = {.n = 2, .v = {ROWS, WIDTH}}, updates_shape = {.n = 2, .v = {N, WIDTH}}, n = {.n = 1, .v = {N}},
            axes = {.n = 1};
    mx_array *ids = make(c, MLAX_INT32, &n), *updates = make(c, MLAX_FLOAT32, &updates_shape);
    for (int i = 0; i < N; i++) ((int32_t *)mx_data(ids))[i] = (int32_t)pick(&w, 0, ROWS + 2);
    for (int i = 0; i < N * WIDTH; i++) ((float *)mx_data(updates))[i] = (float)next_bits(&w) * 1e-19f;
    if (run == 0)
      for (int i = 0; i < N; i++) {
        int row = ((int32_t *)mx_data(ids))[i];
        for (int j = 0; row < ROWS && j < WIDTH; j++) want[row][j] += ((float *)mx_data(updates))[i * WIDTH + j];
      }
    mx_array *x = mx_full(c, MLAX_FLOAT32, &shape, 0);
    mx_array *got = mx_scatter(c, &mx_prim_scatter_add, x, updates, &ids, 1, &axes);
    assert_non_null(got);
    mx_array_read_all(got, bits[run]);
    world_close(&w);
  }
  assert_memory_equal(bits[0], want, sizeof want);
  assert_memory_equal(bits[1], want, sizeof want);
}

/* Enough for several threads: whole rows, and single elements by two index arrays. */
static void test_gather_threads(void **state) {
  (void)state;
  enum { ROWS = 1000, WIDTH = 16, N = 50000 };
  world w;
  mx_ctx *c = world_open(&w, 3);
  mx_dims shape = {.n = 2, .v = {ROWS, WIDTH}}, n = {.n = 1, .v = {N}}, first = {.n = 1}, both = {.n = 2, .v = {0, 1}};
  mx_array *x = random_array(&w, MLAX_FLOAT32, &shape), *ids[2] = {make(c, MLAX_INT32, &n), make(c, MLAX_INT64, &n)};
  for (int i = 0; i < N; i++) {
    ((int32_t *)mx_data(ids[0]))[i] = (int32_t)pick(&w, 0, ROWS - 1);
    ((int64_t *)mx_data(ids[1]))[i] = pick(&w, 0, WIDTH - 1);
  }
  mx_array *rows = mx_gather(c, x, ids, 1, &first, false), *items = mx_gather(c, x, ids, 2, &both, true);
  assert_true(rows && items);
  for (int i = 0; i < N; i++) {
    const float *from = (float *)mx_data(x) + ((int32_t *)mx_data(ids[0]))[i] * WIDTH;
    assert_memory_equal((float *)mx_data(rows) + i * WIDTH, from, WIDTH * sizeof(float));
    assert_true(((float *)mx_data(items))[i] == from[((int64_t *)mx_data(ids[1]))[i]]);
  }
  world_close(&w);
}

/* -- windows ------------------------------------------------------------------------------------------------------ */

static void check_window(world *w) {
  mx_ctx *c = &w->ctx;
  int ndim = (int)pick(w, 0, 3), dtype = (int)pick(w, 0, MX_DTYPE_COUNT - 1);
  mx_dims shape = random_shape(w, ndim, 0, 5), sizes = shape, one = {.n = 1, .v = {ndim}};
  int64_t at[MX_MAX_NDIM];
  for (int d = 0; d < ndim; d++) sizes.v[d] = pick(w, 0, shape.v[d]);
  mx_array *x = random_layout(w, dtype, &shape), *y = random_layout(w, dtype, &sizes), *starts = random_ids(w, &one, 3);
  mx_array *slice = mx_dynamic_slice(c, x, starts, &sizes), *updated = mx_dynamic_update_slice(c, x, y, starts);
  assert_true(slice && updated);
  int64_t *s = read_ints(starts);
  double *from = read_doubles(x), *got = read_doubles(slice), *new = read_doubles(y), *whole = read_doubles(updated);
  for (int d = 0; d < ndim; d++) {
    int64_t most = shape.v[d] - sizes.v[d];
    s[d] = s[d] < 0 ? 0 : s[d] > most ? most : s[d];
  }
  for (int64_t i = 0; i < slice->aval.size; i++) {
    unravel(ndim, sizes.v, i, at);
    for (int d = 0; d < ndim; d++) at[d] += s[d];
    int64_t in_x = ravel(ndim, shape.v, at);
    assert_true(got[i] == from[in_x]);
    from[in_x] = new[i];
  }
  for (int64_t i = 0; i < x->aval.size; i++) assert_true(whole[i] == from[i]);
  free(s), free(from), free(got), free(new), free(whole);
}

static void test_windows(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 1000; i++) {
    check_window(&w);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- the check of positions --------------------------------------------------------------------------------------- */

static void check_positions(mx_ctx *c, int dtype, int64_t size, int base, int n, const int64_t *given,
                            const int64_t *want) {
  mx_array *got = mx_check_index(c, make_ints(c, dtype, n, given), size, 0, base);
  assert_non_null(got);
  assert_int_equal(got->aval.dtype, size > INT32_MAX ? MLAX_INT64 : MLAX_INT32);
  int64_t *v = read_ints(got);
  for (int i = 0; i < n; i++) assert_int_equal(v[i], want[i]);
  free(v);
}

/* Base 3: from 1, and nothing counts from the end. */
#define REFUSES(dtype, size, axis, base, value, text)                                                                  \
  do {                                                                                                                 \
    assert_null(mx_check_index(c, make_ints(c, dtype, 3, (int64_t[]){1, value, 77}), size, axis, base));               \
    assert_error(c, text);                                                                                             \
  } while (0)

static void test_check_index(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int dtype = MLAX_INT8; dtype <= MLAX_UINT64; dtype++) {
    check_positions(c, dtype, 6, 1, 3, (int64_t[]){1, 6, 3}, (int64_t[]){0, 5, 2});
    check_positions(c, dtype, 6, 0, 3, (int64_t[]){0, 5, 2}, (int64_t[]){0, 5, 2});
    check_positions(c, dtype, 6, 3, 2, (int64_t[]){1, 6}, (int64_t[]){0, 5});
    if (mx_dtype_kind(dtype) == MX_KIND_INT) check_positions(c, dtype, 6, 1, 2, (int64_t[]){-1, -6}, (int64_t[]){5, 0});
  }
  check_positions(c, MLAX_INT64, INT64_C(1) << 40, 1, 2, (int64_t[]){INT64_C(1) << 40, -1},
                  (int64_t[]){(INT64_C(1) << 40) - 1, (INT64_C(1) << 40) - 1});
  REFUSES(MLAX_INT32, 6, 1, 1, 7, "index 7 is out of range on axis 2 (got 7, need 1..6 or -6..-1)");
  REFUSES(MLAX_INT32, 6, 0, 1, 0, "index 0 is out of range on axis 1");
  REFUSES(MLAX_INT8, 6, 0, 1, -7, "index -7 is out of range");
  REFUSES(MLAX_INT64, 6, 0, 1, INT64_MIN, "index -9223372036854775808 is out of range");
  REFUSES(MLAX_UINT64, 6, 0, 1, -1, "index 18446744073709551615 is out of range");
  REFUSES(MLAX_INT16, 6, 0, 0, 6, "(got 6, need 0..5 or -6..-1)");
  REFUSES(MLAX_INT32, 6, -1, 3, -1, "index -1 is out of range (got -1, need 1..6)");
  REFUSES(MLAX_INT16, 0, 0, 1, 1, "its length is 0");
  mx_dims one = {.n = 1, .v = {1}};
  assert_null(mx_check_index(c, random_array(&w, MLAX_FLOAT32, &one), 3, 0, 1));
  assert_error(c, "positions must be integers");
  world_close(&w);
}

/* Where the predicate is false, nothing is checked and 0 comes out. */
static void test_check_index_predicate(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_params p = {.check = {6, 0, 1}};
  mx_array *in[2] = {make_ints(c, MLAX_INT32, 3, (int64_t[]){2, 99, -1}),
                     make_ints(c, MLAX_BOOL, 3, (int64_t[]){1, 0, 1})};
  mx_array *got = mx_bind1(c, &mx_prim_check_index, &p, in, 2);
  assert_same(got, make_ints(c, MLAX_INT32, 3, (int64_t[]){1, 0, 5}), 0);
  in[1] = mx_scalar_int(c, MLAX_BOOL, 1);
  assert_null(mx_bind1(c, &mx_prim_check_index, &p, in, 2));
  assert_error(c, "index 99");
  world_close(&w);
}

static void test_misuse(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims shape = {.n = 2, .v = {3, 4}}, axis = {.n = 1, .v = {2}}, twice = {.n = 2, .v = {1, 1}}, first = {.n = 1};
  mx_array *x = random_array(&w, MLAX_FLOAT32, &shape);
  mx_array *ids[2] = {make_ints(c, MLAX_INT32, 2, (int64_t[]){0, 1}),
                      make_ints(c, MLAX_INT32, 3, (int64_t[]){0, 1, 2})};
  assert_null(mx_gather(c, x, ids, 1, &axis, false));
  assert_error(c, "axis out of range");
  assert_null(mx_gather(c, x, (mx_array *[]){ids[0], ids[0]}, 2, &twice, false));
  assert_error(c, "twice");
  assert_null(mx_gather(c, x, ids, 2, &(mx_dims){.n = 2, .v = {0, 1}}, false));
  assert_error(c, "do not fit");
  assert_null(mx_gather(c, x, &x, 1, &first, false));
  assert_error(c, "positions must be int32 or int64");
  assert_null(mx_scatter(c, &mx_prim_scatter, x, x, ids, 1, &first));
  assert_true(mx_failed(c));
  mx_clear(c);
  assert_null(mx_dynamic_slice(c, x, ids[0], &(mx_dims){.n = 2, .v = {4, 1}}));
  assert_error(c, "does not fit into the array");
  assert_null(mx_dynamic_slice(c, x, ids[1], &shape));
  assert_error(c, "one start an axis");
  assert_null(mx_dynamic_update_slice(c, x, ids[0], ids[0]));
  assert_error(c, "does not fit into the array");
  world_close(&w);
}

/* -- transformations ---------------------------------------------------------------------------------------------- */

typedef struct application {
  const mx_primitive *prim;
  mx_params p;
} application;

/* One application of a primitive to the inputs as they come. */
static bool apply(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  const application *a = state;
  mx_array *y = mx_bind1(c, a->prim, &a->p, in, n);
  return y && mx_list_add(c, out, y);
}

static void test_gather_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 100; i++) {
    problem p = random_problem(&w, MLAX_FLOAT64);
    application a = {&mx_prim_gather, {.gather = {p.axes, i % 2 ? MX_GATHER_CLAMP : MX_GATHER_ZERO}}};
    mx_array *in[8] = {p.x};
    for (int k = 0; k < p.n; k++) in[1 + k] = p.ids[k];
    check_derivative(&w, (mx_function){apply, &a}, in, 1 + p.n, 1, 1e-7);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* What was filled in has no derivative. */
static void test_fill_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_array *ids = make_ints(c, MLAX_INT32, 3, (int64_t[]){1, 5, -1}),
           *in[2] = {random_array(&w, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {3}}), ids};
  mx_array *t[2] = {random_array(&w, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {3}})};
  application a = {&mx_prim_gather, {.gather = {{.n = 1}, MX_GATHER_FILL}}};
  mx_list out = {0}, dout = {0};
  assert_true(mx_jvp(c, (mx_function){apply, &a}, in, t, 2, &out, &dout));
  double *y = read_doubles(out.items[0]), *dy = read_doubles(dout.items[0]), *dx = read_doubles(t[0]);
  assert_true(isnan(y[1]) && isnan(y[2]));
  assert_true(dy[0] == dx[1] && dy[1] == 0 && dy[2] == 0);
  free(y), free(dy), free(dx);
  mx_list_release(c, &out), mx_list_release(c, &dout);
  world_close(&w);
}

static void test_scatter_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  static const mx_primitive *const tested[] = {&mx_prim_scatter, &mx_prim_scatter_add, &mx_prim_scatter_min,
                                               &mx_prim_scatter_max};
  for (int i = 0; i < 200; i++) {
    problem p = random_problem(&w, MLAX_FLOAT64);
    mx_dims shape = addressed_shape(&p), own = mx_dims_shape(&p.x->aval);
    application a = {tested[i % 4], {.axes = {p.axes}}};
    mx_array *in[8] = {p.x, random_array(&w, MLAX_FLOAT64, &shape)};
    if (i % 4 >= 2) { /* no ties, where the derivative is no limit of differences */
      in[0] =
          mx_add(c, in[0],
                 mx_muls(c, mx_reshape(c, mx_iota(c, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {p.x->aval.size}}, 0), &own),
                         1e-2 / 7));
      in[1] = mx_add(
          c, in[1],
          mx_muls(c, mx_reshape(c, mx_iota(c, MLAX_FLOAT64, &(mx_dims){.n = 1, .v = {in[1]->aval.size}}, 0), &shape),
                  1e-2 / 11));
    }
    for (int k = 0; k < p.n; k++) in[2 + k] = p.ids[k];
    check_derivative(&w, (mx_function){apply, &a}, in, 2 + p.n, 2, 1e-6);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_scatter_mul_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  application a = {&mx_prim_scatter_mul, {.axes = {{.n = 1, .v = {1}}}}};
  mx_array *in[3] = {random_array(&w, MLAX_FLOAT64, &(mx_dims){.n = 2, .v = {3, 4}}),
                     random_array(&w, MLAX_FLOAT64, &(mx_dims){.n = 2, .v = {3, 3}}),
                     make_ints(c, MLAX_INT64, 3, (int64_t[]){2, 0, 9})};
  check_derivative(&w, (mx_function){apply, &a}, in, 3, 2, 1e-6);
  world_close(&w);
}

/* Ties share: the maximum of x and two equal updates gives each a third. */
static void test_tie_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims two = {.n = 1, .v = {2}}, three = {.n = 1, .v = {3}};
  application a = {&mx_prim_scatter_max, {.axes = {{.n = 1}}}};
  mx_array *in[3] = {mx_full(c, MLAX_FLOAT64, &two, 5), mx_full(c, MLAX_FLOAT64, &three, 5),
                     make_ints(c, MLAX_INT32, 3, (int64_t[]){0, 0, 7})};
  mx_list out = {0}, back = {0};
  mx_linear *l = NULL;
  assert_true(mx_linearize(c, (mx_function){apply, &a}, in, (bool[]){true, true, false}, 3, &out, &l));
  mx_array *ct = mx_full(c, MLAX_FLOAT64, &two, 3);
  assert_true(mx_linear_transpose(c, l, &ct, &back));
  double *dx = read_doubles(back.items[0]), *du = read_doubles(back.items[1]);
  assert_true(fabs(dx[0] - 1) < 1e-12 && dx[1] == 3 && fabs(du[0] - 1) < 1e-12 && fabs(du[1] - 1) < 1e-12 &&
              du[2] == 0);
  free(dx), free(du);
  mx_linear_release(l);
  mx_list_release(c, &out), mx_list_release(c, &back);
  world_close(&w);
}

static void test_window_derivative(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 60; i++) {
    int ndim = (int)pick(&w, 0, 3);
    mx_dims shape = random_shape(&w, ndim, 1, 4), sizes = shape;
    for (int d = 0; d < ndim; d++) sizes.v[d] = pick(&w, 1, shape.v[d]);
    mx_array *x = random_layout(&w, MLAX_FLOAT64, &shape), *y = random_layout(&w, MLAX_FLOAT64, &sizes);
    mx_array *starts = random_ids(&w, &(mx_dims){.n = 1, .v = {ndim}}, 3);
    application slice = {&mx_prim_dynamic_slice, {.dynamic = {sizes}}},
                update = {&mx_prim_dynamic_update_slice, {.dynamic = {{0}}}};
    check_derivative(&w, (mx_function){apply, &slice}, (mx_array *[]){x, starts}, 2, 1, 1e-7);
    check_derivative(&w, (mx_function){apply, &update}, (mx_array *[]){x, y, starts}, 3, 2, 1e-7);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* ids with an axis of the batch put in, values hostile too */
static mx_array *mapped_ids(world *w, const mx_dims *shape, int64_t length, int64_t size, int *axis) {
  *axis = pick(w, 0, 1) ? (int)pick(w, 0, shape->n) : -1;
  mx_dims whole = *axis < 0 ? *shape : mx_dims_insert(shape, *axis, size);
  return random_ids(w, &whole, length);
}

static void check_batched(world *w, const mx_primitive *prim) {
  problem p = random_problem(w, MLAX_INT32);
  const mx_aval *x = &p.x->aval;
  mx_dims own = mx_dims_shape(x), shape = addressed_shape(&p);
  bool gathers = prim == &mx_prim_gather;
  int axes[8], n = 0;
  int64_t size = pick(w, 1, 3);
  mx_array *in[8];
  in[n] = random_mapped(w, MLAX_INT32, &own, size, pick(w, 0, 1), &axes[n]), n++;
  if (!gathers) in[n] = random_mapped(w, MLAX_INT32, &shape, size, pick(w, 0, 1), &axes[n]), n++;
  for (int k = 0; k < p.n; k++, n++) {
    mx_dims ids = mx_dims_shape(&p.ids[k]->aval);
    in[n] = mapped_ids(w, &ids, x->shape[p.axes.v[k]], size, &axes[n]);
  }
  bool any = false;
  for (int i = 0; i < n; i++) any |= axes[i] >= 0;
  if (!any) return;
  application a = {prim, {.axes = {p.axes}}};
  if (gathers) a.p = (mx_params){.gather = {p.axes, pick(w, 0, 2)}};
  check_batch(w, (mx_function){apply, &a}, in, axes, n, size, 0);
}

static void test_batch(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 600; i++) {
    check_batched(&w, i % 2 ? &mx_prim_gather : scatters[i / 2 % 5]);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void check_batched_window(world *w, bool update) {
  int ndim = (int)pick(w, 0, 3), axes[3], n = 0;
  int64_t size = pick(w, 1, 3);
  mx_dims shape = random_shape(w, ndim, 1, 4), sizes = shape, one = {.n = 1, .v = {ndim}};
  for (int d = 0; d < ndim; d++) sizes.v[d] = pick(w, 0, shape.v[d]);
  mx_array *in[3];
  in[n] = random_mapped(w, MLAX_FLOAT32, &shape, size, pick(w, 0, 1), &axes[n]), n++;
  if (update) in[n] = random_mapped(w, MLAX_FLOAT32, &sizes, size, pick(w, 0, 1), &axes[n]), n++;
  in[n] = mapped_ids(w, &one, 3, size, &axes[n]), n++;
  bool any = false;
  for (int i = 0; i < n; i++) any |= axes[i] >= 0;
  application a = {update ? &mx_prim_dynamic_update_slice : &mx_prim_dynamic_slice, {.dynamic = {sizes}}};
  if (any) check_batch(w, (mx_function){apply, &a}, in, axes, n, size, 0);
}

static void test_batch_windows(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int i = 0; i < 400; i++) {
    check_batched_window(&w, i % 2);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

static void test_batch_check(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims shape = {.n = 2, .v = {2, 3}};
  application a = {&mx_prim_check_index, {.check = {6, 0, 1}}};
  mx_array *ids = mx_reshape(c, make_ints(c, MLAX_INT16, 6, (int64_t[]){1, 2, 3, -1, -2, -3}), &shape);
  mx_array *pred = make_ints(c, MLAX_BOOL, 3, (int64_t[]){1, 0, 1});
  check_batch(&w, (mx_function){apply, &a}, (mx_array *[]){ids, pred}, (int[]){0, -1}, 2, 2, 0);
  check_batch(&w, (mx_function){apply, &a}, (mx_array *[]){ids, pred}, (int[]){1, 0}, 2, 3, 0);
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------ */

static bool use_all(mlax_engine *e, void *arg) {
  (void)arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_dims shape = {.n = 2, .v = {4, 3}}, first = {.n = 1}, sizes = {.n = 2, .v = {2, 2}}, one = {.n = 1, .v = {2}};
  mx_array *x = mx_full(&c, MLAX_FLOAT32, &shape, 2), *ids = mx_iota(&c, MLAX_INT32, &one, 0);
  ids = mx_check_index(&c, ids, 4, 0, 0);
  mx_array *rows = mx_gather(&c, x, &ids, 1, &first, true);
  for (int i = 0; i < 5; i++)
    rows = mx_gather(&c, mx_scatter(&c, scatters[i], x, rows, &ids, 1, &first), &ids, 1, &first, false);
  mx_array *y = mx_dynamic_update_slice(&c, x, mx_dynamic_slice(&c, x, ids, &sizes), ids);
  bool ok = rows && y && !mx_failed(&c);
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
      cmocka_unit_test(test_gather),
      cmocka_unit_test(test_scatter),
      cmocka_unit_test(test_scatter_order),
      cmocka_unit_test(test_gather_threads),
      cmocka_unit_test(test_windows),
      cmocka_unit_test(test_check_index),
      cmocka_unit_test(test_check_index_predicate),
      cmocka_unit_test(test_misuse),
      cmocka_unit_test(test_gather_derivative),
      cmocka_unit_test(test_fill_derivative),
      cmocka_unit_test(test_scatter_derivative),
      cmocka_unit_test(test_scatter_mul_derivative),
      cmocka_unit_test(test_tie_derivative),
      cmocka_unit_test(test_window_derivative),
      cmocka_unit_test(test_batch),
      cmocka_unit_test(test_batch_windows),
      cmocka_unit_test(test_batch_check),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
