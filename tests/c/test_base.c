/* test_base.c: errors, memory, cache, threads, files, processes. */
#include "../../src/base/base.h"
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

/* -- an engine for each test ------------------------------------------------------------------- */

typedef struct world {
  fault fault;
  mlax_engine *engine;
  mx_ctx c;
} world;

static world *world_open(world *w, mlax_options options) {
  mlax_error error;
  if (mlax_engine_new(&options, &w->engine, &error) != MLAX_OK) fail_msg("%s", error.text);
  assert_true(mx_ctx_init(&w->c, w->engine));
  return w;
}

static void world_close(world *w) {
  mx_ctx_close(&w->c);
  mlax_engine_release(w->engine);
  assert_null(fault_end(&w->fault));
}

static mlax_memory_info memory_of(mlax_engine *e) {
  mlax_memory_info info;
  mlax_memory(e, &info);
  return info;
}

#define WORLD(name)                                                                                                    \
  world name;                                                                                                          \
  world_open(&name, fault_start(&name.fault))

#define assert_error(w, code, part)                                                                                    \
  do {                                                                                                                 \
    assert_int_equal((w).c.error.status, code);                                                                        \
    if (!strstr((w).c.error.text, part)) fail_msg("'%s' has no '%s'", (w).c.error.text, part);                         \
    mx_clear(&(w).c);                                                                                                  \
  } while (0)

/* -- errors ------------------------------------------------------------------------------------ */

static void test_first_error_wins(void **state) {
  (void)state;
  WORLD(w);
  assert_null(mx_fail(&w.c, MLAX_SHAPE, "first %d", 1));
  assert_null(mx_fail(&w.c, MLAX_IO, "second"));
  assert_true(mx_failed(&w.c));
  assert_error(w, MLAX_SHAPE, "first 1");
  assert_false(mx_failed(&w.c));
  world_close(&w);
}

static void test_report(void **state) {
  (void)state;
  mlax_error error;
  memset(&error, 'x', sizeof error);
  assert_int_equal(mx_report(&error, MLAX_OK, "%s", "unused"), MLAX_OK);
  assert_int_equal(error.status, MLAX_OK);
  assert_string_equal(error.text, "");
  assert_int_equal(mx_report(NULL, MLAX_IO, "nobody reads this"), MLAX_IO);
}

/* A text of `lead` letters and many characters of n bytes ends in a whole one. */
static void check_cut(const char *one, int lead) {
  char text[1200];
  mlax_error error;
  size_t n = strlen(one), at = (size_t)lead;
  memset(text, 'a', at);
  for (; at + n < sizeof text; at += n) memcpy(text + at, one, n);
  text[at] = '\0';
  mx_report(&error, MLAX_IO, "%s", text);
  size_t length = strlen(error.text);
  assert_in_range(length, sizeof error.text - n, sizeof error.text - 1);
  assert_int_equal((length - (size_t)lead) % n, 0);
}

static void test_text_is_cut_at_a_character(void **state) {
  (void)state;
  for (int lead = 0; lead < 4; lead++) {
    check_cut("a", lead);
    check_cut("\xC3\xA4", lead);
    check_cut("\xE2\x82\xAC", lead);
    check_cut("\xF0\x9F\x98\x80", lead);
  }
}

static void test_sites(void **state) {
  (void)state;
  WORLD(w);
  uint32_t sites[300];
  char source[32];
  for (int i = 0; i < 300; i++) {
    snprintf(source, sizeof source, "f%d.lua", i / 10);
    sites[i] = mx_site_intern(&w.c, source, i % 10);
    assert_int_not_equal(sites[i], 0);
  }
  assert_int_equal(mx_site_intern(&w.c, "f7.lua", 3), sites[73]);
  assert_string_equal(mx_site_text(&w.c, sites[73]), "f7.lua:3");
  assert_string_equal(mx_site_text(&w.c, 0), "?");
  assert_string_equal(mx_site_text(&w.c, 4000), "?");
  world_close(&w);
}

/* -- engines ----------------------------------------------------------------------------------- */

static void refused(const mlax_options *o, mlax_status status) {
  mlax_engine *e = (mlax_engine *)(uintptr_t)1;
  mlax_error error;
  assert_int_equal(mlax_engine_new(o, &e, &error), status);
  assert_int_equal(error.status, status);
  assert_null(e);
  assert_true(error.text[0] != '\0');
}

static void test_options(void **state) {
  (void)state;
  mlax_options o = {0};
  refused(&o, MLAX_ARGUMENT);
  o = (mlax_options)MLAX_OPTIONS;
  o.flags = 1u << 20;
  refused(&o, MLAX_ARGUMENT);
  o.flags = 0, o.threads = -1;
  refused(&o, MLAX_ARGUMENT);
  o.threads = 0;
  mlax_files files = {0};
  o.files = &files;
  refused(&o, MLAX_ARGUMENT);

  struct {
    mlax_options o;
    long more;
  } newer = {MLAX_OPTIONS, 0};
  newer.o.size = sizeof newer;
  mlax_engine *e;
  assert_int_equal(mlax_engine_new(&newer.o, &e, NULL), MLAX_OK);
  mlax_engine_release(e);
  newer.more = 1;
  refused(&newer.o, MLAX_ARGUMENT);

  mlax_options older = MLAX_OPTIONS; /* its struct ended after cache_limit */
  older.size = offsetof(mlax_options, threads);
  older.threads = -5;
  assert_int_equal(mlax_engine_new(&older, &e, NULL), MLAX_OK);
  mlax_engine_release(e);
  assert_int_equal(mlax_engine_new(NULL, &e, NULL), MLAX_OK);
  mlax_engine_release(e);
  mlax_engine_release(NULL);
  assert_int_equal(mlax_abi(), MLAX_ABI);
}

static int stop(void *ud) { return *(int *)ud; }

static void test_poll(void **state) {
  (void)state;
  world w;
  int wish = 0;
  mlax_options o = fault_start(&w.fault);
  o.poll = stop, o.poll_ud = &wish;
  world_open(&w, o);
  assert_true(mx_poll(&w.c));
  mlax_interrupt(w.engine);
  assert_false(mx_poll(&w.c));
  assert_error(w, MLAX_INTERRUPTED, "interrupted");
  assert_true(mx_poll(&w.c));
  wish = 1;
  assert_false(mx_poll(&w.c));
  assert_error(w, MLAX_INTERRUPTED, "host");
  world_close(&w);
}

/* Runs in a forked child: what an assertion would say is told by the exit code. */
static int child(world *w) {
  mlax_engine *e;
  mx_ctx c;
  if (mx_poll(&w->c) || w->c.error.status != MLAX_STATE) return 1;
  mx_clear(&w->c);
  if (mx_buffer_alloc(&w->c, 100) || w->c.error.status != MLAX_STATE) return 2;
  if (mlax_engine_new(NULL, &e, NULL) != MLAX_OK || e->threads != 1) return 3;
  mx_ctx_init(&c, e);
  void *p = mx_buffer_alloc(&c, 100);
  if (!p) return 4;
  mx_buffer_free(e, p, 100);
  mx_ctx_close(&c);
  mlax_engine_release(e);
  return 0;
}

static void nothing(void *arg, int i) { (void)arg, (void)i; }

static void test_fork(void **state) {
  (void)state;
  WORLD(w);
  int status;
  mx_parallel(w.engine, 2, nothing, NULL);
  void *p = mx_buffer_alloc(&w.c, 1000);
  pid_t pid = fork();
  if (pid == 0) {
    mx_buffer_free(w.engine, p, 1000); /* a collector may run there */
    _exit(child(&w));
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  mx_buffer_free(w.engine, p, 1000);
  world_close(&w);
}

/* -- memory ------------------------------------------------------------------------------------ */

static void test_small_memory(void **state) {
  (void)state;
  WORLD(w);
  char *p = mx_alloc(w.engine, 10), *zero = mx_alloc(w.engine, 0);
  assert_non_null(p);
  assert_non_null(zero);
  assert_int_equal((uintptr_t)p % 16, 0);
  strcpy(p, "123456789");
  p = mx_realloc(w.engine, p, 10, 1000);
  assert_string_equal(p, "123456789");
  assert_int_equal(memory_of(w.engine).live, 1001);
  p = mx_realloc(w.engine, p, 1000, 20);
  assert_string_equal(p, "123456789");
  assert_int_equal(memory_of(w.engine).live, 21);
  mx_free(w.engine, p, 20);
  mx_free(w.engine, zero, 0);
  mx_free(w.engine, NULL, 5);
  assert_int_equal(memory_of(w.engine).live, 0);
  assert_int_equal(memory_of(w.engine).peak, 1001);
  world_close(&w);
}

static void test_limit(void **state) {
  (void)state;
  world w;
  mlax_options o = fault_start(&w.fault);
  o.memory_limit = 10000;
  world_open(&w, o);
  void *p = mx_new(&w.c, 6000);
  assert_non_null(p);
  assert_null(mx_new(&w.c, 6000));
  assert_error(w, MLAX_LIMIT, "not enough memory for 6000 bytes");
  assert_null(mx_realloc(w.engine, p, 6000, 11000));
  assert_null(mx_new(&w.c, SIZE_MAX - 100));
  assert_error(w, MLAX_LIMIT, "not enough memory");
  assert_int_equal(memory_of(w.engine).live, 6000);
  mx_free(w.engine, p, 6000);
  fault_fail(&w.fault, 1, false);
  assert_null(mx_new(&w.c, 100));
  assert_error(w, MLAX_MEMORY, "not enough memory for 100 bytes");
  assert_int_equal(memory_of(w.engine).live, 0);
  world_close(&w);
}

static void test_grow(void **state) {
  (void)state;
  WORLD(w);
  int *items = NULL, cap = 0;
  for (int i = 0; i < 1000; i++) {
    assert_true(mx_grow(&w.c, &items, &cap, i + 1, sizeof *items));
    items[i] = i;
  }
  for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
  fault_fail(&w.fault, 1, false);
  int before = cap;
  assert_false(mx_grow(&w.c, &items, &cap, cap + 1, sizeof *items));
  assert_int_equal(cap, before);
  assert_error(w, MLAX_MEMORY, "not enough memory");
  assert_false(mx_grow(&w.c, &items, &cap, INT32_MAX, (size_t)1 << 40));
  assert_error(w, MLAX_MEMORY, "not enough memory");
  mx_free(w.engine, items, (size_t)cap * sizeof *items);
  world_close(&w);
}

static void test_arena(void **state) {
  (void)state;
  WORLD(w);
  mx_arena a = {0};
  for (size_t i = 0; i < 500; i++) {
    unsigned char *p = mx_arena_alloc(&w.c, &a, i * 7);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    for (size_t k = 0; k < i * 7; k++) assert_int_equal(p[k], 0);
    memset(p, 0xFF, i * 7);
  }
  assert_non_null(mx_arena_alloc(&w.c, &a, MIB));
  assert_null(mx_arena_alloc(&w.c, &a, SIZE_MAX));
  assert_error(w, MLAX_MEMORY, "not enough memory");
  mx_arena_release(&a);
  assert_int_equal(memory_of(w.engine).live, 0);
  mx_arena_release(&a);
  world_close(&w);
}

/* -- the cache --------------------------------------------------------------------------------- */

static void test_buffer_sizes(void **state) {
  (void)state;
  assert_int_equal(mx_buffer_size(0), 256);
  assert_int_equal(mx_buffer_size(257), 512);
  assert_int_equal(mx_buffer_size(1024), 1024);
  assert_int_equal(mx_buffer_size(1025), 1280);
  assert_int_equal(mx_buffer_size(MIB), MIB);
  assert_int_equal(mx_buffer_size(MIB + 1), MIB + MIB / 4);
  assert_int_equal(mx_buffer_size(SIZE_MAX), 0);
  for (size_t n = 1; n < 100000; n += 13) {
    size_t size = mx_buffer_size(n);
    assert_true(size >= n && size % 256 == 0 && mx_buffer_size(size) == size);
    assert_true(size <= n + n / 4 + 256);
  }
}

static void test_cache_reuse(void **state) {
  (void)state;
  WORLD(w);
  void *p = mx_buffer_alloc(&w.c, 100000);
  assert_int_equal((uintptr_t)p % 64, 0);
  size_t size = mx_buffer_size(100000);
  assert_int_equal(memory_of(w.engine).live, size);
  mx_buffer_free(w.engine, p, 100000);
  assert_int_equal(memory_of(w.engine).live, 0);
  assert_int_equal(memory_of(w.engine).cached, size);
  assert_ptr_equal(mx_buffer_alloc(&w.c, size), p); /* of the same class */
  assert_int_equal(memory_of(w.engine).cached, 0);
  assert_int_equal(memory_of(w.engine).peak, size);
  mx_buffer_free(w.engine, p, size);
  mx_cache_trim(w.engine);
  assert_int_equal(memory_of(w.engine).cached, 0);
  assert_int_equal(w.fault.bytes < size, true);
  assert_null(mx_buffer_alloc(&w.c, SIZE_MAX));
  assert_error(w, MLAX_MEMORY, "not enough memory");
  world_close(&w);
}

static void test_cache_is_bounded(void **state) {
  (void)state;
  world w;
  mlax_options o = fault_start(&w.fault);
  o.cache_limit = 10 * 1024;
  world_open(&w, o);
  void *p[20];
  for (int i = 0; i < 20; i++) p[i] = mx_buffer_alloc(&w.c, 1024);
  for (int i = 0; i < 20; i++) {
    mx_buffer_free(w.engine, p[i], 1024);
    assert_true(memory_of(w.engine).cached <= o.cache_limit);
  }
  assert_int_equal(memory_of(w.engine).cached, o.cache_limit);
  assert_ptr_equal(mx_buffer_alloc(&w.c, 1024), p[19]); /* the warmest first */
  mx_buffer_free(w.engine, p[19], 1024);
  void *large = mx_buffer_alloc(&w.c, 20 * 1024); /* never kept */
  mx_buffer_free(w.engine, large, 20 * 1024);
  assert_int_equal(memory_of(w.engine).cached, o.cache_limit);
  world_close(&w);
}

/* Cached memory gives way to the limit and to a failing allocator. */
static void test_cache_gives_way(void **state) {
  (void)state;
  world w;
  mlax_options o = fault_start(&w.fault);
  o.memory_limit = MIB;
  world_open(&w, o);
  void *p = mx_buffer_alloc(&w.c, 700 * 1024);
  mx_buffer_free(w.engine, p, 700 * 1024);
  p = mx_buffer_alloc(&w.c, 500 * 1024); /* with the 700 cached it would be too much */
  assert_non_null(p);
  assert_int_equal(memory_of(w.engine).cached, 0);
  mx_buffer_free(w.engine, p, 500 * 1024);
  p = mx_alloc(w.engine, 900 * 1024);
  assert_non_null(p);
  mx_free(w.engine, p, 900 * 1024);
  mx_buffer_free(w.engine, mx_buffer_alloc(&w.c, 4096), 4096);
  fault_fail(&w.fault, 1, false);
  p = mx_buffer_alloc(&w.c, 10000);
  assert_non_null(p);
  assert_int_equal(memory_of(w.engine).cached, 0);
  mx_buffer_free(w.engine, p, 10000);
  world_close(&w);
}

/* What a collector would free. */
typedef struct garbage {
  mlax_engine *engine;
  void *p;
  size_t bytes;
  int calls;
} garbage;

static bool collect(void *ud) {
  garbage *g = ud;
  g->calls++;
  mx_buffer_free(g->engine, g->p, g->bytes);
  g->p = NULL;
  return true;
}

static void test_collect_precedes_failure(void **state) {
  (void)state;
  world w;
  mlax_options o = fault_start(&w.fault);
  o.memory_limit = MIB;
  world_open(&w, o);
  garbage g = {w.engine, mx_buffer_alloc(&w.c, 800 * 1024), 800 * 1024, 0};
  w.c.collect = collect, w.c.ud = &g;
  void *p = mx_buffer_alloc(&w.c, 600 * 1024);
  assert_non_null(p);
  assert_int_equal(g.calls, 1);
  assert_null(mx_buffer_alloc(&w.c, 600 * 1024));
  assert_int_equal(g.calls, 2);
  assert_error(w, MLAX_LIMIT, "limit");
  assert_null(mx_new(&w.c, 600 * 1024));
  assert_int_equal(g.calls, 3);
  assert_error(w, MLAX_LIMIT, "limit");
  mx_buffer_free(w.engine, p, 600 * 1024);
  world_close(&w);
}

/* The default allocator: aligned, in huge pages, and without page faults once it is warm. */
static void test_no_page_faults(void **state) {
  (void)state;
  world w;
  fault_start(&w.fault);
  world_open(&w, (mlax_options)MLAX_OPTIONS);
  struct rusage before, after;
  for (int i = 0; i < 60; i++) {
    if (i == 10) getrusage(RUSAGE_SELF, &before);
    char *p = mx_buffer_alloc(&w.c, 4 * MIB);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (2 * MIB), 0);
    memset(p, i, 4 * MIB);
    mx_buffer_free(w.engine, p, 4 * MIB);
  }
  getrusage(RUSAGE_SELF, &after);
  assert_in_range(after.ru_minflt - before.ru_minflt, 0, 50); /* some are the test's */
  world_close(&w);
}

static void *churn(void *arg) {
  mlax_engine *e = arg;
  mx_ctx c;
  unsigned seed = 1;
  mx_ctx_init(&c, e);
  for (int i = 0; i < 2000; i++) {
    size_t bytes = 1 + (size_t)(rand_r(&seed) % 50000);
    char *p = mx_buffer_alloc(&c, bytes), *q = mx_alloc(e, bytes);
    if (p) p[0] = p[bytes - 1] = 1;
    if (i % 100 == 0) mx_cache_trim(e);
    mx_buffer_free(e, p, bytes);
    mx_free(e, q, bytes);
    mx_clear(&c);
  }
  mx_ctx_close(&c);
  return NULL;
}

static void test_cache_in_threads(void **state) {
  (void)state;
  world w;
  mlax_options o = fault_start(&w.fault);
  o.cache_limit = 100000, o.memory_limit = 300000;
  world_open(&w, o);
  pthread_t ids[4];
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&ids[i], NULL, churn, w.engine), 0);
  for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
  mlax_memory_info info = memory_of(w.engine);
  assert_int_equal(info.live, 0);
  assert_true(info.cached <= 100000 && info.peak <= 300000);
  world_close(&w);
}

/* -- threads ----------------------------------------------------------------------------------- */

typedef struct job {
  mlax_engine *engine;
  atomic_int seen[100];
  atomic_int inner;
} job;

static void count_inner(void *arg, int i) {
  (void)i;
  atomic_fetch_add(&((job *)arg)->inner, 1);
}

static void count_outer(void *arg, int i) {
  job *j = arg;
  atomic_fetch_add(&j->seen[i], 1);
  mx_parallel(j->engine, 3, count_inner, j); /* nested: serial */
}

static void check_parallel(mlax_engine *e) {
  job j = {.engine = e};
  mx_parallel(e, 100, count_outer, &j);
  for (int i = 0; i < 100; i++) assert_int_equal(j.seen[i], 1);
  assert_int_equal(j.inner, 300);
}

static void backwards(void *ud, int n, void (*body)(void *arg, int i), void *arg) {
  ++*(int *)ud;
  while (n-- > 0) body(arg, n);
}

static void test_parallel(void **state) {
  (void)state;
  WORLD(w);
  check_parallel(w.engine);
  world_close(&w);

  int calls = 0;
  mlax_options o = fault_start(&w.fault);
  o.threads = 2, o.parallel_for = backwards, o.parallel_ud = &calls;
  world_open(&w, o);
  check_parallel(w.engine);
  assert_int_equal(calls, 1);
  assert_false(w.engine->blas_parallel);
  world_close(&w);
}

static void test_chunks(void **state) {
  (void)state;
  mlax_engine e = {.threads = 8};
  assert_int_equal(mx_chunks(&e, 1000, 1), 1);
  assert_int_equal(mx_chunks(&e, 4000, 1), 2);
  assert_int_equal(mx_chunks(&e, 1000000, 1), 8);
  assert_int_equal(mx_chunks(&e, 3, 1e9), 3);
  assert_int_equal(mx_chunks(&e, 0, 1e9), 1);
  assert_int_equal(mx_chunks(&e, INT64_MAX, 1e9), 8);
}

static void test_hash(void **state) {
  (void)state;
  unsigned char bytes[64] = {0};
  uint64_t seen[65];
  for (size_t n = 0; n <= 64; n++) {
    seen[n] = mx_hash_bytes(7, bytes, n);
    for (size_t k = 0; k < n; k++) assert_int_not_equal(seen[k], seen[n]);
  }
  bytes[20] = 1;
  assert_int_not_equal(mx_hash_bytes(7, bytes, 64), seen[64]);
  assert_int_not_equal(mx_hash_bytes(8, bytes, 64), mx_hash_bytes(7, bytes, 64));
}

/* -- files ------------------------------------------------------------------------------------- */

/* A folder of its own for each test. */
typedef struct folder {
  char path[64], file[96];
} folder;

static void folder_open(folder *d) {
  strcpy(d->path, "/tmp/mlax-test-XXXXXX");
  assert_non_null(mkdtemp(d->path));
  snprintf(d->file, sizeof d->file, "%s/data", d->path);
}

/* Fails where more than the one file is left. */
static void folder_close(folder *d) {
  remove(d->file);
  assert_int_equal(rmdir(d->path), 0);
}

static void assert_content(world *w, const char *path, const char *want) {
  size_t n;
  char *text = mx_file_read(&w->c, path, 0, &n);
  assert_non_null(text);
  assert_string_equal(text, want);
  assert_int_equal(n, strlen(want));
  mx_free(w->engine, text, n + 1);
}

static void test_files(void **state) {
  (void)state;
  WORLD(w);
  folder d;
  size_t n;
  folder_open(&d);
  assert_true(mx_file_write(&w.c, d.file, "hello", 5));
  assert_content(&w, d.file, "hello");
  assert_true(mx_file_write(&w.c, d.file, "", 0));
  assert_content(&w, d.file, "");
  assert_true(mx_file_write(&w.c, d.file, "again", 5));
  assert_null(mx_file_read(&w.c, d.file, 4, &n));
  assert_error(w, MLAX_IO, "5 bytes");

  assert_null(mx_file_read(&w.c, d.path, 0, &n));
  assert_error(w, MLAX_IO, strerror(EISDIR));
  assert_false(mx_file_write(&w.c, d.path, "x", 1));
  assert_error(w, MLAX_IO, d.path);
  assert_null(mx_file_read(&w.c, "/nowhere/at/all", 0, &n));
  assert_error(w, MLAX_IO, "cannot open '/nowhere/at/all': ");
  assert_int_equal(n, 0);
  assert_false(mx_file_write(&w.c, "/nowhere/at/all", "x", 1));
  assert_error(w, MLAX_IO, "cannot write");
  char *deep = malloc(6001);
  memset(deep, 'd', 6000);
  deep[6000] = '\0';
  assert_false(mx_file_write(&w.c, deep, "x", 1));
  assert_error(w, MLAX_IO, "too long");
  free(deep);
  folder_close(&d);
  world_close(&w);
}

static void test_files_in_pieces(void **state) {
  (void)state;
  WORLD(w);
  folder d;
  mx_writer a;
  mx_file f;
  char text[4] = "";
  folder_open(&d);
  assert_true(mx_file_write(&w.c, d.file, "old", 3));
  assert_true(mx_writer_open(&w.c, &a, d.file));
  assert_true(mx_writer_add(&w.c, &a, "ne", 2) && mx_writer_add(&w.c, &a, "", 0) && mx_writer_add(&w.c, &a, "wer", 3));
  assert_int_equal(a.written, 5);
  assert_content(&w, d.file, "old");
  assert_true(mx_writer_commit(&w.c, &a));
  mx_writer_discard(w.engine, &a); /* nothing any more */
  assert_content(&w, d.file, "newer");

  assert_true(mx_writer_open(&w.c, &a, d.file));
  assert_true(mx_writer_add(&w.c, &a, "none", 4));
  mx_writer_discard(w.engine, &a);
  assert_content(&w, d.file, "newer");

  assert_true(mx_file_open(&w.c, &f, d.file));
  assert_int_equal(f.size, 5);
  assert_true(mx_file_read_at(&w.c, &f, 2, text, 3) && mx_file_read_at(&w.c, &f, 1, text + 3, 1));
  assert_memory_equal(text, "were", 4);
  assert_false(mx_file_read_at(&w.c, &f, 4, text, 2));
  assert_error(w, MLAX_IO, "shorter");
  mx_file_close(w.engine, &f);
  mx_file_close(w.engine, &f);
  assert_true(mx_file_remove(&w.c, d.file) && mx_file_remove(&w.c, d.file));
  folder_close(&d);
  world_close(&w);
}

/* The name that a process of the same number left behind is not taken again. */
static void test_stale_temporaries(void **state) {
  (void)state;
  WORLD(w);
  folder d;
  mx_writer a;
  char next[MX_MAX_PATH];
  unsigned n;
  folder_open(&d);
  assert_true(mx_writer_open(&w.c, &a, d.file));
  const char *dash = strrchr(a.temporary, '-');
  assert_int_equal(sscanf(dash, "-%x.tmp", &n), 1);
  snprintf(next, sizeof next, "%.*s-%x.tmp", (int)(dash - a.temporary), a.temporary, n + 1);
  mx_writer_discard(w.engine, &a);
  FILE *stale = fopen(next, "w");
  assert_non_null(stale);
  fclose(stale);
  assert_true(mx_file_write(&w.c, d.file, "new", 3));
  assert_content(&w, d.file, "new");
  assert_int_equal(remove(next), 0);
  folder_close(&d);
  world_close(&w);
}

static int find_data(void *arg, const char *name) {
  *(int *)arg += !strcmp(name, "data");
  return !strcmp(name, "data");
}

static void test_directories(void **state) {
  (void)state;
  WORLD(w);
  folder d;
  int found = 0;
  folder_open(&d);
  assert_true(mx_directory_make(&w.c, d.file) && mx_directory_make(&w.c, d.file));
  assert_true(mx_directory_list(&w.c, d.path, find_data, &found));
  assert_int_equal(found, 1);
  assert_int_equal(rmdir(d.file), 0);
  assert_true(mx_file_write(&w.c, d.file, "x", 1));
  assert_false(mx_directory_make(&w.c, d.file));
  assert_error(w, MLAX_IO, strerror(EEXIST));
  assert_false(mx_directory_list(&w.c, "/nowhere", find_data, &found));
  assert_error(w, MLAX_IO, "cannot read the directory '/nowhere'");
  folder_close(&d);
  world_close(&w);
}

static void test_no_files(void **state) {
  (void)state;
  world w;
  size_t n;
  mlax_options o = fault_start(&w.fault);
  o.files = MLAX_NO_FILES;
  world_open(&w, o);
  assert_null(mx_file_read(&w.c, "/etc/passwd", 0, &n));
  assert_error(w, MLAX_IO, "cannot open");
  assert_false(mx_file_write(&w.c, "/tmp/x", "x", 1));
  assert_error(w, MLAX_IO, "cannot write");
  world_close(&w);
}

/* The C library's files, one of whose functions fails, or does half its work. */
typedef enum { NONE, OPEN, LENGTH, READ, WRITE, SYNC, CLOSE, RENAME, SHRINK, HALVES } broken;

static int fails(void *ud, broken what) {
  if (*(broken *)ud != what) return 0;
  errno = ENOSPC;
  return -1;
}
static void *bad_open(void *ud, const char *path, int write) {
  return fails(ud, OPEN) ? NULL : mx_stdio_files.open(NULL, path, write);
}
static int64_t bad_length(void *ud, void *file) {
  int64_t n = mx_stdio_files.length(NULL, file);
  return fails(ud, LENGTH) ? -1 : n + (fails(ud, SHRINK) ? 10 : 0);
}
static int64_t bad_read(void *ud, void *file, int64_t offset, void *to, size_t bytes) {
  if (fails(ud, HALVES)) bytes = (bytes + 1) / 2;
  return fails(ud, READ) ? -1 : mx_stdio_files.read(NULL, file, offset, to, bytes);
}
static int64_t bad_write(void *ud, void *file, const void *from, size_t bytes) {
  if (fails(ud, HALVES)) bytes = (bytes + 1) / 2;
  return fails(ud, WRITE) ? -1 : mx_stdio_files.write(NULL, file, from, bytes);
}
static int bad_sync(void *ud, void *file) { return fails(ud, SYNC) ? -1 : mx_stdio_files.sync(NULL, file); }
static int bad_close(void *ud, void *file) {
  int r = mx_stdio_files.close(NULL, file);
  return fails(ud, CLOSE) ? -1 : r;
}
static int bad_rename(void *ud, const char *from, const char *to) {
  return fails(ud, RENAME) ? -1 : mx_stdio_files.rename(NULL, from, to);
}
static int bad_remove(void *ud, const char *path) { return (void)ud, mx_stdio_files.remove(NULL, path); }

static void test_failing_files(void **state) {
  (void)state;
  world w;
  folder d;
  broken what = NONE;
  size_t n;
  mlax_files files = {.size = offsetof(mlax_files, make_directory), /* a host that knows no directories */
                      .ud = &what,
                      .open = bad_open,
                      .length = bad_length,
                      .read = bad_read,
                      .write = bad_write,
                      .sync = bad_sync,
                      .close = bad_close,
                      .rename = bad_rename,
                      .remove = bad_remove};
  mlax_options o = fault_start(&w.fault);
  o.files = &files;
  world_open(&w, o);
  folder_open(&d);
  assert_true(mx_file_write(&w.c, d.file, "the old one", 11));
  const broken writing[] = {OPEN, WRITE, SYNC, CLOSE, RENAME};
  for (int i = 0; i < 5; i++) {
    what = writing[i];
    assert_false(mx_file_write(&w.c, d.file, "new", 3));
    assert_error(w, MLAX_IO, strerror(ENOSPC));
    what = NONE;
    assert_content(&w, d.file, "the old one");
  }
  const broken reading[] = {OPEN, LENGTH, READ, SHRINK};
  for (int i = 0; i < 4; i++) {
    what = reading[i];
    assert_null(mx_file_read(&w.c, d.file, 0, &n));
    assert_error(w, MLAX_IO, what == SHRINK ? "shorter" : strerror(ENOSPC));
  }
  what = HALVES;
  assert_true(mx_file_write(&w.c, d.file, "in small pieces", 15));
  assert_content(&w, d.file, "in small pieces");
  assert_false(mx_directory_make(&w.c, "/tmp/x"));
  assert_error(w, MLAX_IO, "have no directories");
  assert_false(mx_directory_list(&w.c, "/tmp", NULL, NULL));
  assert_error(w, MLAX_IO, "have no directories");
  folder_close(&d); /* no temporary file is left */
  world_close(&w);
}

/* -- every allocation fails once --------------------------------------------------------------- */

static bool use_all(mlax_engine *e, void *arg) {
  const char *path = ((folder *)arg)->file;
  mx_ctx c;
  mx_arena a = {0};
  int *items = NULL, cap = 0;
  size_t n = 0;
  mx_ctx_init(&c, e);
  uint32_t site = mx_site_intern(&c, "a.lua", 1);
  for (int i = 0; i < 40; i++) site = mx_site_intern(&c, "b.lua", i) && site;
  bool ok = site && mx_arena_alloc(&c, &a, 100) && mx_arena_alloc(&c, &a, 5000) &&
            mx_grow(&c, &items, &cap, 10, sizeof *items) && mx_grow(&c, &items, &cap, 100, sizeof *items);
  void *p = mx_buffer_alloc(&c, 1000), *q = mx_buffer_alloc(&c, 3000);
  mx_buffer_free(e, p, 1000);
  void *text = ok && p && q && mx_file_write(&c, path, "x", 1) ? mx_file_read(&c, path, 0, &n) : NULL;
  if (!text && site && c.error.status != MLAX_MEMORY) ok = false;
  mx_free(e, text, n + 1);
  mx_buffer_free(e, q, 3000);
  mx_arena_release(&a);
  mx_free(e, items, (size_t)cap * sizeof *items);
  mx_ctx_close(&c);
  return ok && text;
}

static void test_failing_allocations(void **state) {
  (void)state;
  folder d;
  folder_open(&d);
  const char *problem = fault_sweep(use_all, &d);
  folder_close(&d);
  if (problem) fail_msg("%s", problem);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_error_wins),
      cmocka_unit_test(test_report),
      cmocka_unit_test(test_text_is_cut_at_a_character),
      cmocka_unit_test(test_sites),
      cmocka_unit_test(test_options),
      cmocka_unit_test(test_poll),
      cmocka_unit_test(test_fork),
      cmocka_unit_test(test_small_memory),
      cmocka_unit_test(test_limit),
      cmocka_unit_test(test_grow),
      cmocka_unit_test(test_arena),
      cmocka_unit_test(test_buffer_sizes),
      cmocka_unit_test(test_cache_reuse),
      cmocka_unit_test(test_cache_is_bounded),
      cmocka_unit_test(test_cache_gives_way),
      cmocka_unit_test(test_collect_precedes_failure),
      cmocka_unit_test(test_no_page_faults),
      cmocka_unit_test(test_cache_in_threads),
      cmocka_unit_test(test_parallel),
      cmocka_unit_test(test_chunks),
      cmocka_unit_test(test_hash),
      cmocka_unit_test(test_files),
      cmocka_unit_test(test_files_in_pieces),
      cmocka_unit_test(test_stale_temporaries),
      cmocka_unit_test(test_directories),
      cmocka_unit_test(test_no_files),
      cmocka_unit_test(test_failing_files),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
