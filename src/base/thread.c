/* thread.c: the one place where work is spread over threads. */
#include "base_impl.h"

#include <omp.h>
#include <pthread.h>

/* A region costs about 1 us while its workers are awake, so less work than this for each chunk does not pay. */
#define CHUNK_NS 2000.0

#if defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define __SANITIZE_THREAD__ 1
#  endif
#endif
#if defined(__SANITIZE_THREAD__) /* it does not see the barriers of OpenMP */
#  include <sanitizer/tsan_interface.h>
#  define UNSEEN __attribute__((no_sanitize("thread")))
static void hand_over(void *p) { __tsan_release(p); }
static void take_over(void *p) { __tsan_acquire(p); }
#else
#  define UNSEEN
static void hand_over(void *p) { (void)p; }
static void take_over(void *p) { (void)p; }
#endif

static _Thread_local bool inside; /* a body runs in this thread */

typedef struct task {
  void (*body)(void *arg, int i);
  void *arg;
} task;

static void run_one(void *arg, int i) {
  const task *t = arg;
  uint32_t mode = mx_flush_begin();
  inside = true;
  t->body(t->arg, i);
  inside = false;
  mx_flush_end(mode);
}

static void run_serial(int n, void (*body)(void *arg, int i), void *arg) {
  for (int i = 0; i < n; i++) body(arg, i);
}

UNSEEN static void run_openmp(int threads, int n, task *t) {
  hand_over(&t->body);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int i = 0; i < n; i++) {
    take_over(&t->body);
    run_one(t, i);
    hand_over(&t->arg);
  }
  take_over(&t->arg);
}

/* Nested regions, and engines of a parent process, run serially. */
static bool is_serial(const mlax_engine *e) {
  return e->threads <= 1 || inside || omp_in_parallel() || mx_process() != e->pid;
}

void mx_parallel(mlax_engine *e, int n, void (*body)(void *arg, int i), void *arg) {
  task t = {body, arg};
  if (n <= 1 || is_serial(e)) run_serial(n, body, arg);
  else if (e->parallel_for) e->parallel_for(e->parallel_ud, n, run_one, &t);
  else run_openmp(n < e->threads ? n : e->threads, n, &t);
}

int mx_chunks(const mlax_engine *e, int64_t items, double ns_per_item) {
  double chunks = (double)items * ns_per_item / CHUNK_NS;
  if (chunks < 2 || items < 2) return 1;
  if (chunks > e->threads) chunks = e->threads;
  return chunks > (double)items ? (int)items : (int)chunks;
}

int mx_threads_default(void) {
  int n = omp_get_max_threads();
  return n < 1 ? 1 : n;
}

static void *wait_for_gate(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return NULL;
}

/* Starts helpers that wait until the last of them is there. */
static int count_startable(int n) {
  pthread_t ids[MX_MAX_THREADS];
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  int have = 0;
  pthread_mutex_lock(&gate);
  while (have < n && pthread_create(&ids[have], NULL, wait_for_gate, &gate) == 0) have++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < have; i++) pthread_join(ids[i], NULL);
  return have;
}

int mx_threads_possible(int threads) {
  static atomic_int proven;
  if (atomic_load(&proven) >= threads) return threads;
  int have = 1 + count_startable(threads - 1);
  atomic_store(&proven, have);
  return have;
}

int mx_serial_begin(void) {
  int n = omp_get_max_threads();
  if (n > 1) omp_set_num_threads(1);
  return n;
}

void mx_serial_end(int n) {
  if (n > 1) omp_set_num_threads(n);
}

void mx_threads_after_fork(void) { omp_set_num_threads(1); }
