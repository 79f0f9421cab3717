/* scan.c: running sums, products and extremes along one axis. */
#include "rules_impl.h"

static bool scan_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  mx_text t;
  if (o->p->axis.axis < 0 || o->p->axis.axis >= x->ndim)
    return mx_fail(c, MLAX_SHAPE, "axis out of range for %s", mx_aval_text(&t, x)), false;
  *out = *x;
  return true;
}

static bool add_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (o->in_aval[0]->dtype == MLAX_BOOL)
    return mx_fail(c, MLAX_SHAPE, "bool has no sums or products (convert it first)"), false;
  return scan_shape(c, o, out);
}

/* -- rules --------------------------------------------------------------------------------------------------------- */

/* x moved along the axis by `by` places towards its end, v in the empty ones. */
static mx_array *shift(mx_ctx *c, mx_array *x, int axis, int64_t by, double v) {
  if (!x) return NULL;
  mx_dims lo = {.n = x->aval.ndim}, hi = lo;
  lo.v[axis] = by, hi.v[axis] = -by;
  return mx_pad(c, x, mx_scalar(c, x->aval.dtype, v), &lo, &hi, NULL);
}

static mx_array *turned(mx_ctx *c, mx_array *x, const mx_op *o) {
  mx_dims axes = {.n = o->p->axis.reverse ? 1 : 0, .v = {o->p->axis.axis}};
  return mx_reverse(c, x, &axes);
}

/* The sum from the other end. */
static mx_array *cumsum_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  (void)i;
  return mx_cumsum(c, ct[0], (int)o->p->axis.axis, !o->p->axis.reverse);
}

/* y_k = prod_{i <= k} x_i. Pairs (y, dy) of neighbouring stretches join as (y1 y2, dy1 y2 + y1 dy2), the product rule;
 * in log2(n) rounds each stretch, of 1, 2, 4, ... elements, takes in the one before it. No division: right where some x
 * are zero. */
static mx_array *cumprod_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  int axis = (int)o->p->axis.axis;
  int64_t n = o->in[i]->aval.shape[axis];
  mx_array *y = turned(c, o->in[i], o), *dy = turned(c, g, o);
  for (int64_t by = 1; by < n; by *= 2) {
    mx_array *before = shift(c, y, axis, by, 1);
    dy = mx_add(c, mx_mul(c, shift(c, dy, axis, by, 0), y), mx_mul(c, before, dy));
    y = mx_mul(c, before, y);
  }
  return turned(c, dy, o);
}

/* d y_k = g at the place where the running extreme was met first: the last place up to k where x beat all before it. */
static mx_array *extreme_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  int axis = (int)o->p->axis.axis, ndim = o->in[i]->aval.ndim;
  mx_array *x = turned(c, o->in[i], o), *best = shift(c, turned(c, o->out[0], o), axis, 1, 0), *ids[MX_MAX_NDIM];
  if (!x || !best) return NULL;
  if (x->aval.size == 0) return g;
  mx_array *beats = o->prim->id == MX_PRIM_cummax ? mx_gt(c, x, best) : mx_lt(c, x, best);
  mx_dims shape = mx_dims_shape(&x->aval), axes = mx_dims_range(ndim);
  for (int k = 0; k < ndim; k++) ids[k] = mx_iota(c, MLAX_INT64, &shape, k);
  ids[axis] = mx_cummax(c, mx_mul(c, ids[axis], mx_convert(c, beats, MLAX_INT64)), axis, false);
  return turned(c, mx_gather(c, turned(c, g, o), ids, ndim, &axes, false), o);
}

static bool scan_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = *o->p;
  (void)size;
  p.axis.axis += p.axis.axis >= axes[0];
  out[0] = mx_bind1(c, o->prim, &p, o->in, 1);
  out_axes[0] = axes[0];
  return out[0] != NULL;
}

static double scan_flops(const mx_op *o) { return (double)o->in_aval[0]->size; }

/* -- records ------------------------------------------------------------------------------------------------------- */

#define SCAN(NAME, LINEAR, SHAPE, D, TRANSPOSE)                                                                        \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .linear = LINEAR,                                                               \
                                       .params_size = sizeof(((mx_params *)0)->axis),                                  \
                                       .fields = mx_fields_axis,                                                       \
                                       .shape = SHAPE,                                                                 \
                                       .d = D,                                                                         \
                                       .transpose = TRANSPOSE,                                                         \
                                       .batch = scan_batch,                                                            \
                                       .flops = scan_flops};
SCAN(cumsum, true, add_shape, mx_d_linear, cumsum_transpose)
SCAN(cumprod, false, add_shape, cumprod_d, NULL)
SCAN(cummax, false, scan_shape, extreme_d, NULL)
SCAN(cummin, false, scan_shape, extreme_d, NULL)

/* -- operations ---------------------------------------------------------------------------------------------------- */

static mx_array *scan(mx_ctx *c, const mx_primitive *prim, mx_array *x, int axis, bool reverse) {
  mx_params p = {.axis = {.axis = axis, .reverse = reverse}};
  return x ? mx_bind1(c, prim, &p, &x, 1) : NULL;
}

mx_array *mx_cumsum(mx_ctx *c, mx_array *x, int axis, bool reverse) {
  return scan(c, &mx_prim_cumsum, x, axis, reverse);
}
mx_array *mx_cumprod(mx_ctx *c, mx_array *x, int axis, bool reverse) {
  return scan(c, &mx_prim_cumprod, x, axis, reverse);
}
mx_array *mx_cummax(mx_ctx *c, mx_array *x, int axis, bool reverse) {
  return scan(c, &mx_prim_cummax, x, axis, reverse);
}
mx_array *mx_cummin(mx_ctx *c, mx_array *x, int axis, bool reverse) {
  return scan(c, &mx_prim_cummin, x, axis, reverse);
}
