/* memory.c: the allocator under everything, and the count of what is in use.
 *
 *     limit >= live + cached        live: what the engine's users hold, and freed small blocks (pool.c)
 *                                   cached: freed array storage (cache.c)
 *
 * The count is taken before the memory and given back after it, so that the limit holds at every moment in every
 * thread.
 */
#include "base_impl.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE      ((size_t)4096)

/* -- the default allocator --------------------------------------------------------------------- */

static bool is_mapped(size_t size, size_t align) { return size >= HUGE_PAGE && align >= MX_STORAGE_ALIGN; }
static size_t round_up(size_t size, size_t step) { return (size + step - 1) / step * step; }

/* Mapped memory that starts on a huge page: a fault costs 2.5 us for each 4 KiB page, or once for 2 MiB. */
static void *map_pages(size_t size) {
  if (size > PTRDIFF_MAX - 2 * HUGE_PAGE) return NULL;
  size_t length = round_up(size, PAGE);
  char *p = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
  }
  size_t head = round_up((size_t)p, HUGE_PAGE) - (size_t)p;
  if (head) munmap(p, head);
  if (head < HUGE_PAGE) munmap(p + head + length, HUGE_PAGE - head);
#ifdef MADV_HUGEPAGE
  madvise(p + head, length, MADV_HUGEPAGE);
#endif
  return p + head;
}

static void *get_block(size_t size, size_t align) {
  void *p;
  if (is_mapped(size, align)) return map_pages(size);
  if (align <= MX_SMALL_ALIGN) return malloc(size);
  return posix_memalign(&p, align, size) == 0 ? p : NULL;
}

static void put_block(void *p, size_t size, size_t align) {
  if (p && is_mapped(size, align)) munmap(p, round_up(size, PAGE));
  else free(p);
}

void *mx_default_alloc(void *ud, void *p, size_t old_size, size_t size, size_t align) {
  (void)ud;
  if (!size) return put_block(p, old_size, align), NULL;
  if (!p) return get_block(size, align);
  if (align <= MX_SMALL_ALIGN) return realloc(p, size);
  void *q = get_block(size, align);
  if (!q) return NULL;
  memcpy(q, p, old_size < size ? old_size : size);
  put_block(p, old_size, align);
  return q;
}

void *mx_raw_alloc(mlax_engine *e, size_t bytes, size_t align) { return e->alloc(e->alloc_ud, NULL, 0, bytes, align); }

void mx_raw_free(mlax_engine *e, void *p, size_t bytes, size_t align) {
  if (p) e->alloc(e->alloc_ud, p, bytes, 0, align);
}

/* -- the count --------------------------------------------------------------------------------- */

static void raise_peak(mlax_engine *e, size_t live) {
  size_t peak = atomic_load_explicit(&e->peak, memory_order_relaxed);
  while (live > peak && !atomic_compare_exchange_weak(&e->peak, &peak, live)) {}
}

/* Storage that passes between live and cached is counted twice for a moment, never not at all: so `live` is read first.
 */
bool mx_reserve(mlax_engine *e, size_t bytes) {
  size_t live = atomic_load(&e->live), total;
  do {
    size_t limit = atomic_load_explicit(&e->limit, memory_order_relaxed);
    if (!mx_add_size(live, mx_cache_bytes(e), &total) || !mx_add_size(total, bytes, &total)) return false;
    if (limit && total > limit) return false;
  } while (!atomic_compare_exchange_weak(&e->live, &live, live + bytes));
  raise_peak(e, live + bytes);
  return true;
}

void mx_unreserve(mlax_engine *e, size_t bytes) { atomic_fetch_sub(&e->live, bytes); }

void mx_reserve_cached(mlax_engine *e, size_t bytes) { raise_peak(e, atomic_fetch_add(&e->live, bytes) + bytes); }

/* -- small things ------------------------------------------------------------------------------ */

/* Grows or makes a block of `old` bytes (p NULL: 0), counted; on failure all is as before. */
static void *take(mlax_engine *e, void *p, size_t old, size_t bytes) {
  size_t more = bytes > old ? bytes - old : 0;
  if (!mx_reserve(e, more)) return NULL;
  void *q = e->alloc(e->alloc_ud, p, old, bytes, MX_SMALL_ALIGN);
  if (!q) mx_unreserve(e, more);
  else if (old > bytes) mx_unreserve(e, old - bytes);
  return q;
}

static void *take_or_trim(mlax_engine *e, void *p, size_t old, size_t bytes) {
  void *q = take(e, p, old, bytes);
  if (q || !(mx_cache_bytes(e) + mx_pool_bytes(e))) return q;
  mx_cache_trim(e);
  return take(e, p, old, bytes);
}

void *mx_alloc(mlax_engine *e, size_t bytes) {
  size_t size = mx_pool_size(e, bytes);
  void *p = mx_pool_take(e, size, false);
  return p ? p : take_or_trim(e, NULL, 0, size);
}

void *mx_calloc(mlax_engine *e, size_t bytes) {
  void *p = mx_alloc(e, bytes);
  return p ? memset(p, 0, bytes) : NULL;
}

void *mx_realloc(mlax_engine *e, void *p, size_t old_bytes, size_t bytes) {
  return p ? take_or_trim(e, p, mx_pool_size(e, old_bytes), mx_pool_size(e, bytes)) : mx_alloc(e, bytes);
}

void mx_free(mlax_engine *e, void *p, size_t bytes) {
  size_t size = mx_pool_size(e, bytes);
  if (!p || mx_pool_give(e, p, size, false)) return;
  mx_raw_free(e, p, size, MX_SMALL_ALIGN);
  mx_unreserve(e, size);
}

bool mx_collect(mx_ctx *c) {
  bool (*collect)(void *) = c->collect;
  if (!collect) return false;
  c->collect = NULL;
  bool within = mx_host_begin(c), done = collect(c->ud);
  mx_host_end(c, within);
  c->collect = collect;
  return done;
}

void *mx_new_raw(mx_ctx *c, size_t bytes) {
  void *p = mx_alloc(c->engine, bytes);
  if (!p && mx_collect(c)) p = mx_alloc(c->engine, bytes);
  return p ? p : mx_fail_memory(c, bytes);
}

void *mx_new(mx_ctx *c, size_t bytes) {
  void *p = mx_new_raw(c, bytes);
  return p ? memset(p, 0, bytes) : NULL;
}

bool mx_grow(mx_ctx *c, void *items, int *cap, int need, size_t item) {
  if (need <= *cap) return true;
  void *p, *q = NULL;
  memcpy(&p, items, sizeof p);
  int64_t more = 2 * (int64_t)*cap > need ? 2 * (int64_t)*cap : need;
  if (more < 8) more = 8;
  size_t bytes = 0, old = (size_t)*cap * item;
  if (more <= INT32_MAX && mx_mul_size((size_t)more, item, &bytes)) {
    q = mx_realloc(c->engine, p, old, bytes);
    if (!q && mx_collect(c)) q = mx_realloc(c->engine, p, old, bytes);
  }
  if (!q) return mx_fail_memory(c, bytes), false;
  memcpy(items, &q, sizeof q);
  *cap = (int)more;
  return true;
}

/* -- arena ------------------------------------------------------------------------------------- */

/* Blocks form a list, the one in use first. */
struct mx_block {
  struct mx_block *next;
  size_t bytes, used; /* header included */
};

#define FIRST_BLOCK ((size_t)1 << 10)
#define LAST_BLOCK  ((size_t)64 << 10)

/* A block with room for `bytes`, twice as large as the one before. */
static struct mx_block *block_new(mx_ctx *c, const struct mx_block *before, size_t bytes) {
  size_t size = before ? 2 * before->bytes : FIRST_BLOCK, need;
  if (size > LAST_BLOCK) size = LAST_BLOCK;
  if (!mx_add_size(bytes, round_up(sizeof(struct mx_block), MX_SMALL_ALIGN), &need)) return mx_fail_memory(c, bytes);
  if (size < need) size = need;
  struct mx_block *b = mx_new(c, size);
  if (b) *b = (struct mx_block){NULL, size, round_up(sizeof *b, MX_SMALL_ALIGN)};
  return b;
}

void *mx_arena_alloc(mx_ctx *c, mx_arena *a, size_t bytes) {
  if (bytes > PTRDIFF_MAX) return mx_fail_memory(c, bytes);
  bytes = round_up(bytes ? bytes : 1, MX_SMALL_ALIGN);
  struct mx_block *b = a->block;
  if (!b || b->bytes - b->used < bytes) {
    b = block_new(c, a->block, bytes);
    if (!b) return NULL;
    b->next = a->block;
    a->block = b;
    a->engine = c->engine;
  }
  void *p = (char *)b + b->used;
  b->used += bytes;
  return p;
}

void mx_arena_release(mx_arena *a) {
  while (a->block) {
    struct mx_block *b = a->block;
    a->block = b->next;
    mx_free(a->engine, b, b->bytes);
  }
}
