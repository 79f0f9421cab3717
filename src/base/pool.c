/* pool.c: freed small blocks, kept for the next ones of their size by the thread that uses the engine most.
 *
 *     small     blocks of mx_alloc up to MX_POOL_SMALL bytes, by 16 bytes     an array's own struct, its buffer's
 *     storage   of mx_buffer_alloc up to MX_POOL_STORAGE bytes, by 256        the elements of a small array
 *
 * Each list is a stack: what was freed last is in the processor's cache. The thread of the engine's first context owns
 * them, and takes and gives without a lock or an atomic instruction; others go by the allocator and by cache.c. Kept
 * blocks count in engine.live, where the limit looks, and in pool.kept, which mx_live takes off.
 *
 * Where a host has its own allocator there is no pool: it sees each block, and may let any of them fail. Nor is there
 * one under the address sanitizer, which watches freed blocks. */
#include "base_impl.h"

#include <pthread.h>

#if defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define __SANITIZE_ADDRESS__ 1
#  endif
#endif
#if defined(__SANITIZE_ADDRESS__)
enum { IS_WATCHED = true };
#else
enum { IS_WATCHED = false };
#endif

enum { MOST_KEPT = 1 << 20, SMALL_STEP = 16, STORAGE_STEP = 256 };

void mx_pool_open(mlax_engine *e, size_t cache_limit) {
  mx_pool *m = &e->pool;
  if (IS_WATCHED || e->alloc != mx_default_alloc) return;
  m->most = cache_limit && cache_limit < MOST_KEPT ? cache_limit : MOST_KEPT;
}

static uintptr_t this_thread(void) { return (uintptr_t)pthread_self(); }

void mx_pool_claim(mlax_engine *e) {
  uintptr_t nobody = 0;
  if (e->pool.most) atomic_compare_exchange_strong(&e->pool.owner, &nobody, this_thread());
}

static bool is_owner(const mlax_engine *e) {
  return atomic_load_explicit(&e->pool.owner, memory_order_relaxed) == this_thread();
}

/* Written by the owner alone. */
static void set_kept(mx_pool *m, size_t kept) { atomic_store_explicit(&m->kept, kept, memory_order_relaxed); }
static size_t kept_of(const mx_pool *m) { return atomic_load_explicit(&m->kept, memory_order_relaxed); }

size_t mx_pool_bytes(const mlax_engine *e) { return kept_of(&e->pool); }

/* The list of blocks of this size, or NULL. */
static void **list_of(mx_pool *m, size_t size, bool storage) {
  if (storage) return size <= MX_POOL_STORAGE ? &m->storage[size / STORAGE_STEP - 1] : NULL;
  return size <= MX_POOL_SMALL ? &m->small[size / SMALL_STEP - 1] : NULL;
}

size_t mx_pool_size(const mlax_engine *e, size_t bytes) {
  if (!bytes) bytes = 1;
  if (!e->pool.most || bytes > MX_POOL_SMALL) return bytes;
  return (bytes + SMALL_STEP - 1) / SMALL_STEP * SMALL_STEP;
}

void *mx_pool_take(mlax_engine *e, size_t size, bool storage) {
  mx_pool *m = &e->pool;
  if (!is_owner(e)) return NULL;
  void **list = list_of(m, size, storage), *p = list ? *list : NULL;
  if (!p) return NULL;
  memcpy(list, p, sizeof *list); /* the next one stands in the block */
  set_kept(m, kept_of(m) - size);
  return p;
}

bool mx_pool_give(mlax_engine *e, void *p, size_t size, bool storage) {
  mx_pool *m = &e->pool;
  if (!is_owner(e)) return false;
  void **list = list_of(m, size, storage);
  size_t kept = kept_of(m) + size;
  if (!list || kept > m->most) return false;
  memcpy(p, list, sizeof *list);
  *list = p;
  set_kept(m, kept);
  return true;
}

static void empty(mlax_engine *e, void **list, size_t size, size_t align) {
  while (*list) {
    void *p = *list;
    memcpy(list, p, sizeof *list);
    set_kept(&e->pool, kept_of(&e->pool) - size);
    mx_raw_free(e, p, size, align);
    mx_unreserve(e, size);
  }
}

static void empty_all(mlax_engine *e) {
  for (int i = 0; i < MX_POOL_SMALL / SMALL_STEP; i++)
    empty(e, &e->pool.small[i], (size_t)(i + 1) * SMALL_STEP, MX_SMALL_ALIGN);
  for (int i = 0; i < MX_POOL_STORAGE / STORAGE_STEP; i++)
    empty(e, &e->pool.storage[i], (size_t)(i + 1) * STORAGE_STEP, MX_STORAGE_ALIGN);
}

void mx_pool_trim(mlax_engine *e) {
  if (mx_pool_bytes(e) && is_owner(e)) empty_all(e);
}

void mx_pool_close(mlax_engine *e) { empty_all(e); }
