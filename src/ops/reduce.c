/* reduce.c: reductions over axes, which disappear, and what is made of them. */
#include "rules_impl.h"

#define PARAMS_SIZE(member) ((uint16_t)sizeof(((mx_params *)0)->member))

/* -- shapes -------------------------------------------------------------------------------------------------------- */

static bool check_axes(mx_ctx *c, const mx_dims *axes, const mx_aval *x) {
  mx_text t;
  for (int i = 0; i < axes->n; i++) {
    if (axes->v[i] < 0 || axes->v[i] >= x->ndim)
      return mx_fail(c, MLAX_SHAPE, "axis out of range for %s", mx_aval_text(&t, x)), false;
    if (i && axes->v[i] <= axes->v[i - 1]) return mx_fail(c, MLAX_SHAPE, "axes are named twice or out of order"), false;
  }
  return true;
}

/* x's dtype without the axes. */
static bool without_axes(mx_ctx *c, const mx_aval *x, const mx_dims *axes, mx_aval *out) {
  int64_t shape[MX_MAX_NDIM];
  int n = 0;
  if (!check_axes(c, axes, x)) return false;
  for (int i = 0; i < x->ndim; i++)
    if (!mx_dims_has(axes, i)) shape[n++] = x->shape[i];
  if (!mx_aval_make(c, out, x->dtype, n, shape)) return false;
  out->weak = x->weak;
  return true;
}

static bool sum_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (o->in_aval[0]->dtype == MLAX_BOOL) return mx_fail(c, MLAX_SHAPE, "bool has no sums (convert it first)"), false;
  return without_axes(c, o->in_aval[0], &o->p->axes.axes, out);
}

static bool nothing_left(mx_ctx *c, const mx_aval *x, int64_t axis) {
  mx_text t;
  mx_fail(c, MLAX_SHAPE, "nothing to choose from: axis %d is empty (got %s)", (int)axis + 1, mx_aval_text(&t, x));
  return false;
}

/* The greatest of nothing does not exist; of no rows it is no numbers. */
static bool choose_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  const mx_dims *axes = &o->p->axes.axes;
  if (!without_axes(c, x, axes, out)) return false;
  for (int i = 0; out->size && i < axes->n; i++)
    if (x->shape[axes->v[i]] == 0) return nothing_left(c, x, axes->v[i]);
  return true;
}

static bool logical_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  if (o->in_aval[0]->dtype != MLAX_BOOL) return mx_fail(c, MLAX_SHAPE, "need bool"), false;
  return without_axes(c, o->in_aval[0], &o->p->axes.axes, out);
}

static bool arg_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  mx_dims axes = {.n = 1, .v = {o->p->axis.axis}};
  if (!without_axes(c, x, &axes, out)) return false;
  if (x->shape[axes.v[0]] > INT32_MAX) return mx_fail(c, MLAX_SHAPE, "the axis is too long for int32 positions"), false;
  if (out->size && x->shape[axes.v[0]] == 0) return nothing_left(c, x, axes.v[0]);
  out->dtype = MLAX_INT32;
  out->weak = false;
  return true;
}

/* -- rules --------------------------------------------------------------------------------------------------------- */

/* y, which lacks the axes, in x's shape again. */
static mx_array *spread(mx_ctx *c, mx_array *y, const mx_dims *axes, const mx_aval *x) {
  mx_dims shape = mx_dims_shape(x);
  for (int i = 0; i < axes->n; i++) shape.v[axes->v[i]] = 1;
  return mx_broadcast_like(c, mx_reshape(c, y, &shape), x);
}

static mx_array *sum_over(mx_ctx *c, mx_array *x, const mx_dims *axes) {
  mx_params p = {.axes = {*axes}};
  return mx_bind1(c, &mx_prim_reduce_sum, &p, &x, 1);
}

static mx_array *sum_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  return ct[0] ? spread(c, ct[0], &o->p->axes.axes, o->in_aval[i]) : NULL;
}

/* All axes of x that are reduced, as one last axis. */
static mx_array *axes_last(mx_ctx *c, mx_array *x, const mx_dims *axes) {
  mx_dims order = {0}, shape = {0};
  int64_t n = 1;
  for (int i = 0; i < x->aval.ndim; i++) {
    if (mx_dims_has(axes, i)) continue;
    shape.v[order.n] = x->aval.shape[i];
    order.v[order.n++] = i;
  }
  shape.n = order.n;
  for (int i = 0; i < axes->n; i++) {
    order.v[order.n++] = axes->v[i];
    n *= x->aval.shape[axes->v[i]];
  }
  shape.v[shape.n++] = n;
  return mx_reshape(c, mx_transpose(c, x, &order), &shape);
}

/* x moved by one along its last axis (to the right, or left), 1 in the empty place. */
static mx_array *shift_in_one(mx_ctx *c, mx_array *x, bool left) {
  mx_dims lo = {.n = x->aval.ndim}, hi = lo;
  lo.v[lo.n - 1] = left ? -1 : 1;
  hi.v[lo.n - 1] = left ? 1 : -1;
  return mx_pad(c, x, mx_scalar(c, x->aval.dtype, 1), &lo, &hi, NULL);
}

/* The product of those before times that of those behind, which holds where some are zero, too. */
mx_array *mx_product_of_others(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  int last = x->aval.ndim - 1;
  mx_array *before = mx_cumprod(c, shift_in_one(c, x, false), last, false);
  return mx_mul(c, before, mx_cumprod(c, shift_in_one(c, x, true), last, true));
}

/* d prod x = sum_i g_i prod_{j != i} x_j */
static mx_array *prod_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  const mx_dims *axes = &o->p->axes.axes;
  (void)i;
  if (o->in[0]->aval.size == 0) return NULL;
  mx_array *x = axes_last(c, o->in[0], axes);
  if (!x) return NULL;
  mx_dims over = {.n = 1, .v = {x->aval.ndim - 1}};
  return sum_over(c, mx_mul(c, axes_last(c, g, axes), mx_product_of_others(c, x)), &over);
}

/* d max x = the mean of g where x is the greatest */
static mx_array *choose_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  const mx_dims *axes = &o->p->axes.axes;
  mx_array *x = o->in[i];
  mx_array *here = mx_convert(c, mx_eq(c, x, spread(c, o->out[0], axes, &x->aval)), x->aval.dtype);
  return mx_div(c, sum_over(c, mx_mul(c, g, here), axes), sum_over(c, here, axes));
}

/* The mapped axis stays where it is. */
static int64_t behind(int64_t axis, int mapped) { return axis < mapped ? axis : axis + 1; }

static bool reduce_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = *o->p;
  (void)size;
  out_axes[0] = axes[0];
  for (int i = 0; i < p.axes.axes.n; i++) {
    p.axes.axes.v[i] = behind(p.axes.axes.v[i], axes[0]);
    out_axes[0] -= p.axes.axes.v[i] < axes[0];
  }
  out[0] = mx_bind1(c, o->prim, &p, o->in, 1);
  return out[0] != NULL;
}

static bool arg_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_params p = {.axis = {.axis = behind(o->p->axis.axis, axes[0])}};
  (void)size;
  out_axes[0] = axes[0] - (p.axis.axis < axes[0]);
  out[0] = mx_bind1(c, o->prim, &p, o->in, 1);
  return out[0] != NULL;
}

static double reduce_flops(const mx_op *o) { return (double)o->in_aval[0]->size; }

/* -- records ------------------------------------------------------------------------------------------------------- */

#define REDUCTION(NAME, SHAPE, D)                                                                                      \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .params_size = PARAMS_SIZE(axes),                                               \
                                       .fields = mx_fields_axes,                                                       \
                                       .shape = SHAPE,                                                                 \
                                       .d = D,                                                                         \
                                       .batch = reduce_batch,                                                          \
                                       .flops = reduce_flops};

const mx_primitive mx_prim_reduce_sum = {.name = "reduce_sum",
                                         .id = MX_PRIM_reduce_sum,
                                         .n_out = 1,
                                         .linear = true,
                                         .params_size = PARAMS_SIZE(axes),
                                         .fields = mx_fields_axes,
                                         .shape = sum_shape,
                                         .d = mx_d_linear,
                                         .transpose = sum_transpose,
                                         .batch = reduce_batch,
                                         .flops = reduce_flops};
REDUCTION(reduce_prod, sum_shape, prod_d)
REDUCTION(reduce_max, choose_shape, choose_d)
REDUCTION(reduce_min, choose_shape, choose_d)
REDUCTION(reduce_any, logical_shape, NULL)
REDUCTION(reduce_all, logical_shape, NULL)

#define POSITION(NAME)                                                                                                 \
  const mx_primitive mx_prim_##NAME = {.name = #NAME,                                                                  \
                                       .id = MX_PRIM_##NAME,                                                           \
                                       .n_out = 1,                                                                     \
                                       .params_size = PARAMS_SIZE(axis),                                               \
                                       .fields = mx_fields_axis,                                                       \
                                       .shape = arg_shape,                                                             \
                                       .batch = arg_batch,                                                             \
                                       .flops = reduce_flops};
POSITION(argmax)
POSITION(argmin)

/* -- operations ---------------------------------------------------------------------------------------------------- */

/* The axes in order; NULL is all. */
static mx_dims sorted_axes(const mx_dims *axes, int ndim) {
  if (!axes) return mx_dims_range(ndim);
  mx_dims d = *axes;
  for (int i = 1; i < d.n; i++)
    for (int j = i; j > 0 && d.v[j] < d.v[j - 1]; j--) {
      int64_t t = d.v[j];
      d.v[j] = d.v[j - 1], d.v[j - 1] = t;
    }
  return d;
}

static mx_array *reduce(mx_ctx *c, const mx_primitive *prim, mx_array *x, const mx_dims *axes, bool keepdims) {
  if (!x) return NULL;
  mx_params p = {.axes = {sorted_axes(axes, x->aval.ndim)}};
  mx_array *y = p.axes.axes.n ? mx_bind1(c, prim, &p, &x, 1) : x;
  if (!y || !keepdims) return y;
  mx_dims shape = mx_dims_shape(&x->aval);
  for (int i = 0; i < p.axes.axes.n; i++) shape.v[p.axes.axes.v[i]] = 1;
  return mx_reshape(c, y, &shape);
}

/* int32 for bool and narrow signed integers, uint32 for narrow unsigned ones. */
static mx_array *widened(mx_ctx *c, mx_array *x) {
  if (!x) return NULL;
  switch (x->aval.dtype) {
  case MLAX_BOOL:
  case MLAX_INT8:
  case MLAX_INT16: return mx_convert(c, x, MLAX_INT32);
  case MLAX_UINT8:
  case MLAX_UINT16: return mx_convert(c, x, MLAX_UINT32);
  default: return x;
  }
}

static mx_array *truth(mx_ctx *c, mx_array *x) {
  return !x || x->aval.dtype == MLAX_BOOL ? x : mx_ne(c, x, mx_like(c, x, 0));
}

mx_array *mx_sum(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_sum, widened(c, x), axes, keepdims);
}

mx_array *mx_prod(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_prod, widened(c, x), axes, keepdims);
}

mx_array *mx_max(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_max, x, axes, keepdims);
}

mx_array *mx_min(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_min, x, axes, keepdims);
}

mx_array *mx_any(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_any, truth(c, x), axes, keepdims);
}

mx_array *mx_all(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  return reduce(c, &mx_prim_reduce_all, truth(c, x), axes, keepdims);
}

static double count_over(const mx_aval *x, const mx_dims *axes) {
  double n = 1;
  for (int i = 0; i < (axes ? axes->n : x->ndim); i++) {
    int64_t axis = axes ? axes->v[i] : i;
    n *= axis >= 0 && axis < x->ndim ? (double)x->shape[axis] : 1; /* the sum says what is wrong */
  }
  return n;
}

/* Means of halves are worked out in float32. */
static mx_array *for_mean(mx_ctx *c, mx_array *x) {
  return x->aval.dtype == MLAX_FLOAT64 ? x : mx_convert(c, x, MLAX_FLOAT32);
}

/* sum x / n; of nothing 0 / 0 */
mx_array *mx_mean(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims) {
  if (!x) return NULL;
  mx_array *sum = mx_sum(c, for_mean(c, x), axes, keepdims);
  if (!sum) return NULL;
  return mx_convert(c, mx_div(c, sum, mx_like(c, sum, count_over(&x->aval, axes))), mx_dtype_inexact(x->aval.dtype));
}

/* sum (x - mean x)^2 / (n - ddof); NaN where n <= ddof */
mx_array *mx_var(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims, double ddof) {
  if (!x) return NULL;
  mx_array *wide = for_mean(c, x);
  mx_array *sum = mx_sum(c, mx_square(c, mx_sub(c, wide, mx_mean(c, wide, axes, true))), axes, keepdims);
  if (!sum) return NULL;
  double n = count_over(&x->aval, axes) - ddof;
  mx_array *y = mx_div(c, sum, mx_like(c, sum, n > 0 ? n : (double)__builtin_nanf("")));
  return mx_convert(c, y, mx_dtype_inexact(x->aval.dtype));
}

static mx_array *position(mx_ctx *c, const mx_primitive *prim, mx_array *x, int axis) {
  mx_params p = {.axis = {.axis = axis}};
  return x ? mx_bind1(c, prim, &p, &x, 1) : NULL;
}

mx_array *mx_argmax(mx_ctx *c, mx_array *x, int axis) { return position(c, &mx_prim_argmax, x, axis); }
mx_array *mx_argmin(mx_ctx *c, mx_array *x, int axis) { return position(c, &mx_prim_argmin, x, axis); }
