/* normalize.c: log-sum-exp, softmax and log-softmax along one axis, with derivatives in terms of themselves. */
#include "rules_impl.h"

static bool check(mx_ctx *c, const mx_op *o) {
  const mx_aval *x = o->in_aval[0];
  mx_text t;
  if (o->p->axis.axis < 0 || o->p->axis.axis >= x->ndim)
    return mx_fail(c, MLAX_SHAPE, "axis out of range for %s", mx_aval_text(&t, x)), false;
  if (!mx_is_float(x->dtype)) return mx_fail(c, MLAX_SHAPE, "need floats (got %s)", mx_aval_text(&t, x)), false;
  return true;
}

static bool same_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (!check(c, o)) return false;
  *out = *o->in_aval[0];
  return true;
}

static bool without_axis(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  if (!check(c, o)) return false;
  mx_dims shape = mx_dims_shape(x), rest = mx_dims_remove(&shape, (int)o->p->axis.axis);
  if (!mx_aval_make(c, out, x->dtype, (int)rest.n, rest.v)) return false;
  out->weak = x->weak;
  return true;
}

/* -- rules --------------------------------------------------------------------------------------------------------- */

static mx_array *sum_along(mx_ctx *c, mx_array *x, const mx_op *o, bool keepdims) {
  mx_dims axes = {.n = 1, .v = {o->p->axis.axis}};
  return mx_sum(c, x, &axes, keepdims);
}

/* d logsumexp x = sum(softmax(x) g) */
static mx_array *logsumexp_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  return sum_along(c, mx_mul(c, mx_softmax(c, o->in[i], (int)o->p->axis.axis), g), o, false);
}

/* d softmax x = y (g - sum(y g)) */
static mx_array *softmax_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *y = o->out[0];
  (void)i;
  return mx_mul(c, y, mx_sub(c, g, sum_along(c, mx_mul(c, y, g), o, true)));
}

/* d log_softmax x = g - sum(e^y g) */
static mx_array *log_softmax_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return mx_sub(c, g, sum_along(c, mx_mul(c, mx_exp(c, o->out[0]), g), o, true));
}

/* The mapped axis stays where it is. */
static bool normalize_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = *o->p;
  (void)size;
  p.axis.axis += p.axis.axis >= axes[0];
  out[0] = mx_bind1(c, o->prim, &p, o->in, 1);
  out_axes[0] = axes[0] - (o->prim->id == MX_PRIM_logsumexp && p.axis.axis < axes[0]);
  return out[0] != NULL;
}

static double normalize_flops(const mx_op *o) { return 4.0 * (double)o->in_aval[0]->size; }

#define NORMALIZE(NAME, SHAPE, D)                                                                                      \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .params_size = sizeof(((mx_params *)0)->axis),                                  \
                                       .fields = mx_fields_axis,                                                       \
                                       .shape = SHAPE,                                                                 \
                                       .d = D,                                                                         \
                                       .batch = normalize_batch,                                                       \
                                       .flops = normalize_flops};
NORMALIZE(logsumexp, without_axis, logsumexp_d)
NORMALIZE(softmax, same_shape, softmax_d)
NORMALIZE(log_softmax, same_shape, log_softmax_d)

/* -- operations ---------------------------------------------------------------------------------------------------- */

static mx_array *normalize(mx_ctx *c, const mx_primitive *prim, mx_array *x, int axis) {
  if (!x) return NULL;
  mx_params p = {.axis = {.axis = axis}};
  x = mx_convert(c, x, mx_dtype_inexact(x->aval.dtype));
  return mx_bind1(c, prim, &p, &x, 1);
}

mx_array *mx_softmax(mx_ctx *c, mx_array *x, int axis) { return normalize(c, &mx_prim_softmax, x, axis); }
mx_array *mx_log_softmax(mx_ctx *c, mx_array *x, int axis) { return normalize(c, &mx_prim_log_softmax, x, axis); }

/* The axes to be summed, moved behind the others and made one. */
static mx_array *gathered(mx_ctx *c, mx_array *x, const mx_dims *axes) {
  mx_dims order = {0}, shape = {0};
  int64_t n = 1;
  for (int i = 0; i < x->aval.ndim; i++)
    if (!mx_dims_has(axes, i)) order.v[order.n++] = i, shape.v[shape.n++] = x->aval.shape[i];
  for (int i = 0; i < x->aval.ndim; i++)
    if (mx_dims_has(axes, i)) order.v[order.n++] = i, n *= x->aval.shape[i];
  shape.v[shape.n++] = n;
  return mx_reshape(c, mx_transpose(c, x, &order), &shape);
}

mx_array *mx_logsumexp(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  if (!x) return NULL;
  mx_dims over = axes ? *axes : mx_dims_range(x->aval.ndim), kept = mx_dims_shape(&x->aval);
  for (int i = 0; i < over.n; i++) {
    if (over.v[i] < 0 || over.v[i] >= x->aval.ndim)
      return mx_fail(c, MLAX_SHAPE, "axis out of range for %d axes", x->aval.ndim);
    kept.v[over.v[i]] = 1;
  }
  mx_array *y = over.n > 1 ? gathered(c, x, &over) : x;
  if (!y) return NULL;
  if (over.n == 0) y = mx_convert(c, x, mx_dtype_inexact(x->aval.dtype)); /* log e^x */
  else y = normalize(c, &mx_prim_logsumexp, y, over.n == 1 ? (int)over.v[0] : y->aval.ndim - 1);
  return keepdims ? mx_reshape(c, y, &kept) : y;
}
