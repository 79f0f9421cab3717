/* dot.c: products that sum over axes. The result's axes are: batch, x's free axes, y's free axes.
 *
 *     x {b, i, k}   y {b, k, j}     contract k, batch b     ->  {b, i, j}
 */
#include "rules_impl.h"

/* -- axes ---------------------------------------------------------------------------------------------------------- */

static mx_dims free_axes(int ndim, const mx_dims *contract, const mx_dims *batch) {
  mx_dims d = {0};
  for (int i = 0; i < ndim; i++)
    if (!mx_dims_has(contract, i) && !mx_dims_has(batch, i)) d.v[d.n++] = i;
  return d;
}

static mx_dims range_from(int64_t first, int64_t n) {
  mx_dims d = {.n = n};
  for (int i = 0; i < n; i++) d.v[i] = first + i;
  return d;
}

static void append(mx_dims *d, const mx_dims *more) {
  for (int i = 0; i < more->n; i++) d->v[d->n++] = more->v[i];
}

static mx_dims inverse(const mx_dims *axes) {
  mx_dims d = {.n = axes->n};
  for (int i = 0; i < axes->n; i++) d.v[axes->v[i]] = i;
  return d;
}

/* The entries of `values` in the order in which their `keys` go up. */
static mx_dims sorted_by(const mx_dims *values, const mx_dims *keys) {
  mx_dims v = *values, k = *keys;
  for (int i = 1; i < k.n; i++)
    for (int j = i; j > 0 && k.v[j] < k.v[j - 1]; j--) {
      int64_t t = k.v[j], u = v.v[j];
      k.v[j] = k.v[j - 1], k.v[j - 1] = t;
      v.v[j] = v.v[j - 1], v.v[j - 1] = u;
    }
  return v;
}

/* -- shape --------------------------------------------------------------------------------------------------------- */

static bool check_axes(mx_ctx *c, const mx_aval *x, const mx_dims *contract, const mx_dims *batch) {
  bool seen[MX_MAX_NDIM] = {false};
  mx_text t;
  mx_dims all = *batch;
  if (contract->n + batch->n > x->ndim)
    return mx_fail(c, MLAX_SHAPE, "more axes are named than %s has", mx_aval_text(&t, x)), false;
  append(&all, contract);
  for (int i = 0; i < all.n; i++) {
    if (all.v[i] < 0 || all.v[i] >= x->ndim)
      return mx_fail(c, MLAX_SHAPE, "axis out of range for %s", mx_aval_text(&t, x)), false;
    if (seen[all.v[i]]) return mx_fail(c, MLAX_SHAPE, "an axis is named twice"), false;
    seen[all.v[i]] = true;
  }
  return true;
}

static bool check_lengths(mx_ctx *c, const mx_op *o, const mx_dims *x_axes, const mx_dims *y_axes, const char *what) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[1];
  mx_text s, t;
  if (x_axes->n != y_axes->n)
    return mx_fail(c, MLAX_SHAPE, "%s axes do not pair (got %d and %d)", what, (int)x_axes->n, (int)y_axes->n), false;
  for (int i = 0; i < x_axes->n; i++)
    if (x->shape[x_axes->v[i]] != y->shape[y_axes->v[i]])
      return mx_fail(c, MLAX_SHAPE, "%s axes differ in length (got axis %d of %s and axis %d of %s)", what,
                     (int)x_axes->v[i] + 1, mx_aval_text(&s, x), (int)y_axes->v[i] + 1, mx_aval_text(&t, y)),
             false;
  return true;
}

static bool check_dtypes(mx_ctx *c, const mx_op *o) {
  int x = o->in_aval[0]->dtype, y = o->in_aval[1]->dtype, out = (int)o->p->dot.dtype;
  if (x != y) return mx_fail(c, MLAX_SHAPE, "dtypes differ (got %s and %s)", mx_dtype_name(x), mx_dtype_name(y)), false;
  if (out < 0 || out >= MX_DTYPE_COUNT || (mx_is_float(x) && !mx_is_float(out)) || (out == MLAX_BOOL && x != MLAX_BOOL))
    return mx_fail(c, MLAX_SHAPE, "products of %s cannot be added up in %s", mx_dtype_name(x),
                   out < 0 || out >= MX_DTYPE_COUNT ? "that dtype" : mx_dtype_name(out)),
           false;
  return true;
}

static bool dot_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[1];
  const mx_dims *xc = &o->p->dot.x_contract, *yc = &o->p->dot.y_contract;
  const mx_dims *xb = &o->p->dot.x_batch, *yb = &o->p->dot.y_batch;
  if (!check_axes(c, x, xc, xb) || !check_axes(c, y, yc, yb) || !check_dtypes(c, o)) return false;
  if (!check_lengths(c, o, xc, yc, "contracted") || !check_lengths(c, o, xb, yb, "batch")) return false;
  mx_dims x_free = free_axes(x->ndim, xc, xb), y_free = free_axes(y->ndim, yc, yb);
  int64_t shape[2 * MX_MAX_NDIM];
  int n = 0;
  for (int i = 0; i < xb->n; i++) shape[n++] = x->shape[xb->v[i]];
  for (int i = 0; i < x_free.n; i++) shape[n++] = x->shape[x_free.v[i]];
  for (int i = 0; i < y_free.n; i++) shape[n++] = y->shape[y_free.v[i]];
  return mx_aval_make(c, out, (int)o->p->dot.dtype, n, shape);
}

/* -- rules --------------------------------------------------------------------------------------------------------- */

/* d (x . y) = dx . y + x . dy */
static mx_array *dot_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *in[2] = {o->in[0], o->in[1]};
  in[i] = g;
  return mx_bind1(c, o->prim, o->p, in, 2);
}

/* {b, i, j} . y over j -> {b, i, k}, k in the order of y's axes; then each axis goes where x has it. */
static mx_array *dot_transpose_x(mx_ctx *c, const mx_op *o, mx_array *ct) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[1];
  const mx_dims *xc = &o->p->dot.x_contract, *yc = &o->p->dot.y_contract;
  const mx_dims *xb = &o->p->dot.x_batch, *yb = &o->p->dot.y_batch;
  mx_dims x_free = free_axes(x->ndim, xc, xb), y_free = free_axes(y->ndim, yc, yb);
  mx_dims ct_batch = range_from(0, xb->n), ct_y = range_from(xb->n + x_free.n, y_free.n);
  mx_array *r = mx_dot_general(c, ct, o->in[1], &ct_y, &y_free, &ct_batch, yb, -1);
  mx_dims at = *xb, contracted = sorted_by(xc, yc);
  append(&at, &x_free);
  append(&at, &contracted);
  at = inverse(&at);
  return mx_convert(c, mx_transpose(c, r, &at), x->dtype);
}

/* x . {b, i, j} over i -> {b, k, j}, k in the order of x's axes; then each axis goes where y has it. */
static mx_array *dot_transpose_y(mx_ctx *c, const mx_op *o, mx_array *ct) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[1];
  const mx_dims *xc = &o->p->dot.x_contract, *yc = &o->p->dot.y_contract;
  const mx_dims *xb = &o->p->dot.x_batch, *yb = &o->p->dot.y_batch;
  mx_dims x_free = free_axes(x->ndim, xc, xb), y_free = free_axes(y->ndim, yc, yb);
  mx_dims ct_batch = range_from(0, xb->n), ct_x = range_from(xb->n, x_free.n);
  mx_array *r = mx_dot_general(c, o->in[0], ct, &x_free, &ct_x, xb, &ct_batch, -1);
  mx_dims at = *yb, contracted = sorted_by(yc, xc);
  append(&at, &contracted);
  append(&at, &y_free);
  at = inverse(&at);
  return mx_convert(c, mx_transpose(c, r, &at), y->dtype);
}

static mx_array *dot_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  if (!ct[0]) return NULL;
  return i == 0 ? dot_transpose_x(c, o, ct[0]) : dot_transpose_y(c, o, ct[0]);
}

static void step_behind(mx_dims *axes) {
  for (int i = 0; i < axes->n; i++) axes->v[i]++;
}

/* Both mapped: one more batch axis, the first. One mapped: a free axis, the first of its operand's. */
static bool dot_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = *o->p;
  mx_array *in[2] = {o->in[0], o->in[1]};
  int64_t x_free = o->in[0]->aval.ndim - (axes[0] >= 0) - p.dot.x_batch.n - p.dot.x_contract.n;
  if (axes[0] >= 0) {
    in[0] = mx_batch_front(c, in[0], axes[0], size);
    step_behind(&p.dot.x_contract);
    step_behind(&p.dot.x_batch);
  }
  if (axes[1] >= 0) {
    in[1] = mx_batch_front(c, in[1], axes[1], size);
    step_behind(&p.dot.y_contract);
    step_behind(&p.dot.y_batch);
  }
  out_axes[0] = (int)(axes[0] >= 0 ? p.dot.x_batch.n : p.dot.x_batch.n + x_free);
  if (axes[0] >= 0 && axes[1] >= 0) {
    p.dot.x_batch = mx_dims_insert(&p.dot.x_batch, 0, 0);
    p.dot.y_batch = mx_dims_insert(&p.dot.y_batch, 0, 0);
    out_axes[0] = 0;
  }
  out[0] = mx_bind1(c, o->prim, &p, in, 2);
  return out[0] != NULL;
}

/* A product and a sum for each element of the result and each contracted position. */
static double dot_flops(const mx_op *o) {
  double n = 2.0 * (double)o->out_aval->size;
  for (int i = 0; i < o->p->dot.x_contract.n; i++) n *= (double)o->in_aval[0]->shape[o->p->dot.x_contract.v[i]];
  return n;
}

#define DOT_FIELD(name, kind)                                                                                          \
  { #name, kind, offsetof(mx_params, dot.name) }
static const mx_field dot_fields[] = {DOT_FIELD(x_contract, MX_FIELD_DIMS), DOT_FIELD(y_contract, MX_FIELD_DIMS),
                                      DOT_FIELD(x_batch, MX_FIELD_DIMS),    DOT_FIELD(y_batch, MX_FIELD_DIMS),
                                      DOT_FIELD(dtype, MX_FIELD_DTYPE),     {0}};

const mx_primitive mx_prim_dot_general = {.name = "dot_general",
                                          .id = MX_PRIM_dot_general,
                                          .n_out = 1,
                                          .params_size = sizeof(((mx_params *)0)->dot),
                                          .fields = dot_fields,
                                          .shape = dot_shape,
                                          .d = dot_d,
                                          .transpose = dot_transpose,
                                          .batch = dot_batch,
                                          .flops = dot_flops};

/* -- operations ---------------------------------------------------------------------------------------------------- */

mx_array *mx_dot_general(mx_ctx *c, mx_array *x, mx_array *y, const mx_dims *x_contract, const mx_dims *y_contract,
                         const mx_dims *x_batch, const mx_dims *y_batch, int dtype) {
  bool weak;
  if (!x || !y) return NULL;
  int common = mx_dtype_promote(x->aval.dtype, x->aval.weak, y->aval.dtype, y->aval.weak, &weak);
  mx_params p = {.dot = {.x_contract = *x_contract,
                         .y_contract = *y_contract,
                         .x_batch = *x_batch,
                         .y_batch = *y_batch,
                         .dtype = dtype < 0 ? common : dtype}};
  return mx_bind1(c, &mx_prim_dot_general, &p, (mx_array *[]){mx_convert(c, x, common), mx_convert(c, y, common)}, 2);
}

/* How the leading axes of two operands pair, as in NumPy: alike ones are batch axes; an axis of 1, or a missing one,
 * leaves the other's axis free. */
typedef struct matmul_axes {
  mx_dims x_batch, y_batch;           /* axes of x and y, after the axes of 1 were dropped */
  mx_dims x_drop, y_drop;             /* of 1: repeated in the other's place */
  mx_dims from_batch, from_x, from_y; /* places in the result's leading axes */
} matmul_axes;

static bool matmul_fail(mx_ctx *c, const mx_aval *x, const mx_aval *y, const char *need) {
  mx_text s, t;
  mx_fail(c, MLAX_SHAPE, "shapes do not fit (got %s and %s, need %s)", mx_aval_text(&s, x), mx_aval_text(&t, y), need);
  return false;
}

static bool matmul_check(mx_ctx *c, const mx_aval *x, const mx_aval *y) {
  if (x->ndim == 0 || y->ndim == 0) return matmul_fail(c, x, y, "at least one axis each");
  int64_t n = y->shape[y->ndim == 1 ? 0 : y->ndim - 2];
  if (x->shape[x->ndim - 1] == n) return true;
  return matmul_fail(c, x, y, "the last axis of the first as long as the last but one of the second");
}

/* Leading axes of an operand, x's last two being the matrix, -1: missing. */
static int64_t leading(const mx_aval *x, int i, int n_lead) {
  int at = i - (n_lead - (x->ndim - 2));
  return x->ndim > 2 && at >= 0 ? at : -1;
}

static bool matmul_pair(mx_ctx *c, const mx_aval *x, const mx_aval *y, int n_lead, matmul_axes *m) {
  for (int i = 0; i < n_lead; i++) {
    int64_t a = leading(x, i, n_lead), b = leading(y, i, n_lead);
    int64_t p = a < 0 ? 1 : x->shape[a], q = b < 0 ? 1 : y->shape[b];
    if (p != q && p != 1 && q != 1) return matmul_fail(c, x, y, "leading axes that broadcast");
    if (a >= 0 && b >= 0 && p == q) {
      m->x_batch.v[m->x_batch.n++] = a - m->x_drop.n;
      m->y_batch.v[m->y_batch.n++] = b - m->y_drop.n;
      m->from_batch.v[m->from_batch.n++] = i;
      continue;
    }
    bool of_x = b < 0 || (a >= 0 && q == 1);
    mx_dims *drop = of_x ? &m->y_drop : &m->x_drop, *from = of_x ? &m->from_x : &m->from_y;
    int64_t dropped = of_x ? b : a;
    if (dropped >= 0) drop->v[drop->n++] = dropped;
    from->v[from->n++] = i;
  }
  return true;
}

static mx_array *drop_axes(mx_ctx *c, mx_array *x, const mx_dims *drop) {
  mx_dims shape = mx_dims_shape(&x->aval);
  for (int i = (int)drop->n - 1; i >= 0; i--) shape = mx_dims_remove(&shape, (int)drop->v[i]);
  return mx_reshape(c, x, &shape);
}

/* dot_general gives {batch, x's leading, row, y's leading, column}; the leading axes go where they belong. */
static mx_array *matmul_order(mx_ctx *c, mx_array *r, const matmul_axes *m, int n_lead, bool row, bool column) {
  mx_dims at = m->from_batch, row_at = {.n = row, .v = {n_lead}}, column_at = {.n = column, .v = {n_lead + row}};
  append(&at, &m->from_x);
  append(&at, &row_at);
  append(&at, &m->from_y);
  append(&at, &column_at);
  at = inverse(&at);
  return mx_transpose(c, r, &at);
}

mx_array *mx_matmul(mx_ctx *c, mx_array *x, mx_array *y) {
  matmul_axes m = {0};
  if (!x || !y || !matmul_check(c, &x->aval, &y->aval)) return NULL;
  bool row = x->aval.ndim > 1, column = y->aval.ndim > 1;
  int x_lead = row ? x->aval.ndim - 2 : 0, y_lead = column ? y->aval.ndim - 2 : 0;
  int n_lead = x_lead > y_lead ? x_lead : y_lead;
  if (!matmul_pair(c, &x->aval, &y->aval, n_lead, &m)) return NULL;
  x = drop_axes(c, x, &m.x_drop), y = drop_axes(c, y, &m.y_drop);
  if (!x || !y) return NULL;
  mx_dims x_contract = {.n = 1, .v = {x->aval.ndim - 1}};
  mx_dims y_contract = {.n = 1, .v = {column ? y->aval.ndim - 2 : 0}};
  mx_array *r = mx_dot_general(c, x, y, &x_contract, &y_contract, &m.x_batch, &m.y_batch, -1);
  return matmul_order(c, r, &m, n_lead, row, column);
}
