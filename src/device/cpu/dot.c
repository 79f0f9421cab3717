/* dot.c: products over any axes, brought to the form of matrix products.
 *
 * Axes fall into batch, x's free (rows), y's free (columns) and contracted ones; axes that lie behind one another
 * become one. The last row axis, the last column axis and the contracted axis make the matrices; the other axes are
 * outer: a product for each of their positions, written where it belongs. An operand is copied only where its
 * contracted axes do not merge, or where no loop can read it. */
#include "dot_impl.h"
#include "reduce_impl.h"

#include <stdlib.h>

/* Both operands, and the products that are made of them. */
typedef struct dot {
  mx_dot of;
  mx_dot_operand x, y;
} dot;

/* -- operands ------------------------------------------------------------------------------------------------------ */

static void operand_set(mx_dot_operand *o, const mx_tensor *t) {
  o->aval = *t->aval;
  memcpy(o->strides, t->strides, (size_t)t->aval->ndim * sizeof *o->strides);
  o->t = (mx_tensor){.data = t->data, .aval = &o->aval, .strides = o->strides, .contiguous = t->contiguous};
  o->memory = NULL;
}

static void operand_free(mx_ctx *c, mx_dot_operand *o) {
  if (o->memory) mx_scratch_free(c, o->memory, o->bytes);
  o->memory = NULL;
}

/* Takes over new scratch memory as the operand's storage. */
static void operand_move(mx_ctx *c, mx_dot_operand *o, void *memory, size_t bytes) {
  operand_free(c, o);
  o->memory = memory, o->bytes = bytes;
  o->t.data = memory;
}

/* In another dtype, row-major. */
static bool operand_convert(mx_ctx *c, mx_dot_operand *o, int dtype) {
  if (o->aval.dtype == dtype) return true;
  size_t bytes = (size_t)o->aval.size * mx_itemsize(dtype);
  void *p = mx_scratch(c, bytes);
  if (!p) return false;
  bool ok = mx_cpu_convert_to(c, &o->t, dtype, p);
  operand_move(c, o, p, bytes);
  o->aval.dtype = (uint8_t)dtype;
  mx_strides_contiguous(&o->aval, o->strides);
  o->t.contiguous = true;
  return ok;
}

/* Copied so that its axes lie in memory in this order. */
static bool operand_pack(mx_ctx *c, mx_dot_operand *o, const mx_dims *order) {
  mx_aval turned = o->aval;
  int64_t strides[MX_MAX_NDIM];
  for (int i = 0; i < order->n; i++) {
    turned.shape[i] = o->aval.shape[order->v[i]];
    strides[i] = o->strides[order->v[i]];
  }
  size_t bytes = mx_nbytes(&turned);
  void *p = mx_scratch(c, bytes);
  if (!p) return false;
  mx_tensor from = {.data = o->t.data, .aval = &turned, .strides = strides};
  from.contiguous = mx_strides_are_contiguous(&turned, strides);
  mx_cpu_copy(c, &from, p);
  mx_strides_contiguous(&turned, strides);
  for (int i = 0; i < order->n; i++) o->strides[order->v[i]] = strides[i];
  operand_move(c, o, p, bytes);
  return true;
}

/* -- axes ---------------------------------------------------------------------------------------------------------- */

static void free_axes(int ndim, const mx_dims *contract, const mx_dims *batch, mx_dims *to) {
  unsigned bound = 0;
  for (int i = 0; i < contract->n; i++) bound |= 1u << contract->v[i];
  for (int i = 0; i < batch->n; i++) bound |= 1u << batch->v[i];
  to->n = 0;
  for (int i = 0; i < ndim; i++)
    if (!(bound >> i & 1)) to->v[to->n++] = i;
}

/* Behind the last axis, or merged with it. */
static void add_axis(mx_dot_axes *a, mx_dot_axis next) {
  if (next.n == 1) return;
  mx_dot_axis *last = a->n ? &a->axis[a->n - 1] : NULL;
  if (last && last->x == next.x * next.n && last->y == next.y * next.n && last->out == next.out * next.n) {
    *last = (mx_dot_axis){last->n * next.n, next.x, next.y, next.out};
    return;
  }
  a->axis[a->n++] = next;
}

static mx_dot_axis take_last(mx_dot_axes *a) { return a->n ? a->axis[--a->n] : (mx_dot_axis){1, 0, 0, 0}; }

static void take_all(mx_dot_axes *to, const mx_dot_axes *from) {
  for (int i = 0; i < from->n; i++) to->axis[to->n++] = from->axis[i];
}

/* The pairs of contracted axes by falling strides of x, so that they merge in whatever order they were named. */
static void sort_contracted(const dot *d, const mx_params *p, mx_dims *x, mx_dims *y) {
  x->n = y->n = 0;
  for (int i = 0; i < p->dot.x_contract.n; i++) {
    int64_t axis = p->dot.x_contract.v[i];
    int k = (int)x->n++;
    y->n++;
    for (; k > 0 && llabs(d->x.strides[x->v[k - 1]]) < llabs(d->x.strides[axis]); k--)
      x->v[k] = x->v[k - 1], y->v[k] = y->v[k - 1];
    x->v[k] = axis, y->v[k] = p->dot.y_contract.v[i];
  }
}

static int64_t step(const dot *d, const mx_dot_operand *o, int64_t axis) { return o->strides[axis] >> d->of.size_log2; }

static void contracted(const dot *d, const mx_params *p, mx_dot_axes *merged) {
  mx_dims x, y;
  merged->n = 0;
  sort_contracted(d, p, &x, &y);
  for (int i = 0; i < x.n; i++)
    add_axis(merged, (mx_dot_axis){d->x.aval.shape[x.v[i]], step(d, &d->x, x.v[i]), step(d, &d->y, y.v[i]), 0});
}

/* The result's axes: batch to the outer ones, those of x to m and those of y to n. */
static void result_axes(dot *d, const mx_params *p, const mx_aval *out, mx_dot_axes *m, mx_dot_axes *n) {
  mx_dims rows, columns;
  int64_t strides[MX_MAX_NDIM];
  int at = 0;
  free_axes(d->x.aval.ndim, &p->dot.x_contract, &p->dot.x_batch, &rows);
  free_axes(d->y.aval.ndim, &p->dot.y_contract, &p->dot.y_batch, &columns);
  mx_strides_contiguous(out, strides);
  for (int i = 0; i < out->ndim; i++) strides[i] >>= d->of.out_size_log2;
  d->of.outer.n = m->n = n->n = 0;
  for (int i = 0; i < p->dot.x_batch.n; i++, at++)
    add_axis(&d->of.outer, (mx_dot_axis){out->shape[at], step(d, &d->x, p->dot.x_batch.v[i]),
                                         step(d, &d->y, p->dot.y_batch.v[i]), strides[at]});
  for (int i = 0; i < rows.n; i++, at++)
    add_axis(m, (mx_dot_axis){out->shape[at], step(d, &d->x, rows.v[i]), 0, strides[at]});
  for (int i = 0; i < columns.n; i++, at++)
    add_axis(n, (mx_dot_axis){out->shape[at], 0, step(d, &d->y, columns.v[i]), strides[at]});
}

enum { LEAST_COLUMNS = 64, MOST_INNER = 512 };

/* The innermost outer axis becomes rows as well, where only x tells that it is another one: so b is packed once. */
static void merge_rows(dot *d) {
  mx_gemm *f = &d->of.form;
  mx_dot_axis *last = d->of.outer.n ? &d->of.outer.axis[d->of.outer.n - 1] : NULL;
  if (!last || last->y != 0 || f->m < 2 || f->m > MOST_INNER || f->n < LEAST_COLUMNS) return;
  if (last->out != f->m * f->c_row || !mx_own_tiles(d->of.dtype)) return;
  f->a_inner = f->m, f->a_outer = last->x;
  f->m *= last->n;
  d->of.products /= last->n;
  d->of.outer.n--;
}

/* Fills the outer axes and the form; false where the contracted axes do not merge. */
static bool plan(dot *d, const mx_params *p, const mx_aval *out) {
  mx_dot_axes m, n, k;
  contracted(d, p, &k);
  result_axes(d, p, out, &m, &n);
  mx_dot_axis row = take_last(&m), column = take_last(&n), inner = take_last(&k);
  take_all(&d->of.outer, &m);
  take_all(&d->of.outer, &n);
  d->of.products = 1;
  for (int i = 0; i < d->of.outer.n; i++) d->of.products *= d->of.outer.axis[i].n;
  d->of.form = (mx_gemm){.m = row.n, .n = column.n, .k = inner.n};
  d->of.form.a_row = row.x, d->of.form.a_col = inner.x;
  d->of.form.b_row = inner.y, d->of.form.b_col = column.y;
  d->of.form.c_row = row.out;
  if (inner.n == 1) d->of.form.a_col = 1, d->of.form.b_row = column.y == 1 ? column.n : 1; /* as BLAS wants it */
  merge_rows(d);
  return k.n == 0;
}

static mx_dims order_of(const mx_dims *batch, const mx_dims *second, const mx_dims *third) {
  mx_dims d = *batch;
  for (int i = 0; i < second->n; i++) d.v[d.n++] = second->v[i];
  for (int i = 0; i < third->n; i++) d.v[d.n++] = third->v[i];
  return d;
}

/* Brings what cannot be read as it lies into the order batch, rows, contracted; batch, contracted, columns. */
static bool make_readable(mx_ctx *c, dot *d, const mx_params *p, const mx_aval *out) {
  bool merges = plan(d, p, out);
  mx_gemm form = d->of.form;
  bool x_reads = merges && mx_dot_reads(&d->of, &form, false), y_reads = merges && mx_dot_reads(&d->of, &form, true);
  if (x_reads && y_reads) return true;
  mx_dims rows, columns, x_contract, y_contract;
  free_axes(d->x.aval.ndim, &p->dot.x_contract, &p->dot.x_batch, &rows);
  free_axes(d->y.aval.ndim, &p->dot.y_contract, &p->dot.y_batch, &columns);
  sort_contracted(d, p, &x_contract, &y_contract);
  mx_dims x_order = order_of(&p->dot.x_batch, &rows, &x_contract);
  mx_dims y_order = order_of(&p->dot.y_batch, &y_contract, &columns);
  if (!x_reads && !operand_pack(c, &d->x, &x_order)) return false;
  if (!y_reads && !operand_pack(c, &d->y, &y_order)) return false;
  return plan(d, p, out) || mx_fail(c, MLAX_STATE, "axes of a packed operand do not merge") != NULL;
}

/* -- the kernel ---------------------------------------------------------------------------------------------------- */

static int working_dtype(int dtype) { return dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16 ? MLAX_FLOAT32 : dtype; }

static bool multiply(mx_ctx *c, dot *d, const mx_params *p, const mx_aval *out, char *to, mx_after *after) {
  int dtype = d->of.dtype;
  return operand_convert(c, &d->x, dtype) && operand_convert(c, &d->y, dtype) && make_readable(c, d, p, out) &&
         mx_dot_run(c, &d->of, d->x.t.data, d->y.t.data, to, after);
}

static void dot_set(dot *d, const mx_kernel_args *a, int dtype, int out_dtype) {
  d->of.dtype = dtype, d->of.out_dtype = out_dtype;
  d->of.size = (int64_t)mx_itemsize(dtype), d->of.out_size = (int64_t)mx_itemsize(out_dtype);
  d->of.size_log2 = __builtin_ctzll((unsigned long long)d->of.size);
  d->of.out_size_log2 = __builtin_ctzll((unsigned long long)d->of.out_size);
  operand_set(&d->x, &a->in[0]);
  operand_set(&d->y, &a->in[1]);
}

/* Chooses the dtypes: bfloat16 where it can be multiplied as it lies, else the one that is worked in. */
static void choose_dtypes(dot *d, const mx_kernel_args *a) {
  const mx_aval *out = a->out[0].aval;
  bool bfloat = a->in[0].aval->dtype == MLAX_BFLOAT16 && a->in[1].aval->dtype == MLAX_BFLOAT16;
  if (bfloat && mx_bfloat_tiles(out->dtype)) {
    dot_set(d, a, MLAX_BFLOAT16, out->dtype);
    plan(d, a->p, out);
    if (mx_dot_takes_bfloat(&d->of.form)) return;
  }
  dot_set(d, a, working_dtype(out->dtype), working_dtype(out->dtype));
}

static bool converts(const dot *d, const mx_kernel_args *a) {
  return a->in[0].aval->dtype != d->of.dtype || a->in[1].aval->dtype != d->of.dtype ||
         a->out[0].aval->dtype != d->of.out_dtype;
}

/* The form, where the operands can be read as they lie and nothing is converted. */
bool mx_cpu_prepare_dot(mx_ctx *c, const mx_kernel_args *a, mx_arena *keep, const void **prepared) {
  dot d;
  if (a->in[0].aval->size == 0 || a->out[0].aval->size == 0) return true;
  choose_dtypes(&d, a);
  if (converts(&d, a) || !plan(&d, a->p, a->out[0].aval)) return true;
  if (!mx_dot_reads(&d.of, &d.of.form, false) || !mx_dot_reads(&d.of, &d.of.form, true)) return true;
  mx_dot *to = mx_arena_alloc(c, keep, sizeof *to);
  if (to) *to = d.of;
  *prepared = to;
  return to != NULL;
}

bool mx_cpu_dot(mx_ctx *c, const mx_kernel_args *a) {
  if (a->prepared) return mx_dot_run(c, a->prepared, a->in[0].data, a->in[1].data, a->out[0].data, a->after);
  const mx_tensor *y = &a->out[0];
  if (y->aval->size == 0) return true;
  if (a->in[0].aval->size == 0) { /* sums of nothing */
    memset(y->data, 0, mx_nbytes(y->aval));
    return true;
  }
  mx_widened w = {.out = *y, .result = y};
  dot d;
  choose_dtypes(&d, a);
  if (d.of.out_dtype != y->aval->dtype && !mx_widen_result(c, y, &w)) return false;
  mx_after *after = w.memory[1] ? NULL : a->after; /* halves are narrowed at last */
  bool ok = multiply(c, &d, a->p, w.out.aval, w.out.data, after);
  operand_free(c, &d.x);
  operand_free(c, &d.y);
  return mx_narrow(c, &w, ok);
}
