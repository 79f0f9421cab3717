#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, GUARD_BYTE = 0xFD, NEW_BYTE = 0xA5, FREED_BYTE = 0xDD, ALIVE = 0x600D };

typedef struct fault_block {
  struct fault_block *next, *previous;
  size_t size, align;
  int mark; /* ALIVE */
} block;

/* The header and the front guard, up to a multiple of the alignment. */
static size_t front_of(size_t align) { return (sizeof(block) + GUARD + align - 1) / align * align; }

static void note(fault *f, const char *problem) {
  if (!f->problem) f->problem = problem;
}

static bool is_filled(const char *p, unsigned char byte) {
  for (int i = 0; i < GUARD; i++)
    if ((unsigned char)p[i] != byte) return false;
  return true;
}

static void check_guards(fault *f, block *b) {
  char *p = (char *)b + front_of(b->align);
  if (!is_filled(p - GUARD, GUARD_BYTE)) note(f, "bytes before a block were overwritten");
  if (!is_filled(p + b->size, GUARD_BYTE)) note(f, "bytes behind a block were overwritten");
}

static char *block_new(fault *f, size_t size, size_t align) {
  size_t front = front_of(align);
  void *raw;
  if (posix_memalign(&raw, align < sizeof(void *) ? sizeof(void *) : align, front + size + GUARD) != 0) return NULL;
  block *b = raw;
  char *p = (char *)raw + front;
  *b = (block){f->blocks, NULL, size, align, ALIVE};
  if (f->blocks) f->blocks->previous = b;
  f->blocks = b;
  memset(p - GUARD, GUARD_BYTE, GUARD);
  memset(p, NEW_BYTE, size);
  memset(p + size, GUARD_BYTE, GUARD);
  f->bytes += size;
  if (f->bytes > f->peak) f->peak = f->bytes;
  return p;
}

static void block_free(fault *f, block *b) {
  check_guards(f, b);
  if (b->previous) b->previous->next = b->next;
  else f->blocks = b->next;
  if (b->next) b->next->previous = b->previous;
  f->bytes -= b->size;
  memset(b, FREED_BYTE, front_of(b->align) + b->size);
  free(b);
}

static bool must_fail(fault *f) {
  long n = ++f->count;
  bool fails = f->at && (n == f->at || (f->onwards && n > f->at));
  f->failed += fails;
  return fails;
}

/* A block that grows or shrinks always moves, so that stale pointers show. */
static void *resize(fault *f, char *p, size_t old_size, size_t size, size_t align) {
  block *b = p ? (block *)(void *)(p - front_of(align)) : NULL;
  if (b && b->mark != ALIVE) return note(f, "what was freed is no block, or has another alignment"), NULL;
  if (b && b->size != old_size) note(f, "a block was freed with another size");
  if (!size) return b ? block_free(f, b) : (void)0, NULL;
  if (must_fail(f)) return NULL;
  char *q = block_new(f, size, align);
  if (!q || !b) return q;
  memcpy(q, p, b->size < size ? b->size : size);
  block_free(f, b);
  return q;
}

void *fault_alloc(void *ud, void *p, size_t old_size, size_t size, size_t align) {
  fault *f = ud;
  pthread_mutex_lock(&f->lock);
  void *q = resize(f, p, old_size, size, align);
  pthread_mutex_unlock(&f->lock);
  return q;
}

mlax_options fault_start(fault *f) {
  mlax_options options = MLAX_OPTIONS;
  *f = (fault){.lock = PTHREAD_MUTEX_INITIALIZER};
  options.alloc = fault_alloc;
  options.alloc_ud = f;
#ifdef __SANITIZE_THREAD__
  options.threads = 1; /* it does not understand OpenMP's barriers */
#endif
  return options;
}

void fault_fail(fault *f, long at, bool onwards) {
  f->count = f->failed = 0;
  f->at = at;
  f->onwards = onwards;
}

const char *fault_problem(fault *f) {
  for (block *b = f->blocks; b; b = b->next) check_guards(f, b);
  return f->problem;
}

const char *fault_end(fault *f) {
  fault_problem(f);
  if (f->blocks) note(f, "blocks were not freed");
  while (f->blocks) block_free(f, f->blocks);
  return f->problem;
}

/* One run; *done when no allocation was left to fail. */
static const char *sweep_once(bool (*body)(mlax_engine *, void *), void *arg, long at, bool onwards, bool *done) {
  fault f;
  mlax_options options = fault_start(&f);
  mlax_engine *e;
  fault_fail(&f, at, onwards);
  bool ok = mlax_engine_new(&options, &e, NULL) == MLAX_OK && body(e, arg);
  mlax_engine_release(e);
  *done = f.failed == 0;
  const char *problem = fault_end(&f);
  if (!problem && *done && !ok) problem = "it fails without a failure";
  return problem;
}

const char *fault_sweep(bool (*body)(mlax_engine *e, void *arg), void *arg) {
  static char text[128];
  for (int onwards = 0; onwards < 2; onwards++) {
    bool done = false;
    for (long at = 1; !done; at++) {
      const char *problem = sweep_once(body, arg, at, onwards, &done);
      if (!problem) continue;
      snprintf(text, sizeof text, "%s (allocation %ld fails%s)", problem, at, onwards ? ", and all after it" : "");
      return text;
    }
  }
  return NULL;
}
