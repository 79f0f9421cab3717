/* cache.c: freed array storage, kept for the next array of its size.
 *
 * Sizes come in classes, four to a power of two (1024, 1280, 1536, 1792, 2048, ...), so a freed block fits any later
 * array of its class. Blocks lie in two lists, whose links stand in the blocks themselves:
 *
 *     heads[class] -> newest of the class -> ... -> oldest       a block is reused while it is warm
 *     newest       -> all blocks by age   -> oldest              and the oldest of all goes first when the cache is
 * full
 *
 * The lock covers the lists and the count alone; the allocator is called outside it.
 */
#include "base_impl.h"

#include <pthread.h>

enum { STORAGE_STEP = 256, N_CLASS = 256 };
#define LEAST_LIMIT ((size_t)64 << 20)

typedef struct kept {
  struct kept *newer, *older; /* by age */
  struct kept *above, *below; /* in the class: `above` is newer */
  size_t bytes;
} kept;

struct mx_cache {
  pthread_mutex_t lock;
  _Atomic size_t bytes;
  size_t limit; /* 0: by what was in use */
  kept *newest, *oldest;
  kept *heads[N_CLASS];
};

/* -- size classes ------------------------------------------------------------------------------ */

static int log2_floor(size_t n) { return 63 - __builtin_clzll((unsigned long long)n); }

/* 0 where no block can be that large. */
size_t mx_buffer_size(size_t bytes) {
  if (bytes <= STORAGE_STEP) return STORAGE_STEP;
  if (bytes > PTRDIFF_MAX / 2) return 0;
  size_t step = (size_t)1 << log2_floor(bytes - 1) >> 2;
  if (step < STORAGE_STEP) step = STORAGE_STEP;
  return (bytes + step - 1) & ~(step - 1);
}

static int class_of(size_t size) {
  int k = log2_floor(size);
  return 4 * k + (int)(size >> (k - 2) & 3);
}

/* -- the lists --------------------------------------------------------------------------------- */

/* Written under the lock alone, read everywhere. */
static void add_bytes(mx_cache *m, size_t n) {
  atomic_store_explicit(&m->bytes, atomic_load(&m->bytes) + n, memory_order_release);
}

static void link_block(mx_cache *m, kept *b) {
  kept **head = &m->heads[class_of(b->bytes)];
  b->above = NULL, b->below = *head;
  b->newer = NULL, b->older = m->newest;
  if (b->below) b->below->above = b;
  if (b->older) b->older->newer = b;
  else m->oldest = b;
  *head = m->newest = b;
}

static void unlink_block(mx_cache *m, kept *b) {
  if (b->above) b->above->below = b->below;
  else m->heads[class_of(b->bytes)] = b->below;
  if (b->below) b->below->above = b->above;
  if (b->newer) b->newer->older = b->older;
  else m->newest = b->older;
  if (b->older) b->older->newer = b->newer;
  else m->oldest = b->newer;
}

/* Unlinks the oldest blocks until at most `most` bytes are left; returns them as a list over `older`. */
static kept *drop_oldest(mx_cache *m, size_t most) {
  kept *dropped = NULL;
  while (m->oldest && atomic_load(&m->bytes) > most) {
    kept *b = m->oldest;
    unlink_block(m, b);
    add_bytes(m, 0 - b->bytes);
    b->older = dropped;
    dropped = b;
  }
  return dropped;
}

static void free_dropped(mlax_engine *e, kept *b) {
  while (b) {
    kept *next = b->older;
    mx_raw_free(e, b, b->bytes, MX_STORAGE_ALIGN);
    b = next;
  }
}

/* -- the cache --------------------------------------------------------------------------------- */

mx_cache *mx_cache_new(mlax_engine *e, size_t limit) {
  mx_cache *m = mx_raw_alloc(e, sizeof *m, MX_STORAGE_ALIGN);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  m->limit = limit;
  pthread_mutex_init(&m->lock, NULL);
  return m;
}

/* In a forked child the lists may be half changed and the lock held for ever: there the cache is left alone. */
static bool is_usable(const mlax_engine *e) { return e->cache && mx_process() == e->pid; }

void mx_cache_trim(mlax_engine *e) {
  mx_pool_trim(e);
  if (!is_usable(e)) return;
  pthread_mutex_lock(&e->cache->lock);
  kept *dropped = drop_oldest(e->cache, 0);
  pthread_mutex_unlock(&e->cache->lock);
  free_dropped(e, dropped);
}

void mx_cache_free(mlax_engine *e) {
  mx_cache_trim(e);
  if (e->cache) mx_raw_free(e, e->cache, sizeof *e->cache, MX_STORAGE_ALIGN);
  e->cache = NULL;
}

/* A loop whose results are garbage until they are collected frees about as much at once as it holds otherwise. */
static size_t limit_of(const mlax_engine *e) {
  size_t half = atomic_load_explicit(&e->peak, memory_order_relaxed) / 2;
  return e->cache->limit ? e->cache->limit : half > LEAST_LIMIT ? half : LEAST_LIMIT;
}

size_t mx_cache_bytes(const mlax_engine *e) { return e->cache ? atomic_load(&e->cache->bytes) : 0; }

/* A block of exactly this size, now live, or NULL. */
static void *take_kept(mlax_engine *e, size_t size) {
  mx_cache *m = e->cache;
  pthread_mutex_lock(&m->lock);
  kept *b = m->heads[class_of(size)];
  if (b) {
    unlink_block(m, b);
    mx_reserve_cached(e, size); /* first live, then no longer cached: see mx_reserve */
    add_bytes(m, 0 - size);
  }
  pthread_mutex_unlock(&m->lock);
  return b;
}

static void *take_fresh(mlax_engine *e, size_t size) {
  if (!mx_reserve(e, size)) return NULL;
  void *p = mx_raw_alloc(e, size, MX_STORAGE_ALIGN);
  if (!p) mx_unreserve(e, size);
  return p;
}

static void *take_storage(mlax_engine *e, size_t size) {
  void *p = take_kept(e, size);
  if (!p) p = take_fresh(e, size);
  if (p || !(mx_cache_bytes(e) + mx_pool_bytes(e))) return p;
  mx_cache_trim(e);
  return take_fresh(e, size);
}

void *mx_buffer_alloc(mx_ctx *c, size_t bytes) {
  if (!mx_same_process(c)) return NULL;
  size_t size = mx_buffer_size(bytes);
  if (!size) return mx_fail_memory(c, bytes);
  void *p = mx_pool_take(c->engine, size, true);
  if (!p) p = take_storage(c->engine, size);
  if (!p && mx_collect(c)) p = take_storage(c->engine, size);
  return p ? p : mx_fail_memory(c, size);
}

void mx_buffer_free(mlax_engine *e, void *p, size_t bytes) {
  if (!p) return;
  mx_cache *m = e->cache;
  size_t size = mx_buffer_size(bytes), limit;
  if (mx_pool_give(e, p, size, true)) return;
  limit = limit_of(e);
  if (size > limit || !is_usable(e)) {
    mx_raw_free(e, p, size, MX_STORAGE_ALIGN);
    mx_unreserve(e, size);
    return;
  }
  ((kept *)p)->bytes = size;
  pthread_mutex_lock(&m->lock);
  link_block(m, p);
  add_bytes(m, size);
  mx_unreserve(e, size);
  kept *dropped = drop_oldest(m, limit);
  pthread_mutex_unlock(&m->lock);
  free_dropped(e, dropped);
}
