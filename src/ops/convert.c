/* convert.c: changes of dtype, choice between two operands, and stop_gradient. */
#include "elementwise_impl.h"

#include <stddef.h>

static const mx_field fields_dtype[] = {{"dtype", MX_FIELD_DTYPE, offsetof(mx_params, convert.dtype)}, {0}};
#define DTYPE_SIZE sizeof(((mx_params *)0)->convert)

static bool check_dtype(mx_ctx *c, int64_t dtype) {
  if (dtype >= 0 && dtype < MX_DTYPE_COUNT) return true;
  mx_fail(c, MLAX_ARGUMENT, "unknown dtype (got number %lld)", (long long)dtype);
  return false;
}

static bool same_strides(const mx_op *o, const int64_t *in, int64_t *offset, int64_t *out) {
  *offset = 0;
  for (int i = 0; i < o->in_aval[0]->ndim; i++) out[i] = in[i];
  return true;
}

/* -- convert ------------------------------------------------------------------------------------------------------- */

static bool convert_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  *out = *o->in_aval[0];
  out->dtype = (uint8_t)o->p->convert.dtype;
  out->weak = false;
  return check_dtype(c, o->p->convert.dtype);
}

static bool convert_view(const mx_op *o, const int64_t *in, int64_t *offset, int64_t *out) {
  return o->in_aval[0]->dtype == o->out_aval->dtype && same_strides(o, in, offset, out);
}

/* Between floats the tangent goes along; integers have none. */
static mx_array *convert_d(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  (void)i;
  return mx_is_float(o->out_aval->dtype) ? mx_convert(c, g, o->out_aval->dtype) : mx_zeros(c, o->out_aval);
}

static mx_array *convert_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  return mx_convert(c, ct[0], o->in_aval[i]->dtype);
}

const mx_primitive mx_prim_convert = {
    .name = "convert",
    .id = MX_PRIM_convert,
    .n_out = 1,
    .linear = true,
    .params_size = DTYPE_SIZE,
    .fields = fields_dtype,
    .shape = convert_shape,
    .view = convert_view,
    .d = convert_d,
    .transpose = convert_transpose,
    .batch = mx_batch_elementwise,
};

mx_array *mx_convert(mx_ctx *c, mx_array *x, int dtype) {
  if (!x || (x->aval.dtype == dtype && !x->aval.weak)) return x;
  mx_params p;
  memset(&p, 0, sizeof p);
  p.convert.dtype = dtype;
  return mx_bind1(c, &mx_prim_convert, &p, &x, 1);
}

/* -- bitcast ------------------------------------------------------------------------------------------------------- */

/* The same bytes: a narrower dtype adds a last axis of as many as fit, a wider one takes such an axis away. */
static bool bitcast_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *x = o->in_aval[0];
  mx_text t;
  if (!check_dtype(c, o->p->convert.dtype)) return false;
  int to = (int)o->p->convert.dtype, last = x->ndim - 1;
  int64_t from_size = (int64_t)mx_itemsize(x->dtype), to_size = (int64_t)mx_itemsize(to);
  mx_dims shape = mx_dims_shape(x);
  if (to == MLAX_BOOL && x->dtype != MLAX_BOOL) {
    mx_fail(c, MLAX_SHAPE, "bits make no bool (got %s, need astype or a comparison)", mx_aval_text(&t, x));
    return false;
  }
  if (to_size > from_size && (last < 0 || x->shape[last] * from_size != to_size)) {
    mx_fail(c, MLAX_SHAPE, "the last axis does not make one %s (got %s, need a last axis of %lld)", mx_dtype_name(to),
            mx_aval_text(&t, x), (long long)(to_size / from_size));
    return false;
  }
  if (to_size < from_size && x->ndim == MX_MAX_NDIM) {
    mx_fail(c, MLAX_SHAPE, "there is no room for another axis (got %s, need at most %d axes)", mx_aval_text(&t, x),
            MX_MAX_NDIM - 1);
    return false;
  }
  if (to_size > from_size) shape = mx_dims_remove(&shape, last);
  if (to_size < from_size) shape.v[shape.n++] = from_size / to_size;
  return mx_aval_make(c, out, to, (int)shape.n, shape.v);
}

static bool bitcast_view(const mx_op *o, const int64_t *in, int64_t *offset, int64_t *out) {
  size_t from_size = mx_itemsize(o->in_aval[0]->dtype), to_size = mx_itemsize(o->out_aval->dtype);
  if (to_size > from_size) return false; /* the bytes may not lie as a wider dtype needs them */
  if (to_size < from_size) out[o->in_aval[0]->ndim] = (int64_t)to_size;
  return same_strides(o, in, offset, out);
}

/* The last axis counts, so the mapped one goes to the front. */
static bool bitcast_batch(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *x = mx_batch_front(c, o->in[0], axes[0], size);
  out_axes[0] = 0;
  return (out[0] = mx_bind1(c, o->prim, o->p, &x, 1)) != NULL;
}

const mx_primitive mx_prim_bitcast = {
    .name = "bitcast",
    .id = MX_PRIM_bitcast,
    .n_out = 1,
    .params_size = DTYPE_SIZE,
    .fields = fields_dtype,
    .shape = bitcast_shape,
    .view = bitcast_view,
    .batch = bitcast_batch,
};

mx_array *mx_bitcast(mx_ctx *c, mx_array *x, int dtype) {
  if (!x || x->aval.dtype == dtype) return x;
  mx_params p;
  memset(&p, 0, sizeof p);
  p.convert.dtype = dtype;
  return mx_bind1(c, &mx_prim_bitcast, &p, &x, 1);
}

/* -- select -------------------------------------------------------------------------------------------------------- */

static bool select_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  const mx_aval *p = o->in_aval[0], *x = o->in_aval[1], *y = o->in_aval[2];
  mx_text s, t;
  if (p->dtype != MLAX_BOOL) {
    mx_fail(c, MLAX_SHAPE, "the condition is no bool (got %s, need bool)", mx_aval_text(&s, p));
    return false;
  }
  if (x->dtype != y->dtype) {
    mx_fail(c, MLAX_SHAPE, "dtypes differ (got %s and %s, need one dtype)", mx_aval_text(&s, x), mx_aval_text(&t, y));
    return false;
  }
  *out = *x;
  out->weak = x->weak && y->weak;
  return mx_broadcast_operand(c, y, out) && mx_broadcast_operand(c, p, out);
}

/* g where its operand is chosen, else 0 */
static mx_array *choose(mx_ctx *c, const mx_op *o, int i, mx_array *g) {
  mx_array *zero = mx_like(c, g, 0);
  return i == 1 ? mx_select(c, o->in[0], g, zero) : mx_select(c, o->in[0], zero, g);
}
static mx_array *select_transpose(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct) {
  return choose(c, o, i, ct[0]);
}

const mx_primitive mx_prim_select = {
    .name = "select",
    .id = MX_PRIM_select,
    .n_out = 1,
    .linear = true,
    .fields = mx_fields_none,
    .shape = select_shape,
    .d = choose,
    .transpose = select_transpose,
    .batch = mx_batch_elementwise,
};

mx_array *mx_select(mx_ctx *c, mx_array *pred, mx_array *x, mx_array *y) {
  bool weak;
  if (!pred || !x || !y) return NULL;
  int dtype = mx_dtype_promote(x->aval.dtype, x->aval.weak, y->aval.dtype, y->aval.weak, &weak);
  mx_array *in[3] = {mx_convert(c, pred, MLAX_BOOL), mx_promote_to(c, x, dtype), mx_promote_to(c, y, dtype)};
  return mx_bind1(c, &mx_prim_select, NULL, in, 3);
}

/* -- stop_gradient ------------------------------------------------------------------------------------------------- */

static bool stop_gradient_shape(mx_ctx *c, const mx_op *o, mx_aval *out) {
  (void)c;
  *out = *o->in_aval[0];
  return true;
}

const mx_primitive mx_prim_stop_gradient = {
    .name = "stop_gradient",
    .id = MX_PRIM_stop_gradient,
    .n_out = 1,
    .fields = mx_fields_none,
    .shape = stop_gradient_shape,
    .view = same_strides,
    .batch = mx_batch_elementwise,
};

mx_array *mx_stop_gradient(mx_ctx *c, mx_array *x) { return mx_bind1(c, &mx_prim_stop_gradient, NULL, &x, 1); }
