/* test_host.c: a host without Lua: mlax.h and libmlax.so, nothing else of ours. */
#include "mlax.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static mlax_engine *engine_with_limit(size_t bytes) {
  mlax_engine *engine;
  mlax_error error;
  mlax_options options = MLAX_OPTIONS;
  options.memory_limit = bytes;
  if (mlax_engine_new(&options, &engine, &error) != MLAX_OK) fail_msg("%s", error.text);
  assert_int_equal(error.status, MLAX_OK);
  assert_string_equal(error.text, "");
  return engine;
}

static size_t live(mlax_engine *engine) {
  mlax_memory_info m;
  mlax_memory(engine, &m);
  return m.live;
}

static void test_array_round_trip(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  const float data[6] = {1, 2, 3, 4, 5, 6};
  const int64_t shape[2] = {2, 3};
  float back[6];
  mlax_array *x;
  mlax_error error;
  size_t before = live(engine);
  assert_int_equal(mlax_array_copy(engine, MLAX_FLOAT32, 2, shape, data, &x, &error), MLAX_OK);
  assert_true(live(engine) > before);
  assert_int_equal(mlax_array_dtype(x), MLAX_FLOAT32);
  assert_int_equal(mlax_array_ndim(x), 2);
  assert_memory_equal(mlax_array_shape(x), shape, sizeof shape);
  assert_memory_equal(mlax_array_data(x), data, sizeof data);
  assert_int_equal(mlax_array_read(x, back, sizeof back, &error), MLAX_OK);
  assert_memory_equal(back, data, sizeof data);
  assert_int_not_equal(mlax_array_read(x, back, sizeof back - 1, &error), MLAX_OK);
  assert_true(error.text[0] != 0);
  mlax_array_release(mlax_array_retain(x));
  mlax_array_release(x);
  assert_int_equal(live(engine), before);
  mlax_engine_release(engine);
}

static void test_arrays_keep_the_engine(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  const int32_t data[2] = {7, 8};
  mlax_array *x;
  assert_int_equal(mlax_array_copy(engine, MLAX_INT32, 1, (int64_t[]){2}, data, &x, NULL), MLAX_OK);
  mlax_engine_release(engine);
  assert_memory_equal(mlax_array_data(x), data, sizeof data);
  mlax_array_release(x);
  mlax_array_release(NULL);
  assert_null(mlax_array_retain(NULL));
}

static void count_release(void *ud) { ++*(int *)ud; }

static void test_wrapped_memory(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  double data[3] = {1, 2, 3};
  int released = 0;
  mlax_array *x;
  mlax_error error;
  assert_int_equal(mlax_array_wrap(engine, MLAX_FLOAT64, 1, (int64_t[]){3}, data, count_release, &released, &x, &error),
                   MLAX_OK);
  assert_ptr_equal(mlax_array_data(x), data);
  assert_int_equal(released, 0);
  mlax_array_release(x);
  assert_int_equal(released, 1);
  assert_int_not_equal(
      mlax_array_wrap(engine, MLAX_FLOAT64, 1, (int64_t[]){-3}, data, count_release, &released, &x, &error), MLAX_OK);
  assert_null(x);
  assert_int_equal(released, 2); /* also on failure, once */
  mlax_engine_release(engine);
}

static void test_wrong_arguments(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  const int64_t huge[3] = {INT64_MAX / 2, 4, 4};
  const float data = 1;
  int64_t many[100];
  mlax_array *x = (mlax_array *)&data;
  mlax_error error;
  for (int i = 0; i < 100; i++) many[i] = 1;
  assert_int_not_equal(mlax_array_copy(engine, MLAX_FLOAT32, 3, huge, &data, &x, &error), MLAX_OK);
  assert_null(x);
  assert_int_not_equal(mlax_array_copy(engine, MLAX_FLOAT32, 100, many, &data, &x, &error), MLAX_OK);
  assert_int_not_equal(mlax_array_copy(engine, MLAX_FLOAT32, -1, many, &data, &x, &error), MLAX_OK);
  assert_int_not_equal(mlax_array_copy(engine, (mlax_dtype)99, 0, many, &data, &x, &error), MLAX_OK);
  assert_int_not_equal(error.status, MLAX_OK);
  assert_true(strlen(error.text) > 0 && strlen(error.text) < sizeof error.text);
  assert_int_equal(mlax_array_copy(engine, MLAX_FLOAT32, 0, NULL, &data, &x, NULL), MLAX_OK); /* a scalar */
  mlax_array_release(x);
  mlax_engine_release(engine);
}

static void test_memory_limit(void **state) {
  (void)state;
  enum { LIMIT = 8 << 20, SIZE = 3 << 20 };
  mlax_engine *engine = engine_with_limit(LIMIT);
  char *data = calloc(1, SIZE);
  mlax_array *x[4] = {0};
  mlax_error error;
  int made = 0;
  while (made < 4 && mlax_array_copy(engine, MLAX_UINT8, 1, (int64_t[]){SIZE}, data, &x[made], &error) == MLAX_OK)
    made++;
  assert_int_equal(made, 2);
  assert_int_equal(error.status, MLAX_LIMIT);
  assert_null(x[2]);
  assert_true(live(engine) <= LIMIT);
  mlax_array_release(x[0]);
  assert_int_equal(mlax_array_copy(engine, MLAX_UINT8, 1, (int64_t[]){SIZE}, data, &x[0], &error),
                   MLAX_OK); /* still usable */
  mlax_array_release(x[0]);
  mlax_array_release(x[1]);
  mlax_engine_release(engine);
  free(data);
}

/* -- the host's own allocator -------------------------------------------------------------------------------------- */

typedef struct own_heap {
  long left; /* allocations until the first that fails */
  size_t live;
} own_heap;

static void *own_alloc(void *ud, void *p, size_t old, size_t size, size_t align) {
  own_heap *h = ud;
  void *q = NULL;
  if (size && (h->left-- <= 0 || posix_memalign(&q, align < sizeof q ? sizeof q : align, size) != 0)) return NULL;
  if (p && size) memcpy(q, p, old < size ? old : size);
  if (p) h->live -= old;
  h->live += size;
  free(p);
  return q;
}

static mlax_status engine_and_array(own_heap *h) {
  mlax_options options = MLAX_OPTIONS;
  mlax_engine *engine = NULL;
  mlax_array *x = NULL;
  mlax_error error;
  const float data[2] = {1, 2};
  options.alloc = own_alloc;
  options.alloc_ud = h;
  mlax_status status = mlax_engine_new(&options, &engine, &error);
  if (status != MLAX_OK) assert_null(engine);
  else status = mlax_array_copy(engine, MLAX_FLOAT32, 1, (int64_t[]){2}, data, &x, &error);
  if (status != MLAX_OK) assert_null(x);
  mlax_array_release(x);
  mlax_engine_release(engine);
  return status;
}

static void test_failing_allocator(void **state) {
  (void)state;
  for (long n = 0;; n++) {
    own_heap h = {n, 0};
    mlax_status status = engine_and_array(&h);
    assert_int_equal(h.live, 0);
    if (status == MLAX_OK) break;
    assert_int_equal(status, MLAX_MEMORY);
    assert_true(n < 1000);
  }
}

/* -- threads, fork ------------------------------------------------------------------------------------------------- */

static void *share(void *arg) {
  for (int i = 0; i < 20000; i++) mlax_array_release(mlax_array_retain(arg));
  return NULL;
}

static void test_arrays_in_many_threads(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  const float data = 3;
  mlax_array *x;
  pthread_t threads[4];
  assert_int_equal(mlax_array_copy(engine, MLAX_FLOAT32, 0, NULL, &data, &x, NULL), MLAX_OK);
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, share, x), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  assert_memory_equal(mlax_array_data(x), &data, sizeof data);
  mlax_array_release(x);
  mlax_engine_release(engine);
}

static void test_fork(void **state) {
  (void)state;
  mlax_engine *engine = engine_with_limit(0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) { /* the parent's engine refuses, a new one works */
    const float data = 3;
    mlax_array *x;
    mlax_error error;
    mlax_engine *own;
    mlax_options options = MLAX_OPTIONS;
    if (mlax_array_copy(engine, MLAX_FLOAT32, 0, NULL, &data, &x, &error) != MLAX_STATE) _exit(1);
    if (mlax_engine_new(&options, &own, &error) != MLAX_OK) _exit(2);
    if (mlax_array_copy(own, MLAX_FLOAT32, 0, NULL, &data, &x, &error) != MLAX_OK) _exit(3);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  mlax_engine_release(engine);
}

static void test_abi(void **state) {
  (void)state;
  assert_int_equal(mlax_abi(), MLAX_ABI);
  assert_non_null(mlax_no_files());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_array_round_trip),
      cmocka_unit_test(test_arrays_keep_the_engine),
      cmocka_unit_test(test_wrapped_memory),
      cmocka_unit_test(test_wrong_arguments),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_failing_allocator),
      cmocka_unit_test(test_arrays_in_many_threads),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_abi),
  };
  return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
