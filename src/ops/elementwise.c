/* elementwise.c: what all elementwise primitives share: shape, batching, cost, and the operations themselves. Their
 * derivatives stand in elementwise_rules.c. */
#include "elementwise_impl.h"

/* -- shape --------------------------------------------------------------------------------------------------------- */

static bool in_domain(mx_domain domain, int dtype) {
  switch (domain) {
  case MX_DOMAIN_ANY: return true;
  case MX_DOMAIN_NUM: return dtype != MLAX_BOOL;
  case MX_DOMAIN_FLT: return mx_is_float(dtype);
  default: return !mx_is_float(dtype);
  }
}

static bool check_domain(mx_ctx *c, mx_domain domain, const mx_aval *a) {
  static const char *const needs[] = {"any dtype", "numbers", "a float dtype",
                                      "integers or bool"}; /* ORDER mx_domain */
  mx_text t;
  if (in_domain(domain, a->dtype)) return true;
  mx_fail(c, MLAX_SHAPE, "the dtype does not fit (got %s, need %s)", mx_aval_text(&t, a), needs[domain]);
  return false;
}

bool mx_broadcast_operand(mx_ctx *c, const mx_aval *x, mx_aval *out) {
  mx_text s, t;
  mx_aval a = *out;
  if (mx_shape_equal(x, out) || mx_shape_broadcast(&a, x, out)) return true;
  mx_fail(c, MLAX_SHAPE, "shapes do not broadcast (got %s and %s, need lengths that are equal or 1)",
          mx_aval_text(&s, &a), mx_aval_text(&t, x));
  return false;
}

bool mx_elementwise_shape(mx_ctx *c, const mx_op *o, mx_aval *out, mx_domain domain, bool to_bool) {
  const mx_aval *x = o->in_aval[0], *y = o->in_aval[o->n_in - 1];
  mx_text s, t;
  if (!check_domain(c, domain, x)) return false;
  if (x->dtype != y->dtype) {
    mx_fail(c, MLAX_SHAPE, "dtypes differ (got %s and %s, need one dtype)", mx_aval_text(&s, x), mx_aval_text(&t, y));
    return false;
  }
  *out = *x;
  if (y != x && !mx_broadcast_operand(c, y, out)) return false;
  out->weak = x->weak && y->weak && !to_bool;
  if (to_bool) out->dtype = MLAX_BOOL;
  return true;
}

double mx_elementwise_flops(const mx_op *o) {
  return mx_is_float(o->in_aval[0]->dtype) ? (double)o->out_aval->size : 0;
}

/* -- batching ------------------------------------------------------------------------------------------------------ */

/* Where all mapped operands have the axis in the same place of equal ranks, and the rest are scalars, nothing need
 * move. */
static int common_axis(const mx_op *o, const int *axes) {
  int first = -1;
  for (int i = 0; i < o->n_in; i++) {
    if (axes[i] < 0 && o->in[i]->aval.ndim > 0) return -1;
    if (axes[i] < 0) continue;
    if (first >= 0 && (axes[i] != axes[first] || o->in[i]->aval.ndim != o->in[first]->aval.ndim)) return -1;
    if (first < 0) first = i;
  }
  return first < 0 ? -1 : axes[first];
}

/* The mapped axis to the front, and `rank` axes behind it: axes of 1 are put between. */
static mx_array *align(mx_ctx *c, mx_array *x, int axis, int64_t size, int rank) {
  x = mx_batch_front(c, x, axis, size);
  if (!x || x->aval.ndim == rank + 1) return x;
  mx_dims shape = mx_dims_shape(&x->aval);
  while (shape.n < rank + 1) shape = mx_dims_insert(&shape, 1, 1);
  return mx_reshape(c, x, &shape);
}

bool mx_batch_elementwise(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes) {
  mx_array *in[MX_MAX_ELEMENTWISE];
  int rank = 0;
  out_axes[0] = common_axis(o, axes);
  if (out_axes[0] >= 0) return (out[0] = mx_bind1(c, o->prim, o->p, o->in, o->n_in)) != NULL;
  for (int i = 0; i < o->n_in; i++) {
    int r = o->in[i]->aval.ndim - (axes[i] >= 0);
    rank = r > rank ? r : rank;
  }
  if (rank == MX_MAX_NDIM) {
    mx_fail(c, MLAX_SHAPE, "a mapped axis makes too many axes (got %d, need at most %d)", rank + 1, MX_MAX_NDIM);
    return false;
  }
  for (int i = 0; i < o->n_in; i++) in[i] = axes[i] < 0 ? o->in[i] : align(c, o->in[i], axes[i], size, rank);
  out_axes[0] = 0;
  return (out[0] = mx_bind1(c, o->prim, o->p, in, o->n_in)) != NULL;
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

mx_array *mx_promote_to(mx_ctx *c, mx_array *x, int dtype) {
  if (!x || x->aval.dtype == dtype) return x;
  if (x->tag != MX_VALUE || x->aval.ndim > 0 || !x->aval.weak) return mx_convert(c, x, dtype);
  /* a Lua number: made anew, so that it does not become an equation */
  bool is_float = mx_is_float(x->aval.dtype);
  mx_array *s = is_float ? mx_scalar(c, dtype, mx_array_item_double(x)) : mx_scalar_int(c, dtype, mx_array_item_int(x));
  if (s) s->aval.weak = true;
  return s;
}

/* Where the primitive computes: numbers of bool are int32, floats of integers float32. */
static int dtype_in_domain(mx_domain domain, int dtype) {
  if (domain == MX_DOMAIN_FLT) return mx_dtype_inexact(dtype);
  return domain == MX_DOMAIN_NUM && dtype == MLAX_BOOL ? MLAX_INT32 : dtype;
}

/* Sums of truth values are "or", products "and", as in NumPy and JAX; bits can be shifted only in integers. */
static const mx_primitive *of_bools(const mx_primitive *p, int *dtype) {
  if (p->id == MX_PRIM_add) return &mx_prim_or;
  if (p->id == MX_PRIM_mul) return &mx_prim_and;
  if (p->id == MX_PRIM_shift_left || p->id == MX_PRIM_shift_right) *dtype = MLAX_INT32;
  return p;
}

static mx_array *apply1(mx_ctx *c, const mx_primitive *p, mx_domain domain, mx_array *x) {
  if (!x) return NULL;
  x = mx_promote_to(c, x, dtype_in_domain(domain, x->aval.dtype));
  return mx_bind1(c, p, NULL, &x, 1);
}

static mx_array *apply2(mx_ctx *c, const mx_primitive *p, mx_domain domain, mx_array *x, mx_array *y) {
  bool weak;
  if (!x || !y) return NULL;
  int dtype = mx_dtype_promote(x->aval.dtype, x->aval.weak, y->aval.dtype, y->aval.weak, &weak);
  if (dtype == MLAX_BOOL) p = of_bools(p, &dtype);
  if (p != &mx_prim_or && p != &mx_prim_and) dtype = dtype_in_domain(domain, dtype);
  mx_array *in[2] = {mx_promote_to(c, x, dtype), mx_promote_to(c, y, dtype)};
  return mx_bind1(c, p, NULL, in, 2);
}

#define MX_PRIMITIVE(name, family)
#define APPLY_1(name, domain)                                                                                          \
  mx_array *mx_##name(mx_ctx *c, mx_array *x) { return apply1(c, &mx_prim_##name, MX_DOMAIN_##domain, x); }
#define APPLY_2(name, domain)                                                                                          \
  mx_array *mx_##name(mx_ctx *c, mx_array *x, mx_array *y) {                                                           \
    return apply2(c, &mx_prim_##name, MX_DOMAIN_##domain, x, y);                                                       \
  }
#define MX_ELEMENTWISE(name, arity, domain, result) APPLY_##arity(name, domain)
#include "primitives.def"

bool mx_is_cheap(const mx_primitive *prim) {
  switch (prim->id) {
  case MX_PRIM_neg:
  case MX_PRIM_abs:
  case MX_PRIM_sign:
  case MX_PRIM_square:
  case MX_PRIM_add:
  case MX_PRIM_sub:
  case MX_PRIM_mul:
  case MX_PRIM_maximum:
  case MX_PRIM_minimum:
  case MX_PRIM_eq:
  case MX_PRIM_ne:
  case MX_PRIM_lt:
  case MX_PRIM_le:
  case MX_PRIM_gt:
  case MX_PRIM_ge:
  case MX_PRIM_and:
  case MX_PRIM_or:
  case MX_PRIM_not:
  case MX_PRIM_select:
  case MX_PRIM_convert: return true;
  default: return false;
  }
}
