/* base.h: memory, errors, files, threads, checked sizes. The lowest folder: it knows nothing of arrays.
 *
 * Engine    what a host shares between its Lua states: allocator, limit, counters, buffer cache, threads, files.
 * Counted atomically; every array and program holds a reference. Context   one engine thread of control (one per Lua
 * state): the pending error, the frame of temporary arrays, the running trace. Functions that can fail take it first,
 * and return NULL or false after mx_fail; the first error wins.
 *
 * All memory comes from mx_alloc (small things, counted) or mx_buffer_alloc (array storage, cached); both may fail at
 * any call.
 */
#ifndef MX_BASE_H
#define MX_BASE_H

#include "../mlax.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

typedef struct mx_cache mx_cache; /* base/cache.c: freed buffers by size class */

enum { MX_POOL_SMALL = 512, MX_POOL_STORAGE = 1024 };
typedef struct mx_pool {   /* base/pool.c: freed small blocks; lists through their first word */
  _Atomic uintptr_t owner; /* the thread that alone may touch the lists; 0: none yet */
  size_t most;             /* bytes kept; 0: there is no pool */
  _Atomic size_t kept;     /* bytes in the lists */
  void *small[MX_POOL_SMALL / 16], *storage[MX_POOL_STORAGE / 256];
} mx_pool;

struct mlax_engine {
  atomic_int refs;
  atomic_int interrupt; /* set by mlax_interrupt, cleared when it is reported */
  long pid;             /* the process that made it: a forked child is refused */
  void *(*alloc)(void *ud, void *p, size_t old_size, size_t size, size_t align);
  void *alloc_ud;
  _Atomic size_t live, peak, limit; /* live: with what the pool keeps; limit 0: none */
  mx_cache *cache;
  mx_pool pool;
  int threads;
  bool blas_parallel; /* OpenBLAS may use its threads: it is the OpenMP build, and the engine has more than one of its
                         own */
  void (*parallel_for)(void *ud, int n, void (*body)(void *arg, int i), void *arg);
  void *parallel_ud;
  int (*poll)(void *ud);
  void *poll_ud;
  void (*log)(void *ud, int level, const char *text);
  void *log_ud;
  const mlax_files *files;
  unsigned flags;
};

struct mx_trace;
struct mx_axis;
struct mx_kernel_args;
struct mx_profile;

typedef struct mx_ctx {
  mlax_engine *engine;
  mlax_error error; /* status MLAX_OK: none pending */
  const char *op;   /* the public operation that was called, for messages ("matmul") */

  /* Every array made inside bind belongs to the frame: a stack of references. Who calls C from Lua takes a mark and
   * releases down to it; user functions run above frame_base, so that an entry may sweep what a longjmp left behind. */
  mlax_array **frame;
  int frame_n, frame_cap, frame_base;

  struct mx_trace *trace; /* the current interpreter; NULL: evaluate */
  struct mx_axis *axes;   /* named axes, innermost first */
  const char *batching;   /* the name of the vmap whose rule runs, or NULL */

  struct mx_profile *profile; /* records what steps take (device/); NULL: nobody does */

  uint64_t traces;     /* traces begun so far: their serial numbers */
  uint32_t error_site; /* where compiled code failed: the Lua line that made the equation; 0: the current line */
  uint32_t site;       /* the Lua line of the running operation, while a program is replayed; 0: ask `where` */
  uint32_t (*where)(void *ud); /* api's: interns the user's current Lua line; NULL without Lua */
  bool (*collect)(void *ud);   /* api's: collects garbage once before memory runs out; NULL without Lua */
  bool (*print)(void *ud, const struct mx_kernel_args *call); /* api's: debug_print; NULL without Lua */
  void *ud;
  uint32_t host_mode; /* of the floating-point unit, while kernels run */
  bool in_kernels;
  bool nans;              /* mlax.debug.nans: every operation is asked whether it made a NaN */
  unsigned passes_off;    /* mlax.debug.passes: a bit for each pass of compile/ that is switched off */
  struct mx_sites *sites; /* interned file:line strings, see mx_site_* */
} mx_ctx;

/* -- errors (error.c) ---------------------------------------------------------------------------------------------- */

/* Records the first error and returns NULL. The text is "what is wrong (got ..., need ...)"; api/ puts file, line, op
 * before it. */
void *mx_fail(mx_ctx *c, mlax_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* "not enough memory for N bytes" (MLAX_MEMORY), or MLAX_LIMIT where the limit stood in the way. */
void *mx_fail_memory(mx_ctx *c, size_t bytes);
void mx_clear(mx_ctx *c);
static inline bool mx_failed(const mx_ctx *c) { return c->error.status != MLAX_OK; }
/* Writes status and text, cut at a UTF-8 character, into the caller's error (may be NULL). */
mlax_status mx_report(mlax_error *to, mlax_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -- sites: interned Lua lines, and the operation there (error.c) -------------------------------------------------- */
uint32_t mx_site_intern(mx_ctx *c, const char *source, int line); /* 0 when there is no memory: "unknown" */
const char *mx_site_text(const mx_ctx *c, uint32_t site);         /* "f.lua:12", or "?" */
const char *mx_site_op(const mx_ctx *c, uint32_t site); /* the operation that ran there when it was interned, or NULL */
uint32_t mx_here(mx_ctx *c);                            /* the Lua line of the operation that runs now */

/* One copy of each name, as long as the context lives; NULL without memory. */
const char *mx_name_intern(mx_ctx *c, const char *name);

/* -- context ------------------------------------------------------------------------------------------------------- */
bool mx_ctx_init(mx_ctx *c, mlax_engine *engine); /* retains the engine */
void mx_ctx_close(mx_ctx *c);                     /* its arrays are released before: mx_frame_release(c, 0) */
/* False with MLAX_STATE pending in a forked child of the engine's process. mx_poll and mx_buffer_alloc ask it too. */
bool mx_same_process(mx_ctx *c);
/* False with an error pending if the engine may not go on: forked child, interrupt, poll. Between steps and tiles. */
bool mx_poll(mx_ctx *c);

/* -- memory (memory.c) --------------------------------------------------------------------------------------------- */
mlax_engine *mx_engine_retain(mlax_engine *e);
void *
mx_alloc(mlax_engine *e,
         size_t bytes); /* 16-byte aligned, uninitialised; NULL on failure, and only then (0 bytes give a pointer) */
void *mx_calloc(mlax_engine *e, size_t bytes);
void *mx_realloc(mlax_engine *e, void *p, size_t old_bytes, size_t bytes); /* on failure p is untouched */
void mx_free(mlax_engine *e, void *p, size_t bytes);                       /* NULL is allowed */
/* The same with the error recorded in the context. */
void *mx_new(mx_ctx *c, size_t bytes); /* zeroed */
/* Grows *items (elements of `item` bytes) so that *cap >= need, doubling. */
bool mx_grow(mx_ctx *c, void *items, int *cap, int need, size_t item);

/* Array storage: 64-byte aligned, rounded up to 256 bytes, from the cache where one fits (size classes: powers of two
 * with four steps), huge pages from 2 MiB. mx_buffer_size says how many bytes such a block really has. Tries `collect`
 * once before it fails. */
void *mx_buffer_alloc(mx_ctx *c, size_t bytes);
void mx_buffer_free(mlax_engine *e, void *p, size_t bytes);
size_t mx_buffer_size(size_t bytes);
void mx_cache_trim(mlax_engine *e); /* gives all cached buffers back, and the pool's blocks */
/* Bytes that are in use; about, where another thread owns the pool and changes it. */
static inline size_t mx_live(const mlax_engine *e) {
  size_t kept = atomic_load_explicit(&e->pool.kept, memory_order_relaxed);
  size_t live = atomic_load_explicit(&e->live, memory_order_relaxed);
  return live > kept ? live - kept : 0;
}

/* Arena: many small allocations, one release. */
typedef struct mx_arena {
  mlax_engine *engine;
  struct mx_block *block;
} mx_arena;
void *mx_arena_alloc(mx_ctx *c, mx_arena *a, size_t bytes); /* zeroed, 16-byte aligned */
void mx_arena_release(mx_arena *a);

/* -- checked sizes ------------------------------------------------------------------------------------------------- */
static inline bool mx_mul_size(size_t a, size_t b, size_t *r) { return !__builtin_mul_overflow(a, b, r); }
static inline bool mx_add_size(size_t a, size_t b, size_t *r) { return !__builtin_add_overflow(a, b, r); }
static inline bool mx_mul_i64(int64_t a, int64_t b, int64_t *r) { return !__builtin_mul_overflow(a, b, r); }

/* -- hashing ------------------------------------------------------------------------------------------------------- */
uint64_t mx_hash_bytes(uint64_t seed, const void *p, size_t n);
static inline uint64_t mx_hash_mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * 0x9E3779B97F4A7C15u;
  return h ^ (h >> 29);
}

/* -- threads (thread.c) -------------------------------------------------------------------------------------------- */
/* Runs body(arg, i) for i in 0..n-1, in parallel where there is more than one thread; returns when all are done. The
 * only place that names OpenMP. Callers pass n = mx_chunks(e, work): 1 for work under about 4 microseconds. */
void mx_parallel(mlax_engine *e, int n, void (*body)(void *arg, int i), void *arg);
/* Between them a library that uses OpenMP itself (OpenBLAS) runs in the calling thread alone. `end` takes what `begin`
 * gave. */
int mx_serial_begin(void);
void mx_serial_end(int threads);
/* How many chunks to cut `items` of about `ns_per_item` nanoseconds each into: 1 .. threads. */
int mx_chunks(const mlax_engine *e, int64_t items, double ns_per_item);

/* -- subnormal numbers --------------------------------------------------------------------------------------------- */

/* Between them subnormal floats count as zero in the calling thread, as operands and as results; `end` takes what
 * `begin` gave, and the caller's mode is as before. Kernels run so: a subnormal operand makes an instruction a hundred
 * times slower, and gradients through many steps are full of them. (XLA's CPU backend does the same, so values agree.)
 */
#if defined(__x86_64__)
static inline uint32_t mx_flush_begin(void) {
  uint32_t mode = __builtin_ia32_stmxcsr();
  if ((mode & 0x8040) != 0x8040) __builtin_ia32_ldmxcsr(mode | 0x8040);
  return mode;
}
static inline void mx_flush_end(uint32_t mode) {
  if ((mode & 0x8040) != 0x8040) __builtin_ia32_ldmxcsr(mode);
}
#elif defined(__aarch64__)
static inline uint32_t mx_flush_begin(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)));
  return (uint32_t)mode;
}
static inline void mx_flush_end(uint32_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode)); }
#else
static inline uint32_t mx_flush_begin(void) { return 0; }
static inline void mx_flush_end(uint32_t mode) { (void)mode; }
#endif

/* Around kernels; and, in these, around what belongs to the host: `end` takes what `begin` gave. */
static inline void mx_kernels_begin(mx_ctx *c) {
  c->host_mode = mx_flush_begin();
  c->in_kernels = true;
}
static inline void mx_kernels_end(mx_ctx *c) {
  mx_flush_end(c->host_mode);
  c->in_kernels = false;
}
static inline bool mx_host_begin(mx_ctx *c) {
  bool within = c->in_kernels;
  if (within) mx_kernels_end(c);
  return within;
}
static inline void mx_host_end(mx_ctx *c, bool within) {
  if (within) mx_kernels_begin(c);
}

/* -- workers (worker.c) -------------------------------------------------------------------------------------------- */
/* A thread that calls run(arg) whenever it is told to, for what may take its time beside the caller's work. */
typedef struct mx_worker mx_worker;
mx_worker *mx_worker_new(mlax_engine *e, void (*run)(void *arg),
                         void *arg);               /* NULL: there is no memory, or no thread */
void mx_worker_submit(mx_worker *w);               /* a job; the one before is done */
void mx_worker_wait(mx_worker *w);                 /* until it is done */
void mx_worker_free(mlax_engine *e, mx_worker *w); /* the same, and ends the thread; not in a forked child */

/* -- files (files.c) ----------------------------------------------------------------------------------------------- */
/* The whole file, at most `limit` bytes (0: none); *bytes its length. Freed with mx_free(engine, p, *bytes + 1): a zero
 * follows. */
void *mx_file_read(mx_ctx *c, const char *path, size_t limit, size_t *bytes);
/* Temporary file, sync, rename: the old file or the new one is there, never a torn one. */
bool mx_file_write(mx_ctx *c, const char *path, const void *data, size_t bytes);
bool mx_file_remove(mx_ctx *c, const char *path); /* true also where there is none */

/* The same in pieces. A file that is open for reading: */
typedef struct mx_file {
  void *handle;     /* NULL: closed */
  const char *path; /* the caller's */
  size_t size;
} mx_file;
bool mx_file_open(mx_ctx *c, mx_file *file, const char *path);
/* All the bytes, or an error; they lie inside `size`. */
bool mx_file_read_at(mx_ctx *c, const mx_file *file, size_t offset, void *to, size_t bytes);
void mx_file_close(mlax_engine *e, mx_file *file);
/* A file in the making, under a temporary name in the directory of `path`. After open: add, then commit or discard. */
enum { MX_MAX_PATH = 4096 };
typedef struct mx_writer {
  void *handle;     /* NULL: done */
  const char *path; /* the caller's */
  size_t written;
  char temporary[MX_MAX_PATH];
} mx_writer;
bool mx_writer_open(mx_ctx *c, mx_writer *w, const char *path);
bool mx_writer_add(mx_ctx *c, mx_writer *w, const void *data, size_t bytes);
bool mx_writer_commit(mx_ctx *c, mx_writer *w); /* sync, rename; on failure what was there stays */
void mx_writer_discard(mlax_engine *e, mx_writer *w);

bool mx_directory_make(mx_ctx *c, const char *path); /* true also where it is there */
/* Calls each(arg, name) for what is in it, in no order, until one answers other than 0. */
bool mx_directory_list(mx_ctx *c, const char *path, int (*each)(void *arg, const char *name), void *arg);
extern const mlax_files mx_stdio_files;

#endif
