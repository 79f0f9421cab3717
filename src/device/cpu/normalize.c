/* normalize.c: softmax, log-softmax and log-sum-exp along one axis. Rows that lie behind one another are worked on in
 * place; others are gathered in blocks and their results put back. */
#include "simd/normalize.h"
#include "reduce_impl.h"

enum { BLOCK = 64 }; /* rows that are gathered at once, at most */

typedef struct job {
  mx_normalize_rows rows;
  const char *from;
  char *to;
  int64_t size;                 /* bytes of an element */
  int64_t n, in_step, out_step; /* along the axis */
  int64_t out_n;                /* elements of a result's row: n, or 1 */
  mx_reduce_axes others;        /* in the order of the result */
  int64_t positions, block;     /* of the other axes; how many are taken at once */
  bool direct;
  int n_chunks;
  char *scratch; /* block rows of operand and result for each chunk */
} job;

static size_t block_bytes(const job *j) {
  size_t row = (size_t)(j->n + j->out_n) * (size_t)j->size;
  return j->direct ? 0 : (row * (size_t)j->block + 63) / 64 * 64;
}

/* Between rows that lie apart, one for each of m positions, and dense ones. Neighbouring positions share cache lines: a
 * few elements of all of them, then the next few. */
static void turn_rows(char *const *apart, int64_t step, char *dense, int64_t n, int64_t size, int64_t m, bool gather) {
  enum { FEW = 16 };
  for (int64_t k = 0; k < n; k += FEW)
    for (int64_t i = 0; i < m; i++) {
      char *a = apart[i] + k * step, *d = dense + (i * n + k) * size;
      int64_t count = n - k < FEW ? n - k : FEW;
      if (gather) mx_reduce_gather(d, a, step, size, count);
      else mx_reduce_scatter(a, step, d, size, count);
    }
}

static void run_gathered(const job *j, int64_t at, int64_t m, char *scratch) {
  char *x = scratch, *y = scratch + j->n * j->size * m, *from[BLOCK], *to[BLOCK];
  for (int64_t i = 0; i < m; i++) {
    int64_t out = 0;
    from[i] = (char *)j->from + mx_reduce_offset(&j->others, j->others.n, at + i, &out);
    to[i] = j->to + out;
  }
  turn_rows(from, j->in_step, x, j->n, j->size, m, true);
  j->rows(x, y, m, j->n);
  turn_rows(to, j->out_step, y, j->out_n, j->size, m, false);
}

static void chunk(void *arg, int i) {
  const job *j = arg;
  int64_t lo = j->positions * i / j->n_chunks, hi = j->positions * (i + 1) / j->n_chunks;
  if (j->direct) {
    j->rows(j->from + lo * j->n * j->size, j->to + lo * j->out_n * j->size, hi - lo, j->n);
    return;
  }
  char *scratch = j->scratch + (size_t)i * block_bytes(j);
  for (int64_t at = lo; at < hi; at += j->block) run_gathered(j, at, hi - at < j->block ? hi - at : j->block, scratch);
}

/* The other axes; the result lacks the axis (log-sum-exp) or has it. */
static void plan_others(job *j, const mx_tensor *x, const mx_tensor *y, int axis) {
  int64_t strides[MX_MAX_NDIM];
  bool same = x->aval->ndim == y->aval->ndim;
  mx_strides_contiguous(y->aval, strides);
  j->positions = 1;
  for (int i = 0; i < x->aval->ndim; i++) {
    if (i == axis) continue;
    int64_t out = strides[same || i < axis ? i : i - 1];
    j->others.axis[j->others.n++] = (mx_reduce_axis){x->aval->shape[i], x->strides[i], out};
    j->positions *= x->aval->shape[i];
  }
  j->out_n = same ? j->n : 1;
  j->out_step = same ? strides[axis] : j->size;
}

/* Of nothing the log-sum-exp is -inf. */
static void fill_empty(const mx_tensor *y) {
  for (int64_t i = 0; i < y->aval->size; i++)
    mx_store_double(y->aval->dtype, y->data + i * (int64_t)mx_itemsize(y->aval->dtype), -__builtin_inf());
}

static bool normalize(mx_ctx *c, mx_normalize_op op, const mx_tensor *x, int axis, const mx_tensor *y) {
  const mx_normalize_table *t = MX_SIMD_PICK(mx_normalize_table);
  bool wide = x->aval->dtype == MLAX_FLOAT64;
  if (y->aval->size == 0) return true;
  if (x->aval->size == 0) return fill_empty(y), true;
  job j = {.rows = wide ? t->float64[op] : t->float32[op],
           .from = x->data,
           .to = y->data,
           .size = (int64_t)mx_itemsize(x->aval->dtype),
           .n = x->aval->shape[axis],
           .in_step = x->strides[axis]};
  plan_others(&j, x, y, axis);
  j.direct = x->contiguous && axis == x->aval->ndim - 1;
  j.block = j.n < 1024 ? BLOCK : j.n < 65536 ? 65536 / j.n : 1;
  if (j.block > j.positions) j.block = j.positions;
  j.n_chunks = mx_chunks(c->engine, j.positions, (wide ? 10.0 : 1.5) * (double)j.n);
  size_t bytes = block_bytes(&j) * (size_t)j.n_chunks;
  if (bytes && !(j.scratch = mx_scratch(c, bytes))) return false;
  mx_parallel(c->engine, j.n_chunks, chunk, &j);
  if (bytes) mx_scratch_free(c, j.scratch, bytes);
  return true;
}

static mx_normalize_op op_of(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_logsumexp: return MX_LOGSUMEXP;
  case MX_PRIM_softmax: return MX_SOFTMAX;
  default: return MX_LOG_SOFTMAX;
  }
}

bool mx_cpu_normalize(mx_ctx *c, const mx_kernel_args *a) {
  mx_widened w;
  if (!mx_widen(c, &a->in[0], &a->out[0], &w)) return false;
  bool ok = normalize(c, op_of(a->prim), &w.in, (int)a->p->axis.axis, &w.out);
  return mx_narrow(c, &w, ok);
}
