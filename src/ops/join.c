/* join.c: concat and pad, the shape primitives that are no views, and the operations made of them. */
#include "rules_impl.h"

#define PARAMS_SIZE(member) ((uint16_t)sizeof(((mx_params *)0)->member))

/* -- concat -------------------------------------------------------------------------------------------------------- */

static bool fits_beside(const mx_aval *x, const mx_aval *first, int64_t axis) {
  if (x->ndim != first->ndim || x->dtype != first->dtype) return false;
  for (int i = 0; i < x->ndim; i++)
    if (i != axis && x->shape[i] != first->shape[i]) return false;
  return true;
}

static bool concat_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  int64_t axis = o->p->axis.axis, shape[MX_MAX_NDIM];
  mx_text s, t;
  if (o->n_in == 0) return mx_fail(c, MLAX_SHAPE, "nothing to join (need at least one array)"), false;
  const mx_aval *first = o->in_aval[0];
  if (axis < 0 || axis >= first->ndim)
    return mx_fail(c, MLAX_SHAPE, "%s has no such axis to join along", mx_aval_text(&s, first)), false;
  memcpy(shape, first->shape, sizeof shape);
  bool weak = first->weak;
  for (int k = 1; k < o->n_in; k++) {
    const mx_aval *x = o->in_aval[k];
    if (!fits_beside(x, first, axis))
      return mx_fail(c, MLAX_SHAPE, "shapes do not fit along axis %d (got %s and %s)", (int)axis + 1,
                     mx_aval_text(&s, first), mx_aval_text(&t, x)),
             false;
    if (__builtin_add_overflow(shape[axis], x->shape[axis], &shape[axis]))
      return mx_fail(c, MLAX_SHAPE, "the joined axis is too long"), false;
    weak &= x->weak;
  }
  if (!mx_aval_make(c, out, first->dtype, first->ndim, shape)) return false;
  out->weak = weak;
  return true;
}

/* d concat(x...) = concat(dx...), zeros where there is no tangent */
static bool concat_jvp(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents) {
  size_t bytes = (size_t)o->n_in * sizeof(mx_array *);
  mx_array **g = mx_new(c, bytes);
  if (!g) return false;
  for (int k = 0; k < o->n_in; k++) g[k] = tangents[k] ? tangents[k] : mx_zeros(c, &o->in[k]->aval);
  out[0] = mx_bind1(c, o->prim, o->p, o->in, o->n_in);
  out_tangents[0] = mx_bind1(c, o->prim, o->p, g, o->n_in);
  mx_free(c->engine, g, bytes);
  return out[0] && out_tangents[0];
}

/* The part of the cotangent where operand i lies. */
static mx_array *concat_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  int axis = (int)o->p->axis.axis;
  int64_t start = 0;
  for (int k = 0; k < i; k++) start += o->in_aval[k]->shape[axis];
  return mx_slice_axis(c, ct[0], axis, start, start + o->in_aval[i]->shape[axis]);
}

static bool concat_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  size_t bytes = (size_t)o->n_in * sizeof(mx_array *);
  mx_array **x = mx_new(c, bytes);
  if (!x) return false;
  for (int k = 0; k < o->n_in; k++) x[k] = mx_batch_front(c, o->in[k], axes[k], size);
  mx_params p = {.axis = {.axis = o->p->axis.axis + 1}};
  out[0] = mx_bind1(c, o->prim, &p, x, o->n_in);
  out_axes[0] = 0;
  mx_free(c->engine, x, bytes);
  return out[0] != NULL;
}

const mx_primitive mx_prim_concat = {.name = "concat",
                                     .id = MX_PRIM_concat,
                                     .n_out = 1,
                                     .linear = true,
                                     .params_size = PARAMS_SIZE(axis),
                                     .fields = mx_fields_axis,
                                     .shape = concat_shape,
                                     .jvp = concat_jvp,
                                     .transpose = concat_transpose,
                                     .batch = concat_batch};

static int promoted(mx_array *const *x, int n) {
  int dtype = x[0]->aval.dtype;
  bool weak = x[0]->aval.weak;
  for (int k = 1; k < n; k++) dtype = mx_dtype_promote(dtype, weak, x[k]->aval.dtype, x[k]->aval.weak, &weak);
  return dtype;
}

static mx_array *join(mx_ctx *c, mx_array *const *x, int n, int axis, bool expand) {
  for (int k = 0; k < n; k++)
    if (!x[k]) return NULL;
  if (n < 1) return mx_fail(c, MLAX_SHAPE, "nothing to join (need at least one array)");
  int dtype = promoted(x, n);
  size_t bytes = (size_t)n * sizeof(mx_array *);
  mx_array **in = mx_new(c, bytes);
  if (!in) return NULL;
  for (int k = 0; k < n; k++) {
    in[k] = mx_convert(c, x[k], dtype);
    if (expand) in[k] = mx_expand(c, in[k], axis);
  }
  mx_params p = {.axis = {.axis = axis}};
  mx_array *y = n == 1 ? in[0] : mx_bind1(c, &mx_prim_concat, &p, in, n);
  mx_free(c->engine, in, bytes);
  return y;
}

mx_array *mx_concat(mx_ctx *c, mx_array *const *x, int n, int axis) {
  mx_text t;
  if (n > 0 && x[0] && (axis < 0 || axis >= x[0]->aval.ndim))
    return mx_fail(c, MLAX_SHAPE, "%s has no such axis to join along", mx_aval_text(&t, &x[0]->aval));
  return join(c, x, n, axis, false);
}

mx_array *mx_stack(mx_ctx *c, mx_array *const *x, int n, int axis) {
  mx_text s, t;
  for (int k = 1; k < n; k++)
    if (x[0] && x[k] && !mx_shape_equal(&x[k]->aval, &x[0]->aval))
      return mx_fail(c, MLAX_SHAPE, "arrays to be stacked need one shape (got %s and %s)",
                     mx_aval_text(&s, &x[0]->aval), mx_aval_text(&t, &x[k]->aval));
  return join(c, x, n, axis, true);
}

/* -- pad ----------------------------------------------------------------------------------------------------------- */

#define WIDTH_MAX (INT64_MAX / 2) /* so that the transpose can count from the other side */

/* lo + (n + (n - 1) interior) + hi elements, where negative widths cut; nothing lies between no elements. */
static bool padded_length(int64_t n, int64_t lo, int64_t hi, int64_t interior, int64_t *length) {
  int64_t between = 0;
  if (n > 0 && __builtin_mul_overflow(n - 1, interior, &between)) return false;
  if (__builtin_add_overflow(n, between, length) || __builtin_add_overflow(*length, lo, length)) return false;
  return !__builtin_add_overflow(*length, hi, length);
}

static bool pad_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0], *value = o->in_aval[1];
  const mx_dims *lo = &o->p->pad.lo, *hi = &o->p->pad.hi, *interior = &o->p->pad.interior;
  int64_t shape[MX_MAX_NDIM];
  mx_text t;
  if (lo->n != x->ndim || hi->n != x->ndim || interior->n != x->ndim)
    return mx_fail(c, MLAX_SHAPE, "widths are needed for each of the %d axes", x->ndim), false;
  if (value->ndim != 0 || value->dtype != x->dtype)
    return mx_fail(c, MLAX_SHAPE, "the value has to be a scalar of %s", mx_dtype_name(x->dtype)), false;
  for (int i = 0; i < x->ndim; i++) {
    if (interior->v[i] < 0) return mx_fail(c, MLAX_SHAPE, "interior widths cannot be negative"), false;
    if (interior->v[i] > WIDTH_MAX || lo->v[i] < -WIDTH_MAX || hi->v[i] < -WIDTH_MAX)
      return mx_fail(c, MLAX_SHAPE, "widths are out of range"), false;
    if (!padded_length(x->shape[i], lo->v[i], hi->v[i], interior->v[i], &shape[i]) || shape[i] < 0)
      return mx_fail(c, MLAX_SHAPE, "widths %lld and %lld cut more than there is of axis %d of %s", (long long)lo->v[i],
                     (long long)hi->v[i], i + 1, mx_aval_text(&t, x)),
             false;
  }
  if (!mx_aval_make(c, out, x->dtype, x->ndim, shape)) return false;
  out->weak = x->weak && value->weak;
  return true;
}

/* With nothing added it is a slice. */
static bool pad_view(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides) {
  const mx_aval *y = o->out_aval;
  *offset = 0;
  for (int i = 0; i < y->ndim; i++) {
    if (o->p->pad.lo.v[i] > 0 || o->p->pad.hi.v[i] > 0 || o->p->pad.interior.v[i] > 0) return false;
    if (y->size) *offset -= o->p->pad.lo.v[i] * in_strides[i];
    out_strides[i] = in_strides[i];
  }
  return true;
}

static mx_array *pad_by(mx_ctx *c, const mx_params *p, mx_array *x, mx_array *value) {
  return mx_bind1(c, &mx_prim_pad, p, (mx_array *[]){x, value}, 2);
}

/* d pad(x, v) = pad(dx, 0) + pad(0, dv) */
static mx_array *pad_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  const mx_aval *x = &o->in[0]->aval;
  return i == 0 ? pad_by(c, o->p, g, mx_scalar(c, x->dtype, 0)) : pad_by(c, o->p, mx_zeros(c, x), g);
}

/* What lies at x's elements: the widths cut off again, then every (interior + 1)-th. */
static mx_array *unpad(mx_ctx *c, const mx_params *p, mx_array *ct) {
  mx_params cut = {.pad = {.lo = p->pad.lo, .hi = p->pad.hi, .interior = {.n = p->pad.lo.n}}};
  mx_dims start = {.n = p->pad.lo.n}, step = start;
  for (int i = 0; i < start.n; i++) {
    cut.pad.lo.v[i] = -p->pad.lo.v[i];
    cut.pad.hi.v[i] = -p->pad.hi.v[i];
    step.v[i] = p->pad.interior.v[i] + 1;
  }
  mx_array *y = ct ? pad_by(c, &cut, ct, mx_scalar(c, ct->aval.dtype, 0)) : NULL;
  if (!y) return NULL;
  mx_dims limit = mx_dims_shape(&y->aval);
  return mx_slice(c, y, &start, &limit, &step);
}

/* x gets what lies at its elements; the value all the rest */
static mx_array *pad_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  mx_array *at_x = unpad(c, o->p, ct[0]);
  if (i == 0) return at_x;
  return mx_sub(c, mx_sum(c, ct[0], NULL, false), mx_sum(c, at_x, NULL, false));
}

/* A value for each example is chosen where x, padded, has nothing. */
static mx_array *pad_values(mx_ctx *c, const mx_params *p, mx_array *x, mx_array *value) {
  mx_array *y = pad_by(c, p, x, mx_scalar(c, x->aval.dtype, 0));
  mx_dims shape = mx_dims_shape(&x->aval), column = {.n = shape.n};
  for (int i = 0; i < column.n; i++) column.v[i] = i ? 1 : x->aval.shape[0];
  mx_array *inside = pad_by(c, p, mx_full(c, MLAX_BOOL, &shape, 1), mx_scalar(c, MLAX_BOOL, 0));
  if (!y) return NULL;
  return mx_select(c, inside, y, mx_broadcast_like(c, mx_reshape(c, value, &column), &y->aval));
}

static bool pad_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *x = mx_batch_front(c, o->in[0], axes[0], size);
  mx_params p = {.pad = {.lo = mx_dims_insert(&o->p->pad.lo, 0, 0),
                         .hi = mx_dims_insert(&o->p->pad.hi, 0, 0),
                         .interior = mx_dims_insert(&o->p->pad.interior, 0, 0)}};
  if (!x) return false;
  out[0] = axes[1] < 0 ? pad_by(c, &p, x, o->in[1]) : pad_values(c, &p, x, o->in[1]);
  out_axes[0] = 0;
  return out[0] != NULL;
}

static const mx_field pad_fields[] = {{"lo", MX_FIELD_DIMS, offsetof(mx_params, pad.lo)},
                                      {"hi", MX_FIELD_DIMS, offsetof(mx_params, pad.hi)},
                                      {"interior", MX_FIELD_DIMS, offsetof(mx_params, pad.interior)},
                                      {0}};

const mx_primitive mx_prim_pad = {.name = "pad",
                                  .id = MX_PRIM_pad,
                                  .n_out = 1,
                                  .linear = true,
                                  .params_size = PARAMS_SIZE(pad),
                                  .fields = pad_fields,
                                  .shape = pad_shape,
                                  .view = pad_view,
                                  .d = pad_d,
                                  .transpose = pad_transpose,
                                  .batch = pad_batch};

static bool changes(const mx_params *p, const mx_aval *x) {
  for (int i = 0; i < x->ndim; i++)
    if (p->pad.lo.v[i] || p->pad.hi.v[i] || (p->pad.interior.v[i] && x->shape[i] > 1)) return true;
  return p->pad.lo.n != x->ndim || p->pad.hi.n != x->ndim;
}

mx_array *mx_pad(mx_ctx *c, mx_array *x, mx_array *value, const mx_dims *lo, const mx_dims *hi,
                 const mx_dims *interior) {
  mx_params p = {.pad = {.lo = *lo, .hi = *hi, .interior = {.n = lo->n}}};
  if (interior) p.pad.interior = *interior;
  if (!x || !value) return NULL;
  if (!changes(&p, &x->aval)) return x;
  return pad_by(c, &p, x, mx_convert(c, value, x->aval.dtype));
}
