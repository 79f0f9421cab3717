/* engine.c: the life of engines and contexts. */
#include "base_impl.h"

/* -- options ----------------------------------------------------------------------------------- */

/* A host may be older (its struct ends earlier) or newer (what we do not know must be unset). */
static bool read_options(const mlax_options *given, mlax_options *o, mlax_error *error) {
  *o = (mlax_options)MLAX_OPTIONS;
  if (!given) return true;
  if (given->size < sizeof given->size)
    return mx_report(error, MLAX_ARGUMENT, "options.size is not set (start from MLAX_OPTIONS)"), false;
  const unsigned char *bytes = (const unsigned char *)given;
  for (size_t i = sizeof *o; i < given->size; i++)
    if (bytes[i]) return mx_report(error, MLAX_ARGUMENT, "options has fields that this version does not know"), false;
  memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
  return true;
}

static const char *options_fault(const mlax_options *o) {
  if (o->threads < 0 || o->threads > MX_MAX_THREADS) return "options.threads is out of range (need 0 .. 1024)";
  if (o->flags & ~(unsigned)MLAX_DETERMINISTIC) return "options.flags has an unknown flag";
  if (o->files && o->files->size < offsetof(mlax_files, make_directory)) return "options.files.size is too small";
  return NULL;
}

/* As many threads as were asked for, or as the machine has and bears; 0 with the error written. */
static int settle_threads(const mlax_options *o, mlax_error *error) {
  bool alone = mx_process_forked() && !o->parallel_for;
  int want = alone ? 1 : o->threads ? o->threads : mx_threads_default();
  int have = mx_blas_touch(o->parallel_for ? want : mx_threads_possible(want));
  if (have == want || (have > 0 && !o->threads)) return have;
  mx_report(error, MLAX_MEMORY, "not enough memory for %d threads (there is some for %d)", want, have);
  return 0;
}

static mlax_engine engine_of(const mlax_options *o, int threads) {
  return (mlax_engine){
      .refs = 1,
      .pid = mx_process(),
      .alloc = o->alloc ? o->alloc : mx_default_alloc,
      .alloc_ud = o->alloc_ud,
      .limit = o->memory_limit,
      .threads = threads,
      .blas_parallel = threads > 1 && !o->parallel_for && mx_blas_is_openmp(),
      .parallel_for = o->parallel_for,
      .parallel_ud = o->parallel_ud,
      .poll = o->poll,
      .poll_ud = o->poll_ud,
      .log = o->log,
      .log_ud = o->log_ud,
      .files = o->files ? o->files : &mx_stdio_files,
      .flags = o->flags,
  };
}

/* -- engines ----------------------------------------------------------------------------------- */

mlax_status mlax_engine_new(const mlax_options *options, mlax_engine **engine, mlax_error *error) {
  mlax_options o;
  *engine = NULL;
  if (!read_options(options, &o, error)) return MLAX_ARGUMENT;
  const char *fault = options_fault(&o);
  if (fault) return mx_report(error, MLAX_ARGUMENT, "%s", fault);
  fault = mx_blas_check();
  if (fault) return mx_report(error, MLAX_UNSUPPORTED, "%s", fault);
  if (mx_process_forked()) mx_threads_after_fork();
  int threads = settle_threads(&o, error);
  if (!threads) return MLAX_MEMORY;

  mlax_engine start = engine_of(&o, threads), *e = mx_raw_alloc(&start, sizeof *e, _Alignof(mlax_engine));
  if (e) {
    memcpy(e, &start, sizeof *e);
    e->cache = mx_cache_new(e, o.cache_limit);
    mx_pool_open(e, o.cache_limit);
  }
  if (!e || !e->cache) {
    mx_raw_free(&start, e, sizeof *e, _Alignof(mlax_engine));
    return mx_report(error, MLAX_MEMORY, "not enough memory for an engine");
  }
  if (e->log && !mx_blas_is_openmp()) e->log(e->log_ud, 1, "OpenBLAS is not its OpenMP build: it runs on one thread");
  *engine = e;
  return mx_report(error, MLAX_OK, "%s", "");
}

mlax_engine *mx_engine_retain(mlax_engine *e) {
  atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
  return e;
}

void mlax_engine_release(mlax_engine *e) {
  if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) > 1) return;
  mx_pool_close(e);
  mx_cache_free(e);
  mlax_engine last = *e;
  mx_raw_free(&last, e, sizeof *e, _Alignof(mlax_engine));
}

void mlax_interrupt(mlax_engine *e) { atomic_store(&e->interrupt, 1); }

int mlax_abi(void) { return MLAX_ABI; }

void mlax_memory(mlax_engine *e, mlax_memory_info *info) {
  *info = (mlax_memory_info){mx_live(e), mx_cache_bytes(e) + mx_pool_bytes(e), atomic_load(&e->peak),
                             atomic_load(&e->limit)};
}

/* -- contexts ---------------------------------------------------------------------------------- */

bool mx_ctx_init(mx_ctx *c, mlax_engine *engine) {
  *c = (mx_ctx){.engine = mx_engine_retain(engine)};
  mx_pool_claim(engine);
  return true;
}

void mx_ctx_close(mx_ctx *c) {
  if (!c->engine) return;
  mx_sites_free(c);
  mx_free(c->engine, c->frame, (size_t)c->frame_cap * sizeof *c->frame);
  mlax_engine_release(c->engine);
  *c = (mx_ctx){0};
}

bool mx_same_process(mx_ctx *c) {
  if (mx_process() == c->engine->pid) return true;
  mx_fail(c, MLAX_STATE, "this engine belongs to the parent of a forked process (make a new one in the child)");
  return false;
}

bool mx_poll(mx_ctx *c) {
  mlax_engine *e = c->engine;
  if (!mx_same_process(c)) return false;
  if (atomic_load_explicit(&e->interrupt, memory_order_relaxed) && atomic_exchange(&e->interrupt, 0))
    return mx_fail(c, MLAX_INTERRUPTED, "interrupted") != NULL;
  if (e->poll && e->poll(e->poll_ud)) return mx_fail(c, MLAX_INTERRUPTED, "interrupted by the host") != NULL;
  return true;
}
