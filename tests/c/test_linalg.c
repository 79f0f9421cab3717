/* test_linalg.c: linear algebra below Lua: derivatives and batching of every primitive, layouts, failing allocations.
 */
#include "arrays.h"

/* -- the operations, with every result in one number or matrix ----------------------------------------------------- */

static bool add(mx_ctx *c, mx_list *out, mx_array *x) { return x && mx_list_add(c, out, x); }

/* x moved away from singular matrices: the diagonal grows by 8, 12, ... */
static mx_array *shifted(mx_ctx *c, mx_array *x) {
  int n = x->aval.ndim;
  mx_dims shape = {.n = 2, .v = {x->aval.shape[n - 2], x->aval.shape[n - 1]}};
  mx_array *i = mx_iota(c, MLAX_INT32, &shape, 0), *j = mx_iota(c, MLAX_INT32, &shape, 1);
  mx_array *d = mx_adds(c, mx_muls(c, mx_convert(c, i, x->aval.dtype), 4), 8);
  return mx_add(c, x, mx_select(c, mx_eq(c, i, j), d, mx_like(c, x, 0)));
}

static bool f_cholesky(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  return add(c, out, mx_cholesky(c, shifted(c, in[0])));
}

static bool f_solve(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  return add(c, out, mx_solve(c, shifted(c, in[0]), in[1]));
}

static bool f_triangular(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  int *flags = state;
  (void)n;
  return add(c, out, mx_triangular_solve(c, shifted(c, in[0]), in[1], *flags & 1, *flags & 2, *flags & 4));
}

static bool f_det(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  return add(c, out, mx_muls(c, mx_det(c, shifted(c, in[0])), 1e-3));
}

static bool f_slogdet(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *r[2];
  (void)state, (void)n;
  return mx_slogdet(c, shifted(c, in[0]), r) && add(c, out, r[1]);
}

static bool f_qr(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *r[2];
  (void)state, (void)n;
  return mx_qr(c, shifted(c, in[0]), r) && add(c, out, mx_square(c, r[1]));
}

static bool f_svd(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *r[3];
  (void)state, (void)n;
  return mx_svd(c, shifted(c, in[0]), true, r) && add(c, out, mx_matmul(c, mx_square(c, r[0]), mx_square(c, r[0])));
}

static bool f_eigh(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *r[2];
  (void)state, (void)n;
  return mx_eigh(c, shifted(c, in[0]), r) &&
         add(c, out, mx_matmul(c, mx_square(c, r[1]), mx_expand(c, r[0], r[0]->aval.ndim)));
}

static bool f_pinv(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  return add(c, out, mx_pinv(c, shifted(c, in[0])));
}

typedef struct function {
  const char *name;
  bool (*call)(mx_ctx *, void *, mx_array *const *, int, mx_list *);
  int operands;
  bool square;
} function;

static const function functions[] = {
    {"cholesky", f_cholesky, 1, true}, {"solve", f_solve, 2, true},     {"triangular_solve", f_triangular, 2, true},
    {"det", f_det, 1, true},           {"slogdet", f_slogdet, 1, true}, {"qr", f_qr, 1, false},
    {"svd", f_svd, 1, false},          {"eigh", f_eigh, 1, true},       {"pinv", f_pinv, 1, false},
};
enum { N_FUNCTIONS = sizeof functions / sizeof *functions };

/* Shapes of the operands: m x n with a batch axis or without. */
static void shapes_of(const function *f, int i, mx_dims *shape) {
  int64_t m = 3, n = f->square ? 3 : 2 + i % 3;
  shape[0] = (mx_dims){.n = 2, .v = {m, n}};
  shape[1] = (mx_dims){.n = 2, .v = {m, 2}};
  if (i % 2 == 0) {
    shape[0] = mx_dims_insert(&shape[0], 0, 2);
    shape[1] = mx_dims_insert(&shape[1], 0, 2);
  }
}

static void test_derivatives(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  for (int k = 0; k < N_FUNCTIONS; k++) {
    for (int i = 0; i < 8; i++) {
      mx_dims shape[2];
      shapes_of(&functions[k], i, shape);
      mx_array *in[2];
      for (int a = 0; a < functions[k].operands; a++)
        in[a] = mx_muls(c, random_layout(&w, MLAX_FLOAT64, &shape[a]), 0.2);
      check_derivative(&w, (mx_function){functions[k].call, &i}, in, functions[k].operands, functions[k].operands,
                       1e-5);
      mx_frame_release(c, 0);
    }
  }
  world_close(&w);
}

static void test_batching(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 2);
  for (int k = 0; k < N_FUNCTIONS; k++) {
    for (int i = 0; i < 12; i++) {
      mx_dims shape[2];
      shapes_of(&functions[k], i, shape);
      mx_array *in[2];
      int axes[2], which = functions[k].operands == 1 ? 1 : 1 + i % 3;
      for (int a = 0; a < functions[k].operands; a++)
        in[a] = random_mapped(&w, MLAX_FLOAT64, &shape[a], 3, which >> a & 1, &axes[a]);
      check_batch(&w, (mx_function){functions[k].call, &i}, in, axes, functions[k].operands, 3, 1e-9);
      mx_frame_release(c, 0);
    }
  }
  world_close(&w);
}

/* A batch large enough for several threads gives what each matrix gives alone. */
static void test_threads(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 4);
  for (int k = 0; k < N_FUNCTIONS; k++) {
    mx_dims a = {.n = 3, .v = {60, 9, 9}}, b = {.n = 3, .v = {60, 9, 2}};
    mx_array *in[2] = {random_array(&w, MLAX_FLOAT32, &a), random_array(&w, MLAX_FLOAT32, &b)};
    mx_list whole = {0};
    int flags = 1;
    if (!functions[k].call(c, &flags, in, functions[k].operands, &whole))
      fail_msg("%s: %s", functions[k].name, c->error.text);
    for (int i = 0; i < 60; i += 7) {
      mx_array *one[2] = {mx_squeeze(c, mx_slice_axis(c, in[0], 0, i, i + 1), 0),
                          mx_squeeze(c, mx_slice_axis(c, in[1], 0, i, i + 1), 0)};
      mx_list alone = {0};
      assert_true(functions[k].call(c, &flags, one, functions[k].operands, &alone));
      assert_same(mx_squeeze(c, mx_slice_axis(c, whole.items[0], 0, i, i + 1), 0), alone.items[0], 0);
      mx_list_release(c, &alone);
    }
    mx_list_release(c, &whole);
    mx_frame_release(c, 0);
  }
  world_close(&w);
}

/* -- what shape rules refuse -------------------------------------------------------------------------------------- */

static void test_refused(void **state) {
  (void)state;
  world w;
  mx_ctx *c = world_open(&w, 1);
  mx_dims wide = {.n = 2, .v = {2, 3}}, square = {.n = 2, .v = {2, 2}}, vector = {.n = 1, .v = {3}};
  mx_array *out[3], *x = random_array(&w, MLAX_FLOAT32, &square);
  assert_null(mx_cholesky(c, random_array(&w, MLAX_FLOAT32, &wide)));
  assert_error(c, "must be square (got float32[2,3])");
  assert_null(mx_inv(c, random_array(&w, MLAX_FLOAT32, &vector)));
  assert_error(c, "two axes");
  assert_false(mx_qr(c, random_array(&w, MLAX_BFLOAT16, &square), out));
  assert_error(c, "float32");
  assert_null(mx_solve(c, x, random_array(&w, MLAX_FLOAT16, &square)));
  assert_error(c, "float32");
  assert_null(mx_solve(c, x, random_array(&w, MLAX_FLOAT32, &vector)));
  assert_error(c, "as many rows");
  mx_array *number = mx_scalar(c, MLAX_FLOAT32, 1);
  mx_dims huge = {.n = 2, .v = {30000, 30000}}, longest = {.n = 2, .v = {2, (int64_t)1 << 32}};
  assert_false(mx_svd(c, mx_broadcast(c, number, &huge), false, out));
  assert_error(c, "too large for LAPACK");
  assert_false(mx_qr(c, mx_broadcast(c, number, &longest), out));
  assert_error(c, "too long for LAPACK");
  assert_null(mx_triangular_solve(c, x, mx_broadcast(c, number, &longest), true, false, false));
  assert_error(c, "too many right sides");
  assert_null(mx_cholesky(c, NULL));
  assert_null(mx_solve(c, x, NULL));
  mx_frame_release(c, 0);
  world_close(&w);
}

/* -- failing allocations ------------------------------------------------------------------------------------------ */

static bool value_and_gradient(mx_ctx *c, const function *f, mx_array *const *in) {
  mx_list out = {0}, back = {0};
  mx_linear *l = NULL;
  bool active[2] = {true, true};
  int flags = 1;
  bool ok = mx_linearize(c, (mx_function){f->call, &flags}, in, active, f->operands, &out, &l) &&
            mx_linear_transpose(c, l, out.items, &back);
  mx_linear_release(l);
  mx_list_release(c, &out);
  mx_list_release(c, &back);
  return ok;
}

static mx_array *filled(mx_ctx *c, const mx_dims *shape) {
  mx_array *x = mx_iota(c, MLAX_FLOAT32, &(mx_dims){.n = 1, .v = {shape->v[0] * shape->v[1] * shape->v[2]}}, 0);
  return mx_reshape(c, mx_muls(c, mx_sin(c, x), 0.3), shape);
}

static bool body(mlax_engine *e, void *arg) {
  const function *f = arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, e)) return false;
  mx_array *in[2] = {filled(&c, &(mx_dims){.n = 3, .v = {2, 4, 4}}), filled(&c, &(mx_dims){.n = 3, .v = {2, 4, 2}})};
  bool ok = in[0] && in[1] && value_and_gradient(&c, f, in);
  if (!ok) assert_true(mx_failed(&c));
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_failing_allocations(void **state) {
  (void)state;
  for (int k = 0; k < N_FUNCTIONS; k++) {
    const char *problem = fault_sweep(body, (void *)&functions[k]);
    if (problem) fail_msg("%s: %s", functions[k].name, problem);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_derivatives),
      cmocka_unit_test(test_batching),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
