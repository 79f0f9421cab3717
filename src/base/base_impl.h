/* base_impl.h: what the files of base/ tell one another. */
#ifndef MX_BASE_IMPL_H
#define MX_BASE_IMPL_H

#include "base.h"

/* -- the process (process.c) ------------------------------------------------------------------- */

/* The id of this process. A variable that a fork handler renews: asking the kernel costs 80 ns. */
long mx_process(void);
/* This process was forked off one that had used mlax: the forking thread's OpenMP team did not survive. */
bool mx_process_forked(void);

/* -- the allocator and the count (memory.c) ---------------------------------------------------- */

/* malloc; from 2 MiB with an alignment of 64 (array storage) mapped memory in huge pages. */
void *mx_default_alloc(void *ud, void *p, size_t old_size, size_t size, size_t align);
/* A block beside the counters: the engine itself. */
void *mx_raw_alloc(mlax_engine *e, size_t bytes, size_t align);
void mx_raw_free(mlax_engine *e, void *p, size_t bytes, size_t align);
/* Counts `bytes` as live if the limit allows it. */
bool mx_reserve(mlax_engine *e, size_t bytes);
void mx_unreserve(mlax_engine *e, size_t bytes);
/* Asks the owner of the context for a collection; false where none happened, or where one is under way. */
bool mx_collect(mx_ctx *c);
/* mx_new without zeroing. */
void *mx_new_raw(mx_ctx *c, size_t bytes);
/* Counts them as live without asking: they were cached, and the limit has counted them already. */
void mx_reserve_cached(mlax_engine *e, size_t bytes);

enum { MX_SMALL_ALIGN = 16, MX_STORAGE_ALIGN = 64 };

/* -- the pool (pool.c) ------------------------------------------------------------------------- */
void mx_pool_open(mlax_engine *e, size_t cache_limit);
/* This thread owns the pool, if nobody does. */
void mx_pool_claim(mlax_engine *e);
/* The bytes that a block of mx_alloc has. */
size_t mx_pool_size(const mlax_engine *e, size_t bytes);
/* A block of exactly this size that was given; NULL: there is none, or none for this thread. */
void *mx_pool_take(mlax_engine *e, size_t size, bool storage);
/* False: it is not kept. */
bool mx_pool_give(mlax_engine *e, void *p, size_t size, bool storage);
size_t mx_pool_bytes(const mlax_engine *e);
void mx_pool_trim(mlax_engine *e);  /* where this thread owns it */
void mx_pool_close(mlax_engine *e); /* of a dying engine */

/* -- the cache (cache.c) ----------------------------------------------------------------------- */
mx_cache *mx_cache_new(mlax_engine *e, size_t limit);
void mx_cache_free(mlax_engine *e); /* of a dying engine */
size_t mx_cache_bytes(const mlax_engine *e);

enum { MX_MAX_THREADS = 1024 };

/* -- threads (thread.c) ------------------------------------------------------------------------ */
int mx_threads_default(void);
/* How many of `threads` the system lets us have; OpenMP ends the process where it cannot start one. */
int mx_threads_possible(int threads);
/* The forking thread stays alone: OpenBLAS, which asks OpenMP, must not look for a team either. */
void mx_threads_after_fork(void);

/* -- sites (error.c) --------------------------------------------------------------------------- */
void mx_sites_free(mx_ctx *c);

/* -- BLAS (blas.c) ----------------------------------------------------------------------------- */

/* NULL where OpenBLAS works, else what is wrong with it. */
const char *mx_blas_check(void);
/* Gets the work memory for calls from `threads` threads at once; answers for how many there is some. */
int mx_blas_touch(int threads);
bool mx_blas_is_openmp(void);

#endif
