/* process.c: which process this is, known without a system call. */
#include "base_impl.h"

#include <pthread.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_long process;
static atomic_bool forked;

static void child(void) {
  atomic_store(&process, (long)getpid());
  atomic_store(&forked, true);
}

static void start(void) {
  pthread_atfork(NULL, NULL, child);
  atomic_store(&process, (long)getpid());
}

long mx_process(void) {
  long id = atomic_load_explicit(&process, memory_order_relaxed);
  if (id) return id;
  pthread_once(&once, start);
  return atomic_load(&process);
}

bool mx_process_forked(void) { return atomic_load(&forked); }
