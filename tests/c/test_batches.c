/* test_batches.c: the worker thread, and batches made by it or without it: the same values, no loss where memory is
 * wanting in either thread, and an end at any moment. */
#include "fault.h"
#include "io/io.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROWS = 23, SIZE = 5 };

static void count_up(void *arg) { ++*(long *)arg; }

static void test_worker(void **state) {
  (void)state;
  fault f;
  mlax_engine *e;
  mlax_options options = fault_start(&f);
  long count = 0;
  assert_int_equal(mlax_engine_new(&options, &e, NULL), MLAX_OK);
  mx_worker *w = mx_worker_new(e, count_up, &count);
  assert_non_null(w);
  mx_worker_wait(w); /* no job: nothing to wait for */
  for (int i = 1; i <= 1000; i++) {
    mx_worker_submit(w);
    mx_worker_wait(w);
    assert_int_equal(count, i);
  }
  mx_worker_submit(w);
  mx_worker_free(e, w); /* with a job under way */
  mx_worker_free(e, mx_worker_new(e, count_up, &count));
  fault_fail(&f, 1, false);
  assert_null(mx_worker_new(e, count_up, &count));
  fault_fail(&f, 0, false);
  mlax_engine_release(e);
  assert_null(fault_end(&f));
}

/* -- batches ------------------------------------------------------------------------------------------------------- */

typedef struct run {
  bool ahead, ordered;
  int stop_after; /* batches; 0: all */
} run;

/* x[i][k] = 3 i + k */
static mx_array *table(mx_ctx *c) {
  mx_aval a;
  if (!mx_aval_make(c, &a, MLAX_INT32, 2, (int64_t[]){ROWS, 3})) return NULL;
  mx_array *x = mx_array_new(c, &a);
  for (int i = 0; x && i < ROWS * 3; i++) ((int32_t *)mx_data(x))[i] = i;
  return x;
}

static mx_array *backwards(mx_ctx *c) {
  mx_aval a;
  if (!mx_aval_make(c, &a, MLAX_INT32, 1, (int64_t[]){ROWS})) return NULL;
  mx_array *x = mx_array_new(c, &a);
  for (int i = 0; x && i < ROWS; i++) ((int32_t *)mx_data(x))[i] = ROWS - 1 - i;
  return x;
}

/* What is wrong with a batch that begins with row `first`, or NULL. */
static const char *batch_fault(mx_array *const *out, const run *r, int first) {
  int64_t rows = ROWS - first < SIZE ? ROWS - first : SIZE;
  for (int k = 0; k < 2; k++) {
    if (out[k]->aval.shape[0] != rows || out[k]->aval.shape[1] != 3) return "a batch has another shape";
    for (int64_t i = 0; i < rows * 3; i++) {
      int64_t row = r->ordered ? ROWS - 1 - (first + i / 3) : first + i / 3;
      if (((int32_t *)mx_data(out[k]))[i] != row * 3 + i % 3) return "a batch has other values";
    }
  }
  return NULL;
}

static bool batches_run(mx_ctx *c, mx_batches *b, const run *r, const char **problem) {
  int n = 0;
  for (mx_array **out; (!r->stop_after || n < r->stop_after) && (out = mx_batches_next(c, b)); n++) {
    *problem = batch_fault(out, r, n * SIZE);
    mx_release(out[n % 2]); /* the other one stays for the next call */
    out[n % 2] = NULL;
    if (*problem) return false;
  }
  if (mx_failed(c)) return false;
  if (!r->stop_after && n != (ROWS + SIZE - 1) / SIZE) *problem = "batches are missing";
  return !*problem;
}

static const char *wrong; /* a fault_sweep's body can only answer yes or no */

static bool body(mlax_engine *e, void *arg) {
  const run *r = arg;
  mx_ctx c;
  mx_ctx_init(&c, e);
  mx_array *x = table(&c), *order = r->ordered ? backwards(&c) : NULL;
  mx_batches *b = x && (order || !r->ordered) ? mx_batches_new(&c, (mx_array *[]){x, x}, 2, order, SIZE, ROWS) : NULL;
  if (b && r->ahead) mx_batches_ahead(b);
  bool ok = b && batches_run(&c, b, r, &wrong);
  if (b) mx_batches_free(b);
  mx_release(x);
  mx_release(order);
  mx_ctx_close(&c);
  return ok;
}

static void test_batches(void **state) {
  (void)state;
  for (int i = 0; i < 12; i++) {
    run r = {i & 1, i & 2, i >> 2};
    wrong = NULL;
    const char *problem = fault_sweep(body, &r);
    if (problem || wrong)
      fail_msg("ahead %d, ordered %d, stop %d: %s", r.ahead, r.ordered, r.stop_after, wrong ? wrong : problem);
  }
}

/* Thousands of batches, so that the threads meet in every way. */
static void test_many_batches(void **state) {
  (void)state;
  mlax_engine *e;
  run r = {true, true, 0};
  assert_int_equal(mlax_engine_new(NULL, &e, NULL), MLAX_OK);
  wrong = NULL;
  for (int i = 0; i < 1000; i++) {
    r.stop_after = i % 4;
    assert_true(body(e, &r));
  }
  mlax_engine_release(e);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_worker), cmocka_unit_test(test_batches),
                                     cmocka_unit_test(test_many_batches)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
