/* test_pool.c: freed small blocks: who keeps them, what they count as, when they go. */
#include "../../src/base/base.h"
#include "fault.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

typedef struct world {
  mlax_engine *engine;
  mx_ctx c;
  bool pools; /* not under the address sanitizer */
} world;

static void world_open(world *w, mlax_options options) {
  options.threads = 1;
  assert_int_equal(mlax_engine_new(&options, &w->engine, NULL), MLAX_OK);
  assert_true(mx_ctx_init(&w->c, w->engine));
  w->pools = w->engine->pool.most > 0;
}

static void world_close(world *w) {
  mx_ctx_close(&w->c);
  mlax_engine_release(w->engine);
}

static mlax_memory_info memory_of(const world *w) {
  mlax_memory_info info;
  mlax_memory(w->engine, &info);
  return info;
}

static void test_reuse(void **state) {
  (void)state;
  world w;
  world_open(&w, (mlax_options)MLAX_OPTIONS);
  char *p = mx_alloc(w.engine, 100), *q = mx_buffer_alloc(&w.c, 300);
  memset(p, 1, 100);
  memset(q, 2, 300);
  size_t live = memory_of(&w).live;
  mx_free(w.engine, p, 100);
  mx_buffer_free(w.engine, q, 300);
  assert_int_equal(memory_of(&w).live, 0);
  if (w.pools) {
    assert_int_equal(memory_of(&w).cached, live);
    assert_ptr_equal(mx_alloc(w.engine, 97), p); /* of the same size, in steps of 16 */
    assert_ptr_equal(mx_buffer_alloc(&w.c, 512), q);
    assert_int_equal((uintptr_t)q % 64, 0);
    assert_int_equal(memory_of(&w).live, live);
    assert_int_equal(memory_of(&w).cached, 0);
    mx_free(w.engine, p, 112);
    mx_buffer_free(w.engine, q, 512);
  }
  mx_cache_trim(w.engine);
  assert_int_equal(memory_of(&w).cached, 0);
  assert_int_equal(memory_of(&w).live, 0);
  world_close(&w);
}

static void test_growing_blocks(void **state) {
  (void)state;
  world w;
  world_open(&w, (mlax_options)MLAX_OPTIONS);
  for (int round = 0; round < 3; round++) {
    char *p = mx_alloc(w.engine, 0);
    for (size_t n = 1; n < 2000; n += 37) {
      p = mx_realloc(w.engine, p, n == 1 ? 0 : n - 37, n);
      assert_non_null(p);
      p[n - 1] = (char)n;
    }
    mx_free(w.engine, p, 1999);
    assert_int_equal(memory_of(&w).live, 0);
  }
  world_close(&w);
}

enum { MANY = 20000 };

static void test_bounds(void **state) {
  (void)state;
  world w;
  mlax_options o = MLAX_OPTIONS;
  for (o.cache_limit = 0; o.cache_limit <= 5000; o.cache_limit += 5000) {
    void **p = malloc(MANY * sizeof *p);
    world_open(&w, o);
    for (int i = 0; i < MANY; i++) assert_non_null(p[i] = mx_alloc(w.engine, 256));
    for (int i = 0; i < MANY; i++) mx_free(w.engine, p[i], 256);
    assert_int_equal(memory_of(&w).live, 0);
    assert_true(memory_of(&w).cached <= (o.cache_limit ? o.cache_limit : MIB));
    world_close(&w);
    free(p);
  }
}

/* Kept blocks give way to the limit. */
static void test_limit(void **state) {
  (void)state;
  world w;
  mlax_options o = MLAX_OPTIONS;
  o.memory_limit = 100000;
  world_open(&w, o);
  void *p[200];
  for (int i = 0; i < 200; i++) assert_non_null(p[i] = mx_alloc(w.engine, 400));
  assert_null(mx_alloc(w.engine, 30000));
  for (int i = 0; i < 200; i++) mx_free(w.engine, p[i], 400);
  void *large = mx_alloc(w.engine, 90000), *storage;
  assert_non_null(large);
  mx_free(w.engine, large, 90000);
  for (int i = 0; i < 200; i++) assert_non_null(p[i] = mx_alloc(w.engine, 400));
  for (int i = 0; i < 200; i++) mx_free(w.engine, p[i], 400);
  assert_non_null(storage = mx_buffer_alloc(&w.c, 90000));
  mx_buffer_free(w.engine, storage, 90000);
  assert_true(memory_of(&w).peak <= 100000);
  world_close(&w);
}

/* Blocks pass between threads; those that do not own the pool leave it alone. */
static void *free_and_make(void *arg) {
  world *w = arg;
  mx_ctx c;
  if (!mx_ctx_init(&c, w->engine)) return NULL;
  size_t kept = w->engine->pool.kept;
  void *p = mx_alloc(w->engine, 64), *q = mx_buffer_alloc(&c, 64);
  bool alone = w->engine->pool.kept == kept;
  mx_free(w->engine, p, 64);
  mx_buffer_free(w->engine, q, 64);
  mx_ctx_close(&c);
  return alone && w->engine->pool.kept == kept ? w : NULL;
}

static void test_threads(void **state) {
  (void)state;
  world w;
  pthread_t id;
  void *result;
  world_open(&w, (mlax_options)MLAX_OPTIONS);
  void *p = mx_alloc(w.engine, 64), *q = mx_buffer_alloc(&w.c, 64);
  mx_free(w.engine, p, 64);
  mx_buffer_free(w.engine, q, 64);
  assert_int_equal(pthread_create(&id, NULL, free_and_make, &w), 0);
  pthread_join(id, &result);
  assert_ptr_equal(result, &w);
  assert_int_equal(memory_of(&w).live, 0);
  world_close(&w);
}

static void *churn(void *engine) {
  mlax_engine *e = engine;
  mx_ctx c;
  unsigned seed = (unsigned)(uintptr_t)&c;
  if (!mx_ctx_init(&c, e)) return NULL;
  for (int i = 0; i < 2000; i++) {
    size_t bytes = 1 + (size_t)(rand_r(&seed) % 1500);
    char *p = mx_alloc(e, bytes), *q = mx_buffer_alloc(&c, bytes);
    if (p) p[0] = p[bytes - 1] = 1;
    if (q) q[0] = q[bytes - 1] = 1;
    if (i % 100 == 0) mx_cache_trim(e);
    mx_free(e, p, bytes);
    mx_buffer_free(e, q, bytes);
  }
  mx_ctx_close(&c);
  return NULL;
}

static void test_threads_at_once(void **state) {
  (void)state;
  world w;
  pthread_t ids[3];
  world_open(&w, (mlax_options)MLAX_OPTIONS);
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&ids[i], NULL, churn, w.engine), 0);
  churn(w.engine);
  for (int i = 0; i < 3; i++) pthread_join(ids[i], NULL);
  assert_int_equal(memory_of(&w).live, 0);
  world_close(&w);
}

/* A host's allocator sees each block, so that any of them may fail. */
static void test_none_for_hosts(void **state) {
  (void)state;
  fault f;
  world w;
  world_open(&w, fault_start(&f));
  assert_false(w.pools);
  void *p = mx_alloc(w.engine, 100);
  size_t bytes = f.bytes;
  mx_free(w.engine, p, 100);
  assert_int_equal(f.bytes, bytes - 100);
  fault_fail(&f, 1, false);
  assert_null(mx_alloc(w.engine, 100));
  world_close(&w);
  assert_null(fault_end(&f));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reuse),          cmocka_unit_test(test_growing_blocks),
      cmocka_unit_test(test_bounds),         cmocka_unit_test(test_limit),
      cmocka_unit_test(test_threads),        cmocka_unit_test(test_threads_at_once),
      cmocka_unit_test(test_none_for_hosts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
