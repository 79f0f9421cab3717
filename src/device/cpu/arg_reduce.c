/* arg_reduce.c: positions of extremes. Along an axis whose elements lie side by side each run is searched by itself;
 * else blocks of columns carry their best and its row. */
#include "reduce_impl.h"

enum { COLUMNS = 256 };

typedef struct job {
  const mx_arg_loops *loops;
  int64_t size; /* bytes of an element */
  const char *from;
  char *to;
  mx_reduce_axes kept;
  mx_reduce_axis axis;
  bool columns;
  int64_t blocks, per_outer;
  int n_chunks;
  char *scratch; /* a row for each chunk, where runs have to be gathered */
} job;

static void search_run(const job *j, int64_t b, char *row) {
  int64_t out = 0, in = mx_reduce_offset(&j->kept, j->kept.n, b, &out);
  const char *x = j->from + in;
  if (row) {
    mx_reduce_gather(row, x, j->axis.in, j->size, j->axis.n);
    x = row;
  }
  int32_t at = (int32_t)j->loops->first(x, j->axis.n);
  memcpy(j->to + out, &at, sizeof at);
}

static void search_columns(const job *j, int64_t b) {
  char best[COLUMNS * 8] __attribute__((aligned(64)));
  int32_t at[COLUMNS] = {0};
  mx_reduce_axis inner = j->kept.axis[j->kept.n - 1];
  int64_t out = 0, first = (b % j->per_outer) * COLUMNS;
  int64_t n = inner.n - first < COLUMNS ? inner.n - first : COLUMNS;
  const char *x = j->from + mx_reduce_offset(&j->kept, j->kept.n - 1, b / j->per_outer, &out) + first * inner.in;
  memcpy(best, x, (size_t)(n * j->size));
  j->loops->rows(best, at, x + j->axis.in, j->axis.in, 1, j->axis.n - 1, n);
  mx_reduce_scatter(j->to + out + first * inner.out, inner.out, (const char *)at, sizeof *at, n);
}

static void chunk(void *arg, int i) {
  const job *j = arg;
  char *row = j->scratch ? j->scratch + (size_t)i * (size_t)(j->axis.n * j->size) : NULL;
  for (int64_t b = j->blocks * i / j->n_chunks; b < j->blocks * (i + 1) / j->n_chunks; b++) {
    if (j->columns) search_columns(j, b);
    else search_run(j, b, row);
  }
}

static bool run(mx_ctx *c, job *j, double bytes) {
  size_t row = (size_t)(j->axis.n * j->size);
  j->n_chunks = mx_chunks(c->engine, j->blocks, 0.2 * bytes / (double)j->blocks);
  if (!j->columns && j->axis.n > 1 && j->axis.in != j->size) {
    j->scratch = mx_scratch(c, row * (size_t)j->n_chunks);
    if (!j->scratch) return false;
  }
  mx_parallel(c->engine, j->n_chunks, chunk, j);
  if (j->scratch) mx_scratch_free(c, j->scratch, row * (size_t)j->n_chunks);
  return true;
}

static bool search(mx_ctx *c, bool greatest, const mx_tensor *x, int axis, const mx_tensor *y) {
  const mx_reduce_table *t = MX_SIMD_PICK(mx_reduce_table);
  mx_dims axes = {.n = 1, .v = {axis}};
  mx_reduce_axes red;
  int dtype = x->aval->dtype;
  job j = {.loops = greatest ? &t->argmax[dtype] : &t->argmin[dtype],
           .size = (int64_t)mx_itemsize(dtype),
           .from = x->data,
           .to = y->data};
  if (y->aval->size == 0) return true;
  mx_reduce_sort_axes(x, &axes, sizeof(int32_t), &j.kept, &red);
  j.axis = red.n ? red.axis[0] : (mx_reduce_axis){1, j.size, 0};
  j.columns = j.kept.n && j.kept.axis[j.kept.n - 1].in == j.size && j.axis.in != j.size;
  j.blocks = y->aval->size;
  if (j.columns) {
    j.per_outer = (j.kept.axis[j.kept.n - 1].n + COLUMNS - 1) / COLUMNS;
    j.blocks = j.per_outer * mx_reduce_count(&j.kept, j.kept.n - 1);
  }
  return run(c, &j, (double)mx_nbytes(x->aval));
}

bool mx_cpu_arg_reduce(mx_ctx *c, const mx_kernel_args *a) {
  mx_widened w;
  if (!mx_widen(c, &a->in[0], &a->out[0], &w)) return false;
  bool ok = search(c, a->prim->id == MX_PRIM_argmax, &w.in, (int)a->p->axis.axis, &w.out);
  return mx_narrow(c, &w, ok);
}
