/* scan.c: running sums, products, extremes along one axis. All other axes are independent columns, taken in blocks. */
#include "reduce_impl.h"
#include "simd/scan.h"

typedef struct job {
  mx_scan_loop loop;
  const char *from;
  char *to;
  int64_t n, from_step, to_step; /* along the scanned axis */
  mx_reduce_axes others;
  int64_t blocks, per_outer;
  int n_chunks;
} job;

static void run_block(const job *j, int64_t b) {
  mx_reduce_axis inner = j->others.axis[j->others.n - 1];
  int64_t out = 0, in = mx_reduce_offset(&j->others, j->others.n - 1, b / j->per_outer, &out);
  int64_t first = (b % j->per_outer) * MX_SCAN_COLUMNS;
  int64_t n = inner.n - first < MX_SCAN_COLUMNS ? inner.n - first : MX_SCAN_COLUMNS;
  j->loop(j->to + out + first * inner.out, j->to_step, inner.out, j->from + in + first * inner.in, j->from_step,
          inner.in, j->n, n);
}

static void chunk(void *arg, int i) {
  const job *j = arg;
  for (int64_t b = j->blocks * i / j->n_chunks; b < j->blocks * (i + 1) / j->n_chunks; b++) run_block(j, b);
}

/* The other axes, the one along which elements lie closest last. */
static void plan_others(job *j, const mx_tensor *x, const int64_t *to_strides, int axis) {
  for (int i = x->aval->ndim - 1; i >= 0; i--) {
    if (i == axis || x->aval->shape[i] == 1) continue;
    int k = j->others.n++;
    for (; k > 0 && j->others.axis[k - 1].out < to_strides[i]; k--) j->others.axis[k] = j->others.axis[k - 1];
    j->others.axis[k] = (mx_reduce_axis){x->aval->shape[i], x->strides[i], to_strides[i]};
  }
  if (j->others.n == 0) j->others = (mx_reduce_axes){1, {{1, 0, 0}}};
  mx_reduce_axis inner = j->others.axis[j->others.n - 1];
  j->per_outer = (inner.n + MX_SCAN_COLUMNS - 1) / MX_SCAN_COLUMNS;
  j->blocks = j->per_outer * mx_reduce_count(&j->others, j->others.n - 1);
}

/* Where the scanned axis is the inner one of both, each column runs along its own cache lines: one at a time. */
static void take_columns_singly(job *j, int64_t size) {
  mx_reduce_axis *inner = &j->others.axis[j->others.n - 1];
  if (j->from_step != size && j->from_step != -size) return;
  if (inner->n == 1 || j->others.n == MX_MAX_NDIM) return;
  j->others.axis[j->others.n++] = (mx_reduce_axis){1, 0, 0};
  j->per_outer = 1;
  j->blocks = mx_reduce_count(&j->others, j->others.n);
}

static void scan(mx_ctx *c, mx_scan_op op, const mx_tensor *x, int axis, bool reverse, const mx_tensor *y) {
  int64_t strides[MX_MAX_NDIM], size = (int64_t)mx_itemsize(x->aval->dtype);
  if (x->aval->size == 0) return;
  mx_strides_contiguous(y->aval, strides);
  job j = {.loop = MX_SIMD_PICK(mx_scan_table)->loop[op][x->aval->dtype],
           .from = x->data,
           .to = y->data,
           .n = x->aval->shape[axis],
           .from_step = x->strides[axis],
           .to_step = strides[axis]};
  if (reverse) {
    j.from += (j.n - 1) * j.from_step, j.to += (j.n - 1) * j.to_step;
    j.from_step = -j.from_step, j.to_step = -j.to_step;
  }
  plan_others(&j, x, strides, axis);
  take_columns_singly(&j, size);
  j.n_chunks = mx_chunks(c->engine, j.blocks, 1.2 * (double)x->aval->size / (double)j.blocks);
  mx_parallel(c->engine, j.n_chunks, chunk, &j);
}

static mx_scan_op op_of(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_cumsum: return MX_SCAN_SUM;
  case MX_PRIM_cumprod: return MX_SCAN_PROD;
  case MX_PRIM_cummax: return MX_SCAN_MAX;
  default: return MX_SCAN_MIN;
  }
}

bool mx_cpu_scan(mx_ctx *c, const mx_kernel_args *a) {
  mx_widened w;
  if (!mx_widen(c, &a->in[0], &a->out[0], &w)) return false;
  scan(c, op_of(a->prim), &w.in, (int)a->p->axis.axis, a->p->axis.reverse != 0, &w.out);
  return mx_narrow(c, &w, true);
}
