#include "fault.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, GUARD_BYTE = 0xFD, NEW_BYTE = 0xA5, FREED_BYTE = 0xDD };

typedef struct fault_block {
  struct fault_block *next, *previous;
  void *raw;
  size_t size, align;
} block;

/* The header lies before the front guard, wherever that is. */
static block *block_of(char *p) { return (block *)(void *)(p - GUARD - sizeof(block)); }
static char *memory_of(block *b) { return (char *)(b + 1) + GUARD; }

static void note(fault *f, const char *problem) {
  if (!f->problem) f->problem = problem;
}

static bool is_filled(const char *p, unsigned char byte) {
  for (int i = 0; i < GUARD; i++)
    if ((unsigned char)p[i] != byte) return false;
  return true;
}

static void check_guards(fault *f, block *b) {
  char *p = memory_of(b);
  if (!is_filled(p - GUARD, GUARD_BYTE)) note(f, "bytes before a block were overwritten");
  if (!is_filled(p + b->size, GUARD_BYTE)) note(f, "bytes behind a block were overwritten");
}

static char *block_new(fault *f, size_t size, size_t align) {
  size_t front = sizeof(block) + GUARD + align;
  char *raw = malloc(front + size + GUARD);
  if (!raw) return NULL;
  uintptr_t at = ((uintptr_t)raw + front) / align * align;
  char *p = raw + (at - (uintptr_t)raw);
  block *b = block_of(p);
  *b = (block){f->blocks, NULL, raw, size, align};
  if (f->blocks) f->blocks->previous = b;
  f->blocks = b;
  memset(p - GUARD, GUARD_BYTE, GUARD);
  memset(p, NEW_BYTE, size);
  memset(p + size, GUARD_BYTE, GUARD);
  f->bytes += size;
  if (f->bytes > f->peak) f->peak = f->bytes;
  return p;
}

static void block_free(fault *f, char *p) {
  block *b = block_of(p);
  check_guards(f, b);
  if (b->previous) b->previous->next = b->next;
  else f->blocks = b->next;
  if (b->next) b->next->previous = b->previous;
  f->bytes -= b->size;
  memset(p, FREED_BYTE, b->size);
  free(b->raw);
}

static bool is_block(fault *f, char *p) {
  for (block *b = f->blocks; b; b = b->next)
    if (memory_of(b) == p) return true;
  return false;
}

static bool must_fail(fault *f) {
  long n = ++f->count;
  bool fails = f->at && (n == f->at || (f->onwards && n > f->at));
  f->failed += fails;
  return fails;
}

/* A block that grows or shrinks always moves, so that stale pointers show. */
static void *resize(fault *f, char *p, size_t old_size, size_t size, size_t align) {
  if (p && !is_block(f, p)) return note(f, "what was freed is no block"), NULL;
  if (p && block_of(p)->size != old_size) note(f, "a block was freed with another size");
  if (p && block_of(p)->align != align) note(f, "a block was freed with another alignment");
  if (!size) return p ? block_free(f, p) : (void)0, NULL;
  if (must_fail(f)) return NULL;
  char *q = block_new(f, size, align);
  if (!q || !p) return q;
  memcpy(q, p, old_size < size ? old_size : size);
  block_free(f, p);
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
  while (f->blocks) block_free(f, memory_of(f->blocks));
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
