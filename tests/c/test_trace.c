/* test_trace.c: the interpreters from C: jvp, linearize and transpose, vmap, staging and plans, their nesting,
 * failures. */
#include "fault.h"

#include "../../src/compile/compile.h"
#include "../../src/trace/trace.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

/* -- functions under test ------------------------------------------------------------------------------------------ */

/* f(x) = sum(sin(x) * x): f' = cos(x) x + sin(x), f'' = 2 cos(x) - x sin(x) */
static bool f_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  mx_array *y = mx_sum(c, mx_mul(c, mx_sin(c, in[0]), in[0]), NULL, false);
  return y && mx_list_add(c, out, y);
}
static const mx_function f = {f_call, NULL};

/* The gradient of f by reverse mode, as a function. */
static bool grad_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_list value = {0};
  mx_linear *l = NULL;
  bool active = true;
  (void)state, (void)n;
  bool ok = mx_linearize(c, f, in, &active, 1, &value, &l);
  if (ok) {
    mx_array *one = mx_scalar(c, in[0]->aval.dtype, 1);
    ok = one && mx_linear_transpose(c, l, &one, out);
  }
  mx_list_release(c, &value);
  mx_linear_release(l);
  return ok;
}
static const mx_function grad_f = {grad_call, NULL};

/* -- fixtures ------------------------------------------------------------------------------------------------------ */

typedef struct world {
  mlax_engine *engine;
  mx_ctx c;
} world;

static int begin(void **state) {
  static world w;
  mlax_options options = MLAX_OPTIONS;
  memset(&w, 0, sizeof w);
  if (mlax_engine_new(&options, &w.engine, NULL) != MLAX_OK || !mx_ctx_init(&w.c, w.engine)) return -1;
  *state = &w;
  return 0;
}

static int end(void **state) {
  world *w = *state;
  mx_frame_release(&w->c, 0);
  mx_ctx_close(&w->c);
  mlax_memory_info info;
  mlax_memory(w->engine, &info);
  if (info.live > 0) printf("%zu bytes are still live\n", info.live);
  mlax_engine_release(w->engine);
  return info.live == 0 ? 0 : -1;
}

static mx_array *vector(mx_ctx *c, int n, const double *values) {
  mx_aval a;
  assert_true(mx_aval_make(c, &a, MLAX_FLOAT64, 1, (int64_t[]){n}));
  mx_array *x = mx_keep(c, mx_array_new(c, &a));
  assert_non_null(x);
  memcpy(mx_data(x), values, (size_t)n * sizeof *values);
  return x;
}

static double at(const mx_array *x, int i) {
  double all[64];
  mx_array_read_all(x, all);
  return all[i];
}

static const double points[3] = {0.3, -1.2, 2.0};
static double d1(double x) { return cos(x) * x + sin(x); }
static double d2(double x) { return 2 * cos(x) - x * sin(x); }

/* -- tests --------------------------------------------------------------------------------------------------------- */

static void test_jvp(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points), *t = vector(c, 3, (double[]){1, 0, 2});
  mx_list out = {0}, tangents = {0};
  assert_true(mx_jvp(c, f, &x, &t, 1, &out, &tangents));
  assert_float_equal(at(tangents.items[0], 0), d1(points[0]) + 2 * d1(points[2]), 1e-12);
  mx_list_release(c, &out);
  mx_list_release(c, &tangents);
}

static void test_gradient(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points);
  mx_list out = {0};
  assert_true(grad_call(c, NULL, &x, 1, &out));
  for (int i = 0; i < 3; i++) assert_float_equal(at(out.items[0], i), d1(points[i]), 1e-12);
  mx_list_release(c, &out);
}

/* Forward over reverse: the Hessian is diagonal. */
static void test_second_order(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points), *t = vector(c, 3, (double[]){0, 1, 0});
  mx_list out = {0}, tangents = {0};
  assert_true(mx_jvp(c, grad_f, &x, &t, 1, &out, &tangents));
  assert_float_equal(at(tangents.items[0], 1), d2(points[1]), 1e-12);
  assert_float_equal(at(tangents.items[0], 0), 0, 1e-12);
  mx_list_release(c, &out);
  mx_list_release(c, &tangents);
}

/* vmap of grad: rows are examples. */
static void test_batch_of_gradient(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_dims shape = {2, {3, 1}};
  mx_array *x = mx_reshape(c, vector(c, 3, points), &shape);
  int axis = 0;
  mx_list out = {0};
  mx_ints axes = {0};
  assert_true(mx_batch(c, grad_f, &x, &axis, 1, 3, NULL, &out, &axes));
  assert_int_equal(axes.items[0], 0);
  for (int i = 0; i < 3; i++) assert_float_equal(at(out.items[0], i), d1(points[i]), 1e-12);
  mx_list_release(c, &out);
  mx_ints_release(c, &axes);
}

static mx_program *staged(mx_ctx *c, mx_function g, mx_array *x) {
  mx_program *p;
  mx_list captured = {0};
  const mx_aval *a = &x->aval;
  assert_true(mx_stage(c, g, &a, NULL, 1, &p, &captured));
  assert_int_equal(captured.n, 0);
  mx_list_release(c, &captured);
  return p;
}

static void test_plan_of_gradient(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points), *out;
  mx_program *p = staged(c, grad_f, x);
  mx_plan *plan = mx_plan_new(c, p);
  assert_non_null(plan);
  for (int round = 0; round < 3; round++) {
    assert_true(mx_plan_run(c, plan, &x, &out));
    for (int i = 0; i < 3; i++) assert_float_equal(at(out, i), d1(points[i]), 1e-12);
  }
  mx_plan_release(plan);
  mx_program_release(p);
}

/* A compiled function under another transformation is interpreted there. */
static bool replay_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  mx_array *y;
  (void)n;
  return mx_program_eval(c, state, in, &y) && mx_list_add(c, out, y);
}

static void test_jvp_of_program(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points), *t = vector(c, 3, (double[]){1, 1, 1});
  mx_program *p = staged(c, grad_f, x);
  mx_list out = {0}, tangents = {0};
  assert_true(mx_jvp(c, (mx_function){replay_call, p}, &x, &t, 1, &out, &tangents));
  for (int i = 0; i < 3; i++) assert_float_equal(at(tangents.items[0], i), d2(points[i]), 1e-12);
  mx_list_release(c, &out);
  mx_list_release(c, &tangents);
  mx_program_release(p);
}

static void test_program_text(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_program *p = staged(c, f, vector(c, 3, points));
  char text[512];
  size_t n = mx_program_print(c, p, text, sizeof text);
  assert_true(n < sizeof text);
  assert_string_equal(text, "{ lambda ; a:float64[3]. let\n"
                            "    b:float64[3] = sin a\n"
                            "    c:float64[3] = mul b a\n"
                            "    d:float64[] = reduce_sum[axes=(0)] c\n"
                            "  in ( d ) }\n");
  mx_program_release(p);
}

/* -- wrong use ----------------------------------------------------------------------------------------------------- */

static bool leak_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)n;
  *(mx_array **)state = mx_retain(in[0]);
  return mx_list_add(c, out, in[0]);
}

static void test_leaked(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points), *t = x, *leaked;
  mx_list out = {0}, tangents = {0};
  assert_true(mx_jvp(c, (mx_function){leak_call, &leaked}, &x, &t, 1, &out, &tangents));
  assert_null(mx_sin(c, leaked));
  assert_non_null(strstr(c->error.text, "leaked"));
  mx_clear(c);
  mx_release(leaked);
  mx_list_release(c, &out);
  mx_list_release(c, &tangents);
}

static bool failing_call(mx_ctx *c, void *state, mx_array *const *in, int n, mx_list *out) {
  (void)state, (void)n;
  mx_array *y = mx_add(c, in[0], vector(c, 2, points));
  return y && mx_list_add(c, out, y);
}

/* An error inside nested transformations restores the context, and the next call works. */
static void test_error_inside(void **state) {
  mx_ctx *c = &((world *)*state)->c;
  mx_array *x = vector(c, 3, points);
  mx_list value = {0};
  mx_linear *l;
  bool active = true;
  assert_false(mx_linearize(c, (mx_function){failing_call, NULL}, &x, &active, 1, &value, &l));
  assert_true(mx_failed(c));
  assert_null(c->trace);
  mx_clear(c);
  mx_list_release(c, &value);
  test_gradient(state);
}

/* -- every allocation fails once ----------------------------------------------------------------------------------- */

static bool sweep_body(mlax_engine *e, void *arg) {
  mx_ctx c;
  (void)arg;
  memset(&c, 0, sizeof c);
  if (!mx_ctx_init(&c, e)) return false;
  mx_aval a;
  bool ok = mx_aval_make(&c, &a, MLAX_FLOAT64, 1, (int64_t[]){3});
  mx_array *x = ok ? mx_keep(&c, mx_array_new(&c, &a)) : NULL, *out[1];
  ok = x != NULL;
  if (ok) memcpy(mx_data(x), points, sizeof points);
  mx_program *p = NULL;
  mx_list captured = {0};
  const mx_aval *avals = &a;
  ok = ok && mx_stage(&c, grad_f, &avals, NULL, 1, &p, &captured);
  mx_plan *plan = ok ? mx_plan_new(&c, p) : NULL;
  ok = plan && mx_plan_run(&c, plan, &x, out) && fabs(at(out[0], 0) - d1(points[0])) < 1e-12;
  mx_plan_release(plan);
  mx_program_release(p);
  mx_list_release(&c, &captured);
  mx_frame_release(&c, 0);
  mx_ctx_close(&c);
  return ok;
}

static void test_allocations(void **state) {
  (void)state;
  const char *problem = fault_sweep(sweep_body, NULL);
  if (problem) fail_msg("%s", problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_jvp, begin, end),
      cmocka_unit_test_setup_teardown(test_gradient, begin, end),
      cmocka_unit_test_setup_teardown(test_second_order, begin, end),
      cmocka_unit_test_setup_teardown(test_batch_of_gradient, begin, end),
      cmocka_unit_test_setup_teardown(test_plan_of_gradient, begin, end),
      cmocka_unit_test_setup_teardown(test_jvp_of_program, begin, end),
      cmocka_unit_test_setup_teardown(test_program_text, begin, end),
      cmocka_unit_test_setup_teardown(test_leaked, begin, end),
      cmocka_unit_test_setup_teardown(test_error_inside, begin, end),
      cmocka_unit_test(test_allocations),
  };
  return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
